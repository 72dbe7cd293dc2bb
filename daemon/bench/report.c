// SPDX-License-Identifier: Apache-2.0
/*
 * The page: one HTML file with everything in it (style, figures as SVG, every figure's numbers as a
 * table), to be read without scripts, without a network, and on paper.
 *
 *     report_write()   merges the results, writes head, tiles, figures (figures.c), tables, machine
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bench/figures.h"
#include "daemon/bench/html.h"
#include "daemon/bench/pivot.h"
#include "daemon/bench/result.h"
#include "daemon/verbs.h"

void html_text(FILE *f, const char *s)
{
    for (; *s; s++) {
        switch (*s) {
        case '&':
            fputs("&amp;", f);
            break;
        case '<':
            fputs("&lt;", f);
            break;
        case '>':
            fputs("&gt;", f);
            break;
        case '"':
            fputs("&quot;", f);
            break;
        default:
            fputc(*s, f);
        }
    }
}

const char *html_figure(double v, char text[32])
{
    double a = v < 0 ? -v : v;

    if (a == (double)(long)a && a < 1e6)
        snprintf(text, 32, "%.0f", v);
    else if (a >= 1e6)
        snprintf(text, 32, "%.4g", v);
    else
        snprintf(text, 32, a >= 100 ? "%.0f" : a >= 10 ? "%.1f" : "%.2f", v);
    return text;
}

/* ---- the parts of the page --------------------------------------------------------------------
 */

static const struct {
    const char *benchmark, *title, *what;
} chapters[] = {
    {"peers", "Against other clients",
     "The same work by each, on one server. In the guest a system call takes about 3, a change of "
     "threads 1.6, and a copy 9 times as long as on a real machine, for all of them: ratios hold, "
     "times do not."},
    {"revalidate", "Revalidation",
     "What it costs to notice that a file was changed elsewhere, to drop what is stale, and what a "
     "writer feels meanwhile."},
    {"io", "Reading and writing", "From every cache, in every way."},
    {"meta", "Names, attributes, directories",
     "Storms of small operations, and programs that make them."},
    {"scale", "Scale",
     "How cost grows as work grows: each part on a server and mounts of its own, on this machine."},
    {"cache", "The page cache alone", "In one process, without a mount."},
    {"limits", "Limits", "What the machine and the server do with nothing in between."},
    {0},
};

static bool has_benchmark(json_t *cells, const char *benchmark)
{
    json_t *c;
    size_t i;

    json_array_foreach(cells, i, c)
    {
        if (strcmp(text_at(c, "benchmark"), benchmark) == 0)
            return true;
    }
    return false;
}

static void write_tile(FILE *f, const char *value, const char *what, const char *class)
{
    fprintf(f, "<div class=\"tile %s\"><b>%s</b><span>%s</span></div>\n", class, value, what);
}

static double median_noise(json_t *merged)
{
    double noise[4096];
    size_t i, j, n = 0;
    json_t *c, *m;

    json_array_foreach(json_object_get(merged, "cells"), i, c)
    {
        json_array_foreach(json_object_get(c, "metrics"), j, m)
        {
            const char *better = text_at(m, "better");
            if (n < 4096 && (*better == 'l' || *better == 'm') &&
                json_array_size(json_object_get(m, "samples")) > 1)
                noise[n++] = number_at(m, "noise");
        }
    }
    if (!n)
        return -1;
    for (i = 1; i < n; i++)
        for (j = i; j > 0 && noise[j - 1] > noise[j]; j--) {
            double t = noise[j];
            noise[j] = noise[j - 1];
            noise[j - 1] = t;
        }
    return noise[n / 2];
}

/* One for each target: whose writes were lost must not be guessed. */
static void write_lost_tiles(FILE *f, json_t *merged)
{
    json_t *cells = json_object_get(merged, "cells"), *c, *m, *v;
    const char *targets[24];
    size_t n = figure_targets(cells, targets, 24), i, k;
    char value[32];

    for (size_t t = 0; t < n; t++) {
        double lost = 0;
        bool counted = false;
        json_array_foreach(cells, i, c)
        {
            if (strcmp(text_at(c, "target"), targets[t]) != 0 || !(m = metric_at(c, "lost_writes")))
                continue;
            counted = true;
            json_array_foreach(json_object_get(m, "samples"), k, v)
            {
                lost += json_number_value(v);
            }
        }
        if (!counted)
            continue;
        fprintf(f, "<div class=\"tile %s\"><b>%s</b><span>lost writes, ", lost > 0 ? "bad" : "good",
                html_figure(lost, value));
        html_text(f, targets[t]);
        fputs("</span></div>\n", f);
    }
}

