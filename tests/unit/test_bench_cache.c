// SPDX-License-Identifier: Apache-2.0
/* What `bench cache` compares with: the simulated policies and the traces do what they are said to
 * do; and the rig is a cache. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/bench/cache_policy.h"
#include "daemon/bench/cache_rig.h"

static int64_t hits(const char *policy, const uint32_t *keys, size_t n, uint32_t capacity)
{
    struct trace t = {.key = (uint32_t *)keys, .n = n};

    for (size_t i = 0; i < n; i++)
        if (keys[i] >= t.universe)
            t.universe = keys[i] + 1;
    for (const struct policy *p = policies; p->name; p++)
        if (strcmp(p->name, policy) == 0)
            return p->hits(&t, capacity);
    fail_msg("no policy %s", policy);
    return 0;
}

/* The reference string of the textbooks (Silberschatz): 20 references, 3 frames. */
static void textbook_string(void **state)
{
    static const uint32_t keys[] = {7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1};

    assert_int_equal(hits("OPT", keys, 20, 3), 20 - 9);
    assert_int_equal(hits("LRU", keys, 20, 3), 20 - 12);
}

/* The visited page is spared by the hand, which goes on from there. */
static void sieve_spares_what_was_visited(void **state)
{
    static const uint32_t keys[] = {0, 0, 1, 2, 3, 4, 0, 3};

    assert_int_equal(hits("SIEVE", keys, 8, 3), 3);
    assert_int_equal(hits("LRU", keys, 8, 3), 2);
}

/* A page that comes back soon after it was evicted goes to the main queue, out of a scan's way. */
static void s3_fifo_remembers_ghosts(void **state)
{
    uint32_t keys[40];
    size_t n = 0;

    for (uint32_t k = 0; k <= 10; k++)
        keys[n++] = k;
    keys[n++] = 0; /* its ghost is known */
    for (uint32_t k = 11; k <= 30; k++)
        keys[n++] = k;
    keys[n++] = 0;
    assert_int_equal(hits("S3-FIFO", keys, n, 10), 1);
    assert_int_equal(hits("LRU", keys, n, 10), 0);
}

static void nobody_beats_the_optimum(void **state)
{
    for (const struct trace_kind *k = trace_kinds; k->name; k++) {
        struct trace t;
        int64_t best = 0, opt = 0;

        assert_int_equal(trace_make(&t, k, 20000, 500, 7), 0);
        for (size_t i = 0; i < t.n; i++)
            assert_true(t.key[i] < t.universe);
        for (const struct policy *p = policies; p->name; p++) {
            opt = p->hits(&t, 500);
            assert_true(opt >= best || strcmp(p->name, "OPT") != 0);
            best = opt > best ? opt : best;
        }
        assert_int_equal(best, opt);
        trace_free(&t);
    }
}

static double ratio(const char *trace, const char *policy, size_t n, uint32_t capacity)
{
    const struct trace_kind *k = trace_kinds;
    struct trace t;
    double r;

    while (strcmp(k->name, trace) != 0)
        k++;
    assert_int_equal(trace_make(&t, k, n, capacity, 1), 0);
    r = (double)hits(policy, t.key, t.n, capacity) / (double)n;
    trace_free(&t);
    return r;
}

static void traces_are_what_they_are_called(void **state)
{
    assert_true(ratio("loop", "LRU", 50000, 1000) == 0);
    /* all but one page out of each 1250 can be served again: 1 - 1250/50000 first, then 4/5 */
    assert_true(fabs(ratio("loop", "OPT", 50000, 1000) - 0.8) < 0.03);
    /* P(d < capacity) with d exponential, its mean half the capacity */
    assert_true(fabs(ratio("stack", "LRU", 100000, 1000) - (1 - exp(-2))) < 0.01);
    assert_true(ratio("zipf+scan", "S3-FIFO", 100000, 1000) >
                ratio("zipf+scan", "LRU", 100000, 1000) + 0.02);
}

static void same_seed_same_trace(void **state)
{
    struct trace a, b, c;

    assert_int_equal(trace_make(&a, trace_kinds, 1000, 100, 5), 0);
    assert_int_equal(trace_make(&b, trace_kinds, 1000, 100, 5), 0);
    assert_int_equal(trace_make(&c, trace_kinds, 1000, 100, 6), 0);
    assert_memory_equal(a.key, b.key, 1000 * sizeof *a.key);
    assert_memory_not_equal(a.key, c.key, 1000 * sizeof *a.key);
    trace_free(&a);
    trace_free(&b);
    trace_free(&c);
}

/* ---- the rig ---- */

