// SPDX-License-Identifier: Apache-2.0
/*
 * truncate: the lower half of a file is stored to through mappings, all the time; meanwhile the
 * leader cuts the file off above it, extends it, writes and maps what is there. A cut in the wrong
 * place, or one that drops pages which it should not, loses stores; one that was forgotten brings
 * back bytes.
 *
 * With another client: it cuts and extends too. That the lower half stays is promised by all; that
 * the new size is seen by an open here, while this client writes the file, only by coherent ones.
 */
#include "tests/race/probe/checks.h"
#include "tests/race/probe/grid.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct tail {
    struct grid *g;     /* the lower half */
    size_t floor, max;  /* bytes */
    size_t size;        /* of the file, as it must be */
    size_t stale;       /* the size before the other client changed it */
    char *model, *seen; /* from floor on */
    uint64_t seq;
    struct rng rng;
};

static int owner_of(const struct grid *g, int i)
{
    return i % g->writers;
}

static void size_set(struct probe *p, struct tail *t, const struct way *w, size_t size)
{
    int fd = file_open(p, w, t->g->name, O_RDWR);

    if (ftruncate(fd, (off_t)size))
        trouble(p, "%s: cannot truncate %s/%s", w->option, w->dir, t->g->name);
    count(&res(p)->writes);
    if (size < t->size)
        memset(t->model + (size - t->floor), 0, t->max - size);
    t->size = size;
    file_close(p, w, t->g->name, fd);
}

static size_t another_size(struct tail *t)
{
    size_t size;
    /* Clients leave out the call when they think that the size is that already. */
    do
        size = t->floor + 1 + rng_below(&t->rng, t->max - t->floor - 1);
    while (size == t->size || size == t->stale);
    return size;
}

/* A page of the tail that is wholly inside the file. */
static void store_tail(struct probe *p, struct tail *t)
{
    size_t pages = (t->size - t->floor) / PAGE;
    struct rec_id id = {
        .run = p->run, .file = (uint16_t)p->check, .writer = FILES_MAX, .seq = ++t->seq};
    int fd = file_open(p, &p->a, t->g->name, O_RDWR);

    if (pages) {
        id.offset = t->floor + rng_below(&t->rng, pages) * PAGE;
        rec_make(t->model + (id.offset - t->floor), PAGE, &id);
        if (p->a.map && rng_below(&t->rng, 2)) {
            char *m = file_map(p, &p->a, t->g->name, fd, (off_t)id.offset, PAGE, true);
            memcpy(m, t->model + (id.offset - t->floor), PAGE);
            file_unmap(m, PAGE);
            count(&res(p)->writes);
        } else
            file_write(p, &p->a, t->g->name, fd, t->model + (id.offset - t->floor), PAGE,
                       (off_t)id.offset);
    }
    file_close(p, &p->a, t->g->name, fd);
}

static void look_at_tail(struct probe *p, struct tail *t, const struct way *by, bool promised)
{
    struct where w = {&p->a, t->g->name, "read",
                      by == &p->a ? "after its size was changed here"
                                  : "after its size was changed by the other client"};
    int fd = file_open(p, &p->a, t->g->name, O_RDONLY);
    size_t got = 0;
    ssize_t k;
    struct stat st;

    if (fstat(fd, &st))
        trouble(p, "--mount: cannot stat %s/%s", p->a.dir, t->g->name);
    while ((k = pread(fd, t->seen + got, t->max - t->floor - got, (off_t)(t->floor + got))) > 0)
        got += (size_t)k;
    close(fd);
    count(&res(p)->reads);
    if ((size_t)st.st_size != t->size || t->floor + got != t->size) {
        finding(p, by == &p->a ? WRONG : STALE, promised, &w, NULL, NULL, 0,
                "size %lld, readable to %zu, should be %zu", (long long)st.st_size, t->floor + got,
                t->size);
        return;
    }
    if (!promised || !memcmp(t->seen, t->model, got))
        return;
    for (size_t i = 0; i < got; i++)
        if (t->seen[i] != t->model[i]) {
            finding(p, t->model[i] ? LOST : WRONG, true, &w, NULL, NULL, 0,
                    "byte %zu is %#x, should be %#x%s", t->floor + i, (uint8_t)t->seen[i],
                    (uint8_t)t->model[i],
                    t->model[i] ? "" : ": bytes after an end of the file came back");
            return;
        }
}

void check_truncate(struct probe *p)
{
    struct tail t = {.rng = {p->seed * 5 + 2}};
    int low = p->pages / 2 < 4 ? 4 : p->pages / 2;

    t.g = grid_new(p, "truncate", low, PAGE, owner_of, p->processes);
    t.floor = t.size = grid_bytes(t.g);
    t.max = t.floor * 2;
    t.model = calloc(1, t.max - t.floor);
    t.seen = calloc(1, t.max - t.floor);
    if (!t.model || !t.seen)
        trouble(p, "memory");
    for (int i = 0; i < t.g->writers; i++) {
        struct writer *w = calloc(1, sizeof *w);
        char name[32];
        *w = (struct writer){.g = t.g,
                             .me = i,
                             .way = &p->a,
                             .style = i % 3 == 2 ? BY_WRITE : BY_MAPPING,
                             .promised = true,
                             .idle_us = 1500};
        snprintf(name, sizeof name, "writer %d", i);
        helper(p, name, grid_writer, w);
    }
    while (another_round(p)) {
        int n = 1 + (int)rng_below(&t.rng, 4);
        for (int i = 0; i < n; i++)
            if (rng_below(&t.rng, 3) == 0)
                store_tail(p, &t);
            else
                size_set(p, &t, &p->a, another_size(&t));
        look_at_tail(p, &t, &p->a, true);
        if (p->b.dir && rng_below(&t.rng, 4) == 0) {
            size_t before = t.size;
            tick(p);
            size_set(p, &t, &p->b, another_size(&t));
            tick(p);
            look_at_tail(p, &t, &p->b, p->expect >= COHERENT);
            /* A client that missed it has another size, and what was behind it: both go by a cut
             * below all. */
            t.stale = before;
            size_set(p, &t, &p->a,
                     p->expect >= COHERENT && rng_below(&t.rng, 2) ? another_size(&t) : t.floor);
        }
    }
    helpers_end(p);
    if (p->sh->stop)
        return;
    if (p->s.dir)
        grid_compare(p, t.g, &p->s, LOST, true, "all quiet");
    grid_compare(p, t.g, &p->a, LOST, true, "all quiet");
    if (p->b.dir && p->b.dir != p->s.dir) {
        tick(p);
        grid_compare(p, t.g, &p->b, STALE, true, "all quiet");
    }
}
