// SPDX-License-Identifier: Apache-2.0
/*
 * flock and POSIX byte-range locks among the processes of this machine.
 *
 * NFSv3 itself has no locks (NLM, a protocol of its own, is not spoken): what is locked here is not
 * locked for other clients; the man page says so. What a lock is also for in nfs(5) is consistency:
 * when one was granted the file is revalidated before the caller goes on, and before one is
 * released the file's bytes are written and committed. With local_lock= the kernel keeps that kind
 * of lock by itself and nothing of it comes here.
 *
 *   request -> no conflict -> granted -> revalidate -> [its size to the kernel] -> reply
 *           -> conflict    -> EAGAIN, or a waiter in FIFO order
 *   unlock  -> [unmap, under kernel_writeback] -> [cache_sync] -> unlocked -> waiters of the file
 * looked at -> reply
 *
 * The rules are those of fcntl(2) and flock(2): an owner's POSIX locks replace, split and merge
 * each other, and end with any close of the file by the process (FLUSH); a flock belongs to the
 * open file, and its conversion gives the old lock up first. A wait that would close a circle of
 * owners waiting for each other is refused with EDEADLK (POSIX locks only; circles of up to 16
 * owners).
 *
 * A file that is only read needs no FLUSH otherwise, so none is asked for as long as nobody has set
 * a POSIX lock on this mount. What is then set through one of the files that were opened before
 * ends with the last close of that open file, not with the first.
 *
 * Any signal ends a wait with EINTR; the kernel restarts the call where the handler allows it. So
 * waiters replace the interrupt function of op.c by their own. It finds its waiter by the request
 * under the lock mutex; a signal that came earlier shows in fuse_req_interrupted(), looked at under
 * the same mutex before the waiter is queued.
 *
 * Lock order: libfuse's request lock > lock mutex > libfuse's session lock. Nothing is replied to,
 * and nothing of cache/ called, under the mutex.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "fuse/ops.h"
#include "fuse/ranges.h"

#define CIRCLE_MAX 16

/* ---- the locks of an inode ---------------------------------------------------------------- */

struct lock_table {
    struct range_lock *posix, *flock; /* a flock is a range over everything */
};

struct waiter {
    struct waiter *next;
    struct op *op;
    struct inode *ino; /* op->ino */
    bool is_flock;
    struct range_lock want;
};

static pthread_mutex_t lock_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct waiter *waiters; /* of all files, the longest waiting first; lock mutex */

void lock_table_free(struct inode *ino)
{
    if (!ino->locks)
        return;
    ranges_free(ino->locks->posix);
    ranges_free(ino->locks->flock);
    free(ino->locks);
    ino->locks = NULL;
}

/* Below, until the next line: lock mutex held. */

static struct range_lock **lock_list(struct inode *ino, bool is_flock)
{
    if (!ino->locks)
        ino->locks = calloc(1, sizeof(*ino->locks));
    if (!ino->locks)
        return NULL;
    return is_flock ? &ino->locks->flock : &ino->locks->posix;
}

/* Would `owner` wait, over at most `depth` others, for itself, if it waited for `list`'s holders of
 * `want`? */
static bool closes_circle(const struct range_lock *list, const struct range_lock *want,
                          uint64_t owner, int depth)
{
    if (depth == 0)
        return false;
    for (const struct range_lock *l = list; l; l = l->next) {
        if (!ranges_conflict(
                &(struct range_lock){
                    .start = l->start, .end = l->end, .owner = l->owner, .type = l->type},
                want))
            continue;
        if (l->owner == owner)
            return true;
        for (struct waiter *w = waiters; w; w = w->next)
            if (!w->is_flock && w->want.owner == l->owner && w->ino->locks &&
                closes_circle(w->ino->locks->posix, &w->want, owner, depth - 1))
                return true;
    }
    return false;
}

static void waiter_append(struct waiter *w)
{
    struct waiter **at = &waiters;

    while (*at)
        at = &(*at)->next;
    w->next = NULL;
    *at = w;
}

/* Takes the waiters of a file that can go on out of the queue, with their locks set (or their op
 * answered meanwhile). */
