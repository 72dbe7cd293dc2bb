// SPDX-License-Identifier: Apache-2.0
/*
 * Cells, and running them in turn. Each repetition runs every cell once, in an order drawn from
 * the seed; so two cells that are compared were measured close in time, and in no fixed
 * order. Progress goes to standard error: one line that is overwritten on a terminal, else a line
 * every few seconds.
 */
#include "daemon/bench/matrix.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/bench/stats.h"

static volatile sig_atomic_t stopped;

bool bench_stopped(void)
{
    return stopped;
}

uint64_t bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *must(void *p)
{
    if (!p) {
        bench_fail(0, "out of memory");
        exit(BENCH_FAILED);
    }
    return p;
}

/* Room for one more at the end of an array whose size doubles. */
static void *grow(void *array, size_t n, size_t *room, size_t size)
{
    if (n < *room)
        return array;
    *room = *room ? *room * 2 : 8;
    return must(realloc(array, *room * size));
}

static char *format_text(const char *format, va_list ap)
{
    char *text = NULL;
    return vasprintf(&text, format, ap) < 0 ? must(NULL) : text;
}

/* ---- building ------------------------------------------------------------------------------ */

struct matrix *matrix_new(void)
{
    return must(calloc(1, sizeof(struct matrix)));
}

static void cell_free(struct cell *c)
{
    if (c->end)
        c->end(c->arg);
    for (unsigned i = 0; i < c->nparams; i++)
        free(c->params[i].value);
    for (size_t i = 0; i < c->nmetrics; i++) {
        free(c->metrics[i].name);
        free(c->metrics[i].samples);
    }
    for (size_t i = 0; i < c->ndistributions; i++) {
        free(c->distributions[i]->name);
        free(c->distributions[i]);
    }
    for (size_t i = 0; i < c->ncurves; i++)
        free(c->curves[i].points);
    free(c->metrics);
    free(c->distributions);
    free(c->curves);
    free(c->target);
    free(c->skipped);
    free(c->failed);
    free(c);
}

void matrix_free(struct matrix *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->ncells; i++)
        cell_free(m->cells[i]);
    for (size_t i = 0; i < m->ntargets; i++) {
        free(m->targets[i].name);
        free(m->targets[i].what);
    }
    free(m->cells);
    free(m->targets);
    free(m);
}

void matrix_target(struct matrix *m, const char *name, const char *what)
{
    for (size_t i = 0; i < m->ntargets; i++)
        if (strcmp(m->targets[i].name, name) == 0)
            return;
    m->targets = must(realloc(m->targets, (m->ntargets + 1) * sizeof *m->targets));
    m->targets[m->ntargets].name = must(strdup(name));
    m->targets[m->ntargets++].what = must(strdup(what));
}

struct cell *matrix_add(struct matrix *m, const char *benchmark, const char *target, cell_fn run,
                        void *arg)
{
    struct cell *c = must(calloc(1, sizeof *c));

    m->cells = must(realloc(m->cells, (m->ncells + 1) * sizeof(struct cell *)));
    m->cells[m->ncells++] = c;
    c->benchmark = benchmark;
    c->target = must(strdup(target));
    c->run = run;
    c->arg = arg;
    return c;
}

void cell_param(struct cell *c, const char *key, const char *format, ...)
{
    va_list ap;

    if (c->nparams == CELL_PARAMS_MAX)
        abort();
    va_start(ap, format);
    c->params[c->nparams].key = key;
    c->params[c->nparams++].value = format_text(format, ap);
    va_end(ap);
}

void cell_limit(struct cell *c, const char *target, const char *work, const char *metric)
{
    cell_limit_of(c, metric, target, work, metric);
}

void cell_limit_of(struct cell *c, const char *own, const char *target, const char *work,
                   const char *metric)
{
    c->limit.own = own;
    c->limit.target = target;
    c->limit.work = work;
    c->limit.metric = metric;
}

void cell_at_end(struct cell *c, void (*end)(void *arg))
{
    c->end = end;
}

