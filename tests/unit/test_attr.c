// SPDX-License-Identifier: Apache-2.0
/* The rules of the attribute cache that are arithmetic: clock, granularity, racily clean,
 * timeouts, the order of replies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fuse/clock.h"

#define MS  1000000ll
#define SEC 1000000000ll
/* The server's clock shows REAL + SKEW when ours shows REAL and our monotonic clock 0. */
#define REAL (1700000000ll * SEC)

/* A server whose clock is `skew` ahead, with ticks of `tick`. */
struct server {
    int64_t skew, tick;
};

static int64_t server_ctime(const struct server *s, int64_t mono)
{
    int64_t now = REAL + mono + s->skew;
    return now - now % s->tick;
}

/* An own operation: 0.2 ms there, 0.2 ms back. */
static int64_t own_op(struct server_time *c, const struct server *s, int64_t mono)
{
    int64_t ctime = server_ctime(s, mono);
    clock_own(c, ctime, mono - MS / 5, mono + MS / 5);
    return ctime;
}

/* What the test is about: whenever the server could still give the same ctime, it must be racy. */
static void racy_exactly_while_the_tick_may_last(void **state)
{
    const struct server servers[] = {{0, 10 * MS},
                                     {7200 * SEC, 10 * MS},
                                     {-7200 * SEC, 4 * MS},
                                     {3 * SEC, SEC},
                                     {-90 * SEC, MS}};
    for (size_t k = 0; k < sizeof(servers) / sizeof(servers[0]); k++) {
        const struct server *s = &servers[k];
        struct server_time c = {.time_delta = s->tick == SEC ? SEC : 0};
        unsigned seed = 1, racy = 0;
        int64_t mono = SEC;
        for (int i = 0; i < 2000; i++) {
            own_op(&c, s, mono);
            mono += rand_r(&seed) % (3 * MS) + MS;
            int64_t changed = server_ctime(s, mono);
            int64_t sampled = mono + rand_r(&seed) % (3 * s->tick);
            int64_t sent = sampled - MS / 5;
            bool same_tick = server_ctime(s, sampled) == changed;
            bool said = clock_racy(&c, changed, sent, REAL + sent);
            if (same_tick)
                assert_true(said);
            racy += said;
            assert_false(
                clock_racy(&c, changed, mono + 2 * s->tick + CLOCK_LATE + 25 * MS, REAL + mono));
            mono = sampled + MS;
        }
        assert_in_range(racy, 1, 2000);
    }
}

static void an_unknown_server_is_trusted_after_a_minute(void **state)
{
    struct server_time c = {0};
    assert_true(clock_racy(&c, REAL - 59 * SEC, SEC, REAL));
    assert_false(clock_racy(&c, REAL - 61 * SEC, SEC, REAL));
    assert_true(clock_racy(&c, REAL + SEC, SEC, REAL));
}

static void a_newer_timestamp_of_the_server_proves_its_clock(void **state)
{
    struct server_time c = {0};
    clock_seen(&c, REAL - 30 * SEC, 0, REAL);
    assert_true(clock_racy(&c, REAL - 30 * SEC, 0, REAL));
    assert_false(clock_racy(&c, REAL - 31 * SEC, 0, REAL));
    /* Time passes at the server, too: with no further reply the first is proven later. */
    assert_false(clock_racy(&c, REAL - 30 * SEC, SEC, REAL + SEC));
}

static void a_file_from_the_future_proves_nothing(void **state)
{
    struct server s = {0, 10 * MS};
    struct server_time c = {0};
    clock_seen(&c, REAL + 3600 * SEC, 0, REAL);
    assert_true(clock_racy(&c, REAL - SEC, 0, REAL));
    own_op(&c, &s, SEC);
    clock_seen(&c, REAL + 3600 * SEC, 2 * SEC, REAL + 2 * SEC);
    assert_true(clock_racy(&c, server_ctime(&s, 2 * SEC), 2 * SEC, REAL + 2 * SEC));
}

static void a_clock_set_back_is_noticed_by_an_own_operation(void **state)
{
    struct server s = {0, 10 * MS};
    struct server_time c = {0};
    own_op(&c, &s, SEC);
    s.skew = -600 * SEC;
    own_op(&c, &s, 2 * SEC);
    assert_true(clock_racy(&c, server_ctime(&s, 3 * SEC), 3 * SEC, REAL + 3 * SEC));
    s.skew = 600 * SEC; /* and forward */
    own_op(&c, &s, 4 * SEC);
    assert_true(clock_racy(&c, server_ctime(&s, 5 * SEC), 5 * SEC, REAL + 5 * SEC));
    assert_false(clock_racy(&c, server_ctime(&s, 5 * SEC), 6 * SEC, REAL + 6 * SEC));
}

/* Carried out at the very end of a slow call: its timestamp is the time of the reply. */
static void a_slow_call_does_not_put_the_clock_forward(void **state)
{
    struct server s = {0, 10 * MS};
    struct server_time c = {0};
    clock_own(&c, server_ctime(&s, SEC + 500 * MS), SEC, SEC + 500 * MS);
    assert_true(clock_racy(&c, server_ctime(&s, 2 * SEC), 2 * SEC, REAL + 2 * SEC));
}

