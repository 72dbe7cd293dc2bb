// SPDX-License-Identifier: Apache-2.0
/*
 * Works whose cost may grow with the size of something. The other way to the files (--foreign-dir)
 * makes what they work on, so that the client sees it for the first time; once cold, then again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/bench/meta.h"

static const char needs_foreign[] = "needs --foreign-dir: files that were made elsewhere";

/* ---- entries of a directory ------------------------------------------------------------------ */

static int run_large_list(struct cell *c, struct meta_cell *mc)
{
    char path[PATH_MAX], name[16];
    double cold, warm = 0;
    unsigned n = 0;

    if (!*mc->foreign)
        return cell_skip(c, needs_foreign);
    for (unsigned i = 0; i < mc->size && !bench_stopped(); i++) {
        snprintf(name, sizeof name, "f%07u", i);
        target_path(mc->foreign, name, path);
        if (mknod(path, S_IFREG | 0644, 0) < 0)
            return -errno;
    }
    /* What changed within a tick of the server's clock may change once more unseen: some clients
     * list such a directory again. (cold_ms is of one that is as old as directories are.) */
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    cold = meta_list(mc->dir, true, &n);
    if (cold >= 0 && n == mc->size + 2)
        warm = meta_list(mc->dir, true, &n);
    if (cold < 0 || warm < 0)
        return (int)(cold < 0 ? cold : warm);
    if (bench_stopped())
        return -EINTR;
    if (n != mc->size + 2)
        return cell_fail(c, "%s: %u entries, should be %u", mc->dir, n, mc->size + 2);
    cell_sample(c, "cold_ms", "ms", BETTER_LESS, cold / 1e3);
    cell_sample(c, "warm_ms", "ms", BETTER_LESS, warm / 1e3);
    return 0;
}

/* ---- files of a tree ------------------------------------------------------------------------- */

#define RUN(dir, ...) meta_run_program(dir, (const char *const[]){__VA_ARGS__, NULL})

/* Small and alike: what git wants is their attributes. */
static int make_tree(const char *tree, unsigned files)
{
    enum { PER_DIRECTORY = 50 };
    char sub[PATH_MAX], path[PATH_MAX], name[32];

    for (unsigned i = 0; i < files && !bench_stopped(); i++) {
        snprintf(name, sizeof name, "d%u", i / PER_DIRECTORY);
        target_path(tree, name, sub);
        if (i % PER_DIRECTORY == 0 && mkdir(sub, 0777) < 0)
            return -errno;
        snprintf(name, sizeof name, "s%u.c", i);
        target_path(sub, name, path);

        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

        if (fd < 0 || write(fd, "int x;\n", 7) != 7 || close(fd) < 0)
            return errno ? -errno : -EIO;
    }
    return 0;
}

static int git_status(const char *tree, double *seconds)
{
    uint64_t start = bench_now();
    int rc = RUN(tree, "git", "status");

    *seconds = bench_us_since(start) / 1e6;
    return rc;
}

static int run_large_tree(struct cell *c, struct meta_cell *mc)
{
    double cold = 0, warm = 0;

    if (!*mc->foreign)
        return cell_skip(c, needs_foreign);
    if (!meta_is_installed("git"))
        return cell_skip(c, "the program git is not installed");

    int rc = make_tree(mc->foreign, mc->size);

    if (rc == 0)
        rc = RUN(mc->foreign, "git", "init", "-q");
    if (rc == 0)
        rc = RUN(mc->foreign, "git", "add", ".");
    if (rc == 0)
        rc = RUN(mc->foreign, "git", "-c", "user.name=bench", "-c", "user.email=bench@localhost",
                 "commit", "-qm", "tree");
    if (rc == 0)
        rc = git_status(mc->dir, &cold);
    if (rc == 0)
        rc = git_status(mc->dir, &warm);
    if (bench_stopped())
        return -EINTR;
    if (rc)
        return rc == -ECHILD ? cell_fail(c, "git failed in %s", mc->dir) : rc;
    cell_sample(c, "cold_s", "s", BETTER_LESS, cold);
    cell_sample(c, "warm_s", "s", BETTER_LESS, warm);
    return 0;
}

/* ---- cached pages of a file ------------------------------------------------------------------ */

static int op_open(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    return fd < 0 ? -1 : close(fd);
}

/* A file of holes, read as far as it is to be cached; once for all repetitions. */
static int make_cached(struct meta_cell *mc, const char *name, const char *path)
{
    enum { CHUNK = 1 << 20, LEAST = 1 << 20 };
    char other[PATH_MAX], *chunk = malloc(CHUNK);
    off_t size = (off_t)mc->size * 4096, at = 0;
    ssize_t n = 1;

    target_path(mc->target->foreign ? mc->target->foreign : mc->target->dir, name, other);

    int fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    int rc = !chunk ? -ENOMEM : fd < 0 || ftruncate(fd, size ? size : LEAST) < 0 ? -errno : 0;

    if (fd >= 0)
        close(fd);
    fd = rc == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (rc == 0 && fd < 0)
        rc = -errno;
    for (; rc == 0 && at < size && n > 0 && !bench_stopped(); at += n) {
        n = pread(fd, chunk, CHUNK, at);
        if (n < 0)
            rc = -errno;
    }
    if (fd >= 0)
        close(fd);
    free(chunk);
    mc->kept = rc == 0 && at >= size;
    return rc;
}

static int run_cached(struct cell *c, struct meta_cell *mc)
{
    char name[32], path[PATH_MAX];
    int rc = 0;

    snprintf(name, sizeof name, "cached.%u", mc->size);
    target_path(mc->target->dir, name, path);
    if (!mc->kept)
        rc = make_cached(mc, name, path);
    return rc ? rc : meta_repeat(c, mc->o->files, op_open, path);
}

const struct meta_work meta_large_list = {"ls-l-large", run_large_list, NULL, NULL, NULL};
const struct meta_work meta_large_tree = {"git-status-large", run_large_tree, NULL, NULL, NULL};
const struct meta_work meta_cached = {"open-cached", run_cached, "fuse+libnfs", "open",
                                      "open_p50_us"};
