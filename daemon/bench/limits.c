// SPDX-License-Identifier: Apache-2.0
/* `nfscached bench limits`: options, and which cells there are; see limit_cells.h. */
#include "daemon/bench/limit_cells.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/verbs.h"

static const struct limit {
    const char *name;
    void (*add)(struct matrix *m, const struct limits_options *o);
    bool needs_server;
} limits[] = {
    {"machine", limits_add_machine, false}, {"fuse", limits_add_fuse, false},
    {"client", limits_add_client, true},    {"libnfs", limits_add_libnfs, true},
    {"floor", limits_add_floor, true},      {0},
};

struct poptOption *limits_options_table(struct limits_options *o)
{
    static struct poptOption table[8];
    const struct poptOption fill[] = {
        {"server", 0, POPT_ARG_STRING, &o->server, 0,
         "an NFS server, to be asked without a mount (a source of `nfscached mount`)",
         "SERVER:/EXPORT"},
        {"nfs-options", 0, POPT_ARG_STRING, &o->nfs_text, 0,
         "mount options for it: port=, mountport=, nconnect=", "OPTIONS"},
        {"limit-mib", 0, POPT_ARG_INT, &o->mib, 0, "how much a bulk limit moves at a time", "MIB"},
        {"limit-calls", 0, POPT_ARG_INT, &o->calls, 0,
         "how many small calls a limit makes at a time", "N"},
        {"depth", 0, POPT_ARG_INT, &o->depth, 0, "READs and WRITEs in flight", "N"},
        {"only", 0, POPT_ARG_STRING, &o->only, 0, "of machine,fuse,client,libnfs,floor only these",
         "LIST"},
        POPT_TABLEEND};

    memcpy(table, fill, sizeof fill);
    return table;
}

static bool in_list(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, word, n) == 0 && (at[n] == ',' || at[n] == 0))
            return true;
    return false;
}

static bool check_only(const char *list)
{
    char *copy = strdup(list), *rest = copy, *word;
    bool good = copy != NULL;

    while (good && (word = strsep(&rest, ","))) {
        good = false;
        for (const struct limit *l = limits; l->name; l++)
            good = good || strcmp(l->name, word) == 0;
        if (!good)
            bench_fail(0, "--only: no limit '%s'; there are machine, fuse, client, libnfs, floor",
                       word);
    }
    free(copy);
    return good;
}

bool limits_check(struct limits_options *o)
{
    char err[OPTIONS_ERROR_MAX];

    if ((int)o->mib < 1 || o->mib > 65536) {
        bench_fail(0, "--limit-mib=%d: expected 1 to 65536", (int)o->mib);
        return false;
    }
    if ((int)o->calls < 1 || o->calls > 100000000) {
        bench_fail(0, "--limit-calls=%d: expected 1 or more", (int)o->calls);
        return false;
    }
    if ((int)o->depth < 1 || o->depth > 256) {
        bench_fail(0, "--depth=%d: expected 1 to 256", (int)o->depth);
        return false;
    }
    if (o->only && !check_only(o->only))
        return false;
    options_init(&o->nfs);
    if (!o->server) {
        if (o->only && (in_list(o->only, "client") || in_list(o->only, "libnfs") ||
                        in_list(o->only, "floor"))) {
            bench_fail(0, "--only=%s: client, libnfs and floor need --server=SERVER:/EXPORT",
                       o->only);
            return false;
        }
        return true;
    }
    if (!options_parse_source(&o->nfs, o->server, err)) {
        bench_fail(0, "--server=%s: %s", o->server, err);
        return false;
    }
    if (o->nfs_text && !options_parse(&o->nfs, o->nfs_text, err)) {
        bench_fail(0, "--nfs-options=%s: %s", o->nfs_text, err);
        return false;
    }
    if (!options_finish(&o->nfs, 0, err)) {
        bench_fail(0, "--nfs-options: %s", err);
        return false;
    }
    return true;
}

/* The sum of two others, of each repetition. */
static int sum_is_derived(struct cell *c)
{
    return 0;
}

void limits_add(struct matrix *m, struct limits_options *o)
{
    bool fuse = false, libnfs = false;

    for (const struct limit *l = limits; l->name; l++) {
        if ((o->only && !in_list(o->only, l->name)) || (l->needs_server && !o->server))
            continue;
        l->add(m, o);
        fuse = fuse || l->add == limits_add_fuse;
        libnfs = libnfs || l->add == limits_add_libnfs;
    }
    if (fuse && libnfs)
        cell_param(matrix_add(m, "limits", "fuse+libnfs", sum_is_derived, NULL), "work", "open");
}

static struct cell *find(struct matrix *m, const char *target, const char *work)
{
    for (size_t i = 0; i < matrix_size(m); i++) {
        struct cell *c = matrix_cell(m, i);
        if (strcmp(cell_benchmark(c), "limits") == 0 && strcmp(cell_target(c), target) == 0 &&
            strcmp(cell_param_value(c, "work"), work) == 0)
            return c;
    }
    return NULL;
}

void limits_derive(struct matrix *m)
{
    struct cell *sum = find(m, "fuse+libnfs", "open"), *open = find(m, "fuse", "open");
    struct cell *ask = find(m, "libnfs", "getattr");
    size_t na, nb;

    if (!sum || !open || !ask)
        return;
    const double *a = cell_samples(open, "open_p50_us", &na);
    const double *b = cell_samples(ask, "getattr_p50_us", &nb);
    for (size_t i = 0; i < na && i < nb; i++)
        cell_derived(sum, "open_p50_us", "us", BETTER_LESS, a[i] + b[i]);
}

int bench_limits(int argc, const char **argv)
{
    struct bench_options o = BENCH_OPTIONS_INIT;
    struct limits_options l = LIMITS_OPTIONS_INIT;
    const struct poptOption table[] = {
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, limits_options_table(&l), 0, "What to measure:", NULL},
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, bench_options_table(&o), 0, "How, and where to:", NULL},
        POPT_AUTOHELP POPT_TABLEEND};
    int status = BENCH_USAGE;

    poptContext context = verb_options(argc, argv, table, "[OPTION]...");
    if (!context)
        return BENCH_USAGE;
    if (o.quick) {
        l.mib = l.mib < 16 ? l.mib : 16;
        l.calls = l.calls < 200 ? l.calls : 200;
    }
    if (poptPeekArg(context))
        bench_fail(0, "limits: it takes only options; what is '%s'?", poptPeekArg(context));
    else if (bench_options_check(&o) && limits_check(&l)) {
        struct matrix *m = matrix_new();
        limits_add(m, &l);
        status = bench_finish(m, &o, argc, argv, limits_derive);
    }
    options_clear(&l.nfs);
    poptFreeContext(context);
    return status;
}
