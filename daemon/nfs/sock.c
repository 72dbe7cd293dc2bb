// SPDX-License-Identifier: Apache-2.0
/*
 * The client's TCP sockets.
 *
 * A connection that is lost is made again from the same port, because servers key their reply cache
 * by it. For that the old socket is closed by a reset, which leaves no TIME_WAIT behind.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <syslog.h>
#include <unistd.h>

#include "daemon/nfs/client.h"

/* Linux's client uses the same range (xprt_min_resvport, xprt_max_resvport). */
enum { RESV_MIN = 665, RESV_MAX = 1023 };

static int bind_port(int fd, int family, uint16_t port)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int rc = family == AF_INET6 ? bind(fd, (struct sockaddr *)&in6, sizeof(in6))
                                : bind(fd, (struct sockaddr *)&in4, sizeof(in4));
    return rc < 0 ? -errno : 0;
}

int sock_bind_reserved(int fd, int family)
{
    uint32_t start = 0;
    int rc = -EADDRINUSE, n = RESV_MAX - RESV_MIN + 1;
    if (getrandom(&start, sizeof(start), 0) < 0)
        start = (uint32_t)now_ns();
    for (int i = 0; i < n && rc == -EADDRINUSE; i++)
        rc = bind_port(fd, family, (uint16_t)(RESV_MIN + (start + (uint32_t)i) % (uint32_t)n));
    return rc;
}

static int bind_wanted(struct nfs3 *r, int fd, uint16_t port)
{
    int one = 1, family = r->addr.ss_family;
    if (port) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        return bind_port(fd, family, port);
    }
    if (r->resvport == NFS3_RESVPORT_NO)
        return 0;
    int rc = sock_bind_reserved(fd, family);
    return rc < 0 && r->resvport == NFS3_RESVPORT_TRY ? 0 : rc;
}

int sock_connect(struct nfs3 *r, uint16_t port)
{
    int one = 1, idle = 60, interval = 10, count = 6;
    int fd = socket(r->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* Buffer sizes are left to the kernel: its tuning reaches more than a fixed size that
     * net.core.wmem_max allows, and a fixed size switches it off. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    int rc = bind_wanted(r, fd, port);
    if (rc == 0 && connect(fd, (struct sockaddr *)&r->addr, r->addrlen) < 0 && errno != EINPROGRESS)
        rc = -errno;
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

static uint16_t port_of(const struct sockaddr_storage *a)
{
    return ntohs(a->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)a)->sin6_port
                                          : ((const struct sockaddr_in *)a)->sin_port);
}

int sock_connected(int fd, uint16_t *port)
{
    struct sockaddr_storage own, peer;
    socklen_t len = sizeof(int), ownlen = sizeof(own), peerlen = sizeof(peer);
    int error = 0;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        return -errno;
    if (error)
        return -error;
    memset(&own, 0, sizeof(own));
    memset(&peer, 0, sizeof(peer));
    if (getsockname(fd, (struct sockaddr *)&own, &ownlen) < 0 ||
        getpeername(fd, (struct sockaddr *)&peer, &peerlen) < 0)
        return -errno;
    /* On loopback with nobody listening, a socket can connect to itself. */
    if (ownlen == peerlen && memcmp(&own, &peer, ownlen) == 0)
        return -ECONNREFUSED;
    *port = port_of(&own);
    return 0;
}

void sock_abort(int fd)
{
    struct linger hard = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
}
