// SPDX-License-Identifier: Apache-2.0
/*
 * The small value types that every layer shares: file handle, credential, attributes, change token.
 */
#ifndef NFSCACHED_CACHE_ATTR_H
#define NFSCACHED_CACHE_ATTR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

/* An opaque file handle: 64 bytes at most in NFSv3 (RFC 1813 2.4). */
#define FH_MAX 64
struct fh {
    uint8_t len;
    uint8_t data[FH_MAX];
};

static inline bool fh_equal(const struct fh *a, const struct fh *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* AUTH_SYS carries at most 16 groups (RFC 5531 appendix A). */
#define CRED_GROUPS_MAX 16
struct cred {
    uint32_t uid, gid;
    uint32_t ngroups;
    uint32_t groups[CRED_GROUPS_MAX];
};

struct attr {
    uint32_t mode; /* type and permissions, as st_mode */
    uint32_t nlink;
    uint32_t uid, gid;
    uint64_t size, used; /* bytes */
    uint64_t rdev;       /* makedev() form */
    uint64_t fsid, fileid;
    struct timespec atime, mtime, ctime;
    uint64_t change; /* NFSv4 change attribute; 0 where the protocol has none */
};

/* What tells one content of a file from another (v3: ctime, mtime, size; v4: change). */
struct token {
    struct timespec ctime, mtime;
    uint64_t size, change;
    bool valid;
    /* Of pages: it came with an own change, and whether somebody else was there before that was not
     * asked. It names the file's state, and proves nothing of the pages. */
    bool assumed;
};

static inline bool ts_equal(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static inline int ts_cmp(struct timespec a, struct timespec b)
{
    if (a.tv_sec != b.tv_sec)
        return a.tv_sec < b.tv_sec ? -1 : 1;
    return a.tv_nsec < b.tv_nsec ? -1 : a.tv_nsec > b.tv_nsec;
}

static inline struct token token_of(const struct attr *a)
{
    return (struct token){
        .ctime = a->ctime, .mtime = a->mtime, .size = a->size, .change = a->change, .valid = true};
}

/* The same state of the file, as far as tokens tell. */
static inline bool token_same(const struct token *a, const struct token *b)
{
    return a->valid && b->valid && ts_equal(a->ctime, b->ctime) && ts_equal(a->mtime, b->mtime) &&
           a->size == b->size && a->change == b->change;
}

/* ... and what matches the one matches the other. Two tokens that were never sampled are not equal,
 * nor is one that was assumed: "I do not know" is not "unchanged" (I6). */
static inline bool token_equal(const struct token *a, const struct token *b)
{
    return token_same(a, b) && !a->assumed && !b->assumed;
}

#endif
