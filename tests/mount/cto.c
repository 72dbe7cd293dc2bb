// SPDX-License-Identifier: Apache-2.0
/*
 * Close-to-open and its neighbours: what a process here must see of what another client did to the
 * same file, and when. One check is one behaviour; each is repeated, and the number of times it did
 * not hold is its result.
 *
 *   cto --other DIR [--actimeo S] [CHECK...] MOUNTPOINT
 *
 * DIR is the same exported directory by another way: the server's directory, or another mount.
 * Where it is a mount, closing is what makes a write visible, so the other side always closes.
 */
#include "tests/lib/tlib.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <popt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *mnt, *other;
static struct watch *watch;
static double actimeo = 3;
static int rounds = 60;
static struct rng rng;
/* Each check has a name of its own: what an earlier one left in a cache is not its business. */
static char F[64];

static int must(int rc, const char *what)
{
    if (rc < 0)
        t_die("%s", what);
    return rc;
}

/* Writes a whole file by one of the two ways: open, write, close. */
static void put(const char *dir, const char *name, const void *data, size_t n, int flags)
{
    int fd = must(open(t_path(dir, name), O_WRONLY | O_CREAT | flags, 0666), "open to write");
    if (write(fd, data, n) != (ssize_t)n)
        t_die("write %s/%s", dir, name);
    must(close(fd), "close");
}

/* Opens, reads at most n bytes, closes. */
static ssize_t get(const char *dir, const char *name, void *data, size_t n)
{
    int fd = must(open(t_path(dir, name), O_RDONLY), "open to read");
    ssize_t k = read(fd, data, n);
    close(fd);
    return k;
}

static void text(char *buf, size_t n, int round)
{
    memset(buf, 'a' + round % 26, n);
    snprintf(buf, n, "round %d of %d", round, (int)getpid());
}

/* A rewrite of the same size elsewhere, within one tick of the server's clock. */
static int same_size_rewrite(void)
{
    char a[100], b[100];
    int bad = 0;
    for (int i = 0; i < rounds; i++) {
        text(a, sizeof a, 2 * i);
        put(other, F, a, sizeof a, O_TRUNC);
        if (get(mnt, F, b, sizeof b) != sizeof b || memcmp(a, b, sizeof b))
            bad++;
        text(a, sizeof a, 2 * i + 1);
        put(other, F, a, sizeof a, 0);
        if (get(mnt, F, b, sizeof b) != sizeof b || memcmp(a, b, sizeof b))
            bad++;
        watch_beat(watch, 0);
    }
    return bad;
}

static int check_size(const char *name, off_t size)
{
    struct stat st;
    int fd = must(open(t_path(mnt, name), O_RDONLY), "open"), bad = 0;
    if (fstat(fd, &st) || st.st_size != size || lseek(fd, 0, SEEK_END) != size)
        bad = 1;
    close(fd);
    return bad;
}

/* The file grew elsewhere, then shrank: a new open has the new size and the new bytes. */
static int grew_and_shrank(void)
{
    char a[20000], b[20000];
    int bad = 0;
    for (int i = 0; i < rounds; i++) {
        size_t n = 1 + rng_below(&rng, sizeof a), m;
        text(a, sizeof a, i);
        put(other, F, a, n, O_TRUNC);
        bad += check_size(F, (off_t)n) || get(mnt, F, b, sizeof b) != (ssize_t)n || memcmp(a, b, n);
        put(other, F, a, 100, O_APPEND);
        bad += check_size(F, (off_t)n + 100);
        m = rng_below(&rng, n);
        must(truncate(t_path(other, F), (off_t)m), "truncate");
        bad += check_size(F, (off_t)m) || get(mnt, F, b, sizeof b) != (ssize_t)m || memcmp(a, b, m);
        watch_beat(watch, 0);
    }
    return bad;
}

/* Another file renamed over it elsewhere: a new open has the new file. */
static int replaced_by_rename(void)
{
    char a[50], b[50], from[4200];
    int bad = 0;
    for (int i = 0; i < rounds; i++) {
        text(a, sizeof a, i);
        put(other, "new", a, sizeof a, O_TRUNC);
        snprintf(from, sizeof from, "%s", t_path(other, "new"));
        must(rename(from, t_path(other, F)), "rename");
        bad += get(mnt, F, b, sizeof b) != sizeof b || memcmp(a, b, sizeof b);
        watch_beat(watch, 0);
    }
    return bad;
}

