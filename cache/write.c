// SPDX-License-Identifier: Apache-2.0
/*
 * WRITE, of three kinds.
 *
 *   write(2)      marks exactly its bytes, and the twin takes them too: the kernel's copy has them
 *   mapped store  arrives as whole pages, written back by the kernel: compared byte by byte with
 * the twin; only what differs was stored, only that is marked and copied; then the twin takes all
 * of it O_DIRECT      marks exactly its bytes; the kernel's copy does not take them, so page and
 * twin part
 *
 * None reads first: a page that is not uptodate knows which of its bytes are valid.
 *
 * A write(2) whose request number is below that of a mapped writeback applied to the page already
 * was made before it, and overtaken: it only marks what nothing was stored over.
 *
 * No twin for a mapped page: it should not happen (page.h); then all of it is marked, counted as an
 * alarm, and nothing is fetched to compare with: a base that the kernel was not given proves
 * nothing.
 *
 * A WRITE waits only for memory or below the hard dirty limit, in order of arrival; a mapped page
 * never waits for the limit, because an unmap may be waiting for it.
 *
 * Under kernel_writeback all that is written comes as mapped pages, most of them never fetched: no
 * twin is no alarm, and they wait like write(2) unless an unmap of their file is under way.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/internal.h"

/* WRITEs; a shorter stream may be a file that is soon removed, or rewritten. */
#define STREAM_LEAST 4

static void mark(struct mapping *m, struct page *p, uint32_t lo, uint32_t hi, uint16_t cred)
{
    struct cache *c = m->c;
    struct page_more *x = page_change(c, p);

    if (!m->ndirty && !m->ninflight)
        m->dirty_since_ns = cache_coarse_ns();
    byteset_add(c, &p->valid, lo, hi);
    byteset_add(c, &x->dirty, lo, hi);
    x->cred = cred;
    if (m->blocked) {
        p->flags |= PG_LATE;
        m->late = true;
    }
}

/* May it wait for the dirty limit, and for memory other than the overflow? */
static bool limited(const struct cache_write *w)
{
    return w->kind != CACHE_WRITE_MAPPED ||
           (w->m->c->config.kernel_writeback && !atomic_load(&w->m->unmapping));
}

/* The page with a frame to write into. NULL: out of memory. */
static struct page *page_for_write(struct mapping *m, uint64_t index, bool emergency)
{
    struct cache *c = m->c;
    struct page *p = mapping_find(m, index);

    if (p && p->frame)
        return p;

    m->pin = p; /* of its own mapping, too: a page that is not there yet is looked for again */

    uint32_t frame = frame_alloc(c, m, emergency);

    m->pin = NULL;

    if (!frame)
        return NULL;
    p = mapping_find(m, index);
    if (!p)
        p = mapping_add(m, index);
    if (!p) {
        frame_unref(c, frame);
        return NULL;
    }
    p->frame = frame;
    return p;
}

/* A mapped writeback of the page that was made later came first. It had these bytes, or what was
 * stored over them since: the twin tells which. What is as it was written is marked (the writeback
 * did not, where the kernel's copy had it before, and somebody else may have changed the file);
 * what is not was marked then, as a store, and may have been committed and invalidated meanwhile,
 * so that it is not valid any more: it must not come back. False: there is nothing to tell by. */
static bool overtaken(struct cache_write *w, struct page *p, uint32_t lo, uint32_t hi,
                      const uint8_t *data)
{
    struct mapping *m = w->m;
    struct cache *c = m->c;
    uint32_t twin = page_twin(c, p);
    const uint8_t *base = frame_at(c, twin ? twin : p->frame);

    if (!twin && !byteset_contains(c, p->valid, lo, hi))
        return false;
    for (uint32_t at = lo, end; at < hi; at = end + 1) {
        for (end = at; end < hi && base[end] == data[end - lo]; end++)
            ;
        if (end > at) {
            memcpy(frame_at(c, p->frame) + at, data + (at - lo), end - at);
            mark(m, p, at, end, w->cred);
        }
    }
    return true;
}

static bool write_call(struct cache_write *w, uint64_t index, uint32_t lo, uint32_t hi,
                       const uint8_t *data)
{
    struct mapping *m = w->m;
    struct cache *c = m->c;
    /* It holds the inode's lock in the kernel, for which an unmap may be waiting. */
    struct page *p = page_for_write(m, index, m->unmapping);

    if (!p)
        return false;
    if (w->kind == CACHE_WRITE_CALL && w->unique < page_more(c, p)->unique &&
        overtaken(w, p, lo, hi, data))
        return true;
    if (w->kind == CACHE_WRITE_DIRECT && !FAULT(direct_no_part))
        page_part(m, p);
    memcpy(frame_at(c, p->frame) + lo, data, hi - lo);
    if (FAULT(extend_write) && page_uptodate(p))
        mark(m, p, 0, PAGE_SIZE, w->cred);
    mark(m, p, lo, hi, w->cred);
    if (w->kind == CACHE_WRITE_DIRECT)
        return true;
    if (lo == 0 && hi == PAGE_SIZE)
        page_given(m, p);
    else if (page_twin(c, p))
        memcpy(frame_at(c, page_twin(c, p)) + lo, data, hi - lo);
    return true;
}

