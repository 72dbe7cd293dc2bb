// SPDX-License-Identifier: Apache-2.0
/*
 * Parts of the server, for its own files.
 *
 * Way of a call:
 *   net.c    a thread of the pool gets the connection's event
 *   conn.c   reads, assembles records, hands the connection on (EPOLLONESHOT armed again); the
 *            thread works on the first record itself, what more it has read goes to the queue
 *   rpc.c    serve_rpc_accept: RPC header, credentials, fault plan, duplicate request cache; it may
 * end the call here, or delay it (timer list). serve_rpc_run: executes the procedure, sends the
 *            reply as the plan wants it
 *   proc_*.c the procedures: decode arguments, work in the directory, encode the result
 *   conn.c   serve_conn_send: queue on the connection, whoever is first writes it out
 *
 * Lock order:
 *   server.epoch (read: while a procedure executes; write: reboot)
 *     > inode.lock > itable.lock
 *   server.lock (connections' table, queue, timers), conn.lock, the locks of drc and faults:
 * leaves, never held together, except server.lock > nothing.
 */
#ifndef NFSCACHED_SERVE_INTERNAL_H
#define NFSCACHED_SERVE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "daemon/serve/cred.h"
#include "daemon/serve/drc.h"
#include "daemon/serve/export.h"
#include "daemon/serve/fault.h"
#include "daemon/serve/inode.h"
#include "daemon/serve/serve.h"

#define SERVE_MAX_RECORD (SERVE_MAX_IO + 65536)
#define SERVE_MAX_CONNS  1024
#define SERVE_OUT_MAX    (32U << 20) /* bytes of replies waiting, above which a client is not read */
#define SERVE_NPROCS     64          /* NFS from 0, MOUNT from FAULT_PROC_MOUNT */
#define SERVE_MOUNTS_MAX 256

/* A reply on its way out: head (with the record mark), then data, then up to 3 bytes of padding. */
struct reply {
    STAILQ_ENTRY(reply) link;
    uint8_t *head;
    size_t head_len, head_cap;
    uint8_t *data;
    size_t data_len, data_cap;
    size_t pad;
    size_t sent;
    bool close_after; /* and close the connection behind it */
    size_t cut;       /* send no more than this, 0: all */
};

struct conn {
    unsigned magic;
    struct server *srv;
    int fd;
    atomic_uint refs;
    uint32_t slot, generation;
    struct sockaddr_storage peer;
    char peer_name[80];

    /* Reading: owned by the thread that has the event. */
    uint8_t *stage;
    size_t stage_at, stage_len;
    uint8_t mark[4];
    unsigned mark_have;
    bool in_fragment, last_fragment;
    size_t fragment_left;
    uint8_t *record;
    size_t record_len, record_cap;
    bool shown;    /* the incomplete record was shown to the faults */
    size_t cut_at; /* close when so much of it is there; 0: do not */

    pthread_mutex_t lock; /* what follows */
    bool dead, arm_in, arm_out, sending, throttled;
    STAILQ_HEAD(, reply) out;
    size_t out_bytes;
};

struct call {
    STAILQ_ENTRY(call) link;
    struct server *srv;
    struct conn *conn;
    uint8_t *record;
    size_t record_len, record_cap;
    uint32_t xid, prog, vers, proc;
    unsigned number; /* of the procedure among SERVE_NPROCS */
    size_t args_at;
    struct cred cred;
    struct fault_plan plan;
    struct drc_entry *drc;
    uint64_t due_ms;
    /* Filled while it executes. */
    struct reply *reply;
    char note[96]; /* for the log */
};

STAILQ_HEAD(call_list, call);

struct proc_stats {
    atomic_ullong calls, errors, bytes, ns;
};

struct server {
    struct export *exp;
    uint64_t fsid;
    struct itable inodes;
    struct faults faults;
    struct drc *drc;
    struct server_options opt;
    pthread_rwlock_t epoch;
    uint8_t write_verf[8]; /* epoch */

    int epfd, listen_fd, wake_fd, timer_fd, stop_fd;
    uint16_t port;
    pthread_t *threads;
    unsigned nthreads;
    pthread_t control_thread;
    bool control_running;
    int control_fd;
    char *control_path;

