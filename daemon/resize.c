// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached resize`: gives a mount's cache another size while it is in use.
 *
 *   start      the daemon begins; what is to become smaller evicts, writes back, moves pages
 *   wait       with progress on standard error after a second
 *   stop       an interrupt (or --timeout with nothing moving) asks the daemon to leave it at what
 * is reached, and waits for that; a second interrupt ends this command at once, and the daemon goes
 * on
 *
 * Errors: the daemon refuses what is below 16 MiB or above what it has address space for, and a
 * second resize at the same time. Nothing is lost or dropped dirty by any of them.
 */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/ask.h"
#include "daemon/options.h"
#include "daemon/verbs.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    interrupted = 1;
    signal(sig, SIG_DFL);
}

/* `idle`: it was stopped because nothing moved any more. */
static int wait_for_end(struct control_client *c, uint32_t id, unsigned patience_s,
                        struct control_resize *z, bool *idle)
{
    struct timespec pause = {.tv_nsec = 500000};
    struct ask_progress p;
    bool begun = false, stopped = false;
    int rc;

    *idle = false;
    while ((rc = control_resize_poll(c, id, z)) == -EINPROGRESS) {
        if (!begun) {
            ask_progress_begin(&p, z->left);
            p.what = "making room";
        }
        begun = true;
        *idle |= !ask_progress_step(&p, z->left, patience_s) && !stopped && !interrupted;
        if ((interrupted || *idle) && !stopped) {
            control_resize_stop(c);
            stopped = true;
        }
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 50000000)
            pause.tv_nsec *= 2;
    }
    if (begun)
        ask_progress_end(&p);
    return rc;
}

static void print_json(const char *mountpoint, const struct control_resize *z, bool complete)
{
    json_t *o = json_object();

    json_object_set_new(o, "mountpoint", json_string(mountpoint));
    json_object_set_new(o, "was", json_integer((json_int_t)z->was));
    json_object_set_new(o, "size", json_integer((json_int_t)z->size));
    json_object_set_new(o, "target", json_integer((json_int_t)z->target));
    json_object_set_new(o, "complete", json_boolean(complete));
    json_object_set_new(o, "moved", json_integer((json_int_t)z->moved));
    json_object_set_new(o, "evicted", json_integer((json_int_t)z->evicted));
    json_object_set_new(o, "returned", json_integer((json_int_t)z->returned));
    json_object_set_new(o, "dirty_limit", json_integer((json_int_t)z->dirty_limit));
    json_object_set_new(o, "dirty_background", json_integer((json_int_t)z->dirty_background));
    json_object_set_new(o, "limits_clamped", json_boolean(z->clamped));
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

static void print_result(const char *path, const struct control_resize *z)
{
    char was[32], now[32], back[32], limit[32], background[32];

    printf("%s: cache of %s now %s; %llu pages moved, %llu evicted, %s of memory returned\n", path,
           ask_bytes(z->was, was), ask_bytes(z->size, now), (unsigned long long)z->moved,
           (unsigned long long)z->evicted, ask_bytes(z->returned, back));
    if (z->clamped)
        printf("%s: dirty_limit is %s, dirty_background %s: what was given in bytes does not fit\n",
               path, ask_bytes(z->dirty_limit, limit), ask_bytes(z->dirty_background, background));
}

static int fail(const char *path, int rc, bool idle, unsigned patience_s,
                const struct control_resize *z)
{
    char a[32], b[32];

    switch (rc) {
    case -EINTR:
        if (idle)
            return verb_fail(EXIT_FAILED,
                             "%s: nothing moved for %u s (a server that is away keeps pages that "
                             "cannot go): left at %s of memory for the cache",
                             path, patience_s, ask_bytes(z->size, a));
        return verb_fail(EXIT_FAILED, "%s: stopped; left at %s of memory for the cache", path,
                         ask_bytes(z->size, a));
    case -ECONNRESET:
        return verb_fail(EXIT_FAILED, "%s: the mount has ended meanwhile", path);
    case -EBUSY:
        return verb_fail(EXIT_FAILED, "%s: another resize is under way", path);
    case -ERANGE:
        return verb_fail(EXIT_USAGE, "%s: expected a size from %s to %s", path,
                         ask_bytes(z->least, a), ask_bytes(z->most, b));
    default:
        return verb_fail(EXIT_FAILED, "%s: %s", path, strerror(-rc));
    }
}

static int run(const char *path, uint64_t size, unsigned patience_s, bool as_json)
{
    struct mount_list mounts;
    struct control_client *c = NULL;
    struct control_resize z = {0};
    char err[512];
    uint32_t id;
    bool idle = false;
    int status = EXIT_FAILED;

    int rc = mounts_read(&mounts);
    if (rc < 0)
        return verb_fail(EXIT_SYSTEM, "/proc/self/mountinfo: %s", strerror(-rc));
    const struct mount_entry *mount = mounts_at(&mounts, path, err, sizeof err);
    if (!mount) {
        mounts_free(&mounts);
        return verb_fail(EXIT_USAGE, "%s", err);
    }
    rc = ask_connect(mount, &c);
    if (rc < 0) {
        status = rc == -EACCES || rc == -EPERM ? EXIT_USAGE : EXIT_FAILED;
        goto out;
    }
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    rc = control_resize_start(c, size, &id);
    if (rc == 0)
        rc = wait_for_end(c, id, patience_s, &z, &idle);
    if (as_json && (rc == 0 || rc == -EINTR))
        print_json(mount->mountpoint, &z, rc == 0);
    else if (rc == 0)
        print_result(path, &z);
    status = rc == 0 ? EXIT_OK : fail(path, rc, idle, patience_s, &z);
out:
    control_disconnect(c);
    mounts_free(&mounts);
    return status;
}

int verb_resize(int argc, const char **argv)
{
    int timeout = 0, as_json = 0;
    const struct poptOption table[] = {
        {"json", 'j', POPT_ARG_NONE, &as_json, 0, "print the result as JSON", NULL},
        {"timeout", 't', POPT_ARG_INT, &timeout, 0,
         "stop when nothing moved for so long (0, the default: never)", "SECONDS"},
        POPT_AUTOHELP POPT_TABLEEND};
    char err[OPTIONS_ERROR_MAX];
    uint64_t size = 0;
    int status;

    poptContext context = verb_options(argc, argv, table, "[OPTION]... MOUNTPOINT SIZE");
    if (!context)
        return EXIT_USAGE;
    const char *path = poptGetArg(context);
    const char *text = path ? poptGetArg(context) : NULL;
    if (!text)
        status = verb_fail(EXIT_USAGE, "expected MOUNTPOINT SIZE");
    else if (poptPeekArg(context))
        status = verb_fail(EXIT_USAGE, "'%s' is one argument too many", poptPeekArg(context));
    else if (timeout < 0)
        status =
            verb_fail(EXIT_USAGE, "--timeout=%d: expected a number of seconds, 0 or more", timeout);
    else if (!options_parse_cache_size(&size, text, 0, err))
        status = verb_fail(EXIT_USAGE, "%s", err);
    else
        status = run(path, size, (unsigned)timeout, as_json);
    poptFreeContext(context);
    return status;
}
