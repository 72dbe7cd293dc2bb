// SPDX-License-Identifier: Apache-2.0
/*
 * The server in memory; see fake_remote.h.
 *
 * Locks: fr_server.lock is a leaf (the cache calls in with its mapping lock held); calls into the
 * cache are made without it.
 */
#include "tests/lib/fake_remote.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/point.h"
#include "tests/lib/sim.h"

/* ---- arrival ---- */

static void arrive(struct fr_call call)
{
    struct fake_host *h = mapping_host(call.m);
    struct fr_server *s = h->file->server;
    struct fr_call *c = malloc(sizeof *c);

    assert(c);
    *c = call;
    c->file = h->file;
    c->next = NULL;
    pthread_mutex_lock(&s->lock);
    c->number = ++s->number;
    s->calls[c->kind]++;
    *s->tail = c;
    s->tail = &c->next;
    s->npending++;
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

static void op_fetch(void *ctx, struct cache_fetch *f)
{
    (void)ctx;
    arrive((struct fr_call){.kind = FR_FETCH, .m = f->m, .fetch = f});
}

static void op_write(void *ctx, struct cache_write_rpc *w)
{
    (void)ctx;
    arrive((struct fr_call){.kind = FR_WRITE, .m = w->m, .write = w});
}

static void op_commit(void *ctx, struct cache_commit *c)
{
    (void)ctx;
    arrive((struct fr_call){.kind = FR_COMMIT, .m = c->m, .commit = c});
}

static void op_getattr(void *ctx, struct cache_getattr *g)
{
    (void)ctx;
    arrive((struct fr_call){.kind = FR_GETATTR, .m = g->m, .getattr = g});
}

const struct cache_remote_ops fr_ops = {op_fetch, op_write, op_commit, op_getattr};

/* ---- the file; lock held ---- */

static struct attr attr_of(const struct fr_file *f)
{
    struct timespec t = {(time_t)(1000 + f->ticks / 1000), (long)(f->ticks % 1000) * 1000000};

    return (struct attr){.mode = 0100644, .nlink = 1, .size = f->size, .mtime = t, .ctime = t};
}

static void put(struct fr_file *f, uint64_t off, const uint8_t *from, uint64_t n, bool stable)
{
    assert(off + n <= f->room);
    memcpy(f->data + off, from, n);
    if (off + n > f->size)
        f->size = off + n;
    if (!stable)
        return;
    memcpy(f->stable + off, from, n);
    if (off + n > f->stable_size)
        f->stable_size = off + n;
}

static void cut(uint8_t *data, uint64_t *size, uint64_t to, uint64_t room)
{
    memset(data + to, 0, room - to);
    *size = to;
}

static bool fails(struct fr_server *s, enum fr_kind kind, int *error)
{
    if (s->errors[kind]) {
        s->errors[kind]--;
        *error = s->error[kind];
        return true;
    }
    if (s->fail && (kind == FR_WRITE || kind == FR_COMMIT) && sim_chance(s->fail)) {
        *error = kind == FR_WRITE ? -ENOSPC : -EIO;
        return true;
    }
    return false;
}

static void apply_fetch(struct fr_server *s, struct fr_file *f, struct cache_fetch *r)
{
    uint64_t n = r->count;
    const struct iovec *v = r->iov;

    r->done = 0;
    r->eof = false;
    if (fails(s, FR_FETCH, &r->error))
        return;
    if (s->read_most && n > s->read_most)
        n = s->read_most;
    if (s->read_short && n > 1 && sim_chance(s->read_short))
        n = 1 + sim_below((uint32_t)n - 1);
    if (r->offset >= f->size)
        n = 0;
    else if (f->size - r->offset < n)
        n = f->size - r->offset;
    r->eof = r->offset + n >= f->size;
    for (uint64_t at = 0; at < n; v++) {
        uint64_t k = v->iov_len < n - at ? v->iov_len : n - at;

        memcpy(v->iov_base, f->data + r->offset + at, k);
        at += k;
    }
    r->done = (uint32_t)n;
}

static void apply_write(struct fr_server *s, struct fr_file *f, struct cache_write_rpc *w)
{
    uint32_t n = w->count, at = 0;
    const struct iovec *v = w->iov;

    memcpy(w->verf, &s->verf, 8);
    w->done = 0;
    if (fails(s, FR_WRITE, &w->error))
        return;
    if (s->write_most && n > s->write_most)
        n = s->write_most;
    if (s->write_short && n > 1 && sim_chance(s->write_short))
        n = 1 + sim_below(n - 1);

    struct attr pre = attr_of(f);
    bool stable = w->file_sync || s->commits_writes;

    if (s->on_write)
        s->on_write(f, w, n, s->on_write_arg);
    for (; at < n; v++) {
        uint32_t k = v->iov_len < n - at ? (uint32_t)v->iov_len : n - at;

        put(f, w->offset + at, v->iov_base, k, stable);
        at += k;
    }
    f->ticks++;
    s->file_syncs += w->file_sync;
    w->done = n;
    w->committed = stable;
    w->has_pre = s->atomic_pre;
    w->pre = token_of(&pre);
    w->has_post = !s->no_post;
    w->post = attr_of(f);
}

static void apply_commit(struct fr_server *s, struct fr_file *f, struct cache_commit *c)
{
    memcpy(c->verf, &s->verf, 8);
    if (fails(s, FR_COMMIT, &c->error))
        return;
    memcpy(f->stable, f->data, f->room);
    f->stable_size = f->size;
    c->has_pre = s->atomic_pre;
    c->has_post = !s->no_post;
    c->post = attr_of(f);
    c->pre = token_of(&c->post);
}

static void trace(const struct fr_server *s, const struct fr_call *c, const char *what)
{
    static const char *const names[] = {"READ", "WRITE", "COMMIT", "GETATTR"};
    uint64_t off = 0, n = 0;

    if (!s->trace)
        return;
    if (c->kind == FR_FETCH)
        off = c->fetch->offset, n = c->fetch->count;
    if (c->kind == FR_WRITE)
        off = c->write->offset, n = c->write->count;
    fprintf(stderr, "%6llu server: %s %llu %s page %llu byte %llu + %llu\n",
            (unsigned long long)sim_steps(), what, (unsigned long long)c->number, names[c->kind],
            (unsigned long long)(off >> PAGE_SHIFT), (unsigned long long)(off & PAGE_MASK),
            (unsigned long long)n);
    if (c->kind == FR_WRITE)
        fprintf(stderr, "               first bytes %u %u\n",
                ((uint8_t *)c->write->iov[0].iov_base)[0],
                ((uint8_t *)c->write->iov[0].iov_base)[1]);
}

#ifdef NFSCACHED_LAB
static uint64_t page_of(const struct fr_call *c)
{
    return c->kind == FR_FETCH   ? c->fetch->offset >> PAGE_SHIFT
           : c->kind == FR_WRITE ? c->write->offset >> PAGE_SHIFT
                                 : LAB_NO_PAGE;
}
#endif

static void apply(struct fr_server *s, struct fr_call *c)
{
    if (c->applied)
        return;
    c->applied = true;
    trace(s, c, "applies");
    switch (c->kind) {
    case FR_FETCH:
        apply_fetch(s, c->file, c->fetch);
        break;
    case FR_WRITE:
        apply_write(s, c->file, c->write);
        break;
    case FR_COMMIT:
        apply_commit(s, c->file, c->commit);
        break;
    default:
        if (!fails(s, FR_GETATTR, &c->getattr->error))
            c->getattr->attr = attr_of(c->file);
        break;
    }
}

static void unlink_call(struct fr_server *s, struct fr_call *c)
{
    trace(s, c, "answers");

    struct fr_call **at = &s->pending;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    if (!c->next)
        s->tail = at;
    s->npending--;
}

/* No lock held. */
static void answer(struct fr_call *c)
{
    switch (c->kind) {
    case FR_FETCH:
        cache_fetch_done(c->fetch);
        break;
    case FR_WRITE:
        cache_write_done(c->write);
        break;
    case FR_COMMIT:
        cache_commit_done(c->commit);
        break;
    default:
        c->getattr->done(c->getattr);
        break;
    }
    free(c);
}

/* ---- for tests ---- */

void fr_server_init(struct fr_server *s)
{
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->cond, NULL);
    s->tail = &s->pending;
    s->verf = 0x1111;
    s->atomic_pre = true;
}

