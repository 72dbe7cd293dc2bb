// SPDX-License-Identifier: Apache-2.0
/*
 * The figures of `bench revalidate`: what was lost or stale, as a grid; cost against pages; what
 * writers feel; how old what a mapping shows is; opens of unchanged files.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/bench/figures.h"
#include "daemon/bench/html.h"
#include "daemon/bench/plot.h"
#include "daemon/bench/result.h"
#include "daemon/bench/reval.h"

enum { TARGETS_MAX = 12 };

static bool is(json_t *cell, const char *param, const char *value)
{
    return strcmp(param_at(cell, param), value) == 0;
}

static double pages_of(json_t *cell)
{
    return strtod(param_at(cell, "pages"), NULL);
}

/* ---- the grid -------------------------------------------------------------------------------- */

static double sum_of(json_t *cell, const char *metric)
{
    double sum = 0;
    json_t *v;
    size_t i;

    json_array_foreach(json_object_get(metric_at(cell, metric), "samples"), i, v)
    {
        sum += json_number_value(v);
    }
    return sum;
}

struct sums {
    size_t cells;
    double lost, lost_foreign, stale;
};

static struct sums sums_of(json_t *cells, const char *target, const char *state, const char *change)
{
    struct sums s = {0};
    json_t *c;
    size_t i;

    json_array_foreach(cells, i, c)
    {
        if (strcmp(text_at(c, "target"), target) != 0 || !is(c, "part", "matrix") ||
            !is(c, "state", state) || !is(c, "change", change))
            continue;
        s.cells++;
        s.lost += sum_of(c, "lost_writes");
        s.lost_foreign += sum_of(c, "lost_foreign");
        s.stale += sum_of(c, "stale_opens");
    }
    return s;
}

static void write_sums(FILE *f, const struct sums *s)
{
    const char *sep = "";

    if (s->cells == 0) {
        fputs("<td class=\"quiet\">–</td>", f);
        return;
    }
    if (s->lost + s->lost_foreign + s->stale == 0) {
        fputs("<td class=\"fine\">✓</td>", f);
        return;
    }
    fputs("<td class=\"broken\">", f);
    if (s->lost > 0) {
        fprintf(f, "<b>%.0f lost</b>", s->lost);
        sep = "<br>";
    }
    if (s->lost_foreign > 0) {
        fprintf(f, "%s%.0f of others lost", sep, s->lost_foreign);
        sep = "<br>";
    }
    if (s->stale > 0)
        fprintf(f, "%s%.0f stale", sep, s->stale);
    fputs("</td>", f);
}

static void write_grid(FILE *f, json_t *cells, const char *target)
{
    fputs("<figure class=\"plain\">\n<h3>", f);
    html_text(f, target);
    fputs("</h3>\n<div class=\"wide\"><table class=\"grid\">\n<thead><tr><th></th>", f);
    for (size_t k = 0; rv_change_names[k]; k++)
        fprintf(f, "<th>%s</th>", rv_change_names[k]);
    fputs("</tr></thead>\n<tbody>\n", f);
    for (size_t s = 0; rv_state_names[s]; s++) {
        fprintf(f, "<tr><th>%s</th>", rv_state_names[s]);
        for (size_t k = 0; rv_change_names[k]; k++) {
            struct sums sums = sums_of(cells, target, rv_state_names[s], rv_change_names[k]);
            write_sums(f, &sums);
        }
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n<figcaption>State of the cached pages, and the change made "
          "elsewhere. ✓: nothing lost, nothing stale. Lost: writes or stores of this side that "
          "were not "
          "there in the end. Of others lost: pages where what the other side wrote was gone. "
          "Stale: opens that showed the old content.</figcaption></figure>\n",
          f);
}

/* ---- cost against pages -----------------------------------------------------------------------
 */

struct cost {
    const char *metric, *state, *change; /* state or change NULL: a line for each */
    const char *title, *ylabel, *caption;
    bool log_y;
};

static bool belongs(json_t *c, const struct cost *k)
{
    return is(c, "part", "matrix") && (!k->state || is(c, "state", k->state)) &&
           (!k->change || is(c, "change", k->change));
}

