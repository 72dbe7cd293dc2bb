// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached status`: what a mount holds and what it did, as the daemon's JSON or as a page for
 * people. Without a mountpoint: one line for each mount of the user (root: of everybody).
 *
 * The JSON is the daemon's own (daemon/stats_json.c describes it); the page is made from it here,
 * so that the two never tell different things.
 */
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ask.h"
#include "daemon/verbs.h"

static json_t *ask(const struct mount_entry *mount, bool quiet)
{
    struct control_client *c;
    char *text = NULL;

    int rc = quiet ? control_connect(mount->dev, mount->owner, &c) : ask_connect(mount, &c);
    if (rc < 0)
        return NULL;
    rc = control_status(c, &text);
    control_disconnect(c);
    if (rc < 0) {
        if (!quiet)
            verb_fail(0, "%s: %s", mount->mountpoint, strerror(-rc));
        return NULL;
    }
    json_t *status = json_loads(text, 0, NULL);
    free(text);
    if (!status && !quiet)
        verb_fail(0, "%s: its daemon's answer is not understood (another version?)",
                  mount->mountpoint);
    return status;
}

static const char *text_of(json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static uint64_t number_of(json_t *o, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(o, key));
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* "  dirty        12 pages    48.0 KiB" */
static void print_pages(json_t *cache, const char *key, const char *what)
{
    char size[32];
    uint64_t pages = number_of(cache, key);

    printf("  %-10s %10llu pages  %12s   %s\n", key, (unsigned long long)pages,
           ask_bytes(pages * 4096, size), what);
}

static void print_duration(uint64_t s)
{
    if (s >= 86400)
        printf("%llu d ", (unsigned long long)(s / 86400));
    if (s >= 3600)
        printf("%llu h ", (unsigned long long)(s / 3600 % 24));
    if (s >= 60)
        printf("%llu min ", (unsigned long long)(s / 60 % 60));
    printf("%llu s", (unsigned long long)(s % 60));
}

static const char *server_state(json_t *s)
{
    if (!json_is_true(json_object_get(s, "responding")))
        return "NOT RESPONDING";
    if (number_of(json_object_get(s, "network"), "up") == 0)
        return "NOT CONNECTED";
    return "responding";
}

static void print_server(json_t *s)
{
    json_t *last = json_object_get(s, "last_error");

    printf("server         %s, %s\n", text_of(s, "server"), server_state(s));
    printf("options        %s\n", text_of(s, "options"));
    printf("transfer size  %llu bytes a READ, %llu a WRITE\n",
           (unsigned long long)number_of(s, "rsize"), (unsigned long long)number_of(s, "wsize"));
    printf("mounted for    ");
    print_duration(number_of(s, "uptime_s"));
    printf(", process %llu, version %s\n", (unsigned long long)number_of(s, "pid"),
           text_of(s, "version"));
    if (*text_of(last, "text"))
        printf("last error     %s, %llu s ago\n", text_of(last, "text"),
               (unsigned long long)number_of(last, "age_s"));
}

static void print_cache(json_t *s)
{
    json_t *c = json_object_get(s, "cache"), *ra = json_object_get(s, "readahead");
    json_t *r = json_object_get(s, "revalidation"), *w = json_object_get(s, "writeback");
    char a[32], b[32], d[32];
    uint64_t hits = number_of(c, "hits"), misses = number_of(c, "misses");

    printf("\ncache          %s of %s in use, at most %llu bytes of metadata a page\n",
           ask_bytes(number_of(c, "pages") * 4096, a), ask_bytes(number_of(c, "size"), b),
           (unsigned long long)number_of(c, "metadata_bytes_page"));
    printf("  %s of memory with all records; it may be resized to %s\n",
           ask_bytes(number_of(c, "memory"), a), ask_bytes(number_of(c, "size_max"), b));
    print_pages(c, "clean", "as the server has it");
    print_pages(c, "dirty", "not sent yet");
    print_pages(c, "writeback", "being sent");
    print_pages(c, "unstable", "sent, not committed yet");
    print_pages(c, "pinned", "in use by a request");
    print_pages(c, "mapped", "the kernel has a copy");
    printf("  %s dirty; writeback from %s, writers slowed from %s\n",
           ask_bytes(number_of(c, "dirty_bytes"), a),
           ask_bytes(number_of(c, "dirty_background"), b),
           ask_bytes(number_of(c, "dirty_limit"), d));
    printf("reads          %.1f%% of %llu pages found in the cache\n", percent(hits, hits + misses),
           (unsigned long long)(hits + misses));
    printf("readahead      %llu pages, %.1f%% used, %.1f%% wasted\n",
           (unsigned long long)number_of(ra, "pages"),
           percent(number_of(ra, "used"), number_of(ra, "pages")),
           percent(number_of(ra, "wasted"), number_of(ra, "pages")));
    printf("revalidations  %llu asked, %llu found a change: %llu pages dropped, %llu kept because "
           "dirty, %llu second unmaps\n",
           (unsigned long long)number_of(r, "asked"), (unsigned long long)number_of(r, "changed"),
           (unsigned long long)number_of(r, "dropped"), (unsigned long long)number_of(r, "kept"),
           (unsigned long long)number_of(r, "second_unmaps"));
    printf("writeback      %s in %llu writes, %llu commits, %llu errors, %llu server restarts "
           "noticed, writers slowed %llu times\n",
           ask_bytes(number_of(w, "bytes"), a), (unsigned long long)number_of(w, "writes"),
           (unsigned long long)number_of(w, "commits"), (unsigned long long)number_of(w, "errors"),
           (unsigned long long)number_of(w, "verifier_changes"),
           (unsigned long long)number_of(w, "throttled"));
    if (number_of(c, "alarms"))
        printf("ALARMS         %llu mapped pages came back without their twin (please report)\n",
               (unsigned long long)number_of(c, "alarms"));
}

static void print_rpc(json_t *s)
{
    json_t *rpc = json_object_get(s, "rpc"), *p;
    const char *name;

    printf("\n%-12s %10s %8s %8s %8s  %8s %8s %8s %9s  us\n", "RPC", "calls", "errors", "again",
           "jukebox", "p50", "p90", "p99", "max");
    json_object_foreach(rpc, name, p)
    {
        if (number_of(p, "calls"))
            printf("%-12s %10llu %8llu %8llu %8llu  %8llu %8llu %8llu %9llu\n", name,
                   (unsigned long long)number_of(p, "calls"),
                   (unsigned long long)number_of(p, "errors"),
                   (unsigned long long)number_of(p, "retransmits"),
                   (unsigned long long)number_of(p, "jukebox"),
                   (unsigned long long)number_of(p, "p50_us"),
                   (unsigned long long)number_of(p, "p90_us"),
                   (unsigned long long)number_of(p, "p99_us"),
                   (unsigned long long)number_of(p, "max_us"));
    }
    json_t *n = json_object_get(s, "network");
    printf("connections    %llu up of %llu; %llu reconnects, %llu retransmissions, %llu timeouts, "
           "%llu garbled replies\n",
           (unsigned long long)number_of(n, "up"), (unsigned long long)number_of(n, "connections"),
           (unsigned long long)number_of(n, "reconnects"),
           (unsigned long long)number_of(n, "retransmits"),
           (unsigned long long)number_of(n, "timeouts"),
           (unsigned long long)number_of(n, "garbled"));
}

static void print_files(json_t *s)
{
    json_t *files = json_object_get(s, "files"), *f;
    char size[32];
    size_t i;

    if (json_array_size(files))
        printf("\nfiles with bytes that the server has not committed\n");
    json_array_foreach(files, i, f)
    {
        const char *path = json_string_value(json_object_get(f, "path"));
        if (path)
            printf("  %s", path);
        else
            printf("  file number %llu", (unsigned long long)number_of(f, "ino"));
        printf(": %s%s%s\n", ask_bytes(number_of(f, "bytes"), size),
               *text_of(f, "error") ? ", last error: " : "", text_of(f, "error"));
    }
}

static void print_one(json_t *s)
{
    printf("%s on %s\n", text_of(s, "source"), text_of(s, "mountpoint"));
    print_server(s);
    print_cache(s);
    print_rpc(s);
    print_files(s);
}

static int one(const struct mount_list *mounts, const char *path, bool as_json)
{
    struct mount_file file;
    char err[512];

    const struct mount_entry *mount = mounts_at(mounts, path, err, sizeof err);
    if (!mount) {
        /* A file or directory inside will do as well. */
        if (mounts_file(mounts, path, &file, err, sizeof err) < 0)
            return verb_fail(EXIT_USAGE, "%s", err);
        mount = file.mount;
        free(file.path);
    }
    json_t *s = ask(mount, false);
    if (!s)
        return EXIT_FAILED;
    if (as_json) {
        json_dumpf(s, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_one(s);
    }
    json_decref(s);
    return EXIT_OK;
}

static void print_line(const struct mount_entry *m, json_t *s)
{
    char pages[32], dirty[32];
    json_t *c = json_object_get(s, "cache");

    printf("%-24s %-28s ", m->mountpoint, m->source);
    if (!s)
        puts("its daemon does not answer");
    else
        printf("%11s %11s  %s\n", ask_bytes(number_of(c, "pages") * 4096, pages),
               ask_bytes(number_of(c, "dirty_bytes"), dirty), server_state(s));
}

/* A mount may be seen at several places (bind mounts): the first is enough. */
static bool seen_before(const struct mount_list *mounts, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (mounts->entries[j].is_ours && mounts->entries[j].dev == mounts->entries[i].dev)
            return true;
    return false;
}

static int all(const struct mount_list *mounts, bool as_json)
{
    json_t *array = json_array();
    unsigned found = 0;

    for (size_t i = 0; i < mounts->count; i++) {
        const struct mount_entry *m = &mounts->entries[i];
        if (!m->is_ours || (geteuid() != 0 && m->owner != geteuid()) || seen_before(mounts, i))
            continue;
        json_t *s = ask(m, true);
        if (!as_json && found++ == 0)
            printf("%-24s %-28s %11s %11s  %s\n", "MOUNTPOINT", "SOURCE", "CACHED", "DIRTY",
                   "SERVER");
        if (!as_json)
            print_line(m, s);
        else if (s)
            json_array_append(array, s);
        json_decref(s);
    }
    if (as_json) {
        json_dumpf(array, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (!found) {
        puts("nothing is mounted");
    }
    json_decref(array);
    return EXIT_OK;
}

int verb_status(int argc, const char **argv)
{
    int as_json = 0;
    const struct poptOption table[] = {
        {"json", 'j', POPT_ARG_NONE, &as_json, 0, "print it all as JSON", NULL},
        POPT_AUTOHELP POPT_TABLEEND};
    struct mount_list mounts;

    poptContext context = verb_options(argc, argv, table, "[--json] [MOUNTPOINT]");
    if (!context)
        return EXIT_USAGE;
    const char *path = poptGetArg(context);
    int status = EXIT_USAGE;
    int rc = mounts_read(&mounts);
    if (rc < 0)
        status = verb_fail(EXIT_SYSTEM, "/proc/self/mountinfo: %s", strerror(-rc));
    else if (poptPeekArg(context))
        verb_fail(0, "one MOUNTPOINT at a time: '%s' is one too many", poptPeekArg(context));
    else if (path)
        status = one(&mounts, path, as_json);
    else
        status = all(&mounts, as_json);
    mounts_free(&mounts);
    poptFreeContext(context);
    return status;
}
