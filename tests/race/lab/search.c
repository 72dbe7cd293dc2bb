// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached-race search`: looks for the interleaving that fails.
 *
 * Nobody holds a point here. Each run of the entry's lanes is one interleaving of the real cache/
 * code; before every lock (and every atomic and named point, with --fine) somebody else may go on:
 * what lies between two locks and touches nothing shared is the same to all others. The cache's own
 * helper threads have nothing to do in these worlds, and run when nobody else can.
 *
 * Systematic (CHESS: Musuvathi et al., "Finding and Reproducing Heisenbugs in Concurrent Programs",
 * OSDI 2008): all interleavings with at most 0, then 1, then 2 preemptions, depth first, each from
 * the beginning. A switch costs one when the running lane could have gone on, and when a server
 * could answer and is made to be slow (once, until it goes on); else, when who ran waits or has
 * ended, whoever can go on may be next at no cost. A prefix that has done the same to every lock,
 * condition and atomic as one before (sim_hash()), and has no more preemptions left, is not
 * continued: it is in the same state. So "exhausted" means: no interleaving within the bound fails.
 *
 * Random (PCT: Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding
 * Bugs", ASPLOS 2010): lanes have random priorities, and at d - 1 random places the one that runs
 * falls below all others. A bug that needs d ordered events is found by one run with a probability
 * of 1 / (n k^(d-1)) at least.
 *
 * What fails is run again with every switch away from the default taken out that it can do without,
 * and shown.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/sim.h"
#include "tests/race/lab/run.h"
#include "tests/race/lab/timeline.h"
#include "tests/race/lab/verbs.h"

#define OPTIONS 16
#define FIBERS  128

/* A place where more than one could go on. */
struct node {
    uint8_t n, at; /* options, and the one that is taken */
    uint8_t cost[OPTIONS];
    unsigned id[OPTIONS]; /* the first is the default */
};

/* Who goes on at a place, if not the default. */
struct turn {
    unsigned place; /* counted from 0 */
    unsigned id;
};

struct seen {
    uint64_t key;
    uint8_t used, there;
};

struct search {
    const struct lab_entry *entry;
    const struct lab_protocol *protocol;
    int bound;
    /* the run under way */
    unsigned place;
    uint8_t used;
    bool closed;   /* nothing new from here on */
    uint64_t slow; /* servers that were made to wait: a mask of their numbers */
    bool yielded;  /* who ran last gave way by itself ... */
    bool stayed;   /* ... or did so before, and went on nevertheless */
    bool fine;     /* atomics and points, too */
    struct turn *turns;
    unsigned nturns, cap_turns;
    /* depth first */
    struct node *nodes;
    unsigned nnodes, cap;
    struct seen *seen;
    uint64_t nseen, room;
    /* random */
    bool random;
    uint64_t priority[FIBERS];
    unsigned change[8], nchange, length;
    uint64_t low;
    /* replay */
    const struct turn *replay;
    unsigned nreplay;
    /* figures */
    uint64_t runs, pruned, places;
    struct timespec began;
};

static double seconds_of(const struct search *s)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)(t.tv_sec - s->began.tv_sec) + (double)(t.tv_nsec - s->began.tv_nsec) / 1e9;
}

static void *grow(void *array, unsigned *cap, unsigned need, size_t size)
{
    if (need <= *cap)
        return array;
    *cap = *cap ? *cap * 2 : 256;
    array = realloc(array, *cap * size);
    if (!array)
        abort();
    return array;
}

/* ---- states that were there before ---- */

static struct seen *seen_slot(struct seen *table, uint64_t room, uint64_t key)
{
    uint64_t i = key & (room - 1);

    while (table[i].there && table[i].key != key)
        i = (i + 1) & (room - 1);
    return &table[i];
}

static void seen_grow(struct search *s)
{
    uint64_t room = s->room ? s->room * 2 : 1 << 16;
    struct seen *table = calloc(room, sizeof *table);

    if (!table)
        abort();
    for (uint64_t i = 0; i < s->room; i++)
        if (s->seen[i].there)
            *seen_slot(table, room, s->seen[i].key) = s->seen[i];
    free(s->seen);
    s->seen = table;
    s->room = room;
}

/* True: it was, with as many preemptions left or more. */
static bool seen_before(struct search *s, uint64_t key)
{
    if (s->nseen * 2 >= s->room)
        seen_grow(s);

    struct seen *e = seen_slot(s->seen, s->room, key);

    if (e->there && e->used <= s->used)
        return true;
    s->nseen += !e->there;
    *e = (struct seen){key, s->used, 1};
    return false;
}

