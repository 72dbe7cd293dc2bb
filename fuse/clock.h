// SPDX-License-Identifier: Apache-2.0
/*
 * What is known of the server's clock, from its timestamps alone. Pure: no front, no I/O.
 *
 * The question it answers is git's "racily clean": a token that was sampled while the server's
 * clock still showed the tick of the last change says nothing about a further change in that tick.
 *
 * All times are ns. Server times count from 1970; `mono` is our CLOCK_MONOTONIC, so that a step of
 * the local clock changes nothing. Not thread-safe: attr.c holds a lock over it.
 */
#ifndef NFSCACHED_FUSE_CLOCK_H
#define NFSCACHED_FUSE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Assumed, and the most that is ever believed but for time_delta: two ticks of HZ=100. */
#define CLOCK_GRAN_MAX (20 * 1000000ll)
/* Without any own operation: how far the two clocks may be apart. */
#define CLOCK_SKEW_MAX (60 * 1000000000ll)
/* Timestamps finer than this are not called ticks. */
#define CLOCK_GRAN_FINE 1000000ll
/* A tick may be late by so much, and nothing show it: a server in a virtual machine. */
#define CLOCK_LATE (250 * 1000000ll)
/* A clock that was seen to stand still is taken for one that may, for so long. What is further
 * behind is no operation's time. */
#define CLOCK_LAG_NS  (10 * 1000000000ll)
#define CLOCK_LAG_MAX (1 * 1000000000ll)
/* Two quartz clocks drift apart by less than this share. */
#define CLOCK_DRIFT(ns) ((ns) / 10000)

struct server_time {
    bool known;     /* a ctime was seen */
    bool own;       /* ... of an operation of ours */
    int64_t off_lo; /* server - mono is at least this, at lo_at */
    int64_t off_hi; /* own: at most this, at hi_at */
    int64_t lo_at, hi_at;
    int64_t newest, newest_at; /* the latest ctime that was seen, and since when */
    int64_t step_min; /* smallest difference of ctimes of own operations in sequence; 0: none */
    int64_t last_ctime, last_replied; /* of the last own operation; 0: none */
    int64_t time_delta;               /* FSINFO: the server says so itself */
    int64_t lag, lag_at; /* the most that its clock stood behind itself, lately; 0: no more than a
                            tick explains */
};

static inline int64_t clock_ns(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A ctime in any reply: the server's clock had reached it. `real`: our CLOCK_REALTIME at
 * `replied`; a ctime far beyond it is a file from the future, and not believed. */
void clock_seen(struct server_time *c, int64_t ctime, int64_t replied, int64_t real);
/* The same from an own operation of which it is not known when its ctime was set (WRITE). It
 * teaches the granularity all the same: a ctime above that of the last operation is a later tick.
 */
void clock_own_late(struct server_time *c, int64_t ctime, int64_t sent, int64_t replied,
                    int64_t real);
/* The ctime that an own operation which always moves it (not WRITE: it may be applied later)
 * left: made between `sent` and `replied`. */
void clock_own(struct server_time *c, int64_t ctime, int64_t sent, int64_t replied);
/* How long after a change that left `ctime` another may leave the same timestamp. */
int64_t clock_granularity(const struct server_time *c, int64_t ctime);
bool clock_coarse(const struct server_time *c, int64_t ctime);
/* Could a change after the sampling leave the timestamp `ctime` once more? The sampling's request
 * was sent at `sent`, which was `real` of CLOCK_REALTIME. */
bool clock_racy(const struct server_time *c, int64_t ctime, int64_t sent, int64_t real);

/* The attribute timeout that follows `timeout` (0: none yet). `expired`: the attributes were asked
 * again because it had run out. */
uint64_t clock_next_timeout(uint64_t timeout, uint64_t min, uint64_t max, bool changed,
                            bool expired);

/* Must a reply be refused? `have` is what was accepted last, `own_change` the end of the last own
 * change: a call sent before it may have been answered before it. */
bool clock_reply_is_old(uint64_t sent, struct timespec ctime, uint64_t have_sent,
                        struct timespec have_ctime, uint64_t own_change);

#endif
