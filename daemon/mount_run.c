// SPDX-License-Identifier: Apache-2.0
/*
 * The mount process: puts the layers together, serves until the mount ends, and then does not go
 * before the last dirty byte is at the server.
 *
 *   up     arena -> loops -> remote side (MOUNT, connections) -> front (/dev/fuse) -> control
 * socket serve  the main thread waits for signals and for the end of the kernel's connection; all
 * else happens in the loops and in helper threads down   write everything back (again and again if
 * need be), then the same layers in reverse
 *
 * SIGTERM and SIGINT mean: write back, unmount, end. While files are open the unmount is a lazy one
 * and the process goes on serving them. Nothing but kill -9 and `umount --force` makes it leave
 * dirty data behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/mount.h"
#include "daemon/mounts.h"
#include "daemon/nfs/nfs3.h"
#include "fuse/ops.h"

#define SECOND 1000000000ull

/* Records in the arena: address space only, until they are used (cache/arena.h). */
#define INODES  (1u << 20)
#define FILES   (1u << 18)
#define CREDS   65535u
#define INTENTS 4096u

#define DIRTY_EXPIRE_NS (5 * SECOND) /* as often as Linux's flusher wakes */
#define SHARDS_MAX      64
#define END_PATIENCE_S  5

struct process {
    const struct mount_options *o;
    const struct mount_events *events;
    char *err;
    struct arena arena;
    bool has_arena;
    struct credtab *creds;
    struct loop *loops[SHARDS_MAX];
    unsigned nloops, nstarted;
    struct mount_state state; /* front, remote */
    struct control *control;
    bool left; /* unmounted by us: what is mounted there now may be somebody else's */
    dev_t dev; /* of the mount; 0: not known */
    int signal_fd, end_fd;
};

static int failed(struct process *p, int rc, const char *what)
{
    if (!p->err[0])
        snprintf(p->err, MOUNT_ERROR_MAX, "%s: %s: %s", p->o->source, what, strerror(-rc));
    return rc;
}

/* ---- what a process that holds other people's data owes them ------------------------------- */

static void raise_limits(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    /* Its memory is bounded; killed, it would take dirty data along. Only root may lower it. */
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (write(fd, "-900", 4) < 0)
            log_msg(LOG_DEBUG, "oom_score_adj: %s", strerror(errno));
        close(fd);
    }
}

static int catch_signals(struct process *p)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    p->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    p->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return p->signal_fd < 0 || p->end_fd < 0 ? -errno : 0;
}

/* ---- up ----------------------------------------------------------------------------------- */

static struct cache_config cache_config(const struct process *p)
{
    const struct mount_options *o = p->o;

    return (struct cache_config){
        .size = o->cache_size,
        .size_max = p->state.size_max,
        .dirty_limit = o->dirty_limit,
        .dirty_background = o->dirty_background,
        .dirty_expire_ns = DIRTY_EXPIRE_NS,
        .rsize = p->state.remote ? p->state.remote->rsize : o->rsize,
        .wsize = p->state.remote ? p->state.remote->wsize : o->wsize,
        .readahead = o->readahead,
        .wcc = o->wcc == OPTION_WCC_STRICT    ? CACHE_WCC_STRICT
               : o->wcc == OPTION_WCC_BRACKET ? CACHE_WCC_BRACKET
                                              : CACHE_WCC_TRUST,
        .kernel_writeback = o->kernel_writeback,
    };
}

static struct front_config front_config(const struct process *p, const char *generic)
{
    const struct mount_options *o = p->o;

