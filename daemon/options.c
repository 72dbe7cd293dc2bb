// SPDX-License-Identifier: Apache-2.0
/*
 * The options after -o: one table (options_table.c), one loop over the text.
 *
 * A word of the text is looked up in the table by its name. Its entry says what kind of value it
 * takes, where in struct mount_options that goes, and how the accepted form reads in a message.
 *
 * What depends on more than one option waits for options_finish().
 */
#include "daemon/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/options_table.h"

#define MIB           ((uint64_t)1 << 20)
#define GIB           ((uint64_t)1 << 30)
#define CACHE_MIN     OPTIONS_CACHE_MIN
#define LIMIT_MOST    90 /* percent: of the cache, dirty */
#define CACHE_DEFAULT (4 * GIB)
#define READAHEAD_MIN ((uint64_t)128 << 10)
#define IO_SIZE_MAX   (1U << 20)

static bool fail(char err[OPTIONS_ERROR_MAX], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool fail(char err[OPTIONS_ERROR_MAX], const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(err, OPTIONS_ERROR_MAX, format, ap);
    va_end(ap);
    return false;
}

void options_init(struct mount_options *o)
{
    *o = (struct mount_options){
        .family = AF_UNSPEC,
        .timeo_ds = 600,
        .retrans = 2,
        .nconnect = 3,
        .resvport = OPTION_RESVPORT_TRY,
        .rdirplus = true,
        .acregmin = 3,
        .acregmax = 60,
        .acdirmin = 30,
        .acdirmax = 60,
        .cto = true,
        .lookupcache = OPTION_LOOKUPCACHE_ALL,
        .wcc = OPTION_WCC_BRACKET,
        .shards = 1,
        .nosuid = true,
        .nodev = true,
        .p.cache_size = {25, true},
        .p.dirty_limit = {40, true},
        .p.dirty_background = {10, true},
        .p.readahead = {16 * MIB, false},
    };
}

void options_clear(struct mount_options *o)
{
    free(o->source);
    free(o->host);
    free(o->export);
    free(o->mountpoint);
    free(o->fsname);
    free(o->subtype);
    free(o->context);
    memset(o, 0, sizeof *o);
}

static bool parse_uint(uint64_t *out, const char *text, uint64_t max, int base)
{
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    unsigned long long n = strtoull(text, &end, base);
    if (errno || *end || n > max)
        return false;
    *out = n;
    return true;
}

bool parse_amount(struct option_amount *out, const char *text, bool percent_allowed)
{
    static const char suffixes[] = "KMGT";
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno)
        return false;
    if (strcmp(end, "%") == 0) {
        if (!percent_allowed || n > 100)
            return false;
        *out = (struct option_amount){n, true};
        return true;
    }
    unsigned shift = 0;
    if (*end) {
        const char *s = strchr(suffixes, toupper((unsigned char)*end));
        if (!s)
            return false;
        shift = 10 * (unsigned)(s - suffixes + 1);
        end++;
        if (strcasecmp(end, "iB") == 0)
            end += 2;
    }
    if (*end || n > UINT64_MAX >> shift)
        return false;
    *out = (struct option_amount){n << shift, false};
    return true;
}

static bool parse_word(int *out, const char *text, const struct option_word *words)
{
    for (; words->word; words++) {
        if (strcmp(words->word, text) == 0) {
            *out = words->value;
            return true;
        }
    }
    return false;
}

/* nfs(5): below 1024 becomes 4096, above 1 MiB becomes 1 MiB, the rest a multiple of 1024. */
static bool parse_io_size(uint32_t *out, const char *text)
{
    struct option_amount n;

    if (!parse_amount(&n, text, false))
        return false;
    if (n.value == 0)
        *out = 0;
    else if (n.value < 1024)
        *out = 4096;
    else if (n.value > IO_SIZE_MAX)
        *out = IO_SIZE_MAX;
    else
        *out = (uint32_t)n.value & ~1023U;
    return true;
}

static bool add_context(struct mount_options *o, const char *name, const char *value)
{
    char *joined;

    if (asprintf(&joined, "%s%s%s=%s", o->context ? o->context : "", o->context ? "," : "", name,
                 value) < 0)
        return false;
    free(o->context);
    o->context = joined;
    return true;
}

