// SPDX-License-Identifier: Apache-2.0
/* A fault between unmap and removal, and five ways to keep it out. */
#include "tests/race/lab/exclude.h"
#include "tests/race/lab/lab.h"
#include "tests/race/mount/mount.h"

#define SEEN 8

static void setup(struct lab *l)
{
    exclude_reset();
    lab_load(l, SEEN);
    lab_foreign(l, SEEN, 7);
}

static void application(struct lab *l)
{
    lab_load(l, SEEN);
}

static void kernel(struct lab *l)
{
    lab_reclaim(l, 0);
}

static void truncater(struct lab *l)
{
    lab_truncate(l, 0);
}

/* With the real kernel; the ways to keep a fault out are those of the cache alone. */
static void mount(struct lab_mount *m)
{
    struct lm_op *reval;

    lm_load(m, SEEN);
    lm_foreign(m, SEEN, 7);
    lm_hold(m, "reval.waited");
    reval = lm_start(m, "revalidator", LM_REVALIDATE, 0, 0, 0);
    lm_arrived(m, "reval.waited", 1);
    lm_load(m, SEEN);
    lm_release(m, "reval.waited");
    lm_wait(m, reval);
}

/* Two ways to the same offset: through the mapping, and past it. */
static void check(struct lab *l)
{
    uint8_t mapped = 0, direct = 0;
    uint32_t got = 0;

    if (fk_load(l->k, SEEN, &mapped) == 0 && fk_direct_read(l->k, SEEN, &direct, 1, &got) == 0 &&
        mapped != direct)
        lab_say(l, "page 0 byte %u is %u in the mapping that was there, and %u in any other", SEEN,
                mapped, direct);
    lab_check_bytes(l);
}

static const struct lab_lane lanes[] = {{"application", application},
                                        {"revalidator", lab_revalidate},
                                        {"truncater", truncater},
                                        {"kernel", kernel},
                                        {0}};

#define UNMAP FAULT_BIT(no_second_unmap)

static const struct lab_protocol protocols[] = {
    {.name = "shipped",
     .what = "ours: the generation for what is fetched, a second unmap for the rest",
     .hooks = exclude_ours},
    {.name = "none",
     .what = "2.6.15: unmap, then remove; nothing between a fault and the removal",
     .faults = UNMAP,
     .hooks = exclude_ours,
     .on_cache = STALE,
     .on_mount = STALE},
    {.name = "truncate-count",
     .what = "the fault begins again when the count of unmaps has moved since it began",
     .faults = UNMAP,
     .not_on_mount = true,
     .hooks = exclude_truncate_count,
     .weakness = "A fault that begins after the unmap finds the count at rest and the page still "
                 "there: inside i_size nothing tells it that the page is about to go.",
     .on_cache = STALE},
    {.name = "truncate-count-eof",
     .what = "the same where it belongs: the file is cut, and i_size is looked at after the count",
     .faults = UNMAP,
     .not_on_mount = true,
     .hooks = exclude_truncate_count,
     .weakness = "Right only because the size shrinks before the pages go: a fault that comes too "
                 "late for the count is beyond the end, and gets SIGBUS.",
     .schedule = "truncater until truncate.begun\n"
                 "application until kernel.read\n"
                 "truncater until end\n"
                 "application until end\n"},
    {.name = "seqlock",
     .what = "Arcangeli's seqschedlock: odd while a removal runs; a fault yields until it is even",
     .faults = UNMAP,
     .not_on_mount = true,
     .hooks = exclude_seqlock,
     .weakness = "The fault spins by yield() as long as the removal takes, here a round trip to "
                 "the server; at a real-time priority for ever. See seqlock-spin."},
    {.name = "seqlock-spin",
     .what = "the removal's unmap waits for the very fault that yields to it",
     .faults = UNMAP,
     .not_on_mount = true,
     .hooks = exclude_seqlock,
     .weakness = "A fault on FUSE holds the kernel's lock of the page from before it asks until it "
                 "is answered, and the unmap waits for that lock.",
     .schedule = "kernel until end                 # reclaims the page\n"
                 "revalidator until unmap.begin    # odd, and about to unmap\n"
                 "application until end            # yields, its page locked in the kernel\n"
                 "revalidator until end\n",
     .on_cache = DEADLOCK},
    {.name = "page-lock",
     .what =
         "Piggin's, in mainline since 2.6.23: the fault holds the page's lock until it is mapped",
     .faults = UNMAP,
     .not_on_mount = true,
     .hooks = exclude_page_lock,
     .found = DEADLOCK,
     .weakness = "Each fault takes a lock, and faults on one page stand in line; and the removal "
                 "calls unmap under it. See page-lock-unmap."},
    {.name = "page-lock-unmap",
     .what = "the unmap under the page's lock waits for a fault that waits for the page's lock",
     .faults = UNMAP,
     .not_on_mount = true,
     .hooks = exclude_page_lock,
     .weakness = "Right in the kernel, where a fault that waits for the page's lock holds nothing "
                 "that the unmap needs. In a daemon below FUSE it holds the kernel's page.",
     .schedule = "revalidator until reval.unmapped\n"
                 "revalidator until unmap.begin    # page 0 locked here, and about to unmap it\n"
                 "application until end            # locked in the kernel, waits for ours\n"
                 "revalidator until end\n",
     .on_cache = DEADLOCK},
    {0}};

