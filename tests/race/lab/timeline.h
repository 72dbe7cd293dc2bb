// SPDX-License-Identifier: Apache-2.0
/* A run as a drawing of lanes: one column for each actor, time running down. */
#ifndef NFSCACHED_RACE_TIMELINE_H
#define NFSCACHED_RACE_TIMELINE_H

#include <stdio.h>

#include "tests/race/lab/lab.h"

/* Text, `width` characters wide at most; moments of loss stand out. */
void timeline_text(FILE *out, const struct lab_result *r, unsigned width);
/* 0, or -errno of writing `path`. */
int timeline_svg(const char *path, const struct lab_entry *e, const struct lab_protocol *p,
                 const char *layer, const struct lab_result *r);

#endif
