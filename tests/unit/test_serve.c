// SPDX-License-Identifier: Apache-2.0
/* The embedded server: data, attributes, what a reboot loses. One test, one behaviour. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/serve_fixture.h"

static void data_comes_back(void **state)
{
    struct fixture f;
    const uint32_t size = 3 << 20;
    uint8_t *data = malloc(size), *got = malloc(1 << 20);
    uint64_t verf = 0;
    uint32_t n;
    bool eof;

    for (uint32_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 2654435761U >> 13);
    fixture_start(&f, NULL);
    struct fh fh = file_with(&f, "data");
    /* Pieces of odd sizes, backwards, so that the chunks' ranges are merged from all sides. */
    for (uint32_t end = size; end > 0;) {
        uint32_t len = end > 99991 ? 99991 : end;
        struct write_result w;
        end -= len;
        assert_int_equal(raw_write(&f.raw, &fh, end, data + end, len, 0, &w), E_OK);
        assert_int_equal(w.count, len);
        assert_true(verf == 0 || verf == w.verf);
        verf = w.verf;
    }
    for (int round = 0; round < 2; round++) {
        for (uint32_t off = 0; off < size; off += 1 << 20) {
            assert_int_equal(raw_read(&f.raw, &fh, off, got, 1 << 20, &n, &eof), E_OK);
            assert_int_equal(n, 1 << 20);
            assert_int_equal(eof, off + n == size);
            assert_memory_equal(got, data + off, n);
        }
        assert_int_equal(raw_commit(&f.raw, &fh, NULL), E_OK);
    }
    assert_int_equal(raw_read(&f.raw, &fh, size - 10, got, 100, &n, &eof), E_OK);
    assert_int_equal(n, 10);
    assert_true(eof);
    assert_int_equal(raw_read(&f.raw, &fh, size + 10, got, 100, &n, &eof), E_OK);
    assert_int_equal(n, 0);
    assert_true(eof);
    int fd = open(fixture_path(&f, "data"), O_RDONLY);
    for (uint32_t off = 0; off < size; off += 1 << 20) {
        assert_int_equal(pread(fd, got, 1 << 20, off), 1 << 20);
        assert_memory_equal(got, data + off, 1 << 20);
    }
    close(fd);
    free(data);
    free(got);
    fixture_stop(&f);
}

/* Many small ranges in one chunk, overlapping at random, against a plain array. */
static void uncommitted_ranges_merge(void **state)
{
    struct fixture f;
    uint8_t model[70000] = {0}, piece[600], got[70000];
    uint32_t size = 0, n;

    fixture_start(&f, NULL);
    struct fh fh = file_with(&f, "ranges");
    srand(20061);
    for (int i = 0; i < 3000; i++) {
        uint32_t off = (uint32_t)rand() % (sizeof(model) - sizeof(piece));
        uint32_t len = 1 + (uint32_t)rand() % (i % 10 ? 40 : sizeof(piece));
        memset(piece, 1 + i % 255, len);
        memcpy(model + off, piece, len);
        size = off + len > size ? off + len : size;
        assert_int_equal(raw_write(&f.raw, &fh, off, piece, len, 0, NULL), E_OK);
        if (i % 500 == 250) {
            assert_int_equal(raw_read(&f.raw, &fh, 0, got, sizeof(got), &n, NULL), E_OK);
            assert_int_equal(n, size);
            assert_memory_equal(got, model, size);
        }
        if (i % 1000 == 700)
            assert_int_equal(raw_commit(&f.raw, &fh, NULL), E_OK);
    }
    expect_content(&f, &fh, 0, model, size);
    fixture_stop(&f);
}

