// SPDX-License-Identifier: Apache-2.0
/*
 * The checker of the mmap oracle. A round: note what the foreign client has acknowledged, force a
 * revalidation (a new open, a command, or nothing but waiting longer than the attribute timeout),
 * then look at every foreign word through memory or by pread: none may be older than the note.
 *
 * Every `freeze_every` rounds all writers are silenced, everything is flushed and revalidated, and
 * the whole file is compared three ways: what was acknowledged, what the mount shows through memory
 * and by pread, and what the server has.
 */
#include "tests/mount/oracle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TORN_TRIES 100 /* looks at a word that is written all the time */

enum force { BY_OPEN, BY_COMMAND, BY_WAITING };

struct check {
    struct oracle *o;
    struct rng rng;
    int slot, fd, nslots;
    size_t len;
    const char *map;
    char *view, *server;
    uint64_t *note;
    int *suspects;
};

static void fatal_unless(bool ok, const char *what)
{
    if (!ok)
        t_die("checker: %s", what);
}

static void force(struct check *c, enum force how)
{
    struct oracle *o = c->o;
    if (how == BY_OPEN) {
        int fd = open(t_path(o->mount, o->name), O_RDONLY);
        fatal_unless(fd >= 0, "open");
        close(fd);
        o->n_open++;
    } else if (how == BY_COMMAND) {
        if (t_run(o->reval_cmd))
            o->errors++;
        o->n_cmd++;
    } else {
        double until = t_now() + o->timeout_s;
        while (t_now() < until && !o->stop) {
            t_sleep_us(50000);
            watch_beat(o->watch, c->slot);
        }
        o->n_wait++;
    }
}

static void server_read(struct check *c)
{
    int fd = open(t_path(c->o->server_path, c->o->name), O_RDONLY);
    fatal_unless(fd >= 0 && !t_pread_all(fd, c->server, c->len, 0), "read at the server");
    close(fd);
}

static uint64_t word(const char *base, int g)
{
    return *(const volatile uint64_t *)(base + (size_t)g * 8);
}

/* One foreign word against the note. Returns true when it is torn. */
static bool check_foreign(struct check *c, const char *base, int g, enum slot_class cl, bool final)
{
    struct oracle *o = c->o;
    uint64_t v = word(base, g);
    int64_t seq;

    if (cl == S_HALF) {
        v >>= 32;
        seq = half_seq(SIDE_FOREIGN, g, (uint32_t)v);
    } else
        seq = value_seq(SIDE_FOREIGN, g, v);
    if (seq < 0) {
        if (final)
            oracle_finding(o, &o->torn, "torn", g, c->note[g], v);
        return true;
    }
    if ((uint64_t)seq < c->note[g])
        oracle_finding(o, &o->stale, base == c->map ? "stale (mapping)" : "stale (pread)", g,
                       c->note[g], (uint64_t)seq);
    if ((uint64_t)seq > o->slot[g].sent)
        oracle_finding(o, &o->backward, "from the future", g, o->slot[g].sent, (uint64_t)seq);
    return false;
}

static void round_of(struct check *c, enum force how)
{
    struct oracle *o = c->o;
    const char *base = c->map;
    int n = 0;

    for (int g = 0; g < c->nslots; g++)
        c->note[g] = o->slot[g].acked;
    force(c, how);
    if (how != BY_WAITING && rng_below(&c->rng, 3) == 0) {
        fatal_unless(!t_pread_all(c->fd, c->view, c->len, 0), "pread");
        base = c->view;
    }
    for (int g = 0; g < c->nslots; g++) {
        enum slot_class cl = oracle_class(o, g);
        if ((cl == S_FOREIGN || cl == S_HALF) && check_foreign(c, base, g, cl, false))
            c->suspects[n++] = g;
    }
    /* A fetch that met a foreign write half done may show half of it: the write was not yet
     * acknowledged. It is a finding when no write of that word was under way. */
    if (n) {
        uint64_t *sent = calloc((size_t)n, sizeof *sent);

        fatal_unless(sent != NULL, "memory");
        o->torn_passing += n;
        for (int tries = 0, left = 0; n; n = left, left = 0, tries++) {
            for (int i = 0; i < n; i++) {
                int g = c->suspects[i];
                sent[i] = o->slot[g].acked == o->slot[g].sent ? o->slot[g].sent : UINT64_MAX;
            }
            force(c, o->reval_cmd ? BY_COMMAND : BY_OPEN);
            for (int i = 0; i < n; i++) {
                int g = c->suspects[i];
                bool still = sent[i] == o->slot[g].sent || tries == TORN_TRIES;

                if (check_foreign(c, c->map, g, oracle_class(o, g), still) && !still)
                    c->suspects[left++] = g;
            }
        }
        free(sent);
    }
}

