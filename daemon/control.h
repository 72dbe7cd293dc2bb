// SPDX-License-Identifier: Apache-2.0
/*
 * The control socket of a mount, the daemon's end: status, flush, revalidate, discard, resize.
 *
 * One socket for each mount, named after the mount's device number, which no two live mounts share:
 * it is found from /proc/self/mountinfo alone, without touching a mount whose server may be away.
 * Only root and the user who mounted are answered (SO_PEERCRED).
 *
 * One thread runs libtirpc's server loop; each job runs in a thread of its own, so that a flush
 * that waits for the server keeps nobody else waiting. libtirpc's server state is one for the
 * process: nothing else in the mount process may use it.
 */
#ifndef NFSCACHED_DAEMON_CONTROL_H
#define NFSCACHED_DAEMON_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct control;

/* How another size of the cache is, or was, reached; in bytes, but for pages moved and evicted. */
struct control_resize {
    uint64_t was, size, target; /* at its beginning, now, and asked for */
    uint64_t least, most;       /* what may be asked for */
    uint64_t left;              /* in use, and yet to go or to be moved */
    uint64_t moved, evicted;
    uint64_t returned; /* memory that the system has again */
    uint64_t dirty_limit, dirty_background;
    bool clamped; /* limits given in bytes do not fit the size, and were lowered */
};

/*
 * What the mount answers. `ctx` is the pointer given to control_start(). Called in the control
 * thread (status, dirty_files, dirty_bytes: must not wait for the server) or in a job's thread
 * (the others: may). 0 or negative errno.
 *
 * `path` is relative to the root of the mount, without a '/' at its front; "" is the whole mount,
 * then `ino` is 0, else it is the st_ino that the mount shows for the file.
 */
struct control_ops {
    int (*status_json)(void *ctx, char **out); /* a JSON object; freed by the caller */
    /* A JSON array of {"path": text, "ino": number, "bytes": number, "error": text or null} */
    int (*dirty_files)(void *ctx, char **out);
    uint64_t (*dirty_bytes)(void *ctx); /* not yet committed by the server */
    int (*flush)(void *ctx, const char *path, uint64_t ino);
    int (*revalidate)(void *ctx, const char *path, uint64_t ino);
    int (*drop_clean)(void *ctx, uint64_t *pages);
    int (*discard)(void *ctx, uint64_t ino, uint64_t *bytes);
    /* Fills `out` however it ends; -EINTR: resize_stop was called. */
    int (*resize)(void *ctx, uint64_t size, struct control_resize *out);
    /* While it runs; from the control thread, like resize_stop. */
    void (*resize_state)(void *ctx, struct control_resize *out);
    void (*resize_stop)(void *ctx);
};

/* Opens the socket of the mount with device number `dev`, replacing one that a dead daemon left,
 * and answers from a new thread. `owner`: the user who may ask beside root. 0 or negative errno. */
int control_start(dev_t dev, uid_t owner, const struct control_ops *ops, void *ctx,
                  struct control **out);

/* Removes the socket, ends the thread and waits for the jobs: whatever they wait for must have
 * been answered or cancelled. NULL is allowed. */
void control_stop(struct control *c);

/* Where the socket of a mount of `owner` is. 0, or -ENAMETOOLONG. No lock, any thread. */
#define CONTROL_SOCKET_PATH_MAX 108 /* sun_path of unix(7) */
int control_socket_path(dev_t dev, uid_t owner, char path[CONTROL_SOCKET_PATH_MAX]);
/* The directory of it. */
int control_socket_dir(uid_t owner, char path[CONTROL_SOCKET_PATH_MAX]);

#endif
