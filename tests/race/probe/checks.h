// SPDX-License-Identifier: Apache-2.0
/* The bodies of the checks; what each is, says the head of its file, and the table in checks.c. */
#ifndef TESTS_RACE_PROBE_CHECKS_H
#define TESTS_RACE_PROBE_CHECKS_H

#include "tests/race/probe/run.h"

void check_own_pages(struct probe *p);
void check_foreign_pages(struct probe *p);
void check_shared_page(struct probe *p);
void check_turns(struct probe *p);
void check_truncate(struct probe *p);
void check_held(struct probe *p);
void check_fill(struct probe *p);
void check_break(struct probe *p);

#endif
