// SPDX-License-Identifier: Apache-2.0
/* What a benchmark lets a child process do: measure apart from all else, or serve a mount. */
#ifndef NFSCACHED_BENCH_CHILD_H
#define NFSCACHED_BENCH_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "daemon/bench/bench.h"

/* measure(arg, out) in a child process, where nobody before it has touched the heap; what it left
 * in `out`, of `size` bytes, is handed back. 0, or negative errno, after cell_fail() if it failed.
 */
int measure_apart(struct cell *c, bool (*measure)(const void *arg, void *out), const void *arg,
                  void *out, size_t size);

/* ---- a file system that a child process serves ----------------------------------------------- */

struct child_mount {
    const char *what; /* for messages */
    char dir[256];
    pid_t child;
    dev_t outside;
    unsigned users; /* cells */
    char why[128];
    const char *why_not; /* NULL: nothing failed */
};

/* serve(arg, directory), an exit status, in a child process, mounted in a scratch directory. True
 * when it is (now, or already); else m->why_not, and no second attempt is made. */
bool child_mount(struct child_mount *m, int (*serve)(const void *arg, const char *dir),
                 const void *arg);
bool child_mounted(const struct child_mount *m);
/* A user less; with the last one it is unmounted. */
void child_unmount(struct child_mount *m);

#endif
