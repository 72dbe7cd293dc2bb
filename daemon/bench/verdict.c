// SPDX-License-Identifier: Apache-2.0
/* The verdict on two samples; see compare.h, and compare.c for what it means. */
#include "daemon/bench/compare.h"

#include <math.h>

#include "daemon/bench/stats.h"

enum { BOOTSTRAP_ROUNDS = 2000 };

const char *verdict_text(enum verdict v)
{
    static const char *const names[] = {"no difference shown", "faster", "slower",
                                        "too few samples"};
    return names[v];
}

struct comparison compare_samples(const double *a, size_t na, const double *b, size_t nb,
                                  enum better better, double threshold, double alpha, uint64_t seed)
{
    struct summary sa = stats_summary(a, na), sb = stats_summary(b, nb);
    struct comparison c = {.a = sa.median, .b = sb.median, .p = 1, .verdict = VERDICT_SAME};

    c.noise = fmax(sa.noise, sb.noise);
    c.ratio = sa.median != 0 ? sb.median / sa.median : sb.median == 0 ? 1 : INFINITY;
    c.low = c.high = c.ratio;
    if (better == BETTER_ZERO) {
        double ta = 0, tb = 0;
        for (size_t i = 0; i < na; i++)
            ta += a[i];
        for (size_t i = 0; i < nb; i++)
            tb += b[i];
        c.a = ta;
        c.b = tb;
        c.ratio = ta != 0 ? tb / ta : tb == 0 ? 1 : INFINITY;
        c.verdict = tb > ta ? VERDICT_SLOWER : tb < ta ? VERDICT_FASTER : VERDICT_SAME;
        return c;
    }
    if (stats_least_p(na, nb) > alpha) {
        c.verdict = VERDICT_FEW;
        return c;
    }
    c.p = stats_mann_whitney(a, na, b, nb);
    stats_ratio_interval(a, na, b, nb, 1 - alpha, BOOTSTRAP_ROUNDS, seed, &c.low, &c.high);
    if (c.p > alpha || (c.low <= 1 && c.high >= 1) || fabs(c.ratio - 1) <= threshold)
        return c;
    c.verdict = (c.ratio > 1) == (better == BETTER_LESS) ? VERDICT_SLOWER : VERDICT_FASTER;
    return c;
}