    return (struct front_config){
        .mountpoint = o->mountpoint,
        .fsname = o->fsname ? o->fsname : o->source,
        .subtype = o->subtype ? o->subtype : "nfscached",
        .mount_options = generic,
        .read_only = o->ro,
        .allow_other = o->allow_other,
        .default_permissions = o->default_permissions,
        .have_uid = o->set_uid,
        .have_gid = o->set_gid,
        .have_umask = o->set_umask,
        .uid = o->uid,
        .gid = o->gid,
        .umask = o->umask,
        .acregmin_ns = o->acregmin * SECOND,
        .acregmax_ns = o->acregmax * SECOND,
        .acdirmin_ns = o->acdirmin * SECOND,
        .acdirmax_ns = o->acdirmax * SECOND,
        .cto = o->cto,
        .sync = o->sync,
        .rdirplus = o->rdirplus,
        .local_flock = false, /* false: a lock is a point of consistency, as in nfs(5) */
        .local_posix = false,
        .lookupcache = o->lookupcache == OPTION_LOOKUPCACHE_ALL        ? FRONT_LOOKUPCACHE_ALL
                       : o->lookupcache == OPTION_LOOKUPCACHE_POSITIVE ? FRONT_LOOKUPCACHE_POSITIVE
                                                                       : FRONT_LOOKUPCACHE_NONE,
        .wcc = cache_config(p).wcc,
        .kernel_writeback = o->kernel_writeback,
    };
}

static int make_arena(struct process *p)
{
    const struct mount_options *o = p->o;
    p->state.size_max = options_ram() > o->cache_size ? options_ram() : o->cache_size;
    struct cache_config config = cache_config(p);
    struct arena_sizes sizes = {
        .inodes = INODES, .files = FILES, .creds = CREDS, .intents = INTENTS};

    cache_arena_sizes(&config, &sizes);
    int rc = arena_create(&p->arena, &sizes);
    if (rc < 0 && config.size_max > config.size) {
        /* Not even the address space (ulimit -v): then the cache can only be made smaller. */
        config.size_max = p->state.size_max = o->cache_size;
        cache_arena_sizes(&config, &sizes);
        rc = arena_create(&p->arena, &sizes);
    }
    if (rc < 0)
        return failed(p, rc, "cannot reserve the cache's memory");
    p->has_arena = true;
    p->creds = credtab_new(&p->arena);
    return p->creds ? 0 : failed(p, -ENOMEM, "cannot make the cache");
}

static int make_loops(struct process *p)
{
    char name[16];

    for (; p->nloops < p->o->shards && p->nloops < SHARDS_MAX; p->nloops++) {
        snprintf(name, sizeof name, "shard%u", p->nloops);
        p->loops[p->nloops] = loop_new(name);
        if (!p->loops[p->nloops])
            return failed(p, -errno, "cannot make an event loop");
    }
    return 0;
}

static void log_line(int priority, const char *text)
{
    log_msg(priority, "%s", text);
}

static int reach_server(struct process *p)
{
    const struct mount_options *o = p->o;
    bool again = false;
    struct nfs3_options n = {
        .server = o->host,
        .export = o->export,
        .port = o->port,
        .mountport = o->mountport,
        .mountport_is_guess = o->mountport_is_guess,
        .family = o->family,
        .rsize = o->rsize,
        .wsize = o->wsize,
        .soft = o->soft,
        .timeo_ds = o->timeo_ds,
        .retrans = o->retrans,
        .nconnect = (int)o->nconnect,
        .resvport = o->resvport == OPTION_RESVPORT_YES  ? NFS3_RESVPORT_YES
                    : o->resvport == OPTION_RESVPORT_NO ? NFS3_RESVPORT_NO
                                                        : NFS3_RESVPORT_TRY,
        .retry_minutes = o->bg ? 0 : (int)o->retry_min,
        .again = &again,
        .log = log_line,
    };

    int rc = nfs3_mount(&n, p->loops, (int)p->nloops, &p->state.remote, p->err, MOUNT_ERROR_MAX);
    if (rc < 0 && o->bg && o->retry_min && again) {
        p->events->waiting(p->err, p->events->arg);
        p->err[0] = 0;
        n.retry_minutes = (int)o->retry_min;
        rc = nfs3_mount(&n, p->loops, (int)p->nloops, &p->state.remote, p->err, MOUNT_ERROR_MAX);
    }
    return rc < 0 ? failed(p, rc, "cannot mount") : 0;
}

/* Until something is mounted, a signal just ends the process: the server may be waited for long. */
struct early {
    pthread_t thread;
    int signal_fd, stop_fd;
    const char *source;
};

