// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of cache/ share, and nobody else includes.
 *
 *   frames.c      frames and masks: references, limits, which of them go
 *   pool.c        which page to give up: the reclaim queues (S3-FIFO)
 *   resize.c      another size of the cache, while it is in use
 *   migrate.c     pages move to other frames
 *   mapping.c     a file's pages: index, accounting, size, errors, lifetime
 *   read.c        READ: hits, fetches, what a fetch may still be used for
 *   readahead.c   how far ahead
 *   write.c       WRITE: write(2), mapped stores against their twin, throttling
 *   writeback.c   passes, WRITE, COMMIT, verifier, who waits
 *   truncate.c    around the server's SETATTR
 *   revalidate.c  the protocol, the non-destructive invalidate, unmap and twins
 *   cache.c       configuration, helper threads, figures
 *
 * Lock order
 *   mapping->reval_lock   held over network and unmap by helper threads; no handler takes it
 *     mapping->lock       every page of the mapping, its sets, its lists; short sections
 *       cache->pool_lock  frames, masks, reclaim queues; leaf
 *       cache->wb_lock    queue of mappings with a pass; leaf
 *       cache->wait_lock  parked readers and writers; leaf
 * The reclaimer goes the other way, pool_lock to mapping->lock, and therefore only tries.
 */
#ifndef NFSCACHED_CACHE_INTERNAL_H
#define NFSCACHED_CACHE_INTERNAL_H

#include <Judy.h>
#include <assert.h>
#include <errno.h>
#include <pthread.h>

#include "cache/cache.h"
#include "cache/indexmap.h"
#include "cache/page.h"
#include "cache/point.h"

#define MAPPING_MAGIC 0x6d617070u
#define PAGE_METADATA 96 /* bytes beside a frame; cache.c */

/* One READ of pages [first, first + pages) on its way. */
struct fetch {
    struct cache_fetch rpc; /* what remains to be asked */
    struct fetch *prev, *next;
    struct cache_read *owner; /* the READ that caused it, NULL: readahead, or the READ gave up */
    uint64_t first;           /* page number */
    uint32_t pages;
    uint32_t generation;
    uint32_t got; /* bytes that arrived so far */
    bool direct;
    bool overtaken; /* direct: a local byte of its pages was committed meanwhile */
    struct iovec iov[CACHE_READ_PAGES];
    uint32_t frame[CACHE_READ_PAGES];
};

/* A WRITE on its way: bytes [rpc.offset, rpc.offset + rpc.count). */
struct wb_write {
    struct cache_write_rpc rpc;
    struct iovec *iov;
    uint32_t *frames; /* referenced until it is done */
    uint32_t nframes;
    void *buffer; /* or a copy of the bytes */
    bool only;    /* of its pass: a bracket around the pass is one around it */
    uint64_t no;  /* counts up within the mapping */
};

#define WB_EDGES 32

struct wb_edge {
    struct token pre, post;
};

struct mapping {
    uint32_t magic;
    uint32_t inode;
    struct cache *c;
    void *host;
    bool leaving; /* being freed; wait_lock */
    pthread_mutex_t lock;
    pthread_mutex_t reval_lock;

    Pvoid_t pages;    /* JudyL: page number / 2 -> two page records, the even one in the low half */
    Pvoid_t dirty;    /* Judy1: pages with dirty bytes */
    Pvoid_t unstable; /* Judy1: pages with unstable or committing bytes */
    Pvoid_t twins;    /* Judy1: pages with a twin of their own */
    uint64_t npages, ndirty, ninflight, nunstable;
    /* Not yet in the cache's counters: those are one cache line for all threads. Mapping lock. */
    struct {
        int32_t dirty, inflight, unstable, busy;
    } owed;
    bool host_held;
    uint64_t holds; /* busy pages and passers-by; the host is kept while above 0 */

