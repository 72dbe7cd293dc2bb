// SPDX-License-Identifier: Apache-2.0
/*
 * A server that answers what a test tells it to: records in, bytes out, no NFS in it at all.
 *
 * One thread; fake->handle is called for each record that arrives, in that thread, and may send
 * anything with fake_send(), or hang up with fake_hangup().
 */
#ifndef TESTS_FAKE_SERVER_H
#define TESTS_FAKE_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAKE_PEERS = 16, FAKE_RECORD_MAX = 4 << 20 };

struct fake_request {
    int peer;      /* which connection */
    uint16_t port; /* the client's */
    int nth;       /* of all requests, from 0 */
    uint32_t xid, proc;
    const uint8_t *args; /* behind the RPC header */
    size_t args_len;
};

struct fake {
    int listen_fd, wake_fd;
    uint16_t port;
    pthread_t thread;
    _Atomic bool quit;
    void (*handle)(struct fake *f, const struct fake_request *req);
    /* If set, called when the first 64 bytes of a record are there, before the rest is read. */
    bool (*early)(struct fake *f, const struct fake_request *req);
    int receive_buffer; /* of its sockets; 0: the system's */
    _Atomic int requests, accepted;
    _Atomic bool early_wait; /* for `early`'s own use */
    _Atomic bool deaf;       /* accept nothing more, read nothing more */
    struct {
        int fd;
        uint16_t port;
        uint8_t *buf;
        size_t len;
        bool early_done;
    } peer[FAKE_PEERS];
};

void fake_start(struct fake *f);
void fake_stop(struct fake *f);
void fake_send(struct fake *f, const struct fake_request *req, const void *data, size_t len);
void fake_hangup(struct fake *f, const struct fake_request *req);

/* ---- building a reply ---- */

struct reply {
    uint8_t *p;
    size_t len, cap;
};

void put32(struct reply *r, uint32_t v);
void put64(struct reply *r, uint64_t v);
void put_bytes(struct reply *r, const void *data, uint32_t len); /* counted and padded */
void put_raw(struct reply *r, const void *data, size_t len);
/* RPC header of a success, and the NFS status. */
void put_ok(struct reply *r, uint32_t xid, uint32_t status);
/* Attributes that follow: of `type`, with this file id. */
void put_fattr(struct reply *r, uint32_t type, uint64_t fileid, uint64_t size);
/* The same with these instead of the usual ones. */
struct fattr {
    uint32_t mode, uid;
    uint32_t time[3]; /* seconds of atime, mtime, ctime */
};
void put_fattr_of(struct reply *r, uint32_t type, uint64_t fileid, uint64_t size,
                  const struct fattr *a);
void put_post(struct reply *r, uint32_t type, uint64_t fileid, uint64_t size);
void put_no_wcc(struct reply *r);
/* Sends it as one record of one fragment, and frees it. */
void reply_send(struct fake *f, const struct fake_request *req, struct reply *r);
/* In fragments of `size` bytes. */
void reply_send_in_fragments(struct fake *f, const struct fake_request *req, struct reply *r,
                             size_t size);

#endif
