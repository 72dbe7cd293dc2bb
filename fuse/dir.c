// SPDX-License-Identifier: Apache-2.0
/*
 * Reading directories: readdir, readdirplus, releasedir, fsyncdir. How they are opened, and what
 * the kernel may keep of them: listing.c.
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
 * Who goes on reading does not wait for the next chunk: it is asked for as soon as a request comes
 * that does not begin the directory, or one took all of the chunk, and waits in `next` until the
 * reader gets there, a second at most. So the server works on it while the kernel and the reader
 * work on this one. Errors of such a call are not told; the reader asks again by itself.
 *
 * With READDIRPLUS the kernel makes entries and inodes of what it gets. They are withheld (only the
 * name is given) when the chunk may be older than the directory: another token, or an own
 * operation since. Otherwise a name that we removed could come back to life in the kernel.
 *
 * Lock order: dir lock > table lock, inode lock; ahead.c's.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/ops.h"

#define NEXT_NS 1000000000ull /* what was fetched ahead is used for so long */

struct chunk {
    struct remote_call call;
    struct cred cred;
    struct dir *dir;           /* referenced while the call is in flight */
    struct op *op;             /* the request that waits for it; NULL: none, it is fetched ahead */
    bool ahead, complete;      /* of dir->next; dir lock held */
    uint64_t start, end;       /* the cookies of what it begins with, and of what follows it */
    struct remote_dirent *pos; /* what follows pos_cookie; NULL: the end of the chunk */
    uint64_t pos_cookie;
    struct token token;     /* of the directory, from the same reply */
    uint32_t before, proof; /* ahead.c: its verifier when the call was sent; what the names prove */
};

/* An open directory; outlives its RELEASEDIR while a call is in flight that nobody waits for. */
struct dir {
    struct front *front;
    struct inode *ino; /* referenced */
    atomic_uint refs;
    pthread_mutex_t lock;
    struct chunk *chunk; /* complete; NULL: none */
    struct chunk *next;  /* fetched ahead, or being fetched; NULL: none */
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
    chunk_free(d->front, d->next);
    inode_unref(d->front, d->ino);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

struct dir *dir_new(struct front *f, struct inode *ino)
{
    struct dir *d = calloc(1, sizeof(*d));

