// SPDX-License-Identifier: Apache-2.0
/*
 * The receiving half of a connection: from a byte stream to replies (RFC 5531 section 11).
 *
 * Most replies arrive whole, in one fragment, and are decoded where they lie in the receive buffer.
 * A reply that arrives in pieces is collected until it is plain what it is: a successful READ's
 * data then goes straight from the socket into the memory that the caller gave; everything else is
 * collected to its end. While large READs are outstanding little is read ahead of the data, since
 * what lands in the buffer must be copied once more.
 *
 *     phase           bytes of the record go to
 *     COLLECT_HEAD    rec, until RX_HEAD bytes or the end are there: who is it for?
 *     COLLECT         rec, to the end (within what such a reply can need)
 *     DATA            the caller's vector
 *     SKIP            nowhere: padding, replies to nobody, data that is not believed
 *
 * Errors: what breaks the record marking, or claims sizes that no answer to us can have, ends the
 * connection, since nothing after it can be trusted to be where it seems to be. A call to whose
 * answer this happens again and again is ended with -EIO.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>

#include "daemon/nfs/client.h"
#include "daemon/nfs/xdr.h"

#define ENOUGH_AT_ONCE (8u << 20) /* then the other descriptors of the loop get their turn */
#define PEEK           4096       /* read ahead of READ data */
#define FRAGMENTS_MAX  4096       /* of one record */
#define RECV_IOV       1024

static void record_reset(struct conn_rx *rx)
{
    rx->in_fragment = rx->last_fragment = false;
    rx->fragment_left = rx->fragments = 0;
    rx->record_len = rx->rec_len = 0;
    rx->phase = RX_COLLECT_HEAD;
    rx->call = NULL;
    rx->has_suspect = rx->garbage = false;
    rx->data_left = 0;
}

void conn_rx_reset(struct conn *c)
{
    c->rx.pos = c->rx.len = 0;
    record_reset(&c->rx);
}

void conn_rx_forget(struct conn *c, struct remote_call *call)
{
    if (c->rx.call == call) {
        c->rx.call = NULL;
        c->rx.phase = RX_SKIP;
    }
}

/* How long a reply to this call can be, with room for a generous server. */
static size_t reply_max(const struct remote_call *call)
{
    size_t n = 64 << 10;
    if (call->p.proc == PROC_READDIR || call->p.proc == PROC_READDIRPLUS)
        n += 2 * (size_t)call->u.readdir.count;
    if (call->p.proc == PROC_READ)
        n += call->u.io.count;
    return n;
}

/* Only what was sent, to its last byte, can have an answer. */
static bool may_be_answered(const struct conn *c, const struct remote_call *call)
{
    return call->p.queue != &c->sent || call->p.tx_end <= c->tx.sent;
}

static const char *reply_to(struct conn *c, struct remote_call *call, struct nfs3_result *res,
                            size_t bytes)
{
    if (res->malformed)
        counter_add(&c->stats.garbled, 1);
    conn_unlink(c, call);
    conn_replied(c, call, bytes);
    call_replied(c, call, res);
    return NULL;
}

/* A whole record. */
static const char *handle_record(struct conn *c, const uint8_t *rec, size_t len)
{
    struct xdr x = xdr_of(rec, len);
    uint32_t xid = xdr_u32(&x), direction = xdr_u32(&x);
    if (x.bad || direction != RPC_REPLY)
        return "sent something that is not a reply";
    struct remote_call *call = conn_find(c, xid);
    if (!call) {
        counter_add(&c->stats.strangers, 1);
        return NULL;
    }
    if (!may_be_answered(c, call))
        return "answered a call before it was sent";
    call_decode(c->r, call, rec, len, &c->result);
    return reply_to(c, call, &c->result, len);
}

/* `data` belongs at the present place of the caller's vector. */
static void data_copy(struct conn_rx *rx, const uint8_t *data, size_t len)
{
    const struct iovec *iov = rx->call->u.io.iov;
    rx->data_left -= (uint32_t)len;
    while (len) {
        size_t room = iov[rx->iov_at].iov_len - rx->iov_off, n = len < room ? len : room;
        memcpy((uint8_t *)iov[rx->iov_at].iov_base + rx->iov_off, data, n);
        data += n;
        len -= n;
        rx->iov_off += n;
        if (rx->iov_off == iov[rx->iov_at].iov_len) {
            rx->iov_at++;
            rx->iov_off = 0;
        }
    }
}

