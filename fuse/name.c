// SPDX-License-Identifier: Apache-2.0
/*
 * Operations on names: lookup, create, mknod, mkdir, symlink, link; the removing ones are in
 * unlink.c.
 *
 * All of them end in an entry: the inode found or made, what is known of it, and for how long the
 * kernel may rely on the name. The last comes from the directory's attributes: as long as they are
 * believed, so are its names, positive and negative (nfs(5), lookupcache). When a reply lacks the
 * handle of what it made, the name is looked up; when it lacks attributes, they are asked for.
 *
 * Errors: ESTALE when the directory is gone: the kernel then walks the path again, once, and asks
 * for every name on it (LOOKUP_REVAL). CREATE uses that, too: the kernel sends it for a name that
 * does not exist to its knowledge, and skips all checks of an existing file. When the server had
 * such a file after all, the answer is ESTALE; the kernel looks again, finds it, and opens it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/name.h"
#include "fuse/ops.h"
#include "fuse/session.h"

/* ---- shared with unlink.c ----------------------------------------------------------------- */

double name_timeout(struct front *f, struct inode *dir, bool negative)
{
    struct stat st;
    double timeout = 0;

    if (f->config.lookupcache == FRONT_LOOKUPCACHE_NONE ||
        (negative && f->config.lookupcache != FRONT_LOOKUPCACHE_ALL))
        return 0;
    attr_stat(f, dir, &st, &timeout);
    return timeout;
}

void dir_changed(struct front *f, struct inode *dir, const struct remote_wcc *pre,
                 const struct remote_post *post, const struct remote_call *call)
{
    if (post->valid)
        attr_accept_own(f, dir, pre, post, call);
    else
        attr_expire(dir);
}

bool name_fits(struct front *f, const char *name)
{
    uint32_t max = f->remote->name_max ? f->remote->name_max : 255;

    return strlen(name) <= max;
}

struct op *name_op(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct front *f = front_of(req);
    struct inode *dir = inode_by_nodeid(f, parent);

    if (!dir) {
        fuse_reply_err(req, ESTALE);
        return NULL;
    }
    struct op *op = NULL;

    if (!S_ISDIR(dir->type))
        fuse_reply_err(req, ENOTDIR);
    else if (!name_fits(f, name))
        fuse_reply_err(req, ENAMETOOLONG);
    else
        op = op_new(f, req, dir);
    inode_unref(f, dir);
    if (!op)
        return NULL;
    op->name = strdup(name);
    if (!op->name) {
        op_fail(op, ENOMEM);
        return NULL;
    }
    op->call.name = op->name;
    return op;
}

void op_submit_fh(struct op *op, enum remote_op what, const struct fh *fh,
                  void (*done)(struct remote_call *))
{
    op->call.op = what;
    op->call.cred = &op->cred;
    op->call.fh = *fh;
    op->call.arg = op;
    op->call.done = done;
    op->submitted = true;
    remote_submit(op->front->remote, &op->call);
}

/* ---- the entry ---------------------------------------------------------------------------- */

enum entry_kind { ENTRY_LOOKUP, ENTRY_MAKE, ENTRY_CREATE };
/* op->u: [0] flags of open(2), [1] kind; of a LOOKUP: [2] verifier of the directory (names.c) when
 * it was sent, then what its reply proves, [3] when it was sent. op->p: [0] the object's handle
 * (owned), kept while its attributes are asked for. */

static void entry_fill(struct op *op, struct inode *dir, struct inode *ino,
                       struct fuse_entry_param *e)
{
    memset(e, 0, sizeof(*e));
    attr_fill_entry(op->front, ino, e);
    e->entry_timeout = name_timeout(op->front, dir, false);
    names_told(ino, e->entry_timeout);
}

/* A killed caller was told EINTR, and its operation made the name all the same: the kernel still
 * believes that there is none. (Removals it handles itself.) */
static void entry_unseen(struct op *op, struct inode *dir, struct inode *ino)
{
    inode_forget(op->front, ino, 1);
    if (op->u[1] != ENTRY_LOOKUP)
        session_forget_name(op->front, dir->nodeid, op->name);
}

