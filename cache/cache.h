// SPDX-License-Identifier: Apache-2.0
/*
 * The page cache: pages, dirty tracking by the byte, writeback, revalidation, reclaim.
 *
 * cache/ knows neither FUSE nor NFS. It asks two small tables: the remote side (fetch, write,
 * commit, getattr: asynchronous, answered by cache_*_done()) and the kernel side (unmap: blocking,
 * called from helper threads only). That is what lets it run under a scheduler, a sanitizer or a
 * fuzzer without a mount.
 *
 * How a request flows. A READ that finds its pages returns at once with references to their frames;
 * one that does not is parked on the fetches it needs and its done() is called by whoever
 * completes the last of them. A WRITE never waits for the remote side: it copies, marks its bytes
 * dirty and returns; only memory, or the hard dirty limit, can park it. Writeback moves bytes from
 * dirty to in flight, from there to unstable, and COMMIT cleans them.
 *
 * Lock order: reval_lock (per mapping, helper threads only) > mapping lock > pool lock, wb lock.
 * No lock is held over a call into the kernel side, nor over a callback into fuse/ or daemon/, but
 * for busy() and hold(), which say so and wait for nothing. Remote calls may be issued under the
 * mapping lock: they never complete synchronously.
 *
 * Errors are negative errno.
 */
#ifndef NFSCACHED_CACHE_CACHE_H
#define NFSCACHED_CACHE_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "cache/arena.h"
#include "cache/attr.h"

struct cache;
struct mapping;

/* ---- the remote side ---------------------------------------------------------------------- */

/* One READ of contiguous bytes into frames. The cache owns it. */
struct cache_fetch {
    struct mapping *m;
    uint64_t offset;
    uint32_t count;
    const struct iovec *iov;
    int iovcnt;
    uint16_t cred;
    /* set by the remote side before cache_fetch_done() */
    uint32_t done;
    bool eof;
    int error;
};

/* One WRITE of contiguous bytes, which do not change until it is done. */
struct cache_write_rpc {
    struct mapping *m;
    uint64_t offset;
    uint32_t count;
    const struct iovec *iov;
    int iovcnt;
    bool file_sync; /* asked for */
    uint16_t cred;
    uint32_t done;  /* bytes that the server took; fewer than count is no error */
    bool committed; /* the server answered FILE_SYNC */
    uint8_t verf[8];
    bool has_pre;     /* pre-operation attributes came with the reply */
    struct token pre; /* ... (ctime, mtime, size) */
    bool has_post;
    struct attr post;
    uint64_t sent_ns;
    int error;
};

struct cache_commit {
    struct mapping *m;
    uint16_t cred;
    uint8_t verf[8];
    bool has_pre, has_post;
    struct token pre;
    struct attr post;
    uint64_t sent_ns;
    int error;
};

struct cache_getattr {
    struct mapping *m;
    struct attr attr;
    uint64_t sent_ns;
    int error;
    void (*done)(struct cache_getattr *g); /* set by the asker; in a loop's thread, no lock held */
    void *arg;
};

struct cache_remote_ops {
    void (*fetch)(void *ctx, struct cache_fetch *f);
    void (*write)(void *ctx, struct cache_write_rpc *w);
    void (*commit)(void *ctx, struct cache_commit *c);
    void (*getattr)(void *ctx, struct cache_getattr *g);
};

void cache_fetch_done(struct cache_fetch *f);
void cache_write_done(struct cache_write_rpc *w);
void cache_commit_done(struct cache_commit *c);

/* ---- the kernel side ---------------------------------------------------------------------- */

struct cache_kernel_ops {
    /* Pushes out what the kernel holds dirty of [off, off+len) (len 0: to the end), then drops its
     * copies and zaps its mappings. `writers`: a descriptor is open
     * for writing, so that completed write(2)s must be waited for (docs/protocol.md, section 5).
     * Blocking; helper threads only; no lock held. Every copy handed out before the call began is
     * gone when it returns, and every WRITE made from one was taken (before about 6.16 the kernel's
     * invalidation does not wait for a WRITE of a page that counts as clean: another fsync does). 0
     * or negative errno (-ENOTCONN: the mount is gone). */
    int (*unmap)(void *ctx, struct mapping *m, uint64_t off, uint64_t len, bool writers);
    /* The mapping became busy (has bytes that the server has not committed), or idle again: while
     * busy its host may not be freed. Calls are counted like references: each `true` (mapping lock
     * held) is followed by one `false` (no lock held), in any order between threads. */
    void (*busy)(void *ctx, struct mapping *m, bool busy);
    /* The server's attributes arrived with a WRITE or COMMIT reply. No lock held. */
    void (*post)(void *ctx, struct mapping *m, const struct attr *attr, uint64_t sent_ns);
    /* Is a token worth proving that an own change will leave now? False: whoever opens the file
     * next revalidates its pages all the same. Mapping lock held: waits for nothing. NULL: always.
     */
    bool (*worth_proving)(void *ctx, struct mapping *m);
};

