// SPDX-License-Identifier: Apache-2.0
/*
 * Storms: the same small operation on many files. "cold" ones see names and attributes for the
 * first time: the files were made by the other way (--foreign-dir), in a directory that was never
 * looked into.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/bench/meta.h"

enum { FILE_SIZE = 4096 };

static void file_name(const char *dir, unsigned i, char *path)
{
    char name[16];

    snprintf(name, sizeof name, "f%05u", i);
    target_path(dir, name, path);
}

/* ---- operations: on one name; 0 or -1 with errno ----------------------------------------------
 */

static int op_create(const char *path)
{
    static const char data[FILE_SIZE] = "a file of 4 KiB";
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

    if (fd < 0)
        return -1;
    ssize_t n = write(fd, data, sizeof data);
    return close(fd) < 0 || n != (ssize_t)sizeof data ? -1 : 0;
}

static int op_stat(const char *path)
{
    struct stat st;
    return lstat(path, &st);
}

static int op_open(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -1 : close(fd);
}

static int op_open_read(const char *path)
{
    char data[FILE_SIZE];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -1;
    ssize_t n = read(fd, data, sizeof data);
    return close(fd) < 0 || n != FILE_SIZE ? -1 : 0;
}

static int op_chmod(const char *path)
{
    return chmod(path, 0640);
}

static int op_rename(const char *path)
{
    char to[PATH_MAX + 8];

    snprintf(to, sizeof to, "%s.renamed", path);
    return rename(path, to);
}

static int op_mkdir(const char *path)
{
    return mkdir(path, 0777);
}

static int op_symlink(const char *path)
{
    return symlink("where it points to", path);
}

/* ---- storms ---------------------------------------------------------------------------------- */

/* One operation on each file, timed one by one, and all together. */
static int storm(struct cell *c, const struct meta_cell *mc, int (*op)(const char *path))
{
    struct histogram *h = calloc(1, sizeof *h);
    char path[PATH_MAX];
    int rc = h ? 0 : -ENOMEM;
    uint64_t all = bench_now();
    unsigned n = 0;

    for (; rc == 0 && n < mc->o->files && !bench_stopped(); n++) {
        file_name(mc->dir, n, path);
        uint64_t start = bench_now();
        if (op(path) < 0)
            rc = errno ? -errno : -EIO;
        histogram_add(h, bench_now() - start);
    }
    double us = bench_us_since(all);
    if (rc == 0 && n) {
        cell_sample(c, "per_s", "1/s", BETTER_MORE, n * 1e6 / us);
        cell_histogram(c, "op", h);
    }
    free(h);
    return rc;
}

int meta_repeat(struct cell *c, unsigned n, int (*op)(const char *path), const char *path)
{
    struct histogram *h = calloc(1, sizeof *h);
    int rc = h ? 0 : -ENOMEM;

    for (unsigned i = 0; rc == 0 && i < n && !bench_stopped(); i++) {
        uint64_t start = bench_now();

        if (op(path) < 0)
            rc = errno ? -errno : -EIO;
        histogram_add(h, bench_now() - start);
    }
    if (rc == 0)
        cell_histogram(c, "op", h);
    free(h);
    return rc;
}

static int for_all(const struct meta_cell *mc, const char *dir, int (*op)(const char *path))
{
    char path[PATH_MAX];
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < mc->o->files && !bench_stopped(); i++) {
        file_name(dir, i, path);
        rc = op(path) < 0 ? -errno : 0;
    }
    return rc;
}

/* Made by the other way where there is one. */
static int make_files(const struct meta_cell *mc)
{
    return for_all(mc, *mc->foreign ? mc->foreign : mc->dir, op_create);
}

static int run_create(struct cell *c, struct meta_cell *mc)
{
    return storm(c, mc, op_create);
}

static int run_mkdir(struct cell *c, struct meta_cell *mc)
{
    return storm(c, mc, op_mkdir);
}

static int run_symlink(struct cell *c, struct meta_cell *mc)
{
    return storm(c, mc, op_symlink);
}

/* On files that were made, and seen once. */
static int on_warm_files(struct cell *c, struct meta_cell *mc, int (*op)(const char *path))
{
    int rc = make_files(mc);
    if (rc == 0)
        rc = for_all(mc, mc->dir, op_open_read);
    return rc ? rc : storm(c, mc, op);
}

static int run_stat(struct cell *c, struct meta_cell *mc)
{
    return on_warm_files(c, mc, op_stat);
}

static int run_open(struct cell *c, struct meta_cell *mc)
{
    return on_warm_files(c, mc, op_open);
}

