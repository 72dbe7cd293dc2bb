// SPDX-License-Identifier: Apache-2.0
/* The cells of `nfscached bench cache`; see cache.c. */
#ifndef NFSCACHED_BENCH_CACHE_CELLS_H
#define NFSCACHED_BENCH_CACHE_CELLS_H

#include "daemon/bench/bench.h"

/* What each operation costs, in a cache of up to `most` pages. */
void cache_cells_ops(struct matrix *m, uint64_t most, bool quick);
/* Operations by 1, 2, ... `most` threads. */
void cache_cells_threads(struct matrix *m, unsigned most, bool quick);
/* Hit ratios on traces, ours and others', for a cache of `capacity` pages. */
void cache_cells_traces(struct matrix *m, uint32_t capacity, size_t accesses, uint64_t seed);
/* Memory for a page, and for an inode. */
void cache_cells_memory(struct matrix *m, bool quick);

#endif
