// SPDX-License-Identifier: Apache-2.0
/*
 * mmap consistency against concurrent writers, with an oracle that knows every acknowledged write.
 * Local processes store through shared mappings and by pwrite, a foreign client writes the other
 * words of the same file by a way that does not pass the mount, revalidations are forced meanwhile,
 * and nothing may be lost on either side, stay stale, tear, come back, or hang. Layout and rules:
 * oracle.h.
 *
 *   mmap_oracle --foreign dir:/srv/export [--rounds N | --seconds N] MOUNTPOINT
 *
 * This file: the command line, the processes, and the supervision of their progress.
 */
#include "tests/mount/oracle.h"

#include <errno.h>
#include <fcntl.h>
#include <popt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    char *foreign, *server_path, *name, *reval_cmd, *classes;
    int pages, locals, freeze_every, wait_every, json, keep, tolerate, late;
    long rounds, idle_us;
    long long seed;
    double seconds, timeout_s, stall;
} opt = {.name = "oracle",
         .classes = "mpfhcx",
         .pages = 64,
         .locals = 3,
         .freeze_every = 25,
         .wait_every = 50,
         .rounds = 1000,
         .idle_us = 200,
         .stall = 30};

static const struct poptOption table[] = {
    {"foreign", 'f', POPT_ARG_STRING, &opt.foreign, 0, "the other client", "dir:|mount:|nfs:"},
    {"server-path", 0, POPT_ARG_STRING, &opt.server_path, 0, "the export's directory", "DIR"},
    {"name", 0, POPT_ARG_STRING, &opt.name, 0, "file name below the mount", "NAME"},
    {"revalidate-cmd", 0, POPT_ARG_STRING, &opt.reval_cmd, 0, "command that revalidates", "CMD"},
    {"classes", 0, POPT_ARG_STRING, &opt.classes, 0,
     "m mapped, p pwrite, f foreign, h half words, c conflicts, x pages shared by both", "mpfhcx"},
    {"pages", 0, POPT_ARG_INT, &opt.pages, 0, "size of the file in pages", "N"},
    {"locals", 0, POPT_ARG_INT, &opt.locals, 0, "local processes", "N"},
    {"rounds", 'r', POPT_ARG_LONG, &opt.rounds, 0, "rounds", "N"},
    {"seconds", 's', POPT_ARG_DOUBLE, &opt.seconds, 0, "stop after this time", "S"},
    {"timeout-s", 0, POPT_ARG_DOUBLE, &opt.timeout_s, 0,
     "some rounds only wait this long (above the attribute timeout)", "S"},
    {"wait-every", 0, POPT_ARG_INT, &opt.wait_every, 0, "every N rounds", "N"},
    {"freeze-every", 0, POPT_ARG_INT, &opt.freeze_every, 0, "compare everything every N rounds",
     "N"},
    {"idle-us", 0, POPT_ARG_LONG, &opt.idle_us, 0, "longest pause of a writer", "US"},
    {"stall", 0, POPT_ARG_DOUBLE, &opt.stall, 0, "hung when silent for so long", "S"},
    {"seed", 0, POPT_ARG_LONGLONG, &opt.seed, 0, "repeat with this seed", "N"},
    {"late", 0, POPT_ARG_NONE, &opt.late, 0, "fsync() may leave something to arrive later", NULL},
    {"tolerate-errors", 0, POPT_ARG_NONE, &opt.tolerate, 0, "the server goes away at times", NULL},
    {"json", 0, POPT_ARG_NONE, &opt.json, 0, "print one JSON object", NULL},
    {"keep", 0, POPT_ARG_NONE, &opt.keep, 0, "leave the file", NULL},
    POPT_AUTOHELP POPT_TABLEEND};

static const char *parse(int argc, const char **argv)
{
    poptContext pc = poptGetContext(NULL, argc, argv, table, 0);
    const char *mount;
    int rc;

    poptSetOtherOptionHelp(pc, "[OPTION...] MOUNTPOINT");
    errno = 0;
    while ((rc = poptGetNextOpt(pc)) > 0)
        ;
    if (rc < -1)
        t_die("%s: %s", poptBadOption(pc, 0), poptStrerror(rc));
    mount = poptGetArg(pc);
    if (!mount || !opt.foreign)
        t_die("needs a mount point and --foreign");
    mount = strdup(mount);
    if (!opt.server_path && !strncmp(opt.foreign, "dir:", 4))
        opt.server_path = opt.foreign + 4;
    if (!opt.server_path)
        t_die("needs --server-path when the foreign client is not dir:");
    poptFreeContext(pc);
    return mount;
}

