// SPDX-License-Identifier: Apache-2.0
/* Revalidation step by step, and how own changes move the token. */
#include <errno.h>

#include "tests/unit/cache_fixture.h"

#define P PAGE_SIZE

static bool serve_ask(struct fixture *f)
{
    bool some = fr_serve(&f->server, FR_GETATTR);

    sim_settle();
    return some;
}

static void an_unchanged_file_keeps_its_pages(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fixture_expect(&f, 0, "\1", 1);
    fixture_reval_start(&f, &v, false);
    assert_true(serve_ask(&f));
    assert_true(v.done);
    fixture_reval_end(&v);
    assert_int_equal(v.error, 0);
    assert_false(v.result.changed);
    assert_int_equal(f.k->unmaps, 0);
    assert_int_equal(f.c->n.pages, 1);
    fixture_end(&f);
}

static void a_changed_file_loses_them(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fixture_expect(&f, 0, "\1", 1);
    fr_write(f.file, 0, "\x99", 1);
    fixture_reval_start(&f, &v, false);
    fixture_reval_end(&v);
    assert_true(v.result.changed);
    assert_int_equal(v.result.dropped, 1);
    assert_int_equal(f.k->unmaps, 2);
    fixture_expect(&f, 0, "\x99", 1);
    fixture_reval_start(&f, &v, false); /* remembered */
    fixture_reval_end(&v);
    assert_false(v.result.changed);
    fixture_end(&f);
}

/* I6 */
static void an_error_of_asking_discards_nothing(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fixture_expect(&f, 0, "\1", 1);
    fr_fail(&f.server, FR_GETATTR, -ETIMEDOUT, 1);
    fixture_reval_start(&f, &v, true);
    fixture_reval_end(&v);
    assert_int_equal(v.error, -ETIMEDOUT);
    assert_int_equal(f.k->unmaps, 0);
    fixture_expect(&f, 0, "\1", 1);
    assert_int_equal(f.server.calls[FR_FETCH], 1);
    fixture_end(&f);
}

static void an_unmap_that_fails_leaves_the_token(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fr_write(f.file, 0, "\x99", 1);
    f.k->unmap_error = -ENOTCONN;
    fixture_reval_start(&f, &v, false);
    fixture_reval_end(&v);
    assert_int_equal(v.error, -ENOTCONN);
    f.k->unmap_error = 0;
    fixture_reval_start(&f, &v, false);
    fixture_reval_end(&v);
    assert_true(v.result.changed);
    fixture_end(&f);
}

/* Steps 1 and 2: what a mapping stored is at the server, stable, before anything is dropped. */
static void it_writes_and_waits_first(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    uint8_t data[P];

    (void)state;

    fixture_begin(&f, &(struct cache_config){.wsize = P}, 4 * P);
    mapping_writer_add(f.m);
    memset(data, 5, sizeof data);
    assert_true(fixture_write(&f, P, data, P));
    fr_write(f.file, 0, "\x99", 1);
    fixture_reval_start(&f, &v, false);
    assert_true(serve_ask(&f));
    assert_int_equal(f.k->unmaps, 1);
    assert_int_equal(f.m->generation, 0);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 1);
    fr_serve(&f.server, FR_WRITE);
    sim_settle();
    fixture_serve(&f);
    assert_true(v.done);
    assert_int_equal(f.file->stable[P], 5);
    assert_int_equal(f.k->unmaps, 2);
    fixture_reval_end(&v);
    assert_int_equal(v.result.kept, 0);
    mapping_writer_remove(f.m);
    fixture_end(&f);
}