static void uncommitted_data_stays_out_of_the_directory_until_commit(void **state)
{
    struct fixture f;
    struct write_result w;

    fixture_start(&f, NULL);
    struct fh fh = file_with(&f, "a");
    assert_int_equal(raw_write(&f.raw, &fh, 0, "unstable", 8, 0, &w), E_OK);
    assert_int_equal(w.committed, 0);
    assert_int_equal(w.after.size, 8);
    assert_string_equal(fixture_get(&f, "a"), "");
    assert_int_equal(raw_commit(&f.raw, &fh, &w), E_OK);
    assert_string_equal(fixture_get(&f, "a"), "unstable");
    assert_int_equal(raw_write(&f.raw, &fh, 0, "FILESYNC", 8, 2, &w), E_OK);
    assert_int_equal(w.committed, 2);
    assert_string_equal(fixture_get(&f, "a"), "FILESYNC");
    fixture_stop(&f);
}

static void what_could_never_be_committed_is_refused(void **state)
{
    struct fixture f;

    fixture_start(&f, NULL);
    struct fh fh = file_with(&f, "a");
    assert_int_equal(raw_write(&f.raw, &fh, 1ULL << 62, "far", 3, 0, NULL), E_FBIG);
    assert_int_equal(raw_write(&f.raw, &fh, INT64_MAX, "far", 3, 0, NULL), E_FBIG);
    assert_int_equal(raw_write(&f.raw, &fh, 5ULL << 32, "far", 3, 0, NULL), E_OK);
    assert_int_equal(raw_commit(&f.raw, &fh, NULL), E_OK);
    expect_content(&f, &fh, 5ULL << 32, "far", 3);
    fixture_stop(&f);
}

/* A file that cannot be committed stays uncommitted, says so, and keeps no other from it. */
static void failed_commit_keeps_the_data(void **state)
{
    struct fixture f;
    struct rlimit limit, small;
    char answer[256];

    fixture_start(&f, NULL);
    struct fh big = file_with(&f, "big"), other = file_with(&f, "other");
    assert_int_equal(raw_write(&f.raw, &big, 1 << 20, "tail", 4, 0, NULL), E_OK);
    assert_int_equal(raw_write(&f.raw, &other, 0, "other", 5, 0, NULL), E_OK);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    small = (struct rlimit){1 << 16, limit.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    assert_int_equal(raw_commit(&f.raw, &big, NULL), E_FBIG);
    FILE *out = fmemopen(answer, sizeof(answer), "w");
    assert_false(server_command(f.srv, "commit", out));
    fclose(out);
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_string_equal(fixture_get(&f, "other"), "other");
    assert_string_equal(fixture_get(&f, "big"), "");
    expect_content(&f, &big, 1 << 20, "tail", 4);
    assert_int_equal(raw_commit(&f.raw, &big, NULL), E_OK);
    expect_content(&f, &big, 1 << 20, "tail", 4);
    fixture_stop(&f);
}

static void reboot_loses_uncommitted_data_and_changes_the_verifier(void **state)
{
    struct fixture f;
    struct write_result before, after;
    struct attrs a;

    fixture_start(&f, NULL);
    struct fh fh = file_with(&f, "a");
    assert_int_equal(raw_write(&f.raw, &fh, 0, "committed", 9, 0, NULL), E_OK);
    assert_int_equal(raw_commit(&f.raw, &fh, NULL), E_OK);
    assert_int_equal(raw_write(&f.raw, &fh, 0, "XXXXX", 5, 0, NULL), E_OK);
    assert_int_equal(raw_write(&f.raw, &fh, 100, "beyond", 6, 0, &before), E_OK);
    fixture_command(&f, "reboot");
    raw_reconnect(&f.raw);
    assert_int_equal(raw_commit(&f.raw, &fh, &after), E_OK);
    assert_true(before.verf != after.verf);
    assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_OK);
    assert_int_equal(a.size, 9);
    expect_content(&f, &fh, 0, "committed", 9);
    fixture_stop(&f);
}

static void orderly_shutdown_commits(void **state)
{
    struct fixture f;

    fixture_start(&f, NULL);
    struct fh fh = file_with(&f, "a");
    assert_int_equal(raw_write(&f.raw, &fh, 0, "kept", 4, 0, NULL), E_OK);
    fixture_restart(&f);
    assert_string_equal(fixture_get(&f, "a"), "kept");
    fixture_stop(&f);
}

