// SPDX-License-Identifier: Apache-2.0
/*
 * The cache as a whole: its budget, its three helper threads, its figures.
 *
 * The flusher wakes while anything is dirty, and starts passes for what is too old, for what may be
 * tried again after an error, and above the background limit. The reclaimer frees pages that need
 * an unmap first; the yielder does so under a write(2) that waits for memory, where the reclaimer
 * cannot (pool.c). All sleep while there is nothing to do.
 *
 * The budget. One frame costs 4096 bytes, and for itself a page record (48), a reference count (4),
 * a ghost (4), two bits in maps and its half of a slot in the mapping's Judy array (about 5); and a
 * second record (32) while the page is not clean: less than 96 bytes. So a budget of N bytes has
 * N / 4192 frames. Frames carry pages, twins and masks alike. The arena has address space for more
 * of them: up to size_max.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cache/internal.h"
#include "cache/point.h"

#define OVERFLOW_LEAST   (16u << 20)
#define OVERFLOW_MOST    (32u << 20)
#define FLUSH_EVERY_NS   500000000ull
#define FLUSH_QUIET      4 /* then it sleeps until a page is dirty; small files come in storms */
#define RECLAIM_AGAIN_NS 5000000ull
#define KICK_TRIES       64

uint64_t cache_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t cache_coarse_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Masks are named by frame and number in 31 bits. */
uint32_t cache_frames_of(uint64_t size)
{
    uint64_t n = size / (PAGE_SIZE + PAGE_METADATA);

    return n > UINT32_MAX / 32 ? UINT32_MAX / 32 : (uint32_t)n;
}

static uint32_t frames_most(const struct cache_config *c)
{
    return cache_frames_of(c->size_max > c->size ? c->size_max : c->size);
}

uint32_t cache_overflow_of(uint32_t frames)
{
    uint32_t n = frames / 16 + OVERFLOW_LEAST / PAGE_SIZE;

    return n > OVERFLOW_MOST / PAGE_SIZE ? OVERFLOW_MOST / PAGE_SIZE : n;
}

/* A page has five sets at most in eight masks to a frame. Address space: none of it is touched
 * before clean pages, and the overflow, are used up (pool_settle). */
static uint32_t mask_frames(uint32_t frames)
{
    return frames / 8 * 5 + 8;
}

uint32_t cache_records_of(uint32_t frames)
{
    uint32_t n = frames + cache_overflow_of(frames) + 1;

    return n + n / 8;
}

void cache_arena_sizes(const struct cache_config *c, struct arena_sizes *sizes)
{
    uint32_t n = frames_most(c);

    sizes->frames = n + cache_overflow_of(n) + 1 + mask_frames(n);
    sizes->pages = cache_records_of(n);
    sizes->page_size = sizeof(struct page);
    sizes->more_size = sizeof(struct page_more);
}

/* Calls fn for every mapping whose lock is to be had at once, with it held; false: some was not. */
static bool each_mapping(struct cache *c, void (*fn)(struct mapping *m, void *arg), void *arg)
{
    bool all = true;

    pthread_mutex_lock(&c->wait_lock);
    for (struct mapping *m = c->mappings; m; m = m->all_next) {
        if (pthread_mutex_trylock(&m->lock) != 0) {
            all = false;
            continue;
        }
        fn(m, arg);
        mapping_settle(m); /* nothing gets dirty here: the flusher is not woken */
        pthread_mutex_unlock(&m->lock);
    }
    pthread_mutex_unlock(&c->wait_lock);
    return all;
}

/* NULL: no such mapping, or it is being freed. */
static struct mapping *lock_mapping_of(struct cache *c, uint32_t inode)
{
    for (;;) {
        pthread_mutex_lock(&c->wait_lock);

        struct mapping *m = c->mapping_of[inode];
        bool gone = !m || m->leaving, locked = !gone && pthread_mutex_trylock(&m->lock) == 0;

        pthread_mutex_unlock(&c->wait_lock);
        if (locked || gone)
            return gone ? NULL : m; /* who frees it waits for the lock */
        sched_yield();
    }
}

