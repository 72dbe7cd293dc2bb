// SPDX-License-Identifier: Apache-2.0
/*
 * Checks of many processes on one file:
 *
 *   own-pages      Processes of one client map and write it, each its own pages; others open it all
 * the time and look. foreign-pages  The other client, too, writes pages of its own. Each open here
 * has to find out that the file changed, and to drop what is stale, but not what is dirty.
 *   shared-page    All write the same few pages, 128 bytes in turn.
 *
 * The leader looks. Once all is quiet and closed, everything is compared on every way.
 */
#include "tests/race/probe/checks.h"
#include "tests/race/probe/grid.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The last two records are the leader's, one on each side: a change when all else is quiet. */
enum { BUMP_HERE = 90, BUMP_THERE = 91, FOREIGN = 80 };

static int bump_owner(const struct grid *g, int i)
{
    return i == g->n - 2 ? BUMP_HERE : i == g->n - 1 ? BUMP_THERE : -1;
}

static int owner_local(const struct grid *g, int i)
{
    int b = bump_owner(g, i);
    return b >= 0 ? b : i % g->writers;
}

static int owner_mixed(const struct grid *g, int i)
{
    int b = bump_owner(g, i);
    return b >= 0 ? b : i % 2 ? FOREIGN : i / 2 % g->writers;
}

struct scene {
    struct grid *g;
    const char *view_how;
    int fd; /* held open here */
    char *map, *view;
    uint64_t *note;
    struct rng rng;
};

/* One that opens and looks at attributes, and nothing else: each open is a revalidation. */
static void opener(struct probe *p, void *arg)
{
    struct grid *g = arg;
    struct rng rng = {p->seed * 17 + 3};
    struct stat st;

    while (!p->sh->stop) {
        int fd = file_open(p, &p->a, g->name, O_RDONLY);
        if (fstat(fd, &st) || (size_t)st.st_size != grid_bytes(g)) {
            struct where at = {&p->a, g->name, "stat", "after an open"};
            finding(p, WRONG, true, &at, NULL, NULL, 0,
                    "size %lld of a file that never had another than %zu", (long long)st.st_size,
                    grid_bytes(g));
        }
        close(fd);
        beat(p);
        t_sleep_us((long)rng_below(&rng, 3000));
    }
}

static void start_writers(struct probe *p, struct grid *g, bool foreign, bool promised)
{
    for (int i = 0; i < g->writers; i++) {
        struct writer *w = calloc(1, sizeof *w);
        char name[32];
        *w = (struct writer){.g = g,
                             .me = i,
                             .way = &p->a,
                             .style = i % 3 == 1 ? BY_WRITE : BY_MAPPING,
                             .promised = promised,
                             .idle_us = 1500};
        snprintf(name, sizeof name, "writer %d", i);
        helper(p, name, grid_writer, w);
    }
    if (foreign) {
        /* One only: of two, the one would write in the tick in which the other waits. */
        struct writer *w = calloc(1, sizeof *w);
        *w = (struct writer){.g = g,
                             .me = FOREIGN,
                             .way = &p->b,
                             .style = BY_WRITE,
                             .promised = promised,
                             .careful = true,
                             .idle_us = 500};
        helper(p, "foreign writer", grid_writer, w);
    }
}

/* Looks at all records of one side. `fresh`: through a new open. */
static void look(struct probe *p, struct scene *s, bool foreign, bool fresh, bool promised)
{
    struct grid *g = s->g;
    size_t bytes = grid_bytes(g);
    bool mapped = p->a.map && rng_below(&s->rng, 2);
    struct where at = {&p->a, g->name, mapped ? "mapping" : "read",
                       fresh ? "after an open" : "without an open"};
    int fd = s->fd;
    char *map = s->map;

    for (int i = 0; i < g->n; i++)
        s->note[i] = foreign ? g->cell[i].acked : g->cell[i].done;
    if (fresh)
        fd = file_open(p, &p->a, g->name, O_RDONLY);
    if (mapped) {
        if (fresh)
            map = file_map(p, &p->a, g->name, fd, 0, bytes, false);
        memcpy(s->view, map, bytes);
        if (fresh)
            file_unmap(map, bytes);
    } else
        file_read(p, &p->a, g->name, fd, s->view, bytes, 0);
    if (fresh)
        close(fd);
    for (int i = 0; i < g->n; i++) {
        int o = g->owner(g, i);
        if (o >= BUMP_HERE || (o == FOREIGN) != foreign)
            continue;
        grid_judge(p, g, i, s->view + (size_t)i * g->len, s->note[i], g->cell[i].begun, STALE,
                   promised, &at);
    }
}

