// SPDX-License-Identifier: Apache-2.0
/*
 * The handlers of the FUSE operations and what fuse/'s files ask of each other beside front.h.
 *
 * Every handler runs in a shard's loop, never waits, and replies exactly once (front.h). A node id
 * that is unknown (a stale file handle of open_by_handle_at) is answered with ESTALE.
 */
#ifndef NFSCACHED_FUSE_OPS_H
#define NFSCACHED_FUSE_OPS_H

#include <sys/statvfs.h>

#include "fuse/front.h"

/* ---- session.c ---------------------------------------------------------------------------- */

/* The kernel's number of the request that this thread is handling; 0 outside a handler. */
uint64_t front_current_unique(void);
/* Once the loops run, from a thread that is not one of them: sets the kernel's readahead, opens
 * the way back into the mount (unmap_ready) and checks that it answers. 0 or negative errno. */
int front_started(struct front *f);

/* ---- op.c --------------------------------------------------------------------------------- */

/* Before a second remote call of the same op: frees the results of the first, zeroes op->call. */
void op_reset_call(struct op *op);
/* The credential of a request's caller, with up to 16 supplementary groups. */
void req_cred(struct front *f, fuse_req_t req, struct cred *cred);
/* Has a fatal signal reached the thread? (/proc/TID/status: SIGKILL is pending in every thread of
 * a process that a fatal signal ends.) */
bool thread_is_dying(pid_t tid);
/* The interrupt function of every op (libfuse's signature; `data` is the front). */
void op_interrupted(fuse_req_t req, void *data);
/* Looks at interrupted ops; answers those whose callers are dying. True: some are left. */
bool ops_check_interrupted(struct front *f);

/* Keeps a parked op from being answered for a signal, or allows it again. False: it was. */
bool op_hold(struct op *op, bool on);

/* ---- inode.c ------------------------------------------------------------------------------ */

int inodes_init(struct front *f);
/* Frees all that is idle. Returns how many were not: their mappings hold unwritten bytes. */
int inodes_destroy(struct front *f);
/* Calls fn for every inode of the table, each referenced during its call; no lock held. */
void inode_for_each(struct front *f, void (*fn)(struct front *f, struct inode *ino, void *arg),
                    void *arg);

/* ---- file.c ------------------------------------------------------------------------------- */

/* An op with `opening` is done: the file counts as open by its descriptor alone. */
void open_ends(struct front *f, struct inode *ino);
/* A name of the file is about to be removed at the server. False: it is open here, or being opened,
 * and has to be kept by a silly name. True: no OPEN goes on until removal_ends(); `error` is the
 * removal's. */
bool removal_begins(struct inode *ino);
void removal_ends(struct front *f, struct inode *ino, int error);

/* ---- ahead.c ------------------------------------------------------------------------------ */

struct ahead_stats {
    uint64_t lookups;           /* answered without asking */
    uint64_t listings, entries; /* READDIRPLUS of its own, and what they brought */
    uint64_t held;              /* inodes that the kernel does not know, just now */
};
void ahead_stats(struct front *f, struct ahead_stats *s);
int ahead_start(struct front *f);
/* No call goes out any more. Waits for the one under way, a second at most. Not on a loop. */
void ahead_end(struct front *f);
/* After the loops ended. False: a call to a server that never answered still points at the front.
 */
bool ahead_stop(struct front *f);
/* A LOOKUP in the directory: is it worth to look whether it can be answered without asking? */
bool ahead_may_answer(struct front *f, fuse_ino_t dir);
/* ... the inode that it is answered with, referenced; NULL: ask. */
struct inode *ahead_lookup(struct front *f, struct inode *dir, const char *name,
                           const struct cred *cred);
/* The server was asked for a name, and had it. */
void ahead_looked_up(struct front *f, struct inode *dir, const struct remote_call *call);
/* A GETATTR will be answered from the cache, or the server has to be asked. */
void ahead_getattr(struct front *f, struct inode *ino, fuse_req_t req, bool asked);
/* A call that nobody waits for is to be sent; false: no more, the mount ends. */
bool ahead_begins(struct front *f);
/* ... and has ended. */
void ahead_ends(struct front *f);
/* A call's answer for the kernel is ESTALE: it walks the path again, and wants the truth. */
void ahead_distrust(struct front *f);
/* What a reply proves of the names that it tells, with the directory's attributes beside them: the
 * verifier, or 0 where the directory may have changed in between. */
uint32_t ahead_proof(struct front *f, uint32_t before, const struct remote_post *dir,
                     const struct remote_call *call);

/* ---- name.c, silly.c, names.c ------------------------------------------------------------- */

/* Seconds for which the kernel may rely on a name in `dir` (positive or negative). */
double name_timeout(struct front *f, struct inode *dir, bool negative);

