// SPDX-License-Identifier: Apache-2.0
/*
 * What an operation needs besides one RPC.
 *
 * - JUKEBOX: the server wants to be asked later (RFC 1813 section 2.6): again, with a new XID.
 * - The handle and the attributes of a CREATE or LOOKUP reply are optional in NFSv3: asked for.
 * - An exclusive CREATE carries a verifier where others carry attributes: a SETATTR follows.
 * - Exactly once. A retransmission may be executed twice where the server's reply cache does not
 *   know it any more. NOENT for a REMOVE, RMDIR or RENAME, and EXIST for what makes a name, can
 *   then be the answer to our own success; a LOOKUP tells. What it cannot tell is somebody else's
 *   doing between the two: the operation then has the outcome of one of the two orders.
 *
 * Errors: the operation's own, or that of the step that failed. When an exclusive CREATE succeeded
 * and its SETATTR did not, the SETATTR's error is returned and the file stays, as in Linux's
 * nfs3_proc_create().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/nfs/client.h"

static void take_dir(struct remote_call *call, const struct nfs3_result *res)
{
    if (res->dir.valid)
        call->dir_post = res->dir;
    if (res->dir_pre.valid)
        call->dir_pre = res->dir_pre;
    if (res->dir2.valid)
        call->dir2_post = res->dir2;
    if (res->dir2_pre.valid)
        call->dir2_pre = res->dir2_pre;
}

static void take_obj(struct remote_call *call, const struct nfs3_result *res)
{
    if (res->has_obj) {
        call->has_obj = true;
        call->obj = res->obj;
    }
    if (res->post.valid)
        call->post = res->post;
    if (res->pre.valid)
        call->pre = res->pre;
}

static bool makes_object(enum remote_op op)
{
    return op == REMOTE_LOOKUP || op == REMOTE_CREATE || op == REMOTE_MKDIR ||
           op == REMOTE_SYMLINK || op == REMOTE_MKNOD;
}

/* What is still missing of a success, or its end. */
static void complete(struct conn *c, struct remote_call *call)
{
    if (makes_object(call->op)) {
        if (!call->has_obj) {
            conn_next_step(c, call, STEP_OBJ_LOOKUP);
            return;
        }
        if (call->op == REMOTE_CREATE && call->u.make.exclusive &&
            !(call->p.flags & CALL_GUARDED) && call->p.step != STEP_EXCL_SETATTR &&
            call->p.step != STEP_OBJ_GETATTR) {
            call->post.valid = false; /* its times are the verifier */
            conn_next_step(c, call, STEP_EXCL_SETATTR);
            return;
        }
        if (!call->post.valid) {
            conn_next_step(c, call, STEP_OBJ_GETATTR);
            return;
        }
    }
    conn_done(c, call, 0);
}

static bool take_text(struct remote_call *call, const struct nfs3_result *res)
{
    char *text = malloc(res->text_len + 1);
    if (!text)
        return false;
    memcpy(text, res->text, res->text_len);
    text[res->text_len] = 0;
    call->u.readlink.text = text;
    return true;
}

/* Could the reply be that of a second execution? Then see whether the first one did the work. */
static enum step verification(const struct remote_call *call, int error)
{
    if (!call->retransmitted)
        return STEP_MAIN;
    switch (call->op) {
    case REMOTE_REMOVE:
    case REMOTE_RMDIR:
        return error == -ENOENT ? STEP_VERIFY_GONE : STEP_MAIN;
    case REMOTE_RENAME:
        return error == -ENOENT ? STEP_VERIFY_RENAMED : STEP_MAIN;
    case REMOTE_CREATE: /* EXCLUSIVE replays by its verifier, UNCHECKED cannot exist */
        return error == -EEXIST && (call->p.flags & CALL_GUARDED) ? STEP_VERIFY_MADE : STEP_MAIN;
    case REMOTE_MKDIR:
    case REMOTE_SYMLINK:
    case REMOTE_MKNOD:
    case REMOTE_LINK:
        return error == -EEXIST ? STEP_VERIFY_MADE : STEP_MAIN;
    default:
        return STEP_MAIN;
    }
}

