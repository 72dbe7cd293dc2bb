// SPDX-License-Identifier: Apache-2.0
/* The walk that ended at the first page it could not drop. */
#include "tests/race/lab/lab.h"
#include "tests/race/mount/mount.h"

#define MINE   8
#define THEIRS (PAGE_SIZE + 100)

static void setup(struct lab *l)
{
    lab_load(l, MINE);
    lab_load(l, THEIRS);
    lab_foreign(l, THEIRS, 7);
}

static void application(struct lab *l)
{
    lab_store(l, MINE, 2);
    lab_writeback(l, 0);
}

static void mount(struct lab_mount *m)
{
    struct lm_op *reval;

    lm_load(m, MINE);
    lm_load(m, THEIRS);
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
    {.name = "shipped", .what = "what cannot be dropped is shrunk, and the walk goes on"},
    {.name = "stop",
     .what = "2.6.17: ret = -EIO at the first page that stays, and while (!ret ...)",
     .faults = FAULT_BIT(stop_at_first),
     .on_cache = STALE,
     .on_mount = STALE},
    {0}};

const struct lab_entry entry_stop_at_first = {
    .name = "stop-at-first",
    .number = 2,
    .year = "2006",
    .title = "One page that cannot be dropped keeps all pages behind it stale",
    .history =
        "The loop of invalidate_inode_pages2_range() ran while (!ret && ...). A page that was "
        "dirty again, or whose release was refused, set ret to -EIO; the loop ended there. So "
        "one busy page early in a file left every later page as it was, and the caller, which "
        "had just been told by the server that the file is another, went on to read them. "
        "Arcangeli's patch of February 2006 against the lost write made the loop go on and return "
        "the error at its end; NeilBrown sent that half by itself in August: nothing justifies "
        "giving up early, and nothing can keep a page from being stored to meanwhile.",
    .source = "nfs list, 24 February 2006, 'Problems with mmap consistency' (Andrea Arcangeli; "
              "linux-kernel 31 March 2006); linux-kernel, 29 August 2006, 'Invalidate_inode_pages2 "
              "shouldn't abort on first error' (NeilBrown); mm/truncate.c of 2.6.17",
    .mechanism = "Invalidation is asked to do two things: to drop what is stale, and to report "
                 "what it could not drop. Taking the report for a reason to stop makes the "
                 "second undo the first. Under steady stores there is always such a page.",
    .saved_by = "The walk of step 3 visits every page. One that holds bytes of ours is shrunk to "
                "them and counted; nothing else of it is kept, and nothing behind it either.",
    .protocols = protocols,
    .lanes = lanes,
    .mount = mount,
    .setup = setup,
    .schedule = "revalidator until reval.waited\n"
                "application until end\n"
                "revalidator until end\n",
};
