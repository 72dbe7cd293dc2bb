// SPDX-License-Identifier: Apache-2.0
/*
 * Open files: open, flush, release, fsync, lseek.
 *
 * OPEN asks the server: LOOKUP of the name by which the kernel has the file (name_judge), else
 * GETATTR; and ACCESS with the caller's credential where the kernel does not check permissions
 * itself, unless that was asked since ctime last moved. Both leave together where it is plain that
 * both are wanted: ACCESS by the handle that is opened, so that its answer is thrown away should
 * the name turn out to be another file's. OPEN revalidates what is cached if the file changed, and
 * replies with keep_cache always: what the kernel holds is then known to be right. The first writer
 * of a file whose pages the kernel may hold without a twin waits for an unmap as well.
 *
 * FLUSH and FSYNC write back and commit, and report each error of writing back once to each
 * descriptor (invariant I7). FSYNC is called under the kernel's inode lock: it waits for the
 * server, never for an unmap. An FSYNC through a descriptor of unmap.c's own is held by it.
 *
 * Under kernel_writeback the kernel reads what a write(2) leaves of a page through a descriptor
 * that may be open for writing only. Where the caller may not read the file, such a descriptor
 * bypasses the kernel's pages (FOPEN_DIRECT_IO). FLUSH and FSYNC send the kernel's mtime, too
 * (times.c).
 *
 * Errors: EACCES from ACCESS, ESTALE when the file is gone at the server, those of writing back.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/point.h"
#include "fuse/name.h"
#include "fuse/ops.h"

/* ---- the table ---- */

static bool writes(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY;
}

static int file_make(struct front *f, struct inode *ino, int flags, const struct cred *cred,
                     bool own, struct file **out)
{
    struct file *file = calloc(1, sizeof *file);

    if (!file)
        return -ENOMEM;
    if (inode_use(f, ino) != 0) {
        free(file);
        return -ENOMEM;
    }
    file->index = slab_alloc(f->file_slab);
    file->cred = own ? 0 : credtab_intern(f->creds, cred);
    if (!file->index || (!own && !file->cred)) {
        if (file->index)
            slab_free(f->file_slab, file->index);
        free(file);
        return -ENFILE;
    }
    file->magic = FILE_MAGIC;
    file->ino = ino;
    file->flags = flags;
    file->own = own;
    inode_ref(ino);
    pthread_mutex_init(&file->dir_lock, NULL);
    file->rec = arena_at(f->arena, ARENA_FILES, file->index);
    file->rec->inode = ino->index;
    file->rec->flags = (uint32_t)flags;
    file->rec->cred = file->cred;
    file->rec->error_seen = ino->map ? mapping_error_sample(ino->map) : 0;
    slab_publish(&file->rec->live, 1);
    f->files[file->index] = file;
    *out = file;
    return 0;
}

int file_new(struct front *f, struct inode *ino, int flags, const struct cred *cred,
             struct file **out)
{
    int err = file_make(f, ino, flags, cred, false, out);

    if (err)
        return err;
    pthread_mutex_lock(inode_lock(ino));

    if (ino->opens++ == 0 && ino->map)
        revalidate_timed(f, ino, true);
    ino->rec->opens = ino->opens;
    if (writes(flags))
        ino->writers++;
    pthread_mutex_unlock(inode_lock(ino));
    if (ino->map && writes(flags))
        (*out)->unmap_first = mapping_writer_add(ino->map);
    return 0;
}

struct file *file_of(struct front *f, uint64_t fh)
{
    struct file *file = fh < f->arena->header->region[ARENA_FILES].count ? f->files[fh] : NULL;

    return file && file->magic == FILE_MAGIC ? file : NULL;
}

void file_free(struct front *f, struct file *file)
{
    struct inode *ino = file->ino;
    bool last = false;

    if (!file->own) {
        if (ino->map && writes(file->flags))
            mapping_writer_remove(ino->map);
        pthread_mutex_lock(inode_lock(ino));
        if (writes(file->flags))
            ino->writers--;
        last = --ino->opens == 0;
        if (last && ino->map)
            revalidate_timed(f, ino, false);
        ino->rec->opens = ino->opens;
        pthread_mutex_unlock(inode_lock(ino));
    }
    if (file->dir)
        dir_state_free(file->dir);
    pthread_mutex_destroy(&file->dir_lock);
    free(file->lock_owners);
    f->files[file->index] = NULL;
    slab_publish(&file->rec->live, 0);
    slab_free(f->file_slab, file->index);
    file->magic = ~FILE_MAGIC;
    free(file);
    if (last)
        silly_release(f, ino);
    inode_unref(f, ino);
}

