// SPDX-License-Identifier: Apache-2.0
/*
 * Private to daemon/nfs: the client, its connections, and the states of a call.
 *
 * Where a call is (p.queue), all of it owned by the connection's loop:
 *
 *     submit --> waiting --(put into a batch: XID, tries+1)--> sent --(reply)--> steps.c --> done()
 *                  ^  ^                                        |  |                |
 *                  |  +---- timeout, the connection lives -----+  |                | next RPC,
 *                  |        connection lost (all of them) --------+                | or
 *                  +------------- after its delay --- delayed <---- JUKEBOX -------+ waiting again
 *
 *     failed: refused before it was ever sent; done() follows in the next turn of the loop, so that
 *     done() never runs inside submit().
 *
 * A retransmission keeps the XID; a next step, or a try after JUKEBOX, takes a new one.
 */
#ifndef NFSCACHED_DAEMON_NFS_CLIENT_H
#define NFSCACHED_DAEMON_NFS_CLIENT_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "daemon/loop.h"
#include "daemon/nfs/nfs3.h"

/* Which RPC of an operation is under way (p.step). */
enum step {
    STEP_MAIN,           /* the operation itself */
    STEP_OBJ_LOOKUP,     /* CREATE and its like came back without a handle */
    STEP_OBJ_GETATTR,    /* ... or without attributes */
    STEP_EXCL_SETATTR,   /* an exclusive CREATE cannot carry attributes */
    STEP_VERIFY_GONE,    /* NOENT for a retransmitted REMOVE or RMDIR: is the name gone? */
    STEP_VERIFY_RENAMED, /* NOENT for a retransmitted RENAME: is it at the target? */
    STEP_VERIFY_MADE,    /* EXIST for a retransmitted MKDIR, SYMLINK, MKNOD, LINK, CREATE */
    STEP_VERIFY_TEXT,    /* ... of a SYMLINK: is it the same text? */
};

/* p.flags */
enum {
    CALL_HASHED = 1 << 0,     /* it has an XID */
    CALL_GUARDED = 1 << 1,    /* exclusive CREATE on a server that knows only GUARDED */
    CALL_BULK = 1 << 2,       /* counted in outstanding_bytes */
    CALL_UNSENDABLE = 1 << 3, /* p.saved tells why */
    CALL_CLAIMS = 1 << 4,     /* exclusive CREATE: its SETATTR only if the file is as it was seen */
};

struct call_queue {
    struct remote_call *first, *last;
    counter *count; /* how many, for status */
};

/* What a reply said, before steps.c decides what it means for the operation. What belongs to one
 * operation only (data, directory entries, link text, numbers) is decoded right into the call. */
struct nfs3_result {
    uint32_t status; /* RFC 1813 2.6 */
    int error;       /* the same as negative errno; also RPC-level and malformed replies */
    bool malformed;
    bool has_obj;
    struct fh obj;
    struct remote_post post, dir, dir2;
    struct remote_wcc pre, dir_pre, dir2_pre;
    const uint8_t *text; /* READLINK: into the record */
    uint32_t text_len;
};

enum conn_state { CONN_DOWN, CONN_CONNECTING, CONN_UP, CONN_CLOSED };

enum {
    XID_BUCKETS = 256,
    TX_BUF = 256 << 10,
    TX_IOV = 2048,
    RX_BUF = 128 << 10,
    RX_HEAD = 640 /* what surely holds a READ reply up to its data: see decode_read_head() */
};

/* Sending: one batch of encoded calls. WRITE data is not copied: the vector points to it. */
struct conn_tx {
    uint8_t *buf;
    size_t used;
    struct iovec iov[TX_IOV];
    int iovcnt, iovpos;
    uint64_t queued, sent; /* positions in the connection's byte stream */
    bool want_out;         /* EPOLLOUT is on */
};

