// SPDX-License-Identifier: Apache-2.0
/* Raw libnfs: connecting, and a file; see limits_raw.h. The file is created by libnfs, too. */
#include "daemon/bench/limits_raw.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-portmap.h>

struct raw raw;

void raw_fail(struct raw_wait *w, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    if (!w->failed)
        vsnprintf(w->why, sizeof w->why, format, ap);
    va_end(ap);
    w->failed = true;
}

bool raw_wait_for(struct rpc_context *rpc, struct raw_wait *w)
{
    while (!w->failed && w->done < w->until) {
        struct pollfd p = {.fd = rpc_get_fd(rpc), .events = (short)rpc_which_events(rpc)};
        int n = poll(&p, 1, 10000);
        if (n < 0 && errno == EINTR && !bench_stopped())
            continue;
        if (n <= 0)
            raw_fail(w, n < 0 ? "interrupted" : "no answer in 10 s");
        else if (rpc_service(rpc, p.revents) < 0)
            raw_fail(w, "%s", rpc_get_error(rpc));
    }
    return !w->failed;
}

static void take(struct raw_wait *w, const char *bytes, unsigned len)
{
    if (len > sizeof w->take->bytes) {
        raw_fail(w, "a file handle of %u bytes", len);
        return;
    }
    memcpy(w->take->bytes, bytes, len);
    w->take->len = len;
    w->done++;
}

/* ---- callbacks ------------------------------------------------------------------------------- */

static void on_connect(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct raw_wait *w = arg;

    if (status != RPC_STATUS_SUCCESS)
        raw_fail(w, "cannot connect");
    w->done++;
}

static void on_port(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct raw_wait *w = arg;

    if (status != RPC_STATUS_SUCCESS || *(uint32_t *)data == 0)
        raw_fail(w, "rpcbind does not know it");
    else
        w->port = (int)*(uint32_t *)data;
    w->done++;
}

static void on_mount(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct mountres3 *res = data;
    struct raw_wait *w = arg;

    if (status != RPC_STATUS_SUCCESS || res->fhs_status != MNT3_OK)
        raw_fail(w, "MOUNT is refused");
    else
        take(w, res->mountres3_u.mountinfo.fhandle.fhandle3_val,
             res->mountres3_u.mountinfo.fhandle.fhandle3_len);
}

static void on_create(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct CREATE3res *res = data;
    struct raw_wait *w = arg;

    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK)
        raw_fail(w, "CREATE: %s",
                 status == RPC_STATUS_SUCCESS ? nfsstat3_to_str(res->status) : "no answer");
    else if (!res->CREATE3res_u.resok.obj.handle_follows)
        raw_fail(w, "CREATE: the server gave no handle");
    else
        take(w, res->CREATE3res_u.resok.obj.post_op_fh3_u.handle.data.data_val,
             res->CREATE3res_u.resok.obj.post_op_fh3_u.handle.data.data_len);
}

static void on_remove(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct raw_wait *w = arg;
    w->done++;
}

/* ---- connecting ------------------------------------------------------------------------------ */

struct rpc_context *raw_connect(struct raw_wait *w, const char *host, int port, int program)
{
    struct rpc_context *rpc = rpc_init_context();

    if (port == 0) {
        int version = program == MOUNT_PROGRAM ? MOUNT_V3 : NFS_V3;
        struct rpc_context *binder = raw_connect(w, host, 111, PMAP_PROGRAM);
        w->done = 0;
        w->until = 1;
        if (binder &&
            rpc_pmap2_getport_async(binder, program, version, IPPROTO_TCP, on_port, w) == 0)
            raw_wait_for(binder, w);
        if (binder)
            rpc_destroy_context(binder);
        port = w->port;
    }
    w->done = 0;
    w->until = 1;
    int version = program == PMAP_PROGRAM ? PMAP_V2 : 3;
    if (!w->failed && rpc &&
        rpc_connect_port_async(rpc, host, port, program, version, on_connect, w))
        raw_fail(w, "%s", rpc_get_error(rpc));
    if (!rpc)
        raw_fail(w, "no memory");
    if (w->failed || !raw_wait_for(rpc, w)) {
        if (rpc)
            rpc_destroy_context(rpc);
        return NULL;
    }
    w->done = 0;
    return rpc;
}

bool raw_start(const struct limits_options *o)
{
    const struct mount_options *n = &o->nfs;
    struct raw_wait w = {.until = 1, .take = &raw.root};

    if (raw.rpc || *raw.why_not)
        return raw.rpc != NULL;
    struct rpc_context *rpc = raw_connect(&w, n->host, n->mountport, MOUNT_PROGRAM);
    if (rpc) {
        if (rpc_mount3_mnt_async(rpc, on_mount, n->export, &w) || !raw_wait_for(rpc, &w))
            raw_fail(&w, "%s", rpc_get_error(rpc));
        rpc_destroy_context(rpc);
    }
    rpc = w.failed ? NULL : raw_connect(&w, n->host, n->port, NFS_PROGRAM);
    if (rpc) {
        snprintf(raw.name, sizeof raw.name, "nfscached-bench-libnfs.%d", (int)getpid());
        w.take = &raw.file;
        struct CREATE3args args = {.where = {.dir = raw_fh(&raw.root), .name = raw.name}};
        args.how.mode = UNCHECKED;
        args.how.createhow3_u.obj_attributes.mode.set_it = 1;
        args.how.createhow3_u.obj_attributes.mode.set_mode3_u.mode = 0644;
        if (rpc_nfs3_create_async(rpc, on_create, &args, &w) || !raw_wait_for(rpc, &w))
            raw_fail(&w, "%s", rpc_get_error(rpc));
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

void raw_stop(void *arg)
{
    if (--raw.users > 0 || !raw.rpc)
        return;
    struct raw_wait w = {.until = 1};
    struct REMOVE3args args = {.object = {.dir = raw_fh(&raw.root), .name = raw.name}};
    if (rpc_nfs3_remove_async(raw.rpc, on_remove, &args, &w) == 0)
        raw_wait_for(raw.rpc, &w);
    rpc_destroy_context(raw.rpc);
    raw = (struct raw){0};
}

int raw_failed(struct cell *c, const struct raw_wait *w)
{
    int rc = cell_fail(c, "libnfs: %s", w->why);

    rpc_destroy_context(raw.rpc);
    raw.rpc = NULL;
    snprintf(raw.why_not, sizeof raw.why_not, "libnfs: %s", w->why);
    return rc;
}
