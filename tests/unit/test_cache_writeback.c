// SPDX-License-Identifier: Apache-2.0
/* Writing back: what is sent, what an answer cleans, who is told of an error, who waits. */
#include <errno.h>

#include "tests/unit/cache_fixture.h"

#define P PAGE_SIZE

static void fill(struct fixture *f, uint64_t off, uint32_t len, uint8_t v)
{
    uint8_t *data = malloc(len);

    assert_non_null(data);
    memset(data, v, len);
    assert_true(fixture_write(f, off, data, len));
    free(data);
}

static struct fr_call *pending(struct fixture *f, enum fr_kind kind)
{
    struct fr_call *c = fr_find(&f->server, kind, NULL, false);

    return c ? c : fr_find(&f->server, kind, NULL, true);
}

static void neighbours_go_in_one_write(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = 4 * P}, 0);
    for (unsigned i = 0; i < 6; i++) /* 6 pages, written by halves */
        for (unsigned h = 0; h < 2; h++)
            fill(&f, i * P + h * P / 2, P / 2, (uint8_t)(i + 1));
    fixture_sync_start(&f, &s);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 2);
    assert_int_equal(pending(&f, FR_WRITE)->write->offset, 0);
    assert_int_equal(pending(&f, FR_WRITE)->write->count, 4 * P);
    fr_serve(&f.server, FR_WRITE);
    assert_int_equal(pending(&f, FR_WRITE)->write->offset, 4 * P);
    assert_int_equal(pending(&f, FR_WRITE)->write->count, 2 * P);
    fixture_serve(&f);
    assert_true(s.done);
    assert_int_equal(f.file->stable[5 * P], 6);
    assert_int_equal(f.server.calls[FR_COMMIT], 1);
    fixture_end(&f);
}

static void a_write_carries_only_what_was_written(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 2 * P);
    fixture_expect(&f, 0, "\1", 1); /* cached, whole */
    fill(&f, 10, 1, 99);
    fill(&f, 12, 3, 99);
    fixture_sync_start(&f, &s);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 2);
    fr_write(f.file, 11, "\x77", 1); /* somebody else's byte between ours */
    fixture_serve(&f);
    assert_int_equal(f.file->stable[10], 99);
    assert_int_equal(f.file->stable[11], 0x77);
    assert_int_equal(f.file->stable[14], 99);
    assert_int_equal(f.file->stable[15], 1);
    fixture_end(&f);
}

static void one_write_that_is_waited_for_is_file_sync(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);
    fill(&f, 0, 100, 7);
    fixture_sync_start(&f, &s);
    assert_true(pending(&f, FR_WRITE)->write->file_sync);
    fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_true(s.done);
    assert_int_equal(s.s.error, 0);
    assert_int_equal(f.server.calls[FR_COMMIT], 0);
    assert_int_equal(f.file->stable[99], 7);
    fixture_end(&f);
}

static void a_stream_is_written_behind_and_committed_at_its_end(void **state)
{
    struct fixture f;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = 2 * P}, 0);
    for (unsigned i = 0; i < 3; i++)
        fill(&f, i * 2 * P, 2 * P, 7);
    fill(&f, 6 * P, P, 7);
    sim_settle();
    assert_int_equal(fr_count(&f.server, FR_WRITE), 0); /* too short, so far */
    fill(&f, 7 * P, P, 7);
    fill(&f, 8 * P, P, 7); /* half a WRITE: waits */
    sim_settle();
    assert_int_equal(fr_count(&f.server, FR_WRITE), 4);
    for (unsigned i = 0; i < 4; i++)
        fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_int_equal(fr_count(&f.server, FR_WRITE), 0);
    fill(&f, 9 * P, P, 7);
    sim_settle();
    assert_int_equal(fr_count(&f.server, FR_WRITE), 1);
    assert_int_equal(pending(&f, FR_WRITE)->write->offset, 8 * P);
    assert_int_equal(pending(&f, FR_WRITE)->write->count, 2 * P);
    fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_int_equal(f.server.calls[FR_COMMIT], 0);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.server.calls[FR_COMMIT], 1);
    assert_int_equal(f.file->stable[10 * P - 1], 7);
    fixture_end(&f);
}

/* The kernel's own writing back, under kernel_writeback: what it has taken from a write(2) is no
 * less a stream. */
