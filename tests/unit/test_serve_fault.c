// SPDX-License-Identifier: Apache-2.0
/* The embedded server: each fault as a client sees it, and the duplicate request cache. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/serve_fixture.h"

static void remove_args(struct xbuf *args, const struct fh *dir, const char *name)
{
    x_reset(args);
    x_fh(args, dir);
    x_name(args, name);
}

static void send_call(struct raw *raw, uint32_t xid, uint32_t proc, const struct xbuf *args)
{
    struct xbuf call = {0};

    raw_build(raw, &call, xid, 100003, proc, args);
    raw_send(raw, call.data, call.len);
    x_free(&call);
}

static void retransmitted_remove_gets_the_first_reply(void **state)
{
    struct fixture f;
    struct xbuf args = {0};

    fixture_start(&f, NULL);
    fixture_put(&f, "a", "");
    fixture_command(&f, "REMOVE:lost-reply:count=1");
    remove_args(&args, &f.root, "a");
    assert_int_equal(raw_nfs_xid(&f.raw, 77, P_REMOVE, &args), RAW_GONE);
    assert_null(fixture_get(&f, "a"));
    raw_reconnect(&f.raw);
    assert_int_equal(raw_nfs_xid(&f.raw, 77, P_REMOVE, &args), E_OK);
    assert_int_equal(raw_nfs_xid(&f.raw, 78, P_REMOVE, &args), E_NOENT);
    /* the same XID from another port is another call */
    struct raw other = {.uid = 0};
    raw_open(&other, f.raw.server_port, 0);
    assert_int_equal(raw_nfs_xid(&other, 77, P_REMOVE, &args), E_NOENT);
    raw_close(&other);
    /* and so is the same XID with other arguments */
    remove_args(&args, &f.root, "b");
    assert_int_equal(raw_nfs_xid(&f.raw, 77, P_REMOVE, &args), E_NOENT);
    x_free(&args);
    fixture_stop(&f);
}

static void without_the_cache_a_retransmission_is_executed_again(void **state)
{
    struct fixture f;
    struct xbuf args = {0};

    fixture_start(&f, &(struct server_options){.no_drc = true});
    fixture_put(&f, "a", "");
    fixture_command(&f, "REMOVE:lost-reply:count=1");
    remove_args(&args, &f.root, "a");
    assert_int_equal(raw_nfs_xid(&f.raw, 77, P_REMOVE, &args), RAW_GONE);
    raw_reconnect(&f.raw);
    assert_int_equal(raw_nfs_xid(&f.raw, 77, P_REMOVE, &args), E_NOENT);
    x_free(&args);
    fixture_stop(&f);
}

/* The copy overtakes the first, which is delayed: one execution, the answer goes to the copy too.
 */
static void copy_of_a_call_in_progress_waits_for_it(void **state)
{
    struct fixture f;
    struct xbuf args = {0};
    uint32_t xid;

    fixture_start(&f, NULL);
    fixture_put(&f, "a", "");
    fixture_command(&f, "REMOVE:delay=100:count=1");
    remove_args(&args, &f.root, "a");
    send_call(&f.raw, 91, P_REMOVE, &args);
    /* the server has it: a later call on the same connection was answered */
    assert_int_equal(raw_nfs(&f.raw, P_NULL, NULL), E_OK);
    raw_reconnect(&f.raw);
    send_call(&f.raw, 91, P_REMOVE, &args);
    assert_int_equal(raw_receive(&f.raw, &xid), 0);
    assert_int_equal(xid, 91);
    assert_int_equal(x_get32(&f.raw.reply), E_OK);
    x_free(&args);
    fixture_stop(&f);
}

