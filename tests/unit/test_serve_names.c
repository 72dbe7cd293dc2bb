// SPDX-License-Identifier: Apache-2.0
/* The embedded server: names, directories, handles, permissions. One test, one behaviour. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/serve_fixture.h"

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
    assert_int_equal(chmod(fixture_path(&f, "secret"), 0640), 0);
    assert_int_equal(chown(fixture_path(&f, "secret"), 0, 5000), 0);
    f.raw.ngroups = 16;
    f.raw.groups[15] = 5000;
    assert_int_equal(raw_read(&f.raw, &fh, 0, &byte, 1, &n, NULL), E_OK);
    f.raw.ngroups = 15;
    assert_int_equal(raw_read(&f.raw, &fh, 0, &byte, 1, &n, NULL), E_ACCES);
    f.raw.ngroups = 0;
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
