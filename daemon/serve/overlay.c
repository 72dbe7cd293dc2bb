// SPDX-License-Identifier: Apache-2.0
/* Uncommitted bytes of a file; see the header. */
#include "daemon/serve/overlay.h"

#include <Judy.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHUNK_SHIFT 16
#define CHUNK_SIZE  (1U << CHUNK_SHIFT)
#define CHUNK_POOL  4096 /* free chunks kept: 256 MiB; fresh memory costs a fault per 4 KiB */
#define FLUSH_IOV   64

struct range {
    uint32_t start, end; /* within the chunk, end exclusive */
};

struct chunk {
    uint8_t *data;
    struct range *ranges; /* sorted, neither overlapping nor touching */
    uint32_t nranges, cap;
};

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *pool[CHUNK_POOL];
static unsigned pool_count;

static uint8_t *chunk_data_get(void)
{
    uint8_t *data = NULL;

    pthread_mutex_lock(&pool_lock);
    if (pool_count)
        data = pool[--pool_count];
    pthread_mutex_unlock(&pool_lock);
    return data ? data : malloc(CHUNK_SIZE);
}

static void chunk_free(struct overlay *ov, struct chunk *chunk)
{
    pthread_mutex_lock(&pool_lock);
    if (pool_count < CHUNK_POOL) {
        pool[pool_count++] = chunk->data;
        chunk->data = NULL;
    }
    pthread_mutex_unlock(&pool_lock);
    free(chunk->data);
    free(chunk->ranges);
    free(chunk);
    ov->memory -= CHUNK_SIZE;
}

static struct chunk *chunk_get(struct overlay *ov, uint64_t index)
{
    struct chunk **slot = (struct chunk **)JudyLIns(&ov->chunks, index, PJE0);
    struct chunk *chunk;

    if ((void *)slot == (void *)PPJERR)
        return NULL;
    if (*slot)
        return *slot;
    chunk = calloc(1, sizeof(*chunk));
    if (!chunk || !(chunk->data = chunk_data_get())) {
        free(chunk);
        JudyLDel(&ov->chunks, index, PJE0);
        return NULL;
    }
    *slot = chunk;
    ov->memory += CHUNK_SIZE;
    return chunk;
}

/* Make [start, end) valid: merge it with every range that it overlaps or touches. */
static int chunk_mark(struct chunk *chunk, uint32_t start, uint32_t end)
{
    uint32_t lo = 0, hi;

    /* The list is short; the common case, appending to its last range, is found first. */
    if (chunk->nranges && chunk->ranges[chunk->nranges - 1].start <= start)
        lo = chunk->nranges - 1;
    while (lo < chunk->nranges && chunk->ranges[lo].end < start)
        lo++;
    for (hi = lo; hi < chunk->nranges && chunk->ranges[hi].start <= end; hi++) {
        if (chunk->ranges[hi].start < start)
            start = chunk->ranges[hi].start;
        if (chunk->ranges[hi].end > end)
            end = chunk->ranges[hi].end;
    }
    if (hi == lo) {
        if (chunk->nranges == chunk->cap) {
            uint32_t cap = chunk->cap ? chunk->cap * 2 : 4;
            struct range *more = realloc(chunk->ranges, cap * sizeof(*more));
            if (!more)
                return -ENOMEM;
            chunk->ranges = more;
            chunk->cap = cap;
        }
        memmove(chunk->ranges + lo + 1, chunk->ranges + lo,
                (chunk->nranges - lo) * sizeof(struct range));
        chunk->nranges++;
    } else {
        memmove(chunk->ranges + lo + 1, chunk->ranges + hi,
                (chunk->nranges - hi) * sizeof(struct range));
        chunk->nranges -= hi - lo - 1;
    }
    chunk->ranges[lo] = (struct range){start, end};
    return 0;
}

bool overlay_empty(const struct overlay *ov)
{
    return ov->chunks == NULL;
}

int overlay_write(struct overlay *ov, uint64_t off, const void *data, size_t len)
{
    const uint8_t *from = data;

    while (len > 0) {
        uint32_t in = (uint32_t)(off & (CHUNK_SIZE - 1));
        uint32_t part = CHUNK_SIZE - in < len ? CHUNK_SIZE - in : (uint32_t)len;
        struct chunk *chunk = chunk_get(ov, off >> CHUNK_SHIFT);

        if (!chunk || chunk_mark(chunk, in, in + part) != 0)
            return -ENOMEM;
        memcpy(chunk->data + in, from, part);
        off += part;
        from += part;
        len -= part;
        if (off > ov->end)
            ov->end = off;
    }
    return 0;
}