/* The same while the replaced file lives on at the server, so that its handle answers as before:
 * because it is open here, or because it has another name. */
static int replaced_but_alive(bool by_link)
{
    char a[50], b[50], from[4200], link_path[4200];
    int bad = 0;

    snprintf(from, sizeof from, "%s", t_path(other, "new"));
    snprintf(link_path, sizeof link_path, "%s", t_path(other, "link"));
    for (int i = 0; i < rounds; i++) {
        text(a, sizeof a, i);
        put(other, F, a, sizeof a, O_TRUNC);
        int fd = by_link ? -1 : must(open(t_path(mnt, F), O_RDWR), "open");
        if (by_link) {
            unlink(link_path);
            must(link(t_path(other, F), link_path), "link");
        }
        bad += get(mnt, F, b, sizeof b) != sizeof b || memcmp(a, b, sizeof b);
        text(a, sizeof a, i + rounds);
        put(other, "new", a, sizeof a, O_TRUNC);
        must(rename(from, t_path(other, F)), "rename");
        bad += get(mnt, F, b, sizeof b) != sizeof b || memcmp(a, b, sizeof b);
        if (fd >= 0)
            close(fd);
        watch_beat(watch, 0);
    }
    unlink(link_path);
    return bad;
}

static int replaced_while_open(void)
{
    return replaced_but_alive(false);
}

static int replaced_with_another_link(void)
{
    return replaced_but_alive(true);
}

/* Removed and made again elsewhere. */
static int removed_and_recreated(void)
{
    char a[50], b[50];
    int bad = 0;
    for (int i = 0; i < rounds; i++) {
        text(a, sizeof a, i);
        unlink(t_path(other, F));
        put(other, F, a, sizeof a, O_EXCL);
        bad += get(mnt, F, b, sizeof b) != sizeof b || memcmp(a, b, sizeof b);
        watch_beat(watch, 0);
    }
    return bad;
}

/* Changed elsewhere while this side holds it open for writing, and has written: a new open here. */
static int while_open_for_writing(void)
{
    char a[8192], b[8192];
    int bad = 0, fd;

    memset(a, 0, sizeof a);
    put(other, F, a, sizeof a, O_TRUNC);
    fd = must(open(t_path(mnt, F), O_RDWR), "open");
    for (int i = 0; i < rounds; i++) {
        int at = must(open(t_path(other, F), O_WRONLY), "open");
        text(a + 4096, 100, i);
        text(a, 100, 1000 + i);
        if (pwrite(fd, a, 100, 0) != 100 || pwrite(at, a + 4096, 100, 4096) != 100)
            t_die("pwrite");
        must(close(at), "close");
        bad += get(mnt, F, b, sizeof b) != sizeof b || memcmp(a, b, sizeof b);
        watch_beat(watch, 0);
    }
    must(close(fd), "close");
    bad += get(other, F, b, sizeof b) != sizeof b || memcmp(a, b, sizeof b);
    return bad;
}

/* 200 records appended in turn by the two clients, each opening and closing: all are there. */
static int appended_in_turn(void)
{
    char line[32], all[200 * 16 + 16];
    int bad = 0;
    unlink(t_path(other, "log"));
    put(other, "log", "", 0, 0);
    for (int i = 0; i < 200; i++) {
        snprintf(line, sizeof line, "record %8d\n", i);
        put(i % 2 ? other : mnt, "log", line, 16, O_APPEND);
        watch_beat(watch, 0);
    }
    for (int way = 0; way < 2; way++) {
        ssize_t n = get(way ? other : mnt, "log", all, sizeof all);
        bad += n != 200 * 16;
        for (int i = 0; i < 200; i++) {
            snprintf(line, sizeof line, "record %8d\n", i);
            bad += (i + 1) * 16 > n || memcmp(all + i * 16, line, 16) != 0;
        }
    }
    return bad;
}