/* Dirtied between step 2 and 3 by the writer that never rests: the lost write of 2006. */
static void bytes_dirtied_while_it_waits_are_kept(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fixture_expect(&f, 0, "\1", 1);
    assert_true(fixture_write(&f, 5, "\x50", 1));
    fr_write(f.file, 6, "\x99", 1);
    fixture_reval_start(&f, &v, false);
    assert_true(serve_ask(&f));
    assert_true(fixture_write(&f, 7, "\x70", 1)); /* the WRITE of step 2 is in flight */
    fr_serve(&f.server, FR_WRITE);
    sim_settle();
    assert_true(v.done);
    fixture_reval_end(&v);
    assert_int_equal(v.result.kept, 1);
    assert_true(mapping_is_dirty(f.m));
    fixture_expect(&f, 5, "\x50\x99\x70", 3);
    assert_int_equal(fixture_sync(&f), 0);
    assert_memory_equal(f.file->stable + 5, "\x50\x99\x70", 3);
    fixture_end(&f);
}

static void a_failing_write_does_not_end_it_nor_lose_the_bytes(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    assert_true(fixture_write(&f, 5, "\x50", 1));
    fr_write(f.file, 6, "\x99", 1);
    fr_fail(&f.server, FR_WRITE, -ENOSPC, 1);
    fixture_reval_start(&f, &v, false);
    fixture_reval_end(&v);
    assert_int_equal(v.error, 0);
    assert_int_equal(v.result.kept, 1);
    fixture_expect(&f, 5, "\x50\x99", 2);
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.file->stable[5], 0x50);
    fixture_end(&f);
}

static void the_walk_goes_on_behind_a_page_that_stays(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 8 * P);
    for (unsigned i = 0; i < 8; i++) {
        uint8_t want = (uint8_t)(i + 1);

        fixture_expect(&f, i * P, &want, 1);
    }
    assert_true(fixture_write(&f, 10, "\x50", 1));
    for (unsigned i = 0; i < 8; i++)
        fr_write(f.file, i * P, "\x99", 1);
    fr_fail(&f.server, FR_WRITE, -EIO, 1);
    fixture_reval_start(&f, &v, false);
    fixture_reval_end(&v);
    assert_int_equal(v.result.kept, 1);
    assert_int_equal(v.result.dropped, 7);
    for (unsigned i = 0; i < 8; i++)
        fixture_expect(&f, i * P, "\x99", 1);
    fixture_end(&f);
}

static void the_token_is_of_step_0(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fixture_expect(&f, 0, "\1", 1);
    fr_write(f.file, 0, "\x99", 1);
    fixture_reval_start(&f, &v, false);
    fr_apply(fr_find(&f.server, FR_GETATTR, NULL, false));
    fr_write(f.file, 0, "\xaa", 1); /* after the answer was made */
    fixture_reval_end(&v);
    fixture_reval_start(&f, &v, false);
    fixture_reval_end(&v);
    assert_true(v.result.changed);
    fixture_expect(&f, 0, "\xaa", 1);
    fixture_end(&f);
}

/* ---- size ---- */

static void growth_elsewhere_is_seen(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 100);
    fixture_expect(&f, 0, "\1", 1);
    fr_write(f.file, 100, "more", 4);
    fixture_reval_start(&f, &v, false);
    fixture_reval_end(&v);
    assert_int_equal(mapping_size(f.m), 104);
    fixture_expect(&f, 99, "\1more", 5);
    fixture_end(&f);
}

static void a_shrink_elsewhere_is_seen_after_the_unmap(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 4 * P);
    fixture_expect(&f, 0, "\1", 1);
    mapping_writer_add(f.m);
    assert_true(fixture_write(&f, 0, "x", 1));
    fr_truncate(f.file, 10);
    fixture_reval_start(&f, &v, false);
    assert_true(serve_ask(&f));
    assert_int_equal(f.k->unmaps, 1); /* and now step 2 */
    f.k->inode_locked = true;
    fixture_serve(&f);
    assert_int_equal(f.k->unmaps, 2); /* under way */
    assert_false(v.done);
    assert_int_equal(mapping_size(f.m), 4 * P);
    pthread_mutex_lock(&f.k->lock);
    f.k->inode_locked = false;
    pthread_cond_broadcast(&f.k->cond);
    pthread_mutex_unlock(&f.k->lock);
    fixture_reval_end(&v);
    assert_int_equal(mapping_size(f.m), 10);
    mapping_writer_remove(f.m);
    fixture_end(&f);
}

