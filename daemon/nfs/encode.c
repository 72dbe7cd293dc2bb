// SPDX-License-Identifier: Apache-2.0
/*
 * A call as bytes: record marker, RPC header with AUTH_SYS (RFC 5531), arguments (RFC 1813).
 *
 * Arguments are encoded by libnfs's routines. Encoding the same call again gives the same bytes:
 * a server's reply cache may compare checksums of a retransmission with those of the original.
 */
#include <assert.h>
#include <endian.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "daemon/nfs/compat.h"

#include "daemon/nfs/client.h"

static_assert((int)NFS3_GETATTR == (int)PROC_GETATTR && (int)NFS3_COMMIT == (int)PROC_COMMIT, "");
static_assert((int)NF3FIFO == (int)T_FIFO && (int)NFS3ERR_JUKEBOX == (int)ST_JUKEBOX, "");
static_assert((int)ACCESS3_EXECUTE == (int)ACC_EXECUTE && NFS_PROGRAM == NFS3_PROG, "");
static_assert((int)FILE_SYNC == (int)REMOTE_FILE_SYNC, "");

/* RPC header 40, AUTH_SYS with 16 groups and the longest host name 160, verifier 8; arguments: two
 * handles, two names, settable attributes. */
#define ROOM 1400

enum nfs3_proc call_proc(const struct remote_call *call)
{
    static const uint8_t main_proc[REMOTE_OP_COUNT] = {
        [REMOTE_GETATTR] = PROC_GETATTR,   [REMOTE_SETATTR] = PROC_SETATTR,
        [REMOTE_LOOKUP] = PROC_LOOKUP,     [REMOTE_ACCESS] = PROC_ACCESS,
        [REMOTE_READLINK] = PROC_READLINK, [REMOTE_READ] = PROC_READ,
        [REMOTE_WRITE] = PROC_WRITE,       [REMOTE_CREATE] = PROC_CREATE,
        [REMOTE_MKDIR] = PROC_MKDIR,       [REMOTE_SYMLINK] = PROC_SYMLINK,
        [REMOTE_MKNOD] = PROC_MKNOD,       [REMOTE_REMOVE] = PROC_REMOVE,
        [REMOTE_RMDIR] = PROC_RMDIR,       [REMOTE_RENAME] = PROC_RENAME,
        [REMOTE_LINK] = PROC_LINK,         [REMOTE_READDIR] = PROC_READDIR,
        [REMOTE_FSSTAT] = PROC_FSSTAT,     [REMOTE_FSINFO] = PROC_FSINFO,
        [REMOTE_PATHCONF] = PROC_PATHCONF, [REMOTE_COMMIT] = PROC_COMMIT,
    };
    switch ((enum step)call->p.step) {
    case STEP_MAIN:
        if (call->op == REMOTE_READDIR && call->u.readdir.plus)
            return PROC_READDIRPLUS;
        return main_proc[call->op];
    case STEP_OBJ_GETATTR:
        return PROC_GETATTR;
    case STEP_EXCL_SETATTR:
        return PROC_SETATTR;
    case STEP_VERIFY_TEXT:
        return PROC_READLINK;
    case STEP_OBJ_LOOKUP:
    case STEP_VERIFY_GONE:
    case STEP_VERIFY_RENAMED:
    case STEP_VERIFY_MADE:
        break;
    }
    return PROC_LOOKUP;
}

size_t call_encode_room(const struct remote_call *call)
{
    return call->op == REMOTE_SYMLINK ? ROOM + NFS3_PATH_MAX : ROOM;
}

static nfs_fh3 fh_arg(const struct fh *fh)
{
    return (nfs_fh3){.data = {.data_len = fh->len, .data_val = (char *)(uintptr_t)fh->data}};
}

static diropargs3 name_arg(const struct fh *dir, const char *name)
{
    return (diropargs3){.dir = fh_arg(dir), .name = (char *)(uintptr_t)name};
}

/* The wire has unsigned 32-bit seconds (RFC 1813 2.5): the nearest that it can say. */
static nfstime3 time_arg(struct timespec t)
{
    if (t.tv_sec < 0)
        return (nfstime3){0, 0};
    if (t.tv_sec > UINT32_MAX)
        return (nfstime3){UINT32_MAX, 0};
    return (nfstime3){(uint32_t)t.tv_sec, (uint32_t)t.tv_nsec};
}

