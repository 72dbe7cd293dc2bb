// SPDX-License-Identifier: Apache-2.0
/* Sets of bytes against an array of 4096 flags, by random operations. */
#include "tests/unit/cache_fixture.h"

#define SETS 4
#define OPS  1000000

static struct cache *cache;
static byteset set[SETS];
static bool model[SETS][PAGE_SIZE];

static void random_range(uint32_t *lo, uint32_t *hi)
{
    uint32_t most = sim_chance(128) ? 16 : sim_chance(128) ? 300 : PAGE_SIZE;
    uint32_t n = sim_below(most + 1);

    *lo = sim_chance(32) ? 0 : sim_below(PAGE_SIZE + 1);
    *hi = sim_chance(32) ? PAGE_SIZE : *lo + n;
    if (*hi > PAGE_SIZE)
        *hi = PAGE_SIZE;
}

static void check_runs(unsigned i)
{
    uint32_t lo, hi, at = 0, count = 0, k = 0;

    while (byteset_run(cache, set[i], at, &lo, &hi)) {
        for (; k < lo; k++)
            assert_false(model[i][k]);
        for (; k < hi; k++)
            assert_true(model[i][k]);
        count += hi - lo;
        at = hi;
    }
    for (; k < PAGE_SIZE; k++)
        assert_false(model[i][k]);
    assert_int_equal(byteset_count(cache, set[i]), count);
    assert_int_equal(byteset_empty(set[i]), count == 0);
    assert_int_equal(byteset_full(set[i]), count == PAGE_SIZE);
}

static void check_contains(unsigned i)
{
    uint32_t lo, hi;
    bool all = true;

    random_range(&lo, &hi);
    for (uint32_t k = lo; k < hi; k++)
        all &= model[i][k];
    assert_int_equal(byteset_contains(cache, set[i], lo, hi), all);
}

static void change(unsigned i, unsigned j, unsigned what)
{
    uint32_t lo, hi;

    random_range(&lo, &hi);
    switch (what) {
    case 0:
    case 1:
        byteset_add(cache, &set[i], lo, hi);
        for (uint32_t k = lo; k < hi; k++)
            model[i][k] = true;
        break;
    case 2:
    case 3:
        byteset_remove(cache, &set[i], lo, hi);
        for (uint32_t k = lo; k < hi; k++)
            model[i][k] = false;
        break;
    case 4:
        byteset_or(cache, &set[i], set[j]);
        for (uint32_t k = 0; k < PAGE_SIZE; k++)
            model[i][k] |= model[j][k];
        break;
    case 5:
        if (i == j)
            break;
        byteset_subtract(cache, &set[i], set[j]);
        for (uint32_t k = 0; k < PAGE_SIZE; k++)
            model[i][k] &= !model[j][k];
        break;
    case 6:
        if (i == j)
            break;
        byteset_move(cache, &set[i], &set[j]);
        for (uint32_t k = 0; k < PAGE_SIZE; k++)
            model[i][k] |= model[j][k];
        memset(model[j], 0, sizeof model[j]);
        break;
    default:
        byteset_clear(cache, &set[i]);
        if (i != j && sim_chance(128)) {
            set[i] = byteset_dup(cache, set[j]);
            memcpy(model[i], model[j], sizeof model[i]);
        } else {
            memset(model[i], 0, sizeof model[i]);
        }
        break;
    }
}

static void sets_follow_the_model(void **state)
{
    struct fixture f;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);
    cache = f.c;
    print_message("seed 1, %d operations\n", OPS);
    for (int n = 0; n < OPS; n++) {
        unsigned i = sim_below(SETS), j = sim_below(SETS), what = sim_below(64);

        /* Whole-set operations cost the model 4096 steps: fewer of them. */
        change(i, j, what < 60 ? what % 4 : what - 56);
        check_contains(i);
        if (n % 64 == 0)
            check_runs(i);
    }
    for (unsigned i = 0; i < SETS; i++) {
        check_runs(i);
        byteset_clear(cache, &set[i]);
    }
    assert_int_equal(cache->masks_used, 0);
    fixture_end(&f);
}

static void one_range_needs_no_mask(void **state)
{
    struct fixture f;
    byteset s = BYTESET_EMPTY;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);
    byteset_add(f.c, &s, 100, 200);
    byteset_add(f.c, &s, 200, 300);
    byteset_remove(f.c, &s, 100, 150);
    assert_int_equal(f.c->masks_used, 0);
    byteset_remove(f.c, &s, 200, 210);
    assert_int_equal(f.c->masks_used, 1);
    byteset_add(f.c, &s, 200, 210);
    assert_int_equal(f.c->masks_used, 0);
    assert_true(byteset_contains(f.c, s, 150, 300));
    assert_int_equal(byteset_count(f.c, s), 150);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_follow_the_model),
        cmocka_unit_test(one_range_needs_no_mask),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
