// SPDX-License-Identifier: Apache-2.0
/*
 * The attribute cache: what is accepted from replies, what the kernel is told, for how long.
 *
 *   attr_accept()              any reply: refused when older than what is known; a regular file
 * with pages whose token moved keeps its times and its size, is marked and revalidated in the
 * background attr_accept_own()          the reply to an operation of ours that changed the object:
 * accepted, and the pages' token moves along where the server proved that nothing came between
 *   attr_accept_revalidated()  the end of a revalidation: accepted
 *
 * What the kernel is told is attr_stat(): the size of a regular file is the mapping's, which gets
 * smaller only by truncation and revalidation (a smaller size makes the kernel drop dirty pages
 * beyond it without a WRITE); mtime is local while bytes wait that the server has not seen, and no
 * flush is made to get the server's.
 *
 * Timeouts adapt as in nfs(5): from ac*min, doubled each time that attributes in the second half of
 * their time turn out unchanged, up to ac*max. They count from the sending of the request.
 *
 * The kernel is never notified from here: a notification before the reply to a GETATTR or LOOKUP
 * makes the kernel discard the reply's attributes.
 *
 * Locks: inode lock > mapping lock (inside cache/'s functions); the clock's lock is a leaf.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fuse/clock.h"
#include "fuse/ops.h"

struct server_clock {
    pthread_mutex_t lock;
    struct server_time time;
    atomic_bool asked;   /* FSINFO was sent */
    atomic_bool pending; /* ... and not answered */
    struct remote_call fsinfo;
};

/* ---- the clock ---- */

static int64_t real_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return clock_ns(now);
}

static void fsinfo_done(struct remote_call *call)
{
    struct server_clock *clock = call->arg;
    if (!call->error) {
        pthread_mutex_lock(&clock->lock);
        clock->time.time_delta = clock_ns(call->u.fsinfo.time_delta);
        pthread_mutex_unlock(&clock->lock);
    }
    atomic_store(&clock->pending, false);
}

/* Asks for the server's time_delta, once, and when the first reply has shown that it is there. */
static void clock_ask_delta(struct front *f)
{
    static const struct cred nobody_in_particular;
    struct server_clock *clock = f->clock;
    if (atomic_load_explicit(&clock->asked, memory_order_relaxed) ||
        atomic_exchange(&clock->asked, true))
        return;
    atomic_store(&clock->pending, true);
    clock->fsinfo = (struct remote_call){.op = REMOTE_FSINFO,
                                         .cred = &nobody_in_particular,
                                         .fh = f->remote->root,
                                         .done = fsinfo_done,
                                         .arg = clock};
    remote_submit(f->remote, &clock->fsinfo);
}

static void clock_reply(struct front *f, const struct attr *attr, const struct remote_call *call)
{
    clock_ask_delta(f);
    pthread_mutex_lock(&f->clock->lock);
    int64_t real = f->clock->time.own ? 0 : real_ns(); /* looked at only then */
    clock_seen(&f->clock->time, clock_ns(attr->ctime), (int64_t)call->replied_ns, real);
    pthread_mutex_unlock(&f->clock->lock);
}

/* Operations that set the ctime of what they change, when they are carried out. A WRITE's may be
 * set later; a LINK's or a RENAME's attributes may be of the file or of a directory. */
static bool sets_ctime(enum remote_op op)
{
    return op == REMOTE_SETATTR || op == REMOTE_CREATE || op == REMOTE_MKDIR ||
           op == REMOTE_SYMLINK || op == REMOTE_MKNOD || op == REMOTE_REMOVE || op == REMOTE_RMDIR;
}

static void clock_own_reply(struct front *f, const struct attr *attr,
                            const struct remote_call *call)
{
    if (call->retransmitted) { /* when it was carried out, nobody knows */
        clock_reply(f, attr, call);
        return;
    }
    int64_t ctime = clock_ns(attr->ctime);
    pthread_mutex_lock(&f->clock->lock);
    struct server_time *time = &f->clock->time;
    int64_t real = time->own ? 0 : real_ns();
    if (sets_ctime(call->op))
        clock_own(time, ctime, (int64_t)call->sent_ns, (int64_t)call->replied_ns);
    else
        clock_own_late(time, ctime, (int64_t)call->sent_ns, (int64_t)call->replied_ns, real);
    pthread_mutex_unlock(&f->clock->lock);
}

