// SPDX-License-Identifier: Apache-2.0
/*
 * Which open file is asked for next: a queue by time, and the rule that spreads the questions.
 *
 * Thousands of files that a program opens at once run out at once, and so would the files of all
 * clients that start together: a herd at the server, again and again, because asking at the same
 * moment they run out at the same moment. So each is asked somewhat before its attributes run out,
 * by a part that is drawn anew each time: the first time up to half of the timeout, then up to a
 * quarter. On the mean that is one GETATTR in 7/8 of the timeout.
 *
 * Who is due longest is taken first: however many are due, and however slow the server is, nobody
 * is forgotten. The caller serialises.
 */
#ifndef NFSCACHED_FUSE_DUE_H
#define NFSCACHED_FUSE_DUE_H

#include <stdbool.h>
#include <stdint.h>

/* Embedded in what is queued; zero: not queued. */
struct due {
    uint64_t at;    /* CLOCK_MONOTONIC ns */
    uint32_t place; /* in the heap, plus one */
    bool later;     /* was asked before */
};

struct due_queue {
    struct due **heap; /* [0] is the earliest */
    uint32_t n, room;
    uint64_t random;
};

void due_init(struct due_queue *q, uint64_t seed);
void due_destroy(struct due_queue *q);

/* Queues it, or moves it. Aborts without memory: a file that nobody asks for again would break a
 * promise unseen. */
void due_put(struct due_queue *q, struct due *d, uint64_t at);
void due_remove(struct due_queue *q, struct due *d);
/* The earliest, no longer queued, if its time has come; else NULL. */
struct due *due_take(struct due_queue *q, uint64_t now);
/* UINT64_MAX: nobody is queued. */
uint64_t due_earliest(const struct due_queue *q);

/* When to ask for what runs out at `expires`, `timeout` after it was asked for. */
uint64_t due_when(struct due_queue *q, const struct due *d, uint64_t expires, uint64_t timeout);
/* Taken from the queue at `now`: is it to be asked for, or did somebody else ask meanwhile? */
bool due_is(const struct due *d, uint64_t now, uint64_t expires, uint64_t timeout);

#endif
