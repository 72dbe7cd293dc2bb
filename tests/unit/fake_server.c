// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/fake_server.h"

#include <arpa/inet.h>
#include <assert.h>
#include <endian.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return be32toh(v);
}

static void peer_close(struct fake *f, int i)
{
    close(f->peer[i].fd);
    free(f->peer[i].buf);
    memset(&f->peer[i], 0, sizeof(f->peer[i]));
    f->peer[i].fd = -1;
}

static void accept_one(struct fake *f)
{
    struct sockaddr_in a;
    socklen_t len = sizeof(a);
    int fd = accept(f->listen_fd, (struct sockaddr *)&a, &len), i = 0;
    if (fd < 0)
        return;
    while (i < FAKE_PEERS && f->peer[i].fd >= 0)
        i++;
    assert(i < FAKE_PEERS);
    f->peer[i].fd = fd;
    f->peer[i].port = ntohs(a.sin_port);
    f->peer[i].buf = malloc(FAKE_RECORD_MAX);
    f->accepted++;
}

/* xid CALL rpcvers prog vers proc, credential, verifier, arguments */
static struct fake_request request_of(struct fake *f, int i, const uint8_t *rec, size_t len)
{
    struct fake_request r = {.peer = i, .port = f->peer[i].port, .nth = f->requests};
    assert(len >= 32);
    r.xid = get32(rec);
    r.proc = get32(rec + 20);
    size_t at = 32 + ((get32(rec + 28) + 3u) & ~3u);
    at += 8;
    r.args = rec + at;
    r.args_len = len > at ? len - at : 0;
    return r;
}

static void take_records(struct fake *f, int i)
{
    for (;;) {
        uint8_t *buf = f->peer[i].buf;
        if (f->peer[i].len < 4)
            return;
        size_t n = get32(buf) & 0x7fffffff;
        if (f->early && !f->peer[i].early_done && f->peer[i].len >= 68) {
            struct fake_request r = request_of(f, i, buf + 4, f->peer[i].len - 4);
            f->peer[i].early_done = true;
            if (f->early(f, &r) && f->peer[i].fd < 0)
                return;
        }
        if (f->peer[i].len < 4 + n)
            return;
        struct fake_request r = request_of(f, i, buf + 4, n);
        f->requests++;
        f->handle(f, &r);
        if (f->peer[i].fd < 0)
            return;
        memmove(buf, buf + 4 + n, f->peer[i].len - 4 - n);
        f->peer[i].len -= 4 + n;
        f->peer[i].early_done = false;
    }
}

static void *serve(void *arg)
{
    struct fake *f = arg;
    while (!f->quit) {
        struct pollfd p[FAKE_PEERS + 2] = {{.fd = f->wake_fd, .events = POLLIN},
                                           {.fd = f->deaf ? -1 : f->listen_fd, .events = POLLIN}};
        for (int i = 0; i < FAKE_PEERS; i++)
            p[i + 2] = (struct pollfd){.fd = f->deaf ? -1 : f->peer[i].fd, .events = POLLIN};
        poll(p, FAKE_PEERS + 2, f->deaf ? 20 : -1);
        for (int i = 0; i < FAKE_PEERS; i++) {
            if (!(p[i + 2].revents & (POLLIN | POLLHUP | POLLERR)))
                continue;
            size_t want = f->early ? 4096 : FAKE_RECORD_MAX - f->peer[i].len;
            ssize_t n = recv(f->peer[i].fd, f->peer[i].buf + f->peer[i].len, want, MSG_DONTWAIT);
            if (n <= 0) {
                peer_close(f, i);
                continue;
            }
            f->peer[i].len += (size_t)n;
            take_records(f, i);
        }
        if (p[1].revents & POLLIN)
            accept_one(f);
    }
    return NULL;
}

