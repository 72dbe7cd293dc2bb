// SPDX-License-Identifier: Apache-2.0
/* Another size while it is in use: what moves, what is waited for, what goes out meanwhile. */
#include "tests/unit/cache_fixture.h"

#define P         PAGE_SIZE
#define FRAMES(n) ((uint64_t)(n) * (P + PAGE_METADATA))
#define MOST      256

static void begin(struct fixture *f, uint32_t frames, uint64_t size)
{
    fixture_begin(f,
                  &(struct cache_config){.size = FRAMES(frames),
                                         .size_max = FRAMES(MOST),
                                         .dirty_limit = 64 * P,
                                         .dirty_background = 64 * P},
                  size);
}

/* Takes the low frames away, so that what comes next lies above them. */
static uint32_t low[MOST];
static unsigned nlow;

static void take_low(struct fixture *f, unsigned n)
{
    for (nlow = 0; nlow < n; nlow++) {
        low[nlow] = frame_take(f->c, MOST);
        assert_in_range(low[nlow], 1, n + 8);
    }
}

static void give_low(struct fixture *f)
{
    while (nlow)
        frame_unref(f->c, low[--nlow]);
}

struct resize {
    struct cache_resize r;
    struct fixture *f;
    pthread_t thread;
    int error;
    bool done;
};

static void *resize_main(void *arg)
{
    struct resize *z = arg;

    sim_name("resize");
    z->error = cache_resize(z->f->c, &z->r);
    z->done = true;
    return NULL;
}

static void resize_start(struct fixture *f, struct resize *z, uint32_t frames)
{
    *z = (struct resize){
        .f = f, .r = {.size = FRAMES(frames), .dirty_limit = 64 * P, .dirty_background = 64 * P}};
    pthread_create(&z->thread, NULL, resize_main, z);
    sim_settle();
}

/* It must have ended, or do so within a second of its own time. */
static int resize_end(struct resize *z)
{
    for (int i = 0; i < 100 && !z->done; i++) {
        sim_advance(10000000);
        sim_settle();
    }
    assert_true(z->done);
    pthread_join(z->thread, NULL);
    return z->error;
}

/* While it waits for something. */
static void resize_waits(struct resize *z)
{
    for (int i = 0; i < 20; i++) {
        sim_advance(10000000);
        sim_settle();
        assert_false(z->done);
    }
}

static int resize(struct fixture *f, uint32_t frames)
{
    struct resize z;

    resize_start(f, &z, frames);
    return resize_end(&z);
}

static void nothing_above(struct fixture *f, uint32_t frames)
{
    assert_int_equal(f->c->frames, frames);
    assert_int_equal(f->c->frames_going, 0);
    for (uint32_t i = frames + 1; i < f->c->frame_map.touched; i++)
        assert_false(indexmap_taken(&f->c->frame_map, i));
}

static struct page *page_of(struct fixture *f, uint64_t index)
{
    struct page *p = mapping_find(f->m, index);

    assert_non_null(p);
    return p;
}

static uint8_t byte_of(struct fixture *f, uint64_t off)
{
    return frame_at(f->c, page_of(f, off / P)->frame)[off % P];
}

static void expect_page(struct fixture *f, uint64_t index)
{
    uint8_t want[PAGE_SIZE];

    memset(want, fixture_byte(index * P), P);
    fixture_expect(f, index * P, want, P);
}

/* ---- what moves ---- */

static void clean_pages_move_and_memory_returns(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 128, 64 * P);
    take_low(&f, 48);
    for (unsigned i = 0; i < 16; i++)
        expect_page(&f, i);
    give_low(&f);

    uint64_t fetches = f.c->n.fetches;
    struct resize z;

    resize_start(&f, &z, 40);
    assert_int_equal(resize_end(&z), 0);
    assert_int_equal(z.r.reached, FRAMES(40));
    assert_int_equal(z.r.moved, 16);
    assert_int_equal(z.r.evicted, 0);
    nothing_above(&f, 40);
    for (unsigned i = 0; i < 16; i++)
        expect_page(&f, i);
    assert_int_equal(f.c->n.fetches, fetches);
    fixture_end(&f);
}

