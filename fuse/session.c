// SPDX-License-Identifier: Apache-2.0
/*
 * /dev/fuse in the shards' loops, INIT's settings, the table of operations, start and end.
 *
 * Every shard's loop waits for the one non-blocking /dev/fuse descriptor with EPOLLEXCLUSIVE, so
 * that one request wakes one shard. A wake-up takes a few requests, each read into the shard's own
 * buffer, and hands them to libfuse, which calls the handler; then the loop turns to its NFS
 * connection. What is left is found again at once (the descriptor is level-triggered).
 *
 * The buffers are populated in advance: a kill during the kernel's copy into a page that is not
 * there yet would fail the request with EIO. libfuse's own loops and signal handlers are not used:
 * the loops expect a blocking descriptor, the handlers leave shards asleep.
 *
 * The end. ENODEV (unmounted), ECONNABORTED (aborted) or any other error of reading means that no
 * request will ever come: each shard gives the descriptor up, and the first tells the owner
 * (front_on_end), who flushes, stops the loops and calls front_free().
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fuse/ops.h"
#include "fuse/session.h"

#define MAX_WRITE   (1u << 20)
#define BUFFER_SIZE (MAX_WRITE + 65536u) /* a WRITE with its headers; libfuse wants a page more */
#define BATCH       16                   /* requests taken by one wake-up */

#define MAX_BACKGROUND 512
#define CONGESTION     384
/* Under kernel_writeback: a WRITE that waits for memory is 1 MiB of it. */
#define MAX_BACKGROUND_WRITEBACK 32
#define CONGESTION_WRITEBACK     24
#define READAHEAD_KB             1024

#define INTERRUPT_LOOK_NS 100000000ull

struct shard {
    struct front *front;
    struct loop *loop;
    void *buffer;
    struct loop_timer interrupt_timer;
    bool attached; /* /dev/fuse is in the loop; its thread only */
};

struct session_state {
    struct shard *shards;
    int fd; /* /dev/fuse */
    atomic_bool ended;
    void (*on_end)(void *arg);
    void *on_end_arg;
    pthread_mutex_t lock; /* on_end, notices; a leaf */
    bool end_told;
    unsigned notices; /* threads of session_forget_name() */
    pthread_cond_t notices_done;
    bool freeing;
    bool attr_running, unmap_running, revalidate_running;
};

static __thread uint64_t current_unique;

uint64_t front_current_unique(void)
{
    return current_unique;
}

/* ---- INIT --------------------------------------------------------------------------------- */

static void front_init(void *userdata, struct fuse_conn_info *conn)
{
    struct front *f = userdata;
    const struct front_config *c = &f->config;

    /* Sizes and dates are the server's, so no WRITEBACK_CACHE but where it is asked for; data is
     * invalidated by revalidation alone; truncation by O_TRUNC comes as a SETATTR that is not an
     * OPEN. */
    conn->want &= ~(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC |
                    FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
                    FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK | FUSE_CAP_IOCTL_DIR |
                    FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_POSIX_LOCKS |
                    FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT);
    unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_DIO |
                    FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_CACHE_SYMLINKS |
                    FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_HANDLE_KILLPRIV;

    if (c->rdirplus)
        want |= FUSE_CAP_READDIRPLUS; /* for every piece of a listing: see listing.c */
    if (!c->local_posix)
        want |= FUSE_CAP_POSIX_LOCKS;
    if (!c->local_flock)
        want |= FUSE_CAP_FLOCK_LOCKS;
    if (c->kernel_writeback)
        want |= FUSE_CAP_WRITEBACK_CACHE;
    conn->want |= want & conn->capable;

    conn->max_write = MAX_WRITE;
    if (conn->max_readahead > READAHEAD_KB * 1024)
        conn->max_readahead = READAHEAD_KB * 1024;
    conn->max_background = c->kernel_writeback ? MAX_BACKGROUND_WRITEBACK : MAX_BACKGROUND;
    conn->congestion_threshold = c->kernel_writeback ? CONGESTION_WRITEBACK : CONGESTION;
    conn->time_gran = 1;
}