/* Stores `value` (NULL: the option stood alone) where `e` says. False: not of the accepted form. */
static bool store(struct mount_options *o, const struct option_entry *e, const char *value)
{
    char *field = (char *)o + e->at;
    uint64_t n;
    int w;

    switch (e->kind) {
    case BOOLEAN:
        *(bool *)field = e->number;
        return true;
    case NUMBER:
        if (!parse_uint(&n, value, e->max, 10) || n < e->min)
            return false;
        *(uint32_t *)field = (uint32_t)n;
        return true;
    case PORT:
        if (!parse_uint(&n, value, UINT16_MAX, 10))
            return false;
        *(uint16_t *)field = (uint16_t)n;
        return true;
    case IO_SIZE:
        return parse_io_size((uint32_t *)field, value);
    case AMOUNT:
        return parse_amount((struct option_amount *)field, value, e->number);
    case OWNER: /* uid_t and gid_t are both 32 bits wide; -1 means "no change" to chown(2) */
        if (!parse_uint(&n, value, UINT32_MAX - 1, 10))
            return false;
        *(uint32_t *)field = (uint32_t)n;
        return true;
    case MODE:
        if (!parse_uint(&n, value, 0777, 8))
            return false;
        *(mode_t *)field = (mode_t)n;
        return true;
    case TEXT: {
        if (!*value)
            return false;
        char *copy = strdup(value);
        free(*(char **)field);
        *(char **)field = copy;
        return copy != NULL;
    }
    case CHOICE:
        if (!parse_word(&w, value ? value : "", e->words))
            return false;
        *(int *)field = w;
        return true;
    case ACTIMEO:
        if (!parse_uint(&n, value, OPTION_SECONDS_MAX, 10))
            return false;
        o->acregmin = o->acregmax = o->acdirmin = o->acdirmax = (uint32_t)n;
        o->p.has_acregmin = o->p.has_acregmax = o->p.has_acdirmin = o->p.has_acdirmax = true;
        o->p.has_actimeo = true;
        return true;
    case MUST_BE:
        return parse_word(&w, value, e->words);
    case CONTEXT:
        return *value && add_context(o, e->name, value);
    }
    return true;
}

_Static_assert(sizeof(enum option_wcc) == sizeof(int), "CHOICE stores an int");
_Static_assert(sizeof(uid_t) == 4 && sizeof(gid_t) == 4, "OWNER stores 32 bits");

static bool takes_value(const struct option_entry *e)
{
    return e->kind != BOOLEAN && !(e->kind == CHOICE && !e->words[0].word[0]);
}

static bool is_ignored(const char *name)
{
    for (const char *const *ignored = option_ignored; *ignored; ignored++)
        if (strcmp(*ignored, name) == 0)
            return true;
    return strncmp(name, "x-", 2) == 0 || strncmp(name, "X-", 2) == 0;
}

static bool unknown(const char *name, char err[OPTIONS_ERROR_MAX])
{
    const char *names[256];

    for (const struct option_refusal *r = option_refusals; r->name; r++)
        if (strcmp(r->name, name) == 0)
            return fail(err, "option '%s' is not supported: %s", name, r->why);
    size_t n = 0;
    for (const struct option_entry *e = option_entries; e->name && n < 255; e++)
        names[n++] = e->name;
    names[n] = NULL;
    const char *near = options_nearest(name, names);
    if (near)
        return fail(err, "unknown option '%s'; did you mean '%s'?", name, near);
    return fail(err, "unknown option '%s'", name);
}

