// SPDX-License-Identifier: Apache-2.0
/*
 * Where an inode was last seen below a directory: inode number -> (parent's inode number, name).
 * It is what handles of kind 2 (export.h) are opened through. Entries are hints: whoever opens by
 * one compares the identity of what came out. A miss is answered by one walk of the directory.
 * Thread safe (one mutex, a leaf: nothing else is locked while it is held).
 */
#ifndef NFSCACHED_SERVE_PATHMAP_H
#define NFSCACHED_SERVE_PATHMAP_H

#include <stdint.h>

struct pathmap;

struct pathmap *pathmap_new(int rootfd, uint64_t root_ino);
void pathmap_free(struct pathmap *map);

void pathmap_learn(struct pathmap *map, uint64_t ino, uint64_t parent, const char *name);
void pathmap_forget(struct pathmap *map, uint64_t ino);

/*
 * An O_PATH descriptor of inode INO whose identity stamp (see pathmap_stamp) is STAMP.
 * Searches the directory when the hint is missing or wrong. -ESTALE when it is not there.
 */
int pathmap_open(struct pathmap *map, uint64_t ino, uint64_t stamp);

/* What tells two lives of one inode number apart: the birth time in ns, 0 when unknown. */
int pathmap_identity(int fd, uint64_t *ino, uint64_t *stamp);

#endif