/* ---- open ---- */

/*
 * OPEN against unlink(2) and rename(2), which the kernel lets run at one time. Whoever comes first
 * decides: an OPEN counts from its arrival on, so that the removal gives the file a silly name; and
 * one that comes while the removal is under way waits for its end, and then asks whether the name
 * is there (nfs_unlink, nfs_rename: NFS_FSDATA_BLOCKED). Otherwise the descriptor that open(2)
 * returns could be stale. False: it waits (op->p[0]: the next one).
 */
static bool open_begins(struct op *op)
{
    struct inode *ino = op->ino;

    op->opening = true;
    pthread_mutex_lock(inode_lock(ino));
    ino->opening++;
    bool wait = ino->removing > 0;

    if (wait) {
        op->p[0] = ino->open_waiting;
        ino->open_waiting = op;
    }
    pthread_mutex_unlock(inode_lock(ino));
    return !wait;
}

bool removal_begins(struct inode *ino)
{
    pthread_mutex_lock(inode_lock(ino));
    bool open = S_ISREG(ino->type) && (ino->opens || ino->opening) && !silly_stays(ino);

    if (!open)
        ino->removing++;
    pthread_mutex_unlock(inode_lock(ino));
    return !open;
}

static void open_go(struct op *op);

void removal_ends(struct front *f, struct inode *ino, int error)
{
    struct op *waiting = NULL;

    (void)f;
    pthread_mutex_lock(inode_lock(ino));
    if (--ino->removing == 0) {
        waiting = ino->open_waiting;
        ino->open_waiting = NULL;
    }
    pthread_mutex_unlock(inode_lock(ino));
    for (struct op *op = waiting, *next; op; op = next) {
        next = op->p[0];
        op->p[0] = NULL;
        if (error == -ENOTCONN) /* the end: nothing may be asked any more */
            op_fail(op, ENOTCONN);
        else
            open_go(op);
    }
}

void open_ends(struct front *f, struct inode *ino)
{
    pthread_mutex_lock(inode_lock(ino));
    bool last = --ino->opening == 0 && ino->opens == 0;

    pthread_mutex_unlock(inode_lock(ino));
    if (last)
        silly_release(f, ino);
}

struct open_wait {
    struct reval_wait wait;
    struct op *op;
    struct file *file;
    int flags;
};

static void open_reply(struct op *op, struct file *file)
{
    struct front *f = op->front;
    file->noflush = lock_noflush(f, file->flags);

    struct fuse_file_info fi = {
        .flags = file->flags, .fh = file->index, .keep_cache = 1, .noflush = file->noflush};

    fi.direct_io = file->direct;

    if (!op_claim(op) || fuse_reply_open(op->req, &fi) != 0)
        file_free(f, file);
    op_end(op);
}

static void unmapped(struct reval_wait *wait)
{
    struct open_wait *w = (struct open_wait *)wait;
    struct op *op = w->op;
    struct file *file = w->file;
    int err = wait->error;

    free(w);
    if (err) {
        file_free(op->front, file);
        op_fail(op, -err);
        return;
    }
    open_reply(op, file);
}

/* The cached state is right; w is consumed. */
static void revalidated(struct reval_wait *wait)
{
    struct open_wait *w = (struct open_wait *)wait;
    struct op *op = w->op;
    struct front *f = op->front;
    int err = wait->error;

    if (!err)
        err = file_new(f, op->ino, w->flags, &op->cred, &w->file);
    if (err) {
        free(w);
        op_fail(op, -err);
        return;
    }
    if (w->file->unmap_first) {
        wait->done = unmapped;
        revalidate_unmap(f, op->ino, wait);
        return;
    }

    w->file->direct = op->u[1];
    /* The kernel reads up to, and appends at, the size it knows, without asking. (Under
     * kernel_writeback it does not learn another.) */
    if (op->ino->map && !f->config.kernel_writeback && !attr_size_taken(op->ino)) {
        wait->done = unmapped;
        revalidate_size(f, op->ino, wait);
        return;
    }

    struct file *file = w->file;

    free(w);
    open_reply(op, file);
}

