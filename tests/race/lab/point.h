// SPDX-License-Identifier: Apache-2.0
/*
 * Named points, as the product's sources see them when they are built with the lab.
 *
 * In a simulation (tests/lib/sim.h) a point is where a lane may be stopped by its schedule, or
 * preempted by the search. In a daemon it is where a thread waits while somebody holds the point,
 * over the control socket.
 */
#ifndef NFSCACHED_RACE_POINT_H
#define NFSCACHED_RACE_POINT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LAB_NO_PAGE UINT64_MAX

#define POINT(name)          lab_point(name, LAB_NO_PAGE)
#define POINT_AT(name, page) lab_point(name, page)

void lab_point(const char *name, uint64_t page);

/* Called for each point that is come by, before anybody waits there; not in a simulation. NULL:
 * none. Set before there are threads. */
extern void (*lab_on_point)(const char *name, uint64_t page);

/* Atomics of the product's sources show themselves to the scheduler first. Those of gcc and clang
 * take other builtins. Figures (COUNT) are left out: nobody acts on them. */
void sim_atomic(const void *object);

#undef atomic_load
#undef atomic_load_explicit
#undef atomic_store
#undef atomic_store_explicit
#undef atomic_fetch_add
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub
#undef atomic_fetch_sub_explicit
#ifdef __clang__
#define LAB_ATOMIC(op, p, ...)         (sim_atomic((const void *)(p)), __c11_atomic_##op((p), __VA_ARGS__))
#define atomic_load_explicit(p, o)     LAB_ATOMIC(load, p, o)
#define atomic_store_explicit(p, v, o) LAB_ATOMIC(store, p, v, o)
#else
#define LAB_ATOMIC(op, p, ...)         (sim_atomic((const void *)(p)), __atomic_##op((p), __VA_ARGS__))
#define atomic_load_explicit(p, o)     LAB_ATOMIC(load_n, p, o)
#define atomic_store_explicit(p, v, o) LAB_ATOMIC(store_n, p, v, o)
#endif
#define atomic_fetch_add_explicit(p, v, o) LAB_ATOMIC(fetch_add, p, v, o)
#define atomic_fetch_sub_explicit(p, v, o) LAB_ATOMIC(fetch_sub, p, v, o)
#ifdef __clang__
#define COUNT(c, what, by) __c11_atomic_fetch_add(&(c)->n.what, (by), __ATOMIC_RELAXED)
#else
#define COUNT(c, what, by) __atomic_fetch_add(&(c)->n.what, (by), __ATOMIC_RELAXED)
#endif
#define atomic_load(p)         atomic_load_explicit(p, __ATOMIC_SEQ_CST)
#define atomic_store(p, v)     atomic_store_explicit(p, v, __ATOMIC_SEQ_CST)
#define atomic_fetch_add(p, v) atomic_fetch_add_explicit(p, v, __ATOMIC_SEQ_CST)
#define atomic_fetch_sub(p, v) atomic_fetch_sub_explicit(p, v, __ATOMIC_SEQ_CST)

/* In a daemon. Any thread. Threads that come to `name`, or with "NAME:PAGE" to that page there,
 * wait until it is released. */
int lab_hold(const char *name);
void lab_release(const char *name);
/* How many have come to `name` since it was held; waits until there are `n` or `ms` have passed. */
unsigned lab_arrived(const char *name, unsigned n, unsigned ms);
void lab_release_all(void);

#endif
