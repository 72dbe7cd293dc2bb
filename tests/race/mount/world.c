// SPDX-License-Identifier: Apache-2.0
/*
 * Where a run takes place, and how it goes away again.
 *
 * nfscached-race has a mount namespace of its own, with a file system in memory on /run/nfscached
 * for the export, the mountpoint and the control socket. So there is nothing to clean up that could
 * be forgotten: all of it ends with the last process in the namespace; and that none stays in it is
 * the keeper's matter (children.c).
 *
 * The order of the end: points released, lanes stopped, unmounted, the daemon ended by itself. Who
 * does not come to an end within LIMIT_MS is helped along: the connection is aborted, the process
 * killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/mounts.h"
#include "tests/race/mount/internal.h"

#define PLACE       "/run/nfscached"
#define MOUNTPOINT  PLACE "/mount"
#define CONNECTIONS "/sys/fs/fuse/connections"
#define FUSECTL     0x65735543
#define ENDING_MS   8000 /* the daemon itself gives up on a server after 5 s */

static bool place_made; /* by us */

void world_forget(void)
{
    umount2(PLACE, MNT_DETACH);
    if (place_made)
        rmdir(PLACE);
}

/* ---- the namespace ---- */

static int prepare(const char **what)
{
    struct statfs fs;

    *what = "a mount namespace";
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    *what = PLACE;
    place_made = mkdir(PLACE, 0755) == 0;
    if (mount("nfscached-race", PLACE, "tmpfs", 0, "mode=0755") < 0)
        return -errno;
    *what = CONNECTIONS;
    if (statfs(CONNECTIONS, &fs) < 0 ||
        (fs.f_type != FUSECTL && mount("none", CONNECTIONS, "fusectl", 0, NULL) < 0))
        return -errno;
    return 0;
}

int world_prepare(char *err, size_t room)
{
    static bool prepared;
    const char *what;

    if (prepared)
        return 0;
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0) {
        snprintf(err, room, "a mount needs root and /dev/fuse");
        return -EPERM;
    }

    int rc = prepare(&what);

    if (rc) {
        snprintf(err, room, "%s: %s", what, strerror(-rc));
        return rc;
    }
    prepared = true;
    /* A dump of core waits for all threads, one of which may wait for the daemon, before anybody
     * learns that we died. */
    prctl(PR_SET_DUMPABLE, 0);
    atexit(world_forget);
    return 0;
}

/* ---- up ---- */

static int make_file(const struct lab_mount *m)
{
    char path[PATH_ROOM + 8], page[PAGE_SIZE];
    int rc = 0;

    memset(page, 1, sizeof page);
    snprintf(path, sizeof path, "%s/" FILE_NAME, m->export);

    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    if (fd < 0)
        return -errno;
    for (uint64_t at = 0; !rc && at < m->size; at += PAGE_SIZE) {
        uint64_t n = m->size - at < PAGE_SIZE ? m->size - at : PAGE_SIZE;

        if (pwrite(fd, page, n, (off_t)at) != (ssize_t)n)
            rc = -EIO;
    }
    close(fd);
    return rc;
}

/* HOST:/EXPORT: the directory has to be reachable here, as it is for another client. */
static int name_places(struct lab_mount *m, char *err, size_t room)
{
    const char *server = m->options ? m->options->server : NULL;

    snprintf(m->mountpoint, sizeof m->mountpoint, MOUNTPOINT);
    snprintf(m->log, sizeof m->log, PLACE "/log");
    if (!server) {
        snprintf(m->export, sizeof m->export, PLACE "/export");
        snprintf(m->server_name, sizeof m->server_name, "127.0.0.1:%s", m->export);
        return mkdir(m->export, 0777) < 0 && errno != EEXIST ? -errno : 0;
    }

    const char *path = strstr(server, ":/");

    if (!path || access(path + 1, W_OK) != 0) {
        snprintf(err, room,
                 "--server=%s: expected HOST:/EXPORT, and the directory /EXPORT here, where the "
                 "other client writes",
                 server);
        return -EINVAL;
    }
    snprintf(m->export, sizeof m->export, "%s", path + 1);
    snprintf(m->server_name, sizeof m->server_name, "%s", server);
    return 0;
}

static void read_log(const struct lab_mount *m, char *err, size_t room)
{
    FILE *f = fopen(m->log, "r");
    size_t n = f ? fread(err, 1, room - 1, f) : 0;

    err[n] = '\0';
    if (n && err[n - 1] == '\n')
        err[n - 1] = '\0';
    if (f)
        fclose(f);
}

static int wait_ready(struct lab_mount *m, char *err, size_t room)
{
    struct pollfd p = {.fd = m->ready_fd, .events = POLLIN};
    struct statx sx;
    char byte;

    if (poll(&p, 1, LIMIT_MS) <= 0 || read(m->ready_fd, &byte, 1) != 1) {
        read_log(m, err, room);
        if (!*err)
            snprintf(err, room, "the daemon died, or does not come to mount");
        return -EIO;
    }
    if (statx(AT_FDCWD, m->mountpoint, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &sx) < 0)
        return -errno;
    m->dev = makedev(sx.stx_dev_major, sx.stx_dev_minor);
    keeper_tell(m);
    return steer_connect(m->dev, &m->steer);
}

