// SPDX-License-Identifier: Apache-2.0
/*
 * What ./quickstart shows: plain reads and writes with a clock, and the conflict that the project
 * is about.
 *
 *   demo write FILE MIB SEED       fills FILE, fsync; says how fast
 *   demo read FILE MIB SEED COLD   reads and compares; COLD=1 drops the kernel's pages before
 *   demo open FILE                 how long open and close of an unchanged file take
 *   demo conflict OURS THEIRS S    OURS: a file on the mount; THEIRS: the same file at the server
 *
 * Exit status: 0 when every byte was what it must be; 1 when not; 2 when a call failed. What is
 * wrong is said on stderr.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MIB        (1u << 20)
#define PAGE_BYTES 4096u
#define PAGES      64u
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))
#define WORDS      (PAGES * PAGE_WORDS)

static void die(const char *what, const char *name)
{
    fprintf(stderr, "demo: %s %s: %s\n", what, name, strerror(errno));
    exit(2);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t mix(uint64_t x)
{
    /* splitmix64's finaliser (Steele, Lea, Flood 2014) */
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static void fill(uint64_t *buffer, uint64_t seed, uint64_t chunk)
{
    for (uint64_t i = 0; i < MIB / sizeof *buffer; i++)
        buffer[i] = mix(seed << 48 ^ (chunk * (MIB / sizeof *buffer) + i));
}

static uint64_t *buffer_new(void)
{
    void *p = NULL;
    if (posix_memalign(&p, PAGE_BYTES, MIB))
        die("memory", "");
    return p;
}

static int do_write(const char *name, unsigned mib, uint64_t seed)
{
    uint64_t *buffer = buffer_new();
    double calls = 0, sync, t;
    int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY, 0644);

    if (fd < 0)
        die("open", name);
    for (unsigned i = 0; i < mib; i++) {
        fill(buffer, seed, i);
        t = now();
        if (write(fd, buffer, MIB) != MIB)
            die("write", name);
        calls += now() - t;
    }
    t = now();
    if (fsync(fd))
        die("fsync", name);
    sync = now() - t;
    if (close(fd))
        die("close", name);
    printf("%u MiB written and on the server's disk: %.0f MB/s (write %.2f s, fsync %.2f s)\n", mib,
           mib * 1.048576 / (calls + sync), calls, sync);
    free(buffer);
    return 0;
}

static int do_read(const char *name, unsigned mib, uint64_t seed, bool cold)
{
    uint64_t *got = buffer_new(), *want = buffer_new();
    unsigned wrong = 0;
    double calls = 0;
    int fd = open(name, O_RDONLY);

    if (fd < 0)
        die("open", name);
    if (cold)
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    for (unsigned i = 0; i < mib; i++) {
        double t = now();
        for (size_t n = 0; n < MIB;) {
            ssize_t r = read(fd, (char *)got + n, MIB - n);
            if (r < 0)
                die("read", name);
            if (r == 0)
                break;
            n += (size_t)r;
        }
        calls += now() - t;
        fill(want, seed, i);
        wrong += memcmp(got, want, MIB) != 0;
    }
    close(fd);
    printf("%u MiB read: %.0f MB/s, %s\n", mib, mib * 1.048576 / calls,
           wrong ? "NOT what was written" : "every byte as it was written");
    free(got);
    free(want);
    return wrong ? 1 : 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, unsigned n)
{
    qsort(v, n, sizeof *v, by_value);
    return n ? v[n / 2] : 0;
}

static int do_open(const char *name)
{
    double took[500];

    for (unsigned i = 0; i < 500; i++) {
        double t = now();
        int fd = open(name, O_RDONLY);
        if (fd < 0 || close(fd))
            die("open", name);
        took[i] = now() - t;
    }
    printf("open and close, the server asked each time, nothing changed: %.0f us\n",
           median(took, 500) * 1e6);
    return 0;
}

/*
 * The conflict. The first half of every page is stored to by one thread through a shared mapping,
 * without pause; the second half is rewritten at the server by another client. Each word has one
 * writer, and each value is new, so that the last value of every word is known, and a word that
 * shows any other at the end was lost.
 */
static bool is_theirs(size_t word)
{
    return word % PAGE_WORDS >= PAGE_WORDS / 2;
}

struct conflict {
    uint64_t *map;          /* of the file on the mount */
    uint64_t ours[WORDS];   /* what the storing thread stored last */
    uint64_t theirs[WORDS]; /* what the other client wrote last */
    atomic_ullong stores;
    atomic_bool stop;
};

