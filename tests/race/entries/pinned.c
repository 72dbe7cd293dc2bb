// SPDX-License-Identifier: Apache-2.0
/* A page that I/O in flight refers to, and that somebody else wants. */
#include "tests/race/lab/lab.h"

#define MINE  8
#define LOW   100 /* two bytes of one page, written elsewhere in one go */
#define HIGH  4000
#define OTHER PAGE_SIZE

static void setup(struct lab *l)
{
    lab_load(l, MINE);
}

/* What a reader gets of page 0: both bytes, or none. */
static void reader(struct lab *l)
{
    uint8_t low = lab_load(l, LOW), high = lab_load(l, HIGH);

    if (low != high)
        lab_lost(l,
                 "page 0: one READ gave byte %u = %u and byte %u = %u: no client ever wrote that",
                 LOW, low, HIGH, high);
}

static void writer(struct lab *l)
{
    mapping_writer_add(l->k->m); /* open, and stays so */
    lab_store(l, MINE, 2);
    lab_writeback(l, 0);
    lab_kick(l);
}

static void write_only(struct lab *l)
{
    lab_write(l, MINE, 2, 1);
}

static void foreign(struct lab *l)
{
    uint8_t page[PAGE_SIZE];

    memset(page, 7, sizeof page);
    fr_write(l->file, LOW, page, HIGH - LOW + 1);
    lab_say(l, "another client writes: page 0 bytes %u to %u = 7", LOW, HIGH);
}

static void readahead(struct lab *l)
{
    lab_prefetch(l, 0);
}

static void readahead2(struct lab *l)
{
    lab_prefetch(l, 1);
}

static const struct lab_lane lanes[] = {
    {"application", reader},      {"application2", writer},
    {"application3", write_only}, {"revalidator", lab_revalidate},
    {"foreign", foreign},         {"readahead", readahead},
    {"readahead2", readahead2},   {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped",
     .what = "what is referred to is left as it is; the page gets another frame"},
    {.name = "map-count",
     .what = "only mappings count, not references: a READ is answered from a page being filled",
     .faults = FAULT_BIT(map_count),
     .on_cache = LOST,
     .on_mount = LOST},
    {.name = "unpinned-write",
     .what = "a WRITE in flight holds no reference: its bytes are those of whoever has the frame",
     .faults = FAULT_BIT(unpinned_write),
     .schedule = "foreign until end\n"
                 "revalidator until reval.waited\n"
                 "application2 until end           # stored, and being written\n"
                 "server until server.WRITE\n"
                 "revalidator until end            # the frame is the twin's, and goes with it\n"
                 "readahead2 until end             # and comes back as page 1\n"
                 "server2 until fetch.merged\n"
                 "server go\n",
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_pinned = {
    .name = "pinned",
    .number = 7,
    .year = "2009",
    .title = "A page loses its identity while I/O in flight refers to it",
    .history =
        "A process reads with O_DIRECT into its memory: get_user_pages() takes references to the "
        "pages, and the device writes into them later. Meanwhile another of its threads forks, "
        "and stores. Copy-on-write decided who gets the copy by how often the page was mapped; "
        "the references of the I/O did not count. So the parent could go on with the copy while "
        "the device wrote into the original, which had become the child's, and what was read "
        "never arrived. Several proposals of 2009 (to copy at once in fork, a lock around it) "
        "were turned down; a flag for pinned pages came in 2020.",
    .source = "linux-mm, March 2009, '[PATCH] fork vs gup(-fast) fix' (Andrea Arcangeli, Nick "
              "Piggin, Linus Torvalds); "
              "FOLL_PIN and page_maybe_dma_pinned() (Documentation/core-api/pin_user_pages.rst)",
    .mechanism =
        "A mapping says who may look at a page, a reference says who will. Whoever replaces, "
        "refills or frees a page and asks only the first changes bytes that are already "
        "promised: a READ that is being answered gets half of one version and half of another, "
        "and a WRITE that is retried by its connection sends what has become another page.",
    .saved_by =
        "Every READ being answered and every WRITE under way holds references to its frames. "
        "Invalidation finds them and gives the page another frame; reclaim leaves it. So a READ "
        "gives the bytes of the instant at which it was given the page, and a WRITE sends what "
        "the page held when it was sent, or what was written to the same frame since, which is "
        "dirty again and sent again (stable_writes copies instead).",
    .protocols = protocols,
    .world = {.pages = 2, .read_only = true},
    .lanes = lanes,
    .setup = setup,
    .schedule = "foreign until end\n"
                "revalidator until reval.waited\n"
                "application3 until end           # so that step 3 has something to keep\n"
                "application until kernel.copying # the READ is given the page, half of it is out\n"
                "revalidator until reval.invalidated\n"
                "readahead until end\n"
                "server until fetch.merged        # new bytes fill the page\n"
                "application until end            # the other half\n"
                "revalidator until end\n",
};
