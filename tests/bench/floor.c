// SPDX-License-Identifier: Apache-2.0
/*
 * What the network and the server can do with no file system in between: raw libnfs.
 *
 *   floor getattr HOST PORT MOUNTPORT EXPORT FILE N      one at a time; us, median of N
 *   floor read    HOST PORT MOUNTPORT EXPORT FILE MIB    1 MiB READs, DEPTH in flight; MB/s
 *   floor write   HOST PORT MOUNTPORT EXPORT FILE MIB    1 MiB WRITEs UNSTABLE, then COMMIT; MB/s
 *
 * FILE exists, in the export's root. The bytes that READ brings are left in libnfs's buffer: not
 * even copied. DEPTH is 8 (environment FLOOR_DEPTH).
 */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include <nfsc/libnfs.h>

#include <nfsc/libnfs-raw.h>

#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-nfs.h>

#define MIB (1u << 20)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what, const char *why)
{
    fprintf(stderr, "floor: %s: %s\n", what, why ? why : "failed");
    exit(1);
}

/* One answer that somebody waits for. */
struct answer {
    int done, status;
    char fh[64];
    unsigned fh_len;
};

static void wait_for(struct rpc_context *rpc, const int *flag, int until)
{
    while (*flag < until) {
        struct pollfd p = {.fd = rpc_get_fd(rpc), .events = (short)rpc_which_events(rpc)};
        if (poll(&p, 1, 10000) <= 0)
            die("poll", "no answer in 10 s");
        if (rpc_service(rpc, p.revents) < 0)
            die("connection", rpc_get_error(rpc));
    }
}

static void take_handle(struct answer *a, const char *bytes, unsigned len)
{
    if (len > sizeof a->fh)
        die("file handle", "longer than 64 bytes");
    memcpy(a->fh, bytes, len);
    a->fh_len = len;
}

static void on_connect(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct answer *a = arg;
    a->status = status;
    a->done = 1;
}

static struct rpc_context *connect_to(const char *host, int port, int program)
{
    struct rpc_context *rpc = rpc_init_context();
    struct answer a = {0};

    if (!rpc || rpc_connect_port_async(rpc, host, port, program, 3, on_connect, &a))
        die("connect", rpc ? rpc_get_error(rpc) : "memory");
    wait_for(rpc, &a.done, 1);
    if (a.status != RPC_STATUS_SUCCESS)
        die("connect", rpc_get_error(rpc));
    return rpc;
}

static void on_mount(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct mountres3 *res = data;
    struct answer *a = arg;

    if (status != RPC_STATUS_SUCCESS || res->fhs_status != MNT3_OK)
        die("MOUNT", "refused");
    take_handle(a, res->mountres3_u.mountinfo.fhandle.fhandle3_val,
                res->mountres3_u.mountinfo.fhandle.fhandle3_len);
    a->done = 1;
}

static void on_lookup(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct LOOKUP3res *res = data;
    struct answer *a = arg;

    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK)
        die("LOOKUP", "no such file");
    take_handle(a, res->LOOKUP3res_u.resok.object.data.data_val,
                res->LOOKUP3res_u.resok.object.data.data_len);
    a->done = 1;
}

static struct nfs_fh3 handle_of(struct answer *a)
{
    struct nfs_fh3 fh = {.data = {a->fh_len, a->fh}};
    return fh;
}

static void on_getattr(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct GETATTR3res *res = data;

    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK)
        die("GETATTR", "failed");
    *(int *)arg += 1;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double getattr_us(struct rpc_context *rpc, struct answer *file, unsigned n)
{
    double *took = calloc(n, sizeof *took), median;
    struct GETATTR3args args = {.object = handle_of(file)};

    if (!took)
        die("memory", NULL);
    for (unsigned i = 0; i < n; i++) {
        int done = 0;
        double t = now();
        if (rpc_nfs3_getattr_async(rpc, on_getattr, &args, &done))
            die("GETATTR", rpc_get_error(rpc));
        wait_for(rpc, &done, 1);
        took[i] = now() - t;
    }
    qsort(took, n, sizeof *took, by_value);
    median = took[n / 2] * 1e6;
    free(took);
    return median;
}