void fr_server_free(struct fr_server *s)
{
    assert(!s->pending);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->cond);
}

struct fr_file *fr_file_new(struct fr_server *s, uint64_t size, uint64_t room)
{
    struct fr_file *f = calloc(1, sizeof *f);

    assert(f && size <= room);
    f->server = s;
    f->data = calloc(1, room);
    f->stable = calloc(1, room);
    assert(f->data && f->stable);
    f->room = room;
    f->size = f->stable_size = size;
    return f;
}

void fr_file_free(struct fr_file *f)
{
    free(f->data);
    free(f->stable);
    free(f);
}

struct fr_call *fr_find(struct fr_server *s, enum fr_kind kind, const struct mapping *m,
                        bool applied)
{
    struct fr_call *c;

    pthread_mutex_lock(&s->lock);
    for (c = s->pending; c; c = c->next)
        if (c->kind == kind && c->applied == applied && (!m || c->m == m))
            break;
    pthread_mutex_unlock(&s->lock);
    return c;
}

unsigned fr_count(struct fr_server *s, enum fr_kind kind)
{
    unsigned n = 0;

    pthread_mutex_lock(&s->lock);
    for (struct fr_call *c = s->pending; c; c = c->next)
        n += c->kind == kind;
    pthread_mutex_unlock(&s->lock);
    return n;
}

