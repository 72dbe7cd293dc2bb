// SPDX-License-Identifier: Apache-2.0
/* Which figures the page has, and from which cells each is made. */
#include "daemon/bench/figures.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/bench/plot.h"
#include "daemon/bench/result.h"

json_t *figure_cells(json_t *merged, const char *benchmark)
{
    json_t *cells = json_array(), *c;
    size_t i;

    json_array_foreach(json_object_get(merged, "cells"), i, c)
    {
        /* Runs with a label (tests/peers/bench-place) are drawn by figures_peers.c. */
        if (strcmp(text_at(c, "benchmark"), benchmark) == 0 && !*param_at(c, "run"))
            json_array_append(cells, c);
    }
    return cells;
}

size_t figure_targets(json_t *cells, const char *names[], size_t max)
{
    size_t i, k, n = 0;
    json_t *c;

    json_array_foreach(cells, i, c)
    {
        for (k = 0; k < n && strcmp(names[k], text_at(c, "target")) != 0;)
            k++;
        if (k == n && n < max)
            names[n++] = text_at(c, "target");
    }
    return n;
}

bool figure_add(struct plot *p, const char *series, double x, json_t *cell, const char *metric)
{
    json_t *m = metric_at(cell, metric);

    if (!m)
        return false;
    plot_add(plot_series(p, series), x, number_at(m, "median"), number_at(m, "q1"),
             number_at(m, "q3"));
    return true;
}

void figure_add_bar(struct plot *p, const char *series, const char *group, json_t *cell,
                    const char *metric)
{
    if (metric_at(cell, metric))
        figure_add(p, series, (double)plot_group(p, group), cell, metric);
}

void figure_add_slower(struct plot *p, const char *series, json_t *cell, const char *distribution)
{
    json_t *d, *b;
    size_t i, j;

    json_array_foreach(json_object_get(cell, "distributions"), i, d)
    {
        double count = number_at(d, "count"), seen = 0;
        if (strcmp(text_at(d, "name"), distribution) != 0)
            continue;
        json_array_foreach(json_object_get(d, "buckets"), j, b)
        {
            double us = json_number_value(json_array_get(b, 0)), part = 1 - seen / count;
            plot_add(plot_series(p, series), us, part, part, part);
            seen += json_number_value(json_array_get(b, 1));
        }
    }
}

int figures_write_all(FILE *f, struct plot *plots, size_t n)
{
    int rc = 0;

    /* All, to free all. */
    for (size_t i = 0; i < n; i++) {
        int wrote = plot_write(f, &plots[i]);
        rc = rc ? rc : wrote;
    }
    return rc;
}

int figures_write(FILE *f, json_t *merged, const char *benchmark)
{
    static const struct {
        const char *benchmark;
        int (*write)(FILE *f, json_t *merged);
    } all[] = {{"revalidate", figures_revalidate},
               {"io", figures_io},
               {"meta", figures_meta},
               {"limits", figures_limits},
               {"cache", figures_cache},
               {"peers", figures_peers},
               {"scale", figures_scale}};
    int rc = 0;

    fputs("<div class=\"figures\">\n", f);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i].benchmark, benchmark) == 0)
            rc = all[i].write(f, merged);
    fputs("</div>\n", f);
    return rc;
}