static void main_replied(struct conn *c, struct remote_call *call, struct nfs3_result *res)
{
    take_dir(call, res);
    take_obj(call, res);
    if (!res->error) {
        if (call->op == REMOTE_WRITE && res->pre.valid)
            __atomic_store_n(&c->r->base.wcc_on_write, true, __ATOMIC_RELAXED);
        if (call->op == REMOTE_READLINK && !take_text(call, res)) {
            conn_done(c, call, -ENOMEM);
            return;
        }
        complete(c, call);
        return;
    }
    if (res->status == ST_NOTSUPP && call->op == REMOTE_CREATE && call->u.make.exclusive &&
        !(call->p.flags & CALL_GUARDED)) {
        call->p.flags |= CALL_GUARDED;
        conn_next_step(c, call, STEP_MAIN);
        return;
    }
    enum step verify = verification(call, res->error);
    if (verify != STEP_MAIN) {
        call->p.saved = res->error;
        conn_next_step(c, call, verify);
        return;
    }
    conn_done(c, call, res->error);
}

/* Is what has the name what this call would have made, moments ago? */
static bool could_be_ours(const struct remote_call *call, const struct nfs3_result *res)
{
    const struct attr *a = &res->post.attr, *file = &call->post.attr;
    if (call->op == REMOTE_LINK)
        return fh_equal(&res->obj, &call->fh) ||
               (res->post.valid && call->post.valid && a->fileid == file->fileid &&
                a->fsid == file->fsid);
    if (!res->post.valid)
        return false;
    bool untouched = ts_equal(a->mtime, a->ctime);
    switch (call->op) {
    case REMOTE_MKDIR:
        return S_ISDIR(a->mode) && a->nlink <= 2 && untouched;
    case REMOTE_CREATE:
        return S_ISREG(a->mode) && a->nlink == 1 && a->size == 0;
    case REMOTE_SYMLINK:
        return S_ISLNK(a->mode) && a->nlink == 1;
    case REMOTE_MKNOD:
        return (a->mode & S_IFMT) == (call->u.make.set.mode & S_IFMT) && a->nlink == 1 &&
               (!(S_ISCHR(a->mode) || S_ISBLK(a->mode)) || a->rdev == call->u.make.rdev);
    default:
        return false;
    }
}

static void made_replied(struct conn *c, struct remote_call *call, struct nfs3_result *res)
{
    if (res->error || !could_be_ours(call, res)) {
        conn_done(c, call, call->p.saved);
        return;
    }
    take_dir(call, res);
    if (call->op == REMOTE_LINK)
        res->has_obj = false;
    take_obj(call, res);
    if (call->op == REMOTE_SYMLINK)
        conn_next_step(c, call, STEP_VERIFY_TEXT);
    else
        complete(c, call);
}

static void renamed_replied(struct conn *c, struct remote_call *call, struct nfs3_result *res)
{
    uint64_t fileid = call->u.rename.fileid;
    bool there = !res->error && (!fileid || (res->post.valid && res->post.attr.fileid == fileid));
    if (res->dir.valid)
        call->dir2_post = res->dir;
    conn_done(c, call, there ? 0 : call->p.saved);
}

static void text_replied(struct conn *c, struct remote_call *call, struct nfs3_result *res)
{
    bool same = !res->error && strlen(call->u.make.linkname) == res->text_len &&
                memcmp(call->u.make.linkname, res->text, res->text_len) == 0;
    if (same)
        complete(c, call);
    else
        conn_done(c, call, call->p.saved);
}

void call_replied(struct conn *c, struct remote_call *call, struct nfs3_result *res)
{
    if (res->status == ST_JUKEBOX && !res->malformed) {
        conn_delay(c, call);
        return;
    }
    switch ((enum step)call->p.step) {
    case STEP_MAIN:
        main_replied(c, call, res);
        return;
    case STEP_OBJ_LOOKUP:
    case STEP_OBJ_GETATTR:
    case STEP_EXCL_SETATTR:
        if (res->error) {
            conn_done(c, call, res->error);
            return;
        }
        take_dir(call, res);
        res->pre.valid = false;
        take_obj(call, res);
        complete(c, call);
        return;
    case STEP_VERIFY_GONE:
        if (res->dir.valid)
            call->dir_post = res->dir;
        conn_done(c, call, res->error == -ENOENT ? 0 : call->p.saved);
        return;
    case STEP_VERIFY_RENAMED:
        renamed_replied(c, call, res);
        return;
    case STEP_VERIFY_MADE:
        made_replied(c, call, res);
        return;
    case STEP_VERIFY_TEXT:
        text_replied(c, call, res);
        return;
    }
}