static void *early_signals(void *arg)
{
    struct early *e = arg;
    struct pollfd fds[] = {{.fd = e->stop_fd, .events = POLLIN},
                           {.fd = e->signal_fd, .events = POLLIN}};

    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        ;
    if (fds[0].revents)
        return NULL;
    log_msg(LOG_NOTICE, "%s: interrupted, nothing is mounted", e->source);
    _exit(8); /* "user interrupt" of mount(8) */
}

static int reach_server_interruptibly(struct process *p)
{
    struct early e = {.signal_fd = p->signal_fd, .source = p->o->source};

    e.stop_fd = eventfd(0, EFD_CLOEXEC);
    if (e.stop_fd < 0)
        return failed(p, -errno, "eventfd");
    int rc = -pthread_create(&e.thread, NULL, early_signals, &e);
    if (rc < 0) {
        close(e.stop_fd);
        return failed(p, rc, "cannot start a thread");
    }
    rc = reach_server(p);
    if (eventfd_write(e.stop_fd, 1) == 0)
        pthread_join(e.thread, NULL);
    close(e.stop_fd);
    return rc;
}

static void on_end(void *arg)
{
    struct process *p = arg;

    if (eventfd_write(p->end_fd, 1) < 0)
        log_msg(LOG_ERR, "cannot tell that the mount ended: %s", strerror(errno));
}

static int make_front(struct process *p)
{
    char *generic = options_fuse_string(p->o);

    if (!generic)
        return failed(p, -ENOMEM, "options");
    struct front_config config = front_config(p, generic);
    struct cache_config cache = cache_config(p);
    int rc = front_new(&config, &p->arena, p->creds, p->state.remote, &cache, p->loops,
                       (int)p->nloops, &p->state.front, p->err, MOUNT_ERROR_MAX);
    free(generic);
    if (rc < 0)
        return failed(p, rc, "cannot mount");
    front_on_end(p->state.front, on_end, p);
    for (; p->nstarted < p->nloops; p->nstarted++) {
        rc = loop_start(p->loops[p->nstarted]);
        if (rc < 0)
            return failed(p, rc, "cannot start a thread");
    }
    rc = front_started(p->state.front);
    return rc < 0 ? failed(p, rc, "the mount does not answer") : 0;
}

/* A mount without its control socket still keeps its promises, so that is no reason to fail. */
static void make_control(struct process *p)
{
    struct stat st;

    int rc = stat(p->o->mountpoint, &st) < 0 ? -errno : 0;
    p->dev = rc == 0 ? st.st_dev : 0;
    if (rc == 0)
        rc = control_start(st.st_dev, geteuid(), &mount_control_ops, &p->state, &p->control);
    if (rc < 0)
        log_msg(LOG_WARNING, "%s: no control socket (status and flush will not work): %s",
                p->o->mountpoint, strerror(-rc));
}

/* ---- serve -------------------------------------------------------------------------------- */

static uint64_t dirty_bytes(const struct process *p)
{
    return mount_control_ops.dirty_bytes((void *)&p->state);
}

/* Whether the mountpoint's name still leads to this mount: somebody may have unmounted it lazily,
 * or have mounted something else over it. */
static bool is_in_place(const struct process *p)
{
    struct mount_list mounts;
    bool ours = false;

    if (!p->dev || mounts_read(&mounts) < 0)
        return true;
    for (size_t i = 0; i < mounts.count; i++)
        if (strcmp(mounts.entries[i].mountpoint, p->o->mountpoint) == 0)
            ours = mounts.entries[i].dev == p->dev;
    mounts_free(&mounts);
    return ours;
}

/* SIGTERM: what is dirty goes out first, so that a lazy unmount leaves as little as can be. */
static void leave(struct process *p)
{
    if (p->left)
        return;
    log_msg(LOG_NOTICE, "%s: asked to end: writing back %llu bytes", p->o->mountpoint,
            (unsigned long long)dirty_bytes(p));
    front_flush_all(p->state.front);
    if (!is_in_place(p)) {
        log_msg(LOG_NOTICE, "%s: not mounted there any more, or covered: not unmounted",
                p->o->mountpoint);
        return;
    }
    int rc = mounts_detach(p->o->mountpoint, false);
    if (rc == -EBUSY) {
        log_msg(LOG_NOTICE, "%s: in use: out of sight, but served until the last user is done",
                p->o->mountpoint);
        rc = mounts_detach(p->o->mountpoint, true);
    }
    p->left = rc == 0;
    /* -EINVAL: nothing is mounted there any more. */
    if (rc < 0 && rc != -EINVAL)
        log_msg(LOG_ERR, "%s: cannot unmount: %s", p->o->mountpoint, strerror(-rc));
}

