// SPDX-License-Identifier: Apache-2.0
/*
 * Opening directories, and how long the kernel may keep the listing that it reads (dir.c).
 *
 * The kernel may keep the whole listing (FOPEN_CACHE_DIR) and use it for a later open with
 * FOPEN_KEEP_CACHE. That is granted when the directory's token is what it was when the listing was
 * begun, and the server's clock had left the token's tick by then: a change in the same tick would
 * not show. Times without nanoseconds may be those of a file system that has none, whatever the
 * server says: then the token has to be known for longer than a second.
 *
 * The kernel asks for attributes with every piece. Left to itself (READDIRPLUS_AUTO) it does so for
 * the first 4 KiB, some 25 entries, and for the rest only if some of these were looked at
 * meanwhile: a program that lists first and looks then had one request for each of the others, and
 * they were never renewed. A listing is kept for half of the time of its attributes: read once
 * more, it renews them many at a time, where the kernel would ask for one after the other.
 *
 * Errors: those of ACCESS or GETATTR, and EACCES where the caller may not read the directory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/ops.h"

#define TICK_NS    1100000000ull /* file systems with whole seconds are the coarsest */
#define LISTING_NS 100000000ull  /* a listing begins at attributes not older than this */

/* Could a change after the listing was begun leave the token as it is? Inode lock held. */
static bool listing_racy(struct front *f, const struct inode *ino)
{
    const struct token *t = &ino->use->dir_token;

    if (!t->ctime.tv_nsec && !t->mtime.tv_nsec)
        return ino->use->dir_listed_ns < ino->use->dir_seen_ns + TICK_NS;
    return attr_token_racy(f, t, ino->use->dir_listed_ns);
}

/* Is the listing that the kernel may have still right? Inode lock held. */
static bool listing_right(struct front *f, const struct inode *ino, uint64_t now)
{
    const struct inode_use *use = ino->use;
    struct token cur = token_of(&ino->rec->attr);

    return use && token_equal(&cur, &use->dir_token) && !listing_racy(f, ino) &&
           !(use->dir_plus && now >= use->dir_expires_ns);
}

/* A listing will be begun, and what is known of the directory is not of now: the listing would go
 * by a token that it has not begun at, and be of no use to the next reader. */
static bool listing_asks(struct front *f, struct inode *ino)
{
    uint64_t now = now_ns();

    pthread_mutex_lock(inode_lock(ino));
    bool asks = ino->attr_sent_ns + LISTING_NS < now && !listing_right(f, ino, now);

    pthread_mutex_unlock(inode_lock(ino));
    return asks;
}

/* May the kernel go on using its listing? Notes that a listing of now begins otherwise. */
static bool listing_keeps(struct front *f, struct inode *ino)
{
    uint64_t now = now_ns();

    pthread_mutex_lock(inode_lock(ino));
    struct inode_use *use = ino->use;
    struct token cur = token_of(&ino->rec->attr);
    bool keep = listing_right(f, ino, now);

    if (!token_equal(&cur, &use->dir_token)) {
        use->dir_token = cur;
        use->dir_seen_ns = now;
    }
    if (!keep) {
        use->dir_listed_ns = now;
        use->dir_expires_ns = UINT64_MAX;
    }
    pthread_mutex_unlock(inode_lock(ino));
    return keep;
}

void listing_note(struct inode *ino, bool plus, double valid)
{
    uint64_t until = plus && valid < 1e9 ? now_ns() + (uint64_t)(valid * 5e8) : UINT64_MAX;

    pthread_mutex_lock(inode_lock(ino));
    ino->use->dir_plus = plus;
    if (until < ino->use->dir_expires_ns)
        ino->use->dir_expires_ns = until;
    pthread_mutex_unlock(inode_lock(ino));
}

static void opendir_reply(struct op *op)
{
    struct front *f = op->front;
    struct fuse_file_info fi = {.flags = (int)op->u[0]};
    struct file *file;
    int err = file_new(f, op->ino, fi.flags, &op->cred, &file);

    if (err) {
        op_fail(op, -err);
        return;
    }
    file->dir = dir_new(f, op->ino);
    if (!file->dir) {
        file_free(f, file);
        op_fail(op, ENOMEM);
        return;
    }
    fi.fh = file->index;
    fi.cache_readdir = 1;
    fi.keep_cache = listing_keeps(f, op->ino);
    if (!op_claim(op) || fuse_reply_open(op->req, &fi) != 0) {
        file_free(f, file);
    }
    op_end(op);
}

static void opendir_asked(struct remote_call *call)
{
    struct op *op = op_of(call);
    uint32_t before = names_verifier(op->ino);

    if (call->post.valid)
        attr_accept(op->front, op->ino, &call->post, call);
    /* The kernel notes with its listing the time of the directory that it knows when it begins. */
    if (names_verifier(op->ino) != before)
        kernel_forget_attr(op->front, op->ino);
    if (call->op == REMOTE_ACCESS)
        access_note(op->front, op->ino, &op->cred, call);
    if (call->error == 0 && call->op == REMOTE_ACCESS && !(call->u.access.allowed & R_OK))
        call->error = -EACCES;
    if (call->error)
        op_fail(op, -call->error);
    else
        opendir_reply(op);
}

static bool may_list(struct op *op)
{
    pthread_mutex_lock(inode_lock(op->ino));
    struct timespec ctime = op->ino->rec->attr.ctime;

    pthread_mutex_unlock(inode_lock(op->ino));
    return access_known(op->front, op->ino, &op->cred, R_OK, ctime);
}

void front_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct inode *ino = inode_by_nodeid(f, nodeid);

    if (!ino) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    if (unmap_is_helper(f, fuse_req_ctx(req)->pid)) { /* its way into the mount; reads nothing */
        struct fuse_file_info none = {.keep_cache = 1, .cache_readdir = 1};

        fuse_reply_open(req, &none);
        inode_unref(f, ino);
        return;
    }
    struct op *op = op_new(f, req, ino);

    inode_unref(f, ino);
    if (!op)
        return;
    op->u[0] = (uint32_t)fi->flags;
    bool fresh = attr_fresh(op->ino) && !listing_asks(f, op->ino);

    if (!f->config.default_permissions && !(fresh && may_list(op))) {
        op->call.u.access.want = R_OK | W_OK | X_OK; /* nobody asked whether the caller may */
        op_submit(op, REMOTE_ACCESS, opendir_asked);
    } else if (fresh) {
        opendir_reply(op);
    } else {
        op_submit(op, REMOTE_GETATTR, opendir_asked);
    }
}
