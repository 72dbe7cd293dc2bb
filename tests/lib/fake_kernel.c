// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel's half; see fake_kernel.h.
 *
 * Locks: fk_file.lock guards everything and is never held over a call into the cache; the inode
 * lock and the page locks are flags under it, with one condition for all of them.
 */
#include "tests/lib/fake_kernel.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/point.h"
#include "tests/lib/sim.h"

static void lock(struct fk_file *k)
{
    pthread_mutex_lock(&k->lock);
}

static void unlock(struct fk_file *k)
{
    pthread_mutex_unlock(&k->lock);
}

static void wait(struct fk_file *k)
{
    pthread_cond_wait(&k->cond, &k->lock);
}

static void changed(struct fk_file *k)
{
    pthread_cond_broadcast(&k->cond);
}

/* A place where it is worth while to let others run. The race lab decides by itself who does. */
static void others_first(void)
{
#ifndef NFSCACHED_LAB
    sim_yield();
#endif
}

static void inode_lock(struct fk_file *k)
{
    while (k->inode_locked)
        wait(k);
    k->inode_locked = true;
}

static void inode_unlock(struct fk_file *k)
{
    k->inode_locked = false;
    changed(k);
}

static void set_size(struct fk_file *k, uint64_t size)
{
    k->i_size = size;
    k->attr_version++;
}

/* ---- requests ---- */

struct request {
    struct fk_file *k;
    bool done;
    union {
        struct cache_read read;
        struct cache_write write;
    };
};

static void finish(struct request *r)
{
    lock(r->k);
    r->done = true;
    changed(r->k);
    unlock(r->k);
}

static void read_done(struct cache_read *r)
{
    finish((struct request *)((char *)r - offsetof(struct request, read)));
}

static void write_done(struct cache_write *w)
{
    finish((struct request *)((char *)w - offsetof(struct request, write)));
}

/* Lock held before and after, not meanwhile. */
static void send_write(struct fk_file *k, enum cache_write_kind kind, uint64_t off,
                       const void *data, uint32_t len, uint64_t unique)
{
    struct request *r = calloc(1, sizeof *r);

    assert(r);
    r->k = k;
    r->write = (struct cache_write){.m = k->m,
                                    .offset = off,
                                    .count = len,
                                    .data = data,
                                    .kind = kind,
                                    .unique = unique,
                                    .cred = k->cred,
                                    .done = write_done};
    r->write.nowait = true; /* at first without, as fuse/io.c does */
    unlock(k);
    POINT_AT(kind == CACHE_WRITE_MAPPED ? "kernel.writepage" : "kernel.write", off >> PAGE_SHIFT);

    int rc = cache_write(&r->write);

    if (rc == -EAGAIN) {
        uint32_t taken = r->write.progress;

        others_first();
        r->write.offset += taken;
        r->write.count -= taken;
        r->write.data = (const uint8_t *)data + taken;
        r->write.nowait = false;
        rc = r->write.count ? cache_write(&r->write) : 0;
    }
    assert(rc == 0 || rc == -EINPROGRESS);
    lock(k);
    while (rc && !r->done)
        wait(k);
    assert(r->write.error == 0);
    free(r);
}

/* Part of a reply, into a page that is READING; lock held. In the race lab it may be held up in
 * the middle of the page. */
static void copy_out(struct fk_file *k, uint64_t at, const uint8_t *from, size_t len)
{
    uint8_t *to = k->page[at >> PAGE_SHIFT].data + (at & PAGE_MASK);
    size_t half = len;

#ifdef NFSCACHED_LAB
    half = len / 2;
    memcpy(to, from, half);
    unlock(k);
    POINT_AT("kernel.copying", at >> PAGE_SHIFT);
    lock(k);
    to += half;
    from += half;
    half = len - half;
#endif
    memcpy(to, from, half);
}

