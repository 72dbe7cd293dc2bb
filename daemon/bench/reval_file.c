// SPDX-License-Identifier: Apache-2.0
/*
 * The file of the revalidation benchmark. The other side opens it anew for each look and each
 * change, so it may be a caching mount itself.
 */
#include "daemon/bench/reval.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 256 }; /* pages at a time */

static unsigned char fill_of(const struct rv_file *f, uint64_t page)
{
    return (unsigned char)(1 + (f->version * 37 + page) % 251);
}

static bool is_special(const struct rv_file *f, uint64_t page)
{
    return f->has_special && page == f->pages / 2;
}

/* The page as the other side has it (or we, if it is stored wholly); our slots are 0. */
static void page_content(const struct rv_file *f, uint64_t page, unsigned char *out)
{
    bool ours = f->stored_wholly && page < f->pages && page != f->pages / 2;

    memset(out, 0, RV_THEIRS);
    memset(out + RV_THEIRS, ours ? RV_OURS : fill_of(f, page), RV_PAGE - RV_THEIRS);
    if (is_special(f, page))
        out[RV_SPECIAL] = f->special;
}

static int write_all(int fd, const unsigned char *data, size_t size, uint64_t offset)
{
    while (size) {
        ssize_t n = pwrite(fd, data, size, (off_t)offset);
        if (n < 0 && errno == EINTR && !bench_stopped())
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        data += n;
        size -= (size_t)n;
        offset += (size_t)n;
    }
    return 0;
}

/* Pages from `first` to `last`, whole, with slots of 0. */
static int write_pages(const struct rv_file *f, int fd, uint64_t first, uint64_t last)
{
    unsigned char *chunk = malloc((size_t)CHUNK * RV_PAGE);
    int rc = chunk ? 0 : -ENOMEM;

    for (uint64_t p = first; rc == 0 && p < last;) {
        uint64_t n = last - p < CHUNK ? last - p : CHUNK;
        for (uint64_t i = 0; i < n; i++)
            page_content(f, p + i, chunk + i * RV_PAGE);
        rc = write_all(fd, chunk, n * RV_PAGE, p * RV_PAGE);
        p += n;
    }
    free(chunk);
    return rc;
}

static int sync_and_close(int fd, int rc)
{
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    if (close(fd) < 0 && rc == 0)
        rc = -errno;
    return rc;
}

