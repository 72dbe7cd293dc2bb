// SPDX-License-Identifier: Apache-2.0
/*
 * Which of the indexes 0..count-1 are taken. The lowest free one is handed out first, so that what
 * is in use stays together at the low end, and what is beyond can be given back to the system.
 *
 *   level 2        [0.......]                 a bit is set when the word below it is full
 *   level 1        [110.....][........]
 *   level 0        [11111111][11111111][1011....] ...     a bit for each index
 *
 * Taking, giving back and asking are O(levels), which is at most 5. Words that were never touched
 * cost address space only. Index 0 means "none" and is taken from the beginning.
 *
 * All functions: the caller's lock is held.
 */
#ifndef NFSCACHED_CACHE_INDEXMAP_H
#define NFSCACHED_CACHE_INDEXMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INDEXMAP_LEVELS 6

struct indexmap {
    uint64_t *level[INDEXMAP_LEVELS];
    unsigned levels;
    uint32_t count;
    uint32_t touched; /* indexes at and above it were never taken */
    size_t bytes;
};

/* 0 or -ENOMEM. */
int indexmap_init(struct indexmap *m, uint32_t count);
/* Zeroes are allowed: one that was never made. */
void indexmap_destroy(struct indexmap *m);
/* The lowest free index below `below`; 0: there is none. */
uint32_t indexmap_take(struct indexmap *m, uint32_t below);
/* This one, which is free. */
void indexmap_take_this(struct indexmap *m, uint32_t index);
/* It was taken. */
void indexmap_put(struct indexmap *m, uint32_t index);
bool indexmap_taken(const struct indexmap *m, uint32_t index);
/* Takes the first run of free indexes at or after `from` that were ever in use, `most` of them at
 * most: so that their memory can be given back while nobody is given them. The number taken, from
 * *first on; 0: there is no such run. */
uint32_t indexmap_take_run(struct indexmap *m, uint32_t from, uint32_t most, uint32_t *first);
void indexmap_put_run(struct indexmap *m, uint32_t first, uint32_t n);

#endif
