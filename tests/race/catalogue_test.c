// SPDX-License-Identifier: Apache-2.0
/*
 * The catalogue on the cache: `catalogue_test [ROUNDS]`.
 *
 * For each entry and protocol: the outcome is the one expected, and in every round the timeline is
 * the same, word by word. A loss says which byte, and the shipped protocol survives the schedule
 * that the faulty one fails under.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/race/lab/lab.h"

/* A deadlock is given up with all that its lanes hold. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}

static unsigned bad;

static void fails(const struct lab_entry *e, const struct lab_protocol *p, const char *what,
                  const struct lab_result *r)
{
    printf("%s, %s: %s: %s %s\n", e->name, p->name, what, lab_outcome_name(r->outcome), r->verdict);
    bad++;
}

static bool same(const struct lab_result *a, const struct lab_result *b)
{
    if (a->outcome != b->outcome || a->nevents != b->nevents || strcmp(a->verdict, b->verdict) != 0)
        return false;
    for (unsigned i = 0; i < a->nevents; i++)
        if (a->events[i].column != b->events[i].column || a->events[i].loss != b->events[i].loss ||
            strcmp(a->events[i].lane, b->events[i].lane) != 0 ||
            strcmp(a->events[i].text, b->events[i].text) != 0)
            return false;
    return true;
}

static void check_protocol(const struct lab_entry *e, const struct lab_protocol *p, unsigned rounds)
{
    struct lab_result first, again;

    lab_run_on_cache(e, p, NULL, &first);
    if (first.outcome != p->on_cache)
        fails(e, p, "not as expected", &first);
    if ((first.outcome == LOST || first.outcome == STALE) && !strstr(first.verdict, "byte"))
        fails(e, p, "the verdict names no byte", &first);
    for (unsigned i = 1; i < rounds; i++) {
        lab_run_on_cache(e, p, NULL, &again);
        if (!same(&first, &again)) {
            fails(e, p, "another timeline than in the first round", &again);
            i = rounds;
        }
        lab_result_free(&again);
    }
    lab_result_free(&first);
    if (!p->schedule || p == e->protocols)
        return;
    lab_run_on_cache(e, e->protocols, p->schedule, &again);
    if (again.outcome != SURVIVED)
        fails(e, p, "the shipped protocol does not survive its schedule", &again);
    lab_result_free(&again);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 5, n = 0;

    for (const struct lab_entry *const *e = lab_catalogue; *e; e++)
        for (const struct lab_protocol *p = (*e)->protocols; (*e)->lanes && p->name; p++)
            if (!p->not_on_cache) {
                check_protocol(*e, p, rounds);
                n++;
            }
    printf("%u protocols, %u rounds each, %u failures\n", n, rounds, bad);
    return bad != 0;
}
