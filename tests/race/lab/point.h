// SPDX-License-Identifier: Apache-2.0
/*
 * Named points, as the product's sources see them when they are built with the lab.
 *
 * In a simulation (tests/lib/sim.h) a point is where a lane may be stopped by its schedule, or
 * preempted by the search. In a daemon it is where a thread waits while somebody holds the point,
 * over the control socket.
 */
#ifndef NFSCACHED_RACE_POINT_H
#define NFSCACHED_RACE_POINT_H

#include <stdbool.h>
#include <stdint.h>

#define LAB_NO_PAGE UINT64_MAX

#define POINT(name)          lab_point(name, LAB_NO_PAGE)
#define POINT_AT(name, page) lab_point(name, page)

void lab_point(const char *name, uint64_t page);

/* In a daemon. Any thread. Threads that come to `name` wait there until it is released. */
int lab_hold(const char *name);
void lab_release(const char *name);
/* How many have come to `name` since it was held; waits until there are `n` or `ms` have passed. */
unsigned lab_arrived(const char *name, unsigned n, unsigned ms);
void lab_release_all(void);

#endif
