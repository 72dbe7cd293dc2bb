// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached umount`: nothing is lost by it.
 *
 *   flush      the daemon writes everything back and commits; we watch what is left
 *   unmount    umount(2), or fusermount3 for an ordinary user
 *   wait       what applications wrote in between is still the daemon's: it writes that back, and
 *              ends; only then are we done
 *
 * If the server is away the first step does not end: we say how much is dirty, and leave the mount
 * and the data alone. --force throws away what could not be written, file by file, each named
 * before it goes; nothing else in the program ever discards a dirty byte.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "daemon/ask.h"
#include "daemon/verbs.h"

#define PATIENCE          30 /* seconds without progress, unless --timeout says otherwise */
#define PATIENCE_FORCE    5
#define HELD_ELSEWHERE_MS 3000

struct umount {
    const char *path;
    const struct mount_entry *mount;
    struct control_client *client; /* NULL: no daemon answers */
    int pidfd;                     /* of the daemon; -1 */
    unsigned patience_s;           /* 0: for ever */
    bool force, lazy;
    bool discarded; /* the daemon has given the server up: the mount is of no use any more */
};

/* "ino:" and "mnt_id:" of an open descriptor (proc(5)); reading them asks no file system. */
static bool is_open_file(int dir, const char *fd, uint64_t ino, int mount_id)
{
    char name[300], line[128];
    unsigned long long number = 0;
    int id = -1;

    snprintf(name, sizeof name, "../fdinfo/%s", fd);
    int info = openat(dir, name, O_RDONLY | O_CLOEXEC);
    FILE *f = info < 0 ? NULL : fdopen(info, "r");
    while (f && fgets(line, sizeof line, f)) {
        sscanf(line, "mnt_id: %d", &id);
        sscanf(line, "ino: %llu", &number);
    }
    if (f)
        fclose(f);
    else if (info >= 0)
        close(info);
    return id == mount_id && number == ino;
}

/* Where the daemon may not look a name up (as an ordinary user), a process that has the file open
 * knows it: what is dirty is mostly open, since close writes back. */
static char *path_of_open_file(const struct umount *u, uint64_t ino)
{
    DIR *proc = opendir("/proc");
    char path[300], *found = NULL;
    struct dirent *p, *d;

    while (proc && !found && (p = readdir(proc))) {
        snprintf(path, sizeof path, "/proc/%s/fd", p->d_name);
        DIR *dir = isdigit((unsigned char)p->d_name[0]) ? opendir(path) : NULL;
        while (dir && !found && (d = readdir(dir))) {
            char target[PATH_MAX];
            size_t skip = strlen(u->mount->mountpoint);
            if (d->d_name[0] == '.' || !is_open_file(dirfd(dir), d->d_name, ino, u->mount->id))
                continue;
            ssize_t n = readlinkat(dirfd(dir), d->d_name, target, sizeof target - 1);
            if (n <= (ssize_t)skip + 1)
                continue;
            target[n] = 0;
            found = strdup(target + skip + 1);
        }
        if (dir)
            closedir(dir);
    }
    if (proc)
        closedir(proc);
    return found;
}

/* Prints the files with dirty bytes, by name; returns the bytes, and the array if asked for. */
static uint64_t print_dirty(struct umount *u, const char *what, json_t **array)
{
    char *text, number[32];
    uint64_t total = 0;
    size_t i;
    json_t *file;

    if (array)
        *array = NULL;
    if (control_dirty(u->client, &text) < 0)
        return 0;
    json_t *files = json_loads(text, 0, NULL);
    free(text);
    json_array_foreach(files, i, file)
    {
        const char *path = json_string_value(json_object_get(file, "path"));
        const char *error = json_string_value(json_object_get(file, "error"));
        uint64_t bytes = (uint64_t)json_integer_value(json_object_get(file, "bytes"));
        uint64_t ino = (uint64_t)json_integer_value(json_object_get(file, "ino"));
        char *open_path = path ? NULL : path_of_open_file(u, ino);
        total += bytes;
        path = path ? path : open_path;
        if (path)
            fprintf(stderr, "  %s: %s/%s: %s", what, u->mount->mountpoint, path,
                    ask_bytes(bytes, number));
        else
            fprintf(stderr, "  %s: file number %llu: %s", what, (unsigned long long)ino,
                    ask_bytes(bytes, number));
        fprintf(stderr, "%s%s%s\n", error ? " (last error: " : "", error ? error : "",
                error ? ")" : "");
        free(open_path);
    }
    if (array)
        *array = files;
    else
        json_decref(files);
    return total;
}

