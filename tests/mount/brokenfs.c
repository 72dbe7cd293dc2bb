// SPDX-License-Identifier: Apache-2.0
/*
 * A FUSE passthrough of one directory that can be told to be wrong, so that every oracle is seen to
 * fail before it is trusted: tests/mount/oracles runs the programs over it and expects the finding.
 *
 *   brokenfs [--MODE [N]] -f DIRECTORY MOUNTPOINT
 *
 * Requests go straight to the directory, the kernel's copy is dropped at each open. Unbroken, it
 * is as right as a plain passthrough can be: pages that several clients write it merges as wholes,
 * and loses bytes there; and the kernel's drop at an open may come between a write(2)'s copy into
 * the page and its WRITE, and bring the bytes of before back (docs/protocol.md, "unmap").
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <popt.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static struct {
    int lose, revert, tear, hang, stale, late, eio, size, misplace, blank, full, foreground;
} opt;

static const struct poptOption table[] = {
    {"lose", 0, POPT_ARG_INT, &opt.lose, 0, "acknowledge one WRITE in N without doing it", "N"},
    {"revert", 0, POPT_ARG_INT, &opt.revert, 0, "after one WRITE in N write the old bytes back",
     "N"},
    {"tear", 0, POPT_ARG_INT, &opt.tear, 0, "leave out 3 bytes of one WRITE in N", "N"},
    {"hang", 0, POPT_ARG_INT, &opt.hang, 0, "never answer READ number N", "N"},
    {"stale", 0, POPT_ARG_NONE, &opt.stale, 0, "never drop the kernel's copy", NULL},
    {"late", 0, POPT_ARG_INT, &opt.late, 0, "do one WRITE in N 200 ms after its answer", "N"},
    {"eio", 0, POPT_ARG_NONE, &opt.eio, 0, "fsync succeeds, whatever happened; writes fail", NULL},
    {"size", 0, POPT_ARG_INT, &opt.size, 0, "forget one truncation in N", "N"},
    {"misplace", 0, POPT_ARG_INT, &opt.misplace, 0, "do one WRITE in N a page further on", "N"},
    {"blank", 0, POPT_ARG_INT, &opt.blank, 0, "answer one READ in N with zeros", "N"},
    {"full", 0, POPT_ARG_INT, &opt.full, 0,
     "have room for N MiB, and acknowledge what does not fit without doing it", "N"},
    {"foreground", 'f', POPT_ARG_NONE, &opt.foreground, 0, "stay in the foreground", NULL},
    POPT_AUTOHELP POPT_TABLEEND};

static char root[PATH_MAX];
static unsigned long n_write, n_read, n_trunc, n_bytes;

static const char *at(const char *path, char *buf)
{
    snprintf(buf, PATH_MAX, "%s%s", root, path);
    return buf;
}

#define PATH(p)                                                                                    \
    char p##_buf[PATH_MAX];                                                                        \
    const char *p##_real = at(p, p##_buf)

static int res(long rc)
{
    return rc < 0 ? -errno : (int)rc;
}

static void *b_init(struct fuse_conn_info *conn, struct fuse_config *cfg)
{
    cfg->attr_timeout = cfg->entry_timeout = opt.stale ? 1000 : 0;
    cfg->kernel_cache = opt.stale;
    cfg->use_ino = 1;
    cfg->nullpath_ok = 0;
    if (opt.stale)
        conn->want &= ~(unsigned)FUSE_CAP_AUTO_INVAL_DATA;
    return NULL;
}

static int b_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    PATH(path);
    return res(lstat(path_real, st));
}

static int b_readlink(const char *path, char *buf, size_t size)
{
    PATH(path);
    ssize_t n = readlink(path_real, buf, size - 1);
    if (n < 0)
        return -errno;
    buf[n] = 0;
    return 0;
}

static int b_mknod(const char *path, mode_t mode, dev_t dev)
{
    PATH(path);
    return res(mknod(path_real, mode, dev));
}

static int b_mkdir(const char *path, mode_t mode)
{
    PATH(path);
    return res(mkdir(path_real, mode));
}

static int b_unlink(const char *path)
{
    PATH(path);
    return res(unlink(path_real));
}

static int b_rmdir(const char *path)
{
    PATH(path);
    return res(rmdir(path_real));
}

static int b_symlink(const char *to, const char *path)
{
    PATH(path);
    return res(symlink(to, path_real));
}

static int b_rename(const char *path, const char *to, unsigned flags)
{
    PATH(path);
    PATH(to);
    return res(renameat2(AT_FDCWD, path_real, AT_FDCWD, to_real, flags));
}

static int b_link(const char *path, const char *to)
{
    PATH(path);
    PATH(to);
    return res(link(path_real, to_real));
}

static int b_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    PATH(path);
    return res(chmod(path_real, mode));
}

static int b_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
    PATH(path);
    return res(lchown(path_real, uid, gid));
}

static int b_utimens(const char *path, const struct timespec tv[2], struct fuse_file_info *fi)
{
    PATH(path);
    return res(utimensat(AT_FDCWD, path_real, tv, AT_SYMLINK_NOFOLLOW));
}

static int b_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    PATH(path);
    if (opt.size && __sync_add_and_fetch(&n_trunc, 1) % (unsigned)opt.size == 0)
        return 0;
    return res(truncate(path_real, size));
}

static int b_open(const char *path, struct fuse_file_info *fi)
{
    PATH(path);
    /* The kernel's own descriptor reads pages that it only partly writes, and adds O_APPEND's
     * offset itself. */
    int flags = (fi->flags & ~(O_APPEND | O_ACCMODE | O_DIRECT)) | O_RDWR;
    int fd = open(path_real, flags);
    if (fd < 0)
        fd = open(path_real, fi->flags & ~O_DIRECT);
    fi->fh = (uint64_t)fd;
    fi->keep_cache = (unsigned)opt.stale & 1;
    return fd < 0 ? -errno : 0;
}

