// SPDX-License-Identifier: Apache-2.0
/*
 * Writing back.
 *
 * A mapping is written in *passes*. A pass walks the dirty pages once, in file order; at each group
 * of neighbours it moves their bytes from dirty to in flight and sends them as WRITEs, one for each
 * contiguous run, UNSTABLE (FILE_SYNC if one WRITE is all there is and somebody waits). When the
 * walk is over and its WRITEs are answered the pass ends, and a COMMIT follows.
 *
 *   wb_kick_mapping -> pass on cache->wb_queue -> wb_pump -> issue -> remote->write
 *   cache_write_done -> bytes to unstable / clean / dirty again -> pass_end -> commit
 *   cache_commit_done -> clean, or dirty again -> whoever waits
 *
 * Mappings take turns in the pump, and the bytes in flight are bounded for all of them together.
 *
 * A stream (writes that go on where the last ended) is written behind: a pass up to the last whole
 * WRITE, long before the dirty limits ask for one, so that its WRITEs travel while the application
 * goes on. Its COMMIT waits for who wants one, for the limits, or for the flusher.
 *
 * Who waits (cache_sync). A pass that *began* after the request covers every byte that was dirty
 * then: no WRITE outlives its pass, so nothing is in flight when one begins. Only what the server
 * took short is left for another pass. Then a COMMIT that begins after that. So a sync ends also
 * under a steady writer.
 *
 * The verifier. All unstable bytes of a mapping were acknowledged under mapping->verf. A reply with
 * another one says that the server has lost them, or may have: all of them become dirty again.
 * Replies out of order around a reboot only make this happen once more than needed.
 *
 * The token. A WRITE whose reply lacks the attributes from before it is bracketed by a GETATTR that
 * leaves with it (wcc=bracket), if it is the only one of its pass: bracket_begin(). The pass ends
 * when both are answered.
 *
 * Errors: the bytes become dirty again, the error is recorded for every descriptor open now
 * (mapping->error_seq) and for those who wait for this pass; the next try follows after a backoff
 * from 1 to 30 s, or at once when somebody asks for a sync.
 */
#include <stdlib.h>
#include <string.h>

#include "cache/internal.h"

#define BACKOFF_FIRST 1000000000ull
#define BACKOFF_MOST  30000000000ull
#define CURSOR_END    UINT64_MAX
#define NO_LIMIT      UINT64_MAX
#define COMMIT_EVERY  4 /* a COMMIT under way of a pass at 1/4 of the dirty limit unstable */

enum { BRACKET_NONE, BRACKET_ASKED, BRACKET_PROVEN, BRACKET_ASSUMED };
enum { SYNC_WRITE, SYNC_COMMIT };

bool wb_over_limit(struct cache *c)
{
    return atomic_load(&c->busy_pages) * PAGE_SIZE >= c->dirty_limit;
}

bool wb_over_limit_with(const struct mapping *m)
{
    const struct cache *c = m->c;

    return (atomic_load(&c->busy_pages) + (uint64_t)(int64_t)m->owed.busy) * PAGE_SIZE >=
           c->dirty_limit;
}

bool wb_over_background(struct cache *c)
{
    return atomic_load(&c->n.dirty) * PAGE_SIZE >= c->dirty_background || wb_over_limit(c);
}

/* ---- the token and own changes ---- */

static bool same_version(const struct token *a, const struct token *b)
{
    return a->valid && b->valid && ts_equal(a->ctime, b->ctime) && ts_equal(a->mtime, b->mtime) &&
           a->size == b->size;
}

static void token_step(struct mapping *m, const struct token *from, const struct token *to)
{
    bool assumed = m->token.assumed;

    if (same_version(&m->reval_cur, from))
        m->reval_cur = *to;
    if (same_version(&m->token, from)) {
        m->token = *to;
        m->token.assumed = assumed;
    }
}