    _Atomic uint64_t size;
    struct token token;
    struct token reval_cur; /* token of the revalidation that runs; invalid: none */
    uint32_t generation;
    /* The size that the revalidation under way found, once old pages are gone: READs reach to it,
     * though nobody is told before the kernel's old copies, with zeros there, are gone as well. */
    uint64_t grow_to;
    uint64_t acked_end; /* end of the bytes acknowledged since a revalidation asked */
    bool acked_noted;   /* ... while one is under way */
    bool cut_noted;     /* an own truncation ended meanwhile: the size asked for may be older */

    /* the kernel's copies */
    uint32_t unmap_seq;         /* unmaps begun */
    uint32_t unmapped;          /* copies given before this count are gone */
    _Atomic uint32_t unmapping; /* unmaps under way: READs and WRITEs that they wait for may use the
                                   overflow, for memory may wait for the unmap */
    uint32_t writers;           /* descriptors open for writing */
    uint32_t plain_unmaps;      /* under way, begun while there was no writer */
    pthread_cond_t plain_done;
    bool untracked;         /* the kernel may hold copies for which no twin was kept */
    uint32_t untracked_seq; /* unmap_seq when that was last so */

    /* reading */
    struct fetch *fetches;
    uint32_t directs;           /* fetches that are direct */
    struct cache_read *readers; /* parked */
    struct page *pin;           /* in hand: not to be evicted although it is clean */

    /* writing back */
    uint64_t dirty_since_ns; /* when the oldest dirty byte was written, about */
    struct timespec local_mtime;
    bool queued; /* on cache->wb_queue */
    struct mapping *wb_next;
    bool pass_active, pass_again, pass_short;
    uint8_t pass_bracket;   /* how the token follows the pass's only WRITE */
    struct token pass_from; /* ... bracketed: from this one */
    struct token pass_to;   /* ... to this one, once it is answered */
    uint64_t pass_no;       /* of the running pass, or of the last */
    uint64_t pass_cursor;   /* next page number to look at */
    uint64_t pass_limit;    /* ... and where it ends: of a stream's, else UINT64_MAX */
    uint64_t stream_end;    /* offset where the last write(2) ended */
    uint64_t stream_bytes;  /* written in sequence up to there */
    uint64_t behind_to;     /* page number up to which the stream has filled whole WRITEs */
    uint32_t pass_inflight; /* WRITEs of this pass under way */
    int pass_error;
    bool pass_sync; /* somebody waits for it */
    struct cache_getattr pass_getattr;
    bool commit_running, commit_again;
    uint64_t commit_no; /* of the COMMIT under way, or of the last */
    struct cache_commit commit;
    bool have_verf;
    uint8_t verf[8];
    struct wb_edge *edges; /* own changes whose turn has not come; NULL: none */
    unsigned nedges;
    struct cache_sync *syncs; /* waiting */
    uint32_t writes_inflight;
    uint64_t writes_sent; /* ever */
    uint64_t unwanted;    /* what WRITEs up to this one carried was discarded meanwhile */
    uint32_t blocked;     /* truncations under way: no WRITE starts */
    bool late;            /* some page is PG_LATE */
    struct cache_truncate *truncates;
    uint64_t error_seq;
    int error, last_error;
    uint64_t retry_ns, backoff_ns; /* after an error: not before */

    struct mapping *all_prev, *all_next; /* cache->mappings, wait_lock */
};

#define GHOST_WAYS 4

struct queue {
    uint32_t head, tail; /* page records; head: youngest */
    uint64_t count;
};

struct cache {
    struct cache_config config;
    struct arena *arena;
    struct credtab *creds;
    const struct cache_remote_ops *remote;
    const struct cache_kernel_ops *kernel;
    void *ctx;

