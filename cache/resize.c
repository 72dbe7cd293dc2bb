// SPDX-License-Identifier: Apache-2.0
/*
 * Another size of the cache, while it is in use.
 *
 *   grow     the budget is raised; whoever waits for memory tries again
 *   shrink
 *     1 lower     the budget, in small steps; after each, clean pages are evicted until what is in
 *                 use fits, the least useful first as ever. What is dirty is written back, what the
 *                 kernel has mapped for writing is unmapped, and waited for: nothing else can go
 *     2 mark      what is in use beyond the new budget's last frame goes: nobody is given such a
 *                 frame any more unless the overflow has to be lent, and then unmarked
 *     3 move      pages out of what goes (migrate.c), again and again until none is left there: of
 *                 those that others held the last holder frees the frame
 *     4 release   the memory behind free frames and records beyond is given back to the system
 *
 * What was marked only becomes less, so step 3 ends under any load as soon as those who hold frames
 * are answered: a READ or WRITE at a server that is away is waited for, and says so by its progress
 * that stands still. Then a person may stop it: the budget stays at what was reached.
 *
 * Readers and writers go on all the time. They feel step 1 as a cache that is full, and the walk of
 * step 3 as short sections under the mapping's lock.
 *
 * Locks: resize_lock for its whole duration, above all others; it is only tried.
 */
#include <stdio.h>

#include "cache/internal.h"
#include "cache/point.h"

#define STEP_FRAMES 64 /* by which the budget is ahead of what is evicted */
#define PAUSE_FIRST 1000000ull
#define PAUSE_MOST  50000000ull

static uint64_t bytes_of(uint64_t frames)
{
    return frames * (PAGE_SIZE + PAGE_METADATA);
}

static void set_budget(struct cache *c, uint32_t frames)
{
    pthread_mutex_lock(&c->pool_lock);
    c->frames = frames;
    c->frames_total = frames + cache_overflow_of(frames);
    pthread_mutex_unlock(&c->pool_lock);
}

void cache_set_limits(struct cache *c, uint64_t dirty_limit, uint64_t dirty_background)
{
    c->dirty_limit = dirty_limit;
    c->dirty_background = dirty_background;
}

/* ---- who asked for it ---- */

static bool stopped(struct cache *c, const struct cache_resize *r)
{
    pthread_mutex_lock(&c->helper_lock);

    bool stop = r->stop;

    pthread_mutex_unlock(&c->helper_lock);
    return stop;
}

bool cache_resize_stop(struct cache *c)
{
    pthread_mutex_lock(&c->helper_lock);

    bool any = c->resize != NULL;

    if (any)
        c->resize->stop = true;
    pthread_cond_broadcast(&c->resize_wake);
    pthread_mutex_unlock(&c->helper_lock);
    return any;
}

void cache_resize_state(struct cache *c, struct cache_resize_state *out)
{
    pthread_mutex_lock(&c->helper_lock);
    *out = (struct cache_resize_state){.running = c->resize != NULL, .size = c->size};
    out->target = c->resize ? c->resize->size : c->size;
    if (c->resize) {
        uint32_t used = c->frames_used, going = c->frames_going;

        out->left = used > c->resize_target ? used - c->resize_target : 0;
        out->left = (out->left > going ? out->left : going) * PAGE_SIZE;
        out->moved = c->n.moved - c->resize_moved;
    }
    pthread_mutex_unlock(&c->helper_lock);
}

static void set_current(struct cache *c, struct cache_resize *r, uint32_t target)
{
    pthread_mutex_lock(&c->helper_lock);
    c->resize = r;
    c->resize_target = target;
    c->resize_moved = c->n.moved;
    pthread_mutex_unlock(&c->helper_lock);
}

/* ---- shrinking ---- */