/* The READ of pages [first, first + n), which are READING. Lock held before and after. */
static void send_read(struct fk_file *k, uint32_t first, uint32_t n)
{
    struct request *r = calloc(1, sizeof *r);
    uint64_t off = (uint64_t)first << PAGE_SHIFT, version = k->attr_version;

    assert(r);
    r->k = k;
    r->read = (struct cache_read){.m = k->m,
                                  .offset = off,
                                  .count = n << PAGE_SHIFT,
                                  .ra = &k->ra,
                                  .cred = k->cred,
                                  .kernel = true,
                                  .done = read_done};
    r->read.nowait = true;
    unlock(k);
    POINT_AT("kernel.read", first);

    int rc = cache_read(&r->read);

    if (rc == -EAGAIN) {
        others_first();
        r->read.nowait = false;
        rc = cache_read(&r->read);
    }
    lock(k);
    while (rc == -EINPROGRESS && !r->done)
        wait(k);
    if (rc != -EINPROGRESS)
        r->read.error = rc;

    uint64_t at = off;

    for (int i = 0; i < r->read.iovcnt && !r->read.error; i++) {
        const uint8_t *from = r->read.iov[i].iov_base;

        for (size_t left = r->read.iov[i].iov_len; left;) {
            uint32_t in = at & PAGE_MASK;
            size_t len = left < PAGE_SIZE - in ? left : PAGE_SIZE - in;

            copy_out(k, at, from, len);
            from += len;
            at += len;
            left -= len;
        }
    }
    for (uint32_t i = first; i < first + n; i++) {
        struct fk_page *p = &k->page[i];
        uint64_t start = (uint64_t)i << PAGE_SHIFT;

        if (at < start + PAGE_SIZE)
            memset(p->data + (at > start ? at - start : 0), 0,
                   PAGE_SIZE - (at > start ? at - start : 0));
        p->state = r->read.error ? FK_ABSENT : FK_UPTODATE;
    }
    if (r->read.error)
        k->read_error = r->read.error;
    else if (at < off + (n << PAGE_SHIFT) && at < k->i_size && version == k->attr_version)
        set_size(k, at); /* fuse_short_read() */
    changed(k);
    unlock(k);
    cache_read_release(&r->read);
    POINT_AT("kernel.filled", first);
    lock(k);
    free(r);
}

/* ---- page faults; lock held ---- */

/* The page, UPTODATE and not locked; lock held. NULL: SIGBUS. */
static struct fk_page *fault(struct fk_file *k, uint64_t off)
{
    uint32_t i = (uint32_t)(off >> PAGE_SHIFT);

    for (;;) {
        struct fk_page *p = &k->page[i];
        uint32_t end = (uint32_t)((k->i_size + PAGE_MASK) >> PAGE_SHIFT), n = 1;

        if (off >= k->i_size)
            return NULL;
        if (p->locked || p->state == FK_READING || (p->state == FK_ABSENT && p->writeback)) {
            wait(k); /* the last: fuse_wait_on_page_writeback() in fuse_do_readpage() */
            continue;
        }
        if (p->state == FK_UPTODATE)
            return p;
        while (n < k->read_pages && i + n < end && k->page[i + n].state == FK_ABSENT &&
               !k->page[i + n].locked && !k->page[i + n].writeback)
            n++;
        for (uint32_t j = 0; j < n; j++)
            k->page[i + j].state = FK_READING;
        k->faults++;
        send_read(k, i, n);
        if (p->state != FK_UPTODATE && k->read_error)
            return NULL;
    }
}

int fk_load(struct fk_file *k, uint64_t off, uint8_t *value)
{
    lock(k);

    struct fk_page *p = fault(k, off);

    if (p)
        *value = p->data[off & PAGE_MASK];
    unlock(k);
    return p ? 0 : -EFAULT;
}

int fk_update(struct fk_file *k, uint64_t off, uint8_t (*f)(uint8_t was, void *arg), void *arg)
{
    struct fk_page *p;

    lock(k);
    while ((p = fault(k, off)) != NULL && p->writeback) /* fuse_page_mkwrite() */
        wait(k);
    if (p) {
        p->data[off & PAGE_MASK] = f(p->data[off & PAGE_MASK], arg);
        p->dirty = true;
        k->stores++;
    }
    unlock(k);
    return p ? 0 : -EFAULT;
}

static uint8_t constant(uint8_t was, void *arg)
{
    (void)was;
    return *(uint8_t *)arg;
}

int fk_store(struct fk_file *k, uint64_t off, uint8_t value)
{
    return fk_update(k, off, constant, &value);
}

/* ---- writeback ---- */

