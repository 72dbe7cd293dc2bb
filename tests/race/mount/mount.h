// SPDX-License-Identifier: Apache-2.0
/*
 * The race lab on a real mount: an entry's mount().
 *
 *   nfscached-race ---- application threads: open, mmap, pwrite on the mounted file
 *     |   |                        | /dev/fuse
 *     |   +-- control socket --> the daemon, a child: nfscached's own mount_run(), with points and
 *     |                            | NFSv3        faults compiled in
 *     +--- lines ----------------> the server, a child: the embedded one, or any with --server
 *     +--------------------------> the keeper, a child: cleans up should nfscached-race be killed
 *
 * mount() is straight code, run by the main thread. What may block on the mount is done by lanes,
 * threads that are named as on the cache: the calls below without a lane are made by `application`
 * and wait for their end. A point is held and waited for by name, over the control socket; which
 * points the daemon came by is put into the timeline from a ring that it shares with us.
 *
 * Nothing here sleeps for a time. Every wait is for a condition and has a limit; when that is over
 * the run FAILED, and its verdict says what was waited for. None of the calls returns an error that
 * the entry would have to handle: a run that cannot go on ends.
 *
 * The file is called "file", has as many pages as the entry's world says, all bytes 1, and is open
 * and mapped by `application` when mount() begins.
 */
#ifndef NFSCACHED_RACE_MOUNT_H
#define NFSCACHED_RACE_MOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/race/lab/lab.h"

struct lab_mount;
struct lm_op;

enum lm_what {
    LM_STORE,        /* one byte through the mapping */
    LM_LOAD,         /* one byte; its result is the byte */
    LM_READ,         /* the same by read(2) */
    LM_WRITE,        /* write(2) of `len` bytes of `value` */
    LM_DIRECT_WRITE, /* through a descriptor with O_DIRECT */
    LM_DIRECT_READ,  /* of the byte's page; its result is the byte */
    LM_FSYNC,
    LM_WRITEBACK,  /* the kernel writes the pages [off, off + len) back: sync_file_range(2) */
    LM_TRUNCATE,   /* ftruncate(2) to `off` */
    LM_STAT,       /* its result is the size */
    LM_CLOSE,      /* the lane's descriptor; its mapping stays */
    LM_OPEN,       /* opens the file once more, and closes it: close-to-open revalidates it */
    LM_DROP,       /* the daemon drops what is clean; its result is the number of pages */
    LM_FLUSH,      /* the daemon writes back, by a command: no inode lock is held meanwhile */
    LM_REVALIDATE, /* by the command `nfscached revalidate` */
    LM_NUDGE       /* not for entries: lm_nudge() */
};

/* Starts it in `lane`, which is made with its first use and opens and maps the file for itself,
 * unless it revalidates only. Several of a lane are done one after the other. */
struct lm_op *lm_start(struct lab_mount *m, const char *lane, enum lm_what what, uint64_t off,
                       uint8_t value, uint32_t len);
/* Makes the lane now: its open(2) would wait for a revalidation under way. */
void lm_ready(struct lab_mount *m, const char *lane);
/* Waits for its end: what it returned, or negative errno (-EFAULT: SIGBUS). */
int64_t lm_wait(struct lab_mount *m, struct lm_op *op);
bool lm_ended(struct lab_mount *m, struct lm_op *op);
/* Waits until it has ended (false), or it is proven that it never will: DEADLOCK, which is said
 * with the stacks of those who wait for each other. The connection is aborted then, and mount()
 * should return. */
bool lm_stuck(struct lab_mount *m, struct lm_op *op);

/* By `application`, to the end. */
void lm_store(struct lab_mount *m, uint64_t off, uint8_t value);
uint8_t lm_load(struct lab_mount *m, uint64_t off);
int64_t lm_write(struct lab_mount *m, uint64_t off, uint8_t value, uint32_t len);
int lm_fsync(struct lab_mount *m);
/* By `kernel`, on a descriptor of its own: errors of writing back are not taken away from the
 * application. */
void lm_writeback(struct lab_mount *m, uint32_t page);
/* By `revalidator`. */
void lm_revalidate(struct lab_mount *m);

/* Another client: pwrite(2) and truncate(2) in the server's own directory. */
void lm_foreign(struct lab_mount *m, uint64_t off, uint8_t value);
void lm_foreign_truncate(struct lab_mount *m, uint64_t size);
/* One line of nfscached-fault(1) to the embedded server. */
void lm_server(struct lab_mount *m, const char *line);
/* Waits until a fault that it was given has fired. */
void lm_server_fired(struct lab_mount *m);
/* What the server has. */
uint8_t lm_server_byte(struct lab_mount *m, uint64_t off);
uint64_t lm_server_size(struct lab_mount *m);

/* Whoever comes to the point waits there, from now on; "POINT:PAGE": with that page. */
void lm_hold(struct lab_mount *m, const char *point);
void lm_release(struct lab_mount *m, const char *point);
/* Waits until `n` have come to it. */
void lm_arrived(struct lab_mount *m, const char *point, unsigned n);
/* The same, or until `op` has ended, or a thread of the daemon called `thread` waits for a lock in
 * the kernel's function `function` (NULL: no thread is looked at). True: the point. */
bool lm_arrived_or(struct lab_mount *m, const char *point, unsigned n, struct lm_op *op,
                   const char *thread, const char *function);

/* How far the daemon has come; and waits until it has come by the point, with that page
 * (LAB_NO_PAGE: any), after that. */
uint64_t lm_mark(struct lab_mount *m);
void lm_passed(struct lab_mount *m, const char *point, uint64_t page, uint64_t mark);

/* An event of one's own. */
void lm_say(struct lab_mount *m, enum lab_column column, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Marks the moment, and counts. */
void lm_lost(struct lab_mount *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
void lm_stale(struct lab_mount *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Everything stored and written by the calls above, here or elsewhere: does a load see it, and
 * after an fsync the server? Called after mount(), unless it found something itself. True: all
 * is there. */
bool lm_check_bytes(struct lab_mount *m);
/* From here on it wants `value` there; and knows nothing of what is at `from` and beyond. */
void lm_expect(struct lab_mount *m, uint64_t off, uint8_t value);
void lm_forget(struct lab_mount *m, uint64_t from);

#endif
