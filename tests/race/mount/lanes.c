// SPDX-License-Identifier: Apache-2.0
/*
 * The application's threads, and what they do on the mount.
 *
 * A lane is a thread with a descriptor and a mapping of its own, and does what it is given one
 * after the other. The main thread never touches the mount: it would wait, where the run is made to
 * wait for ever.
 *
 * Lock order: lab_mount.lock alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "daemon/control_client.h"
#include "tests/race/mount/internal.h"

#define LOOK_MS 250

/* ---- SIGBUS: a fault that could not be served ---- */

static __thread sigjmp_buf on_bus;
static __thread volatile sig_atomic_t guarded;

static void bus(int sig)
{
    if (guarded)
        siglongjmp(on_bus, 1);
    signal(sig, SIG_DFL);
    raise(sig);
}

void lanes_catch_sigbus(void)
{
    struct sigaction a = {.sa_handler = bus, .sa_flags = SA_NODEFER};

    sigaction(SIGBUS, &a, NULL);
}

/* ---- what they do ---- */

const char *op_name(enum lm_what what)
{
    static const char *const names[] = {
        [LM_STORE] = "a store",
        [LM_LOAD] = "a load",
        [LM_READ] = "read(2)",
        [LM_WRITE] = "write(2)",
        [LM_DIRECT_WRITE] = "O_DIRECT write",
        [LM_DIRECT_READ] = "O_DIRECT read",
        [LM_FSYNC] = "fsync(2)",
        [LM_WRITEBACK] = "writeback",
        [LM_TRUNCATE] = "ftruncate(2)",
        [LM_STAT] = "stat(2)",
        [LM_CLOSE] = "close(2)",
        [LM_OPEN] = "open(2)",
        [LM_DROP] = "dropping what is clean",
        [LM_FLUSH] = "the flush",
        [LM_REVALIDATE] = "the revalidation",
        [LM_NUDGE] = "statfs(2)",
    };

    return names[what];
}

static void file_path(const struct lane *lane, char *path, size_t room)
{
    snprintf(path, room, "%s/" FILE_NAME, lane->m->mountpoint);
}

