// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached bench revalidate`, inside: a file that two sides write, each to bytes of its own, so
 * that whatever is missing in the end was lost by somebody.
 *
 *   reval.c          options, which cells there are, what is derived from them
 *   reval_file.c     the file: its content, the changes made elsewhere, what is missing
 *   reval_matrix.c   part "matrix": pages x state x change
 *   reval_writer.c   the threads that write meanwhile; part "writer": what they feel
 *   reval_mapping.c  part "staleness": a mapping that only reads; part "opens": unchanged files
 *
 * A page of the file:
 *
 *      0          8           16        64                                   4096
 *      | write(2) | mapped    | unused  | the other side's: one byte value   |
 *      |  ours    |  ours     |         | per page and version, one special  |
 */
#ifndef NFSCACHED_BENCH_REVAL_H
#define NFSCACHED_BENCH_REVAL_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "daemon/bench/target.h"

enum {
    RV_PAGE = 4096,
    RV_SLOT_WRITE = 0,
    RV_SLOT_MAPPED = 8,
    RV_THEIRS = 64,
    RV_OURS = 255,      /* no byte of theirs is that */
    RV_SPECIAL = 2048,  /* the byte of the middle page that "one byte" changes */
    RV_PAGES_EMPTY = 16 /* pages of the file of which none is cached */
};

enum rv_state {
    STATE_CLEAN,
    STATE_MAPPED,
    STATE_DIRTY_WRITE,
    STATE_DIRTY_MAPPED,
    STATE_DIRTY_PAGES, /* stored wholly, but for the middle page: that is the other side's */
    STATE_WRITER
};
enum rv_change {
    CHANGE_NONE,
    CHANGE_BYTE,
    CHANGE_WHOLE,
    CHANGE_GROWN,
    CHANGE_SHRUNK,
    CHANGE_REPLACED
};
extern const char *const rv_state_names[], *const rv_change_names[]; /* NULL-terminated */

struct rv_options {
    struct targets targets;
    unsigned rounds;     /* in each repetition, of a cell with few pages */
    int settle_ms;       /* between making a file and caching it; -1: to be chosen */
    double patience_s;   /* how long something stale is waited for */
    double writer_s;     /* how long the writers of part "writer" are watched */
    unsigned changes;    /* of part "staleness" in each repetition */
    unsigned opens_max;  /* files of part "opens" */
    char *delay_command; /* called with "on" and "off"; NULL */
    char *fault_control; /* control socket of `nfscached serve`; NULL */
    unsigned delay_ms;
};

struct rv_cell {
    const struct rv_options *o;
    struct target *target;
    unsigned pages;
    enum rv_state state;
    enum rv_change change;
    bool revalidate, slow; /* part "writer" */
    unsigned files;        /* part "opens" */
    bool made;
    double clock; /* part "staleness": seconds in the curve so far */
};

/* ---- the file ------------------------------------------------------------------------------ */

struct rv_file {
    char path[PATH_MAX], foreign[PATH_MAX];
    char old[PATH_MAX];    /* another name of it elsewhere, if it is to be replaced; "" */
    unsigned pages;        /* when it was made */
    uint64_t size;         /* bytes now, as the other side made it */
    unsigned version;      /* of their bytes */
    unsigned char special; /* the special byte, if has_special */
    bool has_special, replaced;
    bool stored_wholly; /* all pages but the middle one are ours, RV_OURS where no slot is */
    uint64_t *written, *mapped; /* our slots, last value of each page; 0: never */
};

/* Makes a new file by the other way, for `change` to come. One that will be replaced has a second
 * name there: what was written here before goes to the old file, and can be looked for. 0 or
 * negative errno.
 */
int rv_file_make(struct rv_file *f, const struct target *t, unsigned pages, enum rv_change change);
void rv_file_remove(struct rv_file *f);

/* Changes it elsewhere, down to the server's disk. 0 or negative errno. */
int rv_file_change(struct rv_file *f, enum rv_change change);

/* One look through `fd`: 1 the change is seen, 0 not, or negative errno. */
int rv_file_is_fresh(const struct rv_file *f, enum rv_change change, int fd);

/* Reads all of it; counts pages where their bytes are not what they wrote. Negative errno on error.
 */
long rv_file_wrong_pages(const struct rv_file *f, int fd);

/* Reads the first `pages` pages. 0 or negative errno. */
int rv_file_read(int fd, unsigned pages);

/* After everything was synced: which of our writes and stores are not there by the other way, and
 * which of their bytes are not. Slots beyond what the other side cut off are not counted: nobody
 * promised those. 0 or negative errno. */
int rv_file_check(const struct rv_file *f, unsigned *lost_writes, unsigned *lost_foreign);

/* ---- writers ------------------------------------------------------------------------------- */

struct rv_writers {
    struct rv_file *file;
    int fd;
    unsigned char *map; /* or NULL: only write(2) */
    size_t map_size;
    atomic_bool stop;
    atomic_int error; /* of write(2); a store into what was cut off is not one */
    pthread_t write_thread, store_thread;
    bool write_started, store_started;
    struct histogram write, store;
};

/* Starts one thread that writes and, if `map`, one that stores. 0 or negative errno. */
int rv_writers_start(struct rv_writers *w, struct rv_file *f, int fd, unsigned char *map,
                     size_t map_size);
/* Waits for them; 0, or what write(2) failed with. */
int rv_writers_stop(struct rv_writers *w);

/* How many pages of a file we make dirty: where it is cut to half, none of the other half, because
 * what a client shall do with those nobody has defined. */
static inline unsigned rv_dirty_pages(unsigned pages, enum rv_change change)
{
    return change == CHANGE_SHRUNK && pages > 1 ? pages / 2 : pages;
}

/* Stores into a mapping; false where the page is gone (SIGBUS). */
bool rv_store(volatile uint64_t *where, uint64_t value);

/* Makes the server slow, or no longer. False after cell_fail(). */
bool rv_slow(struct cell *c, const struct rv_options *o, bool on);

/* The clock of the server's change times moves in ticks of up to 10 ms: what changes within one
 * cannot be seen by any NFSv3 client. */
void rv_wait_a_tick(void);

int rv_matrix_run(struct cell *c);
int rv_writer_run(struct cell *c);
int rv_staleness_run(struct cell *c);
int rv_opens_run(struct cell *c);

#endif
