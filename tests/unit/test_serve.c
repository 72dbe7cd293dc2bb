// SPDX-License-Identifier: Apache-2.0
/* The embedded server: data, attributes, names, handles, permissions. One test, one behaviour. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/serve_fixture.h"

static struct fh file_with(struct fixture *f, const char *name)
{
    struct fh fh;

    assert_int_equal(raw_create(&f->raw, &f->root, name, &fh), E_OK);
    return fh;
}

static void expect_content(struct fixture *f, const struct fh *fh, uint64_t off, const void *want,
                           uint32_t len)
{
    uint8_t *got = malloc(len + 1);
    uint32_t n;

    assert_int_equal(raw_read(&f->raw, fh, off, got, len, &n, NULL), E_OK);
    assert_int_equal(n, len);
    assert_memory_equal(got, want, len);
    free(got);
}

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

static void *write_many(void *arg)
{
    struct writer *writer = arg;
    struct raw raw = {0};
    struct write_result w;

    raw_open(&raw, server_port(writer->f->srv), 0);
    for (int i = 0; i < WRITES; i++) {
        if (raw_write(&raw, &writer->fh, (uint64_t)i * 7, "1234567", 7, 0, &w) != E_OK)
            abort();
        writer->before[i] = w.before.ctime;
        writer->after[i] = w.after.ctime;
    }
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

/* Until the clock of file systems with coarse timestamps has moved on. */
static void wait_for_tick(void)
{
    struct timespec before, now;

    clock_gettime(CLOCK_REALTIME_COARSE, &before);
    do
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
    while (now.tv_sec == before.tv_sec && now.tv_nsec == before.tv_nsec);
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

static void exclusive_create_replays_by_its_verifier(void **state)
{
    struct fixture f;
    struct xbuf args = {0};
    struct fh first, again;

    fixture_start(&f, NULL);
    for (int i = 0; i < 3; i++) {
        x_reset(&args);
        x_fh(&args, &f.root);
        x_name(&args, "excl");
        x_u32(&args, 2);
        x_u64(&args, i == 2 ? 0x1111111122222222ULL : 0xfedcba9876543210ULL);
        uint32_t status = raw_nfs(&f.raw, P_CREATE, &args);
        if (i == 2) {
            assert_int_equal(status, E_EXIST);
        } else {
            assert_int_equal(status, E_OK);
            assert_int_equal(x_get32(&f.raw.reply), 1);
            x_get_fh(&f.raw.reply, i ? &again : &first);
        }
        if (i == 0)
            fixture_restart(&f);
    }
    assert_memory_equal(&first, &again, sizeof(first));
    x_free(&args);
    fixture_stop(&f);
}

static void names_that_are_no_names_are_refused(void **state)
{
    struct fixture f;
    struct fh fh, dir;
    char name[300];

    fixture_start(&f, NULL);
    assert_int_equal(raw_mkdir(&f.raw, &f.root, "dir", &dir), E_OK);
    memset(name, 'n', sizeof(name));
    name[255] = '\0';
    assert_int_equal(raw_create(&f.raw, &f.root, name, &fh), E_OK);
    name[255] = 'n';
    name[256] = '\0';
    assert_int_equal(raw_create(&f.raw, &f.root, name, &fh), E_NAMETOOLONG);
    assert_int_equal(raw_lookup(&f.raw, &f.root, name, &fh), E_NAMETOOLONG);
    assert_int_equal(raw_create(&f.raw, &f.root, "", &fh), E_INVAL);
    assert_int_equal(raw_create(&f.raw, &f.root, "dir/x", &fh), E_ACCES);
    assert_int_equal(raw_create(&f.raw, &f.root, "../outside/x", &fh), E_ACCES);
    assert_int_equal(raw_lookup(&f.raw, &f.root, "../outside", &fh), E_ACCES);
    assert_int_equal(raw_lookup(&f.raw, &dir, "..", &fh), E_ACCES);
    assert_int_equal(raw_lookup(&f.raw, &f.root, "..", &fh), E_ACCES);
    assert_int_equal(raw_lookup(&f.raw, &dir, ".", &fh), E_OK);
    assert_memory_equal(&fh, &dir, sizeof(fh));
    assert_int_equal(raw_create(&f.raw, &dir, "..", &fh), E_EXIST);
    assert_int_equal(raw_mkdir(&f.raw, &dir, ".", &fh), E_EXIST);
    assert_true(raw_remove(&f.raw, &dir, "..") != E_OK);
    struct xbuf args = {0};
    x_fh(&args, &f.root);
    x_opaque(&args, "a\0b", 3);
    assert_int_equal(raw_nfs(&f.raw, P_LOOKUP, &args), E_INVAL);
    x_free(&args);
    fixture_stop(&f);
}

static void symlinks_lead_nowhere(void **state)
{
    struct fixture f;
    struct fh fh, link;
    struct xbuf args = {0};
    char path[256];

    fixture_start(&f, NULL);
    assert_int_equal(symlink("../outside", fixture_path(&f, "dirlink")), 0);
    assert_int_equal(symlink("../outside/made", fixture_path(&f, "filelink")), 0);
    assert_int_equal(raw_lookup(&f.raw, &f.root, "dirlink", &link), E_OK);
    assert_int_equal(raw_lookup(&f.raw, &link, "x", &fh), E_NOTDIR);
    assert_int_equal(raw_create(&f.raw, &link, "x", &fh), E_NOTDIR);
    assert_int_equal(raw_create(&f.raw, &f.root, "filelink", &fh), E_EXIST);
    snprintf(path, sizeof(path), "%s/outside/made", f.dir);
    assert_int_equal(access(path, F_OK), -1);
    snprintf(path, sizeof(path), "%s/dirlink", f.export);
    assert_int_not_equal(raw_mount(&f.raw, path, &fh), E_OK);
    snprintf(path, sizeof(path), "%s/../outside", f.export);
    assert_int_not_equal(raw_mount(&f.raw, path, &fh), E_OK);
    assert_int_not_equal(raw_mount(&f.raw, f.dir, &fh), E_OK);
    x_fh(&args, &link);
    assert_int_equal(raw_nfs(&f.raw, P_READLINK, &args), E_OK);
    x_free(&args);
    fixture_stop(&f);
}

static void forged_handles_are_refused(void **state)
{
    struct fixture f;
    struct attrs a;

    fixture_start(&f, NULL);
    struct fh fh = file_with(&f, "a");
    assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_OK);
    for (uint32_t i = 0; i < fh.len; i++) {
        struct fh forged = fh;
        forged.data[i] ^= 1;
        uint32_t status = raw_getattr(&f.raw, &forged, &a);
        assert_true(status == E_STALE || status == E_BADHANDLE);
    }
    for (uint32_t len = 0; len < 64; len++) {
        struct fh forged = fh;
        if (len == fh.len)
            continue;
        forged.len = len;
        assert_int_equal(raw_getattr(&f.raw, &forged, &a), E_BADHANDLE);
    }
    fixture_stop(&f);
}

