// SPDX-License-Identifier: Apache-2.0
/* The embedded server as libnfs sees it: a client that was not written together with it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>
#include <nfsc/libnfs.h>

#include "daemon/serve/serve.h"

static char directory[64], key[80];
static struct server *srv;

static int start(void **state)
{
    struct server_options opt = {.no_fsync = true};
    char err[256];

    strcpy(directory, "/tmp/serve-libnfs.XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    snprintf(key, sizeof(key), "%s.key", directory);
    opt.directory = directory;
    opt.key_file = key;
    return server_start(&opt, &srv, err, sizeof(err));
}

static int stop(void **state)
{
    char command[128];

    int rc = server_stop(srv);
    unlink(key);
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command) || rc;
}

static struct nfs_context *mounted(void)
{
    struct nfs_context *nfs = nfs_init_context();
    char url[256];

    snprintf(url, sizeof(url), "nfs://127.0.0.1%s/?nfsport=%u&mountport=%u", directory,
             server_port(srv), server_port(srv));
    struct nfs_url *parsed = nfs_parse_url_dir(nfs, url);
    assert_non_null(parsed);
    if (nfs_mount(nfs, parsed->server, parsed->path) != 0)
        fail_msg("mount %s: %s", url, nfs_get_error(nfs));
    nfs_destroy_url(parsed);
    return nfs;
}

static void files_make_the_round_trip(void **state)
{
    struct nfs_context *nfs = mounted();
    const size_t size = 5000001;
    char *data = malloc(size), *got = malloc(size);
    struct nfsfh *fh;

    for (size_t i = 0; i < size; i++)
        data[i] = (char)(i * 7919 >> 7);
    assert_int_equal(nfs_creat(nfs, "/file", 0644, &fh), 0);
    for (size_t done = 0; done < size;) {
        int n =
            nfs_pwrite(nfs, fh, done, size - done < 1000003 ? size - done : 1000003, data + done);
        assert_true(n > 0);
        done += (size_t)n;
    }
    assert_int_equal(nfs_fsync(nfs, fh), 0);
    assert_int_equal(nfs_close(nfs, fh), 0);
    assert_int_equal(nfs_open(nfs, "/file", O_RDONLY, &fh), 0);
    for (size_t done = 0; done < size;) {
        int n = nfs_pread(nfs, fh, done, size - done, got + done);
        assert_true(n > 0);
        done += (size_t)n;
    }
    assert_memory_equal(data, got, size);
    nfs_close(nfs, fh);
    free(data);
    free(got);
    nfs_destroy_context(nfs);
}

static void names_make_the_round_trip(void **state)
{
    struct nfs_context *nfs = mounted();
    struct nfs_stat_64 st;
    struct nfsfh *fh;
    struct nfsdir *dir;
    char target[64] = "";
    int entries = 0;

    assert_int_equal(nfs_mkdir(nfs, "/d"), 0);
    assert_int_equal(nfs_creat(nfs, "/d/a", 0600, &fh), 0);
    nfs_close(nfs, fh);
    assert_int_equal(nfs_link(nfs, "/d/a", "/d/b"), 0);
    assert_int_equal(nfs_symlink(nfs, "a", "/d/s"), 0);
    assert_int_equal(nfs_rename(nfs, "/d/b", "/d/c"), 0);
    assert_int_equal(nfs_truncate(nfs, "/d/a", 12345), 0);
    assert_int_equal(nfs_chmod(nfs, "/d/a", 0640), 0);
    assert_int_equal(nfs_stat64(nfs, "/d/c", &st), 0);
    assert_int_equal(st.nfs_size, 12345);
    assert_int_equal(st.nfs_nlink, 2);
    assert_int_equal(st.nfs_mode & 07777, 0640);
    assert_int_equal(nfs_readlink(nfs, "/d/s", target, sizeof(target)), 0);
    assert_string_equal(target, "a");
    assert_int_equal(nfs_stat64(nfs, "/d/absent", &st), -ENOENT);
    assert_int_equal(nfs_opendir(nfs, "/d", &dir), 0);
    for (struct nfsdirent *ent; (ent = nfs_readdir(nfs, dir));)
        entries += ent->name[0] != '.';
    nfs_closedir(nfs, dir);
    assert_int_equal(entries, 3);
    assert_int_equal(nfs_rmdir(nfs, "/d"), -ENOTEMPTY);
    assert_int_equal(nfs_unlink(nfs, "/d/a"), 0);
    assert_int_equal(nfs_unlink(nfs, "/d/c"), 0);
    assert_int_equal(nfs_unlink(nfs, "/d/s"), 0);
    assert_int_equal(nfs_rmdir(nfs, "/d"), 0);
    nfs_destroy_context(nfs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_make_the_round_trip),
        cmocka_unit_test(names_make_the_round_trip),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
