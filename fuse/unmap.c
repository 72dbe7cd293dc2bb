// SPDX-License-Identifier: Apache-2.0
/*
 * Unmap: empties the kernel's page cache of one file, or a range of it, so that no completed
 * write(2) and no mapped store is lost.
 *
 * The notification alone (fuse_lowlevel_notify_inval_inode) can hit the gap in which the kernel
 * has copied a write(2) into its page and not yet sent the WRITE; the page goes, and the bytes
 * come back stale. So, when there may be writers, it is made while an FSYNC of our own is held
 * unanswered: fsync() has taken the kernel's inode lock, which a write(2) needs.
 *
 *   caller of unmap_inode()          pool thread            shard
 *   ------------------------         -------------------    ------------------------------
 *   takes a pool thread       -->    open(), fsync()   -->  OPEN: answered at once
 *   waits                            (in the kernel)        WRITEs of what was dirty
 *                             <---------------------------  FSYNC: unmap_fsync_arrived()
 *   notification                                            WRITEs, READs: answered as ever
 *   answers the FSYNC         -->    fsync() returns
 *   waits                     <--    close()
 *
 * Under kernel_writeback a page is dirty before write(2) lets go of it, so that there is no gap,
 * and the notification writes back what is dirty before it drops it (fuse_launder_folio). Page by
 * page: so a pool thread pushes with sync_file_range(2) first, in large WRITEs. No FSYNC is made or
 * held; it would wait for a write(2) that has the inode lock and waits for us.
 *
 * Neither the caller nor the pool thread may be a shard, or hold what a handler takes: both wait
 * for handlers. An fsync() that ends without an FSYNC (an error, a dead connection) is tried again
 * and then does without; so does a file that the kernel has forgotten, which has nothing to lose.
 *
 * Lock order: pool lock, slot lock: never together.
 */
#include "fuse/unmap.h"

#include "cache/point.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define UNMAP_THREADS     4  /* from the start */
#define UNMAP_THREADS_MAX 16 /* while all are busy: one parked file must not block the others */
#define FSYNC_TRIES       3
#define STAT_TRIES        10

/*
 *   state      entered by                         left by
 *   --------   --------------------------------   -------------------------------------------
 *   IDLE       the caller, when all is done       a caller, with its node id -> GO
 *   GO         a caller                           the shard, FSYNC arrived -> HELD; the pool
 *                                                 thread, fsync() ended without it -> DONE
 *   HELD       unmap_fsync_arrived()              the caller, FSYNC answered -> ANSWERED
 *   ANSWERED   the caller                         the pool thread -> DONE
 *   DONE       the pool thread                    the caller -> IDLE
 *   STOP       unmap_stop(), from IDLE            nobody: the thread ends
 */
enum slot_state { IDLE, GO, HELD, ANSWERED, DONE, STOP };
/* What the pool thread does with its descriptor; PUSH: under kernel_writeback; STAT: the size. */
enum slot_job { FSYNC, PUSH, STAT };

struct unmap_slot {
    struct unmap_pool *pool;
    struct unmap_slot *next; /* free list; pool lock */
    pthread_t thread;
    _Atomic pid_t tid;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    enum slot_state state;
    fuse_ino_t nodeid;
    enum slot_job job;
    uint64_t off, len; /* PUSH */
    fuse_req_t req;    /* HELD: the FSYNC */
    int error;         /* DONE: of open() or the last fsync() */
    bool opened;       /* DONE */
};

struct unmap_pool {
    struct front *front;
    struct unmap_root *root;
    bool fence; /* the kernel writes back from copies: a second fsync() waits for these */
    _Atomic pid_t starter; /* who is in unmap_root_find() for unmap_ready() */
    pthread_mutex_t lock;
    pthread_cond_t freed;
    struct unmap_slot *free;
    unsigned busy;
    bool stopping;
    atomic_uint nslots;
    struct unmap_slot slot[UNMAP_THREADS_MAX];
};

/* ---- the pool's threads ---- */

static void slot_move(struct unmap_slot *s, enum slot_state to)
{
    s->state = to;
    pthread_cond_broadcast(&s->changed);
}

/* fsync() until an FSYNC was seen for it: an error that the kernel remembers for this file ends
 * the first try before it asks us. */
static int slot_fsync(struct unmap_slot *s, int fd)
{
    int error = 0;
    for (int i = 0; i < FSYNC_TRIES; i++) {
        error = fsync(fd) < 0 ? unmap_errno(-errno) : 0;
        pthread_mutex_lock(&s->lock);
        bool seen = s->state != GO;
        pthread_mutex_unlock(&s->lock);
        if (seen || error == -ENOTCONN)
            break;
    }
    return error;
}

/*
 * Before Linux 6.16 a page that is being written back is clean at once: the WRITE is made of a copy
 * (fuse_writepage_locked). The notification may then drop a page whose WRITE is still under way,
 * and the WRITE come when nobody remembers what the page was given. A second fsync(), answered at
 * once, waits for all of them (fuse_sync_writes).
 */
