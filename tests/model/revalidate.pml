// SPDX-License-Identifier: Apache-2.0
/*
 * Revalidation (cache/revalidate.c, docs/protocol.md) as a model for Spin.
 *
 * Three copies of a file: the kernel's pages, the cache's, the server's. Applications store through
 * a mapping and call write(2), the kernel faults pages in, writes them back and reclaims them,
 * another client writes to the server, the server restarts, and the file is revalidated meanwhile.
 * Spin tries every order in which these steps can follow each other. A step here is a critical
 * section there, under the mapping's lock or the kernel's page lock.
 *
 *   here                 there
 *   -------------------  -----------------------------------------------------------------------
 *   Stores               mapped stores: tests/lib/fake_kernel.c fk_store()
 *   Calls                write(2): fk_write(); cache/write.c write_call()
 *   KernelPage           the kernel's own writeback and reclaim: write_page(), fk_reclaim();
 *                        cache/write.c write_mapped()
 *   KernelRead           a page fault, and its READ: fault(); cache/read.c read_begin(), read_try()
 *   Fetch                a fetch on its way: fetch_new(), the server, page_fetched()
 *   Readahead            cache/readahead.c fetch_missing()
 *   Pass, Write, Commit  cache/writeback.c issue(), cache_write_done(), cache_commit_done()
 *   Revalidator          cache/revalidate.c mapping_revalidate():
 *     unmap()              unmap(), and fuse/unmap.c or fk_ops.unmap: fsync on a descriptor of our
 *                          own, then invalidate_inode_pages2_range() before that FSYNC is answered;
 *                          then copies_gone()
 *     write_and_wait()     cache/writeback.c cache_sync_wait()
 *     invalidate()         invalidate(); cache/mapping.c page_shrink()
 *   Reclaim              cache/pool.c evict_one(), reclaim_run()
 *   Foreign, Reboot      another client; the server restarts
 *
 * cache.pml has the state, what must hold, and what the cache does under its lock.
 *
 * Bounds, by -D: PAGES, REVALS, STORES, CALLS, FOREIGN, READAHEADS, KRECLAIMS (by the kernel),
 * RECLAIMS (by the cache), REBOOTS. Loads, faults and the kernel's writeback are not bounded. Kinds
 * of world: UNSTABLE=1 (WRITE is not durable before COMMIT), OWNTOKEN=1 (own WRITEs move the change
 * token too), TEMPPAGES=1 (a kernel of before 6.16), STEADY=1 (stores never end: for liveness),
 * STEERED=1 (an unmap is not interrupted unless it waits, and a READ that finds its page is
 * answered at once: what the race lab's points can steer).
 * ORDER=name gives a faulty order; its name is that of the list below.
 *
 * A page has three cells instead of 4096 bytes: `l` is written by mapped stores, `w` by write(2),
 * `f` by the other client. Each holds a number that its writer counts up; of cells that two write
 * nothing is said here (tests/race/cache_model.c has them).
 *
 * Left out: sizes and truncation, O_DIRECT, errors, memory that runs out, credentials, READs and
 * WRITEs of more than one page, the time when no descriptor is open for writing (no twins), more
 * than one revalidation of a file at a time (reval_lock). Two unmaps of a file do not overlap here:
 * the kernel's inode lock keeps them apart. A page under the lock of an invalidation cannot be
 * stored to: its page table entries are gone by then, and the fault waits. A WRITE carries the
 * bytes of the moment when it is sent; in the cache it refers to the frame, and may carry newer
 * ones, which are dirty then and go again.
 *
 * A trail prints "@ lane does what page" and "@ lane at point page", of which tests/model/schedule
 * makes a schedule for the race lab, and last "! OUTCOME": what was broken.
 */

/* ---- the faulty orders --------------------------------------------------------------------------
 * Where tests/race/mutants.list has the same fault it has the same name (with dashes). */
