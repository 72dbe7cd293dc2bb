// SPDX-License-Identifier: Apache-2.0
/*
 * Two kinds of figures, drawn by gnuplot(1) and put into the page as SVG: lines over a measured
 * quantity, and bars in groups. Filled in by figures.c.
 */
#ifndef NFSCACHED_BENCH_PLOT_H
#define NFSCACHED_BENCH_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum plot_kind {
    PLOT_LINES, /* points joined by lines, whiskers from low to high */
    PLOT_STEPS, /* a curve over time */
    PLOT_BARS   /* x is the number of a group */
};

struct plot_point {
    double x, y, low, high;
};

struct plot_series {
    char name[96];
    bool is_limit; /* drawn as a mark, not as data */
    struct plot_point *points;
    size_t n, room;
};

struct plot {
    enum plot_kind kind;
    const char *title, *caption, *xlabel, *ylabel;
    bool log_x, log_y;
    bool zero_is_left; /* x: log, and 0 is shown left of 1 */
    bool full;         /* as wide as the page */
    struct plot_series *series;
    size_t nseries;
    char (*groups)[96]; /* bars: names along the x axis */
    size_t ngroups;
};

/* The series of that name, made if there is none. Exits when there is no memory. */
struct plot_series *plot_series(struct plot *p, const char *name);
void plot_add(struct plot_series *s, double x, double y, double low, double high);
/* The number of the group of that name, likewise. */
size_t plot_group(struct plot *p, const char *name);

/* From now on each figure is also a file of that directory, which is made if need be: its title,
 * small and with dashes, and ".svg". NULL: no longer. 0 or negative errno, after a message. */
int plot_save_to(const char *directory);

/* Writes a <figure>; nothing if there is no point. Frees what *p holds. 0 or negative errno. */
int plot_write(FILE *html, struct plot *p);

#endif
