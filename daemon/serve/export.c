// SPDX-License-Identifier: Apache-2.0
/*
 * The exported directory and its handles; see the header.
 *
 * Way of a handle in:  export_open_fh checks form and MAC, then opens by the kernel's handle or by
 * the path map. Way of one out: export_fh asks the kernel for the handle of a descriptor, adds the
 * MAC. Names are only ever resolved one component at a time below a descriptor (export_open_at).
 */
#include "daemon/serve/export.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/serve/pathmap.h"
#include "daemon/serve/siphash.h"

#define FH_MAGIC       0x4e464331U /* "NFC1" */
#define FH_KERNEL      1
#define FH_PATH        2
#define FH_MAX_PAYLOAD 44
#define FH_HEAD        8 /* magic, kind, length */
#define FH_MAC         8

struct export
{
    char path[PATH_MAX];
    int fd; /* not O_PATH: open_by_handle_at wants a real one */
    bool kernel;
    uint8_t key[16];
    uint64_t identity; /* of the exported directory, part of what is signed */
    nfs_fh3 root;
    struct pathmap *map;
};

struct kernel_fh {
    struct file_handle head;
    uint8_t space[MAX_HANDLE_SZ];
};

static uint64_t fh_mac(const struct export *exp, const uint8_t *payload, size_t len)
{
    uint8_t buf[FH_MAX_PAYLOAD + 8];

    memcpy(buf, payload, len);
    memcpy(buf + len, &exp->identity, 8);
    return siphash24(exp->key, buf, len + 8);
}

static void fh_make(const struct export *exp, unsigned kind, const uint8_t *payload, size_t len,
                    nfs_fh3 *out)
{
    uint32_t magic = FH_MAGIC;
    uint64_t mac = fh_mac(exp, payload, len);

    memset(out, 0, sizeof(*out));
    memcpy(out->data, &magic, 4);
    out->data[4] = (uint8_t)kind;
    out->data[5] = (uint8_t)len;
    memcpy(out->data + FH_HEAD, payload, len);
    memcpy(out->data + FH_HEAD + len, &mac, FH_MAC);
    out->len = (uint32_t)((FH_HEAD + len + FH_MAC + 3) & ~3UL);
}

/* The payload of FH when it is one of ours; its length in *LEN, its kind in *KIND. */
static int fh_check(const struct export *exp, const nfs_fh3 *fh, unsigned *kind,
                    const uint8_t **payload, size_t *len)
{
    uint32_t magic;
    nfs_fh3 genuine;

    if (fh->len < FH_HEAD + FH_MAC)
        return -EBADMSG;
    memcpy(&magic, fh->data, 4);
    *kind = fh->data[4];
    *len = fh->data[5];
    if (magic != FH_MAGIC || *len > FH_MAX_PAYLOAD ||
        fh->len != ((FH_HEAD + *len + FH_MAC + 3) & ~3UL))
        return -EBADMSG;
    *payload = fh->data + FH_HEAD;
    /* Every byte counts: the inode table is keyed by the handle as it came. */
    fh_make(exp, *kind, *payload, *len, &genuine);
    if (memcmp(&genuine, fh, sizeof(genuine)) != 0)
        return -ESTALE;
    return 0;
}

static int kernel_fh_payload(int fd, uint8_t payload[FH_MAX_PAYLOAD], size_t *len)
{
    struct kernel_fh kfh = {.head.handle_bytes = FH_MAX_PAYLOAD - 4};
    int mount_id, type;

    if (name_to_handle_at(fd, "", &kfh.head, &mount_id, AT_EMPTY_PATH) != 0)
        return -errno;
    type = kfh.head.handle_type;
    memcpy(payload, &type, 4);
    memcpy(payload + 4, kfh.head.f_handle, kfh.head.handle_bytes);
    *len = 4 + kfh.head.handle_bytes;
    return 0;
}

static int kernel_fh_open(int mount_fd, const uint8_t *payload, size_t len, int flags)
{
    struct kernel_fh kfh;
    int type;

    if (len < 4)
        return -EBADMSG;
    memcpy(&type, payload, 4);
    kfh.head.handle_type = type;
    kfh.head.handle_bytes = (unsigned)(len - 4);
    memcpy(kfh.head.f_handle, payload + 4, len - 4);
    int fd = open_by_handle_at(mount_fd, &kfh.head, flags | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0)
        return fd;
    return errno == ENOENT || errno == EINVAL ? -ESTALE : -errno;
}

int export_fh(struct export *exp, const nfs_fh3 *parent, const char *name, int fd, nfs_fh3 *out)
{
    uint8_t payload[FH_MAX_PAYLOAD];
    uint64_t id[2];
    size_t len;

    if (exp->kernel) {
        int rc = kernel_fh_payload(fd, payload, &len);
        if (rc == 0)
            fh_make(exp, FH_KERNEL, payload, len, out);
        return rc;
    }
    int rc = pathmap_identity(fd, &id[0], &id[1]);
    if (rc != 0)
        return rc;
    if (parent && name) {
        uint64_t parent_ino;
        memcpy(&parent_ino, parent->data + FH_HEAD, 8);
        pathmap_learn(exp->map, id[0], parent_ino, name);
    }
    fh_make(exp, FH_PATH, (const uint8_t *)id, sizeof(id), out);
    return 0;
}

