// SPDX-License-Identifier: Apache-2.0
/* What a run found, for people and as JSON. */
#ifndef TESTS_RACE_PROBE_REPORT_H
#define TESTS_RACE_PROBE_REPORT_H

#include "tests/race/probe/run.h"

/* What is under test: printed before it begins, for people. */
void report_head(const struct probe *p);
/* The progress of the check that runs, on stderr; and to take it away. */
void report_progress(const struct probe *p);
void report_no_progress(void);
/* The result; returns the number of broken promises. */
long report_end(const struct probe *p, bool json);
const char *level_name(enum level l);

#endif