static void granularity_is_learnt_from_operations_in_sequence(void **state)
{
    struct server ticks = {0, 4 * MS}, fine = {0, 1000};
    struct server_time c = {0};
    assert_int_equal(clock_granularity(&c, REAL), 20 * MS);
    assert_true(clock_coarse(&c, REAL));
    for (int64_t mono = SEC; mono < 2 * SEC; mono += MS)
        own_op(&c, &ticks, mono);
    assert_int_equal(clock_granularity(&c, REAL), 8 * MS);
    assert_true(clock_coarse(&c, REAL));
    for (int64_t mono = 2 * SEC; mono < 3 * SEC; mono += MS / 2)
        own_op(&c, &fine, mono);
    assert_int_equal(clock_granularity(&c, REAL), MS);
    for (int64_t mono = 3 * SEC; mono < 3 * SEC + 10 * MS; mono += MS / 4)
        clock_own(&c, server_ctime(&fine, mono), mono - MS / 10, mono + MS / 10);
    assert_int_equal(clock_granularity(&c, REAL), MS / 2);
    assert_false(clock_coarse(&c, REAL));
    assert_false(clock_racy(&c, REAL + 4 * SEC, 4 * SEC, REAL + 4 * SEC));
}

static void writes_teach_granularity_by_newer_times_only(void **state)
{
    struct server_time c = {0};
    clock_own_late(&c, REAL, 0, MS, REAL); /* alone it says nothing */
    clock_own(&c, REAL + 10 * MS, 10 * MS, 11 * MS);
    clock_own_late(&c, REAL + 9 * MS, 12 * MS, 13 * MS, REAL); /* not yet applied: an old time */
    clock_own_late(&c, REAL + 10 * MS, 12 * MS, 13 * MS, REAL);
    assert_int_equal(clock_granularity(&c, REAL), 20 * MS);
    clock_own_late(&c, REAL + 13 * MS, 13 * MS, 14 * MS, REAL);
    assert_int_equal(clock_granularity(&c, REAL), 6 * MS);
}

static void operations_at_once_teach_no_granularity(void **state)
{
    struct server_time c = {0};
    clock_own(&c, REAL, 0, 10 * MS);
    clock_own(&c, REAL + MS, MS, 11 * MS); /* sent before the first was answered */
    clock_own(&c, REAL, 20 * MS, 21 * MS); /* the same tick */
    assert_int_equal(clock_granularity(&c, REAL), 20 * MS);
}

/* Another time that is seen ends a tick for what is sampled after it; else it may be late. */
static void a_tick_is_over_when_a_later_time_was_seen(void **state)
{
    struct server ticks = {0, 4 * MS};
    struct server_time c = {0};
    int64_t mono = SEC, last = 0;
    for (; mono < 2 * SEC; mono += MS)
        last = own_op(&c, &ticks, mono);
    assert_true(clock_racy(&c, last, mono + 40 * MS, REAL + mono));
    clock_seen(&c, last + 4 * MS, mono + 20 * MS, REAL + mono); /* the next one: too near */
    assert_true(clock_racy(&c, last, mono + 40 * MS, REAL + mono));
    clock_seen(&c, last + 8 * MS, mono + 20 * MS, REAL + mono);
    assert_true(clock_racy(&c, last, mono + 19 * MS, REAL + mono));
    assert_false(clock_racy(&c, last, mono + 20 * MS, REAL + mono));
    assert_true(clock_racy(&c, last + 8 * MS, mono + 40 * MS, REAL + mono));
    assert_false(clock_racy(&c, last + 8 * MS, mono + 10 * MS + CLOCK_LATE, REAL + mono));
}

/* Its next tick is 400 ms late: an own operation shows that it is, long before it comes. */
static void a_clock_that_stands_still_is_noticed(void **state)
{
    for (int by_write = 0; by_write < 2; by_write++) {
        struct server ticks = {0, 4 * MS};
        struct server_time c = {0};
        int64_t mono = SEC, stood = server_ctime(&ticks, 2 * SEC - MS);
        for (; mono < 2 * SEC - 4 * MS; mono += MS)
            own_op(&c, &ticks, mono);
        mono = stood + 180 * MS - REAL;
        if (by_write)
            clock_own_late(&c, stood, mono, mono + MS, REAL + mono);
        else
            clock_own(&c, stood, mono, mono + MS);
        assert_true(clock_racy(&c, stood, mono + 2 * MS, REAL + mono));
        assert_true(clock_racy(&c, stood, mono + 150 * MS, REAL + mono));
        assert_false(clock_racy(&c, stood, mono + 200 * MS, REAL + mono));
        /* It is forgotten when it was not seen for a while. */
        for (mono = 3 * SEC; mono < 14 * SEC; mono += SEC)
            own_op(&c, &ticks, mono);
        assert_int_equal(clock_granularity(&c, REAL), 8 * MS);
        /* A ctime of long ago is not that of the operation. */
        clock_own(&c, server_ctime(&ticks, 12 * SEC), mono, mono + MS);
        assert_int_equal(clock_granularity(&c, REAL), 8 * MS);
    }
}

