// SPDX-License-Identifier: Apache-2.0
/*
 * The NFS client against a server that lies, dies, or repeats itself.
 *
 * The server is tests/unit/fake_server.c: each test says what it sends. No test depends on how long
 * anything takes; where a timeout is the subject, it is a short one, and the test waits for what
 * follows from it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/wire.h"

static struct remote_call background;
static _Atomic int background_done;

static void background_finished(struct remote_call *call)
{
    background_done++;
}

static int getattr(void)
{
    struct remote_call call = {.op = REMOTE_GETATTR};
    int rc = ask(&call);
    if (!rc)
        assert_int_equal(call.post.attr.fileid, FILE_ID);
    return rc;
}

/* ---- replies that are wrong ---- */

static int wrong;

static void wrong_reply(struct fake *f, const struct fake_request *req)
{
    struct reply r = {0};
    switch (wrong) {
    case 0: /* ends in the middle of the attributes */
        put_ok(&r, req->xid, 0);
        put_fattr(&r, 1, FILE_ID, 0);
        r.len -= 4;
        break;
    case 1: /* a type that is none */
        put_ok(&r, req->xid, 0);
        put_fattr(&r, 9, FILE_ID, 0);
        break;
    case 2: /* a status that is none */
        put_ok(&r, req->xid, 123456);
        break;
    case 3: /* nothing behind the XID and REPLY */
        put32(&r, req->xid);
        put32(&r, 1);
        break;
    case 4: /* a verifier longer than any */
        put32(&r, req->xid);
        put32(&r, 1);
        put32(&r, 0);
        put32(&r, 0);
        put32(&r, 0xfffffff0);
        put64(&r, 0);
        break;
    case 5: /* denied: a bad credential */
        put32(&r, req->xid);
        put32(&r, 1);
        put32(&r, 1);
        put32(&r, 1);
        put32(&r, 1);
        break;
    case 6: /* accepted, PROG_MISMATCH */
    case 7: /* ... GARBAGE_ARGS */
    case 8: /* ... and a state that does not exist */
        put32(&r, req->xid);
        put32(&r, 1);
        put32(&r, 0);
        put64(&r, 0);
        put32(&r, wrong == 6 ? 2 : wrong == 7 ? 4 : 99);
        put64(&r, 0);
        break;
    }
    reply_send(f, req, &r);
}

static void a_malformed_reply_is_an_error_of_its_call_only(void **state)
{
    static const int expected[] = {-EIO,       -EIO, -EIO, -EIO, -EIO, -EACCES, -EPROTONOSUPPORT,
                                   -EREMOTEIO, -EIO};
    begin(wrong_reply, (struct nfs3_options){0}, 0);
    for (wrong = 0; wrong < 9; wrong++)
        assert_int_equal(getattr(), expected[wrong]);
    fake.handle = good_getattr;
    assert_int_equal(getattr(), 0);
    assert_int_equal(fake.accepted, 1); /* still the first connection */
    assert_int_equal(STAT(garbled), 5);
    end();
}

static void bad_handle(struct fake *f, const struct fake_request *req)
{
    static const uint32_t len[] = {0, 65, 0x80000000u, 0xffffffffu, 0x7fffffffu};
    uint8_t fh[68] = {1};
    struct reply r = {0};
    put_ok(&r, req->xid, 0);
    put32(&r, len[wrong]);
    put_raw(&r, fh, len[wrong] ? sizeof(fh) : 0);
    put_post(&r, 1, FILE_ID, 0); /* all the rest is as it should be */
    put32(&r, 0);
    reply_send(f, req, &r);
}

static void a_handle_of_wrong_length_is_refused(void **state)
{
    begin(bad_handle, (struct nfs3_options){0}, 0);
    for (wrong = 0; wrong < 5; wrong++) {
        struct remote_call call = {.op = REMOTE_LOOKUP, .name = "x"};
        assert_int_equal(ask(&call), -EIO);
        assert_false(call.has_obj);
    }
    end();
}

/* ---- READ ---- */

enum { BLOCK = 300000 };
static uint8_t pattern[BLOCK + 4], got[BLOCK + 64];
static size_t fragment;

