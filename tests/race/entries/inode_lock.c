// SPDX-License-Identifier: Apache-2.0
/* A handler that waits for an unmap of the file whose inode lock its caller holds. */
#include "tests/race/mount/mount.h"

#define MINE 8

static void mount(struct lab_mount *m)
{
    lm_load(m, MINE);
    lm_store(m, MINE, 2);
    if (lm_stuck(m, lm_start(m, "application", LM_FSYNC, 0, 0, 0)))
        return;
    lm_stuck(m, lm_start(m, "application", LM_TRUNCATE, 3 * PAGE_SIZE, 0, 0));
}

static void setup(struct lab *l)
{
    lab_load(l, MINE);
}

static void syncer(struct lab *l)
{
    lab_store(l, MINE, 2);
    lab_fsync(l);
}

static void truncater(struct lab *l)
{
    lab_store(l, MINE, 2);
    lab_truncate(l, 3 * PAGE_SIZE);
}

static const struct lab_lane lanes[] = {{"application", syncer}, {"application2", truncater}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "FSYNC and SETATTR wait for the server, never for an unmap"},
    {.name = "fsync-unmaps",
     .what = "FSYNC unmaps the file first",
     .faults = FAULT_BIT(fsync_unmaps),
     .schedule = "application until end\n",
     .on_cache = DEADLOCK,
     .on_mount = DEADLOCK},
    {.name = "setattr-unmaps",
     .what = "a truncation unmaps the file first",
     .faults = FAULT_BIT(setattr_unmaps),
     .schedule = "application2 until end\n",
     .on_cache = DEADLOCK,
     .on_mount = DEADLOCK},
    {0}};

const struct lab_entry entry_inode_lock = {
    .name = "inode-lock",
    .number = 23,
    .year = "2026",
    .title = "An FSYNC or SETATTR handler waits for an unmap of its own file",
    .history = "Found while the unmap of this project was designed. A notification alone loses "
               "completed write(2)s (notify-drops-write), so an unmap takes the inode lock, by an "
               "fsync(2) of its own. That lock is also held by the callers of FSYNC, SETATTR, "
               "WRITE and FALLOCATE, while they wait for the daemon's answer.",
    .source = "Linux fs/fuse/file.c fuse_fsync(), fs/attr.c notify_change() under inode_lock()",
    .mechanism =
        "The application's fsync(2) holds the inode lock until FSYNC is answered. The handler of "
        "FSYNC waits for an unmap, and the unmap's own fsync(2) for the inode lock. That the "
        "daemon "
        "has other threads, and goes on serving other files, hides it until somebody calls fsync() "
        "on a file that is being revalidated.",
    .saved_by = "No handler waits for an unmap of its file. FSYNC needs none: the kernel writes "
                "dirty pages back before it sends FSYNC. A truncation needs none either: the "
                "kernel drops its pages beyond the new size itself, and what a READ under way "
                "would bring back is refused by its generation.",
    .protocols = protocols,
    .lanes = lanes,
    .setup = setup,
    .schedule = "application until end\n"
                "application2 until end\n",
    .mount = mount,
};
