// SPDX-License-Identifier: Apache-2.0
/*
 * Mounting, the client's life, its log and its statistics.
 *
 * nfs3_mount() asks the MOUNT service for the root's handle, then the NFS service for what the file
 * system can, over a connection that lives for that alone: the loops of the caller do not run yet.
 * Failures there are the user's to read, so each says what was tried and what may help.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "daemon/nfs/client.h"

enum {
    LOG_GAP_MS = 200,    /* between two lines, past a few */
    SETUP_TIMEO_DS = 50, /* of a mount attempt's own calls */
    RETRY_MIN_S = 1,     /* between attempts; doubles ... */
    RETRY_MAX_S = 30,    /* ... up to this */
    IO_MIN = 4096,       /* who offers, or asks for, less gets whole pages all the same */
    DT_WANT = 128 << 10, /* READDIRPLUS replies; ganesha prefers 16 KiB, gives more */
    DT_MAX = 256 << 10,
    RECORD_MAX = 2 * NFS3_IO_MAX + (128 << 10)
};

/* ---- log ---- */

static void remember_error(struct nfs3 *r, const char *text)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    while (atomic_flag_test_and_set(&r->error_lock))
        ;
    snprintf(r->last_error, sizeof(r->last_error), "%s", text);
    r->last_error_s = (uint64_t)ts.tv_sec;
    atomic_flag_clear(&r->error_lock);
}

static void last_error(struct nfs3 *r, char text[256], uint64_t *when)
{
    while (atomic_flag_test_and_set(&r->error_lock))
        ;
    memcpy(text, r->last_error, sizeof(r->last_error));
    *when = r->last_error_s;
    atomic_flag_clear(&r->error_lock);
}

static void log_default(int priority, const char *text)
{
    if (priority < LOG_DEBUG)
        fprintf(stderr, "nfscached: %s\n", text);
}

void nfs3_log(struct nfs3 *r, int priority, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (priority <= LOG_WARNING)
        remember_error(r, text);
    if (r->setup)
        return;
    if (priority == LOG_DEBUG) {
        r->log(priority, text);
        return;
    }
    /* A token every LOG_GAP_MS, up to ten saved: a storm of errors does not flood the log. */
    uint64_t now = now_ns(), gap = LOG_GAP_MS * 1000000ull;
    uint64_t next = atomic_load(&r->log_next_ns), from;
    do {
        from = next + 10 * gap < now ? now - 10 * gap : next;
        if (from > now) {
            atomic_fetch_add(&r->log_dropped, 1);
            return;
        }
    } while (!atomic_compare_exchange_weak(&r->log_next_ns, &next, from + gap));
    uint32_t dropped = atomic_exchange(&r->log_dropped, 0);
    if (dropped) {
        char more[64];
        snprintf(more, sizeof(more), "(%u lines left out)", dropped);
        r->log(LOG_WARNING, more);
    }
    r->log(priority, text);
}

/* ---- life ---- */

struct nfs3 *nfs3_new(const struct nfs3_options *o)
{
    struct nfs3 *r = calloc(1, sizeof(*r));
    uint64_t verifier = 0;
    if (!r)
        return NULL;
    r->base.ops = &nfs3_ops;
    r->server = strdup(o->server);
    r->export = strdup(o->export ? o->export : "/");
    r->resvport = o->resvport;
    r->soft = o->soft;
    r->timeo_ns = (o->timeo_ds ? o->timeo_ds : 600) * 100000000ull;
    r->retrans = o->retrans;
    r->record_max = RECORD_MAX;
    r->log = o->log ? o->log : log_default;
    r->stamp = (uint32_t)time(NULL);
    if (gethostname(r->hostname, sizeof(r->hostname)) < 0)
        r->hostname[0] = 0;
    r->hostname[sizeof(r->hostname) - 1] = 0;
    if (getrandom(&verifier, sizeof(verifier), 0) < 0)
        verifier = now_ns();
    atomic_store(&r->verifier, verifier);
    atomic_flag_clear(&r->error_lock);
    if (!r->server || !r->export) {
        nfs3_free(r);
        return NULL;
    }
    return r;
}

void nfs3_free(struct nfs3 *r)
{
    for (int i = 0; i < r->nconn; i++) {
        struct conn *c = r->conns[i];
        if (c->own_loop) {
            loop_stop(c->loop);
            loop_join(c->loop);
            loop_free(c->loop);
        }
        conn_free(c);
    }
    free(r->conns);
    free(r->server);
    free(r->export);
    free(r);
}

