// SPDX-License-Identifier: Apache-2.0
/*
 * Memory: which clean page to give up when frames (frames.c) are wanted.
 *
 * The budget is a number of frames; a small overflow beyond it serves only those who cannot be told
 * to wait (a mapped page that the kernel writes back, the twin of an invalidated page).
 *
 * Reclaim is S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023):
 *
 *      insert ---------------> [ small: a tenth ] --hit twice--> [ main ] --hit--+
 *        |                          | not hit                     ^  | not hit   |
 *        +--- its ghost is known -----------------------------------+  v          |
 *                                   v                              | evict       |
 *                              evict, remember as ghost            +-------------+
 *
 * A scan fills and leaves the small queue and never disturbs the main one. Only clean pages stand
 * on the queues: a page leaves its queue when it becomes dirty and comes back when it is clean, so
 * the hand never walks over what it cannot have. Hits touch two bits under the mapping lock that a
 * READ holds anyway.
 *
 * A victim's mapping is only tried, never waited for: the order of locks is the other way round.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/internal.h"

#define EVICT_TRIES 64
#define CHUNK_PAGES 1024 /* unmapped at a time by the reclaimer: 4 MiB */

int pool_start(struct cache *c)
{
    c->page_slab = slab_new(c->arena, ARENA_PAGES);
    c->more_slab = slab_new(c->arena, ARENA_MORE);
    return c->page_slab && c->more_slab && frames_start(c) == 0 && pool_ghosts(c) == 0 ? 0
                                                                                       : -ENOMEM;
}

void pool_stop(struct cache *c)
{
    slab_destroy(c->page_slab);
    slab_destroy(c->more_slab);
    frames_stop(c);
    free(c->ghost);
}

/* What was evicted long ago is forgotten with the old table. */
int pool_ghosts(struct cache *c)
{
    uint32_t buckets = c->frames / GHOST_WAYS + 1;
    uint32_t *ghost = calloc((size_t)buckets * GHOST_WAYS, sizeof *ghost);

    if (!ghost)
        return -ENOMEM;
    pthread_mutex_lock(&c->pool_lock);

    uint32_t *old = c->ghost;

    c->ghost = ghost;
    c->ghost_buckets = buckets;
    pthread_mutex_unlock(&c->pool_lock);
    free(old);
    return 0;
}

/* ---- the queues; pool lock held ---- */

static struct queue *queue_of(struct cache *c, const struct page *p)
{
    return p->flags & PG_MAIN ? &c->main : &c->small;
}

/* Only the links: the flags belong to the mapping's lock. */
static void link_head(struct cache *c, struct queue *q, struct page *p)
{
    uint32_t r = page_record(c, p);

    p->prev = 0;
    p->next = q->head;
    if (q->head)
        page_at(c, q->head)->prev = r;
    else
        q->tail = r;
    q->head = r;
    q->count++;
}

static void unlink_page(struct cache *c, struct queue *q, struct page *p)
{
    if (p->prev)
        page_at(c, p->prev)->next = p->next;
    else
        q->head = p->next;
    if (p->next)
        page_at(c, p->next)->prev = p->prev;
    else
        q->tail = p->prev;
    q->count--;
}

static void queue_push(struct cache *c, struct page *p)
{
    link_head(c, queue_of(c, p), p);
    p->flags |= PG_QUEUED;
}

static void queue_unlink(struct cache *c, struct page *p)
{
    unlink_page(c, queue_of(c, p), p);
    p->flags &= (uint16_t)~PG_QUEUED;
}

static uint32_t ghost_print(const struct page *p, uint32_t live)
{
    uint64_t h = (p->index + 1) * 0x9e3779b97f4a7c15ull ^ live * 0xc2b2ae3d27d4eb4full;

    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9ull;
    return (uint32_t)(h >> 32) | 1;
}

