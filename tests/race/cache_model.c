// SPDX-License-Identifier: Apache-2.0
/*
 * Random interleavings of everything that touches one file, against an oracle for every byte.
 *
 * The actors: two that store through a mapping, one that calls write(2), a foreign client that
 * writes other bytes of the same pages, the kernel's writeback and reclaim, fsync(2), direct
 * reads, revalidation, a reader of another file that takes the memory away, one that stores to a
 * third and keeps it mapped, one that gives the cache another size, a server that answers in any
 * order, reboots and fails. Each byte that
 * is ever written belongs to one of them, and holds a number that its owner counts up:
 *
 *   pages 0-3    bytes 0-7 and 4088-4095, by their number modulo 4:
 *                0, 3: mapped stores; 1: foreign; 2: write(2)
 *                2048: mapped and foreign stores (in the end everybody sees the same)
 *                2049: mapped stores and write(2)
 *   pages 4-5    write(2) of whole pages and of parts
 *   pages 6-8    the end of the file: write(2), truncation, in one half of the schedules; foreign
 *                appends in the other
 *
 * The oracle: a WRITE at the server carries no byte that nobody here wrote (I2); the kernel's copy
 * has every local store, always; after a revalidation nothing older than its beginning is in the
 * kernel or valid in the cache (I3); what fsync promised survives every reboot (I1); in the end
 * both sides agree, nobody waits, and no frame is lost.
 *
 *   cache_model [--schedules N] [--seed S] [--threads] [--seconds T] [--verbose] [--trace]
 *
 *               [--temporary-pages] [--no-fence] [--no-fsync]
 *
 * The last three make the kernel one of before about 6.16, and the unmap weaker than it must be:
 * with
 * --no-fence --temporary-pages, or with --no-fsync, it has to fail.
 *
 * Without --threads the actors are fibers (tests/lib/sim.h): a seed is a schedule, and
 * `--seed S --schedules 1` plays it again. With it they are threads, for the sanitizer and the
 * scheduler of the machine. Exit: 0, 1 a rule was broken, 3 nobody could go on.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache/internal.h"
#include "tests/lib/fake_kernel.h"
#include "tests/lib/sim.h"

#define MIXED       4 /* pages */
#define OWN         2
#define TAIL        3
#define PAGES       (MIXED + OWN + TAIL)
#define TAIL_AT     ((MIXED + OWN) * PAGE_SIZE)
#define ROOM        (PAGES * PAGE_SIZE)
#define CELLS       16
#define OTHER_PAGES 24
#define HOT         2048
#define BOTH        2049

enum class { MAPPED_A, FOREIGN, CALL, MAPPED_B };

struct totals {
    uint64_t schedules, stores, calls, foreign, revals, changed, fsyncs, directs, direct_writes,
        truncates;
    uint64_t reboots, lost_unstable, faults, mapped_writes, kernel_reclaims, evicted,
        reclaim_unmaps;
    uint64_t writes, commits, refetched, verifier_changes, errors, alarms, steps;
    uint64_t resizes, moved;
};

static struct totals total;
static bool threads, verbose, trace;
static bool temporary_pages, no_fence, no_fsync; /* what the kernel, and the unmap, are like */
static uint64_t seed_now;
static unsigned ops = 24;

struct world {
    struct arena arena;
    struct cache *c;
    struct fr_server server;
    struct fr_file *file, *noise;
    struct fk_file *k;
    struct fake_host noise_host;
    struct mapping *noise_m;
    struct fr_file *other; /* the third: only its own actor knows it */
    struct fk_file *other_k;
    uint8_t other_last[OTHER_PAGES];
    unsigned least; /* of budgets[] */
    bool bracket, tail_local, reboots, failures, truncates;
    /* the oracle; one byte for each of the file, each written by its owner alone */
    uint8_t last[ROOM];  /* newest value, as soon as its owner can see it */
    uint8_t acked[ROOM]; /* write(2): returned */
    uint8_t floor[ROOM]; /* foreign bytes may not be older */
    uint8_t sent[ROOM];  /* last value that a WRITE carried */
    uint8_t times[ROOM]; /* ... and how often */
    bool once;           /* nothing makes it necessary to send a byte twice */
    _Atomic uint8_t hot; /* values of local stores to the hot bytes, each used once */
    uint64_t tail_size;
};

static struct world *W;

static void broken(const char *what, uint64_t off, unsigned have, unsigned want)
{
    fflush(stdout);
    fprintf(stderr,
            "BROKEN seed %llu: %s: page %llu byte %llu: have %u, want %u (step %llu)\n"
            "  again: cache_model --seed %llu --schedules 1%s\n",
            (unsigned long long)seed_now, what, (unsigned long long)(off >> PAGE_SHIFT),
            (unsigned long long)(off & PAGE_MASK), have, want, (unsigned long long)sim_steps(),
            (unsigned long long)seed_now, threads ? " --threads" : "");
    fflush(stderr);
    _exit(1);
}

/* ---- the bytes ---- */

static uint64_t cell(unsigned page, unsigned i)
{
    return (uint64_t)page * PAGE_SIZE + (i < CELLS / 2 ? i : PAGE_SIZE - CELLS + i);
}

static unsigned cell_class(unsigned i)
{
    return i & 3;
}

static uint64_t random_cell(enum class class)
{
    return cell(sim_below(MIXED), sim_below(CELLS / 4) * 4 + class);
}

