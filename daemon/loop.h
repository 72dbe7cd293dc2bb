// SPDX-License-Identifier: Apache-2.0
/*
 * An event loop: one thread, one epoll instance.
 *
 * The request path is built from loops. A shard's loop watches /dev/fuse and an NFS connection of
 * its own, so that a request is read, sent, answered and replied to by one thread; a bulk loop
 * watches an NFS connection only. Nothing that runs on a loop may block.
 *
 * Why not libuv or libev: several shards must wait on one /dev/fuse descriptor with
 * EPOLLEXCLUSIVE, and batched sends need a hook between the last callback and the sleep; neither
 * library offers both, and what is left is small.
 */
#ifndef NFSCACHED_DAEMON_LOOP_H
#define NFSCACHED_DAEMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;

/* Called in the loop's thread. `events` are EPOLL* bits. */
typedef void loop_fd_fn(struct loop *loop, int fd, uint32_t events, void *arg);

/* A unit of work for loop_post(); embedded in the caller's object, which must outlive its run. */
struct loop_task {
    void (*fn)(struct loop_task *task);
    struct loop_task *next; /* private */
};

/* A one-shot timer; embedded in the caller's object; zero-initialised means not armed. */
struct loop_timer {
    void (*fn)(struct loop_timer *timer);
    uint64_t at;      /* private: CLOCK_MONOTONIC ns, 0 = not armed */
    uint32_t heap_at; /* private */
};

/* A hook that runs before every sleep (flush what was batched); embedded. */
struct loop_hook {
    void (*fn)(struct loop_hook *hook);
    struct loop_hook *next; /* private */
};

/* A new loop, not running. `name` (at most 15 bytes) becomes the thread's name. NULL and errno. */
struct loop *loop_new(const char *name);
void loop_free(struct loop *loop);

/* Starts a thread (8 MiB stack) that runs the loop until loop_stop(). 0 or negative errno. */
int loop_start(struct loop *loop);
/* Runs the loop in the calling thread until loop_stop(). */
void loop_run(struct loop *loop);
/* Ends the loop after the current callback; any thread, also a signal-free context only. */
void loop_stop(struct loop *loop);
/* Waits for the thread of loop_start(). */
void loop_join(struct loop *loop);

/* The loop whose thread this is, or NULL. */
struct loop *loop_current(void);
/* Runs fn(arg) where it may touch what the loop owns, after what was posted before, and waits for
 * it: in the loop's thread if it runs, here if it does not (or if this is its thread). Not
 * concurrently with loop_start() or loop_stop(). */
void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg);

/* Below: only from the loop's own thread, or before it runs. `events` are EPOLL* bits, and may hold
 * EPOLLEXCLUSIVE or EPOLLET. 0 or negative errno. */
int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *arg);
int loop_mod_fd(struct loop *loop, int fd, uint32_t events);
void loop_del_fd(struct loop *loop, int fd);
void loop_add_hook(struct loop *loop, struct loop_hook *hook);
/* Takes a hook off again; not from inside a hook. */
void loop_del_hook(struct loop *loop, struct loop_hook *hook);
/* The hooks run (once more) before the loop sleeps: for work that a hook made for an earlier one.
 */
void loop_kick(struct loop *loop);
/* Arms, or moves, a timer to `ns` from now. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t ns);
void loop_timer_cancel(struct loop *loop, struct loop_timer *timer);

/* Runs task->fn in the loop's thread, soon; any thread, and before the loop runs. In the order of
 * the posts of one thread. Wakes the loop only if it sleeps. Tasks still queued when the loop stops
 * run when it is freed, in the freeing thread: nobody waits for a completion that never comes. */
void loop_post(struct loop *loop, struct loop_task *task);

/* CLOCK_MONOTONIC in ns. */
uint64_t now_ns(void);
/* The same as of the kernel's last tick: up to 10 ms ago, never ahead of now_ns(). It asks no
 * hardware, which where the clock is slow (an emulated HPET) costs more than a lookup. */
uint64_t now_coarse_ns(void);
#define COARSE_LAG_NS 10000000u

#endif
