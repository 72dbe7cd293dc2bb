// SPDX-License-Identifier: Apache-2.0
/*
 * Threads: a pool of equal ones on one epoll descriptor, a queue of calls, a list of delayed calls.
 *
 * The thread that got a connection's event reads it, arms it again (conn.c), queues all calls but
 * the first, and executes that itself: a lone request is read, executed and answered by one thread,
 * with no wake-up in between; of many, all threads take their part, and a slow one holds up nobody.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "daemon/serve/internal.h"

/* Values of epoll_data that are no connection: their slot is SERVE_MAX_CONNS or above. */
enum { TAG_LISTEN = SERVE_MAX_CONNS, TAG_WAKE, TAG_TIMER, TAG_STOP };

uint64_t serve_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void accept_some(struct server *srv)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    int fd;

    while (memset(&peer, 0, sizeof(peer)), len = sizeof(peer),
           (fd = accept4(srv->listen_fd, (struct sockaddr *)&peer, &len,
                         SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        pthread_mutex_lock(&srv->lock);
        bool down = serve_now_ms() < srv->down_until_ms;
        pthread_mutex_unlock(&srv->lock);
        if (down) {
            struct linger reset = {.l_onoff = 1};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            close(fd);
        } else {
            serve_conn_new(srv, fd, &peer);
        }
    }
}

void serve_net_disconnect_all(struct server *srv)
{
    pthread_mutex_lock(&srv->lock);
    uint32_t last = srv->generation;
    pthread_mutex_unlock(&srv->lock);
    for (unsigned i = 0; i < SERVE_MAX_CONNS; i++) {
        pthread_mutex_lock(&srv->lock);
        struct conn *conn = srv->conns[i];
        /* Not those that came meanwhile: a client that is quick to connect again may stay. */
        if (conn && (int32_t)(conn->generation - last) <= 0)
            serve_conn_ref(conn);
        else
            conn = NULL;
        pthread_mutex_unlock(&srv->lock);
        if (conn) {
            serve_conn_kill(conn);
            serve_conn_put(conn);
        }
    }
}

/* ---- the queue ---- */

static void wake_one(struct server *srv)
{
    uint64_t one = 1;

    if (write(srv->wake_fd, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN);
}

static void queue_push(struct server *srv, struct call_list *calls)
{
    pthread_mutex_lock(&srv->lock);
    STAILQ_CONCAT(&srv->queue, calls);
    bool wake = srv->idle_threads > 0;
    pthread_mutex_unlock(&srv->lock);
    if (wake)
        wake_one(srv);
}

static struct call *queue_pop(struct server *srv)
{
    struct call *call = NULL;
    bool wake = false;

    if (atomic_load(&srv->paused))
        return NULL;
    pthread_mutex_lock(&srv->lock);
    if (!STAILQ_EMPTY(&srv->queue)) {
        call = STAILQ_FIRST(&srv->queue);
        STAILQ_REMOVE_HEAD(&srv->queue, link);
        /* Each thread that found work wakes the next: a burst takes as many as it needs. */
        wake = !STAILQ_EMPTY(&srv->queue) && srv->idle_threads > 0;
    }
    pthread_mutex_unlock(&srv->lock);
    if (wake)
        wake_one(srv);
    return call;
}

/* Set the timer to the first delayed call. server.lock held. */
static void timer_arm(struct server *srv)
{
    struct itimerspec when = {0};
    struct call *first = STAILQ_FIRST(&srv->delayed);

    if (first) {
        when.it_value.tv_sec = (time_t)(first->due_ms / 1000);
        when.it_value.tv_nsec = (long)(first->due_ms % 1000) * 1000000;
    }
    timerfd_settime(srv->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void serve_net_delay(struct server *srv, struct call *call, uint64_t ms)
{
    struct call *at, *after = NULL;

    call->due_ms = serve_now_ms() + ms;
    pthread_mutex_lock(&srv->lock);
    STAILQ_FOREACH(at, &srv->delayed, link)
    {
        if (at->due_ms > call->due_ms)
            break;
        after = at;
    }
    if (after) {
        STAILQ_INSERT_AFTER(&srv->delayed, after, call, link);
    } else {
        STAILQ_INSERT_HEAD(&srv->delayed, call, link);
        timer_arm(srv);
    }
    pthread_mutex_unlock(&srv->lock);
}

static void timer_fired(struct server *srv)
{
    struct call_list due = STAILQ_HEAD_INITIALIZER(due);
    uint64_t now = serve_now_ms();

    pthread_mutex_lock(&srv->lock);
    while (!STAILQ_EMPTY(&srv->delayed) && STAILQ_FIRST(&srv->delayed)->due_ms <= now) {
        struct call *call = STAILQ_FIRST(&srv->delayed);
        STAILQ_REMOVE_HEAD(&srv->delayed, link);
        STAILQ_INSERT_TAIL(&due, call, link);
    }
    timer_arm(srv);
    pthread_mutex_unlock(&srv->lock);
    if (!STAILQ_EMPTY(&due))
        queue_push(srv, &due);
}

void serve_net_resume(struct server *srv)
{
    for (unsigned i = 0; i < SERVE_MAX_CONNS; i++) {
        pthread_mutex_lock(&srv->lock);
        struct conn *conn = srv->conns[i];
        if (conn)
            serve_conn_ref(conn);
        pthread_mutex_unlock(&srv->lock);
        if (!conn)
            continue;
        serve_conn_rearm(conn);
        serve_conn_put(conn);
    }
    wake_one(srv);
}

/* An event of a connection: the first call that came of it is ours, the others are everybody's. */
static void run_event(struct server *srv, uint64_t tag, uint32_t events)
{
    struct call_list calls = STAILQ_HEAD_INITIALIZER(calls);

    serve_conn_event(srv, tag, events, &calls);
    struct call *first = STAILQ_FIRST(&calls);
    if (!first)
        return;
    if (!atomic_load(&srv->paused))
        STAILQ_REMOVE_HEAD(&calls, link);
    else
        first = NULL;
    if (!STAILQ_EMPTY(&calls))
        queue_push(srv, &calls);
    if (first)
        serve_rpc_run(first);
}

static void *thread_main(void *arg)
{
    struct server *srv = arg;

    serve_cred_thread_init();
    while (!atomic_load(&srv->stopping)) {
        struct epoll_event ev;
        struct call *call = queue_pop(srv);

        if (call) {
            serve_rpc_run(call);
            continue;
        }
        pthread_mutex_lock(&srv->lock);
        bool more = !STAILQ_EMPTY(&srv->queue) && !atomic_load(&srv->paused);
        if (!more)
            srv->idle_threads++;
        pthread_mutex_unlock(&srv->lock);
        if (more)
            continue;
        int n = epoll_wait(srv->epfd, &ev, 1, -1);
        pthread_mutex_lock(&srv->lock);
        srv->idle_threads--;
        pthread_mutex_unlock(&srv->lock);
        if (n <= 0)
            continue;
        switch ((uint32_t)ev.data.u64) {
        case TAG_LISTEN:
            accept_some(srv);
            break;
        case TAG_TIMER:
            timer_fired(srv);
            break;
        case TAG_WAKE:
        case TAG_STOP:
            break;
        default:
            run_event(srv, ev.data.u64, ev.events);
        }
    }
    return NULL;
}

static int listen_on(struct server *srv, char *err, size_t errlen)
{
    const char *host = srv->opt.bind ? srv->opt.bind : "127.0.0.1";
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *addr;
    struct sockaddr_storage got;
    socklen_t len = sizeof(got);
    char port[16];
    int one = 1, rc;

    snprintf(port, sizeof(port), "%u", srv->opt.port);
    rc = getaddrinfo(host, port, &hints, &addr);
    if (rc != 0) {
        snprintf(err, errlen, "address '%s': %s: want a numeric IPv4 or IPv6 address", host,
                 gai_strerror(rc));
        return -EINVAL;
    }
    srv->listen_fd = socket(addr->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (srv->listen_fd >= 0)
        setsockopt(srv->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (srv->listen_fd < 0 || bind(srv->listen_fd, addr->ai_addr, addr->ai_addrlen) != 0 ||
        listen(srv->listen_fd, 128) != 0 ||
        getsockname(srv->listen_fd, (struct sockaddr *)&got, &len) != 0) {
        rc = -errno;
        snprintf(err, errlen, "cannot listen on %s port %s: %s", host, port, strerror(-rc));
        freeaddrinfo(addr);
        return rc;
    }
    freeaddrinfo(addr);
    srv->port = ntohs(got.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&got)->sin6_port
                                                : ((struct sockaddr_in *)&got)->sin_port);
    return 0;
}

static int watch(struct server *srv, int fd, uint32_t events, uint32_t tag)
{
    struct epoll_event ev = {.events = events, .data.u64 = tag};

    return epoll_ctl(srv->epfd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : -errno;
}

int serve_net_start(struct server *srv, char *err, size_t errlen)
{
    int rc = listen_on(srv, err, errlen);

    if (rc != 0)
        return rc;
    srv->epfd = epoll_create1(EPOLL_CLOEXEC);
    srv->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    srv->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    srv->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (srv->epfd < 0 || srv->wake_fd < 0 || srv->stop_fd < 0 || srv->timer_fd < 0 ||
        watch(srv, srv->listen_fd, EPOLLIN, TAG_LISTEN) != 0 ||
        watch(srv, srv->wake_fd, EPOLLIN | EPOLLET, TAG_WAKE) != 0 ||
        watch(srv, srv->timer_fd, EPOLLIN | EPOLLET, TAG_TIMER) != 0 ||
        watch(srv, srv->stop_fd, EPOLLIN, TAG_STOP) != 0) {
        rc = -errno;
        snprintf(err, errlen, "event loop: %s", strerror(-rc));
        return rc;
    }
    srv->threads = calloc(srv->opt.threads, sizeof(*srv->threads));
    if (!srv->threads)
        return -ENOMEM;
    for (; srv->nthreads < srv->opt.threads; srv->nthreads++) {
        rc = pthread_create(&srv->threads[srv->nthreads], NULL, thread_main, srv);
        if (rc != 0) {
            snprintf(err, errlen, "threads: %s", strerror(rc));
            return -rc;
        }
    }
    return 0;
}

void serve_net_stop(struct server *srv)
{
    uint64_t one = 1;
    struct call *call;

    atomic_store(&srv->stopping, true);
    if (srv->stop_fd >= 0 && write(srv->stop_fd, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN);
    for (unsigned i = 0; i < srv->nthreads; i++)
        pthread_join(srv->threads[i], NULL);
    free(srv->threads);
    while ((call = STAILQ_FIRST(&srv->queue))) {
        STAILQ_REMOVE_HEAD(&srv->queue, link);
        serve_call_free(call);
    }
    while ((call = STAILQ_FIRST(&srv->delayed))) {
        STAILQ_REMOVE_HEAD(&srv->delayed, link);
        serve_call_free(call);
    }
    serve_net_disconnect_all(srv);
    int fds[] = {srv->listen_fd, srv->epfd, srv->wake_fd, srv->stop_fd, srv->timer_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}
