// SPDX-License-Identifier: Apache-2.0
/*
 * Making, adopting and mapping the arena (layout and rules: arena.h).
 *
 * The extents of all regions are computed once, by arena_create(), and written into the header; a
 * successor that adopts the memfd trusts nothing else, and checks them before it uses them. The
 * memfd is sealed against shrinking, so that no access to the map can end in SIGBUS for want of
 * length.
 *
 * Errors are those of the system calls, and -EINVAL for sizes that make no sense or a descriptor
 * that holds no arena of this version.
 */
#include "cache/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARENA_VERSION 3u
#define HUGE_PAGE     (2u << 20)

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

/* Frames begin on a huge page, so that the kernel can back the pool with them. */
static uint64_t region_align(enum arena_region r)
{
    return r == ARENA_FRAMES ? HUGE_PAGE : PAGE_SIZE;
}

/* Bytes of a record where they are fixed here; 0 where the arena's maker chooses. */
static uint32_t record_size(enum arena_region r)
{
    switch (r) {
    case ARENA_INODES:
        return sizeof(struct inode_rec);
    case ARENA_FILES:
        return sizeof(struct file_rec);
    case ARENA_CREDS:
        return sizeof(struct cred_rec);
    case ARENA_INTENTS:
        return sizeof(struct intent_rec);
    case ARENA_FRAMES:
        return PAGE_SIZE;
    default:
        return 0;
    }
}

static int header_layout(struct arena_header *h, const struct arena_sizes *sizes, uint64_t *bytes)
{
    const uint32_t counts[ARENA_REGIONS] = {
        [ARENA_INODES] = sizes->inodes, [ARENA_FILES] = sizes->files,
        [ARENA_CREDS] = sizes->creds,   [ARENA_INTENTS] = sizes->intents,
        [ARENA_PAGES] = sizes->pages,   [ARENA_MORE] = sizes->pages,
        [ARENA_FRAMES] = sizes->frames,
    };
    uint64_t at = round_up(sizeof(*h), PAGE_SIZE);
    for (int r = 0; r < ARENA_REGIONS; r++) {
        uint32_t size = r == ARENA_PAGES  ? sizes->page_size
                        : r == ARENA_MORE ? sizes->more_size
                                          : record_size(r);
        if (counts[r] == UINT32_MAX || (counts[r] && (size == 0 || size % 4)))
            return -EINVAL;
        at = round_up(at, region_align(r));
        h->region[r].offset = at;
        h->region[r].count = counts[r] + 1;
        h->region[r].size = size;
        at += (uint64_t)h->region[r].count * size;
    }
    if (at > INT64_MAX / 2)
        return -EOVERFLOW;
    *bytes = round_up(at, HUGE_PAGE);
    return 0;
}

/* The regions follow each other in order and end inside the descriptor's length. */
static int header_check(const struct arena_header *h, uint64_t bytes)
{
    if (h->magic != ARENA_MAGIC || h->version != ARENA_VERSION || h->init_len > sizeof(h->init))
        return -EINVAL;
    uint64_t at = sizeof(*h);
    for (int r = 0; r < ARENA_REGIONS; r++) {
        uint64_t offset = h->region[r].offset;
        uint64_t extent = (uint64_t)h->region[r].count * h->region[r].size;
        if (offset < at || offset > bytes || extent > bytes - offset || offset % region_align(r) ||
            h->region[r].count == 0)
            return -EINVAL;
        if (record_size(r) ? h->region[r].size != record_size(r) : h->region[r].size % 4 != 0)
            return -EINVAL;
        at = offset + extent;
    }
    return 0;
}

/* Maps at a multiple of the huge page size: the kernel uses huge pages only where the address
 * and the file's offset agree. */