    /* frames.c, pool.c */
    pthread_mutex_t pool_lock;
    struct slab *page_slab, *more_slab;
    _Atomic uint32_t frames;       /* the budget */
    _Atomic uint32_t frames_total; /* with the overflow */
    uint32_t frames_most;          /* what the budget may become: the arena has no more room */
    struct indexmap frame_map;
    uint32_t frame_count; /* indexes of frames */
    _Atomic uint32_t frames_used;
    _Atomic uint32_t *frame_refs;
    /* While a resize runs: marked frames above the one and below the other count as ... */
    uint32_t goes_above, goes_end;
    _Atomic uint32_t frames_going;
    uint32_t *mask_free; /* stack */
    uint32_t nmask_free, nmask_cap, masks_used;
    struct queue small, main;
    uint32_t *ghost; /* fingerprints, GHOST_WAYS each bucket */
    uint32_t ghost_buckets;
    struct mapping **mapping_of; /* by inode index */
    uint32_t inode_count;

    /* resize.c */
    pthread_mutex_t resize_lock; /* one at a time */
    struct cache_resize *resize; /* the one under way; helper_lock */
    pthread_cond_t resize_wake;
    uint32_t resize_target;                               /* frames */
    uint64_t resize_moved;                                /* n.moved when it began */
    _Atomic uint64_t size, dirty_limit, dirty_background; /* bytes */

    pthread_mutex_t wb_lock;
    struct mapping *wb_head, *wb_tail;
    _Atomic uint64_t wb_bytes; /* in flight */

    pthread_mutex_t wait_lock;
    struct cache_read *starved, **starved_tail;
    struct cache_write *parked, **parked_tail;
    _Atomic bool any_starved, any_parked; /* what a look without the lock tells */
    struct mapping *mappings;
    uint64_t nmappings;

    /* helper threads (cache.c) */
    pthread_t flusher, reclaimer, yielder;
    pthread_cond_t flusher_wake, reclaimer_wake, yielder_wake;
    pthread_mutex_t helper_lock;
    bool stopping;
    _Atomic bool flusher_asleep; /* until something is dirty */
    _Atomic bool reclaim_wanted, yield_wanted;
    _Atomic bool no_pre; /* this server's WRITE replies lack pre-operation attributes */

    _Atomic uint32_t inside;     /* replies of the remote side being worked on */
    _Atomic uint32_t unmapping;  /* unmaps under way, of all mappings */
    _Atomic uint64_t busy_pages; /* pages that reclaim cannot have */
    struct {
        _Atomic uint64_t pages, dirty, inflight, unstable, twins;
        _Atomic uint64_t hits, misses, ahead, ahead_used, ahead_wasted;
        _Atomic uint64_t fetches, fetch_bytes, writes, write_bytes, commits, refetched;
        _Atomic uint64_t evicted, reclaim_unmaps, throttled;
        _Atomic uint64_t asked, changed, dropped, kept, second;
        _Atomic uint64_t alarms, verifier_changes, write_errors, moved;
    } n;
};

#ifndef COUNT
#define COUNT(c, what, by) atomic_fetch_add_explicit(&(c)->n.what, (by), memory_order_relaxed)
#endif

static inline struct page *page_at(struct cache *c, uint32_t record)
{
    return arena_at(c->arena, ARENA_PAGES, record);
}

static inline uint32_t page_record(struct cache *c, const struct page *p)
{
    return (uint32_t)(((const uint8_t *)p - c->arena->base[ARENA_PAGES]) / sizeof(struct page));
}

/* To look at only: record 0, which is all zeroes, stands for all those that a page does not have.
 */
static inline const struct page_more *page_more(struct cache *c, const struct page *p)
{
    return arena_at(c->arena, ARENA_MORE, p->more);
}

static inline bool page_clean(struct cache *c, const struct page *p)
{
    const struct page_more *x = page_more(c, p);

    return !p->more || !(x->dirty | x->inflight | x->unstable | x->committing);
}

static inline uint32_t page_twin(struct cache *c, const struct page *p)
{
    return p->more ? page_more(c, p)->twin : 0;
}

static inline uint8_t *frame_at(struct cache *c, uint32_t frame)
{
    return c->arena->base[ARENA_FRAMES] + (uint64_t)frame * PAGE_SIZE;
}

