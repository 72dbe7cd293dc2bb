// SPDX-License-Identifier: Apache-2.0
/*
 * The arena: one memfd that holds everything which must outlive the worker process (invariant I9).
 *
 *   +--------+--------+-------+-------+---------+--------------+----------------+---------------+
 *   | header | inodes | files | creds | intents | page records | second records | frames, 4 KiB |
 *   +--------+--------+-------+-------+---------+--------------+----------------+---------------+
 *
 * Every region is a slab of fixed-size records named by a 32-bit index; index 0 is never used, so
 * that 0 means "none". Indexes, free lists, locks and waiters are volatile: a successor rebuilds
 * them by one scan over the records. A record is in use when its first word (`live`) is not 0; it
 * is filled first and published by a release store of that word, and freed by clearing the word
 * first. A death at any instruction therefore leaves each record readable: whole, or free.
 *
 * The memfd is sparse: an unused record costs address space, not memory.
 */
#ifndef NFSCACHED_CACHE_ARENA_H
#define NFSCACHED_CACHE_ARENA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/attr.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096u
#define PAGE_MASK  (PAGE_SIZE - 1)

/* What must be known of an inode while the kernel may name it. */
struct inode_rec {
    _Atomic uint32_t live; /* 0: free */
    uint32_t reuse;        /* high half of the node id: a node id is never used twice */
    uint64_t nlookup;      /* the kernel's count of references (FUSE LOOKUP/FORGET) */
    struct attr attr;      /* as last accepted */
    uint32_t opens;        /* open files in the file slab */
    uint32_t parent;       /* directory of a silly-renamed file */
    char silly[28];        /* its name there, "" when it has none */
    struct fh fh;
};

/* An open file: what FUSE's fh names. */
struct file_rec {
    _Atomic uint32_t live;
    uint32_t inode; /* index of its inode record */
    uint32_t flags; /* open(2) flags */
    uint16_t cred;  /* index of its credential */
    uint16_t pad;
    uint64_t error_seen; /* writeback error sequence that its owner was told */
};

struct cred_rec {
    _Atomic uint32_t live;
    struct cred cred;
};

/* An operation in flight that must not be done twice: enough to find out whether it was done. */
struct intent_rec {
    _Atomic uint32_t live;
    uint32_t op, xid;
    uint64_t unique; /* the FUSE request that asked */
    struct fh fh, fh2;
    char name[256], name2[256];
};

struct page; /* cache/page.h */
struct page_more;

enum arena_region {
    ARENA_INODES,
    ARENA_FILES,
    ARENA_CREDS,
    ARENA_INTENTS,
    ARENA_PAGES,
    ARENA_MORE, /* as many as page records: what few of the pages have */
    ARENA_FRAMES,
    ARENA_REGIONS
};

#define ARENA_MAGIC 0x6e66736361726e61ull /* "nfscarna" */

struct arena_header {
    uint64_t magic;
    uint32_t version;
    uint32_t init_len;  /* bytes of the FUSE INIT request below */
    uint8_t init[1024]; /* replayed by a successor */
    struct {
        uint64_t offset;
        uint32_t count, size;
    } region[ARENA_REGIONS];
};

struct arena {
    int fd;
    uint64_t bytes;
    struct arena_header *header;
    uint8_t *base[ARENA_REGIONS];
};

/* How many usable records each region shall have (index 0 comes on top); frames and page records
 * follow from the cache size. */
struct arena_sizes {
    uint32_t inodes, files, creds, intents, pages, frames;
    /* Bytes of a page's record, and of its second one: sizeof(struct page), sizeof(struct
     * page_more); multiples of 4. */
    uint32_t page_size, more_size;
};

/* Makes an arena; its descriptor is close-on-exec. 0, -EINVAL, -EOVERFLOW, -ENOMEM and what
 * memfd_create and mmap say. On failure nothing is left open. */
int arena_create(struct arena *a, const struct arena_sizes *sizes);
/* Maps an existing one (a successor's way in): checks magic, version and extents. 0, or -EINVAL
 * for what is not an arena of this version. Owns `fd` on success only. */
int arena_adopt(struct arena *a, int fd);
/* Unmaps and closes; slabs and tables over it must be gone. */
void arena_close(struct arena *a);
/* The next run [*first, *end) of indexes at or after `from` that may ever have been written; false
 * when there is none. A scan must skip the memfd's holes: reading one would fill it. */
bool arena_next_data(const struct arena *a, enum arena_region r, uint32_t from, uint32_t *first,
                     uint32_t *end);

/* Gives the memory of records [first, first + n) back to the system, whole pages of it. Nobody may
 * use them meanwhile; they read as zeroes afterwards. */
void arena_release(const struct arena *a, enum arena_region r, uint32_t first, uint32_t n);
/* Bytes of memory that the arena takes now, all regions together. */
uint64_t arena_memory(const struct arena *a);

static inline void *arena_at(const struct arena *a, enum arena_region r, uint32_t index)
{
    return a->base[r] + (uint64_t)index * a->header->region[r].size;
}

/*
 * Who has which record of one region. Volatile; rebuilt by one scan in slab_new(). Allocation hands
 * out a record that is not yet live: fill it, then slab_publish(). Any thread; takes its own lock
 * (a leaf).
 */
struct slab;
/* Scans the records' `live` words. Frames have none: their slab begins with all of them free.
 * NULL: out of memory. */
struct slab *slab_new(struct arena *a, enum arena_region region);
/* The same, but asks `in_use` of each index: how the owner of the page records says which frames
 * are taken. */
struct slab *slab_new_scan(struct arena *a, enum arena_region region,
                           bool (*in_use)(uint32_t index, void *arg), void *arg);
void slab_destroy(struct slab *s);
/* An index, or 0 when the region is full. The record's `live` word is 0, the rest is as it was
 * left by its last owner (zero if it never had one). O(1); the lowest free one comes first. */
uint32_t slab_alloc(struct slab *s);
/* The same, of the indexes below `below` only. */
uint32_t slab_alloc_below(struct slab *s, uint32_t below);
/* Returns a record that was allocated; its `live` word (a frame has none) is cleared first. */
void slab_free(struct slab *s, uint32_t index);
/* Gives the memory of free records at and above `from` back to the system; they read as zeroes
 * then. May take milliseconds; who allocates meanwhile does not wait. */
void slab_release(struct slab *s, uint32_t from);
/* Number of records handed out. */
uint32_t slab_used(const struct slab *s);

static inline void slab_publish(_Atomic uint32_t *live, uint32_t value)
{
    atomic_store_explicit(live, value, memory_order_release);
}

/*
 * Credentials are interned, so that a page names the one that dirtied it in 16 bits. 0 is never an
 * index. Entries live as long as the mount. Any thread. Returns the index, or 0 when 65,535
 * different credentials (or as many as the region holds) are already known; the caller answers
 * -ENOMEM.
 */
struct credtab;
struct credtab *credtab_new(struct arena *a);
void credtab_destroy(struct credtab *t);
uint16_t credtab_intern(struct credtab *t, const struct cred *c);
/* Valid as long as the table. */
const struct cred *credtab_get(struct credtab *t, uint16_t index);

#endif