enum cache_wcc { CACHE_WCC_STRICT, CACHE_WCC_BRACKET, CACHE_WCC_TRUST };

struct cache_config {
    uint64_t size;             /* bytes for pages and their metadata */
    uint64_t size_max;         /* what a resize may make of it; less than size: that */
    uint64_t dirty_limit;      /* bytes; writers wait above it */
    uint64_t dirty_background; /* bytes; writeback starts above it */
    uint64_t dirty_expire_ns;  /* age at which dirty bytes are written anyway */
    uint32_t rsize, wsize;     /* bytes of one READ, one WRITE */
    uint64_t readahead;        /* bytes ahead of a sequential reader at most; 0: none */
    uint32_t write_inflight;   /* bytes of WRITEs in flight at most (0: a default) */
    bool stable_writes;        /* copy what is written back, so that it cannot change under way */
    enum cache_wcc wcc;
    /* The kernel keeps what write(2) wrote, and sends it as mapped pages (FUSE_WRITEBACK_CACHE): no
     * twins are kept, and the dirty limit is theirs, too. For files that nobody else writes. */
    bool kernel_writeback;
};

/* The arena must have its regions for pages and frames sized by cache_arena_sizes(). */
void cache_arena_sizes(const struct cache_config *c, struct arena_sizes *sizes);
struct cache *cache_new(const struct cache_config *config, struct arena *arena,
                        struct credtab *creds, const struct cache_remote_ops *remote,
                        const struct cache_kernel_ops *kernel, void *ctx);
/* All mappings must be freed. */
void cache_free(struct cache *c);

/* ---- mappings ----------------------------------------------------------------------------- */

/* The pages of one file. `host` is the caller's object. */
struct mapping *mapping_new(struct cache *c, uint32_t inode, void *host, uint64_t size);
/* Nothing is left in it that a new one with this token and its size would not begin with: nothing
 * cached here or in the kernel, nothing under way, no error of the last attempt. Whoever may use
 * the mapping is kept away by the caller. Waits for nothing: false as well while a helper thread
 * looks at it. */
bool mapping_spent(struct mapping *m, const struct token *t);
/* Drops every page; the mapping must be idle (no I/O, nothing dirty). There may be another one of
 * the same inode by then. */
void mapping_free(struct mapping *m);
void *mapping_host(const struct mapping *m);

/* The local size: the server's, extended by bytes written here. What the kernel is told. Any
 * thread, lock-free. */
uint64_t mapping_size(const struct mapping *m);
/* While nothing is cached, here or in the kernel, token and size are simply the server's. False:
 * something is (a WRITE that comes in at the same time either shows, or comes after). The
 * caller answers for it that they are not older than the last own change. */
bool mapping_adopt(struct mapping *m, const struct token *t);
/* The kernel reads up to `end`. What lies beyond the last page of the file has no page here, but
 * the kernel keeps what it was answered: a revalidation has to unmap it. */
void mapping_given_beyond(struct mapping *m, uint64_t end);
/* True when any page is cached here or may be cached in the kernel. */
bool mapping_has_pages(struct mapping *m);
/* True when a byte is dirty, in flight or unstable. */
bool mapping_is_busy(struct mapping *m);
/* Any byte not yet sent and acknowledged (dirty or in flight). */
bool mapping_is_dirty(struct mapping *m);
/* Local time (CLOCK_REALTIME) of the last local write that the server has not seen; false: none. */
bool mapping_local_mtime(struct mapping *m, struct timespec *out);

/* Descriptors open for writing. The first writer must not see copies for which no twin was kept:
 * returns true if the caller has to unmap the file (helper thread) before it lets the open go on.
 */
bool mapping_writer_add(struct mapping *m);
void mapping_writer_remove(struct mapping *m);
/* Unmaps the whole file, with the bookkeeping of twins. Blocking; helper threads only. */
int mapping_unmap_all(struct mapping *m);

/* ---- reading ------------------------------------------------------------------------------ */

