// SPDX-License-Identifier: Apache-2.0
/*
 * The other client: a way to the same file that does not go through the mount under test.
 *
 *   dir:PATH     the server's own directory, by pwrite
 *   mount:PATH   another mount of the same export, by pwrite and by mapped stores, then fsync
 *   nfs:URL      libnfs, the URL of the exported directory
 * (nfs://host/export?nfsport=N&mountport=N)
 *
 * A handle belongs to the process that opened it: open it after fork.
 */
#ifndef TESTS_FOREIGN_H
#define TESTS_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct foreign {
    const char *kind;
    /* Whole transfers. 0 or a negative errno. */
    int (*write)(struct foreign *f, const void *buf, size_t n, off_t off);
    int (*read)(struct foreign *f, void *buf, size_t n, off_t off);
    /* After this, what was written is at the server for all to see. 0 or a negative errno. */
    int (*sync)(struct foreign *f);
    void (*close)(struct foreign *f);
    int fd;
    char *map; /* of a mount: the file mapped for `map_len` bytes, used for every second store */
    size_t map_len;
    unsigned turn;
    void *nfs, *fh;
};

/* Opens `name` below what `spec` names, for reading and writing. NULL when it cannot, said on
 * stderr. */
struct foreign *foreign_open(const char *spec, const char *name);
/* Internal to foreign*.c. */
struct foreign *foreign_open_nfs(const char *url, const char *name);

#endif