/* Which of R_OK, W_OK an open needs; exec is checked by the kernel from the mode. */
static uint32_t access_wanted(int flags)
{
    switch (flags & O_ACCMODE) {
    case O_RDONLY:
        return R_OK;
    case O_WRONLY:
        return W_OK;
    default:
        return R_OK | W_OK;
    }
}

/* Reading, too, is asked about: the kernel fills pages through what is open for writing. */
static bool fills_pages(struct front *f, int flags)
{
    return f->config.kernel_writeback && (flags & O_ACCMODE) == O_WRONLY;
}

static void open_checked(struct op *op, const struct remote_call *asked)
{
    struct open_wait *w = calloc(1, sizeof *w);
    struct front *f = op->front;

    if (!w) {
        op_fail(op, ENOMEM);
        return;
    }
    w->op = op;
    w->flags = (int)op->u[0];
    w->wait.done = revalidated;
    if (!S_ISREG(op->ino->type) || (!f->config.cto && attr_fresh(op->ino)))
        revalidated(&w->wait);
    else if (asked)
        revalidate_with(f, op->ino, asked, &w->wait);
    else
        revalidate(f, op->ino, false, &w->wait);
}

static void access_judge(struct op *op, const struct remote_call *call)
{
    uint32_t want = access_wanted((int)op->u[0]);

    access_note(op->front, op->ino, &op->cred, call);
    if (call->error) {
        op_fail(op, -call->error);
        return;
    }
    /* A program that may be executed may be read by the kernel (nfs_may_open). */
    if ((call->u.access.allowed & want) != want &&
        !(want == R_OK && (call->u.access.allowed & X_OK)) &&
        !op->front->config.default_permissions) {
        op_fail(op, EACCES);
        return;
    }
    op->u[1] = fills_pages(op->front, (int)op->u[0]) && !(call->u.access.allowed & R_OK);
    open_checked(op, call->post.valid ? call : NULL);
}

static void access_done(struct remote_call *call)
{
    access_judge(op_of(call), call);
}

#define OPEN_ACCESS (R_OK | W_OK | X_OK) /* what is asked for, whatever this open needs of it */

/* Must ACCESS be asked? */
static bool asks_access(struct op *op, const struct attr *now)
{
    struct front *f = op->front;
    uint32_t want = access_wanted((int)op->u[0]);
    bool fills = fills_pages(f, (int)op->u[0]);

    if (f->config.default_permissions && !fills)
        return false;
    return !now || !access_known(f, op->ino, &op->cred, fills ? want | R_OK : want, now->ctime);
}

/* By the handle. */
static void open_inode(struct op *op)
{
    if (!S_ISREG(op->ino->type) || !asks_access(op, NULL)) {
        open_checked(op, NULL);
        return;
    }
    op->call.u.access.want = OPEN_ACCESS;
    op_submit(op, REMOTE_ACCESS, access_done);
}

static void open_by_handle(struct op *op, const struct remote_call *access)
{
    if (access) {
        access_judge(op, access);
        return;
    }
    op_reset_call(op);
    open_inode(op);
}

/*
 * The kernel opens what it found under a name some time ago, up to acdirmax. Close-to-open promises
 * what the server has now, and a file may be replaced by a rename. So OPEN asks for the name by
 * which the file was last seen: one call, as GETATTR would be, and with the attributes. Another
 * file there, or none, is ESTALE: the kernel walks the path again, asking for each name.
 *
 * A file with several names may have been opened by another one than that. When it lost a link
 * since it was last looked at, that may be the one: ESTALE, once, for the same effect.
 */
static bool lost_a_link(struct inode *ino, const struct attr *now)
{
    pthread_mutex_lock(inode_lock(ino));
    bool lost = ino->attr_valid && now->nlink < ino->rec->attr.nlink && !ino->ctime_ours;

    pthread_mutex_unlock(inode_lock(ino));
    return lost;
}

