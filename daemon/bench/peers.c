// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached bench peers`: the same work on every client there is, side by side.
 *
 *   guest   an emulated machine with two CPUs and Debian's kernel, and Linux's own NFS server in
 * it: the kernel's client by NFSv3 and by NFSv4.2, sshfs, the synchronous client on libnfs
 *           (tests/bench/naivenfs.c), ours; a local file system and the limits of that machine
 *   host    nfs-ganesha on this machine: ours, the synchronous client, the limits
 *
 * Both are the business of scripts (tests/peers/): they prepare mounts, run `nfscached bench io`,
 * `meta`, ... of this very program on all of them at once (so that repetitions are interleaved
 * between clients), and write to standard output
 *
 *   nfscached.result LABEL  the lines up to nfscached.end are a result, as --json makes it; LABEL
 *                           (or nothing) tells apart runs that measure the same
 *   nfscached.end
 *   peers: TEXT             progress
 *   ...                     anything else is for people
 *
 * The results become one, with targets named after the place: "guest:ours". A script that lacks
 * something says what and exits with 77: its place is left out, which is a failure. One whose time
 * is up interrupts what runs, hands over what there is, and exits with 124.
 */
#include "daemon/bench/peers.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/verbs.h"

#define MISSING    77
#define TIME_IS_UP 124

static const struct place {
    const char *name, *script, *note;
    int seconds; /* at most, in full */
} places[] = {
    {"guest", "bench-guest",
     "in an emulated machine, where a system call takes about 3, a change of threads 1.6, and a "
     "copy "
     "9 times as long as on a real one",
     510},
    {"host", "bench-host", "on this machine", 335},
};

enum { PLACES = sizeof places / sizeof places[0] };

/* ---- running a script ------------------------------------------------------------------------ */

struct run {
    const struct place *place;
    json_t *all;
    pid_t pid;
    size_t results;
    char label[32];
    char *text; /* of the result that is being received; NULL: none is */
    size_t length;
    bool broken, quiet;
};

static void take_result(struct run *r)
{
    json_error_t error;
    json_t *part = json_loadb(r->text, r->length, 0, &error);

    if (part && strcmp(text_at(part, "schema"), RESULT_SCHEMA) == 0 &&
        (int)number_at(part, "schema_version") == RESULT_VERSION) {
        peers_merge(r->all, part, r->place->name, r->place->note, r->label);
        r->results++;
    } else {
        bench_fail(0, "%s: a result that cannot be read (%s)", r->place->name,
                   part ? "of another version" : error.text);
        r->broken = true;
    }
    json_decref(part);
    free(r->text);
    r->text = NULL;
}

static void take_line(struct run *r, const char *line, size_t n)
{
    if (strncmp(line, "nfscached.result", 16) == 0) {
        *r->label = 0;
        sscanf(line + 16, " %31s", r->label);
        free(r->text);
        r->text = calloc(1, 1);
        r->length = 0;
    } else if (r->text && strcmp(line, "nfscached.end\n") == 0) {
        take_result(r);
    } else if (r->text) {
        char *more = realloc(r->text, r->length + n + 1);

        if (!more)
            exit(bench_fail(BENCH_FAILED, "out of memory"));
        r->text = more;
        memcpy(r->text + r->length, line, n + 1);
        r->length += n;
    } else if (!r->quiet || strncmp(line, "peers: ", 7) != 0) {
        fprintf(stderr, "%s %s", r->place->name, line);
    }
}

/* The script and all it started are a process group: what is left of it ends with it. */
static int end_of(struct run *r)
{
    int status = 0;

    if (bench_stopped())
        kill(-r->pid, SIGTERM);
    while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
        if (bench_stopped())
            kill(-r->pid, SIGTERM);
    kill(-r->pid, SIGKILL);
    return WIFEXITED(status) ? WEXITSTATUS(status) : BENCH_FAILED;
}

static int run_script(struct run *r, const char **argv)
{
    int out[2];
    char *line = NULL;
    size_t room = 0;
    ssize_t n;

    if (pipe2(out, O_CLOEXEC))
        return bench_fail(BENCH_FAILED, "pipe: %s", strerror(errno));
    r->pid = fork();
    if (r->pid == 0) {
        setpgid(0, 0);
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        dup2(out[1], 1);
        execvp(argv[0], (char **)argv);
        _exit(127);
    }
    close(out[1]);
    if (r->pid < 0) {
        close(out[0]);
        return bench_fail(BENCH_FAILED, "fork: %s", strerror(errno));
    }
    setpgid(r->pid, r->pid);

    FILE *f = fdopen(out[0], "r");

    while (f && !bench_stopped() && (n = getline(&line, &room, f)) > 0)
        take_line(r, line, (size_t)n);
    free(line);

    int status = end_of(r);

    if (f)
        fclose(f);
    if (r->text) {
        bench_fail(0, "%s: a result was cut off", r->place->name);
        free(r->text);
        r->text = NULL;
        r->broken = true;
    }
    return status;
}