static int write_cost(FILE *f, json_t *cells, const struct cost *k, size_t targets)
{
    struct plot p = {.kind = PLOT_LINES,
                     .title = k->title,
                     .xlabel = "pages cached",
                     .ylabel = k->ylabel,
                     .log_x = true,
                     .log_y = k->log_y,
                     .zero_is_left = true,
                     .caption = k->caption};
    char series[96];
    json_t *c;
    size_t i;

    json_array_foreach(cells, i, c)
    {
        const char *line = !k->state    ? param_at(c, "state")
                           : !k->change ? param_at(c, "change")
                                        : "";
        if (!belongs(c, k))
            continue;
        if (targets > 1)
            snprintf(series, sizeof series, "%s%s%s", text_at(c, "target"), *line ? ", " : "",
                     line);
        else
            snprintf(series, sizeof series, "%s", *line ? line : text_at(c, "target"));
        figure_add(&p, series, pages_of(c), c, k->metric);
    }
    return plot_write(f, &p);
}

static const char waits[] = "From open() until a read gives the new content. Both scales are "
                            "logarithmic; whiskers span the quartiles.";

static const struct cost one_target[] = {
    {"fresh_p50_us", "clean", NULL, "Clean pages: until the first fresh byte", "µs", waits, true},
    {"fresh_p50_us", "mapped", NULL, "Mapped pages: until the first fresh byte", "µs", waits, true},
    {"fresh_p50_us", "dirty-write", NULL, "Pages dirty by write(): until the first fresh byte",
     "µs", waits, true},
    {"fresh_p50_us", "dirty-mapped", NULL, "Pages dirty by mapping: until the first fresh byte",
     "µs", waits, true},
    {"fresh_p50_us", "writer", NULL, "While a writer goes on: until the first fresh byte", "µs",
     waits, true},
    {"open_p50_us", NULL, "none", "open() of an unchanged file", "µs",
     "Flat is good: what is cached should cost nothing.", true},
    {"fetched_again", "clean", NULL, "Fetched again to read the whole file", "bytes",
     "What was still good need not be fetched.", false},
};

static const struct cost many_targets[] = {
    {"open_p50_us", "clean", "none", "open() of an unchanged file", "µs",
     "Flat is good: what is cached should cost nothing.", true},
    {"fresh_p50_us", "clean", "byte", "One byte changed: until the first fresh byte", "µs", waits,
     true},
    {"fresh_p50_us", "clean", "whole", "Everything changed: until the first fresh byte", "µs",
     waits, true},
    {"fresh_p50_us", "clean", "replaced", "Replaced by rename: until the first fresh byte", "µs",
     waits, true},
    {"fresh_p50_us", "mapped", "byte", "Mapped, one byte changed: until the first fresh byte", "µs",
     waits, true},
    {"fresh_p50_us", "dirty-write", "byte", "Dirty by write(), one byte changed elsewhere", "µs",
     waits, true},
    {"fresh_p50_us", "dirty-mapped", "byte", "Dirty by mapping, one byte changed elsewhere", "µs",
     waits, true},
    {"fresh_p50_us", "writer", "byte", "A writer goes on, one byte changed elsewhere", "µs", waits,
     true},
};

static int write_costs(FILE *f, json_t *cells, size_t targets)
{
    const struct cost *k = targets > 1 ? many_targets : one_target;
    size_t n = targets > 1 ? sizeof many_targets / sizeof *k : sizeof one_target / sizeof *k;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = write_cost(f, cells, &k[i], targets);
    return rc;
}

/* What one page more costs, where there are most. */
static int write_page_costs(FILE *f, json_t *cells, size_t targets)
{
    struct plot p = {.kind = PLOT_BARS,
                     .title = "What a cached page adds when the file changed",
                     .ylabel = "ns a page",
                     .full = true,
                     .caption =
                         "At the largest number of pages; the same of an unchanged file is taken "
                         "off. Less is better."};
    char group[96];
    double most = 0;
    json_t *c;
    size_t i;

    json_array_foreach(cells, i, c)
    {
        if (metric_at(c, "per_page_ns") && pages_of(c) > most)
            most = pages_of(c);
    }
    json_array_foreach(cells, i, c)
    {
        json_t *m = metric_at(c, "per_page_ns");
        if (!m || pages_of(c) != most || number_at(m, "median") <= 0 ||
            (targets > 1 && !is(c, "change", "byte") && !is(c, "change", "whole")))
            continue;
        snprintf(group, sizeof group, "%s%s%s", targets > 1 ? param_at(c, "change") : "",
                 targets > 1 ? ", " : "", param_at(c, "state"));
        figure_add_bar(&p, targets > 1 ? text_at(c, "target") : param_at(c, "change"), group, c,
                       "per_page_ns");
    }
    return plot_write(f, &p);
}

