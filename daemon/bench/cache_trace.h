// SPDX-License-Identifier: Apache-2.0
/*
 * Sequences of page accesses of the kinds that the literature on eviction compares policies with,
 * drawn from a seeded generator: the same seed, kind and sizes give the same trace everywhere.
 *
 * A key is a dense number below trace.universe; it stands for one page.
 */
#ifndef NFSCACHED_DAEMON_BENCH_CACHE_TRACE_H
#define NFSCACHED_DAEMON_BENCH_CACHE_TRACE_H

#include <stddef.h>
#include <stdint.h>

struct trace {
    uint32_t *key;
    size_t n;
    uint32_t universe;
};

struct trace_kind {
    const char *name, *what;
    /* Fills t->key[0..t->n) and sets t->universe. `capacity`: pages that the cache holds. 0 or
     * -ENOMEM. */
    int (*make)(struct trace *t, uint32_t capacity, uint64_t *seed);
};

/* Ends with a NULL name. */
extern const struct trace_kind trace_kinds[];

/* 0, or -ENOMEM. Freed by trace_free(). */
int trace_make(struct trace *t, const struct trace_kind *kind, size_t n, uint32_t capacity,
               uint64_t seed);
void trace_free(struct trace *t);

/* xorshift64* (Vigna 2016): 64 bits, never with a seed of 0. */
uint64_t trace_random(uint64_t *state);

#endif
