// SPDX-License-Identifier: Apache-2.0
/* What a run found; see report.h. */
#include "tests/race/probe/report.h"

#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

const char *level_name(enum level l)
{
    static const char *const names[] = {"close-to-open", "coherent", "local"};
    return names[l];
}

/* "nfs 127.0.0.1:/export", from the line of /proc/self/mountinfo with the directory's device. */
static const char *kind_of_mount(const char *dir)
{
    static char ring[4][200];
    static unsigned next;
    char *out = ring[next++ % 4], line[4096], dev[40], type[64], source[1024];
    struct stat st;
    FILE *f = fopen("/proc/self/mountinfo", "r");

    snprintf(out, sizeof ring[0], "unknown");
    if (!f || stat(dir, &st)) {
        if (f)
            fclose(f);
        return out;
    }
    snprintf(dev, sizeof dev, " %u:%u ", major(st.st_dev), minor(st.st_dev));
    while (fgets(line, sizeof line, f)) {
        char *at = strstr(line, dev), *dash = strstr(line, " - ");
        if (at && dash && sscanf(dash, " - %63s %1023s", type, source) == 2)
            snprintf(out, sizeof ring[0], "%s %.120s", type, source);
    }
    fclose(f);
    return out;
}

static void head_line(const struct way *w)
{
    if (w->dir)
        printf("%-12s %s (%s)%s\n", w->option + 2, w->dir, kind_of_mount(w->dir),
               w->map ? "" : ", not mapped");
}

void report_head(const struct probe *p)
{
    head_line(&p->a);
    if (p->b.dir && p->b.dir != p->s.dir)
        head_line(&p->b);
    if (p->s.dir)
        printf("%-12s %s (%s)\n", "server-dir", p->s.dir, kind_of_mount(p->s.dir));
    printf("expecting    %s; times at the server differ after %.1f ms; seed %llu\n",
           level_name(p->expect), p->tick * 1e3, (unsigned long long)p->seed);
    if (!p->b.dir)
        printf("note         neither --mount2 nor --server-dir: no other client writes, and what "
               "the server has is not seen\n");
    fflush(stdout);
}

static long sum(const volatile long *n)
{
    long total = 0;
    for (int k = 0; k < KINDS; k++)
        total += n[k];
    return total;
}

void report_progress(const struct probe *p)
{
    static double last;
    double now = t_now();

    if (now - last < 0.2)
        return;
    last = now;
    fprintf(stderr, "\r\033[K%s: round %ld, found %ld", checks[p->check].name, res(p)->rounds,
            sum(res(p)->found));
    fflush(stderr);
}

void report_no_progress(void)
{
    fprintf(stderr, "\r\033[K");
}

