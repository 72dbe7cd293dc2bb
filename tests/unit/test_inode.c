// SPDX-License-Identifier: Apache-2.0
/* The inode table: who keeps an inode alive, what a node id may mean, names of victims. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "fuse/ops.h"

/* lock.c is not linked. */
void lock_table_free(struct inode *ino)
{
    assert_null(ino->locks);
}

static struct front *make_front(struct arena *arena)
{
    const struct arena_sizes sizes = {.inodes = 1000,
                                      .files = 8,
                                      .creds = 8,
                                      .intents = 8,
                                      .pages = 64,
                                      .frames = 64,
                                      .page_size = 64,
                                      .more_size = 64};
    struct front *f = calloc(1, sizeof(*f));

    assert_int_equal(arena_create(arena, &sizes), 0);
    f->arena = arena;
    f->inode_slab = slab_new(arena, ARENA_INODES);
    assert_int_equal(inodes_init(f), 0);
    assert_int_equal(names_init(f), 0);
    return f;
}

static void free_front(struct front *f)
{
    assert_int_equal(inodes_destroy(f), 0);
    names_destroy(f);
    assert_int_equal(slab_used(f->inode_slab), 0);
    slab_destroy(f->inode_slab);
    arena_close(f->arena);
    free(f);
}

static struct fh fh_of(unsigned n)
{
    struct fh fh = {.len = 16};

    memcpy(fh.data, &n, sizeof(n));
    return fh;
}

static struct attr attr_of(unsigned n, uint32_t type)
{
    return (struct attr){.mode = type | 0644, .nlink = 1, .fileid = n};
}

/* Made of a type that has no pages. */
static struct inode *get(struct front *f, unsigned n)
{
    struct fh fh = fh_of(n);
    struct attr attr = attr_of(n, S_IFIFO);

    return inode_get(f, &fh, &attr);
}

static void first_inode_is_the_root(void **state)
{
    struct arena arena;
    struct front *f = make_front(&arena);
    struct inode *ino = get(f, 1);

    assert_int_equal(ino->nodeid, FUSE_ROOT_ID);
    inode_unref(f, ino);
    free_front(f);
}

static void one_handle_is_one_inode(void **state)
{
    struct arena arena;
    struct front *f = make_front(&arena);
    struct inode *a = get(f, 1), *b = get(f, 2), *c = get(f, 1);

    assert_ptr_equal(a, c);
    assert_ptr_not_equal(a, b);
    inode_unref(f, a);
    inode_unref(f, b);
    inode_unref(f, c);
    struct fh fh = fh_of(1);
    assert_null(inode_get(f, &fh, NULL));
    free_front(f);
}

static void kernel_keeps_an_inode_until_it_forgets_it(void **state)
{
    struct arena arena;
    struct front *f = make_front(&arena);
    struct inode *ino = get(f, 7);
    fuse_ino_t nodeid = ino->nodeid;

    inode_lookup_add(ino, 2);
    inode_unref(f, ino);
    for (int left = 2; left > 0; left--) {
        ino = inode_by_nodeid(f, nodeid);
        assert_non_null(ino);
        assert_int_equal(ino->rec->nlookup, left);
        inode_forget(f, ino, 1);
        inode_unref(f, ino);
    }
    assert_null(inode_by_nodeid(f, nodeid));
    assert_int_equal(slab_used(f->inode_slab), 0);
    free_front(f);
}

static void node_id_never_names_a_second_inode(void **state)
{
    struct arena arena;
    struct front *f = make_front(&arena);
    fuse_ino_t before = 0;

    for (unsigned n = 0; n < 100; n++) {
        struct inode *ino = get(f, n);

        assert_int_not_equal(ino->nodeid, before);
        assert_null(inode_by_nodeid(f, before));
        before = ino->nodeid;
        inode_unref(f, ino);
    }
    free_front(f);
}

static void handle_of_another_type_is_another_inode(void **state)
{
    struct arena arena;
    struct front *f = make_front(&arena);
    struct inode *old = get(f, 3);
    struct fh fh = fh_of(3);
    struct attr attr = attr_of(3, S_IFSOCK);
    struct inode *new = inode_get(f, &fh, &attr);

    assert_ptr_not_equal(old, new);
    struct inode *still = inode_by_nodeid(f, old->nodeid);
    assert_ptr_equal(still, old);
    inode_unref(f, still);
    still = inode_get(f, &fh, NULL);
    assert_ptr_equal(still, new);
    inode_unref(f, still);
    inode_unref(f, old);
    inode_unref(f, new);
    free_front(f);
}