/* One option, its escapes already taken out. */
static bool parse_one(struct mount_options *o, char *word, char err[OPTIONS_ERROR_MAX])
{
    char *value = strchr(word, '=');
    if (value)
        *value++ = 0;
    /* Newer kernels spell these two as values of the same option. */
    if (strcmp(word, "rdirplus") == 0 && value) {
        if (strcmp(value, "none") == 0 || strcmp(value, "force") == 0) {
            o->rdirplus = *value == 'f';
            return true;
        }
        return fail(err, "'rdirplus=%s': expected rdirplus, rdirplus=force or nordirplus", value);
    }

    if (is_ignored(word))
        return true;
    const struct option_entry *e = option_entries;
    while (e->name && strcmp(e->name, word) != 0)
        e++;
    if (!e->name)
        return unknown(word, err);
    if (takes_value(e) && !value)
        return fail(err, "option '%s' needs a value: %s", word,
                    e->form ? e->form : "a security context");
    if (!takes_value(e) && value)
        return fail(err, "'%s=%s': option '%s' takes no value", word, value, word);
    if (!store(o, e, value))
        return fail(err, "'%s=%s': expected %s", word, value ? value : "",
                    e->form ? e->form : "a security context");
    if (e->has)
        *((bool *)((char *)o + e->has)) = true;
    return true;
}

bool options_parse(struct mount_options *o, const char *text, char err[OPTIONS_ERROR_MAX])
{
    char *word = malloc(strlen(text) + 1);
    bool good = true;

    if (!word)
        return fail(err, "out of memory");
    while (good && *text) {
        size_t n = 0;
        for (; *text && *text != ','; text++) {
            if (*text == '\\' && text[1])
                text++;
            word[n++] = *text;
        }
        word[n] = 0;
        if (*text == ',')
            text++;
        if (n)
            good = parse_one(o, word, err);
    }
    free(word);
    return good;
}

static uint64_t percent_of(struct option_amount a, uint64_t whole)
{
    return a.is_percent ? whole / 100 * a.value + whole % 100 * a.value / 100 : a.value;
}

/* A minimum given alone above the default maximum takes the maximum along, and the reverse. */
static bool settle_times(uint32_t *min, bool has_min, uint32_t *max, bool has_max, const char *what,
                         char err[OPTIONS_ERROR_MAX])
{
    if (*min <= *max)
        return true;
    if (has_min && has_max)
        return fail(err, "%smin=%u is above %smax=%u", what, *min, what, *max);
    if (has_min)
        *max = *min;
    else
        *min = *max;
    return true;
}

static bool settle_cache(struct mount_options *o, uint64_t ram, char err[OPTIONS_ERROR_MAX])
{
    o->cache_size = percent_of(o->p.cache_size, ram);
    if (!o->p.has_cache_size && o->cache_size > CACHE_DEFAULT)
        o->cache_size = CACHE_DEFAULT;
    if (o->cache_size < CACHE_MIN) {
        if (o->p.has_cache_size)
            return fail(err, "cache_size is %llu bytes: expected at least 16M",
                        (unsigned long long)o->cache_size);
        o->cache_size = CACHE_MIN;
    }
    if (o->cache_size > ram)
        return fail(err, "cache_size is %llu bytes, more than the %llu bytes of memory",
                    (unsigned long long)o->cache_size, (unsigned long long)ram);

    o->dirty_limit = percent_of(o->p.dirty_limit, o->cache_size);
    o->dirty_background = percent_of(o->p.dirty_background, o->cache_size);
    /* A dirty page cannot be reclaimed: some of the cache must stay free to read into. */
    if (o->dirty_limit > o->cache_size / 100 * LIMIT_MOST)
        return fail(err, "dirty_limit is %llu bytes: expected at most 90%% of cache_size (%llu)",
                    (unsigned long long)o->dirty_limit, (unsigned long long)o->cache_size);
    if (o->dirty_limit < MIB)
        return fail(err, "dirty_limit is %llu bytes: expected at least 1M",
                    (unsigned long long)o->dirty_limit);
    if (o->dirty_background > o->dirty_limit) {
        if (o->p.has_dirty_background)
            return fail(err, "dirty_background (%llu bytes) is above dirty_limit (%llu bytes)",
                        (unsigned long long)o->dirty_background,
                        (unsigned long long)o->dirty_limit);
        o->dirty_background = o->dirty_limit / 4;
    }

    o->readahead = o->p.readahead.value;
    if (o->readahead && o->readahead < READAHEAD_MIN)
        o->readahead = READAHEAD_MIN;
    if (o->readahead > o->cache_size / 4)
        o->readahead = o->cache_size / 4;
    return true;
}

