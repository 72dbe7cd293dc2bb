// SPDX-License-Identifier: Apache-2.0
/*
 * SETATTR: chmod, chown, utimensat, truncate.
 *
 *   size         cache_truncate_begin -> (no WRITE in flight) -> SETATTR -> cache_truncate_end
 *   other, and   cache_sync -> SETATTR: a WRITE that follows would put the server's time in place
 * of bytes dirty  the one that was just set, and might not be permitted any more after a chmod
 *   other        SETATTR
 *
 * The kernel holds the file's inode lock all the while, so nothing here waits for an unmap of it
 * (an unmap is an fsync, which wants that lock). Bytes that the kernel itself holds dirty (mapped
 * stores not yet written back) are therefore not pushed first: they reach the server later, and
 * move mtime then, unless the application called msync(2).
 *
 * Under kernel_writeback mtime comes from the kernel's clock, with every truncation and every
 * touch, too. To set it one must own the file (EPERM), where the server's "now" needs permission to
 * write alone: then that is asked for instead. What the kernel sends by itself is times.c's.
 *
 * With uid= or gid= the owner shown is not the server's: a chown to what is shown already changes
 * nothing, any other is refused with EPERM.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cache/point.h"
#include "fuse/ops.h"

/* Before the SETATTR of an op, whose call's arguments stay in op->call meanwhile. */
struct before {
    struct op *op;
    struct cache_truncate truncate;
    struct cache_sync sync;
};

/* op->p[0]: struct before, or NULL; op->u[0]: truncates; op->u[1]: sets mtime; op->u[2]: may do
 * with the server's; op->u[3], op->u[4]: which. */

static void nobody_waits(struct reval_wait *w)
{
    free(w);
}

/* A killed caller was told EINTR, and the file truncated all the same: the kernel has not dropped
 * the pages beyond, and would take them for the file's when that grows again. It has given the
 * inode lock up, so that they can be unmapped. */
static void truncation_unseen(struct op *op)
{
    struct reval_wait *w = atomic_load(&op->front->stopping) ? NULL : calloc(1, sizeof(*w));

    if (!w)
        return;
    w->done = nobody_waits;
    revalidate_unmap(op->front, op->ino, w);
}

static void setattr_reply(struct op *op)
{
    struct stat st;
    double timeout = 0;

    if (op_claim(op)) {
        attr_stat_set(op->front, op->ino, &st, &timeout);
        fuse_reply_attr(op->req, &st, timeout);
    } else if (op->u[0]) {
        attr_stat(op->front, op->ino, &st, &timeout);
        truncation_unseen(op);
    } else { /* it may have asked since, and been told what was */
        kernel_forget_attr(op->front, op->ino);
    }
    free(op->p[0]);
    op_end(op);
}

static void setattr_fail(struct op *op, int error)
{
    free(op->p[0]);
    op_fail(op, error);
}

static void asked(struct remote_call *call)
{
    struct op *op = op_of(call);

    if (call->error) {
        setattr_fail(op, -call->error);
        return;
    }
    attr_accept(op->front, op->ino, &call->post, call);
    setattr_reply(op);
}

static void setattr_send(struct op *op);

/* Once more: a truncation sets it anyway. */
static void server_time(struct op *op)
{
    struct remote_setattr set = op->call.u.make.set;

    op->u[2] = 0;
    set.set &= ~(unsigned)REMOTE_SET_MTIME;
    if (!(set.set & REMOTE_SET_SIZE))
        set.set |= REMOTE_SET_MTIME_NOW;
    op_reset_call(op);
    op->call.u.make.set = set;
    setattr_send(op);
}

static void setattr_done(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct front *f = op->front;
    bool ok = call->error == 0;

    if ((call->error == -EPERM || call->error == -EACCES) && op->u[2]) {
        server_time(op);
        return;
    }
    if (op->u[1]) {
        struct timespec mtime = {.tv_sec = (time_t)op->u[3], .tv_nsec = (long)op->u[4]};

        times_set(op->ino, ok ? &mtime : NULL);
    }
    /* The page cache first: the size that attr.c takes over is then no news to it. */
    if (op->u[0]) {
        struct before *b = op->p[0];

        cache_truncate_end(&b->truncate, ok);
    }
    if (!ok) {
        if (call->post.valid)
            attr_accept(f, op->ino, &call->post, call);
        else
            attr_expire(op->ino);
        setattr_fail(op, -call->error);
        return;
    }
    if (call->post.valid) {
        attr_accept_own(f, op->ino, &call->pre, &call->post, call);
        setattr_reply(op);
        return;
    }
    attr_expire(op->ino);
    op_reset_call(op);
    op_submit(op, REMOTE_GETATTR, asked);
}

static void setattr_send(struct op *op)
{
    op_submit(op, REMOTE_SETATTR, setattr_done);
}

static void truncate_ready(struct cache_truncate *t)
{
    setattr_send(((struct before *)((char *)t - offsetof(struct before, truncate)))->op);
}

static void synced(struct cache_sync *s)
{
    /* An error stays with the descriptors that wrote (invariant I7); the bytes stay dirty. */
    setattr_send(((struct before *)((char *)s - offsetof(struct before, sync)))->op);
}

/* What FUSE asks for in the remote side's words; false: an owner that uid= or gid= forbids. */
static bool setattr_translate(struct front *f, const struct stat *st, int to_set,
                              struct remote_setattr *set)
{
    const struct front_config *c = &f->config;

