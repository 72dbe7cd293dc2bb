// SPDX-License-Identifier: Apache-2.0
/*
 * Drawings of runs; see timeline.h.
 *
 * Only the columns that have an event are drawn. The SVG needs no font metrics: a column holds
 * CHARS characters of a monospaced face, and text is filled by words as in the text form.
 */
#include "tests/race/lab/timeline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what both share ---- */

struct columns {
    unsigned n;
    int at[COLUMNS]; /* -1: not drawn */
    enum lab_column which[COLUMNS];
};

static struct columns used_columns(const struct lab_result *r)
{
    struct columns c = {0};
    bool used[COLUMNS] = {false};

    for (unsigned i = 0; i < r->nevents; i++)
        used[r->events[i].column] = true;
    for (enum lab_column k = 0; k < COLUMNS; k++) {
        c.at[k] = used[k] ? (int)c.n : -1;
        if (used[k])
            c.which[c.n++] = k;
    }
    return c;
}

/* Takes the next line of at most `width` characters off *text; its length. */
static unsigned take_line(const char **text, unsigned width, const char **line)
{
    const char *s = *text;
    unsigned n = 0, space = 0;

    while (*s == ' ')
        s++;
    *line = s;
    while (n < width && s[n]) {
        n++;
        if (s[n] == ' ' || s[n] == '\0')
            space = n;
    }
    if (s[n] && space)
        n = space;
    *text = s + n;
    return n;
}

static unsigned count_lines(const char *text, unsigned width)
{
    const char *line;
    unsigned n = 0;

    while (take_line(&text, width, &line))
        n++;
    return n;
}

/* The lane's own name where a column has several. */
static void event_text(const struct lab_event *e, char *out, size_t room)
{
    if (strcmp(e->lane, lab_column_name(e->column)) == 0)
        snprintf(out, room, "%s", e->text);
    else
        snprintf(out, room, "[%s] %s", e->lane, e->text);
}

/* ---- text ---- */

static void text_rule(FILE *out, const struct columns *c, unsigned cell)
{
    fputs("----", out);
    for (unsigned i = 0; i < c->n; i++) {
        fputc('+', out);
        for (unsigned k = 0; k < cell + 1; k++)
            fputc('-', out);
    }
    fputc('\n', out);
}

static void text_loss(FILE *out, const struct lab_event *e, unsigned width)
{
    const char *at = e->text, *line;
    unsigned n;
    bool first = true;

    while ((n = take_line(&at, width - 9, &line)) != 0) {
        if (first)
            fprintf(out, "%3u >>>>> %.*s\n", e->step, (int)n, line);
        else
            fprintf(out, "          %.*s\n", (int)n, line);
        first = false;
    }
}

static void text_event(FILE *out, const struct columns *c, const struct lab_event *e, unsigned cell)
{
    char text[512];
    const char *at = text, *line;
    bool first = true;
    unsigned n;

    event_text(e, text, sizeof text);
    while ((n = take_line(&at, cell, &line)) != 0) {
        if (first)
            fprintf(out, "%3u ", e->step);
        else
            fputs("    ", out);
        for (int i = 0; i < (int)c->n; i++)
            fprintf(out, "|%-*.*s", (int)cell + 1, i == c->at[e->column] ? (int)n : 0,
                    i == c->at[e->column] ? line : "");
        fputc('\n', out);
        first = false;
    }
}

void timeline_text(FILE *out, const struct lab_result *r, unsigned width)
{
    struct columns c = used_columns(r);
    unsigned cell = c.n ? (width - 5) / c.n - 2 : 0;

    if (!c.n)
        return;
    if (cell < 16)
        cell = 16;
    fputs("    ", out);
    for (unsigned i = 0; i < c.n; i++)
        fprintf(out, "|%-*s", (int)cell + 1, lab_column_name(c.which[i]));
    fputc('\n', out);
    text_rule(out, &c, cell);
    for (unsigned i = 0; i < r->nevents; i++)
        if (r->events[i].loss)
            text_loss(out, &r->events[i], c.n * (cell + 2) + 4);
        else
            text_event(out, &c, &r->events[i], cell);
    text_rule(out, &c, cell);
}

/* ---- SVG ---- */

#define CHARS   26  /* of a line */
#define COLUMN  216 /* pixels */
#define LEFT    52u
#define LINE    15
#define HEAD    112
#define FOOT    64
#define BOX_PAD 7

static const char *const colours[COLUMNS] = {"#2f6fb3", "#6d5aa6", "#4d8f6b", "#b0772b",
                                             "#8a6a4f", "#5a6772", "#a34d7c"};

static void xml(FILE *out, const char *s, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        switch (s[i]) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        default:
            fputc(s[i], out);
        }
}

static unsigned event_chars(const struct columns *c, const struct lab_event *e)
{
    return e->loss ? c->n * COLUMN / 8 : CHARS;
}

