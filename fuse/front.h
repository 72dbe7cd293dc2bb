// SPDX-License-Identifier: Apache-2.0
/*
 * The FUSE front: what its files share.
 *
 *   session.c  /dev/fuse in the shards' loops, INIT settings, the table of operations, shutdown
 *   op.c       a request in flight: its remote call, its parked reply, fatal signals
 *   inode.c    inode table: node id <-> handle, lookup counts, lifetime
 *   attr.c     attribute cache: what is accepted from replies, what the kernel is told, for how
 *              long
 *   name.c     lookup, create, mkdir, symlink, mknod, link, rename, unlink (silly rename), rmdir
 *   names.c    by which name the kernel last got an inode
 *   ahead.c    LOOKUPs that are answered here, attributes fetched before they are asked for
 *   silly.c    files removed while open
 *   dir.c      readdir, readdirplus: what the server told, in the pieces that the kernel asks for
 *   listing.c  opendir; for how long the kernel may keep a listing
 *   setattr.c  setattr, truncation among them
 *   times.c    kernel_writeback: modification times that are the kernel's
 *   file.c     open, release, flush, fsync, lseek
 *   io.c       read, write
 *   lock.c     flock and POSIX locks among local processes
 *   revalidate.c  when a file is asked for, who waits for the answer
 *   unmap.c    emptying the kernel's page cache of one file (kernel notifications)
 *   glue.c     the two tables of cache/
 *
 * A handler runs in a shard's loop and never waits (invariant I5): it replies, or makes an op,
 * submits the op's call and returns; the call's done() replies.
 *
 * Lock order: use lock, inode table > inode lock > open lock > (cache/'s locks). The inode lock
 * guards the attribute cache and the small states below; nothing is called out of this folder with
 * it held, except cache/'s functions that take only the mapping lock.
 */
#ifndef NFSCACHED_FUSE_FRONT_H
#define NFSCACHED_FUSE_FRONT_H

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/cache.h"
#include "daemon/loop.h"
#include "daemon/remote.h"
#include "fuse/due.h"

enum front_lookupcache {
    FRONT_LOOKUPCACHE_ALL,
    FRONT_LOOKUPCACHE_POSITIVE,
    FRONT_LOOKUPCACHE_NONE
};

struct front_config {
    const char *mountpoint;       /* absolute */
    const char *fsname, *subtype; /* as shown in /proc/mounts */
    const char *mount_options;    /* further generic options for fuse_session_mount, comma list */
    bool read_only, allow_other, default_permissions;
    bool have_uid, have_gid, have_umask; /* presented instead of the server's */
    uint32_t uid, gid, umask;
    uint64_t acregmin_ns, acregmax_ns, acdirmin_ns, acdirmax_ns; /* 0..0: noac */
    bool cto, sync, rdirplus;
    bool local_flock, local_posix; /* always served locally; false also revalidates and flushes */
    enum front_lookupcache lookupcache;
    enum cache_wcc wcc;
    bool kernel_writeback; /* FUSE_WRITEBACK_CACHE: times.c */
};

/* ---- the inode ---------------------------------------------------------------------------- */

#define INODE_MAGIC 0x696e6f64u

/* What an inode needs only while it is open, revalidated, or has pages. */
struct inode_use {
    /* revalidation (revalidate.c); under inode_lock() */
    struct reval_wait *reval_waiting, *reval_joined;
    struct token proven; /* sampled a tick of the server's clock after the change it shows */

    struct due due; /* queued while it is open (revalidate.c); open lock */
    struct inode *ino;

    /* directories: change of the directory drops cached names */
    struct token dir_token;
    uint64_t dir_seen_ns,
        dir_listed_ns;       /* since when it is that; when a listing was begun (listing.c) */
    uint64_t dir_expires_ns; /* the first of the attributes that a listing gave the kernel */
    bool dir_plus;           /* the kernel had use for them */
    uint8_t dir_verf[8];     /* of the cookies that the kernel may have kept */
};

/* Of regular files under kernel_writeback: the mtime that the kernel has, and the server will be
 * told (times.c). */
