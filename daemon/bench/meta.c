// SPDX-License-Identifier: Apache-2.0
/* `nfscached bench meta`: options, and which works there are; see meta.h. */
#include "daemon/bench/meta.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/bench/limit_cells.h"
#include "daemon/bench/lists.h"
#include "daemon/verbs.h"

enum { WORKS_MAX = 32 };

/* A directory for this repetition alone, by both ways. */
static int make_directory(struct meta_cell *mc)
{
    static unsigned number;
    struct stat st;
    char name[64];

    snprintf(name, sizeof name, "%s.%u", mc->work->name, number++);
    target_path(mc->target->dir, name, mc->dir);
    *mc->foreign = 0;
    if (!mc->target->foreign)
        return mkdir(mc->dir, 0777) < 0 ? -errno : 0;
    target_path(mc->target->foreign, name, mc->foreign);
    if (mkdir(mc->foreign, 0777) < 0)
        return -errno;
    /* It must be seen before the work begins: once, and not what is in it. */
    for (int i = 0; i < 1000; i++) {
        if (stat(mc->dir, &st) == 0)
            return 0;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return -errno;
}

static int meta_run(struct cell *c)
{
    struct meta_cell *mc = cell_arg(c);
    int rc = make_directory(mc);

    if (rc < 0)
        return cell_fail(c, "%s: %s", mc->dir, strerror(-rc));
    rc = mc->work->run(c, mc);
    /* By the other way it costs no client anything. */
    remove_tree(*mc->foreign ? mc->foreign : mc->dir);
    return rc;
}

/* `what`: how the size is called, if the work has one. */
static void add(struct matrix *m, struct meta_options *o, const struct meta_work *work,
                const char *what, unsigned size)
{
    for (size_t t = 0; t < o->targets.n; t++) {
        struct meta_cell *mc = calloc(1, sizeof *mc);
        if (!mc) {
            bench_fail(0, "out of memory");
            exit(BENCH_FAILED);
        }
        mc->o = o;
        mc->target = &o->targets.list[t];
        mc->work = work;
        mc->size = size;
        struct cell *c = matrix_add(m, "meta", mc->target->name, meta_run, mc);
        cell_at_end(c, free);
        cell_param(c, "work", "%s", work->name);
        if (what)
            cell_param(c, what, "%u", size);
        if (work->limit_target && mc->target->kind != TARGET_OTHER)
            cell_limit_of(c, "op_p50_us", work->limit_target, work->limit_work, work->limit_metric);
    }
}

struct sizes {
    char *large, *trees, *cached; /* as given; NULL: none */
    struct number_list lists[3];
};

static bool sizes_parse(struct sizes *s)
{
    return (!s->large || list_numbers("large", s->large, 1, 10000000, &s->lists[0])) &&
           (!s->trees || list_numbers("large-tree", s->trees, 1, 10000000, &s->lists[1])) &&
           (!s->cached || list_numbers("cached", s->cached, 0, 1u << 24, &s->lists[2]));
}

static void sizes_add(struct matrix *m, struct meta_options *o, const struct sizes *s)
{
    static const struct meta_work *const works[] = {&meta_large_list, &meta_large_tree,
                                                    &meta_cached};
    static const char *const what[] = {"entries", "files", "pages"};

    for (unsigned k = 0; k < 3; k++)
        for (unsigned i = 0; i < s->lists[k].n; i++)
            add(m, o, works[k], what[k], s->lists[k].v[i]);
}

static unsigned all_works(const struct meta_work **works, const char **names)
{
    unsigned n = 0;

    for (const struct meta_work *w = meta_storms; w->name; w++)
        works[n++] = w;
    for (const struct meta_work *w = meta_programs; w->name; w++)
        works[n++] = w;
    for (unsigned i = 0; i < n; i++)
        names[i] = works[i]->name;
    names[n] = NULL;
    return n;
}

static bool works_parse(const char *list, const char *const *names, unsigned *set)
{
    *set = 0;
    return (list && strcmp(list, "none") == 0) || list_parse("work", list, names, set);
}

int bench_meta(int argc, const char **argv)
{
    struct bench_options b = BENCH_OPTIONS_INIT;
    struct limits_options l = LIMITS_OPTIONS_INIT;
    struct meta_options o = {0};
    struct sizes sizes = {0};
    char **dirs = NULL, **foreign_dirs = NULL, *list = NULL;
    int limits = 0;
    const struct poptOption what[] = {
        {"dir", 'd', POPT_ARG_ARGV, &dirs, 0, "what to measure: a directory (may be repeated)",
         "[NAME=]DIR"},
        {"foreign-dir", 'f', POPT_ARG_ARGV, &foreign_dirs, 0,
         "another way to the same files, for what is cold: one for each --dir, or one for all",
         "DIR"},
        {"work", 'w', POPT_ARG_STRING, &list, 0,
         "only these: create,stat,...,untar,git-status; or none", "LIST"},
        {"files", 0, POPT_ARG_INT, &o.files, 0, "of a storm (default 1000)", "N"},
        {"tree", 0, POPT_ARG_INT, &o.tree, 0, "files of the tree for programs (default 400)", "N"},
        {"large", 0, POPT_ARG_STRING, &sizes.large, 0,
         "also ls -l of directories with so many entries (default: none)", "LIST"},
        {"large-tree", 0, POPT_ARG_STRING, &sizes.trees, 0,
         "also git status on trees of so many files, which were made elsewhere (default: none)",
         "LIST"},
        {"cached", 0, POPT_ARG_STRING, &sizes.cached, 0,
         "also open and close of an unchanged file with so many pages cached (default: none)",
         "LIST"},
        {"limits", 0, POPT_ARG_NONE, &limits, 0, "measure the limits in the same run", NULL},
        POPT_TABLEEND};
    const struct poptOption table[] = {
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, (void *)what, 0, "What to measure:", NULL},
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, limits_options_table(&l), 0, "With --limits:", NULL},
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, bench_options_table(&b), 0, "How, and where to:", NULL},
        POPT_AUTOHELP POPT_TABLEEND};
    const struct meta_work *works[WORKS_MAX];
    const char *names[WORKS_MAX + 1];
    unsigned n = all_works(works, names), set;
    int status = BENCH_USAGE;

    poptContext context = verb_options(argc, argv, table, "--dir DIR [OPTION]...");
    if (!context)
        return BENCH_USAGE;
    o.files = o.files ? o.files : b.quick ? 50 : 1000;
    o.tree = o.tree ? o.tree : b.quick ? 40 : 400;
    if (poptPeekArg(context))
        bench_fail(0, "meta: it takes only options; what is '%s'?", poptPeekArg(context));
    else if (o.files > 10000000)
        bench_fail(0, "--files=%d: expected 1 to 10000000", (int)o.files);
    else if (o.tree < 20 || o.tree > 1000000)
        bench_fail(0, "--tree=%d: expected 20 to 1000000", (int)o.tree);
    else if (bench_options_check(&b) && works_parse(list, names, &set) && sizes_parse(&sizes) &&
             limits_check(&l) && targets_open(&o.targets, dirs, foreign_dirs, false)) {
        struct matrix *m = matrix_new();
        targets_describe(&o.targets, m);
        for (unsigned i = 0; i < n; i++)
            if (set & 1u << i)
                add(m, &o, works[i], NULL, 0);
        sizes_add(m, &o, &sizes);
        if (limits)
            limits_add(m, &l);
        status = bench_finish(m, &b, argc, argv, limits_derive);
    }
    meta_material_remove(&o);
    targets_close(&o.targets);
    options_clear(&l.nfs);
    poptFreeContext(context);
    return status;
}