/* Throws away what is dirty, each file after it was named. 0 or negative errno. */
static int discard_dirty(struct umount *u)
{
    /* A file may become dirty while others are discarded; ten rounds are enough for any that are
     * not written to all the time. */
    for (int round = 0; round < 10; round++) {
        json_t *files, *file;
        size_t i;

        print_dirty(u, "discarding", &files);
        u->discarded |= json_array_size(files) > 0;
        if (json_array_size(files) == 0) {
            json_decref(files);
            return 0;
        }
        json_array_foreach(files, i, file)
        {
            struct control_progress progress;
            uint32_t id;
            int rc =
                control_job_start(u->client, JOB_DISCARD, "",
                                  (uint64_t)json_integer_value(json_object_get(file, "ino")), &id);
            if (rc == 0)
                rc = control_job_wait(u->client, id, &progress);
            if (rc < 0 && rc != -ENOENT) {
                json_decref(files);
                return rc;
            }
        }
        json_decref(files);
    }
    return -EBUSY;
}

static int kept(struct umount *u, int rc)
{
    char number[32];
    struct control_progress p = {0};

    control_job_poll(u->client, 0, &p);
    if (rc == -ETIMEDOUT)
        verb_fail(0,
                  "%s: %s are dirty and nothing moved for %u s: the server does not take them. "
                  "They are kept, and the mount stays.",
                  u->path, ask_bytes(p.dirty_bytes, number), u->patience_s);
    else
        verb_fail(0,
                  "%s: writing back failed: %s. %s are dirty, kept, and tried again; "
                  "the mount stays.",
                  u->path, strerror(-rc), ask_bytes(p.dirty_bytes, number));
    print_dirty(u, "dirty", NULL);
    fputs("Once the server takes them, `nfscached umount` will succeed; "
          "`nfscached umount --force` discards them.\n",
          stderr);
    return EXIT_FAILED;
}

/* The daemon may have as many requests as it takes already: that says nothing of the server, so
 * their end is waited for as the end of a flush is. */
static int start_flush(struct umount *u, uint32_t *id)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    struct control_progress now = {0};
    struct ask_progress p;
    bool begun = false;
    int rc;

    while ((rc = control_job_start(u->client, JOB_FLUSH, "", 0, id)) == -EBUSY) {
        control_job_poll(u->client, 0, &now);
        if (!begun)
            ask_progress_begin(&p, now.dirty_bytes);
        begun = true;
        if (!ask_progress_step(&p, now.dirty_bytes, u->patience_s)) {
            rc = -ETIMEDOUT;
            break;
        }
        nanosleep(&pause, NULL);
    }
    if (begun)
        ask_progress_end(&p);
    return rc;
}

/* The first step. EXIT_OK: go on. */
static int flush(struct umount *u)
{
    struct control_progress progress;
    uint32_t id;

    int rc = start_flush(u, &id);
    if (rc == 0)
        rc = ask_wait(u->client, id, u->patience_s, &progress);
    if (rc == 0 || rc == -ECONNRESET) /* gone: somebody else unmounted it meanwhile */
        return EXIT_OK;
    if (!u->force)
        return kept(u, rc);
    fprintf(stderr, "%s: cannot write everything back: %s\n", u->path,
            rc == -ETIMEDOUT ? "the server does not answer" : strerror(-rc));
    rc = discard_dirty(u);
    if (rc < 0)
        return verb_fail(EXIT_FAILED, "%s: cannot discard: %s", u->path, strerror(-rc));
    return EXIT_OK;
}

/* Whether process `pid` has something of the mount open; what, goes to `how`. The links of /proc
 * are read, never followed: the server may be away. */
static bool uses_mount(const char *pid, const char *mountpoint, char *how, size_t size)
{
    static const char *const links[] = {"cwd", "root", "exe"};
    static const char *const names[] = {"its working directory", "its root", "its program"};
    char path[300], target[PATH_MAX + 64];
    size_t n = strlen(mountpoint);

    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "/proc/%s/%s", pid, links[i]);
        ssize_t got = readlink(path, target, sizeof target - 1);
        if (got < 0)
            continue;
        target[got] = 0;
        if (strncmp(target, mountpoint, n) == 0 && (!target[n] || target[n] == '/')) {
            snprintf(how, size, "%s", names[i]);
            return true;
        }
    }
    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *dir = opendir(path);
    struct dirent *d;
    bool found = false;
    while (dir && !found && (d = readdir(dir))) {
        ssize_t got = readlinkat(dirfd(dir), d->d_name, target, sizeof target - 1);
        if (got < 0)
            continue;
        target[got] = 0;
        found = strncmp(target, mountpoint, n) == 0 && (!target[n] || target[n] == '/');
    }
    if (dir)
        closedir(dir);
    if (found) {
        snprintf(how, size, "%s", target);
        return true;
    }
    snprintf(path, sizeof path, "/proc/%s/maps", pid);
    FILE *maps = fopen(path, "re");
    while (maps && !found && fgets(target, sizeof target, maps)) {
        char *file = strchr(target, '/');
        found = file && strncmp(file, mountpoint, n) == 0 && file[n] == '/';
        if (found) {
            file[strcspn(file, "\n")] = 0;
            snprintf(how, size, "%s, mapped", file);
        }
    }
    if (maps)
        fclose(maps);
    return found;
}