static void name_judge(struct op *op, const struct remote_call *access)
{
    const struct remote_call *call = &op->call;
    struct front *f = op->front;

    if (call->dir_post.valid)
        attr_accept(f, op->ino2, &call->dir_post, call);
    /* No link: the server found a name that it remembers and that is gone (nfs-ganesha, where the
     * directory was changed behind its back: its next answer is right). */
    bool gone = call->error == -ENOENT ||
                (call->error == 0 && call->post.valid && call->post.attr.nlink == 0);

    if (gone || (call->error == 0 && call->has_obj && !fh_equal(&call->obj, &op->ino->rec->fh))) {
        attr_expire(op->ino2);
        op_fail(op, ESTALE);
        return;
    }
    if (call->error == -ETIMEDOUT || call->error == -ENOTCONN) {
        op_fail(op, -call->error);
        return;
    }
    /* The directory cannot be searched by this caller, who came another way, or is gone. */
    if (call->error || !call->has_obj || !call->post.valid) {
        open_by_handle(op, access);
        return;
    }
    if (lost_a_link(op->ino, &call->post.attr)) {
        attr_accept(f, op->ino, &call->post, call);
        op_fail(op, ESTALE);
        return;
    }
    if (!asks_access(op, &call->post.attr)) {
        open_checked(op, call);
        return;
    }
    open_by_handle(op, access);
}

/* op->p[1]: ACCESS, beside the LOOKUP of op->call; NULL: was not asked. */
struct beside {
    struct remote_call access;
    atomic_uint left; /* unanswered, of the two */
};

static void one_answered(struct op *op)
{
    struct beside *beside = op->p[1];

    if (beside && atomic_fetch_sub(&beside->left, 1) != 1)
        return;
    op->p[1] = NULL;
    name_judge(op, beside ? &beside->access : NULL);
    free(beside);
}

static void one_asked(struct remote_call *call)
{
    one_answered(op_of(call));
}

/* Is ACCESS wanted, as far as is known before the LOOKUP's answer? */
static struct beside *ask_beside(struct op *op)
{
    struct attr now;

    pthread_mutex_lock(inode_lock(op->ino));

    bool valid = op->ino->attr_valid;

    now = op->ino->rec->attr;
    pthread_mutex_unlock(inode_lock(op->ino));
    if (!asks_access(op, valid ? &now : NULL))
        return NULL;

    struct beside *beside = calloc(1, sizeof *beside);

    if (!beside)
        return NULL; /* then in turn */
    atomic_init(&beside->left, 2);
    beside->access.op = REMOTE_ACCESS;
    beside->access.cred = &op->cred;
    beside->access.fh = op->ino->rec->fh;
    beside->access.u.access.want = OPEN_ACCESS;
    beside->access.done = one_asked;
    beside->access.arg = op;
    return beside;
}

static void open_go(struct op *op)
{
    struct front *f = op->front;

    if (!f->config.cto || !S_ISREG(op->ino->type) || !names_of(f, op->ino, &op->ino2, &op->name)) {
        open_inode(op);
        return;
    }

    struct beside *beside = ask_beside(op);

    op->p[1] = beside;
    op->call.name = op->name;
    op_submit_fh(op, REMOTE_LOOKUP, &op->ino2->rec->fh, one_asked);
    if (beside) /* the op waits for both */
        remote_submit(f->remote, &beside->access);
}

static void open_own(struct front *f, fuse_req_t req, struct inode *ino, int flags)
{
    struct fuse_file_info fi = {.keep_cache = 1, .noflush = 1};
    struct file *file;
    int err = file_make(f, ino, flags, NULL, true, &file);

    if (err) {
        fuse_reply_err(req, -err);
        return;
    }
    fi.fh = file->index;
    if (fuse_reply_open(req, &fi) != 0)
        file_free(f, file);
}

void front_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct inode *ino = inode_by_nodeid(f, nodeid);

    if (!ino) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    if (unmap_is_helper(f, fuse_req_ctx(req)->pid)) {
        open_own(f, req, ino, fi->flags);
        inode_unref(f, ino);
        return;
    }

    struct op *op = op_new(f, req, ino);

    inode_unref(f, ino);
    if (!op)
        return;
    op->u[0] = (uint64_t)(unsigned)fi->flags;
    if (open_begins(op))
        open_go(op);
}

/* ---- writing back on behalf of a descriptor ---- */