/* What fsync returned 0 for, the server has. */
static void look_at_server(struct probe *p, struct scene *s, bool promised)
{
    struct grid *g = s->g;
    struct where at = {&p->s, g->name, "read", "after fsync here"};

    for (int i = 0; i < g->n; i++)
        s->note[i] = g->cell[i].acked;
    memset(s->view, 0, grid_bytes(g));
    file_look(p, &p->s, g->name, s->view, grid_bytes(g), 0);
    for (int i = 0; i < g->n; i++)
        if (g->owner(g, i) < FOREIGN)
            grid_judge(p, g, i, s->view + (size_t)i * g->len, s->note[i], g->cell[i].begun, LOST,
                       promised, &at);
}

static void bump(struct probe *p, struct grid *g, const struct way *w, int i)
{
    struct rec_id id = grid_id(p, g, i, g->cell[i].done + 1);
    uint64_t buf[PAGE / 8];
    int fd;

    tick(p);
    rec_make(buf, g->len, &id);
    fd = file_open(p, w, g->name, O_RDWR);
    file_write(p, w, g->name, fd, buf, g->len, (off_t)id.offset);
    file_sync(p, w, g->name, fd);
    file_close(p, w, g->name, fd);
    g->cell[i].begun = g->cell[i].done = g->cell[i].acked = id.seq;
}

/* All writers have closed. First as it is; then, after a change on each side that no client
 * can take for its own, as it must be. */
static void all_quiet(struct probe *p, struct grid *g, bool foreign, bool promised)
{
    if (p->s.dir)
        grid_compare(p, g, &p->s, LOST, promised, "all quiet");
    if (foreign) {
        grid_compare(p, g, &p->a, STALE, promised && p->expect >= COHERENT,
                     "all quiet, no change since the last");
        bump(p, g, &p->a, g->n - 2);
        bump(p, g, &p->b, g->n - 1);
    }
    tick(p);
    grid_compare(p, g, &p->a, foreign ? STALE : LOST, promised, "all quiet");
    if (p->b.dir && p->b.dir != p->s.dir)
        grid_compare(p, g, &p->b, STALE, promised, "all quiet");
}

static void pages(struct probe *p, struct grid *g, bool foreign, bool promised)
{
    struct scene s = {.g = g, .rng = {p->seed * 7 + (uint64_t)p->check}};
    bool fresh_promised = promised && (!foreign || p->expect >= COHERENT);

    s.fd = file_open(p, &p->a, g->name, O_RDONLY);
    s.view = malloc(grid_bytes(g));
    s.note = calloc((size_t)g->n, sizeof *s.note);
    if (!s.view || !s.note)
        trouble(p, "memory");
    if (p->a.map)
        s.map = file_map(p, &p->a, g->name, s.fd, 0, grid_bytes(g), false);
    start_writers(p, g, foreign, promised);
    helper(p, "opener", opener, g);
    /* A run by rounds is also one of so many changes by the other client. */
    while (another_round(p) ||
           (foreign && p->rounds && res(p)->batches < p->rounds / 4 && !p->sh->stop)) {
        bool fresh = rng_below(&s.rng, 3) != 0;
        /* What a process of this client wrote, every process of it sees at once. */
        look(p, &s, false, fresh, promised);
        if (foreign)
            look(p, &s, true, fresh || p->expect < LOCAL, fresh_promised);
        if (p->s.dir && res(p)->rounds % 4 == 0)
            look_at_server(p, &s, promised);
        t_sleep_us((long)rng_below(&s.rng, 2000));
    }
    helpers_end(p);
    if (s.map)
        file_unmap(s.map, grid_bytes(g));
    close(s.fd);
    if (!p->sh->stop)
        all_quiet(p, g, foreign, promised);
}

void check_own_pages(struct probe *p)
{
    pages(p, grid_new(p, "own-pages", p->pages, PAGE, owner_local, p->processes), false, true);
}

void check_foreign_pages(struct probe *p)
{
    pages(p, grid_new(p, "foreign-pages", p->pages, PAGE, owner_mixed, p->processes), true, true);
}

void check_shared_page(struct probe *p)
{
    pages(p, grid_new(p, "shared-page", 4 * PAGE / 128, 128, owner_mixed, p->processes), true,
          p->expect >= COHERENT);
}
