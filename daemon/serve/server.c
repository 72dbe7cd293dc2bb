// SPDX-License-Identifier: Apache-2.0
/*
 * The server as a whole: start, stop, reboot, and the commands that change it while it runs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "daemon/serve/internal.h"

#define UNCOMMITTED_DEFAULT (1UL << 30)

static void new_write_verf(struct server *srv)
{
    uint8_t old[8];

    memcpy(old, srv->write_verf, 8);
    do {
        if (getrandom(srv->write_verf, 8, 0) != 8)
            srv->write_verf[0]++;
    } while (memcmp(old, srv->write_verf, 8) == 0);
}

static int resolve_file(void *arg, const char *path, nfs_fh3 *fh)
{
    struct server *srv = arg;
    int fd = export_open_path(srv->exp, path);
    int rc;

    if (fd < 0)
        return fd;
    rc = export_fh(srv->exp, NULL, NULL, fd, fh);
    close(fd);
    return rc;
}

static void server_free(struct server *srv)
{
    itable_destroy(&srv->inodes);
    faults_destroy(&srv->faults);
    drc_free(srv->drc);
    for (unsigned i = 0; i < srv->nmounts; i++)
        free(srv->mounts[i].path);
    export_close(srv->exp);
    pthread_rwlock_destroy(&srv->epoch);
    pthread_mutex_destroy(&srv->lock);
    free(srv);
}

static unsigned default_threads(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    long threads = cpus * 2;

    return threads < 4 ? 4 : threads > 16 ? 16 : (unsigned)threads;
}

int server_start(const struct server_options *options, struct server **out, char *err,
                 size_t errlen)
{
    struct server *srv = calloc(1, sizeof(*srv));
    pthread_rwlockattr_t attr;
    struct statfs fs;
    int rc;

    if (!srv || !(srv->drc = drc_new())) {
        free(srv);
        snprintf(err, errlen, "out of memory");
        return -ENOMEM;
    }
    srv->opt = *options;
    if (!srv->opt.threads)
        srv->opt.threads = default_threads();
    srv->listen_fd = srv->epfd = srv->wake_fd = srv->stop_fd = srv->timer_fd = -1;
    srv->control_fd = -1;
    STAILQ_INIT(&srv->queue);
    STAILQ_INIT(&srv->delayed);
    pthread_mutex_init(&srv->lock, NULL);
    /* A reboot must not wait for a moment without calls. */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&srv->epoch, &attr);
    pthread_rwlockattr_destroy(&attr);
    new_write_verf(srv);
    faults_init(&srv->faults);
    srv->faults.resolve = resolve_file;
    srv->faults.resolve_arg = srv;

    rc = export_open(options->directory, options->key_file, options->path_handles, &srv->exp);
    itable_init(&srv->inodes, srv->exp,
                options->uncommitted_max ? options->uncommitted_max : UNCOMMITTED_DEFAULT,
                options->no_fsync);
    if (rc != 0) {
        snprintf(err, errlen, "directory '%s': %s", options->directory, strerror(-rc));
    } else {
        if (statfs(export_path(srv->exp), &fs) == 0)
            memcpy(&srv->fsid, &fs.f_fsid, sizeof(srv->fsid));
        rc = serve_net_start(srv, err, errlen);
        if (rc == 0)
            rc = serve_control_start(srv, err, errlen);
        if (rc != 0) {
            serve_control_stop(srv);
            serve_net_stop(srv);
        }
    }
    /* The caller's strings are not kept. */
    srv->opt.directory = srv->opt.bind = srv->opt.control = srv->opt.key_file = NULL;
    if (rc != 0) {
        server_free(srv);
        return rc;
    }
    *out = srv;
    return 0;
}

int server_stop(struct server *srv)
{
    int rc;

    serve_control_stop(srv);
    serve_net_stop(srv);
    rc = itable_commit_all(&srv->inodes);
    server_free(srv);
    return rc;
}

uint16_t server_port(const struct server *srv)
{
    return srv->port;
}

const char *server_directory(const struct server *srv)
{
    return export_path(srv->exp);
}

void server_reboot(struct server *srv, uint64_t down_ms)
{
    pthread_rwlock_wrlock(&srv->epoch);
    pthread_mutex_lock(&srv->lock);
    srv->down_until_ms = serve_now_ms() + down_ms;
    pthread_mutex_unlock(&srv->lock);
    itable_reboot(&srv->inodes);
    drc_clear(srv->drc);
    new_write_verf(srv);
    /* Under the lock: no call of before may be answered as if nothing had happened. */
    serve_net_disconnect_all(srv);
    pthread_rwlock_unlock(&srv->epoch);
    atomic_fetch_add(&srv->reboots, 1);
}

