// SPDX-License-Identifier: Apache-2.0
/*
 * Where the cells of `bench scale` work: a server of our own (`nfscached serve`, started with the
 * first cell that needs one, on a free port, on a directory of its own), and mounts in the
 * foreground of processes that we started. They end by SIGTERM to exactly these processes, and by
 * the kernel when this process dies.
 *
 * With --server it is somebody else's, and what asks or delays the server is skipped.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/bench/scale.h"
#include "daemon/bench/target.h"

#define PATIENCE_S 60

static void nap(unsigned ms)
{
    nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
}

/* A process group of its own: an interrupt of ours comes to us first, and we end things in order.
 * Its output goes to `log`. */
static pid_t start(const char *log, const char *const argv[])
{
    pid_t parent = getpid(), pid = fork();

    if (pid)
        return pid < 0 ? -errno : pid;

    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    if (getppid() == parent && out >= 0 && in >= 0 && dup2(in, 0) >= 0 && dup2(out, 1) >= 0 &&
        dup2(out, 2) >= 0)
        execv("/proc/self/exe", (char *const *)argv);
    _exit(127);
}

static bool ended(pid_t pid)
{
    int status;

    return waitpid(pid, &status, WNOHANG) != 0;
}

/* SIGTERM, and SIGKILL when patience is over. Whether it ended by itself. */
static bool stop(pid_t pid)
{
    uint64_t until = bench_now() + PATIENCE_S * 1000000000ull;

    kill(pid, SIGTERM);
    while (bench_now() < until) {
        if (ended(pid))
            return true;
        nap(5);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return false;
}

static void last_line(const char *log, char *text, size_t size)
{
    FILE *f = fopen(log, "re");
    char line[512];

    snprintf(text, size, "no message");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        snprintf(text, size, "%s", line);
    }
    if (f)
        fclose(f);
}

/* ---- the server ------------------------------------------------------------------------------ */

static int connect_control(struct scale *s)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    if (strlen(s->control) >= sizeof a.sun_path)
        return -ENAMETOOLONG;
    memcpy(a.sun_path, s->control, strlen(s->control) + 1);
    s->control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(s->control_fd, (struct sockaddr *)&a, sizeof a) < 0 ? -errno : 0;
}

static int begin_own(struct scale *s, struct cell *c)
{
    char log[PATH_MAX + 16], key[PATH_MAX + 16], port_file[PATH_MAX + 16], said[600];
    unsigned port = 0;

    snprintf(s->export, sizeof s->export, "%.*s/export", PATH_MAX - 16, s->dir);
    snprintf(s->control, sizeof s->control, "%.*s/ctl", PATH_MAX - 16, s->dir);
    snprintf(log, sizeof log, "%s/server.log", s->dir);
    snprintf(key, sizeof key, "%s/key", s->dir);
    snprintf(port_file, sizeof port_file, "%s/port", s->dir);
    if (mkdir(s->export, 0777) < 0)
        return cell_fail(c, "%s: %s", s->export, strerror(errno));
    s->server = start(log, (const char *const[]){"nfscached", "serve", "--no-fsync", "--port-file",
                                                 port_file, "--control", s->control, "--key-file",
                                                 key, s->export, NULL});
    if (s->server < 0)
        return cell_fail(c, "no process for the server: %s", strerror((int)-s->server));
    for (unsigned i = 0; !port; i++) {
        FILE *f = fopen(port_file, "re");

        if (f) {
            if (fscanf(f, "%u", &port) != 1)
                port = 0;
            fclose(f);
        }
        if (!port && (ended(s->server) || i > PATIENCE_S * 100 || bench_stopped())) {
            last_line(log, said, sizeof said);
            kill(s->server, SIGKILL);
            s->server = 0;
            return cell_fail(c, "the server did not start: %s", said);
        }
        if (!port)
            nap(10);
    }
    s->port = (uint16_t)port;

    int rc = connect_control(s);

    if (rc < 0)
        return cell_fail(c, "%s: %s", s->control, strerror(-rc));
    snprintf(s->source, sizeof s->source, "127.0.0.1:%s", s->export);
    s->below[0] = 0;
    return 0;
}

static int begin_foreign(struct scale *s, struct cell *c)
{
    const char *name = strrchr(s->dir, '/');

    snprintf(s->below, sizeof s->below, "/%.60s", name + 1);
    snprintf(s->export, sizeof s->export, "%.*s%s", PATH_MAX - 80, s->remote_dir, s->below);
    snprintf(s->source, sizeof s->source, "%s", s->remote);
    return mkdir(s->export, 0777) < 0 ? cell_fail(c, "%s: %s", s->export, strerror(errno)) : 0;
}

int scale_begin(struct scale *s, struct cell *c)
{
    if (*s->source)
        return 0;
    snprintf(s->dir, sizeof s->dir, "%.*s/nfscached-scale.XXXXXX", PATH_MAX - 64, s->scratch);
    if (!mkdtemp(s->dir)) {
        int error = errno;
        s->dir[0] = 0;
        return cell_fail(c, "%s: %s", s->scratch, strerror(error));
    }
    s->control_fd = -1;
    return s->remote ? begin_foreign(s, c) : begin_own(s, c);
}

void scale_end(struct scale *s)
{
    if (!*s->dir)
        return;
    if (s->control_fd >= 0)
        close(s->control_fd);
    if (s->server > 0 && !stop(s->server))
        bench_fail(0, "the server did not end by itself");
    if (*s->below)
        remove_tree(s->export);
    if (remove_tree(s->dir) < 0)
        bench_fail(0, "%s: could not be removed", s->dir);
    s->dir[0] = s->source[0] = 0;
}

