// SPDX-License-Identifier: Apache-2.0
/*
 * A model of the kernel's page cache of one FUSE file, as far as it can hurt (fs/fuse/file.c,
 * mm/truncate.c of 6.18).
 *
 *   ABSENT --fault--> READING (locked) --reply--> UPTODATE --reclaim, unmap--> ABSENT
 *
 * A mapped store needs an UPTODATE page that is not locked and not in writeback, and makes it
 * dirty. Writeback sends the whole page, clipped at i_size, as CACHE_WRITE_MAPPED. write(2) holds
 * the inode lock; copies into the pages, lets them go, waits for the writeback of each, and only
 * then sends CACHE_WRITE_CALL (fuse_perform_write): the gap that an unmap must not fall into. A
 * page that is not uptodate and is written in part stays locked, and not uptodate
 * (fuse_fill_write_pages). Unmap is DESIGN 5.1: fsync under the inode lock, then
 * invalidate_inode_pages2_range before it is released: each page is waited for (READ pending,
 * writeback), laundered, dropped. Without writers it is the latter alone.
 *
 * The kernel's i_size follows what it is told: by attributes (fk_told_size), by a short READ reply,
 * by its own writes. Dirty pages beyond it are never written: fk->beyond counts them.
 *
 * Calls block like system calls do; to be made from threads, or fibers of sim.h.
 */
#ifndef NFSCACHED_TESTS_LIB_FAKE_KERNEL_H
#define NFSCACHED_TESTS_LIB_FAKE_KERNEL_H

#include <pthread.h>

#include "cache/cache.h"
#include "tests/lib/fake_remote.h"

enum fk_state { FK_ABSENT, FK_READING, FK_UPTODATE };

struct fk_page {
    enum fk_state state;
    bool locked, dirty, writeback;
    unsigned calls; /* write(2)s on their way that refer to it */
    unsigned drops; /* how often it went: a write(2) under way keeps the page that it copied into */
    uint8_t data[PAGE_SIZE];
};

struct fk_file {
    struct fake_host host; /* first: what mapping_host() is */
    struct mapping *m;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool inode_locked, nowrite;
    struct fk_page *page;
    uint32_t pages;
    uint64_t i_size;
    uint64_t attr_version; /* counts changes of i_size: fuse_read_update_size() heeds it */
    uint64_t unique;
    uint16_t cred;
    struct readahead ra; /* of its READs */
    uint32_t read_pages; /* of one READ at most (the kernel's readahead); 0: 1 */
    /* what went wrong */
    uint64_t beyond;
    int read_error;
    /* what happened */
    uint64_t faults, stores, mapped_writes, calls, unmaps, reclaims;
    /* Lock held: a write(2) puts these bytes into the page, the instant at which it becomes
     * visible. */
    void (*on_copy)(struct fk_file *k, uint64_t off, const uint8_t *data, uint32_t len);
    /* Before about 6.16 writeback copied to a temporary page: the page itself counts as clean at
     * once, and reclaim and invalidation do not wait for the WRITE; faults and stores do. */
    bool temporary_pages;
    bool unmap_without_fence; /* ... and the unmap does not wait for such WRITEs by another fsync */
    bool unmap_without_fsync; /* the kernel as it is without DESIGN 5.1 */
    int unmap_error;
};

extern const struct cache_kernel_ops fk_ops;

/* `m` is made with the file's host; i_size is what the mapping says. */
struct fk_file *fk_new(struct cache *c, uint32_t inode, struct fr_file *server, uint32_t pages);
/* Everything must have ended. */
void fk_free(struct fk_file *k);

/* Mapped load and store: fault the page in when it is not there. Beyond i_size: -EFAULT (SIGBUS).
 */
int fk_load(struct fk_file *k, uint64_t off, uint8_t *value);
int fk_store(struct fk_file *k, uint64_t off, uint8_t value);
/* value = f(value), in one store: what is there is given to `f` with the page held. */
int fk_update(struct fk_file *k, uint64_t off, uint8_t (*f)(uint8_t was, void *arg), void *arg);
/* write(2) and O_DIRECT write and read. */
int fk_write(struct fk_file *k, uint64_t off, const void *data, uint32_t len);
int fk_direct_write(struct fk_file *k, uint64_t off, const void *data, uint32_t len);
int fk_direct_read(struct fk_file *k, uint64_t off, void *data, uint32_t len, uint32_t *got);
/* One page, or the whole file: starts what is dirty and waits. */
void fk_writeback(struct fk_file *k, uint32_t page);
void fk_write_and_wait(struct fk_file *k);
/* fsync(2). */
int fk_fsync(struct fk_file *k);
/* ftruncate(2). */
int fk_truncate(struct fk_file *k, uint64_t size);
/* Drops a page if it is clean, unlocked and not referred to. */
bool fk_reclaim(struct fk_file *k, uint32_t page);
/* Attributes arrive. */
void fk_told_size(struct fk_file *k, uint64_t size);

#endif
