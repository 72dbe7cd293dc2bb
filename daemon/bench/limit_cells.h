// SPDX-License-Identifier: Apache-2.0
/*
 * What a result can be compared with: the same work with as little as possible in between. Each
 * file adds its cells, all of benchmark "limits", with the parameter work=...:
 *
 *   limits_machine.c   machine: memcpy, wakeup; tcp: stream, rtt
 *   limits_fuse.c      fuse: an in-memory FUSE file system of our own (memfs.c)
 *   limits_client.c    client: our NFS client without a mount
 *   limits_libnfs.c    libnfs: raw libnfs, which does not even copy what it reads
 *   limits_floor.c     fuse+libnfs: both in one loop, a small READ for each request
 */
#ifndef NFSCACHED_BENCH_LIMIT_CELLS_H
#define NFSCACHED_BENCH_LIMIT_CELLS_H

#include "daemon/bench/bench.h"
#include "daemon/options.h"

struct limits_options {
    unsigned mib;             /* how much a bulk cell moves in a repetition */
    unsigned calls;           /* how often a small one is done */
    unsigned depth;           /* READs and WRITEs in flight */
    char *server;             /* --server; NULL: no client, no libnfs */
    char *nfs_text;           /* --nfs-options */
    char *only;               /* --only; NULL: all */
    struct mount_options nfs; /* made of the three by limits_check() */
};
#define LIMITS_OPTIONS_INIT                                                                        \
    {                                                                                              \
        .mib = 256, .calls = 3000, .depth = 8                                                      \
    }

/* For POPT_ARG_INCLUDE_TABLE. Static: one at a time. */
struct poptOption *limits_options_table(struct limits_options *o);
/* False after a message. */
bool limits_check(struct limits_options *o);

/* Adds all cells that the options call for; *o must outlive the matrix. */
void limits_add(struct matrix *m, struct limits_options *o);

void limits_add_machine(struct matrix *m, const struct limits_options *o);
void limits_add_fuse(struct matrix *m, const struct limits_options *o);
void limits_add_client(struct matrix *m, const struct limits_options *o);
void limits_add_libnfs(struct matrix *m, const struct limits_options *o);
void limits_add_floor(struct matrix *m, const struct limits_options *o);

/* For derive(): cells that are sums of others, when both were measured: the least that an open()
 * can cost, a GETATTR and an empty FUSE open and close. */
void limits_derive(struct matrix *m);

/* memfs.c: serves an in-memory file system at `mountpoint` until SIGTERM or unmounted; to be called
 * in a child process. An exit status. */
int memfs_serve(const char *mountpoint);

#endif