static void a_stream_of_the_kernels_is_written_behind(void **state)
{
    struct fixture f;
    uint8_t data[2 * P];

    (void)state;
    memset(data, 7, sizeof data);
    fixture_begin(&f, &(struct cache_config){.wsize = 2 * P, .kernel_writeback = true}, 0);
    for (unsigned i = 0; i < 4; i++)
        assert_true(fixture_write_as(&f, i * 2 * P, data, 2 * P, CACHE_WRITE_MAPPED, i + 1, 0));
    sim_settle();
    assert_int_equal(fr_count(&f.server, FR_WRITE), 4);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.server.calls[FR_WRITE], 4);
    assert_int_equal(f.server.calls[FR_COMMIT], 1);
    assert_int_equal(f.file->stable[8 * P - 1], 7);
    fixture_end(&f);
}

static void a_stream_that_stops_is_committed_by_the_flusher(void **state)
{
    struct fixture f;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = P, .dirty_expire_ns = 2000000000}, 0);
    for (unsigned i = 0; i < 4; i++)
        fill(&f, i * P, P, 7);
    sim_settle();
    while (fr_count(&f.server, FR_WRITE))
        fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_int_equal(f.c->n.unstable, 4);
    assert_int_equal(fr_count(&f.server, FR_COMMIT), 0);
    for (unsigned i = 0; i < 20 && !fr_count(&f.server, FR_COMMIT); i++) {
        sim_advance(500000000);
        sim_settle();
    }
    assert_int_equal(fr_count(&f.server, FR_COMMIT), 1);
    fixture_serve(&f);
    assert_int_equal(f.c->n.unstable, 0);
    fixture_end(&f);
}

/* Its WRITEs are answered so late that the flusher, with nothing dirty, has gone to sleep. */
static void a_stream_answered_late_is_committed_by_the_flusher(void **state)
{
    struct fixture f;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = P, .dirty_expire_ns = 2000000000}, 0);
    for (unsigned i = 0; i < 4; i++)
        fill(&f, i * P, P, 7);
    for (unsigned i = 0; i < 20; i++) {
        sim_advance(500000000);
        sim_settle();
    }
    assert_int_equal(fr_count(&f.server, FR_WRITE), 4);
    while (fr_count(&f.server, FR_WRITE))
        fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_int_equal(f.c->n.unstable, 4);
    for (unsigned i = 0; i < 20 && !fr_count(&f.server, FR_COMMIT); i++) {
        sim_advance(500000000);
        sim_settle();
    }
    assert_int_equal(fr_count(&f.server, FR_COMMIT), 1);
    fixture_serve(&f);
    fixture_end(&f);
}

static void a_reboot_before_commit_dirties_again(void **state)
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
    fr_reboot_file(f.file);
    assert_int_equal(f.file->data[0], 0);
    fr_serve(&f.server, FR_COMMIT);
    sim_settle();
    assert_false(s.done);
    assert_int_equal(f.c->n.verifier_changes, 1);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 2);
    fixture_serve(&f);
    assert_true(s.done);
    assert_int_equal(s.s.error, 0);
    assert_int_equal(f.file->stable[0], 7);
    assert_int_equal(f.file->stable[2 * P - 1], 7);
    fixture_end(&f);
}

static void a_write_under_a_new_verifier_dirties_the_others(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = P}, 0);
    fill(&f, 0, 2 * P, 7);
    fixture_sync_start(&f, &s);
    fr_serve(&f.server, FR_WRITE);
    fr_reboot_file(f.file); /* loses the first, before it takes the second */
    fr_serve(&f.server, FR_WRITE);
    fixture_serve(&f);
    assert_true(s.done);
    assert_int_equal(s.s.error, 0);
    assert_int_equal(f.file->stable[0], 7);
    assert_int_equal(f.file->stable[P], 7);
    fixture_end(&f);
}

static void a_commit_covers_only_what_was_acknowledged_before_it(void **state)
{
    struct fixture f;
    struct fixture_sync s, s2;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = P}, 0);
    fill(&f, 0, 2 * P, 7);
    fixture_sync_start(&f, &s);
    fr_serve(&f.server, FR_WRITE);
    fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_int_equal(fr_count(&f.server, FR_COMMIT), 1);
    fr_apply(pending(&f, FR_COMMIT));
    fill(&f, 2 * P, 2 * P, 8);
    fixture_sync_start(&f, &s2);
    while (fr_count(&f.server, FR_WRITE))
        fr_serve(&f.server, FR_WRITE);
    sim_settle();
    fr_deliver(pending(&f, FR_COMMIT)); /* of before */
    sim_settle();
    assert_true(s.done);
    assert_false(s2.done);
    assert_int_equal(f.file->stable[2 * P], 0);
    fr_reboot_file(f.file);
    fixture_serve(&f);
    assert_true(s2.done);
    assert_int_equal(f.file->stable[2 * P], 8);
    fixture_end(&f);
}