const struct lab_entry entry_orphan_map = {
    .name = "orphan-map",
    .number = 3,
    .year = "2005-2007",
    .title = "A fault between unmap and removal maps a page that is no longer in the cache",
    .history =
        "In December 2005 Andrea Arcangeli traced warnings of mapped pages without a mapping to "
        "invalidate_inode_pages2(): it unmaps a page and then takes it out of the page cache; "
        "do_no_page() may come in between, finds the page, and maps it. The page lock, which the "
        "removal holds, meant nothing to a fault. From then on that process sees the old page, "
        "whoever maps the same offset later another.\n"
        "Truncation had the same race, and was safe by truncate_count: it shrinks i_size first, "
        "counts up, and a fault that looks at the count, then at the size, either begins again "
        "or is beyond the end. An invalidation inside the file has no size that shrinks. "
        "Arcangeli proposed a seqlock under which the writer may sleep and the readers yield; "
        "a flag in the page; and, as the third, to lock the page in the fault, which he thought "
        "too dear. Hugh Dickins asked for one technique for both; Nick Piggin argued for the "
        "page lock, and it went into 2.6.23: the fault gets its page locked, and unlocks it when "
        "it is mapped.",
    .source = "linux-kernel, 13 December 2005 to January 2006, 'smp race fix between "
              "invalidate_inode_pages* and do_no_page'; d00806b18315 'mm: fix fault vs invalidate "
              "race for linear mappings', Nick Piggin, 2007",
    .mechanism =
        "Unmap takes away the mappings that are there. Removal takes away the page. Nobody can "
        "do both at one instant, and in between the page is in the cache, up to date for all "
        "that anybody can see, and may be mapped again.",
    .saved_by =
        "Nothing is excluded. Whatever a fault installs between the first unmap and the end of "
        "step 3 goes with the second unmap, which is made in any case; and after step 3 there is "
        "nothing old to install, for pages are gone or shrunk, and fetches of an older "
        "generation insert nothing. A fault takes no lock and waits for nobody; the price is one "
        "more unmap for each change of the file.",
    .protocols = protocols,
    .world = {.pages = 1},
    .lanes = lanes,
    .mount = mount,
    .setup = setup,
    .check = check,
    .schedule = "revalidator until reval.unmapped\n"
                "application until end            # a fault: the page is still there\n"
                "revalidator until end\n",
};
