// SPDX-License-Identifier: Apache-2.0
/* Order statistics, Mann and Whitney's test, the bootstrap; see stats.h. */
#include "daemon/bench/stats.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { EXACT_MAX = 25 }; /* samples a side; beyond, the approximation is good to 3 digits */

uint64_t stats_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void stats_shuffle(uint32_t *order, size_t n, uint64_t *state)
{
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    for (size_t i = n; i > 1; i--) {
        size_t j = stats_random(state) % i;
        uint32_t t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double stats_quantile(const double *sorted, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

struct summary stats_summary(const double *samples, size_t n)
{
    struct summary s = {.n = n};
    double *sorted = n ? malloc(n * sizeof *sorted) : NULL;

    if (!sorted)
        return s;
    memcpy(sorted, samples, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    s.min = sorted[0];
    s.q1 = stats_quantile(sorted, n, 0.25);
    s.median = stats_quantile(sorted, n, 0.5);
    s.q3 = stats_quantile(sorted, n, 0.75);
    s.max = sorted[n - 1];
    s.noise = s.median != 0 ? (s.q3 - s.q1) / fabs(s.median) : 0;
    free(sorted);
    return s;
}

/* ---- Mann and Whitney ------------------------------------------------------------------------ */

/*
 * How many of the orders of na + nb different values have U = u, for all u: the number of
 * partitions of u into at most na parts of at most nb, by the recurrence of the 1947 paper,
 *     N(u; a, b) = N(u - b; a - 1, b) + N(u; a, b - 1),
 * for one a after the other, for each b in place.
 */
static double *counts(size_t na, size_t nb)
{
    size_t cells = na * nb + 1;
    double *table = calloc((nb + 1) * cells, sizeof *table);

    if (!table)
        return NULL;
    for (size_t b = 0; b <= nb; b++)
        table[b * cells] = 1; /* a = 0: only u = 0 */
    for (size_t a = 1; a <= na; a++) {
        /* Row b of the previous a is read before it is overwritten; row 0 stays {1, 0, ...}. */
        for (size_t b = 1; b <= nb; b++) {
            double *row = table + b * cells, *less = table + (b - 1) * cells;
            for (size_t u = cells; u-- > 0;)
                row[u] = less[u] + (u >= b ? row[u - b] : 0);
        }
    }
    memmove(table, table + nb * cells, cells * sizeof *table);
    return table;
}

static double exact_p(size_t na, size_t nb, double u_small)
{
    double *n = counts(na, nb), all = 0, tail = 0;

    if (!n)
        return 1;
    for (size_t u = 0; u <= na * nb; u++) {
        all += n[u];
        if ((double)u <= u_small)
            tail += n[u];
    }
    free(n);
    return fmin(1, 2 * tail / all);
}

double stats_least_p(size_t na, size_t nb)
{
    double orders = 1; /* (na + nb) over na */
    for (size_t i = 1; i <= na; i++)
        orders *= (double)(nb + i) / (double)i;
    return fmin(1, 2 / orders);
}

double stats_mann_whitney(const double *a, size_t na, const double *b, size_t nb)
{
    size_t n = na + nb;
    double *all = n ? malloc(n * sizeof *all) : NULL, u = 0, ties = 0;

    if (!na || !nb || !all) {
        free(all);
        return 1;
    }
    for (size_t i = 0; i < na; i++)
        for (size_t j = 0; j < nb; j++)
            u += a[i] < b[j] ? 1 : a[i] == b[j] ? 0.5 : 0;
    memcpy(all, a, na * sizeof *all);
    memcpy(all + na, b, nb * sizeof *all);
    qsort(all, n, sizeof *all, by_value);
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && all[j] == all[i];)
            j++;
        double t = (double)(j - i);
        ties += t * t * t - t;
    }
    free(all);

    double product = (double)na * (double)nb, small = fmin(u, product - u);
    if (ties == 0 && na <= EXACT_MAX && nb <= EXACT_MAX)
        return exact_p(na, nb, small);
    double total = (double)n;
    double variance = product / 12 * (total + 1 - ties / (total * (total - 1)));
    if (variance <= 0)
        return 1; /* all values are the same */
    double z = (product / 2 - small - 0.5) / sqrt(variance);
    return z <= 0 ? 1 : fmin(1, erfc(z / sqrt(2)));
}

/* ---- the bootstrap --------------------------------------------------------------------------- */

static double resampled_median(const double *v, size_t n, double *scratch, uint64_t *state)
{
    for (size_t i = 0; i < n; i++)
        scratch[i] = v[stats_random(state) % n];
    qsort(scratch, n, sizeof *scratch, by_value);
    return stats_quantile(scratch, n, 0.5);
}

void stats_ratio_interval(const double *a, size_t na, const double *b, size_t nb, double level,
                          unsigned rounds, uint64_t seed, double *low, double *high)
{
    double *scratch = malloc((na + nb + rounds) * sizeof *scratch);
    double *ratios = scratch ? scratch + na + nb : NULL;
    size_t n = 0;

    *low = 0;
    *high = INFINITY;
    if (!scratch)
        return;
    for (unsigned i = 0; i < rounds; i++) {
        double ma = resampled_median(a, na, scratch, &seed);
        double mb = resampled_median(b, nb, scratch, &seed);
        if (ma != 0)
            ratios[n++] = mb / ma;
    }
    if (n) {
        qsort(ratios, n, sizeof *ratios, by_value);
        *low = stats_quantile(ratios, n, (1 - level) / 2);
        *high = stats_quantile(ratios, n, 1 - (1 - level) / 2);
    }
    free(scratch);
}