static sattr3 sattr_arg(const struct remote_setattr *s)
{
    sattr3 a;
    memset(&a, 0, sizeof(a));
    a.mode.set_it = !!(s->set & REMOTE_SET_MODE);
    a.mode.set_mode3_u.mode = s->mode & 07777;
    a.uid.set_it = !!(s->set & REMOTE_SET_UID);
    a.uid.set_uid3_u.uid = s->uid;
    a.gid.set_it = !!(s->set & REMOTE_SET_GID);
    a.gid.set_gid3_u.gid = s->gid;
    a.size.set_it = !!(s->set & REMOTE_SET_SIZE);
    a.size.set_size3_u.size = s->size;
    a.atime.set_it = s->set & REMOTE_SET_ATIME_NOW ? SET_TO_SERVER_TIME
                     : s->set & REMOTE_SET_ATIME   ? SET_TO_CLIENT_TIME
                                                   : DONT_CHANGE;
    a.atime.set_atime_u.atime = time_arg(s->atime);
    a.mtime.set_it = s->set & REMOTE_SET_MTIME_NOW ? SET_TO_SERVER_TIME
                     : s->set & REMOTE_SET_MTIME   ? SET_TO_CLIENT_TIME
                                                   : DONT_CHANGE;
    a.mtime.set_mtime_u.mtime = time_arg(s->mtime);
    return a;
}

static uint32_t put_getattr(ZDR *z, const struct remote_call *c)
{
    bool of_obj = c->p.step == STEP_OBJ_GETATTR && c->has_obj;
    GETATTR3args a = {.object = fh_arg(of_obj ? &c->obj : &c->fh)};
    return zdr_GETATTR3args(z, &a);
}

static uint32_t put_setattr(ZDR *z, const struct remote_call *c)
{
    SETATTR3args a;
    struct remote_setattr set = c->u.make.set;
    memset(&a, 0, sizeof(a));
    if (c->p.step == STEP_EXCL_SETATTR) {
        /* The server keeps the verifier of an exclusive CREATE in the times (RFC 1813 3.3.8). */
        if (!(set.set & REMOTE_SET_ATIME))
            set.set |= REMOTE_SET_ATIME_NOW;
        if (!(set.set & REMOTE_SET_MTIME))
            set.set |= REMOTE_SET_MTIME_NOW;
        a.object = fh_arg(&c->obj);
        a.guard.check = !!(c->p.flags & CALL_CLAIMS);
    } else {
        a.object = fh_arg(&c->fh);
        a.guard.check = c->u.make.guard;
    }
    a.guard.sattrguard3_u.obj_ctime = time_arg(c->u.make.guard_ctime);
    a.new_attributes = sattr_arg(&set);
    return zdr_SETATTR3args(z, &a);
}

static uint32_t put_lookup(ZDR *z, const struct remote_call *c)
{
    LOOKUP3args a = {.what = name_arg(&c->fh, c->name)};
    if (c->p.step == STEP_VERIFY_RENAMED)
        a.what = name_arg(&c->fh2, c->name2);
    else if (c->op == REMOTE_LINK)
        a.what = name_arg(&c->fh2, c->name);
    return zdr_LOOKUP3args(z, &a);
}

static uint32_t put_access(ZDR *z, const struct remote_call *c)
{
    /* What R_OK, W_OK and X_OK mean depends on the type; ask for all of each: decode.c sorts. */
    uint32_t want = 0;
    if (c->u.access.want & R_OK)
        want |= ACCESS3_READ;
    if (c->u.access.want & W_OK)
        want |= ACCESS3_MODIFY | ACCESS3_EXTEND | ACCESS3_DELETE;
    if (c->u.access.want & X_OK)
        want |= ACCESS3_LOOKUP | ACCESS3_EXECUTE;
    ACCESS3args a = {.object = fh_arg(&c->fh), .access = want};
    return zdr_ACCESS3args(z, &a);
}

static uint32_t put_readlink(ZDR *z, const struct remote_call *c)
{
    READLINK3args a = {.symlink = fh_arg(c->p.step == STEP_VERIFY_TEXT ? &c->obj : &c->fh)};
    return zdr_READLINK3args(z, &a);
}

