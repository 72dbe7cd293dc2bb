// SPDX-License-Identifier: Apache-2.0
/*
 * A file as a grid of records of one length, each with one writer for ever, and what is known of
 * each:
 *
 *   begun   the sequence whose writing has begun
 *   done    the one whose store or write(2) returned
 *   acked   the one that fsync or close of its writer covered; at the server, for all to see
 *
 * begun >= done >= acked; all three are written by the writer alone. Who looks notes one of them
 * before, and begun after: what is seen must lie between. A torn record is a finding only where
 * both are the same.
 */
#ifndef TESTS_RACE_PROBE_GRID_H
#define TESTS_RACE_PROBE_GRID_H

#include "tests/race/probe/run.h"

struct cell {
    volatile uint64_t begun, done, acked;
};

struct grid {
    const char *name;
    uint16_t file;
    int n;
    size_t len;
    int (*owner)(const struct grid *g, int i);
    int writers;
    bool shared_pages; /* records of several clients in one page */
    struct cell *cell;
};

enum style { BY_MAPPING, BY_WRITE };

/* One who writes. */
struct writer {
    struct grid *g;
    int me;
    const struct way *way;
    enum style style;
    bool promised; /* that what it wrote stays */
    long idle_us;
    bool careful; /* leaves a tick of the server's clock before its last write of a batch */
};

struct grid *grid_new(struct probe *p, const char *name, int n, size_t len,
                      int (*owner)(const struct grid *, int), int writers);
static inline size_t grid_bytes(const struct grid *g)
{
    return (size_t)g->n * g->len;
}
struct rec_id grid_id(const struct probe *p, const struct grid *g, int i, uint64_t seq);

/*
 * Judges what was seen of record i: a sequence from lo to hi, whole; `older` is what it is called
 * when it is below lo (LOST or STALE; where the server can be asked, it decides).
 */
void grid_judge(struct probe *p, struct grid *g, int i, const void *buf, uint64_t lo, uint64_t hi,
                enum kind older, bool promised, const struct where *w);
/* Body of a helper: struct writer. */
void grid_writer(struct probe *p, void *arg);
/* All quiet: the whole file on a way, by read and by mapping, through a new descriptor. */
void grid_compare(struct probe *p, struct grid *g, const struct way *way, enum kind older,
                  bool promised, const char *when);

#endif
