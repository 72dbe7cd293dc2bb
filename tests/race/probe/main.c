// SPDX-License-Identifier: Apache-2.0
/*
 * The command line of the prober, and the run of its checks one after the other. This process
 * touches no file system under test: all is done by children that it can outlive (crew.c).
 *
 * Exit status: 0 nothing found, 1 something found (a hang as well), 2 wrong arguments, or the
 * environment did not let it run to the end; one line on stderr names the option and the file.
 */
#include "tests/race/probe/probe.h"
#include "tests/race/probe/report.h"

#include <errno.h>
#include <popt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    char *mount, *mount2, *server, *expect, *only, *break_cmd, *mend_cmd;
    double seconds, fresh, stall;
    long rounds, fill_max;
    long long seed;
    int pages, processes, json, fill, list;
} opt;

static const struct poptOption table[] = {
    {"mount", 'm', POPT_ARG_STRING, &opt.mount, 0, "the file system under test", "DIR"},
    {"mount2", '2', POPT_ARG_STRING, &opt.mount2, 0,
     "the same directory through another client, or another mount", "DIR"},
    {"server-dir", 'd', POPT_ARG_STRING, &opt.server, 0, "the same directory at the server", "DIR"},
    {"expect", 'e', POPT_ARG_STRING, &opt.expect, 0,
     "what it promises: close-to-open (default), coherent, local", "LEVEL"},
    {"fresh", 0, POPT_ARG_DOUBLE, &opt.fresh, 0,
     "without an open a change is seen after so long: coherent promises it (default 5)", "SECONDS"},
    {"seconds", 's', POPT_ARG_DOUBLE, &opt.seconds, 0, "how long in all (default 30)", "N"},
    {"rounds", 'r', POPT_ARG_LONG, &opt.rounds, 0, "rounds of each check, instead of a time", "N"},
    {"check", 'c', POPT_ARG_STRING, &opt.only, 0, "only these checks (see --list)",
     "NAME[,NAME...]"},
    {"list", 'l', POPT_ARG_NONE, &opt.list, 0, "list the checks and end", NULL},
    {"pages", 0, POPT_ARG_INT, &opt.pages, 0, "size of the files in pages (default 64)", "N"},
    {"processes", 0, POPT_ARG_INT, &opt.processes, 0, "writing processes (default 3)", "N"},
    {"seed", 0, POPT_ARG_LONGLONG, &opt.seed, 0, "use these random numbers (printed)", "N"},
    {"stall", 0, POPT_ARG_DOUBLE, &opt.stall, 0, "without progress for so long: hung (default 60)",
     "SECONDS"},
    {"fill", 0, POPT_ARG_NONE, &opt.fill, 0, "also fill the file system to its end", NULL},
    {"fill-max", 0, POPT_ARG_LONG, &opt.fill_max, 0, "unless more than this is free (default 256)",
     "MIB"},
    {"break", 0, POPT_ARG_STRING, &opt.break_cmd, 0,
     "also check errors: a command that makes the server refuse to write", "CMD"},
    {"mend", 0, POPT_ARG_STRING, &opt.mend_cmd, 0, "a command that ends that", "CMD"},
    {"json", 'j', POPT_ARG_NONE, &opt.json, 0, "print the result as JSON", NULL},
    POPT_AUTOHELP POPT_TABLEEND};

static struct shared *shared;

static void on_signal(int sig)
{
    shared->interrupted = sig;
    shared->stop = 1;
}

