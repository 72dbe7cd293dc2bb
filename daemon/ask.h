// SPDX-License-Identifier: Apache-2.0
/*
 * What the verbs that ask a running mount share: connecting with a message that helps, waiting for
 * a job with progress on the terminal, writing figures for people.
 */
#ifndef NFSCACHED_DAEMON_ASK_H
#define NFSCACHED_DAEMON_ASK_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/control_client.h"
#include "daemon/mounts.h"

/* Connects to the daemon of `mount`; on failure a message is printed. 0 or negative errno. */
int ask_connect(const struct mount_entry *mount, struct control_client **out);

/* Waits for a job; after a second it tells on standard error how much is still dirty. Gives up
 * when nothing moved for `patience_s` seconds (0: never): -ETIMEDOUT, and the job goes on in the
 * daemon. Else the job's end, as control_job_wait(). */
int ask_wait(struct control_client *c, uint32_t id, unsigned patience_s,
             struct control_progress *progress);

/* The same two marks for another wait: how much is left, and whether to go on waiting. */
struct ask_progress {
    uint64_t start_ns, moved_ns, printed_ns;
    uint64_t first, least; /* bytes dirty: at the beginning, and the least so far */
    bool printed;
    const char *what; /* "writing back" */
};
void ask_progress_begin(struct ask_progress *p, uint64_t dirty);
/* False when nothing moved for `patience_s`. Prints if it is time to. */
bool ask_progress_step(struct ask_progress *p, uint64_t dirty, unsigned patience_s);
void ask_progress_end(struct ask_progress *p);

/* "12.3 MiB"; the result is `text`. */
const char *ask_bytes(uint64_t bytes, char text[32]);

#endif
