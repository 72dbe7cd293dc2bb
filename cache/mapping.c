// SPDX-License-Identifier: Apache-2.0
/*
 * A mapping: the pages of one file, and everything that is counted about them.
 *
 * One lock guards a mapping and all its pages. It is held for short sections only (a lookup, a
 * copy of at most one request, a batch of a walk); nothing waits under it.
 *
 * page_update() is the one place that turns a page's sets into counters, Judy sets, holds and the
 * reclaim queue: who changes a set calls it, and nobody else counts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/internal.h"

struct mapping *mapping_new(struct cache *c, uint32_t inode, void *host, uint64_t size)
{
    struct mapping *m = calloc(1, sizeof *m);

    if (!m)
        return NULL;
    m->magic = MAPPING_MAGIC;
    m->c = c;
    m->inode = inode;
    m->host = host;
    m->commit.m = m;
    m->error_seq = 1;
    atomic_init(&m->size, size);
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->reval_lock, NULL);
    pthread_cond_init(&m->plain_done, NULL);
    pthread_mutex_lock(&c->wait_lock);
    m->all_next = c->mappings;
    if (c->mappings)
        c->mappings->all_prev = m;
    c->mappings = m;
    c->nmappings++;
    __atomic_store_n(&c->mapping_of[inode], m, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&c->wait_lock);
    return m;
}

void mapping_free(struct mapping *m)
{
    struct cache *c = m->c;
    uint64_t i = 0;

    assert(m->magic == MAPPING_MAGIC);
    pthread_mutex_lock(&c->wait_lock);
    if (m->all_prev)
        m->all_prev->all_next = m->all_next;
    else
        c->mappings = m->all_next;
    if (m->all_next)
        m->all_next->all_prev = m->all_prev;
    c->nmappings--;
    m->leaving = true;
    pthread_mutex_unlock(&c->wait_lock);

    mapping_lock(m);
    assert(!m->holds && !m->fetches && !m->readers && !m->writes_inflight);
    for (struct page *p; (p = mapping_next(m, &i)) != NULL; i++)
        mapping_remove(m, p);
    JudyLFreeArray(&m->pages, PJE0);
    Judy1FreeArray(&m->dirty, PJE0);
    Judy1FreeArray(&m->unstable, PJE0);
    Judy1FreeArray(&m->twins, PJE0);
    wb_forget_edges(m);
    mapping_unlock(m);
    pthread_mutex_lock(&c->wait_lock);
    if (c->mapping_of[m->inode] == m)
        __atomic_store_n(&c->mapping_of[m->inode], NULL, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&c->wait_lock);
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->reval_lock);
    pthread_cond_destroy(&m->plain_done);
    m->magic = ~MAPPING_MAGIC;
    free(m);
}

void *mapping_host(const struct mapping *m)
{
    return m->host;
}

/* ---- index ---- */

/* Two neighbours share a slot, which halves the array of a dense file. */
_Static_assert(sizeof(Word_t) == 2 * sizeof(uint32_t), "a slot has two records");

static uint32_t slot_record(Word_t slot, uint64_t index)
{
    return (uint32_t)(slot >> (index & 1) * 32);
}

static Word_t slot_with(Word_t slot, uint64_t index, uint32_t record)
{
    unsigned shift = (index & 1) * 32;

    return (slot & ~((Word_t)UINT32_MAX << shift)) | (Word_t)record << shift;
}

struct page *mapping_find(struct mapping *m, uint64_t index)
{
    PWord_t v;

    JLG(v, m->pages, index / 2);

    uint32_t r = v ? slot_record(*v, index) : 0;

    return r ? page_at(m->c, r) : NULL;
}

struct page *mapping_next(struct mapping *m, uint64_t *index)
{
    PWord_t v;
    Word_t i = *index / 2;

    JLF(v, m->pages, i);
    if (v && i == *index / 2 && *index & 1 && !slot_record(*v, 1))
        JLN(v, m->pages, i);
    if (!v)
        return NULL;
    if (i != *index / 2 || !(*index & 1))
        *index = i * 2 + (slot_record(*v, 0) == 0);
    return page_at(m->c, slot_record(*v, *index));
}