/* Lock held; the page is dirty and not in writeback. It may be locked by the caller (launder). */
static void write_page(struct fk_file *k, uint32_t i)
{
    struct fk_page *p = &k->page[i];
    uint64_t start = (uint64_t)i << PAGE_SHIFT;
    uint64_t len = k->i_size > start ? k->i_size - start : 0;
    uint8_t *copy;

    p->dirty = false;
    if (!len) {
        k->beyond++;
        return;
    }
    if (FAULT(refuse_writepage) && mapping_error_last(k->m))
        return; /* answered with an error: the page stays clean (fuse_writepage_finish()) */
    if (len > PAGE_SIZE)
        len = PAGE_SIZE;
    copy = malloc(PAGE_SIZE);
    assert(copy);
    memcpy(copy, p->data, PAGE_SIZE);
    p->writeback = true;
    k->mapped_writes++;
    send_write(k, CACHE_WRITE_MAPPED, start, copy, (uint32_t)len, ++k->unique);
    p->writeback = false;
    free(copy);
    changed(k);
}

void fk_writeback(struct fk_file *k, uint32_t i)
{
    struct fk_page *p = &k->page[i];

    lock(k);
    while (p->writeback || p->locked || k->nowrite)
        wait(k);
    if (p->dirty)
        write_page(k, i);
    unlock(k);
}

void fk_write_and_wait(struct fk_file *k)
{
    for (uint32_t i = 0; i < k->pages; i++)
        fk_writeback(k, i);
}

bool fk_reclaim(struct fk_file *k, uint32_t i)
{
    struct fk_page *p = &k->page[i];

    lock(k);

    bool can = p->state == FK_UPTODATE && !p->dirty && !p->locked && !p->calls &&
               (!p->writeback || k->temporary_pages);

    if (can) {
        p->state = FK_ABSENT;
        p->drops++;
        memset(p->data, 0xdd, PAGE_SIZE);
        k->reclaims++;
    }
    unlock(k);
    return can;
}

/* invalidate_inode_pages2_range(); lock held. */
static void invalidate(struct fk_file *k, uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end && i < k->pages; i++) {
        struct fk_page *p = &k->page[i];

        while (p->locked || p->state == FK_READING)
            wait(k);
        if (p->state == FK_ABSENT)
            continue;
        p->locked = true;
        while (p->writeback && (p->dirty || !k->temporary_pages))
            wait(k);
        if (FAULT(direct_no_flush))
            p->dirty = false;
        if (p->dirty)
            write_page(k, i);
        p->state = FK_ABSENT;
        p->drops++;
        memset(p->data, 0xee, PAGE_SIZE);
        p->locked = false;
        changed(k);
    }
}

static int op_unmap(void *ctx, struct mapping *m, uint64_t off, uint64_t len, bool writers)
{
    struct fake_host *h = mapping_host(m);
    struct fk_file *k = h->kernel;

    (void)ctx;
    if (!k)
        return 0;
    POINT("kernel.unmap");
    lock(k);
    k->unmaps++;
    if (k->unmap_error) {
        unlock(k);
        return k->unmap_error;
    }
    if (writers && !k->unmap_without_fsync && !FAULT(unmap_without_fsync)) {
        inode_lock(k);
        unlock(k);
        fk_write_and_wait(k);
        lock(k);
    } else {
        writers = false;
    }
    invalidate(k, (uint32_t)(off >> PAGE_SHIFT),
               len ? (uint32_t)((off + len + PAGE_MASK) >> PAGE_SHIFT) : k->pages);
    if (writers)
        inode_unlock(k);
    unlock(k);
    if (writers && k->temporary_pages && !k->unmap_without_fence) {
        lock(k);
        inode_lock(k);
        unlock(k);
        fk_write_and_wait(k);
        lock(k);
        inode_unlock(k);
        unlock(k);
    }
    return 0;
}

static void op_busy(void *ctx, struct mapping *m, bool busy)
{
    struct fake_host *h = mapping_host(m);

    (void)ctx;
    __atomic_add_fetch(&h->busy, busy ? 1 : -1, __ATOMIC_RELAXED);
}

static void op_post(void *ctx, struct mapping *m, const struct attr *attr, uint64_t sent_ns)
{
    (void)ctx;
    (void)m;
    (void)attr;
    (void)sent_ns;
}

static bool op_worth_proving(void *ctx, struct mapping *m)
{
    struct fake_host *h = mapping_host(m);

    (void)ctx;
    return !h->no_proof;
}

const struct cache_kernel_ops fk_ops = {op_unmap, op_busy, op_post, op_worth_proving};

/* ---- system calls ---- */