static uint8_t get(const uint8_t *at)
{
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

static void set(uint8_t *at, uint8_t v)
{
    __atomic_store_n(at, v, __ATOMIC_RELEASE);
}

/* Server's lock held. */
static void on_write(struct fr_file *f, const struct cache_write_rpc *w, uint32_t bytes, void *arg)
{
    const struct iovec *v = w->iov;
    size_t done = 0; /* of *v */

    (void)arg;
    if (f == W->other)
        return;
    if (f != W->file)
        broken("a WRITE of another file", w->offset, 0, 0);
    for (uint64_t at = w->offset; at < w->offset + bytes && at < TAIL_AT; at++) {
        uint32_t in = at & PAGE_MASK;

        while (done == v->iov_len) {
            v++;
            done = 0;
        }

        uint8_t value = ((const uint8_t *)v->iov_base)[done++];

        if (at >= MIXED * PAGE_SIZE)
            continue;
        W->times[at] = value == W->sent[at] ? W->times[at] + 1 : 1;
        W->sent[at] = value;
        /* Of a write(2) a mapped writeback may have been faster (fake_kernel.c, the gap). */
        if (W->once && in != BOTH && W->times[at] > 1 + ((in & 3) == CALL))
            broken("a byte is sent again that was not written again", at, value, 0);
        if (in == HOT || in == BOTH)
            continue;
        if ((in >= CELLS / 2 && in < PAGE_SIZE - CELLS / 2) || (in & 3) == FOREIGN)
            broken("a WRITE carries a byte that was not written here", at, 0, 0);
    }
    if (!W->tail_local && w->offset + bytes > TAIL_AT)
        broken("a WRITE carries bytes of a foreign tail", w->offset + bytes, 0, 0);
}

/* ---- actors ---- */

static void begin_actor(const char *name, unsigned id)
{
    sim_name(name);
    if (!sim_active())
        sim_random_seed(seed_now * 64 + id);
}

static void pause_actor(void)
{
    sim_yield();
    if (!sim_active() && sim_chance(64))
        usleep(sim_below(50));
}

struct count {
    uint64_t off;
    bool bad;
    uint8_t was;
};

static uint8_t count_up(uint8_t was, void *arg)
{
    struct count *c = arg;

    c->was = was;
    c->bad = was != W->last[c->off];
    set(&W->last[c->off], (uint8_t)(W->last[c->off] + 1));
    return W->last[c->off];
}

static void check_foreign(uint64_t off, uint8_t v, uint8_t floor, const char *what)
{
    if (v < floor)
        broken(what, off, v, floor);
}

static uint8_t next_both(uint8_t was)
{
    return was == 250 ? 1 : (uint8_t)(was + 1);
}

static uint8_t store_both(uint8_t was, void *arg)
{
    struct count *c = arg;

    c->bad = was != W->last[c->off];
    c->was = was;
    set(&W->last[c->off], next_both(was));
    return next_both(was);
}

/* The kernel's lock is held: this is the instant at which a write(2) counts. */
static void on_copy(struct fk_file *k, uint64_t off, const uint8_t *data, uint32_t len)
{
    (void)k;
    if (len == 1 && off < MIXED * PAGE_SIZE && (off & PAGE_MASK) == BOTH)
        set(&W->last[off], *data);
}

static void *mapper(void *arg)
{
    enum class class = (enum class)(uintptr_t)arg;

    begin_actor(class == MAPPED_A ? "mapper A" : "mapper B", class);
    for (unsigned i = 0; i < ops; i++) {
        uint64_t off = random_cell(class);
        uint8_t v;

        switch (sim_below(8)) {
        default: {
            struct count c = {.off = off};

            if (fk_update(W->k, off, count_up, &c))
                broken("SIGBUS on a store", off, 0, 0);
            if (c.bad)
                broken("a local mapped store was lost", off, c.was, (uint8_t)(W->last[off] - 1));
            __atomic_add_fetch(&total.stores, 1, __ATOMIC_RELAXED);
            break;
        }
        case 0:
            if (fk_load(W->k, off, &v))
                broken("SIGBUS on a load", off, 0, 0);
            if (v != W->last[off])
                broken("a local mapped store is not seen", off, v, W->last[off]);
            break;
        case 1: {
            uint64_t f = random_cell(FOREIGN);
            uint8_t floor = get(&W->floor[f]);

            if (fk_load(W->k, f, &v))
                broken("SIGBUS on a load", f, 0, 0);
            check_foreign(f, v, floor, "a load is stale after a revalidation");
            break;
        }
        case 2:
            if (sim_chance(128)) {
                struct count c = {.off = (uint64_t)sim_below(MIXED) * PAGE_SIZE + BOTH};

                fk_update(W->k, c.off, store_both, &c);
                if (c.bad)
                    broken("a byte of mapped stores and write(2) went back", c.off, c.was, 0);
            } else if (class == MAPPED_A)
                fk_store(W->k, (uint64_t)sim_below(MIXED) * PAGE_SIZE + HOT, (uint8_t)++W->hot);
            break;
        }
        pause_actor();
    }
    return NULL;
}

static void check_loaded(uint64_t off, const char *what)
{
    uint8_t v;

    if (fk_load(W->k, off, &v))
        broken("SIGBUS on a load of own bytes", off, 0, 0);
    if (v != W->last[off])
        broken(what, off, v, W->last[off]);
}

static void call_write(uint64_t off, uint32_t len, uint8_t v)
{
    static __thread uint8_t data[3 * PAGE_SIZE];

    memset(data, v, len);
    for (uint32_t i = 0; i < len; i++)
        set(&W->last[off + i], v);
    fk_write(W->k, off, data, len);
    for (uint32_t i = 0; i < len; i++)
        set(&W->acked[off + i], v);
    __atomic_add_fetch(&total.calls, 1, __ATOMIC_RELAXED);
}

static void write_tail(unsigned i)
{
    uint64_t size = W->tail_size;

    if (sim_chance(90) && W->truncates) {
        uint64_t to = TAIL_AT + sim_below(2 * PAGE_SIZE);

        __atomic_add_fetch(&total.truncates, 1, __ATOMIC_RELAXED);
        fk_truncate(W->k, to);
        if (to < size)
            memset(W->last + to, 0, size - to);
        W->tail_size = to;
    } else {
        uint64_t off = size + (sim_chance(60) ? sim_below(300) : 0);
        uint32_t len = 1 + sim_below(PAGE_SIZE / 2);

        if (sim_chance(100) && size > TAIL_AT)
            off = TAIL_AT + sim_below((uint32_t)(size - TAIL_AT));
        if (off + len > ROOM)
            return;
        call_write(off, len, (uint8_t)(i + 1));
        if (off + len > W->tail_size)
            W->tail_size = off + len;
    }
    for (int n = 0; n < 4 && W->tail_size > TAIL_AT; n++)
        check_loaded(TAIL_AT + sim_below((uint32_t)(W->tail_size - TAIL_AT)),
                     "a byte of the own tail is wrong");
    check_loaded(W->tail_size - 1, "the last byte of the file is wrong");
}

static void *loader(void *arg)
{
    (void)arg;
    begin_actor("loader", 17);
    for (unsigned i = 0; i < ops * 2; i++) {
        unsigned j = sim_below(CELLS);
        uint64_t off = cell(sim_below(MIXED), j);
        uint8_t v, floor = get(&W->floor[off]), last = get(&W->last[off]);

        if (fk_load(W->k, off, &v))
            broken("SIGBUS on a load", off, 0, 0);
        if (cell_class(j) == FOREIGN)
            check_foreign(off, v, floor, "a load is stale after a revalidation");
        else if (v < last)
            broken("a reader does not see a local byte", off, v, last);
        pause_actor();
    }
    return NULL;
}

static void *caller(void *arg)
{
    (void)arg;
    begin_actor("caller", 8);
    for (unsigned i = 0; i < ops; i++) {
        uint64_t off = random_cell(CALL);

        switch (sim_below(6)) {
        case 0:
        case 1:
            call_write(off, 1, (uint8_t)(W->last[off] + 1));
            check_loaded(off, "a write(2) is not seen");
            break;
        case 2:
            off = MIXED * PAGE_SIZE + sim_below(2) * PAGE_SIZE;
            call_write(off, PAGE_SIZE, (uint8_t)(i + 1));
            check_loaded(off + sim_below(PAGE_SIZE), "a write(2) of a page is not seen");
            break;
        case 3:
            off = MIXED * PAGE_SIZE + sim_below(OWN * PAGE_SIZE - 5000);
            call_write(off, 1 + sim_below(5000), (uint8_t)(i + 1));
            check_loaded(off, "a write(2) of a part is not seen");
            break;
        case 4:
            if (sim_chance(128)) {
                uint8_t v;

                off = (uint64_t)sim_below(MIXED) * PAGE_SIZE + BOTH;
                v = next_both(get(&W->last[off]));
                fk_write(W->k, off, &v, 1);
                break;
            }
            set(&W->last[off], (uint8_t)(W->last[off] + 1));
            fk_direct_write(W->k, off, &W->last[off], 1);
            set(&W->acked[off], W->last[off]);
            check_loaded(off, "an O_DIRECT write is not seen");
            __atomic_add_fetch(&total.direct_writes, 1, __ATOMIC_RELAXED);
            break;
        default:
            if (W->tail_local)
                write_tail(i);
            else
                check_loaded(off, "a write(2) was lost");
            break;
        }
        pause_actor();
    }
    return NULL;
}

/* A foreign write. With wcc=bracket one between the GETATTR and the WRITE is missed, as the man
 * page says: then it waits until there is no such pair under way. */
static void foreign_write(uint64_t off, const void *data, uint32_t len)
{
    pthread_mutex_lock(&W->server.lock);
    while (W->bracket && (W->k->m->pass_active || W->k->m->writes_inflight)) {
        pthread_mutex_unlock(&W->server.lock);
        sim_yield();
        pthread_mutex_lock(&W->server.lock);
    }
    fr_write_locked(W->file, off, data, len);
    pthread_mutex_unlock(&W->server.lock);
}

static void *foreigner(void *arg)
{
    (void)arg;
    begin_actor("foreigner", 9);
    for (unsigned i = 0; i < ops; i++) {
        uint64_t off = random_cell(FOREIGN);
        uint8_t v;

        switch (sim_below(8)) {
        default:
            v = (uint8_t)(W->last[off] + 1);
            foreign_write(off, &v, 1);
            set(&W->last[off], v);
            break;
        case 0:
            v = (uint8_t)(200 + i);
            foreign_write((uint64_t)sim_below(MIXED) * PAGE_SIZE + HOT, &v, 1);
            break;
        case 1:
            if (!W->tail_local) {
                uint8_t data[1500];
                uint32_t len = 1 + sim_below(sizeof data);

                if (W->tail_size + len > ROOM)
                    break;
                memset(data, (int)i + 1, len);
                foreign_write(W->tail_size, data, len);
                memset(W->last + W->tail_size, (int)i + 1, len);
                __atomic_store_n(&W->tail_size, W->tail_size + len, __ATOMIC_RELEASE);
            }
            break;
        }
        __atomic_add_fetch(&total.foreign, 1, __ATOMIC_RELAXED);
        pause_actor();
    }
    return NULL;
}

/* What the kernel holds just now must not be older than `floor`. */
static void check_kernel(const uint8_t *floor)
{
    pthread_mutex_lock(&W->k->lock);
    for (unsigned p = 0; p < MIXED; p++)
        for (unsigned i = FOREIGN; W->k->page[p].state == FK_UPTODATE && i < CELLS; i += 4) {
            uint64_t off = cell(p, i);

            check_foreign(off, W->k->page[p].data[off & PAGE_MASK], floor[off],
                          "the kernel holds a stale page after a revalidation");
        }
    pthread_mutex_unlock(&W->k->lock);
}

static void *revalidator(void *arg)
{
    unsigned id = (unsigned)(uintptr_t)arg;

    begin_actor("revalidator", 10 + id);
    for (unsigned i = 0; i < ops / 3; i++) {
        struct cache_reval_result result;
        uint8_t snap[MIXED * PAGE_SIZE];
        uint64_t size;

        for (unsigned p = 0; p < MIXED; p++)
            for (unsigned j = FOREIGN; j < CELLS; j += 4)
                snap[cell(p, j)] = get(&W->last[cell(p, j)]);
        size = W->tail_local ? 0 : __atomic_load_n(&W->tail_size, __ATOMIC_ACQUIRE);

        struct attr cur = fr_attr(W->file);
        int err =
            mapping_revalidate(W->k->m, sim_chance(128) ? &cur : NULL, sim_chance(32), &result);

        __atomic_add_fetch(&total.revals, 1, __ATOMIC_RELAXED);
        if (!err) {
            __atomic_add_fetch(&total.changed, result.changed, __ATOMIC_RELAXED);
            for (unsigned p = 0; p < MIXED; p++)
                for (unsigned j = FOREIGN; j < CELLS; j += 4)
                    if (get(&W->floor[cell(p, j)]) < snap[cell(p, j)])
                        set(&W->floor[cell(p, j)], snap[cell(p, j)]);
            check_kernel(snap);
            if (!W->tail_local && mapping_size(W->k->m) < size)
                broken("the size is old after a revalidation", mapping_size(W->k->m), 0, 0);
        }
        if (!W->tail_local)
            fk_told_size(W->k, mapping_size(W->k->m));
        for (unsigned n = sim_below(16); n; n--)
            pause_actor();
    }
    return NULL;
}

static void *syncer(void *arg)
{
    (void)arg;
    begin_actor("syncer", 12);
    for (unsigned i = 0; i < ops / 4; i++) {
        uint8_t snap[TAIL_AT];

        for (uint64_t at = 0; at < TAIL_AT; at++)
            snap[at] =
                at < MIXED * PAGE_SIZE && (at & 3) == CALL ? get(&W->acked[at]) : get(&W->last[at]);

        int err = fk_fsync(W->k);

        pthread_mutex_lock(&W->server.lock);
        for (unsigned p = 0; p < MIXED && !err; p++)
            for (unsigned j = 0; j < CELLS; j++) {
                uint64_t off = cell(p, j);

                if (cell_class(j) != FOREIGN && W->file->stable[off] < snap[off])
                    broken("fsync did not make a byte stable", off, W->file->stable[off],
                           snap[off]);
            }
        pthread_mutex_unlock(&W->server.lock);
        __atomic_add_fetch(&total.fsyncs, 1, __ATOMIC_RELAXED);
        for (unsigned n = sim_below(12); n; n--)
            pause_actor();
    }
    return NULL;
}

static void *director(void *arg)
{
    (void)arg;
    begin_actor("direct reader", 13);
    for (unsigned i = 0; i < ops / 4; i++) {
        uint8_t snap[PAGE_SIZE], floor[PAGE_SIZE], data[PAGE_SIZE];
        unsigned p = sim_below(MIXED);
        uint32_t got;

        for (unsigned j = 0; j < CELLS; j++) {
            uint64_t off = cell(p, j), in = off & PAGE_MASK;

            snap[in] = cell_class(j) == CALL ? get(&W->acked[off]) : get(&W->last[off]);
            floor[in] = get(&W->floor[off]);
        }

        int err = fk_direct_read(W->k, (uint64_t)p * PAGE_SIZE, data, PAGE_SIZE, &got);

        if (err || got != PAGE_SIZE)
            broken("a direct read failed", (uint64_t)p * PAGE_SIZE, got, PAGE_SIZE);
        for (unsigned j = 0; j < CELLS; j++) {
            uint32_t in = cell(p, j) & PAGE_MASK;

            if (cell_class(j) == FOREIGN)
                check_foreign(cell(p, j), data[in], floor[in], "a direct read is stale");
            else if (data[in] < snap[in])
                broken("a direct read lacks a local byte", cell(p, j), data[in], snap[in]);
        }
        __atomic_add_fetch(&total.directs, 1, __ATOMIC_RELAXED);
        for (unsigned n = sim_below(12); n; n--)
            pause_actor();
    }
    return NULL;
}

/* The kernel's flusher and its reclaim, and the daemon's own. */
static void *kernel(void *arg)
{
    (void)arg;
    begin_actor("kernel", 14);
    for (unsigned i = 0; i < ops * 2; i++) {
        switch (sim_below(8)) {
        default:
            fk_writeback(W->k, sim_below(PAGES));
            break;
        case 0:
        case 1:
        case 2:
            fk_reclaim(W->k, sim_below(PAGES));
            break;
        case 3:
            cache_kick(W->c);
            break;
        case 4:
            cache_drop_clean(W->c);
            break;
        }
        pause_actor();
    }
    return NULL;
}

struct noise {
    struct cache_read r;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void noise_done(struct cache_read *r)
{
    struct noise *n = (struct noise *)r;

    pthread_mutex_lock(&n->lock);
    n->done = true;
    pthread_cond_signal(&n->cond);
    pthread_mutex_unlock(&n->lock);
}

#define NOISE_PAGES 64

static void *noisy(void *arg)
{
    struct readahead ra = {0};

    (void)arg;
    begin_actor("reader of another file", 15);
    for (unsigned i = 0; i < ops; i++) {
        struct noise n = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
        uint32_t page = sim_below(NOISE_PAGES), pages = 1 + sim_below(4);

        n.r = (struct cache_read){.m = W->noise_m,
                                  .offset = (uint64_t)page * PAGE_SIZE,
                                  .count = pages * PAGE_SIZE,
                                  .ra = &ra,
                                  .cred = 1,
                                  .done = noise_done};

        int rc = cache_read(&n.r);

        pthread_mutex_lock(&n.lock);
        while (rc == -EINPROGRESS && !n.done)
            pthread_cond_wait(&n.cond, &n.lock);
        pthread_mutex_unlock(&n.lock);
        for (int v = 0; v < n.r.iovcnt && !n.r.error; v++) {
            const uint8_t *at = n.r.iov[v].iov_base;

            for (size_t b = 0; b < n.r.iov[v].iov_len; b += PAGE_SIZE)
                if (at[b] != page)
                    broken("another file's page is wrong", page, at[b], page);
                else
                    page++;
        }
        cache_read_release(&n.r);
        pause_actor();
    }
    return NULL;
}

struct other_store {
    unsigned page;
    uint8_t was;
};

static uint8_t other_up(uint8_t was, void *arg)
{
    struct other_store *o = arg;

    o->was = was;
    return (uint8_t)(was + 1);
}

static void *other_mapper(void *arg)
{
    (void)arg;
    begin_actor("mapper of another file", 18);
    for (unsigned i = 0; i < ops * 2; i++) {
        struct other_store o = {.page = sim_below(OTHER_PAGES)};
        uint8_t page[PAGE_SIZE];

        switch (sim_below(12)) {
        default:
            if (fk_update(W->other_k, o.page * PAGE_SIZE + 9, other_up, &o))
                broken("SIGBUS in another file", o.page, 0, 0);
            if (o.was != W->other_last[o.page])
                broken("another file lost a store", o.page, o.was, W->other_last[o.page]);
            W->other_last[o.page]++;
            break;
        case 0: /* it begins on the byte: pages are partial */
            memset(page, W->other_last[o.page], sizeof page);
            fk_write(W->other_k, o.page * PAGE_SIZE + 9, page, 1 + sim_below(500));
            break;
        case 1:
            mapping_revalidate(W->other_k->m, NULL, sim_chance(128), NULL);
            break;
        case 2:
            fk_fsync(W->other_k);
            break;
        case 3:
            fk_reclaim(W->other_k, o.page);
            break;
        }
        pause_actor();
    }
    return NULL;
}

static const uint32_t budgets[] = {14, 20, 40, 200};

/* Another size again and again; now and then somebody has enough of it. */
static void *resizer(void *arg)
{
    (void)arg;
    begin_actor("resizer", 19);
    for (unsigned i = 0; i < ops / 8; i++) {
        struct cache_resize r = {.size = (uint64_t)budgets[W->least + sim_below(4 - W->least)] *
                                         (PAGE_SIZE + PAGE_METADATA),
                                 .dirty_limit = (uint64_t)(4 + sim_below(12)) * PAGE_SIZE,
                                 .dirty_background = (uint64_t)(1 + sim_below(8)) * PAGE_SIZE};
        int err = cache_resize(W->c, &r);

        if (err && err != -EINTR)
            broken("a resize failed", 0, (unsigned)-err, 0);
        if (!err && W->c->size != r.size)
            broken("a resize did not reach its size", 0, (unsigned)W->c->size, (unsigned)r.size);
        if (sim_chance(64)) /* there are always records enough: so these are never short */
            migrate(W->c, sim_below(40));
        __atomic_add_fetch(&total.resizes, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&total.moved, r.moved, __ATOMIC_RELAXED);
        for (unsigned n = sim_below(30); n; n--)
            pause_actor();
    }
    return NULL;
}

static void *stopper(void *arg)
{
    (void)arg;
    begin_actor("stopper", 20);
    for (unsigned i = 0; i < ops / 2; i++) {
        cache_resize_stop(W->c);
        for (unsigned n = sim_below(60); n; n--)
            pause_actor();
    }
    return NULL;
}

static void *rebooter(void *arg)
{
    (void)arg;
    begin_actor("rebooter", 16);
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned n = sim_below(80); n; n--)
            pause_actor();
        fr_reboot_file(W->file);
    }
    return NULL;
}

