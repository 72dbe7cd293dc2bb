// SPDX-License-Identifier: Apache-2.0
/*
 * Duplicate request cache (Juszczak, "Improving the performance and correctness of an NFS server",
 * USENIX 1989): a retransmitted call that must not be executed twice gets the reply of the first.
 *
 * Key: client's address and port, XID, program, procedure, length of the call and a checksum of its
 * first 256 bytes (so that a client which starts again with the same XID is not answered with
 * another call's reply). A copy that arrives while the first is being executed waits for its reply.
 * Least recently used entries go above DRC_ENTRIES. One mutex, a leaf.
 */
#ifndef NFSCACHED_SERVE_DRC_H
#define NFSCACHED_SERVE_DRC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define DRC_ENTRIES 2048

struct drc;
struct drc_entry;
struct conn;

enum drc_verdict {
    DRC_NEW,    /* execute; then drc_done or drc_abandon */
    DRC_REPLAY, /* *reply (malloc'd, the caller frees) is the answer */
    DRC_WAIT,   /* being executed: the connection given was kept, and gets the answer then */
};

struct drc *drc_new(void);
void drc_free(struct drc *drc);
/* Forget all; calls being executed are not entered any more. */
void drc_clear(struct drc *drc);

enum drc_verdict drc_begin(struct drc *drc, const struct sockaddr_storage *peer, uint32_t xid,
                           uint32_t prog, uint32_t proc, const void *record, size_t len,
                           struct conn *conn, struct drc_entry **entry, void **reply,
                           size_t *reply_len);
/* ENTRY was answered with REPLY (copied). A connection that waits for it, with its reference, or
 * NULL. */
struct conn *drc_done(struct drc *drc, struct drc_entry *entry, const void *reply, size_t len);
/* ENTRY was not executed, or must not be replayed. */
struct conn *drc_abandon(struct drc *drc, struct drc_entry *entry);

#endif
