// SPDX-License-Identifier: Apache-2.0
/*
 * Inside of the unmap: how the pool (unmap.c) gets descriptors of our own (unmap_root.c).
 */
#ifndef NFSCACHED_FUSE_UNMAP_H
#define NFSCACHED_FUSE_UNMAP_H

#include "fuse/front.h"

/*
 * A way into our own mount that does not keep it busy. Any thread but a shard's: opening asks our
 * own handlers.
 */
struct unmap_root;
struct unmap_root *unmap_root_new(struct front *f);
/* No thread may be in unmap_root_open_file(); the connection ended, or the loops still run. */
void unmap_root_destroy(struct unmap_root *r);
/* Finds the mount, once; later calls do nothing. 0 or negative errno. */
int unmap_root_find(struct unmap_root *r);
/* A descriptor, open for reading only, on the file that the kernel knows by `nodeid`, or negative
 * errno: -ESTALE or -ENOENT when the kernel does not know it; -ENOTCONN when the connection is
 * dead; -ENXIO when the mount cannot be reached any more, though it may live. */
int unmap_root_open_file(struct unmap_root *r, fuse_ino_t nodeid);

/* The path, from the root of the mount, under which the kernel knows the file now, without '/' at
 * its front; for messages. Asks nobody. 0 or negative errno (-ENXIO: no clone of the mount to look
 * from). */
int unmap_root_path(struct unmap_root *r, fuse_ino_t nodeid, char *path, size_t size);

/* Errors of a dead connection come in many forms; all become -ENOTCONN. */
int unmap_errno(int error);

#endif
