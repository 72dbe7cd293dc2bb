// SPDX-License-Identifier: Apache-2.0
/*
 * Our NFS client without a mount on top: pipelined READs and WRITEs of 1 MiB, and GETATTRs one at a
 * time. Calls are submitted from a shard loop, as the FUSE front does, so bulk crosses to a bulk
 * connection. It is connected by the first cell that needs it, to one file that all cells share.
 */
#include <errno.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/bench/limit_cells.h"
#include "daemon/nfs/nfs3.h"

#define BLOCK ((uint32_t)1 << 20)

struct slot {
    struct remote_call call;
    struct iovec iov;
    struct loop_task task;
};

static struct client {
    struct loop *loop;
    struct remote *remote;
    struct cred cred;
    struct fh file;
    char name[48];
    struct slot *slots;
    unsigned nslots, users;
    bool written;
    sem_t finished;
    /* The stream that runs: all slots submit its operations. */
    enum remote_op op;
    uint64_t next, total;
    uint64_t open; /* starts and operations still to come: a slot must not be started twice */
    int error;
    char why_not[NFS3_ERROR_MAX + 32];
} client;

static void submit_next(struct slot *s);

static void count_down(void)
{
    if (__atomic_sub_fetch(&client.open, 1, __ATOMIC_ACQ_REL) == 0)
        sem_post(&client.finished);
}

static void one_done(struct remote_call *call)
{
    struct slot *s = call->arg;
    bool bulk = call->op != REMOTE_GETATTR;

    if (call->error || (bulk && call->u.io.done != BLOCK))
        __atomic_store_n(&client.error, call->error ? call->error : -EIO, __ATOMIC_RELAXED);
    submit_next(s); /* before the count: the last one to count ends the stream */
    count_down();
}

static void submit_next(struct slot *s)
{
    uint64_t n = __atomic_fetch_add(&client.next, 1, __ATOMIC_RELAXED);

    if (n >= client.total)
        return;
    s->call = (struct remote_call){
        .op = client.op, .cred = &client.cred, .fh = client.file, .done = one_done, .arg = s};
    if (client.op != REMOTE_GETATTR) {
        s->call.u.io.offset = n * BLOCK;
        s->call.u.io.count = BLOCK;
        s->call.u.io.iov = &s->iov;
        s->call.u.io.iovcnt = 1;
    }
    remote_submit(client.remote, &s->call);
}

static void slot_start(struct loop_task *task)
{
    submit_next((struct slot *)(void *)((char *)task - offsetof(struct slot, task)));
    count_down();
}

/* `total` operations, `depth` at a time. 0 or negative errno. */
static int stream(enum remote_op op, uint64_t total, unsigned depth)
{
    client.op = op;
    client.next = 0;
    client.total = total;
    client.open = total + depth;
    client.error = 0;
    for (unsigned i = 0; i < depth; i++) {
        client.slots[i].task.fn = slot_start;
        loop_post(client.loop, &client.slots[i].task);
    }
    while (sem_wait(&client.finished) < 0 && errno == EINTR)
        ;
    return client.error;
}

static int wait_call(struct remote_call call, struct fh *obj)
{
    call.cred = &client.cred;
    int rc = remote_call_wait(client.remote, &call);
    if (obj)
        *obj = call.obj;
    remote_call_clear(client.remote, &call);
    return rc;
}

static bool client_start(const struct limits_options *o)
{
    const struct mount_options *n = &o->nfs;
    struct nfs3_options options = {.server = n->host,
                                   .export = n->export,
                                   .port = n->port,
                                   .mountport = n->mountport,
                                   .nconnect = n->nconnect,
                                   .soft = true,
                                   .retrans = 2,
                                   .timeo_ds = 100,
                                   .resvport = NFS3_RESVPORT_TRY};
    char err[NFS3_ERROR_MAX];

    if (client.remote || *client.why_not)
        return client.remote != NULL;
    client.loop = loop_new("bench");
    if (!client.loop ||
        nfs3_mount(&options, &client.loop, 1, &client.remote, err, sizeof err) < 0) {
        snprintf(client.why_not, sizeof client.why_not, "--server: %s",
                 client.loop ? err : "no memory");
        return false;
    }
    client.cred = (struct cred){.uid = geteuid(), .gid = getegid()};
    sem_init(&client.finished, 0, 0);
    loop_start(client.loop);
    client.nslots = o->depth;
    client.slots = calloc(client.nslots, sizeof *client.slots);
    for (unsigned i = 0; client.slots && i < client.nslots; i++) {
        void *p = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        client.slots[i].iov = (struct iovec){p, BLOCK};
        memset(p, 'a' + (int)(i % 26), BLOCK);
    }
    snprintf(client.name, sizeof client.name, "nfscached-bench-client.%d", (int)getpid());
    struct remote_call create = {
        .op = REMOTE_CREATE, .fh = client.remote->root, .name = client.name};
    create.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = 0644};
    int rc = client.slots ? wait_call(create, &client.file) : -ENOMEM;
    if (rc < 0)
        snprintf(client.why_not, sizeof client.why_not, "--server: cannot create a file in %s: %s",
                 n->export, strerror(-rc));
    return rc == 0;
}