void server_print_stats(struct server *srv, FILE *out)
{
    fprintf(out, "%-12s %10s %8s %14s %10s\n", "procedure", "calls", "errors", "bytes", "mean us");
    for (unsigned i = 0; i < SERVE_NPROCS; i++) {
        struct proc_stats *stats = &srv->stats[i];
        unsigned long long calls = atomic_load(&stats->calls);
        if (calls)
            fprintf(out, "%-12s %10llu %8llu %14llu %10.1f\n", serve_proc_name(i), calls,
                    atomic_load(&stats->errors), atomic_load(&stats->bytes),
                    (double)atomic_load(&stats->ns) / 1000.0 / (double)calls);
    }
    pthread_mutex_lock(&srv->inodes.lock);
    size_t memory = srv->inodes.memory;
    uint64_t spills = srv->inodes.spills;
    pthread_mutex_unlock(&srv->inodes.lock);
    fprintf(out,
            "connections %llu, replayed %llu, reboots %llu, uncommitted bytes of memory %zu, files "
            "committed early %llu\n",
            atomic_load(&srv->connections), atomic_load(&srv->drc_replays),
            atomic_load(&srv->reboots), memory, (unsigned long long)spills);
}

static bool answer(FILE *out, bool ok, const char *message)
{
    if (ok)
        fprintf(out, "ok\n");
    else
        fprintf(out, "error: %s\n", message);
    return ok;
}

/* Commit everything now, as a shutdown would. In a thread of its own ids: the control thread's. */
static bool command_commit(struct server *srv, FILE *out)
{
    pthread_rwlock_rdlock(&srv->epoch);
    int rc = itable_commit_all(&srv->inodes);
    pthread_rwlock_unlock(&srv->epoch);
    return answer(out, rc == 0, strerror(-rc));
}

static bool command_add(struct server *srv, const char *spec, FILE *out)
{
    char err[512];
    int id = faults_add(&srv->faults, spec, err, sizeof(err));

    if (id < 0)
        return answer(out, false, err);
    fprintf(out, "fault %d\n", id);
    return answer(out, true, NULL);
}

/* Whether TEXT is empty or a number; it is left in *VALUE (0 when empty). */
static bool optional_number(const char *text, unsigned long *value)
{
    char *end;

    *value = strtoul(text, &end, 10);
    return *end == '\0' && (text[0] == '\0' || (text[0] >= '0' && text[0] <= '9'));
}

bool server_command(struct server *srv, const char *line, FILE *out)
{
    char copy[4096], *arg;
    unsigned long number;

    if ((size_t)snprintf(copy, sizeof(copy), "%s", line) >= sizeof(copy))
        return answer(out, false, "line too long");
    copy[strcspn(copy, "\r\n")] = '\0';
    char *word = copy + strspn(copy, " \t");
    arg = word + strcspn(word, " \t");
    if (*arg)
        *arg++ = '\0';
    arg += strspn(arg, " \t");

    if (strcasecmp(word, "add") == 0)
        return command_add(srv, arg, out);
    if (strchr(word, ':'))
        return command_add(srv, line + (word - copy), out);
    if (strcasecmp(word, "list") == 0) {
        faults_list(&srv->faults, out);
        return answer(out, true, NULL);
    }
    if (strcasecmp(word, "stats") == 0) {
        server_print_stats(srv, out);
        return answer(out, true, NULL);
    }
    if (strcasecmp(word, "clear") == 0) {
        if (!optional_number(arg, &number))
            return answer(out, false, "want clear or clear ID");
        return answer(out, faults_clear(&srv->faults, (unsigned)number), "no fault of that number");
    }
    if (strcasecmp(word, "reboot") == 0) {
        if (!optional_number(arg, &number))
            return answer(out, false, "want reboot or reboot MILLISECONDS");
        server_reboot(srv, number);
        return answer(out, true, NULL);
    }
    if (strcasecmp(word, "pause") == 0) {
        atomic_store(&srv->paused, true);
        return answer(out, true, NULL);
    }
    if (strcasecmp(word, "resume") == 0) {
        atomic_store(&srv->paused, false);
        serve_net_resume(srv);
        return answer(out, true, NULL);
    }
    if (strcasecmp(word, "disconnect") == 0) {
        serve_net_disconnect_all(srv);
        return answer(out, true, NULL);
    }
    if (strcasecmp(word, "commit") == 0)
        return command_commit(srv, out);

    char message[512];
    snprintf(
        message, sizeof(message),
        "'%.200s' is not understood: want a fault PROC[,PROC]|all:ACTION[=ARG][:KEY=VALUE]..., "
        "or clear [ID], list, reboot [MS], pause, resume, disconnect, commit or stats",
        word);
    return answer(out, false, message);
}
