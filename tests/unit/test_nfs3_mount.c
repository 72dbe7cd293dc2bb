// SPDX-License-Identifier: Apache-2.0
/*
 * MOUNT and EXPORT against a server whose answers are not what the protocol says.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/wire.h"

static int wrong;

static void put_header(struct reply *r, uint32_t xid)
{
    put32(r, xid);
    put32(r, 1);
    put32(r, 0);
    put64(r, 0);
    put32(r, 0);
}

static void mnt(struct reply *r)
{
    uint8_t fh[4096] = {7};
    put32(r, wrong == 1 ? 13 : wrong == 2 ? 4711 : 0);
    switch (wrong) {
    case 3: /* a handle longer than any */
        put_bytes(r, fh, 65);
        put32(r, 0);
        return;
    case 4:
        put32(r, 0xffffffff);
        put_raw(r, fh, sizeof(fh));
        return;
    case 5:
        put_bytes(r, fh, 0);
        put32(r, 0);
        return;
    }
    put_bytes(r, fh, 32);
    switch (wrong) {
    case 6: /* more flavours than there are */
        put32(r, 0x40000001);
        put32(r, 1);
        return;
    case 7: /* Kerberos only */
        put32(r, 1);
        put32(r, 390003);
        return;
    case 8: /* the list ends early */
        put32(r, 10);
        put32(r, 1);
        return;
    }
    put32(r, 1);
    put32(r, 1);
}

static void exports(struct reply *r)
{
    int n = wrong == 11 ? 100000 : 3;
    char path[2000];
    memset(path, '/', sizeof(path));
    for (int i = 0; i < n; i++) {
        put32(r, 1);
        put_bytes(r, path, wrong == 12 ? 2000 : 10);
        put32(r, 1);
        put_bytes(r, "host", 4);
        put32(r, wrong == 13 ? 77 : 0);
    }
    if (wrong != 14)
        put32(r, 0);
}

static void mount_service(struct fake *f, const struct fake_request *req)
{
    struct reply r = {0};
    if (req->nth > 20) {
        fake_hangup(f, req);
        return;
    }
    put_header(&r, req->xid);
    if (req->proc == 1)
        mnt(&r);
    else
        exports(&r);
    reply_send(f, req, &r);
}

static struct nfs3_options options(void)
{
    return (struct nfs3_options){.server = "127.0.0.1",
                                 .export = "/x",
                                 .port = fake.port,
                                 .mountport = fake.port,
                                 .resvport = NFS3_RESVPORT_NO};
}

static void a_wrong_mount_reply_is_an_error_with_a_text(void **state)
{
    static const int expected[] = {0, -EACCES, -EIO, -EIO, -EIO, -EIO, -EIO, -EACCES, -EIO};
    for (wrong = 1; wrong < 9; wrong++) {
        struct remote *r;
        struct loop *shard = loop_new("shard0");
        char err[NFS3_ERROR_MAX] = "";
        memset(&fake, 0, sizeof(fake));
        fake.handle = mount_service;
        fake_start(&fake);
        struct nfs3_options o = options();
        assert_int_equal(nfs3_mount(&o, &shard, 1, &r, err, sizeof(err)), expected[wrong]);
        assert_non_null(strstr(err, "127.0.0.1:/x"));
        fake_stop(&fake);
        loop_free(shard);
    }
}

/* A program that is not there (yet), or what the export's list says. */
static void refusing_service(struct fake *f, const struct fake_request *req)
{
    struct reply r = {0};
    if (wrong == 1) {
        put_header(&r, req->xid);
        put32(&r, 13);
    } else {
        for (int i = 0; i < 5; i++)
            put32(&r, i ? (uint32_t)(i == 1) : req->xid);
        put32(&r, 1); /* PROG_UNAVAIL */
    }
    reply_send(f, req, &r);
}

static void only_what_may_go_away_is_worth_another_attempt(void **state)
{
    for (wrong = 0; wrong < 2; wrong++) {
        struct remote *r;
        struct loop *shard = loop_new("shard0");
        char err[NFS3_ERROR_MAX] = "";
        bool again = wrong;
        memset(&fake, 0, sizeof(fake));
        fake.handle = refusing_service;
        fake_start(&fake);
        struct nfs3_options o = options();
        o.again = &again;
        assert_int_equal(nfs3_mount(&o, &shard, 1, &r, err, sizeof(err)),
                         wrong ? -EACCES : -EPFNOSUPPORT);
        assert_int_equal(again, !wrong);
        fake_stop(&fake);
        loop_free(shard);
    }
}

static void a_wrong_list_of_exports_is_an_error(void **state)
{
    for (wrong = 10; wrong < 15; wrong++) {
        struct nfs3_export *list = NULL;
        char err[NFS3_ERROR_MAX] = "";
        memset(&fake, 0, sizeof(fake));
        fake.handle = mount_service;
        fake_start(&fake);
        struct nfs3_options o = options();
        int rc = nfs3_exports(&o, &list, err, sizeof(err));
        assert_int_equal(rc, wrong == 10 ? 0 : -EIO);
        if (wrong == 10) {
            assert_string_equal(list->dir, "//////////");
            assert_string_equal(list->groups[0], "host");
            assert_null(list->groups[1]);
        } else {
            assert_null(list);
        }
        nfs3_exports_free(list);
        fake_stop(&fake);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_mount_reply_is_an_error_with_a_text),
        cmocka_unit_test(only_what_may_go_away_is_worth_another_attempt),
        cmocka_unit_test(a_wrong_list_of_exports_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
