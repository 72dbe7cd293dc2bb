// SPDX-License-Identifier: Apache-2.0
/* The verdict on two samples of one metric. */
#ifndef NFSCACHED_BENCH_COMPARE_H
#define NFSCACHED_BENCH_COMPARE_H

#include "daemon/bench/bench.h"

enum verdict {
    VERDICT_SAME, /* no difference shown: which is not "shown to be the same" */
    VERDICT_FASTER,
    VERDICT_SLOWER,
    VERDICT_FEW /* no result of the test could be below alpha */
};

struct comparison {
    enum verdict verdict;
    double a, b;      /* medians; of counts that must be 0: the sums */
    double ratio;     /* b / a */
    double low, high; /* its confidence interval at 1 - alpha */
    double p;         /* of Mann and Whitney's test */
    double noise;     /* the greater of both */
};

/* `threshold` as a fraction. `seed` of the bootstrap. */
struct comparison compare_samples(const double *a, size_t na, const double *b, size_t nb,
                                  enum better better, double threshold, double alpha,
                                  uint64_t seed);
const char *verdict_text(enum verdict v);

#endif
