// SPDX-License-Identifier: Apache-2.0
/*
 * Reading directories: opendir, readdir, readdirplus, releasedir, fsyncdir.
 *
 * The offsets that the kernel is given are the server's cookies, so seekdir() works for as long as
 * the server honours them, and entries that stay are neither repeated nor lost while others come
 * and go. One READDIR(PLUS) reply is kept for each open directory (a chunk) and served in the
 * slices that the kernel asks for:
 *
 *   start --- entry --- entry --- entry --- ... --- entry          cookie of an entry: where the
 *              ^cookie   ^cookie                      ^cookie      next one begins
 *
 * A request whose offset is in the chunk continues there; any other is asked at the server, and
 * offset 0 always: rewinddir() shows the directory as it is now. The verifier goes along with each
 * cookie. BAD_COOKIE (EBADMSG) is tried once more with verifier 0, which some servers take for
 * "any"; then it is the caller's error.
 *
 * With READDIRPLUS the kernel makes entries and inodes of what it gets. They are withheld (only the
 * name is given) when the chunk may be older than the directory: another token, or an own
 * operation since. Otherwise a name that we removed could come back to life in the kernel.
 *
 * The kernel may keep the whole listing (FOPEN_CACHE_DIR) and use it for a later open with
 * FOPEN_KEEP_CACHE. That is granted when the directory's token is what it was when the listing was
 * begun, and the server's clock had left the token's tick by then: a change in the same tick would
 * not show. Times without nanoseconds may be those of a file system that has none, whatever the
 * server says: then the token has to be known for longer than a second.
 *
 * The kernel asks for attributes with every piece. Left to itself (READDIRPLUS_AUTO) it does so for
 * the first 4 KiB, some 25 entries, and for the rest only if some of these were looked at
 * meanwhile: a program that lists first and looks then had one request for each of the others, and
 * they were never renewed. A listing is kept for half of the time of its attributes: read once
 * more, it renews them many at a time, where the kernel would ask for one after the other.
 *
 * Lock order: dir lock > table lock, inode lock.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/ops.h"

#define TICK_NS    1100000000ull /* file systems with whole seconds are the coarsest */
#define LISTING_NS 100000000ull  /* a listing begins at attributes not older than this */

struct chunk {
    struct remote_call call;
    struct cred cred;
    struct dir *dir; /* referenced while the call is in flight */
    struct op *op;   /* the request it was sent for */
    uint64_t start;
    struct remote_dirent *pos; /* what follows pos_cookie; NULL: the end of the chunk */
    uint64_t pos_cookie;
    struct token token;     /* of the directory, from the same reply */
    uint32_t before, proof; /* ahead.c: its verifier when the call was sent; what the names prove */
};

/* An open directory; outlives its RELEASEDIR while a call of a killed reader is in flight. */
struct dir {
    struct front *front;
    atomic_uint refs;
    pthread_mutex_t lock;
    struct chunk *chunk; /* complete; NULL: none */
    uint8_t verf[8];
};

/* What a request wants: op->u[0] size, [1] offset, [2] plus, [3] tried again. */

static void chunk_free(struct front *f, struct chunk *c)
{
    if (!c)
        return;
    remote_call_clear(f->remote, &c->call);
    free(c);
}

