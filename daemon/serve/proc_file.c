// SPDX-License-Identifier: Apache-2.0
/*
 * Procedures on one file: GETATTR, SETATTR, ACCESS, READLINK, READ, WRITE, COMMIT
 * (RFC 1813 sections 3.3.1, 3.3.2, 3.3.4 to 3.3.7, 3.3.21).
 *
 * All open by handle with the server's ids, and check with the caller's. WRITE and SETATTR hold the
 * inode's lock from the attributes before to those after, so that wcc_data is atomic against all
 * other calls (not against processes that work in the directory).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/serve/attr.h"

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define AUTO_FD __attribute__((cleanup(close_fd))) int

uint32_t proc_getattr(struct call *call, XDR *in, XDR *out)
{
    nfs_fh3 fh;
    struct stat st;

    if (!xdr_nfs_fh3(in, &fh))
        return PROC_GARBAGE;
    AUTO_FD fd = export_open_fh(call->srv->exp, &fh, O_PATH);
    int rc = fd < 0 ? fd : serve_stat_shown(call->srv, &fh, fd, &st);
    if (rc != 0)
        return serve_status_of(rc);
    /* GETATTR alone answers with bare attributes: encode the optional form, take its flag off. */
    u_int at = xdr_getpos(out);
    if (!serve_put_post_op(out, call->srv, &st))
        return NFS3ERR_SERVERFAULT;
    u_int end = xdr_getpos(out);
    xdr_setpos(out, at);
    char *base = (char *)XDR_INLINE(out, end - at);
    memmove(base, base + 4, end - at - 4);
    xdr_setpos(out, end - 4);
    return NFS3_OK;
}

uint32_t proc_setattr(struct call *call, XDR *in, XDR *out)
{
    struct server *srv = call->srv;
    SETATTR3args args;
    struct wcc wcc = {0};
    int rc;

    memset(&args, 0, sizeof(args));
    if (!xdr_SETATTR3args(in, &args))
        return PROC_GARBAGE;
    AUTO_FD fd = export_open_fh(srv->exp, &args.object, O_PATH);
    if (fd < 0)
        return serve_status_of(fd);
    struct inode *inode = serve_inode_get(&srv->inodes, &args.object);
    if (!inode)
        return NFS3ERR_JUKEBOX;
    serve_inode_lock(inode);
    rc = serve_inode_stat(inode, fd, &wcc.before);
    wcc.has_before = rc == 0;
    uint32_t status = serve_status_of(rc);
    if (rc == 0 && args.guard.check) {
        const nfstime3 *ctime = &args.guard.sattrguard3_u.obj_ctime;
        if (ctime->seconds != (u_int)wcc.before.st_ctim.tv_sec ||
            ctime->nseconds != (u_int)wcc.before.st_ctim.tv_nsec)
            status = NFS3ERR_NOT_SYNC;
    }
    if (status == NFS3_OK) {
        rc = serve_cred_become(&call->cred);
        if (rc == 0)
            rc =
                serve_sattr_apply(call, &args.object, fd, inode, &wcc.before, &args.new_attributes);
        status = serve_status_of(rc);
    }
    wcc.has_after = serve_inode_stat(inode, fd, &wcc.after) == 0;
    serve_inode_unlock(inode);
    serve_inode_put(&srv->inodes, inode);
    serve_put_wcc(out, srv, &wcc);
    return status;
}

uint32_t proc_access(struct call *call, XDR *in, XDR *out)
{
    ACCESS3args args;
    struct stat st;
    u_int granted = 0;

    memset(&args, 0, sizeof(args));
    if (!xdr_ACCESS3args(in, &args))
        return PROC_GARBAGE;
    AUTO_FD fd = export_open_fh(call->srv->exp, &args.object, O_PATH);
    int rc = fd < 0 ? fd : serve_stat_shown(call->srv, &args.object, fd, &st);
    if (rc == 0)
        rc = serve_cred_become(&call->cred);
    if (rc != 0)
        return serve_status_of(rc);
    bool dir = S_ISDIR(st.st_mode);
    if (serve_check_access(call, fd, &st, R_OK, false) == 0)
        granted |= ACCESS3_READ;
    if (serve_check_access(call, fd, &st, W_OK, false) == 0 && !call->srv->opt.read_only)
        granted |= ACCESS3_MODIFY | ACCESS3_EXTEND | (dir ? ACCESS3_DELETE : 0);
    if (serve_check_access(call, fd, &st, X_OK, false) == 0)
        granted |= dir ? ACCESS3_LOOKUP : ACCESS3_EXECUTE;
    granted &= args.access;
    serve_put_post_op(out, call->srv, &st);
    xdr_u_int(out, &granted);
    return NFS3_OK;
}

