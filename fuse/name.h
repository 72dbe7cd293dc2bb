// SPDX-License-Identifier: Apache-2.0
/*
 * What name.c and unlink.c share.
 */
#ifndef NFSCACHED_FUSE_NAME_H
#define NFSCACHED_FUSE_NAME_H

#include "fuse/front.h"

/* Not longer than the server takes. */
bool name_fits(struct front *f, const char *name);
/* An op on a name in a directory: op->ino is the directory, op->name and op->call.name the name.
 * NULL: the request was answered (ESTALE, ENOTDIR, ENAMETOOLONG, ENOMEM). */
struct op *name_op(fuse_req_t req, fuse_ino_t parent, const char *name);
/* op_submit() on another handle than op->ino's. */
void op_submit_fh(struct op *op, enum remote_op what, const struct fh *fh,
                  void (*done)(struct remote_call *));

#endif
