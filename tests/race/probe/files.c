// SPDX-License-Identifier: Apache-2.0
/* The prober's files, on each way to them, and what must be so before it begins. See run.h. */
#include "tests/race/probe/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

const char *file_path(const struct probe *p, const struct way *w, const char *name)
{
    return t_path(w->dir, name);
}

static void cannot(struct probe *p, const struct way *w, const char *name, const char *what)
    __attribute__((noreturn));

static void cannot(struct probe *p, const struct way *w, const char *name, const char *what)
{
    trouble(p, "%s: cannot %s %s/%s", w->option, what, w->dir, name);
}

int file_open(struct probe *p, const struct way *w, const char *name, int flags)
{
    int fd = open(file_path(p, w, name), flags | O_CLOEXEC, 0666);
    if (fd < 0)
        cannot(p, w, name, "open");
    return fd;
}

const char *file_make(struct probe *p, const char *name, off_t size)
{
    int n = p->sh->n_made, fd;
    char *mine;

    if (n >= FILES_MAX) {
        errno = 0;
        trouble(p, "more than %d files", FILES_MAX);
    }
    mine = p->sh->made[n];
    snprintf(mine, sizeof p->sh->made[0], "nfscached-probe-%08x.%s", p->run, name);
    p->sh->n_made++;
    fd = file_open(p, &p->a, mine, O_CREAT | O_EXCL | O_RDWR);
    if (ftruncate(fd, size))
        cannot(p, &p->a, mine, "set the size of");
    file_sync(p, &p->a, mine, fd);
    file_close(p, &p->a, mine, fd);
    return mine;
}

void file_close(struct probe *p, const struct way *w, const char *name, int fd)
{
    if (close(fd))
        cannot(p, w, name, "close");
}

void file_sync(struct probe *p, const struct way *w, const char *name, int fd)
{
    /* In the server's own directory a write is there for all to see as it returns. */
    if (w->dir != p->s.dir && fsync(fd))
        cannot(p, w, name, "fsync");
}

void file_read(struct probe *p, const struct way *w, const char *name, int fd, void *buf, size_t n,
               off_t off)
{
    int rc = t_pread_all(fd, buf, n, off);
    if (rc == -ENODATA) {
        struct where at = {w, name, "read", "any time"};
        /* Shorter than this process knows it to be: not an error of the environment. */
        memset(buf, 0, n);
        finding(p, WRONG, true, &at, NULL, NULL, 0,
                "the file ends before offset %lld, it was never that short",
                (long long)off + (long long)n);
    } else if (rc) {
        errno = -rc;
        cannot(p, w, name, "read");
    }
}

void file_write(struct probe *p, const struct way *w, const char *name, int fd, const void *buf,
                size_t n, off_t off)
{
    int rc = t_pwrite_all(fd, buf, n, off);
    if (rc) {
        errno = -rc;
        cannot(p, w, name, "write");
    }
    count(&res(p)->writes);
}

/* Few at a time, of this process. */
static struct {
    char *at;
    size_t n;
    struct map_of of;
} maps[8];

void *file_map(struct probe *p, const struct way *w, const char *name, int fd, off_t off, size_t n,
               bool writable)
{
    void *m = mmap(NULL, n, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, off);

    if (m == MAP_FAILED)
        cannot(p, w, name, "map");
    for (int i = 0; i < 8; i++)
        if (!maps[i].at) {
            maps[i].at = m;
            maps[i].n = n;
            maps[i].of = (struct map_of){w, name, fd, off};
            break;
        }
    return m;
}

void file_unmap(void *m, size_t n)
{
    for (int i = 0; i < 8; i++)
        if (maps[i].at == m)
            maps[i].at = NULL;
    munmap(m, n);
}

bool file_of_map(const void *addr, struct map_of *out)
{
    for (int i = 0; i < 8; i++)
        if (maps[i].at && (const char *)addr >= maps[i].at &&
            (const char *)addr < maps[i].at + maps[i].n) {
            *out = maps[i].of;
            out->off += (const char *)addr - maps[i].at;
            return true;
        }
    return false;
}

size_t file_look(struct probe *p, const struct way *w, const char *name, void *buf, size_t n,
                 off_t off)
{
    int fd = file_open(p, w, name, O_RDONLY);
    size_t got = 0;
    ssize_t k = 0;

    while (got < n && (k = pread(fd, (char *)buf + got, n - got, off + (off_t)got)) > 0)
        got += (size_t)k;
    if (k < 0)
        cannot(p, w, name, "read");
    close(fd);
    return got;
}

/* ---- before it begins ---------------------------------------------------------------------------
 */

