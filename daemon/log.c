// SPDX-License-Identifier: Apache-2.0
/*
 * Messages to stderr or syslog. A line is formatted into one buffer and written by one call, so
 * that the lines of several threads do not mix.
 */
#include "daemon/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool use_syslog;
static atomic_int max_level = LOG_INFO;

void log_to_syslog(const char *ident)
{
    openlog(ident, LOG_PID, LOG_DAEMON);
    use_syslog = true;
}

void log_set_level(int level)
{
    atomic_store(&max_level, level);
}

static void emit(int level, const char *text)
{
    char line[1100];

    if (use_syslog) {
        syslog(level, "%s", text);
        return;
    }
    int n =
        snprintf(line, sizeof line, "nfscached: %s%s\n", level <= LOG_ERR ? "error: " : "", text);
    /* Nobody could be told that stderr is gone. */
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
        return;
}

void log_msg(int level, const char *format, ...)
{
    int saved = errno;
    char text[1024];
    va_list ap;

    if (level > atomic_load_explicit(&max_level, memory_order_relaxed))
        return;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    emit(level, text);
    errno = saved;
}

void log_limited(struct log_limit *limit, int level, const char *format, ...)
{
    int saved = errno;
    char text[1024];
    struct timespec ts;
    va_list ap;

    if (level > atomic_load_explicit(&max_level, memory_order_relaxed))
        return;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    uint64_t now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    uint64_t next = atomic_load(&limit->next_ns);
    if (now < next || !atomic_compare_exchange_strong(&limit->next_ns, &next, now + LOG_LIMIT_NS)) {
        atomic_fetch_add(&limit->suppressed, 1);
        return;
    }
    unsigned left_out = atomic_exchange(&limit->suppressed, 0);
    va_start(ap, format);
    int n = vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (left_out && n >= 0 && (size_t)n < sizeof text)
        snprintf(text + n, sizeof text - (size_t)n, " (%u more like this)", left_out);
    emit(level, text);
    errno = saved;
}
