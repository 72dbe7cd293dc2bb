// SPDX-License-Identifier: Apache-2.0
/*
 * Fibers instead of threads; see sim.h.
 *
 * The linker sends every pthread_mutex_lock(), ... of the program here (--wrap). Mutexes stay the C
 * library's own: a fiber that finds one taken waits until it is given back. A condition wait gives
 * the mutex back and waits for a signal; a timed one may also be ended by the clock, which moves
 * only when nobody else can run, or, seldom, by draw.
 */
#include "tests/lib/sim.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#endif
#ifdef SIM_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#define FIBERS 96
#define STACK  (512u << 10)
#define STUCK  2000 /* timeouts in a row with nothing else to run */

int __real_pthread_mutex_lock(pthread_mutex_t *m);
int __real_pthread_mutex_unlock(pthread_mutex_t *m);
int __real_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __real_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t);
int __real_pthread_cond_signal(pthread_cond_t *c);
int __real_pthread_cond_broadcast(pthread_cond_t *c);
int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg);
int __real_pthread_join(pthread_t t, void **result);
int __real_sched_yield(void);
int __real_clock_gettime(clockid_t id, struct timespec *t);

int __wrap_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t);
int __wrap_pthread_cond_signal(pthread_cond_t *c);
int __wrap_pthread_cond_broadcast(pthread_cond_t *c);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg);
int __wrap_pthread_join(pthread_t t, void **result);
int __wrap_sched_yield(void);
int __wrap_clock_gettime(clockid_t id, struct timespec *t);

enum state { FREE, READY, ON_MUTEX, ON_COND, ON_TIMED, ON_JOIN, PAUSED, DONE };

struct fiber {
    ucontext_t uc;
    jmp_buf at; /* where it left */
    bool started;
    void *stack;
    enum state state;
    const void *on;
    uint64_t deadline;
    const char *name;
    void *(*fn)(void *);
    void *arg;
    void *asan;
    uint64_t hash; /* of its past */
};

static struct {
    bool active;
    unsigned preempt;
    struct fiber fiber[FIBERS];
    unsigned top; /* fibers in use are below */
    struct fiber *current;
    ucontext_t main;
    jmp_buf main_at;
    void *main_asan;
    const void *main_bottom;
    size_t main_size;
    uint64_t clock, steps;
    struct sim_policy policy;
    unsigned last; /* who ran last */
    bool yielded;
    void (*check)(void *), (*report)(void *);
    void *check_arg, *report_arg;
} sim;

/* ---- random ---- */

static uint64_t sim_state;
static __thread uint64_t thread_state;

static uint64_t *state(void)
{
    if (sim.active)
        return &sim_state;
    if (!thread_state)
        thread_state = (uintptr_t)&thread_state * 0x9e3779b97f4a7c15ull | 1;
    return &thread_state;
}

void sim_random_seed(uint64_t seed)
{
    uint64_t z = seed + 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    *state() = (z ^ z >> 31) | 1;
}

uint64_t sim_random(void)
{
    uint64_t *s = state(), x = *s;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *s = x;
    return x * 0x2545f4914f6cdd1dull;
}

/* ---- switching ---- */

#ifdef SIM_ASAN
static void enter_fiber(struct fiber *f)
{
    sim.current = f;
    __sanitizer_start_switch_fiber(&sim.main_asan, f->stack, STACK);
    swapcontext(&sim.main, &f->uc);
    __sanitizer_finish_switch_fiber(sim.main_asan, NULL, NULL);
    sim.current = NULL;
}

static void leave_fiber(bool for_good)
{
    struct fiber *f = sim.current;

    __sanitizer_start_switch_fiber(for_good ? NULL : &f->asan, sim.main_bottom, sim.main_size);
    swapcontext(&f->uc, &sim.main);
    __sanitizer_finish_switch_fiber(f->asan, &sim.main_bottom, &sim.main_size);
}
#else
/* swapcontext() makes two system calls for the signal mask; only the first entry needs it. */
static void enter_fiber(struct fiber *f)
{
    sim.current = f;
    if (_setjmp(sim.main_at) == 0) {
        if (f->started)
            _longjmp(f->at, 1);
        f->started = true;
        setcontext(&f->uc);
    }
    sim.current = NULL;
}

