// SPDX-License-Identifier: Apache-2.0
/*
 * Randomised operations on one file against a model: command line, generation and shrinking. See
 * fsx.h.
 *
 *   fsx [--ops N] [--seed N] [--verify-path DIR] [--revalidate-cmd CMD] MOUNTPOINT
 *   fsx --replay FILE MOUNTPOINT
 *
 * Commands find the file's path in $FSX_FILE. When a list fails, it is shortened by delta debugging
 * (Zeller and Hildebrandt 2002), printed, and written to a file for --replay.
 */
#include "tests/mount/fsx.h"

#include <errno.h>
#include <fcntl.h>
#include <popt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

const char *const fsx_op_name[OP_COUNT] = {
    "read",       "write",       "append",        "truncate",         "mapread",
    "mapwrite",   "msync",       "fsync",         "reopen",           "drop-kernel",
    "revalidate", "drop-daemon", "direct-read",   "direct-write",     "seek",
    "stat",       "verify",      "foreign-write", "foreign-truncate",
};

/* How often each comes, in parts of the sum. */
static const int weight[OP_COUNT] = {
    [OP_READ] = 180,
    [OP_WRITE] = 180,
    [OP_APPEND] = 20,
    [OP_TRUNCATE] = 40,
    [OP_MAPREAD] = 140,
    [OP_MAPWRITE] = 140,
    [OP_MSYNC] = 20,
    [OP_FSYNC] = 15,
    [OP_REOPEN] = 15,
    [OP_DROP_KERNEL] = 30,
    [OP_REVALIDATE] = 40,
    [OP_DROP_DAEMON] = 2,
    [OP_DIRECT_READ] = 30,
    [OP_DIRECT_WRITE] = 30,
    [OP_SEEK] = 10,
    [OP_STAT] = 20,
    [OP_VERIFY] = 8,
    [OP_FOREIGN_WRITE] = 8,
    [OP_FOREIGN_TRUNCATE] = 4,
};

void fsx_generate(struct fsx *x, uint64_t seed, struct op *list, int n)
{
    struct rng r = {seed};
    int sum = 0;
    for (int k = 0; k < OP_COUNT; k++)
        sum += weight[k];
    for (int i = 0; i < n; i++) {
        int w = (int)rng_below(&r, (uint64_t)sum), k = 0;
        uint32_t big = rng_below(&r, 8) == 0 ? 65536 : rng_below(&r, 2) ? 8192 : 300;
        while (w >= weight[k])
            w -= weight[k++];
        list[i].kind = (uint8_t)k;
        list[i].id = (uint32_t)i + 1;
        list[i].len = 1 + (uint32_t)rng_below(&r, big);
        list[i].off = (uint32_t)rng_below(&r, (uint64_t)x->max_len);
        /* The edges of pages are where the mistakes are. */
        if (rng_below(&r, 4) == 0)
            list[i].off = (list[i].off & ~4095u) + (uint32_t)rng_below(&r, 16);
        else if (rng_below(&r, 4) == 0)
            list[i].off = (list[i].off | 4095u) - (uint32_t)rng_below(&r, 16);
        /* Small files meet the end of file more often. */
        if (rng_below(&r, 3) == 0)
            list[i].off %= 16384;
        if (k == OP_APPEND)
            list[i].len = 1 + list[i].len % 3000;
    }
}

void fsx_print(FILE *f, const struct op *o)
{
    fprintf(f, "%s %u %#x %#x\n", fsx_op_name[o->kind], o->id, o->off, o->len);
}

bool fsx_parse(struct op *o, const char *line)
{
    char name[32];
    if (sscanf(line, "%31s %u %x %x", name, &o->id, &o->off, &o->len) != 4)
        return false;
    for (o->kind = 0; o->kind < OP_COUNT; o->kind++)
        if (!strcmp(name, fsx_op_name[o->kind]))
            return true;
    return false;
}

