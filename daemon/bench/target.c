// SPDX-License-Identifier: Apache-2.0
/* Directories to be measured; see target.h. */
#include "daemon/bench/target.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/control_client.h"
#include "daemon/mounts.h"

void target_path(const char *dir, const char *name, char *path)
{
    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        path[0] = 0; /* no such file: an error that names it follows */
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path) < 0 && errno != ENOENT ? errno : 0;
}

int remove_tree(const char *dir)
{
    int rc = nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return rc > 0 ? -rc : rc < 0 && errno != ENOENT ? -errno : 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

static const struct mount_entry *mount_of(const struct mount_list *mounts, dev_t dev)
{
    for (size_t i = mounts->count; i-- > 0;)
        if (mounts->entries[i].dev == dev)
            return &mounts->entries[i];
    return NULL;
}

static bool name_is_taken(const struct targets *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->list[i].name && strcmp(t->list[i].name, name) == 0)
            return true;
    return false;
}

/* A name of its own: the given one, or the file system's type. */
static char *choose_name(const struct targets *t, const char *given, size_t given_len,
                         const char *type)
{
    char *name = given_len ? strndup(given, given_len) : NULL;

    if (given_len)
        return name && !name_is_taken(t, name) ? name : (free(name), NULL);
    if (strncmp(type, "fuse.", 5) == 0)
        type += 5;
    for (unsigned i = 1; i < 1000; i++) {
        if ((i == 1 ? asprintf(&name, "%s", type) : asprintf(&name, "%s-%u", type, i)) < 0)
            return NULL;
        if (!name_is_taken(t, name))
            return name;
        free(name);
    }
    return NULL;
}

static bool make_scratch(const char *option, const char *dir, char **out)
{
    if (asprintf(out, "%s/nfscached-bench.%d.%04x", dir, (int)getpid(),
                 (unsigned)(bench_now() / 1000) & 0xffff) < 0)
        *out = NULL;
    else if (mkdir(*out, 0777) == 0)
        return true;
    bench_fail(0, "--%s=%s: cannot make a directory in it: %s", option, dir,
               *out ? strerror(errno) : "no memory");
    free(*out);
    *out = NULL;
    return false;
}

/* NAME=DIRECTORY, or a directory (whose name may have a '=' after a '/'). */
static const char *after_name(const char *spec, size_t *name_len)
{
    const char *equals = strchr(spec, '='), *slash = strchr(spec, '/');

    *name_len = 0;
    if (!equals || (slash && slash < equals))
        return spec;
    *name_len = (size_t)(equals - spec);
    return equals + 1;
}

static bool open_one(struct targets *all, const char *spec)
{
    struct target *t = &all->list[all->n];
    struct mount_list mounts;
    struct stat st;
    size_t name_len;
    const char *dir = after_name(spec, &name_len);

    if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
        bench_fail(0, "--dir=%s: %s", spec, errno ? strerror(errno) : "not a directory");
        return false;
    }
    if (mounts_read(&mounts) < 0)
        mounts = (struct mount_list){0};
    const struct mount_entry *e = mount_of(&mounts, st.st_dev);
    t->dev = st.st_dev;
    t->kind = !e                                ? TARGET_OTHER
              : e->is_ours                      ? TARGET_OURS
              : strncmp(e->type, "nfs", 3) == 0 ? TARGET_KERNEL
                                                : TARGET_OTHER;
    t->owner = e ? e->owner : 0;
    t->mountpoint = strdup(e ? e->mountpoint : dir);
    if (asprintf(&t->what, "%s, %s", e ? e->type : "directory", e ? e->source : dir) < 0)
        t->what = NULL;
    t->name = choose_name(all, spec, name_len, e ? e->type : "directory");
    mounts_free(&mounts);
    all->n++;
    if (!t->name) {
        bench_fail(0, "--dir=%s: another target has this name already", spec);
        return false;
    }
    return make_scratch("dir", dir, &t->dir);
}

/* The same directory by the other way. It may take a moment to appear; not long, for nobody can
 * have cached that a name so new is not there. */
static bool open_foreign(struct target *t, const char *dir)
{
    char path[PATH_MAX], other[PATH_MAX];
    struct stat st;
    uint64_t until = bench_now() + 5000000000u;
    bool seen = false;

    if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
        bench_fail(0, "--foreign-dir=%s: %s", dir, errno ? strerror(errno) : "not a directory");
        return false;
    }
    target_path(dir, strrchr(t->dir, '/') + 1, path);
    while (!(seen = stat(path, &st) == 0) && bench_now() < until && !bench_stopped()) {
        struct stat any;
        if (stat(dir, &any) == 0 && any.st_dev == t->dev && bench_now() > until - 4000000000u)
            break; /* one file system: it would be there by now */
        usleep(100000);
    }
    if (seen) {
        target_path(path, "probe", other);
        int fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        seen = fd >= 0;
        if (fd >= 0)
            close(fd);
        if (!seen) {
            bench_fail(0, "--foreign-dir=%s: cannot write there: %s", dir, strerror(errno));
            return false;
        }
        unlink(other);
        t->foreign = strdup(path);
        return t->foreign != NULL;
    }
    bench_fail(
        0,
        "--foreign-dir=%s: what is made in --dir=%s does not appear there; it must be another "
        "way to the same files (the server's directory, a second mount)",
        dir, t->mountpoint);
    return false;
}