static uint64_t ms_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* More delayed calls than the server has threads: none of them holds up a GETATTR. */
static void delay_delays_only_its_own_call(void **state)
{
    struct fixture f;
    struct xbuf args = {0};
    struct attrs a;
    struct fh fh;
    uint32_t xid, late = 0;

    fixture_start(&f, &(struct server_options){.threads = 2});
    assert_int_equal(raw_create(&f.raw, &f.root, "a", &fh), E_OK);
    fixture_command(&f, "READ:delay=300");
    x_fh(&args, &fh);
    x_u64(&args, 0);
    x_u32(&args, 10);
    uint64_t start = ms_now();
    for (uint32_t i = 0; i < 50; i++)
        send_call(&f.raw, 500 + i, P_READ, &args);
    for (int i = 0; i < 20; i++)
        assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_OK);
    assert_int_equal(fixture_fired(&f, 1), 50);
    while (late < 50) {
        assert_int_equal(raw_receive(&f.raw, &xid), 0);
        assert_in_range(xid, 500, 549);
        late++;
    }
    assert_true(ms_now() - start >= 300);
    x_free(&args);
    fixture_stop(&f);
}

static void errors_are_answered_and_counted(void **state)
{
    struct fixture f;
    struct attrs a;
    struct fh fh;

    fixture_start(&f, NULL);
    assert_int_equal(raw_create(&f.raw, &f.root, "a", &fh), E_OK);
    fixture_command(&f, "GETATTR:error=IO:skip=1:count=2");
    fixture_command(&f, "WRITE,COMMIT:error=NFS3ERR_DQUOT");
    fixture_command(&f, "REMOVE:jukebox:count=1");
    fixture_command(&f, "CREATE:nospace:count=1");
    fixture_command(&f, "ACCESS:error=13");
    assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_OK);
    assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_IO);
    assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_IO);
    assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_OK);
    assert_int_equal(fixture_fired(&f, 1), 2);
    struct write_result w;
    assert_int_equal(raw_write(&f.raw, &fh, 0, "x", 1, 0, &w), 69);
    assert_int_equal(raw_commit(&f.raw, &fh, &w), 69);
    assert_string_equal(fixture_get(&f, "a"), "");
    /* JUKEBOX asks for the same call again: it must then be executed, same XID or not */
    struct xbuf args = {0};
    remove_args(&args, &f.root, "a");
    assert_int_equal(raw_nfs_xid(&f.raw, 5, P_REMOVE, &args), E_JUKEBOX);
    assert_non_null(fixture_get(&f, "a"));
    assert_int_equal(raw_nfs_xid(&f.raw, 5, P_REMOVE, &args), E_OK);
    assert_null(fixture_get(&f, "a"));
    assert_int_equal(raw_create(&f.raw, &f.root, "b", &fh), E_NOSPC);
    assert_int_equal(raw_create(&f.raw, &f.root, "b", &fh), E_OK);
    fixture_command(&f, "clear");
    assert_string_equal(fixture_command(&f, "list"), "ok\n");
    assert_int_equal(raw_write(&f.raw, &fh, 0, "x", 1, 0, &w), E_OK);
    x_free(&args);
    fixture_stop(&f);
}

static void nospace_spares_calls_that_need_no_room(void **state)
{
    struct fixture f;
    struct attrs a;
    struct fh fh;

    fixture_start(&f, NULL);
    fixture_put(&f, "a", "x");
    fixture_command(&f, "all:nospace");
    assert_int_equal(raw_lookup(&f.raw, &f.root, "a", &fh), E_OK);
    assert_int_equal(raw_getattr(&f.raw, &fh, &a), E_OK);
    assert_int_equal(raw_write(&f.raw, &fh, 0, "y", 1, 0, NULL), E_NOSPC);
    assert_int_equal(raw_remove(&f.raw, &f.root, "a"), E_OK);
    fixture_stop(&f);
}

static void stale_can_be_meant_for_one_file(void **state)
{
    struct fixture f;
    struct attrs a;
    struct fh one, two;

    fixture_start(&f, NULL);
    fixture_put(&f, "o:n e", "");
    fixture_put(&f, "two", "");
    assert_int_equal(raw_lookup(&f.raw, &f.root, "o:n e", &one), E_OK);
    assert_int_equal(raw_lookup(&f.raw, &f.root, "two", &two), E_OK);
    fixture_command(&f, "all:stale:file=o:n e");
    assert_int_equal(raw_getattr(&f.raw, &one, &a), E_STALE);
    assert_int_equal(raw_getattr(&f.raw, &two, &a), E_OK);
    fixture_stop(&f);
}

