// SPDX-License-Identifier: Apache-2.0
/* The figures of `bench peers`: ours against each other client; see figures.c. */
#include "daemon/bench/figures.h"

#include <errno.h>
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
static void write_aims(FILE *f, json_t *merged, bool synchronous)
{
    char ours[AIM_TEXT], theirs[AIM_TEXT], ratio[AIM_TEXT], wanted[AIM_TEXT];
    json_t *a;
    size_t i;

    if (!aims_count(merged, synchronous, NULL))
        return;
    fprintf(f,
            "<figure class=\"full\" style=\"color:#1c2430\"><h3>%s</h3><table><thead><tr>"
            "<th>where</th><th>work</th><th>ours</th><th></th><th>against</th><th></th>"
            "<th>ratio</th><th>aim</th><th></th></tr></thead><tbody>\n",
            synchronous ? "What ours is to reach against the client that waits for each call"
                        : "What ours is to reach");
    json_array_foreach(json_object_get(merged, "aims"), i, a)
    {
        const char *verdict = text_at(a, "verdict");

        if (aim_is_synchronous(a) != synchronous)
            continue;
        fprintf(f, "<tr><td>%s</td><td>", text_at(a, "place"));
        html_text(f, text_at(a, "work"));
        if (*text_at(a, "note"))
            fputs(", ", f);
        html_text(f, text_at(a, "note"));
        fprintf(f, "</td><td class=\"n\">%s</td><td>",
                aim_spread(json_object_get(a, "ours"), ours));
        html_text(f, text_at(a, "unit"));
        fputs("</td><td>", f);
        html_text(f, text_at(a, "against"));
        fprintf(f, "</td><td class=\"n\">%s</td><td class=\"n\">%s</td><td>%s</td>",
                aim_spread(json_object_get(a, "theirs"), theirs),
                aim_spread(json_object_get(a, "ratio"), ratio), aim_wanted(a, wanted));
        fprintf(f, "<td class=\"%s\" title=\"", strcmp(verdict, "missed") == 0 ? "bad" : "");
        html_text(f, text_at(a, "why"));
        fprintf(f, "\">%s</td></tr>\n", verdict);
    }
    fprintf(f,
            "</tbody></table><figcaption>%zu of %zu met, %zu within noise. Medians and ranges; a "
            "ratio is taken within each repetition.</figcaption></figure>\n",
            aims_count(merged, synchronous, "met"), aims_count(merged, synchronous, NULL),
            aims_count(merged, synchronous, "within noise"));
}

/* The aims of a place as bars, each with a mark where it should be. What is judged by its value
 * alone has no place in it. */
static int write_aim_bars(FILE *f, json_t *merged, const char *place, bool synchronous,
                          const char *title)
{
    struct plot p = {.kind = PLOT_BARS,
                     .title = title,
                     .ylabel = "ratio",
                     .log_y = true,
                     .full = true,
                     .caption = "Ratios within repetitions, medians and ranges, on a logarithmic "
                                "scale. The mark is the aim: above it is better; below, where the "
                                "name says 'at most'."};
    json_t *a;
    size_t i;

    json_array_foreach(json_object_get(merged, "aims"), i, a)
    {
        json_t *ratio = json_object_get(a, "ratio");
        const char *sense = text_at(a, "sense");
        char label[96];

        if (!ratio || aim_is_synchronous(a) != synchronous || number_at(ratio, "median") <= 0 ||
            strcmp(text_at(a, "place"), place) != 0 || strcmp(sense, "value at most") == 0)
            continue;
        snprintf(label, sizeof label, "%s%s", text_at(a, "key"),
                 strcmp(sense, "at most") == 0 ? " (at most)" : "");

        size_t group = plot_group(&p, label);
        struct plot_series *aim = plot_series(&p, "aim");

        aim->is_limit = true;
        plot_add(aim, (double)group, number_at(a, "aim"), number_at(a, "aim"), number_at(a, "aim"));
        plot_add(plot_series(&p, "ours"), (double)group, number_at(ratio, "median"),
                 number_at(ratio, "min"), number_at(ratio, "max"));
    }
    return plot_write(f, &p);
}

static int write_all_aim_bars(FILE *f, json_t *merged)
{
    static const struct {
        const char *place;
        bool synchronous;
        const char *title;
    } all[] = {{"host", false, "Against the limits of this machine"},
               {"guest", false, "Against the kernel client"},
               {"host", true, "Against the synchronous client"}};
    int rc = 0;

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        int wrote = write_aim_bars(f, merged, all[i].place, all[i].synchronous, all[i].title);

        rc = rc ? rc : wrote;
    }
    return rc;
}

int peers_plots(json_t *all, const char *directory)
{
    FILE *nowhere = fopen("/dev/null", "we");
    int rc = nowhere ? 0 : -errno;

    if (rc == 0)
        rc = plot_save_to(directory);
    if (rc == 0)
        rc = write_all_aim_bars(nowhere, all);
    plot_save_to(NULL);
    if (nowhere)
        fclose(nowhere);
    return rc;
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

    peers_aims(merged);
    write_aims(f, merged, false);
    rc = write_all_aim_bars(f, merged);
    write_aims(f, merged, true);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        int wrote = write_one(f, merged, all[i][0], all[i][1], all[i][2]);

        rc = rc ? rc : wrote;
    }
    return rc;
}