int fsx_shrink(struct fsx *x, struct op *list, int n, double seconds)
{
    double end = t_now() + seconds;
    struct op *try = malloc(sizeof *try * (size_t)n);
    int chunk = n / 2;

    while (chunk >= 1 && t_now() < end) {
        bool shorter = false;
        for (int at = 0; at < n && t_now() < end;) {
            int cut = at + chunk > n ? n - at : chunk, bad;
            memcpy(try, list, sizeof *try * (size_t)at);
            memcpy(try + at, list + at + cut, sizeof *try * (size_t)(n - at - cut));
            bad = n > cut ? fsx_run(x, try, n - cut) : -1;
            if (bad >= 0) {
                n = bad + 1;
                memcpy(list, try, sizeof *try * (size_t)n);
                shorter = true;
            } else
                at += cut;
        }
        if (!shorter || chunk > n / 2)
            chunk = chunk > n ? n / 2 : chunk / 2;
    }
    free(try);
    return n;
}

static struct {
    char *verify, *reval_cmd, *drop_cmd, *every, *replay, *save;
    int ops, json, no_direct, max_len, start_short;
    long long seed;
    double stall, shrink_s, seconds;
} opt = {.ops = 100000, .stall = 30, .shrink_s = 60, .max_len = 262144, .save = "fsx-failed.ops"};

static const struct poptOption table[] = {
    {"ops", 'n', POPT_ARG_INT, &opt.ops, 0, "operations", "N"},
    {"seed", 0, POPT_ARG_LONGLONG, &opt.seed, 0, "repeat with this seed", "N"},
    {"seconds", 0, POPT_ARG_DOUBLE, &opt.seconds, 0, "new seeds until this time is over", "S"},
    {"max-len", 0, POPT_ARG_INT, &opt.max_len, 0, "largest size of the file", "BYTES"},
    {"verify-path", 0, POPT_ARG_STRING, &opt.verify, 0, "another way to the same directory", "DIR"},
    {"revalidate-cmd", 0, POPT_ARG_STRING, &opt.reval_cmd, 0, "revalidates $FSX_FILE", "CMD"},
    {"drop-cmd", 0, POPT_ARG_STRING, &opt.drop_cmd, 0, "empties the daemon's cache", "CMD"},
    {"every", 0, POPT_ARG_STRING, &opt.every, 0, "run a command after every N operations", "N:CMD"},
    {"replay", 0, POPT_ARG_STRING, &opt.replay, 0, "execute the operations of a file", "FILE"},
    {"save", 0, POPT_ARG_STRING, &opt.save, 0, "where the failing operations go", "FILE"},
    {"no-direct", 0, POPT_ARG_NONE, &opt.no_direct, 0, "leave O_DIRECT out", NULL},
    {"shrink-s", 0, POPT_ARG_DOUBLE, &opt.shrink_s, 0, "time for shortening", "S"},
    {"stall", 0, POPT_ARG_DOUBLE, &opt.stall, 0, "hung when silent for so long", "S"},
    {"json", 0, POPT_ARG_NONE, &opt.json, 0, "print one JSON object", NULL},
    POPT_AUTOHELP POPT_TABLEEND};

static int load(const char *file, struct op **list)
{
    FILE *f = fopen(file, "r");
    char line[200];
    int n = 0;
    if (!f)
        t_die("%s", file);
    *list = NULL;
    while (fgets(line, sizeof line, f)) {
        struct op o;
        if (line[0] == '#')
            continue;
        if (!fsx_parse(&o, line)) {
            errno = 0;
            t_die("%s: not an operation: %s", file, line);
        }
        *list = realloc(*list, sizeof o * (size_t)(n + 1));
        (*list)[n++] = o;
    }
    fclose(f);
    return n;
}

static void report_failure(struct fsx *x, struct op *list, int n, int bad)
{
    char why[300];
    FILE *f;

    snprintf(why, sizeof why, "%s", x->why);
    fprintf(stderr, "fsx: operation %d of %d (%s %u %#x %#x): %s\n", bad + 1, n,
            fsx_op_name[list[bad].kind], list[bad].id, list[bad].off, list[bad].len, why);
    n = bad + 1;
    bad = fsx_run(x, list, n);
    if (bad < 0)
        bad = fsx_run(x, list, n);
    if (bad < 0)
        fprintf(stderr,
                "fsx: the same operations passed twice when repeated: it depends on time\n");
    else
        n = fsx_shrink(x, list, bad + 1, opt.shrink_s);
    f = fopen(opt.save, "w");
    if (f) {
        fprintf(f, "# %s\n", why);
        for (int i = 0; i < n; i++)
            fsx_print(f, &list[i]);
        fclose(f);
    }
    fprintf(stderr, "fsx: %d operations are in %s%s\n", n, opt.save, n <= 40 ? ", they are:" : "");
    for (int i = 0; i < n && n <= 40; i++) {
        fputs("    ", stderr);
        fsx_print(stderr, &list[i]);
    }
    if (bad >= 0) {
        fsx_run(x, list, n);
        fprintf(stderr, "fsx: these fail with: %s\n", x->why);
    }
}

