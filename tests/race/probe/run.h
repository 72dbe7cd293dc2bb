// SPDX-License-Identifier: Apache-2.0
/*
 * The prober, inside.
 *
 * A run is a list of checks (checks.h). Each works on a file of its own, that is filled with
 * records (record.h), and knows of every record who alone may write it and what was acknowledged of
 * it. The process that the user started (main.c) never touches the file systems itself: for each
 * check it forks a leader, which forks helpers (crew.c), and all say by heartbeats that they get
 * on. So a client that hangs is a finding too, and an interrupted run still ends.
 *
 * Ways to the files: `a`, the mount under test; `b`, the other client (a second mount, or else
 * the server's directory), may be absent; `s`, the server's directory, may be absent.
 *
 * What is a finding depends on what the user expects (--expect). Each observation says by
 * `promised` if the expected level promises otherwise: then it is a finding, else it is counted
 * beside the verdict ("beyond the promise").
 *
 *   close-to-open  An open sees all that was closed, or fsynced, elsewhere before. What fsync or
 * close returned 0 for is at the server. One client's processes agree with each other. Pages that
 * one client alone writes keep what it wrote. Nothing is promised of a page that two clients write
 * at the same time, nor of freshness without an open, nor of that of a file that this client itself
 * is writing. coherent       Also: clients write different bytes of one page, and both stay. An
 * open sees what others wrote even if this client writes the file. Without an open it is seen
 * within
 *                  --fresh seconds.
 *   local          One page cache: what is written is seen at once, by all.
 */
#ifndef TESTS_RACE_PROBE_RUN_H
#define TESTS_RACE_PROBE_RUN_H

#include "tests/lib/tlib.h"
#include "tests/race/probe/record.h"

#include <stdarg.h>
#include <stdbool.h>
#include <sys/types.h>

#define PAGE 4096

enum level { CLOSE_TO_OPEN, COHERENT, LOCAL };

enum kind {
    LOST,  /* acknowledged, and not there; nor at the server, as far as that can be seen */
    STALE, /* an older state is shown than the one that must be */
    TORN,  /* put together from several states, while nobody writes */
    WRONG, /* what nobody ever wrote there: another place's data, a size, bytes after the end */
    LOST_ERROR, /* not written, and no call said so */
    HUNG,       /* no progress */
    KINDS
};
extern const char *const kind_name[KINDS];

/* A way to the files: NULL directory when there is none. */
struct way {
    const char *dir, *option;
    bool map; /* MAP_SHARED for writing works */
};

struct result {
    volatile long rounds, writes, reads;
    volatile long batches;         /* of the other client's writer */
    volatile long found[KINDS];    /* broken promises */
    volatile long observed[KINDS]; /* the same, where nothing is promised */
    volatile long passing;         /* torn while being written: nobody promises otherwise */
    volatile long unseen;          /* held: not seen within the wait */
    volatile double age_map, age_read;
    volatile double seconds;
    volatile bool ran, cut_short;
    char skipped[120];
    char first[1200], first_observed[1200];
};

#define FILES_MAX  24
#define CHECKS_MAX 12

struct shared {
    volatile int stop;        /* helpers of this check end */
    volatile int interrupted; /* the signal */
    volatile int troubled;
    char trouble[600];
    int lock;
    double check_end;
    char made[FILES_MAX][64]; /* names to remove */
    volatile int n_made;
    struct result result[CHECKS_MAX];
    struct watch watch;
};

struct probe {
    struct way a, b, s;
    enum level expect;
    double seconds, fresh, stall;
    long rounds;
    int pages, processes;
    uint64_t seed;
    uint32_t run;
    double tick; /* seconds after which a change at the server has another time than one before */
    bool fill, keep;
    long fill_max_mib;
    char *break_cmd, *mend_cmd;
    int check;                               /* the one that runs: index of result */
    void (*progress)(const struct probe *p); /* called while it runs; NULL: no */
    struct shared *sh;
};

