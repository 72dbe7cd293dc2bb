// SPDX-License-Identifier: Apache-2.0
/* The other client by a path: the server's directory, or a second mount; see foreign.h. */
#include "tests/lib/foreign.h"

#include "tests/lib/tlib.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int path_write(struct foreign *f, const void *buf, size_t n, off_t off)
{
    /* Aligned 4 and 8 byte stores go in one instruction, so that a mapped reader never sees half of
     * one; the volatile keeps the compiler from splitting them. */
    if (f->map && (size_t)off + n <= f->map_len && (n == 4 || n == 8) && f->turn++ % 2) {
        if (n == 8)
            *(volatile uint64_t *)(f->map + off) = *(const uint64_t *)buf;
        else
            *(volatile uint32_t *)(f->map + off) = *(const uint32_t *)buf;
        return 0;
    }
    return t_pwrite_all(f->fd, buf, n, off);
}

static int path_read(struct foreign *f, void *buf, size_t n, off_t off)
{
    return t_pread_all(f->fd, buf, n, off);
}

static int dir_sync(struct foreign *f)
{
    (void)f;
    return 0;
}

static int mount_sync(struct foreign *f)
{
    return fsync(f->fd) ? -errno : 0;
}

static void path_close(struct foreign *f)
{
    if (f->map)
        munmap(f->map, f->map_len);
    close(f->fd);
    free(f);
}

struct foreign *foreign_open(const char *spec, const char *name)
{
    bool mounted = !strncmp(spec, "mount:", 6);
    struct foreign *f;
    struct stat st;

    if (!strncmp(spec, "nfs:", 4))
        return foreign_open_nfs(spec + 4, name);
    if (!mounted && strncmp(spec, "dir:", 4)) {
        errno = 0;
        t_die("foreign writer '%s' is not dir:PATH, mount:PATH or nfs:URL", spec);
    }
    f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->kind = mounted ? "mount" : "dir";
    f->write = path_write;
    f->read = path_read;
    f->sync = mounted ? mount_sync : dir_sync;
    f->close = path_close;
    f->fd = open(t_path(strchr(spec, ':') + 1, name), O_RDWR | O_CLOEXEC);
    if (f->fd < 0 || fstat(f->fd, &st)) {
        fprintf(stderr, "foreign %s: %s: %s\n", spec, name, strerror(errno));
        free(f);
        return NULL;
    }
    if (mounted && st.st_size > 0) {
        f->map_len = (size_t)st.st_size;
        f->map = mmap(NULL, f->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
        if (f->map == MAP_FAILED)
            f->map = NULL;
    }
    return f;
}
