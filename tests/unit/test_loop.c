// SPDX-License-Identifier: Apache-2.0
/*
 * The event loop: posted tasks, timers, hooks, descriptors that go away inside a turn.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/loop.h"

/* ---- tasks ---- */

enum { POSTERS = 4, POSTS = 20000 };

struct counted {
    struct loop_task task;
    int poster, number;
};

static int last_number[POSTERS], out_of_order, ran;
static struct loop *the_loop;

static void counted_run(struct loop_task *task)
{
    struct counted *c = (struct counted *)task;
    out_of_order += c->number != last_number[c->poster] + 1;
    last_number[c->poster] = c->number;
    if (++ran == POSTERS * POSTS)
        loop_stop(the_loop);
}

static void *poster(void *arg)
{
    struct counted *c = arg;
    for (int i = 0; i < POSTS; i++)
        loop_post(the_loop, &c[i].task);
    return NULL;
}

static void tasks_of_each_thread_run_in_order(void **state)
{
    static struct counted c[POSTERS][POSTS];
    pthread_t thread[POSTERS];
    the_loop = loop_new("test");
    ran = out_of_order = 0;
    for (int p = 0; p < POSTERS; p++) {
        last_number[p] = -1;
        for (int i = 0; i < POSTS; i++)
            c[p][i] = (struct counted){.task.fn = counted_run, .poster = p, .number = i};
    }
    assert_int_equal(loop_start(the_loop), 0);
    for (int p = 0; p < POSTERS; p++)
        pthread_create(&thread[p], NULL, poster, c[p]);
    for (int p = 0; p < POSTERS; p++)
        pthread_join(thread[p], NULL);
    loop_join(the_loop); /* returns only when all have run: a lost wake-up hangs here */
    assert_int_equal(ran, POSTERS * POSTS);
    assert_int_equal(out_of_order, 0);
    loop_free(the_loop);
}

static struct loop *call_ran_in;

static void note_loop(void *arg)
{
    call_ran_in = loop_current();
    *(int *)arg += 1;
}

static void call_reaches_a_running_and_a_resting_loop(void **state)
{
    int n = 0;
    the_loop = loop_new("test");
    loop_call(the_loop, note_loop, &n);
    assert_ptr_equal(call_ran_in, the_loop);
    assert_int_equal(loop_start(the_loop), 0);
    loop_call(the_loop, note_loop, &n);
    assert_ptr_equal(call_ran_in, the_loop);
    loop_stop(the_loop);
    loop_join(the_loop);
    loop_call(the_loop, note_loop, &n);
    assert_int_equal(n, 3);
    assert_null(loop_current());
    loop_free(the_loop);
}

static void free_runs_what_was_posted(void **state)
{
    struct counted c = {.task.fn = counted_run, .poster = 0, .number = 0};
    the_loop = loop_new("test");
    last_number[0] = -1;
    ran = 0;
    loop_post(the_loop, &c.task);
    loop_free(the_loop);
    assert_int_equal(ran, 1);
}

/* ---- timers ---- */

static int fired[8], nfired;
static struct timer {
    struct loop_timer t;
    int id;
} timers[8];

static void timer_fired(struct loop_timer *t)
{
    struct timer *timer = (struct timer *)t;
    fired[nfired++] = timer->id;
    if (timer->id == 1)
        loop_timer_cancel(the_loop, &timers[2].t);
    if (timer->id == 3 && nfired < 5)
        loop_timer_set(the_loop, &timers[3].t, 1000000);
    else if (timer->id == 3)
        loop_stop(the_loop);
}

static void timers_fire_in_order_and_can_be_moved(void **state)
{
    the_loop = loop_new("test");
    nfired = 0;
    for (int i = 0; i < 4; i++)
        timers[i] = (struct timer){.t.fn = timer_fired, .id = i};
    loop_timer_set(the_loop, &timers[0].t, 5000000);
    loop_timer_set(the_loop, &timers[3].t, 4000000);
    loop_timer_set(the_loop, &timers[2].t, 3000000);
    loop_timer_set(the_loop, &timers[1].t, 9000000000);
    loop_timer_set(the_loop, &timers[1].t, 1000000); /* earlier */
    loop_timer_set(the_loop, &timers[0].t, 2000000);
    loop_timer_cancel(the_loop, &timers[0].t);
    loop_timer_set(the_loop, &timers[0].t, 500000);
    loop_run(the_loop);
    assert_int_equal(nfired, 5);
    assert_int_equal(fired[0], 0);
    assert_int_equal(fired[1], 1); /* which cancels 2 */
    assert_int_equal(fired[2], 3);
    assert_int_equal(fired[4], 3);
    loop_free(the_loop);
}

static int heap_order_bad;
static uint64_t heap_last;

struct many {
    struct loop_timer t;
    uint64_t due;
};