struct page *mapping_prev(struct mapping *m, uint64_t *index)
{
    PWord_t v;
    Word_t i = *index / 2;

    JLL(v, m->pages, i);
    if (v && i == *index / 2 && !(*index & 1) && !slot_record(*v, 0))
        JLP(v, m->pages, i);
    if (!v)
        return NULL;
    if (i != *index / 2 || *index & 1)
        *index = i * 2 + (slot_record(*v, 1) != 0);
    return page_at(m->c, slot_record(*v, *index));
}

void mapping_move(struct mapping *m, uint64_t index, uint32_t to)
{
    PWord_t v;

    JLG(v, m->pages, index / 2);
    *v = slot_with(*v, index, to);
}

struct page *mapping_add(struct mapping *m, uint64_t index)
{
    struct cache *c = m->c;
    uint32_t r = slab_alloc(c->page_slab);
    PWord_t v;

    if (!r)
        return NULL;

    struct page *p = page_at(c, r);

    *p = (struct page){.index = index, .generation = m->generation};
    JLI(v, m->pages, index / 2);
    if (v == PJERR) {
        slab_free(c->page_slab, r);
        return NULL;
    }
    *v = slot_with(*v, index, r);
    slab_publish(&p->live, m->inode);
    m->npages++;
    COUNT(c, pages, 1);
    return p;
}

void page_more_make(struct cache *c, struct page *p)
{
    uint32_t r = slab_alloc(c->more_slab);
    struct page_more *x = arena_at(c->arena, ARENA_MORE, r);

    if (!r) { /* there are as many as page records, and no page has two */
        fprintf(stderr, "nfscached: out of second page records\n");
        abort();
    }
    *x = (struct page_more){0};
    slab_publish(&x->live, page_record(c, p));
    p->more = r;
}

static void more_free(struct cache *c, struct page *p)
{
    uint32_t r = p->more;

    p->more = 0;
    if (r)
        slab_free(c->more_slab, r);
}

/* Gives it back if nothing is in it. */
static void more_trim(struct cache *c, struct page *p)
{
    if (p->more && page_clean(c, p) && !page_more(c, p)->twin && !page_more(c, p)->unique)
        more_free(c, p);
}

void mapping_remove(struct mapping *m, struct page *p)
{
    struct cache *c = m->c;
    PWord_t v;
    int rc;

    assert(!p->nfetch);
    if (p->more) {
        struct page_more *x = page_change(c, p);

        byteset_clear(c, &x->dirty);
        byteset_clear(c, &x->inflight);
        byteset_clear(c, &x->unstable);
        byteset_clear(c, &x->committing);
    }
    byteset_clear(c, &p->valid);
    page_drop_twin(m, p);

    uint32_t frame = p->frame;

    p->frame = 0;
    page_update(m, p); /* without a frame it is not queued again, which would use up its ghost */
    reclaim_leave(m, p, frame);
    if (p->flags & PG_AHEAD)
        COUNT(c, ahead_wasted, 1);
    more_free(c, p);
    JLG(v, m->pages, p->index / 2);
    *v = slot_with(*v, p->index, 0);
    if (!*v) {
        JLD(rc, m->pages, p->index / 2);
        (void)rc;
    }
    m->npages--;
    COUNT(c, pages, -1);
    slab_free(c->page_slab, page_record(c, p));
}

/* ---- accounting ---- */

static void class_change(struct mapping *m, struct page *p, uint16_t flag, bool now,
                         uint64_t *count, int32_t *owed, Pvoid_t *set)
{
    bool was = p->flags & flag;
    int rc;

    if (was == now)
        return;
    p->flags ^= flag;
    *count += now ? 1 : (uint64_t)-1;
    *owed += now ? 1 : -1;
    if (!set)
        return;
    if (now) {
        J1S(rc, *set, p->index);
    } else {
        J1U(rc, *set, p->index);
    }
    (void)rc;
}

