// SPDX-License-Identifier: Apache-2.0
/*
 * A workload whose every acknowledged byte is known, to run while a server misbehaves. Processes
 * work on the same files with descriptors and mappings of their own, each operation under the
 * file's mutex, so that a model in shared memory says at any time what each file must hold; reads
 * compare with it. Beside that each process makes and removes names that only it uses, so that an
 * operation that was done twice is seen as EEXIST or ENOENT.
 *
 *   workload --server-path DIR [--seconds S] [--every-ms N --fault-cmd CMD] [--heal-cmd CMD]
 *            [--allow ERRNO]... MOUNTPOINT
 *
 * The fault command runs every N ms. At the end the heal command runs, everything is fsynced, and
 * every byte of every file is compared through the mount, and after close in the server's
 * directory.
 */
#include "tests/lib/tlib.h"

#include <errno.h>
#include <fcntl.h>
#include <popt.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_SIZE (256 * 1024)
#define FILES    6

struct file {
    pthread_mutex_t lock;
    uint32_t size;
    bool unsure[MAX_SIZE]; /* written by a call that failed with an allowed error */
    char model[MAX_SIZE];
};

struct shared {
    struct file file[FILES];
    volatile bool stop, heal;
    volatile long ops, writes, bytes, reads, names, allowed, errors, wrong, unsettled, faults,
        checked;
};

struct proc {
    struct shared *s;
    struct rng rng;
    int me, slot, fd[FILES];
    char *map[FILES];
    char buf[MAX_SIZE];
};

static struct {
    char *server_path, *fault_cmd, *heal_cmd;
    int procs, json, every_ms, allow_n;
    int allow[8];
    double seconds, stall;
    long long seed;
} opt = {.procs = 4, .seconds = 10, .stall = 60, .every_ms = 300};

static const char *mnt;
static struct watch *watch;
static char base[64];

static const char *file_path(const char *dir, int f)
{
    char name[100];
    snprintf(name, sizeof name, "%s-%d", base, f);
    return t_path(dir, name);
}

/* After a failed call. True when the run allows for it. */
static bool failed(struct proc *p, const char *what)
{
    int err = errno;
    for (int i = 0; i < opt.allow_n; i++)
        if (opt.allow[i] == err) {
            __sync_fetch_and_add(&p->s->allowed, 1);
            return true;
        }
    if (__sync_fetch_and_add(&p->s->errors, 1) < 20)
        fprintf(stderr, "  process %d: %s: %s\n", p->me, what, strerror(err));
    return false;
}

static void open_file(struct proc *p, int f)
{
    while ((p->fd[f] = open(file_path(mnt, f), O_RDWR)) < 0) {
        failed(p, "open");
        if (p->s->errors > 50)
            exit(T_ERROR);
        t_sleep_us(20000);
    }
    p->map[f] = mmap(NULL, MAX_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd[f], 0);
    if (p->map[f] == MAP_FAILED)
        t_die("mmap");
}

static void close_file(struct proc *p, int f)
{
    munmap(p->map[f], MAX_SIZE);
    if (close(p->fd[f]))
        failed(p, "close");
}

static void compare(struct proc *p, struct file *x, int f, const char *got, uint32_t off,
                    uint32_t len, const char *how)
{
    uint32_t bad = 0, first = 0;
    for (uint32_t i = 0; i < len; i++)
        if (got[i] != x->model[off + i] && !x->unsure[off + i])
            if (!bad++)
                first = i;
    if (bad && __sync_fetch_and_add(&p->s->wrong, bad) < 100)
        fprintf(stderr,
                "  file %d, %s [%#x,+%#x) of %#x: %u bytes are wrong, the first at %#x is %#04x, "
                "should "
                "be %#04x\n",
                f, how, off, len, x->size, bad, off + first, (uint8_t)got[first],
                (uint8_t)x->model[off + first]);
    __sync_fetch_and_add(&p->s->checked, len);
}

static void read_compare(struct proc *p, int f, int fd, uint32_t off, uint32_t len, const char *how)
{
    struct file *x = &p->s->file[f];
    uint32_t want = off >= x->size ? 0 : off + len > x->size ? x->size - off : len;
    ssize_t n = pread(fd, p->buf, len, off);
    if (n < 0) {
        failed(p, how);
        return;
    }
    if (n != (ssize_t)want) {
        if (__sync_fetch_and_add(&p->s->wrong, 1) < 100)
            fprintf(stderr, "  file %d, %s [%#x,+%#x) of %#x gave %zd bytes, should be %u\n", f,
                    how, off, len, x->size, n, want);
        return;
    }
    compare(p, x, f, p->buf, off, want, how);
}

