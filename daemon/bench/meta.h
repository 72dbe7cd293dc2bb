// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached bench meta`, inside. Each cell is one work in a directory of its own, made for each
 * repetition.
 *
 *   meta.c           options, which works there are
 *   meta_storms.c    many small operations: create, open, stat, readdir, rename, unlink, ...
 *   meta_programs.c  what people wait for: untar, cp -r, git status, a compiler, rm -r
 *   meta_sizes.c     what may grow with something: with the entries of a directory, the files of a
 *                    tree, the pages cached of a file; only of the sizes that are asked for
 */
#ifndef NFSCACHED_BENCH_META_H
#define NFSCACHED_BENCH_META_H

#include <limits.h>
#include <stdbool.h>

#include "daemon/bench/lists.h"
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
    unsigned size;          /* of a work of meta_sizes.c */
    bool kept;              /* it has made what it keeps for all repetitions */
    char dir[PATH_MAX];     /* of this repetition */
    char foreign[PATH_MAX]; /* the same by the other way; "" if there is none */
};

extern const struct meta_work meta_storms[], meta_programs[]; /* end with a name of NULL */

/* meta_sizes.c: each is a work by itself, added for each size of its list. */
extern const struct meta_work meta_large_list, meta_large_tree, meta_cached;

/* meta_programs.c: runs a program in `dir`, silently. 0 or negative errno, -ECHILD when it failed.
 */
int meta_run_program(const char *dir, const char *const *argv);
bool meta_is_installed(const char *program);

/* meta_storms.c: one operation `n` times on one name, timed: the distribution "op". */
int meta_repeat(struct cell *c, unsigned n, int (*op)(const char *path), const char *path);
/* All names of a directory, and their attributes as `ls -l` wants them. us, or negative errno. */
double meta_list(const char *dir, bool with_attributes, unsigned *entries);

/* Removes what meta_programs.c made outside of the targets. */
void meta_material_remove(struct meta_options *o);

#endif