/* ---- finding the pieces ---------------------------------------------------------------------- */

static bool exists(const char *directory, const char *file, char path[PATH_MAX])
{
    return snprintf(path, PATH_MAX, "%s/%s", directory, file) < PATH_MAX && access(path, R_OK) == 0;
}

/* The directory of the scripts: what was said, installed beside the program, or the source tree
 * that it was built from. */
static bool find_harness(const char *said, const char *self, char path[PATH_MAX])
{
    char program[PATH_MAX], installed[PATH_MAX + 32], probe[PATH_MAX];

    snprintf(program, sizeof program, "%s", self);
    snprintf(installed, sizeof installed, "%s/../share/nfscached/peers", dirname(program));

    const char *candidates[] = {said ? said : installed, said ? NULL : PEERS_SOURCE};

    for (size_t i = 0; i < 2 && candidates[i]; i++)
        if (exists(candidates[i], "bench-place", probe) && realpath(candidates[i], path))
            return true;
    bench_fail(0,
               "no scripts (bench-place and others) in %s%s%s; give their directory by --harness",
               candidates[0], candidates[1] ? " or " : "", candidates[1] ? candidates[1] : "");
    return false;
}

/* A helper program of ours: installed, or in the build folder. "" if there is none. */
static void find_program(const char *self, const char *name, char path[PATH_MAX])
{
    static const char *const where[] = {"../libexec/nfscached", "../tests/bench"};
    char program[PATH_MAX], directory[PATH_MAX + 32];

    for (size_t i = 0; i < sizeof where / sizeof where[0]; i++) {
        snprintf(program, sizeof program, "%s", self);
        snprintf(directory, sizeof directory, "%s/%s", dirname(program), where[i]);
        if (exists(directory, name, path))
            return;
    }
    *path = 0;
}

/* ---- the verb -------------------------------------------------------------------------------- */

static bool wanted(const char *only, const char *place)
{
    const char *at = only ? strstr(only, place) : place;

    return at != NULL;
}

static bool check_only(const char *only)
{
    return !only || strcmp(only, "guest") == 0 || strcmp(only, "host") == 0 ||
           strcmp(only, "guest,host") == 0 || strcmp(only, "host,guest") == 0;
}

/* What other clients lose, or cannot do, is a result, and no failure. */
static bool ours_lost(json_t *all)
{
    bool lost = false;

    for (int i = 0; i < PLACES; i++) {
        char ours[64];

        snprintf(ours, sizeof ours, "%s:ours", places[i].name);
        lost = lost || peers_sum(all, ours, "lost_writes") > 0 ||
               peers_sum(all, ours, "lost_foreign") > 0;
    }
    return lost;
}

static bool ours_failed(json_t *all)
{
    bool failed = false;
    char name[384];
    json_t *c;
    size_t i;

    json_array_foreach(json_object_get(all, "cells"), i, c)
    {
        const char *target = strchr(text_at(c, "target"), ':');

        if (!*text_at(c, "failed"))
            continue;
        cell_name(c, name, sizeof name);
        bench_fail(0, "%s: %s", name, text_at(c, "failed"));
        failed = failed || (target && strcmp(target, ":ours") == 0);
    }
    return failed;
}

struct peers_options {
    struct bench_options b;
    int seconds;
    char *only, *harness, *cells, *from, *markdown, *plots;
};

/* The program, its scripts, the synchronous client, and numbers as text. */
struct kit {
    char self[PATH_MAX], harness[PATH_MAX], naive[PATH_MAX], reps[16], seed[24];
};

static int prepare(const struct peers_options *o, struct kit *k)
{
    ssize_t n = readlink("/proc/self/exe", k->self, sizeof k->self - 1);

    if (geteuid() != 0)
        return bench_fail(BENCH_USAGE, "it mounts and serves: that needs root");
    if (n <= 0)
        return BENCH_FAILED;
    k->self[n] = 0;
    if (!find_harness(o->harness, k->self, k->harness))
        return BENCH_FAILED;
    find_program(k->self, "naivenfs", k->naive);
    snprintf(k->reps, sizeof k->reps, "%d", o->b.reps > 0 ? o->b.reps : o->b.quick);
    snprintf(k->seed, sizeof k->seed, "%lld", o->b.seed >= 0 ? o->b.seed : (long long)getpid());
    return BENCH_OK;
}

static int run_place(const struct place *place, const struct peers_options *o, const struct kit *k,
                     json_t *all, size_t *done)
{
    struct run r = {.place = place, .all = all, .quiet = o->b.quiet};
    char script[PATH_MAX + 32], limit[16];

    snprintf(script, sizeof script, "%s/%s", k->harness, place->script);
    snprintf(limit, sizeof limit, "%d",
             o->seconds > 0 ? o->seconds
             : o->b.quick   ? 100
                            : place->seconds);

    const char *args[] = {"bash",  script,   limit,
                          k->self, k->naive, o->b.quick ? "quick" : "full",
                          k->reps, k->seed,  o->cells ? o->cells : "io,meta,revalidate,limits",
                          NULL};
    int rc = run_script(&r, args);

    *done += r.results;
    peers_ratios(all, place->name);
    if (bench_stopped())
        return BENCH_INTERRUPTED;
    if (rc == MISSING)
        return bench_fail(BENCH_FAILED, "%s: left out, see above", place->name);
    if (rc == TIME_IS_UP)
        return bench_fail(BENCH_FAILED, "%s: not finished in %s s (--seconds)", place->name, limit);
    if (rc || r.broken || !r.results)
        return bench_fail(BENCH_FAILED, "%s: the script ended with status %d", place->name, rc);
    return BENCH_OK;
}

