// SPDX-License-Identifier: Apache-2.0
/*
 * Reading XDR (RFC 4506) from a reply that nobody vouches for.
 *
 * A cursor with a sticky `bad`: reads past the end return zeros and set it, so that a decoder reads
 * straight on and looks once at the end. Nothing here allocates; opaques are returned as pointers
 * into the record. Replies are not decoded with libnfs's routines, because those trust lengths: a
 * 31-bit opaque length makes their position negative, and an opaque of fixed size is copied without
 * a look at what is left (docs/decisions-nfs.md).
 */
#ifndef NFSCACHED_DAEMON_NFS_XDR_H
#define NFSCACHED_DAEMON_NFS_XDR_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct xdr {
    const uint8_t *p, *end;
    bool bad;
};

static inline struct xdr xdr_of(const void *data, size_t len)
{
    return (struct xdr){.p = data, .end = (const uint8_t *)data + len};
}

static inline size_t xdr_left(const struct xdr *x)
{
    return (size_t)(x->end - x->p);
}

static inline uint32_t xdr_u32(struct xdr *x)
{
    uint32_t v;
    if (xdr_left(x) < sizeof(v)) {
        x->bad = true;
        return 0;
    }
    memcpy(&v, x->p, sizeof(v));
    x->p += sizeof(v);
    return be32toh(v);
}

static inline uint64_t xdr_u64(struct xdr *x)
{
    uint64_t hi = xdr_u32(x);
    return hi << 32 | xdr_u32(x);
}

/* RFC 4506 4.4: 0 or 1, nothing else. */
static inline bool xdr_bool(struct xdr *x)
{
    uint32_t v = xdr_u32(x);
    if (v > 1)
        x->bad = true;
    return v == 1;
}

/* `len` bytes and their padding; NULL if they are not there. */
static inline const uint8_t *xdr_fixed(struct xdr *x, uint32_t len)
{
    size_t padded = ((size_t)len + 3) & ~(size_t)3;
    const uint8_t *at = x->p;
    if (xdr_left(x) < padded) {
        x->bad = true;
        return NULL;
    }
    x->p += padded;
    return at;
}

/* A counted opaque or string of at most `max` bytes; NULL if it is longer or not there. */
static inline const uint8_t *xdr_bytes(struct xdr *x, uint32_t max, uint32_t *len)
{
    uint32_t n = xdr_u32(x);
    *len = 0;
    if (x->bad || n > max) {
        x->bad = true;
        return NULL;
    }
    const uint8_t *at = xdr_fixed(x, n);
    if (at)
        *len = n;
    return at;
}

#endif
