// SPDX-License-Identifier: Apache-2.0
/*
 * A target: a directory of a mounted file system, and perhaps a second way to the same files (the
 * server's own directory, another client's mount). All of it is done with POSIX calls; what a
 * mount of ours or of the kernel's NFS client tells about itself is asked where it can be.
 */
#ifndef NFSCACHED_BENCH_TARGET_H
#define NFSCACHED_BENCH_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/bench/bench.h"

enum target_kind {
    TARGET_OURS,   /* nfscached: it has a control socket */
    TARGET_KERNEL, /* the kernel's NFS client: /proc/self/mountstats */
    TARGET_OTHER
};

struct target {
    enum target_kind kind;
    char *name;    /* in the results */
    char *what;    /* "fuse.nfscached, server:/export" */
    char *dir;     /* a directory of our own in what was given */
    char *foreign; /* the same directory by the other way; NULL if none was given */
    char *mountpoint;
    dev_t dev;
    uid_t owner;
};

struct targets {
    struct target *list;
    size_t n;
};

/*
 * Opens what --dir (each "[NAME=]DIRECTORY") and --foreign-dir name: makes a scratch directory in
 * each, and sees that both ways lead to the same files. As many foreign directories as targets, or
 * one for all, or none. False after a message; targets_close() in any case.
 */
bool targets_open(struct targets *t, char *const *dirs, char *const *foreign_dirs,
                  bool foreign_needed);
/* Removes all that was made in them. */
void targets_close(struct targets *t);
void targets_describe(const struct targets *t, struct matrix *m);

/* Bytes that the mount has read from its server so far; false where it cannot be told. */
bool target_fetched(const struct target *t, uint64_t *bytes);

/* The daemon behind it, 0 where there is none that we know. */
pid_t target_daemon(const struct target *t);
/* CPU time of that process so far, in seconds; false if unknown. */
bool target_cpu(pid_t pid, double *seconds);

/* Drops the clean pages from the daemon's own cache. False where there is none that we can ask. */
bool target_drop_daemon(const struct target *t);

/* "DIR/NAME" into `path`, of PATH_MAX bytes. */
void target_path(const char *dir, const char *name, char *path);

/* Removes a directory and what is in it. 0 or negative errno of the first failure. */
int remove_tree(const char *dir);

#endif
