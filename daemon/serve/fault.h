// SPDX-License-Identifier: Apache-2.0
/*
 * Faults that the server commits on purpose, to see how a client takes them.
 *
 *   SPEC  = PROCS ":" ACTION ["=" ARG] { ":" KEY "=" VALUE } [ ":file=" PATH ]
 *   PROCS = "all" | PROC { "," PROC }            e.g. READ,WRITE
 *
 * See nfscached-fault(1) for the actions. Each call is shown to every fault in the order in which
 * they were added; a fault fires when procedure and file match, its first `skip` matches are over,
 * its `count` is not used up, and its own random generator (seeded, so that a run repeats) says so.
 * What all of them want is collected into a plan, which the request then follows.
 *
 * Thread safe (one mutex, a leaf).
 */
#ifndef NFSCACHED_SERVE_FAULT_H
#define NFSCACHED_SERVE_FAULT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "daemon/serve/xdr_inline.h"

#define FAULT_PROC_MOUNT 32 /* procedure numbers of MOUNT follow those of NFS from here */

/* What is to happen to one call. Zero: nothing. */
struct fault_plan {
    bool fired;
    uint64_t delay_ms;
    uint32_t error; /* nfsstat3 to answer without executing; 0 none */
    uint32_t short_read, short_write;
    bool has_short_read, has_short_write;
    bool drop;     /* close the connection instead of executing */
    bool cut_call; /* close the connection once cut_call_bytes of the call arrived (0: half) */
    uint32_t cut_call_bytes;
    bool drop_mid; /* execute, send drop_mid_bytes of the reply (0: half), close */
    uint32_t drop_mid_bytes;
    bool lost_reply; /* execute, close without a reply */
    bool silent;     /* execute, send no reply, keep the connection */
    bool reboot;
    uint64_t reboot_ms;
};

struct fault;

struct faults {
    pthread_mutex_t lock;
    struct fault *first;
    unsigned next_id;
    /* Finds the handle of PATH (relative to the export): 0 or negative errno. */
    int (*resolve)(void *arg, const char *path, nfs_fh3 *fh);
    void *resolve_arg;
};

void faults_init(struct faults *faults);
void faults_destroy(struct faults *faults);

/* Parse and add. The new fault's number (>0), or -EINVAL with a message in ERR that quotes the bad
 * input and the accepted form. */
int faults_add(struct faults *faults, const char *spec, char *err, size_t errlen);

/* Remove fault ID, or all for 0. Whether there was one. */
bool faults_clear(struct faults *faults, unsigned id);

/* One line per fault: "ID fired=N seen=N SPEC". */
void faults_list(struct faults *faults, FILE *out);

/*
 * Show the call to every fault. FH is the first handle of its arguments, NULL when it has none.
 * A call that does not arrive at once is shown twice: FAULT_ARRIVING, with the RPC header there, to
 * the faults that cut it off (FH is NULL, so that those for one file do not fire), then FAULT_REST
 * to the others; one that does is shown once: FAULT_ALL.
 */
enum fault_phase { FAULT_ARRIVING, FAULT_REST, FAULT_ALL };
void faults_plan(struct faults *faults, enum fault_phase phase, unsigned proc, const nfs_fh3 *fh,
                 struct fault_plan *plan);

/* Name of a procedure number (FAULT_PROC_MOUNT added for MOUNT), of a status; "?" when unknown. */
const char *serve_proc_name(unsigned proc);
const char *serve_status_name(uint32_t status);

#endif
