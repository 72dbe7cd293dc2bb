// SPDX-License-Identifier: Apache-2.0
/*
 * Procedures on names: LOOKUP, CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, RENAME, LINK
 * (RFC 1813 sections 3.3.3, 3.3.8 to 3.3.15).
 *
 * A dirop holds what they share: the directory open, its inode locked, its attributes before; names
 * are one component each, checked by serve_name_copy, and "." and ".." are refused wherever an
 * object is made or removed. ".." is refused in LOOKUP too: a client knows the parents of what it
 * looked up, and the server need not prove that a parent is still inside the export.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "daemon/serve/attr.h"

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define AUTO_FD __attribute__((cleanup(close_fd))) int

struct dirop {
    struct call *call;
    nfs_fh3 fh;
    char name[256];
    int fd;
    struct inode *inode;
    bool locked;
    struct wcc wcc;
};

static bool is_dot(const char *name)
{
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static uint32_t dirop_open(struct dirop *op, struct call *call, const diropargs3 *where)
{
    struct server *srv = call->srv;
    uint32_t status;

    memset(op, 0, sizeof(*op));
    op->call = call;
    op->fh = where->dir;
    op->fd = export_open_fh(srv->exp, &op->fh, O_PATH);
    if (op->fd < 0)
        return serve_status_of(op->fd);
    /* Before anything is locked: only directories may be locked first (inode.h). */
    if (fstat(op->fd, &op->wcc.before) != 0)
        return serve_status_of(-errno);
    if (!S_ISDIR(op->wcc.before.st_mode))
        return NFS3ERR_NOTDIR;
    op->inode = serve_inode_get(&srv->inodes, &op->fh);
    if (!op->inode)
        return NFS3ERR_JUKEBOX;
    status = serve_name_copy(&where->name, op->name);
    snprintf(call->note, sizeof(call->note), "%.60s", op->name);
    return status;
}

static uint32_t dirop_before(struct dirop *op)
{
    int rc = serve_inode_stat(op->inode, op->fd, &op->wcc.before);

    op->wcc.has_before = rc == 0;
    return serve_status_of(rc);
}

static void dirop_after(struct dirop *op)
{
    if (op->inode)
        op->wcc.has_after = serve_inode_stat(op->inode, op->fd, &op->wcc.after) == 0;
}

/* Open, lock, look, take on the caller's ids. */
static uint32_t dirop_begin(struct dirop *op, struct call *call, const diropargs3 *where)
{
    uint32_t status = dirop_open(op, call, where);

    if (op->inode) {
        serve_inode_lock(op->inode);
        op->locked = true;
        uint32_t look = dirop_before(op);
        if (look != NFS3_OK)
            status = look;
    }
    if (status == NFS3_OK)
        status = serve_status_of(serve_cred_become(&call->cred));
    return status;
}

static void dirop_close(struct dirop *op)
{
    serve_inode_put(&op->call->srv->inodes, op->inode);
    if (op->fd >= 0)
        close(op->fd);
}

static void dirop_end(struct dirop *op)
{
    dirop_after(op);
    if (op->locked)
        serve_inode_unlock(op->inode);
    dirop_close(op);
}

/* An object of the directory: its O_PATH descriptor, handle and attributes. */
struct object {
    int fd;
    nfs_fh3 fh;
    struct stat st;
};

static int object_open(struct dirop *op, const char *name, struct object *object)
{
    struct server *srv = op->call->srv;
    int rc;

    object->fd = export_open_at(op->fd, name, O_PATH, 0);
    if (object->fd < 0)
        return object->fd == -EXDEV ? -EACCES : object->fd;
    rc = export_fh(srv->exp, &op->fh, name, object->fd, &object->fh);
    if (rc == 0)
        rc = serve_stat_shown(srv, &object->fh, object->fd, &object->st);
    if (rc != 0) {
        close(object->fd);
        object->fd = -1;
    }
    return rc;
}