static struct waiter *waiters_ready(struct inode *ino)
{
    struct waiter *ready = NULL, **end = &ready, **at = &waiters;

    while (*at) {
        struct waiter *w = *at;
        struct range_lock **list = w->ino == ino ? lock_list(ino, w->is_flock) : NULL;
        bool dead = atomic_load(&w->op->claimed);

        if (!list || (!dead && ranges_conflict(*list, &w->want))) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = NULL;
        if (!dead && ranges_set(list, &w->want) != 0)
            w->want.type = F_UNLCK; /* no memory: answered with ENOLCK */
        *end = w;
        end = &w->next;
    }
    return ready;
}

/* ---- the lock mutex is not held below, except where it is taken ---------------------------- */

/* The end of a request that got its lock; the arguments of its release, should nobody want it. */
struct granted {
    struct reval_wait wait;
    struct op *op;
    bool is_flock;
    struct range_lock want;
};

static void unlock_range(struct front *f, struct inode *ino, bool is_flock,
                         struct range_lock range);

static void granted_reply(struct reval_wait *wait)
{
    struct granted *g = wait->arg;
    struct op *op = g->op;

    /* A lock is a lock even if the server could not be asked; the cache stays as it was (I6). */
    if (!op_claim(op) || fuse_reply_err(op->req, 0) != 0)
        unlock_range(op->front, op->ino, g->is_flock, g->want);
    op_end(op);
    free(g);
}

/* As after open(2): the kernel appends at the size it has. */
static void granted_revalidated(struct reval_wait *wait)
{
    struct granted *g = wait->arg;
    struct op *op = g->op;
    struct front *f = op->front;

    wait->done = granted_reply;
    if (!wait->error && op->ino->map && !f->config.kernel_writeback && !attr_size_taken(op->ino))
        revalidate_size(f, op->ino, wait);
    else
        granted_reply(wait);
}

static void lock_granted(struct op *op, bool is_flock, const struct range_lock *want)
{
    struct front *f = op->front;
    struct granted *g = calloc(1, sizeof(*g));

    if (!g) {
        unlock_range(f, op->ino, is_flock, *want);
        op_fail(op, ENOLCK);
        return;
    }
    g->op = op;
    g->is_flock = is_flock;
    g->want = *want;
    g->wait.arg = g;
    g->wait.done = granted_revalidated;
    if (S_ISREG(op->ino->type))
        revalidate(f, op->ino, false, &g->wait);
    else
        granted_revalidated(&g->wait);
}

static void answer_waiters(struct waiter *ready)
{
    while (ready) {
        struct waiter *w = ready;

        ready = w->next;
        if (atomic_load(&w->op->claimed))
            op_end(w->op);
        else if (w->want.type == F_UNLCK)
            op_fail(w->op, ENOLCK);
        else
            lock_granted(w->op, w->is_flock, &w->want);
        free(w);
    }
}

static void unlock_range(struct front *f, struct inode *ino, bool is_flock, struct range_lock range)
{
    (void)f;
    range.type = F_UNLCK;
    pthread_mutex_lock(&lock_mutex);
    struct range_lock **list = ino->locks ? lock_list(ino, is_flock) : NULL;
    struct waiter *ready = NULL;

    if (list) {
        ranges_set(list, &range);
        ready = waiters_ready(ino);
    }
    pthread_mutex_unlock(&lock_mutex);
    answer_waiters(ready);
}

static void waiter_interrupted(fuse_req_t req, void *data)
{
    struct waiter **at = &waiters, *found = NULL;

    pthread_mutex_lock(&lock_mutex);
    while (*at && (*at)->op->req != req)
        at = &(*at)->next;
    if (*at) {
        found = *at;
        *at = found->next;
    }
    pthread_mutex_unlock(&lock_mutex);
    if (!found) { /* it waits for something else */
        op_interrupted(req, data);
        return;
    }
    op_fail(found->op, EINTR);
    free(found);
}

