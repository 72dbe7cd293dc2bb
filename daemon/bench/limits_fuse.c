// SPDX-License-Identifier: Apache-2.0
/*
 * What FUSE alone costs: an in-memory file system (memfs.c) in a process of its own, mounted in a
 * scratch directory. It is mounted by the first cell that needs it, and unmounted when the last
 * cell ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/bench/child.h"
#include "daemon/bench/limit_cells.h"

#define MIB ((size_t)1 << 20)

static struct child_mount memfs = {.what = "in-memory FUSE"};

static int serve(const void *arg, const char *dir)
{
    (void)arg;
    return memfs_serve(dir);
}

static bool memfs_start(void)
{
    return child_mount(&memfs, serve, NULL);
}

static void memfs_stop(void *arg)
{
    (void)arg;
    child_unmount(&memfs);
}

/* ---- the cells ---------------------------------------------------------------------------------
 */

static void path_of(const char *name, char path[300])
{
    snprintf(path, 300, "%s/%s", memfs.dir, name);
}

static bool fill(const char *path, size_t size)
{
    struct stat st;
    char *buffer = calloc(1, MIB);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    bool good = buffer && fd >= 0 && fstat(fd, &st) == 0;

    for (size_t at = good ? (size_t)st.st_size : 0; good && at < size; at += MIB)
        good = pwrite(fd, buffer, MIB, (off_t)at) == (ssize_t)MIB;
    if (fd >= 0)
        close(fd);
    free(buffer);
    return good;
}

static int run_request(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    struct histogram *h = calloc(1, sizeof *h);
    struct statvfs st;

    if (!memfs_start() || !h) {
        free(h);
        return cell_skip(c, "%s", memfs.why_not ? memfs.why_not : "no memory");
    }
    for (unsigned i = 0; i < o->calls; i++) {
        uint64_t start = bench_now();
        if (statvfs(memfs.dir, &st) < 0)
            break;
        histogram_add(h, bench_now() - start);
    }
    cell_histogram(c, "request", h);
    free(h);
    return 0;
}

static int run_open(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    struct histogram *h = calloc(1, sizeof *h);
    char path[300];

    if (!memfs_start() || !h) {
        free(h);
        return cell_skip(c, "%s", memfs.why_not ? memfs.why_not : "no memory");
    }
    path_of("open", path);
    fill(path, MIB);
    for (unsigned i = 0; i < o->calls; i++) {
        uint64_t start = bench_now();
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || close(fd) < 0)
            break;
        histogram_add(h, bench_now() - start);
    }
    cell_histogram(c, "open", h);
    free(h);
    return 0;
}

