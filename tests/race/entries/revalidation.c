// SPDX-License-Identifier: Apache-2.0
/*
 * The shipped order as a whole, and each of its steps broken: what the search exhausts, what the
 * counterexamples of the model (tests/model/) are replayed on.
 */
#include "tests/race/lab/lab.h"

#define MINE    8
#define THEIRS  4000
#define THEIRS2 (PAGE_SIZE + 100)

static void setup(struct lab *l)
{
    lab_load(l, MINE);
    lab_foreign(l, THEIRS, 7);
}

static void application(struct lab *l)
{
    lab_load(l, THEIRS2);
    lab_store(l, MINE, 2);
    lab_writeback(l, 0);
}

static void foreign(struct lab *l)
{
    lab_foreign(l, THEIRS2, 9);
}

static const struct lab_lane lanes[] = {
    {"application", application}, {"revalidator", lab_revalidate}, {"foreign", foreign}, {0}};

/* A token that claims too much shows at the next revalidation, which finds nothing changed. */
static void check(struct lab *l)
{
    lab_check_bytes(l);
    lab_revalidate(l);
    lab_check_bytes(l);
}

#define BETWEEN_WAIT_AND_WALK                                                                      \
    "application until kernel.filled\n"                                                            \
    "foreign until end\n"                                                                          \
    "revalidator until reval.waited\n"                                                             \
    "application until end\n"                                                                      \
    "revalidator until end\n"

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "ask, unmap, write-and-wait, invalidate, unmap again, remember"},
    {.name = "no-first-unmap",
     .what = "step 1 is left out: what the kernel holds dirty is not written",
     .faults = FAULT_BIT(no_first_unmap),
     .on_cache = STALE,
     .schedule = "application until kernel.writepage\n"
                 "revalidator until end\n"},
    {.name = "no-wait",
     .what = "step 2 is left out: the server does not get our bytes",
     .faults = FAULT_BIT(no_wait),
     .on_cache = STALE,
     .schedule = "application until end\n"
                 "revalidator until end\n"},
    {.name = "shrink-drops-dirty",
     .what = "step 3 drops a page without looking whether it is dirty again",
     .faults = FAULT_BIT(clear_dirty),
     .on_cache = LOST},
    {.name = "walk-stops-early",
     .what = "step 3 ends at the first page that stays",
     .faults = FAULT_BIT(stop_at_first),
     .on_cache = STALE},
    {.name = "no-second-unmap",
     .what = "step 4 is left out: a copy given to a fault meanwhile stays",
     .faults = FAULT_BIT(no_second_unmap),
     .on_cache = STALE},
    {.name = "token-sampled-late",
     .what = "step 5 remembers a token that it did not look at the data for",
     .faults = FAULT_BIT(token_late),
     .on_cache = STALE,
     .schedule = "revalidator until reval.unmapped-again\n"
                 "application until end\n"
                 "foreign until end\n"
                 "revalidator until end\n"},
    {0}};

const struct lab_entry entry_revalidation = {
    .name = "revalidation",
    .number = 24,
    .year = "-",
    .title = "The shipped order as a whole, and each of its steps left out or broken",
    .history = "Each step of the order is there because something was lost, or stale, without it: "
               "first in the model, then on a real mount.",
    .source = "docs/protocol.md, tests/model/",
    .mechanism = "Two pages, an application that loads one and stores to the other, another client "
                 "that writes to both, and one revalidation among them. See the protocols.",
    .saved_by = "The order as a whole: the search exhausts what two preemptions can do to it.",
    .protocols = protocols,
    .world = {.pages = 2},
    .lanes = lanes,
    .setup = setup,
    .check = check,
    .schedule = BETWEEN_WAIT_AND_WALK,
};
