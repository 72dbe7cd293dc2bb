// SPDX-License-Identifier: Apache-2.0
/*
 * Who has which record of one region of the arena.
 *
 * A map says which indexes are taken (cache/indexmap.h); the lowest free one goes out first, so
 * that records stay together at the region's low end, and the memory behind the others can be given
 * back (slab_release). Memory of records that were never handed out is not touched. Everything here
 * is volatile: slab_new() finds what is in use by looking at the records.
 *
 * Locks: `lock` is a leaf, taken for a few instructions.
 */
#include "cache/arena.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "cache/indexmap.h"

#define SLAB_MAGIC    0x736c6162u
#define RELEASE_BATCH (1u << 16) /* records whose memory is given back at a time */

struct slab {
    uint32_t magic;
    enum arena_region region;
    struct arena *arena;
    uint32_t count;
    pthread_mutex_t lock;
    struct indexmap map;
    _Atomic uint32_t used;
};

static _Atomic uint32_t *live_word(const struct slab *s, uint32_t index)
{
    return arena_at(s->arena, s->region, index);
}

/* Lock held: it is read without, but changed by nobody else. */
static void count_used(struct slab *s, uint32_t by)
{
    atomic_store_explicit(&s->used, slab_used(s) + by, memory_order_relaxed);
}

static bool live_in_use(uint32_t index, void *arg)
{
    return atomic_load_explicit(live_word(arg, index), memory_order_acquire) != 0;
}

static void slab_scan(struct slab *s, bool (*in_use)(uint32_t, void *), void *arg, bool by_record)
{
    uint32_t first = 1, end = s->count;
    for (uint32_t from = 1; from < s->count; from = end) {
        end = s->count;
        if (by_record && !arena_next_data(s->arena, s->region, from, &first, &end))
            break;
        for (uint32_t i = by_record ? first : from; i < end; i++) {
            if (i == 0 || !in_use(i, arg))
                continue;
            indexmap_take_this(&s->map, i);
            s->used++;
        }
    }
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
    if (indexmap_init(&s->map, s->count) != 0) {
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
    indexmap_destroy(&s->map);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

uint32_t slab_alloc(struct slab *s)
{
    return slab_alloc_below(s, s->count);
}

uint32_t slab_alloc_below(struct slab *s, uint32_t below)
{
    assert(s->magic == SLAB_MAGIC);
    pthread_mutex_lock(&s->lock);
    uint32_t index = indexmap_take(&s->map, below);
    count_used(s, index != 0);
    pthread_mutex_unlock(&s->lock);
    return index;
}

void slab_free(struct slab *s, uint32_t index)
{
    assert(s->magic == SLAB_MAGIC && index > 0 && index < s->count);
    if (s->region != ARENA_FRAMES)
        atomic_store_explicit(live_word(s, index), 0, memory_order_release);
    pthread_mutex_lock(&s->lock);
    indexmap_put(&s->map, index);
    count_used(s, UINT32_MAX);
    pthread_mutex_unlock(&s->lock);
}

void slab_release(struct slab *s, uint32_t from)
{
    uint32_t first, n;

    assert(s->magic == SLAB_MAGIC);
    for (;; from = first + n) {
        pthread_mutex_lock(&s->lock);
        n = indexmap_take_run(&s->map, from, RELEASE_BATCH, &first);
        pthread_mutex_unlock(&s->lock);
        if (!n)
            return;
        arena_release(s->arena, s->region, first, n);
        pthread_mutex_lock(&s->lock);
        indexmap_put_run(&s->map, first, n);
        pthread_mutex_unlock(&s->lock);
    }
}

uint32_t slab_used(const struct slab *s)
{
    return atomic_load_explicit(&s->used, memory_order_relaxed);
}
