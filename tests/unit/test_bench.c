// SPDX-License-Identifier: Apache-2.0
/*
 * The statistics of `nfscached bench`, on samples whose answers are known: from the definition,
 * from published tables, or because they were made to be so.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/bench/compare.h"
#include "daemon/bench/histogram.h"
#include "daemon/bench/stats.h"

#define N(array) (sizeof array / sizeof array[0])

static void near(double value, double expected, double tolerance)
{
    if (fabs(value - expected) > tolerance)
        fail_msg("%g, expected %g within %g", value, expected, tolerance);
}

static void quartiles_of_known_samples(void **state)
{
    const double v[] = {7, 1, 5, 3, 9};
    struct summary s = stats_summary(v, N(v));

    near(s.min, 1, 0);
    near(s.q1, 3, 0);
    near(s.median, 5, 0);
    near(s.q3, 7, 0);
    near(s.max, 9, 0);
    near(s.noise, 0.8, 1e-12);
    const double even[] = {4, 1, 3, 2};
    s = stats_summary(even, N(even));
    near(s.q1, 1.75, 1e-12);
    near(s.median, 2.5, 1e-12);
    assert_int_equal(stats_summary(NULL, 0).n, 0);
    const double one = 3;
    near(stats_summary(&one, 1).q3, 3, 0);
    near(stats_summary(&one, 1).noise, 0, 0);
}

/* Exact probabilities: 2 / C(10, 5) for samples that do not overlap, and values of the published
 * tables (n = 5, 5: P(U <= 2) = 4/252; n = 4, 6: P(U <= 2) = 4/210). */
static void mann_whitney_is_exact_for_few(void **state)
{
    const double a[] = {1, 2, 3, 4, 5}, b[] = {6, 7, 8, 9, 10};

    near(stats_mann_whitney(a, 5, b, 5), 2.0 / 252, 1e-9);
    near(stats_mann_whitney(b, 5, a, 5), 2.0 / 252, 1e-9);
    near(stats_least_p(5, 5), 2.0 / 252, 1e-12);
    near(stats_least_p(3, 3), 0.1, 1e-12);
    const double c[] = {1, 2, 3, 4, 7.5}; /* U = 2: two of the other sample are below 7.5 */
    near(stats_mann_whitney(c, 5, b, 5), 2 * 4.0 / 252, 1e-9);
    const double d[] = {1, 2, 3, 6}, e[] = {4, 5, 7, 8, 9, 10}; /* U = 2 */
    near(stats_mann_whitney(d, 4, e, 6), 2 * 4.0 / 210, 1e-9);
    near(stats_mann_whitney(a, 5, a, 5), 1, 1e-9);
    near(stats_mann_whitney(a, 0, b, 5), 1, 0);
}

/* By hand: U = 0.5 of 25, ties in two pairs; sigma^2 = 25/12 (11 - 12/90). */
static void mann_whitney_with_ties(void **state)
{
    const double a[] = {1, 1, 2, 3, 4}, b[] = {4, 5, 6, 7, 8};
    double sigma = sqrt(25.0 / 12 * (11 - 12.0 / 90));

    near(stats_mann_whitney(a, 5, b, 5), erfc((12.5 - 0.5 - 0.5) / sigma / sqrt(2)), 1e-9);
    const double same[] = {2, 2, 2, 2, 2};
    near(stats_mann_whitney(same, 5, same, 5), 1, 0);
}

/* Where the exact test ends (25), the approximation must go on smoothly. */
static void mann_whitney_approximates_for_many(void **state)
{
    double a[26], b[26], p25, p26;

    for (int i = 0; i < 26; i++) {
        a[i] = i;
        b[i] = i + 6.5;
    }
    p25 = stats_mann_whitney(a, 25, b, 25);
    p26 = stats_mann_whitney(a, 26, b, 26);
    assert_true(p25 > 0.001 && p25 < 0.05);
    near(p26, p25, p25 / 3);
}

/* Of samples from one distribution no more than alpha may be told apart, in 2,000 tries. */
static void false_alarms_stay_at_the_level(void **state)
{
    uint64_t seed = 42;
    unsigned alarms = 0;

    for (int i = 0; i < 2000; i++) {
        double a[7], b[7];
        for (int k = 0; k < 7; k++) {
            a[k] = (double)(stats_random(&seed) % 1000000);
            b[k] = (double)(stats_random(&seed) % 1000000);
        }
        alarms += stats_mann_whitney(a, 7, b, 7) <= 0.05;
    }
    assert_in_range(alarms, 40, 120);
}

static void bootstrap_finds_the_ratio(void **state)
{
    const double a[] = {98, 99, 100, 101, 102, 100, 99}, b[] = {196, 198, 200, 202, 204, 200, 199};
    double low, high;

    stats_ratio_interval(a, N(a), b, N(b), 0.95, 2000, 1, &low, &high);
    assert_true(low > 1.9 && low <= 2 && high >= 2 && high < 2.1);
}

