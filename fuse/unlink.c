// SPDX-License-Identifier: Apache-2.0
/*
 * Removing names: unlink, rmdir, rename.
 *
 * UNLINK and RENAME first find out which inode their victim is (names.c; if that does not know, by
 * a LOOKUP): a file that is open here is kept under a silly name (silly.c), and what is known of
 * the victim and of the moved file changes (nlink, ctime).
 *
 *   unlink:  [LOOKUP]  ->  REMOVE
 *            [LOOKUP]  ->  RENAME to the silly name          open here
 *   rename:  [LOOKUP of the target]  ->  [LINK target to its silly name]  ->  RENAME
 *
 * A server that has no LINK for the file gets a RENAME to the silly name instead; only then is the
 * target's name absent for a moment, and lost if the rename fails.
 *
 * RENAME with flags (RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT) is refused with EINVAL:
 * NFSv3 cannot promise any of them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/name.h"
#include "fuse/ops.h"
#include "fuse/session.h"

/* A killed caller was told EINTR, and its operation changed the names all the same: what the kernel
 * learned of them meanwhile is over. */
static void op_done(struct op *op, int error)
{
    if (op_claim(op)) {
        fuse_reply_err(op->req, -error);
    } else if (!error) {
        session_forget_name(op->front, op->ino->nodeid, op->name);
        if (op->name2)
            session_forget_name(op->front, op->ino2->nodeid, op->name2);
    }
}

static void dir_doubtful(struct inode *dir, int error)
{
    if (error == -ENOENT || error == -ESTALE || error == -EEXIST || error == -ENOTEMPTY)
        attr_expire(dir);
}

/* ---- rmdir --------------------------------------------------------------------------------- */

/* The silly name of a file that was closed just now is on its way out of the directory: the kernel
 * does not wait for RELEASE. So NOTEMPTY is believed only when it stays. */
#define RMDIR_TRIES 6
#define RMDIR_NS    1000000ull

struct rmdir_again {
    struct loop_timer timer;
    struct op *op;
};

static void removed(struct remote_call *call);

static void rmdir_again(struct loop_timer *timer)
{
    struct rmdir_again *again = (struct rmdir_again *)timer;
    struct op *op = again->op;

    free(again);
    op_reset_call(op);
    op->call.name = op->name;
    op_submit(op, REMOTE_RMDIR, removed);
}

static bool rmdir_later(struct op *op)
{
    if (!op->ino2 || op->u[0] == RMDIR_TRIES || !silly_in(op->front, op->ino2) || !loop_current())
        return false;
    struct rmdir_again *again = calloc(1, sizeof(*again));

    if (!again)
        return false;
    again->op = op;
    again->timer.fn = rmdir_again;
    loop_timer_set(loop_current(), &again->timer, RMDIR_NS << op->u[0]++);
    return true;
}

/* ---- unlink ------------------------------------------------------------------------------- */

static void removed(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct front *f = op->front;

    if (call->error == -ENOTEMPTY && call->op == REMOTE_RMDIR && rmdir_later(op))
        return;
    if (call->error) {
        dir_doubtful(op->ino, call->error);
    } else {
        dir_changed(f, op->ino, &call->dir_pre, &call->dir_post, call);
        names_drop(f, op->ino, op->name);
        if (op->ino2) {
            links_changed(op->ino2);
            victim_removed(f, op->ino2, &op->cred);
        }
    }
    op_done(op, call->error);
    if (op->p[2]) /* see unlink_go() */
        removal_ends(f, op->p[2], call->error);
    op_end(op);
}

static void renamed_away(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct front *f = op->front;
    struct silly *silly = op->p[0];
    int err = call->error;

    if (!err) {
        dir_changed(f, op->ino, &call->dir_pre, &call->dir_post, call);
        links_changed(op->ino2);
        names_set(f, op->ino, silly_name(silly), op->ino2);
    } else {
        dir_doubtful(op->ino, err);
    }
    silly_done(f, silly, !err);
    op_done(op, err);
    op_end(op);
}

