// SPDX-License-Identifier: Apache-2.0
/*
 * The control socket of a mount, the caller's end: what the verbs umount, status, flush, revalidate
 * and resize ask with. Blocking, one thread.
 */
#ifndef NFSCACHED_DAEMON_CONTROL_CLIENT_H
#define NFSCACHED_DAEMON_CONTROL_CLIENT_H

#include <stdint.h>
#include <sys/types.h>

#include "daemon/control.h"

struct control_client;

enum control_client_job { JOB_FLUSH = 1, JOB_REVALIDATE, JOB_DROP, JOB_DISCARD };

/* Connects to the daemon of the mount with device `dev` made by `owner`. 0, or negative errno:
 * -ENOENT or -ECONNREFUSED when no daemon answers, -EACCES when it is another user's. A socket that
 * is not there is waited for, 5 s: the daemon may be about to make it. SIGPIPE is ignored from here
 * on. */
int control_connect(dev_t dev, uid_t owner, struct control_client **out);
void control_disconnect(struct control_client *c);

/* The process at the other end; 0 if the kernel does not say. */
pid_t control_peer(const struct control_client *c);

/* JSON; the caller frees it. 0 or negative errno. */
int control_status(struct control_client *c, char **json);
int control_dirty(struct control_client *c, char **json);

struct control_progress {
    uint64_t dirty_bytes;
    uint64_t value; /* pages dropped, bytes discarded */
};
/* Starts a job; `path` and `ino` as in control.h. 0 or negative errno. */
int control_job_start(struct control_client *c, enum control_client_job job, const char *path,
                      uint64_t ino, uint32_t *id);
/* -EINPROGRESS, or how the job ended. `progress` is filled either way. */
int control_job_poll(struct control_client *c, uint32_t id, struct control_progress *progress);
/* Starts to give the cache another size. 0 or negative errno. */
int control_resize_start(struct control_client *c, uint64_t size, uint32_t *id);
/* -EINPROGRESS, or how it ended: control.h. `out` is filled either way. */
int control_resize_poll(struct control_client *c, uint32_t id, struct control_resize *out);
int control_resize_stop(struct control_client *c);
/* Polls until the end, at first often. */
int control_job_wait(struct control_client *c, uint32_t id, struct control_progress *progress);

#endif
