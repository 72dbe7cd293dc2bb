// SPDX-License-Identifier: Apache-2.0
/*
 * What session.c offers to its neighbours in fuse/.
 */
#ifndef NFSCACHED_FUSE_SESSION_H
#define NFSCACHED_FUSE_SESSION_H

#include "fuse/front.h"

/* Arms the timer of the current loop that looks at interrupted requests. From a handler. */
void session_watch_interrupted(struct front *f);

/* Has the kernel forget a name in a directory; from a thread of its own, because the kernel wants
 * the directory's lock for it, which a caller of ours may hold. Any thread. */
void session_forget_name(struct front *f, fuse_ino_t dir, const char *name);

#endif
