// SPDX-License-Identifier: Apache-2.0
/*
 * The texts around the options: SOURCE on the way in; the line for libfuse, the line for `status`
 * and the guess at a mistyped word on the way out.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/options.h"

#define SOURCE_FORM "expected SERVER:/EXPORT, [IPV6]:/EXPORT or nfs://SERVER[:PORT]/EXPORT"

static bool bad_source(const char *source, const char *why, char err[OPTIONS_ERROR_MAX])
{
    snprintf(err, OPTIONS_ERROR_MAX, "'%s': %s%s" SOURCE_FORM, source, why, *why ? "; " : "");
    return false;
}

/* In place: %XX becomes the byte. False on a broken or a NUL escape. */
static bool decode_percent(char *s)
{
    char *out = s;

    for (; *s; s++) {
        if (*s == '%') {
            unsigned byte;
            if (!isxdigit((unsigned char)s[1]) || !isxdigit((unsigned char)s[2]) ||
                sscanf(s + 1, "%2x", &byte) != 1 || byte == 0)
                return false;
            *out++ = (char)byte;
            s += 2;
        } else {
            *out++ = *s;
        }
    }
    *out = 0;
    return true;
}

/* "//a/b/" -> "/a/b": servers compare the path with their list of exports as text. */
static void trim_slashes(char *path)
{
    size_t lead = strspn(path, "/");
    if (lead > 1)
        memmove(path, path + lead - 1, strlen(path + lead - 1) + 1);
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = 0;
}

/* Takes the host off the front of *at: a name, or an address in brackets. */
static char *take_host(const char **at, const char *stop)
{
    const char *s = *at;

    if (*s == '[') {
        const char *end = strchr(s, ']');
        if (!end || end == s + 1)
            return NULL;
        *at = end + 1;
        return strndup(s + 1, (size_t)(end - s - 1));
    }
    size_t n = strcspn(s, stop);
    if (n == 0)
        return NULL;
    *at = s + n;
    return strndup(s, n);
}

static bool parse_url(struct mount_options *o, const char *source, char err[OPTIONS_ERROR_MAX])
{
    const char *at = source + strlen("nfs://");

    o->host = take_host(&at, ":/?");
    if (!o->host)
        return bad_source(source, "the server's name is missing", err);
    if (*at == ':') {
        char *end;
        unsigned long port = isdigit((unsigned char)at[1]) ? strtoul(at + 1, &end, 10) : 0;
        if (port == 0 || port > UINT16_MAX || *end != '/')
            return bad_source(source, "the port is not a number from 1 to 65535", err);
        o->p.url_port = (uint16_t)port;
        at = end;
    }
    if (*at != '/')
        return bad_source(source, "the path is missing", err);
    if (strpbrk(at, "?#"))
        return bad_source(source, "options are given after -o, not in the URL", err);
    o->export = strdup(at);
    if (!o->export || !decode_percent(o->export))
        return bad_source(source, "a % is not followed by two hexadecimal digits", err);
    return true;
}

bool options_parse_source(struct mount_options *o, const char *source, char err[OPTIONS_ERROR_MAX])
{
    const char *at = source;

    free(o->source);
    free(o->host);
    free(o->export);
    o->host = o->export = NULL;
    o->p.url_port = 0;
    o->source = strdup(source);
    if (strncmp(source, "nfs://", 6) == 0) {
        if (!parse_url(o, source, err))
            return false;
    } else {
        o->host = take_host(&at, ":/");
        if (!o->host)
            return bad_source(source, "the server's name is missing", err);
        if (*at != ':')
            return bad_source(source, "", err);
        at++;
        if (*at != '/') {
            if (source[0] != '[' && strstr(at, ":/"))
                return bad_source(source, "an IPv6 address is written in brackets", err);
            return bad_source(source, "the exported path begins with /", err);
        }
        o->export = strdup(at);
    }
    if (!o->source || !o->host || !o->export)
        return bad_source(source, "out of memory", err);
    trim_slashes(o->export);
    for (const char *s = o->host; *s; s++)
        if (isspace((unsigned char)*s) || *s == ',')
            return bad_source(source, "one server, without blanks", err);
    return true;
}

