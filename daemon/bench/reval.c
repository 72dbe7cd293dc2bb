// SPDX-License-Identifier: Apache-2.0
/* `nfscached bench revalidate`: options, and which cells there are; see reval.h. */
#include "daemon/bench/reval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bench/limit_cells.h"
#include "daemon/bench/lists.h"
#include "daemon/bench/matrix.h"
#include "daemon/verbs.h"

const char *const rv_state_names[] = {"clean",       "mapped", "dirty-write", "dirty-mapped",
                                      "dirty-pages", "writer", NULL};
const char *const rv_change_names[] = {"none",   "byte",     "whole", "grown",
                                       "shrunk", "replaced", NULL};
static const char *const part_names[] = {"matrix", "writer", "staleness", "opens", NULL};
enum { PART_MATRIX, PART_WRITER, PART_STALENESS, PART_OPENS };

/* What the command line gave. */
struct asked {
    char **dirs, **foreign_dirs;
    char *states, *changes, *parts, *pages;
    int max_pages, limits;
    unsigned state_set, change_set, part_set;
    struct number_list list; /* of pages */
};

static struct cell *add(struct matrix *m, cell_fn run, const struct rv_cell *rv, const char *part)
{
    struct rv_cell *copy = malloc(sizeof *copy);

    if (!copy) {
        bench_fail(0, "out of memory");
        exit(BENCH_FAILED);
    }
    *copy = *rv;
    struct cell *c = matrix_add(m, "revalidate", rv->target->name, run, copy);
    cell_at_end(c, free);
    cell_param(c, "part", "%s", part);
    return c;
}

/* The kernel's notification alone, on as many pages as are worth it. */
static void set_limit(struct cell *c, const struct rv_cell *rv)
{
    static const char *const work[] = {"drop",       "drop-mapped", NULL,
                                       "drop-dirty", "drop-dirty",  NULL};

    if (rv->target->kind == TARGET_OURS && rv->pages >= 1024 && rv->change != CHANGE_NONE &&
        work[rv->state])
        cell_limit_of(c, "per_page_ns", "fuse", work[rv->state], "page_ns");
}

static void add_matrix(struct matrix *m, const struct asked *a, struct rv_cell rv)
{
    for (unsigned i = 0; i < a->list.n; i++)
        for (unsigned s = 0; rv_state_names[s]; s++)
            for (unsigned k = 0; rv_change_names[k]; k++) {
                /* With nothing cached there is only one state. */
                if (!(a->state_set & 1u << s) || !(a->change_set & 1u << k) ||
                    (a->list.v[i] == 0 && s != STATE_CLEAN))
                    continue;
                /* Others would change the very bytes that are stored here. */
                if (s == STATE_DIRTY_PAGES && k > CHANGE_BYTE)
                    continue;
                rv.pages = a->list.v[i];
                rv.state = s;
                rv.change = k;
                struct cell *c = add(m, rv_matrix_run, &rv, "matrix");
                cell_param(c, "pages", "%u", rv.pages);
                cell_param(c, "state", "%s", rv_state_names[s]);
                cell_param(c, "change", "%s", rv_change_names[k]);
                set_limit(c, &rv);
            }
}

static void add_writer(struct matrix *m, const struct asked *a, struct rv_cell rv)
{
    int can_slow = rv.o->delay_command || rv.o->fault_control ? 1 : 0;

    rv.pages = 256;
    for (int slow = 0; slow <= can_slow; slow++)
        for (int revalidate = 0; revalidate <= 1; revalidate++) {
            rv.slow = slow;
            rv.revalidate = revalidate;
            struct cell *c = add(m, rv_writer_run, &rv, "writer");
            if (slow)
                cell_param(c, "server", "slow-%u-ms", rv.o->delay_ms);
            else
                cell_param(c, "server", "as-it-is");
            cell_param(c, "revalidation", revalidate ? "on" : "off");
        }
}

static void add_opens(struct matrix *m, const struct asked *a, struct rv_cell rv)
{
    for (rv.files = 1; rv.files <= rv.o->opens_max; rv.files *= 100)
        cell_param(add(m, rv_opens_run, &rv, "opens"), "files", "%u", rv.files);
}

static struct matrix *build(const struct asked *a, const struct rv_options *o,
                            struct limits_options *l)
{
    struct matrix *m = matrix_new();

