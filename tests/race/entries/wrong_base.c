// SPDX-License-Identifier: Apache-2.0
/* A page that the kernel writes back, compared with what it was not given. */
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
}

static void readahead(struct lab *l)
{
    lab_prefetch(l, 0);
}

#define MINE_THERE   (2 * PAGE_SIZE + MINE)
#define THEIRS_THERE (2 * PAGE_SIZE + THEIRS)

/* The page is the third: two READs in order before it make the daemon read it ahead. */
static void mount(struct lab_mount *m)
{
    struct lm_op *reval;
    uint64_t mark;

    lm_ready(m, "application2");
    lm_load(m, MINE_THERE);
    lm_foreign(m, THEIRS_THERE, 7);
    lm_hold(m, "reval.waited");
    reval = lm_start(m, "revalidator", LM_REVALIDATE, 0, 0, 0);
    lm_arrived(m, "reval.waited", 1);
    lm_store(m, MINE_THERE, 2);
    lm_hold(m, "reval.invalidated");
    lm_release(m, "reval.waited");
    lm_arrived(m, "reval.invalidated", 1);
    mark = lm_mark(m);
    lm_wait(m, lm_start(m, "application2", LM_READ, 0, 0, 1));
    lm_wait(m, lm_start(m, "application2", LM_READ, PAGE_SIZE, 0, 1));
    lm_passed(m, "fetch.merged", 2, mark); /* the cache has the new page, the kernel the old */
    lm_release(m, "reval.invalidated");
    lm_wait(m, reval);
}

static const struct lab_lane lanes[] = {
    {"application", application}, {"revalidator", lab_revalidate}, {"readahead", readahead}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "compared with the twin: what the kernel's copy was made from"},
    {.name = "compare-with-cache",
     .what = "compared with what the cache holds now",
     .faults = FAULT_BIT(compare_with_the_page),
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_wrong_base = {
    .name = "wrong-base",
    .number = 21,
    .year = "2026",
    .title =
        "A mapped page is compared with what the cache holds now, and old bytes pass for stores",
    .history =
        "Found while this project was designed. The kernel writes a mapped page back as a whole, "
        "and does not say which bytes were stored. Comparing tells; but the cache may have "
        "replaced the page in between, because another client had written. Compared with the new "
        "page, in 400 rounds of stress 400,000 to 1,300,000 bytes of others were overwritten with "
        "what they had been before; fetching a page to compare with was worst of all.",
    .source = "Linux fs/fuse/file.c fuse_writepages(): FUSE_WRITE_CACHE carries whole pages",
    .mechanism =
        "A difference from what the kernel was given is a store. A difference from anything else "
        "is a store, or a change that the kernel does not know of yet, and the two cannot be told "
        "apart: the old byte in the kernel's copy is taken for something that the application "
        "wrote, and is sent to the server over the other client's.",
    .saved_by = "The page that a READ was answered from is the base, and is kept as the twin when "
                "the cache replaces it, until an unmap has proven that the kernel's copy is gone.",
    .protocols = protocols,
    .world = {.pages = 1},
    .lanes = lanes,
    .mount = mount,
    .mount_pages = 3,
    .setup = setup,
    .schedule =
        "revalidator until reval.waited\n"
        "application until end            # a fault brings the old page; a store\n"
        "revalidator until reval.invalidated\n"
        "readahead until end\n"
        "server until fetch.merged        # the cache has the new page, the kernel the old\n"
        "revalidator until end            # unmaps again: the kernel writes its page back\n",
};
