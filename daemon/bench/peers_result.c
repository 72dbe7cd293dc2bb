// SPDX-License-Identifier: Apache-2.0
/*
 * What is made of the results of `bench peers`: one result out of those of all places; and how ours
 * does against each other client and against its limit, as cells of the benchmark "peers", one for
 * each client and piece of work.
 *
 * A ratio above 1 says that ours is better, be it a time or a rate. Repetitions were interleaved
 * between the clients: the ratio is taken within each, so its spread is free of what disturbed them
 * all.
 */
#include "daemon/bench/peers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bench/stats.h"

/* ---- merging ------------------------------------------------------------------------------- */

static json_t *prefixed(const char *place, const char *name)
{
    return json_sprintf("%s:%s", place, name);
}

static bool has_target(json_t *targets, json_t *name)
{
    size_t i;
    json_t *t;

    json_array_foreach(targets, i, t)
    {
        if (json_equal(json_object_get(t, "name"), name))
            return true;
    }
    return false;
}

void peers_merge(json_t *all, json_t *part, const char *place, const char *note, const char *label)
{
    json_t *cells = json_object_get(all, "cells"), *targets = json_object_get(all, "targets");
    json_t *machines = json_object_get(all, "machines"), *c, *t;
    size_t i;

    if (!machines) {
        machines = json_object();
        json_object_set_new(all, "machines", machines);
    }
    if (!json_object_get(machines, place))
        json_object_set(machines, place, json_object_get(part, "machine"));
    /* Of all parts together: the fewest. One that was cut short with a whole repetition done counts
     * as finished. */
    if (!json_array_size(cells) || number_at(part, "repetitions") < number_at(all, "repetitions"))
        json_object_set(all, "repetitions", json_object_get(part, "repetitions"));
    json_object_set(all, "warm_up", json_object_get(part, "warm_up"));
    if (json_is_true(json_object_get(part, "interrupted")) && number_at(part, "repetitions") < 1)
        json_object_set_new(all, "interrupted", json_true());
    json_array_foreach(json_object_get(part, "targets"), i, t)
    {
        json_t *name = prefixed(place, text_at(t, "name"));

        if (!has_target(targets, name))
            json_array_append_new(targets,
                                  json_pack("{s:O, s:o}", "name", name, "what",
                                            json_sprintf("%s; %s", text_at(t, "what"), note)));
        json_decref(name);
    }
    json_array_foreach(json_object_get(part, "cells"), i, c)
    {
        json_t *copy = json_deep_copy(c), *limit = json_object_get(copy, "limit");

        json_object_set_new(copy, "target", prefixed(place, text_at(c, "target")));
        if (limit)
            json_object_set_new(limit, "target", prefixed(place, text_at(limit, "target")));
        if (*label)
            json_object_set_new(json_object_get(copy, "parameters"), "run", json_string(label));
        json_array_append_new(cells, copy);
    }
}

/* ---- ratios
 * -------------------------------------------------------------------------------------- */

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Tails are in the results, but too noisy to compare by. */
static bool comparable(json_t *metric)
{
    const char *name = text_at(metric, "name"), *better = text_at(metric, "better");

    return (strcmp(better, "less") == 0 || strcmp(better, "more") == 0) &&
           !ends_in(name, "_p99_us") && !ends_in(name, "_max_us") &&
           number_at(metric, "median") > 0;
}

/* 1048576 as 1M: what is 4 Ki or more, and whole. */
static void append_value(char *text, size_t size, const char *value)
{
    size_t n = strlen(text);
    char *end;
    unsigned long v = strtoul(value, &end, 10);

    if (*end || v < 4096 || v % 1024)
        snprintf(text + n, size - n, " %s", value);
    else if (v % (1 << 20))
        snprintf(text + n, size - n, " %luK", v >> 10);
    else
        snprintf(text + n, size - n, " %luM", v >> 20);
}

void peers_work(json_t *cell, json_t *metric, char text[PEERS_WORK])
{
    const char *key;
    json_t *value;

    snprintf(text, PEERS_WORK, "%s", text_at(cell, "benchmark"));
    json_object_foreach(json_object_get(cell, "parameters"), key, value)
    {
        /* All peers are measured in one mode. */
        if (strcmp(key, "mode") != 0 && json_is_string(value))
            append_value(text, PEERS_WORK, json_string_value(value));
    }

    size_t n = strlen(text);

    snprintf(text + n, PEERS_WORK - n, " %s", text_at(metric, "name"));
}

json_t *peers_metric(json_t *cell, size_t i)
{
    json_t *m = json_array_get(json_object_get(cell, "metrics"), i), *one;

    if (!m || !comparable(m))
        return NULL;
    if (strcmp(text_at(cell, "benchmark"), "revalidate") == 0)
        return m;
    one = strcmp(text_at(cell, "benchmark"), "meta") == 0 ? metric_at(cell, "op_p50_us") : NULL;
    if (one && comparable(one))
        return m == one ? m : NULL;
    for (size_t k = 0; k < i; k++)
        if (comparable(json_array_get(json_object_get(cell, "metrics"), k)))
            return NULL;
    return m;
}