static void forgetting_too_much_is_an_alarm_and_no_more(void **state)
{
    struct arena arena;
    struct front *f = make_front(&arena);
    struct inode *ino = get(f, 3);

    inode_lookup_add(ino, 1);
    inode_forget(f, ino, 2);
    assert_int_equal(ino->rec->nlookup, 0);
    assert_int_equal(f->stats.alarms, 1);
    inode_unref(f, ino);
    free_front(f);
}

static void full_table_is_told(void **state)
{
    struct arena arena;
    struct front *f = make_front(&arena);
    struct inode *all[1000];

    for (unsigned n = 0; n < 1000; n++)
        assert_non_null(all[n] = get(f, n));
    assert_null(get(f, 1000));
    for (unsigned n = 0; n < 1000; n++)
        inode_unref(f, all[n]);
    assert_non_null(all[0] = get(f, 1000));
    inode_unref(f, all[0]);
    free_front(f);
}

static void *get_and_put(void *arg)
{
    struct front *f = arg;

    for (int i = 0; i < 100000; i++) {
        unsigned n = i % 3;
        struct inode *ino = get(f, n);

        assert_int_equal(ino->magic, INODE_MAGIC);
        assert_int_equal(ino->rec->attr.fileid, n);
        if (i % 2) { /* the kernel gets it, and forgets it */
            fuse_ino_t nodeid = ino->nodeid;

            inode_lookup_add(ino, 1);
            inode_unref(f, ino);
            ino = inode_by_nodeid(f, nodeid);
            assert_non_null(ino);
            inode_forget(f, ino, 1);
        }
        inode_unref(f, ino);
    }
    return NULL;
}

static void inode_on_its_way_out_is_revived_or_made_anew(void **state)
{
    struct arena arena;
    struct front *f = make_front(&arena);
    pthread_t threads[3];

    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, get_and_put, f), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(slab_used(f->inode_slab), 0);
    assert_int_equal(f->stats.alarms, 0);
    free_front(f);
}

static void name_leads_to_the_inode_last_seen_under_it(void **state)
{
    struct arena arena;
    struct front *f = make_front(&arena);
    struct inode *dir = get(f, 1), *other = get(f, 2), *a = get(f, 3), *b = get(f, 4), *found;

    names_set(f, dir, "x", a);
    assert_ptr_equal(found = names_find(f, dir, "x"), a);
    inode_unref(f, found);
    assert_null(names_find(f, other, "x"));
    assert_null(names_find(f, dir, "y"));

    names_set(f, dir, "x", b); /* replaced elsewhere */
    assert_ptr_equal(found = names_find(f, dir, "x"), b);
    inode_unref(f, found);

    names_set(f, other, "a long name that fills some words", b); /* moved */
    assert_null(names_find(f, dir, "x"));
    assert_ptr_equal(found = names_find(f, other, "a long name that fills some words"), b);
    inode_unref(f, found);

    inode_unref(f, b); /* freed */
    assert_null(names_find(f, other, "a long name that fills some words"));

    names_set(f, dir, "z", a);
    names_drop(f, dir, "z");
    assert_null(names_find(f, dir, "z"));
    inode_unref(f, a);
    inode_unref(f, dir);
    inode_unref(f, other);
    free_front(f);
}

static bool is_confirmed(struct front *f, struct inode *dir, const char *name, uint32_t verf)
{
    struct inode *ino = names_find_confirmed(f, dir, name, verf);

    if (ino)
        inode_unref(f, ino);
    return ino;
}

/* Answered without asking: the same name in the same directory, confirmed at the token that it has,
 * by a reply that no own change has overtaken, and not on the kernel's word. */
