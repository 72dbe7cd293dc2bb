// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached bench io`: one large file, read and written in every way, from every cache.
 *
 * Where the bytes come from is made so before each cell: "kernel" has them in the kernel's page
 * cache; "daemon" in the cache of the mount's own process, the kernel's pages dropped
 * (posix_fadvise); "cold" in neither (the server's own cache stays as it is). A file system without
 * a daemon that we can ask has no "daemon".
 *
 * A cell goes through the file once, or for --seconds if that is less.
 */
#include "daemon/bench/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/bench/limit_cells.h"
#include "daemon/bench/lists.h"
#include "daemon/bench/target.h"
#include "daemon/verbs.h"

#define MIB ((size_t)1 << 20)

static const char *const op_names[] = {"read", "write", NULL};
static const char *const pattern_names[] = {"sequential", "random", NULL};
static const char *const mode_names[] = {"buffered", "direct", "mapped", NULL};
static const char *const cache_names[] = {"cold", "daemon", "kernel", NULL};
enum { OP_READ, OP_WRITE };
enum { PATTERN_SEQUENTIAL, PATTERN_RANDOM };
enum { MODE_BUFFERED, MODE_DIRECT, MODE_MAPPED };
enum { CACHE_COLD, CACHE_DAEMON, CACHE_KERNEL };

struct io_options {
    struct targets targets;
    size_t size; /* bytes of the file */
    double seconds;
    int drop_caches;
    unsigned op_set, pattern_set, mode_set, cache_set;
    struct number_list blocks, in_flight;
};

struct io_cell {
    const struct io_options *o;
    const struct target *target;
    unsigned op, pattern, mode, cache, block, in_flight;
};

/* ---- preparing ------------------------------------------------------------------------------- */

static void file_path(const struct io_cell *io, char *path)
{
    target_path(io->target->dir, "io.data", path);
}

/* The file, of its full size. 0 or negative errno. */
static int make_file(const struct io_cell *io, const char *path)
{
    char *buffer = NULL;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666), rc = fd < 0 ? -errno : 0;

    if (rc < 0)
        return rc;
    size_t have = (size_t)lseek(fd, 0, SEEK_END);
    if (have < io->o->size && posix_memalign((void **)&buffer, 4096, MIB))
        rc = -ENOMEM;
    for (size_t i = 0; buffer && i < MIB / 8; i++)
        ((uint64_t *)(void *)buffer)[i] = i * 0x9e3779b97f4a7c15u;
    for (; rc == 0 && have < io->o->size && !bench_stopped(); have += MIB)
        if (pwrite(fd, buffer, MIB, (off_t)have) != (ssize_t)MIB)
            rc = errno ? -errno : -EIO;
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    if (close(fd) < 0 && rc == 0)
        rc = -errno;
    free(buffer);
    return rc;
}

static int read_through(int fd)
{
    char *buffer = malloc(MIB);
    ssize_t n = buffer ? 1 : -1;

    for (off_t at = 0; n > 0 && !bench_stopped(); at += n)
        n = pread(fd, buffer, MIB, at);
    free(buffer);
    return n < 0 ? -errno : 0;
}

