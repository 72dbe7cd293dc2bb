// SPDX-License-Identifier: Apache-2.0
/*
 * Histograms and their percentiles; the counters' rules are in stats.h.
 */
#include "daemon/nfs/stats.h"

#include <stdlib.h>
#include <string.h>

static const char *const proc_names[PROC_COUNT] = {
    "NULL",    "GETATTR",     "SETATTR", "LOOKUP", "ACCESS",   "READLINK", "READ",   "WRITE",
    "CREATE",  "MKDIR",       "SYMLINK", "MKNOD",  "REMOVE",   "RMDIR",    "RENAME", "LINK",
    "READDIR", "READDIRPLUS", "FSSTAT",  "FSINFO", "PATHCONF", "COMMIT"};

const char *nfs3_proc_name(int proc)
{
    return proc >= 0 && proc < PROC_COUNT ? proc_names[proc] : NULL;
}

/* Values below HIST_SUB have a bucket each; above, the top HIST_SUB_BITS + 1 bits choose. */
static unsigned bucket_of(uint64_t ns)
{
    if (ns < HIST_SUB)
        return (unsigned)ns;
    unsigned top = 63u - (unsigned)__builtin_clzll(ns);
    unsigned octave = top - HIST_SUB_BITS + 1;
    unsigned i = octave * HIST_SUB + ((unsigned)(ns >> (top - HIST_SUB_BITS)) & (HIST_SUB - 1));
    return i < HIST_BUCKETS ? i : HIST_BUCKETS - 1;
}

/* The largest value that falls into bucket i. */
static uint64_t bucket_high(unsigned i)
{
    if (i < HIST_SUB)
        return i;
    unsigned octave = i / HIST_SUB, sub = i % HIST_SUB;
    return ((uint64_t)(HIST_SUB + sub + 1) << (octave - 1)) - 1;
}

void hist_add(struct hist *h, uint64_t ns)
{
    counter_add(&h->count, 1);
    counter_add(&h->sum_ns, ns);
    counter_add(&h->bucket[bucket_of(ns)], 1);
    if (ns > counter_get(&h->max_ns))
        atomic_store_explicit(&h->max_ns, ns, memory_order_relaxed);
}

static uint64_t percentile(const uint64_t *bucket, uint64_t total, uint64_t max, unsigned percent)
{
    uint64_t rank = (total * percent + 99) / 100, seen = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        seen += bucket[i];
        if (bucket[i] && seen >= rank)
            return bucket_high(i) < max ? bucket_high(i) : max;
    }
    return max;
}

static void proc_sum(struct nfs3_stats *out, const struct conn_counters *const *blocks, int n,
                     int proc)
{
    struct nfs3_proc_stats *s = &out->proc[proc];
    uint64_t bucket[HIST_BUCKETS] = {0}, total = 0, sum = 0;
    *s = (struct nfs3_proc_stats){0};
    for (int i = 0; i < n; i++) {
        const struct proc_counters *p = &blocks[i]->proc[proc];
        s->calls += counter_get(&p->calls);
        s->errors += counter_get(&p->errors);
        s->retransmits += counter_get(&p->retransmits);
        s->bytes_out += counter_get(&p->bytes_out);
        s->bytes_in += counter_get(&p->bytes_in);
        s->jukebox += counter_get(&p->jukebox);
        sum += counter_get(&p->latency.sum_ns);
        if (counter_get(&p->latency.max_ns) > s->max_ns)
            s->max_ns = counter_get(&p->latency.max_ns);
        for (int b = 0; b < HIST_BUCKETS; b++) {
            uint64_t c = counter_get(&p->latency.bucket[b]);
            bucket[b] += c;
            total += c;
        }
    }
    if (total) {
        s->mean_ns = sum / total;
        s->p50_ns = percentile(bucket, total, s->max_ns, 50);
        s->p90_ns = percentile(bucket, total, s->max_ns, 90);
        s->p99_ns = percentile(bucket, total, s->max_ns, 99);
    }
}

void stats_sum(struct nfs3_stats *out, const struct conn_counters *const *blocks, int n)
{
    out->retransmits = out->reconnects = out->timeouts = out->garbled = 0;
    for (int proc = 0; proc < PROC_COUNT; proc++) {
        proc_sum(out, blocks, n, proc);
        out->retransmits += out->proc[proc].retransmits;
    }
    for (int i = 0; i < n; i++) {
        uint64_t connects = counter_get(&blocks[i]->connects);
        out->reconnects += connects > 1 ? connects - 1 : 0;
        out->timeouts += counter_get(&blocks[i]->timeouts);
        out->garbled += counter_get(&blocks[i]->garbled);
    }
}
