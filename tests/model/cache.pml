// SPDX-License-Identifier: Apache-2.0
/*
 * What revalidate.pml is about: the state of the three copies, what must hold (the oracle), and
 * what the cache does under its lock. Included there.
 *
 * Each inline below is called from within a step (d_step), for the page `p` of the process that
 * takes the step, and has the name of the function that it stands for.
 */

/* ---- what is broken, and the trail ---- */
#define BIT_LOST     1
#define BIT_STALE    2
#define BIT_UNSENT   4 /* stored before a revalidation began, not at the server when it returned */
#define BIT_DEADLOCK 8
#define BIT_UNSTORED 16 /* a byte is taken for stored, and sent, that was not */
#define BIT_LATENT   32 /* wrong in the cache, and not seen by anybody yet */
#define BIT_UNSAFE   64 /* the next restart of the server would lose it */
#define BIT_ALARM    128 /* a mapped page came back and no twin is known (cache/write.c) */
#ifndef CHECK
#define CHECK 255
#endif
#define TEXT(x) #x
#define MUST(outcome, what, condition)                                                             \
    if                                                                                             \
    :: !(CHECK & BIT_##outcome) || (condition)                                                           \
    :: else -> printf(TEXT(! outcome page %d: what \n), p); assert(false)                          \
    fi
/* An actor begins something; comes to a point of the sources; a request is on its way. */
#define DOES(lane, what) printf(TEXT(@ lane does what %d \n), p)
#define AT(lane, point)  printf(TEXT(@ lane at point %d \n), p)
#define ASKS(call)       printf(TEXT(@ server asked call %d \n), p)

/* ---- state ---------------------------------------------------------------------------------- */

/* Sets of cells, as byteset is a set of bytes. */
#define L   1
#define W   2
#define F   4
#define ALL 7

typedef Bytes {
    unsigned l : 2;
    unsigned w : 2;
    unsigned f : 2
};
#define COPY(to, from) to.l = from.l; to.w = from.w; to.f = from.f
#define ZERO(b)        b.l = 0; b.w = 0; b.f = 0
#define DIFFERENT(a, b) ((a.l != b.l -> L : 0) | (a.w != b.w -> W : 0) | (a.f != b.f -> F : 0))

/* A request: fetch, WRITE, COMMIT, and the kernel's READ. */
#define NONE     0
#define SENT     1
#define ANSWERED 2 /* the server has done it, the reply is on its way */
#define PARKED   2 /* READ: it waits for a fetch */
#define GIVEN    3 /* READ: the reply is on its way */

typedef Fetching {
    unsigned state : 2;
    unsigned generation : 2;
    bit owned; /* by the READ that caused it, which still waits */
#if FAULT(token_from_read)
    unsigned token : 4;
#endif
    Bytes b
};

#define ABSENT   0
#define READING  1
#define UPTODATE 2

typedef Page {
    /* the kernel */
    unsigned state : 2;
    bit dirty;
    bit locked;    /* by an invalidation, or by a write(2) into a page that is not there */
    bit writeback; /* a WRITE of the page is on its way to us */
    bit gap;       /* a write(2) has copied into the page, and its WRITE has not come to us */
    Bytes k;       /* the page */
    Bytes out;     /* what the WRITE carries */
    unsigned read : 2;
    Bytes in; /* what READ was given */
    /* the cache: struct page */
    unsigned valid : 3;
    unsigned todo : 3; /* dirty */
    unsigned inflight : 3;
    unsigned unstable : 3;
    unsigned committing : 3;
    unsigned generation : 2;
    bit retry;  /* PG_RETRY */
    bit mapped; /* PG_MAPPED, and not unmapped since */
    bit young;  /* given to the kernel since the unmap under way began */
    bit twin;
    Bytes d; /* the page */
    Bytes t; /* its twin */
    Fetching fetch[2];
    unsigned write : 2;
    Bytes wb; /* what the WRITE carries */
    bit wverifier;
#if OWNTOKEN
    unsigned wtoken : 4; /* the change counter before it */
#endif
    /* the server */
    Bytes s;
    Bytes stable; /* what a reboot leaves */
    /* the oracle */
    Bytes last; /* l, w: the newest here; f: nothing older may be seen */
    Bytes asked /* the same, of when the revalidation under way began */
};
Page pg[PAGES];
#define P pg[p]
#define Q pg[q]
/* Within a step, for all pages; the second leaves p alone. */
#define EACH(...)                                                                                  \
    p = 0;                                                                                         \
    do                                                                                             \
    :: p < PAGES -> __VA_ARGS__; p++                                                               \
    :: else -> break                                                                               \
    od;                                                                                            \
    p = 0
#define EVERY(...)                                                                                 \
    q = 0;                                                                                         \
    do                                                                                             \
    :: q < PAGES -> __VA_ARGS__; q++                                                               \
    :: else -> break                                                                               \
    od;                                                                                            \
    q = 0

bit inode_lock; /* the kernel's */
bit unmapping;
bit lock; /* the mapping's, where a faulty order holds it from one step to the next */
#define UNLOCKED (!FAULT(lock_over_unmap) || !lock)

unsigned generation : 2;
unsigned token : 4, cur : 4, changes : 4; /* the mapping's, that of step 0, the server's */
bit revalidating, returned;

bit verifier, known; /* the server's, the mapping's */
unsigned commit : 2;
bit commit_verifier, commit_again;
bit pass;
byte cursor;

/* What step 2 waits for (cache_sync_wait()). */
#define NOTHING     0
#define NEXT_PASS   1
#define THIS_PASS   2
#define NEXT_COMMIT 3
#define THIS_COMMIT 4
unsigned sync : 3;

byte stores, calls, foreign, readaheads, kreclaims, reclaims, reboots; /* left of the bounds */

byte q, set; /* in the hands of one step: 0 between two */

/* ---- the oracle: for page p, after every step that could break it --------------------------- */

#define KEPT (P.todo | P.inflight | P.unstable | P.committing)
#define HELD(C, x)                                                                                 \
    ((((P.todo | P.unstable | P.committing) & C) && P.d.x == P.last.x) ||                          \
     ((P.inflight & C) && P.wb.x == P.last.x))
#define STORE_HELD                                                                                 \
    ((P.state == UPTODATE && P.dirty && P.k.l == P.last.l) ||                                      \
     (P.writeback && P.out.l == P.last.l) || HELD(L, l))
#define CALL_HELD (P.gap || HELD(W, w))

inline check()
{
    MUST(LOST, the last store is neither in the kernel nor here nor at the server,
         STORE_HELD || P.s.l == P.last.l);
    MUST(LOST, the last write(2) is neither under way nor here nor at the server,
         CALL_HELD || P.s.w == P.last.w);
    MUST(UNSAFE, the last store is dropped before the server has committed it,
         STORE_HELD || P.stable.l == P.last.l);
    MUST(UNSAFE, the last write(2) is dropped before the server has committed it,
         CALL_HELD || P.stable.w == P.last.w);
    MUST(STALE, the mapping does not show the last store,
         P.state != UPTODATE || P.locked || P.k.l == P.last.l);
    MUST(STALE, the mapping does not show the last write(2),
         P.state != UPTODATE || P.locked || P.k.w == P.last.w);
    MUST(LATENT, the cache does not have the last store,
         !(P.valid & L) || P.dirty || P.writeback || P.d.l == P.last.l);
    MUST(LATENT, the cache does not have the last write(2),
         !(P.valid & W) || P.gap || P.d.w == P.last.w);
    MUST(STALE, the mapping shows what was old when a revalidation began that has returned,
         P.state != UPTODATE || P.locked || P.k.f >= P.last.f);
    MUST(LATENT, the cache has what was old when a revalidation began that has returned,
         !(P.valid & F) || P.d.f >= P.last.f)
}

/* ---- the cache: all of this under the mapping's lock ---------------------------------------- */

#define FETCHING    (P.fetch[0].state || P.fetch[1].state)
#define NOW(i)      (P.fetch[i].state && P.fetch[i].generation == generation)
#define FETCHED_NOW (NOW(0) || NOW(1) || (FAULT(attach_to_old_fetch) && FETCHING))
#define OWNED       (P.fetch[0].owned || P.fetch[1].owned)
#define ROOM        (!P.fetch[0].state || !P.fetch[1].state)
#define EXISTS      (P.valid || P.twin || P.mapped || FETCHING)

/* What is not valid counts for nothing: the same state, however it was come to. */
inline tidy()
{
    P.d.l = (P.valid & L -> P.d.l : 0);
    P.d.w = (P.valid & W -> P.d.w : 0);
    P.d.f = (P.valid & F -> P.d.f : 0);
    if
    :: EXISTS
    :: else -> P.generation = 0; P.retry = 0; P.young = 0
    fi
}

inline page_remove()
{
    P.valid = 0; P.todo = 0; P.unstable = 0; P.committing = 0;
    P.mapped = 0; P.twin = 0; ZERO(P.t);
    tidy()
}

inline page_given()
{
    if
    :: FAULT(read_keeps_the_twin)
    :: else -> P.twin = 0; ZERO(P.t)
    fi;
    P.mapped = 1;
    P.young = unmapping
}

inline page_shrink()
{
    set = KEPT;
    if
    :: FAULT(shrink_drops_dirty) -> set = set & ~P.todo; P.todo = 0
    :: FAULT(shrink_drops_in_flight) -> set = set & ~(P.inflight & ~P.todo)
    :: FAULT(shrink_drops_unstable) -> set = set & ~(P.unstable & ~P.todo); P.unstable = 0
    :: FAULT(shrink_drops_committing) -> set = set & ~(P.committing & ~P.todo); P.committing = 0
    :: (FAULT(shrink_keeps_the_page) || FAULT(comes_back) || FAULT(naive)) && set -> set = P.valid
    :: else
    fi;
    P.generation = (FAULT(comes_back) && set -> P.generation : generation);
    if
    :: !set && !FETCHING && !P.mapped -> page_remove()
    :: else ->
       P.retry = P.retry | (FETCHING && P.valid != ALL && (P.valid & ~set) &&
                            !FAULT(drop_with_fetch_in_flight));
       if
       :: P.mapped && !P.twin && P.valid == ALL && set != ALL && !FAULT(no_twin) ->
          P.twin = 1; COPY(P.t, P.d)
       :: else
       fi;
       P.valid = set;
       tidy()
    fi;
    set = 0
}

/* Into slot i. */
inline fetch_new(i, by_read)
{
    if
    :: EXISTS && P.generation != generation -> page_shrink()
    :: else
    fi;
    P.generation = generation;
    ASKS(READ);
    P.fetch[i].state = SENT;
    P.fetch[i].generation = generation;
    P.fetch[i].owned = by_read
}

/* read_advance(), or the end of read_begin(): a READ that may go on, or needs a fetch. */
inline read_try()
{
    if
    :: P.valid == ALL ->
       page_given(); COPY(P.in, P.d);
       P.read = GIVEN;
       P.fetch[0].owned = 0; P.fetch[1].owned = 0
    :: else ->
       P.read = PARKED;
       if
       :: FETCHED_NOW || OWNED
       :: else ->
          if
          :: !P.fetch[0].state -> fetch_new(0, 1)
          :: else -> fetch_new(1, 1)
          fi
       fi
    fi
}

/* Reply `b` gives way to what is valid here (F1). */
#define OVERLAY(b)                                                                                 \
    set = (FAULT(reply_over_local_bytes) -> P.todo : P.valid);                                     \
    b.l = (set & L -> P.d.l : b.l);                                                                \
    b.w = (set & W -> P.d.w : b.w);                                                                \
    b.f = (set & F -> P.d.f : b.f);                                                                \
    set = 0

inline page_fetched(i)
{
    P.fetch[i].state = NONE;
    if
    :: P.valid == ALL /* a younger one was faster */
    :: P.valid != ALL && (P.fetch[i].generation == generation || FAULT(no_generation_check)) ->
       OVERLAY(P.fetch[i].b);
       COPY(P.d, P.fetch[i].b);
       P.valid = ALL;
       P.generation = generation;
#if FAULT(token_from_read)
       token = P.fetch[i].token;
#endif
    :: else ->
       if
       :: (P.fetch[i].owned || FAULT(attach_to_old_fetch)) && P.read == PARKED &&
          (!P.retry || FAULT(old_fetch_lacks_ours)) ->
          OVERLAY(P.fetch[i].b);
          COPY(P.in, P.fetch[i].b); /* a frame of its own */
          page_given();
          if
          :: FAULT(private_without_twin)
          :: else -> P.twin = 1; COPY(P.t, P.in)
          fi;
          P.read = GIVEN;
          P.fetch[0].owned = 0; P.fetch[1].owned = 0
       :: else
       fi
    fi;
    P.fetch[i].generation = 0; P.fetch[i].owned = 0; ZERO(P.fetch[i].b);
#if FAULT(token_from_read)
    P.fetch[i].token = 0;
#endif
    P.retry = P.retry && FETCHING;
    tidy();
    if
    :: P.read == PARKED -> read_try()
    :: else
    fi
}

/* The kernel's page has come back: what differs from the twin was stored here. */
inline write_mapped()
{
    if
    :: P.twin && !(FAULT(compare_with_the_page) && P.valid) -> set = DIFFERENT(P.out, P.t)
    :: !P.twin && P.mapped && P.valid == ALL -> set = DIFFERENT(P.out, P.d)
    :: FAULT(compare_with_the_page) && P.valid -> set = DIFFERENT(P.out, P.d)
    :: else -> MUST(ALARM, a mapped page and nothing to compare it with, false); set = ALL
    fi;
    MUST(UNSTORED, a byte is marked dirty that was not stored since,
         !(set & P.valid & L & (P.d.l == P.out.l -> ALL : 0)) &&
         !(set & P.valid & W & (P.d.w == P.out.w -> ALL : 0)) && !(set & F));
    P.d.l = (set & L -> P.out.l : P.d.l);
    P.d.w = (set & W -> P.out.w : P.d.w);
    P.d.f = (set & F -> P.out.f : P.d.f);
    P.generation = (EXISTS -> P.generation : generation);
    P.valid = P.valid | set;
    P.todo = P.todo | set;
    set = 0;
    if
    :: P.twin -> COPY(P.t, P.out)
    :: else
    fi;
    P.writeback = 0; ZERO(P.out)
}

inline write_call()
{
    P.generation = (EXISTS -> P.generation : generation);
    P.d.w = P.last.w;
    P.valid = P.valid | W;
    P.todo = P.todo | W;
    P.t.w = (P.twin && !FAULT(twin_without_calls) -> P.last.w : P.t.w);
    P.gap = 0
}

/* Of any page. */
#if PAGES == 1
#define ANY(x) (pg[0].x)
#else
#define ANY(x) (pg[0].x || pg[1].x)
#endif
#define UNCOMMITTED (ANY(unstable) || ANY(committing))

inline commit_start()
{
    ASKS(COMMIT);
    commit = SENT;
    EVERY(Q.committing = Q.committing | Q.unstable; Q.unstable = 0)
}

inline redirty_unstable()
{
    EVERY(Q.todo = Q.todo | Q.unstable | Q.committing; Q.unstable = 0; Q.committing = 0);
    sync = (sync -> NEXT_PASS : NOTHING)
}

/* The WRITEs of the pass are answered. A COMMIT follows, now or after the one under way. */
inline pass_end()
{
    pass = 0;
    cursor = 0;
    sync = (sync != THIS_PASS -> sync :
            (UNCOMMITTED && !FAULT(sync_without_commit) -> NEXT_COMMIT : NOTHING));
    if
    :: UNCOMMITTED && !commit -> commit_start(); sync = (sync == NEXT_COMMIT -> THIS_COMMIT : sync)
    :: UNCOMMITTED && commit -> commit_again = 1
    :: else
    fi
}
