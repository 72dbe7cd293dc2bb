// SPDX-License-Identifier: Apache-2.0
/* Results to JSON, and back; see result.h. */
#include "daemon/bench/result.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/bench/stats.h"

enum { CURVE_POINTS_MAX = 600 };

static const char *const better_names[] = {"less", "more", "zero", "none"};

/* Names are bytes, JSON is UTF-8. */
static json_t *text(const char *s)
{
    json_t *j = json_string(s);
    return j ? j : json_string("?");
}

static json_t *metric_json(const struct metric *m)
{
    struct summary s = stats_summary(m->samples, m->n);
    json_t *o = json_object(), *samples = json_array();

    for (size_t i = 0; i < m->n; i++)
        json_array_append_new(samples, json_real(m->samples[i]));
    json_object_set_new(o, "name", text(m->name));
    json_object_set_new(o, "unit", text(m->unit));
    json_object_set_new(o, "better", text(better_names[m->better]));
    json_object_set_new(o, "median", json_real(s.median));
    json_object_set_new(o, "q1", json_real(s.q1));
    json_object_set_new(o, "q3", json_real(s.q3));
    json_object_set_new(o, "min", json_real(s.min));
    json_object_set_new(o, "max", json_real(s.max));
    json_object_set_new(o, "noise", json_real(s.noise));
    json_object_set_new(o, "samples", samples);
    return o;
}

static json_t *distribution_json(const struct distribution *d)
{
    json_t *o = json_object(), *buckets = json_array();

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        if (d->h.bucket[i])
            json_array_append_new(buckets, json_pack("[f, I]", (double)histogram_value(i) / 1e3,
                                                     (json_int_t)d->h.bucket[i]));
    json_object_set_new(o, "name", text(d->name));
    json_object_set_new(o, "unit", text("us"));
    json_object_set_new(o, "count", json_integer((json_int_t)d->h.count));
    json_object_set_new(o, "max", json_real((double)d->h.max_ns / 1e3));
    json_object_set_new(o, "buckets", buckets);
    return o;
}

static json_t *curve_json(const struct curve *c)
{
    json_t *o = json_object(), *points = json_array();
    size_t step = c->n / CURVE_POINTS_MAX + 1;

    for (size_t i = 0; i < c->n; i += step)
        json_array_append_new(points, json_pack("[f, f]", c->points[i][0], c->points[i][1]));
    json_object_set_new(o, "name", text(c->name));
    json_object_set_new(o, "points", points);
    return o;
}

static json_t *cell_json(const struct cell *c)
{
    json_t *o = json_object(), *params = json_object(), *metrics = json_array(),
           *distributions = json_array(), *curves = json_array();

    for (unsigned i = 0; i < c->nparams; i++)
        json_object_set_new(params, c->params[i].key, text(c->params[i].value));
    for (size_t i = 0; i < c->nmetrics; i++)
        json_array_append_new(metrics, metric_json(&c->metrics[i]));
    for (size_t i = 0; i < c->ndistributions; i++)
        json_array_append_new(distributions, distribution_json(c->distributions[i]));
    for (size_t i = 0; i < c->ncurves; i++)
        json_array_append_new(curves, curve_json(&c->curves[i]));
    json_object_set_new(o, "benchmark", text(c->benchmark));
    json_object_set_new(o, "target", text(c->target));
    json_object_set_new(o, "parameters", params);
    if (c->skipped)
        json_object_set_new(o, "skipped", text(c->skipped));
    if (c->failed)
        json_object_set_new(o, "failed", text(c->failed));
    if (c->limit.target)
        json_object_set_new(o, "limit",
                            json_pack("{s:s, s:s, s:s, s:s}", "of", c->limit.own, "target",
                                      c->limit.target, "work", c->limit.work, "metric",
                                      c->limit.metric));
    json_object_set_new(o, "metrics", metrics);
    json_object_set_new(o, "distributions", distributions);
    json_object_set_new(o, "curves", curves);
    return o;
}

json_t *result_make(const struct matrix *m, int argc, const char **argv)
{
    json_t *o = json_object(), *cells = json_array(), *targets = json_array(),
           *command = json_array();
    char when[32];
    time_t now = time(NULL);

    if (!o || !cells || !targets || !command) {
        bench_fail(0, "out of memory");
        exit(BENCH_FAILED);
    }
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    json_array_append_new(command, text("nfscached"));
    for (int i = 0; i < argc; i++)
        json_array_append_new(command, text(argv[i]));
    for (size_t i = 0; i < m->ntargets; i++)
        json_array_append_new(targets, json_pack("{s:o, s:o}", "name", text(m->targets[i].name),
                                                 "what", text(m->targets[i].what)));
    for (size_t i = 0; i < m->ncells; i++)
        json_array_append_new(cells, cell_json(m->cells[i]));
    json_object_set_new(o, "schema", text(RESULT_SCHEMA));
    json_object_set_new(o, "schema_version", json_integer(RESULT_VERSION));
    json_object_set_new(o, "finished", text(when));
    json_object_set_new(o, "seconds", json_real(m->seconds));
    json_object_set_new(o, "command", command);
    json_object_set_new(o, "seed", json_integer((json_int_t)m->seed));
    json_object_set_new(o, "repetitions", json_integer(m->done));
    json_object_set_new(o, "warm_up", json_integer(m->warm_up));
    json_object_set_new(o, "interrupted", json_boolean(m->interrupted));
    json_object_set_new(o, "machine", machine_describe());
    json_object_set_new(o, "targets", targets);
    json_object_set_new(o, "cells", cells);
    return o;
}

