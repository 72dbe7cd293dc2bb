// SPDX-License-Identifier: Apache-2.0
/* A fill that is under way while its page is truncated. */
#include "tests/race/lab/lab.h"
#include "tests/race/mount/mount.h"

#define CUT (PAGE_SIZE + 8)

static void application(struct lab *l)
{
    lab_truncate(l, PAGE_SIZE);
    lab_truncate(l, 2 * PAGE_SIZE);
    lab_expect(l, CUT, 0);
}

static void readahead(struct lab *l)
{
    lab_prefetch(l, 1);
}

static void reader(struct lab *l)
{
    lab_load(l, CUT);
}

#define PAGES_THERE 64
#define CUT_THERE   (3 * PAGE_SIZE + 8)

/* Two pages are read in order; readahead fetches the others, by a READ that is large enough for a
 * connection of its own: nobody else waits for its thread. */
static void mount(struct lab_mount *m)
{
    uint64_t mark;

    lm_hold(m, "fetch.answered:2");
    lm_wait(m, lm_start(m, "application", LM_READ, 0, 0, 1));
    lm_wait(m, lm_start(m, "application", LM_READ, PAGE_SIZE, 0, 1));
    lm_arrived(m, "fetch.answered:2", 1);
    lm_wait(m, lm_start(m, "application", LM_TRUNCATE, 2 * PAGE_SIZE, 0, 0));
    lm_wait(m, lm_start(m, "application", LM_TRUNCATE, PAGES_THERE * PAGE_SIZE, 0, 0));
    lm_expect(m, CUT_THERE, 0);
    mark = lm_mark(m);
    lm_release(m, "fetch.answered:2");
    lm_passed(m, "fetch.merged", 2, mark);
}

static const struct lab_lane lanes[] = {
    {"application", application}, {"application2", reader}, {"readahead", readahead}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "truncation counts the generation up: the fill inserts nothing"},
    {.name = "insert",
     .what = "the fill inserts what it was given, as page locks cannot forbid",
     .faults = FAULT_BIT(no_generation),
     .on_cache = STALE,
     .on_mount = STALE},
    {0}};

const struct lab_entry entry_fill_vs_punch = {
    .name = "fill-vs-punch",
    .number = 15,
    .year = "2021",
    .title = "A fill in flight puts back a page that truncation has just removed",
    .history =
        "A hole is punched in two steps: the pages go out of the page cache, then the blocks are "
        "freed. A read, a fault or readahead between the two brings a page back, with the data "
        "of before, or of whoever gets the blocks next. ext4 and XFS had locks of their own for "
        "faults; reads and readahead went past them. In 5.15 every mapping was given a lock, "
        "invalidate_lock, which fills hold shared and truncation exclusively; FUSE took it "
        "over in the same series.",
    .source = "730633f0b7f9 'mm: Protect operations adding pages to page cache with "
              "invalidate_lock', Jan Kara, 2021; aa99f3c2b9c7 (merge, 5.15-rc1)",
    .mechanism = "A page that is not there cannot be locked. So no lock of pages keeps anybody "
                 "from inserting one into a range that is being emptied: what has to be excluded "
                 "is the insertion, whether there is a page yet or not.",
    .saved_by =
        "A fetch remembers the generation under which it was sent. Truncation counts it up, "
        "as revalidation does; an older fetch inserts nothing, and serves only the READ "
        "that caused it.",
    .protocols = protocols,
    .lanes = lanes,
    .mount = mount,
    .mount_pages = PAGES_THERE,
    .mount_options = "shards=3,nconnect=4",
    .schedule = "readahead until end\n"
                "server until server.READ.done    # it has read the old bytes\n"
                "application until end            # cut off, and made longer again: zeros\n"
                "server go\n"
                "application2 until end\n",
};
