// SPDX-License-Identifier: Apache-2.0
/*
 * When a file is asked for, and who waits for the answer.
 *
 *   open (cto), lock, a person's command -> revalidate(): waits
 *   a reply that shows another token, the attribute timeout of an open file -> revalidate_later()
 *
 * One revalidation of a file runs at a time. It asks by one GETATTR, on a loop, without a
 * hand-over: the usual answer is "unchanged", and everybody who came before the GETATTR was sent is
 * answered. Who came later is served by the next one: close-to-open promises what the server had
 * *after* the open began. Only when pages have to go does a helper thread run cache/revalidate.c,
 * which waits for the kernel and for the server.
 *
 * The racily clean. An unchanged token proves nothing if it was sampled within one tick of the
 * server's clock after the change it shows: a second change in that tick would look the same. Such
 * a file is treated as changed once; the token sampled then is proven. (attr.c knows the clock.)
 *
 * Helper threads: at most REVAL_THREADS, made as they are needed. They run jobs in order of
 * arrival.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "cache/point.h"
#include "fuse/ops.h"

#define REVAL_THREADS 16
#define SLOT_NS       10000000ull /* the timer of open files runs at most so often, */
#define SLOT_LEAST    16          /* and asks for so many of them at a time, */
#define SLOT_PART     64          /* and this part of all: all of them in 0.64 s */
#define SLOT_MOST     1024
#define PAUSE_NS      200000000ull /* a file is not asked for more often, with noac */

struct reval_job {
    struct reval_job *next;
    struct front *front;
    struct inode *ino; /* referenced */
    void (*run)(struct reval_job *job);
    struct attr attr;
    uint64_t sent_ns;
    bool force, proves;
    struct reval_wait *wait;
    struct remote_call call;
};

struct reval_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct reval_job *head, **tail;
    unsigned idle, nthreads;
    bool stopping;
    pthread_t thread[REVAL_THREADS];
    struct front *front;
};

/* ---- helper threads ---- */

static void *helper(void *arg)
{
    struct reval_pool *p = arg;

    pthread_setname_np(pthread_self(), "nfsc-reval");
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->head && !p->stopping) {
            p->idle++;
            pthread_cond_wait(&p->wake, &p->lock);
            p->idle--;
        }
        if (!p->head)
            break;

        struct reval_job *job = p->head;

        p->head = job->next;
        if (!p->head)
            p->tail = &p->head;
        pthread_mutex_unlock(&p->lock);
        job->run(job);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void job_post(struct reval_job *job)
{
    struct reval_pool *p = job->front->reval;

    pthread_mutex_lock(&p->lock);
    job->next = NULL;
    *p->tail = job;
    p->tail = &job->next;
    if (p->idle)
        pthread_cond_signal(&p->wake);
    else if (p->nthreads < REVAL_THREADS &&
             pthread_create(&p->thread[p->nthreads], NULL, helper, p) == 0)
        p->nthreads++;
    pthread_mutex_unlock(&p->lock);
}

static struct reval_job *job_new(struct front *f, struct inode *ino)
{
    struct reval_job *job = calloc(1, sizeof *job);

    if (!job)
        abort();
    job->front = f;
    job->ino = ino;
    inode_ref(ino);
    return job;
}

static void job_free(struct reval_job *job)
{
    inode_unref(job->front, job->ino);
    free(job);
}

/* ---- one revalidation ---- */

static void ask(struct reval_job *job);