static void write_file(struct proc *p, int f, uint32_t off, uint32_t len, bool mapped)
{
    struct file *x = &p->s->file[f];
    ssize_t n;
    if (off + len > MAX_SIZE)
        len = MAX_SIZE - off;
    if (mapped) {
        if (off >= x->size)
            return;
        if (off + len > x->size)
            len = x->size - off;
    }
    for (uint32_t i = 0; i < len; i += 8) {
        uint64_t v = rng_next(&p->rng);
        memcpy(p->buf + i, &v, len - i < 8 ? len - i : 8);
    }
    if (mapped) {
        memcpy(p->map[f] + off, p->buf, len);
        n = len;
    } else
        n = pwrite(p->fd[f], p->buf, len, off);
    if (n < 0) {
        failed(p, "pwrite");
        memset(x->unsure + off, 1, len);
        return;
    }
    memcpy(x->model + off, p->buf, (size_t)n);
    memset(x->unsure + off, 0, (size_t)n);
    if (off + (uint32_t)n > x->size)
        x->size = off + (uint32_t)n;
    __sync_fetch_and_add(&p->s->writes, 1);
    __sync_fetch_and_add(&p->s->bytes, n);
}

static void truncate_file(struct proc *p, int f, uint32_t size)
{
    struct file *x = &p->s->file[f];
    if (ftruncate(p->fd[f], size)) {
        failed(p, "ftruncate");
        return;
    }
    if (size < x->size) {
        memset(x->model + size, 0, x->size - size);
        memset(x->unsure + size, 0, x->size - size);
    }
    x->size = size;
}

/* Names of our own: each call succeeds, once. */
static void names(struct proc *p)
{
    char a[4200], b[4200];
    struct stat st;
    int fd;
    snprintf(a, sizeof a, "%s/%s.p%d.a", mnt, base, p->me);
    snprintf(b, sizeof b, "%s/%s.p%d.b", mnt, base, p->me);
    __sync_fetch_and_add(&p->s->names, 1);
    switch (rng_below(&p->rng, 4)) {
    case 0:
        fd = open(a, O_CREAT | O_EXCL | O_RDWR, 0666);
        if (fd < 0) {
            failed(p, "create exclusively");
            break;
        }
        close(fd);
        if (rename(a, b))
            failed(p, "rename");
        else if (stat(a, &st) == 0 || stat(b, &st))
            failed(p, "stat after rename");
        unlink(a);
        if (unlink(b))
            failed(p, "unlink");
        break;
    case 1:
        if (mkdir(a, 0777))
            failed(p, "mkdir");
        if (rmdir(a))
            failed(p, "rmdir");
        break;
    case 2:
        if (symlink("nowhere", a))
            failed(p, "symlink");
        if (unlink(a))
            failed(p, "unlink of a symlink");
        break;
    case 3:
        if (mknod(a, S_IFREG | 0666, 0))
            failed(p, "mknod");
        if (link(a, b))
            failed(p, "link");
        else if (unlink(b))
            failed(p, "unlink of a link");
        if (unlink(a))
            failed(p, "unlink");
        break;
    }
    /* Where errors are allowed something may stay. */
    if (opt.allow_n) {
        unlink(a);
        unlink(b);
        rmdir(a);
    }
}