static void the_servers_own_word_is_a_lower_bound(void **state)
{
    struct server_time c = {.time_delta = 2 * SEC};
    struct server fine = {0, 1000};
    for (int64_t mono = SEC; mono < 2 * SEC; mono += MS)
        own_op(&c, &fine, mono);
    assert_int_equal(clock_granularity(&c, REAL), 2 * SEC);
    assert_true(clock_racy(&c, REAL + 2 * SEC, 3 * SEC, REAL + 3 * SEC));
    assert_false(clock_racy(&c, REAL + 2 * SEC, 4 * SEC + 10 * MS, REAL + 4 * SEC));
}

/* Linux's server says 1 s of every file system. */
static void a_time_that_is_finer_refutes_it(void **state)
{
    struct server_time c = {.time_delta = SEC};
    struct server ticks = {0, 4 * MS};
    for (int64_t mono = SEC; mono < 2 * SEC; mono += MS)
        own_op(&c, &ticks, mono);
    int64_t whole = REAL + 2 * SEC, finer = whole + 4 * MS;
    assert_int_equal(clock_granularity(&c, whole), SEC);
    assert_true(clock_racy(&c, whole, 3 * SEC - MS, REAL + 3 * SEC));
    assert_int_equal(clock_granularity(&c, finer), 8 * MS);
    assert_true(clock_racy(&c, finer, 2 * SEC + 11 * MS, REAL + 3 * SEC));
    assert_false(clock_racy(&c, finer, 2 * SEC + 5 * MS + CLOCK_LATE, REAL + 3 * SEC));
}

/* 0.1 ms a second: what was learnt an hour ago is worth 360 ms less. */
static void old_knowledge_drifts(void **state)
{
    struct server s = {0, 10 * MS};
    struct server_time c = {0};
    own_op(&c, &s, SEC);
    int64_t later = 3601 * SEC, ctime = server_ctime(&s, later);
    assert_true(clock_racy(&c, ctime, later + 300 * MS + CLOCK_LATE, REAL + later));
    assert_false(clock_racy(&c, ctime, later + 400 * MS + CLOCK_LATE, REAL + later));
}

static void timeouts_double_only_when_expired_and_unchanged(void **state)
{
    uint64_t t = clock_next_timeout(0, 3, 60, true, false);
    assert_int_equal(t, 3);
    assert_int_equal(t = clock_next_timeout(t, 3, 60, false, false), 3);
    assert_int_equal(t = clock_next_timeout(t, 3, 60, false, true), 6);
    for (int i = 0; i < 5; i++)
        t = clock_next_timeout(t, 3, 60, false, true);
    assert_int_equal(t, 60);
    assert_int_equal(clock_next_timeout(t, 3, 60, true, true), 3);
    assert_int_equal(clock_next_timeout(0, 0, 0, false, true), 0); /* noac */
}

static void replies_from_before_are_refused(void **state)
{
    const struct timespec t1 = {100, 1}, t2 = {100, 2};
    /* sent, ctime, sent and ctime of what is accepted, end of the last own change */
    assert_true(clock_reply_is_old(10, t1, 5, t1, 11));  /* may not show our change */
    assert_false(clock_reply_is_old(10, t2, 5, t1, 11)); /* shows it, or a later one */
    assert_false(clock_reply_is_old(11, t1, 5, t1, 11)); /* asked afterwards */
    assert_true(clock_reply_is_old(10, t1, 20, t2, 0));  /* overtaken on the way */
    assert_false(clock_reply_is_old(10, t2, 20, t2, 0)); /* ... without harm */
    assert_false(clock_reply_is_old(30, t1, 20, t2, 0)); /* the server's clock was set back */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(racy_exactly_while_the_tick_may_last),
        cmocka_unit_test(an_unknown_server_is_trusted_after_a_minute),
        cmocka_unit_test(a_newer_timestamp_of_the_server_proves_its_clock),
        cmocka_unit_test(a_file_from_the_future_proves_nothing),
        cmocka_unit_test(a_clock_set_back_is_noticed_by_an_own_operation),
        cmocka_unit_test(a_slow_call_does_not_put_the_clock_forward),
        cmocka_unit_test(granularity_is_learnt_from_operations_in_sequence),
        cmocka_unit_test(writes_teach_granularity_by_newer_times_only),
        cmocka_unit_test(operations_at_once_teach_no_granularity),
        cmocka_unit_test(a_tick_is_over_when_a_later_time_was_seen),
        cmocka_unit_test(a_clock_that_stands_still_is_noticed),
        cmocka_unit_test(the_servers_own_word_is_a_lower_bound),
        cmocka_unit_test(a_time_that_is_finer_refutes_it),
        cmocka_unit_test(old_knowledge_drifts),
        cmocka_unit_test(timeouts_double_only_when_expired_and_unchanged),
        cmocka_unit_test(replies_from_before_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
