// SPDX-License-Identifier: Apache-2.0
/* The queue of due.h: a binary heap. */
#include "fuse/due.h"

#include <stdlib.h>

void due_init(struct due_queue *q, uint64_t seed)
{
    *q = (struct due_queue){.random = seed};
}

void due_destroy(struct due_queue *q)
{
    free(q->heap);
    q->heap = NULL;
    q->n = q->room = 0;
}

static void place(struct due_queue *q, uint32_t i, struct due *d)
{
    q->heap[i] = d;
    d->place = i + 1;
}

static void up(struct due_queue *q, uint32_t i)
{
    struct due *d = q->heap[i];

    for (; i > 0 && q->heap[(i - 1) / 2]->at > d->at; i = (i - 1) / 2)
        place(q, i, q->heap[(i - 1) / 2]);
    place(q, i, d);
}

static void down(struct due_queue *q, uint32_t i)
{
    struct due *d = q->heap[i];

    for (uint32_t child; (child = 2 * i + 1) < q->n; i = child) {
        if (child + 1 < q->n && q->heap[child + 1]->at < q->heap[child]->at)
            child++;
        if (q->heap[child]->at >= d->at)
            break;
        place(q, i, q->heap[child]);
    }
    place(q, i, d);
}

void due_put(struct due_queue *q, struct due *d, uint64_t at)
{
    d->at = at;
    if (!d->place) {
        if (q->n == q->room) {
            q->room = q->room ? 2 * q->room : 64;
            q->heap = realloc(q->heap, q->room * sizeof(struct due *));
            if (!q->heap)
                abort();
        }
        place(q, q->n++, d);
    }
    up(q, d->place - 1);
    down(q, d->place - 1);
}

void due_remove(struct due_queue *q, struct due *d)
{
    if (!d->place)
        return;

    uint32_t i = d->place - 1;
    struct due *last = q->heap[--q->n];

    d->place = 0;
    if (last == d)
        return;
    place(q, i, last);
    up(q, i);
    down(q, last->place - 1);
}

struct due *due_take(struct due_queue *q, uint64_t now)
{
    struct due *d = q->n ? q->heap[0] : NULL;

    if (!d || d->at > now)
        return NULL;
    due_remove(q, d);
    return d;
}

uint64_t due_earliest(const struct due_queue *q)
{
    return q->n ? q->heap[0]->at : UINT64_MAX;
}

/* splitmix64 (Steele, Lea and Flood, 2014) */
static uint64_t draw(struct due_queue *q)
{
    uint64_t z = q->random += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t spread(const struct due *d, uint64_t timeout)
{
    return timeout / (d->later ? 4 : 2);
}

uint64_t due_when(struct due_queue *q, const struct due *d, uint64_t expires, uint64_t timeout)
{
    return expires - draw(q) % (spread(d, timeout) + 1);
}

bool due_is(const struct due *d, uint64_t now, uint64_t expires, uint64_t timeout)
{
    return now + spread(d, timeout) >= expires;
}
