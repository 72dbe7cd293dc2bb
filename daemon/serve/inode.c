// SPDX-License-Identifier: Apache-2.0
/* Records of files: locks, uncommitted bytes, shown attributes; see the header. */
#include "daemon/serve/inode.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uthash.h>

#define INODE_MAGIC 0x1a0de001U
#define IDLE_MAX    16384 /* shadows kept of files that nobody uses now */

struct inode {
    unsigned magic;
    unsigned refs; /* itable.lock */
    bool in_dirty, in_idle;
    nfs_fh3 fh;
    pthread_mutex_t lock;
    struct overlay overlay;
    bool shadow;
    struct timespec real_ctim, real_mtim; /* what the directory said when the shadow was set */
    struct timespec ctim, mtim;           /* what clients are shown for it */
    UT_hash_handle hh;
    TAILQ_ENTRY(inode) dirty_link, idle_link;
};

static bool ts_equal(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool ts_after(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/* The later of CANDIDATE and the successor of SHOWN: what comes next can be told from SHOWN. */
static struct timespec ts_next(struct timespec shown, struct timespec candidate)
{
    if (++shown.tv_nsec == 1000000000) {
        shown.tv_sec++;
        shown.tv_nsec = 0;
    }
    return ts_after(&candidate, &shown) ? candidate : shown;
}

void itable_init(struct itable *table, struct export *exp, size_t limit, bool no_fsync)
{
    memset(table, 0, sizeof(*table));
    pthread_mutex_init(&table->lock, NULL);
    TAILQ_INIT(&table->dirty);
    TAILQ_INIT(&table->idle);
    table->exp = exp;
    table->limit = limit;
    table->no_fsync = no_fsync;
}

static void inode_free(struct itable *table, struct inode *inode)
{
    assert(inode->magic == INODE_MAGIC && inode->refs == 0);
    if (inode->in_idle) {
        TAILQ_REMOVE(&table->idle, inode, idle_link);
        table->nidle--;
    }
    if (inode->in_dirty)
        TAILQ_REMOVE(&table->dirty, inode, dirty_link);
    table->memory -= inode->overlay.memory;
    overlay_drop(&inode->overlay);
    HASH_DEL(table->inodes, inode);
    pthread_mutex_destroy(&inode->lock);
    inode->magic = 0;
    free(inode);
}

void itable_destroy(struct itable *table)
{
    struct inode *inode, *next;

    HASH_ITER (hh, table->inodes, inode, next) {
        inode_free(table, inode);
    }
    pthread_mutex_destroy(&table->lock);
}

static struct inode *find_locked(struct itable *table, const nfs_fh3 *fh)
{
    struct inode *inode;

    HASH_FIND(hh, table->inodes, fh, sizeof(*fh), inode);
    if (!inode)
        return NULL;
    inode->refs++;
    if (inode->in_idle) {
        TAILQ_REMOVE(&table->idle, inode, idle_link);
        inode->in_idle = false;
        table->nidle--;
    }
    return inode;
}

struct inode *serve_inode_find(struct itable *table, const nfs_fh3 *fh)
{
    pthread_mutex_lock(&table->lock);
    struct inode *inode = table->inodes ? find_locked(table, fh) : NULL;
    pthread_mutex_unlock(&table->lock);
    return inode;
}

struct inode *serve_inode_get(struct itable *table, const nfs_fh3 *fh)
{
    pthread_mutex_lock(&table->lock);
    struct inode *inode = find_locked(table, fh);
    if (!inode && (inode = calloc(1, sizeof(*inode)))) {
        inode->magic = INODE_MAGIC;
        inode->refs = 1;
        inode->fh = *fh;
        pthread_mutex_init(&inode->lock, NULL);
        HASH_ADD(hh, table->inodes, fh, sizeof(inode->fh), inode);
    }
    pthread_mutex_unlock(&table->lock);
    return inode;
}

void serve_inode_put(struct itable *table, struct inode *inode)
{
    if (!inode)
        return;
    pthread_mutex_lock(&table->lock);
    assert(inode->magic == INODE_MAGIC && inode->refs > 0);
    if (--inode->refs == 0) {
        if (!inode->in_dirty && !inode->shadow) {
            inode_free(table, inode);
        } else if (!inode->in_dirty) {
            TAILQ_INSERT_TAIL(&table->idle, inode, idle_link);
            inode->in_idle = true;
            if (++table->nidle > IDLE_MAX)
                inode_free(table, TAILQ_FIRST(&table->idle));
        }
    }
    pthread_mutex_unlock(&table->lock);
}

void serve_inode_lock(struct inode *inode)
{
    pthread_mutex_lock(&inode->lock);
}

void serve_inode_unlock(struct inode *inode)
{
    pthread_mutex_unlock(&inode->lock);
}

void serve_inode_lock_two(struct inode *a, struct inode *b)
{
    serve_inode_lock(a < b ? a : b);
    if (a != b)
        serve_inode_lock(a < b ? b : a);
}

void serve_inode_unlock_two(struct inode *a, struct inode *b)
{
    serve_inode_unlock(a);
    if (a != b)
        serve_inode_unlock(b);
}

/* Account the overlay's memory and keep the dirty list in step with it. Inode's lock held. */
static void overlay_changed(struct itable *table, struct inode *inode, size_t before)
{
    pthread_mutex_lock(&table->lock);
    table->memory += inode->overlay.memory - before;
    bool dirty = !overlay_empty(&inode->overlay);
    if (dirty && !inode->in_dirty)
        TAILQ_INSERT_TAIL(&table->dirty, inode, dirty_link);
    if (!dirty && inode->in_dirty)
        TAILQ_REMOVE(&table->dirty, inode, dirty_link);
    inode->in_dirty = dirty;
    pthread_mutex_unlock(&table->lock);
}

/* Let the shadow follow what happened to the real file since it was last looked at. */
static void shadow_follow(struct inode *inode, const struct stat *st)
{
    bool mtime_moved = !ts_equal(&st->st_mtim, &inode->real_mtim);

    if (ts_equal(&st->st_ctim, &inode->real_ctim) && !mtime_moved)
        return;
    inode->ctim = ts_next(inode->ctim, st->st_ctim);
    /* Over uncommitted bytes the mtime only goes on; otherwise the real one is the truth again, and
     * may have been set to anything. */
    if (mtime_moved)
        inode->mtim =
            overlay_empty(&inode->overlay) ? st->st_mtim : ts_next(inode->mtim, st->st_mtim);
    inode->real_ctim = st->st_ctim;
    inode->real_mtim = st->st_mtim;
}

int serve_inode_stat(struct inode *inode, int fd, struct stat *st)
{
    if (fstatat(fd, "", st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0)
        return -errno;
    if (!inode || !inode->shadow)
        return 0;
    shadow_follow(inode, st);
    st->st_ctim = inode->ctim;
    st->st_mtim = inode->mtim;
    if ((uint64_t)st->st_size < inode->overlay.end)
        st->st_size = (off_t)inode->overlay.end;
    return 0;
}

void serve_inode_changed(struct inode *inode, int fd)
{
    struct stat st;
    struct timespec before = inode->ctim;

    if (!inode->shadow || serve_inode_stat(inode, fd, &st) != 0)
        return;
    /* On file systems with a coarse clock the change may not show in the real ctime. */
    if (ts_equal(&before, &inode->ctim))
        inode->ctim = ts_next(inode->ctim, st.st_ctim);
}

bool serve_inode_uncommitted(const struct inode *inode)
{
    return !overlay_empty(&inode->overlay);
}

int serve_inode_write(struct itable *table, struct inode *inode, int fd, uint64_t off,
                      const void *data, size_t len)
{
    size_t before = inode->overlay.memory;
    struct timespec now;
    struct stat st;

    if (!inode->shadow) {
        if (fstat(fd, &st) != 0)
            return -errno;
        inode->real_ctim = inode->ctim = st.st_ctim;
        inode->real_mtim = inode->mtim = st.st_mtim;
        inode->shadow = true;
    } else if (serve_inode_stat(inode, fd, &st) != 0) {
        return -errno;
    }
    int rc = overlay_write(&inode->overlay, off, data, len);
    overlay_changed(table, inode, before);
    clock_gettime(CLOCK_REALTIME, &now);
    inode->ctim = ts_next(inode->ctim, now);
    inode->mtim = inode->ctim;
    return rc;
}

size_t serve_inode_patch(struct inode *inode, int fd, uint64_t off, void *buf, size_t n, size_t len,
                         bool *eof_reached)
{
    struct stat st;
    uint64_t size = off + n;

    if (fstat(fd, &st) == 0)
        size = (uint64_t)st.st_size;
    if (size < inode->overlay.end)
        size = inode->overlay.end;
    size_t valid = size <= off ? 0 : size - off < len ? (size_t)(size - off) : len;
    if (valid > n)
        memset((uint8_t *)buf + n, 0, valid - n);
    overlay_patch(&inode->overlay, off, buf, valid);
    *eof_reached = off + valid >= size;
    return valid;
}

int serve_inode_flush(struct itable *table, struct inode *inode, int fd)
{
    size_t before = inode->overlay.memory;
    struct stat st;

    if (overlay_empty(&inode->overlay))
        return 0;
    if (serve_inode_stat(inode, fd, &st) != 0)
        return -errno;
    int rc = overlay_flush(&inode->overlay, fd);
    overlay_changed(table, inode, before);
    if (rc == 0) {
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, inode->mtim};
        futimens(fd, times);
    }
    /* What moved the real times now was not a change of the file: the shadow stays as it is. */
    if (fstat(fd, &st) == 0) {
        inode->real_ctim = st.st_ctim;
        inode->real_mtim = st.st_mtim;
    }
    return rc;
}

void serve_inode_truncate(struct itable *table, struct inode *inode, uint64_t size)
{
    size_t before = inode->overlay.memory;

    if (overlay_empty(&inode->overlay))
        return;
    overlay_truncate(&inode->overlay, size);
    overlay_changed(table, inode, before);
}

static int commit_one(struct itable *table, struct inode *inode)
{
    int rc = 0;

    serve_inode_lock(inode);
    if (serve_inode_uncommitted(inode)) {
        int fd = export_open_fh(table->exp, &inode->fh, O_WRONLY);
        rc = fd;
        if (fd >= 0) {
            rc = serve_inode_flush(table, inode, fd);
            if (rc == 0 && !table->no_fsync && fdatasync(fd) != 0)
                rc = -errno;
            close(fd);
        } else if (fd == -ESTALE) {
            serve_inode_truncate(table, inode, 0); /* deleted from behind: nothing to keep it for */
            rc = 0;
        }
    }
    serve_inode_unlock(inode);
    return rc;
}

static struct inode *oldest_dirty(struct itable *table)
{
    struct inode *inode = TAILQ_FIRST(&table->dirty);

    if (inode)
        inode->refs++;
    return inode;
}

void itable_spill(struct itable *table)
{
    pthread_mutex_lock(&table->lock);
    while (table->memory > table->limit) {
        struct inode *inode = oldest_dirty(table);
        if (!inode)
            break;
        table->spills++;
        pthread_mutex_unlock(&table->lock);
        int rc = commit_one(table, inode);
        serve_inode_put(table, inode);
        pthread_mutex_lock(&table->lock);
        if (rc != 0)
            break; /* the directory is full: stay above the limit rather than lose bytes */
    }
    pthread_mutex_unlock(&table->lock);
}

int itable_commit_all(struct itable *table)
{
    struct inode *inode, *next, **all = NULL;
    size_t count = 0;
    int first = 0;

    /* Those that are dirty now; one that cannot be committed must not keep the others back. */
    pthread_mutex_lock(&table->lock);
    TAILQ_FOREACH (inode, &table->dirty, dirty_link) {
        count++;
    }
    all = calloc(count ? count : 1, sizeof(*all));
    count = 0;
    for (inode = all ? TAILQ_FIRST(&table->dirty) : NULL; inode; inode = next) {
        next = TAILQ_NEXT(inode, dirty_link);
        inode->refs++;
        all[count++] = inode;
    }
    pthread_mutex_unlock(&table->lock);
    for (size_t i = 0; i < count; i++) {
        int rc = commit_one(table, all[i]);
        if (rc != 0 && first == 0)
            first = rc;
        serve_inode_put(table, all[i]);
    }
    free(all);
    return all ? first : -ENOMEM;
}

size_t itable_reboot(struct itable *table)
{
    struct inode *inode, *next;
    size_t lost = 0;

    pthread_mutex_lock(&table->lock);
    lost = table->memory;
    HASH_ITER (hh, table->inodes, inode, next) {
        table->memory -= inode->overlay.memory;
        overlay_drop(&inode->overlay);
        inode->shadow = false;
        if (inode->in_dirty) {
            TAILQ_REMOVE(&table->dirty, inode, dirty_link);
            inode->in_dirty = false;
        }
        if (inode->refs == 0)
            inode_free(table, inode);
    }
    pthread_mutex_unlock(&table->lock);
    return lost;
}

void itable_forget(struct itable *table, const nfs_fh3 *fh)
{
    struct inode *inode = serve_inode_find(table, fh);

    if (!inode)
        return;
    serve_inode_lock(inode);
    serve_inode_truncate(table, inode, 0);
    inode->shadow = false;
    serve_inode_unlock(inode);
    serve_inode_put(table, inode);
}