struct inode_times {
    bool due;
    uint16_t cred;
    uint32_t setting; /* SETATTRs of an application's under way that set it */
    struct timespec mtime;
    struct timespec told;   /* in the last reply */
    struct timespec kernel; /* what it then made the inode of, or has set since */
};

struct inode {
    uint32_t magic;
    uint32_t index;          /* of its record in the arena */
    uint16_t type;           /* S_IFMT of its mode; with `fileid` what never changes */
    uint16_t access_allowed; /* with access_cred, below */
    atomic_uint refs; /* ours: open files, ops in flight, a busy mapping; beside the kernel's */
    uint64_t fileid;  /* 0: the root's, not known yet */
    struct inode_rec *rec; /* handle, attributes, lookup count */
    fuse_ino_t nodeid;     /* rec->reuse << 32 | index; the root is 1 */
    /* Made by inode_use(); stay while somebody of ours refers to the inode, or while there is
     * something in them (inode.c). */
    struct mapping *map; /* regular files */
    struct inode_use *use;
    struct inode_times *times; /* made with the inode; NULL without kernel_writeback */

    /* attribute cache (attr.c); under inode_lock() */
    uint64_t attr_sent_ns;    /* when the call that brought the attributes was sent */
    uint32_t attr_timeout_ms; /* adaptive: from ac*min, doubling to ac*max while unchanged */
    /* Until when the kernel may rely on the name below, in ms of CLOCK_MONOTONIC (they wrap); 0: it
     * was not told. Atomic. */
    uint32_t name_told_ms;
    _Atomic uint64_t attr_expires_ns; /* CLOCK_MONOTONIC; the timer reads it without the lock */
    /* Until then the pages are taken for what the server has. A reply to an own WRITE does not move
     * it: it proves nothing about the pages. Read by the timer without the lock. */
    _Atomic uint64_t pages_expire_ns;
    uint64_t own_change_ns; /* end of the last own operation that changed it: older replies lie */
    uint64_t told_size;     /* the size the kernel was last told; atomic */
    bool attr_valid;
    bool changed_elsewhere; /* seen in a reply, not yet revalidated */
    bool ctime_ours;        /* an own link, rename or unlink moved ctime: mtime decides */

    bool reval_running; /* revalidate.c; under inode_lock() */
    bool reval_force : 1;
    bool told_in_vain : 1; /* the kernel may have another size than told_size */
    bool names_missed : 1; /* of a directory: the kernel has a name that names.c has not */

    atomic_bool lost_name; /* a name of it was removed here: victim_removed() */

    /* the last ACCESS (misc.c); under inode_lock() */
    uint16_t access_cred; /* 0: none */
    uint32_t name_verf;   /* names.c: at which token of the directory; table lock */
    uint32_t fh_hash;     /* by handle (inode.c); table lock */
    int64_t access_ctime; /* what the ACCESS was true for; ns */

    uint32_t opens, writers;
    uint32_t opening;  /* OPENs under way: to be kept by a silly name as if it were open */
    uint32_t removing; /* REMOVEs, and RENAMEs over it, under way: OPENs wait (file.c) */
    struct op *open_waiting;
    struct lock_table *locks; /* lock.c; NULL until the first lock */
    struct silly *silly;      /* silly.c: renamed away while open; NULL otherwise */
    struct inode *fh_next;    /* by handle; table lock */
    struct inode *name_next;  /* names.c; table lock */
    char *name;               /* that name, if it is kept ... */
    fuse_ino_t name_dir;      /* ... in this directory */
    uint64_t name_hash;       /* of (directory, name) by which the kernel last got it; 0: none */
};

/* There are many inodes, and the lock of one is held for a few instructions: they share. Nobody
 * holds those of two inodes. */
#define INODE_LOCKS 256
extern pthread_mutex_t inode_locks[INODE_LOCKS];

static inline pthread_mutex_t *inode_lock(const struct inode *ino)
{
    return &inode_locks[ino->index % INODE_LOCKS];
}

static inline uint64_t inode_attr_timeout(const struct inode *ino)
{
    return ino->attr_timeout_ms * 1000000ull;
}

/* ---- a request in flight ------------------------------------------------------------------ */