static void seen_forget(struct search *s)
{
    free(s->seen);
    s->seen = NULL;
    s->nseen = s->room = 0;
}

/* ---- who goes on ---- */

static unsigned index_of(const unsigned *ids, unsigned n, unsigned id)
{
    unsigned i = 0;

    while (i < n && ids[i] != id)
        i++;
    return i;
}

static bool is_server(unsigned id)
{
    return strncmp(lab_fiber_name(id), "server", 6) == 0;
}

/* `id` goes on where the default is `def`. */
static void took(struct search *s, unsigned def, unsigned id)
{
    if (is_server(def))
        s->slow |= UINT64_C(1) << def % 64;
    s->slow &= ~(UINT64_C(1) << id % 64);
    if (id == def)
        return;
    s->turns = grow(s->turns, &s->cap_turns, s->nturns + 1, sizeof *s->turns);
    s->turns[s->nturns++] = (struct turn){s->place, id};
}

/* The default: whoever ran and did not yield, or else a server that has something to do and is not
 * slow, or else the first. */
static unsigned usual(const struct search *s, const unsigned *ids, unsigned n, unsigned last)
{
    unsigned i = index_of(ids, n, last);

    if (i < n && !s->yielded)
        return i;
    for (unsigned k = 0; k < n; k++)
        if (k != i && is_server(ids[k]) && !(s->slow >> ids[k] % 64 & 1))
            return k;
    for (unsigned k = 0; k < n; k++)
        if (k != i && !is_server(ids[k]))
            return k;
    return i == 0 ? 1 : 0;
}

/* Who yields may go on at no cost, once: it may be polling for what others do. */
static uint8_t price(const struct search *s, unsigned id, unsigned last, uint8_t cost)
{
    return s->yielded && id == last ? s->stayed : cost;
}

static unsigned pick_next(struct search *s, const unsigned *ids, unsigned n, unsigned last)
{
    unsigned def = usual(s, ids, n, last);
    bool prompt = is_server(ids[def]) && !(s->slow >> ids[def] % 64 & 1);
    uint8_t cost = prompt || (index_of(ids, n, last) < n && !s->yielded);
    struct node *node;

    if (s->place >= s->nnodes) {
        if (s->closed)
            return def;
        uint64_t key = (sim_hash() ^ last * 0x9e3779b97f4a7c15ull) + s->slow + s->stayed;

        for (unsigned i = 0; i < n; i++) /* who waits for what is not in the hash */
            key = (key ^ ids[i]) * 0xbf58476d1ce4e5b9ull;
        if (seen_before(s, key)) {
            s->closed = true;
            s->pruned++;
            return def;
        }
        s->nodes = grow(s->nodes, &s->cap, s->nnodes + 1, sizeof *s->nodes);
        node = &s->nodes[s->nnodes++];
        *node = (struct node){.n = 1, .id = {ids[def]}};
        for (unsigned i = 0; i < n && node->n < OPTIONS; i++)
            if (i != def && s->used + price(s, ids[i], last, cost) <= s->bound) {
                node->cost[node->n] = price(s, ids[i], last, cost);
                node->id[node->n++] = ids[i];
            }
    }
    node = &s->nodes[s->place];
    s->used += node->cost[node->at];
    took(s, ids[def], node->id[node->at]);

    unsigned i = index_of(ids, n, node->id[node->at]);

    if (i == n) {
        fprintf(stderr, "nfscached-race search: the same prefix went another way\n");
        abort();
    }
    return i;
}

static unsigned pick_random(struct search *s, const unsigned *ids, unsigned n, unsigned last)
{
    unsigned best = n;

    for (unsigned i = 0; i < s->nchange; i++)
        if (s->change[i] == s->place && last < FIBERS)
            s->priority[last] = --s->low;
    for (unsigned i = 0; i < n; i++) {
        uint64_t *p = &s->priority[ids[i] % FIBERS];

        if (!*p)
            *p = sim_random() | UINT64_C(1) << 63;
        if (s->yielded && ids[i] == last)
            continue;
        if (best == n || *p > s->priority[ids[best] % FIBERS])
            best = i;
    }
    took(s, ids[usual(s, ids, n, last)], ids[best]);
    return best;
}

static unsigned pick_again(struct search *s, const unsigned *ids, unsigned n, unsigned last)
{
    for (unsigned i = 0; i < s->nreplay; i++)
        if (s->replay[i].place == s->place) {
            unsigned at = index_of(ids, n, s->replay[i].id);

            if (at < n) {
                took(s, ids[usual(s, ids, n, last)], ids[at]);
                return at;
            }
        }
    unsigned at = usual(s, ids, n, last);

    took(s, ids[at], ids[at]);
    return at;
}

