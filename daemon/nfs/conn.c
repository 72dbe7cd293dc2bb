// SPDX-License-Identifier: Apache-2.0
/*
 * One connection to the server: its queues, sending, lateness, loss, and starting again.
 *
 * Calls wait until the loop is about to sleep; then as many as fit are encoded into one batch,
 * which leaves by one sendmsg(), WRITE data straight from the caller's memory. Replies come in
 * through receive.c.
 *
 * Lateness (nfs(5), timeo and retrans): the n-th try of a call may take n * timeo. A late call on a
 * connection that has brought bytes since is sent again on it; if not a byte came, the connection
 * is taken for dead, and made anew, and all calls are sent again. A `soft` call ends with
 * -ETIMEDOUT timeo * (retrans + 1) after it was submitted, wherever it is then.
 *
 * A lost connection is made again at once if the server ever answered on it, else after 100 ms,
 * 200 ms, ... 5 s; from the same port, unless the system refuses that three times.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "daemon/nfs/client.h"

#define MS              1000000ull
#define BACKOFF_MIN     100u /* ms */
#define BACKOFF_MAX     5000u
#define DELAY_MIN       100u /* JUKEBOX; ms */
#define DELAY_MAX       5000u
#define CONNECT_TIMEOUT (10000 * MS)
#define TIMEO_MAX       (600000 * MS) /* nfs(5): a timeout grows to ten minutes at most */
#define TX_AT_ONCE      (4u << 20)    /* bytes; then receiving gets its turn */
#define SEND_IOV        1024
#define PORT_REFUSALS   3
#define GARBLED_MAX     3

#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* ---- queues ---- */

void queue_push(struct call_queue *q, struct remote_call *call)
{
    call->p.queue = q;
    call->p.next = NULL;
    call->p.prev = q->last;
    if (q->last)
        q->last->p.next = call;
    else
        q->first = call;
    q->last = call;
    counter_add(q->count, 1);
}

void queue_push_front(struct call_queue *q, struct remote_call *call)
{
    call->p.queue = q;
    call->p.prev = NULL;
    call->p.next = q->first;
    if (q->first)
        q->first->p.prev = call;
    else
        q->last = call;
    q->first = call;
    counter_add(q->count, 1);
}

void queue_remove(struct remote_call *call)
{
    struct call_queue *q = call->p.queue;
    if (call->p.prev)
        call->p.prev->p.next = call->p.next;
    else
        q->first = call->p.next;
    if (call->p.next)
        call->p.next->p.prev = call->p.prev;
    else
        q->last = call->p.prev;
    call->p.prev = call->p.next = NULL;
    call->p.queue = NULL;
    counter_sub(q->count, 1);
}

/* ---- the table of XIDs ---- */

bool conn_is_bulk_read(const struct remote_call *call)
{
    return call->p.proc == PROC_READ && call->u.io.count > 16384;
}

struct remote_call *conn_find(struct conn *c, uint32_t xid)
{
    struct remote_call *call = c->by_xid[xid % XID_BUCKETS];
    while (call && call->p.xid != xid)
        call = call->p.hash;
    return call;
}

static void xid_assign(struct conn *c, struct remote_call *call)
{
    while (conn_find(c, c->next_xid))
        c->next_xid++;
    call->p.xid = c->next_xid++;
    struct remote_call **bucket = &c->by_xid[call->p.xid % XID_BUCKETS];
    call->p.hash = *bucket;
    *bucket = call;
    call->p.flags |= CALL_HASHED;
    c->bulk_reads += conn_is_bulk_read(call);
}

static void xid_release(struct conn *c, struct remote_call *call)
{
    if (!(call->p.flags & CALL_HASHED))
        return;
    struct remote_call **p = &c->by_xid[call->p.xid % XID_BUCKETS];
    while (*p != call)
        p = &(*p)->p.hash;
    *p = call->p.hash;
    call->p.flags &= (uint8_t)~CALL_HASHED;
    c->bulk_reads -= conn_is_bulk_read(call);
}