int result_save(json_t *result, const char *path)
{
    size_t flags = JSON_INDENT(1) | JSON_REAL_PRECISION(7);
    int rc = 0;

    if (strcmp(path, "-") == 0)
        rc = json_dumpf(result, stdout, flags) || putchar('\n') == EOF || fflush(stdout);
    else
        rc = json_dump_file(result, path, flags);
    if (rc == 0)
        return 0;
    rc = errno ? errno : EIO;
    bench_fail(0, "--json=%s: %s", path, strerror(rc));
    return -rc;
}

json_t *result_load(const char *path)
{
    json_error_t err;
    json_t *o = json_load_file(path, 0, &err);

    if (!o) {
        bench_fail(0, "%s: %s%s", path, err.line > 0 ? "not JSON: " : "", err.text);
        return NULL;
    }
    const char *schema = text_at(o, "schema");
    int version = (int)number_at(o, "schema_version");
    if (strcmp(schema, RESULT_SCHEMA) != 0)
        bench_fail(0, "%s: not a result of `nfscached bench --json` (no \"schema\": \"%s\")", path,
                   RESULT_SCHEMA);
    else if (version != RESULT_VERSION)
        bench_fail(0, "%s: schema version %d; this program reads version %d", path, version,
                   RESULT_VERSION);
    else if (!json_is_array(json_object_get(o, "cells")))
        bench_fail(0, "%s: there is no \"cells\" in it", path);
    else
        return o;
    json_decref(o);
    return NULL;
}

/* ---- reading ------------------------------------------------------------------------------- */

const char *text_at(json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

double number_at(json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

double *samples_of(json_t *metric, size_t *n)
{
    json_t *samples = json_object_get(metric, "samples");
    size_t count = json_array_size(samples);
    double *v = calloc(count + 1, sizeof *v);

    for (size_t i = 0; v && i < count; i++)
        v[i] = json_number_value(json_array_get(samples, i));
    *n = v ? count : 0;
    return v;
}

json_t *metric_at(json_t *cell, const char *name)
{
    json_t *m;
    size_t i;

    json_array_foreach(json_object_get(cell, "metrics"), i, m)
    {
        if (strcmp(text_at(m, "name"), name) == 0)
            return m;
    }
    return NULL;
}

const char *param_at(json_t *cell, const char *key)
{
    return text_at(json_object_get(cell, "parameters"), key);
}

void cell_params_text(json_t *cell, char *text_out, size_t size)
{
    const char *key;
    json_t *value;
    size_t n = 0;

    *text_out = 0;
    json_object_foreach(json_object_get(cell, "parameters"), key, value)
    {
        if (n < size)
            n += (size_t)snprintf(text_out + n, size - n, "%s%s=%s", n ? " " : "", key,
                                  json_is_string(value) ? json_string_value(value) : "?");
    }
}

void cell_name(json_t *cell, char *text_out, size_t size)
{
    char params[256];

    cell_params_text(cell, params, sizeof params);
    snprintf(text_out, size, "%s %s%s%s", text_at(cell, "benchmark"), text_at(cell, "target"),
             *params ? " " : "", params);
}

double limit_of(json_t *result, json_t *cell, const char *metric)
{
    json_t *limit = json_object_get(cell, "limit"), *c;
    size_t i;

    if (!limit || strcmp(text_at(limit, "of"), metric) != 0)
        return 0;
    json_array_foreach(json_object_get(result, "cells"), i, c)
    {
        if (strcmp(text_at(c, "benchmark"), "limits") == 0 &&
            strcmp(text_at(c, "target"), text_at(limit, "target")) == 0 &&
            strcmp(param_at(c, "work"), text_at(limit, "work")) == 0 &&
            strcmp(param_at(c, "run"), param_at(cell, "run")) == 0)
            return number_at(metric_at(c, text_at(limit, "metric")), "median");
    }
    return 0;
}

double result_findings(json_t *result)
{
    double sum = 0;
    json_t *c, *m, *v;
    size_t i, j, k;

    json_array_foreach(json_object_get(result, "cells"), i, c)
    {
        json_array_foreach(json_object_get(c, "metrics"), j, m)
        {
            if (strcmp(text_at(m, "better"), "zero") != 0)
                continue;
            json_array_foreach(json_object_get(m, "samples"), k, v)
            {
                sum += json_number_value(v);
            }
        }
    }
    return sum;
}

size_t result_failed(json_t *result)
{
    size_t i, n = 0;
    json_t *c;

    json_array_foreach(json_object_get(result, "cells"), i, c)
    {
        n += *text_at(c, "failed") != 0;
    }
    return n;
}
