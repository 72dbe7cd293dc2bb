// SPDX-License-Identifier: Apache-2.0
/* The lines of "aims" (peers_aims.c) as a table of text, and as one of Markdown. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bench/html.h"
#include "daemon/bench/peers.h"

bool aim_is_synchronous(json_t *line)
{
    return strcmp(text_at(line, "against"), "synchronous client") == 0;
}

size_t aims_count(json_t *all, bool synchronous, const char *verdict)
{
    json_t *a;
    size_t i, n = 0;

    json_array_foreach(json_object_get(all, "aims"), i, a)
    {
        n += aim_is_synchronous(a) == synchronous &&
             (!verdict || strcmp(text_at(a, "verdict"), verdict) == 0);
    }
    return n;
}

/* "1.02 (0.98 to 1.05)"; "-" if it was not measured. */
const char *aim_spread(json_t *spread, char text[AIM_TEXT])
{
    char middle[32], low[32], high[32];

    if (!spread)
        return "-";
    html_figure(number_at(spread, "median"), middle);
    if (json_array_size(json_object_get(spread, "samples")) < 2)
        snprintf(text, AIM_TEXT, "%s", middle);
    else
        snprintf(text, AIM_TEXT, "%s (%s to %s)", middle,
                 html_figure(number_at(spread, "min"), low),
                 html_figure(number_at(spread, "max"), high));
    return text;
}

/* "at least 0.9"; "at most 2" */
const char *aim_wanted(json_t *line, char text[AIM_TEXT])
{
    char figure[32];

    snprintf(text, AIM_TEXT, "%s %s",
             strcmp(text_at(line, "sense"), "at least") == 0 ? "at least" : "at most",
             html_figure(number_at(line, "aim"), figure));
    return text;
}

static bool is_value(json_t *line)
{
    return strcmp(text_at(line, "sense"), "value at most") == 0;
}

/* ---- text ------------------------------------------------------------------------------------ */

static void print_lines(json_t *all, bool synchronous)
{
    char ours[AIM_TEXT], theirs[AIM_TEXT], ratio[AIM_TEXT], wanted[AIM_TEXT], work[160];
    json_t *a;
    size_t i;

    json_array_foreach(json_object_get(all, "aims"), i, a)
    {
        const char *verdict = text_at(a, "verdict");

        if (aim_is_synchronous(a) != synchronous)
            continue;
        snprintf(work, sizeof work, "%s%s%s%s", text_at(a, "work"), *text_at(a, "note") ? " [" : "",
                 text_at(a, "note"), *text_at(a, "note") ? "]" : "");
        printf("%-5s %-64.64s %-26s %-5s %-26s %-22s %-13s %s%s%s\n", text_at(a, "place"), work,
               aim_spread(json_object_get(a, "ours"), ours), text_at(a, "unit"),
               aim_spread(json_object_get(a, "theirs"), theirs),
               is_value(a) ? "" : aim_spread(json_object_get(a, "ratio"), ratio),
               aim_wanted(a, wanted), strcmp(verdict, "missed") == 0 ? "MISSED" : verdict,
               *text_at(a, "why") ? ": " : "", text_at(a, "why"));
    }
    printf("%zu of %zu met, %zu within noise, %zu not measured\n",
           aims_count(all, synchronous, "met"), aims_count(all, synchronous, NULL),
           aims_count(all, synchronous, "within noise"),
           aims_count(all, synchronous, "not measured"));
}

void peers_aims_print(json_t *all)
{
    if (!json_array_size(json_object_get(all, "aims")))
        return;
    printf("\naims: ours, the other, the ratio; medians (and ranges)\n");
    print_lines(all, false);
    printf("\naims: against the synchronous client\n");
    print_lines(all, true);
}

/* ---- Markdown -------------------------------------------------------------------------------- */

static void markdown_lines(FILE *f, json_t *all, bool synchronous)
{
    char ours[AIM_TEXT], theirs[AIM_TEXT], ratio[AIM_TEXT], wanted[AIM_TEXT];
    json_t *a;
    size_t i;

    fprintf(f, "| where | work | ours | %s | ratio | aim | |\n|---|---|---|---|---|---|---|\n",
            synchronous ? "synchronous client" : "against");
    json_array_foreach(json_object_get(all, "aims"), i, a)
    {
        const char *verdict = text_at(a, "verdict"), *note = text_at(a, "note");

        if (aim_is_synchronous(a) != synchronous)
            continue;
        fprintf(f, "| %s | %s%s%s%s | %s %s | %s%s%s | %s | %s | %s%s%s%s%s |\n",
                text_at(a, "place"), text_at(a, "work"), *note ? " (" : "", note, *note ? ")" : "",
                aim_spread(json_object_get(a, "ours"), ours), text_at(a, "unit"),
                synchronous ? "" : text_at(a, "against"), synchronous || is_value(a) ? "" : ": ",
                is_value(a) ? "" : aim_spread(json_object_get(a, "theirs"), theirs),
                is_value(a) ? "" : aim_spread(json_object_get(a, "ratio"), ratio),
                aim_wanted(a, wanted), strcmp(verdict, "missed") == 0 ? "**" : "", verdict,
                strcmp(verdict, "missed") == 0 ? "**" : "", *text_at(a, "why") ? ": " : "",
                text_at(a, "why"));
    }
    fprintf(f, "\n%zu of %zu met, %zu within noise, %zu not measured.\n",
            aims_count(all, synchronous, "met"), aims_count(all, synchronous, NULL),
            aims_count(all, synchronous, "within noise"),
            aims_count(all, synchronous, "not measured"));
}

static void markdown_all(FILE *f, json_t *all)
{
    json_t *machine = json_object_get(json_object_get(all, "machines"), "host");

    if (!machine)
        machine = json_object_get(json_object_get(all, "machines"), "guest");
    fprintf(f, "Measured %.10s, kernel %s, %.0f CPUs, in %.0f s.\n\n", text_at(all, "finished"),
            text_at(machine, "kernel"), number_at(machine, "cpus"), number_at(all, "seconds"));
    markdown_lines(f, all, false);
    fputs("\nAgainst the client that waits for each call:\n\n", f);
    markdown_lines(f, all, true);
}

#define MARK_BEGIN "<!-- bench peers: begin -->\n"
#define MARK_END   "<!-- bench peers: end -->"

/* The whole of a text file, or NULL: there is none. */
static char *read_text(const char *path)
{
    FILE *f = fopen(path, "re");
    char *text = NULL;
    size_t room = 0;

    ssize_t n = f ? getdelim(&text, &room, 0, f) : -1;
    if (f)
        fclose(f);
    if (n >= 0)
        return text;
    free(text);
    return NULL;
}

int peers_aims_markdown(json_t *all, const char *path)
{
    char *old = read_text(path);
    char *begin = old ? strstr(old, MARK_BEGIN) : NULL,
         *end = begin ? strstr(begin, MARK_END) : NULL;
    FILE *f = fopen(path, "we");
    bool good = f != NULL;

    if (f && end)
        fwrite(old, 1, (size_t)(begin - old) + strlen(MARK_BEGIN), f);
    if (f)
        markdown_all(f, all);
    if (f && end)
        fputs(end, f);
    good = good && !ferror(f);
    if (f && fclose(f))
        good = false;
    free(old);
    if (good)
        return 0;
    bench_fail(0, "--markdown=%s: %s", path, strerror(errno));
    return -EIO;
}