static void handles_survive(const struct server_options *opt)
{
    struct fixture f;
    struct fh dir, fh, other;
    struct attrs before, after;

    fixture_start(&f, opt);
    assert_int_equal(raw_mkdir(&f.raw, &f.root, "dir", &dir), E_OK);
    assert_int_equal(raw_create(&f.raw, &dir, "file", &fh), E_OK);
    assert_int_equal(raw_getattr(&f.raw, &fh, &before), E_OK);
    struct fh root = f.root;
    fixture_restart(&f);
    assert_memory_equal(&root, &f.root, sizeof(root));
    assert_int_equal(raw_getattr(&f.raw, &fh, &after), E_OK);
    assert_int_equal(before.fileid, after.fileid);
    /* moved behind the server's back, while it is there and while it is not */
    char from[512];
    snprintf(from, sizeof(from), "%s", fixture_path(&f, "dir"));
    assert_int_equal(rename(from, fixture_path(&f, "moved")), 0);
    assert_int_equal(raw_getattr(&f.raw, &fh, &after), E_OK);
    fixture_restart(&f);
    assert_int_equal(raw_getattr(&f.raw, &fh, &after), E_OK);
    assert_int_equal(raw_lookup(&f.raw, &dir, "file", &other), E_OK);
    assert_memory_equal(&fh, &other, sizeof(fh));
    assert_int_equal(raw_remove(&f.raw, &dir, "file"), E_OK);
    assert_int_equal(raw_getattr(&f.raw, &fh, &after), E_STALE);
    /* the inode number may be given out again at once: the old handle must not mean the new file */
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%d", i);
        assert_int_equal(raw_create(&f.raw, &dir, name, &other), E_OK);
        assert_int_equal(raw_getattr(&f.raw, &fh, &after), E_STALE);
    }
    fixture_stop(&f);
}

