// SPDX-License-Identifier: Apache-2.0
/*
 * Raw libnfs: what the network and the server can do with nothing in between. READs and WRITEs of
 * 1 MiB, --depth of them in flight, WRITEs UNSTABLE and a COMMIT at the end; GETATTRs one at a
 * time. The bytes that READ brings stay in libnfs's buffer: not even copied to where a program
 * could use them.
 *
 * The file is created by libnfs, too. Errors end a cell, never the process.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <nfsc/libnfs.h>

#include <nfsc/libnfs-raw.h>

#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-nfs.h>
#include <nfsc/libnfs-raw-portmap.h>

#include "daemon/bench/limit_cells.h"

#define MIB (1u << 20)

struct handle {
    unsigned len;
    char bytes[64];
};

static struct raw {
    struct rpc_context *rpc;
    struct handle root, file;
    char name[48];
    unsigned users, mib_there;
    char why_not[256];
} raw;

/* What one wait is for. */
struct wait {
    unsigned done, until;
    bool failed;
    char why[128];
    struct handle *take; /* where a reply's handle goes */
    int port;
    /* A stream: each reply sends the next request. */
    bool writing;
    char *data;
    unsigned next, total;
};

static void fail(struct wait *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct wait *w, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    if (!w->failed)
        vsnprintf(w->why, sizeof w->why, format, ap);
    va_end(ap);
    w->failed = true;
}

static bool wait_for(struct rpc_context *rpc, struct wait *w)
{
    while (!w->failed && w->done < w->until) {
        struct pollfd p = {.fd = rpc_get_fd(rpc), .events = (short)rpc_which_events(rpc)};
        int n = poll(&p, 1, 10000);
        if (n < 0 && errno == EINTR && !bench_stopped())
            continue;
        if (n <= 0)
            fail(w, n < 0 ? "interrupted" : "no answer in 10 s");
        else if (rpc_service(rpc, p.revents) < 0)
            fail(w, "%s", rpc_get_error(rpc));
    }
    return !w->failed;
}

static void take(struct wait *w, const char *bytes, unsigned len)
{
    if (len > sizeof w->take->bytes) {
        fail(w, "a file handle of %u bytes", len);
        return;
    }
    memcpy(w->take->bytes, bytes, len);
    w->take->len = len;
    w->done++;
}

static struct nfs_fh3 fh_of(struct handle *h)
{
    struct nfs_fh3 fh = {.data = {h->len, h->bytes}};
    return fh;
}

/* ---- callbacks ------------------------------------------------------------------------------- */

static void on_connect(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct wait *w = arg;

    if (status != RPC_STATUS_SUCCESS)
        fail(w, "cannot connect");
    w->done++;
}

static void on_port(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct wait *w = arg;

    if (status != RPC_STATUS_SUCCESS || *(uint32_t *)data == 0)
        fail(w, "rpcbind does not know it");
    else
        w->port = (int)*(uint32_t *)data;
    w->done++;
}

static void on_mount(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct mountres3 *res = data;
    struct wait *w = arg;

    if (status != RPC_STATUS_SUCCESS || res->fhs_status != MNT3_OK)
        fail(w, "MOUNT is refused");
    else
        take(w, res->mountres3_u.mountinfo.fhandle.fhandle3_val,
             res->mountres3_u.mountinfo.fhandle.fhandle3_len);
}

static void on_create(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct CREATE3res *res = data;
    struct wait *w = arg;

    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK)
        fail(w, "CREATE: %s",
             status == RPC_STATUS_SUCCESS ? nfsstat3_to_str(res->status) : "no answer");
    else if (!res->CREATE3res_u.resok.obj.handle_follows)
        fail(w, "CREATE: the server gave no handle");
    else
        take(w, res->CREATE3res_u.resok.obj.post_op_fh3_u.handle.data.data_val,
             res->CREATE3res_u.resok.obj.post_op_fh3_u.handle.data.data_len);
}

static void on_getattr(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct GETATTR3res *res = data;
    struct wait *w = arg;

    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK)
        fail(w, "GETATTR failed");
    w->done++;
}

static void on_commit(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct COMMIT3res *res = data;
    struct wait *w = arg;

    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK)
        fail(w, "COMMIT failed");
    w->done++;
}