/* Replies and ends the op. */
static void entry_reply(struct op *op, struct inode *dir, struct inode *ino)
{
    struct fuse_entry_param e;

    entry_fill(op, dir, ino, &e);
    inode_lookup_add(ino, 1);
    if (!op_claim(op) || fuse_reply_entry(op->req, &e) != 0)
        entry_unseen(op, dir, ino);
    op_end(op);
}

/* An open file for the inode that CREATE made; replies and ends the op. */
static void create_reply(struct op *op, struct inode *dir, struct inode *ino)
{
    struct front *f = op->front;
    struct fuse_file_info fi = {.flags = (int)op->u[0]};
    struct file *file;
    int err = file_new(f, ino, fi.flags, &op->cred, &file);

    if (err) {
        op_fail(op, -err);
        return;
    }
    struct fuse_entry_param e;

    entry_fill(op, dir, ino, &e);
    fi.fh = file->index;
    fi.keep_cache = 1;
    /* Its maker may not read it: see file.c. */
    file->direct = f->config.kernel_writeback && (fi.flags & O_ACCMODE) == O_WRONLY &&
                   !(e.attr.st_mode & S_IRUSR);
    fi.direct_io = file->direct;
    inode_lookup_add(ino, 1);
    if (!op_claim(op) || fuse_reply_create(op->req, &e, &fi) != 0) {
        entry_unseen(op, dir, ino);
        file_free(f, file);
    }
    op_end(op);
}

/* A LOOKUP of the kernel's, to see whether its entry still holds, goes beside our own changes of
 * the directory: a reply from before one says nothing of the name any more. An unlink(2) that
 * believed it would take the wrong file for its victim, and remove one that is open. */
static void entry_name(struct op *op, struct inode *dir, struct inode *ino)
{
    if (op->u[1] == ENTRY_LOOKUP)
        names_confirm(op->front, dir, op->name, ino, (uint32_t)op->u[2], op->u[3]);
    else
        names_set(op->front, dir, op->name, ino);
}

static void entry_got(struct op *op, const struct fh *obj, const struct remote_post *post)
{
    struct front *f = op->front;
    struct inode *dir = op->ino;
    bool create = op->u[1] == ENTRY_CREATE;
    bool known = false;
    struct inode *ino = create ? inode_get(f, obj, NULL) : NULL;

    if (ino)
        known = true;
    else
        ino = inode_get(f, obj, &post->attr);
    if (!ino) {
        op_fail(op, ENFILE);
        return;
    }
    attr_accept(f, ino, post, &op->call);
    entry_name(op, dir, ino);
    if (create && !(op->u[0] & O_EXCL) &&
        (known || post->attr.size > 0 || post->attr.nlink > 1 || !S_ISREG(post->attr.mode)))
        op_fail(op, ESTALE); /* it was there before: let the kernel look, check and open it */
    else if (create)
        create_reply(op, dir, ino);
    else
        entry_reply(op, dir, ino);
    inode_unref(f, ino);
}

static void entry_attr_done(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct fh *obj = op->p[0];

    if (call->error == 0 && !call->post.valid)
        call->error = -EIO;
    if (call->error)
        op_fail(op, -call->error);
    else
        entry_got(op, obj, &call->post);
    free(obj);
}

static void entry_done(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct front *f = op->front;

    if (!call->has_obj) { /* made, but the server did not tell its handle */
        op_reset_call(op);
        op->call.name = op->name;
        op_submit(op, REMOTE_LOOKUP, entry_done);
        return;
    }
    if (call->post.valid) {
        struct fh obj = call->obj;

        entry_got(op, &obj, &call->post);
        return;
    }
    struct fh *obj = malloc(sizeof(*obj));

    if (!obj) {
        op_fail(op, ENOMEM);
        return;
    }
    *obj = call->obj;
    op->p[0] = obj;
    op_reset_call(op);
    op_submit_fh(op, REMOTE_GETATTR, obj, entry_attr_done);
    (void)f;
}

/* ---- lookup ------------------------------------------------------------------------------- */