static void handles_survive_a_restart(void **state)
{
    handles_survive(NULL);
}

static void handles_of_an_unprivileged_server_survive_a_restart(void **state)
{
    handles_survive(&(struct server_options){.path_handles = true});
}

static void directory_changes_carry_attributes_of_the_directory(void **state)
{
    struct fixture f;
    struct attrs root, before, after;
    struct fh fh;

    fixture_start(&f, NULL);
    assert_int_equal(raw_getattr(&f.raw, &f.root, &root), E_OK);
    wait_for_tick();
    assert_int_equal(raw_create(&f.raw, &f.root, "a", &fh), E_OK);
    x_get_post(&f.raw.reply, &after);
    assert_true(after.present);
    x_get_wcc(&f.raw.reply, &before, &after);
    assert_true(before.present && after.present);
    assert_int_equal(before.ctime, root.ctime);
    assert_true(after.ctime > before.ctime);
    root = after;
    wait_for_tick();
    assert_int_equal(raw_remove(&f.raw, &f.root, "a"), E_OK);
    x_get_wcc(&f.raw.reply, &before, &after);
    assert_int_equal(before.ctime, root.ctime);
    assert_true(after.ctime > before.ctime);
    assert_int_equal(raw_remove(&f.raw, &f.root, "a"), E_NOENT);
    fixture_stop(&f);
}