    targets_describe(&o->targets, m);
    for (size_t i = 0; i < o->targets.n; i++) {
        struct rv_cell rv = {.o = o, .target = &o->targets.list[i], .pages = 16};
        if (a->part_set & 1u << PART_MATRIX)
            add_matrix(m, a, rv);
        if (a->part_set & 1u << PART_WRITER)
            add_writer(m, a, rv);
        if (a->part_set & 1u << PART_STALENESS)
            add(m, rv_staleness_run, &rv, "staleness");
        if (a->part_set & 1u << PART_OPENS)
            add_opens(m, a, rv);
    }
    if (a->limits)
        limits_add(m, l);
    return m;
}

/* ---- derived: what a page costs ---------------------------------------------------------------
 */

static struct cell *same_without_change(struct matrix *m, const struct cell *c)
{
    static const char *const keys[] = {"part", "pages", "state"};

    for (size_t i = 0; i < matrix_size(m); i++) {
        struct cell *other = matrix_cell(m, i);
        bool same = strcmp(cell_target(c), cell_target(other)) == 0 &&
                    strcmp(cell_param_value(other, "change"), "none") == 0;
        for (size_t k = 0; same && k < 3; k++)
            same = strcmp(cell_param_value(c, keys[k]), cell_param_value(other, keys[k])) == 0;
        if (same)
            return other;
    }
    return NULL;
}

/* What the change made dearer, by the page: the open and the first fresh byte, less the same of an
 * unchanged file in the same state and repetition. Where the difference drowns in the noise it may
 * be below 0: that, too, is what was measured. */
static void derive(struct matrix *m)
{
    for (size_t i = 0; i < matrix_size(m); i++) {
        struct cell *c = matrix_cell(m, i);
        unsigned pages = (unsigned)strtoul(cell_param_value(c, "pages"), NULL, 10);
        const char *change = cell_param_value(c, "change");
        size_t n, nbase;
        if (pages == 0 || !*change || strcmp(change, "none") == 0)
            continue;
        struct cell *base = same_without_change(m, c);
        const double *fresh = cell_samples(c, "fresh_p50_us", &n);
        const double *none = base ? cell_samples(base, "fresh_p50_us", &nbase) : NULL;
        for (size_t k = 0; none && k < n && k < nbase; k++)
            cell_derived(c, "per_page_ns", "ns", BETTER_NONE, (fresh[k] - none[k]) * 1e3 / pages);
    }
}

/* ---- options --------------------------------------------------------------------------------- */

static bool parse_pages(struct asked *a)
{
    if (a->pages)
        return list_numbers("pages", a->pages, 0, 1u << 24, &a->list);
    a->list.v[a->list.n++] = 0;
    for (unsigned p = 1; p <= (unsigned)a->max_pages; p *= 4)
        a->list.v[a->list.n++] = p;
    return true;
}

static bool check(struct asked *a, struct rv_options *o, const struct bench_options *b)
{
    static char quick_pages[] = "0,16,256";

    if (b->quick) {
        /* What the command line says goes before. */
        o->rounds = o->rounds ? o->rounds : 1;
        o->writer_s = o->writer_s > 0 ? o->writer_s : 0.3;
        o->changes = o->changes ? o->changes : 2;
        o->opens_max = o->opens_max ? o->opens_max : 100;
        o->patience_s = o->patience_s > 0 ? o->patience_s : 3;
        if (!a->pages && a->max_pages < 0) {
            a->pages = quick_pages;
        }
    }
    if (o->settle_ms < 0)
        o->settle_ms = b->quick ? 15 : 300;
    o->rounds = o->rounds ? o->rounds : 5;
    o->writer_s = o->writer_s > 0 ? o->writer_s : 2;
    o->changes = o->changes ? o->changes : 5;
    o->opens_max = o->opens_max ? o->opens_max : 10000;
    o->patience_s = o->patience_s > 0 ? o->patience_s : 10;
    if (a->max_pages < 0)
        a->max_pages = 16384;
    if (o->rounds > 64)
        bench_fail(0, "--rounds=%d: expected 1 to 64", (int)o->rounds);
    else if (o->delay_ms < 1 || o->delay_ms > 60000)
        bench_fail(0, "--delay=%d: expected 1 to 60000 (milliseconds)", (int)o->delay_ms);
    else if (o->changes > 100000)
        bench_fail(0, "--changes=%d: expected 1 to 100000", (int)o->changes);
    else if (o->opens_max > 10000000)
        bench_fail(0, "--max-files=%d: expected 1 to 10000000", (int)o->opens_max);
    else if (a->max_pages > 1 << 24)
        bench_fail(0, "--max-pages=%d: expected at most %u", a->max_pages, 1u << 24);
    else if (o->delay_command && o->fault_control)
        bench_fail(0,
                   "--delay-command and --fault-control are two ways to slow the server: give one");
    else
        return parse_pages(a) && list_parse("state", a->states, rv_state_names, &a->state_set) &&
               list_parse("change", a->changes, rv_change_names, &a->change_set) &&
               list_parse("part", a->parts, part_names, &a->part_set);
    return false;
}

