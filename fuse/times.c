// SPDX-License-Identifier: Apache-2.0
/*
 * kernel_writeback: modification times that are the kernel's.
 *
 * Under FUSE_WRITEBACK_CACHE the kernel takes the time of a write(2), or of a store through a
 * mapping, from its own clock, ignores what the server says, and sends SETATTR (fuse_flush_times)
 * when it writes the inode back: before FLUSH and FSYNC, at the last close, and now and then. To
 * send each of these on would make the kernel's flusher wait for the server, with all bytes to be
 * written first, as a WRITE that follows sets the server's time again. So it is noted, answered at
 * once, and sent when bytes and time are both wanted at the server:
 *
 *   SETATTR of the kernel's -> times_note()
 *   FSYNC, FLUSH            -> cache_sync -> times_send() -> reply
 *   RELEASE                 -> times_send_later(): cache_sync -> SETATTR, nobody waits
 *   unmount, flush          -> times_send_wait()
 *
 * An mtime that an application sets (utimensat(2), truncation) goes to the server at once, and
 * takes the place of what was noted; a SETATTR of the kernel's that comes while it is under way is
 * older.
 *
 * Without a descriptor the kernel sends what moved ctime alone (a rename, a link): the mtime that
 * it had from us when it made its inode, or has set. That is answered, and nothing is sent: a WRITE
 * may have left a slightly later time at the server, which stays. An application's SETATTR of mtime
 * alone looks the same, but for its value.
 *
 * Errors: EPERM and EACCES (who may write a file may not set its times, if it is not his) end it:
 * the server's own time of the last WRITE stays. Any other leaves it due.
 *
 * Lock: the inode lock, for what is in ino->times, which regular files have under this option
 * alone.
 */
#include <errno.h>
#include <stdlib.h>

#include "fuse/ops.h"

void times_note(struct inode *ino, struct timespec mtime, uint16_t cred)
{
    pthread_mutex_lock(inode_lock(ino));
    if (!ino->times->setting) {
        ino->times->due = true;
        ino->times->mtime = ino->times->kernel = mtime;
        ino->times->cred = cred;
    }
    pthread_mutex_unlock(inode_lock(ino));
}

bool times_known(struct inode *ino, struct timespec mtime)
{
    pthread_mutex_lock(inode_lock(ino));

    bool known = ts_equal(ino->times->kernel, mtime);

    pthread_mutex_unlock(inode_lock(ino));
    return known;
}

void times_setting(struct inode *ino)
{
    pthread_mutex_lock(inode_lock(ino));
    ino->times->setting++;
    pthread_mutex_unlock(inode_lock(ino));
}

void times_set(struct inode *ino, const struct timespec *mtime)
{
    pthread_mutex_lock(inode_lock(ino));
    ino->times->setting--;
    if (mtime) {
        ino->times->due = false;
        ino->times->kernel = *mtime;
    }
    pthread_mutex_unlock(inode_lock(ino));
}

/* ---- telling the server ---- */

static bool times_due(struct inode *ino)
{
    return ino->times && __atomic_load_n(&ino->times->due, __ATOMIC_RELAXED);
}

struct sending {
    struct remote_call call;
    struct front *front;
    struct inode *ino; /* referenced */
    struct cred cred;
    void (*done)(void *arg, int error);
    void *arg;
};

static void answered(struct remote_call *call)
{
    struct sending *s = call->arg;
    struct front *f = s->front;
    struct inode *ino = s->ino;
    int error = call->error;

    if (error)
        attr_expire(ino);
    else
        attr_accept_own(f, ino, &call->pre, &call->post, call);
    if (error == -EPERM || error == -EACCES)
        error = 0;
    pthread_mutex_lock(inode_lock(ino));
    if (error && !ino->times->due && !ino->times->setting) {
        ino->times->due = true;
        ino->times->mtime = s->call.u.make.set.mtime;
    }
    pthread_mutex_unlock(inode_lock(ino));
    remote_call_clear(f->remote, call);
    s->done(s->arg, error);
    inode_unref(f, ino);
    free(s);
}

bool times_send(struct front *f, struct inode *ino, void (*done)(void *arg, int error), void *arg)
{
    struct sending *s = times_due(ino) ? calloc(1, sizeof *s) : NULL;

    if (!s)
        return false;
    pthread_mutex_lock(inode_lock(ino));

    bool due = ino->times->due && !(ino->attr_valid && ino->attr_expires_ns > now_ns() &&
                                    ts_equal(ino->rec->attr.mtime, ino->times->mtime));

    ino->times->due = false;
    s->call.u.make.set =
        (struct remote_setattr){.set = REMOTE_SET_MTIME, .mtime = ino->times->mtime};

    const struct cred *cred = credtab_get(f->creds, ino->times->cred);

    pthread_mutex_unlock(inode_lock(ino));
    if (!due || !cred) {
        free(s);
        return false;
    }
    s->front = f;
    s->ino = ino;
    s->cred = *cred;
    s->done = done;
    s->arg = arg;
    s->call.op = REMOTE_SETATTR;
    s->call.cred = &s->cred;
    s->call.fh = ino->rec->fh;
    s->call.done = answered;
    s->call.arg = s;
    inode_ref(ino);
    remote_submit(f->remote, &s->call);
    return true;
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void wake(void *arg, int error)
{
    struct waiter *w = arg;

    (void)error;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

void times_send_wait(struct front *f, struct inode *ino)
{
    struct waiter w = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};

    if (!times_send(f, ino, wake, &w))
        return;
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.cond, &w.lock);
    pthread_mutex_unlock(&w.lock);
}

/* ---- after the last close ---- */

struct later {
    struct cache_sync sync;
    struct front *front;
    struct inode *ino; /* referenced */
};

static void later_end(void *arg, int error)
{
    struct later *l = arg;
    struct front *f = l->front;

    (void)error;
    inode_unref(f, l->ino);
    free(l);
    atomic_fetch_sub(&f->times_running, 1);
}

static void later_synced(struct cache_sync *sync)
{
    struct later *l = (struct later *)sync;

    /* Not written: they are tried again, and would move it. */
    if (sync->error || !times_send(l->front, l->ino, later_end, l))
        later_end(l, 0);
}

void times_send_later(struct front *f, struct inode *ino)
{
    if (!times_due(ino))
        return;

    struct later *l = calloc(1, sizeof *l);

    if (!l)
        return;
    l->front = f;
    l->ino = ino;
    l->sync = (struct cache_sync){.m = ino->map, .done = later_synced};
    inode_ref(ino);
    atomic_fetch_add(&f->times_running, 1);
    if (cache_sync(&l->sync) != -EINPROGRESS)
        later_synced(&l->sync);
}

void times_wait(struct front *f)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    while (atomic_load(&f->times_running))
        nanosleep(&pause, NULL);
}
