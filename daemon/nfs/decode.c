// SPDX-License-Identifier: Apache-2.0
/*
 * A reply as results (RFC 5531 section 9, RFC 1813 section 3.3), with nothing in it trusted.
 *
 * Every length is held against what arrived, against the protocol's limits, and against what was
 * asked; directory entries are decoded in a loop, not by recursion; names with a '/' or a NUL, or
 * of no length, never reach the file system above. What does not decode is -EIO for the call, and
 * counted; the connection stays, because the record marking was sound.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <syslog.h>
#include <unistd.h>

#include "daemon/nfs/client.h"
#include "daemon/nfs/xdr.h"

int nfs3_errno(uint32_t status)
{
    static const struct {
        uint32_t status;
        int error;
    } table[] = {
        {1, EPERM},          {2, ENOENT},     {5, EIO},     {6, ENXIO},    {13, EACCES},
        {17, EEXIST},        {18, EXDEV},     {19, ENODEV}, {20, ENOTDIR}, {21, EISDIR},
        {22, EINVAL},        {27, EFBIG},     {28, ENOSPC}, {30, EROFS},   {31, EMLINK},
        {63, ENAMETOOLONG},  {66, ENOTEMPTY}, {69, EDQUOT}, {70, ESTALE},  {71, EREMOTE},
        {10001, ESTALE},  /* BADHANDLE */
        {10002, EAGAIN},  /* NOT_SYNC: the guard of a SETATTR did not hold */
        {10003, EBADMSG}, /* BAD_COOKIE: the directory must be read from its start */
        {10004, EOPNOTSUPP}, {10005, EINVAL}, /* NOTSUPP, TOOSMALL */
        {10006, EREMOTEIO},                   /* SERVERFAULT */
        {10007, EINVAL},                      /* BADTYPE */
        {10008, EAGAIN}, /* JUKEBOX: steps.c tries again, so nobody sees this */
    };
    if (status == ST_OK)
        return 0;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].status == status)
            return -table[i].error;
    }
    return -EIO;
}

/* ---- the pieces of RFC 1813 section 2.5 and 2.6 ---- */

static struct timespec get_time(struct xdr *x)
{
    struct timespec t = {.tv_sec = xdr_u32(x)};
    uint32_t ns = xdr_u32(x);
    t.tv_nsec = ns < 1000000000u ? (long)ns : 999999999l;
    return t;
}

static uint64_t get_size(struct xdr *x)
{
    uint64_t size = xdr_u64(x);
    return size > INT64_MAX ? INT64_MAX : size;
}

static void get_fattr(struct xdr *x, struct attr *a)
{
    static const uint32_t type_mode[] = {
        [T_REG] = S_IFREG, [T_DIR] = S_IFDIR,   [T_BLK] = S_IFBLK, [T_CHR] = S_IFCHR,
        [T_LNK] = S_IFLNK, [T_SOCK] = S_IFSOCK, [T_FIFO] = S_IFIFO};
    uint32_t type = xdr_u32(x);
    if (type < T_REG || type > T_FIFO) {
        x->bad = true;
        return;
    }
    a->mode = type_mode[type] | (xdr_u32(x) & 07777);
    a->nlink = xdr_u32(x);
    a->uid = xdr_u32(x);
    a->gid = xdr_u32(x);
    a->size = get_size(x);
    a->used = get_size(x);
    uint32_t maj = xdr_u32(x), min = xdr_u32(x);
    a->rdev = makedev(maj, min);
    a->fsid = xdr_u64(x);
    a->fileid = xdr_u64(x);
    a->atime = get_time(x);
    a->mtime = get_time(x);
    a->ctime = get_time(x);
    a->change = 0;
}

static void get_post(struct xdr *x, struct remote_post *post)
{
    post->valid = xdr_bool(x);
    if (post->valid)
        get_fattr(x, &post->attr);
}

