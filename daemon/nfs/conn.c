// SPDX-License-Identifier: Apache-2.0
/*
 * One connection to the server: calls come in and go out; the socket is made, lost, made again.
 *
 * Calls wait until the loop is about to sleep (before_sleep), and then leave through send.c;
 * replies come in through receive.c; late.c looks after those that do not come.
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
#define PORT_REFUSALS   3
#define GARBLED_MAX     3

#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* ---- calls in and out ---- */

struct proc_counters *conn_proc_stats(struct conn *c, const struct remote_call *call)
{
    return &c->stats.proc[call->p.proc];
}

void conn_done(struct conn *c, struct remote_call *call, int error)
{
    if (error && !(call->p.flags & CALL_UNSENDABLE))
        counter_add(&conn_proc_stats(c, call)->errors, 1);
    if (call->p.flags & CALL_BULK)
        atomic_fetch_sub_explicit(&c->outstanding_bytes, call->u.io.count, memory_order_relaxed);
    call->error = error;
    if (error)
        call->has_obj = false;
    call->done(call);
}

void conn_expect_replies(struct conn *c)
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
    call->p.deadline_ns = now_coarse_ns() + c->r->timeo_ns; /* until it is sent */
    queue_push(&c->waiting, call);
    conn_expect_replies(c);
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
    counter_add(&conn_proc_stats(c, call)->jukebox, 1);
    call->p.delay_ms = ms < DELAY_MIN ? DELAY_MIN : ms > DELAY_MAX ? DELAY_MAX : ms;
    call->p.deadline_ns = now_ns() + call->p.delay_ms * MS;
    call->p.tries = 0;
    queue_push(&c->delayed, call);
    conn_expect_replies(c);
    arm_delay(c);
}

void conn_replied(struct conn *c, struct remote_call *call, size_t bytes)
{
    struct proc_counters *s = conn_proc_stats(c, call);
    call->replied_ns = c->last_rx_ns;
    c->replied = true;
    c->backoff_ms = 0;
    counter_add(&s->bytes_in, bytes);
    hist_add(&s->latency, call->replied_ns - call->p.start_ns);
    if (atomic_load_explicit(&c->r->silent, memory_order_relaxed) &&
        atomic_exchange(&c->r->silent, false))
        nfs3_log(c->r, LOG_NOTICE, "server %s OK", c->r->server);
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
    if (!c->waiting.first)
        return; /* servers close what is idle: the next call need not wait for that */
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

void conn_drop(struct conn *c, const char *why)
{
    nfs3_log(c->r, c->replied ? LOG_NOTICE : LOG_WARNING, "connection to %s lost: %s", c->r->server,
             why);
    counter_add(&c->stats.drops, 1);
    close_socket(c);
    atomic_store(&c->state, CONN_DOWN);
    requeue_sent(c);
    conn_tx_reset(c);
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
        /* A server that is away for long is told of a few times, not every five seconds. */
        nfs3_log(c->r, c->backoff_ms < BACKOFF_MAX ? LOG_WARNING : LOG_DEBUG,
                 "cannot connect to %s: %s", c->r->server, strerror(-error));
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
        conn_want_out(c, false);
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
    c->tick_timer.fn = conn_tick;
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
    if (atomic_load(&c->state) == CONN_CLOSED)
        return; /* given up before */
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