static void drop_closes_without_executing(void **state)
{
    struct fixture f;

    fixture_start(&f, NULL);
    fixture_put(&f, "a", "");
    fixture_command(&f, "REMOVE:drop:count=1");
    assert_int_equal(raw_remove(&f.raw, &f.root, "a"), RAW_GONE);
    assert_non_null(fixture_get(&f, "a"));
    raw_reconnect(&f.raw);
    assert_int_equal(raw_remove(&f.raw, &f.root, "a"), E_OK);
    fixture_stop(&f);
}

/* A large WRITE of which the client has sent one half, and would have to send the other. */
static void drop_call_cuts_a_large_call(void **state)
{
    struct fixture f;
    struct xbuf args = {0}, call = {0};
    uint8_t *data = calloc(1, 1 << 20);
    struct fh fh;
    char byte;

    fixture_start(&f, NULL);
    assert_int_equal(raw_create(&f.raw, &f.root, "a", &fh), E_OK);
    fixture_command(&f, "WRITE:drop-call:count=1");
    fixture_command(&f, "WRITE:drop-call=100000:skip=1:count=1");
    x_fh(&args, &fh), x_u64(&args, 0), x_u32(&args, 1 << 20), x_u32(&args, 2);
    x_opaque(&args, data, 1 << 20);
    for (int i = 0; i < 2; i++) {
        raw_build(&f.raw, &call, 600, 100003, P_WRITE, &args);
        raw_send(&f.raw, call.data, i ? 99000 : call.len / 2 - 1000);
        assert_false(raw_readable(&f.raw, 50));
        raw_send(&f.raw, call.data, 2000);
        assert_true(raw_readable(&f.raw, 10000));
        assert_true(recv(f.raw.fd, &byte, 1, 0) <= 0);
        raw_reconnect(&f.raw);
    }
    assert_string_equal(fixture_get(&f, "a"), "");
    assert_int_equal(raw_write(&f.raw, &fh, 0, data, 1 << 20, 2, NULL), E_OK);
    assert_int_equal(fixture_fired(&f, 1), 1);
    assert_int_equal(fixture_fired(&f, 2), 1);
    free(data);
    x_free(&args);
    x_free(&call);
    fixture_stop(&f);
}

static void drop_mid_cuts_the_reply(void **state)
{
    struct fixture f;
    struct xbuf args = {0};
    struct fh fh;
    char got[4096];

    fixture_start(&f, NULL);
    fixture_put(&f, "a", "0123456789");
    assert_int_equal(raw_lookup(&f.raw, &f.root, "a", &fh), E_OK);
    fixture_command(&f, "READ:drop-mid:count=1");
    fixture_command(&f, "READ:drop-mid=13:skip=1:count=1");
    x_fh(&args, &fh);
    x_u64(&args, 0);
    x_u32(&args, 10);
    for (int i = 0; i < 2; i++) {
        size_t have = 0;
        ssize_t n;
        send_call(&f.raw, 900, P_READ, &args);
        while ((n = recv(f.raw.fd, got + have, sizeof(got) - have, 0)) > 0)
            have += (size_t)n;
        /* 4 mark, 24 header, 4 status, 88 attributes, 4 count, 4 eof, 4 length, 12 data */
        assert_int_equal(have, i ? 13 : 144 / 2);
        raw_reconnect(&f.raw);
    }
    x_free(&args);
    fixture_stop(&f);
}

/* Every unlock may be followed by a switch to another thread (linked with --wrap). */
static _Atomic bool switching;

int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    static _Atomic unsigned count;
    int rc = __real_pthread_mutex_unlock(mutex);
    if (switching && count++ % 7 == 0)
        usleep(100);
    return rc;
}

