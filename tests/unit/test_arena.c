// SPDX-License-Identifier: Apache-2.0
/* The arena, its slabs and the credential table: what is handed out, what survives a death. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/arena.h"

#define NTHREADS 4

static struct arena make_arena(void)
{
    const struct arena_sizes sizes = {.inodes = 1000,
                                      .files = 8,
                                      .creds = 70000,
                                      .intents = 16,
                                      .pages = 100000,
                                      .frames = 100000,
                                      .page_size = 48,
                                      .more_size = 32};
    struct arena a;
    assert_int_equal(arena_create(&a, &sizes), 0);
    return a;
}

static uint64_t memory_of(const struct arena *a)
{
    struct stat st;
    assert_int_equal(fstat(a->fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static void regions_do_not_overlap(void **state)
{
    struct arena a = make_arena();
    for (int r = 0; r + 1 < ARENA_REGIONS; r++)
        assert_true((uint8_t *)arena_at(&a, r, a.header->region[r].count) <= a.base[r + 1]);
    assert_true((uint8_t *)arena_at(&a, ARENA_FRAMES, 100001) <= (uint8_t *)a.header + a.bytes);
    assert_int_equal((uintptr_t)a.base[ARENA_FRAMES] % (2 << 20), 0);
    assert_int_equal(a.header->region[ARENA_PAGES].size, 48);
    assert_int_equal(a.header->region[ARENA_MORE].size, 32);
    assert_int_equal(a.header->region[ARENA_MORE].count, a.header->region[ARENA_PAGES].count);
    arena_close(&a);
}

static void sizes_without_sense_are_refused(void **state)
{
    struct arena a;
    struct arena_sizes sizes = {.pages = 10, .page_size = 0, .more_size = 32};
    assert_int_equal(arena_create(&a, &sizes), -EINVAL);
    sizes.page_size = 81;
    assert_int_equal(arena_create(&a, &sizes), -EINVAL);
    sizes.page_size = 48;
    sizes.more_size = 0;
    assert_int_equal(arena_create(&a, &sizes), -EINVAL);
    sizes = (struct arena_sizes){.inodes = UINT32_MAX};
    assert_int_equal(arena_create(&a, &sizes), -EINVAL);
}

/* Neither making the slabs (which scan) nor a few records may fill the memfd. */
static void unused_records_cost_no_memory(void **state)
{
    struct arena a = make_arena();
    struct slab *slab[ARENA_REGIONS];
    for (int r = 0; r < ARENA_REGIONS; r++)
        slab[r] = slab_new(&a, r);
    assert_true(memory_of(&a) <= 64 << 10);
    uint32_t index = slab_alloc(slab[ARENA_PAGES]);
    memset(arena_at(&a, ARENA_PAGES, index), 1, 48);
    assert_true(memory_of(&a) <= 128 << 10);
    for (int r = 0; r < ARENA_REGIONS; r++)
        slab_destroy(slab[r]);
    arena_close(&a);
}

static void full_slab_answers_zero_and_recovers(void **state)
{
    struct arena a = make_arena();
    struct slab *s = slab_new(&a, ARENA_FILES);
    bool seen[9] = {true};
    for (int i = 0; i < 8; i++) {
        uint32_t index = slab_alloc(s);
        assert_in_range(index, 1, 8);
        assert_false(seen[index]);
        seen[index] = true;
    }
    assert_int_equal(slab_alloc(s), 0);
    assert_int_equal(slab_used(s), 8);
    slab_free(s, 3);
    slab_free(s, 5);
    assert_int_equal(slab_used(s), 6);
    assert_int_equal(slab_alloc_below(s, 3), 0);
    assert_int_equal(slab_alloc(s), 3); /* the lowest first: what is used stays together */
    assert_int_equal(slab_alloc(s), 5);
    assert_int_equal(slab_alloc(s), 0);
    slab_destroy(s);
    arena_close(&a);
}

static void freeing_clears_the_live_word(void **state)
{
    struct arena a = make_arena();
    struct slab *s = slab_new(&a, ARENA_INODES);
    uint32_t index = slab_alloc(s);
    struct inode_rec *rec = arena_at(&a, ARENA_INODES, index);
    assert_int_equal(rec->live, 0);
    slab_publish(&rec->live, 7);
    slab_free(s, index);
    assert_int_equal(rec->live, 0);
    slab_destroy(s);
    arena_close(&a);
}

