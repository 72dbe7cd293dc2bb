// SPDX-License-Identifier: Apache-2.0
/* Emptying the kernel's cache where the kernel needs an answer first. */
#include "tests/race/mount/mount.h"

#define MINE   8
#define THEIRS 4000

static void mount(struct lab_mount *m)
{
    struct lm_op *op;

    lm_load(m, MINE);
    lm_store(m, MINE, 2);
    lm_foreign(m, THEIRS, 7);
    op = lm_start(m, "application2", LM_OPEN, 0, 0, 0);
    lm_stuck(m, op);
}

static void setup(struct lab *l)
{
    lab_store(l, MINE, 2);
    lab_foreign(l, THEIRS, 7);
}

static const struct lab_lane lanes[] = {{"revalidator", lab_revalidate}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "a helper thread notifies the kernel, and holds nothing"},
    {.name = "in-the-handler",
     .what = "the thread that serves /dev/fuse notifies the kernel itself",
     .faults = FAULT_BIT(notify_in_handler),
     .not_on_cache = true,
     .on_mount = DEADLOCK},
    {.name = "under-the-lock",
     .what = "a helper notifies the kernel, holding the lock that a WRITE needs",
     .faults = FAULT_BIT(lock_over_unmap) | FAULT_BIT(unmap_without_fsync),
     .on_cache = DEADLOCK,
     .on_mount = DEADLOCK},
    {0}};

const struct lab_entry entry_notify_deadlock = {
    .name = "notify-deadlock",
    .number = 16,
    .year = "2026",
    .title = "Invalidation from a handler, or under a lock that one needs, waits for itself",
    .history =
        "FUSE_NOTIFY_INVAL_INODE looks like a message. It is a call: the kernel writes the dirty "
        "pages of the range back, and waits for the answers, before it drops them. libfuse's "
        "header "
        "has warned of it since the call exists; file systems that do it from the handler in which "
        "they learn of a change, or under the lock of the file, work until a page is dirty, or a "
        "READ of it is under way, and then hang with the application in a state that no signal "
        "ends.",
    .source = "libfuse, fuse_lowlevel.h, fuse_lowlevel_notify_inval_inode(); Linux "
              "fs/fuse/inode.c fuse_reverse_inval_inode(), mm/truncate.c "
              "invalidate_inode_pages2_range(), fs/fuse/file.c fuse_launder_folio()",
    .mechanism =
        "The notification waits for a WRITE of a dirty page. The WRITE waits in /dev/fuse for the "
        "thread that makes the notification; or was taken by another one, and waits for the lock "
        "that it holds. The open(2) that caused it waits for both. Only the connection's abort "
        "ends that.",
    .saved_by = "Who serves /dev/fuse never calls into the kernel's invalidation: a helper thread "
                "does, which holds no lock that a handler takes; OPEN is parked and answered when "
                "it is done.",
    .protocols = protocols,
    .lanes = lanes,
    .setup = setup,
    .schedule = "revalidator until end\n",
    .mount = mount,
    .mount_options = "shards=1",
};