static void read_reply(struct fake *f, const struct fake_request *req)
{
    struct reply r = {0};
    uint32_t count = BLOCK, len = BLOCK, sent = BLOCK;
    switch (wrong) {
    case 1:
        count = len = sent = BLOCK + 4; /* more than asked */
        break;
    case 2:
        count = BLOCK - 1; /* two counts that differ */
        break;
    case 3:
        len = count = 0xffffffff;
        break;
    case 4:
        sent = BLOCK / 2; /* the record ends before its data */
        break;
    case 5:
        count = len = sent = 0; /* nothing, and not the end */
        break;
    case 6:
        count = len = sent = 1001; /* short: allowed */
        break;
    }
    put_ok(&r, req->xid, 0);
    put_post(&r, 1, FILE_ID, BLOCK);
    put32(&r, count);
    put32(&r, 0);
    put32(&r, len);
    put_raw(&r, pattern, sent);
    put_raw(&r, "\0\0\0", -sent & 3);
    if (fragment)
        reply_send_in_fragments(f, req, &r, fragment);
    else
        reply_send(f, req, &r);
}

static int read_block(uint32_t *done)
{
    /* A vector with odd pieces; what lies behind it must not be touched. */
    struct iovec iov[] = {{got, 1}, {got + 1, 0}, {got + 1, 4096}, {got + 4097, BLOCK - 4097}};
    struct remote_call call = {.op = REMOTE_READ};
    call.u.io.count = BLOCK;
    call.u.io.iov = iov;
    call.u.io.iovcnt = 4;
    memset(got, 0xEE, sizeof(got));
    int rc = ask(&call);
    *done = call.u.io.done;
    for (int i = 0; i < 64; i++)
        assert_int_equal(got[BLOCK + i], 0xEE);
    return rc;
}

static void read_counts_are_held_against_the_request(void **state)
{
    uint32_t done;
    for (int bulk = 0; bulk < 2; bulk++) {
        begin(read_reply, (struct nfs3_options){0}, bulk);
        fragment = 0;
        for (wrong = 0; wrong < 7; wrong++) {
            int rc = read_block(&done);
            assert_int_equal(rc, wrong == 0 || wrong == 6 ? 0 : -EIO);
            if (rc == 0) {
                assert_int_equal(done, wrong ? 1001 : BLOCK);
                assert_memory_equal(got, pattern, done);
            }
        }
        end();
    }
}

static void a_reply_in_fragments_is_put_together(void **state)
{
    static const size_t sizes[] = {65536, 4096, 999, 100, 77};
    uint32_t done;
    begin(read_reply, (struct nfs3_options){0}, 1);
    wrong = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fragment = sizes[i];
        assert_int_equal(read_block(&done), 0);
        assert_int_equal(done, BLOCK);
        assert_memory_equal(got, pattern, BLOCK);
    }
    assert_int_equal(STAT(garbled), 0);
    end();
}

static void one_byte_fragments(struct fake *f, const struct fake_request *req)
{
    struct reply r = {0};
    put_ok(&r, req->xid, 0);
    put_fattr(&r, 1, FILE_ID, 100);
    reply_send_in_fragments(f, req, &r, 1);
}

