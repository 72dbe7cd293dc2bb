// SPDX-License-Identifier: Apache-2.0
/* Truncation against writeback and against fetches in flight; what lies beyond. */
#include "tests/unit/cache_fixture.h"

#define P PAGE_SIZE

struct cut {
    struct cache_truncate t;
    bool ready;
};

static void ready(struct cache_truncate *t)
{
    ((struct cut *)t)->ready = true;
}

static void begin(struct fixture *f, struct cut *c, uint64_t size)
{
    *c = (struct cut){.t = {.m = f->m, .size = size, .ready = ready}};
    cache_truncate_begin(&c->t);
    sim_settle();
}

static void end(struct fixture *f, struct cut *c, bool done)
{
    struct token pre, post;

    assert_true(c->ready);
    if (done) {
        fr_setattr_size(f->file, c->t.size, &pre, &post);
        mapping_own_change(f->m, &pre, &post);
    }
    cache_truncate_end(&c->t, done);
    sim_settle();
}

static void write_pages(struct fixture *f, uint64_t off, uint32_t len, uint8_t v)
{
    uint8_t data[8 * PAGE_SIZE];

    memset(data, v, len);
    assert_true(fixture_write(f, off, data, len));
}

static struct fr_call *fetch(struct fixture *f)
{
    struct fr_call *c = fr_find(&f->server, FR_FETCH, NULL, false);

    return c ? c : fr_find(&f->server, FR_FETCH, NULL, true);
}

static void it_waits_for_writes_in_flight(void **state)
{
    struct fixture f;
    struct fixture_sync s;
    struct cut c;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = P}, 0);
    write_pages(&f, 0, 4 * P, 7);
    fixture_sync_start(&f, &s);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 4);
    begin(&f, &c, P + 10);
    assert_false(c.ready);
    for (int i = 0; i < 3; i++)
        fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_false(c.ready);
    fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_true(c.ready);
    end(&f, &c, true);
    fixture_serve(&f);
    assert_true(s.done);
    assert_int_equal(f.file->size, P + 10);
    assert_int_equal(f.file->stable_size, P + 10);
    assert_int_equal(mapping_size(f.m), P + 10);
    fixture_end(&f);
}

static void no_write_starts_meanwhile(void **state)
{
    struct fixture f;
    struct fixture_sync s;
    struct cut c;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);
    write_pages(&f, 0, 4 * P, 7);
    begin(&f, &c, P);
    assert_true(c.ready);
    fixture_sync_start(&f, &s);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 0);
    end(&f, &c, true);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 1);
    assert_int_equal(fr_find(&f.server, FR_WRITE, NULL, false)->write->count, P);
    fixture_serve(&f);
    assert_true(s.done);
    assert_int_equal(f.file->size, P);
    fixture_end(&f);
}

/* "Fill against punch": the reply is of before, and the page was absent. */
static void a_fetch_of_before_fills_nothing(void **state)
{
    struct fixture f;
    struct fixture_read r;
    struct cut c;
    uint8_t zero[PAGE_SIZE] = {0};

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fixture_read_start(&f, &r, 2 * P, P, false, false, NULL);
    fr_apply(fetch(&f));
    begin(&f, &c, P);
    end(&f, &c, true);
    begin(&f, &c, 4 * P);
    end(&f, &c, true);
    fr_deliver(fetch(&f));
    fixture_serve(&f);
    fixture_read_finish(&r);
    fixture_read_end(&r);
    fixture_expect(&f, 2 * P, zero, P);
    fixture_end(&f);
}

static void the_rest_of_the_last_page_is_zero(void **state)
{
    struct fixture f;
    struct cut c;
    uint8_t want[PAGE_SIZE] = {0};

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, P);
    write_pages(&f, P, P, 7);
    memset(want, 7, 100);
    begin(&f, &c, P + 100);
    end(&f, &c, true);
    assert_int_equal(mapping_size(f.m), P + 100);
    begin(&f, &c, 2 * P); /* grows again: what was cut must not come back */
    end(&f, &c, true);
    fixture_expect(&f, P, want, P);
    assert_int_equal(fixture_sync(&f), 0);
    assert_memory_equal(f.file->stable + P, want, P);
    fixture_end(&f);
}

static void the_twin_is_zeroed_as_the_kernel_zeroes_its_copy(void **state)
{
    struct fixture f;
    struct fixture_read r;
    struct cut c;
    uint8_t data[PAGE_SIZE];

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, P);
    mapping_writer_add(f.m);
    fixture_read_start(&f, &r, 0, P, true, false, NULL);
    fixture_serve(&f);
    fixture_read_finish(&r);
    fixture_read_end(&r);
    begin(&f, &c, 10);
    end(&f, &c, true);
    begin(&f, &c, P);
    end(&f, &c, true);
    memset(data, 0, sizeof data);
    memset(data, 1, 10);
    data[50] = 9; /* a store */
    assert_true(fixture_write_as(&f, 0, data, P, CACHE_WRITE_MAPPED, 1, 1));
    assert_int_equal(byteset_count(f.c, page_more(f.c, mapping_find(f.m, 0))->dirty), 1);
    mapping_writer_remove(f.m);
    fixture_end(&f);
}

