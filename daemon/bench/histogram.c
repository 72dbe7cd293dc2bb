// SPDX-License-Identifier: Apache-2.0
/* Latencies in log-linear buckets; see histogram.h. */
#include "daemon/bench/histogram.h"

/* Values below HISTOGRAM_SUB have a bucket each; above, the power of two and its next five bits. */
static unsigned bucket_of(uint64_t ns)
{
    if (ns < HISTOGRAM_SUB)
        return (unsigned)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - 5;
    unsigned b = (shift + 1) * HISTOGRAM_SUB + (unsigned)((ns >> shift) - HISTOGRAM_SUB);
    return b < HISTOGRAM_BUCKETS ? b : HISTOGRAM_BUCKETS - 1;
}

uint64_t histogram_value(unsigned bucket)
{
    if (bucket < HISTOGRAM_SUB)
        return bucket;
    unsigned shift = bucket / HISTOGRAM_SUB - 1;
    uint64_t low = (uint64_t)(bucket % HISTOGRAM_SUB + HISTOGRAM_SUB) << shift;
    return low + (((uint64_t)1 << shift) >> 1);
}

void histogram_add(struct histogram *h, uint64_t ns)
{
    h->bucket[bucket_of(ns)]++;
    h->count++;
    if (ns > h->max_ns)
        h->max_ns = ns;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->bucket[i] += from->bucket[i];
    into->count += from->count;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
    uint64_t seen = 0, want = (uint64_t)(q * (double)h->count);

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (seen + h->bucket[i] > want) {
            /* Inside of the bucket, as if its values were spread evenly. */
            double low = i ? ((double)histogram_value(i - 1) + (double)histogram_value(i)) / 2 : 0;
            double width = 2 * ((double)histogram_value(i) - low);
            double part = ((double)(want - seen) + 0.5) / (double)h->bucket[i];
            uint64_t v = (uint64_t)(low + width * part);
            return v < h->max_ns ? v : h->max_ns;
        }
        seen += h->bucket[i];
    }
    return h->max_ns;
}
