// SPDX-License-Identifier: Apache-2.0
/*
 * The protocols around NFSv3, spoken through libtirpc: rpcbind (RFC 1833), and MOUNT version 3 (RFC
 * 1813 section 5) for the root's handle, the list of exports, and the farewell.
 *
 * Where the services are: a port that was given is believed. Else rpcbind is asked; a server
 * without rpcbind (user space servers, mostly) is tried at 2049, and MOUNT on the port of NFS.
 *
 * Everything blocks, within limits: 5 s to connect, 5 s for an answer. Replies are decoded with a
 * limit on each of their lengths. Errors are negative errno with a line for the user; `again` says
 * that the failure looks like that of a server which is not up yet.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <rpc/rpc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/nfs/client.h"

enum { MOUNT_PROG = 100005, MOUNT_VERS = 3, MNT = 1, UMNT = 3, EXPORT = 5 };
enum { BIND_PROG = 100000, PMAP_VERS = 2, PMAP_GETPORT = 3, BIND_VERS = 4, BIND_GETADDR = 3 };
enum { RPCBIND_PORT = 111, TCP_PROTOCOL = 6 };
enum { PATH_LIMIT = 1024, NAME_LIMIT = 255, FLAVOURS_LIMIT = 64, EXPORTS_LIMIT = 65536 };
enum { CONNECT_MS = 5000, ANSWER_MS = 5000, FAREWELL_MS = 1000 };
enum { FLAVOUR_NONE = 0, FLAVOUR_SYS = 1 };

struct report {
    const struct nfs3_options *o;
    bool *again;
    char *buf;
    size_t len;
};

static int fail(const struct report *rep, int error, bool again, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static int fail(const struct report *rep, int error, bool again, const char *fmt, ...)
{
    va_list ap;
    *rep->again = again;
    int n = snprintf(rep->buf, rep->len, "%s:%s: ", rep->o->server,
                     rep->o->export ? rep->o->export : "");
    va_start(ap, fmt);
    if (n >= 0 && (size_t)n < rep->len)
        vsnprintf(rep->buf + n, rep->len - (size_t)n, fmt, ap);
    va_end(ap);
    return error;
}

static bool not_up_yet(int error)
{
    return error == -ECONNREFUSED || error == -ETIMEDOUT || error == -EHOSTUNREACH ||
           error == -ENETUNREACH || error == -ECONNRESET || error == -EHOSTDOWN ||
           error == -EPFNOSUPPORT;
}

/* ---- a blocking RPC client with limits ---- */

static void set_port(struct sockaddr_storage *a, uint16_t port)
{
    if (a->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)a)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)a)->sin_port = htons(port);
}

static int connect_within(int fd, const struct sockaddr_storage *a, socklen_t len, int ms)
{
    int error = 0;
    socklen_t elen = sizeof(error);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (connect(fd, (const struct sockaddr *)a, len) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    uint64_t until = now_ns() + (uint64_t)ms * 1000000u;
    int n;
    while ((n = poll(&p, 1, ms)) < 0 && errno == EINTR && now_ns() < until)
        ;
    if (n <= 0)
        return -ETIMEDOUT;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &elen) < 0)
        return -errno;
    return -error;
}

