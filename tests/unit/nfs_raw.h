// SPDX-License-Identifier: Apache-2.0
/*
 * A bare NFSv3 client for tests: bytes on a socket, so that a test decides about XIDs, source
 * ports, retransmissions and malformed calls. Everything that goes wrong on the way fails the test.
 */
#ifndef NFSCACHED_TESTS_NFS_RAW_H
#define NFSCACHED_TESTS_NFS_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    P_NULL,
    P_GETATTR,
    P_SETATTR,
    P_LOOKUP,
    P_ACCESS,
    P_READLINK,
    P_READ,
    P_WRITE,
    P_CREATE,
    P_MKDIR,
    P_SYMLINK,
    P_MKNOD,
    P_REMOVE,
    P_RMDIR,
    P_RENAME,
    P_LINK,
    P_READDIR,
    P_READDIRPLUS,
    P_FSSTAT,
    P_FSINFO,
    P_PATHCONF,
    P_COMMIT,
};

enum {
    E_OK = 0,
    E_NOENT = 2,
    E_IO = 5,
    E_ACCES = 13,
    E_EXIST = 17,
    E_NOTDIR = 20,
    E_ISDIR = 21,
    E_INVAL = 22,
    E_FBIG = 27,
    E_NOSPC = 28,
    E_ROFS = 30,
    E_NAMETOOLONG = 63,
    E_STALE = 70,
    E_BADHANDLE = 10001,
    E_NOT_SYNC = 10002,
    E_BAD_COOKIE = 10003,
    E_JUKEBOX = 10008
};

#define RAW_GONE 0xfffffff0U /* the server closed the connection instead of answering */

struct fh {
    uint32_t len;
    uint8_t data[64];
};

/* Bytes being put together, or taken apart. */
struct xbuf {
    uint8_t *data;
    size_t len, at, cap;
    bool bad; /* read beyond the end */
};

void x_reset(struct xbuf *x);
void x_free(struct xbuf *x);
void x_u32(struct xbuf *x, uint32_t value);
void x_u64(struct xbuf *x, uint64_t value);
void x_opaque(struct xbuf *x, const void *data, size_t len); /* with its length */
void x_fh(struct xbuf *x, const struct fh *fh);
void x_name(struct xbuf *x, const char *name);
void x_no_sattr(struct xbuf *x);
uint32_t x_get32(struct xbuf *x);
uint64_t x_get64(struct xbuf *x);
const uint8_t *x_take(struct xbuf *x, size_t len); /* padded */
void x_get_fh(struct xbuf *x, struct fh *fh);

struct attrs {
    bool present;
    uint32_t type, mode, nlink, uid, gid;
    uint64_t size, fileid, mtime, ctime, atime; /* times in ns */
};

void x_get_attrs(struct xbuf *x, struct attrs *a); /* fattr3 */
void x_get_post(struct xbuf *x, struct attrs *a);  /* post_op_attr */
void x_get_wcc(struct xbuf *x, struct attrs *before, struct attrs *after);

struct raw {
    int fd;
    uint16_t server_port, own_port;
    uint32_t next_xid;
    uint32_t uid, gid; /* AUTH_SYS; uid UINT32_MAX: AUTH_NONE */
    uint32_t ngroups, groups[20];
    struct xbuf reply; /* of the last call, behind the status */
};

/* OWN_PORT 0: any. */
void raw_open(struct raw *raw, uint16_t server_port, uint16_t own_port);
void raw_close(struct raw *raw);
/* Connect anew from the same source port. */
void raw_reconnect(struct raw *raw);

/* A whole call with record mark and header into OUT. */
void raw_build(struct raw *raw, struct xbuf *out, uint32_t xid, uint32_t prog, uint32_t proc,
               const struct xbuf *args);
void raw_send(struct raw *raw, const void *data, size_t len);
/* The next reply into raw->reply (at: behind the RPC header). Its accept status; *XID. RAW_GONE. */
uint32_t raw_receive(struct raw *raw, uint32_t *xid);
/* Whether something can be received within MS milliseconds. */
bool raw_readable(struct raw *raw, int ms);

/* One NFS call; the nfsstat3 (raw->reply stands behind it), or RAW_GONE. */
uint32_t raw_nfs(struct raw *raw, uint32_t proc, const struct xbuf *args);
uint32_t raw_nfs_xid(struct raw *raw, uint32_t xid, uint32_t proc, const struct xbuf *args);

/* Below: the calls that the tests make most. All return the nfsstat3 or RAW_GONE. */
uint32_t raw_mount(struct raw *raw, const char *path, struct fh *root);
uint32_t raw_lookup(struct raw *raw, const struct fh *dir, const char *name, struct fh *fh);
uint32_t raw_getattr(struct raw *raw, const struct fh *fh, struct attrs *a);
uint32_t raw_create(struct raw *raw, const struct fh *dir, const char *name, struct fh *fh);
uint32_t raw_mkdir(struct raw *raw, const struct fh *dir, const char *name, struct fh *fh);
uint32_t raw_remove(struct raw *raw, const struct fh *dir, const char *name);

struct write_result {
    struct attrs before, after;
    uint32_t count, committed;
    uint64_t verf;
};
/* STABLE: 0 UNSTABLE, 1 DATA_SYNC, 2 FILE_SYNC. W may be NULL. */
uint32_t raw_write(struct raw *raw, const struct fh *fh, uint64_t off, const void *data,
                   uint32_t len, uint32_t stable, struct write_result *w);
uint32_t raw_commit(struct raw *raw, const struct fh *fh, struct write_result *w);
/* Bytes read in *LEN, at most CAP; *EOF_REACHED may be NULL. */
uint32_t raw_read(struct raw *raw, const struct fh *fh, uint64_t off, void *data, uint32_t cap,
                  uint32_t *len, bool *eof_reached);

#endif
