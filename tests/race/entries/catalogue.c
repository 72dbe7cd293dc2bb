// SPDX-License-Identifier: Apache-2.0
/* The catalogue: an entry is a file beside this one. */
#include "tests/race/lab/lab.h"

#define ENTRIES(X) X(lost_write)

#define X(name) extern const struct lab_entry entry_##name;
ENTRIES(X)
#undef X

#define X(name) &entry_##name,
const struct lab_entry *const lab_catalogue[] = {ENTRIES(X) NULL};
#undef X