static void fragments_of_one_byte_are_put_together(void **state)
{
    begin(one_byte_fragments, (struct nfs3_options){0}, 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(getattr(), 0);
    end();
}

/* ---- WRITE ---- */

static void write_reply(struct fake *f, const struct fake_request *req)
{
    struct reply r = {0};
    put_ok(&r, req->xid, 0);
    put_no_wcc(&r);
    put32(&r, wrong == 1 ? 1001 : wrong == 2 ? 0 : 1000);
    put32(&r, wrong == 3 ? 7 : 1);
    put_raw(&r, "verifier", 8);
    if (wrong == 4)
        r.len -= 4;
    reply_send(f, req, &r);
}

static void write_counts_are_held_against_the_request(void **state)
{
    begin(write_reply, (struct nfs3_options){0}, 0);
    for (wrong = 0; wrong < 5; wrong++) {
        struct iovec iov = {pattern, 1000};
        struct remote_call call = {.op = REMOTE_WRITE};
        call.u.io.count = 1000;
        call.u.io.iov = &iov;
        call.u.io.iovcnt = 1;
        assert_int_equal(ask(&call), wrong ? -EIO : 0);
        if (!wrong) {
            assert_int_equal(call.u.io.done, 1000);
            assert_int_equal(call.u.io.stable, REMOTE_DATA_SYNC);
            assert_memory_equal(call.u.io.verf, "verifier", 8);
        }
    }
    end();
}

/* ---- directories ---- */

static uint32_t entries;
static const struct {
    const char *name;
    uint32_t len;
} bad_names[] = {{"a/b", 3}, {"", 0}, {"a\0b", 3}, {NULL, 300}, {"good", 4}};

static void readdir_reply(struct fake *f, const struct fake_request *req)
{
    struct reply r = {0};
    char longest[300];
    memset(longest, 'x', sizeof(longest));
    put_ok(&r, req->xid, 0);
    put32(&r, 0);
    put_raw(&r, "cookies!", 8);
    for (uint32_t i = 0; i < entries; i++) {
        char name[32];
        put32(&r, 1);
        put64(&r, i + 1);
        if (wrong == 1) {
            put_bytes(&r, bad_names[i].name ? bad_names[i].name : longest, bad_names[i].len);
        } else {
            int n = snprintf(name, sizeof(name), "name%u", i);
            put_bytes(&r, name, (uint32_t)n);
        }
        put64(&r, i + 1);
        put32(&r, 0);
        put32(&r, 1);
        put_bytes(&r, handle.data, HANDLE_LEN);
    }
    put32(&r, 0);
    put32(&r, 1);
    if (wrong == 2)
        r.len -= 8;
    reply_send(f, req, &r);
}

static int readdir(struct remote_call *call, uint32_t count)
{
    *call = (struct remote_call){.op = REMOTE_READDIR};
    call->u.readdir.plus = true;
    call->u.readdir.count = count;
    return ask(call);
}

static void directory_entries_are_decoded_without_recursion_or_trust(void **state)
{
    struct remote_call call;
    uint32_t n = 0;
    begin(readdir_reply, (struct nfs3_options){0}, 0);
    wrong = 0;
    entries = 30000; /* 1.6 MiB, of 1 MiB asked: within what is let pass */
    assert_int_equal(readdir(&call, 1 << 20), 0);
    for (struct remote_dirent *d = call.u.readdir.entries; d; d = d->next) {
        char name[32];
        snprintf(name, sizeof(name), "name%u", n++);
        assert_string_equal(d->name, name);
        assert_int_equal(d->cookie, n);
        assert_true(d->has_fh && fh_equal(&d->fh, &handle) && !d->post.valid);
    }
    assert_int_equal(n, entries);
    assert_true(call.u.readdir.eof);
    assert_memory_equal(call.u.readdir.verf, "cookies!", 8);
    remote_call_clear(&client->base, &call);

    wrong = 1; /* names that must not get through */
    entries = 5;
    assert_int_equal(readdir(&call, 65536), 0);
    assert_non_null(call.u.readdir.entries);
    assert_string_equal(call.u.readdir.entries->name, "good");
    assert_null(call.u.readdir.entries->next);
    remote_call_clear(&client->base, &call);

    wrong = 2; /* the list has no end */
    assert_int_equal(readdir(&call, 65536), -EIO);
    assert_null(call.u.readdir.entries);
    remote_call_clear(&client->base, &call);
    end();
}

/* ---- records and connections that break ---- */

static uint32_t first_xid;
static uint16_t first_port;
static _Atomic int same_xid, same_port;

static void note(const struct fake_request *req)
{
    if (req->nth == 0) {
        first_xid = req->xid;
        first_port = req->port;
        same_xid = same_port = 0;
    } else {
        same_xid += req->xid == first_xid;
        same_port += req->port == first_port;
    }
}

static void break_twice(struct fake *f, const struct fake_request *req)
{
    static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xf0, 1, 2, 3, 4};
    struct reply r = {0};
    note(req);
    if (req->nth >= 2) {
        good_getattr(f, req);
        return;
    }
    switch (wrong) {
    case 0:
        fake_hangup(f, req);
        return;
    case 1: /* half a record, then the end */
        put_ok(&r, req->xid, 0);
        put_fattr(&r, 1, FILE_ID, 0);
        put_raw(&r, "junk", 4);
        uint8_t marker[4] = {0x80, 0, 0, 200};
        fake_send(f, req, marker, 4);
        fake_send(f, req, r.p, r.len);
        free(r.p);
        fake_hangup(f, req);
        return;
    case 2: /* a record of 2 GiB */
        fake_send(f, req, huge, sizeof(huge));
        return;
    case 3: /* a call, where replies are expected */
        put32(&r, req->xid);
        put32(&r, 0);
        put64(&r, 0);
        reply_send(f, req, &r);
        return;
    case 4: /* fragments of nothing, for ever */
        put_raw(&r, (uint8_t[40000]){0}, 40000);
        fake_send(f, req, r.p, r.len);
        free(r.p);
        return;
    }
}