#define shipped                   0
#define no_first_unmap            1  /* step 1 is left out */
#define drop_before_wait          2  /* step 2 is left out */
#define no_second_unmap           3  /* step 4 is left out */
#define naive                     4  /* step 1, 2, and what is clean is dropped: no more */
#define shrink_drops_dirty        5  /* 2006: step 3 clears the dirty mark */
#define dirty_not_rechecked       6  /* step 3 looks first, and drops under a lock taken later */
#define shrink_drops_in_flight    7
#define shrink_drops_unstable     8
#define shrink_drops_committing   9
#define shrink_keeps_the_page     10 /* a page that is not clean is kept whole */
#define walk_stops_early          11 /* step 3 ends at the first page that stays */
#define generation_after_the_walk 12
#define no_generation_check       13 /* an old fetch is inserted */
#define reply_over_local_bytes    14 /* F1: the reply gives way to dirty bytes only */
#define drop_with_fetch_in_flight 15 /* F1: what was valid is forgotten while a fetch is under way */
#define old_fetch_lacks_ours      16 /* F1: PG_RETRY is not heeded */
#define attach_to_old_fetch       17 /* F2 */
#define acknowledgement_cleans    19 /* the end of a WRITE clears dirty */
#define unstable_is_clean         20 /* reclaim takes pages with unstable bytes */
#define commit_ignores_the_verifier 21
#define write_ignores_the_verifier 22
#define commit_cleans_what_came_later 23
#define sync_without_commit       24
#define token_sampled_late        25
#define token_from_read           26
#define token_adopted_blindly     27 /* from the reply to any own WRITE */
#define first_token_late          28 /* sampled after the first fetch */
#define unmap_without_fsync       29 /* notify-drops-write: the notification alone */
#define unmap_without_fence       30 /* TEMPPAGES: WRITEs under way are not waited for */
#define lock_over_unmap           31
#define compare_with_the_page     32 /* twins: compared with what the cache holds now */
#define no_twin                   33
#define twin_without_calls        35 /* ... by write(2) */
#define private_without_twin      36 /* ... by a READ that was served from an old fetch */
#define twin_freed_by_any_unmap   37
#define read_keeps_the_twin       38
#define reclaim_without_unmap     39
#define reclaim_does_not_look_again 40
#define waits_until_clean         41 /* step 2 waits for an instant with nothing dirty */
#define comes_back                42 /* pages that stay are kept whole, and step 2 and 3 again */
#ifndef ORDER
#define ORDER shipped
#endif
#define FAULT(name) (ORDER == name)

/* ---- bounds ---- */
#ifndef PAGES
#define PAGES 1
#endif
#ifndef REVALS
#define REVALS 2
#endif
#ifndef STORES
#define STORES 2
#endif
#ifndef CALLS
#define CALLS 0
#endif
#ifndef FOREIGN
#define FOREIGN 2
#endif
#ifndef READAHEADS
#define READAHEADS 0
#endif
#ifndef KRECLAIMS
#define KRECLAIMS 1
#endif
#ifndef RECLAIMS
#define RECLAIMS 0
#endif
#ifndef REBOOTS
#define REBOOTS 0
#endif
#ifndef UNSTABLE
#define UNSTABLE 0
#endif
#ifndef OWNTOKEN
#define OWNTOKEN 0
#endif
#ifndef TEMPPAGES
#define TEMPPAGES 0
#endif
#ifndef STEADY
#define STEADY 0
#endif
#ifndef STEERED
#define STEERED 0
#endif

#include "cache.pml"

/* ---- the kernel ----------------------------------------------------------------------------- */

/* Steps of whoever calls it. Pages [from, to), p is the caller's to lose. */
inline unmap(from, to)
{
    d_step {
        !unmapping ->
        unmapping = 1;
        AT(revalidator, unmap.begin)
    };
#if STEERED
    atomic {
#endif
#if !FAULT(unmap_without_fsync)
    /* fsync on our own descriptor: no write(2) is under way from here on. The dirty pages that it
     * pushes are left to the invalidation, page by page. */
    d_step { !inode_lock -> inode_lock = 1 };
#endif
    p = from;
    do
    :: d_step { p < to && !P.locked && P.state == ABSENT -> p++ }
    :: d_step { p < to && !P.locked && P.state == UPTODATE -> P.locked = 1 };
       if
       :: d_step {
              P.dirty && !P.writeback ->
              P.dirty = 0; P.writeback = 1; COPY(P.out, P.k);
              AT(revalidator, kernel.writepage)
          };
          (!P.writeback)
       :: !P.dirty && (!P.writeback || TEMPPAGES)
       fi;
       d_step {
           P.state = ABSENT; P.locked = 0; ZERO(P.k);
           p++
       }
    :: p == to -> break
    od;
#if TEMPPAGES && !FAULT(unmap_without_fence)
    /* A page may have been dropped while its WRITE is under way: another fsync waits for that. */
    p = from;
    do
    :: d_step { p < to && !P.writeback -> p++ }
    :: p == to -> break
    od;
#endif
    p = from;
    d_step {
#if !FAULT(unmap_without_fsync)
        inode_lock = 0;
#endif
        AT(revalidator, unmap.done)
    };
#if STEERED
    }
#endif
    d_step { /* copies_gone() */
        unmapping = 0;
        do
        :: p < to ->
           if
           :: !P.young || FAULT(twin_freed_by_any_unmap) -> P.mapped = 0; P.twin = 0; ZERO(P.t)
           :: else
           fi;
           P.young = 0;
           tidy();
           p++
        :: else -> break
        od;
        p = 0
    }
}

