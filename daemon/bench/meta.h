// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached bench meta`, inside. Each cell is one work in a directory of its own, made for each
 * repetition.
 *
 *   meta.c           options, which works there are
 *   meta_storms.c    many small operations: create, open, stat, readdir, rename, unlink, ...
 *   meta_programs.c  what people wait for: untar, cp -r, git status, a compiler, rm -r
 */
#ifndef NFSCACHED_BENCH_META_H
#define NFSCACHED_BENCH_META_H

#include <limits.h>

#include "daemon/bench/target.h"

struct meta_options {
    struct targets targets;
    unsigned files;     /* of a storm */
    unsigned tree;      /* files of the programs' tree */
    char material[256]; /* a directory elsewhere: what the programs work on; "" until needed */
};

struct meta_cell;
struct meta_work {
    const char *name;
    /* Prepares, and does the work. 0 or negative errno; may call cell_skip(). */
    int (*run)(struct cell *c, struct meta_cell *mc);
    const char *limit_target, *limit_work, *limit_metric; /* NULL: none */
};

struct meta_cell {
    struct meta_options *o;
    const struct target *target;
    const struct meta_work *work;
    char dir[PATH_MAX];     /* of this repetition */
    char foreign[PATH_MAX]; /* the same by the other way; "" if there is none */
};

extern const struct meta_work meta_storms[], meta_programs[]; /* end with a name of NULL */

/* Removes what meta_programs.c made outside of the targets. */
void meta_material_remove(struct meta_options *o);

#endif
