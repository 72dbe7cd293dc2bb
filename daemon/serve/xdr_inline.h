// SPDX-License-Identifier: Apache-2.0
/*
 * The XDR types of the server that carry bytes of unknown length: file handles, names, symlink
 * targets and the data of WRITE. rpcgen would allocate for each of them; these routines decode in
 * place: a decoded pointer points into the record of the call and lives as long as it. Lengths are
 * bounded before anything is done with them, so that a hostile length cannot allocate or overrun.
 *
 * They work on xdrmem streams only (XDR_INLINE must give a pointer), and return FALSE on a length
 * above the limit or beyond the end of the record: the caller answers GARBAGE_ARGS.
 */
#ifndef NFSCACHED_SERVE_XDR_INLINE_H
#define NFSCACHED_SERVE_XDR_INLINE_H

#include <stdint.h>

#include <rpc/rpc.h>

#define NFS3_FHSIZE    64
#define SERVE_MAX_NAME 4096       /* longest name that is decoded; above 255 gets NAMETOOLONG */
#define SERVE_MAX_PATH 8192       /* longest path that is decoded; above 4095 gets NAMETOOLONG */
#define SERVE_MAX_IO   (1U << 20) /* rtmax and wtmax */

typedef struct nfs_fh3 {
    uint32_t len;
    uint8_t data[NFS3_FHSIZE];
} nfs_fh3;

/* Bytes inside the record of the call; not terminated, may hold any byte. */
typedef struct xdr_slice {
    uint32_t len;
    const uint8_t *data;
} xdr_slice;

typedef xdr_slice filename3;
typedef xdr_slice nfspath3;
typedef xdr_slice writedata3;

bool_t xdr_nfs_fh3(XDR *xdrs, nfs_fh3 *fh);
bool_t xdr_filename3(XDR *xdrs, filename3 *name);
bool_t xdr_nfspath3(XDR *xdrs, nfspath3 *path);
bool_t xdr_writedata3(XDR *xdrs, writedata3 *data);

#endif
