// SPDX-License-Identifier: Apache-2.0
/* When is a file valid again: before its pages were invalidated, or after? */
#include "tests/race/lab/lab.h"

#define FIRST  8
#define SECOND 4000

static void setup(struct lab *l)
{
    lab_load(l, FIRST);
    lab_foreign(l, FIRST, 7);
}

static void opener(struct lab *l)
{
    lab_revalidate(l);
    lab_load(l, FIRST);
}

static void reader(struct lab *l)
{
    lab_load(l, FIRST);
}

static void foreign(struct lab *l)
{
    lab_foreign(l, SECOND, 9);
}

/* What was forgotten is not seen later either. */
static void check(struct lab *l)
{
    lab_revalidate(l);
    lab_check_bytes(l);
}

static const struct lab_lane lanes[] = {{"application", opener},
                                        {"application2", reader},
                                        {"revalidator", lab_revalidate},
                                        {"foreign", foreign},
                                        {0}};

#define BETWEEN                                                                                    \
    "revalidator until reval.invalidated\n"                                                        \
    "application2 until end           # fetches the page anew, and is right to\n"                  \
    "foreign until end                # the file changes once more\n"                              \
    "revalidator until end\n"

static const struct lab_protocol protocols[] = {
    {.name = "shipped",
     .what = "one at a time; at its end it remembers the token of its beginning"},
    {.name = "clear-before",
     .what = "the flag goes first: the next one finds nothing to do, and reads what is still there",
     .faults = FAULT_BIT(token_first) | FAULT_BIT(no_reval_lock),
     .on_cache = STALE},
    {.name = "clear-after",
     .what = "the flag goes last: a change that set it again meanwhile is forgotten",
     .faults = FAULT_BIT(token_late),
     .schedule = BETWEEN,
     .on_cache = STALE},
    {.name = "one-at-a-time",
     .what = "the flag goes first, but others wait: Layton's bit lock",
     .faults = FAULT_BIT(token_first),
     .weakness = "Right as long as whoever reads looks at the lock as well as at the flag, in "
                 "that order; the first version did not everywhere (17dfeb911339)."},
    {0}};

const struct lab_entry entry_flag_order = {
    .name = "flag-order",
    .number = 9,
    .year = "2014",
    .title = "The flag 'these pages are invalid' is cleared before, or after: both are wrong",
    .history =
        "nfs_revalidate_mapping() looked at NFS_INO_INVALID_DATA, cleared it, and invalidated "
        "the page cache. A second reader that came in between found the flag clear, and read "
        "pages that were about to go: lines of a log file that another client had appended "
        "to were missing. Clearing it after the invalidation loses a flag that was set while "
        "it ran. The fix is a lock bit that covers both, and on which others wait.",
    .source = "d529ef83c355 'NFS: fix the handling of NFS_INO_INVALID_DATA flag in "
              "nfs_revalidate_mapping', Jeff Layton, 2014 (3.14), 17dfeb911339 "
              "'NFS: Fix races in nfs_revalidate_mapping', Trond Myklebust; fs/nfs/inode.c "
              "NFS_INO_INVALIDATING",
    .mechanism =
        "The flag says two things: something is to be done, and it is being done. One bit "
        "cannot. Cleared first it lies to those who come during the work; cleared last it "
        "swallows what arrives during the work. Remembering a change token has the same two "
        "mistakes: adopted before the pages match it, or sampled again when they do.",
    .saved_by =
        "reval_lock: one revalidation of a file at a time, and who wants one waits for it and "
        "then asks for himself. What is remembered is the token of step 0, moved along by our "
        "own changes only: whatever happened after it is asked shows as a difference the next "
        "time. A read that asks for nothing is not promised anything.",
    .protocols = protocols,
    .world = {.pages = 1},
    .lanes = lanes,
    .setup = setup,
    .check = check,
    .schedule = "revalidator until reval.asked\n"
                "application until end            # open(): revalidates, and reads\n"
                "revalidator until end\n",
};