static size_t count(char *const *list)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    return n;
}

bool targets_open(struct targets *t, char *const *dirs, char *const *foreign_dirs,
                  bool foreign_needed)
{
    size_t n = count(dirs), nforeign = count(foreign_dirs);

    *t = (struct targets){.list = calloc(n + 1, sizeof *t->list)};
    if (!t->list || n == 0) {
        bench_fail(0, "--dir: which directory shall be measured?");
        return false;
    }
    if (nforeign > 1 && nforeign != n) {
        bench_fail(0,
                   "--foreign-dir: given %zu times for %zu of --dir; expected one for each, in the "
                   "same order, or one for all",
                   nforeign, n);
        return false;
    }
    if (foreign_needed && nforeign == 0) {
        bench_fail(0, "--foreign-dir: by which other way can the files of --dir be changed? (the "
                      "server's directory, a second mount)");
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!open_one(t, dirs[i]))
            return false;
        if (nforeign && !open_foreign(&t->list[i], foreign_dirs[nforeign == 1 ? 0 : i]))
            return false;
    }
    return true;
}

void targets_close(struct targets *t)
{
    for (size_t i = 0; i < t->n; i++) {
        struct target *one = &t->list[i];
        /* Twice: a name that the other side made a moment ago may not be seen yet. */
        for (int k = 0; one->dir && k < 50; k++) {
            if (one->foreign)
                remove_tree(one->foreign);
            if (remove_tree(one->dir) == 0)
                break;
            usleep(100000);
        }
        free(one->name);
        free(one->what);
        free(one->dir);
        free(one->foreign);
        free(one->mountpoint);
    }
    free(t->list);
    *t = (struct targets){0};
}

void targets_describe(const struct targets *t, struct matrix *m)
{
    for (size_t i = 0; i < t->n; i++)
        matrix_target(m, t->list[i].name, t->list[i].what ? t->list[i].what : "");
}

/* ---- what mounts tell --------------------------------------------------------------------------
 */

static json_t *ask_status(const struct target *t)
{
    struct control_client *c;
    char *text = NULL;
    json_t *status = NULL;

    if (t->kind != TARGET_OURS || control_connect(t->dev, t->owner, &c) < 0)
        return NULL;
    if (control_status(c, &text) == 0)
        status = json_loads(text, 0, NULL);
    control_disconnect(c);
    free(text);
    return status;
}

/* The fifth figure of "bytes:" is what was read from the server (Linux, fs/nfs/iostat.h). */
static bool mountstats_read(const struct target *t, uint64_t *bytes)
{
    FILE *f = fopen("/proc/self/mountstats", "re");
    char line[4096], dir[PATH_MAX];
    bool here = false, found = false;
    unsigned long long v[5];

    while (f && !found && fgets(line, sizeof line, f)) {
        if (sscanf(line, "device %*s mounted on %4095s", dir) == 1)
            here = strcmp(dir, t->mountpoint) == 0;
        else if (here && sscanf(line, " bytes: %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2],
                                &v[3], &v[4]) == 5)
            found = true;
    }
    if (f)
        fclose(f);
    if (found)
        *bytes = v[4];
    return found;
}

bool target_fetched(const struct target *t, uint64_t *bytes)
{
    if (t->kind == TARGET_KERNEL)
        return mountstats_read(t, bytes);
    json_t *status = ask_status(t);
    json_t *n = json_object_get(json_object_get(status, "fetch"), "bytes");
    bool known = json_is_integer(n);
    *bytes = (uint64_t)json_integer_value(n);
    json_decref(status);
    return known;
}

pid_t target_daemon(const struct target *t)
{
    json_t *status = ask_status(t);
    pid_t pid = (pid_t)json_integer_value(json_object_get(status, "pid"));

    json_decref(status);
    return pid;
}

bool target_cpu(pid_t pid, double *seconds)
{
    char path[64], line[1024], *at;
    unsigned long long user, system;

    if (pid <= 0)
        return false;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    bool known = f && fgets(line, sizeof line, f) && (at = strrchr(line, ')')) &&
                 sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                        &system) == 2;
    if (f)
        fclose(f);
    if (known)
        *seconds = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    return known;
}

bool target_drop_daemon(const struct target *t)
{
    struct control_client *c;
    struct control_progress progress;
    uint32_t id;

    if (t->kind != TARGET_OURS || control_connect(t->dev, t->owner, &c) < 0)
        return false;
    bool done =
        control_job_start(c, JOB_DROP, "", 0, &id) == 0 && control_job_wait(c, id, &progress) == 0;
    control_disconnect(c);
    return done;
}
