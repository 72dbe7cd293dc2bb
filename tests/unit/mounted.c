// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/mounted.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mounted m;

static void log_line(int priority, const char *text)
{
    if (getenv("NFS3_TEST_VERBOSE"))
        fprintf(stderr, "# %s\n", text);
}

static int env_number(const char *name)
{
    const char *v = getenv(name);
    return v ? atoi(v) : 0;
}

static void serve(const struct server_options *given)
{
    const char *base = getenv("TMPDIR");
    char err[512] = "";
    struct server_options so = given ? *given : (struct server_options){0};
    snprintf(m.dir, sizeof(m.dir), "%s/nfs3-test.XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(m.dir) || chmod(m.dir, 0755) < 0)
        abort();
    snprintf(m.export, sizeof(m.export), "%s/export", m.dir);
    snprintf(m.key, sizeof(m.key), "%s/key", m.dir);
    if (mkdir(m.export, 0755) < 0)
        abort();
    so.directory = m.export;
    so.key_file = m.key;
    so.no_fsync = true;
    if (server_start(&so, &m.server, err, sizeof(err)) != 0) {
        fprintf(stderr, "server_start: %s\n", err);
        abort();
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

void serve_command(const char *line)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    bool ok = server_command(m.server, line, out);
    fclose(out);
    if (!ok) {
        fprintf(stderr, "%s: %s\n", line, text);
        abort();
    }
    free(text);
}

void mounted_start(struct nfs3_options o, const struct server_options *server)
{
    char err[NFS3_ERROR_MAX];
    memset(&m, 0, sizeof(m));
    m.external = getenv("NFS3_TEST_SERVER") && !server;
    m.o = o;
    m.o.log = log_line;
    m.o.resvport = NFS3_RESVPORT_TRY;
    if (m.external) {
        m.o.server = getenv("NFS3_TEST_SERVER");
        m.o.export = getenv("NFS3_TEST_EXPORT");
        m.o.port = env_number("NFS3_TEST_PORT");
        m.o.mountport = env_number("NFS3_TEST_MOUNTPORT");
    } else {
        serve(server);
        m.o.server = "127.0.0.1";
        m.o.export = m.export;
        m.o.port = server_port(m.server);
    }
    m.loop = loop_new("shard0");
    if (nfs3_mount(&m.o, &m.loop, 1, &m.remote, err, sizeof(err)) < 0) {
        fprintf(stderr, "%s\n", err);
        abort();
    }
    m.cred = (struct cred){.uid = geteuid(), .gid = getegid()};
    if (loop_start(m.loop) < 0)
        abort();
}

void mounted_stop(void)
{
    remote_destroy(m.remote);
    loop_stop(m.loop);
    loop_join(m.loop);
    loop_free(m.loop);
    if (!m.server)
        return;
    server_stop(m.server);
    nftw(m.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int op(struct remote_call *call)
{
    if (!call->cred)
        call->cred = &m.cred;
    return remote_call_wait(m.remote, call);
}

int make_file(const char *name, struct fh *fh)
{
    struct remote_call call = {.op = REMOTE_CREATE, .fh = m.remote->root, .name = name};
    call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = 0644};
    int rc = op(&call);
    if (!rc && fh)
        *fh = call.obj;
    return rc;
}

int write_at(const struct fh *fh, uint64_t offset, const void *data, uint32_t n,
             enum remote_stable stable)
{
    for (uint32_t done = 0; done < n;) {
        struct iovec iov = {(uint8_t *)(uintptr_t)data + done, n - done};
        struct remote_call call = {.op = REMOTE_WRITE, .fh = *fh};
        call.u.io.offset = offset + done;
        call.u.io.count = n - done;
        call.u.io.iov = &iov;
        call.u.io.iovcnt = 1;
        call.u.io.stable = stable;
        int rc = op(&call);
        if (rc)
            return rc;
        done += call.u.io.done;
    }
    return 0;
}

int read_at(const struct fh *fh, uint64_t offset, void *data, uint32_t n)
{
    uint32_t done = 0;
    while (done < n) {
        struct iovec iov = {(uint8_t *)data + done, n - done};
        struct remote_call call = {.op = REMOTE_READ, .fh = *fh};
        call.u.io.offset = offset + done;
        call.u.io.count = n - done;
        call.u.io.iov = &iov;
        call.u.io.iovcnt = 1;
        int rc = op(&call);
        if (rc)
            return rc;
        done += call.u.io.done;
        if (call.u.io.eof)
            break;
    }
    return (int)done;
}

int remove_name(const char *name)
{
    struct remote_call call = {.op = REMOTE_REMOVE, .fh = m.remote->root, .name = name};
    return op(&call);
}
