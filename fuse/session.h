// SPDX-License-Identifier: Apache-2.0
/*
 * What session.c offers to its neighbours in fuse/.
 */
#ifndef NFSCACHED_FUSE_SESSION_H
#define NFSCACHED_FUSE_SESSION_H

struct front;

/* Arms the timer of the current loop that looks at interrupted requests. From a handler. */
void session_watch_interrupted(struct front *f);

#endif