static void write_tiles(FILE *f, json_t *merged)
{
    size_t i, cells = json_array_size(json_object_get(merged, "cells")), skipped = 0;
    double noise = median_noise(merged);
    char value[32];
    json_t *c;

    json_array_foreach(json_object_get(merged, "cells"), i, c)
    {
        skipped += *text_at(c, "skipped") != 0;
    }
    fputs("<div class=\"tiles\">\n", f);
    write_lost_tiles(f, merged);
    snprintf(value, sizeof value, "%zu", cells);
    write_tile(f, value, "cells of the matrix", "");
    if (skipped) {
        snprintf(value, sizeof value, "%zu", skipped);
        write_tile(f, value, "skipped", "");
    }
    size_t failed = result_failed(merged);
    if (failed) {
        snprintf(value, sizeof value, "%zu", failed);
        write_tile(f, value, "failed", "bad");
    }
    if (noise >= 0) {
        snprintf(value, sizeof value, "%.0f %%", 100 * noise);
        write_tile(f, value, "typical noise", noise > 0.2 ? "bad" : "");
    }
    fputs("</div>\n", f);
}

static void write_metric_row(FILE *f, json_t *merged, json_t *cell, json_t *m)
{
    char a[32], b[32], d[32];
    double limit = limit_of(merged, cell, text_at(m, "name"));
    bool finding = strcmp(text_at(m, "better"), "zero") == 0 && number_at(m, "max") > 0;

    fprintf(f, "<td class=\"%s\">", finding ? "bad" : "");
    html_text(f, text_at(m, "name"));
    fprintf(f, "</td><td class=\"n\">%s</td><td>", html_figure(number_at(m, "median"), a));
    html_text(f, text_at(m, "unit"));
    fprintf(f, "</td><td class=\"n\">%s … %s</td><td class=\"n\">%.0f %%</td><td class=\"n\">",
            html_figure(number_at(m, "q1"), b), html_figure(number_at(m, "q3"), d),
            100 * number_at(m, "noise"));
    if (limit > 0)
        fprintf(f, "%.2f", number_at(m, "median") / limit);
    fputs("</td></tr>\n", f);
}

static void write_table(FILE *f, json_t *merged, const char *benchmark)
{
    size_t i, j;
    json_t *c, *m;
    char params[256];

    fputs("<details><summary>All figures</summary>\n<div class=\"wide\"><table>\n<thead><tr>"
          "<th>target</th><th>cell</th><th>metric</th><th>median</th><th></th><th>quartiles</th>"
          "<th>noise</th><th>of its limit</th></tr></thead>\n<tbody>\n",
          f);
    json_array_foreach(json_object_get(merged, "cells"), i, c)
    {
        size_t rows = json_array_size(json_object_get(c, "metrics"));
        const char *why = *text_at(c, "failed") ? text_at(c, "failed") : text_at(c, "skipped");
        if (strcmp(text_at(c, "benchmark"), benchmark) != 0)
            continue;
        cell_params_text(c, params, sizeof params);
        fprintf(f, "<tr class=\"first\"><td rowspan=\"%zu\">", rows + (*why || !rows));
        html_text(f, text_at(c, "target"));
        fprintf(f, "</td><td rowspan=\"%zu\">", rows + (*why || !rows));
        html_text(f, params);
        fputs("</td>", f);
        if (*why || !rows) {
            fprintf(f, "<td colspan=\"6\" class=\"%s\">%s", *text_at(c, "failed") ? "bad" : "quiet",
                    *text_at(c, "failed") ? "failed: " : "");
            html_text(f, *why ? why : "nothing measured");
            fputs("</td></tr>\n", f);
        }
        json_array_foreach(json_object_get(c, "metrics"), j, m)
        {
            if (j || *why)
                fputs("<tr>", f);
            write_metric_row(f, merged, c, m);
        }
    }
    fputs("</tbody></table></div></details>\n", f);
}

static void write_command(FILE *f, json_t *result)
{
    json_t *word;
    size_t i;

    fputs("<pre>", f);
    json_array_foreach(json_object_get(result, "command"), i, word)
    {
        if (i)
            fputc(' ', f);
        html_text(f, json_string_value(word) ? json_string_value(word) : "?");
    }
    fputs("</pre>\n", f);
}

static void write_run(FILE *f, json_t *result)
{
    json_t *machine = json_object_get(result, "machine"), *value, *t;
    const char *key;
    size_t i;

    write_command(f, result);
    fprintf(
        f,
        "<p>%s; %d repetitions after %d to warm up, in random order by seed %lld; %.0f seconds%s."
        "</p>\n<dl>\n",
        text_at(result, "finished"), (int)number_at(result, "repetitions"),
        (int)number_at(result, "warm_up"),
        (long long)json_integer_value(json_object_get(result, "seed")),
        number_at(result, "seconds"),
        json_is_true(json_object_get(result, "interrupted")) ? "; interrupted" : "");
    json_array_foreach(json_object_get(result, "targets"), i, t)
    {
        fputs("<dt>target ", f);
        html_text(f, text_at(t, "name"));
        fputs("</dt><dd>", f);
        html_text(f, text_at(t, "what"));
        fputs("</dd>\n", f);
    }
    json_object_foreach(machine, key, value)
    {
        char number[32];
        const char *text = json_is_number(value) ? html_figure(json_number_value(value), number)
                                                 : json_string_value(value);
        if (!text || !*text)
            continue;
        fputs("<dt>", f);
        html_text(f, key);
        fputs("</dt><dd>", f);
        html_text(f, text);
        fputs("</dd>\n", f);
    }
    fputs("</dl>\n", f);
}