void page_update(struct mapping *m, struct page *p)
{
    struct cache *c = m->c;
    const struct page_more *x = page_more(c, p);
    bool was_busy = p->flags & (PG_DIRTY | PG_INFLIGHT | PG_UNSTABLE), busy = !page_clean(c, p);

    class_change(m, p, PG_DIRTY, !byteset_empty(x->dirty), &m->ndirty, &m->owed.dirty, &m->dirty);
    class_change(m, p, PG_INFLIGHT, !byteset_empty(x->inflight), &m->ninflight, &m->owed.inflight,
                 NULL);
    class_change(m, p, PG_UNSTABLE, x->unstable | x->committing, &m->nunstable, &m->owed.unstable,
                 &m->unstable);
    if (busy && !was_busy) {
        mapping_hold(m);
        m->owed.busy++;
        if (p->flags & PG_QUEUED)
            reclaim_remove(m, p);
    } else if (!busy && was_busy) {
        m->holds--;
        m->owed.busy--;
    }
    if (!busy && !(p->flags & PG_QUEUED) && (p->frame || x->twin))
        reclaim_insert(m, p);
    more_trim(c, p);
}

static uint64_t pay(_Atomic uint64_t *total, int32_t *owed)
{
    int32_t n = *owed;

    *owed = 0;
    return n ? atomic_fetch_add(total, (uint64_t)(int64_t)n) : 1;
}

void mapping_settle(struct mapping *m)
{
    struct cache *c = m->c;

    /* Before dirty: whoever sees the page dirty may ask for the limits next. */
    pay(&c->busy_pages, &m->owed.busy);
    pay(&c->n.inflight, &m->owed.inflight);
    pay(&c->n.unstable, &m->owed.unstable);
    if (pay(&c->n.dirty, &m->owed.dirty) == 0)
        flusher_wake(c); /* it sleeps while nothing is dirty */
}

void mapping_hold(struct mapping *m)
{
    if (m->holds++ == 0 && !m->host_held) {
        m->host_held = true;
        m->c->kernel->busy(m->c->ctx, m, true);
    }
}

void mapping_unhold(struct mapping *m)
{
    assert(m->holds);
    m->holds--;
}

void mapping_unlock(struct mapping *m)
{
    struct cache *c = m->c;
    bool idle = m->host_held && m->holds == 0;

    mapping_settle(m);
    if (idle)
        m->host_held = false;
    pthread_mutex_unlock(&m->lock);
    if (idle)
        c->kernel->busy(c->ctx, m, false);
}

/* ---- the kernel's copy ---- */

void mapping_untracked(struct mapping *m)
{
    m->untracked = true;
    m->untracked_seq = m->unmap_seq;
}

void page_given(struct mapping *m, struct page *p)
{
    page_drop_twin(m, p);
    p->flags |= PG_MAPPED;
    p->kseq = m->unmap_seq;
}

void page_set_twin(struct mapping *m, struct page *p, uint32_t frame)
{
    int rc;

    page_drop_twin(m, p);
    page_change(m->c, p)->twin = frame;
    J1S(rc, m->twins, p->index);
    (void)rc;
    COUNT(m->c, twins, 1);
}

void page_drop_twin(struct mapping *m, struct page *p)
{
    int rc;

    if (!page_twin(m->c, p))
        return;

    struct page_more *x = page_change(m->c, p);

    frame_unref(m->c, x->twin);
    x->twin = 0;
    J1U(rc, m->twins, p->index);
    (void)rc;
    COUNT(m->c, twins, -1);
    more_trim(m->c, p);
}

/* Gives the page a frame of its own that holds only the bytes of `keep`; the old frame becomes the
 * twin if the kernel's copy has to be remembered, or is left to the readers that hold it. */
static void page_replace_frame(struct mapping *m, struct page *p, byteset keep)
{
    struct cache *c = m->c;
    bool twin = page_mapped(m, p) && mapping_tracks(m) && !page_twin(c, p);
    uint32_t old = p->frame, lo, hi;

    p->frame = 0;
    if (!byteset_empty(keep)) {
        m->pin = p;
        p->frame = frame_alloc(c, m, true);
        m->pin = NULL;
        if (!p->frame) {
            /* Not one frame of the overflow is left. The kernel's copy cannot be told apart any
             * more; the bytes that are not committed stay where they are. */
            p->frame = old;
            if (page_mapped(m, p))
                mapping_untracked(m);
            p->flags &= (uint16_t)~PG_MAPPED;
            COUNT(c, alarms, 1);
            return;
        }
        for (uint32_t at = 0; byteset_run(c, keep, at, &lo, &hi); at = hi)
            memcpy(frame_at(c, p->frame) + lo, frame_at(c, old) + lo, hi - lo);
    }
    if (twin)
        page_set_twin(m, p, old);
    else
        frame_unref(c, old);
}

