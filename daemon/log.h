// SPDX-License-Identifier: Apache-2.0
/*
 * What the mount process says while it runs: to stderr in the foreground, to syslog in the
 * background. The verbs that a person waits for do not use this: they write to their terminal
 * (daemon/verbs.h).
 */
#ifndef NFSCACHED_DAEMON_LOG_H
#define NFSCACHED_DAEMON_LOG_H

#include <stdatomic.h>
#include <stdint.h>
#include <syslog.h>

/* From here on, messages go to syslog under `ident` (not copied: must stay valid). Before any
 * thread is started. */
void log_to_syslog(const char *ident);
/* Messages above this level are dropped: LOG_INFO at first. Any time. */
void log_set_level(int level);

/* One line, without a newline at its end. `level` is LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO or
 * LOG_DEBUG. Any thread; keeps errno. */
void log_msg(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* State of a message that may come often; static and zero-initialised, one for each place. */
struct log_limit {
    _Atomic uint64_t next_ns; /* CLOCK_MONOTONIC: silent until then */
    atomic_uint suppressed;
};
#define LOG_LIMIT_NS 10000000000ull

/* The same, at most once in 10 s for each `limit`; the next one tells how many were left out. */
void log_limited(struct log_limit *limit, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
