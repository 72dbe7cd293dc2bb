// SPDX-License-Identifier: Apache-2.0
/*
 * Interned credentials: one record in the arena for each different one, found by a volatile hash.
 *
 * A record is immutable once published and lives as long as the mount, so credtab_get() takes no
 * lock; the hash is read far more often than it grows, hence a read-write lock (a leaf). The groups
 * count in the order they were given: they are the caller's, and a server may cut them off.
 */
#include "cache/arena.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <uthash.h>

#define CREDTAB_MAGIC 0x63726564u

struct cred_entry {
    struct cred cred; /* the key: unused groups are zero */
    uint16_t index;
    UT_hash_handle hh;
};

struct credtab {
    uint32_t magic;
    struct arena *arena;
    struct slab *slab;
    pthread_rwlock_t lock;
    struct cred_entry *by_cred;
};

static struct cred canonical(const struct cred *c)
{
    struct cred key = {.uid = c->uid, .gid = c->gid, .ngroups = c->ngroups};
    if (key.ngroups > CRED_GROUPS_MAX)
        key.ngroups = CRED_GROUPS_MAX;
    memcpy(key.groups, c->groups, key.ngroups * sizeof(key.groups[0]));
    return key;
}

static struct cred_entry *entry_find(struct credtab *t, const struct cred *key)
{
    struct cred_entry *e;
    HASH_FIND(hh, t->by_cred, key, sizeof(*key), e);
    return e;
}

static bool entry_add(struct credtab *t, const struct cred *key, uint32_t index)
{
    struct cred_entry *e = calloc(1, sizeof(*e));
    if (!e)
        return false;
    e->cred = *key;
    e->index = index;
    HASH_ADD(hh, t->by_cred, cred, sizeof(e->cred), e);
    return true;
}

/* The records that a predecessor published. */
static bool credtab_scan(struct credtab *t)
{
    uint32_t first, end;
    for (uint32_t from = 1; arena_next_data(t->arena, ARENA_CREDS, from, &first, &end); from = end)
        for (uint32_t i = first; i < end && i <= UINT16_MAX; i++) {
            struct cred_rec *rec = arena_at(t->arena, ARENA_CREDS, i);
            if (!atomic_load_explicit(&rec->live, memory_order_acquire))
                continue;
            struct cred key = canonical(&rec->cred);
            if (!entry_find(t, &key) && !entry_add(t, &key, i))
                return false;
        }
    return true;
}

struct credtab *credtab_new(struct arena *a)
{
    struct credtab *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->magic = CREDTAB_MAGIC;
    t->arena = a;
    pthread_rwlock_init(&t->lock, NULL);
    t->slab = slab_new(a, ARENA_CREDS);
    if (!t->slab || !credtab_scan(t)) {
        credtab_destroy(t);
        return NULL;
    }
    return t;
}

void credtab_destroy(struct credtab *t)
{
    if (!t)
        return;
    assert(t->magic == CREDTAB_MAGIC);
    t->magic = ~CREDTAB_MAGIC;
    struct cred_entry *e, *next;
    HASH_ITER (hh, t->by_cred, e, next) {
        HASH_DEL(t->by_cred, e);
        free(e);
    }
    slab_destroy(t->slab);
    pthread_rwlock_destroy(&t->lock);
    free(t);
}

/* Write lock held. */
static uint16_t credtab_add(struct credtab *t, const struct cred *key)
{
    uint32_t index = slab_alloc(t->slab);
    if (index == 0)
        return 0;
    if (index > UINT16_MAX || !entry_add(t, key, index)) {
        slab_free(t->slab, index);
        return 0;
    }
    struct cred_rec *rec = arena_at(t->arena, ARENA_CREDS, index);
    rec->cred = *key;
    slab_publish(&rec->live, 1);
    return index;
}

uint16_t credtab_intern(struct credtab *t, const struct cred *c)
{
    assert(t->magic == CREDTAB_MAGIC);
    struct cred key = canonical(c);
    pthread_rwlock_rdlock(&t->lock);
    struct cred_entry *e = entry_find(t, &key);
    uint16_t index = e ? e->index : 0;
    pthread_rwlock_unlock(&t->lock);
    if (index)
        return index;
    pthread_rwlock_wrlock(&t->lock);
    e = entry_find(t, &key);
    index = e ? e->index : credtab_add(t, &key);
    pthread_rwlock_unlock(&t->lock);
    return index;
}

const struct cred *credtab_get(struct credtab *t, uint16_t index)
{
    assert(t->magic == CREDTAB_MAGIC && index > 0);
    struct cred_rec *rec = arena_at(t->arena, ARENA_CREDS, index);
    assert(atomic_load_explicit(&rec->live, memory_order_acquire));
    return &rec->cred;
}
