// SPDX-License-Identifier: Apache-2.0
/*
 * The NFS client in front of a fake server, without MOUNT: one shard loop, any number of bulk
 * connections.
 */
#ifndef TESTS_WIRE_H
#define TESTS_WIRE_H

#include "daemon/nfs/client.h"
#include "tests/unit/fake_server.h"

enum { FILE_ID = 42, HANDLE_LEN = 16 };

extern struct loop *loop;
extern struct nfs3 *client;
extern struct fake fake;
extern struct cred cred;
extern struct fh handle;
extern _Atomic int silent_lines, ok_lines; /* of the log: "not responding" and "OK" */

/* fake.early may be set before. */
void begin(void (*handle_fn)(struct fake *f, const struct fake_request *req), struct nfs3_options o,
           int bulk);
void end(void);
/* Submits and waits; the credential, and the handle if there is none, are filled in. */
int ask(struct remote_call *call);
/* A sum over all connections. */
uint64_t stat_of(size_t offset);
#define STAT(name) stat_of(offsetof(struct conn_counters, name))

void good_getattr(struct fake *f, const struct fake_request *req);

#endif