uint64_t options_ram(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

bool options_parse_cache_size(uint64_t *out, const char *text, uint64_t ram_bytes,
                              char err[OPTIONS_ERROR_MAX])
{
    struct option_amount a;
    uint64_t ram = ram_bytes ? ram_bytes : options_ram();

    if (!parse_amount(&a, text, true))
        return fail(err,
                    "'%s': expected bytes with K, M or G, or a percentage of the memory as in 25%%",
                    text);
    *out = percent_of(a, ram);
    if (*out < CACHE_MIN)
        return fail(err, "'%s' is %llu bytes: expected at least 16M", text,
                    (unsigned long long)*out);
    if (*out > ram)
        return fail(err, "'%s' is %llu bytes, more than the %llu bytes of memory", text,
                    (unsigned long long)*out, (unsigned long long)ram);
    return true;
}

void options_limits(const struct mount_options *o, uint64_t cache_size, struct option_limits *out)
{
    uint64_t most = cache_size / 100 * LIMIT_MOST;

    *out =
        (struct option_limits){.dirty_limit = percent_of(o->p.dirty_limit, cache_size),
                               .dirty_background = percent_of(o->p.dirty_background, cache_size)};
    if (out->dirty_limit > most) {
        out->dirty_limit = most;
        out->clamped = true;
    }
    if (out->dirty_background > out->dirty_limit) {
        out->clamped |= o->p.has_dirty_background;
        out->dirty_background = out->dirty_limit / (o->p.has_dirty_background ? 1 : 4);
    }
}

/*
 * Under kernel_writeback the kernel decides what a file's size and times are, and answers write(2)
 * by itself. What promises something else is refused, because it would not be kept; what another
 * machine might still notice is in the man page.
 */
static bool settle_writeback(struct mount_options *o, char err[OPTIONS_ERROR_MAX])
{
    const char *other = NULL, *why = NULL;

    if (!o->kernel_writeback)
        return true;
    if (o->ro) {
        other = "ro";
        why = "who only reads has other clients to write, whose sizes the kernel would not take";
    } else if (o->noac) {
        other = "noac";
        why = "size and time of a file come from the kernel, not from the server";
    } else if (o->sync) {
        other = "sync";
        why = "write(2) returns when the kernel has the data (open with O_SYNC instead)";
    } else if (o->p.has_wcc && o->wcc != OPTION_WCC_TRUST) {
        other = o->wcc == OPTION_WCC_STRICT ? "wcc=strict" : "wcc=bracket";
        why = "a foreign write that was found would not change the size that the kernel has";
    } else if (o->acregmax == 0) {
        other = o->p.has_actimeo ? "actimeo=0" : "acregmax=0";
        why = "size and time of a file come from the kernel, not from the server";
    }
    if (other)
        return fail(err, "kernel_writeback cannot be combined with %s: %s", other, why);
    o->wcc = OPTION_WCC_TRUST;
    return true;
}

bool options_finish(struct mount_options *o, uint64_t ram_bytes, char err[OPTIONS_ERROR_MAX])
{
    if (ram_bytes == 0)
        ram_bytes = options_ram();

    if (o->noac) {
        o->acregmin = o->acregmax = o->acdirmin = o->acdirmax = 0;
        o->sync = true;
    }
    if (!settle_times(&o->acregmin, o->p.has_acregmin, &o->acregmax, o->p.has_acregmax, "acreg",
                      err) ||
        !settle_times(&o->acdirmin, o->p.has_acdirmin, &o->acdirmax, o->p.has_acdirmax, "acdir",
                      err) ||
        !settle_writeback(o, err) || !settle_cache(o, ram_bytes, err))
        return false;

    if (!o->p.has_retry)
        o->retry_min = o->bg ? 10000 : 2;
    if (o->p.url_port) {
        if (o->p.has_port && o->port != o->p.url_port)
            return fail(err, "port=%u contradicts port %u in '%s'", o->port, o->p.url_port,
                        o->source);
        o->port = o->p.url_port;
        if (!o->p.has_mountport) {
            o->mountport = o->p.url_port;
            o->mountport_is_guess = true;
        }
    }
    return true;
}