static unsigned pick(void *arg, const unsigned *ids, unsigned n, unsigned last, bool yielded)
{
    struct search *s = arg;
    unsigned lanes[FIBERS], nlanes = 0, i;

    s->yielded = yielded;

    /* The cache's helper threads have no part in it: they run when nobody else can. */
    for (i = 0; i < n; i++)
        if (lab_fiber_is_lane(ids[i]))
            lanes[nlanes++] = ids[i];
    if (nlanes == 0)
        return 0;
    if (nlanes == 1 && yielded && lanes[0] == last && n > 1)
        return index_of(ids, n, last) == 0; /* it polls for what a helper thread does */
    if (nlanes == 1)
        return index_of(ids, n, lanes[0]);
    i = s->replay   ? pick_again(s, lanes, nlanes, last)
        : s->random ? pick_random(s, lanes, nlanes, last)
                    : pick_next(s, lanes, nlanes, last);
    s->stayed = lanes[i] == last && (s->stayed || yielded);
    s->place++;
    return index_of(ids, n, lanes[i]);
}

static bool everywhere(void *arg, unsigned id)
{
    (void)arg;
    (void)id;
    return true;
}

static void run_once(struct search *s, struct lab_result *r)
{
    struct sim_policy policy = {.pick = pick, .preempt = everywhere, .fine = s->fine, .arg = s};

    s->place = 0;
    s->used = 0;
    s->closed = false;
    s->slow = 0;
    s->stayed = false;
    s->nturns = 0;
    lab_run_under(s->entry, s->protocol, &policy, r);
    s->runs++;
    s->places += s->place;
    if (s->place > s->length)
        s->length = s->place;
}

/* ---- what fails ---- */

static void replay(struct search *s, const struct turn *turns, unsigned n, struct lab_result *r)
{
    static const struct turn none;

    s->replay = turns ? turns : &none;
    s->nreplay = n;
    run_once(s, r);
    s->replay = NULL;
}

/* Takes out, one by one, the turns that the failure does not need. The result is that of the
 * shortest. */
static void shorten(struct search *s, struct turn **turns, unsigned *n, enum lab_outcome wanted,
                    struct lab_result *r)
{
    struct turn *best = malloc((*n + 1) * sizeof *best);

    if (!best)
        abort();
    memcpy(best, *turns, *n * sizeof *best);
    for (unsigned i = 0; i < *n;) {
        struct turn gone = best[i];
        struct lab_result again;

        memmove(best + i, best + i + 1, (*n - i - 1) * sizeof *best);
        replay(s, best, *n - 1, &again);
        if (again.outcome == wanted) {
            --*n;
        } else {
            memmove(best + i + 1, best + i, (*n - i - 1) * sizeof *best);
            best[i++] = gone;
        }
        lab_result_free(&again);
    }
    lab_result_free(r);
    replay(s, best, *n, r);
    *turns = best;
}

/* ---- the two ways ---- */

struct limits {
    int preemptions, depth, seed;
    double seconds;
    uint64_t runs; /* random: at most */
    bool progress;
};

static void show_progress(const struct search *s, const struct limits *l)
{
    if (l->progress && s->runs % 5000 == 0)
        fprintf(stderr, "\r%s, %s: %llu schedules, %llu states, %d preemptions, %.0f s ",
                s->entry->name, s->protocol->name, (unsigned long long)s->runs,
                (unsigned long long)s->nseen, s->bound, seconds_of(s));
}

static bool next_branch(struct search *s)
{
    while (s->nnodes) {
        struct node *last = &s->nodes[s->nnodes - 1];

        if (++last->at < last->n)
            return true;
        s->nnodes--;
    }
    return false;
}

enum ending { FOUND, EXHAUSTED, OUT_OF_TIME };

static enum ending search_all(struct search *s, const struct limits *l, struct lab_result *r)
{
    for (s->bound = 0; s->bound <= l->preemptions; s->bound++) {
        s->nnodes = 0;
        seen_forget(s);
        do {
            run_once(s, r);
            if (r->outcome != SURVIVED)
                return FOUND;
            lab_result_free(r);
            show_progress(s, l);
            if (seconds_of(s) > l->seconds)
                return OUT_OF_TIME;
        } while (next_branch(s));
    }
    s->bound = l->preemptions;
    return EXHAUSTED;
}

