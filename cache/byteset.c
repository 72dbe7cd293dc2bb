// SPDX-License-Identifier: Apache-2.0
/*
 * Sets of bytes of a page; see byteset.h for the three forms.
 *
 * Every operation that can leave a mask behind ends in fold(), which turns a mask that holds one
 * range, or nothing, back into a word. Masks are arrays of 64 words of 64 bits.
 */
#include "cache/byteset.h"

#include <string.h>

#include "cache/internal.h"

#define MASK_BIT   0x80000000u
#define MASK_WORDS (PAGE_SIZE / 64)

static bool is_mask(byteset s)
{
    return s & MASK_BIT;
}

static uint64_t *words(struct cache *c, byteset s)
{
    return mask_at(c, s & ~MASK_BIT);
}

static byteset range(uint32_t lo, uint32_t hi)
{
    return lo < hi ? hi << 13 | lo : BYTESET_EMPTY;
}

static uint32_t range_lo(byteset s)
{
    return s & 0x1fff;
}

static uint32_t range_hi(byteset s)
{
    return s >> 13 & 0x1fff;
}

static void words_fill(uint64_t *w, uint32_t lo, uint32_t hi, bool set)
{
    while (lo < hi) {
        uint32_t bit = lo % 64, n = 64 - bit < hi - lo ? 64 - bit : hi - lo;
        uint64_t m = (n == 64 ? ~0ull : ((1ull << n) - 1)) << bit;

        if (set)
            w[lo / 64] |= m;
        else
            w[lo / 64] &= ~m;
        lo += n;
    }
}

/* First bit at or after `from` that equals `set`, or PAGE_SIZE. */
static uint32_t words_next(const uint64_t *w, uint32_t from, bool set)
{
    while (from < PAGE_SIZE) {
        uint64_t v = (set ? w[from / 64] : ~w[from / 64]) >> from % 64;

        if (v)
            return from + (uint32_t)__builtin_ctzll(v);
        from = (from / 64 + 1) * 64;
    }
    return PAGE_SIZE;
}

static void to_mask(struct cache *c, byteset *s)
{
    if (is_mask(*s))
        return;

    uint32_t m = mask_alloc(c); /* zeroed */

    words_fill(mask_at(c, m), range_lo(*s), range_hi(*s), true);
    *s = MASK_BIT | m;
}

static void fold(struct cache *c, byteset *s)
{
    uint64_t *w = words(c, *s);
    uint32_t lo = words_next(w, 0, true), hi = words_next(w, lo, false);

    if (lo < PAGE_SIZE && words_next(w, hi, true) < PAGE_SIZE)
        return;
    mask_free(c, *s & ~MASK_BIT);
    *s = range(lo, hi);
}

void byteset_clear(struct cache *c, byteset *s)
{
    if (is_mask(*s))
        mask_free(c, *s & ~MASK_BIT);
    *s = BYTESET_EMPTY;
}

void byteset_add(struct cache *c, byteset *s, uint32_t lo, uint32_t hi)
{
    if (lo >= hi)
        return;
    if (lo == 0 && hi == PAGE_SIZE) {
        byteset_clear(c, s);
        *s = BYTESET_FULL;
        return;
    }
    if (!is_mask(*s)) {
        uint32_t a = range_lo(*s), b = range_hi(*s);

        if (byteset_empty(*s) || (lo <= b && a <= hi)) {
            if (!byteset_empty(*s)) {
                lo = a < lo ? a : lo;
                hi = b > hi ? b : hi;
            }
            *s = range(lo, hi);
            return;
        }
        to_mask(c, s);
    }
    words_fill(words(c, *s), lo, hi, true);
    fold(c, s);
}

void byteset_remove(struct cache *c, byteset *s, uint32_t lo, uint32_t hi)
{
    if (lo >= hi || byteset_empty(*s))
        return;
    if (!is_mask(*s)) {
        uint32_t a = range_lo(*s), b = range_hi(*s);

        if (hi <= a || b <= lo)
            return;
        if (lo <= a || b <= hi) {
            *s = lo <= a ? range(hi, b) : range(a, lo);
            return;
        }
        to_mask(c, s);
    }
    words_fill(words(c, *s), lo, hi, false);
    fold(c, s);
}

void byteset_or(struct cache *c, byteset *to, byteset from)
{
    if (!is_mask(from)) {
        byteset_add(c, to, range_lo(from), range_hi(from));
        return;
    }
    if (byteset_full(*to))
        return;
    to_mask(c, to);

    uint64_t *a = words(c, *to);
    const uint64_t *b = words(c, from);

    for (unsigned i = 0; i < MASK_WORDS; i++)
        a[i] |= b[i];
    fold(c, to);
}

void byteset_move(struct cache *c, byteset *to, byteset *from)
{
    if (byteset_empty(*to)) {
        *to = *from;
        *from = BYTESET_EMPTY;
        return;
    }
    byteset_or(c, to, *from);
    byteset_clear(c, from);
}

void byteset_subtract(struct cache *c, byteset *s, byteset other)
{
    if (!is_mask(other)) {
        byteset_remove(c, s, range_lo(other), range_hi(other));
        return;
    }
    if (byteset_empty(*s))
        return;
    to_mask(c, s);

    uint64_t *a = words(c, *s);
    const uint64_t *b = words(c, other);

    for (unsigned i = 0; i < MASK_WORDS; i++)
        a[i] &= ~b[i];
    fold(c, s);
}

byteset byteset_dup(struct cache *c, byteset s)
{
    byteset d = BYTESET_EMPTY;

    byteset_or(c, &d, s);
    return d;
}

bool byteset_run(struct cache *c, byteset s, uint32_t from, uint32_t *lo, uint32_t *hi)
{
    if (is_mask(s)) {
        const uint64_t *w = words(c, s);

        *lo = words_next(w, from, true);
        *hi = words_next(w, *lo, false);
    } else {
        *lo = range_lo(s) > from ? range_lo(s) : from;
        *hi = range_hi(s);
    }
    return *lo < *hi;
}

bool byteset_contains(struct cache *c, byteset s, uint32_t lo, uint32_t hi)
{
    uint32_t a, b;

    return lo >= hi || (byteset_run(c, s, lo, &a, &b) && a == lo && b >= hi);
}

uint32_t byteset_count(struct cache *c, byteset s)
{
    if (!is_mask(s))
        return range_hi(s) - range_lo(s);

    uint32_t n = 0;
    const uint64_t *w = words(c, s);

    for (unsigned i = 0; i < MASK_WORDS; i++)
        n += (uint32_t)__builtin_popcountll(w[i]);
    return n;
}

void byteset_migrate(struct cache *c, byteset *s)
{
    if (!is_mask(*s) || !mask_goes(c, *s & ~MASK_BIT))
        return;

    uint32_t m = mask_alloc(c);

    memcpy(mask_at(c, m), words(c, *s), PAGE_SIZE / 8);
    mask_free(c, *s & ~MASK_BIT);
    *s = MASK_BIT | m;
}
