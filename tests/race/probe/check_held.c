// SPDX-License-Identifier: Apache-2.0
/*
 * held: the other client changes a page and closes; a descriptor and a mapping here, that stay
 * open, are looked at until they show it. Close-to-open promises nothing of that: the longest age
 * is reported, and how often the change was not seen within the wait.
 */
#include "tests/race/probe/checks.h"
#include "tests/race/probe/grid.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int owner_one(const struct grid *g, int i)
{
    return 0;
}

void check_held(struct probe *p)
{
    struct grid *g = grid_new(p, "held", 8, PAGE, owner_one, 1);
    struct rng rng = {p->seed * 11 + 4};
    int fd = file_open(p, &p->a, g->name, O_RDONLY);
    char *map = p->a.map ? file_map(p, &p->a, g->name, fd, 0, grid_bytes(g), false) : NULL;
    double wait = p->fresh + (p->expect == COHERENT ? 0.5 : 0);
    double promised = p->expect == COHERENT ? p->fresh : p->expect == LOCAL ? 0 : 1e9;

    while (another_round(p)) {
        int i = (int)rng_below(&rng, (uint64_t)g->n), there;
        bool mapped = map && res(p)->rounds % 2;
        volatile double *oldest = mapped ? &res(p)->age_map : &res(p)->age_read;
        struct where at = {&p->a, g->name, mapped ? "mapping" : "read", "held open all the time"};
        uint64_t buf[PAGE / 8];
        struct rec_id id;
        struct rec_seen r;
        double t0, age;
        long looks = 0;

        /* All of it in the cache, and in page tables. */
        for (int k = 0; k < g->n; k++) {
            file_read(p, &p->a, g->name, fd, buf, PAGE, (off_t)k * PAGE);
            if (map)
                memcpy(buf, map + (size_t)k * PAGE, PAGE);
        }
        tick(p);
        g->cell[i].begun++;
        id = grid_id(p, g, i, g->cell[i].begun);
        rec_make(buf, PAGE, &id);
        there = file_open(p, &p->b, g->name, O_RDWR);
        file_write(p, &p->b, g->name, there, buf, PAGE, (off_t)id.offset);
        file_sync(p, &p->b, g->name, there);
        file_close(p, &p->b, g->name, there);
        g->cell[i].done = id.seq;
        t0 = t_now();
        for (;; looks++) {
            age = t_now() - t0;
            if (mapped)
                memcpy(buf, map + id.offset, PAGE);
            else
                file_read(p, &p->a, g->name, fd, buf, PAGE, (off_t)id.offset);
            r = rec_read(buf, PAGE, &id);
            count(&res(p)->reads);
            if ((r.state == REC_WHOLE && r.id.seq == id.seq) || age > wait || p->sh->stop)
                break;
            nap(p, 0.01);
        }
        if (p->sh->stop)
            break;
        if (looks && age > *oldest)
            *oldest = age;
        if (r.state != REC_WHOLE || r.id.seq != id.seq)
            count(&res(p)->unseen);
        if (promised < 1e9 && looks && age > promised)
            finding(p, STALE, true, &at, &id, buf, PAGE,
                    "a change of the other client is not seen %.2f s after it was closed", age);
        /* Seen at the latest by an open; else the next round would look at another change. */
        close(file_open(p, &p->a, g->name, O_RDONLY));
    }
    if (map)
        file_unmap(map, grid_bytes(g));
    close(fd);
}