static void negative_reply(struct op *op)
{
    struct fuse_entry_param e = {.ino = 0};

    names_drop(op->front, op->ino, op->name);
    e.entry_timeout = name_timeout(op->front, op->ino, true);
    if (op_claim(op)) {
        if (e.entry_timeout > 0)
            fuse_reply_entry(op->req, &e);
        else
            fuse_reply_err(op->req, ENOENT);
    }
    op_end(op);
}

static void lookup_done(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct front *f = op->front;

    if (call->dir_post.valid)
        attr_accept(f, op->ino, &call->dir_post, call);
    if (call->error == -ENOENT) {
        negative_reply(op);
        return;
    }
    if (call->error == 0 && !call->has_obj)
        call->error = -EIO;
    if (call->error == -ESTALE)
        attr_expire(op->ino);
    if (call->error) {
        op_fail(op, -call->error);
        return;
    }
    op->u[2] = ahead_proof(f, (uint32_t)op->u[2], &call->dir_post, call);
    op->u[3] = call->sent_ns;
    ahead_looked_up(f, op->ino, call);
    entry_done(call);
}

static void self_done(struct remote_call *call)
{
    struct op *op = op_of(call);

    if (call->error) {
        op_fail(op, -call->error);
        return;
    }
    attr_accept(op->front, op->ino, &call->post, call);
    entry_reply(op, op->ino, op->ino);
}

/* "." of a node id: how open_by_handle_at(2) finds an inode that the kernel dropped. */
static void lookup_self(fuse_req_t req, fuse_ino_t nodeid)
{
    struct front *f = front_of(req);
    struct inode *ino = inode_by_nodeid(f, nodeid);

    if (!ino) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    struct op *op = op_new(f, req, ino);

    inode_unref(f, ino);
    if (!op)
        return;
    if (attr_fresh(op->ino) || unmap_is_helper(f, op->tid))
        entry_reply(op, op->ino, op->ino);
    else
        op_submit(op, REMOTE_GETATTR, self_done);
}

/* A name that exists for the helper threads of unmap.c alone: a file by its node id. */
static bool lookup_helper(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct front *f = front_of(req);
    size_t len = strlen(UNMAP_NAME);

    if (parent != FUSE_ROOT_ID || strncmp(name, UNMAP_NAME, len) != 0 ||
        !unmap_is_helper(f, fuse_req_ctx(req)->pid))
        return false;

    struct inode *ino = inode_by_nodeid(f, strtoull(name + len, NULL, 10));

    if (!ino) {
        fuse_reply_err(req, ENOENT);
        return true;
    }
    struct fuse_entry_param e;

    memset(&e, 0, sizeof(e));
    attr_fill_entry(f, ino, &e);
    e.entry_timeout = 0;
    inode_lookup_add(ino, 1);
    if (fuse_reply_entry(req, &e) != 0)
        inode_forget(f, ino, 1);
    inode_unref(f, ino);
    return true;
}

/* By what is known here. False: the server has to be asked. */
static bool lookup_known(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct front *f = front_of(req);
    struct inode *dir = ahead_may_answer(f, parent) ? inode_by_nodeid(f, parent) : NULL;
    struct inode *ino = NULL;
    struct fuse_entry_param e;
    struct cred cred;

    if (dir) {
        req_cred(f, req, &cred);
        ino = ahead_lookup(f, dir, name, &cred);
    }
    if (ino) {
        attr_fill_entry(f, ino, &e);
        e.entry_timeout = name_timeout(f, dir, false);
        names_told(ino, e.entry_timeout);
        inode_lookup_add(ino, 1);
        if (fuse_reply_entry(req, &e) != 0)
            inode_forget(f, ino, 1);
        inode_unref(f, ino);
    }
    if (dir)
        inode_unref(f, dir);
    return ino;
}

void front_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    if (strcmp(name, ".") == 0 || (strcmp(name, "..") == 0 && parent == FUSE_ROOT_ID)) {
        lookup_self(req, parent);
        return;
    }
    if (lookup_helper(req, parent, name) || lookup_known(req, parent, name))
        return;
    struct op *op = name_op(req, parent, name);

    if (!op)
        return;
    op->u[1] = ENTRY_LOOKUP;
    op->u[2] = names_verifier(op->ino);
    op_submit(op, REMOTE_LOOKUP, lookup_done);
}

