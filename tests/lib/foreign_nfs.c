// SPDX-License-Identifier: Apache-2.0
/*
 * The other client through libnfs's synchronous API. The file is opened O_SYNC (FILE_SYNC writes):
 * this libnfs does not resend unstable data after a server's restart, and the oracle must not blame
 * the mount for what its own foreign writer lost.
 */
#include "tests/lib/foreign.h"

#include <errno.h>
#include <fcntl.h>
#include <nfsc/libnfs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int nfs_write_all(struct foreign *f, const void *buf, size_t n, off_t off)
{
    while (n) {
        int k = nfs_pwrite(f->nfs, f->fh, (uint64_t)off, n, buf);
        if (k <= 0)
            return k ? k : -EIO;
        buf = (const char *)buf + k;
        off += k;
        n -= (size_t)k;
    }
    return 0;
}

static int nfs_read_all(struct foreign *f, void *buf, size_t n, off_t off)
{
    while (n) {
        int k = nfs_pread(f->nfs, f->fh, (uint64_t)off, n, buf);
        if (k <= 0)
            return k ? k : -ENODATA;
        buf = (char *)buf + k;
        off += k;
        n -= (size_t)k;
    }
    return 0;
}

static int nfs_sync_file(struct foreign *f)
{
    (void)f;
    return 0;
}

static void nfs_close_all(struct foreign *f)
{
    nfs_close(f->nfs, f->fh);
    nfs_destroy_context(f->nfs);
    free(f);
}

struct foreign *foreign_open_nfs(const char *url, const char *name)
{
    struct foreign *f = calloc(1, sizeof *f);
    struct nfs_context *nfs = nfs_init_context();
    struct nfs_url *u;
    struct nfsfh *fh;
    char path[4200];

    if (!f || !nfs)
        return NULL;
    u = nfs_parse_url_dir(nfs, url);
    if (!u) {
        fprintf(stderr, "foreign nfs: %s: %s\n", url, nfs_get_error(nfs));
        return NULL;
    }
    if (nfs_mount(nfs, u->server, u->path)) {
        fprintf(stderr, "foreign nfs: mount %s: %s\n", url, nfs_get_error(nfs));
        return NULL;
    }
    snprintf(path, sizeof path, "/%s", name);
    if (nfs_open(nfs, path, O_RDWR | O_SYNC, &fh)) {
        fprintf(stderr, "foreign nfs: open %s: %s\n", path, nfs_get_error(nfs));
        return NULL;
    }
    nfs_destroy_url(u);
    f->kind = "nfs";
    f->write = nfs_write_all;
    f->read = nfs_read_all;
    f->sync = nfs_sync_file;
    f->close = nfs_close_all;
    f->nfs = nfs;
    f->fh = fh;
    return f;
}
