// SPDX-License-Identifier: Apache-2.0
/* A map of indexes; see indexmap.h. */
#include "cache/indexmap.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define WORD 64u
#define FULL UINT64_MAX

static uint32_t words(uint32_t bits)
{
    return (bits + WORD - 1) / WORD;
}

int indexmap_init(struct indexmap *m, uint32_t count)
{
    uint32_t n[INDEXMAP_LEVELS], bits = count;
    size_t total = 0;

    *m = (struct indexmap){.count = count, .touched = 1};
    do {
        n[m->levels] = words(bits);
        total += n[m->levels];
        bits = n[m->levels++];
    } while (bits > 1);
    m->bytes = total * sizeof(uint64_t);

    uint64_t *at = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED) {
        *m = (struct indexmap){0};
        return -ENOMEM;
    }
    bits = count;
    for (unsigned l = 0; l < m->levels; l++) {
        m->level[l] = at;
        at += n[l];
        /* What is beyond the end is never free. */
        if (bits % WORD)
            m->level[l][n[l] - 1] = FULL << bits % WORD;
        bits = n[l];
    }
    indexmap_take_this(m, 0);
    return 0;
}

void indexmap_destroy(struct indexmap *m)
{
    if (m->bytes)
        munmap(m->level[0], m->bytes);
    *m = (struct indexmap){0};
}

bool indexmap_taken(const struct indexmap *m, uint32_t index)
{
    return m->level[0][index / WORD] >> index % WORD & 1;
}

void indexmap_take_this(struct indexmap *m, uint32_t index)
{
    if (index >= m->touched)
        m->touched = index + 1;
    for (unsigned l = 0; l < m->levels; l++, index /= WORD) {
        uint64_t *w = &m->level[l][index / WORD];

        *w |= UINT64_C(1) << index % WORD;
        if (*w != FULL)
            return;
    }
}

uint32_t indexmap_take(struct indexmap *m, uint32_t below)
{
    uint32_t index = 0;

    for (unsigned l = m->levels; l-- > 0;) {
        uint64_t w = m->level[l][index];

        if (w == FULL)
            return 0;
        index = index * WORD + (uint32_t)__builtin_ctzll(~w);
    }
    if (index >= below)
        return 0;
    indexmap_take_this(m, index);
    return index;
}

void indexmap_put(struct indexmap *m, uint32_t index)
{
    assert(index && index < m->count && indexmap_taken(m, index));
    for (unsigned l = 0; l < m->levels; l++, index /= WORD) {
        uint64_t *w = &m->level[l][index / WORD];
        bool was_full = *w == FULL;

        *w &= ~(UINT64_C(1) << index % WORD);
        if (!was_full)
            return;
    }
}

uint32_t indexmap_take_run(struct indexmap *m, uint32_t from, uint32_t most, uint32_t *first)
{
    uint32_t at = from, n = 0;

    while (at < m->touched && indexmap_taken(m, at))
        at = m->level[0][at / WORD] == FULL ? (at / WORD + 1) * WORD : at + 1;
    *first = at;
    for (; at < m->touched && n < most && !indexmap_taken(m, at); at++, n++)
        indexmap_take_this(m, at);
    return n;
}

void indexmap_put_run(struct indexmap *m, uint32_t first, uint32_t n)
{
    while (n--)
        indexmap_put(m, first + n);
}
