// SPDX-License-Identifier: Apache-2.0
/* Option values that are lists of words: "clean,mapped". */
#ifndef NFSCACHED_BENCH_LISTS_H
#define NFSCACHED_BENCH_LISTS_H

#include <stdbool.h>

/* A bit for each word of `text`, by its place in `names` (NULL-terminated, at most 32). NULL: all
 * of them. False after a message that names the option and what there is. */
bool list_parse(const char *option, const char *text, const char *const *names, unsigned *set);

enum { NUMBER_LIST_MAX = 32 };
struct number_list {
    unsigned v[NUMBER_LIST_MAX];
    unsigned n;
};
/* "4K,64K,1M": numbers from `low` to `high`. False after a message. */
bool list_numbers(const char *option, const char *text, unsigned low, unsigned high,
                  struct number_list *out);

#endif
