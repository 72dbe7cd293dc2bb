// SPDX-License-Identifier: Apache-2.0
/*
 * The NFS client while the embedded server loses connections, replies, requests and its memory:
 * every call ends as if nothing had happened, and was done once.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/mounted.h"

static struct nfs3_stats stats;
static bool learnt_wcc;

/* ---- data: several writers and readers, from the loop ---- */

enum { SLOTS = 16, SLOT_MAX = 200000 };

static struct slot {
    struct remote_call call;
    struct iovec iov;
    uint8_t *data;
    uint32_t n, done;
    uint64_t offset;
    unsigned round;
    bool reading;
} slots[SLOTS];
static struct fh file;
static unsigned rounds;
static _Atomic int slots_left, errors;

static void slot_round(struct slot *s);

static uint8_t byte_at(const struct slot *s, uint64_t i)
{
    return (uint8_t)((s->offset + i) * 31 + s->round * 17);
}

static void slot_done(struct remote_call *call);

static void slot_call(struct slot *s)
{
    s->iov = (struct iovec){s->data + s->done, s->n - s->done};
    s->call = (struct remote_call){.op = s->reading ? REMOTE_READ : REMOTE_WRITE,
                                   .fh = file,
                                   .cred = &m.cred,
                                   .done = slot_done,
                                   .arg = s};
    s->call.u.io.offset = s->offset + s->done;
    s->call.u.io.count = s->n - s->done;
    s->call.u.io.iov = &s->iov;
    s->call.u.io.iovcnt = 1;
    remote_submit(m.remote, &s->call);
}

static void slot_done(struct remote_call *call)
{
    struct slot *s = call->arg;
    if (call->error) {
        print_error("slot %td, round %u: %s of %u bytes: %s\n", s - slots, s->round,
                    s->reading ? "READ" : "WRITE", s->n - s->done, strerror(-call->error));
        errors++;
        slots_left--;
        return;
    }
    s->done += call->u.io.done; /* short ones are allowed, and go on from there */
    if (s->done < s->n) {
        slot_call(s);
        return;
    }
    if (s->reading) {
        for (uint32_t i = 0; i < s->n; i++) {
            if (s->data[i] != byte_at(s, i)) {
                print_error("slot %td, round %u: byte %u of %u is %#x, not %#x\n", s - slots,
                            s->round, i, s->n, s->data[i], byte_at(s, i));
                errors++;
                break;
            }
        }
        s->round++;
    }
    s->reading = !s->reading;
    slot_round(s);
}

static void slot_round(struct slot *s)
{
    if (s->round == rounds) {
        slots_left--;
        return;
    }
    s->done = 0;
    if (s->reading) {
        memset(s->data, 0xEE, s->n);
    } else {
        s->n = (uint32_t)((s->round * 7919u + s->offset * 13) % SLOT_MAX) + 1;
        for (uint32_t i = 0; i < s->n; i++)
            s->data[i] = byte_at(s, i);
    }
    slot_call(s);
}

static void slots_start(void *arg)
{
    for (int i = 0; i < SLOTS; i++)
        slot_round(&slots[i]);
}

static void data_survives(const char *fault, unsigned n, struct nfs3_options o)
{
    o.nconnect = 2;
    mounted_start(o, &(struct server_options){0});
    assert_int_equal(make_file("data", &file), 0);
    if (fault)
        serve_command(fault);
    rounds = n;
    errors = 0;
    slots_left = SLOTS;
    for (int i = 0; i < SLOTS; i++)
        slots[i] = (struct slot){.data = malloc(SLOT_MAX), .offset = (uint64_t)i * SLOT_MAX};
    loop_call(m.loop, slots_start, NULL);
    while (slots_left)
        usleep(1000);
    assert_int_equal(errors, 0);
    nfs3_stats(m.remote, &stats);
    learnt_wcc = __atomic_load_n(&m.remote->wcc_on_write, __ATOMIC_RELAXED);
    mounted_stop();
    for (int i = 0; i < SLOTS; i++)
        free(slots[i].data);
}

static void data_survives_dropped_connections(void **state)
{
    data_survives("add READ,WRITE:drop:prob=0.03:seed=3", 30, (struct nfs3_options){0});
    assert_true(stats.reconnects >= 5 && stats.retransmits >= 5);
}

static void data_survives_replies_cut_inside(void **state)
{
    data_survives("add READ,WRITE:drop-mid:prob=0.03:seed=4", 30, (struct nfs3_options){0});
    assert_true(stats.reconnects >= 5);
}

static void data_survives_replies_cut_inside_the_data(void **state)
{
    data_survives("add READ:drop-mid=5000:prob=0.05:seed=4", 30, (struct nfs3_options){0});
    assert_true(stats.reconnects >= 5);
}