static void data_advance(struct conn_rx *rx, size_t len)
{
    const struct iovec *iov = rx->call->u.io.iov;
    rx->data_left -= (uint32_t)len;
    while (len) {
        size_t room = iov[rx->iov_at].iov_len - rx->iov_off, n = len < room ? len : room;
        len -= n;
        rx->iov_off += n;
        if (rx->iov_off == iov[rx->iov_at].iov_len) {
            rx->iov_at++;
            rx->iov_off = 0;
        }
    }
}

/* The head of a record that has not arrived as a whole: where does the rest go? */
static const char *choose_phase(struct conn *c)
{
    struct conn_rx *rx = &c->rx;
    struct xdr x = xdr_of(rx->rec, rx->rec_len);
    uint32_t xid = xdr_u32(&x), count = 0;
    if (xdr_u32(&x) != RPC_REPLY || x.bad)
        return "sent something that is not a reply";
    struct remote_call *call = conn_find(c, xid);
    if (!call) {
        rx->phase = RX_SKIP;
        return NULL;
    }
    if (!may_be_answered(c, call))
        return "answered a call before it was sent";
    rx->has_suspect = true;
    rx->suspect = xid;
    rx->rec_limit = reply_max(call);
    rx->phase = RX_COLLECT;
    if (call->p.proc != PROC_READ)
        return NULL;
    long front = decode_read_head(call, rx->rec, rx->rec_len, &c->result, &count);
    if (front == 0)
        return NULL;
    rx->call = call;
    if (front < 0) {
        nfs3_log(c->r, LOG_WARNING, "%s sent a malformed reply to READ", c->r->server);
        c->result.malformed = true;
        c->result.error = -EIO;
        rx->phase = RX_SKIP;
        return NULL;
    }
    size_t here = rx->rec_len - (size_t)front;
    rx->phase = RX_DATA;
    rx->iov_at = 0;
    rx->iov_off = 0;
    rx->data_left = count;
    data_copy(rx, rx->rec + front, here < count ? here : count);
    if (!rx->data_left)
        rx->phase = RX_SKIP;
    return NULL;
}

static const char *collect(struct conn *c, const uint8_t *p, size_t n)
{
    struct conn_rx *rx = &c->rx;
    if (rx->phase == RX_COLLECT && rx->rec_len + n > rx->rec_limit)
        return "sent a reply larger than any to this call can be";
    if (rx->rec_len + n > rx->rec_cap) {
        size_t cap = rx->rec_cap ? rx->rec_cap : 4096;
        while (cap < rx->rec_len + n)
            cap *= 2;
        uint8_t *rec = realloc(rx->rec, cap);
        if (!rec)
            return "sent a reply for which there is no memory";
        rx->rec = rec;
        rx->rec_cap = cap;
    }
    memcpy(rx->rec + rx->rec_len, p, n);
    rx->rec_len += n;
    return NULL;
}

/* Up to n bytes of the present fragment; how many were taken in *used. */
static const char *take(struct conn *c, const uint8_t *p, size_t n, size_t *used)
{
    struct conn_rx *rx = &c->rx;
    const char *why = NULL;
    *used = n;
    switch (rx->phase) {
    case RX_COLLECT_HEAD:
        if (n > RX_HEAD - rx->rec_len)
            *used = n = RX_HEAD - rx->rec_len;
        why = collect(c, p, n);
        if (!why && rx->rec_len == RX_HEAD)
            why = choose_phase(c);
        return why;
    case RX_COLLECT:
        return collect(c, p, n);
    case RX_DATA:
        if (n > rx->data_left)
            *used = n = rx->data_left;
        data_copy(rx, p, n);
        if (!rx->data_left)
            rx->phase = RX_SKIP;
        return NULL;
    case RX_SKIP:
        return NULL;
    }
    return NULL;
}

static const char *end_of_record(struct conn *c)
{
    struct conn_rx *rx = &c->rx;
    struct remote_call *call = rx->call;
    int phase = rx->phase;
    size_t len = rx->record_len, rec_len = rx->rec_len;
    record_reset(rx);
    if (phase == RX_COLLECT_HEAD || phase == RX_COLLECT)
        return handle_record(c, rx->rec, rec_len);
    if (!call) {
        counter_add(&c->stats.strangers, 1);
        return NULL;
    }
    if (phase == RX_DATA) {
        c->result.malformed = true;
        c->result.error = -EIO;
        nfs3_log(c->r, LOG_WARNING, "%s sent less READ data than it said", c->r->server);
    }
    return reply_to(c, call, &c->result, len);
}