static void a_short_write_is_followed_by_the_rest(void **state)
{
    struct fixture f;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);
    f.server.write_most = 1000;
    fill(&f, 0, 3 * P + 5, 7);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable_size, 3 * P + 5);
    for (unsigned i = 0; i < 3 * P + 5; i++)
        assert_int_equal(f.file->stable[i], 7);
    fixture_end(&f);
}

static void a_page_is_in_one_write_at_a_time(void **state)
{
    struct fixture f;
    struct fixture_sync s, s2;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.stable_writes = true}, 0);
    fill(&f, 0, P, 1);
    fixture_sync_start(&f, &s);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 1);
    fill(&f, 0, P, 2);
    fixture_sync_start(&f, &s2);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 1);
    fr_serve(&f.server, FR_WRITE);
    assert_int_equal(f.file->data[0], 1);
    sim_settle();
    assert_true(s.done);
    assert_false(s2.done);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 1);
    fixture_serve(&f);
    assert_true(s2.done);
    assert_int_equal(f.file->stable[0], 2);
    fixture_end(&f);
}

/* lib/errseq.c: once each, for everyone who was there when it happened. */
static void an_error_reaches_each_descriptor_once(void **state)
{
    struct fixture f;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);

    uint64_t a = mapping_error_sample(f.m), b = mapping_error_sample(f.m), late;

    fill(&f, 0, 10, 7);
    fr_fail(&f.server, FR_WRITE, -ENOSPC, 1);
    assert_int_equal(fixture_sync(&f), -ENOSPC);
    assert_int_equal(mapping_error_last(f.m), -ENOSPC);
    late = mapping_error_sample(f.m);
    assert_int_equal(mapping_error_check(f.m, &a), -ENOSPC);
    assert_int_equal(mapping_error_check(f.m, &a), 0);
    assert_int_equal(mapping_error_check(f.m, &b), -ENOSPC);
    assert_int_equal(mapping_error_check(f.m, &b), 0);
    assert_int_equal(mapping_error_check(f.m, &late), 0);
    assert_true(mapping_is_dirty(f.m));
    fr_fail(&f.server, FR_WRITE, -EDQUOT, 1);
    assert_int_equal(fixture_sync(&f), -EDQUOT);
    assert_int_equal(mapping_error_check(f.m, &late), -EDQUOT);
    assert_int_equal(mapping_error_check(f.m, &a), -EDQUOT);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(mapping_error_last(f.m), 0);
    assert_int_equal(mapping_error_check(f.m, &late), 0);
    fixture_end(&f);
}

static void once_there_is_room_the_file_is_whole(void **state)
{
    struct fixture f;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = P, .dirty_expire_ns = 1000000}, 0);
    fr_fail(&f.server, FR_WRITE, -ENOSPC, 9);
    for (unsigned i = 0; i < 8; i++)
        fill(&f, i * P, P, (uint8_t)(i + 1));
    fill(&f, 3 * P + 7, 1, 99);
    assert_int_equal(fixture_sync(&f), -ENOSPC);
    assert_true(mapping_is_dirty(f.m));
    fixture_expect(&f, 3 * P + 7, "\x63", 1);
    /* Nobody asks again: after the backoff it is tried by itself. */
    for (int i = 0; i < 20 && mapping_is_busy(f.m); i++) {
        sim_advance(2000000000);
        fixture_serve(&f);
    }
    assert_false(mapping_is_dirty(f.m));
    assert_int_equal(fixture_sync(&f), 0);
    for (unsigned i = 0; i < 8 * P; i++)
        assert_int_equal(f.file->stable[i], i == 3 * P + 7 ? 99 : i / P + 1);
    fixture_end(&f);
}

