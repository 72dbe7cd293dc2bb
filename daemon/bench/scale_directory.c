// SPDX-License-Identifier: Apache-2.0
/*
 * Part "directory": one directory of 1 to --max-entries files. names: readdir() alone, as `ls -f`
 * does. ls -l: readdir(), then every entry looked at. Each by a mount that has seen nothing, then
 * once again.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/bench/scale.h"

static int list(const char *path, bool look, uint64_t expected, double *us_entry)
{
    uint64_t start = bench_now(), entries = 0;
    DIR *d = opendir(path);
    int rc = d ? 0 : -errno;
    struct stat st;

    for (struct dirent *e; rc == 0 && (errno = 0, e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (look && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            rc = -errno;
        if (++entries % 1024 == 0 && bench_stopped())
            rc = -EINTR;
    }
    if (rc == 0 && errno)
        rc = -errno;
    if (d)
        closedir(d);
    *us_entry = bench_us_since(start) / (double)expected;
    return rc ? rc : entries == expected ? 0 : -ENODATA;
}

static int run(struct cell *c)
{
    const struct scale_cell *sc = cell_arg(c);
    struct scale *s = sc->s;
    struct scale_mount m;
    char name[64], path[PATH_MAX + 80];
    bool look = sc->aux;
    double cold = 0, warm = 0;
    int rc = scale_begin(s, c);

    if (rc < 0)
        return rc;
    rc = scale_tree(s, true, sc->n, name);
    if (rc < 0)
        return cell_fail(c, "making %s: %s", name, strerror(-rc));
    rc = scale_mount(s, c, "actimeo=600", &m);
    if (rc < 0)
        return rc;
    snprintf(path, sizeof path, "%s/%s", m.dir, name);
    rc = list(path, look, sc->n, &cold);
    if (rc == 0)
        rc = list(path, look, sc->n, &warm);
    if (rc < 0) {
        cell_fail(c, "%s: %s", path,
                  rc == -ENODATA ? "entries are missing, or came twice" : strerror(-rc));
    } else {
        cell_sample(c, "cold_us_entry", "us", BETTER_LESS, cold);
        cell_sample(c, "warm_us_entry", "us", BETTER_LESS, warm);
    }
    return scale_umount(c, &m) < 0 ? -EIO : rc;
}

void scale_cells_directory(struct matrix *m, struct scale *s)
{
    double n[32];
    unsigned count = scale_steps(s->max_entries < 1000 ? 1 : 100, 10, (double)s->max_entries, n);

    for (unsigned i = 0; i < count; i++) {
        for (unsigned look = 0; look < 2; look++) {
            struct cell *c =
                scale_add(m, &(struct scale_cell){.s = s, .n = (uint64_t)n[i], .aux = look},
                          "directory", run);

            cell_param(c, "work", "%s", look ? "ls-l" : "names");
            cell_param(c, "entries", "%.0f", n[i]);
        }
    }
}
