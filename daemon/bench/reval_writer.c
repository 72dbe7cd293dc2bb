// SPDX-License-Identifier: Apache-2.0
/*
 * Threads that write while the main one revalidates: one by write(2), one by stores into a
 * mapping, each to its own slots, each timing every single one. And the part "writer": what they
 * feel while nothing happens, while the file is revalidated again and again, and while that waits
 * for a slow server.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/bench/reval.h"

enum { PAUSE_US = 100 }; /* between two writes: a writer, not a flood */

/* ---- stores ---------------------------------------------------------------------------------- */

static __thread sigjmp_buf *at_fault;

static void on_sigbus(int signal)
{
    if (at_fault)
        siglongjmp(*at_fault, 1);
    /* Not one of ours: as if there were no handler. */
    struct sigaction fatal = {.sa_handler = SIG_DFL};
    sigaction(SIGBUS, &fatal, NULL);
}

/* No mask is saved by sigsetjmp(), which would cost a system call in what is timed: the signal must
 * not be blocked in its handler. */
static void catch_sigbus(void)
{
    struct sigaction act = {.sa_handler = on_sigbus, .sa_flags = SA_NODEFER};

    sigemptyset(&act.sa_mask);
    sigaction(SIGBUS, &act, NULL);
}

bool rv_store(volatile uint64_t *where, uint64_t value)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    sigjmp_buf here;

    pthread_once(&once, catch_sigbus);
    at_fault = &here;
    if (sigsetjmp(here, 0)) {
        at_fault = NULL;
        return false;
    }
    *where = value;
    at_fault = NULL;
    return true;
}

/* ---- threads --------------------------------------------------------------------------------- */

static void pause_a_moment(void)
{
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_US * 1000}, NULL);
}

static void *write_loop(void *arg)
{
    struct rv_writers *w = arg;
    struct rv_file *f = w->file;

    for (uint64_t i = 1; !atomic_load(&w->stop) && !bench_stopped(); i++) {
        unsigned page = (unsigned)(i * 7919 % rv_dirty_pages(f->pages, CHANGE_SHRUNK));
        uint64_t start = bench_now();
        ssize_t n = pwrite(w->fd, &i, sizeof i, (off_t)page * RV_PAGE + RV_SLOT_WRITE);
        histogram_add(&w->write, bench_now() - start);
        if (n == sizeof i)
            f->written[page] = i;
        else if (n >= 0 || errno != EINTR)
            atomic_store(&w->error, n < 0 ? errno : EIO);
        pause_a_moment();
    }
    return NULL;
}

static void *store_loop(void *arg)
{
    struct rv_writers *w = arg;
    struct rv_file *f = w->file;

    for (uint64_t i = 1; !atomic_load(&w->stop) && !bench_stopped(); i++) {
        unsigned page = (unsigned)(i * 104729 % rv_dirty_pages(f->pages, CHANGE_SHRUNK));
        uint64_t start = bench_now();
        bool good = rv_store(
            (volatile uint64_t *)(void *)(w->map + (size_t)page * RV_PAGE + RV_SLOT_MAPPED), i);
        histogram_add(&w->store, bench_now() - start);
        if (good)
            f->mapped[page] = i;
        pause_a_moment();
    }
    return NULL;
}

int rv_writers_start(struct rv_writers *w, struct rv_file *f, int fd, unsigned char *map,
                     size_t map_size)
{
    memset(w, 0, sizeof *w);
    w->file = f;
    w->fd = fd;
    w->map = map;
    w->map_size = map_size;
    int rc = pthread_create(&w->write_thread, NULL, write_loop, w);
    w->write_started = rc == 0;
    if (rc == 0 && map) {
        rc = pthread_create(&w->store_thread, NULL, store_loop, w);
        w->store_started = rc == 0;
    }
    if (rc)
        rv_writers_stop(w);
    return -rc;
}

int rv_writers_stop(struct rv_writers *w)
{
    atomic_store(&w->stop, true);
    if (w->write_started)
        pthread_join(w->write_thread, NULL);
    if (w->store_started)
        pthread_join(w->store_thread, NULL);
    w->write_started = w->store_started = false;
    return -atomic_load(&w->error);
}

/* ---- a slow server -----------------------------------------------------------------------------
 */

