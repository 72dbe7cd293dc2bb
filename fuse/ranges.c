// SPDX-License-Identifier: Apache-2.0
/*
 * Byte ranges and who holds them, by the rules of fcntl(2): an owner's new lock replaces what it
 * overlaps of his own, cuts what sticks out, and merges with neighbours of its type.
 *
 * An unsorted list: an owner holds few ranges of a file, and a file has few owners. Nothing here
 * locks; the list belongs to the caller. The only error is a lack of memory, found before anything
 * was changed.
 */
#include "fuse/ranges.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>

static bool overlaps(const struct range_lock *a, const struct range_lock *b)
{
    return a->start <= b->end && b->start <= a->end;
}

const struct range_lock *ranges_conflict(const struct range_lock *list,
                                         const struct range_lock *want)
{
    for (; list; list = list->next)
        if (list->owner != want->owner && overlaps(list, want) &&
            (list->type == F_WRLCK || want->type == F_WRLCK))
            return list;
    return NULL;
}

static struct range_lock *range_copy(const struct range_lock *of)
{
    struct range_lock *l = malloc(sizeof(*l));

    if (l)
        *l = *of;
    return l;
}

/* Takes two spare records first, so that it cannot fail half way. */
int ranges_set(struct range_lock **list, const struct range_lock *want)
{
    struct range_lock *added = range_copy(want), *tail = range_copy(want);
    struct range_lock **at = list;

    if (!added || !tail) {
        free(added);
        free(tail);
        return -ENOLCK;
    }
    while (*at) {
        struct range_lock *l = *at;
        bool mine = l->owner == want->owner;

        /* Neighbours of one type grow together. */
        if (mine && l->type == want->type && want->type != F_UNLCK &&
            (overlaps(l, added) || (l->end != UINT64_MAX && l->end + 1 == added->start) ||
             (added->end != UINT64_MAX && added->end + 1 == l->start))) {
            added->start = l->start < added->start ? l->start : added->start;
            added->end = l->end > added->end ? l->end : added->end;
            *at = l->next;
            free(l);
            continue;
        }
        if (!mine || !overlaps(l, want)) {
            at = &l->next;
            continue;
        }
        if (l->start < want->start && l->end > want->end) { /* cut in two */
            *tail = *l;
            tail->start = want->end + 1;
            l->end = want->start - 1;
            tail->next = l->next;
            l->next = tail;
            tail = NULL;
            break;
        }
        if (l->start < want->start) {
            l->end = want->start - 1;
            at = &l->next;
        } else if (l->end > want->end) {
            l->start = want->end + 1;
            at = &l->next;
        } else {
            *at = l->next;
            free(l);
        }
    }
    free(tail);
    if (want->type == F_UNLCK) {
        free(added);
        return 0;
    }
    added->next = *list;
    *list = added;
    return 0;
}

void ranges_free(struct range_lock *list)
{
    while (list) {
        struct range_lock *next = list->next;

        free(list);
        list = next;
    }
}