/* What other threads have to send at that moment must not look like the rest of it. */
static void nothing_follows_a_cut_reply(void **state)
{
    enum { CALLS = 40, ROUNDS = 60, WHOLE = 144, CUT = 13 };
    struct fixture f;
    struct xbuf args = {0}, call = {0}, all = {0};
    struct fh fh;
    char got[CALLS * WHOLE + 1], spec[64];

    fixture_start(&f, &(struct server_options){.threads = 4});
    fixture_put(&f, "a", "0123456789");
    assert_int_equal(raw_lookup(&f.raw, &f.root, "a", &fh), E_OK);
    x_fh(&args, &fh);
    x_u64(&args, 0);
    x_u32(&args, 10);
    for (uint32_t i = 0; i < CALLS; i++) {
        raw_build(&f.raw, &call, 900 + i, 100003, P_READ, &args);
        all.data = realloc(all.data, all.len + call.len);
        memcpy(all.data + all.len, call.data, call.len);
        all.len += call.len;
    }
    switching = true;
    for (int i = 0; i < ROUNDS; i++) {
        size_t have = 0;
        ssize_t n;
        fixture_command(&f, "clear");
        snprintf(spec, sizeof(spec), "READ:drop-mid=%d:skip=%d:count=1", CUT, i % 16);
        fixture_command(&f, spec);
        raw_send(&f.raw, all.data, all.len);
        while ((n = recv(f.raw.fd, got + have, sizeof(got) - have, 0)) > 0)
            have += (size_t)n;
        assert_int_equal(have % WHOLE, CUT);
        for (size_t at = 0; at < have; at += WHOLE)
            assert_memory_equal(got + at, "\x80\0\0\x8c", 4);
        raw_reconnect(&f.raw);
    }
    switching = false;
    x_free(&args);
    x_free(&call);
    free(all.data);
    fixture_stop(&f);
}

static void short_read_and_short_write_say_so(void **state)
{
    struct fixture f;
    struct write_result w;
    struct fh fh;
    char got[20];
    uint32_t n;
    bool eof;

    fixture_start(&f, NULL);
    assert_int_equal(raw_create(&f.raw, &f.root, "a", &fh), E_OK);
    fixture_command(&f, "WRITE:short-write=3:count=1");
    fixture_command(&f, "READ:short-read=4:count=1");
    assert_int_equal(raw_write(&f.raw, &fh, 0, "0123456789", 10, 0, &w), E_OK);
    assert_int_equal(w.count, 3);
    assert_int_equal(w.after.size, 3);
    assert_int_equal(raw_write(&f.raw, &fh, 3, "3456789", 7, 0, &w), E_OK);
    assert_int_equal(w.count, 7);
    assert_int_equal(raw_read(&f.raw, &fh, 0, got, 20, &n, &eof), E_OK);
    assert_int_equal(n, 4);
    assert_false(eof);
    assert_int_equal(raw_read(&f.raw, &fh, 0, got, 20, &n, &eof), E_OK);
    assert_int_equal(n, 10);
    assert_memory_equal(got, "0123456789", 10);
    fixture_stop(&f);
}

static void silent_executes_and_says_nothing(void **state)
{
    struct fixture f;
    struct xbuf args = {0};

    fixture_start(&f, NULL);
    fixture_put(&f, "a", "");
    fixture_command(&f, "REMOVE:silent:count=1");
    remove_args(&args, &f.root, "a");
    send_call(&f.raw, 31, P_REMOVE, &args);
    /* the connection lives: a retransmission on it is answered, from the cache */
    uint32_t xid;
    while (fixture_get(&f, "a"))
        usleep(1000);
    send_call(&f.raw, 31, P_REMOVE, &args);
    assert_int_equal(raw_receive(&f.raw, &xid), 0);
    assert_int_equal(xid, 31);
    assert_int_equal(x_get32(&f.raw.reply), E_OK);
    assert_false(raw_readable(&f.raw, 0));
    x_free(&args);
    fixture_stop(&f);
}

