// SPDX-License-Identifier: Apache-2.0
/* Two WRITEs of one byte under way at once. */
#include "tests/race/lab/lab.h"
#include "tests/race/mount/mount.h"

#define MINE 8

static void older(struct lab *l)
{
    lab_write(l, MINE, 2, 1);
    lab_kick(l);
}

static void younger(struct lab *l)
{
    lab_write(l, MINE, 3, 1);
    lab_fsync(l);
}

/* The server takes its time with the older one; the younger one, if it is sent, overtakes it. */
static void mount(struct lab_mount *m)
{
    struct lm_op *older, *younger;

    lm_write(m, MINE, 2, 1);
    lm_server(m, "WRITE:delay=300:count=1");
    older = lm_start(m, "writeback", LM_FLUSH, 0, 0, 0);
    lm_server_fired(m);
    lm_write(m, MINE, 3, 1);
    younger = lm_start(m, "application", LM_FSYNC, 0, 0, 0);
    lm_wait(m, younger);
    lm_wait(m, older);
}

static const struct lab_lane lanes[] = {{"application", older}, {"application2", younger}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "a page with bytes in flight waits for the reply"},
    {.name = "at-once",
     .what = "it is sent again at once; the network decides which comes last",
     .faults = FAULT_BIT(two_in_flight),
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_two_in_flight = {
    .name = "two-in-flight",
    .number = 14,
    .year = "1990s",
    .title = "Two writes of one page are under way, and the older one arrives last",
    .history =
        "NFS promises nothing about the order of calls that are outstanding together: they may "
        "travel over several connections, be retransmitted, or be taken by different threads of "
        "the server. Every client that sent a page while an earlier WRITE of it was unanswered "
        "has met the case that the earlier one was done last. Linux waits for the earlier one "
        "(PG_writeback; nfs_wb_folio()), and clients in user space rediscover it.",
    .source = "RFC 1813 section 4.5 (duplicate requests), RFC 5531 section 4 (no order over "
              "datagrams or connections); Linux fs/nfs/write.c nfs_lock_and_join_requests()",
    .mechanism = "Both WRITEs are right when they are sent, both are acknowledged, and after "
                 "both acknowledgements the page is clean here. The server has the older byte, "
                 "for good.",
    .saved_by = "A page is taken for writing only when none of its bytes is in flight, and a pass "
                "begins only when the WRITEs of the one before are answered. The younger bytes "
                "stay dirty meanwhile.",
    .protocols = protocols,
    .world = {.servers = 2, .pages = 1, .stable_writes = true},
    .lanes = lanes,
    .mount = mount,
    .schedule = "application until end\n"
                "server until server.WRITE        # it has arrived, and is not done\n"
                "application2 until end           # the younger one is, and acknowledged\n"
                "server go\n"
                "application2 until end\n",
};