static int client_open(CLIENT **out, const struct sockaddr_storage *a, socklen_t len,
                       rpcprog_t prog, rpcvers_t vers, enum nfs3_resvport resv, int ms)
{
    struct netbuf nb = {.maxlen = len, .len = len, .buf = (void *)(uintptr_t)a};
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    char host[64] = "";
    int fd = socket(a->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int rc = resv == NFS3_RESVPORT_NO ? 0 : sock_bind_reserved(fd, a->ss_family);
    if (resv == NFS3_RESVPORT_TRY)
        rc = 0;
    rc = rc ? rc : connect_within(fd, a, len, ms);
    if (rc) {
        close(fd);
        return rc;
    }
    /* Blocking again, but for no longer than ms in any one send. */
    int flags = 0;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    if ((flags = fcntl(fd, F_GETFL)) >= 0)
        fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    CLIENT *client = clnt_vc_create(fd, &nb, prog, vers, 0, 0);
    if (!client) {
        close(fd);
        return -ENOMEM;
    }
    clnt_control(client, CLSET_FD_CLOSE, NULL);
    clnt_control(client, CLSET_TIMEOUT, (char *)&wait);
    gethostname(host, sizeof(host) - 1);
    AUTH *auth = authunix_create(host, geteuid(), getegid(), 0, NULL);
    if (auth)
        client->cl_auth = auth;
    *out = client;
    return 0;
}

static void client_close(CLIENT *client)
{
    if (client->cl_auth)
        auth_destroy(client->cl_auth);
    clnt_destroy(client);
}

static int client_call(CLIENT *client, rpcproc_t proc, xdrproc_t args, void *argp, xdrproc_t res,
                       void *resp, int ms)
{
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    enum clnt_stat stat = clnt_call(client, proc, args, argp, res, resp, wait);
    switch (stat) {
    case RPC_SUCCESS:
        return 0;
    case RPC_TIMEDOUT:
        return -ETIMEDOUT;
    case RPC_PROGUNAVAIL:
        return -EPFNOSUPPORT;
    case RPC_PROGVERSMISMATCH:
    case RPC_VERSMISMATCH:
        return -EPROTONOSUPPORT;
    case RPC_AUTHERROR:
        return -EACCES;
    case RPC_CANTSEND:
    case RPC_CANTRECV:
        return -ECONNRESET;
    default:
        return -EIO;
    }
}

/* ---- rpcbind ---- */

struct pmap_args {
    uint32_t prog, vers, protocol, port;
};

static bool_t put_pmap(XDR *x, struct pmap_args *a)
{
    return xdr_uint32_t(x, &a->prog) && xdr_uint32_t(x, &a->vers) &&
           xdr_uint32_t(x, &a->protocol) && xdr_uint32_t(x, &a->port);
}

struct bind_args {
    uint32_t prog, vers;
    char *netid, *addr, *owner;
};

static bool_t put_bind(XDR *x, struct bind_args *a)
{
    return xdr_uint32_t(x, &a->prog) && xdr_uint32_t(x, &a->vers) &&
           xdr_string(x, &a->netid, NAME_LIMIT) && xdr_string(x, &a->addr, NAME_LIMIT) &&
           xdr_string(x, &a->owner, NAME_LIMIT);
}

static bool_t get_uaddr(XDR *x, char **uaddr)
{
    return xdr_string(x, uaddr, NAME_LIMIT);
}

/* "h.h.p1.p2" or "v6.p1.p2" (RFC 5665 section 5.2.3.3): the port is p1 * 256 + p2; 0: none. */
static uint32_t uaddr_port(const char *uaddr)
{
    const char *last = strrchr(uaddr, '.');
    const char *first = last;
    unsigned hi, lo;
    while (first && first > uaddr && *--first != '.')
        ;
    if (!first || sscanf(first, ".%u.%u", &hi, &lo) != 2 || hi > 255 || lo > 255)
        return 0;
    return hi * 256 + lo;
}

/* The port of a program over TCP; 0 *port: not registered. Error: no rpcbind to ask. */
static int ask_rpcbind(struct sockaddr_storage a, socklen_t len, uint32_t prog, uint32_t vers,
                       uint32_t *port)
{
    CLIENT *client;
    bool v6 = a.ss_family == AF_INET6;
    *port = 0;
    set_port(&a, RPCBIND_PORT);
    int rc = client_open(&client, &a, len, BIND_PROG, v6 ? BIND_VERS : PMAP_VERS, NFS3_RESVPORT_NO,
                         CONNECT_MS);
    if (rc)
        return rc;
    if (v6) {
        char netid[] = "tcp6", none[] = "", *uaddr = NULL;
        struct bind_args args = {prog, vers, netid, none, none};
        rc = client_call(client, BIND_GETADDR, (xdrproc_t)put_bind, &args, (xdrproc_t)get_uaddr,
                         &uaddr, ANSWER_MS);
        if (!rc && uaddr)
            *port = uaddr_port(uaddr);
        free(uaddr);
    } else {
        struct pmap_args args = {prog, vers, TCP_PROTOCOL, 0};
        rc = client_call(client, PMAP_GETPORT, (xdrproc_t)put_pmap, &args, (xdrproc_t)xdr_uint32_t,
                         port, ANSWER_MS);
        if (*port > 65535)
            *port = 0;
    }
    client_close(client);
    return rc;
}

/* ---- MOUNT ---- */

struct mnt_result {
    uint32_t status;
    uint32_t fh_len;
    char fh[NFS3_FH_MAX];
    bool sys; /* AUTH_SYS is among the flavours, or the server does not say */
};

static bool_t no_data(XDR *x, void *nothing)
{
    return TRUE;
}

static bool_t put_path(XDR *x, char **path)
{
    return xdr_string(x, path, PATH_LIMIT);
}

static bool_t get_mnt(XDR *x, struct mnt_result *m)
{
    char *fh = m->fh;
    uint32_t n = 0, flavour;
    if (x->x_op == XDR_FREE)
        return TRUE;
    if (!xdr_uint32_t(x, &m->status))
        return FALSE;
    if (m->status)
        return TRUE;
    if (!xdr_bytes(x, &fh, &m->fh_len, NFS3_FH_MAX) || !xdr_uint32_t(x, &n) || n > FLAVOURS_LIMIT)
        return FALSE;
    m->sys = n == 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!xdr_uint32_t(x, &flavour))
            return FALSE;
        m->sys |= flavour == FLAVOUR_SYS || flavour == FLAVOUR_NONE;
    }
    return TRUE;
}

