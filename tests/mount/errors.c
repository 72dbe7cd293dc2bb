// SPDX-License-Identifier: Apache-2.0
/*
 * Errors of writing back: each reaches fsync, or close, of every descriptor that was open at the
 * time, once; the pages stay dirty, stay readable, and go out by themselves when the server takes
 * them again.
 *
 *   errors --set CMD --clear CMD --errno NAME --server-path DIR MOUNTPOINT
 *
 * The first command makes every WRITE and COMMIT at the server fail, the second ends that.
 */
#include "tests/lib/tlib.h"

#include <errno.h>
#include <fcntl.h>
#include <popt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char *set_cmd, *clear_cmd, *server_path, *errno_name;
static const char *mnt;
static int want;
static double patience = 40;

static const struct poptOption table[] = {
    {"set", 0, POPT_ARG_STRING, &set_cmd, 0, "the server refuses to write", "CMD"},
    {"clear", 0, POPT_ARG_STRING, &clear_cmd, 0, "it no longer does", "CMD"},
    {"errno", 0, POPT_ARG_STRING, &errno_name, 0, "what it refuses with", "NAME"},
    {"server-path", 0, POPT_ARG_STRING, &server_path, 0, "the export's directory", "DIR"},
    {"patience", 0, POPT_ARG_DOUBLE, &patience, 0, "longest wait for data to go out", "S"},
    POPT_AUTOHELP POPT_TABLEEND};

static const struct {
    const char *name;
    int value;
} errnos[] = {
    {"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EDQUOT", EDQUOT}, {"EACCES", EACCES}, {"EROFS", EROFS}};

static long missed, twice, not_readable, not_written, other_errors;

static void set(void)
{
    if (t_run(set_cmd))
        t_die("the command of --set failed");
}

static void clear(void)
{
    if (t_run(clear_cmd))
        t_die("the command of --clear failed");
}

static int open_new(const char *name)
{
    int fd = open(t_path(mnt, name), O_RDWR | O_CREAT | O_TRUNC, 0666);
    if (fd < 0)
        t_die("create %s", name);
    return fd;
}

/* The call must fail with the server's error. */
static void must_report(int rc, const char *what)
{
    if (rc == -1 && errno == want)
        return;
    missed++;
    fprintf(stderr, "errors: %s did not report %s (%s)\n", what, errno_name,
            rc ? strerror(errno) : "success");
}

/* The call must succeed now: the error was told already, and is over. */
static void must_succeed(int rc, const char *what)
{
    if (!rc)
        return;
    if (errno == want)
        twice++;
    else
        other_errors++;
    fprintf(stderr, "errors: %s failed: %s\n", what, strerror(errno));
}