static inline uint64_t *mask_at(struct cache *c, uint32_t mask)
{
    return (uint64_t *)(c->arena->base[ARENA_FRAMES] + (uint64_t)mask * (PAGE_SIZE / 8));
}

/* ---- frames.c ---- */
int frames_start(struct cache *c);
void frames_stop(struct cache *c);
/* A frame with one reference, content undefined, if fewer than `limit` are in use; or 0. */
uint32_t frame_take(struct cache *c, uint32_t limit);
/* However many are in use, but below index `below`. */
uint32_t frame_take_below(struct cache *c, uint32_t below);
void frame_ref(struct cache *c, uint32_t frame);
void frame_unref(struct cache *c, uint32_t frame);
void frame_unref_locked(struct cache *c, uint32_t frame); /* the pool lock is held */
#define FRAME_GOES 0x80000000u                            /* in frame_refs, above the count */
static inline unsigned frame_count(struct cache *c, uint32_t frame)
{
    return atomic_load_explicit(&c->frame_refs[frame], memory_order_acquire) & ~FRAME_GOES;
}
/* Whether a resize wants it free. */
static inline bool frame_goes(struct cache *c, uint32_t frame)
{
    return atomic_load_explicit(&c->frame_refs[frame], memory_order_relaxed) & FRAME_GOES;
}
uint32_t mask_alloc(struct cache *c);
void mask_free(struct cache *c, uint32_t mask);
bool mask_goes(struct cache *c, uint32_t mask);
/* From here on the frames above index `above` that are in use go; c->frames_going counts them. */
void frames_mark(struct cache *c, uint32_t above);
/* Nothing goes any more; the memory of free frames above `above` is given back. May take
 * milliseconds; who wants a frame meanwhile does not wait. */
void frames_release(struct cache *c, uint32_t above);

/* ---- pool.c ---- */
int pool_start(struct cache *c);
void pool_stop(struct cache *c);
/* A table of ghosts for c->frames frames, empty. */
int pool_ghosts(struct cache *c);
/* A frame with one reference, content undefined; 0: none to be had (kick reclaim, park). May evict
 * clean pages, of `held` (its lock is held by the caller, or NULL) and of others. `emergency`
 * reaches into the overflow. */
uint32_t frame_alloc(struct cache *c, struct mapping *held, bool emergency);
/* Gives one clean page up. False: among the few that it looks at none was to be had. */
bool evict_one(struct cache *c, struct mapping *held);
/* After so many calls in vain all were looked at. */
uint64_t evict_calls(struct cache *c);
/* Puts a clean page on its queue, or takes it off. Mapping lock held. */
void reclaim_insert(struct mapping *m, struct page *p);
void reclaim_remove(struct mapping *m, struct page *p);
/* Takes the page off its queue, and lets its frame go; mapping lock held. */
void reclaim_leave(struct mapping *m, struct page *p, uint32_t frame);
/* The page's record becomes `to`, which gets its content; mapping lock held. */
void reclaim_move(struct mapping *m, struct page *p, struct page *to);
static inline void reclaim_hit(struct page *p)
{
    if ((p->flags & PG_FREQ) != PG_FREQ)
        p->flags += 1 << PG_FREQ_SHIFT;
}
/* Frees memory that needs an unmap first; the reclaimer thread. False: none was to be had. */
bool reclaim_run(struct cache *c);
/* Frees memory for a write(2) that waits for it, from its own file; the yielder thread. */
bool reclaim_under_write(struct cache *c);
void reclaim_wake(struct cache *c);
bool pool_low(struct cache *c);
/* Gives back what masks took beyond the budget, at the cost of clean pages. `held` as above, and
 * the caller has no page in hand. False: the overflow is half used up, and nothing can be evicted.
 */
bool pool_settle(struct cache *c, struct mapping *held);

/* ---- migrate.c; no lock held ---- */
/* Moves what lies in frames that go, and page records above `records`, to where they may stay. What
 * others hold goes when they let go of it. */
void migrate(struct cache *c, uint32_t records);

