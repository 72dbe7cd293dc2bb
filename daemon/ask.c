// SPDX-License-Identifier: Apache-2.0
/* Asking a running mount: the part that is the same in several verbs. */
#include "daemon/ask.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/verbs.h"

#define SECOND 1000000000ull

int ask_connect(const struct mount_entry *mount, struct control_client **out)
{
    int rc = control_connect(mount->dev, mount->owner, out);

    switch (rc) {
    case 0:
        break;
    case -ENOENT:
    case -ECONNREFUSED:
        verb_fail(0, "%s: its daemon does not answer: no process listens on its control socket",
                  mount->mountpoint);
        break;
    case -EACCES:
    case -EPERM:
        verb_fail(0, "%s: only root and the user who mounted it (uid %u) may ask",
                  mount->mountpoint, (unsigned)mount->owner);
        break;
    default:
        verb_fail(0, "%s: cannot reach its daemon: %s", mount->mountpoint, strerror(-rc));
    }
    return rc;
}

const char *ask_bytes(uint64_t bytes, char text[32])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    double n = (double)bytes;
    int unit = -1;

    while (n >= 1024 && unit < 3) {
        n /= 1024;
        unit++;
    }
    if (unit < 0)
        snprintf(text, 32, "%u byte%s", (unsigned)bytes, bytes == 1 ? "" : "s");
    else
        snprintf(text, 32, "%.1f %s", n, units[unit]);
    return text;
}

static uint64_t now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

void ask_progress_begin(struct ask_progress *p, uint64_t dirty)
{
    *p = (struct ask_progress){.first = dirty, .least = dirty, .what = "writing back"};
    p->start_ns = p->moved_ns = now();
}

bool ask_progress_step(struct ask_progress *p, uint64_t dirty, unsigned patience_s)
{
    uint64_t t = now();
    bool terminal = isatty(STDERR_FILENO);
    char left[32], first[32];

    if (dirty > p->first)
        p->first = dirty;
    if (dirty < p->least) {
        p->least = dirty;
        p->moved_ns = t;
    }
    /* A terminal's line is rewritten twice a second; a log gets a line in five seconds. */
    if (t - p->start_ns >= SECOND &&
        (!p->printed || t - p->printed_ns >= (terminal ? SECOND / 2 : 5 * SECOND))) {
        unsigned percent = p->first ? (unsigned)((p->first - dirty) * 100 / p->first) : 0;
        uint64_t still = (t - p->moved_ns) / SECOND;
        fprintf(stderr, "%s%s: %s of %s left (%u%% done)", terminal ? "\r\033[K" : "", p->what,
                ask_bytes(dirty, left), ask_bytes(p->first, first), percent);
        if (still >= 3)
            fprintf(stderr, ", nothing moved for %llu s", (unsigned long long)still);
        if (!terminal)
            fputc('\n', stderr);
        p->printed = true;
        p->printed_ns = t;
    }
    return patience_s == 0 || t - p->moved_ns < patience_s * SECOND;
}

void ask_progress_end(struct ask_progress *p)
{
    if (p->printed && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    p->printed = false;
}

int ask_wait(struct control_client *c, uint32_t id, unsigned patience_s,
             struct control_progress *progress)
{
    struct timespec pause = {.tv_nsec = 500000};
    struct ask_progress p;
    bool begun = false;
    int rc;

    while ((rc = control_job_poll(c, id, progress)) == -EINPROGRESS) {
        if (!begun)
            ask_progress_begin(&p, progress->dirty_bytes);
        begun = true;
        if (!ask_progress_step(&p, progress->dirty_bytes, patience_s)) {
            rc = -ETIMEDOUT;
            break;
        }
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 50000000)
            pause.tv_nsec *= 2;
    }
    if (begun)
        ask_progress_end(&p);
    return rc;
}
