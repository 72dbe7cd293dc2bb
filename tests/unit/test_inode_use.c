// SPDX-License-Identifier: Apache-2.0
/*
 * The mapping of an inode, made when it is first used, and freed when nothing is left in it: by
 * itself, under concurrency, and what an inode and a page cost in bytes. Real threads; a remote
 * side in memory that answers from a thread of its own.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "cache/internal.h"
#include "fuse/ops.h"

#define INODES  4
#define THREADS 3

/* lock.c is not linked; nor is what attr.c needs to answer the kernel. */
void lock_table_free(struct inode *ino)
{
    assert_null(ino->locks);
}

struct op *op_new(struct front *front, fuse_req_t req, struct inode *ino)
{
    (void)front, (void)req, (void)ino;
    abort();
}

void op_submit(struct op *op, enum remote_op what, void (*done)(struct remote_call *))
{
    (void)op, (void)what, (void)done;
    abort();
}

void ahead_getattr(struct front *front, struct inode *ino, fuse_req_t req, bool asked)
{
    (void)front, (void)ino, (void)req, (void)asked;
    abort();
}

bool op_claim(struct op *op)
{
    (void)op;
    abort();
}

void op_fail(struct op *op, int error)
{
    (void)op, (void)error;
    abort();
}

void op_end(struct op *op)
{
    (void)op;
    abort();
}

bool unmap_is_helper(struct front *front, pid_t pid)
{
    (void)front, (void)pid;
    abort();
}

static unsigned revalidations;

void revalidate_later(struct front *front, struct inode *ino)
{
    (void)front, (void)ino;
    revalidations++;
}

void revalidate_sooner(struct front *front, struct inode *ino)
{
    (void)front, (void)ino;
}

/* ---- the server ---- */

struct call {
    struct call *next;
    struct cache_fetch *fetch;
    struct cache_write_rpc *write;
    struct cache_commit *commit;
};

static struct server {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct call *head, **tail;
    bool stopping, held; /* held: answers nothing */
    int write_error;
    uint8_t data[INODES + 1][THREADS][PAGE_SIZE]; /* by inode index less 1 */
} server;

static void serve_fetch(struct cache_fetch *f)
{
    struct inode *ino = mapping_host(f->m);
    const uint8_t *from = server.data[ino->index - 1][0] + f->offset;
    size_t at = 0, room = sizeof server.data[0];

    for (int i = 0; i < f->iovcnt && f->offset < room; i++) {
        size_t n = room - f->offset - at;

        n = n < f->iov[i].iov_len ? n : f->iov[i].iov_len;
        memcpy(f->iov[i].iov_base, from + at, n);
        at += n;
    }
    f->done = (uint32_t)at;
    f->eof = f->offset + at == room;
    cache_fetch_done(f);
}

static void serve_write(struct cache_write_rpc *w)
{
    struct inode *ino = mapping_host(w->m);
    uint8_t *to = server.data[ino->index - 1][0] + w->offset;

    w->error = server.write_error;
    for (int i = 0; i < w->iovcnt && !w->error; i++) {
        memcpy(to, w->iov[i].iov_base, w->iov[i].iov_len);
        to += w->iov[i].iov_len;
    }
    w->done = w->error ? 0 : w->count;
    cache_write_done(w);
}

static void *serve(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&server.lock);
    for (;;) {
        while ((!server.head || server.held) && !server.stopping)
            pthread_cond_wait(&server.wake, &server.lock);
        if (!server.head)
            break;

        struct call *c = server.head;

        server.head = c->next;
        if (!server.head)
            server.tail = &server.head;
        pthread_mutex_unlock(&server.lock);
        if (c->fetch)
            serve_fetch(c->fetch);
        else if (c->write)
            serve_write(c->write);
        else
            cache_commit_done(c->commit);
        free(c);
        pthread_mutex_lock(&server.lock);
    }
    pthread_mutex_unlock(&server.lock);
    return NULL;
}

static void submit(struct call call)
{
    struct call *c = malloc(sizeof *c);

    assert_non_null(c);
    *c = call;
    pthread_mutex_lock(&server.lock);
    *server.tail = c;
    server.tail = &c->next;
    pthread_cond_signal(&server.wake);
    pthread_mutex_unlock(&server.lock);
}