/* Cut off is not the same as impossible to receive: no number of times makes it an error. */
static void a_reply_cut_off_many_times_still_comes(void **state)
{
    mounted_start((struct nfs3_options){.nconnect = 1}, &(struct server_options){0});
    uint8_t *data = calloc(1, SLOT_MAX), *back = malloc(SLOT_MAX);
    assert_int_equal(make_file("cut", &file), 0);
    assert_int_equal(write_at(&file, 0, data, SLOT_MAX, REMOTE_UNSTABLE), 0);
    serve_command("add READ:drop-mid=5000:count=8");
    assert_int_equal(read_at(&file, 0, back, SLOT_MAX), SLOT_MAX);
    assert_memory_equal(data, back, SLOT_MAX);
    nfs3_stats(m.remote, &stats);
    assert_int_equal(stats.proc[PROC_READ].retransmits, 8);
    mounted_stop();
    free(data);
    free(back);
}

static void data_survives_lost_replies(void **state)
{
    data_survives("add READ,WRITE:lost-reply:prob=0.03:seed=5", 30, (struct nfs3_options){0});
    assert_true(stats.reconnects >= 5);
}

static void data_survives_silence(void **state)
{
    data_survives("add READ,WRITE:silent:prob=0.01:seed=6", 20,
                  (struct nfs3_options){.timeo_ds = 2});
    assert_true(stats.timeouts >= 2);
}

static void data_survives_jukebox(void **state)
{
    data_survives("add READ,WRITE:jukebox:prob=0.02:seed=7", 15, (struct nfs3_options){0});
    assert_true(stats.proc[PROC_READ].jukebox + stats.proc[PROC_WRITE].jukebox >= 3);
}

static void data_survives_short_transfers(void **state)
{
    data_survives("add READ:short-read=7000:prob=0.5:seed=8", 10, (struct nfs3_options){0});
    data_survives("add WRITE:short-write=9000:prob=0.5:seed=9", 10, (struct nfs3_options){0});
}

static void data_survives_replies_out_of_order(void **state)
{
    data_survives("add READ,WRITE:delay=5:prob=0.3:seed=10", 10, (struct nfs3_options){0});
    assert_int_equal(stats.retransmits, 0);
    assert_true(learnt_wcc); /* this server's WRITEs tell what was before them */
}

/* ---- names: each operation once, whatever is lost ---- */

static int exists(const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", m.export, name);
    return access(path, F_OK) == 0;
}

/* Every reply of these procedures is lost the first time; without a duplicate request cache the
 * second one says EXIST or NOENT. */
static void names_are_made_and_removed_once(void **state)
{
    for (int drc = 0; drc < 2; drc++) {
        mounted_start((struct nfs3_options){.nconnect = 1},
                      &(struct server_options){.no_drc = !drc});
        struct fh root = m.remote->root;
        static const char *const faults[] = {
            "add MKDIR:lost-reply:count=1",   "add SYMLINK:lost-reply:count=1",
            "add CREATE:lost-reply:count=1",  "add LINK:lost-reply:count=1",
            "add RENAME:lost-reply:count=1",  "add REMOVE:lost-reply:count=1",
            "add RMDIR:lost-reply:count=1",   "add MKNOD:lost-reply:count=1",
            "add SETATTR:lost-reply:count=1", NULL};
        for (int i = 0; faults[i]; i++)
            serve_command(faults[i]);
        struct remote_call call = {.op = REMOTE_MKDIR, .fh = root, .name = "dir"};
        call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = 0700};
        assert_int_equal(op(&call), 0);
        assert_true(call.has_obj && S_ISDIR(call.post.attr.mode) && exists("dir"));
        struct fh dir = call.obj;
        call = (struct remote_call){.op = REMOTE_SYMLINK, .fh = root, .name = "sym"};
        call.u.make.linkname = "nowhere";
        assert_int_equal(op(&call), 0);
        assert_true(call.has_obj && S_ISLNK(call.post.attr.mode));
        call = (struct remote_call){.op = REMOTE_CREATE, .fh = root, .name = "file"};
        call.u.make.exclusive = true;
        call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = 0600};
        assert_int_equal(op(&call), 0);
        assert_int_equal(call.post.attr.mode, S_IFREG | 0600);
        struct fh fh = call.obj;
        call = (struct remote_call){.op = REMOTE_LINK, .fh = fh, .fh2 = root, .name = "link"};
        assert_int_equal(op(&call), 0);
        assert_true(exists("link"));
        call = (struct remote_call){
            .op = REMOTE_RENAME, .fh = root, .name = "link", .fh2 = dir, .name2 = "moved"};
        assert_int_equal(op(&call), 0);
        assert_true(!exists("link") && exists("dir/moved"));
        call = (struct remote_call){.op = REMOTE_REMOVE, .fh = dir, .name = "moved"};
        assert_int_equal(op(&call), 0);
        assert_true(!exists("dir/moved"));
        call = (struct remote_call){.op = REMOTE_RMDIR, .fh = root, .name = "dir"};
        assert_int_equal(op(&call), 0);
        assert_true(!exists("dir"));
        call = (struct remote_call){.op = REMOTE_MKNOD, .fh = root, .name = "fifo"};
        call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = S_IFIFO | 0600};
        assert_int_equal(op(&call), 0);
        assert_true(call.has_obj && S_ISFIFO(call.post.attr.mode));
        nfs3_stats(m.remote, &stats);
        assert_true(stats.reconnects >= 9);
        /* And what truly is there, or not there, still is an error. */
        call = (struct remote_call){.op = REMOTE_SYMLINK, .fh = root, .name = "sym"};
        call.u.make.linkname = "nowhere";
        assert_int_equal(op(&call), -EEXIST);
        assert_int_equal(remove_name("dir"), -ENOENT);
        mounted_stop();
    }
}