static int b_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    PATH(path);
    int fd =
        open(path_real, (fi->flags & ~(O_APPEND | O_ACCMODE | O_DIRECT)) | O_RDWR | O_CREAT, mode);
    fi->fh = (uint64_t)fd;
    return fd < 0 ? -errno : 0;
}

static int b_read(const char *path, char *buf, size_t n, off_t off, struct fuse_file_info *fi)
{
    if (opt.hang && __sync_add_and_fetch(&n_read, 1) >= (unsigned)opt.hang)
        for (;;)
            pause();
    if (opt.blank && __sync_add_and_fetch(&n_read, 1) % (unsigned)opt.blank == 0) {
        ssize_t k = pread((int)fi->fh, buf, n, off);
        if (k > 0)
            memset(buf, 0, (size_t)k);
        return res(k);
    }
    return res(pread((int)fi->fh, buf, n, off));
}

struct delayed {
    int fd;
    size_t n;
    off_t off;
    char data[];
};

static void *delayed_write(void *arg)
{
    struct delayed *d = arg;
    usleep(200000);
    if (pwrite(d->fd, d->data, d->n, d->off) < 0)
        perror("brokenfs: delayed write");
    close(d->fd);
    free(d);
    return NULL;
}

static void write_later(int fd, const char *buf, size_t n, off_t off)
{
    struct delayed *d = malloc(sizeof *d + n);
    pthread_t t;
    d->fd = dup(fd);
    d->n = n;
    d->off = off;
    memcpy(d->data, buf, n);
    pthread_create(&t, NULL, delayed_write, d);
    pthread_detach(t);
}

static int b_write(const char *path, const char *buf, size_t n, off_t off,
                   struct fuse_file_info *fi)
{
    unsigned long i = __sync_add_and_fetch(&n_write, 1);
    int fd = (int)fi->fh;

    if (opt.eio)
        return (int)n;
    if (opt.lose && i % (unsigned)opt.lose == 0)
        return (int)n;
    if (opt.full && __sync_add_and_fetch(&n_bytes, n) > (unsigned long)opt.full << 20)
        return (int)n;
    if (opt.misplace && i % (unsigned)opt.misplace == 0)
        return res(pwrite(fd, buf, n, off + 4096));
    if (opt.late && i % (unsigned)opt.late == 0) {
        write_later(fd, buf, n, off);
        return (int)n;
    }
    if (opt.tear && i % (unsigned)opt.tear == 0 && n >= 8) {
        ssize_t k = pwrite(fd, buf, n - 3, off);
        return k < 0 ? -errno : (int)n;
    }
    if (opt.revert && i % (unsigned)opt.revert == 0) {
        char *old = malloc(n);
        ssize_t k = pread(fd, old, n, off);
        if (k > 0)
            write_later(fd, old, (size_t)k, off);
        free(old);
    }
    return res(pwrite(fd, buf, n, off));
}

static int b_statfs(const char *path, struct statvfs *st)
{
    PATH(path);
    int rc = res(statvfs(path_real, st));
    if (!rc && opt.full)
        st->f_bfree = st->f_bavail = ((unsigned long)opt.full << 20) / st->f_frsize;
    return rc;
}

static int b_release(const char *path, struct fuse_file_info *fi)
{
    close((int)fi->fh);
    return 0;
}

static int b_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
    return opt.eio ? 0 : res(fsync((int)fi->fh));
}

static const struct fuse_operations ops = {
    .init = b_init,
    .getattr = b_getattr,
    .readlink = b_readlink,
    .mknod = b_mknod,
    .mkdir = b_mkdir,
    .unlink = b_unlink,
    .rmdir = b_rmdir,
    .symlink = b_symlink,
    .rename = b_rename,
    .link = b_link,
    .chmod = b_chmod,
    .chown = b_chown,
    .utimens = b_utimens,
    .truncate = b_truncate,
    .open = b_open,
    .create = b_create,
    .read = b_read,
    .write = b_write,
    .statfs = b_statfs,
    .release = b_release,
    .fsync = b_fsync,
};

int main(int argc, const char **argv)
{
    poptContext pc = poptGetContext(NULL, argc, argv, table, 0);
    const char *dir, *mnt;
    char *args[] = {"brokenfs", "-f", "-o", "allow_other", NULL, NULL};
    int rc;

    while ((rc = poptGetNextOpt(pc)) > 0)
        ;
    dir = poptGetArg(pc);
    mnt = poptGetArg(pc);
    if (rc < -1 || !mnt || !realpath(dir, root)) {
        fprintf(stderr, "usage: brokenfs [--MODE [N]] -f DIRECTORY MOUNTPOINT\n");
        return 2;
    }
    args[4] = (char *)mnt;
    umask(0);
    return fuse_main(5, args, &ops, NULL);
}
