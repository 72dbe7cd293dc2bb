// SPDX-License-Identifier: Apache-2.0
/*
 * What tests/bench/run times: one operation on one file, one number on stdout.
 *
 *   bench_io fill FILE MIB       make FILE, with fsync                      (nothing)
 *   bench_io warm FILE           read it, so that what caches it has it     (nothing)
 *   bench_io read FILE           sequential read by 128 KiB                 MB/s
 *   bench_io reread FILE         the same, the kernel's pages dropped before
 *   bench_io write FILE MIB      sequential write by 1 MiB, and fsync       MB/s
 *   bench_io write4k FILE MIB    sequential write by 4 KiB over an existing file, without fsync
 *   bench_io openclose FILE N    open(O_RDONLY) and close                   us, median of N
 *
 * The files' bytes are not checked here: that is what the tests are for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB (1u << 20)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what, const char *name)
{
    fprintf(stderr, "bench_io: %s %s: %s\n", what, name, strerror(errno));
    exit(1);
}

static void must(int ok, const char *what, const char *name)
{
    if (!ok)
        die(what, name);
}

static char *buffer_new(void)
{
    void *p = NULL;
    if (posix_memalign(&p, 4096, MIB))
        die("memory", "");
    for (unsigned i = 0; i < MIB / 4; i++)
        ((uint32_t *)p)[i] = i * 2654435761u;
    return p;
}

/* MB/s (10^6); the time of fsync belongs to it when it is called for. */
static double write_file(const char *name, unsigned mib, size_t block, int flags, int sync)
{
    char *buffer = buffer_new();
    int fd = open(name, O_WRONLY | flags, 0644);
    double t;

    must(fd >= 0, "open", name);
    t = now();
    for (size_t done = 0; done < (size_t)mib * MIB; done += block)
        must(write(fd, buffer + done % MIB, block) == (ssize_t)block, "write", name);
    if (sync)
        must(fsync(fd) == 0, "fsync", name);
    t = now() - t;
    must(close(fd) == 0, "close", name);
    free(buffer);
    return mib * (double)MIB / 1e6 / t;
}

static double read_file(const char *name, int drop)
{
    char *buffer = buffer_new();
    int fd = open(name, O_RDONLY);
    size_t total = 0;
    ssize_t r;
    double t;

    must(fd >= 0, "open", name);
    if (drop)
        must(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0, "fadvise", name);
    t = now();
    while ((r = read(fd, buffer, 128 << 10)) > 0)
        total += (size_t)r;
    t = now() - t;
    must(r == 0, "read", name);
    must(close(fd) == 0, "close", name);
    free(buffer);
    return (double)total / 1e6 / t;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double open_close(const char *name, unsigned n)
{
    double *took = calloc(n, sizeof *took), median;

    must(took != NULL, "memory", "");
    for (unsigned i = 0; i < n; i++) {
        double t = now();
        int fd = open(name, O_RDONLY);
        must(fd >= 0 && close(fd) == 0, "open", name);
        took[i] = now() - t;
    }
    qsort(took, n, sizeof *took, by_value);
    median = took[n / 2] * 1e6;
    free(took);
    return median;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "", *name = argc > 2 ? argv[2] : "";
    unsigned n = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;

    if (strcmp(verb, "fill") == 0 && n)
        write_file(name, n, MIB, O_CREAT | O_TRUNC, 1);
    else if (strcmp(verb, "warm") == 0)
        read_file(name, 0);
    else if (strcmp(verb, "read") == 0)
        printf("%.1f\n", read_file(name, 0));
    else if (strcmp(verb, "reread") == 0)
        printf("%.1f\n", read_file(name, 1));
    else if (strcmp(verb, "write") == 0 && n)
        printf("%.1f\n", write_file(name, n, MIB, O_CREAT | O_TRUNC, 1));
    else if (strcmp(verb, "write4k") == 0 && n)
        printf("%.1f\n", write_file(name, n, 4096, 0, 0));
    else if (strcmp(verb, "openclose") == 0 && n)
        printf("%.2f\n", open_close(name, n));
    else {
        fprintf(stderr, "usage: see the head of tests/bench/bench_io.c\n");
        return 2;
    }
    return 0;
}
