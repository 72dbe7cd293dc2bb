// SPDX-License-Identifier: Apache-2.0
/*
 * What a mount answers on its control socket: control.h's table over the front and the cache.
 *
 * A file is named by its number (st_ino, the server's fileid): the inodes in memory are searched
 * for it. One that is not there has nothing cached, so there is nothing to flush or to revalidate.
 * Hard links share an inode; two file systems below one export could share a number, so that a
 * request may reach both: harmless for all but DISCARD, which was given the number by us.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "daemon/log.h"
#include "daemon/mount.h"
#include "fuse/ops.h"

static int status_json(void *ctx, char **out)
{
    *out = stats_json(ctx);
    return *out ? 0 : -ENOMEM;
}

static int dirty_files(void *ctx, char **out)
{
    *out = stats_json_files(ctx);
    return *out ? 0 : -ENOMEM;
}

static uint64_t dirty_bytes(void *ctx)
{
    struct mount_state *m = ctx;

    return cache_uncommitted(m->front->cache);
}

/* ---- walks over the inodes ---------------------------------------------------------------- */

struct walk {
    uint64_t ino; /* 0: all */
    struct inode **list;
    size_t count, room;
    bool no_memory;
};

static void collect(struct front *f, struct inode *ino, void *arg)
{
    struct walk *w = arg;
    struct mapping *map = inode_map(ino);

    if (!S_ISREG(ino->type) || (w->ino && ino->rec->attr.fileid != w->ino))
        return;
    if (!w->ino && (!map || (!mapping_has_pages(map) && !mapping_is_busy(map))))
        return;
    if (inode_use(f, ino) != 0) {
        w->no_memory = true;
        return;
    }
    if (w->count == w->room) {
        size_t room = w->room ? w->room * 2 : 64;
        struct inode **more = realloc(w->list, room * sizeof(*more));
        if (!more) {
            w->no_memory = true;
            return;
        }
        w->list = more;
        w->room = room;
    }
    inode_ref(ino);
    w->list[w->count++] = ino;
}

/* The inodes with that number (0: all that have anything cached), referenced. */
static int find(struct front *f, uint64_t number, struct walk *w)
{
    *w = (struct walk){.ino = number};
    inode_for_each(f, collect, w);
    return w->no_memory ? -ENOMEM : 0;
}

static void release(struct front *f, struct walk *w)
{
    for (size_t i = 0; i < w->count; i++)
        inode_unref(f, w->list[i]);
    free(w->list);
}

/* ---- jobs --------------------------------------------------------------------------------- */

/* What applications stored through mappings is only in the kernel: it is fetched first. */
static int flush_inode(struct front *f, struct inode *ino)
{
    int rc = 0;

    if (ino->writers && !f->stopping)
        rc = unmap_inode(f, ino, 0, 0, true);
    int sync = cache_sync_wait(ino->map);
    if (!sync)
        times_send_wait(f, ino);
    return sync ? sync : rc == -ENOTCONN ? 0 : rc;
}

static int flush(void *ctx, const char *path, uint64_t number)
{
    struct mount_state *m = ctx;
    struct walk w;
    int rc = find(m->front, number, &w);

    (void)path;
    if (rc == 0 && number == 0)
        cache_kick(m->front->cache); /* all at once, then wait for each */
    for (size_t i = 0; i < w.count; i++) {
        int one = flush_inode(m->front, w.list[i]);
        rc = rc ? rc : one;
    }
    release(m->front, &w);
    return rc;
}

/* So many GETATTRs are in flight at a time. */
#define REVALIDATE_BATCH 32

struct batch {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    unsigned running, good;
    int error;  /* the first, of those that are not ESTALE */
    bool stale; /* there was such a one */
};

static void revalidated(struct reval_wait *w)
{
    struct batch *b = w->arg;

    pthread_mutex_lock(&b->lock);
    if (!w->error)
        b->good++;
    else if (w->error == -ESTALE)
        b->stale = true;
    else if (!b->error)
        b->error = w->error;
    b->running--;
    pthread_cond_signal(&b->cond);
    pthread_mutex_unlock(&b->lock);
}

static int revalidate_job(void *ctx, const char *path, uint64_t number)
{
    struct mount_state *m = ctx;
    struct batch b = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct walk w;
    int rc = find(m->front, number, &w);

    (void)path;
    struct reval_wait *waits = calloc(w.count ? w.count : 1, sizeof(*waits));
    if (!waits)
        rc = -ENOMEM;
    pthread_mutex_lock(&b.lock);
    for (size_t i = 0; rc == 0 && i < w.count; i++) {
        while (b.running >= REVALIDATE_BATCH)
            pthread_cond_wait(&b.cond, &b.lock);
        b.running++;
        pthread_mutex_unlock(&b.lock);
        waits[i].done = revalidated;
        waits[i].arg = &b;
        revalidate(m->front, w.list[i], false, &waits[i]);
        pthread_mutex_lock(&b.lock);
    }
    while (b.running)
        pthread_cond_wait(&b.cond, &b.lock);
    pthread_mutex_unlock(&b.lock);
    free(waits);
    release(m->front, &w);
    if (rc || b.error)
        return rc ? rc : b.error;
    /* The server may give the number of a removed file to a new one while the old is still known.
     */
    return b.stale && !b.good ? -ESTALE : 0;
}