/* Somebody was lent what is below meanwhile: then it stays, and another walk tries again. */
static void without_room_below_a_page_stays(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 64, 64 * P);
    take_low(&f, 10);
    expect_page(&f, 3);

    uint32_t frame = page_of(&f, 3)->frame;

    frames_mark(f.c, 5);
    migrate(f.c, 100);
    assert_int_equal(page_of(&f, 3)->frame, frame);
    assert_true(f.c->frames_going > 0);
    give_low(&f);
    migrate(f.c, 100);
    assert_in_range(page_of(&f, 3)->frame, 1, 5);
    assert_int_equal(f.c->frames_going, 0);
    frames_release(f.c, 5);
    expect_page(&f, 3);
    fixture_end(&f);
}

static void the_least_useful_go_first(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 128, 64 * P);
    for (int round = 0; round < 4; round++)
        for (unsigned i = 0; i < 8; i++)
            expect_page(&f, i);
    for (unsigned i = 8; i < 64; i++)
        expect_page(&f, i);
    assert_int_equal(resize(&f, 16), 0);
    nothing_above(&f, 16);
    assert_true(f.c->frames_used <= 16);
    for (unsigned i = 0; i < 8; i++)
        assert_true(mapping_find(f.m, i) && page_uptodate(mapping_find(f.m, i)));
    fixture_end(&f);
}

/* The files are as large as what was in use: holes are punched into the arena. */
static void memory_goes_back_to_the_system(void **state)
{
    struct fixture f;
    struct cache_stats before, after;
    struct resize z;

    (void)state;
    begin(&f, 256, 64 * P);
    take_low(&f, 128);
    for (unsigned i = 0; i < 128; i++)
        memset(frame_at(f.c, low[i]), 1, P);
    for (unsigned i = 0; i < 64; i++)
        expect_page(&f, i);
    cache_stats(f.c, &before);
    give_low(&f);
    resize_start(&f, &z, 64);
    assert_int_equal(resize_end(&z), 0);
    cache_stats(f.c, &after);
    assert_true(before.memory >= 192 * P);
    assert_int_equal(z.r.returned, before.memory - after.memory);
    assert_true(z.r.returned >= (192 - 64) * P);
    assert_int_equal(after.size, FRAMES(64));
    assert_int_equal(after.size_max, FRAMES(MOST));
    fixture_end(&f);
}

static void dirty_bytes_move(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 64, 64 * P);
    take_low(&f, 40);
    for (unsigned i = 0; i < 8; i++)
        assert_true(fixture_write(&f, i * P + 10, "dirty", 5));
    give_low(&f);
    assert_int_equal(resize(&f, 32), 0);
    nothing_above(&f, 32);
    assert_int_equal(f.c->n.dirty, 8);
    assert_int_equal(f.c->n.moved, 8);
    assert_int_equal(fixture_sync(&f), 0);
    for (unsigned i = 0; i < 8; i++) {
        assert_memory_equal(f.file->stable + i * P + 10, "dirty", 5);
        assert_int_equal(f.file->stable[i * P + 15], fixture_byte(i * P));
    }
    fixture_end(&f);
}

static void unstable_bytes_move_and_are_sent_again(void **state)
{
    struct fixture f;
    struct fixture_sync s, again;

    (void)state;
    begin(&f, 64, 64 * P);
    take_low(&f, 40);
    assert_true(fixture_write(&f, 3 * P, "unstable", 8));
    assert_true(fixture_write(&f, 5 * P, "too", 3));
    give_low(&f);
    fixture_sync_start(&f, &s);
    while (fr_serve(&f.server, FR_WRITE))
        sim_settle();
    assert_int_equal(f.c->n.unstable, 2);
    assert_int_equal(resize(&f, 32), 0);
    nothing_above(&f, 32);
    assert_int_equal(f.c->n.unstable, 2);
    fr_reboot_file(f.file);
    fixture_serve(&f);
    assert_true(s.done);
    fixture_sync_start(&f, &again);
    fixture_serve(&f);
    assert_memory_equal(f.file->stable + 3 * P, "unstable", 8);
    assert_memory_equal(f.file->stable + 5 * P, "too", 3);
    fixture_end(&f);
}