static void get_wcc(struct xdr *x, struct remote_wcc *pre, struct remote_post *post)
{
    pre->valid = xdr_bool(x);
    if (pre->valid) {
        pre->size = get_size(x);
        pre->mtime = get_time(x);
        pre->ctime = get_time(x);
    }
    get_post(x, post);
}

static void get_fh(struct xdr *x, struct fh *fh)
{
    uint32_t len;
    const uint8_t *data = xdr_bytes(x, NFS3_FH_MAX, &len);
    if (!data || !len) {
        x->bad = true;
        return;
    }
    fh->len = (uint8_t)len;
    memcpy(fh->data, data, len);
}

static void get_post_fh(struct xdr *x, struct nfs3_result *res)
{
    res->has_obj = xdr_bool(x);
    if (res->has_obj)
        get_fh(x, &res->obj);
}

/* ---- procedures; `ok`: the status is NFS3_OK ---- */

static void get_access(struct xdr *x, struct remote_call *c, struct nfs3_result *res, bool ok)
{
    get_post(x, &res->post);
    if (!ok)
        return;
    uint32_t a = xdr_u32(x), allowed = 0;
    bool dir = res->post.valid ? S_ISDIR(res->post.attr.mode) : !!(a & (ACC_LOOKUP | ACC_DELETE));
    uint32_t write = ACC_MODIFY | ACC_EXTEND | (dir ? ACC_DELETE : 0);
    if (a & ACC_READ)
        allowed |= R_OK;
    if ((a & write) == write)
        allowed |= W_OK;
    if (a & (dir ? ACC_LOOKUP : ACC_EXECUTE))
        allowed |= X_OK;
    c->u.access.allowed = allowed & c->u.access.want;
}

static void get_readlink(struct xdr *x, struct remote_call *c, struct nfs3_result *res, bool ok)
{
    get_post(x, &res->post);
    if (!ok)
        return;
    res->text = xdr_bytes(x, NFS3_PATH_MAX, &res->text_len);
    if (res->text && memchr(res->text, 0, res->text_len))
        x->bad = true;
}

/* A READ that arrived in one piece with others: small, so it is copied. */
static void copy_data(struct remote_call *c, const uint8_t *data, uint32_t len)
{
    for (int i = 0; i < c->u.io.iovcnt && len; i++) {
        uint32_t n = c->u.io.iov[i].iov_len < len ? (uint32_t)c->u.io.iov[i].iov_len : len;
        memcpy(c->u.io.iov[i].iov_base, data, n);
        data += n;
        len -= n;
    }
}

/* Up to and with the length of the data. */
static uint32_t get_read_front(struct xdr *x, struct remote_call *c, struct nfs3_result *res)
{
    get_post(x, &res->post);
    uint32_t count = xdr_u32(x);
    bool eof = xdr_bool(x);
    uint32_t len = xdr_u32(x);
    /* Nothing, and not the end: a reader that goes on would never come to an end. */
    if (count != len || len > c->u.io.count || (!len && !eof && c->u.io.count))
        x->bad = true;
    if (x->bad)
        return 0;
    c->u.io.done = len;
    c->u.io.eof = eof;
    return len;
}

static void get_read(struct xdr *x, struct remote_call *c, struct nfs3_result *res, bool ok)
{
    if (!ok) {
        get_post(x, &res->post);
        return;
    }
    uint32_t len = get_read_front(x, c, res);
    const uint8_t *data = x->bad ? NULL : xdr_fixed(x, len);
    if (data)
        copy_data(c, data, len);
}

static void get_write(struct xdr *x, struct remote_call *c, struct nfs3_result *res, bool ok)
{
    get_wcc(x, &res->pre, &res->post);
    if (!ok)
        return;
    uint32_t count = xdr_u32(x), stable = xdr_u32(x);
    const uint8_t *verf = xdr_fixed(x, 8);
    if (x->bad || count > c->u.io.count || (!count && c->u.io.count) || stable > REMOTE_FILE_SYNC) {
        x->bad = true;
        return;
    }
    c->u.io.done = count;
    c->u.io.stable = (enum remote_stable)stable;
    memcpy(c->u.io.verf, verf, 8);
}

