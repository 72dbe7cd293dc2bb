// SPDX-License-Identifier: Apache-2.0
/*
 * The traces; see cache_trace.h. Sizes are given in units of the cache's capacity, so that a trace
 * asks the same question of a cache of any size.
 */
#include "daemon/bench/cache_trace.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

uint64_t trace_random(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dull;
}

/* [0, 1) */
static double uniform(uint64_t *seed)
{
    return (double)(trace_random(seed) >> 11) / 9007199254740992.0;
}

static uint32_t below(uint64_t *seed, uint32_t n)
{
    return (uint32_t)((trace_random(seed) >> 32) * n >> 32);
}

/* ---- Zipf ---- */

struct zipf {
    double *sum;   /* of rank^-s, up to each rank */
    uint32_t *key; /* of each rank: popular pages are not neighbours */
    uint32_t n;
};

static void zipf_free(struct zipf *z)
{
    free(z->sum);
    free(z->key);
}

static int zipf_init(struct zipf *z, uint32_t n, double s, uint64_t *seed)
{
    double total = 0;

    *z = (struct zipf){malloc(n * sizeof *z->sum), malloc(n * sizeof *z->key), n};
    if (!z->sum || !z->key) {
        zipf_free(z);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        total += pow(i + 1.0, -s);
        z->sum[i] = total;
        z->key[i] = i;
    }
    for (uint32_t i = n - 1; i > 0; i--) {
        uint32_t j = below(seed, i + 1), k = z->key[i];

        z->key[i] = z->key[j];
        z->key[j] = k;
    }
    return 0;
}

static uint32_t zipf_draw(const struct zipf *z, uint64_t *seed)
{
    double at = uniform(seed) * z->sum[z->n - 1];
    uint32_t lo = 0, hi = z->n - 1;

    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;

        if (z->sum[mid] > at)
            hi = mid;
        else
            lo = mid + 1;
    }
    return z->key[lo];
}

static int make_zipf(struct trace *t, uint32_t capacity, uint64_t *seed)
{
    struct zipf z;

    t->universe = 10 * capacity;
    if (zipf_init(&z, t->universe, 1.0, seed))
        return -ENOMEM;
    for (size_t i = 0; i < t->n; i++)
        t->key[i] = zipf_draw(&z, seed);
    zipf_free(&z);
    return 0;
}

/* ---- what is read in order ---- */

static int make_scan(struct trace *t, uint32_t capacity, uint64_t *seed)
{
    t->universe = (uint32_t)(t->n / 2);
    if (t->universe > 8 * capacity)
        t->universe = 8 * capacity;
    for (size_t i = 0; i < t->n; i++)
        t->key[i] = (uint32_t)(i % t->universe);
    return 0;
}

static int make_loop(struct trace *t, uint32_t capacity, uint64_t *seed)
{
    t->universe = capacity + capacity / 4;
    for (size_t i = 0; i < t->n; i++)
        t->key[i] = (uint32_t)(i % t->universe);
    return 0;
}

/* Of every nine accesses about, eight are drawn and one belongs to a scan that never returns: in
 * bursts of twice the capacity, as a backup would. */
static int make_zipf_scan(struct trace *t, uint32_t capacity, uint64_t *seed)
{
    uint32_t draws = 16 * capacity, burst = 2 * capacity, hot = 10 * capacity;
    struct zipf z;
    size_t i = 0;

    t->universe = hot;
    if (zipf_init(&z, hot, 1.0, seed))
        return -ENOMEM;
    while (i < t->n) {
        for (uint32_t k = 0; k < draws && i < t->n; k++)
            t->key[i++] = zipf_draw(&z, seed);
        for (uint32_t k = 0; k < burst && i < t->n; k++)
            t->key[i++] = t->universe++;
    }
    zipf_free(&z);
    return 0;
}

/* ---- stack distances (Mattson et al. 1970) ---- */

/* A Fenwick tree over time: 1 where some page was last accessed. */
static void fenwick_add(int32_t *tree, size_t n, size_t i, int32_t by)
{
    for (i++; i <= n; i += i & -i)
        tree[i] += by;
}

/* The place of the k-th 1, k from 1. */
static size_t fenwick_find(const int32_t *tree, size_t n, int32_t k)
{
    size_t at = 0, step = 1;

    while (step * 2 <= n)
        step *= 2;
    for (; step; step /= 2)
        if (at + step <= n && tree[at + step] < k) {
            at += step;
            k -= tree[at];
        }
    return at;
}

/* Each access goes to the page that was used d pages ago, d exponential with a mean of half the
 * capacity: what LRU is made for. */
static int make_stack(struct trace *t, uint32_t capacity, uint64_t *seed)
{
    int32_t *tree = calloc(t->n + 1, sizeof *tree), pages = 0;

    if (!tree)
        return -ENOMEM;
    t->universe = 0;
    for (size_t i = 0; i < t->n; i++) {
        double d = -log(1 - uniform(seed)) * capacity / 2;

        if (d >= pages) {
            t->key[i] = t->universe++;
            pages++;
        } else {
            size_t was = fenwick_find(tree, t->n, pages - (int32_t)d);

            t->key[i] = t->key[was];
            fenwick_add(tree, t->n, was, -1);
        }
        fenwick_add(tree, t->n, i, 1);
    }
    free(tree);
    return 0;
}

/* A working set of 0.8 of the capacity, another one every ten capacities. */
static int make_phases(struct trace *t, uint32_t capacity, uint64_t *seed)
{
    uint32_t set = (uint32_t)(capacity * 4ull / 5), base = 0;

    for (size_t i = 0; i < t->n; i++) {
        if (i && i % (10 * (size_t)capacity) == 0)
            base += set;
        t->key[i] = base + below(seed, set);
    }
    t->universe = base + set;
    return 0;
}

const struct trace_kind trace_kinds[] = {
    {"zipf", "Zipf, s = 1, over 10 times the capacity", make_zipf},
    {"scan", "8 times the capacity, in order, again and again", make_scan},
    {"loop", "1.25 times the capacity, in order, again and again", make_loop},
    {"zipf+scan", "Zipf, and now and then a scan of twice the capacity", make_zipf_scan},
    {"stack", "stack distances of half the capacity on average: what LRU is made for", make_stack},
    {"phases", "a working set of 0.8 of the capacity, then another", make_phases},
    {0},
};

int trace_make(struct trace *t, const struct trace_kind *kind, size_t n, uint32_t capacity,
               uint64_t seed)
{
    *t = (struct trace){.key = malloc(n * sizeof *t->key), .n = n};
    if (!t->key)
        return -ENOMEM;
    seed = seed ? seed : 1;

    int err = kind->make(t, capacity, &seed);

    if (err)
        trace_free(t);
    return err;
}

void trace_free(struct trace *t)
{
    free(t->key);
    t->key = NULL;
}
