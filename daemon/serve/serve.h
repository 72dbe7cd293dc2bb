// SPDX-License-Identifier: Apache-2.0
/*
 * The embedded NFSv3 and MOUNT server: what demonstrations and tests mount, and where they make
 * things go wrong. Two commands (nfscached-serve(1), nfscached-fault(1)) and calls to embed it.
 *
 * The functions below may be called from any thread. Errors are negative errno.
 */
#ifndef NFSCACHED_SERVE_SERVE_H
#define NFSCACHED_SERVE_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct server;

struct server_options {
    const char *directory;
    const char *bind;       /* IPv4 or IPv6 address; NULL: 127.0.0.1 */
    uint16_t port;          /* 0: any free one */
    const char *control;    /* path of the control socket; NULL: none */
    const char *key_file;   /* export.h; NULL: the default place */
    unsigned threads;       /* 0: twice the processors, 4 to 16 */
    size_t uncommitted_max; /* bytes kept apart from the directory; 0: 1 GiB */
    bool read_only;
    bool verbose;       /* one line per call to stderr */
    bool write_through; /* UNSTABLE data goes to the directory at once */
    bool no_drc;        /* no duplicate request cache */
    bool no_fsync;      /* COMMIT and stable WRITE do not wait for the disk */
    bool path_handles;  /* handles as of an unprivileged server */
};

/* Start serving. On error a message is in ERR. The options' strings need not outlive the call. */
int server_start(const struct server_options *options, struct server **out, char *err,
                 size_t errlen);
/* Commit everything, close, free. Returns the first error of committing (data was lost), or 0. */
int server_stop(struct server *srv);

uint16_t server_port(const struct server *srv);
const char *server_directory(const struct server *srv);

/*
 * Do one line of the control socket's language: a fault SPEC, or one of
 *   add SPEC | clear [ID] | list | reboot [MS] | pause | resume | disconnect | commit | stats
 * Its answer goes to OUT; the last line is "ok" or "error: ...". Whether it was ok.
 */
bool server_command(struct server *srv, const char *line, FILE *out);

/* Lose what is uncommitted, change the write verifier, drop all connections and the duplicate
 * request cache, refuse new connections for DOWN_MS. */
void server_reboot(struct server *srv, uint64_t down_ms);

/* Calls and times so far, as a table. */
void server_print_stats(struct server *srv, FILE *out);

#endif