static void reboot_at_a_call_is_not_that_call(void **state)
{
    struct fixture f;
    struct write_result before, after;
    struct fh fh;

    fixture_start(&f, NULL);
    assert_int_equal(raw_create(&f.raw, &f.root, "a", &fh), E_OK);
    fixture_command(&f, "COMMIT:reboot:count=1");
    assert_int_equal(raw_write(&f.raw, &fh, 0, "lost", 4, 0, &before), E_OK);
    assert_int_equal(raw_commit(&f.raw, &fh, &after), RAW_GONE);
    raw_reconnect(&f.raw);
    assert_int_equal(raw_commit(&f.raw, &fh, &after), E_OK);
    assert_true(before.verf != after.verf);
    assert_string_equal(fixture_get(&f, "a"), "");
    fixture_stop(&f);
}

static void reboot_forgets_the_duplicate_request_cache(void **state)
{
    struct fixture f;
    struct xbuf args = {0};

    fixture_start(&f, NULL);
    fixture_put(&f, "a", "");
    remove_args(&args, &f.root, "a");
    assert_int_equal(raw_nfs_xid(&f.raw, 5, P_REMOVE, &args), E_OK);
    assert_int_equal(raw_nfs_xid(&f.raw, 5, P_REMOVE, &args), E_OK);
    fixture_command(&f, "reboot");
    raw_reconnect(&f.raw);
    assert_int_equal(raw_nfs_xid(&f.raw, 5, P_REMOVE, &args), E_NOENT);
    x_free(&args);
    fixture_stop(&f);
}

static void down_after_reboot_refuses_connections_for_a_while(void **state)
{
    struct fixture f;
    struct attrs a;
    int refused = 0;

    fixture_start(&f, NULL);
    fixture_command(&f, "reboot 200");
    uint64_t start = ms_now();
    for (;;) {
        raw_reconnect(&f.raw);
        if (raw_getattr(&f.raw, &f.root, &a) == E_OK)
            break;
        refused++;
        usleep(5000);
    }
    assert_true(refused > 0);
    assert_true(ms_now() - start >= 190);
    fixture_stop(&f);
}

static void pause_keeps_calls_until_resume(void **state)
{
    struct fixture f;
    struct xbuf args = {0};
    uint32_t xid;

    fixture_start(&f, NULL);
    fixture_put(&f, "a", "");
    fixture_command(&f, "pause");
    remove_args(&args, &f.root, "a");
    send_call(&f.raw, 8, P_REMOVE, &args);
    struct raw other = {0};
    raw_open(&other, f.raw.server_port, 0);
    send_call(&other, 9, P_NULL, NULL);
    assert_false(raw_readable(&f.raw, 100));
    assert_non_null(fixture_get(&f, "a"));
    fixture_command(&f, "resume");
    assert_int_equal(raw_receive(&f.raw, &xid), 0);
    assert_int_equal(x_get32(&f.raw.reply), E_OK);
    assert_int_equal(raw_receive(&other, &xid), 0);
    raw_close(&other);
    x_free(&args);
    fixture_stop(&f);
}

/* The pattern of a probability over 400 calls, as a string of '.' and 'x'. */
static void pattern(struct fixture *f, const char *spec, char out[401])
{
    struct attrs a;

    fixture_command(f, "clear");
    fixture_command(f, spec);
    for (int i = 0; i < 400; i++)
        out[i] = raw_getattr(&f->raw, &f->root, &a) == E_OK ? '.' : 'x';
    out[400] = '\0';
}

static void probability_repeats_with_its_seed(void **state)
{
    struct fixture f;
    char first[401], again[401], other[401];
    int fired = 0;

    fixture_start(&f, NULL);
    pattern(&f, "GETATTR:error=IO:prob=0.25:seed=42", first);
    pattern(&f, "GETATTR:error=IO:prob=0.25:seed=42", again);
    pattern(&f, "GETATTR:error=IO:prob=0.25:seed=43", other);
    assert_string_equal(first, again);
    assert_string_not_equal(first, other);
    for (int i = 0; i < 400; i++)
        fired += first[i] == 'x';
    assert_in_range(fired, 60, 140);
    fixture_stop(&f);
}

