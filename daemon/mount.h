// SPDX-License-Identifier: Apache-2.0
/*
 * The mount process, in two halves: daemon/mount.c is the command line around it (checks, going to
 * the background, what the caller is told), daemon/mount_run.c puts the layers together and serves.
 */
#ifndef NFSCACHED_DAEMON_MOUNT_H
#define NFSCACHED_DAEMON_MOUNT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "daemon/control.h"
#include "daemon/options.h"

/* How mount_run() tells its caller what happens. Called in the main thread. */
struct mount_events {
    /* The mount answers. Called once, unless mounting fails. */
    void (*ready)(void *arg);
    /* The server cannot be reached yet, and `bg` was given: it is tried again. At most once. */
    void (*waiting)(const char *why, void *arg);
    void *arg;
};

#define MOUNT_ERROR_MAX 1024

/* Mounts, serves until the mount ends, writes everything back, ends. Blocks all signals for
 * itself, so no other thread may exist yet. 0, or negative errno and one line in `err` when it
 * could not be mounted (-EACCES and -EPERM: not permitted). */
int mount_run(const struct mount_options *o, const struct mount_events *events,
              char err[MOUNT_ERROR_MAX]);

struct front;
struct remote;

/* What the control socket answers from; `ctx` of mount_control_ops. */
struct mount_state {
    const struct mount_options *options;
    struct front *front;
    struct remote *remote;
    uint64_t start_ns;    /* CLOCK_MONOTONIC */
    uint64_t size_max;    /* bytes that the cache may be given */
    atomic_bool given_up; /* a person discards what is dirty: nothing is sent any more */
};
extern const struct control_ops mount_control_ops; /* mount_control.c */

/* After the server was given up: discards what became dirty since, each file named in the log. */
void mount_discard_rest(struct mount_state *m);

/* The status of a mount as JSON text, freed by the caller; NULL: out of memory. stats_json.c */
char *stats_json(const struct mount_state *m);
/* The files that hold bytes which the server has not committed, as a JSON array (control.h). */
char *stats_json_files(const struct mount_state *m);

#endif