/*
 * An op carries one FUSE request over its remote calls. It is replied to exactly once: whoever
 * wins op_claim() replies; a fatal signal to the caller claims with EINTR, and the remote call then
 * runs to its end unseen. Freed by op_end().
 */
struct op {
    struct front *front;
    fuse_req_t req;
    pid_t tid;           /* of the caller */
    atomic_bool claimed; /* the request was answered */
    bool held;           /* may not be answered just now, signal or not; op lock */
    bool interrupted;    /* a signal came, not a fatal one so far; op lock */
    bool submitted;      /* `call` has results to free */
    bool opening;        /* counted in ino->opening (file.c) */
    struct inode *ino;   /* referenced */
    struct inode *ino2;  /* referenced, or NULL */
    struct cred cred;
    char *name, *name2; /* owned */
    struct remote_call call;
    void (*next)(struct op *op); /* continuation, where one is needed */
    uint64_t u[6];               /* the handler's own small state */
    void *p[3];
    struct op *park_prev, *park_next; /* list of ops in flight, for fatal signals */
};

/* An op for a request in a handler; takes a reference to `ino` (may be NULL). NULL: replied ENOMEM.
 */
struct op *op_new(struct front *f, fuse_req_t req, struct inode *ino);
/* Sets up op->call (op, cred, handle of op->ino, arg) and submits it. */
void op_submit(struct op *op, enum remote_op what, void (*done)(struct remote_call *));
static inline struct op *op_of(struct remote_call *c)
{
    return c->arg;
}
/* True for exactly one caller: it may use op->req to reply. */
bool op_claim(struct op *op);
/* Claims and replies an error (positive errno); then op_end(). */
void op_fail(struct op *op, int error);
/* Releases references, call results and the op. */
void op_end(struct op *op);

/* ---- open files --------------------------------------------------------------------------- */

#define FILE_MAGIC 0x66696c65u

struct file {
    uint32_t magic;
    uint32_t index; /* of its record; what FUSE's fh holds */
    struct file_rec *rec;
    struct inode *ino; /* referenced */
    int flags;
    uint16_t cred;
    bool own;     /* our own descriptor of unmap.c: its FSYNC is held, its RELEASE is nothing */
    bool noflush; /* the kernel tells nothing of its close()s */
    uint64_t
        *lock_owners; /* noflush: who set POSIX locks by it (lock.c); `n_lock_owners` of them */
    size_t n_lock_owners;
    bool direct;      /* FOPEN_DIRECT_IO: the kernel must not fill pages by reading through it */
    bool unmap_first; /* the first writer: the kernel has copies for which no twin was kept */
    struct readahead ra;
    /* directories (dir.c) */
    pthread_mutex_t dir_lock;
    void *dir;
};

/* Makes an open file; 0 or negative errno. Counts writers; does not revalidate. */
int file_new(struct front *f, struct inode *ino, int flags, const struct cred *cred,
             struct file **out);
struct file *file_of(struct front *f, uint64_t fh);
void file_free(struct front *f, struct file *file);

/* ---- the front ---------------------------------------------------------------------------- */

struct front {
    struct front_config config;
    struct fuse_session *session;
    struct remote *remote;
    struct cache *cache;
    struct arena *arena;
    struct credtab *creds;
    struct loop **loops; /* shards */
    int nloops;
    struct slab *inode_slab, *file_slab;
    struct inode **inodes; /* by index; sparse */
    struct file **files;   /* by index; sparse */
    pthread_mutex_t table_lock, use_lock;
    struct inode **by_fh; /* by hash of the handle; table lock */
    uint32_t fh_mask;
    struct inode *root;
    _Atomic uint64_t forgotten_change_ns; /* the last own_change_ns of inodes that were freed */
    pthread_mutex_t op_lock;
    struct op *ops; /* in flight; op lock */
    pthread_mutex_t open_lock;
    struct due_queue due;        /* open files, by when they are asked for; open lock */
    uint64_t due_armed;          /* when due_fd fires next; UINT64_MAX: never; open lock */
    int due_fd;                  /* timerfd(2) in the first loop */
    struct unmap_pool *unmap;    /* unmap.c */
    struct reval_pool *reval;    /* revalidate.c */
    struct server_clock *clock;  /* attr.c: the server's clock and its granularity */
    atomic_uint times_running;   /* times.c: sent after the last close, not yet answered */
    struct names *names;         /* names.c */
    struct ahead *ahead;         /* ahead.c */
    struct silly *silly;         /* silly.c; op lock */
    struct session_state *state; /* session.c */
    atomic_bool posix_locks;     /* somebody locks here (lock.c) */
    atomic_bool stopping;
    struct {
        _Atomic uint64_t ops[64]; /* by FUSE opcode, for status */
        _Atomic uint64_t interrupted, alarms;
    } stats;
};

