// SPDX-License-Identifier: Apache-2.0
/* The fixture of the cache's unit tests; see cache_fixture.h. */
#include "tests/unit/cache_fixture.h"

uint8_t fixture_byte(uint64_t off)
{
    return (uint8_t)((off >> PAGE_SHIFT) + 1);
}

void fixture_begin(struct fixture *f, const struct cache_config *config, uint64_t size)
{
    struct cache_config c = *config;
    struct arena_sizes sizes = {.inodes = 8, .files = 1, .creds = 8, .intents = 1};

    memset(f, 0, sizeof *f);
    sim_begin(1, 0);
    if (!c.size)
        c.size = 256 * (PAGE_SIZE + 96);
    if (!c.dirty_limit)
        c.dirty_limit = 128 * PAGE_SIZE;
    if (!c.dirty_background)
        c.dirty_background = 128 * PAGE_SIZE;
    if (!c.dirty_expire_ns)
        c.dirty_expire_ns = 3600ull * 1000000000;
    if (!c.rsize)
        c.rsize = 64 << 10;
    if (!c.wsize)
        c.wsize = 64 << 10;
    cache_arena_sizes(&c, &sizes);
    assert_int_equal(arena_create(&f->arena, &sizes), 0);
    fr_server_init(&f->server);
    f->file = fr_file_new(&f->server, size, FIXTURE_PAGES * PAGE_SIZE);
    for (uint64_t i = 0; i < size; i++)
        f->file->data[i] = f->file->stable[i] = fixture_byte(i);
    f->c = cache_new(&c, &f->arena, NULL, &fr_ops, &fk_ops, NULL);
    assert_non_null(f->c);
    f->k = fk_new(f->c, 1, f->file, FIXTURE_PAGES);
    f->m = f->k->m;
    sim_settle();
}

void fixture_serve(struct fixture *f)
{
    for (int i = 0; i < 1000; i++) {
        fr_serve_all(&f->server);
        sim_settle();
        if (!fr_pending(&f->server))
            return;
    }
    fail_msg("the cache never comes to rest");
}

void fixture_end(struct fixture *f)
{
    struct cache_stats s;

    f->server.read_most = f->server.write_most = 0;
    memset(f->server.errors, 0, sizeof f->server.errors);
    for (int i = 0; i < 100 && mapping_is_busy(f->m); i++)
        fixture_sync(f);
    fixture_serve(f);
    assert_false(mapping_is_busy(f->m));
    assert_int_equal(f->m->holds, 0);
    assert_int_equal(f->k->host.busy, 0);
    assert_int_equal(f->c->n.alarms, 0);
    fk_free(f->k);
    assert_int_equal(f->c->masks_used, 0);
    assert_int_equal(f->c->frames_used * 8, f->c->nmask_free);
    cache_stats(f->c, &s);
    assert_int_equal(s.pages, 0);
    assert_int_equal(f->c->busy_pages, 0);
    cache_free(f->c);
    fr_file_free(f->file);
    fr_server_free(&f->server);
    arena_close(&f->arena);
    sim_end();
}

/* ---- writing ---- */

struct write {
    struct cache_write w;
    uint8_t *data;
};

static void write_done(struct cache_write *w)
{
    struct write *x = (struct write *)w;

    assert_int_equal(w->error, 0);
    free(x->data);
    free(x);
}

bool fixture_write_as(struct fixture *f, uint64_t off, const void *data, uint32_t len,
                      enum cache_write_kind kind, uint64_t unique, uint16_t cred)
{
    struct write *x = calloc(1, sizeof *x);

    assert_non_null(x);
    x->data = malloc(len);
    assert_non_null(x->data);
    memcpy(x->data, data, len);
    x->w = (struct cache_write){.m = f->m,
                                .offset = off,
                                .count = len,
                                .data = x->data,
                                .kind = kind,
                                .unique = unique,
                                .cred = cred,
                                .done = write_done};

    int rc = cache_write(&x->w);

    assert_true(rc == 0 || rc == -EINPROGRESS);
    if (rc == 0)
        write_done(&x->w);
    return rc == 0;
}

bool fixture_write(struct fixture *f, uint64_t off, const void *data, uint32_t len)
{
    static uint64_t unique = 1000;

    return fixture_write_as(f, off, data, len, CACHE_WRITE_CALL, ++unique, 1);
}

/* ---- reading ---- */

static void read_done(struct cache_read *r)
{
    ((struct fixture_read *)r)->done = true;
}

void fixture_read_start(struct fixture *f, struct fixture_read *r, uint64_t off, uint32_t len,
                        bool kernel, bool direct, struct readahead *ra)
{
    memset(r, 0, sizeof *r);
    r->r = (struct cache_read){.m = f->m,
                               .offset = off,
                               .count = len,
                               .ra = ra,
                               .cred = 1,
                               .kernel = kernel,
                               .direct = direct,
                               .done = read_done};

    int rc = cache_read(&r->r);

    assert_true(rc == 0 || rc == -EINPROGRESS);
    if (rc == 0)
        r->done = true;
    sim_settle();
}

void fixture_read_finish(struct fixture_read *r)
{
    uint32_t at = 0;

    assert_true(r->done);
    r->data = calloc(1, r->r.count + 1);
    assert_non_null(r->data);
    for (int i = 0; i < r->r.iovcnt && !r->r.error; i++) {
        memcpy(r->data + at, r->r.iov[i].iov_base, r->r.iov[i].iov_len);
        at += (uint32_t)r->r.iov[i].iov_len;
    }
    if (!r->r.error)
        assert_int_equal(at, r->r.bytes);
    cache_read_release(&r->r);
}

void fixture_read_end(struct fixture_read *r)
{
    free(r->data);
    r->data = NULL;
}

void fixture_expect(struct fixture *f, uint64_t off, const void *data, uint32_t len)
{
    struct fixture_read r;

    fixture_read_start(f, &r, off, len, false, false, NULL);
    if (!r.done)
        fixture_serve(f);
    fixture_read_finish(&r);
    assert_int_equal(r.r.error, 0);
    assert_int_equal(r.r.bytes, len);
    assert_memory_equal(r.data, data, len);
    fixture_read_end(&r);
}

/* ---- waiting ---- */

static void sync_done(struct cache_sync *s)
{
    ((struct fixture_sync *)s)->done = true;
}

void fixture_sync_start(struct fixture *f, struct fixture_sync *s)
{
    *s = (struct fixture_sync){.s = {.m = f->m, .done = sync_done}};

    int rc = cache_sync(&s->s);

    assert_true(rc == 0 || rc == -EINPROGRESS);
    if (rc == 0)
        s->done = true;
    sim_settle();
}

int fixture_sync(struct fixture *f)
{
    struct fixture_sync s;

    fixture_sync_start(f, &s);
    for (int i = 0; i < 100 && !s.done; i++)
        fixture_serve(f);
    assert_true(s.done);
    return s.s.error;
}

static void *reval_main(void *arg)
{
    struct fixture_reval *r = arg;

    sim_name("revalidation");
    r->error = mapping_revalidate(r->f->m, NULL, r->force, &r->result);
    r->done = true;
    return NULL;
}

void fixture_reval_start(struct fixture *f, struct fixture_reval *r, bool force)
{
    *r = (struct fixture_reval){.f = f, .force = force};
    pthread_create(&r->thread, NULL, reval_main, r);
    sim_settle();
}

void fixture_reval_end(struct fixture_reval *r)
{
    for (int i = 0; i < 100 && !r->done; i++)
        fixture_serve(r->f);
    assert_true(r->done);
    pthread_join(r->thread, NULL);
}
