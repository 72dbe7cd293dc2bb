// SPDX-License-Identifier: Apache-2.0
/*
 * Byte ranges and who holds them; ranges.c.
 */
#ifndef NFSCACHED_FUSE_RANGES_H
#define NFSCACHED_FUSE_RANGES_H

#include <stdint.h>
#include <sys/types.h>

struct range_lock {
    struct range_lock *next;
    uint64_t start, end; /* both included; end UINT64_MAX: to the end of the file */
    uint64_t owner;
    pid_t pid;
    int type; /* F_RDLCK, F_WRLCK; F_UNLCK in requests only */
};

/* The first lock of another owner that forbids `want`, or NULL. */
const struct range_lock *ranges_conflict(const struct range_lock *list,
                                         const struct range_lock *want);
/* Sets, or with F_UNLCK removes, the owner's lock on a range, as fcntl(2) does: what it overlaps of
 * the same owner is replaced, cut or merged. Conflicts with other owners are not looked at. 0, or
 * -ENOLCK: no memory, nothing changed. */
int ranges_set(struct range_lock **list, const struct range_lock *want);
void ranges_free(struct range_lock *list);

#endif