uint32_t proc_lookup(struct call *call, XDR *in, XDR *out)
{
    struct server *srv = call->srv;
    struct object object = {.fd = -1};
    struct dirop op;
    diropargs3 args;
    uint32_t status;

    memset(&args, 0, sizeof(args));
    if (!xdr_diropargs3(in, &args))
        return PROC_GARBAGE;
    status = dirop_begin(&op, call, &args);
    if (status == NFS3_OK && strcmp(op.name, "..") == 0)
        status = NFS3ERR_ACCES;
    if (op.locked) {
        serve_inode_unlock(op.inode);
        op.locked = false;
    }
    if (status == NFS3_OK && strcmp(op.name, ".") == 0) {
        object = (struct object){.fd = -1, .fh = op.fh, .st = op.wcc.before};
    } else if (status == NFS3_OK) {
        status = serve_status_of(object_open(&op, op.name, &object));
    }
    if (status == NFS3_OK) {
        xdr_nfs_fh3(out, &object.fh);
        serve_put_post_op(out, srv, &object.st);
    }
    serve_put_post_op(out, srv, op.wcc.has_before ? &op.wcc.before : NULL);
    if (object.fd >= 0)
        close(object.fd);
    dirop_close(&op);
    return status;
}

/* ---- making objects ---- */

static void put_new_object(XDR *out, struct server *srv, const struct dirop *op, uint32_t status,
                           const struct object *object)
{
    bool_t follows = TRUE;

    if (status == NFS3_OK) {
        nfs_fh3 fh = object->fh;
        xdr_bool(out, &follows);
        xdr_nfs_fh3(out, &fh);
        serve_put_post_op(out, srv, &object->st);
    }
    serve_put_wcc(out, srv, &op->wcc);
}

static mode_t mode_of(const sattr3 *sattr, mode_t otherwise)
{
    return sattr->mode.set_it ? sattr->mode.set_mode3_u.mode & 07777 : otherwise;
}

/* Find the new object, and give it what the call that made it could not. */
static int object_finish(struct dirop *op, const sattr3 *sattr, struct object *object)
{
    struct call *call = op->call;
    sattr3 rest = *sattr;
    int rc = object_open(op, op->name, object);

    if (rc != 0)
        return rc;
    /* The mode was given at creation but for bits that mkdir and mknod leave out. */
    if (!rest.mode.set_it ||
        (object->st.st_mode & 07777 & ~S_ISGID) == (rest.mode.set_mode3_u.mode & 07777))
        rest.mode.set_it = FALSE;
    /* Asking for one's own uid or gid is no change, and must not need a privilege. */
    if (rest.uid.set_it && rest.uid.set_uid3_u.uid == object->st.st_uid)
        rest.uid.set_it = FALSE;
    if (rest.gid.set_it && rest.gid.set_gid3_u.gid == object->st.st_gid)
        rest.gid.set_it = FALSE;
    if (S_ISDIR(object->st.st_mode) || S_ISLNK(object->st.st_mode))
        rest.size.set_it = FALSE;
    rc = serve_sattr_apply(call, &object->fh, object->fd, NULL, &object->st, &rest);
    if (rc == 0 && fstat(object->fd, &object->st) != 0)
        rc = -errno;
    return rc;
}

/* An EXCLUSIVE CREATE leaves its verifier in the times, where its replay finds it after a restart
 * as well (RFC 1813 section 3.3.8). 31 bits each, which every file system can store. */
static void verf_times(const createverf3 verf, struct timespec times[2])
{
    uint32_t word[2];

    memcpy(word, verf, 8);
    times[0] = (struct timespec){.tv_sec = word[0] & 0x7fffffff};
    times[1] = (struct timespec){.tv_sec = word[1] & 0x7fffffff};
}

