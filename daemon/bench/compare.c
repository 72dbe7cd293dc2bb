// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached bench compare A.json B.json`: for each metric that both have, whether B is faster or
 * slower than A, or no difference is shown.
 *
 * A difference is shown when the medians differ by more than the threshold, Mann and Whitney's test
 * finds it at the level asked for, and the bootstrap's confidence interval of the ratio does not
 * contain 1. Counts that must be 0 are judged without statistics: one more is slower. What is only
 * for information (maxima, sizes) is not judged.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bench/compare.h"
#include "daemon/bench/result.h"
#include "daemon/bench/stats.h"
#include "daemon/verbs.h"

struct tally {
    double threshold, alpha;
    uint64_t seed;
    int only;
    size_t lines, verdicts[4];
};

static enum better better_of(json_t *m)
{
    const char *b = text_at(m, "better");
    return strcmp(b, "less") == 0   ? BETTER_LESS
           : strcmp(b, "more") == 0 ? BETTER_MORE
           : strcmp(b, "zero") == 0 ? BETTER_ZERO
                                    : BETTER_NONE;
}

static void compare_metric(struct tally *t, const char *name, json_t *ma, json_t *mb)
{
    size_t na, nb;
    double *a = samples_of(ma, &na), *b = samples_of(mb, &nb);

    if (na && nb) {
        struct comparison c =
            compare_samples(a, na, b, nb, better_of(ma), t->threshold, t->alpha, t->seed);
        t->lines++;
        t->verdicts[c.verdict]++;
        if (!t->only || c.verdict == VERDICT_FASTER || c.verdict == VERDICT_SLOWER)
            printf(
                "%-19s %12.4g -> %-12.4g %-6s x%-6.3f [%.3f, %.3f] p=%-7.2g noise %3.0f%%  %s %s\n",
                verdict_text(c.verdict), c.a, c.b, text_at(ma, "unit"), c.ratio, c.low, c.high, c.p,
                100 * c.noise, name, text_at(ma, "name"));
    }
    free(a);
    free(b);
}

static json_t *cell_named(json_t *result, const char *name)
{
    char other[384];
    json_t *c;
    size_t i;

    json_array_foreach(json_object_get(result, "cells"), i, c)
    {
        cell_name(c, other, sizeof other);
        if (strcmp(name, other) == 0)
            return c;
    }
    return NULL;
}

static void compare_results(struct tally *t, json_t *ra, json_t *rb)
{
    json_t *ca, *cb, *ma, *mb;
    size_t i, j;
    char name[384];

    json_array_foreach(json_object_get(ra, "cells"), i, ca)
    {
        cell_name(ca, name, sizeof name);
        cb = cell_named(rb, name);
        if (!cb) {
            printf("%-19s %s\n", "only in the first", name);
            continue;
        }
        json_array_foreach(json_object_get(ca, "metrics"), j, ma)
        {
            mb = metric_at(cb, text_at(ma, "name"));
            if (mb && better_of(ma) != BETTER_NONE)
                compare_metric(t, name, ma, mb);
        }
    }
    json_array_foreach(json_object_get(rb, "cells"), i, cb)
    {
        cell_name(cb, name, sizeof name);
        if (!cell_named(ra, name))
            printf("%-19s %s\n", "only in the second", name);
    }
}

static void warn_if_other_machine(json_t *ra, json_t *rb)
{
    static const char *const keys[] = {"cpus", "cpu", "kernel", "memory_mib"};
    json_t *a = json_object_get(ra, "machine"), *b = json_object_get(rb, "machine");

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (!json_equal(json_object_get(a, keys[i]), json_object_get(b, keys[i])))
            bench_fail(0, "warning: the two were measured on different machines (%s)", keys[i]);
}

static int compare_files(struct tally *t, const char *pa, const char *pb)
{
    json_t *ra = result_load(pa), *rb = ra ? result_load(pb) : NULL;
    int status = BENCH_USAGE;

    if (ra && rb) {
        warn_if_other_machine(ra, rb);
        compare_results(t, ra, rb);
        printf(
            "%zu lines: %zu slower, %zu faster, %zu no difference shown, %zu with too few samples "
            "to show any; by chance alone at most %.1f would differ\n",
            t->lines, t->verdicts[VERDICT_SLOWER], t->verdicts[VERDICT_FASTER],
            t->verdicts[VERDICT_SAME], t->verdicts[VERDICT_FEW],
            t->alpha * (double)(t->lines - t->verdicts[VERDICT_FEW]));
        if (t->lines)
            status = t->verdicts[VERDICT_SLOWER] ? BENCH_FOUND : BENCH_OK;
        else
            bench_fail(0, "%s and %s have no metric in common", pa, pb);
    }
    json_decref(ra);
    json_decref(rb);
    return status;
}

int bench_compare(int argc, const char **argv)
{
    struct tally t = {.threshold = 5, .alpha = 0.05, .seed = 1};
    const struct poptOption table[] = {
        {"threshold", 't', POPT_ARG_DOUBLE, &t.threshold, 0,
         "a smaller difference of the medians counts as none (default 5)", "PERCENT"},
        {"alpha", 0, POPT_ARG_DOUBLE, &t.alpha, 0,
         "the level of the test: how often a difference is seen where none is (default 0.05)", "P"},
        {"changed", 'c', POPT_ARG_NONE, &t.only, 0, "show only what is faster or slower", NULL},
        POPT_AUTOHELP POPT_TABLEEND};
    int status = BENCH_USAGE;

    poptContext context = verb_options(argc, argv, table, "[OPTION]... A.json B.json");
    if (!context)
        return BENCH_USAGE;
    const char *a = poptGetArg(context), *b = poptGetArg(context);
    if (!a || !b)
        bench_fail(0, "compare: which two results? (files of --json)");
    else if (poptPeekArg(context))
        bench_fail(0, "compare: two results at a time: '%s' is one too many", poptPeekArg(context));
    else if (!(t.threshold >= 0))
        bench_fail(0, "--threshold=%g: expected a percentage, 0 or more", t.threshold);
    else if (!(t.alpha > 0 && t.alpha < 1))
        bench_fail(0, "--alpha=%g: expected a probability between 0 and 1", t.alpha);
    else {
        t.threshold /= 100;
        status = compare_files(&t, a, b);
    }
    poptFreeContext(context);
    return status;
}
