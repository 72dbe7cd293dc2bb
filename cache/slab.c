// SPDX-License-Identifier: Apache-2.0
/*
 * The free list over one region of the arena.
 *
 *     index   0     1     2     3     4     5     6 ...        count
 *            none | ~0  |  5  | ~0  | ~0  |  0  |  never touched  |
 *                          ^free: 2 -> 5 -> 0    ^carved
 *
 * `next` holds one word for each record: ALLOCATED, or the next free record. Records at and above
 * `carved` were never handed out and stand in no list, so that the memory behind them, and behind
 * `next`, is not touched before it is needed. Freed records go out again first, while they are
 * warm. Everything here is volatile: slab_new() finds what is in use by looking at the records.
 *
 * Locks: `lock` is a leaf, taken for a few instructions.
 */
#include "cache/arena.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#define SLAB_MAGIC 0x736c6162u
#define ALLOCATED  UINT32_MAX

struct slab {
    uint32_t magic;
    enum arena_region region;
    struct arena *arena;
    uint32_t count;
    pthread_mutex_t lock;
    uint32_t *next;
    size_t next_bytes;
    uint32_t free;   /* head of the list, 0: empty */
    uint32_t carved; /* first index never handed out */
    _Atomic uint32_t used;
};

static _Atomic uint32_t *live_word(const struct slab *s, uint32_t index)
{
    return arena_at(s->arena, s->region, index);
}

static bool live_in_use(uint32_t index, void *arg)
{
    return atomic_load_explicit(live_word(arg, index), memory_order_acquire) != 0;
}

static void slab_push(struct slab *s, uint32_t index)
{
    s->next[index] = s->free;
    s->free = index;
}

/* Marks what is in use; the gaps below the last such record become the free list, the lowest
 * index first. */
static void slab_scan(struct slab *s, bool (*in_use)(uint32_t, void *), void *arg, bool by_record)
{
    uint32_t first = 1, end = s->count;
    for (uint32_t from = 1; from < s->count; from = end) {
        end = s->count;
        if (by_record && !arena_next_data(s->arena, s->region, from, &first, &end))
            break;
        for (uint32_t i = by_record ? first : from; i < end; i++) {
            if (!in_use(i, arg))
                continue;
            s->next[i] = ALLOCATED;
            s->carved = i + 1;
            s->used++;
        }
    }
    for (uint32_t i = s->carved - 1; i >= 1; i--)
        if (s->next[i] != ALLOCATED)
            slab_push(s, i);
}

static struct slab *slab_make(struct arena *a, enum arena_region region)
{
    struct slab *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->magic = SLAB_MAGIC;
    s->arena = a;
    s->region = region;
    s->count = a->header->region[region].count;
    s->carved = 1;
    s->next_bytes = (size_t)s->count * sizeof(*s->next);
    s->next = mmap(NULL, s->next_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s->next == MAP_FAILED) {
        free(s);
        return NULL;
    }
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

struct slab *slab_new(struct arena *a, enum arena_region region)
{
    struct slab *s = slab_make(a, region);
    if (s && region != ARENA_FRAMES)
        slab_scan(s, live_in_use, s, true);
    return s;
}

struct slab *slab_new_scan(struct arena *a, enum arena_region region,
                           bool (*in_use)(uint32_t index, void *arg), void *arg)
{
    struct slab *s = slab_make(a, region);
    if (s)
        slab_scan(s, in_use, arg, false);
    return s;
}

void slab_destroy(struct slab *s)
{
    if (!s)
        return;
    assert(s->magic == SLAB_MAGIC);
    s->magic = ~SLAB_MAGIC;
    munmap(s->next, s->next_bytes);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

uint32_t slab_alloc(struct slab *s)
{
    assert(s->magic == SLAB_MAGIC);
    pthread_mutex_lock(&s->lock);
    uint32_t index = s->free;
    if (index)
        s->free = s->next[index];
    else if (s->carved < s->count)
        index = s->carved++;
    if (index) {
        s->next[index] = ALLOCATED;
        s->used++;
    }
    pthread_mutex_unlock(&s->lock);
    return index;
}

void slab_free(struct slab *s, uint32_t index)
{
    assert(s->magic == SLAB_MAGIC && index > 0 && index < s->count);
    if (s->region != ARENA_FRAMES)
        atomic_store_explicit(live_word(s, index), 0, memory_order_release);
    pthread_mutex_lock(&s->lock);
    assert(s->next[index] == ALLOCATED);
    slab_push(s, index);
    s->used--;
    pthread_mutex_unlock(&s->lock);
}

uint32_t slab_used(const struct slab *s)
{
    return atomic_load_explicit(&s->used, memory_order_relaxed);
}
