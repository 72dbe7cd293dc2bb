// SPDX-License-Identifier: Apache-2.0
/*
 * The queues that a connection's calls stand in, and the table that finds a call by its XID.
 *
 * A call is in one queue at most; it is in the table from its first sending until its reply,
 * through any number of retransmissions.
 */
#include "daemon/nfs/client.h"

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

static bool is_bulk_read(const struct remote_call *call)
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

void conn_xid_assign(struct conn *c, struct remote_call *call)
{
    while (conn_find(c, c->next_xid))
        c->next_xid++;
    call->p.xid = c->next_xid++;
    struct remote_call **bucket = &c->by_xid[call->p.xid % XID_BUCKETS];
    call->p.hash = *bucket;
    *bucket = call;
    call->p.flags |= CALL_HASHED;
    c->bulk_reads += is_bulk_read(call);
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
    c->bulk_reads -= is_bulk_read(call);
}

void conn_unlink(struct conn *c, struct remote_call *call)
{
    xid_release(c, call);
    queue_remove(call);
}
