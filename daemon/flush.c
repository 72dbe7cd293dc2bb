// SPDX-License-Identifier: Apache-2.0
/* `nfscached flush` and `nfscached revalidate`: one job each, on a mount or one of its files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ask.h"
#include "daemon/verbs.h"

/* Runs one job on what `path` names; prints what went wrong. The exit status. */
static int run(enum control_client_job job, const char *path, unsigned patience_s,
               struct control_progress *progress)
{
    struct mount_list mounts;
    struct mount_file file;
    struct control_client *c = NULL;
    char err[512];
    uint32_t id;
    int status = EXIT_FAILED;

    int rc = mounts_read(&mounts);
    if (rc < 0)
        return verb_fail(EXIT_SYSTEM, "/proc/self/mountinfo: %s", strerror(-rc));
    rc = mounts_file(&mounts, path, &file, err, sizeof err);
    if (rc < 0) {
        mounts_free(&mounts);
        return verb_fail(EXIT_USAGE, "%s", err);
    }
    rc = ask_connect(file.mount, &c);
    if (rc < 0) {
        status = rc == -EACCES || rc == -EPERM ? EXIT_USAGE : EXIT_FAILED;
        goto out;
    }
    rc = control_job_start(c, job, file.path, file.ino, &id);
    if (rc == 0)
        rc = ask_wait(c, id, patience_s, progress);
    if (rc == 0)
        status = EXIT_OK;
    else if (rc == -EBUSY)
        verb_fail(0, "%s: too many requests are waiting for the server already", path);
    else if (rc == -ETIMEDOUT && patience_s)
        verb_fail(0, "%s: nothing moved for %u s; the daemon goes on trying", path, patience_s);
    else
        verb_fail(0, "%s: %s", path, strerror(-rc));
out:
    control_disconnect(c);
    free(file.path);
    mounts_free(&mounts);
    return status;
}

static const char *one_path(poptContext context)
{
    const char *path = poptGetArg(context);

    if (!path)
        verb_fail(0, "which MOUNTPOINT or FILE?");
    else if (poptPeekArg(context)) {
        verb_fail(0, "one MOUNTPOINT or FILE at a time: '%s' is one too many",
                  poptPeekArg(context));
        path = NULL;
    }
    return path;
}

/* The same for what the command line gave: NULL for a path that was refused, a limit to be checked.
 */
static int run_for(enum control_client_job job, const char *path, int timeout,
                   struct control_progress *progress)
{
    if (!path)
        return EXIT_USAGE;
    if (timeout < 0)
        return verb_fail(EXIT_USAGE, "--timeout=%d: expected a number of seconds, 0 or more",
                         timeout);
    return run(job, path, (unsigned)timeout, progress);
}

int verb_flush(int argc, const char **argv)
{
    int drop = 0, timeout = 0;
    const struct poptOption table[] = {
        {"drop", 'd', POPT_ARG_NONE, &drop, 0,
         "afterwards, drop the clean pages from the daemon's cache", NULL},
        {"timeout", 't', POPT_ARG_INT, &timeout, 0,
         "give up when nothing moved for so long (0, the default: never)", "SECONDS"},
        POPT_AUTOHELP POPT_TABLEEND};
    struct control_progress progress;

    poptContext context = verb_options(argc, argv, table, "[OPTION]... MOUNTPOINT|FILE");
    if (!context)
        return EXIT_USAGE;
    const char *path = one_path(context);
    int status = run_for(JOB_FLUSH, path, timeout, &progress);

    if (status == EXIT_OK && drop) {
        status = run(JOB_DROP, path, 0, &progress);
        if (status == EXIT_OK)
            printf("%llu pages dropped\n", (unsigned long long)progress.value);
    }
    poptFreeContext(context);
    return status;
}

int verb_revalidate(int argc, const char **argv)
{
    int timeout = 0;
    const struct poptOption table[] = {
        {"timeout", 't', POPT_ARG_INT, &timeout, 0,
         "give up when nothing moved for so long (0, the default: never)", "SECONDS"},
        POPT_AUTOHELP POPT_TABLEEND};
    struct control_progress progress;

    poptContext context = verb_options(argc, argv, table, "[OPTION]... MOUNTPOINT|FILE");
    if (!context)
        return EXIT_USAGE;
    const char *path = one_path(context);
    int status = run_for(JOB_REVALIDATE, path, timeout, &progress);

    poptFreeContext(context);
    return status;
}
