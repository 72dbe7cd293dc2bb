// SPDX-License-Identifier: Apache-2.0
/* Grids of records, who writes them, and who compares them; see grid.h. */
#include "tests/race/probe/grid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct grid *grid_new(struct probe *p, const char *name, int n, size_t len,
                      int (*owner)(const struct grid *, int), int writers)
{
    struct grid *g = calloc(1, sizeof *g);

    if (!g)
        trouble(p, "memory");
    g->n = n;
    g->len = len;
    g->owner = owner;
    g->writers = writers;
    g->shared_pages = len < PAGE;
    g->cell = t_shared(sizeof *g->cell * (size_t)n);
    g->file = (uint16_t)p->check;
    g->name = file_make(p, name, (off_t)grid_bytes(g));
    return g;
}

struct rec_id grid_id(const struct probe *p, const struct grid *g, int i, uint64_t seq)
{
    return (struct rec_id){.run = p->run,
                           .file = g->file,
                           .writer = (uint16_t)g->owner(g, i),
                           .seq = seq,
                           .offset = (uint64_t)i * g->len};
}

/* The server has what is missing here: then it is only not shown. */
static bool at_server(struct probe *p, const struct grid *g, int i, uint64_t lo)
{
    uint64_t buf[PAGE / 8];
    struct rec_id id = grid_id(p, g, i, lo);
    struct rec_seen r;

    if (!p->s.dir)
        return false;
    if (file_look(p, &p->s, g->name, buf, g->len, (off_t)id.offset) != g->len)
        return false;
    r = rec_read(buf, g->len, &id);
    return r.state == REC_WHOLE && r.id.writer == id.writer && r.id.seq >= lo;
}

void grid_judge(struct probe *p, struct grid *g, int i, const void *buf, uint64_t lo, uint64_t hi,
                enum kind older, bool promised, const struct where *w)
{
    struct rec_id want = grid_id(p, g, i, hi);
    struct rec_seen r = rec_read(buf, g->len, &want);
    bool old = r.state == REC_ZERO ? lo > 0 : r.state == REC_WHOLE && r.id.seq < lo;

    count(&res(p)->reads);
    want.seq = lo;
    if (r.state == REC_TORN) {
        if (hi > lo)
            count(&res(p)->passing);
        else
            finding(p, TORN, promised, w, &want, buf, g->len,
                    "should be writer %u sequence %llu, and nobody writes it", want.writer,
                    (unsigned long long)lo);
    } else if (r.state == REC_ALIEN ||
               (r.state == REC_WHOLE && (r.id.writer != want.writer || r.id.seq > hi)))
        finding(p, WRONG, true, w, &want, buf, g->len, "should be writer %u sequence %llu to %llu",
                want.writer, (unsigned long long)lo, (unsigned long long)hi);
    else if (old) {
        if (p->s.dir && w->way->dir != p->s.dir)
            older = at_server(p, g, i, lo) ? STALE : LOST;
        finding(p, older, promised, w, &want, buf, g->len,
                "should be writer %u sequence %llu or later", want.writer, (unsigned long long)lo);
    }
}

/* ---- who writes ---------------------------------------------------------------------------------
 */

struct hand {
    struct writer *w;
    struct rng rng;
    int fd;
    char *map;
    int batch[8], n_batch;
};

static void look_at_own(struct probe *p, struct hand *h, int i)
{
    struct grid *g = h->w->g;
    struct cell *c = &g->cell[i];
    uint64_t buf[PAGE / 8];
    bool mapped = h->map && rng_below(&h->rng, 2);
    struct where at = {h->w->way, g->name, mapped ? "mapping" : "read",
                       h->w->g->shared_pages ? "by its writer, others write the page"
                                             : "by its writer"};

    if (mapped)
        memcpy(buf, h->map + (size_t)i * g->len, g->len);
    else
        file_read(p, h->w->way, g->name, h->fd, buf, g->len, (off_t)((size_t)i * g->len));
    grid_judge(p, g, i, buf, c->done, c->done, LOST, h->w->promised, &at);
}