/* ---- between two steps of a schedule ---- */

static void check_copy(const uint8_t *data, unsigned page, const struct page *p, const char *stale,
                       const char *lost)
{
    for (unsigned j = 0; j < CELLS; j++) {
        uint64_t off = cell(page, j);
        uint32_t in = off & PAGE_MASK;

        if (p && !byteset_contains(W->c, p->valid, in, in + 1))
            continue;
        if (cell_class(j) == FOREIGN)
            check_foreign(off, data[in], W->floor[off], stale);
        else if (lost && cell_class(j) != CALL && data[in] != W->last[off])
            broken(lost, off, data[in], W->last[off]);
    }
}

static void each_step(void *arg)
{
    struct mapping *m = W->k->m;

    (void)arg;
    if (!W->c->resize && W->c->frames_used > W->c->frames + 100)
        broken("the budget is not kept", 0, W->c->frames_used, W->c->frames);
    for (unsigned p = 0; p < MIXED; p++)
        if (W->k->page[p].state == FK_UPTODATE)
            check_copy(W->k->page[p].data, p, NULL, "the kernel holds a stale byte",
                       "the kernel's copy lacks a local store");
    if (pthread_mutex_trylock(&m->lock) != 0)
        return;

    struct page *p;

    for (unsigned i = 0; i < MIXED; i++) {
        p = mapping_find(m, i);
        if (p && p->frame)
            check_copy(frame_at(W->c, p->frame), i, p, "a byte is valid and stale", NULL);
    }
    for (uint64_t i = 0; (p = mapping_next(m, &i)) != NULL; i++) {
        const struct page_more *x = page_more(W->c, p);

        if (p->more && x->live != page_record(W->c, p))
            broken("a page's second record is not its own", i << PAGE_SHIFT, x->live, p->more);
        if (p->more && page_clean(W->c, p) && !x->twin && !x->unique)
            broken("an empty second record is kept", i << PAGE_SHIFT, p->more, 0);
    }
    pthread_mutex_unlock(&m->lock);
}

