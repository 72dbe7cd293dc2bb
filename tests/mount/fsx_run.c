// SPDX-License-Identifier: Apache-2.0
/* Executes operations on the file and on its model, and compares; see fsx.h. */
#include "tests/mount/fsx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096

static bool fail(struct fsx *x, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool fail(struct fsx *x, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (!x->failed)
        vsnprintf(x->why, sizeof x->why, fmt, ap);
    va_end(ap);
    x->failed = true;
    return false;
}

static char content(uint32_t id, uint32_t pos)
{
    return (char)(t_mix((uint64_t)id << 32 | pos / 8) >> pos % 8 * 8);
}

static bool same(struct fsx *x, const char *got, uint32_t off, uint32_t len, const char *how)
{
    uint32_t bad = 0, first = 0, last = 0;
    if (!memcmp(got, x->model + off, len))
        return true;
    for (uint32_t i = 0; i < len; i++)
        if (got[i] != x->model[off + i]) {
            if (!bad++)
                first = i;
            last = i;
        }
    return fail(x,
                "%s [%#x,+%#x) of %#x: %u bytes differ from %#x to %#x; first is %#04x, should be "
                "%#04x",
                how, off, len, x->size, bad, off + first, off + last, (uint8_t)got[first],
                (uint8_t)x->model[off + first]);
}

static bool open_all(struct fsx *x)
{
    struct stat st;
    x->fd = open(x->path, O_RDWR);
    x->append_fd = open(x->path, O_WRONLY | O_APPEND);
    x->direct_fd = x->direct ? open(x->path, O_RDWR | O_DIRECT) : -1;
    if (x->fd < 0 || x->append_fd < 0 || (x->direct && x->direct_fd < 0))
        return fail(x, "open: %s", strerror(errno));
    x->map = mmap(NULL, (size_t)x->max_len, PROT_READ | PROT_WRITE, MAP_SHARED, x->fd, 0);
    if (x->map == MAP_FAILED) {
        x->map = NULL;
        return fail(x, "mmap: %s", strerror(errno));
    }
    if (fstat(x->fd, &st) || st.st_size != x->size)
        return fail(x, "size after open is %lld, should be %u", (long long)st.st_size, x->size);
    return true;
}

static bool close_all(struct fsx *x)
{
    int rc = 0;
    if (x->map)
        munmap(x->map, (size_t)x->max_len);
    x->map = NULL;
    if (x->fd >= 0)
        rc |= close(x->fd);
    if (x->append_fd >= 0)
        rc |= close(x->append_fd);
    if (x->direct_fd >= 0)
        rc |= close(x->direct_fd);
    x->fd = x->append_fd = x->direct_fd = -1;
    return rc ? fail(x, "close: %s", strerror(errno)) : true;
}

static void model_write(struct fsx *x, const struct op *o, uint32_t off, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        x->model[off + i] = content(o->id, off + i);
    if (off + len > x->size)
        x->size = off + len;
}

static bool do_write(struct fsx *x, const struct op *o, int fd, uint32_t off, uint32_t len,
                     char *buf)
{
    ssize_t n;
    if (off + len > (uint32_t)x->max_len)
        len = (uint32_t)x->max_len - off;
    if (!len)
        return true;
    model_write(x, o, off, len);
    memcpy(buf, x->model + off, len);
    n = fd == x->append_fd ? write(fd, buf, len) : pwrite(fd, buf, len, off);
    if (n != (ssize_t)len)
        return fail(x, "%s [%#x,+%#x): %zd: %s", fsx_op_name[o->kind], off, len, n,
                    n < 0 ? strerror(errno) : "short");
    return true;
}

static bool do_read(struct fsx *x, int fd, uint32_t off, uint32_t len, char *buf, const char *how)
{
    uint32_t want = off >= x->size ? 0 : off + len > x->size ? x->size - off : len;
    ssize_t n = pread(fd, buf, len, off);
    if (n != (ssize_t)want)
        return fail(x, "%s [%#x,+%#x) of %#x gave %zd (%s), should be %u", how, off, len, x->size,
                    n, n < 0 ? strerror(errno) : "", want);
    return same(x, buf, off, want, how);
}

static bool do_truncate(struct fsx *x, const char *path, uint32_t size)
{
    if (path ? truncate(path, size) : ftruncate(x->fd, size))
        return fail(x, "truncate to %#x: %s", size, strerror(errno));
    if (size < x->size)
        memset(x->model + size, 0, x->size - size);
    x->size = size;
    return true;
}

static bool do_seek(struct fsx *x, uint32_t off, bool hole)
{
    off_t r = lseek(x->fd, off, hole ? SEEK_HOLE : SEEK_DATA);
    if (r < 0) {
        if (errno == ENXIO && (off >= x->size || !hole)) {
            /* No data behind: then all of it must be zero. */
            for (uint32_t i = off; i < x->size; i++)
                if (x->model[i])
                    return fail(x, "SEEK_DATA %#x of %#x: ENXIO, data at %#x", off, x->size, i);
            return true;
        }
        return fail(x, "lseek %s %#x of %#x: %s", hole ? "HOLE" : "DATA", off, x->size,
                    strerror(errno));
    }
    if (off >= x->size || r < off || r > x->size)
        return fail(x, "lseek %s %#x of %#x gave %#llx", hole ? "HOLE" : "DATA", off, x->size,
                    (long long)r);
    if (hole)
        return true;
    for (uint32_t i = off; i < r; i++)
        if (x->model[i])
            return fail(x, "SEEK_DATA %#x of %#x gave %#llx, but data at %#x", off, x->size,
                        (long long)r, i);
    return true;
}

static bool do_other(struct fsx *x, const struct op *o)
{
    struct stat st;
    bool ok = false;
    int fd;

    if (!close_all(x))
        return false;
    fd = open(x->other, O_RDWR);
    if (fd < 0)
        return fail(x, "open %s: %s", x->other, strerror(errno));
    if (fstat(fd, &st) || st.st_size != x->size)
        fail(x, "after close the size at the other path is %lld, should be %u",
             (long long)st.st_size, x->size);
    else
        ok = do_read(x, fd, 0, (uint32_t)x->max_len, x->buf, "after close, the other path");
    if (ok && o->kind == OP_FOREIGN_WRITE)
        ok = do_write(x, o, fd, o->off, o->len, x->buf);
    if (ok && o->kind == OP_FOREIGN_TRUNCATE)
        ok = do_truncate(x, x->other, o->off);
    if (close(fd) && ok)
        ok = fail(x, "close of the other path: %s", strerror(errno));
    return ok && open_all(x);
}

static bool do_op(struct fsx *x, const struct op *o)
{
    uint32_t off = o->off, len = o->len, end = off + len;
    struct stat st;
    int fd;

    switch ((enum fsx_op)o->kind) {
    case OP_READ:
        return do_read(x, x->fd, off, len, x->buf, "read");
    case OP_WRITE:
        return do_write(x, o, x->fd, off, len, x->buf);
    case OP_APPEND:
        return do_write(x, o, x->append_fd, x->size, len, x->buf);
    case OP_TRUNCATE:
        return do_truncate(x, NULL, off);
    case OP_MAPREAD:
    case OP_MAPWRITE:
        if (off >= x->size)
            return true;
        if (end > x->size)
            len = x->size - off;
        if (o->kind == OP_MAPREAD) {
            memcpy(x->buf, x->map + off, len);
            return same(x, x->buf, off, len, "mapped read");
        }
        model_write(x, o, off, len);
        memcpy(x->map + off, x->model + off, len);
        return true;
    case OP_MSYNC:
        off &= ~(uint32_t)(PAGE - 1);
        if (len > (uint32_t)x->max_len - off)
            len = (uint32_t)x->max_len - off; /* what is mapped behind it is not ours */
        if (off < x->size && msync(x->map + off, len, MS_SYNC))
            return fail(x, "msync: %s", strerror(errno));
        return true;
    case OP_FSYNC:
        return (len & 1 ? fsync(x->fd) : fdatasync(x->fd)) ? fail(x, "fsync: %s", strerror(errno))
                                                           : true;
    case OP_REOPEN:
        return close_all(x) && open_all(x);
    case OP_DROP_KERNEL:
        madvise(x->map, (size_t)x->max_len, MADV_DONTNEED);
        posix_fadvise(x->fd, 0, 0, POSIX_FADV_DONTNEED);
        return true;
    case OP_REVALIDATE:
        if (x->reval_cmd && len % 8 == 0)
            return t_run(x->reval_cmd) ? fail(x, "the revalidate command failed") : true;
        fd = open(x->path, O_RDONLY);
        return fd < 0 || close(fd) ? fail(x, "second open: %s", strerror(errno)) : true;
    case OP_DROP_DAEMON:
        return x->drop_cmd && t_run(x->drop_cmd) ? fail(x, "the drop command failed") : true;
    case OP_DIRECT_READ:
    case OP_DIRECT_WRITE:
        if (!x->direct)
            return true;
        off &= ~(uint32_t)(PAGE - 1);
        len = (len + PAGE - 1) & ~(uint32_t)(PAGE - 1);
        if (off + len > (uint32_t)x->max_len)
            len = (uint32_t)x->max_len - off;
        if (o->kind == OP_DIRECT_READ)
            return do_read(x, x->direct_fd, off, len, x->dio, "direct read");
        return do_write(x, o, x->direct_fd, off, len, x->dio);
    case OP_SEEK:
        return do_seek(x, off, len & 1);
    case OP_STAT:
        if (len & 1 ? stat(x->path, &st) : fstat(x->fd, &st))
            return fail(x, "stat: %s", strerror(errno));
        return st.st_size == x->size
                   ? true
                   : fail(x, "stat: size %lld, should be %u", (long long)st.st_size, x->size);
    case OP_VERIFY:
    case OP_FOREIGN_WRITE:
    case OP_FOREIGN_TRUNCATE:
        return !*x->other || do_other(x, o);
    case OP_COUNT:
        break;
    }
    return fail(x, "no such operation");
}

int fsx_run(struct fsx *x, const struct op *list, int n)
{
    static int run;
    char name[64];
    int bad = -1, fd;

    snprintf(name, sizeof name, "fsx-%d-%d", (int)getpid(), run++);
    snprintf(x->path, sizeof x->path, "%s/%s", x->mount, name);
    x->other[0] = 0;
    if (x->verify)
        snprintf(x->other, sizeof x->other, "%s/%s", x->verify, name);
    setenv("FSX_FILE", x->path, 1);
    memset(x->model, 0, (size_t)x->max_len);
    x->size = 0;
    x->failed = false;
    x->fd = x->append_fd = x->direct_fd = -1;
    fd = open(x->path, O_RDWR | O_CREAT | O_EXCL, 0666);
    if (fd < 0)
        t_die("create %s", x->path);
    close(fd);
    if (!open_all(x))
        bad = 0;
    for (int i = 0; i < n && bad < 0; i++) {
        watch_beat(x->watch, 0);
        if (!do_op(x, &list[i]))
            bad = i;
        else if (x->every && i % x->every == x->every - 1 && t_run(x->every_cmd)) {
            fail(x, "the command of --every failed");
            bad = i;
        }
        x->done[list[i].kind]++;
    }
    if (bad < 0 && *x->other && !do_other(x, &(struct op){.kind = OP_VERIFY}))
        bad = n - 1;
    close_all(x);
    unlink(x->path);
    return bad;
}