const struct fuse_lowlevel_ops front_ops = {
    .init = front_init,
    .lookup = front_lookup,
    .forget = front_forget,
    .forget_multi = front_forget_multi,
    .getattr = front_getattr,
    .setattr = front_setattr,
    .readlink = front_readlink,
    .mknod = front_mknod,
    .mkdir = front_mkdir,
    .unlink = front_unlink,
    .rmdir = front_rmdir,
    .symlink = front_symlink,
    .rename = front_rename,
    .link = front_link,
    .open = front_open,
    .read = front_read,
    .write = front_write,
    .flush = front_flush,
    .release = front_release,
    .fsync = front_fsync,
    .opendir = front_opendir,
    .readdir = front_readdir,
    .readdirplus = front_readdirplus,
    .releasedir = front_releasedir,
    .fsyncdir = front_fsyncdir,
    .statfs = front_statfs,
    .access = front_access,
    .create = front_create,
    .getlk = front_getlk,
    .setlk = front_setlk,
    .flock = front_flock,
    .fallocate = front_fallocate,
    .lseek = front_lseek,
    /* NFSv3 has no extended attributes, server-side copies, ioctls or poll. Without a handler
     * libfuse answers ENOSYS, which the kernel remembers: it asks no more, and answers EOPNOTSUPP
     * (xattr), copies through the page cache (copy_file_range) or says "always ready" (poll). */
};

/* ---- receiving ---------------------------------------------------------------------------- */

static void session_ended(struct front *f)
{
    struct session_state *s = f->state;

    fuse_session_exit(f->session);
    atomic_store(&f->stopping, true);
    if (atomic_exchange(&s->ended, true))
        return;
    pthread_mutex_lock(&s->lock);
    void (*fn)(void *) = s->end_told ? NULL : s->on_end;
    void *arg = s->on_end_arg;

    if (fn)
        s->end_told = true;
    pthread_mutex_unlock(&s->lock);
    if (fn)
        fn(arg);
}

void front_on_end(struct front *f, void (*fn)(void *arg), void *arg)
{
    struct session_state *s = f->state;

    pthread_mutex_lock(&s->lock);
    s->on_end = fn;
    s->on_end_arg = arg;
    bool tell = atomic_load(&s->ended) && !s->end_told;

    if (tell)
        s->end_told = true;
    pthread_mutex_unlock(&s->lock);
    if (tell)
        fn(arg);
}

static void shard_detach(struct shard *shard)
{
    if (shard->attached)
        loop_del_fd(shard->loop, shard->front->state->fd);
    shard->attached = false;
    session_ended(shard->front);
}

static void keep_init(struct front *f, const void *request, size_t len)
{
    struct arena_header *h = f->arena->header;

    if (len > sizeof(h->init))
        return;
    memcpy(h->init, request, len);
    __atomic_store_n(&h->init_len, (uint32_t)len, __ATOMIC_RELEASE);
}

static void shard_readable(struct loop *loop, int fd, uint32_t events, void *arg)
{
    struct shard *shard = arg;
    struct front *f = shard->front;

    (void)loop;
    (void)events;
    if (!shard->attached)
        return;
    for (int i = 0; i < BATCH; i++) {
        ssize_t n = read(fd, shard->buffer, BUFFER_SIZE);

        if (n < 0) {
            if (errno == EAGAIN)
                return;
            if (errno == EINTR || errno == ENOENT) /* ENOENT: its caller was killed meanwhile */
                continue;
            shard_detach(shard);
            return;
        }
        const struct fuse_in_header *in = shard->buffer;

        if ((size_t)n < sizeof(*in))
            continue;
        if (in->opcode < sizeof(f->stats.ops) / sizeof(f->stats.ops[0]))
            atomic_fetch_add_explicit(&f->stats.ops[in->opcode], 1, memory_order_relaxed);
        if (in->opcode == FUSE_INIT)
            keep_init(f, in, n);

        struct fuse_buf buf = {.mem = shard->buffer, .size = n};

        current_unique = in->unique;
        fuse_session_process_buf(f->session, &buf);
        current_unique = 0;
    }
}

/* ---- signals ------------------------------------------------------------------------------ */

static void interrupt_timer(struct loop_timer *timer)
{
    struct shard *shard = (struct shard *)((char *)timer - offsetof(struct shard, interrupt_timer));

    if (ops_check_interrupted(shard->front))
        loop_timer_set(shard->loop, timer, INTERRUPT_LOOK_NS);
}

void session_watch_interrupted(struct front *f)
{
    struct loop *loop = loop_current();

    for (int i = 0; i < f->nloops; i++) {
        struct shard *shard = &f->state->shards[i];

        if (shard->loop == loop && !shard->interrupt_timer.at)
            loop_timer_set(loop, &shard->interrupt_timer, INTERRUPT_LOOK_NS);
    }
}

/* ---- telling the kernel that a name is not what it believes ---------------------------------- */

struct notice {
    struct front *front;
    fuse_ino_t dir;
    char name[];
};

static void *notice_thread(void *arg)
{
    struct notice *n = arg;
    struct session_state *s = n->front->state;

    fuse_lowlevel_notify_inval_entry(n->front->session, n->dir, n->name, strlen(n->name));
    pthread_mutex_lock(&s->lock);
    s->notices--;
    pthread_cond_broadcast(&s->notices_done);
    pthread_mutex_unlock(&s->lock);
    free(n);
    return NULL;
}

