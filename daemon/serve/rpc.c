// SPDX-License-Identifier: Apache-2.0
/*
 * ONC RPC (RFC 5531) between the sockets and the procedures: the header of a call, its credentials,
 * what faults and duplicate request cache say to it, its execution, and what becomes of the reply.
 *
 * Errors. A record that is no call of RPC version 2 ends its connection (there is nobody to
 * answer); everything else that is wrong with a call is answered by the RFC's own status:
 * RPC_MISMATCH, AUTH_ERROR, PROG_UNAVAIL, PROG_MISMATCH, PROC_UNAVAIL, GARBAGE_ARGS.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/serve/internal.h"

#define REPLY_HEAD 28 /* record mark, XID, REPLY, MSG_ACCEPTED, AUTH_NONE, accept status */

const struct proc serve_nfs_procs[22] = {
    [NFSPROC3_NULL] = {0},
    [NFSPROC3_GETATTR] = {proc_getattr, .has_fh = true, .reply_max = 256},
    [NFSPROC3_SETATTR] = {proc_setattr, 2, true, true, true, false, 512},
    [NFSPROC3_LOOKUP] = {proc_lookup, 1, .has_fh = true, .reply_max = 512},
    [NFSPROC3_ACCESS] = {proc_access, 1, .has_fh = true, .reply_max = 256},
    [NFSPROC3_READLINK] = {proc_readlink, 1, .has_fh = true, .reply_max = 8192},
    [NFSPROC3_READ] = {proc_read, 1, .has_fh = true, .reply_max = 256},
    [NFSPROC3_WRITE] = {proc_write, 2, true, true, true, false, 512},
    [NFSPROC3_CREATE] = {proc_create, 2, true, true, true, false, 768},
    [NFSPROC3_MKDIR] = {proc_mkdir, 2, true, true, true, false, 768},
    [NFSPROC3_SYMLINK] = {proc_symlink, 2, true, true, true, false, 768},
    [NFSPROC3_MKNOD] = {proc_mknod, 2, true, true, true, false, 768},
    [NFSPROC3_REMOVE] = {proc_remove, 2, true, true, true, false, 512},
    [NFSPROC3_RMDIR] = {proc_rmdir, 2, true, true, true, false, 512},
    [NFSPROC3_RENAME] = {proc_rename, 4, true, true, true, false, 768},
    [NFSPROC3_LINK] = {proc_link, 3, true, true, true, false, 768},
    [NFSPROC3_READDIR] = {proc_readdir, 1, .has_fh = true, .reply_max = 0},
    [NFSPROC3_READDIRPLUS] = {proc_readdirplus, 1, .has_fh = true, .reply_max = 0},
    [NFSPROC3_FSSTAT] = {proc_fsstat, 1, .has_fh = true, .reply_max = 512},
    [NFSPROC3_FSINFO] = {proc_fsinfo, 1, .has_fh = true, .reply_max = 512},
    [NFSPROC3_PATHCONF] = {proc_pathconf, 1, .has_fh = true, .reply_max = 512},
    [NFSPROC3_COMMIT] = {proc_commit, 2, .has_fh = true, .reply_max = 512},
};

const struct proc serve_mount_procs[6] = {
    [MOUNTPROC3_NULL] = {0},
    [MOUNTPROC3_MNT] = {proc_mnt, .reply_max = 512},
    [MOUNTPROC3_DUMP] = {proc_dump, .no_status = true, .reply_max = 65536},
    [MOUNTPROC3_UMNT] = {proc_umnt, .no_status = true, .reply_max = 64},
    [MOUNTPROC3_UMNTALL] = {proc_umntall, .no_status = true, .reply_max = 64},
    [MOUNTPROC3_EXPORT] = {proc_export, .no_status = true, .reply_max = 8192},
};

static const struct proc *proc_of(const struct call *call)
{
    return call->prog == NFS_PROGRAM ? &serve_nfs_procs[call->proc]
                                     : &serve_mount_procs[call->proc];
}