void wb_own_change(struct mapping *m, const struct token *pre, const struct token *post)
{
    struct wb_edge *e;

    if (!same_version(&m->token, pre) && !same_version(&m->reval_cur, pre)) {
        /* Replies come in any order: its turn may come yet. */
        if (m->nedges == WB_EDGES) {
            memmove(m->edges, m->edges + 1, (WB_EDGES - 1) * sizeof *m->edges);
            m->nedges--;
        }
        if (!m->edges)
            m->edges = malloc(WB_EDGES * sizeof *m->edges);
        if (m->edges) /* else: one needless revalidation */
            m->edges[m->nedges++] = (struct wb_edge){*pre, *post};
        return;
    }
    token_step(m, pre, post);
    for (unsigned i = 0; i < m->nedges;) {
        e = &m->edges[i];
        if (!same_version(&m->token, &e->pre) && !same_version(&m->reval_cur, &e->pre)) {
            i++;
            continue;
        }

        struct wb_edge step = *e;

        m->nedges--;
        memmove(e, e + 1, (m->nedges - i) * sizeof *e);
        token_step(m, &step.pre, &step.post);
        i = 0;
    }
}

void wb_forget_edges(struct mapping *m)
{
    free(m->edges);
    m->edges = NULL;
    m->nedges = 0;
}

/* ---- the queue of passes ---- */

/* The queue holds the mapping, not only its pass does: the one that took it off may come to its
 * lock when another one has ended the pass. Mapping lock held. */
static void enqueue(struct mapping *m)
{
    struct cache *c = m->c;

    pthread_mutex_lock(&c->wb_lock);
    if (!m->queued) {
        mapping_hold(m);
        m->queued = true;
        m->wb_next = NULL;
        if (c->wb_tail)
            c->wb_tail->wb_next = m;
        else
            c->wb_head = m;
        c->wb_tail = m;
    }
    pthread_mutex_unlock(&c->wb_lock);
}

static struct mapping *dequeue(struct cache *c)
{
    pthread_mutex_lock(&c->wb_lock);

    struct mapping *m = c->wb_head;

    if (m) {
        c->wb_head = m->wb_next;
        if (!c->wb_head)
            c->wb_tail = NULL;
        m->queued = false;
    }
    pthread_mutex_unlock(&c->wb_lock);
    return m;
}

static void pass_end(struct mapping *m, struct cache_sync **done);

static void finish_syncs(struct cache_sync *done)
{
    for (struct cache_sync *s = done, *next; s; s = next) {
        next = s->next;
        s->done(s);
    }
}

/* One WRITE would carry all that is dirty, as far as a look at the page numbers tells. */
static bool looks_single(struct mapping *m)
{
    uint64_t first = 0;
    Word_t last = (Word_t)-1;
    int rc;

    if (!m->ndirty || m->ndirty > m->c->config.wsize >> PAGE_SHIFT)
        return false;
    set_next(m->dirty, &first);
    J1L(rc, m->dirty, last);
    return rc && last - first + 1 == m->ndirty;
}

/* Everything is sent and answered. */
static bool pass_over(const struct mapping *m)
{
    return m->pass_active && m->pass_cursor == CURSOR_END && !m->pass_inflight &&
           m->pass_bracket != BRACKET_ASKED;
}

static void bracket_done(struct cache_getattr *g)
{
    struct mapping *m = g->m;
    struct cache *c = m->c;
    struct cache_sync *done = NULL;
    struct token now = g->error ? (struct token){0} : token_of(&g->attr);

    cache_enter(c);
    mapping_lock(m);
    m->pass_bracket = token_equal(&now, &m->pass_from) ? BRACKET_PROVEN : BRACKET_NONE;
    if (m->pass_bracket == BRACKET_PROVEN && m->pass_to.valid)
        wb_own_change(m, &m->pass_from, &m->pass_to);
    if (pass_over(m))
        pass_end(m, &done);
    mapping_unlock(m);
    finish_syncs(done);
    wb_pump(c);
    cache_leave(c);
}

/*
 * How the token is to follow the pass, if its WRITE turns out to be the only one. The GETATTR is
 * sent just before that, and neither waits for the other: whatever the server had carried out
 * before the GETATTR left the token as we know it, else it is not adopted. What is missed is what
 * it carries out between the two.
 *
 * Where nobody could make use of a proof, and no other page would be lost for the want of it,
 * nothing is asked.
 */
static void bracket_begin(struct mapping *m)
{
    struct cache *c = m->c;

    m->pass_bracket = BRACKET_NONE;
    m->pass_to.valid = false;
    if (c->config.wcc != CACHE_WCC_BRACKET || !c->no_pre || !m->token.valid || !looks_single(m))
        return;
    if (m->npages == m->ndirty &&
        (m->token.assumed || (c->kernel->worth_proving && !c->kernel->worth_proving(c->ctx, m)))) {
        m->pass_bracket = BRACKET_ASSUMED;
    } else if (!m->token.assumed) {
        m->pass_bracket = BRACKET_ASKED;
        m->pass_from = m->token;
        m->pass_getattr = (struct cache_getattr){.m = m, .done = bracket_done};
        c->remote->getattr(c->ctx, &m->pass_getattr);
    }
}

