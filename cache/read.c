// SPDX-License-Identifier: Apache-2.0
/*
 * READ.
 *
 *   cache_read -> every page uptodate: reference the frames, done
 *              -> else start fetches for what nobody is fetching, park on mapping->readers
 *   cache_fetch_done -> merge into the pages, hand frames to parked READs, finish those that miss
 *                       nothing any more
 *
 * What a fetch may be used for. It remembers the generation it was started under.
 *  - Same generation at its end: it fills every byte of the page that is not valid already. *All*
 *    locally valid bytes win over the reply, not only the dirty ones: a byte may have been
 *    acknowledged since the fetch was sent (F1).
 *  - Older: nothing is inserted. Only the READ that caused this very fetch may be given the data,
 *    in a frame of its own with the local bytes laid over; that READ was under way before the
 *    revalidation's second unmap, which therefore removes the copy. Everybody else asks anew (F2).
 *    If an invalidation has taken local bytes away that the reply may lack (PG_RETRY), that READ
 *    asks anew as well.
 *
 * A READ holds references to the frames it was given. Should memory run out while it still misses
 * pages it gives everything back and starves in order of arrival: so the one at the head always
 * finds room in the end.
 *
 * Errors: those of the remote READ, to the READ that caused it; others ask for themselves.
 */
#include <stdlib.h>
#include <string.h>

#include "cache/internal.h"

static uint64_t first_page(const struct cache_read *r)
{
    return r->offset >> PAGE_SHIFT;
}

static uint32_t read_pages(const struct cache_read *r)
{
    return r->bytes ? (uint32_t)(((r->offset + r->bytes - 1) >> PAGE_SHIFT) - first_page(r) + 1)
                    : 0;
}

static void read_forget(struct cache_read *r)
{
    uint32_t n = read_pages(r);

    for (uint32_t i = 0; i < n; i++) {
        frame_unref(r->m->c, r->frame[i]);
        r->frame[i] = 0;
    }
    r->missing = n;
}

static void build_iov(struct cache_read *r)
{
    uint32_t n = read_pages(r), left = r->bytes, at = r->offset & PAGE_MASK;

    r->iovcnt = 0;
    for (uint32_t i = 0; i < n; i++, at = 0) {
        uint8_t *base = frame_at(r->m->c, r->frame[i]) + at;
        uint32_t len = PAGE_SIZE - at < left ? PAGE_SIZE - at : left;
        struct iovec *last = r->iovcnt ? &r->iov[r->iovcnt - 1] : NULL;

        if (last && (uint8_t *)last->iov_base + last->iov_len == base)
            last->iov_len += len;
        else
            r->iov[r->iovcnt++] = (struct iovec){base, len};
        left -= len;
    }
}

/* Gives page `p` to the READ as its i-th. */
static void take(struct cache_read *r, uint32_t i, struct page *p)
{
    struct mapping *m = r->m;

    frame_ref(m->c, p->frame);
    r->frame[i] = p->frame;
    r->missing--;
    if (r->kernel)
        page_given(m, p);
    if (p->flags & PG_AHEAD) {
        p->flags &= (uint16_t)~PG_AHEAD;
        COUNT(m->c, ahead_used, 1);
    }
}

/* ---- fetches ---- */

static void fetch_build_iov(struct fetch *f, struct cache *c)
{
    f->rpc.iovcnt = 0;
    for (uint32_t i = 0; i < f->pages; i++) {
        uint8_t *base = frame_at(c, f->frame[i]);
        struct iovec *last = f->rpc.iovcnt ? &f->iov[f->rpc.iovcnt - 1] : NULL;

        if (last && (uint8_t *)last->iov_base + last->iov_len == base)
            last->iov_len += PAGE_SIZE;
        else
            f->iov[f->rpc.iovcnt++] = (struct iovec){base, PAGE_SIZE};
    }
    f->rpc.iov = f->iov;
}

