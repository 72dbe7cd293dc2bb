// SPDX-License-Identifier: Apache-2.0
/*
 * Storms of LOOKUPs and GETATTRs: what is answered without asking, and what is fetched ahead.
 *
 * A tree that is walked costs a call to the server for each file. When requests for the children of
 * one directory come one after another (a run), the directory is listed with READDIRPLUS in the
 * background, and what it tells answers the requests that follow:
 *
 *   LOOKUP --- asked --> ahead_looked_up() ---+
 *                                             +--> run --4 misses--> READDIRPLUS --> listed()
 *   GETATTR -- asked --> ahead_getattr() -----+     ^                                  |
 *                                                   | hits: the run goes on            |
 *   LOOKUP <-- names.c <-- ahead_lookup() ----------+              attributes, names --+
 *
 * An inode that the kernel does not know yet is held by a reference, so many and so long as
 * HELD_MAX and acregmin say. What is fetched is at most SHARE times what was asked for; a run whose
 * listing answers nothing stops at BLIND entries.
 *
 * A LOOKUP is answered here only if all of this holds, else the server is asked:
 *   - it is one of a run. A lone LOOKUP may be of an open(2) with O_EXCL, which wants the truth.
 *   - the server confirmed the name at the token that the directory has now, and no change after
 *     that could have left the same token. The token is sampled before and after, so that no
 *     change of the directory can be in between (names.c: the verifier).
 *   - the directory's attributes are fresh, and not older than a second: what was made, renamed or
 *     removed elsewhere is seen by a LOOKUP after that time.
 *   - the inode's attributes are fresh, and the caller is known to have the permission to search
 *     the directory.
 *   - the kernel may not rely on the name already: if it asks all the same, it is because of
 *     LOOKUP_REVAL, O_EXCL or a rename.
 *   - nothing was answered ESTALE for a second: the kernel then walks the path again, and would
 *     find the same.
 * "No such name" is never answered here.
 *
 * Errors stay here: a directory that cannot be listed (EACCES, EOPNOTSUPP, no attributes in the
 * entries) is left alone for a while.
 *
 * The lock of this file is a leaf; no other is taken under it, and nothing called.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/clock.h"
#include "fuse/ops.h"

#define RUN_NS      1000000000ull /* requests further apart are not of one run */
#define ASK_NS      1000000000ull /* no answer here by a directory that was asked longer ago */
#define DISTRUST_NS 1000000000ull
#define QUIET_NS    30000000000ull
#define MISSES      4    /* before anything is fetched */
#define SHARE       8    /* entries fetched for one that is asked for, at most */
#define BLIND       1024 /* entries without a hit: so many at most */
#define ENTRY_BYTES 192  /* of a reply; about */
#define HELD_MAX    8192 /* inodes without use; 512 bytes each */
#define WAYS        4
#define SETS        64

struct run {
    fuse_ino_t dir; /* 0: none */
    bool in_flight, goes;
    uint64_t child; /* the last one: who asks for one again and again walks no tree */
    uint32_t asked, misses, hits, fetched;
    uint64_t last_ns, quiet_ns; /* of the last request; nothing is fetched before */
    uint64_t cookie;            /* the next listing goes on here */
    uint8_t verf[8];
};

struct held {
    struct inode *ino; /* referenced */
    uint64_t until_ns;
};

struct ahead {
    pthread_mutex_t lock;
    pthread_cond_t idle;
    struct run run[SETS][WAYS];
    unsigned in_flight;
    bool ending;
    struct ahead_stats stats; /* but for what is held */
    /* The oldest is at `first`. */
    struct held held[HELD_MAX];
    unsigned first, nheld;
    struct loop_timer timer; /* lets go of them */
    bool armed;
    struct front *front;
    _Atomic uint64_t distrust_ns; /* until then every LOOKUP is asked */
};

struct listing {
    struct remote_call call;
    struct cred cred;
    struct front *front;
    struct inode *dir; /* referenced */
    uint32_t before;   /* its verifier when the call was sent */
};

