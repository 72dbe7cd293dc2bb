// SPDX-License-Identifier: Apache-2.0
/* SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012). */
#ifndef NFSCACHED_SERVE_SIPHASH_H
#define NFSCACHED_SERVE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t siphash24(const uint8_t key[16], const void *data, size_t len);

#endif