void overlay_patch(const struct overlay *ov, uint64_t off, void *buf, size_t len)
{
    uint64_t end = off + len;
    Word_t index = off >> CHUNK_SHIFT;
    struct chunk **slot = (struct chunk **)JudyLFirst(ov->chunks, &index, PJE0);

    for (; slot && (index << CHUNK_SHIFT) < end;
         slot = (struct chunk **)JudyLNext(ov->chunks, &index, PJE0)) {
        uint64_t base = (uint64_t)index << CHUNK_SHIFT;
        const struct chunk *chunk = *slot;

        for (uint32_t i = 0; i < chunk->nranges; i++) {
            uint64_t s = base + chunk->ranges[i].start, e = base + chunk->ranges[i].end;
            if (s < off)
                s = off;
            if (e > end)
                e = end;
            if (s < e)
                memcpy((uint8_t *)buf + (s - off), chunk->data + (s - base), e - s);
        }
    }
}

void overlay_truncate(struct overlay *ov, uint64_t size)
{
    Word_t index = (Word_t)-1;
    struct chunk **slot = (struct chunk **)JudyLLast(ov->chunks, &index, PJE0);

    while (slot && ((uint64_t)index << CHUNK_SHIFT) + CHUNK_SIZE > size) {
        struct chunk *chunk = *slot;
        uint64_t base = (uint64_t)index << CHUNK_SHIFT;

        uint32_t keep = size > base ? (uint32_t)(size - base) : 0;
        while (chunk->nranges && chunk->ranges[chunk->nranges - 1].start >= keep)
            chunk->nranges--;
        if (chunk->nranges && chunk->ranges[chunk->nranges - 1].end > keep)
            chunk->ranges[chunk->nranges - 1].end = keep;
        if (chunk->nranges == 0) {
            JudyLDel(&ov->chunks, index, PJE0);
            chunk_free(ov, chunk);
        }
        slot = (struct chunk **)JudyLPrev(ov->chunks, &index, PJE0);
    }
    if (ov->end > size)
        ov->end = size;
    if (overlay_empty(ov))
        ov->end = 0;
}

static int write_all(int fd, struct iovec *iov, int count, uint64_t off)
{
    while (count > 0) {
        ssize_t n = pwritev(fd, iov, count, (off_t)off);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        if (n == 0)
            return -EIO;
        off += (uint64_t)n;
        while (count > 0 && (size_t)n >= iov->iov_len) {
            n -= (ssize_t)iov->iov_len;
            iov++;
            count--;
        }
        if (count > 0) {
            iov->iov_base = (char *)iov->iov_base + n;
            iov->iov_len -= (size_t)n;
        }
    }
    return 0;
}

int overlay_flush(struct overlay *ov, int fd)
{
    struct iovec iov[FLUSH_IOV];
    int count = 0, rc = 0;
    uint64_t start = 0, next = 0;
    Word_t index = 0;
    struct chunk **slot = (struct chunk **)JudyLFirst(ov->chunks, &index, PJE0);

    for (; slot && rc == 0; slot = (struct chunk **)JudyLNext(ov->chunks, &index, PJE0)) {
        uint64_t base = (uint64_t)index << CHUNK_SHIFT;
        const struct chunk *chunk = *slot;

        for (uint32_t i = 0; i < chunk->nranges && rc == 0; i++) {
            uint64_t s = base + chunk->ranges[i].start;
            uint32_t len = chunk->ranges[i].end - chunk->ranges[i].start;
            if (count == FLUSH_IOV || (count && s != next)) {
                rc = write_all(fd, iov, count, start);
                count = 0;
            }
            if (count == 0)
                start = s;
            iov[count++] = (struct iovec){chunk->data + chunk->ranges[i].start, len};
            next = s + len;
        }
    }
    if (rc == 0 && count)
        rc = write_all(fd, iov, count, start);
    if (rc == 0)
        overlay_drop(ov);
    return rc;
}

void overlay_drop(struct overlay *ov)
{
    Word_t index = 0;
    struct chunk **slot = (struct chunk **)JudyLFirst(ov->chunks, &index, PJE0);

    for (; slot; slot = (struct chunk **)JudyLNext(ov->chunks, &index, PJE0))
        chunk_free(ov, *slot);
    JudyLFreeArray(&ov->chunks, PJE0);
    ov->end = 0;
}
