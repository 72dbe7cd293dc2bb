// SPDX-License-Identifier: Apache-2.0
/*
 * Which mounts there are, from /proc/self/mountinfo: read without touching any of them, because
 * one whose server is away would not answer.
 */
#ifndef NFSCACHED_DAEMON_MOUNTS_H
#define NFSCACHED_DAEMON_MOUNTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mount_entry {
    int id;           /* mnt_id */
    dev_t dev;        /* st_dev of its files */
    char *root;       /* which directory of the file system is mounted here: "/" but for binds */
    char *mountpoint; /* absolute */
    char *type;       /* "fuse.nfscached" */
    char *source;     /* SERVER:/EXPORT */
    uid_t owner;      /* user_id= of a FUSE mount: who made it */
    bool is_ours;     /* a fuse mount of this program: type fuse.nfscached, or its socket listens */
};

struct mount_list {
    struct mount_entry *entries;
    size_t count;
};

/* Reads the table; 0 or negative errno. The last of several mounts on one directory is the one
 * that is seen, and comes last here too. */
int mounts_read(struct mount_list *list);
void mounts_free(struct mount_list *list);

/* The visible mount whose mountpoint is exactly `path`, found without entering it: only the
 * directories above it are resolved. NULL and an error text if there is none of ours. */
const struct mount_entry *mounts_at(const struct mount_list *list, const char *path, char *err,
                                    size_t errlen);

/* A file or a directory of one of our mounts, or a mountpoint. */
struct mount_file {
    const struct mount_entry *mount;
    char *path;   /* from the root of the file system, without '/' at its front; "": the root */
    uint64_t ino; /* st_ino; 0 for the root */
};
/* Looks the path up, by the mount: it waits if the server is away, except for a mountpoint. 0 or
 * negative errno and an error text. The caller frees file->path. */
int mounts_file(const struct mount_list *list, const char *path, struct mount_file *file, char *err,
                size_t errlen);

/* Unmounts: umount(2), or fusermount3 where the caller is not root. `lazy`: out of sight now, ended
 * when nobody uses it any more. 0 or negative errno (-EBUSY: in use; -EPERM). */
int mounts_detach(const char *mountpoint, bool lazy);

/* The line of mountinfo -> the entry; false if it is not understood. For mounts_read and its
 * test. The strings are the caller's to free. */
bool mounts_parse_line(const char *line, struct mount_entry *out);

#endif
