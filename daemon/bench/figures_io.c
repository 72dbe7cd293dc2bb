// SPDX-License-Identifier: Apache-2.0
/* The figures of `bench io`, `bench meta` and `bench limits`. */
#include <stdlib.h>
#include <string.h>

#include "daemon/bench/figures.h"
#include "daemon/bench/plot.h"
#include "daemon/bench/result.h"

/* ---- io -------------------------------------------------------------------------------------- */

static bool is(json_t *cell, const char *param, const char *value)
{
    return strcmp(param_at(cell, param), value) == 0;
}

/* "buffered 4 KiB, cold, 16 at a time" */
static void io_group(json_t *c, char text[96])
{
    unsigned long block = strtoul(param_at(c, "block"), NULL, 10);
    bool many = !is(c, "in-flight", "1"), large = block >= 1 << 20;

    snprintf(text, 96, "%s %lu %ciB%s%s%s%s", param_at(c, "mode"), block >> (large ? 20 : 10),
             large ? 'M' : 'K', *param_at(c, "cache") ? ", " : "", param_at(c, "cache"),
             many ? ", ×" : "", many ? param_at(c, "in-flight") : "");
}

static void add_limit(struct plot *p, json_t *merged, json_t *c, const char *group)
{
    double limit = limit_of(merged, c, "mb_s");

    if (limit <= 0)
        return;
    struct plot_series *s = plot_series(p, "limit");
    s->is_limit = true;
    plot_add(s, (double)plot_group(p, group), limit, limit, limit);
}

static int rates(FILE *f, json_t *merged, json_t *cells, const char *op, const char *pattern,
                 const char *title)
{
    struct plot p = {
        .kind = PLOT_BARS,
        .title = title,
        .ylabel = "MB/s",
        .log_y = true,
        .full = true,
        .caption = "More is better. A logarithmic scale. A dashed mark is the limit, where it "
                   "was measured. Writes end with fsync()."};
    char group[96];
    json_t *c;
    size_t i;

    json_array_foreach(cells, i, c)
    {
        if (!is(c, "op", op) || !is(c, "pattern", pattern))
            continue;
        io_group(c, group);
        figure_add_bar(&p, text_at(c, "target"), group, c, "mb_s");
        add_limit(&p, merged, c, group);
    }
    return plot_write(f, &p);
}

static int latencies(FILE *f, json_t *cells, const char *op, const char *title)
{
    struct plot p = {.kind = PLOT_STEPS,
                     .title = title,
                     .xlabel = "µs",
                     .ylabel = "part that took longer",
                     .log_x = true,
                     .log_y = true,
                     .caption = "One operation in a thousand takes longer than where a line passes "
                                "0.001. Left is better."};
    char series[96];
    json_t *c;
    size_t i;

    json_array_foreach(cells, i, c)
    {
        if (!is(c, "op", op) || !is(c, "pattern", "random") || !is(c, "mode", "buffered") ||
            !is(c, "block", "4096") || !is(c, "in-flight", "1"))
            continue;
        snprintf(series, sizeof series, "%s%s%s", text_at(c, "target"),
                 *param_at(c, "cache") ? ", " : "", param_at(c, "cache"));
        figure_add_slower(&p, series, c, "op");
    }
    return plot_write(f, &p);
}

/* Every metric that has a limit, of any benchmark. */
static int fractions(FILE *f, json_t *merged)
{
    struct plot p = {.kind = PLOT_BARS,
                     .title = "As a part of what could be had",
                     .ylabel = "of the limit",
                     .full = true,
                     .caption = "Rates: 1 is the limit, more is better."};
    json_t *cells = figure_cells(merged, "io"), *c, *m;
    char group[96], name[160];
    size_t i;

    json_array_foreach(cells, i, c)
    {
        double limit = limit_of(merged, c, "mb_s");
        if (limit <= 0 || !(m = metric_at(c, "mb_s")))
            continue;
        io_group(c, group);
        snprintf(name, sizeof name, "%s %s", param_at(c, "op"), group);
        plot_add(plot_series(&p, text_at(c, "target")), (double)plot_group(&p, name),
                 number_at(m, "median") / limit, number_at(m, "q1") / limit,
                 number_at(m, "q3") / limit);
        struct plot_series *one = plot_series(&p, "limit");
        one->is_limit = true;
        plot_add(one, (double)plot_group(&p, name), 1, 1, 1);
    }
    json_decref(cells);
    return plot_write(f, &p);
}

