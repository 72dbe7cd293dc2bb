// SPDX-License-Identifier: Apache-2.0
/*
 * The race lab: one entry of the catalogue, run on the real cache under a schedule.
 *
 *   entry -> world (cache, a server and a kernel in memory) -> lanes -> schedule -> oracle ->
 * result
 *
 * A lane is what one actor does, written as straight code with the calls below. The schedule says
 * who goes how far, by the names of points that the product's sources are sown with
 * (cache/point.h); one step a line:
 *
 *   revalidator until reval.waited    it goes on until it comes to that point, has ended, or waits
 *                                     for somebody who is not on the move
 *   application until end
 *   server hold server.READ.done      it will stop when it comes there
 *   server go                         and goes on
 *
 * A lane stands still before its first line, and one that no line names takes no part (unless the
 * schedule is empty). `server` and `server2` serve whoever asks, each one
 * call at a time, and need no line. When the schedule is over everybody runs to the end.
 *
 * Nothing here depends on time or chance: a schedule gives the same interleaving each time.
 */
#ifndef NFSCACHED_RACE_LAB_H
#define NFSCACHED_RACE_LAB_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/internal.h"
#include "tests/lib/fake_kernel.h"
#include "tests/lib/fake_remote.h"
#include "tests/race/lab/faults.h"

enum lab_outcome { SURVIVED, LOST, STALE, DEADLOCK, FAILED /* the run itself */ };

/* The columns of a timeline. */
enum lab_column { APPLICATION, KERNEL, CACHE, REVALIDATOR, WRITEBACK, SERVER, FOREIGN, COLUMNS };

struct lab_event {
    unsigned step; /* counts up from 1 */
    enum lab_column column;
    const char *lane; /* who: the lane's name, or that of the column */
    char *text;
    bool loss; /* the moment of loss, or the finding of it */
};

struct lab_result {
    enum lab_outcome outcome;
    unsigned lost, stale;
    char *verdict; /* which byte is gone, who had been told that it is safe; "" */
    struct lab_event *events;
    unsigned nevents;
    double seconds;
    uint64_t steps; /* of the scheduler */
};

struct lab;

struct lab_lane {
    const char *name; /* application, application2, kernel, revalidator, writeback, foreign, ... */
    void (*body)(struct lab *l);
};

/* What is not given is 0, and then as in the product, or what the comment says. */
struct lab_world {
    uint32_t pages;        /* the file; 2 */
    uint64_t size;         /* bytes; all of its pages */
    uint32_t frames;       /* budget; 256 */
    uint32_t kernel_reads; /* pages of one READ of the kernel; 1 */
    uint32_t readahead;    /* bytes; none */
    uint32_t rsize, wsize; /* 64 KiB */
    enum cache_wcc wcc;
    bool no_pre;          /* the server gives no pre-operation attributes */
    bool stable_writes;   /* cache_config.stable_writes */
    bool temporary_pages; /* the kernel is one of before 6.16 */
    bool read_only;       /* no descriptor is open for writing */
    unsigned servers;     /* in a search; 1. Under a schedule there are two */
};

/* What a protocol does at a point besides: the small replacement of a strategy that is more than
 * one condition. In the lane that comes there, with no lock held; not during setup. */
struct lab_hook {
    const char *point;
    void (*at)(struct lab *l, uint64_t page);
};

struct lab_protocol {
    const char *name;                    /* "shipped" is the first */
    const char *what;                    /* one line */
    uint64_t faults;                     /* FAULT_BIT()s */
    enum lab_outcome on_cache, on_mount; /* expected */
    enum lab_outcome found;          /* by a search, where the schedule shows less; else SURVIVED */
    bool not_on_cache, not_on_mount; /* it says nothing there */
    const char *schedule;            /* NULL: the entry's */
    const struct lab_hook *hooks;    /* ends with a point of NULL; NULL: none */
    const char *weakness;            /* NULL, or what is wrong with it although it survives this */
};

struct lab_mount; /* tests/race/mount/ */

