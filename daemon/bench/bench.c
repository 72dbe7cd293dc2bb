// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached bench`: finds the benchmark by its name; the options that all have; what happens when
 * a matrix has been run.
 */
#include "daemon/bench/bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/bench/result.h"
#include "daemon/options.h"
#include "daemon/verbs.h"

static const struct benchmark {
    const char *name;
    int (*run)(int argc, const char **argv);
    bool measures;
    const char *help;
} benchmarks[] = {
    {"revalidate", bench_revalidate, true, "what it costs to notice a change made elsewhere"},
    {"io", bench_io, true, "reading and writing, from every cache"},
    {"meta", bench_meta, true, "names, attributes, directories; untar, git, a compiler"},
    {"limits", bench_limits, true, "what this machine and its server could do at best"},
    {"cache", bench_cache, true, "the cache by itself: costs, hit ratios, memory"},
    {"peers", bench_peers, true, "the same work on every client, in a guest and here"},
    {"scale", bench_scale, true, "how cost grows with caches, files, mounts, round trips"},
    {"compare", bench_compare, false, "two results: what became slower"},
    {"report", bench_report, false, "a page with plots from results"},
    {0},
};

int bench_fail(int status, const char *format, ...)
{
    va_list ap;

    fputs("nfscached bench: ", stderr);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    return status;
}

static void print_benchmarks(FILE *out)
{
    fputs("Usage: nfscached bench BENCHMARK [ARGUMENT]...\n\n", out);
    for (const struct benchmark *b = benchmarks; b->name; b++)
        fprintf(out, "  %-11s %s\n", b->name, b->help);
    fputs("\n`nfscached bench BENCHMARK --help` lists its options, `nfscached help bench` is the "
          "manual.\n",
          out);
}

int verb_bench(int argc, const char **argv)
{
    const char *names[sizeof benchmarks / sizeof benchmarks[0]];
    size_t n = 0;

    if (argc < 2) {
        print_benchmarks(stderr);
        return BENCH_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0) {
        print_benchmarks(stdout);
        return BENCH_OK;
    }
    for (const struct benchmark *b = benchmarks; b->name; b++) {
        names[n++] = b->name;
        if (strcmp(b->name, argv[1]) == 0) {
            static char name[32]; /* of argv: outlives this */
            snprintf(name, sizeof name, "bench %s", b->name);
            argv[1] = name;
            if (b->measures)
                bench_catch_signals();
            return b->run(argc - 1, argv + 1);
        }
    }
    names[n] = NULL;
    const char *near = options_nearest(argv[1], names);
    if (near)
        return bench_fail(BENCH_USAGE, "no benchmark '%s'; did you mean '%s'?", argv[1], near);
    return bench_fail(BENCH_USAGE, "no benchmark '%s'; `nfscached bench --help` lists them",
                      argv[1]);
}

/* ---- the options that all have ------------------------------------------------------------- */

struct poptOption *bench_options_table(struct bench_options *o)
{
    static struct poptOption table[8];
    const struct poptOption fill[] = {
        {"reps", 'n', POPT_ARG_INT, &o->reps, 0, "repetitions of the whole matrix", "N"},
        {"warm-up", 0, POPT_ARG_INT, &o->warm_up, 0,
         "repetitions before, whose results are dropped", "N"},
        {"seed", 0, POPT_ARG_LONGLONG, &o->seed, 0,
         "of the order of cells and all that is random (default: drawn, and printed)", "N"},
        {"quick", 0, POPT_ARG_NONE, &o->quick, 0, "a small matrix, once: to see that it works",
         NULL},
        {"json", 0, POPT_ARG_STRING, &o->json, 0, "write the results there (-: standard output)",
         "FILE"},
        {"report", 0, POPT_ARG_STRING, &o->report, 0, "write a page with plots", "FILE.html"},
        {"quiet", 'q', POPT_ARG_NONE, &o->quiet, 0, "neither progress nor the table", NULL},
        POPT_TABLEEND};

    memcpy(table, fill, sizeof fill);
    return table;
}

bool bench_options_check(const struct bench_options *o)
{
    if (o->reps != -1 && o->reps < 1)
        bench_fail(0, "--reps=%d: expected 1 or more", o->reps);
    else if (o->warm_up < -1)
        bench_fail(0, "--warm-up=%d: expected 0 or more", o->warm_up);
    else if (o->seed < -1)
        bench_fail(0, "--seed=%lld: expected 0 or more", o->seed);
    else
        return true;
    return false;
}

static uint64_t draw_seed(void)
{
    uint32_t seed = 0;
    return getrandom(&seed, sizeof seed, 0) == sizeof seed ? seed : (uint64_t)getpid();
}

int bench_finish(struct matrix *m, const struct bench_options *o, int argc, const char **argv,
                 void (*derive)(struct matrix *m))
{
    uint64_t seed = o->seed >= 0 ? (uint64_t)o->seed : draw_seed();
    unsigned reps = o->reps > 0 ? (unsigned)o->reps : o->quick ? 1 : 5;
    unsigned warm_up = o->warm_up >= 0 ? (unsigned)o->warm_up : o->quick ? 0 : 1;
    int status = BENCH_OK;

    if (!o->quiet)
        fprintf(stderr, "bench: %zu cells, %u + %u repetitions, seed %llu\n", matrix_size(m),
                warm_up, reps, (unsigned long long)seed);
    matrix_run(m, reps, warm_up, seed, o->quiet);
    if (derive)
        derive(m);
    json_t *result = result_make(m, argc, argv);
    bool interrupted = m->interrupted;
    matrix_free(m);

    if (!o->quiet && !(o->json && strcmp(o->json, "-") == 0))
        table_print(result);
    if (o->json && result_save(result, o->json) < 0)
        status = BENCH_FAILED;
    if (o->report) {
        json_t *results = json_pack("[O]", result);
        if (report_write(results, o->report) < 0)
            status = BENCH_FAILED;
        json_decref(results);
    }
    if (interrupted)
        status = BENCH_INTERRUPTED;
    else if (result_failed(result))
        status = BENCH_FAILED;
    else if (status == BENCH_OK && result_findings(result) > 0)
        status = BENCH_FOUND;
    json_decref(result);
    return status;
}
