// SPDX-License-Identifier: Apache-2.0
/*
 * Part "open": 1 to --max-files files that are open and mapped, and nobody but the daemon's own
 * timer asks the server for them, every --ac-seconds (actimeo). All were opened at once, as a
 * program that starts does. The server's count of GETATTRs is read every 10 ms:
 *
 *   getattr_s           mean
 *   getattr_100ms_s     the most in any 100 ms, as a rate
 *   herd                the one by the other, where there are enough to tell: 1 is perfectly spread
 *   asks_per_timeout    1: each file once in its timeout; less: some are not asked for in time
 *
 * Then all files are changed at the server, and their memory is looked at until it shows that:
 * seen_after, in ms, which should be at most the timeout; never_seen must be 0.
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

#include "daemon/bench/scale.h"

enum { LOOK_MS = 10, WINDOW = 100 / LOOK_MS, PATIENCE_S = 20 };

struct files {
    struct scale *s;
    struct scale_mount *m;
    volatile uint8_t **map;
    uint8_t *value; /* that was written elsewhere */
    uint64_t n;
};

static void nap_until(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void file_path(const char *top, uint64_t i, char path[PATH_MAX + 64])
{
    snprintf(path, PATH_MAX + 64, "%s/open/%05llu", top, (unsigned long long)i);
}

/* One byte of each, by the server's side; makes the files first. */
static int change_all(struct files *f)
{
    char path[PATH_MAX + 64], page[4096] = {0};
    struct stat st;

    snprintf(path, sizeof path, "%s/open", f->s->export);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return -errno;
    for (uint64_t i = 0; i < f->n; i++) {
        file_path(f->s->export, i, path);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
            return -errno;
        page[0] = (char)++f->value[i];
        bool whole = fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof page;
        size_t size = whole ? sizeof page : 1;
        ssize_t n = pwrite(fd, page, size, 0);
        close(fd);
        if (n != (ssize_t)size)
            return -EIO;
    }
    return 0;
}

/* Mapped, which keeps it open: thousands of files without thousands of descriptors. */
static int open_all(struct files *f)
{
    char path[PATH_MAX + 64];

    for (uint64_t i = 0; i < f->n && !bench_stopped(); i++) {
        file_path(f->m->dir, i, path);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return -errno;
        f->map[i] = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
        if (f->map[i] == MAP_FAILED) {
            f->map[i] = NULL;
            return -errno;
        }
        if (f->map[i][0] != f->value[i])
            return -ESTALE;
    }
    return bench_stopped() ? -EINTR : 0;
}

static int watch(struct cell *c, struct files *f, double seconds)
{
    unsigned n = (unsigned)(seconds * 1000 / LOOK_MS), got = 0;
    double *calls = calloc(n + 1, sizeof *calls), most = 0;
    uint64_t *when = calloc(n + 1, sizeof *when), start = bench_now();

    if (!calls || !when) {
        free(calls);
        free(when);
        return -ENOMEM;
    }
    for (; got <= n && !bench_stopped(); got++) {
        nap_until(start + got * (uint64_t)LOOK_MS * 1000000);
        calls[got] = scale_served(f->s, "GETATTR");
        when[got] = bench_now() - start;
    }
    for (unsigned i = WINDOW; i < got; i++) {
        /* Looked at late, the window is longer. */
        double rate = (calls[i] - calls[i - WINDOW]) / (double)(when[i] - when[i - WINDOW]) * 1e9;
        most = rate > most ? rate : most;
        if (i % WINDOW == 0)
            cell_point(c, "getattr", (double)when[i] / 1e6, rate);
    }
    if (got > WINDOW) {
        double mean = (calls[got - 1] - calls[0]) / (double)when[got - 1] * 1e9;
        cell_sample(c, "getattr_s", "1/s", BETTER_NONE, mean);
        cell_sample(c, "getattr_100ms_s", "1/s", BETTER_LESS, most);
        cell_sample(c, "asks_per_timeout", "count", BETTER_NONE,
                    mean * f->s->ac_seconds / (double)f->n);
        if (mean * 0.1 >= 5)
            cell_sample(c, "herd", "count", BETTER_LESS, most / mean);
    }
    free(calls);
    free(when);
    return 0;
}

/* From when they are open on: opening asks, too. */
static int slow_down(struct cell *c, struct scale *s)
{
    char fault[64];

    if (!s->getattr_ms)
        return 0;
    snprintf(fault, sizeof fault, "add GETATTR:delay=%d", s->getattr_ms);
    char *answer = scale_command(s, fault);
    if (!answer)
        return cell_fail(c, "--getattr-delay: the server refused");
    free(answer);
    return 0;
}

static int wait_for_changes(struct cell *c, struct files *f)
{
    double *after_us = calloc(f->n, sizeof *after_us);
    uint64_t start = bench_now(), seen = 0;
    uint64_t until = start + (2ull * (uint64_t)f->s->ac_seconds + PATIENCE_S) * 1000000000;
    int rc = after_us ? change_all(f) : -ENOMEM;
    uint64_t changed = bench_now();

    while (rc == 0 && seen < f->n && bench_now() < until && !bench_stopped()) {
        uint64_t next = bench_now() + LOOK_MS * 1000000ull;
        for (uint64_t i = 0; i < f->n; i++) {
            if (after_us[i] == 0 && f->map[i][0] == f->value[i]) {
                /* What was seen while others were still being changed was seen at once. */
                after_us[i] = 1 + bench_us_since(changed);
                seen++;
            }
        }
        nap_until(next);
    }
    if (rc == 0 && !bench_stopped()) {
        uint64_t k = 0;
        for (uint64_t i = 0; i < f->n; i++)
            if (after_us[i] > 0)
                after_us[k++] = after_us[i];
        cell_times(c, "seen_after", after_us, k);
        cell_sample(c, "never_seen", "count", BETTER_ZERO, (double)(f->n - seen));
    }
    free(after_us);
    return rc;
}

static int run(struct cell *c)
{
    const struct scale_cell *sc = cell_arg(c);
    struct scale *s = sc->s;
    struct scale_mount m;
    struct files f = {.s = s, .m = &m, .n = sc->n};
    char options[64];
    int rc = scale_begin(s, c);

    if (rc < 0)
        return rc;
    f.map = calloc(f.n, sizeof *f.map);
    f.value = calloc(f.n, 1);
    snprintf(options, sizeof options, "actimeo=%d", s->ac_seconds);
    if (f.map && f.value)
        rc = change_all(&f);
    else
        rc = -ENOMEM;
    if (rc < 0)
        cell_fail(c, "the files: %s", strerror(-rc));
    else
        rc = scale_mount(s, c, options, &m);
    if (rc == 0) {
        uint64_t start = bench_now();
        rc = open_all(&f);
        cell_sample(c, "open_us", "us", BETTER_LESS, bench_us_since(start) / (double)f.n);
        if (rc == 0)
            rc = slow_down(c, s);
        if (rc == 0 && !s->remote)
            rc = watch(c, &f, (s->quick ? 2.0 : 3.0) * s->ac_seconds);
        if (rc == 0)
            rc = wait_for_changes(c, &f);
        if (rc < 0)
            cell_fail(c, "%s",
                      rc == -ESTALE ? "a file does not hold what was written" : strerror(-rc));
        if (s->getattr_ms)
            free(scale_command(s, "clear"));
        for (uint64_t i = 0; i < f.n; i++)
            if (f.map[i])
                munmap((void *)f.map[i], 4096);
        if (scale_umount(c, &m) < 0)
            rc = -EIO;
    }
    free(f.map);
    free(f.value);
    return rc;
}

void scale_cells_open(struct matrix *m, struct scale *s)
{
    double n[32];
    /* A slow server: about one number, not a curve. */
    double first = s->getattr_ms ? (double)s->max_files : 1;
    unsigned count = scale_steps(first, 10, (double)s->max_files, n);

    for (unsigned i = 0; i < count; i++) {
        struct cell *c =
            scale_add(m, &(struct scale_cell){.s = s, .n = (uint64_t)n[i]}, "open", run);

        cell_param(c, "files", "%.0f", n[i]);
    }
}
