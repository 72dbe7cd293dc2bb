// SPDX-License-Identifier: Apache-2.0
/* The rig; see cache_rig.h. */
#include "daemon/bench/cache_rig.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum call_kind { CALL_FETCH, CALL_WRITE, CALL_COMMIT };

struct rig_call {
    enum call_kind kind;
    void *call;
    struct rig_call *next;
};

/* The list of this thread, if it answers for itself; answered ones are used again. */
static __thread bool answers_itself;
static __thread struct rig_call *mine, **mine_tail, *spare;

/* ---- the server ---- */

static struct rig_file *file_of(const struct mapping *m)
{
    return mapping_host(m);
}

struct attr rig_attr(const struct rig_file *f)
{
    struct timespec t = {1000000000, (long)(f->ticks % 1000000000)};

    return (struct attr){
        .mode = 0100644, .nlink = 1, .size = f->size, .mtime = t, .ctime = t, .atime = t};
}

static void answer(struct rig_call *c)
{
    void *call = c->call;
    enum call_kind kind = c->kind;

    /* Given back first: the answer may cause another call. */
    c->next = spare;
    spare = c;
    switch (kind) {
    case CALL_FETCH: {
        struct cache_fetch *f = call;

        f->done = f->count;
        f->error = 0;
        f->eof = f->offset + f->count >= file_of(f->m)->size;
        cache_fetch_done(f);
        break;
    }
    case CALL_WRITE: {
        struct cache_write_rpc *w = call;
        struct rig_file *f = file_of(w->m);
        struct attr a = rig_attr(f);

        w->pre = token_of(&a);
        if (w->offset + w->count > f->size)
            f->size = w->offset + w->count;
        f->ticks++;
        w->post = rig_attr(f);
        w->has_pre = w->has_post = true;
        w->done = w->count;
        w->committed = w->file_sync;
        w->error = 0;
        memset(w->verf, 1, sizeof w->verf);
        cache_write_done(w);
        break;
    }
    case CALL_COMMIT: {
        struct cache_commit *k = call;

        k->post = rig_attr(file_of(k->m));
        k->pre = token_of(&k->post);
        k->has_pre = k->has_post = true;
        k->error = 0;
        memset(k->verf, 1, sizeof k->verf);
        cache_commit_done(k);
        break;
    }
    }
}

static void called(struct mapping *m, enum call_kind kind, void *call)
{
    struct rig *r = file_of(m)->rig;
    struct rig_call *c = spare;

    if (c)
        spare = c->next;
    else if (!(c = malloc(sizeof *c)))
        abort();
    *c = (struct rig_call){kind, call, NULL};
    if (answers_itself) {
        *mine_tail = c;
        mine_tail = &c->next;
        return;
    }
    pthread_mutex_lock(&r->lock);
    *r->tail = c;
    r->tail = &c->next;
    pthread_cond_signal(&r->called);
    pthread_mutex_unlock(&r->lock);
}

static void spare_free(void)
{
    for (struct rig_call *c; (c = spare) != NULL;) {
        spare = c->next;
        free(c);
    }
}