static uint32_t put_read(ZDR *z, const struct remote_call *c)
{
    READ3args a = {.file = fh_arg(&c->fh), .offset = c->u.io.offset, .count = c->u.io.count};
    return zdr_READ3args(z, &a);
}

/* All of WRITE3args but the bytes, which are sent from where they are. */
static uint32_t put_write_head(ZDR *z, const struct remote_call *c)
{
    nfs_fh3 file = fh_arg(&c->fh);
    uint64_t offset = c->u.io.offset;
    uint32_t count = c->u.io.count;
    stable_how stable = (stable_how)c->u.io.stable;
    return zdr_nfs_fh3(z, &file) && zdr_offset3(z, &offset) && zdr_count3(z, &count) &&
           zdr_stable_how(z, &stable) && zdr_u_int(z, &count);
}

static uint32_t put_create(ZDR *z, const struct remote_call *c)
{
    CREATE3args a;
    memset(&a, 0, sizeof(a));
    a.where = name_arg(&c->fh, c->name);
    if (c->u.make.exclusive && !(c->p.flags & CALL_GUARDED)) {
        a.how.mode = EXCLUSIVE;
        memcpy(a.how.createhow3_u.verf, c->p.verf, sizeof(c->p.verf));
    } else {
        a.how.mode = c->u.make.exclusive ? GUARDED : UNCHECKED;
        a.how.createhow3_u.obj_attributes = sattr_arg(&c->u.make.set);
    }
    return zdr_CREATE3args(z, &a);
}

static uint32_t put_mkdir(ZDR *z, const struct remote_call *c)
{
    MKDIR3args a = {.where = name_arg(&c->fh, c->name), .attributes = sattr_arg(&c->u.make.set)};
    return zdr_MKDIR3args(z, &a);
}

static uint32_t put_symlink(ZDR *z, const struct remote_call *c)
{
    SYMLINK3args a = {.where = name_arg(&c->fh, c->name),
                      .symlink = {.symlink_attributes = sattr_arg(&c->u.make.set),
                                  .symlink_data = (char *)(uintptr_t)c->u.make.linkname}};
    return zdr_SYMLINK3args(z, &a);
}

static uint32_t put_mknod(ZDR *z, const struct remote_call *c)
{
    MKNOD3args a;
    devicedata3 *dev = &a.what.mknoddata3_u.chr_device; /* block devices: the same layout */
    memset(&a, 0, sizeof(a));
    a.where = name_arg(&c->fh, c->name);
    switch (c->u.make.set.mode & 0170000) {
    case 0020000:
    case 0060000:
        a.what.type = (c->u.make.set.mode & 0170000) == 0020000 ? NF3CHR : NF3BLK;
        dev->dev_attributes = sattr_arg(&c->u.make.set);
        dev->spec.specdata1 = major(c->u.make.rdev);
        dev->spec.specdata2 = minor(c->u.make.rdev);
        break;
    default:
        a.what.type = (c->u.make.set.mode & 0170000) == 0140000 ? NF3SOCK : NF3FIFO;
        a.what.mknoddata3_u.sock_attributes = sattr_arg(&c->u.make.set);
    }
    return zdr_MKNOD3args(z, &a);
}

static uint32_t put_remove(ZDR *z, const struct remote_call *c)
{
    REMOVE3args a = {.object = name_arg(&c->fh, c->name)}; /* RMDIR3args are the same */
    return zdr_REMOVE3args(z, &a);
}

static uint32_t put_rename(ZDR *z, const struct remote_call *c)
{
    RENAME3args a = {.from = name_arg(&c->fh, c->name), .to = name_arg(&c->fh2, c->name2)};
    return zdr_RENAME3args(z, &a);
}

static uint32_t put_link(ZDR *z, const struct remote_call *c)
{
    LINK3args a = {.file = fh_arg(&c->fh), .link = name_arg(&c->fh2, c->name)};
    return zdr_LINK3args(z, &a);
}

static uint32_t put_readdir(ZDR *z, const struct remote_call *c)
{
    READDIR3args a = {
        .dir = fh_arg(&c->fh), .cookie = c->u.readdir.cookie, .count = c->u.readdir.count};
    memcpy(a.cookieverf, c->u.readdir.verf, sizeof(a.cookieverf));
    return zdr_READDIR3args(z, &a);
}