static int read_rate(struct cell *c, bool drop)
{
    const struct limits_options *o = cell_arg(c);
    char path[300], *buffer = malloc(128 << 10);
    size_t total = 0;
    ssize_t n;

    if (!memfs_start() || !buffer) {
        free(buffer);
        return cell_skip(c, "%s", memfs.why_not ? memfs.why_not : "no memory");
    }
    path_of("read", path);
    if (!fill(path, o->mib * MIB)) {
        free(buffer);
        return cell_fail(c, "%s: %s", path, strerror(errno));
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (drop)
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    else
        while (read(fd, buffer, 128 << 10) > 0)
            ;
    lseek(fd, 0, SEEK_SET);
    uint64_t start = bench_now();
    while ((n = read(fd, buffer, 128 << 10)) > 0)
        total += (size_t)n;
    double us = bench_us_since(start);
    close(fd);
    free(buffer);
    if (total != o->mib * MIB)
        return cell_fail(c, "%s: short", path);
    cell_sample(c, "mb_s", "MB/s", BETTER_MORE, (double)total / us);
    return 0;
}

static int run_read_cached(struct cell *c)
{
    return read_rate(c, false);
}

static int run_read_dropped(struct cell *c)
{
    return read_rate(c, true);
}

/* Over bytes that are there: no file grows. */
static int write_rate(struct cell *c, size_t block)
{
    const struct limits_options *o = cell_arg(c);
    size_t total = (block < MIB ? (o->mib + 3) / 4 : o->mib) * MIB;
    char path[300], *buffer = calloc(1, block);

    if (!memfs_start() || !buffer) {
        free(buffer);
        return cell_skip(c, "%s", memfs.why_not ? memfs.why_not : "no memory");
    }
    path_of("write", path);
    if (!fill(path, total)) {
        free(buffer);
        return cell_fail(c, "%s: %s", path, strerror(errno));
    }
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    uint64_t start = bench_now();
    for (size_t at = 0; at < total; at += block)
        if (pwrite(fd, buffer, block, (off_t)at) != (ssize_t)block)
            break;
    double us = bench_us_since(start);
    close(fd);
    free(buffer);
    cell_sample(c, "mb_s", "MB/s", BETTER_MORE, (double)total / us);
    return 0;
}

static int run_write4k(struct cell *c)
{
    return write_rate(c, 4096);
}

static int run_write(struct cell *c)
{
    return write_rate(c, MIB);
}

/* ---- dropping pages -------------------------------------------------------------------------- */

enum drop_state { DROP_CLEAN, DROP_MAPPED, DROP_DIRTY };

/* Brings the pages into the state, then has the kernel notified. us, or negative errno. */
static double drop_us(int fd, const char *path, size_t size, enum drop_state state)
{
    int prot = PROT_READ | (state == DROP_DIRTY ? PROT_WRITE : 0);
    char *buffer = malloc(MIB), *map = mmap(NULL, size, prot, MAP_SHARED, fd, 0);
    double us = -ENOMEM;

    for (size_t at = 0; buffer && at < size && pread(fd, buffer, MIB, (off_t)at) > 0; at += MIB)
        ;
    for (size_t at = 0; map != MAP_FAILED && state != DROP_CLEAN && at < size; at += 4096) {
        if (state == DROP_DIRTY)
            map[at] = 1;
        else
            (void)*(volatile char *)&map[at]; /* a load, to have it mapped */
    }
    if (buffer && map != MAP_FAILED) {
        uint64_t start = bench_now();
        us = setxattr(path, "user.drop", "1", 1, 0) < 0 ? -errno : bench_us_since(start);
    }
    if (map != MAP_FAILED)
        munmap(map, size);
    free(buffer);
    return us;
}

static int drop_cost(struct cell *c, enum drop_state state)
{
    const struct limits_options *o = cell_arg(c);
    size_t size = (o->mib < 64 ? o->mib : 64) * MIB;
    char path[300];

    if (!memfs_start())
        return cell_skip(c, "%s", memfs.why_not);
    path_of("drop", path);
    if (!fill(path, size))
        return cell_fail(c, "%s: %s", path, strerror(errno));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    double us = fd < 0 ? -errno : drop_us(fd, path, size, state);
    if (fd >= 0)
        close(fd);
    if (us < 0)
        return cell_fail(c, "dropping the pages of %s: %s", path, strerror((int)-us));
    cell_sample(c, "page_ns", "ns", BETTER_LESS, us * 1e3 / (double)(size / 4096));
    return 0;
}

static int run_drop(struct cell *c)
{
    return drop_cost(c, DROP_CLEAN);
}

static int run_drop_mapped(struct cell *c)
{
    return drop_cost(c, DROP_MAPPED);
}

static int run_drop_dirty(struct cell *c)
{
    return drop_cost(c, DROP_DIRTY);
}

void limits_add_fuse(struct matrix *m, const struct limits_options *o)
{
    static const struct {
        const char *work;
        cell_fn run;
    } cells[] = {{"request", run_request},
                 {"open", run_open},
                 {"read_cached", run_read_cached},
                 {"read_dropped", run_read_dropped},
                 {"write4k", run_write4k},
                 {"write", run_write},
                 {"drop", run_drop},
                 {"drop-mapped", run_drop_mapped},
                 {"drop-dirty", run_drop_dirty}};

    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
        struct cell *c = matrix_add(m, "limits", "fuse", cells[i].run, (void *)o);
        cell_param(c, "work", "%s", cells[i].work);
        cell_at_end(c, memfs_stop);
        memfs.users++;
    }
}
