// SPDX-License-Identifier: Apache-2.0
/*
 * One run on the cache; see lab.h.
 *
 *   world_begin -> lanes, paused -> the schedule, line by line -> everybody to the end -> check
 *
 * Lanes, servers and the cache's helper threads are fibers of tests/lib/sim.h, with no preemption:
 * who runs goes on until it waits, or comes to the point that its line names. Whoever is neither
 * paused nor waiting goes on as soon as the lane of the line cannot; so the outcome depends on
 * nothing but the text of the schedule.
 *
 * When nobody can go on and not all have ended, that is a deadlock: the fibers are given up with
 * all that they hold.
 */
#include "tests/race/lab/run.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/lib/sim.h"
#include "tests/race/lab/lab.h"
#include "tests/race/lab/point.h"
#include "tests/race/lab/points.h"

#define LANES       16
#define NOTES       64
#define CHECK_TRIES 50

struct lane {
    const char *name;
    void (*body)(struct lab *l);
    pthread_t thread;
    unsigned fiber;
    bool begun, paused, done, left_out;
    const char *until; /* the point to stop at; NULL: none */
    char at[32];
};

/* A byte that the oracle knows. */
struct note {
    uint64_t off;
    uint8_t value;
    bool foreign;
    unsigned step;   /* of the timeline */
    const char *who; /* lane */
    uint64_t epoch;  /* revalidations begun before it */
    bool gone;       /* nobody means to write it any more */
};

static struct run {
    struct lab *l;
    struct lane lane[LANES];
    unsigned nlanes;
    struct note note[NOTES];
    unsigned nnotes;
    uint64_t reval_begun, reval_done; /* how many; the last one that ended began as number ... */
    bool quiet;
    bool searched; /* under a policy, instead of a schedule */
} run;

struct lab *lab_now;

static const struct {
    const char *name;
    enum lab_column column;
    const char *text;
} points[] = {
#define X(name, column, text) {name, column, text},
    LAB_POINTS(X)
#undef X
};

const char *lab_outcome_name(enum lab_outcome o)
{
    static const char *const names[] = {"SURVIVED", "LOST", "STALE", "DEADLOCK", "FAILED"};

    return names[o];
}

void lab_outcome_text(const struct lab_result *r, char *out, size_t room)
{
    unsigned n = r->outcome == LOST ? r->lost : r->outcome == STALE ? r->stale : 0;

    if (n)
        snprintf(out, room, "%s %u", lab_outcome_name(r->outcome), n);
    else
        snprintf(out, room, "%s", lab_outcome_name(r->outcome));
}

const char *lab_column_name(enum lab_column c)
{
    static const char *const names[] = {"application", "kernel", "cache",  "revalidator",
                                        "writeback",   "server", "foreign"};

    return names[c];
}

/* ---- the timeline ---- */

static struct lane *lane_of_caller(void)
{
    unsigned id = sim_self();

    for (unsigned i = 0; i < run.nlanes && id; i++)
        if (run.lane[i].fiber == id)
            return &run.lane[i];
    return NULL;
}

static enum lab_column column_of(const char *lane)
{
    for (enum lab_column c = 0; c < COLUMNS; c++)
        if (strncmp(lane, lab_column_name(c), strlen(lab_column_name(c))) == 0)
            return c;
    return strncmp(lane, "reclaimer", 9) == 0 ? CACHE : APPLICATION;
}

/* Is the byte in a WRITE that the server has not done yet? */
static bool on_its_way(struct lab *l, const struct note *n)
{
    for (const struct fr_call *c = l->server.pending; c; c = c->next) {
        uint64_t at = c->kind == FR_WRITE ? c->write->offset : 0;

        for (int i = 0; c->kind == FR_WRITE && i < c->write->iovcnt; i++) {
            const struct iovec *v = &c->write->iov[i];

            if (n->off >= at && n->off < at + v->iov_len)
                return ((uint8_t *)v->iov_base)[n->off - at] == n->value;
            at += v->iov_len;
        }
    }
    return false;
}

/* Will the byte still come to the server: is it dirty in the kernel, not yet committed here, or
 * there already? */