proctype Stores(byte p)
{
end:
    do
    :: d_step {
           stores > 0 && P.state == UPTODATE && !P.locked && !P.writeback ->
#if STEADY
           P.last.l = 1 - P.last.l;
#else
           stores--;
           P.last.l = P.last.l + 1;
#endif
           P.k.l = P.last.l;
           P.dirty = 1;
           DOES(application, store);
           AT(application, end);
           check()
       }
    od
}

proctype Calls(byte p)
{
    bit mine;
end:
    do
    :: d_step {
           calls > 0 && !inode_lock ->
           calls--;
           inode_lock = 1;
           DOES(application2, write)
       };
       d_step {
           !P.locked && P.state != READING ->
           P.last.w = P.last.w + 1;
           P.gap = 1;
           if
           :: P.state == UPTODATE -> P.k.w = P.last.w
           :: else -> P.locked = 1; mine = 1
           fi;
           AT(application2, kernel.copied)
       };
       d_step { /* the kernel waits for the page's writeback, then sends */
           !P.writeback && UNLOCKED ->
           write_call();
           AT(application2, write.taken);
           check()
       };
       d_step {
           P.locked = (mine -> 0 : P.locked);
           mine = 0;
           inode_lock = 0;
           AT(application2, end)
       }
    od
}

inline read_answered()
{
    P.read = NONE;
    P.state = UPTODATE; COPY(P.k, P.in); ZERO(P.in);
    AT(application3, end)
}

proctype KernelRead(byte p)
{
end:
    do
    :: d_step {
           P.state == ABSENT && !P.locked && !P.writeback ->
           P.state = READING;
           P.read = SENT;
           DOES(application3, load);
           AT(application3, kernel.read)
       }
    :: d_step {
           P.read == SENT && UNLOCKED && (P.valid == ALL || FETCHED_NOW || ROOM) ->
           if
           :: FAULT(read_keeps_the_twin)
           :: else -> P.mapped = 0; P.twin = 0; ZERO(P.t); tidy()
           fi;
           read_try();
           if
           :: P.read == GIVEN && !STEERED -> AT(application3, read.given)
           :: P.read == GIVEN && STEERED -> read_answered()
           :: else -> AT(application3, read.parked)
           fi;
           check()
       }
    :: d_step { P.read == GIVEN -> read_answered(); check() }
    od
}

proctype KernelPage(byte p)
{
end:
    do
    :: d_step {
           P.state == UPTODATE && P.dirty && !P.locked && !P.writeback ->
           P.dirty = 0; P.writeback = 1; COPY(P.out, P.k);
           DOES(kernel, writeback);
           AT(kernel, kernel.writepage)
       }
    :: d_step {
           P.writeback && UNLOCKED ->
           if
           :: P.locked -> AT(revalidator, write.taken)
           :: else -> AT(kernel, end)
           fi;
           write_mapped();
           check()
       }
    :: d_step {
           kreclaims > 0 && P.state == UPTODATE && !P.dirty && !P.locked && !P.gap &&
           (!P.writeback || TEMPPAGES) ->
           kreclaims--;
           P.state = ABSENT; ZERO(P.k);
           DOES(kernel2, reclaim);
           AT(kernel2, end)
       }
    od
}

/* ---- the cache and the server --------------------------------------------------------------- */

