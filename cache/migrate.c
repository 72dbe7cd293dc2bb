// SPDX-License-Identifier: Apache-2.0
/*
 * Pages move, while they are in use: out of frames that go (frames.c), into lower ones.
 *
 * There is no way from a frame to its page, so all pages are walked, a batch at a time under their
 * mapping's lock. What may be in a frame that goes, and how it leaves:
 *
 *   a page's bytes   clean, dirty, in flight, unstable: the same. Copied and switched under the
 * lock under which everybody else finds the page's frame, changes its bytes, or takes a reference.
 *   a twin           likewise.
 *   the frame of a fetch under way   is written to by the network, which knows its address: it is
 *                    left alone. When the fetch ends it belongs to a page, and the next walk moves
 *                    it; or to nobody.
 *   masks            belong to one set of one page: copied as well. Free ones are not handed out
 *                    again (frames.c).
 *
 * Pinned pages. A frame may have other holders: a READ being answered, a READ parked until its
 * other pages are there, a WRITE under way. All of them only read it, and keep the address. They
 * are not waited for: the page moves, and the old frame stays as it was at that moment until the
 * last of them lets go. So the bytes that go out, to the application or to the server, are those of
 * the page when it moved, or of before. What is written later is in the new frame alone, is dirty
 * there, and goes out by a WRITE of its own; it is no loss for a reader, whose READ had been
 * answered before. Waiting for them instead would not end under steady readers.
 *
 * The kernel's copy. Where the page's frame is the twin it still is: the new one has the same
 * bytes.
 *
 * Page records, the first and the second, move in the same walk: nobody has the address of one
 * without the mapping's lock, but for the reclaim queues, which change under the pool lock.
 *
 * A death in between (I9) leaves the old frame or the new one in the record, both whole; or two
 * records of one page with the same content.
 */
#include <string.h>

#include "cache/internal.h"
#include "cache/point.h"

#define MOVE_BATCH 32  /* pages with the lock held */
#define LOOK_BATCH 512 /* ... at most, moved or not */
#ifdef NFSCACHED_LAB
#define LATE_MOST 64
#else
#define LATE_MOST 1
#endif

struct walk {
    uint32_t records; /* those above move */
    uint32_t late[LATE_MOST], nlate;
};

/* Moves the frame that *slot names; the page's own, or its twin. False: there is no room below. */
static bool move_frame(struct mapping *m, const struct page *p, uint32_t *slot, struct walk *w)
{
    struct cache *c = m->c;
    uint64_t index = p->index;
    uint32_t old = *slot;

    POINT_AT("migrate.found", index);
    if (FAULT(migrate_wait_pinned) && frame_count(c, old) > 1)
        return false;

    /* 1 a place */
    uint32_t to = frame_take_below(c, old);

    if (!to)
        return false;

    /* 2 copy: who changes these bytes holds the lock that we hold */
    if (FAULT(migrate_seqcount)) {
        mapping_hold(m);
        pthread_mutex_unlock(&m->lock);
    }
    memcpy(frame_at(c, to), frame_at(c, old), PAGE_SIZE);
    POINT_AT("migrate.copied", index);
    if (FAULT(migrate_seqcount)) {
        mapping_lock(m);
        mapping_unhold(m);
        if (mapping_find(m, index) != p || *slot != old) {
            frame_unref(c, to);
            return false;
        }
    }

    /* 3 switch: from here on everybody is given the new one */
    atomic_thread_fence(memory_order_release);
    *slot = to;
    COUNT(c, moved, 1);

    /* 4 let go: other holders go on with the old bytes, and the last of them frees it */
    if (FAULT(migrate_lazy_cleanup) && w->nlate < LATE_MOST)
        w->late[w->nlate++] = old;
    else
        frame_unref(c, old);
    POINT_AT("migrate.switched", index);
    return true;
}

static void move_record(struct mapping *m, struct page *p, uint32_t from)
{
    struct cache *c = m->c;
    uint32_t to = slab_alloc_below(c->page_slab, from);

    if (!to)
        return;
    assert(m->pin != p);
    reclaim_move(m, p, page_at(c, to));
    if (p->more)
        slab_publish(&page_change(c, p)->live, to);
    mapping_move(m, p->index, to);
    slab_free(c->page_slab, from);
}

static void move_more(struct cache *c, struct page *p)
{
    uint32_t from = p->more, to = slab_alloc_below(c->more_slab, from);
    struct page_more *x = arena_at(c->arena, ARENA_MORE, to);

    if (!to)
        return;
    *x = *page_more(c, p);
    atomic_thread_fence(memory_order_release);
    p->more = to;
    slab_free(c->more_slab, from);
}

/* True: something of it was moved. */
static bool move_page(struct mapping *m, struct page *p, struct walk *w)
{
    struct cache *c = m->c;
    uint32_t record = page_record(c, p);
    bool moved = false;

    if (p->frame && frame_goes(c, p->frame))
        moved |= move_frame(m, p, &p->frame, w);
    byteset_migrate(c, &p->valid);
    if (p->more > w->records)
        move_more(c, p);
    if (p->more) {
        struct page_more *x = page_change(c, p);

        if (x->twin && frame_goes(c, x->twin))
            moved |= move_frame(m, p, &x->twin, w);
        byteset_migrate(c, &x->dirty);
        byteset_migrate(c, &x->inflight);
        byteset_migrate(c, &x->unstable);
        byteset_migrate(c, &x->committing);
    }
    if (record > w->records)
        move_record(m, p, record);
    return moved;
}

static bool move_some(struct mapping *m, uint64_t *index, void *arg)
{
    unsigned moved = 0;

    for (unsigned n = 0; n < LOOK_BATCH && moved < MOVE_BATCH; n++, ++*index) {
        struct page *p = mapping_next(m, index);

        if (!p)
            return false;
        moved += move_page(m, p, arg);
    }
    return true;
}

void migrate(struct cache *c, uint32_t records)
{
    struct walk w = {.records = records};

    cache_walk(c, move_some, &w);
    while (w.nlate)
        frame_unref(c, w.late[--w.nlate]);
}
