// SPDX-License-Identifier: Apache-2.0
/* The machine alone: copying, waking another thread, TCP over the loopback device. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/bench/limit_cells.h"

#define MIB ((size_t)1 << 20)

/* Two buffers of 32 MiB: more than the caches of most machines. */
static int run_memcpy(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    size_t size = 32 * MIB, rounds = o->mib / 32 + 1;
    char *from = malloc(size), *to = malloc(size);

    if (!from || !to) {
        free(from);
        free(to);
        return -ENOMEM;
    }
    memset(from, 1, size);
    memset(to, 2, size);
    uint64_t start = bench_now();
    for (size_t i = 0; i < rounds; i++) {
        memcpy(to, from, size);
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    double us = bench_us_since(start);
    cell_sample(c, "mb_s", "MB/s", BETTER_MORE, (double)(size * rounds) / us);
    free(from);
    free(to);
    return 0;
}

/* ---- waking a thread --------------------------------------------------------------------------
 */

struct echo {
    int in, out;
    unsigned rounds;
};

static void *echo_thread(void *arg)
{
    struct echo *e = arg;
    uint64_t v;

    for (unsigned i = 0; i < e->rounds; i++)
        if (read(e->in, &v, sizeof v) != sizeof v || write(e->out, &v, sizeof v) != sizeof v)
            break;
    return NULL;
}

static int run_wakeup(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    struct echo e = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC), o->calls};
    struct histogram *h = calloc(1, sizeof *h);
    pthread_t thread;
    uint64_t v = 1;

    if (e.in < 0 || e.out < 0 || !h || pthread_create(&thread, NULL, echo_thread, &e)) {
        free(h);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < o->calls; i++) {
        uint64_t start = bench_now();
        if (write(e.in, &v, sizeof v) != sizeof v)
            break;
        while (read(e.out, &v, sizeof v) < 0 && errno == EINTR)
            ;
        histogram_add(h, bench_now() - start);
    }
    pthread_join(thread, NULL);
    cell_histogram(c, "round_trip", h);
    close(e.in);
    close(e.out);
    free(h);
    return 0;
}

/* ---- TCP ------------------------------------------------------------------------------------- */

/* Two connected ends over 127.0.0.1. */
static int tcp_pair(int ends[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    ends[0] = ends[1] = -1;
    if (listener >= 0 && bind(listener, (struct sockaddr *)&at, len) == 0 &&
        listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&at, &len) == 0) {
        ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(ends[0], (struct sockaddr *)&at, len) == 0)
            ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    }
    int saved = errno;
    if (listener >= 0)
        close(listener);
    if (ends[1] < 0) {
        if (ends[0] >= 0)
            close(ends[0]);
        return -saved;
    }
    for (int i = 0; i < 2; i++)
        setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return 0;
}

static void *drain_thread(void *arg)
{
    int fd = *(int *)arg;
    char *buffer = malloc(MIB);

    while (buffer && read(fd, buffer, MIB) > 0)
        ;
    free(buffer);
    return NULL;
}

static int run_stream(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    char *buffer = calloc(1, MIB);
    int ends[2], rc = buffer ? tcp_pair(ends) : -ENOMEM;
    pthread_t thread;

    if (rc < 0 || pthread_create(&thread, NULL, drain_thread, &ends[1])) {
        free(buffer);
        return rc < 0 ? cell_fail(c, "loopback TCP: %s", strerror(-rc)) : -ENOMEM;
    }
    uint64_t start = bench_now();
    for (size_t left = o->mib * MIB; left > 0;) {
        ssize_t n = write(ends[0], buffer, left < MIB ? left : MIB);
        if (n <= 0 && errno != EINTR)
            break;
        left -= n > 0 ? (size_t)n : 0;
    }
    shutdown(ends[0], SHUT_WR);
    pthread_join(thread, NULL);
    double us = bench_us_since(start);
    cell_sample(c, "mb_s", "MB/s", BETTER_MORE, (double)(o->mib * MIB) / us);
    close(ends[0]);
    close(ends[1]);
    free(buffer);
    return 0;
}

static int run_rtt(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    struct histogram *h = calloc(1, sizeof *h);
    int ends[2], rc = h ? tcp_pair(ends) : -ENOMEM;
    pthread_t thread;
    uint64_t v = 1;

    if (rc < 0) {
        free(h);
        return cell_fail(c, "loopback TCP: %s", strerror(-rc));
    }
    struct echo e = {ends[1], ends[1], o->calls};
    if (pthread_create(&thread, NULL, echo_thread, &e) == 0) {
        for (unsigned i = 0; i < o->calls; i++) {
            uint64_t start = bench_now();
            if (write(ends[0], &v, sizeof v) != sizeof v)
                break;
            while (read(ends[0], &v, sizeof v) < 0 && errno == EINTR)
                ;
            histogram_add(h, bench_now() - start);
        }
        shutdown(ends[0], SHUT_RDWR);
        pthread_join(thread, NULL);
        cell_histogram(c, "round_trip", h);
    }
    close(ends[0]);
    close(ends[1]);
    free(h);
    return 0;
}

void limits_add_machine(struct matrix *m, const struct limits_options *o)
{
    void *arg = (void *)o;

    cell_param(matrix_add(m, "limits", "machine", run_memcpy, arg), "work", "memcpy");
    cell_param(matrix_add(m, "limits", "machine", run_wakeup, arg), "work", "wakeup");
    cell_param(matrix_add(m, "limits", "tcp", run_stream, arg), "work", "stream");
    cell_param(matrix_add(m, "limits", "tcp", run_rtt, arg), "work", "rtt");
}