static bool on_record(struct lab *l, const struct note *n)
{
    uint32_t in = n->off & PAGE_MASK;
    const struct fk_page *k = &l->k->page[n->off >> PAGE_SHIFT];
    struct page *p = mapping_find(l->k->m, n->off >> PAGE_SHIFT);

    if (k->writeback || k->locked || k->calls || l->file->data[n->off] == n->value)
        return true;
    if (k->state == FK_UPTODATE && k->dirty && k->data[in] == n->value)
        return true;
    if (p && p->frame && frame_at(l->c, p->frame)[in] == n->value) {
        const struct page_more *x = page_more(l->c, p);
        byteset sets[] = {x->dirty, x->inflight, x->unstable, x->committing};

        for (unsigned i = 0; i < sizeof sets / sizeof sets[0]; i++)
            if (byteset_contains(l->c, sets[i], in, in + 1))
                return true;
    }
    return on_its_way(l, n);
}

static void add_event(struct lab *l, enum lab_column column, bool loss, char *text);

/* The moment at which an acknowledged byte is lost. */
static void watch(struct lab *l)
{
    for (unsigned i = 0; i < run.nnotes; i++) {
        struct note *n = &run.note[i];
        char *text;

        if (n->foreign || n->gone || on_record(l, n))
            continue;
        n->gone = true;
        if (asprintf(&text,
                     "HERE page %llu byte %llu = %u is lost: nobody means to write it any "
                     "more, and the server has %u",
                     (unsigned long long)(n->off >> PAGE_SHIFT),
                     (unsigned long long)(n->off & PAGE_MASK), n->value, l->file->data[n->off]) < 0)
            abort();
        add_event(l, CACHE, true, text);
    }
}

static void add_event(struct lab *l, enum lab_column column, bool loss, char *text)
{
    struct lab_result *r = &l->result;
    struct lane *lane = lane_of_caller();
    struct lab_event *more;

    if (run.quiet && !loss) {
        free(text);
        return;
    }
    if (!run.quiet && !loss)
        watch(l);
    more = realloc(r->events, (r->nevents + 1) * sizeof *more);
    if (!more || !text)
        abort();
    r->events = more;
    r->events[r->nevents] = (struct lab_event){
        .step = r->nevents + 1,
        .column = column,
        .lane = lane && column_of(lane->name) == column ? lane->name : lab_column_name(column),
        .text = text,
        .loss = loss,
    };
    r->nevents++;
}

static char *format_text(const char *format, va_list ap)
{
    char *text = NULL;

    if (vasprintf(&text, format, ap) < 0)
        abort();
    return text;
}

void lab_say(struct lab *l, const char *format, ...)
{
    struct lane *lane = lane_of_caller();
    va_list ap;

    va_start(ap, format);
    add_event(l, lane ? column_of(lane->name) : CACHE, false, format_text(format, ap));
    va_end(ap);
}

void lab_say_in(struct lab *l, enum lab_column column, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    add_event(l, column, false, format_text(format, ap));
    va_end(ap);
}

static void verdict(struct lab *l, bool worse, const char *format, va_list ap)
{
    struct lane *lane = lane_of_caller();
    char *text = format_text(format, ap);

    if (!l->result.verdict[0] || worse) {
        free(l->result.verdict);
        l->result.verdict = strdup(text);
    }
    add_event(l, lane ? column_of(lane->name) : APPLICATION, true, text);
}

void lab_lost(struct lab *l, const char *format, ...)
{
    va_list ap;

    l->result.lost++;
    va_start(ap, format);
    verdict(l, l->result.lost == 1, format, ap);
    va_end(ap);
}

void lab_stale(struct lab *l, const char *format, ...)
{
    va_list ap;

    l->result.stale++;
    va_start(ap, format);
    verdict(l, false, format, ap);
    va_end(ap);
}

/* ---- points ---- */