static int status_error(uint32_t status, const char **hint)
{
    *hint = "";
    switch (status) {
    case 1:
    case 13:
        *hint = ": is this client in the export's list, and the source port below 1024 "
                "(resvport, as root) where the server wants it?";
        return -EACCES;
    case 2:
        *hint = ": `nfscached exports` lists what the server offers";
        return -ENOENT;
    case 20:
        return -ENOTDIR;
    case 22:
        return -EINVAL;
    case 63:
        return -ENAMETOOLONG;
    case 10004:
        return -EOPNOTSUPP;
    case 10006:
        return -EREMOTEIO;
    }
    return -EIO;
}

static int mnt_call(const struct report *rep, struct mountd_target *t, uint16_t port)
{
    CLIENT *client;
    struct mnt_result m = {0};
    const struct nfs3_options *o = rep->o;
    char *path = (char *)(uintptr_t)o->export;
    const char *hint;
    set_port(&t->mount, port);
    int rc = client_open(&client, &t->mount, t->mountlen, MOUNT_PROG, MOUNT_VERS, o->resvport,
                         CONNECT_MS);
    if (rc)
        return fail(
            rep, rc, not_up_yet(rc), "cannot reach the MOUNT service at port %u: %s%s", port,
            strerror(-rc),
            o->mountport ? "" : ": is the server up, and mountport= given if it has no rpcbind?");
    rc = client_call(client, MNT, (xdrproc_t)put_path, &path, (xdrproc_t)get_mnt, &m, ANSWER_MS);
    client_close(client);
    if (rc == -EPFNOSUPPORT || rc == -EPROTONOSUPPORT)
        return fail(
            rep, rc, not_up_yet(rc),
            "port %u does not offer MOUNT version 3: give mountport=, or enable NFSv3 there", port);
    if (rc)
        return fail(rep, rc, not_up_yet(rc), "the MOUNT service at port %u: %s", port,
                    strerror(-rc));
    if (m.status) {
        rc = status_error(m.status, &hint);
        return fail(rep, rc, m.status == 10006, "the server refuses the export: %s%s",
                    strerror(-rc), hint);
    }
    if (!m.fh_len)
        return fail(rep, -EIO, false, "the MOUNT service at port %u sent no file handle", port);
    if (!m.sys)
        return fail(rep, -EACCES, false,
                    "the export demands a security flavour other than sec=sys, the one we have");
    t->root.len = (uint8_t)m.fh_len;
    memcpy(t->root.data, m.fh, m.fh_len);
    return 0;
}

