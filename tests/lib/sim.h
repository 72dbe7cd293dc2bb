// SPDX-License-Identifier: Apache-2.0
/*
 * A scheduler in the place of threads, for programs that are linked with --wrap of the pthread
 * functions listed in sim.c.
 *
 * Between sim_begin() and sim_end() pthread_create() makes a fiber, and one fiber runs at a time:
 * until it waits (mutex, condition, join), or is preempted at the edge of a critical section. Who
 * runs next is drawn from a seeded generator, so a seed is a schedule, and a schedule can be played
 * again. Time is virtual and stands still unless everybody waits. Outside of sim_begin() all these
 * functions are the C library's.
 *
 * What it explores are the interleavings of critical sections: for code that is free of data races
 * (ThreadSanitizer's question, not this one's) those are all there are.
 */
#ifndef NFSCACHED_TESTS_LIB_SIM_H
#define NFSCACHED_TESTS_LIB_SIM_H

#include <stdbool.h>
#include <stdint.h>

/* `preempt`: chance, of 256, to change fibers at the edge of a critical section. */
void sim_begin(uint64_t seed, unsigned preempt);
/* All fibers must have ended. */
void sim_end(void);
/* Ends it although fibers have not: they are forgotten, with all that they hold. */
void sim_abandon(void);
bool sim_active(void);
/* Called in the scheduler's context between two fibers; NULL: none. */
void sim_on_step(void (*check)(void *arg), void *arg);
/* Called when nobody can go on: prints what it knows. The program ends with status 3. */
void sim_on_stuck(void (*report)(void *arg), void *arg);
/* Lets others run. In a thread outside of a simulation: sched_yield(). */
void sim_yield(void);
/* From the main context: runs fibers, one stretch at a time, until pred() holds. False: they all
 * wait (helpers' timeouts aside) and it does not. */
bool sim_until(bool (*pred)(void *arg), void *arg);
/* From the main context: runs until every fiber waits; timeouts do not count. */
void sim_settle(void);
/* Moves the clock, and so ends timed waits. */
void sim_advance(uint64_t ns);
/* One stretch of one fiber, from the main context. False: all wait, timeouts aside. */
bool sim_step(void);
/* Who decides, in the place of the dice. `pick` is asked which of the `n` fibers that can run goes
 * on, and returns an index into `ids`; `last` ran last, and gave way by sim_yield() if `yielded`.
 * `preempt` is asked before each lock, atomic and named point whether the running fiber gives way;
 * what comes after a lock was given back is the same as what comes before the next. */
struct sim_policy {
    unsigned (*pick)(void *arg, const unsigned *ids, unsigned n, unsigned last, bool yielded);
    bool (*preempt)(void *arg, unsigned id);
    bool fine; /* asked before atomics and named points, too */
    void *arg;
};
void sim_set_policy(const struct sim_policy *p);
/* A place that no lock marks: a named point. */
void sim_edge(void);
/* An atomic operation on `object` comes: an edge, and an access that the hash knows of. */
void sim_atomic(const void *object);
/* What has happened, up to the order of what does not depend on each other: two prefixes of runs
 * with the same hash have done the same to every lock, condition and atomic in the same order
 * (a happens-before hash, as of CHESS), and so are in the same state. */
uint64_t sim_hash(void);
/* The running fiber's number, counted from 1 in order of creation; 0: none. */
unsigned sim_self(void);
/* The running fiber waits for sim_resume(). */
void sim_pause(void);
void sim_resume(unsigned id);
/* A name for the fiber or thread that calls; shown when it is stuck. */
void sim_name(const char *name);
/* Prints who waits for what. */
void sim_show(const char *what);
uint64_t sim_steps(void);

/* xorshift64*: each thread outside of a simulation has its own state. */
uint64_t sim_random(void);
void sim_random_seed(uint64_t seed);
static inline uint32_t sim_below(uint32_t n)
{
    return (uint32_t)((sim_random() >> 32) * n >> 32);
}
/* True `n` times of 256. */
static inline bool sim_chance(unsigned n)
{
    return sim_below(256) < n;
}

#endif
