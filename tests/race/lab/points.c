// SPDX-License-Identifier: Apache-2.0
/*
 * Points and faults at run time; see point.h and faults.h.
 *
 * In a daemon a point that nobody holds costs one load of a counter.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/lib/sim.h"
#include "tests/race/lab/faults.h"
#include "tests/race/lab/point.h"
#include "tests/race/lab/run.h"

uint64_t lab_faults;
void (*lab_on_point)(const char *name, uint64_t page);

const struct lab_fault_text lab_fault_texts[FAULTS] = {
#define X(name, where, shipped, fault) {#name, where, shipped, fault},
    LAB_FAULTS(X)
#undef X
};

#define HOLDS 16

static struct hold {
    char name[32];
    bool active;
    unsigned arrived, waiting;
} holds[HOLDS];
static atomic_uint held;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* Lock held. */
static struct hold *find(const char *name)
{
    for (unsigned i = 0; i < HOLDS; i++)
        if ((holds[i].active || holds[i].waiting) && strcmp(holds[i].name, name) == 0)
            return &holds[i];
    return NULL;
}

static void wait_here(const char *name, uint64_t page)
{
    char with_page[sizeof holds->name];

    snprintf(with_page, sizeof with_page, "%s:%llu", name, (unsigned long long)page);
    pthread_mutex_lock(&lock);

    struct hold *h = find(name);

    if (!h || !h->active)
        h = find(with_page);
    if (h && h->active) {
        h->arrived++;
        h->waiting++;
        pthread_cond_broadcast(&changed);
        while (h->active)
            pthread_cond_wait(&changed, &lock);
        h->waiting--;
    }
    pthread_mutex_unlock(&lock);
}

void lab_point(const char *name, uint64_t page)
{
    if (sim_active()) {
        lab_point_in_run(name, page);
        return;
    }
    if (lab_on_point)
        lab_on_point(name, page);
    if (atomic_load_explicit(&held, memory_order_relaxed))
        wait_here(name, page);
}

int lab_hold(const char *name)
{
    int rc = 0;

    if (strlen(name) >= sizeof holds->name)
        return -EINVAL;
    pthread_mutex_lock(&lock);

    struct hold *h = find(name);

    for (unsigned i = 0; i < HOLDS && !h; i++)
        if (!holds[i].active && !holds[i].waiting)
            h = &holds[i];
    if (!h) {
        rc = -ENOSPC;
    } else if (!h->active) {
        strcpy(h->name, name);
        h->active = true;
        h->arrived = 0;
        atomic_fetch_add(&held, 1);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static void release(struct hold *h)
{
    h->active = false;
    atomic_fetch_sub(&held, 1);
    pthread_cond_broadcast(&changed);
}

void lab_release(const char *name)
{
    pthread_mutex_lock(&lock);

    struct hold *h = find(name);

    if (h && h->active)
        release(h);
    pthread_mutex_unlock(&lock);
}

void lab_release_all(void)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < HOLDS; i++)
        if (holds[i].active)
            release(&holds[i]);
    pthread_mutex_unlock(&lock);
}

unsigned lab_arrived(const char *name, unsigned n, unsigned ms)
{
    struct timespec until;
    unsigned have = 0;
    int rc = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&lock);
    for (;;) {
        struct hold *h = find(name);

        have = h ? h->arrived : 0;
        if (have >= n || rc)
            break;
        rc = pthread_cond_timedwait(&changed, &lock, &until);
    }
    pthread_mutex_unlock(&lock);
    return have;
}
