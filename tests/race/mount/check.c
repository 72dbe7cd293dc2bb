// SPDX-License-Identifier: Apache-2.0
/*
 * The timeline and the oracle of a run on a mount.
 *
 * Events come from two sides: the lanes say what they did, and the daemon leaves the points that it
 * came by in a ring of shared memory. Both carry CLOCK_MONOTONIC, and are put in one order by it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/race/lab/point.h"
#include "tests/race/lab/points.h"
#include "tests/race/mount/internal.h"

#define FSYNC_TRIES 20

struct trace *trace_ring;

static const struct {
    const char *name;
    enum lab_column column;
    const char *text;
} points[] = {
#define X(name, column, text) {name, column, text},
    LAB_POINTS(X)
#undef X
};

uint64_t lm_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A faulty order says itself where it loses something; on the cache the oracle sees it. */
static const struct {
    const char *name, *text;
} losses[] = {
    {"kernel.refused", "HERE the kernel is refused a page that it writes back: it forgets it"},
    {"page.dropped", "HERE a page is dropped with bytes that the server does not have"},
};

/* ---- the daemon's end ---- */

void trace_point(const char *name, uint64_t page)
{
    uint64_t n = atomic_fetch_add(&trace_ring->n, 1);
    struct trace_entry *t = &trace_ring->entry[n % TRACE_SIZE];

    atomic_store_explicit(&t->number, 0, memory_order_release);
    t->ns = lm_now();
    t->name = name;
    t->page = page;
    t->tid = gettid();
    atomic_store_explicit(&t->number, n + 1, memory_order_release);
}

/* ---- events ---- */

enum lab_column column_of(const char *lane)
{
    for (enum lab_column c = 0; c < COLUMNS; c++)
        if (strncmp(lane, lab_column_name(c), strlen(lab_column_name(c))) == 0)
            return c;
    return APPLICATION;
}

/* Lock held. */
static void add_at(struct lab_mount *m, uint64_t ns, enum lab_column column, const char *lane,
                   bool loss, char *text)
{
    struct timed_event *more;

    if (m->quiet && !loss) {
        free(text);
        return;
    }
    more = realloc(m->events, (m->nevents + 1) * sizeof *more);
    if (!more || !text)
        abort();
    m->events = more;
    m->events[m->nevents++] = (struct timed_event){
        .ns = ns,
        .order = m->order++,
        .e = {.column = column,
              .lane = lane && column_of(lane) == column ? lane : lab_column_name(column),
              .text = text,
              .loss = loss},
    };
}

void event_add(struct lab_mount *m, enum lab_column column, const char *lane, bool loss, char *text)
{
    pthread_mutex_lock(&m->lock);
    add_at(m, lm_now(), column, lane, loss, text);
    pthread_mutex_unlock(&m->lock);
}

static char *format_text(const char *format, va_list ap)
{
    char *text = NULL;

    if (vasprintf(&text, format, ap) < 0)
        abort();
    return text;
}

void event_say(struct lab_mount *m, enum lab_column column, const char *lane, bool loss,
               const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    event_add(m, column, lane, loss, format_text(format, ap));
    va_end(ap);
}

void lm_say(struct lab_mount *m, enum lab_column column, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    event_add(m, column, NULL, false, format_text(format, ap));
    va_end(ap);
}

static void trace_show(struct lab_mount *m, const struct trace_entry *t)
{
    for (unsigned i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        char *text;

        if (strcmp(losses[i].name, t->name) != 0)
            continue;
        if (asprintf(&text, "%s (page %llu)", losses[i].text, (unsigned long long)t->page) < 0)
            abort();
        add_at(m, t->ns, CACHE, NULL, true, text);
        return;
    }
    for (unsigned i = 0; i < sizeof points / sizeof points[0]; i++) {
        char *text;
        int n;

        if (strcmp(points[i].name, t->name) != 0)
            continue;
        if (t->page == LAB_NO_PAGE)
            n = asprintf(&text, "%s", points[i].text);
        else
            n = asprintf(&text, "%s (page %llu)", points[i].text, (unsigned long long)t->page);
        if (n < 0)
            abort();
        add_at(m, t->ns, points[i].column, NULL, false, text);
        return;
    }
}

void trace_take(struct lab_mount *m)
{
    uint64_t n = atomic_load(&m->trace->n);

    pthread_mutex_lock(&m->lock);
    if (n > m->trace_seen + TRACE_SIZE)
        m->trace_seen = n - TRACE_SIZE;
    for (; m->trace_seen < n; m->trace_seen++) {
        struct trace_entry *e = &m->trace->entry[m->trace_seen % TRACE_SIZE];

        if (atomic_load_explicit(&e->number, memory_order_acquire) == m->trace_seen + 1)
            trace_show(m, e);
    }
    pthread_mutex_unlock(&m->lock);
}

void trace_skip(struct lab_mount *m)
{
    m->trace_seen = atomic_load(&m->trace->n);
}