static void show_pages(const char *name, struct mapping *m)
{
    uint64_t i = 0;

    fprintf(stderr, "  %s: unmapped %u of %u\n", name, m->unmapped, m->unmap_seq);
    for (struct page *p; (p = mapping_next(m, &i)) != NULL; i++)
        fprintf(stderr, "    page %llu: frame %u (%u refs) twin %u flags %x nfetch %u kseq %u\n",
                (unsigned long long)p->index, p->frame, p->frame ? frame_count(W->c, p->frame) : 0,
                page_twin(W->c, p), p->flags, p->nfetch, p->kseq);
}

static void report_stuck(void *arg)
{
    struct mapping *m = W->k->m;

    (void)arg;
    fprintf(stderr,
            "STUCK seed %llu: pending at the server %u; mapping: dirty %llu inflight %llu unstable "
            "%llu holds %llu blocked %u pass %d bracket %u cursor %llu syncs %d commit %d; frames "
            "%u/%u starved %d parked %d\n  again: cache_model --seed %llu --schedules 1\n",
            (unsigned long long)seed_now, W->server.npending, (unsigned long long)m->ndirty,
            (unsigned long long)m->ninflight, (unsigned long long)m->nunstable,
            (unsigned long long)m->holds, m->blocked, m->pass_active, m->pass_bracket,
            (unsigned long long)m->pass_cursor, m->syncs != NULL, m->commit_running,
            W->c->frames_used, W->c->frames, W->c->starved != NULL, W->c->parked != NULL,
            (unsigned long long)seed_now);
    fprintf(stderr, "  masks used %u free %u\n", W->c->masks_used, W->c->nmask_free);
    show_pages("file", m);
    show_pages("noise", W->noise_m);
    show_pages("other", W->other_k->m);
}