void fake_start(struct fake *f)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int one = 1;
    for (int i = 0; i < FAKE_PEERS; i++)
        f->peer[i].fd = -1;
    f->wake_fd = eventfd(0, 0);
    f->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(f->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (f->receive_buffer)
        setsockopt(f->listen_fd, SOL_SOCKET, SO_RCVBUF, &f->receive_buffer, sizeof(int));
    a.sin_port = htons(f->port);
    if (bind(f->listen_fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(f->listen_fd, 16) < 0 ||
        getsockname(f->listen_fd, (struct sockaddr *)&a, &len) < 0)
        abort();
    f->port = ntohs(a.sin_port);
    pthread_create(&f->thread, NULL, serve, f);
}

void fake_stop(struct fake *f)
{
    uint64_t one = 1;
    f->quit = true;
    if (write(f->wake_fd, &one, sizeof(one)) != sizeof(one))
        abort();
    pthread_join(f->thread, NULL);
    for (int i = 0; i < FAKE_PEERS; i++) {
        if (f->peer[i].fd >= 0)
            peer_close(f, i);
    }
    close(f->listen_fd);
    close(f->wake_fd);
    f->quit = false;
}

void fake_send(struct fake *f, const struct fake_request *req, const void *data, size_t len)
{
    const uint8_t *p = data;
    while (len && f->peer[req->peer].fd >= 0) {
        ssize_t n = send(f->peer[req->peer].fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        p += n;
        len -= (size_t)n;
    }
}

void fake_hangup(struct fake *f, const struct fake_request *req)
{
    peer_close(f, req->peer);
}

/* ---- replies ---- */

void put_raw(struct reply *r, const void *data, size_t len)
{
    if (r->len + len > r->cap) {
        r->cap = 2 * (r->len + len) + 256;
        r->p = realloc(r->p, r->cap);
    }
    memcpy(r->p + r->len, data, len);
    r->len += len;
}

void put32(struct reply *r, uint32_t v)
{
    v = htobe32(v);
    put_raw(r, &v, 4);
}

void put64(struct reply *r, uint64_t v)
{
    v = htobe64(v);
    put_raw(r, &v, 8);
}

void put_bytes(struct reply *r, const void *data, uint32_t len)
{
    put32(r, len);
    put_raw(r, data, len);
    put_raw(r, "\0\0\0", -len & 3);
}

void put_ok(struct reply *r, uint32_t xid, uint32_t status)
{
    put32(r, xid);
    put32(r, 1); /* REPLY */
    put32(r, 0); /* MSG_ACCEPTED */
    put64(r, 0); /* AUTH_NONE */
    put32(r, 0); /* SUCCESS */
    put32(r, status);
}

void put_fattr_of(struct reply *r, uint32_t type, uint64_t fileid, uint64_t size,
                  const struct fattr *a)
{
    put32(r, type);
    put32(r, a->mode);
    put32(r, type == 2 ? 2 : 1);
    put32(r, a->uid);
    put32(r, 0); /* gid */
    put64(r, size);
    put64(r, size);
    put64(r, 0); /* rdev */
    put64(r, 7); /* fsid */
    put64(r, fileid);
    for (int i = 0; i < 3; i++) {
        put32(r, a->time[i]);
        put32(r, 5);
    }
}

void put_fattr(struct reply *r, uint32_t type, uint64_t fileid, uint64_t size)
{
    static const struct fattr usual = {.mode = 0644, .time = {1700000000, 1700000000, 1700000000}};
    put_fattr_of(r, type, fileid, size, &usual);
}

void put_post(struct reply *r, uint32_t type, uint64_t fileid, uint64_t size)
{
    put32(r, 1);
    put_fattr(r, type, fileid, size);
}

void put_no_wcc(struct reply *r)
{
    put64(r, 0);
}

void reply_send(struct fake *f, const struct fake_request *req, struct reply *r)
{
    reply_send_in_fragments(f, req, r, r->len);
}

void reply_send_in_fragments(struct fake *f, const struct fake_request *req, struct reply *r,
                             size_t size)
{
    struct reply out = {0};
    for (size_t at = 0; at < r->len; at += size) {
        size_t n = r->len - at < size ? r->len - at : size;
        put32(&out, (uint32_t)n | (at + n == r->len ? 0x80000000u : 0));
        put_raw(&out, r->p + at, n);
    }
    fake_send(f, req, out.p, out.len);
    free(out.p);
    free(r->p);
    memset(r, 0, sizeof(*r));
}
