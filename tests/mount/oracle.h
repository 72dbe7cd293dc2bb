// SPDX-License-Identifier: Apache-2.0
/*
 * The mmap oracle: layout of the file under test and what is known of every word of it.
 *
 * The file is an array of 8-byte slots. Each slot belongs for ever to one writer, so that its owner
 * knows the only value it may hold, and values describe themselves (writer, sequence, slot, check),
 * so that a stale, lost, foreign or torn one is told apart. By page number modulo 4: all local, all
 * foreign, and twice mixed, where neighbouring words of one page belong to different writers.
 *
 *   LOCAL_MAP  stored through the mapping of one local process
 *   LOCAL_PW   written by pwrite(2) of one local process, read by pread and through memory
 *   FOREIGN    written by the foreign client only
 *   HALF       first 4 bytes a local process's, through memory, last 4 bytes the foreign client's
 *   CONFLICT   both sides write all 8 bytes, each byte the same number with the writer in its top
 * bit. Merging is by byte, so a mixture of both is correct; a byte that is neither side's last one
 * is not (something came back from the dead)
 *
 * Who writes what in struct known: `last` by the slot's owner, right after the store returned;
 * `acked` by the foreign process after its sync; both only ever grow.
 */
#ifndef TESTS_ORACLE_H
#define TESTS_ORACLE_H

#include "tests/lib/foreign.h"
#include "tests/lib/tlib.h"

#include <pthread.h>

#define PAGE       4096
#define PAGE_SLOTS (PAGE / 8)

enum slot_class { S_NONE, S_LOCAL_MAP, S_LOCAL_PW, S_FOREIGN, S_HALF, S_CONFLICT };
enum { SIDE_LOCAL = 1, SIDE_FOREIGN = 2 };

struct known {
    volatile uint64_t last;   /* local sequence last stored */
    volatile uint64_t sent;   /* foreign sequence whose write was begun */
    volatile uint64_t acked;  /* foreign sequence at the server for all to see */
    pthread_spinlock_t guard; /* CONFLICT: the local processes take turns */
};

struct oracle {
    const char *mount, *name, *foreign, *server_path, *reval_cmd, *after_close_cmd;
    const char *classes; /* letters of the enabled classes: m p f h c */
    int pages, locals;
    long idle_us;
    uint64_t seed;
    long rounds;
    double seconds;
    double timeout_s; /* for the rounds that only wait; 0: no such rounds */
    int freeze_every, wait_every;
    bool late;            /* fsync() may leave something to arrive later */
    bool tolerate_errors; /* a server is being broken: a failed foreign call is repeated */
    struct watch *watch;

    /* shared */
    volatile int stop, freeze_round;
    volatile int frozen_ack[WATCH_SLOTS];
    volatile long n_rounds, n_open, n_cmd, n_wait, n_freeze, n_stores, n_pwrites, n_foreign,
        n_msync;
    volatile long n_late, lost_local, lost_foreign, stale, torn, torn_passing, backward, unflushed,
        errors;
    volatile long details;
    struct known slot[];
};

enum slot_class oracle_class(const struct oracle *o, int g);
/* The local process that owns a slot. */
int oracle_owner(const struct oracle *o, int g);

uint64_t value_make(int side, int g, uint64_t seq);
/* The sequence of a value, 0 for a never written one, -1 when it does not fit the slot. */
int64_t value_seq(int side, int g, uint64_t v);
uint32_t half_make(int side, int g, uint64_t seq);
int64_t half_seq(int side, int g, uint32_t v);
uint64_t conflict_make(int side, uint64_t seq);

/* Counts a finding and prints the first ones in words. */
void oracle_finding(struct oracle *o, volatile long *counter, const char *what, int g,
                    uint64_t expected, uint64_t seen);
/* Called by writers between batches: waits here while the checker wants silence. */
void oracle_pause(struct oracle *o, int slot);

/* Bodies of the processes. They return when o->stop is set. `slot` is their place in the watch. */
void local_writer(struct oracle *o, int slot, int me);
void foreign_writer(struct oracle *o, int slot);
/* Runs the rounds; sets o->stop at the end. */
void checker(struct oracle *o, int slot);

#endif