/* A page that an invalidation under way has not come to yet has old bytes, which would be merged
 * into what is fetched now and pass for good: it is shrunk here. */
static struct page *page_to_fetch(struct mapping *m, uint64_t index)
{
    struct page *p = mapping_find(m, index);

    if (p && p->generation != m->generation && !FAULT(old_bytes_under_a_new_fetch)) {
        page_shrink(m, p);
        p = mapping_find(m, index);
    }
    return p ? p : mapping_add(m, index);
}

static struct fetch *fetch_new(struct mapping *m, uint64_t first, uint32_t n, uint16_t cred,
                               struct cache_read *owner, bool direct)
{
    struct fetch *f = malloc(sizeof *f);

    if (!f)
        return NULL;
    f->rpc = (struct cache_fetch){.m = m, .offset = first << PAGE_SHIFT, .cred = cred};
    f->owner = owner;
    f->first = first;
    f->pages = 0;
    f->generation = m->generation;
    f->got = 0;
    f->direct = direct;
    f->overtaken = false;
    for (; f->pages < n; f->pages++) {
        /* An unmap waits for the kernel's READs, and memory may wait for the unmap. */
        uint32_t frame = frame_alloc(m->c, m, m->unmapping && owner && owner->kernel);
        struct page *p = NULL;

        if (!frame)
            break;
        if (!direct && !(p = page_to_fetch(m, first + f->pages))) {
            frame_unref(m->c, frame);
            break;
        }
        if (p) {
            p->nfetch++;
            p->fetch_gen = m->generation;
        }
        f->frame[f->pages] = frame;
    }
    if (!f->pages) {
        free(f);
        return NULL;
    }
    f->rpc.count = f->pages << PAGE_SHIFT;
    fetch_build_iov(f, m->c);
    f->prev = NULL;
    f->next = m->fetches;
    if (f->next)
        f->next->prev = f;
    m->fetches = f;
    m->directs += direct;
    mapping_hold(m);
    COUNT(m->c, fetches, 1);
    return f;
}

uint32_t fetch_start(struct mapping *m, uint64_t first, uint32_t n, uint16_t cred,
                     struct cache_read *owner, bool ahead)
{
    struct fetch *f = fetch_new(m, first, n, cred, owner, false);

    if (!f)
        return 0;
    if (ahead) {
        COUNT(m->c, ahead, f->pages);
        for (uint32_t i = 0; i < f->pages; i++)
            mapping_find(m, first + i)->flags |= PG_AHEAD;
    }

    uint32_t pages = f->pages; /* f may be done before fetch() returns */

    m->c->remote->fetch(m->c->ctx, &f->rpc);
    return pages;
}

static bool fetched_now(const struct mapping *m, const struct page *p)
{
    if (FAULT(attach_to_old_fetch))
        return p && p->nfetch;
    return p && p->nfetch && p->fetch_gen == m->generation;
}

static bool owns_fetch_of(const struct cache_read *r, uint64_t index)
{
    for (const struct fetch *f = r->m->fetches; f; f = f->next)
        if (f->owner == r && index >= f->first && index < f->first + f->pages)
            return true;
    return false;
}

/* Takes what is there and asks for what is missing of pages [lo, hi). False: out of memory. */
static bool read_try(struct cache_read *r, uint64_t lo, uint64_t hi)
{
    struct mapping *m = r->m;
    uint64_t first = first_page(r), end = first + read_pages(r);
    uint32_t most = m->c->config.rsize >> PAGE_SHIFT;

    lo = lo < first ? first : lo;
    hi = hi > end ? end : hi;
    for (uint64_t at = lo; at < hi; at++) {
        if (r->frame[at - first])
            continue;

        struct page *p = mapping_find(m, at);

        if (p && page_uptodate(p)) {
            take(r, (uint32_t)(at - first), p);
            continue;
        }
        if (fetched_now(m, p) || owns_fetch_of(r, at))
            continue;

        uint64_t run = at + 1;

        while (run < hi && run - at < most && !r->frame[run - first]) {
            p = mapping_find(m, run);
            if (p && (page_uptodate(p) || fetched_now(m, p)))
                break;
            run++;
        }
        if (fetch_start(m, at, (uint32_t)(run - at), r->cred, r, false) == 0)
            return false;
        /* What memory did not reach to is found missing again when the loop gets there. */
    }
    return true;
}