static bool same_words(const uint8_t *a, const uint8_t *b)
{
    uint64_t x[4], y[4];

    memcpy(x, a, sizeof x);
    memcpy(y, b, sizeof y);
    return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3])) == 0;
}

/* The next run of bytes that differ, within [*lo, hi). */
static bool differing(const uint8_t *a, const uint8_t *b, uint32_t *lo, uint32_t *end, uint32_t hi)
{
    uint32_t i = *lo;

    while (i + 32 <= hi && same_words(a + i, b + i))
        i += 32;
    while (i < hi && a[i] == b[i])
        i++;
    *lo = i;
    while (i < hi && a[i] != b[i])
        i++;
    *end = i;
    return *lo < i;
}

static bool write_unknown(struct cache_write *w, uint64_t index, uint32_t lo, uint32_t hi,
                          const uint8_t *data)
{
    struct mapping *m = w->m;
    struct cache *c = m->c;
    struct page *p = page_for_write(m, index, !limited(w));

    if (!p)
        return false;
    if (!c->config.kernel_writeback)
        COUNT(c, alarms, 1);
    memcpy(frame_at(c, p->frame) + lo, data, hi - lo);
    mark(m, p, lo, hi, w->cred);
    page_given(m, p);
    if ((lo != 0 || hi != PAGE_SIZE) && c->config.kernel_writeback) {
        mapping_untracked(m);
        p->flags &= (uint16_t)~PG_MAPPED;
    } else if (lo != 0 || hi != PAGE_SIZE) {
        m->pin = p;

        uint32_t twin = frame_alloc(c, m, true);

        m->pin = NULL;
        if (twin) {
            memset(frame_at(c, twin), 0, PAGE_SIZE);
            memcpy(frame_at(c, twin) + lo, data, hi - lo);
            page_set_twin(m, p, twin);
        } else {
            p->flags &= (uint16_t)~PG_MAPPED;
        }
    }
    return true;
}

static bool write_mapped(struct cache_write *w, uint64_t index, uint32_t lo, uint32_t hi,
                         const uint8_t *data)
{
    struct mapping *m = w->m;
    struct cache *c = m->c;
    struct page *p = mapping_find(m, index);
    uint32_t twin = p ? page_twin(c, p) : 0;
    bool known = p && (twin || (page_mapped(m, p) && p->frame && page_uptodate(p)));

    if (!known) {
        if (!write_unknown(w, index, lo, hi, data))
            return false;
        p = mapping_find(m, index);
    } else if (twin) {
        const uint8_t *base =
            frame_at(c, FAULT(compare_with_the_page) && p->frame ? p->frame : twin);
        uint32_t end;

        if (memcmp(base + lo, data, hi - lo) != 0) {
            if (!page_for_write(m, index, !limited(w)))
                return false;
            for (uint32_t at = lo; differing(base, data - lo, &at, &end, hi); at = end) {
                memcpy(frame_at(c, p->frame) + at, data - lo + at, end - at);
                mark(m, p, at, end, w->cred);
            }
            memcpy(frame_at(c, twin) + lo, data, hi - lo);
        }
    } else {
        uint8_t *base = frame_at(c, p->frame);
        uint32_t end;

        for (uint32_t at = lo; differing(base, data - lo, &at, &end, hi); at = end) {
            memcpy(base + at, data - lo + at, end - at);
            mark(m, p, at, end, w->cred);
        }
    }
    if (w->unique > page_more(c, p)->unique)
        page_change(c, p)->unique = w->unique;
    return true;
}

/* Mapping lock held. True: all of it was taken. */
static bool write_some(struct cache_write *w, struct cache_read **done)
{
    struct mapping *m = w->m;
    bool waits = limited(w);

    while (w->progress < w->count) {
        uint64_t at = w->offset + w->progress, index = at >> PAGE_SHIFT;
        uint32_t lo = at & PAGE_MASK;
        uint32_t n =
            PAGE_SIZE - lo < w->count - w->progress ? PAGE_SIZE - lo : w->count - w->progress;
        const uint8_t *data = (const uint8_t *)w->data + w->progress;

        if (waits && wb_over_limit_with(m))
            return false;
        if (!pool_settle(m->c, m) && waits && !m->unmapping) {
            reclaim_wake(m->c);
            return false;
        }
        if (!(w->kind == CACHE_WRITE_MAPPED ? write_mapped : write_call)(w, index, lo, lo + n,
                                                                         data))
            return false;

        struct page *p = mapping_find(m, index);

        page_update(m, p);
        if (m->readers && page_uptodate(p))
            read_advance(m, index, index + 1, done);
        w->progress += n;
        if (at + n > mapping_size(m))
            atomic_store_explicit(&m->size, at + n, memory_order_release);
    }
    clock_gettime(CLOCK_REALTIME, &m->local_mtime);
    return true;
}