/* ---- runs: the lock is held ---- */

static struct run *run_find(struct ahead *a, fuse_ino_t dir)
{
    struct run *set = a->run[(dir * 0x9e3779b97f4a7c15ull) >> 58];

    for (int i = 0; i < WAYS; i++)
        if (set[i].dir == dir)
            return &set[i];
    return NULL;
}

static void run_begin(struct run *r)
{
    r->asked = r->misses = r->hits = r->fetched = 0;
    r->cookie = 0;
    memset(r->verf, 0, sizeof(r->verf));
}

static struct run *run_make(struct ahead *a, fuse_ino_t dir)
{
    struct run *set = a->run[(dir * 0x9e3779b97f4a7c15ull) >> 58], *r = run_find(a, dir);

    if (r)
        return r;
    r = set;
    for (int i = 1; i < WAYS; i++)
        if (set[i].last_ns < r->last_ns)
            r = &set[i];
    *r = (struct run){.dir = dir};
    return r;
}

/* One more request, answered here (`hit`) or not. */
static void run_note(struct run *r, uint64_t now, bool hit)
{
    if (now > r->last_ns + RUN_NS) {
        run_begin(r);
        r->goes = false;
    }
    r->last_ns = now;
    r->asked++;
    if (hit)
        r->hits++;
    else
        r->misses++;
    r->goes |= r->misses >= MISSES;
}

static bool run_goes(const struct run *r, uint64_t now)
{
    return r->goes && now <= r->last_ns + RUN_NS;
}

/* How many entries are fetched now. */
static uint32_t run_wants(const struct run *r, uint64_t now, uint32_t most)
{
    uint32_t least = r->fetched > MISSES * SHARE ? r->fetched : MISSES * SHARE;

    if (r->in_flight || r->misses < MISSES || now < r->quiet_ns || r->asked > UINT32_MAX / SHARE ||
        r->asked * SHARE < r->fetched || (r->fetched >= BLIND && r->hits < r->asked / SHARE))
        return 0;

    uint32_t may = r->asked * SHARE - r->fetched;

    if (least > most)
        least = most;
    return may < least ? 0 : may < most ? may : most;
}

/* ---- inodes that the kernel does not know yet ---- */

static void let_go(struct loop_timer *timer);

/* Lock held. */
static void arm(struct ahead *a, uint64_t now)
{
    struct loop *loop = loop_current();
    uint64_t until = a->held[a->first].until_ns;

    if (a->armed || !loop || !a->nheld)
        return;
    a->timer.fn = let_go;
    a->armed = true;
    loop_timer_set(loop, &a->timer, until > now ? until - now : 1);
}

static void let_go(struct loop_timer *timer)
{
    struct ahead *a = (struct ahead *)((char *)timer - offsetof(struct ahead, timer));
    uint64_t now = now_ns();
    struct inode *ino = NULL;

    pthread_mutex_lock(&a->lock);
    a->armed = false;
    while (a->nheld && a->held[a->first].until_ns <= now) {
        ino = a->held[a->first].ino;
        a->first = (a->first + 1) % HELD_MAX;
        a->nheld--;
        pthread_mutex_unlock(&a->lock);
        inode_unref(a->front, ino);
        pthread_mutex_lock(&a->lock);
    }
    arm(a, now);
    pthread_mutex_unlock(&a->lock);
}

/* Takes the reference over. */
static void hold(struct front *f, struct inode *ino)
{
    struct ahead *a = f->ahead;
    uint64_t now = now_ns();
    struct inode *oldest = NULL;

    pthread_mutex_lock(&a->lock);
    if (a->nheld == HELD_MAX) {
        oldest = a->held[a->first].ino;
        a->first = (a->first + 1) % HELD_MAX;
        a->nheld--;
    }
    a->held[(a->first + a->nheld++) % HELD_MAX] =
        (struct held){.ino = ino, .until_ns = now + f->config.acregmin_ns};
    arm(a, now);
    pthread_mutex_unlock(&a->lock);
    if (oldest)
        inode_unref(f, oldest);
}

