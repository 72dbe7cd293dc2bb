// SPDX-License-Identifier: Apache-2.0
/*
 * Part "sizes": sparse files from 1 MiB to 1 TiB. Marks of 64 KiB are written at places where
 * offsets go wrong: the begin, both sides of 2^31 and 2^32 (bytes) and of 2^44 / 4096 (pages), odd
 * places between, and the end. Half of them through a mapping. Then it is read back, by the
 * server's side and by a mount that has cached nothing, the holes beside them too; the file is cut
 * in the middle, and made long again. wrong_bytes must be 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/bench/scale.h"
#include "daemon/bench/stats.h"

enum { MARK = 65536, MARKS_MAX = 24 };

struct place {
    uint64_t at[MARKS_MAX];
    unsigned n;
};

/* In order, apart from each other, inside of the file; multiples of a page, and between. */
static void places(uint64_t size, struct place *p)
{
    const uint64_t edge[] = {1ull << 31, 1ull << 32, 1ull << 33, 1ull << 36, 1ull << 39};
    uint64_t want[MARKS_MAX];
    unsigned n = 0;

    want[n++] = 0;
    want[n++] = size / 3 + 1234; /* across pages */
    for (unsigned i = 0; i < sizeof edge / sizeof edge[0]; i++) {
        want[n++] = edge[i] - 3 * MARK;
        want[n++] = edge[i] - MARK / 2; /* over the edge */
        want[n++] = edge[i] + 4 * MARK;
    }
    want[n++] = size - MARK;
    p->n = 0;
    for (unsigned i = 0; i < n; i++) {
        bool free = want[i] <= size - MARK;

        for (unsigned k = 0; k < p->n; k++)
            free = free && (want[i] >= p->at[k] + 2 * MARK || p->at[k] >= want[i] + 2 * MARK);
        if (free)
            p->at[p->n++] = want[i];
    }
}

static void pattern(uint64_t at, uint64_t seed, uint8_t *data)
{
    uint64_t state = at ^ seed << 48;

    for (unsigned i = 0; i < MARK / 8; i++) {
        uint64_t v = stats_random(&state) | 1;
        memcpy(data + 8 * i, &v, 8);
    }
}

/* Bytes of [at, at + MARK) that are not as expected; NULL: zeros. Negative errno. */
static int64_t wrong_at(int fd, uint64_t at, const uint8_t *expected)
{
    static uint8_t zeros[MARK];
    uint8_t *got = malloc(MARK);
    int64_t wrong = got ? 0 : -ENOMEM;

    for (size_t have = 0; got && have < MARK;) {
        ssize_t n = pread(fd, got + have, MARK - have, (off_t)(at + have));

        if (n <= 0) {
            wrong = n < 0 ? -errno : (int64_t)(MARK - have);
            break;
        }
        for (ssize_t i = 0; i < n; i++)
            wrong += got[have + (size_t)i] != (expected ? expected : zeros)[have + (size_t)i];
        have += (size_t)n;
    }
    free(got);
    return wrong;
}

/* All marks below `end`, and a hole after each. */
static int64_t check(int fd, const struct place *p, uint64_t end, uint64_t size, uint64_t seed)
{
    uint8_t mark[MARK];
    int64_t wrong = 0, n = 0;

    for (unsigned i = 0; n >= 0 && i < p->n && !bench_stopped(); i++) {
        uint64_t hole = p->at[i] + MARK;

        pattern(p->at[i], seed, mark);
        n = p->at[i] + MARK <= end ? wrong_at(fd, p->at[i], mark) : 0;
        wrong += n > 0 ? n : 0;
        if (n >= 0 && hole + MARK <= size)
            n = wrong_at(fd, hole, NULL);
        wrong += n > 0 ? n : 0;
    }
    return n < 0 ? n : wrong;
}

static int put_mapped(int fd, uint64_t at, const uint8_t *mark)
{
    uint64_t page = at & ~4095ull, skip = at - page;
    uint8_t *map = mmap(NULL, MARK + skip, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)page);

    if (map == MAP_FAILED)
        return -errno;
    memcpy(map + skip, mark, MARK);
    int rc = msync(map, MARK + skip, MS_SYNC) < 0 ? -errno : 0;
    munmap(map, MARK + skip);
    return rc;
}

static int write_marks(struct cell *c, int fd, const struct place *p, uint64_t seed)
{
    uint8_t mark[MARK];
    double written = 0, stored = 0;
    unsigned writes = 0, stores = 0;
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < p->n; i++) {
        bool mapped = i % 2;
        uint64_t start = bench_now();

        pattern(p->at[i], seed, mark);
        if (mapped)
            rc = put_mapped(fd, p->at[i], mark);
        else if (pwrite(fd, mark, MARK, (off_t)p->at[i]) != MARK)
            rc = errno ? -errno : -EIO;
        *(mapped ? &stored : &written) += bench_us_since(start);
        ++*(mapped ? &stores : &writes);
    }
    cell_sample(c, "write_us", "us", BETTER_LESS, written / writes);
    cell_sample(c, "store_us", "us", BETTER_LESS, stored / (stores ? stores : 1));
    uint64_t start = bench_now();
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    cell_sample(c, "fsync_us", "us", BETTER_LESS, bench_us_since(start));
    return rc;
}

