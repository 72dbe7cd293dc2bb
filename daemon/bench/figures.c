// SPDX-License-Identifier: Apache-2.0
/* Which figures the page has, and from which cells each is made. */
#include "daemon/bench/figures.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/bench/plot.h"
#include "daemon/bench/result.h"

/* Adds the median of a cell's metric, with its quartiles; false if it was not measured. */
static bool add(struct plot *p, const char *series, double x, json_t *cell, const char *metric)
{
    json_t *m = metric_at(cell, metric);

    if (!m)
        return false;
    plot_add(plot_series(p, series), x, number_at(m, "median"), number_at(m, "q1"),
             number_at(m, "q3"));
    return true;
}

static void add_bar(struct plot *p, const char *series, const char *group, json_t *cell,
                    const char *metric)
{
    if (metric_at(cell, metric))
        add(p, series, (double)plot_group(p, group), cell, metric);
}

#define EACH_CELL(cells, benchmark_name)                                                           \
    json_array_foreach(cells, i, c)                                                                \
    {                                                                                              \
        if (strcmp(text_at(c, "benchmark"), benchmark_name) != 0)                                  \
            continue;

/* ---- limits ---------------------------------------------------------------------------------- */

static int limits_figures(FILE *f, json_t *merged)
{
    json_t *cells = json_object_get(merged, "cells"), *c;
    size_t i;
    char group[96];
    struct plot rates = {.kind = PLOT_BARS,
                         .title = "How much can be moved",
                         .ylabel = "MB/s",
                         .log_y = true,
                         .caption = "More is better. A logarithmic scale."};
    struct plot times = {.kind = PLOT_BARS,
                         .title = "How long one small thing takes",
                         .ylabel = "µs",
                         .caption = "Medians; less is better."};

    EACH_CELL(cells, "limits")
    snprintf(group, sizeof group, "%s %s", text_at(c, "target"), param_at(c, "work"));
    add_bar(&rates, "MB/s", group, c, "mb_s");
    add_bar(&times, "median", group, c, "round_trip_p50_us");
    add_bar(&times, "median", group, c, "request_p50_us");
    add_bar(&times, "median", group, c, "open_p50_us");
    add_bar(&times, "median", group, c, "getattr_us");
    add_bar(&times, "median", group, c, "getattr_p50_us");
}
int rc = plot_write(f, &rates);
int rc2 = plot_write(f, &times);
return rc ? rc : rc2;
}

int figures_write(FILE *f, json_t *merged, const char *benchmark)
{
    static const struct {
        const char *benchmark;
        int (*write)(FILE *f, json_t *merged);
    } all[] = {{"limits", limits_figures}, {"cache", figures_cache}, {"peers", figures_peers}};
    int rc = 0;

    fputs("<div class=\"figures\">\n", f);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i].benchmark, benchmark) == 0)
            rc = all[i].write(f, merged);
    fputs("</div>\n", f);
    return rc;
}
