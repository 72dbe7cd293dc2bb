// SPDX-License-Identifier: Apache-2.0
/* A page that is in use stays, and is merely marked as not uptodate. */
#include "tests/race/lab/lab.h"

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
}

static void readahead(struct lab *l)
{
    lab_prefetch(l, 0);
}

static const struct lab_lane lanes[] = {
    {"application", application}, {"revalidator", lab_revalidate}, {"readahead", readahead}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "what the kernel was given is parted from the page, as its twin"},
    {.name = "clear-uptodate",
     .what = "2.4: count raised? ClearPageUptodate(page), and the page stays where it is",
     .faults = FAULT_BIT(clear_uptodate),
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_uptodate_cleared = {
    .name = "uptodate-cleared",
    .number = 4,
    .year = "2001-2005",
    .title = "A page that somebody has mapped is marked not uptodate, and filled again under him",
    .history =
        "A page whose count was raised could not be taken out of the page cache of 2.4. O_DIRECT "
        "and NFS needed it gone nevertheless; so invalidate_inode_pages2() left it where it was "
        "and cleared its uptodate bit: the next reader would fetch it anew, into the same page. "
        "That page could be mapped. When the unmap was added in 2.6 this was given up, but as "
        "late as 2005 Andrea Arcangeli offered it as the alternative to closing orphan-map: "
        "either invalidation is coherent with mmap, or pages that are not up to date may be "
        "mapped. A fault that has found the page and one that is about to look at the bit do not "
        "agree on what it is: one goes on with bytes that have just ceased to be true, the other "
        "reads it anew below him, or gives up with SIGBUS when the bit is off after the read.",
    .source = "Andrea Arcangeli, linux-kernel, 13 December 2005 ('smp race fix between "
              "invalidate_inode_pages* and do_no_page'); mm/filemap.c filemap_nopage() of 2.6, "
              "label page_not_uptodate",
    .mechanism =
        "Two questions are answered by one page: what the server has, and what was handed out. "
        "Filled again in place, it answers the first with new bytes and the second with what "
        "nobody was given. Here the second is what a page that the kernel writes back is "
        "compared with: the old byte in the kernel's copy differs from the new one in the "
        "page, passes for a store, and is written over what the other client wrote.",
    .saved_by = "Step 3 never leaves a page to two owners. If the kernel, or a READ being "
                "answered, refers to a frame, that frame goes to them (as the twin, or by its "
                "reference), and the page gets another one for what it has to keep.",
    .protocols = protocols,
    .world = {.pages = 1},
    .lanes = lanes,
    .setup = setup,
    .schedule = "revalidator until reval.waited\n"
                "application until read.given     # the fault has its page, and has not mapped it\n"
                "revalidator until reval.invalidated\n"
                "application until end\n"
                "readahead until end\n"
                "revalidator until end\n",
};
