// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptors of our own on our own mount.
 *
 * Files are opened by node id: open_by_handle_at() with a handle of FUSE's type 0x81, which is
 * (node id high, node id low, generation) as 32-bit words (fuse_fh_to_dentry() in fs/fuse/inode.c);
 * an inode that the kernel has forgotten gives ESTALE, and no request. Without
 * CAP_DAC_READ_SEARCH they are opened by a name that LOOKUP answers to nobody else.
 *
 * Both need a descriptor on the mount, which must not make umount(8) fail with EBUSY. So it is one
 * on a *detached clone* of the mount (open_tree(2)). The clone keeps the file system alive after
 * umount, hence the watcher: it polls the mount table, and drops the clone when the mount is gone
 * from it and no file is open (after a lazy umount, files stay open). Where cloning is not allowed
 * (no CAP_SYS_ADMIN), the mount's directory is opened for the moment of each open.
 *
 * Locks: `lock` is held shared while a file is opened, exclusively while the descriptors are
 * changed. No handler takes it.
 */
#include "fuse/unmap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define FILEID_INO64_GEN 0x81
#define GONE_POLL_MS     10

struct unmap_root {
    struct front *front;
    pthread_rwlock_t lock;
    atomic_bool found;
    dev_t dev;    /* of the mounted file system; fixed once found */
    int tree_fd;  /* the clone; -1: not allowed, or dropped */
    int dir_fd;   /* its directory, open for reading; -1: opened when needed */
    int wake_fd;  /* ends the watcher */
    bool watched; /* the watcher runs */
    pthread_t watcher;
};

int unmap_errno(int error)
{
    if (error == -ECONNABORTED || error == -ENODEV || error == -EBADF)
        return -ENOTCONN;
    return error;
}

/* ---- the mount table ---- */

/* One line: "36 35 98:0 /mnt1 /mnt2 rw,noatime ...". `path` has room for PATH_MAX. */
static bool mountinfo_parse(const char *line, dev_t *dev, char *path)
{
    unsigned major, minor;
    char raw[PATH_MAX];
    if (sscanf(line, "%*u %*u %u:%u %*s %4095s", &major, &minor, raw) != 3)
        return false;
    *dev = makedev(major, minor);
    for (const char *p = raw; (*path = *p); path++, p++)
        if (*p == '\\' && p[1] && p[2] && p[3]) { /* octal, as in \040 */
            *path = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
            p += 3;
        }
    return true;
}

/* Where `dev` is mounted, in this process's view; false: nowhere. An unreadable table is no
 * proof: true, with an empty path. */
static bool mountinfo_find(dev_t dev, char *path)
{
    char *line = NULL;
    size_t room = 0;
    bool found = false;
    *path = '\0';
    FILE *table = fopen("/proc/self/mountinfo", "re");
    if (!table)
        return true;
    while (!found && getline(&line, &room, table) > 0) {
        dev_t of_line;
        found = mountinfo_parse(line, &of_line, path) && of_line == dev;
    }
    free(line);
    fclose(table);
    if (!found)
        *path = '\0';
    return found;
}

/* The device of what is mounted at `path`, without asking anybody. */
static int path_dev(const char *path, dev_t *dev)
{
    struct statx sx;
    if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &sx) < 0)
        return -errno;
    *dev = makedev(sx.stx_dev_major, sx.stx_dev_minor);
    return 0;
}

/* ---- the watcher ---- */

static void clone_drop(struct unmap_root *r)
{
    pthread_rwlock_wrlock(&r->lock);
    int dir_fd = r->dir_fd, tree_fd = r->tree_fd;
    r->dir_fd = r->tree_fd = -1;
    pthread_rwlock_unlock(&r->lock);
    /* Outside of the lock: the last one may end the file system, which writes its pages to us. */
    if (dir_fd >= 0)
        close(dir_fd);
    if (tree_fd >= 0)
        close(tree_fd);
}

/* The directory's descriptor is an open file like any other: with it there is always one. */
static void clone_drop_dir(struct unmap_root *r)
{
    pthread_rwlock_wrlock(&r->lock);
    int dir_fd = r->dir_fd;
    r->dir_fd = -1;
    pthread_rwlock_unlock(&r->lock);
    if (dir_fd >= 0)
        close(dir_fd);
}

static bool files_open(const struct front *f)
{
    return f->file_slab && slab_used(f->file_slab) > 0;
}

static void *watch(void *arg)
{
    struct unmap_root *r = arg;
    char path[PATH_MAX];
    int table = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    struct pollfd fds[2] = {{.fd = r->wake_fd, .events = POLLIN}, {.fd = table, .events = POLLPRI}};
    bool gone = false;
    pthread_setname_np(pthread_self(), "mount-watch");
    while (!(fds[0].revents & POLLIN)) {
        if (!gone && !mountinfo_find(r->dev, path)) {
            gone = true;
            clone_drop_dir(r);
        }
        if (gone && !files_open(r->front)) {
            clone_drop(r);
            break;
        }
        poll(fds, 2, gone ? GONE_POLL_MS : -1);
    }
    if (table >= 0)
        close(table);
    return NULL;
}

