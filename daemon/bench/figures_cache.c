// SPDX-License-Identifier: Apache-2.0
/* The figures of `bench cache`; see figures.c. */
#include "daemon/bench/figures.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/bench/plot.h"
#include "daemon/bench/result.h"

static void add(struct plot *p, const char *series, double x, json_t *metric)
{
    if (metric)
        plot_add(plot_series(p, series), x, number_at(metric, "median"), number_at(metric, "q1"),
                 number_at(metric, "q3"));
}

static double number_of(json_t *cell, const char *param)
{
    return strtod(param_at(cell, param), NULL);
}

/* "write 4 KiB" */
static void op_name(json_t *cell, char text[96])
{
    double block = number_of(cell, "block");

    if (block)
        snprintf(text, 96, "%s %.0f KiB", param_at(cell, "op"), block / 1024);
    else
        snprintf(text, 96, "%s", param_at(cell, "op"));
}

int figures_cache(FILE *f, json_t *merged)
{
    struct plot bars = {.kind = PLOT_BARS,
                        .title = "What each operation costs a page",
                        .ylabel = "ns",
                        .full = true,
                        .caption =
                            "Medians; less is better. Beside them, what copying a page costs."};
    struct plot sizes = {.kind = PLOT_LINES,
                         .title = "Costs in caches of different sizes",
                         .xlabel = "pages cached",
                         .ylabel = "ns",
                         .log_x = true,
                         .caption = "A page; of \"unchanged\" a call. Flat is good."};
    struct plot threads = {.kind = PLOT_LINES,
                           .title = "Several threads",
                           .xlabel = "threads",
                           .ylabel = "pages per second",
                           .log_x = true,
                           .caption = "All together, by READs of 4 KiB."};
    struct plot hits = {.kind = PLOT_BARS,
                        .title = "How often what is wanted is there",
                        .ylabel = "hits, %",
                        .full = true,
                        .caption = "The same traces for all; OPT knows the future."};
    struct plot memory = {.kind = PLOT_BARS,
                          .title = "Memory beside the data",
                          .ylabel = "bytes",
                          .log_y = true,
                          .caption = "What a process grows by for each."};
    json_t *c, *m;
    char name[96];
    size_t i;

    json_array_foreach(json_object_get(merged, "cells"), i, c)
    {
        if (strcmp(text_at(c, "benchmark"), "cache") != 0)
            continue;
        op_name(c, name);
        if ((m = metric_at(c, "page_ns")) || (m = metric_at(c, "call_ns"))) {
            if (number_of(c, "pages") == 32768 && metric_at(c, "page_ns"))
                add(&bars, "ns", (double)plot_group(&bars, name), m);
            if (!*param_at(c, "block") || number_of(c, "block") == 4096)
                if (strcmp(param_at(c, "op"), "lookup") == 0 ||
                    strcmp(param_at(c, "op"), "insert") == 0 || !*param_at(c, "block"))
                    add(&sizes, name, number_of(c, "pages"), m);
        } else if ((m = metric_at(c, "pages_per_s"))) {
            add(&threads, param_at(c, "op"), number_of(c, "threads"), m);
        } else if ((m = metric_at(c, "hit_percent"))) {
            add(&hits, text_at(c, "target"), (double)plot_group(&hits, param_at(c, "trace")), m);
        } else if ((m = metric_at(c, "bytes"))) {
            add(&memory, "bytes", (double)plot_group(&memory, param_at(c, "memory of")), m);
        }
    }

    struct plot *all[] = {&bars, &sizes, &threads, &hits, &memory};
    int rc = 0;

    for (i = 0; i < sizeof all / sizeof all[0]; i++) {
        int wrote = plot_write(f, all[i]);

        rc = rc ? rc : wrote;
    }
    return rc;
}