static void unpark(struct cache_read *r)
{
    struct cache_read **at = &r->m->readers;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
}

/* The READ gives up its fetches: what they bring goes into the cache only. */
static void disown(struct cache_read *r)
{
    for (struct fetch *f = r->m->fetches; f; f = f->next)
        if (f->owner == r)
            f->owner = NULL;
}

/* Waits for memory: behind the others, or, for one that was at the head already, before them. */
static void starve(struct cache_read *r)
{
    struct cache *c = r->m->c;

    disown(r);
    read_forget(r);
    mapping_hold(r->m);
    pthread_mutex_lock(&c->wait_lock);
    r->next = NULL;
    if (r->starving) {
        r->next = c->starved;
        if (!c->starved)
            c->starved_tail = &r->next;
        c->starved = r;
    } else {
        *c->starved_tail = r;
        c->starved_tail = &r->next;
    }
    c->any_starved = true;
    pthread_mutex_unlock(&c->wait_lock);
    r->ra = NULL;    /* lives in the open file, which a killed reader closes before we come back */
    reclaim_wake(c); /* now that it can be seen: what it lacked may be there already */
}

static bool others_starve(struct cache *c)
{
    return c->any_starved;
}

void read_advance(struct mapping *m, uint64_t lo, uint64_t hi, struct cache_read **done)
{
    for (struct cache_read *r = m->readers, *next; r; r = next) {
        next = r->next;
        if (hi <= first_page(r) || lo >= first_page(r) + read_pages(r))
            continue;

        bool enough = r->error || r->direct || read_try(r, lo, hi);

        if (!enough) {
            unpark(r);
            starve(r);
            continue;
        }
        if (!r->missing || r->error) {
            unpark(r);
            disown(r);
            r->next = *done;
            *done = r;
        }
    }
}

void read_finish(struct cache_read *done)
{
    for (struct cache_read *r = done, *next; r; r = next) {
        next = r->next;
        if (r->error)
            read_forget(r);
        else
            build_iov(r);
        r->done(r);
    }
}

/* ---- the end of a fetch ---- */

static void copy_gaps(struct cache *c, uint8_t *to, const uint8_t *from, byteset valid)
{
    uint32_t at = 0, lo, hi;

    while (byteset_run(c, valid, at, &lo, &hi)) {
        memcpy(to + at, from + at, lo - at);
        at = hi;
    }
    memcpy(to + at, from + at, PAGE_SIZE - at);
}

static void overlay(struct cache *c, uint8_t *to, const uint8_t *from, byteset set)
{
    uint32_t lo, hi;

    for (uint32_t at = 0; byteset_run(c, set, at, &lo, &hi); at = hi)
        memcpy(to + lo, from + lo, hi - lo);
}

static void zero_beyond(struct mapping *m, uint8_t *frame, uint64_t index)
{
    uint64_t size = read_size(m), start = index << PAGE_SHIFT;

    if (start + PAGE_SIZE > size) {
        uint32_t keep = size > start ? (uint32_t)(size - start) : 0;

        memset(frame + keep, 0, PAGE_SIZE - keep);
    }
}