/* Answers those who joined this one, and goes on with those who came too late for it. */
static void finish(struct reval_job *job, int error)
{
    struct inode *ino = job->ino;

    pthread_mutex_lock(inode_lock(ino));

    struct inode_use *use = ino->use;
    struct reval_wait *joined = use->reval_joined;

    use->reval_joined = use->reval_waiting;
    use->reval_waiting = NULL;

    bool again = use->reval_joined != NULL;

    ino->reval_running = again;
    job->force = ino->reval_force;
    ino->reval_force = false;
    if (error) /* gone at the server, say: the timer need not ask at each of its ticks */
        ino->pages_expire_ns = now_ns() + job->front->config.acregmin_ns;
    if (error == -ESTALE) { /* who asks for the attributes is to hear of it */
        ino->changed_elsewhere = false;
        ino->attr_expires_ns = 0;
    }
    pthread_mutex_unlock(inode_lock(ino));

    for (struct reval_wait *w = joined, *next; w; w = next) {
        next = w->next;
        w->error = error;
        w->done(w);
    }
    if (again)
        ask(job);
    else
        job_free(job);
}

/* The kernel's copy of the attributes goes; OPEN has none in its reply, so the new size would show
 * only after the old one's timeout. Offset -1 touches no page, so this waits for nothing
 * (fuse_reverse_inval_inode). */
void kernel_forget_attr(struct front *f, struct inode *ino)
{
    fuse_lowlevel_notify_inval_inode(f->session, ino->nodeid, -1, 0);
}

static void revalidate_pages(struct reval_job *job)
{
    struct inode *ino = job->ino;
    struct cache_reval_result result;
    int err = mapping_revalidate(ino->map, &job->attr, job->force, &result);

    if (!err) {
        attr_accept_revalidated(job->front, ino, &job->attr, job->sent_ns);
        pthread_mutex_lock(inode_lock(ino));
        if (job->proves)
            ino->use->proven = token_of(&job->attr);
        pthread_mutex_unlock(inode_lock(ino));
        kernel_forget_attr(job->front, ino);
    }
    finish(job, err);
}

/* What the server said is compared with what is cached: done at once, or a job for a helper. */
static void judge(struct reval_job *job, const struct remote_call *call)
{
    struct front *f = job->front;
    struct inode *ino = job->ino;
    int err = call->error;

    if (err || !ino->map || !S_ISREG(call->post.attr.mode)) {
        if (!err)
            attr_accept(f, ino, &call->post, call);
        finish(job, err);
        return;
    }
    job->attr = call->post.attr;
    job->sent_ns = call->sent_ns;

    struct token now = token_of(&job->attr), have = mapping_token(ino->map);
    bool racy = attr_token_racy(f, &now, job->sent_ns), same = token_equal(&now, &have);

    job->proves = !racy;
    if (mapping_has_pages(ino->map)) {
        pthread_mutex_lock(inode_lock(ino));

        bool proven = token_equal(&ino->use->proven, &now) || !attr_clock_coarse(f, &now);

        pthread_mutex_unlock(inode_lock(ino));
        if (same && !proven)
            job->force = true;
        if (job->force || !same) {
            /* Another name for the same content: an own link, rename or unlink moved ctime. */
            if (!job->force && attr_only_ctime_ours(f, ino, &now, &have)) {
                mapping_set_token(ino->map, &now);
            } else {
                if (FAULT(notify_in_handler))
                    unmap_inode(f, ino, 0, 0, false);
                job->run = revalidate_pages;
                job_post(job);
                return;
            }
        }
    } else if (job->proves) {
        pthread_mutex_lock(inode_lock(ino));
        ino->use->proven = now;
        pthread_mutex_unlock(inode_lock(ino));
    }
    pthread_mutex_lock(inode_lock(ino));

    struct token told = token_of(&ino->rec->attr);

    pthread_mutex_unlock(inode_lock(ino));
    attr_accept(f, ino, &call->post, call);
    if (!token_equal(&told, &now))
        kernel_forget_attr(f, ino);
    finish(job, 0);
}

static void answered(struct remote_call *call)
{
    judge(call->arg, call);
}

static void ask(struct reval_job *job)
{
    static const struct cred root;

    job->call = (struct remote_call){
        .op = REMOTE_GETATTR, .cred = &root, .fh = job->ino->rec->fh, .done = answered, .arg = job};
    remote_submit(job->front->remote, &job->call);
}