/* A WRITE under way holds the old frame: what goes out is what the page was when it moved. */
static void a_page_in_flight_moves_and_the_write_is_as_it_was(void **state)
{
    struct fixture f;
    struct fixture_sync s;
    struct resize z;

    (void)state;
    begin(&f, 64, 64 * P);
    take_low(&f, 40);
    assert_true(fixture_write(&f, 2 * P, "AAAA", 4));
    give_low(&f);
    fixture_sync_start(&f, &s);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 1);
    resize_start(&f, &z, 32);
    resize_waits(&z); /* the page is below; its old frame is not free yet */
    assert_in_range(page_of(&f, 2)->frame, 1, 32);
    assert_int_equal(f.c->frames_going, 1);
    assert_true(fixture_write(&f, 2 * P + 1, "bb", 2));

    struct fr_call *w = fr_find(&f.server, FR_WRITE, NULL, false);

    fr_apply(w);
    assert_memory_equal(f.file->data + 2 * P, "AAAA", 4);
    fr_deliver(w);
    sim_settle();
    assert_int_equal(resize_end(&z), 0);
    nothing_above(&f, 32);
    assert_int_equal(fixture_sync(&f), 0);
    assert_memory_equal(f.file->stable + 2 * P, "AbbA", 4);
    fixture_end(&f);
}

static void a_fetch_in_flight_is_waited_for(void **state)
{
    struct fixture f;
    struct fixture_read r;
    struct resize z;

    (void)state;
    begin(&f, 64, 64 * P);
    take_low(&f, 40);
    fixture_read_start(&f, &r, 7 * P, 2 * P, false, false, NULL);
    assert_false(r.done);
    give_low(&f);
    resize_start(&f, &z, 32);
    resize_waits(&z);
    assert_int_equal(f.c->frames_going, 2);
    fixture_serve(&f); /* into the frames that the network knows */
    fixture_read_finish(&r);
    assert_int_equal(r.data[0], fixture_byte(7 * P));
    assert_int_equal(r.data[2 * P - 1], fixture_byte(8 * P));
    fixture_read_end(&r);
    assert_int_equal(resize_end(&z), 0);
    nothing_above(&f, 32);
    assert_int_equal(f.c->n.moved, 2);
    expect_page(&f, 7);
    expect_page(&f, 8);
    fixture_end(&f);
}

/* A reply being read holds the old frame, with the bytes of when it was given. */
static void a_page_pinned_by_a_reply_moves(void **state)
{
    struct fixture f;
    struct fixture_read r;
    struct resize z;

    (void)state;
    begin(&f, 64, 64 * P);
    take_low(&f, 40);
    expect_page(&f, 4);
    give_low(&f);
    fixture_read_start(&f, &r, 4 * P, P, false, false, NULL);
    assert_true(r.done);
    resize_start(&f, &z, 32);
    resize_waits(&z);
    assert_true(fixture_write(&f, 4 * P, "new", 3));
    assert_int_equal(byte_of(&f, 4 * P), 'n');
    assert_int_equal(((uint8_t *)r.r.iov[0].iov_base)[0], fixture_byte(4 * P));
    /* Nobody is given the old frame as long as it is read. */
    for (unsigned i = 8; i < 60; i++)
        expect_page(&f, i);
    fixture_read_finish(&r);
    for (unsigned i = 0; i < P; i++)
        assert_int_equal(r.data[i], fixture_byte(4 * P));
    fixture_read_end(&r);
    assert_int_equal(resize_end(&z), 0);
    nothing_above(&f, 32);
    fixture_end(&f);
}

/* ---- the kernel's copy ---- */

static void *worker_start(struct fixture *f, pthread_t *worker)
{
    mapping_writer_add(f->m);
    pthread_create(worker, NULL, fr_worker, &f->server);
    return NULL;
}

static void worker_end(struct fixture *f, pthread_t worker)
{
    assert_int_equal(fk_fsync(f->k), 0);
    fk_write_and_wait(f->k);
    mapping_writer_remove(f->m);
    sim_settle();
    fr_stop(&f->server);
    pthread_join(worker, NULL);
}

