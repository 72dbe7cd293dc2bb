// SPDX-License-Identifier: Apache-2.0
/* Lists of words; see lists.h. */
#include "daemon/bench/lists.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bench/bench.h"

static bool add_word(const char *option, const char *word, const char *const *names, unsigned *set)
{
    char all[256] = "";
    size_t n = 0;

    for (unsigned i = 0; names[i]; i++) {
        if (strcmp(names[i], word) == 0) {
            *set |= 1u << i;
            return true;
        }
        if (n < sizeof all)
            n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i ? ", " : "", names[i]);
    }
    bench_fail(0, "--%s: '%s' is none of %s", option, word, all);
    return false;
}

bool list_parse(const char *option, const char *text, const char *const *names, unsigned *set)
{
    char *copy = text ? strdup(text) : NULL, *rest = copy, *word;
    bool good = true;

    *set = 0;
    for (unsigned i = 0; !text && names[i]; i++)
        *set |= 1u << i;
    while (good && rest && (word = strsep(&rest, ",")))
        good = add_word(option, word, names, set);
    free(copy);
    return good;
}

bool list_numbers(const char *option, const char *text, unsigned low, unsigned high,
                  struct number_list *out)
{
    char *copy = strdup(text), *rest = copy, *word, *end;
    bool good = copy != NULL;

    out->n = 0;
    while (good && rest && (word = strsep(&rest, ","))) {
        unsigned long v = strtoul(word, &end, 10);
        unsigned long unit = *end == 'K' || *end == 'k' ? 1024 : *end == 'M' ? 1024 * 1024 : 1;
        end += unit != 1;
        good = *word >= '0' && *word <= '9' && !*end && v <= high / unit && v * unit >= low &&
               out->n < NUMBER_LIST_MAX;
        if (good)
            out->v[out->n++] = (unsigned)(v * unit);
        else
            bench_fail(0,
                       "--%s: '%s': expected numbers from %u to %u (K and M are powers of 1024), "
                       "with commas, at most %d of them",
                       option, word, low, high, NUMBER_LIST_MAX);
    }
    free(copy);
    return good;
}
