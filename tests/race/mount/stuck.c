// SPDX-License-Identifier: Apache-2.0
/*
 * The proof that somebody waits for ever.
 *
 * An operation on the mount that does not end is no proof. It is one when nobody moves, and nobody
 * could: for a second the thread that made it was not scheduled once, the daemon came by no point,
 * none of its threads, or of the server's, was found runnable, and they wait for one another: one
 * of them in the kernel, for a page or an inode of its own mount, whose release is a request that
 * nobody but the daemon could answer. All of these are shown, from /proc/PID/task/TID/stack and by
 * the points that they last came by.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/race/mount/internal.h"

#define STILL_MS 1000
#define LOOK_MS  50
#define FRAMES   4 /* of a stack that are shown */

static bool read_text(char *out, size_t room, const char *format, ...)
{
    char path[96];
    va_list ap;

    va_start(ap, format);
    vsnprintf(path, sizeof path, format, ap);
    va_end(ap);

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, room - 1) : -1;

    out[n > 0 ? n : 0] = '\0';
    if (fd >= 0)
        close(fd);
    return n >= 0;
}

/* How often it was scheduled. */
static uint64_t switches(pid_t pid, pid_t tid)
{
    char text[4096];
    uint64_t sum = 0;

    read_text(text, sizeof text, "/proc/%d/task/%d/status", pid, tid);
    for (const char *s = text; (s = strstr(s, "ctxt_switches:")) != NULL; s += 14)
        sum += strtoull(s + 14, NULL, 10);
    return sum;
}

/* "[<0>] fuse_fsync+0x12/0x40" -> "fuse_fsync", the innermost first; frames that say nothing are
 * left out. */
static void stack_of(pid_t pid, pid_t tid, char *out, size_t room)
{
    static const char *const dull[] = {"entry_SYSCALL", "do_syscall", "__x64_sys", "ret_from",
                                       "io_schedule",   "schedule",   "asm_exc",   "exc_page"};
    char text[4096], *save = NULL;
    unsigned shown = 0;

    *out = '\0';
    if (!read_text(text, sizeof text, "/proc/%d/task/%d/stack", pid, tid) || !*text) {
        read_text(out, room, "/proc/%d/task/%d/wchan", pid, tid);
        return;
    }
    for (char *line = strtok_r(text, "\n", &save); line && shown < FRAMES;
         line = strtok_r(NULL, "\n", &save)) {
        char *name = strchr(line, ' ');
        bool skip = !name;

        for (unsigned i = 0; !skip && i < sizeof dull / sizeof dull[0]; i++)
            skip = strncmp(name + 1, dull[i], strlen(dull[i])) == 0;
        if (skip)
            continue;
        name[1 + strcspn(name + 1, "+")] = '\0';

        size_t at = strlen(out);

        snprintf(out + at, room - at, "%s%s", shown ? " < " : "", name + 1);
        shown++;
    }
}

static char state_of(pid_t pid, pid_t tid)
{
    char text[512];

    read_text(text, sizeof text, "/proc/%d/task/%d/stat", pid, tid);

    const char *end = strrchr(text, ')');

    return end && end[1] ? end[2] : '?';
}

static void name_of(pid_t pid, pid_t tid, char name[32])
{
    read_text(name, 32, "/proc/%d/task/%d/comm", pid, tid);
    name[strcspn(name, "\n")] = '\0';
}

bool daemon_died(const struct lab_mount *m)
{
    char s = state_of(m->daemon, m->daemon);

    return s == 'Z' || s == 'X' || s == '?';
}

/* Calls fn for each thread until it says true. */
static bool each_thread(pid_t pid, bool (*fn)(pid_t pid, pid_t tid, void *arg), void *arg)
{
    char path[32];
    bool found = false;

    snprintf(path, sizeof path, "/proc/%d/task", pid);

    DIR *dir = opendir(path);

    for (struct dirent *d; dir && !found && (d = readdir(dir)) != NULL;)
        if (d->d_name[0] != '.')
            found = fn(pid, atoi(d->d_name), arg);
    if (dir)
        closedir(dir);
    return found;
}

struct wanted {
    const char *name, *function;
};

static bool waits_in(pid_t pid, pid_t tid, void *arg)
{
    const struct wanted *w = arg;
    char name[32], text[256];

    name_of(pid, tid, name);
    if (w->name && strcmp(name, w->name) != 0)
        return false;
    stack_of(pid, tid, text, sizeof text);
    return strcspn(text, " ") == strlen(w->function) &&
           strncmp(text, w->function, strlen(w->function)) == 0;
}

bool thread_waits_in(pid_t pid, const char *name, const char *function)
{
    struct wanted w = {name, function};

    return each_thread(pid, waits_in, &w);
}

static bool runs(pid_t pid, pid_t tid, void *arg)
{
    (void)arg;
    return state_of(pid, tid) == 'R';
}

/* ---- the proof ---- */

