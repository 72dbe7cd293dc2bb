// SPDX-License-Identifier: Apache-2.0
/*
 * Instructions that the calling thread executes in user mode, where perf_event_open(2) permits and
 * the machine can count them (virtual machines often cannot).
 */
#ifndef NFSCACHED_BENCH_INSTRUCTIONS_H
#define NFSCACHED_BENCH_INSTRUCTIONS_H

#include <stdint.h>

/* A counter of the calling thread, running; closed by close(2). -1: not to be had. */
int instructions_open(void);
/* So far; 0 for -1. */
uint64_t instructions_read(int fd);

#endif