/* ---- one schedule ---- */

static void make_world(void)
{
    /* A held unmap (reclaim_under_write) does not wait for WRITEs that a kernel of before 6.16 made
     * of copies: not with so little memory that it is needed. */
    bool old_kernel = temporary_pages || sim_chance(64);
    unsigned least = old_kernel && !temporary_pages ? 2 : 0;
    struct cache_config config = {
        .size = (uint64_t)budgets[least + sim_below(4 - least)] * (PAGE_SIZE + PAGE_METADATA),
        .size_max = (uint64_t)budgets[3] * (PAGE_SIZE + PAGE_METADATA),
        .dirty_limit = (uint64_t)(4 + sim_below(12)) * PAGE_SIZE,
        .dirty_background = (uint64_t)(1 + sim_below(8)) * PAGE_SIZE,
        .rsize = PAGE_SIZE << sim_below(4),
        .wsize = PAGE_SIZE << sim_below(4),
        .readahead = sim_chance(128) ? 16 * PAGE_SIZE : 0,
        .stable_writes = threads || sim_chance(128),
        .wcc = !threads && sim_chance(96) ? CACHE_WCC_BRACKET : CACHE_WCC_STRICT,
    };
    struct arena_sizes sizes = {.inodes = 8, .files = 1, .creds = 1, .intents = 1};

    W = calloc(1, sizeof *W);
    cache_arena_sizes(&config, &sizes);
    if (!W || arena_create(&W->arena, &sizes))
        abort();
    fr_server_init(&W->server);
    W->server.atomic_pre = sim_chance(128);
    W->bracket = config.wcc == CACHE_WCC_BRACKET && !W->server.atomic_pre;
    W->server.commits_writes = sim_chance(32);
    W->server.read_short = sim_chance(64) ? 40 : 0;
    W->server.write_short = sim_chance(64) ? 40 : 0;
    W->server.on_write = on_write;
    W->server.trace = trace;
    W->tail_local = sim_chance(128);
    W->truncates = W->tail_local && sim_chance(170);
    W->reboots = sim_chance(100);
    W->failures = sim_chance(40);
    W->server.fail = W->failures ? 30 : 0;
    W->once = config.stable_writes && !W->reboots && !W->failures && !W->server.write_short;
    W->file = fr_file_new(&W->server, TAIL_AT, ROOM);
    W->noise = fr_file_new(&W->server, NOISE_PAGES * PAGE_SIZE, NOISE_PAGES * PAGE_SIZE);
    for (unsigned i = 0; i < NOISE_PAGES * PAGE_SIZE; i++)
        W->noise->data[i] = (uint8_t)(i / PAGE_SIZE);
    W->other = fr_file_new(&W->server, OTHER_PAGES * PAGE_SIZE, OTHER_PAGES * PAGE_SIZE);
    W->tail_size = TAIL_AT;
    W->c = cache_new(&config, &W->arena, NULL, &fr_ops, &fk_ops, NULL);
    if (!W->c)
        abort();
    W->k = fk_new(W->c, 1, W->file, PAGES);
    W->k->on_copy = on_copy;
    W->k->host.no_proof = seed_now & 1; /* not drawn, so that old seeds play as they did */
    W->k->temporary_pages = old_kernel;
    W->least = least;
    W->k->unmap_without_fence = no_fence;
    W->k->unmap_without_fsync = no_fsync;
    W->k->read_pages = 1 + sim_below(4);
    W->noise_host.file = W->noise;
    W->other_k = fk_new(W->c, 3, W->other, OTHER_PAGES);
    W->other_k->read_pages = 1 + sim_below(4);
    mapping_writer_add(W->other_k->m);
    W->noise_m = mapping_new(W->c, 2, &W->noise_host, NOISE_PAGES * PAGE_SIZE);
}

