// SPDX-License-Identifier: Apache-2.0
/* The targets of one benchmark side by side, as a table of the page. */
#ifndef NFSCACHED_BENCH_PIVOT_H
#define NFSCACHED_BENCH_PIVOT_H

#include <jansson.h>
#include <stdio.h>

/* Nothing where there is only one target. `merged`: an object with all "cells". */
void pivot_write(FILE *f, json_t *merged, const char *benchmark);

#endif
