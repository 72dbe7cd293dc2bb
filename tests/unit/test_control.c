// SPDX-License-Identifier: Apache-2.0
/* The control socket: both its ends in one process, a mount that is only made up behind it. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/control.h"
#include "daemon/control_client.h"
#include "daemon/mounts.h"

#define JOBS 16

/* A mount whose flush ends when the test lets it. */
static struct fake {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool held, stopped;
    unsigned waiting;
    char path[256];
    uint64_t ino;
    uint64_t dirty;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static char *big_text;

static int fake_status(void *ctx, char **out)
{
    *out = strdup(big_text ? big_text : "{\"server\":\"x\"}");
    return 0;
}

static int fake_dirty_files(void *ctx, char **out)
{
    *out = strdup("[]");
    return 0;
}

static uint64_t fake_dirty_bytes(void *ctx)
{
    return fake.dirty;
}

static int fake_flush(void *ctx, const char *path, uint64_t ino)
{
    struct fake *f = ctx;

    pthread_mutex_lock(&f->lock);
    snprintf(f->path, sizeof f->path, "%s", path);
    f->ino = ino;
    f->waiting++;
    pthread_cond_broadcast(&f->cond);
    while (f->held)
        pthread_cond_wait(&f->cond, &f->lock);
    f->waiting--;
    pthread_mutex_unlock(&f->lock);
    return 0;
}

static int fake_revalidate(void *ctx, const char *path, uint64_t ino)
{
    return strcmp(path, "gone") == 0 ? -ESTALE : 0;
}

static int fake_drop(void *ctx, uint64_t *pages)
{
    *pages = (uint64_t)5 << 32;
    return 0;
}

static int fake_discard(void *ctx, uint64_t ino, uint64_t *bytes)
{
    *bytes = ino * 2;
    return 0;
}

/* Waits like a flush; a stop lets it go. */
static int fake_resize(void *ctx, uint64_t size, struct control_resize *out)
{
    struct fake *f = ctx;

    *out = (struct control_resize){.was = 7, .target = size, .least = 1, .most = 1000};
    if (size > out->most)
        return -ERANGE;
    pthread_mutex_lock(&f->lock);
    f->waiting++;
    pthread_cond_broadcast(&f->cond);
    while (f->held && !f->stopped)
        pthread_cond_wait(&f->cond, &f->lock);
    f->waiting--;
    out->size = f->stopped ? 5 : size;
    out->moved = (uint64_t)3 << 40;
    out->clamped = true;
    pthread_mutex_unlock(&f->lock);
    return out->size == size ? 0 : -EINTR;
}

static void fake_resize_state(void *ctx, struct control_resize *out)
{
    *out = (struct control_resize){.left = 4096, .size = 6};
}

static void fake_resize_stop(void *ctx)
{
    struct fake *f = ctx;

    pthread_mutex_lock(&f->lock);
    f->stopped = true;
    pthread_cond_broadcast(&f->cond);
    pthread_mutex_unlock(&f->lock);
}

static const struct control_ops ops = {
    .status_json = fake_status,
    .dirty_files = fake_dirty_files,
    .dirty_bytes = fake_dirty_bytes,
    .flush = fake_flush,
    .revalidate = fake_revalidate,
    .drop_clean = fake_drop,
    .discard = fake_discard,
    .resize = fake_resize,
    .resize_state = fake_resize_state,
    .resize_stop = fake_resize_stop,
};

static dev_t dev;
static struct control *control;
static struct control_client *client;

static int setup(void **state)
{
    /* No mount has this device number, and no other run of this test. */
    dev = makedev(4000, (unsigned)getpid() & 0xfffff);
    int rc = control_start(dev, geteuid(), &ops, &fake, &control);
    if (rc < 0) {
        print_error("control_start: %s\n", strerror(-rc));
        return -1;
    }
    return control_connect(dev, geteuid(), &client);
}

static void hold(bool held)
{
    pthread_mutex_lock(&fake.lock);
    fake.held = held;
    pthread_cond_broadcast(&fake.cond);
    pthread_mutex_unlock(&fake.lock);
}

static void wait_for_waiting(unsigned n)
{
    pthread_mutex_lock(&fake.lock);
    while (fake.waiting != n)
        pthread_cond_wait(&fake.cond, &fake.lock);
    pthread_mutex_unlock(&fake.lock);
}

static int teardown(void **state)
{
    hold(false);
    control_disconnect(client);
    control_stop(control);
    client = NULL;
    control = NULL;
    free(big_text);
    big_text = NULL;
    return 0;
}

static void test_status_arrives_whole(void **state)
{
    char *text;
    size_t size = 3 << 20;

    assert_int_equal(control_status(client, &text), 0);
    assert_string_equal(text, "{\"server\":\"x\"}");
    free(text);
    big_text = malloc(size + 1);
    memset(big_text, 'a', size);
    big_text[size] = 0;
    assert_int_equal(control_status(client, &text), 0);
    assert_string_equal(text, big_text);
    free(text);
    assert_int_equal(control_dirty(client, &text), 0);
    assert_string_equal(text, "[]");
    free(text);
}

static void test_job_gets_path_and_number_and_returns_its_result(void **state)
{
    struct control_progress p;
    uint32_t id;

    fake.dirty = 77;
    assert_int_equal(control_job_start(client, JOB_FLUSH, "/a/\xff\n", (uint64_t)7 << 40, &id), 0);
    assert_int_equal(control_job_wait(client, id, &p), 0);
    assert_string_equal(fake.path, "a/\xff\n");
    assert_int_equal(fake.ino, (uint64_t)7 << 40);
    assert_int_equal(p.dirty_bytes, 77);
    assert_int_equal(control_job_start(client, JOB_REVALIDATE, "gone", 3, &id), 0);
    assert_int_equal(control_job_wait(client, id, &p), -ESTALE);
    assert_int_equal(control_job_start(client, JOB_DROP, "", 0, &id), 0);
    assert_int_equal(control_job_wait(client, id, &p), 0);
    assert_int_equal(p.value, (uint64_t)5 << 32);
    assert_int_equal(control_job_start(client, JOB_DISCARD, "", 21, &id), 0);
    assert_int_equal(control_job_wait(client, id, &p), 0);
    assert_int_equal(p.value, 42);
    /* Nothing is discarded without a name. */
    assert_int_equal(control_job_start(client, JOB_DISCARD, "", 0, &id), -EINVAL);
    assert_int_equal(control_job_poll(client, 4711, &p), -ESRCH);
}

static void test_a_stuck_flush_keeps_nobody_waiting(void **state)
{
    struct control_client *other;
    struct control_progress p;
    uint32_t id[JOBS + 1];
    char *text;

    hold(true);
    for (unsigned i = 0; i < JOBS; i++)
        assert_int_equal(control_job_start(client, JOB_FLUSH, "", 0, &id[i]), 0);
    wait_for_waiting(JOBS);
    assert_int_equal(control_job_start(client, JOB_FLUSH, "", 0, &id[JOBS]), -EBUSY);
    assert_int_equal(control_connect(dev, geteuid(), &other), 0);
    assert_int_equal(control_status(other, &text), 0);
    free(text);
    assert_int_equal(control_job_poll(other, id[0], &p), -EINPROGRESS);
    /* What ends such flushes for good must find room beside them, again and again. */
    for (uint64_t ino = 1; ino <= 3; ino++) {
        assert_int_equal(control_job_start(other, JOB_DISCARD, "", ino, &id[JOBS]), 0);
        assert_int_equal(control_job_wait(other, id[JOBS], &p), 0);
        assert_int_equal(p.value, 2 * ino);
    }
    control_disconnect(other);
    hold(false);
    for (unsigned i = 0; i < JOBS; i++)
        assert_int_equal(control_job_wait(client, id[i], &p), 0);
    assert_int_equal(control_job_start(client, JOB_FLUSH, "", 0, &id[JOBS]), 0);
    assert_int_equal(control_job_wait(client, id[JOBS], &p), 0);
}

static void test_resize_reports_and_stops(void **state)
{
    struct control_resize z;
    struct control_progress p;
    uint32_t id, flush;
    int rc;

    hold(true);
    assert_int_equal(control_resize_start(client, 900, &id), 0);
    wait_for_waiting(1);
    assert_int_equal(control_resize_poll(client, id, &z), -EINPROGRESS);
    assert_int_equal(z.left, 4096);
    assert_int_equal(z.size, 6);
    assert_int_equal(control_resize_stop(client), 0);
    while ((rc = control_resize_poll(client, id, &z)) == -EINPROGRESS)
        usleep(1000);
    assert_int_equal(rc, -EINTR);
    assert_int_equal(z.size, 5);
    assert_int_equal(z.was, 7);
    assert_int_equal(z.target, 900);
    assert_int_equal(z.moved, (uint64_t)3 << 40);
    assert_true(z.clamped);
    /* Another job's number is not a resize's. */
    hold(false);
    assert_int_equal(control_job_start(client, JOB_FLUSH, "", 0, &flush), 0);
    assert_int_equal(control_job_wait(client, flush, &p), 0);
    assert_int_equal(control_resize_poll(client, flush, &z), -ESRCH);

    fake.stopped = false;
    assert_int_equal(control_resize_start(client, 1001, &id), 0);
    while ((rc = control_resize_poll(client, id, &z)) == -EINPROGRESS)
        usleep(1000);
    assert_int_equal(rc, -ERANGE);
    assert_int_equal(z.least, 1);
    assert_int_equal(z.most, 1000);
    /* Not by the procedure of other jobs, which carries no size. */
    assert_int_equal(control_job_start(client, (enum control_client_job)5, "", 0, &id), -EINVAL);
}

/* Whoever is slow to ask is told all the same. */
static void test_a_result_is_kept_until_it_is_asked_for(void **state)
{
    struct control_progress p;
    uint32_t slow, id;

    assert_int_equal(control_job_start(client, JOB_REVALIDATE, "gone", 3, &slow), 0);
    for (unsigned i = 0; i < 3 * JOBS; i++) {
        assert_int_equal(control_job_start(client, JOB_DROP, "", 0, &id), 0);
        assert_int_equal(control_job_wait(client, id, &p), 0);
    }
    assert_int_equal(control_job_wait(client, slow, &p), -ESTALE);
}

/* Lets the flush go once control_stop() is under way, which its socket's absence tells. */
static void *release_after_stop(void *path)
{
    while (access(path, F_OK) == 0)
        usleep(1000);
    usleep(50000);
    hold(false);
    return NULL;
}

static void test_stop_waits_for_jobs(void **state)
{
    char path[CONTROL_SOCKET_PATH_MAX];
    struct control_client *other;
    pthread_t thread;
    uint32_t id;

    control_socket_path(dev, geteuid(), path);
    hold(true);
    assert_int_equal(control_job_start(client, JOB_FLUSH, "", 0, &id), 0);
    wait_for_waiting(1);
    pthread_create(&thread, NULL, release_after_stop, path);
    control_stop(control);
    control = NULL;
    assert_false(fake.held);
    assert_int_equal(fake.waiting, 0);
    pthread_join(thread, NULL);
    assert_int_equal(control_connect(dev, geteuid(), &other), -ENOENT);
}

static void *connect_early(void *result)
{
    *(int *)result = control_connect(dev, geteuid(), &client);
    return NULL;
}

/* As when somebody asks as soon as the mount is to be seen. */
static void test_a_socket_that_is_about_to_be_made_is_waited_for(void **state)
{
    pthread_t thread;
    int result = 1;

    control_disconnect(client);
    client = NULL;
    control_stop(control);
    pthread_create(&thread, NULL, connect_early, &result);
    usleep(100000);
    assert_int_equal(control_start(dev, geteuid(), &ops, &fake, &control), 0);
    pthread_join(thread, NULL);
    assert_int_equal(result, 0);
    assert_int_equal(control_peer(client), getpid());
}

static void test_peer_is_known_and_socket_private(void **state)
{
    char path[CONTROL_SOCKET_PATH_MAX];
    struct stat st;

    assert_int_equal(control_peer(client), getpid());
    assert_int_equal(control_socket_path(dev, geteuid(), path), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

/* What another user gets: -errno of connecting, or else of asking. */
static int as_nobody(void)
{
    struct control_client *c;
    int status;

    pid_t pid = fork();
    if (pid == 0) {
        char *text;
        uid_t owner = geteuid();
        if (setresuid(65534, 65534, 65534) < 0)
            _exit(99);
        int rc = control_connect(dev, owner, &c);
        if (rc == 0)
            rc = control_status(c, &text);
        _exit(-rc);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

static void test_other_users_are_refused_by_their_credentials(void **state)
{
    char path[CONTROL_SOCKET_PATH_MAX];

    if (geteuid() != 0) {
        print_message("SKIPPED: only root can become another user\n");
        skip();
    }
    assert_int_equal(as_nobody(), -EACCES); /* by the socket's mode */
    control_socket_path(dev, geteuid(), path);
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(as_nobody(), -EACCES); /* by SO_PEERCRED */
}

static void test_a_dead_daemons_socket_is_replaced(void **state)
{
    struct control *second;
    struct control_client *c;
    char path[CONTROL_SOCKET_PATH_MAX];
    char *text;

    control_disconnect(client);
    client = NULL;
    control_stop(control);
    control = NULL;
    control_socket_path(dev, geteuid(), path);
    fclose(fopen(path, "w"));
    assert_int_equal(control_connect(dev, geteuid(), &c), -ECONNREFUSED);
    assert_int_equal(control_start(dev, geteuid(), &ops, &fake, &second), 0);
    assert_int_equal(control_connect(dev, geteuid(), &c), 0);
    assert_int_equal(control_status(c, &text), 0);
    free(text);
    control_disconnect(c);
    /* A third one took the place: the second leaves its socket alone. */
    unlink(path);
    fclose(fopen(path, "w"));
    control_stop(second);
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
}

static void test_mountinfo_lines(void **state)
{
    struct mount_entry e;

    assert_true(mounts_parse_line("36 35 0:57 / /mnt/a\\040b\\134c rw,nosuid shared:1 - "
                                  "fuse.nfscached [::1]:/x\\011y rw,user_id=1000,group_id=5\n",
                                  &e));
    assert_int_equal(e.id, 36);
    assert_int_equal(e.dev, makedev(0, 57));
    assert_string_equal(e.root, "/");
    assert_string_equal(e.mountpoint, "/mnt/a b\\c");
    assert_string_equal(e.type, "fuse.nfscached");
    assert_string_equal(e.source, "[::1]:/x\ty");
    assert_int_equal(e.owner, 1000);
    free(e.root);
    free(e.mountpoint);
    free(e.type);
    free(e.source);
    assert_false(mounts_parse_line("", &e));
    assert_false(mounts_parse_line("36 35 0:57 / /mnt rw", &e));
    assert_false(mounts_parse_line("36 35 0:57 / /mnt rw - fuse", &e));
}

static void test_what_is_no_mount_of_ours_is_named(void **state)
{
    struct mount_list list;
    struct mount_file file;
    char err[512];

    assert_int_equal(mounts_read(&list), 0);
    assert_true(list.count > 0);
    assert_null(mounts_at(&list, "/proc/", err, sizeof err));
    assert_string_equal(err, "/proc/: a mount of type proc, not of nfscached");
    assert_null(mounts_at(&list, "/usr/bin", err, sizeof err));
    assert_string_equal(err, "/usr/bin: not a mountpoint");
    assert_int_equal(mounts_file(&list, "/proc/version", &file, err, sizeof err), -EINVAL);
    assert_int_equal(mounts_file(&list, "/no/such", &file, err, sizeof err), -ENOENT);
    mounts_free(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_status_arrives_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_job_gets_path_and_number_and_returns_its_result, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_stuck_flush_keeps_nobody_waiting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resize_reports_and_stops, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_result_is_kept_until_it_is_asked_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_stop_waits_for_jobs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_socket_that_is_about_to_be_made_is_waited_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_peer_is_known_and_socket_private, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_users_are_refused_by_their_credentials, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_dead_daemons_socket_is_replaced, setup, teardown),
        cmocka_unit_test(test_mountinfo_lines),
        cmocka_unit_test(test_what_is_no_mount_of_ours_is_named),
    };
    return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
