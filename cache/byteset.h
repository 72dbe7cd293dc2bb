// SPDX-License-Identifier: Apache-2.0
/*
 * A set of bytes of one page, in 32 bits.
 *
 *   0                          empty
 *   hi << 13 | lo              the range [lo, hi), 0 <= lo < hi <= 4096
 *   1 << 31 | mask             any set: a bitmap of 512 bytes in the mask slab
 *
 * Nearly every page that was ever written holds one range (an append, a whole page), so nearly
 * every set costs nothing beyond its word. A second range moves the set into a mask; a mask whose
 * content is a range again moves back. Masks are carved out of frames (eight to a frame), so the
 * cache's one budget covers them.
 *
 * All functions: the lock that guards the page is held. None fails: masks have a reserve
 * (pool.c) because the places that need one have nobody to report to.
 */
#ifndef NFSCACHED_CACHE_BYTESET_H
#define NFSCACHED_CACHE_BYTESET_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/arena.h"

typedef uint32_t byteset;
struct cache;

#define BYTESET_EMPTY ((byteset)0)
#define BYTESET_FULL  ((byteset)(PAGE_SIZE << 13))

static inline bool byteset_empty(byteset s)
{
    return s == BYTESET_EMPTY;
}

/* Masks that became full are folded back, so this is exact. */
static inline bool byteset_full(byteset s)
{
    return s == BYTESET_FULL;
}

void byteset_add(struct cache *c, byteset *s, uint32_t lo, uint32_t hi);
void byteset_remove(struct cache *c, byteset *s, uint32_t lo, uint32_t hi);
void byteset_clear(struct cache *c, byteset *s);
/* *to |= from; `from` stays. */
void byteset_or(struct cache *c, byteset *to, byteset from);
/* *to |= *from; *from becomes empty. */
void byteset_move(struct cache *c, byteset *to, byteset *from);
/* *s &= ~other */
void byteset_subtract(struct cache *c, byteset *s, byteset other);
/* An independent copy (a mask is copied). */
byteset byteset_dup(struct cache *c, byteset s);
/* The first run of members at or after `from`: true and [*lo, *hi). */
bool byteset_run(struct cache *c, byteset s, uint32_t from, uint32_t *lo, uint32_t *hi);
/* True if every byte of [lo, hi) is a member. */
bool byteset_contains(struct cache *c, byteset s, uint32_t lo, uint32_t hi);
uint32_t byteset_count(struct cache *c, byteset s);
/* Moves its mask out of a frame that goes. */
void byteset_migrate(struct cache *c, byteset *s);

#endif
