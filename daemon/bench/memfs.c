// SPDX-License-Identifier: Apache-2.0
/*
 * The floor of any FUSE file system here: one flat directory of files in memory, no server behind.
 *
 * The FUSE settings are those of nfscached, so that the difference between the two is what
 * nfscached adds: no writeback cache, pages kept over open, EXPLICIT_INVAL_DATA, requests of up to
 * 1 MiB, attributes and names valid for long. So is the way a request goes: one thread waits with
 * epoll for a non-blocking /dev/fuse, reads a request, answers it, and reads on until there is
 * none.
 */
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "daemon/bench/limit_cells.h"

#define FILES    64
#define FILE_MAX ((size_t)4 << 30) /* address space; memory is used as it is touched */
#define FOREVER  86400.0

static struct file {
    char name[256]; /* empty: free */
    char *data;
    size_t size;
    struct timespec mtime;
} files[FILES];

static struct fuse_session *memfs_session;

/* Node id 1 is the root, 2 + i is files[i]. */
static struct file *file_of(fuse_ino_t ino)
{
    return ino >= 2 && ino < 2 + FILES && files[ino - 2].data ? &files[ino - 2] : NULL;
}

static void stat_of(fuse_ino_t ino, struct stat *st)
{
    memset(st, 0, sizeof *st);
    st->st_ino = ino;
    st->st_nlink = 1;
    if (ino == FUSE_ROOT_ID) {
        st->st_mode = S_IFDIR | 0777;
        st->st_nlink = 2;
        return;
    }
    struct file *f = file_of(ino);
    st->st_mode = S_IFREG | 0666;
    st->st_size = (off_t)f->size;
    st->st_blocks = (blkcnt_t)((f->size + 511) / 512);
    st->st_mtim = st->st_ctim = st->st_atim = f->mtime;
}

static struct fuse_entry_param entry_of(fuse_ino_t ino)
{
    struct fuse_entry_param e = {.ino = ino, .attr_timeout = FOREVER, .entry_timeout = FOREVER};
    stat_of(ino, &e.attr);
    return e;
}

static void set_size(struct file *f, size_t size)
{
    if (size < f->size) {
        /* What is cut off reads as zeros, if the file grows again; the page of the end is kept. */
        size_t page = (size + 4095) & ~(size_t)4095;
        memset(f->data + size, 0, (page < f->size ? page : f->size) - size);
        if (page < f->size)
            madvise(f->data + page, f->size - page, MADV_DONTNEED);
    }
    f->size = size;
}

static void memfs_init(void *userdata, struct fuse_conn_info *conn)
{
    conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ |
                              FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
    conn->want |= conn->capable &
                  (FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS);
    conn->max_write = 1 << 20;
    conn->max_readahead = 1 << 20;
    conn->max_background = 64;
}

static void memfs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    for (unsigned i = 0; i < FILES; i++)
        if (files[i].data && strcmp(files[i].name, name) == 0) {
            struct fuse_entry_param e = entry_of(2 + i);
            fuse_reply_entry(req, &e);
            return;
        }
    fuse_reply_err(req, ENOENT);
}

static void memfs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;

    stat_of(ino, &st);
    fuse_reply_attr(req, &st, FOREVER);
}

static void memfs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                          struct fuse_file_info *fi)
{
    struct stat st;
    struct file *f = file_of(ino);

    if (f && to_set & FUSE_SET_ATTR_SIZE) {
        if ((size_t)attr->st_size > FILE_MAX) {
            fuse_reply_err(req, EFBIG);
            return;
        }
        set_size(f, (size_t)attr->st_size);
    }
    stat_of(ino, &st);
    fuse_reply_attr(req, &st, FOREVER);
}

static void memfs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                         struct fuse_file_info *fi)
{
    unsigned i = 0;

    while (i < FILES && files[i].data)
        i++;
    if (i == FILES || strlen(name) >= sizeof files[i].name) {
        fuse_reply_err(req, ENOSPC);
        return;
    }
    void *data = mmap(NULL, FILE_MAX, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    madvise(data, FILE_MAX, MADV_HUGEPAGE);
    files[i].data = data;
    files[i].size = 0;
    strcpy(files[i].name, name);
    fi->keep_cache = 1;
    struct fuse_entry_param e = entry_of(2 + i);
    fuse_reply_create(req, &e, fi);
}

static void memfs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    for (unsigned i = 0; i < FILES; i++)
        if (files[i].data && strcmp(files[i].name, name) == 0) {
            munmap(files[i].data, FILE_MAX);
            memset(&files[i], 0, sizeof files[i]);
            fuse_reply_err(req, 0);
            return;
        }
    fuse_reply_err(req, ENOENT);
}