static void get_commit(struct xdr *x, struct remote_call *c, struct nfs3_result *res, bool ok)
{
    get_wcc(x, &res->pre, &res->post);
    const uint8_t *verf = ok ? xdr_fixed(x, 8) : NULL;
    if (verf)
        memcpy(c->u.io.verf, verf, 8);
}

static void get_fsstat(struct xdr *x, struct remote_call *c, struct nfs3_result *res, bool ok)
{
    get_post(x, &res->post);
    if (!ok)
        return;
    c->u.fsstat.tbytes = xdr_u64(x);
    c->u.fsstat.fbytes = xdr_u64(x);
    c->u.fsstat.abytes = xdr_u64(x);
    c->u.fsstat.tfiles = xdr_u64(x);
    c->u.fsstat.ffiles = xdr_u64(x);
    c->u.fsstat.afiles = xdr_u64(x);
    xdr_u32(x); /* invarsec */
}

static void get_fsinfo(struct xdr *x, struct remote_call *c, struct nfs3_result *res, bool ok)
{
    get_post(x, &res->post);
    if (!ok)
        return;
    c->u.fsinfo.rtmax = xdr_u32(x);
    c->u.fsinfo.rtpref = xdr_u32(x);
    xdr_u32(x); /* rtmult */
    c->u.fsinfo.wtmax = xdr_u32(x);
    c->u.fsinfo.wtpref = xdr_u32(x);
    xdr_u32(x); /* wtmult */
    c->u.fsinfo.dtpref = xdr_u32(x);
    c->u.fsinfo.maxfilesize = get_size(x);
    c->u.fsinfo.time_delta = get_time(x);
    xdr_u32(x); /* properties */
}

static void get_pathconf(struct xdr *x, struct remote_call *c, struct nfs3_result *res, bool ok)
{
    get_post(x, &res->post);
    if (!ok)
        return;
    c->u.pathconf.linkmax = xdr_u32(x);
    c->u.pathconf.name_max = xdr_u32(x);
    c->u.pathconf.no_trunc = xdr_bool(x);
    c->u.pathconf.chown_restricted = xdr_bool(x);
    c->u.pathconf.case_insensitive = xdr_bool(x);
    c->u.pathconf.case_preserving = xdr_bool(x);
}

/* ---- directories ---- */

struct entry {
    uint64_t fileid, cookie;
    const uint8_t *name;
    uint32_t name_len;
    struct nfs3_result plus; /* obj and post */
};

static bool get_entry(struct xdr *x, bool plus, struct entry *e)
{
    if (!xdr_bool(x) || x->bad)
        return false;
    e->fileid = xdr_u64(x);
    /* Names may be longer on the server than here: such an entry is left out below. */
    e->name = xdr_bytes(x, NFS3_PATH_MAX, &e->name_len);
    e->cookie = xdr_u64(x);
    if (plus) {
        get_post(x, &e->plus.post);
        get_post_fh(x, &e->plus);
    }
    return !x->bad;
}

static bool entry_usable(const struct entry *e)
{
    return e->name_len > 0 && e->name_len <= NFS3_NAME_MAX && !memchr(e->name, '/', e->name_len) &&
           !memchr(e->name, 0, e->name_len);
}

static size_t entry_room(uint32_t name_len)
{
    size_t n = sizeof(struct remote_dirent) + name_len + 1, align = _Alignof(struct remote_dirent);
    return (n + align - 1) & ~(align - 1);
}

/* Once to see that it is sound and how much memory the list takes, once to build it in one piece,
 * which p.extra holds until remote_call_clear(). */