/* The call was not executed, or cannot be answered. */
static void call_abandon(struct call *call)
{
    struct conn *waiter;

    if (!call->drc)
        return;
    waiter = drc_abandon(call->srv->drc, call->drc);
    call->drc = NULL;
    if (!waiter)
        return;
    /* A copy waits for an answer that will not come: its client sends it again. */
    serve_conn_kill(waiter);
    serve_conn_put(waiter);
}

void serve_call_free(struct call *call)
{
    call_abandon(call);
    serve_reply_free(call->reply);
    serve_buf_put(call->record, call->record_cap);
    serve_conn_put(call->conn);
    free(call);
}

/* ---- replies ---- */

static void put32(uint8_t *at, uint32_t value)
{
    value = htonl(value);
    memcpy(at, &value, 4);
}

/* Fill in record mark and RPC header of an accepted call, in the first REPLY_HEAD bytes. */
static void reply_header(struct reply *reply, uint32_t xid, uint32_t accept_stat)
{
    uint8_t *head = reply->head;
    size_t len = reply->head_len + reply->data_len + reply->pad - 4;

    put32(head, 0x80000000U | (uint32_t)len);
    put32(head + 4, xid);
    put32(head + 8, REPLY);
    put32(head + 12, MSG_ACCEPTED);
    put32(head + 16, AUTH_NONE);
    put32(head + 20, 0);
    put32(head + 24, accept_stat);
}

static void send_words(struct conn *conn, const uint32_t *words, size_t count)
{
    struct reply *reply = serve_reply_new(4 + count * 4);

    if (!reply) {
        serve_conn_kill(conn);
        return;
    }
    put32(reply->head, 0x80000000U | (uint32_t)(count * 4));
    for (size_t i = 0; i < count; i++)
        put32(reply->head + 4 + i * 4, words[i]);
    reply->head_len = 4 + count * 4;
    serve_conn_send(conn, reply);
}

static void send_accept_error(struct conn *conn, uint32_t xid, uint32_t stat, uint32_t low,
                              uint32_t high)
{
    uint32_t words[] = {xid, REPLY, MSG_ACCEPTED, AUTH_NONE, 0, stat, low, high};

    send_words(conn, words, stat == PROG_MISMATCH ? 8 : 6);
}

static void send_bytes(struct conn *conn, const void *bytes, size_t len)
{
    struct reply *reply = serve_reply_new(len);

    if (!reply) {
        serve_conn_kill(conn);
        return;
    }
    memcpy(reply->head, bytes, len);
    reply->head_len = len;
    serve_conn_send(conn, reply);
}

/* ---- the call's header ---- */

/* AUTH_SYS, RFC 5531 appendix A. */
static bool decode_auth_sys(XDR *xdrs, struct cred *cred, uint32_t len)
{
    uint32_t before = xdr_getpos(xdrs), stamp, name_len;

    if (!xdr_u_int(xdrs, &stamp) || !xdr_u_int(xdrs, &name_len) || name_len > 255)
        return false;
    name_len = (name_len + 3) & ~3U;
    if (name_len && !XDR_INLINE(xdrs, name_len))
        return false;
    if (!xdr_u_int(xdrs, &cred->uid) || !xdr_u_int(xdrs, &cred->gid) ||
        !xdr_u_int(xdrs, &cred->ngroups) || cred->ngroups > CRED_MAX_GROUPS)
        return false;
    for (uint32_t i = 0; i < cred->ngroups; i++)
        if (!xdr_u_int(xdrs, &cred->groups[i]))
            return false;
    return xdr_getpos(xdrs) - before == ((len + 3) & ~3U);
}

