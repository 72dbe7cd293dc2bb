// SPDX-License-Identifier: Apache-2.0
/* More of what lanes do; see lab.h. */
#include "tests/race/lab/lab.h"

void lab_prefetch(struct lab *l, uint32_t page)
{
    struct mapping *m = l->k->m;

    lab_say_in(l, CACHE, "readahead fetches page %u", page);
    mapping_lock(m);
    fetch_start(m, page, 1, l->k->cred, NULL, true);
    mapping_unlock(m);
}

void lab_kick(struct lab *l)
{
    lab_say_in(l, WRITEBACK, "writes what is dirty");
    mapping_kick(l->k->m);
}

void lab_truncate(struct lab *l, uint64_t size)
{
    uint64_t was = mapping_size(l->k->m);

    if (size < was)
        lab_forget(l, size);
    fk_truncate(l->k, size);
    lab_say(l, "ftruncate(2) returns: the file has %llu bytes", (unsigned long long)size);
}

void lab_stat(struct lab *l)
{
    uint64_t size = mapping_size(l->k->m);

    fk_told_size(l->k, size);
    lab_say(l, "stat(2): the file has %llu bytes", (unsigned long long)size);
}