int rv_file_make(struct rv_file *f, const struct target *t, unsigned pages, enum rv_change change)
{
    static unsigned number;
    char name[32];

    *f = (struct rv_file){.pages = pages, .size = (uint64_t)pages * RV_PAGE, .version = 1};
    f->written = calloc(pages, sizeof *f->written);
    f->mapped = calloc(pages, sizeof *f->mapped);
    if (!f->written || !f->mapped)
        return -ENOMEM;
    snprintf(name, sizeof name, "file.%u", number++);
    target_path(t->dir, name, f->path);
    target_path(t->foreign, name, f->foreign);
    int fd = open(f->foreign, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return -errno;
    int rc = sync_and_close(fd, write_pages(f, fd, 0, pages));
    if (rc == 0 && change == CHANGE_REPLACED) {
        snprintf(name + strlen(name), sizeof name - strlen(name), ".old");
        target_path(t->foreign, name, f->old);
        rc = link(f->foreign, f->old) < 0 ? -errno : 0;
    }
    return rc;
}

void rv_file_remove(struct rv_file *f)
{
    if (*f->foreign)
        unlink(f->foreign);
    if (*f->old)
        unlink(f->old);
    free(f->written);
    free(f->mapped);
    *f = (struct rv_file){0};
}

/* ---- changes elsewhere ------------------------------------------------------------------------
 */

static int change_byte(struct rv_file *f, int fd)
{
    f->special = (unsigned char)(f->has_special ? f->special % 250 + 1 : 252);
    f->has_special = true;
    return write_all(fd, &f->special, 1, (uint64_t)(f->pages / 2) * RV_PAGE + RV_SPECIAL);
}

/* All but our slots. */
static int change_whole(struct rv_file *f, int fd)
{
    unsigned char page[RV_PAGE];
    int rc = 0;

    f->version++;
    f->has_special = false;
    for (uint64_t p = 0; rc == 0 && p < f->pages; p++) {
        page_content(f, p, page);
        rc = write_all(fd, page + RV_THEIRS, RV_PAGE - RV_THEIRS, p * RV_PAGE + RV_THEIRS);
    }
    return rc;
}

static int change_replaced(struct rv_file *f)
{
    char other[PATH_MAX + 8];

    snprintf(other, sizeof other, "%s.new", f->foreign);
    f->version++;
    f->has_special = false;
    f->replaced = true;
    int fd = open(other, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return -errno;
    int rc = sync_and_close(fd, write_pages(f, fd, 0, f->pages));
    return rc == 0 && rename(other, f->foreign) < 0 ? -errno : rc;
}

int rv_file_change(struct rv_file *f, enum rv_change change)
{
    uint64_t more = f->pages / 2 ? f->pages / 2 : 1;
    int rc = 0;

    if (change == CHANGE_NONE)
        return 0;
    if (change == CHANGE_REPLACED)
        return change_replaced(f);
    int fd = open(f->foreign, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    switch (change) {
    case CHANGE_BYTE:
        rc = change_byte(f, fd);
        break;
    case CHANGE_WHOLE:
        rc = change_whole(f, fd);
        break;
    case CHANGE_GROWN:
        rc = write_pages(f, fd, f->pages, f->pages + more);
        f->size += more * RV_PAGE;
        break;
    default:
        f->size /= 2;
        rc = ftruncate(fd, (off_t)f->size) < 0 ? -errno : 0;
    }
    return sync_and_close(fd, rc);
}

/* ---- looking --------------------------------------------------------------------------------- */

int rv_file_is_fresh(const struct rv_file *f, enum rv_change change, int fd)
{
    uint64_t middle = f->pages / 2, at = middle * RV_PAGE + RV_SPECIAL;
    unsigned char byte = 0, expected = is_special(f, middle) ? f->special : fill_of(f, middle);

    if (change == CHANGE_GROWN) {
        at = (uint64_t)f->pages * RV_PAGE + RV_SPECIAL;
        expected = fill_of(f, f->pages);
    } else if (change == CHANGE_SHRUNK) {
        at = f->size;
    }
    ssize_t n = pread(fd, &byte, 1, (off_t)at);
    if (n < 0)
        return -errno;
    return change == CHANGE_SHRUNK ? n == 0 : n == 1 && byte == expected;
}

int rv_file_read(int fd, unsigned pages)
{
    char *chunk = malloc((size_t)CHUNK * RV_PAGE);
    uint64_t end = (uint64_t)pages * RV_PAGE;
    int rc = chunk ? 0 : -ENOMEM;

    for (uint64_t at = 0; rc == 0 && at < end;) {
        uint64_t want = end - at < (uint64_t)CHUNK * RV_PAGE ? end - at : (uint64_t)CHUNK * RV_PAGE;
        ssize_t n = pread(fd, chunk, want, (off_t)at);
        if (n < 0 && errno == EINTR && !bench_stopped())
            continue;
        if (n <= 0)
            rc = n < 0 ? -errno : -EIO;
        at += n > 0 ? (uint64_t)n : 0;
    }
    free(chunk);
    return rc;
}

static bool page_is_right(const struct rv_file *f, uint64_t page, const unsigned char *got)
{
    unsigned char expected[RV_PAGE];
    uint64_t left = f->size - page * RV_PAGE;
    size_t end = left < RV_PAGE ? left : RV_PAGE;

    page_content(f, page, expected);
    return end <= RV_THEIRS || memcmp(got + RV_THEIRS, expected + RV_THEIRS, end - RV_THEIRS) == 0;
}

/* Calls `each` for every page of the file as `fd` shows it; what is missing reads as zeros. */
static int for_each_page(const struct rv_file *f, int fd,
                         void (*each)(const struct rv_file *f, uint64_t page,
                                      const unsigned char *got, void *arg),
                         void *arg)
{
    uint64_t pages = (f->size + RV_PAGE - 1) / RV_PAGE;
    unsigned char *chunk = malloc((size_t)CHUNK * RV_PAGE);
    int rc = chunk ? 0 : -ENOMEM;

    for (uint64_t p = 0; rc == 0 && p < pages; p += CHUNK) {
        uint64_t n = pages - p < CHUNK ? pages - p : CHUNK;
        size_t have = 0;
        memset(chunk, 0, n * RV_PAGE);
        while (have < n * RV_PAGE) {
            ssize_t got = pread(fd, chunk + have, n * RV_PAGE - have, (off_t)(p * RV_PAGE + have));
            if (got < 0 && errno == EINTR && !bench_stopped())
                continue;
            if (got <= 0) {
                rc = got < 0 ? -errno : 0;
                break;
            }
            have += (size_t)got;
        }
        for (uint64_t i = 0; rc == 0 && i < n; i++)
            each(f, p + i, chunk + i * RV_PAGE, arg);
    }
    free(chunk);
    return rc;
}

static void count_wrong(const struct rv_file *f, uint64_t page, const unsigned char *got, void *arg)
{
    *(long *)arg += !page_is_right(f, page, got);
}

long rv_file_wrong_pages(const struct rv_file *f, int fd)
{
    long wrong = 0;
    int rc = for_each_page(f, fd, count_wrong, &wrong);
    return rc < 0 ? rc : wrong;
}

static void count_lost_writes(const struct rv_file *f, uint64_t page, const unsigned char *got,
                              void *arg)
{
    uint64_t slot;

    if (page >= f->pages || page * RV_PAGE + RV_THEIRS > f->size)
        return;
    memcpy(&slot, got + RV_SLOT_WRITE, sizeof slot);
    *(unsigned *)arg += slot != f->written[page];
    memcpy(&slot, got + RV_SLOT_MAPPED, sizeof slot);
    *(unsigned *)arg += slot != f->mapped[page];
}

static void count_lost_foreign(const struct rv_file *f, uint64_t page, const unsigned char *got,
                               void *arg)
{
    *(unsigned *)arg += !page_is_right(f, page, got);
}

int rv_file_check(const struct rv_file *f, unsigned *lost_writes, unsigned *lost_foreign)
{
    int fd = open(f->replaced ? f->old : f->foreign, O_RDONLY | O_CLOEXEC);

    *lost_writes = *lost_foreign = 0;
    if (fd < 0)
        return -errno;
    int rc = for_each_page(f, fd, count_lost_writes, lost_writes);
    close(fd);
    fd = rc == 0 ? open(f->foreign, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return rc ? rc : -errno;
    rc = for_each_page(f, fd, count_lost_foreign, lost_foreign);
    close(fd);
    return rc;
}

void rv_wait_a_tick(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 15000000}, NULL);
}
