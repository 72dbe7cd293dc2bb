// SPDX-License-Identifier: Apache-2.0
/* Memory: the budget, which page goes, which never does. */
#include "tests/unit/cache_fixture.h"

#define P         PAGE_SIZE
#define FRAMES(n) ((uint64_t)(n) * (P + 96))

static void read_page(struct fixture *f, uint64_t page)
{
    struct fixture_read r;

    fixture_read_start(f, &r, page * P, P, false, false, NULL);
    for (int i = 0; i < 50 && !r.done; i++)
        fixture_serve(f);
    fixture_read_finish(&r);
    assert_int_equal(r.data[0], fixture_byte(page * P));
    fixture_read_end(&r);
}

static bool is_cached(struct fixture *f, uint64_t page)
{
    struct page *p = mapping_find(f->m, page);

    return p && page_uptodate(p);
}

static void the_budget_is_kept(void **state)
{
    struct fixture f;
    uint8_t data[PAGE_SIZE];

    (void)state;
    fixture_begin(&f,
                  &(struct cache_config){.size = FRAMES(32),
                                         .dirty_limit = 12 * P,
                                         .dirty_background = 6 * P,
                                         .readahead = 16 * P},
                  64 * P);
    assert_int_equal(f.c->frames, 32);
    for (unsigned i = 0; i < 4000; i++) {
        uint64_t page = sim_below(64);

        if (sim_chance(128)) {
            read_page(&f, page);
        } else { /* what is there already, so that reading can be checked; in pieces: masks */
            uint32_t at = sim_below(P - 8);

            memset(data, fixture_byte(page * P), sizeof data);
            fixture_write(&f, page * P + at, data, 1 + sim_below(7));
        }
        assert_true(f.c->frames_used <= f.c->frames_total);
        if (!f.c->masks_used)
            assert_true(f.c->frames_used <= f.c->frames + 1);
        if (sim_chance(40))
            fixture_serve(&f);
    }
    assert_true(f.c->n.evicted > 500);
    assert_int_equal(fixture_sync(&f), 0);
    for (unsigned i = 0; i < 64 * P; i += 8)
        assert_int_equal(f.file->stable[i], fixture_byte(i));
    fixture_end(&f);
}

/* Two bytes in each of very many pages: two masks each, and no page is asked for that would pay. */
static void masks_live_within_the_budget(void **state)
{
    struct fixture f;

    (void)state;
    fixture_begin(&f,
                  &(struct cache_config){
                      .size = FRAMES(60), .dirty_limit = 60 * P, .dirty_background = 60 * P},
                  64 * P);
    for (unsigned i = 0; i < 59; i++)
        read_page(&f, i);
    for (unsigned i = 58; i >= 10; i--) {
        uint8_t v = fixture_byte(i * P);

        for (unsigned k = 0; k < 5; k++)
            fixture_write(&f, i * P + 100 * k, &v, 1);
        assert_true(f.c->frames_used <= 62);
    }
    assert_true(f.c->masks_used > 40);
    fixture_end(&f);
}

static void metadata_fits_its_promise(void **state)
{
    (void)state;
    assert_true(sizeof(struct page) + sizeof(struct page_more) <= 80);
}

/* S3-FIFO: what was hit twice goes to the main queue, and a scan passes by. */
static void a_scan_does_not_drive_out_what_is_used(void **state)
{
    struct fixture f;
    unsigned left = 0;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.size = FRAMES(24)}, 64 * P);
    for (int round = 0; round < 4; round++)
        for (unsigned i = 0; i < 8; i++)
            read_page(&f, i);
    for (unsigned i = 8; i < 64; i++)
        read_page(&f, i);
    for (unsigned i = 0; i < 8; i++)
        left += is_cached(&f, i);
    assert_int_equal(left, 8);
    assert_true(f.c->n.evicted >= 56 - 24);
    fixture_end(&f);
}

/* Whoever reads all of it again and again keeps everything hot: who wants another page must not
 * wait for that to end. */