static bool idle(struct mapping *m)
{
    struct fake_host *h = mapping_host(m);

    mapping_lock(m);

    bool is = !m->holds;

    mapping_unlock(m);
    return is && !__atomic_load_n(&h->busy, __ATOMIC_ACQUIRE);
}

/* The kernel's page, whole; the reclaimer may come in between. */
static void load_page(uint64_t off, uint8_t *data)
{
    bool there = false;
    uint8_t v;

    while (!there) {
        if (fk_load(W->k, off, &v))
            broken("SIGBUS at the end", off, 0, 0);
        pthread_mutex_lock(&W->k->lock);
        there = W->k->page[off >> PAGE_SHIFT].state == FK_UPTODATE;
        memcpy(data, W->k->page[off >> PAGE_SHIFT].data, PAGE_SIZE);
        pthread_mutex_unlock(&W->k->lock);
    }
}

static void check_end(void)
{
    uint8_t page[PAGE_SIZE];

    for (uint64_t off = 0; off < W->tail_size; off++) {
        bool hot = off < MIXED * PAGE_SIZE && (off & PAGE_MASK) == HOT;
        uint8_t v, s = W->file->stable[off];

        if ((off & PAGE_MASK) == 0)
            load_page(off, page);
        v = page[off & PAGE_MASK];
        if (v != s || s != W->file->data[off])
            broken("in the end client and server differ", off, v, s);
        if (!hot && s != W->last[off])
            broken("in the end the server's byte is wrong", off, s, W->last[off]);
    }
    if (W->file->size != W->tail_size || mapping_size(W->k->m) != W->tail_size)
        broken("in the end the sizes differ", W->file->size, (unsigned)mapping_size(W->k->m),
               (unsigned)W->tail_size);
}