void lab_point_in_run(const char *name, uint64_t page)
{
    if (!run.l)
        return;
    for (unsigned i = 0; i < sizeof points / sizeof points[0]; i++)
        if (strcmp(points[i].name, name) == 0) {
            if (page == LAB_NO_PAGE)
                lab_say_in(run.l, points[i].column, "%s", points[i].text);
            else
                lab_say_in(run.l, points[i].column, "%s (page %llu)", points[i].text,
                           (unsigned long long)page);
        }
    for (const struct lab_hook *h = run.l->protocol->hooks; h && h->point && !run.quiet; h++)
        if (strcmp(h->point, name) == 0)
            h->at(run.l, page);
    sim_edge();

    struct lane *lane = lane_of_caller();

    if (!lane || !lane->until || strcmp(lane->until, name) != 0)
        return;
    snprintf(lane->at, sizeof lane->at, "%s", name);
    lane->until = NULL;
    lane->paused = true;
    sim_pause();
}

/* ---- lanes ---- */

static void *lane_main(void *arg)
{
    struct lane *lane = arg;

    sim_name(lane->name);
    lane->fiber = sim_self();
    if (!lane->begun) {
        lane->paused = true;
        sim_pause();
    }
    if (lane->left_out)
        ;
    else if (lane->body)
        lane->body(run.l);
    else
        fr_worker_in_order(&run.l->server);
    lane->done = true;
    return NULL;
}

static struct lane *lane_add(const char *name, void (*body)(struct lab *l), bool begun)
{
    struct lane *lane = &run.lane[run.nlanes++];

    if (run.nlanes > LANES)
        abort();
    *lane = (struct lane){.name = name, .body = body, .begun = begun};
    pthread_create(&lane->thread, NULL, lane_main, lane);
    return lane;
}

static struct lane *lane_find(const char *name, size_t len)
{
    for (unsigned i = 0; i < run.nlanes; i++)
        if (strlen(run.lane[i].name) == len && memcmp(run.lane[i].name, name, len) == 0)
            return &run.lane[i];
    return NULL;
}

static void lane_go(struct lane *lane)
{
    lane->begun = true;
    lane->paused = false;
    if (lane->fiber)
        sim_resume(lane->fiber);
}

/* ---- the schedule ---- */

static struct lane *moving; /* whose line it is */

static unsigned pick(void *arg, const unsigned *ids, unsigned n, unsigned last, bool yielded)
{
    unsigned skip = yielded && n > 1 ? last : 0;

    (void)arg;
    for (unsigned i = 0; i < n; i++)
        if (moving && ids[i] == moving->fiber && ids[i] != skip)
            return i;
    for (unsigned i = 0; i < n; i++)
        if (ids[i] == last && ids[i] != skip)
            return i;
    return ids[0] == skip ? 1 : 0;
}

static bool no_preemption(void *arg, unsigned id)
{
    (void)arg;
    (void)id;
    return false;
}

static void advance(struct lane *lane)
{
    moving = lane;
    lane_go(lane);
    while (!lane->paused && !lane->done && sim_step())
        ;
    if (!lane->paused && !lane->done)
        lab_say_in(run.l, column_of(lane->name), "%s waits", lane->name);
    moving = NULL;
}

struct words {
    const char *lane, *verb, *point;
    size_t lane_len, verb_len, point_len;
};

static const char *word(const char *s, const char **at, size_t *len)
{
    while (*s == ' ' || *s == '\t')
        s++;
    *at = s;
    while (*s && *s != ' ' && *s != '\t' && *s != '\n' && *s != '#')
        s++;
    *len = (size_t)(s - *at);
    return s;
}

static bool is(const char *at, size_t len, const char *what)
{
    return strlen(what) == len && memcmp(at, what, len) == 0;
}

/* NULL, or what is wrong with the line. */
static const char *run_line(const struct words *w, char *point, size_t room)
{
    struct lane *lane = lane_find(w->lane, w->lane_len);
    bool until = is(w->verb, w->verb_len, "until"), hold = is(w->verb, w->verb_len, "hold");

    if (!lane)
        return "no such lane";
    if (is(w->verb, w->verb_len, "go") && !w->point_len) {
        lane->until = NULL;
        lane_go(lane);
        return NULL;
    }
    if (!until && !hold)
        return "not a verb: until, hold, go";
    if (!w->point_len || w->point_len >= room)
        return "a point is missing";
    memcpy(point, w->point, w->point_len);
    point[w->point_len] = '\0';
    lane->until = strcmp(point, "end") == 0 ? NULL : point;
    if (until)
        advance(lane);
    return NULL;
}