static void hold(bool on)
{
    pthread_mutex_lock(&server.lock);
    server.held = on;
    pthread_cond_signal(&server.wake);
    pthread_mutex_unlock(&server.lock);
}

static void remote_fetch(void *ctx, struct cache_fetch *f)
{
    (void)ctx;
    submit((struct call){.fetch = f});
}

static void remote_write(void *ctx, struct cache_write_rpc *w)
{
    (void)ctx;
    submit((struct call){.write = w});
}

static void remote_commit(void *ctx, struct cache_commit *c)
{
    (void)ctx;
    submit((struct call){.commit = c});
}

static const struct cache_remote_ops remote_ops = {
    .fetch = remote_fetch, .write = remote_write, .commit = remote_commit};

static int kernel_unmap(void *ctx, struct mapping *m, uint64_t off, uint64_t len, bool writers)
{
    (void)ctx, (void)m, (void)off, (void)len, (void)writers;
    return 0;
}

static void kernel_busy(void *ctx, struct mapping *m, bool busy)
{
    if (busy)
        inode_ref(mapping_host(m));
    else
        inode_unref(ctx, mapping_host(m));
}

static void kernel_post(void *ctx, struct mapping *m, const struct attr *attr, uint64_t sent_ns)
{
    (void)ctx, (void)m, (void)attr, (void)sent_ns;
}

static const struct cache_kernel_ops kernel_ops = {
    .unmap = kernel_unmap, .busy = kernel_busy, .post = kernel_post};

/* ---- the front ---- */

static struct front *f;
static struct arena arena;
static pthread_t server_thread;

static void begin(uint32_t inodes, uint64_t pages)
{
    struct cache_config config = {.size = pages * (PAGE_SIZE + PAGE_METADATA),
                                  .dirty_limit = pages / 2 * PAGE_SIZE,
                                  .dirty_background = pages / 4 * PAGE_SIZE,
                                  .stable_writes = true, /* the others store while it is sent */
                                  .rsize = 1 << 16,
                                  .wsize = 1 << 16};
    struct arena_sizes sizes = {.inodes = inodes, .files = 1, .creds = 1, .intents = 1};

    memset(&server, 0, sizeof server);
    server.tail = &server.head;
    pthread_mutex_init(&server.lock, NULL);
    pthread_cond_init(&server.wake, NULL);
    assert_int_equal(pthread_create(&server_thread, NULL, serve, NULL), 0);
    cache_arena_sizes(&config, &sizes);
    assert_int_equal(arena_create(&arena, &sizes), 0);
    f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->arena = &arena;
    f->config.cto = true;
    f->inode_slab = slab_new(&arena, ARENA_INODES);
    f->cache = cache_new(&config, &arena, NULL, &remote_ops, &kernel_ops, f);
    assert_non_null(f->cache);
    assert_int_equal(inodes_init(f), 0);
    assert_int_equal(names_init(f), 0);
}

static void end(void)
{
    /* First who may be at the end of a done() still, after it woke who waited for that. */
    pthread_mutex_lock(&server.lock);
    server.stopping = true;
    pthread_cond_signal(&server.wake);
    pthread_mutex_unlock(&server.lock);
    pthread_join(server_thread, NULL);
    assert_int_equal(inodes_destroy(f), 0);
    assert_int_equal(f->cache->nmappings, 0);
    cache_free(f->cache);
    names_destroy(f);
    slab_destroy(f->inode_slab);
    arena_close(&arena);
    free(f);
}

/* A regular file that the kernel knows, and nobody else. */
static fuse_ino_t known(unsigned n)
{
    struct fh fh = {.len = 28};
    struct attr attr = {.mode = S_IFREG | 0644,
                        .nlink = 1,
                        .fileid = n + 1,
                        .size = THREADS * PAGE_SIZE,
                        .ctime.tv_sec = 1000};

    memcpy(fh.data, &n, sizeof n);

    struct inode *ino = inode_get(f, &fh, &attr);

    assert_non_null(ino);
    ino->attr_valid = true;
    inode_lookup_add(ino, 1);

    fuse_ino_t nodeid = ino->nodeid;

    inode_unref(f, ino);
    return nodeid;
}

