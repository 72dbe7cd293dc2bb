// SPDX-License-Identifier: Apache-2.0
/*
 * The page record: 48 bytes of the arena for each cached page. What only pages have that are not
 * clean, that have a twin of their own, or that a mapped store reached, is in a second record of 32
 * bytes, which they give back when nothing is in it any more. There are as many of those as page
 * records, in a region of their own, of which only what is in use takes memory: so a page can
 * always have one, in the middle of any change.
 *
 * A page is described by five sets of bytes rather than by one state, because a page of a network
 * file is many things at once: bytes here dirty, bytes there on their way, the rest unknown.
 *
 *   set         a byte enters                          a byte leaves
 *   ---------   ------------------------------------   -------------------------------------------
 *   valid       fetched; written by the application    invalidate (unless it is in a set below);
 *                                                      truncation; reclaim of the whole page
 *   dirty       written by the application (write(2),  a WRITE that carries it begins
 *               or a mapped store that differs from    (-> inflight); truncation; a person discards
 *               the twin); a WRITE of it failed; the   it by name
 *               server lost it (verifier changed)
 *   inflight    a WRITE that carries it began          that WRITE ended: -> unstable (UNSTABLE),
 *                                                      nowhere (FILE_SYNC), -> dirty (error)
 *   unstable    acknowledged, not committed            a COMMIT begins (-> committing); the
 *                                                      verifier changed (-> dirty)
 *   committing  a COMMIT that covers it began          that COMMIT ended: nowhere (same verifier),
 *                                                      -> dirty (another)
 *
 * dirty, inflight, unstable and committing are subsets of valid; a byte may be in several of them
 * (written again while in flight). A page whose four are all empty is *clean*. It is *uptodate*
 * when valid is full. Only a clean page with no fetch in flight leaves the cache (I1, F1).
 *
 * The kernel's copy. PG_MAPPED says that the kernel was given a copy and that no later unmap is
 * known to have removed it: `kseq` is the mapping's unmap count when it was given, and counts only
 * while it is not below mapping->unmapped. The twin T is the content of that copy as far as we know
 * it: the frame itself while its twin is 0, or a frame of its own from the moment the two part
 * (invalidate, O_DIRECT).
 */
#ifndef NFSCACHED_CACHE_PAGE_H
#define NFSCACHED_CACHE_PAGE_H

#include <stdatomic.h>
#include <stdint.h>

#include "cache/byteset.h"

enum {
    PG_MAPPED = 1 << 0,   /* the kernel may hold a copy (see kseq) */
    PG_RETRY = 1 << 1,    /* the fetch in flight may not be served: it lacks bytes that were ours */
    PG_AHEAD = 1 << 2,    /* brought by readahead, not read yet */
    PG_QUEUED = 1 << 3,   /* on a reclaim queue */
    PG_MAIN = 1 << 4,     /* ... the main one (else the small one) */
    PG_DIRTY = 1 << 5,    /* counted as dirty */
    PG_INFLIGHT = 1 << 6, /* counted as in writeback */
    PG_UNSTABLE = 1 << 7, /* counted as unstable or committing */
    PG_FREQ_SHIFT = 8,    /* two bits: hits since inserted, at most 3 (reclaim) */
    PG_FREQ = 3 << PG_FREQ_SHIFT,
    PG_LATE = 1 << 10, /* written while a truncation was under way: it may not cut that */
};

struct page {
    _Atomic uint32_t live; /* index of the inode record that owns it; 0: free */
    uint16_t flags;        /* PG_* */
    uint16_t nfetch;       /* fetches in flight */
    uint64_t index;        /* page number in the file */
    uint32_t frame;        /* its bytes; 0: none (a page kept for its twin, or for a fetch) */
    uint32_t more;         /* its second record; 0: all that is in that is zero */
    byteset valid;
    uint32_t generation; /* of the mapping, when its content was last known good */
    uint32_t fetch_gen;  /* generation of the youngest fetch in flight */
    uint32_t kseq;       /* mapping->unmap_seq when the kernel was given its copy */
    uint32_t prev, next; /* reclaim queue */
};

struct page_more {
    _Atomic uint32_t live; /* the page's record; 0: free */
    uint32_t twin;         /* frame of T once T and the page have parted; 0: T is the page */
    byteset dirty, inflight, unstable, committing;
    uint64_t cred : 16;   /* who dirtied it last */
    uint64_t unique : 48; /* of the last mapped writeback applied; the kernel counts from 0 */
};

_Static_assert(sizeof(struct page) == 48 && sizeof(struct page_more) == 32,
               "PAGE_METADATA counts them");

static inline bool page_uptodate(const struct page *p)
{
    return byteset_full(p->valid);
}

#endif
