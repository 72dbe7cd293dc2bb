// SPDX-License-Identifier: Apache-2.0
/* Fault specifications: parsing, matching, counting; see the header. */
#include "daemon/serve/fault.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/serve/nfs3.h"

#define NO_LIMIT UINT64_MAX

enum fault_kind {
    KIND_DELAY,
    KIND_ERROR,
    KIND_DROP,
    KIND_DROP_CALL,
    KIND_DROP_MID,
    KIND_SHORT_READ,
    KIND_SHORT_WRITE,
    KIND_LOST_REPLY,
    KIND_SILENT,
    KIND_REBOOT,
};

struct fault {
    struct fault *next;
    unsigned id;
    uint64_t procs; /* bit per procedure */
    enum fault_kind kind;
    uint64_t arg;
    uint64_t skip, count;
    double prob;
    uint64_t rng;
    bool has_file;
    nfs_fh3 file;
    uint64_t seen, fired;
    char spec[];
};

static const char *const nfs_names[] = {
    "NULL",    "GETATTR",     "SETATTR", "LOOKUP", "ACCESS",   "READLINK", "READ",   "WRITE",
    "CREATE",  "MKDIR",       "SYMLINK", "MKNOD",  "REMOVE",   "RMDIR",    "RENAME", "LINK",
    "READDIR", "READDIRPLUS", "FSSTAT",  "FSINFO", "PATHCONF", "COMMIT"};
static const char *const mount_names[] = {"MOUNTNULL", "MNT", "DUMP", "UMNT", "UMNTALL", "EXPORT"};

#define NFS_PROCS   (sizeof(nfs_names) / sizeof(nfs_names[0]))
#define MOUNT_PROCS (sizeof(mount_names) / sizeof(mount_names[0]))
#define BIT(p)      (1ULL << (p))

/* "all": every procedure of NFS but NULL. */
#define PROCS_ALL (BIT(NFS_PROCS) - 2)
/* Procedures that need room in the file system. */
#define PROCS_ROOM                                                                                 \
    (BIT(NFSPROC3_WRITE) | BIT(NFSPROC3_CREATE) | BIT(NFSPROC3_MKDIR) | BIT(NFSPROC3_SYMLINK) |    \
     BIT(NFSPROC3_MKNOD) | BIT(NFSPROC3_LINK) | BIT(NFSPROC3_COMMIT))

static const struct {
    const char *name;
    uint32_t status;
} statuses[] = {
    {"PERM", 1},         {"NOENT", 2},           {"IO", 5},
    {"NXIO", 6},         {"ACCES", 13},          {"EXIST", 17},
    {"XDEV", 18},        {"NODEV", 19},          {"NOTDIR", 20},
    {"ISDIR", 21},       {"INVAL", 22},          {"FBIG", 27},
    {"NOSPC", 28},       {"ROFS", 30},           {"MLINK", 31},
    {"NAMETOOLONG", 63}, {"NOTEMPTY", 66},       {"DQUOT", 69},
    {"STALE", 70},       {"REMOTE", 71},         {"BADHANDLE", 10001},
    {"NOT_SYNC", 10002}, {"BAD_COOKIE", 10003},  {"NOTSUPP", 10004},
    {"TOOSMALL", 10005}, {"SERVERFAULT", 10006}, {"BADTYPE", 10007},
    {"JUKEBOX", 10008},
};

#define STATUSES (sizeof(statuses) / sizeof(statuses[0]))

/* How an action is written: whether it takes an argument, which procedures it can apply to. */
enum arg_form { ARG_NONE, ARG_NUMBER, ARG_OPTIONAL, ARG_STATUS };

