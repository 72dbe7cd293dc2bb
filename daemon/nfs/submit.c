// SPDX-License-Identifier: Apache-2.0
/*
 * The remote_ops of NFSv3: which connection takes a call, and what is refused before it is sent.
 *
 * Metadata, and READs and WRITEs below NFS3_BULK_MIN, stay in the thread of the submitting loop if
 * that loop has a connection: no hand-over, no wake-up. Bulk goes to the bulk connection with the
 * fewest bytes outstanding. From other threads calls go round among the shard connections.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/nfs/client.h"

enum { IOV_MOST = 1024, READDIR_MIN = 1024 };

/* ---- refusals ---- */

static int check_name(const char *name)
{
    size_t len = name ? strlen(name) : 0;
    if (!len || strchr(name, '/'))
        return -EINVAL;
    return len > NFS3_NAME_MAX ? -ENAMETOOLONG : 0;
}

static int check_fh(const struct fh *fh)
{
    return fh->len && fh->len <= NFS3_FH_MAX ? 0 : -ESTALE;
}

static int check_io(const struct remote_call *call, uint32_t max)
{
    uint64_t sum = 0;
    if (call->u.io.count > max || call->u.io.iovcnt > IOV_MOST)
        return -EINVAL;
    for (int i = 0; i < call->u.io.iovcnt; i++)
        sum += call->u.io.iov[i].iov_len;
    return sum < call->u.io.count ? -EINVAL : 0;
}

static int check(const struct nfs3 *r, const struct remote_call *call)
{
    int rc = check_fh(&call->fh);
    switch (call->op) {
    case REMOTE_READ:
        return rc ? rc : check_io(call, r->base.rsize);
    case REMOTE_WRITE:
        return rc ? rc : check_io(call, r->base.wsize);
    case REMOTE_RENAME:
        rc = rc ? rc : check_fh(&call->fh2);
        rc = rc ? rc : check_name(call->name2);
        return rc ? rc : check_name(call->name);
    case REMOTE_LINK:
        rc = rc ? rc : check_fh(&call->fh2);
        return rc ? rc : check_name(call->name);
    case REMOTE_SYMLINK:
        if (!rc && (!call->u.make.linkname || !*call->u.make.linkname))
            return -EINVAL;
        if (!rc && strlen(call->u.make.linkname) > NFS3_PATH_MAX)
            return -ENAMETOOLONG;
        return rc ? rc : check_name(call->name);
    case REMOTE_LOOKUP:
    case REMOTE_CREATE:
    case REMOTE_MKDIR:
    case REMOTE_MKNOD:
    case REMOTE_REMOVE:
    case REMOTE_RMDIR:
        return rc ? rc : check_name(call->name);
    default:
        return rc;
    }
}

static void call_init(struct nfs3 *r, struct remote_call *call)
{
    memset(&call->p, 0, sizeof(call->p));
    call->error = 0;
    call->has_obj = call->retransmitted = false;
    call->post.valid = call->dir_post.valid = call->dir2_post.valid = false;
    call->pre.valid = call->dir_pre.valid = call->dir2_pre.valid = false;
    call->sent_ns = call->replied_ns = 0;
    /* The clock may be a tick behind; sooner than was asked for nothing is given up. */
    call->p.giveup_ns = now_coarse_ns() + COARSE_LAG_NS + r->timeo_ns * (r->retrans + 1);
    if (call->op == REMOTE_READDIR) {
        call->u.readdir.entries = NULL;
        if (call->u.readdir.count < READDIR_MIN)
            call->u.readdir.count = READDIR_MIN;
        if (call->u.readdir.count > NFS3_IO_MAX)
            call->u.readdir.count = NFS3_IO_MAX;
    }
    if (call->op == REMOTE_READLINK)
        call->u.readlink.text = NULL;
    if (call->op == REMOTE_READ || call->op == REMOTE_WRITE)
        call->u.io.done = 0;
    if (call->op == REMOTE_CREATE && call->u.make.exclusive) {
        uint64_t verf = atomic_fetch_add_explicit(&r->verifier, 1, memory_order_relaxed);
        memcpy(call->p.verf, &verf, sizeof(call->p.verf));
    }
    call->p.saved = check(r, call);
    if (call->p.saved)
        call->p.flags |= CALL_UNSENDABLE;
}

/* ---- the choice ---- */

static struct conn *bulk_conn(struct nfs3 *r)
{
    struct conn *best = NULL;
    uint64_t least = UINT64_MAX;
    for (int i = r->nshard; i < r->nconn; i++) {
        uint64_t n = atomic_load_explicit(&r->conns[i]->outstanding_bytes, memory_order_relaxed);
        if (n < least) {
            least = n;
            best = r->conns[i];
        }
    }
    return best;
}

static struct conn *choose(struct nfs3 *r, const struct remote_call *call, struct loop *here)
{
    bool data = call->op == REMOTE_READ || call->op == REMOTE_WRITE;
    if (data && call->u.io.count >= NFS3_BULK_MIN && r->nconn > r->nshard)
        return bulk_conn(r);
    for (int i = 0; here && i < r->nshard; i++) {
        if (r->conns[i]->loop == here)
            return r->conns[i];
    }
    return r
        ->conns[atomic_fetch_add_explicit(&r->turn, 1, memory_order_relaxed) % (uint32_t)r->nshard];
}

static void submit_run(struct loop_task *task)
{
    struct remote_call *call =
        (struct remote_call *)(void *)((char *)task - offsetof(struct remote_call, p.task));
    conn_submit(call->p.conn, call);
}

static void submit(struct remote *remote, struct remote_call *call)
{
    struct nfs3 *r = nfs3_of(remote);
    struct loop *here = loop_current();
    call_init(r, call);
    struct conn *c = choose(r, call, here);
    if (c->bulk && !call->p.saved) {
        call->p.flags |= CALL_BULK;
        atomic_fetch_add_explicit(&c->outstanding_bytes, call->u.io.count, memory_order_relaxed);
    }
    if (c->loop == here) {
        conn_submit(c, call);
        return;
    }
    call->p.conn = c;
    call->p.task.fn = submit_run;
    loop_post(c->loop, &call->p.task);
}

static void clear(struct remote_call *call)
{
    if (call->op == REMOTE_READDIR) {
        free(call->p.extra); /* all entries, in one piece */
        call->p.extra = NULL;
        call->u.readdir.entries = NULL;
    } else if (call->op == REMOTE_READLINK) {
        free(call->u.readlink.text);
        call->u.readlink.text = NULL;
    }
}

static void shut(struct nfs3 *r, void (*fn)(void *arg))
{
    for (int i = 0; i < r->nconn; i++)
        loop_call(r->conns[i]->loop, fn, r->conns[i]);
}

static void nothing(void *arg)
{
}

static void give_up(struct remote *remote)
{
    shut(nfs3_of(remote), conn_shutdown);
}

static void destroy(struct remote *remote)
{
    struct nfs3 *r = nfs3_of(remote);
    shut(r, conn_shutdown);
    shut(r, nothing); /* refusals that the shutdown posted */
    if (!r->setup)
        mountd_umount(r);
    nfs3_free(r);
}

const struct remote_ops nfs3_ops = {
    .submit = submit, .clear = clear, .give_up = give_up, .destroy = destroy};