static int bad(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int bad(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("nfscached-race probe: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs("\n", stderr);
    va_end(ap);
    return T_ERROR;
}

/* A directory by its whole name: the children do not depend on the working directory. */
static char *whole_name(const char *option, const char *dir, int *rc)
{
    char *name = NULL;
    if (dir && !(name = realpath(dir, NULL)))
        *rc = bad("%s %s: %s", option, dir, strerror(errno));
    return name;
}

static bool level_parse(enum level *out, const char *name)
{
    for (int i = CLOSE_TO_OPEN; i <= LOCAL; i++)
        if (!strcmp(name, level_name(i))) {
            *out = i;
            return true;
        }
    return false;
}

static int parse(struct probe *p, int argc, const char **argv)
{
    /* The name in the help is argv[0]. */
    const char **named = calloc((size_t)argc + 1, sizeof *named), *extra;
    poptContext pc;
    int rc;

    if (!named)
        return bad("no memory");
    memcpy(named, argv, (size_t)argc * sizeof *named);
    named[0] = "nfscached-race probe";
    pc = poptGetContext(NULL, argc, named, table, 0);

    opt.fresh = 5;
    opt.seconds = 30;
    opt.stall = 60;
    opt.fill_max = 256;
    opt.pages = 64;
    opt.processes = 3;
    poptSetOtherOptionHelp(pc, "--mount DIR [--mount2 DIR] [--server-dir DIR] [OPTION...]");
    while ((rc = poptGetNextOpt(pc)) > 0)
        ;
    extra = poptPeekArg(pc);
    if (rc < -1)
        rc =
            bad("%s: %s (see --help)", poptBadOption(pc, POPT_BADOPTION_NOALIAS), poptStrerror(rc));
    else if (extra)
        rc = bad("'%s': directories follow their option: --mount DIR", extra);
    else
        rc = 0;
    poptFreeContext(pc);
    free(named);
    if (rc || opt.list)
        return rc;
    if (!opt.mount)
        return bad("needs --mount DIR, the file system under test (see --help)");
    if (opt.expect && !level_parse(&p->expect, opt.expect))
        return bad("--expect '%s': not close-to-open, coherent or local", opt.expect);
    if (opt.rounds < 0 || opt.seconds <= 0 || opt.stall < 1 || opt.fresh < 0)
        return bad("--rounds, --seconds, --fresh are not negative, --stall is at least 1");
    if (opt.pages < 8 || opt.pages > 16384)
        return bad("--pages %d: not from 8 to 16384", opt.pages);
    if (opt.processes < 1 || opt.processes > 32)
        return bad("--processes %d: not from 1 to 32", opt.processes);
    if (!opt.break_cmd != !opt.mend_cmd)
        return bad("--break and --mend need each other");
    for (char *s = opt.only ? strdup(opt.only) : NULL, *name; (name = strsep(&s, ","));) {
        int i = 0;
        while (i < n_checks && strcmp(checks[i].name, name))
            i++;
        if (i == n_checks)
            return bad("--check '%s': no such check (see --list)", name);
    }
    p->a = (struct way){whole_name("--mount", opt.mount, &rc), "--mount", false};
    p->s = (struct way){whole_name("--server-dir", opt.server, &rc), "--server-dir", false};
    p->b = (struct way){whole_name("--mount2", opt.mount2, &rc), "--mount2", false};
    if (!p->b.dir)
        p->b = p->s;
    p->seconds = opt.seconds;
    p->fresh = opt.fresh;
    p->stall = opt.stall;
    p->rounds = opt.rounds;
    p->pages = opt.pages;
    p->processes = opt.processes;
    p->fill = opt.fill;
    p->fill_max_mib = opt.fill_max;
    p->break_cmd = opt.break_cmd;
    p->mend_cmd = opt.mend_cmd;
    return rc;
}

static bool named(const char *name)
{
    size_t n = strlen(name);
    for (const char *s = opt.only; s; s = strchr(s, ',') ? strchr(s, ',') + 1 : NULL)
        if (!strncmp(s, name, n) && (s[n] == ',' || !s[n]))
            return true;
    return false;
}

/* Why a check does not run, or NULL. */
static const char *left_out(const struct probe *p, const struct check *c)
{
    if (!strcmp(c->name, "fill") ? !p->fill : !strcmp(c->name, "break") ? !p->break_cmd : false)
        return "not asked for";
    if (opt.only && !named(c->name) && !c->by_request)
        return "not among those of --check";
    return c->cannot(p);
}

static int run_check(struct probe *p, int i, double seconds)
{
    struct result *r = &p->sh->result[i];
    double begun = t_now();
    int rc;

    p->check = i;
    p->sh->stop = p->sh->interrupted != 0;
    p->sh->check_end = begun + seconds;
    r->ran = true;
    rc = supervise(p, checks[i].body);
    r->seconds = t_now() - begun;
    if (rc || p->sh->interrupted)
        r->cut_short = true;
    return rc;
}

/* Measures are taken before the first check; they come back in its result. */
static int examine(struct probe *p)
{
    int rc;
    p->check = 0;
    rc = supervise(p, files_examine);
    p->a.map = p->sh->result[0].rounds;
    p->b.map = p->sh->result[1].rounds;
    p->tick = p->sh->result[0].age_read;
    memset(p->sh->result, 0, sizeof p->sh->result);
    return rc;
}

static int run_all(struct probe *p)
{
    int weights = 0, rc = 0;

    for (int i = 0; i < n_checks; i++) {
        const char *why = left_out(p, &checks[i]);
        snprintf(p->sh->result[i].skipped, sizeof p->sh->result[i].skipped, "%s", why ? why : "");
        if (!why)
            weights += checks[i].weight;
    }
    for (int i = 0; i < n_checks && !rc && !p->sh->interrupted; i++)
        if (!*p->sh->result[i].skipped)
            rc = run_check(p, i, p->seconds * checks[i].weight / weights);
    if (p->progress)
        report_no_progress();
    return rc;
}

int probe_main(int argc, const char **argv)
{
    struct probe p = {0};
    long found;
    int rc, sig;

    rc = parse(&p, argc, argv);
    if (rc)
        return rc;
    if (opt.list) {
        for (int i = 0; i < n_checks; i++)
            printf("%-14s %s%s\n", checks[i].name, checks[i].what,
                   checks[i].by_request ? " (only by its option)" : "");
        return 0;
    }
    p.seed = t_seed((uint64_t)opt.seed);
    p.run = (uint32_t)(t_mix(p.seed ^ (uint64_t)getpid() << 32 ^ (uint64_t)(t_now() * 1e6)));
    p.sh = shared = t_shared(sizeof *p.sh);
    for (int i = 0; i < 3; i++)
        sigaction((int[]){SIGINT, SIGTERM, SIGHUP}[i], &(struct sigaction){.sa_handler = on_signal},
                  NULL);

    rc = examine(&p);
    if (!rc) {
        if (!opt.json)
            report_head(&p);
        p.progress = isatty(2) ? report_progress : NULL;
        rc = run_all(&p);
        p.progress = NULL;
        found = report_end(&p, opt.json);
    } else {
        found = 0;
    }
    sig = p.sh->interrupted;
    if (p.sh->troubled)
        bad("%s", p.sh->trouble);
    p.stall = p.stall < 20 ? p.stall : 20;
    p.sh->stop = 0;
    if (rc != T_HUNG)
        supervise(&p, files_remove);
    else
        bad("hung: the files nfscached-probe-%08x.* stay in %s", p.run, p.a.dir);
    if (found || rc == T_HUNG)
        return T_FAIL;
    if (sig) {
        bad("interrupted; its files are removed");
        signal(sig, SIG_DFL);
        raise(sig);
    }
    return rc ? T_ERROR : T_PASS;
}
