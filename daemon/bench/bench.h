// SPDX-License-Identifier: Apache-2.0
/*
 * The frame of `nfscached bench`: what every benchmark is made of.
 *
 *     verb (reval.c, io.c, ...)   reads its options, adds cells to a matrix, calls bench_finish()
 *     matrix.c                    runs the cells in turn: A B C, B A C, ... , so that what disturbs
 * one disturbs the others; the order of each round is drawn from a seed cell's run() does the work
 * once and hands over what it measured result.c                    the results as JSON, and back;
 * everything after reads only that table.c compare.c report.c  text, verdicts, the page
 *
 * A *cell* is one point of the matrix: a benchmark, a target (a mounted directory, or what is
 * measured in its place) and parameters. A *repetition* runs each cell once. A *sample* is what one
 * repetition says about one metric; where the work is done many times in a repetition, the sample
 * is the median (or the 99th percentile, or the maximum) of those, and all of them together are the
 * cell's *distribution*.
 *
 * One thread runs all cells; a cell may use threads of its own, but only the first may call what is
 * declared here.
 */
#ifndef NFSCACHED_BENCH_BENCH_H
#define NFSCACHED_BENCH_BENCH_H

#include <jansson.h>
#include <popt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/bench/histogram.h"

/* Exit statuses; not those of the other verbs, because a finding is neither wrong usage nor
 * failure. */
enum bench_exit {
    BENCH_OK = 0,
    BENCH_FOUND = 1, /* compare: something is slower; else: a count that must be 0 is not */
    BENCH_USAGE = 2,
    BENCH_FAILED = 32,      /* something could not be measured */
    BENCH_INTERRUPTED = 130 /* SIGINT, SIGTERM; what was measured until then was written */
};

enum better {
    BETTER_LESS, /* times */
    BETTER_MORE, /* rates */
    BETTER_ZERO, /* must be 0: lost writes */
    BETTER_NONE  /* for information; never judged */
};

struct matrix;
struct cell;
typedef int (*cell_fn)(struct cell *cell); /* 0, or negative errno after cell_fail() */

/* ---- building ------------------------------------------------------------------------------ */

struct matrix *matrix_new(void);
void matrix_free(struct matrix *m);

/* A target's description in the results, for people: what it is, from where, which options. */
void matrix_target(struct matrix *m, const char *name, const char *what);

/* Adds a cell. `benchmark` must outlive the matrix; `arg` is for run(). Never NULL: exits when
 * there is no memory. */
struct cell *matrix_add(struct matrix *m, const char *benchmark, const char *target, cell_fn run,
                        void *arg);
void cell_param(struct cell *c, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What this cell cannot do better than: the metric `metric` of the cell of benchmark "limits",
 * target `target`, parameter work=`work`, if it is in the results too. Literals. */
void cell_limit(struct cell *c, const char *target, const char *work, const char *metric);
/* The same for the cell's metric `own`, where the two have different names. */
void cell_limit_of(struct cell *c, const char *own, const char *target, const char *work,
                   const char *metric);

/* Called once when all is over, whatever happened: to release what `arg` holds. */
void cell_at_end(struct cell *c, void (*end)(void *arg));

/* ---- in run() ------------------------------------------------------------------------------ */

void *cell_arg(const struct cell *c);
const char *cell_target(const struct cell *c);
/* False in the repetitions that only warm up: then nothing of the following is kept. */
bool cell_recording(const struct cell *c);

/* One sample. `metric` and `unit` are literals ("us", "MB/s", "count", "bytes", "ns", "1/s"). */
void cell_sample(struct cell *c, const char *metric, const char *unit, enum better better,
                 double value);
/* Latencies of one repetition: three samples (NAME_p50_us, NAME_p99_us, NAME_max_us), and all of
 * them into the distribution NAME. From single values in us, exact, or from a histogram. */
void cell_times(struct cell *c, const char *name, const double *us, size_t n);
void cell_histogram(struct cell *c, const char *name, const struct histogram *h);
/* A point of a curve over time, for a plot. */
void cell_point(struct cell *c, const char *series, double x, double y);

/* This cell cannot be measured here, for a reason to be told; it is left out from now on. */
int cell_skip(struct cell *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Failed; likewise. Returns -EIO, or -EINTR if bench_stopped(). */
int cell_fail(struct cell *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* After the run, for metrics derived from other cells (see reval.c). The samples recorded so far.
 */
const double *cell_samples(const struct cell *c, const char *metric, size_t *n);
/* As cell_sample(), after the run. */
void cell_derived(struct cell *c, const char *metric, const char *unit, enum better better,
                  double value);

/* ---- a verb -------------------------------------------------------------------------------- */

/* The options that all have: --reps --warm-up --seed --quick --json --report --quiet. */
struct bench_options {
    int reps, warm_up, quick, quiet; /* reps, warm_up: -1 where the verb shall choose */
    long long seed;                  /* -1: draw one */
    char *json, *report;
};
#define BENCH_OPTIONS_INIT                                                                         \
    {                                                                                              \
        .reps = -1, .warm_up = -1, .seed = -1                                                      \
    }
/* The table for POPT_ARG_INCLUDE_TABLE; it fills *o. The table is static: one at a time. */
struct poptOption *bench_options_table(struct bench_options *o);
/* Checks them; false after a message. */
bool bench_options_check(const struct bench_options *o);

/* Runs the matrix (which it frees), then `derive` if not NULL, prints the table, writes --json and
 * --report. argv: the command line, for the results. An enum bench_exit. */
int bench_finish(struct matrix *m, const struct bench_options *o, int argc, const char **argv,
                 void (*derive)(struct matrix *m));

/* True after SIGINT or SIGTERM: whatever runs longer than a second looks here. */
bool bench_stopped(void);

/* For derive(): the cells in the order they were added. */
size_t matrix_size(const struct matrix *m);
struct cell *matrix_cell(const struct matrix *m, size_t i);
const char *cell_param_value(const struct cell *c, const char *key); /* "" if it has none */
const char *cell_benchmark(const struct cell *c);

/* "nfscached bench: ..." on stderr; returns `status`. */
int bench_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* CLOCK_MONOTONIC, ns. */
uint64_t bench_now(void);
static inline double bench_us_since(uint64_t start_ns)
{
    return (double)(bench_now() - start_ns) / 1e3;
}

/* ---- the verbs: the first word after `nfscached bench` -------------------------------------- */

int bench_revalidate(int argc, const char **argv);
int bench_io(int argc, const char **argv);
int bench_meta(int argc, const char **argv);
int bench_limits(int argc, const char **argv);
int bench_cache(int argc, const char **argv);
int bench_peers(int argc, const char **argv);
int bench_scale(int argc, const char **argv);
int bench_compare(int argc, const char **argv);
int bench_report(int argc, const char **argv);

#endif
