// SPDX-License-Identifier: Apache-2.0
/* What the black-box test programs share; see tlib.h. */
#include "tests/lib/tlib.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t t_mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

uint64_t rng_next(struct rng *r)
{
    uint64_t v = t_mix(r->state);
    r->state += 0x9E3779B97F4A7C15ull;
    return v;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    return rng_next(r) % n;
}

double t_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

uint64_t t_seed(uint64_t given)
{
    struct timespec t;
    if (given)
        return given;
    clock_gettime(CLOCK_REALTIME, &t);
    return t_mix((uint64_t)t.tv_nsec ^ (uint64_t)t.tv_sec << 30 ^ (uint64_t)getpid()) & 0xffffffff;
}

void t_sleep_us(long us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    if (us > 0)
        while (nanosleep(&t, &t) && errno == EINTR)
            ;
}

static void say(const char *what, int err, const char *fmt, va_list ap)
{
    fflush(stdout);
    fprintf(stderr, "%s: %s", program_invocation_short_name, what);
    vfprintf(stderr, fmt, ap);
    if (err)
        fprintf(stderr, ": %s", strerror(err));
    fputc('\n', stderr);
}

void t_die(const char *fmt, ...)
{
    int err = errno;
    va_list ap;
    va_start(ap, fmt);
    say("", err, fmt, ap);
    va_end(ap);
    exit(T_ERROR);
}

void t_skip(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say("SKIP: ", 0, fmt, ap);
    va_end(ap);
    exit(T_SKIP);
}

void *t_shared(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        t_die("no shared memory of %zu bytes", bytes);
    return p;
}

int t_run(const char *cmd)
{
    int st = system(cmd);
    int rc = st == -1 ? 127 : WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
    if (rc)
        fprintf(stderr, "%s: command failed with %d: %s\n", program_invocation_short_name, rc, cmd);
    return rc;
}

int t_pwrite_all(int fd, const void *buf, size_t n, off_t off)
{
    while (n) {
        ssize_t k = pwrite(fd, buf, n, off);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k ? -errno : -EIO;
        buf = (const char *)buf + k;
        off += k;
        n -= (size_t)k;
    }
    return 0;
}

int t_pread_all(int fd, void *buf, size_t n, off_t off)
{
    while (n) {
        ssize_t k = pread(fd, buf, n, off);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k ? -errno : -ENODATA;
        buf = (char *)buf + k;
        off += k;
        n -= (size_t)k;
    }
    return 0;
}

const char *t_path(const char *dir, const char *name)
{
    static char ring[8][4200];
    static unsigned next;
    char *p = ring[next++ % 8];
    snprintf(p, sizeof ring[0], "%s/%s", dir, name);
    return p;
}

struct watch *watch_new(void)
{
    return t_shared(sizeof(struct watch));
}

void watch_arm(struct watch *w, int slot, pid_t pid, const char *name)
{
    snprintf(w->slot[slot].name, sizeof w->slot[slot].name, "%s", name);
    w->slot[slot].beat = t_now();
    w->slot[slot].pid = pid;
}

void watch_disarm(struct watch *w, int slot)
{
    w->slot[slot].pid = 0;
}

void watch_beat(struct watch *w, int slot)
{
    w->slot[slot].beat = t_now();
}

static void print_file(const char *path)
{
    char line[512];
    FILE *f = fopen(path, "r");
    if (!f)
        return;
    while (fgets(line, sizeof line, f))
        fprintf(stderr, "    %s%s", line, strchr(line, '\n') ? "" : "\n");
    fclose(f);
}

void watch_print_stacks(pid_t pid, const char *name)
{
    char path[600];
    struct dirent *e;
    DIR *d;

    fprintf(stderr, "process %d (%s):\n", (int)pid, name);
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    d = opendir(path);
    if (!d)
        return;
    while ((e = readdir(d))) {
        if (e->d_name[0] == '.')
            continue;
        fprintf(stderr, "  thread %s\n", e->d_name);
        snprintf(path, sizeof path, "/proc/%d/task/%s/stack", (int)pid, e->d_name);
        print_file(path);
    }
    closedir(d);
}

bool watch_check(struct watch *w, double stall)
{
    double now = t_now();
    bool hung = false;
    for (int i = 0; i < WATCH_SLOTS; i++)
        if (w->slot[i].pid && now - w->slot[i].beat > stall) {
            fprintf(stderr, "HUNG: %s made no progress for %.0f s\n", w->slot[i].name,
                    now - w->slot[i].beat);
            hung = true;
        }
    if (hung)
        for (int i = 0; i < WATCH_SLOTS; i++)
            if (w->slot[i].pid)
                watch_print_stacks(w->slot[i].pid, w->slot[i].name);
    return hung;
}

int report_print(const char *program, const struct counter *c, int n, bool json)
{
    int rc = 0;
    for (int i = 0; i < n; i++)
        if (c[i].must_be_zero && c[i].value)
            rc = T_FAIL;
    if (json) {
        json_t *o = json_object();
        json_object_set_new(o, "test", json_string(program));
        for (int i = 0; i < n; i++)
            json_object_set_new(o, c[i].name, json_integer(c[i].value));
        json_object_set_new(o, "ok", json_boolean(!rc));
        json_dumpf(o, stdout, JSON_PRESERVE_ORDER);
        json_decref(o);
        putchar('\n');
    } else {
        printf("%s:", program);
        for (int i = 0; i < n; i++)
            printf(" %s=%ld", c[i].name, c[i].value);
        printf(" %s\n", rc ? "FAILED" : "ok");
    }
    fflush(stdout);
    return rc;
}
