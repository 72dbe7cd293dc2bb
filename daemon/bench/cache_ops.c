// SPDX-License-Identifier: Apache-2.0
/*
 * What the operations of the cache cost, with a server that answers at once and a kernel that holds
 * nothing (cache_rig.h): ns and instructions per page.
 *
 *   lookup       READs of pages that are there
 *   insert       READs of pages that are not; memory is free
 *   evict        the same in a full cache: each page costs another one its place
 *   write        whole pages, not there before; most of it is the copy
 *   rewrite      whole pages that are dirty already
 *   merge        a mapped page comes back from the kernel with one word changed: found by comparing
 *   writeback    dirty pages to the server and committed, by requests of 1 MiB
 *   invalidate   a revalidation of a file that changed elsewhere: its pages dropped
 *   unchanged    a revalidation of one that did not, per call
 *   memcpy       of a page, for comparison
 *
 * Each repetition prepares a cache of its own, outside of what is measured.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/bench/cache_cells.h"
#include "daemon/bench/cache_rig.h"
#include "daemon/bench/instructions.h"
#include "daemon/bench/stats.h"

#define MIB (1u << 20)

/* One repetition of one cell: what it works on, and what it did. */
struct work {
    struct rig rig;
    struct rig_file *f;
    struct rig_read read;
    uint64_t pages;   /* of the file, and of the cache */
    uint32_t request; /* bytes */
    uint64_t random;
    int counter;
    uint64_t start_ns, start_ins;
    uint64_t ns, ins, done; /* done: pages, or calls */
    uint8_t *data;          /* MIB bytes */
};

static void begin(struct work *w)
{
    w->start_ins = instructions_read(w->counter);
    w->start_ns = bench_now();
}

static void end(struct work *w, uint64_t done)
{
    w->ns += bench_now() - w->start_ns;
    w->ins += instructions_read(w->counter) - w->start_ins;
    w->done += done;
}

static uint64_t file_bytes(const struct work *w)
{
    return w->pages << PAGE_SHIFT;
}

static void fill(struct work *w)
{
    for (uint64_t at = 0; at < file_bytes(w); at += MIB)
        rig_read(w->f, &w->read, at, MIB);
}

static void do_lookup(struct work *w)
{
    uint64_t units = file_bytes(w) / w->request, pages = w->request >> PAGE_SHIFT;
    uint64_t n = 200000 / pages;

    fill(w);
    begin(w);
    for (uint64_t i = 0; i < n; i++)
        rig_read(w->f, &w->read, stats_random(&w->random) % units * w->request, w->request);
    end(w, n * pages);
}

static void do_insert(struct work *w)
{
    begin(w);
    for (uint64_t at = 0; at < file_bytes(w); at += w->request)
        rig_read(w->f, &w->read, at, w->request);
    end(w, w->pages);
}

/* The file is twice as long as the cache: first one half, then the other. */
static void do_evict(struct work *w)
{
    fill(w);
    begin(w);
    for (uint64_t at = 0; at < file_bytes(w); at += w->request)
        rig_read(w->f, &w->read, file_bytes(w) + at, w->request);
    end(w, w->pages);
}

static void write_all(struct work *w)
{
    for (uint64_t at = 0; at < file_bytes(w); at += w->request)
        rig_write(w->f, at, w->data, w->request, CACHE_WRITE_CALL);
}

static void do_write(struct work *w)
{
    begin(w);
    write_all(w);
    end(w, w->pages);
    rig_sync(w->f);
}

static void do_rewrite(struct work *w)
{
    write_all(w);
    begin(w);
    write_all(w);
    end(w, w->pages);
    rig_sync(w->f);
}

static void do_merge(struct work *w)
{
    mapping_writer_add(w->f->m);
    memset(w->data, 0, PAGE_SIZE); /* what a page has that nobody has filled */
    fill(w);
    /* The first touch of memory is none of the cache's work. */
    for (uint64_t at = 0; at < file_bytes(w); at += PAGE_SIZE)
        rig_write(w->f, at, w->data, PAGE_SIZE, CACHE_WRITE_MAPPED);
    begin(w);
    for (uint64_t at = 0; at < file_bytes(w); at += PAGE_SIZE) {
        memcpy(w->data + 1024, &at, sizeof at);
        w->data[1024] = 1;
        rig_write(w->f, at, w->data, PAGE_SIZE, CACHE_WRITE_MAPPED);
    }
    end(w, w->pages);
    rig_sync(w->f);
    mapping_writer_remove(w->f->m);
}

static void do_writeback(struct work *w)
{
    write_all(w);
    begin(w);
    rig_sync(w->f);
    end(w, w->pages);
}

static void do_invalidate(struct work *w)
{
    fill(w);

    uint64_t tick = ++w->f->ticks;
    struct attr now = rig_attr(w->f);
    struct cache_reval_result r;

    begin(w);
    mapping_revalidate(w->f->m, &now, false, &r);
    end(w, w->pages);
    if (r.dropped != w->pages || tick != w->f->ticks)
        w->done = 0;
}

