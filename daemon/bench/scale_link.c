// SPDX-License-Identifier: Apache-2.0
/*
 * Parts "delay" and "connections": throughput of one sequential reader or writer.
 *
 *   delay        the server answers READ, WRITE and COMMIT so many ms later. Windows of 1 to 64 MiB
 *                (readahead=) must be kept full: window_mib is throughput times delay. Writes have
 *                their limit in dirty_limit=.
 *   connections  nconnect= 1 to 8
 *
 * A cell reads, or writes and fsyncs, a file of --size MiB, for --seconds at most.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/bench/scale.h"

#define MIB ((size_t)1 << 20)

static const char *const work_names[] = {"read", "write"};
enum { WORK_READ, WORK_WRITE };

static const unsigned windows[] = {1, 4, 16, 64};

static int make_file(struct scale *s, const char *name, char *buffer)
{
    char path[PATH_MAX + 32];

    snprintf(path, sizeof path, "%s/%s", s->export, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644), rc = fd < 0 ? -errno : 0;
    off_t size = (off_t)s->file_mib * (off_t)MIB, at = rc == 0 ? lseek(fd, 0, SEEK_END) : 0;

    memset(buffer, 0x5a, MIB);
    for (; rc == 0 && at < size && !bench_stopped(); at += (off_t)MIB)
        if (pwrite(fd, buffer, MIB, at) != (ssize_t)MIB)
            rc = errno ? -errno : -EIO;
    if (fd >= 0)
        close(fd);
    return rc;
}

/* MB/s; negative errno. */
static double go_through(struct scale *s, const char *path, unsigned work, char *buffer)
{
    int fd = open(
        path, work == WORK_READ ? O_RDONLY | O_CLOEXEC : O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
        0644);
    uint64_t size = (uint64_t)s->file_mib * MIB, at = 0, start = bench_now();
    uint64_t until = start + (uint64_t)(s->seconds * 1e9);
    ssize_t n = 1;

    if (fd < 0)
        return -errno;
    while (n > 0 && at < size && !bench_stopped() && bench_now() < until) {
        n = work == WORK_READ ? pread(fd, buffer, MIB, (off_t)at)
                              : pwrite(fd, buffer, MIB, (off_t)at);
        at += n > 0 ? (uint64_t)n : 0;
    }
    int error = n < 0 ? errno : 0;
    if (!error && work == WORK_WRITE && fsync(fd) < 0)
        error = errno;
    double us = bench_us_since(start);
    if (close(fd) < 0 && !error)
        error = errno;
    return error ? -error : (double)at / us;
}

static int run(struct cell *c)
{
    const struct scale_cell *sc = cell_arg(c);
    struct scale *s = sc->s;
    struct scale_mount m;
    struct scale_usage before, after;
    bool delays = strcmp(cell_param_value(c, "part"), "delay") == 0;
    char options[96], fault[64], path[PATH_MAX + 32], *buffer = NULL;
    double rate = 0;
    int rc = scale_begin(s, c);

    if (rc < 0)
        return rc;
    if (delays && s->remote && sc->n)
        return cell_skip(c, "needs a server of our own");
    if (posix_memalign((void **)&buffer, 4096, MIB))
        return -ENOMEM;
    rc = make_file(s, "through", buffer);
    if (rc < 0) {
        free(buffer);
        return cell_fail(c, "through: %s", strerror(-rc));
    }
    if (delays)
        snprintf(options, sizeof options, "cache_size=1G,readahead=%uM", sc->aux);
    else
        snprintf(options, sizeof options, "cache_size=1G,nconnect=%llu", (unsigned long long)sc->n);
    rc = scale_mount(s, c, options, &m);
    if (rc < 0) {
        free(buffer);
        return rc;
    }
    if (delays && sc->n) {
        snprintf(fault, sizeof fault, "add READ,WRITE,COMMIT:delay=%llu",
                 (unsigned long long)sc->n);
        char *answer = scale_command(s, fault);
        if (!answer)
            rc = cell_fail(c, "the server refused a delay");
        free(answer);
    }
    snprintf(path, sizeof path, "%s/%s", m.dir, sc->x > 0 ? "written" : "through");
    scale_usage(m.daemon, false, &before);
    if (rc == 0)
        rate = go_through(s, path, sc->x > 0 ? WORK_WRITE : WORK_READ, buffer);
    scale_usage(m.daemon, false, &after);
    free(buffer);
    if (delays)
        free(scale_command(s, "clear"));
    if (rc == 0 && rate < 0)
        rc = cell_fail(c, "%s: %s", path, strerror((int)-rate));
    if (rc == 0) {
        cell_sample(c, "mb_s", "MB/s", BETTER_MORE, rate);
        if (delays && sc->n)
            cell_sample(c, "window_mib", "MiB", BETTER_NONE,
                        rate * 1e6 * (double)sc->n / 1e3 / (double)MIB);
    }
    if (sc->x > 0)
        unlink(path);
    return scale_umount(c, &m) < 0 ? -EIO : rc;
}

static void add(struct matrix *m, struct scale *s, bool delays, unsigned work, uint64_t n,
                unsigned window)
{
    struct scale_cell init = {.s = s, .n = n, .aux = window, .x = work};
    struct cell *c = scale_add(m, &init, delays ? "delay" : "connections", run);

    cell_param(c, "work", "%s", work_names[work]);
    if (delays && work == WORK_READ)
        cell_param(c, "readahead-mib", "%u", window);
    cell_param(c, delays ? "delay-ms" : "connections", "%llu", (unsigned long long)n);
}

void scale_cells_delay(struct matrix *m, struct scale *s)
{
    static const uint64_t ms[] = {0, 1, 2, 5, 10, 20, 50};

    for (unsigned i = 0; i < sizeof ms / sizeof ms[0]; i++) {
        if (s->quick && ms[i] && ms[i] != 5)
            continue;
        for (unsigned k = 0; k < sizeof windows / sizeof windows[0]; k++)
            if (!s->quick || windows[k] == 16)
                add(m, s, true, WORK_READ, ms[i], windows[k]);
        add(m, s, true, WORK_WRITE, ms[i], 16);
    }
}

void scale_cells_connections(struct matrix *m, struct scale *s)
{
    static const uint64_t n[] = {1, 2, 3, 4, 6, 8};

    for (unsigned i = 0; i < sizeof n / sizeof n[0]; i++)
        if (!s->quick || n[i] == 1 || n[i] == 4)
            for (unsigned work = WORK_READ; work <= WORK_WRITE; work++)
                add(m, s, false, work, n[i], 16);
}
