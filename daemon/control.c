// SPDX-License-Identifier: Apache-2.0
/*
 * The control socket, the daemon's end: libtirpc's server loop in one thread, jobs in others.
 *
 * The thread polls libtirpc's descriptors and an eventfd that ends it. A request is decoded,
 * checked against the credentials of the peer's process, and answered before the next one is read.
 * START makes a job and a thread; the job's slot keeps the result until it is asked for, or until
 * the slot is needed again.
 *
 * Locks: `lock` guards the jobs; no callback is made with it held.
 */
#include "daemon/control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "daemon/control_proto.h"
#include "daemon/log.h"
#ifdef NFSCACHED_LAB
#include "tests/race/mount/control.h"
#endif

/* xdr_void takes no arguments, so that gcc wants to be told twice. */
#define XDR_NOTHING ((xdrproc_t)(void (*)(void))xdr_void)

/* At a time; a flush under a dead server keeps its slot until the server is back, and a result
 * until it was asked for, or for RESULT_KEPT_S, lest those who died use up the slots. */
#define JOBS          16
#define SLOTS         (JOBS + 1) /* the last for DISCARD alone, which is what ends those that are stuck */
#define RESULT_KEPT_S 60

struct job {
    struct control *control;
    uint32_t id; /* 0: the slot was never used */
    bool running;
    bool told;  /* the result, to whoever asked */
    time_t end; /* CLOCK_MONOTONIC */
    control_job kind;
    char *path;
    uint64_t ino;
    int error;
    uint64_t value;
    uint64_t size; /* of a resize */
    struct control_resize resized;
};

struct control {
    const struct control_ops *ops;
    void *ctx;
    uid_t owner;
    char path[CONTROL_SOCKET_PATH_MAX];
    ino_t path_ino; /* of the socket: a later mount may have put its own in the place */
    SVCXPRT *listener;
    int stop_fd;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t idle; /* `running` became 0 */
    unsigned running;
    uint32_t last_id;
    struct job jobs[SLOTS];
};

/* libtirpc's dispatch has no argument of ours, and its state is one for the process anyway. */
static struct control *the_control;

int control_socket_dir(uid_t owner, char path[CONTROL_SOCKET_PATH_MAX])
{
    const char *runtime = owner == geteuid() ? getenv("XDG_RUNTIME_DIR") : NULL;
    char own[64];
    struct stat st;
    int n;

    snprintf(own, sizeof own, "/run/user/%u", (unsigned)owner);
    if (owner == 0)
        n = snprintf(path, CONTROL_SOCKET_PATH_MAX, "/run/nfscached");
    else if (runtime && runtime[0] == '/')
        n = snprintf(path, CONTROL_SOCKET_PATH_MAX, "%s/nfscached", runtime);
    else if (stat(own, &st) == 0 && st.st_uid == owner)
        n = snprintf(path, CONTROL_SOCKET_PATH_MAX, "%s/nfscached", own);
    else
        n = snprintf(path, CONTROL_SOCKET_PATH_MAX, "/tmp/nfscached-%u", (unsigned)owner);
    return n < CONTROL_SOCKET_PATH_MAX ? 0 : -ENAMETOOLONG;
}

