// SPDX-License-Identifier: Apache-2.0
/* A notification that comes between the kernel's copy of a write(2) and the daemon's. */
#include "tests/race/mount/mount.h"

#define MINE   8
#define OTHER  16
#define THEIRS 4000

/*
 * The WRITE of a write(2) stands before its handler. Under the faulty order the page goes
 * meanwhile, comes back without the bytes, is stored to and written back. The shipped unmap waits
 * for the inode lock, which write(2) has.
 */
static void mount(struct lab_mount *m)
{
    struct lm_op *reval, *write;

    lm_ready(m, "application2");
    lm_load(m, MINE);
    lm_foreign(m, THEIRS, 7);
    lm_hold(m, "unmap.begin");
    lm_hold(m, "reval.unmapped");
    lm_hold(m, "kernel.write");
    reval = lm_start(m, "revalidator", LM_REVALIDATE, 0, 0, 0);
    lm_arrived(m, "unmap.begin", 1);
    write = lm_start(m, "application2", LM_WRITE, MINE, 2, 1);
    lm_arrived(m, "kernel.write", 1);
    lm_release(m, "unmap.begin");
    if (!lm_arrived_or(m, "reval.unmapped", 1, NULL, "unmap", "fuse_fsync"))
        lm_say(m, REVALIDATOR, "waits for the inode lock, which write(2) holds");
    lm_load(m, MINE);
    lm_release(m, "kernel.write");
    lm_wait(m, write);
    lm_load(m, MINE);
    lm_store(m, OTHER, 3);
    lm_writeback(m, 0);
    lm_release(m, "reval.unmapped");
    lm_wait(m, reval);
}

static void setup(struct lab *l)
{
    lab_load(l, MINE);
    lab_foreign(l, THEIRS, 7);
}

static void writer(struct lab *l)
{
    lab_write(l, MINE, 2, 1);
}

static void storer(struct lab *l)
{
    lab_load(l, MINE);
    lab_store(l, OTHER, 3);
    lab_writeback(l, 0);
}

static const struct lab_lane lanes[] = {
    {"application", storer}, {"application2", writer}, {"revalidator", lab_revalidate}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "fsync(), and the notification under the inode lock that it takes"},
    {.name = "notify-alone",
     .what = "the notification, and nothing else",
     .faults = FAULT_BIT(unmap_without_fsync),
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_notify_drops_write = {
    .name = "notify-drops-write",
    .number = 20,
    .year = "2026",
    .title = "A completed write(2) is dropped by a notification, and reverted at the server",
    .history =
        "Found while the unmap of this project was designed: with the notification alone, 5 to 116 "
        "of the write(2)s of 1,500 to 2,500 rounds of stress were lost, though each had returned, "
        "and though no page was dirty when it was dropped.",
    .source =
        "Linux fs/fuse/file.c fuse_fill_write_pages(), fuse_send_write_pages(); mm/truncate.c "
        "invalidate_inode_pages2_range()",
    .mechanism =
        "write(2) copies into the page, which is clean and stays so, unlocks it, may wait for a "
        "writeback of it, and sends the WRITE. A notification in this gap, or until the daemon has "
        "taken the WRITE, drops the page. A fault then brings one back without the bytes. What the "
        "application reads after its write(2) is what was there before; and when somebody stores "
        "to "
        "that page, the kernel writes all of it back, and the old bytes look like new stores: "
        "they revert the write at the server.",
    .saved_by =
        "An unmap is an fsync(2) on a descriptor of our own, and the notification while its FSYNC "
        "is held unanswered. fsync(2) takes the inode lock, so no write(2) is between its copy and "
        "its answer.",
    .protocols = protocols,
    .world = {.pages = 1},
    .lanes = lanes,
    .setup = setup,
    .schedule = "application2 until kernel.copied # write(2): in the page, and not sent\n"
                "revalidator until reval.unmapped\n"
                "application until kernel.filled  # a fault: the daemon does not have the bytes\n"
                "application2 until end           # now it has\n"
                "application until end            # a store, and the page is written back\n"
                "revalidator until end\n",
    .mount = mount,
};
