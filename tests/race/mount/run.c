// SPDX-License-Identifier: Apache-2.0
/*
 * One run on a mount; see mount.h.
 *
 *   world_prepare -> world_begin -> mount() of the entry -> lm_check_bytes() -> world_end
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/race/lab/point.h"
#include "tests/race/mount/internal.h"

#define ARRIVED_SLICE_MS 20
#define LOOK_SLICE_MS    5
#define NUDGE_AFTER      20 /* slices */

void lm_fail(struct lab_mount *m, const char *format, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, format);
    if (vasprintf(&text, format, ap) < 0)
        abort();
    va_end(ap);
    free(m->result.verdict);
    m->result.verdict = text;
    m->result.outcome = FAILED;
    longjmp(m->out, 1);
}

/* ---- points ---- */

static void steered(struct lab_mount *m, int rc, const char *point)
{
    if (rc < 0)
        lm_fail(m, "point %s: the daemon does not answer: %s", point, strerror(-rc));
}

void lm_hold(struct lab_mount *m, const char *point)
{
    steered(m, steer_hold(m->steer, point), point);
}

void lm_release(struct lab_mount *m, const char *point)
{
    steered(m, steer_release(m->steer, point), point);
}

void lm_arrived(struct lab_mount *m, const char *point, unsigned n)
{
    uint64_t until = lm_now() + (uint64_t)LIMIT_MS * 1000000;
    unsigned looks = 0;
    int have;

    do {
        if (++looks % NUDGE_AFTER == 0)
            lm_nudge(m);
        have = steer_arrived(m->steer, point, n, ARRIVED_SLICE_MS);
        steered(m, have, point);
    } while ((unsigned)have < n && lm_now() < until);
    if ((unsigned)have < n)
        lm_fail(m, "waited %u s for %u to come to %s; %d came", LIMIT_MS / 1000, n, point, have);
}

bool lm_arrived_or(struct lab_mount *m, const char *point, unsigned n, struct lm_op *op,
                   const char *thread, const char *function)
{
    uint64_t until = lm_now() + (uint64_t)LIMIT_MS * 1000000;

    for (unsigned looks = 1; lm_now() < until; looks++) {
        int have = steer_arrived(m->steer, point, n, LOOK_SLICE_MS);

        if (looks % NUDGE_AFTER == 0)
            lm_nudge(m);

        steered(m, have, point);
        if ((unsigned)have >= n)
            return true;
        if (op && lm_ended(m, op))
            return false;
        if (thread && thread_waits_in(m->daemon, thread, function))
            return false;
    }
    lm_fail(m, "waited %u s for %u to come to %s%s%s%s%s", LIMIT_MS / 1000, n, point,
            op ? ", or for the end of " : "", op ? op_name(op->what) : "",
            thread ? ", or for a thread to wait in " : "", thread ? function : "");
}

uint64_t lm_mark(struct lab_mount *m)
{
    return atomic_load(&m->trace->n);
}

static bool passed(struct lab_mount *m, const char *point, uint64_t page, uint64_t mark)
{
    for (; mark < atomic_load(&m->trace->n); mark++) {
        const struct trace_entry *e = &m->trace->entry[mark % TRACE_SIZE];

        if (e->number == mark + 1 && strcmp(e->name, point) == 0 &&
            (page == LAB_NO_PAGE || page == e->page))
            return true;
    }
    return false;
}

void lm_passed(struct lab_mount *m, const char *point, uint64_t page, uint64_t mark)
{
    const struct timespec pause = {.tv_nsec = 500000};
    uint64_t until = lm_now() + (uint64_t)LIMIT_MS * 1000000;

    while (!passed(m, point, page, mark)) {
        if (lm_now() > until)
            lm_fail(m, "waited %u s for the daemon to come by %s", LIMIT_MS / 1000, point);
        nanosleep(&pause, NULL);
    }
}

/* ---- the other client, the server ---- */

static int export_open(struct lab_mount *m, int flags)
{
    char path[PATH_ROOM + 8];

    snprintf(path, sizeof path, "%s/" FILE_NAME, m->export);

    int fd = open(path, flags | O_CLOEXEC);

    if (fd < 0)
        lm_fail(m, "%s: %s", path, strerror(errno));
    return fd;
}

void lm_foreign(struct lab_mount *m, uint64_t off, uint8_t value)
{
    int fd = export_open(m, O_WRONLY);

    if (pwrite(fd, &value, 1, (off_t)off) != 1)
        lm_fail(m, "%s: %s", m->export, strerror(errno));
    close(fd);
    lm_say(m, FOREIGN, "another client writes: page %llu byte %llu = %u", PAGE_OF(off),
           BYTE_OF(off), value);
    note_add(m, "foreign", off, value, true);
}

