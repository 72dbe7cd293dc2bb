// SPDX-License-Identifier: Apache-2.0
/*
 * What the server remembers of a file between calls: its lock, its uncommitted bytes, and the
 * attributes it shows for them. Everything else is asked from the directory on every call, so that
 * a process which edits the directory is seen at once.
 *
 * Shown times. An UNSTABLE WRITE changes nothing in the directory, yet clients must see size, mtime
 * and ctime change, and see no further change when COMMIT moves the bytes. So a file that was
 * written UNSTABLE has a *shadow*: the times shown, and the real times they stand for. As long as
 * the real ones are as remembered, the shown ones are shown; when something else changed the file,
 * the shown ctime takes the larger of the real one and its own successor: it never goes back. A
 * reboot drops the shadow with the bytes.
 *
 * Lock order: inode.lock (two directories: by address) > itable.lock. A directory's lock may be
 * held while a file's is taken (REMOVE), never the reverse.
 */
#ifndef NFSCACHED_SERVE_INODE_H
#define NFSCACHED_SERVE_INODE_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "daemon/serve/export.h"
#include "daemon/serve/overlay.h"

struct inode;

struct itable {
    pthread_mutex_t lock;
    struct inode *inodes;      /* uthash by handle */
    TAILQ_HEAD(, inode) dirty; /* has an overlay, oldest first */
    TAILQ_HEAD(, inode) idle;  /* unreferenced, kept for its shadow, oldest first */
    unsigned nidle;
    size_t memory, limit; /* of all overlays, bytes */
    uint64_t spills;      /* files committed early because of the limit */
    struct export *exp;
    bool no_fsync;
};

void itable_init(struct itable *table, struct export *exp, size_t limit, bool no_fsync);
void itable_destroy(struct itable *table);

/* The record of FH, made when missing; never NULL except without memory. Release: serve_inode_put.
 */
struct inode *serve_inode_get(struct itable *table, const nfs_fh3 *fh);
/* The record of FH when there is one: NULL means "nothing uncommitted, attributes are the real". */
struct inode *serve_inode_find(struct itable *table, const nfs_fh3 *fh);
void serve_inode_put(struct itable *table, struct inode *inode);

void serve_inode_lock(struct inode *inode);
void serve_inode_unlock(struct inode *inode);
void serve_inode_lock_two(struct inode *a, struct inode *b); /* may be the same */
void serve_inode_unlock_two(struct inode *a, struct inode *b);

/* Below this line, to the next one, the inode's lock is held. FD is a descriptor of the file. */

/* fstat, as shown to clients. 0 or negative errno. */
int serve_inode_stat(struct inode *inode, int fd, struct stat *st);
/* This server changed the file itself (SETATTR, stable WRITE, LINK): ctime shown moves on. */
void serve_inode_changed(struct inode *inode, int fd);
bool serve_inode_uncommitted(const struct inode *inode);
/* UNSTABLE bytes. 0 or -ENOMEM. */
int serve_inode_write(struct itable *table, struct inode *inode, int fd, uint64_t off,
                      const void *data, size_t len);
/* BUF holds N bytes read from the directory at OFF (fewer than LEN at its end of file): overlay
 * what is uncommitted. Returns how many of the LEN bytes are valid; sets *EOF_REACHED. */
size_t serve_inode_patch(struct inode *inode, int fd, uint64_t off, void *buf, size_t n, size_t len,
                         bool *eof_reached);
/* Move the uncommitted bytes into the directory through FD (writable), server's ids. 0 or negative
 * errno, and then they are kept. Does not fsync. */
int serve_inode_flush(struct itable *table, struct inode *inode, int fd);
void serve_inode_truncate(struct itable *table, struct inode *inode, uint64_t size);

/* Below this line no inode lock is held. */

/* Commit the oldest files while the overlays take more than the limit. Server's ids. */
void itable_spill(struct itable *table);
/* Commit every file, as an orderly shutdown does; all are tried. First error, or 0. Server's ids.
 */
int itable_commit_all(struct itable *table);
/* Lose everything uncommitted, as a reboot does. Returns the number of bytes of memory dropped.
 * No call may be in progress. */
size_t itable_reboot(struct itable *table);
/* The file is gone from the directory. */
void itable_forget(struct itable *table, const nfs_fh3 *fh);

#endif
