// SPDX-License-Identifier: Apache-2.0
/*
 * The server's clock and granularity, and the other rules of the attribute cache that are
 * arithmetic only (clock.h says what for).
 *
 * A lower bound of the server's clock is all that the racy test needs. Every ctime c in a reply
 * that arrived at t gives one: server - mono >= c - t. The best of them is kept, and made worse by
 * the drift of clocks as it ages. Own operations also give an upper bound, c + granularity - sent:
 * what contradicts it is a file from the future, or the server's clock was set back.
 *
 * A server with ticks shows only multiples of its tick between the ctimes of operations in
 * sequence; one with fine timestamps shows microseconds. Twice the smallest difference seen is
 * taken. What the server says of itself (time_delta) counts where it can be true: Linux's says 1 s
 * whatever its file system keeps, but a ctime that is no multiple of it is of a finer clock. A
 * kernel with multigrain timestamps (Linux 6.13) gives a change after a sampling a time of its own,
 * which is exactly what is needed here.
 *
 * A tick may be late: Linux's coarse clock stands still while the virtual CPU that keeps it does
 * not run (up to 327 ms were seen). So a tick is believed to be over when a later ctime was seen,
 * or else only CLOCK_LATE after it. An own operation with a ctime further behind the server's clock
 * than a tick shows how late it is; for a while twice as much is taken for the granularity.
 */
#include "fuse/clock.h"

static int64_t bound_lo(const struct server_time *c, int64_t mono)
{
    int64_t age = mono > c->lo_at ? mono - c->lo_at : 0;
    return c->off_lo - CLOCK_DRIFT(age);
}

static int64_t bound_hi(const struct server_time *c, int64_t mono)
{
    int64_t age = mono > c->hi_at ? mono - c->hi_at : 0;
    return c->off_hi + CLOCK_DRIFT(age);
}

static void raise_lo(struct server_time *c, int64_t off, int64_t mono)
{
    if (!c->known || mono + off > c->newest) {
        c->newest = mono + off;
        c->newest_at = mono;
    }
    if (c->known && off <= bound_lo(c, mono))
        return;
    c->known = true;
    c->off_lo = off;
    c->lo_at = mono;
}

void clock_seen(struct server_time *c, int64_t ctime, int64_t replied, int64_t real)
{
    int64_t off = ctime - replied;
    if (c->own ? off > bound_hi(c, replied) : ctime > real + CLOCK_SKEW_MAX)
        return;
    raise_lo(c, off, replied);
}

/* Op sent after the last one's reply: on a server with ticks, another ctime is another tick. */
static void learn_step(struct server_time *c, int64_t ctime, int64_t sent, int64_t replied)
{
    int64_t step = ctime - c->last_ctime;
    if (c->last_ctime && sent < c->last_replied)
        return;
    if (c->last_ctime && step > 0 && (c->step_min == 0 || step < c->step_min))
        c->step_min = step;
    c->last_ctime = ctime;
    c->last_replied = replied;
}

static int64_t granularity_of_ticks(const struct server_time *c)
{
    return c->step_min && 2 * c->step_min < CLOCK_GRAN_MAX ? 2 * c->step_min : CLOCK_GRAN_MAX;
}

/* Op that was carried out after `sent`, and got `ctime` then. */
static void learn_lag(struct server_time *c, int64_t ctime, int64_t sent)
{
    int64_t lag = c->known ? sent + bound_lo(c, sent) - ctime : 0;
    if (lag > CLOCK_LAG_MAX)
        return;
    if (lag <= granularity_of_ticks(c))
        lag = 0;
    if (lag < c->lag && sent < c->lag_at + CLOCK_LAG_NS)
        return;
    c->lag = lag;
    c->lag_at = sent;
}

void clock_own_late(struct server_time *c, int64_t ctime, int64_t sent, int64_t replied,
                    int64_t real)
{
    /* Below the last one's, it may be of any age. */
    if (c->own && ctime > c->last_ctime && ctime - replied <= bound_hi(c, replied)) {
        learn_lag(c, ctime, sent);
        learn_step(c, ctime, sent, replied);
    }
    clock_seen(c, ctime, replied, real);
}

void clock_own(struct server_time *c, int64_t ctime, int64_t sent, int64_t replied)
{
    learn_lag(c, ctime, sent);
    learn_step(c, ctime, sent, replied);
    int64_t lo = ctime - replied, hi = ctime + clock_granularity(c, ctime) - sent;
    if (!c->own || hi < bound_hi(c, replied) || lo > bound_hi(c, replied)) {
        c->off_hi = hi;
        c->hi_at = replied;
    }
    c->own = true;
    if (c->known && bound_lo(c, replied) > hi)
        c->known = false; /* set back, or we believed a file from the future */
    raise_lo(c, lo, replied);
}

int64_t clock_granularity(const struct server_time *c, int64_t ctime)
{
    int64_t gran = c->lag ? 2 * c->lag : granularity_of_ticks(c);
    return c->time_delta > gran && ctime % c->time_delta == 0 ? c->time_delta : gran;
}

bool clock_coarse(const struct server_time *c, int64_t ctime)
{
    return clock_granularity(c, ctime) >= CLOCK_GRAN_FINE;
}

bool clock_racy(const struct server_time *c, int64_t ctime, int64_t sent, int64_t real)
{
    if (!clock_coarse(c, ctime))
        return false;
    int64_t tick = clock_granularity(c, ctime);
    /* The clock was seen further on: nothing is assumed. */
    if (c->known && c->newest_at <= sent && c->newest >= ctime + tick)
        return false;
    int64_t late = tick > CLOCK_LATE ? tick : CLOCK_LATE;
    if (c->known && sent + bound_lo(c, sent) >= ctime + late)
        return false;
    return c->own || real < ctime + CLOCK_SKEW_MAX;
}

uint64_t clock_next_timeout(uint64_t timeout, uint64_t min, uint64_t max, bool changed,
                            bool expired)
{
    if (changed || timeout < min)
        return min;
    if (expired)
        timeout *= 2;
    return timeout > max ? max : timeout;
}

bool clock_reply_is_old(uint64_t sent, struct timespec ctime, uint64_t have_sent,
                        struct timespec have_ctime, uint64_t own_change)
{
    int64_t c = clock_ns(ctime), have = clock_ns(have_ctime);
    return (sent < own_change && c <= have) || (sent < have_sent && c < have);
}
