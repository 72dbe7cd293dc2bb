// SPDX-License-Identifier: Apache-2.0
/*
 * How far ours is from what it is to reach (aims.c): each line of that table becomes an object of
 * "aims" in the result, from which the text, the Markdown and the page are made.
 *
 * Where two figures are compared, the ratio is taken within each repetition, of which both were
 * part, and a line has the median and the range. Ratios are of goodness, above 1 ours is better;
 * where the aim is a cost, they are of cost. A median that misses the aim while a quarter of the
 * repetitions reached it (of two or three: one) says "within noise": more repetitions would tell.
 */
#include "daemon/bench/peers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bench/aims.h"
#include "daemon/bench/stats.h"

/* ---- figures --------------------------------------------------------------------------------- */

/* "TARGET|WORK": the target with its place, and the work. */
static bool split(const char *place, const char *figure, char target[96], const char **work)
{
    const char *bar = strchr(figure, '|');

    if (!bar)
        return false;
    snprintf(target, 96, "%s:%.*s", place, (int)(bar - figure), figure);
    *work = bar + 1;
    return true;
}

/* Word by word. With `without_metric` the last word of the pattern is missing from the text. */
static bool matches(const char *pattern, const char *text, bool without_metric)
{
    while (*pattern && *text) {
        size_t n = strcspn(pattern, " "), m = strcspn(text, " ");
        bool any = n == 1 && *pattern == '+' && !(m == 1 && *text == '0');

        if (!any && (n != m || strncmp(pattern, text, n) != 0))
            return false;
        pattern += n + (pattern[n] == ' ');
        text += m + (text[m] == ' ');
    }
    return !*text && (without_metric ? *pattern && !strchr(pattern, ' ') : !*pattern);
}

static json_t *find_metric(json_t *all, const char *place, const char *figure)
{
    char target[96], text[PEERS_WORK];
    const char *work;
    json_t *c, *m;
    size_t i, j;

    if (!figure || !split(place, figure, target, &work))
        return NULL;
    json_array_foreach(json_object_get(all, "cells"), i, c)
    {
        if (strcmp(text_at(c, "target"), target) != 0)
            continue;
        json_array_foreach(json_object_get(c, "metrics"), j, m)
        {
            peers_work(c, m, text);
            if (matches(work, text, false))
                return m;
        }
    }
    return NULL;
}

/* Why a figure is not there: its cell said so, or it was never run. */
static const char *why_not(json_t *all, const char *place, const char *figure)
{
    char target[96], text[PEERS_WORK];
    const char *work;
    json_t *c;
    size_t i;

    if (!figure || !split(place, figure, target, &work))
        return "";
    json_array_foreach(json_object_get(all, "cells"), i, c)
    {
        json_t *nameless = json_pack("{s:s}", "name", "");

        peers_work(c, nameless, text);
        json_decref(nameless);
        if (strcmp(text_at(c, "target"), target) == 0 && matches(work, text, true))
            return *text_at(c, "skipped")  ? text_at(c, "skipped")
                   : *text_at(c, "failed") ? text_at(c, "failed")
                                           : "no repetition was finished";
    }
    return "not part of this run";
}

/* ---- a line ---------------------------------------------------------------------------------- */

static json_t *spread_json(const double *v, size_t n)
{
    struct summary s = stats_summary(v, n);
    json_t *samples = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(samples, json_real(v[i]));
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:o}", "median", s.median, "min", s.min, "max",
                     s.max, "q1", s.q1, "q3", s.q3, "samples", samples);
}

static const char *verdict(const struct aim *a, const double *v, size_t n)
{
    struct summary s = stats_summary(v, n);
    bool least = a->sense == AIM_LEAST;

    if (least ? s.median >= a->aim : s.median <= a->aim)
        return "met";

    double high = n < 4 ? s.max : s.q3, low = n < 4 ? s.min : s.q1;

    if (n > 1 && (least ? high >= a->aim : low <= a->aim))
        return "within noise";
    return "missed";
}

/* In place of our figures the ratios; how many. */
static size_t ratios(const struct aim *a, double *ours, size_t n, const double *theirs, size_t m)
{
    bool ours_by_theirs = a->sense == AIM_MOST ? !a->more_is_better : a->more_is_better;
    size_t k = 0;

    for (size_t i = 0; i < n && i < m; i++) {
        double up = ours_by_theirs ? ours[i] : theirs[i];
        double down = ours_by_theirs ? theirs[i] : ours[i];

        if (down > 0)
            ours[k++] = up / down;
    }
    return k;
}

/* The sum of what was counted in all cells: one value. */
static bool sum_line(json_t *all, const struct aim *a, json_t *line)
{
    char target[96];
    const char *work;
    double sum;

    if (!split(a->place, a->ours, target, &work) || strncmp(work, "sum ", 4) != 0)
        return false;
    sum = peers_sum(all, target, work + 4);
    if (sum < 0) {
        json_object_set_new(line, "verdict", json_string("not measured"));
        json_object_set_new(line, "why", json_string("not part of this run"));
        return true;
    }
    json_object_set_new(line, "unit", json_string("count"));
    json_object_set_new(line, "ours", spread_json(&sum, 1));
    json_object_set_new(line, "ratio", spread_json(&sum, 1));
    json_object_set_new(line, "verdict", json_string(verdict(a, &sum, 1)));
    return true;
}

static void fill_line(json_t *all, const struct aim *a, json_t *line)
{
    json_t *ours = find_metric(all, a->place, a->ours);
    json_t *theirs = find_metric(all, a->place, a->theirs);
    size_t n, m = 0, k;
    double *v = samples_of(ours, &n), *w = theirs ? samples_of(theirs, &m) : NULL;

    if (ours && v && n) {
        json_object_set_new(line, "unit", json_string(text_at(ours, "unit")));
        json_object_set_new(line, "ours", spread_json(v, n));
    }
    if (theirs && w && m)
        json_object_set_new(line, "theirs", spread_json(w, m));
    k = !v ? 0 : a->theirs ? (w ? ratios(a, v, n, w, m) : 0) : n;
    if (k) {
        json_object_set_new(line, "ratio", spread_json(v, k));
        json_object_set_new(line, "verdict", json_string(verdict(a, v, k)));
    } else {
        bool missing = !ours || !n;

        json_object_set_new(line, "verdict", json_string("not measured"));
        json_object_set_new(line, "why",
                            json_string(why_not(all, a->place, missing ? a->ours : a->theirs)));
    }
    free(v);
    free(w);
}

static bool place_measured(json_t *all, const char *place)
{
    json_t *c;
    size_t i, n = strlen(place);

    json_array_foreach(json_object_get(all, "cells"), i, c)
    {
        if (strncmp(text_at(c, "target"), place, n) == 0 && text_at(c, "target")[n] == ':')
            return true;
    }
    return false;
}

void peers_aims(json_t *all)
{
    static const char *const senses[] = {"at least", "at most", "value at most"};
    json_t *list = json_array();

    for (const struct aim *a = aims; a->place; a++) {
        if (!place_measured(all, a->place))
            continue;

        json_t *line = json_pack("{s:s, s:s, s:s, s:s, s:f, s:s, s:s}", "place", a->place, "key",
                                 a->key, "work", a->work, "against", a->against, "aim", a->aim,
                                 "sense", senses[a->sense], "note", a->note ? a->note : "");

        if (!sum_line(all, a, line))
            fill_line(all, a, line);
        json_array_append_new(list, line);
    }
    json_object_set_new(all, "aims", list);
}
