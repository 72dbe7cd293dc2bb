// SPDX-License-Identifier: Apache-2.0
/*
 * Revalidation: the protocol that this project exists for.
 *
 *   0 ask             GETATTR. The same change token: done, no page is touched
 *   1 unmap           the kernel pushes out what it holds dirty, and drops its copies
 *   2 write-and-wait  write the dirty bytes, COMMIT, wait. New stores may come in meanwhile: this
 *                     is the window in which the write of 2006 was lost
 *   3 invalidate      generation + 1, then each page under the lock: clean and no fetch in flight:
 *                     dropped; otherwise shrunk to exactly the bytes that are not yet committed.
 *                     Nothing dirty is dropped, and the walk never stops early
 *   4 unmap again     unconditionally: what a fault installed since step 1 goes as well
 *   5 remember        the token of step 0, moved along by own changes only
 *
 * One pass, no loop: it converges under steady stores, because a page that cannot go is not kept
 * whole and come back for, but shrunk; the next READ fetches what is missing and merges.
 *
 * What each step is there for, and what happens without it: docs/protocol.md.
 *
 * Errors: that of asking is returned, and nothing was discarded (I6). An unmap that fails means
 * that the mount is gone. A WRITE that fails does not end the revalidation: its bytes stay dirty,
 * and are kept by step 3.
 */
#include "cache/internal.h"

#ifdef NFSCACHED_LAB
#define WALK_BATCH 1 /* whatever may come in between shall */
#else
#define WALK_BATCH 256 /* pages between two breaths */
#endif

/* ---- unmap, with the bookkeeping of twins ---- */

/* Copies of pages [first, end) given before unmap number `seq` are gone. */
static void copies_gone(struct mapping *m, uint64_t first, uint64_t end, uint32_t seq, bool all)
{
    uint64_t i = first;

    if (all && (int32_t)(seq - m->unmapped) > 0)
        m->unmapped = seq;
    for (; set_next(m->twins, &i) && i < end; i++) {
        struct page *p = mapping_find(m, i);

        if ((int32_t)(p->kseq - seq) >= 0 && !FAULT(twin_freed_by_any_unmap))
            continue;
        page_drop_twin(m, p);
        p->flags &= (uint16_t)~PG_MAPPED;
        if (page_clean(m->c, p) && !p->nfetch && byteset_empty(p->valid))
            mapping_remove(m, p);
    }
    if (all)
        return;
    uint64_t at = first;

    for (struct page *p; (p = mapping_next(m, &at)) != NULL && at < end; at++)
        if ((p->flags & PG_MAPPED) && (int32_t)(p->kseq - seq) < 0)
            p->flags &= (uint16_t)~PG_MAPPED;
}

static int unmap(struct mapping *m, uint64_t off, uint64_t len, bool held)
{
    struct cache *c = m->c;
    uint64_t first = off >> PAGE_SHIFT, end = len ? (off + len) >> PAGE_SHIFT : UINT64_MAX;
    bool all = !off && !len;

    mapping_lock(m);

    uint32_t seq = ++m->unmap_seq;
    bool writers = mapping_written(m) && !held;

    if (!writers)
        m->plain_unmaps++;
    m->unmapping++;
    c->unmapping++;
    mapping_unlock(m);
    cache_poke(c);
    POINT("unmap.begin");

    if (FAULT(lock_over_unmap))
        mapping_lock(m);

    int err = c->kernel->unmap(c->ctx, m, off, len, writers);

    if (FAULT(lock_over_unmap))
        mapping_unlock(m);

    POINT("unmap.done");

    mapping_lock(m);
    m->unmapping--;
    c->unmapping--;
    if (!writers && --m->plain_unmaps == 0)
        pthread_cond_broadcast(&m->plain_done);
    if (!err) {
        copies_gone(m, first, end, seq, all);
        if (all && (int32_t)(m->untracked_seq - seq) < 0)
            m->untracked = false;
    }
    mapping_unlock(m);
    return err;
}

int mapping_unmap(struct mapping *m, uint64_t off, uint64_t len)
{
    return unmap(m, off, len, false);
}

int mapping_unmap_held(struct mapping *m, uint64_t off, uint64_t len)
{
    return unmap(m, off, len, true);
}

int mapping_unmap_all(struct mapping *m)
{
    /* A plain unmap that began before this writer could hit its write(2): it has to be over. */
    mapping_lock(m);
    while (m->plain_unmaps)
        pthread_cond_wait(&m->plain_done, &m->lock);
    mapping_unlock(m);
    return mapping_unmap(m, 0, 0);
}

/* ---- step 0 ---- */

struct asked {
    struct cache_getattr g;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void answered(struct cache_getattr *g)
{
    struct asked *a = (struct asked *)g;