static unsigned event_height(const struct columns *c, const struct lab_event *e)
{
    char text[512];

    event_text(e, text, sizeof text);
    return count_lines(text, event_chars(c, e)) * LINE + 2 * BOX_PAD;
}

static void svg_event(FILE *out, const struct columns *c, const struct lab_event *e, unsigned y)
{
    char text[512];
    const char *at = text, *line;
    unsigned h = event_height(c, e), n, row = 0;
    unsigned x = e->loss ? LEFT : LEFT + (unsigned)c->at[e->column] * COLUMN;
    unsigned w = e->loss ? c->n * COLUMN - 8 : COLUMN - 8;

    event_text(e, text, sizeof text);
    fprintf(out,
            "<rect x='%u' y='%u' width='%u' height='%u' rx='5' fill='%s' fill-opacity='%s' "
            "stroke='%s' stroke-width='%s'/>\n",
            x, y, w, h, e->loss ? "#c62828" : colours[e->column], e->loss ? "1" : "0.13",
            e->loss ? "#8e0000" : colours[e->column], e->loss ? "2" : "1");
    fprintf(out, "<text x='%u' y='%u' class='n'>%u</text>\n", LEFT - 12, y + LINE + 2, e->step);
    for (; (n = take_line(&at, event_chars(c, e), &line)) != 0; row++) {
        fprintf(out, "<text x='%u' y='%u' class='%s'>", x + 8, y + BOX_PAD + 11 + row * LINE,
                e->loss ? "l" : "e");
        xml(out, line, n);
        fputs("</text>\n", out);
    }
}

static void svg_line(FILE *out, unsigned y, const char *class, const char *text)
{
    fprintf(out, "<text x='%u' y='%u' class='%s'>", LEFT, y, class);
    xml(out, text, (unsigned)strlen(text));
    fputs("</text>\n", out);
}

static void svg_head(FILE *out, const struct lab_entry *e, const struct lab_protocol *p,
                     const char *layer, const struct columns *c, unsigned height)
{
    unsigned width = LEFT + (c->n < 3 ? 3 : c->n) * COLUMN + 16;
    char text[512];

    fprintf(out,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %u %u' width='%u' "
            "height='%u'>\n<style>text{font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace}"
            ".t{font-size:19px;font-weight:bold;fill:#222}.s{font-size:13px;fill:#444}"
            ".c{font-size:14px;font-weight:bold;fill:#fff}.e{font-size:12px;fill:#1c1c1c}"
            ".l{font-size:13px;font-weight:bold;fill:#fff}.n{font-size:11px;fill:#888;"
            "text-anchor:end}.bad{font-size:16px;font-weight:bold;fill:#c62828}"
            ".good{font-size:16px;font-weight:bold;fill:#2e7d32}</style>\n"
            "<rect width='100%%' height='100%%' fill='#fff'/>\n",
            width, height, width, height);
    snprintf(text, sizeof text, "%s (%s)", e->name, e->year);
    svg_line(out, 30, "t", text);
    svg_line(out, 50, "s", e->title);
    snprintf(text, sizeof text, "protocol %s, on the %s: %s", p->name, layer, p->what);
    svg_line(out, 69, "s", text);
    for (unsigned i = 0; i < c->n; i++) {
        unsigned x = LEFT + i * COLUMN;

        fprintf(out,
                "<rect x='%u' y='80' width='%u' height='24' rx='5' fill='%s'/>\n"
                "<text x='%u' y='97' class='c'>%s</text>\n"
                "<line x1='%u' y1='104' x2='%u' y2='%u' stroke='%s' stroke-opacity='0.35' "
                "stroke-dasharray='3 4'/>\n",
                x, COLUMN - 8, colours[c->which[i]], x + 8, lab_column_name(c->which[i]),
                x + COLUMN / 2, x + COLUMN / 2, height - FOOT, colours[c->which[i]]);
    }
}

int timeline_svg(const char *path, const struct lab_entry *e, const struct lab_protocol *p,
                 const char *layer, const struct lab_result *r)
{
    struct columns c = used_columns(r);
    unsigned height = HEAD + FOOT, y = HEAD;
    FILE *out = fopen(path, "w");
    char text[600];

    if (!out)
        return -errno;
    for (unsigned i = 0; i < r->nevents; i++)
        height += event_height(&c, &r->events[i]) + 6;
    svg_head(out, e, p, layer, &c, height);
    for (unsigned i = 0; i < r->nevents; i++) {
        svg_event(out, &c, &r->events[i], y);
        y += event_height(&c, &r->events[i]) + 6;
    }
    lab_outcome_text(r, text, sizeof text);
    svg_line(out, y + 28, r->outcome == SURVIVED ? "good" : "bad", text);
    fputs("</svg>\n", out);

    int err = ferror(out) ? -EIO : 0;

    if (fclose(out) != 0 && !err)
        err = -errno;
    return err;
}
