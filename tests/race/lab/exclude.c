// SPDX-License-Identifier: Apache-2.0
/* See exclude.h. Locks: a page's, and `lock` for what waits; none is held over the other. */
#include "tests/race/lab/exclude.h"

#include <sched.h>

#include "tests/lib/sim.h"

#define YIELDS 100 /* then the lane waits: it would go on like that for ever */

struct exclude_figures exclude_figures;

static pthread_mutex_t page_lock[EXCLUDE_PAGES];
static pthread_mutex_t lock;
static pthread_cond_t even;
static uint64_t truncate_count, sequence; /* odd: a removal is under way */
static uint64_t entered[EXCLUDE_PAGES];
static int held = -1; /* by the removal */

#define ADD(what)  __atomic_add_fetch(&exclude_figures.what, 1, __ATOMIC_RELAXED)
#define LOAD(what) __atomic_load_n(&(what), __ATOMIC_ACQUIRE)

void exclude_reset(void)
{
    exclude_figures = (struct exclude_figures){0};
    for (unsigned i = 0; i < EXCLUDE_PAGES; i++)
        pthread_mutex_init(&page_lock[i], NULL);
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&even, NULL);
    truncate_count = sequence = 0;
    held = -1;
}

/* ---- the fault's side ---- */

static uint64_t count_enter(uint64_t page)
{
    (void)page;
    return LOAD(truncate_count);
}

static bool count_leave(uint64_t page, uint64_t was)
{
    (void)page;
    return LOAD(truncate_count) == was;
}

static uint64_t seq_enter(uint64_t page)
{
    (void)page;
    for (unsigned n = 1; LOAD(sequence) & 1; n++) {
        ADD(yields);
        if (n <= YIELDS) {
            sched_yield();
            continue;
        }
        pthread_mutex_lock(&lock);
        while (LOAD(sequence) & 1)
            pthread_cond_wait(&even, &lock);
        pthread_mutex_unlock(&lock);
    }
    return LOAD(sequence);
}

static bool seq_leave(uint64_t page, uint64_t was)
{
    (void)page;
    return LOAD(sequence) == was;
}

static uint64_t lock_enter(uint64_t page)
{
    ADD(locks);
    pthread_mutex_lock(&page_lock[page]);
    return 0;
}

static bool lock_leave(uint64_t page, uint64_t was)
{
    (void)was;
    pthread_mutex_unlock(&page_lock[page]);
    return true;
}

static uint64_t nothing_enter(uint64_t page)
{
    return page;
}

static bool nothing_leave(uint64_t page, uint64_t was)
{
    return page == was;
}

const struct exclude_way exclude_ways[] = {{"ours, none", nothing_enter, nothing_leave},
                                           {"truncate-count", count_enter, count_leave},
                                           {"seqlock", seq_enter, seq_leave},
                                           {"page-lock", lock_enter, lock_leave},
                                           {0}};

static void count_unmap(struct lab *l, uint64_t page)
{
    (void)l;
    (void)page;
    ADD(unmaps);
}

const struct lab_hook exclude_ours[] = {{"unmap.begin", count_unmap}, {0}};

/* A retry: the page that was just mapped goes, and the fault is taken again. */
static void leave(struct lab *l, uint64_t page, const struct exclude_way *way)
{
    if (way->leave(page, entered[page]))
        return;
    ADD(retries);
    lab_say_in(l, KERNEL, "the fault was overtaken by a removal: once more");
    fk_reclaim(l->k, (uint32_t)page);
}

/* ---- the count of truncations ---- */

static void count_fault(struct lab *l, uint64_t page)
{
    (void)l;
    entered[page] = count_enter(page);
}

static void count_mapped(struct lab *l, uint64_t page)
{
    leave(l, page, &exclude_ways[1]);
}

static void count_up(struct lab *l, uint64_t page)
{
    count_unmap(l, page);
    __atomic_add_fetch(&truncate_count, 1, __ATOMIC_RELEASE);
}

const struct lab_hook exclude_truncate_count[] = {
    {"kernel.read", count_fault}, {"kernel.filled", count_mapped}, {"unmap.begin", count_up}, {0}};

/* ---- the seqlock whose readers yield ---- */

static void seq_fault(struct lab *l, uint64_t page)
{
    if (LOAD(sequence) & 1)
        lab_say_in(l, KERNEL, "the fault finds a removal under way: yield, yield, ...");
    entered[page] = seq_enter(page);
}

static void seq_mapped(struct lab *l, uint64_t page)
{
    leave(l, page, &exclude_ways[2]);
}

static void seq_step(struct lab *l, uint64_t page)
{
    (void)l;
    (void)page;
    pthread_mutex_lock(&lock);
    __atomic_add_fetch(&sequence, 1, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&even);
    pthread_mutex_unlock(&lock);
}

const struct lab_hook exclude_seqlock[] = {
    {"kernel.read", seq_fault},   {"kernel.filled", seq_mapped},   {"reval.asked", seq_step},
    {"unmap.begin", count_unmap}, {"reval.invalidated", seq_step}, {0}};

/* ---- the page lock, held by the fault ---- */

static void lock_fault(struct lab *l, uint64_t page)
{
    if (held == (int)page)
        lab_say_in(l, KERNEL, "the fault waits for the lock of page %u", (unsigned)page);
    lock_enter(page);
}

static void lock_mapped(struct lab *l, uint64_t page)
{
    (void)l;
    lock_leave(page, 0);
}

static void lock_and_unmap(struct lab *l, uint64_t page)
{
    if (page >= l->k->pages || page >= EXCLUDE_PAGES)
        return;
    lock_enter(page);
    held = (int)page;
    lab_say_in(l, REVALIDATOR, "3 invalidate: locks page %u, and unmaps it", (unsigned)page);
    mapping_unmap(l->k->m, page << PAGE_SHIFT, PAGE_SIZE);
}

static void lock_give_back(void)
{
    if (held >= 0)
        lock_leave((uint64_t)held, 0);
    held = -1;
}

static void lock_first(struct lab *l, uint64_t page)
{
    (void)page;
    lock_and_unmap(l, 0);
}

static void lock_next(struct lab *l, uint64_t page)
{
    lock_give_back();
    lock_and_unmap(l, page + 1);
}

static void lock_last(struct lab *l, uint64_t page)
{
    (void)l;
    (void)page;
    lock_give_back();
}

const struct lab_hook exclude_page_lock[] = {{"kernel.read", lock_fault},
                                             {"kernel.filled", lock_mapped},
                                             {"reval.waited", lock_first},
                                             {"unmap.begin", count_unmap},
                                             {"reval.page", lock_next},
                                             {"reval.invalidated", lock_last},
                                             {0}};
