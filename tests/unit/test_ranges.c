// SPDX-License-Identifier: Apache-2.0
/* Byte-range locks: compared with a model that keeps the owner's lock of every single byte. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fuse/ranges.h"

#define BYTES  48 /* the last one stands for everything up to the end of the file */
#define OWNERS 4
#define ROUNDS 200000

static int model[OWNERS][BYTES];

static uint64_t end_of(unsigned byte)
{
    return byte == BYTES - 1 ? UINT64_MAX : byte;
}

static struct range_lock random_lock(bool unlock)
{
    unsigned a = random() % BYTES, b = random() % BYTES;
    static const int types[] = {F_RDLCK, F_WRLCK, F_UNLCK};

    return (struct range_lock){.start = a < b ? a : b,
                               .end = end_of(a < b ? b : a),
                               .owner = random() % OWNERS,
                               .type = types[random() % (unlock ? 3 : 2)]};
}

static unsigned last_byte(const struct range_lock *l)
{
    return l->end == UINT64_MAX ? BYTES - 1 : (unsigned)l->end;
}

static bool model_conflict(const struct range_lock *want)
{
    for (unsigned o = 0; o < OWNERS; o++)
        for (unsigned i = want->start; o != want->owner && i <= last_byte(want); i++)
            if (model[o][i] == F_WRLCK || (model[o][i] == F_RDLCK && want->type == F_WRLCK))
                return true;
    return false;
}

static void check_list(const struct range_lock *list)
{
    int seen[OWNERS][BYTES];

    for (unsigned o = 0; o < OWNERS; o++)
        for (unsigned i = 0; i < BYTES; i++)
            seen[o][i] = F_UNLCK;
    for (const struct range_lock *l = list; l; l = l->next) {
        assert_true(l->start <= l->end);
        for (unsigned i = l->start; i <= last_byte(l); i++) {
            assert_int_equal(seen[l->owner][i], F_UNLCK); /* no byte twice */
            seen[l->owner][i] = l->type;
        }
        /* Merged: no neighbour of the same owner and type. */
        for (const struct range_lock *m = list; m; m = m->next)
            if (m != l && m->owner == l->owner && m->type == l->type && l->end != UINT64_MAX)
                assert_true(m->start != l->end + 1);
    }
    assert_memory_equal(seen, model, sizeof(seen));
}

static void every_byte_has_the_lock_that_fcntl_gives_it(void **state)
{
    const char *text = getenv("SEED");
    unsigned seed = text ? strtoul(text, NULL, 0) : 20261120;
    struct range_lock *list = NULL;
    unsigned granted = 0, refused = 0;

    printf("SEED=%u\n", seed);
    srandom(seed);
    for (unsigned o = 0; o < OWNERS; o++)
        for (unsigned i = 0; i < BYTES; i++)
            model[o][i] = F_UNLCK;
    for (int round = 0; round < ROUNDS; round++) {
        struct range_lock want = random_lock(true);
        bool conflict = want.type != F_UNLCK && model_conflict(&want);

        if (want.type != F_UNLCK)
            assert_int_equal(ranges_conflict(list, &want) != NULL, conflict);
        if (conflict) {
            refused++;
            continue;
        }
        assert_int_equal(ranges_set(&list, &want), 0);
        for (unsigned i = want.start; i <= last_byte(&want); i++)
            model[want.owner][i] = want.type;
        granted++;
        check_list(list);
    }
    assert_true(granted > ROUNDS / 10 && refused > ROUNDS / 10);
    ranges_free(list);
}

static void conflict_names_the_lock_in_the_way(void **state)
{
    struct range_lock *list = NULL;
    struct range_lock held = {.start = 10, .end = 19, .owner = 1, .pid = 42, .type = F_RDLCK};
    struct range_lock want = {.start = 19, .end = 30, .owner = 2, .type = F_WRLCK};

    assert_int_equal(ranges_set(&list, &held), 0);
    const struct range_lock *found = ranges_conflict(list, &want);
    assert_non_null(found);
    assert_int_equal(found->pid, 42);
    want.type = F_RDLCK;
    assert_null(ranges_conflict(list, &want));
    want = (struct range_lock){.start = 20, .end = UINT64_MAX, .owner = 2, .type = F_WRLCK};
    assert_null(ranges_conflict(list, &want));
    ranges_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_has_the_lock_that_fcntl_gives_it),
        cmocka_unit_test(conflict_names_the_lock_in_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