static int64_t open_file(struct lane *lane, int flags)
{
    char path[PATH_ROOM + 8];

    file_path(lane, path, sizeof path);

    int fd = open(path, flags | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

static int64_t direct_of(struct lane *lane)
{
    int64_t fd = lane->direct < 0 ? open_file(lane, O_RDWR | O_DIRECT) : lane->direct;

    if (fd >= 0)
        lane->direct = (int)fd;
    return fd;
}

/* No readahead, so that each page is asked for when it is needed, and by itself. */
static int64_t open_lane(struct lane *lane)
{
    int64_t fd = open_file(lane, O_RDWR);

    if (fd < 0)
        return fd;
    posix_fadvise((int)fd, 0, 0, POSIX_FADV_RANDOM);
    lane->fd = (int)fd;
    lane->map_len = lane->m->size + 2 * PAGE_SIZE;
    lane->map = mmap(NULL, lane->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, lane->fd, 0);
    if (lane->map == MAP_FAILED) {
        lane->map = NULL;
        return -errno;
    }
    madvise(lane->map, lane->map_len, MADV_RANDOM);
    return 0;
}

static int64_t touch(struct lane *lane, const struct lm_op *op)
{
    volatile uint8_t *at = lane->map + op->off;
    int64_t result;

    if (op->off >= lane->map_len)
        return -EINVAL;
    if (sigsetjmp(on_bus, 1)) {
        guarded = 0;
        return -EFAULT;
    }
    guarded = 1;
    if (op->what == LM_STORE)
        *at = op->value;
    result = op->what == LM_STORE ? 0 : *at;
    guarded = 0;
    return result;
}

static int64_t write_bytes(struct lane *lane, const struct lm_op *op)
{
    bool direct = op->what == LM_DIRECT_WRITE;
    int64_t fd = direct ? direct_of(lane) : lane->fd, n;
    void *data = NULL;

    if (fd < 0)
        return fd;
    if (posix_memalign(&data, PAGE_SIZE, op->len) != 0)
        abort();
    memset(data, op->value, op->len);
    n = pwrite((int)fd, data, op->len, (off_t)op->off);
    n = n < 0 ? -errno : n;
    free(data);
    return n;
}

static int64_t read_direct(struct lane *lane, const struct lm_op *op)
{
    int64_t fd = direct_of(lane), n;
    uint64_t in = op->off & PAGE_MASK;
    void *data = NULL;

    if (fd < 0)
        return fd;
    if (posix_memalign(&data, PAGE_SIZE, PAGE_SIZE) != 0)
        abort();
    n = pread((int)fd, data, PAGE_SIZE, (off_t)(op->off - in));
    n = n < 0 ? -errno : n <= (int64_t)in ? -ENODATA : ((uint8_t *)data)[in];
    free(data);
    return n;
}

static int64_t command(struct lane *lane, enum control_client_job job)
{
    struct control_client *c;
    struct control_progress progress = {0};
    uint32_t id;
    int rc = control_connect(lane->m->dev, geteuid(), &c);

    if (rc)
        return rc;
    rc = control_job_start(c, job, "", 0, &id);
    if (!rc)
        rc = control_job_wait(c, id, &progress);
    control_disconnect(c);
    return rc ? rc : (int64_t)progress.value;
}

static int64_t run_op(struct lane *lane, const struct lm_op *op)
{
    uint8_t byte;
    struct stat st;
    struct statfs fs;
    int64_t rc;

    switch (op->what) {
    case LM_STORE:
    case LM_LOAD:
        return touch(lane, op);
    case LM_READ:
        rc = pread(lane->fd, &byte, 1, (off_t)op->off);
        return rc < 0 ? -errno : rc == 0 ? -ENODATA : byte;
    case LM_WRITE:
    case LM_DIRECT_WRITE:
        return write_bytes(lane, op);
    case LM_DIRECT_READ:
        return read_direct(lane, op);
    case LM_FSYNC:
        return fsync(lane->fd) < 0 ? -errno : 0;
    case LM_WRITEBACK:
        return sync_file_range(lane->fd, (off_t)op->off, op->len,
                               SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                   SYNC_FILE_RANGE_WAIT_AFTER) < 0
                   ? -errno
                   : 0;
    case LM_TRUNCATE:
        return ftruncate(lane->fd, (off_t)op->off) < 0 ? -errno : 0;
    case LM_STAT:
        return fstat(lane->fd, &st) < 0 ? -errno : st.st_size;
    case LM_OPEN:
        rc = open_file(lane, O_RDONLY);
        if (rc >= 0)
            close((int)rc);
        return rc < 0 ? rc : 0;
    case LM_CLOSE:
        rc = close(lane->fd) < 0 ? -errno : 0;
        lane->fd = -1;
        return rc;
    case LM_REVALIDATE:
        return command(lane, JOB_REVALIDATE);
    case LM_NUDGE:
        return statfs(lane->m->mountpoint, &fs) < 0 ? -errno : 0;
    case LM_FLUSH:
        return command(lane, JOB_FLUSH);
    case LM_DROP:
        return command(lane, JOB_DROP);
    }
    return -EINVAL;
}

/* ---- what is said of it ---- */

static void say_begin(struct lane *lane, const struct lm_op *op)
{
    enum lab_column column = column_of(lane->name);

    if (op->what == LM_WRITE || op->what == LM_DIRECT_WRITE || op->what == LM_STORE)
        event_say(lane->m, column, lane->name, false, "%s begins: page %llu byte %llu + %u = %u",
                  op_name(op->what), PAGE_OF(op->off), BYTE_OF(op->off), op->len, op->value);
    else
        event_say(lane->m, column, lane->name, false, "%s begins", op_name(op->what));
}

static void say_end(struct lane *lane, const struct lm_op *op)
{
    struct lab_mount *m = lane->m;
    enum lab_column column = column_of(lane->name);
    const char *error = op->result == -EFAULT ? "SIGBUS" : strerror((int)-op->result);

    if (op->what == LM_NUDGE)
        return;
#define SAY(...) event_say(m, column, lane->name, false, __VA_ARGS__)
    if (op->result < 0 && op->what != LM_REVALIDATE) {
        SAY("%s fails: %s", op_name(op->what), error);
        return;
    }
    switch (op->what) {
    case LM_STORE:
        SAY("mapped store: page %llu byte %llu = %u", PAGE_OF(op->off), BYTE_OF(op->off),
            op->value);
        break;
    case LM_LOAD:
        SAY("load: page %llu byte %llu is %lld", PAGE_OF(op->off), BYTE_OF(op->off),
            (long long)op->result);
        break;
    case LM_READ:
    case LM_DIRECT_READ:
        SAY("%s: page %llu byte %llu is %lld", op_name(op->what), PAGE_OF(op->off),
            BYTE_OF(op->off), (long long)op->result);
        break;
    case LM_WRITE:
    case LM_DIRECT_WRITE:
        SAY("%s returns: page %llu byte %llu + %u = %u", op_name(op->what), PAGE_OF(op->off),
            BYTE_OF(op->off), op->len, op->value);
        break;
    case LM_FSYNC:
        SAY("fsync(2) returns 0: the bytes are safe");
        break;
    case LM_WRITEBACK:
        event_say(m, KERNEL, "kernel", false,
                  "has written page %llu back: it is the daemon's to keep now", PAGE_OF(op->off));
        break;
    case LM_TRUNCATE:
        SAY("ftruncate(2) to %llu returns", (unsigned long long)op->off);
        break;
    case LM_STAT:
        SAY("stat(2): %lld bytes", (long long)op->result);
        break;
    case LM_REVALIDATE:
        SAY(op->result ? "the revalidation fails: %s" : "the revalidation returns%s",
            op->result ? error : "");
        break;
    case LM_DROP:
        SAY("the daemon drops what is clean: %lld pages", (long long)op->result);
        break;
    case LM_NUDGE:
        break;
    case LM_OPEN:
    case LM_CLOSE:
    case LM_FLUSH:
        SAY("%s returns", op_name(op->what));
        break;
    }
#undef SAY
}

static void take_note(struct lane *lane, const struct lm_op *op)
{
    if (op->result < 0)
        return;
    if (op->what == LM_STORE || op->what == LM_WRITE || op->what == LM_DIRECT_WRITE)
        note_add(lane->m, lane->name, op->off, op->value, false);
    if ((op->what == LM_WRITE || op->what == LM_DIRECT_WRITE) && op->len > 1)
        note_add(lane->m, lane->name, op->off + op->len - 1, op->value, false);
}

/* ---- lanes ---- */

static void do_op(struct lane *lane, struct lm_op *op)
{
    struct lab_mount *m = lane->m;
    bool reval = op->what == LM_REVALIDATE || op->what == LM_OPEN;
    uint64_t mine = 0;

    if (lane->fd < 0 && op->what < LM_OPEN && !lane->map)
        op->result = open_lane(lane);
    if (reval) {
        pthread_mutex_lock(&m->lock);
        mine = ++m->reval_begun;
        pthread_mutex_unlock(&m->lock);
    }
    if (op->announce)
        say_begin(lane, op);
    if (op->result == 0)
        op->result = run_op(lane, op);
    say_end(lane, op);
    take_note(lane, op);
    pthread_mutex_lock(&m->lock);
    if (reval && op->result == 0 && mine > m->reval_done)
        m->reval_done = mine;
    op->done = true;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

static void *lane_main(void *arg)
{
    struct lane *lane = arg;
    struct lab_mount *m = lane->m;

    pthread_setname_np(pthread_self(), lane->name);
    lane->tid = gettid();
    pthread_mutex_lock(&m->lock);
    for (;;) {
        while (!lane->head && !lane->stop)
            pthread_cond_wait(&lane->wake, &m->lock);
        if (!lane->head || lane->stop)
            break;

        struct lm_op *op = lane->head;

        lane->head = op->next;
        if (!lane->head)
            lane->tail = &lane->head;
        pthread_mutex_unlock(&m->lock);
        do_op(lane, op);
        pthread_mutex_lock(&m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    if (lane->map)
        munmap(lane->map, lane->map_len);
    if (lane->fd >= 0)
        close(lane->fd);
    if (lane->direct >= 0)
        close(lane->direct);
    pthread_mutex_lock(&m->lock);
    lane->ended = true;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

static struct lane *lane_of(struct lab_mount *m, const char *name)
{
    struct lane *lane;

    for (unsigned i = 0; i < m->nlanes; i++)
        if (strcmp(m->lanes[i].name, name) == 0)
            return &m->lanes[i];
    if (m->nlanes == LANES)
        lm_fail(m, "more than %u lanes", LANES);
    lane = &m->lanes[m->nlanes];
    *lane = (struct lane){.m = m, .fd = -1, .direct = -1, .tail = &lane->head};
    snprintf(lane->name, sizeof lane->name, "%s", name);
    pthread_cond_init(&lane->wake, NULL);
    if (pthread_create(&lane->thread, NULL, lane_main, lane) != 0)
        lm_fail(m, "no thread for %s", name);
    m->nlanes++;
    return lane;
}

static bool wait_until(struct lab_mount *m, const bool *flag, unsigned ms)
{
    struct timespec until;
    int rc = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&m->lock);
    while (!*flag && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&m->changed, &m->lock, &until);

    bool is = *flag;

    pthread_mutex_unlock(&m->lock);
    return is;
}

bool lanes_stop(struct lab_mount *m, unsigned ms)
{
    bool all = true;

    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < m->nlanes; i++) {
        m->lanes[i].stop = true;
        pthread_cond_signal(&m->lanes[i].wake);
    }
    pthread_mutex_unlock(&m->lock);
    for (unsigned i = 0; i < m->nlanes; i++)
        all = wait_until(m, &m->lanes[i].ended, ms) && all;
    return all;
}

void lanes_free(struct lab_mount *m)
{
    for (unsigned i = 0; i < m->nlanes; i++)
        pthread_join(m->lanes[i].thread, NULL);
    for (struct lm_op *op = m->ops, *next; op; op = next) {
        next = op->all_next;
        free(op);
    }
}

/* ---- the entry's calls ---- */

struct lm_op *op_post(struct lab_mount *m, const char *name, enum lm_what what, uint64_t off,
                      uint8_t value, uint32_t len, bool announce)
{
    struct lane *lane = lane_of(m, name);
    struct lm_op *op = calloc(1, sizeof *op);

    if (!op)
        abort();
    *op = (struct lm_op){.lane = lane,
                         .what = what,
                         .off = off,
                         .value = value,
                         .len = len,
                         .announce = announce,
                         .all_next = m->ops};
    m->ops = op;
    pthread_mutex_lock(&m->lock);
    *lane->tail = op;
    lane->tail = &op->next;
    pthread_cond_signal(&lane->wake);
    pthread_mutex_unlock(&m->lock);
    return op;
}

bool op_wait(struct lab_mount *m, struct lm_op *op, unsigned ms)
{
    return wait_until(m, &op->done, ms);
}

struct lm_op *lm_start(struct lab_mount *m, const char *lane, enum lm_what what, uint64_t off,
                       uint8_t value, uint32_t len)
{
    return op_post(m, lane, what, off, value, len, true);
}

void lm_ready(struct lab_mount *m, const char *lane)
{
    m->quiet = true;
    lm_wait(m, op_post(m, lane, LM_STAT, 0, 0, 0, false));
    trace_skip(m);
    m->quiet = false;
}

/*
 * A loop that is held at a point may have been the one that the kernel woke for a request, which
 * then waits for whoever is woken next; in the product no loop ever stands still. So who waits for
 * long makes a request.
 */
void lm_nudge(struct lab_mount *m)
{
    if (!m->nudge || op_wait(m, m->nudge, 0))
        m->nudge = op_post(m, "nudge", LM_NUDGE, 0, 0, 0, false);
}

int64_t lm_wait(struct lab_mount *m, struct lm_op *op)
{
    for (unsigned ms = 0; ms < LIMIT_MS && !op_wait(m, op, LOOK_MS); ms += LOOK_MS) {
        lm_nudge(m);
        if (daemon_died(m))
            lm_fail(m, "the daemon died before the end of %s by %s", op_name(op->what),
                    op->lane->name);
    }
    if (!op_wait(m, op, 0))
        lm_fail(m, "waited %u s for the end of %s by %s", LIMIT_MS / 1000, op_name(op->what),
                op->lane->name);
    op_connected(m, op);
    return op->result;
}

/* What ended because the mount did is no result. */
void op_connected(struct lab_mount *m, const struct lm_op *op)
{
    if (!m->over && (op->result == -ECONNABORTED || op->result == -ENOTCONN))
        lm_fail(m, "the mount was ended by somebody else during %s by %s", op_name(op->what),
                op->lane->name);
}

bool lm_ended(struct lab_mount *m, struct lm_op *op)
{
    return op_wait(m, op, 0);
}

static int64_t now(struct lab_mount *m, enum lm_what what, uint64_t off, uint8_t value,
                   uint32_t len)
{
    return lm_wait(m, op_post(m, "application", what, off, value, len, false));
}

void lm_store(struct lab_mount *m, uint64_t off, uint8_t value)
{
    now(m, LM_STORE, off, value, 1);
}

uint8_t lm_load(struct lab_mount *m, uint64_t off)
{
    return (uint8_t)now(m, LM_LOAD, off, 0, 1);
}

int64_t lm_write(struct lab_mount *m, uint64_t off, uint8_t value, uint32_t len)
{
    return now(m, LM_WRITE, off, value, len);
}

int lm_fsync(struct lab_mount *m)
{
    return (int)now(m, LM_FSYNC, 0, 0, 0);
}

void lm_writeback(struct lab_mount *m, uint32_t page)
{
    lm_wait(m,
            op_post(m, "kernel", LM_WRITEBACK, (uint64_t)page << PAGE_SHIFT, 0, PAGE_SIZE, false));
}

void lm_revalidate(struct lab_mount *m)
{
    lm_wait(m, lm_start(m, "revalidator", LM_REVALIDATE, 0, 0, 0));
}