static void write_through_is_seen_in_the_directory_at_once(void **state)
{
    struct fixture f;
    struct write_result w;

    fixture_start(&f, &(struct server_options){.write_through = true});
    struct fh fh = file_with(&f, "a");
    assert_int_equal(raw_write(&f.raw, &fh, 0, "now", 3, 0, &w), E_OK);
    assert_int_equal(w.committed, 0);
    assert_string_equal(fixture_get(&f, "a"), "now");
    fixture_stop(&f);
}

static void above_the_limit_the_oldest_is_committed_early(void **state)
{
    struct fixture f;
    struct fh fh[40];
    char name[16];

    fixture_start(&f, &(struct server_options){.uncommitted_max = 1 << 20});
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        fh[i] = file_with(&f, name);
        assert_int_equal(raw_write(&f.raw, &fh[i], 0, name, 3, 0, NULL), E_OK);
    }
    assert_string_equal(fixture_get(&f, "f0"), "f0");
    assert_string_equal(fixture_get(&f, "f39"), "");
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        expect_content(&f, &fh[i], 0, name, 3);
    }
    fixture_stop(&f);
}

/* A client that keeps the last attributes it saw must find them as "before" of its next change. */
static void attributes_before_are_those_seen_last(void **state)
{
    struct fixture f;
    struct write_result w = {0};
    struct attrs last;

    fixture_start(&f, NULL);
    struct fh fh = file_with(&f, "a");
    assert_int_equal(raw_getattr(&f.raw, &fh, &last), E_OK);
    for (int i = 0; i < 30; i++) {
        bool commit = i % 5 == 4;
        if (commit)
            assert_int_equal(raw_commit(&f.raw, &fh, &w), E_OK);
        else
            assert_int_equal(
                raw_write(&f.raw, &fh, (uint64_t)i * 10, "0123456789", 10, i % 3 == 2 ? 2 : 0, &w),
                E_OK);
        assert_true(w.before.present && w.after.present);
        assert_int_equal(w.before.ctime, last.ctime);
        assert_int_equal(w.before.mtime, last.mtime);
        assert_int_equal(w.before.size, last.size);
        if (commit) {
            assert_int_equal(w.after.ctime, last.ctime);
            assert_int_equal(w.after.mtime, last.mtime);
        } else if (i % 3 != 2) {
            /* a stable WRITE has the resolution of the directory's own clock */
            assert_true(w.after.ctime > last.ctime);
        }
        last = w.after;
    }
    struct attrs now;
    assert_int_equal(raw_getattr(&f.raw, &fh, &now), E_OK);
    assert_memory_equal(&now.ctime, &last.ctime, sizeof(now.ctime));
    fixture_stop(&f);
}

/* Concurrent writers of one file: "before" and "after" of all calls make one chain without a gap,
 * which is what lets a client tell its own changes from others'. */
enum { WRITERS = 4, WRITES = 300 };

struct writer {
    pthread_t thread;
    struct fixture *f;
    struct fh fh;
    uint64_t before[WRITES], after[WRITES];
};

