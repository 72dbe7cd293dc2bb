// SPDX-License-Identifier: Apache-2.0
/*
 * GETATTR.
 *
 *   fresh                     -> what is known
 *   not fresh                 -> asked -> what came
 *   changed elsewhere, with pages of before: revalidated -> what came
 *                                              not yet   -> the old attributes, for no time at all
 *
 * The old attributes go with the old pages; but who asks once in a while, and goes by mtime (make),
 * must not be one change behind. So the answer waits for the revalidation, a while. Not for ever:
 * where the file is open for writing that is an fsync(), which wants the kernel's inode lock, and
 * lseek(2) to the end asks with that lock held. (That the kernel passes attributes on which come
 * after its pages were invalidated, and asks once more, is no loss.)
 *
 * Errors: the server's; ESTALE when the file turns out to be gone. Who could not be told whether it
 * changed is told what is known (invariant I6).
 */
#include <errno.h>
#include <stdlib.h>

#include "fuse/ops.h"

#define WAIT_NS         2000000000ull
#define WAIT_WRITERS_NS 100000000ull

static void getattr_reply(struct front *f, fuse_req_t req, struct inode *ino)
{
    struct stat st;
    double timeout;

    if (unmap_is_helper(f, fuse_req_ctx(req)->pid)) /* asks until it is taken */
        attr_stat_set(f, ino, &st, &timeout);
    else
        attr_stat(f, ino, &st, &timeout);
    fuse_reply_attr(req, &st, timeout);
}

static void getattr_end(struct op *op)
{
    if (op_claim(op))
        getattr_reply(op->front, op->req, op->ino);
    op_end(op);
}

/* Known to have changed, and not yet revalidated. What we changed ourselves since shows at once:
 * that is asked for. */
static bool changed_elsewhere(struct inode *ino)
{
    pthread_mutex_lock(inode_lock(ino));
    bool changed = ino->changed_elsewhere && ino->own_change_ns <= ino->attr_sent_ns;

    pthread_mutex_unlock(inode_lock(ino));
    return changed;
}

/* ---- waiting for the revalidation --------------------------------------------------------- */

struct look {
    struct reval_wait wait;
    struct loop_timer timer;
    pthread_mutex_t lock;
    struct op *op; /* NULL: ended */
    unsigned refs; /* the revalidation's and the timer's */
};

/* Lock held; gives it up. */
static void look_put(struct look *l)
{
    bool last = --l->refs == 0;

    pthread_mutex_unlock(&l->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static void look_done(struct reval_wait *wait)
{
    struct look *l = (struct look *)wait;
    int error = wait->error;

    pthread_mutex_lock(&l->lock);
    struct op *op = l->op;

    l->op = NULL;
    look_put(l);
    if (error == -ESTALE)
        op_fail(op, ESTALE);
    else
        getattr_end(op);
}

static void look_late(struct loop_timer *timer)
{
    struct look *l = (struct look *)((char *)timer - offsetof(struct look, timer));

    pthread_mutex_lock(&l->lock);
    if (l->op && op_claim(l->op))
        getattr_reply(l->op->front, l->op->req, l->op->ino);
    look_put(l);
}

static void look(struct op *op)
{
    struct front *f = op->front;
    struct loop *loop = loop_current();
    struct look *l = loop && !atomic_load(&f->stopping) ? calloc(1, sizeof(*l)) : NULL;

    if (!l) {
        getattr_end(op);
        return;
    }
    pthread_mutex_lock(inode_lock(op->ino));
    bool writers = op->ino->writers;

    pthread_mutex_unlock(inode_lock(op->ino));
    pthread_mutex_init(&l->lock, NULL);
    l->op = op;
    l->refs = 2;
    l->wait.done = look_done;
    l->timer.fn = look_late;
    loop_timer_set(loop, &l->timer, writers ? WAIT_WRITERS_NS : WAIT_NS);
    revalidate(f, op->ino, false, &l->wait);
}

/* ---- the request -------------------------------------------------------------------------- */

static void getattr_done(struct remote_call *call)
{
    struct op *op = op_of(call);

    if (call->error) {
        op_fail(op, -call->error);
        return;
    }
    attr_accept(op->front, op->ino, &call->post, call);
    if (changed_elsewhere(op->ino))
        look(op);
    else
        getattr_end(op);
}

void front_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct inode *ino = inode_by_nodeid(f, nodeid);

    (void)fi;
    if (!ino) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    bool helper = unmap_is_helper(f, fuse_req_ctx(req)->pid);
    bool changed = !helper && changed_elsewhere(ino);

    if (helper || (!changed && attr_fresh(ino))) {
        ahead_getattr(f, ino, req, false);
        getattr_reply(f, req, ino);
        inode_unref(f, ino);
        return;
    }
    struct op *op = op_new(f, req, ino);

    inode_unref(f, ino);
    if (!op)
        return;
    if (changed) {
        look(op);
        return;
    }
    ahead_getattr(f, op->ino, req, true);
    op_submit(op, REMOTE_GETATTR, getattr_done);
}
