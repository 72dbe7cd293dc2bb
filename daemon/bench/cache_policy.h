// SPDX-License-Identifier: Apache-2.0
/*
 * Eviction policies to compare ours with, each in its textbook form, simulated on a trace.
 */
#ifndef NFSCACHED_DAEMON_BENCH_CACHE_POLICY_H
#define NFSCACHED_DAEMON_BENCH_CACHE_POLICY_H

#include "daemon/bench/cache_trace.h"

struct policy {
    const char *name, *source;
    /* Number of hits, of t->n accesses, of a cache of `capacity` pages that begins empty; negative
     * errno. */
    int64_t (*hits)(const struct trace *t, uint32_t capacity);
};

/* Ends with a NULL name; the last before it is the optimum. */
extern const struct policy policies[];

#endif
