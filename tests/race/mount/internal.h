// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of tests/race/mount/ share.
 *
 *   run.c       one run from its beginning to its end
 *   world.c     the namespace, the mount, and how all of it goes away again
 *   children.c  the daemon, the server, the keeper: forked, never exec'ed
 *   lanes.c     the application's threads, and what they do on the mount
 *   check.c     the timeline, and the oracle
 *   stuck.c     how it is proven that somebody waits for ever
 *   control.c   holding points, over the control socket
 */
#ifndef NFSCACHED_RACE_MOUNT_INTERNAL_H
#define NFSCACHED_RACE_MOUNT_INTERNAL_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "cache/page.h"
#include "tests/race/mount/control.h"
#include "tests/race/mount/mount.h"

#define LANES      8
#define NOTES      64
#define TRACE_SIZE 16384
#define PATH_ROOM  256
#define LIMIT_MS   10000 /* of every wait */
#define FILE_NAME  "file"

#define PAGE_OF(off) ((unsigned long long)((off) >> PAGE_SHIFT))
#define BYTE_OF(off) ((unsigned long long)((off)&PAGE_MASK))

/* Points the daemon came by. Its names are our names: it was forked, and not exec'ed. */
struct trace_entry {
    _Atomic uint64_t number; /* from 1; 0: not written yet */
    uint64_t ns;
    const char *name;
    uint64_t page;
    pid_t tid;
};

struct trace {
    _Atomic uint64_t n;
    struct trace_entry entry[TRACE_SIZE];
};

struct lm_op {
    struct lm_op *next;     /* of the lane's queue */
    struct lm_op *all_next; /* freed at the end of the run */
    struct lane *lane;
    enum lm_what what;
    uint64_t off;
    uint8_t value;
    uint32_t len;
    bool announce; /* its beginning is an event, too */
    bool done;
    int64_t result;
};

/* A thread of the application. */
struct lane {
    struct lab_mount *m;
    char name[32];
    pthread_t thread;
    _Atomic pid_t tid;
    struct lm_op *head, **tail; /* lab_mount.lock */
    pthread_cond_t wake;
    bool stop, ended;
    int fd, direct; /* `direct`: with O_DIRECT, opened when first used */
    uint8_t *map;
    uint64_t map_len;
};

/* A byte that the oracle knows. */
struct note {
    uint64_t off;
    uint8_t value;
    bool foreign;
    uint64_t ns;
    char who[32];
    uint64_t epoch; /* revalidations begun before it */
};

struct timed_event {
    uint64_t ns, order;
    struct lab_event e;
};

struct lab_mount {
    const struct lab_entry *entry;
    const struct lab_protocol *protocol;
    const struct lab_mount_options *options;
    uint64_t size; /* of the file at the beginning */

    /* world.c, children.c */
    char export[PATH_ROOM], mountpoint[PATH_ROOM], server_name[PATH_ROOM + 16];
    pid_t daemon, server, keeper;
    int ready_fd;  /* one byte: the daemon has mounted */
    int server_fd; /* lines to the embedded server, and its answers */
    int keeper_fd;
    unsigned port;
    dev_t dev;
    struct steer *steer;
    struct trace *trace; /* shared with the daemon */
    char log[PATH_ROOM]; /* the daemon's standard error */

    jmp_buf out; /* of mount(), by lm_fail() */
    bool over;   /* the connection was aborted */

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t changed;
    struct lane lanes[LANES];
    unsigned nlanes;
    struct lm_op *ops;
    struct note note[NOTES];
    unsigned nnotes;
    uint64_t reval_begun, reval_done;
    struct timed_event *events;
    unsigned nevents;
    uint64_t order, trace_seen;
    bool quiet;
    struct lm_op *nudge;
    bool found; /* by lm_lost() or lm_stale() */
    struct lab_result result;
};

uint64_t lm_now(void);

/* Main thread: ends mount(). */
void lm_fail(struct lab_mount *m, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

/* ---- world.c ---- */
/* Once for the process. 0, or -errno and a text. */
int world_prepare(char *err, size_t room);
/* Server, daemon, mount, control socket. 0, or -errno and a text. */
int world_begin(struct lab_mount *m, char *err, size_t room);
/* 0; or -errno and a text, if the daemon did not end as it should. Nothing is left in any case. */
int world_end(struct lab_mount *m, char *err, size_t room);
/* All requests on the mount fail from now on. */
void world_abort(struct lab_mount *m);
void world_abort_connection(dev_t dev);
/* The same, of a daemon that did not come so far as to say that it has mounted. */
void world_abort_mounted(void);
/* As the keeper leaves it. */
void world_forget(void);

/* ---- children.c ---- */
pid_t child_server(struct lab_mount *m, char *err, size_t room);
pid_t child_daemon(struct lab_mount *m);
pid_t child_keeper(struct lab_mount *m);
/* What it has to clean up. */
void keeper_tell(struct lab_mount *m);
void keeper_dismiss(struct lab_mount *m);
/* Waits for its end: its wait status, or -1 when `ms` were over. */
int child_wait(pid_t pid, unsigned ms);
/* A line to the server; its answer, ended by a NUL. -errno. */
int server_ask(struct lab_mount *m, const char *line, char *answer, size_t room);

/* ---- lanes.c ---- */
struct lm_op *op_post(struct lab_mount *m, const char *lane, enum lm_what what, uint64_t off,
                      uint8_t value, uint32_t len, bool announce);
/* False: not after `ms`. */
bool op_wait(struct lab_mount *m, struct lm_op *op, unsigned ms);
void op_connected(struct lab_mount *m, const struct lm_op *op);
const char *op_name(enum lm_what what);
void lm_nudge(struct lab_mount *m);
/* True: all have ended. */
bool lanes_stop(struct lab_mount *m, unsigned ms);
void lanes_free(struct lab_mount *m);
void lanes_catch_sigbus(void);

/* ---- check.c ---- */
/* `text` is freed by it. */
void event_add(struct lab_mount *m, enum lab_column column, const char *lane, bool loss,
               char *text);
void event_say(struct lab_mount *m, enum lab_column column, const char *lane, bool loss,
               const char *format, ...) __attribute__((format(printf, 5, 6)));
void note_add(struct lab_mount *m, const char *who, uint64_t off, uint8_t value, bool foreign);
enum lab_column column_of(const char *lane);
/* Takes what the daemon has traced since into the events. */
void trace_take(struct lab_mount *m);
/* What it has traced since is nothing of the run. */
void trace_skip(struct lab_mount *m);
/* The events in their order, as those of the result. */
void events_finish(struct lab_mount *m);
/* The daemon's end. */
void trace_point(const char *name, uint64_t page);
extern struct trace *trace_ring;

/* ---- stuck.c ---- */
/* Even if one of its threads is still waited for. */
bool daemon_died(const struct lab_mount *m);
/* Where the daemon's threads are. */
void threads_text(const struct lab_mount *m, char *out, size_t room);
/* A thread of `pid` that is called `name` (NULL: any) waits in the kernel's function `function`
 * itself, for a lock: the innermost frame that is not the scheduler's or a lock's. */
bool thread_waits_in(pid_t pid, const char *name, const char *function);

#endif