static void do_unchanged(struct work *w)
{
    struct attr now = rig_attr(w->f);

    fill(w);
    begin(w);
    for (int i = 0; i < 10000; i++)
        mapping_revalidate(w->f->m, &now, false, NULL);
    end(w, 10000);
}

static void do_memcpy(struct work *w)
{
    uint8_t *to = malloc(file_bytes(w));

    if (!to)
        return;
    memset(to, 1, file_bytes(w));
    begin(w);
    for (uint64_t at = 0; at < file_bytes(w); at += PAGE_SIZE)
        memcpy(to + at, w->data + (at & (MIB - 1)), PAGE_SIZE);
    /* So that it is not left out. */
    __asm__ volatile("" : : "r"(to) : "memory");
    end(w, w->pages);
    free(to);
}

struct op {
    const char *name;
    uint32_t request; /* bytes; 0: none */
    uint32_t most; /* pages at most; 0: as large as asked for. What is written is memory in use */
    bool sizes;    /* at 1 Ki pages, and so on by 32, to the most; else at the middle one only */
    bool calls;    /* counted by calls, not by pages */
    void (*run)(struct work *w);
};

static const struct op ops[] = {
    {"lookup", PAGE_SIZE, 0, true, false, do_lookup},
    {"lookup", MIB, 0, false, false, do_lookup},
    {"insert", PAGE_SIZE, 0, true, false, do_insert},
    {"insert", MIB, 0, false, false, do_insert},
    {"evict", PAGE_SIZE, 0, false, false, do_evict},
    {"evict", MIB, 0, false, false, do_evict},
    {"write", PAGE_SIZE, 32768, false, false, do_write},
    {"write", MIB, 32768, false, false, do_write},
    {"rewrite", PAGE_SIZE, 32768, false, false, do_rewrite},
    {"merge", PAGE_SIZE, 32768, false, false, do_merge},
    {"writeback", MIB, 32768, false, false, do_writeback},
    {"invalidate", 0, 0, true, false, do_invalidate},
    {"unchanged", 0, 0, true, true, do_unchanged},
    {"memcpy", PAGE_SIZE, 32768, false, false, do_memcpy},
};

struct job {
    const struct op *op;
    uint64_t pages;
};

static int run(struct cell *c)
{
    const struct job *j = cell_arg(c);
    struct work *w = calloc(1, sizeof *w);
    bool evicts = j->op->run == do_evict;
    /* Room for what is no page: masks, frames in flight. To evict, none. */
    uint64_t room = evicts ? 0 : j->pages / 8 + 4096;
    uint64_t bytes = (j->pages + room) * (PAGE_SIZE + 128);
    int err;

    if (!w || !(w->data = aligned_alloc(PAGE_SIZE, MIB))) {
        free(w);
        return -ENOMEM;
    }
    memset(w->data, 0xa5, MIB);
    w->pages = j->pages;
    w->request = j->op->request ? j->op->request : MIB;
    w->random = 1;
    w->counter = instructions_open();
    err = rig_open(&w->rig, bytes, 1, file_bytes(w) * (evicts ? 2 : 1), bytes);
    if (err)
        goto out;
    w->f = &w->rig.file[0];
    rig_thread_begin();
    j->op->run(w);
    rig_thread_end();
    rig_close(&w->rig);
    if (!w->done) {
        err = cell_fail(c, "it did not do what was to be measured");
        goto out;
    }
    cell_sample(c, j->op->calls ? "call_ns" : "page_ns", "ns", BETTER_LESS,
                (double)w->ns / (double)w->done);
    if (w->counter >= 0)
        cell_sample(c, j->op->calls ? "call_instructions" : "page_instructions", "count",
                    BETTER_LESS, (double)w->ins / (double)w->done);
out:
    if (w->counter >= 0)
        close(w->counter);
    free(w->data);
    free(w);
    return err;
}

static void add(struct matrix *m, const struct op *op, uint64_t pages)
{
    struct job *j = malloc(sizeof *j);

    if (!j)
        exit(bench_fail(BENCH_FAILED, "out of memory"));
    *j = (struct job){op, pages};

    struct cell *c = matrix_add(m, "cache", "ours", run, j);

    cell_at_end(c, free);
    cell_param(c, "op", "%s", op->name);
    if (op->request)
        cell_param(c, "block", "%u", op->request);
    cell_param(c, "pages", "%llu", (unsigned long long)pages);
}

void cache_cells_ops(struct matrix *m, uint64_t most, bool quick)
{
    uint64_t least = 1024, middle = most < 32768 ? most : 32768;

    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        uint64_t limit = ops[i].most && ops[i].most < most ? ops[i].most : most;

        if (!ops[i].sizes || quick)
            add(m, &ops[i], middle < limit ? middle : limit);
        else
            for (uint64_t pages = least; pages <= limit; pages *= 32)
                add(m, &ops[i], pages);
    }
}