static bool can_map(struct probe *p, const struct way *w, const char *name)
{
    int fd = file_open(p, w, name, O_RDWR);
    void *m = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (m != MAP_FAILED)
        munmap(m, PAGE);
    close(fd);
    return m != MAP_FAILED;
}

/* The other directory shows the file that was just made on the mount: no other has such a name.
 * What it holds there is for the checks. */
static void same_files(struct probe *p, const struct way *w, const char *name)
{
    struct stat st;

    if (stat(w->dir, &st) || !S_ISDIR(st.st_mode)) {
        errno = errno ? errno : ENOTDIR;
        trouble(p, "%s %s", w->option, w->dir);
    }
    if (access(file_path(p, w, name), F_OK)) {
        errno = 0;
        trouble(p, "%s %s does not show the files of --mount %s: no %s there", w->option, w->dir,
                p->a.dir, name);
    }
    close(file_open(p, w, name, O_RDWR));
}

/* How long until two changes at the server differ in time, as the mount sees it. */
static double find_tick(struct probe *p, const struct way *w, const char *name)
{
    double worst = 0;
    bool whole_seconds = true;
    struct stat st, before;

    for (int i = 0; i < 4; i++) {
        int fd = file_open(p, w, name, O_RDWR);
        double t0 = t_now();
        file_write(p, w, name, fd, "t", 1, PAGE);
        file_sync(p, w, name, fd);
        if (fstat(fd, &before))
            cannot(p, w, name, "stat");
        do {
            beat(p);
            t_sleep_us(200);
            file_write(p, w, name, fd, "t", 1, PAGE);
            file_sync(p, w, name, fd);
            if (fstat(fd, &st))
                cannot(p, w, name, "stat");
        } while (st.st_mtim.tv_sec == before.st_mtim.tv_sec &&
                 st.st_mtim.tv_nsec == before.st_mtim.tv_nsec && t_now() < t0 + 2.2);
        if (t_now() - t0 > worst)
            worst = t_now() - t0;
        file_close(p, w, name, fd);
        if (!stat(file_path(p, &p->a, name), &st) && st.st_mtim.tv_nsec)
            whole_seconds = false;
    }
    /* What took long once was perhaps only waiting for the processor. */
    worst = worst * 1.5 + 0.002;
    if (whole_seconds && worst < 1.05)
        worst = 1.05;
    return worst < 2.2 ? worst : 2.2;
}

uint64_t free_space(struct probe *p)
{
    struct statvfs v;
    uint64_t n;

    if (statvfs(p->a.dir, &v))
        trouble(p, "--fill: cannot tell the free space of %s", p->a.dir);
    n = (uint64_t)v.f_bavail * v.f_frsize;
    if (n > (uint64_t)p->fill_max_mib << 20) {
        errno = 0;
        trouble(p, "--fill: %llu MiB are free on %s; it fills at most --fill-max=%ld MiB",
                (unsigned long long)(n >> 20), p->a.dir, p->fill_max_mib);
    }
    return n;
}

void files_examine(struct probe *p)
{
    struct rec_id id = {.run = p->run, .file = 999, .writer = 1, .seq = 1};
    uint64_t page[PAGE / 8];
    struct stat st;
    const char *name;
    int fd;

    errno = 0;
    if (stat(p->a.dir, &st) || !S_ISDIR(st.st_mode)) {
        errno = errno ? errno : ENOTDIR;
        trouble(p, "--mount %s", p->a.dir);
    }
    if (p->fill)
        free_space(p);
    name = file_make(p, "examine", 0);
    rec_make(page, PAGE, &id);
    fd = file_open(p, &p->a, name, O_RDWR);
    file_write(p, &p->a, name, fd, page, PAGE, 0);
    file_sync(p, &p->a, name, fd);
    file_close(p, &p->a, name, fd);
    if (p->b.dir)
        same_files(p, &p->b, name);
    if (p->s.dir && p->s.dir != p->b.dir)
        same_files(p, &p->s, name);
    p->sh->result[0].rounds = can_map(p, &p->a, name);
    p->sh->result[1].rounds = p->b.dir && can_map(p, &p->b, name);
    p->sh->result[0].age_read = find_tick(p, p->s.dir ? &p->s : p->b.dir ? &p->b : &p->a, name);
}

void files_remove(struct probe *p)
{
    const struct way *ways[] = {&p->a, &p->b, &p->s};
    for (int i = 0; i < p->sh->n_made; i++)
        for (int j = 0; j < 3; j++) {
            const struct way *w = ways[j];
            if (w->dir && unlink(file_path(p, w, p->sh->made[i])) && errno != ENOENT)
                fprintf(stderr, "nfscached-race probe: cannot remove %s/%s: %s\n", w->dir,
                        p->sh->made[i], strerror(errno));
            beat(p);
        }
}
