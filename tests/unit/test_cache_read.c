// SPDX-License-Identifier: Apache-2.0
/* Reading: what a fetch may be used for, what local bytes do to its reply, readahead, memory. */
#include <errno.h>

#include "tests/unit/cache_fixture.h"

#define P PAGE_SIZE

static struct fr_call *fetch(struct fixture *f, uint64_t page)
{
    struct fr_call *c;

    for (c = f->server.pending; c; c = c->next)
        if (c->kind == FR_FETCH && page >= c->fetch->offset / P &&
            page < (c->fetch->offset + c->fetch->count) / P)
            return c;
    return NULL;
}

static void expect_byte(struct fixture_read *r, uint64_t at, uint8_t v)
{
    assert_int_equal(r->data[at - r->r.offset], v);
}

static void a_hit_asks_nobody(void **state)
{
    struct fixture f;
    uint8_t want[3] = {1, 1, 2};

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fixture_expect(&f, P - 2, want, 3);
    assert_int_equal(f.server.calls[FR_FETCH], 1);
    fixture_expect(&f, P - 2, want, 3);
    assert_int_equal(f.server.calls[FR_FETCH], 1);
    assert_int_equal(f.c->n.hits, 2);
    fixture_end(&f);
}

static void two_readers_share_a_fetch(void **state)
{
    struct fixture f;
    struct fixture_read a, b;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fixture_read_start(&f, &a, 0, 2 * P, false, false, NULL);
    fixture_read_start(&f, &b, P, P, false, false, NULL);
    assert_int_equal(fr_count(&f.server, FR_FETCH), 1);
    fixture_serve(&f);
    fixture_read_finish(&a);
    fixture_read_finish(&b);
    expect_byte(&b, P, 2);
    fixture_read_end(&a);
    fixture_read_end(&b);
    fixture_end(&f);
}

/* F1: acknowledged, and committed, while the fetch was on its way. */
static void all_local_bytes_win_over_the_reply(void **state)
{
    struct fixture f;
    struct fixture_read r;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fixture_read_start(&f, &r, 0, P, false, false, NULL);
    fr_apply(fetch(&f, 0)); /* the server has sampled the page */
    assert_true(fixture_write(&f, 5, "\x50", 1));

    struct fixture_sync s;

    fixture_sync_start(&f, &s);
    assert_true(fr_serve(&f.server, FR_WRITE));
    sim_settle();
    assert_true(s.done);
    assert_false(mapping_is_busy(f.m));
    assert_true(fixture_write(&f, 6, "\x60", 1));
    fr_deliver(fetch(&f, 0));
    fixture_read_finish(&r);
    expect_byte(&r, 4, 1);
    expect_byte(&r, 5, 0x50);
    expect_byte(&r, 6, 0x60);
    fixture_read_end(&r);
    fixture_expect(&f, 5, "\x50\x60", 2);
    fixture_end(&f);
}

static void a_clean_page_with_a_fetch_in_flight_stays(void **state)
{
    struct fixture f;
    struct fixture_read r;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fixture_read_start(&f, &r, 0, P, false, false, NULL);
    fr_apply(fetch(&f, 0));
    assert_true(fixture_write(&f, 5, "\x50", 1));

    struct fixture_sync s;

    fixture_sync_start(&f, &s);
    fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_int_equal(cache_drop_clean(f.c), 0);
    fr_deliver(fetch(&f, 0));
    fixture_read_finish(&r);
    expect_byte(&r, 5, 0x50);
    fixture_read_end(&r);
    fixture_end(&f);
}

/* F2: readahead of before the revalidation must not answer a READ of after it. */
static void an_old_prefetch_answers_nobody(void **state)
{
    struct fixture f;
    struct fixture_read r;
    struct fixture_reval v;
    struct readahead ra = {0};

    (void)state;
    fixture_begin(&f, &(struct cache_config){.readahead = 16 * P, .rsize = 4 * P}, 32 * P);
    for (unsigned i = 0; i < 2; i++) {
        fixture_read_start(&f, &r, i * P, P, false, false, &ra);
        while (!r.done) {
            fr_deliver(fetch(&f, i));
            sim_settle();
        }
        fixture_read_finish(&r);
        fixture_read_end(&r);
    }
    assert_non_null(fetch(&f, 4)); /* a prefetch */

    struct fr_call *old = fetch(&f, 4);

    fr_apply(old);
    fr_write(f.file, 4 * P, "\x99", 1);
    fixture_reval_start(&f, &v, false);
    while (!v.done) {
        assert_true(fr_serve(&f.server, FR_GETATTR));
        sim_settle();
    }
    fixture_reval_end(&v);
    fixture_read_start(&f, &r, 4 * P, P, false, false, NULL);
    assert_false(r.done);
    fr_deliver(old);
    sim_settle();
    assert_false(r.done); /* attached to it: served 5, the byte of before */
    fixture_serve(&f);
    fixture_read_finish(&r);
    expect_byte(&r, 4 * P, 0x99);
    fixture_read_end(&r);
    fixture_end(&f);
}