void cache_walk(struct cache *c, bool (*fn)(struct mapping *m, uint64_t *index, void *arg),
                void *arg)
{
    for (uint32_t inode = 1; inode < c->inode_count; inode++) {
        uint64_t index = 0;
        bool more = __atomic_load_n(&c->mapping_of[inode], __ATOMIC_RELAXED) != NULL;

        while (more) {
            struct mapping *m = lock_mapping_of(c, inode);

            if (!m)
                break;
            more = fn(m, &index, arg);
            mapping_unlock(m);
        }
    }
}

static void kick_one(struct mapping *m, void *arg)
{
    (void)arg;
    if (m->ndirty)
        wb_kick_mapping(m, false);
}

void mapping_kick(struct mapping *m)
{
    struct cache *c = m->c;

    mapping_lock(m);
    wb_kick_mapping(m, false);
    mapping_unlock(m);
    wb_pump(c);
}

void cache_kick(struct cache *c)
{
    each_mapping(c, kick_one, NULL);
    wb_pump(c);
}

void cache_poke(struct cache *c)
{
    while (c->any_starved && read_unstarve(c))
        ;
    while (c->any_parked && write_unpark(c))
        ;
    if (c->frames_used > c->frames)
        reclaim_wake(c);
    if (!c->unmapping)
        return;
    if (c->any_starved)
        read_unstarve_urgent(c);
    if (c->any_parked)
        write_unpark_urgent(c);
}

/* ---- helper threads ---- */

static void flush_due(struct mapping *m, void *arg)
{
    uint64_t now = *(uint64_t *)arg;
    struct cache *c = m->c;

    if (m->pass_active)
        return;
    if (!m->ndirty && m->nunstable && now - m->dirty_since_ns >= c->config.dirty_expire_ns)
        wb_commit(m);
    if (!m->ndirty)
        return;
    if (m->retry_ns ? m->retry_ns <= now
                    : now - m->dirty_since_ns >= c->config.dirty_expire_ns || wb_over_background(c))
        wb_kick_mapping(m, false);
}

void flusher_wake(struct cache *c)
{
    if (!atomic_load(&c->flusher_asleep))
        return;
    pthread_mutex_lock(&c->helper_lock);
    pthread_cond_signal(&c->flusher_wake);
    pthread_mutex_unlock(&c->helper_lock);
}

/* Helper lock held. */
static void doze(struct cache *c, pthread_cond_t *wake, uint64_t ns)
{
    uint64_t at = cache_now_ns() + ns;
    struct timespec until = {(time_t)(at / 1000000000u), (long)(at % 1000000000u)};

    pthread_cond_timedwait(wake, &c->helper_lock, &until);
}

/* What is in flight is unstable next, and nobody is woken for it. */
static bool all_committed(struct cache *c)
{
    return atomic_load(&c->n.dirty) == 0 && atomic_load(&c->busy_pages) == 0;
}

static void *flusher(void *arg)
{
    struct cache *c = arg;
    unsigned quiet = FLUSH_QUIET; /* looks in a row that found nothing dirty */

    pthread_setname_np(pthread_self(), "nfsc-flush");
    pthread_mutex_lock(&c->helper_lock);
    while (!c->stopping) {
        if (quiet >= FLUSH_QUIET) {
            /* Each is written before the other is read: who dirties the first page sees the
             * sleeper, or the sleeper the page. */
            atomic_store(&c->flusher_asleep, true);
            if (all_committed(c))
                pthread_cond_wait(&c->flusher_wake, &c->helper_lock);
            atomic_store(&c->flusher_asleep, false);
            quiet = 0; /* also when it is clean again by now: the next one comes soon */
            continue;
        }

        doze(c, &c->flusher_wake, FLUSH_EVERY_NS);
        if (all_committed(c)) {
            quiet++;
            continue;
        }
        quiet = 0;
        pthread_mutex_unlock(&c->helper_lock);

        uint64_t at = cache_now_ns();

        each_mapping(c, flush_due, &at);
        wb_pump(c);
        cache_poke(c);
        pthread_mutex_lock(&c->helper_lock);
    }
    pthread_mutex_unlock(&c->helper_lock);
    return NULL;
}