static void watch_start(struct unmap_root *r)
{
    sigset_t all, old;
    sigfillset(&all);
    r->wake_fd = eventfd(0, EFD_CLOEXEC);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r->watched = r->wake_fd >= 0 && pthread_create(&r->watcher, NULL, watch, r) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* ---- the root ---- */

/* Lock held exclusively. A clone that nobody watches would keep the file system for ever. */
static void clone_make(struct unmap_root *r, const char *path)
{
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return;
    int dir = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0)
        watch_start(r);
    if (!r->watched) {
        if (dir >= 0)
            close(dir);
        close(tree);
        return;
    }
    r->tree_fd = tree;
    r->dir_fd = dir;
}

int unmap_root_find(struct unmap_root *r)
{
    int error = 0;
    if (atomic_load(&r->found))
        return 0;
    pthread_rwlock_wrlock(&r->lock);
    if (!atomic_load(&r->found)) {
        const char *path = r->front->config.mountpoint;
        error = path_dev(path, &r->dev);
        if (!error) {
            clone_make(r, path);
            atomic_store(&r->found, true);
        }
    }
    pthread_rwlock_unlock(&r->lock);
    return error;
}

/* Lock held. The mount's directory through its path; the path may have moved. */
static int open_by_path(struct unmap_root *r)
{
    char path[PATH_MAX];
    dev_t dev = 0;
    snprintf(path, sizeof(path), "%s", r->front->config.mountpoint);
    if ((path_dev(path, &dev) || dev != r->dev) &&
        (!mountinfo_find(r->dev, path) || path_dev(path, &dev) || dev != r->dev))
        return -ENXIO;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Lock held. `*own`: to be closed by the caller. */
static int root_dir(struct unmap_root *r, bool *own)
{
    *own = r->dir_fd < 0;
    if (!*own)
        return r->dir_fd;
    if (r->tree_fd < 0)
        return open_by_path(r);
    int fd = openat(r->tree_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int open_handle(int dir, fuse_ino_t nodeid, int flags)
{
    union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + 3 * sizeof(uint32_t)];
    } u;
    const uint32_t words[3] = {(uint32_t)(nodeid >> 32), (uint32_t)nodeid, 0};
    u.handle.handle_bytes = sizeof(words);
    u.handle.handle_type = FILEID_INO64_GEN;
    memcpy(u.room + offsetof(struct file_handle, f_handle), words, sizeof(words));
    int fd = open_by_handle_at(dir, &u.handle, flags | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

static int open_nodeid(int dir, fuse_ino_t nodeid)
{
    int fd = open_handle(dir, nodeid, O_RDONLY);
    if (fd != -EPERM)
        return fd;
    char name[64];
    snprintf(name, sizeof(name), UNMAP_NAME "%llu", (unsigned long long)nodeid);
    fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

int unmap_root_open_file(struct unmap_root *r, fuse_ino_t nodeid)
{
    int error = unmap_root_find(r);
    if (error)
        return unmap_errno(error);
    bool own;
    pthread_rwlock_rdlock(&r->lock);
    int dir = root_dir(r, &own);
    int fd = dir < 0 ? dir : open_nodeid(dir, nodeid);
    if (own && dir >= 0)
        close(dir);
    pthread_rwlock_unlock(&r->lock);
    return unmap_errno(fd);
}

int unmap_root_path(struct unmap_root *r, fuse_ino_t nodeid, char *path, size_t size)
{
    char link[64], full[PATH_MAX];
    pthread_rwlock_rdlock(&r->lock);
    /* O_PATH: no OPEN is sent. */
    int fd = r->dir_fd < 0 ? -ENXIO : open_handle(r->dir_fd, nodeid, O_PATH);
    pthread_rwlock_unlock(&r->lock);
    if (fd < 0)
        return fd;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, full, sizeof(full) - 1);
    int error = n < 0 ? -errno : 0;
    close(fd);
    if (error)
        return error;
    full[n] = '\0';
    /* The clone is mounted nowhere: its own root is the root of the path. */
    if (full[0] != '/' || strstr(full, " (deleted)"))
        return -ENOENT;
    return snprintf(path, size, "%s", full + 1) < (int)size ? 0 : -ENAMETOOLONG;
}

struct unmap_root *unmap_root_new(struct front *f)
{
    struct unmap_root *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->front = f;
    r->tree_fd = r->dir_fd = r->wake_fd = -1;
    pthread_rwlock_init(&r->lock, NULL);
    return r;
}

void unmap_root_destroy(struct unmap_root *r)
{
    if (r->watched) {
        eventfd_write(r->wake_fd, 1);
        pthread_join(r->watcher, NULL);
    }
    if (r->wake_fd >= 0)
        close(r->wake_fd);
    clone_drop(r);
    pthread_rwlock_destroy(&r->lock);
    free(r);
}