void conn_unlink(struct conn *c, struct remote_call *call)
{
    xid_release(c, call);
    queue_remove(call);
}

/* ---- calls in and out ---- */

static struct proc_counters *proc_stats(struct conn *c, const struct remote_call *call)
{
    return &c->stats.proc[call->p.proc];
}

void conn_done(struct conn *c, struct remote_call *call, int error)
{
    if (error && !(call->p.flags & CALL_UNSENDABLE))
        counter_add(&proc_stats(c, call)->errors, 1);
    if (call->p.flags & CALL_BULK)
        atomic_fetch_sub_explicit(&c->outstanding_bytes, call->u.io.count, memory_order_relaxed);
    call->error = error;
    if (error)
        call->has_obj = false;
    call->done(call);
}

static void expect_replies(struct conn *c)
{
    if (c->ticking)
        return;
    uint64_t period = c->r->timeo_ns / 8;
    period = period < 5 * MS ? 5 * MS : period > 500 * MS ? 500 * MS : period;
    c->ticking = true;
    loop_timer_set(c->loop, &c->tick_timer, period);
}

static void arm_connect(struct conn *c, uint64_t ns)
{
    c->connect_armed = true;
    loop_timer_set(c->loop, &c->connect_timer, ns);
}

static void want_connection(struct conn *c)
{
    if (atomic_load(&c->state) == CONN_DOWN && !c->connect_armed)
        arm_connect(c, c->backoff_ms * MS);
}

static void enqueue(struct conn *c, struct remote_call *call)
{
    call->p.deadline_ns = now_ns() + c->r->timeo_ns;
    queue_push(&c->waiting, call);
    expect_replies(c);
    want_connection(c);
    loop_kick(c->loop);
}

static void refused_run(struct loop_task *task)
{
    struct remote_call *call = container_of(task, struct remote_call, p.task);
    conn_done(call->p.conn, call, -ENOTCONN);
}

void conn_submit(struct conn *c, struct remote_call *call)
{
    call->p.conn = c;
    if (atomic_load(&c->state) == CONN_CLOSED) {
        call->p.task.fn = refused_run;
        loop_post(c->loop, &call->p.task);
        return;
    }
    if (call->p.flags & CALL_UNSENDABLE) {
        queue_push(&c->failed, call);
        loop_kick(c->loop);
        return;
    }
    call->p.proc = (uint8_t)call_proc(call);
    enqueue(c, call);
}

void conn_next_step(struct conn *c, struct remote_call *call, enum step step)
{
    call->p.step = (uint8_t)step;
    call->p.proc = (uint8_t)call_proc(call);
    call->p.tries = 0;
    call->p.delay_ms = 0;
    enqueue(c, call);
}

static void arm_delay(struct conn *c)
{
    uint64_t first = UINT64_MAX, now = now_ns();
    for (struct remote_call *call = c->delayed.first; call; call = call->p.next)
        first = call->p.deadline_ns < first ? call->p.deadline_ns : first;
    if (c->delayed.first)
        loop_timer_set(c->loop, &c->delay_timer, first > now ? first - now : 0);
}

static void delay_over(struct loop_timer *timer)
{
    struct conn *c = container_of(timer, struct conn, delay_timer);
    uint64_t now = now_ns();
    for (struct remote_call *call = c->delayed.first, *next; call; call = next) {
        next = call->p.next;
        if (call->p.deadline_ns > now)
            continue;
        queue_remove(call);
        enqueue(c, call);
    }
    arm_delay(c);
}

void conn_delay(struct conn *c, struct remote_call *call)
{
    uint32_t ms = call->p.delay_ms * 2;
    counter_add(&proc_stats(c, call)->jukebox, 1);
    call->p.delay_ms = ms < DELAY_MIN ? DELAY_MIN : ms > DELAY_MAX ? DELAY_MAX : ms;
    call->p.deadline_ns = now_ns() + call->p.delay_ms * MS;
    call->p.tries = 0;
    queue_push(&c->delayed, call);
    expect_replies(c);
    arm_delay(c);
}

