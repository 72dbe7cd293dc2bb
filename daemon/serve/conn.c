// SPDX-License-Identifier: Apache-2.0
/*
 * Connections: reading records, writing replies.
 *
 * A connection is armed EPOLLONESHOT: one thread at a time reads it. What that thread read is taken
 * apart into records (RFC 5531 section 11); each complete one becomes a call. The bulk of a large
 * record is read straight to its place. Replies are queued; the first thread that finds nobody
 * sending sends all there are, and what the socket does not take waits for EPOLLOUT.
 *
 * A connection is named in epoll by slot and generation, not by its address, so that an event that
 * was fetched just before the connection died finds nothing instead of freed memory.
 *
 * Errors: anything wrong with a connection (closed, reset, a record longer than SERVE_MAX_RECORD,
 * no memory) ends that connection and nothing else.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "daemon/serve/internal.h"

#define CONN_MAGIC 0xc0220001U
#define STAGE_SIZE 65536
#define SEND_IOV   60

struct conn *serve_conn_ref(struct conn *conn)
{
    atomic_fetch_add(&conn->refs, 1);
    return conn;
}

void serve_conn_put(struct conn *conn)
{
    if (atomic_fetch_sub(&conn->refs, 1) != 1)
        return;
    assert(conn->magic == CONN_MAGIC);
    while (!STAILQ_EMPTY(&conn->out)) {
        struct reply *reply = STAILQ_FIRST(&conn->out);
        STAILQ_REMOVE_HEAD(&conn->out, link);
        serve_reply_free(reply);
    }
    close(conn->fd);
    serve_buf_put(conn->record, conn->record_cap);
    free(conn->stage);
    pthread_mutex_destroy(&conn->lock);
    conn->magic = 0;
    free(conn);
}

/* From here on nothing is sent. conn.lock held. */
static void conn_shut(struct conn *conn)
{
    if (!conn->dead) {
        conn->dead = true;
        shutdown(conn->fd, SHUT_RDWR);
    }
}

void serve_conn_kill(struct conn *conn)
{
    struct server *srv = conn->srv;
    bool listed = false;

    pthread_mutex_lock(&conn->lock);
    conn_shut(conn);
    pthread_mutex_unlock(&conn->lock);
    pthread_mutex_lock(&srv->lock);
    if (srv->conns[conn->slot] == conn) {
        srv->conns[conn->slot] = NULL;
        listed = true;
    }
    pthread_mutex_unlock(&srv->lock);
    if (listed)
        serve_conn_put(conn);
}

static struct conn *conn_lookup(struct server *srv, uint64_t tag)
{
    uint32_t slot = (uint32_t)tag, generation = (uint32_t)(tag >> 32);
    struct conn *conn;

    pthread_mutex_lock(&srv->lock);
    conn = srv->conns[slot];
    if (conn && conn->generation == generation)
        serve_conn_ref(conn);
    else
        conn = NULL;
    pthread_mutex_unlock(&srv->lock);
    return conn;
}

/*
 * Tell epoll what is wanted now. conn.lock held. A client that does not read its replies is not
 * read either until they are gone (conn_flush arms again), nor is anybody while the server is
 * paused (serve_net_resume arms again).
 */
static void conn_arm(struct conn *conn)
{
    bool in = conn->arm_in && conn->out_bytes <= SERVE_OUT_MAX && !atomic_load(&conn->srv->paused);
    struct epoll_event ev = {
        .events = EPOLLONESHOT | (in ? EPOLLIN : 0) | (conn->arm_out ? EPOLLOUT : 0),
        .data.u64 = (uint64_t)conn->generation << 32 | conn->slot,
    };

    conn->throttled = conn->arm_in && !in;
    if (!conn->dead && (in || conn->arm_out))
        epoll_ctl(conn->srv->epfd, EPOLL_CTL_MOD, conn->fd, &ev);
}

