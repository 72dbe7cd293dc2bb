// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached bench scale`: what its parts share. See scale.c for the whole, scale_place.c for the
 * server and the mounts that a cell works on.
 */
#ifndef NFSCACHED_BENCH_SCALE_H
#define NFSCACHED_BENCH_SCALE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/bench/bench.h"

#define SCALE "scale" /* the benchmark's name in results */

struct control_client;

struct scale {
    /* what was asked for */
    bool quick;
    char *scratch;    /* directory below which everything is made */
    char *remote;     /* SERVER:/EXPORT of somebody else; NULL: a server of our own */
    char *remote_dir; /* the same export by another way */
    char *options;    /* further mount options; NULL: none */
    int max_mib, file_mib, max_mounts, ac_seconds, getattr_ms;
    long long max_inodes, max_entries, max_files;
    double seconds;

    /* what runs */
    char dir[PATH_MAX];    /* of our own, in `scratch` */
    char export[PATH_MAX]; /* where the server's files are made */
    char control[PATH_MAX];
    char source[PATH_MAX + 64]; /* what is mounted */
    char below[64];             /* the directory of our own in somebody else's export, with '/' */
    uint16_t port;
    pid_t server;
    int control_fd;
    unsigned mounts_made;
};

/* The server, if it does not run yet. 0, or negative errno after cell_fail(). */
int scale_begin(struct scale *s, struct cell *c);
/* Ends the server, removes everything. */
void scale_end(struct scale *s);

/* One line of the server's control language; the answer is the caller's to free. NULL: failed, or
 * it is not ours. */
char *scale_command(struct scale *s, const char *line);
/* Calls of a procedure that the server got so far; negative if it cannot be told. */
double scale_served(struct scale *s, const char *procedure);

struct scale_mount {
    char mountpoint[PATH_MAX];
    char dir[PATH_MAX]; /* where scale->export is seen */
    pid_t daemon;
    dev_t dev;
};

/* Mounts with `options` (NULL: none), and ends it by SIGTERM. 0, or negative errno after
 * cell_fail(). */
int scale_mount(struct scale *s, struct cell *c, const char *options, struct scale_mount *m);
int scale_umount(struct cell *c, struct scale_mount *m);
/* In cleanup: whatever is left, by force. */
void scale_mount_drop(struct scale_mount *m);
/* Empties the daemon's cache of clean pages. */
void scale_drop(const struct scale_mount *m);

/* CPU time of all threads of a process, ns; how often they were put to run; resident memory and its
 * share by pages (PSS), bytes. Of a process that ended: 0. */
struct scale_usage {
    uint64_t cpu_ns, runs, rss, pss;
};
void scale_usage(pid_t pid, bool memory, struct scale_usage *u);

/* Numbers of a curve: from `first` by `factor`, and at last `most`, into v. How many. */
unsigned scale_steps(double first, double factor, double most, double v[32]);

/* A cell of a part: its arg is a struct scale_cell that the matrix frees. */
struct scale_cell {
    struct scale *s;
    uint64_t n;       /* the point of the curve */
    double x;         /* ... where it is no whole number */
    const char *what; /* variant, or NULL */
    unsigned aux;
};
struct cell *scale_add(struct matrix *m, const struct scale_cell *init, const char *part,
                       cell_fn run);

/* The parts: each adds its cells. */
void scale_cells_cache(struct matrix *m, struct scale *s);
void scale_cells_inodes(struct matrix *m, struct scale *s);
void scale_cells_sizes(struct matrix *m, struct scale *s);
void scale_cells_directory(struct matrix *m, struct scale *s);
void scale_cells_open(struct matrix *m, struct scale *s);
void scale_cells_mounts(struct matrix *m, struct scale *s);
void scale_cells_delay(struct matrix *m, struct scale *s);
void scale_cells_connections(struct matrix *m, struct scale *s);

/* ---- scale_tree.c: trees in the export, kept until the end -------------------------------------
 */

/* "tree-N" of N empty files in directories of 1000; "flat-N" of N empty files in one. Made when
 * they are not there yet. `name` of 64 bytes. 0 or negative errno. */
int scale_tree(struct scale *s, bool flat, uint64_t n, char *name);

#endif
