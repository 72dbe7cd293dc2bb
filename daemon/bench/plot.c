// SPDX-License-Identifier: Apache-2.0
/*
 * A plot becomes a gnuplot script, the script an SVG, the SVG a part of the page. The colours are
 * those of Okabe and Ito ("Color universal design", 2008), which people with any kind of colour
 * vision can tell apart; series differ in their marks, too.
 */
#include "daemon/bench/plot.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/bench/bench.h"
#include "daemon/bench/figures.h"
#include "daemon/bench/html.h"

static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                      "#e69f00", "#56b4e9", "#7a5195", "#444444"};
static const int marks[] = {7, 5, 9, 13, 11, 15, 6, 4};
enum { NCOLOURS = sizeof colours / sizeof colours[0] };

/* ---- filling in ------------------------------------------------------------------------------ */

static void *must(void *p)
{
    if (!p) {
        bench_fail(0, "out of memory");
        exit(BENCH_FAILED);
    }
    return p;
}

struct plot_series *plot_series(struct plot *p, const char *name)
{
    for (size_t i = 0; i < p->nseries; i++)
        if (strncmp(p->series[i].name, name, sizeof p->series[i].name - 1) == 0)
            return &p->series[i];
    p->series = must(realloc(p->series, (p->nseries + 1) * sizeof *p->series));
    struct plot_series *s = &p->series[p->nseries++];
    memset(s, 0, sizeof *s);
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

void plot_add(struct plot_series *s, double x, double y, double low, double high)
{
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 16;
        s->points = must(realloc(s->points, s->room * sizeof *s->points));
    }
    s->points[s->n++] = (struct plot_point){x, y, low, high};
}

size_t plot_group(struct plot *p, const char *name)
{
    for (size_t i = 0; i < p->ngroups; i++)
        if (strncmp(p->groups[i], name, sizeof p->groups[i] - 1) == 0)
            return i;
    p->groups = must(realloc(p->groups, (p->ngroups + 1) * sizeof *p->groups));
    snprintf(p->groups[p->ngroups], sizeof p->groups[0], "%s", name);
    return p->ngroups++;
}

static void plot_clear(struct plot *p)
{
    for (size_t i = 0; i < p->nseries; i++)
        free(p->series[i].points);
    free(p->series);
    free(p->groups);
    p->series = NULL;
    p->groups = NULL;
    p->nseries = p->ngroups = 0;
}

/* ---- the script ------------------------------------------------------------------------------ */

/* In double quotes; gnuplot knows the escapes of C there. */
static void quote(FILE *s, const char *text)
{
    fputc('"', s);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', s);
        if ((unsigned char)*text >= ' ')
            fputc(*text, s);
    }
    fputc('"', s);
}

static void write_data(FILE *s, const struct plot *p)
{
    for (size_t i = 0; i < p->nseries; i++) {
        fprintf(s, "$d%zu << END\n", i);
        for (size_t k = 0; k < p->series[i].n; k++) {
            struct plot_point d = p->series[i].points[k];
            /* A place for 0 on a logarithmic axis. */
            if (p->zero_is_left && d.x <= 0)
                d.x = 0.25;
            if (p->log_y && d.y <= 0)
                continue;
            if (p->log_y && d.low <= 0)
                d.low = d.y;
            fprintf(s, "%.9g %.9g %.9g %.9g\n", d.x, d.y, d.low, d.high);
        }
        fputs("END\n", s);
    }
}

static bool has_long_key(const struct plot *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->nseries; i++)
        n += strlen(p->series[i].name) + 4;
    return n > 110;
}

static bool is_full(const struct plot *p)
{
    return p->full || has_long_key(p);
}

/* Times on a logarithmic scale get their units, large numbers k and M. */
static void write_tics(FILE *s, char axis, bool logarithmic, const char *label, double most)
{
    if (logarithmic && label && strcmp(label, "µs") == 0)
        fprintf(
            s,
            "set %ctics ('1 ns' 0.001, '10 ns' 0.01, '100 ns' 0.1, '1 µs' 1, '10 µs' 10, '100 µs' "
            "100, '1 ms' 1e3, '10 ms' 1e4, '100 ms' 1e5, '1 s' 1e6, '10 s' 1e7)\nunset %clabel\n",
            axis, axis);
    else
        fprintf(s, "set format %c '%s'\n", axis, most >= 1e4 ? "%.0s%c" : "%g");
}