static void print_users(const struct umount *u)
{
    DIR *proc = opendir("/proc");
    struct dirent *d;
    unsigned found = 0;

    while (proc && (d = readdir(proc))) {
        char how[PATH_MAX + 80], path[300], name[64] = "?";
        if (!isdigit((unsigned char)d->d_name[0]) ||
            !uses_mount(d->d_name, u->mount->mountpoint, how, sizeof how))
            continue;
        if (++found > 10) {
            fputs("  ...\n", stderr);
            break;
        }
        snprintf(path, sizeof path, "/proc/%s/comm", d->d_name);
        FILE *comm = fopen(path, "re");
        if (comm) {
            if (fgets(name, sizeof name, comm))
                name[strcspn(name, "\n")] = 0;
            fclose(comm);
        }
        fprintf(stderr, "  process %s (%s) uses %s\n", d->d_name, name, how);
    }
    if (proc)
        closedir(proc);
}

/* Who waited for the server was answered when it was given up, and needs a moment to leave. */
static int detach(struct umount *u)
{
    const struct timespec pause = {.tv_nsec = 50000000};
    int rc = mounts_detach(u->mount->mountpoint, u->lazy);

    for (int i = 0; rc == -EBUSY && u->discarded && i < 40; i++) {
        nanosleep(&pause, NULL);
        rc = mounts_detach(u->mount->mountpoint, false);
    }
    if (rc == -EBUSY && u->discarded) {
        fprintf(stderr, "%s: still in use, so it is only taken out of sight:\n", u->path);
        print_users(u);
        u->lazy = true;
        rc = mounts_detach(u->mount->mountpoint, true);
    }
    return rc;
}

static int unmount(struct umount *u)
{
    int rc = detach(u);

    if (rc == 0)
        return EXIT_OK;
    if (rc == -EBUSY) {
        verb_fail(0, "%s: busy: everything is written back, but it is still in use:", u->path);
        print_users(u);
        fputs("End them or let them leave, then try again; --lazy takes the mount out of sight now "
              "and ends it when the last of them is done.\n",
              stderr);
        return EXIT_FAILED;
    }
    return verb_fail(rc == -EPERM ? EXIT_USAGE : EXIT_FAILED, "%s: cannot unmount: %s", u->path,
                     strerror(-rc));
}

