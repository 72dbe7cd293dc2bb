// SPDX-License-Identifier: Apache-2.0
/* nfscached-race: finds the verb in the table and calls it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/race/lab/verbs.h"
#include "tests/race/probe/probe.h"

static const struct verb {
    const char *name;
    int (*run)(int argc, const char **argv);
    const char *help;
} verbs[] = {
    {"list", race_list, "the catalogue of races"},
    {"show", race_show, "one of them: history, mechanism, schedule, drawn as lanes"},
    {"run", race_run, "run one, or all, and compare with what is expected"},
    {"search", race_search, "look for the interleaving that fails, or show that there is none"},
    {"probe", probe_main, "stress a file system that is mounted anywhere, by any client"},
    {0},
};

static const char *running = "";

int race_fail(int status, const char *format, ...)
{
    va_list ap;

    fprintf(stderr, "nfscached-race%s%s: ", *running ? " " : "", running);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    return status;
}

poptContext race_options(int argc, const char **argv, const struct poptOption *table,
                         const char *arguments)
{
    static char name[64];
    const char **copy = calloc((size_t)argc + 1, sizeof *copy);

    if (!copy)
        return NULL;
    snprintf(name, sizeof name, "nfscached-race %s", argv[0]);
    memcpy(copy, argv, (size_t)argc * sizeof *copy);
    copy[0] = name;

    poptContext context = poptGetContext(name, argc, copy, table, 0);

    poptSetOtherOptionHelp(context, arguments);
    if (poptGetNextOpt(context) < -1) {
        race_fail(0, "%s: %s", poptBadOption(context, 0), poptStrerror(POPT_ERROR_BADOPT));
        poptPrintUsage(context, stderr, 0);
        context = poptFreeContext(context);
    }
    return context;
}

const struct lab_entry *race_entry(const char *name)
{
    for (const struct lab_entry *const *e = lab_catalogue; *e; e++)
        if (strcmp((*e)->name, name) == 0)
            return *e;
    race_fail(0, "no race '%s'; `nfscached-race list` names them", name);
    return NULL;
}

const struct lab_protocol *race_protocol(const struct lab_entry *e, const char *name)
{
    for (const struct lab_protocol *p = e->protocols; p->name; p++)
        if (strcmp(p->name, name) == 0)
            return p;
    race_fail(0, "%s has no protocol '%s'; `nfscached-race show %s` names them", e->name, name,
              e->name);
    return NULL;
}

unsigned race_width(void)
{
    struct winsize w;

    return isatty(1) && ioctl(1, TIOCGWINSZ, &w) == 0 && w.ws_col >= 60 ? w.ws_col : 110;
}

static void usage(FILE *out)
{
    fputs("Usage: nfscached-race COMMAND [ARGUMENT]...\n"
          "Races that lose writes, or leave stale pages: shown, reproduced, and survived.\n\n",
          out);
    for (const struct verb *v = verbs; v->name; v++)
        fprintf(out, "  %-7s %s\n", v->name, v->help);
    fputs("\n`nfscached-race COMMAND --help` lists the options of a command.\n", out);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("nfscached-race " NFSCACHED_VERSION);
        return 0;
    }
    for (const struct verb *v = verbs; v->name; v++)
        if (strcmp(v->name, argv[1]) == 0) {
            running = v->name;
            return v->run(argc - 1, (const char **)argv + 1);
        }
    return race_fail(USAGE, "unknown command '%s'; `nfscached-race --help` lists them", argv[1]);
}
