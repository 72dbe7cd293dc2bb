// SPDX-License-Identifier: Apache-2.0
/*
 * A server of the cache's remote side, in memory, under the test's thumb.
 *
 * Every call is first *pending*; then it is *applied* (the server does it: a fetch samples the
 * file, a WRITE changes it), then *delivered* (the cache hears of it). The two are separate steps,
 * in any order among the calls, so that a test can put anything in between.
 *
 *   fetch, write, commit, getattr -> pending -> fr_apply -> applied -> fr_deliver -> gone
 *
 * A file has two contents: `data`, what everybody reads, and `stable`, what survives fr_reboot().
 * Foreign writers write through to both. Each change moves the change token by one tick.
 *
 * A test steps through calls by itself, or lets fr_worker() threads do it at random.
 */
#ifndef NFSCACHED_TESTS_LIB_FAKE_REMOTE_H
#define NFSCACHED_TESTS_LIB_FAKE_REMOTE_H

#include <pthread.h>

#include "cache/cache.h"

enum fr_kind { FR_FETCH, FR_WRITE, FR_COMMIT, FR_GETATTR, FR_KINDS };

struct fr_file {
    struct fr_server *server;
    uint8_t *data, *stable;
    uint64_t room; /* of the arrays */
    uint64_t size, stable_size;
    uint64_t ticks; /* of the change token */
};

struct fr_call {
    enum fr_kind kind;
    struct mapping *m;
    struct fr_file *file;
    union {
        void *call;
        struct cache_fetch *fetch;
        struct cache_write_rpc *write;
        struct cache_commit *commit;
        struct cache_getattr *getattr;
    };
    bool applied, taken;
    uint64_t number; /* in order of arrival */
    struct fr_call *next;
};

struct fr_server {
    pthread_mutex_t lock;
    pthread_cond_t cond; /* a call came, or the server stops */
    struct fr_call *pending, **tail;
    unsigned npending;
    bool stopping;
    uint64_t number;
    uint64_t verf;
    /* how it behaves */
    bool atomic_pre;                        /* WRITE and COMMIT carry pre-operation attributes */
    bool no_post;                           /* and none after it */
    bool commits_writes;                    /* answers UNSTABLE with FILE_SYNC */
    uint32_t read_most, write_most;         /* bytes of one call; 0: all */
    unsigned read_short, write_short, fail; /* chances of 256, for workers at random */
    int error[FR_KINDS];                    /* the next `errors` calls of a kind fail with it */
    unsigned errors[FR_KINDS];
    bool trace; /* prints each call as it is applied and delivered */
    /* what it saw */
    uint64_t calls[FR_KINDS], reboots, lost_bytes;
    uint64_t file_syncs;
    /* Lock held. Every WRITE, before it changes the file. */
    void (*on_write)(struct fr_file *f, const struct cache_write_rpc *w, uint32_t bytes, void *arg);
    void *on_write_arg;
};

/* What mapping_host() of a mapping with a fake remote is, or begins with. */
struct fake_host {
    struct fr_file *file;
    struct fk_file *kernel; /* NULL: a kernel that holds nothing */
    int busy;
    bool no_proof; /* cache_kernel_ops.worth_proving: no */
};

extern const struct cache_remote_ops fr_ops;

void fr_server_init(struct fr_server *s);
void fr_server_free(struct fr_server *s);
struct fr_file *fr_file_new(struct fr_server *s, uint64_t size, uint64_t room);
void fr_file_free(struct fr_file *f);

/* The oldest pending call of `kind` (of `m`, or NULL: any) that is in the state `applied`. */
struct fr_call *fr_find(struct fr_server *s, enum fr_kind kind, const struct mapping *m,
                        bool applied);
unsigned fr_count(struct fr_server *s, enum fr_kind kind);
/* What is pending of all kinds. */
unsigned fr_pending(struct fr_server *s);
void fr_apply(struct fr_call *c);
/* Applied first if it was not. */
void fr_deliver(struct fr_call *c);
/* The oldest call of a kind, applied and delivered; false: there is none. */
bool fr_serve(struct fr_server *s, enum fr_kind kind);
/* All of them, and what they cause, until nothing is pending. */
void fr_serve_all(struct fr_server *s);
/* Another verifier only. */
void fr_reboot(struct fr_server *s);
/* Another verifier, and what was not committed of this file is lost. */
void fr_reboot_file(struct fr_file *f);
void fr_fail(struct fr_server *s, enum fr_kind kind, int error, unsigned times);

/* Another client. */
void fr_write(struct fr_file *f, uint64_t off, const void *data, uint32_t len);
/* The same, with the server's lock held. */
void fr_write_locked(struct fr_file *f, uint64_t off, const void *data, uint32_t len);
void fr_truncate(struct fr_file *f, uint64_t size);
struct attr fr_attr(struct fr_file *f);
/* SETATTR of our own, from pre to post. */
void fr_setattr_size(struct fr_file *f, uint64_t size, struct token *pre, struct token *post);

/* A thread that serves at random: applies or delivers any call, until fr_stop(). Argument: the
 * server. */
void *fr_worker(void *server);
/* With the race lab only. Another, which takes the oldest call, and serves it: two of them may
 * overtake each other. */
void *fr_worker_in_order(void *server);
void fr_stop(struct fr_server *s);

#endif