static void *reclaimer(void *arg)
{
    struct cache *c = arg;

    pthread_setname_np(pthread_self(), "nfsc-reclaim");
    pthread_mutex_lock(&c->helper_lock);
    while (!c->stopping) {
        if (!c->reclaim_wanted) {
            pthread_cond_wait(&c->reclaimer_wake, &c->helper_lock);
            continue;
        }
        c->reclaim_wanted = false;
        pthread_mutex_unlock(&c->helper_lock);

        bool freed = reclaim_run(c);

        cache_poke(c);
        pthread_mutex_lock(&c->helper_lock);
        /* Those who wait were poked, and want it again: all that is mapped is in use just now. */
        if (!freed && c->reclaim_wanted && !c->stopping)
            doze(c, &c->reclaimer_wake, RECLAIM_AGAIN_NS);
    }
    pthread_mutex_unlock(&c->helper_lock);
    return NULL;
}

static void *yielder(void *arg)
{
    struct cache *c = arg;

    pthread_setname_np(pthread_self(), "nfsc-yield");
    pthread_mutex_lock(&c->helper_lock);
    while (!c->stopping) {
        if (!c->yield_wanted) {
            pthread_cond_wait(&c->yielder_wake, &c->helper_lock);
            continue;
        }
        c->yield_wanted = false;
        pthread_mutex_unlock(&c->helper_lock);

        bool freed = c->any_parked && reclaim_under_write(c);

        pthread_mutex_lock(&c->helper_lock);
        if (!freed && c->yield_wanted && !c->stopping)
            doze(c, &c->yielder_wake, RECLAIM_AGAIN_NS);
    }
    pthread_mutex_unlock(&c->helper_lock);
    return NULL;
}

/* ---- life ---- */

struct cache *cache_new(const struct cache_config *config, struct arena *arena,
                        struct credtab *creds, const struct cache_remote_ops *remote,
                        const struct cache_kernel_ops *kernel, void *ctx)
{
    struct cache *c = calloc(1, sizeof *c);
    pthread_condattr_t mono;

    if (!c)
        return NULL;
    c->config = *config;
    c->arena = arena;
    c->creds = creds;
    c->remote = remote;
    c->kernel = kernel;
    c->ctx = ctx;
    c->size = config->size;
    c->frames = cache_frames_of(config->size);
    c->frames_total = c->frames + cache_overflow_of(c->frames);
    c->frames_most = frames_most(config);
    c->dirty_limit = config->dirty_limit;
    c->dirty_background = config->dirty_background;
    c->starved_tail = &c->starved;
    c->parked_tail = &c->parked;
    if (!c->config.write_inflight)
        c->config.write_inflight = 32u << 20;
    if (!c->config.dirty_expire_ns)
        c->config.dirty_expire_ns = 5000000000ull;
    c->inode_count = arena->header->region[ARENA_INODES].count;
    c->mapping_of = calloc(c->inode_count, sizeof *c->mapping_of);
    pthread_mutex_init(&c->pool_lock, NULL);
    pthread_mutex_init(&c->wb_lock, NULL);
    pthread_mutex_init(&c->wait_lock, NULL);
    pthread_mutex_init(&c->helper_lock, NULL);
    pthread_mutex_init(&c->resize_lock, NULL);
    pthread_condattr_init(&mono);
    pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    pthread_cond_init(&c->flusher_wake, &mono);
    pthread_cond_init(&c->reclaimer_wake, &mono);
    pthread_cond_init(&c->yielder_wake, &mono);
    pthread_cond_init(&c->resize_wake, &mono);
    pthread_condattr_destroy(&mono);
    if (!c->mapping_of || pool_start(c) != 0)
        goto fail;
    if (pthread_create(&c->flusher, NULL, flusher, c) != 0)
        goto fail;
    if (pthread_create(&c->reclaimer, NULL, reclaimer, c) != 0 ||
        pthread_create(&c->yielder, NULL, yielder, c) != 0)
        abort();
    return c;
fail:
    pool_stop(c);
    free(c->mapping_of);
    free(c);
    return NULL;
}