/* The first member of a Judy1 set at or after *index. */
static inline bool set_next(Pcvoid_t set, uint64_t *index)
{
    return Judy1First(set, index, PJE0) == 1;
}

/* ---- mapping.c; the mapping lock is held below this line ---- */
struct page *mapping_find(struct mapping *m, uint64_t index);
/* The first page at or after *index. */
struct page *mapping_next(struct mapping *m, uint64_t *index);
/* A new, empty page record in the index; NULL: out of records. */
struct page *mapping_add(struct mapping *m, uint64_t index);
/* The last page at or before *index. */
struct page *mapping_prev(struct mapping *m, uint64_t *index);
/* The page has record `to` from here on. */
void mapping_move(struct mapping *m, uint64_t index, uint32_t to);
/* Gives the page, which has none, a second record. */
void page_more_make(struct cache *c, struct page *p);
/* The page's second record, to be changed; made if it has none. page_update() and
 * page_drop_twin() give it back when nothing is in it any more. */
static inline struct page_more *page_change(struct cache *c, struct page *p)
{
    if (!p->more)
        page_more_make(c, p);
    return arena_at(c->arena, ARENA_MORE, p->more);
}
/* Takes the page out of the index and frees its record, frame, twin and masks. */
void mapping_remove(struct mapping *m, struct page *p);
/* Brings counters, Judy sets, holds and the reclaim queue in line with the page's sets. To be
 * called after every change of them. The cache's counters follow at mapping_settle(). */
void page_update(struct mapping *m, struct page *p);
/* Puts what the mapping owes into the cache's counters. mapping_unlock() does so too; for who asks
 * the limits before that. Mapping lock held. */
void mapping_settle(struct mapping *m);
/* Holds keep the host. After the last one is given back, mapping_unlock() lets the host go: the
 * mapping may be gone when it returns, unless the caller keeps the host by other means. */
void mapping_hold(struct mapping *m);
void mapping_unhold(struct mapping *m);
static inline bool page_mapped(const struct mapping *m, const struct page *p)
{
    return (p->flags & PG_MAPPED) && (int32_t)(p->kseq - m->unmapped) >= 0;
}
/* Twins have to be kept: somebody may store. Once the last descriptor open for writing is released
 * nothing is dirty in the kernel, and no write(2) is under way (fuse_vma_close, fuse_flush).
 *
 * Under kernel_writeback none are kept. A page comes back whole where the cache does not have what
 * the kernel was given any more, and that is right as long as nobody else writes the file; so
 * reclaim needs no unmap, and no unmap waits for a lock that a write(2) holds, which waits for
 * memory. */
static inline bool mapping_tracks(const struct mapping *m)
{
    return m->writers != 0 && !m->c->config.kernel_writeback;
}
/* The kernel may hold dirty pages. */
static inline bool mapping_written(const struct mapping *m)
{
    return m->writers != 0;
}
/* The kernel is being given this page's frame. */
void page_given(struct mapping *m, struct page *p);
void page_set_twin(struct mapping *m, struct page *p, uint32_t frame);
void page_drop_twin(struct mapping *m, struct page *p);
/* Makes T and the page two frames, because bytes will change that the kernel's copy does not take.
 */
void page_part(struct mapping *m, struct page *p);
/* Shrinks a page to the bytes that are not yet committed; the twin is handed over as needed. True:
 * there were none, and nothing of it is cached any more (its record may stay for the twin, or for a
 * fetch in flight). */
bool page_shrink(struct mapping *m, struct page *p);
void mapping_untracked(struct mapping *m);

/* How far a READ reaches. */
static inline uint64_t read_size(const struct mapping *m)
{
    uint64_t size = mapping_size(m);

    return size > m->grow_to ? size : m->grow_to;
}

static inline void mapping_lock(struct mapping *m)
{
    pthread_mutex_lock(&m->lock);
    assert(!m->owed.dirty && !m->owed.inflight && !m->owed.unstable && !m->owed.busy);
}
void mapping_unlock(struct mapping *m);

