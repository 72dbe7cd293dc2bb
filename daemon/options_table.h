// SPDX-License-Identifier: Apache-2.0
/*
 * The table of options, between the file that lists them and the file that parses them. Private to
 * daemon/options*.c.
 */
#ifndef NFSCACHED_DAEMON_OPTIONS_TABLE_H
#define NFSCACHED_DAEMON_OPTIONS_TABLE_H

#include <stddef.h>
#include <stdint.h>

#define OPTION_SECONDS_MAX (1U << 30)

enum option_kind {
    BOOLEAN, /* no value; sets the bool to `number` */
    NUMBER,  /* uint32_t between `min` and `max` */
    PORT,    /* uint16_t */
    IO_SIZE, /* rsize, wsize: rounded as nfs(5) says */
    AMOUNT,  /* struct option_amount; `number`: a percentage is allowed */
    OWNER,   /* uid_t or gid_t: a number */
    MODE,    /* octal */
    TEXT,    /* an owned string */
    CHOICE,  /* one of `words`; the enum's value goes to an int */
    CONTEXT, /* handed to the kernel as it is */
    ACTIMEO, /* the four attribute times */
    MUST_BE, /* a value of which one form is honoured: one of `words`, no effect */
};

struct option_word {
    const char *word;
    int value;
};

/* An option that is honoured. */
struct option_entry {
    const char *name;
    enum option_kind kind;
    size_t at;  /* offset of the field */
    size_t has; /* offset of a bool to set, 0: none (offset 0 is `source`) */
    int number;
    uint32_t min, max;
    const char *form; /* what is accepted */
    const struct option_word *words;
};

/* An option that people know from nfs(5) or fuse(8), and that cannot be honoured here. */
struct option_refusal {
    const char *name;
    const char *why;
};

/* All three end with a NULL name. */
extern const struct option_entry option_entries[];
extern const struct option_refusal option_refusals[];
/* Accepted, without effect: mount(8) keeps them for itself, or it is what is done anyway. */
extern const char *const option_ignored[];

#endif