bool attr_token_racy(struct front *f, const struct token *t, uint64_t sent_ns)
{
    pthread_mutex_lock(&f->clock->lock);
    int64_t real = f->clock->time.own ? 0 : real_ns() - (int64_t)(now_ns() - sent_ns);
    bool racy = clock_racy(&f->clock->time, clock_ns(t->ctime), (int64_t)sent_ns, real);
    pthread_mutex_unlock(&f->clock->lock);
    return racy;
}

bool attr_clock_coarse(struct front *f, const struct token *t)
{
    pthread_mutex_lock(&f->clock->lock);
    bool coarse = clock_coarse(&f->clock->time, clock_ns(t->ctime));
    pthread_mutex_unlock(&f->clock->lock);
    return coarse;
}

bool attr_clock_ticks(struct front *f)
{
    pthread_mutex_lock(&f->clock->lock);
    bool ticks = clock_coarse(&f->clock->time, 1); /* no multiple of any time_delta */
    pthread_mutex_unlock(&f->clock->lock);
    return ticks;
}

int attr_start(struct front *f)
{
    f->clock = calloc(1, sizeof(*f->clock));
    if (!f->clock)
        return -ENOMEM;
    pthread_mutex_init(&f->clock->lock, NULL);
    return 0;
}

void attr_stop(struct front *f)
{
    struct server_clock *clock = f->clock;
    f->clock = NULL;
    if (atomic_load(&clock->pending))
        return; /* the remote side still points at it */
    pthread_mutex_destroy(&clock->lock);
    free(clock);
}

/* ---- accepting: the inode lock is held below this line ---- */

static bool same_token(const struct attr *a, const struct attr *b)
{
    struct token x = token_of(a), y = token_of(b);
    return token_equal(&x, &y);
}

/* `changed`: by somebody else, so that the timeout starts again from its minimum. */
static void take(struct front *f, struct inode *ino, const struct attr *attr, uint64_t sent_ns,
                 bool changed)
{
    bool dir = S_ISDIR(attr->mode);
    uint64_t min = dir ? f->config.acdirmin_ns : f->config.acregmin_ns;
    uint64_t max = dir ? f->config.acdirmax_ns : f->config.acregmax_ns;
    /* Open files are asked for before it is over (due.h). */
    uint64_t timeout = inode_attr_timeout(ino);
    bool expired = ino->attr_valid && sent_ns + timeout / 2 >= ino->attr_expires_ns;
    timeout = clock_next_timeout(timeout, min, max, changed || !ino->attr_valid, expired) / 1000000;
    ino->attr_timeout_ms = timeout < UINT32_MAX ? (uint32_t)timeout : UINT32_MAX;
    ino->rec->attr = *attr;
    ino->attr_valid = true;
    ino->attr_sent_ns = sent_ns;
    ino->attr_expires_ns = sent_ns + inode_attr_timeout(ino);
}

/* What the pages hold is what these attributes name. */
static void pages_proven(struct front *f, struct inode *ino)
{
    ino->pages_expire_ns = ino->attr_expires_ns;
    if (ino->opens)
        revalidate_sooner(f, ino);
}

/* What does not tell one content from another is news at once, whatever becomes of the pages. */
static void take_ownership(struct inode *ino, const struct attr *attr)
{
    struct attr *have = &ino->rec->attr;
    have->ctime = attr->ctime;
    have->mode = attr->mode;
    have->nlink = attr->nlink;
    have->uid = attr->uid;
    have->gid = attr->gid;
}

static bool is_old(const struct inode *ino, const struct attr *attr, uint64_t sent_ns)
{
    return ino->attr_valid && clock_reply_is_old(sent_ns, attr->ctime, ino->attr_sent_ns,
                                                 ino->rec->attr.ctime, ino->own_change_ns);
}

/* Nothing is cached, here or in the kernel: the token and the size are simply the server's. */
static bool adopt_if_empty(struct inode *ino, const struct attr *attr)
{
    struct token now = token_of(attr);
    return !ino->map || mapping_adopt(ino->map, &now);
}

/* The pages' token stays as good as it is: one that was assumed proves nothing now either. */
static bool only_ctime_ours(struct front *f, struct inode *ino, const struct token *now,
                            const struct token *have)
{
    bool ours = ino->ctime_ours;
    ino->ctime_ours = false;
    if (!ours || !now->valid || !have->valid || !ts_equal(now->mtime, have->mtime) ||
        now->size != have->size || now->change != have->change)
        return false;
    if (have->assumed)
        return true;
    /* Another change in the tick of the last one would show the same mtime, too. */
    struct token of_mtime = *now;
    of_mtime.ctime = now->mtime;
    return !attr_token_racy(f, &of_mtime, ino->attr_sent_ns);
}