    pthread_mutex_t lock; /* what follows */
    struct conn *conns[SERVE_MAX_CONNS];
    uint32_t generation;
    struct call_list queue, delayed; /* delayed: sorted by due_ms */
    unsigned idle_threads;
    uint64_t down_until_ms;
    struct mount_entry {
        char host[64];
        char *path;
    } mounts[SERVE_MOUNTS_MAX];
    unsigned nmounts;

    atomic_bool paused, stopping;
    struct proc_stats stats[SERVE_NPROCS];
    atomic_ullong connections, drc_replays, reboots;
};

/* net.c */
int serve_net_start(struct server *srv, char *err, size_t errlen);
void serve_net_stop(struct server *srv);
void serve_net_disconnect_all(struct server *srv);
void serve_net_resume(struct server *srv);
void serve_net_delay(struct server *srv, struct call *call, uint64_t ms);
uint64_t serve_now_ms(void); /* CLOCK_MONOTONIC */

/* conn.c */
/* A new client; FD is the connection's from here on. */
void serve_conn_new(struct server *srv, int fd, const struct sockaddr_storage *peer);
/* What epoll said of the connection TAG: send, receive; calls that are ready are added to CALLS. */
void serve_conn_event(struct server *srv, uint64_t tag, uint32_t events, struct call_list *calls);
void serve_conn_rearm(struct conn *conn);
/* End the connection; replies that were not sent are lost. */
void serve_conn_kill(struct conn *conn);
struct conn *serve_conn_ref(struct conn *conn);
void serve_conn_put(struct conn *conn);
/* Queue REPLY (consumed) and write what the socket takes. */
void serve_conn_send(struct conn *conn, struct reply *reply);
/* buffer.c: large buffers are kept for the next call instead of going back to the kernel. */
void *serve_buf_get(size_t size, size_t *cap);
void serve_buf_put(void *buf, size_t cap);
struct reply *serve_reply_new(size_t head_cap);
void serve_reply_free(struct reply *reply);

/* rpc.c */
/* The first RPC_PEEK bytes at least of a record of EXPECTED bytes arrived: how many are to be taken
 * before the connection is closed, 0 for all. */
#define RPC_PEEK 24
size_t serve_rpc_arriving(struct server *srv, const uint8_t *record, size_t expected);
/* A record arrived; the buffer is consumed. The call to run with serve_rpc_run, or NULL. */
struct call *serve_rpc_accept(struct server *srv, struct conn *conn, uint8_t *record, size_t len,
                              size_t cap);
void serve_rpc_run(struct call *call); /* consumes it */
void serve_call_free(struct call *call);

/*
 * A procedure: decode its arguments from IN, work, encode what follows the status into OUT. Returns
 * the nfsstat3, or PROC_GARBAGE when IN does not decode. With an error and nothing encoded, the
 * attributes that the RFC wants are sent as absent. Runs under the epoch's read lock, with the
 * server's ids at entry.
 */
#define PROC_GARBAGE 0xffffffffU
typedef uint32_t proc_fn(struct call *call, XDR *in, XDR *out);

struct proc {
    proc_fn *fn;        /* NULL: no arguments, no result */
    uint8_t fail_words; /* zero words that follow the status of a failure */
    bool cached;        /* goes through the duplicate request cache */
    bool modifies;      /* refused by --read-only */
    bool has_fh;        /* arguments begin with a handle */
    bool no_status;     /* result has no status word */
    uint32_t reply_max; /* room for its result, bytes */
};
extern const struct proc serve_nfs_procs[22];
extern const struct proc serve_mount_procs[6];

proc_fn proc_getattr, proc_setattr, proc_access, proc_readlink, proc_read, proc_write, proc_commit;
proc_fn proc_lookup, proc_create, proc_mkdir, proc_symlink, proc_mknod, proc_remove, proc_rmdir,
    proc_rename, proc_link;
proc_fn proc_readdir, proc_readdirplus, proc_fsstat, proc_fsinfo, proc_pathconf;
proc_fn proc_mnt, proc_dump, proc_umnt, proc_umntall, proc_export;

/* control.c */
int serve_control_start(struct server *srv, char *err, size_t errlen);
void serve_control_stop(struct server *srv);

#endif
