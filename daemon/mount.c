// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached mount`: from the command line to a process that serves.
 *
 *   check      options, source, mountpoint, /dev/fuse: what can be said before anything is done
 *   fork       before any thread exists; the parent waits at a pipe
 *   mount_run  in the child: the server, the kernel, the threads
 *   report     the child writes how it went into the pipe; the parent prints it and returns it
 *
 * With -f there is no fork, and messages go to standard error instead of syslog.
 *
 * The report is one byte and a text: 'K' the mount answers; 'W' the server cannot be reached, `bg`
 * was given, the child goes on trying; 'E' it failed, text and exit status. A pipe that ends
 * without one means that the child died.
 */
#include "daemon/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/control_client.h"
#include "daemon/log.h"
#include "daemon/mounts.h"
#include "daemon/verbs.h"

struct report {
    char kind;
    int status;
    char text[MOUNT_ERROR_MAX];
};

static int exit_status_of(int error)
{
    switch (error) {
    case 0:
        return EXIT_OK;
    case -EPERM:
    case -EACCES:
        return EXIT_USAGE;
    case -ENOMEM:
    case -EMFILE:
    case -ENFILE:
        return EXIT_SYSTEM;
    default:
        return EXIT_FAILED;
    }
}

/* ---- checks ------------------------------------------------------------------------------- */

/* EXIT_OK: neither our own mount nor the remains of one is there already. */
static int check_not_mounted(const struct mount_options *o)
{
    struct mount_list mounts;
    struct control_client *c;
    int status = EXIT_OK;

    if (mounts_read(&mounts) < 0)
        return EXIT_OK;
    for (size_t i = 0; i < mounts.count && status == EXIT_OK; i++) {
        const struct mount_entry *e = &mounts.entries[i];
        if (!e->is_ours || strcmp(e->mountpoint, o->mountpoint) != 0)
            continue;
        int rc = control_connect(e->dev, e->owner, &c);
        if (rc == 0)
            control_disconnect(c);
        if (rc == -ECONNREFUSED)
            status = verb_fail(EXIT_FAILED,
                               "%s: a mount whose daemon is gone is still there; "
                               "`nfscached umount %s` removes it",
                               o->mountpoint, o->mountpoint);
        else if (strcmp(e->source, o->fsname ? o->fsname : o->source) == 0)
            status =
                verb_fail(EXIT_FAILED, "%s is already mounted on %s", o->source, o->mountpoint);
    }
    mounts_free(&mounts);
    return status;
}