static void add_text(char *out, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void add_text(char *out, size_t size, const char *fmt, ...)
{
    size_t n = strlen(out);
    va_list ap;
    if (n)
        n += (size_t)snprintf(out + n, size - n, ", ");
    va_start(ap, fmt);
    vsnprintf(out + n, size - n, fmt, ap);
    va_end(ap);
}

static void row(const struct probe *p, int i)
{
    const struct result *r = &p->sh->result[i];
    char beyond[400] = "";

    if (!r->ran) {
        if (*r->skipped && !checks[i].by_request)
            printf("%-14s left out: %s\n", checks[i].name, r->skipped);
        return;
    }
    for (int k = 0; k < KINDS; k++)
        if (r->observed[k])
            add_text(beyond, sizeof beyond, "%s %ld", kind_name[k], r->observed[k]);
    if (r->passing)
        add_text(beyond, sizeof beyond, "torn in passing %ld", r->passing);
    if (r->age_map > 0)
        add_text(beyond, sizeof beyond, "mapping %.2f s old", r->age_map);
    if (r->age_read > 0)
        add_text(beyond, sizeof beyond, "descriptor %.2f s old", r->age_read);
    if (r->unseen)
        add_text(beyond, sizeof beyond, "not seen %ld", r->unseen);
    if (r->cut_short)
        add_text(beyond, sizeof beyond, "cut short");
    printf("%-14s %7ld %8ld %9ld %6ld %6ld %6ld %6ld %6ld  %s\n", checks[i].name, r->rounds,
           r->writes, r->reads, r->found[LOST], r->found[STALE], r->found[TORN], r->found[WRONG],
           r->found[LOST_ERROR], beyond);
}

static long people(const struct probe *p)
{
    long total = 0, by[KINDS] = {0};
    int n = 0;

    printf("\n%-14s %7s %8s %9s %6s %6s %6s %6s %6s  %s\n", "check", "rounds", "writes", "reads",
           "lost", "stale", "torn", "wrong", "error", "beyond the promise");
    for (int i = 0; i < n_checks; i++)
        row(p, i);
    for (int i = 0; i < n_checks; i++) {
        const struct result *r = &p->sh->result[i];
        for (int k = 0; k < KINDS; k++)
            by[k] += r->found[k];
        total += sum(r->found);
        if (*r->first)
            printf("%s%s\n", n++ ? "" : "\nfound, the first of each check:\n", r->first);
    }
    n = 0;
    for (int i = 0; i < n_checks; i++)
        if (*p->sh->result[i].first_observed)
            printf("%s%s\n",
                   n++ ? "" : "\nseen, but not promised otherwise, the first of each check:\n",
                   p->sh->result[i].first_observed);
    printf("\n%s:", total ? "FOUND" : "nothing found");
    for (int k = 0; k < KINDS; k++)
        if (by[k])
            printf(" %s %ld", kind_name[k], by[k]);
    printf("%s\n", total ? "" : " what was expected was kept");
    return total;
}

static json_t *kinds(const volatile long *n)
{
    json_t *o = json_object();
    for (int k = 0; k < KINDS; k++) {
        char name[20];
        snprintf(name, sizeof name, "%s", kind_name[k]);
        for (char *c = name; *c; c++)
            if (*c == ' ')
                *c = '_';
        json_object_set_new(o, name, json_integer(n[k]));
    }
    return o;
}

static json_t *text_or_null(const char *s)
{
    return s && *s ? json_string(s) : json_null();
}

static json_t *way_of(const struct way *w)
{
    return w->dir ? json_pack("{s:s, s:s}", "directory", w->dir, "type", kind_of_mount(w->dir))
                  : json_null();
}

static long as_json(const struct probe *p)
{
    json_t *list = json_array(), *o = json_object();
    long total = 0;

    for (int i = 0; i < n_checks; i++) {
        const struct result *r = &p->sh->result[i];
        json_t *c = json_object();
        total += sum(r->found);
        json_object_set_new(c, "check", json_string(checks[i].name));
        json_object_set_new(c, "ran", json_boolean(r->ran));
        json_object_set_new(c, "left_out", text_or_null(r->ran ? NULL : r->skipped));
        json_array_append_new(list, c);
        if (!r->ran)
            continue;
        json_object_set_new(c, "cut_short", json_boolean(r->cut_short));
        json_object_set_new(c, "seconds", json_real(r->seconds));
        json_object_set_new(c, "rounds", json_integer(r->rounds));
        json_object_set_new(c, "writes", json_integer(r->writes));
        json_object_set_new(c, "reads", json_integer(r->reads));
        json_object_set_new(c, "found", kinds(r->found));
        json_object_set_new(c, "observed", kinds(r->observed));
        json_object_set_new(c, "torn_in_passing", json_integer(r->passing));
        json_object_set_new(c, "oldest_mapping_s", json_real(r->age_map));
        json_object_set_new(c, "oldest_descriptor_s", json_real(r->age_read));
        json_object_set_new(c, "not_seen", json_integer(r->unseen));
        json_object_set_new(c, "first_found", text_or_null(r->first));
        json_object_set_new(c, "first_observed", text_or_null(r->first_observed));
    }
    json_object_set_new(o, "mount", way_of(&p->a));
    json_object_set_new(o, "mount2", p->b.dir != p->s.dir ? way_of(&p->b) : json_null());
    json_object_set_new(o, "server_dir", way_of(&p->s));
    json_object_set_new(o, "mapped", json_boolean(p->a.map));
    json_object_set_new(o, "expect", json_string(level_name(p->expect)));
    json_object_set_new(o, "seed", json_integer((json_int_t)p->seed));
    json_object_set_new(o, "tick_s", json_real(p->tick));
    json_object_set_new(o, "checks", list);
    json_object_set_new(o, "found", json_integer(total));
    json_object_set_new(o, "interrupted", json_boolean(p->sh->interrupted));
    json_dumpf(o, stdout, JSON_PRESERVE_ORDER | JSON_INDENT(1));
    putchar('\n');
    json_decref(o);
    return total;
}

long report_end(const struct probe *p, bool json)
{
    long total = json ? as_json(p) : people(p);
    fflush(stdout);
    return total;
}
