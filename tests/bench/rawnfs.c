// SPDX-License-Identifier: Apache-2.0
/*
 * What our NFS client can do without a mount on top: pipelined READs and WRITEs, and GETATTRs.
 *
 *   rawnfs SERVER EXPORT read|write|getattr [port=N] [mountport=N] [mib=N] [block=BYTES] [depth=N]
 *          [nconnect=N] [count=N] [rounds=N]
 *
 * `read` reads a file that it wrote before; `write` ends with a COMMIT. Calls are submitted from a
 * shard loop, as the FUSE front does: blocks of 128 KiB and more therefore cross to a bulk
 * connection, smaller ones do not. Prints one line: the rate, and the latency as the client's own
 * statistics see it.
 */
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/nfs/nfs3.h"

enum { DEPTH_MAX = 1024 };

struct slot {
    struct remote_call call;
    struct iovec iov;
    struct loop_task task;
};

static struct remote *remote;
static struct cred cred;
static struct fh file;
static struct slot *slots;
static sem_t finished;
static enum remote_op op;
static uint64_t next_op, done_ops, total_ops;
static uint32_t block = 1 << 20;
static int failed;

static void submit_next(struct slot *s);

static void one_done(struct remote_call *call)
{
    struct slot *s = call->arg;
    uint64_t want = op == REMOTE_GETATTR ? 0 : block;
    if (call->error || (want && call->u.io.done != want)) {
        if (!failed++)
            fprintf(stderr, "rawnfs: error %d, %u bytes\n", call->error, call->u.io.done);
    }
    submit_next(s); /* before the count: the last one to count ends the round */
    if (__atomic_add_fetch(&done_ops, 1, __ATOMIC_ACQ_REL) == total_ops)
        sem_post(&finished);
}

static void submit_next(struct slot *s)
{
    uint64_t n = __atomic_fetch_add(&next_op, 1, __ATOMIC_RELAXED);
    if (n >= total_ops)
        return;
    struct remote_call *c = &s->call;
    *c = (struct remote_call){.op = op, .cred = &cred, .fh = file, .done = one_done, .arg = s};
    if (op != REMOTE_GETATTR) {
        c->u.io.offset = n * block;
        c->u.io.count = block;
        c->u.io.iov = &s->iov;
        c->u.io.iovcnt = 1;
    }
    remote_submit(remote, c);
}

static void slot_start(struct loop_task *task)
{
    submit_next((struct slot *)(void *)((char *)task - offsetof(struct slot, task)));
}

static double run(struct loop *loop, enum remote_op what, uint64_t ops, int depth)
{
    op = what;
    next_op = done_ops = 0;
    total_ops = ops;
    uint64_t start = now_ns();
    for (int i = 0; i < depth; i++) {
        slots[i].task.fn = slot_start;
        loop_post(loop, &slots[i].task);
    }
    while (sem_wait(&finished) < 0 && errno == EINTR)
        ;
    return (double)(now_ns() - start) / 1e9;
}

static int wait_call(struct remote_call call, struct fh *obj)
{
    call.cred = &cred;
    int rc = remote_call_wait(remote, &call);
    if (obj)
        *obj = call.obj;
    remote_call_clear(remote, &call);
    return rc;
}

static void print_latency(int proc)
{
    struct nfs3_stats *s = calloc(1, sizeof(*s));
    nfs3_stats(remote, s);
    printf(" p50_us=%.1f p99_us=%.1f max_us=%.1f retrans=%lu\n", (double)s->proc[proc].p50_ns / 1e3,
           (double)s->proc[proc].p99_ns / 1e3, (double)s->proc[proc].max_ns / 1e3,
           (unsigned long)s->retransmits);
    free(s);
}

