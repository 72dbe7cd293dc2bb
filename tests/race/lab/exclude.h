// SPDX-License-Identifier: Apache-2.0
/*
 * How to keep a page fault away from a page that is being removed: the ways that were proposed or
 * taken, small enough to be compared.
 *
 * A fault is a READ here, from the instant at which the kernel has reserved the page (kernel.read)
 * until the page is mapped (kernel.filled). The removal is a revalidation, from step 1 to the end
 * of step 3. Each way has two sides:
 *
 *                     fault                                removal
 *   truncate count    notes the count; looks again when    counts up at each unmap
 *                     it is mapped: another? once more
 *   seqlock, yield    yields while it is odd; looks again  odd from the unmap to the last page
 *   page lock         holds the page's lock until it is    page by page: lock, unmap, drop, unlock
 *                     mapped
 *   ours              nothing                              generation, and a second unmap
 *
 * Ours is cache/ itself; the others are hooks at its points. No lock of the cache is held in them.
 */
#ifndef NFSCACHED_RACE_EXCLUDE_H
#define NFSCACHED_RACE_EXCLUDE_H

#include "tests/race/lab/lab.h"

#define EXCLUDE_PAGES 16

struct exclude_figures {
    uint64_t unmaps, locks, yields, retries;
};

extern struct exclude_figures exclude_figures;
extern const struct lab_hook exclude_ours[], exclude_truncate_count[], exclude_seqlock[],
    exclude_page_lock[];

/* Before a run. */
void exclude_reset(void);

/* The fault's side alone, for the measuring of what it costs. */
struct exclude_way {
    const char *name;
    uint64_t (*enter)(uint64_t page);
    bool (*leave)(uint64_t page, uint64_t entered); /* false: once more */
};
extern const struct exclude_way exclude_ways[]; /* ends with a name of NULL */

/* `run orphan-map --cost`: prints the table. Exit status. */
int orphan_map_cost(void);

#endif