static bool names_lane(const char *schedule, const char *name)
{
    size_t n = strlen(name);

    for (const char *s = schedule; s && *s; s = strchr(s, '\n'), s += s != NULL)
        if (strncmp(s, name, n) == 0 && s[n] == ' ')
            return true;
    return false;
}

static int follow(const char *schedule, struct lab_result *result)
{
    unsigned number = 1;
    char(*names)[32] = calloc(256, sizeof *names); /* of points; lanes refer to them */
    int rc = 0;

    for (const char *s = schedule; *s && !rc && number < 256; number++) {
        struct words w;
        const char *end = word(s, &w.lane, &w.lane_len), *wrong;

        end = word(end, &w.verb, &w.verb_len);
        end = word(end, &w.point, &w.point_len);
        if (w.lane_len && (wrong = run_line(&w, names[number], sizeof names[number])) != NULL) {
            free(result->verdict);
            if (asprintf(&result->verdict, "line %u of the schedule: %s", number, wrong) < 0)
                abort();
            rc = -EINVAL;
        }
        s = strchr(end, '\n');
        if (!s)
            break;
        s++;
    }
    for (unsigned i = 0; i < run.nlanes; i++) {
        run.lane[i].until = NULL;
        run.lane[i].left_out = *schedule && !run.lane[i].begun;
    }
    free(names);
    return rc;
}

/* ---- the world ---- */

/* The last run's, if it left it clean: to make one takes ten times as long as a run. */
static struct {
    struct arena arena;
    struct arena_sizes sizes;
    bool there;
} kept_arena;

static void arena_open(struct lab *l, const struct arena_sizes *sizes)
{
    if (kept_arena.there && memcmp(&kept_arena.sizes, sizes, sizeof *sizes) == 0) {
        l->arena = kept_arena.arena;
    } else {
        if (kept_arena.there)
            arena_close(&kept_arena.arena);
        if (arena_create(&l->arena, sizes) != 0)
            abort();
        kept_arena.sizes = *sizes;
    }
    kept_arena.there = false;
}

static void arena_keep(struct lab *l)
{
    kept_arena.arena = l->arena;
    kept_arena.there = true;
}

static void world_begin(struct lab *l)
{
    const struct lab_world *w = &l->entry->world;
    uint32_t pages = w->pages ? w->pages : 2;
    uint64_t size = w->size ? w->size : (uint64_t)pages * PAGE_SIZE;
    struct cache_config config = {
        .size = (uint64_t)(w->frames ? w->frames : 256) * (PAGE_SIZE + 96),
        .dirty_limit = 128 * PAGE_SIZE,
        .dirty_background = 128 * PAGE_SIZE,
        .dirty_expire_ns = 3600ull * 1000000000,
        .rsize = w->rsize ? w->rsize : 64 << 10,
        .wsize = w->wsize ? w->wsize : 64 << 10,
        .readahead = w->readahead,
        .stable_writes = w->stable_writes,
        .wcc = w->wcc,
    };
    struct arena_sizes sizes = {.inodes = 8, .files = 1, .creds = 8, .intents = 1};

    cache_arena_sizes(&config, &sizes);
    arena_open(l, &sizes);
    fr_server_init(&l->server);
    l->server.atomic_pre = !w->no_pre;
    l->file = fr_file_new(&l->server, size, (uint64_t)(pages + 2) * PAGE_SIZE);
    memset(l->file->data, 1, size);
    memset(l->file->stable, 1, size);
    l->c = cache_new(&config, &l->arena, NULL, &fr_ops, &fk_ops, NULL);
    if (!l->c)
        abort();
    l->k = fk_new(l->c, 1, l->file, pages + 2);
    l->k->read_pages = w->kernel_reads;
    l->k->temporary_pages = w->temporary_pages;
    if (!w->read_only)
        mapping_writer_add(l->k->m);
}

static void world_end(struct lab *l)
{
    if (!l->entry->world.read_only) {
        fk_write_and_wait(l->k);
        mapping_writer_remove(l->k->m);
    }
    while (fr_pending(&l->server))
        sim_yield();
    fr_stop(&l->server);
    for (unsigned i = 0; i < run.nlanes; i++)
        if (!run.lane[i].body)
            pthread_join(run.lane[i].thread, NULL);
    fk_free(l->k);
    cache_free(l->c);
    fr_server_free(&l->server);
    fr_file_free(l->file);
    arena_keep(l);
}