static void on_remove(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct wait *w = arg;
    w->done++;
}

static void stream_send(struct rpc_context *rpc, struct wait *w);

static void on_read(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct READ3res *res = data;
    struct wait *w = arg;

    if (w->failed)
        return;
    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK ||
        res->READ3res_u.resok.count != MIB) {
        fail(w, "READ failed, or was short");
        return;
    }
    w->done++;
    stream_send(rpc, w);
}

static void on_write(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct WRITE3res *res = data;
    struct wait *w = arg;

    if (w->failed)
        return;
    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK ||
        res->WRITE3res_u.resok.count != MIB) {
        fail(w, "WRITE failed, or was short");
        return;
    }
    w->done++;
    stream_send(rpc, w);
}

static void stream_send(struct rpc_context *rpc, struct wait *w)
{
    int rc;

    if (w->next == w->total)
        return;
    uint64_t offset = (uint64_t)w->next++ * MIB;
    if (w->writing) {
        struct WRITE3args args = {.file = fh_of(&raw.file),
                                  .offset = offset,
                                  .count = MIB,
                                  .stable = UNSTABLE,
                                  .data = {MIB, w->data}};
        rc = rpc_nfs3_write_async(rpc, on_write, &args, w);
    } else {
        struct READ3args args = {.file = fh_of(&raw.file), .offset = offset, .count = MIB};
        rc = rpc_nfs3_read_async(rpc, on_read, &args, w);
    }
    if (rc)
        fail(w, "%s", rpc_get_error(rpc));
}

/* ---- connecting ------------------------------------------------------------------------------ */

static struct rpc_context *connect_to(struct wait *w, const char *host, int port, int program)
{
    struct rpc_context *rpc = rpc_init_context();

    if (port == 0) {
        int version = program == MOUNT_PROGRAM ? MOUNT_V3 : NFS_V3;
        struct rpc_context *binder = connect_to(w, host, 111, PMAP_PROGRAM);
        w->done = 0;
        w->until = 1;
        if (binder &&
            rpc_pmap2_getport_async(binder, program, version, IPPROTO_TCP, on_port, w) == 0)
            wait_for(binder, w);
        if (binder)
            rpc_destroy_context(binder);
        port = w->port;
    }
    w->done = 0;
    w->until = 1;
    int version = program == PMAP_PROGRAM ? PMAP_V2 : 3;
    if (!w->failed && rpc &&
        rpc_connect_port_async(rpc, host, port, program, version, on_connect, w))
        fail(w, "%s", rpc_get_error(rpc));
    if (!rpc)
        fail(w, "no memory");
    if (w->failed || !wait_for(rpc, w)) {
        if (rpc)
            rpc_destroy_context(rpc);
        return NULL;
    }
    w->done = 0;
    return rpc;
}

static bool raw_start(const struct limits_options *o)
{
    const struct mount_options *n = &o->nfs;
    struct wait w = {.until = 1, .take = &raw.root};

    if (raw.rpc || *raw.why_not)
        return raw.rpc != NULL;
    struct rpc_context *rpc = connect_to(&w, n->host, n->mountport, MOUNT_PROGRAM);
    if (rpc) {
        if (rpc_mount3_mnt_async(rpc, on_mount, n->export, &w) || !wait_for(rpc, &w))
            fail(&w, "%s", rpc_get_error(rpc));
        rpc_destroy_context(rpc);
    }
    rpc = w.failed ? NULL : connect_to(&w, n->host, n->port, NFS_PROGRAM);
    if (rpc) {
        snprintf(raw.name, sizeof raw.name, "nfscached-bench-libnfs.%d", (int)getpid());
        w.take = &raw.file;
        struct CREATE3args args = {.where = {.dir = fh_of(&raw.root), .name = raw.name}};
        args.how.mode = UNCHECKED;
        args.how.createhow3_u.obj_attributes.mode.set_it = 1;
        args.how.createhow3_u.obj_attributes.mode.set_mode3_u.mode = 0644;
        if (rpc_nfs3_create_async(rpc, on_create, &args, &w) || !wait_for(rpc, &w))
            fail(&w, "%s", rpc_get_error(rpc));
    }
    if (w.failed) {
        snprintf(raw.why_not, sizeof raw.why_not, "--server: libnfs at %s: %s", n->host, w.why);
        if (rpc)
            rpc_destroy_context(rpc);
        return false;
    }
    raw.rpc = rpc;
    return true;
}