static void a_sync_whose_bytes_were_cut_off_ends(void **state)
{
    struct fixture f;
    struct fixture_sync s;
    struct cut c;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);
    write_pages(&f, 0, 4 * P, 7);
    begin(&f, &c, 0);
    fixture_sync_start(&f, &s);
    assert_false(s.done);
    end(&f, &c, true);
    assert_true(s.done);
    assert_int_equal(s.s.error, 0);
    fixture_end(&f);
}

static void one_that_failed_cuts_nothing(void **state)
{
    struct fixture f;
    struct cut c;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);
    write_pages(&f, 0, 4 * P, 7);
    begin(&f, &c, 0);
    end(&f, &c, false);
    assert_int_equal(mapping_size(f.m), 4 * P);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable_size, 4 * P);
    assert_int_equal(f.file->stable[3 * P], 7);
    fixture_end(&f);
}

static void a_revalidation_under_way_does_not_bring_the_old_size_back(void **state)
{
    struct fixture f;
    struct fixture_reval v;
    struct cut c;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fr_write(f.file, 0, "x", 1);
    fixture_reval_start(&f, &v, false);
    fr_apply(fr_find(&f.server, FR_GETATTR, NULL, false)); /* says 4 pages */
    begin(&f, &c, P);
    end(&f, &c, true);
    fixture_reval_end(&v);
    assert_int_equal(v.error, 0);
    assert_int_equal(mapping_size(f.m), P);
    fixture_end(&f);
}

/* Somebody else has appended, and a READ which a revalidation lets reach there brings it. Then the
 * file is cut to the size that it had here. */
static void what_somebody_appended_is_cut_off_as_well(void **state)
{
    struct fixture f;
    struct fixture_reval v;
    struct fixture_read r;
    struct cut c;
    uint8_t data[P];

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 100);
    mapping_writer_add(f.m);
    memset(data, 9, sizeof data);
    fr_write(f.file, 100, data, P - 100);
    assert_true(fixture_write(&f, 50, "x", 1));
    fixture_reval_start(&f, &v, false);
    assert_true(fr_serve(&f.server, FR_GETATTR));
    sim_settle();
    assert_int_equal(fr_count(&f.server, FR_WRITE), 1);
    f.k->inode_locked = true; /* holds up the second unmap */
    fixture_serve(&f);
    assert_false(v.done);
    assert_int_equal(f.m->grow_to, P);

    fixture_read_start(&f, &r, 0, P, true, false, NULL);
    fixture_serve(&f);
    fixture_read_finish(&r);
    assert_int_equal(r.data[100], 9);
    fixture_read_end(&r);
    begin(&f, &c, 100);
    end(&f, &c, true);
    f.k->inode_locked = false;
    pthread_cond_broadcast(&f.k->cond);
    fixture_reval_end(&v);
    assert_int_equal(v.error, 0);

    assert_true(fixture_write(&f, P, "y", 1));
    memset(data, 1, 100);
    memset(data + 100, 0, P - 100);
    data[50] = 'x';
    fixture_expect(&f, 0, data, P);
    mapping_writer_remove(f.m);
    fixture_end(&f);
}

/* The same, and what brings it was sent before. */
static void a_fetch_of_before_brings_nothing_that_was_cut_off(void **state)
{
    struct fixture f;
    struct fixture_read r;
    struct cut c;
    uint8_t data[P];

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 100);
    memset(data, 9, sizeof data);
    fr_write(f.file, 100, data, P - 100);
    fixture_read_start(&f, &r, 0, 100, false, false, NULL);
    fr_apply(fetch(&f));
    begin(&f, &c, 100);
    end(&f, &c, true);
    assert_true(fixture_write(&f, P, "y", 1));
    fixture_serve(&f);
    fixture_read_finish(&r);
    fixture_read_end(&r);
    memset(data, 1, 100);
    memset(data + 100, 0, P - 100);
    fixture_expect(&f, 0, data, P);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_waits_for_writes_in_flight),
        cmocka_unit_test(no_write_starts_meanwhile),
        cmocka_unit_test(a_fetch_of_before_fills_nothing),
        cmocka_unit_test(the_rest_of_the_last_page_is_zero),
        cmocka_unit_test(the_twin_is_zeroed_as_the_kernel_zeroes_its_copy),
        cmocka_unit_test(a_sync_whose_bytes_were_cut_off_ends),
        cmocka_unit_test(one_that_failed_cuts_nothing),
        cmocka_unit_test(what_somebody_appended_is_cut_off_as_well),
        cmocka_unit_test(a_fetch_of_before_brings_nothing_that_was_cut_off),
        cmocka_unit_test(a_revalidation_under_way_does_not_bring_the_old_size_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