static void an_own_append_in_flight_is_not_cut(void **state)
{
    struct fixture f;
    struct fixture_reval v;
    struct fixture_sync s;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 100);
    f.server.atomic_pre = false;
    fixture_reval_start(&f, &v, true);
    fr_apply(fr_find(&f.server, FR_GETATTR, NULL, false)); /* 100 bytes */
    assert_true(fixture_write(&f, 100, "tail", 4));
    fixture_sync_start(&f, &s);
    assert_true(fr_serve(&f.server, FR_WRITE)); /* acknowledged and committed */
    sim_settle();
    assert_true(s.done);
    assert_false(mapping_is_busy(f.m));
    fixture_reval_end(&v);
    assert_int_equal(mapping_size(f.m), 104);
    fixture_expect(&f, 100, "tail", 4);
    fixture_end(&f);
}

static void an_own_append_not_yet_sent_is_not_cut(void **state)
{
    struct fixture f;
    struct fixture_reval v;

    (void)state;
    fixture_begin(&f, &(struct cache_config){0}, 100);
    fr_write(f.file, 0, "x", 1);
    fr_fail(&f.server, FR_WRITE, -ENOSPC, 1);
    assert_true(fixture_write(&f, 100, "tail", 4));
    fixture_reval_start(&f, &v, false);
    fixture_reval_end(&v);
    assert_int_equal(mapping_size(f.m), 104);
    fixture_expect(&f, 100, "tail", 4);
    fixture_end(&f);
}

/* ---- own changes ---- */

static bool changed(struct fixture *f)
{
    struct fixture_reval v;

    fixture_reval_start(f, &v, false);
    fixture_reval_end(&v);
    assert_int_equal(v.error, 0);
    return v.result.changed;
}

static void own_writes_move_the_token_in_any_order_of_replies(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = P}, 8 * P);
    for (unsigned i = 0; i < 4; i++)
        assert_true(fixture_write(&f, i * P + 5, "x", 1));
    fixture_sync_start(&f, &s);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 4);
    for (int i = 0; i < 4; i++)
        fr_apply(fr_find(&f.server, FR_WRITE, NULL, false));
    for (struct fr_call *c; (c = fr_find(&f.server, FR_WRITE, NULL, true)) != NULL;) {
        while (c->next && c->next->kind == FR_WRITE) /* the last first */
            c = c->next;
        fr_deliver(c);
    }
    fixture_serve(&f);
    assert_true(s.done);
    assert_false(changed(&f));
    fixture_end(&f);
}

static void a_foreign_write_between_own_ones_is_seen(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wsize = P}, 8 * P);
    assert_true(fixture_write(&f, 5, "x", 1));
    assert_true(fixture_write(&f, P + 5, "x", 1));
    fixture_sync_start(&f, &s);
    fr_serve(&f.server, FR_WRITE);
    fr_write(f.file, 3 * P, "\x99", 1);
    fr_serve(&f.server, FR_WRITE);
    fixture_serve(&f);
    assert_true(changed(&f));
    fixture_end(&f);
}

/* A server whose WRITE replies carry no pre-operation attributes. */
static void one_own_write(struct fixture *f, enum cache_wcc wcc, bool foreign)
{
    struct fixture_sync s;

    fixture_begin(f, &(struct cache_config){.wcc = wcc}, 8 * P);
    f->server.atomic_pre = false;
    assert_true(fixture_write(f, 5, "x", 1)); /* from this one it learns that */
    assert_int_equal(fixture_sync(f), 0);
    changed(f);
    assert_false(changed(f));
    assert_true(fixture_write(f, 5, "y", 1));
    if (foreign)
        fr_write(f->file, 3 * P, "\x99", 1);
    fixture_sync_start(f, &s);
    fixture_serve(f);
    assert_true(s.done);
}

