// SPDX-License-Identifier: Apache-2.0
/* Reclaim that asks whether a page is mapped, where it had to ask whether it is referenced. */
#include "tests/race/lab/lab.h"

#define MINE   8
#define THEIRS 4000
#define PAGES  4

static void setup(struct lab *l)
{
    for (uint64_t i = 0; i < PAGES; i++)
        lab_load(l, i << PAGE_SHIFT);
}

static void application(struct lab *l)
{
    lab_store(l, MINE, 2);
    lab_writeback(l, 0);
}

static void reclaimer(struct lab *l)
{
    reclaim_run(l->c);
    lab_say(l, "reclaim is done");
}

static void foreign(struct lab *l)
{
    lab_foreign(l, THEIRS, 7);
}

static const struct lab_lane lanes[] = {
    {"application", application}, {"reclaimer", reclaimer}, {"foreign", foreign}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped",
     .what = "looks again, under the lock: mapped or referenced since: it stays"},
    {.name = "mapped-before",
     .what = "2.6.5: the test is of another time, and a reference does not count",
     .faults = FAULT_BIT(count_check),
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_count_check = {
    .name = "count-check",
    .number = 5,
    .year = "2004",
    .title = "A page is reclaimed under a fault that holds it and has not mapped it yet",
    .history =
        "invalidate_mapping_pages() skipped pages that were mapped, and took the others out of "
        "the page cache: from 2.6.5 on the test was page_mapped(), made before the tree lock "
        "was taken. A fault that had looked the page up held a reference and no mapping yet; the "
        "test let it pass, the page went, and the fault then mapped what was no page of the "
        "file any more. Arcangeli's report of 2005 says it in one line: the check is worthless, "
        "because do_no_page() may be running beside it. Today both sides freeze the reference "
        "count under the lock of the index, and who holds one reference too many wins.",
    .source = "mm/truncate.c invalidate_mapping_pages() and invalidate_complete_page() of 2.6.5 "
              "to 2.6.17; linux-kernel, 13 December 2005; mm/vmscan.c remove_mapping() "
              "(page_ref_freeze) today",
    .mechanism =
        "Mapped is what a page becomes at the end of a fault, referenced what it is from the "
        "beginning. Between the two it looks free. Here the reclaimer unmaps a range, and then "
        "frees it: a READ in between is answered from the page, and the record of what the "
        "kernel was given is freed with it. The page that the kernel writes back later has "
        "nothing to be compared with, counts as stored to from end to end, and carries old "
        "bytes over what another client wrote since.",
    .saved_by =
        "A READ marks the page as mapped, and takes its reference, under the mapping's lock and "
        "in the same section in which it finds it. Reclaim looks at both again under that lock, "
        "after its unmap.",
    .protocols = protocols,
    .world = {.pages = PAGES, .frames = PAGES},
    .lanes = lanes,
    .setup = setup,
    .schedule =
        "reclaimer until reclaim.unmapped\n"
        "application until read.given     # it holds the page; the kernel has not mapped it\n"
        "reclaimer until end\n"
        "foreign until end\n"
        "application until end\n",
};