static bool daemon_ended(const struct umount *u)
{
    struct pollfd p = {.fd = u->pidfd, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static int still_dirty(const struct umount *u, uint64_t dirty)
{
    char number[32];

    return verb_fail(EXIT_FAILED,
                     "%s: unmounted, but %s written meanwhile are still dirty: the daemon "
                     "(process %d) keeps them and goes on trying",
                     u->path, ask_bytes(dirty, number), (int)control_peer(u->client));
}

/* The last step: the daemon writes what came in between, and ends. A mount that was copied into
 * another mount namespace (a container, unshare(1)) lives on there: nothing of ours is dirty then,
 * and the daemon still answers. */
static int wait_for_end(struct umount *u)
{
    struct timespec pause = {.tv_nsec = 500000};
    struct ask_progress p;
    struct control_progress now = {0};
    unsigned idle_ms = 0;
    int rc = control_job_poll(u->client, 0, &now);

    ask_progress_begin(&p, now.dirty_bytes);
    while (u->pidfd >= 0 ? !daemon_ended(u) : rc == -ESRCH) {
        rc = control_job_poll(u->client, 0, &now);
        uint64_t dirty = rc == -ESRCH ? now.dirty_bytes : 0;
        if (dirty && !ask_progress_step(&p, dirty, u->patience_s)) {
            ask_progress_end(&p);
            if (!u->force || discard_dirty(u) < 0)
                return still_dirty(u, dirty);
            ask_progress_begin(&p, 0);
        }
        idle_ms = dirty || rc != -ESRCH ? 0 : idle_ms + (unsigned)(pause.tv_nsec / 1000000);
        if (idle_ms > HELD_ELSEWHERE_MS) {
            fprintf(stderr,
                    "%s: unmounted, nothing is dirty; its daemon (process %d) goes on, because "
                    "another mount namespace still has the mount\n",
                    u->path, (int)control_peer(u->client));
            break;
        }
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 20000000)
            pause.tv_nsec *= 2;
    }
    ask_progress_end(&p);
    return EXIT_OK;
}

static int run(struct umount *u)
{
    int rc = control_connect(u->mount->dev, u->mount->owner, &u->client);

    if (rc == -EACCES || rc == -EPERM)
        return verb_fail(EXIT_USAGE, "%s: only root and the user who mounted it (uid %u) may",
                         u->path, (unsigned)u->mount->owner);
    if (rc < 0) {
        fprintf(stderr, "%s: no daemon answers (%s); removing what is left of the mount\n", u->path,
                strerror(-rc));
        return unmount(u);
    }
    u->pidfd = (int)syscall(SYS_pidfd_open, control_peer(u->client), 0);

    int status = flush(u);
    if (status == EXIT_OK)
        status = unmount(u);
    if (status == EXIT_OK && !u->lazy)
        status = wait_for_end(u);
    if (u->pidfd >= 0)
        close(u->pidfd);
    control_disconnect(u->client);
    return status;
}

int verb_umount(int argc, const char **argv)
{
    int force = 0, lazy = 0, timeout = -1, nothing = 0;
    char *text = NULL;
    const struct poptOption table[] = {
        {"force", 'f', POPT_ARG_NONE, &force, 0,
         "discard what cannot be written back, naming each file", NULL},
        {"lazy", 'l', POPT_ARG_NONE, &lazy, 0,
         "take the mount out of sight now, end it when nobody uses it any more", NULL},
        {"timeout", 't', POPT_ARG_INT, &timeout, 0,
         "give up when nothing moved for so long (default 30, with --force 5; 0: never)",
         "SECONDS"},
        POPT_AUTOHELP POPT_TABLEEND};
    /* umount(8) calls its helpers as umount.TYPE DIRECTORY [-flnrv] [-N NAMESPACE] [-t TYPE]. Its
     * -f means "do not wait for the server", not "discard", so it is not taken for ours. */
    const struct poptOption helper_table[] = {{NULL, 'l', POPT_ARG_NONE, &lazy, 0, NULL, NULL},
                                              {NULL, 'f', POPT_ARG_NONE, &nothing, 0, NULL, NULL},
                                              {NULL, 'n', POPT_ARG_NONE, &nothing, 0, NULL, NULL},
                                              {NULL, 'r', POPT_ARG_NONE, &nothing, 0, NULL, NULL},
                                              {NULL, 'v', POPT_ARG_NONE, &nothing, 0, NULL, NULL},
                                              {NULL, 'N', POPT_ARG_STRING, &text, 0, NULL, NULL},
                                              {NULL, 't', POPT_ARG_STRING, &text, 0, NULL, NULL},
                                              POPT_AUTOHELP POPT_TABLEEND};
    bool helper = strncmp(argv[0], "umount.", 7) == 0;
    struct mount_list mounts = {0};
    struct umount u = {.pidfd = -1};
    char err[512];

    poptContext context =
        verb_options(argc, argv, helper ? helper_table : table, "[OPTION]... MOUNTPOINT");
    if (!context)
        return EXIT_USAGE;
    free(text);
    u.path = poptGetArg(context);
    u.force = force;
    u.lazy = lazy;
    int status = EXIT_USAGE;
    if (!u.path)
        verb_fail(0, "which MOUNTPOINT?");
    else if (poptPeekArg(context))
        verb_fail(0, "one MOUNTPOINT at a time: '%s' is one too many", poptPeekArg(context));
    else if (timeout < -1)
        verb_fail(0, "--timeout=%d: expected a number of seconds, 0 or more", timeout);
    else if (mounts_read(&mounts) < 0)
        status = verb_fail(EXIT_SYSTEM, "/proc/self/mountinfo: %s", strerror(errno));
    else if (!(u.mount = mounts_at(&mounts, u.path, err, sizeof err)))
        verb_fail(0, "%s", err);
    else {
        u.patience_s = timeout >= 0 ? (unsigned)timeout : u.force ? PATIENCE_FORCE : PATIENCE;
        status = run(&u);
    }
    mounts_free(&mounts);
    poptFreeContext(context);
    return status;
}