/*
 * By which name the kernel last got an inode: what UNLINK and RENAME need to know of their victim,
 * without asking the server. One name for each inode; a miss is answered by a LOOKUP.
 */
int names_init(struct front *f);
void names_destroy(struct front *f);
void names_set(struct front *f, struct inode *dir, const char *name, struct inode *ino);
/* Was any inode seen that has several names, or a name in `dir` by a reply that proves nothing? If
 * not, a miss means that there is no such name. */
bool names_may_miss(struct front *f, struct inode *dir);
void names_note_link(struct front *f);
/* The same from a reply that proves it: the directory's verifier, or 0. Refused (false) when an own
 * operation changed the directory after the call was sent. */
bool names_confirm(struct front *f, struct inode *dir, const char *name, struct inode *ino,
                   uint32_t verf, uint64_t sent_ns);
/* 32 bits of hash of the directory's token as it is known now; 0: it is not known. */
uint32_t names_verifier(struct inode *dir);
uint32_t names_token_verifier(const struct token *t);
/* The kernel may rely on the name of the inode for so many seconds. */
void names_told(struct inode *ino, double seconds);
/* The inode last seen under that name, referenced, or NULL. */
struct inode *names_find(struct front *f, struct inode *dir, const char *name);
/* The same, if the name itself was kept and is equal, it was confirmed at that verifier, and the
 * kernel may not rely on it just now. */
struct inode *names_find_confirmed(struct front *f, struct inode *dir, const char *name,
                                   uint32_t verf);
/* In which directory (its node id) the inode was last seen; 0: not known. */
fuse_ino_t names_dir_of(struct front *f, struct inode *ino);
/* The name under which an inode was last seen, owned by the caller, and its directory,
 * referenced; false: not known (or no memory). */
bool names_of(struct front *f, struct inode *ino, struct inode **dir, char **name);
void names_drop(struct front *f, struct inode *dir, const char *name);
/* Below: table lock held. Forgets the name of an inode that is freed. */
void names_forget_locked(struct front *f, struct inode *ino);

/* The directory was changed by an own operation; its attributes from the reply. */
void dir_changed(struct front *f, struct inode *dir, const struct remote_wcc *pre,
                 const struct remote_post *post, const struct remote_call *call);
/* An own operation changed the links of an inode: link, unlink, rename. */
void links_changed(struct inode *ino);
/* A name of the inode was removed: what it holds unwritten is discarded if that was the last. */
void victim_removed(struct front *f, struct inode *ino, const struct cred *cred);

/* A file that is open here is about to lose its name. silly_new() makes the name it gets instead
 * (NULL: no memory); after the RENAME or LINK to it, silly_done() notes it, or forgets it when that
 * failed. silly_remove() removes it although the file is open. */
struct silly *silly_new(struct front *f, struct inode *ino, struct inode *dir,
                        const struct cred *cred);
const char *silly_name(const struct silly *s);
void silly_done(struct front *f, struct silly *s, bool ok);
void silly_remove(struct front *f, struct inode *ino);
/* Is `name` in `dir` the silly name of the inode? */
bool silly_is(struct inode *ino, struct inode *dir, const char *name);
/* Has the inode a silly name that is not on its way out (after a rename that failed)? Inode lock
 * held. */
bool silly_stays(const struct inode *ino);
/* Does the directory hold any silly name of ours? */
bool silly_in(struct front *f, struct inode *dir);

/* The last local descriptor of a silly-renamed file was closed: removes it at the server. Called
 * when ino->opens became 0; no lock held. */
void silly_release(struct front *f, struct inode *ino);
/* Removes what is left (descriptors that were never closed) and waits. Helper thread or main. */
void silly_finish(struct front *f);

/* ---- lock.c ------------------------------------------------------------------------------- */

/* May the kernel leave FLUSH out for this new open file, a request less on each close()? */
bool lock_noflush(struct front *f, int flags);
/* Releases the POSIX locks that were set through a file for which it was left out. */
void lock_release_file(struct front *f, struct file *file);

/* Releases what an owner holds, or waits for, on a file, from FLUSH (POSIX) or RELEASE (flock).
 * Waiters that get their lock are answered. */
void lock_release_posix(struct front *f, struct inode *ino, uint64_t owner);
void lock_release_flock(struct front *f, struct inode *ino, uint64_t owner);
/* The inode is freed. */
void lock_table_free(struct inode *ino);

/* ---- misc.c ------------------------------------------------------------------------------- */

/* What the server allowed a credential holds for as long as the object's ctime stays: modes, owners
 * and ACLs do not change without it. Remembered for the last credential of each inode. */
void access_note(struct front *f, struct inode *ino, const struct cred *cred,
                 const struct remote_call *call);
/* A LOOKUP succeeded: the credential may search the directory. */
void access_note_search(struct front *f, struct inode *dir, const struct cred *cred,
                        struct timespec ctime);
