// SPDX-License-Identifier: Apache-2.0
/*
 * What the black-box test programs share: a seeded generator, a clock, shared memory, heartbeats
 * with a watchdog that shows where a stuck process hangs, named counters and their one line of
 * output.
 *
 * Exit status of every program: 0 all held, 1 a check failed, 2 the test itself could not run,
 * 3 something hung, 77 a prerequisite is missing (named on stderr).
 */
#ifndef TESTS_TLIB_H
#define TESTS_TLIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum { T_PASS = 0, T_FAIL = 1, T_ERROR = 2, T_HUNG = 3, T_SKIP = 77 };

/* splitmix64 (Steele, Lea, Flood 2014): any state is a good state, so a seed may be any number. */
struct rng {
    uint64_t state;
};
uint64_t rng_next(struct rng *r);
/* Uniform enough in [0, n); n > 0. */
uint64_t rng_below(struct rng *r, uint64_t n);
/* Mixes a number into 64 well spread bits. */
uint64_t t_mix(uint64_t x);
/* The seed to use: `given`, or one from the clock when it is 0. */
uint64_t t_seed(uint64_t given);

double t_now(void); /* seconds, monotonic */
void t_sleep_us(long us);

/* Prints "PROGRAM: message" (with the text of errno when it is not 0) and exits T_ERROR / T_SKIP.
 */
void t_die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void t_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Zeroed memory that forked children share. Never fails (dies). */
void *t_shared(size_t bytes);
/* Runs a shell command; its exit status, or 128 + signal. Non-zero is said on stderr. */
int t_run(const char *cmd);
/* Whole transfers: 0, or a negative errno (-ENODATA when the file ends before). */
int t_pwrite_all(int fd, const void *buf, size_t n, off_t off);
int t_pread_all(int fd, void *buf, size_t n, off_t off);
/* Joins directory and name in a static ring of buffers. */
const char *t_path(const char *dir, const char *name);

/*
 * Heartbeats. Every process of a test owns a slot and beats when it completes an operation. The
 * supervising process calls watch_check; it is true when one slot was silent for longer than
 * `stall` seconds, after having printed the kernel stacks of all of them. Slots that are not armed
 * are ignored.
 */
#define WATCH_SLOTS 64
struct watch {
    struct {
        volatile pid_t pid;
        volatile double beat;
        char name[32];
    } slot[WATCH_SLOTS];
};
struct watch *watch_new(void); /* in shared memory */
void watch_arm(struct watch *w, int slot, pid_t pid, const char *name);
void watch_disarm(struct watch *w, int slot);
void watch_beat(struct watch *w, int slot);
bool watch_check(struct watch *w, double stall);
/* Prints the kernel stack of each thread of a process. */
void watch_print_stacks(pid_t pid, const char *name);

/*
 * Counters by name. `must_be_zero` ones decide the verdict. report_print writes one line of the
 * form "PROGRAM: a=1 b=2 ..." to stdout, or one JSON object.
 */
struct counter {
    const char *name;
    long value;
    bool must_be_zero;
};
/* 0 when all that must be zero are, else T_FAIL. */
int report_print(const char *program, const struct counter *c, int n, bool json);

#endif
