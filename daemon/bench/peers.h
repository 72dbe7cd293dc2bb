// SPDX-License-Identifier: Apache-2.0
/* `nfscached bench peers`, inside; see peers.c. */
#ifndef NFSCACHED_BENCH_PEERS_H
#define NFSCACHED_BENCH_PEERS_H

#include "daemon/bench/result.h"

/* Adds to `all` what `part` has, a result measured at `place`: names of targets, and of the targets
 * that are limits, become "PLACE:NAME"; `note` is said of each of them. */
void peers_merge(json_t *all, json_t *part, const char *place, const char *note);

/* Adds the ratios of ours to all others of a place, and to its limits: cells of "peers". */
void peers_ratios(json_t *all, const char *place);

/* Is it one to compare clients by? Tails are in the results, but too noisy for that. */
bool peers_compares(json_t *metric);

/* Prints what was measured at a place. */
void peers_table_print(json_t *result, const char *place);

#endif
