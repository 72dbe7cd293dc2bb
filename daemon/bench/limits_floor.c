// SPDX-License-Identifier: Apache-2.0
/*
 * The least that a read through a FUSE file system over NFS can cost: one request and one
 * bare READ, overlapped with others; small, or of 1 MiB as the kernel reads ahead. And what it
 * costs to push dirty mapped pages out by the kernel's notification alone: a request, and a WRITE,
 * for each of them.
 *
 * A child serves a mount with a single file, in one loop: a FUSE READ becomes an NFS READ of raw
 * libnfs, its reply the reply; likewise WRITE. No cache, no lock, no other thread, but the one that
 * sends the notification when setxattr("user.drop") asks for it. The FUSE settings are those of
 * memfs.c. The cells read4k read blocks of 4 KiB in random order, with the pages dropped before,
 * as `bench io` does.
 */
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/bench/child.h"
#include "daemon/bench/io.h"
#include "daemon/bench/limits_raw.h"
#include "daemon/bench/target.h"

#define FOREVER 86400.0
#define SECONDS 0.5
enum { BLOCK = 4096, FILE_INO = 2 };

/* ---- the child ------------------------------------------------------------------------------- */

static struct {
    struct rpc_context *rpc;
    struct fuse_session *session;
    size_t size;
} server;

static void stat_of(fuse_ino_t ino, struct stat *st)
{
    *st = (struct stat){.st_ino = ino, .st_nlink = 1, .st_mode = S_IFREG | 0666};
    if (ino == FUSE_ROOT_ID)
        st->st_mode = S_IFDIR | 0755;
    else
        st->st_size = (off_t)server.size;
}

static void floor_init(void *userdata, struct fuse_conn_info *conn)
{
    conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ |
                              FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
    conn->want |= conn->capable & (FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_ASYNC_READ);
    conn->max_write = 1 << 20;
    conn->max_readahead = 1 << 20;
    conn->max_background = 64;
}

static void floor_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e = {
        .ino = FILE_INO, .attr_timeout = FOREVER, .entry_timeout = FOREVER};

    stat_of(FILE_INO, &e.attr);
    fuse_reply_entry(req, &e);
}

static void floor_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;

    stat_of(ino, &st);
    fuse_reply_attr(req, &st, FOREVER);
}

static void floor_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    fi->keep_cache = 1;
    if ((fi->flags & O_ACCMODE) == O_RDONLY)
        fi->noflush = 1;
    fuse_reply_open(req, fi);
}

static void on_floor_read(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct READ3res *res = data;
    fuse_req_t req = arg;

    if (status == RPC_STATUS_SUCCESS && res->status == NFS3_OK)
        fuse_reply_buf(req, res->READ3res_u.resok.data.data_val, res->READ3res_u.resok.count);
    else
        fuse_reply_err(req, EIO);
}

static void floor_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    struct READ3args args = {
        .file = raw_fh(&raw.file), .offset = (uint64_t)off, .count = (unsigned)size};

    if (rpc_nfs3_read_async(server.rpc, on_floor_read, &args, req))
        fuse_reply_err(req, EIO);
}

static void on_floor_write(struct rpc_context *rpc, int status, void *data, void *arg)
{
    struct WRITE3res *res = data;
    fuse_req_t req = arg;

    if (status == RPC_STATUS_SUCCESS && res->status == NFS3_OK)
        fuse_reply_write(req, res->WRITE3res_u.resok.count);
    else
        fuse_reply_err(req, EIO);
}

/* libnfs makes the message at once: the buffer is free again afterwards. */
static void floor_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                        struct fuse_file_info *fi)
{
    struct WRITE3args args = {.file = raw_fh(&raw.file),
                              .offset = (uint64_t)off,
                              .count = (unsigned)size,
                              .stable = UNSTABLE,
                              .data = {(unsigned)size, (char *)buf}};

    if (rpc_nfs3_write_async(server.rpc, on_floor_write, &args, req))
        fuse_reply_err(req, EIO);
}

/* By a thread of its own: while it runs the loop gets a WRITE for each dirty page. */
static void *drop_pages(void *arg)
{
    int rc = fuse_lowlevel_notify_inval_inode(server.session, FILE_INO, 0, 0);

    fuse_reply_err(arg, -rc);
    return NULL;
}