static void store(struct probe *p, struct hand *h, int i)
{
    struct grid *g = h->w->g;
    struct cell *c = &g->cell[i];
    uint64_t buf[PAGE / 8];
    struct rec_id id = grid_id(p, g, i, c->done + 1);

    rec_make(buf, g->len, &id);
    c->begun = id.seq;
    __sync_synchronize();
    if (h->map && (h->w->style == BY_MAPPING)) {
        memcpy(h->map + (size_t)i * g->len, buf, g->len);
        count(&res(p)->writes);
    } else
        file_write(p, h->w->way, g->name, h->fd, buf, g->len, (off_t)id.offset);
    __sync_synchronize();
    c->done = id.seq;
}

static void acknowledge(struct probe *p, struct hand *h)
{
    struct grid *g = h->w->g;

    if (h->map && rng_below(&h->rng, 2) && msync(h->map, grid_bytes(g), MS_SYNC))
        trouble(p, "%s: cannot msync %s/%s", h->w->way->option, h->w->way->dir, g->name);
    file_sync(p, h->w->way, g->name, h->fd);
    for (int i = 0; i < g->n; i++)
        if (g->owner(g, i) == h->w->me)
            g->cell[i].acked = g->cell[i].done;
}

static int choose(struct hand *h)
{
    struct grid *g = h->w->g;
    for (;;) {
        /* Half of the writes go to few records, which then meet more than once in a round. */
        uint64_t range = rng_below(&h->rng, 2) && g->n > 16 ? 16 : (uint64_t)g->n;
        int i = (int)rng_below(&h->rng, range);
        if (g->owner(g, i) == h->w->me)
            return i;
    }
}

static void let_go(struct hand *h)
{
    struct grid *g = h->w->g;
    size_t page = rng_below(&h->rng, (grid_bytes(g) + PAGE - 1) / PAGE) * PAGE;

    switch (rng_below(&h->rng, 12)) {
    case 0:
        if (h->map)
            madvise(h->map + page, PAGE, MADV_DONTNEED);
        break;
    case 1:
        posix_fadvise(h->fd, 0, 0, POSIX_FADV_DONTNEED);
        break;
    case 2:
        sync_file_range(h->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        break;
    }
}

void grid_writer(struct probe *p, void *arg)
{
    struct writer *w = arg;
    struct grid *g = w->g;
    struct hand h = {.w = w, .rng = {p->seed * 131 + (uint64_t)(p->check * 64 + w->me)}};

    h.fd = file_open(p, w->way, g->name, O_RDWR);
    if (w->way->map)
        h.map = file_map(p, w->way, g->name, h.fd, 0, grid_bytes(g), true);
    while (!p->sh->stop) {
        beat(p);
        int n = 1 + (int)rng_below(&h.rng, 8);
        for (int j = 0; j < n; j++) {
            int i = choose(&h);
            look_at_own(p, &h, i);
            store(p, &h, i);
        }
        if (w->careful) {
            /* So that the state which is now acknowledged has a time of its own at the server. */
            file_sync(p, w->way, g->name, h.fd);
            tick(p);
            store(p, &h, choose(&h));
            acknowledge(p, &h);
            count(&res(p)->batches);
            tick(p);
        } else if (rng_below(&h.rng, 10) == 0)
            acknowledge(p, &h);
        let_go(&h);
        if (w->idle_us)
            t_sleep_us((long)rng_below(&h.rng, (uint64_t)w->idle_us));
    }
    acknowledge(p, &h);
    if (h.map)
        file_unmap(h.map, grid_bytes(g));
    file_close(p, w->way, g->name, h.fd);
}

void grid_compare(struct probe *p, struct grid *g, const struct way *way, enum kind older,
                  bool promised, const char *when)
{
    size_t bytes = grid_bytes(g);
    int fd = file_open(p, way, g->name, O_RDONLY);
    char *view = malloc(bytes);
    struct where by_read = {way, g->name, "read", when}, by_map = {way, g->name, "mapping", when};

    if (!view)
        trouble(p, "memory");
    file_read(p, way, g->name, fd, view, bytes, 0);
    for (int i = 0; i < g->n; i++)
        grid_judge(p, g, i, view + (size_t)i * g->len, g->cell[i].done, g->cell[i].done, older,
                   promised, &by_read);
    if (way->map) {
        char *m = file_map(p, way, g->name, fd, 0, bytes, false);
        memcpy(view, m, bytes);
        file_unmap(m, bytes);
        for (int i = 0; i < g->n; i++)
            grid_judge(p, g, i, view + (size_t)i * g->len, g->cell[i].done, g->cell[i].done, older,
                       promised, &by_map);
    }
    free(view);
    close(fd);
    beat(p);
}