static void get_readdir(struct nfs3 *r, struct xdr *x, struct remote_call *c,
                        struct nfs3_result *res, bool ok)
{
    bool plus = c->u.readdir.plus;
    struct entry e;
    size_t room = 0, left_out = 0;
    get_post(x, &res->post);
    if (!ok)
        return;
    const uint8_t *verf = xdr_fixed(x, 8);
    struct xdr again = *x;
    while (get_entry(x, plus, &e)) {
        room += entry_usable(&e) ? entry_room(e.name_len) : 0;
        left_out += !entry_usable(&e);
    }
    bool eof = xdr_bool(x);
    if (x->bad)
        return;
    uint8_t *mem = room ? malloc(room) : NULL;
    if (room && !mem) {
        res->error = -ENOMEM;
        return;
    }
    struct remote_dirent **tail = &c->u.readdir.entries;
    for (uint8_t *at = mem; get_entry(&again, plus, &e);) {
        if (!entry_usable(&e))
            continue;
        struct remote_dirent *d = (struct remote_dirent *)(void *)at;
        *d = (struct remote_dirent){.fileid = e.fileid, .cookie = e.cookie};
        if (plus) {
            d->has_fh = e.plus.has_obj;
            if (d->has_fh)
                d->fh = e.plus.obj;
            d->post.valid = e.plus.post.valid;
            if (d->post.valid)
                d->post = e.plus.post;
        }
        memcpy(d->name, e.name, e.name_len);
        d->name[e.name_len] = 0;
        *tail = d;
        tail = &d->next;
        at += entry_room(e.name_len);
    }
    *tail = NULL;
    c->p.extra = mem;
    c->u.readdir.eof = eof;
    memcpy(c->u.readdir.verf, verf, 8);
    if (left_out)
        nfs3_log(r, LOG_WARNING, "%s sent %zu directory entries with names that cannot be used",
                 r->server, left_out);
}

/* ---- the RPC header ---- */

/* At the results if *error is 0. */
static void get_rpc_header(struct xdr *x, int *error)
{
    uint32_t len;
    *error = 0;
    xdr_u32(x); /* XID: it led here */
    if (xdr_u32(x) != RPC_REPLY)
        x->bad = true;
    uint32_t stat = xdr_u32(x);
    if (stat == RPC_DENIED) {
        *error = xdr_u32(x) == 0 ? -EPROTONOSUPPORT : -EACCES; /* RPC_MISMATCH, AUTH_ERROR */
        return;
    }
    if (stat != RPC_ACCEPTED)
        x->bad = true;
    xdr_u32(x); /* the verifier's flavour: AUTH_NONE, or AUTH_SHORT, which we do not use */
    xdr_bytes(x, RPC_AUTH_MAX, &len);
    switch (xdr_u32(x)) {
    case ACCEPT_SUCCESS:
        break;
    case ACCEPT_PROG_UNAVAIL:
        *error = -EPFNOSUPPORT;
        break;
    case ACCEPT_PROG_MISMATCH:
        *error = -EPROTONOSUPPORT;
        break;
    case ACCEPT_PROC_UNAVAIL:
        *error = -EOPNOTSUPP;
        break;
    case ACCEPT_GARBAGE_ARGS:
    case ACCEPT_SYSTEM_ERR:
        *error = -EREMOTEIO;
        break;
    default:
        x->bad = true;
    }
}

static const char *rpc_error_text(int error)
{
    switch (error) {
    case -EPROTONOSUPPORT:
        return "does not speak this version of the protocol";
    case -EACCES:
        return "does not accept our AUTH_SYS credential";
    case -EPFNOSUPPORT:
        return "does not offer NFS (is it starting?)";
    case -EOPNOTSUPP:
        return "does not have this procedure";
    }
    return "could not decode or execute the request";
}

