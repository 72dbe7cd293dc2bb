// SPDX-License-Identifier: Apache-2.0
/*
 * Frames and masks: who has them, how many there may be, and how their memory is given back.
 *
 *        1 ........ budget ........ | overflow, masks ........ | address space only ...... count
 *        [#########################][##.#....................][..............................]
 *         the lowest free one is handed out first
 *
 * Frames are counted references: the page has one, a twin has one, every READ being answered, every
 * WRITE and every fetch under way has one. A frame that carries masks has one for each of its eight
 * masks, free or not.
 *
 * How many are in use is bounded by a number (the budget; a little more for those who cannot be
 * told to wait), not by an index. But as the lowest free one goes out first, as many as are in use
 * lie at the low end, once those that got stuck above have been moved (migrate.c).
 *
 * A frame that *goes* lies above the budget that a resize sets, and is not to be used again before
 * its memory was given back: it is marked (FRAME_GOES), so that its last reference counts it off,
 * and so that a mask of it which becomes free is not handed out again. A mark stays until the frame
 * is free.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cache/internal.h"

#define MASKS         8 /* in a frame */
#define MARK_BATCH    (1u << 16)
#define RELEASE_BATCH (1u << 14) /* frames whose memory is given back at a time: 64 MiB */

int frames_start(struct cache *c)
{
    c->frame_count = c->arena->header->region[ARENA_FRAMES].count;
    c->goes_above = UINT32_MAX;

    void *refs = mmap(NULL, (size_t)c->frame_count * sizeof *c->frame_refs, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (refs == MAP_FAILED)
        return -ENOMEM;
    c->frame_refs = refs;
    return indexmap_init(&c->frame_map, c->frame_count);
}

void frames_stop(struct cache *c)
{
    if (c->frame_refs)
        munmap(c->frame_refs, (size_t)c->frame_count * sizeof *c->frame_refs);
    indexmap_destroy(&c->frame_map);
    free(c->mask_free);
}

/* Pool lock held: it is read without, but changed by nobody else. */
static void count_used(struct cache *c, uint32_t by)
{
    uint32_t used = atomic_load_explicit(&c->frames_used, memory_order_relaxed);

    atomic_store_explicit(&c->frames_used, used + by, memory_order_relaxed);
}

/* Pool lock held. */
static uint32_t take_locked(struct cache *c, uint32_t below, uint32_t refs)
{
    uint32_t f = indexmap_take(&c->frame_map, below);

    if (f) {
        count_used(c, 1);
        atomic_store_explicit(&c->frame_refs[f], refs, memory_order_release);
    }
    return f;
}

/* Nobody refers to it any more; pool lock held. */
static void put_locked(struct cache *c, uint32_t frame)
{
    if (atomic_exchange(&c->frame_refs[frame], 0) & FRAME_GOES && frame > c->goes_above &&
        frame < c->goes_end)
        c->frames_going--;
    indexmap_put(&c->frame_map, frame);
    count_used(c, UINT32_MAX);
}

uint32_t frame_take(struct cache *c, uint32_t limit)
{
    pthread_mutex_lock(&c->pool_lock);

    uint32_t f = c->frames_used < limit ? take_locked(c, c->frame_count, 1) : 0;

    pthread_mutex_unlock(&c->pool_lock);
    return f;
}

uint32_t frame_take_below(struct cache *c, uint32_t below)
{
    pthread_mutex_lock(&c->pool_lock);

    uint32_t f = take_locked(c, below, 1);

    pthread_mutex_unlock(&c->pool_lock);
    return f;
}

void frame_ref(struct cache *c, uint32_t frame)
{
    atomic_fetch_add_explicit(&c->frame_refs[frame], 1, memory_order_relaxed);
}

/* True: the last one. */
static bool unref(struct cache *c, uint32_t frame)
{
    return (atomic_fetch_sub_explicit(&c->frame_refs[frame], 1, memory_order_acq_rel) &
            ~FRAME_GOES) == 1;
}

void frame_unref(struct cache *c, uint32_t frame)
{
    if (!frame || !unref(c, frame))
        return;
    pthread_mutex_lock(&c->pool_lock);
    put_locked(c, frame);
    pthread_mutex_unlock(&c->pool_lock);
}

void frame_unref_locked(struct cache *c, uint32_t frame)
{
    if (frame && unref(c, frame))
        put_locked(c, frame);
}

/* ---- masks: eight to a frame ---- */

/* Pool lock held. */
static uint32_t pop_mask(struct cache *c)
{
    if (!c->nmask_free)
        return 0;
    c->masks_used++;
    return c->mask_free[--c->nmask_free];
}

/* Pool lock held; false: out of frames. */
static bool carve_masks(struct cache *c)
{
    uint32_t f = take_locked(c, c->frame_count, MASKS);

    if (!f)
        return false;
    if (c->nmask_free + MASKS + c->masks_used > c->nmask_cap) { /* all may be free one day */
        uint32_t cap = c->nmask_cap ? c->nmask_cap * 2 : 1024;
        uint32_t *n = realloc(c->mask_free, cap * sizeof *n);

        if (!n)
            abort();
        c->mask_free = n;
        c->nmask_cap = cap;
    }
    for (uint32_t i = 0; i < MASKS; i++)
        c->mask_free[c->nmask_free++] = f * MASKS + i;
    return true;
}

/* The page that needs it is in the middle of a change: nothing is evicted here, the next
 * frame_alloc() pays. */
uint32_t mask_alloc(struct cache *c)
{
    pthread_mutex_lock(&c->pool_lock);

    uint32_t m = pop_mask(c);

    if (!m && carve_masks(c))
        m = pop_mask(c);
    pthread_mutex_unlock(&c->pool_lock);
    if (!m) {
        /* Five masks for every page: there cannot be more. */
        fprintf(stderr, "nfscached: out of masks (%u in use)\n", c->masks_used);
        abort();
    }
    memset(mask_at(c, m), 0, PAGE_SIZE / 8);
    return m;
}

void mask_free(struct cache *c, uint32_t mask)
{
    pthread_mutex_lock(&c->pool_lock);
    c->masks_used--;
    if (!frame_goes(c, mask / MASKS))
        c->mask_free[c->nmask_free++] = mask; /* has room: it was carved from here */
    else if (unref(c, mask / MASKS))
        put_locked(c, mask / MASKS);
    pthread_mutex_unlock(&c->pool_lock);
}

bool mask_goes(struct cache *c, uint32_t mask)
{
    return frame_goes(c, mask / MASKS);
}

/* ---- what goes ---- */

/* Free masks of frames that go: they are not handed out again. Pool lock held. */
static void masks_leave(struct cache *c)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < c->nmask_free; i++) {
        uint32_t f = c->mask_free[i] / MASKS;

        if (!frame_goes(c, f))
            c->mask_free[kept++] = c->mask_free[i];
        else if (unref(c, f))
            put_locked(c, f);
    }
    c->nmask_free = kept;
}