/* Puts the waiter on a list. A job, if it is the one to begin; it is running then. */
static struct reval_job *join(struct front *f, struct inode *ino, bool force, struct reval_wait *w)
{
    if (inode_use(f, ino) != 0)
        abort(); /* as job_new() does */
    pthread_mutex_lock(inode_lock(ino));

    bool start = !ino->reval_running;
    struct reval_wait **list = start ? &ino->use->reval_joined : &ino->use->reval_waiting;

    w->next = *list;
    *list = w;
    ino->reval_running = true;
    if (!start)
        ino->reval_force |= force;
    pthread_mutex_unlock(inode_lock(ino));
    if (!start)
        return NULL;

    struct reval_job *job = job_new(f, ino);

    job->force = force;
    return job;
}

void revalidate(struct front *f, struct inode *ino, bool force, struct reval_wait *w)
{
    struct reval_job *job = join(f, ino, force, w);

    if (job)
        ask(job);
}

void revalidate_with(struct front *f, struct inode *ino, const struct remote_call *asked,
                     struct reval_wait *w)
{
    struct reval_job *job = join(f, ino, false, w);

    if (job)
        judge(job, asked);
}

static void nobody_waits(struct reval_wait *w)
{
    free(w);
}

void revalidate_later(struct front *f, struct inode *ino)
{
    struct reval_wait *w;

    pthread_mutex_lock(inode_lock(ino));

    bool running = ino->reval_running;

    pthread_mutex_unlock(inode_lock(ino));
    if (running || atomic_load(&f->stopping))
        return;
    w = calloc(1, sizeof *w);
    if (!w)
        return;
    w->done = nobody_waits;
    revalidate(f, ino, false, w);
}

/* ---- the first writer of a file whose copies were not tracked ---- */

static void unmap_pages(struct reval_job *job)
{
    struct reval_wait *w = job->wait;

    w->error = mapping_unmap_all(job->ino->map);
    job_free(job);
    w->done(w);
}

void revalidate_unmap(struct front *f, struct inode *ino, struct reval_wait *w)
{
    struct reval_job *job = job_new(f, ino);

    job->wait = w;
    job->run = unmap_pages;
    job_post(job);
}

static void refresh_size(struct reval_job *job)
{
    struct reval_wait *w = job->wait;

    unmap_refresh(job->front, job->ino); /* where it fails the kernel appends where it thinks */
    w->error = 0;
    job_free(job);
    w->done(w);
}

void revalidate_size(struct front *f, struct inode *ino, struct reval_wait *w)
{
    struct reval_job *job = job_new(f, ino);

    job->wait = w;
    job->run = refresh_size;
    job_post(job);
}

/* ---- open files: fresh within the attribute timeout, also when only memory is read ---- */

/* Under the open lock. The timer is a descriptor, because any thread opens files. */
static void arm(struct front *f, uint64_t now)
{
    uint64_t at = due_earliest(&f->due);

    if (at >= f->due_armed)
        return; /* it will look then */
    if (at < now + SLOT_NS)
        at = now + SLOT_NS;
    f->due_armed = at;
    timerfd_settime(
        f->due_fd, TFD_TIMER_ABSTIME,
        &(struct itimerspec){.it_value = {(time_t)(at / 1000000000), (long)(at % 1000000000)}},
        NULL);
}

/* Under the open lock. */
static void put(struct front *f, struct inode *ino, uint64_t now, uint64_t expires,
                uint64_t timeout)
{
    uint64_t at = due_when(&f->due, &ino->use->due, expires, timeout);

    due_put(&f->due, &ino->use->due, at < now + PAUSE_NS ? now + PAUSE_NS : at);
}