/* Receiving: see receive.c. */
struct conn_rx {
    uint8_t *buf; /* raw bytes of the stream, not yet taken apart */
    size_t pos, len;
    bool in_fragment, last_fragment;
    uint32_t fragment_left, fragments;
    size_t record_len; /* of this record, so far announced */
    enum { RX_COLLECT_HEAD, RX_COLLECT, RX_DATA, RX_SKIP } phase;
    uint8_t *rec; /* a record that came in pieces */
    size_t rec_len, rec_cap, rec_limit;
    struct remote_call *call; /* whose data this is, in RX_DATA and RX_SKIP; may be NULL */
    bool has_suspect;         /* the record that is arriving answers this XID */
    uint32_t suspect;
    bool garbage; /* ... and cannot be received: not merely cut off */
    int iov_at;
    size_t iov_off;
    uint32_t data_left;
};

struct conn {
    struct nfs3 *r;
    struct loop *loop;
    int index;
    bool bulk, own_loop;
    _Atomic int state; /* enum conn_state; written by the loop's thread */
    int fd;
    _Atomic uint16_t port; /* our end, host order; kept over reconnects */
    unsigned port_refused; /* in a row */
    bool replied;          /* since it connected */
    uint32_t backoff_ms;
    uint32_t next_xid;
    uint64_t last_rx_ns, last_tx_ns;
    struct loop_hook hook;
    struct loop_timer connect_timer; /* CONNECTING: give up; DOWN: try again */
    struct loop_timer tick_timer;    /* looks for late calls while there are any */
    struct loop_timer delay_timer;   /* the next of `delayed` */
    bool connect_armed, ticking;
    struct loop_task start_task;
    struct call_queue waiting, sent, delayed, failed;
    counter nfailed;
    uint32_t bulk_reads; /* of those in by_xid: READs whose data is worth receiving in place */
    _Atomic uint64_t outstanding_bytes;
    struct remote_call *by_xid[XID_BUCKETS];
    struct conn_tx tx;
    struct conn_rx rx;
    struct nfs3_result result;
    struct conn_counters stats;
};

struct nfs3 {
    struct remote base;
    char *server, *export;
    struct sockaddr_storage addr;
    socklen_t addrlen;
    struct sockaddr_storage mount_addr; /* of the MOUNT service, for UMNT */
    socklen_t mount_addrlen;
    enum nfs3_resvport resvport;
    bool soft;
    atomic_bool setup; /* the short life of a mount attempt */
    uint64_t timeo_ns;
    uint32_t retrans;
    size_t record_max;
    char hostname[64]; /* AUTH_SYS machine name */
    uint32_t stamp;
    _Atomic uint64_t verifier;
    _Atomic bool silent; /* "not responding" was logged */
    void (*log)(int priority, const char *text);
    _Atomic uint64_t log_next_ns;
    _Atomic uint32_t log_dropped;
    atomic_flag error_lock;
    char last_error[256];
    uint64_t last_error_s;
    struct conn **conns;
    int nconn, nshard;
    _Atomic uint32_t turn;
};

static inline struct nfs3 *nfs3_of(struct remote *r)
{
    return (struct nfs3 *)r;
}

/* ---- nfs3.c ---- */

