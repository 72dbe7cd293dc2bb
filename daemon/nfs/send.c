// SPDX-License-Identifier: Apache-2.0
/*
 * The sending half of a connection: as many waiting calls as fit are encoded into one batch, which
 * leaves by one sendmsg(), WRITE data straight from the caller's memory.
 *
 * Every call knows its place in the connection's byte stream (tx_start, tx_end), so that it can be
 * told what may have reached the server, and whose memory is still needed.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "daemon/nfs/client.h"

#define TIMEO_MAX  600000000000ull /* ns; nfs(5): a timeout grows to ten minutes at most */
#define TX_AT_ONCE (4u << 20)      /* bytes; then receiving gets its turn */
#define SEND_IOV   1024

void conn_tx_reset(struct conn *c)
{
    struct conn_tx *tx = &c->tx;
    tx->used = 0;
    tx->iovcnt = tx->iovpos = 0;
    tx->queued = tx->sent;
    tx->want_out = false;
}

static void tx_append(struct conn_tx *tx, const void *data, size_t len)
{
    struct iovec *last = tx->iovcnt ? &tx->iov[tx->iovcnt - 1] : NULL;
    tx->queued += len;
    if (last && (uint8_t *)last->iov_base + last->iov_len == data)
        last->iov_len += len;
    else
        tx->iov[tx->iovcnt++] = (struct iovec){(void *)(uintptr_t)data, len};
}

static void tx_append_write_data(struct conn_tx *tx, const struct remote_call *call)
{
    static const uint8_t zeros[4];
    uint32_t left = call->u.io.count, pad = -call->u.io.count & 3;
    for (int i = 0; left; i++) {
        const struct iovec *iov = &call->u.io.iov[i];
        uint32_t n = iov->iov_len < left ? (uint32_t)iov->iov_len : left;
        if (n)
            tx_append(tx, iov->iov_base, n);
        left -= n;
    }
    if (pad)
        tx_append(tx, zeros, pad);
}

static void tx_call(struct conn *c, struct remote_call *call, uint64_t now)
{
    struct conn_tx *tx = &c->tx;
    struct proc_counters *s = conn_proc_stats(c, call);
    uint64_t wait;
    if (!(call->p.flags & CALL_HASHED))
        conn_xid_assign(c, call);
    call->p.tx_start = tx->queued;
    size_t len = call_encode(c->r, call, tx->buf + tx->used, TX_BUF - tx->used);
    tx_append(tx, tx->buf + tx->used, len);
    tx->used += len;
    if (call->p.proc == PROC_WRITE)
        tx_append_write_data(tx, call);
    call->p.tx_end = tx->queued;
    call->p.tx_ns = now;
    if (call->p.tries++ == 0) {
        counter_add(&s->calls, 1);
        call->p.start_ns = now;
    } else {
        counter_add(&s->retransmits, 1);
    }
    if (!call->sent_ns)
        call->sent_ns = now;
    counter_add(&s->bytes_out, call->p.tx_end - call->p.tx_start);
    wait = c->r->timeo_ns * call->p.tries;
    call->p.deadline_ns = now + (wait < TIMEO_MAX ? wait : TIMEO_MAX);
    queue_remove(call);
    queue_push(&c->sent, call);
}

static void tx_build(struct conn *c)
{
    struct conn_tx *tx = &c->tx;
    uint64_t now = now_ns(), start;
    struct remote_call *call;
    tx->used = 0;
    tx->iovcnt = tx->iovpos = 0;
    start = tx->queued;
    while ((call = c->waiting.first) && TX_BUF - tx->used >= call_encode_room(call) &&
           tx->queued - start < TX_AT_ONCE) {
        int iovs = call->p.proc == PROC_WRITE ? call->u.io.iovcnt + 2 : 1;
        if (tx->iovcnt + iovs > TX_IOV)
            break;
        tx_call(c, call, now);
    }
}

void conn_want_out(struct conn *c, bool on)
{
    if (c->tx.want_out == on)
        return;
    c->tx.want_out = on;
    loop_mod_fd(c->loop, c->fd, on ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void tx_advance(struct conn_tx *tx, size_t n)
{
    tx->sent += n;
    while (n) {
        struct iovec *iov = &tx->iov[tx->iovpos];
        size_t step = n < iov->iov_len ? n : iov->iov_len;
        iov->iov_base = (uint8_t *)iov->iov_base + step;
        iov->iov_len -= step;
        n -= step;
        if (!iov->iov_len)
            tx->iovpos++;
    }
}

void conn_flush(struct conn *c)
{
    struct conn_tx *tx = &c->tx;
    size_t total = 0;
    while (atomic_load_explicit(&c->state, memory_order_relaxed) == CONN_UP) {
        if (tx->iovpos == tx->iovcnt)
            tx_build(c);
        int n = tx->iovcnt - tx->iovpos;
        if (!n) {
            conn_want_out(c, false);
            return;
        }
        if (total >= TX_AT_ONCE) {
            conn_want_out(c, true);
            return;
        }
        struct msghdr msg = {.msg_iov = tx->iov + tx->iovpos,
                             .msg_iovlen = (size_t)(n < SEND_IOV ? n : SEND_IOV)};
        ssize_t sent = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            conn_want_out(c, true);
            return;
        }
        if (sent < 0) {
            conn_drop(c, strerror(errno));
            return;
        }
        c->last_tx_ns = now_coarse_ns();
        total += (size_t)sent;
        tx_advance(tx, (size_t)sent);
    }
}