static void rename_link_and_the_rest_work(void **state)
{
    struct fixture f;
    struct xbuf args = {0};
    struct fh dir, fh, got;
    struct attrs a;

    fixture_start(&f, NULL);
    assert_int_equal(raw_mkdir(&f.raw, &f.root, "dir", &dir), E_OK);
    fh = file_with(&f, "a");
    assert_int_equal(raw_write(&f.raw, &fh, 0, "moves", 5, 0, NULL), E_OK);
    fixture_put(&f, "dir/b", "replaced");
    x_fh(&args, &f.root), x_name(&args, "a"), x_fh(&args, &dir), x_name(&args, "b");
    assert_int_equal(raw_nfs(&f.raw, P_RENAME, &args), E_OK);
    assert_int_equal(raw_lookup(&f.raw, &dir, "b", &got), E_OK);
    assert_memory_equal(&got, &fh, sizeof(fh));
    expect_content(&f, &got, 0, "moves", 5);
    x_reset(&args);
    x_fh(&args, &fh), x_fh(&args, &f.root), x_name(&args, "hard");
    assert_int_equal(raw_nfs(&f.raw, P_LINK, &args), E_OK);
    x_get_post(&f.raw.reply, &a);
    assert_int_equal(a.nlink, 2);
    assert_int_equal(raw_remove(&f.raw, &dir, "b"), E_OK);
    expect_content(&f, &fh, 0, "moves", 5);
    x_reset(&args);
    x_fh(&args, &f.root), x_name(&args, "dir");
    assert_int_equal(raw_nfs(&f.raw, P_RMDIR, &args), E_OK);
    assert_int_equal(raw_getattr(&f.raw, &dir, &a), E_STALE);
    x_reset(&args);
    x_fh(&args, &f.root), x_name(&args, "sym"), x_no_sattr(&args), x_name(&args, "to/where");
    assert_int_equal(raw_nfs(&f.raw, P_SYMLINK, &args), E_OK);
    char target[32] = "";
    assert_int_equal(readlink(fixture_path(&f, "sym"), target, sizeof(target)), 8);
    assert_string_equal(target, "to/where");
    x_reset(&args);
    x_fh(&args, &f.root), x_name(&args, "pipe"), x_u32(&args, 7), x_no_sattr(&args);
    assert_int_equal(raw_nfs(&f.raw, P_MKNOD, &args), E_OK);
    assert_int_equal(raw_lookup(&f.raw, &f.root, "pipe", &got), E_OK);
    assert_int_equal(raw_getattr(&f.raw, &got, &a), E_OK);
    assert_int_equal(a.type, 7);
    uint32_t n;
    char byte;
    assert_int_equal(raw_read(&f.raw, &got, 0, &byte, 1, &n, NULL), E_INVAL);
    assert_int_equal(raw_read(&f.raw, &f.root, 0, &byte, 1, &n, NULL), E_ISDIR);
    x_reset(&args);
    x_fh(&args, &f.root);
    assert_int_equal(raw_nfs(&f.raw, P_FSSTAT, &args), E_OK);
    assert_int_equal(raw_nfs(&f.raw, P_PATHCONF, &args), E_OK);
    assert_int_equal(raw_nfs(&f.raw, P_FSINFO, &args), E_OK);
    x_get_post(&f.raw.reply, &a);
    assert_int_equal(x_get32(&f.raw.reply), 1 << 20);
    x_free(&args);
    fixture_stop(&f);
}

/* Calls in which one directory has two parts: as parent and as object, or as both parents. */
static void calls_that_name_a_directory_twice_are_answered(void **state)
{
    struct fixture f;
    struct xbuf args = {0};
    struct fh dir, fh;

    fixture_start(&f, NULL);
    assert_int_equal(raw_mkdir(&f.raw, &f.root, "dir", &dir), E_OK);
    fh = file_with(&f, "a");
    x_fh(&args, &f.root), x_name(&args, "dir"), x_fh(&args, &dir), x_name(&args, "x");
    assert_int_equal(raw_nfs(&f.raw, P_RENAME, &args), E_INVAL);
    x_reset(&args);
    x_fh(&args, &dir), x_fh(&args, &dir), x_name(&args, "self");
    assert_int_not_equal(raw_nfs(&f.raw, P_LINK, &args), E_OK);
    x_reset(&args);
    x_fh(&args, &fh), x_name(&args, "a"), x_fh(&args, &f.root), x_name(&args, "x");
    assert_int_equal(raw_nfs(&f.raw, P_RENAME, &args), E_NOTDIR);
    x_reset(&args);
    x_fh(&args, &f.root), x_name(&args, "a"), x_fh(&args, &f.root), x_name(&args, "b");
    assert_int_equal(raw_nfs(&f.raw, P_RENAME, &args), E_OK);
    assert_int_equal(raw_lookup(&f.raw, &f.root, ".", &fh), E_OK);
    x_free(&args);
    fixture_stop(&f);
}