/* One line to the log; error lines are limited to a few in a second, and remembered for status. */
void nfs3_log(struct nfs3 *r, int priority, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
struct nfs3 *nfs3_new(const struct nfs3_options *o);
void nfs3_free(struct nfs3 *r);
int nfs3_add_conn(struct nfs3 *r, struct loop *loop, bool bulk);

/* ---- submit.c ---- */

extern const struct remote_ops nfs3_ops;

/* ---- conn.c: all in the thread of the connection's loop, but for conn_new() ---- */

struct conn *conn_new(struct nfs3 *r, struct loop *loop, int index, bool bulk);
/* Takes the connection off its loop; every call is done with -ENOTCONN. Via loop_call(). */
void conn_shutdown(void *conn);
void conn_free(struct conn *c);
void conn_submit(struct conn *c, struct remote_call *call);
/* The next RPC of a call that is on no queue: a new XID, to the end of the queue. */
void conn_next_step(struct conn *c, struct remote_call *call, enum step step);
void conn_delay(struct conn *c, struct remote_call *call);
void conn_done(struct conn *c, struct remote_call *call, int error);
void conn_replied(struct conn *c, struct remote_call *call, size_t bytes);
/* Closes the socket, and tries again; what was sent is sent again. */
void conn_drop(struct conn *c, const char *why);
/* There are calls now whose lateness must be watched. */
void conn_expect_replies(struct conn *c);
struct proc_counters *conn_proc_stats(struct conn *c, const struct remote_call *call);

/* ---- queue.c ---- */

void queue_push(struct call_queue *q, struct remote_call *call);
void queue_push_front(struct call_queue *q, struct remote_call *call);
void queue_remove(struct remote_call *call);
/* A new XID, and into the table. */
void conn_xid_assign(struct conn *c, struct remote_call *call);
struct remote_call *conn_find(struct conn *c, uint32_t xid);
/* Takes a call off the table and its queue. */
void conn_unlink(struct conn *c, struct remote_call *call);

/* ---- send.c ---- */

/* Sends what waits, as far as the socket takes it. May drop the connection. */
void conn_flush(struct conn *c);
void conn_want_out(struct conn *c, bool on);
/* What was in the batch is not to be sent any more (it goes back to its queue first). */
void conn_tx_reset(struct conn *c);

/* ---- late.c ---- */

void conn_tick(struct loop_timer *timer);

/* ---- sock.c ---- */

/* A non-blocking socket that is connecting (or connected) to the server, from *port if it is not 0.
 * The descriptor, or negative errno; -EADDRINUSE or -EADDRNOTAVAIL speak of *port. */
int sock_connect(struct nfs3 *r, uint16_t port);
/* What became of it: 0 and our *port, or negative errno. */
int sock_connected(int fd, uint16_t *port);
/* Closes with a reset: no TIME_WAIT keeps the port from being used again. */
void sock_abort(int fd);
/* Binds to a free port below 1024. */
int sock_bind_reserved(int fd, int family);

/* ---- receive.c ---- */

/* Reads and handles what has arrived. NULL, or why the connection must be dropped. */
const char *conn_receive(struct conn *c);
void conn_rx_reset(struct conn *c);
/* The call goes (timed out): its memory must not be written to any more. */
void conn_rx_forget(struct conn *c, struct remote_call *call);

/* ---- encode.c ---- */

/* The procedure of the call's present step. */
enum nfs3_proc call_proc(const struct remote_call *call);
/* Bytes that call_encode() may need, at most. */
size_t call_encode_room(const struct remote_call *call);
/* The record (marker, RPC header, credential, arguments) into buf; of a WRITE all but the data and
 * its padding. Number of bytes; never fails, given room and a call that submit() accepted. */
size_t call_encode(struct nfs3 *r, const struct remote_call *call, uint8_t *buf, size_t room);

/* ---- decode.c ---- */

/* A whole reply, from its XID on, into `res` and the call. */
void call_decode(struct nfs3 *r, struct remote_call *call, const uint8_t *rec, size_t len,
                 struct nfs3_result *res);
/* The front of a READ reply. Where its data begins, with *count bytes of it, if it is a success;
 * 0: it is something else, collect the record and use call_decode(); -1: malformed. */
long decode_read_head(struct remote_call *call, const uint8_t *rec, size_t len,
                      struct nfs3_result *res, uint32_t *count);
int nfs3_errno(uint32_t status);
void result_clear(struct nfs3_result *res);

/* ---- steps.c ---- */

/* A reply to a call that is on no queue any more: takes the next step, or ends the call. */
void call_replied(struct conn *c, struct remote_call *call, struct nfs3_result *res);

/* ---- mountd.c (libtirpc; so this file may not include libnfs's headers, nor xdr.h) ---- */

struct mountd_target {
    struct sockaddr_storage nfs, mount;
    socklen_t nfslen, mountlen;
    struct fh root;
};
/* One attempt, for some 10 s at most. 0, or negative errno, a line in errbuf, and whether another
 * attempt can end differently. */
int mountd_mount(const struct nfs3_options *o, struct mountd_target *t, bool *again, char *errbuf,
                 size_t errlen);
/* Tells the server that the mount ends; nobody waits for its opinion longer than two seconds. */
void mountd_umount(const struct nfs3 *r);

#endif
