// SPDX-License-Identifier: Apache-2.0
/*
 * The processes of a check: a leader and its helpers, and the supervision of their progress. Each
 * owns a slot of the watch; the leader slot 0. The user's process forks the leader and looks after
 * all slots; when one is silent for longer than --stall it kills them all.
 */
#include "tests/race/probe/run.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

static int my_slot, n_helpers;
static struct probe *mine;

void beat(struct probe *p)
{
    watch_beat(&p->sh->watch, my_slot);
}

/* A fault in a mapping failed: because the file ends before, which is wrong wherever it happens
 * here, or because the page cannot be had now, which is an error like one of read. */
static void no_page(int sig, siginfo_t *info, void *context)
{
    struct map_of m;
    struct where w = {&mine->a, "its file", "mapping", "any time"};
    struct statvfs v;
    char byte;
    ssize_t k;

    if (file_of_map(info->si_addr, &m)) {
        w.way = m.way;
        w.file = m.name;
        errno = 0;
        k = pread(m.fd, &byte, 1, m.off);
        if (k < 0 || (!statvfs(m.way->dir, &v) && !v.f_bavail)) {
            errno = k < 0 ? errno : ENOSPC;
            trouble(mine, "%s: cannot fault a page of %s/%s", m.way->option, m.way->dir, m.name);
        }
        finding(mine, WRONG, true, &w, NULL, NULL, 0,
                "SIGBUS at offset %lld of a file that never ended before that, and %s",
                (long long)m.off, k ? "read(2) has the byte" : "it does so now");
    } else
        finding(mine, WRONG, true, &w, NULL, NULL, 0, "SIGBUS");
    mine->sh->stop = 1;
    _exit(sig);
}

static void end_with_parent(struct probe *p, pid_t parent)
{
    mine = p;
    sigaction(SIGBUS, &(struct sigaction){.sa_sigaction = no_page, .sa_flags = SA_SIGINFO}, NULL);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(T_ERROR);
}

void helper(struct probe *p, const char *name, void (*body)(struct probe *, void *), void *arg)
{
    pid_t parent = getpid(), pid;
    int slot = ++n_helpers;

    if (slot >= WATCH_SLOTS) {
        errno = 0;
        trouble(p, "more than %d processes in one check", WATCH_SLOTS - 1);
    }
    pid = fork();
    if (pid < 0)
        trouble(p, "fork");
    if (pid) {
        watch_arm(&p->sh->watch, slot, pid, name);
        return;
    }
    end_with_parent(p, parent);
    my_slot = slot;
    watch_arm(&p->sh->watch, slot, getpid(), name);
    body(p, arg);
    _exit(0);
}

void helpers_end(struct probe *p)
{
    p->sh->stop = 1;
    for (; n_helpers; beat(p)) {
        int st;
        pid_t pid = waitpid(-1, &st, WNOHANG);
        if (pid < 0 && errno == ECHILD)
            break;
        if (pid <= 0) {
            t_sleep_us(2000);
            continue;
        }
        for (int i = 1; i < WATCH_SLOTS; i++)
            if (p->sh->watch.slot[i].pid == pid)
                watch_disarm(&p->sh->watch, i);
        n_helpers--;
        if (!WIFEXITED(st)) {
            errno = 0;
            trouble(p, "a process of the prober ended by signal %d", WTERMSIG(st));
        }
        if (WEXITSTATUS(st) && WEXITSTATUS(st) != SIGBUS)
            _exit(WEXITSTATUS(st));
    }
    if (!p->sh->interrupted && !p->sh->troubled)
        p->sh->stop = 0;
}

bool another_round(struct probe *p)
{
    const struct check *c = &checks[p->check];
    struct result *r = res(p);
    long rounds = p->rounds * c->rounds_percent / 100;
    bool enough;

    if (rounds < 2)
        rounds = 2;
    /* Who looks may be faster than those who write are given the processor. */
    if (p->rounds)
        enough = r->rounds >= rounds && r->writes >= rounds * c->writes_a_round;
    else
        enough = r->rounds >= 2 && t_now() >= p->sh->check_end;
    beat(p);
    if (p->sh->stop || enough)
        return false;
    r->rounds++;
    return true;
}

void nap(struct probe *p, double seconds)
{
    double end = t_now() + seconds, left;
    while ((left = end - t_now()) > 0 && !p->sh->stop) {
        t_sleep_us((long)((left < 0.1 ? left : 0.1) * 1e6) + 1);
        beat(p);
    }
}

void tick(struct probe *p)
{
    nap(p, p->tick);
}

static void kill_all(struct probe *p)
{
    for (int i = 0; i < WATCH_SLOTS; i++)
        if (p->sh->watch.slot[i].pid)
            kill(p->sh->watch.slot[i].pid, SIGKILL);
}

int supervise(struct probe *p, void (*body)(struct probe *))
{
    pid_t parent = getpid(), pid;
    int st = 0;

    for (int i = 0; i < WATCH_SLOTS; i++)
        watch_disarm(&p->sh->watch, i);
    fflush(NULL);
    pid = fork();
    if (pid < 0)
        t_die("fork");
    if (!pid) {
        end_with_parent(p, parent);
        watch_arm(&p->sh->watch, 0, getpid(), "leader");
        my_slot = 0;
        body(p);
        helpers_end(p);
        _exit(0);
    }
    watch_arm(&p->sh->watch, 0, pid, "leader");
    while (waitpid(pid, &st, WNOHANG) == 0) {
        if (p->progress)
            p->progress(p);
        if (watch_check(&p->sh->watch, p->stall)) {
            struct where w = {&p->a, "the file", "any call", "see the kernel stacks above"};
            finding(p, HUNG, true, &w, NULL, NULL, 0, "no progress for %.0f s", p->stall);
            kill_all(p);
            /* What waits in the kernel cannot be waited for. */
            for (int i = 0; i < 100 && waitpid(pid, &st, WNOHANG) == 0; i++)
                t_sleep_us(20000);
            return T_HUNG;
        }
        t_sleep_us(20000);
    }
    if (!WIFEXITED(st)) {
        errno = 0;
        fprintf(stderr, "nfscached-race probe: the leader of a check ended by signal %d\n",
                WTERMSIG(st));
        kill_all(p);
        return T_ERROR;
    }
    if (WEXITSTATUS(st) == SIGBUS) {
        res(p)->cut_short = true;
        return 0;
    }
    return WEXITSTATUS(st) ? T_ERROR : 0;
}