static void wait_for_lock(struct op *op, bool is_flock, const struct range_lock *want)
{
    struct waiter *w = calloc(1, sizeof(*w));
    int error = 0;

    if (!w) {
        op_fail(op, ENOLCK);
        return;
    }
    *w = (struct waiter){.op = op, .ino = op->ino, .is_flock = is_flock, .want = *want};
    /* While the request cannot be answered by anybody else. */
    fuse_req_interrupt_func(op->req, waiter_interrupted, op->front);

    pthread_mutex_lock(&lock_mutex);
    struct range_lock **list = lock_list(op->ino, is_flock);

    if (!list)
        error = ENOLCK;
    else if (fuse_req_interrupted(op->req))
        error = EINTR;
    else if (!is_flock && closes_circle(*list, want, want->owner, CIRCLE_MAX))
        error = EDEADLK;
    else
        waiter_append(w);
    /* The holder may have gone since the conflict was seen. */
    struct waiter *ready = error ? NULL : waiters_ready(op->ino);

    pthread_mutex_unlock(&lock_mutex);
    if (error) {
        free(w);
        op_fail(op, error);
    }
    answer_waiters(ready);
}

static void lock_set(struct op *op, bool is_flock, const struct range_lock *want, bool sleep)
{
    int error = 0;
    struct waiter *ready = NULL;

    pthread_mutex_lock(&lock_mutex);
    struct range_lock **list = lock_list(op->ino, is_flock);

    if (!list) {
        error = ENOLCK;
    } else {
        /* flock(2): a conversion is a release, and then a new lock. */
        if (is_flock) {
            struct range_lock old = *want;

            old.type = F_UNLCK;
            for (struct range_lock *l = *list; l; l = l->next)
                if (l->owner == want->owner && l->type != want->type) {
                    error = -ranges_set(list, &old);
                    break;
                }
        }
        if (!error && ranges_conflict(*list, want))
            error = EAGAIN;
        else if (!error)
            error = -ranges_set(list, want);
        ready = waiters_ready(op->ino); /* a conversion downwards lets others in */
    }
    pthread_mutex_unlock(&lock_mutex);
    answer_waiters(ready);
    if (!error)
        lock_granted(op, is_flock, want);
    else if (error == EAGAIN && sleep)
        wait_for_lock(op, is_flock, want);
    else
        op_fail(op, error);
}

/* ---- unlocking ---------------------------------------------------------------------------- */

struct unlocking {
    struct cache_sync sync;
    struct reval_wait pushed;
    struct op *op;
    bool is_flock;
    struct range_lock range;
};

static void unlock_reply(struct op *op, bool is_flock, const struct range_lock *range)
{
    unlock_range(op->front, op->ino, is_flock, *range);
    if (op_claim(op))
        fuse_reply_err(op->req, 0);
    op_end(op);
}

static void unlock_synced(struct cache_sync *s)
{
    struct unlocking *u = (struct unlocking *)((char *)s - offsetof(struct unlocking, sync));

    unlock_reply(u->op, u->is_flock, &u->range);
    free(u);
}

static void unlock_sync(struct unlocking *u)
{
    u->sync = (struct cache_sync){.m = u->op->ino->map, .done = unlock_synced};
    if (cache_sync(&u->sync) != -EINPROGRESS)
        unlock_synced(&u->sync);
}

static void unlock_pushed(struct reval_wait *w)
{
    unlock_sync((struct unlocking *)((char *)w - offsetof(struct unlocking, pushed)));
}

static void lock_unset(struct op *op, bool is_flock, const struct range_lock *range)
{
    struct unlocking *u = NULL;
    struct mapping *map = inode_map(op->ino);
    /* What was written under the lock may be the kernel's alone. */
    bool push = op->front->config.kernel_writeback && map && op->ino->writers;

    if (push || (map && mapping_is_busy(map)))
        u = calloc(1, sizeof(*u));
    if (!u) {
        unlock_reply(op, is_flock, range);
        return;
    }
    u->op = op;
    u->is_flock = is_flock;
    u->range = *range;
    if (push) {
        u->pushed.done = unlock_pushed;
        revalidate_unmap(op->front, op->ino, &u->pushed);
    } else {
        unlock_sync(u);
    }
}

void lock_release_posix(struct front *f, struct inode *ino, uint64_t owner)
{
    unlock_range(f, ino, false, (struct range_lock){.end = UINT64_MAX, .owner = owner});
}

