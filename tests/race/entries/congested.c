// SPDX-License-Identifier: Apache-2.0
/* Writeback that gives a page up because the line is busy. */
#include "tests/race/lab/lab.h"
#include "tests/race/mount/mount.h"

#define FIRST 8
#define LATER (2 * PAGE_SIZE + 8)

static void application(struct lab *l)
{
    lab_write(l, FIRST, 2, 1);
    lab_write(l, LATER, 3, 1);
    lab_fsync(l);
}

static void mount(struct lab_mount *m)
{
    lm_write(m, FIRST, 2, 1);
    lm_write(m, LATER, 3, 1);
    lm_fsync(m);
}

static const struct lab_lane lanes[] = {{"application", application}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "what is not sent is not touched: it stays dirty"},
    {.name = "give-up",
     .what = "the dirty mark is cleared first; then the line is busy, and that is that",
     .faults = FAULT_BIT(congested),
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_congested = {
    .name = "congested",
    .number = 12,
    .year = "2024",
    .title = "A page that writeback gave up as 'congested' is clean, and was never sent",
    .history =
        "Writeback clears the dirty bit of a page before it calls the file system; if that does "
        "not "
        "start the I/O it has to set the bit again. In 5.18 NFS got a limit of its own for writes "
        "under way: above it nfs_writepage_locked() returned AOP_WRITEPAGE_ACTIVATE, 'not now', "
        "when the caller did not insist, and set nothing. The page was clean, and had not been "
        "sent. Under load files lost whole pages, without an error, in all kernels from 5.18 to "
        "6.7, until somebody looked in early 2024; the fix is one call of "
        "folio_redirty_for_writepage().",
    .source = "'NFS: Fix data corruption caused by congestion.', NeilBrown, stable 2024 "
              "(be8a177250b2, ed46f5dfff2e); introduced by 6df25e58532b 'nfs: remove reliance on "
              "bdi congestion'; 2f1f31042ef0 'nfs: Block on write congestion', Jan Kara, 2024, "
              "waits instead",
    .mechanism = "Clearing the mark and starting the write are two steps, and an early exit "
                 "between them needs a third one that nobody tests: it is taken under load only. "
                 "fsync finds nothing dirty and nothing in flight, and says that all is safe.",
    .saved_by =
        "Writeback looks at the bytes in flight before it takes a group of pages. Taking it moves "
        "the bytes from dirty to in flight, and from there every way leads to a WRITE whose reply "
        "decides; there is no exit between.",
    .protocols = protocols,
    .world = {.pages = 3},
    .lanes = lanes,
    .mount = mount,
    .schedule = "application until end\n",
};
