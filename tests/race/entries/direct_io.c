// SPDX-License-Identifier: Apache-2.0
/* O_DIRECT beside the page cache. */
#include "tests/race/lab/lab.h"
#include "tests/race/mount/mount.h"

#define MINE   8
#define DIRECT 512
#define LEN    512

static void setup(struct lab *l)
{
    lab_load(l, MINE);
}

static void direct(struct lab *l)
{
    lab_direct_write(l, DIRECT, 3, LEN);
    lab_load(l, DIRECT);
}

static void mapped(struct lab *l)
{
    lab_store(l, MINE, 2);
}

static void reader(struct lab *l)
{
    lab_load(l, MINE);
}

static void writer(struct lab *l)
{
    lab_write(l, MINE, 4, 1);
    lab_kick(l);
}

static void direct_reader(struct lab *l)
{
    uint8_t data[LEN] = {0};
    uint32_t got = 0;

    fk_direct_read(l->k, 0, data, LEN, &got);
    lab_say(l, "O_DIRECT read: page 0 byte %u is %u", MINE, data[MINE]);
    if (data[MINE] != 4)
        lab_stale(l, "page 0 byte %u: an O_DIRECT read finds %u; the 4 was written before it began",
                  MINE, data[MINE]);
}

static void mount(struct lab_mount *m)
{
    struct lm_op *direct;
    int64_t seen;

    lm_ready(m, "application2");
    lm_load(m, MINE);
    lm_hold(m, "kernel.write");
    direct = lm_start(m, "application", LM_DIRECT_WRITE, DIRECT, 3, LEN);
    lm_arrived(m, "kernel.write", 1);
    lm_wait(m, lm_start(m, "application2", LM_STORE, MINE, 2, 1)); /* into the page of before */
    lm_release(m, "kernel.write");
    lm_wait(m, direct);
    if (!lm_check_bytes(m))
        return;
    /* A direct READ asks the server before it has got what is written here, and is answered when
     * nothing is left to lay over the reply. */
    lm_wait(m, lm_start(m, "application2", LM_DIRECT_READ, MINE, 0, 1));
    lm_write(m, MINE, 4, 1);
    lm_hold(m, "fetch.answered");
    direct = lm_start(m, "application2", LM_DIRECT_READ, MINE, 0, 1);
    lm_arrived(m, "fetch.answered", 1);
    lm_fsync(m);
    lm_release(m, "fetch.answered");
    seen = lm_wait(m, direct);
    if (seen != 4)
        lm_stale(m,
                 "page 0 byte %u: an O_DIRECT read finds %lld; the 4 was written before it began",
                 MINE, (long long)seen);
}

static const struct lab_lane lanes[] = {{"application", direct},         {"application2", mapped},
                                        {"application3", reader},        {"application4", writer},
                                        {"application5", direct_reader}, {0}};

#define REFILL                                                                                     \
    "application until kernel.write    # it has dropped the page, and is sending\n"                \
    "application3 until end            # a fault, or readahead, brings it back\n"                  \
    "application until end\n"

static const struct lab_protocol protocols[] = {
    {.name = "shipped",
     .what = "write out, drop, go direct, drop again; page and twin part; READ is asked again"},
    {.name = "flush-only",
     .what = "writes out what is dirty, and leaves the pages",
     .faults = FAULT_BIT(direct_no_invalidate),
     .on_cache = STALE,
     .not_on_mount = true},
    {.name = "drop-only",
     .what = "drops the pages without writing out what is dirty",
     .faults = FAULT_BIT(direct_no_flush),
     .on_cache = LOST,
     .not_on_mount = true},
    {.name = "refill",
     .what = "drops before, not after: a fault in between brings the old page back",
     .faults = FAULT_BIT(direct_refill),
     .schedule = REFILL,
     .on_cache = STALE,
     .not_on_mount = true},
    {.name = "one-twin",
     .what = "our own: the twin takes the direct bytes, the kernel's copy has not",
     .faults = FAULT_BIT(direct_no_part),
     .schedule = "application until kernel.write\n"
                 "application2 until end           # a store into the page of before\n"
                 "application until end            # drops it: the kernel writes it back first\n",
     .on_cache = LOST,
     .on_mount = LOST},
    {.name = "not-asked-again",
     .what = "our own: a direct READ that a write of the same bytes overtook is served",
     .faults = FAULT_BIT(direct_overtaken),
     .schedule = "server hold server.WRITE\n"
                 "application4 until end           # written, and on its way\n"
                 "server2 hold server.READ.done\n"
                 "application5 until end           # asks the server, which has not got it yet\n"
                 "server go                        # now it has, and nothing is dirty here\n"
                 "application until kernel.write   # (lets it be committed)\n"
                 "server2 go\n",
     .on_cache = STALE,
     .on_mount = STALE},
    {0}};

const struct lab_entry entry_direct_io = {
    .name = "direct-io",
    .number = 8,
    .year = "2003-2026",
    .title = "A write past the page cache, and the page cache that does not know",
    .history =
        "O_DIRECT has its own path to the server, and the page cache has copies of the same "
        "bytes. For more than twenty years the same three mistakes came back in one file "
        "system after the other: to write out the dirty pages and leave them there; to drop "
        "them without writing out; and to drop them before the write only, so that a fault, a "
        "buffered read or readahead puts the old page back while the write is under way, where "
        "it stays. xfstests has generic/209 and generic/451 for the third. NFS repaired its own "
        "in 2013; FUSE repaired a direct read that overtook the writeback of the same bytes, "
        "then, in 2023, the missing second invalidation for synchronous writes, and in 2026 "
        "patches for the asynchronous ones were still being posted.",
    .source = "mm/filemap.c generic_file_direct_write() and kiocb_invalidate_post_direct_write(); "
              "a9ab5e840669 'nfs: page cache invalidation for dio'; ea8cd33390fa 'fuse: Fix "
              "O_DIRECT operations vs cached writeback misorder'; b359af8275a9 'fuse: Invalidate "
              "the page cache after FOPEN_DIRECT_IO write'; linux-fsdevel, January 2026, 'fuse: "
              "invalidate the page cache after direct write' (Jingbo Xu)",
    .mechanism =
        "There is no instant at which both the server and the cache change. Before the write "
        "the page is old and may be dirty: it has to be written out, then dropped. During the "
        "write anybody may bring the old page back. So it has to be dropped once more after. "
        "In a daemon with a cache of its own the same holds twice: once for the kernel's copy, "
        "and once for the reply of a direct READ that was sampled before bytes were committed "
        "which are no longer there to be laid over it.",
    .saved_by =
        "In the kernel: both invalidations of generic_file_direct_write(). Here: a direct WRITE "
        "goes into the cache like any other, and the page is parted from the twin, which keeps "
        "what the kernel's copy has; a direct READ is overlaid with all bytes that are not "
        "committed, and asked again when a COMMIT overtook it.",
    .protocols = protocols,
    .world = {.pages = 1},
    .lanes = lanes,
    .mount = mount,
    .setup = setup,
    .schedule = "application2 until end\n"
                "application until end\n",
};