static void shuffle_is_a_permutation(void **state)
{
    uint32_t order[100], again[100];
    unsigned seen[100] = {0}, moved = 0;
    uint64_t s = 7;

    stats_shuffle(order, 100, &s);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(order[i] < 100);
        seen[order[i]]++;
        moved += order[i] != i;
    }
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(seen[i], 1);
    assert_true(moved > 80);
    s = 7; /* the same seed, the same order */
    stats_shuffle(again, 100, &s);
    assert_memory_equal(order, again, sizeof order);
}

static void histogram_keeps_three_per_cent(void **state)
{
    struct histogram *h = calloc(1, sizeof *h), *sum = calloc(1, sizeof *sum);

    for (uint64_t v = 1; v <= 100000; v++)
        histogram_add(h, v * 100);
    near((double)histogram_quantile(h, 0.5), 5e6, 5e6 * 0.03);
    near((double)histogram_quantile(h, 0.99), 9.9e6, 9.9e6 * 0.03);
    assert_int_equal(histogram_quantile(h, 1), 10000000);
    histogram_merge(sum, h);
    histogram_merge(sum, h);
    assert_int_equal(sum->count, 200000);
    near((double)histogram_quantile(sum, 0.5), 5e6, 5e6 * 0.03);
    memset(h, 0, sizeof *h);
    assert_int_equal(histogram_quantile(h, 0.5), 0);
    for (uint64_t v = 1; v < (uint64_t)1 << 62; v = v * 3 + 1) {
        memset(h, 0, sizeof *h);
        histogram_add(h, v);
        near((double)histogram_quantile(h, 0.5), (double)v, (double)v * 0.04 + 1);
    }
    free(h);
    free(sum);
}

/* ---- verdicts ------------------------------------------------------------------------------ */

static enum verdict verdict_of(const double *a, size_t na, const double *b, size_t nb,
                               enum better better)
{
    return compare_samples(a, na, b, nb, better, 0.05, 0.05, 1).verdict;
}

static void verdicts(void **state)
{
    const double quick[] = {100, 101, 99, 102, 98, 100}, slow[] = {120, 121, 119, 122, 118, 120};
    const double noisy[] = {60, 180, 99, 140, 75, 130}, near_it[] = {102, 103, 101, 104, 102, 103};

    assert_int_equal(verdict_of(quick, 6, slow, 6, BETTER_LESS), VERDICT_SLOWER);
    assert_int_equal(verdict_of(slow, 6, quick, 6, BETTER_LESS), VERDICT_FASTER);
    assert_int_equal(verdict_of(quick, 6, slow, 6, BETTER_MORE), VERDICT_FASTER);
    assert_int_equal(verdict_of(slow, 6, quick, 6, BETTER_MORE), VERDICT_SLOWER);
    assert_int_equal(verdict_of(quick, 6, quick, 6, BETTER_LESS), VERDICT_SAME);
    /* Medians 15 per cent apart, but the spread is far more. */
    assert_int_equal(verdict_of(quick, 6, noisy, 6, BETTER_LESS), VERDICT_SAME);
    /* Surely different, but by less than the threshold. */
    assert_int_equal(verdict_of(quick, 6, near_it, 6, BETTER_LESS), VERDICT_SAME);
    assert_int_equal(compare_samples(quick, 6, near_it, 6, BETTER_LESS, 0.001, 0.05, 1).verdict,
                     VERDICT_SLOWER);
    /* Three against three cannot show anything at 5 per cent. */
    assert_int_equal(verdict_of(quick, 3, slow, 3, BETTER_LESS), VERDICT_FEW);
}

static void counts_that_must_be_zero(void **state)
{
    const double none[] = {0, 0, 0}, one[] = {0, 1, 0};

    assert_int_equal(verdict_of(none, 3, one, 3, BETTER_ZERO), VERDICT_SLOWER);
    assert_int_equal(verdict_of(one, 3, none, 3, BETTER_ZERO), VERDICT_FASTER);
    assert_int_equal(verdict_of(none, 3, none, 3, BETTER_ZERO), VERDICT_SAME);
    assert_int_equal(verdict_of(none, 1, one + 1, 1, BETTER_ZERO), VERDICT_SLOWER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quartiles_of_known_samples),
        cmocka_unit_test(mann_whitney_is_exact_for_few),
        cmocka_unit_test(mann_whitney_with_ties),
        cmocka_unit_test(mann_whitney_approximates_for_many),
        cmocka_unit_test(false_alarms_stay_at_the_level),
        cmocka_unit_test(bootstrap_finds_the_ratio),
        cmocka_unit_test(shuffle_is_a_permutation),
        cmocka_unit_test(histogram_keeps_three_per_cent),
        cmocka_unit_test(verdicts),
        cmocka_unit_test(counts_that_must_be_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
