// SPDX-License-Identifier: Apache-2.0
/*
 * The embedded server on a fresh directory, inside the test's own process, and a client on it.
 * After fixture_start: f.dir holds export/ (served) and outside/ (must stay out of reach).
 */
#ifndef NFSCACHED_TESTS_SERVE_FIXTURE_H
#define NFSCACHED_TESTS_SERVE_FIXTURE_H

#include "daemon/serve/serve.h"
#include "tests/unit/nfs_raw.h"

#include <limits.h>

struct fixture {
    char dir[64];
    char export[128];
    char key[128];
    struct server_options opt;
    struct server *srv;
    struct raw raw;
    struct fh root;
};

/* OPT may be NULL. */
void fixture_start(struct fixture *f, const struct server_options *opt);
void fixture_stop(struct fixture *f);
/* Stop the server and start another one on the same directory; the client connects to it. */
void fixture_restart(struct fixture *f);

/* A command of the control language; its answer must be "ok". Returns what came before (static). */
const char *fixture_command(struct fixture *f, const char *line);
/* How often fault ID fired. */
unsigned fixture_fired(struct fixture *f, unsigned id);

/* Paths and files in the exported directory, without the server. The path is static. */
const char *fixture_path(const struct fixture *f, const char *name);
void fixture_put(const struct fixture *f, const char *name, const char *content);
/* The file's content, terminated (static, up to 64 KiB); NULL when there is no such file. */
const char *fixture_get(const struct fixture *f, const char *name);

/* Below: with the client; they fail the test. */
struct fh file_with(struct fixture *f, const char *name); /* a new, empty file in the root */
void expect_content(struct fixture *f, const struct fh *fh, uint64_t off, const void *want,
                    uint32_t len);

/* Until the clock of file systems with coarse timestamps has moved on. */
void wait_for_tick(void);

#endif