static struct inode *use(fuse_ino_t nodeid)
{
    struct inode *ino = inode_by_nodeid(f, nodeid);

    assert_non_null(ino);
    assert_int_equal(inode_use(f, ino), 0);
    assert_non_null(inode_map(ino));
    return ino;
}

/* Somebody looks at the inode, as a GETATTR does, when nobody else refers to it. */
static bool has_mapping(fuse_ino_t nodeid)
{
    struct inode *ino = inode_by_nodeid(f, nodeid);

    while (atomic_load(&ino->refs) > 1) /* the cache lets go of it a little after a sync */
        sched_yield();
    inode_unref(f, ino);
    ino = inode_by_nodeid(f, nodeid);

    bool has = inode_map(ino) != NULL;

    inode_unref(f, ino);
    return has;
}

/* Waits until it has none: a helper thread that looks at it just then keeps it a little longer. */
static void gone(fuse_ino_t nodeid)
{
    while (has_mapping(nodeid))
        sched_yield();
}

struct wait {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void wait_for(struct wait *w)
{
    pthread_mutex_lock(&w->lock);
    while (!w->done)
        pthread_cond_wait(&w->cond, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

static void wake(struct wait *w)
{
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

#define WAIT_INIT ((struct wait){PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false})

struct reading {
    struct cache_read r;
    struct wait wait;
};

static void read_done(struct cache_read *r)
{
    wake(&((struct reading *)r)->wait);
}

static uint8_t read_byte(struct inode *ino, uint64_t page, bool kernel)
{
    struct reading *g = calloc(1, sizeof *g);

    assert_non_null(g);
    g->wait = WAIT_INIT;
    g->r = (struct cache_read){.m = ino->map,
                               .offset = page << PAGE_SHIFT,
                               .count = PAGE_SIZE,
                               .kernel = kernel,
                               .done = read_done};
    if (cache_read(&g->r) == -EINPROGRESS)
        wait_for(&g->wait);
    assert_int_equal(g->r.error, 0);
    assert_true(g->r.bytes > 0);

    uint8_t byte = *(uint8_t *)g->r.iov[0].iov_base;

    cache_read_release(&g->r);
    free(g);
    return byte;
}

struct writing {
    struct cache_write w;
    struct wait wait;
};

static void write_done(struct cache_write *w)
{
    wake(&((struct writing *)w)->wait);
}

static void write_byte(struct inode *ino, uint64_t page, uint8_t byte)
{
    struct writing g = {.wait = WAIT_INIT,
                        .w = {.m = ino->map,
                              .offset = page << PAGE_SHIFT,
                              .count = 1,
                              .data = &byte,
                              .kind = CACHE_WRITE_CALL,
                              .cred = 1,
                              .done = write_done}};

    if (cache_write(&g.w) == -EINPROGRESS)
        wait_for(&g.wait);
    assert_int_equal(g.w.error, 0);
}

/* ---- attributes and an assumed token ---- */

static void refused(struct remote *remote, struct remote_call *call)
{
    (void)remote;
    assert_int_equal(call->op, REMOTE_FSINFO);
    call->error = -EIO;
    call->done(call);
}

static const struct remote_ops refusing_ops = {.submit = refused};

/* The attributes that the server has, in a reply to GETATTR sent now. */
static void told(struct inode *ino, const struct attr *attr)
{
    struct remote_post post = {.valid = true, .attr = *attr};
    struct remote_call call = {.op = REMOTE_GETATTR, .sent_ns = now_ns(), .replied_ns = now_ns()};

    attr_accept(f, ino, &post, &call);
}

/* A file written here, whose token nobody proved: its attributes are the server's, and cost nothing
 * more than others; its pages are not proven by them, and who has it open hears of it. */
static void assumed_token_is_good_for_attributes_alone(void **state)
{
    struct remote remote = {.ops = &refusing_ops};

    (void)state;
    begin(INODES, 256);
    f->remote = &remote;
    f->config.acregmin_ns = f->config.acregmax_ns = 3600000000000;
    assert_int_equal(attr_start(f), 0);

    struct inode *ino = use(known(0));
    struct attr attr = ino->rec->attr;

    read_byte(ino, 0, false);
    attr.ctime.tv_sec++;
    attr.mtime = attr.ctime;

    struct token t = token_of(&attr);

    t.assumed = true;
    mapping_set_token(ino->map, &t);
    revalidations = 0;
    ino->pages_expire_ns = 1;
    told(ino, &attr);
    assert_int_equal(revalidations, 0);
    assert_true(attr_fresh(ino));
    assert_int_equal(ino->pages_expire_ns, 1);
    assert_true(ts_equal(ino->rec->attr.ctime, attr.ctime));
    assert_true(mapping_token(ino->map).assumed);

    ino->opens = 1;
    told(ino, &attr);
    assert_int_equal(revalidations, 1);
    assert_int_equal(ino->pages_expire_ns, 1);
    ino->opens = 0;
    f->config.cto = false; /* an open does not look */
    told(ino, &attr);
    assert_int_equal(revalidations, 2);
    f->config.cto = true;
    attr.ctime.tv_sec++;
    told(ino, &attr);
    assert_int_equal(revalidations, 3);
    assert_true(ino->changed_elsewhere);
    assert_true(ts_equal(ino->rec->attr.ctime, attr.ctime)); /* goes with no page */

    /* A rename of ours does not prove it either; and is no change made elsewhere. */
    t.ctime.tv_sec = 1;
    mapping_set_token(ino->map, &t);
    ino->ctime_ours = true;
    told(ino, &attr);
    assert_int_equal(revalidations, 3);
    assert_true(attr_fresh(ino));
    assert_int_equal(ino->pages_expire_ns, 1);
    t = mapping_token(ino->map);
    assert_true(t.assumed && ts_equal(t.ctime, attr.ctime));
    attr_stop(f);
    inode_unref(f, ino);
    end();
}

static void clock_is_of_ticks_until_own_changes_show_more(void **state)
{
    struct remote remote = {.ops = &refusing_ops};
    struct remote_wcc none = {0};

    (void)state;
    begin(INODES, 256);
    f->remote = &remote;
    assert_int_equal(attr_start(f), 0);

    struct inode *ino = use(known(0));
    struct remote_post post = {.valid = true, .attr = ino->rec->attr};
    uint64_t now = now_ns();

    assert_true(attr_clock_ticks(f));
    for (unsigned i = 0; i < 2; i++) {
        struct remote_call call = {
            .op = REMOTE_SETATTR, .sent_ns = now + i * 1000, .replied_ns = now + i * 1000 + 500};

        post.attr.ctime.tv_nsec += 1000;
        attr_accept_own(f, ino, &none, &post, &call);
    }
    assert_false(attr_clock_ticks(f));
    attr_stop(f);
    inode_unref(f, ino);
    end();
}

/* ---- alone ---- */

static void file_that_was_only_looked_at_has_no_mapping(void **state)
{
    (void)state;
    begin(INODES, 256);
    fuse_ino_t file = known(0);

    assert_false(has_mapping(file));
    assert_int_equal(f->cache->nmappings, 0);
    end();
}

static void mapping_begins_with_the_attributes_and_goes_unused(void **state)
{
    (void)state;
    begin(INODES, 256);
    fuse_ino_t file = known(0);
    struct inode *ino = use(file), *again = use(file);
    struct token t = mapping_token(ino->map), now = token_of(&ino->rec->attr);

    assert_ptr_equal(ino, again);
    assert_true(token_equal(&t, &now));
    assert_int_equal(mapping_size(ino->map), THREADS * PAGE_SIZE);
    inode_unref(f, again);
    assert_non_null(inode_map(ino)); /* as long as there is a reference */
    inode_unref(f, ino);
    gone(file);
    assert_int_equal(f->cache->nmappings, 0);
    end();
}

static void mapping_stays_while_it_has_pages_here(void **state)
{
    (void)state;
    begin(INODES, 256);
    fuse_ino_t file = known(0);
    struct inode *ino = use(file);

    read_byte(ino, 0, false);
    inode_unref(f, ino);
    assert_true(has_mapping(file));
    cache_drop_clean(f->cache);
    gone(file);
    end();
}

static void mapping_stays_while_the_kernel_may_have_pages(void **state)
{
    (void)state;
    begin(INODES, 256);
    fuse_ino_t file = known(0);
    struct inode *ino = use(file);

    read_byte(ino, 0, true);
    inode_unref(f, ino);
    cache_drop_clean(f->cache);
    assert_int_equal(f->cache->n.pages, 0);
    assert_true(has_mapping(file)); /* a writer has to know of that copy */
    ino = use(file);
    assert_int_equal(mapping_unmap_all(ino->map), 0);
    inode_unref(f, ino);
    gone(file);
    end();
}

static void mapping_stays_while_the_server_lacks_bytes(void **state)
{
    (void)state;
    begin(INODES, 256);
    fuse_ino_t file = known(0);
    struct inode *ino = use(file);

    hold(true);
    write_byte(ino, 1, 'x');
    inode_unref(f, ino);
    cache_drop_clean(f->cache);
    ino = inode_by_nodeid(f, file);
    assert_non_null(inode_map(ino));
    assert_true(mapping_is_dirty(ino->map));
    hold(false);
    assert_int_equal(cache_sync_wait(ino->map), 0);
    inode_unref(f, ino);
    assert_int_equal(server.data[0][1][0], 'x');
    end();
}

static void mapping_stays_while_its_size_or_token_is_its_own(void **state)
{
    (void)state;
    begin(INODES, 256);
    fuse_ino_t file = known(0);
    struct inode *ino = use(file);
    struct token own = mapping_token(ino->map);

    own.mtime.tv_sec++;
    mapping_set_token(ino->map, &own);
    inode_unref(f, ino);
    assert_true(has_mapping(file));
    ino = use(file);
    own = token_of(&ino->rec->attr);
    own.size++;
    assert_true(mapping_adopt(ino->map, &own));
    own.size--;
    mapping_set_token(ino->map, &own); /* the token of the attributes, but not the size */
    inode_unref(f, ino);
    assert_true(has_mapping(file));
    ino = use(file);
    assert_true(mapping_adopt(ino->map, &own));
    inode_unref(f, ino);
    gone(file);
    end();
}

static void mapping_stays_while_an_error_is_not_made_good(void **state)
{
    (void)state;
    begin(INODES, 256);
    fuse_ino_t file = known(0);
    struct inode *ino = use(file);
    uint64_t seen = mapping_error_sample(ino->map);

    server.write_error = -ENOSPC;
    write_byte(ino, 1, 'x');
    assert_int_equal(cache_sync_wait(ino->map), -ENOSPC);
    struct inode *other = use(file);

    inode_unref(f, ino);
    assert_int_equal(mapping_error_check(other->map, &seen), -ENOSPC);
    assert_int_equal(mapping_error_check(other->map, &seen), 0);
    assert_true(mapping_discard(other->map) > 0);
    inode_unref(f, other);
    cache_drop_clean(f->cache);
    assert_int_equal(f->cache->n.pages, 0);
    assert_true(has_mapping(file));
    ino = use(file);
    assert_int_equal(mapping_error_last(ino->map), -ENOSPC);
    server.write_error = 0;
    write_byte(ino, 1, 'y');
    assert_int_equal(cache_sync_wait(ino->map), 0);
    inode_unref(f, ino);
    cache_drop_clean(f->cache);
    gone(file);
    end();
}

/* The old one is freed outside of the lock under which it was let go. */
static void old_mapping_goes_after_a_new_one_was_made(void **state)
{
    (void)state;
    begin(INODES, 256);
    fuse_ino_t file = known(0);
    struct inode *ino = use(file);
    struct mapping *old = ino->map;

    ino->map = mapping_new(f->cache, ino->index, ino, THREADS * PAGE_SIZE);
    mapping_free(old);
    read_byte(ino, 0, false); /* its pages are found by the number of the inode */
    assert_ptr_equal(f->cache->mapping_of[ino->index], ino->map);
    assert_true(evict_one(f->cache, NULL));
    inode_unref(f, ino);
    end();
}

/* ---- many at once ---- */

static fuse_ino_t files[INODES];
static atomic_int users;

/* Each has a page of its own in every file. */
static void *user(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg, seed = me + 1;
    uint8_t last[INODES] = {0};

    for (unsigned i = 0; i < 8000; i++) {
        seed = seed * 1103515245 + 12345;

        unsigned n = seed >> 16 & (INODES - 1), what = seed >> 20 & 7;
        struct inode *ino = inode_by_nodeid(f, files[n]);

        assert_non_null(ino);
        if (what == 0) { /* looks only */
            struct mapping *m = inode_map(ino);

            if (m)
                assert_int_equal(mapping_size(m), THREADS * PAGE_SIZE);
        } else {
            assert_int_equal(inode_use(f, ino), 0);
            if (what == 1)
                write_byte(ino, me, ++last[n]);
            else if (what == 2)
                assert_int_equal(cache_sync_wait(ino->map), 0);
            else if (what == 3)
                assert_int_equal(read_byte(ino, me, false), last[n]);
        }
        inode_unref(f, ino);
    }
    for (unsigned n = 0; n < INODES; n++) {
        struct inode *ino = use(files[n]);

        assert_int_equal(cache_sync_wait(ino->map), 0);
        inode_unref(f, ino);
        assert_int_equal(server.data[n][me][0], last[n]);
    }
    atomic_fetch_sub(&users, 1);
    return NULL;
}

/* What the helper threads of the cache do to mappings, and more often. */
static void *helper(void *arg)
{
    struct cache_stats s;

    (void)arg;
    while (atomic_load(&users)) {
        cache_drop_clean(f->cache);
        cache_kick(f->cache);
        cache_stats(f->cache, &s);
        migrate(f->cache, 0);
    }
    return NULL;
}

static void mappings_come_and_go_under_their_users(void **state)
{
    pthread_t thread[THREADS], one;

    (void)state;
    begin(INODES, 256);
    for (unsigned n = 0; n < INODES; n++)
        files[n] = known(n);
    atomic_store(&users, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, user, (void *)i), 0);
    assert_int_equal(pthread_create(&one, NULL, helper, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    pthread_join(one, NULL);
    cache_drop_clean(f->cache);
    for (unsigned n = 0; n < INODES; n++)
        gone(files[n]);
    assert_int_equal(f->cache->nmappings, 0);
    end();
}

/* ---- bytes ---- */

/* In use on the heap; 0 under a sanitizer, which has a heap of its own. */
static uint64_t heap(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks;
}

static void inode_costs_512_bytes_at_most(void **state)
{
    enum { N = 4096 };
    char name[32];

    (void)state;
    begin(N + 1, 256);
    struct inode *root = inode_by_nodeid(f, known(0));

    assert_non_null(root);

    uint64_t before = heap() + arena_memory(&arena);

    for (unsigned n = 1; n <= N; n++) {
        struct inode *ino = use(known(n)); /* opened and closed */

        snprintf(name, sizeof name, "file-%06u.c", n);
        names_set(f, root, name, ino);
        inode_unref(f, ino);
    }

    uint64_t each = (heap() + arena_memory(&arena) - before) / N;

    /* Beside that, its places in tables that are made once. */
    each += sizeof(*f->inodes) + 2 * sizeof(struct inode *) * (f->fh_mask + 1) / N;
    print_message("an inode: %llu bytes\n", (unsigned long long)each);
    assert_in_range(each, 1, 512);
    inode_unref(f, root);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_that_was_only_looked_at_has_no_mapping),
        cmocka_unit_test(mapping_begins_with_the_attributes_and_goes_unused),
        cmocka_unit_test(mapping_stays_while_it_has_pages_here),
        cmocka_unit_test(mapping_stays_while_the_kernel_may_have_pages),
        cmocka_unit_test(mapping_stays_while_the_server_lacks_bytes),
        cmocka_unit_test(mapping_stays_while_its_size_or_token_is_its_own),
        cmocka_unit_test(assumed_token_is_good_for_attributes_alone),
        cmocka_unit_test(clock_is_of_ticks_until_own_changes_show_more),
        cmocka_unit_test(mapping_stays_while_an_error_is_not_made_good),
        cmocka_unit_test(old_mapping_goes_after_a_new_one_was_made),
        cmocka_unit_test(mappings_come_and_go_under_their_users),
        cmocka_unit_test(inode_costs_512_bytes_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
