// SPDX-License-Identifier: Apache-2.0
/*
 * By which name the kernel last got an inode.
 *
 * UNLINK and RENAME name their victim by directory and name only, and must know which inode that
 * is: a file open here is renamed out of the way instead of removed, and the attributes of a known
 * inode change (nlink, ctime). The kernel never sends either without having looked the name up
 * before, so remembering what it was told saves the LOOKUP at the server.
 *
 * A hash table of inodes chained by name_next; the key is 64 bits of hash of (directory, name),
 * without the name itself: 16 bytes an inode. One name for each inode: of a file with several
 * links, the last one seen; the others miss, and a miss is answered by asking the server. A hit can
 * be wrong when the name was replaced elsewhere since; then the server's answer to the operation
 * decides, as it does for the kernel's own client, which trusts its dentry.
 *
 * The name itself is kept as well, if close-to-open is promised (cto) or names may be relied on
 * (lookupcache): an OPEN asks for the name, not for the handle, and so sees that the file was
 * replaced (file.c); and a LOOKUP of it may be answered without asking (ahead.c), when the
 * directory's token is still that at which the server last confirmed it. Of the token 32 bits of
 * hash are kept, the verifier (nfs_set_verifier of the kernel's client).
 *
 * All under the table lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/ops.h"

struct names {
    atomic_bool links; /* some inode has several names */
    uint64_t mask;
    struct inode *bucket[];
};

int names_init(struct front *f)
{
    uint32_t count = f->arena->header->region[ARENA_INODES].count;
    uint64_t n = 1024;

    while (n < count / 4)
        n *= 2;
    f->names = calloc(1, sizeof(*f->names) + n * sizeof(f->names->bucket[0]));
    if (!f->names)
        return -ENOMEM;
    f->names->mask = n - 1;
    return 0;
}

void names_destroy(struct front *f)
{
    free(f->names);
    f->names = NULL;
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93ull;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93ull;
    return h ^ h >> 32;
}

/* Never 0: that means "no name". */
static uint64_t name_hash(struct inode *dir, const char *name)
{
    uint64_t h = mix(dir->nodeid ^ 0x9e3779b97f4a7c15ull);
    size_t len = strlen(name);

    for (; len >= 8; len -= 8, name += 8) {
        uint64_t word;

        memcpy(&word, name, 8);
        h = mix(h ^ word);
    }
    uint64_t tail = len;

    for (size_t i = 0; i < len; i++)
        tail = tail << 8 | (uint8_t)name[i];
    h = mix(h ^ tail ^ (uint64_t)len << 60);
    return h ? h : 1;
}

static struct inode **names_slot(struct front *f, uint64_t hash)
{
    struct inode **at = &f->names->bucket[hash & f->names->mask];

    while (*at && (*at)->name_hash != hash)
        at = &(*at)->name_next;
    return at;
}

void names_forget_locked(struct front *f, struct inode *ino)
{
    if (!ino->name_hash)
        return;
    struct inode **at = &f->names->bucket[ino->name_hash & f->names->mask];

    while (*at && *at != ino)
        at = &(*at)->name_next;
    if (*at)
        *at = ino->name_next;
    ino->name_hash = 0;
    ino->name_next = NULL;
    ino->name_verf = 0;
    __atomic_store_n(&ino->name_told_ms, 0, __ATOMIC_RELAXED);
    free(ino->name);
    ino->name = NULL;
}

void names_note_link(struct front *f)
{
    atomic_store_explicit(&f->names->links, true, memory_order_relaxed);
}

static bool names_have_links(struct front *f)
{
    return atomic_load_explicit(&f->names->links, memory_order_relaxed);
}

bool names_may_miss(struct front *f, struct inode *dir)
{
    pthread_mutex_lock(inode_lock(dir));
    bool missed = dir->names_missed;

    pthread_mutex_unlock(inode_lock(dir));
    return missed || names_have_links(f);
}

uint32_t names_token_verifier(const struct token *t)
{
    uint64_t h = mix((uint64_t)t->ctime.tv_sec << 30 ^ (uint64_t)t->ctime.tv_nsec);

    h = mix(h ^ (uint64_t)t->mtime.tv_sec << 30 ^ (uint64_t)t->mtime.tv_nsec);
    h = mix(mix(h ^ t->size) ^ t->change);
    if (!t->valid)
        return 0;
    return (uint32_t)h ? (uint32_t)h : 1;
}

uint32_t names_verifier(struct inode *dir)
{
    pthread_mutex_lock(inode_lock(dir));
    struct token now = token_of(&dir->rec->attr);

    now.valid = dir->attr_valid;
    pthread_mutex_unlock(inode_lock(dir));
    return names_token_verifier(&now);
}

/* Longer than the kernel's clock, which counts in ticks, may make of it. */
#define TOLD_SLACK_MS 20

static uint32_t now_ms(void)
{
    return (uint32_t)(now_coarse_ns() / 1000000);
}