static bool writes_from_copies(void)
{
    struct utsname u;
    unsigned major = 0, minor = 0;
    if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2)
        return true;
    return major < 6 || (major == 6 && minor < 16);
}

/* Until the kernel has our size. What it was told it does not always keep: when a write(2) of its
 * own ended between its question and our answer, it passes the answer on and forgets it
 * (attr_version in fuse_change_attributes()). What it did keep is shown by a statx() that asks
 * nobody. */
static int slot_stat(int fd)
{
    struct statx said, kept;

    for (int i = 0; i < STAT_TRIES; i++) {
        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_SIZE, &said) < 0 ||
            statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_SIZE, &kept) < 0)
            return unmap_errno(-errno);
        if (said.stx_size == kept.stx_size)
            break;
    }
    return 0;
}

/* An error stays with the pages' file, and is not ours to tell. */
static int slot_push(int fd, uint64_t off, uint64_t len)
{
    if (sync_file_range(fd, (off64_t)off, (off64_t)len,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                            SYNC_FILE_RANGE_WAIT_AFTER) < 0)
        return unmap_errno(-errno);
    return 0;
}

static void slot_run(struct unmap_slot *s, fuse_ino_t nodeid)
{
    int fd = unmap_root_open_file(s->pool->root, nodeid);
    int error = fd;
    if (fd >= 0 && s->job == STAT) {
        error = slot_stat(fd);
    } else if (fd >= 0 && s->job == PUSH) {
        error = slot_push(fd, s->off, s->len);
    } else if (fd >= 0) {
        error = slot_fsync(s, fd);
        if (s->pool->fence && error != -ENOTCONN)
            (void)fsync(fd);
    }
    if (fd >= 0)
        close(fd);
    pthread_mutex_lock(&s->lock);
    while (s->state == HELD) /* the connection died under a held FSYNC */
        pthread_cond_wait(&s->changed, &s->lock);
    s->opened = fd >= 0;
    s->error = error;
    slot_move(s, DONE);
    pthread_mutex_unlock(&s->lock);
}

static void *slot_thread(void *arg)
{
    struct unmap_slot *s = arg;
    pthread_setname_np(pthread_self(), "unmap");
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->tid, gettid());
    for (;;) {
        while (s->state != GO && s->state != STOP)
            pthread_cond_wait(&s->changed, &s->lock);
        if (s->state == STOP)
            break;
        fuse_ino_t nodeid = s->nodeid;
        pthread_mutex_unlock(&s->lock);
        slot_run(s, nodeid);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Pool lock held, or the pool not yet known to others. */
static struct unmap_slot *slot_new(struct unmap_pool *p)
{
    unsigned n = atomic_load(&p->nslots);
    if (n == UNMAP_THREADS_MAX)
        return NULL;
    struct unmap_slot *s = &p->slot[n];
    *s = (struct unmap_slot){.pool = p};
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&s->thread, NULL, slot_thread, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error)
        return NULL;
    atomic_store(&p->nslots, n + 1);
    return s;
}

static struct unmap_slot *slot_take(struct unmap_pool *p)
{
    struct unmap_slot *s = NULL;
    pthread_mutex_lock(&p->lock);
    while (!p->stopping && !(s = p->free) && !(s = slot_new(p)))
        pthread_cond_wait(&p->freed, &p->lock);
    if (s) {
        if (s == p->free)
            p->free = s->next;
        p->busy++;
    }
    pthread_mutex_unlock(&p->lock);
    return s;
}

static void slot_put(struct unmap_pool *p, struct unmap_slot *s)
{
    pthread_mutex_lock(&p->lock);
    s->next = p->free;
    p->free = s;
    p->busy--;
    pthread_cond_broadcast(&p->freed);
    pthread_mutex_unlock(&p->lock);
}

/* ---- unmapping ---- */

/* `gap`: a write(2) could be in the gap; counted, unless the kernel does not know the inode. */
static int notify(struct front *f, fuse_ino_t nodeid, uint64_t off, uint64_t len, bool gap)
{
    int error = fuse_lowlevel_notify_inval_inode(f->session, nodeid, (off_t)off, (off_t)len);
    if (error == 0 && gap)
        atomic_fetch_add(&f->stats.alarms, 1);
    return error == -ENOENT ? 0 : unmap_errno(error);
}

/* True: the FSYNC was held, and the notification made under it. */
static bool slot_unmap(struct front *f, struct unmap_slot *s, fuse_ino_t nodeid, uint64_t off,
                       uint64_t len, int *result)
{
    pthread_mutex_lock(&s->lock);
    s->nodeid = nodeid;
    slot_move(s, GO);
    while (s->state == GO)
        pthread_cond_wait(&s->changed, &s->lock);
    bool held = s->state == HELD;
    if (held) {
        fuse_req_t req = s->req;
        pthread_mutex_unlock(&s->lock);
        POINT("unmap.held");
        *result = notify(f, nodeid, off, len, false);
        fuse_reply_err(req, 0);
        pthread_mutex_lock(&s->lock);
        slot_move(s, ANSWERED);
    }
    while (s->state != DONE)
        pthread_cond_wait(&s->changed, &s->lock);
    if (held && s->error == -ENOTCONN)
        *result = -ENOTCONN;
    slot_move(s, IDLE);
    pthread_mutex_unlock(&s->lock);
    return held;
}