static void get_results(struct nfs3 *r, struct xdr *x, struct remote_call *c, enum nfs3_proc proc,
                        struct nfs3_result *res)
{
    bool ok = res->status == ST_OK;
    switch (proc) {
    case PROC_GETATTR:
        res->post.valid = ok;
        if (ok)
            get_fattr(x, &res->post.attr);
        break;
    case PROC_SETATTR:
        get_wcc(x, &res->pre, &res->post);
        break;
    case PROC_LOOKUP:
        if (ok) {
            res->has_obj = true;
            get_fh(x, &res->obj);
            get_post(x, &res->post);
        }
        get_post(x, &res->dir);
        break;
    case PROC_ACCESS:
        get_access(x, c, res, ok);
        break;
    case PROC_READLINK:
        get_readlink(x, c, res, ok);
        break;
    case PROC_READ:
        get_read(x, c, res, ok);
        break;
    case PROC_WRITE:
        get_write(x, c, res, ok);
        break;
    case PROC_CREATE:
    case PROC_MKDIR:
    case PROC_SYMLINK:
    case PROC_MKNOD:
        if (ok) {
            get_post_fh(x, res);
            get_post(x, &res->post);
        }
        get_wcc(x, &res->dir_pre, &res->dir);
        break;
    case PROC_REMOVE:
    case PROC_RMDIR:
        get_wcc(x, &res->dir_pre, &res->dir);
        break;
    case PROC_RENAME:
        get_wcc(x, &res->dir_pre, &res->dir);
        get_wcc(x, &res->dir2_pre, &res->dir2);
        break;
    case PROC_LINK:
        get_post(x, &res->post);
        get_wcc(x, &res->dir_pre, &res->dir);
        break;
    case PROC_READDIR:
    case PROC_READDIRPLUS:
        get_readdir(r, x, c, res, ok);
        break;
    case PROC_FSSTAT:
        get_fsstat(x, c, res, ok);
        break;
    case PROC_FSINFO:
        get_fsinfo(x, c, res, ok);
        break;
    case PROC_PATHCONF:
        get_pathconf(x, c, res, ok);
        break;
    case PROC_COMMIT:
        get_commit(x, c, res, ok);
        break;
    case PROC_NULL:
    case PROC_COUNT:
        break;
    }
}

void result_clear(struct nfs3_result *res)
{
    res->status = ST_OK;
    res->error = 0;
    res->malformed = res->has_obj = false;
    res->post.valid = res->dir.valid = res->dir2.valid = false;
    res->pre.valid = res->dir_pre.valid = res->dir2_pre.valid = false;
    res->text = NULL;
}

static void reject(struct nfs3 *r, enum nfs3_proc proc, struct nfs3_result *res)
{
    result_clear(res);
    res->malformed = true;
    res->error = -EIO;
    nfs3_log(r, LOG_WARNING, "%s sent a malformed reply to %s", r->server, nfs3_proc_name(proc));
}

void call_decode(struct nfs3 *r, struct remote_call *call, const uint8_t *rec, size_t len,
                 struct nfs3_result *res)
{
    enum nfs3_proc proc = (enum nfs3_proc)call->p.proc;
    struct xdr x = xdr_of(rec, len);
    result_clear(res);
    get_rpc_header(&x, &res->error);
    if (!x.bad && res->error) {
        nfs3_log(r, LOG_WARNING, "%s %s (%s)", r->server, rpc_error_text(res->error),
                 nfs3_proc_name(proc));
        return;
    }
    res->status = xdr_u32(&x);
    if (!x.bad) {
        res->error = nfs3_errno(res->status);
        get_results(r, &x, call, proc, res);
    }
    if (x.bad)
        reject(r, proc, res);
}

long decode_read_head(struct remote_call *call, const uint8_t *rec, size_t len,
                      struct nfs3_result *res, uint32_t *count)
{
    struct xdr x = xdr_of(rec, len);
    int error;
    result_clear(res);
    get_rpc_header(&x, &error);
    if (x.bad)
        return -1;
    if (error || xdr_u32(&x) != ST_OK)
        return 0;
    *count = get_read_front(&x, call, res);
    return x.bad ? -1 : (long)(x.p - rec);
}
