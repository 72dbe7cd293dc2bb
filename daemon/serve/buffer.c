// SPDX-License-Identifier: Apache-2.0
/*
 * Buffers of records and of READ data. Above 64 KiB they are all of one size and kept in a small
 * pool: a fresh megabyte from the kernel for every call would cost 256 page faults.
 */
#include <stdlib.h>

#include "daemon/serve/internal.h"

#define BIG      (SERVE_MAX_RECORD + 4096)
#define BIG_FROM 65536
#define POOL     24

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static void *pool[POOL];
static unsigned pool_count;

void *serve_buf_get(size_t size, size_t *cap)
{
    void *buf = NULL;

    if (size <= BIG_FROM) {
        *cap = size;
        return malloc(size ? size : 1);
    }
    if (size > BIG)
        return NULL;
    *cap = BIG;
    pthread_mutex_lock(&pool_lock);
    if (pool_count)
        buf = pool[--pool_count];
    pthread_mutex_unlock(&pool_lock);
    return buf ? buf : malloc(BIG);
}

void serve_buf_put(void *buf, size_t cap)
{
    if (buf && cap == BIG) {
        pthread_mutex_lock(&pool_lock);
        if (pool_count < POOL) {
            pool[pool_count++] = buf;
            buf = NULL;
        }
        pthread_mutex_unlock(&pool_lock);
    }
    free(buf);
}

struct reply *serve_reply_new(size_t head_cap)
{
    struct reply *reply = calloc(1, sizeof(*reply));

    if (!reply)
        return NULL;
    reply->head = serve_buf_get(head_cap, &reply->head_cap);
    if (!reply->head) {
        free(reply);
        return NULL;
    }
    return reply;
}

void serve_reply_free(struct reply *reply)
{
    if (!reply)
        return;
    serve_buf_put(reply->head, reply->head_cap);
    serve_buf_put(reply->data, reply->data_cap);
    free(reply);
}