static int timed_truncate(struct cell *c, int fd, uint64_t size, const char *metric)
{
    uint64_t start = bench_now();
    struct stat st;
    int rc = ftruncate(fd, (off_t)size) < 0 ? -errno : 0;

    cell_sample(c, metric, "us", BETTER_LESS, bench_us_since(start));
    if (rc == 0 && (fstat(fd, &st) < 0 || (uint64_t)st.st_size != size))
        rc = -ERANGE;
    return rc;
}

static int looks(struct cell *c, const char *path, uint64_t size)
{
    enum { LOOKS = 100 };
    uint64_t start = bench_now();
    struct stat st = {0};

    /* An open asks the server. */
    for (unsigned i = 0; i < LOOKS; i++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_size != size) {
            int error = errno;
            if (fd >= 0)
                close(fd);
            return fd < 0 ? -error : -ERANGE;
        }
        close(fd);
    }
    cell_sample(c, "open_stat_us", "us", BETTER_LESS, bench_us_since(start) / LOOKS);
    return 0;
}

/* Everything on the mount; `other` is the file by the server's side. */
static int64_t work(struct cell *c, struct scale_mount *m, const char *path, const char *other,
                    uint64_t size, uint64_t seed)
{
    struct place p;
    int64_t wrong = 0, n = 0;

    places(size, &p);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    int back = fd >= 0 ? open(other, O_RDONLY | O_CLOEXEC) : -1;
    int rc = fd < 0 || back < 0 ? -errno : 0;

    if (rc == 0)
        rc = timed_truncate(c, fd, size, "grow_us");
    if (rc == 0)
        rc = write_marks(c, fd, &p, seed);
    if (rc == 0)
        rc = looks(c, path, size);
    if (rc == 0 && (n = check(back, &p, size, size, seed)) < 0)
        rc = (int)n;
    wrong += n > 0 ? n : 0;
    if (rc == 0) { /* what it cached itself, then from the server */
        for (unsigned i = 0; i < 2 && n >= 0; i++) {
            if (i) {
                scale_drop(m);
                posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
            }
            uint64_t start = bench_now();
            n = check(fd, &p, size, size, seed);
            wrong += n > 0 ? n : 0;
            if (i)
                cell_sample(c, "cold_read_us", "us", BETTER_LESS,
                            bench_us_since(start) / (2.0 * p.n));
        }
        rc = n < 0 ? (int)n : 0;
    }
    /* Cut off inside of a page; what comes back are zeros. */
    uint64_t half = size / 2 + 1001;
    if (rc == 0)
        rc = timed_truncate(c, fd, half, "shrink_us");
    if (rc == 0)
        rc = timed_truncate(c, fd, size, "grow_again_us");
    for (unsigned i = 0; rc == 0 && i < 2; i++) {
        struct place kept = {.n = 0};
        for (unsigned k = 0; k < p.n; k++) {
            if (p.at[k] + MARK <= half)
                kept.at[kept.n++] = p.at[k];
            else if (p.at[k] >= half) {
                n = wrong_at(i ? back : fd, p.at[k], NULL);
                wrong += n > 0 ? n : 0;
            }
        }
        n = n < 0 ? n : check(i ? back : fd, &kept, half, half, seed);
        wrong += n > 0 ? n : 0;
        rc = n < 0 ? (int)n : 0;
    }
    if (fd >= 0 && close(fd) < 0 && rc == 0)
        rc = -errno;
    if (back >= 0)
        close(back);
    return rc < 0 ? rc : wrong;
}

static int run(struct cell *c)
{
    const struct scale_cell *sc = cell_arg(c);
    struct scale *s = sc->s;
    struct scale_mount m;
    char path[PATH_MAX + 32], other[PATH_MAX + 32];
    uint64_t size = sc->n << 20;
    int rc = scale_begin(s, c);

    if (rc == 0)
        rc = scale_mount(s, c, NULL, &m);
    if (rc < 0)
        return rc;
    snprintf(path, sizeof path, "%s/sparse", m.dir);
    snprintf(other, sizeof other, "%s/sparse", s->export);
    int64_t wrong = work(c, &m, path, other, size, sc->n);
    unlink(path);
    if (wrong == -EFBIG)
        rc = cell_skip(c, "the server's file system has no files of this size");
    else if (wrong < 0)
        rc = cell_fail(c, "%s: %s", path,
                       wrong == -ERANGE ? "not the size that it was given" : strerror((int)-wrong));
    else
        cell_sample(c, "wrong_bytes", "bytes", BETTER_ZERO, (double)wrong);
    return scale_umount(c, &m) < 0 ? -EIO : rc;
}

void scale_cells_sizes(struct matrix *m, struct scale *s)
{
    static const uint64_t mib[] = {1, 64, 2048, 4096, 8192, 65536, 1048576};

    /* All of them in --quick, too: sparse files cost nothing, and this is about what is right. */
    for (unsigned i = 0; i < sizeof mib / sizeof mib[0]; i++) {
        struct cell *c = scale_add(m, &(struct scale_cell){.s = s, .n = mib[i]}, "sizes", run);

        cell_param(c, "mib", "%llu", (unsigned long long)mib[i]);
    }
}