unsigned fr_pending(struct fr_server *s)
{
    pthread_mutex_lock(&s->lock);

    unsigned n = s->npending;

    pthread_mutex_unlock(&s->lock);
    return n;
}

void fr_apply(struct fr_call *c)
{
    struct fr_server *s = c->file->server;

    pthread_mutex_lock(&s->lock);
    apply(s, c);
    pthread_mutex_unlock(&s->lock);
}

void fr_deliver(struct fr_call *c)
{
    struct fr_server *s = c->file->server;

    pthread_mutex_lock(&s->lock);
    apply(s, c);
    unlink_call(s, c);
    pthread_mutex_unlock(&s->lock);
    answer(c);
}

bool fr_serve(struct fr_server *s, enum fr_kind kind)
{
    struct fr_call *c = fr_find(s, kind, NULL, false);

    if (!c)
        c = fr_find(s, kind, NULL, true);
    if (!c)
        return false;
    fr_deliver(c);
    return true;
}

void fr_serve_all(struct fr_server *s)
{
    for (;;) {
        pthread_mutex_lock(&s->lock);

        struct fr_call *c = s->pending;

        pthread_mutex_unlock(&s->lock);
        if (!c)
            return;
        fr_deliver(c);
    }
}

static void reboot_file(struct fr_file *f)
{
    if (f->server->trace)
        fprintf(stderr, "%6llu server: reboots\n", (unsigned long long)sim_steps());
    for (uint64_t i = 0; i < f->room; i++)
        f->server->lost_bytes += f->data[i] != f->stable[i];
    memcpy(f->data, f->stable, f->room);
    f->size = f->stable_size;
    f->ticks++;
}

void fr_reboot(struct fr_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->verf++;
    s->reboots++;
    pthread_mutex_unlock(&s->lock);
}

void fr_reboot_file(struct fr_file *f)
{
    struct fr_server *s = f->server;

    pthread_mutex_lock(&s->lock);
    s->verf++;
    s->reboots++;
    reboot_file(f);
    pthread_mutex_unlock(&s->lock);
}