static void drop_all_caches(void)
{
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, "1", 1) != 1)
        bench_fail(0, "--drop-caches: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* Puts the file's bytes where the cell wants them. 0 or negative errno. */
static int place(const struct io_cell *io, int fd)
{
    int rc = fsync(fd) < 0 ? -errno : 0;

    if (rc == 0 && io->cache != CACHE_COLD)
        rc = read_through(fd);
    if (rc == 0 && io->cache != CACHE_KERNEL)
        rc = -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (rc == 0 && io->cache == CACHE_COLD) {
        target_drop_daemon(io->target);
        if (io->o->drop_caches)
            drop_all_caches();
    }
    return rc;
}

/* ---- a repetition -----------------------------------------------------------------------------
 */

static int flags_of(const struct io_cell *io)
{
    int access = io->op == OP_READ ? O_RDONLY : io->mode == MODE_MAPPED ? O_RDWR : O_WRONLY;
    return access | O_CLOEXEC | (io->mode == MODE_DIRECT ? O_DIRECT : 0);
}

static int go_through(const struct io_cell *io, int fd, uint64_t seed, struct io_job *job)
{
    *job = (struct io_job){.fd = fd,
                           .block = io->block,
                           .blocks = io->o->size / io->block,
                           .writing = io->op == OP_WRITE,
                           .seconds = io->o->seconds};
    int rc = io->pattern == PATTERN_RANDOM ? io_job_shuffle(job, seed) : 0;
    if (rc == 0 && io->mode == MODE_MAPPED) {
        int prot = PROT_READ | (job->writing ? PROT_WRITE : 0);
        job->map = mmap(NULL, io->o->size, prot, MAP_SHARED, fd, 0);
        if (job->map == MAP_FAILED) {
            job->map = NULL;
            rc = -errno;
        }
    }
    if (rc == 0)
        rc = io_job_run(job, io->in_flight);
    return rc;
}

/* What was written counts when it is at the server. */
static int sync_job(const struct io_cell *io, struct io_job *job, double *us)
{
    uint64_t start = bench_now();
    int rc = 0;

    *us = 0;
    if (job->writing) {
        if (job->map && msync(job->map, io->o->size, MS_SYNC) < 0)
            rc = -errno;
        if (fsync(job->fd) < 0 && rc == 0)
            rc = -errno;
        *us = bench_us_since(start);
    }
    return rc;
}

static int io_run(struct cell *c)
{
    const struct io_cell *io = cell_arg(c);
    double cpu_before = 0, cpu_after = 0, sync_us = 0;
    pid_t daemon = target_daemon(io->target);
    struct io_job job = {0};
    char path[PATH_MAX];

    file_path(io, path);
    int rc = make_file(io, path);
    if (rc < 0)
        return cell_fail(c, "%s: %s", path, strerror(-rc));
    /* Read only: what a writer may still have in the kernel our daemon does not drop. */
    int plain = open(path, O_RDONLY | O_CLOEXEC);
    rc = plain < 0 ? -errno : place(io, plain);
    int fd = rc == 0 ? open(path, flags_of(io)) : -1;
    if (rc == 0 && fd < 0) {
        rc = -errno;
        close(plain);
        if (io->mode == MODE_DIRECT)
            return cell_skip(c, "open with O_DIRECT: %s", strerror(-rc));
        return cell_fail(c, "%s: %s", path, strerror(-rc));
    }
    bool knows_cpu = target_cpu(daemon, &cpu_before);
    if (rc == 0)
        rc = go_through(io, fd, bench_now(), &job);
    if (rc == 0)
        rc = sync_job(io, &job, &sync_us);
    knows_cpu = knows_cpu && target_cpu(daemon, &cpu_after);
    if (rc == 0 && !bench_stopped()) {
        double bytes = (double)job.done * io->block;
        cell_sample(c, "mb_s", "MB/s", BETTER_MORE, bytes / (job.us + sync_us));
        if (job.writing)
            cell_sample(c, "unsynced_mb_s", "MB/s", BETTER_NONE, bytes / job.us);
        cell_histogram(c, "op", &job.latency);
        /* The clock of CPU time ticks 100 times a second: no use for a few ticks. */
        if (knows_cpu && cpu_after - cpu_before > 0.1)
            cell_sample(c, "daemon_cpu_s_gib", "s/GiB", BETTER_LESS,
                        (cpu_after - cpu_before) / (bytes / (1024.0 * MIB)));
    }
    if (job.map)
        munmap(job.map, io->o->size);
    free(job.order);
    if (fd >= 0)
        close(fd);
    if (plain >= 0)
        close(plain);
    return rc < 0 ? cell_fail(c, "%s: %s", path, strerror(-rc)) : 0;
}

/* ---- which cells ----------------------------------------------------------------------------- */

static bool makes_sense(const struct io_cell *io)
{
    bool first = io->cache == CACHE_COLD;

    if (io->op == OP_WRITE && !first)
        return false; /* over bytes that are there, wherever they are */
    if (io->cache == CACHE_DAEMON && io->target->kind != TARGET_OURS)
        return false;
    if (io->mode == MODE_DIRECT && io->cache == CACHE_KERNEL)
        return false;
    /* Memory is touched, not read in blocks: one size for each pattern. */
    if (io->mode == MODE_MAPPED &&
        io->block != (io->pattern == PATTERN_RANDOM ? io->o->blocks.v[0]
                                                    : io->o->blocks.v[io->o->blocks.n - 1]))
        return false;
    /* More than one in flight: where latency counts. */
    return io->in_flight == io->o->in_flight.v[0] ||
           (io->pattern == PATTERN_RANDOM && io->block == io->o->blocks.v[0] &&
            io->mode != MODE_MAPPED);
}

static void set_limit(struct cell *c, const struct io_cell *io)
{
    bool bulk = io->pattern == PATTERN_SEQUENTIAL && io->mode == MODE_BUFFERED;

    if (io->pattern == PATTERN_RANDOM && io->mode == MODE_BUFFERED && io->op == OP_READ &&
        io->cache == CACHE_COLD && io->block == 4096) {
        if (io->in_flight == 1)
            cell_limit(c, "fuse+libnfs", "read4k-1", "mb_s");
        else if (io->in_flight == 16)
            cell_limit(c, "fuse+libnfs", "read4k-16", "mb_s");
    }
    if (!bulk)
        return;
    if (io->op == OP_WRITE)
        cell_limit(c, "libnfs", "write", "mb_s");
    else if (io->cache == CACHE_COLD)
        cell_limit(c, "libnfs", "read", "mb_s");
    else if (io->cache == CACHE_DAEMON)
        cell_limit(c, "fuse", "read_dropped", "mb_s");
    else
        cell_limit(c, "fuse", "read_cached", "mb_s");
}

static void add(struct matrix *m, const struct io_cell *io)
{
    if (!makes_sense(io))
        return;
    struct io_cell *copy = malloc(sizeof *copy);
    if (!copy) {
        bench_fail(0, "out of memory");
        exit(BENCH_FAILED);
    }
    *copy = *io;
    struct cell *c = matrix_add(m, "io", io->target->name, io_run, copy);
    cell_at_end(c, free);
    cell_param(c, "op", "%s", op_names[io->op]);
    cell_param(c, "pattern", "%s", pattern_names[io->pattern]);
    cell_param(c, "mode", "%s", mode_names[io->mode]);
    cell_param(c, "block", "%u", io->block);
    if (io->op == OP_READ)
        cell_param(c, "cache", "%s", cache_names[io->cache]);
    cell_param(c, "in-flight", "%u", io->in_flight);
    if (io->target->kind == TARGET_OURS || io->target->kind == TARGET_KERNEL)
        set_limit(c, io);
}

static void add_all(struct matrix *m, const struct io_options *o)
{
    const unsigned sets[] = {o->op_set, o->pattern_set, o->mode_set, o->cache_set};
    const unsigned ends[] = {2, 2, 3, 3};
    unsigned v[4] = {0};

    targets_describe(&o->targets, m);
    for (;;) {
        bool wanted = true;
        for (unsigned i = 0; i < 4; i++)
            wanted = wanted && sets[i] & 1u << v[i];
        for (size_t t = 0; wanted && t < o->targets.n; t++)
            for (unsigned b = 0; b < o->blocks.n; b++)
                for (unsigned f = 0; f < o->in_flight.n; f++)
                    add(m, &(struct io_cell){.o = o,
                                             .target = &o->targets.list[t],
                                             .op = v[0],
                                             .pattern = v[1],
                                             .mode = v[2],
                                             .cache = v[3],
                                             .block = o->blocks.v[b],
                                             .in_flight = o->in_flight.v[f]});
        unsigned i = 4;
        while (i > 0 && ++v[i - 1] == ends[i - 1])
            v[--i] = 0;
        if (i == 0)
            break;
    }
}

/* ---- options --------------------------------------------------------------------------------- */

struct asked {
    char **dirs, *ops, *patterns, *modes, *caches, *blocks, *in_flight;
    int mib, limits;
    double seconds;
};

static bool check(const struct asked *a, struct io_options *o, const struct bench_options *b)
{
    int mib = a->mib ? a->mib : b->quick ? 8 : 256;

    o->seconds = a->seconds > 0 ? a->seconds : b->quick ? 0.1 : 1;
    o->size = (size_t)mib * MIB;
    if (mib < 1 || mib > 1 << 20) {
        bench_fail(0, "--size=%d: expected 1 to %d (MiB)", mib, 1 << 20);
        return false;
    }
    if (o->drop_caches && access("/proc/sys/vm/drop_caches", W_OK) < 0) {
        bench_fail(0, "--drop-caches: needs root");
        return false;
    }
    return list_parse("op", a->ops, op_names, &o->op_set) &&
           list_parse("pattern", a->patterns, pattern_names, &o->pattern_set) &&
           list_parse("mode", a->modes, mode_names, &o->mode_set) &&
           list_parse("cache", a->caches, cache_names, &o->cache_set) &&
           list_numbers("block",
                        a->blocks  ? a->blocks
                        : b->quick ? "4K,128K"
                                   : "4K,64K,1M",
                        4096, 1 << 20, &o->blocks) &&
           list_numbers("in-flight",
                        a->in_flight ? a->in_flight
                        : b->quick   ? "1"
                                     : "1,16",
                        1, 256, &o->in_flight);
}

int bench_io(int argc, const char **argv)
{
    struct bench_options b = BENCH_OPTIONS_INIT;
    struct limits_options l = LIMITS_OPTIONS_INIT;
    struct io_options o = {0};
    struct asked a = {0};
    const struct poptOption what[] = {
        {"dir", 'd', POPT_ARG_ARGV, &a.dirs, 0, "what to measure: a directory (may be repeated)",
         "[NAME=]DIR"},
        {"size", 's', POPT_ARG_INT, &a.mib, 0, "of the file (default 256)", "MIB"},
        {"seconds", 0, POPT_ARG_DOUBLE, &a.seconds, 0, "a cell lasts at most so long (default 1)",
         "SECONDS"},
        {"op", 0, POPT_ARG_STRING, &a.ops, 0, "of read,write only these", "LIST"},
        {"pattern", 0, POPT_ARG_STRING, &a.patterns, 0, "of sequential,random only these", "LIST"},
        {"mode", 0, POPT_ARG_STRING, &a.modes, 0, "of buffered,direct,mapped only these", "LIST"},
        {"cache", 0, POPT_ARG_STRING, &a.caches, 0, "of cold,daemon,kernel only these", "LIST"},
        {"block", 0, POPT_ARG_STRING, &a.blocks, 0, "bytes at a time (default 4K,64K,1M)", "LIST"},
        {"in-flight", 0, POPT_ARG_STRING, &a.in_flight, 0,
         "threads of a random cell (default 1,16)", "LIST"},
        {"drop-caches", 0, POPT_ARG_NONE, &o.drop_caches, 0,
         "before cold cells drop all of this machine's page cache, not only the file's", NULL},
        {"limits", 0, POPT_ARG_NONE, &a.limits, 0, "measure the limits in the same run", NULL},
        POPT_TABLEEND};
    const struct poptOption table[] = {
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, (void *)what, 0, "What to measure:", NULL},
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, limits_options_table(&l), 0, "With --limits:", NULL},
        {NULL, 0, POPT_ARG_INCLUDE_TABLE, bench_options_table(&b), 0, "How, and where to:", NULL},
        POPT_AUTOHELP POPT_TABLEEND};
    int status = BENCH_USAGE;

    poptContext context = verb_options(argc, argv, table, "--dir DIR [OPTION]...");
    if (!context)
        return BENCH_USAGE;
    if (poptPeekArg(context))
        bench_fail(0, "io: it takes only options; what is '%s'?", poptPeekArg(context));
    else if (bench_options_check(&b) && check(&a, &o, &b) && limits_check(&l) &&
             targets_open(&o.targets, a.dirs, NULL, false)) {
        struct matrix *m = matrix_new();
        add_all(m, &o);
        if (a.limits)
            limits_add(m, &l);
        status = bench_finish(m, &b, argc, argv, limits_derive);
    }
    targets_close(&o.targets);
    options_clear(&l.nfs);
    poptFreeContext(context);
    return status;
}
