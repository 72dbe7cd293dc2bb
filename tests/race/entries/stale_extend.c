// SPDX-License-Identifier: Apache-2.0
/* A write of few bytes that is sent as the whole page. */
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
    lab_write(l, MINE, 2, 1);
}

static void mount(struct lab_mount *m)
{
    lm_load(m, MINE);
    lm_foreign(m, THEIRS, 7);
    lm_write(m, MINE, 2, 1);
    lm_fsync(m);
}

static const struct lab_lane lanes[] = {
    {"application", application}, {"revalidator", lab_revalidate}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "exactly the bytes that were written are dirty"},
    {.name = "extend",
     .what = "the page counts as uptodate: the write is extended to all of it",
     .faults = FAULT_BIT(extend_write),
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_stale_extend = {
    .name = "stale-extend",
    .number = 10,
    .year = "2013",
    .title = "A partial write is extended over bytes of a page that is known to be stale",
    .history =
        "The NFS client likes to send whole pages: one WRITE instead of several small ones. So "
        "nfs_updatepage() extends a partial write to the page when the rest of it is in the "
        "cache. But a page whose file is known to have changed still carries its uptodate bit "
        "until somebody invalidates it, and is sent with the bytes of before. It was "
        "repaired once, and came back in 2013 with the shortcut that a delegation makes the look "
        "unnecessary, and took two fixes: two clients that append to one log in turn found "
        "zeros in the place of the other's line.",
    .source = "5d47a3560027 'NFS: Fix a potential file corruption issue when writing'; "
              "263b4509ec4d 'nfs: always make sure page is up-to-date before extending a write to "
              "cover the entire page'; 18dd78c42751 'nfs: Fix cache_validity check in "
              "nfs_write_pageuptodate()', Scott Mayhew, 2013-2014",
    .mechanism = "Uptodate is said of a page, stale of a file. In the time between learning that "
                 "the file has changed and taking its pages away a page is both, and a write "
                 "that is made larger than it was claims bytes that nobody here wrote.",
    .saved_by = "Dirty is kept by the byte. A WRITE never carries a byte that the application "
                "did not write, so that what is around it may be as old as it likes.",
    .protocols = protocols,
    .world = {.pages = 1},
    .lanes = lanes,
    .mount = mount,
    .setup = setup,
    .schedule = "revalidator until reval.asked    # it is known: the file has changed\n"
                "application until end\n"
                "revalidator until end\n",
};