/* The credential and the verifier. 0, an auth_stat, or -1: the record ends too early. */
static int decode_auth(XDR *xdrs, struct cred *cred)
{
    uint32_t flavor, len;
    int stat = AUTH_OK;

    if (!xdr_u_int(xdrs, &flavor) || !xdr_u_int(xdrs, &len) || len > MAX_AUTH_BYTES)
        return -1;
    uint32_t next = xdr_getpos(xdrs) + ((len + 3) & ~3U);
    *cred = (struct cred){.uid = CRED_NOBODY, .gid = CRED_NOBODY};
    if (flavor == AUTH_SYS) {
        if (!decode_auth_sys(xdrs, cred, len))
            stat = AUTH_BADCRED;
    } else if (flavor != AUTH_NONE) {
        stat = AUTH_REJECTEDCRED;
    }
    if (!xdr_setpos(xdrs, next))
        return -1;
    if (!xdr_u_int(xdrs, &flavor) || !xdr_u_int(xdrs, &len) || len > MAX_AUTH_BYTES)
        return -1;
    len = (len + 3) & ~3U;
    if (len && !XDR_INLINE(xdrs, len))
        return -1;
    return stat;
}

/* Whether the call is one of ours; otherwise it has been answered. */
static bool check_program(struct call *call)
{
    uint32_t version, procs;

    if (call->prog == NFS_PROGRAM) {
        version = NFS_V3;
        procs = 22;
    } else if (call->prog == MOUNT_PROGRAM) {
        version = MOUNT_V3;
        procs = 6;
    } else {
        send_accept_error(call->conn, call->xid, PROG_UNAVAIL, 0, 0);
        return false;
    }
    if (call->vers != version) {
        send_accept_error(call->conn, call->xid, PROG_MISMATCH, version, version);
        return false;
    }
    if (call->proc >= procs) {
        send_accept_error(call->conn, call->xid, PROC_UNAVAIL, 0, 0);
        return false;
    }
    call->number = call->proc + (call->prog == MOUNT_PROGRAM ? FAULT_PROC_MOUNT : 0);
    return true;
}

/* Whether the record is a call that is to be executed; otherwise it has been answered. */
static bool decode_header(struct call *call)
{
    XDR xdrs;
    uint32_t direction, rpcvers;

    xdrmem_create(&xdrs, (char *)call->record, (u_int)call->record_len, XDR_DECODE);
    if (!xdr_u_int(&xdrs, &call->xid) || !xdr_u_int(&xdrs, &direction) || direction != CALL ||
        !xdr_u_int(&xdrs, &rpcvers) || !xdr_u_int(&xdrs, &call->prog) ||
        !xdr_u_int(&xdrs, &call->vers) || !xdr_u_int(&xdrs, &call->proc)) {
        serve_conn_kill(call->conn);
        return false;
    }
    if (rpcvers != RPC_MSG_VERSION) {
        uint32_t words[] = {call->xid,    REPLY,           MSG_DENIED,
                            RPC_MISMATCH, RPC_MSG_VERSION, RPC_MSG_VERSION};
        send_words(call->conn, words, 6);
        return false;
    }
    int stat = decode_auth(&xdrs, &call->cred);
    if (stat < 0) {
        send_accept_error(call->conn, call->xid, GARBAGE_ARGS, 0, 0);
        return false;
    }
    if (stat != AUTH_OK) {
        uint32_t words[] = {call->xid, REPLY, MSG_DENIED, AUTH_ERROR, (uint32_t)stat};
        send_words(call->conn, words, 5);
        return false;
    }
    call->args_at = xdr_getpos(&xdrs);
    return check_program(call);
}

static void plan_faults(struct call *call)
{
    nfs_fh3 fh, *which = NULL;
    XDR xdrs;

    if (proc_of(call)->has_fh) {
        xdrmem_create(&xdrs, (char *)call->record + call->args_at,
                      (u_int)(call->record_len - call->args_at), XDR_DECODE);
        if (xdr_nfs_fh3(&xdrs, &fh))
            which = &fh;
    }
    faults_plan(&call->srv->faults, call->conn->shown ? FAULT_REST : FAULT_ALL, call->number, which,
                &call->plan);
}

static void log_call(const struct call *call, uint32_t status, uint64_t ns, const char *what)
{
    char line[512];
    const struct fault_plan *plan = &call->plan;

    if (!call->srv->opt.verbose)
        return;
    snprintf(line, sizeof(line), "%s xid=%08x uid=%u %s%s%s -> %s %lluus%s%s\n",
             call->conn->peer_name, call->xid, call->cred.uid, serve_proc_name(call->number),
             call->note[0] ? " " : "", call->note, what ? what : serve_status_name(status),
             (unsigned long long)(ns / 1000), plan->fired ? " fault" : "",
             plan->delay_ms ? " delayed" : "");
    fputs(line, stderr);
}

