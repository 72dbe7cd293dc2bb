// SPDX-License-Identifier: Apache-2.0
/*
 * Self-describing records: what the prober fills pages, or parts of pages, with.
 *
 *   0   8   "NFSPROBE"
 *   8   4   run: the number of this run, so that what an older one left behind is told apart
 *   12  2   file: which of the run's files
 *   14  2   writer
 *   16  8   sequence: 1 for the writer's first record at this offset, then 2, 3...
 *   24  8   offset of the record in its file
 *   32  ... words that follow from all of the above and from their place
 *   -8  8   checksum of all before it
 *
 * Two records differ in nearly every word, so that a page which was put together from two of them,
 * from one and from zeros, or from one and something foreign is seen to be so, and where.
 */
#ifndef TESTS_RACE_PROBE_RECORD_H
#define TESTS_RACE_PROBE_RECORD_H

#include <stddef.h>
#include <stdint.h>

#define REC_MIN 64 /* bytes; a length is a multiple of 8 */

struct rec_id {
    uint32_t run;
    uint16_t file, writer;
    uint64_t seq, offset; /* seq 0: never written, zeros */
};

enum rec_state {
    REC_ZERO,  /* zeros only */
    REC_WHOLE, /* the checksum fits, and so do run, file and offset */
    REC_ALIEN, /* whole, but of another run, file or offset */
    REC_TORN,  /* anything else */
};

struct rec_seen {
    enum rec_state state;
    struct rec_id id; /* of WHOLE and ALIEN */
};

/* Fills `len` bytes; zeros when id->seq is 0. */
void rec_make(void *buf, size_t len, const struct rec_id *id);
/* Reads a record in private memory. Of `at` run, file and offset are looked at. */
struct rec_seen rec_read(const void *buf, size_t len, const struct rec_id *at);
/* Says in words what `buf` holds, byte range by byte range, given what it should hold. */
void rec_explain(char *out, size_t size, const void *buf, size_t len, const struct rec_id *want);

#endif
