// SPDX-License-Identifier: Apache-2.0
/* The embedded server against bytes that no client should send: it answers or hangs up, and lives.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/serve_fixture.h"

static uint64_t rng;

static uint32_t rnd(uint32_t below)
{
    rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(rng >> 33) % below;
}

static void seed_rng(void)
{
    const char *seed = getenv("SEED");

    rng = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
    print_message("SEED=%llu\n", (unsigned long long)rng);
}

/* The server answers a fresh client. */
static void still_alive(struct fixture *f)
{
    struct attrs a;
    struct raw raw = {0};

    raw_open(&raw, server_port(f->srv), 0);
    assert_int_equal(raw_getattr(&raw, &f->root, &a), E_OK);
    raw_close(&raw);
}

static void drain(struct raw *raw)
{
    char buf[65536];

    while (recv(raw->fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
        ;
}

static void random_bytes_end_the_connection_only(void **state)
{
    struct fixture f;
    uint8_t junk[4096];

    seed_rng();
    fixture_start(&f, NULL);
    for (int i = 0; i < 300; i++) {
        uint32_t len = 1 + rnd(sizeof(junk));
        for (uint32_t j = 0; j < len; j++)
            junk[j] = (uint8_t)rnd(256);
        if (i & 1) { /* a plausible record mark in front */
            uint32_t mark = htonl(0x80000000U | (len > 4 ? len - 4 : 0));
            memcpy(junk, &mark, len < 4 ? len : 4);
        }
        struct raw raw = {0};
        raw_open(&raw, server_port(f.srv), 0);
        raw_send(&raw, junk, len);
        drain(&raw);
        raw_close(&raw);
    }
    still_alive(&f);
    fixture_stop(&f);
}

static void huge_lengths_are_refused(void **state)
{
    static const uint32_t marks[] = {0xffffffff, 0x7fffffff, 0x80400000, 0x80200000};
    struct fixture f;
    char byte;

    fixture_start(&f, NULL);
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        struct raw raw = {0};
        uint32_t mark = htonl(marks[i]);
        raw_open(&raw, server_port(f.srv), 0);
        raw_send(&raw, &mark, 4);
        assert_true(raw_readable(&raw, 10000));
        assert_true(recv(raw.fd, &byte, 1, 0) <= 0);
        raw_close(&raw);
    }
    still_alive(&f);
    fixture_stop(&f);
}

/* A call in fragments of one byte, with empty fragments in between, is one call. */
static void fragments_make_one_record(void **state)
{
    struct fixture f;
    struct xbuf call = {0}, args = {0};
    uint32_t xid;

    fixture_start(&f, NULL);
    x_fh(&args, &f.root);
    raw_build(&f.raw, &call, 4711, 100003, P_GETATTR, &args);
    for (size_t i = 4; i < call.len; i++) {
        uint8_t piece[9] = {0};
        uint32_t mark = htonl(1U | (i == call.len - 1 ? 0x80000000U : 0));
        memcpy(piece + 4, &mark, 4);
        piece[8] = call.data[i];
        raw_send(&f.raw, piece, 9);
    }
    assert_int_equal(raw_receive(&f.raw, &xid), 0);
    assert_int_equal(xid, 4711);
    assert_int_equal(x_get32(&f.raw.reply), E_OK);
    x_free(&call);
    x_free(&args);
    fixture_stop(&f);
}

static void unknown_programs_versions_and_procedures_are_answered(void **state)
{
    static const struct {
        uint32_t word, value, accept;
    } cases[] = {
        {3, 3, 0x100 + 0},  /* RPC version: RPC_MISMATCH */
        {4, 100227, 1},     /* program: PROG_UNAVAIL */
        {5, 4, 2},          /* version: PROG_MISMATCH */
        {6, 22, 3},         /* procedure: PROC_UNAVAIL */
        {7, 6, 0x100 + 1},  /* credentials: AUTH_ERROR */
        {12, 77, 0x100 + 1} /* 77 groups */
    };
    struct fixture f;
    struct xbuf call = {0}, args = {0};
    uint32_t xid;

    fixture_start(&f, NULL);
    x_fh(&args, &f.root);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        raw_build(&f.raw, &call, 12, 100003, P_GETATTR, &args);
        uint32_t value = htonl(cases[i].value), word = cases[i].word;
        /* word 12 of the call: the number of groups, behind stamp, name, uid and gid */
        memcpy(call.data + word * 4 + (word == 12 ? 4 : 0), &value, 4);
        raw_send(&f.raw, call.data, call.len);
        assert_int_equal(raw_receive(&f.raw, &xid), cases[i].accept);
        assert_int_equal(xid, 12);
    }
    f.raw.ngroups = 17;
    raw_build(&f.raw, &call, 12, 100003, P_GETATTR, &args);
    raw_send(&f.raw, call.data, call.len);
    assert_int_equal(raw_receive(&f.raw, &xid), 0x100 + 1);
    x_free(&call);
    x_free(&args);
    fixture_stop(&f);
}