struct file_sync {
    struct cache_sync sync;
    struct op *op;
    struct file *file;
    bool flush;
};

/*
 * The error that this descriptor has not been told of; else that of this attempt. FSYNC tells: the
 * next one is silent. FLUSH only looks: a forked child closes its copy of the descriptor, too, and
 * would take the error away from the parent, who does listen.
 */
static int file_error(struct file *file, int attempt, bool told)
{
    uint64_t seen = file->rec->error_seen;
    int err = mapping_error_check(file->ino->map, &seen);

    if (told)
        file->rec->error_seen = seen;
    return err ? err : attempt;
}

static void file_sync_end(void *arg, int times_error)
{
    struct file_sync *w = arg;
    struct op *op = w->op;
    int err = w->sync.error ? w->sync.error : times_error;

    /* A caller that was killed has not been told: the error waits for its next call. */
    if (op_claim(op)) {
        err = file_error(w->file, err, !w->flush);
        fuse_reply_err(op->req, -err);
    }
    op_end(op);
    free(w);
}

static void file_synced(struct cache_sync *s)
{
    struct file_sync *w = (struct file_sync *)s;

    if (s->error || !times_send(w->op->front, w->op->ino, file_sync_end, w))
        file_sync_end(w, 0);
}

static void file_sync_reply(struct op *op, struct file *file, bool flush)
{
    struct file_sync *w = calloc(1, sizeof *w);

    if (!w) {
        op_fail(op, ENOMEM);
        return;
    }
    w->op = op;
    w->file = file;
    w->flush = flush;
    w->sync.m = file->ino->map;
    w->sync.done = file_synced;
    if (cache_sync(&w->sync) != -EINPROGRESS)
        file_synced(&w->sync);
}

void front_flush(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct file *file = file_of(f, fi->fh);

    if (!file || file->own) {
        fuse_reply_err(req, file ? 0 : EBADF);
        return;
    }
    if (file->ino->locks)
        lock_release_posix(f, file->ino, fi->lock_owner);
    if (!file->ino->map || !writes(file->flags)) {
        int err = file->ino->map ? file_error(file, 0, false) : 0;

        fuse_reply_err(req, -err);
        return;
    }

    struct op *op = op_new(f, req, file->ino);

    if (op)
        file_sync_reply(op, file, true);
}

void front_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct file *file = file_of(f, fi->fh);

    if (!file) {
        fuse_reply_err(req, EBADF);
        return;
    }
    if (file->own) {
        unmap_fsync_arrived(f, req, file);
        return;
    }
    POINT("kernel.fsync");
    if (FAULT(fsync_unmaps) && file->ino->map)
        mapping_unmap_all(file->ino->map);

    struct op *op = op_new(f, req, file->ino);

    if (op)
        file_sync_reply(op, file, false);
}

void front_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct file *file = file_of(f, fi->fh);

    if (file) {
        if (!file->own && file->ino->locks) {
            lock_release_flock(f, file->ino, fi->lock_owner);
            lock_release_file(f, file);
        }
        /* What came from a mapping after the last close() goes out now; who waits for nothing
         * hears of no error, but the bytes stay. */
        if (!file->own && file->ino->map && writes(file->flags))
            mapping_kick(file->ino->map);
        if (!file->own && file->ino->map)
            times_send_later(f, file->ino);
        file_free(f, file);
    }
    fuse_reply_err(req, 0);
}

void front_lseek(fuse_req_t req, fuse_ino_t nodeid, off_t off, int whence,
                 struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct file *file = file_of(f, fi->fh);

    if (!file || !file->ino->map) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    /* What the kernel holds dirty is no hole: it answers by its own size, now and from now on. */
    if (f->config.kernel_writeback) {
        fuse_reply_err(req, ENOSYS);
        return;
    }

    /* NFSv3 does not tell holes: the file is one extent with a hole at its end (lseek(2)). */
    uint64_t size = mapping_size(file->ino->map);

    if (off < 0 || (uint64_t)off >= size)
        fuse_reply_err(req, ENXIO);
    else if (whence == SEEK_DATA)
        fuse_reply_lseek(req, off);
    else if (whence == SEEK_HOLE)
        fuse_reply_lseek(req, (off_t)size);
    else
        fuse_reply_err(req, EINVAL);
}