/* A regular file. True: a revalidation is due. */
static bool accept_file(struct front *f, struct inode *ino, const struct attr *attr,
                        uint64_t sent_ns)
{
    struct token now = token_of(attr), have;
    bool changed = !same_token(attr, &ino->rec->attr);
    if (adopt_if_empty(ino, attr)) {
        ino->changed_elsewhere = false;
        take(f, ino, attr, sent_ns, changed);
        pages_proven(f, ino);
        return false;
    }
    have = mapping_token(ino->map);
    if (!token_equal(&now, &have) && only_ctime_ours(f, ino, &now, &have)) {
        bool assumed = have.assumed;

        have = now;
        have.assumed = assumed;
        mapping_set_token(ino->map, &have);
    }
    if (token_equal(&now, &have)) {
        ino->changed_elsewhere = false;
        take(f, ino, attr, sent_ns, changed);
        pages_proven(f, ino);
        return false;
    }
    /* Pages that an own WRITE left: whoever opens the file next looks at them; nobody has it open.
     */
    if (have.assumed && token_same(&now, &have) && !ino->opens && f->config.cto) {
        ino->changed_elsewhere = false;
        take(f, ino, attr, sent_ns, changed);
        return false;
    }
    take_ownership(ino, attr);
    /* A WRITE of ours under way may be what moved it: the next reply after it tells. */
    if (mapping_is_dirty(ino->map))
        return false;
    ino->changed_elsewhere = true;
    ino->attr_expires_ns = 0;
    return true;
}

/* ---- accepting ---- */

void attr_accept(struct front *f, struct inode *ino, const struct remote_post *post,
                 const struct remote_call *call)
{
    bool later = false;
    if (!post->valid)
        return;
    clock_reply(f, &post->attr, call);
    pthread_mutex_lock(inode_lock(ino));
    /* It may have been here before, and changed (inode_get()). */
    bool doubtful = !ino->attr_valid && call->sent_ns <= ino->own_change_ns;

    if (is_old(ino, &post->attr, call->sent_ns))
        ;
    else if (S_ISREG(ino->type) && S_ISREG(post->attr.mode))
        later = accept_file(f, ino, &post->attr, call->sent_ns);
    else
        take(f, ino, &post->attr, call->sent_ns, !same_token(&post->attr, &ino->rec->attr));
    if (doubtful)
        ino->attr_expires_ns = ino->pages_expire_ns = 0;
    pthread_mutex_unlock(inode_lock(ino));
    if (later)
        revalidate_later(f, ino);
}

/* Moves the pages' token along. WRITE and COMMIT are the cache's own matter. False: it did not
 * get there, so the next reply has to tell. */
static bool token_follow(struct front *f, struct inode *ino, const struct remote_wcc *pre,
                         const struct attr *attr, enum remote_op op)
{
    struct token post = token_of(attr);
    if (op == REMOTE_WRITE || op == REMOTE_COMMIT || adopt_if_empty(ino, attr))
        return true;
    if (pre->valid) {
        struct token before = {
            .ctime = pre->ctime, .mtime = pre->mtime, .size = pre->size, .valid = true};
        return mapping_own_change(ino->map, &before, &post);
    }
    if (f->config.wcc == CACHE_WCC_TRUST)
        mapping_set_token(ino->map, &post);
    return f->config.wcc == CACHE_WCC_TRUST;
}

/* Did the object change between what we knew and the operation? */
static bool changed_between(const struct inode *ino, const struct remote_wcc *pre)
{
    const struct attr *have = &ino->rec->attr;
    return pre->valid && !(ts_equal(pre->ctime, have->ctime) && ts_equal(pre->mtime, have->mtime) &&
                           pre->size == have->size);
}

