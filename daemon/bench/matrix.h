// SPDX-License-Identifier: Apache-2.0
/* Inside of the frame: what matrix.c fills, and result.c turns into JSON. */
#ifndef NFSCACHED_BENCH_MATRIX_H
#define NFSCACHED_BENCH_MATRIX_H

#include "daemon/bench/bench.h"

enum { CELL_PARAMS_MAX = 8 };

struct metric {
    char *name;
    const char *unit;
    enum better better;
    double *samples;
    size_t n, room;
};

struct distribution {
    char *name;
    struct histogram h;
};

struct curve {
    const char *name;
    double (*points)[2];
    size_t n, room;
};

struct cell {
    const char *benchmark;
    char *target;
    struct {
        const char *key;
        char *value;
    } params[CELL_PARAMS_MAX];
    unsigned nparams;
    struct {
        const char *own, *target, *work, *metric;
    } limit;
    cell_fn run;
    void (*end)(void *arg);
    void *arg;
    bool recording;
    char *skipped, *failed;
    struct metric *metrics;
    size_t nmetrics;
    struct distribution **distributions;
    size_t ndistributions;
    struct curve *curves;
    size_t ncurves;
};

struct matrix {
    struct cell **cells;
    size_t ncells;
    struct {
        char *name, *what;
    } * targets;
    size_t ntargets;
    /* Of the run. */
    uint64_t seed;
    unsigned reps, warm_up, done; /* done: repetitions recorded in full */
    bool interrupted;
    double seconds;
};

/* Runs all cells `warm_up` + `reps` times. `quiet`: no progress. Failed and skipped cells are left
 * out; SIGINT and SIGTERM end it early. */
void matrix_run(struct matrix *m, unsigned reps, unsigned warm_up, uint64_t seed, bool quiet);

/* From here on SIGINT and SIGTERM only set what bench_stopped() says; a second one kills. */
void bench_catch_signals(void);

/* "io ours op=read block=4096" */
void cell_describe(const struct cell *c, char *text, size_t size);

#endif