int export_open_fh(struct export *exp, const nfs_fh3 *fh, int flags)
{
    const uint8_t *payload;
    unsigned kind;
    size_t len;
    uint64_t id[2];
    int rc = fh_check(exp, fh, &kind, &payload, &len);

    if (rc != 0)
        return rc;
    if (kind == FH_KERNEL)
        return exp->kernel ? kernel_fh_open(exp->fd, payload, len, flags) : -ESTALE;
    if (kind != FH_PATH || len != sizeof(id) || exp->kernel)
        return -ESTALE;
    memcpy(id, payload, sizeof(id));
    int fd = pathmap_open(exp->map, id[0], id[1]);
    if (fd < 0 || (flags & O_PATH))
        return fd;
    char proc[64];
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    int real = open(proc, flags | O_CLOEXEC);
    rc = -errno;
    close(fd);
    return real >= 0 ? real : rc;
}

int export_open_at(int dirfd, const char *name, int flags, unsigned mode)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_NOFOLLOW | O_CLOEXEC),
        .mode = mode,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    int fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof(how));

    return fd >= 0 ? fd : -errno;
}

int export_open_path(struct export *exp, const char *path)
{
    struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    while (*path == '/')
        path++;
    int fd = (int)syscall(SYS_openat2, exp->fd, *path ? path : ".", &how, sizeof(how));

    return fd >= 0 ? fd : -errno;
}

void export_forget(struct export *exp, const nfs_fh3 *fh)
{
    uint64_t ino;

    if (exp->kernel || fh->len < FH_HEAD + 8)
        return;
    memcpy(&ino, fh->data + FH_HEAD, 8);
    pathmap_forget(exp->map, ino);
}

/* Make the directories that lead to PATH, as far as they are missing. */
static void make_parents(const char *path)
{
    char copy[PATH_MAX];

    snprintf(copy, sizeof(copy), "%s", path);
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(copy, 0700);
        *slash = '/';
    }
}

static int key_load(const char *path, uint8_t key[16])
{
    char temp[PATH_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        ssize_t n = read(fd, key, 16);
        close(fd);
        return n == 16 ? 0 : -EINVAL;
    }
    if (errno != ENOENT)
        return -errno;
    make_parents(path);
    if (getrandom(key, 16, 0) != 16)
        return -errno;
    if ((size_t)snprintf(temp, sizeof(temp), "%s.XXXXXX", path) >= sizeof(temp))
        return -ENAMETOOLONG;
    fd = mkstemp(temp); /* mode 0600 */
    if (fd < 0)
        return -errno;
    int rc = write(fd, key, 16) == 16 && fsync(fd) == 0 ? 0 : -EIO;
    close(fd);
    /* link, not rename: of two servers that start at once, both use the first one's key. */
    if (rc == 0 && link(temp, path) != 0)
        rc = errno == EEXIST ? 1 : -errno;
    unlink(temp);
    return rc == 1 ? key_load(path, key) : rc;
}

static void key_default_path(char path[PATH_MAX])
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (geteuid() == 0)
        snprintf(path, PATH_MAX, "/var/lib/nfscached/serve.key");
    else if (state && *state)
        snprintf(path, PATH_MAX, "%s/nfscached/serve.key", state);
    else
        snprintf(path, PATH_MAX, "%s/.local/state/nfscached/serve.key", home ? home : "/");
}

/* Whether handles of this file system can be made and opened again by this process. */
static bool kernel_handles_work(int fd)
{
    uint8_t payload[FH_MAX_PAYLOAD];
    size_t len;

    if (kernel_fh_payload(fd, payload, &len) != 0)
        return false;
    int again = kernel_fh_open(fd, payload, len, O_RDONLY);
    if (again < 0)
        return false;
    close(again);
    return true;
}

int export_open(const char *directory, const char *key_file, bool path_handles, struct export **out)
{
    char path[PATH_MAX];
    struct export *exp = calloc(1, sizeof(*exp));
    uint64_t stamp;
    int rc;

    if (!exp)
        return -ENOMEM;
    exp->fd = -1;
    if (!realpath(directory, exp->path)) {
        rc = -errno;
        goto fail;
    }
    exp->fd = open(exp->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (exp->fd < 0) {
        rc = -errno;
        goto fail;
    }
    if (key_file)
        snprintf(path, sizeof(path), "%s", key_file);
    else
        key_default_path(path);
    rc = key_load(path, exp->key);
    if (rc != 0) {
        fprintf(stderr,
                "nfscached serve: key file %s: %s; file handles will not survive this server\n",
                path, strerror(-rc));
        if (getrandom(exp->key, 16, 0) != 16) {
            rc = -EIO;
            goto fail;
        }
    }
    /* The inode number alone names the directory: device numbers change from boot to boot. */
    rc = pathmap_identity(exp->fd, &exp->identity, &stamp);
    if (rc != 0)
        goto fail;
    exp->kernel = !path_handles && kernel_handles_work(exp->fd);
    if (!exp->kernel && !(exp->map = pathmap_new(exp->fd, exp->identity))) {
        rc = -ENOMEM;
        goto fail;
    }
    rc = export_fh(exp, NULL, NULL, exp->fd, &exp->root);
    if (rc != 0)
        goto fail;
    *out = exp;
    return 0;
fail:
    export_close(exp);
    return rc;
}

void export_close(struct export *exp)
{
    if (!exp)
        return;
    if (exp->fd >= 0)
        close(exp->fd);
    pathmap_free(exp->map);
    free(exp);
}

const char *export_path(const struct export *exp)
{
    return exp->path;
}

const nfs_fh3 *export_root(const struct export *exp)
{
    return &exp->root;
}

bool export_uses_kernel_handles(const struct export *exp)
{
    return exp->kernel;
}
