// SPDX-License-Identifier: Apache-2.0
/* The figures of `bench scale`, one or two for each part; see figures.c. */
#include "daemon/bench/figures.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/bench/plot.h"
#include "daemon/bench/result.h"

/* A line of a figure: of the cells of a part (and, if given, with work=), a metric over a
 * parameter.
 */
struct line {
    const char *part, *work, *x, *metric, *name;
};

static bool is(json_t *cell, const char *param, const char *value)
{
    return strcmp(param_at(cell, param), value) == 0;
}

static void add_lines(struct plot *p, json_t *cells, const struct line *lines, size_t n)
{
    json_t *c;
    size_t i;

    for (size_t k = 0; k < n; k++) {
        const struct line *l = &lines[k];

        json_array_foreach(cells, i, c)
        {
            if (is(c, "part", l->part) && (!l->work || is(c, "work", l->work)))
                figure_add(p, l->name, strtod(param_at(c, l->x), NULL), c, l->metric);
        }
    }
}

/* GETATTRs over time, of the two largest numbers of files. */
static void add_times(struct plot *p, json_t *cells)
{
    double most = 0;
    json_t *c, *curve, *point;
    size_t i, j, k;

    json_array_foreach(cells, i, c)
    {
        double n = is(c, "part", "open") ? strtod(param_at(c, "files"), NULL) : 0;
        most = n > most ? n : most;
    }
    json_array_foreach(cells, i, c)
    {
        char name[64];
        double n = strtod(param_at(c, "files"), NULL), last = -1;

        if (!is(c, "part", "open") || n * 10 < most)
            continue;
        snprintf(name, sizeof name, "%s files", param_at(c, "files"));
        json_array_foreach(json_object_get(c, "curves"), j, curve)
        {
            json_array_foreach(json_object_get(curve, "points"), k, point)
            {
                double x = json_number_value(json_array_get(point, 0));
                double y = json_number_value(json_array_get(point, 1));
                if (x < last)
                    break; /* of the next repetition */
                last = x;
                plot_add(plot_series(p, name), x / 1e3, y, y, y);
            }
        }
    }
}

static void add_delays(struct plot *rates, struct plot *windows, json_t *cells)
{
    json_t *c;
    size_t i;

    json_array_foreach(cells, i, c)
    {
        char name[64];
        double ms = strtod(param_at(c, "delay-ms"), NULL);

        if (!is(c, "part", "delay"))
            continue;
        if (is(c, "work", "write"))
            snprintf(name, sizeof name, "write, fsync");
        else
            snprintf(name, sizeof name, "read, readahead=%sM", param_at(c, "readahead-mib"));
        figure_add(rates, name, ms, c, "mb_s");
        figure_add(windows, name, ms, c, "window_mib");
    }
}

#define LINES(p, ...)                                                                              \
    add_lines(p, cells, (const struct line[]){__VA_ARGS__},                                        \
              sizeof((const struct line[]){__VA_ARGS__}) / sizeof(struct line))

static void add_cache(struct plot *costs, struct plot *memory, json_t *cells)
{
    LINES(costs, {"cache", NULL, "mib", "lookup_ns", "lookup"},
          {"cache", NULL, "mib", "insert_ns", "insert"},
          {"cache", NULL, "mib", "reclaim_ns", "reclaim"},
          {"cache", NULL, "mib", "drop_ns", "drop"});
    LINES(memory, {"cache", NULL, "mib", "metadata_bytes_page", "bytes"});
}

static void add_inodes(struct plot *table, struct plot *traverse, struct plot *memory,
                       json_t *cells)
{
    LINES(table, {"inodes", "table", "inodes", "insert_ns", "make"},
          {"inodes", "table", "inodes", "lookup_ns", "find"},
          {"inodes", "table", "inodes", "forget_ns", "forget"});
    LINES(traverse, {"inodes", "traverse", "inodes", "cold_us_inode", "cold"},
          {"inodes", "traverse", "inodes", "warm_us_inode", "again"});
    LINES(memory, {"inodes", "table", "inodes", "bytes_inode", "the table alone"},
          {"inodes", "traverse", "inodes", "bytes_inode", "the daemon of a mount"});
}

static void add_files(struct plot *sizes, struct plot *directories, json_t *cells)
{
    LINES(sizes, {"sizes", NULL, "mib", "write_us", "write 64 KiB"},
          {"sizes", NULL, "mib", "store_us", "store 64 KiB, msync"},
          {"sizes", NULL, "mib", "cold_read_us", "read 64 KiB, cold"},
          {"sizes", NULL, "mib", "open_stat_us", "open, fstat"},
          {"sizes", NULL, "mib", "shrink_us", "truncate"});
    LINES(directories, {"directory", "names", "entries", "cold_us_entry", "names, cold"},
          {"directory", "names", "entries", "warm_us_entry", "names, again"},
          {"directory", "ls-l", "entries", "cold_us_entry", "ls -l, cold"},
          {"directory", "ls-l", "entries", "warm_us_entry", "ls -l, again"});
}

static void add_open(struct plot *asked, struct plot *seen, json_t *cells)
{
    LINES(asked, {"open", NULL, "files", "getattr_s", "mean"},
          {"open", NULL, "files", "getattr_100ms_s", "most in any 100 ms"});
    LINES(seen, {"open", NULL, "files", "seen_after_p50_us", "half"},
          {"open", NULL, "files", "seen_after_p99_us", "99 %"},
          {"open", NULL, "files", "seen_after_max_us", "all"});
}

