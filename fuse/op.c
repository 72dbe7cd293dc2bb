// SPDX-License-Identifier: Apache-2.0
/*
 * A request in flight.
 *
 * A handler makes an op, which from then on owns the FUSE request: op_new() links it into the list
 * of ops in flight and asks libfuse to tell of an INTERRUPT. The handler submits a remote call (or
 * parks the op on something of its own) and returns. Whoever completes that wins op_claim(),
 * replies, and ends the op.
 *
 * Signals. The kernel sends one INTERRUPT for a request when its caller gets any signal, fatal or
 * not, and none after it. A wait for a hard mount ends by a fatal signal only (TASK_KILLABLE of the
 * kernel's NFS client), so the caller's pending SIGKILL is looked for: at the INTERRUPT, and every
 * 100 ms as long as an interrupted request is in flight. A dying caller is answered EINTR; the
 * remote call goes on unseen, so that what changes something at the server ends in a known state.
 *
 * libfuse frees a request with its reply, and may call the interrupt function on another thread at
 * that very moment. Therefore the function is given the front, not the op, and finds the op by
 * its request under op_lock: an op in the list is alive, and its request is not replied to as long
 * as `claimed` is false.
 *
 * Lock order: libfuse's request lock > op_lock > libfuse's session lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuse/ops.h"
#include "fuse/session.h"

/* libfuse calls an interrupt function that is registered late from within the registration, where a
 * reply would free the request under its lock. */
static __thread bool registering;

/* ---- credentials -------------------------------------------------------------------------- */

#define GROUPS_CACHE 64
#define GROUPS_NS    1000000000ull /* setgroups(2) alone shows after this time at the latest */

struct groups_entry {
    uint64_t until;
    pid_t tid;
    struct cred cred;
};

static void own_groups(struct cred *cred)
{
    gid_t list[1024];
    int n = getgroups(1024, list);

    cred->ngroups = 0;
    for (int i = 0; i < n && cred->ngroups < CRED_GROUPS_MAX; i++)
        if (list[i] != cred->gid)
            cred->groups[cred->ngroups++] = list[i];
}

void req_cred(struct front *f, fuse_req_t req, struct cred *cred)
{
    static __thread struct groups_entry cache[GROUPS_CACHE];
    const struct fuse_ctx *ctx = fuse_req_ctx(req);

    memset(cred, 0, sizeof(*cred));
    cred->uid = ctx->uid;
    cred->gid = ctx->gid;
    /* Groups give root nothing, and the kernel's own requests (pid 0) have none. */
    if (ctx->uid == 0 || ctx->pid == 0)
        return;
    if (!f->config.allow_other && ctx->uid == getuid()) {
        own_groups(cred);
        return;
    }
    struct groups_entry *e = &cache[((uint32_t)ctx->pid * 2654435761u) >> 26];
    uint64_t now = now_ns();

    if (e->until > now && e->tid == ctx->pid && e->cred.uid == ctx->uid &&
        e->cred.gid == ctx->gid) {
        *cred = e->cred;
        return;
    }
    gid_t list[256];
    int n = fuse_req_getgroups(req, 256, list);

    if (n > 256)
        n = 256;
    for (int i = 0; i < n && cred->ngroups < CRED_GROUPS_MAX; i++)
        if (list[i] != cred->gid)
            cred->groups[cred->ngroups++] = list[i];
    if (n >= 0)
        *e = (struct groups_entry){.until = now + GROUPS_NS, .tid = ctx->pid, .cred = *cred};
}

/* ---- signals ------------------------------------------------------------------------------ */

bool thread_is_dying(pid_t tid)
{
    char path[64], text[4096];

    if (tid <= 0)
        return false;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof(text) - 1);

    close(fd);
    if (n <= 0)
        return false;
    text[n] = 0;
    static const char *const fields[] = {"\nSigPnd:", "\nShdPnd:"};

    for (int i = 0; i < 2; i++) {
        const char *at = strstr(text, fields[i]);

        if (at && (strtoull(at + strlen(fields[i]), NULL, 16) & (1ull << 8)))
            return true; /* SIGKILL is bit 9 - 1 */
    }
    return false;
}

