// SPDX-License-Identifier: Apache-2.0
/* A result as text: a line for each cell and metric. */
#include <stdio.h>
#include <string.h>

#include "daemon/bench/result.h"

/* Four digits, whatever the size. */
static const char *figure(double v, char text[32])
{
    double a = v < 0 ? -v : v;

    if (a == (double)(long)a && a < 1e6)
        snprintf(text, 32, "%.0f", v);
    else
        snprintf(text, 32, a >= 1000 ? "%.0f" : a >= 100 ? "%.1f" : a >= 10 ? "%.2f" : "%.3f", v);
    return text;
}

static void print_metric(json_t *result, json_t *cell, json_t *m)
{
    char median[32], q1[32], q3[32];
    double limit = limit_of(result, cell, text_at(m, "name"));

    printf("    %-26s %12s %-6s", text_at(m, "name"), figure(number_at(m, "median"), median),
           text_at(m, "unit"));
    if (json_array_size(json_object_get(m, "samples")) > 1)
        printf(" %10s .. %-10s noise %3.0f%%", figure(number_at(m, "q1"), q1),
               figure(number_at(m, "q3"), q3), 100 * number_at(m, "noise"));
    if (limit > 0)
        printf("  %.2f of its limit", number_at(m, "median") / limit);
    putchar('\n');
}

void table_print(json_t *result)
{
    json_t *cell, *m;
    size_t i, j, nskipped = 0;
    char name[384];

    printf("# %s, %d repetitions after %d to warm up, seed %lld, %.0f s\n",
           text_at(result, "finished"), (int)number_at(result, "repetitions"),
           (int)number_at(result, "warm_up"),
           (long long)json_integer_value(json_object_get(result, "seed")),
           number_at(result, "seconds"));
    puts("# metric, median, unit, quartiles, noise ((q3 - q1) / median)");
    json_array_foreach(json_object_get(result, "cells"), i, cell)
    {
        cell_name(cell, name, sizeof name);
        if (*text_at(cell, "skipped")) {
            nskipped++;
            printf("%s\n    skipped: %s\n", name, text_at(cell, "skipped"));
            continue;
        }
        puts(name);
        if (*text_at(cell, "failed"))
            printf("    FAILED: %s\n", text_at(cell, "failed"));
        json_array_foreach(json_object_get(cell, "metrics"), j, m)
        {
            print_metric(result, cell, m);
        }
    }
    printf("# %zu cells, %zu skipped, %zu failed; found %.0f of what must be 0\n",
           json_array_size(json_object_get(result, "cells")), nskipped, result_failed(result),
           result_findings(result));
}
