// SPDX-License-Identifier: Apache-2.0
/* What the lab's own files share. */
#ifndef NFSCACHED_RACE_RUN_H
#define NFSCACHED_RACE_RUN_H

#include <stdint.h>

/* A fiber of the run under way comes to a point. */
void lab_point_in_run(const char *name, uint64_t page);

#endif
