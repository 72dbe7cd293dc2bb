// SPDX-License-Identifier: Apache-2.0
/* The manual pages as plain text; made at build time by docs/man/embed.py. */
#ifndef NFSCACHED_DAEMON_HELP_TEXT_H
#define NFSCACHED_DAEMON_HELP_TEXT_H

struct help_text {
    const char *verb; /* "mount" for nfscached-mount.8; NULL ends the list */
    const char *text;
};

extern const struct help_text help_texts[];

#endif