/* For a job that holds no FSYNC: 0, or why it could not be done. */
static int slot_do(struct front *f, struct inode *ino, enum slot_job job, uint64_t off,
                   uint64_t len)
{
    struct unmap_slot *s = slot_take(f->unmap);
    if (!s)
        return -ENOTCONN;
    int result = 0;
    s->job = job;
    s->off = off;
    s->len = len;
    slot_unmap(f, s, ino->nodeid, 0, 0, &result);
    s->job = FSYNC;
    int error = s->error;
    slot_put(f->unmap, s);
    return error;
}

int unmap_inode(struct front *f, struct inode *ino, uint64_t off, uint64_t len, bool writers)
{
    if (writers && f->config.kernel_writeback) {
        if (slot_do(f, ino, PUSH, off, len) == -ENOTCONN)
            return -ENOTCONN;
        return notify(f, ino->nodeid, off, len, false);
    }
    if (!writers || FAULT(unmap_without_fsync))
        return notify(f, ino->nodeid, off, len, false);
    struct unmap_slot *s = slot_take(f->unmap);
    if (!s)
        return -ENOTCONN;
    int result = 0;
    bool held = slot_unmap(f, s, ino->nodeid, off, len, &result);
    bool opened = s->opened;
    int error = s->error;
    slot_put(f->unmap, s);
    if (held)
        return result;
    if (error == -ENOTCONN)
        return error;
    if (!opened && error != -ESTALE && error != -ENOENT && error != -ENXIO)
        return error;
    /* Of a file that the kernel has forgotten nothing can be lost; of the others (a mount that we
     * cannot reach, an fsync() that keeps failing) a write(2) in the gap could be. */
    return notify(f, ino->nodeid, off, len, opened || error == -ENXIO);
}

int unmap_refresh(struct front *f, struct inode *ino)
{
    return slot_do(f, ino, STAT, 0, 0);
}

/* ---- called by handlers: nothing here waits ---- */

bool unmap_is_helper(struct front *f, pid_t tid)
{
    struct unmap_pool *p = f->unmap;
    if (!p || tid == 0)
        return false;
    if (atomic_load_explicit(&p->starter, memory_order_relaxed) == tid)
        return true;
    unsigned n = atomic_load(&p->nslots);
    for (unsigned i = 0; i < n; i++)
        if (atomic_load_explicit(&p->slot[i].tid, memory_order_relaxed) == tid)
            return true;
    return false;
}

void unmap_fsync_arrived(struct front *f, fuse_req_t req, struct file *own)
{
    struct unmap_pool *p = f->unmap;
    pid_t tid = fuse_req_ctx(req)->pid;
    bool held = false;
    unsigned n = p ? atomic_load(&p->nslots) : 0;
    for (unsigned i = 0; i < n && !held; i++) {
        struct unmap_slot *s = &p->slot[i];
        if (atomic_load_explicit(&s->tid, memory_order_relaxed) != tid)
            continue;
        pthread_mutex_lock(&s->lock);
        if (s->state == GO) {
            held = true;
            s->req = req;
            slot_move(s, HELD);
        }
        pthread_mutex_unlock(&s->lock);
    }
    if (!held)
        fuse_reply_err(req, 0);
}

/* ---- start and stop ---- */

int unmap_start(struct front *f)
{
    struct unmap_pool *p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    p->front = f;
    p->fence = writes_from_copies();
    p->root = unmap_root_new(f);
    if (!p->root) {
        free(p);
        return -ENOMEM;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->freed, NULL);
    for (int i = 0; i < UNMAP_THREADS; i++) {
        struct unmap_slot *s = slot_new(p);
        if (!s)
            break;
        s->next = p->free;
        p->free = s;
    }
    f->unmap = p;
    if (p->free)
        return 0;
    unmap_stop(f);
    return -EAGAIN;
}

int unmap_ready(struct front *f)
{
    atomic_store(&f->unmap->starter, gettid());
    int error = unmap_root_find(f->unmap->root);
    atomic_store(&f->unmap->starter, 0);
    return error;
}

int unmap_path(struct front *f, struct inode *ino, char *path, size_t size)
{
    return unmap_root_path(f->unmap->root, ino->nodeid, path, size);
}

void unmap_stop(struct front *f)
{
    struct unmap_pool *p = f->unmap;
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->freed);
    while (p->busy)
        pthread_cond_wait(&p->freed, &p->lock);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < atomic_load(&p->nslots); i++) {
        struct unmap_slot *s = &p->slot[i];
        pthread_mutex_lock(&s->lock);
        assert(s->state == IDLE);
        slot_move(s, STOP);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
        pthread_mutex_destroy(&s->lock);
        pthread_cond_destroy(&s->changed);
    }
    unmap_root_destroy(p->root);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->freed);
    f->unmap = NULL;
    free(p);
}
