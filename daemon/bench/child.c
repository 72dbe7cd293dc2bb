// SPDX-License-Identifier: Apache-2.0
/* Child processes of benchmarks; see the header. */
#include "daemon/bench/child.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

int measure_apart(struct cell *c, bool (*measure)(const void *arg, void *out), const void *arg,
                  void *out, size_t size)
{
    int ends[2], status = 0;
    ssize_t got;

    if (pipe(ends))
        return -errno;

    pid_t pid = fork();

    if (pid == 0) {
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        malloc_trim(0);
        _exit(!measure(arg, out) || write(ends[1], out, size) != (ssize_t)size);
    }
    close(ends[1]);
    do
        got = pid < 0 ? 0 : read(ends[0], out, size);
    while (got < 0 && errno == EINTR && !bench_stopped());
    close(ends[0]);
    if (bench_stopped() && pid > 0)
        kill(pid, SIGKILL);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (got != (ssize_t)size)
        return cell_fail(c, "the child that measures ended with status %d", status);
    return 0;
}

bool child_mounted(const struct child_mount *m)
{
    struct stat st;
    return stat(m->dir, &st) == 0 && st.st_dev != m->outside;
}

static bool failed(struct child_mount *m, const char *why)
{
    snprintf(m->why, sizeof m->why, "%s: %s", m->what, why);
    m->why_not = m->why;
    return false;
}

/* As the daemon does for its own mount. */
static void set_readahead(const struct child_mount *m)
{
    char path[300];
    struct stat st;

    if (stat(m->dir, &st) < 0)
        return;
    snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev),
             minor(st.st_dev));
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, "1024", 4) < 0)
        errno = 0; /* not permitted: then it is as slow for both */
    close(fd);
}

bool child_mount(struct child_mount *m, int (*serve)(const void *arg, const char *dir),
                 const void *arg)
{
    const char *tmp = getenv("TMPDIR");
    struct stat st;

    if (m->child > 0 || m->why_not)
        return m->child > 0;
    snprintf(m->dir, sizeof m->dir, "%.200s/nfscached-bench.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(m->dir) || stat(m->dir, &st) < 0)
        return failed(m, "no scratch directory ($TMPDIR)");
    m->outside = st.st_dev;
    fflush(NULL);
    m->child = fork();
    if (m->child == 0) {
        /* libfuse sets its handlers only where there is none. */
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        _exit(serve(arg, m->dir));
    }
    for (int i = 0; m->child > 0 && i < 500; i++) {
        if (child_mounted(m)) {
            set_readahead(m);
            return true;
        }
        if (waitpid(m->child, NULL, WNOHANG) != 0)
            m->child = 0;
        usleep(10000);
    }
    if (m->child > 0) {
        kill(m->child, SIGKILL);
        waitpid(m->child, NULL, 0);
    }
    m->child = 0;
    rmdir(m->dir);
    return failed(m, "cannot mount (is there /dev/fuse, and fusermount3?)");
}

void child_unmount(struct child_mount *m)
{
    if (--m->users > 0 || m->child <= 0)
        return;
    kill(m->child, SIGTERM);
    waitpid(m->child, NULL, 0);
    if (child_mounted(m))
        umount2(m->dir, MNT_DETACH);
    rmdir(m->dir);
    m->child = 0;
}