/* Everything is given: the arena with its regions, the remote side mounted, the loops not yet
 * running. Makes the inode of the root, mounts, and puts /dev/fuse into the loops. 0, or negative
 * errno with a message in `err`. */
struct front;
int front_new(const struct front_config *config, struct arena *arena, struct credtab *creds,
              struct remote *remote, const struct cache_config *cache, struct loop **loops,
              int nloops, struct front **out, char *err, size_t errlen);
/* Called when the kernel ended the connection (umount) or it was aborted; in a loop's thread. */
void front_on_end(struct front *f, void (*fn)(void *arg), void *arg);
/* Writes everything back and waits; 0, or the first error. Helper thread or main. */
int front_flush_all(struct front *f);
/* After the loops ended: unmounts if still mounted, frees. */
void front_free(struct front *f);

/* ---- inode.c ---- */
/* The inode of a handle; made if new (its attributes accepted from `post` if valid). Takes one
 * reference of ours. NULL: out of inode records. */
struct inode *inode_get(struct front *f, const struct fh *fh, const struct attr *attr);
/* By node id, from a handler: the kernel holds a lookup count, so it exists. Takes a reference. */
struct inode *inode_by_nodeid(struct front *f, fuse_ino_t nodeid);
void inode_ref(struct inode *ino);
void inode_unref(struct front *f, struct inode *ino);
/* Makes what an inode in use needs: its mapping, if it is a regular file, and ino->use. Both stay
 * at least as long as the caller's reference. 0 or -ENOMEM. No lock held. */
int inode_use(struct front *f, struct inode *ino);
/* NULL: nothing of it is cached, or it is no regular file. For who does not know that it is open:
 * a mapping may be made at any time, and goes with the last reference only. */
static inline struct mapping *inode_map(const struct inode *ino)
{
    return __atomic_load_n(&ino->map, __ATOMIC_ACQUIRE);
}
/* The kernel's count: after a reply with an entry; from FORGET. */
void inode_lookup_add(struct inode *ino, uint64_t n);
void inode_forget(struct front *f, struct inode *ino, uint64_t n);

/* ---- attr.c ---- */
/* Takes attributes from a reply into the cache, or refuses them (older than an own change; a
 * regular file with pages whose token moved: then it is marked and revalidated). `call` gives the
 * times and, for own operations, the pre-operation attributes. Any thread. */
void attr_accept(struct front *f, struct inode *ino, const struct remote_post *post,
                 const struct remote_call *call);
/* The same for an operation of ours that changed the inode: `pre` may be invalid. */
void attr_accept_own(struct front *f, struct inode *ino, const struct remote_wcc *pre,
                     const struct remote_post *post, const struct remote_call *call);
/* An own link, unlink or rename over the inode succeeded without telling its attributes. */
void attr_expire(struct inode *ino);
/* Attributes are fresh enough to be told without asking. */
bool attr_fresh(struct inode *ino);
/* What the kernel is told; the timeout in seconds for which it may rely on it. */
void attr_stat(struct front *f, struct inode *ino, struct stat *st, double *timeout);
/* The same in a reply whose size the kernel always takes, that to SETATTR. */
void attr_stat_set(struct front *f, struct inode *ino, struct stat *st, double *timeout);
/* Of a file in use: the kernel has its size for certain. */
bool attr_size_taken(struct inode *ino);
/* Fills an entry but for its own timeout, which is the caller's (name.c, dir.c). */
void attr_fill_entry(struct front *f, struct inode *ino, struct fuse_entry_param *e);
/* Accepts what a revalidation found, unconditionally. No lock held. */
void attr_accept_revalidated(struct front *f, struct inode *ino, const struct attr *attr,
                             uint64_t sent_ns);
