// SPDX-License-Identifier: Apache-2.0
/*
 * Sockets and threads: a pool of equal threads on one epoll descriptor.
 *
 * Connections are armed EPOLLONESHOT: one thread at a time reads a connection. Having assembled the
 * records that one read brought, it arms the connection again, queues all records but the first,
 * and executes that itself: a lone request is read, executed and answered by one thread, with no
 * wake-up in between; of many, all threads take their part, and a slow one holds up nobody.
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
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "daemon/serve/internal.h"

#define CONN_MAGIC 0xc0220001U
#define STAGE_SIZE 65536
#define SEND_IOV   60

/* Values of epoll_data that are no connection: their slot is SERVE_MAX_CONNS or above. */
enum { TAG_LISTEN = SERVE_MAX_CONNS, TAG_WAKE, TAG_TIMER, TAG_STOP };

uint64_t serve_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- connections ---- */

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

void serve_conn_kill(struct conn *conn)
{
    struct server *srv = conn->srv;
    bool listed = false;

    pthread_mutex_lock(&conn->lock);
    if (!conn->dead) {
        conn->dead = true;
        shutdown(conn->fd, SHUT_RDWR);
    }
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

static void conn_new(struct server *srv, int fd, const struct sockaddr_storage *peer)
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

static void accept_some(struct server *srv)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    int fd;

    while (memset(&peer, 0, sizeof(peer)), len = sizeof(peer),
           (fd = accept4(srv->listen_fd, (struct sockaddr *)&peer, &len,
                         SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        pthread_mutex_lock(&srv->lock);
        bool down = serve_now_ms() < srv->down_until_ms;
        pthread_mutex_unlock(&srv->lock);
        if (down) {
            struct linger reset = {.l_onoff = 1};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            close(fd);
        } else {
            conn_new(srv, fd, &peer);
        }
    }
}

void serve_net_disconnect_all(struct server *srv)
{
    pthread_mutex_lock(&srv->lock);
    uint32_t last = srv->generation;
    pthread_mutex_unlock(&srv->lock);
    for (unsigned i = 0; i < SERVE_MAX_CONNS; i++) {
        pthread_mutex_lock(&srv->lock);
        struct conn *conn = srv->conns[i];
        /* Not those that came meanwhile: a client that is quick to connect again may stay. */
        if (conn && (int32_t)(conn->generation - last) <= 0)
            serve_conn_ref(conn);
        else
            conn = NULL;
        pthread_mutex_unlock(&srv->lock);
        if (conn) {
            serve_conn_kill(conn);
            serve_conn_put(conn);
        }
    }
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

/* ---- the queue ---- */

STAILQ_HEAD(call_list, call);

static void wake_one(struct server *srv)
{
    uint64_t one = 1;

    if (write(srv->wake_fd, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN);
}

static void queue_push(struct server *srv, struct call_list *calls)
{
    pthread_mutex_lock(&srv->lock);
    STAILQ_CONCAT(&srv->queue, calls);
    bool wake = srv->idle_threads > 0;
    pthread_mutex_unlock(&srv->lock);
    if (wake)
        wake_one(srv);
}

static struct call *queue_pop(struct server *srv)
{
    struct call *call = NULL;
    bool wake = false;

    if (atomic_load(&srv->paused))
        return NULL;
    pthread_mutex_lock(&srv->lock);
    if (!STAILQ_EMPTY(&srv->queue)) {
        call = STAILQ_FIRST(&srv->queue);
        STAILQ_REMOVE_HEAD(&srv->queue, link);
        /* Each thread that found work wakes the next: a burst takes as many as it needs. */
        wake = !STAILQ_EMPTY(&srv->queue) && srv->idle_threads > 0;
    }
    pthread_mutex_unlock(&srv->lock);
    if (wake)
        wake_one(srv);
    return call;
}

/* Set the timer to the first delayed call. server.lock held. */
static void timer_arm(struct server *srv)
{
    struct itimerspec when = {0};
    struct call *first = STAILQ_FIRST(&srv->delayed);

    if (first) {
        when.it_value.tv_sec = (time_t)(first->due_ms / 1000);
        when.it_value.tv_nsec = (long)(first->due_ms % 1000) * 1000000;
    }
    timerfd_settime(srv->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void serve_net_delay(struct server *srv, struct call *call, uint64_t ms)
{
    struct call *at, *after = NULL;

    call->due_ms = serve_now_ms() + ms;
    pthread_mutex_lock(&srv->lock);
    STAILQ_FOREACH(at, &srv->delayed, link)
    {
        if (at->due_ms > call->due_ms)
            break;
        after = at;
    }
    if (after) {
        STAILQ_INSERT_AFTER(&srv->delayed, after, call, link);
    } else {
        STAILQ_INSERT_HEAD(&srv->delayed, call, link);
        timer_arm(srv);
    }
    pthread_mutex_unlock(&srv->lock);
}

static void timer_fired(struct server *srv)
{
    struct call_list due = STAILQ_HEAD_INITIALIZER(due);
    uint64_t now = serve_now_ms();

    pthread_mutex_lock(&srv->lock);
    while (!STAILQ_EMPTY(&srv->delayed) && STAILQ_FIRST(&srv->delayed)->due_ms <= now) {
        struct call *call = STAILQ_FIRST(&srv->delayed);
        STAILQ_REMOVE_HEAD(&srv->delayed, link);
        STAILQ_INSERT_TAIL(&due, call, link);
    }
    timer_arm(srv);
    pthread_mutex_unlock(&srv->lock);
    if (!STAILQ_EMPTY(&due))
        queue_push(srv, &due);
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

    if (conn->in_fragment)
        iov[count++] = (struct iovec){conn->record + conn->record_len, conn->fragment_left};
    iov[count++] = (struct iovec){conn->stage, STAGE_SIZE};
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
        if (!assemble(conn, calls)) {
            serve_conn_kill(conn);
            break;
        }
        if (!STAILQ_EMPTY(calls))
            break;
    }
}

static void conn_event(struct server *srv, uint64_t tag, uint32_t events)
{
    struct call_list calls = STAILQ_HEAD_INITIALIZER(calls);
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
        conn_readable(conn, &calls);

    pthread_mutex_lock(&conn->lock);
    if (reading)
        conn->arm_in = true;
    conn_arm(conn);
    pthread_mutex_unlock(&conn->lock);

    struct call *first = STAILQ_FIRST(&calls);
    if (first && !atomic_load(&srv->paused)) {
        STAILQ_REMOVE_HEAD(&calls, link);
        if (!STAILQ_EMPTY(&calls))
            queue_push(srv, &calls);
        serve_rpc_run(first);
    } else if (first) {
        queue_push(srv, &calls);
    }
    serve_conn_put(conn);
}

void serve_net_resume(struct server *srv)
{
    for (unsigned i = 0; i < SERVE_MAX_CONNS; i++) {
        pthread_mutex_lock(&srv->lock);
        struct conn *conn = srv->conns[i];
        if (conn)
            serve_conn_ref(conn);
        pthread_mutex_unlock(&srv->lock);
        if (!conn)
            continue;
        pthread_mutex_lock(&conn->lock);
        conn_arm(conn);
        pthread_mutex_unlock(&conn->lock);
        serve_conn_put(conn);
    }
    wake_one(srv);
}

/* ---- threads ---- */

static void *thread_main(void *arg)
{
    struct server *srv = arg;

    serve_cred_thread_init();
    while (!atomic_load(&srv->stopping)) {
        struct epoll_event ev;
        struct call *call = queue_pop(srv);

        if (call) {
            serve_rpc_run(call);
            continue;
        }
        pthread_mutex_lock(&srv->lock);
        bool more = !STAILQ_EMPTY(&srv->queue) && !atomic_load(&srv->paused);
        if (!more)
            srv->idle_threads++;
        pthread_mutex_unlock(&srv->lock);
        if (more)
            continue;
        int n = epoll_wait(srv->epfd, &ev, 1, -1);
        pthread_mutex_lock(&srv->lock);
        srv->idle_threads--;
        pthread_mutex_unlock(&srv->lock);
        if (n <= 0)
            continue;
        switch ((uint32_t)ev.data.u64) {
        case TAG_LISTEN:
            accept_some(srv);
            break;
        case TAG_TIMER:
            timer_fired(srv);
            break;
        case TAG_WAKE:
        case TAG_STOP:
            break;
        default:
            conn_event(srv, ev.data.u64, ev.events);
        }
    }
    return NULL;
}

static int listen_on(struct server *srv, char *err, size_t errlen)
{
    const char *host = srv->opt.bind ? srv->opt.bind : "127.0.0.1";
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *addr;
    struct sockaddr_storage got;
    socklen_t len = sizeof(got);
    char port[16];
    int one = 1, rc;

    snprintf(port, sizeof(port), "%u", srv->opt.port);
    rc = getaddrinfo(host, port, &hints, &addr);
    if (rc != 0) {
        snprintf(err, errlen, "address '%s': %s: want a numeric IPv4 or IPv6 address", host,
                 gai_strerror(rc));
        return -EINVAL;
    }
    srv->listen_fd = socket(addr->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (srv->listen_fd >= 0)
        setsockopt(srv->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (srv->listen_fd < 0 || bind(srv->listen_fd, addr->ai_addr, addr->ai_addrlen) != 0 ||
        listen(srv->listen_fd, 128) != 0 ||
        getsockname(srv->listen_fd, (struct sockaddr *)&got, &len) != 0) {
        rc = -errno;
        snprintf(err, errlen, "cannot listen on %s port %s: %s", host, port, strerror(-rc));
        freeaddrinfo(addr);
        return rc;
    }
    freeaddrinfo(addr);
    srv->port = ntohs(got.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&got)->sin6_port
                                                : ((struct sockaddr_in *)&got)->sin_port);
    return 0;
}

static int watch(struct server *srv, int fd, uint32_t events, uint32_t tag)
{
    struct epoll_event ev = {.events = events, .data.u64 = tag};

    return epoll_ctl(srv->epfd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : -errno;
}

int serve_net_start(struct server *srv, char *err, size_t errlen)
{
    int rc = listen_on(srv, err, errlen);

    if (rc != 0)
        return rc;
    srv->epfd = epoll_create1(EPOLL_CLOEXEC);
    srv->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    srv->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    srv->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (srv->epfd < 0 || srv->wake_fd < 0 || srv->stop_fd < 0 || srv->timer_fd < 0 ||
        watch(srv, srv->listen_fd, EPOLLIN, TAG_LISTEN) != 0 ||
        watch(srv, srv->wake_fd, EPOLLIN | EPOLLET, TAG_WAKE) != 0 ||
        watch(srv, srv->timer_fd, EPOLLIN | EPOLLET, TAG_TIMER) != 0 ||
        watch(srv, srv->stop_fd, EPOLLIN, TAG_STOP) != 0) {
        rc = -errno;
        snprintf(err, errlen, "event loop: %s", strerror(-rc));
        return rc;
    }
    srv->threads = calloc(srv->opt.threads, sizeof(*srv->threads));
    if (!srv->threads)
        return -ENOMEM;
    for (; srv->nthreads < srv->opt.threads; srv->nthreads++) {
        rc = pthread_create(&srv->threads[srv->nthreads], NULL, thread_main, srv);
        if (rc != 0) {
            snprintf(err, errlen, "threads: %s", strerror(rc));
            return -rc;
        }
    }
    return 0;
}

void serve_net_stop(struct server *srv)
{
    uint64_t one = 1;
    struct call *call;

    atomic_store(&srv->stopping, true);
    if (srv->stop_fd >= 0 && write(srv->stop_fd, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN);
    for (unsigned i = 0; i < srv->nthreads; i++)
        pthread_join(srv->threads[i], NULL);
    free(srv->threads);
    while ((call = STAILQ_FIRST(&srv->queue))) {
        STAILQ_REMOVE_HEAD(&srv->queue, link);
        serve_call_free(call);
    }
    while ((call = STAILQ_FIRST(&srv->delayed))) {
        STAILQ_REMOVE_HEAD(&srv->delayed, link);
        serve_call_free(call);
    }
    serve_net_disconnect_all(srv);
    int fds[] = {srv->listen_fd, srv->epfd, srv->wake_fd, srv->stop_fd, srv->timer_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}
