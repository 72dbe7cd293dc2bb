// SPDX-License-Identifier: Apache-2.0
/*
 * The policies; see cache_policy.h.
 *
 *   LRU      evicts what was used longest ago
 *   SIEVE    a FIFO; a hand walks from old to young, spares what was visited since it came by, and
 *            stays where it is (Zhang et al., NSDI 2024)
 *   S3-FIFO  a small FIFO before the main one, and a FIFO of ghosts as long as the main one (Yang
 *            et al., SOSP 2023, algorithm 1). Ours differs: the ghosts are a table of fingerprints
 *            in buckets, the small queue may shrink to nothing, dirty pages are on no queue.
 *   OPT      evicts what is used again last (Belady 1966): nobody can do better
 */
#include "daemon/bench/cache_policy.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

/* ---- a list of keys: the link of a key is in arrays, by key ---- */

struct links {
    uint32_t *older, *younger;
};

struct fifo {
    uint32_t youngest, oldest, count;
};

static void push(const struct links *l, struct fifo *f, uint32_t k)
{
    l->older[k] = f->youngest;
    l->younger[k] = NONE;
    if (f->youngest != NONE)
        l->younger[f->youngest] = k;
    else
        f->oldest = k;
    f->youngest = k;
    f->count++;
}

static void pull(const struct links *l, struct fifo *f, uint32_t k)
{
    if (l->younger[k] != NONE)
        l->older[l->younger[k]] = l->older[k];
    else
        f->youngest = l->older[k];
    if (l->older[k] != NONE)
        l->younger[l->older[k]] = l->younger[k];
    else
        f->oldest = l->younger[k];
    f->count--;
}

/* What all of them keep of a key. */
struct sim {
    struct links l;
    uint8_t *where; /* 0: not there; otherwise the policy's */
    uint8_t *freq;
};

static void sim_free(struct sim *s)
{
    free(s->l.older);
    free(s->l.younger);
    free(s->where);
    free(s->freq);
}

static int sim_init(struct sim *s, uint32_t universe)
{
    *s = (struct sim){
        .l = {malloc(universe * sizeof(uint32_t)), malloc(universe * sizeof(uint32_t))},
        .where = calloc(universe, 1),
        .freq = calloc(universe, 1)};
    if (s->l.older && s->l.younger && s->where && s->freq)
        return 0;
    sim_free(s);
    return -ENOMEM;
}

static int64_t lru_hits(const struct trace *t, uint32_t capacity)
{
    struct fifo q = {NONE, NONE, 0};
    struct sim s;
    int64_t hits = 0;

    if (sim_init(&s, t->universe))
        return -ENOMEM;
    for (size_t i = 0; i < t->n; i++) {
        uint32_t k = t->key[i];

        if (s.where[k]) {
            hits++;
            pull(&s.l, &q, k);
        } else if (q.count == capacity) {
            uint32_t victim = q.oldest;

            s.where[victim] = 0;
            pull(&s.l, &q, victim);
        }
        s.where[k] = 1;
        push(&s.l, &q, k);
    }
    sim_free(&s);
    return hits;
}

static int64_t sieve_hits(const struct trace *t, uint32_t capacity)
{
    struct fifo q = {NONE, NONE, 0};
    uint32_t hand = NONE;
    struct sim s;
    int64_t hits = 0;

    if (sim_init(&s, t->universe))
        return -ENOMEM;
    for (size_t i = 0; i < t->n; i++) {
        uint32_t k = t->key[i];

        if (s.where[k]) {
            hits++;
            s.freq[k] = 1;
            continue;
        }
        if (q.count == capacity) {
            uint32_t victim = hand != NONE ? hand : q.oldest;

            while (s.freq[victim]) {
                s.freq[victim] = 0;
                victim = s.l.younger[victim] != NONE ? s.l.younger[victim] : q.oldest;
            }
            hand = s.l.younger[victim];
            s.where[victim] = 0;
            pull(&s.l, &q, victim);
        }
        s.where[k] = 1;
        s.freq[k] = 0;
        push(&s.l, &q, k);
    }
    sim_free(&s);
    return hits;
}

/* ---- S3-FIFO ---- */

enum { SMALL = 1, MAIN = 2, GHOST = 3 };

struct s3 {
    struct sim s;
    struct fifo small, main, ghost;
    uint32_t main_size, small_size;
};

static void s3_move(struct s3 *c, struct fifo *from, struct fifo *to, uint32_t k, uint8_t where)
{
    if (from)
        pull(&c->s.l, from, k);
    c->s.where[k] = where;
    c->s.freq[k] = where == GHOST ? 0 : c->s.freq[k];
    if (to)
        push(&c->s.l, to, k);
}