int nfs3_add_conn(struct nfs3 *r, struct loop *loop, bool bulk)
{
    struct conn **conns = realloc(r->conns, (size_t)(r->nconn + 1) * sizeof(struct conn *));
    char name[16];
    bool own = !loop;
    if (!conns)
        return -ENOMEM;
    r->conns = conns;
    snprintf(name, sizeof(name), "nfs-bulk%d", r->nconn - r->nshard);
    if (own && !(loop = loop_new(name)))
        return -errno;
    struct conn *c = conn_new(r, loop, r->nconn, bulk);
    int rc = c ? 0 : -ENOMEM;
    if (!rc && own)
        rc = loop_start(loop);
    if (rc < 0) {
        if (own)
            loop_free(loop);
        conn_free(c);
        return rc;
    }
    c->own_loop = own;
    r->conns[r->nconn++] = c;
    if (!bulk)
        r->nshard++;
    return 0;
}

/* ---- mounting ---- */

static int learn(struct remote *setup, struct remote *r, const struct nfs3_options *o,
                 const char **what)
{
    struct cred cred = {.uid = geteuid(), .gid = getegid()};
    struct remote_call call = {.op = REMOTE_FSINFO, .cred = &cred, .fh = setup->root};
    *what = "FSINFO";
    int rc = remote_call_wait(setup, &call);
    if (rc)
        return rc;
    uint32_t rmax = call.u.fsinfo.rtmax, wmax = call.u.fsinfo.wtmax;
    rmax = rmax < IO_MIN ? IO_MIN : rmax > NFS3_IO_MAX ? NFS3_IO_MAX : rmax;
    wmax = wmax < IO_MIN ? IO_MIN : wmax > NFS3_IO_MAX ? NFS3_IO_MAX : wmax;
    r->rsize = !o->rsize || o->rsize > rmax ? rmax : o->rsize < IO_MIN ? IO_MIN : o->rsize;
    r->wsize = !o->wsize || o->wsize > wmax ? wmax : o->wsize < IO_MIN ? IO_MIN : o->wsize;
    r->dtsize = call.u.fsinfo.dtpref < DT_WANT  ? DT_WANT
                : call.u.fsinfo.dtpref > DT_MAX ? DT_MAX
                                                : call.u.fsinfo.dtpref;
    r->maxfilesize = call.u.fsinfo.maxfilesize;
    *what = "PATHCONF";
    call = (struct remote_call){.op = REMOTE_PATHCONF, .cred = &cred, .fh = setup->root};
    rc = remote_call_wait(setup, &call);
    if (rc && rc != -EOPNOTSUPP && rc != -EACCES)
        return rc;
    r->name_max = rc || !call.u.pathconf.name_max || call.u.pathconf.name_max > NFS3_NAME_MAX
                      ? NFS3_NAME_MAX
                      : call.u.pathconf.name_max;
    r->link_max = rc ? 0 : call.u.pathconf.linkmax;
    *what = "GETATTR";
    call = (struct remote_call){.op = REMOTE_GETATTR, .cred = &cred, .fh = setup->root};
    rc = remote_call_wait(setup, &call);
    if (rc)
        return rc;
    return S_ISDIR(call.post.attr.mode) ? 0 : -ENOTDIR;
}

static uint16_t nfs_port(const struct nfs3 *r)
{
    return ntohs(r->addr.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)&r->addr)->sin6_port
                                               : ((const struct sockaddr_in *)&r->addr)->sin_port);
}

static void set_target(struct nfs3 *r, const struct mountd_target *t)
{
    r->addr = t->nfs;
    r->addrlen = t->nfslen;
    r->mount_addr = t->mount;
    r->mount_addrlen = t->mountlen;
    r->base.root = t->root;
}