static void pass_begin(struct mapping *m, bool sync, uint64_t limit)
{
    mapping_hold(m); /* until pass_end() */
    m->pass_active = true;
    m->pass_again = false;
    m->pass_short = false;
    m->pass_bracket = BRACKET_NONE;
    m->pass_sync = sync;
    m->pass_error = 0;
    m->pass_no++;
    m->pass_cursor = 0;
    m->pass_limit = limit;
    if (limit == NO_LIMIT) /* what lies beyond becomes no younger */
        m->dirty_since_ns = cache_coarse_ns();
    wb_forget_edges(m);
}

void wb_behind(struct mapping *m)
{
    uint64_t first = 0;

    if (m->pass_active || m->blocked || m->retry_ns || !set_next(m->dirty, &first) ||
        first >= m->behind_to)
        return;
    pass_begin(m, false, m->behind_to);
    enqueue(m);
}

void wb_kick_mapping(struct mapping *m, bool sync)
{
    if (FAULT(two_in_flight) && m->pass_active) {
        m->pass_cursor = 0;
        enqueue(m);
    }
    if (m->pass_active || m->blocked) {
        m->pass_again |= sync || m->blocked || m->pass_limit != NO_LIMIT;
        return;
    }
    /* With nothing dirty left (it was cut off, or discarded) the pass is empty, and tells those who
     * wait for one. */
    if ((!m->ndirty && !(sync && m->syncs)) || (!sync && m->retry_ns > cache_coarse_ns()))
        return;
    pass_begin(m, sync, NO_LIMIT);
    bracket_begin(m);
    enqueue(m);
}

void wb_resume(struct mapping *m)
{
    if (m->pass_active)
        enqueue(m);
    else if (m->pass_again || m->syncs)
        wb_kick_mapping(m, true);
}

/* ---- sending ---- */

struct extent {
    uint64_t offset;
    uint32_t count;
    uint16_t cred;
};

static struct wb_write *write_new(struct mapping *m, const struct extent *e)
{
    struct cache *c = m->c;
    uint64_t first = e->offset >> PAGE_SHIFT, last = (e->offset + e->count - 1) >> PAGE_SHIFT;
    size_t n = c->config.stable_writes ? 1 : last - first + 1;
    struct wb_write *w = malloc(sizeof *w + n * (sizeof(struct iovec) + sizeof(uint32_t)));

    if (!w)
        abort(); /* as every allocator failure in the kernel's writeback, this has no way out */
    w->rpc =
        (struct cache_write_rpc){.m = m, .offset = e->offset, .count = e->count, .cred = e->cred};
    w->iov = (struct iovec *)(w + 1);
    w->frames = (uint32_t *)(w->iov + n);
    w->nframes = 0;
    w->buffer = NULL;
    w->only = false;
    w->rpc.iov = w->iov;

    uint8_t *to = NULL;

    if (c->config.stable_writes) {
        to = w->buffer = malloc(e->count);
        if (!to)
            abort();
        w->iov[0] = (struct iovec){to, e->count};
        w->rpc.iovcnt = 1;
    }

    uint64_t at = e->offset, end = e->offset + e->count;

    while (at < end) {
        struct page *p = mapping_find(m, at >> PAGE_SHIFT);
        uint32_t lo = at & PAGE_MASK;
        uint32_t n_bytes = end - at < PAGE_SIZE - lo ? (uint32_t)(end - at) : PAGE_SIZE - lo;
        uint8_t *from = frame_at(c, p->frame) + lo;

        if (to) {
            memcpy(to, from, n_bytes);
            to += n_bytes;
        } else {
            struct iovec *v = w->rpc.iovcnt ? &w->iov[w->rpc.iovcnt - 1] : NULL;

            if (v && (uint8_t *)v->iov_base + v->iov_len == from)
                v->iov_len += n_bytes;
            else
                w->iov[w->rpc.iovcnt++] = (struct iovec){from, n_bytes};
            if (!FAULT(unpinned_write)) {
                frame_ref(c, p->frame);
                w->frames[w->nframes++] = p->frame;
            }
        }
        at += n_bytes;
    }
    return w;
}

