// SPDX-License-Identifier: Apache-2.0
/*
 * The reply decoder against replies that were sound before a byte, a word or their length changed.
 *
 *   test_nfs3_fuzz [SEED [ROUNDS]]
 *
 * Each reply lies in memory of its exact size, so that the address sanitizer sees a read past it.
 * What is checked besides: nothing that came out exceeds what was asked, or what the protocol
 * allows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <cmocka.h>

#include "tests/unit/wire.h"

static uint64_t seed = 20240917;
static unsigned long rounds = 200000;

static uint64_t next_random(void)
{
    seed += 0x9e3779b97f4a7c15;
    uint64_t z = seed;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static void no_log(int priority, const char *text)
{
}

static const enum remote_op ops[] = {
    REMOTE_GETATTR, REMOTE_SETATTR, REMOTE_LOOKUP,   REMOTE_ACCESS, REMOTE_READLINK, REMOTE_READ,
    REMOTE_WRITE,   REMOTE_CREATE,  REMOTE_REMOVE,   REMOTE_RENAME, REMOTE_LINK,     REMOTE_READDIR,
    REMOTE_FSSTAT,  REMOTE_FSINFO,  REMOTE_PATHCONF, REMOTE_COMMIT};

static void put_wcc(struct reply *r)
{
    put32(r, 1);
    for (int i = 0; i < 6; i++)
        put32(r, 7);
    put_post(r, T_REG, FILE_ID, 100);
}

static void sound_reply(struct reply *r, const struct remote_call *call)
{
    put_ok(r, 1, next_random() % 8 ? 0 : 2);
    switch (call->op) {
    case REMOTE_GETATTR:
        put_fattr(r, T_REG, FILE_ID, 100);
        break;
    case REMOTE_LOOKUP:
        put_bytes(r, handle.data, handle.len);
        put_post(r, T_REG, FILE_ID, 100);
        put_post(r, T_DIR, 2, 100);
        break;
    case REMOTE_READLINK:
        put_post(r, T_LNK, FILE_ID, 6);
        put_bytes(r, "target", 6);
        break;
    case REMOTE_READ:
        put_post(r, T_REG, FILE_ID, 100);
        put32(r, 100);
        put32(r, 1);
        put_bytes(r,
                  "0123456789012345678901234567890123456789012345678901234567890123456789"
                  "012345678901234567890123456789",
                  100);
        break;
    case REMOTE_WRITE:
        put_wcc(r);
        put32(r, 100);
        put32(r, 2);
        put64(r, 1234);
        break;
    case REMOTE_CREATE:
        put32(r, 1);
        put_bytes(r, handle.data, handle.len);
        put_post(r, T_REG, FILE_ID, 100);
        put_wcc(r);
        break;
    case REMOTE_READDIR:
        put_post(r, T_DIR, 2, 100);
        put64(r, 99);
        for (int i = 0; i < 5; i++) {
            put32(r, 1);
            put64(r, 5);
            put_bytes(r, "some name", 9);
            put64(r, 6);
            if (call->u.readdir.plus) {
                put_post(r, T_REG, FILE_ID, 1);
                put32(r, 1);
                put_bytes(r, handle.data, handle.len);
            }
        }
        put32(r, 0);
        put32(r, 1);
        break;
    default:
        put_post(r, T_REG, FILE_ID, 100);
        put_wcc(r);
        put_wcc(r);
    }
}

static void damage(struct reply *r)
{
    static const uint32_t words[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffc, 65};
    uint32_t word = htobe32(words[next_random() % 8]);
    switch (next_random() % 4) {
    case 0:
        r->p[next_random() % r->len] = (uint8_t)next_random();
        break;
    case 1:
        memcpy(r->p + next_random() % (r->len / 4) * 4, &word, 4);
        break;
    case 2:
        r->len = next_random() % (r->len + 1);
        break;
    case 3:
        r->p[next_random() % r->len] ^= (uint8_t)(1u << next_random() % 8);
        memcpy(r->p + next_random() % (r->len / 4) * 4, &word, 4);
        break;
    }
}

static void check(const struct remote_call *call, const struct nfs3_result *res)
{
    if (res->has_obj)
        assert_in_range(res->obj.len, 1, NFS3_FH_MAX);
    if ((call->op == REMOTE_READ || call->op == REMOTE_WRITE) && !res->error)
        assert_in_range(call->u.io.done, 0, call->u.io.count);
    if (res->text)
        assert_in_range(res->text_len, 0, NFS3_PATH_MAX);
    if (call->op == REMOTE_READDIR) {
        for (struct remote_dirent *d = call->u.readdir.entries; d; d = d->next) {
            assert_in_range(strlen(d->name), 1, NFS3_NAME_MAX);
            assert_null(strchr(d->name, '/'));
            if (d->has_fh)
                assert_in_range(d->fh.len, 1, NFS3_FH_MAX);
        }
    }
}

static void damaged_replies_are_survived(void **state)
{
    struct nfs3_options o = {.server = "fuzz", .log = no_log};
    struct nfs3 *r = nfs3_new(&o);
    struct nfs3_result *res = calloc(1, sizeof(*res));
    unsigned long refused = 0;
    uint8_t *data = malloc(100);
    struct iovec iov = {data, 100};
    for (unsigned long i = 0; i < rounds; i++) {
        struct remote_call call = {.op = ops[next_random() % (sizeof(ops) / sizeof(ops[0]))]};
        struct reply reply = {0};
        if (call.op == REMOTE_READ || call.op == REMOTE_WRITE) {
            call.u.io.count = 100;
            call.u.io.iov = &iov;
            call.u.io.iovcnt = 1;
        } else if (call.op == REMOTE_READDIR) {
            call.u.readdir.plus = next_random() & 1;
        }
        call.p.proc = (uint8_t)call_proc(&call);
        sound_reply(&reply, &call);
        damage(&reply);
        uint8_t *exact = malloc(reply.len ? reply.len : 1);
        memcpy(exact, reply.p, reply.len);
        call_decode(r, &call, exact, reply.len, res);
        refused += res->malformed;
        check(&call, res);
        if (call.op == REMOTE_READDIR)
            remote_call_clear(&r->base, &call);
        if (call.op == REMOTE_READ) {
            uint32_t count;
            long at = decode_read_head(&call, exact, reply.len, res, &count);
            assert_true(at <= (long)reply.len);
            if (at > 0)
                assert_in_range(count, 0, 100);
        }
        free(exact);
        free(reply.p);
    }
    printf("# %lu of %lu refused\n", refused, rounds);
    assert_true(refused > rounds / 20 && refused < rounds);
    free(data);
    free(res);
    nfs3_free(r);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        seed = strtoull(argv[1], NULL, 0);
    if (argc > 2)
        rounds = strtoul(argv[2], NULL, 0);
    printf("# seed %lu\n", (unsigned long)seed);
    const struct CMUnitTest tests[] = {cmocka_unit_test(damaged_replies_are_survived)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