static void bad_specifications_are_quoted(void **state)
{
    static const char *const bad[][2] = {
        {"add nonsense", "'nonsense' is no fault"},
        {"FOO:drop", "'FOO'"},
        {"READ,BAR:drop", "'BAR'"},
        {"READ:explode", "'explode'"},
        {"READ:delay", "want delay=N"},
        {"READ:delay=abc", "'abc'"},
        {"READ:drop=5", "'5'"},
        {"READ:error=NOPE", "'NOPE'"},
        {"READ:error=0", "'0'"},
        {"READ:drop:count=-1", "'count=-1'"},
        {"READ:drop:prob=2", "'prob=2'"},
        {"READ:drop:what=2", "'what=2'"},
        {"READ:drop:file=absent", "'absent'"},
        {"WRITE:short-read=3", "'short-read'"},
        {":drop", "no procedure"},
        {"READ:drop:", "''"},
        {"frobnicate", "'frobnicate'"},
        {"clear x", "want clear"},
        {"clear 99", "no fault of that number"},
    };
    struct fixture f;
    char answer[4096];

    fixture_start(&f, NULL);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        FILE *out = fmemopen(answer, sizeof(answer), "w");
        bool ok = server_command(f.srv, bad[i][0], out);
        fclose(out);
        if (ok || strncmp(answer, "error: ", 7) != 0 || !strstr(answer, bad[i][1]))
            fail_msg("%s: %s", bad[i][0], answer);
    }
    assert_string_equal(fixture_command(&f, "list"), "ok\n");
    fixture_stop(&f);
}

static void control_socket_takes_commands(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct fixture f;
    char line[256];

    snprintf(addr.sun_path, sizeof(addr.sun_path), "/tmp/serve-ctl.%d", (int)getpid());
    fixture_start(&f, &(struct server_options){.control = addr.sun_path});
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    FILE *stream = fdopen(fd, "r+");
    fprintf(stream, "WRITE:nospace\nlist\nbad\n");
    fflush(stream);
    static const char *const want[] = {"fault 1\n", "ok\n", "1 fired=0 seen=0 WRITE:nospace\n",
                                       "ok\n", "error: 'bad'"};
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        assert_non_null(fgets(line, sizeof(line), stream));
        assert_memory_equal(line, want[i], strlen(want[i]));
    }
    fclose(stream);
    fixture_stop(&f);
    assert_int_equal(access(addr.sun_path, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(retransmitted_remove_gets_the_first_reply),
        cmocka_unit_test(without_the_cache_a_retransmission_is_executed_again),
        cmocka_unit_test(copy_of_a_call_in_progress_waits_for_it),
        cmocka_unit_test(delay_delays_only_its_own_call),
        cmocka_unit_test(errors_are_answered_and_counted),
        cmocka_unit_test(nospace_spares_calls_that_need_no_room),
        cmocka_unit_test(stale_can_be_meant_for_one_file),
        cmocka_unit_test(drop_closes_without_executing),
        cmocka_unit_test(drop_call_cuts_a_large_call),
        cmocka_unit_test(drop_mid_cuts_the_reply),
        cmocka_unit_test(nothing_follows_a_cut_reply),
        cmocka_unit_test(short_read_and_short_write_say_so),
        cmocka_unit_test(silent_executes_and_says_nothing),
        cmocka_unit_test(reboot_at_a_call_is_not_that_call),
        cmocka_unit_test(reboot_forgets_the_duplicate_request_cache),
        cmocka_unit_test(down_after_reboot_refuses_connections_for_a_while),
        cmocka_unit_test(pause_keeps_calls_until_resume),
        cmocka_unit_test(probability_repeats_with_its_seed),
        cmocka_unit_test(bad_specifications_are_quoted),
        cmocka_unit_test(control_socket_takes_commands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
