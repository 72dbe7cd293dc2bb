// SPDX-License-Identifier: Apache-2.0
/*
 * turns: close-to-open, strictly. In each round one client opens the file, compares all of it,
 * writes pages, appends, cuts off, and closes; then the other opens it and must see exactly that. A
 * bystander on the mount keeps the file mapped and touches its pages, so that they are in the
 * cache and in page tables when they become stale.
 *
 * The clients never act at the same time, so every network file system promises this. The last
 * write of a turn has a time of its own at the server: clients that tell changes by times and size
 * can.
 */
#include "tests/race/probe/checks.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct file {
    const char *name;
    size_t size, floor, max; /* bytes; never cut below the floor */
    char *model;             /* what it must hold; zeros beyond its size */
    uint64_t *seq;           /* of each page */
    struct rng rng;
};

static struct rec_id id_of(const struct probe *p, const struct file *f, size_t page)
{
    return (struct rec_id){.run = p->run,
                           .file = (uint16_t)p->check,
                           .writer = 1,
                           .seq = f->seq[page],
                           .offset = page * PAGE};
}

static void bystander(struct probe *p, void *arg)
{
    struct file *f = arg;
    volatile char sum = 0;
    int fd = file_open(p, &p->a, f->name, O_RDONLY);
    const char *m = p->a.map ? file_map(p, &p->a, f->name, fd, 0, f->floor, false) : NULL;
    char byte;

    while (!p->sh->stop) {
        for (size_t off = 0; off < f->floor; off += PAGE)
            if (m)
                sum = (char)(sum + m[off]);
            else if (pread(fd, &byte, 1, (off_t)off) != 1)
                trouble(p, "--mount: cannot read %s/%s", p->a.dir, f->name);
        beat(p);
        t_sleep_us(300);
    }
    close(fd);
}

/* Page by page: what differs, and if the server has it right. False when anything differs. */
static bool compare(struct probe *p, struct file *f, const struct where *w, const char *seen,
                    size_t got, const char *server, size_t server_got)
{
    bool same = true;

    count(&res(p)->reads);
    if (got != f->size) {
        enum kind k = server && server_got == f->size ? STALE : server ? LOST : WRONG;
        finding(p, k, true, w, NULL, NULL, 0, "%zu bytes, should be %zu", got, f->size);
        same = false;
    }
    for (size_t page = 0; page * PAGE < f->size && page * PAGE < got; page++) {
        size_t off = page * PAGE, n = f->size - off < PAGE ? f->size - off : PAGE;
        struct rec_id want = id_of(p, f, page);
        uint64_t buf[PAGE / 8];
        struct rec_seen r;
        enum kind k;

        if (n > got - off)
            n = got - off;
        if (!memcmp(seen + off, f->model + off, n))
            continue;
        same = false;
        memcpy(buf, f->model + off, PAGE);
        memcpy(buf, seen + off, n);
        r = rec_read(buf, PAGE, &want);
        if (server && server_got >= off + n && !memcmp(server + off, f->model + off, n))
            k = STALE;
        else if (r.state == REC_ALIEN || (r.state == REC_WHOLE && r.id.seq > want.seq))
            k = WRONG;
        else if (n == PAGE && r.state == REC_TORN)
            k = TORN;
        else
            k = LOST;
        finding(p, k, true, w, &want, buf, PAGE,
                "not what the last client to close it left (sequence %llu)",
                (unsigned long long)want.seq);
    }
    return same;
}

/*
 * The whole file on one way, through a new descriptor (or one held open, where that must do).
 * What is wrong is stale if the server has it right. Without a server's directory: if it becomes
 * right by waiting.
 */
static void look(struct probe *p, struct file *f, const struct way *way, int held)
{
    bool mapped = way->map && f->size && rng_below(&f->rng, 2);
    struct where w = {way, f->name, mapped ? "mapping" : "read",
                      held >= 0 ? "by a descriptor held open" : "after an open"};
    int fd = held >= 0 ? held : file_open(p, way, f->name, O_RDONLY);
    char *seen = calloc(1, f->max), *server = NULL;
    size_t got = 0, server_got = 0;
    struct stat st;

    if (!seen || fstat(fd, &st))
        trouble(p, "%s: cannot stat %s/%s", way->option, way->dir, f->name);
    if (mapped && (size_t)st.st_size == f->size) {
        char *m = file_map(p, way, f->name, fd, 0, f->size, false);
        memcpy(seen, m, f->size);
        file_unmap(m, f->size);
        got = f->size;
    } else {
        ssize_t k;
        w.how = "read";
        while ((k = pread(fd, seen + got, f->max - got, (off_t)got)) > 0)
            got += (size_t)k;
        if (k < 0)
            trouble(p, "%s: cannot read %s/%s", way->option, way->dir, f->name);
        if (got == f->size && (size_t)st.st_size != f->size)
            got = (size_t)st.st_size; /* readable, but stat shows another size */
    }
    if (held < 0)
        close(fd);
    if (got != f->size || memcmp(seen, f->model, f->size)) {
        if (p->s.dir && way->dir != p->s.dir) {
            server = calloc(1, f->max);
            server_got = file_look(p, &p->s, f->name, server, f->max, 0);
        } else if (!p->s.dir) {
            /* Attributes are cached for seconds. */
            double end = t_now() + 3;
            server = calloc(1, f->max);
            do {
                nap(p, 0.2);
                memset(server, 0, f->max);
                server_got = file_look(p, way, f->name, server, f->max, 0);
            } while ((server_got != f->size || memcmp(server, f->model, f->size)) && t_now() < end);
        }
        compare(p, f, &w, seen, got, server, server_got);
        free(server);
    } else
        count(&res(p)->reads);
    free(seen);
}

