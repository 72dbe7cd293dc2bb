// SPDX-License-Identifier: Apache-2.0
/*
 * The NFS client on a real export, without a mount on top.
 *
 * The embedded server inside of the test, unless the environment names another: NFS3_TEST_SERVER,
 * NFS3_TEST_EXPORT, NFS3_TEST_PORT, NFS3_TEST_MOUNTPORT (the export empty and writable for root;
 * this machine's directory of the same path).
 */
#ifndef TESTS_MOUNTED_H
#define TESTS_MOUNTED_H

#include <sys/stat.h>

#include "daemon/nfs/nfs3.h"
#include "daemon/serve/serve.h"

struct mounted {
    bool external;
    struct server *server; /* NULL if external */
    char dir[64], export[80], key[80];
    struct nfs3_options o;
    struct loop *loop; /* the shard */
    struct remote *remote;
    struct cred cred;
};

extern struct mounted m;

/* `o`: server, export and ports are filled in. */
void mounted_start(struct nfs3_options o, const struct server_options *server);
void mounted_stop(void);
/* Submits from this thread and waits; the credential is filled in if there is none. */
int op(struct remote_call *call);

/* A command of the embedded server's control language, which must succeed. */
void serve_command(const char *line);

int make_file(const char *name, struct fh *fh);
int write_at(const struct fh *fh, uint64_t offset, const void *data, uint32_t n,
             enum remote_stable stable);
/* Bytes read, or negative errno. */
int read_at(const struct fh *fh, uint64_t offset, void *data, uint32_t n);
int remove_name(const char *name);

#endif
