// SPDX-License-Identifier: Apache-2.0
/*
 * A cache between a fake server and, where a test wants one, a fake kernel; all threads are fibers
 * (tests/lib/sim.h), and the test itself is the scheduler: nothing happens behind its back.
 *
 *     struct fixture f;
 *     fixture_begin(&f, &(struct cache_config){.wsize = 64 << 10}, 0);
 *     fixture_write(&f, 0, "abc", 3);         WRITE taken by the cache
 *     fixture_sync_start(&f, &s);             fibers run; the WRITE is pending at the server
 *     fr_serve(&f.server, FR_WRITE);
 *     fixture_end(&f);                        serves the rest, and looks that nothing is left
 */
#ifndef NFSCACHED_TESTS_UNIT_CACHE_FIXTURE_H
#define NFSCACHED_TESTS_UNIT_CACHE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/internal.h"
#include "tests/lib/fake_kernel.h"
#include "tests/lib/fake_remote.h"
#include "tests/lib/sim.h"

#define FIXTURE_PAGES 64

struct fixture {
    struct arena arena;
    struct cache *c;
    struct fr_server server;
    struct fr_file *file;
    struct fk_file *k;
    struct mapping *m; /* of k */
};

/* What a config leaves 0 gets a default; the file has `size` bytes, each the low half of its page
 * number plus 1. */
void fixture_begin(struct fixture *f, const struct cache_config *config, uint64_t size);
/* Serves what is pending until all is clean, frees all, and fails if anything is left. */
void fixture_end(struct fixture *f);
/* The server answers everything, fibers run, until nothing is left to do. */
void fixture_serve(struct fixture *f);
uint8_t fixture_byte(uint64_t off);

/* cache_write(); true: taken at once. */
bool fixture_write(struct fixture *f, uint64_t off, const void *data, uint32_t len);
bool fixture_write_as(struct fixture *f, uint64_t off, const void *data, uint32_t len,
                      enum cache_write_kind kind, uint64_t unique, uint16_t cred);

struct fixture_read {
    struct cache_read r;
    bool done;
    uint8_t *data; /* what it brought; freed by fixture_read_end() */
};
/* Starts a READ; it may be done at once. */
void fixture_read_start(struct fixture *f, struct fixture_read *r, uint64_t off, uint32_t len,
                        bool kernel, bool direct, struct readahead *ra);
/* It must be done: copies the data out and releases it. */
void fixture_read_finish(struct fixture_read *r);
void fixture_read_end(struct fixture_read *r);
/* Reads through a served cache and compares. */
void fixture_expect(struct fixture *f, uint64_t off, const void *data, uint32_t len);

struct fixture_sync {
    struct cache_sync s;
    bool done;
};
/* Starts a sync and lets the fibers run. */
void fixture_sync_start(struct fixture *f, struct fixture_sync *s);
/* All of it, served. Its error. */
int fixture_sync(struct fixture *f);

struct fixture_reval {
    struct fixture *f;
    pthread_t thread;
    struct cache_reval_result result;
    int error;
    bool done, force;
};
/* Revalidates in a fiber, which runs until it waits. */
void fixture_reval_start(struct fixture *f, struct fixture_reval *r, bool force);
/* The rest of it, with the server's answers. */
void fixture_reval_end(struct fixture_reval *r);

#endif