int figures_io(FILE *f, json_t *merged)
{
    json_t *cells = figure_cells(merged, "io");
    int rc = rates(f, merged, cells, "read", "sequential", "Sequential reads");

    if (rc == 0)
        rc = rates(f, merged, cells, "read", "random", "Random reads");
    if (rc == 0)
        rc = rates(f, merged, cells, "write", "sequential", "Sequential writes");
    if (rc == 0)
        rc = rates(f, merged, cells, "write", "random", "Random writes");
    if (rc == 0)
        rc = latencies(f, cells, "read", "How long a random read of 4 KiB takes");
    if (rc == 0)
        rc = latencies(f, cells, "write", "How long a random write of 4 KiB takes");
    if (rc == 0)
        rc = fractions(f, merged);
    json_decref(cells);
    return rc;
}

/* ---- meta ------------------------------------------------------------------------------------ */

int figures_meta(FILE *f, json_t *merged)
{
    json_t *cells = figure_cells(merged, "meta"), *c;
    struct plot plots[] = {
        {.kind = PLOT_BARS,
         .title = "Storms of small operations",
         .ylabel = "per second",
         .log_y = true,
         .full = true,
         .caption =
             "More is better. A logarithmic scale. Cold: made elsewhere, and seen here for the "
             "first time."},
        {.kind = PLOT_BARS,
         .title = "Listing a directory",
         .ylabel = "ms",
         .caption = "Less is better. ls-l: every entry's attributes, too."},
        {.kind = PLOT_BARS, .title = "Programs", .ylabel = "seconds", .caption = "Less is better."},
    };
    size_t i;

    json_array_foreach(cells, i, c)
    {
        const char *target = text_at(c, "target"), *work = param_at(c, "work");
        figure_add_bar(&plots[0], target, work, c, "per_s");
        figure_add_bar(&plots[1], target, work, c, "ms");
        figure_add_bar(&plots[2], target, work, c, "seconds");
    }
    int rc = figures_write_all(f, plots, sizeof plots / sizeof plots[0]);
    json_decref(cells);
    return rc;
}

/* ---- limits ---------------------------------------------------------------------------------- */

int figures_limits(FILE *f, json_t *merged)
{
    static const char *const times[] = {"round_trip_p50_us", "request_p50_us", "open_p50_us",
                                        "getattr_us", "getattr_p50_us"};
    json_t *cells = figure_cells(merged, "limits"), *c;
    struct plot plots[] = {
        {.kind = PLOT_BARS,
         .title = "How much can be moved",
         .ylabel = "MB/s",
         .log_y = true,
         .caption = "More is better. A logarithmic scale."},
        {.kind = PLOT_BARS,
         .title = "How long one small thing takes",
         .ylabel = "µs",
         .caption = "Medians; less is better."},
        {.kind = PLOT_BARS,
         .title = "Taking a page from the kernel's cache",
         .ylabel = "ns",
         .caption = "The notification alone; a dirty page comes as a WRITE first. Less is better."},
    };
    char group[96];
    size_t i;

    json_array_foreach(cells, i, c)
    {
        snprintf(group, sizeof group, "%s %s", text_at(c, "target"), param_at(c, "work"));
        figure_add_bar(&plots[0], "MB/s", group, c, "mb_s");
        figure_add_bar(&plots[2], "a page", group, c, "page_ns");
        for (size_t k = 0; k < sizeof times / sizeof times[0]; k++)
            figure_add_bar(&plots[1], "median", group, c, times[k]);
    }
    int rc = figures_write_all(f, plots, sizeof plots / sizeof plots[0]);
    json_decref(cells);
    return rc;
}