/* Appends `name`, or name=value with the commas and backslashes of the value escaped. */
static void add(FILE *out, const char *name, const char *value)
{
    if (ftell(out) > 0)
        fputc(',', out);
    fputs(name, out);
    if (!value)
        return;
    fputc('=', out);
    for (; *value; value++) {
        if (*value == ',' || *value == '\\')
            fputc('\\', out);
        fputc(*value, out);
    }
}

static void add_number(FILE *out, const char *name, uint64_t n)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    add(out, name, text);
}

char *options_fuse_string(const struct mount_options *o)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return NULL;
    add(out, o->nosuid ? "nosuid" : "suid", NULL);
    add(out, o->nodev ? "nodev" : "dev", NULL);
    if (o->noexec)
        add(out, "noexec", NULL);
    if (o->noatime)
        add(out, "noatime", NULL);
    if (o->nodiratime)
        add(out, "nodiratime", NULL);
    if (o->context)
        add(out, o->context, NULL);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

char *options_to_string(const struct mount_options *o)
{
    static const char *const lookupcache[] = {"all", "pos", "none"};
    static const char *const wcc[] = {"strict", "bracket", "trust"};
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return NULL;
    add(out, o->ro ? "ro" : "rw", NULL);
    add(out, "vers", "3");
    add(out, "proto", o->family == AF_INET6 ? "tcp6" : "tcp");
    if (o->port)
        add_number(out, "port", o->port);
    if (o->mountport)
        add_number(out, "mountport", o->mountport);
    if (o->rsize)
        add_number(out, "rsize", o->rsize);
    if (o->wsize)
        add_number(out, "wsize", o->wsize);
    add(out, o->soft ? "soft" : "hard", NULL);
    add_number(out, "timeo", o->timeo_ds);
    add_number(out, "retrans", o->retrans);
    add_number(out, "nconnect", o->nconnect);
    add_number(out, "acregmin", o->acregmin);
    add_number(out, "acregmax", o->acregmax);
    add_number(out, "acdirmin", o->acdirmin);
    add_number(out, "acdirmax", o->acdirmax);
    add(out, o->cto ? "cto" : "nocto", NULL);
    add(out, "lookupcache", lookupcache[o->lookupcache]);
    add(out, o->sync ? "sync" : "async", NULL);
    add(out, "local_lock", "all");
    if (o->resvport != OPTION_RESVPORT_TRY)
        add(out, o->resvport == OPTION_RESVPORT_YES ? "resvport" : "noresvport", NULL);
    add(out, "sec", "sys");
    add(out, o->rdirplus ? "rdirplus" : "nordirplus", NULL);
    add(out, "wcc", wcc[o->wcc]);
    if (o->kernel_writeback)
        add(out, "kernel_writeback", NULL);
    add_number(out, "cache_size", o->cache_size);
    add_number(out, "dirty_limit", o->dirty_limit);
    add_number(out, "dirty_background", o->dirty_background);
    add_number(out, "readahead", o->readahead);
    add_number(out, "shards", o->shards);
    if (o->allow_other)
        add(out, "allow_other", NULL);
    if (o->default_permissions)
        add(out, "default_permissions", NULL);
    if (o->set_uid)
        add_number(out, "uid", o->uid);
    if (o->set_gid)
        add_number(out, "gid", o->gid);
    if (o->set_umask) {
        char octal[8];
        snprintf(octal, sizeof octal, "%03o", (unsigned)o->umask);
        add(out, "umask", octal);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* Levenshtein's distance, words longer than the row counted as far away. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[64];
    size_t n = strlen(b);

    if (n >= sizeof row / sizeof row[0])
        return 1000;
    for (size_t j = 0; j <= n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 0; a[i]; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i + 1;
        for (size_t j = 0; j < n; j++) {
            unsigned above = row[j + 1];
            unsigned best = diagonal + (a[i] != b[j]);
            if (above + 1 < best)
                best = above + 1;
            if (row[j] + 1 < best)
                best = row[j] + 1;
            diagonal = above;
            row[j + 1] = best;
        }
    }
    return row[n];
}

const char *options_nearest(const char *word, const char *const *names)
{
    const char *nearest = NULL;
    unsigned best = (unsigned)strlen(word) / 3 + 1; /* farther than that is another word */

    for (; *names; names++) {
        unsigned d = distance(word, *names);
        if (d < best || (d == best && !nearest)) {
            best = d;
            nearest = *names;
        }
    }
    return nearest;
}