/* Read the whole directory with small replies; count each name. */
static unsigned list_all(struct fixture *f, const struct fh *dir, bool plus, uint32_t max,
                         uint8_t *seen, unsigned count, void (*between)(struct fixture *, unsigned))
{
    struct xbuf args = {0}, *r = &f->raw.reply;
    uint64_t cookie = 0, verf = 0;
    unsigned total = 0, calls = 0;
    bool eof = false;

    while (!eof) {
        struct attrs a;
        x_reset(&args);
        x_fh(&args, dir), x_u64(&args, cookie), x_u64(&args, verf);
        if (plus)
            x_u32(&args, 1 << 20);
        x_u32(&args, max);
        assert_int_equal(raw_nfs(&f->raw, plus ? P_READDIRPLUS : P_READDIR, &args), E_OK);
        assert_true(r->len <= max + 64);
        x_get_post(r, &a);
        verf = x_get64(r);
        while (x_get32(r)) {
            char name[256] = "";
            unsigned number;
            x_get64(r);
            uint32_t len = x_get32(r);
            memcpy(name, x_take(r, len), len);
            cookie = x_get64(r);
            if (plus) {
                struct fh fh;
                x_get_post(r, &a);
                if (x_get32(r))
                    x_get_fh(r, &fh);
                else
                    assert_string_equal(name, "..");
            }
            if (sscanf(name, "e%u", &number) == 1 && number < count) {
                assert_int_equal(seen[number], 0);
                seen[number] = 1;
                total++;
            }
        }
        eof = x_get32(r);
        assert_false(r->bad);
        if (between && !eof)
            between(f, calls);
        calls++;
    }
    x_free(&args);
    return total;
}

static void remove_some(struct fixture *f, unsigned call)
{
    char name[16];

    for (unsigned i = 0; i < 5; i++) {
        snprintf(name, sizeof(name), "e%u", (call * 37 + i * 13) % 3000);
        unlink(fixture_path(f, name));
        snprintf(name, sizeof(name), "new%u.%u", call, i);
        fixture_put(f, name, "");
    }
}

static void directories_are_listed_completely(void **state)
{
    struct fixture f;
    enum { N = 3000 };
    static uint8_t seen[N];
    char name[16];

    fixture_start(&f, NULL);
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "e%u", i);
        fixture_put(&f, name, "");
    }
    for (int plus = 0; plus < 2; plus++) {
        memset(seen, 0, sizeof(seen));
        assert_int_equal(list_all(&f, &f.root, plus, 4096, seen, N, NULL), N);
        memset(seen, 0, sizeof(seen));
        assert_int_equal(list_all(&f, &f.root, plus, 1 << 20, seen, N, NULL), N);
    }
    /* While others remove and add entries, those that stay are each seen once. */
    memset(seen, 0, sizeof(seen));
    list_all(&f, &f.root, false, 4096, seen, N, remove_some);
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "e%u", i);
        if (access(fixture_path(&f, name), F_OK) == 0)
            assert_int_equal(seen[i], 1);
    }
    struct xbuf args = {0};
    x_fh(&args, &f.root), x_u64(&args, 5), x_u64(&args, 0x1234), x_u32(&args, 4096);
    assert_int_equal(raw_nfs(&f.raw, P_READDIR, &args), E_BAD_COOKIE);
    x_free(&args);
    fixture_stop(&f);
}

