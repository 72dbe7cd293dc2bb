// SPDX-License-Identifier: Apache-2.0
/* nfscached-race: the race lab's command line. */
#include <stdio.h>
#include <string.h>

#include "tests/race/lab/lab.h"

int main(int argc, char **argv)
{
    int bad = 0;

    for (const struct lab_entry *const *e = lab_catalogue; *e; e++) {
        if (argc > 1 && strcmp(argv[1], (*e)->name) != 0)
            continue;
        for (const struct lab_protocol *p = (*e)->protocols; p->name; p++) {
            struct lab_result r;

            lab_run_on_cache(*e, p, NULL, &r);
            printf("== %s under %s\n", (*e)->name, p->name);
            for (unsigned i = 0; i < r.nevents; i++)
                printf("%3u %c %-12s %s\n", r.events[i].step, r.events[i].loss ? '!' : ' ',
                       r.events[i].lane, r.events[i].text);
            printf("%s %s\n", lab_outcome_name(r.outcome), r.verdict);
            bad += r.outcome != p->on_cache;
            lab_result_free(&r);
        }
    }
    return bad != 0;
}
