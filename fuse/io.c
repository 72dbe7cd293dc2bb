// SPDX-License-Identifier: Apache-2.0
/*
 * READ and WRITE.
 *
 * The common case makes no op and allocates nothing: a READ whose pages are there is answered from
 * their frames, a WRITE that finds room is copied and answered. What has to wait (a miss, memory,
 * the dirty limit, O_SYNC) becomes an op, and whoever completes it replies.
 *
 * A READ is answered up to the size that the kernel was last told, padded with zeros: a shorter
 * answer makes it drop dirty pages beyond. A mapped page that the kernel writes back is never
 * answered with an error: it would forget it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "cache/point.h"
#include "fuse/ops.h"

/* ---- READ ---- */

struct read_op {
    struct cache_read r;
    struct op *op;
    struct read_op *next;
};

/* A few of them (5 KiB each) for each thread, so that a hit allocates nothing. */
static __thread struct read_op *spare;
static __thread unsigned nspare;

static struct read_op *read_op_get(void)
{
    struct read_op *ro = spare;

    if (!ro)
        return malloc(sizeof *ro);
    spare = ro->next;
    nspare--;
    return ro;
}

static void read_op_put(struct read_op *ro)
{
    if (nspare >= 16) {
        free(ro);
        return;
    }
    ro->next = spare;
    spare = ro;
    nspare++;
}

static void read_done(struct cache_read *r)
{
    struct read_op *ro = (struct read_op *)r;
    struct op *op = ro->op;

    POINT_AT("kernel.filled", r->offset >> PAGE_SHIFT);
    if (op_claim(op)) {
        if (r->error)
            fuse_reply_err(op->req, -r->error);
        else
            fuse_reply_iov(op->req, r->iov, r->iovcnt);
    }
    cache_read_release(r);
    op_end(op);
    read_op_put(ro);
}

void front_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t off,
                struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct file *file = file_of(f, fi->fh);

    if (!file || !file->ino->map) {
        fuse_reply_err(req, EBADF);
        return;
    }

    POINT_AT("kernel.read", (uint64_t)off >> PAGE_SHIFT);
    /* It knows of a larger size than we do, and will have pages of zeros that no frame stands for.
     */
    if (f->config.kernel_writeback)
        mapping_given_beyond(file->ino->map, (uint64_t)off + size);

    struct read_op *ro = read_op_get();

    if (!ro) {
        fuse_reply_err(req, ENOMEM);
        return;
    }

    struct cache_read *r = &ro->r;

    r->m = file->ino->map;
    r->offset = (uint64_t)off;
    r->count = (uint32_t)size;
    r->direct = fi->flags & O_DIRECT;
    r->ra = r->direct ? NULL : &file->ra;
    r->cred = file->cred;
    r->kernel = !r->direct;
    r->done = read_done;
    r->nowait = true;
    if (cache_read(r) == 0) {
        POINT_AT("kernel.filled", r->offset >> PAGE_SHIFT);
        fuse_reply_iov(req, r->iov, r->iovcnt);
        cache_read_release(r);
        read_op_put(ro);
        return;
    }
    ro->op = op_new(f, req, file->ino);
    if (!ro->op) {
        read_op_put(ro);
        return;
    }
    r->nowait = false;

    int err = cache_read(r);

    if (err != -EINPROGRESS) {
        r->error = err;
        read_done(r);
    }
}

/* ---- WRITE ---- */

struct write_op {
    struct cache_write w;
    struct cache_sync sync;
    struct op *op;
    struct file *file;
    size_t size;
    char data[];
};

static void write_reply(struct write_op *wo)
{
    struct op *op = wo->op;

    if (op_claim(op))
        fuse_reply_write(op->req, wo->size);
    op_end(op);
    free(wo);
}

static void write_synced(struct cache_sync *s)
{
    struct write_op *wo = (struct write_op *)((char *)s - offsetof(struct write_op, sync));
    struct op *op = wo->op;
    int err = s->error;

    if (err && op_claim(op)) {
        mapping_error_check(wo->file->ino->map, &wo->file->rec->error_seen);
        fuse_reply_err(op->req, -err);
    }
    write_reply(wo);
}

static void write_taken(struct cache_write *w)
{
    struct write_op *wo = (struct write_op *)w;

    if (!wo->sync.done) {
        write_reply(wo);
        return;
    }
    wo->sync.m = w->m;
    if (cache_sync(&wo->sync) != -EINPROGRESS)
        write_synced(&wo->sync);
}

static bool write_hold(struct cache_write *w, bool on)
{
    return op_hold(((struct write_op *)w)->op, on);
}

/* The rest of a WRITE, which outlives the receive buffer. */
static void write_later(struct front *f, fuse_req_t req, struct file *file,
                        const struct cache_write *begun, size_t size, bool sync)
{
    size_t left = begun->count - begun->progress;
    struct write_op *wo = malloc(sizeof *wo + left);

    if (!wo) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    wo->op = op_new(f, req, file->ino);
    if (!wo->op) {
        free(wo);
        return;
    }
    memcpy(wo->data, (const char *)begun->data + begun->progress, left);
    wo->file = file;
    wo->size = size;
    wo->sync.done = sync ? write_synced : NULL;
    wo->w = *begun;
    wo->w.offset += begun->progress;
    wo->w.count = (uint32_t)left;
    wo->w.data = wo->data;
    wo->w.nowait = false;
    wo->w.given_up = wo->w.kind == CACHE_WRITE_MAPPED ? NULL : &wo->op->claimed;
    wo->w.hold = write_hold;
    wo->w.done = write_taken;
    if (!left || cache_write(&wo->w) == 0)
        write_taken(&wo->w);
}

static void grow_told_size(struct inode *ino, uint64_t end)
{
    uint64_t told = __atomic_load_n(&ino->told_size, __ATOMIC_RELAXED);

    if (end > told)
        __atomic_store_n(&ino->told_size, end, __ATOMIC_RELAXED);
}

void front_write(fuse_req_t req, fuse_ino_t nodeid, const char *buf, size_t size, off_t off,
                 struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct file *file = file_of(f, fi->fh);

    if (!file || !file->ino->map) {
        fuse_reply_err(req, EBADF);
        return;
    }

    if (fi->writepage)
        POINT_AT("kernel.writepage", (uint64_t)off >> PAGE_SHIFT);
    else
        POINT_AT("kernel.write", (uint64_t)off >> PAGE_SHIFT);

    bool odirect = fi->flags & O_DIRECT && !fi->writepage;
    bool direct = odirect || (file->direct && !fi->writepage);
    bool sync = !fi->writepage && (odirect || f->config.sync || file->flags & O_DSYNC);
    struct cache_write w = {
        .m = file->ino->map,
        .offset = (uint64_t)off,
        .count = (uint32_t)size,
        .data = buf,
        .kind = fi->writepage ? CACHE_WRITE_MAPPED
                : direct      ? CACHE_WRITE_DIRECT
                              : CACHE_WRITE_CALL,
        .unique = front_current_unique(),
        .cred = file->cred,
        .nowait = true,
        .sync_follows = sync,
    };

    if (FAULT(refuse_writepage) && fi->writepage && mapping_error_last(w.m)) {
        POINT_AT("kernel.refused", w.offset >> PAGE_SHIFT);
        fuse_reply_err(req, -mapping_error_last(w.m));
        return;
    }
    if (!fi->writepage) /* the kernel will know that size without being told */
        grow_told_size(file->ino, w.offset + size);
    if (cache_write(&w) == 0 && !sync)
        fuse_reply_write(req, size);
    else
        write_later(f, req, file, &w, size, sync);
}