    if (!d)
        return NULL;
    d->front = f;
    d->ino = ino;
    inode_ref(ino);
    atomic_init(&d->refs, 1);
    pthread_mutex_init(&d->lock, NULL);
    /* Where the kernel kept only the begin of a listing, it asks from the middle on. */
    pthread_mutex_lock(inode_lock(ino));
    memcpy(d->verf, ino->use->dir_verf, sizeof(d->verf));
    pthread_mutex_unlock(inode_lock(ino));
    return d;
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
        attr_fill_entry(f, ino, &param);
        if (slice_note(s, ino)) {
            names_confirm(f, op->ino, e->name, ino, c->proof, c->call.sent_ns);
            param.entry_timeout = name_valid;
            names_told(ino, name_valid);
            s->valid = shorter(s->valid, shorter(name_valid, param.attr_timeout));
        } else {
            param.ino = 0;
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

static void dir_reply(struct op *op, struct slice *s)
{
    listing_note(op->ino, op->u[2], s->valid);

    bool delivered = op_claim(op) && fuse_reply_buf(op->req, s->data, s->used) == 0;

    slice_free(op->front, s, delivered);
    op_end(op);
}

static bool chunk_holds(struct chunk *c, uint64_t off)
{
    return c && chunk_seek(c, off) && (c->pos || c->call.u.readdir.eof);
}

/* ---- fetching ----------------------------------------------------------------------------- */

static void chunk_done(struct remote_call *call);

static struct chunk *chunk_new(struct dir *d, const struct cred *cred, uint64_t start)
{
    struct chunk *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    c->cred = *cred;
    c->start = start;
    c->dir = d;
    atomic_fetch_add(&d->refs, 1);
    return c;
}

static void chunk_submit(struct chunk *c, bool plus, bool any_verf)
{
    struct dir *d = c->dir;
    struct front *f = d->front;

    memset(&c->call, 0, sizeof(c->call));
    c->pos_cookie = c->start;
    c->call.op = REMOTE_READDIR;
    c->call.cred = &c->cred;
    c->call.fh = d->ino->rec->fh;
    c->call.u.readdir.cookie = c->start;
    if (c->start && !any_verf) {
        pthread_mutex_lock(&d->lock);
        memcpy(c->call.u.readdir.verf, d->verf, sizeof(d->verf));
        pthread_mutex_unlock(&d->lock);
    }
    c->call.u.readdir.count = f->remote->dtsize ? f->remote->dtsize : 65536;
    c->call.u.readdir.plus = plus && f->config.rdirplus;
    c->call.done = chunk_done;
    c->call.arg = c;
    c->before = names_verifier(d->ino);
    remote_submit(f->remote, &c->call);
}

static void chunk_ask(struct op *op, struct dir *d)
{
    struct chunk *c = chunk_new(d, &op->cred, op->u[1]);

    if (!c) {
        op_fail(op, ENOMEM);
        return;
    }
    c->op = op;
    chunk_submit(c, op->u[2], false);
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
    chunk_submit(c, op->u[2], op->u[3]);
    return true;
}

/* Notes what came. False: it would make a reader go round for ever. */
static bool chunk_take(struct chunk *c)
{
    c->pos = c->call.u.readdir.entries;
    c->end = c->start;
    for (struct remote_dirent *e = c->pos; e; e = e->next)
        c->end = e->cookie;
    return c->end != c->start || c->call.u.readdir.eof;
}

/* Gives up what was fetched ahead, unless somebody waits for it. Dir lock held; the caller frees
 * what is returned. */
static struct chunk *next_drop(struct dir *d)
{
    struct chunk *n = d->next;

    if (!n || n->op)
        return NULL;
    d->next = NULL;
    return n->complete ? n : NULL;
}

/* The chunk becomes the directory's. Dir lock held; the caller frees what is returned. */
static struct chunk *chunk_install(struct dir *d, struct chunk *c)
{
    struct chunk *old = d->chunk;

    d->chunk = c;
    memcpy(d->verf, c->call.u.readdir.verf, sizeof(d->verf));
    return old;
}

/* The reader goes on, or has all that there is: the chunk that follows, to be submitted. Dir lock
 * held; the directory has a chunk. */
static struct chunk *next_new(struct op *op, struct dir *d)
{
    struct front *f = op->front;
    struct chunk *c = d->chunk;

    if (!(op->u[1] || !c->pos) || d->next || c->call.u.readdir.eof || !f->config.acregmin_ns ||
        !ahead_begins(f))
        return NULL;
    d->next = chunk_new(d, &op->cred, c->end);
    if (!d->next)
        ahead_ends(f);
    else
        d->next->ahead = true;
    return d->next;
}

static void chunk_deliver(struct chunk *c, struct op *op)
{
    struct dir *d = c->dir;
    struct front *f = d->front;
    struct slice s = {.data = malloc(op->u[0]), .size = op->u[0]};

    pthread_mutex_lock(inode_lock(d->ino));
    if (d->ino->use)
        memcpy(d->ino->use->dir_verf, c->call.u.readdir.verf, sizeof(d->verf));
    pthread_mutex_unlock(inode_lock(d->ino));

    pthread_mutex_lock(&d->lock);
    struct chunk *old = chunk_install(d, c);
    struct chunk *useless = d->next && d->next->start != c->end ? next_drop(d) : NULL;

    if (s.data)
        slice_fill(op, &s, c);
    struct chunk *next = next_new(op, d);

    pthread_mutex_unlock(&d->lock);
    chunk_free(f, old);
    chunk_free(f, useless);
    bool plus = op->u[2];

    if (s.data)
        dir_reply(op, &s);
    else
        op_fail(op, ENOMEM);
    if (next)
        chunk_submit(next, plus, false);
}

/* What was fetched ahead: for who waits for it, or for who will come. */
static void next_done(struct chunk *c, int err)
{
    struct dir *d = c->dir;
    struct front *f = d->front;

    pthread_mutex_lock(&d->lock);
    struct op *op = c->op;
    bool kept = !op && !err && d->next == c;

    c->op = NULL;
    c->complete = true;
    if (!kept && d->next == c)
        d->next = NULL;
    pthread_mutex_unlock(&d->lock);
    if (op && !err)
        chunk_deliver(c, op);
    else if (!kept)
        chunk_free(f, c);
    if (op && err)
        chunk_ask(op, d);
    dir_put(d);
    ahead_ends(f);
}

static void chunk_done(struct remote_call *call)
{
    struct chunk *c = call->arg;
    struct dir *d = c->dir;
    struct front *f = d->front;
    int err = call->error;

    if (err && !c->ahead && chunk_again(c))
        return;
    if (call->post.valid) {
        attr_accept(f, d->ino, &call->post, call);
        c->token = token_of(&call->post.attr);
        c->proof = ahead_proof(f, c->before, &call->post, call);
    }
    if (!err && !chunk_take(c))
        err = -EIO;
    if (c->ahead) {
        next_done(c, err);
        return;
    }
    struct op *op = c->op;

    c->op = NULL;
    if (err) {
        if (err == -ESTALE)
            attr_expire(d->ino);
        chunk_free(f, c);
        op_fail(op, err == -EBADMSG ? EINVAL : -err);
    } else {
        chunk_deliver(c, op);
    }
    dir_put(d);
}

/* ---- requests ----------------------------------------------------------------------------- */

/* Where the answer comes from: the directory's chunk, one that is under way, or the server. */
enum source { HERE, COMING, ASKED };

/* Dir lock held; the caller frees `*old`. */
static enum source dir_find(struct op *op, struct dir *d, struct chunk **old)
{
    struct chunk *n = d->next;

    if (!op->u[1])
        *old = next_drop(d);
    else if (chunk_holds(d->chunk, op->u[1]))
        return HERE;
    if (!n || n->op || !op->u[1])
        return ASKED;
    if (n->start == op->u[1] && !n->complete) {
        n->op = op;
        return COMING;
    }
    if (n->start != op->u[1] || n->call.sent_ns + NEXT_NS <= now_ns()) {
        *old = next_drop(d);
        return ASKED;
    }
    d->next = NULL;
    *old = chunk_install(d, n);
    return HERE;
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

    struct slice s = {.data = malloc(size), .size = size};
    struct chunk *old = NULL, *next = NULL;

    if (!s.data) {
        op_fail(op, ENOMEM);
        return;
    }
    pthread_mutex_lock(&d->lock);
    enum source source = dir_find(op, d, &old);

    if (source == HERE) {
        slice_fill(op, &s, d->chunk);
        next = next_new(op, d);
    }
    pthread_mutex_unlock(&d->lock);
    chunk_free(f, old);
    if (next)
        chunk_submit(next, plus, false);
    if (source == HERE) {
        dir_reply(op, &s);
        return;
    }
    free(s.data);
    if (source == ASKED)
        chunk_ask(op, d);
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

/* ---- closing ------------------------------------------------------------------------------ */

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
