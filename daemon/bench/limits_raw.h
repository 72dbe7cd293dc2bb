// SPDX-License-Identifier: Apache-2.0
/*
 * Raw libnfs for the limits: a connection, and one file that all cells share. Only for the files
 * that see libnfs's headers: limits_raw.c, limits_libnfs.c, limits_floor.c.
 */
#ifndef NFSCACHED_BENCH_LIMITS_RAW_H
#define NFSCACHED_BENCH_LIMITS_RAW_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/time.h>

#include <nfsc/libnfs.h>

#include <nfsc/libnfs-raw.h>

#include <nfsc/libnfs-raw-nfs.h>

#include "daemon/bench/limit_cells.h"

struct raw_handle {
    unsigned len;
    char bytes[64];
};

struct raw {
    struct rpc_context *rpc;
    struct raw_handle root, file;
    char name[48];
    unsigned users; /* cells */
    unsigned mib_there;
    char why_not[256];
};
extern struct raw raw;

/* What one wait is for. */
struct raw_wait {
    unsigned done, until;
    bool failed;
    char why[128];
    struct raw_handle *take; /* where a reply's handle goes */
    int port;
    /* A stream: each reply sends the next request. */
    bool writing;
    char *data;
    unsigned next, total;
};

void raw_fail(struct raw_wait *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Serves the connection until w->done is w->until. False when w->failed. */
bool raw_wait_for(struct rpc_context *rpc, struct raw_wait *w);

/* Connected to a program, by rpcbind if `port` is 0; NULL with w->failed. */
struct rpc_context *raw_connect(struct raw_wait *w, const char *host, int port, int program);

/* Connects `raw` and creates its file, once. False: raw.why_not. */
bool raw_start(const struct limits_options *o);

/* Fills the file up to o->mib, once. False: w->why. */
bool raw_fill(struct raw_wait *w, const struct limits_options *o);

/* For cell_at_end(), of each of raw.users. */
void raw_stop(void *arg);

/* After a failure replies may be outstanding that point to what is gone: fails the cell, and there
 * is no more of this connection. */
int raw_failed(struct cell *c, const struct raw_wait *w);

static inline struct nfs_fh3 raw_fh(struct raw_handle *h)
{
    struct nfs_fh3 fh = {.data = {h->len, h->bytes}};
    return fh;
}

#endif