static int check_mountpoint(struct mount_options *o, const char *path)
{
    struct stat st;

    o->mountpoint = realpath(path, NULL);
    if (!o->mountpoint && errno == ENOTCONN)
        return verb_fail(EXIT_FAILED,
                         "%s: a mount whose daemon is gone is still there; `umount %s` removes it",
                         path, path);
    if (!o->mountpoint)
        return verb_fail(EXIT_FAILED, "mountpoint %s: %s", path, strerror(errno));
    int status = check_not_mounted(o);
    if (status != EXIT_OK)
        return status;
    if (stat(o->mountpoint, &st) < 0)
        return verb_fail(EXIT_FAILED, "mountpoint %s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return verb_fail(EXIT_FAILED, "mountpoint %s: not a directory", path);
    /* fusermount3 demands it (fuse(4)); its own message would not reach the caller as well. */
    if (geteuid() != 0 && access(o->mountpoint, W_OK) < 0)
        return verb_fail(EXIT_USAGE,
                         "mountpoint %s: it is not writable for you, which an ordinary user's "
                         "mountpoint must be",
                         path);
    return EXIT_OK;
}

static bool in_path(const char *program)
{
    const char *at = getenv("PATH");
    char name[PATH_MAX];

    for (at = at ? at : "/usr/bin:/bin"; *at;) {
        int n = (int)strcspn(at, ":");
        snprintf(name, sizeof name, "%.*s/%s", n, at, program);
        if (access(name, X_OK) == 0)
            return true;
        at += n;
        at += *at == ':';
    }
    return false;
}

/* fusermount3 is setuid root, but opens /dev/fuse with the rights of its caller. */
static int check_fuse(void)
{
    if (access("/dev/fuse", F_OK) < 0)
        return verb_fail(
            EXIT_FAILED,
            "/dev/fuse is missing: load the module (`modprobe fuse`), or give the "
            "container the device (docker run --device /dev/fuse --cap-add SYS_ADMIN)");
    if (access("/dev/fuse", R_OK | W_OK) < 0)
        return verb_fail(EXIT_USAGE, "/dev/fuse: %s (its mode is usually 0666)", strerror(errno));
    if (geteuid() != 0 && !in_path("fusermount3"))
        return verb_fail(EXIT_FAILED, "fusermount3 is not in the PATH: it is what lets an ordinary "
                                      "user mount (Debian: apt install fuse3)");
    return EXIT_OK;
}

/* ---- the two processes -------------------------------------------------------------------- */

static void send_report(int fd, char kind, int status, const char *text)
{
    struct report r = {.kind = kind, .status = status};

    snprintf(r.text, sizeof r.text, "%s", text);
    /* Smaller than PIPE_BUF, so it arrives whole. A parent that was interrupted is no loss. */
    if (write(fd, &r, sizeof r) < 0)
        log_msg(LOG_DEBUG, "nobody waits for the mount any more");
}

_Static_assert(sizeof(struct report) <= PIPE_BUF, "a report is written at once");

struct child {
    int pipe;  /* -1: in the foreground, or already reported */
    bool quit; /* detached from the terminal */
};

/* From here on nobody waits: no terminal, no directory held, messages to syslog. */
static void detach(struct child *c)
{
    if (c->quit)
        return;
    c->quit = true;
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        close(null);
    }
    log_to_syslog("nfscached");
}

static void report_once(struct child *c, char kind, int status, const char *text)
{
    if (c->pipe < 0)
        return;
    detach(c);
    send_report(c->pipe, kind, status, text);
    close(c->pipe);
    c->pipe = -1;
}

static void on_ready(void *arg)
{
    report_once(arg, 'K', EXIT_OK, "");
}

static void on_waiting(const char *why, void *arg)
{
    struct child *c = arg;

    if (c->pipe < 0)
        log_msg(LOG_NOTICE, "%s; trying again", why);
    report_once(c, 'W', EXIT_OK, why);
}

static int run_child(struct mount_options *o, struct child *c)
{
    struct mount_events events = {.ready = on_ready, .waiting = on_waiting, .arg = c};
    char err[MOUNT_ERROR_MAX] = "";
    bool foreground = c->pipe < 0;

    if (!foreground && chdir("/") < 0)
        log_msg(LOG_DEBUG, "/: %s", strerror(errno));
    int rc = mount_run(o, &events, err);
    int status = exit_status_of(rc);
    if (rc < 0) {
        if (foreground)
            verb_fail(0, "%s", err);
        else if (c->pipe < 0)
            log_msg(LOG_ERR, "%s", err);
        report_once(c, 'E', status, err);
    }
    return status;
}

/* The parent: waits for the report, prints it, returns the status. */
static int wait_for_report(int fd, pid_t child)
{
    struct report r;
    ssize_t n;
    int status;

    do
        n = read(fd, &r, sizeof r);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof r) {
        r.text[sizeof r.text - 1] = 0;
        if (r.kind == 'K')
            return EXIT_OK;
        if (r.kind == 'W') {
            fprintf(stderr, "nfscached mount: %s; trying again in the background\n", r.text);
            return EXIT_OK;
        }
        return verb_fail(r.status, "%s", r.text);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        return verb_fail(EXIT_SYSTEM, "the mount process died: %s", strsignal(WTERMSIG(status)));
    return verb_fail(EXIT_SYSTEM, "the mount process ended with status %d, saying nothing",
                     WEXITSTATUS(status));
}

static int run(struct mount_options *o, bool foreground)
{
    struct child c = {.pipe = -1};
    int fds[2];

    if (foreground)
        return run_child(o, &c);
    if (pipe2(fds, O_CLOEXEC) < 0)
        return verb_fail(EXIT_SYSTEM, "pipe: %s", strerror(errno));
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return verb_fail(EXIT_SYSTEM, "fork: %s", strerror(errno));
    if (pid == 0) {
        close(fds[0]);
        c.pipe = fds[1];
        return run_child(o, &c);
    }
    close(fds[1]);
    int status = wait_for_report(fds[0], pid);
    close(fds[0]);
    return status;
}

