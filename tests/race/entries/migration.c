// SPDX-License-Identifier: Apache-2.0
/* A page is moved while somebody stores to it. */
#include "tests/race/lab/lab.h"

#define MINE   8
#define HOLES  6 /* low frames that are taken while page 0 gets its own */
#define TARGET 4 /* frames */

static void setup(struct lab *l)
{
    uint32_t hole[HOLES];

    for (unsigned i = 0; i < HOLES; i++)
        hole[i] = frame_take(l->c, l->c->frames);
    lab_load(l, MINE);
    for (unsigned i = 0; i < HOLES; i++)
        frame_unref(l->c, hole[i]);
}

static void resizer(struct lab *l)
{
    struct cache_resize r = {.size = TARGET * (PAGE_SIZE + PAGE_METADATA),
                             .dirty_limit = l->c->dirty_limit,
                             .dirty_background = l->c->dirty_background};

    lab_say(l, "the cache is to have %u frames: those above go", TARGET);
    cache_resize(l->c, &r);
    lab_say(l, "resize is done, %u page moved", (unsigned)r.moved);
}

static void application(struct lab *l)
{
    lab_store(l, MINE, 2);
    lab_writeback(l, 0);
}

static const struct lab_lane lanes[] = {{"application", application}, {"resizer", resizer}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped",
     .what =
         "under the mapping's lock; who holds the old frame keeps it, and it goes with the last"},
    {.name = "sequence-counter",
     .what = "copied without a lock: the index was the same before and after",
     .faults = FAULT_BIT(migrate_seqcount),
     .on_cache = LOST},
    {.name = "lock",
     .what = "under the lock, and only what nobody else refers to",
     .faults = FAULT_BIT(migrate_wait_pinned),
     .weakness =
         "A page that somebody reads all the time never moves, and the resize does not end; "
         "nor does it before a server that is away has taken the WRITEs under way."},
    {.name = "lock-lazy",
     .what = "under the lock; old frames are cleaned up later, together",
     .faults = FAULT_BIT(migrate_lazy_cleanup),
     .weakness =
         "Nothing is lost, but memory is taken twice until the walk over all pages is over: "
         "just when there is to be less of it."},
    {0}};

const struct lab_entry entry_migration = {
    .name = "migration",
    .number = 6,
    .year = "2010",
    .title = "A page is moved while somebody is on the way from the page to its users",
    .history =
        "Memory compaction moves pages: each entry of a page table that maps the page is replaced "
        "by a migration entry, the page is copied, and the entries are put back to point to the "
        "copy. Both times the entries are found by a walk from the page to its users (rmap). exec "
        "moved the stack of the new program while such a walk was under way; the walk looked at "
        "the old place and missed the entry at the new one, and a migration entry was left behind "
        "for ever. A sequence counter was tried, by which the walk should see that it had been "
        "disturbed, and start again: it passed the tests for 28 hours, and then left one behind. "
        "What else was tried: locks for the whole walk, and to leave entries behind and clean them "
        "up when somebody came across them.",
    .source = "linux-mm, April and May 2010: memory compaction, and the races of rmap_walk() with "
              "vma_adjust() and shift_arg_pages(); mm/migrate.c remove_migration_ptes()",
    .mechanism =
        "A counter tells that what it counts has changed, if all who change it count. The walk "
        "goes over an index, and its counter counts changes of the index. A store into the page "
        "changes nothing of the index: the page is found, its frame is the same, the counter "
        "stands still, and the bytes that were copied are those of before. When the page is "
        "switched to the copy, the store is in a frame that is nobody's any more.",
    .saved_by =
        "Who stores to a page, who refers to its frame and who moves it holds the lock of the "
        "mapping, which covers the copy and the switch together. Who refers to the old frame "
        "already (a READ being answered, a WRITE under way) only reads it: he goes on with what "
        "the page was when it moved, and the last of them frees the frame.",
    .protocols = protocols,
    .world = {.pages = 2, .frames = 16},
    .lanes = lanes,
    .setup = setup,
    .schedule = "resizer until migrate.copied     # page 0 is in two frames\n"
                "application until end            # stored, and taken by the daemon\n"
                "resizer until end                # the page has the copy of before\n",
};