void names_told(struct inode *ino, double seconds)
{
    uint32_t ms = seconds < 86400 ? (uint32_t)(seconds * 1e3) : 86400000;

    if (seconds <= 0)
        return;
    ms += now_ms() + TOLD_SLACK_MS;
    __atomic_store_n(&ino->name_told_ms, ms ? ms : 1, __ATOMIC_RELAXED);
}

static bool kernel_has_name(const struct inode *ino)
{
    uint32_t told = __atomic_load_n(&ino->name_told_ms, __ATOMIC_RELAXED);

    return told && (int32_t)(told - now_ms()) > 0;
}

static bool is_name_of(const struct inode *ino, struct inode *dir, const char *name)
{
    return ino->name && ino->name_dir == dir->nodeid && strcmp(ino->name, name) == 0;
}

/* Table lock held. */
static void names_put(struct front *f, struct inode *dir, const char *name, uint64_t hash,
                      struct inode *ino)
{
    struct inode *old = *names_slot(f, hash);

    if (old)
        names_forget_locked(f, old);
    names_forget_locked(f, ino);

    struct inode **at = &f->names->bucket[hash & f->names->mask];

    ino->name_hash = hash;
    ino->name_next = *at;
    *at = ino;
    if ((f->config.cto && S_ISREG(ino->type)) || f->config.lookupcache != FRONT_LOOKUPCACHE_NONE) {
        ino->name = strdup(name);
        ino->name_dir = dir->nodeid;
    }
}

void names_set(struct front *f, struct inode *dir, const char *name, struct inode *ino)
{
    names_confirm(f, dir, name, ino, 0, UINT64_MAX);
}

bool names_confirm(struct front *f, struct inode *dir, const char *name, struct inode *ino,
                   uint32_t verf, uint64_t sent_ns)
{
    uint64_t hash = name_hash(dir, name);

    if (!S_ISDIR(ino->type) && !names_have_links(f)) {
        pthread_mutex_lock(inode_lock(ino));
        bool several = ino->rec->attr.nlink > 1;

        pthread_mutex_unlock(inode_lock(ino));
        if (several)
            names_note_link(f);
    }
    pthread_mutex_lock(&f->table_lock);
    /* Own operations note their end before they take names away: not later than here. */
    pthread_mutex_lock(inode_lock(dir));
    bool late = dir->own_change_ns >= sent_ns;

    if (late && ino->name_hash != hash) /* the kernel is told of it all the same */
        dir->names_missed = true;
    pthread_mutex_unlock(inode_lock(dir));
    if (!late) {
        if (ino->name_hash != hash || (ino->name && !is_name_of(ino, dir, name)))
            names_put(f, dir, name, hash, ino);
        ino->name_verf = verf;
    }
    pthread_mutex_unlock(&f->table_lock);
    return !late;
}

struct inode *names_find_confirmed(struct front *f, struct inode *dir, const char *name,
                                   uint32_t verf)
{
    uint64_t hash = name_hash(dir, name);

    pthread_mutex_lock(&f->table_lock);
    struct inode *ino = *names_slot(f, hash);

    if (ino && is_name_of(ino, dir, name) && verf && ino->name_verf == verf &&
        !kernel_has_name(ino))
        inode_ref(ino);
    else
        ino = NULL;
    pthread_mutex_unlock(&f->table_lock);
    return ino;
}

fuse_ino_t names_dir_of(struct front *f, struct inode *ino)
{
    pthread_mutex_lock(&f->table_lock);
    fuse_ino_t dir = ino->name ? ino->name_dir : 0;

    pthread_mutex_unlock(&f->table_lock);
    return dir;
}

bool names_of(struct front *f, struct inode *ino, struct inode **dir, char **name)
{
    fuse_ino_t in = 0;

    *name = NULL;
    *dir = NULL;
    pthread_mutex_lock(&f->table_lock);
    if (ino->name) {
        *name = strdup(ino->name);
        in = ino->name_dir;
    }
    pthread_mutex_unlock(&f->table_lock);
    if (*name)
        *dir = inode_by_nodeid(f, in);
    if (*dir)
        return true;
    /* The directory is forgotten before the file when the kernel has that by another name. */
    free(*name);
    *name = NULL;
    return false;
}

struct inode *names_find(struct front *f, struct inode *dir, const char *name)
{
    uint64_t hash = name_hash(dir, name);

    pthread_mutex_lock(&f->table_lock);
    struct inode *ino = *names_slot(f, hash);

    if (ino)
        inode_ref(ino);
    pthread_mutex_unlock(&f->table_lock);
    return ino;
}

void names_drop(struct front *f, struct inode *dir, const char *name)
{
    uint64_t hash = name_hash(dir, name);

    pthread_mutex_lock(&f->table_lock);
    struct inode *ino = *names_slot(f, hash);

    if (ino)
        names_forget_locked(f, ino);
    pthread_mutex_unlock(&f->table_lock);
}
