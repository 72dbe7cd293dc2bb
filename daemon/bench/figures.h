// SPDX-License-Identifier: Apache-2.0
/* The figures of the page, drawn by gnuplot. */
#ifndef NFSCACHED_BENCH_FIGURES_H
#define NFSCACHED_BENCH_FIGURES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* 0, or -ENOENT after a message: there is no gnuplot. */
int figures_check(void);

/* The figures of one benchmark, as HTML with the SVG inside. `merged`: an object with all "cells".
 * 0 or negative errno, after a message. */
int figures_write(FILE *f, json_t *merged, const char *benchmark);

/* figures_cache.c: those of `bench cache`. */
int figures_cache(FILE *f, json_t *merged);
/* figures_peers.c: those of `bench peers`. */
int figures_peers(FILE *f, json_t *merged);
/* figures_scale.c: those of `bench scale`. */
int figures_scale(FILE *f, json_t *merged);

/* ---- for figures_*.c, one file for each benchmark or two ---------------------------------------
 */

struct plot;

int figures_revalidate(FILE *f, json_t *merged);
int figures_io(FILE *f, json_t *merged);
int figures_meta(FILE *f, json_t *merged);
int figures_limits(FILE *f, json_t *merged);

/* The cells of one benchmark; a new reference. */
json_t *figure_cells(json_t *merged, const char *benchmark);
/* The names of their targets, in order, each once; at most `max`. How many. */
size_t figure_targets(json_t *cells, const char *names[], size_t max);

/* Adds the median of a cell's metric with its quartiles; false if it was not measured. */
bool figure_add(struct plot *p, const char *series, double x, json_t *cell, const char *metric);
/* The same as a bar of a group. */
void figure_add_bar(struct plot *p, const char *series, const char *group, json_t *cell,
                    const char *metric);
/* A distribution: for each latency, which part of all took longer. */
void figure_add_slower(struct plot *p, const char *series, json_t *cell, const char *distribution);

/* plot_write() of each. */
int figures_write_all(FILE *f, struct plot *plots, size_t n);

#endif