static int in_order(const void *a, const void *b)
{
    const struct timed_event *x = a, *y = b;

    if (x->ns != y->ns)
        return x->ns < y->ns ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static void sort_events(struct lab_mount *m)
{
    trace_take(m);
    pthread_mutex_lock(&m->lock);
    qsort(m->events, m->nevents, sizeof *m->events, in_order);
    for (unsigned i = 0; i < m->nevents; i++)
        m->events[i].e.step = i + 1;
    pthread_mutex_unlock(&m->lock);
}

/* Lanes end with the run, and their names with them. */
static const char *lasting(const char *lane)
{
    static const char *const known[] = {"application2", "application3", "kernel2"};

    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i], lane) == 0)
            return known[i];
    return lab_column_name(column_of(lane));
}

void events_finish(struct lab_mount *m)
{
    struct lab_result *r = &m->result;

    sort_events(m);
    r->events = calloc(m->nevents ? m->nevents : 1, sizeof *r->events);
    if (!r->events)
        abort();
    r->nevents = m->nevents;
    for (unsigned i = 0; i < m->nevents; i++) {
        r->events[i] = m->events[i].e;
        r->events[i].lane = lasting(m->events[i].e.lane);
    }
    free(m->events);
    m->events = NULL;
    m->nevents = 0;
}

/* ---- what was found ---- */

/* `instead`: of what was said before. */
static void verdict(struct lab_mount *m, bool instead, const char *format, va_list ap)
{
    char *text = format_text(format, ap);

    if (instead || !m->result.verdict[0]) {
        free(m->result.verdict);
        m->result.verdict = strdup(text);
    }
    m->found = true;
    event_add(m, APPLICATION, NULL, true, text);
}

void lm_lost(struct lab_mount *m, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    verdict(m, m->result.lost++ == 0, format, ap);
    va_end(ap);
}

void lm_stale(struct lab_mount *m, const char *format, ...)
{
    va_list ap;

    m->result.stale++;
    va_start(ap, format);
    verdict(m, false, format, ap);
    va_end(ap);
}

/* ---- the oracle ---- */

void note_add(struct lab_mount *m, const char *who, uint64_t off, uint8_t value, bool foreign)
{
    struct note *n = NULL;

    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < m->nnotes; i++)
        if (m->note[i].off == off)
            n = &m->note[i];
    if (!n && m->nnotes == NOTES)
        abort();
    if (!n)
        n = &m->note[m->nnotes++];
    *n = (struct note){
        .off = off, .value = value, .foreign = foreign, .ns = lm_now(), .epoch = m->reval_begun};
    snprintf(n->who, sizeof n->who, "%s", who);
    pthread_mutex_unlock(&m->lock);
}

void lm_expect(struct lab_mount *m, uint64_t off, uint8_t value)
{
    note_add(m, "application", off, value, false);
}

void lm_forget(struct lab_mount *m, uint64_t from)
{
    for (unsigned i = 0; i < m->nnotes; i++)
        if (m->note[i].off >= from)
            m->note[i--] = m->note[--m->nnotes];
}

/* The note was made just after its event. */
static void describe(struct lab_mount *m, const struct note *n, char *out, size_t room)
{
    unsigned step = 0;

    sort_events(m);
    for (unsigned i = 0; i < m->nevents && m->events[i].ns <= n->ns; i++)
        if (column_of(m->events[i].e.lane) == column_of(n->who))
            step = m->events[i].e.step;
    snprintf(out, room, "page %llu byte %llu: the %u that %s %s at step %u", PAGE_OF(n->off),
             BYTE_OF(n->off), n->value, n->foreign ? "another client" : n->who,
             n->foreign ? "wrote" : "stored", step);
}

/* What a load finds is looked at first, before the fsync makes anything better. What the server has
 * nevertheless is stale here, and not lost. */
bool lm_check_bytes(struct lab_mount *m)
{
    int64_t seen[NOTES], rc = -1;
    bool bad[NOTES] = {0};
    char what[160], here[32];

    for (unsigned i = 0; i < m->nnotes; i++) {
        const struct note *n = &m->note[i];

        seen[i] = lm_wait(m, op_post(m, "application", LM_LOAD, n->off, 0, 1, false));
        bad[i] = (!n->foreign || n->epoch < m->reval_done) && seen[i] != n->value;
    }
    for (int i = 0; rc && i < FSYNC_TRIES; i++)
        rc = lm_wait(m, op_post(m, "application", LM_FSYNC, 0, 0, 0, false));
    if (rc)
        lm_fail(m, "fsync(2) goes on failing: %s", strerror((int)-rc));
    for (unsigned i = 0; i < m->nnotes; i++) {
        const struct note *n = &m->note[i];
        uint8_t kept = lm_server_byte(m, n->off);

        if (kept == n->value && !bad[i])
            continue;
        describe(m, n, what, sizeof what);
        if (seen[i] < 0)
            snprintf(here, sizeof here, "a load gets SIGBUS");
        else
            snprintf(here, sizeof here, "the file reads %d", (int)seen[i]);
        if (kept != n->value)
            lm_lost(m, "%s is gone: %s here, and after an fsync the server has %u", what, here,
                    kept);
        else if (n->foreign)
            lm_stale(m, "%s is not seen after a revalidation that began later: %s", what, here);
        else
            lm_stale(m, "%s is not seen: %s here, and the server has it", what, here);
    }
    return !m->found;
}