static void park(struct cache_write *w, bool first)
{
    struct cache *c = w->m->c;

    mapping_hold(w->m);
    COUNT(c, throttled, 1);
    pthread_mutex_lock(&c->wait_lock);
    w->next = first ? c->parked : NULL;
    if (first) {
        if (!c->parked)
            c->parked_tail = &w->next;
        c->parked = w;
    } else {
        *c->parked_tail = w;
        c->parked_tail = &w->next;
    }
    c->any_parked = true;
    pthread_mutex_unlock(&c->wait_lock);
    reclaim_wake(c);
}

static bool others_parked(struct cache *c)
{
    return c->any_parked;
}

/* Writes in sequence: what fills whole WRITEs goes out. Mapping lock held. */
static void stream(struct cache_write *w)
{
    struct mapping *m = w->m;
    uint64_t end = w->offset + w->count, wsize = m->c->config.wsize;

    m->stream_bytes = w->offset == m->stream_end ? m->stream_bytes + w->count : w->count;
    m->stream_end = end;
    if (m->stream_bytes < STREAM_LEAST * wsize || w->sync_follows ||
        end / wsize == w->offset / wsize)
        return;
    m->behind_to = end / wsize * (wsize >> PAGE_SHIFT);
    wb_behind(m);
}

int cache_write(struct cache_write *w)
{
    struct mapping *m = w->m;
    struct cache *c = m->c;
    struct cache_read *done = NULL;
    bool all = false;
    bool nowait =
        w->nowait; /* once it is parked and the lock given back, it may be done and gone */

    w->progress = 0;
    w->error = 0;
    mapping_lock(m);
    mapping_hold(m);
    if (!limited(w) || !others_parked(c))
        all = write_some(w, &done);
    mapping_settle(m);
    if (!all && !nowait)
        park(w, false);
    if (!all || wb_over_background(c))
        wb_kick_mapping(m, false);
    else if (w->kind == CACHE_WRITE_CALL || c->config.kernel_writeback)
        stream(w);
    mapping_unhold(m);
    mapping_unlock(m);
    POINT("write.taken");
    read_finish(done);
    if (!all)
        cache_kick(c);
    else
        wb_pump(c);
    /* What it waited for may have come between the look and the parking. */
    if (!all && !nowait && !wb_over_limit(c))
        cache_poke(c);
    return all ? 0 : nowait ? -EAGAIN : -EINPROGRESS;
}

/* Again, after it was taken off the list of the parked. */
static bool again(struct cache_write *w, bool first)
{
    struct mapping *m = w->m;
    struct cache *c = m->c;
    struct cache_read *done = NULL;

    mapping_lock(m);

    bool all = (w->given_up && atomic_load(w->given_up)) || write_some(w, &done);

    if (!all) {
        park(w, first);
        wb_kick_mapping(m, false);
    }
    mapping_unhold(m); /* of the first park() */
    mapping_unlock(m);
    read_finish(done);
    if (all)
        w->done(w);
    else
        wb_pump(c);
    return all;
}

bool write_unpark(struct cache *c)
{
    pthread_mutex_lock(&c->wait_lock);

    struct cache_write *w = c->parked;

    if (w && limited(w) && wb_over_limit(c))
        w = NULL;
    if (w) {
        c->parked = w->next;
        if (!c->parked)
            c->parked_tail = &c->parked;
    }
    c->any_parked = c->parked != NULL;
    pthread_mutex_unlock(&c->wait_lock);
    return w && again(w, true);
}

void write_unpark_urgent(struct cache *c)
{
    struct cache_write *urgent = NULL;

    pthread_mutex_lock(&c->wait_lock);
    for (struct cache_write **at = &c->parked; *at;) {
        struct cache_write *w = *at;

        if (!atomic_load(&w->m->unmapping) || (w->kind != CACHE_WRITE_MAPPED && wb_over_limit(c))) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = urgent;
        urgent = w;
    }
    c->parked_tail = &c->parked;
    while (*c->parked_tail)
        c->parked_tail = &(*c->parked_tail)->next;
    c->any_parked = c->parked != NULL;
    pthread_mutex_unlock(&c->wait_lock);
    for (struct cache_write *next; urgent; urgent = next) {
        next = urgent->next;
        again(urgent, false);
    }
}

struct cache_write *write_take_held(struct cache *c)
{
    struct cache_write *w = NULL;

    pthread_mutex_lock(&c->wait_lock);
    for (struct cache_write **at = &c->parked; *at && !wb_over_limit(c); at = &(*at)->next) {
        if ((*at)->kind == CACHE_WRITE_MAPPED || ((*at)->hold && !(*at)->hold(*at, true)))
            continue;
        w = *at;
        *at = w->next;
        if (!w->next)
            c->parked_tail = at;
        break;
    }
    c->any_parked = c->parked != NULL;
    pthread_mutex_unlock(&c->wait_lock);
    return w;
}

void write_give_back(struct cache_write *w)
{
    if (w->hold)
        w->hold(w, false);
    again(w, false);
}
