// SPDX-License-Identifier: Apache-2.0
/*
 * The commands of `nfscached`: one function each, listed in the table of daemon/main.c.
 *
 * A verb gets its own name in argv[0], its arguments after it, and returns the exit status. Those
 * are the ones of mount(8), for every verb: see enum exit_status.
 */
#ifndef NFSCACHED_DAEMON_VERBS_H
#define NFSCACHED_DAEMON_VERBS_H

#include <popt.h>

enum exit_status {
    EXIT_OK = 0,
    EXIT_USAGE = 1,  /* wrong arguments, or not permitted */
    EXIT_SYSTEM = 2, /* the system refused something (memory, fork); or no such verb */
    EXIT_FAILED = 32 /* what was asked for could not be done: the mount, the umount, the flush */
};

int verb_mount(int argc, const char **argv);
int verb_umount(int argc, const char **argv);
int verb_status(int argc, const char **argv);
int verb_flush(int argc, const char **argv);
int verb_revalidate(int argc, const char **argv);
int verb_resize(int argc, const char **argv);
int verb_exports(int argc, const char **argv);
int verb_help(int argc, const char **argv);
int verb_serve(int argc, const char **argv);
int verb_fault(int argc, const char **argv);
int verb_bench(int argc, const char **argv); /* its statuses are those of daemon/bench/bench.h */

/* "nfscached VERB: MESSAGE" on stderr; returns `status`, so that a verb can return it. */
int verb_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Reads the options of `argv` by `table` (popt(3); POPT_AUTOHELP belongs in it). `arguments` is
 * what stands after the options in the usage line. Returns a context that holds the arguments and
 * which the caller frees with poptFreeContext(), or NULL after a message: return EXIT_USAGE then.
 */
poptContext verb_options(int argc, const char **argv, const struct poptOption *table,
                         const char *arguments);

#endif