/* ---- listing ---- */

uint32_t ahead_proof(struct front *f, uint32_t before, const struct remote_post *dir,
                     const struct remote_call *call)
{
    struct token token = token_of(&dir->attr);

    token.valid = dir->valid;
    if (!before || names_token_verifier(&token) != before ||
        attr_token_racy(f, &token, call->sent_ns))
        return 0;
    return before;
}

static void take_entry(struct front *f, struct listing *l, const struct remote_dirent *e,
                       uint32_t proof)
{
    struct inode *ino = inode_get(f, &e->fh, proof ? &e->post.attr : NULL);

    if (!ino)
        return;
    attr_accept(f, ino, &e->post, &l->call);

    bool named = proof && names_confirm(f, l->dir, e->name, ino, proof, l->call.sent_ns);

    if (named && !__atomic_load_n(&ino->rec->nlookup, __ATOMIC_RELAXED))
        hold(f, ino);
    else
        inode_unref(f, ino);
}

/* An own change of the directory since the call was sent: it may have been of any of the names. */
static bool overtaken(struct listing *l)
{
    pthread_mutex_lock(inode_lock(l->dir));
    bool late = l->dir->own_change_ns >= l->call.sent_ns;

    pthread_mutex_unlock(inode_lock(l->dir));
    return late;
}

/* How long the directory is left alone after an error. */
static uint64_t pause_after(struct front *f, const struct remote_call *call, bool useful)
{
    if (call->error == -EOPNOTSUPP)
        f->config.rdirplus = false; /* a server without READDIRPLUS */
    if (call->error == -EBADMSG)
        return RUN_NS;
    return call->error || !useful ? QUIET_NS : 0;
}

bool ahead_begins(struct front *f)
{
    struct ahead *a = f->ahead;

    pthread_mutex_lock(&a->lock);
    bool may = !a->ending;

    a->in_flight += may;
    pthread_mutex_unlock(&a->lock);
    return may;
}

void ahead_ends(struct front *f)
{
    struct ahead *a = f->ahead;

    pthread_mutex_lock(&a->lock);
    if (--a->in_flight == 0)
        pthread_cond_broadcast(&a->idle);
    pthread_mutex_unlock(&a->lock);
}

static void listing_end(struct listing *l)
{
    struct front *f = l->front;

    inode_unref(f, l->dir);
    remote_call_clear(f->remote, &l->call);
    free(l);
    ahead_ends(f);
}

static void listed(struct remote_call *call)
{
    struct listing *l = call->arg;
    struct front *f = l->front;
    struct ahead *a = f->ahead;
    uint32_t n = 0, useful = 0;
    uint64_t last = call->u.readdir.cookie;

    if (call->post.valid)
        attr_accept(f, l->dir, &call->post, call);

    uint32_t proof = call->error ? 0 : ahead_proof(f, l->before, &call->post, call);
    bool late = overtaken(l);

    for (struct remote_dirent *e = call->error ? NULL : call->u.readdir.entries; e; e = e->next) {
        n++;
        last = e->cookie;
        if (is_dot(e->name) || !e->has_fh || !e->post.valid)
            continue;
        useful++;
        if (!late)
            take_entry(f, l, e, proof);
    }

    uint64_t pause = pause_after(f, call, useful || n <= 2);

    pthread_mutex_lock(&a->lock);
    a->stats.listings++;
    a->stats.entries += n;

    struct run *r = run_find(a, l->dir->nodeid);

    if (r && r->in_flight) {
        r->in_flight = false;
        r->fetched += n;
        if (pause)
            r->quiet_ns = now_ns() + pause;
        if (call->error || call->u.readdir.eof || last == r->cookie) {
            run_begin(r); /* from the begin, if as much is missed again */
        } else {
            r->cookie = last;
            memcpy(r->verf, call->u.readdir.verf, sizeof(r->verf));
        }
    }
    pthread_mutex_unlock(&a->lock);
    listing_end(l);
}