/* An old fetch, for the READ that caused it: a frame of its own. */
static void serve_private(struct cache_read *r, struct page *p, uint64_t index, uint32_t frame)
{
    struct mapping *m = r->m;

    zero_beyond(m, frame_at(m->c, frame), index);
    r->frame[index - first_page(r)] = frame;
    r->missing--;
    if (!r->kernel || !p)
        return;
    page_given(m, p);
    if (mapping_tracks(m)) {
        frame_ref(m->c, frame);
        page_set_twin(m, p, frame);
    } else {
        mapping_untracked(m);
        p->flags &= (uint16_t)~PG_MAPPED;
    }
}

static bool wants(const struct cache_read *r, uint64_t index)
{
    return r && !r->error && index >= first_page(r) && index < first_page(r) + read_pages(r) &&
           !r->frame[index - first_page(r)];
}

static void page_fetched(struct fetch *f, struct page *p, uint64_t index, uint32_t frame)
{
    struct mapping *m = f->rpc.m;
    struct cache *c = m->c;

    p->nfetch--;
    if (FAULT(attach_to_old_fetch) && !f->owner)
        f->owner = m->readers;
    if (FAULT(old_fetch_lacks_ours))
        p->flags &= (uint16_t)~PG_RETRY;
    if (f->rpc.error) {
        /* nothing came */
    } else if (page_uptodate(p)) {
        /* written whole meanwhile, or fetched by a younger one */
    } else if (f->generation == m->generation || FAULT(no_generation)) {
        /* What somebody has appended elsewhere is not told to the kernel yet, which has zeros
         * there, and would write them back as stores once we make the file longer. */
        zero_beyond(m, frame_at(c, frame), index);
        if (p->frame) {
            copy_gaps(c, frame_at(c, p->frame), frame_at(c, frame),
                      FAULT(reply_over_local_bytes) ? page_more(c, p)->dirty : p->valid);
        } else {
            p->frame = frame;
            frame = 0;
        }
        byteset_clear(c, &p->valid);
        p->valid = BYTESET_FULL;
        p->generation = m->generation;
    } else if (wants(f->owner, index) && !(p->flags & PG_RETRY)) {
        if (p->frame)
            overlay(c, frame_at(c, frame), frame_at(c, p->frame), p->valid);
        serve_private(f->owner, p, index, frame);
        frame = 0;
    } else {
        COUNT(c, refetched, 1);
    }
    frame_unref(c, frame);
    if (!p->nfetch) {
        p->flags &= (uint16_t)~PG_RETRY;
        if (page_clean(c, p) && !page_twin(c, p) && byteset_empty(p->valid)) {
            p->flags &= (uint16_t)~PG_AHEAD;
            mapping_remove(m, p);
            return;
        }
    }
    page_update(m, p);
}

static void direct_fetched(struct fetch *f, uint64_t index, uint32_t frame)
{
    struct mapping *m = f->rpc.m;
    struct cache *c = m->c;
    struct page *p = mapping_find(m, index);

    if (f->rpc.error || !wants(f->owner, index)) {
        frame_unref(c, frame);
        return;
    }
    if (p && p->frame) {
        const struct page_more *x = page_more(c, p);

        overlay(c, frame_at(c, frame), frame_at(c, p->frame), x->dirty);
        overlay(c, frame_at(c, frame), frame_at(c, p->frame), x->inflight);
        overlay(c, frame_at(c, frame), frame_at(c, p->frame), x->unstable);
        overlay(c, frame_at(c, frame), frame_at(c, p->frame), x->committing);
    }
    serve_private(f->owner, NULL, index, frame);
}

/* Asks for the rest after a short reply. False: there is no rest. */
static bool fetch_again(struct fetch *f)
{
    uint32_t all = f->pages << PAGE_SHIFT, skip = f->rpc.done;

    f->got += f->rpc.done;
    if (f->rpc.error || f->rpc.eof || f->got >= all)
        return false;
    if (!f->rpc.done) {
        f->rpc.error = -EIO; /* neither data nor end of file: RFC 1813 3.3.6 forbids it */
        return false;
    }
    while (skip) {
        struct iovec *v = (struct iovec *)f->rpc.iov;
        uint32_t n = v->iov_len < skip ? (uint32_t)v->iov_len : skip;

        v->iov_base = (uint8_t *)v->iov_base + n;
        v->iov_len -= n;
        skip -= n;
        if (!v->iov_len) {
            f->rpc.iov++;
            f->rpc.iovcnt--;
        }
    }
    f->rpc.offset += f->rpc.done;
    f->rpc.count = all - f->got;
    f->rpc.done = 0;
    return true;
}