void lock_release_flock(struct front *f, struct inode *ino, uint64_t owner)
{
    unlock_range(f, ino, true, (struct range_lock){.end = UINT64_MAX, .owner = owner});
}

bool lock_noflush(struct front *f, int flags)
{
    /* Under kernel_writeback the kernel sends each FLUSH (fuse_flush). */
    return (flags & O_ACCMODE) == O_RDONLY && !f->config.kernel_writeback &&
           (f->config.local_posix || !atomic_load(&f->posix_locks));
}

void lock_release_file(struct front *f, struct file *file)
{
    for (size_t i = 0; i < file->n_lock_owners; i++)
        lock_release_posix(f, file->ino, file->lock_owners[i]);
}

/* -ENOMEM: the lock would stay for ever. */
static int note_owner(struct front *f, struct file *file, uint64_t owner)
{
    int rc = 0;

    atomic_store(&f->posix_locks, true);
    if (!file || !file->noflush)
        return 0;
    pthread_mutex_lock(inode_lock(file->ino));
    size_t n = file->n_lock_owners, i = 0;
    while (i < n && file->lock_owners[i] != owner)
        i++;
    if (i == n) {
        uint64_t *more = realloc(file->lock_owners, (n + 1) * sizeof(*more));
        if (more) {
            more[n] = owner;
            file->lock_owners = more;
            file->n_lock_owners = n + 1;
        } else {
            rc = -ENOMEM;
        }
    }
    pthread_mutex_unlock(inode_lock(file->ino));
    return rc;
}

/* ---- handlers ----------------------------------------------------------------------------- */

static struct op *lock_op(fuse_req_t req, fuse_ino_t nodeid)
{
    struct front *f = front_of(req);
    struct inode *ino = inode_by_nodeid(f, nodeid);

    if (!ino) {
        fuse_reply_err(req, ESTALE);
        return NULL;
    }
    struct op *op = op_new(f, req, ino);

    inode_unref(f, ino);
    return op;
}

static struct range_lock range_of(const struct flock *lock, uint64_t owner)
{
    return (struct range_lock){
        .start = lock->l_start,
        .end = lock->l_len ? (uint64_t)lock->l_start + lock->l_len - 1 : UINT64_MAX,
        .owner = owner,
        .pid = lock->l_pid,
        .type = lock->l_type,
    };
}

void front_getlk(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, struct flock *lock)
{
    struct op *op = lock_op(req, nodeid);

    if (!op)
        return;
    struct range_lock want = range_of(lock, fi->lock_owner);

    pthread_mutex_lock(&lock_mutex);
    const struct range_lock *l =
        op->ino->locks ? ranges_conflict(op->ino->locks->posix, &want) : NULL;

    lock->l_type = F_UNLCK;
    if (l) {
        lock->l_type = l->type;
        lock->l_start = l->start;
        lock->l_len = l->end == UINT64_MAX ? 0 : l->end - l->start + 1;
        lock->l_pid = l->pid;
    }
    pthread_mutex_unlock(&lock_mutex);
    if (op_claim(op))
        fuse_reply_lock(op->req, lock);
    op_end(op);
}

void front_setlk(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, struct flock *lock,
                 int sleep)
{
    struct op *op = lock_op(req, nodeid);

    if (!op)
        return;
    struct range_lock want = range_of(lock, fi->lock_owner);

    int err =
        want.type == F_UNLCK ? 0 : note_owner(op->front, file_of(op->front, fi->fh), want.owner);

    if (err)
        op_fail(op, -err);
    else if (want.type == F_UNLCK)
        lock_unset(op, false, &want);
    else
        lock_set(op, false, &want, sleep);
}

void front_flock(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, int how)
{
    struct op *op = lock_op(req, nodeid);

    if (!op)
        return;
    struct range_lock want = {.end = UINT64_MAX, .owner = fi->lock_owner, .pid = op->tid};

    switch (how & ~LOCK_NB) {
    case LOCK_SH:
        want.type = F_RDLCK;
        break;
    case LOCK_EX:
        want.type = F_WRLCK;
        break;
    default:
        want.type = F_UNLCK;
        lock_unset(op, true, &want);
        return;
    }
    lock_set(op, true, &want, !(how & LOCK_NB));
}
