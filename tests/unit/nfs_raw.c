// SPDX-License-Identifier: Apache-2.0
/* A bare NFSv3 client; see the header. */
#include "tests/unit/nfs_raw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 20000

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #cond, strerror(errno));        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

void x_reset(struct xbuf *x)
{
    x->len = x->at = 0;
    x->bad = false;
}

void x_free(struct xbuf *x)
{
    free(x->data);
    memset(x, 0, sizeof(*x));
}

static void x_bytes(struct xbuf *x, const void *data, size_t len)
{
    if (x->len + len > x->cap) {
        x->cap = (x->len + len) * 2 + 64;
        MUST(x->data = realloc(x->data, x->cap));
    }
    if (len)
        memcpy(x->data + x->len, data, len);
    x->len += len;
}

void x_u32(struct xbuf *x, uint32_t value)
{
    value = htonl(value);
    x_bytes(x, &value, 4);
}

void x_u64(struct xbuf *x, uint64_t value)
{
    x_u32(x, (uint32_t)(value >> 32));
    x_u32(x, (uint32_t)value);
}

void x_opaque(struct xbuf *x, const void *data, size_t len)
{
    static const uint8_t zeros[4];

    x_u32(x, (uint32_t)len);
    x_bytes(x, data, len);
    x_bytes(x, zeros, (4 - (len & 3)) & 3);
}

void x_fh(struct xbuf *x, const struct fh *fh)
{
    x_opaque(x, fh->data, fh->len);
}

void x_name(struct xbuf *x, const char *name)
{
    x_opaque(x, name, strlen(name));
}

void x_no_sattr(struct xbuf *x)
{
    for (int i = 0; i < 6; i++)
        x_u32(x, 0);
}

uint32_t x_get32(struct xbuf *x)
{
    uint32_t value;

    if (x->len - x->at < 4) {
        x->bad = true;
        return 0;
    }
    memcpy(&value, x->data + x->at, 4);
    x->at += 4;
    return ntohl(value);
}

uint64_t x_get64(struct xbuf *x)
{
    uint64_t high = x_get32(x);

    return high << 32 | x_get32(x);
}

const uint8_t *x_take(struct xbuf *x, size_t len)
{
    const uint8_t *p = x->data + x->at;
    size_t padded = (len + 3) & ~(size_t)3;

    if (x->len - x->at < padded) {
        x->bad = true;
        return NULL;
    }
    x->at += padded;
    return p;
}

void x_get_fh(struct xbuf *x, struct fh *fh)
{
    memset(fh, 0, sizeof(*fh));
    fh->len = x_get32(x);
    MUST(fh->len <= 64);
    const uint8_t *p = x_take(x, fh->len);
    MUST(p);
    memcpy(fh->data, p, fh->len);
}

static uint64_t get_time(struct xbuf *x)
{
    uint64_t sec = x_get32(x);

    return sec * 1000000000ULL + x_get32(x);
}

void x_get_attrs(struct xbuf *x, struct attrs *a)
{
    a->present = true;
    a->type = x_get32(x);
    a->mode = x_get32(x);
    a->nlink = x_get32(x);
    a->uid = x_get32(x);
    a->gid = x_get32(x);
    a->size = x_get64(x);
    x_get64(x);
    x_get64(x);
    x_get64(x);
    a->fileid = x_get64(x);
    a->atime = get_time(x);
    a->mtime = get_time(x);
    a->ctime = get_time(x);
    MUST(!x->bad);
}

void x_get_post(struct xbuf *x, struct attrs *a)
{
    memset(a, 0, sizeof(*a));
    if (x_get32(x))
        x_get_attrs(x, a);
}

void x_get_wcc(struct xbuf *x, struct attrs *before, struct attrs *after)
{
    memset(before, 0, sizeof(*before));
    if (x_get32(x)) {
        before->present = true;
        before->size = x_get64(x);
        before->mtime = get_time(x);
        before->ctime = get_time(x);
    }
    x_get_post(x, after);
    MUST(!x->bad);
}