/* A directory that is changed from here, or was just now elsewhere: its names would not be believed
 * when they come. */
static bool is_settled(struct front *f, struct inode *dir, uint64_t now)
{
    pthread_mutex_lock(inode_lock(dir));
    struct token token = token_of(&dir->rec->attr);
    bool settled = S_ISDIR(dir->type) && dir->attr_valid &&
                   (!dir->own_change_ns || dir->own_change_ns + RUN_NS < now);

    pthread_mutex_unlock(inode_lock(dir));
    return settled && !attr_token_racy(f, &token, now);
}

/* Nothing was sent after all. */
static void run_unsent(struct ahead *a, fuse_ino_t dir)
{
    pthread_mutex_lock(&a->lock);
    struct run *r = run_find(a, dir);

    if (r)
        r->in_flight = false;
    a->in_flight--;
    pthread_cond_broadcast(&a->idle);
    pthread_mutex_unlock(&a->lock);
}

/* Takes the reference to the directory over (NULL: it is not known any more). The run is marked as
 * in flight. */
static void list(struct front *f, fuse_ino_t nodeid, struct inode *dir, const struct cred *cred,
                 uint32_t entries, const struct run *from)
{
    uint32_t most = f->remote->dtsize ? f->remote->dtsize : 65536, bytes = entries * ENTRY_BYTES;
    struct listing *l = dir && is_settled(f, dir, now_ns()) ? calloc(1, sizeof(*l)) : NULL;

    if (!l) {
        run_unsent(f->ahead, nodeid);
        if (dir)
            inode_unref(f, dir);
        return;
    }
    l->cred = *cred;
    l->front = f;
    l->dir = dir;
    l->before = names_verifier(dir);
    l->call.op = REMOTE_READDIR;
    l->call.cred = &l->cred;
    l->call.fh = dir->rec->fh;
    l->call.u.readdir.cookie = from->cookie;
    memcpy(l->call.u.readdir.verf, from->verf, sizeof(from->verf));
    l->call.u.readdir.count = bytes < most ? bytes : most;
    l->call.u.readdir.plus = true;
    l->call.done = listed;
    l->call.arg = l;
    remote_submit(f->remote, &l->call);
}

/* A request for a child (its number) of the directory `nodeid`; `dir` NULL: it is found by that;
 * `cred` NULL: it is the request's. True: it is one of a run. */
static bool note(struct front *f, fuse_ino_t nodeid, struct inode *dir, uint64_t child,
                 const struct cred *cred, fuse_req_t req, bool hit)
{
    struct ahead *a = f->ahead;
    uint32_t most = (f->remote->dtsize ? f->remote->dtsize : 65536) / ENTRY_BYTES, wants = 0;
    uint64_t now = now_coarse_ns();
    struct run from = {.dir = 0};
    struct cred who;

    pthread_mutex_lock(&a->lock);
    struct run *r = hit ? run_find(a, nodeid) : run_make(a, nodeid);

    if (r && r->child != child) {
        r->child = child;
        run_note(r, now, hit);
        if (f->config.rdirplus && f->config.acregmin_ns && !a->ending)
            wants = run_wants(r, now, most);
        if (wants) {
            r->in_flight = true;
            a->in_flight++;
        }
    }
    if (r)
        from = *r;
    pthread_mutex_unlock(&a->lock);
    if (wants) {
        if (dir)
            inode_ref(dir);
        else
            dir = inode_by_nodeid(f, nodeid);
        if (!cred) {
            req_cred(f, req, &who);
            cred = &who;
        }
        list(f, nodeid, dir, cred, wants, &from);
    }
    return r && run_goes(&from, now);
}

/* ---- what the handlers ask ---- */

