// SPDX-License-Identifier: Apache-2.0
/* The figures of `bench peers`: ours against each other client; see figures.c. */
#include "daemon/bench/figures.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/bench/html.h"
#include "daemon/bench/peers.h"
#include "daemon/bench/plot.h"

/* A local file system is out of reach for all, and out of scale; a stale open is quick. The table
 * has them all. */
static bool drawn(const char *target, const char *work)
{
    return strcmp(target, "local") != 0 && !strstr(work, " open_p50_us");
}

/* Without the metric, the last word. */
static void short_label(const char *work, char label[96])
{
    char *last;

    snprintf(label, 96, "%s", work);
    last = strrchr(label, ' ');
    if (last)
        *last = 0;
}

/* The bars of a place; `part`: the first word of the work, which benchmark it is of. */
static int write_one(FILE *f, json_t *merged, const char *place, const char *part,
                     const char *title)
{
    struct plot p = {
        .kind = PLOT_BARS,
        .title = title,
        .ylabel = "times as good",
        .log_y = true,
        .full = true,
        .caption = "Ours against each other client, and against what the machine could do at best, "
                   "within the same run. Above 1 ours is better. A logarithmic scale."};
    size_t i, n = strlen(place), k = strlen(part);
    json_t *c, *m;

    json_array_foreach(json_object_get(merged, "cells"), i, c)
    {
        const char *target = text_at(c, "target"), *work = param_at(c, "work");
        char label[96];

        if (strcmp(text_at(c, "benchmark"), "peers") != 0 || strncmp(target, place, n) != 0 ||
            target[n] != ':' || strncmp(work, part, k) != 0 || work[k] != ' ' ||
            !(m = metric_at(c, "ratio")) || !drawn(target + n + 1, work))
            continue;
        short_label(work + k + 1, label);

        size_t group = plot_group(&p, label);
        struct plot_series *same = plot_series(&p, "the same");

        same->is_limit = true;
        if (same->n <= group)
            plot_add(same, (double)group, 1, 1, 1);
        plot_add(plot_series(&p, target + n + 1), (double)group, number_at(m, "median"),
                 number_at(m, "q1"), number_at(m, "q3"));
    }
    return plot_write(f, &p);
}

/* Figures are on white, whatever the page is. */
static void write_aims(FILE *f, json_t *merged)
{
    size_t i, met = 0;
    json_t *a;
    char text[32];

    peers_aims(merged);

    json_t *list = json_object_get(merged, "aims");

    if (!json_array_size(list))
        return;
    json_array_foreach(list, i, a) met += json_is_true(json_object_get(a, "met"));
    fprintf(
        f,
        "<figure class=\"full\" "
        "style=\"color:#1c2430\"><table><thead><tr><th>where</th><th>work</th>"
        "<th>against</th><th>times as good</th><th>at least</th><th></th></tr></thead><tbody>\n");
    json_array_foreach(list, i, a)
    {
        bool good = json_is_true(json_object_get(a, "met"));

        fprintf(f, "<tr><td>%s</td><td>", text_at(a, "place"));
        html_text(f, text_at(a, "work"));
        fputs("</td><td>", f);
        html_text(f, text_at(a, "against"));
        fprintf(f, "</td><td class=\"n\">%s</td>", html_figure(number_at(a, "ratio"), text));
        fprintf(f, "<td class=\"n\">%s</td><td class=\"%s\">%s</td></tr>\n",
                html_figure(number_at(a, "least"), text), good ? "" : "bad",
                good ? "met" : "missed");
    }
    fprintf(f,
            "</tbody></table><figcaption>What ours is to reach: %zu of %zu "
            "met.</figcaption></figure>\n",
            met, json_array_size(list));
}

int figures_peers(FILE *f, json_t *merged)
{
    static const char *const all[][3] = {
        {"guest", "io", "In the guest: reading and writing"},
        {"guest", "meta", "In the guest: names and attributes"},
        {"guest", "revalidate", "In the guest: revalidation"},
        {"host", "io", "On this machine: reading and writing"},
        {"host", "meta", "On this machine: names and attributes"},
        {"host", "revalidate", "On this machine: revalidation"},
    };
    int rc = 0;

    write_aims(f, merged);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        int wrote = write_one(f, merged, all[i][0], all[i][1], all[i][2]);

        rc = rc ? rc : wrote;
    }
    return rc;
}