static void strict_takes_own_writes_for_changes(void **state)
{
    struct fixture f;

    (void)state;
    one_own_write(&f, CACHE_WCC_STRICT, false);
    assert_true(changed(&f));
    fixture_end(&f);
}

static void bracket_knows_its_own_writes(void **state)
{
    struct fixture f;

    (void)state;
    one_own_write(&f, CACHE_WCC_BRACKET, false);
    assert_false(changed(&f));
    fixture_end(&f);
}

static void bracket_sees_a_foreign_write_before(void **state)
{
    struct fixture f;

    (void)state;
    one_own_write(&f, CACHE_WCC_BRACKET, true);
    assert_true(changed(&f));
    fixture_end(&f);
}

/* A cache that has learnt that WRITE tells nothing of before, and byte `off` dirty; the sync of it
 * has begun. */
static void bracketed(struct fixture *f, struct fixture_sync *s, uint64_t off)
{
    fixture_begin(f, &(struct cache_config){.wcc = CACHE_WCC_BRACKET}, 8 * P);
    f->server.atomic_pre = false;
    assert_true(fixture_write(f, 5, "x", 1));
    assert_int_equal(fixture_sync(f), 0);
    changed(f);
    assert_false(changed(f));
    assert_true(fixture_write(f, off, "y", 1));
    fixture_sync_start(f, s);
}

static void bracket_waits_for_no_answer(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    bracketed(&f, &s, 5);
    assert_int_equal(fr_count(&f.server, FR_GETATTR), 1);
    assert_int_equal(fr_count(&f.server, FR_WRITE), 1);
    assert_true(fr_find(&f.server, FR_GETATTR, NULL, false)->number <
                fr_find(&f.server, FR_WRITE, NULL, false)->number);
    fixture_serve(&f);
    assert_true(s.done);
    assert_false(changed(&f));
    fixture_end(&f);
}

/* Its answer comes last. Until then nothing is adopted, and whoever waits is not told. */
static void bracket_may_be_answered_last(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    bracketed(&f, &s, 5);
    fr_apply(fr_find(&f.server, FR_GETATTR, NULL, false));
    fr_deliver(fr_find(&f.server, FR_WRITE, NULL, false));
    sim_settle();
    assert_false(s.done);
    fixture_serve(&f);
    assert_true(s.done);
    assert_int_equal(s.s.error, 0);
    assert_false(changed(&f));
    fixture_end(&f);
}

/* What the server carries out after the WRITE proves nothing, whatever was there before. */
static void bracket_carried_out_after_the_write_proves_nothing(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    bracketed(&f, &s, 5);
    fr_write(f.file, 3 * P, "\x99", 1);
    fr_apply(fr_find(&f.server, FR_WRITE, NULL, false));
    fixture_serve(&f);
    assert_true(s.done);
    assert_true(changed(&f));
    fixture_expect(&f, 3 * P, "\x99", 1);
    fixture_end(&f);
}

static void an_error_of_the_bracket_proves_nothing(void **state)
{
    struct fixture f;
    struct fixture_sync s;

    (void)state;
    bracketed(&f, &s, 5);
    fr_fail(&f.server, FR_GETATTR, -EIO, 1);
    fixture_serve(&f);
    assert_true(s.done);
    assert_int_equal(s.s.error, 0);
    assert_true(changed(&f));
    fixture_end(&f);
}

/* Where whoever opens the file looks at its pages all the same, nothing is asked; the state of the
 * file is known, and that nothing is proven of its pages. */