static void an_old_fetch_is_not_inserted(void **state)
{
    struct fixture f;
    struct fixture_read r;
    struct fixture_reval v;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fixture_read_start(&f, &r, 0, P, false, false, NULL);

    struct fr_call *old = fetch(&f, 0);

    fr_apply(old);
    fr_write(f.file, 0, "\x99", 1);
    fixture_reval_start(&f, &v, false);
    fr_serve(&f.server, FR_GETATTR);
    sim_settle();
    assert_true(v.done);
    fr_deliver(old);
    fixture_read_finish(&r); /* the READ that caused it was under way before: it may have it */
    fixture_read_end(&r);
    fixture_expect(&f, 0, "\x99", 1);
    fixture_reval_end(&v);
    fixture_end(&f);
}

static void short_replies_are_completed(void **state)
{
    struct fixture f;
    uint8_t want[3 * PAGE_SIZE];

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 3 * P - 100);
    f.server.read_most = 1000;
    for (unsigned i = 0; i < 3 * P - 100; i++)
        want[i] = fixture_byte(i);
    fixture_expect(&f, 0, want, 3 * P - 100);
    assert_true(f.server.calls[FR_FETCH] >= 12);
    fixture_end(&f);
}

static void neither_data_nor_end_is_an_error(void **state)
{
    struct fixture f;
    struct fixture_read r;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 2 * P);
    fixture_read_start(&f, &r, 0, P, false, false, NULL);
    fr_apply(fetch(&f, 0));
    fetch(&f, 0)->fetch->done = 0;
    fetch(&f, 0)->fetch->eof = false;
    fr_deliver(fetch(&f, 0));
    fixture_read_finish(&r);
    assert_int_equal(r.r.error, -EIO);
    fixture_read_end(&r);
    fixture_end(&f);
}

static void an_error_is_for_who_asked(void **state)
{
    struct fixture f;
    struct fixture_read r, other;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 2 * P);
    fr_fail(&f.server, FR_FETCH, -EACCES, 1);
    fixture_read_start(&f, &r, 0, P, false, false, NULL);
    fixture_read_start(&f, &other, 0, P, false, false, NULL);
    fixture_serve(&f);
    fixture_read_finish(&r);
    assert_int_equal(r.r.error, -EACCES);
    fixture_read_finish(&other);
    assert_int_equal(other.r.error, 0);
    expect_byte(&other, 0, 1);
    fixture_read_end(&r);
    fixture_read_end(&other);
    fixture_end(&f);
}

/* Rule 8: as long as the kernel was told so, and with zeros. */
static void a_read_reaches_to_the_local_size(void **state)
{
    struct fixture f;
    struct fixture_read r;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, P / 2);
    assert_true(fixture_write(&f, 3 * P, "end", 3));
    assert_int_equal(mapping_size(f.m), 3 * P + 3);
    fixture_read_start(&f, &r, 0, 8 * P, true, false, NULL);
    fixture_serve(&f);
    fixture_read_finish(&r);
    assert_int_equal(r.r.bytes, 3 * P + 3);
    expect_byte(&r, P / 2 - 1, 1);
    for (unsigned i = P / 2; i < 3 * P; i++)
        expect_byte(&r, i, 0);
    expect_byte(&r, 3 * P + 2, 'd');
    fixture_read_end(&r);
    fixture_end(&f);
}

static void a_file_cut_elsewhere_is_padded_until_the_kernel_is_told(void **state)
{
    struct fixture f;
    struct fixture_read r;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fr_truncate(f.file, P + 10);
    fixture_read_start(&f, &r, 0, 4 * P, true, false, NULL);
    fixture_serve(&f);
    fixture_read_finish(&r);
    assert_int_equal(r.r.bytes, 4 * P);
    expect_byte(&r, P + 9, 2);
    expect_byte(&r, P + 10, 0);
    expect_byte(&r, 4 * P - 1, 0);
    fixture_read_end(&r);
    fixture_end(&f);
}

static void a_direct_read_asks_the_server_and_sees_local_bytes(void **state)
{
    struct fixture f;
    struct fixture_read r;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fixture_expect(&f, 0, "\1", 1);
    fr_write(f.file, 1, "\x77", 1); /* the cache does not know */
    assert_true(fixture_write(&f, 2, "\x22", 1));
    fixture_read_start(&f, &r, 0, P, false, true, NULL);
    assert_false(r.done);
    fixture_serve(&f);
    fixture_read_finish(&r);
    expect_byte(&r, 0, 1);
    expect_byte(&r, 1, 0x77);
    expect_byte(&r, 2, 0x22);
    fixture_read_end(&r);
    fixture_expect(&f, 1, "\1", 1); /* and inserted nothing */
    fixture_end(&f);
}