static void dir_put(struct dir *d)
{
    if (atomic_fetch_sub(&d->refs, 1) != 1)
        return;
    chunk_free(d->front, d->chunk);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

void dir_state_free(void *dir)
{
    if (dir)
        dir_put(dir);
}

/* ---- serving a chunk ---------------------------------------------------------------------- */

static bool chunk_seek(struct chunk *c, uint64_t off)
{
    if (c->pos_cookie == off)
        return true;
    if (c->start == off) {
        c->pos = c->call.u.readdir.entries;
        c->pos_cookie = off;
        return true;
    }
    for (struct remote_dirent *e = c->call.u.readdir.entries; e; e = e->next) {
        if (e->cookie != off)
            continue;
        c->pos = e->next;
        c->pos_cookie = off;
        return true;
    }
    return false;
}

struct slice {
    char *data;
    size_t size, used;
    double valid;         /* seconds: as long as all attributes that it gives */
    struct inode **given; /* each has a lookup count and a reference of ours */
    size_t ngiven, room;
};

static void slice_free(struct front *f, struct slice *s, bool delivered)
{
    for (size_t i = 0; i < s->ngiven; i++) {
        if (!delivered)
            inode_forget(f, s->given[i], 1);
        inode_unref(f, s->given[i]);
    }
    free(s->given);
    free(s->data);
}

static bool slice_note(struct slice *s, struct inode *ino)
{
    if (s->ngiven == s->room) {
        size_t room = s->room ? 2 * s->room : 128;
        struct inode **more = realloc(s->given, room * sizeof(*more));

        if (!more)
            return false;
        s->given = more;
        s->room = room;
    }
    inode_lookup_add(ino, 1);
    s->given[s->ngiven++] = ino;
    return true;
}

static double shorter(double a, double b)
{
    return a < b ? a : b;
}

/* Adds an entry; false: it does not fit. */
static bool slice_add(struct op *op, struct slice *s, struct chunk *c,
                      const struct remote_dirent *e, bool plus, bool trusted, double name_valid)
{
    struct front *f = op->front;
    struct fuse_entry_param param;
    size_t left = s->size - s->used, len;

    memset(&param, 0, sizeof(param));
    param.attr.st_ino = e->fileid;
    if (e->post.valid)
        param.attr.st_mode = e->post.attr.mode;
    if (!plus) {
        len = fuse_add_direntry(op->req, s->data + s->used, left, e->name, &param.attr,
                                (off_t)e->cookie);
        if (len > left)
            return false;
        s->used += len;
        return true;
    }
    len = fuse_add_direntry_plus(op->req, NULL, 0, e->name, &param, 0);
    if (len > left)
        return false;
    struct inode *ino = NULL;

    if (trusted && e->has_fh && e->post.valid && !is_dot(e->name))
        ino = inode_get(f, &e->fh, &e->post.attr);
    if (ino) {
        attr_accept(f, ino, &e->post, &c->call);
        if (slice_note(s, ino)) {
            names_confirm(f, op->ino, e->name, ino, c->proof, c->call.sent_ns);
            attr_fill_entry(f, ino, &param);
            param.entry_timeout = name_valid;
            names_told(ino, name_valid);
            s->valid = shorter(s->valid, shorter(name_valid, param.attr_timeout));
        } else {
            inode_unref(f, ino);
        }
    }
    s->used +=
        fuse_add_direntry_plus(op->req, s->data + s->used, left, e->name, &param, (off_t)e->cookie);
    return true;
}

/* May the kernel make entries of the chunk, or is it older than what is known of the directory? */
static bool chunk_trusted(struct inode *ino, const struct chunk *c)
{
    pthread_mutex_lock(inode_lock(ino));
    struct token now = token_of(&ino->rec->attr);
    bool trusted = token_equal(&now, &c->token) && ino->own_change_ns < c->call.sent_ns;

    pthread_mutex_unlock(inode_lock(ino));
    return trusted;
}

/* Fills from the chunk's position. Dir lock held. */
static void slice_fill(struct op *op, struct slice *s, struct chunk *c)
{
    bool plus = op->u[2];
    bool trusted = plus && chunk_trusted(op->ino, c);
    double name_valid = trusted ? name_timeout(op->front, op->ino, false) : 0;

    s->valid = INFINITY;
    while (c->pos && slice_add(op, s, c, c->pos, plus, trusted, name_valid)) {
        c->pos_cookie = c->pos->cookie;
        c->pos = c->pos->next;
    }
}

/* `valid`: seconds, the shortest of the attributes that a piece gave. */
static void listing_note(struct inode *ino, bool plus, double valid)
{
    uint64_t until = plus && valid < 1e9 ? now_ns() + (uint64_t)(valid * 5e8) : UINT64_MAX;

    pthread_mutex_lock(inode_lock(ino));
    ino->use->dir_plus = plus;
    if (until < ino->use->dir_expires_ns)
        ino->use->dir_expires_ns = until;
    pthread_mutex_unlock(inode_lock(ino));
}

static void dir_reply(struct op *op, struct slice *s)
{
    listing_note(op->ino, op->u[2], s->valid);

    bool delivered = op_claim(op) && fuse_reply_buf(op->req, s->data, s->used) == 0;

    slice_free(op->front, s, delivered);
    op_end(op);
}

/* Answers from the chunk, if that holds the offset. Dir lock held; on true the slice is ready. */
static bool dir_serve(struct op *op, struct dir *d, struct slice *s)
{
    struct chunk *c = d->chunk;

    if (!c || !chunk_seek(c, op->u[1]) || (!c->pos && !c->call.u.readdir.eof))
        return false;
    slice_fill(op, s, c);
    return true;
}

/* ---- fetching ----------------------------------------------------------------------------- */

static void chunk_done(struct remote_call *call);

static void chunk_submit(struct op *op, struct dir *d, struct chunk *c)
{
    struct front *f = op->front;
    uint32_t count = f->remote->dtsize ? f->remote->dtsize : 65536;

    memset(&c->call, 0, sizeof(c->call));
    c->op = op;
    c->start = c->pos_cookie = op->u[1];
    c->call.op = REMOTE_READDIR;
    c->call.cred = &c->cred;
    c->call.fh = op->ino->rec->fh;
    c->call.u.readdir.cookie = c->start;
    if (c->start && !op->u[3])
        memcpy(c->call.u.readdir.verf, d->verf, sizeof(d->verf));
    c->call.u.readdir.count = count;
    c->call.u.readdir.plus = op->u[2] && f->config.rdirplus;
    c->call.done = chunk_done;
    c->call.arg = c;
    c->before = names_verifier(op->ino);
    remote_submit(f->remote, &c->call);
}

static bool chunk_again(struct chunk *c)
{
    struct op *op = c->op;
    struct front *f = op->front;

    if (c->call.error == -EOPNOTSUPP && c->call.u.readdir.plus)
        f->config.rdirplus = false; /* a server without READDIRPLUS */
    else if (c->call.error == -EBADMSG && c->start && !op->u[3])
        op->u[3] = 1;
    else
        return false;
    remote_call_clear(f->remote, &c->call);
    chunk_submit(op, c->dir, c);
    return true;
}

/* What would make a reader go round for ever. */
static bool chunk_is_sane(const struct chunk *c)
{
    const struct remote_dirent *e = c->call.u.readdir.entries;

    if (!e)
        return c->call.u.readdir.eof;
    while (e->next)
        e = e->next;
    return e->cookie != c->start || c->call.u.readdir.eof;
}

static void chunk_done(struct remote_call *call)
{
    struct chunk *c = call->arg;
    struct op *op = c->op;
    struct dir *d = c->dir;
    struct front *f = op->front;
    int err = call->error;

    if (err && chunk_again(c))
        return;
    if (call->post.valid) {
        attr_accept(f, op->ino, &call->post, call);
        c->token = token_of(&call->post.attr);
        c->proof = ahead_proof(f, c->before, &call->post, call);
    }
    if (!err && !chunk_is_sane(c))
        err = -EIO;
    if (err) {
        if (err == -ESTALE)
            attr_expire(op->ino);
        chunk_free(f, c);
        op_fail(op, err == -EBADMSG ? EINVAL : -err);
        dir_put(d);
        return;
    }
    c->op = NULL;
    c->pos = call->u.readdir.entries;

    pthread_mutex_lock(inode_lock(op->ino));
    if (op->ino->use)
        memcpy(op->ino->use->dir_verf, call->u.readdir.verf, sizeof(d->verf));
    pthread_mutex_unlock(inode_lock(op->ino));

    struct slice s = {.data = malloc(op->u[0]), .size = op->u[0]};

    pthread_mutex_lock(&d->lock);
    struct chunk *old = d->chunk;

    d->chunk = c;
    memcpy(d->verf, call->u.readdir.verf, sizeof(d->verf));
    if (s.data)
        slice_fill(op, &s, c);
    pthread_mutex_unlock(&d->lock);
    chunk_free(f, old);
    if (s.data)
        dir_reply(op, &s);
    else
        op_fail(op, ENOMEM);
    dir_put(d);
}

static void dir_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t off, uint64_t fh,
                     bool plus)
{
    struct front *f = front_of(req);
    struct file *file = file_of(f, fh);
    struct dir *d = file ? file->dir : NULL;

    if (!d || file->ino->nodeid != nodeid) {
        fuse_reply_err(req, EBADF);
        return;
    }
    struct op *op = op_new(f, req, file->ino);

    if (!op)
        return;
    op->u[0] = size;
    op->u[1] = (uint64_t)off;
    op->u[2] = plus;

    struct slice s = {.data = off ? malloc(size) : NULL, .size = size};

    pthread_mutex_lock(&d->lock);
    bool served = s.data && dir_serve(op, d, &s);

    pthread_mutex_unlock(&d->lock);
    if (served) {
        dir_reply(op, &s);
        return;
    }
    free(s.data);

    struct chunk *c = calloc(1, sizeof(*c));

    if (!c) {
        op_fail(op, ENOMEM);
        return;
    }
    c->cred = op->cred;
    c->dir = d;
    atomic_fetch_add(&d->refs, 1);
    chunk_submit(op, d, c);
}

