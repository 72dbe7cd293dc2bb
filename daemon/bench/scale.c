// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached bench scale`: how cost grows as work grows. Each part is one curve, or a few over the
 * same axis:
 *
 *   scale_cache.c      cache         the cache from 16 MiB on: lookup, insert, reclaim, drop,
 * metadata scale_inodes.c     inodes        cached inodes, 1 to 1,000,000: the table, and a mount
 *   scale_sizes.c      sizes         files to 1 TiB, and whether what they hold is right
 *   scale_directory.c  directory     directories to 1,000,000 entries
 *   scale_open.c       open          open files under timed revalidation: who asks when
 *   scale_mounts.c     mounts        idle mounts of one server
 *   scale_link.c       delay         throughput against round trips
 *                      connections   throughput against nconnect
 *
 * All but the first work on mounts of ours that they start themselves (scale_place.c).
 */
#include "daemon/bench/scale.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/bench/lists.h"
#include "daemon/verbs.h"

static const char *const part_names[] = {"cache",  "inodes", "sizes",       "directory", "open",
                                         "mounts", "delay",  "connections", NULL};
static void (*const part_cells[])(struct matrix *m, struct scale *s) = {
    scale_cells_cache, scale_cells_inodes, scale_cells_sizes, scale_cells_directory,
    scale_cells_open,  scale_cells_mounts, scale_cells_delay, scale_cells_connections};

unsigned scale_steps(double first, double factor, double most, double v[32])
{
    unsigned n = 0;

    for (double x = first; x < most && n < 31; x *= factor)
        v[n++] = x;
    v[n++] = most;
    return n;
}

struct cell *scale_add(struct matrix *m, const struct scale_cell *init, const char *part,
                       cell_fn run)
{
    struct scale_cell *copy = malloc(sizeof *copy);

    if (!copy)
        exit(bench_fail(BENCH_FAILED, "out of memory"));
    *copy = *init;

    struct cell *c = matrix_add(m, SCALE, "ours", run, copy);

    cell_at_end(c, free);
    cell_param(c, "part", "%s", part);
    return c;
}

static bool within(const char *option, double value, double low, double high)
{
    if (value >= low && value <= high)
        return true;
    bench_fail(0, "--%s=%.10g: expected %.10g to %.10g", option, value, low, high);
    return false;
}

static bool check(struct scale *s, const char *parts, unsigned *set)
{
    struct stat st;
    const char *temporary = getenv("TMPDIR");

    s->max_mib = s->max_mib ? s->max_mib : s->quick ? 64 : 16384;
    s->max_inodes = s->max_inodes ? s->max_inodes : s->quick ? 1000 : 1000000;
    s->max_entries = s->max_entries ? s->max_entries : s->quick ? 1000 : 1000000;
    s->max_files = s->max_files ? s->max_files : s->quick ? 100 : 10000;
    s->max_mounts = s->max_mounts ? s->max_mounts : s->quick ? 2 : 64;
    s->ac_seconds = s->ac_seconds ? s->ac_seconds : s->quick ? 1 : 3;
    s->file_mib = s->file_mib ? s->file_mib : s->quick ? 8 : 256;
    s->seconds = s->seconds > 0 ? s->seconds : s->quick ? 0.2 : 2;
    if (!list_parse("part", parts, part_names, set) ||
        !within("max-mib", s->max_mib, 16, 1 << 20) ||
        !within("max-inodes", (double)s->max_inodes, 1, 1e8) ||
        !within("max-entries", (double)s->max_entries, 1, 1e8) ||
        !within("max-files", (double)s->max_files, 1, 60000) ||
        !within("max-mounts", s->max_mounts, 1, 1000) ||
        !within("getattr-delay", s->getattr_ms, 0, 10000) ||
        !within("ac-seconds", s->ac_seconds, 1, 600) || !within("size", s->file_mib, 1, 1 << 20))
        return false;
    if (!s->remote != !s->remote_dir) {
        bench_fail(0, "--server and --dir go together: the export, and another way to it");
        return false;
    }
    if (!s->scratch)
        s->scratch = strdup(temporary && *temporary ? temporary : "/tmp");
    const char *dirs[] = {s->scratch, s->remote_dir};
    for (unsigned i = 0; i < 2; i++) {
        if (dirs[i] && (stat(dirs[i], &st) < 0 || !S_ISDIR(st.st_mode))) {
            bench_fail(0, "--%s=%s: not a directory", i ? "dir" : "scratch", dirs[i]);
            return false;
        }
    }
    /* The server exports by the path without symbolic links. */
    char *real = realpath(s->scratch, NULL);
    free(s->scratch);
    s->scratch = real;
    return real != NULL;
}

