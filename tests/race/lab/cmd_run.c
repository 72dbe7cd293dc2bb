// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached-race run`: one entry with its timeline, or all as a table.
 *
 * The exit status says whether every outcome was the one that is expected of its protocol: a faulty
 * protocol that loses nothing is as much a failure as a shipped one that does.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/race/lab/exclude.h"
#include "tests/race/lab/timeline.h"
#include "tests/race/lab/verbs.h"

enum layer { ON_CACHE, ON_MOUNT, LAYERS };

static const char *const layer_names[] = {"cache", "mount"};

struct options {
    int all, json, rounds, seed, quiet, cost;
    char *protocol, *on, *server, *timeline, *schedule;
    char *text; /* of the schedule's file */
};

static bool has_layer(const struct lab_entry *e, const struct lab_protocol *p, enum layer layer)
{
    return layer == ON_CACHE ? e->lanes && !p->not_on_cache : e->mount && !p->not_on_mount;
}

static enum lab_outcome expected(const struct lab_protocol *p, enum layer layer)
{
    return layer == ON_CACHE ? p->on_cache : p->on_mount;
}

static int run_on(const struct lab_entry *e, const struct lab_protocol *p, enum layer layer,
                  const struct options *o, struct lab_result *r)
{
    if (layer == ON_CACHE)
        return lab_run_on_cache(e, p, o->text, r);

    struct lab_mount_options m = {.server = o->server, .seed = (unsigned)o->seed};

    return lab_run_on_mount(e, p, &m, r);
}

static json_t *result_json(const struct lab_entry *e, const struct lab_protocol *p,
                           enum layer layer, const struct lab_result *r)
{
    json_t *events = json_array();

    for (unsigned i = 0; i < r->nevents; i++)
        json_array_append_new(
            events, json_pack("{s:i, s:s, s:s, s:s, s:b}", "step", (int)r->events[i].step, "column",
                              lab_column_name(r->events[i].column), "lane", r->events[i].lane,
                              "text", r->events[i].text, "loss", (int)r->events[i].loss));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:s, s:f, s:o}", "entry", e->name,
                     "protocol", p->name, "layer", layer_names[layer], "expected",
                     lab_outcome_name(expected(p, layer)), "seen", lab_outcome_name(r->outcome),
                     "lost", (int)r->lost, "stale", (int)r->stale, "verdict", r->verdict, "seconds",
                     r->seconds, "events", events);
}

/* ---- one ---- */

static void print_run(const struct lab_entry *e, const struct lab_protocol *p, enum layer layer,
                      const struct lab_result *r, bool timeline)
{
    char text[64];

    printf("%s, protocol %s, on the %s\n%s\n\n", e->name, p->name, layer_names[layer], p->what);
    if (timeline)
        timeline_text(stdout, r, race_width());
    lab_outcome_text(r, text, sizeof text);
    if (r->verdict[0])
        printf("%s\n", r->verdict);
    printf("%s%s%s\n\n", text, r->outcome == expected(p, layer) ? "" : ", expected: ",
           r->outcome == expected(p, layer) ? "" : lab_outcome_name(expected(p, layer)));
}

static const char *svg_of(const struct lab_entry *e, const struct lab_protocol *p,
                          const struct options *o)
{
    /* Of several runs the first that fails is drawn. */
    for (const struct lab_protocol *q = e->protocols; !o->protocol && q->name; q++)
        if (q->on_cache != SURVIVED || q->on_mount != SURVIVED)
            return q == p ? o->timeline : NULL;
    return o->timeline;
}