static void send(struct mapping *m, struct wb_write *w)
{
    struct cache *c = m->c;

    w->no = ++m->writes_sent;
    m->writes_inflight++;
    m->pass_inflight++;
    atomic_fetch_add(&c->wb_bytes, w->rpc.count);
    mapping_hold(m);
    COUNT(c, writes, 1);
    c->remote->write(c->ctx, &w->rpc);
}

#define GROUP_EXTENTS 64 /* of one group, unless one page alone has more */
#define EXTENTS_MOST  (PAGE_SIZE / 2 + GROUP_EXTENTS)

/* Takes the group of neighbours at page number `index` out of dirty, as extents. Whole pages go, or
 * none of a page: who waits relies on it. Returns the number of pages. */
static uint32_t take_group(struct mapping *m, uint64_t index, struct extent *ext, unsigned *next)
{
    struct cache *c = m->c;
    uint32_t wsize = c->config.wsize, pages = 0;
    uint16_t cred = page_more(c, mapping_find(m, index))->cred;

    *next = 0;
    for (; pages < wsize >> PAGE_SHIFT && index < m->pass_limit; pages++, index++) {
        struct page *p = mapping_find(m, index);
        uint32_t lo, hi, runs = 0;

        if (!p || byteset_empty(page_more(c, p)->dirty))
            break;

        struct page_more *x = page_change(c, p);

        if (x->cred != cred || (!byteset_empty(x->inflight) && !FAULT(two_in_flight)))
            break;
        for (uint32_t at = 0; byteset_run(c, x->dirty, at, &lo, &hi); at = hi)
            runs++;
        if (pages && *next + runs > GROUP_EXTENTS)
            break;
        for (uint32_t at = 0; byteset_run(c, x->dirty, at, &lo, &hi); at = hi) {
            struct extent *e = *next ? &ext[*next - 1] : NULL;

            if (e && e->offset + e->count == (index << PAGE_SHIFT) + lo &&
                e->count + hi - lo <= wsize)
                e->count += hi - lo;
            else
                ext[(*next)++] = (struct extent){(index << PAGE_SHIFT) + lo, hi - lo, cred};
        }
        byteset_move(c, &x->inflight, &x->dirty);
        page_update(m, p);
    }
    return pages;
}

static void land(struct mapping *m, uint64_t from, uint64_t to, bool acked, bool committed);

/* The next group of the pass. False: nothing is left to send, or it may not be sent now. */
static bool issue(struct mapping *m, struct cache_sync **done)
{
    struct extent ext[EXTENTS_MOST];
    unsigned n;

    if (!m->pass_active || m->blocked)
        return false;

    uint64_t index = m->pass_cursor;

    if (index == CURSOR_END || !set_next(m->dirty, &index) || index >= m->pass_limit) {
        m->pass_cursor = CURSOR_END;
        if (pass_over(m))
            pass_end(m, done);
        return false;
    }

    bool fresh = !m->writes_inflight && !m->nunstable;
    uint32_t pages = take_group(m, index, ext, &n);
    bool only = fresh && n == 1 && !m->ndirty;

    m->pass_cursor = index + pages;
    for (unsigned i = 0; i < n; i++) {
        if (FAULT(congested) && m->c->wb_bytes) {
            land(m, ext[i].offset, ext[i].offset + ext[i].count, true, true);
            continue;
        }

        struct wb_write *w = write_new(m, &ext[i]);

        w->rpc.file_sync = only && m->pass_sync;
        w->only = only;
        send(m, w);
    }
    return true;
}

void wb_pump(struct cache *c)
{
    uint64_t most = c->config.write_inflight;
    struct mapping *m;

    while (atomic_load(&c->wb_bytes) < most && (m = dequeue(c)) != NULL) {
        struct cache_sync *done = NULL;

        mapping_lock(m);
        if (issue(m, &done))
            enqueue(m);
        mapping_unhold(m); /* of the queue */
        mapping_unlock(m);
        POINT("wb.sent");
        finish_syncs(done);
    }
}

/* ---- COMMIT ---- */