void revalidate_timed(struct front *f, struct inode *ino, bool open)
{
    uint64_t now = now_ns(), least = f->config.acregmin_ns;

    pthread_mutex_lock(&f->open_lock);
    if (!open) {
        due_remove(&f->due, &ino->use->due);
    } else {
        ino->use->due.later = false;
        if (ino->pages_expire_ns > now)
            put(f, ino, now, ino->pages_expire_ns, inode_attr_timeout(ino));
        else
            put(f, ino, now, now + least, least);
        arm(f, now);
    }
    pthread_mutex_unlock(&f->open_lock);
}

void revalidate_sooner(struct front *f, struct inode *ino)
{
    uint64_t now = now_ns();

    pthread_mutex_lock(&f->open_lock);
    if (ino->use && ino->use->due.place && ino->pages_expire_ns < ino->use->due.at) {
        put(f, ino, now, ino->pages_expire_ns, inode_attr_timeout(ino));
        arm(f, now);
    }
    pthread_mutex_unlock(&f->open_lock);
}

/* Taken from the queue: back into it, and whether to ask. Where the answer is late, or never comes,
 * the next look is after the least timeout all the same. */
static bool look(struct front *f, struct inode *ino, uint64_t now)
{
    uint64_t least = f->config.acregmin_ns;

    pthread_mutex_lock(inode_lock(ino));

    bool due = due_is(&ino->use->due, now, ino->pages_expire_ns, inode_attr_timeout(ino));

    if (ino->opens) {
        pthread_mutex_lock(&f->open_lock);
        ino->use->due.later |= due;
        if (due)
            put(f, ino, now, now + least, least);
        else
            put(f, ino, now, ino->pages_expire_ns, inode_attr_timeout(ino));
        pthread_mutex_unlock(&f->open_lock);
    }
    pthread_mutex_unlock(inode_lock(ino));
    return due && mapping_has_pages(ino->map);
}

static void tick(struct loop *loop, int fd, uint32_t events, void *arg)
{
    struct front *f = arg;
    struct inode *due[SLOT_MOST];
    struct due *d;
    uint64_t times, now = now_ns();
    unsigned n = 0;

    if (read(fd, &times, sizeof times) != sizeof times || atomic_load(&f->stopping))
        return;
    pthread_mutex_lock(&f->open_lock);

    unsigned most = SLOT_LEAST + f->due.n / SLOT_PART;

    while (n < most && n < SLOT_MOST && (d = due_take(&f->due, now)) != NULL) {
        due[n] = ((struct inode_use *)((char *)d - offsetof(struct inode_use, due)))->ino;
        inode_ref(due[n++]);
    }
    pthread_mutex_unlock(&f->open_lock);
    for (unsigned i = 0; i < n; i++) {
        if (look(f, due[i], now))
            revalidate_later(f, due[i]);
        inode_unref(f, due[i]);
    }
    pthread_mutex_lock(&f->open_lock);
    f->due_armed = UINT64_MAX;
    arm(f, now_ns());
    pthread_mutex_unlock(&f->open_lock);
}

/* ---- life ---- */

int revalidate_start(struct front *f)
{
    struct reval_pool *p = calloc(1, sizeof *p);

    if (!p)
        return -ENOMEM;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->tail = &p->head;
    p->front = f;
    f->reval = p;
    due_init(&f->due, now_ns() ^ (uint64_t)getpid() << 32);
    f->due_armed = UINT64_MAX;
    f->due_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    int rc = f->due_fd < 0 ? -errno : loop_add_fd(f->loops[0], f->due_fd, EPOLLIN, tick, f);

    if (rc < 0) {
        if (f->due_fd >= 0)
            close(f->due_fd);
        free(p);
        f->reval = NULL;
    }
    return rc;
}

void revalidate_stop(struct front *f)
{
    struct reval_pool *p = f->reval;

    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->nthreads; i++)
        pthread_join(p->thread[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    free(p);
    f->reval = NULL;
    close(f->due_fd); /* its loop has ended */
}
