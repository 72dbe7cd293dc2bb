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
 * - An exclusive CREATE is replayed by its verifier, but servers make the file first and store the
 *   verifier (in its times) afterwards: one that dies in between answers EXIST to the
 * retransmission and leaves a file that nobody was told of. Such a half-made file is claimed: see
 * half_made().
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
    case REMOTE_CREATE:
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

/* The verifier of an exclusive CREATE stands in the file's times (RFC 1813 3.3.8): in which order,
 * and whether with all 32 bits of each word, is the server's choice. */
static bool has_our_verifier(const struct remote_call *call, const struct attr *a)
{
    uint32_t word[2];
    memcpy(word, call->p.verf, sizeof(word));
    uint32_t atime = (uint32_t)a->atime.tv_sec, mtime = (uint32_t)a->mtime.tv_sec;
    uint32_t first = (atime ^ word[0]) | (mtime ^ word[1]);
    uint32_t second = (mtime ^ word[0]) | (atime ^ word[1]);
    return !(first & INT32_MAX) || !(second & INT32_MAX);
}

/*
 * A file as the server's own open() left it, before it stored a verifier: untouched since it was
 * made, and with another mode than this call is going to give it. Once its maker was answered it
 * has the verifier, and then its mode; so who made it died with the server, and was either this
 * call or one that waits as this one does. Whose it is then, a SETATTR guarded by its ctime
 * decides: one of them has it, the other finds it changed. If the mode that is wanted is the one
 * that the server begins with, a finished file looks the same, and is nobody's to claim.
 */
static bool half_made(const struct remote_call *call, const struct attr *a)
{
    return ts_equal(a->atime, a->ctime) && ts_equal(a->mtime, a->ctime) &&
           (call->u.make.set.set & REMOTE_SET_MODE) &&
           (a->mode & 07777) != (call->u.make.set.mode & 07777) && a->uid == call->cred->uid;
}

static bool created(struct remote_call *call, const struct attr *a)
{
    if (!S_ISREG(a->mode) || a->nlink != 1 || a->size != 0)
        return false;
    if (!call->u.make.exclusive || (call->p.flags & CALL_GUARDED) || has_our_verifier(call, a))
        return true;
    if (!half_made(call, a))
        return false;
    call->p.flags |= CALL_CLAIMS;
    call->u.make.guard_ctime = a->ctime;
    return true;
}

/* Is what has the name what this call would have made, moments ago? */
static bool could_be_ours(struct remote_call *call, const struct nfs3_result *res)
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
        return created(call, a);
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
            bool lost = res->status == ST_NOT_SYNC && (call->p.flags & CALL_CLAIMS);
            conn_done(c, call, lost ? call->p.saved : res->error);
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
