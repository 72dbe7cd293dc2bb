// SPDX-License-Identifier: Apache-2.0
/*
 * The event loop of loop.h: epoll, a heap of timers, a stack of posted tasks.
 *
 * One turn: expired timers, posted tasks, hooks (again while one of them asked for it), sleep,
 * descriptors. A descriptor that is removed inside a turn is not called any more in that turn, even
 * if epoll had already reported it and its number was given out anew: each watch carries a
 * generation, which epoll hands back.
 *
 * Posting is lock-free: tasks are pushed on a stack with one exchange loop, the loop takes the
 * whole stack and reverses it. `asleep` and the stack are each written before the other is read
 * (sequentially consistent), so that either the poster sees the sleeper or the sleeper the task.
 *
 * Errors: only loop_new() and loop_add_fd() can fail, for lack of memory or descriptors.
 */
#include "daemon/loop.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define STACK_SIZE (8u << 20)
#define EVENTS_MAX 64
#define FAR_NS     20000000u

struct watch {
    loop_fd_fn *fn;
    void *arg;
    uint32_t generation;
};

struct loop {
    int epfd, wakefd;
    char name[16];
    pthread_t thread;
    bool started;
    _Atomic bool running, stop, asleep;
    _Atomic(struct loop_task *) posted;
    struct watch *watch; /* by descriptor */
    int nwatch;
    uint32_t generation;
    struct loop_timer **heap; /* [0] is the earliest */
    uint32_t nheap, heap_cap;
    struct loop_hook *hooks;
    bool kicked;
};

static _Thread_local struct loop *current;

