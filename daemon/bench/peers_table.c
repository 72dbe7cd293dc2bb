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
    char what[192];
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

static struct row *row_of(struct sheet *s, json_t *cell, json_t *metric)
{
    char params[256], what[192];

    if (strcmp(text_at(cell, "benchmark"), "peers") == 0) {
        snprintf(what, sizeof what, "%s", param_at(cell, "work"));
    } else {
        cell_params_text(cell, params, sizeof params);
        snprintf(what, sizeof what, "%.16s%s%.120s %.40s", text_at(cell, "benchmark"),
                 *params ? " " : "", params, text_at(metric, "name"));
    }
    for (unsigned i = 0; i < s->rows; i++)
        if (strcmp(s->row[i].what, what) == 0)
            return &s->row[i];
    if (s->rows == ROWS_MOST)
        return NULL;

    struct row *r = &s->row[s->rows++];

    memset(r, 0, sizeof *r);
    memcpy(r->what, what, sizeof what);
    r->unit = text_at(metric, "unit");
    return r;
}

/* The cells of clients, or the ratios of ours to them. */
static void collect(struct sheet *s, json_t *result, bool ratios)
{
    json_t *cell, *metric;
    size_t i, j;

    json_array_foreach(json_object_get(result, "cells"), i, cell)
    {
        const char *target = in_place(text_at(cell, "target"), s->place);
        const char *benchmark = text_at(cell, "benchmark");

        if (!target || strcmp(benchmark, "limits") == 0 ||
            (strcmp(benchmark, "peers") == 0) != ratios)
            continue;
        json_array_foreach(json_object_get(cell, "metrics"), j, metric)
        {
            int column = peers_compares(metric) ? column_of(s, target) : -1;
            struct row *r = column >= 0 ? row_of(s, cell, metric) : NULL;

            if (r)
                r->value[column] = number_at(metric, "median");
        }
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
    size_t i, j;

    json_array_foreach(json_object_get(result, "cells"), i, cell)
    {
        const char *target = in_place(text_at(cell, "target"), place);

        if (!target || strcmp(text_at(cell, "benchmark"), "limits") != 0)
            continue;
        json_array_foreach(json_object_get(cell, "metrics"), j, metric)
        {
            if (!peers_compares(metric))
                continue;
            if (!any)
                printf("\n%s: limits\n", place);
            any = true;
            printf("%-16.16s %-40.40s %-20.20s %-6s", target, param_at(cell, "work"),
                   text_at(metric, "name"), text_at(metric, "unit"));
            print_value(number_at(metric, "median"));
            putchar('\n');
        }
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
        }
        free(s.row);
    }
    print_limits(result, place);
}