/* Plausible arguments of every procedure; what is wrong with them comes after. */
static void plausible_args(struct xbuf *x, const struct fixture *f, const struct fh *file,
                           uint32_t proc)
{
    const struct fh *fh = rnd(2) ? file : &f->root;
    char name[32];

    snprintf(name, sizeof(name), "n%u", rnd(20));
    x_reset(x);
    x_fh(x, fh);
    switch (proc) {
    case P_SETATTR:
        x_no_sattr(x);
        x_u32(x, 0);
        break;
    case P_ACCESS:
        x_u32(x, 63);
        break;
    case P_READ:
        x_u64(x, rnd(100));
        x_u32(x, rnd(5000));
        break;
    case P_WRITE:
        x_u64(x, rnd(100));
        x_u32(x, 20);
        x_u32(x, rnd(3));
        x_opaque(x, "01234567890123456789", 20);
        break;
    case P_COMMIT:
        x_u64(x, 0);
        x_u32(x, 0);
        break;
    case P_LOOKUP:
    case P_REMOVE:
    case P_RMDIR:
        x_name(x, name);
        break;
    case P_CREATE:
        x_name(x, name);
        x_u32(x, rnd(3));
        x_no_sattr(x);
        break;
    case P_MKDIR:
        x_name(x, name);
        x_no_sattr(x);
        break;
    case P_SYMLINK:
        x_name(x, name);
        x_no_sattr(x);
        x_name(x, "target");
        break;
    case P_MKNOD:
        x_name(x, name);
        x_u32(x, 7);
        x_no_sattr(x);
        break;
    case P_RENAME:
    case P_LINK:
        if (proc == P_RENAME)
            x_name(x, name);
        x_fh(x, &f->root);
        x_name(x, "to");
        break;
    case P_READDIR:
    case P_READDIRPLUS:
        x_u64(x, 0);
        x_u64(x, 0);
        x_u32(x, rnd(10000));
        if (proc == P_READDIRPLUS)
            x_u32(x, rnd(10000));
        break;
    default:
        break;
    }
}

/* Change some words, or cut the end off. */
static void mutate(struct xbuf *x)
{
    static const uint32_t values[] = {0,   1,    2,          3,          64,         65,        255,
                                      256, 4096, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff};

    for (uint32_t n = rnd(4); n > 0 && x->len >= 4; n--) {
        uint32_t value = htonl(rnd(2) ? values[rnd(13)] : rnd(0xffffffff));
        memcpy(x->data + 4 * rnd((uint32_t)(x->len / 4)), &value, 4);
    }
    if (rnd(4) == 0)
        x->len = 4 * rnd((uint32_t)(x->len / 4) + 1);
}

static void mutated_calls_do_no_harm(void **state)
{
    struct fixture f;
    struct xbuf args = {0}, call = {0};
    struct fh file;
    const char *count = getenv("ROUNDS");
    int rounds = count ? atoi(count) : 20000;

    seed_rng();
    fixture_start(&f, NULL);
    assert_int_equal(raw_create(&f.raw, &f.root, "n1", &file), E_OK);
    for (int i = 0; i < rounds; i++) {
        uint32_t proc = rnd(22), prog = rnd(20) ? 100003 : 100005, xid;
        plausible_args(&args, &f, &file, proc);
        mutate(&args);
        raw_build(&f.raw, &call, (uint32_t)i, prog, prog == 100005 ? rnd(6) : proc, &args);
        if (rnd(50) == 0) { /* the RPC header as well */
            uint32_t value = htonl(rnd(600));
            memcpy(call.data + 4 * (1 + rnd(14)), &value, 4);
        }
        raw_send(&f.raw, call.data, call.len);
        if (raw_receive(&f.raw, &xid) == RAW_GONE) {
            close(f.raw.fd);
            raw_open(&f.raw, server_port(f.srv), 0);
        }
    }
    still_alive(&f);
    x_free(&args);
    x_free(&call);
    fixture_stop(&f);
}

/* A client that never reads its replies does not use up the server's threads or memory. */
static void client_that_does_not_read_harms_nobody(void **state)
{
    struct fixture f;
    struct xbuf args = {0}, call = {0};
    struct fh fh;
    struct raw deaf[6];

    fixture_start(&f, &(struct server_options){.threads = 4});
    assert_int_equal(raw_create(&f.raw, &f.root, "big", &fh), E_OK);
    assert_int_equal(truncate(fixture_path(&f, "big"), 64 << 20), 0);
    x_fh(&args, &fh);
    x_u64(&args, 0);
    x_u32(&args, 1 << 20);
    for (int i = 0; i < 6; i++) {
        deaf[i] = (struct raw){0};
        raw_open(&deaf[i], server_port(f.srv), 0);
        raw_build(&deaf[i], &call, 1, 100003, P_READ, &args);
        for (int n = 0; n < 100; n++)
            raw_send(&deaf[i], call.data, call.len);
    }
    for (int i = 0; i < 50; i++)
        still_alive(&f);
    /* and one that starts to read after all gets everything */
    for (int n = 0; n < 100; n++) {
        uint32_t xid;
        assert_int_equal(raw_receive(&deaf[0], &xid), 0);
        assert_int_equal(x_get32(&deaf[0].reply), E_OK);
    }
    for (int i = 0; i < 6; i++)
        raw_close(&deaf[i]);
    still_alive(&f);
    x_free(&args);
    x_free(&call);
    fixture_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_bytes_end_the_connection_only),
        cmocka_unit_test(huge_lengths_are_refused),
        cmocka_unit_test(fragments_make_one_record),
        cmocka_unit_test(unknown_programs_versions_and_procedures_are_answered),
        cmocka_unit_test(mutated_calls_do_no_harm),
        cmocka_unit_test(client_that_does_not_read_harms_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
