// SPDX-License-Identifier: Apache-2.0
/*
 * The faulty orders, side by side with what they replace.
 *
 * Each is one condition, FAULT(name), at one place of the product's sources, which are otherwise
 * compiled as they are. A protocol of the catalogue is a set of these; the shipped one is the empty
 * set.
 */
#ifndef NFSCACHED_RACE_FAULTS_H
#define NFSCACHED_RACE_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

/* X(name, where, what is shipped, what takes its place) */
#define LAB_FAULTS(X)                                                                              \
    X(clear_dirty, "cache/mapping.c page_shrink()",                                                \
      "a page is looked at again under its lock; dirty bytes stay",                                \
      "the dirty mark is cleared and the page dropped, as write-and-wait has just cleaned it")

enum lab_fault {
#define X(name, where, shipped, fault) FAULT_##name,
    LAB_FAULTS(X)
#undef X
        FAULTS
};

_Static_assert(FAULTS <= 64, "a protocol is a mask of faults");

extern uint64_t lab_faults;

#define FAULT(name)     lab_fault(FAULT_##name)
#define FAULT_BIT(name) (UINT64_C(1) << FAULT_##name)

static inline bool lab_fault(enum lab_fault f)
{
    return lab_faults >> f & 1;
}

struct lab_fault_text {
    const char *name, *where, *shipped, *fault;
};

extern const struct lab_fault_text lab_fault_texts[FAULTS];

#endif
