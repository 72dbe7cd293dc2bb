// SPDX-License-Identifier: Apache-2.0
/*
 * What the NFS client counts, per procedure and per connection.
 *
 * Each connection counts into its own block, from its loop's thread only; any thread may read. The
 * counters are relaxed atomics written without a locked instruction, so a reader sees each counter
 * whole, and several of them from slightly different instants.
 *
 * Latencies go into log-linear buckets (8 per power of two: at most 12.5 % wide), from which
 * percentiles are read; the idea is HdrHistogram's.
 */
#ifndef NFSCACHED_DAEMON_NFS_STATS_H
#define NFSCACHED_DAEMON_NFS_STATS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/nfs/proto.h"

enum { HIST_SUB_BITS = 3, HIST_SUB = 1 << HIST_SUB_BITS, HIST_OCTAVES = 42 };
enum { HIST_BUCKETS = HIST_OCTAVES * HIST_SUB };

typedef _Atomic uint64_t counter;

/* Only the thread that owns the counter. */
static inline void counter_add(counter *s, uint64_t n)
{
    atomic_store_explicit(s, atomic_load_explicit(s, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void counter_sub(counter *s, uint64_t n)
{
    counter_add(s, -n);
}

static inline uint64_t counter_get(const counter *s)
{
    return atomic_load_explicit((counter *)(uintptr_t)s, memory_order_relaxed);
}

struct hist {
    counter count, sum_ns, max_ns;
    counter bucket[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t ns);

/* One procedure on one connection. Latency: from the first sending to the reply. */
struct proc_counters {
    counter calls, errors, retransmits, bytes_out, bytes_in, jukebox;
    struct hist latency;
};

struct conn_counters {
    struct proc_counters proc[PROC_COUNT];
    counter connects, drops; /* connections made, and lost other than by our own end */
    counter strangers;       /* replies to no call: the second answer to a retransmission */
    counter garbled;         /* replies, or records, that were not what the protocol says */
    counter timeouts;
    counter queued, sent, delayed; /* calls now waiting to be sent, on the wire, after a JUKEBOX */
};

/* ---- what a reader gets ---- */

struct nfs3_proc_stats {
    uint64_t calls, errors, retransmits, bytes_out, bytes_in, jukebox;
    uint64_t mean_ns, p50_ns, p90_ns, p99_ns, max_ns;
};

struct nfs3_conn_stats {
    bool bulk;
    const char *state;   /* "down", "connecting", "up", "closed" */
    uint16_t local_port; /* 0 before the first connection */
    uint64_t queued, sent, delayed;
    uint64_t outstanding_bytes; /* of bulk calls */
    uint64_t connects, drops, strangers, garbled, timeouts;
};

enum { NFS3_STATS_CONNS = 64 };

struct nfs3_stats {
    struct nfs3_proc_stats proc[PROC_COUNT];
    uint64_t retransmits, reconnects, timeouts, garbled;
    bool responding;       /* false between "not responding" and "OK" */
    char last_error[256];  /* one line, "" if there was none */
    uint64_t last_error_s; /* CLOCK_REALTIME */
    int nconn;
    struct nfs3_conn_stats conn[NFS3_STATS_CONNS];
};

/* The name of a procedure, as RFC 1813 writes it; NULL beyond the last. */
const char *nfs3_proc_name(int proc);

/* Sums `n` blocks (one per connection) into `out`'s procedures and totals. */
void stats_sum(struct nfs3_stats *out, const struct conn_counters *const *blocks, int n);

#endif
