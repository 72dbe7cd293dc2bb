// SPDX-License-Identifier: Apache-2.0
/* The catalogue: an entry is a file beside this one. */
#include "tests/race/lab/lab.h"

#define ENTRIES(X)                                                                                 \
    X(lost_write)                                                                                  \
    X(stop_at_first)                                                                               \
    X(orphan_map)                                                                                  \
    X(uptodate_cleared)                                                                            \
    X(count_check)                                                                                 \
    X(migration)                                                                                   \
    X(pinned)                                                                                      \
    X(direct_io)                                                                                   \
    X(flag_order)                                                                                  \
    X(stale_extend)                                                                                \
    X(verifier)                                                                                    \
    X(congested)                                                                                   \
    X(size_shrink)                                                                                 \
    X(two_in_flight)                                                                               \
    X(fill_vs_punch)                                                                               \
    X(notify_deadlock)                                                                             \
    X(refused_writepage)                                                                           \
    X(error_lost)                                                                                  \
    X(evict_dirty_index)                                                                           \
    X(notify_drops_write)                                                                          \
    X(wrong_base)                                                                                  \
    X(short_read)                                                                                  \
    X(inode_lock)                                                                                  \
    X(revalidation)                                                                                \
    X(ack_cleans)                                                                                  \
    X(prefetch)

#define X(name) extern const struct lab_entry entry_##name;
ENTRIES(X)
#undef X

#define X(name) &entry_##name,
const struct lab_entry *const lab_catalogue[] = {ENTRIES(X) NULL};
#undef X
