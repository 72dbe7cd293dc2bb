// SPDX-License-Identifier: Apache-2.0
/*
 * Two parts of the revalidation benchmark in which nothing is written here: a program that maps a
 * file and only reads memory (no system call in which a client could ask whether it is still
 * current), and opens of files that nobody changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/bench/reval.h"
#include "daemon/bench/stats.h"

/* ---- part "staleness" ------------------------------------------------------------------------ */

enum { POLL_US = 500, CURVE_STEP_US = 5000 };

/* The other side puts a new number there, down to the disk. */
static int put_number(const struct rv_file *f, uint64_t n)
{
    int fd = open(f->foreign, O_WRONLY | O_CLOEXEC);
    int rc = fd < 0 ? -errno : 0;

    if (rc == 0 && pwrite(fd, &n, sizeof n, RV_THEIRS) != (ssize_t)sizeof n)
        rc = errno ? -errno : -EIO;
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    if (fd >= 0 && close(fd) < 0 && rc == 0)
        rc = -errno;
    return rc;
}

/* Looks at memory until the number is there, or the patience ends. Draws the age of what is seen:
 * how long ago it was replaced elsewhere. us, or -1. */
static double watch(struct cell *c, const volatile uint64_t *word, uint64_t number, double pause_us)
{
    struct rv_cell *rv = cell_arg(c);
    uint64_t start = bench_now(), drawn = 0;
    double seen = -1, limit = rv->o->patience_s * 1e6, us;

    while ((us = bench_us_since(start)) < limit && !bench_stopped()) {
        if (seen < 0 && *word == number)
            seen = us;
        if (!drawn || bench_now() - drawn > CURVE_STEP_US * 1000) {
            drawn = bench_now();
            cell_point(c, "age", rv->clock + us / 1e6, seen < 0 ? us / 1e3 : 0);
        }
        /* After it was seen, a random pause: changes must not fall into step with a timer. */
        if (seen >= 0 && us > seen + pause_us)
            break;
        nanosleep(&(struct timespec){.tv_nsec = POLL_US * 1000}, NULL);
    }
    rv->clock += us / 1e6;
    return seen;
}

int rv_staleness_run(struct cell *c)
{
    struct rv_cell *rv = cell_arg(c);
    struct rv_file f;
    unsigned char *map = MAP_FAILED;
    double *seen_us = calloc(rv->o->changes, sizeof *seen_us);
    unsigned seen = 0, never = 0;
    uint64_t state = bench_now();
    int fd = -1, rc = rv_file_make(&f, rv->target, rv->pages, CHANGE_BYTE);

    if (rc == 0 && !seen_us)
        rc = -ENOMEM;
    if (rc == 0) {
        fd = open(f.path, O_RDONLY | O_CLOEXEC);
        rc = fd < 0 ? -errno : rv_file_read(fd, rv->pages);
    }
    if (rc == 0) {
        map = mmap(NULL, (size_t)rv->pages * RV_PAGE, PROT_READ, MAP_SHARED, fd, 0);
        rc = map == MAP_FAILED ? -errno : 0;
    }
    const volatile uint64_t *word = (const volatile uint64_t *)(const void *)(map + RV_THEIRS);
    for (uint64_t n = 1; rc == 0 && n <= rv->o->changes && !never && !bench_stopped(); n++) {
        double pause = 50e3 + (double)(stats_random(&state) % 200000);
        rv_wait_a_tick();
        rc = put_number(&f, n);
        if (rc < 0)
            break;
        double us = watch(c, word, n, pause);
        if (us >= 0)
            seen_us[seen++] = us;
        else
            never = !bench_stopped();
    }
    if (rc == 0 && !bench_stopped()) {
        cell_times(c, "seen_after", seen_us, seen);
        cell_sample(c, "never_seen", "count", BETTER_NONE, never);
    }
    if (map != MAP_FAILED)
        munmap(map, (size_t)rv->pages * RV_PAGE);
    if (fd >= 0)
        close(fd);
    rv_file_remove(&f);
    free(seen_us);
    return rc < 0 ? cell_fail(c, "%s", strerror(-rc)) : 0;
}

/* ---- part "opens" ---------------------------------------------------------------------------- */

static void opens_dir(const struct rv_cell *rv, const char *root, char *path)
{
    char name[32];

    snprintf(name, sizeof name, "opens.%u", rv->files);
    target_path(root, name, path);
}

static void opens_file(const char *dir, unsigned i, char *path)
{
    char name[16];

    snprintf(name, sizeof name, "f%u", i);
    target_path(dir, name, path);
}

static int open_close(const char *dir, unsigned i, struct histogram *h)
{
    char path[PATH_MAX];

    opens_file(dir, i, path);
    uint64_t start = bench_now();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || close(fd) < 0)
        return -errno;
    if (h)
        histogram_add(h, bench_now() - start);
    return 0;
}

/* Made elsewhere, once; then each is read here, and long enough ago that nobody doubts its times.
 */
static int opens_make(struct rv_cell *rv, const char *dir)
{
    char foreign[PATH_MAX], path[PATH_MAX], data[RV_PAGE] = "unchanged";
    int rc = 0;

    opens_dir(rv, rv->target->foreign, foreign);
    if (mkdir(foreign, 0777) < 0)
        return -errno;
    rv->made = true;
    for (unsigned i = 0; rc == 0 && i < rv->files && !bench_stopped(); i++) {
        opens_file(foreign, i, path);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 || write(fd, data, sizeof data) != (ssize_t)sizeof data)
            rc = errno ? -errno : -EIO;
        if (fd >= 0 && close(fd) < 0 && rc == 0)
            rc = -errno;
    }
    for (unsigned i = 0; rc == 0 && i < rv->files && !bench_stopped(); i++) {
        opens_file(dir, i, path);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        rc = fd < 0 ? -errno : rv_file_read(fd, 1);
        if (fd >= 0)
            close(fd);
    }
    if (rc == 0)
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    return rc;
}

int rv_opens_run(struct cell *c)
{
    struct rv_cell *rv = cell_arg(c);
    struct histogram *h = calloc(1, sizeof *h);
    uint32_t *order = calloc(rv->files, sizeof *order);
    uint64_t state = 1, start, n = 0;
    char dir[PATH_MAX];
    int rc = h && order ? 0 : -ENOMEM;

    opens_dir(rv, rv->target->dir, dir);
    if (rc == 0 && !rv->made)
        rc = opens_make(rv, dir);
    if (rc == 0)
        stats_shuffle(order, rv->files, &state);
    start = bench_now();
    while (rc == 0 && !bench_stopped() && bench_now() - start < 2000000000u &&
           (n < rv->files || n < 1000)) {
        rc = open_close(dir, order[n % rv->files], h);
        n++;
    }
    double us = bench_us_since(start);
    if (rc == 0 && !bench_stopped()) {
        cell_sample(c, "opens_per_s", "1/s", BETTER_MORE, (double)n * 1e6 / us);
        cell_histogram(c, "open", h);
    }
    free(h);
    free(order);
    return rc < 0 ? cell_fail(c, "%s", strerror(-rc)) : 0;
}