void conn_replied(struct conn *c, struct remote_call *call, size_t bytes)
{
    struct proc_counters *s = proc_stats(c, call);
    call->replied_ns = now_ns();
    c->replied = true;
    c->backoff_ms = 0;
    counter_add(&s->bytes_in, bytes);
    hist_add(&s->latency, call->replied_ns - call->p.start_ns);
    if (atomic_load_explicit(&c->r->silent, memory_order_relaxed) &&
        atomic_exchange(&c->r->silent, false))
        nfs3_log(c->r, LOG_NOTICE, "server %s OK", c->r->server);
}

/* ---- sending ---- */

static void tx_reset(struct conn_tx *tx)
{
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
    struct proc_counters *s = proc_stats(c, call);
    uint64_t wait;
    if (!(call->p.flags & CALL_HASHED))
        xid_assign(c, call);
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

static void want_out(struct conn *c, bool on)
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

static void conn_drop(struct conn *c, const char *why);

static void conn_flush(struct conn *c)
{
    struct conn_tx *tx = &c->tx;
    size_t total = 0;
    while (atomic_load_explicit(&c->state, memory_order_relaxed) == CONN_UP) {
        if (tx->iovpos == tx->iovcnt)
            tx_build(c);
        int n = tx->iovcnt - tx->iovpos;
        if (!n) {
            want_out(c, false);
            return;
        }
        if (total >= TX_AT_ONCE) {
            want_out(c, true);
            return;
        }
        struct msghdr msg = {.msg_iov = tx->iov + tx->iovpos,
                             .msg_iovlen = (size_t)(n < SEND_IOV ? n : SEND_IOV)};
        ssize_t sent = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            want_out(c, true);
            return;
        }
        if (sent < 0) {
            conn_drop(c, strerror(errno));
            return;
        }
        c->last_tx_ns = now_ns();
        total += (size_t)sent;
        tx_advance(tx, (size_t)sent);
    }
}

static void before_sleep(struct loop_hook *hook)
{
    struct conn *c = container_of(hook, struct conn, hook);
    struct remote_call *call;
    while ((call = c->failed.first)) {
        queue_remove(call);
        conn_done(c, call, call->p.saved);
    }
    conn_flush(c);
}

/* ---- losing the connection ---- */

static void close_socket(struct conn *c)
{
    if (c->fd < 0)
        return;
    loop_del_fd(c->loop, c->fd);
    sock_abort(c->fd);
    c->fd = -1;
}

/* Everything that was sent is to be sent again, in the same order, before what waits. */
static void requeue_sent(struct conn *c)
{
    struct remote_call *call;
    while ((call = c->sent.last)) {
        if (call->p.tx_start < c->tx.sent)
            call->retransmitted = true;
        else
            call->p.tries--; /* not a byte of it left */
        call->p.deadline_ns = now_ns() + c->r->timeo_ns;
        queue_remove(call);
        queue_push_front(&c->waiting, call);
    }
}

static void retry_later(struct conn *c)
{
    if (c->waiting.first)
        arm_connect(c, c->backoff_ms * MS);
    c->backoff_ms = c->backoff_ms ? 2 * c->backoff_ms : BACKOFF_MIN;
    if (c->backoff_ms > BACKOFF_MAX)
        c->backoff_ms = BACKOFF_MAX;
}

/* A reply that cannot be received breaks every connection: not for ever. */
static void blame_suspect(struct conn *c)
{
    struct remote_call *call =
        c->rx.garbage && c->rx.has_suspect ? conn_find(c, c->rx.suspect) : NULL;
    if (!call || ++call->p.garbled < GARBLED_MAX)
        return;
    conn_rx_forget(c, call);
    conn_unlink(c, call);
    conn_done(c, call, -EIO);
}

static void conn_drop(struct conn *c, const char *why)
{
    nfs3_log(c->r, c->replied ? LOG_NOTICE : LOG_WARNING, "connection to %s lost: %s", c->r->server,
             why);
    counter_add(&c->stats.drops, 1);
    close_socket(c);
    atomic_store(&c->state, CONN_DOWN);
    requeue_sent(c);
    tx_reset(&c->tx);
    blame_suspect(c);
    conn_rx_reset(c);
    retry_later(c);
}

