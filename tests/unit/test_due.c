// SPDX-License-Identifier: Apache-2.0
/* Which open file is asked for next: the queue against a plain search, and a simulation of many
 * files that were opened at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fuse/due.h"

#define MS  1000000ull
#define SEC 1000000000ull

static void earliest_first(void **state)
{
    enum { N = 200, ROUNDS = 20000 };
    static struct due d[N];
    struct due_queue q;
    unsigned seed = 1;

    due_init(&q, 1);
    for (unsigned r = 0; r < ROUNDS; r++) {
        struct due *one = &d[rand_r(&seed) % N], *first = NULL;

        switch (rand_r(&seed) % 4) {
        case 0:
        case 1:
            due_put(&q, one, rand_r(&seed) % 1000);
            break;
        case 2:
            due_remove(&q, one);
            assert_int_equal(one->place, 0);
            break;
        default:
            for (unsigned i = 0; i < N; i++)
                if (d[i].place && (!first || d[i].at < first->at))
                    first = &d[i];
            assert_true(due_earliest(&q) == (first ? first->at : UINT64_MAX));
            one = due_take(&q, 500);
            if (!first || first->at > 500) {
                assert_null(one);
            } else {
                assert_non_null(one);
                assert_true(one->at == first->at && !one->place);
            }
        }
    }
    due_destroy(&q);
}

/* Somebody else asked: not due, until the time of that runs out. */
static void not_asked_twice(void **state)
{
    struct due d = {.later = true};

    assert_false(due_is(&d, 10 * SEC, 10 * SEC + 3 * SEC, 3 * SEC));
    assert_false(due_is(&d, 12 * SEC, 10 * SEC + 3 * SEC, 3 * SEC));
    assert_true(due_is(&d, 12 * SEC + 250 * MS, 10 * SEC + 3 * SEC, 3 * SEC));
    assert_true(due_is(&d, 20 * SEC, 10 * SEC + 3 * SEC, 3 * SEC));
}

struct simulated {
    struct due due;
    uint64_t expires, asked;
    unsigned times;
};

/* All opened within 100 ms; a look every 10 ms. Nobody waits longer than the timeout, nobody is
 * asked for twice in a third of it, and no 100 ms have more than three times the mean. */
static void no_herd(void **state)
{
    enum { N = 5000, LOOK = 10, END = 60000 };
    static struct simulated s[N];
    static unsigned asked[END / LOOK];
    const uint64_t timeout = 3 * SEC, start = 1000 * SEC;
    struct due_queue q;

    due_init(&q, 7);
    for (unsigned i = 0; i < N; i++) {
        s[i].asked = start + i * 100 * MS / N;
        s[i].expires = s[i].asked + timeout;
        due_put(&q, &s[i].due, due_when(&q, &s[i].due, s[i].expires, timeout));
    }
    for (unsigned t = 0; t < END / LOOK; t++) {
        uint64_t now = start + t * LOOK * MS;
        struct due *d;

        while ((d = due_take(&q, now)) != NULL) {
            struct simulated *f = (struct simulated *)(void *)d;

            if (due_is(d, now, f->expires, timeout)) {
                assert_true(now - f->asked <= timeout + LOOK * MS);
                assert_true(now - f->asked >= timeout / 3);
                d->later = true;
                f->asked = now;
                f->expires = now + timeout;
                f->times++;
                asked[t]++;
            }
            due_put(&q, d, due_when(&q, d, f->expires, timeout));
        }
    }

    unsigned all = 0, most = 0, least = UINT32_MAX;

    for (unsigned i = 0; i < N; i++) {
        all += s[i].times;
        least = s[i].times < least ? s[i].times : least;
    }
    for (unsigned t = 0; t + 10 <= END / LOOK; t++) {
        unsigned sum = 0;

        for (unsigned k = 0; k < 10; k++)
            sum += asked[t + k];
        most = sum > most ? sum : most;
    }
    assert_true(least >= END / 3000);
    assert_true(all <= N * (END / 3000) * 5 / 4);
    assert_true((double)most <= 3.0 * all / (END / 100.0));
    due_destroy(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(earliest_first),
                                       cmocka_unit_test(not_asked_twice),
                                       cmocka_unit_test(no_herd)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