static const struct action {
    const char *name;
    enum fault_kind kind;
    enum arg_form form;
    uint64_t fixed; /* the argument of those that take none */
    uint64_t procs; /* 0: any */
} actions[] = {
    {"delay", KIND_DELAY, ARG_NUMBER, 0, 0},
    {"error", KIND_ERROR, ARG_STATUS, 0, 0},
    {"jukebox", KIND_ERROR, ARG_NONE, NFS3ERR_JUKEBOX, 0},
    {"nospace", KIND_ERROR, ARG_NONE, NFS3ERR_NOSPC, PROCS_ROOM},
    {"stale", KIND_ERROR, ARG_NONE, NFS3ERR_STALE, 0},
    {"drop", KIND_DROP, ARG_NONE, 0, 0},
    {"drop-call", KIND_DROP_CALL, ARG_OPTIONAL, 0, 0},
    {"drop-mid", KIND_DROP_MID, ARG_OPTIONAL, 0, 0},
    {"short-read", KIND_SHORT_READ, ARG_NUMBER, 0, BIT(NFSPROC3_READ)},
    {"short-write", KIND_SHORT_WRITE, ARG_NUMBER, 0, BIT(NFSPROC3_WRITE)},
    {"lost-reply", KIND_LOST_REPLY, ARG_NONE, 0, 0},
    {"silent", KIND_SILENT, ARG_NONE, 0, 0},
    {"reboot", KIND_REBOOT, ARG_OPTIONAL, 0, 0},
};

#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

const char *serve_proc_name(unsigned proc)
{
    if (proc < NFS_PROCS)
        return nfs_names[proc];
    if (proc >= FAULT_PROC_MOUNT && proc - FAULT_PROC_MOUNT < MOUNT_PROCS)
        return mount_names[proc - FAULT_PROC_MOUNT];
    return "?";
}

const char *serve_status_name(uint32_t status)
{
    if (status == 0)
        return "OK";
    for (size_t i = 0; i < STATUSES; i++)
        if (statuses[i].status == status)
            return statuses[i].name;
    return "?";
}

static int fail(char *err, size_t errlen, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(char *err, size_t errlen, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err, errlen, fmt, ap);
    va_end(ap);
    return -EINVAL;
}