static void unlink_go(struct op *op)
{
    struct inode *victim = op->ino2;

    op_reset_call(op);
    op->call.name = op->name;
    if (victim)
        links_changed(victim); /* before the server does it: a GETATTR may overtake our reply */
    if (!victim || removal_begins(victim)) {
        op->p[2] = victim;
        op_submit(op, REMOTE_REMOVE, removed);
        return;
    }
    struct silly *silly = silly_new(op->front, victim, op->ino, &op->cred);

    if (!silly) {
        op_fail(op, ENOMEM);
        return;
    }
    op->p[0] = silly;
    op->call.fh2 = op->ino->rec->fh;
    op->call.name2 = silly_name(silly);
    op->call.u.rename.fileid = victim->fileid;
    op_submit(op, REMOTE_RENAME, renamed_away);
}

static void unlink_looked_up(struct remote_call *call)
{
    struct op *op = op_of(call);

    if (call->error) {
        dir_doubtful(op->ino, call->error);
        op_fail(op, -call->error);
        return;
    }
    if (call->has_obj)
        op->ino2 = inode_get(op->front, &call->obj, NULL);
    if (op->ino2 && silly_is(op->ino2, op->ino, op->name)) {
        op_fail(op, EBUSY);
        return;
    }
    unlink_go(op);
}

void front_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct op *op = name_op(req, parent, name);

    if (!op)
        return;
    op->ino2 = names_find(op->front, op->ino, name);
    if (!op->ino2)
        op_submit(op, REMOTE_LOOKUP, unlink_looked_up);
    else if (silly_is(op->ino2, op->ino, name))
        op_fail(op, EBUSY);
    else
        unlink_go(op);
}

void front_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct op *op = name_op(req, parent, name);

    if (!op)
        return;
    op->ino2 = names_find(op->front, op->ino, name);
    op_submit(op, REMOTE_RMDIR, removed);
}

/* ---- rename ------------------------------------------------------------------------------- */

/* Beside the directories: op->name, op->name2. */
struct renaming {
    struct inode *source, *victim; /* referenced, or NULL */
    struct silly *silly;           /* its LINK or RENAME is under way */
    bool saved;                    /* the victim has its silly name */
    bool removing;                 /* the victim is not open: removal_begins() */
};

static void rename_end(struct op *op)
{
    struct renaming *r = op->p[0];

    if (r->removing)
        removal_ends(op->front, r->victim, op->call.error);
    if (r->source)
        inode_unref(op->front, r->source);
    if (r->victim)
        inode_unref(op->front, r->victim);
    free(r);
    op_end(op);
}

static void rename_fail(struct op *op, int error)
{
    if (op_claim(op))
        fuse_reply_err(op->req, error);
    rename_end(op);
}

static void rename_done(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct front *f = op->front;
    struct renaming *r = op->p[0];

    if (call->error) {
        dir_doubtful(op->ino, call->error);
        dir_doubtful(op->ino2, call->error);
        if (r->saved)
            silly_remove(f, r->victim);
        rename_fail(op, -call->error);
        return;
    }
    dir_changed(f, op->ino, &call->dir_pre, &call->dir_post, call);
    if (op->ino2 != op->ino)
        dir_changed(f, op->ino2, &call->dir2_pre, &call->dir2_post, call);
    names_drop(f, op->ino, op->name);
    names_drop(f, op->ino2, op->name2);
    if (r->victim) {
        links_changed(r->victim);
        victim_removed(f, r->victim, &op->cred);
    }
    if (r->source) {
        links_changed(r->source);
        names_set(f, op->ino2, op->name2, r->source);
    }
    op_done(op, 0);
    rename_end(op);
}

static void rename_submit(struct op *op)
{
    struct renaming *r = op->p[0];

    op_reset_call(op);
    op->call.name = op->name;
    op->call.fh2 = op->ino2->rec->fh;
    op->call.name2 = op->name2;
    if (r->source) {
        links_changed(r->source);
        op->call.u.rename.fileid = r->source->fileid;
    }
    if (r->victim)
        links_changed(r->victim);
    op_submit(op, REMOTE_RENAME, rename_done);
}

