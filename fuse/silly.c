// SPDX-License-Identifier: Apache-2.0
/*
 * Files removed while open.
 *
 * NFSv3 has no open files: a removed file is gone for whoever has it open. So, like every client, a
 * file that is open here is given another name instead ("silly rename": .nfs, its number, a
 * counter), and that one is removed at the last close. An unlink renames; a rename over the file
 * first links it to the silly name, so that the target name never disappears in between, neither
 * for other clients nor if the rename fails.
 *
 * The silly name stands in the inode's record, so that whoever continues this mount can clean up;
 * one whose descriptors never close (the mount is torn down) is removed by silly_finish(). While it
 * is open here nobody removes it by hand: EBUSY, as with the kernel's client.
 *
 * Removing the last name of a file whose writes failed (no space, say) is also how a person says
 * that the unwritten bytes are not wanted any more: victim_removed() discards them once the server
 * confirms that the file is gone, and only then (invariants I1 and I6).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "fuse/ops.h"

struct silly {
    struct silly *prev, *next; /* f->silly; op lock */
    struct front *front;
    struct inode *ino, *dir; /* referenced */
    struct cred cred;
    char name[sizeof(((struct inode_rec *)0)->silly)];
    bool noted;    /* the name exists at the server; inode lock */
    bool removing; /* REMOVE is under way; inode lock */
    bool last;     /* ... for the last close: OPENs wait for its end, as for an unlink's */
    struct remote_call call;
};

/* Signalled whenever f->silly loses an entry. */
static pthread_cond_t silly_gone = PTHREAD_COND_INITIALIZER;

void links_changed(struct inode *ino)
{
    pthread_mutex_lock(inode_lock(ino));
    ino->ctime_ours = true;
    pthread_mutex_unlock(inode_lock(ino));
    attr_expire(ino);
}

static uint32_t silly_number(void)
{
    static _Atomic uint32_t counter;
    static _Atomic bool seeded;

    if (!atomic_exchange(&seeded, true)) {
        uint32_t seed = 0;

        if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) == sizeof(seed))
            atomic_fetch_add(&counter, seed);
    }
    return atomic_fetch_add(&counter, 1) & 0xfffffff;
}

struct silly *silly_new(struct front *f, struct inode *ino, struct inode *dir,
                        const struct cred *cred)
{
    struct silly *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->front = f;
    s->ino = ino;
    s->dir = dir;
    s->cred = *cred;
    inode_ref(ino);
    inode_ref(dir);
    snprintf(s->name, sizeof(s->name), ".nfs%016llx%07x", (unsigned long long)ino->fileid,
             silly_number());
    return s;
}

const char *silly_name(const struct silly *s)
{
    return s->name;
}

bool silly_is(struct inode *ino, struct inode *dir, const char *name)
{
    pthread_mutex_lock(inode_lock(ino));
    bool is = ino->silly && ino->silly->dir == dir && strcmp(ino->silly->name, name) == 0;

    pthread_mutex_unlock(inode_lock(ino));
    return is;
}

bool silly_stays(const struct inode *ino)
{
    return ino->silly && !ino->silly->removing;
}

static void silly_free(struct silly *s)
{
    inode_unref(s->front, s->dir);
    inode_unref(s->front, s->ino);
    free(s);
}

static void silly_removed(struct remote_call *call)
{
    struct silly *s = call->arg;
    struct front *f = s->front;
    struct inode *ino = s->ino;

    dir_changed(f, s->dir, &call->dir_pre, &call->dir_post, call);
    names_drop(f, s->dir, s->name);
    pthread_mutex_lock(inode_lock(ino));
    if (ino->silly == s) {
        ino->silly = NULL;
        ino->rec->silly[0] = 0;
        ino->rec->parent = 0;
    }
    pthread_mutex_unlock(inode_lock(ino));
    links_changed(ino);
    if (call->error == 0 || call->error == -ENOENT)
        victim_removed(f, ino, &s->cred);
    if (s->last)
        removal_ends(f, ino, call->error);
    remote_call_clear(f->remote, call);

    pthread_mutex_lock(&f->op_lock);
    if (s->prev)
        s->prev->next = s->next;
    else
        f->silly = s->next;
    if (s->next)
        s->next->prev = s->prev;
    pthread_cond_broadcast(&silly_gone);
    pthread_mutex_unlock(&f->op_lock);
    silly_free(s);
}

/* Inode lock held; what it returns is submitted after. The kernel may still open what it found by
 * the name that was removed: whoever does that from here on finds the file gone, rather than have a
 * descriptor of which the file goes. */