/* Each client writes its bytes of one page, both had it open before: both survive. */
static int bytes_of_one_page(void)
{
    char a[4096], b[4096];
    int bad = 0;
    memset(a, 0, sizeof a);
    put(other, F, a, sizeof a, O_TRUNC);
    for (int i = 0; i < 200; i++) {
        int here = must(open(t_path(mnt, F), O_RDWR), "open");
        int there = must(open(t_path(other, F), O_RDWR), "open");
        size_t x = rng_below(&rng, 2048), y = 2048 + rng_below(&rng, 2048);
        if (read(here, b, sizeof b) < 0 || read(there, b, sizeof b) < 0)
            t_die("read");
        a[x] = (char)(i + 1);
        a[y] = (char)(i + 2);
        if (pwrite(here, a + x, 1, (off_t)x) != 1 || pwrite(there, a + y, 1, (off_t)y) != 1)
            t_die("pwrite");
        if (i % 2) {
            must(close(here), "close");
            must(close(there), "close");
        } else {
            must(close(there), "close");
            must(close(here), "close");
        }
        bad += get(mnt, F, b, sizeof b) != sizeof b || b[x] != a[x] || b[y] != a[y];
        bad += get(other, F, b, sizeof b) != sizeof b || b[x] != a[x] || b[y] != a[y];
        watch_beat(watch, 0);
    }
    bad += memcmp(a, b, sizeof a) != 0;
    return bad;
}

/* The same with a mapped store here. */
static int mapped_bytes_of_one_page(void)
{
    char a[4096], b[4096];
    int bad = 0;
    memset(a, 0, sizeof a);
    put(other, F, a, sizeof a, O_TRUNC);
    for (int i = 0; i < 32; i++) {
        int here = must(open(t_path(mnt, F), O_RDWR), "open");
        int there = must(open(t_path(other, F), O_RDWR), "open");
        size_t x = rng_below(&rng, 2048) * 2, y = rng_below(&rng, 2048) * 2 + 1;
        char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, here, 0);
        if (m == MAP_FAILED)
            t_die("mmap");
        bad += memcmp(m, a, 4096) != 0;
        m[x] = a[x] = (char)(i + 1);
        a[y] = (char)(i + 2);
        if (pwrite(there, a + y, 1, (off_t)y) != 1)
            t_die("pwrite");
        must(close(there), "close");
        must(msync(m, 4096, MS_SYNC), "msync");
        munmap(m, 4096);
        must(close(here), "close");
        bad += get(mnt, F, b, sizeof b) != sizeof b || memcmp(a, b, sizeof a);
        bad += get(other, F, b, sizeof b) != sizeof b || memcmp(a, b, sizeof a);
        watch_beat(watch, 0);
    }
    return bad;
}

/* A descriptor that stays open reads the new bytes once the attribute timeout has passed. */
static int held_open_sees_change(void)
{
    char a[100], b[100];
    int bad = 0, fd;
    text(a, sizeof a, 0);
    put(other, F, a, sizeof a, O_TRUNC);
    fd = must(open(t_path(mnt, F), O_RDONLY), "open");
    for (int i = 1; i <= 3; i++) {
        if (pread(fd, b, sizeof b, 0) != sizeof b)
            t_die("pread");
        text(a, sizeof a, i);
        put(other, F, a, sizeof a, 0);
        t_sleep_us((long)(actimeo * 1e6) + 300000);
        bad += pread(fd, b, sizeof b, 0) != sizeof b || memcmp(a, b, sizeof a);
        watch_beat(watch, 0);
    }
    close(fd);
    return bad;
}

/* A mapping that is only ever read through memory; nobody calls read or stat. */
static int mapping_becomes_fresh(void)
{
    char a[100];
    int bad = 0, fd;
    const char *m;
    text(a, sizeof a, 0);
    put(other, F, a, sizeof a, O_TRUNC);
    fd = must(open(t_path(mnt, F), O_RDONLY), "open");
    m = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    for (int i = 1; i <= 3; i++) {
        bad += memcmp(m, a, sizeof a) != 0;
        text(a, sizeof a, i);
        put(other, F, a, sizeof a, 0);
        t_sleep_us((long)(actimeo * 1e6) + 700000);
        bad += memcmp(m, a, sizeof a) != 0;
        watch_beat(watch, 0);
    }
    munmap((void *)m, 4096);
    return bad;
}

