// SPDX-License-Identifier: Apache-2.0
/*
 * Part "cache": the real cache without a mount (cache_rig.h), from 16 MiB to --max-mib. Its pages
 * are filled by a server that has no content, so that nothing becomes resident but metadata: 16 GiB
 * of cache take less than 1 GiB. In a child process, whose resident set says how much.
 *
 *   insert   each page of a file as large as the cache, read for the first time
 *   lookup   pages at random, which are there
 *   reclaim  pages of another file: each costs one of the first its place
 *   drop     the file changed elsewhere
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/bench/cache_rig.h"
#include "daemon/bench/child.h"
#include "daemon/bench/scale.h"
#include "daemon/bench/stats.h"

#define MIB (1u << 20)

struct figures {
    double insert_ns, lookup_ns, reclaim_ns, drop_ns; /* a page */
    double metadata;                                  /* bytes a page */
};

static double resident(void)
{
    struct scale_usage u;

    scale_usage(getpid(), true, &u);
    return (double)u.rss;
}

static double since(uint64_t start, uint64_t n)
{
    return (double)(bench_now() - start) / (double)n;
}

/* File 0 fills the cache but for some frames that are kept free; then file 1 comes. */
static bool measure(const void *arg, void *out)
{
    uint64_t mib = *(const uint64_t *)arg;
    struct figures *f = out;
    struct rig_read *read = calloc(1, sizeof *read);
    uint64_t pages = mib * (MIB / PAGE_SIZE), random = 1;
    struct rig rig;

    if (!read || rig_open(&rig, mib * MIB, 2, mib * MIB, mib * MIB))
        return false;
    /* What it holds at most, less what it keeps free. */
    pages = rig_capacity(&rig) - rig_capacity(&rig) / 16;
    rig_thread_begin();
    rig_read(&rig.file[0], read, 0, PAGE_SIZE);

    double before = resident();
    uint64_t start = bench_now();

    for (uint64_t i = 1; i < pages; i++)
        rig_read(&rig.file[0], read, i << PAGE_SHIFT, PAGE_SIZE);
    f->insert_ns = since(start, pages - 1);
    f->metadata = (resident() - before) / (double)(pages - 1);

    uint64_t n = 200000, there = 0;

    start = bench_now();
    for (uint64_t i = 0; i < n; i++)
        there +=
            rig_read(&rig.file[0], read, stats_random(&random) % pages << PAGE_SHIFT, PAGE_SIZE);
    f->lookup_ns = since(start, n);
    if (there != n)
        return false; /* more than it holds */

    n = pages / 4;
    /* The frames that are free. */
    for (uint64_t i = 0; i < pages / 8; i++)
        rig_read(&rig.file[1], read, i << PAGE_SHIFT, PAGE_SIZE);
    start = bench_now();
    for (uint64_t i = 0; i < n; i++)
        rig_read(&rig.file[1], read, (pages / 8 + i) << PAGE_SHIFT, PAGE_SIZE);
    f->reclaim_ns = since(start, n);

    struct cache_reval_result r;

    rig.file[0].ticks++;
    struct attr now = rig_attr(&rig.file[0]);
    start = bench_now();
    mapping_revalidate(rig.file[0].m, &now, false, &r);
    if (!r.dropped)
        return false;
    f->drop_ns = since(start, r.dropped);
    return true;
}

static int run(struct cell *c)
{
    const struct scale_cell *sc = cell_arg(c);
    struct figures f = {0};
    int rc = measure_apart(c, measure, &sc->n, &f, sizeof f);

    if (rc < 0)
        return rc;
    cell_sample(c, "insert_ns", "ns", BETTER_LESS, f.insert_ns);
    cell_sample(c, "lookup_ns", "ns", BETTER_LESS, f.lookup_ns);
    cell_sample(c, "reclaim_ns", "ns", BETTER_LESS, f.reclaim_ns);
    cell_sample(c, "drop_ns", "ns", BETTER_LESS, f.drop_ns);
    cell_sample(c, "metadata_bytes_page", "bytes", BETTER_LESS, f.metadata);
    return 0;
}

void scale_cells_cache(struct matrix *m, struct scale *s)
{
    double mib[32];
    unsigned n = scale_steps(16, 4, s->max_mib, mib);

    for (unsigned i = 0; i < n; i++) {
        struct cell *c =
            scale_add(m, &(struct scale_cell){.s = s, .n = (uint64_t)mib[i]}, "cache", run);

        cell_param(c, "mib", "%.0f", mib[i]);
    }
}
