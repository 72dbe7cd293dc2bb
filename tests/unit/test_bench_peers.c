// SPDX-License-Identifier: Apache-2.0
/* What `bench peers` makes of the results of its scripts: one result, and ratios that point the
 * right way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/bench/peers.h"

/* Nothing here fails that would say so. */
int bench_fail(int status, const char *format, ...)
{
    fail_msg("%s", format);
    return status;
}

json_t *machine_describe(void)
{
    return json_object();
}

/* A cell with one metric of three repetitions. */
static json_t *cell(const char *benchmark, const char *target, const char *work, const char *metric,
                    const char *better, double a, double b, double c)
{
    return json_pack("{s:s, s:s, s:{s:s}, s:[{s:s, s:s, s:s, s:f, s:[f,f,f]}]}", "benchmark",
                     benchmark, "target", target, "parameters", "work", work, "metrics", "name",
                     metric, "unit", "x", "better", better, "median", b, "samples", a, b, c);
}

static json_t *part(void)
{
    json_t *o = json_pack("{s:{s:s}, s:i, s:i, s:[{s:s, s:s}, {s:s, s:s}], s:[]}", "machine",
                          "kernel", "6.1", "repetitions", 3, "warm_up", 1, "targets", "name",
                          "ours", "what", "a", "name", "kernel v3", "what", "b", "cells");
    json_t *cells = json_object_get(o, "cells");
    json_t *open = cell("meta", "ours", "open", "open_p50_us", "less", 10, 20, 40);

    json_object_set_new(open, "limit",
                        json_pack("{s:s, s:s, s:s, s:s}", "target", "libnfs", "work", "open", "of",
                                  "open_p50_us", "metric", "getattr_us"));
    json_array_append_new(cells, open);
    json_array_append_new(cells,
                          cell("meta", "kernel v3", "open", "open_p50_us", "less", 20, 40, 80));
    json_array_append_new(cells, cell("limits", "libnfs", "open", "getattr_us", "less", 5, 10, 20));
    json_array_append_new(cells, cell("io", "ours", "read", "mb_s", "more", 100, 200, 300));
    json_array_append_new(cells, cell("io", "kernel v3", "read", "mb_s", "more", 400, 400, 400));
    json_array_append_new(cells, cell("io", "ours", "lost", "lost_writes", "zero", 0, 0, 0));
    json_array_append_new(cells, cell("io", "kernel v3", "lost", "lost_writes", "zero", 1, 1, 1));
    return o;
}

static json_t *merged(void)
{
    json_t *all = json_pack("{s:[], s:[]}", "targets", "cells"), *p = part();

    peers_merge(all, p, "guest", "slow", "");
    peers_merge(all, p, "host", "fast", "");
    json_decref(p);
    return all;
}

static json_t *find(json_t *all, const char *benchmark, const char *target, const char *work)
{
    json_t *c;
    size_t i;

    json_array_foreach(json_object_get(all, "cells"), i, c)
    {
        if (strcmp(text_at(c, "benchmark"), benchmark) == 0 &&
            strcmp(text_at(c, "target"), target) == 0 && strcmp(param_at(c, "work"), work) == 0)
            return c;
    }
    return NULL;
}

static void places_do_not_mix(void **state)
{
    json_t *all = merged(), *targets = json_object_get(all, "targets");

    assert_int_equal(json_array_size(json_object_get(all, "cells")), 14);
    assert_int_equal(json_array_size(targets), 4);
    assert_string_equal(text_at(json_array_get(targets, 0), "name"), "guest:ours");
    assert_string_equal(text_at(json_array_get(targets, 3), "what"), "b; fast");
    assert_non_null(json_object_get(json_object_get(all, "machines"), "host"));

    /* the limit of a guest's cell is the guest's */
    json_t *open = find(all, "meta", "host:ours", "open");
    assert_non_null(open);
    assert_string_equal(text_at(json_object_get(open, "limit"), "target"), "host:libnfs");
    assert_true(limit_of(all, open, "open_p50_us") == 10);
    json_decref(all);
}

