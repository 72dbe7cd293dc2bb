// SPDX-License-Identifier: Apache-2.0
/*
 * The control socket: lines of text in, answers out, one command after the other (server_command).
 * A thread of its own, so that a server which is paused or whose threads are all busy still obeys.
 * Only root and the user of the server are listened to (SO_PEERCRED, and mode 0600 of the socket).
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/serve/internal.h"

static bool peer_allowed(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

/* Wait for FD or for the end of the server. Whether FD is readable. */
static bool wait_readable(struct server *srv, int fd)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = srv->stop_fd, .events = POLLIN}};

    while (poll(fds, 2, -1) < 0)
        if (errno != EINTR)
            return false;
    return !(fds[1].revents & POLLIN) && fds[0].revents != 0;
}

static bool send_answer(int fd, const char *line, struct server *srv)
{
    char *text = NULL;
    size_t len = 0, sent = 0;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        return false;
    server_command(srv, line, out);
    fclose(out);
    while (sent < len) {
        ssize_t n = send(fd, text + sent, len - sent, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    free(text);
    return sent == len;
}

static void talk(struct server *srv, int fd)
{
    char buf[4096];
    size_t have = 0;

    while (wait_readable(srv, fd)) {
        ssize_t n = read(fd, buf + have, sizeof(buf) - 1 - have);
        if (n <= 0)
            return;
        have += (size_t)n;
        buf[have] = '\0';
        char *start = buf, *end;
        while ((end = strchr(start, '\n'))) {
            *end = '\0';
            if (!send_answer(fd, start, srv))
                return;
            start = end + 1;
        }
        have -= (size_t)(start - buf);
        memmove(buf, start, have);
        if (have == sizeof(buf) - 1)
            return;
    }
}

static void *control_main(void *arg)
{
    struct server *srv = arg;

    while (wait_readable(srv, srv->control_fd)) {
        int fd = accept4(srv->control_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        if (peer_allowed(fd))
            talk(srv, fd);
        close(fd);
    }
    return NULL;
}

int serve_control_start(struct server *srv, char *err, size_t errlen)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const char *path = srv->opt.control;
    int rc;

    if (!path)
        return 0;
    if (strlen(path) >= sizeof(addr.sun_path)) {
        snprintf(err, errlen, "control socket '%s': path longer than %zu bytes", path,
                 sizeof(addr.sun_path) - 1);
        return -ENAMETOOLONG;
    }
    strcpy(addr.sun_path, path);
    srv->control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* A socket that a killed server left behind is in the way; a living one's is not touched. */
    if (srv->control_fd >= 0 &&
        connect(srv->control_fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
        snprintf(err, errlen, "control socket '%s' is in use by another server", path);
        return -EADDRINUSE;
    }
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
    if (srv->control_fd < 0 || bind(srv->control_fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
        chmod(path, 0600) != 0 || listen(srv->control_fd, 8) != 0) {
        rc = -errno;
        snprintf(err, errlen, "control socket '%s': %s", path, strerror(-rc));
        return rc;
    }
    srv->control_path = strdup(path);
    rc = pthread_create(&srv->control_thread, NULL, control_main, srv);
    if (rc != 0) {
        snprintf(err, errlen, "control socket: %s", strerror(rc));
        return -rc;
    }
    srv->control_running = true;
    return 0;
}

void serve_control_stop(struct server *srv)
{
    uint64_t one = 1;

    if (srv->control_running) {
        /* Also tells the pool to stop: serve_control_stop is only called on the way down. */
        atomic_store(&srv->stopping, true);
        if (write(srv->stop_fd, &one, sizeof(one)) < 0)
            return;
        pthread_join(srv->control_thread, NULL);
        srv->control_running = false;
    }
    if (srv->control_fd >= 0)
        close(srv->control_fd);
    srv->control_fd = -1;
    if (srv->control_path)
        unlink(srv->control_path);
    free(srv->control_path);
    srv->control_path = NULL;
}
