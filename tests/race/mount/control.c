// SPDX-License-Identifier: Apache-2.0
/* Both ends of the lab's calls over the control socket; see control.h. */
#include "tests/race/mount/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/control.h"
#include "tests/race/lab/point.h"
#include "tests/race/mount/lab_control.h"

/* The control thread is one for all calls: none may keep it for long. */
#define ARRIVED_MS 20

static const struct timeval CALL_TIMEOUT = {.tv_sec = 10};

/* ---- the daemon's end ---- */

static void name_call(struct svc_req *req, SVCXPRT *xprt)
{
    char *name = NULL;
    int rc = 0;

    if (!svc_getargs(xprt, (xdrproc_t)xdr_wrapstring, (caddr_t)&name)) {
        svcerr_decode(xprt);
        return;
    }
    if (req->rq_proc == LAB_HOLD)
        rc = lab_hold(name);
    else if (*name)
        lab_release(name);
    else
        lab_release_all();
    svc_sendreply(xprt, (xdrproc_t)xdr_int, (caddr_t)&rc);
    svc_freeargs(xprt, (xdrproc_t)xdr_wrapstring, (caddr_t)&name);
}

static void arrived_call(SVCXPRT *xprt)
{
    lab_arrived_args args = {0};

    if (!svc_getargs(xprt, (xdrproc_t)xdr_lab_arrived_args, (caddr_t)&args)) {
        svcerr_decode(xprt);
        return;
    }

    u_int n = lab_arrived(args.point, args.n, args.ms < ARRIVED_MS ? args.ms : ARRIVED_MS);

    svc_sendreply(xprt, (xdrproc_t)xdr_u_int, (caddr_t)&n);
    svc_freeargs(xprt, (xdrproc_t)xdr_lab_arrived_args, (caddr_t)&args);
}

static void dispatch(struct svc_req *req, SVCXPRT *xprt)
{
    switch (req->rq_proc) {
    case LAB_HOLD:
    case LAB_RELEASE:
        name_call(req, xprt);
        break;
    case LAB_ARRIVED:
        arrived_call(xprt);
        break;
    default:
        svcerr_noproc(xprt);
    }
}

bool lab_control_add(struct __rpc_svcxprt *listener)
{
    return svc_reg(listener, NFSCACHED_LAB_CONTROL, NFSCACHED_LAB_CONTROL_V1, dispatch, NULL);
}

/* ---- the caller's end ---- */

struct steer {
    int fd;
    CLIENT *rpc;
};

int steer_connect(dev_t dev, struct steer **out)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct netbuf peer = {.maxlen = sizeof addr, .len = sizeof addr, .buf = &addr};
    int rc = control_socket_path(dev, geteuid(), addr.sun_path);
    struct steer *s = calloc(1, sizeof *s);

    if (!s)
        return -ENOMEM;
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!rc && (s->fd < 0 || connect(s->fd, (struct sockaddr *)&addr, sizeof addr) < 0))
        rc = -errno;
    if (!rc) {
        s->rpc =
            clnt_vc_create(s->fd, &peer, NFSCACHED_LAB_CONTROL, NFSCACHED_LAB_CONTROL_V1, 0, 0);
        rc = s->rpc ? 0 : -ENOMEM;
    }
    if (rc) {
        steer_disconnect(s);
        return rc;
    }
    *out = s;
    return 0;
}

void steer_disconnect(struct steer *s)
{
    if (!s)
        return;
    if (s->rpc)
        clnt_destroy(s->rpc);
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}

static int call(struct steer *s, rpcproc_t proc, xdrproc_t xdr_in, void *in, xdrproc_t xdr_out,
                void *out)
{
    return clnt_call(s->rpc, proc, xdr_in, in, xdr_out, out, CALL_TIMEOUT) == RPC_SUCCESS
               ? 0
               : -ECONNRESET;
}

static int call_name(struct steer *s, rpcproc_t proc, const char *point)
{
    char *name = (char *)point;
    int answer = 0;
    int rc = call(s, proc, (xdrproc_t)xdr_wrapstring, &name, (xdrproc_t)xdr_int, &answer);

    return rc ? rc : answer;
}

int steer_hold(struct steer *s, const char *point)
{
    return call_name(s, LAB_HOLD, point);
}

int steer_release(struct steer *s, const char *point)
{
    return call_name(s, LAB_RELEASE, point);
}

int steer_arrived(struct steer *s, const char *point, unsigned n, unsigned ms)
{
    lab_arrived_args args = {.point = (char *)point, .n = n, .ms = ms};
    u_int have = 0;
    int rc =
        call(s, LAB_ARRIVED, (xdrproc_t)xdr_lab_arrived_args, &args, (xdrproc_t)xdr_u_int, &have);

    return rc ? rc : (int)have;
}