static void above_one_is_better(void **state)
{
    json_t *all = merged(), *times, *rates, *limit;

    peers_ratios(all, "guest");
    times = find(all, "peers", "guest:kernel v3", "meta open open_p50_us");
    rates = find(all, "peers", "guest:kernel v3", "io read mb_s");
    limit = find(all, "peers", "guest:limit", "meta open open_p50_us");
    assert_true(times && rates && limit);
    assert_true(number_at(metric_at(times, "ratio"), "median") == 2);
    /* of the ratios in each repetition (1/4, 1/2, 3/4), not of the medians */
    assert_true(number_at(metric_at(rates, "ratio"), "median") == 0.5);
    assert_true(number_at(metric_at(rates, "ratio"), "max") == 0.75);
    assert_true(number_at(metric_at(limit, "ratio"), "median") == 0.5);
    /* what must be 0 is not a matter of more or less; and the other place was not asked for */
    assert_null(find(all, "peers", "guest:kernel v3", "io lost lost_writes"));
    assert_null(find(all, "peers", "host:kernel v3", "io read mb_s"));
    json_decref(all);
}

/* A run's label is a parameter of its cells, so that the same work of two runs stays apart, and a
 * limit is that of its own run. */
static void labels_tell_runs_apart(void **state)
{
    json_t *all = json_pack("{s:[], s:[]}", "targets", "cells"), *p = part();
    char work[PEERS_WORK];

    peers_merge(all, p, "host", "fast", "");
    json_object_set_new(
        json_array_get(json_object_get(json_array_get(json_object_get(p, "cells"), 2), "metrics"),
                       0),
        "median", json_real(20));
    peers_merge(all, p, "host", "fast", "bulk");

    json_t *cells = json_object_get(all, "cells"), *open = json_array_get(cells, 7);

    assert_string_equal(param_at(open, "run"), "bulk");
    peers_work(open, json_array_get(json_object_get(open, "metrics"), 0), work);
    assert_string_equal(work, "meta open bulk open_p50_us");
    assert_true(limit_of(all, json_array_get(cells, 0), "open_p50_us") == 10);
    assert_true(limit_of(all, open, "open_p50_us") == 20);
    json_decref(p);
    json_decref(all);
}

static json_t *line_of(json_t *all, const char *place, const char *key)
{
    json_t *a;
    size_t i;

    json_array_foreach(json_object_get(all, "aims"), i, a)
    {
        if (strcmp(text_at(a, "place"), place) == 0 && strcmp(text_at(a, "key"), key) == 0)
            return a;
    }
    return NULL;
}

/* Cells with a label of a run, as the scripts make them. */
static void add(json_t *all, const char *label, json_t *c)
{
    if (*label)
        json_object_set_new(json_object_get(c, "parameters"), "run", json_string(label));
    json_array_append_new(json_object_get(all, "cells"), c);
}

/* By an aim of each kind: a rate, a time, a cost, a value, a sum; and what was not measured says
 * so. The ratios are 0.5, 0.92 and 1: a median of 0.92 is above 0.9. */
