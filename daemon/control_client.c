// SPDX-License-Identifier: Apache-2.0
/*
 * Calls over the control socket, through libtirpc. The calls are answered at once by the daemon
 * (what takes long is a job), so CALL_TIMEOUT only catches a daemon that is stopped.
 */
#include "daemon/control_client.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "daemon/control.h"
#include "daemon/control_proto.h"

/* xdr_void takes no arguments, so that gcc wants to be told twice. */
#define XDR_NOTHING ((xdrproc_t)(void (*)(void))xdr_void)

static const struct timeval CALL_TIMEOUT = {.tv_sec = 60};
#define SOCKET_WAIT_MS 5000

struct control_client {
    int fd;
    CLIENT *rpc;
};

_Static_assert((int)JOB_FLUSH == (int)CONTROL_FLUSH &&
                   (int)JOB_REVALIDATE == (int)CONTROL_REVALIDATE &&
                   (int)JOB_DROP == (int)CONTROL_DROP && (int)JOB_DISCARD == (int)CONTROL_DISCARD,
               "the jobs have the numbers of the protocol");

/* The socket has the device number of the mount in its name, so a mount is there for a moment
 * before its socket is. A daemon that died leaves its socket behind, which refuses. */
static int connect_waiting(int fd, const struct sockaddr_un *addr)
{
    const struct timespec pause = {.tv_nsec = 10000000};

    for (int i = 0; connect(fd, (const struct sockaddr *)addr, sizeof *addr) < 0; i++) {
        if (errno != ENOENT || i == SOCKET_WAIT_MS / 10)
            return -errno;
        nanosleep(&pause, NULL);
    }
    return 0;
}

int control_connect(dev_t dev, uid_t owner, struct control_client **out)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct netbuf peer = {.maxlen = sizeof addr, .len = sizeof addr, .buf = &addr};

    int rc = control_socket_path(dev, owner, addr.sun_path);
    if (rc < 0)
        return rc;
    signal(SIGPIPE, SIG_IGN); /* a daemon that ends is an answer, not the end of us */
    struct control_client *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    rc = c->fd < 0 ? -errno : connect_waiting(c->fd, &addr);
    if (rc == 0) {
        c->rpc = clnt_vc_create(c->fd, &peer, NFSCACHED_CONTROL, NFSCACHED_CONTROL_V1, 0, 0);
        if (!c->rpc)
            rc = -ENOMEM;
    }
    if (rc < 0) {
        control_disconnect(c);
        return rc;
    }
    *out = c;
    return 0;
}

void control_disconnect(struct control_client *c)
{
    if (!c)
        return;
    if (c->rpc)
        clnt_destroy(c->rpc);
    if (c->fd >= 0)
        close(c->fd);
    free(c);
}

pid_t control_peer(const struct control_client *c)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    return getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

static int call(struct control_client *c, rpcproc_t proc, xdrproc_t xdr_in, void *in,
                xdrproc_t xdr_out, void *out)
{
    enum clnt_stat stat = clnt_call(c->rpc, proc, xdr_in, in, xdr_out, out, CALL_TIMEOUT);

    switch (stat) {
    case RPC_SUCCESS:
        return 0;
    case RPC_AUTHERROR:
        return -EACCES;
    case RPC_TIMEDOUT:
        return -ETIMEDOUT;
    case RPC_PROGUNAVAIL:
    case RPC_PROGVERSMISMATCH:
    case RPC_PROCUNAVAIL:
        return -EPROTONOSUPPORT;
    default:
        return -ECONNRESET;
    }
}

static int call_text(struct control_client *c, rpcproc_t proc, char **json)
{
    control_text r = {0};

    *json = NULL;
    int rc = call(c, proc, XDR_NOTHING, NULL, (xdrproc_t)xdr_control_text, &r);
    if (rc < 0)
        return rc;
    rc = r.error;
    if (rc == 0)
        *json = strdup(r.text);
    clnt_freeres(c->rpc, (xdrproc_t)xdr_control_text, (caddr_t)&r);
    return rc ? rc : *json ? 0 : -ENOMEM;
}

int control_status(struct control_client *c, char **json)
{
    return call_text(c, CONTROL_STATUS, json);
}

int control_dirty(struct control_client *c, char **json)
{
    return call_text(c, CONTROL_DIRTY, json);
}

int control_job_start(struct control_client *c, enum control_client_job job, const char *path,
                      uint64_t ino, uint32_t *id)
{
    control_start_args args = {.job = (control_job)job, .path = (char *)path, .ino = ino};
    control_start_result r = {0};

    if (strlen(path) > CONTROL_PATH_MAX)
        return -ENAMETOOLONG;
    int rc = call(c, CONTROL_START, (xdrproc_t)xdr_control_start_args, &args,
                  (xdrproc_t)xdr_control_start_result, &r);
    *id = r.id;
    return rc ? rc : r.error;
}

int control_job_poll(struct control_client *c, uint32_t id, struct control_progress *progress)
{
    control_poll_result r = {0};
    u_int number = id;

    int rc = call(c, CONTROL_POLL, (xdrproc_t)xdr_u_int, &number,
                  (xdrproc_t)xdr_control_poll_result, &r);
    progress->dirty_bytes = r.dirty_bytes;
    progress->value = r.value;
    return rc ? rc : r.error;
}

int control_job_wait(struct control_client *c, uint32_t id, struct control_progress *progress)
{
    struct timespec pause = {.tv_nsec = 500000};
    int rc;

    while ((rc = control_job_poll(c, id, progress)) == -EINPROGRESS) {
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 50000000)
            pause.tv_nsec *= 2;
    }
    return rc;
}

int control_resize_start(struct control_client *c, uint64_t size, uint32_t *id)
{
    control_start_result r = {0};
    u_quad_t bytes = size;

    int rc = call(c, CONTROL_RESIZE, (xdrproc_t)xdr_u_quad_t, &bytes,
                  (xdrproc_t)xdr_control_start_result, &r);
    *id = r.id;
    return rc ? rc : r.error;
}

int control_resize_poll(struct control_client *c, uint32_t id, struct control_resize *out)
{
    control_resize_result r = {0};
    u_int number = id;

    int rc = call(c, CONTROL_RESIZE_POLL, (xdrproc_t)xdr_u_int, &number,
                  (xdrproc_t)xdr_control_resize_result, &r);
    *out = (struct control_resize){
        .was = r.was,
        .size = r.size,
        .target = r.target,
        .least = r.least,
        .most = r.most,
        .left = r.left,
        .moved = r.moved,
        .evicted = r.evicted,
        .returned = r.returned,
        .dirty_limit = r.dirty_limit,
        .dirty_background = r.dirty_background,
        .clamped = r.clamped,
    };
    return rc ? rc : r.error;
}

int control_resize_stop(struct control_client *c)
{
    int error = 0;

    int rc = call(c, CONTROL_RESIZE_STOP, XDR_NOTHING, NULL, (xdrproc_t)xdr_int, &error);
    return rc ? rc : error;
}