struct lab_entry {
    const char *name;
    unsigned number; /* in the catalogue */
    const char *year, *title;
    const char *history;                  /* what happened, where; paragraphs */
    const char *source;                   /* threads, commits, RFC sections */
    const char *mechanism;                /* why bytes are lost */
    const char *saved_by;                 /* why ours does not lose them */
    const struct lab_protocol *protocols; /* ends with a name of NULL */
    /* on the cache */
    struct lab_world world;
    const struct lab_lane *lanes; /* ends with a name of NULL; NULL: not on the cache */
    const char *schedule;
    void (*setup)(struct lab *l); /* NULL: nothing. Before the lanes, and not in the timeline */
    void (*check)(struct lab *l); /* NULL: lab_check_bytes() */
    /* on a mount; NULL: not there */
    void (*mount)(struct lab_mount *m);
    const char *mount_options; /* beside those of every run; NULL: none */
    uint32_t mount_pages;      /* the file there; 0: as the world says */
};

/* Ends with NULL. */
extern const struct lab_entry *const lab_catalogue[];

/* A run. */
struct lab {
    const struct lab_entry *entry;
    const struct lab_protocol *protocol;
    struct arena arena;
    struct cache *c;
    struct fr_server server;
    struct fr_file *file;
    struct fk_file *k;
    struct lab_result result;
    void *own; /* the entry's */
};

/* ---- what lanes do; each shows itself in the timeline ---- */

/* One byte, stored through a mapping. Whoever did it was told nothing yet, but the kernel has it:
 * from then on the oracle wants to see it, in the client at once, at the server after an fsync. */
void lab_store(struct lab *l, uint64_t off, uint8_t value);
/* Through the mapping. What the oracle knows to be wrong it counts as stale at once. */
uint8_t lab_load(struct lab *l, uint64_t off);
void lab_write(struct lab *l, uint64_t off, uint8_t value, uint32_t len); /* write(2) */
void lab_direct_write(struct lab *l, uint64_t off, uint8_t value, uint32_t len);
int lab_fsync(struct lab *l);
/* The kernel writes one page back by itself. */
void lab_writeback(struct lab *l, uint32_t page);
/* The kernel drops a clean page by itself. */
void lab_reclaim(struct lab *l, uint32_t page);
void lab_revalidate(struct lab *l);
/* Another client, durable at once. From the next revalidation that begins after it on it has to be
 * seen. */
void lab_foreign(struct lab *l, uint64_t off, uint8_t value);
void lab_reboot(struct lab *l);
/* The daemon reads a page ahead of anybody's READ; waits for nothing. */
void lab_prefetch(struct lab *l, uint32_t page);
/* Starts writing back; waits for nothing. */
void lab_kick(struct lab *l);
/* ftruncate(2). What the oracle knows beyond is forgotten. */
void lab_truncate(struct lab *l, uint64_t size);
/* stat(2): the kernel is told the size that the daemon knows. */
void lab_stat(struct lab *l);
/* The oracle forgets what it knows from there on. */
void lab_forget(struct lab *l, uint64_t from);
/* From here on the oracle wants `value` there. */
void lab_expect(struct lab *l, uint64_t off, uint8_t value);
/* An event of one's own, in the column of the lane that calls, or in `column`. */
void lab_say(struct lab *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
void lab_say_in(struct lab *l, enum lab_column column, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- the oracle ---- */

/* Marks the moment, and counts. */
void lab_lost(struct lab *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
void lab_stale(struct lab *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Everything stored, written here or elsewhere through the calls above: after an fsync, is it at
 * the server (else LOST), and is it what a load here finds (else STALE)? */
void lab_check_bytes(struct lab *l);

/* ---- running ---- */

/* `schedule` NULL: the protocol's, or the entry's. The result is the caller's, to be given back
 * with lab_result_free(). Main thread. -EINVAL: the schedule cannot be read; result->verdict says
 * why. */
int lab_run_on_cache(const struct lab_entry *e, const struct lab_protocol *p, const char *schedule,
                     struct lab_result *result);
struct lab_mount_options {
    const char *server; /* HOST:/EXPORT; NULL: the embedded one */
    unsigned seed;
};

/* The same on a real mount. */
int lab_run_on_mount(const struct lab_entry *e, const struct lab_protocol *p,
                     const struct lab_mount_options *o, struct lab_result *result);
void lab_result_free(struct lab_result *r);
const char *lab_outcome_name(enum lab_outcome o);
/* "LOST 1", "STALE 2", "DEADLOCK", "SURVIVED". */
void lab_outcome_text(const struct lab_result *r, char *out, size_t room);
const char *lab_column_name(enum lab_column c);
/* In the timeline of the run that is under way, or NULL. */
extern struct lab *lab_now;

#endif
