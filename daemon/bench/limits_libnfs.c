// SPDX-License-Identifier: Apache-2.0
/*
 * Raw libnfs: what the network and the server can do with nothing in between. READs and WRITEs of
 * 1 MiB, --depth of them in flight, WRITEs UNSTABLE and a COMMIT at the end; GETATTRs one at a
 * time. The bytes that READ brings stay in libnfs's buffer: not even copied to where a program
 * could use them.
 *
 * Errors end a cell, never the process.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "daemon/bench/limits_raw.h"

#define MIB (1u << 20)

static void on_getattr(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct GETATTR3res *res = data;
    struct raw_wait *w = arg;

    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK)
        raw_fail(w, "GETATTR failed");
    w->done++;
}

static void on_commit(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct COMMIT3res *res = data;
    struct raw_wait *w = arg;

    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK)
        raw_fail(w, "COMMIT failed");
    w->done++;
}

static void stream_send(struct rpc_context *rpc, struct raw_wait *w);

static void on_read(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct READ3res *res = data;
    struct raw_wait *w = arg;

    if (w->failed)
        return;
    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK ||
        res->READ3res_u.resok.count != MIB) {
        raw_fail(w, "READ failed, or was short");
        return;
    }
    w->done++;
    stream_send(rpc, w);
}

static void on_write(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct WRITE3res *res = data;
    struct raw_wait *w = arg;

    if (w->failed)
        return;
    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK ||
        res->WRITE3res_u.resok.count != MIB) {
        raw_fail(w, "WRITE failed, or was short");
        return;
    }
    w->done++;
    stream_send(rpc, w);
}

static void stream_send(struct rpc_context *rpc, struct raw_wait *w)
{
    int rc;

    if (w->next == w->total)
        return;
    uint64_t offset = (uint64_t)w->next++ * MIB;
    if (w->writing) {
        struct WRITE3args args = {.file = raw_fh(&raw.file),
                                  .offset = offset,
                                  .count = MIB,
                                  .stable = UNSTABLE,
                                  .data = {MIB, w->data}};
        rc = rpc_nfs3_write_async(rpc, on_write, &args, w);
    } else {
        struct READ3args args = {.file = raw_fh(&raw.file), .offset = offset, .count = MIB};
        rc = rpc_nfs3_read_async(rpc, on_read, &args, w);
    }
    if (rc)
        raw_fail(w, "%s", rpc_get_error(rpc));
}

/* ---- the cells ---------------------------------------------------------------------------------
 */

static bool stream(struct raw_wait *w, const struct limits_options *o, bool writing)
{
    *w = (struct raw_wait){.writing = writing, .total = o->mib, .until = o->mib};
    w->data = malloc(MIB);
    if (!w->data) {
        raw_fail(w, "no memory");
        return false;
    }
    memset(w->data, 'w', MIB);
    for (unsigned i = 0; i < o->depth; i++)
        stream_send(raw.rpc, w);
    raw_wait_for(raw.rpc, w);
    free(w->data);
    if (writing && !w->failed) {
        struct COMMIT3args args = {.file = raw_fh(&raw.file)};
        w->done = 0;
        w->until = 1;
        if (rpc_nfs3_commit_async(raw.rpc, on_commit, &args, w))
            raw_fail(w, "%s", rpc_get_error(raw.rpc));
        raw_wait_for(raw.rpc, w);
    }
    if (writing && !w->failed)
        raw.mib_there = o->mib;
    return !w->failed;
}

bool raw_fill(struct raw_wait *w, const struct limits_options *o)
{
    return raw.mib_there >= o->mib || stream(w, o, true);
}

/* CPU time of this process so far, in seconds. */
static double cpu_seconds(void)
{
    struct rusage u;

    if (getrusage(RUSAGE_SELF, &u) < 0)
        return 0;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void give(struct cell *c, const struct limits_options *o, double us, double cpu)
{
    cell_sample(c, "mb_s", "MB/s", BETTER_MORE, o->mib * (double)MIB / us);
    cell_sample(c, "cpu_s_gib", "s/GiB", BETTER_LESS, cpu * 1024 / o->mib);
}

static int run_write(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    static struct raw_wait w;

    if (!raw_start(o))
        return cell_fail(c, "%s", raw.why_not);
    double cpu = cpu_seconds();
    uint64_t start = bench_now();
    if (!stream(&w, o, true))
        return raw_failed(c, &w);
    double us = bench_us_since(start);
    give(c, o, us, cpu_seconds() - cpu);
    return 0;
}

static int run_read(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    static struct raw_wait w;

    if (!raw_start(o))
        return cell_fail(c, "%s", raw.why_not);
    if (!raw_fill(&w, o))
        return raw_failed(c, &w);
    double cpu = cpu_seconds();
    uint64_t start = bench_now();
    if (!stream(&w, o, false))
        return raw_failed(c, &w);
    double us = bench_us_since(start);
    give(c, o, us, cpu_seconds() - cpu);
    return 0;
}

static int run_getattr(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    struct histogram *h = calloc(1, sizeof *h);
    static struct raw_wait w;

    if (!h || !raw_start(o)) {
        free(h);
        return cell_fail(c, "%s", h ? raw.why_not : "no memory");
    }
    struct GETATTR3args args = {.object = raw_fh(&raw.file)};
    w = (struct raw_wait){0};
    for (unsigned i = 0; i < o->calls && !w.failed; i++) {
        uint64_t start = bench_now();
        w.done = 0;
        w.until = 1;
        if (rpc_nfs3_getattr_async(raw.rpc, on_getattr, &args, &w))
            raw_fail(&w, "%s", rpc_get_error(raw.rpc));
        raw_wait_for(raw.rpc, &w);
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
