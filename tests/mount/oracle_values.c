// SPDX-License-Identifier: Apache-2.0
/* Slots, their owners and their self-describing values; see oracle.h. */
#include "tests/mount/oracle.h"

#include <string.h>
#include <unistd.h>

static bool enabled(const struct oracle *o, char letter)
{
    return strchr(o->classes, letter) != NULL;
}

enum slot_class oracle_class(const struct oracle *o, int g)
{
    int page = g / PAGE_SLOTS, s = g % PAGE_SLOTS;
    enum slot_class c;

    if (page % 4 == 0)
        c = s % 2 ? S_LOCAL_PW : S_LOCAL_MAP;
    else if (page % 4 == 1)
        c = S_FOREIGN;
    else if (s % 2)
        c = S_FOREIGN;
    else if (s % 8 == 4)
        c = S_LOCAL_PW;
    else if (s % 8 == 6)
        c = s % 64 == 6 ? S_CONFLICT : S_HALF;
    else
        c = S_LOCAL_MAP;
    /* Without the classes that share a page, the foreign words of mixed pages are left out too, so
     * that a client that merges whole pages can be measured on the rest. */
    if (page % 4 >= 2 && !enabled(o, 'x'))
        return S_NONE;
    if ((c == S_LOCAL_MAP && !enabled(o, 'm')) || (c == S_LOCAL_PW && !enabled(o, 'p')) ||
        (c == S_FOREIGN && !enabled(o, 'f')) || (c == S_HALF && !enabled(o, 'h')) ||
        (c == S_CONFLICT && !enabled(o, 'c')))
        return S_NONE;
    return c;
}

int oracle_owner(const struct oracle *o, int g)
{
    return g / 8 % o->locals;
}

#define SEQ_BITS 28

uint64_t value_make(int side, int g, uint64_t seq)
{
    uint64_t body =
        (seq & ((1u << SEQ_BITS) - 1)) | (uint64_t)(g & 0xffff) << SEQ_BITS | (uint64_t)side << 44;
    return body | (t_mix(body ^ (uint64_t)g << 50) & 0xffff) << 48;
}

int64_t value_seq(int side, int g, uint64_t v)
{
    uint64_t seq = v & ((1u << SEQ_BITS) - 1);
    if (!v)
        return 0;
    return value_make(side, g, seq) == v ? (int64_t)seq : -1;
}

uint32_t half_make(int side, int g, uint64_t seq)
{
    uint32_t body = (uint32_t)seq & 0xfffff;
    return body | (uint32_t)(t_mix(body ^ (uint64_t)g << 24 ^ (uint64_t)side << 60) & 0xfff) << 20;
}

int64_t half_seq(int side, int g, uint32_t v)
{
    uint32_t seq = v & 0xfffff;
    if (!v)
        return 0;
    return half_make(side, g, seq) == v ? (int64_t)seq : -1;
}

uint64_t conflict_make(int side, uint64_t seq)
{
    uint64_t b = seq ? (seq - 1) % 127 + 1 : 0;
    if (seq && side == SIDE_FOREIGN)
        b |= 0x80;
    return b * 0x0101010101010101ull;
}

void oracle_finding(struct oracle *o, volatile long *counter, const char *what, int g,
                    uint64_t expected, uint64_t seen)
{
    static const char *const names[] = {"none",    "local mapped", "local pwrite",
                                        "foreign", "half",         "conflict"};
    __sync_fetch_and_add(counter, 1);
    if (__sync_fetch_and_add(&o->details, 1) < 20)
        fprintf(stderr,
                "  %s: round %ld page %d offset %d (%s, owner %d): expected %#llx, seen %#llx\n",
                what, o->n_rounds, g / PAGE_SLOTS, g % PAGE_SLOTS * 8, names[oracle_class(o, g)],
                oracle_owner(o, g), (unsigned long long)expected, (unsigned long long)seen);
}

void oracle_pause(struct oracle *o, int slot)
{
    int r = o->freeze_round;
    if (!(r & 1))
        return;
    __sync_synchronize();
    o->frozen_ack[slot] = r;
    while (o->freeze_round == r && !o->stop) {
        watch_beat(o->watch, slot);
        t_sleep_us(200);
    }
}