static void check_memory(void)
{
    struct cache *c = W->c;

    if (c->masks_used || c->frames_used * 8 != c->nmask_free)
        broken("frames or masks were lost", 0, c->frames_used * 8, c->nmask_free);
    if (c->n.pages || c->n.dirty || c->n.unstable || c->n.inflight || c->n.twins || c->busy_pages)
        broken("counters are not zero in the end", 0, (unsigned)c->n.pages, 0);
    if (W->noise_host.busy)
        broken("the host is still held", 0, (unsigned)W->noise_host.busy, 0);
}

static void count_totals(void)
{
    struct cache *c = W->c;

    total.schedules++;
    total.reboots += W->server.reboots;
    total.lost_unstable += W->server.lost_bytes;
    total.faults += W->k->faults;
    total.mapped_writes += W->k->mapped_writes;
    total.kernel_reclaims += W->k->reclaims;
    total.evicted += c->n.evicted;
    total.reclaim_unmaps += c->n.reclaim_unmaps;
    total.writes += c->n.writes;
    total.commits += c->n.commits;
    total.refetched += c->n.refetched;
    total.verifier_changes += c->n.verifier_changes;
    total.errors += c->n.write_errors;
    total.alarms += c->n.alarms;
    if (c->n.alarms)
        broken("a twin was missing", 0, (unsigned)c->n.alarms, 0);
}

static void free_world(void)
{
    struct world *w = W;

    fk_free(w->k);
    fk_free(w->other_k);
    mapping_free(w->noise_m);
    check_memory();
    cache_free(w->c);
    fr_server_free(&w->server);
    fr_file_free(w->file);
    fr_file_free(w->noise);
    fr_file_free(w->other);
    arena_close(&w->arena);
    W = NULL;
    free(w);
}

/* Who takes part while the file is open for writing, and while it is open for reading only. */
static const struct {
    void *(*fn)(void *);
    uintptr_t arg;
    bool writes, reads;
} actors[] = {
    {mapper, MAPPED_A, true, false}, {mapper, MAPPED_B, true, false}, {caller, 0, true, false},
    {foreigner, 0, true, true},      {revalidator, 0, true, true},    {revalidator, 1, true, false},
    {syncer, 0, true, false},        {director, 0, true, true},       {kernel, 0, true, true},
    {noisy, 0, true, true},          {rebooter, 0, true, false},      {other_mapper, 0, true, true},
    {resizer, 0, true, true},        {stopper, 0, true, false},       {loader, 0, false, true},
};

enum { ACTORS = sizeof actors / sizeof actors[0] };

struct cast {
    pthread_t thread[ACTORS];
    bool made[ACTORS];
};

static void start_actors(struct cast *t, bool writing)
{
    memset(t, 0, sizeof *t);
    for (unsigned i = 0; i < ACTORS; i++) {
        /* A schedule with fewer actors goes deeper into what they do to each other. */
        if ((actors[i].fn == rebooter && !W->reboots) ||
            !(writing ? actors[i].writes : actors[i].reads) ||
            (actors[i].fn != mapper && actors[i].fn != loader && sim_chance(80)))
            continue;
        t->made[i] = true;
        pthread_create(&t->thread[i], NULL, actors[i].fn, (void *)actors[i].arg);
    }
}

static void join_actors(struct cast *t)
{
    for (unsigned i = 0; i < ACTORS; i++)
        if (t->made[i])
            pthread_join(t->thread[i], NULL);
}

static void run_actors(bool writing)
{
    struct cast t;

    start_actors(&t, writing);
    join_actors(&t);
}

static void open_writing(void)
{
    if (mapping_writer_add(W->k->m))
        mapping_unmap_all(W->k->m);
}

/* The last descriptor is closed after its mapping is gone: fuse_vma_close(), fuse_flush(). */
static void close_writing(void)
{
    fk_write_and_wait(W->k);
    mapping_writer_remove(W->k->m);
}

static void open_among_readers(void)
{
    struct cast readers;

    start_actors(&readers, false);
    for (unsigned n = sim_below(60); n; n--)
        pause_actor();
    open_writing();
    mapper((void *)MAPPED_A);
    join_actors(&readers);
}