/* ---- the server goes away ---- */

static void a_reboot_changes_the_verifier_and_nothing_else(void **state)
{
    mounted_start((struct nfs3_options){.nconnect = 1}, &(struct server_options){0});
    uint8_t byte = 'x';
    struct iovec iov = {&byte, 1};
    struct fh fh;
    assert_int_equal(make_file("r", &fh), 0);
    struct remote_call w = {.op = REMOTE_WRITE, .fh = fh};
    w.u.io.count = 1;
    w.u.io.iov = &iov;
    w.u.io.iovcnt = 1;
    assert_int_equal(op(&w), 0);
    serve_command("reboot 300");
    struct remote_call c = {.op = REMOTE_COMMIT, .fh = fh};
    assert_int_equal(op(&c), 0); /* waits */
    assert_memory_not_equal(w.u.io.verf, c.u.io.verf, 8);
    mounted_stop();
}

static struct remote_call parked;
static _Atomic int parked_done;

static void parked_finished(struct remote_call *call)
{
    parked_done = 1;
}

static void a_half_dead_server_is_found_and_waited_for(void **state)
{
    mounted_start((struct nfs3_options){.nconnect = 2, .timeo_ds = 2}, &(struct server_options){0});
    serve_command("pause"); /* connections stay, nothing is answered */
    parked_done = 0;
    parked = (struct remote_call){
        .op = REMOTE_GETATTR, .fh = m.remote->root, .cred = &m.cred, .done = parked_finished};
    remote_submit(m.remote, &parked);
    do {
        usleep(1000);
        nfs3_stats(m.remote, &stats);
    } while (stats.reconnects < 2 || stats.responding);
    assert_int_equal(parked_done, 0);
    serve_command("resume");
    while (!parked_done)
        usleep(1000);
    assert_int_equal(parked.error, 0);
    nfs3_stats(m.remote, &stats);
    assert_true(stats.responding);
    mounted_stop();
}

static void the_end_does_not_wait_for_a_server_that_is_silent(void **state)
{
    mounted_start((struct nfs3_options){.nconnect = 3}, &(struct server_options){0});
    serve_command("pause");
    parked_done = 0;
    parked = (struct remote_call){
        .op = REMOTE_GETATTR, .fh = m.remote->root, .cred = &m.cred, .done = parked_finished};
    remote_submit(m.remote, &parked);
    uint64_t start = now_ns();
    mounted_stop();
    assert_int_equal(parked_done, 1);
    assert_int_equal(parked.error, -ENOTCONN);
    assert_true(now_ns() - start < 10000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_survives_dropped_connections),
        cmocka_unit_test(data_survives_replies_cut_inside),
        cmocka_unit_test(data_survives_replies_cut_inside_the_data),
        cmocka_unit_test(a_reply_cut_off_many_times_still_comes),
        cmocka_unit_test(data_survives_lost_replies),
        cmocka_unit_test(data_survives_silence),
        cmocka_unit_test(data_survives_jukebox),
        cmocka_unit_test(data_survives_short_transfers),
        cmocka_unit_test(data_survives_replies_out_of_order),
        cmocka_unit_test(names_are_made_and_removed_once),
        cmocka_unit_test(a_reboot_changes_the_verifier_and_nothing_else),
        cmocka_unit_test(a_half_dead_server_is_found_and_waited_for),
        cmocka_unit_test(the_end_does_not_wait_for_a_server_that_is_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
