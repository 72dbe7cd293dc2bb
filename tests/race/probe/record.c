// SPDX-License-Identifier: Apache-2.0
/* Self-describing records; see record.h. */
#include "tests/race/probe/record.h"

#include "tests/lib/tlib.h"

#include <stdio.h>
#include <string.h>

#define MAGIC 0x45424f525053464eull /* "NFSPROBE", little endian */
#define HEAD  4                     /* words */

static uint64_t checksum(const uint64_t *w, size_t words)
{
    uint64_t sum = words;
    for (size_t i = 0; i < words; i++)
        sum = (sum << 7 | sum >> 57) * 0x9E3779B97F4A7C15ull + w[i];
    return sum;
}

void rec_make(void *buf, size_t len, const struct rec_id *id)
{
    uint64_t *w = buf;
    size_t words = len / 8;

    if (!id->seq) {
        memset(buf, 0, len);
        return;
    }
    w[0] = MAGIC;
    w[1] = (uint64_t)id->run | (uint64_t)id->file << 32 | (uint64_t)id->writer << 48;
    w[2] = id->seq;
    w[3] = id->offset;
    uint64_t state = t_mix(w[1] ^ t_mix(w[2] ^ t_mix(w[3])));
    for (size_t i = HEAD; i < words - 1; i++)
        w[i] = t_mix(state + i);
    w[words - 1] = checksum(w, words - 1);
}

struct rec_seen rec_read(const void *buf, size_t len, const struct rec_id *at)
{
    const uint64_t *w = buf;
    size_t words = len / 8, i = 0;
    struct rec_seen r = {.state = REC_TORN};

    while (i < words && !w[i])
        i++;
    if (i == words) {
        r.state = REC_ZERO;
        return r;
    }
    if (w[0] != MAGIC || w[words - 1] != checksum(w, words - 1))
        return r;
    r.id.run = (uint32_t)w[1];
    r.id.file = (uint16_t)(w[1] >> 32);
    r.id.writer = (uint16_t)(w[1] >> 48);
    r.id.seq = w[2];
    r.id.offset = w[3];
    r.state = r.id.run == at->run && r.id.file == at->file && r.id.offset == at->offset ? REC_WHOLE
                                                                                        : REC_ALIEN;
    return r;
}

/* What the bytes from `i` on agree with, among the sequences around the wanted one; the longest. */
static size_t agree(const uint8_t *b, size_t len, size_t i, const struct rec_id *want,
                    uint64_t head_seq, char *what, size_t size)
{
    uint8_t image[4096];
    size_t best = 0;

    if (len > sizeof image)
        return 0;
    for (int back = -2; back < 16; back++) {
        struct rec_id id = *want;
        size_t k = i;
        if (back == -2)
            id.seq = 0;
        else if (back == -1)
            id.seq = head_seq;
        else if ((uint64_t)back < want->seq)
            id.seq = want->seq - (uint64_t)back;
        else
            break;
        rec_make(image, len, &id);
        while (k < len && b[k] == image[k])
            k++;
        if (k - i > best) {
            best = k - i;
            if (id.seq)
                snprintf(what, size, "sequence %llu", (unsigned long long)id.seq);
            else
                snprintf(what, size, "zero");
        }
    }
    return best;
}

void rec_explain(char *out, size_t size, const void *buf, size_t len, const struct rec_id *want)
{
    const uint8_t *b = buf;
    const uint64_t *w = buf;
    struct rec_seen r = rec_read(buf, len, want);
    size_t n = 0;

    if (r.state == REC_ZERO)
        snprintf(out, size, "holds zeros");
    else if (r.state != REC_TORN)
        snprintf(out, size,
                 "holds run %08x file %u writer %u sequence %llu offset %llu, checksum right",
                 r.id.run, r.id.file, r.id.writer, (unsigned long long)r.id.seq,
                 (unsigned long long)r.id.offset);
    else {
        n = (size_t)snprintf(out, size, "checksum wrong: bytes");
        for (size_t i = 0, parts = 0; i < len && n < size; parts++) {
            char what[40];
            size_t k = agree(b, len, i, want, w[0] == MAGIC ? w[2] : 0, what, sizeof what);
            if (k < 2 && i + k < len) {
                /* What nothing explains, up to where something does again. */
                char ignored[40];
                size_t j = i + 1;
                while (j < len && agree(b, len, j, want, 0, ignored, sizeof ignored) < 8)
                    j += j + 8 < len ? 8 - j % 8 : 1;
                k = j - i;
                snprintf(what, sizeof what, "none of these");
            }
            if (parts == 8) {
                snprintf(out + n, size - n, ", ...");
                break;
            }
            n += (size_t)snprintf(out + n, size - n, "%s %zu-%zu %s", parts ? "," : "", i,
                                  i + k - 1, what);
            i += k;
        }
    }
}