/* ---- finding the services ---- */

/* Ports to try for MOUNT, most likely first; how many. */
static int mount_ports(const struct nfs3_options *o, const struct mountd_target *t,
                       uint16_t nfs_port, uint16_t ports[3])
{
    int n = 0;
    uint32_t asked = 0;
    if (o->mountport)
        ports[n++] = (uint16_t)o->mountport;
    if (o->mountport && !o->mountport_is_guess)
        return n;
    if (!o->mountport && o->port)
        ports[n++] = (uint16_t)o->port;
    if (ask_rpcbind(t->mount, t->mountlen, MOUNT_PROG, MOUNT_VERS, &asked) == 0 && asked)
        ports[n++] = (uint16_t)asked;
    if (!n)
        ports[n++] = nfs_port;
    return n;
}

static uint16_t find_nfs(const struct nfs3_options *o, const struct mountd_target *t)
{
    uint32_t port = 0;
    if (o->port)
        return (uint16_t)o->port;
    if (ask_rpcbind(t->nfs, t->nfslen, NFS3_PROG, NFS3_VERS, &port) == 0 && port)
        return (uint16_t)port;
    return NFS3_PORT;
}

static int resolve(const struct report *rep, struct addrinfo **list)
{
    struct addrinfo hints = {.ai_family = rep->o->family, .ai_socktype = SOCK_STREAM};
    int rc = getaddrinfo(rep->o->server, NULL, &hints, list);
    if (rc == 0)
        return 0;
    return fail(rep, rc == EAI_AGAIN ? -EAGAIN : -EHOSTUNREACH, rc == EAI_AGAIN,
                "cannot find the server's address: %s",
                rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
}

static void take_address(struct mountd_target *t, const struct addrinfo *ai)
{
    memset(t, 0, sizeof(*t));
    memcpy(&t->nfs, ai->ai_addr, ai->ai_addrlen);
    memcpy(&t->mount, ai->ai_addr, ai->ai_addrlen);
    t->nfslen = t->mountlen = ai->ai_addrlen;
}

int mountd_mount(const struct nfs3_options *o, struct mountd_target *t, bool *again, char *errbuf,
                 size_t errlen)
{
    struct report rep = {o, again, errbuf, errlen};
    struct addrinfo *list = NULL;
    int rc = resolve(&rep, &list);
    if (rc)
        return rc;
    rc = -EHOSTUNREACH;
    for (const struct addrinfo *ai = list; ai && rc; ai = ai->ai_next) {
        uint16_t ports[3];
        take_address(t, ai);
        uint16_t nfs = find_nfs(o, t);
        int n = mount_ports(o, t, nfs, ports);
        for (int i = 0; i < n && rc; i++) {
            /* The next port only where MOUNT was not at the last: a refusal is final. */
            if (i > 0 && !not_up_yet(rc) && rc != -EPROTONOSUPPORT)
                break;
            rc = mnt_call(&rep, t, ports[i]);
        }
        set_port(&t->nfs, nfs);
    }
    freeaddrinfo(list);
    return rc;
}

void mountd_umount(const struct nfs3 *r)
{
    CLIENT *client;
    char *path = r->export;
    if (!r->mount_addrlen || client_open(&client, &r->mount_addr, r->mount_addrlen, MOUNT_PROG,
                                         MOUNT_VERS, r->resvport, FAREWELL_MS) < 0)
        return;
    client_call(client, UMNT, (xdrproc_t)put_path, &path, (xdrproc_t)no_data, NULL, FAREWELL_MS);
    client_close(client);
}

/* ---- EXPORT ---- */

struct export_list {
    struct nfs3_export *first, **tail;
    uint32_t count;
};

static bool more_follows(XDR *x, bool *more)
{
    bool_t follows;
    if (!xdr_bool(x, &follows))
        return false;
    *more = follows;
    return true;
}

static bool get_groups(XDR *x, struct nfs3_export *e)
{
    bool more = false;
    size_t n = 0;
    while (more_follows(x, &more) && more) {
        char **groups = n < EXPORTS_LIMIT ? realloc(e->groups, (n + 2) * sizeof(*groups)) : NULL;
        if (!groups)
            return false;
        e->groups = groups;
        groups[n] = groups[n + 1] = NULL;
        if (!xdr_string(x, &groups[n++], NAME_LIMIT))
            return false;
    }
    return !more;
}

static bool_t get_exports(XDR *x, struct export_list *list)
{
    bool more = false;
    if (x->x_op == XDR_FREE)
        return TRUE;
    while (more_follows(x, &more) && more) {
        struct nfs3_export *e = list->count++ < EXPORTS_LIMIT ? calloc(1, sizeof(*e)) : NULL;
        if (!e)
            return FALSE;
        *list->tail = e;
        list->tail = &e->next;
        e->groups = calloc(1, sizeof(*e->groups));
        if (!e->groups || !xdr_string(x, &e->dir, PATH_LIMIT) || !get_groups(x, e))
            return FALSE;
    }
    return !more;
}

void nfs3_exports_free(struct nfs3_export *list)
{
    while (list) {
        struct nfs3_export *next = list->next;
        for (char **g = list->groups; g && *g; g++)
            free(*g);
        free(list->groups);
        free(list->dir);
        free(list);
        list = next;
    }
}

static int exports_of(const struct report *rep, struct mountd_target *t, uint16_t port,
                      struct nfs3_export **out)
{
    CLIENT *client;
    struct export_list list = {.tail = &list.first};
    set_port(&t->mount, port);
    int rc = client_open(&client, &t->mount, t->mountlen, MOUNT_PROG, MOUNT_VERS, rep->o->resvport,
                         CONNECT_MS);
    if (rc)
        return fail(rep, rc, not_up_yet(rc), "cannot reach the MOUNT service at port %u: %s", port,
                    strerror(-rc));
    rc = client_call(client, EXPORT, (xdrproc_t)no_data, NULL, (xdrproc_t)get_exports, &list,
                     ANSWER_MS);
    client_close(client);
    if (rc) {
        nfs3_exports_free(list.first);
        return fail(rep, rc, not_up_yet(rc), "the MOUNT service at port %u: %s", port,
                    rc == -EPFNOSUPPORT ? "not offered there" : strerror(-rc));
    }
    *out = list.first;
    return 0;
}

int nfs3_exports(const struct nfs3_options *o, struct nfs3_export **out, char *errbuf,
                 size_t errlen)
{
    bool again;
    struct report rep = {o, &again, errbuf, errlen};
    struct addrinfo *list = NULL;
    int rc = resolve(&rep, &list);
    if (rc)
        return rc;
    rc = -EHOSTUNREACH;
    for (const struct addrinfo *ai = list; ai && rc; ai = ai->ai_next) {
        struct mountd_target t;
        uint16_t ports[3];
        take_address(&t, ai);
        int n = mount_ports(o, &t, o->port ? (uint16_t)o->port : NFS3_PORT, ports);
        for (int i = 0; i < n && rc; i++)
            rc = exports_of(&rep, &t, ports[i], out);
    }
    freeaddrinfo(list);
    return rc;
}