static void floor_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
                           size_t size, int flags)
{
    pthread_t thread;

    if (strcmp(name, "user.drop") != 0 || pthread_create(&thread, NULL, drop_pages, req))
        fuse_reply_err(req, ENOTSUP);
    else
        pthread_detach(thread);
}

static void floor_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    fuse_reply_err(req, 0);
}

static void floor_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
    fuse_reply_none(req);
}

static const struct fuse_lowlevel_ops floor_ops = {.init = floor_init,
                                                   .lookup = floor_lookup,
                                                   .forget = floor_forget,
                                                   .getattr = floor_getattr,
                                                   .open = floor_open,
                                                   .read = floor_read,
                                                   .write = floor_write,
                                                   .flush = floor_release,
                                                   .setxattr = floor_setxattr,
                                                   .release = floor_release};

/* All requests that wait; then what they ask for is sent at once. */
static void take_requests(struct fuse_session *session, struct fuse_buf *buf)
{
    for (;;) {
        int got = fuse_session_receive_buf(session, buf);

        if (got == -EINTR)
            continue;
        if (got <= 0) {
            if (got != -EAGAIN)
                fuse_session_exit(session);
            break;
        }
        fuse_session_process_buf(session, buf);
    }
    if (rpc_which_events(server.rpc) & POLLOUT && rpc_service(server.rpc, POLLOUT) < 0)
        fuse_session_exit(session);
}

static void serve(struct fuse_session *session)
{
    struct fuse_buf buf = {0};
    int fd = fuse_session_fd(session);

    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK))
        return;
    while (!fuse_session_exited(session)) {
        struct pollfd p[2] = {
            {.fd = fd, .events = POLLIN},
            {.fd = rpc_get_fd(server.rpc), .events = (short)rpc_which_events(server.rpc)}};

        if (poll(p, 2, -1) < 0 && errno != EINTR)
            break;
        if (p[1].revents && rpc_service(server.rpc, p[1].revents) < 0)
            break;
        if (p[0].revents)
            take_requests(session, &buf);
    }
    free(buf.mem);
}