static void aims_are_medians_of_ratios(void **state)
{
    json_t *all = json_pack("{s:[], s:[]}", "targets", "cells");

    add(all, "bulk", cell("io", "host:ours", "write sequential 1M 1", "mb_s", "more", 50, 92, 100));
    add(all, "bulk", cell("limits", "host:libnfs", "write", "mb_s", "more", 100, 100, 100));
    add(all, "opens", cell("meta", "host:ours", "open", "op_p50_us", "less", 100, 50, 50));
    add(all, "opens",
        cell("limits", "host:fuse+libnfs", "open", "open_p50_us", "less", 40, 40, 50));
    add(all, "bulk",
        cell("io", "host:ours", "read sequential 1M cold 1", "daemon_cpu_s_gib", "less", 4, 4, 4));
    add(all, "bulk", cell("limits", "host:libnfs", "read", "cpu_s_gib", "less", 2, 2, 2));
    add(all, "", cell("cache", "host:ours", "page 256K", "bytes", "less", 60, 60, 70));
    add(all, "", cell("revalidate", "host:ours", "matrix", "lost_writes", "zero", 0, 0, 1));
    peers_aims(all);

    json_t *write = line_of(all, "host", "write+fsync"), *open = line_of(all, "host", "open+close");
    json_t *cpu = line_of(all, "host", "CPU, read"), *page = line_of(all, "host", "bytes a page");
    json_t *lost = line_of(all, "host", "lost writes"), *drop;

    assert_true(number_at(json_object_get(write, "ratio"), "median") == 0.92);
    assert_true(number_at(json_object_get(write, "ratio"), "min") == 0.5);
    assert_string_equal(text_at(write, "verdict"), "met");
    assert_true(number_at(json_object_get(open, "ratio"), "median") == 0.8);
    assert_string_equal(text_at(open, "verdict"), "within noise");
    assert_true(number_at(json_object_get(cpu, "ratio"), "median") == 2);
    assert_string_equal(text_at(cpu, "verdict"), "missed");
    assert_string_equal(text_at(page, "verdict"), "met");
    assert_true(number_at(json_object_get(lost, "ours"), "median") == 1);
    assert_string_equal(text_at(lost, "verdict"), "missed");
    drop = line_of(all, "host", "drop clean pages");
    assert_string_equal(text_at(drop, "verdict"), "not measured");
    assert_string_equal(text_at(drop, "why"), "not part of this run");
    /* The other place was not measured at all. */
    assert_null(line_of(all, "guest", "open+close"));
    json_decref(all);
}

/* One of seven is no noise, a quarter of them is. */
static void many_repetitions_are_judged_by_quartiles(void **state)
{
    json_t *all = json_pack("{s:[], s:[]}", "targets", "cells");

    add(all, "write4k",
        json_pack("{s:s, s:s, s:{s:s}, s:[{s:s, s:[f,f,f,f,f,f,f]}]}", "benchmark", "io", "target",
                  "host:ours", "parameters", "work", "write sequential 4K 1", "metrics", "name",
                  "unsynced_mb_s", "samples", 50., 50., 50., 50., 60., 60., 100.));
    add(all, "write4k",
        json_pack("{s:s, s:s, s:{s:s}, s:[{s:s, s:[f,f,f,f,f,f,f]}]}", "benchmark", "limits",
                  "target", "host:fuse", "parameters", "work", "write4k", "metrics", "name", "mb_s",
                  "samples", 100., 100., 100., 100., 100., 100., 100.));
    peers_aims(all);
    assert_string_equal(text_at(line_of(all, "host", "write 4K"), "verdict"), "missed");
    json_decref(all);
}

/* A storm is compared by the time of one operation, an io cell by its rate, wherever they stand. */
static void one_metric_speaks_for_a_cell(void **state)
{
    json_t *c = cell("meta", "ours", "open", "per_s", "more", 1, 2, 3), *d;

    json_array_append(
        json_object_get(c, "metrics"),
        metric_at(d = cell("meta", "ours", "open", "op_p50_us", "less", 1, 2, 3), "op_p50_us"));
    assert_null(peers_metric(c, 0));
    assert_ptr_equal(peers_metric(c, 1), metric_at(d, "op_p50_us"));
    json_object_set_new(c, "benchmark", json_string("io"));
    assert_ptr_equal(peers_metric(c, 0), metric_at(c, "per_s"));
    assert_null(peers_metric(c, 1));
    assert_null(peers_metric(c, 2));
    json_decref(c);
    json_decref(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_do_not_mix),
        cmocka_unit_test(above_one_is_better),
        cmocka_unit_test(labels_tell_runs_apart),
        cmocka_unit_test(aims_are_medians_of_ratios),
        cmocka_unit_test(many_repetitions_are_judged_by_quartiles),
        cmocka_unit_test(one_metric_speaks_for_a_cell),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