void lm_foreign_truncate(struct lab_mount *m, uint64_t size)
{
    int fd = export_open(m, O_WRONLY);

    if (ftruncate(fd, (off_t)size) != 0)
        lm_fail(m, "%s: %s", m->export, strerror(errno));
    close(fd);
    lm_say(m, FOREIGN, "another client cuts the file to %llu bytes", (unsigned long long)size);
}

void lm_server(struct lab_mount *m, const char *line)
{
    char answer[512];

    if (m->server <= 0)
        lm_fail(m, "'%s' needs the embedded server", line);

    int rc = server_ask(m, line, answer, sizeof answer);

    if (rc < 0 || strncmp(answer, "error", 5) == 0)
        lm_fail(m, "the server does not do '%s': %s", line, rc ? strerror(-rc) : answer);
    lm_say(m, SERVER, "%s", line);
}

void lm_server_fired(struct lab_mount *m)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    uint64_t until = lm_now() + (uint64_t)LIMIT_MS * 1000000;
    char answer[512];

    while (server_ask(m, "list", answer, sizeof answer) == 0 && strstr(answer, "fired=0")) {
        if (lm_now() > until)
            lm_fail(m, "waited %u s for the server's fault: %s", LIMIT_MS / 1000, answer);
        nanosleep(&pause, NULL);
    }
}

uint8_t lm_server_byte(struct lab_mount *m, uint64_t off)
{
    int fd = export_open(m, O_RDONLY);
    uint8_t byte = 0;

    if (pread(fd, &byte, 1, (off_t)off) < 0)
        lm_fail(m, "%s: %s", m->export, strerror(errno));
    close(fd);
    return byte;
}

uint64_t lm_server_size(struct lab_mount *m)
{
    int fd = export_open(m, O_RDONLY);
    struct stat st;

    if (fstat(fd, &st) < 0)
        lm_fail(m, "%s: %s", m->export, strerror(errno));
    close(fd);
    return (uint64_t)st.st_size;
}

/* ---- the run ---- */

static void play(struct lab_mount *m)
{
    if (setjmp(m->out))
        return;
    lm_ready(m, "application");
    event_say(m, APPLICATION, NULL, false, "opens and maps the file on the mount");
    lm_ready(m, "kernel");
    m->entry->mount(m);
    if (m->over || m->found)
        return;
    /* One that begins by itself now, because a reply showed other attributes, could make good what
     * is to be found. */
    lm_hold(m, "reval.asked");
    lm_check_bytes(m);
}

static enum lab_outcome outcome(const struct lab_mount *m)
{
    const struct lab_result *r = &m->result;

    if (r->outcome == FAILED || r->outcome == DEADLOCK)
        return r->outcome;
    return r->lost ? LOST : r->stale ? STALE : SURVIVED;
}

/* The end may fail too; under a faulty protocol that is no news. */
static void finish(struct lab_mount *m, int began)
{
    char err[2048] = "";
    int rc;

    if (m->result.outcome == FAILED)
        world_abort(m);
    trace_take(m);
    m->quiet = true;
    rc = world_end(m, err, sizeof err);
    lanes_free(m);
    trace_skip(m);
    events_finish(m);
    m->result.outcome = outcome(m);
    if (began == 0 && rc && !m->protocol->faults && m->result.outcome == SURVIVED) {
        m->result.outcome = FAILED;
        free(m->result.verdict);
        m->result.verdict = strdup(err);
    }
}

static uint64_t file_size(const struct lab_entry *e)
{
    uint32_t pages = e->mount_pages ? e->mount_pages : e->world.pages ? e->world.pages : 2;

    return e->world.size && !e->mount_pages ? e->world.size : (uint64_t)pages * PAGE_SIZE;
}

int lab_run_on_mount(const struct lab_entry *e, const struct lab_protocol *p,
                     const struct lab_mount_options *o, struct lab_result *result)
{
    struct lab_mount *m = calloc(1, sizeof *m);
    uint64_t began = lm_now();
    char err[1024] = "";
    int rc;

    if (!m)
        abort();
    m->entry = e;
    m->protocol = p;
    m->options = o;
    m->size = file_size(e);
    m->result.verdict = strdup("");
    m->ready_fd = m->server_fd = m->keeper_fd = -1;
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    m->trace =
        mmap(NULL, sizeof *m->trace, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (m->trace == MAP_FAILED)
        abort();
    lanes_catch_sigbus();
    rc = world_prepare(err, sizeof err);
    if (!rc) {
        rc = world_begin(m, err, sizeof err);
        if (!rc)
            play(m);
        else
            world_abort(m);
        if (rc) {
            free(m->result.verdict);
            m->result.verdict = strdup(err);
            m->result.outcome = FAILED;
        }
        finish(m, rc);
    } else {
        free(m->result.verdict);
        m->result.verdict = strdup(err);
        m->result.outcome = FAILED;
    }
    munmap(m->trace, sizeof *m->trace);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->changed);
    m->result.seconds = (double)(lm_now() - began) / 1e9;
    *result = m->result;
    free(m);
    return rc;
}