static pid_t start(struct oracle *o, int slot, const char *name, void (*body)(struct oracle *, int))
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        t_die("fork");
    if (pid) {
        watch_arm(o->watch, slot, pid, name);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(T_ERROR);
    body(o, slot);
    fflush(NULL);
    _exit(0);
}

static void local_body(struct oracle *o, int slot)
{
    local_writer(o, slot, slot - 1);
}

int main(int argc, const char **argv)
{
    const char *mount = parse(argc, argv);
    struct oracle *o = t_shared(sizeof *o + sizeof o->slot[0] * (size_t)opt.pages * PAGE_SLOTS);
    int left = 0, rc = 0, hung = 0, fd;
    double t0;

    o->mount = mount;
    o->name = opt.name;
    o->foreign = opt.foreign;
    o->server_path = opt.server_path;
    o->reval_cmd = opt.reval_cmd;
    o->classes = opt.classes;
    o->pages = opt.pages;
    o->locals = opt.locals;
    o->idle_us = opt.idle_us;
    o->rounds = opt.rounds;
    o->seconds = opt.seconds;
    o->timeout_s = opt.timeout_s;
    o->freeze_every = opt.freeze_every;
    o->wait_every = opt.wait_every;
    o->tolerate_errors = opt.tolerate;
    o->late = opt.late;
    o->seed = t_seed((uint64_t)opt.seed);
    o->watch = watch_new();
    for (int g = 0; g < opt.pages * PAGE_SLOTS; g++)
        pthread_spin_init(&o->slot[g].guard, PTHREAD_PROCESS_SHARED);
    if (!opt.json)
        printf("mmap_oracle: seed %llu, foreign %s\n", (unsigned long long)o->seed, opt.foreign);
    fflush(stdout);

    fd = open(t_path(opt.server_path, opt.name), O_CREAT | O_TRUNC | O_RDWR, 0666);
    if (fd < 0 || ftruncate(fd, (off_t)opt.pages * PAGE) || fsync(fd))
        t_die("create %s/%s", opt.server_path, opt.name);
    fchmod(fd, 0666);
    close(fd);

    /* One signal set blocked would reach the children through fork: nothing is changed here. */
    t0 = t_now();
    for (int i = 0; i < opt.locals; i++) {
        char name[32];
        snprintf(name, sizeof name, "local writer %d", i);
        start(o, i + 1, name, local_body);
        left++;
    }
    start(o, opt.locals + 1, "foreign writer", foreign_writer);
    start(o, 0, "checker", checker);
    left += 2;
    while (left) {
        int st;
        pid_t pid = waitpid(-1, &st, WNOHANG);
        if (pid > 0) {
            left--;
            if (!WIFEXITED(st) || WEXITSTATUS(st)) {
                fprintf(stderr, "mmap_oracle: process %d ended with status %#x\n", (int)pid, st);
                rc = T_ERROR;
                o->stop = 1;
            }
            for (int i = 0; i < WATCH_SLOTS; i++)
                if (o->watch->slot[i].pid == pid)
                    watch_disarm(o->watch, i);
            continue;
        }
        if (watch_check(o->watch, opt.stall)) {
            hung = 1;
            for (int i = 0; i < WATCH_SLOTS; i++)
                if (o->watch->slot[i].pid)
                    kill(o->watch->slot[i].pid, SIGKILL);
            break;
        }
        t_sleep_us(20000);
    }
    struct counter c[] = {
        {"rounds", o->n_rounds, false},      {"by_open", o->n_open, false},
        {"by_command", o->n_cmd, false},     {"by_waiting", o->n_wait, false},
        {"full_checks", o->n_freeze, false}, {"stores", o->n_stores, false},
        {"pwrites", o->n_pwrites, false},    {"foreign_writes", o->n_foreign, false},
        {"msyncs", o->n_msync, false},       {"seconds", (long)(t_now() - t0), false},
        {"late", o->n_late, false},          {"torn_passing", o->torn_passing, false},
        {"lost_local", o->lost_local, true}, {"lost_foreign", o->lost_foreign, true},
        {"stale", o->stale, true},           {"torn", o->torn, true},
        {"backward", o->backward, true},     {"unflushed", o->unflushed, true},
        {"errors", o->errors, true},         {"deadlock", hung, true},
        {"broken_off", rc != 0, true},
    };
    int verdict = report_print("mmap_oracle", c, sizeof c / sizeof *c, opt.json);
    if (!opt.keep && !hung)
        unlink(t_path(opt.server_path, opt.name));
    return hung ? T_HUNG : rc ? rc : verdict;
}