static uint64_t clock_ns_of(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t now_ns(void)
{
    return clock_ns_of(CLOCK_MONOTONIC);
}

uint64_t now_coarse_ns(void)
{
    return clock_ns_of(CLOCK_MONOTONIC_COARSE);
}

struct loop *loop_current(void)
{
    return current;
}

/* ---- posted tasks ---- */

static void wake(struct loop *loop)
{
    uint64_t one = 1;
    while (write(loop->wakefd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

void loop_post(struct loop *loop, struct loop_task *task)
{
    struct loop_task *head = atomic_load_explicit(&loop->posted, memory_order_relaxed);
    do
        task->next = head;
    while (!atomic_compare_exchange_weak(&loop->posted, &head, task));
    if (atomic_load(&loop->asleep) && atomic_exchange(&loop->asleep, false))
        wake(loop);
}

static void run_posted(struct loop *loop)
{
    struct loop_task *task = atomic_exchange(&loop->posted, NULL), *fifo = NULL;
    while (task) {
        struct loop_task *next = task->next;
        task->next = fifo;
        fifo = task;
        task = next;
    }
    while (fifo) {
        struct loop_task *next = fifo->next; /* fn may free or post the task again */
        fifo->fn(fifo);
        fifo = next;
    }
}

struct sync_call {
    struct loop_task task;
    void (*fn)(void *arg);
    void *arg;
    sem_t done;
};

static void sync_call_run(struct loop_task *task)
{
    struct sync_call *c = (struct sync_call *)task;
    c->fn(c->arg);
    sem_post(&c->done);
}

void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    if (current == loop) {
        fn(arg);
        return;
    }
    if (!atomic_load(&loop->running)) {
        struct loop *outer = current;
        current = loop;
        run_posted(loop);
        fn(arg);
        current = outer;
        return;
    }
    struct sync_call c = {.task.fn = sync_call_run, .fn = fn, .arg = arg};
    sem_init(&c.done, 0, 0);
    loop_post(loop, &c.task);
    while (sem_wait(&c.done) < 0 && errno == EINTR)
        ;
    sem_destroy(&c.done);
}

/* ---- descriptors ---- */

static int watch_room(struct loop *loop, int fd)
{
    if (fd < loop->nwatch)
        return 0;
    int n = loop->nwatch ? loop->nwatch : 64;
    while (n <= fd)
        n *= 2;
    struct watch *w = realloc(loop->watch, (size_t)n * sizeof(*w));
    if (!w)
        return -ENOMEM;
    memset(w + loop->nwatch, 0, (size_t)(n - loop->nwatch) * sizeof(*w));
    loop->watch = w;
    loop->nwatch = n;
    return 0;
}

static uint64_t watch_key(const struct watch *w, int fd)
{
    return (uint64_t)w->generation << 32 | (uint32_t)fd;
}

int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *arg)
{
    int rc = watch_room(loop, fd);
    if (rc < 0)
        return rc;
    struct watch *w = &loop->watch[fd];
    w->generation = ++loop->generation;
    struct epoll_event ev = {.events = events, .data.u64 = watch_key(w, fd)};
    if (epoll_ctl(loop->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
        return -errno;
    w->fn = fn;
    w->arg = arg;
    return 0;
}

int loop_mod_fd(struct loop *loop, int fd, uint32_t events)
{
    if (fd < 0 || fd >= loop->nwatch || !loop->watch[fd].fn)
        return -ENOENT;
    struct epoll_event ev = {.events = events, .data.u64 = watch_key(&loop->watch[fd], fd)};
    return epoll_ctl(loop->epfd, EPOLL_CTL_MOD, fd, &ev) < 0 ? -errno : 0;
}

void loop_del_fd(struct loop *loop, int fd)
{
    if (fd < 0 || fd >= loop->nwatch || !loop->watch[fd].fn)
        return;
    epoll_ctl(loop->epfd, EPOLL_CTL_DEL, fd, NULL);
    loop->watch[fd] = (struct watch){0};
}

/* ---- timers: a binary heap; heap_at is the place in it plus one, so that zero is "not armed" ----
 */

static void heap_put(struct loop *loop, uint32_t i, struct loop_timer *t)
{
    loop->heap[i] = t;
    t->heap_at = i + 1;
}

static void heap_up(struct loop *loop, uint32_t i)
{
    struct loop_timer *t = loop->heap[i];
    while (i > 0 && loop->heap[(i - 1) / 2]->at > t->at) {
        heap_put(loop, i, loop->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_put(loop, i, t);
}

static void heap_down(struct loop *loop, uint32_t i)
{
    struct loop_timer *t = loop->heap[i];
    for (;;) {
        uint32_t c = 2 * i + 1;
        if (c >= loop->nheap)
            break;
        if (c + 1 < loop->nheap && loop->heap[c + 1]->at < loop->heap[c]->at)
            c++;
        if (loop->heap[c]->at >= t->at)
            break;
        heap_put(loop, i, loop->heap[c]);
        i = c;
    }
    heap_put(loop, i, t);
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t ns)
{
    uint64_t now = now_ns();
    uint64_t at = ns > UINT64_MAX - now ? UINT64_MAX : now + ns;
    if (timer->heap_at) {
        uint32_t i = timer->heap_at - 1;
        timer->at = at;
        heap_up(loop, i);
        heap_down(loop, timer->heap_at - 1);
        return;
    }
    if (loop->nheap == loop->heap_cap) {
        uint32_t cap = loop->heap_cap ? 2 * loop->heap_cap : 64;
        struct loop_timer **heap = realloc(loop->heap, cap * sizeof(*heap));
        if (!heap)
            abort(); /* a lost timer would be a lost request */
        loop->heap = heap;
        loop->heap_cap = cap;
    }
    timer->at = at;
    heap_put(loop, loop->nheap++, timer);
    heap_up(loop, loop->nheap - 1);
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
    if (!timer->heap_at)
        return;
    uint32_t i = timer->heap_at - 1;
    struct loop_timer *last = loop->heap[--loop->nheap];
    timer->heap_at = 0;
    timer->at = 0;
    if (last == timer)
        return;
    heap_put(loop, i, last);
    heap_up(loop, i);
    heap_down(loop, last->heap_at - 1);
}

/* What is not due for certain is known without asking the clock; it may then fire a tick late. */
static bool is_far(const struct loop_timer *t, uint64_t coarse)
{
    return t->at > coarse + FAR_NS;
}

static void run_timers(struct loop *loop)
{
    if (!loop->nheap || is_far(loop->heap[0], now_coarse_ns()))
        return;
    uint64_t now = now_ns();
    while (loop->nheap && loop->heap[0]->at <= now && !atomic_load(&loop->stop)) {
        struct loop_timer *t = loop->heap[0];
        loop_timer_cancel(loop, t);
        t->fn(t);
    }
}

/* ---- hooks ---- */

void loop_add_hook(struct loop *loop, struct loop_hook *hook)
{
    hook->next = loop->hooks;
    loop->hooks = hook;
}

void loop_del_hook(struct loop *loop, struct loop_hook *hook)
{
    for (struct loop_hook **p = &loop->hooks; *p; p = &(*p)->next) {
        if (*p == hook) {
            *p = hook->next;
            return;
        }
    }
}

void loop_kick(struct loop *loop)
{
    loop->kicked = true;
}

static void run_hooks(struct loop *loop)
{
    do {
        loop->kicked = false;
        for (struct loop_hook *h = loop->hooks; h; h = h->next)
            h->fn(h);
    } while (loop->kicked && !atomic_load(&loop->stop));
}

/* ---- the loop ---- */

static void wake_event(struct loop *loop, int fd, uint32_t events, void *arg)
{
    uint64_t n;
    while (read(fd, &n, sizeof(n)) < 0 && errno == EINTR)
        ;
}

struct loop *loop_new(const char *name)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return NULL;
    strncpy(loop->name, name, sizeof(loop->name) - 1);
    loop->epfd = epoll_create1(EPOLL_CLOEXEC);
    loop->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = loop->epfd < 0 || loop->wakefd < 0
                 ? -errno
                 : loop_add_fd(loop, loop->wakefd, EPOLLIN, wake_event, NULL);
    if (rc < 0) {
        loop_free(loop);
        errno = -rc;
        return NULL;
    }
    return loop;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    struct loop *outer = current;
    current = loop;
    while (atomic_load(&loop->posted))
        run_posted(loop);
    current = outer;
    if (loop->epfd >= 0)
        close(loop->epfd);
    if (loop->wakefd >= 0)
        close(loop->wakefd);
    free(loop->watch);
    free(loop->heap);
    free(loop);
}

static int sleep_for_events(struct loop *loop, struct epoll_event *ev)
{
    struct timespec ts = {0}, *timeout = &ts;
    atomic_store(&loop->asleep, true);
    if (!atomic_load(&loop->posted) && !atomic_load(&loop->stop)) {
        uint64_t now = now_coarse_ns();
        if (loop->nheap && !is_far(loop->heap[0], now))
            now = now_ns();
        if (!loop->nheap)
            timeout = NULL;
        else if (loop->heap[0]->at > now)
            ts = (struct timespec){.tv_sec = (time_t)((loop->heap[0]->at - now) / 1000000000u),
                                   .tv_nsec = (long)((loop->heap[0]->at - now) % 1000000000u)};
    }
    int n = epoll_pwait2(loop->epfd, ev, EVENTS_MAX, timeout, NULL);
    atomic_store(&loop->asleep, false);
    return n;
}

void loop_run(struct loop *loop)
{
    struct loop *outer = current;
    struct epoll_event ev[EVENTS_MAX];
    current = loop;
    atomic_store(&loop->running, true);
    while (!atomic_load(&loop->stop)) {
        run_timers(loop);
        run_posted(loop);
        if (atomic_load(&loop->stop))
            break;
        run_hooks(loop);
        int n = sleep_for_events(loop, ev);
        for (int i = 0; i < n && !atomic_load(&loop->stop); i++) {
            int fd = (int)(uint32_t)ev[i].data.u64;
            struct watch w = loop->watch[fd];
            if (w.fn && w.generation == (uint32_t)(ev[i].data.u64 >> 32))
                w.fn(loop, fd, ev[i].events, w.arg);
        }
    }
    atomic_store(&loop->running, false);
    atomic_store(&loop->stop, false);
    current = outer;
}

static void *loop_thread(void *arg)
{
    struct loop *loop = arg;
    pthread_setname_np(pthread_self(), loop->name);
    loop_run(loop);
    return NULL;
}

int loop_start(struct loop *loop)
{
    pthread_attr_t attr;
    sigset_t all, old;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    sigfillset(&all); /* signals belong to whoever holds the signalfd */
    pthread_sigmask(SIG_BLOCK, &all, &old);
    atomic_store(&loop->running, true); /* before the thread: a loop_call() now waits for it */
    int rc = pthread_create(&loop->thread, &attr, loop_thread, loop);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    loop->started = rc == 0;
    if (rc)
        atomic_store(&loop->running, false);
    return -rc;
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stop, true);
    wake(loop);
}

void loop_join(struct loop *loop)
{
    if (!loop->started)
        return;
    pthread_join(loop->thread, NULL);
    loop->started = false;
}