void attr_accept_own(struct front *f, struct inode *ino, const struct remote_wcc *pre,
                     const struct remote_post *post, const struct remote_call *call)
{
    if (!post->valid) {
        attr_expire(ino);
        return;
    }
    clock_own_reply(f, &post->attr, call);
    pthread_mutex_lock(inode_lock(ino));
    bool known = !S_ISREG(ino->type) || !S_ISREG(post->attr.mode) ||
                 token_follow(f, ino, pre, &post->attr, call->op);
    uint64_t due = ino->attr_expires_ns;
    bool proves = true; /* what the pages hold is what these attributes are of */

    if (ino->map && S_ISREG(post->attr.mode) && mapping_has_pages(ino->map)) {
        struct token now = token_of(&post->attr), have = mapping_token(ino->map);
        proves = token_equal(&now, &have);
    }
    /* Two of our operations at once: the reply with the older ctime may come last. */
    if (!ino->attr_valid || ts_cmp(post->attr.ctime, ino->rec->attr.ctime) >= 0)
        take(f, ino, &post->attr, call->sent_ns, changed_between(ino, pre));
    else
        known = false;
    /* A file that is written here without pause would else never be asked after. */
    if (!proves && due < ino->attr_expires_ns)
        ino->attr_expires_ns = due;
    if (!known)
        ino->attr_expires_ns = 0;
    if (call->op != REMOTE_COMMIT)
        ino->own_change_ns = now_ns();
    pthread_mutex_unlock(inode_lock(ino));
}

void attr_accept_revalidated(struct front *f, struct inode *ino, const struct attr *attr,
                             uint64_t sent_ns)
{
    pthread_mutex_lock(inode_lock(ino));
    take(f, ino, attr, sent_ns, !same_token(attr, &ino->rec->attr));
    pages_proven(f, ino);
    ino->changed_elsewhere = false;
    if (sent_ns < ino->own_change_ns)
        ino->attr_expires_ns = 0;
    pthread_mutex_unlock(inode_lock(ino));
}

void attr_expire(struct inode *ino)
{
    pthread_mutex_lock(inode_lock(ino));
    ino->attr_expires_ns = 0;
    ino->own_change_ns = now_ns();
    pthread_mutex_unlock(inode_lock(ino));
}

bool attr_only_ctime_ours(struct front *f, struct inode *ino, const struct token *now,
                          const struct token *have)
{
    pthread_mutex_lock(inode_lock(ino));
    bool ours = only_ctime_ours(f, ino, now, have) && !have->assumed;
    pthread_mutex_unlock(inode_lock(ino));
    return ours;
}

/* ---- telling ---- */

/* `now` may lag behind the clock that counts: a timeout of 0 (noac) is none at all. */
static bool attr_in_time(const struct inode *ino, uint64_t now)
{
    return ino->attr_valid && !ino->changed_elsewhere && ino->attr_timeout_ms &&
           ino->attr_expires_ns > now;
}

bool attr_fresh(struct inode *ino)
{
    pthread_mutex_lock(inode_lock(ino));
    bool fresh = attr_in_time(ino, now_coarse_ns());
    pthread_mutex_unlock(inode_lock(ino));
    return fresh;
}

/* What the pages know better than the server. Inode lock held. */
static void stat_from_mapping(struct inode *ino, struct stat *st)
{
    struct timespec written;
    st->st_size = (off_t)mapping_size(ino->map);
    if (!mapping_is_busy(ino->map))
        return;
    blkcnt_t blocks = (blkcnt_t)((st->st_size + 511) / 512);
    if (st->st_blocks < blocks)
        st->st_blocks = blocks;
    if (!mapping_local_mtime(ino->map, &written))
        return;
    if (ts_cmp(written, st->st_mtim) > 0)
        st->st_mtim = written;
    if (ts_cmp(written, st->st_ctim) > 0)
        st->st_ctim = written;
}

/* uid=, gid= and umask= as FUSE has them: what is shown, not what the server checks. */
static void stat_present(const struct front_config *config, struct stat *st)
{
    if (config->have_uid)
        st->st_uid = config->uid;
    if (config->have_gid)
        st->st_gid = config->gid;
    if (config->have_umask)
        st->st_mode = (st->st_mode & S_IFMT) | (0777 & ~config->umask);
}

/*
 * What the kernel may not take. It passes a reply on and forgets it, but for the reply that makes
 * its inode, when it learned anything newer than the request, if only from the reply to an earlier
 * one (fi->attr_version). A size that differs from the one told before it is then not its own.
 */