static void leave_fiber(bool for_good)
{
    (void)for_good;
    if (_setjmp(sim.current->at) == 0)
        _longjmp(sim.main_at, 1);
}
#endif

static void fiber_main(void)
{
    struct fiber *f = sim.current;

#ifdef SIM_ASAN
    __sanitizer_finish_switch_fiber(NULL, &sim.main_bottom, &sim.main_size);
#endif
    f->fn(f->arg);
    f = sim.current;
    f->state = DONE;
    for (unsigned i = 0; i < sim.top; i++)
        if (sim.fiber[i].state == ON_JOIN && sim.fiber[i].on == f)
            sim.fiber[i].state = READY;
    leave_fiber(true);
    abort();
}

static void wait_in(enum state s, const void *on)
{
    sim.current->state = s;
    sim.current->on = on;
    leave_fiber(false);
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    a = (a * 0x9e3779b97f4a7c15ull ^ b) * 0xd6e8feb86659fd93ull;
    a = (a ^ a >> 29) * 0xbf58476d1ce4e5b9ull;
    return a ^ a >> 32;
}

static unsigned id_of(const struct fiber *f)
{
    return (unsigned)(f - sim.fiber) + 1;
}

static void preempt(void)
{
    if (!sim.current)
        return;
    sim.current->hash = mix(sim.current->hash, 1); /* how far it has come */
    if (sim.policy.preempt ? sim.policy.preempt(sim.policy.arg, id_of(sim.current))
                           : sim.preempt && sim_chance(sim.preempt))
        leave_fiber(false);
}

/* ---- the hash of what happened ---- */

#define OBJECTS 4096

static struct object {
    const void *at;
    uint32_t run; /* of which it is */
    uint64_t hash;
} objects[OBJECTS];
static uint32_t run_number;

static uint64_t *object_hash(const void *at)
{
    size_t i = (size_t)(mix((uintptr_t)at, 1) % OBJECTS);

    while (objects[i].run == run_number && objects[i].at != at)
        i = (i + 1) % OBJECTS;
    if (objects[i].run != run_number)
        objects[i] = (struct object){at, run_number, 0};
    return &objects[i].hash;
}

/* The running fiber and the object have seen each other. */
static void touch(const void *at)
{
    if (!sim.current || !sim.policy.pick)
        return;

    uint64_t *h = object_hash(at);

    sim.current->hash = *h = mix(sim.current->hash, *h);
}

uint64_t sim_hash(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < sim.top; i++)
        if (sim.fiber[i].state != FREE)
            sum += mix(sim.fiber[i].hash, i);
    return sum;
}

void sim_atomic(const void *object)
{
    if (!sim.active)
        return;
    if (sim.policy.fine)
        preempt();
    touch(object);
}

void sim_edge(void)
{
    if (sim.active && (sim.policy.fine || !sim.policy.preempt))
        preempt();
}

static void wake(enum state s, const void *on, bool all)
{
    struct fiber *found[FIBERS];
    unsigned n = 0;

    for (unsigned i = 0; i < sim.top; i++) {
        struct fiber *f = &sim.fiber[i];

        if (f->on == on && (f->state == s || (s == ON_COND && f->state == ON_TIMED)))
            found[n++] = f;
    }
    if (n && !all) {
        found[sim.policy.pick ? 0 : sim_below(n)]->state = READY;
        return;
    }
    for (unsigned i = 0; i < n; i++)
        found[i]->state = READY;
}

static struct fiber *pick(struct fiber *const *ready, unsigned n)
{
    unsigned ids[FIBERS], i;

    if (!sim.policy.pick)
        return ready[sim_below(n)];
    for (i = 0; i < n; i++)
        ids[i] = id_of(ready[i]);
    i = sim.policy.pick(sim.policy.arg, ids, n, sim.last, sim.yielded);
    sim.last = ids[i];
    sim.yielded = false;
    return ready[i];
}

