// SPDX-License-Identifier: Apache-2.0
/*
 * Part "inodes": 1 to --max-inodes cached inodes.
 *
 *   work=table     the inode table of the daemon by itself, in a child process: making an inode,
 *                  finding it again, forgetting it, and what each is in memory
 *   work=traverse  a mount, and what `ls -lR` does: every directory read, every file looked at;
 * once cold and once again; and what the daemon has grown by
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/bench/cache_rig.h"
#include "daemon/bench/child.h"
#include "daemon/bench/scale.h"
#include "daemon/bench/stats.h"
#include "fuse/ops.h"

#define MIB (1u << 20)

/* ---- the table ------------------------------------------------------------------------------- */

struct figures {
    double insert_ns, lookup_ns, forget_ns, bytes; /* an inode */
};

static void handle_of(uint64_t i, struct fh *fh)
{
    *fh = (struct fh){.len = 28};
    memcpy(fh->data, &i, sizeof i);
}

/* As a handler of LOOKUP: by handle, and the kernel gets a reference. */
static struct inode *look_up(struct front *f, uint64_t i, const struct attr *attr)
{
    struct fh fh;

    handle_of(i, &fh);
    return inode_get(f, &fh, attr);
}

static bool measure(const void *arg, void *result)
{
    uint64_t n = *(const uint64_t *)arg;
    struct figures *out = result;
    struct front *f = calloc(1, sizeof *f);
    struct inode **all = malloc((n + 1) * sizeof(struct inode *)), *root = NULL;
    struct scale_usage before, after;
    struct rig rig;
    uint64_t random = 1;
    char name[32];

    if (!f || !all || rig_open(&rig, 64 * MIB, (uint32_t)n + 2, 0, MIB))
        return false;
    /* The rig made mappings of its own, in places of the table that are wanted now. */
    for (uint32_t i = 0; i < rig.files; i++)
        mapping_free(rig.file[i].m);
    malloc_trim(0);
    memset(all, 0, (n + 1) * sizeof(struct inode *));
    f->arena = &rig.arena;
    f->cache = rig.c;
    f->inode_slab = slab_new(&rig.arena, ARENA_INODES);
    if (!f->inode_slab || inodes_init(f) || names_init(f))
        return false;
    scale_usage(getpid(), true, &before);

    uint64_t start = bench_now();

    for (uint64_t i = 0; i <= n; i++) {
        struct attr attr = {
            .mode = (i ? S_IFREG : S_IFDIR) | 0755, .nlink = 1, .size = 4096, .fileid = i + 1};

        all[i] = look_up(f, i, &attr);
        if (!all[i])
            return false;
        if (!root)
            root = all[i];
        __atomic_fetch_add(&all[i]->rec->nlookup, 1, __ATOMIC_RELAXED);
        snprintf(name, sizeof name, "file-%07llu.c", (unsigned long long)i);
        names_set(f, root, name, all[i]);
    }
    out->insert_ns = (double)(bench_now() - start) / (double)(n + 1);
    scale_usage(getpid(), true, &after);
    out->bytes = ((double)after.rss - (double)before.rss) / (double)(n + 1);

    uint64_t lookups = n < 1000 ? 100000 : 1000000;

    start = bench_now();
    for (uint64_t k = 0; k < lookups; k++) {
        uint64_t i = stats_random(&random) % (n + 1);
        struct inode *ino = look_up(f, i, NULL);

        if (ino != all[i])
            return false;
        inode_unref(f, ino);
    }
    out->lookup_ns = (double)(bench_now() - start) / (double)lookups;

    /* Ours go first: then the kernel's is the last. */
    for (uint64_t i = 1; i <= n; i++)
        inode_unref(f, all[i]);
    start = bench_now();
    for (uint64_t i = 1; i <= n; i++) {
        inode_ref(all[i]);
        inode_forget(f, all[i], 1);
        inode_unref(f, all[i]);
    }
    out->forget_ns = (double)(bench_now() - start) / (double)n;
    return true;
}