int main(int argc, char **argv)
{
    struct nfs3_options o = {.nconnect = 2, .resvport = NFS3_RESVPORT_TRY};
    unsigned mib = 512, depth = 16, rounds = 3;
    unsigned long count = 100000;
    char err[NFS3_ERROR_MAX];
    if (argc < 4) {
        fprintf(stderr, "usage: rawnfs SERVER EXPORT read|write|getattr [name=value]...\n");
        return 2;
    }
    o.server = argv[1];
    o.export = argv[2];
    for (int i = 4; i < argc; i++) {
        unsigned port;
        if (sscanf(argv[i], "port=%u", &port) == 1)
            o.port = (int)port;
        else if (sscanf(argv[i], "mountport=%u", &port) == 1)
            o.mountport = (int)port;
        else if (sscanf(argv[i], "mib=%u", &mib) != 1 && sscanf(argv[i], "block=%u", &block) != 1 &&
                 sscanf(argv[i], "depth=%u", &depth) != 1 &&
                 sscanf(argv[i], "nconnect=%d", &o.nconnect) != 1 &&
                 sscanf(argv[i], "count=%lu", &count) != 1 &&
                 sscanf(argv[i], "rounds=%u", &rounds) != 1) {
            fprintf(stderr, "rawnfs: what is %s?\n", argv[i]);
            return 2;
        }
    }
    if (depth > DEPTH_MAX || !depth || !block || block > NFS3_IO_MAX)
        return 2;
    struct loop *loop = loop_new("shard0");
    if (!loop || nfs3_mount(&o, &loop, 1, &remote, err, sizeof(err)) < 0) {
        fprintf(stderr, "rawnfs: %s\n", err);
        return 1;
    }
    cred = (struct cred){.uid = geteuid(), .gid = getegid()};
    sem_init(&finished, 0, 0);
    loop_start(loop);
    slots = calloc(depth, sizeof(*slots));
    for (unsigned i = 0; i < depth; i++) {
        void *p = mmap(NULL, block, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        slots[i].iov = (struct iovec){p, block};
        memset(p, 'a' + (int)(i % 26), block);
    }
    struct remote_call create = {.op = REMOTE_CREATE, .fh = remote->root, .name = "rawnfs.data"};
    create.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = 0644};
    int rc = wait_call(create, &file);
    if (rc) {
        fprintf(stderr, "rawnfs: CREATE: %s\n", strerror(-rc));
        return 1;
    }
    uint64_t ops = (uint64_t)mib * (1 << 20) / block;
    struct remote_call commit = {.op = REMOTE_COMMIT, .fh = file};
    if (!strcmp(argv[3], "getattr")) {
        for (unsigned i = 0; i < rounds; i++) {
            double t = run(loop, REMOTE_GETATTR, count, (int)depth);
            printf("getattr depth=%u: ops_s=%.0f us_each=%.2f", depth, (double)count / t,
                   t * 1e6 / (double)count * depth);
            print_latency(PROC_GETATTR);
        }
    } else {
        bool reading = !strcmp(argv[3], "read");
        if (reading) {
            run(loop, REMOTE_WRITE, ops, (int)depth);
            wait_call(commit, NULL);
        }
        for (unsigned i = 0; i < rounds; i++) {
            uint64_t start = now_ns();
            double t = run(loop, reading ? REMOTE_READ : REMOTE_WRITE, ops, (int)depth);
            if (!reading) {
                wait_call(commit, NULL);
                t = (double)(now_ns() - start) / 1e9;
            }
            printf("%s block=%u depth=%u nconnect=%d: mb_s=%.0f", argv[3], block, depth, o.nconnect,
                   (double)mib * 1048576 / 1e6 / t);
            print_latency(reading ? PROC_READ : PROC_WRITE);
        }
    }
    wait_call((struct remote_call){.op = REMOTE_REMOVE, .fh = remote->root, .name = "rawnfs.data"},
              NULL);
    remote_destroy(remote);
    loop_stop(loop);
    loop_join(loop);
    loop_free(loop);
    return failed ? 1 : 0;
}
