// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached bench cache`: the cache by itself, in this process, without a mount or a server.
 *
 *   cache_ops.c      what each operation costs a page
 *   cache_threads.c  how that scales over threads
 *   cache_hits.c     how often what is wanted is there, against other policies and the optimum
 *   cache_memory.c   what is kept beside the data
 *
 * It runs the code of cache/ as the daemon does; what the kernel, FUSE and the network cost is not
 * in these figures.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/bench/cache_cells.h"
#include "daemon/bench/instructions.h"
#include "daemon/verbs.h"

enum { PART_OPS = 1, PART_THREADS = 2, PART_HITS = 4, PART_MEMORY = 8 };

static const struct {
    const char *name;
    int part;
} parts[] = {
    {"ops", PART_OPS}, {"threads", PART_THREADS}, {"hits", PART_HITS}, {"memory", PART_MEMORY}};

static int part_of(const char *name)
{
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strcmp(parts[i].name, name) == 0)
            return parts[i].part;
    return 0;
}

static void note_instructions(struct matrix *m)
{
    int fd = instructions_open();

    matrix_target(m, "ours",
                  fd >= 0 ? "the cache of nfscached, in this process"
                          : "the cache of nfscached, in this process; instructions cannot be "
                            "counted here");
    if (fd >= 0)
        close(fd);
}

int bench_cache(int argc, const char **argv)
{
    struct bench_options o = BENCH_OPTIONS_INIT;
    long long pages = 0, capacity = 0, accesses = 0;
    int threads = 0, which = 0;
    const struct poptOption table[] = {
        {"pages", 0, POPT_ARG_LONGLONG, &pages, 0,
         "the largest cache whose operations are measured (default: 1048576)", "N"},
        {"threads", 0, POPT_ARG_INT, &threads, 0,
         "the most threads, at most 64 (default: twice the CPUs)", "N"},
        {"capacity", 0, POPT_ARG_LONGLONG, &capacity, 0,
         "pages of the cache that runs the traces (default: 8192)", "N"},
        {"accesses", 0, POPT_ARG_LONGLONG, &accesses, 0,
         "length of a trace (default: 40 times the capacity)", "N"},
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, bench_options_table(&o), 0, "All benchmarks:", NULL},
        POPT_AUTOHELP POPT_TABLEEND};
    poptContext context =
        verb_options(argc, argv, table, "[OPTION...] [ops|threads|hits|memory]...");

    if (!context)
        return BENCH_USAGE;
    for (const char *name; (name = poptGetArg(context)) != NULL;) {
        int part = part_of(name);

        if (!part) {
            bench_fail(0, "'%s': not one of ops, threads, hits, memory", name);
            poptFreeContext(context);
            return BENCH_USAGE;
        }
        which |= part;
    }
    poptFreeContext(context);
    if (!bench_options_check(&o))
        return BENCH_USAGE;
    which = which ? which : PART_OPS | PART_THREADS | PART_HITS | PART_MEMORY;
    pages = pages ? pages : 1048576;
    threads = threads ? threads : 2 * (int)sysconf(_SC_NPROCESSORS_ONLN);
    capacity = capacity ? capacity : o.quick ? 2048 : 8192;
    accesses = accesses ? accesses : 40 * capacity;
    if (pages < 256 || pages > 1 << 26 || threads < 1 || capacity < 256 || capacity > 1 << 24 ||
        accesses < capacity)
        return bench_fail(BENCH_USAGE, "--pages from 256, --threads from 1, --capacity from 256, "
                                       "--accesses from the capacity");

    struct matrix *m = matrix_new();

    note_instructions(m);
    if (which & PART_OPS)
        cache_cells_ops(m, (uint64_t)pages, o.quick);
    if (which & PART_THREADS)
        cache_cells_threads(m, (unsigned)threads, o.quick);
    if (which & PART_HITS)
        cache_cells_traces(m, (uint32_t)capacity, (size_t)accesses,
                           o.seed >= 0 ? (uint64_t)o.seed : 1);
    if (which & PART_MEMORY)
        cache_cells_memory(m, o.quick);
    return bench_finish(m, &o, argc, argv, NULL);
}
