// SPDX-License-Identifier: Apache-2.0
/*
 * Replays a counterexample of the model on the real cache.
 *
 *   replay ORDER SCHEDULE    runs the schedule (tests/model/schedule) under the faulty order ORDER
 *   replay --list            the orders that the race lab has a fault for
 *
 * The lanes do what the schedule's comments "#: LANE WHAT PAGE" say, one after the other, and come
 * to the point model.next after each. The file is as in the model: cached, and in the kernel; of
 * each page one byte is stored to, one belongs to write(2), and one to the other client. The
 * timeline is printed, and last the outcome. Exit: 0; 1 the schedule cannot be followed; 77 the lab
 * has no such fault.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/point.h"
#include "tests/race/lab/lab.h"
#include "tests/race/lab/timeline.h"

#define STORED  8
#define CALLED  2048
#define FOREIGN 4000
#define PAGES   2

static char *schedule;
static uint8_t next_value = 1;    /* what the file is full of */
static uint8_t newest[2 * PAGES]; /* stored and written, page by page */

static const struct lab_protocol protocols[] = {
    {.name = "shipped"},
    {.name = "no-first-unmap", .faults = FAULT_BIT(no_first_unmap)},
    {.name = "drop-before-wait", .faults = FAULT_BIT(no_wait)},
    {.name = "no-second-unmap", .faults = FAULT_BIT(no_second_unmap)},
    {.name = "shrink-drops-dirty", .faults = FAULT_BIT(clear_dirty)},
    {.name = "shrink-drops-unstable", .faults = FAULT_BIT(shrink_drops_unstable)},
    {.name = "walk-stops-early", .faults = FAULT_BIT(stop_at_first)},
    {.name = "generation-after-the-walk", .faults = FAULT_BIT(generation_after_the_walk)},
    {.name = "no-generation-check", .faults = FAULT_BIT(no_generation)},
    {.name = "reply-over-local-bytes", .faults = FAULT_BIT(reply_over_local_bytes)},
    {.name = "old-fetch-lacks-ours", .faults = FAULT_BIT(old_fetch_lacks_ours)},
    {.name = "attach-to-old-fetch", .faults = FAULT_BIT(attach_to_old_fetch)},
    {.name = "acknowledgement-cleans", .faults = FAULT_BIT(acknowledgement_cleans)},
    {.name = "commit-ignores-the-verifier", .faults = FAULT_BIT(commit_verifier)},
    {.name = "write-ignores-the-verifier", .faults = FAULT_BIT(write_verifier)},
    {.name = "token-sampled-late", .faults = FAULT_BIT(token_late)},
    {.name = "unmap-without-fsync", .faults = FAULT_BIT(unmap_without_fsync)},
    {.name = "lock-over-unmap", .faults = FAULT_BIT(lock_over_unmap)},
    {.name = "compare-with-the-page", .faults = FAULT_BIT(compare_with_the_page)},
    {0}};

/* What has been stored and written before it has to be at the server when the revalidation is over,
 * for others to see. */
static void revalidate(struct lab *l)
{
    static const uint64_t mine[] = {STORED, CALLED, PAGE_SIZE + STORED, PAGE_SIZE + CALLED};
    uint8_t before[sizeof mine / sizeof mine[0]];

    memcpy(before, newest, sizeof before);
    lab_revalidate(l);
    for (unsigned i = 0; i < sizeof before; i++)
        if (before[i] > l->file->stable[mine[i]])
            lab_stale(l,
                      "page %u byte %u: the %u stored before the revalidation began is not at "
                      "the server when it returns, which has %u",
                      (unsigned)(mine[i] / PAGE_SIZE), (unsigned)(mine[i] % PAGE_SIZE), before[i],
                      l->file->stable[mine[i]]);
}

static void do_one(struct lab *l, const char *what, unsigned page)
{
    uint64_t at = (uint64_t)page * PAGE_SIZE;

    if (strcmp(what, "store") == 0) {
        lab_store(l, at + STORED, ++next_value);
        newest[2 * page] = next_value;
    } else if (strcmp(what, "write") == 0) {
        lab_write(l, at + CALLED, ++next_value, 1);
        newest[2 * page + 1] = next_value;
    } else if (strcmp(what, "foreign") == 0) {
        lab_foreign(l, at + FOREIGN, ++next_value);
    } else if (strcmp(what, "load") == 0) {
        lab_load(l, at + FOREIGN);
        lab_load(l, at + STORED);
        lab_load(l, at + CALLED);
    } else if (strcmp(what, "writeback") == 0) {
        lab_writeback(l, page);
    } else if (strcmp(what, "reclaim") == 0) {
        lab_reclaim(l, page);
    } else if (strcmp(what, "readahead") == 0) {
        lab_prefetch(l, page);
    } else if (strcmp(what, "pass") == 0) {
        lab_kick(l);
    } else if (strcmp(what, "revalidate") == 0) {
        revalidate(l);
    } else if (strcmp(what, "reboot") == 0) {
        lab_reboot(l);
    } else {
        fprintf(stderr, "replay: the schedule wants '%s' done\n", what);
        exit(1);
    }
}

static void follow(struct lab *l, const char *lane)
{
    char name[32], what[32];
    unsigned page;

    for (const char *s = schedule; s; s = strchr(s, '\n')) {
        s += *s == '\n';
        if (sscanf(s, "#: %31s %31s %u", name, what, &page) == 3 && strcmp(name, lane) == 0) {
            do_one(l, what, page);
            POINT("model.next");
        }
    }
}

#define LANES(X)                                                                                   \
    X(application)                                                                                 \
    X(application2)                                                                                \
    X(application3) X(kernel) X(kernel2) X(reader) X(writeback) X(revalidator) X(foreign)
#define X(name)                                                                                    \
    static void name##_lane(struct lab *l)                                                         \
    {                                                                                              \
        follow(l, #name);                                                                          \
    }
LANES(X)
#undef X
#define X(name) {#name, name##_lane},
static const struct lab_lane lanes[] = {LANES(X){0}};
#undef X

static void setup(struct lab *l)
{
    for (unsigned page = 0; page < PAGES; page++)
        lab_load(l, (uint64_t)page * PAGE_SIZE);
}

static const struct lab_entry entry = {
    .name = "model",
    .title = "A counterexample of the model",
    .protocols = protocols,
    .world = {.pages = PAGES},
    .lanes = lanes,
    .setup = setup,
};

static char *read_all(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = calloc(1, 65536);

    if (!f || !text || !fread(text, 1, 65535, f)) {
        fprintf(stderr, "replay: cannot read %s\n", path);
        exit(1);
    }
    fclose(f);
    return text;
}

int main(int argc, char **argv)
{
    const struct lab_protocol *p = protocols;
    struct lab_result r;
    char outcome[32];

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        while ((++p)->name)
            puts(p->name);
        return 0;
    }
    if (argc != 3) {
        fprintf(stderr, "usage: replay ORDER SCHEDULE\n");
        return 1;
    }
    while (p->name && strcmp(p->name, argv[1]) != 0)
        p++;
    if (!p->name) {
        printf("the race lab has no fault for %s\n", argv[1]);
        return 77;
    }
    schedule = read_all(argv[2]);
    if (lab_run_on_cache(&entry, p, schedule, &r) != 0) {
        fprintf(stderr, "replay: %s\n", r.verdict);
        return 1;
    }
    timeline_text(stdout, &r, 160);
    lab_outcome_text(&r, outcome, sizeof outcome);
    printf("%s\n%s\n", r.verdict, outcome);
    lab_result_free(&r);
    free(schedule);
    return 0;
}
