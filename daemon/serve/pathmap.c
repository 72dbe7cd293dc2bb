// SPDX-License-Identifier: Apache-2.0
/* Map of inode numbers to places; see the header. */
#include "daemon/serve/pathmap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uthash.h>

struct place {
    uint64_t ino;
    uint64_t parent;
    UT_hash_handle hh;
    char name[];
};

struct pathmap {
    pthread_mutex_t lock;
    struct place *places;
    int rootfd;
    uint64_t root_ino;
};

struct pathmap *pathmap_new(int rootfd, uint64_t root_ino)
{
    struct pathmap *map = calloc(1, sizeof(*map));

    if (!map)
        return NULL;
    pthread_mutex_init(&map->lock, NULL);
    map->rootfd = rootfd;
    map->root_ino = root_ino;
    return map;
}

void pathmap_free(struct pathmap *map)
{
    struct place *place, *next;

    if (!map)
        return;
    HASH_ITER (hh, map->places, place, next) {
        HASH_DEL(map->places, place);
        free(place);
    }
    pthread_mutex_destroy(&map->lock);
    free(map);
}

static void learn_locked(struct pathmap *map, uint64_t ino, uint64_t parent, const char *name)
{
    struct place *place;
    size_t len = strlen(name) + 1;

    HASH_FIND(hh, map->places, &ino, sizeof(ino), place);
    if (place) {
        if (place->parent == parent && strcmp(place->name, name) == 0)
            return;
        HASH_DEL(map->places, place);
        free(place);
    }
    place = malloc(sizeof(*place) + len);
    if (!place)
        return; /* a hint lost; the next open searches */
    place->ino = ino;
    place->parent = parent;
    memcpy(place->name, name, len);
    HASH_ADD(hh, map->places, ino, sizeof(place->ino), place);
}

void pathmap_learn(struct pathmap *map, uint64_t ino, uint64_t parent, const char *name)
{
    pthread_mutex_lock(&map->lock);
    learn_locked(map, ino, parent, name);
    pthread_mutex_unlock(&map->lock);
}

void pathmap_forget(struct pathmap *map, uint64_t ino)
{
    struct place *place;

    pthread_mutex_lock(&map->lock);
    HASH_FIND(hh, map->places, &ino, sizeof(ino), place);
    if (place) {
        HASH_DEL(map->places, place);
        free(place);
    }
    pthread_mutex_unlock(&map->lock);
}

int pathmap_identity(int fd, uint64_t *ino, uint64_t *stamp)
{
    struct statx stx;

    if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &stx) != 0)
        return -errno;
    *ino = stx.stx_ino;
    *stamp = 0;
    if (stx.stx_mask & STATX_BTIME)
        *stamp = (uint64_t)stx.stx_btime.tv_sec * 1000000000ULL + stx.stx_btime.tv_nsec;
    return 0;
}

/* The path of INO below the root by the hints, into PATH. */
static bool path_of(struct pathmap *map, uint64_t ino, char path[PATH_MAX])
{
    size_t at = PATH_MAX - 1;
    int depth = 0;

    path[at] = '\0';
    while (ino != map->root_ino) {
        struct place *place;

        HASH_FIND(hh, map->places, &ino, sizeof(ino), place);
        if (!place || ++depth > 2048)
            return false;
        size_t len = strlen(place->name);
        if (at < len + 1)
            return false;
        if (path[at] != '\0')
            path[--at] = '/';
        at -= len;
        memcpy(path + at, place->name, len);
        ino = place->parent;
    }
    memmove(path, path + at, PATH_MAX - at);
    return true;
}

static int open_beneath(int rootfd, const char *path, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_NOFOLLOW | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    int fd = (int)syscall(SYS_openat2, rootfd, *path ? path : ".", &how, sizeof(how));

    return fd >= 0 ? fd : -errno;
}

static int open_by_hint(struct pathmap *map, uint64_t ino, uint64_t stamp)
{
    char path[PATH_MAX];
    uint64_t got_ino, got_stamp;

    if (!path_of(map, ino, path))
        return -ESTALE;
    int fd = open_beneath(map->rootfd, path, O_PATH);
    if (fd < 0)
        return -ESTALE;
    if (pathmap_identity(fd, &got_ino, &got_stamp) == 0 && got_ino == ino && got_stamp == stamp)
        return fd;
    close(fd);
    return -ESTALE;
}

/* Learn every place below the root; iterative: the depth of the tree is the client's. */
static void walk(struct pathmap *map)
{
    struct todo {
        uint64_t ino;
        struct todo *next;
    } *todo = malloc(sizeof(*todo));
    char path[PATH_MAX];

    if (!todo)
        return;
    *todo = (struct todo){.ino = map->root_ino};
    while (todo) {
        struct todo *this = todo;
        struct dirent *de;
        DIR *dir = NULL;

        todo = this->next;
        if (path_of(map, this->ino, path)) {
            int dfd = open_beneath(map->rootfd, path, O_RDONLY | O_DIRECTORY);
            if (dfd >= 0 && !(dir = fdopendir(dfd)))
                close(dfd);
        }
        while (dir && (de = readdir(dir))) {
            if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
                continue;
            learn_locked(map, de->d_ino, this->ino, de->d_name);
            if (de->d_type == DT_DIR || de->d_type == DT_UNKNOWN) {
                struct todo *more = malloc(sizeof(*more));
                if (!more)
                    break;
                *more = (struct todo){.ino = de->d_ino, .next = todo};
                todo = more;
            }
        }
        if (dir)
            closedir(dir);
        free(this);
    }
}

int pathmap_open(struct pathmap *map, uint64_t ino, uint64_t stamp)
{
    pthread_mutex_lock(&map->lock);
    int fd = open_by_hint(map, ino, stamp);
    if (fd == -ESTALE) {
        walk(map);
        fd = open_by_hint(map, ino, stamp);
    }
    pthread_mutex_unlock(&map->lock);
    return fd;
}