static void rig_reads_writes_and_evicts(void **state)
{
    struct rig_read *read = calloc(1, sizeof *read);
    uint8_t *page = calloc(1, PAGE_SIZE);
    struct cache_stats s;
    struct rig rig;
    uint32_t n;

    assert_int_equal(rig_open(&rig, 1000 * (PAGE_SIZE + 96), 2, 4000 * PAGE_SIZE, 1 << 20), 0);
    n = rig_capacity(&rig);
    assert_in_range(n, 500, 1100);
    rig_thread_begin();
    for (int round = 0; round < 2; round++)
        for (uint64_t i = 0; i < n; i++)
            assert_int_equal(rig_read(&rig.file[0], read, i * PAGE_SIZE, PAGE_SIZE), round);
    /* more than it holds: something has to go, and it holds no more than that */
    for (uint64_t i = 0; i < 2 * n; i++)
        assert_false(rig_read(&rig.file[1], read, i * PAGE_SIZE, PAGE_SIZE));
    cache_stats(rig.c, &s);
    assert_int_equal(s.evicted, 2 * n);
    assert_true(s.pages <= n);

    for (uint64_t i = 0; i < 100; i++)
        rig_write(&rig.file[0], i * PAGE_SIZE, page, PAGE_SIZE, CACHE_WRITE_CALL);
    assert_true(mapping_is_dirty(rig.file[0].m));
    rig_sync(&rig.file[0]);
    assert_false(mapping_is_busy(rig.file[0].m));

    /* own writes do not make the file look changed; another tick does */
    struct attr a = rig_attr(&rig.file[0]);
    struct cache_reval_result r;

    assert_int_equal(mapping_revalidate(rig.file[0].m, &a, false, &r), 0);
    assert_false(r.changed);
    rig.file[0].ticks++;
    a = rig_attr(&rig.file[0]);
    assert_int_equal(mapping_revalidate(rig.file[0].m, &a, false, &r), 0);
    assert_true(r.changed && r.dropped >= 100);
    rig_thread_end();
    rig_close(&rig);
    free(page);
    free(read);
}

/* Every page was read again and again, so that the hand passes each of them before it finds one to
 * take: the reader goes that way itself, and does not wait for a helper to come round. */
static void a_hot_cache_takes_a_new_page_at_once(void **state)
{
    struct rig_read *read = calloc(1, sizeof *read);
    struct rig rig;
    uint32_t n;

    assert_int_equal(rig_open(&rig, 1000 * (PAGE_SIZE + 96), 1, 4000 * PAGE_SIZE, 1 << 20), 0);
    n = rig_capacity(&rig);
    rig_thread_begin();
    for (uint64_t i = 0; i < n + 300; i++) {
        rig_read(&rig.file[0], read, i * PAGE_SIZE, PAGE_SIZE);
        for (int again = 0; again < 3; again++)
            assert_true(rig_read(&rig.file[0], read, i * PAGE_SIZE, PAGE_SIZE));
    }
    assert_int_equal(read->waits, 0);
    rig_thread_end();
    rig_close(&rig);
    free(read);
}

static int64_t our_hits(const struct trace *t, uint32_t *capacity)
{
    struct rig_read *read = calloc(1, sizeof *read);
    int64_t found = 0;
    struct rig rig;

    assert_int_equal(
        rig_open(&rig, 2000 * (PAGE_SIZE + 96), t->universe / 1024 + 1, 1024 * PAGE_SIZE, 1 << 20),
        0);
    *capacity = rig_capacity(&rig);
    rig_thread_begin();
    for (size_t i = 0; i < t->n; i++)
        found += rig_read(&rig.file[t->key[i] / 1024], read,
                          (uint64_t)(t->key[i] % 1024) * PAGE_SIZE, PAGE_SIZE);
    rig_thread_end();
    rig_close(&rig);
    free(read);
    return found;
}

/* Its ghosts are a table of fingerprints in buckets, which forgets some of them too early: not so
 * many that it matters. */
static void reclaim_is_about_s3_fifo(void **state)
{
    for (const struct trace_kind *k = trace_kinds; k->name; k++) {
        uint32_t capacity;
        struct trace t;
        double ours, theirs;

        assert_int_equal(trace_make(&t, k, 80000, 2000, 11), 0);
        ours = 100.0 * (double)our_hits(&t, &capacity) / (double)t.n;
        theirs = 100.0 * (double)hits("S3-FIFO", t.key, t.n, capacity) / (double)t.n;
        print_message("%s: %.2f, S3-FIFO %.2f\n", k->name, ours, theirs);
        assert_true(ours > theirs - 4);
        trace_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(textbook_string),
        cmocka_unit_test(sieve_spares_what_was_visited),
        cmocka_unit_test(s3_fifo_remembers_ghosts),
        cmocka_unit_test(nobody_beats_the_optimum),
        cmocka_unit_test(traces_are_what_they_are_called),
        cmocka_unit_test(same_seed_same_trace),
        cmocka_unit_test(rig_reads_writes_and_evicts),
        cmocka_unit_test(a_hot_cache_takes_a_new_page_at_once),
        cmocka_unit_test(reclaim_is_about_s3_fifo),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