static void write_page(struct probe *p, struct file *f, const struct way *way, int fd, size_t page)
{
    size_t off = page * PAGE;
    struct rec_id id;

    f->seq[page]++;
    id = id_of(p, f, page);
    rec_make(f->model + off, PAGE, &id);
    if (way->map && off + PAGE <= f->size && rng_below(&f->rng, 2)) {
        char *m = file_map(p, way, f->name, fd, (off_t)off, PAGE, true);
        memcpy(m, f->model + off, PAGE);
        count(&res(p)->writes);
        /* What was never synced is promised only by the kernels that write all at close. */
        if ((p->expect < COHERENT || rng_below(&f->rng, 2)) && msync(m, PAGE, MS_SYNC))
            trouble(p, "%s: cannot msync %s/%s", way->option, way->dir, f->name);
        file_unmap(m, PAGE);
    } else
        file_write(p, way, f->name, fd, f->model + off, PAGE, (off_t)off);
    if (off + PAGE > f->size)
        f->size = off + PAGE;
}

static void cut(struct probe *p, struct file *f, const struct way *way, int fd, size_t size)
{
    if (ftruncate(fd, (off_t)size))
        trouble(p, "%s: cannot truncate %s/%s", way->option, way->dir, f->name);
    count(&res(p)->writes);
    if (size < f->size)
        memset(f->model + size, 0, f->max - size);
    f->size = size;
}

/* Some changes; the last of them a tick of the server's clock later than the others. */
static void change(struct probe *p, struct file *f, const struct way *way)
{
    int fd = file_open(p, way, f->name, O_RDWR), n = 1 + (int)rng_below(&f->rng, 5);

    for (int i = 0; i < n; i++) {
        size_t pages = f->size / PAGE;
        switch (rng_below(&f->rng, 8)) {
        case 0:
            cut(p, f, way, fd, f->floor + rng_below(&f->rng, f->max - f->floor));
            break;
        case 1:
            /* Appended, after a gap at times. */
            pages = (f->size + PAGE - 1) / PAGE + rng_below(&f->rng, 2);
            if ((pages + 1) * PAGE <= f->max)
                write_page(p, f, way, fd, pages);
            break;
        default:
            write_page(p, f, way, fd, rng_below(&f->rng, pages));
        }
    }
    file_sync(p, way, f->name, fd);
    tick(p);
    write_page(p, f, way, fd, rng_below(&f->rng, f->floor / PAGE));
    if (rng_below(&f->rng, 2))
        file_sync(p, way, f->name, fd);
    file_close(p, way, f->name, fd);
}

void check_turns(struct probe *p)
{
    const struct way *side[2] = {&p->a, p->b.dir ? &p->b : &p->a};
    struct file f = {.rng = {p->seed * 3 + 1}};
    int held, turn = 0;

    f.max = (size_t)(p->pages < 8 ? 8 : p->pages) * PAGE;
    f.floor = f.size = f.max / 2 / PAGE * PAGE;
    f.model = calloc(1, f.max);
    f.seq = calloc(f.max / PAGE, sizeof *f.seq);
    if (!f.model || !f.seq)
        trouble(p, "memory");
    f.name = file_make(p, "turns", (off_t)f.size);
    helper(p, "bystander", bystander, &f);
    held = p->expect == LOCAL ? file_open(p, &p->a, f.name, O_RDONLY) : -1;
    while (another_round(p)) {
        /* Who looked last is not the only one to act next. */
        if (rng_below(&f.rng, 4))
            turn = !turn;
        tick(p);
        change(p, &f, side[turn]);
        if (p->sh->stop)
            break;
        /* What was closed is at the server. */
        if (p->s.dir && side[turn]->dir != p->s.dir)
            look(p, &f, &p->s, -1);
        if (side[!turn]->dir != p->s.dir)
            look(p, &f, side[!turn], -1);
        if (rng_below(&f.rng, 3) == 0)
            look(p, &f, side[turn], -1);
        if (held >= 0)
            look(p, &f, &p->a, held);
    }
    helpers_end(p);
    if (held >= 0)
        close(held);
}
