// SPDX-License-Identifier: Apache-2.0
/*
 * Attribute cache, first version: no adaptive timeouts, no racily clean rule yet.
 */
#include "fuse/ops.h"
#include <errno.h>
#include <sys/stat.h>
int attr_start(struct front *f)
{
    return 0;
}
void attr_stop(struct front *f)
{
}
bool attr_fresh(struct inode *i)
{
    return i->attr_valid && i->attr_expires_ns > now_ns();
}
static void take(struct front *f, struct inode *i, const struct attr *a, uint64_t sent)
{
    i->rec->attr = *a;
    i->attr_valid = true;
    i->attr_sent_ns = sent;
    i->attr_timeout_ns = f->config.acregmin_ns;
    i->attr_expires_ns = now_ns() + i->attr_timeout_ns;
}
void attr_accept(struct front *f, struct inode *i, const struct remote_post *p,
                 const struct remote_call *c)
{
    if (!p->valid)
        return;
    pthread_mutex_lock(&i->lock);
    if (i->map) {
        struct token t = token_of(&p->attr), h = mapping_token(i->map);
        if (!mapping_has_pages(i->map) && !mapping_is_busy(i->map)) {
            mapping_set_token(i->map, &t);
            mapping_set_size(i->map, p->attr.size);
            take(f, i, &p->attr, c->sent_ns);
        } else if (token_equal(&t, &h))
            take(f, i, &p->attr, c->sent_ns);
    } else
        take(f, i, &p->attr, c->sent_ns);
    pthread_mutex_unlock(&i->lock);
}
void attr_accept_own(struct front *f, struct inode *i, const struct remote_wcc *pre,
                     const struct remote_post *p, const struct remote_call *c)
{
    if (!p->valid)
        return;
    if (i->map && pre->valid) {
        struct token a = {.ctime = pre->ctime, .mtime = pre->mtime, .size = pre->size, .valid = 1},
                     b = token_of(&p->attr);
        mapping_own_change(i->map, &a, &b);
    }
    pthread_mutex_lock(&i->lock);
    take(f, i, &p->attr, c->sent_ns);
    pthread_mutex_unlock(&i->lock);
}
void attr_accept_revalidated(struct front *f, struct inode *i, const struct attr *a, uint64_t s)
{
    pthread_mutex_lock(&i->lock);
    take(f, i, a, s);
    pthread_mutex_unlock(&i->lock);
}
bool attr_token_racy(struct front *f, const struct token *t)
{
    return false;
}
bool attr_clock_coarse(struct front *f)
{
    return false;
}
bool attr_only_ctime_ours(struct front *f, struct inode *i, const struct token *n,
                          const struct token *h)
{
    return false;
}
void attr_expire(struct inode *i)
{
    i->attr_expires_ns = 0;
}
void attr_stat(struct front *f, struct inode *i, struct stat *s, double *to)
{
    struct attr *a = &i->rec->attr;
    memset(s, 0, sizeof *s);
    s->st_mode = a->mode;
    s->st_nlink = a->nlink;
    s->st_uid = a->uid;
    s->st_gid = a->gid;
    s->st_size = i->map ? mapping_size(i->map) : a->size;
    __atomic_store_n(&i->told_size, (uint64_t)s->st_size, __ATOMIC_RELAXED);
    s->st_blocks = a->used / 512;
    s->st_ino = a->fileid;
    s->st_rdev = a->rdev;
    s->st_atim = a->atime;
    s->st_mtim = a->mtime;
    s->st_ctim = a->ctime;
    s->st_blksize = 1 << 20;
    uint64_t n = now_ns();
    *to = i->attr_expires_ns > n ? (i->attr_expires_ns - n) / 1e9 : 0;
}
void attr_fill_entry(struct front *f, struct inode *i, struct fuse_entry_param *e)
{
    memset(e, 0, sizeof *e);
    e->ino = i->nodeid;
    e->generation = 0; /* what unmap_root.c puts into its handles */
    attr_stat(f, i, &e->attr, &e->attr_timeout);
    e->entry_timeout = 1;
}
void attr_reply_entry(struct op *op, struct inode *ino)
{
}
static void done(struct remote_call *c)
{
    struct op *op = op_of(c);
    struct stat s;
    double t;
    if (c->error) {
        op_fail(op, -c->error);
        return;
    }
    attr_accept(op->front, op->ino, &c->post, c);
    attr_stat(op->front, op->ino, &s, &t);
    if (op_claim(op))
        fuse_reply_attr(op->req, &s, t);
    op_end(op);
}
void front_getattr(fuse_req_t req, fuse_ino_t n, struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct inode *i = inode_by_nodeid(f, n);
    if (!i) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    if (attr_fresh(i) || unmap_is_helper(f, fuse_req_ctx(req)->pid)) {
        struct stat s;
        double t;
        attr_stat(f, i, &s, &t);
        fuse_reply_attr(req, &s, t);
        inode_unref(f, i);
        return;
    }
    struct op *op = op_new(f, req, i);
    inode_unref(f, i);
    if (op)
        op_submit(op, REMOTE_GETATTR, done);
}
