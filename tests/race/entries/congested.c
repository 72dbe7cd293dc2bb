// SPDX-License-Identifier: Apache-2.0
/* Writeback that gives a page up because the line is busy. */
#include "tests/race/lab/lab.h"

#define FIRST 8
#define LATER (2 * PAGE_SIZE + 8)

static void application(struct lab *l)
{
    lab_write(l, FIRST, 2, 1);
    lab_write(l, LATER, 3, 1);
    lab_fsync(l);
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
        "Writeback clears the dirty bit of a page before it calls the file system, and the file "
        "system has to set it again if it does not start the I/O. NFS had a branch that "
        "declined pages while too many were under way already and the caller did not insist "
        "(WB_SYNC_NONE). With one return value for 'try again' and another for 'done with it', "
        "and layers in between that changed what became of each, the page could come out of it "
        "clean, unlocked and unsent. The rework of 2024 took the early exit away: writers wait "
        "for the congestion to pass before they begin.",
    .source = "linux-nfs, 2024: the series about write congestion ('nfs: Block on write "
              "congestion', Jan Kara); Documentation/filesystems/locking.rst, ->writepage",
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
    .schedule = "application until end\n",
};
