// SPDX-License-Identifier: Apache-2.0
/* Trees of empty files in the export of `bench scale`: made by the server's side, where it is
 * quick, and kept for the next cell that wants the same. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/bench/scale.h"

enum { PER_DIRECTORY = 1000 };

static int make_file(int dir, uint64_t i)
{
    char name[32];

    snprintf(name, sizeof name, "file-%07llu.c", (unsigned long long)i);
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    close(fd);
    return 0;
}

/* Opens a directory, made if it is not there. */
static int directory(int at, const char *name)
{
    if (mkdirat(at, name, 0755) < 0 && errno != EEXIST)
        return -errno;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int fill(int top, bool flat, uint64_t n)
{
    int dir = top, rc = 0;
    char name[32];

    for (uint64_t i = 0; rc == 0 && i < n; i++) {
        if (!flat && i % PER_DIRECTORY == 0) {
            if (dir != top)
                close(dir);
            snprintf(name, sizeof name, "dir-%05llu", (unsigned long long)(i / PER_DIRECTORY));
            dir = directory(top, name);
            rc = dir < 0 ? dir : 0;
        }
        if (rc == 0)
            rc = make_file(dir, i);
        if (i % 1024 == 0 && bench_stopped())
            rc = -EINTR;
    }
    if (dir != top && dir >= 0)
        close(dir);
    return rc;
}

int scale_tree(struct scale *s, bool flat, uint64_t n, char *name)
{
    char done[80];

    snprintf(name, 64, "%s-%llu", flat ? "flat" : "tree", (unsigned long long)n);
    snprintf(done, sizeof done, "%s.made", name);
    int at = open(s->export, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = at < 0 ? -errno : 0;
    if (rc == 0 && faccessat(at, done, F_OK, 0) < 0) {
        int top = directory(at, name);
        rc = top < 0 ? top : fill(top, flat, n);
        if (top >= 0)
            close(top);
        if (rc == 0)
            rc = mkdirat(at, done, 0755) < 0 ? -errno : 0;
    }
    if (at >= 0)
        close(at);
    return rc;
}