/* All calls at once, so that the server's threads meet in the file. */
static void *write_many(void *arg)
{
    struct writer *writer = arg;
    struct xbuf args = {0}, call = {0};
    struct attrs before, after;
    struct raw raw = {0};
    uint32_t xid;

    raw_open(&raw, server_port(writer->f->srv), 0);
    for (uint32_t i = 0; i < WRITES; i++) {
        x_reset(&args);
        x_fh(&args, &writer->fh), x_u64(&args, i * 7), x_u32(&args, 7), x_u32(&args, 0);
        x_opaque(&args, "1234567", 7);
        raw_build(&raw, &call, i, 100003, P_WRITE, &args);
        raw_send(&raw, call.data, call.len);
    }
    for (int i = 0; i < WRITES; i++) {
        if (raw_receive(&raw, &xid) != 0 || x_get32(&raw.reply) != E_OK)
            abort();
        x_get_wcc(&raw.reply, &before, &after);
        writer->before[i] = before.ctime;
        writer->after[i] = after.ctime;
    }
    x_free(&args);
    x_free(&call);
    raw_close(&raw);
    return NULL;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void concurrent_changes_make_one_chain(void **state)
{
    static struct writer writers[WRITERS];
    static uint64_t before[WRITERS * WRITES], after[WRITERS * WRITES];
    struct fixture f;

    fixture_start(&f, &(struct server_options){.threads = 8});
    struct fh fh = file_with(&f, "a");
    for (int i = 0; i < WRITERS; i++) {
        writers[i].f = &f;
        writers[i].fh = fh;
        pthread_create(&writers[i].thread, NULL, write_many, &writers[i]);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        memcpy(before + i * WRITES, writers[i].before, sizeof(writers[i].before));
        memcpy(after + i * WRITES, writers[i].after, sizeof(writers[i].after));
    }
    qsort(before, WRITERS * WRITES, sizeof(before[0]), compare_u64);
    qsort(after, WRITERS * WRITES, sizeof(after[0]), compare_u64);
    for (int i = 0; i + 1 < WRITERS * WRITES; i++) {
        assert_true(after[i] < after[i + 1]);
        assert_int_equal(after[i], before[i + 1]);
    }
    fixture_stop(&f);
}

static void edits_in_the_directory_are_seen_at_once(void **state)
{
    struct fixture f;
    struct attrs a, b;

    fixture_start(&f, NULL);
    struct fh fh = file_with(&f, "a");
    fixture_put(&f, "a", "first");
    expect_content(&f, &fh, 0, "first", 5);
    /* also on top of a file that was written UNSTABLE, before and after its COMMIT */
    assert_int_equal(raw_write(&f.raw, &fh, 0, "F", 1, 0, NULL), E_OK);
    assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_OK);
    wait_for_tick();
    int fd = open(fixture_path(&f, "a"), O_WRONLY);
    assert_int_equal(pwrite(fd, "xyz", 3, 5), 3);
    close(fd);
    assert_int_equal(raw_getattr(&f.raw, &fh, &b), E_OK);
    assert_int_equal(b.size, 8);
    assert_true(b.ctime > a.ctime && b.mtime > a.mtime);
    expect_content(&f, &fh, 0, "Firstxyz", 8);
    assert_int_equal(raw_commit(&f.raw, &fh, NULL), E_OK);
    wait_for_tick();
    fixture_put(&f, "a", "after");
    assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_OK);
    assert_true(a.ctime > b.ctime);
    expect_content(&f, &fh, 0, "after", 5);
    assert_string_equal(fixture_get(&f, "a"), "after");
    fixture_stop(&f);
}

static uint32_t set_attr(struct raw *raw, const struct fh *fh, const struct xbuf *sattr,
                         uint64_t guard)
{
    struct xbuf args = {0};

    x_fh(&args, fh);
    for (size_t i = 0; i < sattr->len; i += 4) {
        uint32_t word;
        memcpy(&word, sattr->data + i, 4);
        x_u32(&args, __builtin_bswap32(word));
    }
    x_u32(&args, guard != 0);
    if (guard) {
        x_u32(&args, (uint32_t)(guard / 1000000000));
        x_u32(&args, (uint32_t)(guard % 1000000000));
    }
    uint32_t status = raw_nfs(raw, P_SETATTR, &args);
    x_free(&args);
    return status;
}

