// SPDX-License-Identifier: Apache-2.0
/* What ours is to reach, as data; peers_aims.c says how far it is. */
#ifndef NFSCACHED_BENCH_AIMS_H
#define NFSCACHED_BENCH_AIMS_H

#include <stdbool.h>

enum aim_sense {
    AIM_LEAST,     /* so many times as good as the other, or better */
    AIM_MOST,      /* so many times as dear as the other, or cheaper */
    AIM_VALUE_MOST /* a figure of ours by itself, at most */
};

/*
 * A figure is "TARGET|WORK", WORK being what peers_work() calls it: benchmark, parameters and
 * metric of a cell, the label of the run (tests/peers/bench-place) among them. The word "+" stands
 * for any but "0": sizes that the short form has smaller. TARGET|sum METRIC is the sum over all
 * cells of the target.
 */
struct aim {
    const char *place;
    const char *key;     /* short, for figures; the same one for all lines about that work */
    const char *work;    /* for people */
    const char *against; /* for people */
    const char *ours, *theirs;
    double aim;
    enum aim_sense sense;
    bool more_is_better; /* of the two figures */
    const char *note;    /* or NULL */
};

extern const struct aim aims[]; /* ends with a place of NULL */

#endif