/* A frame holds data from its first byte: freeing must not write into it. */
static void freeing_a_frame_leaves_its_bytes(void **state)
{
    struct arena a = make_arena();
    struct slab *s = slab_new(&a, ARENA_FRAMES);
    uint32_t index = slab_alloc(s);
    uint32_t *bytes = arena_at(&a, ARENA_FRAMES, index);
    *bytes = 0x12345678;
    slab_free(s, index);
    assert_int_equal(*bytes, 0x12345678);
    slab_destroy(s);
    arena_close(&a);
}

/* The child that dies: record i of five; 1 and 4 live, 2 freed, 3 never published, 5 live. */
static void worker_that_dies(struct arena *a)
{
    struct slab *s = slab_new(a, ARENA_INODES);
    for (uint32_t i = 1; i <= 5; i++) {
        uint32_t index = slab_alloc(s);
        struct inode_rec *rec = arena_at(a, ARENA_INODES, index);
        rec->attr.size = 100 + i;
        if (i != 3)
            slab_publish(&rec->live, 1);
    }
    slab_free(s, 2);
    struct credtab *t = credtab_new(a);
    struct cred c = {.uid = 1000, .gid = 100, .ngroups = 1, .groups = {27}};
    if (credtab_intern(t, &c) != 1)
        _exit(1);
    _exit(0);
}

static void successor_finds_the_live_records(void **state)
{
    struct arena a = make_arena();
    int fd = dup(a.fd), status;
    pid_t pid = fork();
    if (pid == 0)
        worker_that_dies(&a);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    arena_close(&a);

    assert_int_equal(arena_adopt(&a, fd), 0);
    struct slab *s = slab_new(&a, ARENA_INODES);
    assert_int_equal(slab_used(s), 3);
    for (uint32_t i = 1; i <= 5; i++) {
        struct inode_rec *rec = arena_at(&a, ARENA_INODES, i);
        assert_int_equal(rec->live, i != 2 && i != 3);
        if (rec->live)
            assert_int_equal(rec->attr.size, 100 + i);
    }
    assert_int_equal(slab_alloc(s), 2);
    assert_int_equal(slab_alloc(s), 3);
    assert_int_equal(slab_alloc(s), 6);
    struct credtab *t = credtab_new(&a);
    struct cred c = {.uid = 1000, .gid = 100, .ngroups = 1, .groups = {27}};
    assert_int_equal(credtab_intern(t, &c), 1);
    c.uid = 1;
    assert_int_equal(credtab_intern(t, &c), 2);
    credtab_destroy(t);
    slab_destroy(s);
    arena_close(&a);
}

static bool odd(uint32_t index, void *arg)
{
    return index < 100 && index % 2;
}

static void frames_are_taken_by_their_owner(void **state)
{
    struct arena a = make_arena();
    struct slab *s = slab_new_scan(&a, ARENA_FRAMES, odd, NULL);
    assert_int_equal(slab_used(s), 50);
    for (uint32_t i = 2; i < 99; i += 2)
        assert_int_equal(slab_alloc(s), i);
    assert_int_equal(slab_alloc(s), 100);
    slab_destroy(s);
    arena_close(&a);
}

static void what_is_no_arena_is_not_adopted(void **state)
{
    struct arena a = make_arena(), b;
    int fd = dup(a.fd);
    a.header->region[ARENA_PAGES].count += 1u << 20;
    assert_int_equal(arena_adopt(&b, fd), -EINVAL);
    a.header->region[ARENA_PAGES].count -= 1u << 20;
    a.header->region[ARENA_FILES].size++;
    assert_int_equal(arena_adopt(&b, fd), -EINVAL);
    a.header->region[ARENA_FILES].size--;
    a.header->version++;
    assert_int_equal(arena_adopt(&b, fd), -EINVAL);
    a.header->version--;
    assert_int_equal(arena_adopt(&b, fd), 0);
    arena_close(&b);
    fd = memfd_create("short", 0);
    assert_int_equal(arena_adopt(&b, fd), -EINVAL);
    close(fd);
    arena_close(&a);
}