/* A store after the move is compared with what the kernel was given, and marks its bytes only. */
static void a_mapped_page_moves_and_is_its_twin(void **state)
{
    struct fixture f;
    pthread_t worker;
    uint8_t v;

    (void)state;
    begin(&f, 64, 64 * P);
    worker_start(&f, &worker);
    take_low(&f, 40);
    assert_int_equal(fk_load(f.k, 6 * P, &v), 0);
    give_low(&f);
    assert_int_equal(resize(&f, 32), 0);
    nothing_above(&f, 32);
    assert_int_equal(f.c->n.reclaim_unmaps, 0);
    assert_true(page_mapped(f.m, page_of(&f, 6)));
    fr_write(f.file, 6 * P + 1, "F", 1); /* must not be written over */
    assert_int_equal(fk_store(f.k, 6 * P, 200), 0);
    fk_writeback(f.k, 6);
    assert_int_equal(byteset_count(f.c, page_more(f.c, page_of(&f, 6))->dirty), 1);
    worker_end(&f, worker);
    assert_int_equal(f.file->stable[6 * P], 200);
    assert_int_equal(f.file->stable[6 * P + 1], 'F');
    fixture_end(&f);
}

static void a_twin_of_its_own_moves(void **state)
{
    struct fixture f;
    pthread_t worker;
    uint8_t v, direct[P];

    (void)state;
    begin(&f, 64, 64 * P);
    worker_start(&f, &worker);
    take_low(&f, 40);
    assert_int_equal(fk_load(f.k, 6 * P, &v), 0);
    memset(direct, 'd', P);
    assert_true(fixture_write_as(&f, 6 * P, direct, 16, CACHE_WRITE_DIRECT, 50, 1));
    give_low(&f);

    struct page *p = page_of(&f, 6);

    assert_true(page_twin(f.c, p) > 40 && p->frame > 40);
    assert_int_equal(resize(&f, 32), 0);
    nothing_above(&f, 32);
    p = page_of(&f, 6);
    uint32_t twin = page_twin(f.c, p);

    assert_true(twin && twin <= 32 && p->frame <= 32 && twin != p->frame);
    assert_int_equal(f.c->n.moved, 2);
    /* The kernel's copy has the old bytes; what it writes back of them is no store. */
    assert_int_equal(fk_store(f.k, 6 * P + 100, 201), 0);
    fk_writeback(f.k, 6);
    assert_int_equal(byte_of(&f, 6 * P), 'd');
    worker_end(&f, worker);
    assert_memory_equal(f.file->stable + 6 * P, direct, 16);
    assert_int_equal(f.file->stable[6 * P + 100], 201);
    fixture_end(&f);
}

/* ---- masks and records ---- */

static void masks_move(void **state)
{
    struct fixture f;
    uint32_t masks;

    (void)state;
    begin(&f, 64, 64 * P);
    take_low(&f, 40);
    for (unsigned i = 0; i < 6; i++)
        for (unsigned k = 0; k < 5; k++)
            assert_true(fixture_write(&f, i * P + 100 * k, "m", 1));
    masks = f.c->masks_used;
    assert_true(masks >= 12);
    /* The last page gives some back: free ones of frames that go. */
    assert_true(fixture_write(&f, 5 * P, "0123456789", 10));
    give_low(&f);
    assert_int_equal(resize(&f, 32), 0);
    nothing_above(&f, 32);
    assert_int_equal(f.c->masks_used, masks);
    for (unsigned i = 0; i < 5; i++) {
        uint32_t lo, hi, at = 0;

        for (unsigned k = 0; k < 5; k++, at = hi) {
            assert_true(byteset_run(f.c, page_more(f.c, page_of(&f, i))->dirty, at, &lo, &hi));
            assert_int_equal(lo, 100 * k);
            assert_int_equal(hi, 100 * k + 1);
        }
        assert_false(byteset_run(f.c, page_more(f.c, page_of(&f, i))->dirty, at, &lo, &hi));
    }
    assert_int_equal(fixture_sync(&f), 0);
    for (unsigned i = 0; i < 5; i++)
        for (unsigned k = 0; k < 5; k++) {
            assert_int_equal(f.file->stable[i * P + 100 * k], 'm');
            assert_int_equal(f.file->stable[i * P + 100 * k + 1], fixture_byte(i * P));
        }
    fixture_end(&f);
}

