// SPDX-License-Identifier: Apache-2.0
/*
 * The obvious NFS client in userspace, to compare with: libfuse's high-level API on libnfs's
 * high-level API, one synchronous call at a time.
 *
 *   naivenfs nfs://HOST/EXPORT[?nfsport=N&mountport=N] MOUNTPOINT [FUSE OPTION...]
 *
 * In the foreground, until it is unmounted or killed. Each FUSE request becomes the libnfs call of
 * the same name, with a path, and its thread waits for the server's answer before it reads the
 * next request. Nothing is cached but what the kernel does by itself (attributes and names for one
 * second). It is how such file systems begin, and about what fuse-nfs does.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include <nfsc/libnfs.h>

static struct nfs_context *nfs;

static struct nfsfh *handle(struct fuse_file_info *fi)
{
    return (struct nfsfh *)(uintptr_t)fi->fh;
}

static void stat_of(const struct nfs_stat_64 *from, struct stat *to)
{
    memset(to, 0, sizeof *to);
    to->st_dev = from->nfs_dev;
    to->st_ino = from->nfs_ino;
    to->st_mode = (mode_t)from->nfs_mode;
    to->st_nlink = from->nfs_nlink;
    to->st_uid = (uid_t)from->nfs_uid;
    to->st_gid = (gid_t)from->nfs_gid;
    to->st_rdev = from->nfs_rdev;
    to->st_size = (off_t)from->nfs_size;
    to->st_blksize = (blksize_t)from->nfs_blksize;
    to->st_blocks = (blkcnt_t)((from->nfs_size + 511) / 512);
    to->st_atim = (struct timespec){(time_t)from->nfs_atime, (long)from->nfs_atime_nsec};
    to->st_mtim = (struct timespec){(time_t)from->nfs_mtime, (long)from->nfs_mtime_nsec};
    to->st_ctim = (struct timespec){(time_t)from->nfs_ctime, (long)from->nfs_ctime_nsec};
}

static void *naive_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
    config->use_ino = 1;
    return NULL;
}

static int naive_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    struct nfs_stat_64 nst;
    int rc = fi ? nfs_fstat64(nfs, handle(fi), &nst) : nfs_lstat64(nfs, path, &nst);

    if (rc == 0)
        stat_of(&nst, st);
    return rc;
}

static int naive_readlink(const char *path, char *buf, size_t size)
{
    return nfs_readlink(nfs, path, buf, (int)size);
}

static int naive_mkdir(const char *path, mode_t mode)
{
    return nfs_mkdir2(nfs, path, (int)mode);
}

static int naive_unlink(const char *path)
{
    return nfs_unlink(nfs, path);
}

static int naive_rmdir(const char *path)
{
    return nfs_rmdir(nfs, path);
}

static int naive_symlink(const char *target, const char *path)
{
    return nfs_symlink(nfs, target, path);
}

static int naive_rename(const char *from, const char *to, unsigned flags)
{
    return flags ? -EINVAL : nfs_rename(nfs, from, to);
}

static int naive_link(const char *from, const char *to)
{
    return nfs_link(nfs, from, to);
}

static int naive_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    return fi ? nfs_fchmod(nfs, handle(fi), (int)mode) : nfs_chmod(nfs, path, (int)mode);
}

static int naive_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
    return fi ? nfs_fchown(nfs, handle(fi), (int)uid, (int)gid)
              : nfs_lchown(nfs, path, (int)uid, (int)gid);
}

static int naive_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    return fi ? nfs_ftruncate(nfs, handle(fi), (uint64_t)size)
              : nfs_truncate(nfs, path, (uint64_t)size);
}

static int naive_utimens(const char *path, const struct timespec ts[2], struct fuse_file_info *fi)
{
    struct timeval tv[2];

    for (int i = 0; i < 2; i++) {
        if (ts[i].tv_nsec == UTIME_OMIT)
            return 0; /* libnfs sets both or none */
        if (ts[i].tv_nsec == UTIME_NOW) {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            tv[i] = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
        } else {
            tv[i] = (struct timeval){ts[i].tv_sec, ts[i].tv_nsec / 1000};
        }
    }
    return nfs_lutimes(nfs, path, tv);
}

static int naive_open(const char *path, struct fuse_file_info *fi)
{
    struct nfsfh *fh = NULL;
    int rc = nfs_open(nfs, path, fi->flags, &fh);

    fi->fh = (uintptr_t)fh;
    return rc;
}

static int naive_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    struct nfsfh *fh = NULL;
    int rc = nfs_create(nfs, path, fi->flags, (int)mode, &fh);

    fi->fh = (uintptr_t)fh;
    return rc;
}

static int naive_read(const char *path, char *buf, size_t size, off_t off,
                      struct fuse_file_info *fi)
{
    return nfs_pread(nfs, handle(fi), (uint64_t)off, size, buf);
}

static int naive_write(const char *path, const char *buf, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    return nfs_pwrite(nfs, handle(fi), (uint64_t)off, size, (void *)buf);
}

static int naive_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
    return nfs_fsync(nfs, handle(fi));
}

static int naive_release(const char *path, struct fuse_file_info *fi)
{
    return nfs_close(nfs, handle(fi));
}

static int naive_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t off,
                         struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
    struct nfsdir *dir;
    int rc = nfs_opendir(nfs, path, &dir);

    if (rc)
        return rc;
    for (struct nfsdirent *e; (e = nfs_readdir(nfs, dir)) != NULL;) {
        struct stat st = {.st_ino = e->inode, .st_mode = e->mode};

        if (fill(buf, e->name, &st, 0, 0))
            break;
    }
    nfs_closedir(nfs, dir);
    return 0;
}

static int naive_statfs(const char *path, struct statvfs *st)
{
    return nfs_statvfs(nfs, path, st);
}

static const struct fuse_operations ops = {
    .init = naive_init,
    .getattr = naive_getattr,
    .readlink = naive_readlink,
    .mkdir = naive_mkdir,
    .unlink = naive_unlink,
    .rmdir = naive_rmdir,
    .symlink = naive_symlink,
    .rename = naive_rename,
    .link = naive_link,
    .chmod = naive_chmod,
    .chown = naive_chown,
    .truncate = naive_truncate,
    .utimens = naive_utimens,
    .open = naive_open,
    .create = naive_create,
    .read = naive_read,
    .write = naive_write,
    .fsync = naive_fsync,
    .release = naive_release,
    .readdir = naive_readdir,
    .statfs = naive_statfs,
};

int main(int argc, char **argv)
{
    struct nfs_url *url;

    if (argc < 3) {
        fprintf(stderr, "usage: naivenfs nfs://HOST/EXPORT MOUNTPOINT [FUSE OPTION...]\n");
        return 2;
    }
    nfs = nfs_init_context();
    url = nfs ? nfs_parse_url_dir(nfs, argv[1]) : NULL;
    if (!url || nfs_mount(nfs, url->server, url->path)) {
        fprintf(stderr, "naivenfs: %s: %s\n", argv[1], nfs ? nfs_get_error(nfs) : "memory");
        return 1;
    }
    nfs_destroy_url(url);

    /* libnfs's context is not for several threads at once: a single one serves. */
    char **args = calloc((size_t)argc + 3, sizeof *args);
    int n = 0;

    if (!args)
        return 1;
    args[n++] = argv[0];
    args[n++] = (char *)"-f";
    args[n++] = (char *)"-s";
    for (int i = 2; i < argc; i++)
        args[n++] = argv[i];

    int rc = fuse_main(n, args, &ops, NULL);

    free(args);
    nfs_destroy_context(nfs);
    return rc;
}