static void copy_in(struct fk_file *k, uint64_t off, const uint8_t *data, uint32_t len,
                    bool *locked)
{
    struct fk_page *p = &k->page[off >> PAGE_SHIFT];

    while (p->locked || p->state == FK_READING)
        wait(k);
    p->calls++;
    memcpy(p->data + (off & PAGE_MASK), data, len);
    if (k->on_copy)
        k->on_copy(k, off, data, len);
    if (p->state == FK_ABSENT) {
        if (len == PAGE_SIZE)
            p->state = FK_UPTODATE;
        else
            *locked = p->locked = true;
    }
}

int fk_write(struct fk_file *k, uint64_t off, const void *data, uint32_t len)
{
    const uint8_t *from = data;

    assert(off + len <= (uint64_t)k->pages << PAGE_SHIFT);
    lock(k);
    inode_lock(k);
    while (len) { /* one WRITE each time */
        uint32_t n = 0, first = (uint32_t)(off >> PAGE_SHIFT), last = first;
        unsigned drops = 0;
        bool locked = false;

        while (n < len && !locked) {
            uint64_t at = off + n;
            uint32_t part = PAGE_SIZE - (at & PAGE_MASK);

            part = part < len - n ? part : len - n;
            last = (uint32_t)(at >> PAGE_SHIFT);
            copy_in(k, at, from + n, part, &locked);
            drops += k->page[last].drops;
            n += part;
        }
        /* The gap: what was copied is visible, can be stored over, and is not sent. */
        unlock(k);
        others_first();
        POINT_AT("kernel.copied", first);
        lock(k);
        for (uint32_t i = first; i <= last; i++)
            while (k->page[i].writeback)
                wait(k);
        k->calls++;

        uint8_t *now = malloc(n); /* the WRITE is made of the pages, not of the caller's buffer */

        assert(now);
        for (uint32_t at = 0, part; at < n; at += part) {
            uint32_t in = (off + at) & PAGE_MASK;

            part = PAGE_SIZE - in < n - at ? PAGE_SIZE - in : n - at;
            memcpy(now + at, k->page[(off + at) >> PAGE_SHIFT].data + in, part);
            drops -= k->page[(off + at) >> PAGE_SHIFT].drops;
        }
        if (drops) /* the pages that it copied into are its own now */
            memcpy(now, from, n);
        send_write(k, CACHE_WRITE_CALL, off, now, n, ++k->unique);
        free(now);
        if (off + n > k->i_size)
            set_size(k, off + n);
        for (uint32_t i = first; i <= last; i++)
            k->page[i].calls--;
        if (locked)
            k->page[last].locked = false;
        changed(k);
        off += n;
        from += n;
        len -= n;
    }
    inode_unlock(k);
    unlock(k);
    return 0;
}

int fk_direct_write(struct fk_file *k, uint64_t off, const void *data, uint32_t len)
{
    lock(k);
    inode_lock(k);
    unlock(k);
    /* generic_file_direct_write(): write out, invalidate, go direct, invalidate */
    uint32_t first = (uint32_t)(off >> PAGE_SHIFT);
    uint32_t end = (uint32_t)((off + len + PAGE_MASK) >> PAGE_SHIFT);

    if (!FAULT(direct_no_flush))
        fk_write_and_wait(k);
    lock(k);
    if (!FAULT(direct_no_invalidate))
        invalidate(k, first, end);
    k->calls++;
    send_write(k, CACHE_WRITE_DIRECT, off, data, len, ++k->unique);
    if (off + len > k->i_size)
        set_size(k, off + len);
    if (!FAULT(direct_no_invalidate) && !FAULT(direct_refill))
        invalidate(k, first, end);
    inode_unlock(k);
    unlock(k);
    return 0;
}

int fk_direct_read(struct fk_file *k, uint64_t off, void *data, uint32_t len, uint32_t *got)
{
    struct request *r = calloc(1, sizeof *r);
    uint8_t *to = data;

    assert(r);
    fk_write_and_wait(k);
    r->k = k;
    r->read = (struct cache_read){
        .m = k->m, .offset = off, .count = len, .cred = k->cred, .direct = true, .done = read_done};

    int rc = cache_read(&r->read);

    lock(k);
    while (rc == -EINPROGRESS && !r->done)
        wait(k);
    unlock(k);
    if (rc == -EINPROGRESS)
        rc = r->read.error;
    *got = 0;
    for (int i = 0; i < r->read.iovcnt && !rc; i++) {
        memcpy(to + *got, r->read.iov[i].iov_base, r->read.iov[i].iov_len);
        *got += (uint32_t)r->read.iov[i].iov_len;
    }
    cache_read_release(&r->read);
    free(r);
    return rc;
}

