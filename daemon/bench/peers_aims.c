// SPDX-License-Identifier: Apache-2.0
/*
 * What ours is to reach: ratios to other clients, or to a limit, from medians of one run. A ratio
 * is that of goodness: for times theirs by ours, for rates ours by theirs.
 */
#include "daemon/bench/peers.h"

#include <stdio.h>
#include <string.h>

/* `against`: a client; or, behind a '=', a limit: its target, work and metric. */
static const struct aim {
    const char *place, *work, *against;
    double least;
} aims[] = {
    {"host", "io read sequential 1M cold 1 mb_s", "=libnfs read mb_s", 0.90},
    {"host", "io write sequential 1M 1 mb_s", "=libnfs write mb_s", 0.90},
    {"host", "io read sequential 1M kernel 1 mb_s", "local", 0.97},
    {"host", "io read sequential 1M daemon 1 mb_s", "=fuse read_dropped mb_s", 0.95},
    {"host", "io write sequential 4K 1 unsynced_mb_s", "=fuse write4k mb_s", 0.95},
    {"host", "meta open op_p50_us", "=fuse+libnfs open open_p50_us", 0.90},
    {"guest", "io read sequential 1M cold 1 mb_s", "kernel v3", 0.80},
    {"guest", "io write sequential 1M 1 mb_s", "kernel v3", 0.90},
    {"guest", "meta open op_p50_us", "kernel v3", 0.75},
    {"guest", "meta create op_p50_us", "kernel v3", 0.90},
    {"guest", "meta stat-cold op_p50_us", "kernel v3", 0.90},
    {"guest", "meta ls-l ms", "kernel v3", 1.00},
    {"guest", "meta ls-l-cold ms", "kernel v3", 1.00},
    {"guest", "meta untar seconds", "kernel v3", 0.90},
    {"guest", "meta git-status seconds", "kernel v3", 0.90},
    {"guest", "meta rm-r seconds", "kernel v3", 0.90},
    /* Against the client that waits for each call. */
    {"host", "io read sequential 1M cold 1 mb_s", "synchronous", 4},
    {"host", "io write sequential 1M 1 mb_s", "synchronous", 4},
    {"host", "io read sequential 1M kernel 1 mb_s", "synchronous", 4},
    {"host", "io read random 4K cold 1 mb_s", "synchronous", 4},
    {"host", "io read random 4K cold 16 mb_s", "synchronous", 4},
    {"host", "io write sequential 4K 1 mb_s", "synchronous", 4},
    {"host", "meta open op_p50_us", "synchronous", 4},
    {"host", "meta create op_p50_us", "synchronous", 4},
    {"host", "meta stat-cold op_p50_us", "synchronous", 4},
    {"host", "meta ls-l ms", "synchronous", 4},
    {"host", "meta ls-l-cold ms", "synchronous", 4},
    {"host", "meta untar seconds", "synchronous", 4},
    {"host", "meta git-status seconds", "synchronous", 4},
    {"host", "meta rm-r seconds", "synchronous", 4},
};

/* The metric called `work` of a target. */
static json_t *find_work(json_t *all, const char *place, const char *client, const char *work)
{
    char target[96], text[PEERS_WORK];
    json_t *c, *m;
    size_t i, j;

    snprintf(target, sizeof target, "%s:%s", place, client);
    json_array_foreach(json_object_get(all, "cells"), i, c)
    {
        if (strcmp(text_at(c, "target"), target) != 0)
            continue;
        json_array_foreach(json_object_get(c, "metrics"), j, m)
        {
            peers_work(c, m, text);
            if (strcmp(text, work) == 0)
                return m;
        }
    }
    return NULL;
}

static json_t *find_limit(json_t *all, const char *place, const char *against)
{
    char target[32], work[32], metric[32];

    if (sscanf(against, "=%31s %31s %31s", target, work, metric) != 3)
        return NULL;

    char text[PEERS_WORK];

    snprintf(text, sizeof text, "limits %s %s", work, metric);
    return find_work(all, place, target, text);
}

void peers_aims(json_t *all)
{
    json_t *list = json_array();

    for (size_t i = 0; i < sizeof aims / sizeof aims[0]; i++) {
        const struct aim *a = &aims[i];
        json_t *ours = find_work(all, a->place, "ours", a->work);
        json_t *theirs = *a->against == '=' ? find_limit(all, a->place, a->against)
                                            : find_work(all, a->place, a->against, a->work);
        double up = number_at(ours, "median"), down = number_at(theirs, "median");

        if (up <= 0 || down <= 0)
            continue;
        if (strcmp(text_at(ours, "better"), "less") == 0) {
            double t = up;

            up = down;
            down = t;
        }
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:f, s:f, s:b}", "place", a->place,
                                              "work", a->work, "against",
                                              a->against + (*a->against == '='), "ratio", up / down,
                                              "least", a->least, "met", up / down >= a->least));
    }
    json_object_set_new(all, "aims", list);
}

void peers_aims_print(json_t *all)
{
    json_t *list = json_object_get(all, "aims"), *a;
    size_t i, met = 0;

    if (!json_array_size(list))
        return;
    printf("\naims: ours against others, medians\n");
    json_array_foreach(list, i, a)
    {
        bool good = json_is_true(json_object_get(a, "met"));

        met += good;
        printf("%-6s %-44s %-32s %7.2f  at least %4.2f  %s\n", text_at(a, "place"),
               text_at(a, "work"), text_at(a, "against"), number_at(a, "ratio"),
               number_at(a, "least"), good ? "met" : "MISSED");
    }
    printf("%zu of %zu met\n", met, json_array_size(list));
}
