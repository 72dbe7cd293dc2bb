// SPDX-License-Identifier: Apache-2.0
/* What comes too late: callers that were killed, files that are gone, memory that ran out. */
#include <errno.h>

#include "tests/unit/cache_fixture.h"

#define P PAGE_SIZE

static void fill(struct fixture *f, uint64_t off, uint32_t len, uint8_t v)
{
    uint8_t data[8 * PAGE_SIZE];

    assert_true(len <= sizeof data);
    memset(data, v, len);
    assert_true(fixture_write(f, off, data, len));
}

/* ---- discarded while under way ---- */

static void a_discarded_write_that_fails_stays_discarded(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);
    fill(&f, 0, 100, 7);
    fixture_sync_start(&f, &s);
    fill(&f, P, 50, 8);
    assert_int_equal(mapping_discard(f.m), 150);
    fill(&f, 2 * P, 10, 9); /* of after: wanted */
    fr_fail(&f.server, FR_WRITE, -ESTALE, 1);
    fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_int_equal(mapping_dirty_bytes(f.m), 10);
    fixture_serve(&f);
    assert_true(s.done);
    fixture_end(&f);
}

static void a_discarded_commit_that_fails_brings_nothing_back(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = P}, 0);
    fill(&f, 0, 2 * P, 7);
    fixture_sync_start(&f, &s);
    fr_serve(&f.server, FR_WRITE);
    fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_int_equal(fr_count(&f.server, FR_COMMIT), 1);
    assert_int_equal(mapping_discard(f.m), 2 * P);
    fr_fail(&f.server, FR_COMMIT, -ESTALE, 1);
    fr_serve(&f.server, FR_COMMIT);
    sim_settle();
    assert_true(s.done);
    assert_false(mapping_is_busy(f.m));
    fixture_end(&f);
}

/* ---- truncations and writes of killed callers ---- */

static void nothing(struct cache_truncate *t)
{
    (void)t;
}

static void a_truncation_cuts_nothing_that_was_written_meanwhile(void **state)
{
    struct fixture f;
    struct cache_truncate t;
    struct token pre, post;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);
    fill(&f, 0, 4 * P, 7);
    assert_int_equal(fixture_sync(&f), 0);
    fill(&f, 3 * P, P, 8);
    t = (struct cache_truncate){.m = f.m, .size = 100, .ready = nothing};
    cache_truncate_begin(&t);
    fill(&f, P + 5, 10, 9);
    fr_setattr_size(f.file, 100, &pre, &post);
    cache_truncate_end(&t, true);
    assert_int_equal(mapping_size(f.m), P + 15);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->size, P + 15);
    assert_int_equal(f.file->stable[P + 14], 9);
    assert_int_equal(f.file->stable[99], 7);
    assert_int_equal(f.file->stable[P + 4], 0);

    /* the next one cuts them like any */
    t = (struct cache_truncate){.m = f.m, .size = 100, .ready = nothing};
    fill(&f, P, 1, 1);
    cache_truncate_begin(&t);
    fr_setattr_size(f.file, 100, &pre, &post);
    cache_truncate_end(&t, true);
    assert_int_equal(mapping_size(f.m), 100);
    assert_int_equal(mapping_dirty_bytes(f.m), 0);
    fixture_end(&f);
}

static bool written;

static void write_ends(struct cache_write *w)
{
    (void)w;
    written = true;
}

static void a_parked_write_given_up_is_left_out(void **state)
{
    struct fixture f;
    atomic_bool given_up = false;
    uint8_t old = 1, new = 2;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.dirty_limit = 4 * P, .dirty_background = 4 * P}, 0);
    fill(&f, 0, 4 * P, 7);

    struct cache_write w = {.m = f.m,
                            .offset = 10,
                            .count = 1,
                            .data = &old,
                            .kind = CACHE_WRITE_CALL,
                            .unique = 5000,
                            .cred = 1,
                            .given_up = &given_up,
                            .done = write_ends};

    written = false;
    assert_int_equal(cache_write(&w), -EINPROGRESS);
    given_up = true; /* answered EINTR; the next caller's is parked behind it, and newer */
    fixture_write(&f, 10, &new, 1);
    fixture_serve(&f);
    assert_true(written);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[10], 2);

    /* alone, with nothing newer over it */
    given_up = false;
    fill(&f, 0, 4 * P, 7);
    w.offset = 20;
    w.unique = 6000;
    written = false;
    assert_int_equal(cache_write(&w), -EINPROGRESS);
    given_up = true;
    fixture_serve(&f);
    assert_true(written);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[20], 7);
    fixture_end(&f);
}

/* ---- attributes beside a WRITE ---- */

static void attributes_of_an_empty_file_do_not_undo_a_write(void **state)
{
    struct fixture f;
    struct token t = {.valid = true, .size = 0};

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);
    assert_true(mapping_adopt(f.m, &(struct token){.valid = true, .size = 77}));
    assert_int_equal(mapping_size(f.m), 77);
    fill(&f, 0, 100, 7);
    assert_false(mapping_adopt(f.m, &t));
    assert_int_equal(mapping_size(f.m), 100);
    fixture_end(&f);
}

/* ---- what is fetched beside old bytes ---- */

/* The walk of an invalidation lets go of the lock; the page is one that it has not come to. */
static void a_fetch_during_an_invalidation_does_not_keep_old_bytes(void **state)
{
    struct fixture f;
    uint8_t want[3] = {66, 66, 66};

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, P);
    fill(&f, 0, 100, 7); /* valid, and the rest is not */
    assert_int_equal(fixture_sync(&f), 0);
    fr_write(f.file, 0, want, 3);
    f.m->generation++;
    fixture_expect(&f, 0, want, 3);
    fixture_end(&f);
}

