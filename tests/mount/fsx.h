// SPDX-License-Identifier: Apache-2.0
/*
 * Randomised operations on one file against a model in memory (after fsx by Avadis Tevanian, 1991).
 *
 * A run is a list of operations, generated from a seed and then executed, so that any part of the
 * list can be executed again: that is how a failing list is made short. Offsets are absolute; what
 * an operation does depends on the size at that moment only by clamping. Content written by
 * operation `id` is a function of `id` and the position, so it stays the same when others are left
 * out.
 */
#ifndef TESTS_FSX_H
#define TESTS_FSX_H

#include "tests/lib/tlib.h"

#include <stdbool.h>

enum fsx_op {
    OP_READ,
    OP_WRITE,
    OP_APPEND,
    OP_TRUNCATE,
    OP_MAPREAD,
    OP_MAPWRITE,
    OP_MSYNC,
    OP_FSYNC,
    OP_REOPEN,
    OP_DROP_KERNEL, /* posix_fadvise(DONTNEED) and madvise(DONTNEED) */
    OP_REVALIDATE,  /* another open and close, or the command */
    OP_DROP_DAEMON, /* the command */
    OP_DIRECT_READ,
    OP_DIRECT_WRITE,
    OP_SEEK,
    OP_STAT,
    OP_VERIFY,        /* close, compare through the other path, open */
    OP_FOREIGN_WRITE, /* close, write through the other path, open */
    OP_FOREIGN_TRUNCATE,
    OP_COUNT
};
extern const char *const fsx_op_name[OP_COUNT];

struct op {
    uint8_t kind;
    uint32_t id, off, len;
};

struct fsx {
    const char *mount, *verify, *reval_cmd, *drop_cmd, *every_cmd;
    int every, max_len;
    bool direct, quiet;
    struct watch *watch;
    /* of one execution */
    char path[4200], other[4200];
    int fd, append_fd, direct_fd;
    char *map, *model, *buf, *dio;
    uint32_t size, high; /* high: what was ever written, to report holes read as data */
    bool failed;
    char why[300];
    long done[OP_COUNT];
};

void fsx_generate(struct fsx *x, uint64_t seed, struct op *list, int n);
/* Executes the list on a fresh file. Index of the operation that failed, or -1. why[] tells. */
int fsx_run(struct fsx *x, const struct op *list, int n);
/* Shortens list in place so that it still fails; its new length. At most `seconds` are spent. */
int fsx_shrink(struct fsx *x, struct op *list, int n, double seconds);
void fsx_print(FILE *f, const struct op *o);
bool fsx_parse(struct op *o, const char *line);

#endif