/* Position of a reader, one for each open file: feeds readahead. Zero-initialised. */
struct readahead {
    uint64_t next;   /* offset where the last READ ended */
    uint64_t ahead;  /* offset up to which fetches were issued */
    uint64_t prev;   /* offset of the READ before */
    int64_t stride;  /* distance of the last two READs */
    uint32_t window; /* bytes to keep in flight ahead */
    uint16_t run;    /* consecutive sequential, or same-stride, READs */
    uint16_t strides;
};

#define CACHE_READ_PAGES 257 /* 1 MiB that does not begin on a page */

struct cache_read {
    /* set by the caller */
    struct mapping *m;
    uint64_t offset;
    uint32_t count; /* at most 1 MiB */
    struct readahead
        *ra; /* NULL: none; the caller serialises READs of one file by the mapping lock */
    uint16_t cred;
    bool kernel; /* the kernel keeps a copy of what it is given (a buffered READ) */
    bool direct; /* go to the server, overlay local bytes, insert nothing (O_DIRECT) */
    bool nowait; /* -EAGAIN instead of asking the server: nothing was started */
    void (*done)(struct cache_read *r); /* after -EINPROGRESS: any loop's thread, no lock held */
    /* results */
    int error;
    uint32_t bytes; /* reaches to the local size */
    int iovcnt;
    struct iovec iov[CACHE_READ_PAGES];
    /* private */
    uint32_t frame[CACHE_READ_PAGES];
    uint32_t missing;
    bool starving;
    struct cache_read *next;
};

/* 0: iov is filled, frames are referenced; -EINPROGRESS: done() follows; other: an error. */
int cache_read(struct cache_read *r);
/* Gives the references back, after the bytes were used. */
void cache_read_release(struct cache_read *r);

/* ---- writing ------------------------------------------------------------------------------ */

enum cache_write_kind {
    CACHE_WRITE_CALL,   /* write(2): exactly these bytes */
    CACHE_WRITE_MAPPED, /* the kernel writes a mapped page back: compare with the twin */
    CACHE_WRITE_DIRECT, /* O_DIRECT: the kernel's copy does not take the bytes */
};

struct cache_write {
    struct mapping *m;
    uint64_t offset;
    uint32_t count;
    const void *data; /* must stay until 0 was returned or done() called */
    enum cache_write_kind kind;
    uint64_t unique; /* FUSE's request number: tells which of two WRITEs the kernel made first */
    uint16_t cred;
    bool nowait;       /* -EAGAIN instead of parking; `progress` bytes were taken */
    bool sync_follows; /* the caller syncs next: nothing is written behind before that */
    /* Becomes true when the kernel was told that the call failed (its caller was killed): what is
     * parked then would overwrite what others write later, and is left out. NULL: never. */
    const atomic_bool *given_up;
    /* Keeps the caller from being answered meanwhile, or lets it go again: false, it has been.
     * Called with the list of parked WRITEs locked. NULL: it never is before done(). */
    bool (*hold)(struct cache_write *w, bool on);
    void (*done)(struct cache_write *w);
    int error;
    uint32_t progress;
    /* private */
    struct cache_write *next;
};

/* 0: taken; -EINPROGRESS: parked for memory or by the dirty limit, done() follows. A mapped page
 * is never refused. */
int cache_write(struct cache_write *w);

/* ---- writing back ------------------------------------------------------------------------- */

struct cache_sync {
    struct mapping *m;
    void (*done)(struct cache_sync *s); /* any loop's thread, no lock held */
    int error;                          /* of this attempt */
    /* private */
    uint64_t pass;
    uint8_t phase;
    struct cache_sync *next;
};

/* Writes and commits every byte that was dirty at the call. Always asynchronous: 0 when nothing
 * was to do, -EINPROGRESS when done() follows. */
int cache_sync(struct cache_sync *s);
/* The same, waiting; helper threads only. */
int cache_sync_wait(struct mapping *m);
/* Starts writing a mapping back, waits for nothing. */
void mapping_kick(struct mapping *m);
/* The same for all. */
void cache_kick(struct cache *c);

/* Errors of writing back: a sequence that grows with each. `seen` is a descriptor's position: 0 if
 * nothing new, else the error, and `seen` moves (lib/errseq.c). */
uint64_t mapping_error_sample(struct mapping *m);
int mapping_error_check(struct mapping *m, uint64_t *seen);
/* The last error, 0 if the last attempt succeeded. */
int mapping_error_last(struct mapping *m);

/* ---- truncation --------------------------------------------------------------------------- */

/* In three steps around the server's SETATTR. Begin stops writeback of the mapping and calls
 * ready() when no WRITE is in flight (possibly at once, in this thread); then the caller sends
 * SETATTR; then it ends, with success or not. The kernel holds the inode lock meanwhile: nothing
 * here waits for an unmap. */