    pthread_mutex_lock(&a->lock);
    a->done = true;
    pthread_cond_signal(&a->cond);
    pthread_mutex_unlock(&a->lock);
}

static int ask(struct mapping *m, struct attr *out)
{
    struct asked a = {.g = {.m = m, .done = answered},
                      .lock = PTHREAD_MUTEX_INITIALIZER,
                      .cond = PTHREAD_COND_INITIALIZER};

    m->c->remote->getattr(m->c->ctx, &a.g);
    pthread_mutex_lock(&a.lock);
    while (!a.done)
        pthread_cond_wait(&a.cond, &a.lock);
    pthread_mutex_unlock(&a.lock);
    *out = a.g.attr;
    return a.g.error;
}

/* ---- step 3 ---- */

static void invalidate(struct mapping *m, struct cache_reval_result *result)
{
    uint64_t i = 0;
    unsigned batch = 0;

    mapping_lock(m);
    if (!m->cut_noted)
        m->grow_to = m->reval_cur.size;
    if (!FAULT(generation_after_the_walk))
        m->generation++;
    for (struct page *p; (p = mapping_next(m, &i)) != NULL; i++) {
        if (p->generation != m->generation || FAULT(generation_after_the_walk)) {
            if (page_shrink(m, p))
                result->dropped++;
            else
                result->kept++;
        }
        if (FAULT(stop_at_first) && result->kept)
            break;
        if (++batch % WALK_BATCH == 0) {
            mapping_unlock(m);
            POINT_AT("reval.page", i);
            mapping_lock(m);
        }
    }
    if (FAULT(generation_after_the_walk))
        m->generation++;
    mapping_unlock(m);
}

/* ---- step 5 ---- */

/* The end of the last byte that the server has not committed. */
static uint64_t local_end(struct mapping *m)
{
    uint64_t last = UINT64_MAX, end = m->acked_end;
    uint32_t lo, hi;

    if (!m->holds || !(m->ndirty || m->ninflight || m->nunstable))
        return end;

    struct page *p = mapping_prev(m, &last);

    while (p && page_clean(m->c, p) && last-- > 0)
        p = mapping_prev(m, &last);
    if (!p || page_clean(m->c, p))
        return end;

    const struct page_more *x = page_more(m->c, p);
    byteset set[] = {x->dirty, x->inflight, x->unstable, x->committing};

    for (unsigned k = 0; k < 4; k++)
        for (uint32_t at = 0; byteset_run(m->c, set[k], at, &lo, &hi); at = hi)
            if ((p->index << PAGE_SHIFT) + hi > end)
                end = (p->index << PAGE_SHIFT) + hi;
    return end;
}

static void remember(struct mapping *m)
{
    mapping_lock(m);

    uint64_t end = FAULT(size_shrink) ? 0 : local_end(m),
             size = m->reval_cur.size > end ? m->reval_cur.size : end;

    m->token = m->reval_cur;
    if (m->cut_noted) {
        /* Whether the answer of step 0 is of before or of after our truncation, nobody knows: its
         * size counts for nothing, and the next revalidation asks and looks again. */
        size = mapping_size(m);
        m->token.valid = false;
    }
    m->reval_cur.valid = false;
    m->grow_to = 0;
    m->acked_noted = m->cut_noted = false;
    /* Smaller only here, and in truncation: after an unmap: see fuse/io.c. */
    atomic_store_explicit(&m->size, size, memory_order_release);
    mapping_unhold(m);
    mapping_unlock(m);
}

static void give_up(struct mapping *m)
{
    mapping_lock(m);
    m->reval_cur.valid = false;
    m->grow_to = 0;
    m->acked_noted = m->cut_noted = false;
    mapping_unhold(m);
    mapping_unlock(m);
}

/* Looks whether there is anything to do. While the answer is under way, own WRITEs are noted: a
 * size sampled before one of them must not cut the file. */
static int begin(struct mapping *m, const struct attr *cur, bool force, bool *changed)
{
    struct token now;
    struct attr asked;
    int err;

    *changed = false;
    if (cur && !force) {
        struct token have = mapping_token(m);

        now = token_of(cur);
        if (token_equal(&now, &have))
            return 0;
    }
    mapping_lock(m);
    m->acked_end = 0;
    m->acked_noted = true;
    mapping_unlock(m);
    err = ask(m, &asked);

    mapping_lock(m);
    now = token_of(&asked);
    if (!err && (force || !token_equal(&now, &m->token))) {
        *changed = true;
        mapping_hold(m);
        m->reval_cur = now;
        if (FAULT(token_first))
            m->token = now;
    } else {
        m->acked_noted = m->cut_noted = false;
    }
    mapping_unlock(m);
    return err;
}

int mapping_revalidate(struct mapping *m, const struct attr *cur, bool force,
                       struct cache_reval_result *result)
{
    struct cache *c = m->c;
    struct cache_reval_result r = {0};
    struct attr late;
    int err;

    if (!FAULT(no_reval_lock))
        pthread_mutex_lock(&m->reval_lock);
    COUNT(c, asked, 1);

    /* 0 ask */
    err = begin(m, cur, force, &r.changed);
    if (err || !r.changed)
        goto out;
    COUNT(c, changed, 1);
    POINT("reval.asked");

    /* 1 unmap */
    err = FAULT(no_first_unmap) ? 0 : mapping_unmap(m, 0, 0);
    POINT("reval.unmapped");
    if (!err) {
        /* 2 write and wait */
        if (!FAULT(no_wait))
            cache_sync_wait(m);
        POINT("reval.waited");

        /* 3 invalidate */
        invalidate(m, &r);
        POINT("reval.invalidated");

        /* 4 unmap again */
        if (!FAULT(no_second_unmap))
            err = mapping_unmap(m, 0, 0);
        COUNT(c, second, 1);
        POINT("reval.unmapped-again");
    }

    /* 5 remember */
    if (FAULT(token_late) && ask(m, &late) == 0)
        m->reval_cur = token_of(&late);
    if (err)
        give_up(m);
    else
        remember(m);
    POINT("reval.done");
    COUNT(c, dropped, r.dropped);
    COUNT(c, kept, r.kept);
out:
    if (!FAULT(no_reval_lock))
        pthread_mutex_unlock(&m->reval_lock);
    if (result)
        *result = r;
    return err;
}