void session_forget_name(struct front *f, fuse_ino_t dir, const char *name)
{
    struct notice *n = malloc(sizeof(*n) + strlen(name) + 1);
    pthread_t thread;

    if (!n)
        return;
    n->front = f;
    n->dir = dir;
    strcpy(n->name, name);
    pthread_mutex_lock(&f->state->lock);
    bool made = !f->state->freeing && pthread_create(&thread, NULL, notice_thread, n) == 0;

    if (made)
        f->state->notices++;
    pthread_mutex_unlock(&f->state->lock);
    if (made)
        pthread_detach(thread);
    else
        free(n);
}

static void notices_end(struct session_state *s)
{
    pthread_mutex_lock(&s->lock);
    s->freeing = true;
    while (s->notices)
        pthread_cond_wait(&s->notices_done, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

/* ---- start -------------------------------------------------------------------------------- */

static void set_readahead(dev_t dev)
{
    char path[128], text[16];

    snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(dev), minor(dev));
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return; /* not permitted: the kernel's default, the cache's own readahead stays */
    int n = snprintf(text, sizeof(text), "%d", READAHEAD_KB);

    if (write(fd, text, n) != n) {
        /* likewise */
    }
    close(fd);
}

int front_started(struct front *f)
{
    struct stat st;
    struct statfs sfs;

    int fd = open(f->config.mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    int err = fstat(fd, &st) != 0 || fstatfs(fd, &sfs) != 0 ? -errno : 0;

    close(fd);
    if (err)
        return err;
    set_readahead(st.st_dev);
    return unmap_ready(f);
}

static int add_option(char **opts, const char *name, const char *value)
{
    char *text = NULL;

    if (asprintf(&text, "%s%s", name, value ? value : "") < 0)
        return -ENOMEM;
    int err = value ? fuse_opt_add_opt_escaped(opts, text) : fuse_opt_add_opt(opts, text);

    free(text);
    return err ? -ENOMEM : 0;
}

static struct fuse_session *session_make(struct front *f)
{
    const struct front_config *c = &f->config;
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    struct fuse_session *session = NULL;
    char *opts = NULL;
    int err = add_option(&opts, "fsname=", c->fsname ? c->fsname : "nfscached");

    if (!err)
        err = add_option(&opts, "subtype=", c->subtype ? c->subtype : "nfscached");
    if (!err && c->allow_other)
        err = add_option(&opts, "allow_other", NULL);
    if (!err && c->default_permissions)
        err = add_option(&opts, "default_permissions", NULL);
    if (!err && c->read_only)
        err = add_option(&opts, "ro", NULL);
    if (!err && c->mount_options && *c->mount_options)
        err = add_option(&opts, c->mount_options, NULL);
    if (!err && fuse_opt_add_arg(&args, "nfscached") == 0 && fuse_opt_add_arg(&args, "-o") == 0 &&
        fuse_opt_add_arg(&args, opts) == 0)
        session = fuse_session_new(&args, &front_ops, sizeof(front_ops), f);
    fuse_opt_free_args(&args);
    free(opts);
    return session;
}

static int shards_start(struct front *f)
{
    struct session_state *s = f->state;

    s->fd = fuse_session_fd(f->session);
    if (fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) | O_NONBLOCK) != 0)
        return -errno;
    for (int i = 0; i < f->nloops; i++) {
        struct shard *shard = &s->shards[i];

        shard->front = f;
        shard->loop = f->loops[i];
        shard->interrupt_timer.fn = interrupt_timer;
        shard->buffer = mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (shard->buffer == MAP_FAILED) {
            shard->buffer = NULL;
            return -ENOMEM;
        }
        int err = loop_add_fd(shard->loop, s->fd, EPOLLIN | EPOLLEXCLUSIVE, shard_readable, shard);

        if (err)
            return err;
        shard->attached = true;
    }
    return 0;
}

/* Its attributes are asked for by the first GETATTR: the loops do not run yet. */
static int root_make(struct front *f)
{
    struct attr attr = {.mode = S_IFDIR | 0755, .nlink = 2};

    f->root = inode_get(f, &f->remote->root, &attr);
    if (!f->root)
        return -ENOMEM;
    if (f->root->nodeid != FUSE_ROOT_ID)
        return -EINVAL; /* the arena was not new */
    return 0;
}