proctype Fetch(byte p; byte i)
{
end:
    do
    :: d_step {
           P.fetch[i].state == SENT ->
           P.fetch[i].state = ANSWERED; COPY(P.fetch[i].b, P.s);
#if FAULT(token_from_read)
           P.fetch[i].token = changes;
#endif
           AT(server, server.READ.done)
       }
    :: d_step {
           P.fetch[i].state == ANSWERED && UNLOCKED ->
           page_fetched(i);
           AT(server, fetch.merged);
           check()
       }
    od
}

proctype Readahead(byte p)
{
end:
    do
    :: d_step {
           readaheads > 0 && P.valid != ALL && !FETCHED_NOW && ROOM && UNLOCKED ->
           readaheads--;
           DOES(reader, readahead);
           if
           :: !P.fetch[0].state -> fetch_new(0, 0)
           :: else -> fetch_new(1, 0)
           fi;
           AT(reader, end);
           check()
       }
    od
}

proctype Pass()
{
    byte p;
end:
    do
    :: d_step {
           !pass && (ANY(todo) || sync == NEXT_PASS) && UNLOCKED ->
           pass = 1;
           if
           :: sync == NEXT_PASS -> sync = THIS_PASS
           :: else -> DOES(writeback, pass)
           fi
       }
    :: d_step {
           pass && cursor < PAGES && UNLOCKED ->
           p = cursor;
           cursor++;
           if
           :: P.todo && !P.inflight ->
              P.write = SENT; COPY(P.wb, P.d);
              P.inflight = P.todo;
              P.todo = (FAULT(acknowledgement_cleans) -> P.todo : 0);
              P.wb.l = (P.inflight & L -> P.wb.l : 0);
              P.wb.w = (P.inflight & W -> P.wb.w : 0);
              P.wb.f = (P.inflight & F -> P.wb.f : 0);
              ASKS(WRITE);
              if
              :: sync == THIS_PASS -> AT(revalidator, wb.sent)
              :: else -> AT(writeback, wb.sent)
              fi
           :: else
           fi;
           if
           :: cursor == PAGES && !ANY(write) -> pass_end()
           :: else
           fi;
           p = 0
       }
    od
}

proctype Write(byte p)
{
end:
    do
    :: d_step {
           P.write == SENT ->
           P.write = ANSWERED;
           MUST(LOST, a WRITE carries a byte of somebody else and an old one,
                !(P.inflight & F) || P.wb.f == P.s.f);
           P.s.l = (P.inflight & L -> P.wb.l : P.s.l);
           P.s.w = (P.inflight & W -> P.wb.w : P.s.w);
           P.s.f = (P.inflight & F -> P.wb.f : P.s.f);
#if !UNSTABLE
           COPY(P.stable, P.s);
#endif
           P.wverifier = verifier;
#if OWNTOKEN
           P.wtoken = changes;
           changes++;
#endif
           AT(server, server.WRITE.done);
           check()
       }
    :: d_step {
           P.write == ANSWERED && UNLOCKED ->
           P.write = NONE;
#if UNSTABLE
           if
           :: P.wverifier != known ->
              if
              :: UNCOMMITTED && !FAULT(write_ignores_the_verifier) ->
                 redirty_unstable()
              :: else
              fi;
              known = P.wverifier
           :: else
           fi;
           P.unstable = P.unstable | P.inflight;
#endif
           P.todo = (FAULT(acknowledgement_cleans) -> P.todo & ~P.inflight : P.todo);
           P.inflight = 0; ZERO(P.wb); P.wverifier = 0;
#if OWNTOKEN
           token = (token == P.wtoken || FAULT(token_adopted_blindly) -> P.wtoken + 1 : token);
           cur = (revalidating && (cur == P.wtoken || FAULT(token_adopted_blindly)) ->
                  P.wtoken + 1 : cur);
           P.wtoken = 0;
#endif
           if
           :: pass && cursor == PAGES && !ANY(write) -> pass_end()
           :: else
           fi;
           AT(server, WRITE.end);
           check()
       }
    od
}