void frames_mark(struct cache *c, uint32_t above)
{
    pthread_mutex_lock(&c->pool_lock);
    c->goes_above = above;
    c->goes_end = 0; /* marks of before do not count until they are counted here */
    c->frames_going = 0;
    for (uint64_t f = (uint64_t)above + 1; f < c->frame_map.touched; f++) {
        if (indexmap_taken(&c->frame_map, (uint32_t)f)) {
            atomic_fetch_or(&c->frame_refs[f], FRAME_GOES);
            c->frames_going++;
        }
        c->goes_end = (uint32_t)f + 1;
        if (f % MARK_BATCH == 0) { /* what is taken meanwhile is marked, or it is not: both do */
            pthread_mutex_unlock(&c->pool_lock);
            pthread_mutex_lock(&c->pool_lock);
        }
    }
    masks_leave(c);
    pthread_mutex_unlock(&c->pool_lock);
}

void frames_release(struct cache *c, uint32_t above)
{
    uint32_t from = above + 1, first, n;

    pthread_mutex_lock(&c->pool_lock);
    c->goes_above = UINT32_MAX;
    c->frames_going = 0;
    while ((n = indexmap_take_run(&c->frame_map, from, RELEASE_BATCH, &first)) != 0) {
        pthread_mutex_unlock(&c->pool_lock);
        arena_release(c->arena, ARENA_FRAMES, first, n);
        from = first + n;
        pthread_mutex_lock(&c->pool_lock);
        indexmap_put_run(&c->frame_map, first, n);
    }
    pthread_mutex_unlock(&c->pool_lock);
}