/* What the plan does instead of executing. Whether it did. */
static bool fault_before(struct call *call)
{
    const struct fault_plan *plan = &call->plan;

    if (plan->reboot) {
        log_call(call, 0, 0, "reboot");
        server_reboot(call->srv, plan->reboot_ms);
        return true;
    }
    if (plan->drop || plan->cut_call) {
        log_call(call, 0, 0, "drop");
        serve_conn_kill(call->conn);
        return true;
    }
    return false;
}

/* Whether the duplicate request cache has dealt with the call. */
static bool answered_by_drc(struct call *call)
{
    void *bytes;
    size_t len;

    if (call->srv->opt.no_drc || !proc_of(call)->cached)
        return false;
    switch (drc_begin(call->srv->drc, &call->conn->peer, call->xid, call->prog, call->proc,
                      call->record, call->record_len, call->conn, &call->drc, &bytes, &len)) {
    case DRC_NEW:
        return false;
    case DRC_WAIT:
        log_call(call, 0, 0, "waits for its first copy");
        return true;
    case DRC_REPLAY:
        break;
    }
    atomic_fetch_add(&call->srv->drc_replays, 1);
    log_call(call, 0, 0, "replayed");
    send_bytes(call->conn, bytes, len);
    free(bytes);
    return true;
}

size_t serve_rpc_arriving(struct server *srv, const uint8_t *record, size_t expected)
{
    struct fault_plan plan;
    uint32_t word[6];

    for (int i = 0; i < 6; i++) {
        memcpy(&word[i], record + i * 4, 4);
        word[i] = ntohl(word[i]);
    }
    if (word[1] != CALL || word[3] != NFS_PROGRAM || word[5] >= 22)
        return 0;
    faults_plan(&srv->faults, FAULT_ARRIVING, word[5], NULL, &plan);
    if (!plan.cut_call)
        return 0;
    return plan.cut_call_bytes ? plan.cut_call_bytes : expected / 2;
}

struct call *serve_rpc_accept(struct server *srv, struct conn *conn, uint8_t *record, size_t len,
                              size_t cap)
{
    struct call *call = calloc(1, sizeof(*call));

    if (!call) {
        serve_buf_put(record, cap);
        serve_conn_kill(conn);
        return NULL;
    }
    call->srv = srv;
    call->conn = serve_conn_ref(conn);
    call->record = record;
    call->record_len = len;
    call->record_cap = cap;
    if (decode_header(call)) {
        /* A copy of a call that was executed is not a new call: no fault is spent on it. */
        if (!answered_by_drc(call)) {
            plan_faults(call);
            if (call->plan.delay_ms) {
                serve_net_delay(srv, call, call->plan.delay_ms);
                return NULL;
            }
            return call;
        }
    }
    serve_call_free(call);
    return NULL;
}

/* ---- execution ---- */

static size_t reply_room(const struct call *call, const struct proc *proc)
{
    uint32_t count;

    if (proc->reply_max || !proc->fn)
        return proc->reply_max;
    /* READDIR and READDIRPLUS end with the number of bytes that the client takes. */
    if (call->record_len - call->args_at < 4)
        return 64;
    memcpy(&count, call->record + call->record_len - 4, 4);
    count = ntohl(count);
    return (count < SERVE_MAX_IO ? count : SERVE_MAX_IO) + 256;
}

/* Execute the call, or answer with the error planned. The reply is in call->reply, without header.
 * Returns the accept status; the NFS status is left in *STATUS. */
