// SPDX-License-Identifier: Apache-2.0
/*
 * The small operations: readlink, statfs, access, and the answer to those that NFSv3 has not.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/clock.h"
#include "fuse/ops.h"

static struct op *simple_op(fuse_req_t req, fuse_ino_t nodeid)
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

static void readlink_done(struct remote_call *call)
{
    struct op *op = op_of(call);

    if (call->error) {
        op_fail(op, -call->error);
        return;
    }
    if (call->post.valid)
        attr_accept(op->front, op->ino, &call->post, call);
    if (op_claim(op))
        fuse_reply_readlink(op->req, call->u.readlink.text ? call->u.readlink.text : "");
    op_end(op);
}

void front_readlink(fuse_req_t req, fuse_ino_t nodeid)
{
    struct op *op = simple_op(req, nodeid);

    if (op)
        op_submit(op, REMOTE_READLINK, readlink_done);
}

/* FSSTAT counts bytes; statfs(2) wants blocks. 4 KiB until the counts would not fit 32 bits'
 * programs is what the kernel's client shows as wtmult, too. */
#define STATFS_BLOCK 4096u

static void statfs_done(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct statvfs st;

    if (call->error) {
        op_fail(op, -call->error);
        return;
    }
    memset(&st, 0, sizeof(st));
    st.f_bsize = st.f_frsize = STATFS_BLOCK;
    st.f_blocks = call->u.fsstat.tbytes / STATFS_BLOCK;
    st.f_bfree = call->u.fsstat.fbytes / STATFS_BLOCK;
    st.f_bavail = call->u.fsstat.abytes / STATFS_BLOCK;
    st.f_files = call->u.fsstat.tfiles;
    st.f_ffree = call->u.fsstat.ffiles;
    st.f_favail = call->u.fsstat.afiles;
    st.f_namemax = op->front->remote->name_max ? op->front->remote->name_max : 255;
    if (op_claim(op))
        fuse_reply_statfs(op->req, &st);
    op_end(op);
}

void front_statfs(fuse_req_t req, fuse_ino_t nodeid)
{
    struct op *op = simple_op(req, nodeid ? nodeid : FUSE_ROOT_ID);

    if (op)
        op_submit(op, REMOTE_FSSTAT, statfs_done);
}

void access_note(struct front *f, struct inode *ino, const struct cred *cred,
                 const struct remote_call *call)
{
    if (call->error || !call->post.valid)
        return;
    uint16_t who = credtab_intern(f->creds, cred);

    pthread_mutex_lock(inode_lock(ino));
    ino->access_cred = who;
    ino->access_allowed = (uint16_t)call->u.access.allowed;
    ino->access_ctime = clock_ns(call->post.attr.ctime);
    pthread_mutex_unlock(inode_lock(ino));
}

void access_note_search(struct front *f, struct inode *dir, const struct cred *cred,
                        struct timespec ctime)
{
    uint16_t who = credtab_intern(f->creds, cred);

    pthread_mutex_lock(inode_lock(dir));
    if (dir->access_cred != who || dir->access_ctime != clock_ns(ctime))
        dir->access_allowed = 0;
    dir->access_cred = who;
    dir->access_allowed |= X_OK;
    dir->access_ctime = clock_ns(ctime);
    pthread_mutex_unlock(inode_lock(dir));
}

bool access_known(struct front *f, struct inode *ino, const struct cred *cred, uint32_t want,
                  struct timespec ctime)
{
    uint16_t who = credtab_intern(f->creds, cred);

    pthread_mutex_lock(inode_lock(ino));
    bool known = who && ino->access_cred == who && ino->access_ctime == clock_ns(ctime) &&
                 (ino->access_allowed & want) == want;

    pthread_mutex_unlock(inode_lock(ino));
    return known;
}

/* Sent only without default_permissions: then the server knows who may do what, by access(2) and
 * chdir(2). */
static void access_done(struct remote_call *call)
{
    struct op *op = op_of(call);
    int error = -call->error;

    if (call->post.valid)
        attr_accept(op->front, op->ino, &call->post, call);
    if (!error && (call->u.access.want & ~call->u.access.allowed))
        error = EACCES;
    if (op_claim(op))
        fuse_reply_err(op->req, error);
    op_end(op);
}

void front_access(fuse_req_t req, fuse_ino_t nodeid, int mask)
{
    struct op *op = simple_op(req, nodeid);

    if (!op)
        return;
    op->call.u.access.want = mask & (R_OK | W_OK | X_OK);
    op_submit(op, op->call.u.access.want ? REMOTE_ACCESS : REMOTE_GETATTR, access_done);
}

/* Not ENOSYS: glibc's posix_fallocate(3) falls back to writing on EOPNOTSUPP, and the kernel would
 * translate ENOSYS to that anyway. */
void front_fallocate(fuse_req_t req, fuse_ino_t nodeid, int mode, off_t offset, off_t length,
                     struct fuse_file_info *fi)
{
    (void)nodeid;
    (void)mode;
    (void)offset;
    (void)length;
    (void)fi;
    fuse_reply_err(req, EOPNOTSUPP);
}