/* ---- making it ---- */

static void connect_failed(struct conn *c, int error)
{
    close_socket(c);
    atomic_store(&c->state, CONN_DOWN);
    if (error == -EADDRINUSE || error == -EADDRNOTAVAIL) {
        if (++c->port_refused >= PORT_REFUSALS) {
            c->port_refused = 0;
            atomic_store(&c->port, 0);
        }
    } else {
        nfs3_log(c->r, LOG_WARNING, "cannot connect to %s: %s", c->r->server, strerror(-error));
    }
    if (!c->backoff_ms)
        c->backoff_ms = BACKOFF_MIN;
    retry_later(c);
}

static void socket_event(struct loop *loop, int fd, uint32_t events, void *arg)
{
    struct conn *c = arg;
    const char *why = NULL;
    if (atomic_load_explicit(&c->state, memory_order_relaxed) == CONN_CONNECTING) {
        uint16_t port = 0;
        int rc = sock_connected(fd, &port);
        c->connect_armed = false;
        loop_timer_cancel(loop, &c->connect_timer);
        if (rc < 0) {
            connect_failed(c, rc);
            return;
        }
        atomic_store(&c->port, port);
        c->port_refused = 0;
        c->replied = false;
        c->last_tx_ns = now_ns();
        counter_add(&c->stats.connects, 1);
        atomic_store(&c->state, CONN_UP);
        c->tx.want_out = true;
        want_out(c, false);
        return; /* the hook sends */
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        why = conn_receive(c);
    if (why)
        conn_drop(c, why);
}

static void connect_start(struct conn *c)
{
    int fd = sock_connect(c->r, atomic_load(&c->port));
    if (fd < 0) {
        connect_failed(c, fd);
        return;
    }
    c->fd = fd;
    atomic_store(&c->state, CONN_CONNECTING);
    int rc = loop_add_fd(c->loop, fd, EPOLLOUT, socket_event, c);
    if (rc < 0) {
        sock_abort(fd);
        c->fd = -1;
        connect_failed(c, rc);
        return;
    }
    arm_connect(c, CONNECT_TIMEOUT);
}

static void connect_timer_fired(struct loop_timer *timer)
{
    struct conn *c = container_of(timer, struct conn, connect_timer);
    c->connect_armed = false;
    if (atomic_load(&c->state) == CONN_CONNECTING)
        connect_failed(c, -ETIMEDOUT);
    else if (atomic_load(&c->state) == CONN_DOWN)
        connect_start(c);
}

/* ---- lateness ---- */

static void expire(struct conn *c, struct remote_call *call)
{
    counter_add(&c->stats.timeouts, 1);
    conn_rx_forget(c, call);
    conn_unlink(c, call);
    conn_done(c, call, -ETIMEDOUT);
}

static bool half_sent(const struct conn *c, const struct remote_call *call)
{
    return call->p.queue == &c->sent && call->p.tx_end > c->tx.sent;
}

/* Not for one slow call: nothing at all has come for as long as a first try may take. */
static void say_silent(struct conn *c, uint64_t now)
{
    if (now - c->last_rx_ns < c->r->timeo_ns)
        return;
    if (!atomic_exchange(&c->r->silent, true))
        nfs3_log(c->r, LOG_WARNING, "server %s not responding, %s", c->r->server,
                 c->r->soft ? "timed out" : "still trying");
}

/* One late call that was sent: true if the connection must be taken for dead. */
static bool late(struct conn *c, struct remote_call *call, uint64_t now)
{
    bool arriving = c->rx.call == call && now - c->last_rx_ns < c->r->timeo_ns;
    bool leaving = half_sent(c, call) && now - c->last_tx_ns < c->r->timeo_ns;
    if (arriving || leaving) {
        call->p.deadline_ns = now + c->r->timeo_ns;
        return false;
    }
    counter_add(&c->stats.timeouts, 1);
    if (c->last_rx_ns <= call->p.tx_ns || half_sent(c, call) || c->rx.call == call)
        return true;
    queue_remove(call);
    call->retransmitted = true;
    call->p.deadline_ns = now + c->r->timeo_ns;
    queue_push(&c->waiting, call);
    loop_kick(c->loop);
    return false;
}

/* The first call of the queue whose time is over on a soft mount; says so once on any. */
static struct remote_call *overdue(struct conn *c, struct call_queue *q, uint64_t now)
{
    for (struct remote_call *call = q->first; call; call = call->p.next) {
        if (now < call->p.giveup_ns)
            continue;
        if (q != &c->delayed)
            say_silent(c, now);
        if (c->r->soft)
            return call;
    }
    return NULL;
}

static void tick(struct loop_timer *timer)
{
    struct conn *c = container_of(timer, struct conn, tick_timer);
    struct call_queue *const queues[] = {&c->sent, &c->waiting, &c->delayed};
    uint64_t now = now_ns();
    bool dead = false;
    struct remote_call *call, *next;
    c->ticking = false;
    for (call = c->sent.first; call && !dead; call = next) {
        next = call->p.next;
        if (now >= call->p.deadline_ns)
            dead = late(c, call, now);
    }
    call = overdue(c, &c->sent, now);
    if (dead || (call && half_sent(c, call)))
        conn_drop(c, "no answer in time");
    for (size_t i = 0; i < sizeof(queues) / sizeof(queues[0]); i++) {
        while ((call = overdue(c, queues[i], now))) {
            if (half_sent(c, call))
                conn_drop(c, "no answer in time");
            expire(c, call);
        }
    }
    if (c->sent.first || c->waiting.first || c->delayed.first)
        expect_replies(c);
}

/* ---- life ---- */

static void start(struct loop_task *task)
{
    struct conn *c = container_of(task, struct conn, start_task);
    loop_add_hook(c->loop, &c->hook);
    if (!c->connect_armed)
        arm_connect(c, 0);
}

static void queue_init(struct call_queue *q, counter *count)
{
    q->count = count;
}

struct conn *conn_new(struct nfs3 *r, struct loop *loop, int index, bool bulk)
{
    struct conn *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->tx.buf = malloc(TX_BUF);
    c->rx.buf = malloc(RX_BUF);
    if (!c->tx.buf || !c->rx.buf) {
        conn_free(c);
        return NULL;
    }
    c->r = r;
    c->loop = loop;
    c->index = index;
    c->bulk = bulk;
    c->fd = -1;
    c->hook.fn = before_sleep;
    c->connect_timer.fn = connect_timer_fired;
    c->tick_timer.fn = tick;
    c->delay_timer.fn = delay_over;
    queue_init(&c->waiting, &c->stats.queued);
    queue_init(&c->sent, &c->stats.sent);
    queue_init(&c->delayed, &c->stats.delayed);
    queue_init(&c->failed, &c->nfailed);
    if (getrandom(&c->next_xid, sizeof(c->next_xid), 0) < 0)
        c->next_xid = (uint32_t)now_ns();
    c->start_task.fn = start;
    loop_post(loop, &c->start_task);
    return c;
}

void conn_shutdown(void *arg)
{
    struct conn *c = arg;
    struct call_queue *const queues[] = {&c->sent, &c->waiting, &c->delayed, &c->failed};
    atomic_store(&c->state, CONN_CLOSED);
    close_socket(c);
    loop_timer_cancel(c->loop, &c->connect_timer);
    loop_timer_cancel(c->loop, &c->tick_timer);
    loop_timer_cancel(c->loop, &c->delay_timer);
    loop_del_hook(c->loop, &c->hook);
    conn_rx_reset(c);
    for (size_t i = 0; i < sizeof(queues) / sizeof(queues[0]); i++) {
        struct remote_call *call;
        while ((call = queues[i]->first)) {
            conn_unlink(c, call);
            conn_done(c, call, -ENOTCONN);
        }
    }
}

void conn_free(struct conn *c)
{
    if (!c)
        return;
    free(c->tx.buf);
    free(c->rx.buf);
    free(c->rx.rec);
    free(c);
}