/* ---- what lanes do ---- */

static void note(struct lab *l, uint64_t off, uint8_t value, bool foreign)
{
    struct lane *lane = lane_of_caller();
    struct note *n = NULL;

    sim_atomic(&run.nnotes); /* the oracle is part of the state */
    for (unsigned i = 0; i < run.nnotes; i++)
        if (run.note[i].off == off)
            n = &run.note[i];
    if (!n && run.nnotes == NOTES)
        abort();
    if (!n)
        n = &run.note[run.nnotes++];
    *n = (struct note){.off = off,
                       .value = value,
                       .foreign = foreign,
                       .step = l->result.nevents,
                       .who = lane ? lane->name : "setup",
                       .epoch = run.reval_begun};
}

#define PAGE_OF(off) ((unsigned long long)((off) >> PAGE_SHIFT))
#define BYTE_OF(off) ((unsigned long long)((off)&PAGE_MASK))

static void describe(const struct note *n, char *out, size_t room)
{
    char when[32] = "before the first step";

    if (n->step)
        snprintf(when, sizeof when, "at step %u", n->step);
    snprintf(out, room, "page %llu byte %llu: the %u that %s %s %s", PAGE_OF(n->off),
             BYTE_OF(n->off), n->value, n->foreign ? "another client" : n->who,
             n->foreign ? "wrote" : "stored", when);
}

void lab_store(struct lab *l, uint64_t off, uint8_t value)
{
    int rc = fk_store(l->k, off, value);

    lab_say(l, "mapped store: page %llu byte %llu = %u%s", PAGE_OF(off), BYTE_OF(off), value,
            rc ? ": SIGBUS" : "");
    if (!rc)
        note(l, off, value, false);
}

uint8_t lab_load(struct lab *l, uint64_t off)
{
    uint64_t done = run.reval_done;
    uint8_t value = 0;
    int rc = fk_load(l->k, off, &value);
    char what[128];

    lab_say(l, "load: page %llu byte %llu is %u%s", PAGE_OF(off), BYTE_OF(off), value,
            rc ? ": SIGBUS" : "");
    for (unsigned i = 0; i < run.nnotes && !rc; i++) {
        const struct note *n = &run.note[i];

        if (n->off != off || n->value == value || (n->foreign && n->epoch >= done))
            continue;
        describe(n, what, sizeof what);
        lab_stale(l, "%s is not seen: a load finds %u%s", what, value,
                  n->foreign ? ", after a revalidation that began later" : "");
    }
    return value;
}

void lab_expect(struct lab *l, uint64_t off, uint8_t value)
{
    note(l, off, value, false);
}

void lab_write(struct lab *l, uint64_t off, uint8_t value, uint32_t len)
{
    uint8_t *data = malloc(len);

    if (!data)
        abort();
    memset(data, value, len);
    fk_write(l->k, off, data, len);
    free(data);
    lab_say(l, "write(2) returns: page %llu byte %llu + %u = %u", PAGE_OF(off), BYTE_OF(off), len,
            value);
    note(l, off, value, false);
    if (len > 1)
        note(l, off + len - 1, value, false);
}

void lab_direct_write(struct lab *l, uint64_t off, uint8_t value, uint32_t len)
{
    uint8_t *data = malloc(len);

    if (!data)
        abort();
    memset(data, value, len);
    fk_direct_write(l->k, off, data, len);
    free(data);
    lab_say(l, "O_DIRECT write returns: page %llu byte %llu + %u = %u", PAGE_OF(off), BYTE_OF(off),
            len, value);
    note(l, off, value, false);
    if (len > 1)
        note(l, off + len - 1, value, false);
}

int lab_fsync(struct lab *l)
{
    int rc = fk_fsync(l->k);

    lab_say(l, rc ? "fsync fails: %s" : "fsync returns: the bytes are safe%s",
            rc ? strerror(-rc) : "");
    return rc;
}

void lab_writeback(struct lab *l, uint32_t page)
{
    fk_writeback(l->k, page);
    lab_say_in(l, KERNEL, "has written page %u back: it is dirty in the daemon now", page);
}