static void no_bracket_where_nobody_trusts_it(void **state)
{
    struct fixture f;
    uint64_t asked;
    struct token t, now;

    (void)state;
    for (int foreign = 0; foreign < 2; foreign++) {
        fixture_begin(&f, &(struct cache_config){.wcc = CACHE_WCC_BRACKET}, 2 * P);
        f.server.atomic_pre = false;
        f.k->host.no_proof = true;
        assert_true(fixture_write(&f, 5, "x", 1));
        assert_int_equal(fixture_sync(&f), 0);
        changed(&f);
        assert_true(fixture_write(&f, 5, "y", 1));
        if (foreign)
            fr_write(f.file, 6, "\x99", 1);
        asked = f.server.calls[FR_GETATTR];
        assert_int_equal(fixture_sync(&f), 0);
        assert_int_equal(f.server.calls[FR_GETATTR], asked);
        t = mapping_token(f.m);

        struct attr attr = fr_attr(f.file);

        now = token_of(&attr);
        assert_true(token_same(&t, &now));
        assert_false(token_equal(&t, &now));

        struct token pre, post;

        fr_setattr_size(f.file, 2 * P, &pre, &post);
        assert_true(mapping_own_change(f.m, &pre, &post)); /* and it goes on from there */
        assert_true(changed(&f));
        fixture_expect(&f, 5, foreign ? "y\x99" : "y\1", 2);
        assert_false(changed(&f));
        fixture_end(&f);
    }
}

/* Other pages of the file would be dropped for it. */
static void bracket_protects_the_other_pages(void **state)
{
    struct fixture f;
    uint64_t asked;

    (void)state;
    fixture_begin(&f, &(struct cache_config){.wcc = CACHE_WCC_BRACKET}, 2 * P);
    f.server.atomic_pre = false;
    f.k->host.no_proof = true;
    assert_true(fixture_write(&f, 5, "x", 1));
    assert_int_equal(fixture_sync(&f), 0);
    changed(&f);
    fixture_expect(&f, P, "\2", 1);
    assert_true(fixture_write(&f, 5, "y", 1));
    asked = f.server.calls[FR_GETATTR];
    assert_int_equal(fixture_sync(&f), 0);
    assert_int_equal(f.server.calls[FR_GETATTR], asked + 1);
    assert_false(changed(&f));
    fixture_end(&f);
}

static void trust_adopts_its_own_writes(void **state)
{
    struct fixture f;

    (void)state;
    one_own_write(&f, CACHE_WCC_TRUST, false);
    assert_false(changed(&f));
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unchanged_file_keeps_its_pages),
        cmocka_unit_test(a_changed_file_loses_them),
        cmocka_unit_test(an_error_of_asking_discards_nothing),
        cmocka_unit_test(an_unmap_that_fails_leaves_the_token),
        cmocka_unit_test(it_writes_and_waits_first),
        cmocka_unit_test(bytes_dirtied_while_it_waits_are_kept),
        cmocka_unit_test(a_failing_write_does_not_end_it_nor_lose_the_bytes),
        cmocka_unit_test(the_walk_goes_on_behind_a_page_that_stays),
        cmocka_unit_test(the_token_is_of_step_0),
        cmocka_unit_test(growth_elsewhere_is_seen),
        cmocka_unit_test(a_shrink_elsewhere_is_seen_after_the_unmap),
        cmocka_unit_test(an_own_append_in_flight_is_not_cut),
        cmocka_unit_test(an_own_append_not_yet_sent_is_not_cut),
        cmocka_unit_test(own_writes_move_the_token_in_any_order_of_replies),
        cmocka_unit_test(a_foreign_write_between_own_ones_is_seen),
        cmocka_unit_test(strict_takes_own_writes_for_changes),
        cmocka_unit_test(bracket_knows_its_own_writes),
        cmocka_unit_test(bracket_sees_a_foreign_write_before),
        cmocka_unit_test(bracket_waits_for_no_answer),
        cmocka_unit_test(bracket_may_be_answered_last),
        cmocka_unit_test(bracket_carried_out_after_the_write_proves_nothing),
        cmocka_unit_test(an_error_of_the_bracket_proves_nothing),
        cmocka_unit_test(no_bracket_where_nobody_trusts_it),
        cmocka_unit_test(bracket_protects_the_other_pages),
        cmocka_unit_test(trust_adopts_its_own_writes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
