// SPDX-License-Identifier: Apache-2.0
/* An old size that arrives late. */
#include "tests/race/lab/lab.h"
#include "tests/race/mount/mount.h"

#define THEIRS 4000
#define MINE   (PAGE_SIZE + 8)

static void setup(struct lab *l)
{
    lab_load(l, 0);
    lab_foreign(l, THEIRS, 7);
}

/* Appends a page, and has it safe at the server. */
static void appender(struct lab *l)
{
    lab_write(l, PAGE_SIZE, 5, PAGE_SIZE);
    lab_fsync(l);
}

static void storer(struct lab *l)
{
    lab_store(l, MINE, 2);
}

static void mount(struct lab_mount *m)
{
    struct lm_op *reval;

    lm_load(m, 0);
    lm_foreign(m, THEIRS, 7);
    lm_hold(m, "reval.answered");
    reval = lm_start(m, "revalidator", LM_REVALIDATE, 0, 0, 0);
    lm_arrived(m, "reval.answered", 1); /* one page, says the answer */
    lm_write(m, PAGE_SIZE, 5, PAGE_SIZE);
    lm_fsync(m);
    lm_hold(m, "reval.unmapped-again");
    lm_release(m, "reval.answered");
    lm_arrived(m, "reval.unmapped-again", 1);
    lm_hold(m, "reval.asked"); /* no second one */
    lm_store(m, MINE, 2);
    lm_release(m, "reval.unmapped-again");
    lm_wait(m, reval);
    lm_wait(m, lm_start(m, "application", LM_STAT, 0, 0, 0));
}

static const struct lab_lane lanes[] = {{"application", appender},
                                        {"application2", storer},
                                        {"application3", lab_stat},
                                        {"revalidator", lab_revalidate},
                                        {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "what was acknowledged since the question holds the size up"},
    {.name = "believe",
     .what = "the size is what GETATTR said",
     .faults = FAULT_BIT(size_shrink),
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_size_shrink = {
    .name = "size-shrink",
    .number = 13,
    .year = "2007-2026",
    .title = "A late GETATTR shrinks the file under data that is already written",
    .history =
        "Attributes are sampled at the server and believed at the client, and the file may have "
        "grown in between by the client's own hand. A GETATTR that is slower than a write then "
        "sets the size of before; a kernel that is told a smaller size throws away the pages "
        "beyond it, dirty or not. FUSE met it in 2007 and counts versions of the attributes "
        "since; network file systems with buffered data of their own meet it anew whenever one "
        "reply path forgets to ask whether the answer is older than the data.",
    .source = "1fb69e781729 'fuse: fix race between getattr and write' (Miklos Szeredi, 2007); "
              "fs/nfs/inode.c nfs_wcc_update_inode() and nfs_update_inode() (have_writers)",
    .mechanism = "A size is true at one instant. The reply carries no date, so the client cannot "
                 "see that its own appended bytes are missing from it. Taken as it is it cuts "
                 "the file here, and the kernel drops dirty pages beyond it without a WRITE.",
    .saved_by = "From the instant at which the question is sent every acknowledged byte is "
                "noted, and so is an own truncation. Step 5 takes the server's size only as far "
                "as no such byte, and none that is not committed, lies beyond it; the next "
                "revalidation asks again.",
    .protocols = protocols,
    .world = {.pages = 1},
    .lanes = lanes,
    .mount = mount,
    .setup = setup,
    .schedule = "server hold server.GETATTR.done\n"
                "revalidator until reval.asked    # the answer is under way: one page\n"
                "application until end            # two pages, and safe\n"
                "server go\n"
                "revalidator until reval.unmapped-again\n"
                "application2 until end           # a store, dirty in the kernel\n"
                "revalidator until end\n"
                "application3 until end           # the kernel is told\n",
};