static void records_move(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 128, 64 * P);
    for (unsigned i = 0; i < 64; i++)
        expect_page(&f, i);
    for (unsigned i = 0; i < 32; i++) {
        mapping_lock(f.m);
        mapping_remove(f.m, page_of(&f, i));
        mapping_unlock(f.m);
    }
    assert_true(fixture_write(&f, 40 * P, "d", 1));

    uint32_t before = page_record(f.c, page_of(&f, 63));

    migrate(f.c, 32);
    assert_true(page_record(f.c, page_of(&f, 63)) < before);
    for (unsigned i = 32; i < 64; i++)
        assert_in_range(page_record(f.c, page_of(&f, i)), 1, 32);
    slab_release(f.c->page_slab, 33);
    assert_int_equal(byte_of(&f, 40 * P), 'd');
    /* The queues still lead to all of them. */
    assert_int_equal(cache_drop_clean(f.c), 31);
    assert_int_equal(f.c->small.count + f.c->main.count, 0);
    assert_int_equal(f.c->small.head | f.c->small.tail | f.c->main.head | f.c->main.tail, 0);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[40 * P], 'd');
    fixture_end(&f);
}

static void second_records_move(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 128, 64 * P);
    for (unsigned i = 0; i < 41; i++)
        assert_true(fixture_write(&f, i * P, "d", 1));
    for (unsigned i = 0; i < 32; i++) {
        mapping_lock(f.m);
        mapping_remove(f.m, page_of(&f, i));
        mapping_unlock(f.m);
    }
    assert_int_equal(slab_used(f.c->more_slab), 9);
    migrate(f.c, 32);
    for (unsigned i = 32; i < 41; i++)
        assert_in_range(page_of(&f, i)->more, 1, 32);
    assert_int_equal(slab_used(f.c->more_slab), 9);
    slab_release(f.c->more_slab, 33);
    assert_int_equal(fixture_sync(&f), 0);
    for (unsigned i = 32; i < 41; i++)
        assert_int_equal(f.file->stable[i * P], 'd');
    /* Clean again, they have none. */
    assert_int_equal(slab_used(f.c->more_slab), 0);
    fixture_end(&f);
}

/* ---- what has to be waited for ---- */

static void what_is_dirty_is_written_back_first(void **state)
{
    struct fixture f;
    struct resize z;
    struct cache_resize_state s;

    (void)state;
    begin(&f, 64, 0);
    for (unsigned i = 0; i < 32; i++)
        assert_true(fixture_write(&f, i * P, "w", 1));
    resize_start(&f, &z, 16);
    resize_waits(&z);
    assert_true(fr_count(&f.server, FR_WRITE) > 0); /* nobody else asked for it */
    cache_resize_state(f.c, &s);
    assert_true(s.running);
    assert_int_equal(s.target, FRAMES(16));
    assert_int_equal(s.left, 16 * P);
    fixture_serve(&f);
    for (int i = 0; i < 50 && !z.done; i++) {
        sim_advance(50000000);
        fixture_serve(&f);
    }
    assert_int_equal(resize_end(&z), 0);
    nothing_above(&f, 16);
    cache_resize_state(f.c, &s);
    assert_false(s.running);
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(f.file->data[i * P], 'w');
    fixture_end(&f);
}

static void stopped_it_keeps_what_it_reached(void **state)
{
    struct fixture f;
    struct resize z;

    (void)state;
    begin(&f, 64, 0);
    for (unsigned i = 0; i < 32; i++)
        assert_true(fixture_write(&f, i * P, "w", 1));
    resize_start(&f, &z, 16);
    resize_waits(&z);
    assert_true(cache_resize_stop(f.c));
    sim_settle();
    assert_int_equal(resize_end(&z), -EINTR);
    assert_int_equal(z.r.was, FRAMES(64));
    assert_int_equal(z.r.reached, FRAMES(32)); /* what is dirty */
    assert_int_equal(f.c->frames, 32);
    assert_int_equal(f.c->n.dirty + f.c->n.inflight, 32);
    assert_false(cache_resize_stop(f.c));
    fixture_serve(&f);
    assert_int_equal(resize(&f, 16), 0);
    nothing_above(&f, 16);
    fixture_end(&f);
}