/* ---- the command line --------------------------------------------------------------------- */

static int parse(struct mount_options *o, poptContext context, char **texts)
{
    char err[OPTIONS_ERROR_MAX];
    const char *source = poptGetArg(context);
    const char *mountpoint = source ? poptGetArg(context) : NULL;

    if (!mountpoint)
        return verb_fail(EXIT_USAGE, "expected SERVER:/EXPORT MOUNTPOINT");
    if (poptPeekArg(context))
        return verb_fail(EXIT_USAGE, "'%s' is one argument too many", poptPeekArg(context));
    if (!options_parse_source(o, source, err))
        return verb_fail(EXIT_USAGE, "%s", err);
    for (; texts && *texts; texts++)
        if (!options_parse(o, *texts, err))
            return verb_fail(EXIT_USAGE, "%s", err);
    if (!options_finish(o, 0, err))
        return verb_fail(EXIT_USAGE, "%s", err);
    int status = check_mountpoint(o, mountpoint);
    return status == EXIT_OK ? check_fuse() : status;
}

int verb_mount(int argc, const char **argv)
{
    char **texts = NULL;
    int foreground = 0, verbose = 0, read_only = 0, fake = 0, nothing = 0;
    char *type = NULL, *namespace = NULL;
    const struct poptOption table[] = {
        {"options", 'o', POPT_ARG_ARGV, &texts, 0, "mount options (see nfscached help mount)",
         "OPTION,..."},
        {"foreground", 'f', POPT_ARG_NONE, &foreground, 0, "stay in the foreground", NULL},
        {"read-only", 'r', POPT_ARG_NONE, &read_only, 0, "the same as -o ro", NULL},
        {"read-write", 'w', POPT_ARG_NONE, &nothing, 0, "the same as -o rw, the default", NULL},
        {"verbose", 'v', POPT_ARG_NONE, &verbose, 0, "log more", NULL},
        POPT_AUTOHELP POPT_TABLEEND};
    /* mount(8) calls its helpers as mount.TYPE SOURCE DIRECTORY [-sfnv] [-N NAMESPACE] [-o OPTIONS]
     * [-t TYPE]; its -f means "only pretend". */
    const struct poptOption helper_table[] = {
        {NULL, 'o', POPT_ARG_ARGV, &texts, 0, NULL, NULL},
        {NULL, 'f', POPT_ARG_NONE, &fake, 0, NULL, NULL},
        {NULL, 's', POPT_ARG_NONE, &nothing, 0, NULL, NULL},
        {NULL, 'n', POPT_ARG_NONE, &nothing, 0, NULL, NULL},
        {NULL, 'v', POPT_ARG_NONE, &verbose, 0, NULL, NULL},
        {NULL, 'N', POPT_ARG_STRING, &namespace, 0, NULL, NULL},
        {NULL, 't', POPT_ARG_STRING, &type, 0, NULL, NULL},
        POPT_AUTOHELP POPT_TABLEEND};
    bool helper = strncmp(argv[0], "mount.", 6) == 0;
    struct mount_options o;

    poptContext context = verb_options(argc, argv, helper ? helper_table : table,
                                       "[OPTION]... SERVER:/EXPORT MOUNTPOINT");
    if (!context)
        return EXIT_USAGE;
    if (verbose)
        log_set_level(LOG_DEBUG);
    options_init(&o);
    int status = namespace ? verb_fail(EXIT_USAGE, "-N %s: namespaces are not supported", namespace)
                           : parse(&o, context, texts);
    if (read_only)
        o.ro = true;
    if (status == EXIT_OK && !fake)
        status = run(&o, foreground);
    options_clear(&o);
    for (char **t = texts; t && *t; t++)
        free(*t);
    free(texts);
    free(type);
    free(namespace);
    poptFreeContext(context);
    return status;
}