static uint32_t create_exists(struct dirop *op, const CREATE3args *args, struct object *object)
{
    struct call *call = op->call;
    int rc = object_open(op, op->name, object);

    if (rc != 0)
        return serve_status_of(rc);
    if (args->how.mode == GUARDED)
        return NFS3ERR_EXIST;
    if (args->how.mode == EXCLUSIVE) {
        struct timespec times[2];
        verf_times(args->how.createhow3_u.verf, times);
        return S_ISREG(object->st.st_mode) && object->st.st_atim.tv_sec == times[0].tv_sec &&
                       object->st.st_mtim.tv_sec == times[1].tv_sec && object->st.st_size == 0
                   ? NFS3_OK
                   : NFS3ERR_EXIST;
    }
    if (!S_ISREG(object->st.st_mode))
        return S_ISDIR(object->st.st_mode) ? NFS3ERR_ISDIR : NFS3ERR_EXIST;
    /* UNCHECKED on an existing file: its size only, as open(O_CREAT | O_TRUNC) does. */
    if (!args->how.createhow3_u.obj_attributes.size.set_it)
        return NFS3_OK;
    sattr3 size_only = {.size = args->how.createhow3_u.obj_attributes.size};
    struct inode *inode = serve_inode_get(&call->srv->inodes, &object->fh);
    if (!inode)
        return NFS3ERR_JUKEBOX;
    serve_inode_lock(inode);
    rc = serve_sattr_apply(call, &object->fh, object->fd, inode, &object->st, &size_only);
    if (rc == 0)
        rc = serve_inode_stat(inode, object->fd, &object->st);
    serve_inode_unlock(inode);
    serve_inode_put(&call->srv->inodes, inode);
    return serve_status_of(rc);
}

static uint32_t create_file(struct dirop *op, const CREATE3args *args, struct object *object)
{
    static const sattr3 nothing;
    bool exclusive = args->how.mode == EXCLUSIVE;
    const sattr3 *sattr = exclusive ? &nothing : &args->how.createhow3_u.obj_attributes;
    int rc = export_open_at(op->fd, op->name, O_CREAT | O_EXCL | O_WRONLY | O_NONBLOCK,
                            mode_of(sattr, exclusive ? 0600 : 0644));

    if (rc == -EEXIST)
        return create_exists(op, args, object);
    if (rc < 0)
        return serve_status_of(rc);
    AUTO_FD fd = rc;
    if (exclusive) {
        struct timespec times[2];
        verf_times(args->how.createhow3_u.verf, times);
        if (futimens(fd, times) != 0)
            return serve_status_of(-errno);
    }
    return serve_status_of(object_finish(op, sattr, object));
}

uint32_t proc_create(struct call *call, XDR *in, XDR *out)
{
    struct object object = {.fd = -1};
    struct dirop op;
    CREATE3args args;
    uint32_t status;

    memset(&args, 0, sizeof(args));
    if (!xdr_CREATE3args(in, &args))
        return PROC_GARBAGE;
    status = dirop_begin(&op, call, &args.where);
    if (status == NFS3_OK)
        status = is_dot(op.name) ? NFS3ERR_EXIST : create_file(&op, &args, &object);
    dirop_end(&op);
    put_new_object(out, call->srv, &op, status, &object);
    close_fd(&object.fd);
    return status;
}

uint32_t proc_mkdir(struct call *call, XDR *in, XDR *out)
{
    struct object object = {.fd = -1};
    struct dirop op;
    MKDIR3args args;
    uint32_t status;

    memset(&args, 0, sizeof(args));
    if (!xdr_MKDIR3args(in, &args))
        return PROC_GARBAGE;
    status = dirop_begin(&op, call, &args.where);
    if (status == NFS3_OK && is_dot(op.name))
        status = NFS3ERR_EXIST;
    if (status == NFS3_OK && mkdirat(op.fd, op.name, mode_of(&args.attributes, 0755)) != 0)
        status = serve_status_of(-errno);
    else if (status == NFS3_OK)
        status = serve_status_of(object_finish(&op, &args.attributes, &object));
    dirop_end(&op);
    put_new_object(out, call->srv, &op, status, &object);
    close_fd(&object.fd);
    return status;
}

