// SPDX-License-Identifier: Apache-2.0
/* What was found: counted, and the first of each check kept in words. See run.h. */
#include "tests/race/probe/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const kind_name[KINDS] = {"lost", "stale", "torn", "wrong", "lost error", "hung"};

/* A process may be killed while it holds it: a watchdog ends that run, not this lock. */
static void lock(struct probe *p)
{
    while (__sync_lock_test_and_set(&p->sh->lock, 1))
        usleep(50);
}

static void unlock(struct probe *p)
{
    __sync_lock_release(&p->sh->lock);
}

void finding(struct probe *p, enum kind k, bool promised, const struct where *w,
             const struct rec_id *want, const void *buf, size_t len, const char *fmt, ...)
{
    struct result *r = res(p);
    char *first = promised ? r->first : r->first_observed;
    char explained[500] = "", said[400];
    va_list ap;
    int n;

    count(promised ? &r->found[k] : &r->observed[k]);
    lock(p);
    if (!*first) {
        va_start(ap, fmt);
        vsnprintf(said, sizeof said, fmt, ap);
        va_end(ap);
        n = snprintf(first, sizeof r->first, "%s: %s in %s", kind_name[k], checks[p->check].name,
                     w->file);
        if (want)
            n += snprintf(first + n, sizeof r->first - (size_t)n, ", page %llu (offset %llu)",
                          (unsigned long long)(want->offset / PAGE),
                          (unsigned long long)want->offset);
        n += snprintf(first + n, sizeof r->first - (size_t)n, ", by %s on %s %s, %s: %s", w->how,
                      w->way->option, w->way->dir, w->when, said);
        if (want && buf) {
            rec_explain(explained, sizeof explained, buf, len, want);
            snprintf(first + n, sizeof r->first - (size_t)n, "; %s", explained);
        }
    }
    unlock(p);
}

void trouble(struct probe *p, const char *fmt, ...)
{
    int err = errno;
    char said[500];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(said, sizeof said, fmt, ap);
    va_end(ap);
    lock(p);
    if (!p->sh->troubled) {
        snprintf(p->sh->trouble, sizeof p->sh->trouble, "%s%s%s", said, err ? ": " : "",
                 err ? strerror(err) : "");
        p->sh->troubled = 1;
    }
    p->sh->stop = 1;
    unlock(p);
    _exit(T_ERROR);
}
