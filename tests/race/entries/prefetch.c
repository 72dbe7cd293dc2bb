// SPDX-License-Identifier: Apache-2.0
/* A fetch that nobody waits for, across an invalidation. */
#include "tests/race/lab/lab.h"

#define THEIRS (2 * PAGE_SIZE + 100)

static void setup(struct lab *l)
{
    lab_load(l, 0);
}

/* The second page in order: readahead asks for the third. */
static void application(struct lab *l)
{
    lab_load(l, PAGE_SIZE);
}

/* The other client writes, and somebody here opens the file. */
static void revalidator(struct lab *l)
{
    lab_foreign(l, THEIRS, 9);
    lab_revalidate(l);
}

static const struct lab_lane lanes[] = {
    {"application", application}, {"revalidator", revalidator}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "a fetch inserts only under the generation that it began under"},
    {.name = "no-generation-check",
     .what = "whatever arrives is inserted",
     .faults = FAULT_BIT(no_generation),
     .on_cache = STALE},
    {.name = "generation-after-the-walk",
     .what = "the generation counts up when the walk is over, and the fetch ends before that",
     .faults = FAULT_BIT(generation_after_the_walk),
     .on_cache = STALE,
     .schedule = "server hold server.READ.done\n"
                 "server2 hold server.READ.done\n"
                 "application until end\n"
                 "server go\n"
                 "revalidator until reval.page\n"
                 "revalidator until reval.page\n"
                 "revalidator until reval.page\n"
                 "server2 until end\n"
                 "revalidator until end\n"},
    {0}};

const struct lab_entry entry_prefetch = {
    .name = "prefetch",
    .number = 26,
    .year = "-",
    .title = "Readahead that was sent before a revalidation brings the old page back after it",
    .history =
        "An unmap waits for the kernel's own READs, because their pages are locked. Readahead "
        "of the daemon has no page in the kernel: nobody waits for it, and it may arrive "
        "at any time. In stress on a real mount without the check 45 of 60 rounds were "
        "stale.",
    .source = "docs/protocol.md; the same race in the page cache is fill-vs-punch",
    .mechanism = "The server served the READ before the other client wrote. The reply arrives when "
                 "the invalidation has dropped everything, finds no page, and makes one: uptodate, "
                 "and old.",
    .saved_by = "Each fetch remembers the generation under which it was sent; the invalidation "
                "counts it up before it looks at the first page. A fetch of an older one inserts "
                "nothing.",
    .protocols = protocols,
    .world = {.pages = 3, .readahead = PAGE_SIZE, .servers = 2},
    .lanes = lanes,
    .setup = setup,
    .schedule = "server hold server.READ.done\n"
                "server2 hold server.READ.done\n"
                "application until end\n"
                "server go\n"
                "revalidator until end\n"
                "server2 go\n",
};