static void commit_start(struct mapping *m)
{
    struct cache *c = m->c;
    uint64_t i = 0;

    m->commit_running = true;
    m->commit_no++;
    m->commit = (struct cache_commit){.m = m};
    for (; set_next(m->unstable, &i); i++) {
        struct page *p = mapping_find(m, i);

        struct page_more *x = page_change(c, p);

        byteset_move(c, &x->committing, &x->unstable);
        m->commit.cred = x->cred;
    }
    mapping_hold(m);
    COUNT(c, commits, 1);
    c->remote->commit(c->ctx, &m->commit);
}

static void record_error(struct mapping *m, int err)
{
    if (FAULT(error_untold))
        return;
    m->error = m->last_error = err;
    m->error_seq++;
    m->backoff_ns = m->backoff_ns ? m->backoff_ns * 2 : BACKOFF_FIRST;
    if (m->backoff_ns > BACKOFF_MOST)
        m->backoff_ns = BACKOFF_MOST;
    m->retry_ns = cache_now_ns() + m->backoff_ns;
    COUNT(m->c, write_errors, 1);
}

/* What the server had not committed is dirty again; whoever waited for it waits for another pass.
 */
static void redirty_unstable(struct mapping *m)
{
    struct cache *c = m->c;
    uint64_t i = 0;

    for (; set_next(m->unstable, &i); i++) {
        struct page *p = mapping_find(m, i);

        struct page_more *x = page_change(c, p);

        byteset_move(c, &x->dirty, &x->unstable);
        byteset_move(c, &x->dirty, &x->committing);
        page_update(m, p);
    }
    for (struct cache_sync *s = m->syncs; s; s = s->next) {
        s->phase = SYNC_WRITE;
        s->pass = m->pass_no + 1;
    }
    m->pass_again = true;
}

static void sync_remove(struct mapping *m, struct cache_sync *s, struct cache_sync **done)
{
    struct cache_sync **at = &m->syncs;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->next = *done;
    *done = s;
}

/* The WRITEs are answered; what is left is a COMMIT that begins now or later. */
static void sync_commit(struct mapping *m, struct cache_sync *s, bool *started,
                        struct cache_sync **done)
{
    s->phase = SYNC_COMMIT;
    if (!m->nunstable) {
        sync_remove(m, s, done);
    } else if (*started) {
        s->pass = m->commit_no;
    } else if (m->commit_running) {
        s->pass = m->commit_no + 1;
        m->commit_again = true;
    } else {
        commit_start(m);
        *started = true;
        s->pass = m->commit_no;
    }
}

/* A stream's COMMIT waits for its end, as long as all that waits for one is not much. */
static bool commit_later(struct mapping *m)
{
    struct cache *c = m->c;

    return m->pass_limit != NO_LIMIT && !m->pass_error &&
           atomic_load(&c->n.unstable) * PAGE_SIZE < c->dirty_background;
}

void wb_commit(struct mapping *m)
{
    if (m->nunstable && !m->commit_running && !m->pass_active)
        commit_start(m);
}

static void pass_end(struct mapping *m, struct cache_sync **done)
{
    int err = m->pass_error;
    bool started = false; /* a COMMIT, here */

    m->pass_active = false;
    for (struct cache_sync *s = m->syncs, *next; s; s = next) {
        next = s->next;
        if (s->phase != SYNC_WRITE || s->pass > m->pass_no)
            continue;
        if (err) {
            s->error = err;
            sync_remove(m, s, done);
        } else if (m->pass_short) {
            s->pass = m->pass_no + 1;
            m->pass_again = true;
        } else {
            sync_commit(m, s, &started, done);
        }
    }
    if (m->nunstable && !m->commit_running && !commit_later(m))
        commit_start(m);
    else if (m->nunstable && !started && m->commit_running)
        m->commit_again = true;

    bool wanted = false;

    for (struct cache_sync *s = m->syncs; s; s = s->next)
        wanted |= s->phase == SYNC_WRITE;
    if (wanted || m->pass_again || wb_over_background(m->c)) {
        m->pass_again = false;
        /* Nothing dirty is left, yet somebody waits for a pass: an empty one says so. */
        if (wanted && !m->ndirty && !m->blocked) {
            for (struct cache_sync *s = m->syncs, *next; s; s = next) {
                next = s->next;
                if (s->phase == SYNC_WRITE)
                    sync_commit(m, s, &started, done);
            }
        } else {
            wb_kick_mapping(m, wanted);
        }
    } else if (m->pass_limit < m->behind_to) {
        wb_behind(m);
    }
    mapping_unhold(m); /* of pass_begin() */
}

/* ---- replies ---- */