int bench_scale(int argc, const char **argv)
{
    struct bench_options b = BENCH_OPTIONS_INIT;
    struct scale s = {.control_fd = -1};
    char *parts = NULL;
    unsigned set = 0;
    int status = BENCH_USAGE;
    const struct poptOption what[] = {
        {"part", 0, POPT_ARG_STRING, &parts, 0,
         "of cache,inodes,sizes,directory,open,mounts,delay,connections only these", "LIST"},
        {"max-mib", 0, POPT_ARG_INT, &s.max_mib, 0, "the largest cache (default 16384)", "MIB"},
        {"max-inodes", 0, POPT_ARG_LONGLONG, &s.max_inodes, 0,
         "the most cached inodes (default 1000000)", "N"},
        {"max-entries", 0, POPT_ARG_LONGLONG, &s.max_entries, 0,
         "of the largest directory (default 1000000)", "N"},
        {"max-files", 0, POPT_ARG_LONGLONG, &s.max_files, 0, "the most open files (default 10000)",
         "N"},
        {"max-mounts", 0, POPT_ARG_INT, &s.max_mounts, 0, "the most mounts (default 64)", "N"},
        {"ac-seconds", 0, POPT_ARG_INT, &s.ac_seconds, 0,
         "attribute timeout of the open files (default 3)", "SECONDS"},
        {"getattr-delay", 0, POPT_ARG_INT, &s.getattr_ms, 0,
         "the server answers GETATTRs of the open files so much later (default 0)", "MS"},
        {"size", 's', POPT_ARG_INT, &s.file_mib, 0,
         "of the file that is read and written for throughput (default 256)", "MIB"},
        {"seconds", 0, POPT_ARG_DOUBLE, &s.seconds, 0,
         "how long idle mounts are watched, and a throughput is measured at most (default 2)",
         "SECONDS"},
        POPT_TABLEEND};
    const struct poptOption where[] = {
        {"scratch", 0, POPT_ARG_STRING, &s.scratch, 0,
         "where a directory is made for the server's files and the mounts (default: TMPDIR or "
         "/tmp; a tmpfs is best)",
         "DIR"},
        {"server", 0, POPT_ARG_STRING, &s.remote, 0,
         "mount this instead of a server of our own; what asks or delays the server is skipped",
         "SERVER:/EXPORT"},
        {"dir", 'd', POPT_ARG_STRING, &s.remote_dir, 0,
         "with --server: the same export by another way, where files are made", "DIR"},
        {"options", 'o', POPT_ARG_STRING, &s.options, 0, "further mount options", "OPTIONS"},
        POPT_TABLEEND};
    const struct poptOption table[] = {
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, (void *)what, 0, "What to measure:", NULL},
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, (void *)where, 0, "On what:", NULL},
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, bench_options_table(&b), 0, "How, and where to:", NULL},
        POPT_AUTOHELP POPT_TABLEEND};

    poptContext context = verb_options(argc, argv, table, "[OPTION]...");
    if (!context)
        return BENCH_USAGE;
    s.quick = b.quick;
    if (poptPeekArg(context)) {
        bench_fail(0, "scale: it takes only options; what is '%s'?", poptPeekArg(context));
    } else if (bench_options_check(&b) && check(&s, parts, &set)) {
        struct matrix *m = matrix_new();

        /* The points of a curve support each other, and the last ones take long. */
        b.reps = b.reps > 0 ? b.reps : b.quick ? 1 : 3;
        b.warm_up = b.warm_up >= 0 ? b.warm_up : 0;
        matrix_target(m, "ours",
                      s.remote ? s.remote
                               : "a server and mounts of nfscached, in processes of "
                                 "their own on this machine");
        for (unsigned i = 0; part_names[i]; i++)
            if (set & 1u << i)
                part_cells[i](m, &s);
        status = bench_finish(m, &b, argc, argv, NULL);
        scale_end(&s);
    }
    free(s.scratch);
    poptFreeContext(context);
    return status;
}