void raw_open(struct raw *raw, uint16_t server_port, uint16_t own_port)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(own_port)};
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(server_port)};
    socklen_t len = sizeof(own);
    int one = 1;

    own.sin_addr.s_addr = peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    raw->server_port = server_port;
    if (!raw->next_xid)
        raw->next_xid = 0x1000;
    MUST((raw->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
    setsockopt(raw->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    MUST(bind(raw->fd, (struct sockaddr *)&own, sizeof(own)) == 0);
    MUST(connect(raw->fd, (struct sockaddr *)&peer, sizeof(peer)) == 0);
    MUST(getsockname(raw->fd, (struct sockaddr *)&own, &len) == 0);
    raw->own_port = ntohs(own.sin_port);
}

void raw_close(struct raw *raw)
{
    if (raw->fd >= 0)
        close(raw->fd);
    raw->fd = -1;
    x_free(&raw->reply);
}

void raw_reconnect(struct raw *raw)
{
    struct linger reset = {.l_onoff = 1};
    uint16_t own = raw->own_port;

    /* Leave no TIME_WAIT behind: the same pair of addresses is wanted again at once. */
    setsockopt(raw->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(raw->fd);
    raw_open(raw, raw->server_port, own);
}

void raw_build(struct raw *raw, struct xbuf *out, uint32_t xid, uint32_t prog, uint32_t proc,
               const struct xbuf *args)
{
    x_reset(out);
    x_u32(out, 0);
    x_u32(out, xid);
    x_u32(out, 0);
    x_u32(out, 2);
    x_u32(out, prog);
    x_u32(out, 3);
    x_u32(out, proc);
    if (raw->uid == UINT32_MAX) {
        x_u64(out, 0);
    } else {
        x_u32(out, 1);
        x_u32(out, 20 + 4 * raw->ngroups);
        x_u32(out, 0);
        x_u32(out, 0);
        x_u32(out, raw->uid);
        x_u32(out, raw->gid);
        x_u32(out, raw->ngroups);
        for (uint32_t i = 0; i < raw->ngroups; i++)
            x_u32(out, raw->groups[i]);
    }
    x_u64(out, 0);
    if (args)
        x_bytes(out, args->data, args->len);
    uint32_t mark = htonl(0x80000000U | (uint32_t)(out->len - 4));
    memcpy(out->data, &mark, 4);
}

void raw_send(struct raw *raw, const void *data, size_t len)
{
    const uint8_t *p = data;

    while (len > 0) {
        ssize_t n = send(raw->fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the server hung up; raw_receive tells */
        p += n;
        len -= (size_t)n;
    }
}

bool raw_readable(struct raw *raw, int ms)
{
    struct pollfd pfd = {.fd = raw->fd, .events = POLLIN};

    return poll(&pfd, 1, ms) == 1;
}

static bool receive_bytes(struct raw *raw, uint8_t *to, size_t len)
{
    while (len > 0) {
        if (!raw_readable(raw, PATIENCE_MS)) {
            fprintf(stderr, "no reply within %d ms\n", PATIENCE_MS);
            abort();
        }
        ssize_t n = recv(raw->fd, to, len, 0);
        if (n <= 0)
            return false;
        to += n;
        len -= (size_t)n;
    }
    return true;
}

uint32_t raw_receive(struct raw *raw, uint32_t *xid)
{
    struct xbuf *x = &raw->reply;
    uint8_t mark[4];
    uint32_t len;

    x_reset(x);
    if (!receive_bytes(raw, mark, 4))
        return RAW_GONE;
    memcpy(&len, mark, 4);
    len = ntohl(len);
    MUST(len >> 31);
    len &= 0x7fffffff;
    if (len > x->cap) {
        MUST(x->data = realloc(x->data, len));
        x->cap = len;
    }
    x->len = len;
    if (!receive_bytes(raw, x->data, len))
        return RAW_GONE;
    *xid = x_get32(x);
    MUST(x_get32(x) == 1);
    if (x_get32(x) != 0)
        return 0x100 + x_get32(x); /* denied */
    x_get64(x);
    return x_get32(x);
}

uint32_t raw_nfs_xid(struct raw *raw, uint32_t xid, uint32_t proc, const struct xbuf *args)
{
    struct xbuf call = {0};
    uint32_t got, accept;

    raw_build(raw, &call, xid, 100003, proc, args);
    raw_send(raw, call.data, call.len);
    x_free(&call);
    accept = raw_receive(raw, &got);
    if (accept == RAW_GONE)
        return RAW_GONE;
    MUST(got == xid);
    MUST(accept == 0);
    return proc == P_NULL ? 0 : x_get32(&raw->reply);
}

uint32_t raw_nfs(struct raw *raw, uint32_t proc, const struct xbuf *args)
{
    return raw_nfs_xid(raw, raw->next_xid++, proc, args);
}

uint32_t raw_mount(struct raw *raw, const char *path, struct fh *root)
{
    struct xbuf args = {0}, call = {0};
    uint32_t xid = raw->next_xid++, got, status;

    x_name(&args, path);
    raw_build(raw, &call, xid, 100005, 1, &args);
    raw_send(raw, call.data, call.len);
    x_free(&args);
    x_free(&call);
    if (raw_receive(raw, &got) != 0)
        return RAW_GONE;
    MUST(got == xid);
    status = x_get32(&raw->reply);
    if (status == 0)
        x_get_fh(&raw->reply, root);
    return status;
}

static uint32_t call_dirop(struct raw *raw, uint32_t proc, const struct fh *dir, const char *name)
{
    struct xbuf args = {0};

    x_fh(&args, dir);
    x_name(&args, name);
    uint32_t status = raw_nfs(raw, proc, &args);
    x_free(&args);
    return status;
}

uint32_t raw_lookup(struct raw *raw, const struct fh *dir, const char *name, struct fh *fh)
{
    uint32_t status = call_dirop(raw, P_LOOKUP, dir, name);

    if (status == 0)
        x_get_fh(&raw->reply, fh);
    return status;
}

uint32_t raw_getattr(struct raw *raw, const struct fh *fh, struct attrs *a)
{
    struct xbuf args = {0};

    x_fh(&args, fh);
    uint32_t status = raw_nfs(raw, P_GETATTR, &args);
    x_free(&args);
    if (status == 0)
        x_get_attrs(&raw->reply, a);
    return status;
}

static uint32_t new_object(struct raw *raw, uint32_t proc, struct xbuf *args, struct fh *fh)
{
    uint32_t status = raw_nfs(raw, proc, args);

    if (status == 0) {
        MUST(x_get32(&raw->reply) == 1);
        x_get_fh(&raw->reply, fh);
    }
    x_free(args);
    return status;
}

uint32_t raw_create(struct raw *raw, const struct fh *dir, const char *name, struct fh *fh)
{
    struct xbuf args = {0};

    x_fh(&args, dir);
    x_name(&args, name);
    x_u32(&args, 0);
    x_no_sattr(&args);
    return new_object(raw, P_CREATE, &args, fh);
}

uint32_t raw_mkdir(struct raw *raw, const struct fh *dir, const char *name, struct fh *fh)
{
    struct xbuf args = {0};

    x_fh(&args, dir);
    x_name(&args, name);
    x_no_sattr(&args);
    return new_object(raw, P_MKDIR, &args, fh);
}

uint32_t raw_remove(struct raw *raw, const struct fh *dir, const char *name)
{
    return call_dirop(raw, P_REMOVE, dir, name);
}

uint32_t raw_write(struct raw *raw, const struct fh *fh, uint64_t off, const void *data,
                   uint32_t len, uint32_t stable, struct write_result *w)
{
    struct write_result ignored;
    struct xbuf args = {0};

    w = w ? w : &ignored;
    x_fh(&args, fh);
    x_u64(&args, off);
    x_u32(&args, len);
    x_u32(&args, stable);
    x_opaque(&args, data, len);
    uint32_t status = raw_nfs(raw, P_WRITE, &args);
    x_free(&args);
    if (status == RAW_GONE)
        return status;
    x_get_wcc(&raw->reply, &w->before, &w->after);
    if (status == 0) {
        w->count = x_get32(&raw->reply);
        w->committed = x_get32(&raw->reply);
        w->verf = x_get64(&raw->reply);
    }
    return status;
}

uint32_t raw_commit(struct raw *raw, const struct fh *fh, struct write_result *w)
{
    struct write_result ignored;
    struct xbuf args = {0};

    w = w ? w : &ignored;
    x_fh(&args, fh);
    x_u64(&args, 0);
    x_u32(&args, 0);
    uint32_t status = raw_nfs(raw, P_COMMIT, &args);
    x_free(&args);
    if (status == RAW_GONE)
        return status;
    x_get_wcc(&raw->reply, &w->before, &w->after);
    if (status == 0)
        w->verf = x_get64(&raw->reply);
    return status;
}

uint32_t raw_read(struct raw *raw, const struct fh *fh, uint64_t off, void *data, uint32_t cap,
                  uint32_t *len, bool *eof_reached)
{
    struct xbuf args = {0};
    struct attrs a;

    x_fh(&args, fh);
    x_u64(&args, off);
    x_u32(&args, cap);
    uint32_t status = raw_nfs(raw, P_READ, &args);
    x_free(&args);
    if (status != 0)
        return status;
    x_get_post(&raw->reply, &a);
    uint32_t count = x_get32(&raw->reply);
    bool eof = x_get32(&raw->reply);
    MUST(x_get32(&raw->reply) == count && count <= cap);
    const uint8_t *p = x_take(&raw->reply, count);
    MUST(p || count == 0);
    if (count)
        memcpy(data, p, count);
    *len = count;
    if (eof_reached)
        *eof_reached = eof;
    return 0;
}
