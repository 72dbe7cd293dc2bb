// SPDX-License-Identifier: Apache-2.0
/* An error of writing back, and who hears of it. */
#include <string.h>

#include "tests/race/lab/lab.h"
#include "tests/race/mount/mount.h"

#define MINE 8

static uint64_t seen[2]; /* where two open descriptors are in the sequence of errors */

static void setup(struct lab *l)
{
    for (unsigned i = 0; i < 2; i++)
        seen[i] = mapping_error_sample(l->k->m);
    fr_fail(&l->server, FR_WRITE, -ENOSPC, 1);
}

static void writer(struct lab *l)
{
    lab_write(l, MINE, 2, 1);
    lab_kick(l);
}

/* What fsync(2) of a descriptor returns (fuse/io.c). */
static void sync_descriptor(struct lab *l, unsigned i)
{
    int rc = fk_fsync(l->k), err = mapping_error_check(l->k->m, &seen[i]);

    rc = rc ? rc : err;
    lab_say(l, "fsync of descriptor %u: %s", i + 1, rc ? strerror(-rc) : "all is safe");
    if (!rc)
        lab_lost(l,
                 "descriptor %u: its fsync says that all is safe; nobody told it that a WRITE "
                 "of page 0 byte %u had failed",
                 i + 1, MINE);
}

static void first(struct lab *l)
{
    sync_descriptor(l, 0);
}

static void second(struct lab *l)
{
    sync_descriptor(l, 1);
}

/* Three have the file open; the first asks while the server has no room. */
static void mount(struct lab_mount *m)
{
    lm_ready(m, "application2");
    lm_ready(m, "application3");
    lm_write(m, MINE, 2, 1);
    lm_server(m, "WRITE:nospace:count=1");
    for (unsigned i = 3; i; i--) {
        const char *lane = i == 3 ? "application3" : i == 2 ? "application2" : "application";

        if (lm_wait(m, lm_start(m, lane, LM_FSYNC, 0, 0, 0)) == 0)
            lm_lost(m,
                    "%s: its fsync says that all is safe; nobody told it that a WRITE of page 0 "
                    "byte %u had failed",
                    lane, MINE);
    }
}

static const struct lab_lane lanes[] = {
    {"application", writer}, {"application1", first}, {"application2", second}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "each descriptor is told, once; the bytes are dirty again"},
    {.name = "one-flag",
     .what = "2.6 to 4.12: test_and_clear_bit(AS_EIO): who asks first has it",
     .faults = FAULT_BIT(error_once),
     .on_cache = LOST,
     .on_mount = LOST},
    {.name = "told-to-nobody",
     .what = "background writeback has nobody waiting, and so nobody is told",
     .faults = FAULT_BIT(error_untold),
     .on_cache = LOST,
     .on_mount = LOST},
    {.name = "clean-after-error",
     .what = "2018: told, and the page counts as clean: a second fsync succeeds, with nothing sent",
     .faults = FAULT_BIT(error_cleans),
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_error_lost = {
    .name = "error-lost",
    .number = 18,
    .year = "2017-2018",
    .title = "A writeback error is told to nobody, or to one descriptor of two",
    .history =
        "A mapping had two flags, AS_EIO and AS_ENOSPC. Whoever called fsync() or close() first "
        "tested and cleared them, and every other descriptor was told that all is well; sync() "
        "and writeback inside the kernel cleared them too. 4.13 replaced the flags by a sequence "
        "in which each open file has its own place. In 2018 a database found the other half: "
        "after a failed writeback the pages counted as clean, so that the second fsync() "
        "succeeded without having written anything.",
    .source = "lib/errseq.c and Documentation/core-api/errseq.rst (Jeff Layton, 4.13, 2017); "
              "pgsql-hackers 2018, 'PostgreSQL's handling of fsync() errors is unsafe'",
    .mechanism = "An error is an event, and a flag can be consumed once. Descriptors are many. And "
                 "a mark that was cleared to start the WRITE has to come back when it fails, or "
                 "there is nothing left to try again.",
    .saved_by = "An error moves a sequence; each descriptor compares it with where it was when it "
                "was opened or last asked, so each is told, once. The bytes of the WRITE are "
                "dirty again, and are retried.",
    .protocols = protocols,
    .world = {.pages = 1},
    .lanes = lanes,
    .mount = mount,
    .setup = setup,
    .schedule = "application until end            # written back in the background: ENOSPC\n"
                "application1 until end\n"
                "application2 until end\n",
};