/* ---- making things ------------------------------------------------------------------------ */

static void make_done(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct front *f = op->front;

    if (call->error == 0) {
        dir_changed(f, op->ino, &call->dir_pre, &call->dir_post, call);
        entry_done(call);
        return;
    }
    /* The name is there, or the directory is not: what we believed of the directory was old. */
    if (call->error == -EEXIST || call->error == -ESTALE || call->error == -ENOENT)
        attr_expire(op->ino);
    op_fail(op, -call->error);
}

static struct op *make_op(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct op *op = name_op(req, parent, name);

    if (!op)
        return NULL;
    op->call.u.make.set.set = REMOTE_SET_MODE;
    op->call.u.make.set.mode = mode;
    op->u[1] = ENTRY_MAKE;
    return op;
}

void front_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                  struct fuse_file_info *fi)
{
    struct op *op = make_op(req, parent, name, mode & 07777);

    if (!op)
        return;
    op->u[0] = (uint32_t)fi->flags;
    op->u[1] = ENTRY_CREATE;
    op->call.u.make.exclusive = fi->flags & O_EXCL;
    op_submit(op, REMOTE_CREATE, make_done);
}

void front_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    if (S_ISREG(mode) || (mode & S_IFMT) == 0) {
        struct op *op = make_op(req, parent, name, mode & 07777);

        if (!op)
            return;
        op->call.u.make.exclusive = true;
        op_submit(op, REMOTE_CREATE, make_done);
        return;
    }
    struct op *op = make_op(req, parent, name, mode);

    if (!op)
        return;
    op->call.u.make.rdev = rdev;
    op_submit(op, REMOTE_MKNOD, make_done);
}

void front_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct op *op = make_op(req, parent, name, mode & 07777);

    if (op)
        op_submit(op, REMOTE_MKDIR, make_done);
}

void front_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
    struct op *op = make_op(req, parent, name, 0777);

    if (!op)
        return;
    op->name2 = strdup(link);
    if (!op->name2) {
        op_fail(op, ENOMEM);
        return;
    }
    op->call.u.make.linkname = op->name2;
    op_submit(op, REMOTE_SYMLINK, make_done);
}

/* ---- link --------------------------------------------------------------------------------- */

/* op->ino: the new name's directory; op->ino2: the file. */
static void link_reply(struct op *op)
{
    names_note_link(op->front);
    names_set(op->front, op->ino, op->name, op->ino2);
    entry_reply(op, op->ino, op->ino2);
}

static void link_attr_done(struct remote_call *call)
{
    struct op *op = op_of(call);

    if (call->error) {
        op_fail(op, -call->error);
        return;
    }
    attr_accept(op->front, op->ino2, &call->post, call);
    link_reply(op);
}

static void link_done(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct front *f = op->front;

    if (call->error) {
        if (call->error == -EEXIST || call->error == -ESTALE)
            attr_expire(op->ino);
        op_fail(op, -call->error);
        return;
    }
    dir_changed(f, op->ino, &call->dir_pre, &call->dir_post, call);
    links_changed(op->ino2);
    if (call->post.valid) {
        struct remote_wcc none = {.valid = false};

        attr_accept_own(f, op->ino2, &none, &call->post, call);
        link_reply(op);
        return;
    }
    struct fh fh = op->ino2->rec->fh;

    op_reset_call(op);
    op_submit_fh(op, REMOTE_GETATTR, &fh, link_attr_done);
}

void front_link(fuse_req_t req, fuse_ino_t nodeid, fuse_ino_t newparent, const char *newname)
{
    struct front *f = front_of(req);
    struct inode *ino = inode_by_nodeid(f, nodeid);

    if (!ino) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    struct op *op = name_op(req, newparent, newname);

    if (!op) {
        inode_unref(f, ino);
        return;
    }
    op->ino2 = ino;
    op->u[1] = ENTRY_MAKE;
    op->call.fh2 = op->ino->rec->fh;
    links_changed(ino); /* before the server does it: a GETATTR may overtake our reply */

    struct fh fh = ino->rec->fh;

    op_submit_fh(op, REMOTE_LINK, &fh, link_done);
}