uint32_t proc_symlink(struct call *call, XDR *in, XDR *out)
{
    struct object object = {.fd = -1};
    struct dirop op;
    SYMLINK3args args;
    char target[4096];
    uint32_t status;

    memset(&args, 0, sizeof(args));
    if (!xdr_SYMLINK3args(in, &args))
        return PROC_GARBAGE;
    status = dirop_begin(&op, call, &args.where);
    if (status == NFS3_OK && is_dot(op.name))
        status = NFS3ERR_EXIST;
    if (status == NFS3_OK && args.symlink_data.len >= sizeof(target))
        status = NFS3ERR_NAMETOOLONG;
    if (status == NFS3_OK &&
        (args.symlink_data.len == 0 || memchr(args.symlink_data.data, '\0', args.symlink_data.len)))
        status = NFS3ERR_INVAL;
    if (status == NFS3_OK) {
        memcpy(target, args.symlink_data.data, args.symlink_data.len);
        target[args.symlink_data.len] = '\0';
        if (symlinkat(target, op.fd, op.name) != 0)
            status = serve_status_of(-errno);
        else
            status = serve_status_of(object_finish(&op, &args.symlink_attributes, &object));
    }
    dirop_end(&op);
    put_new_object(out, call->srv, &op, status, &object);
    close_fd(&object.fd);
    return status;
}

uint32_t proc_mknod(struct call *call, XDR *in, XDR *out)
{
    struct object object = {.fd = -1};
    const sattr3 *sattr = NULL;
    struct dirop op;
    MKNOD3args args;
    mode_t type = 0;
    dev_t dev = 0;
    uint32_t status;

    memset(&args, 0, sizeof(args));
    if (!xdr_MKNOD3args(in, &args))
        return PROC_GARBAGE;
    status = dirop_begin(&op, call, &args.where);
    switch (args.what.type) {
    case NF3CHR:
    case NF3BLK:
        type = args.what.type == NF3CHR ? S_IFCHR : S_IFBLK;
        sattr = &args.what.mknoddata3_u.chr_device.dev_attributes;
        dev = makedev(args.what.mknoddata3_u.chr_device.spec.specdata1,
                      args.what.mknoddata3_u.chr_device.spec.specdata2);
        break;
    case NF3SOCK:
    case NF3FIFO:
        type = args.what.type == NF3SOCK ? S_IFSOCK : S_IFIFO;
        sattr = &args.what.mknoddata3_u.pipe_attributes;
        break;
    default:
        if (status == NFS3_OK)
            status = NFS3ERR_BADTYPE;
    }
    if (status == NFS3_OK && is_dot(op.name))
        status = NFS3ERR_EXIST;
    if (status == NFS3_OK && mknodat(op.fd, op.name, type | mode_of(sattr, 0644), dev) != 0)
        status = serve_status_of(-errno);
    else if (status == NFS3_OK)
        status = serve_status_of(object_finish(&op, sattr, &object));
    dirop_end(&op);
    put_new_object(out, call->srv, &op, status, &object);
    close_fd(&object.fd);
    return status;
}

/* ---- removing and moving names ---- */

/* The name of OBJECT went away: what the server remembers of the file must follow. */
static void object_unlinked(struct server *srv, const struct object *object)
{
    export_forget(srv->exp, &object->fh);
    if (S_ISREG(object->st.st_mode) && object->st.st_nlink <= 1)
        itable_forget(&srv->inodes, &object->fh);
}

static uint32_t remove_common(struct call *call, XDR *in, XDR *out, int flags)
{
    struct object object = {.fd = -1};
    struct dirop op;
    diropargs3 args;
    uint32_t status;

    memset(&args, 0, sizeof(args));
    if (!xdr_diropargs3(in, &args))
        return PROC_GARBAGE;
    status = dirop_begin(&op, call, &args);
    if (status == NFS3_OK && is_dot(op.name))
        status = op.name[1] ? NFS3ERR_EXIST : NFS3ERR_INVAL;
    if (status == NFS3_OK)
        status = serve_status_of(object_open(&op, op.name, &object));
    if (status == NFS3_OK && unlinkat(op.fd, op.name, flags) != 0)
        status = serve_status_of(-errno);
    else if (status == NFS3_OK)
        object_unlinked(call->srv, &object);
    dirop_end(&op);
    serve_put_wcc(out, call->srv, &op.wcc);
    close_fd(&object.fd);
    return status;
}