int figures_scale(FILE *f, json_t *merged)
{
    json_t *cells = figure_cells(merged, "scale");
    enum {
        CACHE,
        CACHE_MEMORY,
        TABLE,
        TRAVERSE,
        INODE_MEMORY,
        SIZES,
        DIRECTORIES,
        ASKED,
        OVER_TIME,
        SEEN,
        IDLE,
        IDLE_MEMORY,
        DELAY,
        WINDOW,
        CONNECTIONS,
        N
    };
    struct plot p[N] = {
        [CACHE] = {.title = "The cache from 16 MiB on",
                   .xlabel = "MiB of cache",
                   .ylabel = "ns a page",
                   .log_x = true,
                   .caption = "In process, by READs of 4 KiB. Flat is good; it rises where the "
                              "index outgrows the processor's caches."},
        [CACHE_MEMORY] = {.title = "Memory beside the data",
                          .xlabel = "MiB of cache",
                          .ylabel = "bytes a page",
                          .log_x = true,
                          .caption = "Resident, for each page cached."},
        [TABLE] = {.title = "The inode table",
                   .xlabel = "inodes",
                   .ylabel = "ns",
                   .log_x = true,
                   .caption = "In process. Flat is good."},
        [TRAVERSE] = {.title = "ls -lR on a mount",
                      .xlabel = "inodes",
                      .ylabel = "µs",
                      .log_x = true,
                      .log_y = true,
                      .caption = "For each file, in directories of 1000."},
        [INODE_MEMORY] = {.title = "Memory of a cached inode",
                          .xlabel = "inodes",
                          .ylabel = "bytes",
                          .log_x = true,
                          .caption = "What the process grows by, for each."},
        [SIZES] = {.title = "Files to 1 TiB",
                   .xlabel = "MiB",
                   .ylabel = "µs",
                   .log_x = true,
                   .log_y = true,
                   .caption = "Sparse files; the mean over places from the begin to the end."},
        [DIRECTORIES] = {.title = "One directory",
                         .xlabel = "entries",
                         .ylabel = "µs",
                         .log_x = true,
                         .log_y = true,
                         .caption = "For each entry. Flat is good."},
        [ASKED] = {.title = "Open files: GETATTRs at the server",
                   .xlabel = "open files",
                   .ylabel = "GETATTRs a second",
                   .log_x = true,
                   .log_y = true,
                   .caption = "All opened at once. The nearer the two lines, the better spread."},
        [OVER_TIME] = {.kind = PLOT_STEPS,
                       .title = "Open files: GETATTRs over time",
                       .xlabel = "seconds after the last open",
                       .ylabel = "GETATTRs a second",
                       .caption = "In bins of 100 ms."},
        [SEEN] = {.title = "Open files: when a change is seen",
                  .xlabel = "open files",
                  .ylabel = "µs",
                  .log_x = true,
                  .log_y = true,
                  .caption =
                      "All files changed elsewhere at once; by memory that is only read. The "
                      "attribute timeout is the limit."},
        [IDLE] = {.title = "Idle mounts: processor",
                  .xlabel = "mounts",
                  .ylabel = "a second, of each",
                  .log_x = true,
                  .caption = "Microseconds of processor time, and how often a thread ran."},
        [IDLE_MEMORY] = {.title = "Idle mounts: memory",
                         .xlabel = "mounts",
                         .ylabel = "KiB, of each",
                         .log_x = true,
                         .caption = "PSS: pages that several share are counted once."},
        [DELAY] = {.title = "Throughput against the round trip",
                   .xlabel = "ms that the server waits",
                   .ylabel = "MB/s",
                   .log_y = true,
                   .full = true,
                   .caption = "One sequential reader, one writer. It shall follow the window."},
        [WINDOW] = {.title = "The window that was kept full",
                    .xlabel = "ms that the server waits",
                    .ylabel = "MiB",
                    .log_y = true,
                    .full = true,
                    .caption = "Throughput times delay: near readahead= is what can be had."},
        [CONNECTIONS] = {.title = "Throughput against connections",
                         .xlabel = "nconnect",
                         .ylabel = "MB/s",
                         .caption = "One sequential reader, one writer, over the loopback device."},
    };

    add_cache(&p[CACHE], &p[CACHE_MEMORY], cells);
    add_inodes(&p[TABLE], &p[TRAVERSE], &p[INODE_MEMORY], cells);
    add_files(&p[SIZES], &p[DIRECTORIES], cells);
    add_open(&p[ASKED], &p[SEEN], cells);
    add_times(&p[OVER_TIME], cells);
    LINES(&p[IDLE], {"mounts", NULL, "mounts", "cpu_us_s", "µs of processor time"},
          {"mounts", NULL, "mounts", "wakeups_s", "wake-ups"});
    LINES(&p[IDLE_MEMORY], {"mounts", NULL, "mounts", "rss_kib", "RSS"},
          {"mounts", NULL, "mounts", "pss_kib", "PSS"});
    add_delays(&p[DELAY], &p[WINDOW], cells);
    LINES(&p[CONNECTIONS], {"connections", "read", "connections", "mb_s", "read"},
          {"connections", "write", "connections", "mb_s", "write, fsync"});
    json_decref(cells);
    return figures_write_all(f, p, N);
}
