// SPDX-License-Identifier: Apache-2.0
/* Threads that take block after block from one counter; see io.h. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/bench/io.h"
#include "daemon/bench/stats.h"

struct worker {
    struct io_job *job;
    pthread_t thread;
    unsigned char *buffer;
    struct histogram latency;
};

int io_job_shuffle(struct io_job *job, uint64_t seed)
{
    job->order = malloc(job->blocks * sizeof *job->order);
    if (!job->order)
        return -ENOMEM;
    stats_shuffle(job->order, job->blocks, &seed);
    return 0;
}

static int one(const struct io_job *job, unsigned char *buffer, uint64_t block)
{
    size_t at = block * job->block;

    if (job->map && job->writing)
        memcpy(job->map + at, buffer, job->block);
    else if (job->map)
        memcpy(buffer, job->map + at, job->block);
    else {
        ssize_t n = job->writing ? pwrite(job->fd, buffer, job->block, (off_t)at)
                                 : pread(job->fd, buffer, job->block, (off_t)at);
        if (n != (ssize_t)job->block)
            return n < 0 ? -errno : -EIO;
    }
    __asm__ volatile("" : : "r"(buffer) : "memory");
    return 0;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct io_job *job = w->job;

    for (;;) {
        uint64_t n = atomic_fetch_add(&job->next, 1), start = bench_now();
        if (n >= job->blocks || start > job->until_ns || bench_stopped() ||
            atomic_load(&job->error))
            return NULL;
        int rc = one(job, w->buffer, job->order ? job->order[n] : n);
        if (rc == -EINTR && bench_stopped())
            return NULL;
        if (rc < 0)
            atomic_store(&job->error, rc);
        histogram_add(&w->latency, bench_now() - start);
        atomic_fetch_add(&job->done, 1);
    }
}

int io_job_run(struct io_job *job, unsigned threads)
{
    struct worker *w = calloc(threads, sizeof *w);
    unsigned started = 0;
    int rc = w ? 0 : -ENOMEM;

    for (unsigned i = 0; rc == 0 && i < threads; i++) {
        w[i].job = job;
        if (posix_memalign((void **)&w[i].buffer, 4096, job->block))
            rc = -ENOMEM;
        else
            memset(w[i].buffer, 'a' + (int)(i % 26), job->block);
    }
    uint64_t start = bench_now();
    job->until_ns = start + (uint64_t)(job->seconds * 1e9);
    /* The first one is this thread: no hand-over where there is only one. */
    for (unsigned i = 1; rc == 0 && i < threads; i++) {
        rc = -pthread_create(&w[i].thread, NULL, work, &w[i]);
        started += rc == 0;
    }
    if (rc == 0)
        work(&w[0]);
    else
        atomic_store(&job->error, rc);
    for (unsigned i = 1; i <= started; i++)
        pthread_join(w[i].thread, NULL);
    job->us = bench_us_since(start);
    for (unsigned i = 0; w && i < threads; i++) {
        histogram_merge(&job->latency, &w[i].latency);
        free(w[i].buffer);
    }
    free(w);
    return rc ? rc : atomic_load(&job->error);
}