/* Stopped while somebody holds a frame that goes: the budget counts it. */
static void stopped_while_pinned(void **state)
{
    struct fixture f;
    struct fixture_read r;
    struct resize z;

    (void)state;
    begin(&f, 64, 64 * P);
    take_low(&f, 40);
    expect_page(&f, 4);
    give_low(&f);
    fixture_read_start(&f, &r, 4 * P, P, false, false, NULL);
    resize_start(&f, &z, 32);
    resize_waits(&z);
    cache_resize_stop(f.c);
    assert_int_equal(resize_end(&z), -EINTR);
    assert_int_equal(z.r.reached, FRAMES(33));
    fixture_read_finish(&r);
    assert_int_equal(r.data[9], fixture_byte(4 * P));
    fixture_read_end(&r);
    assert_int_equal(resize(&f, 32), 0);
    nothing_above(&f, 32);
    fixture_end(&f);
}

static void one_at_a_time_and_within_bounds(void **state)
{
    struct fixture f;
    struct fixture_read r;
    struct resize z;

    (void)state;
    begin(&f, 64, 64 * P);
    assert_int_equal(resize(&f, MOST + 1), -ERANGE);
    assert_int_equal(resize(&f, 0), -ERANGE);
    take_low(&f, 40);
    fixture_read_start(&f, &r, 4 * P, P, false, false, NULL);
    give_low(&f);
    resize_start(&f, &z, 32);
    assert_int_equal(resize(&f, 48), -EBUSY);
    assert_int_equal(f.c->frames, 32);
    fixture_serve(&f);
    fixture_read_finish(&r);
    fixture_read_end(&r);
    assert_int_equal(resize_end(&z), 0);
    fixture_end(&f);
}

static void it_grows_after_it_shrank(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 32, 64 * P);
    for (unsigned i = 0; i < 64; i++)
        expect_page(&f, i);
    assert_true(f.c->frames_used <= 32);
    assert_int_equal(resize(&f, 12), 0);
    nothing_above(&f, 12);
    assert_int_equal(resize(&f, 80), 0);
    assert_int_equal(f.c->frames, 80);
    for (unsigned i = 0; i < 64; i++)
        expect_page(&f, i);

    uint64_t fetches = f.c->n.fetches;

    for (unsigned i = 0; i < 64; i++)
        expect_page(&f, i);
    assert_int_equal(f.c->n.fetches, fetches);
    assert_int_equal(f.c->n.pages, 64);
    fixture_end(&f);
}

/* A writer that waits below the dirty limit goes on when that is raised. */
static void limits_follow(void **state)
{
    struct fixture f;
    struct resize z = {.f = &f};

    (void)state;
    begin(&f, 64, 0);
    z.r =
        (struct cache_resize){.size = FRAMES(64), .dirty_limit = 2 * P, .dirty_background = 2 * P};
    pthread_create(&z.thread, NULL, resize_main, &z);
    assert_int_equal(resize_end(&z), 0);
    assert_true(fixture_write(&f, 0, "a", 1));
    assert_true(fixture_write(&f, P, "b", 1));
    assert_false(fixture_write(&f, 2 * P, "c", 1));
    z.r.dirty_limit = 32 * P;
    z.r.dirty_background = 16 * P;
    z.done = false;
    pthread_create(&z.thread, NULL, resize_main, &z);
    assert_int_equal(resize_end(&z), 0);
    assert_int_equal(byte_of(&f, 2 * P), 'c'); /* though the server has answered nothing */
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_pages_move_and_memory_returns),
        cmocka_unit_test(without_room_below_a_page_stays),
        cmocka_unit_test(the_least_useful_go_first),
        cmocka_unit_test(memory_goes_back_to_the_system),
        cmocka_unit_test(dirty_bytes_move),
        cmocka_unit_test(unstable_bytes_move_and_are_sent_again),
        cmocka_unit_test(a_page_in_flight_moves_and_the_write_is_as_it_was),
        cmocka_unit_test(a_fetch_in_flight_is_waited_for),
        cmocka_unit_test(a_page_pinned_by_a_reply_moves),
        cmocka_unit_test(a_mapped_page_moves_and_is_its_twin),
        cmocka_unit_test(a_twin_of_its_own_moves),
        cmocka_unit_test(masks_move),
        cmocka_unit_test(records_move),
        cmocka_unit_test(second_records_move),
        cmocka_unit_test(what_is_dirty_is_written_back_first),
        cmocka_unit_test(stopped_it_keeps_what_it_reached),
        cmocka_unit_test(stopped_while_pinned),
        cmocka_unit_test(one_at_a_time_and_within_bounds),
        cmocka_unit_test(it_grows_after_it_shrank),
        cmocka_unit_test(limits_follow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