/* One stretch of one fiber. False: nobody can run without a timeout. */
static bool step(bool timeouts)
{
    struct fiber *ready[FIBERS], *timed = NULL;
    unsigned n = 0;

    for (unsigned i = 0; i < sim.top; i++) {
        struct fiber *f = &sim.fiber[i];

        if (f->state == READY)
            ready[n++] = f;
        else if (f->state == ON_TIMED && (!timed || f->deadline < timed->deadline))
            timed = f;
    }
    sim.steps++;
    sim.clock += 100;
    if (timed && (timed->deadline <= sim.clock ||
                  (timeouts && (!n || (!sim.policy.pick && sim_below(200) == 0))))) {
        if (timed->deadline > sim.clock)
            sim.clock = timed->deadline;
        timed->state = READY;
        if (!n) {
            enter_fiber(timed);
            return false;
        }
    }
    if (!n)
        return false;
    enter_fiber(pick(ready, n));
    if (sim.check)
        sim.check(sim.check_arg);
    return true;
}

void sim_show(const char *what)
{
    static const char *const names[] = {"free",  "ready", "mutex",  "cond",
                                        "timed", "join",  "paused", "done"};

    fprintf(stderr, "stuck: %s\n", what);
    for (unsigned i = 0; i < sim.top; i++)
        if (sim.fiber[i].state != FREE && sim.fiber[i].state != DONE)
            fprintf(stderr, "  fiber %u %s: %s %p\n", i, sim.fiber[i].name,
                    names[sim.fiber[i].state], sim.fiber[i].on);
    if (sim.report)
        sim.report(sim.report_arg);
}

static void stuck(const char *what)
{
    sim_show(what);
    exit(3);
}

bool sim_until(bool (*pred)(void *arg), void *arg)
{
    unsigned idle = 0;

    assert(!sim.current);
    while (!pred(arg)) {
        idle = step(true) ? 0 : idle + 1;
        if (idle > STUCK)
            return false;
    }
    return true;
}

bool sim_step(void)
{
    assert(!sim.current);
    return step(false);
}

void sim_settle(void)
{
    assert(!sim.current);
    while (step(false))
        ;
}

void sim_advance(uint64_t ns)
{
    sim.clock += ns;
}

static bool fiber_done(void *arg)
{
    return ((struct fiber *)arg)->state == DONE;
}

/* ---- life ---- */

void sim_begin(uint64_t seed, unsigned preempt_chance)
{
    run_number++;
    sim.active = true; /* what a test that failed left behind is forgotten */
    sim.preempt = preempt_chance;
    sim.top = 0;
    sim.clock = 1000000000000ull;
    sim.steps = 0;
    sim.check = sim.report = NULL;
    sim.policy = (struct sim_policy){0};
    sim.last = 0;
    sim.yielded = false;
    sim_random_seed(seed);
}

void sim_end(void)
{
    for (unsigned i = 0; i < sim.top; i++) {
        assert(sim.fiber[i].state == DONE || sim.fiber[i].state == FREE);
        sim.fiber[i].state = FREE;
    }
    sim.active = false;
}

void sim_abandon(void)
{
    for (unsigned i = 0; i < sim.top; i++)
        sim.fiber[i].state = FREE;
    sim.active = false;
}

bool sim_active(void)
{
    return sim.active;
}

void sim_on_step(void (*check)(void *arg), void *arg)
{
    sim.check = check;
    sim.check_arg = arg;
}

void sim_on_stuck(void (*report)(void *arg), void *arg)
{
    sim.report = report;
    sim.report_arg = arg;
}

void sim_yield(void)
{
    if (sim.active && sim.current) {
        sim.yielded = true;
        sim.current->hash = mix(sim.current->hash, 2);
        leave_fiber(false);
    } else if (sim.active)
        step(true);
    else
        __real_sched_yield();
}

void sim_name(const char *name)
{
    if (sim.active && sim.current)
        sim.current->name = name;
}

void sim_set_policy(const struct sim_policy *p)
{
    sim.policy = *p;
    sim.last = 0; /* whoever goes first takes nothing from anybody */
    sim.yielded = false;
}

unsigned sim_self(void)
{
    return sim.active && sim.current ? id_of(sim.current) : 0;
}