/* A foreign append that the kernel was not told of: its copy has zeros there. */
static void zeros_of_the_kernel_are_not_stores_over_what_others_appended(void **state)
{
    struct fixture f;
    struct fixture_read r;
    uint8_t theirs[100], copy[301];

    (void)state;
    memset(theirs, 0x55, sizeof theirs);
    fixture_begin(&f, &(struct cache_config){0}, 100);
    mapping_writer_add(f.m);
    fr_write(f.file, 100, theirs, 100);
    fixture_read_start(&f, &r, 0, P, true, false, NULL);
    fixture_serve(&f);
    fixture_read_finish(&r);
    assert_int_equal(r.r.bytes, 100);
    memset(copy, 0, sizeof copy);
    memcpy(copy, r.data, 100);
    fixture_read_end(&r);

    fill(&f, 300, 1, 9); /* makes the file longer, and goes into the kernel's copy */
    copy[300] = 9;
    copy[50] = 0xaa;
    assert_true(fixture_write_as(&f, 0, copy, sizeof copy, CACHE_WRITE_MAPPED, UINT64_MAX / 2, 1));
    assert_int_equal(mapping_dirty_bytes(f.m), 2);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[50], 0xaa);
    assert_int_equal(f.file->stable[150], 0x55);
    assert_int_equal(f.file->stable[300], 9);
    mapping_writer_remove(f.m);
    fixture_end(&f);
}

/* The size that a revalidation found is told at its end; a page at the old end of the file that is
 * read just before has to have what lies beyond. */
static void what_others_appended_is_read_before_the_size_is_told(void **state)
{
    struct fixture f;
    struct fixture_read r;
    struct fixture_reval v;
    uint8_t theirs[100];

    (void)state;
    memset(theirs, 0x55, sizeof theirs);
    fixture_begin(&f, &(struct cache_config){0}, 100);
    mapping_writer_add(f.m);
    fill(&f, 10, 1, 9);
    fr_write(f.file, 100, theirs, sizeof theirs);
    fixture_reval_start(&f, &v, false);
    fr_serve(&f.server, FR_GETATTR);
    sim_settle(); /* it waits for its WRITE */
    assert_int_equal(fr_count(&f.server, FR_WRITE), 1);
    f.k->inode_locked = true; /* and will wait in its second unmap */
    fixture_serve(&f);
    assert_false(v.done);
    assert_int_equal(mapping_size(f.m), 100);

    fixture_read_start(&f, &r, 0, P, true, false, NULL);
    fixture_serve(&f);
    fixture_read_finish(&r);
    assert_int_equal(r.r.bytes, 200);
    assert_int_equal(r.data[150], 0x55); /* the kernel keeps it, whatever its size is now */
    fixture_read_end(&r);

    pthread_mutex_lock(&f.k->lock);
    f.k->inode_locked = false;
    pthread_cond_broadcast(&f.k->cond);
    pthread_mutex_unlock(&f.k->lock);
    fixture_reval_end(&v);
    assert_int_equal(v.error, 0);
    assert_int_equal(mapping_size(f.m), 200);
    fixture_expect(&f, 100, theirs, sizeof theirs);
    mapping_writer_remove(f.m);
    fixture_end(&f);
}

/* ---- memory ---- */

static void a_starved_read_keeps_no_pointer_into_its_file(void **state)
{
    struct fixture f;
    struct fixture_read a, b;
    struct readahead ra = {0};

    (void)state;
    fixture_begin(&f, &(struct cache_config){.size = 8 * (P + 96)}, 32 * P);
    fixture_read_start(&f, &a, 0, 8 * P, false, false, NULL);
    fixture_serve(&f);
    assert_true(a.done); /* and holds all frames */
    fixture_read_start(&f, &b, 16 * P, 4 * P, false, false, &ra);
    assert_false(b.done);
    assert_null(b.r.ra);
    fixture_read_finish(&a);
    fixture_serve(&f);
    assert_true(b.done);
    fixture_read_finish(&b);
    assert_int_equal(b.data[0], 17);
    fixture_read_end(&a);
    fixture_read_end(&b);
    fixture_end(&f);
}

static void an_evicted_page_is_known_when_it_comes_back(void **state)
{
    struct fixture f;
    uint8_t one = 1;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.size = 8 * (P + 96)}, 32 * P);
    for (unsigned i = 0; i < 9; i++)
        fixture_expect(&f, i * P, (uint8_t[]){(uint8_t)(i + 1)}, 1);
    assert_null(mapping_find(f.m, 0));
    fixture_expect(&f, 0, &one, 1);
    assert_true(mapping_find(f.m, 0)->flags & PG_MAIN);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_discarded_write_that_fails_stays_discarded),
        cmocka_unit_test(a_discarded_commit_that_fails_brings_nothing_back),
        cmocka_unit_test(a_truncation_cuts_nothing_that_was_written_meanwhile),
        cmocka_unit_test(a_parked_write_given_up_is_left_out),
        cmocka_unit_test(attributes_of_an_empty_file_do_not_undo_a_write),
        cmocka_unit_test(a_fetch_during_an_invalidation_does_not_keep_old_bytes),
        cmocka_unit_test(zeros_of_the_kernel_are_not_stores_over_what_others_appended),
        cmocka_unit_test(what_others_appended_is_read_before_the_size_is_told),
        cmocka_unit_test(a_starved_read_keeps_no_pointer_into_its_file),
        cmocka_unit_test(an_evicted_page_is_known_when_it_comes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
