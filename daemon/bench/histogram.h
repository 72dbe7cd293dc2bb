// SPDX-License-Identifier: Apache-2.0
/*
 * A histogram of latencies: 32 buckets to each power of two, so that every value is kept to 3
 * per cent, from 1 ns to years, in 16 KiB. One thread writes; merging is the owner's business.
 */
#ifndef NFSCACHED_BENCH_HISTOGRAM_H
#define NFSCACHED_BENCH_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_SUB = 32, HISTOGRAM_BUCKETS = 60 * HISTOGRAM_SUB };

struct histogram {
    uint64_t count, max_ns;
    uint64_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);
void histogram_merge(struct histogram *into, const struct histogram *from);

/* The value below which the part `q` (0 to 1) of all values lies, in ns, to 3 per cent; never above
 * the maximum. 0 when empty. */
uint64_t histogram_quantile(const struct histogram *h, double q);

/* The middle of a bucket, ns. */
uint64_t histogram_value(unsigned bucket);

#endif