static void a_direct_read_overtaken_by_a_commit_asks_again(void **state)
{
    struct fixture f;
    struct fixture_read r;
    struct fixture_sync s;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    assert_true(fixture_write(&f, 2, "\x22", 1));
    fixture_read_start(&f, &r, 0, P, false, true, NULL);
    fr_apply(fetch(&f, 0));
    fixture_sync_start(&f, &s);
    fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_true(s.done);
    fr_deliver(fetch(&f, 0));
    assert_false(r.done);
    fixture_serve(&f);
    fixture_read_finish(&r);
    expect_byte(&r, 2, 0x22);
    fixture_read_end(&r);
    fixture_end(&f);
}

/* ---- readahead ---- */

static void read_all(struct fixture *f, struct readahead *ra, uint64_t off, uint32_t len)
{
    struct fixture_read r;

    fixture_read_start(f, &r, off, len, false, false, ra);
    if (!r.done)
        fixture_serve(f);
    fixture_read_finish(&r);
    for (uint32_t i = 0; i < r.r.bytes; i += 512)
        expect_byte(&r, off + i, fixture_byte(off + i));
    fixture_read_end(&r);
}

static void a_sequential_reader_finds_it_there(void **state)
{
    struct fixture f;
    struct readahead ra = {0};
    unsigned waited = 0;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.readahead = 32 * P, .rsize = 8 * P}, 64 * P);
    for (unsigned i = 0; i < 64; i++) {
        uint64_t before = f.c->n.misses;

        read_all(&f, &ra, i * P, P);
        waited += f.c->n.misses != before;
        fixture_serve(&f);
    }
    assert_in_range(waited, 1, 4);
    assert_true(f.server.calls[FR_FETCH] <= 16);
    assert_true(f.c->n.ahead_used >= 56);
    fixture_end(&f);
}

static void a_strided_reader_finds_it_there(void **state)
{
    struct fixture f;
    struct readahead ra = {0};
    unsigned waited = 0;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.readahead = 32 * P, .rsize = 8 * P}, 64 * P);
    for (unsigned i = 0; i < 16; i++) {
        uint64_t before = f.c->n.misses;

        read_all(&f, &ra, i * 4 * P, P);
        waited += f.c->n.misses != before;
    }
    assert_in_range(waited, 1, 6);
    fixture_end(&f);
}

static void a_random_reader_is_not_punished(void **state)
{
    static const unsigned at[] = {13, 5, 40, 2, 61, 30, 9, 55, 21, 47, 34, 17};
    struct fixture f;
    struct readahead ra = {0};

    (void)state;
    fixture_begin(&f, &(struct cache_config){.readahead = 32 * P, .rsize = 8 * P}, 64 * P);
    for (unsigned i = 0; i < 12; i++)
        read_all(&f, &ra, at[i] * P, P);
    assert_int_equal(f.c->n.ahead, 0);
    assert_int_equal(f.c->n.fetch_bytes, 12 * P);
    fixture_end(&f);
}

/* ---- memory ---- */

static void readers_starve_in_turn_and_get_on(void **state)
{
    struct fixture f;
    struct fixture_read r[6];

    (void)state;
    fixture_begin(&f, &(struct cache_config){.size = 20 * (P + 96)}, 64 * P);
    for (unsigned i = 0; i < 6; i++)
        fixture_read_start(&f, &r[i], i * 8 * P, 8 * P, false, false, NULL);
    assert_true(f.c->any_starved);
    assert_true(f.c->frames_used <= 20);
    for (unsigned i = 0; i < 6; i++) {
        for (int n = 0; n < 100 && !r[i].done; n++)
            fixture_serve(&f);
        fixture_read_finish(&r[i]);
        assert_int_equal(r[i].r.error, 0);
        expect_byte(&r[i], i * 8 * P + 7 * P, (uint8_t)(i * 8 + 8));
        fixture_read_end(&r[i]);
        sim_settle();
        assert_true(f.c->frames_used <= 20);
    }
    assert_false(f.c->any_starved);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hit_asks_nobody),
        cmocka_unit_test(two_readers_share_a_fetch),
        cmocka_unit_test(all_local_bytes_win_over_the_reply),
        cmocka_unit_test(a_clean_page_with_a_fetch_in_flight_stays),
        cmocka_unit_test(an_old_prefetch_answers_nobody),
        cmocka_unit_test(an_old_fetch_is_not_inserted),
        cmocka_unit_test(short_replies_are_completed),
        cmocka_unit_test(neither_data_nor_end_is_an_error),
        cmocka_unit_test(an_error_is_for_who_asked),
        cmocka_unit_test(a_read_reaches_to_the_local_size),
        cmocka_unit_test(a_file_cut_elsewhere_is_padded_until_the_kernel_is_told),
        cmocka_unit_test(a_direct_read_asks_the_server_and_sees_local_bytes),
        cmocka_unit_test(a_direct_read_overtaken_by_a_commit_asks_again),
        cmocka_unit_test(a_sequential_reader_finds_it_there),
        cmocka_unit_test(a_strided_reader_finds_it_there),
        cmocka_unit_test(a_random_reader_is_not_punished),
        cmocka_unit_test(readers_starve_in_turn_and_get_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
