// SPDX-License-Identifier: Apache-2.0
/* What the files of the page share. */
#ifndef NFSCACHED_BENCH_HTML_H
#define NFSCACHED_BENCH_HTML_H

#include <stdio.h>

/* The page's style sheet. */
extern const char html_style[];

/* Text, with what HTML takes for markup escaped. */
void html_text(FILE *f, const char *s);

/* Two or three digits that matter; the result is `text`. */
const char *html_figure(double v, char text[32]);

#endif