static uint32_t *ghost_bucket(struct cache *c, uint32_t print)
{
    return &c->ghost[(size_t)(print % c->ghost_buckets) * GHOST_WAYS];
}

static void ghost_put(struct cache *c, uint32_t print)
{
    uint32_t *b = ghost_bucket(c, print);

    memmove(b + 1, b, (GHOST_WAYS - 1) * sizeof *b); /* the oldest of the bucket goes */
    b[0] = print;
}

static bool ghost_take(struct cache *c, uint32_t print)
{
    uint32_t *b = ghost_bucket(c, print);

    for (unsigned i = 0; i < GHOST_WAYS; i++)
        if (b[i] == print) {
            b[i] = 0;
            return true;
        }
    return false;
}

void reclaim_insert(struct mapping *m, struct page *p)
{
    struct cache *c = m->c;

    pthread_mutex_lock(&c->pool_lock);
    if (!(p->flags & PG_QUEUED)) {
        if (!(p->flags & PG_MAIN) && ghost_take(c, ghost_print(p, m->inode)))
            p->flags |= PG_MAIN;
        queue_push(c, p);
    }
    pthread_mutex_unlock(&c->pool_lock);
}

void reclaim_remove(struct mapping *m, struct page *p)
{
    struct cache *c = m->c;

    pthread_mutex_lock(&c->pool_lock);
    if (p->flags & PG_QUEUED)
        queue_unlink(c, p);
    pthread_mutex_unlock(&c->pool_lock);
}

void reclaim_leave(struct mapping *m, struct page *p, uint32_t frame)
{
    struct cache *c = m->c;

    pthread_mutex_lock(&c->pool_lock);
    if (p->flags & PG_QUEUED)
        queue_unlink(c, p);
    frame_unref_locked(c, frame);
    pthread_mutex_unlock(&c->pool_lock);
}

void reclaim_move(struct mapping *m, struct page *p, struct page *to)
{
    struct cache *c = m->c;
    uint32_t r = page_record(c, to), live = atomic_load(&p->live);

    pthread_mutex_lock(&c->pool_lock);
    *to = *p; /* links too: they change under the pool lock alone */
    slab_publish(&to->live, live);
    if (p->flags & PG_QUEUED) {
        struct queue *q = queue_of(c, p);

        *(p->prev ? &page_at(c, p->prev)->next : &q->head) = r;
        *(p->next ? &page_at(c, p->next)->prev : &q->tail) = r;
    }
    pthread_mutex_unlock(&c->pool_lock);
}

/* The next page to give up, off its queue, with its mapping locked (unless it is `held`); NULL:
 * none within a bounded walk. *cooled: but some page came nearer to its end, so walk on. Pool lock
 * held. */
static struct page *victim(struct cache *c, struct mapping *held, struct mapping **owner,
                           bool *cooled)
{
    *cooled = false;
    for (int tries = 0; tries < EVICT_TRIES; tries++) {
        bool from_small = c->small.tail && (c->small.count * 10 >= c->frames || !c->main.tail);
        struct queue *q = from_small ? &c->small : &c->main;

        if (!q->tail)
            return NULL;

        struct page *p = page_at(c, q->tail);
        struct mapping *m = c->mapping_of[atomic_load(&p->live)];

        if (m != held && pthread_mutex_trylock(&m->lock) != 0) {
            unlink_page(c, q, p);
            link_head(c, q, p);
            continue;
        }

        unsigned freq = (p->flags & PG_FREQ) >> PG_FREQ_SHIFT;
        bool stays = false;

        if (from_small && freq > 1) {
            queue_unlink(c, p);
            p->flags = (uint16_t)((p->flags & ~PG_FREQ) | PG_MAIN);
            queue_push(c, p);
            stays = *cooled = true;
        } else if (!from_small && freq > 0) {
            queue_unlink(c, p);
            p->flags -= 1 << PG_FREQ_SHIFT;
            queue_push(c, p);
            stays = *cooled = true;
        } else if (p == m->pin || !page_clean(c, p) || p->nfetch ||
                   (p->frame && frame_count(c, p->frame) > 1) ||
                   (page_mapped(m, p) && mapping_tracks(m))) {
            if (page_mapped(m, p) && mapping_tracks(m))
                c->reclaim_wanted = true;
            queue_unlink(c, p);
            queue_push(c, p);
            stays = true;
        }
        if (!stays) {
            queue_unlink(c, p);
            if (from_small)
                ghost_put(c, ghost_print(p, m->inode));
            *owner = m;
            return p;
        }
        if (m != held)
            pthread_mutex_unlock(&m->lock);
    }
    return NULL;
}

