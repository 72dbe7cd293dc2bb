// SPDX-License-Identifier: Apache-2.0
/*
 * Memory beside the data: what a process that caches n pages, or knows n files, grows by, for each.
 *
 *   page         a large file is filled; its frames are never touched, so that all that becomes
 *                resident is metadata: record, index, reference count, free list
 *   page, used   the same after the cache was filled three times over: ghosts and lists are in use
 *   file         one page in each of many files: a mapping, an index, and a page
 *   inode        what the FUSE front keeps for a regular file that was looked up: inode, record,
 *                name
 *
 * Measured in a child process, by its resident set: nothing that was freed before is used again
 * unseen.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/bench/cache_cells.h"
#include "daemon/bench/cache_rig.h"
#include "daemon/bench/child.h"
#include "fuse/ops.h"

#define MIB (1u << 20)

struct job {
    const char *what;
    uint64_t n;
    double (*run)(uint64_t n); /* bytes for each of n; negative: failed */
};

static double resident(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long all, pages = 0;

    if (f) {
        if (fscanf(f, "%lu %lu", &all, &pages) != 2)
            pages = 0;
        fclose(f);
    }
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double grown(double before, uint64_t n)
{
    return (resident() - before) / (double)n;
}

static double pages_of(uint64_t n, unsigned times)
{
    struct rig_read *read = calloc(1, sizeof *read);
    uint64_t bytes = n * (PAGE_SIZE + 128);
    struct rig rig;

    if (!read || rig_open(&rig, bytes, 1, times * (n << PAGE_SHIFT), bytes))
        return -1;
    rig_thread_begin();
    rig_read(&rig.file[0], read, 0, MIB);

    double before = resident();

    for (uint64_t at = MIB; at < times * (n << PAGE_SHIFT); at += MIB)
        rig_read(&rig.file[0], read, at, MIB);
    return grown(before, n - MIB / PAGE_SIZE);
}

static double run_page(uint64_t n)
{
    return pages_of(n, 1);
}

static double run_page_used(uint64_t n)
{
    return pages_of(n, 3);
}

static double run_file(uint64_t n)
{
    struct rig_read *read = calloc(1, sizeof *read);
    uint64_t bytes = (n + 4096) * (PAGE_SIZE + 128);
    double before = resident();
    struct rig rig;

    if (!read || rig_open(&rig, bytes, (uint32_t)n, PAGE_SIZE, bytes))
        return -1;
    rig_thread_begin();
    for (uint64_t i = 0; i < n; i++)
        rig_read(&rig.file[i], read, 0, PAGE_SIZE);
    return grown(before, n);
}

static double run_inode(uint64_t n)
{
    struct front *f = calloc(1, sizeof *f);
    struct rig rig;

    if (!f || rig_open(&rig, 64 * MIB, (uint32_t)n + 2, 0, MIB))
        return -1;
    /* The rig made mappings of its own, in places of the table that are wanted now. */
    for (uint32_t i = 0; i < rig.files; i++)
        mapping_free(rig.file[i].m);
    malloc_trim(0);
    f->config.cto = true;
    f->arena = &rig.arena;
    f->cache = rig.c;
    f->inode_slab = slab_new(&rig.arena, ARENA_INODES);
    if (!f->inode_slab || inodes_init(f) || names_init(f))
        return -1;

    double before = resident();
    struct inode *root = NULL;

    for (uint64_t i = 0; i <= n; i++) {
        struct attr attr = {
            .mode = (i ? S_IFREG : S_IFDIR) | 0755, .nlink = 1, .size = 4096, .fileid = i + 1};
        struct fh fh = {.len = 28};
        char name[32];

        memcpy(fh.data, &i, sizeof i);

        struct inode *ino = inode_get(f, &fh, &attr);

        if (!ino)
            return -1;
        if (!i)
            root = ino;
        snprintf(name, sizeof name, "file-%06llu.c", (unsigned long long)i);
        names_set(f, root, name, ino);
    }
    return grown(before, n);
}

static bool measure(const void *arg, void *out)
{
    const struct job *j = arg;
    double bytes = j->run(j->n);

    memcpy(out, &bytes, sizeof bytes);
    return bytes >= 0;
}

static int run(struct cell *c)
{
    double bytes = -1;

    if (!cell_recording(c))
        return 0;

    int rc = measure_apart(c, measure, cell_arg(c), &bytes, sizeof bytes);

    if (rc < 0)
        return rc;
    cell_sample(c, "bytes", "bytes", BETTER_LESS, bytes);
    return 0;
}

void cache_cells_memory(struct matrix *m, bool quick)
{
    static const struct job jobs[] = {
        {"page", 262144, run_page},
        {"page, used", 262144, run_page_used},
        {"file", 65536, run_file},
        {"inode", 65536, run_inode},
    };

    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
        struct job *j = malloc(sizeof *j);

        if (!j)
            exit(bench_fail(BENCH_FAILED, "out of memory"));
        *j = jobs[i];
        if (quick)
            j->n /= 8;

        struct cell *c = matrix_add(m, "cache", "ours", run, j);

        cell_at_end(c, free);
        cell_param(c, "memory of", "%s", j->what);
        cell_param(c, "number", "%llu", (unsigned long long)j->n);
    }
}
