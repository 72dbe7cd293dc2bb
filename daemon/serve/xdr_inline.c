// SPDX-License-Identifier: Apache-2.0
/* In-place XDR of handles, names and data; see the header. */
#include "daemon/serve/xdr_inline.h"

#include <string.h>

static bool_t xdr_slice_bounded(XDR *xdrs, xdr_slice *slice, uint32_t max)
{
    uint32_t len = slice->len;

    if (!xdr_u_int(xdrs, &len) || len > max)
        return FALSE;
    uint32_t padded = (len + 3) & ~3U;
    uint8_t *at = (uint8_t *)XDR_INLINE(xdrs, padded);
    if (!at && padded)
        return FALSE;
    if (xdrs->x_op == XDR_ENCODE) {
        if (padded) {
            memset(at + padded - 4, 0, 4);
            memcpy(at, slice->data, len);
        }
        return TRUE;
    }
    slice->len = len;
    slice->data = at;
    return TRUE;
}

bool_t xdr_nfs_fh3(XDR *xdrs, nfs_fh3 *fh)
{
    xdr_slice slice = {.len = fh->len, .data = fh->data};

    if (xdrs->x_op == XDR_FREE)
        return TRUE;
    if (!xdr_slice_bounded(xdrs, &slice, NFS3_FHSIZE))
        return FALSE;
    if (xdrs->x_op == XDR_DECODE) {
        memset(fh, 0, sizeof(*fh));
        fh->len = slice.len;
        if (slice.len)
            memcpy(fh->data, slice.data, slice.len);
    }
    return TRUE;
}

bool_t xdr_filename3(XDR *xdrs, filename3 *name)
{
    return xdrs->x_op == XDR_FREE || xdr_slice_bounded(xdrs, name, SERVE_MAX_NAME);
}

bool_t xdr_nfspath3(XDR *xdrs, nfspath3 *path)
{
    return xdrs->x_op == XDR_FREE || xdr_slice_bounded(xdrs, path, SERVE_MAX_PATH);
}

bool_t xdr_writedata3(XDR *xdrs, writedata3 *data)
{
    return xdrs->x_op == XDR_FREE || xdr_slice_bounded(xdrs, data, SERVE_MAX_IO);
}
