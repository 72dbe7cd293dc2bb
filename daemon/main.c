// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached`: finds the verb in the table and calls it.
 *
 * mount(8) reaches `mount` by two more ways, which carry no verb: as the type's helper
 * (mount.fuse.nfscached SOURCE MOUNTPOINT -o OPTIONS), and through mount.fuse3, which runs
 * `nfscached SOURCE MOUNTPOINT -o OPTIONS` for `mount -t fuse.nfscached`. A first argument with a
 * ':' is therefore a source: no verb has one. umount(8) has helpers too (umount.fuse.nfscached).
 */
#include <libgen.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/help_text.h"
#include "daemon/options.h"
#include "daemon/verbs.h"

static const struct verb {
    const char *name;
    int (*run)(int argc, const char **argv);
    const char *help;
} verbs[] = {
    {"mount", verb_mount, "mount a remote export"},
    {"umount", verb_umount, "write back everything, then unmount"},
    {"status", verb_status, "show what a mount holds, and what it did"},
    {"flush", verb_flush, "write back what is dirty in a mount or a file"},
    {"revalidate", verb_revalidate, "ask the server whether cached data is current"},
    {"resize", verb_resize, "give a mount's cache another size"},
    {"exports", verb_exports, "list what a server exports"},
    {"serve", verb_serve, "serve a directory by NFSv3, for tests and demonstrations"},
    {"fault", verb_fault, "make a server of ours misbehave on purpose"},
    {"bench", verb_bench, "measure a mounted directory, and compare"},
    {"help", verb_help, "show this list, or the manual of one command"},
    {0},
};

static const char *running = "";

int verb_fail(int status, const char *format, ...)
{
    va_list ap;

    fprintf(stderr, "nfscached%s%s: ", *running ? " " : "", running);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    return status;
}

poptContext verb_options(int argc, const char **argv, const struct poptOption *table,
                         const char *arguments)
{
    /* popt takes the program's name in its usage line from argv[0], and keeps the vector. */
    static char *name;
    static const char **copy;
    copy = calloc((size_t)argc + 1, sizeof *copy);
    if (!copy || asprintf(&name, "nfscached %s", argv[0]) < 0)
        return NULL;
    memcpy(copy, argv, (size_t)argc * sizeof *copy);
    copy[0] = name;

    poptContext context = poptGetContext(name, argc, copy, table, 0);
    poptSetOtherOptionHelp(context, arguments);
    int rc = poptGetNextOpt(context);
    if (rc != -1) {
        const char *bad = poptBadOption(context, 0), *option = "";
        /* Of "--reps x" popt names only the x. */
        for (int i = 2; *bad != '-' && i < argc; i++)
            if (strcmp(argv[i], bad) == 0 && *argv[i - 1] == '-')
                option = argv[i - 1];
        verb_fail(0, "%s%s%s: %s", option, *option ? "=" : "", bad, poptStrerror(rc));
        poptPrintUsage(context, stderr, 0);
        context = poptFreeContext(context);
    }
    return context;
}

static const struct verb *find(const char *name)
{
    for (const struct verb *v = verbs; v->name; v++)
        if (strcmp(v->name, name) == 0)
            return v;
    return NULL;
}

static int unknown(const char *name)
{
    const char *names[sizeof verbs / sizeof verbs[0]];
    size_t n = 0;

    for (const struct verb *v = verbs; v->name; v++)
        names[n++] = v->name;
    names[n] = NULL;
    const char *near = options_nearest(name, names);
    if (near)
        return verb_fail(EXIT_SYSTEM, "unknown command '%s'; did you mean '%s'?", name, near);
    return verb_fail(EXIT_SYSTEM, "unknown command '%s'; `nfscached help` lists them", name);
}

static void print_verbs(FILE *out)
{
    fputs("Usage: nfscached COMMAND [ARGUMENT]...\n"
          "Mount NFS exports through FUSE, with a page cache that never drops a dirty page.\n\n",
          out);
    for (const struct verb *v = verbs; v->name; v++)
        fprintf(out, "  %-11s %s\n", v->name, v->help);
    fputs("\n`nfscached help COMMAND` shows the manual of a command.\n", out);
}

int verb_help(int argc, const char **argv)
{
    if (argc < 2) {
        print_verbs(stdout);
        return EXIT_OK;
    }
    const struct help_text *t = help_texts;
    while (t->verb && strcmp(t->verb, argv[1]) != 0)
        t++;
    if (!t->verb)
        return find(argv[1]) ? verb_fail(EXIT_SYSTEM, "no manual for '%s'", argv[1])
                             : unknown(argv[1]);
    fputs(t->text, stdout);
    return EXIT_OK;
}

static int run(const struct verb *v, const char *name, int argc, const char **argv)
{
    running = v->name;
    argv[0] = name;
    return v->run(argc, argv);
}

int main(int argc, char **argv)
{
    const char **args = (const char **)argv;
    char *self = argc > 0 ? basename(argv[0]) : (char *)"nfscached";

    if (strncmp(self, "mount.", 6) == 0 && find("mount"))
        return run(find("mount"), self, argc, args);
    if (strncmp(self, "umount.", 7) == 0)
        return run(find("umount"), self, argc, args);
    if (argc < 2) {
        print_verbs(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        puts("nfscached " NFSCACHED_VERSION);
        return EXIT_OK;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_verbs(stdout);
        return EXIT_OK;
    }
    const struct verb *v = find(name);
    if (v)
        return run(v, name, argc - 1, args + 1);
    if (strchr(name, ':') && find("mount"))
        return run(find("mount"), "mount", argc, args);
    return unknown(name);
}