uint64_t evict_calls(struct cache *c)
{
    pthread_mutex_lock(&c->pool_lock);

    uint64_t n = (c->small.count + c->main.count) / EVICT_TRIES + 1;

    pthread_mutex_unlock(&c->pool_lock);
    return n;
}

/* Gives one clean page up. False: none to be had. Where all pages are hot the walk is long: but
 * each of its steps was earned by a hit. */
bool evict_one(struct cache *c, struct mapping *held)
{
    struct mapping *m = NULL;
    struct page *p;
    bool cooled;

    do {
        pthread_mutex_lock(&c->pool_lock);
        p = victim(c, held, &m, &cooled);
        pthread_mutex_unlock(&c->pool_lock);
    } while (!p && cooled);
    if (!p)
        return false;
    if (page_mapped(m, p))
        mapping_untracked(m);
    mapping_remove(m, p);
    COUNT(c, evicted, 1);
    if (m != held) {
        mapping_settle(m);
        pthread_mutex_unlock(&m->lock);
    }
    return true;
}

/* ---- frames ---- */

uint32_t frame_alloc(struct cache *c, struct mapping *held, bool emergency)
{
    uint32_t f;

    do {
        f = frame_take(c, c->frames);
    } while (!f && evict_one(c, held));
    if (!f && emergency)
        f = frame_take(c, c->frames_total);
    if (!f)
        reclaim_wake(c);
    return f;
}

bool pool_settle(struct cache *c, struct mapping *held)
{
    while (c->frames_used > c->frames)
        if (!evict_one(c, held))
            return c->frames_used < c->frames + (c->frames_total - c->frames) / 2;
    return true;
}

bool pool_low(struct cache *c)
{
    pthread_mutex_lock(&c->pool_lock);

    bool low = c->frames_used + c->frames / 32 >= c->frames;

    pthread_mutex_unlock(&c->pool_lock);
    return low;
}

/* ---- what needs an unmap first ---- */

void reclaim_wake(struct cache *c)
{
    pthread_mutex_lock(&c->helper_lock);
    c->reclaim_wanted = c->yield_wanted = true;
    pthread_cond_signal(&c->reclaimer_wake);
    pthread_cond_signal(&c->yielder_wake);
    pthread_mutex_unlock(&c->helper_lock);
}

/* The oldest clean page that the kernel may have mapped for writing: its mapping, held, and the
 * chunk of pages around it. NULL: none. */
static struct mapping *find_mapped(struct cache *c, uint64_t *first)
{
    struct mapping *found = NULL;

    pthread_mutex_lock(&c->pool_lock);
    for (int which = 0; which < 2 && !found; which++) {
        uint32_t r = which == 0 ? c->small.tail : c->main.tail;

        for (int tries = 0; r && tries < 4 * EVICT_TRIES && !found; tries++) {
            struct page *p = page_at(c, r);
            struct mapping *m = c->mapping_of[atomic_load(&p->live)];

            r = p->prev;
            if (pthread_mutex_trylock(&m->lock) != 0)
                continue;
            if (page_mapped(m, p) && mapping_tracks(m) && !p->nfetch &&
                (!p->frame || frame_count(c, p->frame) == 1)) {
                mapping_hold(m);
                *first = p->index / CHUNK_PAGES * CHUNK_PAGES;
                found = m;
            }
            pthread_mutex_unlock(&m->lock);
        }
    }
    pthread_mutex_unlock(&c->pool_lock);
    return found;
}

