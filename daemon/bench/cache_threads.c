// SPDX-License-Identifier: Apache-2.0
/*
 * The cache under several threads: pages per second of all together, READs of 4 KiB.
 *
 *   lookup, own file    each thread has a file of its own: only the counters are shared
 *   lookup, one file    they share the mapping's lock
 *   evict, own file     each page costs another its place: they share the pool's lock
 *
 * Every thread does a fixed amount of work; what counts is the time of the last. With more threads
 * than CPUs the curve shows what being preempted with a lock in hand costs.
 */
#include <errno.h>
#include <stdlib.h>

#include "daemon/bench/cache_cells.h"
#include "daemon/bench/cache_rig.h"
#include "daemon/bench/stats.h"

enum { THREADS_MOST = 64, FILE_PAGES = 8192, EACH = 200000 };

struct crowd {
    const char *op;
    bool evict, shared;
    unsigned threads;
};

struct worker {
    struct rig_file *f;
    pthread_t thread;
    pthread_barrier_t *start;
    uint64_t seed, reads, end_ns;
    bool in_order;
    struct rig_read read;
};

static void *work(void *arg)
{
    struct worker *w = arg;

    rig_thread_begin();
    if (!w->in_order)
        for (uint64_t i = 0; i < FILE_PAGES; i++)
            rig_read(w->f, &w->read, i << PAGE_SHIFT, PAGE_SIZE);
    pthread_barrier_wait(w->start);
    pthread_barrier_wait(w->start);
    for (uint64_t i = 0; i < w->reads; i++) {
        uint64_t page = w->in_order ? i : stats_random(&w->seed) % FILE_PAGES;

        rig_read(w->f, &w->read, page << PAGE_SHIFT, PAGE_SIZE);
    }
    w->end_ns = bench_now();
    rig_thread_end();
    return NULL;
}

static int run(struct cell *c)
{
    const struct crowd *j = cell_arg(c);
    struct worker *w = calloc(j->threads, sizeof *w);
    uint64_t pages = (uint64_t)FILE_PAGES * j->threads, start, end = 0;
    uint64_t bytes = (j->evict ? pages : pages * 2 + 8192) * (PAGE_SIZE + 128);
    pthread_barrier_t barrier;
    struct rig rig;
    int err;

    if (!w)
        return -ENOMEM;
    err = rig_open(&rig, bytes, j->threads, (uint64_t)EACH << PAGE_SHIFT, bytes);
    if (err) {
        free(w);
        return err;
    }
    pthread_barrier_init(&barrier, NULL, j->threads + 1);
    for (unsigned i = 0; i < j->threads; i++) {
        w[i].f = &rig.file[j->shared ? 0 : i];
        w[i].start = &barrier;
        w[i].seed = i + 1;
        w[i].reads = EACH;
        w[i].in_order = j->evict;
        if (pthread_create(&w[i].thread, NULL, work, &w[i]))
            abort();
    }
    pthread_barrier_wait(&barrier);
    start = bench_now();
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < j->threads; i++) {
        pthread_join(w[i].thread, NULL);
        end = end > w[i].end_ns ? end : w[i].end_ns;
    }
    pthread_barrier_destroy(&barrier);
    rig_close(&rig);
    free(w);
    cell_sample(c, "pages_per_s", "1/s", BETTER_MORE,
                (double)EACH * j->threads / ((double)(end - start) / 1e9));
    return 0;
}

void cache_cells_threads(struct matrix *m, unsigned most, bool quick)
{
    static const struct crowd kinds[] = {
        {"lookup, own files", false, false, 0},
        {"lookup, one file", false, true, 0},
        {"evict, own files", true, false, 0},
    };

    most = most > THREADS_MOST ? THREADS_MOST : most;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (unsigned n = 1; n <= most; n *= 2) {
            struct crowd *j = malloc(sizeof *j);

            if (!j)
                exit(bench_fail(BENCH_FAILED, "out of memory"));
            *j = kinds[k];
            j->threads = n;

            struct cell *c = matrix_add(m, "cache", "ours", run, j);

            cell_at_end(c, free);
            cell_param(c, "op", "%s", j->op);
            cell_param(c, "threads", "%u", n);
            if (quick && n > 1)
                break;
        }
}
