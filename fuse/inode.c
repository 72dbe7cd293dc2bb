// SPDX-License-Identifier: Apache-2.0
/*
 * The inode table: node id <-> file handle, lookup counts, lifetime.
 *
 *   kernel's node id --(low half)--> f->inodes[index] --> struct inode --> record in the arena
 *   server's handle  --(f->by_fh)--> the same inode
 *
 * A node id is reuse << 32 | index: the record's `reuse` grows when the record is freed, so a node
 * id never names a second inode. The root is made first: index 1, reuse 0, node id 1; it is never
 * freed before the front.
 *
 * An inode lives while the kernel knows it (rec->nlookup) or one of us does (refs). Both reach 0
 * under the table lock, and the same critical section takes it out of both tables; who finds it
 * there by its handle a moment earlier revives it by a reference. What remains (its pages, its
 * record) is then reachable by nobody and is freed outside the lock. The mapping must be idle then:
 * a busy one is held by a reference (glue.c), given back only when the server has every byte.
 *
 * What only an inode in use needs, the mapping above all, is made when it is first used
 * (inode_use) and goes with the last reference of ours, though the kernel knows the inode still,
 * if a new one would begin the same: nothing cached here or in the kernel, no error untold, token
 * and size those of the attributes (mapping_spent). So a file that was only looked at, or was
 * closed and has no pages, costs its inode and its record. Who has a reference finds the mapping
 * unchanged as long; the helper threads of cache/ come to it by its pages or by the list of
 * mappings, as they do when an inode is freed.
 *
 * Lock order: use lock, table lock > inode lock. names.c works under the table lock, too.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/ops.h"

pthread_mutex_t inode_locks[INODE_LOCKS] = {[0 ... INODE_LOCKS - 1] = PTHREAD_MUTEX_INITIALIZER};

static uint32_t inode_slots(const struct front *f)
{
    return f->arena->header->region[ARENA_INODES].count;
}

/* ---- by handle: chains in the inodes themselves; table lock held ---- */

static uint32_t fh_hash(const struct fh *fh)
{
    uint64_t h = fh->len, word;

    for (unsigned at = 0; at < fh->len; at += sizeof(word)) {
        unsigned left = fh->len - at;

        word = 0;
        memcpy(&word, fh->data + at, left < sizeof(word) ? left : sizeof(word));
        h = (h ^ word) * 0xd6e8feb86659fd93ull;
        h ^= h >> 32;
    }
    h *= 0xd6e8feb86659fd93ull;
    return (uint32_t)(h >> 32);
}

static struct inode *fh_find(struct front *f, const struct fh *fh)
{
    uint32_t hash = fh_hash(fh);
    struct inode *ino = f->by_fh[hash & f->fh_mask];

    while (ino && (ino->fh_hash != hash || !fh_equal(&ino->rec->fh, fh)))
        ino = ino->fh_next;
    return ino;
}

static void fh_note(struct front *f, struct inode *ino)
{
    ino->fh_hash = fh_hash(&ino->rec->fh);

    struct inode **bucket = &f->by_fh[ino->fh_hash & f->fh_mask];

    ino->fh_next = *bucket;
    *bucket = ino;
}

/* It may have been forgotten before. */
static void fh_forget(struct front *f, struct inode *ino)
{
    struct inode **at = &f->by_fh[ino->fh_hash & f->fh_mask];

    while (*at && *at != ino)
        at = &(*at)->fh_next;
    if (*at)
        *at = ino->fh_next;
}

/* ---- life ---- */

int inodes_init(struct front *f)
{
    f->fh_mask = 1023;
    while (f->fh_mask < inode_slots(f) / 4)
        f->fh_mask = f->fh_mask * 2 + 1;
    f->inodes = calloc(inode_slots(f), sizeof(*f->inodes));
    f->by_fh = calloc(f->fh_mask + 1, sizeof(*f->by_fh));
    if (!f->inodes || !f->by_fh) {
        free(f->inodes);
        free(f->by_fh);
        return -ENOMEM;
    }
    pthread_mutex_init(&f->table_lock, NULL);
    pthread_mutex_init(&f->use_lock, NULL);
    return 0;
}

