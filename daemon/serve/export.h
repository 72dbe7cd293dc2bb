// SPDX-License-Identifier: Apache-2.0
/*
 * The exported directory and the file handles of what is in it.
 *
 * A handle is  magic | kind | length | payload | MAC. Its payload is
 *   kind 1  the kernel's own handle (name_to_handle_at; opened by open_by_handle_at): a server that
 *           may use CAP_DAC_READ_SEARCH. Survives every restart and rename.
 *   kind 2  inode number and birth time, for an unprivileged server or a file system without
 *           handles. Found again through a map of the names seen, and after a restart (or a rename
 *           from behind) by searching the directory once (pathmap.h).
 * The MAC is SipHash-2-4 over payload and the identity of the exported directory, by a key that
 * only the server knows, kept in a file of mode 0600 outside the export (see export_open): a client
 * cannot make up a handle of a file outside. What was moved out of the directory after a client got
 * its handle stays reachable by it, as with every NFS server without subtree checking.
 *
 * Errors: -ESTALE for a handle of something that is gone, or of another key; -EBADMSG for bytes
 * that are no handle of ours.
 */
#ifndef NFSCACHED_SERVE_EXPORT_H
#define NFSCACHED_SERVE_EXPORT_H

#include "daemon/serve/nfs3.h"

#include <stdbool.h>

struct export;

/*
 * Open DIRECTORY for export. KEY_FILE: where the MAC key is kept, made when it does not exist;
 * NULL: /var/lib/nfscached/serve.key for root, $XDG_STATE_HOME/nfscached/serve.key (or
 * ~/.local/state/...) otherwise. When it can be neither read nor made, a random key is used with a
 * warning on stderr: handles then do not survive the server. PATH_HANDLES forces kind 2.
 * 0 or negative errno; the caller frees *out with export_close.
 */
int export_open(const char *directory, const char *key_file, bool path_handles,
                struct export **out);
void export_close(struct export *exp);

const char *export_path(const struct export *exp); /* absolute, no symlinks */
const nfs_fh3 *export_root(const struct export *exp);
bool export_uses_kernel_handles(const struct export *exp);

/*
 * The handle of the object that FD refers to (O_PATH allowed). PARENT and NAME are where it was
 * found (NULL for the root): kind 2 remembers them. Any thread; server's ids not needed.
 */
int export_fh(struct export *exp, const nfs_fh3 *parent, const char *name, int fd, nfs_fh3 *out);

/*
 * Open what FH refers to. FLAGS: O_PATH, or O_RDONLY/O_WRONLY/O_RDWR only after the type is known
 * to be a regular file or a directory. The thread must have the server's ids
 * (serve_cred_become_server).
 */
int export_open_fh(struct export *exp, const nfs_fh3 *fh, int flags);

/* Open the one component NAME below DIRFD without following a symlink or leaving the file system.
 * -EXDEV for a mount point. MODE is used with O_CREAT. */
int export_open_at(int dirfd, const char *name, int flags, unsigned mode);

/* Open PATH (several components allowed) below the root: O_PATH, no symlinks. */
int export_open_path(struct export *exp, const char *path);

/* A name left or changed its place: forget what kind 2 knows of it. */
void export_forget(struct export *exp, const nfs_fh3 *fh);

#endif