void page_part(struct mapping *m, struct page *p)
{
    if (p->frame && ((page_mapped(m, p) && !page_twin(m->c, p)) || frame_count(m->c, p->frame) > 1))
        page_replace_frame(m, p, p->valid);
    if (page_mapped(m, p) && !page_twin(m->c, p)) {
        mapping_untracked(m);
        p->flags &= (uint16_t)~PG_MAPPED;
    }
}

bool page_shrink(struct mapping *m, struct page *p)
{
    struct cache *c = m->c;
    const struct page_more *x = page_more(c, p);

    p->generation = m->generation;
    if (FAULT(clear_dirty) && !p->nfetch && byteset_empty(x->inflight)) {
        if (!byteset_empty(x->dirty))
            POINT_AT("page.dropped", p->index);
        mapping_remove(m, p);
        return true;
    }
    if (page_mapped(m, p) && !mapping_tracks(m)) {
        mapping_untracked(m);
        p->flags &= (uint16_t)~PG_MAPPED;
    }
    if (page_clean(c, p) && !p->nfetch && !page_mapped(m, p)) {
        mapping_remove(m, p);
        return true;
    }

    byteset keep = byteset_dup(c, x->dirty);

    byteset_or(c, &keep, x->inflight);
    if (!FAULT(shrink_drops_unstable)) {
        byteset_or(c, &keep, x->unstable);
        byteset_or(c, &keep, x->committing);
    }
    if (p->nfetch && !page_uptodate(p)) {
        byteset gone = byteset_dup(c, p->valid);

        byteset_subtract(c, &gone, keep);
        if (!byteset_empty(gone))
            p->flags |= PG_RETRY;
        byteset_clear(c, &gone);
    }
    if (p->frame && !FAULT(clear_uptodate) &&
        (byteset_empty(keep) || (frame_count(c, p->frame) > 1 && !FAULT(map_count)) ||
         (page_mapped(m, p) && !x->twin)))
        page_replace_frame(m, p, keep);
    byteset_clear(c, &p->valid);
    p->valid = keep;
    page_update(m, p);
    return byteset_empty(keep);
}

/* ---- size, token, errors ---- */

uint64_t mapping_size(const struct mapping *m)
{
    return atomic_load_explicit(&m->size, memory_order_acquire);
}

static bool has_pages(const struct mapping *m)
{
    return m->npages || m->fetches || m->untracked;
}

bool mapping_adopt(struct mapping *m, const struct token *t)
{
    mapping_lock(m);

    bool empty = !has_pages(m);

    if (empty) {
        m->token = *t;
        wb_forget_edges(m);
        atomic_store_explicit(&m->size, t->size, memory_order_release);
    }
    mapping_unlock(m);
    return empty;
}

void mapping_given_beyond(struct mapping *m, uint64_t end)
{
    uint64_t size = mapping_size(m);

    if (end <= ((size + PAGE_MASK) & ~(uint64_t)PAGE_MASK))
        return;
    mapping_lock(m);
    mapping_untracked(m);
    mapping_unlock(m);
}

bool mapping_spent(struct mapping *m, const struct token *t)
{
    if (pthread_mutex_trylock(&m->lock) != 0)
        return false;

    bool used = has_pages(m) || m->holds || m->host_held || m->readers || m->syncs ||
                m->truncates || m->blocked || m->unmapping || m->plain_unmaps || m->writers;
    bool same = m->token.valid ? token_same(&m->token, t) : !t->valid;
    bool spent = !used && same && mapping_size(m) == t->size && !m->last_error;

    pthread_mutex_unlock(&m->lock); /* nothing was held, so no host is to be let go */
    return spent;
}

