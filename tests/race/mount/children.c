// SPDX-License-Identifier: Apache-2.0
/*
 * The processes of a run. All are forked while nfscached-race has no other thread, and go on in
 * what it has linked: so a fault is a variable that is set before the daemon begins, and no wire
 * can ask for one.
 *
 * Who is killed leaves nothing: the daemon and the server get SIGKILL when the main thread of
 * nfscached-race ends. But a daemon that was killed in the middle of an unmap waits in the kernel
 * for an answer that only it could give, and the same is true of an application's thread: the
 * keeper, which has no part in it all, then aborts the connection. The mount goes with the
 * namespace, when the last of them has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/mount.h"
#include "daemon/serve/serve.h"
#include "tests/race/lab/point.h"
#include "tests/race/mount/internal.h"

#define ANSWER_MAX 8192

static pid_t child(void (*body)(struct lab_mount *m), struct lab_mount *m, int on_death)
{
    pid_t parent = getpid(), pid;

    fflush(NULL);
    pid = fork();
    if (pid != 0)
        return pid;
    setpgid(0, 0); /* the terminal's ^C is for nfscached-race alone */
    prctl(PR_SET_PDEATHSIG, on_death);
    if (getppid() != parent)
        _exit(1);
    body(m);
    _exit(0);
}

int child_wait(pid_t pid, unsigned ms)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0), status = -1;
    struct pollfd p = {.fd = fd, .events = POLLIN};

    while (poll(&p, 1, (int)ms) < 0 && errno == EINTR)
        ;
    if (fd >= 0)
        close(fd);
    if (p.revents && waitpid(pid, &status, 0) == pid)
        return status;
    return -1;
}

/* ---- the server ---- */

static void answer_line(struct server *srv, int fd, const char *line)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        _exit(1);
    server_command(srv, line, out);
    fclose(out);
    if (len > ANSWER_MAX - 1)
        len = ANSWER_MAX - 1;
    if (send(fd, text, len, MSG_NOSIGNAL) < 0)
        _exit(0);
    free(text);
}

static void server_body(struct lab_mount *m)
{
    char key[PATH_ROOM + 8], line[ANSWER_MAX], err[256] = "";
    struct server_options o = {
        .directory = m->export, .key_file = key, .threads = 4, .no_fsync = true};
    struct server *srv;
    ssize_t n;

    snprintf(key, sizeof key, "%s.key", m->export);
    if (server_start(&o, &srv, err, sizeof err) != 0)
        snprintf(line, sizeof line, "error: %s", err);
    else
        snprintf(line, sizeof line, "%u", server_port(srv));
    if (send(m->server_fd, line, strlen(line), MSG_NOSIGNAL) < 0)
        _exit(1);
    while ((n = recv(m->server_fd, line, sizeof line - 1, 0)) > 0) {
        line[n] = '\0';
        answer_line(srv, m->server_fd, line);
    }
    _exit(0);
}

static int take_answer(int fd, char *answer, size_t room)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ssize_t n = poll(&p, 1, LIMIT_MS) > 0 ? recv(fd, answer, room - 1, 0) : 0;

    answer[n > 0 ? n : 0] = '\0';
    return n > 0 ? 0 : -ETIMEDOUT;
}

int server_ask(struct lab_mount *m, const char *line, char *answer, size_t room)
{
    if (send(m->server_fd, line, strlen(line), MSG_NOSIGNAL) < 0)
        return -errno;
    return take_answer(m->server_fd, answer, room);
}

pid_t child_server(struct lab_mount *m, char *err, size_t room)
{
    int ends[2];
    char answer[512];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -1;
    m->server_fd = ends[1];

    pid_t pid = child(server_body, m, SIGKILL);

    close(ends[1]);
    m->server_fd = ends[0];
    if (pid < 0)
        return pid;
    if (take_answer(m->server_fd, answer, sizeof answer) < 0 ||
        !(m->port = (unsigned)atoi(answer))) {
        snprintf(err, room, "the server does not start: %s", answer);
        kill(pid, SIGKILL);
        child_wait(pid, LIMIT_MS);
        return -1;
    }
    return pid;
}