static void write_free(struct cache *c, struct wb_write *w)
{
    for (uint32_t i = 0; i < w->nframes; i++)
        frame_unref(c, w->frames[i]);
    free(w->buffer);
    free(w);
}

/* Bytes [from, to) of the file leave in flight, for `where`. */
static void land(struct mapping *m, uint64_t from, uint64_t to, bool acked, bool committed)
{
    struct cache *c = m->c;

    while (from < to) {
        struct page *p = mapping_find(m, from >> PAGE_SHIFT);
        uint32_t lo = from & PAGE_MASK;
        uint32_t n = to - from < PAGE_SIZE - lo ? (uint32_t)(to - from) : PAGE_SIZE - lo;

        if (p) {
            struct page_more *x = page_change(c, p);

            byteset_remove(c, &x->inflight, lo, lo + n);
            if (acked && FAULT(acknowledgement_cleans))
                byteset_remove(c, &x->dirty, lo, lo + n);
            if (!acked)
                byteset_add(c, &x->dirty, lo, lo + n);
            else if (!committed)
                byteset_add(c, &x->unstable, lo, lo + n);
            else
                read_overtaken(m, p->index);
            page_update(m, p);
        }
        from += n;
    }
}

static void check_verifier(struct mapping *m, const uint8_t verf[8])
{
    if (m->have_verf && memcmp(m->verf, verf, 8) == 0)
        return;
    if (m->have_verf && m->nunstable && !FAULT(write_verifier)) {
        COUNT(m->c, verifier_changes, 1);
        redirty_unstable(m);
    }
    memcpy(m->verf, verf, 8);
    m->have_verf = true;
}

static void write_token(struct mapping *m, const struct wb_write *w)
{
    struct cache *c = m->c;
    const struct cache_write_rpc *r = &w->rpc;

    if (!r->has_post)
        return;

    struct token post = token_of(&r->post);

    if (r->has_pre) {
        wb_own_change(m, &r->pre, &post);
        return;
    }
    c->no_pre = true;
    if (w->only && r->done == r->count && m->pass_bracket == BRACKET_ASKED) {
        m->pass_to = post;
    } else if (w->only && r->done == r->count && m->pass_bracket == BRACKET_PROVEN) {
        wb_own_change(m, &m->pass_from, &post);
    } else if (w->only && r->done == r->count && m->pass_bracket == BRACKET_ASSUMED) {
        if (!m->reval_cur.valid && post.size == mapping_size(m)) {
            m->token = post;
            m->token.assumed = true;
        }
    } else if (c->config.wcc == CACHE_WCC_TRUST && m->token.valid &&
               ts_cmp(post.ctime, m->token.ctime) >= 0) {
        m->token = post;
        if (m->reval_cur.valid)
            m->reval_cur = post;
    }
}

void cache_write_done(struct cache_write_rpc *r)
{
    struct wb_write *w = (struct wb_write *)r;
    struct mapping *m = r->m;
    struct cache *c = m->c;
    struct cache_sync *done = NULL;
    struct cache_truncate *ready = NULL;
    uint32_t n = r->error ? 0 : r->done < r->count ? r->done : r->count;
    bool unwanted;

    POINT_AT("wb.answered", r->offset >> PAGE_SHIFT);
    cache_enter(c);
    mapping_lock(m);
    m->writes_inflight--;
    m->pass_inflight--;
    atomic_fetch_sub(&c->wb_bytes, r->count);
    COUNT(c, write_bytes, n);
    unwanted = w->no <= m->unwanted;
    if (m->acked_noted && n && r->offset + n > m->acked_end)
        m->acked_end = r->offset + n;
    if (r->error) {
        m->pass_error = r->error;
        if (!unwanted)
            record_error(m, r->error);
    } else {
        m->last_error = 0;
        m->backoff_ns = m->retry_ns = 0;
        check_verifier(m, r->verf);
        write_token(m, w);
        if (n < r->count) { /* RFC 1813 3.3.7 allows it; none at all would never end */
            m->pass_short = true;
            m->pass_again = true;
            if (!n) {
                m->pass_error = -EIO;
                record_error(m, -EIO);
            }
        }
    }
    land(m, r->offset, r->offset + n, true, r->committed || unwanted);
    if (FAULT(error_cleans))
        unwanted = true;
    land(m, r->offset + n, r->offset + r->count, unwanted, unwanted);
    mapping_settle(m);
    if (pass_over(m))
        pass_end(m, &done);
    if (!m->commit_running && m->nunstable * PAGE_SIZE >= c->dirty_limit / COMMIT_EVERY)
        commit_start(m);
    if (m->blocked && !m->writes_inflight) {
        ready = m->truncates;
        m->truncates = NULL;
    }
    mapping_unlock(m);

    if (r->has_post)
        c->kernel->post(c->ctx, m, &r->post, r->sent_ns);
    write_free(c, w);
    finish_syncs(done);
    for (struct cache_truncate *t = ready, *next; t; t = next) {
        next = t->next;
        t->ready(t);
    }
    mapping_lock(m);
    mapping_unhold(m);
    mapping_unlock(m);
    wb_pump(c);
    cache_poke(c);
    cache_leave(c);
}