/* A stream of READs or WRITEs: each reply sends the next request. */
struct stream {
    struct answer *file;
    char *data;
    unsigned next, total, done_blocks;
    int done;
    int writing;
};

static void stream_send(struct rpc_context *rpc, struct stream *s);

static void on_read(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct READ3res *res = data;
    struct stream *s = arg;

    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK ||
        res->READ3res_u.resok.count != MIB)
        die("READ", "failed or short");
    s->done_blocks++;
    stream_send(rpc, s);
}

static void on_write(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct WRITE3res *res = data;
    struct stream *s = arg;

    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK ||
        res->WRITE3res_u.resok.count != MIB)
        die("WRITE", "failed or short");
    s->done_blocks++;
    stream_send(rpc, s);
}

static void on_commit(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct COMMIT3res *res = data;

    if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK)
        die("COMMIT", "failed");
    *(int *)arg = 1;
}

static void stream_send(struct rpc_context *rpc, struct stream *s)
{
    int rc;

    if (s->next == s->total) {
        s->done = s->done_blocks == s->total;
        return;
    }
    uint64_t offset = (uint64_t)s->next++ * MIB;
    if (s->writing) {
        struct WRITE3args args = {.file = handle_of(s->file),
                                  .offset = offset,
                                  .count = MIB,
                                  .stable = UNSTABLE,
                                  .data = {MIB, s->data}};
        rc = rpc_nfs3_write_async(rpc, on_write, &args, s);
    } else {
        struct READ3args args = {.file = handle_of(s->file), .offset = offset, .count = MIB};
        rc = rpc_nfs3_read_async(rpc, on_read, &args, s);
    }
    if (rc)
        die("send", rpc_get_error(rpc));
}

static double stream_mbps(struct rpc_context *rpc, struct answer *file, unsigned mib, int writing)
{
    const char *env = getenv("FLOOR_DEPTH");
    unsigned depth = env ? (unsigned)atoi(env) : 8;
    struct stream s = {.file = file, .total = mib, .writing = writing};
    double t;

    s.data = malloc(MIB);
    if (!s.data)
        die("memory", NULL);
    memset(s.data, 'w', MIB);
    t = now();
    for (unsigned i = 0; i < depth; i++)
        stream_send(rpc, &s);
    wait_for(rpc, &s.done, 1);
    if (writing) {
        int done = 0;
        struct COMMIT3args args = {.file = handle_of(file)};
        if (rpc_nfs3_commit_async(rpc, on_commit, &args, &done))
            die("COMMIT", rpc_get_error(rpc));
        wait_for(rpc, &done, 1);
    }
    t = now() - t;
    free(s.data);
    return mib * (double)MIB / 1e6 / t;
}

int main(int argc, char **argv)
{
    struct answer root = {0}, file = {0};

    if (argc != 8) {
        fprintf(stderr, "usage: floor getattr|read|write HOST PORT MOUNTPORT EXPORT FILE N\n");
        return 2;
    }
    unsigned n = (unsigned)strtoul(argv[7], NULL, 10);
    if (!n)
        die(argv[7], "not a count");

    struct rpc_context *rpc = connect_to(argv[2], atoi(argv[4]), MOUNT_PROGRAM);
    if (rpc_mount3_mnt_async(rpc, on_mount, argv[5], &root))
        die("MOUNT", rpc_get_error(rpc));
    wait_for(rpc, &root.done, 1);
    rpc_destroy_context(rpc);

    rpc = connect_to(argv[2], atoi(argv[3]), NFS_PROGRAM);
    struct LOOKUP3args args = {.what = {.dir = handle_of(&root), .name = argv[6]}};
    if (rpc_nfs3_lookup_async(rpc, on_lookup, &args, &file))
        die("LOOKUP", rpc_get_error(rpc));
    wait_for(rpc, &file.done, 1);

    if (strcmp(argv[1], "getattr") == 0)
        printf("%.2f\n", getattr_us(rpc, &file, n));
    else
        printf("%.1f\n", stream_mbps(rpc, &file, n, strcmp(argv[1], "write") == 0));
    rpc_destroy_context(rpc);
    return 0;
}