static void conn_peer_name(struct conn *conn)
{
    char host[64] = "?", port[16] = "?";

    getnameinfo((struct sockaddr *)&conn->peer, sizeof(conn->peer), host, sizeof(host), port,
                sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(conn->peer_name, sizeof(conn->peer_name), "%s:%s", host, port);
}

void serve_conn_new(struct server *srv, int fd, const struct sockaddr_storage *peer)
{
    struct conn *conn = calloc(1, sizeof(*conn));
    int one = 1;

    if (!conn || !(conn->stage = malloc(STAGE_SIZE))) {
        free(conn);
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    conn->magic = CONN_MAGIC;
    conn->srv = srv;
    conn->fd = fd;
    conn->peer = *peer;
    conn->arm_in = true;
    atomic_init(&conn->refs, 2); /* the table's and ours */
    pthread_mutex_init(&conn->lock, NULL);
    STAILQ_INIT(&conn->out);
    conn_peer_name(conn);

    pthread_mutex_lock(&srv->lock);
    for (conn->slot = 0; conn->slot < SERVE_MAX_CONNS && srv->conns[conn->slot]; conn->slot++)
        ;
    if (conn->slot < SERVE_MAX_CONNS) {
        conn->generation = ++srv->generation;
        srv->conns[conn->slot] = conn;
    }
    pthread_mutex_unlock(&srv->lock);
    if (conn->slot == SERVE_MAX_CONNS) {
        serve_conn_put(conn);
    } else {
        struct epoll_event ev = {
            .events = EPOLLIN | EPOLLONESHOT,
            .data.u64 = (uint64_t)conn->generation << 32 | conn->slot,
        };
        atomic_fetch_add(&srv->connections, 1);
        if (epoll_ctl(srv->epfd, EPOLL_CTL_ADD, fd, &ev) != 0)
            serve_conn_kill(conn);
    }
    serve_conn_put(conn);
}

/* ---- sending ---- */

/* The parts of REPLY that are still to be sent. */
static int reply_iov(const struct reply *reply, struct iovec iov[3])
{
    static const uint8_t zeros[4];
    struct iovec all[3] = {{reply->head, reply->head_len},
                           {reply->data, reply->data_len},
                           {(void *)(uintptr_t)zeros, reply->pad}};
    size_t total = reply->head_len + reply->data_len + reply->pad;
    size_t limit = reply->cut && reply->cut < total ? reply->cut : total;
    size_t skip = reply->sent, at = 0;
    int count = 0;

    for (int i = 0; i < 3 && at < limit; i++) {
        size_t len = all[i].iov_len < limit - at ? all[i].iov_len : limit - at;
        at += len;
        if (skip >= len) {
            skip -= len;
            continue;
        }
        iov[count++] = (struct iovec){(char *)all[i].iov_base + skip, len - skip};
        skip = 0;
    }
    return count;
}

static size_t reply_left(const struct reply *reply)
{
    size_t total = reply->head_len + reply->data_len + reply->pad;

    return (reply->cut && reply->cut < total ? reply->cut : total) - reply->sent;
}

/* N bytes went out: free what is done. conn.lock held. Whether the connection is to be closed. */
static bool conn_sent(struct conn *conn, size_t n)
{
    while (!STAILQ_EMPTY(&conn->out)) {
        struct reply *reply = STAILQ_FIRST(&conn->out);
        size_t left = reply_left(reply);
        if (n < left) {
            reply->sent += n;
            conn->out_bytes -= n;
            return false;
        }
        n -= left;
        conn->out_bytes -= left;
        STAILQ_REMOVE_HEAD(&conn->out, link);
        bool last = reply->close_after;
        serve_reply_free(reply);
        if (last)
            return true;
        if (n == 0)
            break;
    }
    return false;
}

/* Write out what the socket takes. The caller has set conn.sending, and holds no lock. */
static void conn_flush(struct conn *conn)
{
    bool kill = false;

    pthread_mutex_lock(&conn->lock);
    while (!STAILQ_EMPTY(&conn->out) && !conn->dead) {
        struct iovec iov[SEND_IOV + 3];
        struct msghdr msg = {.msg_iov = iov};
        struct reply *reply;

        STAILQ_FOREACH(reply, &conn->out, link)
        {
            if (msg.msg_iovlen + 3 > SEND_IOV)
                break;
            msg.msg_iovlen += (size_t)reply_iov(reply, iov + msg.msg_iovlen);
            if (reply->close_after)
                break;
        }
        pthread_mutex_unlock(&conn->lock);
        ssize_t n = sendmsg(conn->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        int error = errno;
        pthread_mutex_lock(&conn->lock);
        if (n < 0 && error == EINTR)
            continue;
        if (n < 0 && error == EAGAIN) {
            conn->arm_out = true;
            conn_arm(conn);
            break;
        }
        if (n < 0 || conn_sent(conn, (size_t)n)) {
            /* Under this lock: the next reply would follow one that was cut as if it were its rest.
             */
            conn_shut(conn);
            kill = true;
            break;
        }
    }
    conn->sending = false;
    if (conn->throttled)
        conn_arm(conn);
    pthread_mutex_unlock(&conn->lock);
    if (kill)
        serve_conn_kill(conn);
}

void serve_conn_send(struct conn *conn, struct reply *reply)
{
    bool flush = false;

    pthread_mutex_lock(&conn->lock);
    if (conn->dead) {
        serve_reply_free(reply);
    } else {
        conn->out_bytes += reply_left(reply);
        STAILQ_INSERT_TAIL(&conn->out, reply, link);
        flush = !conn->sending && !conn->arm_out;
        if (flush)
            conn->sending = true;
    }
    pthread_mutex_unlock(&conn->lock);
    if (flush)
        conn_flush(conn);
}

/* ---- receiving ---- */

static bool record_reserve(struct conn *conn, size_t more)
{
    size_t need = conn->record_len + more, cap;
    uint8_t *bigger;

    if (need > SERVE_MAX_RECORD)
        return false;
    if (need <= conn->record_cap)
        return true;
    bigger = serve_buf_get(need, &cap);
    if (!bigger)
        return false;
    if (conn->record_len)
        memcpy(bigger, conn->record, conn->record_len);
    serve_buf_put(conn->record, conn->record_cap);
    conn->record = bigger;
    conn->record_cap = cap;
    return true;
}

/* A fragment ended: hand on the record if it was the last one. */
static void fragment_end(struct conn *conn, struct call_list *calls)
{
    conn->in_fragment = false;
    conn->mark_have = 0;
    if (!conn->last_fragment)
        return;
    struct call *call =
        serve_rpc_accept(conn->srv, conn, conn->record, conn->record_len, conn->record_cap);
    if (call)
        STAILQ_INSERT_TAIL(calls, call, link);
    conn->record = NULL;
    conn->record_len = conn->record_cap = 0;
    conn->shown = false;
    conn->cut_at = 0;
}

/* Take what the stage holds apart (RFC 5531 section 11). False: this is no client. */
static bool assemble(struct conn *conn, struct call_list *calls)
{
    while (conn->stage_at < conn->stage_len) {
        size_t have = conn->stage_len - conn->stage_at;
        const uint8_t *from = conn->stage + conn->stage_at;

        if (!conn->in_fragment) {
            size_t take = 4 - conn->mark_have < have ? 4 - conn->mark_have : have;
            memcpy(conn->mark + conn->mark_have, from, take);
            conn->mark_have += (unsigned)take;
            conn->stage_at += take;
            if (conn->mark_have < 4)
                return true;
            uint32_t mark;
            memcpy(&mark, conn->mark, 4);
            mark = ntohl(mark);
            conn->in_fragment = true;
            conn->last_fragment = mark >> 31;
            conn->fragment_left = mark & 0x7fffffff;
            if (!record_reserve(conn, conn->fragment_left))
                return false;
        } else {
            size_t take = conn->fragment_left < have ? conn->fragment_left : have;
            memcpy(conn->record + conn->record_len, from, take);
            conn->record_len += take;
            conn->fragment_left -= take;
            conn->stage_at += take;
        }
        if (conn->fragment_left == 0)
            fragment_end(conn, calls);
    }
    return true;
}

/* One read: straight into the record for the bulk of a large one, and behind it into the stage. */
static ssize_t conn_read(struct conn *conn)
{
    struct iovec iov[2];
    int count = 0;
    ssize_t n;

    if (conn->cut_at) {
        iov[count++] =
            (struct iovec){conn->record + conn->record_len, conn->cut_at - conn->record_len};
    } else {
        if (conn->in_fragment)
            iov[count++] = (struct iovec){conn->record + conn->record_len, conn->fragment_left};
        iov[count++] = (struct iovec){conn->stage, STAGE_SIZE};
    }
    conn->stage_at = conn->stage_len = 0;
    do
        n = readv(conn->fd, iov, count);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n;
    size_t direct = 0;
    if (conn->in_fragment) {
        direct = (size_t)n < conn->fragment_left ? (size_t)n : conn->fragment_left;
        conn->record_len += direct;
        conn->fragment_left -= direct;
    }
    conn->stage_len = (size_t)n - direct;
    return n;
}

/* Whether a fault closes the connection before the rest of the record arrives. */
static bool cut_off(struct conn *conn)
{
    if (!conn->in_fragment || conn->record_len < RPC_PEEK)
        return false;
    if (!conn->shown) {
        size_t expected = conn->record_len + conn->fragment_left;
        size_t cut_at = serve_rpc_arriving(conn->srv, conn->record, expected);
        conn->shown = true;
        conn->cut_at = cut_at < expected ? cut_at : expected;
    }
    return conn->cut_at && conn->record_len >= conn->cut_at;
}

/* The event is ours: read until there is something to do. Calls that are ready go to CALLS. */
static void conn_readable(struct conn *conn, struct call_list *calls)
{
    for (;;) {
        ssize_t n = conn_read(conn);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            serve_conn_kill(conn);
            break;
        }
        if (conn->in_fragment && conn->fragment_left == 0)
            fragment_end(conn, calls);
        if (!assemble(conn, calls) || cut_off(conn)) {
            serve_conn_kill(conn);
            break;
        }
        if (!STAILQ_EMPTY(calls))
            break;
    }
}

void serve_conn_event(struct server *srv, uint64_t tag, uint32_t events, struct call_list *calls)
{
    struct conn *conn = conn_lookup(srv, tag);
    bool reading, flush;

    if (!conn)
        return;
    pthread_mutex_lock(&conn->lock);
    flush = conn->arm_out && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) && !conn->sending;
    if (flush) {
        conn->arm_out = false;
        conn->sending = true;
    }
    reading = conn->arm_in && !conn->throttled && (events & (EPOLLIN | EPOLLHUP | EPOLLERR));
    if (reading)
        conn->arm_in = false;
    pthread_mutex_unlock(&conn->lock);

    if (flush)
        conn_flush(conn);
    if (reading)
        conn_readable(conn, calls);

    pthread_mutex_lock(&conn->lock);
    if (reading)
        conn->arm_in = true;
    conn_arm(conn);
    pthread_mutex_unlock(&conn->lock);
    serve_conn_put(conn);
}

void serve_conn_rearm(struct conn *conn)
{
    pthread_mutex_lock(&conn->lock);
    conn_arm(conn);
    pthread_mutex_unlock(&conn->lock);
}