static void callers_have_their_own_permissions(void **state)
{
    struct fixture f;
    struct fh fh, other;
    struct xbuf args = {0};
    struct attrs a;
    uint32_t n;
    char byte;

    if (geteuid() != 0) {
        print_message("skipped: taking on other users' ids needs root\n");
        skip();
    }
    fixture_start(&f, NULL);
    fh = file_with(&f, "secret");
    assert_int_equal(chmod(fixture_path(&f, "secret"), 0600), 0);
    f.raw.uid = f.raw.gid = 1000;
    assert_int_equal(raw_read(&f.raw, &fh, 0, &byte, 1, &n, NULL), E_ACCES);
    assert_int_equal(raw_write(&f.raw, &fh, 0, "x", 1, 0, NULL), E_ACCES);
    assert_int_equal(raw_write(&f.raw, &fh, 0, "x", 1, 2, NULL), E_ACCES);
    assert_int_equal(raw_create(&f.raw, &f.root, "mine", &other), E_ACCES);
    x_fh(&args, &fh), x_u32(&args, 0x3f);
    assert_int_equal(raw_nfs(&f.raw, P_ACCESS, &args), E_OK);
    x_get_post(&f.raw.reply, &a);
    assert_int_equal(x_get32(&f.raw.reply), 0);
    /* What a caller makes is the caller's, and its owner may write it whatever the mode says. */
    assert_int_equal(chmod(f.export, 0777), 0);
    assert_int_equal(raw_create(&f.raw, &f.root, "mine", &other), E_OK);
    assert_int_equal(raw_getattr(&f.raw, &other, &a), E_OK);
    assert_int_equal(a.uid, 1000);
    assert_int_equal(a.gid, 1000);
    assert_int_equal(chmod(fixture_path(&f, "mine"), 0), 0);
    assert_int_equal(raw_write(&f.raw, &other, 0, "x", 1, 0, NULL), E_OK);
    assert_int_equal(raw_write(&f.raw, &other, 0, "y", 1, 2, NULL), E_OK);
    assert_int_equal(raw_read(&f.raw, &other, 0, &byte, 1, &n, NULL), E_OK);
    f.raw.uid = UINT32_MAX;
    assert_int_equal(raw_read(&f.raw, &other, 0, &byte, 1, &n, NULL), E_ACCES);
    f.raw.uid = f.raw.gid = 0;
    assert_int_equal(raw_write(&f.raw, &fh, 0, "x", 1, 0, NULL), E_OK);
    /* A write by another user takes the set-id bits off. */
    f.raw.uid = 1000;
    for (uint32_t stable = 0; stable <= 2; stable += 2) {
        assert_int_equal(chmod(fixture_path(&f, "secret"), 04666), 0);
        assert_int_equal(raw_write(&f.raw, &fh, 0, "x", 1, stable, NULL), E_OK);
        f.raw.uid = 0;
        assert_int_equal(raw_commit(&f.raw, &fh, NULL), E_OK);
        f.raw.uid = 1000;
        assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_OK);
        assert_int_equal(a.mode, 0666);
    }
    x_free(&args);
    fixture_stop(&f);
}

static void read_only_refuses_changes(void **state)
{
    struct fixture f;
    struct fh fh;
    uint32_t n;
    char got[4];

    fixture_start(&f, &(struct server_options){.read_only = true});
    fixture_put(&f, "a", "text");
    assert_int_equal(raw_lookup(&f.raw, &f.root, "a", &fh), E_OK);
    assert_int_equal(raw_read(&f.raw, &fh, 0, got, 4, &n, NULL), E_OK);
    assert_int_equal(raw_write(&f.raw, &fh, 0, "x", 1, 0, NULL), E_ROFS);
    assert_int_equal(raw_create(&f.raw, &f.root, "b", &fh), E_ROFS);
    assert_int_equal(raw_remove(&f.raw, &f.root, "a"), E_ROFS);
    fixture_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_comes_back),
        cmocka_unit_test(uncommitted_ranges_merge),
        cmocka_unit_test(uncommitted_data_stays_out_of_the_directory_until_commit),
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
        cmocka_unit_test(exclusive_create_replays_by_its_verifier),
        cmocka_unit_test(names_that_are_no_names_are_refused),
        cmocka_unit_test(symlinks_lead_nowhere),
        cmocka_unit_test(forged_handles_are_refused),
        cmocka_unit_test(handles_survive_a_restart),
        cmocka_unit_test(handles_of_an_unprivileged_server_survive_a_restart),
        cmocka_unit_test(directory_changes_carry_attributes_of_the_directory),
        cmocka_unit_test(rename_link_and_the_rest_work),
        cmocka_unit_test(calls_that_name_a_directory_twice_are_answered),
        cmocka_unit_test(directories_are_listed_completely),
        cmocka_unit_test(callers_have_their_own_permissions),
        cmocka_unit_test(read_only_refuses_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
