// SPDX-License-Identifier: Apache-2.0
/* `nfscached-race list` and `nfscached-race show`. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/race/lab/timeline.h"
#include "tests/race/lab/verbs.h"

static const char *layers(const struct lab_entry *e)
{
    return e->lanes && e->mount ? "cache mount" : e->lanes ? "cache" : "mount";
}

static json_t *entry_json(const struct lab_entry *e)
{
    json_t *protocols = json_array();

    for (const struct lab_protocol *p = e->protocols; p->name; p++)
        json_array_append_new(protocols, json_pack("{s:s, s:s}", "name", p->name, "what", p->what));
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:o}", "number", (int)e->number, "name", e->name,
                     "year", e->year, "title", e->title, "layers", layers(e), "protocols",
                     protocols);
}

int race_list(int argc, const char **argv)
{
    int json = 0;
    const struct poptOption table[] = {{"json", 'j', POPT_ARG_NONE, &json, 0, "as JSON", NULL},
                                       POPT_AUTOHELP POPT_TABLEEND};
    poptContext context = race_options(argc, argv, table, "");

    if (!context)
        return USAGE;
    poptFreeContext(context);
    if (json) {
        json_t *all = json_array();

        for (const struct lab_entry *const *e = lab_catalogue; *e; e++)
            json_array_append_new(all, entry_json(*e));
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
        return 0;
    }
    for (const struct lab_entry *const *e = lab_catalogue; *e; e++)
        printf("%2u  %-19s %-10s %-12s %s\n", (*e)->number, (*e)->name, (*e)->year, layers(*e),
               (*e)->title);
    return 0;
}

static void paragraph(const char *title, const char *text, unsigned width)
{
    unsigned column = 4;

    printf("%s\n    ", title);
    for (const char *s = text; *s;) {
        unsigned n = (unsigned)strcspn(s, " \n");

        if (*s == '\n') {
            fputs("\n    ", stdout);
            column = 4;
            s++;
            continue;
        }
        if (column + n >= width && column > 4) {
            fputs("\n    ", stdout);
            column = 4;
        }
        printf("%.*s", (int)n, s);
        s += n;
        column += n;
        if (*s == ' ') {
            putchar(' ');
            column++;
            s++;
        }
    }
    puts("\n");
}

static void show_protocols(const struct lab_entry *e, unsigned width)
{
    puts("PROTOCOLS");
    for (const struct lab_protocol *p = e->protocols; p->name; p++) {
        printf("    %-18s %s\n", p->name, p->what);
        for (unsigned f = 0; f < FAULTS; f++)
            if (p->faults >> f & 1)
                printf("        in %s\n"
                       "            shipped: %s\n"
                       "            faulty:  %s\n",
                       lab_fault_texts[f].where, lab_fault_texts[f].shipped,
                       lab_fault_texts[f].fault);
        if (p->weakness)
            printf("        weakness: %s\n", p->weakness);
    }
    putchar('\n');
    (void)width;
}

/* The first protocol that fails: what there is to see. */
static const struct lab_protocol *to_draw(const struct lab_entry *e, const char *name)
{
    if (name)
        return race_protocol(e, name);
    for (const struct lab_protocol *p = e->protocols; p->name; p++)
        if (p->on_cache != SURVIVED)
            return p;
    return e->protocols;
}

int race_show(int argc, const char **argv)
{
    char *protocol = NULL;
    const struct poptOption table[] = {{"protocol", 'p', POPT_ARG_STRING, &protocol, 0,
                                        "the one to draw (one that fails)", "NAME"},
                                       POPT_AUTOHELP POPT_TABLEEND};
    poptContext context = race_options(argc, argv, table, "NAME");
    const char *name = context ? poptGetArg(context) : NULL;
    unsigned width = race_width();

    if (!context)
        return USAGE;
    if (!name)
        return race_fail(USAGE, "which race? `nfscached-race list` names them");

    const struct lab_entry *e = race_entry(name);
    const struct lab_protocol *p = e ? to_draw(e, protocol) : NULL;

    poptFreeContext(context);
    free(protocol);
    if (!e || !p)
        return USAGE;
    printf("%u. %s (%s)\n%s\n\n", e->number, e->name, e->year, e->title);
    paragraph("HISTORY", e->history, width);
    paragraph("SOURCE", e->source, width);
    paragraph("MECHANISM", e->mechanism, width);
    paragraph("WHAT SAVES US", e->saved_by, width);
    show_protocols(e, width);
    if (!e->lanes) {
        printf("It needs the real kernel: nfscached-race run %s --on mount\n", e->name);
        return 0;
    }

    const char *schedule = p->schedule ? p->schedule : e->schedule;
    struct lab_result r;

    printf("SCHEDULE\n");
    for (const char *s = schedule; *s;) {
        unsigned n = (unsigned)strcspn(s, "\n");

        printf("    %.*s\n", (int)n, s);
        s += n + (s[n] == '\n');
    }
    printf("\nUNDER %s\n", p->name);
    lab_run_on_cache(e, p, NULL, &r);
    timeline_text(stdout, &r, width);

    char text[64];

    lab_outcome_text(&r, text, sizeof text);
    printf("%s%s%s\n", text, r.verdict[0] ? ": " : "", r.verdict);
    lab_result_free(&r);
    return 0;
}
