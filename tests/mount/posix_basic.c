// SPDX-License-Identifier: Apache-2.0
/*
 * What a file system must do, one check a behaviour, seen from outside: names, links, times, modes,
 * sizes, directories, locks, and the calls that NFSv3 has no means for.
 *
 *   posix_basic [--entries N] [CHECK...] DIRECTORY
 *
 * Every check works in a fresh directory of its own below DIRECTORY. Its result is the number of
 * expectations that did not hold, each of which is printed.
 */
#include "tests/mount/posix_basic.h"

#include <errno.h>
#include <popt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int pb_entries = 5000;
static volatile int *failures;
static const char *running;

bool pb_expect(bool ok, const char *file, int line, const char *what)
{
    int err = errno;
    if (!ok && ++*failures <= 30)
        fprintf(stderr, "posix_basic: %s: %s:%d: not so: %s (errno %s)\n", running, file, line,
                what, strerrorname_np(err) ? strerrorname_np(err) : "?");
    errno = 0;
    return ok;
}

static struct watch *watch;

void pb_beat(void)
{
    watch_beat(watch, 0);
}

static const struct poptOption table[] = {
    {"entries", 0, POPT_ARG_INT, &pb_entries, 0, "entries of the large directory", "N"},
    POPT_AUTOHELP POPT_TABLEEND};

static int run_all(const char *dir, const char **want, int nwant)
{
    struct counter c[4] = {
        {"checks", 0, false}, {"expectations_failed", 0, true}, {"failed", 0, true}};
    for (const struct pb_check *k = pb_checks; k->name; k++) {
        bool wanted = nwant == 0;
        char sub[4200], cmd[4300];
        pid_t pid;
        int st;
        for (int i = 0; i < nwant; i++)
            wanted |= !strcmp(want[i], k->name);
        if (!wanted)
            continue;
        running = k->name;
        *failures = 0;
        snprintf(sub, sizeof sub, "%s/%s.%d", dir, k->name, (int)getpid());
        if (mkdir(sub, 0777))
            t_die("mkdir %s", sub);
        fflush(NULL);
        pid = fork();
        if (!pid) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            umask(0);
            if (chdir(sub))
                t_die("chdir %s", sub);
            errno = 0;
            k->run();
            fflush(NULL);
            _exit(0);
        }
        watch_arm(watch, 0, pid, k->name);
        while (waitpid(pid, &st, WNOHANG) == 0) {
            if (watch_check(watch, 60)) {
                fprintf(stderr, "posix_basic: hung in %s\n", k->name);
                kill(pid, SIGKILL);
                return T_HUNG;
            }
            t_sleep_us(2000);
        }
        watch_disarm(watch, 0);
        if (!WIFEXITED(st) || WEXITSTATUS(st)) {
            fprintf(stderr, "posix_basic: %s was broken off, status %#x\n", k->name, st);
            ++*failures;
        }
        c[0].value++;
        c[1].value += *failures;
        c[2].value += *failures != 0;
        snprintf(cmd, sizeof cmd, "rm -rf '%s'", sub);
        if (t_run(cmd))
            c[2].value += *failures == 0;
    }
    return report_print("posix_basic", c, 3, false);
}

int main(int argc, const char **argv)
{
    poptContext pc = poptGetContext(NULL, argc, argv, table, 0);
    const char *args[64];
    int n = 0, rc;

    poptSetOtherOptionHelp(pc, "[OPTION...] [CHECK...] DIRECTORY");
    while ((rc = poptGetNextOpt(pc)) > 0)
        ;
    if (rc < -1)
        t_die("%s: %s", poptBadOption(pc, 0), poptStrerror(rc));
    while (n < 63 && (args[n] = poptGetArg(pc)))
        n++;
    if (!n)
        t_die("needs a directory");
    failures = t_shared(sizeof(int));
    watch = watch_new();
    return run_all(args[n - 1], args, n - 1);
}
