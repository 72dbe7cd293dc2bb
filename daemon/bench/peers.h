// SPDX-License-Identifier: Apache-2.0
/* `nfscached bench peers`, inside; see peers.c. */
#ifndef NFSCACHED_BENCH_PEERS_H
#define NFSCACHED_BENCH_PEERS_H

#include "daemon/bench/result.h"

/* Adds to `all` what `part` has, a result measured at `place`: names of targets, and of the targets
 * that are limits, become "PLACE:NAME"; `note` is said of each of them. `label`, if not "", becomes
 * the parameter "run" of all its cells. */
void peers_merge(json_t *all, json_t *part, const char *place, const char *note, const char *label);

/* Adds the ratios of ours to all others of a place, and to its limits: cells of "peers". */
void peers_ratios(json_t *all, const char *place);

/* The i-th metric of a cell, if clients are compared by it: of most cells the time of one
 * operation, or else the first time or rate; of a revalidation all of them. Else NULL. */
json_t *peers_metric(json_t *cell, size_t i);

/* "io read sequential 1M cold mb_s": what a line of the tables is called. */
enum { PEERS_WORK = 160 };
void peers_work(json_t *cell, json_t *metric, char text[PEERS_WORK]);

/* The sum of all samples of a metric in the cells of a target; negative if it has none. */
double peers_sum(json_t *all, const char *target, const char *name);

/* Sets "aims": how far ours is from what it is to reach (aims.h), a line for each aim of the places
 * that were measured. */
void peers_aims(json_t *all);

/* aims_text.c: the lines as text; and as Markdown, in place of what stands between two marks of the
 * file, or else as the whole file (0 or negative errno, after a message). */
void peers_aims_print(json_t *all);
int peers_aims_markdown(json_t *all, const char *path);

/* How many lines there are with that verdict (NULL: with any). */
size_t aims_count(json_t *all, bool synchronous, const char *verdict);
bool aim_is_synchronous(json_t *line);
/* A figure with its range, and the aim, as text. */
enum { AIM_TEXT = 112 };
const char *aim_spread(json_t *spread, char text[AIM_TEXT]);
const char *aim_wanted(json_t *line, char text[AIM_TEXT]);

/* figures_peers.c: the figures of the aims, each a file of its own in `directory`. 0 or negative
 * errno, after a message. */
int peers_plots(json_t *all, const char *directory);

/* Prints what was measured at a place. */
void peers_table_print(json_t *result, const char *place);

#endif