size_t matrix_size(const struct matrix *m)
{
    return m->ncells;
}

struct cell *matrix_cell(const struct matrix *m, size_t i)
{
    return m->cells[i];
}

void *cell_arg(const struct cell *c)
{
    return c->arg;
}

const char *cell_target(const struct cell *c)
{
    return c->target;
}

const char *cell_benchmark(const struct cell *c)
{
    return c->benchmark;
}

bool cell_recording(const struct cell *c)
{
    return c->recording;
}

const char *cell_param_value(const struct cell *c, const char *key)
{
    for (unsigned i = 0; i < c->nparams; i++)
        if (strcmp(c->params[i].key, key) == 0)
            return c->params[i].value;
    return "";
}

void cell_describe(const struct cell *c, char *text, size_t size)
{
    size_t n = (size_t)snprintf(text, size, "%s %s", c->benchmark, c->target);

    for (unsigned i = 0; i < c->nparams && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, " %s=%s", c->params[i].key, c->params[i].value);
}

/* ---- what run() hands over ------------------------------------------------------------------- */

static struct metric *metric_of(struct cell *c, const char *name)
{
    for (size_t i = 0; i < c->nmetrics; i++)
        if (strcmp(c->metrics[i].name, name) == 0)
            return &c->metrics[i];
    return NULL;
}

void cell_derived(struct cell *c, const char *name, const char *unit, enum better better,
                  double value)
{
    struct metric *m = metric_of(c, name);

    if (!m) {
        c->metrics = must(realloc(c->metrics, (c->nmetrics + 1) * sizeof *c->metrics));
        m = &c->metrics[c->nmetrics++];
        *m = (struct metric){.name = must(strdup(name)), .unit = unit, .better = better};
    }
    m->samples = grow(m->samples, m->n, &m->room, sizeof *m->samples);
    m->samples[m->n++] = value;
}

void cell_sample(struct cell *c, const char *name, const char *unit, enum better better,
                 double value)
{
    if (c->recording)
        cell_derived(c, name, unit, better, value);
}

const double *cell_samples(const struct cell *c, const char *name, size_t *n)
{
    struct metric *m = metric_of((struct cell *)c, name);

    *n = m ? m->n : 0;
    return m ? m->samples : NULL;
}

static struct histogram *distribution_of(struct cell *c, const char *name)
{
    for (size_t i = 0; i < c->ndistributions; i++)
        if (strcmp(c->distributions[i]->name, name) == 0)
            return &c->distributions[i]->h;
    c->distributions =
        must(realloc(c->distributions, (c->ndistributions + 1) * sizeof(struct distribution *)));
    struct distribution *d = must(calloc(1, sizeof *d));
    d->name = must(strdup(name));
    c->distributions[c->ndistributions++] = d;
    return &d->h;
}

static void three_samples(struct cell *c, const char *name, double p50, double p99, double max)
{
    char metric[64];

    snprintf(metric, sizeof metric, "%s_p50_us", name);
    cell_sample(c, metric, "us", BETTER_LESS, p50);
    snprintf(metric, sizeof metric, "%s_p99_us", name);
    cell_sample(c, metric, "us", BETTER_LESS, p99);
    snprintf(metric, sizeof metric, "%s_max_us", name);
    cell_sample(c, metric, "us", BETTER_NONE, max);
}

