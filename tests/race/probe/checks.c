// SPDX-License-Identifier: Apache-2.0
/* The table of checks, in the order in which they run. */
#include "tests/race/probe/checks.h"

static const char *no_other(const struct probe *p)
{
    return p->b.dir ? NULL : "needs --mount2 or --server-dir";
}

static const char *no_map(const struct probe *p)
{
    return p->a.map ? NULL : "this file system cannot map files for writing";
}

static const char *nothing(const struct probe *p)
{
    return NULL;
}

const struct check checks[] = {
    {"turns", "clients open, look, change and close in turn", 3, 100, 0, false, nothing,
     check_turns},
    {"own-pages", "processes of one client write pages of one file", 3, 100, 10, false, nothing,
     check_own_pages},
    {"foreign-pages", "another client writes other pages of it", 4, 100, 10, false, no_other,
     check_foreign_pages},
    {"shared-page", "another client writes other bytes of a page", 3, 100, 10, false, no_other,
     check_shared_page},
    {"truncate", "the size changes while pages below it are stored to", 3, 50, 10, false, no_map,
     check_truncate},
    {"held", "what an open descriptor and a mapping show of changes", 2, 10, 0, false, no_other,
     check_held},
    {"fill", "a full file system says so", 3, 1, 0, true, nothing, check_fill},
    {"break", "a server that refuses to write is heard of", 3, 10, 0, true, nothing, check_break},
};
const int n_checks = sizeof checks / sizeof *checks;
