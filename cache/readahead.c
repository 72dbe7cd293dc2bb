// SPDX-License-Identifier: Apache-2.0
/*
 * Readahead: how far to fetch beyond what was asked.
 *
 * A reader is sequential when its READs go on where the last ended (the kernel's own readahead may
 * send two of them in the wrong order: a step of up to one READ either way still counts), strided
 * when the distance of three READs is the same, random otherwise: then nothing is fetched that was
 * not asked for.
 *
 * The window is what a sequential reader has in flight ahead of it. It starts at four READs and
 * doubles whenever a READ had to wait although it was expected: so it grows to what the round trip
 * times the reader's own speed needs, and no further. It is topped up in whole READ RPCs, several
 * of which are then in flight at once.
 */
#include "cache/internal.h"

#define FIRST_WINDOW (256u << 10)
#define STRIDES_MOST 16

static void fetch_missing(struct mapping *m, uint64_t from, uint64_t to, uint16_t cred)
{
    uint64_t at = from >> PAGE_SHIFT, end = (to + PAGE_MASK) >> PAGE_SHIFT;
    uint32_t most = m->c->config.rsize >> PAGE_SHIFT;

    while (at < end) {
        struct page *p = mapping_find(m, at);

        if (p && (page_uptodate(p) || (p->nfetch && p->fetch_gen == m->generation))) {
            at++;
            continue;
        }

        uint64_t run = at + 1;
        uint64_t stop = at - at % most + most; /* whole RPCs, aligned */

        while (run < end && run < stop && !mapping_find(m, run))
            run++;

        uint32_t n = fetch_start(m, at, (uint32_t)(run - at), cred, NULL, true);

        if (!n)
            return;
        at += n;
    }
}

static void sequential(struct mapping *m, struct cache_read *r, bool waited)
{
    struct readahead *ra = r->ra;
    uint64_t most = m->c->config.readahead, share = (uint64_t)m->c->frames * PAGE_SIZE / 4;
    uint64_t size = mapping_size(m), from, to;

    if (most > share)
        most = share;
    if (!ra->window)
        ra->window = r->count * 4 > FIRST_WINDOW ? r->count * 4 : FIRST_WINDOW;
    else if (waited && ra->ahead > r->offset)
        ra->window *= 2;
    if (ra->window > most)
        ra->window = (uint32_t)most;
    from = ra->ahead > ra->next ? ra->ahead : ra->next;
    to = ra->next + ra->window;
    if (to > size)
        to = size;
    /* Topped up by halves, so that RPCs stay large. */
    if (from >= to || (to < size && to - from < ra->window / 2))
        return;
    fetch_missing(m, from, to, r->cred);
    ra->ahead = to;
}

static void strided(struct mapping *m, struct cache_read *r)
{
    struct readahead *ra = r->ra;
    unsigned n = ra->strides > STRIDES_MOST ? STRIDES_MOST : ra->strides;

    for (unsigned i = 1; i <= n; i++) {
        int64_t at = (int64_t)r->offset + ra->stride * (int64_t)i;

        if (at < 0 || (uint64_t)at >= mapping_size(m))
            return;
        fetch_missing(m, (uint64_t)at, (uint64_t)at + r->count, r->cred);
    }
}

void readahead_advance(struct mapping *m, struct cache_read *r, bool waited)
{
    struct readahead *ra = r->ra;

    if (!ra || !m->c->config.readahead)
        return;

    int64_t step = (int64_t)(r->offset - ra->prev);
    uint64_t end = r->offset + r->count, slack = 1u << 20;
    bool follows = r->offset <= ra->next + slack && end + slack > ra->next &&
                   (r->offset == ra->next || ra->run > 1);

    if (follows) {
        if (ra->run < UINT16_MAX)
            ra->run++;
        ra->strides = 0;
        if (end > ra->next)
            ra->next = end;
        if (ra->run >= 2 || r->count >= 64u << 10)
            sequential(m, r, waited);
    } else {
        ra->run = 0;
        ra->window = 0;
        ra->ahead = 0;
        ra->next = end;
        if (step && step == ra->stride) {
            if (ra->strides < UINT16_MAX)
                ra->strides++;
            if (ra->strides >= 2)
                strided(m, r);
        } else {
            ra->strides = 0;
        }
        ra->stride = step;
    }
    ra->prev = r->offset;
}