    if (to_set & FUSE_SET_ATTR_MODE) {
        set->set |= REMOTE_SET_MODE;
        set->mode = st->st_mode & 07777;
    }
    if (to_set & FUSE_SET_ATTR_UID) {
        if (c->have_uid && st->st_uid != c->uid)
            return false;
        set->set |= c->have_uid ? 0 : REMOTE_SET_UID;
        set->uid = st->st_uid;
    }
    if (to_set & FUSE_SET_ATTR_GID) {
        if (c->have_gid && st->st_gid != c->gid)
            return false;
        set->set |= c->have_gid ? 0 : REMOTE_SET_GID;
        set->gid = st->st_gid;
    }
    if (to_set & FUSE_SET_ATTR_SIZE) {
        set->set |= REMOTE_SET_SIZE;
        set->size = st->st_size;
    }
    if (to_set & FUSE_SET_ATTR_ATIME_NOW) {
        set->set |= REMOTE_SET_ATIME_NOW;
    } else if (to_set & FUSE_SET_ATTR_ATIME) {
        set->set |= REMOTE_SET_ATIME;
        set->atime = st->st_atim;
    }
    if (to_set & FUSE_SET_ATTR_MTIME_NOW) {
        set->set |= REMOTE_SET_MTIME_NOW;
    } else if (to_set & FUSE_SET_ATTR_MTIME) {
        set->set |= REMOTE_SET_MTIME;
        set->mtime = st->st_mtim;
    }
    return true;
}

/* The times that the kernel sets are of a moment ago. */
#define JUST_NOW_S 2

static bool is_now(struct timespec t)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return t.tv_sec >= now.tv_sec - JUST_NOW_S && t.tv_sec <= now.tv_sec + JUST_NOW_S;
}

/*
 * What the kernel sends when it writes an inode back sets mtime and ctime, and nothing else. It
 * comes with a descriptor where one is open for writing, which utimensat(2) never does
 * (fuse_write_inode; fuse_do_setattr: ATTR_FILE). Without one it is a ctime that the kernel has
 * moved (fuse_update_ctime), with the mtime that it has.
 */
static bool is_write_inode(struct front *f, struct inode *ino, const struct stat *st, int to_set,
                           struct fuse_file_info *fi)
{
    if ((to_set & ~FUSE_SET_ATTR_CTIME) != FUSE_SET_ATTR_MTIME || !S_ISREG(ino->type))
        return false;
    struct file *file = fi ? file_of(f, fi->fh) : NULL;

    if (file)
        times_note(ino, st->st_mtim, file->cred);
    return file || times_known(ino, st->st_mtim);
}

static void setattr_go(struct op *op, const struct remote_setattr *set)
{
    struct mapping *map = inode_map(op->ino);
    struct before *b;

    if ((set->set & REMOTE_SET_SIZE) && !map) {
        if (inode_use(op->front, op->ino) != 0) {
            op_fail(op, ENOMEM);
            return;
        }
        map = op->ino->map;
    }
    if (op->u[1])
        times_setting(op->ino);
    op->call.u.make.set = *set;
    if (!map || (!(set->set & REMOTE_SET_SIZE) && !mapping_is_dirty(map))) {
        setattr_send(op);
        return;
    }
    b = calloc(1, sizeof(*b));
    if (!b) {
        if (op->u[1])
            times_set(op->ino, NULL);
        op_fail(op, ENOMEM);
        return;
    }
    op->p[0] = b;
    b->op = op;
    if (set->set & REMOTE_SET_SIZE) {
        op->u[0] = 1;
        b->truncate = (struct cache_truncate){.m = map, .size = set->size, .ready = truncate_ready};
        cache_truncate_begin(&b->truncate);
        return;
    }
    b->sync = (struct cache_sync){.m = map, .done = synced};
    if (cache_sync(&b->sync) != -EINPROGRESS)
        setattr_send(op);
}

void front_setattr(fuse_req_t req, fuse_ino_t nodeid, struct stat *st, int to_set,
                   struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct remote_setattr set = {0};
    struct inode *ino = inode_by_nodeid(f, nodeid);

    if (!ino) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    if (!setattr_translate(f, st, to_set, &set)) {
        fuse_reply_err(req, EPERM);
        inode_unref(f, ino);
        return;
    }
    if ((set.set & REMOTE_SET_SIZE) && !S_ISREG(ino->type)) {
        fuse_reply_err(req, S_ISDIR(ino->type) ? EISDIR : EINVAL);
        inode_unref(f, ino);
        return;
    }
    if (!set.set) { /* nothing that a server keeps (ctime alone) */
        inode_unref(f, ino);
        front_getattr(req, nodeid, fi);
        return;
    }
    if (f->config.kernel_writeback && is_write_inode(f, ino, st, to_set, fi)) {
        struct stat now;
        double timeout;

        attr_stat(f, ino, &now, &timeout);
        fuse_reply_attr(req, &now, timeout);
        inode_unref(f, ino);
        return;
    }
    POINT("kernel.setattr");
    if (FAULT(setattr_unmaps) && inode_map(ino))
        mapping_unmap_all(inode_map(ino));

    struct op *op = op_new(f, req, ino);

    inode_unref(f, ino);
    if (!op)
        return;
    /* ftruncate(2) needs no more permission than its descriptor had. */
    struct file *file = fi && (set.set & REMOTE_SET_SIZE) ? file_of(f, fi->fh) : NULL;
    const struct cred *cred = file ? credtab_get(f->creds, file->cred) : NULL;

    if (cred)
        op->cred = *cred;
    if (f->config.kernel_writeback && S_ISREG(ino->type) && (set.set & REMOTE_SET_MTIME)) {
        op->u[1] = 1;
        op->u[3] = (uint64_t)set.mtime.tv_sec;
        op->u[4] = (uint64_t)set.mtime.tv_nsec;
        op->u[2] =
            (set.set & REMOTE_SET_SIZE) || ((set.set & REMOTE_SET_ATIME_NOW) && is_now(set.mtime));
    }
    setattr_go(op, &set);
}