int inode_use(struct front *f, struct inode *ino)
{
    struct inode_use *use;
    struct mapping *map = NULL;

    if (__atomic_load_n(&ino->use, __ATOMIC_ACQUIRE))
        return 0;
    pthread_mutex_lock(&f->use_lock);
    if (ino->use) {
        pthread_mutex_unlock(&f->use_lock);
        return 0;
    }
    use = calloc(1, sizeof(*use));
    if (use)
        use->ino = ino;
    if (use && S_ISREG(ino->type))
        map = mapping_new(f->cache, ino->index, ino, 0);
    if (!use || (!map && S_ISREG(ino->type))) {
        pthread_mutex_unlock(&f->use_lock);
        free(use);
        return -ENOMEM;
    }
    pthread_mutex_lock(inode_lock(ino));
    if (map) {
        struct token token = token_of(&ino->rec->attr);

        token.valid = ino->attr_valid;
        mapping_adopt(map, &token);
    }
    __atomic_store_n(&ino->map, map, __ATOMIC_RELEASE);
    __atomic_store_n(&ino->use, use, __ATOMIC_RELEASE);
    pthread_mutex_unlock(inode_lock(ino));
    pthread_mutex_unlock(&f->use_lock);
    return 0;
}

/* Table lock held, and nobody of ours refers to the inode. What it returns is freed outside the
 * lock; directories keep theirs, which knows of listings. */
static struct mapping *inode_unuse_locked(struct inode *ino)
{
    struct mapping *map = ino->map;
    struct token token = token_of(&ino->rec->attr);

    token.valid = ino->attr_valid;
    if (!map || !mapping_spent(map, &token))
        return NULL;
    free(ino->use);
    ino->use = NULL;
    ino->map = NULL;
    return map;
}

static void inode_free(struct front *f, struct inode *ino)
{
    struct inode_rec *rec = ino->rec;
    uint32_t index = ino->index;

    if (ino->map)
        mapping_free(ino->map);
    free(ino->use);
    free(ino->times);
    lock_table_free(ino);
    slab_publish(&rec->live, 0);
    rec->reuse++;
    slab_free(f->inode_slab, index);
    ino->magic = ~INODE_MAGIC;
    free(ino);
}

/* Table lock held. */
static void inode_unlink_locked(struct front *f, struct inode *ino)
{
    fh_forget(f, ino);
    names_forget_locked(f, ino);
    f->inodes[ino->index] = NULL;
}

int inodes_destroy(struct front *f)
{
    int left = 0;

    if (!f->inodes)
        return 0;
    for (uint32_t i = 0; i < inode_slots(f); i++) {
        struct inode *ino = f->inodes[i];

        if (!ino)
            continue;
        inode_unlink_locked(f, ino);
        if (ino->map && mapping_is_busy(ino->map))
            left++;
        else
            inode_free(f, ino);
    }
    free(f->by_fh);
    free(f->inodes);
    f->inodes = NULL;
    pthread_mutex_destroy(&f->table_lock);
    pthread_mutex_destroy(&f->use_lock);
    return left;
}

static struct inode *inode_new(struct front *f, const struct fh *fh, const struct attr *attr)
{
    struct inode *ino = calloc(1, sizeof(*ino));

    if (!ino)
        return NULL;
    if (f->config.kernel_writeback && S_ISREG(attr->mode)) {
        ino->times = calloc(1, sizeof(*ino->times));
        if (!ino->times)
            goto no_record;
    }
    ino->index = slab_alloc(f->inode_slab);
    if (!ino->index || ino->index >= inode_slots(f))
        goto no_record;

    struct inode_rec *rec = arena_at(f->arena, ARENA_INODES, ino->index);
    uint32_t reuse = rec->reuse;

    memset(rec, 0, sizeof(*rec));
    rec->reuse = reuse;
    rec->fh = *fh;
    rec->attr = *attr;
    ino->magic = INODE_MAGIC;
    ino->rec = rec;
    ino->type = attr->mode & S_IFMT;
    ino->fileid = attr->fileid;
    ino->nodeid = (fuse_ino_t)reuse << 32 | ino->index;
    atomic_init(&ino->refs, 1);
    slab_publish(&rec->live, 1);
    return ino;

no_record:
    free(ino->times);
    free(ino);
    return NULL;
}

/* The server gave a handle a second life as something else: the old inode keeps its node id, and is
 * found by its handle no more. */
static bool inode_is_another(struct inode *ino, const struct attr *attr)
{
    return attr && (ino->type != (attr->mode & S_IFMT) || ino->fileid != attr->fileid);
}

static struct inode *inode_find_locked(struct front *f, const struct fh *fh,
                                       const struct attr *attr)
{
    struct inode *ino = fh_find(f, fh);

    if (!ino)
        return NULL;
    if (ino != f->root && inode_is_another(ino, attr)) {
        fh_forget(f, ino);
        return NULL;
    }
    atomic_fetch_add(&ino->refs, 1);
    return ino;
}

struct inode *inode_get(struct front *f, const struct fh *fh, const struct attr *attr)
{
    pthread_mutex_lock(&f->table_lock);
    struct inode *ino = inode_find_locked(f, fh, attr);

    pthread_mutex_unlock(&f->table_lock);
    if (ino || !attr)
        return ino;

