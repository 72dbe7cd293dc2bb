// SPDX-License-Identifier: Apache-2.0
/* The lost write of 2006. */
#include "tests/race/lab/lab.h"
#include "tests/race/mount/mount.h"

#define MINE   8
#define THEIRS 4000

static void setup(struct lab *l)
{
    lab_load(l, MINE);
    lab_foreign(l, THEIRS, 7);
}

static void application(struct lab *l)
{
    lab_store(l, MINE, 2);
    lab_writeback(l, 0);
}

/* The same with the real kernel. The page that the revalidator has unmapped is faulted in again by
 * the store. */
static void mount(struct lab_mount *m)
{
    struct lm_op *reval;

    lm_load(m, MINE);
    lm_foreign(m, THEIRS, 7);
    lm_hold(m, "reval.waited");
    reval = lm_start(m, "revalidator", LM_REVALIDATE, 0, 0, 0);
    lm_arrived(m, "reval.waited", 1);
    lm_store(m, MINE, 2);
    lm_writeback(m, 0);
    lm_release(m, "reval.waited");
    lm_wait(m, reval);
}

static const struct lab_lane lanes[] = {
    {"application", application}, {"revalidator", lab_revalidate}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "dirty bytes stay, whatever was waited for before"},
    {.name = "clear-dirty",
     .what = "2006: was_dirty = test_clear_page_dirty(page), and the page goes",
     .faults = FAULT_BIT(clear_dirty),
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_lost_write = {
    .name = "lost-write",
    .number = 1,
    .year = "2006",
    .title =
        "A page stored to between write-and-wait and invalidate_inode_pages2() loses the store",
    .history =
        "Before it dropped a file's pages the NFS client wrote out what was dirty, and waited. "
        "Then "
        "invalidate_inode_pages2() went over the pages, one after the other: lock, unmap, clear "
        "the "
        "dirty bit, remove. An application that had the file mapped could store to a page after "
        "the "
        "wait was over and before its turn came. The bit that was cleared was that of the new "
        "store.",
    .source = "nfs list, 17 and 24 February 2006, 'Problems with mmap consistency' (Olaf Kirch, "
              "Trond Myklebust, Andrea Arcangeli), to linux-kernel on 31 March 2006; mm/truncate.c "
              "invalidate_inode_pages2_range() of 2.6.17; test_clear_page_dirty() went with "
              "fba2591bf4e4, Linus Torvalds, December 2006",
    .mechanism = "Write-and-wait says that nothing was dirty when it ended. It says nothing of the "
                 "time after, and nothing keeps applications from storing. Whoever takes 'clean a "
                 "moment ago' for 'clean' under the page's lock drops a write that was "
                 "acknowledged.",
    .saved_by = "Step 3 looks at each page again, under the lock under which it would be dropped. "
                "Bytes that are dirty, in flight or unstable stay; the page is shrunk to them.",
    .protocols = protocols,
    .lanes = lanes,
    .setup = setup,
    .mount = mount,
    .schedule = "revalidator until reval.waited\n"
                "application until end\n"
                "revalidator until end\n",
};
