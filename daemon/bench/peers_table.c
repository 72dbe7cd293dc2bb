// SPDX-License-Identifier: Apache-2.0
/*
 * The comparison of clients as text: for each place (the guest, the host) a table with a line for
 * each piece of work and a column for each client; then how ours does against each of them, and
 * against the limits.
 */
#include "daemon/bench/peers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MOST = 512, COLUMNS_MOST = 16 };

struct row {
    char what[PEERS_WORK];
    const char *unit;
    double value[COLUMNS_MOST]; /* 0: not measured */
};

struct sheet {
    const char *place;
    const char *column[COLUMNS_MOST]; /* targets, without the place */
    unsigned columns, rows;
    struct row *row;
};

/* "guest:kernel v3" -> "kernel v3", if the place is "guest". */
static const char *in_place(const char *target, const char *place)
{
    size_t n = strlen(place);

    return strncmp(target, place, n) == 0 && target[n] == ':' ? target + n + 1 : NULL;
}

static int column_of(struct sheet *s, const char *target)
{
    for (unsigned i = 0; i < s->columns; i++)
        if (strcmp(s->column[i], target) == 0)
            return (int)i;
    if (s->columns == COLUMNS_MOST)
        return -1;
    s->column[s->columns] = target;
    return (int)s->columns++;
}

static struct row *row_of(struct sheet *s, const char *what, const char *unit)
{
    for (unsigned i = 0; i < s->rows; i++)
        if (strcmp(s->row[i].what, what) == 0)
            return &s->row[i];
    if (s->rows == ROWS_MOST)
        return NULL;

    struct row *r = &s->row[s->rows++];

    memset(r, 0, sizeof *r);
    snprintf(r->what, sizeof r->what, "%s", what);
    r->unit = unit;
    return r;
}

static void collect_cell(struct sheet *s, json_t *cell, const char *target, bool ratio)
{
    json_t *metrics = json_object_get(cell, "metrics");
    char work[PEERS_WORK];

    for (size_t i = 0; i < json_array_size(metrics); i++) {
        json_t *m = ratio ? json_array_get(metrics, i) : peers_metric(cell, i);
        int column = m ? column_of(s, target) : -1;

        if (column < 0)
            continue;
        if (ratio)
            snprintf(work, sizeof work, "%s", param_at(cell, "work"));
        else
            peers_work(cell, m, work);

        struct row *r = row_of(s, work, text_at(m, "unit"));

        if (r)
            r->value[column] = number_at(m, "median");
    }
}

/* The cells of clients, or the ratios of ours to them. */
static void collect(struct sheet *s, json_t *result, bool ratios)
{
    json_t *cell;
    size_t i;

    json_array_foreach(json_object_get(result, "cells"), i, cell)
    {
        const char *target = in_place(text_at(cell, "target"), s->place);
        const char *benchmark = text_at(cell, "benchmark");

        if (target && strcmp(benchmark, "limits") != 0 &&
            (strcmp(benchmark, "peers") == 0) == ratios)
            collect_cell(s, cell, target, ratios);
    }
}

static void print_value(double v)
{
    if (v <= 0)
        printf(" %12s", "-");
    else
        printf(v >= 100 ? " %12.0f" : v >= 10 ? " %12.1f" : " %12.2f", v);
}

static void print_sheet(struct sheet *s)
{
    printf("%-64s %-6s", "", "");
    for (unsigned c = 0; c < s->columns; c++)
        printf(" %12.12s", s->column[c]);
    putchar('\n');
    for (unsigned i = 0; i < s->rows; i++) {
        printf("%-64.64s %-6s", s->row[i].what, s->row[i].unit);
        for (unsigned c = 0; c < s->columns; c++)
            print_value(s->row[i].value[c]);
        putchar('\n');
    }
}

/* The limits stand by themselves: each is about some of the work only. */
static void print_limits(json_t *result, const char *place)
{
    json_t *cell, *metric;
    bool any = false;
    size_t i;

    json_array_foreach(json_object_get(result, "cells"), i, cell)
    {
        const char *target = in_place(text_at(cell, "target"), place);

        if (!target || strcmp(text_at(cell, "benchmark"), "limits") != 0)
            continue;
        for (size_t j = 0; j < json_array_size(json_object_get(cell, "metrics")); j++) {
            metric = peers_metric(cell, j);
            if (!metric)
                continue;
            if (!any)
                printf("\n%s: limits\n", place);
            any = true;
            printf("%-16.16s %-28.28s %-18.18s %-6s", target, param_at(cell, "work"),
                   text_at(metric, "name"), text_at(metric, "unit"));
            print_value(number_at(metric, "median"));
            putchar('\n');
        }
    }
}

/* What no client should do, and some do. */
static void print_faults(const struct sheet *s, json_t *result)
{
    static const char *const faults[] = {"lost_writes", "lost_foreign", "stale_opens",
                                         "stale_pages"};
    char target[96];
    bool any = false;

    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        for (unsigned c = 0; c < s->columns; c++) {
            snprintf(target, sizeof target, "%s:%s", s->place, s->column[c]);

            double sum = peers_sum(result, target, faults[i]);

            if (sum < 0)
                continue;
            if (!any)
                printf("\n%s: what should be 0, in all cells together\n", s->place);
            any = true;
            printf("%s%s %.0f", c ? ", " : "    ", s->column[c], sum);
        }
        if (any)
            printf("  %s\n", faults[i]);
    }
}

void peers_table_print(json_t *result, const char *place)
{
    for (int ratios = 0; ratios < 2; ratios++) {
        struct sheet s = {.place = place, .row = malloc(ROWS_MOST * sizeof *s.row)};

        if (!s.row)
            return;
        collect(&s, result, ratios);
        if (s.rows) {
            printf("\n%s: %s\n", place,
                   ratios ? "ours against each; above 1 ours is better" : "medians");
            print_sheet(&s);
            if (!ratios)
                print_faults(&s, result);
        }
        free(s.row);
    }
    print_limits(result, place);
}