    /* It is made outside the lock; of two that race here, one throws its inode away. */
    struct inode *made = inode_new(f, fh, attr);

    if (!made)
        return NULL;
    pthread_mutex_lock(&f->table_lock);
    ino = inode_find_locked(f, fh, attr);
    if (!ino) {
        /* It may have been here before, and changed: that was forgotten with it. */
        made->own_change_ns = atomic_load(&f->forgotten_change_ns);
        fh_note(f, made);
        f->inodes[made->index] = made;
    }
    pthread_mutex_unlock(&f->table_lock);
    if (!ino)
        return made;
    inode_free(f, made);
    return ino;
}

struct inode *inode_by_nodeid(struct front *f, fuse_ino_t nodeid)
{
    uint32_t index = (uint32_t)nodeid;
    struct inode *ino = NULL;

    if (index >= inode_slots(f))
        return NULL;
    pthread_mutex_lock(&f->table_lock);
    ino = f->inodes[index];
    if (ino && ino->nodeid == nodeid)
        atomic_fetch_add(&ino->refs, 1);
    else
        ino = NULL;
    pthread_mutex_unlock(&f->table_lock);
    return ino;
}

void inode_ref(struct inode *ino)
{
    assert(ino->magic == INODE_MAGIC);
    atomic_fetch_add(&ino->refs, 1);
}

void inode_unref(struct front *f, struct inode *ino)
{
    unsigned refs = atomic_load(&ino->refs);

    assert(ino->magic == INODE_MAGIC && refs > 0);
    while (refs > 1)
        if (atomic_compare_exchange_weak(&ino->refs, &refs, refs - 1))
            return;

    /* Perhaps the last one: decided under the lock that revives. */
    struct mapping *spent = NULL;
    bool gone = false;

    pthread_mutex_lock(&f->table_lock);
    if (atomic_fetch_sub(&ino->refs, 1) == 1) {
        if (__atomic_load_n(&ino->rec->nlookup, __ATOMIC_RELAXED) == 0 && ino != f->root) {
            inode_unlink_locked(f, ino);
            if (ino->own_change_ns > atomic_load(&f->forgotten_change_ns))
                atomic_store(&f->forgotten_change_ns, ino->own_change_ns);
            gone = true;
        } else {
            spent = inode_unuse_locked(ino);
        }
    }
    pthread_mutex_unlock(&f->table_lock);
    if (spent)
        mapping_free(spent);
    if (gone)
        inode_free(f, ino);
}

void inode_lookup_add(struct inode *ino, uint64_t n)
{
    /* The caller holds a reference: the inode is not on its way out. A plain word of the arena,
     * shared by threads. */
    if (__atomic_fetch_add(&ino->rec->nlookup, n, __ATOMIC_RELAXED) > 0 || !ino->times)
        return;
    /* It makes its inode of what was told last. */
    pthread_mutex_lock(inode_lock(ino));
    ino->times->kernel = ino->times->told;
    pthread_mutex_unlock(inode_lock(ino));
}

void inode_forget(struct front *f, struct inode *ino, uint64_t n)
{
    uint64_t had = __atomic_load_n(&ino->rec->nlookup, __ATOMIC_RELAXED);

    /* More than we gave is the kernel's mistake, or ours: an inode too long is better than one
     * freed too early. */
    do {
        if (n > had) {
            atomic_fetch_add(&f->stats.alarms, 1);
            n = had;
        }
    } while (!__atomic_compare_exchange_n(&ino->rec->nlookup, &had, had - n, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    if (had == n)
        __atomic_store_n(&ino->name_told_ms, 0, __ATOMIC_RELAXED);
}

static void forget_one(struct front *f, fuse_ino_t nodeid, uint64_t n)
{
    struct inode *ino = inode_by_nodeid(f, nodeid);

    if (!ino)
        return;
    inode_forget(f, ino, n);
    inode_unref(f, ino);
}

void front_forget(fuse_req_t req, fuse_ino_t nodeid, uint64_t nlookup)
{
    forget_one(front_of(req), nodeid, nlookup);
    fuse_reply_none(req);
}

void front_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        forget_one(front_of(req), forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

void inode_for_each(struct front *f, void (*fn)(struct front *f, struct inode *ino, void *arg),
                    void *arg)
{
    for (uint32_t i = 1; i < inode_slots(f); i++) {
        if (!__atomic_load_n(&f->inodes[i], __ATOMIC_RELAXED))
            continue;
        pthread_mutex_lock(&f->table_lock);
        struct inode *ino = f->inodes[i];

        if (ino)
            atomic_fetch_add(&ino->refs, 1);
        pthread_mutex_unlock(&f->table_lock);
        if (!ino)
            continue;
        fn(f, ino, arg);
        inode_unref(f, ino);
    }
}