static void *schedule(void *arg)
{
    pthread_t worker[3];

    (void)arg;
    sim_name("schedule");
    make_world();
    if (sim_active()) {
        sim_on_step(each_step, NULL);
        sim_on_stuck(report_stuck, NULL);
    }
    for (int i = 0; i < 3; i++)
        pthread_create(&worker[i], NULL, fr_worker, &W->server);
    if (sim_chance(64)) {
        open_among_readers();
    } else {
        open_writing();
        run_actors(true);
        if (sim_chance(64)) {
            close_writing();
            open_among_readers();
        }
    }
    if (sim_chance(96))
        run_actors(true);

    pthread_mutex_lock(&W->server.lock);
    W->server.fail = 0;
    pthread_mutex_unlock(&W->server.lock);
    for (int i = 0; fk_fsync(W->k) != 0; i++)
        if (i > 50)
            broken("fsync fails although the server does not", 0, 0, 0);
    for (int i = 0; fk_fsync(W->other_k) != 0; i++)
        if (i > 50)
            broken("fsync of another file fails", 0, 0, 0);
    for (unsigned i = 0; i < OTHER_PAGES; i++)
        if (W->other->stable[i * PAGE_SIZE + 9] != W->other_last[i])
            broken("in the end another file's byte is wrong", i,
                   W->other->stable[i * PAGE_SIZE + 9], W->other_last[i]);
    fk_write_and_wait(W->other_k);
    mapping_writer_remove(W->other_k->m);
    if (mapping_revalidate(W->k->m, NULL, true, NULL))
        broken("the last revalidation failed", 0, 0, 0);
    fk_told_size(W->k, mapping_size(W->k->m));
    if (fk_fsync(W->k))
        broken("the last fsync failed", 0, 0, 0);
    check_end();
    close_writing(); /* from here on the reclaimer lets it alone */
    while (!idle(W->k->m) || !idle(W->other_k->m) || !idle(W->noise_m) || fr_pending(&W->server))
        pause_actor();
    fr_stop(&W->server);
    for (int i = 0; i < 3; i++)
        pthread_join(worker[i], NULL);
    sim_on_step(NULL, NULL);
    count_totals();
    free_world();
    return NULL;
}

static void run_one(uint64_t seed)
{
    pthread_t t;

    seed_now = seed;
    alarm(60);
    if (threads) {
        sim_random_seed(seed);
        schedule(NULL);
        return;
    }
    sim_begin(seed, (unsigned)(seed * 37 % 5) * 40);
    pthread_create(&t, NULL, schedule, NULL);
    pthread_join(t, NULL);
    total.steps += sim_steps();
    sim_end();
}

static void print_totals(double seconds)
{
    const struct totals *t = &total;

#define SHOW(what) printf("  %-16s %llu\n", #what, (unsigned long long)t->what)
    printf("%llu schedules in %.1f s (%.0f/s)\n", (unsigned long long)t->schedules, seconds,
           (double)t->schedules / seconds);
    SHOW(steps), SHOW(stores), SHOW(calls), SHOW(foreign), SHOW(revals), SHOW(changed);
    SHOW(fsyncs), SHOW(directs), SHOW(direct_writes), SHOW(truncates), SHOW(faults),
        SHOW(mapped_writes);
    SHOW(kernel_reclaims), SHOW(evicted), SHOW(reclaim_unmaps), SHOW(writes), SHOW(commits);
    SHOW(refetched), SHOW(reboots), SHOW(lost_unstable), SHOW(verifier_changes), SHOW(errors);
    SHOW(alarms), SHOW(resizes), SHOW(moved);
    puts("0 lost, 0 stale, 0 stuck");
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void too_long(int sig)
{
    (void)sig;
    if (threads)
        report_stuck(NULL);
    else
        sim_show("a schedule did not end in 60 s");
    _exit(3);
}

/*
 * For ThreadSanitizer. A truncation zeroes the rest of the last page while a READ of it is being
 * answered from the same frame, as it may: the kernel holds the page locked until it has the
 * answer, and zeroes the rest of its copy itself when SETATTR is answered. In the daemon the reader
 * of the frame is writev(2).
 */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:cut_page\n";
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"schedules", 1, NULL, 'n'},       {"seed", 1, NULL, 's'},     {"threads", 0, NULL, 't'},
        {"seconds", 1, NULL, 'T'},         {"ops", 1, NULL, 'o'},      {"trace", 0, NULL, 'x'},
        {"temporary-pages", 0, NULL, 'p'}, {"no-fence", 0, NULL, 'f'}, {"no-fsync", 0, NULL, 'F'},
        {"verbose", 0, NULL, 'v'},         {NULL, 0, NULL, 0}};
    uint64_t n = 1000, seed = 1;
    double limit = 1e9, start;
    int o;

    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1)
        switch (o) {
        case 'n':
            n = strtoull(optarg, NULL, 0);
            break;
        case 's':
            seed = strtoull(optarg, NULL, 0);
            break;
        case 't':
            threads = true;
            break;
        case 'T':
            limit = atof(optarg);
            break;
        case 'o':
            ops = (unsigned)atoi(optarg);
            break;
        case 'p':
            temporary_pages = true;
            break;
        case 'f':
            no_fence = true;
            break;
        case 'F':
            no_fsync = true;
            break;
        case 'x':
            trace = true;
            break;
        case 'v':
            verbose = true;
            break;
        default:
            return 2;
        }
    signal(SIGALRM, too_long);
    printf("seeds %llu to %llu, %s\n", (unsigned long long)seed, (unsigned long long)(seed + n - 1),
           threads ? "threads" : "fibers");
    start = now();
    for (uint64_t i = 0; i < n && now() - start < limit; i++) {
        run_one(seed + i);
        if (verbose && i % 1000 == 999)
            print_totals(now() - start);
    }
    print_totals(now() - start);
    return 0;
}
