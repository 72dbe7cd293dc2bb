// SPDX-License-Identifier: Apache-2.0
/*
 * Whose permissions a request is executed with.
 *
 * A server that runs as root takes on the uid, gid and groups of the caller (AUTH_SYS) for the
 * file system operations of one request, as knfsd does with no_root_squash. The ids are changed by
 * the raw system calls, which act on the calling thread alone (glibc's wrappers would change every
 * thread of the process), and fsuid/fsgid rather than the real ids, so that signals and limits stay
 * the server's. A server of an ordinary user does everything as that user.
 */
#ifndef NFSCACHED_SERVE_CRED_H
#define NFSCACHED_SERVE_CRED_H

#include <stdint.h>

#define CRED_MAX_GROUPS 16 /* RFC 5531 section 8.2, appendix A */
#define CRED_NOBODY     65534

struct cred {
    uint32_t uid;
    uint32_t gid;
    uint32_t ngroups;
    uint32_t groups[CRED_MAX_GROUPS];
};

/* Prepare the calling thread: its own umask (0) and, when the process is root, switching of ids. */
void serve_cred_thread_init(void);

/* Take on CRED for this thread's file system accesses. 0, or -EPERM when the kernel refused. */
int serve_cred_become(const struct cred *cred);

/* Back to the server's own ids. Only fsuid is changed back: it is what carries the privilege. */
void serve_cred_become_server(void);

#endif