int control_socket_path(dev_t dev, uid_t owner, char path[CONTROL_SOCKET_PATH_MAX])
{
    char dir[CONTROL_SOCKET_PATH_MAX];
    int rc = control_socket_dir(owner, dir);

    if (rc < 0)
        return rc;
    int n = snprintf(path, CONTROL_SOCKET_PATH_MAX, "%s/%u:%u.sock", dir, major(dev), minor(dev));
    return n < CONTROL_SOCKET_PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* The directory must be ours: in /tmp anybody could have made it before. */
static int make_dir(const char *dir)
{
    struct stat st;

    if (mkdir(dir, geteuid() == 0 ? 0755 : 0700) < 0 && errno != EEXIST)
        return -errno;
    if (lstat(dir, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
        return -EPERM;
    return 0;
}

static int open_socket(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* A device number belongs to one live mount, and that is ours: what is there is dead. */
    unlink(path);
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 || chmod(path, 0600) < 0 ||
        listen(fd, 16) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static ino_t ino_of(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 ? st.st_ino : 0;
}

static void remove_socket(const struct control *c)
{
    if (c->path_ino && ino_of(c->path) == c->path_ino)
        unlink(c->path);
}

static bool peer_allowed(const struct control *c, int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == c->owner);
}

static time_t seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void *run_job(void *arg)
{
    struct job *job = arg;
    struct control *c = job->control;
    uint64_t value = 0;
    int error = -EINVAL;
    struct control_resize resized = {0};

    pthread_setname_np(pthread_self(), "control-job");
    switch (job->kind) {
    case CONTROL_JOB_RESIZE:
        error = c->ops->resize(c->ctx, job->size, &resized);
        break;
    case CONTROL_FLUSH:
        error = c->ops->flush(c->ctx, job->path, job->ino);
        break;
    case CONTROL_REVALIDATE:
        error = c->ops->revalidate(c->ctx, job->path, job->ino);
        break;
    case CONTROL_DROP:
        error = c->ops->drop_clean(c->ctx, &value);
        break;
    case CONTROL_DISCARD:
        error = c->ops->discard(c->ctx, job->ino, &value);
        break;
    }
    pthread_mutex_lock(&c->lock);
    free(job->path);
    job->path = NULL;
    job->error = error;
    job->value = value;
    job->resized = resized;
    job->running = false;
    job->end = seconds();
    if (--c->running == 0)
        pthread_cond_broadcast(&c->idle);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* A slot that nobody needs any more: one never used, else the oldest. NULL: there is none. */
static struct job *free_slot(struct control *c, control_job kind)
{
    struct job *slot = NULL;
    time_t now = seconds();

    for (struct job *j = c->jobs; j < c->jobs + (kind == CONTROL_DISCARD ? SLOTS : JOBS); j++) {
        bool free = !j->id || (!j->running && (j->told || now - j->end > RESULT_KEPT_S));
        if (free && (!slot || j->id < slot->id))
            slot = j;
    }
    return slot;
}

static control_start_result start_job(struct control *c, control_job kind, const char *path,
                                      uint64_t ino, uint64_t size)
{
    control_start_result r = {.error = 0};
    pthread_attr_t attr;
    pthread_t thread;

    while (*path == '/')
        path++;
    if ((kind == CONTROL_DISCARD && ino == 0) || (kind == CONTROL_JOB_RESIZE && size == 0))
        return (control_start_result){.error = -EINVAL};

    pthread_mutex_lock(&c->lock);
    struct job *job = free_slot(c, kind);
    if (!job) {
        pthread_mutex_unlock(&c->lock);
        return (control_start_result){.error = -EBUSY};
    }
    char *copy = strdup(path);
    *job = (struct job){.control = c, .kind = kind, .path = copy, .ino = ino, .size = size};
    job->id = r.id = ++c->last_id;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    r.error = copy ? -pthread_create(&thread, &attr, run_job, job) : -ENOMEM;
    pthread_attr_destroy(&attr);
    if (r.error == 0) {
        job->running = true;
        c->running++;
    } else {
        free(copy);
        job->path = NULL;
    }
    pthread_mutex_unlock(&c->lock);
    return r;
}

static control_poll_result poll_job(struct control *c, uint32_t id)
{
    control_poll_result r = {.error = -ESRCH};

    pthread_mutex_lock(&c->lock);
    for (struct job *j = c->jobs; j < c->jobs + SLOTS; j++) {
        if (id && j->id == id) {
            r.error = j->running ? -EINPROGRESS : j->error;
            r.value = j->value;
            j->told = !j->running;
        }
    }
    pthread_mutex_unlock(&c->lock);
    r.dirty_bytes = c->ops->dirty_bytes(c->ctx);
    return r;
}

static control_resize_result poll_resize(struct control *c, uint32_t id)
{
    control_resize_result r = {.error = -ESRCH};
    struct control_resize z = {0};

    pthread_mutex_lock(&c->lock);
    for (struct job *j = c->jobs; j < c->jobs + SLOTS; j++) {
        if (id && j->id == id && j->kind == CONTROL_JOB_RESIZE) {
            r.error = j->running ? -EINPROGRESS : j->error;
            z = j->resized;
            j->told = !j->running;
        }
    }
    pthread_mutex_unlock(&c->lock);
    if (r.error == -EINPROGRESS)
        c->ops->resize_state(c->ctx, &z);
    r.was = z.was;
    r.size = z.size;
    r.target = z.target;
    r.least = z.least;
    r.most = z.most;
    r.left = z.left;
    r.moved = z.moved;
    r.evicted = z.evicted;
    r.returned = z.returned;
    r.dirty_limit = z.dirty_limit;
    r.dirty_background = z.dirty_background;
    r.clamped = z.clamped;
    return r;
}

static void answer_text(SVCXPRT *xprt, struct control *c, int (*fn)(void *ctx, char **out))
{
    char *text = NULL;
    control_text r = {.error = fn(c->ctx, &text)};

    r.text = text ? text : (char *)"";
    if (!svc_sendreply(xprt, (xdrproc_t)xdr_control_text, (caddr_t)&r))
        svcerr_systemerr(xprt);
    free(text);
}

static void dispatch(struct svc_req *req, SVCXPRT *xprt)
{
    struct control *c = the_control;

    if (!peer_allowed(c, xprt->xp_fd)) {
        svcerr_auth(xprt, AUTH_TOOWEAK);
        return;
    }
    switch (req->rq_proc) {
    case NULLPROC:
        svc_sendreply(xprt, XDR_NOTHING, NULL);
        break;
    case CONTROL_STATUS:
        answer_text(xprt, c, c->ops->status_json);
        break;
    case CONTROL_DIRTY:
        answer_text(xprt, c, c->ops->dirty_files);
        break;
    case CONTROL_START: {
        control_start_args args = {0};
        if (!svc_getargs(xprt, (xdrproc_t)xdr_control_start_args, (caddr_t)&args)) {
            svcerr_decode(xprt);
            break;
        }
        control_start_result r = start_job(c, args.job, args.path, args.ino, 0);
        svc_sendreply(xprt, (xdrproc_t)xdr_control_start_result, (caddr_t)&r);
        svc_freeargs(xprt, (xdrproc_t)xdr_control_start_args, (caddr_t)&args);
        break;
    }
    case CONTROL_POLL: {
        u_int id = 0;
        if (!svc_getargs(xprt, (xdrproc_t)xdr_u_int, (caddr_t)&id)) {
            svcerr_decode(xprt);
            break;
        }
        control_poll_result r = poll_job(c, id);
        svc_sendreply(xprt, (xdrproc_t)xdr_control_poll_result, (caddr_t)&r);
        break;
    }
    case CONTROL_RESIZE: {
        u_quad_t size = 0;
        if (!svc_getargs(xprt, (xdrproc_t)xdr_u_quad_t, (caddr_t)&size)) {
            svcerr_decode(xprt);
            break;
        }
        control_start_result r = start_job(c, CONTROL_JOB_RESIZE, "", 0, size);
        svc_sendreply(xprt, (xdrproc_t)xdr_control_start_result, (caddr_t)&r);
        break;
    }
    case CONTROL_RESIZE_POLL: {
        u_int id = 0;
        if (!svc_getargs(xprt, (xdrproc_t)xdr_u_int, (caddr_t)&id)) {
            svcerr_decode(xprt);
            break;
        }
        control_resize_result r = poll_resize(c, id);
        svc_sendreply(xprt, (xdrproc_t)xdr_control_resize_result, (caddr_t)&r);
        break;
    }
    case CONTROL_RESIZE_STOP: {
        int error = 0;
        c->ops->resize_stop(c->ctx);
        svc_sendreply(xprt, (xdrproc_t)xdr_int, (caddr_t)&error);
        break;
    }
    default:
        svcerr_noproc(xprt);
    }
}

/* svc_run() with a way out: svc_exit() is seen only after the next request. */
static void *run_server(void *arg)
{
    struct control *c = arg;
    struct pollfd *fds = NULL;

    pthread_setname_np(pthread_self(), "control");
    for (;;) {
        int n = svc_max_pollfd;
        struct pollfd *more = realloc(fds, ((size_t)n + 1) * sizeof *fds);
        if (!more)
            break;
        fds = more;
        memcpy(fds, svc_pollfd, (size_t)n * sizeof *fds);
        fds[n] = (struct pollfd){.fd = c->stop_fd, .events = POLLIN};
        int ready = poll(fds, (nfds_t)n + 1, -1);
        if (ready < 0 && errno != EINTR)
            break;
        if (fds[n].revents)
            break;
        if (ready > 0)
            svc_getreq_poll(fds, ready);
    }
    free(fds);
    return NULL;
}

int control_start(dev_t dev, uid_t owner, const struct control_ops *ops, void *ctx,
                  struct control **out)
{
    char dir[CONTROL_SOCKET_PATH_MAX];
    int fd = -1;

    struct control *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    *c = (struct control){.ops = ops, .ctx = ctx, .owner = owner, .stop_fd = -1};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->idle, NULL);

    int rc = control_socket_dir(geteuid(), dir);
    if (rc == 0)
        rc = make_dir(dir);
    if (rc == 0)
        rc = control_socket_path(dev, geteuid(), c->path);
    if (rc == 0 && (fd = open_socket(c->path)) < 0)
        rc = fd;
    if (rc < 0)
        goto fail;
    c->path_ino = ino_of(c->path);
    c->stop_fd = eventfd(0, EFD_CLOEXEC);
    c->listener = svc_vc_create(fd, 0, 0);
    if (c->stop_fd < 0 || !c->listener) {
        rc = -ENOMEM;
        goto fail;
    }
    fd = -1; /* the listener's from here on */
    the_control = c;
    if (!svc_reg(c->listener, NFSCACHED_CONTROL, NFSCACHED_CONTROL_V1, dispatch, NULL)) {
        rc = -ENOMEM;
        goto fail;
    }
#ifdef NFSCACHED_LAB
    if (!lab_control_add(c->listener)) {
        rc = -ENOMEM;
        goto fail;
    }
#endif
    rc = -pthread_create(&c->thread, NULL, run_server, c);
    if (rc < 0)
        goto fail;
    *out = c;
    return 0;

fail:
    if (c->listener) {
        svc_unreg(NFSCACHED_CONTROL, NFSCACHED_CONTROL_V1);
        svc_destroy(c->listener);
    }
    if (fd >= 0)
        close(fd);
    if (c->stop_fd >= 0)
        close(c->stop_fd);
    remove_socket(c);
    the_control = NULL;
    free(c);
    return rc;
}

void control_stop(struct control *c)
{
    if (!c)
        return;
    remove_socket(c);
    if (eventfd_write(c->stop_fd, 1) < 0)
        log_msg(LOG_ERR, "cannot stop the control thread: %s", strerror(errno));
    pthread_join(c->thread, NULL);

    pthread_mutex_lock(&c->lock);
    while (c->running)
        pthread_cond_wait(&c->idle, &c->lock);
    pthread_mutex_unlock(&c->lock);

    svc_unreg(NFSCACHED_CONTROL, NFSCACHED_CONTROL_V1);
    svc_destroy(c->listener);
    close(c->stop_fd);
    the_control = NULL;
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->idle);
    free(c);
}