/* stat of a file that is not open, after the timeout. */
static int stat_sees_change(void)
{
    struct stat st;
    int bad = 0;
    put(other, F, "1", 1, O_TRUNC);
    must(stat(t_path(mnt, F), &st), "stat");
    put(other, F, "1234567", 7, O_TRUNC);
    t_sleep_us((long)(actimeo * 1e6) + 300000);
    must(stat(t_path(mnt, F), &st), "stat");
    bad += st.st_size != 7;
    put(other, "appeared", "", 0, 0);
    unlink(t_path(other, F));
    t_sleep_us((long)(actimeo * 1e6) + 300000);
    bad += stat(t_path(mnt, F), &st) == 0;
    bad += stat(t_path(mnt, "appeared"), &st) != 0;
    unlink(t_path(other, "appeared"));
    return bad;
}

/* Until the server's clock has moved on since `since`. */
static void next_tick(const struct stat *since)
{
    struct stat now;

    do {
        put(other, "tick", "x", 1, O_TRUNC);
        must(stat(t_path(other, "tick"), &now), "stat");
    } while (now.st_ctim.tv_sec == since->st_ctim.tv_sec
                 ? now.st_ctim.tv_nsec <= since->st_ctim.tv_nsec
                 : now.st_ctim.tv_sec < since->st_ctim.tv_sec);
}

static int broken(bool is, const char *what, int round)
{
    if (is)
        fprintf(stderr, "cto: round %d: %s\n", round, what);
    return is;
}

