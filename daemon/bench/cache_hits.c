// SPDX-License-Identifier: Apache-2.0
/*
 * Hit ratios: the cache itself, and textbook policies, on the same traces (cache_trace.h).
 *
 * Ours is not simulated: each access is a READ of one page, and is a hit when the answer needed no
 * fetch. Its capacity is what it says that it can hold, and the simulated ones get the same. Each
 * repetition draws other traces of the same kinds, so that the spread is that of the kind.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bench/cache_cells.h"
#include "daemon/bench/cache_policy.h"
#include "daemon/bench/cache_rig.h"

enum { FILE_PAGES = 1024 };

struct race {
    const struct trace_kind *kind;
    const struct policy *policy; /* NULL: ours */
    uint32_t capacity;           /* asked for */
    size_t accesses;
    uint64_t seed;
    unsigned reps;
};

static uint64_t cache_bytes(const struct race *j)
{
    return (uint64_t)j->capacity * (PAGE_SIZE + 96);
}

/* What a cache of that size really holds. */
static int capacity_of(const struct race *j, uint32_t *capacity)
{
    struct rig rig;
    int err = rig_open(&rig, cache_bytes(j), 1, PAGE_SIZE, 0);

    if (err)
        return err;
    *capacity = rig_capacity(&rig);
    rig_close(&rig);
    return 0;
}

static int64_t our_hits(const struct race *j, const struct trace *t, uint64_t *waits)
{
    uint32_t files = t->universe / FILE_PAGES + 1;
    struct rig_read *read = calloc(1, sizeof *read);
    struct rig rig;
    int64_t hits = 0;
    int err = read ? rig_open(&rig, cache_bytes(j), files, FILE_PAGES * PAGE_SIZE, 0) : -ENOMEM;

    if (err) {
        free(read);
        return err;
    }
    rig_thread_begin();
    for (size_t i = 0; i < t->n; i++)
        hits += rig_read(&rig.file[t->key[i] / FILE_PAGES], read,
                         (uint64_t)(t->key[i] % FILE_PAGES) << PAGE_SHIFT, PAGE_SIZE);
    rig_thread_end();
    rig_close(&rig);
    *waits = read->waits;
    free(read);
    return hits;
}

static int run(struct cell *c)
{
    struct race *j = cell_arg(c);
    uint32_t capacity;
    uint64_t waits = 0;
    struct trace t;
    int64_t hits;
    int err;

    if (!cell_recording(c))
        return 0; /* a ratio needs no warm-up */
    err = capacity_of(j, &capacity);
    if (!err)
        err = trace_make(&t, j->kind, j->accesses, capacity, j->seed + 1000003 * j->reps++);
    if (err)
        return err;
    hits = j->policy ? j->policy->hits(&t, capacity) : our_hits(j, &t, &waits);
    if (hits >= 0 && !j->policy)
        cell_sample(c, "waits_for_memory", "count", BETTER_LESS, (double)waits);
    if (hits >= 0)
        cell_sample(c, "hit_percent", "%", BETTER_MORE, 100.0 * (double)hits / (double)t.n);
    trace_free(&t);
    return hits < 0 ? (int)hits : 0;
}

static void add(struct matrix *m, const char *target, const struct race *race)
{
    struct race *j = malloc(sizeof *j);

    if (!j)
        exit(bench_fail(BENCH_FAILED, "out of memory"));
    *j = *race;

    struct cell *c = matrix_add(m, "cache", target, run, j);

    cell_at_end(c, free);
    cell_param(c, "trace", "%s", j->kind->name);
    cell_param(c, "pages", "%u", j->capacity);
}

void cache_cells_traces(struct matrix *m, uint32_t capacity, size_t accesses, uint64_t seed)
{
    for (const struct policy *p = policies; p->name; p++)
        matrix_target(m, p->name, p->source);
    for (const struct trace_kind *k = trace_kinds; k->name; k++) {
        struct race race = {.kind = k, .capacity = capacity, .accesses = accesses, .seed = seed};

        add(m, "ours", &race);
        for (race.policy = policies; race.policy->name; race.policy++)
            add(m, race.policy->name, &race);
    }
}