uint32_t proc_readlink(struct call *call, XDR *in, XDR *out)
{
    nfs_fh3 fh;
    struct stat st;
    char target[4096];

    if (!xdr_nfs_fh3(in, &fh))
        return PROC_GARBAGE;
    AUTO_FD fd = export_open_fh(call->srv->exp, &fh, O_PATH);
    int rc = fd < 0 ? fd : serve_stat_shown(call->srv, &fh, fd, &st);
    if (rc != 0)
        return serve_status_of(rc);
    serve_put_post_op(out, call->srv, &st);
    if (!S_ISLNK(st.st_mode))
        return NFS3ERR_INVAL;
    ssize_t n = readlinkat(fd, "", target, sizeof(target));
    if (n < 0)
        return serve_status_of(-errno);
    nfspath3 path = {.len = (uint32_t)n, .data = (const uint8_t *)target};
    return xdr_nfspath3(out, &path) ? NFS3_OK : NFS3ERR_SERVERFAULT;
}

/* The status for a file that cannot hold data; NFS3_OK for a regular one. */
static uint32_t want_regular(const struct stat *st)
{
    if (S_ISREG(st->st_mode))
        return NFS3_OK;
    return S_ISDIR(st->st_mode) ? NFS3ERR_ISDIR : NFS3ERR_INVAL;
}

static ssize_t read_fully(int fd, uint8_t *buf, size_t len, off_t off)
{
    size_t have = 0;

    while (have < len) {
        ssize_t n = pread(fd, buf + have, len - have, off + (off_t)have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    return (ssize_t)have;
}

/* Read LEN bytes into the reply; what is uncommitted lies over them. */
static int read_data(struct call *call, const READ3args *args, int fd, size_t len, struct stat *st,
                     bool *eof)
{
    struct server *srv = call->srv;
    struct reply *reply = call->reply;
    struct inode *inode = serve_inode_find(&srv->inodes, &args->file);
    ssize_t n = 0;
    int rc;

    if (inode)
        serve_inode_lock(inode);
    bool overlaid = inode && serve_inode_uncommitted(inode);
    n = read_fully(fd, reply->data, len, (off_t)args->offset);
    if (n >= 0 && overlaid)
        n = (ssize_t)serve_inode_patch(inode, fd, args->offset, reply->data, (size_t)n, len, eof);
    rc = n < 0 ? (int)n : serve_inode_stat(inode, fd, st);
    if (inode) {
        serve_inode_unlock(inode);
        serve_inode_put(&srv->inodes, inode);
    }
    if (rc != 0)
        return rc;
    /* Nothing is the end, whatever the size is by now: as Linux's server (nfsd_eof_on_read()). */
    if (!overlaid)
        *eof = (n == 0 && len) || args->offset + (uint64_t)n >= (uint64_t)st->st_size;
    reply->data_len = (size_t)n;
    reply->pad = (4 - ((size_t)n & 3)) & 3;
    return 0;
}

uint32_t proc_read(struct call *call, XDR *in, XDR *out)
{
    struct server *srv = call->srv;
    READ3args args;
    struct stat st;
    bool eof = false;
    size_t len;
    int rc;

    memset(&args, 0, sizeof(args));
    if (!xdr_READ3args(in, &args))
        return PROC_GARBAGE;
    snprintf(call->note, sizeof(call->note), "%llu+%u", (unsigned long long)args.offset,
             args.count);
    len = args.count < SERVE_MAX_IO ? args.count : SERVE_MAX_IO;
    if (call->plan.has_short_read && len > call->plan.short_read)
        len = call->plan.short_read;
    AUTO_FD path_fd = export_open_fh(srv->exp, &args.file, O_PATH);
    if (path_fd < 0)
        return serve_status_of(path_fd);
    if (fstat(path_fd, &st) != 0)
        return serve_status_of(-errno);
    uint32_t status = want_regular(&st);
    if (status != NFS3_OK)
        return status;
    if (args.offset > INT64_MAX - len)
        return NFS3ERR_INVAL;
    rc = serve_cred_become(&call->cred);
    if (rc == 0)
        rc = serve_check_access(call, path_fd, &st, R_OK, true);
    /* Who may execute a file may read it: the client has to, to execute it. */
    if (rc == -EACCES)
        rc = serve_check_access(call, path_fd, &st, X_OK, true);
    if (rc != 0)
        return serve_status_of(rc);
    serve_cred_become_server();
    AUTO_FD fd = export_open_fh(srv->exp, &args.file, O_RDONLY);
    if (fd < 0)
        return serve_status_of(fd);
    call->reply->data = serve_buf_get(len, &call->reply->data_cap);
    if (!call->reply->data)
        return NFS3ERR_JUKEBOX;
    rc = read_data(call, &args, fd, len, &st, &eof);
    if (rc != 0)
        return serve_status_of(rc);
    u_int count = (u_int)call->reply->data_len;
    bool_t is_eof = eof;
    serve_put_post_op(out, srv, &st);
    xdr_u_int(out, &count);
    xdr_bool(out, &is_eof);
    xdr_u_int(out, &count); /* the length of the opaque data, which follows in reply->data */
    return NFS3_OK;
}

static int write_fully(int fd, const uint8_t *buf, size_t len, off_t off)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, buf, len, off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        buf += n;
        len -= (size_t)n;
        off += n;
    }
    return 0;
}