static void write_axes(FILE *s, const struct plot *p, unsigned number)
{
    bool bars = p->kind == PLOT_BARS;
    double most_x = 0, most_y = 0, least_y = INFINITY;

    for (size_t i = 0; i < p->nseries; i++) {
        for (size_t k = 0; k < p->series[i].n; k++) {
            most_x = fmax(most_x, p->series[i].points[k].x);
            most_y = fmax(most_y, p->series[i].points[k].y);
            if (p->series[i].points[k].y > 0)
                least_y = fmin(least_y, p->series[i].points[k].y);
        }
    }
    fprintf(s,
            "set terminal svg size %d,%d dynamic noenhanced name 'f%u' "
            "font 'system-ui,Segoe UI,Liberation Sans,sans-serif,13'\n",
            is_full(p) ? 1100 : 640, bars ? 420 : 380, number);
    fputs("set encoding utf8\nset border 3 lc rgb '#9aa3af'\nset tics nomirror textcolor rgb "
          "'#3a4350'\n"
          "set grid ytics lc rgb '#e3e7ed' lw 1\n"
          "set key above left horizontal samplen 1.5 spacing 1.1 textcolor rgb '#1c2430'\n",
          s);
    /* Many names, or long ones: beside the figure. */
    if (has_long_key(p))
        fputs("set key outside right top vertical samplen 1.5 spacing 1.15\n", s);
    if (p->xlabel) {
        fputs("set xlabel ", s);
        quote(s, p->xlabel);
        fputs(" textcolor rgb '#3a4350'\n", s);
    }
    if (p->ylabel) {
        fputs("set ylabel ", s);
        quote(s, p->ylabel);
        fputs(" textcolor rgb '#3a4350'\n", s);
    }
    if (p->log_x)
        fputs("set logscale x\nset grid xtics lc rgb '#eef1f5' lw 1\n", s);
    if (p->log_y)
        fprintf(s, "set logscale y\nset yrange [%g:*]\n",
                isfinite(least_y) ? pow(10, floor(log10(least_y) - 0.05)) : 1);
    else
        fputs("set yrange [0:*]\n", s);
    write_tics(s, 'y', p->log_y, p->ylabel, most_y);
    if (!bars)
        write_tics(s, 'x', p->log_x, p->xlabel, most_x);
    if (p->zero_is_left)
        fputs("set xtics ('0' 0.25, '1' 1, '4' 4, '16' 16, '64' 64, '256' 256, '1 Ki' 1024, '4 Ki' "
              "4096, '16 Ki' 16384, '64 Ki' 65536, '256 Ki' 262144, '1 Mi' 1048576)\n",
              s);
    if (bars) {
        /* Few bars stay slim. */
        double room = p->ngroups < 4 ? (4 - (double)p->ngroups) / 2 : 0;
        fprintf(s,
                "set xrange [%g:%g]\nset boxwidth 0.9 relative\nset style fill solid 0.9 noborder\n"
                "set xtics (",
                -0.6 - room, (double)p->ngroups - 0.4 + room);
        for (size_t i = 0; i < p->ngroups; i++) {
            fputs(i ? ", " : "", s);
            quote(s, p->groups[i]);
            fprintf(s, " %zu", i);
        }
        fprintf(s, ")%s\n", p->ngroups > 4 ? " rotate by -28" : "");
    }
}

/* Bars: a group is one wide, its series stand side by side, a limit is a mark over all of it. */
static void write_bars(FILE *s, const struct plot *p)
{
    size_t data = 0, k = 0;
    const char *sep = "plot ";

    for (size_t i = 0; i < p->nseries; i++)
        data += !p->series[i].is_limit;
    double width = 0.8 / (double)(data ? data : 1);
    for (size_t i = 0; i < p->nseries; i++) {
        const struct plot_series *t = &p->series[i];
        if (t->is_limit)
            continue;
        double shift = ((double)k - (double)(data - 1) / 2) * width;
        fprintf(s, "%s$d%zu using ($1+%g):2:(%g) with boxes lc rgb '%s' title ", sep, i, shift,
                width * 0.94, colours[k % NCOLOURS]);
        quote(s, t->name);
        fprintf(s,
                ", $d%zu using ($1+%g):3:(0):($4-$3) with vectors nohead lc rgb '#2b3440' lw 1.2 "
                "notitle",
                i, shift);
        sep = ", ";
        k++;
    }
    for (size_t i = 0; i < p->nseries; i++) {
        if (!p->series[i].is_limit)
            continue;
        fprintf(s,
                "%s$d%zu using ($1-0.42):2:(0.84):(0) with vectors nohead lc rgb '#b3261e' lw 2.5 "
                "dt 2 title ",
                sep, i);
        quote(s, p->series[i].name);
        sep = ", ";
    }
    fputc('\n', s);
}

/* Whiskers first, so that they lie behind the marks. */
static void write_lines(FILE *s, const struct plot *p)
{
    const char *sep = "plot ";

    for (size_t i = 0; p->kind == PLOT_LINES && i < p->nseries; i++) {
        fprintf(s, "%s$d%zu using 1:3:(0):($4-$3) with vectors nohead lw 1.2 lc rgb '%s' notitle",
                sep, i, colours[i % NCOLOURS]);
        sep = ", ";
    }
    for (size_t i = 0; i < p->nseries; i++) {
        const char *colour = colours[i % NCOLOURS];
        if (p->kind == PLOT_STEPS)
            fprintf(s, "%s$d%zu using 1:2 with lines lw 1.8 dt %d lc rgb '%s' title ", sep, i,
                    i < NCOLOURS ? 1 : 2, colour);
        else
            fprintf(s, "%s$d%zu using 1:2 with linespoints lw 2 pt %d ps 0.7 lc rgb '%s' title ",
                    sep, i, marks[i % NCOLOURS], colour);
        quote(s, p->series[i].name);
        sep = ", ";
    }
    fputc('\n', s);
}