static void raw_stop(void *arg)
{
    if (--raw.users > 0 || !raw.rpc)
        return;
    struct wait w = {.until = 1};
    struct REMOVE3args args = {.object = {.dir = fh_of(&raw.root), .name = raw.name}};
    if (rpc_nfs3_remove_async(raw.rpc, on_remove, &args, &w) == 0)
        wait_for(raw.rpc, &w);
    rpc_destroy_context(raw.rpc);
    raw = (struct raw){0};
}

/* ---- the cells ---------------------------------------------------------------------------------
 */

static bool stream(struct wait *w, const struct limits_options *o, bool writing)
{
    *w = (struct wait){.writing = writing, .total = o->mib, .until = o->mib};
    w->data = malloc(MIB);
    if (!w->data) {
        fail(w, "no memory");
        return false;
    }
    memset(w->data, 'w', MIB);
    for (unsigned i = 0; i < o->depth; i++)
        stream_send(raw.rpc, w);
    wait_for(raw.rpc, w);
    free(w->data);
    if (writing && !w->failed) {
        struct COMMIT3args args = {.file = fh_of(&raw.file)};
        w->done = 0;
        w->until = 1;
        if (rpc_nfs3_commit_async(raw.rpc, on_commit, &args, w))
            fail(w, "%s", rpc_get_error(raw.rpc));
        wait_for(raw.rpc, w);
    }
    if (writing && !w->failed)
        raw.mib_there = o->mib;
    return !w->failed;
}

/* After a failure replies may be outstanding that point to what is gone: no more of this context.
 */
static int raw_failed(struct cell *c, const struct wait *w)
{
    int rc = cell_fail(c, "libnfs: %s", w->why);

    rpc_destroy_context(raw.rpc);
    raw.rpc = NULL;
    snprintf(raw.why_not, sizeof raw.why_not, "libnfs: %s", w->why);
    return rc;
}

static int run_write(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    static struct wait w;

    if (!raw_start(o))
        return cell_fail(c, "%s", raw.why_not);
    uint64_t start = bench_now();
    if (!stream(&w, o, true))
        return raw_failed(c, &w);
    cell_sample(c, "mb_s", "MB/s", BETTER_MORE, o->mib * (double)MIB / bench_us_since(start));
    return 0;
}

static int run_read(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    static struct wait w;

    if (!raw_start(o))
        return cell_fail(c, "%s", raw.why_not);
    if (raw.mib_there < o->mib && !stream(&w, o, true))
        return raw_failed(c, &w);
    uint64_t start = bench_now();
    if (!stream(&w, o, false))
        return raw_failed(c, &w);
    cell_sample(c, "mb_s", "MB/s", BETTER_MORE, o->mib * (double)MIB / bench_us_since(start));
    return 0;
}

static int run_getattr(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    struct histogram *h = calloc(1, sizeof *h);
    static struct wait w;

    if (!h || !raw_start(o)) {
        free(h);
        return cell_fail(c, "%s", h ? raw.why_not : "no memory");
    }
    struct GETATTR3args args = {.object = fh_of(&raw.file)};
    w = (struct wait){0};
    for (unsigned i = 0; i < o->calls && !w.failed; i++) {
        uint64_t start = bench_now();
        w.done = 0;
        w.until = 1;
        if (rpc_nfs3_getattr_async(raw.rpc, on_getattr, &args, &w))
            fail(&w, "%s", rpc_get_error(raw.rpc));
        wait_for(raw.rpc, &w);
        histogram_add(h, bench_now() - start);
    }
    if (!w.failed)
        cell_histogram(c, "getattr", h);
    free(h);
    return w.failed ? raw_failed(c, &w) : 0;
}

void limits_add_libnfs(struct matrix *m, const struct limits_options *o)
{
    static const struct {
        const char *work;
        cell_fn run;
    } cells[] = {{"write", run_write}, {"read", run_read}, {"getattr", run_getattr}};

    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
        struct cell *c = matrix_add(m, "limits", "libnfs", cells[i].run, (void *)o);
        cell_param(c, "work", "%s", cells[i].work);
        cell_at_end(c, raw_stop);
        raw.users++;
    }
}