static int floor_serve(const void *arg, const char *mountpoint)
{
    const struct limits_options *o = arg;
    char *argv[] = {"nfscached-floor", "-o", "fsname=floor,subtype=nfscached-floor", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    struct raw_wait w = {0};
    int rc = 1;

    /* The parent's connection is not ours to use, nor to close. */
    server.rpc = raw_connect(&w, o->nfs.host, o->nfs.port, NFS_PROGRAM);
    server.size = (size_t)o->mib << 20;
    if (!server.rpc)
        return 1;

    struct fuse_session *session = fuse_session_new(&args, &floor_ops, sizeof floor_ops, NULL);

    server.session = session;
    if (session && fuse_set_signal_handlers(session) == 0) {
        if (fuse_session_mount(session, mountpoint) == 0) {
            rc = 0;
            serve(session);
            fuse_session_unmount(session);
        }
        fuse_remove_signal_handlers(session);
        fuse_session_destroy(session);
    }
    fuse_opt_free_args(&args);
    return rc;
}

/* ---- the parent ------------------------------------------------------------------------------ */

static struct child_mount mounted = {.what = "fuse+libnfs"};

static void floor_stop(void *arg)
{
    child_unmount(&mounted);
    raw_stop(arg);
}

/* The file is there, and mounted: 1. Else what a cell returns. */
static int ready(struct cell *c, char path[300])
{
    const struct limits_options *o = cell_arg(c);
    static struct raw_wait w;

    if (!raw_start(o))
        return cell_fail(c, "%s", raw.why_not);
    if (!raw_fill(&w, o))
        return raw_failed(c, &w);
    if (!child_mount(&mounted, floor_serve, o))
        return cell_skip(c, "%s", mounted.why_not);
    snprintf(path, 300, "%s/data", mounted.dir);
    return 1;
}

static int read_random(struct cell *c, unsigned threads)
{
    const struct limits_options *o = cell_arg(c);
    char path[300];
    int go = ready(c, path);

    if (go != 1)
        return go;

    struct io_job job = {.fd = open(path, O_RDONLY | O_CLOEXEC),
                         .block = BLOCK,
                         .blocks = ((size_t)o->mib << 20) / BLOCK,
                         .seconds = SECONDS};
    int rc = job.fd < 0 ? -errno : -posix_fadvise(job.fd, 0, 0, POSIX_FADV_DONTNEED);

    if (rc == 0)
        rc = io_job_shuffle(&job, bench_now());
    if (rc == 0)
        rc = io_job_run(&job, threads);
    if (rc == 0 && !bench_stopped()) {
        cell_sample(c, "mb_s", "MB/s", BETTER_MORE, (double)job.done * BLOCK / job.us);
        cell_histogram(c, "op", &job.latency);
    }
    free(job.order);
    if (job.fd >= 0)
        close(job.fd);
    return rc < 0 ? cell_fail(c, "%s: %s", path, strerror(-rc)) : 0;
}

/* The whole file in order, 1 MiB at a time, as `bench io` reads it; and what that costs the child.
 */
static int run_read(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    size_t total = 0, size = (size_t)o->mib << 20;
    char path[300], *buffer;
    double before = 0, after = 0;
    ssize_t n = 0;
    int go = ready(c, path);

    if (go != 1)
        return go;
    buffer = malloc(1 << 20);

    int fd = buffer ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    int error = fd < 0 ? errno : posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    bool knows_cpu = target_cpu(mounted.child, &before);
    uint64_t start = bench_now();

    while (!error && !bench_stopped() && (n = read(fd, buffer, 1 << 20)) > 0)
        total += (size_t)n;
    if (n < 0)
        error = errno;

    double us = bench_us_since(start);

    knows_cpu = knows_cpu && target_cpu(mounted.child, &after);
    if (fd >= 0)
        close(fd);
    free(buffer);
    if (bench_stopped())
        return 0;
    if (error || total < size)
        return cell_fail(c, "%s: %s", path, error ? strerror(error) : "short");
    cell_sample(c, "mb_s", "MB/s", BETTER_MORE, (double)total / us);
    if (knows_cpu && after - before > 0.1) /* it is counted in hundredths of a second */
        cell_sample(c, "cpu_s_gib", "s/GiB", BETTER_LESS,
                    (after - before) * (1 << 30) / (double)total);
    return 0;
}

static int run_read_1(struct cell *c)
{
    return read_random(c, 1);
}

static int run_read_16(struct cell *c)
{
    return read_random(c, 16);
}

/* Stores into every page, then has the kernel notified: us, or negative errno. */
static double drop_us(const char *path, size_t size)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    char *map = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    double us = -errno;

    if (map != MAP_FAILED) {
        for (size_t at = 0; at < size; at += BLOCK)
            map[at] = 1;

        uint64_t start = bench_now();

        us = setxattr(path, "user.drop", "1", 1, 0) < 0 ? -errno : bench_us_since(start);
        munmap(map, size);
    }
    if (fd >= 0)
        close(fd);
    return us;
}

static int run_drop_dirty(struct cell *c)
{
    const struct limits_options *o = cell_arg(c);
    /* Not so much that the kernel begins to write by itself, many pages at a time. */
    size_t size = (size_t)(o->mib < 4 ? o->mib : 4) << 20;
    char path[300];
    int go = ready(c, path);

    if (go != 1)
        return go;

    double us = drop_us(path, size);

    if (us < 0)
        return cell_fail(c, "dropping the pages of %s: %s", path, strerror((int)-us));
    cell_sample(c, "page_ns", "ns", BETTER_LESS, us * 1e3 / (double)(size / BLOCK));
    return 0;
}

void limits_add_floor(struct matrix *m, const struct limits_options *o)
{
    static const struct {
        const char *work;
        cell_fn run;
    } cells[] = {{"read", run_read},
                 {"read4k-1", run_read_1},
                 {"read4k-16", run_read_16},
                 {"drop-dirty", run_drop_dirty}};

    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
        struct cell *c = matrix_add(m, "limits", "fuse+libnfs", cells[i].run, (void *)o);
        cell_param(c, "work", "%s", cells[i].work);
        cell_at_end(c, floor_stop);
        mounted.users++;
        raw.users++;
    }
}
