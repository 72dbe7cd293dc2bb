// SPDX-License-Identifier: Apache-2.0
/* The matrix of `nfscached bench`: cells run in turn, and what is kept of them. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/bench/matrix.h"

enum { CELLS = 8 };

static unsigned log_of[1000], nlog;

int bench_fail(int status, const char *format, ...)
{
    return status;
}

/* Says that it ran; its sample is the number of cells that ran before it. */
static int run(struct cell *c)
{
    unsigned me = (unsigned)(size_t)cell_arg(c);
    const double us[] = {3, 1, 2};

    cell_sample(c, "when", "count", BETTER_NONE, nlog);
    cell_times(c, "op", us, 3);
    log_of[nlog++] = me;
    return 0;
}

static int run_failing(struct cell *c)
{
    log_of[nlog++] = 100;
    return cell_recording(c) ? cell_fail(c, "the %s broke", "disk") : 0;
}

static int run_skipped(struct cell *c)
{
    log_of[nlog++] = 200;
    return cell_skip(c, "not here");
}

static struct matrix *eight(void)
{
    struct matrix *m = matrix_new();

    nlog = 0;
    for (size_t i = 0; i < CELLS; i++)
        cell_param(matrix_add(m, "test", "t", run, (void *)i), "i", "%zu", i);
    return m;
}

static void each_repetition_runs_each_cell_once(void **state)
{
    struct matrix *m = eight();
    unsigned moved = 0;

    matrix_run(m, 5, 1, 42, true);
    assert_int_equal(nlog, 6 * CELLS);
    for (unsigned r = 0; r < 6; r++) {
        unsigned seen = 0;
        for (unsigned i = 0; i < CELLS; i++) {
            seen |= 1u << log_of[r * CELLS + i];
            moved += r && log_of[r * CELLS + i] != log_of[i];
        }
        assert_int_equal(seen, (1u << CELLS) - 1);
    }
    assert_true(moved > 20); /* another order each time */
    assert_int_equal(m->done, 5);
    matrix_free(m);
}

static void the_seed_decides_the_order(void **state)
{
    unsigned first[3 * CELLS];
    struct matrix *m = eight();

    matrix_run(m, 3, 0, 7, true);
    memcpy(first, log_of, sizeof first);
    matrix_free(m);
    m = eight();
    matrix_run(m, 3, 0, 7, true);
    assert_memory_equal(first, log_of, sizeof first);
    matrix_free(m);
    m = eight();
    matrix_run(m, 3, 0, 8, true);
    assert_memory_not_equal(first, log_of, sizeof first);
    matrix_free(m);
}

static void warming_up_is_not_recorded(void **state)
{
    struct matrix *m = eight();
    size_t n;

    matrix_run(m, 3, 2, 1, true);
    for (size_t i = 0; i < CELLS; i++) {
        const double *when = cell_samples(matrix_cell(m, i), "when", &n);
        assert_int_equal(n, 3);
        assert_true(when[0] >= 2 * CELLS);
        const double *p50 = cell_samples(matrix_cell(m, i), "op_p50_us", &n);
        assert_int_equal(n, 3);
        assert_true(p50[0] == 2);
        assert_true(cell_samples(matrix_cell(m, i), "op_max_us", &n)[2] == 3);
        assert_int_equal(matrix_cell(m, i)->distributions[0]->h.count, 9);
    }
    matrix_free(m);
}

static void who_fails_or_skips_is_left_out(void **state)
{
    struct matrix *m = eight();
    struct cell *failing = matrix_add(m, "test", "t", run_failing, NULL);
    struct cell *skipped = matrix_add(m, "test", "t", run_skipped, NULL);
    unsigned nfailing = 0, nskipped = 0;
    size_t n;

    matrix_run(m, 4, 1, 1, true);
    for (unsigned i = 0; i < nlog; i++) {
        nfailing += log_of[i] == 100;
        nskipped += log_of[i] == 200;
    }
    assert_int_equal(nfailing, 2); /* the warm-up, and the one that failed */
    assert_int_equal(nskipped, 1);
    assert_string_equal(failing->failed, "the disk broke");
    assert_string_equal(skipped->skipped, "not here");
    cell_samples(matrix_cell(m, 0), "when", &n);
    assert_int_equal(n, 4); /* the others went on */
    matrix_free(m);
}

static int run_interrupting(struct cell *c)
{
    log_of[nlog++] = 300;
    if (cell_recording(c))
        raise(SIGINT);
    return cell_recording(c) ? cell_fail(c, "because of the signal") : 0;
}

/* The last test: what was stopped stays so. */
static void an_interrupt_ends_it(void **state)
{
    struct matrix *m = eight();
    struct cell *c = matrix_add(m, "test", "t", run_interrupting, NULL);

    bench_catch_signals();
    matrix_run(m, 1000, 1, 1, true);
    assert_true(m->interrupted);
    assert_int_equal(log_of[nlog - 1], 300);
    assert_int_equal(m->done, 0);
    assert_null(c->failed);
    matrix_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_repetition_runs_each_cell_once),
        cmocka_unit_test(the_seed_decides_the_order),
        cmocka_unit_test(warming_up_is_not_recorded),
        cmocka_unit_test(who_fails_or_skips_is_left_out),
        cmocka_unit_test(an_interrupt_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
