// SPDX-License-Identifier: Apache-2.0
/*
 * `run orphan-map --cost`: what each way of keeping faults out (exclude.h) costs.
 *
 * Two figures. What is done in the entry's schedule, counted: locks, yields, faults begun anew,
 * unmaps, steps of the scheduler until all is over. And the time of a fault that meets nobody, in
 * a loop: a READ of a cached page by the real cache, between the fault's side of that way; by one
 * thread, and by two on the same page.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/race/lab/exclude.h"

#define FAULTS_ALONE 200000
#define THREADS      2
#define BATCHES      40

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- the time of a fault ---- */

struct stage {
    struct arena arena;
    struct fr_server server;
    struct fr_file *file;
    struct cache *c;
    struct fk_file *k;
    pthread_t worker;
};

static void stage_open(struct stage *s)
{
    struct cache_config config = {.size = 256 * (PAGE_SIZE + 96),
                                  .dirty_limit = 1 << 20,
                                  .dirty_background = 1 << 20,
                                  .rsize = 64 << 10,
                                  .wsize = 64 << 10};
    struct arena_sizes sizes = {.inodes = 8, .files = 1, .creds = 8, .intents = 1};
    uint8_t value;

    cache_arena_sizes(&config, &sizes);
    if (arena_create(&s->arena, &sizes) != 0)
        abort();
    fr_server_init(&s->server);
    s->file = fr_file_new(&s->server, PAGE_SIZE, 2 * PAGE_SIZE);
    s->c = cache_new(&config, &s->arena, NULL, &fr_ops, &fk_ops, NULL);
    s->k = fk_new(s->c, 1, s->file, 2);
    if (pthread_create(&s->worker, NULL, fr_worker_in_order, &s->server) != 0 ||
        fk_load(s->k, 0, &value) != 0)
        abort();
}

static void stage_close(struct stage *s)
{
    fr_stop(&s->server);
    pthread_join(s->worker, NULL);
    fk_free(s->k);
    cache_free(s->c);
    fr_server_free(&s->server);
    fr_file_free(s->file);
    arena_close(&s->arena);
}

struct faulter {
    struct stage *stage;
    const struct exclude_way *way;
    unsigned n;
};

static void *faults(void *arg)
{
    struct faulter *f = arg;
    struct cache_read *r = malloc(sizeof *r);

    if (!r)
        abort();
    memset(r, 0, sizeof *r);
    for (unsigned i = 0; i < f->n; i++) {
        uint64_t entered;

        do {
            entered = f->way->enter(0);
            r->m = f->stage->k->m;
            r->offset = 0;
            r->count = PAGE_SIZE;
            r->kernel = true;
            if (cache_read(r) != 0)
                abort();
            cache_read_release(r);
        } while (!f->way->leave(0, entered));
    }
    free(r);
    return NULL;
}

/* Nanoseconds of a fault, the best of some batches. */
static double time_of(struct stage *s, const struct exclude_way *way, unsigned threads)
{
    double best = 0;

    for (unsigned b = 0; b < BATCHES; b++) {
        struct faulter f = {s, way, FAULTS_ALONE / BATCHES / threads};
        pthread_t thread[THREADS];
        double began = now_ns(), each;

        for (unsigned i = 1; i < threads; i++)
            if (pthread_create(&thread[i], NULL, faults, &f) != 0)
                abort();
        faults(&f);
        for (unsigned i = 1; i < threads; i++)
            pthread_join(thread[i], NULL);
        each = (now_ns() - began) / (f.n * threads);
        if (!best || each < best)
            best = each;
    }
    return best;
}

/* ---- what is done in the schedule ---- */

static void counts_of(const struct lab_entry *e, const struct lab_protocol *p)
{
    struct lab_result r;
    char text[64];

    lab_run_on_cache(e, p, NULL, &r);
    lab_outcome_text(&r, text, sizeof text);
    printf("%-20s %-9s %6" PRIu64 " %6" PRIu64 " %7" PRIu64 " %8" PRIu64 " %6" PRIu64 "\n", p->name,
           text, exclude_figures.unmaps, exclude_figures.locks, exclude_figures.yields,
           exclude_figures.retries, r.steps);
    lab_result_free(&r);
}

extern const struct lab_entry entry_orphan_map;

int orphan_map_cost(void)
{
    struct stage s;

    printf("In the schedule of the entry, or the protocol's own:\n%-20s %-9s %6s %6s %7s %8s %6s\n",
           "protocol", "seen", "unmaps", "locks", "yields", "retries", "steps");
    for (const struct lab_protocol *p = entry_orphan_map.protocols; p->name; p++)
        counts_of(&entry_orphan_map, p);

    printf("\nA fault that meets no removal, ns (READ of a cached page):\n%-20s %10s %22s\n", "way",
           "one thread", "two, on the same page");
    exclude_reset();
    stage_open(&s);
    for (const struct exclude_way *w = exclude_ways; w->name; w++)
        printf("%-20s %10.0f %22.0f\n", w->name, time_of(&s, w, 1), time_of(&s, w, THREADS));
    stage_close(&s);
    return 0;
}