/* ---- writers, mappings, opens ------------------------------------------------------------------
 */

static int write_feelings(FILE *f, json_t *cells, size_t targets, const char *what,
                          const char *title)
{
    struct plot p = {
        .kind = PLOT_STEPS,
        .title = title,
        .xlabel = "µs",
        .ylabel = "part that took longer",
        .log_x = true,
        .log_y = true,
        .caption = "Left is better. Where the lines of a target lie on each other, the writer "
                   "does not feel the revalidation."};
    char series[96];
    json_t *c;
    size_t i;

    json_array_foreach(cells, i, c)
    {
        if (!is(c, "part", "writer"))
            continue;
        bool quiet = is(c, "revalidation", "off"), slow = !is(c, "server", "as-it-is");
        snprintf(series, sizeof series, "%s%s%s%s", targets > 1 ? text_at(c, "target") : "",
                 targets > 1 ? ", " : "", quiet ? "undisturbed" : "revalidated",
                 slow ? ", slow server" : "");
        figure_add_slower(&p, series, c, what);
    }
    return plot_write(f, &p);
}

static int write_ages(FILE *f, json_t *cells)
{
    struct plot p = {.kind = PLOT_STEPS,
                     .title = "How old is what a mapping shows?",
                     .xlabel = "seconds",
                     .ylabel = "age of what is seen, ms",
                     .full = true,
                     .caption =
                         "A program that maps a file and only reads memory, while the file is "
                         "changed elsewhere: a line climbs from a change until it is seen."};
    json_t *c, *curve, *point;
    size_t i, j, k;

    json_array_foreach(cells, i, c)
    {
        if (!is(c, "part", "staleness"))
            continue;
        json_array_foreach(json_object_get(c, "curves"), j, curve)
        {
            json_array_foreach(json_object_get(curve, "points"), k, point)
            {
                double x = json_number_value(json_array_get(point, 0));
                double y = json_number_value(json_array_get(point, 1));
                plot_add(plot_series(&p, text_at(c, "target")), x, y, y, y);
            }
        }
    }
    return plot_write(f, &p);
}

static int write_opens(FILE *f, json_t *cells)
{
    struct plot plots[] = {{.kind = PLOT_BARS,
                            .title = "Opens of unchanged files",
                            .ylabel = "per second",
                            .log_y = true,
                            .caption = "More is better. A logarithmic scale."},
                           {.kind = PLOT_BARS,
                            .title = "Until a mapping shows a change",
                            .ylabel = "ms",
                            .caption = "The median; less is better."}};
    char group[96];
    json_t *c, *m;
    size_t i;

    json_array_foreach(cells, i, c)
    {
        snprintf(group, sizeof group, "%s files", param_at(c, "files"));
        if (is(c, "part", "opens"))
            figure_add_bar(&plots[0], text_at(c, "target"), group, c, "opens_per_s");
        if (is(c, "part", "staleness") && (m = metric_at(c, "seen_after_p50_us")))
            plot_add(plot_series(&plots[1], "median"),
                     (double)plot_group(&plots[1], text_at(c, "target")),
                     number_at(m, "median") / 1e3, number_at(m, "q1") / 1e3,
                     number_at(m, "q3") / 1e3);
    }
    return figures_write_all(f, plots, 2);
}

int figures_revalidate(FILE *f, json_t *merged)
{
    json_t *cells = figure_cells(merged, "revalidate");
    const char *targets[TARGETS_MAX];
    size_t n = figure_targets(cells, targets, TARGETS_MAX);
    bool has_matrix = false;
    json_t *c;
    size_t i;

    json_array_foreach(cells, i, c)
    {
        has_matrix = has_matrix || is(c, "part", "matrix");
    }
    for (i = 0; has_matrix && i < n; i++)
        write_grid(f, cells, targets[i]);
    int rc = write_costs(f, cells, n);
    if (rc == 0)
        rc = write_page_costs(f, cells, n);
    if (rc == 0)
        rc = write_feelings(f, cells, n, "write", "What write() feels meanwhile");
    if (rc == 0)
        rc = write_feelings(f, cells, n, "store", "What a store into a mapping feels meanwhile");
    if (rc == 0)
        rc = write_ages(f, cells);
    if (rc == 0)
        rc = write_opens(f, cells);
    json_decref(cells);
    return rc;
}