static void a_failed_commit_is_told_and_tried_again(void **state)
{
    struct fixture f;
    uint64_t seen;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = P}, 0);
    seen = mapping_error_sample(f.m);
    fill(&f, 0, 2 * P, 7);
    fr_fail(&f.server, FR_COMMIT, -EIO, 1);
    assert_int_equal(fixture_sync(&f), -EIO);
    assert_int_equal(mapping_error_check(f.m, &seen), -EIO);
    assert_true(mapping_is_busy(f.m));
    fr_reboot_file(f.file);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[0], 7);
    fixture_end(&f);
}

static void a_sync_ends_under_a_steady_writer(void **state)
{
    struct fixture f;
    struct fixture_sync s;
    unsigned rounds = 0;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = P}, 0);
    fill(&f, 0, 8 * P, 1);
    fixture_sync_start(&f, &s);
    while (!s.done) {
        fill(&f, (rounds % 8) * P, P, (uint8_t)(rounds + 2));
        assert_true(fr_serve(&f.server, FR_WRITE) || fr_serve(&f.server, FR_COMMIT));
        sim_settle();
        rounds++;
        assert_true(rounds < 60);
    }
    for (unsigned i = 0; i < 8; i++)
        assert_true(f.file->stable[i * P] >= 1);
    fixture_end(&f);
}

static void a_write_goes_under_the_credential_of_its_page(void **state)
{
    struct fixture f;
    struct fixture_sync s;
    const uint16_t cred[] = {3, 3, 5, 3};
    unsigned seen = 0;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);
    for (unsigned i = 0; i < 4; i++) {
        uint8_t data[PAGE_SIZE] = {1};

        assert_true(fixture_write_as(&f, i * P, data, P, CACHE_WRITE_CALL, i + 1, cred[i]));
    }
    fixture_sync_start(&f, &s);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 3);
    for (struct fr_call *c = f.server.pending; c; c = c->next, seen++)
        assert_int_equal(c->write->cred, cred[c->write->offset / P]);
    assert_int_equal(seen, 3);
    fixture_end(&f);
}

static void writers_wait_at_the_hard_limit(void **state)
{
    struct fixture f;
    uint8_t data[PAGE_SIZE] = {9};
    unsigned taken = 0;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.dirty_limit = 8 * P, .dirty_background = 4 * P}, 0);
    while (fixture_write(&f, taken * P, data, P))
        assert_true(++taken < 16);
    assert_int_equal(taken, 8);
    assert_true(f.c->any_parked);
    assert_int_equal(f.c->n.throttled, 1);
    assert_false(fixture_write(&f, (taken + 1) * P, data, P)); /* behind it */
    sim_settle();
    assert_true(fr_count(&f.server, FR_WRITE) > 0);
    for (int i = 0; i < 50 && f.c->any_parked; i++) {
        assert_true(f.c->busy_pages <= 8);
        assert_true(fr_serve(&f.server, FR_WRITE) || fr_serve(&f.server, FR_COMMIT));
        sim_settle();
    }
    assert_false(f.c->any_parked);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[taken * P], 9);
    assert_int_equal(f.file->stable[(taken + 1) * P], 9);
    fixture_end(&f);
}

static void a_mapped_page_does_not_wait_for_the_limit(void **state)
{
    struct fixture f;
    uint8_t data[PAGE_SIZE];

    (void)state;
    memset(data, 9, sizeof data);
    fixture_begin(&f, &(struct cache_config){.dirty_limit = 2 * P}, 4 * P);
    mapping_writer_add(f.m);

    struct fixture_read r;

    fixture_read_start(&f, &r, 0, 4 * P, true, false, NULL);
    fixture_serve(&f);
    fixture_read_finish(&r);
    fixture_read_end(&r);
    for (unsigned i = 0; i < 4; i++)
        assert_true(fixture_write_as(&f, i * P, data, P, CACHE_WRITE_MAPPED, i + 1, 1));
    assert_int_equal(f.c->busy_pages, 4);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[3 * P], 9);
    mapping_writer_remove(f.m);
    fixture_end(&f);
}

static void old_dirty_bytes_go_by_themselves(void **state)
{
    struct fixture f;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.dirty_expire_ns = 5000000000ull}, 0);
    fill(&f, 0, 10, 7);
    sim_settle();
    assert_int_equal(fr_pending(&f.server), 0);
    sim_advance(1000000000);
    sim_settle();
    assert_int_equal(fr_pending(&f.server), 0);
    for (int i = 0; i < 12; i++) {
        sim_advance(600000000);
        sim_settle();
    }
    assert_int_equal(fr_count(&f.server, FR_WRITE), 1);
    fixture_end(&f);
}

