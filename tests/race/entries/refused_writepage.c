// SPDX-License-Identifier: Apache-2.0
/* A page that the kernel writes back, answered with an error. */
#include <errno.h>

#include "tests/race/mount/mount.h"

#define FIRST  8
#define SECOND (PAGE_SIZE + 8)

static void mount(struct lab_mount *m)
{
    lm_load(m, FIRST);
    lm_load(m, SECOND);
    lm_server(m, "WRITE:nospace");
    lm_store(m, FIRST, 2);
    lm_writeback(m, 0);
    lm_fsync(m);
    lm_store(m, SECOND, 3);
    lm_writeback(m, 1);
    lm_server(m, "clear");
    lm_say(m, SERVER, "has room again");
}

static void setup(struct lab *l)
{
    lab_load(l, FIRST);
    lab_load(l, SECOND);
    fr_fail(&l->server, FR_WRITE, -ENOSPC, 1);
}

static void application(struct lab *l)
{
    lab_store(l, FIRST, 2);
    lab_fsync(l);
    lab_store(l, SECOND, 3);
    lab_writeback(l, 1);
}

static const struct lab_lane lanes[] = {{"application", application}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "taken, kept dirty, sent again; the error is for fsync to tell"},
    {.name = "refuse",
     .what = "answered with the server's error",
     .faults = FAULT_BIT(refuse_writepage),
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_refused_writepage = {
    .name = "refused-writepage",
    .number = 17,
    .year = "2018",
    .title = "The kernel's writeback is answered with an error, and the page is forgotten",
    .history =
        "In 2018 PostgreSQL learnt that after a failed fsync() Linux marks the pages clean that it "
        "could not write: the next fsync() succeeds, and the data is on no disk. A FUSE file "
        "system "
        "that passes its server's error on, as an answer to the WRITE by which the kernel writes a "
        "mapped page back, makes this its own: a full server, or a lost connection, for a moment.",
    .source = "Linux fs/fuse/file.c fuse_writepage_end(): mapping_set_error(), then the page's "
              "writeback ends, and it stays clean; 'PostgreSQL's fsync() surprise', LWN 2018",
    .mechanism =
        "WRITE with the flag of a writepage carries the only copy of a store that nobody waits "
        "for. "
        "The kernel clears the dirty mark when it sends it, and does not set it again when it is "
        "answered with an error. The error is remembered once for each open descriptor; the bytes "
        "are not remembered at all, and go when the page is reclaimed.",
    .saved_by = "A writepage is never refused: there is always a frame for it, and the page stays "
                "dirty in the daemon until the server has committed it. Errors of the server reach "
                "fsync(2) and close(2), and the WRITE is tried again.",
    .protocols = protocols,
    .lanes = lanes,
    .setup = setup,
    .schedule = "application until end\n",
    .mount = mount,
};
