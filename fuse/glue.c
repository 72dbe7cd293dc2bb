// SPDX-License-Identifier: Apache-2.0
/*
 * The two tables of cache/, filled with the remote side and the kernel.
 *
 * Each remote call of the cache carries the credential of the open that caused it, and the handle
 * of the mapping's inode. Attributes that come back with READ are looked at (they may tell of a
 * change elsewhere); those with WRITE and COMMIT are own changes, whose token the cache itself
 * moves along.
 */
#include <errno.h>
#include <stdlib.h>

#include "cache/point.h"
#include "fuse/ops.h"

struct glue_call {
    struct remote_call call;
    struct front *front;
    union {
        struct cache_fetch *fetch;
        struct cache_write_rpc *write;
        struct cache_commit *commit;
        struct cache_getattr *getattr;
    };
};

static const struct cred nobody_special; /* uid 0 */

static struct inode *host_of(struct mapping *m)
{
    return mapping_host(m);
}

/* `cred` 0: none in particular; GETATTR needs no permission (RFC 1813 3.3.1). */
static struct glue_call *call_new(struct front *f, struct mapping *m, uint16_t cred,
                                  enum remote_op op, void (*done)(struct remote_call *))
{
    struct glue_call *g = calloc(1, sizeof *g);

    if (!g)
        abort(); /* the cache has no way to be told; its own records are sized in advance */
    g->front = f;
    g->call.op = op;
    g->call.cred = cred ? credtab_get(f->creds, cred) : &nobody_special;
    g->call.fh = host_of(m)->rec->fh;
    g->call.done = done;
    g->call.arg = g;
    return g;
}

static void submit(struct glue_call *g)
{
    remote_submit(g->front->remote, &g->call);
}

static void call_end(struct glue_call *g)
{
    remote_call_clear(g->front->remote, &g->call);
    free(g);
}

static struct token token_of_wcc(const struct remote_wcc *w)
{
    return (struct token){.ctime = w->ctime, .mtime = w->mtime, .size = w->size, .valid = w->valid};
}

/* ---- READ ---- */

static void fetched(struct remote_call *call)
{
    struct glue_call *g = call->arg;
    struct cache_fetch *fetch = g->fetch;

    fetch->error = call->error;
    fetch->done = call->error ? 0 : call->u.io.done;
    fetch->eof = call->u.io.eof;
    if (call->post.valid)
        attr_accept(g->front, host_of(fetch->m), &call->post, call);
    call_end(g);
    cache_fetch_done(fetch);
}

static void glue_fetch(void *ctx, struct cache_fetch *fetch)
{
    struct glue_call *g = call_new(ctx, fetch->m, fetch->cred, REMOTE_READ, fetched);

    g->fetch = fetch;
    g->call.u.io.offset = fetch->offset;
    g->call.u.io.count = fetch->count;
    g->call.u.io.iov = fetch->iov;
    g->call.u.io.iovcnt = fetch->iovcnt;
    submit(g);
}

/* ---- WRITE, COMMIT ---- */

/* A server may answer GETATTR for a removed file a little longer than WRITE or COMMIT (ganesha
 * does), so that what was asked after the removal did not tell: it is asked again. Referenced, or
 * NULL. */
static struct inode *victim_of(struct mapping *m, int error)
{
    struct inode *ino = host_of(m);

    if (error != -ESTALE || !atomic_load(&ino->lost_name))
        return NULL;
    inode_ref(ino);
    return ino;
}

static void victim_look(struct front *f, struct inode *ino)
{
    if (!ino)
        return;
    victim_removed(f, ino, &nobody_special);
    inode_unref(f, ino);
}