#if UNSTABLE
proctype Commit()
{
    byte p;
end:
    do
    :: d_step {
           commit == SENT ->
           commit = ANSWERED;
           commit_verifier = verifier;
           EACH(COPY(P.stable, P.s));
           AT(server, server.COMMIT.done)
       }
    :: d_step {
           commit == ANSWERED && UNLOCKED ->
           commit = NONE;
           if
           :: commit_verifier != known && !FAULT(commit_ignores_the_verifier) ->
              known = commit_verifier;
              redirty_unstable();
              commit_again = 0
           :: else ->
              EACH(P.committing = 0;
                   P.unstable = (FAULT(commit_cleans_what_came_later) -> 0 : P.unstable));
              sync = (sync == THIS_COMMIT || (sync == NEXT_COMMIT && !ANY(unstable)) ->
                      NOTHING : sync);
              if
              :: commit_again && ANY(unstable) ->
                 commit_start();
                 sync = (sync == NEXT_COMMIT -> THIS_COMMIT : sync)
              :: else
              fi;
              commit_again = 0
           fi;
           commit_verifier = 0;
           p = 0;
           AT(server, COMMIT.end);
           EACH(check())
       }
    od
}
#endif

/* ---- the revalidator ------------------------------------------------------------------------ */

/* cache_sync_wait() */
inline write_and_wait()
{
    d_step {
        if
        :: ANY(todo) || ANY(inflight) -> sync = NEXT_PASS
        :: else ->
           if
           ::  !UNCOMMITTED -> sync = NOTHING
           :: else ->
              if
              :: commit -> sync = NEXT_COMMIT; commit_again = 1
              :: else -> sync = THIS_COMMIT; commit_start()
              fi
           fi
        fi
    };
    d_step { sync == NOTHING -> AT(revalidator, reval.waited) }
}

/* There the generation counts up in the critical section of the first page. It is a step of its
 * own here, so that every page is one that the walk has not come to yet. */
#define COUNTS_UP (!FAULT(generation_after_the_walk) && !FAULT(naive) && !back)

inline invalidate()
{
    d_step {
        generation = (COUNTS_UP && !STEERED -> generation + 1 : generation);
        p = 0
    };
    do
    :: p < PAGES ->
#if FAULT(dirty_not_rechecked)
       clean = !KEPT && !FETCHING;
#endif
       d_step {
           generation = (COUNTS_UP && STEERED && p == 0 -> generation + 1 : generation);
           if
           :: FAULT(dirty_not_rechecked) && clean -> P.todo = 0; P.unstable = 0; page_shrink()
           :: FAULT(naive) && (KEPT || FETCHING)
           :: !EXISTS || (P.generation == generation && !FAULT(generation_after_the_walk) &&
                          !FAULT(naive))
           :: else -> page_shrink()
           fi;
           clean = 0;
           AT(revalidator, reval.page);
           check();
           p = (FAULT(walk_stops_early) && KEPT -> PAGES : p + 1)
       }
    :: else -> break
    od;
    p = 0;
    d_step {
        generation = (FAULT(generation_after_the_walk) -> generation + 1 : generation);
        AT(revalidator, reval.invalidated)
    }
}

proctype Revalidator()
{
    byte p, done;
    bit clean, back; /* of faulty orders */

    do
    :: done < REVALS ->
       d_step {
           cur = changes;
           token = (FAULT(first_token_late) && !done -> changes : token);
           EACH(P.asked.l = P.last.l; P.asked.w = (P.gap -> 0 : P.last.w); P.asked.f = P.s.f);
           DOES(revalidator, revalidate);
           ASKS(GETATTR);
           AT(revalidator, nothing);
           AT(server, server.GETATTR.done)
       };
       if
       :: d_step { cur == token -> skip }
       :: d_step {
              cur != token ->
              revalidating = 1;
              AT(revalidator, reval.asked)
          };
#if !FAULT(no_first_unmap)
          unmap(0, PAGES);
#endif
          d_step { AT(revalidator, reval.unmapped) };
again:
#if FAULT(waits_until_clean)
          d_step {
              !ANY(todo) && !ANY(inflight) && !UNCOMMITTED ->
              AT(revalidator, reval.waited)
          };
#elif !FAULT(drop_before_wait)
          write_and_wait();
#endif
          invalidate();
#if FAULT(comes_back)
          if
          :: ANY(valid) && pg[0].generation != generation -> back = 1; goto again
          :: else
          fi;
#endif
#if FAULT(lock_over_unmap)
          lock = 1;
#endif
#if !FAULT(no_second_unmap) && !FAULT(naive)
          unmap(0, PAGES);
#endif
          d_step {
              lock = 0;
              AT(revalidator, reval.unmapped-again)
          };
          d_step {
              token = (FAULT(token_sampled_late) -> changes : cur);
              revalidating = 0;
#if !STEADY
              EACH(MUST(UNSENT, what was stored before the revalidation is not at the server,
                   P.stable.l >= P.asked.l && P.stable.w >= P.asked.w));
#endif
              p = 0
          }
       fi;
       d_step {
           done++;
           cur = 0;
           EACH(P.last.f = (P.asked.f > P.last.f -> P.asked.f : P.last.f);
                ZERO(P.asked));
           AT(revalidator, end);
           EACH(check())
       }
    :: else -> break
    od;
    returned = 1
}

