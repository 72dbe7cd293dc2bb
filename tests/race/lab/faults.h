// SPDX-License-Identifier: Apache-2.0
/*
 * The faulty orders, side by side with what they replace.
 *
 * Each is one condition, FAULT(name), at one place of the product's sources, which are otherwise
 * compiled as they are. A protocol of the catalogue is a set of these; the shipped one is the empty
 * set.
 */
#ifndef NFSCACHED_RACE_FAULTS_H
#define NFSCACHED_RACE_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

/* X(name, where, what is shipped, what takes its place) */
#define LAB_FAULTS(X)                                                                              \
    X(stop_at_first, "cache/revalidate.c invalidate()",                                            \
      "the walk goes on over a page that cannot be dropped",                                       \
      "it ends there, and the pages behind it stay as they are")                                   \
    X(no_second_unmap, "cache/revalidate.c mapping_revalidate()",                                  \
      "step 4 unmaps again: what a fault installed since step 1 goes",                             \
      "there is no step 4; what excludes faults meanwhile, if anything, is in the entry")          \
    X(clear_uptodate, "cache/mapping.c page_shrink()",                                             \
      "a page that the kernel has, or a READ holds, leaves its frame to them",                     \
      "it keeps its frame, and is merely not uptodate any more: the next fetch fills it in place") \
    X(count_check, "cache/pool.c free_unmapped()",                                                 \
      "after its unmap reclaim looks again, under the lock: mapped since, or referenced: it "      \
      "stays",                                                                                     \
      "it goes by what it knew when it chose the pages")                                           \
    X(map_count, "cache/mapping.c page_shrink()",                                                  \
      "a frame that a READ being answered refers to is not touched again",                         \
      "only copies that are mapped count; a reference does not")                                   \
    X(unpinned_write, "cache/writeback.c write_new()",                                             \
      "a WRITE under way refers to the frames that it is made of",                                 \
      "it has their addresses, and no reference")                                                  \
    X(direct_no_invalidate, "tests/lib/fake_kernel.c fk_direct_write()",                           \
      "an O_DIRECT write drops the kernel's pages before and after",                               \
      "it writes them out, and leaves them")                                                       \
    X(direct_no_flush, "tests/lib/fake_kernel.c fk_direct_write(), invalidate()",                  \
      "an O_DIRECT write first writes out what is dirty in its range",                             \
      "it drops the pages, dirty or not")                                                          \
    X(direct_refill, "tests/lib/fake_kernel.c fk_direct_write()",                                  \
      "an O_DIRECT write drops the kernel's pages once more when it is done",                      \
      "only before: what a fault or readahead brought meanwhile stays")                            \
    X(direct_no_part, "cache/write.c write_call()",                                                \
      "an O_DIRECT write parts page and twin: the kernel's copy did not take the bytes",           \
      "the twin takes them too")                                                                   \
    X(direct_overtaken, "cache/read.c direct_again()",                                             \
      "a direct READ that a COMMIT of its bytes overtook is asked again",                          \
      "its reply is served, with nothing left to lay over it")                                     \
    X(token_first, "cache/revalidate.c begin()",                                                   \
      "the token is remembered when the pages match it",                                           \
      "it is remembered before they are invalidated")                                              \
    X(token_late, "cache/revalidate.c mapping_revalidate()",                                       \
      "what is remembered is the token of step 0", "it is asked for once more, at the end")        \
    X(no_reval_lock, "cache/revalidate.c mapping_revalidate()",                                    \
      "one revalidation of a file at a time; others wait for it", "each for itself")               \
    X(extend_write, "cache/write.c write_call()", "write(2) marks exactly its bytes",              \
      "a page that counts as uptodate is marked whole: one WRITE instead of several")              \
    X(commit_verifier, "cache/writeback.c cache_commit_done()",                                    \
      "COMMIT answered by another verifier: what it covered is dirty again",                       \
      "no error is success")                                                                       \
    X(write_verifier, "cache/writeback.c check_verifier()",                                        \
      "WRITE answered by another verifier: everything unstable is dirty again",                    \
      "the new verifier is remembered, and that is all")                                           \
    X(congested, "cache/writeback.c issue()", "what is not sent now stays dirty",                  \
      "a group that finds the line busy is given up, its dirty mark cleared already")              \
    X(size_shrink, "cache/revalidate.c remember()",                                                \
      "bytes acknowledged, or not yet committed, hold the size up",                                \
      "the size is what the server said in step 0")                                                \
    X(two_in_flight, "cache/writeback.c wb_kick_mapping(), take_group()",                          \
      "a page with bytes in flight is not sent again before they are answered",                    \
      "it is sent again at once")                                                                  \
    X(no_generation, "cache/read.c page_fetched()",                                                \
      "a fetch that began under an older generation inserts nothing",                              \
      "whatever arrives is inserted")                                                              \
    X(error_once, "cache/mapping.c mapping_error_check()",                                         \
      "each descriptor has its own position in the sequence of errors",                            \
      "one flag for the file: who asks first clears it")                                           \
    X(error_untold, "cache/writeback.c record_error()",                                            \
      "an error of writing back is recorded for all descriptors",                                  \
      "only who waits just then hears of it")                                                      \
    X(error_cleans, "cache/writeback.c cache_write_done()",                                        \
      "bytes of a WRITE that failed are dirty again", "they count as written")                     \
    X(evict_in_flight, "cache/cache.c drop_clean()",                                               \
      "a page with bytes in flight or not yet committed is not clean",                             \
      "only the index of dirty pages is asked, which the flush has taken it off")                  \
    X(notify_in_handler, "fuse/revalidate.c judge()",                                              \
      "a helper thread empties the kernel's cache; who serves /dev/fuse never waits for it",       \
      "the thread that got the answer, which serves /dev/fuse, notifies the kernel itself")        \
    X(lock_over_unmap, "cache/revalidate.c unmap()", "no lock is held that a handler takes",       \
      "the mapping's lock is held, for which the WRITE waits that the unmap waits for")            \
    X(refuse_writepage, "fuse/io.c front_write()",                                                 \
      "a page that the kernel writes back is always taken, and kept dirty",                        \
      "while the server refuses WRITEs, so do we, with the same error")                            \
    X(unmap_without_fsync, "fuse/unmap.c unmap_inode()",                                           \
      "fsync() on a descriptor of our own, and the notification while that FSYNC is unanswered",   \
      "the notification alone")                                                                    \
    X(size_from_read, "cache/read.c cache_fetch_done()",                                           \
      "a READ is answered up to the size that the kernel was told, padded with zeros",             \
      "the end of file that the server's READ shows is the size from then on")                     \
    X(fsync_unmaps, "fuse/file.c front_fsync()",                                                   \
      "FSYNC writes what the daemon has; the kernel has sent the rest before",                     \
      "it first unmaps the file, to be sure to have everything")                                   \
    X(setattr_unmaps, "fuse/setattr.c front_setattr()",                                            \
      "a truncation does not wait for the kernel",                                                 \
      "it first unmaps the file, so that no page of before is left")                               \
    X(migrate_seqcount, "cache/migrate.c move_frame()",                                            \
      "a page is copied and switched in one section under its mapping's lock",                     \
      "it is copied without a lock; a look says that the index is as it was, and it is switched")  \
    X(migrate_wait_pinned, "cache/migrate.c move_frame()",                                         \
      "a page that others refer to moves; they keep the old frame until they let go",              \
      "it is left alone until nobody else refers to it")                                           \
    X(migrate_lazy_cleanup, "cache/migrate.c move_frame()",                                        \
      "the page lets go of its old frame when it has switched",                                    \
      "the old frames are let go when the walk over all pages is over")                            \
    X(clear_dirty, "cache/mapping.c page_shrink()",                                                \
      "a page is looked at again under its lock; dirty bytes stay",                                \
      "the dirty mark is cleared and the page dropped, as write-and-wait has just cleaned it")     \
    X(no_first_unmap, "cache/revalidate.c mapping_revalidate()",                                   \
      "step 1: the kernel pushes out what it holds dirty, and drops its copies",                   \
      "step 1 is left out")                                                                        \
    X(no_wait, "cache/revalidate.c mapping_revalidate()",                                          \
      "step 2: what is dirty is written and committed", "step 2 is left out")                      \
    X(generation_after_the_walk, "cache/revalidate.c invalidate()",                                \
      "the generation counts up before the first page is looked at",                               \
      "it counts up when the last one was")                                                        \
    X(reply_over_local_bytes, "cache/read.c page_fetched()",                                       \
      "all bytes that are valid here win over the reply",                                          \
      "only dirty ones do: those acknowledged since it was sent are reverted")                     \
    X(attach_to_old_fetch, "cache/read.c fetched_now(), page_fetched()",                           \
      "a READ waits for no fetch of an older generation, unless it caused it",                     \
      "it waits for any, a readahead for instance, and takes what that brings")                    \
    X(old_fetch_lacks_ours, "cache/read.c page_fetched()",                                         \
      "an old fetch is not served when bytes of ours were dropped since that it may lack",         \
      "it is served")                                                                              \
    X(old_bytes_under_a_new_fetch, "cache/read.c page_to_fetch()",                                 \
      "a page that the walk has not come to yet is shrunk before it is fetched into",              \
      "its old bytes are merged with the new")                                                     \
    X(acknowledgement_cleans, "cache/writeback.c land()",                                          \
      "a WRITE takes its bytes out of dirty when it is sent; its end touches dirty no more",       \
      "its end clears the dirty mark of its bytes, written again meanwhile or not")                \
    X(shrink_drops_unstable, "cache/mapping.c page_shrink()",                                      \
      "bytes that the server has acknowledged and not committed stay", "they go")                  \
    X(twin_freed_by_any_unmap, "cache/revalidate.c copies_gone()",                                 \
      "an unmap frees twins of copies that were given before it began",                            \
      "it frees those given meanwhile, too")                                                       \
    X(compare_with_the_page, "cache/write.c write_mapped()",                                       \
      "a mapped page is compared with what the kernel was given (its twin)",                       \
      "it is compared with what the cache holds now")

enum lab_fault {
#define X(name, where, shipped, fault) FAULT_##name,
    LAB_FAULTS(X)
#undef X
        FAULTS
};

_Static_assert(FAULTS <= 64, "a protocol is a mask of faults");

extern uint64_t lab_faults;

#define FAULT(name)     lab_fault(FAULT_##name)
#define FAULT_BIT(name) (UINT64_C(1) << FAULT_##name)

static inline bool lab_fault(enum lab_fault f)
{
    return lab_faults >> f & 1;
}

struct lab_fault_text {
    const char *name, *where, *shipped, *fault;
};

extern const struct lab_fault_text lab_fault_texts[FAULTS];

#endif