void front_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t off,
                   struct fuse_file_info *fi)
{
    dir_read(req, nodeid, size, off, fi->fh, false);
}

void front_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    dir_read(req, nodeid, size, off, fi->fh, true);
}

/* ---- opening and closing ------------------------------------------------------------------ */

/* Could a change after the listing was begun leave the token as it is? Inode lock held. */
static bool listing_racy(struct front *f, const struct inode *ino)
{
    const struct token *t = &ino->use->dir_token;

    if (!t->ctime.tv_nsec && !t->mtime.tv_nsec)
        return ino->use->dir_listed_ns < ino->use->dir_seen_ns + TICK_NS;
    return attr_token_racy(f, t, ino->use->dir_listed_ns);
}

/* Is the listing that the kernel may have still right? Inode lock held. */
static bool listing_right(struct front *f, const struct inode *ino, uint64_t now)
{
    const struct inode_use *use = ino->use;
    struct token cur = token_of(&ino->rec->attr);

    return use && token_equal(&cur, &use->dir_token) && !listing_racy(f, ino) &&
           !(use->dir_plus && now >= use->dir_expires_ns);
}

/* A listing will be begun, and what is known of the directory is not of now: the listing would go
 * by a token that it has not begun at, and be of no use to the next reader. */
static bool listing_asks(struct front *f, struct inode *ino)
{
    uint64_t now = now_ns();

    pthread_mutex_lock(inode_lock(ino));
    bool asks = ino->attr_sent_ns + LISTING_NS < now && !listing_right(f, ino, now);

    pthread_mutex_unlock(inode_lock(ino));
    return asks;
}

