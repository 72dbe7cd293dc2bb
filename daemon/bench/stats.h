// SPDX-License-Identifier: Apache-2.0
/*
 * The statistics of `nfscached bench`: small samples of timings, which are skewed, have outliers,
 * and are never normal. So: order statistics, and tests that assume no distribution.
 */
#ifndef NFSCACHED_BENCH_STATS_H
#define NFSCACHED_BENCH_STATS_H

#include <stddef.h>
#include <stdint.h>

struct summary {
    size_t n;
    double min, q1, median, q3, max;
    double noise; /* (q3 - q1) / |median|; 0 when there is no spread, or the median is 0 */
};

/* Order statistics of `n` samples, which may be in any order and are not changed. All 0 for n 0. */
struct summary stats_summary(const double *samples, size_t n);

/* The quantile `q` (0 to 1) of sorted samples, between neighbours by linear interpolation (type 7
 * of Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996). n > 0. */
double stats_quantile(const double *sorted, size_t n, double q);

/* Two-sided p of Mann and Whitney's U test ("On a test of whether one of two random variables is
 * stochastically larger than the other", 1947): exact by counting while the samples are few and
 * have no ties, else by the normal approximation with corrections for ties and continuity. 1 when
 * either is empty. */
double stats_mann_whitney(const double *a, size_t na, const double *b, size_t nb);

/* The least p that stats_mann_whitney() can give for samples of these sizes: when it is above
 * the level asked for, no difference can be shown, however large. */
double stats_least_p(size_t na, size_t nb);

/* The `level` confidence interval of median(b) / median(a), by the percentile bootstrap (Efron,
 * 1979) with `rounds` resamples drawn from `seed`. Both samples not empty. */
void stats_ratio_interval(const double *a, size_t na, const double *b, size_t nb, double level,
                          unsigned rounds, uint64_t seed, double *low, double *high);

/* splitmix64 (Steele, Lea and Flood, 2014): the next number of the stream that `state` holds. */
uint64_t stats_random(uint64_t *state);

/* A random order of 0 .. n-1 (Fisher and Yates). */
void stats_shuffle(uint32_t *order, size_t n, uint64_t *state);

#endif
