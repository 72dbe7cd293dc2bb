// SPDX-License-Identifier: Apache-2.0
/*
 * The matrix of the revalidation benchmark. One round of a cell:
 *
 *     make a file elsewhere, and let it grow old; read it here, and bring it into the state
 * (mapped, dirty, ...) change it elsewhere open it here        <- timed read one byte that changed
 * <- timed from the same start; again until it is the new one read everything: what is still old?
 * how much was fetched again? sync, close; look from elsewhere: what of ours is missing, what of
 * theirs?
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "daemon/bench/reval.h"

enum { ROUNDS_MAX = 64 };

struct round {
    struct rv_cell *rv;
    struct rv_file file;
    int fd; /* kept through the change where the state needs it */
    unsigned char *map;
    size_t map_size;
    struct rv_writers *writers;
    /* results */
    double open_us, fresh_us; /* fresh_us < 0: never within the patience */
    unsigned stale_opens, lost_writes, lost_foreign;
    long stale_pages;
    uint64_t fetched;
    bool knows_fetched;
};

/* ---- the states ------------------------------------------------------------------------------ */

static int map_file(struct round *r, int prot)
{
    r->map_size = (size_t)r->file.pages * RV_PAGE;
    r->map = mmap(NULL, r->map_size, prot, MAP_SHARED, r->fd, 0);
    if (r->map != MAP_FAILED)
        return 0;
    r->map = NULL;
    return -errno;
}

static int make_mapped(struct round *r)
{
    int rc = map_file(r, PROT_READ);

    for (size_t at = 0; rc == 0 && at < r->map_size; at += RV_PAGE)
        (void)*(volatile unsigned char *)&r->map[at];
    return rc;
}

static int make_dirty_by_write(struct round *r)
{
    for (unsigned p = 0; p < rv_dirty_pages(r->file.pages, r->rv->change); p++) {
        uint64_t value = p + 1;
        if (pwrite(r->fd, &value, sizeof value, (off_t)p * RV_PAGE + RV_SLOT_WRITE) !=
            (ssize_t)sizeof value)
            return errno ? -errno : -EIO;
        r->file.written[p] = value;
    }
    return 0;
}

static int make_dirty_by_mapping(struct round *r)
{
    int rc = map_file(r, PROT_READ | PROT_WRITE);

    for (unsigned p = 0; rc == 0 && p < rv_dirty_pages(r->file.pages, r->rv->change); p++) {
        uint64_t value = p + 1;
        if (!rv_store((volatile uint64_t *)(void *)(r->map + (size_t)p * RV_PAGE + RV_SLOT_MAPPED),
                      value))
            return -EFAULT;
        r->file.mapped[p] = value;
    }
    return rc;
}

/* No byte of what is stored is what it was before. */
static int make_dirty_pages(struct round *r)
{
    int rc = map_file(r, PROT_READ | PROT_WRITE);

    r->file.stored_wholly = true;
    for (unsigned p = 0; rc == 0 && p < r->file.pages; p++) {
        unsigned char *page = r->map + (size_t)p * RV_PAGE;
        uint64_t value = 0x8080808080808080u | p;
        if (p != r->file.pages / 2) {
            r->file.written[p] = r->file.mapped[p] = value;
            memset(page, RV_OURS, RV_PAGE);
            memcpy(page + RV_SLOT_WRITE, &value, sizeof value);
            memcpy(page + RV_SLOT_MAPPED, &value, sizeof value);
        }
    }
    return rc;
}

static int start_writer(struct round *r)
{
    int rc = map_file(r, PROT_READ | PROT_WRITE);

    r->writers = rc == 0 ? calloc(1, sizeof *r->writers) : NULL;
    if (rc == 0 && !r->writers)
        rc = -ENOMEM;
    return rc ? rc : rv_writers_start(r->writers, &r->file, r->fd, r->map, r->map_size);
}

