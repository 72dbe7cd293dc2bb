// SPDX-License-Identifier: Apache-2.0
/*
 * What a mount was asked to do: SOURCE, and the text after -o, parsed once into plain fields.
 *
 * The life of a struct mount_options: options_init() sets the defaults of nfs(5) and ours,
 * options_parse_source() and options_parse() (any number of times; a later option wins over an
 * earlier one, as in mount(8)) fill it in, options_finish() resolves what depends on several
 * options (noac, percentages, acregmin above acregmax) and refuses contradictions. After that the
 * struct is read only, and any thread may read it. Nothing here talks to a server or to the kernel.
 */
#ifndef NFSCACHED_DAEMON_OPTIONS_H
#define NFSCACHED_DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Which answers of LOOKUP may be used again until the directory's attributes expire (nfs(5)). */
enum option_lookupcache {
    OPTION_LOOKUPCACHE_ALL,
    OPTION_LOOKUPCACHE_POSITIVE,
    OPTION_LOOKUPCACHE_NONE
};

/* When an own WRITE may move the change token without asking again: docs/protocol.md. */
enum option_wcc { OPTION_WCC_STRICT, OPTION_WCC_BRACKET, OPTION_WCC_TRUST };

/* A source port below 1024: wanted if possible (the default), demanded, or not used. */
enum option_resvport { OPTION_RESVPORT_TRY, OPTION_RESVPORT_YES, OPTION_RESVPORT_NO };

/* A number of bytes, or a percentage of something that options_finish() knows. */
struct option_amount {
    uint64_t value;
    bool is_percent;
};

struct mount_options {
    /* ---- the source; owned strings ---- */
    char *source;     /* as it was given: /proc/mounts shows it unless fsname= says otherwise */
    char *host;       /* name or address, without the brackets of an IPv6 address */
    char *export;     /* begins with '/', no '/' at its end unless it is only that */
    char *mountpoint; /* absolute, canonical; set by the mount verb, not by options_* */

    /* ---- how the server is reached ---- */
    uint16_t port;      /* NFS; 0: ask rpcbind, and try 2049 if there is none */
    uint16_t mountport; /* MOUNT; 0: ask rpcbind */
    /* The port stood in an nfs:// URL, and no mountport= was given: MOUNT is tried on that port
     * first, as user space servers offer it there; a refusal means: ask rpcbind. */
    bool mountport_is_guess;
    int family;        /* AF_UNSPEC, or AF_INET6 for proto=tcp6 */
    uint32_t rsize;    /* bytes; 0: as large as the server offers, at most 1 MiB */
    uint32_t wsize;    /* likewise */
    bool soft;         /* give up after timeo and retrans; else wait for ever */
    uint32_t timeo_ds; /* deciseconds until a request is sent again; each try waits timeo longer */
    uint32_t retrans;  /* how often, before `soft` gives up or "not responding" is logged */
    uint32_t nconnect; /* connections in all, 1..16: one of each shard, the others for bulk data */
    enum option_resvport resvport;
    bool rdirplus; /* READDIRPLUS, else READDIR */

    /* ---- how the mount is attempted ---- */
    bool bg;            /* go on trying in the background when the first try fails */
    uint32_t retry_min; /* minutes; 0: try once */

    /* ---- consistency; times in seconds ---- */
    uint32_t acregmin, acregmax, acdirmin, acdirmax; /* all 0 after noac */
    bool noac;                                       /* implies sync; resolved by finish */
    bool cto;
    enum option_lookupcache lookupcache;
    bool sync; /* every write(2) reaches the server's disk before it returns */
    enum option_wcc wcc;
    bool kernel_writeback; /* the kernel keeps dirty pages, and sizes and times with them */

    /* ---- the cache; bytes, resolved by options_finish() ---- */
    uint64_t cache_size;       /* pages and their metadata together */
    uint64_t dirty_limit;      /* writers are slowed from here on */
    uint64_t dirty_background; /* writeback starts here */
    uint64_t readahead;        /* the most that is read ahead of one stream; 0: none */
    uint32_t shards;           /* loops that serve /dev/fuse */

    /* ---- FUSE ---- */
    bool ro;
    bool allow_other;
    bool default_permissions;         /* the kernel checks mode bits; without it the server does */
    bool set_uid, set_gid, set_umask; /* show this owner, this group, these permissions instead */
    uid_t uid;
    gid_t gid;
    mode_t umask;
    char *fsname;  /* NULL: source */
    char *subtype; /* NULL: "nfscached" */
    bool nosuid, nodev, noexec, noatime, nodiratime;
    char
        *context; /* "context=...", "fscontext=..." etc. for the kernel, comma separated, or NULL */

    /* ---- private to options.c: what finish() has yet to resolve ---- */
    struct {
        struct option_amount cache_size, dirty_limit, dirty_background, readahead;
        bool has_cache_size, has_dirty_limit, has_dirty_background;
        bool has_acregmin, has_acregmax, has_acdirmin, has_acdirmax;
        bool has_mountport, has_port, has_retry, has_wcc, has_actimeo;
        uint16_t url_port;
    } p;
};

/* An error text: one line, no newline at its end, quotes the input and the accepted form. */
#define OPTIONS_ERROR_MAX 512

void options_init(struct mount_options *o);
/* Frees what the struct owns; it may then be initialised again. */
void options_clear(struct mount_options *o);

/* All below: true, or false with a message in `err`. */

/* SERVER:/EXPORT, [IPV6]:/EXPORT or nfs://server[:port]/export. */
bool options_parse_source(struct mount_options *o, const char *source, char err[OPTIONS_ERROR_MAX]);
/* The text after -o: options between commas; `\,` is a comma inside a value (fuse(8)). */
bool options_parse(struct mount_options *o, const char *text, char err[OPTIONS_ERROR_MAX]);
/* `ram_bytes`: what cache_size=N% and its default are a part of; 0 asks sysconf(3). */
bool options_finish(struct mount_options *o, uint64_t ram_bytes, char err[OPTIONS_ERROR_MAX]);

/* What a mount's cache may be made of later: a number of bytes, or a percentage of the memory. */
#define OPTIONS_CACHE_MIN ((uint64_t)16 << 20)
bool options_parse_cache_size(uint64_t *out, const char *text, uint64_t ram_bytes,
                              char err[OPTIONS_ERROR_MAX]);
struct option_limits {
    uint64_t dirty_limit, dirty_background;
    bool clamped; /* given in bytes, they do not fit */
};
/* The limits that go with another cache_size: a percentage is one of that, bytes stay as they were
 * given as far as they fit. */
void options_limits(const struct mount_options *o, uint64_t cache_size, struct option_limits *out);
/* The memory of the machine. */
uint64_t options_ram(void);

/* The generic ones for the kernel (nosuid, nodev, ..., context=...), as libfuse takes them after
 * -o; ro, allow_other, fsname and the like are fields of struct front_config. Caller frees. */
char *options_fuse_string(const struct mount_options *o);
/* The options in force as one line in the words of nfs(5), for `status`. Caller frees. */
char *options_to_string(const struct mount_options *o);

/* The entry of the NULL-terminated `names` that is nearest to `word`, or NULL if none is near. */
const char *options_nearest(const char *word, const char *const *names);

/* One number of bytes with an optional suffix K M G T (powers of 1024), or N% if allowed. */
bool parse_amount(struct option_amount *out, const char *text, bool percent_allowed);

#endif
