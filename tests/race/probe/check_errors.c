// SPDX-License-Identifier: Apache-2.0
/*
 * Errors of writing, which the user provokes: nothing here is done unasked.
 *
 *   fill    Pages are written until a call fails. Then, and also if none failed: each page whose
 *           write, and the fsync and the close after it, returned success is there.
 *   break   The user's command makes the server refuse to write. Pages are written by write(2) and
 *           through a mapping: fsync, msync or close must fail, or the bytes must be there. After
 * the other command all can be written again, and is.
 *
 * A lost error is data that is not there though every call that could have said so succeeded.
 */
#include "tests/race/probe/checks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct rec_id id_of(const struct probe *p, long page, uint64_t seq)
{
    return (struct rec_id){.run = p->run,
                           .file = (uint16_t)p->check,
                           .writer = 1,
                           .seq = seq,
                           .offset = (uint64_t)page * PAGE};
}

/* How many of the first n pages are not on this way; the first is described. */
static long missing(struct probe *p, const struct way *way, const char *name, long n, uint64_t seq,
                    enum kind k, const char *when)
{
    struct where w = {way, name, "read", when};
    uint64_t buf[PAGE / 8];
    long bad = 0;
    int fd = file_open(p, way, name, O_RDONLY);

    /* What this client still holds proves nothing, if the server's side cannot be seen. */
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    for (long i = 0; i < n; i++) {
        struct rec_id id = id_of(p, i, seq);
        struct rec_seen r;
        ssize_t got;
        memset(buf, 0, sizeof buf);
        got = pread(fd, buf, PAGE, (off_t)id.offset);
        if (got < 0)
            trouble(p, "%s: cannot read %s/%s", way->option, way->dir, name);
        r = rec_read(buf, PAGE, &id);
        count(&res(p)->reads);
        if (got != PAGE || r.state != REC_WHOLE || r.id.seq != seq) {
            bad++;
            finding(p, k, true, &w, &id, buf, PAGE, "its write, fsync and close all succeeded");
        }
        beat(p);
    }
    close(fd);
    return bad;
}

void check_fill(struct probe *p)
{
    uint64_t limit, written = 0;
    const char *name, *failed = NULL;
    uint64_t *block = malloc(64 * PAGE);
    int fd, err = 0;

    if (!block)
        trouble(p, "memory");
    limit = free_space(p);
    /* Compression and reserves: what is free is not exact. */
    limit = limit * 2 + (32 << 20);
    name = file_make(p, "fill", 0);
    fd = file_open(p, &p->a, name, O_RDWR);
    another_round(p);
    while (written < limit && !failed && !p->sh->stop) {
        size_t n = 64 * PAGE;
        for (size_t i = 0; i < n / PAGE; i++) {
            struct rec_id id = id_of(p, (long)(written / PAGE + i), 1);
            rec_make((char *)block + i * PAGE, PAGE, &id);
        }
        ssize_t k = pwrite(fd, block, n, (off_t)written);
        if (k < 0) {
            err = errno;
            failed = "write";
            break;
        }
        written += (uint64_t)k;
        count(&res(p)->writes);
        if (k % PAGE) {
            /* A short write: the next says why. */
            written -= (uint64_t)k % PAGE;
            continue;
        }
        /* Clients that write later say it later; find out before much is written. */
        if (written % (8 << 20) == 0 && fsync(fd)) {
            err = errno;
            failed = "fsync";
        }
        beat(p);
    }
    /* Each of these may be the first to say it, and all are asked. */
    if (fsync(fd) && !failed) {
        err = errno;
        failed = "fsync";
    }
    if (close(fd) && !failed) {
        err = errno;
        failed = "close";
    }
    free(block);
    if (p->sh->stop)
        return;
    if (failed) {
        if (err != ENOSPC && err != EDQUOT && err != EFBIG) {
            errno = err;
            trouble(p, "--fill: %s of %s/%s failed with something else than a full disk", failed,
                    p->a.dir, name);
        }
        /* What a failed write leaves behind is not defined; that it was told is what counts. */
        return;
    }
    missing(p,
            p->s.dir   ? &p->s
            : p->b.dir ? &p->b
                       : &p->a,
            name, (long)(written / PAGE), 1, LOST_ERROR, "after the file system was filled");
}

static void command(struct probe *p, const char *option, const char *cmd)
{
    if (t_run(cmd)) {
        errno = 0;
        trouble(p, "%s: the command failed: %s", option, cmd);
    }
    beat(p);
}

#define BREAK_PAGES 16

static bool store(struct probe *p, const char *name, int fd, uint64_t seq, bool mapped)
{
    uint64_t buf[PAGE / 8];
    char *m = mapped ? file_map(p, &p->a, name, fd, 0, BREAK_PAGES * PAGE, true) : NULL;
    bool told = false;

    for (long i = 0; i < BREAK_PAGES; i++) {
        struct rec_id id = id_of(p, i, seq);
        rec_make(buf, PAGE, &id);
        if (m)
            memcpy(m + id.offset, buf, PAGE);
        else if (pwrite(fd, buf, PAGE, (off_t)id.offset) != PAGE)
            told = true;
        count(&res(p)->writes);
    }
    if (m) {
        if (msync(m, BREAK_PAGES * PAGE, MS_SYNC))
            told = true;
        file_unmap(m, BREAK_PAGES * PAGE);
    }
    return told;
}

void check_break(struct probe *p)
{
    const struct way *where = p->s.dir ? &p->s : p->b.dir ? &p->b : &p->a;
    const char *name = file_make(p, "break", BREAK_PAGES * PAGE);
    uint64_t seq = 0;

    while (another_round(p)) {
        bool mapped = p->a.map && res(p)->rounds % 2 == 0;
        int fd = file_open(p, &p->a, name, O_RDWR);
        bool told;

        tick(p);
        command(p, "--break", p->break_cmd);
        told = store(p, name, fd, ++seq, mapped);
        /* Every second time only close is left to say it. */
        if (!mapped && res(p)->rounds % 4 == 1 && fsync(fd))
            told = true;
        if (close(fd))
            told = true;
        if (!told)
            missing(p, where, name, BREAK_PAGES, seq, LOST_ERROR, "while the server refuses");
        command(p, "--mend", p->mend_cmd);
        /* An error told once is over, and what is written from now on is kept. */
        tick(p);
        fd = file_open(p, &p->a, name, O_RDWR);
        store(p, name, fd, ++seq, mapped);
        bool failed = fsync(fd) != 0;
        if (failed) /* of a retry before the mending */
            failed = fsync(fd) != 0;
        if (failed)
            trouble(p, "--mend: after it fsync of %s/%s still fails", p->a.dir, name);
        close(fd);
        missing(p, where, name, BREAK_PAGES, seq, LOST, "after the server was mended");
    }
}