/* Rounds of one protocol on one layer, as they are asked for. The exit status. */
static int run_rounds(const struct lab_entry *e, const struct lab_protocol *p, enum layer layer,
                      const struct options *o, json_t *out)
{
    unsigned bad = 0;

    for (int i = 0; i < o->rounds; i++) {
        struct lab_result r;
        int rc = run_on(e, p, layer, o, &r);
        const char *svg = svg_of(e, p, o);

        if (rc == -EINVAL) {
            race_fail(0, "%s", r.verdict);
            lab_result_free(&r);
            return USAGE;
        }
        if (svg && i == 0) {
            rc = timeline_svg(svg, e, p, layer_names[layer], &r);
            if (rc)
                race_fail(0, "%s: %s", svg, strerror(-rc));
        }
        if (out)
            json_array_append_new(out, result_json(e, p, layer, &r));
        else if (i == 0 || r.outcome != expected(p, layer))
            print_run(e, p, layer, &r, !o->quiet);
        bad += r.outcome != expected(p, layer);
        lab_result_free(&r);
    }
    if (o->rounds > 1 && !out)
        printf("%d rounds, %u not as expected\n\n", o->rounds, bad);
    return bad ? UNEXPECTED : EXPECTED;
}

static int worse(int a, int b)
{
    return a > b ? a : b;
}

