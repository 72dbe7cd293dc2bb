// SPDX-License-Identifier: Apache-2.0
/* What the lab's own files share. */
#ifndef NFSCACHED_RACE_RUN_H
#define NFSCACHED_RACE_RUN_H

#include <stdint.h>

#include "tests/lib/sim.h"
#include "tests/race/lab/lab.h"

/* A fiber of the run under way comes to a point. */
void lab_point_in_run(const char *name, uint64_t page);

/* A run whose lanes are all let go at once, under `policy`, instead of a schedule. Set-up and check
 * are not under it. */
void lab_run_under(const struct lab_entry *e, const struct lab_protocol *p,
                   const struct sim_policy *policy, struct lab_result *result);
/* Of the run under way, or that was last. */
const char *lab_fiber_name(unsigned id);
bool lab_fiber_is_lane(unsigned id);
/* 0: nobody of that name. */
unsigned lab_fiber_of(const char *name);

#endif