static int drop_clean(void *ctx, uint64_t *pages)
{
    struct mount_state *m = ctx;

    *pages = cache_drop_clean(m->front->cache);
    return 0;
}

/* What is in a WRITE cannot be discarded before that ends, and under a dead server it would not: so
 * the server is given up first, for good. The bytes come back as dirty, and go. */
#define DISCARD_TRIES 500
#define DISCARD_PAUSE 10000000

static int discard_inode(struct inode *ino, uint64_t *bytes)
{
    const struct timespec pause = {.tv_nsec = DISCARD_PAUSE};

    for (int i = 0; i < DISCARD_TRIES; i++) {
        *bytes += mapping_discard(ino->map);
        if (!mapping_is_busy(ino->map))
            return 0;
        nanosleep(&pause, NULL);
    }
    return -EBUSY;
}

static int discard(void *ctx, uint64_t number, uint64_t *bytes)
{
    struct mount_state *m = ctx;
    struct walk w;
    int rc = find(m->front, number, &w);

    *bytes = 0;
    if (rc == 0 && w.count == 0)
        rc = -ENOENT;
    if (rc == 0 && !atomic_exchange(&m->given_up, true)) {
        log_msg(LOG_WARNING, "%s: forced to unmount: the server is given up, dirty data discarded",
                m->options->mountpoint);
        remote_give_up(m->remote);
    }
    for (size_t i = 0; rc == 0 && i < w.count; i++)
        rc = discard_inode(w.list[i], bytes);
    release(m->front, &w);
    return rc;
}

void mount_discard_rest(struct mount_state *m)
{
    struct walk w;

    if (find(m->front, 0, &w) < 0)
        log_msg(LOG_ERR, "out of memory");
    for (size_t i = 0; i < w.count; i++) {
        uint64_t bytes = 0;
        if (!mapping_is_busy(w.list[i]->map))
            continue;
        int rc = discard_inode(w.list[i], &bytes);
        log_msg(LOG_WARNING, "%s: file number %llu: %llu bytes discarded%s", m->options->mountpoint,
                (unsigned long long)w.list[i]->rec->attr.fileid, (unsigned long long)bytes,
                rc < 0 ? ", others are stuck" : "");
    }
    release(m->front, &w);
}

/* ---- another size ------------------------------------------------------------------------- */

static void fill_limits(const struct mount_state *m, uint64_t size, struct control_resize *out)
{
    struct option_limits limits;

    options_limits(m->options, size, &limits);
    out->dirty_limit = limits.dirty_limit;
    out->dirty_background = limits.dirty_background;
    out->clamped = limits.clamped;
    out->least = OPTIONS_CACHE_MIN;
    out->most = m->size_max;
}

static int resize(void *ctx, uint64_t size, struct control_resize *out)
{
    struct mount_state *m = ctx;
    struct cache *c = m->front->cache;

    *out = (struct control_resize){.target = size};
    fill_limits(m, size, out);
    if (size < out->least || size > out->most)
        return -ERANGE;

    struct cache_resize r = {
        .size = size, .dirty_limit = out->dirty_limit, .dirty_background = out->dirty_background};
    int rc = cache_resize(c, &r);

    if (rc == -EINTR) {
        fill_limits(m, r.reached, out);
        cache_set_limits(c, out->dirty_limit, out->dirty_background);
    }
    out->was = r.was;
    out->size = r.reached;
    out->moved = r.moved;
    out->evicted = r.evicted;
    out->returned = r.returned;
    if (rc == 0 || rc == -EINTR)
        log_msg(LOG_INFO, "%s: cache of %llu bytes resized to %llu%s, %llu pages moved",
                m->options->mountpoint, (unsigned long long)r.was, (unsigned long long)r.reached,
                rc ? " (stopped)" : "", (unsigned long long)r.moved);
    return rc;
}

static void resize_state(void *ctx, struct control_resize *out)
{
    struct mount_state *m = ctx;
    struct cache_resize_state s;

    cache_resize_state(m->front->cache, &s);
    *out = (struct control_resize){
        .size = s.size, .target = s.target, .left = s.left, .moved = s.moved};
    fill_limits(m, s.target, out);
}

static void resize_stop(void *ctx)
{
    struct mount_state *m = ctx;

    cache_resize_stop(m->front->cache);
}

const struct control_ops mount_control_ops = {
    .status_json = status_json,
    .dirty_files = dirty_files,
    .dirty_bytes = dirty_bytes,
    .flush = flush,
    .revalidate = revalidate_job,
    .drop_clean = drop_clean,
    .discard = discard,
    .resize = resize,
    .resize_state = resize_state,
    .resize_stop = resize_stop,
};