uint32_t proc_remove(struct call *call, XDR *in, XDR *out)
{
    return remove_common(call, in, out, 0);
}

uint32_t proc_rmdir(struct call *call, XDR *in, XDR *out)
{
    return remove_common(call, in, out, AT_REMOVEDIR);
}

static uint32_t rename_names(struct call *call, struct dirop *from, struct dirop *to)
{
    struct object source = {.fd = -1}, target = {.fd = -1};
    uint32_t status;

    if (is_dot(from->name) || is_dot(to->name))
        return NFS3ERR_EXIST;
    status = serve_status_of(object_open(from, from->name, &source));
    if (status == NFS3_OK) {
        bool replaces = object_open(to, to->name, &target) == 0 &&
                        memcmp(&source.fh, &target.fh, sizeof(source.fh)) != 0;
        if (renameat(from->fd, from->name, to->fd, to->name) != 0) {
            status = serve_status_of(-errno);
        } else {
            nfs_fh3 again;
            if (replaces)
                object_unlinked(call->srv, &target);
            /* Where it is found from now on (handles of kind 2 only). */
            export_fh(call->srv->exp, &to->fh, to->name, source.fd, &again);
        }
    }
    close_fd(&source.fd);
    close_fd(&target.fd);
    return status;
}

uint32_t proc_rename(struct call *call, XDR *in, XDR *out)
{
    struct dirop from, to;
    RENAME3args args;
    uint32_t status, second;

    memset(&args, 0, sizeof(args));
    if (!xdr_RENAME3args(in, &args))
        return PROC_GARBAGE;
    status = dirop_open(&from, call, &args.from);
    second = dirop_open(&to, call, &args.to);
    if (status == NFS3_OK)
        status = second;
    bool both = from.inode && to.inode;
    if (both) {
        serve_inode_lock_two(from.inode, to.inode);
        second = dirop_before(&from);
        if (status == NFS3_OK)
            status = second;
        second = dirop_before(&to);
        if (status == NFS3_OK)
            status = second;
        if (status == NFS3_OK)
            status = serve_status_of(serve_cred_become(&call->cred));
        if (status == NFS3_OK)
            status = rename_names(call, &from, &to);
        dirop_after(&from);
        dirop_after(&to);
        serve_inode_unlock_two(from.inode, to.inode);
    }
    serve_put_wcc(out, call->srv, &from.wcc);
    serve_put_wcc(out, call->srv, &to.wcc);
    dirop_close(&from);
    dirop_close(&to);
    return status;
}

uint32_t proc_link(struct call *call, XDR *in, XDR *out)
{
    struct server *srv = call->srv;
    struct dirop op;
    struct stat st;
    LINK3args args;
    bool has_st = false;
    uint32_t status;

    memset(&args, 0, sizeof(args));
    if (!xdr_LINK3args(in, &args))
        return PROC_GARBAGE;
    AUTO_FD fd = export_open_fh(srv->exp, &args.file, O_PATH);
    status = dirop_begin(&op, call, &args.link);
    if (fd < 0)
        status = serve_status_of(fd);
    if (status == NFS3_OK && is_dot(op.name))
        status = NFS3ERR_EXIST;
    if (status == NFS3_OK) {
        char proc[64];
        snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
        if (linkat(AT_FDCWD, proc, op.fd, op.name, AT_SYMLINK_FOLLOW) != 0)
            status = serve_status_of(-errno);
    }
    if (status == NFS3_OK) {
        struct inode *inode = serve_inode_find(&srv->inodes, &args.file);
        if (inode) {
            serve_inode_lock(inode);
            serve_inode_changed(inode, fd);
            serve_inode_unlock(inode);
            serve_inode_put(&srv->inodes, inode);
        }
    }
    if (fd >= 0)
        has_st = serve_stat_shown(srv, &args.file, fd, &st) == 0;
    dirop_end(&op);
    serve_put_post_op(out, srv, has_st ? &st : NULL);
    serve_put_wcc(out, srv, &op.wcc);
    return status;
}