static uint32_t execute(struct call *call, uint32_t *status)
{
    const struct proc *proc = proc_of(call);
    struct reply *reply = serve_reply_new(REPLY_HEAD + 4 + reply_room(call, proc));
    XDR in, out;
    u_int body = 0;

    *status = NFS3_OK;
    call->reply = reply;
    if (!reply)
        return SYSTEM_ERR;
    reply->head_len = REPLY_HEAD;
    if (!proc->fn)
        return SUCCESS;
    uint8_t *at = reply->head + REPLY_HEAD + (proc->no_status ? 0 : 4);
    xdrmem_create(&in, (char *)call->record + call->args_at,
                  (u_int)(call->record_len - call->args_at), XDR_DECODE);
    xdrmem_create(&out, (char *)at, (u_int)(reply->head + reply->head_cap - at), XDR_ENCODE);
    serve_cred_become_server();
    if (call->plan.error && !proc->no_status)
        *status = call->plan.error;
    else if (proc->modifies && call->srv->opt.read_only)
        *status = NFS3ERR_ROFS;
    else
        *status = proc->fn(call, &in, &out);
    if (*status == PROC_GARBAGE)
        return GARBAGE_ARGS;
    body = xdr_getpos(&out);
    if (!proc->no_status) {
        put32(at - 4, *status);
        if (*status != NFS3_OK && body == 0) {
            memset(at, 0, proc->fail_words * 4UL);
            body = proc->fail_words * 4U;
        }
    }
    reply->head_len = (size_t)(at - reply->head) + body;
    return SUCCESS;
}

/* Send the reply as the plan wants it, and give it to the cache and to a copy that waits. */
static void finish(struct call *call, uint32_t status)
{
    struct reply *reply = call->reply;
    struct conn *waiter = NULL;

    call->reply = NULL;
    if (call->drc) {
        /* JUKEBOX says "ask again": the same call must then be executed. */
        if (status == NFS3ERR_JUKEBOX)
            waiter = drc_abandon(call->srv->drc, call->drc);
        else
            waiter = drc_done(call->srv->drc, call->drc, reply->head, reply->head_len);
        call->drc = NULL;
    }
    if (waiter && waiter != call->conn)
        send_bytes(waiter, reply->head, reply->head_len);
    if (waiter)
        serve_conn_put(waiter);

    if (call->plan.lost_reply) {
        serve_conn_kill(call->conn);
        serve_reply_free(reply);
    } else if (call->plan.silent) {
        serve_reply_free(reply);
    } else {
        if (call->plan.drop_mid) {
            size_t total = reply->head_len + reply->data_len + reply->pad;
            reply->cut = call->plan.drop_mid_bytes ? call->plan.drop_mid_bytes : total / 2;
            reply->close_after = true;
        }
        serve_conn_send(call->conn, reply);
    }
}

void serve_rpc_run(struct call *call)
{
    struct server *srv = call->srv;
    struct proc_stats *stats = &srv->stats[call->number];
    struct timespec start, end;
    uint32_t status, accept;

    if (fault_before(call)) {
        serve_call_free(call);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &start);
    pthread_rwlock_rdlock(&srv->epoch);
    accept = execute(call, &status);
    pthread_rwlock_unlock(&srv->epoch);
    clock_gettime(CLOCK_MONOTONIC, &end);
    uint64_t ns = (uint64_t)(end.tv_sec - start.tv_sec) * 1000000000ULL + (uint64_t)end.tv_nsec -
                  (uint64_t)start.tv_nsec;

    atomic_fetch_add(&stats->calls, 1);
    atomic_fetch_add(&stats->ns, ns);
    if (accept != SUCCESS || status != NFS3_OK)
        atomic_fetch_add(&stats->errors, 1);
    log_call(call, status, ns,
             accept == SUCCESS        ? NULL
             : accept == GARBAGE_ARGS ? "GARBAGE_ARGS"
                                      : "SYSTEM_ERR");
    if (!call->reply) {
        serve_conn_kill(call->conn);
    } else {
        if (accept != SUCCESS) {
            call->reply->head_len = REPLY_HEAD;
            call->reply->data_len = call->reply->pad = 0;
        }
        atomic_fetch_add(&stats->bytes, call->reply->data_len);
        reply_header(call->reply, call->xid, accept);
        finish(call, status);
    }
    serve_call_free(call);
}