/* Runs argv, or the shell's `command` with one more word; true if it ended with 0. */
static bool run_program(const char *const *argv)
{
    int status = -1;

    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGINT, SIG_IGN); /* ^C is for the benchmark; "off" must still be done */
        dup2(2, 1);
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool rv_slow(struct cell *c, const struct rv_options *o, bool on)
{
    char fault[64], ms[16], *command = NULL;
    bool good = false;

    snprintf(ms, sizeof ms, "%u", o->delay_ms);
    if (o->delay_command) {
        setenv("NFSCACHED_BENCH_DELAY_MS", ms, 1);
        if (asprintf(&command, "%s \"$@\"", o->delay_command) > 0) {
            const char *const argv[] = {"sh", "-c", command, "sh", on ? "on" : "off", NULL};
            good = run_program(argv);
            free(command);
        }
    } else {
        snprintf(fault, sizeof fault, "all:delay=%u", o->delay_ms);
        const char *const argv[] = {"/proc/self/exe",     "fault", "--control", o->fault_control,
                                    on ? fault : "clear", NULL};
        good = run_program(argv);
    }
    if (!good)
        cell_fail(c, "%s: cannot make the server %s",
                  o->delay_command ? "--delay-command" : "--fault-control", on ? "slow" : "fast");
    return good;
}

/* ---- part "writer" --------------------------------------------------------------------------- */

/* Changes a byte elsewhere and opens, until the time is over. How often, or negative errno. */
static int revalidate_until(struct rv_cell *rv, struct rv_file *f, uint64_t until)
{
    int n = 0;

    while (bench_now() < until && !bench_stopped()) {
        if (!rv->revalidate) {
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
            continue;
        }
        rv_wait_a_tick();
        int rc = rv_file_change(f, CHANGE_BYTE);
        if (rc < 0)
            return rc;
        int fd = open(f->path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return -errno;
        rc = rv_file_is_fresh(f, CHANGE_BYTE, fd);
        close(fd);
        if (rc < 0)
            return rc;
        n++;
    }
    return n;
}

int rv_writer_run(struct cell *c)
{
    struct rv_cell *rv = cell_arg(c);
    struct rv_writers *w = calloc(1, sizeof *w);
    struct rv_file f;
    size_t size = (size_t)rv->pages * RV_PAGE;
    unsigned lost = 0, lost_foreign = 0;
    unsigned char *map = MAP_FAILED;
    int times = 0, fd = -1, rc = w ? rv_file_make(&f, rv->target, rv->pages, CHANGE_BYTE) : -ENOMEM;

    if (rc == 0) {
        fd = open(f.path, O_RDWR | O_CLOEXEC);
        rc = fd < 0 ? -errno : rv_file_read(fd, rv->pages);
    }
    if (rc == 0) {
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        rc = map == MAP_FAILED ? -errno : rv_writers_start(w, &f, fd, map, size);
    }
    if (rc == 0) {
        bool slow = rv->slow && rv_slow(c, rv->o, true);
        if (!rv->slow || slow)
            times = revalidate_until(rv, &f, bench_now() + (uint64_t)(rv->o->writer_s * 1e9));
        if (rv->slow)
            rv_slow(c, rv->o, false);
        rc = rv_writers_stop(w);
    }
    if (map != MAP_FAILED) {
        if (rc == 0 && (msync(map, size, MS_SYNC) < 0 || fsync(fd) < 0))
            rc = -errno;
        munmap(map, size);
    }
    if (fd >= 0 && close(fd) < 0 && rc == 0)
        rc = -errno;
    if (rc == 0)
        rc = rv_file_check(&f, &lost, &lost_foreign);
    if (rc == 0 && times >= 0) {
        cell_histogram(c, "write", &w->write);
        cell_histogram(c, "store", &w->store);
        cell_sample(c, "revalidations", "count", BETTER_NONE, times);
        cell_sample(c, "lost_writes", "count", BETTER_ZERO, lost);
        cell_sample(c, "lost_foreign", "count", BETTER_ZERO, lost_foreign);
    }
    if (w) {
        rv_file_remove(&f);
        free(w);
    }
    if (times < 0)
        rc = times;
    return rc < 0 ? cell_fail(c, "%s", strerror(-rc)) : 0;
}
