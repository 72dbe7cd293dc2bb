// SPDX-License-Identifier: Apache-2.0
/* nfscached-race's commands. Each gets its own name as argv[0] and returns the exit status. */
#ifndef NFSCACHED_RACE_VERBS_H
#define NFSCACHED_RACE_VERBS_H

#include <popt.h>

#include "tests/race/lab/lab.h"

enum { EXPECTED = 0, UNEXPECTED = 1, USAGE = 2 };

int race_list(int argc, const char **argv);
int race_show(int argc, const char **argv);
int race_run(int argc, const char **argv);
int race_search(int argc, const char **argv);

/* Prints "nfscached-race VERB: ..." and returns `status`. */
int race_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* popt over argv, `table` with its help. NULL: a wrong option, and that was said. */
poptContext race_options(int argc, const char **argv, const struct poptOption *table,
                         const char *arguments);
/* NULL: no such entry, or no such protocol of it, and that was said. */
const struct lab_entry *race_entry(const char *name);
const struct lab_protocol *race_protocol(const struct lab_entry *e, const char *name);
/* Characters of a line on the terminal, or 110. */
unsigned race_width(void);

#endif