static void s3_evict_main(struct s3 *c)
{
    for (;;) {
        uint32_t k = c->main.oldest;

        if (!c->s.freq[k]) {
            s3_move(c, &c->main, NULL, k, 0);
            return;
        }
        c->s.freq[k]--;
        s3_move(c, &c->main, &c->main, k, MAIN);
    }
}

static void s3_evict(struct s3 *c)
{
    while (c->small.count && (c->small.count >= c->small_size || !c->main.count)) {
        uint32_t k = c->small.oldest;

        if (c->s.freq[k] > 1) {
            c->s.freq[k] = 0;
            s3_move(c, &c->small, &c->main, k, MAIN);
            if (c->main.count > c->main_size) {
                s3_evict_main(c);
                return;
            }
            continue;
        }
        if (c->ghost.count == c->main_size)
            s3_move(c, &c->ghost, NULL, c->ghost.oldest, 0);
        s3_move(c, &c->small, &c->ghost, k, GHOST);
        return;
    }
    s3_evict_main(c);
}

static int64_t s3_hits(const struct trace *t, uint32_t capacity)
{
    struct s3 c = {.small = {NONE, NONE, 0}, .main = {NONE, NONE, 0}, .ghost = {NONE, NONE, 0}};
    int64_t hits = 0;

    c.small_size = capacity / 10 ? capacity / 10 : 1;
    c.main_size = capacity - c.small_size;
    if (sim_init(&c.s, t->universe))
        return -ENOMEM;
    for (size_t i = 0; i < t->n; i++) {
        uint32_t k = t->key[i];

        if (c.s.where[k] == SMALL || c.s.where[k] == MAIN) {
            hits++;
            if (c.s.freq[k] < 3)
                c.s.freq[k]++;
            continue;
        }
        while (c.small.count + c.main.count >= capacity)
            s3_evict(&c);
        /* Evicting may have pushed its ghost out. */
        if (c.s.where[k] == GHOST)
            s3_move(&c, &c.ghost, &c.main, k, MAIN);
        else
            s3_move(&c, NULL, &c.small, k, SMALL);
        c.s.freq[k] = 0;
    }
    sim_free(&c.s);
    return hits;
}

/* ---- the optimum ---- */

struct use {
    size_t next; /* when it is used again */
    uint32_t key;
};

/* A heap, the last next use on top. */
static void heap_push(struct use *h, size_t *n, struct use u)
{
    size_t i = (*n)++;

    for (; i && h[(i - 1) / 2].next < u.next; i = (i - 1) / 2)
        h[i] = h[(i - 1) / 2];
    h[i] = u;
}

static struct use heap_pop(struct use *h, size_t *n)
{
    struct use top = h[0], last = h[--*n];
    size_t i = 0;

    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && h[child + 1].next > h[child].next)
            child++;
        if (h[child].next <= last.next)
            break;
        h[i] = h[child];
    }
    h[i] = last;
    return top;
}

static int64_t opt_hits(const struct trace *t, uint32_t capacity)
{
    /* next[i]: when the page of access i is used again; due[k]: the same of a page that is there */
    size_t *next = malloc(t->n * sizeof *next), *due = malloc(t->universe * sizeof *due);
    struct use *heap = malloc(t->n * sizeof *heap);
    uint8_t *there = calloc(t->universe, 1);
    size_t in_heap = 0;
    uint32_t count = 0;
    int64_t hits = 0;

    if (!next || !due || !heap || !there) {
        hits = -ENOMEM;
        goto out;
    }
    for (uint32_t k = 0; k < t->universe; k++)
        due[k] = SIZE_MAX;
    for (size_t i = t->n; i-- > 0;) {
        next[i] = due[t->key[i]];
        due[t->key[i]] = i;
    }
    for (size_t i = 0; i < t->n; i++) {
        uint32_t k = t->key[i];

        if (there[k]) {
            hits++;
        } else {
            if (count == capacity) {
                struct use u;

                do { /* entries of pages that were used since, or are gone, are old */
                    u = heap_pop(heap, &in_heap);
                } while (!there[u.key] || due[u.key] != u.next);
                there[u.key] = 0;
                count--;
            }
            there[k] = 1;
            count++;
        }
        due[k] = next[i];
        heap_push(heap, &in_heap, (struct use){next[i], k});
    }
out:
    free(next);
    free(due);
    free(heap);
    free(there);
    return hits;
}

const struct policy policies[] = {
    {"LRU", "what every textbook begins with", lru_hits},
    {"SIEVE", "NSDI 2024", sieve_hits},
    {"S3-FIFO", "SOSP 2023", s3_hits},
    {"OPT", "Belady 1966", opt_hits},
    {0},
};