static void *server(void *arg)
{
    struct rig *r = arg;

    pthread_mutex_lock(&r->lock);
    while (!r->stopping || r->calls) {
        struct rig_call *c = r->calls;

        if (!c) {
            pthread_cond_wait(&r->called, &r->lock);
            continue;
        }
        r->calls = c->next;
        if (!r->calls)
            r->tail = &r->calls;
        pthread_mutex_unlock(&r->lock);
        answer(c);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    spare_free();
    return NULL;
}

void rig_thread_begin(void)
{
    answers_itself = true;
    mine = NULL;
    mine_tail = &mine;
}

void rig_answer(void)
{
    for (struct rig_call *c; (c = mine) != NULL;) {
        mine = c->next;
        if (!mine)
            mine_tail = &mine;
        answer(c);
    }
}

void rig_thread_end(void)
{
    rig_answer();
    answers_itself = false;
    spare_free();
}

static void fetch(void *ctx, struct cache_fetch *f)
{
    called(f->m, CALL_FETCH, f);
}

static void write_back(void *ctx, struct cache_write_rpc *w)
{
    called(w->m, CALL_WRITE, w);
}

static void commit(void *ctx, struct cache_commit *k)
{
    called(k->m, CALL_COMMIT, k);
}

/* At once: a revalidation, which is who asks, waits for it where it stands, with no lock held. (A
 * writeback would ask under the mapping's lock; it does not with CACHE_WCC_TRUST.) */
static void ask(void *ctx, struct cache_getattr *g)
{
    g->attr = rig_attr(file_of(g->m));
    g->error = 0;
    g->done(g);
}

static const struct cache_remote_ops remote_ops = {fetch, write_back, commit, ask};

/* ---- the kernel ---- */

static int unmap(void *ctx, struct mapping *m, uint64_t off, uint64_t len, bool writers)
{
    return 0;
}

static void busy(void *ctx, struct mapping *m, bool on)
{
}

static void post(void *ctx, struct mapping *m, const struct attr *attr, uint64_t sent_ns)
{
}

static const struct cache_kernel_ops kernel_ops = {.unmap = unmap, .busy = busy, .post = post};

/* ---- life ---- */

int rig_open(struct rig *r, uint64_t bytes, uint32_t files, uint64_t size, uint64_t dirty_limit)
{
    struct cache_config config = {
        .size = bytes,
        .dirty_limit = dirty_limit,
        .dirty_background = dirty_limit,
        .dirty_expire_ns = 3600ull * 1000000000,
        .rsize = 1 << 20,
        .wsize = 1 << 20,
        .wcc = CACHE_WCC_TRUST,
    };
    struct arena_sizes sizes = {.inodes = files + 2, .files = 1, .creds = 8, .intents = 1};
    int err;

    memset(r, 0, sizeof *r);
    cache_arena_sizes(&config, &sizes);
    err = arena_create(&r->arena, &sizes);
    if (err)
        return err;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->called, NULL);
    r->tail = &r->calls;
    r->file = calloc(files, sizeof *r->file);
    r->c = cache_new(&config, &r->arena, NULL, &remote_ops, &kernel_ops, r);
    if (!r->file || !r->c || pthread_create(&r->server, NULL, server, r))
        abort(); /* a measurement has nothing better to do without memory */
    r->files = files;
    for (uint32_t i = 0; i < files; i++) {
        struct rig_file *f = &r->file[i];

        *f = (struct rig_file){.rig = r, .size = size};
        f->m = mapping_new(r->c, i + 1, f, size);
        if (!f->m)
            abort();

        struct attr a = rig_attr(f);
        struct token t = token_of(&a);

        mapping_set_token(f->m, &t);
    }
    return 0;
}

void rig_close(struct rig *r)
{
    for (uint32_t i = 0; i < r->files; i++)
        mapping_free(r->file[i].m);
    cache_free(r->c);
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_signal(&r->called);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->server, NULL);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->called);
    free(r->file);
    arena_close(&r->arena);
}

uint32_t rig_capacity(struct rig *r)
{
    struct cache_stats s;

    cache_stats(r->c, &s);
    return (uint32_t)s.frames;
}

/* ---- requests ---- */

/* True: answering was not enough. */
static bool wait_for(atomic_bool *done)
{
    for (bool waited = false;; waited = true) {
        rig_answer();
        if (atomic_load(done))
            return waited;
        sched_yield(); /* another thread has what it lacks: memory, or a reply */
    }
}

static void read_done(struct cache_read *r)
{
    atomic_store(&((struct rig_read *)r)->done, true);
}

bool rig_read(struct rig_file *f, struct rig_read *r, uint64_t offset, uint32_t count)
{
    r->r.m = f->m;
    r->r.offset = offset;
    r->r.count = count;
    r->r.ra = NULL;
    r->r.cred = 1;
    r->r.kernel = true;
    r->r.direct = r->r.nowait = false;
    r->r.done = read_done;
    atomic_store_explicit(&r->done, false, memory_order_relaxed);

    bool there = cache_read(&r->r) == 0;

    if (!there)
        r->waits += wait_for(&r->done);
    cache_read_release(&r->r);
    return there;
}

struct rig_write {
    struct cache_write w;
    atomic_bool done;
};

static void write_done(struct cache_write *w)
{
    atomic_store(&((struct rig_write *)w)->done, true);
}

void rig_write(struct rig_file *f, uint64_t offset, const void *data, uint32_t count,
               enum cache_write_kind kind)
{
    static _Atomic uint64_t unique = 1;
    struct rig_write w = {.w = {.m = f->m,
                                .offset = offset,
                                .count = count,
                                .data = data,
                                .kind = kind,
                                .unique = atomic_fetch_add(&unique, 1),
                                .cred = 1,
                                .done = write_done}};

    if (cache_write(&w.w) != 0)
        wait_for(&w.done);
}

struct rig_sync {
    struct cache_sync s;
    atomic_bool done;
};

static void sync_done(struct cache_sync *s)
{
    atomic_store(&((struct rig_sync *)s)->done, true);
}

void rig_sync(struct rig_file *f)
{
    struct rig_sync s = {.s = {.m = f->m, .done = sync_done}};

    if (cache_sync(&s.s) != 0)
        wait_for(&s.done);
}