static enum ending search_random(struct search *s, const struct limits *l, struct lab_result *r)
{
    uint64_t state = (uint64_t)l->seed;

    s->random = true;
    for (uint64_t i = 0; i < l->runs; i++) {
        memset(s->priority, 0, sizeof s->priority);
        sim_random_seed(state += 0x9e3779b97f4a7c15ull);
        s->low = UINT64_C(1) << 62;
        s->nchange = (unsigned)l->depth - 1;
        for (unsigned k = 0; k < s->nchange; k++)
            s->change[k] = s->length ? sim_below(s->length) : 0;
        run_once(s, r);
        if (r->outcome != SURVIVED) {
            s->random = false;
            return FOUND;
        }
        lab_result_free(r);
        show_progress(s, l);
        if (seconds_of(s) > l->seconds)
            break;
    }
    s->random = false;
    return OUT_OF_TIME;
}

/* ---- the command ---- */

struct options {
    struct limits limits;
    int json, random, quiet, fine;
    char *protocol, *timeline;
};

static void print_turns(const struct turn *t, unsigned n)
{
    printf("The shortest that was found differs from everybody running to the end in turn by %u "
           "switch%s:\n",
           n, n == 1 ? "" : "es");
    for (unsigned i = 0; i < n; i++)
        printf("    at place %u: %s goes on\n", t[i].place, lab_fiber_name(t[i].id));
}

static json_t *turns_json(const struct turn *t, unsigned n)
{
    json_t *a = json_array();

    for (unsigned i = 0; i < n; i++)
        json_array_append_new(
            a, json_pack("{s:i, s:s}", "place", (int)t[i].place, "lane", lab_fiber_name(t[i].id)));
    return a;
}

/* The exit status: of a protocol that is expected to survive it must have been shown that nothing
 * fails, of one that is not something must have been found. */
static int search_one(const struct lab_entry *e, const struct lab_protocol *p,
                      const struct options *o, json_t *out)
{
    static const char *const endings[] = {"found", "exhausted", "not exhausted"};
    struct search s = {.entry = e, .protocol = p, .fine = o->fine};
    struct lab_result r = {0};
    struct turn *turns = NULL;
    unsigned nturns = 0;
    enum lab_outcome wanted = p->found ? p->found : p->on_cache;
    enum ending how;
    double seconds;

    clock_gettime(CLOCK_MONOTONIC, &s.began);
    how = o->random ? search_random(&s, &o->limits, &r) : search_all(&s, &o->limits, &r);
    seconds = seconds_of(&s);
    if (o->limits.progress)
        fprintf(stderr, "\r%78s\r", "");

    uint64_t runs = s.runs;

    if (how == FOUND) {
        turns = s.turns;
        nturns = s.nturns;
        shorten(&s, &turns, &nturns, r.outcome, &r);
    }

    /* One with a known weakness survives its schedule, and no more than that is said of it. */
    bool good = p->on_cache == SURVIVED
                    ? p->weakness || (how != FOUND && (o->random || how == EXHAUSTED))
                    : how == FOUND && r.outcome == wanted;

    if (out) {
        json_array_append_new(
            out, json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:i, s:f, s:b, s:o}", "entry",
                           e->name, "protocol", p->name, "expected", lab_outcome_name(wanted),
                           "ending", endings[how], "seen", lab_outcome_name(r.outcome), "schedules",
                           (json_int_t)runs, "pruned", (json_int_t)s.pruned, "preemptions",
                           o->random ? -1 : s.bound, "seconds", seconds, "good", (int)good,
                           "switches", turns_json(turns, nturns)));
    } else {
        printf("%-16s %-20s %-9s %-13s %9llu schedules, %llu pruned, ", e->name, p->name,
               how == FOUND ? lab_outcome_name(r.outcome) : "-", endings[how],
               (unsigned long long)runs, (unsigned long long)s.pruned);
        if (o->random)
            printf("depth %d, seed %d, ", o->limits.depth, o->limits.seed);
        else
            printf("%d preemptions, ", s.bound);
        printf("places %u, %.2f s%s\n", s.length, seconds, good ? "" : "  <-- NOT AS EXPECTED");
        if (how == FOUND && !o->quiet) {
            print_turns(turns, nturns);
            timeline_text(stdout, &r, race_width());
            printf("%s: %s\n\n", lab_outcome_name(r.outcome), r.verdict);
        }
        fflush(stdout);
    }
    if (how == FOUND && o->timeline) {
        int rc = timeline_svg(o->timeline, e, p, "cache", &r);

        if (rc)
            race_fail(0, "%s: %s", o->timeline, strerror(-rc));
    }
    if (how == FOUND) {
        lab_result_free(&r);
        free(turns);
    }
    free(s.turns);
    free(s.nodes);
    free(s.seen);
    return good ? EXPECTED : UNEXPECTED;
}