struct check {
    const char *name, *what;
    int weight;         /* share of the time */
    int rounds_percent; /* rounds it makes of 100 asked for, */
    int writes_a_round; /* and more, until there were so many writes for each */
    bool by_request;    /* only with its option */
    /* A reason to leave it out, or NULL. */
    const char *(*cannot)(const struct probe *p);
    void (*body)(struct probe *p);
};
extern const struct check checks[];
extern const int n_checks;

static inline struct result *res(const struct probe *p)
{
    return &p->sh->result[p->check];
}

static inline void count(volatile long *n)
{
    __sync_fetch_and_add(n, 1);
}

/* ---- findings.c --------------------------------------------------------------------------------
 */

/* Where something was seen: on which way, how ("read", "mapping"), and when ("after an open"). */
struct where {
    const struct way *way;
    const char *file, *how, *when;
};
/* Counts, and keeps the first of each check in words. `buf` is what was seen of the record `want`
 * (NULL: told by the format alone). */
void finding(struct probe *p, enum kind k, bool promised, const struct where *w,
             const struct rec_id *want, const void *buf, size_t len, const char *fmt, ...)
    __attribute__((format(printf, 8, 9)));
/* The environment does not let the probe go on: says why, ends this process and the run. */
void trouble(struct probe *p, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));

/* ---- crew.c ------------------------------------------------------------------------------------
 */

/* Heartbeat of the calling process. */
void beat(struct probe *p);
/* Forks a helper that runs body(p, arg) with the random numbers of `salt`, and ends. */
void helper(struct probe *p, const char *name, void (*body)(struct probe *, void *), void *arg);
/* Tells the helpers to end, and waits until they have. */
void helpers_end(struct probe *p);
/* True while the check shall make another round; counts it. For the leader. */
bool another_round(struct probe *p);
/* Sleeps, with heartbeats, until then or until the check is stopped. */
void nap(struct probe *p, double seconds);
/* The same for one tick of the server's clock. */
void tick(struct probe *p);
/* Runs body in a process of its own with the watchdog, for check `p->check`. 0, T_ERROR or T_HUNG.
 */
int supervise(struct probe *p, void (*body)(struct probe *));

/* ---- files.c -----------------------------------------------------------------------------------
 */

const char *file_path(const struct probe *p, const struct way *w, const char *name);
/* Opens a file of ours. All these end in trouble() when they fail. */
int file_open(struct probe *p, const struct way *w, const char *name, int flags);
/* A new file of `size` bytes, empty or zeros, made on the mount; its name. */
const char *file_make(struct probe *p, const char *name, off_t size);
void file_close(struct probe *p, const struct way *w, const char *name, int fd);
void file_sync(struct probe *p, const struct way *w, const char *name, int fd);
void file_read(struct probe *p, const struct way *w, const char *name, int fd, void *buf, size_t n,
               off_t off);
void file_write(struct probe *p, const struct way *w, const char *name, int fd, const void *buf,
                size_t n, off_t off);
void *file_map(struct probe *p, const struct way *w, const char *name, int fd, off_t off, size_t n,
               bool writable);
void file_unmap(void *m, size_t n);
/* What a fault that failed at `addr` wanted: false if no mapping of file_map is there. */
struct map_of {
    const struct way *way;
    const char *name;
    int fd;
    off_t off;
};
bool file_of_map(const void *addr, struct map_of *out);
/* Bytes of a file on a way, by a new descriptor; how many there are, at most n. */
size_t file_look(struct probe *p, const struct way *w, const char *name, void *buf, size_t n,
                 off_t off);
/* Bytes that are free on the mount, which --fill may fill. */
uint64_t free_space(struct probe *p);
/* Looks if the directories are what they must be, and how fine the clock is. A body. */
void files_examine(struct probe *p);
/* Removes what file_make made. A body. */
void files_remove(struct probe *p);

#endif