static json_t *ratio_metric(json_t *ours, json_t *theirs)
{
    bool more = strcmp(text_at(ours, "better"), "more") == 0;
    size_t n, m;
    double *a = samples_of(ours, &n), *b = samples_of(theirs, &m);
    json_t *metric = NULL;

    for (size_t i = 0; a && b && i < n && i < m; i++) {
        double up = more ? a[i] : b[i], down = more ? b[i] : a[i];

        a[i] = down > 0 ? up / down : 0;
    }
    n = n < m ? n : m;
    if (a && b && n) {
        struct summary s = stats_summary(a, n);
        json_t *samples = json_array();

        for (size_t i = 0; i < n; i++)
            json_array_append_new(samples, json_real(a[i]));
        metric = json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "name", "ratio",
                           "unit", "times", "better", "more", "median", s.median, "q1", s.q1, "q3",
                           s.q3, "min", s.min, "max", s.max, "noise", s.noise, "samples", samples);
    }
    free(a);
    free(b);
    return metric;
}

static void add_ratio(json_t *cells, const char *target, const char *work, json_t *ours,
                      json_t *theirs)
{
    json_t *metric = ratio_metric(ours, theirs);

    if (metric)
        json_array_append_new(cells,
                              json_pack("{s:s, s:s, s:{s:s}, s:[o], s:[], s:[]}", "benchmark",
                                        "peers", "target", target, "parameters", "work", work,
                                        "metrics", metric, "distributions", "curves"));
}

/* The cell of a limit, as limit_of() finds it. */
static json_t *limit_cell(json_t *all, json_t *cell)
{
    json_t *limit = json_object_get(cell, "limit"), *c;
    size_t i;

    json_array_foreach(json_object_get(all, "cells"), i, c)
    {
        if (limit && strcmp(text_at(c, "benchmark"), "limits") == 0 &&
            strcmp(text_at(c, "target"), text_at(limit, "target")) == 0 &&
            strcmp(param_at(c, "work"), text_at(limit, "work")) == 0 &&
            strcmp(param_at(c, "run"), param_at(cell, "run")) == 0)
            return c;
    }
    return NULL;
}

static void ratios_of(json_t *all, json_t *made, json_t *ours, const char *place)
{
    json_t *metric, *theirs, *c;
    char work[PEERS_WORK], limit[64];
    size_t i, j;

    snprintf(limit, sizeof limit, "%s:limit", place);
    for (j = 0; j < json_array_size(json_object_get(ours, "metrics")); j++) {
        metric = peers_metric(ours, j);
        if (!metric)
            continue;

        const char *name = text_at(metric, "name");

        peers_work(ours, metric, work);
        json_array_foreach(json_object_get(all, "cells"), i, c)
        {
            if (c != ours && strcmp(text_at(c, "benchmark"), text_at(ours, "benchmark")) == 0 &&
                strncmp(text_at(c, "target"), place, strlen(place)) == 0 &&
                json_equal(json_object_get(c, "parameters"), json_object_get(ours, "parameters")) &&
                (theirs = metric_at(c, name)) && number_at(theirs, "median") > 0)
                add_ratio(made, text_at(c, "target"), work, metric, theirs);
        }
        c = limit_cell(all, ours);

        json_t *limit_of = json_object_get(ours, "limit");

        if (c && strcmp(text_at(limit_of, "of"), name) == 0 &&
            (theirs = metric_at(c, text_at(limit_of, "metric"))))
            add_ratio(made, limit, work, metric, theirs);
    }
}

void peers_ratios(json_t *all, const char *place)
{
    json_t *cells = json_object_get(all, "cells"), *made = json_array(), *c;
    char ours[64];
    size_t i;

    snprintf(ours, sizeof ours, "%s:ours", place);
    json_array_foreach(cells, i, c)
    {
        if (strcmp(text_at(c, "target"), ours) == 0)
            ratios_of(all, made, c, place);
    }
    json_array_extend(cells, made);
    json_decref(made);
}

double peers_sum(json_t *all, const char *target, const char *name)
{
    double sum = -1;
    json_t *c, *v;
    size_t i, k;

    json_array_foreach(json_object_get(all, "cells"), i, c)
    {
        json_t *m = strcmp(text_at(c, "target"), target) == 0 ? metric_at(c, name) : NULL;

        if (!m)
            continue;
        sum = sum < 0 ? 0 : sum;
        json_array_foreach(json_object_get(m, "samples"), k, v)
        {
            sum += json_number_value(v);
        }
    }
    return sum;
}