static void written(struct remote_call *call)
{
    struct glue_call *g = call->arg;
    struct cache_write_rpc *w = g->write;

    w->error = call->error;
    w->done = call->error ? 0 : call->u.io.done;
    w->committed = call->u.io.stable == REMOTE_FILE_SYNC;
    memcpy(w->verf, call->u.io.verf, sizeof w->verf);
    w->has_pre = call->pre.valid;
    w->pre = token_of_wcc(&call->pre);
    w->has_post = call->post.valid;
    w->post = call->post.attr;
    w->sent_ns = call->sent_ns;

    struct front *f = g->front;
    struct inode *victim = victim_of(w->m, w->error);

    call_end(g);
    cache_write_done(w);
    victim_look(f, victim);
}

static void glue_write(void *ctx, struct cache_write_rpc *w)
{
    struct glue_call *g = call_new(ctx, w->m, w->cred, REMOTE_WRITE, written);

    g->write = w;
    g->call.u.io.offset = w->offset;
    g->call.u.io.count = w->count;
    g->call.u.io.iov = w->iov;
    g->call.u.io.iovcnt = w->iovcnt;
    g->call.u.io.stable = w->file_sync ? REMOTE_FILE_SYNC : REMOTE_UNSTABLE;
    submit(g);
}

static void committed(struct remote_call *call)
{
    struct glue_call *g = call->arg;
    struct cache_commit *c = g->commit;

    c->error = call->error;
    memcpy(c->verf, call->u.io.verf, sizeof c->verf);
    c->has_pre = call->pre.valid;
    c->pre = token_of_wcc(&call->pre);
    c->has_post = call->post.valid;
    c->post = call->post.attr;
    c->sent_ns = call->sent_ns;

    struct front *f = g->front;
    struct inode *victim = victim_of(c->m, c->error);

    call_end(g);
    cache_commit_done(c);
    victim_look(f, victim);
}

static void glue_commit(void *ctx, struct cache_commit *c)
{
    struct glue_call *g = call_new(ctx, c->m, c->cred, REMOTE_COMMIT, committed);

    g->commit = c;
    submit(g);
}

/* ---- GETATTR ---- */

static void asked(struct remote_call *call)
{
    struct glue_call *g = call->arg;
    struct cache_getattr *a = g->getattr;

    POINT("reval.answered");
    a->error = call->error;
    a->attr = call->post.attr;
    a->sent_ns = call->sent_ns;
    call_end(g);
    a->done(a);
}

static void glue_getattr(void *ctx, struct cache_getattr *a)
{
    struct glue_call *g = call_new(ctx, a->m, 0, REMOTE_GETATTR, asked);

    g->getattr = a;
    submit(g);
}

const struct cache_remote_ops glue_remote_ops = {
    .fetch = glue_fetch, .write = glue_write, .commit = glue_commit, .getattr = glue_getattr};

/* ---- the kernel ---- */

static int glue_unmap(void *ctx, struct mapping *m, uint64_t off, uint64_t len, bool writers)
{
    return unmap_inode(ctx, host_of(m), off, len, writers);
}

static void glue_busy(void *ctx, struct mapping *m, bool busy)
{
    if (busy)
        inode_ref(host_of(m));
    else
        inode_unref(ctx, host_of(m));
}

static void glue_post(void *ctx, struct mapping *m, const struct attr *attr, uint64_t sent_ns)
{
    const struct remote_wcc none = {0};
    const struct remote_post post = {.valid = true, .attr = *attr};
    const struct remote_call call = {
        .op = REMOTE_WRITE, .sent_ns = sent_ns, .replied_ns = now_ns()};

    attr_accept_own(ctx, host_of(m), &none, &post, &call);
}

/* OPEN asks, and takes a change of less than a tick ago for one that may have been the last but one
 * (judge() in revalidate.c). */
static bool glue_worth_proving(void *ctx, struct mapping *m)
{
    struct front *f = ctx;

    return !f->config.cto || !attr_clock_ticks(f);
}

const struct cache_kernel_ops glue_kernel_ops = {
    .unmap = glue_unmap, .busy = glue_busy, .post = glue_post, .worth_proving = glue_worth_proving};