/* All cells in one object; the rest stays with each result. */
static json_t *merge(json_t *results)
{
    json_t *merged = json_object(), *cells = json_array(), *r;
    size_t i;

    json_array_foreach(results, i, r)
    {
        json_array_extend(cells, json_object_get(r, "cells"));
    }
    json_object_set_new(merged, "cells", cells);
    return merged;
}

static int write_page(FILE *f, json_t *results, json_t *merged)
{
    json_t *first = json_array_get(results, 0), *r;
    size_t i;
    int rc = 0;

    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<title>nfscached bench</title>\n<style>\n",
          f);
    fputs(html_style, f);
    fputs("</style>\n</head>\n<body>\n<header><h1>nfscached bench</h1>\n<p>", f);
    html_text(f, text_at(json_object_get(first, "machine"), "cpu"));
    fprintf(f, ", %d CPUs, ", (int)number_at(json_object_get(first, "machine"), "cpus"));
    html_text(f, text_at(json_object_get(first, "machine"), "kernel"));
    fprintf(f, ", %.10s</p></header>\n<main>\n", text_at(first, "finished"));
    write_tiles(f, merged);
    for (i = 0; rc == 0 && chapters[i].benchmark; i++) {
        if (!has_benchmark(json_object_get(merged, "cells"), chapters[i].benchmark))
            continue;
        fprintf(f, "<section>\n<h2>%s</h2>\n<p class=\"lead\">%s</p>\n", chapters[i].title,
                chapters[i].what);
        rc = figures_write(f, merged, chapters[i].benchmark);
        pivot_write(f, merged, chapters[i].benchmark);
        write_table(f, merged, chapters[i].benchmark);
        fputs("</section>\n", f);
    }
    fputs("<section>\n<h2>How it was measured</h2>\n", f);
    json_array_foreach(results, i, r)
    {
        write_run(f, r);
    }
    fputs("<p>A bar or a point is the median of the repetitions, a whisker spans the quartiles. "
          "<i>Noise</i> is the distance of the quartiles as a part of the median: two figures that "
          "differ by less are not shown to differ.</p>\n</section>\n</main>\n</body>\n</html>\n",
          f);
    return rc;
}

int report_write(json_t *results, const char *path)
{
    json_t *merged = merge(results);
    int rc = figures_check();

    if (rc < 0) {
        json_decref(merged);
        return rc;
    }
    /* Whole or not at all: a page that lacks its end looks like a result. */
    char *new_path = NULL;
    if (asprintf(&new_path, "%s.new", path) < 0)
        new_path = NULL;
    FILE *f = new_path ? fopen(new_path, "we") : NULL;
    if (!f) {
        rc = -errno;
        bench_fail(0, "--report=%s: %s", path, strerror(-rc));
    } else {
        rc = write_page(f, results, merged);
        if ((ferror(f) | fclose(f)) || (rc == 0 && rename(new_path, path) < 0)) {
            rc = rc ? rc : -(errno ? errno : EIO);
            bench_fail(0, "--report=%s: %s", path, strerror(-rc));
        }
        if (rc < 0)
            remove(new_path);
    }
    free(new_path);
    json_decref(merged);
    return rc;
}

/* ---- the verb -------------------------------------------------------------------------------- */

int bench_report(int argc, const char **argv)
{
    const struct poptOption table[] = {POPT_AUTOHELP POPT_TABLEEND};
    int status = BENCH_OK;

    poptContext context = verb_options(argc, argv, table, "PAGE.html RESULT.json...");
    if (!context)
        return BENCH_USAGE;
    const char *page = poptGetArg(context), *path = poptGetArg(context);
    json_t *results = json_array();
    if (!page || !path)
        status = bench_fail(BENCH_USAGE, "report: which page, of which results? (files of --json)");
    for (; status == BENCH_OK && path; path = poptGetArg(context)) {
        json_t *r = result_load(path);
        if (r)
            json_array_append_new(results, r);
        else
            status = BENCH_USAGE;
    }
    if (status == BENCH_OK && report_write(results, page) < 0)
        status = BENCH_FAILED;
    json_decref(results);
    poptFreeContext(context);
    return status;
}