/* May the kernel go on using its listing? Notes that a listing of now begins otherwise. */
static bool listing_keeps(struct front *f, struct inode *ino)
{
    uint64_t now = now_ns();

    pthread_mutex_lock(inode_lock(ino));
    struct inode_use *use = ino->use;
    struct token cur = token_of(&ino->rec->attr);
    bool keep = listing_right(f, ino, now);

    if (!token_equal(&cur, &use->dir_token)) {
        use->dir_token = cur;
        use->dir_seen_ns = now;
    }
    if (!keep) {
        use->dir_listed_ns = now;
        use->dir_expires_ns = UINT64_MAX;
    }
    pthread_mutex_unlock(inode_lock(ino));
    return keep;
}

static void opendir_reply(struct op *op)
{
    struct front *f = op->front;
    struct fuse_file_info fi = {.flags = (int)op->u[0]};
    struct dir *d = calloc(1, sizeof(*d));
    struct file *file;

    if (!d) {
        op_fail(op, ENOMEM);
        return;
    }
    d->front = f;
    atomic_init(&d->refs, 1);
    pthread_mutex_init(&d->lock, NULL);

    int err = file_new(f, op->ino, fi.flags, &op->cred, &file);

    if (err) {
        dir_put(d);
        op_fail(op, -err);
        return;
    }
    file->dir = d;
    fi.fh = file->index;
    fi.cache_readdir = 1;
    fi.keep_cache = listing_keeps(f, op->ino);
    /* Where the kernel kept only the begin of a listing, it asks from the middle on. */
    pthread_mutex_lock(inode_lock(op->ino));
    memcpy(d->verf, op->ino->use->dir_verf, sizeof(d->verf));
    pthread_mutex_unlock(inode_lock(op->ino));
    if (!op_claim(op) || fuse_reply_open(op->req, &fi) != 0) {
        file->dir = NULL;
        dir_put(d);
        file_free(f, file);
    }
    op_end(op);
}

