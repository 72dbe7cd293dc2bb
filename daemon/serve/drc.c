// SPDX-License-Identifier: Apache-2.0
/* Duplicate request cache; see the header. */
#include "daemon/serve/drc.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uthash.h>

#include "daemon/serve/internal.h"
#include "daemon/serve/siphash.h"

struct drc_key {
    uint8_t addr[16];
    uint32_t port, xid, prog, proc;
    uint64_t len, sum;
};

/*
 * States: busy (in the table or, after drc_clear, not: `orphan`), done (in the table and on the LRU
 * list). Busy entries are never evicted: their number is bounded by the calls in progress.
 */
struct drc_entry {
    struct drc_key key;
    bool busy, orphan;
    void *reply;
    size_t reply_len;
    struct conn *waiter;
    UT_hash_handle hh;
    TAILQ_ENTRY(drc_entry) lru;
};

struct drc {
    pthread_mutex_t lock;
    struct drc_entry *entries;
    TAILQ_HEAD(, drc_entry) lru; /* done entries, oldest first */
    unsigned done;
};

struct drc *drc_new(void)
{
    struct drc *drc = calloc(1, sizeof(*drc));

    if (drc) {
        pthread_mutex_init(&drc->lock, NULL);
        TAILQ_INIT(&drc->lru);
    }
    return drc;
}

static void entry_free(struct drc_entry *entry)
{
    if (entry->waiter)
        serve_conn_put(entry->waiter);
    free(entry->reply);
    free(entry);
}

void drc_clear(struct drc *drc)
{
    struct drc_entry *entry, *next;

    pthread_mutex_lock(&drc->lock);
    HASH_ITER (hh, drc->entries, entry, next) {
        HASH_DEL(drc->entries, entry);
        if (entry->busy) {
            entry->orphan = true;
        } else {
            TAILQ_REMOVE(&drc->lru, entry, lru);
            entry_free(entry);
        }
    }
    drc->done = 0;
    pthread_mutex_unlock(&drc->lock);
}

void drc_free(struct drc *drc)
{
    if (!drc)
        return;
    drc_clear(drc);
    pthread_mutex_destroy(&drc->lock);
    free(drc);
}

static void key_make(struct drc_key *key, const struct sockaddr_storage *peer, uint32_t xid,
                     uint32_t prog, uint32_t proc, const void *record, size_t len)
{
    static const uint8_t no_secret[16];

    memset(key, 0, sizeof(*key));
    if (peer->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)peer;
        memcpy(key->addr, &in6->sin6_addr, 16);
        key->port = in6->sin6_port;
    } else {
        const struct sockaddr_in *in = (const void *)peer;
        memcpy(key->addr, &in->sin_addr, 4);
        key->port = in->sin_port;
    }
    key->xid = xid;
    key->prog = prog;
    key->proc = proc;
    key->len = len;
    key->sum = siphash24(no_secret, record, len < 256 ? len : 256);
}

enum drc_verdict drc_begin(struct drc *drc, const struct sockaddr_storage *peer, uint32_t xid,
                           uint32_t prog, uint32_t proc, const void *record, size_t len,
                           struct conn *conn, struct drc_entry **out, void **reply,
                           size_t *reply_len)
{
    struct drc_key key;
    struct drc_entry *entry;
    struct conn *old = NULL;
    enum drc_verdict verdict = DRC_NEW;

    *out = NULL;
    key_make(&key, peer, xid, prog, proc, record, len);
    pthread_mutex_lock(&drc->lock);
    HASH_FIND(hh, drc->entries, &key, sizeof(key), entry);
    if (entry && entry->busy) {
        old = entry->waiter;
        entry->waiter = serve_conn_ref(conn);
        verdict = DRC_WAIT;
    } else if (entry && (*reply = malloc(entry->reply_len))) {
        memcpy(*reply, entry->reply, entry->reply_len);
        *reply_len = entry->reply_len;
        TAILQ_REMOVE(&drc->lru, entry, lru);
        TAILQ_INSERT_TAIL(&drc->lru, entry, lru);
        verdict = DRC_REPLAY;
    } else if (!entry && (entry = calloc(1, sizeof(*entry)))) {
        entry->key = key;
        entry->busy = true;
        HASH_ADD(hh, drc->entries, key, sizeof(entry->key), entry);
        *out = entry;
    }
    pthread_mutex_unlock(&drc->lock);
    if (old)
        serve_conn_put(old);
    return verdict;
}

struct conn *drc_done(struct drc *drc, struct drc_entry *entry, const void *reply, size_t len)
{
    struct conn *waiter;

    pthread_mutex_lock(&drc->lock);
    waiter = entry->waiter;
    entry->waiter = NULL;
    entry->reply = malloc(len);
    if (entry->orphan || !entry->reply) {
        if (!entry->orphan)
            HASH_DEL(drc->entries, entry);
        entry_free(entry);
    } else {
        memcpy(entry->reply, reply, len);
        entry->reply_len = len;
        entry->busy = false;
        TAILQ_INSERT_TAIL(&drc->lru, entry, lru);
        if (++drc->done > DRC_ENTRIES) {
            struct drc_entry *oldest = TAILQ_FIRST(&drc->lru);
            TAILQ_REMOVE(&drc->lru, oldest, lru);
            HASH_DEL(drc->entries, oldest);
            entry_free(oldest);
            drc->done--;
        }
    }
    pthread_mutex_unlock(&drc->lock);
    return waiter;
}

struct conn *drc_abandon(struct drc *drc, struct drc_entry *entry)
{
    struct conn *waiter;

    pthread_mutex_lock(&drc->lock);
    waiter = entry->waiter;
    entry->waiter = NULL;
    if (!entry->orphan)
        HASH_DEL(drc->entries, entry);
    entry_free(entry);
    pthread_mutex_unlock(&drc->lock);
    return waiter;
}