void sim_pause(void)
{
    wait_in(PAUSED, NULL);
}

void sim_resume(unsigned id)
{
    if (sim.fiber[id - 1].state == PAUSED)
        sim.fiber[id - 1].state = READY;
}

uint64_t sim_steps(void)
{
    return sim.steps;
}

/* ---- the C library's names ---- */

static struct fiber *free_fiber(void)
{
    unsigned i = 0;

    while (i < sim.top && sim.fiber[i].state != FREE)
        i++;
    if (i == FIBERS)
        stuck("out of fibers");
    if (i == sim.top)
        sim.top++;
    return &sim.fiber[i];
}

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg)
{
    if (!sim.active)
        return __real_pthread_create(t, a, fn, arg);

    struct fiber *f = free_fiber();

    if (!f->stack) {
        f->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (f->stack == MAP_FAILED)
            abort();
    }
    getcontext(&f->uc);
    f->uc.uc_stack.ss_sp = f->stack;
    f->uc.uc_stack.ss_size = STACK;
    f->uc.uc_link = NULL;
    f->fn = fn;
    f->arg = arg;
    f->name = "?";
    f->hash = mix(sim.current ? sim.current->hash : 0, (uint64_t)(f - sim.fiber) + 1);
    f->state = READY;
    f->started = false;
    makecontext(&f->uc, fiber_main, 0);
    *t = (pthread_t)(f - sim.fiber + 1);
    return 0;
}

int __wrap_pthread_join(pthread_t t, void **result)
{
    if (!sim.active)
        return __real_pthread_join(t, result);

    struct fiber *f = &sim.fiber[(unsigned)t - 1];

    if (sim.current) {
        while (f->state != DONE)
            wait_in(ON_JOIN, f);
    } else if (!sim_until(fiber_done, f)) {
        stuck("a joined fiber never ends");
    }
    f->state = FREE;
    return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
    if (!sim.active)
        return __real_pthread_mutex_lock(m);
    preempt();
    while (pthread_mutex_trylock(m) != 0) {
        if (sim.current)
            wait_in(ON_MUTEX, m);
        else if (!step(true))
            stuck("the main context waits for a mutex");
    }
    touch(m);
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
    int rc = __real_pthread_mutex_unlock(m);

    if (sim.active) {
        wake(ON_MUTEX, m, true);
        touch(m);
        if (!sim.policy.preempt)
            preempt();
    }
    return rc;
}

static int wait_cond(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until)
{
    touch(m);
    touch(c);
    __real_pthread_mutex_unlock(m);
    wake(ON_MUTEX, m, true);
    if (!sim.current) {
        step(true);
    } else if (until) {
        sim.current->deadline = (uint64_t)until->tv_sec * 1000000000u + (uint64_t)until->tv_nsec;
        wait_in(ON_TIMED, c);
    } else {
        wait_in(ON_COND, c);
    }
    while (pthread_mutex_trylock(m) != 0) {
        if (sim.current)
            wait_in(ON_MUTEX, m);
        else if (!step(true))
            stuck("the main context waits for a mutex after a condition");
    }
    touch(m);
    return 0; /* too early or too late: callers look at what they wait for */
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    return sim.active ? wait_cond(c, m, NULL) : __real_pthread_cond_wait(c, m);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t)
{
    return sim.active ? wait_cond(c, m, t) : __real_pthread_cond_timedwait(c, m, t);
}

int __wrap_pthread_cond_signal(pthread_cond_t *c)
{
    if (!sim.active)
        return __real_pthread_cond_signal(c);
    touch(c);
    wake(ON_COND, c, false);
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
    if (!sim.active)
        return __real_pthread_cond_broadcast(c);
    touch(c);
    wake(ON_COND, c, true);
    return 0;
}

int __wrap_clock_gettime(clockid_t id, struct timespec *t)
{
    if (!sim.active)
        return __real_clock_gettime(id, t);
    t->tv_sec = (time_t)(sim.clock / 1000000000u);
    t->tv_nsec = (long)(sim.clock % 1000000000u);
    return 0;
}

int __wrap_sched_yield(void)
{
    sim_yield();
    return 0;
}