static int run_one(const struct lab_entry *e, const struct options *o)
{
    json_t *out = o->json ? json_array() : NULL;
    int status = EXPECTED;
    unsigned runs = 0;

    for (const struct lab_protocol *p = e->protocols; p->name; p++) {
        if (o->protocol && strcmp(p->name, o->protocol) != 0)
            continue;
        for (enum layer layer = 0; layer < LAYERS; layer++) {
            /* Both if nothing is said would mount where somebody wants to look at the schedule. */
            bool asked = o->on ? strcmp(o->on, layer_names[layer]) == 0
                               : layer == (e->lanes ? ON_CACHE : ON_MOUNT);

            if (!asked || !has_layer(e, p, layer))
                continue;
            status = worse(status, run_rounds(e, p, layer, o, out));
            runs++;
        }
    }
    if (!runs)
        status = race_fail(USAGE, "%s does not run on the %s", e->name,
                           o->on ? o->on : "cache or the mount");
    if (out) {
        json_dumpf(out, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(out);
    }
    return status;
}

/* ---- all ---- */

struct totals {
    unsigned good, bad, skipped;
};

static void table_line(const struct lab_entry *e, const struct lab_protocol *p, enum layer layer,
                       const struct options *o, struct totals *t, json_t *out)
{
    struct lab_result r = {0};
    char text[64] = "";
    double seconds = 0;
    unsigned bad = 0;

    for (int i = 0; i < o->rounds; i++) {
        lab_result_free(&r);
        /* Nobody asked for a mount by name, and there is none to be had here. */
        if (run_on(e, p, layer, o, &r) == -EPERM && layer == ON_MOUNT && !o->on) {
            if (!out && !t->skipped)
                printf("skipped on the mount: %s\n", r.verdict);
            t->skipped++;
            lab_result_free(&r);
            return;
        }
        seconds += r.seconds;
        lab_outcome_text(&r, text, sizeof text);
        if (r.outcome != expected(p, layer)) {
            bad++;
            break;
        }
    }
    if (out) {
        json_array_append_new(out, result_json(e, p, layer, &r));
    } else {
        printf("%-20s %-20s %-6s %-9s %-12s %8.3f s%s\n", e->name, p->name, layer_names[layer],
               lab_outcome_name(expected(p, layer)), text, seconds, bad ? "  <-- FAILED" : "");
        if (bad)
            printf("    %s\n    again: nfscached-race run %s --protocol %s --on %s\n", r.verdict,
                   e->name, p->name, layer_names[layer]);
        fflush(stdout);
    }
    t->good += !bad;
    t->bad += bad;
    lab_result_free(&r);
}

static int run_all(const struct options *o)
{
    json_t *out = o->json ? json_array() : NULL;
    struct totals t = {0};

    if (!out)
        printf("%-20s %-20s %-6s %-9s %-12s %10s\n", "entry", "protocol", "layer", "expected",
               "seen", "time");
    for (const struct lab_entry *const *e = lab_catalogue; *e; e++)
        for (const struct lab_protocol *p = (*e)->protocols; p->name; p++)
            for (enum layer layer = 0; layer < LAYERS; layer++)
                if (has_layer(*e, p, layer) && (!o->on || strcmp(o->on, layer_names[layer]) == 0))
                    table_line(*e, p, layer, o, &t, out);
    if (out) {
        json_dumpf(out, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(out);
    } else {
        printf("%u passed, %u failed, %u skipped\n", t.good, t.bad, t.skipped);
    }
    return t.bad ? UNEXPECTED : EXPECTED;
}

/* ---- the command line ---- */

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = NULL;
    size_t room = 0;

    if (!f)
        return NULL;

    ssize_t n = getdelim(&text, &room, '\0', f);

    fclose(f);
    if (n < 0) {
        free(text);
        errno = EINVAL;
        return NULL;
    }
    return text;
}

static int checked(const struct options *o, const char *name, bool more)
{
    if (o->on && strcmp(o->on, "cache") != 0 && strcmp(o->on, "mount") != 0)
        return race_fail(USAGE, "--on=%s: cache or mount", o->on);
    if (o->rounds < 1)
        return race_fail(USAGE, "--rounds=%d: expected a number above 0", o->rounds);
    if (more || (o->all && name))
        return race_fail(USAGE, "one NAME, or --all");
    if (!o->all && !name)
        return race_fail(USAGE, "which race? `nfscached-race list` names them; or --all");
    if (o->all && (o->protocol || o->timeline || o->schedule))
        return race_fail(USAGE, "--protocol, --timeline and --schedule go with one NAME");
    if (o->cost && (!name || strcmp(name, "orphan-map") != 0))
        return race_fail(USAGE, "--cost goes with orphan-map");
    if (o->schedule && !o->protocol)
        return race_fail(USAGE, "--schedule: say --protocol as well");
    return EXPECTED;
}

int race_run(int argc, const char **argv)
{
    struct options o = {.rounds = 1, .seed = 1};
    const struct poptOption table[] = {
        {"all", 'a', POPT_ARG_NONE, &o.all, 0, "the whole catalogue, as a table", NULL},
        {"protocol", 'p', POPT_ARG_STRING, &o.protocol, 0, "one of its protocols (all)", "NAME"},
        {"on", 0, POPT_ARG_STRING, &o.on, 0,
         "cache: in memory, deterministic; mount: a real mount (cache, where it runs there)",
         "cache|mount"},
        {"rounds", 'n', POPT_ARG_INT, &o.rounds, 0, "how often (1)", "N"},
        {"seed", 's', POPT_ARG_INT, &o.seed, 0, "of what is random on a mount (1)", "N"},
        {"server", 0, POPT_ARG_STRING, &o.server, 0,
         "on the mount: this server in the place of the embedded one", "HOST:/EXPORT"},
        {"schedule", 0, POPT_ARG_STRING, &o.schedule, 0, "on the cache: another schedule", "FILE"},
        {"timeline", 't', POPT_ARG_STRING, &o.timeline, 0, "draw the run", "FILE.svg"},
        {"quiet", 'q', POPT_ARG_NONE, &o.quiet, 0, "no timeline", NULL},
        {"cost", 0, POPT_ARG_NONE, &o.cost, 0, "orphan-map: what each way costs", NULL},
        {"json", 'j', POPT_ARG_NONE, &o.json, 0, "as JSON", NULL},
        POPT_AUTOHELP POPT_TABLEEND};
    poptContext context = race_options(argc, argv, table, "NAME | --all");
    const char *name = context ? poptGetArg(context) : NULL;
    int status = context ? checked(&o, name, poptPeekArg(context) != NULL) : USAGE;

    if (status == EXPECTED && o.schedule && !(o.text = read_file(o.schedule)))
        status = race_fail(USAGE, "--schedule=%s: %s", o.schedule, strerror(errno));
    if (status == EXPECTED && o.cost) {
        status = orphan_map_cost();
    } else if (status == EXPECTED && o.all) {
        status = run_all(&o);
    } else if (status == EXPECTED) {
        const struct lab_entry *e = race_entry(name);

        status = !e || (o.protocol && !race_protocol(e, o.protocol)) ? USAGE : run_one(e, &o);
    }
    if (context)
        poptFreeContext(context);
    free(o.text);
    free(o.protocol);
    free(o.on);
    free(o.server);
    free(o.schedule);
    free(o.timeline);
    return status;
}