void cell_histogram(struct cell *c, const char *name, const struct histogram *h)
{
    if (!c->recording || !h->count)
        return;
    histogram_merge(distribution_of(c, name), h);
    three_samples(c, name, (double)histogram_quantile(h, 0.5) / 1e3,
                  (double)histogram_quantile(h, 0.99) / 1e3, (double)h->max_ns / 1e3);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

void cell_times(struct cell *c, const char *name, const double *us, size_t n)
{
    if (!c->recording || !n)
        return;
    struct histogram *h = distribution_of(c, name);
    double *sorted = must(malloc(n * sizeof *sorted));

    memcpy(sorted, us, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    for (size_t i = 0; i < n; i++)
        histogram_add(h, (uint64_t)(sorted[i] * 1e3));
    three_samples(c, name, stats_quantile(sorted, n, 0.5), stats_quantile(sorted, n, 0.99),
                  sorted[n - 1]);
    free(sorted);
}

void cell_point(struct cell *c, const char *series, double x, double y)
{
    size_t i = 0;

    if (!c->recording)
        return;
    while (i < c->ncurves && strcmp(c->curves[i].name, series) != 0)
        i++;
    if (i == c->ncurves) {
        c->curves = must(realloc(c->curves, (c->ncurves + 1) * sizeof *c->curves));
        c->curves[c->ncurves++] = (struct curve){.name = series};
    }
    struct curve *s = &c->curves[i];
    s->points = grow(s->points, s->n, &s->room, sizeof *s->points);
    s->points[s->n][0] = x;
    s->points[s->n++][1] = y;
}

int cell_skip(struct cell *c, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    if (!c->skipped)
        c->skipped = format_text(format, ap);
    va_end(ap);
    return 0;
}

int cell_fail(struct cell *c, const char *format, ...)
{
    va_list ap;

    if (bench_stopped())
        return -EINTR; /* whatever went wrong, went wrong because of that */
    va_start(ap, format);
    if (!c->failed)
        c->failed = format_text(format, ap);
    va_end(ap);
    return -EIO;
}

/* ---- the run --------------------------------------------------------------------------------- */

struct progress {
    bool quiet, terminal;
    uint64_t start_ns, printed_ns;
    size_t steps, done;
};

static void progress_show(struct progress *p, const struct cell *c)
{
    char what[160];
    uint64_t now = bench_now();
    double used = (double)(now - p->start_ns) / 1e9;

    if (p->quiet || now - p->printed_ns < (p->terminal ? 100000000u : 5000000000u))
        return;
    p->printed_ns = now;
    cell_describe(c, what, sizeof what);
    /* Cells differ widely: no forecast from the first few. */
    double left =
        p->done * 20 > p->steps ? used / (double)p->done * (double)(p->steps - p->done) : 0;
    char forecast[32] = "";
    if (left > 0)
        snprintf(forecast, sizeof forecast, ", %d:%02d left", (int)left / 60, (int)left % 60);
    fprintf(stderr, "%sbench: %zu of %zu%s  %.100s%s", p->terminal ? "\r\033[K" : "", p->done,
            p->steps, forecast, what, p->terminal ? "" : "\n");
    fflush(stderr);
}

static void progress_end(const struct progress *p)
{
    if (!p->quiet && p->terminal)
        fputs("\r\033[K", stderr);
}

static void on_signal(int signal)
{
    stopped = 1;
}

/* The second one kills: a mount that hangs would never let us look at the first. No SA_RESTART, so
 * that a wait ends. */
void bench_catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
}

void matrix_run(struct matrix *m, unsigned reps, unsigned warm_up, uint64_t seed, bool quiet)
{
    struct progress p = {.quiet = quiet, .terminal = isatty(2), .start_ns = bench_now()};
    uint32_t *order = must(calloc(m->ncells + 1, sizeof *order));
    uint64_t state = seed;

    m->seed = seed;
    m->reps = reps;
    m->warm_up = warm_up;
    p.steps = (size_t)(warm_up + reps) * m->ncells;
    for (unsigned r = 0; r < warm_up + reps && !stopped; r++) {
        stats_shuffle(order, m->ncells, &state);
        for (size_t i = 0; i < m->ncells && !stopped; i++) {
            struct cell *c = m->cells[order[i]];
            progress_show(&p, c);
            p.done++;
            if (c->skipped || c->failed)
                continue;
            c->recording = r >= warm_up;
            int rc = c->run(c);
            if (rc < 0 && rc != -EINTR)
                cell_fail(c, "%s", strerror(-rc));
            c->recording = false;
        }
        if (r >= warm_up && !stopped)
            m->done++;
    }
    m->interrupted = stopped;
    m->seconds = (double)(bench_now() - p.start_ns) / 1e9;
    progress_end(&p);
    free(order);
}