static int run_open_read(struct cell *c, struct meta_cell *mc)
{
    return on_warm_files(c, mc, op_open_read);
}

static int run_chmod(struct cell *c, struct meta_cell *mc)
{
    return on_warm_files(c, mc, op_chmod);
}

static int run_rename(struct cell *c, struct meta_cell *mc)
{
    return on_warm_files(c, mc, op_rename);
}

static int run_unlink(struct cell *c, struct meta_cell *mc)
{
    return on_warm_files(c, mc, unlink);
}

static int run_rmdir(struct cell *c, struct meta_cell *mc)
{
    int rc = for_all(mc, mc->dir, op_mkdir);
    return rc ? rc : storm(c, mc, rmdir);
}

static int on_cold_files(struct cell *c, struct meta_cell *mc, int (*op)(const char *path))
{
    if (!*mc->foreign)
        return cell_skip(c, "needs --foreign-dir: files that were made elsewhere");
    int rc = make_files(mc);
    return rc ? rc : storm(c, mc, op);
}

static int run_stat_cold(struct cell *c, struct meta_cell *mc)
{
    return on_cold_files(c, mc, op_stat);
}

static int run_open_read_cold(struct cell *c, struct meta_cell *mc)
{
    return on_cold_files(c, mc, op_open_read);
}

/* ---- directories ----------------------------------------------------------------------------- */

double meta_list(const char *dir, bool with_attributes, unsigned *entries)
{
    uint64_t start = bench_now();
    DIR *d = opendir(dir);
    struct dirent *e;
    struct stat st;

    *entries = 0;
    if (!d)
        return -errno;
    errno = 0;
    while ((e = readdir(d))) {
        if (with_attributes && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            break;
        ++*entries;
    }
    int saved = errno;
    closedir(d);
    return saved ? -saved : bench_us_since(start);
}

static int run_list(struct cell *c, struct meta_cell *mc, bool cold, bool with_attributes)
{
    unsigned entries;
    double us = 0;

    if (cold && !*mc->foreign)
        return cell_skip(c, "needs --foreign-dir: files that were made elsewhere");
    int rc = make_files(mc);
    if (rc == 0 && !cold)
        us = meta_list(mc->dir, with_attributes, &entries);
    if (rc == 0 && us >= 0)
        us = meta_list(mc->dir, with_attributes, &entries);
    if (rc < 0 || us < 0)
        return rc < 0 ? rc : (int)us;
    if (entries != mc->o->files + 2 && !bench_stopped())
        return cell_fail(c, "%s: %u entries, should be %u", mc->dir, entries, mc->o->files + 2);
    cell_sample(c, "ms", "ms", BETTER_LESS, us / 1e3);
    cell_sample(c, "entries_per_s", "1/s", BETTER_MORE, entries * 1e6 / us);
    return 0;
}

static int run_readdir_cold(struct cell *c, struct meta_cell *mc)
{
    return run_list(c, mc, true, false);
}

static int run_readdir(struct cell *c, struct meta_cell *mc)
{
    return run_list(c, mc, false, false);
}

static int run_ls_cold(struct cell *c, struct meta_cell *mc)
{
    return run_list(c, mc, true, true);
}

static int run_ls(struct cell *c, struct meta_cell *mc)
{
    return run_list(c, mc, false, true);
}

const struct meta_work meta_storms[] = {
    {"create", run_create, NULL, NULL, NULL},
    {"stat", run_stat, NULL, NULL, NULL},
    {"stat-cold", run_stat_cold, NULL, NULL, NULL},
    {"open", run_open, "fuse+libnfs", "open", "open_p50_us"},
    {"open-read", run_open_read, NULL, NULL, NULL},
    {"open-read-cold", run_open_read_cold, NULL, NULL, NULL},
    {"chmod", run_chmod, NULL, NULL, NULL},
    {"rename", run_rename, NULL, NULL, NULL},
    {"unlink", run_unlink, NULL, NULL, NULL},
    {"symlink", run_symlink, NULL, NULL, NULL},
    {"mkdir", run_mkdir, NULL, NULL, NULL},
    {"rmdir", run_rmdir, NULL, NULL, NULL},
    {"readdir", run_readdir, NULL, NULL, NULL},
    {"readdir-cold", run_readdir_cold, NULL, NULL, NULL},
    {"ls-l", run_ls, NULL, NULL, NULL},
    {"ls-l-cold", run_ls_cold, NULL, NULL, NULL},
    {0},
};
