// SPDX-License-Identifier: Apache-2.0
/*
 * The remote side, in words that no protocol version owns.
 *
 * fuse/ and the glue of cache/ ask through this table; daemon/nfs/ answers it for NFSv3. A call is
 * a caller-owned struct: fill it, remote_submit() it, and its done() is called exactly once, in
 * some loop's thread, with no lock of the remote side held. Nothing here ever blocks.
 *
 * Errors are negative errno values of the operation; what the transport can do about a sick
 * server (reconnect, retransmit, JUKEBOX, hard or soft) is done below this line, and shows here
 * only as -ETIMEDOUT on a `soft` mount or -ENOTCONN at shutdown.
 */
#ifndef NFSCACHED_DAEMON_REMOTE_H
#define NFSCACHED_DAEMON_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "cache/attr.h"
#include "daemon/loop.h"

struct remote;

enum remote_op {
    REMOTE_GETATTR,
    REMOTE_SETATTR,
    REMOTE_LOOKUP,
    REMOTE_ACCESS,
    REMOTE_READLINK,
    REMOTE_READ,
    REMOTE_WRITE,
    REMOTE_CREATE,
    REMOTE_MKDIR,
    REMOTE_SYMLINK,
    REMOTE_MKNOD,
    REMOTE_REMOVE,
    REMOTE_RMDIR,
    REMOTE_RENAME,
    REMOTE_LINK,
    REMOTE_READDIR, /* with attributes and handles (READDIRPLUS) if u.readdir.plus */
    REMOTE_FSSTAT,
    REMOTE_FSINFO,
    REMOTE_PATHCONF,
    REMOTE_COMMIT,
    REMOTE_OP_COUNT
};

/* Which attributes a SETATTR, CREATE, MKDIR, MKNOD or SYMLINK sets. */
enum {
    REMOTE_SET_MODE = 1 << 0,
    REMOTE_SET_UID = 1 << 1,
    REMOTE_SET_GID = 1 << 2,
    REMOTE_SET_SIZE = 1 << 3,
    REMOTE_SET_ATIME = 1 << 4,     /* to `atime` */
    REMOTE_SET_MTIME = 1 << 5,     /* to `mtime` */
    REMOTE_SET_ATIME_NOW = 1 << 6, /* to the server's clock */
    REMOTE_SET_MTIME_NOW = 1 << 7,
};

struct remote_setattr {
    uint32_t set; /* REMOTE_SET_* */
    uint32_t mode, uid, gid;
    uint64_t size;
    struct timespec atime, mtime;
};

/* Pre-operation attributes as the server gave them (RFC 1813 wcc_attr). */
struct remote_wcc {
    bool valid;
    uint64_t size;
    struct timespec mtime, ctime;
};

/* Attributes that came with a reply; `valid` false: the server sent none. */
struct remote_post {
    bool valid;
    struct attr attr;
};

enum remote_stable { REMOTE_UNSTABLE = 0, REMOTE_DATA_SYNC = 1, REMOTE_FILE_SYNC = 2 };

struct remote_dirent {
    struct remote_dirent *next;
    uint64_t fileid, cookie; /* cookie: where the next READDIR goes on after this entry */
    bool has_fh;
    struct fh fh;            /* only with plus, and when the server sent it */
    struct remote_post post; /* likewise */
    char name[];             /* NUL-terminated; any byte but '/' and NUL */
};

struct remote_call {
    /* ---- set by the caller; pointers must stay valid until done() ---- */
    enum remote_op op;
    const struct cred *cred;
    struct fh fh;     /* the object; for operations on a name, its directory */
    const char *name; /* LOOKUP CREATE MKDIR SYMLINK MKNOD REMOVE RMDIR RENAME(from) LINK(new) */
    struct fh fh2;    /* RENAME: target directory; LINK: directory of the new name (fh: the file) */
    const char *name2; /* RENAME: the new name */
    union {
        struct {
            struct remote_setattr set;
            bool guard; /* SETATTR: only if the server's ctime equals guard_ctime */
            struct timespec guard_ctime;
            bool exclusive;       /* CREATE: fail with -EEXIST unless this very call made it */
            uint64_t rdev;        /* MKNOD: makedev() form; the type is in set.mode's S_IFMT */
            const char *linkname; /* SYMLINK: the text */
        } make;                   /* SETATTR CREATE MKDIR SYMLINK MKNOD */
        struct {
            uint64_t fileid; /* RENAME: of the object that moves, 0 if not known. Asked only after a
                                retransmission was answered by NOENT: did the first one do it? */
        } rename;
        struct {
            uint32_t want; /* R_OK|W_OK|X_OK of access(2) */
            uint32_t allowed;
        } access;
        struct {
            uint64_t offset;
            uint32_t count;          /* at most the rsize in force */
            const struct iovec *iov; /* READ fills them, WRITE gathers from them; sum >= count */
            int iovcnt;
            uint32_t done; /* result: bytes read or written (checked: never above count) */
            bool eof;      /* READ */
            enum remote_stable stable; /* WRITE: asked for, and on return what the server did */
            uint8_t verf[8];           /* WRITE, COMMIT: the write verifier */
        } io;                          /* READ WRITE COMMIT (offset and count 0: the whole file) */
        struct {
            uint64_t cookie; /* 0: from the start */
            uint8_t verf[8]; /* in and out */
            uint32_t count;  /* bytes of reply wanted (64..256 KiB) */
            bool plus;
            bool eof;
            struct remote_dirent *entries; /* freed by remote_call_clear() */
        } readdir;
        struct {
            char *text; /* READLINK: NUL-terminated; freed by remote_call_clear() */
        } readlink;
        struct {
            uint64_t tbytes, fbytes, abytes, tfiles, ffiles, afiles;
        } fsstat;
        struct {
            uint32_t rtmax, rtpref, wtmax, wtpref, dtpref;
            uint64_t maxfilesize;
            struct timespec time_delta;
        } fsinfo;
        struct {
            uint32_t linkmax, name_max;
            bool no_trunc, chown_restricted, case_insensitive, case_preserving;
        } pathconf;
    } u;
    void (*done)(struct remote_call *call);
    void *arg; /* the caller's own */