static void answer_and_hang_up(struct fake *f, const struct fake_request *req)
{
    good_getattr(f, req);
    fake_hangup(f, req);
}

static void backoff_of(void *arg)
{
    *(uint32_t *)arg = client->conns[0]->backoff_ms;
}

static void a_call_after_an_idle_connection_was_closed_does_not_wait(void **state)
{
    uint32_t backoff = UINT32_MAX;
    begin(answer_and_hang_up, (struct nfs3_options){0}, 0);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(getattr(), 0);
        while (STAT(drops) < i)
            usleep(1000);
        loop_call(loop, backoff_of, &backoff); /* behind the loss, in the same thread */
        assert_int_equal(backoff, 0);
    }
    end();
}

static void a_broken_connection_is_made_again_and_calls_keep_xid_and_port(void **state)
{
    for (wrong = 0; wrong < 5; wrong++) {
        begin(break_twice, (struct nfs3_options){0}, 0);
        assert_int_equal(getattr(), 0);
        assert_int_equal(same_xid, 2);
        assert_int_equal(same_port, 2);
        assert_int_equal(fake.accepted, 3);
        assert_int_equal(STAT(drops), 2);
        assert_int_equal(STAT(proc[PROC_GETATTR].retransmits), 2);
        assert_int_equal(STAT(proc[PROC_GETATTR].calls), 1);
        end();
    }
}

static void poison_reply(struct fake *f, const struct fake_request *req)
{
    uint8_t marker[8] = {0xff, 0xff, 0xff, 0};
    uint32_t xid = htobe32(req->xid);
    if (req->proc == PROC_GETATTR) {
        good_getattr(f, req);
        return;
    }
    memcpy(marker + 4, &xid, 4);
    fake_send(f, req, marker, 8);
}

static void a_reply_that_never_can_be_received_ends_its_call(void **state)
{
    begin(poison_reply, (struct nfs3_options){0}, 0);
    struct remote_call call = {.op = REMOTE_ACCESS};
    assert_int_equal(ask(&call), -EIO);
    assert_int_equal(fake.requests, 3);
    assert_int_equal(getattr(), 0);
    end();
}

static void answer_twice(struct fake *f, const struct fake_request *req)
{
    struct fake_request other = *req;
    other.xid += 77;
    good_getattr(f, &other);
    good_getattr(f, req);
    good_getattr(f, req);
}