void ahead_looked_up(struct front *f, struct inode *dir, const struct remote_call *call)
{
    if (!call->post.valid || f->config.lookupcache == FRONT_LOOKUPCACHE_NONE)
        return;
    /* Only what is in a run is worth to be remembered: one credential has room. */
    if (note(f, dir->nodeid, dir, call->post.attr.fileid, call->cred, NULL, false) &&
        call->dir_post.valid)
        access_note_search(f, dir, call->cred, call->dir_post.attr.ctime);
}

void ahead_getattr(struct front *f, struct inode *ino, fuse_req_t req, bool asked)
{
    fuse_ino_t dir = names_dir_of(f, ino);

    if (dir)
        note(f, dir, NULL, ino->fileid, NULL, req, !asked);
}

void ahead_distrust(struct front *f)
{
    atomic_store_explicit(&f->ahead->distrust_ns, now_ns() + DISTRUST_NS, memory_order_relaxed);
}

bool ahead_may_answer(struct front *f, fuse_ino_t dir)
{
    uint64_t now = now_coarse_ns();

    if (f->config.lookupcache == FRONT_LOOKUPCACHE_NONE ||
        now < atomic_load_explicit(&f->ahead->distrust_ns, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&f->ahead->lock);
    struct run *r = run_find(f->ahead, dir);
    bool goes = r && run_goes(r, now);

    pthread_mutex_unlock(&f->ahead->lock);
    return goes;
}

struct inode *ahead_lookup(struct front *f, struct inode *dir, const char *name,
                           const struct cred *cred)
{
    uint64_t now = now_coarse_ns();

    if (!attr_fresh(dir))
        return NULL;
    pthread_mutex_lock(inode_lock(dir));
    bool asked = dir->attr_sent_ns + ASK_NS > now;
    struct timespec ctime = dir->rec->attr.ctime;

    pthread_mutex_unlock(inode_lock(dir));
    if (!asked || !access_known(f, dir, cred, X_OK, ctime))
        return NULL;
    struct inode *ino = names_find_confirmed(f, dir, name, names_verifier(dir));

    if (!ino)
        return NULL;
    if (!attr_fresh(ino)) {
        inode_unref(f, ino);
        return NULL;
    }
    note(f, dir->nodeid, dir, ino->fileid, cred, NULL, true);
    pthread_mutex_lock(&f->ahead->lock);
    f->ahead->stats.lookups++;
    pthread_mutex_unlock(&f->ahead->lock);
    return ino;
}

void ahead_stats(struct front *f, struct ahead_stats *s)
{
    pthread_mutex_lock(&f->ahead->lock);
    *s = f->ahead->stats;
    s->held = f->ahead->nheld;
    pthread_mutex_unlock(&f->ahead->lock);
}

/* ---- begin and end ---- */

int ahead_start(struct front *f)
{
    pthread_condattr_t attr;

    f->ahead = calloc(1, sizeof(*f->ahead));
    if (!f->ahead)
        return -ENOMEM;
    f->ahead->front = f;
    pthread_mutex_init(&f->ahead->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->ahead->idle, &attr);
    pthread_condattr_destroy(&attr);
    return 0;
}

void ahead_end(struct front *f)
{
    struct ahead *a = f->ahead;
    struct timespec until;
    int err = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    pthread_mutex_lock(&a->lock);
    a->ending = true;
    while (a->in_flight && !err)
        err = pthread_cond_timedwait(&a->idle, &a->lock, &until);
    pthread_mutex_unlock(&a->lock);
}

bool ahead_stop(struct front *f)
{
    struct ahead *a = f->ahead;

    if (!a)
        return true;
    pthread_mutex_lock(&a->lock);
    bool busy = a->in_flight;

    a->ending = true;
    pthread_mutex_unlock(&a->lock);
    if (busy)
        return false;
    for (; a->nheld; a->nheld--, a->first = (a->first + 1) % HELD_MAX)
        inode_unref(f, a->held[a->first].ino);
    pthread_cond_destroy(&a->idle);
    pthread_mutex_destroy(&a->lock);
    free(a);
    f->ahead = NULL;
    return true;
}