static struct silly *silly_take(struct inode *ino, bool even_if_open)
{
    struct silly *s = ino->silly;

    if (!s || !s->noted || s->removing || ((ino->opens || ino->opening) && !even_if_open))
        return NULL;
    s->removing = true;
    s->last = !even_if_open;
    ino->removing += s->last;
    return s;
}

static void silly_submit(struct silly *s)
{
    if (!s)
        return;
    s->call = (struct remote_call){
        .op = REMOTE_REMOVE,
        .cred = &s->cred,
        .fh = s->dir->rec->fh,
        .name = s->name,
        .done = silly_removed,
        .arg = s,
    };
    remote_submit(s->front->remote, &s->call);
}

void silly_done(struct front *f, struct silly *s, bool ok)
{
    struct inode *ino = s->ino;

    if (!ok) {
        silly_free(s);
        return;
    }
    pthread_mutex_lock(&f->op_lock);
    s->next = f->silly;
    if (s->next)
        s->next->prev = s;
    f->silly = s;
    pthread_mutex_unlock(&f->op_lock);

    pthread_mutex_lock(inode_lock(ino));
    if (!silly_stays(ino)) {
        ino->silly = s;
        ino->rec->parent = s->dir->index;
        memcpy(ino->rec->silly, s->name, sizeof(s->name));
    }
    s->noted = true;
    /* Closed meanwhile, or another unlink of the file was faster: this name is not needed. */
    struct silly *now = ino->silly == s ? silly_take(ino, false) : s;

    if (now == s)
        s->removing = true;
    pthread_mutex_unlock(inode_lock(ino));
    silly_submit(now);
}

void silly_release(struct front *f, struct inode *ino)
{
    (void)f;
    pthread_mutex_lock(inode_lock(ino));
    struct silly *s = silly_take(ino, false);

    pthread_mutex_unlock(inode_lock(ino));
    silly_submit(s);
}

void silly_remove(struct front *f, struct inode *ino)
{
    (void)f;
    pthread_mutex_lock(inode_lock(ino));
    struct silly *s = silly_take(ino, true);

    pthread_mutex_unlock(inode_lock(ino));
    silly_submit(s);
}

bool silly_in(struct front *f, struct inode *dir)
{
    pthread_mutex_lock(&f->op_lock);
    struct silly *s = f->silly;

    while (s && s->dir != dir)
        s = s->next;
    pthread_mutex_unlock(&f->op_lock);
    return s != NULL;
}

static void silly_remove_one(struct front *f, struct inode *ino, void *arg)
{
    (void)arg;
    silly_remove(f, ino);
}

#define FINISH_S 10

void silly_finish(struct front *f)
{
    struct timespec until;

    inode_for_each(f, silly_remove_one, NULL);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += FINISH_S;
    pthread_mutex_lock(&f->op_lock);
    while (f->silly && pthread_cond_timedwait(&silly_gone, &f->op_lock, &until) == 0) {
    }
    pthread_mutex_unlock(&f->op_lock);
}

/* ---- removed for good? -------------------------------------------------------------------- */

struct victim {
    struct front *front;
    struct inode *ino;
    struct cred cred;
    struct remote_call call;
};

static void victim_asked(struct remote_call *call)
{
    struct victim *v = call->arg;
    bool gone = call->error == -ESTALE || call->error == -ENOENT ||
                (call->error == 0 && call->post.valid && call->post.attr.nlink == 0);

    pthread_mutex_lock(inode_lock(v->ino));
    bool open = v->ino->opens || v->ino->opening;

    pthread_mutex_unlock(inode_lock(v->ino));
    if (gone && !open)
        mapping_discard(v->ino->map);
    remote_call_clear(v->front->remote, call);
    inode_unref(v->front, v->ino);
    free(v);
}

void victim_removed(struct front *f, struct inode *ino, const struct cred *cred)
{
    atomic_store(&ino->lost_name, true);
    struct mapping *map = inode_map(ino);

    if (!map || !mapping_is_busy(map))
        return;
    struct victim *v = calloc(1, sizeof(*v));

    if (!v)
        return;
    inode_ref(ino);
    v->front = f;
    v->ino = ino;
    v->cred = *cred;
    v->call = (struct remote_call){
        .op = REMOTE_GETATTR,
        .cred = &v->cred,
        .fh = ino->rec->fh,
        .done = victim_asked,
        .arg = v,
    };
    remote_submit(f->remote, &v->call);
}