static bool server_has(const char *name, const char *data, size_t n)
{
    char buf[9000];
    struct stat st;
    int fd = open(t_path(server_path, name), O_RDONLY);
    bool ok = fd >= 0 && !fstat(fd, &st) && st.st_size == (off_t)n && !t_pread_all(fd, buf, n, 0) &&
              !memcmp(buf, data, n);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Without a further call of ours. */
static void must_arrive(const char *name, const char *data, size_t n)
{
    double end = t_now() + patience;
    while (!server_has(name, data, n)) {
        if (t_now() > end) {
            not_written++;
            fprintf(stderr, "errors: %s did not reach the server within %.0f s\n", name, patience);
            return;
        }
        t_sleep_us(50000);
    }
}

static void must_read(const char *name, const char *data, size_t n)
{
    char buf[9000];
    int fd = open(t_path(mnt, name), O_RDONLY);
    if (fd < 0 || t_pread_all(fd, buf, n, 0) || memcmp(buf, data, n)) {
        not_readable++;
        fprintf(stderr, "errors: %s is not readable while it cannot be written\n", name);
    }
    if (fd >= 0)
        close(fd);
}

/* Two descriptors open at the time: each hears of it once. */
static void two_descriptors(void)
{
    char data[8500];
    int a = open_new("err.two"), b = open(t_path(mnt, "err.two"), O_RDWR);
    memset(data, 't', sizeof data);
    set();
    if (pwrite(a, data, sizeof data, 0) != sizeof data)
        t_die("pwrite");
    must_report(fsync(a), "fsync of the first descriptor");
    must_read("err.two", data, sizeof data);
    clear();
    must_report(fsync(b), "fsync of the second descriptor");
    must_succeed(fsync(b), "second fsync of the second descriptor");
    /* A retry may have failed between its report and the clearing: that is another error. */
    if (fsync(a) && errno != want)
        other_errors++;
    must_succeed(fsync(a), "last fsync of the first descriptor");
    must_arrive("err.two", data, sizeof data);
    must_succeed(close(a), "close of the first descriptor");
    must_succeed(close(b), "close of the second descriptor");
}

/* close is where a program without fsync hears of it. */
static void at_close(void)
{
    char data[5000];
    int a = open_new("err.close");
    memset(data, 'c', sizeof data);
    set();
    if (write(a, data, sizeof data) != sizeof data)
        t_die("write");
    must_report(close(a), "close");
    must_read("err.close", data, sizeof data);
    clear();
    must_arrive("err.close", data, sizeof data);
}

static void mapped(void)
{
    char data[4096];
    int a = open_new("err.map");
    char *m;
    memset(data, 'm', sizeof data);
    if (ftruncate(a, sizeof data))
        t_die("ftruncate");
    m = mmap(NULL, sizeof data, PROT_READ | PROT_WRITE, MAP_SHARED, a, 0);
    if (m == MAP_FAILED)
        t_die("mmap");
    set();
    memcpy(m, data, sizeof data);
    must_report(msync(m, sizeof data, MS_SYNC), "msync");
    if (memcmp(m, data, sizeof data))
        not_readable++;
    clear();
    must_arrive("err.map", data, sizeof data);
    if (msync(m, sizeof data, MS_SYNC) && errno != want)
        other_errors++;
    must_succeed(msync(m, sizeof data, MS_SYNC), "last msync");
    munmap(m, sizeof data);
    must_succeed(close(a), "close after msync");
}

/* Overwritten while the first version cannot go out: the second is what arrives. */
static void overwritten_meanwhile(void)
{
    char data[6000];
    int a = open_new("err.over");
    set();
    memset(data, '1', sizeof data);
    if (pwrite(a, data, sizeof data, 0) != sizeof data)
        t_die("pwrite");
    must_report(fsync(a), "fsync");
    memset(data + 1000, '2', 3000);
    if (pwrite(a, data + 1000, 3000, 1000) != 3000)
        t_die("pwrite");
    clear();
    must_arrive("err.over", data, sizeof data);
    fsync(a);
    close(a);
}

/* Synchronous descriptors hear of it in write itself. */
static void synchronous(void)
{
    char data[3000];
    int a;
    close(open_new("err.sync"));
    a = open(t_path(mnt, "err.sync"), O_WRONLY | O_SYNC);
    memset(data, 's', sizeof data);
    set();
    must_report(write(a, data, sizeof data) == sizeof data ? 0 : -1, "write on O_SYNC");
    clear();
    if (pwrite(a, data, sizeof data, 0) != sizeof data)
        must_succeed(-1, "write on O_SYNC afterwards");
    must_arrive("err.sync", data, sizeof data);
    close(a);
}

int main(int argc, const char **argv)
{
    poptContext pc = poptGetContext(NULL, argc, argv, table, 0);
    double t0 = t_now();
    int rc;

    poptSetOtherOptionHelp(pc, "[OPTION...] MOUNTPOINT");
    while ((rc = poptGetNextOpt(pc)) > 0)
        ;
    errno = 0;
    if (rc < -1)
        t_die("%s: %s", poptBadOption(pc, 0), poptStrerror(rc));
    mnt = poptGetArg(pc);
    if (!mnt || !set_cmd || !clear_cmd || !server_path || !errno_name)
        t_die("needs --set, --clear, --errno, --server-path and a mount point");
    for (unsigned i = 0; i < sizeof errnos / sizeof *errnos; i++)
        if (!strcmp(errnos[i].name, errno_name))
            want = errnos[i].value;
    if (!want)
        t_die("--errno '%s': not one of those it knows", errno_name);
    two_descriptors();
    at_close();
    mapped();
    overwritten_meanwhile();
    synchronous();
    struct counter c[] = {
        {"cases", 5, false},
        {"seconds", (long)(t_now() - t0), false},
        {"not_reported", missed, true},
        {"reported_twice", twice, true},
        {"not_readable", not_readable, true},
        {"not_written", not_written, true},
        {"other_errors", other_errors, true},
    };
    return report_print("errors", c, sizeof c / sizeof *c, false);
}