/* WRITE into the directory itself. Inode's lock held; leaves with the server's ids. */
static int write_through(struct call *call, const WRITE3args *args, struct inode *inode, size_t len)
{
    struct server *srv = call->srv;
    int rc;

    serve_cred_become_server();
    AUTO_FD fd = export_open_fh(srv->exp, &args->file, O_WRONLY);
    if (fd < 0)
        return fd;
    rc = serve_inode_flush(&srv->inodes, inode, fd);
    /* The caller's ids: without CAP_FSETID the kernel takes set-id bits off. */
    if (rc == 0)
        rc = serve_cred_become(&call->cred);
    if (rc == 0)
        rc = write_fully(fd, args->data.data, len, (off_t)args->offset);
    serve_cred_become_server();
    if (rc == 0 && args->stable != UNSTABLE && !srv->opt.no_fsync && fsync(fd) != 0)
        rc = -errno;
    serve_inode_changed(inode, fd);
    return rc;
}

/* Whether the file may become so long: what cannot be committed must not be accepted. File systems
 * have limits of their own, which lseek(2) knows (EINVAL). */
static int check_length(struct call *call, const WRITE3args *args, size_t len)
{
    if (args->offset + len <= INT32_MAX)
        return 0;
    AUTO_FD fd = export_open_fh(call->srv->exp, &args->file, O_WRONLY);
    if (fd < 0)
        return fd;
    return lseek(fd, (off_t)(args->offset + len), SEEK_SET) < 0 ? -EFBIG : 0;
}

/* WRITE kept apart until COMMIT. Inode's lock held, caller's ids. */
static int write_apart(struct call *call, const WRITE3args *args, int fd, struct inode *inode,
                       const struct stat *st, size_t len)
{
    serve_cred_become_server();
    /* The data goes out with the server's ids later, which would leave set-id bits in place. */
    if (call->cred.uid != 0 && (st->st_mode & (S_ISUID | S_ISGID))) {
        char proc[64];
        snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
        if (chmod(proc, st->st_mode & 07777 & ~(S_ISUID | S_ISGID)) != 0)
            return -errno;
    }
    int rc = check_length(call, args, len);
    return rc ? rc
              : serve_inode_write(&call->srv->inodes, inode, fd, args->offset, args->data.data,
                                  len);
}

