// SPDX-License-Identifier: Apache-2.0
/*
 * Twins: mapped pages come back whole, and only what was stored may be taken from them
 * (docs/protocol.md). The test is the kernel: it knows what it was given and what it sends back.
 *
 * in_second_unmap() stops a revalidation in its step 4: the cache has dropped its pages, the kernel
 * still has the copy that it faulted in after step 1. Only there have page and twin parted.
 */
#include "tests/unit/cache_fixture.h"

#define P PAGE_SIZE

/* The kernel's copy of page 0. */
static uint8_t copy[PAGE_SIZE];
static uint64_t unique;

static void begin(struct fixture *f)
{
    fixture_begin(f, &(struct cache_config){0}, 4 * P);
    mapping_writer_add(f->m);
    unique = 0;
}

static void end(struct fixture *f)
{
    mapping_writer_remove(f->m);
    fixture_end(f);
}

/* The kernel faults page 0 in. */
static void fault(struct fixture *f)
{
    struct fixture_read r;

    fixture_read_start(f, &r, 0, P, true, false, NULL);
    while (!r.done && fr_serve(&f->server, FR_FETCH))
        sim_settle();
    fixture_read_finish(&r);
    memcpy(copy, r.data, P);
    fixture_read_end(&r);
}

static void write_back(struct fixture *f)
{
    assert_true(fixture_write_as(f, 0, copy, P, CACHE_WRITE_MAPPED, ++unique, 1));
}

/* write(2) to a page that the kernel has. */
static void call(struct fixture *f, uint32_t at, uint8_t v)
{
    copy[at] = v;
    assert_true(fixture_write_as(f, at, &v, 1, CACHE_WRITE_CALL, ++unique, 1));
}

static void foreign(struct fixture *f, uint64_t at, uint8_t v)
{
    fr_write(f->file, at, &v, 1);
}

static void expect_dirty(struct fixture *f, uint32_t n)
{
    struct page *p = mapping_find(f->m, 0);

    assert_int_equal(p ? byteset_count(f->c, page_more(f->c, p)->dirty) : 0, n);
}

/* `at`: somebody writes 0x99 there after the fault; -1: nobody. */
static void in_second_unmap(struct fixture *f, struct fixture_reval *v, int at)
{
    assert_true(fixture_write_as(f, 3 * P, "x", 1, CACHE_WRITE_CALL, ++unique, 1));
    fixture_reval_start(f, v, true);
    assert_true(fr_serve(&f->server, FR_GETATTR));
    sim_settle();
    assert_int_equal(fr_count(&f->server, FR_WRITE), 1); /* step 2 */
    assert_int_equal(f->k->unmaps, 1);
    fault(f);
    if (at >= 0)
        foreign(f, (uint64_t)at, 0x99);
    f->k->inode_locked = true; /* a write(2) holds the unmap up */
    fixture_serve(f);
    assert_false(v->done);
    assert_int_equal(f->k->unmaps, 2);
}

static void unlock_inode(struct fixture *f)
{
    pthread_mutex_lock(&f->k->lock);
    f->k->inode_locked = false;
    pthread_cond_broadcast(&f->k->cond);
    pthread_mutex_unlock(&f->k->lock);
}

/* The unmap ends. What the kernel had dirty it has written back: the test did. */
static void let_go(struct fixture *f, struct fixture_reval *v)
{
    unlock_inode(f);
    fixture_reval_end(v);
}

static void only_what_was_stored_is_dirty(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f);
    fault(&f);
    write_back(&f);
    expect_dirty(&f, 0);
    copy[10] = 0x50;
    copy[4095] = 0x51;
    write_back(&f);
    expect_dirty(&f, 2);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[10], 0x50);
    end(&f);
}

static void neighbours_in_a_word_are_told_apart(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f);
    fault(&f);
    foreign(&f, 9, 0x99);
    copy[8] = 0x50;
    write_back(&f);
    expect_dirty(&f, 1);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[8], 0x50);
    assert_int_equal(f.file->stable[9], 0x99);
    end(&f);
}

static void an_old_copy_is_compared_with_what_the_kernel_was_given(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    begin(&f);
    in_second_unmap(&f, &v, 11);
    fixture_expect(&f, 11, "\x99", 1); /* the cache has the new page, the kernel the old one */
    copy[10] = 0x50;
    write_back(&f);
    expect_dirty(&f, 1);
    let_go(&f, &v);
    fixture_expect(&f, 10, "\x50\x99", 2);
    assert_int_equal(fixture_sync(&f), 0);
    assert_memory_equal(f.file->stable + 10, "\x50\x99", 2);
    end(&f);
}