    /* ---- results, valid in done() ---- */
    int error;               /* 0 or negative errno */
    struct remote_post post; /* of fh; for LOOKUP CREATE MKDIR SYMLINK MKNOD of the object found or
                                made; for LINK of the file */
    bool has_obj;            /* LOOKUP CREATE MKDIR SYMLINK MKNOD: obj is set */
    struct fh obj;
    struct remote_post dir_post;  /* of the directory (RENAME: of the source directory) */
    struct remote_post dir2_post; /* RENAME: of the target directory */
    struct remote_wcc pre;        /* SETATTR WRITE COMMIT: of fh before the operation */
    struct remote_wcc dir_pre, dir2_pre;
    uint64_t sent_ns, replied_ns; /* CLOCK_MONOTONIC: first sending, arrival of the reply */
    bool retransmitted;

    /* ---- private to the remote side; initialised by remote_submit() ---- */
    struct {
        struct remote_call *prev, *next; /* neighbours in `queue` */
        struct remote_call *hash;        /* next of the same XID bucket */
        void *conn, *queue, *extra;
        uint32_t xid, tries; /* tries: how often it was put on the wire */
        uint32_t delay_ms;   /* JUKEBOX: the wait before the next try */
        uint8_t step, proc;  /* which RPC of the operation is under way */
        uint8_t flags, garbled;
        int saved;            /* the error that a verification may turn into a success */
        uint8_t verf[8];      /* exclusive CREATE */
        uint64_t deadline_ns; /* when the server is late */
        uint64_t giveup_ns;   /* soft mounts */
        uint64_t start_ns, tx_ns;
        uint64_t tx_start, tx_end; /* its place in the byte stream of the connection */
        struct loop_task task;
    } p;
};

struct remote_ops {
    void (*submit)(struct remote *r, struct remote_call *call);
    void (*clear)(struct remote_call *call);
    void (*give_up)(struct remote *r);
    void (*destroy)(struct remote *r);
};

/* Base of an implementation's own struct. What follows is fixed once the mount is made. */
struct remote {
    const struct remote_ops *ops;
    struct fh root;
    uint32_t rsize, wsize, dtsize; /* in force: min(option, server, 1 MiB) */
    uint64_t maxfilesize;
    uint32_t name_max, link_max;
    bool wcc_on_write; /* learnt: WRITE replies of this server carry pre-op attributes (read it
                          with __atomic_load_n, relaxed: connections set it) */
};

/* Hands the call over; done() follows in some loop's thread: never from inside this function, but
 * possibly before it returns if that is another thread. Any thread; locks may be held. */
static inline void remote_submit(struct remote *r, struct remote_call *call)
{
    r->ops->submit(r, call);
}

/* Frees what the results own (directory entries, link text); the struct stays the caller's. */
static inline void remote_call_clear(struct remote *r, struct remote_call *call)
{
    r->ops->clear(call);
}

/* A person gave up on the server (umount --force): every call, those in flight among them, ends
 * with -ENOTCONN from now on. Waits for the loops, so not on one. destroy() still follows. */
static inline void remote_give_up(struct remote *r)
{
    r->ops->give_up(r);
}

/* Ends the mount: every call still outstanding is done with -ENOTCONN before this returns. done()
 * must not answer that by submitting again, and no other thread may submit any more. The loops that
 * the caller gave are still running, or have been joined. Takes a few seconds at most. */
static inline void remote_destroy(struct remote *r)
{
    r->ops->destroy(r);
}

/* Submits and waits. Helper threads only: never on a loop (it would wait for itself). */
int remote_call_wait(struct remote *r, struct remote_call *call);

#endif