void lab_reclaim(struct lab *l, uint32_t page)
{
    if (fk_reclaim(l->k, page))
        lab_say_in(l, KERNEL, "reclaims page %u", page);
}

/* Close-to-open: what was stored before the revalidation began is at the server when it ends. */
static void check_published(struct lab *l, uint64_t began)
{
    char what[128];

    for (unsigned i = 0; i < run.nnotes; i++) {
        const struct note *n = &run.note[i];

        if (n->foreign || n->epoch >= began || n->gone || l->file->data[n->off] == n->value)
            continue;
        describe(n, what, sizeof what);
        lab_stale(l, "%s is not at the server after the revalidation: it has %u", what,
                  l->file->data[n->off]);
    }
}

void lab_revalidate(struct lab *l)
{
    uint64_t mine;

    sim_atomic(&run.nnotes);
    mine = ++run.reval_begun;
    mapping_revalidate(l->k->m, NULL, false, NULL);
    sim_atomic(&run.nnotes);
    if (mine > run.reval_done)
        run.reval_done = mine;
    lab_say(l, "the revalidation returns");
    check_published(l, mine);
}

void lab_foreign(struct lab *l, uint64_t off, uint8_t value)
{
    fr_write(l->file, off, &value, 1);
    lab_say_in(l, FOREIGN, "another client writes: page %llu byte %llu = %u", PAGE_OF(off),
               BYTE_OF(off), value);
    note(l, off, value, true);
}

void lab_reboot(struct lab *l)
{
    fr_reboot_file(l->file);
    lab_say_in(l, SERVER, "reboots: what was not committed is gone");
}

void lab_forget(struct lab *l, uint64_t from)
{
    (void)l;
    for (unsigned i = 0; i < run.nnotes; i++)
        if (run.note[i].off >= from)
            run.note[i--] = run.note[--run.nnotes];
}

/* ---- the oracle ---- */

/* What a load finds is looked at first, before the fsync makes anything better. What the server has
 * nevertheless is stale here, and not lost. */
void lab_check_bytes(struct lab *l)
{
    uint8_t seen[NOTES];
    bool bad[NOTES] = {0};
    char what[128];
    int rc = -1;

    for (unsigned i = 0; i < run.nnotes; i++) {
        const struct note *n = &run.note[i];

        seen[i] = 0;
        bad[i] = (!n->foreign || n->epoch < run.reval_done) &&
                 (fk_load(l->k, n->off, &seen[i]) != 0 || seen[i] != n->value);
    }
    for (int i = 0; rc && i < CHECK_TRIES; i++)
        rc = fk_fsync(l->k);
    for (unsigned i = 0; i < run.nnotes; i++) {
        const struct note *n = &run.note[i];
        uint8_t kept = l->file->stable[n->off];

        describe(n, what, sizeof what);
        if (kept != n->value)
            lab_lost(l, "%s is gone: the file reads %u here, and after an fsync the server has %u",
                     what, bad[i] ? seen[i] : n->value, kept);
        else if (bad[i] && n->foreign)
            lab_stale(l, "%s is not seen after a revalidation that began later: the file reads %u",
                      what, seen[i]);
        else if (bad[i])
            lab_stale(l, "%s is not seen: the file reads %u here, and the server has it", what,
                      seen[i]);
    }
}

/* ---- a run ---- */

static void check_body(struct lab *l)
{
    if (l->entry->check)
        l->entry->check(l);
    else
        lab_check_bytes(l);
    run.quiet = true;
    lab_faults = 0;
    world_end(l);
}

static bool all_done(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < run.nlanes; i++)
        if (run.lane[i].body && !run.lane[i].done)
            return false;
    return true;
}

static void setup_body(struct lab *l)
{
    world_begin(l);
    lane_add("server", NULL, true);
    if (!run.searched || l->entry->world.servers > 1)
        lane_add("server2", NULL, true);
    if (l->entry->setup)
        l->entry->setup(l);
}

