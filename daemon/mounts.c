// SPDX-License-Identifier: Apache-2.0
/*
 * /proc/self/mountinfo (proc(5)):
 *
 *   36 35 0:57 / /mnt rw,nosuid - fuse.nfscached server:/x rw,user_id=1000,group_id=1000
 *   id parent dev root mountpoint options [optional fields] - type source super-options
 *
 * Blanks, tabs, newlines and backslashes inside a field are written as \ooo.
 */
#include "daemon/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/control.h"

static char *unescape(const char *field, size_t n)
{
    char *out = malloc(n + 1), *to = out;

    if (!out)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (field[i] == '\\' && i + 3 < n && field[i + 1] >= '0' && field[i + 1] <= '3') {
            *to++ = (char)((field[i + 1] - '0') << 6 | (field[i + 2] - '0') << 3 |
                           (field[i + 3] - '0'));
            i += 3;
        } else {
            *to++ = field[i];
        }
    }
    *to = 0;
    return out;
}

/* The next field between blanks; moves *at behind it. */
static bool field(const char **at, const char **start, size_t *n)
{
    *at += strspn(*at, " ");
    *start = *at;
    *n = strcspn(*at, " \n");
    *at += *n;
    return *n > 0;
}

static void entry_clear(struct mount_entry *e)
{
    free(e->root);
    free(e->mountpoint);
    free(e->type);
    free(e->source);
}

bool mounts_parse_line(const char *line, struct mount_entry *out)
{
    unsigned major, minor;
    int used = 0;
    const char *f;
    size_t n;

    *out = (struct mount_entry){0};
    if (sscanf(line, "%d %*d %u:%u %n", &out->id, &major, &minor, &used) != 3 || !used)
        return false;
    out->dev = makedev(major, minor);
    const char *at = line + used;
    if (!field(&at, &f, &n))
        return false;
    out->root = unescape(f, n);
    if (!field(&at, &f, &n))
        goto bad;
    out->mountpoint = unescape(f, n);
    do {
        if (!field(&at, &f, &n))
            goto bad;
    } while (!(n == 1 && *f == '-'));
    if (!field(&at, &f, &n))
        goto bad;
    out->type = unescape(f, n);
    if (!field(&at, &f, &n))
        goto bad;
    out->source = unescape(f, n);
    if (field(&at, &f, &n)) {
        const char *id = memmem(f, n, "user_id=", 8);
        if (id && (id == f || id[-1] == ','))
            out->owner = (uid_t)strtoul(id + 8, NULL, 10);
    }
    if (out->root && out->mountpoint && out->type && out->source)
        return true;
bad:
    entry_clear(out);
    return false;
}

/* A mount with subtype=x has the type fuse.x: then its socket tells, if somebody listens there.
 * What a killed daemon left would claim the mount of whoever is given its device number next. */
static bool is_ours(const struct mount_entry *e)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (strcmp(e->type, "fuse.nfscached") == 0)
        return true;
    if (strncmp(e->type, "fuse", 4) != 0 ||
        control_socket_path(e->dev, e->owner, addr.sun_path) != 0 ||
        access(addr.sun_path, F_OK) != 0)
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool dead = connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0 && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return !dead;
}

int mounts_read(struct mount_list *list)
{
    char *line = NULL;
    size_t size = 0;
    int rc = 0;

    *list = (struct mount_list){0};
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (!f)
        return -errno;
    while (rc == 0 && getline(&line, &size, f) > 0) {
        struct mount_entry e;
        if (!mounts_parse_line(line, &e))
            continue;
        struct mount_entry *more =
            realloc(list->entries, (list->count + 1) * sizeof *list->entries);
        if (!more) {
            entry_clear(&e);
            rc = -ENOMEM;
            break;
        }
        e.is_ours = is_ours(&e);
        list->entries = more;
        list->entries[list->count++] = e;
    }
    free(line);
    fclose(f);
    if (rc < 0)
        mounts_free(list);
    return rc;
}

void mounts_free(struct mount_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        entry_clear(&list->entries[i]);
    free(list->entries);
    *list = (struct mount_list){0};
}

/* Absolute, and without links in all but the last component, which is not looked at. */
static char *resolve_above(const char *path)
{
    char *copy = strdup(path), *real = NULL, *out = NULL;

    if (!copy)
        return NULL;
    for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
        copy[n - 1] = 0;
    char *slash = strrchr(copy, '/');
    const char *last = slash ? slash + 1 : copy;
    if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
        out = realpath(copy, NULL);
        free(copy);
        return out;
    }
    if (!slash) {
        real = realpath(".", NULL);
    } else if (slash == copy) {
        real = strdup("/");
    } else {
        *slash = 0;
        real = realpath(copy, NULL);
    }
    if (real && asprintf(&out, "%s%s%s", real, strcmp(real, "/") == 0 ? "" : "/", last) < 0)
        out = NULL;
    free(real);
    free(copy);
    return out;
}

