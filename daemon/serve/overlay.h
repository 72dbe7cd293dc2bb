// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes of one file that were written UNSTABLE and are not in the directory yet.
 *
 *   Judy array:  offset / 64 KiB -> chunk { 64 KiB of memory, sorted ranges that are valid in it }
 *
 * A WRITE costs one copy and, in each chunk it touches, a change of a short sorted list; sequential
 * writers keep one range per chunk. Chunks come from a free list. No locking here: the inode's lock
 * (inode.h) is held around all calls. Offsets and lengths are bytes.
 */
#ifndef NFSCACHED_SERVE_OVERLAY_H
#define NFSCACHED_SERVE_OVERLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct overlay {
    void *chunks;  /* JudyL */
    uint64_t end;  /* one past the last byte written, 0 when empty */
    size_t memory; /* bytes of memory that the chunks take */
};

bool overlay_empty(const struct overlay *ov);

/* Put LEN bytes at OFF. 0 or -ENOMEM (then a prefix may have been put). */
int overlay_write(struct overlay *ov, uint64_t off, const void *data, size_t len);

/* Replace in BUF, which holds the LEN bytes of the file at OFF, what is newer here. */
void overlay_patch(const struct overlay *ov, uint64_t off, void *buf, size_t len);

/* Forget every byte at SIZE and beyond. */
void overlay_truncate(struct overlay *ov, uint64_t size);

/* Write all to FD. On success the overlay is empty; on error (negative errno) it is as it was. */
int overlay_flush(struct overlay *ov, int fd);

void overlay_drop(struct overlay *ov);

#endif