/* A stream written behind does not make the rest of the file any younger. */
static void old_dirty_bytes_beside_a_stream_go_by_themselves(void **state)
{
    struct fixture f;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = P, .dirty_expire_ns = 5000000000ull}, 0);
    fill(&f, 60 * P, 10, 9);
    for (unsigned i = 0; i < 40 && f.file->size <= 60 * P; i++) {
        fill(&f, i * P, P, 7);
        sim_advance(600000000);
        fixture_serve(&f);
    }
    assert_int_equal(f.file->size, 60 * P + 10);
    fixture_end(&f);
}

static void a_discard_is_by_name_and_counts(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);
    fill(&f, 0, 10, 7);
    fr_fail(&f.server, FR_WRITE, -EACCES, 1);
    assert_int_equal(fixture_sync(&f), -EACCES);
    assert_int_equal(mapping_discard(f.m), 10);
    assert_false(mapping_is_busy(f.m));
    fixture_sync_start(&f, &s);
    assert_true(s.done);
    assert_int_equal(f.file->size, 0);
    fixture_end(&f);
}

/* A writer that waits below the limit goes on when what filled it is discarded. */
static void a_discard_lets_writers_go_on(void **state)
{
    struct fixture f;
    struct fk_file *other;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.dirty_limit = 2 * P, .dirty_background = 2 * P}, 0);
    other = fk_new(f.c, 2, f.file, FIXTURE_PAGES);
    fr_fail(&f.server, FR_WRITE, -ENOSPC, 1000);
    assert_true(fixture_write(&f, 0, "abc", 3));
    assert_true(fixture_write(&f, P, "abc", 3));
    assert_int_equal(fixture_sync(&f), -ENOSPC);

    struct mapping *full = f.m;

    f.m = other->m;
    assert_false(fixture_write(&f, 2 * P, "abc", 3));
    f.m = full;
    fixture_serve(&f);
    assert_true(f.c->any_parked);
    assert_int_equal(mapping_discard(f.m), 6);
    sim_settle();
    for (unsigned i = 0; i < 20 && f.c->any_parked; i++) {
        sim_advance(500000000);
        fixture_serve(&f);
    }
    assert_false(f.c->any_parked);
    memset(f.server.errors, 0, sizeof f.server.errors);
    f.m = other->m;
    assert_int_equal(fixture_sync(&f), 0);
    assert_memory_equal(f.file->stable + 2 * P, "abc", 3);
    fk_free(other);
    f.m = full;
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_go_in_one_write),
        cmocka_unit_test(a_write_carries_only_what_was_written),
        cmocka_unit_test(one_write_that_is_waited_for_is_file_sync),
        cmocka_unit_test(a_stream_is_written_behind_and_committed_at_its_end),
        cmocka_unit_test(a_stream_of_the_kernels_is_written_behind),
        cmocka_unit_test(a_stream_that_stops_is_committed_by_the_flusher),
        cmocka_unit_test(a_stream_answered_late_is_committed_by_the_flusher),
        cmocka_unit_test(a_reboot_before_commit_dirties_again),
        cmocka_unit_test(a_write_under_a_new_verifier_dirties_the_others),
        cmocka_unit_test(a_commit_covers_only_what_was_acknowledged_before_it),
        cmocka_unit_test(a_short_write_is_followed_by_the_rest),
        cmocka_unit_test(a_page_is_in_one_write_at_a_time),
        cmocka_unit_test(an_error_reaches_each_descriptor_once),
        cmocka_unit_test(once_there_is_room_the_file_is_whole),
        cmocka_unit_test(a_failed_commit_is_told_and_tried_again),
        cmocka_unit_test(a_sync_ends_under_a_steady_writer),
        cmocka_unit_test(a_write_goes_under_the_credential_of_its_page),
        cmocka_unit_test(writers_wait_at_the_hard_limit),
        cmocka_unit_test(a_mapped_page_does_not_wait_for_the_limit),
        cmocka_unit_test(old_dirty_bytes_go_by_themselves),
        cmocka_unit_test(old_dirty_bytes_beside_a_stream_go_by_themselves),
        cmocka_unit_test(a_discard_is_by_name_and_counts),
        cmocka_unit_test(a_discard_lets_writers_go_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