static void client_stop(void *arg)
{
    if (--client.users > 0 || !client.remote)
        return;
    wait_call(
        (struct remote_call){.op = REMOTE_REMOVE, .fh = client.remote->root, .name = client.name},
        NULL);
    remote_destroy(client.remote);
    loop_stop(client.loop);
    loop_join(client.loop);
    loop_free(client.loop);
    for (unsigned i = 0; i < client.nslots; i++)
        munmap(client.slots[i].iov.iov_base, BLOCK);
    free(client.slots);
    client = (struct client){0};
}

static int commit(void)
{
    return wait_call((struct remote_call){.op = REMOTE_COMMIT, .fh = client.file}, NULL);
}

/* ---- the cells ---------------------------------------------------------------------------------
 */

static int run_write(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);

    if (!client_start(o))
        return cell_fail(c, "%s", client.why_not);
    uint64_t start = bench_now();
    int rc = stream(REMOTE_WRITE, o->mib, client.nslots);
    if (rc == 0)
        rc = commit();
    double us = bench_us_since(start);
    if (rc < 0)
        return cell_fail(c, "WRITE: %s", strerror(-rc));
    client.written = true;
    cell_sample(c, "mb_s", "MB/s", BETTER_MORE, o->mib * (double)BLOCK / us);
    return 0;
}

static int run_read(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    int rc = 0;

    if (!client_start(o))
        return cell_fail(c, "%s", client.why_not);
    if (!client.written && (rc = stream(REMOTE_WRITE, o->mib, client.nslots)) == 0)
        rc = commit();
    client.written = rc == 0;
    uint64_t start = bench_now();
    if (rc == 0)
        rc = stream(REMOTE_READ, o->mib, client.nslots);
    double us = bench_us_since(start);
    if (rc < 0)
        return cell_fail(c, "READ: %s", strerror(-rc));
    cell_sample(c, "mb_s", "MB/s", BETTER_MORE, o->mib * (double)BLOCK / us);
    return 0;
}

static int run_getattr(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);

    if (!client_start(o))
        return cell_fail(c, "%s", client.why_not);
    uint64_t start = bench_now();
    int rc = stream(REMOTE_GETATTR, o->calls, 1);
    double us = bench_us_since(start);
    if (rc < 0)
        return cell_fail(c, "GETATTR: %s", strerror(-rc));
    cell_sample(c, "getattr_us", "us", BETTER_LESS, us / o->calls);
    return 0;
}

static int run_getattrs(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);

    if (!client_start(o))
        return cell_fail(c, "%s", client.why_not);
    uint64_t start = bench_now();
    int rc = stream(REMOTE_GETATTR, o->calls, client.nslots);
    double us = bench_us_since(start);
    if (rc < 0)
        return cell_fail(c, "GETATTR: %s", strerror(-rc));
    cell_sample(c, "per_s", "1/s", BETTER_MORE, o->calls * 1e6 / us);
    return 0;
}

void limits_add_client(struct matrix *m, const struct limits_options *o)
{
    static const struct {
        const char *work;
        cell_fn run;
    } cells[] = {{"write", run_write},
                 {"read", run_read},
                 {"getattr", run_getattr},
                 {"getattr-pipelined", run_getattrs}};

    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
        struct cell *c = matrix_add(m, "limits", "client", cells[i].run, (void *)o);
        cell_param(c, "work", "%s", cells[i].work);
        cell_at_end(c, client_stop);
        client.users++;
    }
}