/* Did ACCESS allow all of `want` at this ctime? */
bool access_known(struct front *f, struct inode *ino, const struct cred *cred, uint32_t want,
                  struct timespec ctime);

/* ---- times.c: kernel_writeback ------------------------------------------------------------ */

/* The kernel has this mtime, and was told that the server knows it. Any thread. */
void times_note(struct inode *ino, struct timespec mtime, uint16_t cred);
/* Does the kernel have it already, for all we know? */
bool times_known(struct inode *ino, struct timespec mtime);
/* An application's SETATTR sets mtime: from before it is sent until it was answered. */
void times_setting(struct inode *ino);
void times_set(struct inode *ino, const struct timespec *mtime); /* NULL: it failed */
/* Tells the server what is due; the file's bytes must be there already, since a WRITE changes it.
 * False: nothing is due, and done() is not called. done(): any thread, no lock held; 0, or negative
 * errno, and then it is still due. A server that refuses it for want of permission keeps its own.
 */
bool times_send(struct front *f, struct inode *ino, void (*done)(void *arg, int error), void *arg);
/* The same, waiting. Helper thread or main. */
void times_send_wait(struct front *f, struct inode *ino);
/* After the last close: once the bytes are at the server. Never waits. */
void times_send_later(struct front *f, struct inode *ino);
/* Until all of these have ended. */
void times_wait(struct front *f);

/* ---- dir.c, listing.c --------------------------------------------------------------------- */

/* What an open directory's file->dir points at; the inode is one in use. NULL: no memory. */
struct dir *dir_new(struct front *f, struct inode *ino);
void dir_state_free(void *dir);
/* A piece of the listing was given; `valid`: seconds, the shortest of the attributes in it. */
void listing_note(struct inode *ino, bool plus, double valid);
static inline bool is_dot(const char *name) /* "." or ".." */
{
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* ---- glue.c ------------------------------------------------------------------------------- */

extern const struct cache_remote_ops glue_remote_ops; /* ctx: the front */
extern const struct cache_kernel_ops glue_kernel_ops;

/* ---- attr.c, revalidate.c: started by front_new(), after the cache was made ---------------- */

int attr_start(struct front *f);
void attr_stop(struct front *f);
/* Under the inode lock: its first open, its last close; from now on, or no longer, it is asked for
 * before its attribute timeout is over. */
void revalidate_timed(struct front *f, struct inode *ino, bool open);
/* Likewise: pages_expire_ns may be earlier now than it was. */
void revalidate_sooner(struct front *f, struct inode *ino);
/* Notifies the kernel that its copy of the attributes is old; waits for nothing, handlers too. */
void kernel_forget_attr(struct front *f, struct inode *ino);
int revalidate_start(struct front *f);
void revalidate_stop(struct front *f);

/* ---- handlers ----------------------------------------------------------------------------- */

/* name.c */
void front_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void front_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                  struct fuse_file_info *fi);
void front_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void front_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void front_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name);
void front_link(fuse_req_t req, fuse_ino_t nodeid, fuse_ino_t newparent, const char *newname);
void front_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void front_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void front_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                  const char *newname, unsigned int flags);

/* inode.c */
void front_forget(fuse_req_t req, fuse_ino_t nodeid, uint64_t nlookup);
void front_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);

/* dir.c, listing.c */
void front_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void front_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t off,
                   struct fuse_file_info *fi);
void front_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t off,
                       struct fuse_file_info *fi);
void front_releasedir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void front_fsyncdir(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi);

/* setattr.c */
void front_setattr(fuse_req_t req, fuse_ino_t nodeid, struct stat *st, int to_set,
                   struct fuse_file_info *fi);

/* lock.c */
void front_getlk(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, struct flock *lock);
void front_setlk(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, struct flock *lock,
                 int sleep);
void front_flock(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, int op);

/* misc.c */
void front_readlink(fuse_req_t req, fuse_ino_t nodeid);
void front_statfs(fuse_req_t req, fuse_ino_t nodeid);
void front_access(fuse_req_t req, fuse_ino_t nodeid, int mask);
void front_fallocate(fuse_req_t req, fuse_ino_t nodeid, int mode, off_t offset, off_t length,
                     struct fuse_file_info *fi);

/* attr.c (front_getattr: front.h), file.c, io.c */
void front_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void front_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void front_flush(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void front_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi);
void front_lseek(fuse_req_t req, fuse_ino_t nodeid, off_t off, int whence,
                 struct fuse_file_info *fi);
void front_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t off,
                struct fuse_file_info *fi);
/* `buf` is the shard's receive buffer: it is used again when the handler returns. */
void front_write(fuse_req_t req, fuse_ino_t nodeid, const char *buf, size_t size, off_t off,
                 struct fuse_file_info *fi);

#endif
