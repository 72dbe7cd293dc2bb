// SPDX-License-Identifier: Apache-2.0
/*
 * Between the directory's attributes and errors and those of NFSv3: what every procedure shares.
 */
#ifndef NFSCACHED_SERVE_ATTR_H
#define NFSCACHED_SERVE_ATTR_H

#include <sys/stat.h>

#include "daemon/serve/internal.h"

/* Attributes before and after an operation, for wcc_data (RFC 1813 section 2.6). */
struct wcc {
    bool has_before, has_after;
    struct stat before, after;
};

/* The nfsstat3 of a negative errno (0: NFS3_OK). */
uint32_t serve_status_of(int rc);

/* NAME as a C string. NFS3_OK, or INVAL (empty, holds NUL), ACCES (holds '/'), NAMETOOLONG. */
uint32_t serve_name_copy(const filename3 *name, char out[256]);

/* ATTRIBUTES may be NULL: absent. FALSE when OUT is full. */
bool serve_put_post_op(XDR *out, const struct server *srv, const struct stat *attributes);
bool serve_put_wcc(XDR *out, const struct server *srv, const struct wcc *wcc);

/* stat as shown to clients. No file's lock held; directories' may be. */
int serve_stat_shown(struct server *srv, const nfs_fh3 *fh, int fd, struct stat *st);

/*
 * Whether the caller may access the file as MODE (R_OK, W_OK, X_OK). OWNER_OVERRIDE: its owner
 * always may, as an NFS server must let it: the file may have been opened before its mode was
 * changed (RFC 1813 section 4.4). The thread has the caller's ids. 0 or negative errno.
 */
int serve_check_access(const struct call *call, int fd, const struct stat *st, int mode,
                       bool owner_override);

/*
 * Apply SATTR to the file FH, open as FD (O_PATH), with attributes ST. INODE (may be NULL: a new
 * file) is locked. Ids: enters and leaves with the caller's. 0 or negative errno.
 */
int serve_sattr_apply(struct call *call, const nfs_fh3 *fh, int fd, struct inode *inode,
                      const struct stat *st, const sattr3 *sattr);

#endif