static void serve(struct process *p)
{
    struct pollfd fds[] = {{.fd = p->end_fd, .events = POLLIN},
                           {.fd = p->signal_fd, .events = POLLIN}};
    struct signalfd_siginfo info;

    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents)
            break;
        while (read(p->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
            if (info.ssi_signo != SIGHUP) /* the terminal it was started from is of no matter */
                leave(p);
    }
}

/* Nobody can add to it any more. Ends when all is committed, or discarded by a person. */
static void write_back_all(struct process *p)
{
    struct timespec pause = {.tv_sec = 0, .tv_nsec = 100000000};
    static struct log_limit limit;

    for (;;) {
        int rc = front_flush_all(p->state.front);
        uint64_t dirty = dirty_bytes(p);
        if (dirty == 0)
            return;
        if (atomic_load(&p->state.given_up)) {
            mount_discard_rest(&p->state);
            if (dirty_bytes(p) == 0)
                return;
        }
        log_limited(&limit, LOG_WARNING, "%s: unmounted, %llu bytes still dirty (%s): trying again",
                    p->o->mountpoint, (unsigned long long)dirty,
                    rc < 0 ? strerror(-rc) : "in flight");
        nanosleep(&pause, NULL);
        if (pause.tv_sec == 0)
            pause = (struct timespec){.tv_sec = 1};
    }
}

/* ---- down --------------------------------------------------------------------------------- */

/* All is committed: what still waits for a server that is away (a revalidation somebody asked for)
 * may keep nobody waiting for us. */
static void *end_anyway(void *arg)
{
    struct timespec patience = {.tv_sec = END_PATIENCE_S};

    (void)arg;
    while (nanosleep(&patience, &patience) < 0 && errno == EINTR)
        ;
    log_msg(LOG_NOTICE, "ending with requests unanswered; nothing is dirty");
    _exit(0);
}

static void take_down(struct process *p)
{
    pthread_t watchdog;

    if (pthread_create(&watchdog, NULL, end_anyway, NULL) == 0)
        pthread_detach(watchdog);
    if (p->state.front)
        cache_resize_stop(p->state.front->cache);
    control_stop(p->control);
    for (unsigned i = 0; i < p->nstarted; i++) {
        loop_stop(p->loops[i]);
        loop_join(p->loops[i]);
    }
    if (p->state.front)
        front_free(p->state.front);
    if (p->state.remote)
        p->state.remote->ops->destroy(p->state.remote);
    for (unsigned i = 0; i < p->nloops; i++)
        loop_free(p->loops[i]);
    if (p->creds)
        credtab_destroy(p->creds);
    if (p->has_arena)
        arena_close(&p->arena);
    if (p->signal_fd >= 0)
        close(p->signal_fd);
    if (p->end_fd >= 0)
        close(p->end_fd);
}

int mount_run(const struct mount_options *o, const struct mount_events *events,
              char err[MOUNT_ERROR_MAX])
{
    struct process p = {.o = o,
                        .events = events,
                        .err = err,
                        .signal_fd = -1,
                        .end_fd = -1,
                        .state = {.options = o, .start_ns = now_ns()}};

    err[0] = 0;
    raise_limits();
    int rc = catch_signals(&p);
    if (rc < 0)
        failed(&p, rc, "signals");
    if (rc == 0)
        rc = make_arena(&p);
    if (rc == 0)
        rc = make_loops(&p);
    if (rc == 0)
        rc = reach_server_interruptibly(&p);
    if (rc == 0)
        rc = make_front(&p);
    if (rc == 0) {
        make_control(&p);
        log_msg(LOG_DEBUG, "%s: mounted on %s", o->source, o->mountpoint);
        events->ready(events->arg);
        serve(&p);
        write_back_all(&p);
    }
    take_down(&p);
    return rc;
}
