// SPDX-License-Identifier: Apache-2.0
/*
 * Several targets side by side: a line for each cell and headline metric, a column for each target,
 * the best marked, and how many times as long (or as little) the others are.
 */
#include "daemon/bench/pivot.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/bench/figures.h"
#include "daemon/bench/html.h"
#include "daemon/bench/result.h"

enum { TARGETS_MAX = 12 };

/* What a reader wants first; everything else stands in the long table. */
static const char *const headline[] = {
    "fresh_p50_us", "opens_per_s", "write_p99_us", "store_p99_us", "seen_after_p50_us",
    "mb_s",         "per_s",       "ms",           "seconds",      NULL};

static json_t *same_cell(json_t *cells, json_t *like, const char *target)
{
    json_t *c;
    size_t i;

    json_array_foreach(cells, i, c)
    {
        if (strcmp(text_at(c, "target"), target) == 0 &&
            json_equal(json_object_get(c, "parameters"), json_object_get(like, "parameters")))
            return c;
    }
    return NULL;
}

static bool was_before(json_t *cells, size_t end, json_t *like)
{
    json_t *c;
    size_t i;

    json_array_foreach(cells, i, c)
    {
        if (i == end)
            return false;
        if (json_equal(json_object_get(c, "parameters"), json_object_get(like, "parameters")))
            return true;
    }
    return false;
}

/* The medians of `row`, a cell of each target or NULL; 0 where it was not measured. How many were.
 */
static unsigned medians(json_t *row[], size_t n, const char *metric, double *out,
                        bool *more_is_better, const char **unit)
{
    unsigned found = 0;

    for (size_t t = 0; t < n; t++) {
        json_t *m = metric_at(row[t], metric);
        out[t] = number_at(m, "median");
        if (!m || out[t] <= 0)
            continue;
        found++;
        *more_is_better = strcmp(text_at(m, "better"), "more") == 0;
        *unit = text_at(m, "unit");
    }
    return found;
}

static void write_row(FILE *f, json_t *like, const char *metric, const char *unit, size_t n,
                      const double *v, bool more_is_better)
{
    char params[256], figure[32];
    double best = 0;

    for (size_t t = 0; t < n; t++)
        if (v[t] > 0 && (best == 0 || (more_is_better ? v[t] > best : v[t] < best)))
            best = v[t];
    cell_params_text(like, params, sizeof params);
    fputs("<tr class=\"first\"><td>", f);
    html_text(f, params);
    fputs("</td><td class=\"quiet\">", f);
    html_text(f, metric);
    fputs("</td><td class=\"quiet\">", f);
    html_text(f, unit);
    fputs("</td>", f);
    for (size_t t = 0; t < n; t++) {
        if (v[t] <= 0) {
            fputs("<td class=\"n quiet\">–</td>", f);
            continue;
        }
        double worse = more_is_better ? best / v[t] : v[t] / best;
        fprintf(f, "<td class=\"n %s\">%s",
                worse <= 1.05 ? "best"
                : worse > 3   ? "bad"
                              : "",
                html_figure(v[t], figure));
        if (worse > 1.05)
            fprintf(f, " <span>×%.*f</span>", worse < 9.95 ? 1 : 0, worse);
        fputs("</td>", f);
    }
    fputs("</tr>\n", f);
}

void pivot_write(FILE *f, json_t *merged, const char *benchmark)
{
    json_t *cells = figure_cells(merged, benchmark), *c;
    const char *targets[TARGETS_MAX], *unit = "";
    json_t *row[TARGETS_MAX];
    size_t n = figure_targets(cells, targets, TARGETS_MAX), i, rows = 0;
    double v[TARGETS_MAX];
    bool more = false;

    json_array_foreach(cells, i, c)
    {
        if (n < 2 || was_before(cells, i, c))
            continue;
        for (size_t t = 0; t < n; t++)
            row[t] = same_cell(cells, c, targets[t]);
        for (size_t k = 0; headline[k]; k++) {
            if (medians(row, n, headline[k], v, &more, &unit) < 2)
                continue;
            if (!rows++) {
                fputs("<details open><summary>Side by side</summary>\n<div class=\"wide\"><table "
                      "class=\"pivot\"><thead><tr><th>cell</th><th>metric</th><th></th>",
                      f);
                for (size_t t = 0; t < n; t++) {
                    fputs("<th class=\"n\">", f);
                    html_text(f, targets[t]);
                    fputs("</th>", f);
                }
                fputs("</tr></thead>\n<tbody>\n", f);
            }
            write_row(f, c, headline[k], unit, n, v, more);
        }
    }
    if (rows)
        fputs("</tbody></table></div>\n<p class=\"lead\">Medians. Green: the best, or within 5 per "
              "cent "
              "of it; ×: how many times worse than the best.</p></details>\n",
              f);
    json_decref(cells);
}