/* Opens and reads until the file is what the other side made it. */
static int open_and_cache(struct round *r)
{
    uint64_t until = bench_now() + (uint64_t)(r->rv->o->patience_s * 1e9);

    for (;;) {
        r->fd = open(r->file.path, O_RDWR | O_CLOEXEC);
        int rc = r->fd < 0 ? -errno : rv_file_is_fresh(&r->file, CHANGE_NONE, r->fd);
        if (rc == 1)
            return rv_file_read(r->fd, r->rv->pages);
        if (r->fd >= 0)
            close(r->fd);
        r->fd = -1;
        if ((rc < 0 && rc != -ENOENT && rc != -ESTALE) || bench_now() > until || bench_stopped())
            return rc < 0 ? rc : -ETIMEDOUT;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}

static int into_state(struct round *r)
{
    static int (*const make[])(struct round *) = {
        NULL,        make_mapped, make_dirty_by_write, make_dirty_by_mapping, make_dirty_pages,
        start_writer};
    int rc = 0;

    if (r->rv->pages)
        rc = open_and_cache(r);
    if (rc == 0 && make[r->rv->state])
        rc = make[r->rv->state](r);
    /* A descriptor of its own would hold what it has seen; a mapping needs none. */
    if (r->fd >= 0 && (r->rv->state == STATE_CLEAN || r->rv->state == STATE_MAPPED)) {
        close(r->fd);
        r->fd = -1;
    }
    return rc;
}

/* ---- the moment ------------------------------------------------------------------------------ */

static int open_and_see(struct round *r, int *out)
{
    uint64_t before = 0, after = 0, start = bench_now(), opened;
    uint64_t until = start + (uint64_t)(r->rv->o->patience_s * 1e9);
    int fd, rc;

    r->knows_fetched = target_fetched(r->rv->target, &before);
    start = bench_now();
    for (;;) {
        opened = bench_now();
        fd = open(r->file.path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return -errno;
        if (!r->stale_opens)
            r->open_us = bench_us_since(opened);
        rc = rv_file_is_fresh(&r->file, r->rv->change, fd);
        if (rc == 1)
            r->fresh_us = bench_us_since(start);
        /* A file that was just cut off or replaced may answer so once. */
        if (rc == 1 || (rc < 0 && rc != -ESTALE))
            break;
        r->stale_opens++;
        if (bench_now() > until || bench_stopped()) {
            r->fresh_us = -1;
            rc = 1;
            break;
        }
        close(fd);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    if (rc == 1) {
        r->stale_pages = rv_file_wrong_pages(&r->file, fd);
        rc = r->stale_pages < 0 ? (int)r->stale_pages : 0;
    }
    if (r->knows_fetched && target_fetched(r->rv->target, &after))
        r->fetched = after - before;
    *out = fd;
    return rc;
}

/* Everything of ours to the server. */
static int finish(struct round *r)
{
    int rc = 0;

    if (r->writers) {
        rc = rv_writers_stop(r->writers);
    }
    if (r->map) {
        if (msync(r->map, r->map_size, MS_SYNC) < 0 && rc == 0)
            rc = -errno;
        munmap(r->map, r->map_size);
        r->map = NULL;
    }
    if (r->fd >= 0) {
        if (fsync(r->fd) < 0 && rc == 0)
            rc = -errno;
        if (close(r->fd) < 0 && rc == 0)
            rc = -errno;
        r->fd = -1;
    }
    return rc;
}

static int one_round(struct cell *c, struct round *r)
{
    struct rv_cell *rv = r->rv;
    const char *at = "caching it";
    int fd = -1, rc = into_state(r);

    if (rc == 0) {
        rv_wait_a_tick();
        at = "changing it elsewhere";
        rc = rv_file_change(&r->file, rv->change);
    }
    if (rc == 0) {
        at = "opening it";
        rc = open_and_see(r, &fd);
    }
    if (fd >= 0)
        close(fd);
    int rc2 = finish(r);
    if (rc == 0 && rc2 < 0) {
        at = "writing it back";
        rc = rc2;
    }
    if (rc == 0) {
        at = "looking at it from elsewhere";
        rc = rv_file_check(&r->file, &r->lost_writes, &r->lost_foreign);
    }
    return rc < 0 ? cell_fail(c, "%s: %s", at, strerror(-rc)) : 0;
}

/* ---- a repetition -----------------------------------------------------------------------------
 */

/* Many rounds where a round is short. */
static unsigned rounds_of(const struct rv_cell *rv)
{
    unsigned fit = rv->pages ? 4096 / rv->pages : rv->o->rounds;
    unsigned n = fit < rv->o->rounds ? fit : rv->o->rounds;
    return n == 0 ? 1 : n > ROUNDS_MAX ? ROUNDS_MAX : n;
}

/* The files of all rounds, and then time for them to be older than any client doubts. */
static int make_files(struct cell *c, struct round *rounds, unsigned n)
{
    struct rv_cell *rv = cell_arg(c);
    unsigned pages = rv->pages ? rv->pages : RV_PAGES_EMPTY, ms = rv->o->settle_ms;
    int rc = 0;

    for (unsigned i = 0; i < n; i++) {
        rounds[i].rv = rv;
        rounds[i].fd = -1;
        if (rc == 0)
            rc = rv_file_make(&rounds[i].file, rv->target, pages, rv->change);
    }
    if (rc < 0)
        return cell_fail(c, "making the file: %s", strerror(-rc));
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
    return 0;
}

static void give_samples(struct cell *c, const struct round *rounds, unsigned n)
{
    double open_us[ROUNDS_MAX] = {0}, fresh_us[ROUNDS_MAX] = {0};
    double lost = 0, lost_foreign = 0, stale_opens = 0, stale_pages = 0, fetched = 0;
    bool knows_fetched = true;
    unsigned fresh = 0;

    for (unsigned i = 0; i < n; i++) {
        const struct round *r = &rounds[i];
        open_us[i] = r->open_us;
        if (r->fresh_us >= 0)
            fresh_us[fresh++] = r->fresh_us;
        lost += r->lost_writes;
        lost_foreign += r->lost_foreign;
        stale_opens += r->stale_opens != 0;
        stale_pages += (double)r->stale_pages;
        fetched += (double)r->fetched / n;
        knows_fetched = knows_fetched && r->knows_fetched;
    }
    cell_times(c, "open", open_us, n);
    cell_times(c, "fresh", fresh_us, fresh);
    cell_sample(c, "lost_writes", "count", BETTER_ZERO, lost);
    cell_sample(c, "lost_foreign", "count", BETTER_ZERO, lost_foreign);
    cell_sample(c, "stale_opens", "count", BETTER_ZERO, stale_opens);
    cell_sample(c, "stale_pages", "count", BETTER_ZERO, stale_pages);
    if (knows_fetched)
        cell_sample(c, "fetched_again", "bytes", BETTER_NONE, fetched);
}

/* What the writers of all rounds felt. */
static void give_histograms(struct cell *c, const struct round *rounds, unsigned n)
{
    struct histogram *h = calloc(2, sizeof *h);

    for (unsigned i = 0; h && i < n; i++)
        if (rounds[i].writers) {
            histogram_merge(&h[0], &rounds[i].writers->write);
            histogram_merge(&h[1], &rounds[i].writers->store);
        }
    if (h) {
        cell_histogram(c, "write", &h[0]);
        cell_histogram(c, "store", &h[1]);
    }
    free(h);
}

int rv_matrix_run(struct cell *c)
{
    unsigned n = rounds_of(cell_arg(c));
    struct round *rounds = calloc(n, sizeof *rounds);
    int rc = rounds ? make_files(c, rounds, n) : -ENOMEM;

    for (unsigned i = 0; rc == 0 && i < n && !bench_stopped(); i++)
        rc = one_round(c, &rounds[i]);
    if (rc == 0 && !bench_stopped()) {
        give_samples(c, rounds, n);
        give_histograms(c, rounds, n);
    }
    for (unsigned i = 0; rounds && i < n; i++) {
        free(rounds[i].writers);
        rv_file_remove(&rounds[i].file);
    }
    free(rounds);
    return rc;
}