struct cache_truncate {
    struct mapping *m;
    uint64_t size;
    void (*ready)(struct cache_truncate *t); /* any loop's thread, no lock held */
    struct cache_truncate *next;
};
void cache_truncate_begin(struct cache_truncate *t);
void cache_truncate_end(struct cache_truncate *t, bool done);

/* ---- revalidation ------------------------------------------------------------------------- */

struct cache_reval_result {
    bool changed;
    uint64_t dropped, kept; /* pages */
};

/* The protocol of cache/revalidate.c. `cur` is what GETATTR just said, or NULL to ask. Blocking:
 * helper threads only, one at a time for each mapping (the others wait). `force`: treat as
 * changed. 0, or the error of asking (nothing was discarded then). */
int mapping_revalidate(struct mapping *m, const struct attr *cur, bool force,
                       struct cache_reval_result *result);
/* What the pages are known to match; or, if it is an assumed one, may match. */
struct token mapping_token(struct mapping *m);
/* Adopts a first token, or one proven to follow from ours by an own change. */
void mapping_set_token(struct mapping *m, const struct token *t);
/* An own operation took the file from `pre` to `post`: moves the token along, if it was at pre
 * (assumed stays assumed). True: it is at `post`. */
bool mapping_own_change(struct mapping *m, const struct token *pre, const struct token *post);

/* Drops clean pages here; what the kernel holds stays. Helper threads. Number dropped. */
uint64_t cache_drop_clean(struct cache *c);
/* Discards every byte of a mapping that the server has not committed, by name of a person; also
 * those of a WRITE or COMMIT under way, should it fail. Number of bytes. */
uint64_t mapping_discard(struct mapping *m);
/* Bytes of a mapping that the server has not committed. Counts by walking them. */
uint64_t mapping_dirty_bytes(struct mapping *m);

/* ---- another size, while it is in use ----------------------------------------------------- */

struct cache_resize {
    uint64_t size;                          /* as in cache_config */
    uint64_t dirty_limit, dirty_background; /* ... for that size */
    /* results */
    uint64_t was, reached; /* bytes */
    uint64_t moved;        /* pages */
    uint64_t evicted;
    uint64_t returned; /* bytes of memory that the system has again */
    /* private */
    bool stop;
};

/* Gives the cache another size; what does not fit is evicted, written back if need be, and what
 * lies in memory that goes is moved (resize.c). Blocks until the memory is returned to the system,
 * which a server that is away can keep it from; helper threads only. 0; -EBUSY: another is under
 * way; -ERANGE: above size_max; -ENOMEM; -EINTR: cache_resize_stop(), `reached` says what it is now
 * and the limits are still those for `size` (cache_set_limits()). */
int cache_resize(struct cache *c, struct cache_resize *r);
/* Ends one that is under way; any thread. False: there was none. */
bool cache_resize_stop(struct cache *c);
void cache_set_limits(struct cache *c, uint64_t dirty_limit, uint64_t dirty_background);

struct cache_resize_state {
    bool running;
    uint64_t size, target; /* bytes; the size now, and what it is to be */
    uint64_t left;         /* bytes in use that have yet to go, or to be moved */
    uint64_t moved;        /* pages, so far */
};
/* Any thread. */
void cache_resize_state(struct cache *c, struct cache_resize_state *out);

/* ---- figures ------------------------------------------------------------------------------ */

struct cache_stats {
    uint64_t frames, frames_free, pages, masks, twins;
    uint64_t clean, dirty, unstable, writeback, pinned, mapped; /* pages */
    uint64_t dirty_bytes, dirty_limit, dirty_background;
    uint64_t size, size_max, memory; /* bytes: the budget, what it may become, what is taken */
    uint64_t moved;                  /* pages, by resizes */
    uint64_t metadata_bytes_page;    /* per page, at most */
    uint64_t hits, misses, readahead_pages, readahead_used, readahead_wasted;
    uint64_t fetches, fetch_bytes, writes, write_bytes, commits, refetched_old;
    uint64_t evicted, reclaim_unmaps, throttled;
    uint64_t reval_asked, reval_changed, reval_dropped, reval_kept, reval_second_unmaps;
    uint64_t twin_alarms, verifier_changes, write_errors;
};
void cache_stats(struct cache *c, struct cache_stats *out);
/* What the server has not committed, counted by whole pages: 0 exactly when there is nothing. Walks
 * nothing, so it may be asked often. Any thread. */
uint64_t cache_uncommitted(struct cache *c);

#endif