static void the_twin_takes_what_was_written_back(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    begin(&f);
    in_second_unmap(&f, &v, -1);
    copy[10] = 0x50;
    write_back(&f);
    assert_int_equal(fixture_sync(&f), 0);
    foreign(&f, 10, 0x99); /* newer than our store */
    copy[20] = 0x60;
    write_back(&f);
    expect_dirty(&f, 1);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[10], 0x99);
    let_go(&f, &v);
    end(&f);
}

static void the_twin_takes_write_calls(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    begin(&f);
    in_second_unmap(&f, &v, -1);
    call(&f, 10, 0x50);
    assert_int_equal(fixture_sync(&f), 0);
    foreign(&f, 10, 0x99);
    copy[20] = 0x60;
    write_back(&f);
    expect_dirty(&f, 1);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[10], 0x99);
    let_go(&f, &v);
    end(&f);
}

static void the_twin_does_not_take_direct_writes(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f);
    fault(&f);
    assert_true(fixture_write_as(&f, 10, "\x50", 1, CACHE_WRITE_DIRECT, ++unique, 1));
    copy[20] = 0x60; /* the copy lacks byte 10 */
    write_back(&f);
    expect_dirty(&f, 2);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[10], 0x50);
    assert_int_equal(f.file->stable[20], 0x60);
    end(&f);
}

static void a_read_makes_a_new_base(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    begin(&f);
    in_second_unmap(&f, &v, 11);
    fault(&f); /* its old copy is gone, says the READ */
    assert_int_equal(copy[11], 0x99);
    assert_int_equal(f.c->n.twins, 0);
    copy[10] = 0x50;
    write_back(&f);
    expect_dirty(&f, 1);
    let_go(&f, &v);
    end(&f);
}

static void a_copy_given_during_the_unmap_keeps_its_base(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    begin(&f);
    in_second_unmap(&f, &v, -1);
    fault(&f); /* behind the unmap's back */
    let_go(&f, &v);
    foreign(&f, 11, 0x99);
    copy[10] = 0x50;
    write_back(&f);
    assert_int_equal(f.c->n.alarms, 0);
    expect_dirty(&f, 1);
    end(&f);
}

static void a_completed_unmap_frees_the_twin(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    begin(&f);
    in_second_unmap(&f, &v, -1);
    assert_int_equal(f.c->n.twins, 1);
    let_go(&f, &v);
    assert_int_equal(f.c->n.twins, 0);
    end(&f);
}

/* A READ that was under way is given the data of its own, old fetch; that is then the base. */
static void a_copy_from_an_old_fetch_has_a_base(void **state)
{
    struct fixture f;
    struct fixture_read r;
    struct fixture_reval v;
    struct fr_call *old;

    (void)state;
    begin(&f);
    fixture_read_start(&f, &r, 0, P, true, false, NULL);
    old = fr_find(&f.server, FR_FETCH, NULL, false);
    fr_apply(old);
    foreign(&f, 11, 0x99);
    assert_true(fixture_write_as(&f, 3 * P, "x", 1, CACHE_WRITE_CALL, ++unique, 1));
    fixture_reval_start(&f, &v, true);
    fr_serve(&f.server, FR_GETATTR);
    sim_settle();
    f.k->inode_locked = true;
    fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_int_equal(f.m->generation, 1);
    fr_deliver(old);
    fixture_read_finish(&r);
    memcpy(copy, r.data, P);
    fixture_read_end(&r);
    assert_int_equal(copy[11], 1);
    fixture_expect(&f, 11, "\x99", 1);
    copy[10] = 0x50;
    write_back(&f);
    expect_dirty(&f, 1);
    let_go(&f, &v);
    end(&f);
}

static void an_overtaken_write_call_only_marks(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f);
    fault(&f);
    copy[10] = 0x50; /* by write(2), number 1; then a store over it, written back as number 2 */
    copy[10] = 0x60;
    unique = 1;
    write_back(&f);
    assert_true(fixture_write_as(&f, 10, "\x50", 1, CACHE_WRITE_CALL, 1, 1));
    fixture_expect(&f, 10, "\x60", 1);
    expect_dirty(&f, 1);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[10], 0x60);
    end(&f);
}

/* The page is clean again, and nothing else has to be known of it. */
static void an_overtaken_write_call_comes_after_the_commit(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f);
    fault(&f);
    copy[10] = 0x60;
    unique = 1;
    write_back(&f);
    assert_int_equal(fixture_sync(&f), 0);
    expect_dirty(&f, 0);
    assert_true(fixture_write_as(&f, 10, "\x50", 1, CACHE_WRITE_CALL, 1, 1));
    fixture_expect(&f, 10, "\x60", 1);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[10], 0x60);
    end(&f);
}