uint32_t proc_write(struct call *call, XDR *in, XDR *out)
{
    struct server *srv = call->srv;
    WRITE3args args;
    struct wcc wcc = {0};
    int rc;

    memset(&args, 0, sizeof(args));
    if (!xdr_WRITE3args(in, &args) || args.stable > FILE_SYNC)
        return PROC_GARBAGE;
    snprintf(call->note, sizeof(call->note), "%llu+%u %s", (unsigned long long)args.offset,
             args.data.len,
             args.stable == UNSTABLE    ? "unstable"
             : args.stable == DATA_SYNC ? "data-sync"
                                        : "file-sync");
    size_t len = args.count < args.data.len ? args.count : args.data.len;
    if (call->plan.has_short_write && len > call->plan.short_write)
        len = call->plan.short_write;
    AUTO_FD fd = export_open_fh(srv->exp, &args.file, O_PATH);
    if (fd < 0)
        return serve_status_of(fd);
    itable_spill(&srv->inodes);
    struct inode *inode = serve_inode_get(&srv->inodes, &args.file);
    if (!inode)
        return NFS3ERR_JUKEBOX;
    serve_inode_lock(inode);
    rc = serve_inode_stat(inode, fd, &wcc.before);
    wcc.has_before = rc == 0;
    uint32_t status = rc == 0 ? want_regular(&wcc.before) : serve_status_of(rc);
    if (status == NFS3_OK && args.offset > INT64_MAX - len)
        status = NFS3ERR_FBIG;
    if (status == NFS3_OK) {
        rc = serve_cred_become(&call->cred);
        if (rc == 0)
            rc = serve_check_access(call, fd, &wcc.before, W_OK, true);
        if (rc == 0 && len > 0)
            rc = args.stable == UNSTABLE && !srv->opt.write_through
                     ? write_apart(call, &args, fd, inode, &wcc.before, len)
                     : write_through(call, &args, inode, len);
        status = serve_status_of(rc);
    }
    serve_cred_become_server();
    wcc.has_after = serve_inode_stat(inode, fd, &wcc.after) == 0;
    serve_inode_unlock(inode);
    serve_inode_put(&srv->inodes, inode);
    serve_put_wcc(out, srv, &wcc);
    if (status == NFS3_OK) {
        u_int count = (u_int)len;
        xdr_u_int(out, &count);
        xdr_stable_how(out, &args.stable);
        xdr_opaque(out, (char *)srv->write_verf, sizeof(srv->write_verf));
        atomic_fetch_add(&srv->stats[NFSPROC3_WRITE].bytes, len);
    }
    return status;
}

uint32_t proc_commit(struct call *call, XDR *in, XDR *out)
{
    struct server *srv = call->srv;
    COMMIT3args args;
    struct wcc wcc = {0};
    uint32_t status;
    int rc;

    memset(&args, 0, sizeof(args));
    if (!xdr_COMMIT3args(in, &args))
        return PROC_GARBAGE;
    AUTO_FD path_fd = export_open_fh(srv->exp, &args.file, O_PATH);
    if (path_fd < 0)
        return serve_status_of(path_fd);
    struct inode *inode = serve_inode_get(&srv->inodes, &args.file);
    if (!inode)
        return NFS3ERR_JUKEBOX;
    serve_inode_lock(inode);
    rc = serve_inode_stat(inode, path_fd, &wcc.before);
    wcc.has_before = rc == 0;
    status = rc == 0 ? want_regular(&wcc.before) : serve_status_of(rc);
    AUTO_FD fd = -1;
    if (status == NFS3_OK) {
        /* The whole file whatever range was asked for, as the RFC allows. */
        fd = export_open_fh(srv->exp, &args.file,
                            serve_inode_uncommitted(inode) ? O_WRONLY : O_RDONLY);
        rc = fd < 0 ? fd : serve_inode_flush(&srv->inodes, inode, fd);
        status = serve_status_of(rc);
    }
    wcc.has_after = serve_inode_stat(inode, path_fd, &wcc.after) == 0;
    serve_inode_unlock(inode);
    serve_inode_put(&srv->inodes, inode);
    /* Without the lock: other calls for the file need not wait for the disk. */
    if (status == NFS3_OK && !srv->opt.no_fsync && fdatasync(fd) != 0)
        status = serve_status_of(-errno);
    serve_put_wcc(out, srv, &wcc);
    if (status == NFS3_OK)
        xdr_opaque(out, (char *)srv->write_verf, sizeof(srv->write_verf));
    return status;
}