static void memfs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct file *f = file_of(ino);

    if (f && fi->flags & O_TRUNC)
        set_size(f, 0);
    fi->keep_cache = 1;
    if ((fi->flags & O_ACCMODE) == O_RDONLY)
        fi->noflush = 1;
    fuse_reply_open(req, fi);
}

static void memfs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    struct file *f = file_of(ino);
    size_t left = !f || (size_t)off >= f->size ? 0 : f->size - (size_t)off;
    struct iovec iov = {f ? f->data + off : NULL, left < size ? left : size};

    fuse_reply_iov(req, &iov, 1);
}

static void memfs_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                        struct fuse_file_info *fi)
{
    struct file *f = file_of(ino);

    if (!f || (size_t)off + size > FILE_MAX) {
        fuse_reply_err(req, EFBIG);
        return;
    }
    memcpy(f->data + off, buf, size);
    if ((size_t)off + size > f->size)
        f->size = (size_t)off + size;
    clock_gettime(CLOCK_REALTIME, &f->mtime);
    fuse_reply_write(req, size);
}

static void memfs_ok(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    fuse_reply_err(req, 0);
}

static void memfs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    fuse_reply_err(req, 0);
}

/* The kernel caches no answer of this: the empty request. */
static void memfs_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255};

    fuse_reply_statfs(req, &st);
}

/* The kernel's notification alone, timed by who asks for it: setxattr("user.drop") returns when all
 * pages of the file are gone. By a thread of its own: pages that are dirty come as WRITEs first. */
struct drop {
    fuse_req_t req;
    fuse_ino_t ino;
};

static void *drop_pages(void *arg)
{
    struct drop *d = arg;
    int rc = fuse_lowlevel_notify_inval_inode(memfs_session, d->ino, 0, 0);

    fuse_reply_err(d->req, -rc);
    free(d);
    return NULL;
}

static void memfs_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
                           size_t size, int flags)
{
    struct drop *d = strcmp(name, "user.drop") == 0 ? malloc(sizeof *d) : NULL;
    pthread_attr_t detached;
    pthread_t thread;

    if (!d) {
        fuse_reply_err(req, ENOTSUP);
        return;
    }
    *d = (struct drop){req, ino};
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&thread, &detached, drop_pages, d);
    pthread_attr_destroy(&detached);
    if (rc) {
        fuse_reply_err(req, rc);
        free(d);
    }
}

static void memfs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
    fuse_reply_none(req);
}

static const struct fuse_lowlevel_ops ops = {
    .init = memfs_init,
    .lookup = memfs_lookup,
    .forget = memfs_forget,
    .getattr = memfs_getattr,
    .setattr = memfs_setattr,
    .create = memfs_create,
    .unlink = memfs_unlink,
    .open = memfs_open,
    .read = memfs_read,
    .write = memfs_write,
    .flush = memfs_ok,
    .release = memfs_ok,
    .fsync = memfs_fsync,
    .statfs = memfs_statfs,
    .setxattr = memfs_setxattr,
};

static int serve(struct fuse_session *session)
{
    int fd = fuse_session_fd(session), epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    struct fuse_buf buf = {0};

    if (epoll < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) {
        perror("memfs: epoll");
        return 1;
    }
    while (!fuse_session_exited(session)) {
        int n = epoll_wait(epoll, &event, 1, -1);
        if (n < 0 && errno != EINTR)
            break;
        for (;;) {
            int got = fuse_session_receive_buf(session, &buf);
            if (got == -EINTR)
                continue;
            if (got <= 0) {
                if (got != -EAGAIN)
                    fuse_session_exit(session); /* unmounted, or aborted */
                break;
            }
            fuse_session_process_buf(session, &buf);
        }
    }
    free(buf.mem);
    close(epoll);
    return 0;
}

int memfs_serve(const char *mountpoint)
{
    char *argv[] = {"nfscached-memfs", "-o", "fsname=memfs,subtype=nfscached-memfs", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    int rc = 1;

    struct fuse_session *session = fuse_session_new(&args, &ops, sizeof ops, NULL);
    if (session && fuse_set_signal_handlers(session) == 0) {
        if (fuse_session_mount(session, mountpoint) == 0) {
            memfs_session = session;
            rc = serve(session);
            fuse_session_unmount(session);
        }
        fuse_remove_signal_handlers(session);
        fuse_session_destroy(session);
    }
    fuse_opt_free_args(&args);
    return rc;
}