static void setattr_sets_every_field(void **state)
{
    struct fixture f;
    struct xbuf s = {0};
    struct attrs a;

    fixture_start(&f, NULL);
    struct fh fh = file_with(&f, "a");
    assert_int_equal(raw_write(&f.raw, &fh, 0, "0123456789", 10, 0, NULL), E_OK);
    bool root = geteuid() == 0;
    x_u32(&s, 1), x_u32(&s, 0640);
    x_u32(&s, root), root ? x_u32(&s, 1234) : (void)0;
    x_u32(&s, root), root ? x_u32(&s, 4321) : (void)0;
    x_u32(&s, 1), x_u64(&s, 4);
    x_u32(&s, 2), x_u32(&s, 1000), x_u32(&s, 7);
    x_u32(&s, 2), x_u32(&s, 2000), x_u32(&s, 8);
    assert_int_equal(set_attr(&f.raw, &fh, &s, 0), E_OK);
    assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_OK);
    assert_int_equal(a.mode, 0640);
    if (root) {
        assert_int_equal(a.uid, 1234);
        assert_int_equal(a.gid, 4321);
    }
    assert_int_equal(a.size, 4);
    assert_int_equal(a.atime, 1000000000007ULL);
    assert_int_equal(a.mtime, 2000000000008ULL);
    /* The mtime that was set stays, though the data was uncommitted when it was set. */
    assert_int_equal(raw_commit(&f.raw, &fh, NULL), E_OK);
    assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_OK);
    assert_int_equal(a.mtime, 2000000000008ULL);
    expect_content(&f, &fh, 0, "0123", 4);

    x_reset(&s);
    x_u64(&s, 0), x_u64(&s, 0), x_u32(&s, 1), x_u32(&s, 1);
    assert_int_equal(set_attr(&f.raw, &fh, &s, 0), E_OK);
    assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_OK);
    assert_true(a.mtime > 1000000000ULL * 1000000 && a.atime > 1000000000ULL * 1000000);
    x_free(&s);
    fixture_stop(&f);
}

static void setattr_guard_refuses_a_changed_file(void **state)
{
    struct fixture f;
    struct xbuf s = {0};
    struct attrs a;

    fixture_start(&f, NULL);
    struct fh fh = file_with(&f, "a");
    assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_OK);
    x_u32(&s, 1), x_u32(&s, 0600), x_u64(&s, 0), x_u64(&s, 0), x_u32(&s, 0);
    assert_int_equal(set_attr(&f.raw, &fh, &s, a.ctime + 1), E_NOT_SYNC);
    assert_int_equal(set_attr(&f.raw, &fh, &s, a.ctime), E_OK);
    x_free(&s);
    fixture_stop(&f);
}

static void truncation_cuts_uncommitted_data(void **state)
{
    struct fixture f;
    struct xbuf s = {0};
    uint8_t data[200000], zeros[100] = {0};

    memset(data, 'd', sizeof(data));
    fixture_start(&f, NULL);
    struct fh fh = file_with(&f, "a");
    assert_int_equal(raw_write(&f.raw, &fh, 0, data, sizeof(data), 0, NULL), E_OK);
    for (uint64_t size = 100000; size <= 150000; size += 50000) {
        x_reset(&s);
        x_u64(&s, 0), x_u32(&s, 0), x_u32(&s, 1), x_u64(&s, size), x_u64(&s, 0);
        assert_int_equal(set_attr(&f.raw, &fh, &s, 0), E_OK);
    }
    expect_content(&f, &fh, 99900, data, 100);
    expect_content(&f, &fh, 100000, zeros, 100);
    expect_content(&f, &fh, 149900, zeros, 100);
    assert_int_equal(raw_commit(&f.raw, &fh, NULL), E_OK);
    expect_content(&f, &fh, 99900, data, 100);
    expect_content(&f, &fh, 100000, zeros, 100);
    x_free(&s);
    fixture_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_comes_back),
        cmocka_unit_test(uncommitted_ranges_merge),
        cmocka_unit_test(uncommitted_data_stays_out_of_the_directory_until_commit),
        cmocka_unit_test(what_could_never_be_committed_is_refused),
        cmocka_unit_test(failed_commit_keeps_the_data),
        cmocka_unit_test(reboot_loses_uncommitted_data_and_changes_the_verifier),
        cmocka_unit_test(orderly_shutdown_commits),
        cmocka_unit_test(write_through_is_seen_in_the_directory_at_once),
        cmocka_unit_test(above_the_limit_the_oldest_is_committed_early),
        cmocka_unit_test(attributes_before_are_those_seen_last),
        cmocka_unit_test(concurrent_changes_make_one_chain),
        cmocka_unit_test(edits_in_the_directory_are_seen_at_once),
        cmocka_unit_test(setattr_sets_every_field),
        cmocka_unit_test(setattr_guard_refuses_a_changed_file),
        cmocka_unit_test(truncation_cuts_uncommitted_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