static void victim_renamed(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct renaming *r = op->p[0];
    int err = call->error;

    if (!err) {
        dir_changed(op->front, op->ino2, &call->dir_pre, &call->dir_post, call);
        links_changed(r->victim);
    }
    silly_done(op->front, r->silly, !err);
    if (err && err != -ENOENT)
        rename_fail(op, -err);
    else
        rename_submit(op);
}

static void victim_linked(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct renaming *r = op->p[0];

    if (!call->error) {
        dir_changed(op->front, op->ino2, &call->dir_pre, &call->dir_post, call);
        r->saved = true;
        silly_done(op->front, r->silly, true);
        rename_submit(op);
        return;
    }
    if (call->error == -ESTALE || call->error == -ENOENT) { /* gone already: nothing to save */
        silly_done(op->front, r->silly, false);
        rename_submit(op);
        return;
    }
    op_reset_call(op);
    op->call.name = op->name2;
    op->call.fh2 = op->ino2->rec->fh;
    op->call.name2 = silly_name(r->silly);
    op->call.u.rename.fileid = r->victim->fileid;
    op_submit_fh(op, REMOTE_RENAME, &op->ino2->rec->fh, victim_renamed);
}

static void rename_go(struct op *op)
{
    struct renaming *r = op->p[0];

    if (r->victim && r->victim != r->source)
        r->removing = removal_begins(r->victim);
    if (!r->victim || r->victim == r->source || r->removing) {
        rename_submit(op);
        return;
    }
    r->silly = silly_new(op->front, r->victim, op->ino2, &op->cred);
    if (!r->silly) {
        rename_fail(op, ENOMEM);
        return;
    }
    op_reset_call(op);
    op->call.fh2 = op->ino2->rec->fh;
    op->call.name = silly_name(r->silly);
    links_changed(r->victim);
    op_submit_fh(op, REMOTE_LINK, &r->victim->rec->fh, victim_linked);
}

static void rename_looked_up(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct renaming *r = op->p[0];

    if (call->error == 0 && call->has_obj)
        r->victim = inode_get(op->front, &call->obj, NULL);
    if (call->error && call->error != -ENOENT)
        rename_fail(op, -call->error);
    else
        rename_go(op);
}

static void rename_find_victim(struct op *op)
{
    struct renaming *r = op->p[0];

    if (r->victim || !names_may_miss(op->front, op->ino2)) {
        rename_go(op);
        return;
    }
    op_reset_call(op);
    op->call.name = op->name2;
    op_submit_fh(op, REMOTE_LOOKUP, &op->ino2->rec->fh, rename_looked_up);
}

/* A file with two names is known by one of them: its attributes change by the other, too. */
static void rename_source_looked_up(struct remote_call *call)
{
    struct op *op = op_of(call);
    struct renaming *r = op->p[0];

    if (call->error == 0 && call->has_obj)
        r->source = inode_get(op->front, &call->obj, NULL);
    rename_find_victim(op); /* if there is none, the RENAME will say so */
}

void front_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                  const char *newname, unsigned int flags)
{
    struct front *f = front_of(req);

    if (flags) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    struct op *op = name_op(req, parent, name);

    if (!op)
        return;
    op->ino2 = inode_by_nodeid(f, newparent);
    if (!op->ino2 || !name_fits(f, newname)) {
        op_fail(op, op->ino2 ? ENAMETOOLONG : ESTALE);
        return;
    }
    struct renaming *r = calloc(1, sizeof(*r));

    op->name2 = strdup(newname);
    if (!r || !op->name2) {
        free(r);
        op_fail(op, ENOMEM);
        return;
    }
    op->p[0] = r;
    r->source = names_find(f, op->ino, name);
    r->victim = names_find(f, op->ino2, newname);
    if ((r->victim && silly_is(r->victim, op->ino2, newname)) ||
        (r->source && silly_is(r->source, op->ino, name))) {
        rename_fail(op, EBUSY);
        return;
    }
    if (!r->source && names_may_miss(f, op->ino)) {
        op->call.name = op->name;
        op_submit_fh(op, REMOTE_LOOKUP, &op->ino->rec->fh, rename_source_looked_up);
        return;
    }
    rename_find_victim(op);
}