struct sync_wait {
    struct cache_sync sync;
    struct fk_file *k;
    bool done;
};

static void sync_done(struct cache_sync *s)
{
    struct sync_wait *w = (struct sync_wait *)s;

    lock(w->k);
    w->done = true;
    changed(w->k);
    unlock(w->k);
}

int fk_fsync(struct fk_file *k)
{
    struct sync_wait w = {.sync = {.m = k->m, .done = sync_done}, .k = k};

    lock(k);
    inode_lock(k);
    unlock(k);
    fk_write_and_wait(k);
    if (FAULT(fsync_unmaps))
        mapping_unmap_all(k->m);

    int rc = cache_sync(&w.sync);

    lock(k);
    while (rc == -EINPROGRESS && !w.done)
        wait(k);
    inode_unlock(k);
    unlock(k);
    return rc == -EINPROGRESS ? w.sync.error : rc;
}

static void truncate_pages(struct fk_file *k, uint64_t size)
{
    for (uint32_t i = (uint32_t)(size >> PAGE_SHIFT); i < k->pages; i++) {
        struct fk_page *p = &k->page[i];
        uint32_t keep = i == size >> PAGE_SHIFT ? size & PAGE_MASK : 0;

        while (p->locked || p->state == FK_READING || p->writeback)
            wait(k);
        if (p->state == FK_ABSENT)
            continue;
        memset(p->data + keep, 0, PAGE_SIZE - keep);
        if (!keep) {
            p->state = FK_ABSENT;
            p->drops++;
            p->dirty = false;
        }
    }
    changed(k);
}

struct truncating {
    struct cache_truncate t;
    struct fk_file *k;
    bool ready;
};

static void truncate_ready(struct cache_truncate *t)
{
    struct truncating *w = (struct truncating *)t;

    lock(w->k);
    w->ready = true;
    changed(w->k);
    unlock(w->k);
}

int fk_truncate(struct fk_file *k, uint64_t size)
{
    struct truncating w = {.t = {.m = k->m, .size = size, .ready = truncate_ready}, .k = k};
    struct token pre, post;

    lock(k);
    inode_lock(k);
    k->nowrite = true; /* fuse_set_nowrite() */
    for (uint32_t i = 0; i < k->pages; i++)
        while (k->page[i].writeback)
            wait(k);
    unlock(k);
    if (FAULT(setattr_unmaps))
        mapping_unmap_all(k->m);
    cache_truncate_begin(&w.t);
    lock(k);
    while (!w.ready)
        wait(k);
    unlock(k);
    others_first();
    fr_setattr_size(k->host.file, size, &pre, &post);
    others_first();
    mapping_own_change(k->m, &pre, &post);
    cache_truncate_end(&w.t, true);
    lock(k);

    uint64_t was = k->i_size;

    set_size(k, size);
    if (size < was)
        truncate_pages(k, size);
    k->nowrite = false;
    changed(k);
    if (size != was)
        invalidate(k, 0, k->pages); /* fuse_do_setattr() */
    inode_unlock(k);
    unlock(k);
    return 0;
}

void fk_told_size(struct fk_file *k, uint64_t size)
{
    lock(k);
    if (size < k->i_size) {
        for (uint32_t i = (uint32_t)(size >> PAGE_SHIFT); i < k->pages; i++)
            k->beyond += k->page[i].dirty && (uint64_t)i << PAGE_SHIFT >= size;
        set_size(k, size);
        truncate_pages(k, size);
    }
    if (size != k->i_size)
        set_size(k, size);
    unlock(k);
}

/* ---- life ---- */

struct fk_file *fk_new(struct cache *c, uint32_t inode, struct fr_file *server, uint32_t pages)
{
    struct fk_file *k = calloc(1, sizeof *k);

    assert(k);
    k->page = calloc(pages, sizeof *k->page);
    assert(k->page);
    k->pages = pages;
    k->host = (struct fake_host){.file = server, .kernel = k};
    k->cred = 1;
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->cond, NULL);

    struct attr a = fr_attr(server);
    struct token t = token_of(&a);

    k->m = mapping_new(c, inode, k, a.size);
    assert(k->m);
    mapping_set_token(k->m, &t);
    k->i_size = a.size;
    return k;
}

void fk_free(struct fk_file *k)
{
    mapping_free(k->m);
    pthread_mutex_destroy(&k->lock);
    pthread_cond_destroy(&k->cond);
    free(k->page);
    free(k);
}