void read_overtaken(struct mapping *m, uint64_t index)
{
    for (struct fetch *f = m->directs ? m->fetches : NULL; f; f = f->next)
        if (f->direct && index >= f->first && index < f->first + f->pages)
            f->overtaken = true;
}

/* A direct READ has only what is not committed to lay over the reply. If bytes were committed since
 * it was sent, the reply may lack them: it is asked again. Mapping lock held. */
static bool direct_again(struct fetch *f)
{
    if (!f->overtaken || f->rpc.error || FAULT(direct_overtaken))
        return false;
    f->overtaken = false;
    f->got = 0;
    f->rpc.offset = f->first << PAGE_SHIFT;
    f->rpc.count = f->pages << PAGE_SHIFT;
    f->rpc.done = 0;
    f->rpc.eof = false;
    fetch_build_iov(f, f->rpc.m->c);
    return true;
}

void cache_fetch_done(struct cache_fetch *rpc)
{
    struct fetch *f = (struct fetch *)rpc;
    struct mapping *m = rpc->m;
    struct cache *c = m->c;
    struct cache_read *done = NULL;

    POINT_AT("fetch.answered", f->first);
    COUNT(c, fetch_bytes, rpc->done);
    if (fetch_again(f)) {
        c->remote->fetch(c->ctx, rpc);
        return;
    }
    for (uint32_t i = f->got / PAGE_SIZE; i < f->pages && !rpc->error; i++) {
        uint32_t keep = i == f->got / PAGE_SIZE ? f->got % PAGE_SIZE : 0;

        memset(frame_at(c, f->frame[i]) + keep, 0, PAGE_SIZE - keep);
    }

    if (FAULT(size_from_read) && rpc->eof && !rpc->error)
        atomic_store(&m->size, (f->first << PAGE_SHIFT) + f->got);

    cache_enter(c);
    mapping_lock(m);
    if (direct_again(f)) {
        mapping_unlock(m);
        c->remote->fetch(c->ctx, rpc);
        cache_leave(c);
        return;
    }
    if (f->prev)
        f->prev->next = f->next;
    else
        m->fetches = f->next;
    if (f->next)
        f->next->prev = f->prev;
    m->directs -= f->direct;
    for (uint32_t i = 0; i < f->pages; i++) {
        if (f->direct)
            direct_fetched(f, f->first + i, f->frame[i]);
        else
            page_fetched(f, mapping_find(m, f->first + i), f->first + i, f->frame[i]);
    }
    if (f->owner && rpc->error)
        f->owner->error = rpc->error;
    read_advance(m, f->first, f->first + f->pages, &done);
    mapping_unhold(m);
    mapping_unlock(m);
    POINT_AT("fetch.merged", f->first);
    free(f);
    read_finish(done);
    cache_poke(c);
    cache_leave(c);
}

/* ---- the front door ---- */

static bool all_there(const struct cache_read *r, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct page *p = mapping_find(r->m, first_page(r) + i);

        if (!p || !page_uptodate(p))
            return false;
    }
    return true;
}