static void *store(void *arg)
{
    struct conflict *c = arg;

    for (uint64_t n = 1; !atomic_load_explicit(&c->stop, memory_order_relaxed); n++) {
        size_t w = mix(n) % WORDS & ~(PAGE_WORDS / 2);
        uint64_t value = mix(n ^ 1ull << 40);
        c->ours[w] = value;
        *(volatile uint64_t *)&c->map[w] = value;
        atomic_store_explicit(&c->stores, n, memory_order_relaxed);
    }
    return NULL;
}

static int do_conflict(const char *ours, const char *theirs, double seconds)
{
    struct conflict *c = calloc(1, sizeof *c);
    uint64_t round = 0, writes = 0, stale = 0, lost_ours = 0, lost_theirs = 0;
    unsigned timed = 0;
    static double took[4096];
    pthread_t thread;
    int fd, there;
    double end;

    if (!c)
        die("memory", "");
    fd = open(ours, O_CREAT | O_TRUNC | O_RDWR, 0644);
    if (fd < 0 || ftruncate(fd, PAGES * PAGE_BYTES) || fsync(fd))
        die("create", ours);
    c->map = mmap(NULL, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (c->map == MAP_FAILED)
        die("mmap", ours);
    there = open(theirs, O_RDWR);
    if (there < 0)
        die("open", theirs);
    if (pthread_create(&thread, NULL, store, c))
        die("thread", "");

    for (end = now() + seconds; now() < end; round++) {
        size_t touched[64];

        for (unsigned i = 0; i < 64; i++, writes++) {
            size_t w = (mix(round * 64 + i) % WORDS) | PAGE_WORDS / 2;
            c->theirs[w] = mix(~(round * 64 + i));
            touched[i] = w;
            if (pwrite(there, &c->theirs[w], 8, (off_t)(w * 8)) != 8)
                die("write", theirs);
        }
        /* Close-to-open: whoever opens the file now sees what was written before. */
        double t = now();
        int again = open(ours, O_RDONLY);
        if (again < 0)
            die("open", ours);
        if (timed < 4096)
            took[timed++] = now() - t;
        for (unsigned i = 0; i < 64; i++)
            stale += *(volatile uint64_t *)&c->map[touched[i]] != c->theirs[touched[i]];
        if (close(again))
            die("close", ours);
    }
    atomic_store(&c->stop, true);
    pthread_join(thread, NULL);
    if (msync(c->map, PAGES * PAGE_BYTES, MS_SYNC) || fsync(fd) || close(fd))
        die("msync", ours);

    for (size_t w = 0; w < WORDS; w++) {
        uint64_t at_server;
        if (pread(there, &at_server, 8, (off_t)(w * 8)) != 8)
            die("read", theirs);
        if (is_theirs(w))
            lost_theirs += at_server != c->theirs[w];
        else
            lost_ours += at_server != c->ours[w];
    }
    munmap(c->map, PAGES * PAGE_BYTES);
    close(there);

    printf("%llu stores into the mapping here, %llu writes of the same %u pages at the server\n",
           (unsigned long long)atomic_load(&c->stores), (unsigned long long)writes, PAGES);
    printf("%llu times opened and found changed: %.1f ms each (median), the stores going on\n",
           (unsigned long long)round, median(took, timed) * 1e3);
    printf("stale after open: %llu   lost of our bytes: %llu   lost of theirs: %llu\n",
           (unsigned long long)stale, (unsigned long long)lost_ours,
           (unsigned long long)lost_theirs);
    free(c);
    return stale || lost_ours || lost_theirs || !round;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";

    if (strcmp(verb, "write") == 0 && argc == 5)
        return do_write(argv[2], (unsigned)atoi(argv[3]), (uint64_t)atoi(argv[4]));
    if (strcmp(verb, "read") == 0 && argc == 6)
        return do_read(argv[2], (unsigned)atoi(argv[3]), (uint64_t)atoi(argv[4]), atoi(argv[5]));
    if (strcmp(verb, "open") == 0 && argc == 3)
        return do_open(argv[2]);
    if (strcmp(verb, "conflict") == 0 && argc == 5)
        return do_conflict(argv[2], argv[3], atof(argv[4]));
    fprintf(stderr, "usage: demo write|read|open|conflict ... (see the head of tools/demo.c)\n");
    return 2;
}