/* ... and after the stored byte was invalidated: only the twin still knows of it. */
static void an_overtaken_write_call_comes_after_the_invalidation(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    begin(&f);
    f.k->inode_locked = true;
    fixture_reval_start(&f, &v, true);
    assert_true(fr_serve(&f.server, FR_GETATTR));
    sim_settle();
    assert_int_equal(f.k->unmaps, 1);
    fault(&f);
    copy[10] = 0x60;
    unique = 1;
    write_back(&f);
    assert_int_equal(fixture_sync(&f), 0);
    foreign(&f, 10, 0x99);
    assert_true(fixture_write_as(&f, 3 * P, "x", 1, CACHE_WRITE_CALL, ++unique, 1));
    unlock_inode(&f);
    sim_settle();
    assert_int_equal(fr_count(&f.server, FR_WRITE), 1); /* step 2 */
    f.k->inode_locked = true;
    fixture_serve(&f);
    assert_int_equal(f.k->unmaps, 2);
    assert_true(fixture_write_as(&f, 10, "\x50", 1, CACHE_WRITE_CALL, 1, 1));
    expect_dirty(&f, 0);
    let_go(&f, &v);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[10], 0x99);
    end(&f);
}

/* Rule 5. It never happens; if it does, no byte of ours is lost, and it is counted. */
static void without_a_twin_all_of_the_page_is_dirty(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f);
    memset(copy, 0x50, sizeof copy);
    write_back(&f);
    expect_dirty(&f, P);
    assert_int_equal(f.c->n.alarms, 1);
    assert_int_equal(f.server.calls[FR_FETCH], 0); /* never a base fetched */
    f.c->n.alarms = 0;
    end(&f);
}

static void without_a_writer_no_twin_is_kept(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    begin(&f);
    mapping_writer_remove(f.m);
    assert_false(mapping_writer_add(f.m));
    mapping_writer_remove(f.m);
    fault(&f);
    f.k->inode_locked = true;
    foreign(&f, 11, 0x99);
    fixture_reval_start(&f, &v, true);
    fixture_reval_end(&v); /* plain unmaps: no inode lock */
    assert_int_equal(f.c->n.twins, 0);
    f.k->inode_locked = false;
    mapping_writer_add(f.m);
    end(&f);
}

static void the_first_writer_unmaps_what_was_given_without_a_twin(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f);
    mapping_writer_remove(f.m);
    fault(&f);
    cache_drop_clean(f.c); /* the kernel's copy stays, and nobody can tell its base */
    assert_int_equal(f.c->n.pages, 0);
    assert_true(mapping_writer_add(f.m));
    assert_int_equal(mapping_unmap_all(f.m), 0);
    mapping_writer_remove(f.m);
    assert_false(mapping_writer_add(f.m));
    end(&f);
}

static void a_value_stored_again_is_no_store(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f);
    fault(&f);
    foreign(&f, 10, 0x99);
    copy[10] = 1; /* what it was: documented */
    write_back(&f);
    expect_dirty(&f, 0);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_was_stored_is_dirty),
        cmocka_unit_test(neighbours_in_a_word_are_told_apart),
        cmocka_unit_test(an_old_copy_is_compared_with_what_the_kernel_was_given),
        cmocka_unit_test(the_twin_takes_what_was_written_back),
        cmocka_unit_test(the_twin_takes_write_calls),
        cmocka_unit_test(the_twin_does_not_take_direct_writes),
        cmocka_unit_test(a_read_makes_a_new_base),
        cmocka_unit_test(a_copy_given_during_the_unmap_keeps_its_base),
        cmocka_unit_test(a_completed_unmap_frees_the_twin),
        cmocka_unit_test(a_copy_from_an_old_fetch_has_a_base),
        cmocka_unit_test(an_overtaken_write_call_only_marks),
        cmocka_unit_test(an_overtaken_write_call_comes_after_the_commit),
        cmocka_unit_test(an_overtaken_write_call_comes_after_the_invalidation),
        cmocka_unit_test(without_a_twin_all_of_the_page_is_dirty),
        cmocka_unit_test(without_a_writer_no_twin_is_kept),
        cmocka_unit_test(the_first_writer_unmaps_what_was_given_without_a_twin),
        cmocka_unit_test(a_value_stored_again_is_no_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
