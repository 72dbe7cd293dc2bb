// SPDX-License-Identifier: Apache-2.0
/* Attributes, errors and names between NFSv3 and the directory; see the header. */
#include "daemon/serve/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452 /* Linux 6.6 */
#endif

static const struct {
    int error;
    uint32_t status;
} errors[] = {
    {EPERM, NFS3ERR_PERM},
    {ENOENT, NFS3ERR_NOENT},
    {EIO, NFS3ERR_IO},
    {ENXIO, NFS3ERR_NXIO},
    {EACCES, NFS3ERR_ACCES},
    {EEXIST, NFS3ERR_EXIST},
    {EXDEV, NFS3ERR_XDEV},
    {ENODEV, NFS3ERR_NODEV},
    {ENOTDIR, NFS3ERR_NOTDIR},
    {EISDIR, NFS3ERR_ISDIR},
    {EINVAL, NFS3ERR_INVAL},
    {ELOOP, NFS3ERR_INVAL},
    {EOVERFLOW, NFS3ERR_INVAL},
    {EFBIG, NFS3ERR_FBIG},
    {ENOSPC, NFS3ERR_NOSPC},
    {EROFS, NFS3ERR_ROFS},
    {EMLINK, NFS3ERR_MLINK},
    {ENAMETOOLONG, NFS3ERR_NAMETOOLONG},
    {ENOTEMPTY, NFS3ERR_NOTEMPTY},
    {EDQUOT, NFS3ERR_DQUOT},
    {ESTALE, NFS3ERR_STALE},
    {EBADMSG, NFS3ERR_BADHANDLE},
    {EOPNOTSUPP, NFS3ERR_NOTSUPP},
    {ENOSYS, NFS3ERR_NOTSUPP},
    {ETXTBSY, NFS3ERR_ACCES},
    {EBUSY, NFS3ERR_ACCES},
    /* What will pass: the client is to ask again. */
    {ENOMEM, NFS3ERR_JUKEBOX},
    {EAGAIN, NFS3ERR_JUKEBOX},
    {EMFILE, NFS3ERR_JUKEBOX},
    {ENFILE, NFS3ERR_JUKEBOX},
};

uint32_t serve_status_of(int rc)
{
    if (rc >= 0)
        return NFS3_OK;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (errors[i].error == -rc)
            return errors[i].status;
    return NFS3ERR_IO;
}

uint32_t serve_name_copy(const filename3 *name, char out[256])
{
    if (name->len == 0)
        return NFS3ERR_INVAL;
    if (name->len > 255)
        return NFS3ERR_NAMETOOLONG;
    if (memchr(name->data, '\0', name->len))
        return NFS3ERR_INVAL;
    if (memchr(name->data, '/', name->len))
        return NFS3ERR_ACCES;
    memcpy(out, name->data, name->len);
    out[name->len] = '\0';
    return NFS3_OK;
}

static ftype3 type_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return NF3DIR;
    case S_IFBLK:
        return NF3BLK;
    case S_IFCHR:
        return NF3CHR;
    case S_IFLNK:
        return NF3LNK;
    case S_IFSOCK:
        return NF3SOCK;
    case S_IFIFO:
        return NF3FIFO;
    default:
        return NF3REG;
    }
}

static nfstime3 time_of(const struct timespec *ts)
{
    return (nfstime3){.seconds = (u_int)ts->tv_sec, .nseconds = (u_int)ts->tv_nsec};
}

bool serve_put_post_op(XDR *out, const struct server *srv, const struct stat *st)
{
    post_op_attr attr = {.attributes_follow = st != NULL};

    if (st)
        attr.post_op_attr_u.attributes = (fattr3){
            .type = type_of(st->st_mode),
            .mode = st->st_mode & 07777,
            .nlink = (u_int)st->st_nlink,
            .uid = st->st_uid,
            .gid = st->st_gid,
            .size = (size3)st->st_size,
            .used = (size3)st->st_blocks * 512,
            .rdev = {major(st->st_rdev), minor(st->st_rdev)},
            .fsid = srv->fsid,
            .fileid = st->st_ino,
            .atime = time_of(&st->st_atim),
            .mtime = time_of(&st->st_mtim),
            .ctime = time_of(&st->st_ctim),
        };
    return xdr_post_op_attr(out, &attr);
}

bool serve_put_wcc(XDR *out, const struct server *srv, const struct wcc *wcc)
{
    pre_op_attr before = {.attributes_follow = wcc->has_before};

    if (wcc->has_before)
        before.pre_op_attr_u.attributes = (wcc_attr){
            .size = (size3)wcc->before.st_size,
            .mtime = time_of(&wcc->before.st_mtim),
            .ctime = time_of(&wcc->before.st_ctim),
        };
    return xdr_pre_op_attr(out, &before) &&
           serve_put_post_op(out, srv, wcc->has_after ? &wcc->after : NULL);
}