static void what_is_all_hot_gives_way(void **state)
{
    struct fixture f;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.size = FRAMES(64)}, 64 * P);
    for (int round = 0; round < 5; round++)
        for (unsigned i = 0; i < 64; i++)
            read_page(&f, i);
    assert_int_equal(f.c->n.evicted, 0);
    assert_true(evict_one(f.c, NULL));
    assert_true(evict_one(f.c, NULL));
    fixture_end(&f);
}

static void what_is_not_committed_stays(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.size = FRAMES(24), .wsize = P}, 64 * P);
    for (unsigned i = 0; i < 4; i++)
        assert_true(fixture_write(&f, i * P + 5, "u", 1));
    fixture_sync_start(&f, &s);
    while (fr_count(&f.server, FR_WRITE))
        fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_int_equal(f.c->n.unstable, 4); /* the COMMIT is not answered */
    for (unsigned i = 4; i < 8; i++)
        assert_true(fixture_write(&f, i * P + 5, "d", 1));
    for (unsigned i = 16; i < 64; i++) {
        struct fixture_read r;

        fixture_read_start(&f, &r, i * P, P, false, false, NULL);
        while (!r.done && fr_serve(&f.server, FR_FETCH))
            sim_settle();
        fixture_read_finish(&r);
        fixture_read_end(&r);
    }
    assert_true(f.c->n.evicted > 30);
    assert_int_equal(f.c->n.unstable, 4);
    assert_int_equal(f.c->n.dirty, 4);
    fr_reboot_file(f.file); /* and they are still needed */
    fixture_serve(&f);
    assert_int_equal(fixture_sync(&f), 0);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(f.file->stable[i * P + 5], i < 4 ? 'u' : 'd');
    fixture_end(&f);
}

static void what_a_reader_holds_stays(void **state)
{
    struct fixture f;
    struct fixture_read r;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.size = FRAMES(16)}, 64 * P);
    fixture_read_start(&f, &r, 0, 4 * P, false, false, NULL);
    fixture_serve(&f);
    assert_true(r.done);
    for (unsigned i = 4; i < 64; i++)
        read_page(&f, i);
    assert_true(is_cached(&f, 0));
    fixture_read_finish(&r);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(r.data[i * P], i + 1);
    fixture_read_end(&r);
    fixture_end(&f);
}

static void what_may_be_stored_to_is_unmapped_first(void **state)
{
    struct fixture f;
    pthread_t worker;
    uint8_t v;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.size = FRAMES(24)}, 64 * P);
    mapping_writer_add(f.m);
    pthread_create(&worker, NULL, fr_worker, &f.server);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(fk_load(f.k, i * P, &v), 0);
        assert_int_equal(v, i + 1);
        assert_int_equal(fk_store(f.k, i * P + 7, (uint8_t)(100 + i)), 0);
    }
    assert_int_equal(fk_fsync(f.k), 0);
    sim_settle();
    assert_true(f.c->n.reclaim_unmaps > 0);
    assert_true(f.c->frames_used <= f.c->frames);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(f.file->stable[i * P + 7], 100 + i);
    assert_int_equal(f.c->n.alarms, 0);
    fr_stop(&f.server);
    pthread_join(worker, NULL);
    mapping_writer_remove(f.m);
    fixture_end(&f);
}

/* Its host would not survive: nobody but the cache knows that the bytes are there. */
static void the_host_is_held_while_bytes_are_not_committed(void **state)
{
    struct fixture f;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 0);
    assert_int_equal(f.k->host.busy, 0);
    assert_true(fixture_write(&f, 0, "x", 1));
    assert_int_equal(f.k->host.busy, 1);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.k->host.busy, 0);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_budget_is_kept),
        cmocka_unit_test(masks_live_within_the_budget),
        cmocka_unit_test(metadata_fits_its_promise),
        cmocka_unit_test(a_scan_does_not_drive_out_what_is_used),
        cmocka_unit_test(what_is_all_hot_gives_way),
        cmocka_unit_test(what_is_not_committed_stays),
        cmocka_unit_test(what_a_reader_holds_stays),
        cmocka_unit_test(what_may_be_stored_to_is_unmapped_first),
        cmocka_unit_test(the_host_is_held_while_bytes_are_not_committed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