/* Runs `body` as a fiber, to its end. False: deadlock. */
static bool run_alone(const char *name, void (*body)(struct lab *l))
{
    struct lane *lane = lane_add(name, body, true);

    moving = lane;

    bool done = sim_until(all_done, NULL);

    moving = NULL;
    lane->fiber = 0;
    return done;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const char *schedule_of(const struct lab_entry *e, const struct lab_protocol *p)
{
    return p->schedule ? p->schedule : e->schedule;
}

/* Lanes that the protocol's schedule has no line for take no part in the search either. */
static void leave_out(const char *schedule)
{
    for (unsigned i = 0; i < run.nlanes; i++)
        run.lane[i].left_out = run.lane[i].body && !names_lane(schedule, run.lane[i].name);
}

/* The verdict of a deadlock: who waits. */
static void name_stuck(struct lab *l)
{
    char who[256] = "";

    for (unsigned i = 0; i < run.nlanes; i++)
        if (run.lane[i].body && !run.lane[i].done) {
            size_t n = strlen(who);

            snprintf(who + n, sizeof who - n, "%s%s", n ? ", " : "", run.lane[i].name);
        }
    free(l->result.verdict);
    if (asprintf(&l->result.verdict, "nobody can go on: %s", who) < 0)
        abort();
}

/* `schedule` or `policy`. */
static int run_lanes(const struct lab_entry *e, const struct lab_protocol *p, const char *schedule,
                     const struct sim_policy *policy, struct lab_result *result)
{
    static const struct sim_policy scripted = {.pick = pick, .preempt = no_preemption};
    struct lab *l = calloc(1, sizeof *l);
    double began = now();
    int rc = 0;

    if (!l)
        abort();
    l->entry = e;
    l->protocol = p;
    l->result.verdict = strdup("");
    run = (struct run){.l = l, .quiet = true, .searched = policy != NULL};
    lab_now = l;
    lab_faults = 0;
    sim_begin(1, 0);
    sim_set_policy(&scripted);

    bool ok = run_alone("setup", setup_body);

    run.quiet = false;
    lab_faults = p->faults;
    for (const struct lab_lane *lane = e->lanes; ok && lane->name; lane++)
        lane_add(lane->name, lane->body, false);
    sim_settle();
    if (ok && schedule)
        rc = follow(schedule, &l->result);
    else
        leave_out(schedule_of(e, p));
    if (policy)
        sim_set_policy(policy);
    for (unsigned i = 0; i < run.nlanes; i++)
        lane_go(&run.lane[i]);
    ok = ok && sim_until(all_done, NULL);
    sim_set_policy(&scripted);
    ok = ok && run_alone("check", check_body);
    if (!ok)
        name_stuck(l);
    l->result.steps = sim_steps();
    l->result.outcome = rc                ? FAILED
                        : !ok             ? DEADLOCK
                        : l->result.lost  ? LOST
                        : l->result.stale ? STALE
                                          : SURVIVED;
    run.l = NULL;
    lab_now = NULL;
    lab_faults = 0;
    if (ok)
        sim_end();
    else
        sim_abandon();
    if (!ok) /* given up with all that they hold, but for the memory */
        arena_close(&l->arena);
    l->result.seconds = now() - began;
    *result = l->result;
    free(l);
    return rc;
}

int lab_run_on_cache(const struct lab_entry *e, const struct lab_protocol *p, const char *schedule,
                     struct lab_result *result)
{
    return run_lanes(e, p, schedule ? schedule : schedule_of(e, p), NULL, result);
}

void lab_run_under(const struct lab_entry *e, const struct lab_protocol *p,
                   const struct sim_policy *policy, struct lab_result *result)
{
    run_lanes(e, p, NULL, policy, result);
}

bool lab_fiber_is_lane(unsigned id)
{
    for (unsigned i = 0; i < run.nlanes; i++)
        if (run.lane[i].fiber == id)
            return true;
    return false;
}

const char *lab_fiber_name(unsigned id)
{
    for (unsigned i = 0; i < run.nlanes; i++)
        if (run.lane[i].fiber == id)
            return run.lane[i].name;
    return "helper";
}

unsigned lab_fiber_of(const char *name)
{
    struct lane *lane = lane_find(name, strlen(name));

    return lane ? lane->fiber : 0;
}

void lab_result_free(struct lab_result *r)
{
    for (unsigned i = 0; i < r->nevents; i++)
        free(r->events[i].text);
    free(r->events);
    free(r->verdict);
}