/* Mapping lock held. 0, -EINPROGRESS, or -ENOMEM: starved (it is on the list). */
static int read_begin(struct cache_read *r)
{
    struct mapping *m = r->m;
    struct cache *c = m->c;
    uint64_t first = first_page(r), size = read_size(m);
    uint32_t n, before;

    r->error = 0;
    r->iovcnt = 0;
    r->bytes = r->offset >= size             ? 0
               : size - r->offset < r->count ? (uint32_t)(size - r->offset)
                                             : r->count;
    n = read_pages(r);
    memset(r->frame, 0, n * sizeof *r->frame);
    r->missing = n;
    if (!n)
        return 0;

    if (r->nowait && (r->direct || !all_there(r, n)))
        return -EAGAIN;
    if (r->direct) {
        for (uint32_t i = 0, got; i < n; i += got) {
            uint32_t most = c->config.rsize >> PAGE_SHIFT;
            struct fetch *f =
                fetch_new(m, first + i, n - i < most ? n - i : most, r->cred, r, true);

            if (!f) {
                starve(r);
                return -ENOMEM;
            }
            got = f->pages;
            c->remote->fetch(c->ctx, &f->rpc);
        }
    } else {
        for (uint32_t i = 0; i < n; i++) {
            struct page *p = mapping_find(m, first + i);

            if (!p)
                continue;
            if (r->kernel) { /* it asks: so its old copy is gone */
                page_drop_twin(m, p);
                p->flags &= (uint16_t)~PG_MAPPED;
            }
            if (page_uptodate(p)) {
                reclaim_hit(p);
                take(r, i, p);
            }
        }
        before = r->missing;
        COUNT(c, hits, n - before);
        COUNT(c, misses, before);
        if (before && ((!r->starving && !m->unmapping && others_starve(c)) ||
                       !read_try(r, first, first + n))) {
            starve(r);
            return -ENOMEM;
        }
        readahead_advance(m, r, before != 0);
    }
    if (!r->missing)
        return 0;
    r->next = m->readers;
    m->readers = r;
    return -EINPROGRESS;
}

int cache_read(struct cache_read *r)
{
    struct mapping *m = r->m;

    r->starving = false;
    mapping_lock(m);

    int err = read_begin(r);

    mapping_unlock(m);
    POINT_AT(err == 0 ? "read.given" : "read.parked", first_page(r));
    if (err == 0)
        build_iov(r);
    return err == -ENOMEM ? -EINPROGRESS : err;
}

void cache_read_release(struct cache_read *r)
{
    struct cache *c = r->m->c;

    read_forget(r);
    if (c->any_starved || c->any_parked)
        cache_poke(c);
}

/* Again, after it was taken off the list of the starved. */
static bool begin_again(struct cache_read *r)
{
    struct mapping *m = r->m;

    r->starving = true;
    mapping_lock(m);

    int err = read_begin(r);

    mapping_unhold(m); /* of starve() */
    mapping_unlock(m);
    if (err == 0) {
        build_iov(r);
        r->done(r);
    }
    return err != -ENOMEM;
}

/* The oldest starved READ again, if there is one. True: it got on, so try the next. */
bool read_unstarve(struct cache *c)
{
    pthread_mutex_lock(&c->wait_lock);

    struct cache_read *r = c->starved;

    if (r) {
        c->starved = r->next;
        if (!c->starved)
            c->starved_tail = &c->starved;
    }
    c->any_starved = c->starved != NULL;
    pthread_mutex_unlock(&c->wait_lock);
    return r && begin_again(r);
}

void read_unstarve_urgent(struct cache *c)
{
    struct cache_read *mine = NULL;

    pthread_mutex_lock(&c->wait_lock);
    for (struct cache_read **at = &c->starved; *at;) {
        struct cache_read *r = *at;

        if (!atomic_load(&r->m->unmapping) || !r->kernel) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        r->next = mine;
        mine = r;
    }
    c->starved_tail = &c->starved;
    while (*c->starved_tail)
        c->starved_tail = &(*c->starved_tail)->next;
    c->any_starved = c->starved != NULL;
    pthread_mutex_unlock(&c->wait_lock);
    for (struct cache_read *next; mine; mine = next) {
        next = mine->next;
        begin_again(mine);
    }
}