static void told(struct inode *ino, uint64_t size, bool taken)
{
    if (taken)
        ino->told_in_vain = false;
    else if (size != __atomic_load_n(&ino->told_size, __ATOMIC_RELAXED) &&
             __atomic_load_n(&ino->rec->nlookup, __ATOMIC_RELAXED) > 0)
        ino->told_in_vain = true;
    __atomic_store_n(&ino->told_size, size, __ATOMIC_RELAXED);
}

bool attr_size_taken(struct inode *ino)
{
    pthread_mutex_lock(inode_lock(ino));
    bool taken = !ino->told_in_vain &&
                 __atomic_load_n(&ino->told_size, __ATOMIC_RELAXED) == mapping_size(ino->map);
    pthread_mutex_unlock(inode_lock(ino));
    return taken;
}

static void stat_tell(struct front *f, struct inode *ino, struct stat *st, double *timeout,
                      bool taken)
{
    uint64_t now = now_coarse_ns();
    pthread_mutex_lock(inode_lock(ino));
    const struct attr *a = &ino->rec->attr;
    *st = (struct stat){.st_ino = a->fileid,
                        .st_mode = a->mode,
                        .st_nlink = a->nlink,
                        .st_uid = a->uid,
                        .st_gid = a->gid,
                        .st_rdev = a->rdev,
                        .st_size = (off_t)a->size,
                        .st_blksize = f->remote->wsize,
                        .st_blocks = (blkcnt_t)((a->used + 511) / 512),
                        .st_atim = a->atime,
                        .st_mtim = a->mtime,
                        .st_ctim = a->ctime};
    if (ino->map)
        stat_from_mapping(ino, st);
    told(ino, (uint64_t)st->st_size, taken);
    if (ino->times)
        ino->times->told = st->st_mtim;
    stat_present(&f->config, st);
    bool valid = attr_in_time(ino, now);
    *timeout = valid ? (double)(ino->attr_expires_ns - now) / 1e9 : 0;
    pthread_mutex_unlock(inode_lock(ino));
}

void attr_stat(struct front *f, struct inode *ino, struct stat *st, double *timeout)
{
    stat_tell(f, ino, st, timeout, false);
}

void attr_stat_set(struct front *f, struct inode *ino, struct stat *st, double *timeout)
{
    stat_tell(f, ino, st, timeout, true);
}

void attr_fill_entry(struct front *f, struct inode *ino, struct fuse_entry_param *e)
{
    /* The generation is what unmap_root.c puts into its handles. */
    *e = (struct fuse_entry_param){.ino = ino->nodeid, .generation = 0};
    attr_stat(f, ino, &e->attr, &e->attr_timeout);
}

/* ---- GETATTR ---- */

static void getattr_reply(struct front *f, fuse_req_t req, struct inode *ino)
{
    struct stat st;
    double timeout;
    bool helper = unmap_is_helper(f, fuse_req_ctx(req)->pid); /* asks until it is taken */
    stat_tell(f, ino, &st, &timeout, helper);
    fuse_reply_attr(req, &st, timeout);
}

static void getattr_done(struct remote_call *call)
{
    struct op *op = op_of(call);
    if (call->error) {
        op_fail(op, -call->error);
        return;
    }
    attr_accept(op->front, op->ino, &call->post, call);
    if (op_claim(op))
        getattr_reply(op->front, op->req, op->ino);
    op_end(op);
}

/* Known to have changed, and not yet revalidated: the old attributes, which go with the old pages,
 * for no time at all. What we changed ourselves since shows at once: that is asked for. */
static bool changed_elsewhere(struct inode *ino)
{
    pthread_mutex_lock(inode_lock(ino));
    bool changed = ino->changed_elsewhere && ino->own_change_ns <= ino->attr_sent_ns;
    pthread_mutex_unlock(inode_lock(ino));
    return changed;
}

void front_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct front *f = front_of(req);
    struct inode *ino = inode_by_nodeid(f, nodeid);
    if (!ino) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    bool changed = changed_elsewhere(ino);
    if (attr_fresh(ino) || changed || unmap_is_helper(f, fuse_req_ctx(req)->pid)) {
        if (!changed)
            ahead_getattr(f, ino, req, false);
        getattr_reply(f, req, ino);
        if (changed)
            revalidate_later(f, ino);
        inode_unref(f, ino);
        return;
    }
    struct op *op = op_new(f, req, ino);
    inode_unref(f, ino);
    if (!op)
        return;
    ahead_getattr(f, op->ino, req, true);
    op_submit(op, REMOTE_GETATTR, getattr_done);
}
