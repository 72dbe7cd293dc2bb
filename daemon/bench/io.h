// SPDX-License-Identifier: Apache-2.0
/* Going through a file with several threads, every operation timed. */
#ifndef NFSCACHED_BENCH_IO_H
#define NFSCACHED_BENCH_IO_H

#include <stdatomic.h>

#include "daemon/bench/bench.h"

struct io_job {
    int fd;
    unsigned char *map; /* or NULL: pread() and pwrite() */
    size_t block;       /* bytes */
    uint64_t blocks;    /* of the file */
    uint32_t *order;    /* in which they are visited; NULL: from the first to the last */
    bool writing;
    double seconds; /* at most */
    /* results */
    atomic_uint_fast64_t done; /* blocks */
    double us;
    struct histogram latency;
    /* private */
    atomic_uint_fast64_t next;
    atomic_int error;
    uint64_t until_ns;
};

/* A random order. 0 or -ENOMEM. job->order is the caller's to free. */
int io_job_shuffle(struct io_job *job, uint64_t seed);

/* Each block once, until the time is over; `threads` of them at a time. 0 or negative errno. */
int io_job_run(struct io_job *job, unsigned threads);

#endif
