// SPDX-License-Identifier: Apache-2.0
/*
 * The NFSv3 client: an implementation of daemon/remote.h over ONC RPC on TCP.
 *
 *     remote_submit()  ->  submit.c   which connection? this loop's own, or a bulk one (loop_post)
 *                          encode.c   arguments, by libnfs's XDR routines
 *                          conn.c     queues; connecting, losing, connecting again
 *                          send.c     batches; WRITE data from where it is
 *                          late.c     timeouts: send again, or take the connection for dead
 *     socket           ->  receive.c  records, READ data straight into the caller's memory
 *                          decode.c   results, nothing in them trusted
 *                          steps.c    what an operation needs besides one RPC; then done()
 *
 * A call lives on one connection from submit() to done(). All of a connection's state belongs to
 * its loop's thread, so there are no locks here.
 *
 * What a caller must know: a call on a `hard` mount ends when the server answers, be that in a
 * week. Retransmissions keep their XID, their connection and, if the operating system allows, its
 * source port, so that a server with a reply cache does nothing twice; operations that a server
 * without one did twice all the same are recognised and verified (steps.c).
 */
#ifndef NFSCACHED_DAEMON_NFS_NFS3_H
#define NFSCACHED_DAEMON_NFS_NFS3_H

#include "daemon/nfs/stats.h"
#include "daemon/remote.h"

enum nfs3_resvport { NFS3_RESVPORT_TRY, NFS3_RESVPORT_YES, NFS3_RESVPORT_NO };

struct nfs3_options {
    const char *server, *export; /* name or address (no brackets); a path that begins with '/' */
    int port, mountport;         /* 0: find it: rpcbind; without one 2049, and MOUNT on its port */
    bool mountport_is_guess;     /* try mountport, but ask rpcbind if MOUNT is not there */
    int family;                  /* AF_UNSPEC, AF_INET, AF_INET6 */
    uint32_t rsize, wsize;       /* bytes; 0: what the server prefers to give, at most 1 MiB */
    bool soft;
    uint32_t timeo_ds, retrans; /* nfs(5); 0 deciseconds: 600 */
    int nconnect;               /* connections in all: one per shard loop, the rest for bulk data */
    enum nfs3_resvport resvport;
    int retry_minutes; /* go on trying to mount for so long; 0: once */
    bool *again; /* if not NULL: after a failure, whether another attempt can end differently */
    /* Where lines for the log go (syslog priorities); NULL: standard error. Any thread. */
    void (*log)(int priority, const char *text);
};

enum { NFS3_ERROR_MAX = 512, NFS3_IO_MAX = 1 << 20, NFS3_BULK_MIN = 128 << 10 };

/*
 * Mounts: MOUNT (rpcbind before it, if a port is not known), FSINFO, PATHCONF and GETATTR of the
 * root, then the connections. Blocks, so not on a loop; the loops of `loops` need not run yet. The
 * connection that belongs to loops[i] is served by it; bulk connections get threads of their own.
 * 0 and *out, or negative errno and one line in errbuf that names the server, what failed and what
 * to do.
 */
int nfs3_mount(const struct nfs3_options *o, struct loop *const *loops, int nloops,
               struct remote **out, char *errbuf, size_t errlen);

/* A snapshot; any thread, until remote_destroy(). `out` is large (some KiB). */
void nfs3_stats(struct remote *r, struct nfs3_stats *out);

/* ---- what a server exports (MOUNT procedure EXPORT, RFC 1813 section 5.2.5) ---- */

struct nfs3_export {
    struct nfs3_export *next;
    char *dir;
    char **groups; /* who may mount it; NULL-terminated; empty: everybody */
};

/* Blocks. Uses server, port, mountport, family, resvport of `o`. The list is the caller's. */
int nfs3_exports(const struct nfs3_options *o, struct nfs3_export **out, char *errbuf,
                 size_t errlen);
void nfs3_exports_free(struct nfs3_export *list);

#endif