bool mapping_has_pages(struct mapping *m)
{
    mapping_lock(m);

    bool has = has_pages(m);

    mapping_unlock(m);
    return has;
}

bool mapping_is_busy(struct mapping *m)
{
    mapping_lock(m);

    bool busy = m->ndirty || m->ninflight || m->nunstable;

    mapping_unlock(m);
    return busy;
}

bool mapping_is_dirty(struct mapping *m)
{
    mapping_lock(m);

    bool dirty = m->ndirty || m->ninflight;

    mapping_unlock(m);
    return dirty;
}

bool mapping_local_mtime(struct mapping *m, struct timespec *out)
{
    mapping_lock(m);

    bool dirty = m->ndirty || m->ninflight;

    *out = m->local_mtime;
    mapping_unlock(m);
    return dirty;
}

bool mapping_writer_add(struct mapping *m)
{
    mapping_lock(m);
    m->writers++;

    /* Under kernel_writeback a write(2) has made its page dirty before it lets go of it: no
     * notification can come in between, and no twin is needed. */
    bool unmap = !m->c->config.kernel_writeback && (m->untracked || m->plain_unmaps);

    mapping_unlock(m);
    return unmap;
}

void mapping_writer_remove(struct mapping *m)
{
    mapping_lock(m);
    assert(m->writers);
    m->writers--;
    mapping_unlock(m);
}

struct token mapping_token(struct mapping *m)
{
    mapping_lock(m);

    struct token t = m->token;

    mapping_unlock(m);
    return t;
}

void mapping_set_token(struct mapping *m, const struct token *t)
{
    mapping_lock(m);
    m->token = *t;
    wb_forget_edges(m);
    mapping_unlock(m);
}

bool mapping_own_change(struct mapping *m, const struct token *pre, const struct token *post)
{
    mapping_lock(m);
    wb_own_change(m, pre, post);

    bool now = token_same(&m->token, post);

    mapping_unlock(m);
    return now;
}

uint64_t mapping_error_sample(struct mapping *m)
{
    mapping_lock(m);

    uint64_t seq = m->error_seq;

    mapping_unlock(m);
    return seq;
}

int mapping_error_check(struct mapping *m, uint64_t *seen)
{
    mapping_lock(m);

    int err = m->error_seq != *seen ? m->error : 0;

    *seen = m->error_seq;
    if (FAULT(error_once))
        m->error = 0;
    mapping_unlock(m);
    return err;
}

int mapping_error_last(struct mapping *m)
{
    mapping_lock(m);

    int err = m->last_error;

    mapping_unlock(m);
    return err;
}

static void count_uncommitted(struct cache *c, const struct page *p, uint64_t *bytes)
{
    const struct page_more *x = page_more(c, p);
    byteset all = byteset_dup(c, x->dirty);

    byteset_or(c, &all, x->inflight);
    byteset_or(c, &all, x->unstable);
    byteset_or(c, &all, x->committing);
    *bytes += byteset_count(c, all);
    byteset_clear(c, &all);
}

uint64_t mapping_discard(struct mapping *m)
{
    struct cache *c = m->c;
    uint64_t bytes = 0, i = 0;

    mapping_lock(m);
    mapping_hold(m);
    for (struct page *p; (p = mapping_next(m, &i)) != NULL; i++) {
        if (!p->more)
            continue;

        struct page_more *x = page_change(c, p);

        count_uncommitted(c, p, &bytes);
        byteset_clear(c, &x->dirty);
        byteset_clear(c, &x->unstable);
        byteset_clear(c, &x->committing);
        page_update(m, p);
    }
    m->unwanted = m->writes_sent; /* a WRITE under way that fails shall not bring them back */
    mapping_unhold(m);
    mapping_unlock(m);
    cache_poke(c); /* who waits below the dirty limit: perhaps nothing else ends it any more */
    return bytes;
}

uint64_t mapping_dirty_bytes(struct mapping *m)
{
    uint64_t bytes = 0, i = 0;

    mapping_lock(m);
    for (struct page *p; (p = mapping_next(m, &i)) != NULL; i++)
        count_uncommitted(m->c, p, &bytes);
    mapping_unlock(m);
    return bytes;
}