static const struct mount_entry *find_at(const struct mount_list *list, const char *absolute)
{
    for (size_t i = list->count; i-- > 0;)
        if (strcmp(list->entries[i].mountpoint, absolute) == 0)
            return &list->entries[i];
    return NULL;
}

const struct mount_entry *mounts_at(const struct mount_list *list, const char *path, char *err,
                                    size_t errlen)
{
    char *absolute = resolve_above(path);

    if (!absolute) {
        snprintf(err, errlen, "%s: %s", path, strerror(errno));
        return NULL;
    }
    const struct mount_entry *e = find_at(list, absolute);
    if (!e) {
        /* Only now a link may be followed: the name itself is no mountpoint. */
        char *real = realpath(absolute, NULL);
        if (real)
            e = find_at(list, real);
        free(real);
    }
    if (!e)
        snprintf(err, errlen, "%s: not a mountpoint", path);
    else if (!e->is_ours)
        snprintf(err, errlen, "%s: a mount of type %s, not of nfscached", path, e->type);
    free(absolute);
    return e && e->is_ours ? e : NULL;
}

static const struct mount_entry *find_id(const struct mount_list *list, int id)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].id == id)
            return &list->entries[i];
    return NULL;
}

static int mount_id_of(int fd)
{
    char name[64], line[256];
    int id = -1;

    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
    FILE *f = fopen(name, "re");
    if (!f)
        return -errno;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "mnt_id: %d", &id) == 1)
            break;
    fclose(f);
    return id < 0 ? -ENOENT : id;
}

/* mountpoint + rest -> root + rest: what a bind mount hides in front comes back. */
static char *path_in_fs(const struct mount_entry *e, const char *absolute)
{
    char *path;
    size_t n = strcmp(e->mountpoint, "/") == 0 ? 0 : strlen(e->mountpoint);
    const char *root = strcmp(e->root, "/") == 0 ? "" : e->root + 1;
    const char *rest = absolute + n;

    rest += strspn(rest, "/");
    if (asprintf(&path, "%s%s%s", root, *root && *rest ? "/" : "", rest) < 0)
        return NULL;
    return path;
}

int mounts_file(const struct mount_list *list, const char *path, struct mount_file *file, char *err,
                size_t errlen)
{
    char link[64], real[PATH_MAX];
    struct stat st;

    *file = (struct mount_file){0};
    char *absolute = resolve_above(path);
    const struct mount_entry *e = absolute ? find_at(list, absolute) : NULL;
    free(absolute);
    if (e && e->is_ours && strcmp(e->root, "/") == 0) {
        file->mount = e;
        file->path = strdup("");
        return file->path ? 0 : -ENOMEM;
    }

    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        int rc = -errno;
        snprintf(err, errlen, "%s: %s", path, strerror(errno));
        return rc;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, real, sizeof real - 1);
    int id = mount_id_of(fd);
    int rc = fstat(fd, &st) < 0 || n < 0 ? -errno : 0;
    close(fd);
    if (rc < 0) {
        snprintf(err, errlen, "%s: %s", path, strerror(-rc));
        return rc;
    }
    real[n] = 0;
    e = find_id(list, id);
    if (!e || !e->is_ours) {
        snprintf(err, errlen, "%s: not on a mount of nfscached", path);
        return -EINVAL;
    }
    file->mount = e;
    file->path = path_in_fs(e, real);
    file->ino = file->path && *file->path ? st.st_ino : 0;
    return file->path ? 0 : -ENOMEM;
}

extern char **environ;

/* fusermount3 tells by its exit status alone whether it did; the caller is the owner of the mount
 * (else the control socket had refused), so what is left to go wrong is that it is in use. */
static int detach_by_fusermount(const char *mountpoint, bool lazy)
{
    char *argv[] = {(char *)"fusermount3", (char *)"-u", (char *)"-q", (char *)"--",
                    (char *)mountpoint,    NULL,         NULL};
    int status;
    pid_t pid;

    if (lazy) {
        argv[3] = (char *)"-z";
        argv[4] = (char *)"--";
        argv[5] = (char *)mountpoint;
    }
    int rc = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    if (rc != 0)
        return -rc;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

int mounts_detach(const char *mountpoint, bool lazy)
{
    if (umount2(mountpoint, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
        return 0;
    if (errno != EPERM || geteuid() == 0)
        return -errno;
    return detach_by_fusermount(mountpoint, lazy);
}
