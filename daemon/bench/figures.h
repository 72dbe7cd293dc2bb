// SPDX-License-Identifier: Apache-2.0
/* The figures of the page, drawn by gnuplot. */
#ifndef NFSCACHED_BENCH_FIGURES_H
#define NFSCACHED_BENCH_FIGURES_H

#include <jansson.h>
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

#endif