static int body(struct fsx *x, uint64_t seed)
{
    double end = t_now() + opt.seconds, t0 = t_now();
    long total = 0, failed = 0, runs = 0;
    struct op *list = NULL;

    x->model = calloc(1, (size_t)x->max_len);
    x->buf = malloc((size_t)x->max_len + 65536);
    if (posix_memalign((void **)&x->dio, 4096, (size_t)x->max_len + 65536))
        return T_ERROR;
    do {
        int n = opt.ops, bad;
        if (opt.replay)
            n = load(opt.replay, &list);
        else {
            list = realloc(list, sizeof *list * (size_t)n);
            fsx_generate(x, seed + (uint64_t)runs, list, n);
        }
        bad = fsx_run(x, list, n);
        total += bad < 0 ? n : bad + 1;
        runs++;
        if (bad >= 0) {
            failed++;
            fprintf(stderr, "fsx: seed %llu\n", (unsigned long long)(seed + (uint64_t)runs - 1));
            report_failure(x, list, n, bad);
        }
    } while (!failed && !opt.replay && t_now() < end);
    struct counter c[] = {
        {"seed", (long)seed, false},
        {"runs", runs, false},
        {"ops", total, false},
        {"writes", x->done[OP_WRITE] + x->done[OP_APPEND], false},
        {"mapped", x->done[OP_MAPREAD] + x->done[OP_MAPWRITE], false},
        {"direct", x->direct ? x->done[OP_DIRECT_READ] + x->done[OP_DIRECT_WRITE] : 0, false},
        {"truncates", x->done[OP_TRUNCATE], false},
        {"revalidations", x->done[OP_REVALIDATE], false},
        {"foreign", x->verify ? x->done[OP_FOREIGN_WRITE] + x->done[OP_FOREIGN_TRUNCATE] : 0,
         false},
        {"seconds", (long)(t_now() - t0), false},
        {"failed", failed, true},
    };
    return report_print("fsx", c, sizeof c / sizeof *c, opt.json);
}

int main(int argc, const char **argv)
{
    poptContext pc = poptGetContext(NULL, argc, argv, table, 0);
    struct fsx *x = t_shared(sizeof *x);
    uint64_t seed;
    pid_t pid;
    int st;

    poptSetOtherOptionHelp(pc, "[OPTION...] MOUNTPOINT");
    while ((st = poptGetNextOpt(pc)) > 0)
        ;
    errno = 0;
    if (st < -1)
        t_die("%s: %s", poptBadOption(pc, 0), poptStrerror(st));
    x->mount = poptGetArg(pc);
    if (!x->mount)
        t_die("needs a mount point");
    x->verify = opt.verify;
    x->reval_cmd = opt.reval_cmd;
    x->drop_cmd = opt.drop_cmd;
    x->max_len = opt.max_len;
    x->direct = !opt.no_direct;
    if (opt.every) {
        x->every = atoi(opt.every);
        x->every_cmd = strchr(opt.every, ':');
        if (x->every <= 0 || !x->every_cmd++)
            t_die("--every '%s' is not N:COMMAND", opt.every);
    }
    x->watch = watch_new();
    seed = t_seed((uint64_t)opt.seed);
    fflush(stdout);
    pid = fork();
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        st = body(x, seed);
        fflush(NULL);
        _exit(st);
    }
    watch_arm(x->watch, 0, pid, "fsx");
    while (waitpid(pid, &st, WNOHANG) == 0) {
        if (watch_check(x->watch, opt.stall)) {
            kill(pid, SIGKILL);
            printf("fsx: seed=%llu HUNG\n", (unsigned long long)seed);
            return T_HUNG;
        }
        t_sleep_us(20000);
    }
    if (WIFSIGNALED(st) && WTERMSIG(st) == SIGBUS) {
        printf("fsx: seed=%llu SIGBUS: a store within the file's size met no page FAILED\n",
               (unsigned long long)seed);
        return T_FAIL;
    }
    return WIFEXITED(st) ? WEXITSTATUS(st) : T_ERROR;
}
