// SPDX-License-Identifier: Apache-2.0
/*
 * Lateness (nfs(5), timeo and retrans): looked at by a timer while a connection has calls.
 *
 * The n-th try of a call may take n * timeo. A late call on a connection that has brought bytes
 * since is sent again on it; if not a byte came, the connection is taken for dead, and made anew,
 * and all calls are sent again. A `soft` call ends with -ETIMEDOUT timeo * (retrans + 1) after it
 * was submitted, wherever it is then; its memory is not touched any more.
 */
#include <errno.h>
#include <stddef.h>
#include <syslog.h>

#include "daemon/nfs/client.h"

#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

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

/* Not for one slow call: nothing at all has come for as long as a first try may take. Nor for an
 * attempt to mount, whose failure is explained by the last error before: refused, closed, silent.
 */
static void say_silent(struct conn *c, uint64_t now)
{
    if (c->r->setup || now - c->last_rx_ns < c->r->timeo_ns)
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

void conn_tick(struct loop_timer *timer)
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
        conn_expect_replies(c);
}