/* What fsync returned for is at the server. */
static void check_flushed(struct check *c)
{
    struct oracle *o = c->o;
    for (int g = 0; g < c->nslots; g++)
        c->note[g] = o->slot[g].last;
    if (fsync(c->fd)) {
        fprintf(stderr, "  fsync: %s\n", strerror(errno));
        o->errors++;
        return;
    }
    server_read(c);
    for (int g = 0; g < c->nslots; g++) {
        enum slot_class cl = oracle_class(o, g);
        int64_t seq;
        if (cl == S_LOCAL_MAP || cl == S_LOCAL_PW)
            seq = value_seq(SIDE_LOCAL, g, word(c->server, g));
        else if (cl == S_HALF)
            seq = half_seq(SIDE_LOCAL, g, (uint32_t)word(c->server, g));
        else
            continue;
        /* Torn: the server was read while a newer value was being written; the frozen check is
         * exact. */
        if (seq >= 0 && (uint64_t)seq < c->note[g])
            oracle_finding(o, &o->unflushed, "not at the server after fsync", g, c->note[g],
                           (uint64_t)seq);
    }
}

static bool conflict_ok(const struct known *k, uint64_t v)
{
    uint64_t a = conflict_make(SIDE_LOCAL, k->last), b = conflict_make(SIDE_FOREIGN, k->sent);
    for (int i = 0; i < 64; i += 8) {
        uint8_t x = (uint8_t)(v >> i);
        if (!(k->last && x == (uint8_t)a) && !(k->sent && x == (uint8_t)b) &&
            !(x == 0 && !k->last && !k->sent))
            return false;
    }
    return true;
}

static void compare_all(struct check *c, const char *base, const char *where, bool at_server)
{
    struct oracle *o = c->o;
    char what[80];
    for (int g = 0; g < c->nslots; g++) {
        struct known *k = &o->slot[g];
        uint64_t v = word(base, g), want;
        enum slot_class cl = oracle_class(o, g);
        volatile long *counter =
            cl == S_FOREIGN ? (at_server ? &o->lost_foreign : &o->stale) : &o->lost_local;
        if (cl == S_LOCAL_MAP || cl == S_LOCAL_PW)
            want = k->last ? value_make(SIDE_LOCAL, g, k->last) : 0;
        else if (cl == S_FOREIGN)
            want = k->sent ? value_make(SIDE_FOREIGN, g, k->sent) : 0;
        else if (cl == S_HALF) {
            want = (k->last ? half_make(SIDE_LOCAL, g, k->last) : 0) |
                   (uint64_t)(k->sent ? half_make(SIDE_FOREIGN, g, k->sent) : 0) << 32;
            if ((uint32_t)v == (uint32_t)want)
                counter = at_server ? &o->lost_foreign : &o->stale;
        } else if (cl == S_CONFLICT) {
            if (!conflict_ok(k, v)) {
                snprintf(what, sizeof what, "neither side's last byte %s", where);
                oracle_finding(o, &o->backward, what, g, conflict_make(SIDE_LOCAL, k->last), v);
            } else if (!at_server && v != word(c->server, g)) {
                snprintf(what, sizeof what, "conflict word differs from the server %s", where);
                oracle_finding(o, &o->stale, what, g, word(c->server, g), v);
            }
            continue;
        } else
            want = v;
        if (v != want) {
            snprintf(what, sizeof what, "all quiet, wrong %s", where);
            oracle_finding(o, counter, what, g, want, v);
        }
    }
}