static int many_left;

static void many_fired(struct loop_timer *t)
{
    struct many *m = (struct many *)t;
    heap_order_bad += m->due < heap_last;
    heap_last = m->due;
    if (--many_left == 0)
        loop_stop(the_loop);
}

static void a_thousand_timers_fire_by_time(void **state)
{
    static struct many many[1000];
    unsigned seed = 12345;
    the_loop = loop_new("test");
    heap_last = 0;
    heap_order_bad = 0;
    many_left = 1000 - 334;
    for (int i = 0; i < 1000; i++) {
        uint64_t ns = 1000000ull * (uint64_t)(rand_r(&seed) % 50);
        many[i] = (struct many){.t.fn = many_fired};
        loop_timer_set(the_loop, &many[i].t, ns);
        many[i].due = many[i].t.at;
    }
    for (int i = 0; i < 1000; i += 3)
        loop_timer_cancel(the_loop, &many[i].t);
    loop_run(the_loop);
    assert_int_equal(heap_order_bad, 0);
    loop_free(the_loop);
}

/* ---- descriptors ---- */

static int efd[2], calls, stale_calls;

static void must_not_run(struct loop *loop, int fd, uint32_t events, void *arg)
{
    stale_calls++;
}

static void replace_other(struct loop *loop, int fd, uint32_t events, void *arg)
{
    uint64_t n;
    int other = efd[fd == efd[0]];
    assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
    calls++;
    loop_del_fd(loop, other);
    close(other);
    /* The same number again: the event that epoll reported for the old one is not its event. */
    int again = eventfd(0, EFD_NONBLOCK);
    assert_int_equal(again, other);
    assert_int_equal(loop_add_fd(loop, again, EPOLLIN, must_not_run, NULL), 0);
}

static void stop_now(struct loop_timer *t)
{
    loop_stop(the_loop);
}

static void an_event_of_a_removed_descriptor_is_dropped(void **state)
{
    struct loop_timer quit = {.fn = stop_now};
    the_loop = loop_new("test");
    calls = stale_calls = 0;
    for (int i = 0; i < 2; i++) {
        efd[i] = eventfd(1, EFD_NONBLOCK);
        assert_int_equal(loop_add_fd(the_loop, efd[i], EPOLLIN, replace_other, NULL), 0);
    }
    loop_timer_set(the_loop, &quit, 20000000);
    loop_run(the_loop);
    assert_int_equal(calls, 1);
    assert_int_equal(stale_calls, 0);
    close(efd[0]);
    close(efd[1]);
    loop_free(the_loop);
}

/* ---- hooks ---- */

static int first_runs, second_runs;

static void first_hook(struct loop_hook *h)
{
    first_runs++;
}

static void second_hook(struct loop_hook *h)
{
    if (++second_runs == 1)
        loop_kick(the_loop);
    else
        loop_stop(the_loop);
}

static void a_kick_runs_the_hooks_again_before_the_sleep(void **state)
{
    struct loop_hook a = {.fn = first_hook}, b = {.fn = second_hook};
    the_loop = loop_new("test");
    first_runs = second_runs = 0;
    loop_add_hook(the_loop, &a);
    loop_add_hook(the_loop, &b);
    loop_run(the_loop); /* no event ever comes: without the kick it would sleep for ever */
    assert_int_equal(first_runs, 2);
    assert_int_equal(second_runs, 2);
    loop_del_hook(the_loop, &a);
    loop_del_hook(the_loop, &b);
    loop_free(the_loop);
}

static struct counted hook_task;

static void posting_hook(struct loop_hook *h)
{
    if (!hook_task.number++)
        loop_post(the_loop, &hook_task.task);
}

static void stop_task(struct loop_task *task)
{
    loop_stop(the_loop);
}

static void a_task_posted_by_a_hook_runs_before_the_sleep(void **state)
{
    struct loop_hook hook = {.fn = posting_hook};
    the_loop = loop_new("test");
    hook_task = (struct counted){.task.fn = stop_task};
    loop_add_hook(the_loop, &hook);
    loop_run(the_loop); /* or it sleeps for ever */
    assert_int_equal(hook_task.number, 1);
    loop_free(the_loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_of_each_thread_run_in_order),
        cmocka_unit_test(call_reaches_a_running_and_a_resting_loop),
        cmocka_unit_test(free_runs_what_was_posted),
        cmocka_unit_test(timers_fire_in_order_and_can_be_moved),
        cmocka_unit_test(a_thousand_timers_fire_by_time),
        cmocka_unit_test(an_event_of_a_removed_descriptor_is_dropped),
        cmocka_unit_test(a_task_posted_by_a_hook_runs_before_the_sleep),
        cmocka_unit_test(a_kick_runs_the_hooks_again_before_the_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