static void equal_credentials_share_an_index(void **state)
{
    struct arena a = make_arena();
    struct credtab *t = credtab_new(&a);
    struct cred c = {.uid = 1, .gid = 2, .ngroups = 2, .groups = {3, 4}};
    uint16_t index = credtab_intern(t, &c);
    assert_int_not_equal(index, 0);
    c.groups[5] = 99; /* beyond ngroups: says nothing */
    assert_int_equal(credtab_intern(t, &c), index);
    c.ngroups = 1;
    uint16_t other = credtab_intern(t, &c);
    assert_int_not_equal(other, index);
    assert_int_equal(credtab_get(t, index)->ngroups, 2);
    assert_int_equal(credtab_get(t, index)->groups[1], 4);
    assert_int_equal(credtab_get(t, other)->groups[1], 0);
    credtab_destroy(t);
    arena_close(&a);
}

static void the_65536th_credential_is_refused(void **state)
{
    struct arena a = make_arena();
    struct credtab *t = credtab_new(&a);
    struct cred c = {0};
    for (c.uid = 0; c.uid < 65535; c.uid++)
        assert_int_equal(credtab_intern(t, &c), c.uid + 1);
    assert_int_equal(credtab_intern(t, &c), 0);
    c.uid = 65534;
    assert_int_equal(credtab_intern(t, &c), 65535);
    credtab_destroy(t);
    arena_close(&a);
}

struct crowd {
    struct arena *arena;
    struct slab *slab;
    struct credtab *creds;
};

/* Each holds up to 16 records, writes its mark into them, and finds it there again. */
static void *crowd_member(void *arg)
{
    struct crowd *crowd = arg;
    uint32_t held[16] = {0}, seed = (uint32_t)(uintptr_t)&held;
    for (int i = 0; i < 20000; i++) {
        uint32_t *slot = &held[rand_r(&seed) % 16];
        if (*slot) {
            struct inode_rec *rec = arena_at(crowd->arena, ARENA_INODES, *slot);
            assert_ptr_equal((void *)(uintptr_t)rec->nlookup, held);
            slab_free(crowd->slab, *slot);
            *slot = 0;
        } else if ((*slot = slab_alloc(crowd->slab))) {
            struct inode_rec *rec = arena_at(crowd->arena, ARENA_INODES, *slot);
            assert_int_equal(rec->live, 0);
            rec->nlookup = (uintptr_t)held;
            slab_publish(&rec->live, 1);
        }
        struct cred c = {.uid = rand_r(&seed) % 300, .ngroups = 1, .groups = {7}};
        uint16_t index = credtab_intern(crowd->creds, &c);
        assert_int_equal(credtab_get(crowd->creds, index)->uid, c.uid);
    }
    for (int i = 0; i < 16; i++)
        if (held[i])
            slab_free(crowd->slab, held[i]);
    return NULL;
}

static void threads_never_share_a_record(void **state)
{
    struct arena a = make_arena();
    struct crowd crowd = {&a, slab_new(&a, ARENA_INODES), credtab_new(&a)};
    pthread_t thread[NTHREADS];
    for (int i = 0; i < NTHREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, crowd_member, &crowd), 0);
    for (int i = 0; i < NTHREADS; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(slab_used(crowd.slab), 0);
    credtab_destroy(crowd.creds);
    slab_destroy(crowd.slab);
    arena_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regions_do_not_overlap),
        cmocka_unit_test(sizes_without_sense_are_refused),
        cmocka_unit_test(unused_records_cost_no_memory),
        cmocka_unit_test(full_slab_answers_zero_and_recovers),
        cmocka_unit_test(freeing_clears_the_live_word),
        cmocka_unit_test(freeing_a_frame_leaves_its_bytes),
        cmocka_unit_test(successor_finds_the_live_records),
        cmocka_unit_test(frames_are_taken_by_their_owner),
        cmocka_unit_test(what_is_no_arena_is_not_adopted),
        cmocka_unit_test(equal_credentials_share_an_index),
        cmocka_unit_test(the_65536th_credential_is_refused),
        cmocka_unit_test(threads_never_share_a_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