struct tally {
    unsigned good, bad;
};

static void search_entry(const struct lab_entry *e, const struct options *o, json_t *out,
                         struct tally *t)
{
    for (const struct lab_protocol *p = e->protocols; p->name; p++) {
        if ((o->protocol && strcmp(o->protocol, p->name) != 0) || p->not_on_cache)
            continue;
        if (search_one(e, p, o, out) == EXPECTED)
            t->good++;
        else
            t->bad++;
    }
}

/* NULL at the first name that is wrong, and that was said. */
static const struct lab_entry *searchable(const char *name, const struct options *o)
{
    const struct lab_entry *e = race_entry(name);

    if (!e || (o->protocol && !race_protocol(e, o->protocol)))
        return NULL;
    if (!e->lanes) {
        race_fail(0, "%s needs the real kernel: nothing to search", name);
        return NULL;
    }
    return e;
}

static int search_names(const char **names, const struct options *o)
{
    json_t *out = o->json ? json_array() : NULL;
    struct tally t = {0};

    for (const char **name = names; *name; name++)
        if (!searchable(*name, o))
            return USAGE;
    for (const char **name = names; *name; name++)
        search_entry(searchable(*name, o), o, out, &t);
    if (out) {
        json_dumpf(out, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(out);
    } else {
        printf("%u passed, %u failed\n", t.good, t.bad);
    }
    return t.bad ? UNEXPECTED : EXPECTED;
}

static int checked(const struct options *o, double seconds)
{
    if (o->limits.preemptions < 0)
        return race_fail(USAGE, "--preemptions=%d: expected 0 or more", o->limits.preemptions);
    if (o->limits.depth < 1 || o->limits.depth > 8)
        return race_fail(USAGE, "--depth=%d: expected 1 to 8", o->limits.depth);
    if (seconds <= 0)
        return race_fail(USAGE, "--seconds=%g: expected a time above 0", seconds);
    return EXPECTED;
}

int race_search(int argc, const char **argv)
{
    struct options o = {.limits = {.preemptions = 2, .depth = 3, .seed = 1, .seconds = 60}};
    int runs = 100000;
    const struct poptOption table[] = {
        {"protocol", 'p', POPT_ARG_STRING, &o.protocol, 0, "one of its protocols (all)", "NAME"},
        {"preemptions", 'n', POPT_ARG_INT, &o.limits.preemptions, 0,
         "at most so many switches away from one who could go on (2)", "N"},
        {"fine", 'f', POPT_ARG_NONE, &o.fine, 0,
         "switch before atomics and points, too, and not only before locks", NULL},
        {"random", 'r', POPT_ARG_NONE, &o.random, 0, "random priorities instead", NULL},
        {"depth", 'd', POPT_ARG_INT, &o.limits.depth, 0, "random: of the bug (3)", "N"},
        {"runs", 0, POPT_ARG_INT, &runs, 0, "random: at most (100000)", "N"},
        {"seed", 's', POPT_ARG_INT, &o.limits.seed, 0, "random: seed (1)", "N"},
        {"seconds", 0, POPT_ARG_DOUBLE, &o.limits.seconds, 0, "at most, for a protocol (60)", "N"},
        {"timeline", 't', POPT_ARG_STRING, &o.timeline, 0, "draw what fails", "FILE.svg"},
        {"quiet", 'q', POPT_ARG_NONE, &o.quiet, 0, "no timeline", NULL},
        {"json", 'j', POPT_ARG_NONE, &o.json, 0, "as JSON", NULL},
        POPT_AUTOHELP POPT_TABLEEND};
    poptContext context = race_options(argc, argv, table, "NAME...");
    const char **names = context ? poptGetArgs(context) : NULL;
    int status = context ? checked(&o, o.limits.seconds) : USAGE;

    o.limits.runs = (uint64_t)(runs > 0 ? runs : 1);
    o.limits.progress = isatty(2) && !o.quiet;
    if (status == EXPECTED && (!names || !*names))
        status = race_fail(USAGE, "which race? `nfscached-race list` names them");
    if (status == EXPECTED)
        status = search_names(names, &o);
    if (context)
        poptFreeContext(context);
    free(o.protocol);
    free(o.timeline);
    return status;
}