bool op_hold(struct op *op, bool on)
{
    struct front *f = op->front;

    pthread_mutex_lock(&f->op_lock);

    bool ours = !atomic_load(&op->claimed);

    op->held = on && ours;
    pthread_mutex_unlock(&f->op_lock);
    return ours;
}

/* Answers an interrupted op if its caller is dying. Op lock held; returns whether to go on looking.
 */
static bool op_check_interrupted(struct op *op)
{
    if (atomic_load(&op->claimed))
        return false;
    if (op->held)
        return true;
    if (!thread_is_dying(op->tid))
        return true;
    if (op_claim(op)) {
        atomic_fetch_add(&op->front->stats.interrupted, 1);
        fuse_reply_err(op->req, EINTR);
    }
    return false;
}

bool ops_check_interrupted(struct front *f)
{
    bool left = false;

    pthread_mutex_lock(&f->op_lock);
    for (struct op *op = f->ops; op; op = op->park_next)
        if (op->interrupted)
            left |= op->interrupted = op_check_interrupted(op);
    pthread_mutex_unlock(&f->op_lock);
    return left;
}

void op_interrupted(fuse_req_t req, void *data)
{
    struct front *f = data;
    bool left = false;

    pthread_mutex_lock(&f->op_lock);
    for (struct op *op = f->ops; op; op = op->park_next) {
        if (op->req != req || atomic_load(&op->claimed))
            continue;
        op->interrupted = true;
        left = registering || op_check_interrupted(op);
        break;
    }
    pthread_mutex_unlock(&f->op_lock);
    if (left)
        session_watch_interrupted(f);
}

/* ---- ops ---------------------------------------------------------------------------------- */

struct op *op_new(struct front *f, fuse_req_t req, struct inode *ino)
{
    struct op *op = calloc(1, sizeof(*op));

    if (!op) {
        fuse_reply_err(req, ENOMEM);
        return NULL;
    }
    op->front = f;
    op->req = req;
    op->tid = fuse_req_ctx(req)->pid;
    req_cred(f, req, &op->cred);
    if (ino) {
        inode_ref(ino);
        op->ino = ino;
    }
    pthread_mutex_lock(&f->op_lock);
    op->park_next = f->ops;
    if (f->ops)
        f->ops->park_prev = op;
    f->ops = op;
    pthread_mutex_unlock(&f->op_lock);

    registering = true;
    fuse_req_interrupt_func(req, op_interrupted, f);
    registering = false;
    return op;
}

void op_submit(struct op *op, enum remote_op what, void (*done)(struct remote_call *))
{
    op->call.op = what;
    op->call.cred = &op->cred;
    if (op->ino)
        op->call.fh = op->ino->rec->fh;
    op->call.arg = op;
    op->call.done = done;
    op->submitted = true;
    remote_submit(op->front->remote, &op->call);
}

void op_reset_call(struct op *op)
{
    if (op->submitted)
        remote_call_clear(op->front->remote, &op->call);
    op->submitted = false;
    memset(&op->call, 0, sizeof(op->call));
}

bool op_claim(struct op *op)
{
    return !atomic_exchange(&op->claimed, true);
}

void op_fail(struct op *op, int error)
{
    if (error == ESTALE)
        ahead_distrust(op->front);
    if (op_claim(op))
        fuse_reply_err(op->req, error);
    op_end(op);
}

void op_end(struct op *op)
{
    struct front *f = op->front;

    /* An op that ends unanswered would hang its caller for good. */
    if (op_claim(op)) {
        atomic_fetch_add(&f->stats.alarms, 1);
        fuse_reply_err(op->req, EIO);
    }
    pthread_mutex_lock(&f->op_lock);
    if (op->park_prev)
        op->park_prev->park_next = op->park_next;
    else
        f->ops = op->park_next;
    if (op->park_next)
        op->park_next->park_prev = op->park_prev;
    pthread_mutex_unlock(&f->op_lock);

    if (op->submitted)
        remote_call_clear(f->remote, &op->call);
    if (op->opening)
        open_ends(f, op->ino);
    if (op->ino)
        inode_unref(f, op->ino);
    if (op->ino2)
        inode_unref(f, op->ino2);
    free(op->name);
    free(op->name2);
    free(op);
}
