// SPDX-License-Identifier: Apache-2.0
/*
 * Where the race lab takes hold of the product (tests/race/lab/).
 *
 *   POINT("reval.waited")       a named point: the lab may stop the thread here, and shows that it
 *   POINT_AT("fetch.sent", i)   came by; the second with the number of a page
 *   if (FAULT(keep_twin)) ...   a faulty order, asked for by name; what each replaces, and with
 *                               what, stands in tests/race/lab/faults.h
 *
 * Only nfscached-race is built with NFSCACHED_LAB. In the product all of this is nothing: no name,
 * no branch, no faulty order is left in the binary, and a test looks for them.
 */
#ifndef NFSCACHED_CACHE_POINT_H
#define NFSCACHED_CACHE_POINT_H

#ifdef NFSCACHED_LAB
#include "tests/race/lab/faults.h"
#include "tests/race/lab/point.h"
#else
#define POINT(name)          ((void)0)
#define POINT_AT(name, page) ((void)0)
#define FAULT(name)          false
#endif

#endif