void fr_fail(struct fr_server *s, enum fr_kind kind, int error, unsigned times)
{
    pthread_mutex_lock(&s->lock);
    s->error[kind] = error;
    s->errors[kind] = times;
    pthread_mutex_unlock(&s->lock);
}

void fr_write_locked(struct fr_file *f, uint64_t off, const void *data, uint32_t len)
{
    put(f, off, data, len, true);
    f->ticks++;
}

void fr_write(struct fr_file *f, uint64_t off, const void *data, uint32_t len)
{
    pthread_mutex_lock(&f->server->lock);
    fr_write_locked(f, off, data, len);
    pthread_mutex_unlock(&f->server->lock);
}

static void truncate_both(struct fr_file *f, uint64_t size)
{
    assert(size <= f->room);
    if (size < f->size)
        cut(f->data, &f->size, size, f->room);
    if (size < f->stable_size)
        cut(f->stable, &f->stable_size, size, f->room);
    f->size = f->stable_size = size;
    f->ticks++;
}

void fr_truncate(struct fr_file *f, uint64_t size)
{
    pthread_mutex_lock(&f->server->lock);
    truncate_both(f, size);
    pthread_mutex_unlock(&f->server->lock);
}

struct attr fr_attr(struct fr_file *f)
{
    pthread_mutex_lock(&f->server->lock);

    struct attr a = attr_of(f);

    pthread_mutex_unlock(&f->server->lock);
    return a;
}

void fr_setattr_size(struct fr_file *f, uint64_t size, struct token *pre, struct token *post)
{
    struct attr a, b;

    pthread_mutex_lock(&f->server->lock);
    a = attr_of(f);
    truncate_both(f, size);
    b = attr_of(f);
    pthread_mutex_unlock(&f->server->lock);
    *pre = token_of(&a);
    *post = token_of(&b);
}

/* ---- at random ---- */

void *fr_worker(void *server)
{
    struct fr_server *s = server;

    sim_name("server");
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->npending && !s->stopping)
            pthread_cond_wait(&s->cond, &s->lock);
        if (!s->npending)
            break;

        struct fr_call *c = s->pending;

        for (unsigned i = sim_below(s->npending < 6 ? s->npending : 6); i; i--)
            c = c->next;
        apply(s, c);
        if (sim_chance(128)) {
            pthread_mutex_unlock(&s->lock);
            sim_yield();
            pthread_mutex_lock(&s->lock);
            continue;
        }
        unlink_call(s, c);
        pthread_mutex_unlock(&s->lock);
        answer(c);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

#ifdef NFSCACHED_LAB
static struct fr_call *untaken(struct fr_server *s)
{
    struct fr_call *c = s->pending;

    while (c && c->taken)
        c = c->next;
    return c;
}

void *fr_worker_in_order(void *server)
{
    static const char *const arrived[] = {"server.READ", "server.WRITE", "server.COMMIT",
                                          "server.GETATTR"};
    static const char *const applied[] = {"server.READ.done", "server.WRITE.done",
                                          "server.COMMIT.done", "server.GETATTR.done"};
    struct fr_server *s = server;
    struct fr_call *c;

    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!(c = untaken(s)) && !s->stopping)
            pthread_cond_wait(&s->cond, &s->lock);
        if (!c)
            break;
        c->taken = true;
        pthread_mutex_unlock(&s->lock);
        POINT_AT(arrived[c->kind], page_of(c));
        pthread_mutex_lock(&s->lock);
        apply(s, c);
        pthread_mutex_unlock(&s->lock);
        POINT_AT(applied[c->kind], page_of(c));
        pthread_mutex_lock(&s->lock);
        unlink_call(s, c);
        pthread_mutex_unlock(&s->lock);
        answer(c);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}
#endif

void fr_stop(struct fr_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
}