static uint32_t put_readdirplus(ZDR *z, const struct remote_call *c)
{
    READDIRPLUS3args a = {.dir = fh_arg(&c->fh),
                          .cookie = c->u.readdir.cookie,
                          .dircount = c->u.readdir.count,
                          .maxcount = c->u.readdir.count};
    memcpy(a.cookieverf, c->u.readdir.verf, sizeof(a.cookieverf));
    return zdr_READDIRPLUS3args(z, &a);
}

/* FSSTAT, FSINFO and PATHCONF take a handle and nothing else. */
static uint32_t put_fh(ZDR *z, const struct remote_call *c)
{
    FSSTAT3args a = {.fsroot = fh_arg(&c->fh)};
    return zdr_FSSTAT3args(z, &a);
}

static uint32_t put_commit(ZDR *z, const struct remote_call *c)
{
    COMMIT3args a = {.file = fh_arg(&c->fh), .offset = c->u.io.offset, .count = c->u.io.count};
    return zdr_COMMIT3args(z, &a);
}

static uint32_t (*const put_args[PROC_COUNT])(ZDR *z, const struct remote_call *c) = {
    [PROC_GETATTR] = put_getattr,
    [PROC_SETATTR] = put_setattr,
    [PROC_LOOKUP] = put_lookup,
    [PROC_ACCESS] = put_access,
    [PROC_READLINK] = put_readlink,
    [PROC_READ] = put_read,
    [PROC_WRITE] = put_write_head,
    [PROC_CREATE] = put_create,
    [PROC_MKDIR] = put_mkdir,
    [PROC_SYMLINK] = put_symlink,
    [PROC_MKNOD] = put_mknod,
    [PROC_REMOVE] = put_remove,
    [PROC_RMDIR] = put_remove,
    [PROC_RENAME] = put_rename,
    [PROC_LINK] = put_link,
    [PROC_READDIR] = put_readdir,
    [PROC_READDIRPLUS] = put_readdirplus,
    [PROC_FSSTAT] = put_fh,
    [PROC_FSINFO] = put_fh,
    [PROC_PATHCONF] = put_fh,
    [PROC_COMMIT] = put_commit,
};

static bool put_u32(ZDR *z, uint32_t v)
{
    return zdr_u_int(z, &v);
}

/* RFC 5531 appendix A. The length in front is known only afterwards. */
static bool put_auth_sys(ZDR *z, const struct nfs3 *r, const struct cred *cred)
{
    char *name = (char *)(uintptr_t)r->hostname;
    uint32_t ngroups = cred->ngroups > CRED_GROUPS_MAX ? CRED_GROUPS_MAX : cred->ngroups;
    bool ok = put_u32(z, AUTH_UNIX);
    uint32_t at = zdr_getpos(z);
    ok = ok && put_u32(z, 0) && put_u32(z, r->stamp) && zdr_string(z, &name, 255) &&
         put_u32(z, cred->uid) && put_u32(z, cred->gid) && put_u32(z, ngroups);
    for (uint32_t i = 0; ok && i < ngroups; i++)
        ok = put_u32(z, cred->groups[i]);
    uint32_t end = zdr_getpos(z);
    zdr_setpos(z, at);
    ok = ok && put_u32(z, end - at - 4);
    zdr_setpos(z, end);
    return ok && put_u32(z, AUTH_NONE) && put_u32(z, 0); /* the verifier */
}

size_t call_encode(struct nfs3 *r, const struct remote_call *call, uint8_t *buf, size_t room)
{
    enum nfs3_proc proc = call_proc(call);
    ZDR z;
    zdrmem_create(&z, (char *)buf + 4, (uint32_t)room - 4, ZDR_ENCODE);
    bool ok = put_u32(&z, call->p.xid) && put_u32(&z, RPC_CALL) && put_u32(&z, 2) &&
              put_u32(&z, NFS3_PROG) && put_u32(&z, NFS3_VERS) && put_u32(&z, proc) &&
              put_auth_sys(&z, r, call->cred) && put_args[proc](&z, call);
    size_t len = zdr_getpos(&z);
    zdr_destroy(&z);
    assert(ok);
    size_t record = len;
    if (proc == PROC_WRITE)
        record += (call->u.io.count + 3u) & ~3u;
    uint32_t marker = htobe32(0x80000000u | (uint32_t)record);
    memcpy(buf, &marker, sizeof(marker));
    return len + 4;
}