static void name_is_confirmed_by_a_reply(void **state)
{
    struct arena arena;
    struct front *f = make_front(&arena);
    struct inode *dir = get(f, 1), *other = get(f, 2), *a = get(f, 3), *b = get(f, 4), *found;

    (void)state;
    dir->own_change_ns = 100;
    assert_true(names_confirm(f, dir, "x", a, 7, 101));
    assert_true(is_confirmed(f, dir, "x", 7));
    assert_false(is_confirmed(f, dir, "x", 8)); /* the directory changed */
    assert_false(is_confirmed(f, dir, "x", 0)); /* it is not known */
    assert_false(is_confirmed(f, other, "x", 7));
    assert_false(is_confirmed(f, dir, "y", 7));

    /* Sent before the own change ended: what it says of the name is old. */
    assert_false(names_confirm(f, dir, "x", b, 7, 100));
    assert_ptr_equal(found = names_find(f, dir, "x"), a);
    inode_unref(f, found);

    names_set(f, dir, "x", a); /* by a reply that proves nothing */
    assert_false(is_confirmed(f, dir, "x", 7));

    assert_true(names_confirm(f, dir, "x", a, 7, 101));
    names_told(a, 30);
    assert_false(is_confirmed(f, dir, "x", 7)); /* the kernel knows it, and asks all the same */
    inode_lookup_add(a, 1);
    inode_forget(f, a, 1);
    assert_true(is_confirmed(f, dir, "x", 7));
    names_told(a, 30);
    names_set(f, dir, "y", a);
    assert_true(names_confirm(f, dir, "x", a, 7, 101)); /* another name: it was not told */
    assert_true(is_confirmed(f, dir, "x", 7));

    /* Two names of one hash: the name itself decides. */
    a->name[0] = 'z';
    assert_false(is_confirmed(f, dir, "x", 7));
    inode_unref(f, a);
    inode_unref(f, b);
    inode_unref(f, dir);
    inode_unref(f, other);
    free_front(f);
}

static void verifier_follows_the_token(void **state)
{
    struct arena arena;
    struct front *f = make_front(&arena);
    struct inode *dir = get(f, 1);

    (void)state;
    assert_int_equal(names_verifier(dir), 0);
    dir->attr_valid = true;

    uint32_t was = names_verifier(dir);

    assert_int_not_equal(was, 0);
    assert_int_equal(names_verifier(dir), was);
    dir->rec->attr.mtime.tv_nsec++;
    assert_int_not_equal(names_verifier(dir), was);
    dir->rec->attr.mtime.tv_nsec--;
    dir->rec->attr.ctime.tv_sec++;
    assert_int_not_equal(names_verifier(dir), was);
    dir->rec->attr.ctime.tv_sec--;
    dir->rec->attr.size++;
    assert_int_not_equal(names_verifier(dir), was);
    inode_unref(f, dir);
    free_front(f);
}

static void a_name_in_a_forgotten_directory_is_not_known(void **state)
{
    struct arena arena;
    struct front *f = make_front(&arena);
    struct inode *root = get(f, 1), *dir = get(f, 2), *a = get(f, 3), *in;
    char *name;

    (void)state;
    f->root = root;
    f->config.cto = true;
    a->type = S_IFREG;
    names_set(f, dir, "x", a);
    assert_true(names_of(f, a, &in, &name));
    assert_ptr_equal(in, dir);
    assert_string_equal(name, "x");
    free(name);
    inode_unref(f, in);
    inode_unref(f, dir);
    assert_false(names_of(f, a, &in, &name));
    assert_null(name);
    assert_null(in);
    inode_unref(f, a);
    free_front(f);
}

static void many_names_do_not_lead_astray(void **state)
{
    struct arena arena;
    struct front *f = make_front(&arena);
    struct inode *dir = get(f, 5000), *all[900];
    char name[32];

    for (unsigned n = 0; n < 900; n++) {
        all[n] = get(f, n);
        snprintf(name, sizeof(name), "file%u", n);
        names_set(f, dir, name, all[n]);
    }
    for (unsigned n = 0; n < 900; n++) {
        snprintf(name, sizeof(name), "file%u", n);
        struct inode *found = names_find(f, dir, name);
        assert_ptr_equal(found, all[n]);
        inode_unref(f, found);
    }
    for (unsigned n = 0; n < 900; n++)
        inode_unref(f, all[n]);
    inode_unref(f, dir);
    free_front(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_inode_is_the_root),
        cmocka_unit_test(one_handle_is_one_inode),
        cmocka_unit_test(kernel_keeps_an_inode_until_it_forgets_it),
        cmocka_unit_test(node_id_never_names_a_second_inode),
        cmocka_unit_test(handle_of_another_type_is_another_inode),
        cmocka_unit_test(forgetting_too_much_is_an_alarm_and_no_more),
        cmocka_unit_test(full_table_is_told),
        cmocka_unit_test(inode_on_its_way_out_is_revived_or_made_anew),
        cmocka_unit_test(name_leads_to_the_inode_last_seen_under_it),
        cmocka_unit_test(name_is_confirmed_by_a_reply),
        cmocka_unit_test(verifier_follows_the_token),
        cmocka_unit_test(a_name_in_a_forgotten_directory_is_not_known),
        cmocka_unit_test(many_names_do_not_lead_astray),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