int world_begin(struct lab_mount *m, char *err, size_t room)
{
    int rc = name_places(m, err, room);

    if (rc)
        return rc;
    if (mkdir(m->mountpoint, 0755) < 0 && errno != EEXIST)
        return -errno;
    rc = make_file(m);
    if (rc) {
        snprintf(err, room, "%s: %s", m->export, strerror(-rc));
        return rc;
    }
    m->keeper = child_keeper(m);
    if (m->keeper < 0)
        return -errno;
    if (!m->options || !m->options->server) {
        m->server = child_server(m, err, room);
        if (m->server < 0)
            return -EIO;
        keeper_tell(m);
    }
    m->daemon = child_daemon(m);
    if (m->daemon < 0)
        return -errno;
    keeper_tell(m);
    return wait_ready(m, err, room);
}

/* ---- down ---- */

void world_abort_connection(dev_t dev)
{
    char path[64];

    snprintf(path, sizeof path, CONNECTIONS "/%u/abort", (unsigned)dev);

    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        if (write(fd, "1", 1) < 0)
            perror(path);
        close(fd);
    }
}

/* The device of what is mounted at the run's mountpoint, without asking anybody; 0: nothing. */
static dev_t mounted_dev(void)
{
    struct mount_list list;
    dev_t dev = 0;

    if (mounts_read(&list) < 0)
        return 0;
    for (size_t i = 0; i < list.count; i++)
        if (strcmp(list.entries[i].mountpoint, MOUNTPOINT) == 0)
            dev = list.entries[i].dev;
    mounts_free(&list);
    return dev;
}

void world_abort_mounted(void)
{
    dev_t dev = mounted_dev();

    if (dev)
        world_abort_connection(dev);
}

void world_abort(struct lab_mount *m)
{
    m->over = true;
    if (m->dev)
        world_abort_connection(m->dev);
    else
        world_abort_mounted();
}

static void *unmount(void *arg)
{
    const struct lab_mount *m = arg;

    if (umount2(m->mountpoint, 0) < 0)
        umount2(m->mountpoint, MNT_DETACH);
    return NULL;
}

/* It writes back what the kernel holds, and so waits for the daemon: not in the main thread. */
static void take_off(struct lab_mount *m)
{
    struct timespec until;
    pthread_t thread;

    if (!mounted_dev() || pthread_create(&thread, NULL, unmount, m) != 0)
        return;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ENDING_MS / 1000;
    if (pthread_timedjoin_np(thread, NULL, &until) != 0) {
        world_abort(m);
        pthread_join(thread, NULL);
    }
}

static int end_daemon(struct lab_mount *m, char *err, size_t room)
{
    int rc = 0, status;

    if (m->daemon <= 0)
        return 0;
    if (m->over)
        kill(m->daemon, SIGKILL);
    status = child_wait(m->daemon, ENDING_MS);
    if (status == -1) {
        size_t n = (size_t)snprintf(err, room, "unmounted, and the daemon does not end: ");

        threads_text(m, err + n, room - n);
        rc = -ETIMEDOUT;
        world_abort(m);
        kill(m->daemon, SIGKILL);
        child_wait(m->daemon, ENDING_MS);
    } else if (!m->over && status != 0) {
        size_t n = (size_t)snprintf(err, room, "the daemon died (status %#x): ", (unsigned)status);

        read_log(m, err + n, room - n);
        rc = -EIO;
    }
    m->daemon = 0;
    return rc;
}

static unsigned come_by(const struct lab_mount *m, const char *point)
{
    uint64_t n = atomic_load(&m->trace->n), from = n > TRACE_SIZE ? n - TRACE_SIZE : 0;
    unsigned count = 0;

    for (; from < n; from++)
        count += m->trace->entry[from % TRACE_SIZE].number == from + 1 &&
                 strcmp(m->trace->entry[from % TRACE_SIZE].name, point) == 0;
    return count;
}

/* One that was held goes on: unmounted under it, the daemon would wait for it as for a server that
 * is away. */
static void revalidations_end(const struct lab_mount *m)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    uint64_t until = lm_now() + (uint64_t)ENDING_MS * 1000000;

    while (come_by(m, "reval.asked") > come_by(m, "reval.done") && lm_now() < until)
        nanosleep(&pause, NULL);
}

int world_end(struct lab_mount *m, char *err, size_t room)
{
    char path[PATH_ROOM + 8], answer[512];

    if (!m->dev)
        m->dev = mounted_dev();
    if (m->steer && !m->over)
        steer_release(m->steer, "");
    if (m->server > 0) {
        server_ask(m, "resume", answer, sizeof answer);
        server_ask(m, "clear", answer, sizeof answer);
    }
    if (!m->over)
        revalidations_end(m);
    if (!lanes_stop(m, m->over ? 0 : ENDING_MS)) {
        world_abort(m);
        lanes_stop(m, LIMIT_MS);
    }
    take_off(m);
    steer_disconnect(m->steer);

    int rc = end_daemon(m, err, room);

    if (m->server > 0) {
        kill(m->server, SIGKILL);
        child_wait(m->server, LIMIT_MS);
        close(m->server_fd);
    }
    keeper_dismiss(m);
    if (m->ready_fd >= 0)
        close(m->ready_fd);
    snprintf(path, sizeof path, "%s/" FILE_NAME, m->export);
    unlink(path);
    return rc;
}