/* ---- read.c, readahead.c ---- */
/* Looks again at parked READs that miss one of pages [lo, hi): takes what is there, asks for what
 * nobody has asked for. Finished ones are put on *done. */
void read_advance(struct mapping *m, uint64_t lo, uint64_t hi, struct cache_read **done);
void read_finish(struct cache_read *done); /* no lock held */
/* Starts a fetch of pages [first, first+n); number of pages really covered, 0: no memory. */
uint32_t fetch_start(struct mapping *m, uint64_t first, uint32_t n, uint16_t cred,
                     struct cache_read *owner, bool ahead);
/* Local bytes of the page were committed: a direct READ under way may have missed them. */
void read_overtaken(struct mapping *m, uint64_t index);
void readahead_advance(struct mapping *m, struct cache_read *r, bool waited);
/* The oldest READ that waits for memory, again. True: it got on, try the next. No lock held. */
bool read_unstarve(struct cache *c);
/* All those that an unmap may be waiting for, once. No lock held. */
void read_unstarve_urgent(struct cache *c);

/* ---- write.c ---- */
/* The oldest parked WRITE again, likewise. */
bool write_unpark(struct cache *c);
void write_unpark_urgent(struct cache *c);
/* A parked write(2), off its list and not to be given up, and back. No lock held. */
struct cache_write *write_take_held(struct cache *c);
void write_give_back(struct cache_write *w);
/* Tries parked READs and WRITEs again; no lock held. */
void cache_poke(struct cache *c);

/* ---- writeback.c ---- */
void wb_kick_mapping(struct mapping *m, bool sync); /* mapping lock held; pump afterwards */
void wb_behind(struct mapping *m); /* a pass up to m->behind_to, if none is running; likewise */
void wb_commit(struct mapping *m); /* what is unstable, if no pass is running; mapping lock held */
void wb_pump(struct cache *c);     /* no lock held */
void wb_resume(struct mapping *m); /* after a truncation; lock held */
bool wb_over_limit(struct cache *c);
/* The same for who holds the lock of a mapping, with what it owes. */
bool wb_over_limit_with(const struct mapping *m);
bool wb_over_background(struct cache *c);
void wb_own_change(struct mapping *m, const struct token *pre, const struct token *post);
void wb_forget_edges(struct mapping *m);

/* ---- revalidate.c ---- */
/* Unmap with the bookkeeping of twins; helper threads, no lock held. len 0: all. */
int mapping_unmap(struct mapping *m, uint64_t off, uint64_t len);
/* The same while a WRITE of a write(2) to this file is held unanswered, outside of its pages: who
 * holds the inode lock waits for us, so the plain notification loses nothing. */
int mapping_unmap_held(struct mapping *m, uint64_t off, uint64_t len);

/* ---- cache.c ---- */
/* Around what the remote side calls: by the last hold it gives back the mapping may go, and
 * cache_free() may be waiting for nothing else. */
static inline void cache_enter(struct cache *c)
{
    atomic_fetch_add(&c->inside, 1);
}
static inline void cache_leave(struct cache *c)
{
    atomic_fetch_sub(&c->inside, 1);
}
void flusher_wake(struct cache *c);
/* Calls fn with each mapping's lock held and *index 0, and again as long as it returns true, so
 * that others get the lock in between. Mappings that are made or freed meanwhile may be left out.
 * Helper threads; no lock held. */
void cache_walk(struct cache *c, bool (*fn)(struct mapping *m, uint64_t *index, void *arg),
                void *arg);
/* How many frames a budget of `size` bytes has, and page records there are for so many. */
uint32_t cache_frames_of(uint64_t size);
uint32_t cache_overflow_of(uint32_t frames);
uint32_t cache_records_of(uint32_t frames);
uint64_t cache_now_ns(void);
/* As of the last tick of the clock, up to 10 ms ago: costs nothing where that is slow. */
uint64_t cache_coarse_ns(void);

#endif