void cache_free(struct cache *c)
{
    pthread_mutex_lock(&c->helper_lock);
    c->stopping = true;
    pthread_cond_broadcast(&c->flusher_wake);
    pthread_cond_broadcast(&c->reclaimer_wake);
    pthread_cond_broadcast(&c->yielder_wake);
    pthread_mutex_unlock(&c->helper_lock);
    pthread_join(c->flusher, NULL);
    pthread_join(c->reclaimer, NULL);
    pthread_join(c->yielder, NULL);
    while (atomic_load(&c->inside)) /* a reply's last steps: no lock, no wait in them */
        sched_yield();
    assert(!c->mappings && !slab_used(c->page_slab) && !slab_used(c->more_slab));
    pool_stop(c);
    pthread_cond_destroy(&c->flusher_wake);
    pthread_cond_destroy(&c->reclaimer_wake);
    pthread_cond_destroy(&c->yielder_wake);
    pthread_cond_destroy(&c->resize_wake);
    pthread_mutex_destroy(&c->resize_lock);
    pthread_mutex_destroy(&c->helper_lock);
    pthread_mutex_destroy(&c->wait_lock);
    pthread_mutex_destroy(&c->wb_lock);
    pthread_mutex_destroy(&c->pool_lock);
    free(c->mapping_of);
    free(c);
}

static void drop_clean(struct mapping *m, void *arg)
{
    uint64_t *dropped = arg, i = 0;

    for (struct page *p; (p = mapping_next(m, &i)) != NULL; i++) {
        if (!page_clean(m->c, p) &&
            !(FAULT(evict_in_flight) && byteset_empty(page_more(m->c, p)->dirty)))
            continue;
        if (p->nfetch || (p->frame && frame_count(m->c, p->frame) > 1))
            continue;
        if (page_mapped(m, p) && mapping_tracks(m))
            continue;
        if (page_mapped(m, p))
            mapping_untracked(m);
        mapping_remove(m, p);
        ++*dropped;
    }
}

uint64_t cache_drop_clean(struct cache *c)
{
    uint64_t dropped = 0;

    for (int tries = 0; tries < KICK_TRIES && !each_mapping(c, drop_clean, &dropped); tries++)
        ;
    return dropped;
}

/* ---- figures ---- */

static void count_pages(struct mapping *m, void *arg)
{
    struct cache_stats *s = arg;
    uint64_t i = 0;

    for (struct page *p; (p = mapping_next(m, &i)) != NULL; i++) {
        s->mapped += page_mapped(m, p);
        s->pinned += p->nfetch || (p->frame && frame_count(m->c, p->frame) > 1);
        s->dirty_bytes += byteset_count(m->c, page_more(m->c, p)->dirty) +
                          byteset_count(m->c, page_more(m->c, p)->inflight);
    }
}

void cache_stats(struct cache *c, struct cache_stats *s)
{
    *s = (struct cache_stats){
        .frames = c->frames,
        .moved = c->n.moved,
        .size = c->size,
        .size_max = (uint64_t)c->frames_most * (PAGE_SIZE + PAGE_METADATA),
        .memory = arena_memory(c->arena),
        .dirty_limit = c->dirty_limit,
        .dirty_background = c->dirty_background,
        .pages = c->n.pages,
        .twins = c->n.twins,
        .dirty = c->n.dirty,
        .unstable = c->n.unstable,
        .writeback = c->n.inflight,
        .metadata_bytes_page = PAGE_METADATA,
        .hits = c->n.hits,
        .misses = c->n.misses,
        .readahead_pages = c->n.ahead,
        .readahead_used = c->n.ahead_used,
        .readahead_wasted = c->n.ahead_wasted,
        .fetches = c->n.fetches,
        .fetch_bytes = c->n.fetch_bytes,
        .writes = c->n.writes,
        .write_bytes = c->n.write_bytes,
        .commits = c->n.commits,
        .refetched_old = c->n.refetched,
        .evicted = c->n.evicted,
        .reclaim_unmaps = c->n.reclaim_unmaps,
        .throttled = c->n.throttled,
        .reval_asked = c->n.asked,
        .reval_changed = c->n.changed,
        .reval_dropped = c->n.dropped,
        .reval_kept = c->n.kept,
        .reval_second_unmaps = c->n.second,
        .twin_alarms = c->n.alarms,
        .verifier_changes = c->n.verifier_changes,
        .write_errors = c->n.write_errors,
    };
    s->clean = s->pages - (c->busy_pages < s->pages ? c->busy_pages : s->pages);
    pthread_mutex_lock(&c->pool_lock);
    s->frames_free = c->frames_used < c->frames ? c->frames - c->frames_used : 0;
    s->masks = c->masks_used;
    pthread_mutex_unlock(&c->pool_lock);
    each_mapping(c, count_pages, s);
}

uint64_t cache_uncommitted(struct cache *c)
{
    return (uint64_t)c->busy_pages * PAGE_SIZE;
}