static void one_operation(struct proc *p)
{
    int f = (int)rng_below(&p->rng, FILES);
    struct file *x = &p->s->file[f];
    uint32_t off = (uint32_t)rng_below(&p->rng, MAX_SIZE);
    uint32_t len = 1 + (uint32_t)rng_below(&p->rng, rng_below(&p->rng, 10) ? 3000 : 60000);
    struct stat st;

    if (rng_below(&p->rng, 12) == 0) {
        names(p);
        return;
    }
    pthread_mutex_lock(&x->lock);
    switch (rng_below(&p->rng, 20)) {
    case 0 ... 5:
        write_file(p, f, off, len, false);
        break;
    case 6 ... 9:
        write_file(p, f, off, len, true);
        break;
    case 10 ... 13:
        read_compare(p, f, p->fd[f], off, len, "pread");
        break;
    case 14:
        if (off < x->size) {
            if (off + len > x->size)
                len = x->size - off;
            memcpy(p->buf, p->map[f] + off, len);
            compare(p, x, f, p->buf, off, len, "mapped read");
        }
        break;
    case 15:
        if (fsync(p->fd[f]))
            failed(p, "fsync");
        break;
    case 16:
        if (rng_below(&p->rng, 4) == 0)
            truncate_file(p, f, off);
        else
            write_file(p, f, x->size, len % 3000 + 1, false);
        break;
    case 17:
        close_file(p, f);
        open_file(p, f);
        break;
    case 18:
        if (fstat(p->fd[f], &st))
            failed(p, "fstat");
        else if (st.st_size != x->size && __sync_fetch_and_add(&p->s->wrong, 1) < 20)
            fprintf(stderr, "  file %d: size %lld, should be %u\n", f, (long long)st.st_size,
                    x->size);
        break;
    case 19:
        if (msync(p->map[f], MAX_SIZE, MS_SYNC))
            failed(p, "msync");
        break;
    }
    pthread_mutex_unlock(&x->lock);
}

static void process(struct proc *p)
{
    for (int f = 0; f < FILES; f++)
        open_file(p, f);
    while (!p->s->stop) {
        one_operation(p);
        __sync_fetch_and_add(&p->s->ops, 1);
        watch_beat(watch, p->slot);
    }
    while (!p->s->heal) {
        watch_beat(watch, p->slot);
        t_sleep_us(10000);
    }
    /* An error that is still pending comes once; what stays dirty is retried. */
    for (int f = 0; f < FILES; f++) {
        int tries = 0;
        while (fsync(p->fd[f]) && ++tries < 100) {
            failed(p, "last fsync");
            watch_beat(watch, p->slot);
            t_sleep_us(100000);
        }
        if (tries == 100)
            __sync_fetch_and_add(&p->s->unsettled, 1);
        pthread_mutex_lock(&p->s->file[f].lock);
        read_compare(p, f, p->fd[f], 0, MAX_SIZE, "at the end, the mount");
        pthread_mutex_unlock(&p->s->file[f].lock);
        watch_beat(watch, p->slot);
    }
    for (int f = 0; f < FILES; f++)
        close_file(p, f);
}

static void final_check(struct shared *s)
{
    struct proc p = {.s = s, .me = -1};
    for (int f = 0; f < FILES; f++) {
        const char *dirs[] = {opt.server_path, mnt};
        for (int d = 0; d < 2; d++) {
            int fd = open(file_path(dirs[d], f), O_RDONLY);
            if (fd < 0) {
                failed(&p, "open at the end");
                continue;
            }
            read_compare(&p, f, fd, 0, MAX_SIZE, d ? "opened again" : "after close, the server");
            close(fd);
        }
        unlink(file_path(mnt, f));
    }
}

static const struct {
    const char *name;
    int value;
} errnos[] = {{"ENOSPC", ENOSPC}, {"ESTALE", ESTALE}, {"EIO", EIO},      {"EDQUOT", EDQUOT},
              {"EACCES", EACCES}, {"ENOENT", ENOENT}, {"EEXIST", EEXIST}};

static const struct poptOption table[] = {
    {"server-path", 0, POPT_ARG_STRING, &opt.server_path, 0, "the export's directory", "DIR"},
    {"seconds", 's', POPT_ARG_DOUBLE, &opt.seconds, 0, "how long", "S"},
    {"procs", 0, POPT_ARG_INT, &opt.procs, 0, "processes", "N"},
    {"every-ms", 0, POPT_ARG_INT, &opt.every_ms, 0, "how often the fault comes", "MS"},
    {"fault-cmd", 0, POPT_ARG_STRING, &opt.fault_cmd, 0, "makes a fault", "CMD"},
    {"heal-cmd", 0, POPT_ARG_STRING, &opt.heal_cmd, 0, "ends all faults", "CMD"},
    {"allow", 0, POPT_ARG_STRING, NULL, 'a', "an error that calls may return", "ERRNO"},
    {"stall", 0, POPT_ARG_DOUBLE, &opt.stall, 0, "hung when silent for so long", "S"},
    {"seed", 0, POPT_ARG_LONGLONG, &opt.seed, 0, "repeat with this seed", "N"},
    {"json", 0, POPT_ARG_NONE, &opt.json, 0, "print one JSON object", NULL},
    POPT_AUTOHELP POPT_TABLEEND};