/* Frees what an unmap of pages [first, end) has made free; the number of pages. */
static uint64_t free_unmapped(struct mapping *m, uint64_t first, uint64_t end)
{
    uint64_t freed = 0;

    for (uint64_t i = first;; i++) {
        struct page *p = mapping_next(m, &i);

        if (!p || i >= end)
            break;
        if (page_clean(m->c, p) && !p->nfetch &&
            (FAULT(count_check) ||
             (!page_mapped(m, p) && (!p->frame || frame_count(m->c, p->frame) == 1)))) {
            mapping_remove(m, p);
            freed++;
        }
    }
    COUNT(m->c, evicted, freed);
    return freed;
}

/* A chunk of pages of the WRITE's own file that would be free after an unmap, and that the WRITE
 * does not touch. */
static bool chunk_beside(const struct cache_write *w, uint64_t *first, uint64_t *end)
{
    struct mapping *m = w->m;
    uint64_t mine = w->offset >> PAGE_SHIFT, last = (w->offset + w->count - 1) >> PAGE_SHIFT, i = 0;

    for (struct page *p; (p = mapping_next(m, &i)) != NULL; i++) {
        if ((i >= mine && i <= last) || !page_clean(m->c, p) || p->nfetch || !page_mapped(m, p) ||
            (p->frame && frame_count(m->c, p->frame) > 1))
            continue;
        *first = i;
        *end = i < mine && i + CHUNK_PAGES > mine ? mine : i + CHUNK_PAGES;
        return true;
    }
    return false;
}

/*
 * A write(2) that waits for memory holds the kernel's inode lock, for which the unmap that would
 * free memory waits in vain: the lock is not fair, and one write(2) may be longer than all the
 * overflow. But as long as that WRITE is not answered nobody else can be in the gap between a
 * write(2)'s copy and its WRITE. So the plain notification is safe now, beside the WRITE's own
 * pages.
 */
bool reclaim_under_write(struct cache *c)
{
    struct cache_write *w = write_take_held(c);
    uint64_t first, end, freed = 0;

    if (!w)
        return false;

    struct mapping *m = w->m;

    mapping_lock(m);

    /* One that waited for the dirty limit alone needs none. */
    bool found = c->frames_used >= c->frames && chunk_beside(w, &first, &end);

    mapping_unlock(m);
    if (found && mapping_unmap_held(m, first << PAGE_SHIFT, (end - first) << PAGE_SHIFT) == 0) {
        COUNT(c, reclaim_unmaps, 1);
        mapping_lock(m);
        freed = free_unmapped(m, first, end);
        mapping_unlock(m);
    }
    write_give_back(w);
    return freed != 0;
}

bool reclaim_run(struct cache *c)
{
    bool any = false;
    uint64_t first;

    while (c->frames_used > c->frames && evict_one(c, NULL)) /* the overflow is only lent */
        any = true;

    /* A READ needs all of its frames at once. */
    while (pool_low(c) || c->any_starved) {
        struct mapping *m = find_mapped(c, &first);

        if (!m)
            break;

        int err = mapping_unmap(m, first << PAGE_SHIFT, (uint64_t)CHUNK_PAGES << PAGE_SHIFT);

        COUNT(c, reclaim_unmaps, 1);
        POINT("reclaim.unmapped");
        mapping_lock(m);

        uint64_t freed = err ? 0 : free_unmapped(m, first, first + CHUNK_PAGES);

        mapping_unhold(m);
        mapping_unlock(m);
        cache_poke(c);
        if (err || !freed)
            break;
        any = true;
    }
    return any;
}
