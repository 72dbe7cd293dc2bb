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
#include <sys/stat.h>

#include "cache/point.h"
#include "fuse/ops.h"

#define REVAL_THREADS 16
#define TICK_NS       200000000ull

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

    pthread_mutex_lock(&ino->lock);

    struct reval_wait *joined = ino->reval_joined;

    ino->reval_joined = ino->reval_waiting;
    ino->reval_waiting = NULL;

    bool again = ino->reval_joined != NULL;

    ino->reval_running = again;
    job->force = ino->reval_force;
    ino->reval_force = false;
    if (error) /* gone at the server, say: the timer need not ask at each of its ticks */
        ino->pages_expire_ns = now_ns() + job->front->config.acregmin_ns;
    pthread_mutex_unlock(&ino->lock);

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
static void forget_attr(struct front *f, struct inode *ino)
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
        pthread_mutex_lock(&ino->lock);
        if (job->proves)
            ino->proven = token_of(&job->attr);
        pthread_mutex_unlock(&ino->lock);
        forget_attr(job->front, ino);
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
        pthread_mutex_lock(&ino->lock);

        bool proven = token_equal(&ino->proven, &now) || !attr_clock_coarse(f, &now);

        pthread_mutex_unlock(&ino->lock);
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
        pthread_mutex_lock(&ino->lock);
        ino->proven = now;
        pthread_mutex_unlock(&ino->lock);
    }
    pthread_mutex_lock(&ino->lock);

    struct token told = token_of(&ino->rec->attr);

    pthread_mutex_unlock(&ino->lock);
    attr_accept(f, ino, &call->post, call);
    if (!token_equal(&told, &now))
        forget_attr(f, ino);
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
    pthread_mutex_lock(&ino->lock);

    bool start = !ino->reval_running;
    struct reval_wait **list = start ? &ino->reval_joined : &ino->reval_waiting;

    w->next = *list;
    *list = w;
    ino->reval_running = true;
    if (!start)
        ino->reval_force |= force;
    pthread_mutex_unlock(&ino->lock);
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

    pthread_mutex_lock(&ino->lock);

    bool running = ino->reval_running;

    pthread_mutex_unlock(&ino->lock);
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

#define TICK_BATCH 64

static void tick(struct loop_timer *timer)
{
    struct front *f = (struct front *)((char *)timer - offsetof(struct front, attr_timer));
    struct inode *due[TICK_BATCH];
    uint64_t now = now_ns();
    unsigned n = 0;

    pthread_mutex_lock(&f->open_lock);
    for (struct inode *ino = f->open_files; ino && n < TICK_BATCH; ino = ino->open_next) {
        if (ino->pages_expire_ns > now || !mapping_has_pages(ino->map))
            continue;
        inode_ref(ino);
        due[n++] = ino;
    }
    pthread_mutex_unlock(&f->open_lock);
    for (unsigned i = 0; i < n; i++) {
        revalidate_later(f, due[i]);
        inode_unref(f, due[i]);
    }
    if (!atomic_load(&f->stopping))
        loop_timer_set(f->loops[0], timer, n == TICK_BATCH ? TICK_NS / 10 : TICK_NS);
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
    f->attr_timer.fn = tick;
    loop_timer_set(f->loops[0], &f->attr_timer, TICK_NS);
    return 0;
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
}