char *scale_command(struct scale *s, const char *line)
{
    size_t room = 1 << 16, n = 0;
    char *answer = s->control_fd >= 0 ? malloc(room) : NULL;
    ssize_t got = answer ? 1 : 0;

    if (answer)
        got = dprintf(s->control_fd, "%s\n", line);
    while (got > 0) {
        got = recv(s->control_fd, answer + n, room - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
        answer[n] = 0;
        if (answer[n - 1] != '\n')
            continue;
        char *last = answer + n - 1;
        while (last > answer && last[-1] != '\n')
            last--;
        if (strcmp(last, "ok\n") == 0)
            return answer;
        if (strncmp(last, "error:", 6) == 0)
            break;
    }
    free(answer);
    return NULL;
}

double scale_served(struct scale *s, const char *procedure)
{
    char *answer = scale_command(s, "stats"), *at = answer, word[32];
    double calls = answer ? 0 : -1, n;

    for (; at && *at; at = strchr(at, '\n'), at += at != NULL)
        if (sscanf(at, "%31s %lf", word, &n) == 2 && strcmp(word, procedure) == 0)
            calls = n;
    free(answer);
    return calls;
}

/* ---- mounts ---------------------------------------------------------------------------------- */

static bool is_mounted(const char *path, dev_t parent, dev_t *dev)
{
    struct stat st;

    return stat(path, &st) == 0 && st.st_dev != parent && (*dev = st.st_dev, true);
}

int scale_mount(struct scale *s, struct cell *c, const char *options, struct scale_mount *m)
{
    char log[PATH_MAX + 32], all[1024], said[600];
    struct stat st;

    memset(m, 0, sizeof *m);
    snprintf(m->mountpoint, sizeof m->mountpoint, "%.*s/mnt%u", PATH_MAX - 128, s->dir,
             s->mounts_made);
    snprintf(log, sizeof log, "%.*s/mnt%u.log", PATH_MAX - 16, s->dir, s->mounts_made);
    s->mounts_made++;
    snprintf(all, sizeof all, "fsname=bench-scale%s%s%s%s", options ? "," : "",
             options ? options : "", s->options ? "," : "", s->options ? s->options : "");
    if (s->server > 0)
        snprintf(all + strlen(all), sizeof all - strlen(all), ",port=%u,mountport=%u", s->port,
                 s->port);
    if (mkdir(m->mountpoint, 0755) < 0 || stat(m->mountpoint, &st) < 0)
        return cell_fail(c, "%s: %s", m->mountpoint, strerror(errno));
    m->daemon = start(log, (const char *const[]){"nfscached", "mount", "-f", "-o", all, s->source,
                                                 m->mountpoint, NULL});
    if (m->daemon < 0)
        return cell_fail(c, "no process for a mount: %s", strerror((int)-m->daemon));
    for (unsigned i = 0; !is_mounted(m->mountpoint, st.st_dev, &m->dev); i++) {
        if (ended(m->daemon) || i > PATIENCE_S * 200 || bench_stopped()) {
            last_line(log, said, sizeof said);
            scale_mount_drop(m);
            return cell_fail(c, "no mount: %s", said);
        }
        nap(5);
    }
    snprintf(m->dir, sizeof m->dir, "%.*s%s", PATH_MAX - 80, m->mountpoint, s->below);
    unlink(log);
    return 0;
}

int scale_umount(struct cell *c, struct scale_mount *m)
{
    bool well = m->daemon <= 0 || stop(m->daemon);

    m->daemon = 0;
    scale_mount_drop(m);
    return well ? 0 : cell_fail(c, "the mount did not end");
}

void scale_mount_drop(struct scale_mount *m)
{
    if (m->daemon > 0) {
        kill(m->daemon, SIGKILL);
        waitpid(m->daemon, NULL, 0);
    }
    if (*m->mountpoint && rmdir(m->mountpoint) < 0) {
        umount2(m->mountpoint, MNT_DETACH);
        rmdir(m->mountpoint);
    }
    memset(m, 0, sizeof *m);
}

void scale_drop(const struct scale_mount *m)
{
    struct target t = {.kind = TARGET_OURS, .dev = m->dev, .owner = geteuid()};

    target_drop_daemon(&t);
}

/* ---- what a process uses --------------------------------------------------------------------- */

static void add_threads(pid_t pid, struct scale_usage *u)
{
    char path[320], line[128];
    unsigned long long ran, waited, times;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", (int)pid, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "re");
        if (!f)
            continue;
        if (fgets(line, sizeof line, f) &&
            sscanf(line, "%llu %llu %llu", &ran, &waited, &times) == 3) {
            u->cpu_ns += ran;
            u->runs += times;
        }
        fclose(f);
    }
    if (d)
        closedir(d);
}

void scale_usage(pid_t pid, bool memory, struct scale_usage *u)
{
    char path[64], line[256];
    unsigned long long kib;

    memset(u, 0, sizeof *u);
    add_threads(pid, u);
    if (!memory)
        return;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "Rss: %llu kB", &kib) == 1)
            u->rss = kib << 10;
        else if (sscanf(line, "Pss: %llu kB", &kib) == 1)
            u->pss = kib << 10;
    }
    if (f)
        fclose(f);
}