static int table(struct cell *c)
{
    const struct scale_cell *sc = cell_arg(c);
    struct figures f = {0};
    int rc = measure_apart(c, measure, &sc->n, &f, sizeof f);

    if (rc < 0)
        return rc;
    cell_sample(c, "insert_ns", "ns", BETTER_LESS, f.insert_ns);
    cell_sample(c, "lookup_ns", "ns", BETTER_LESS, f.lookup_ns);
    cell_sample(c, "forget_ns", "ns", BETTER_LESS, f.forget_ns);
    /* A page is the unit of memory: of a few inodes nothing can be said. */
    if (sc->n >= 1000)
        cell_sample(c, "bytes_inode", "bytes", BETTER_LESS, f.bytes);
    return 0;
}

/* ---- a mount --------------------------------------------------------------------------------- */

/* Files below `path`, each looked at. 0 or negative errno. */
static int traverse(const char *path, uint64_t *files)
{
    int at = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = at < 0 ? -errno : 0;
    DIR *d = at >= 0 ? fdopendir(at) : NULL;
    struct stat st;

    for (struct dirent *e; rc == 0 && d && (errno = 0, e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (fstatat(at, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            rc = -errno;
        } else if (S_ISDIR(st.st_mode)) {
            char below[PATH_MAX];

            snprintf(below, sizeof below, "%.*s/%s", PATH_MAX - 260, path, e->d_name);
            rc = traverse(below, files);
            errno = 0;
        } else if (++*files % 1024 == 0 && bench_stopped()) {
            rc = -EINTR;
        }
    }
    if (rc == 0 && errno)
        rc = -errno;
    if (d)
        closedir(d);
    else if (at >= 0)
        close(at);
    return rc;
}

static int timed(const char *path, uint64_t expected, double *us)
{
    uint64_t start = bench_now(), files = 0;
    int rc = traverse(path, &files);

    *us = bench_us_since(start) / (double)expected;
    return rc ? rc : files == expected ? 0 : -ENODATA;
}

static int mounted(struct cell *c)
{
    const struct scale_cell *sc = cell_arg(c);
    struct scale *s = sc->s;
    struct scale_mount m;
    struct scale_usage before, after;
    char name[64], path[PATH_MAX + 80];
    double cold = 0, warm = 0, asked_before, asked;
    int rc = scale_begin(s, c);

    if (rc < 0)
        return rc;
    rc = scale_tree(s, false, sc->n, name);
    if (rc < 0)
        return cell_fail(c, "making %s: %s", name, strerror(-rc));
    rc = scale_mount(s, c, "actimeo=600", &m);
    if (rc < 0)
        return rc;
    snprintf(path, sizeof path, "%s/%s", m.dir, name);
    scale_usage(m.daemon, true, &before);
    asked_before =
        scale_served(s, "READDIRPLUS") + scale_served(s, "LOOKUP") + scale_served(s, "GETATTR");
    rc = timed(path, sc->n, &cold);
    asked = scale_served(s, "READDIRPLUS") + scale_served(s, "LOOKUP") +
            scale_served(s, "GETATTR") - asked_before;
    scale_usage(m.daemon, true, &after);
    if (rc == 0)
        rc = timed(path, sc->n, &warm);
    if (rc < 0)
        cell_fail(c, "%s: %s", path, rc == -ENODATA ? "files are missing" : strerror(-rc));
    else
        rc = 0;
    if (rc == 0) {
        cell_sample(c, "cold_us_inode", "us", BETTER_LESS, cold);
        cell_sample(c, "warm_us_inode", "us", BETTER_LESS, warm);
        if (!s->remote)
            cell_sample(c, "calls_inode", "count", BETTER_LESS, asked / (double)sc->n);
        if (sc->n >= 1000)
            cell_sample(c, "bytes_inode", "bytes", BETTER_LESS,
                        ((double)after.rss - (double)before.rss) / (double)sc->n);
    }
    return scale_umount(c, &m) < 0 ? -EIO : rc;
}

void scale_cells_inodes(struct matrix *m, struct scale *s)
{
    double n[32];
    unsigned count = scale_steps(1, 10, (double)s->max_inodes, n);

    for (unsigned i = 0; i < count; i++) {
        for (unsigned k = 0; k < 2; k++) {
            struct cell *c = scale_add(m, &(struct scale_cell){.s = s, .n = (uint64_t)n[i]},
                                       "inodes", k ? mounted : table);

            cell_param(c, "work", "%s", k ? "traverse" : "table");
            cell_param(c, "inodes", "%.0f", n[i]);
        }
    }
}