static bool same_ctime(const struct stat *a, const struct stat *b)
{
    return a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Our own link, rename and unlink show in nlink and ctime at once. */
static int own_changes_at_once(void)
{
    struct stat a, b;
    char f[4200], g[4200], h[4200];
    int bad = 0;
    snprintf(f, sizeof f, "%s/own", mnt);
    snprintf(g, sizeof g, "%s/own.link", mnt);
    snprintf(h, sizeof h, "%s/own.renamed", mnt);
    for (int i = 0; i < 20; i++) {
        put(mnt, "own", "x", 1, O_TRUNC);
        must(stat(f, &a), "stat");
        if (i == 0)
            t_sleep_us((long)(actimeo * 0.6e6));
        next_tick(&a);
        must(link(f, g), "link");
        must(stat(f, &b), "stat");
        bad += broken(b.st_nlink != 2, "links after link", i) +
               broken(same_ctime(&a, &b), "ctime after link", i);
        must(stat(g, &b), "stat");
        bad += broken(b.st_nlink != 2 || b.st_ino != a.st_ino, "the link", i);
        a = b;
        if (i == 0) { /* the first name is looked up again while the other one still holds */
            t_sleep_us((long)(actimeo * 0.6e6));
            must(stat(f, &b), "stat");
        }
        next_tick(&a);
        must(rename(g, h), "rename");
        must(stat(h, &b), "stat");
        bad += broken(b.st_nlink != 2 || b.st_ino != a.st_ino, "the renamed link", i) +
               broken(same_ctime(&a, &b), "ctime after rename", i);
        bad += broken(stat(g, &b) == 0, "the old name is there", i);
        must(unlink(h), "unlink");
        must(stat(f, &b), "stat");
        bad += broken(b.st_nlink != 1, "links after unlink", i);
        must(chmod(f, 0640), "chmod");
        must(stat(f, &b), "stat");
        bad += broken((b.st_mode & 07777) != 0640, "mode", i);
        must(unlink(f), "unlink");
        bad += broken(stat(f, &b) == 0, "the removed name is there", i);
        watch_beat(watch, 0);
    }
    return bad;
}

/* Locking brings the file up to date, unlocking makes what was written visible. */
static int lock_revalidates(bool posix)
{
    char a[100], b[100];
    int bad = 0, fd;
    text(a, sizeof a, 0);
    put(other, F, a, sizeof a, O_TRUNC);
    fd = must(open(t_path(mnt, F), O_RDWR), "open");
    for (int i = 0; i < 20; i++) {
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        if (pread(fd, b, sizeof b, 0) != sizeof b)
            t_die("pread");
        text(a, sizeof a, 3 * i);
        put(other, F, a, sizeof a, 0);
        must(posix ? fcntl(fd, F_SETLKW, &l) : flock(fd, LOCK_EX), "lock");
        bad += pread(fd, b, sizeof b, 0) != sizeof b || memcmp(a, b, sizeof a);
        text(a, sizeof a, 3 * i + 1);
        if (pwrite(fd, a, sizeof a, 0) != sizeof a)
            t_die("pwrite");
        l.l_type = F_UNLCK;
        must(posix ? fcntl(fd, F_SETLK, &l) : flock(fd, LOCK_UN), "unlock");
        bad += get(other, F, b, sizeof b) != sizeof b || memcmp(a, b, sizeof a);
        watch_beat(watch, 0);
    }
    close(fd);
    return bad;
}

static int posix_lock_revalidates(void)
{
    return lock_revalidates(true);
}

static int flock_revalidates(void)
{
    return lock_revalidates(false);
}

/* After close, all of it is at the other side: pwrite, mapped, appended. */
static int close_makes_visible(void)
{
    char a[10000], b[10000];
    int bad = 0;
    for (int i = 0; i < rounds; i++) {
        int fd = must(open(t_path(mnt, F), O_RDWR | O_CREAT | O_TRUNC, 0666), "open");
        char *m;
        text(a, sizeof a, i);
        if (write(fd, a, sizeof a) != sizeof a)
            t_die("write");
        m = mmap(NULL, sizeof a, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (m == MAP_FAILED)
            t_die("mmap");
        m[5000] = a[5000] = (char)i;
        munmap(m, sizeof a);
        must(close(fd), "close");
        bad += get(other, F, b, sizeof b) != sizeof b || memcmp(a, b, sizeof a);
        watch_beat(watch, 0);
    }
    return bad;
}

/* Truncated elsewhere and grown again while mapped here: zeros, not the old bytes. */
static int truncated_while_mapped(void)
{
    char a[8192];
    int bad = 0;
    for (int i = 0; i < 20; i++) {
        int fd, at;
        char *m, sum = 0;
        memset(a, 'x', sizeof a);
        put(other, F, a, sizeof a, O_TRUNC);
        fd = must(open(t_path(mnt, F), O_RDWR), "open");
        m = mmap(NULL, sizeof a, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (m == MAP_FAILED)
            t_die("mmap");
        bad += m[0] != 'x' || m[8191] != 'x';
        at = must(open(t_path(other, F), O_RDWR), "open");
        must(ftruncate(at, 10), "truncate");
        must(ftruncate(at, sizeof a), "truncate");
        must(close(at), "close");
        close(must(open(t_path(mnt, F), O_RDONLY), "open"));
        for (int j = 10; j < 8192; j++)
            sum |= m[j];
        bad += sum != 0 || m[9] != 'x';
        munmap(m, sizeof a);
        close(fd);
        watch_beat(watch, 0);
    }
    return bad;
}

/* A directory entry that is made elsewhere is seen by an open here, and by readdir after the
 * timeout. */
static int new_names(void)
{
    char name[32];
    int bad = 0, fd;
    for (int i = 0; i < rounds; i++) {
        snprintf(name, sizeof name, "new.%d", i);
        /* Remembered as absent first. */
        bad += access(t_path(mnt, name), F_OK) == 0;
        put(other, name, "x", 1, O_EXCL);
        if (i % 10 == 0) {
            struct dirent *e;
            DIR *d;
            int seen = 0;
            t_sleep_us((long)(actimeo * 1e6) + 300000);
            fd = open(t_path(mnt, name), O_RDONLY);
            bad += fd < 0;
            if (fd >= 0)
                close(fd);
            d = opendir(mnt);
            while (d && (e = readdir(d)))
                seen += !strcmp(e->d_name, name);
            if (d)
                closedir(d);
            bad += seen != 1;
        }
        unlink(t_path(other, name));
        watch_beat(watch, 0);
    }
    return bad;
}

static const struct check {
    const char *name;
    int (*run)(void);
} checks[] = {
    {"same_size_rewrite", same_size_rewrite},
    {"grew_and_shrank", grew_and_shrank},
    {"replaced_by_rename", replaced_by_rename},
    {"replaced_while_open", replaced_while_open},
    {"replaced_with_another_link", replaced_with_another_link},
    {"removed_and_recreated", removed_and_recreated},
    {"while_open_for_writing", while_open_for_writing},
    {"appended_in_turn", appended_in_turn},
    {"bytes_of_one_page", bytes_of_one_page},
    {"mapped_bytes_of_one_page", mapped_bytes_of_one_page},
    {"held_open_sees_change", held_open_sees_change},
    {"mapping_becomes_fresh", mapping_becomes_fresh},
    {"stat_sees_change", stat_sees_change},
    {"own_changes_at_once", own_changes_at_once},
    {"posix_lock_revalidates", posix_lock_revalidates},
    {"flock_revalidates", flock_revalidates},
    {"close_makes_visible", close_makes_visible},
    {"truncated_while_mapped", truncated_while_mapped},
    {"new_names", new_names},
};
enum { CHECKS = sizeof checks / sizeof *checks };

static int json;
static char *other_opt;
static const struct poptOption table[] = {
    {"other", 'o', POPT_ARG_STRING, &other_opt, 0, "the exported directory by another way", "DIR"},
    {"actimeo", 0, POPT_ARG_DOUBLE, &actimeo, 0, "the mount's longest attribute timeout", "S"},
    {"rounds", 'r', POPT_ARG_INT, &rounds, 0, "repetitions of the quick checks", "N"},
    {"json", 0, POPT_ARG_NONE, &json, 0, "print one JSON object", NULL},
    POPT_AUTOHELP POPT_TABLEEND};

int main(int argc, const char **argv)
{
    poptContext pc = poptGetContext(NULL, argc, argv, table, 0);
    static volatile int *done, *bad;
    struct counter c[CHECKS + 1];
    const char *args[CHECKS + 2];
    int nargs = 0, n = 0, rc, st;
    double t0 = t_now();
    pid_t pid;

    poptSetOtherOptionHelp(pc, "[OPTION...] [CHECK...] MOUNTPOINT");
    while ((rc = poptGetNextOpt(pc)) > 0)
        ;
    errno = 0;
    if (rc < -1)
        t_die("%s: %s", poptBadOption(pc, 0), poptStrerror(rc));
    while (nargs < CHECKS + 1 && (args[nargs] = poptGetArg(pc)))
        nargs++;
    if (!nargs || !other_opt)
        t_die("needs a mount point and --other");
    mnt = args[--nargs];
    other = other_opt;
    rng.state = t_seed(0);
    watch = watch_new();
    done = t_shared(sizeof(int));
    bad = t_shared(sizeof(int) * CHECKS);
    fflush(stdout);
    pid = fork();
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int i = 0; i < CHECKS; i++) {
            bool want = nargs == 0;
            for (int j = 0; j < nargs; j++)
                want |= !strcmp(args[j], checks[i].name);
            bad[i] = -1;
            if (want) {
                *done = i;
                snprintf(F, sizeof F, "cto.%d", i);
                watch_beat(watch, 0);
                bad[i] = checks[i].run();
                if (bad[i])
                    fprintf(stderr, "cto: %s did not hold %d times\n", checks[i].name, bad[i]);
            }
            unlink(t_path(other, F));
        }
        unlink(t_path(other, "log"));
        _exit(0);
    }
    watch_arm(watch, 0, pid, "cto");
    while (waitpid(pid, &st, WNOHANG) == 0) {
        if (watch_check(watch, 30 + 2 * actimeo)) {
            fprintf(stderr, "cto: hung in %s\n", checks[*done].name);
            kill(pid, SIGKILL);
            return T_HUNG;
        }
        t_sleep_us(20000);
    }
    if (!WIFEXITED(st) || WEXITSTATUS(st)) {
        fprintf(stderr, "cto: broken off in %s\n", checks[*done].name);
        return T_ERROR;
    }
    for (int i = 0; i < CHECKS; i++)
        if (bad[i] >= 0)
            c[n++] = (struct counter){checks[i].name, bad[i], true};
    c[n++] = (struct counter){"seconds", (long)(t_now() - t0), false};
    return report_print("cto", c, n, json);
}
