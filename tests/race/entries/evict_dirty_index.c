// SPDX-License-Identifier: Apache-2.0
/* Flush and evict, with nothing but the index of dirty pages between them. */
#include "tests/race/lab/lab.h"
#include "tests/race/mount/mount.h"

#define MINE 8

static void setup(struct lab *l)
{
    fr_fail(&l->server, FR_WRITE, -EIO, 1);
}

static void application(struct lab *l)
{
    lab_write(l, MINE, 2, 1);
    lab_kick(l);
}

static void evicter(struct lab *l)
{
    lab_say(l, "drops what is clean: %llu pages", (unsigned long long)cache_drop_clean(l->c));
}

/* Frames in flight are referenced here, as the fake kernel's are not; what is acknowledged and not
 * committed is not. */
static void mount(struct lab_mount *m)
{
    struct lm_op *sync;

    lm_write(m, MINE, 2, 1);
    lm_write(m, MINE + 100, 3, 1);
    lm_server(m, "COMMIT:delay=60000:count=1");
    sync = lm_start(m, "application", LM_FSYNC, 0, 0, 0);
    lm_server_fired(m);
    lm_wait(m, lm_start(m, "cache", LM_DROP, 0, 0, 0));
    lm_server(m, "reboot");
    lm_wait(m, sync);
}

static const struct lab_lane lanes[] = {{"application", application}, {"reclaimer", evicter}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "clean means: not dirty, not in flight, not unstable"},
    {.name = "dirty-index",
     .what = "a page that the flush has taken off the dirty index is evicted",
     .faults = FAULT_BIT(evict_in_flight),
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_evict_dirty_index = {
    .name = "evict-dirty-index",
    .number = 19,
    .year = "2005",
    .title = "A page is evicted while it is being flushed",
    .history =
        "The NFS client found what to write by its own list of requests, and the VM evicted by "
        "the dirty bits of pages. Neither held the other's lock: as the changelog of the fix has "
        "it, writeback could be flushing out a page, and setting its writeback bit, while the "
        "page cache was busy evicting it. The repair was to hook into the release of pages, so "
        "that dirty ones are always written before they go.",
    .source = "cd52ed35535e 'NFS: Avoid races between writebacks and truncation', Trond Myklebust, "
              "20 March 2006; reported with a fix by NeilBrown",
    .mechanism =
        "The flush takes a page off the index of dirty pages when it sends it, as it must, so "
        "that a store made meanwhile can put it back. From then until the reply it is on no "
        "list. An evicter that knows that index alone takes it for clean. If the WRITE fails "
        "there is nothing to send again; if it does not, a reader has meanwhile fetched what "
        "was there before.",
    .saved_by = "A page carries its own state: bytes in flight and bytes not yet committed are "
                "sets of their own, and only a page with none of them is clean. It is looked at "
                "under the lock under which it goes.",
    .protocols = protocols,
    .world = {.pages = 1, .stable_writes = true},
    .lanes = lanes,
    .mount = mount,
    .setup = setup,
    .schedule = "server hold server.WRITE\n"
                "application until end            # in flight\n"
                "reclaimer until end\n"
                "server go                        # EIO\n",
};
