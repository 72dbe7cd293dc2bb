// SPDX-License-Identifier: Apache-2.0
/* A server that forgot, and says so in eight bytes. */
#include "tests/race/lab/lab.h"
#include "tests/race/mount/mount.h"

#define MINE  8
#define OTHER (PAGE_SIZE + 8)

/* Two runs of bytes: two WRITEs, so that the server may keep them in memory. */
static void application(struct lab *l)
{
    lab_write(l, MINE, 2, 1);
    lab_write(l, OTHER, 3, 1);
    lab_fsync(l);
}

static void mount(struct lab_mount *m)
{
    struct lm_op *sync;

    lm_hold(m, "reval.asked"); /* by the server's new times: nothing of this */
    lm_write(m, MINE, 2, 1);
    lm_write(m, OTHER, 3, 1);
    lm_server(m, "COMMIT:reboot:count=1");
    lm_fsync(m);
    if (!lm_check_bytes(m))
        return;
    /* Of two WRITEs one is acknowledged before a reboot, the other sent again after it. */
    lm_write(m, MINE + 1, 4, 1);
    lm_write(m, OTHER + 1, 5, 1);
    lm_server(m, "clear");
    lm_server(m, "WRITE:silent:skip=1:count=1");
    lm_hold(m, "wb.answered");
    sync = lm_start(m, "application", LM_FSYNC, 0, 0, 0);
    lm_arrived(m, "wb.answered", 1);
    lm_server_fired(m);
    lm_server(m, "reboot");
    lm_release(m, "wb.answered");
    lm_wait(m, sync);
}

static const struct lab_lane lanes[] = {
    {"application", application}, {"serverroom", lab_reboot}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "another verifier: what was unstable is dirty again"},
    {.name = "commit-is-commit",
     .what = "COMMIT was answered without an error, so all is safe",
     .faults = FAULT_BIT(commit_verifier),
     .on_cache = LOST,
     .on_mount = LOST},
    {.name = "newest-verifier",
     .what = "a WRITE brings a new verifier: it is remembered, and COMMIT agrees with it",
     .faults = FAULT_BIT(write_verifier),
     .schedule = "server hold server.WRITE\n"
                 "application until end            # one of two is acknowledged\n"
                 "serverroom until end\n"
                 "server go                        # and the other, after the reboot\n"
                 "application until end\n",
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_verifier = {
    .name = "verifier",
    .number = 11,
    .year = "1995",
    .title = "UNSTABLE data, a reboot of the server, and a COMMIT that is believed",
    .history =
        "NFSv3 lets the server answer a WRITE before the data are on disk, and gives the client "
        "the means to notice when they never came there: a verifier in each reply that changes "
        "when the server has lost its memory. Clients that looked at the status only, or at the "
        "verifier of COMMIT only, kept losing what was in the server's memory at a reboot or "
        "failover; servers whose verifier did not change did it for them.",
    .source = "RFC 1813 sections 3.3.7 (WRITE), 3.3.21 (COMMIT) and 4.8; Linux fs/nfs/write.c "
              "nfs_commit_release_pages(), nfs_write_verifier_cmp()",
    .mechanism =
        "COMMIT succeeds when the server has on disk what it has in memory; what it had in "
        "memory before is not its concern. Only the comparison with the verifier of each WRITE "
        "tells that they are not the same memory. A client that overwrites the verifier it "
        "remembers with that of a later WRITE compares the COMMIT with the wrong one.",
    .saved_by = "Unstable bytes are kept as long as they are unstable. Any reply with another "
                "verifier, of WRITE or COMMIT, makes all of them dirty again, and whoever waits "
                "for them waits for another pass.",
    .protocols = protocols,
    .lanes = lanes,
    .mount = mount,
    .schedule = "server hold server.COMMIT\n"
                "server2 hold server.COMMIT\n"
                "application until end            # both acknowledged; COMMIT arrives\n"
                "serverroom until end\n"
                "server go\n"
                "server2 go\n"
                "application until end\n",
};