/* Starts what makes memory free, and waits for some of it; the longer, the longer nothing moved. */
static void wait_for_room(struct cache *c, const struct cache_resize *r, uint64_t *pause,
                          uint32_t *least)
{
    uint32_t now = c->frames_used + c->frames_going;

    if (now < *least || !*pause)
        *pause = PAUSE_FIRST;
    else if (*pause < PAUSE_MOST)
        *pause *= 2;
    *least = now;
    cache_kick(c);
    reclaim_wake(c);

    uint64_t at = cache_now_ns() + *pause;
    struct timespec until = {(time_t)(at / 1000000000u), (long)(at % 1000000000u)};

    pthread_mutex_lock(&c->helper_lock);
    if (!r->stop)
        pthread_cond_timedwait(&c->resize_wake, &c->helper_lock, &until);
    pthread_mutex_unlock(&c->helper_lock);
}

static bool settle(struct cache *c)
{
    for (uint64_t vain = 0; c->frames_used > c->frames;) {
        if (evict_one(c, NULL))
            vain = 0;
        else if (++vain > evict_calls(c))
            return false;
    }
    return true;
}

/* As far as it goes without waiting. True: the budget is what was asked for, and kept. */
static bool lower(struct cache *c, uint32_t target)
{
    while (settle(c)) {
        uint32_t used = c->frames_used, next = c->frames;

        if (next == target)
            return true;
        if (next > used)
            next = used;
        set_budget(c, next > target + STEP_FRAMES ? next - STEP_FRAMES : target);
    }
    return false;
}

/* What the budget has to be for what could not go. */
static uint32_t in_use(struct cache *c, uint32_t target)
{
    uint32_t used = c->frames_used, stuck = target + c->frames_going;

    return used > stuck ? used : stuck;
}

static int shrink(struct cache *c, struct cache_resize *r, uint32_t target)
{
    uint32_t records = cache_records_of(target), least = UINT32_MAX;
    uint64_t pause = 0;
    int err = 0;

    /* 1 lower */
    while (!err && !lower(c, target)) {
        wait_for_room(c, r, &pause, &least);
        err = stopped(c, r) ? -EINTR : 0;
    }
    POINT("resize.lowered");

    /* 2 mark */
    if (!err)
        frames_mark(c, target);

    /* 3 move */
    while (!err) {
        migrate(c, records);
        if (!c->frames_going)
            break;
        settle(c);
        wait_for_room(c, r, &pause, &least);
        err = stopped(c, r) ? -EINTR : 0;
    }
    POINT("resize.moved");
    if (err)
        set_budget(c, in_use(c, target));

    /* 4 release */
    frames_release(c, target);
    slab_release(c->page_slab, records + 1);
    slab_release(c->more_slab, records + 1);
    POINT("resize.released");
    return err;
}

int cache_resize(struct cache *c, struct cache_resize *r)
{
    uint32_t target = cache_frames_of(r->size), was = c->frames;
    uint64_t moved = c->n.moved, evicted = c->n.evicted, memory = arena_memory(c->arena), now;
    int err = 0;

    r->stop = false;
    if (!target || target > c->frames_most)
        return -ERANGE;
    if (pthread_mutex_trylock(&c->resize_lock) != 0)
        return -EBUSY;
    r->was = c->size;
    set_current(c, r, target);
    cache_set_limits(c, r->dirty_limit, r->dirty_background);
    if (target > was)
        set_budget(c, target);
    else
        err = shrink(c, r, target);
    r->reached = err ? bytes_of(c->frames) : r->size;
    c->size = r->reached;
    if (pool_ghosts(c) != 0 && !err)
        err = -ENOMEM; /* the old table serves */
    set_current(c, NULL, 0);
    pthread_mutex_unlock(&c->resize_lock);
    cache_poke(c);
    now = arena_memory(c->arena);
    r->moved = c->n.moved - moved;
    r->evicted = c->n.evicted - evicted;
    r->returned = memory > now ? memory - now : 0;
    return err;
}
