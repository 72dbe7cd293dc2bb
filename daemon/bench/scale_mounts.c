// SPDX-License-Identifier: Apache-2.0
/*
 * Part "mounts": 1 to --max-mounts mounts of one server, each with some files looked at, and then
 * left alone. What does an idle one cost: processor time, wake-ups, memory (RSS; PSS shares the
 * program's own pages fairly), connections.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "daemon/bench/scale.h"

/* "connections 12, ..." in the last line of the statistics: made since the start. */
static double connections(struct scale *s)
{
    char *text = scale_command(s, "stats"), *at = text ? strstr(text, "connections ") : NULL;
    double n = at ? strtod(at + 12, NULL) : 0;

    free(text);
    return n;
}

static void pause_s(double seconds)
{
    uint64_t until = bench_now() + (uint64_t)(seconds * 1e9);

    while (bench_now() < until && !bench_stopped())
        nanosleep(&(struct timespec){0, 10000000}, NULL);
}

static int run(struct cell *c)
{
    const struct scale_cell *sc = cell_arg(c);
    struct scale *s = sc->s;
    struct scale_usage u, sum = {0}, end = {0};
    unsigned n = (unsigned)sc->n, made = 0;
    struct stat st;
    int rc = scale_begin(s, c);

    if (rc < 0)
        return rc;

    struct scale_mount *m = calloc(n, sizeof *m);
    double before = connections(s), mount_us = 0;

    if (!m)
        return -ENOMEM;
    for (; rc == 0 && made < n; made += rc == 0) {
        uint64_t start = bench_now();

        rc = scale_mount(s, c, NULL, &m[made]);
        mount_us += bench_us_since(start);
        if (rc == 0)
            stat(m[made].dir, &st);
    }
    if (rc == 0) {
        double opened = connections(s) - before, served;

        pause_s(s->quick ? 0.3 : 2); /* what a mount does once, it has done */
        served = scale_served(s, "GETATTR");
        for (unsigned i = 0; i < n; i++) {
            scale_usage(m[i].daemon, false, &u);
            sum.cpu_ns += u.cpu_ns;
            sum.runs += u.runs;
        }

        uint64_t start = bench_now();

        pause_s(s->seconds);
        for (unsigned i = 0; i < n; i++) {
            scale_usage(m[i].daemon, false, &u);
            end.cpu_ns += u.cpu_ns;
            end.runs += u.runs;
        }

        double seconds = bench_us_since(start) / 1e6 * n;

        served = scale_served(s, "GETATTR") - served;
        for (unsigned i = 0; i < n; i++) {
            scale_usage(m[i].daemon, true, &u);
            end.rss += u.rss;
            end.pss += u.pss;
        }
        cell_sample(c, "cpu_us_s", "us/s", BETTER_LESS,
                    (double)(end.cpu_ns - sum.cpu_ns) / 1e3 / seconds);
        cell_sample(c, "wakeups_s", "1/s", BETTER_LESS, (double)(end.runs - sum.runs) / seconds);
        cell_sample(c, "rss_kib", "KiB", BETTER_LESS, (double)end.rss / 1024 / n);
        cell_sample(c, "pss_kib", "KiB", BETTER_LESS, (double)end.pss / 1024 / n);
        cell_sample(c, "mount_ms", "ms", BETTER_LESS, mount_us / 1e3 / n);
        if (!s->remote) {
            cell_sample(c, "connections", "count", BETTER_LESS, opened / n);
            cell_sample(c, "calls", "count", BETTER_ZERO, served);
        }
    }
    while (made)
        if (scale_umount(c, &m[--made]) < 0)
            rc = -EIO;
    free(m);
    return rc;
}

void scale_cells_mounts(struct matrix *m, struct scale *s)
{
    double n[32];
    unsigned count = scale_steps(1, 4, s->max_mounts, n);

    for (unsigned i = 0; i < count; i++) {
        struct cell *c =
            scale_add(m, &(struct scale_cell){.s = s, .n = (uint64_t)n[i]}, "mounts", run);

        cell_param(c, "mounts", "%.0f", n[i]);
    }
}