/* All places in turn. NULL: nothing was measured; *status says how it went. */
static json_t *measure(const struct peers_options *o, int argc, const char **argv, int *status)
{
    struct kit *k = calloc(1, sizeof *k);
    uint64_t start = bench_now();
    size_t done = 0;

    *status = k ? prepare(o, k) : BENCH_FAILED;
    if (*status) {
        free(k);
        return NULL;
    }

    struct matrix *none = matrix_new();
    json_t *all = result_make(none, argc, argv);

    matrix_free(none);
    json_object_set_new(all, "seed", json_integer(strtoll(k->seed, NULL, 10)));
    for (int i = 0; i < PLACES && !bench_stopped(); i++) {
        if (!wanted(o->only, places[i].name))
            continue;

        int rc = run_place(&places[i], o, k, all, &done);

        *status = rc ? rc : *status;
    }
    json_object_set_new(all, "seconds", json_real((double)(bench_now() - start) / 1e9));
    if (bench_stopped())
        json_object_set_new(all, "interrupted", json_true());
    free(k);
    if (!done) {
        json_decref(all);
        return NULL;
    }
    return all;
}

/* All that is made of the result. */
static int publish(json_t *all, const struct peers_options *o)
{
    int status = BENCH_OK;

    peers_aims(all);
    if (!o->b.quiet && !(o->b.json && strcmp(o->b.json, "-") == 0)) {
        for (int i = 0; i < PLACES; i++)
            peers_table_print(all, places[i].name);
        peers_aims_print(all);
    }
    if (o->b.json && result_save(all, o->b.json) < 0)
        status = BENCH_FAILED;
    if (o->b.report) {
        json_t *results = json_pack("[O]", all);

        if (report_write(results, o->b.report) < 0)
            status = BENCH_FAILED;
        json_decref(results);
    }
    if (o->markdown && peers_aims_markdown(all, o->markdown) < 0)
        status = BENCH_FAILED;
    if (o->plots && peers_plots(all, o->plots) < 0)
        status = BENCH_FAILED;
    return status;
}

int bench_peers(int argc, const char **argv)
{
    struct peers_options o = {.b = BENCH_OPTIONS_INIT};
    const struct poptOption table[] = {
        {"only", 0, POPT_ARG_STRING, &o.only, 0, "guest or host (default: both)", "PLACE"},
        {"cells", 0, POPT_ARG_STRING, &o.cells, 0,
         "of io,meta,revalidate,limits only these (default: all)", "LIST"},
        {"seconds", 0, POPT_ARG_INT, &o.seconds, 0,
         "a place may take at most so long (default: guest 510, host 335; 100 with --quick)", "N"},
        {"harness", 0, POPT_ARG_STRING, &o.harness, 0,
         "where the scripts are (default: as installed, or in the source tree)", "DIR"},
        {"from", 0, POPT_ARG_STRING, &o.from, 0,
         "measure nothing: the tables and the page of an earlier result", "FILE.json"},
        {"markdown", 0, POPT_ARG_STRING, &o.markdown, 0, "write the aims as a Markdown table",
         "FILE"},
        {"plots", 0, POPT_ARG_STRING, &o.plots, 0, "write the figures of the aims there, as SVG",
         "DIR"},
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, bench_options_table(&o.b), 0, "All benchmarks:", NULL},
        POPT_AUTOHELP POPT_TABLEEND};
    poptContext context = verb_options(argc, argv, table, "[OPTION...]");
    int status = BENCH_OK;

    if (!context)
        return BENCH_USAGE;
    if (poptPeekArg(context))
        status = bench_fail(BENCH_USAGE, "'%s': it takes no arguments", poptPeekArg(context));
    poptFreeContext(context);
    if (status || !bench_options_check(&o.b))
        return BENCH_USAGE;
    if (!check_only(o.only))
        return bench_fail(BENCH_USAGE, "--only=%s: expected guest or host", o.only);

    json_t *all = o.from ? result_load(o.from) : measure(&o, argc, argv, &status);

    if (!all)
        return status ? status : BENCH_FAILED;

    int rc = publish(all, &o);

    status = status ? status : rc;
    if (status == BENCH_OK && ours_failed(all))
        status = BENCH_FAILED;
    if (status == BENCH_OK && ours_lost(all))
        status = BENCH_FOUND;
    json_decref(all);
    return status;
}