#if RECLAIMS
/* A page that the kernel may have is unmapped first, then looked at again. */
proctype Reclaim(byte page)
{
    byte p = page;
end:
    do
    :: d_step {
           reclaims > 0 && P.valid && UNLOCKED &&
           (!FETCHING || FAULT(drop_with_fetch_in_flight)) &&
           (!KEPT || (FAULT(unstable_is_clean) && !P.todo && !P.inflight)) &&
           (!P.mapped || FAULT(reclaim_without_unmap)) ->
           reclaims--;
           DOES(reclaimer, reclaim);
           page_remove();
           check()
       }
    :: d_step { reclaims > 0 && P.mapped && !KEPT && UNLOCKED -> reclaims-- };
       unmap(page, page + 1);
       d_step {
           p = page;
           AT(reclaimer, reclaim.unmapped);
           if
           :: P.valid && !KEPT && !FETCHING && (!P.mapped || FAULT(reclaim_does_not_look_again)) ->
              page_remove()
           :: else
           fi;
           check()
       }
    od
}
#endif

/* ---- the others ----------------------------------------------------------------------------- */

proctype Foreign(byte p)
{
end:
    do
    :: d_step {
           foreign > 0 ->
           foreign--;
           P.s.f = P.s.f + 1; P.stable.f = P.s.f;
           changes++;
           DOES(foreign, foreign);
           AT(foreign, end)
       }
    od
}

#if UNSTABLE
proctype Reboot()
{
    byte p;
end:
    do
    :: d_step {
           reboots > 0 ->
           reboots--;
           verifier = 1 - verifier;
           EACH(COPY(P.s, P.stable));
           DOES(foreign, reboot);
           AT(foreign, end);
           EACH(check())
       }
    od
}
#endif

#if STEADY
ltl returns { always (revalidating implies eventually (!revalidating)) }
#else
/* When nobody can go on. */
proctype End()
{
    byte p;

    timeout ->
    d_step {
        MUST(DEADLOCK, the revalidation has not returned, returned);
        MUST(DEADLOCK, somebody waits, !inode_lock && !pass && !commit && !sync);
        EACH(MUST(DEADLOCK, somebody waits for a page, !P.read && !P.writeback && !P.gap);
             MUST(LOST, something is still dirty, !KEPT && !P.dirty))
    }
}
#endif

init
{
    byte p;

    atomic {
        /* Cached, and in the kernel. */
        do
        :: p < PAGES ->
           P.state = UPTODATE;
           P.valid = ALL;
           P.mapped = 1;
           run Stores(p);
           run KernelRead(p);
           run KernelPage(p);
           run Fetch(p, 0);
           run Fetch(p, 1);
           run Write(p);
#if CALLS
           run Calls(p);
#endif
#if READAHEADS
           run Readahead(p);
#endif
#if RECLAIMS
           run Reclaim(p);
#endif
#if FOREIGN
           run Foreign(p);
#endif
           p++
        :: else -> break
        od;
        stores = STORES; calls = CALLS; foreign = FOREIGN; readaheads = READAHEADS;
        kreclaims = KRECLAIMS; reclaims = RECLAIMS; reboots = REBOOTS;
        run Pass();
#if UNSTABLE
        run Commit();
        run Reboot();
#endif
        run Revalidator();
#if !STEADY
        run End();
#endif
        p = 0
    }
}