static void opendir_asked(struct remote_call *call)
{
    struct op *op = op_of(call);
    uint32_t before = names_verifier(op->ino);

    if (call->post.valid)
        attr_accept(op->front, op->ino, &call->post, call);
    /* The kernel notes with its listing the time of the directory that it knows when it begins. */
    if (names_verifier(op->ino) != before)
        kernel_forget_attr(op->front, op->ino);
    if (call->op == REMOTE_ACCESS)
        access_note(op->front, op->ino, &op->cred, call);
    if (call->error == 0 && call->op == REMOTE_ACCESS && !(call->u.access.allowed & R_OK))
        call->error = -EACCES;
    if (call->error)
        op_fail(op, -call->error);
    else
        opendir_reply(op);
}

static bool may_list(struct op *op)
{
    pthread_mutex_lock(inode_lock(op->ino));
    struct timespec ctime = op->ino->rec->attr.ctime;

    pthread_mutex_unlock(inode_lock(op->ino));
    return access_known(op->front, op->ino, &op->cred, R_OK, ctime);
}

void front_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct inode *ino = inode_by_nodeid(f, nodeid);

    if (!ino) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    if (unmap_is_helper(f, fuse_req_ctx(req)->pid)) { /* its way into the mount; reads nothing */
        struct fuse_file_info none = {.keep_cache = 1, .cache_readdir = 1};

        fuse_reply_open(req, &none);
        inode_unref(f, ino);
        return;
    }
    struct op *op = op_new(f, req, ino);

    inode_unref(f, ino);
    if (!op)
        return;
    op->u[0] = (uint32_t)fi->flags;
    bool fresh = attr_fresh(op->ino) && !listing_asks(f, op->ino);

    if (!f->config.default_permissions && !(fresh && may_list(op))) {
        op->call.u.access.want = R_OK | W_OK | X_OK; /* nobody asked whether the caller may */
        op_submit(op, REMOTE_ACCESS, opendir_asked);
    } else if (fresh) {
        opendir_reply(op);
    } else {
        op_submit(op, REMOTE_GETATTR, opendir_asked);
    }
}

void front_releasedir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct file *file = file_of(f, fi->fh);

    (void)nodeid;
    if (file) {
        struct dir *d = file->dir;

        file->dir = NULL;
        dir_state_free(d);
        file_free(f, file);
    }
    fuse_reply_err(req, 0);
}

/* Every change of a directory is on the server's disk before its reply (RFC 1813 4.8). */
void front_fsyncdir(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
    (void)nodeid;
    (void)datasync;
    (void)fi;
    fuse_reply_err(req, 0);
}