/* ---- the daemon ---- */

static void ready(void *arg)
{
    struct lab_mount *m = arg;

    if (write(m->ready_fd, "K", 1) < 0)
        _exit(1);
}

static void waiting(const char *why, void *arg)
{
    (void)why;
    (void)arg;
}

static bool mount_options(struct lab_mount *m, struct mount_options *o, char *err)
{
    /* Nothing by itself: no attribute gets too old, nothing is read ahead. */
    const char *more = m->entry->mount_options ? m->entry->mount_options : "";
    char source[PATH_ROOM * 2], text[512], ports[64] = "";

    if (m->port)
        snprintf(ports, sizeof ports, ",port=%u,mountport=%u", m->port, m->port);
    snprintf(source, sizeof source, "%s", m->server_name);
    snprintf(text, sizeof text, "actimeo=3600,cache_size=64M,retry=0,shards=4%s%s%s", ports,
             *more ? "," : "", more);
    options_init(o);
    if (!options_parse_source(o, source, err) || !options_parse(o, text, err) ||
        !options_finish(o, 0, err))
        return false;
    o->mountpoint = strdup(m->mountpoint);
    return true;
}

static void daemon_body(struct lab_mount *m)
{
    struct mount_events events = {.ready = ready, .waiting = waiting, .arg = m};
    struct mount_options o;
    char err[MOUNT_ERROR_MAX > OPTIONS_ERROR_MAX ? MOUNT_ERROR_MAX : OPTIONS_ERROR_MAX] = "";
    int log = open(m->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (log >= 0)
        dup2(log, STDERR_FILENO);
    trace_ring = m->trace;
    lab_on_point = trace_point;
    lab_faults = m->protocol->faults;

    int rc = mount_options(m, &o, err) ? mount_run(&o, &events, err) : -EINVAL;

    if (rc < 0)
        fprintf(stderr, "%s\n", err);
    fflush(NULL);
    _exit(rc < 0);
}

pid_t child_daemon(struct lab_mount *m)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    m->ready_fd = ends[1];

    pid_t pid = child(daemon_body, m, SIGKILL);

    close(ends[1]);
    m->ready_fd = ends[0];
    return pid;
}

/* ---- the keeper ---- */

struct charge {
    pid_t daemon, server;
    dev_t dev;
    bool dismissed;
};

static void clean_up(const struct charge *c)
{
    if (c->daemon > 0)
        kill(c->daemon, SIGKILL);
    if (c->server > 0)
        kill(c->server, SIGKILL);
    if (c->dev)
        world_abort_connection(c->dev);
    else
        world_abort_mounted();
    world_forget();
}

static void keeper_body(struct lab_mount *m)
{
    sigset_t all, one;
    struct charge c = {0};

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);

    struct pollfd p[] = {{.fd = m->keeper_fd, .events = POLLIN},
                         {.fd = signalfd(-1, &one, SFD_CLOEXEC), .events = POLLIN}};

    for (;;) {
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[0].revents & POLLIN) {
            if (read(p[0].fd, &c, sizeof c) == (ssize_t)sizeof c && c.dismissed)
                _exit(0);
            continue;
        }
        if (p[1].revents || p[0].revents) {
            clean_up(&c);
            _exit(0);
        }
    }
}

pid_t child_keeper(struct lab_mount *m)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    m->keeper_fd = ends[0];

    pid_t pid = child(keeper_body, m, SIGUSR1);

    close(ends[0]);
    m->keeper_fd = ends[1];
    return pid;
}

void keeper_tell(struct lab_mount *m)
{
    struct charge c = {.daemon = m->daemon, .server = m->server, .dev = m->dev};

    if (write(m->keeper_fd, &c, sizeof c) < 0)
        perror("nfscached-race: its keeper is gone");
}

void keeper_dismiss(struct lab_mount *m)
{
    struct charge c = {.dismissed = true};

    if (m->keeper <= 0)
        return;
    if (write(m->keeper_fd, &c, sizeof c) < 0)
        kill(m->keeper, SIGKILL);
    close(m->keeper_fd);
    child_wait(m->keeper, LIMIT_MS);
    m->keeper = 0;
}