static void parse(int argc, const char **argv)
{
    poptContext pc = poptGetContext(NULL, argc, argv, table, 0);
    int rc;
    poptSetOtherOptionHelp(pc, "[OPTION...] MOUNTPOINT");
    while ((rc = poptGetNextOpt(pc)) > 0) {
        const char *arg = poptGetOptArg(pc);
        bool known = false;
        for (unsigned i = 0; i < sizeof errnos / sizeof *errnos; i++)
            if (!strcmp(errnos[i].name, arg) && opt.allow_n < 8) {
                opt.allow[opt.allow_n++] = errnos[i].value;
                known = true;
            }
        errno = 0;
        if (!known)
            t_die("--allow '%s': not one of the errors it knows", arg);
    }
    errno = 0;
    if (rc < -1)
        t_die("%s: %s", poptBadOption(pc, 0), poptStrerror(rc));
    mnt = poptGetArg(pc);
    if (!mnt || !opt.server_path)
        t_die("needs a mount point and --server-path");
}

static int start(struct shared *s, uint64_t seed)
{
    for (int i = 0; i < opt.procs; i++) {
        pid_t pid = fork();
        if (!pid) {
            struct proc *p = calloc(1, sizeof *p);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            p->s = s;
            p->me = p->slot = i;
            p->rng.state = seed * 1000 + (uint64_t)i;
            process(p);
            fflush(NULL);
            _exit(0);
        }
        watch_arm(watch, i, pid, "workload process");
    }
    return opt.procs;
}

int main(int argc, const char **argv)
{
    struct shared *s = t_shared(sizeof *s);
    double end, next, t0 = t_now();
    pthread_mutexattr_t ma;
    bool hung = false, heal_failed = false;
    int left, broken = 0;
    uint64_t seed;

    parse(argc, argv);
    seed = t_seed((uint64_t)opt.seed);
    watch = watch_new();
    snprintf(base, sizeof base, "work-%d", (int)getpid());
    pthread_mutexattr_init(&ma);
    pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
    for (int f = 0; f < FILES; f++) {
        int fd = open(file_path(mnt, f), O_RDWR | O_CREAT | O_EXCL, 0666);
        if (fd < 0)
            t_die("create %s", file_path(mnt, f));
        close(fd);
        pthread_mutex_init(&s->file[f].lock, &ma);
    }
    fflush(stdout);
    left = start(s, seed);
    end = t_now() + opt.seconds;
    next = t_now() + opt.every_ms / 1e3;
    while (left && !hung) {
        int st;
        pid_t pid = waitpid(-1, &st, WNOHANG);
        if (pid > 0) {
            left--;
            if (!WIFEXITED(st) || WEXITSTATUS(st)) {
                fprintf(stderr, "workload: a process ended with status %#x\n", (unsigned)st);
                broken++;
            }
            for (int i = 0; i < WATCH_SLOTS; i++)
                if (watch->slot[i].pid == pid)
                    watch_disarm(watch, i);
        }
        if (!s->stop && t_now() > end) {
            s->stop = true;
            if (opt.heal_cmd)
                heal_failed = t_run(opt.heal_cmd) != 0;
            s->heal = true;
        } else if (!s->stop && opt.fault_cmd && t_now() > next) {
            broken += t_run(opt.fault_cmd) != 0;
            s->faults++;
            next = t_now() + opt.every_ms / 1e3;
        }
        /* One that died may hold a file's mutex: the others can only wait. */
        if (broken)
            break;
        hung = watch_check(watch, opt.stall);
        t_sleep_us(5000);
    }
    if (hung || broken)
        for (int i = 0; i < WATCH_SLOTS; i++)
            if (watch->slot[i].pid)
                kill(watch->slot[i].pid, SIGKILL);
    if (!hung && !broken)
        final_check(s);
    struct counter c[] = {
        {"seed", (long)seed, false},
        {"seconds", (long)(t_now() - t0), false},
        {"ops", s->ops, false},
        {"writes", s->writes, false},
        {"bytes_written", s->bytes, false},
        {"bytes_checked", s->checked, false},
        {"names", s->names, false},
        {"faults", s->faults, false},
        {"allowed_errors", s->allowed, false},
        {"wrong_bytes", s->wrong, true},
        {"errors", s->errors, true},
        {"unsettled", s->unsettled, true},
        {"deadlock", hung, true},
        {"broken_off", broken + heal_failed, true},
    };
    int rc = report_print("workload", c, sizeof c / sizeof *c, opt.json);
    return hung ? T_HUNG : rc;
}