static int front_start(struct front *f, const struct cache_config *cache, char *err, size_t errlen)
{
    const char *what = "out of memory";
    int ret = -ENOMEM;

    f->inode_slab = slab_new(f->arena, ARENA_INODES);
    f->file_slab = slab_new(f->arena, ARENA_FILES);
    f->files = calloc(f->arena->header->region[ARENA_FILES].count, sizeof(*f->files));
    f->state->shards = calloc(f->nloops, sizeof(*f->state->shards));
    if (!f->inode_slab || !f->file_slab || !f->files || !f->state->shards)
        goto failed;
    if ((ret = inodes_init(f)) || (ret = names_init(f)))
        goto failed;
    what = "the page cache cannot be made";
    f->cache = cache_new(cache, f->arena, f->creds, &glue_remote_ops, &glue_kernel_ops, f);
    ret = -ENOMEM;
    if (!f->cache)
        goto failed;
    what = "the inode of the root cannot be made";
    if ((ret = root_make(f)))
        goto failed;
    what = "helper threads cannot be started";
    if ((ret = attr_start(f)))
        goto failed;
    f->state->attr_running = true;
    if ((ret = ahead_start(f)))
        goto failed;
    if ((ret = unmap_start(f)))
        goto failed;
    f->state->unmap_running = true;
    if ((ret = revalidate_start(f)))
        goto failed;
    f->state->revalidate_running = true;
    what = "libfuse refuses the options";
    ret = -EINVAL;
    f->session = session_make(f);
    if (!f->session)
        goto failed;
    what = "mounting failed (is /dev/fuse there, and the mount point ours?)";
    ret = -EPERM;
    if (fuse_session_mount(f->session, f->config.mountpoint) != 0)
        goto failed;
    what = "/dev/fuse cannot be watched";
    if ((ret = shards_start(f)))
        goto failed;
    return 0;

failed:
    snprintf(err, errlen, "%s: %s: %s", f->config.mountpoint, what, strerror(-ret));
    return ret;
}

int front_new(const struct front_config *config, struct arena *arena, struct credtab *creds,
              struct remote *remote, const struct cache_config *cache, struct loop **loops,
              int nloops, struct front **out, char *err, size_t errlen)
{
    struct front *f = calloc(1, sizeof(*f));
    struct session_state *s = calloc(1, sizeof(*s));

    if (!f || !s) {
        free(f);
        free(s);
        snprintf(err, errlen, "out of memory");
        return -ENOMEM;
    }
    f->config = *config;
    f->arena = arena;
    f->creds = creds;
    f->remote = remote;
    f->loops = loops;
    f->nloops = nloops;
    f->state = s;
    s->fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->notices_done, NULL);
    pthread_mutex_init(&f->op_lock, NULL);
    pthread_mutex_init(&f->open_lock, NULL);

    int ret = front_start(f, cache, err, errlen);

    if (ret)
        front_free(f);
    else
        *out = f;
    return ret;
}

/* ---- end ---------------------------------------------------------------------------------- */

static void sync_inode(struct front *f, struct inode *ino, void *arg)
{
    int *first = arg;

    struct mapping *map = inode_map(ino);

    if (!S_ISREG(ino->type))
        return;
    int err = map && mapping_is_busy(map) ? cache_sync_wait(map) : 0;

    if (!err)
        times_send_wait(f, ino);

    if (err && !*first)
        *first = err;
}

int front_flush_all(struct front *f)
{
    int err = 0;

    if (atomic_load(&f->state->ended))
        ahead_end(f);
    cache_kick(f->cache);
    inode_for_each(f, sync_inode, &err);
    times_wait(f);
    if (atomic_load(&f->state->ended))
        silly_finish(f);
    return err;
}

void front_free(struct front *f)
{
    struct session_state *s = f->state;

    atomic_store(&f->stopping, true);
    if (f->session) {
        fuse_session_exit(f->session);
        fuse_session_unmount(f->session);
    }
    notices_end(s);
    if (s->revalidate_running)
        revalidate_stop(f);
    if (s->unmap_running)
        unmap_stop(f);
    /* Calls to a server that never answered still point here: the process is about to end, and they
     * may run into it once more when the remote side is destroyed. */
    pthread_mutex_lock(&f->op_lock);
    bool in_use = f->ops || f->silly;

    pthread_mutex_unlock(&f->op_lock);
    if (in_use || !ahead_stop(f))
        return;
    /* What still holds bytes that the server has not is left to the end of the process. */
    if (inodes_destroy(f) == 0 && f->cache)
        cache_free(f->cache);
    names_destroy(f);
    if (s->attr_running)
        attr_stop(f);
    if (f->session)
        fuse_session_destroy(f->session);
    if (f->inode_slab)
        slab_destroy(f->inode_slab);
    if (f->file_slab)
        slab_destroy(f->file_slab);
    for (int i = 0; s->shards && i < f->nloops; i++)
        if (s->shards[i].buffer)
            munmap(s->shards[i].buffer, BUFFER_SIZE);
    free(s->shards);
    free(f->files);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&f->op_lock);
    pthread_mutex_destroy(&f->open_lock);
    due_destroy(&f->due);
    free(s);
    free(f);
}