static void replies_to_nobody_are_dropped(void **state)
{
    begin(answer_twice, (struct nfs3_options){0}, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(getattr(), 0);
    assert_in_range(STAT(strangers), 19, 20);
    assert_int_equal(fake.accepted, 1);
    end();
}

enum { WRITES = 4 };

static bool reply_before_the_end(struct fake *f, const struct fake_request *req)
{
    struct reply r = {0};
    if (f->accepted > 1)
        return false;
    put_ok(&r, req->xid + WRITES - 1, 0); /* the last of one batch: more than the buffers hold */
    put_no_wcc(&r);
    put32(&r, 1 << 20);
    put32(&r, 2);
    put_raw(&r, "too soon", 8);
    reply_send(f, req, &r);
    while (f->early_wait) /* the rest of the WRITE is not read before the client has seen this */
        usleep(1000);
    return true;
}

static void write_in_full(struct fake *f, const struct fake_request *req)
{
    struct reply r = {0};
    put_ok(&r, req->xid, 0);
    put_no_wcc(&r);
    put32(&r, 1 << 20);
    put32(&r, 2);
    put_raw(&r, "complete", 8);
    reply_send(f, req, &r);
}

static void submit_writes(void *arg)
{
    struct remote_call *call = arg;
    for (int i = 0; i < WRITES; i++)
        remote_submit(&client->base, &call[i]);
}

/* The caller may free the data when done() was called: not while it is still being sent. */
static void an_answer_to_half_a_write_is_not_believed(void **state)
{
    uint8_t *data = calloc(1, 1 << 20);
    struct iovec iov = {data, 1 << 20};
    fake.early = reply_before_the_end;
    begin(write_in_full, (struct nfs3_options){0}, 0);
    fake.early_wait = true;
    background_done = 0;
    static struct remote_call call[WRITES];
    for (int i = 0; i < WRITES; i++) {
        call[i] = (struct remote_call){.op = REMOTE_WRITE, .cred = &cred, .fh = handle};
        call[i].done = background_finished;
        call[i].u.io.count = 1 << 20;
        call[i].u.io.iov = &iov;
        call[i].u.io.iovcnt = 1;
    }
    loop_call(loop, submit_writes, call);
    while (!STAT(garbled) && !background_done)
        usleep(1000);
    fake.early_wait = false;
    while (background_done < WRITES)
        usleep(1000);
    for (int i = 0; i < WRITES; i++) {
        assert_int_equal(call[i].error, 0);
        assert_memory_equal(call[i].u.io.verf, "complete", 8);
    }
    assert_int_equal(STAT(garbled), 1);
    assert_int_equal(fake.accepted, 2);
    end();
    fake.early = NULL;
    free(data);
}

/* ---- lateness ---- */

static _Atomic int ignore;

static void ignore_some(struct fake *f, const struct fake_request *req)
{
    note(req);
    if (ignore > 0)
        ignore--;
    else
        good_getattr(f, req);
}

static void a_silent_connection_is_given_up_and_made_again(void **state)
{
    begin(ignore_some, (struct nfs3_options){.timeo_ds = 1, .retrans = 0}, 0);
    ignore = 3;
    assert_int_equal(getattr(), 0);
    assert_int_equal(same_xid, 3);
    assert_int_equal(same_port, 3);
    assert_int_equal(silent_lines, 1); /* "not responding" and "OK": once */
    assert_int_equal(ok_lines, 1);
    assert_true(fake.accepted >= 2);
    end();
}

static _Atomic int chatter;

static void lose_one(struct fake *f, const struct fake_request *req)
{
    /* The first ACCESS is lost; GETATTRs are answered, so the connection is alive. */
    if (req->proc == PROC_ACCESS && chatter++ == 0)
        return;
    if (req->proc == PROC_GETATTR) {
        good_getattr(f, req);
        return;
    }
    struct reply r = {0};
    put_ok(&r, req->xid, 0);
    put32(&r, 0);
    put32(&r, ACC_READ);
    reply_send(f, req, &r);
}

static void a_lost_request_is_sent_again_on_a_living_connection(void **state)
{
    begin(lose_one, (struct nfs3_options){.timeo_ds = 2}, 0);
    chatter = background_done = 0;
    background = (struct remote_call){.op = REMOTE_ACCESS, .cred = &cred, .fh = handle};
    background.u.access.want = R_OK;
    background.done = background_finished;
    remote_submit(&client->base, &background);
    while (!background_done)
        assert_int_equal(getattr(), 0);
    assert_int_equal(background.error, 0);
    assert_int_equal(background.u.access.allowed, R_OK);
    assert_true(background.retransmitted);
    assert_int_equal(fake.accepted, 1);
    end();
}

static void soft_gives_up(void **state)
{
    begin(ignore_some, (struct nfs3_options){.soft = true, .timeo_ds = 1, .retrans = 1}, 0);
    ignore = 1000000;
    uint64_t start = now_ns();
    assert_int_equal(getattr(), -ETIMEDOUT);
    uint64_t ms = (now_ns() - start) / 1000000;
    assert_in_range(ms, 200, 5000); /* timeo * (retrans + 1), and what a busy machine adds */
    ignore = 0;
    assert_int_equal(getattr(), 0);
    end();
}

static void soft_gives_up_where_nobody_listens(void **state)
{
    begin(good_getattr, (struct nfs3_options){.soft = true, .timeo_ds = 2, .retrans = 0}, 0);
    assert_int_equal(getattr(), 0);
    fake_stop(&fake);
    assert_int_equal(getattr(), -ETIMEDOUT);
    fake_start(&fake); /* the same port */
    int rc = -1;
    for (int i = 0; i < 200 && rc; i++)
        rc = getattr();
    assert_int_equal(rc, 0);
    end();
}

/* The line that a user reads when a mount fails: why, not that it took long. */
static void a_mount_attempt_remembers_the_refusal(void **state)
{
    begin(good_getattr, (struct nfs3_options){.soft = true, .timeo_ds = 2, .retrans = 0}, 0);
    assert_int_equal(getattr(), 0);
    client->setup = true;
    fake_stop(&fake);
    assert_int_equal(getattr(), -ETIMEDOUT);
    while (atomic_flag_test_and_set(&client->error_lock))
        ;
    bool refused = strstr(client->last_error, "Connection refused");
    atomic_flag_clear(&client->error_lock);
    assert_true(refused);
    fake_start(&fake);
    end();
}

static void hard_waits_for_the_server_to_come_back(void **state)
{
    begin(good_getattr, (struct nfs3_options){.timeo_ds = 1}, 0);
    assert_int_equal(getattr(), 0);
    fake_stop(&fake);
    background_done = 0;
    background = (struct remote_call){.op = REMOTE_GETATTR, .cred = &cred, .fh = handle};
    background.done = background_finished;
    remote_submit(&client->base, &background);
    while (!silent_lines)
        usleep(1000);
    assert_int_equal(background_done, 0);
    fake_start(&fake);
    while (!background_done)
        usleep(1000);
    assert_int_equal(background.error, 0);
    while (!ok_lines)
        usleep(1000);
    end();
}

static void shutdown_ends_what_is_outstanding(void **state)
{
    begin(ignore_some, (struct nfs3_options){0}, 1);
    ignore = 1000000;
    background_done = 0;
    background = (struct remote_call){.op = REMOTE_GETATTR, .cred = &cred, .fh = handle};
    background.done = background_finished;
    remote_submit(&client->base, &background);
    while (!fake.requests)
        usleep(1000);
    end();
    assert_int_equal(background_done, 1);
    assert_int_equal(background.error, -ENOTCONN);
}

int main(void)
{
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)(i * 2654435761u >> 13);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_malformed_reply_is_an_error_of_its_call_only),
        cmocka_unit_test(a_handle_of_wrong_length_is_refused),
        cmocka_unit_test(read_counts_are_held_against_the_request),
        cmocka_unit_test(a_reply_in_fragments_is_put_together),
        cmocka_unit_test(fragments_of_one_byte_are_put_together),
        cmocka_unit_test(write_counts_are_held_against_the_request),
        cmocka_unit_test(directory_entries_are_decoded_without_recursion_or_trust),
        cmocka_unit_test(a_call_after_an_idle_connection_was_closed_does_not_wait),
        cmocka_unit_test(a_broken_connection_is_made_again_and_calls_keep_xid_and_port),
        cmocka_unit_test(a_reply_that_never_can_be_received_ends_its_call),
        cmocka_unit_test(replies_to_nobody_are_dropped),
        cmocka_unit_test(an_answer_to_half_a_write_is_not_believed),
        cmocka_unit_test(a_silent_connection_is_given_up_and_made_again),
        cmocka_unit_test(a_lost_request_is_sent_again_on_a_living_connection),
        cmocka_unit_test(soft_gives_up),
        cmocka_unit_test(soft_gives_up_where_nobody_listens),
        cmocka_unit_test(a_mount_attempt_remembers_the_refusal),
        cmocka_unit_test(hard_waits_for_the_server_to_come_back),
        cmocka_unit_test(shutdown_ends_what_is_outstanding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