/* ---- gnuplot --------------------------------------------------------------------------------- */

int figures_check(void)
{
    int rc = system("exec gnuplot --version >/dev/null 2>&1");

    if (rc == 0)
        return 0;
    bench_fail(0, "--report: the plots need gnuplot, which is not here: install the package "
                  "gnuplot-nox (the results can be had with --json, and the page later by "
                  "`nfscached bench report`)");
    return -ENOENT;
}

/* Copies an SVG: from its tag on, and with ids that no other figure of the page has. */
static void copy_svg(FILE *html, char *svg, unsigned number)
{
    static const char *const before_id[] = {" id='",    " id=\"",    " href='#", " href=\"#",
                                            ":href='#", ":href=\"#", "url(#"};
    char *at = strstr(svg, "<svg");

    while (at && *at) {
        size_t i = 0, n = sizeof before_id / sizeof before_id[0];
        while (i < n && strncmp(at, before_id[i], strlen(before_id[i])) != 0)
            i++;
        if (i == n) {
            fputc(*at++, html);
            continue;
        }
        fprintf(html, "%sg%u", before_id[i], number);
        at += strlen(before_id[i]);
    }
}

static const char *save_to;

int plot_save_to(const char *directory)
{
    save_to = directory;
    if (!directory || mkdir(directory, 0777) == 0 || errno == EEXIST)
        return 0;

    int saved = errno;

    bench_fail(0, "%s: %s", directory, strerror(saved));
    return -saved;
}

static int save(const char *title, const char *svg, size_t size)
{
    char path[4096];
    size_t n = (size_t)snprintf(path, sizeof path - 5, "%.3900s/", save_to);

    for (const char *at = title; *at && n < sizeof path - 5; at++)
        if (isalnum((unsigned char)*at))
            path[n++] = (char)tolower((unsigned char)*at);
        else if (path[n - 1] != '-' && path[n - 1] != '/')
            path[n++] = '-';
    memcpy(path + n, ".svg", 5);

    FILE *f = fopen(path, "we");
    bool good = f && fwrite(svg, 1, size, f) == size;

    if (f && fclose(f))
        good = false;
    if (!good)
        bench_fail(0, "%s: %s", path, strerror(errno));
    return good ? 0 : -EIO;
}

static int draw(FILE *html, const char *title, const char *script, size_t size, unsigned number)
{
    char path[] = "/tmp/nfscached-plot.XXXXXX", command[80];
    int fd = mkstemp(path), rc = 0;
    char *svg = NULL;
    size_t svg_size = 0;
    FILE *copy = open_memstream(&svg, &svg_size);

    if (fd < 0 || !copy || write(fd, script, size) != (ssize_t)size) {
        rc = -errno;
    } else {
        snprintf(command, sizeof command, "exec gnuplot %s 2>/dev/null", path);
        FILE *pipe = popen(command, "re");
        int c;
        while (pipe && (c = getc(pipe)) != EOF)
            putc(c, copy);
        int status = pipe ? pclose(pipe) : -1;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            rc = -EIO;
    }
    if (copy)
        fclose(copy);
    if (rc == 0 && (!svg || !strstr(svg, "</svg>")))
        rc = -EIO;
    if (rc == 0 && save_to)
        rc = save(title, svg, svg_size);
    if (rc == 0)
        copy_svg(html, svg, number);
    else
        bench_fail(0, "--report: gnuplot failed on a figure: %s", strerror(-rc));
    if (fd >= 0) {
        close(fd);
        unlink(path);
    }
    free(svg);
    return rc;
}

int plot_write(FILE *html, struct plot *p)
{
    static unsigned number;
    char *script = NULL;
    size_t size = 0, points = 0;
    int rc = 0;

    for (size_t i = 0; i < p->nseries; i++)
        points += p->series[i].n;
    FILE *s = points ? open_memstream(&script, &size) : NULL;
    if (s) {
        number++;
        write_axes(s, p, number);
        write_data(s, p);
        if (p->kind == PLOT_BARS)
            write_bars(s, p);
        else
            write_lines(s, p);
        fclose(s);
        fprintf(html, "<figure%s>\n<h3>", is_full(p) ? " class=\"full\"" : "");
        html_text(html, p->title);
        fputs("</h3>\n", html);
        rc = draw(html, p->title, script, size, number);
        fputs("<figcaption>", html);
        html_text(html, p->caption ? p->caption : "");
        fputs("</figcaption>\n</figure>\n", html);
        free(script);
    }
    plot_clear(p);
    return rc;
}
