// SPDX-License-Identifier: Apache-2.0
/*
 * A cache without a mount: what `bench cache` measures. Files of a server in memory that has no
 * content, no round trip and never fails, and a kernel that holds nothing.
 *
 * A call of the cache to its server is put on a list of the thread that made it, which answers it
 * in rig_answer(): so one thread alone sees the whole path, with no hand-over, and no memory is
 * touched but the cache's own. Calls of other threads (the cache's helpers) are answered by a
 * thread of the rig.
 */
#ifndef NFSCACHED_DAEMON_BENCH_CACHE_RIG_H
#define NFSCACHED_DAEMON_BENCH_CACHE_RIG_H

#include <pthread.h>

#include "cache/cache.h"
#include "cache/page.h"

struct rig_file {
    struct rig *rig;
    struct mapping *m;
    _Atomic uint64_t size, ticks; /* the server's; ticks: of the change token */
};

struct rig_call; /* of the cache to its server */

struct rig {
    struct arena arena;
    struct cache *c;
    struct rig_file *file;
    uint32_t files;
    pthread_t server;
    pthread_mutex_t lock;
    pthread_cond_t called;
    struct rig_call *calls, **tail;
    bool stopping;
};

/* A cache of `bytes` (pages and their metadata) with `files` files of `size` bytes. `dirty_limit`:
 * bytes; nothing is written back before unless asked for. 0 or negative errno. */
int rig_open(struct rig *r, uint64_t bytes, uint32_t files, uint64_t size, uint64_t dirty_limit);
/* Nothing may be dirty. */
void rig_close(struct rig *r);
/* Pages that it holds at most. */
uint32_t rig_capacity(struct rig *r);

/* Between the two, calls that this thread causes wait for its rig_answer(). */
void rig_thread_begin(void);
void rig_thread_end(void);
void rig_answer(void);

struct rig_read {
    struct cache_read r;
    atomic_bool done;
    uint64_t waits; /* READs that had to wait for more than their fetch: for memory */
};

/* One READ or WRITE from begin to end: through cache_read() and, if it has to wait, rig_answer().
 * True: it was there (READ). `r` is zero at first, and may be used again and again. */
bool rig_read(struct rig_file *f, struct rig_read *r, uint64_t offset, uint32_t count);
void rig_write(struct rig_file *f, uint64_t offset, const void *data, uint32_t count,
               enum cache_write_kind kind);
/* Writes back and commits what is dirty of a file. */
void rig_sync(struct rig_file *f);
/* What GETATTR would say. */
struct attr rig_attr(const struct rig_file *f);

#endif