int serve_stat_shown(struct server *srv, const nfs_fh3 *fh, int fd, struct stat *st)
{
    struct inode *inode;
    int rc = serve_inode_stat(NULL, fd, st);

    /* Directories have nothing uncommitted, and the caller may hold the locks of some: taking
     * another one would close a circle. */
    if (rc != 0 || !S_ISREG(st->st_mode) || !(inode = serve_inode_find(&srv->inodes, fh)))
        return rc;
    serve_inode_lock(inode);
    rc = serve_inode_stat(inode, fd, st);
    serve_inode_unlock(inode);
    serve_inode_put(&srv->inodes, inode);
    return rc;
}

int serve_check_access(const struct call *call, int fd, const struct stat *st, int mode,
                       bool owner_override)
{
    if (owner_override && call->cred.uid == st->st_uid)
        return 0;
    if (syscall(SYS_faccessat2, fd, "", mode, AT_EMPTY_PATH | AT_EACCESS) != 0)
        return -errno;
    return 0;
}

/* chmod of an O_PATH descriptor. */
static int change_mode(int fd, mode_t mode)
{
    char proc[64];

    if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0)
        return 0;
    if (errno != ENOSYS)
        return -errno;
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    return chmod(proc, mode) == 0 ? 0 : -errno;
}

static struct timespec time_to_set(const set_time *t)
{
    switch (t->set_it) {
    case SET_TO_SERVER_TIME:
        return (struct timespec){.tv_nsec = UTIME_NOW};
    case SET_TO_CLIENT_TIME:
        return (struct timespec){.tv_sec = t->set_time_u.time.seconds,
                                 .tv_nsec = t->set_time_u.time.nseconds};
    default:
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    }
}

static int change_size(struct call *call, const nfs_fh3 *fh, int fd, struct inode *inode,
                       const struct stat *st, size3 size)
{
    int rc;

    if (S_ISDIR(st->st_mode))
        return -EISDIR;
    if (!S_ISREG(st->st_mode))
        return -EINVAL;
    if (size > INT64_MAX)
        return -EFBIG;
    rc = serve_check_access(call, fd, st, W_OK, true);
    if (rc != 0)
        return rc;
    serve_cred_become_server();
    int wfd = export_open_fh(call->srv->exp, fh, O_WRONLY);
    rc = wfd < 0 ? wfd : serve_cred_become(&call->cred);
    if (rc == 0 && ftruncate(wfd, (off_t)size) != 0)
        rc = -errno;
    if (rc == 0 && inode)
        serve_inode_truncate(&call->srv->inodes, inode, size);
    if (wfd >= 0)
        close(wfd);
    else
        serve_cred_become(&call->cred);
    return rc;
}

/* Uncommitted bytes go out first: they would set the times anew when they went later. */
static int flush_for_times(struct call *call, const nfs_fh3 *fh, struct inode *inode)
{
    if (!inode || !serve_inode_uncommitted(inode))
        return 0;
    serve_cred_become_server();
    int wfd = export_open_fh(call->srv->exp, fh, O_WRONLY);
    int rc = wfd < 0 ? wfd : serve_inode_flush(&call->srv->inodes, inode, wfd);
    if (wfd >= 0)
        close(wfd);
    int again = serve_cred_become(&call->cred);
    return rc ? rc : again;
}

int serve_sattr_apply(struct call *call, const nfs_fh3 *fh, int fd, struct inode *inode,
                      const struct stat *st, const sattr3 *sattr)
{
    int rc = 0;

    if (sattr->size.set_it)
        rc = change_size(call, fh, fd, inode, st, sattr->size.set_size3_u.size);
    if (rc == 0 && (sattr->uid.set_it || sattr->gid.set_it)) {
        uid_t uid = sattr->uid.set_it ? sattr->uid.set_uid3_u.uid : (uid_t)-1;
        gid_t gid = sattr->gid.set_it ? sattr->gid.set_gid3_u.gid : (gid_t)-1;
        if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0)
            rc = -errno;
    }
    if (rc == 0 && sattr->mode.set_it && !S_ISLNK(st->st_mode))
        rc = change_mode(fd, sattr->mode.set_mode3_u.mode & 07777);
    if (rc == 0 && (sattr->atime.set_it != DONT_CHANGE || sattr->mtime.set_it != DONT_CHANGE)) {
        struct timespec times[2] = {time_to_set(&sattr->atime), time_to_set(&sattr->mtime)};
        rc = flush_for_times(call, fh, inode);
        /* Both "now" is what anybody with write access may ask for (utimensat(2)). */
        if (rc == 0 && utimensat(fd, "", times, AT_EMPTY_PATH) != 0)
            rc = -errno;
    }
    if (inode)
        serve_inode_changed(inode, fd);
    return rc;
}