static bool parse_number(uint64_t *out, const char *text)
{
    char *end;

    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static bool parse_prob(double *out, const char *text)
{
    char *end;

    *out = strtod(text, &end);
    return *text && *end == '\0' && *out >= 0.0 && *out <= 1.0;
}

static bool parse_status(uint64_t *out, const char *text)
{
    if (parse_number(out, text))
        return *out > 0 && *out <= UINT32_MAX;
    if (strncasecmp(text, "NFS3ERR_", 8) == 0)
        text += 8;
    for (size_t i = 0; i < STATUSES; i++)
        if (strcasecmp(text, statuses[i].name) == 0) {
            *out = statuses[i].status;
            return true;
        }
    return false;
}

static bool parse_proc(unsigned *out, const char *text)
{
    for (unsigned p = 0; p < FAULT_PROC_MOUNT + MOUNT_PROCS; p++)
        if (strcasecmp(text, serve_proc_name(p)) == 0) {
            *out = p;
            return true;
        }
    return false;
}

static int parse_procs(struct fault *fault, char *text, char *err, size_t errlen)
{
    char *save = NULL;

    if (strcasecmp(text, "all") == 0) {
        fault->procs = PROCS_ALL;
        return 0;
    }
    for (char *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        unsigned proc;
        if (!parse_proc(&proc, word) || strcmp(word, "?") == 0)
            return fail(err, errlen,
                        "no such procedure '%s': want 'all' or names of NFSv3 or MOUNT procedures "
                        "separated by commas, as in READ,WRITE",
                        word);
        fault->procs |= BIT(proc);
    }
    if (!fault->procs)
        return fail(err, errlen, "no procedure before the first ':': want PROC[,PROC]:ACTION");
    return 0;
}

static int parse_action(struct fault *fault, char *text, char *err, size_t errlen)
{
    char *arg = strchr(text, '=');
    const struct action *action = NULL;

    if (arg)
        *arg++ = '\0';
    for (size_t i = 0; i < ACTIONS; i++)
        if (strcasecmp(text, actions[i].name) == 0)
            action = &actions[i];
    if (!action)
        return fail(err, errlen,
                    "no such action '%s': want delay=MS, error=STATUS, jukebox, nospace, stale, "
                    "drop, drop-call[=BYTES], drop-mid[=BYTES], short-read=BYTES, "
                    "short-write=BYTES, lost-reply, "
                    "silent or reboot[=MS]",
                    text);
    fault->kind = action->kind;
    fault->arg = action->fixed;
    if (action->procs) {
        fault->procs &= action->procs;
        if (!fault->procs)
            return fail(err, errlen, "'%s' cannot happen to the procedures named", text);
    }
    switch (action->form) {
    case ARG_NONE:
        if (arg)
            return fail(err, errlen, "'%s' takes no argument, got '%s'", text, arg);
        return 0;
    case ARG_STATUS:
        if (!arg || !parse_status(&fault->arg, arg))
            return fail(err, errlen,
                        "'%s' is no NFSv3 status: want error=NAME as in error=IO or "
                        "error=NFS3ERR_IO, or its number",
                        arg ? arg : "");
        return 0;
    case ARG_OPTIONAL:
        if (!arg)
            return 0;
        /* fall through */
    case ARG_NUMBER:
        if (!arg || !parse_number(&fault->arg, arg) || fault->arg > UINT32_MAX)
            return fail(err, errlen, "'%s' is no number: want %s=N with 0 <= N < 2^32",
                        arg ? arg : "", text);
        return 0;
    }
    return 0;
}

static int parse_key(struct faults *faults, struct fault *fault, char *text, char *err,
                     size_t errlen)
{
    char *value = strchr(text, '=');
    uint64_t seed;

    if (value)
        *value++ = '\0';
    if (value && strcasecmp(text, "count") == 0 && parse_number(&fault->count, value))
        return 0;
    if (value && strcasecmp(text, "skip") == 0 && parse_number(&fault->skip, value))
        return 0;
    if (value && strcasecmp(text, "prob") == 0 && parse_prob(&fault->prob, value))
        return 0;
    if (value && strcasecmp(text, "seed") == 0 && parse_number(&seed, value)) {
        fault->rng = seed;
        return 0;
    }
    if (value && strcasecmp(text, "file") == 0 && faults->resolve) {
        int rc = faults->resolve(faults->resolve_arg, value, &fault->file);
        if (rc != 0)
            return fail(err, errlen,
                        "file '%s': %s: want the path of something that exists, relative to the "
                        "exported directory",
                        value, strerror(-rc));
        fault->has_file = true;
        return 0;
    }
    return fail(err, errlen,
                "'%s%s%s' is not understood: want count=N, skip=N, prob=P with 0 <= P <= 1, seed=N "
                "or file=PATH",
                text, value ? "=" : "", value ? value : "");
}

static int parse_spec(struct faults *faults, struct fault *fault, char *text, char *err,
                      size_t errlen)
{
    char *action = strchr(text, ':');
    int rc;

    if (!action)
        return fail(err, errlen,
                    "'%s' is no fault: want PROC[,PROC]|all:ACTION[=ARG][:count=N][:skip=N]"
                    "[:prob=P][:seed=N][:file=PATH]",
                    text);
    *action++ = '\0';
    char *key = strchr(action, ':');
    if (key)
        *key++ = '\0';
    if ((rc = parse_procs(fault, text, err, errlen)) != 0 ||
        (rc = parse_action(fault, action, err, errlen)) != 0)
        return rc;
    while (key) {
        /* A path may hold colons: file= takes the rest. */
        char *next = strncasecmp(key, "file=", 5) == 0 ? NULL : strchr(key, ':');
        if (next)
            *next++ = '\0';
        if ((rc = parse_key(faults, fault, key, err, errlen)) != 0)
            return rc;
        key = next;
    }
    return 0;
}

void faults_init(struct faults *faults)
{
    memset(faults, 0, sizeof(*faults));
    pthread_mutex_init(&faults->lock, NULL);
    faults->next_id = 1;
}

void faults_destroy(struct faults *faults)
{
    faults_clear(faults, 0);
    pthread_mutex_destroy(&faults->lock);
}

int faults_add(struct faults *faults, const char *spec, char *err, size_t errlen)
{
    size_t len = strlen(spec) + 1;
    struct fault *fault = calloc(1, sizeof(*fault) + len);
    char *copy = strdup(spec);
    int rc;

    if (!fault || !copy) {
        free(fault);
        free(copy);
        return fail(err, errlen, "out of memory");
    }
    fault->count = NO_LIMIT;
    fault->prob = 1.0;
    fault->rng = 1;
    memcpy(fault->spec, spec, len);
    rc = parse_spec(faults, fault, copy, err, errlen);
    free(copy);
    if (rc != 0) {
        free(fault);
        return rc;
    }
    pthread_mutex_lock(&faults->lock);
    struct fault **at = &faults->first;
    while (*at)
        at = &(*at)->next;
    *at = fault;
    rc = (int)(fault->id = faults->next_id++);
    pthread_mutex_unlock(&faults->lock);
    return rc;
}

bool faults_clear(struct faults *faults, unsigned id)
{
    bool found = false;

    pthread_mutex_lock(&faults->lock);
    for (struct fault **at = &faults->first; *at;) {
        struct fault *fault = *at;
        if (id == 0 || fault->id == id) {
            *at = fault->next;
            free(fault);
            found = true;
        } else {
            at = &fault->next;
        }
    }
    pthread_mutex_unlock(&faults->lock);
    return found || id == 0;
}

void faults_list(struct faults *faults, FILE *out)
{
    pthread_mutex_lock(&faults->lock);
    for (const struct fault *fault = faults->first; fault; fault = fault->next)
        fprintf(out, "%u fired=%llu seen=%llu %s\n", fault->id, (unsigned long long)fault->fired,
                (unsigned long long)fault->seen, fault->spec);
    pthread_mutex_unlock(&faults->lock);
}

/* splitmix64 (Steele, Lea, Flood 2014): any seed is a good one. */
static double fault_random(struct fault *fault)
{
    uint64_t z = (fault->rng += 0x9e3779b97f4a7c15ULL);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    z ^= z >> 31;
    return (double)(z >> 11) / (double)(1ULL << 53);
}

static bool fault_fires(struct fault *fault)
{
    fault->seen++;
    if (fault->seen <= fault->skip || fault->fired >= fault->count)
        return false;
    if (fault->prob < 1.0 && fault_random(fault) >= fault->prob)
        return false;
    fault->fired++;
    return true;
}

void faults_plan(struct faults *faults, enum fault_phase phase, unsigned proc, const nfs_fh3 *fh,
                 struct fault_plan *plan)
{
    memset(plan, 0, sizeof(*plan));
    if (proc >= 64)
        return;
    pthread_mutex_lock(&faults->lock);
    for (struct fault *fault = faults->first; fault; fault = fault->next) {
        if (!(fault->procs & BIT(proc)))
            continue;
        if (fault->has_file && (!fh || memcmp(fh, &fault->file, sizeof(*fh)) != 0))
            continue;
        if (phase != FAULT_ALL && (phase == FAULT_ARRIVING) != (fault->kind == KIND_DROP_CALL))
            continue;
        if (!fault_fires(fault))
            continue;
        plan->fired = true;
        switch (fault->kind) {
        case KIND_DELAY:
            plan->delay_ms += fault->arg;
            break;
        case KIND_ERROR:
            if (!plan->error)
                plan->error = (uint32_t)fault->arg;
            break;
        case KIND_DROP:
            plan->drop = true;
            break;
        case KIND_DROP_CALL:
            plan->cut_call = true;
            plan->cut_call_bytes = (uint32_t)fault->arg;
            break;
        case KIND_DROP_MID:
            plan->drop_mid = true;
            plan->drop_mid_bytes = (uint32_t)fault->arg;
            break;
        case KIND_SHORT_READ:
            plan->has_short_read = true;
            plan->short_read = (uint32_t)fault->arg;
            break;
        case KIND_SHORT_WRITE:
            plan->has_short_write = true;
            plan->short_write = (uint32_t)fault->arg;
            break;
        case KIND_LOST_REPLY:
            plan->lost_reply = true;
            break;
        case KIND_SILENT:
            plan->silent = true;
            break;
        case KIND_REBOOT:
            plan->reboot = true;
            plan->reboot_ms = fault->arg;
            break;
        }
    }
    pthread_mutex_unlock(&faults->lock);
}