/* The handle is known: does the NFS service take it? Fills r's sizes. */
static int try_nfs(struct nfs3 *r, const struct nfs3_options *o, const struct mountd_target *t,
                   bool *again, char *errbuf, size_t errlen)
{
    struct nfs3_options setup_options = *o;
    const char *what = "";
    char why[256];
    uint64_t when;
    setup_options.soft = true;
    setup_options.timeo_ds = SETUP_TIMEO_DS;
    setup_options.retrans = 1;
    struct nfs3 *setup = nfs3_new(&setup_options);
    struct loop *loop = loop_new("nfs-mount");
    int rc = setup && loop ? 0 : -ENOMEM;
    set_target(r, t);
    if (!rc) {
        setup->setup = true;
        set_target(setup, t);
        rc = nfs3_add_conn(setup, loop, false);
    }
    if (!rc)
        rc = loop_start(loop);
    if (!rc) {
        rc = learn(&setup->base, &r->base, o, &what);
        *again = rc == -ETIMEDOUT || rc == -EPFNOSUPPORT;
        last_error(setup, why, &when);
        if (rc)
            snprintf(errbuf, errlen, "%s:%s: the NFS service at port %u: %s: %s%s%s%s", o->server,
                     o->export, nfs_port(r), what, strerror(-rc), setup->last_error[0] ? " (" : "",
                     setup->last_error, setup->last_error[0] ? ")" : "");
    } else {
        snprintf(errbuf, errlen, "%s:%s: %s", o->server, o->export, strerror(-rc));
    }
    if (setup && setup->nconn)
        remote_destroy(&setup->base);
    else if (setup)
        nfs3_free(setup);
    if (loop) {
        loop_stop(loop);
        loop_join(loop);
        loop_free(loop);
    }
    return rc;
}

static int attempt(struct nfs3 *r, const struct nfs3_options *o, bool *again, char *errbuf,
                   size_t errlen)
{
    struct mountd_target t;
    memset(&t, 0, sizeof(t));
    int rc = mountd_mount(o, &t, again, errbuf, errlen);
    return rc ? rc : try_nfs(r, o, &t, again, errbuf, errlen);
}

int nfs3_mount(const struct nfs3_options *o, struct loop *const *loops, int nloops,
               struct remote **out, char *errbuf, size_t errlen)
{
    errbuf[0] = 0;
    uint64_t until = now_ns() + (uint64_t)o->retry_minutes * 60 * 1000000000ull;
    unsigned wait = RETRY_MIN_S;
    bool again = false;
    struct nfs3 *r = nfs3_new(o);
    if (!r) {
        snprintf(errbuf, errlen, "no memory");
        return -ENOMEM;
    }
    int rc;
    while ((rc = attempt(r, o, &again, errbuf, errlen)) && again &&
           now_ns() + wait * 1000000000ull < until) {
        sleep(wait);
        wait = 2 * wait < RETRY_MAX_S ? 2 * wait : RETRY_MAX_S;
    }
    if (o->again)
        *o->again = rc && again;
    if (!rc)
        errbuf[0] = 0;
    for (int i = 0; !rc && i < nloops; i++)
        rc = nfs3_add_conn(r, loops[i], false);
    for (int i = nloops; !rc && i < o->nconnect && i < NFS3_STATS_CONNS; i++)
        rc = nfs3_add_conn(r, NULL, true);
    if (rc) {
        if (!errbuf[0])
            snprintf(errbuf, errlen, "%s:%s: %s", o->server, o->export, strerror(-rc));
        r->setup = true; /* the server keeps no state that an UMNT would end */
        if (r->nconn)
            remote_destroy(&r->base);
        else
            nfs3_free(r);
        return rc;
    }
    *out = &r->base;
    return 0;
}

/* ---- statistics ---- */

void nfs3_stats(struct remote *remote, struct nfs3_stats *out)
{
    static const char *const states[] = {[CONN_DOWN] = "down",
                                         [CONN_CONNECTING] = "connecting",
                                         [CONN_UP] = "up",
                                         [CONN_CLOSED] = "closed"};
    struct nfs3 *r = nfs3_of(remote);
    const struct conn_counters *blocks[NFS3_STATS_CONNS];
    out->nconn = r->nconn < NFS3_STATS_CONNS ? r->nconn : NFS3_STATS_CONNS;
    for (int i = 0; i < out->nconn; i++) {
        const struct conn *c = r->conns[i];
        blocks[i] = &c->stats;
        out->conn[i] = (struct nfs3_conn_stats){
            .bulk = c->bulk,
            .state = states[atomic_load(&c->state)],
            .local_port = atomic_load(&c->port),
            .queued = counter_get(&c->stats.queued),
            .sent = counter_get(&c->stats.sent),
            .delayed = counter_get(&c->stats.delayed),
            .outstanding_bytes = atomic_load(&c->outstanding_bytes),
            .connects = counter_get(&c->stats.connects),
            .drops = counter_get(&c->stats.drops),
            .strangers = counter_get(&c->stats.strangers),
            .garbled = counter_get(&c->stats.garbled),
            .timeouts = counter_get(&c->stats.timeouts),
        };
    }
    stats_sum(out, blocks, out->nconn);
    out->responding = !atomic_load(&r->silent);
    last_error(r, out->last_error, &out->last_error_s);
}