void cache_commit_done(struct cache_commit *reply)
{
    struct cache_commit r = *reply; /* lives in the mapping, and the next COMMIT uses it again */
    struct mapping *m = r.m;
    struct cache *c = m->c;
    struct cache_sync *done = NULL;

    POINT("commit.answered");
    cache_enter(c);
    mapping_lock(m);
    m->commit_running = false;

    bool lost = r.error || (memcmp(r.verf, m->verf, 8) != 0 && !FAULT(commit_verifier));

    if (!lost) {
        uint64_t i = 0;

        for (; set_next(m->unstable, &i); i++) {
            struct page *p = mapping_find(m, i);

            struct page_more *x = page_change(c, p);

            if (!byteset_empty(x->committing))
                read_overtaken(m, p->index);
            byteset_clear(c, &x->committing);
            page_update(m, p);
        }
        if (r.has_pre && r.has_post) {
            struct token post = token_of(&r.post);

            wb_own_change(m, &r.pre, &post);
        }
    }
    for (struct cache_sync *s = m->syncs, *next; s; s = next) {
        next = s->next;
        if (s->phase != SYNC_COMMIT || (lost && !r.error) ||
            (s->pass > m->commit_no && m->nunstable))
            continue;
        s->error = r.error;
        sync_remove(m, s, &done);
    }
    if (lost) {
        if (r.error) {
            record_error(m, r.error);
        } else {
            COUNT(c, verifier_changes, 1);
            memcpy(m->verf, r.verf, 8);
        }
        redirty_unstable(m);
        m->commit_again = false;
        if (!m->pass_active) {
            m->pass_again = m->blocked;
            wb_kick_mapping(m, m->syncs != NULL);
        }
    } else if (m->commit_again) {
        m->commit_again = false;
        if (m->nunstable)
            commit_start(m);
    }
    mapping_unlock(m);

    if (r.has_post)
        c->kernel->post(c->ctx, m, &r.post, r.sent_ns);
    finish_syncs(done);
    mapping_lock(m);
    mapping_unhold(m);
    mapping_unlock(m);
    wb_pump(c);
    cache_poke(c);
    cache_leave(c);
}

/* ---- who waits ---- */

int cache_sync(struct cache_sync *s)
{
    struct mapping *m = s->m;
    struct cache *c = m->c;
    struct cache_sync *done = NULL;
    bool started = false;

    s->error = 0;
    mapping_lock(m);
    if (!m->ndirty && !m->ninflight && !m->nunstable) {
        mapping_unlock(m);
        return 0;
    }
    mapping_hold(m);
    s->next = m->syncs;
    m->syncs = s;
    s->phase = SYNC_WRITE;
    s->pass = m->pass_no + 1;
    if (m->ndirty || m->ninflight || m->blocked)
        wb_kick_mapping(m, true);
    else
        sync_commit(m, s, &started, &done);
    mapping_unhold(m);
    mapping_unlock(m);
    wb_pump(c);
    return -EINPROGRESS;
}

struct waiter {
    struct cache_sync sync;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void wake(struct cache_sync *s)
{
    struct waiter *w = (struct waiter *)s;

    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

int cache_sync_wait(struct mapping *m)
{
    struct waiter w = {.sync = {.m = m, .done = wake},
                       .lock = PTHREAD_MUTEX_INITIALIZER,
                       .cond = PTHREAD_COND_INITIALIZER};

    if (cache_sync(&w.sync) == 0)
        return 0;
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.cond, &w.lock);
    pthread_mutex_unlock(&w.lock);
    return w.sync.error;
}