/* True if a change of the file after the token was sampled could leave the same token: when its
 * call was sent, the server's clock may not have left the tick that it shows. Never true where the
 * clock is not coarse. */
bool attr_token_racy(struct front *f, const struct token *t, uint64_t sent_ns);
/* The server's timestamps are ticks (until its own operations have shown them to be finer). */
bool attr_clock_coarse(struct front *f, const struct token *t);
/* ... whatever time it will show next. */
bool attr_clock_ticks(struct front *f);
/* True if `now` differs from `have` only in a ctime that an own link, rename or unlink moved; asks
 * once: the mark is taken away. */
bool attr_only_ctime_ours(struct front *f, struct inode *ino, const struct token *now,
                          const struct token *have);
/* GETATTR handler (also used by whoever must ask). */
void front_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);

/* ---- revalidate.c ---- */
struct reval_wait {
    struct reval_wait *next;
    void (*done)(struct reval_wait *w); /* any thread, no lock held */
    int error;
    void *arg;
};
/* Asks the server now, and calls done() when the file's cached state is known to match what the
 * server had after this call began. `force` drops what is clean regardless. */
void revalidate(struct front *f, struct inode *ino, bool force, struct reval_wait *w);
/* The same with attributes that a reply just brought, instead of a GETATTR; `asked` is the call,
 * sent after the caller's request arrived. */
void revalidate_with(struct front *f, struct inode *ino, const struct remote_call *asked,
                     struct reval_wait *w);
/* The same in the background, nobody waits. */
void revalidate_later(struct front *f, struct inode *ino);
/* Unmaps the whole file in a helper thread, then calls done(). */
void revalidate_unmap(struct front *f, struct inode *ino, struct reval_wait *w);
/* Has the kernel take over our size (unmap_refresh) in a helper thread, then calls done(). */
void revalidate_size(struct front *f, struct inode *ino, struct reval_wait *w);

/* ---- unmap.c ---- */
/* The pool; before the loops run. 0 or negative errno. */
int unmap_start(struct front *f);
/* Once the loops run and the mount answers, from a thread that is not one of them: finds the way
 * back into the mount (a detached clone, so that it does not become busy). 0 or negative errno. */
int unmap_ready(struct front *f);
/* Ends the threads. The connection must be dead, or the loops still run (they answer what the
 * threads wait for); no caller of unmap_inode() is left but those it answers -ENOTCONN. */
void unmap_stop(struct front *f);
/* Empties the kernel's cache of [off, off+len) (len 0: to the end). Blocking; helper threads only;
 * no lock held. `writers`: completed write(2)s may be in the gap, so the FSYNC of our own is held.
 * 0 (also when the kernel does not know the inode), -ENOTCONN (the mount is gone, or unmap_stop()
 * was called), or why an own descriptor could not be had (-EMFILE and the like). */
int unmap_inode(struct front *f, struct inode *ino, uint64_t off, uint64_t len, bool writers);
/* Makes the kernel ask for the attributes now, and so take our size for its own (it never does for
 * an append). Blocking, like unmap_inode(). */
int unmap_refresh(struct front *f, struct inode *ino);
/* From the handlers: is this OPEN, LOOKUP, OPENDIR or GETATTR ours? Then it is answered at once,
 * asking nobody: an unmap must not wait for the server. Lock-free. */
bool unmap_is_helper(struct front *f, pid_t tid);
/* LOOKUP of this name and a node id in decimal, in the root, by a helper: the inode itself. Only
 * where open_by_handle_at() is not allowed. */
#define UNMAP_NAME ".nfscached-unmap-"
/* The path of an inode as the kernel knows it now (unmap_root_path()); for messages. Any thread. */
int unmap_path(struct front *f, struct inode *ino, char *path, size_t size);
/* From the FSYNC handler when file->own: takes the request over. Never waits. */
void unmap_fsync_arrived(struct front *f, fuse_req_t req, struct file *own);

/* ---- handlers, one for each operation; the table is in session.c ---- */
extern const struct fuse_lowlevel_ops front_ops;
static inline struct front *front_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

#endif
