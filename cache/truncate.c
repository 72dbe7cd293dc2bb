// SPDX-License-Identifier: Apache-2.0
/*
 * Truncation, around the server's SETATTR.
 *
 * A WRITE that reaches the server after the SETATTR would make the file long again, so none may be
 * under way: begin stops writeback and waits for those in flight. A READ that is under way may
 * bring bytes of before: the generation is counted up, so that they are not inserted (an absent
 * page cannot be locked; "fill against punch", 2021).
 *
 * Bytes that the application cut off are gone by its own wish; this is not a dropped dirty page.
 * The kernel zeroes the rest of its copy of the last page, so twin and page do the same. What the
 * kernel holds beyond is its own to drop: it holds back its writebacks while SETATTR is under way.
 *
 * The kernel sends no WRITE while its SETATTR waits for us. It does when the caller was killed, and
 * was told EINTR, while SETATTR is still under way: to everybody here that truncation has failed,
 * so what they write then is not cut by it, wherever it lands. Pages know (PG_LATE); old bytes of
 * such a page may survive as well.
 *
 * Errors: none here; the SETATTR's are the caller's, and then nothing is cut.
 */
#include <string.h>

#include "cache/internal.h"

void cache_truncate_begin(struct cache_truncate *t)
{
    struct mapping *m = t->m;
    bool ready;

    mapping_lock(m);
    mapping_hold(m);
    m->blocked++;
    ready = !m->writes_inflight;
    if (!ready) {
        t->next = m->truncates;
        m->truncates = t;
    }
    mapping_unlock(m);
    POINT("truncate.begun");
    if (ready)
        t->ready(t);
}

static void cut_page(struct mapping *m, struct page *p, uint32_t lo)
{
    struct cache *c = m->c;

    if (p->more) {
        struct page_more *x = page_change(c, p);

        byteset_remove(c, &x->dirty, lo, PAGE_SIZE);
        byteset_remove(c, &x->unstable, lo, PAGE_SIZE);
        byteset_remove(c, &x->committing, lo, PAGE_SIZE);
        if (x->twin)
            memset(frame_at(c, x->twin) + lo, 0, PAGE_SIZE - lo);
    }
    if (p->frame) {
        memset(frame_at(c, p->frame) + lo, 0, PAGE_SIZE - lo);
        byteset_add(c, &p->valid, lo, PAGE_SIZE);
    }
    page_update(m, p);
}

static void cut_whole(struct mapping *m, struct page *p, uint64_t *end)
{
    struct cache *c = m->c;
    uint32_t lo, hi;

    if (p->flags & PG_LATE) {
        if (page_shrink(m, p))
            return;
        for (uint32_t at = 0; byteset_run(c, page_more(c, p)->dirty, at, &lo, &hi); at = hi)
            *end = (p->index << PAGE_SHIFT) + hi;
        return;
    }
    if (!p->nfetch) {
        mapping_remove(m, p);
        return;
    }
    byteset_clear(c, &p->valid);
    if (p->more) {
        struct page_more *x = page_change(c, p);

        byteset_clear(c, &x->dirty);
        byteset_clear(c, &x->unstable);
        byteset_clear(c, &x->committing);
    }
    page_drop_twin(m, p);
    p->flags &= (uint16_t)~PG_MAPPED;
    frame_unref(c, p->frame);
    p->frame = 0;
    page_update(m, p);
}

/* The size of the file then. */
static uint64_t cut(struct mapping *m, uint64_t size)
{
    uint64_t i = size >> PAGE_SHIFT, end = size;
    uint32_t lo = size & PAGE_MASK;
    struct page *p;

    m->generation++;
    if (lo) {
        p = mapping_find(m, i);
        if (p && p->flags & PG_LATE)
            cut_whole(m, p, &end);
        else if (p)
            cut_page(m, p, lo);
        i++;
    }
    for (; (p = mapping_next(m, &i)) != NULL; i++)
        cut_whole(m, p, &end);
    return end > size ? end : size;
}

static void nothing_is_late(struct mapping *m)
{
    uint64_t i = 0;

    for (struct page *p; (p = mapping_next(m, &i)) != NULL; i++)
        p->flags &= (uint16_t)~PG_LATE;
    m->late = false;
}

void cache_truncate_end(struct cache_truncate *t, bool done)
{
    struct mapping *m = t->m;
    struct cache *c = m->c;

    mapping_lock(m);
    m->cut_noted = m->acked_noted;
    m->grow_to = 0;
    if (done) /* also where it is no shorter here: somebody else may have made it longer there */
        atomic_store_explicit(&m->size, cut(m, t->size), memory_order_release);
    if (--m->blocked == 0) {
        if (m->late)
            nothing_is_late(m);
        wb_resume(m);
    }
    mapping_unhold(m);
    mapping_unlock(m);
    POINT("truncate.ended");
    wb_pump(c);
    cache_poke(c);
}