/* Words of ours that the server does not have (yet). */
static long behind(struct check *c)
{
    struct oracle *o = c->o;
    long n = 0;

    server_read(c);
    for (int g = 0; g < c->nslots; g++) {
        enum slot_class cl = oracle_class(o, g);
        uint64_t last = o->slot[g].last;
        if (cl == S_LOCAL_MAP || cl == S_LOCAL_PW)
            n += word(c->server, g) != (last ? value_make(SIDE_LOCAL, g, last) : 0);
    }
    return n;
}

/* --late: what fsync() left behind has to arrive all the same. */
static void await_late(struct check *c)
{
    double until = t_now() + 20;
    long n = behind(c);

    c->o->n_late += n;
    while (n && t_now() < until && !c->o->stop) {
        watch_beat(c->o->watch, c->slot);
        force(c, BY_OPEN);
        t_sleep_us(10000);
        n = behind(c);
    }
}

static void compare_everywhere(struct check *c)
{
    if (c->o->late)
        await_late(c);
    fatal_unless(!t_pread_all(c->fd, c->view, c->len, 0), "pread");
    server_read(c);
    compare_all(c, c->server, "at the server", true);
    compare_all(c, c->map, "through memory", false);
    compare_all(c, c->view, "by pread", false);
}

static void freeze(struct check *c)
{
    struct oracle *o = c->o;
    int r = ++o->freeze_round;
    for (int i = 1; i <= o->locals + 1; i++)
        while (o->frozen_ack[i] != r && !o->stop) {
            watch_beat(o->watch, c->slot);
            t_sleep_us(200);
        }
    if (o->stop)
        return;
    if (rng_below(&c->rng, 2) ? fsync(c->fd) : msync((void *)c->map, c->len, MS_SYNC)) {
        fprintf(stderr, "  fsync: %s\n", strerror(errno));
        o->errors++;
    }
    force(c, o->reval_cmd && rng_below(&c->rng, 2) ? BY_COMMAND : BY_OPEN);
    compare_everywhere(c);
    o->n_freeze++;
    o->freeze_round++;
}

static enum force choose(struct check *c, long round)
{
    struct oracle *o = c->o;
    if (o->timeout_s > 0 && round % o->wait_every == o->wait_every - 1)
        return BY_WAITING;
    return o->reval_cmd && rng_below(&c->rng, 4) == 0 ? BY_COMMAND : BY_OPEN;
}

void checker(struct oracle *o, int slot)
{
    struct check c = {.o = o, .slot = slot, .rng = {o->seed * 31 + 7}};
    double end = t_now() + (o->seconds > 0 ? o->seconds : 1e9);

    c.len = (size_t)o->pages * PAGE;
    c.nslots = o->pages * PAGE_SLOTS;
    c.view = malloc(c.len);
    c.server = malloc(c.len);
    c.note = calloc((size_t)c.nslots, sizeof *c.note);
    c.suspects = calloc((size_t)c.nslots, sizeof *c.suspects);
    c.fd = open(t_path(o->mount, o->name), O_RDONLY);
    fatal_unless(c.fd >= 0 && c.view && c.server && c.note && c.suspects, "set-up");
    c.map = mmap(NULL, c.len, PROT_READ, MAP_SHARED, c.fd, 0);
    fatal_unless(c.map != MAP_FAILED, "mmap");

    for (long r = 0; r < o->rounds && t_now() < end && !o->stop; r++) {
        watch_beat(o->watch, slot);
        round_of(&c, choose(&c, r));
        if (r % 8 == 7)
            check_flushed(&c);
        if (o->freeze_every && r % o->freeze_every == o->freeze_every - 1)
            freeze(&c);
        o->n_rounds = r + 1;
        if (rng_below(&c.rng, 3) == 0)
            t_sleep_us((long)rng_below(&c.rng, 3000));
    }
    watch_beat(o->watch, slot);
    freeze(&c);
    o->stop = 1;
    /* The writers close now: close must leave their bytes at the server. */
    for (int i = 1; i <= o->locals + 1; i++)
        while (o->watch->slot[i].pid) {
            watch_beat(o->watch, slot);
            t_sleep_us(1000);
        }
    force(&c, BY_OPEN);
    compare_everywhere(&c);
    watch_disarm(o->watch, slot);
}