static const char *next_fragment(struct conn *c)
{
    struct conn_rx *rx = &c->rx;
    struct xdr x = xdr_of(rx->buf + rx->pos, 4);
    uint32_t marker = xdr_u32(&x);
    rx->pos += 4;
    rx->in_fragment = true;
    rx->last_fragment = marker >> 31;
    rx->fragment_left = marker & 0x7fffffff;
    rx->record_len += rx->fragment_left;
    if (++rx->fragments > FRAGMENTS_MAX)
        return "sent a record in too many fragments";
    if (rx->record_len <= c->r->record_max)
        return NULL;
    if (rx->len - rx->pos >= 4) {
        x = xdr_of(rx->buf + rx->pos, 4);
        rx->has_suspect = true;
        rx->suspect = xdr_u32(&x);
    }
    return "sent a record larger than any reply can be";
}

/* Takes the buffer apart as far as it goes. */
static const char *parse(struct conn *c)
{
    struct conn_rx *rx = &c->rx;
    for (;;) {
        const char *why = NULL;
        size_t have = rx->len - rx->pos;
        if (!rx->in_fragment) {
            if (have < 4)
                return NULL;
            if ((why = next_fragment(c)))
                return why;
            have -= 4;
            if (rx->last_fragment && rx->fragments == 1 && have >= rx->fragment_left) {
                const uint8_t *rec = rx->buf + rx->pos;
                size_t len = rx->fragment_left;
                rx->pos += len;
                record_reset(rx);
                if ((why = handle_record(c, rec, len)))
                    return why;
                continue;
            }
        }
        size_t n = have < rx->fragment_left ? have : rx->fragment_left, used = 0;
        if (n) {
            if ((why = take(c, rx->buf + rx->pos, n, &used)))
                return why;
            rx->pos += used;
            rx->fragment_left -= (uint32_t)used;
        }
        if (!rx->fragment_left) {
            rx->in_fragment = false;
            if (rx->last_fragment && (why = end_of_record(c)))
                return why;
            continue;
        }
        if (!used)
            return NULL;
    }
}

/* Into the buffer behind what is there. */
static ssize_t receive_buffer(struct conn *c, bool *all)
{
    struct conn_rx *rx = &c->rx;
    if (rx->pos) {
        memmove(rx->buf, rx->buf + rx->pos, rx->len - rx->pos);
        rx->len -= rx->pos;
        rx->pos = 0;
    }
    size_t want = c->bulk_reads ? PEEK : RX_BUF - rx->len;
    ssize_t n = recv(c->fd, rx->buf + rx->len, want, MSG_DONTWAIT);
    *all = n >= 0 && (size_t)n < want;
    if (n > 0)
        rx->len += (size_t)n;
    return n;
}

/* READ data into its place, and a little of what comes behind into the (empty) buffer. */
static ssize_t receive_data(struct conn *c, bool *all)
{
    struct conn_rx *rx = &c->rx;
    const struct iovec *src = rx->call->u.io.iov;
    struct iovec iov[RECV_IOV + 1];
    uint32_t left = rx->data_left < rx->fragment_left ? rx->data_left : rx->fragment_left;
    size_t data = 0, off = rx->iov_off;
    int n = 0;
    for (int i = rx->iov_at; left && n < RECV_IOV; i++, n++) {
        size_t len = src[i].iov_len - off;
        if (len > left)
            len = left;
        iov[n] = (struct iovec){(uint8_t *)src[i].iov_base + off, len};
        off = 0;
        left -= (uint32_t)len;
        data += len;
    }
    if (!left)
        iov[n++] = (struct iovec){rx->buf, PEEK};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    ssize_t got = recvmsg(c->fd, &msg, MSG_DONTWAIT);
    if (got <= 0)
        return got;
    size_t placed = (size_t)got < data ? (size_t)got : data;
    *all = (size_t)got < data + (left ? 0 : PEEK);
    data_advance(rx, placed);
    rx->fragment_left -= (uint32_t)placed;
    if (!rx->data_left)
        rx->phase = RX_SKIP;
    rx->pos = 0;
    rx->len = (size_t)got - placed;
    return got;
}

const char *conn_receive(struct conn *c)
{
    struct conn_rx *rx = &c->rx;
    size_t total = 0;
    while (total < ENOUGH_AT_ONCE) {
        bool all = false, direct = rx->phase == RX_DATA && rx->pos == rx->len && rx->fragment_left;
        if (rx->pos == rx->len)
            rx->pos = rx->len = 0;
        ssize_t n = direct ? receive_data(c, &all) : receive_buffer(c, &all);
        if (n == 0)
            return "closed the connection";
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                return NULL;
            return strerror(errno);
        }
        c->last_rx_ns = now_ns();
        total += (size_t)n;
        const char *why = parse(c);
        if (why) {
            counter_add(&c->stats.garbled, 1);
            rx->garbage = true;
            return why;
        }
        if (all)
            return NULL;
    }
    return NULL;
}