int bench_revalidate(int argc, const char **argv)
{
    struct bench_options b = BENCH_OPTIONS_INIT;
    static char fuse_only[] = "fuse";
    struct limits_options l = LIMITS_OPTIONS_INIT;
    struct rv_options o = {.delay_ms = 100, .settle_ms = -1};
    struct asked a = {.max_pages = -1};
    const struct poptOption what[] = {
        {"dir", 'd', POPT_ARG_ARGV, &a.dirs, 0, "what to measure: a directory (may be repeated)",
         "[NAME=]DIR"},
        {"foreign-dir", 'f', POPT_ARG_ARGV, &a.foreign_dirs, 0,
         "another way to the same files: one for each --dir, or one for all", "DIR"},
        {"part", 0, POPT_ARG_STRING, &a.parts, 0, "of matrix,writer,staleness,opens only these",
         "LIST"},
        {"pages", 0, POPT_ARG_STRING, &a.pages, 0, "pages cached, instead of the powers of 4",
         "LIST"},
        {"max-pages", 0, POPT_ARG_INT, &a.max_pages, 0,
         "the powers of 4 up to this (default 16384; 1048576 is 4 GiB)", "N"},
        {"state", 0, POPT_ARG_STRING, &a.states, 0,
         "of clean,mapped,dirty-write,dirty-mapped,dirty-pages,writer only these", "LIST"},
        {"change", 0, POPT_ARG_STRING, &a.changes, 0,
         "of none,byte,whole,grown,shrunk,replaced only these", "LIST"},
        {"rounds", 0, POPT_ARG_INT, &o.rounds, 0, "of a small cell in each repetition (default 5)",
         "N"},
        {"settle", 0, POPT_ARG_INT, &o.settle_ms, 0,
         "between making files and caching them (default 300)", "MS"},
        {"patience", 0, POPT_ARG_DOUBLE, &o.patience_s, 0,
         "how long what is stale is waited for (default 10)", "SECONDS"},
        {"writer-seconds", 0, POPT_ARG_DOUBLE, &o.writer_s, 0,
         "how long writers are watched (default 2)", "SECONDS"},
        {"changes", 0, POPT_ARG_INT, &o.changes, 0,
         "seen by a mapping, in each repetition (default 5)", "N"},
        {"max-files", 0, POPT_ARG_INT, &o.opens_max, 0,
         "opened in turn: 1, 100, ... (default 10000)", "N"},
        {"delay-command", 0, POPT_ARG_STRING, &o.delay_command, 0,
         "makes the server slow when called with `on`, and fast with `off`", "COMMAND"},
        {"fault-control", 0, POPT_ARG_STRING, &o.fault_control, 0,
         "the same by the control socket of `nfscached serve`", "PATH"},
        {"limits", 0, POPT_ARG_NONE, &a.limits, 0,
         "measure in the same run what the kernel's notification alone costs", NULL},
        {"delay", 0, POPT_ARG_INT, &o.delay_ms, 0, "how slow (default 100)", "MS"},
        POPT_TABLEEND};
    const struct poptOption table[] = {
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, (void *)what, 0, "What to measure:", NULL},
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, limits_options_table(&l), 0, "With --limits:", NULL},
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, bench_options_table(&b), 0, "How, and where to:", NULL},
        POPT_AUTOHELP POPT_TABLEEND};
    int status = BENCH_USAGE;

    poptContext context =
        verb_options(argc, argv, table, "--dir DIR --foreign-dir DIR [OPTION]...");
    if (!context)
        return BENCH_USAGE;
    if (!l.only)
        l.only = fuse_only;
    if (b.quick) {
        l.mib = 8;
        l.calls = 100;
    }
    if (poptPeekArg(context))
        bench_fail(0, "revalidate: it takes only options; what is '%s'?", poptPeekArg(context));
    else if (bench_options_check(&b) && check(&a, &o, &b) && limits_check(&l) &&
             targets_open(&o.targets, a.dirs, a.foreign_dirs, true))
        status = bench_finish(build(&a, &o, &l), &b, argc, argv, derive);
    targets_close(&o.targets);
    options_clear(&l.nfs);
    poptFreeContext(context);
    return status;
}