static void *map_aligned(int fd, uint64_t bytes)
{
    uint8_t *room = mmap(NULL, bytes + HUGE_PAGE, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return MAP_FAILED;
    uint8_t *at = (uint8_t *)round_up((uintptr_t)room, HUGE_PAGE);
    void *map = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (map == MAP_FAILED) {
        int error = errno;
        munmap(room, bytes + HUGE_PAGE);
        errno = error;
        return MAP_FAILED;
    }
    if (at > room)
        munmap(room, at - room);
    munmap(at + bytes, HUGE_PAGE - (at - room));
    return map;
}

static int arena_map(struct arena *a, int fd, uint64_t bytes)
{
    void *map = map_aligned(fd, bytes);
    if (map == MAP_FAILED)
        return -errno;
    a->fd = fd;
    a->bytes = bytes;
    a->header = map;
    return 0;
}

static void arena_set_bases(struct arena *a)
{
    for (int r = 0; r < ARENA_REGIONS; r++)
        a->base[r] = (uint8_t *)a->header + a->header->region[r].offset;
    /* Only the frames: they fill from the bottom and are moved by the MiB. Refused by kernels
     * without huge shared memory, which costs speed and nothing else. */
    (void)madvise(a->base[ARENA_FRAMES], a->bytes - a->header->region[ARENA_FRAMES].offset,
                  MADV_HUGEPAGE);
}

/*
 * A file on a tmpfs of our own, mounted nowhere, that gives huge pages where madvise() asks for
 * them. memfd_create()'s do so only where /sys/kernel/mm/transparent_hugepage/shmem_enabled allows
 * it, and it seldom does. The first touch of 2 MiB costs a twentieth, and copies find one page
 * table entry. Needs the right to mount; -1 where that is not to be had, or the kernel is too old
 * for it.
 */
static int huge_file(uint64_t bytes)
{
    int fs = fsopen("tmpfs", FSOPEN_CLOEXEC), dir = -1, fd = -1;
    if (fs < 0)
        return -1;
    if (fsconfig(fs, FSCONFIG_SET_STRING, "huge", "advise", 0) == 0 &&
        fsconfig(fs, FSCONFIG_SET_STRING, "size", "0", 0) == 0 &&
        fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0) == 0 &&
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        dir = fsmount(fs, FSMOUNT_CLOEXEC, 0);
    close(fs);
    if (dir < 0)
        return -1;
    fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    close(dir);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static int memory_file(uint64_t bytes)
{
    int fd = memfd_create("nfscached-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)bytes) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

int arena_create(struct arena *a, const struct arena_sizes *sizes)
{
    struct arena_header header = {.version = ARENA_VERSION};
    uint64_t bytes;
    int error = header_layout(&header, sizes, &bytes);
    if (error)
        return error;
    int fd = huge_file(bytes);
    if (fd < 0)
        fd = memory_file(bytes);
    if (fd < 0)
        return fd;
    error = arena_map(a, fd, bytes);
    if (error) {
        close(fd);
        return error;
    }
    *a->header = header;
    atomic_thread_fence(memory_order_release);
    a->header->magic = ARENA_MAGIC;
    arena_set_bases(a);
    return 0;
}

int arena_adopt(struct arena *a, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if ((uint64_t)st.st_size < sizeof(struct arena_header) || st.st_size % HUGE_PAGE)
        return -EINVAL;
    int error = arena_map(a, fd, st.st_size);
    if (error)
        return error;
    error = header_check(a->header, a->bytes);
    if (error) {
        munmap(a->header, a->bytes);
        return error;
    }
    arena_set_bases(a);
    return 0;
}

void arena_close(struct arena *a)
{
    munmap(a->header, a->bytes);
    close(a->fd);
    memset(a, 0, sizeof(*a));
    a->fd = -1;
}

bool arena_next_data(const struct arena *a, enum arena_region r, uint32_t from, uint32_t *first,
                     uint32_t *end)
{
    uint64_t base = a->header->region[r].offset;
    uint32_t count = a->header->region[r].count, size = a->header->region[r].size;
    if (from >= count || size == 0)
        return false;
    off_t data = lseek(a->fd, base + (uint64_t)from * size, SEEK_DATA);
    if (data < 0 && errno == ENXIO)
        return false;
    off_t hole = data < 0 ? -1 : lseek(a->fd, data, SEEK_HOLE);
    if (hole < 0) { /* no knowledge of holes: all of it may hold data */
        *first = from;
        *end = count;
        return true;
    }
    uint64_t index = (data - base) / size;
    if (index >= count)
        return false;
    uint64_t last = (hole - base + size - 1) / size;
    *first = index < from ? from : index;
    *end = last > count ? count : last;
    return true;
}

/* A huge page that goes in part is split by the kernel. If it cannot be just then (somebody refers
 * to it), the part is zeroed and its memory stays with the rest: less than 2 MiB. */
void arena_release(const struct arena *a, enum arena_region r, uint32_t first, uint32_t n)
{
    uint64_t base = a->header->region[r].offset, size = a->header->region[r].size;
    uint64_t from = round_up(base + first * size, PAGE_SIZE);
    uint64_t to = (base + (uint64_t)(first + n) * size) / PAGE_SIZE * PAGE_SIZE;

    if (from < to)
        (void)!fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
                         (off_t)(to - from));
}

uint64_t arena_memory(const struct arena *a)
{
    struct stat st;

    return fstat(a->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}