static const char *last_point(const struct lab_mount *m, pid_t tid)
{
    const char *name = NULL;
    uint64_t n = atomic_load(&m->trace->n), from = n > TRACE_SIZE ? n - TRACE_SIZE : 0;

    for (; from < n; from++)
        if (m->trace->entry[from % TRACE_SIZE].tid == tid)
            name = m->trace->entry[from % TRACE_SIZE].name;
    return name;
}

/* The frame to name: FUSE's own, below those that every wait has. */
static const char *telling(const char *stack)
{
    const char *frame = strstr(stack, "fuse_");

    return frame && (frame == stack || frame[-1] == ' ') ? frame : stack;
}

static bool ends(const char *point)
{
    return strcmp(point, "reval.done") == 0 || strcmp(point, "write.taken") == 0;
}

struct witness {
    struct lab_mount *m;
    char text[512]; /* of those in the kernel */
};

/* Those of the daemon that wait in the kernel without being killable, and those that stand still
 * after a point. */
static bool testify(pid_t pid, pid_t tid, void *arg)
{
    struct witness *w = arg;
    const char *point = last_point(w->m, tid);
    char name[32], stack[256];
    bool deep = state_of(pid, tid) == 'D';

    name_of(pid, tid, name);
    stack_of(pid, tid, stack, sizeof stack);
    /* Idle: in its loop, or at the end of its last work. */
    if (!deep && (!point || strstr(stack, "poll") || ends(point)))
        return false;
    event_say(w->m, CACHE, NULL, true, "the daemon's thread %s waits%s: %s%s%s%s", name,
              deep ? " in the kernel" : "", stack, point ? ", since it came by " : "",
              point ? point : "", "");
    if (strlen(w->text) + strlen(name) + strlen(stack) + 64 < sizeof w->text) {
        size_t at = strlen(w->text);

        if (deep)
            snprintf(w->text + at, sizeof w->text - at, "; its thread %s waits in %.*s", name,
                     (int)strcspn(telling(stack), " "), telling(stack));
        else
            snprintf(w->text + at, sizeof w->text - at, "; its thread %s stands still after %s",
                     name, point);
    }
    return false;
}

struct list {
    const struct lab_mount *m;
    char *out;
    size_t room;
};

static bool list_one(pid_t pid, pid_t tid, void *arg)
{
    struct list *l = arg;
    const char *point = last_point(l->m, tid);
    char name[32], stack[256];
    size_t at = strlen(l->out);

    name_of(pid, tid, name);
    stack_of(pid, tid, stack, sizeof stack);
    snprintf(l->out + at, l->room - at, "%s%s: %.*s%s%s", at ? "; " : "", name,
             (int)strcspn(stack, " "), stack, point ? " since " : "", point ? point : "");
    return false;
}

void threads_text(const struct lab_mount *m, char *out, size_t room)
{
    struct list l = {m, out, room};

    *out = '\0';
    each_thread(m->daemon, list_one, &l);
}

static void tell(struct lab_mount *m, struct lm_op *op)
{
    struct witness w = {.m = m};
    char stack[256], *text;

    stack_of(getpid(), op->lane->tid, stack, sizeof stack);
    event_say(m, column_of(op->lane->name), op->lane->name, true, "%s never returns: %s",
              op_name(op->what), stack);
    each_thread(m->daemon, testify, &w);
    if (asprintf(&text,
                 "%s by %s never returns (%.*s): it waits for the daemon%s; nobody moved for %d ms",
                 op_name(op->what), op->lane->name, (int)strcspn(stack, " "), stack, w.text,
                 STILL_MS) < 0)
        abort();
    free(m->result.verdict);
    m->result.verdict = text;
}

bool lm_stuck(struct lab_mount *m, struct lm_op *op)
{
    uint64_t seen = 0, points = 0, still_since = lm_now();
    uint64_t until = still_since + (uint64_t)LIMIT_MS * 1000000;

    while (!op_wait(m, op, LOOK_MS)) {
        uint64_t now = lm_now(), s = switches(getpid(), op->lane->tid);
        uint64_t p = atomic_load(&m->trace->n);

        /* Who could run, and was not let, may be the one to end it. */
        if (s != seen || p != points || each_thread(m->daemon, runs, NULL) ||
            (m->server > 0 && each_thread(m->server, runs, NULL))) {
            seen = s;
            points = p;
            still_since = now;
        }
        if (daemon_died(m))
            lm_fail(m, "the daemon died");
        if (now - still_since >= (uint64_t)STILL_MS * 1000000) {
            trace_take(m);
            tell(m, op);
            m->result.outcome = DEADLOCK;
            m->quiet = true;
            world_abort(m);
            return true;
        }
        if (now > until)
            lm_fail(m, "waited %u s for the end of %s by %s, while others went on", LIMIT_MS / 1000,
                    op_name(op->what), op->lane->name);
    }
    op_connected(m, op);
    return false;
}
