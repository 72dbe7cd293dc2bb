// SPDX-License-Identifier: Apache-2.0
/*
 * FSSTAT, FSINFO, PATHCONF (RFC 1813 sections 3.3.18 to 3.3.20), and the MOUNT protocol (appendix
 * I) with its one export. A client may mount the directory by its path, any directory below it, or
 * "/".
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/serve/attr.h"

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define AUTO_FD __attribute__((cleanup(close_fd))) int

/* Decode the handle, open it, get its attributes. */
static uint32_t object_of(struct call *call, XDR *in, int *fd, struct stat *st)
{
    nfs_fh3 fh;

    *fd = -1;
    if (!xdr_nfs_fh3(in, &fh))
        return PROC_GARBAGE;
    *fd = export_open_fh(call->srv->exp, &fh, O_PATH);
    return serve_status_of(*fd < 0 ? *fd : serve_stat_shown(call->srv, &fh, *fd, st));
}

uint32_t proc_fsstat(struct call *call, XDR *in, XDR *out)
{
    struct statvfs vfs;
    struct stat st;
    AUTO_FD fd = -1;
    uint32_t status = object_of(call, in, &fd, &st);

    if (status != NFS3_OK)
        return status;
    serve_put_post_op(out, call->srv, &st);
    if (fstatvfs(fd, &vfs) != 0)
        return serve_status_of(-errno);
    size3 words[6] = {
        (size3)vfs.f_blocks * vfs.f_frsize,
        (size3)vfs.f_bfree * vfs.f_frsize,
        (size3)vfs.f_bavail * vfs.f_frsize,
        vfs.f_files,
        vfs.f_ffree,
        vfs.f_favail,
    };
    u_int invarsec = 0;
    for (int i = 0; i < 6; i++)
        xdr_u_quad_t(out, &words[i]);
    xdr_u_int(out, &invarsec);
    return NFS3_OK;
}

uint32_t proc_fsinfo(struct call *call, XDR *in, XDR *out)
{
    struct stat st;
    AUTO_FD fd = -1;
    uint32_t status = object_of(call, in, &fd, &st);

    if (status != NFS3_OK)
        return status;
    serve_put_post_op(out, call->srv, &st);
    u_int sizes[7] = {SERVE_MAX_IO, SERVE_MAX_IO, 4096, SERVE_MAX_IO, SERVE_MAX_IO, 4096, 65536};
    size3 max_file = INT64_MAX;
    nfstime3 delta = {0, 1};
    u_int properties = FSF3_LINK | FSF3_SYMLINK | FSF3_HOMOGENEOUS | FSF3_CANSETTIME;
    for (int i = 0; i < 7; i++)
        xdr_u_int(out, &sizes[i]);
    xdr_u_quad_t(out, &max_file);
    xdr_nfstime3(out, &delta);
    xdr_u_int(out, &properties);
    return NFS3_OK;
}

uint32_t proc_pathconf(struct call *call, XDR *in, XDR *out)
{
    struct stat st;
    AUTO_FD fd = -1;
    uint32_t status = object_of(call, in, &fd, &st);

    if (status != NFS3_OK)
        return status;
    serve_put_post_op(out, call->srv, &st);
    long link_max = fpathconf(fd, _PC_LINK_MAX);
    u_int numbers[2] = {link_max > 0 ? (u_int)link_max : 32000, 255};
    bool_t flags[4] = {TRUE /* no_trunc */, TRUE /* chown_restricted */, FALSE, TRUE};
    for (int i = 0; i < 2; i++)
        xdr_u_int(out, &numbers[i]);
    for (int i = 0; i < 4; i++)
        xdr_bool(out, &flags[i]);
    return NFS3_OK;
}

/* ---- MOUNT ---- */

static void peer_host(const struct call *call, char host[64])
{
    if (getnameinfo((const struct sockaddr *)&call->conn->peer, sizeof(call->conn->peer), host, 64,
                    NULL, 0, NI_NUMERICHOST) != 0)
        strcpy(host, "?");
}

static void mount_entry_drop(struct server *srv, unsigned i)
{
    free(srv->mounts[i].path);
    srv->mounts[i] = srv->mounts[--srv->nmounts];
}

/* The list of mounts is what clients said, for DUMP; it decides nothing. */
static void mounts_update(struct call *call, const char *path, bool add)
{
    struct server *srv = call->srv;
    char host[64];

    peer_host(call, host);
    pthread_mutex_lock(&srv->lock);
    for (unsigned i = srv->nmounts; i-- > 0;)
        if (strcmp(srv->mounts[i].host, host) == 0 &&
            (!path || strcmp(srv->mounts[i].path, path) == 0))
            mount_entry_drop(srv, i);
    if (add && srv->nmounts < SERVE_MOUNTS_MAX) {
        char *copy = strdup(path);
        if (copy) {
            struct mount_entry *entry = &srv->mounts[srv->nmounts++];
            memcpy(entry->host, host, sizeof(entry->host));
            entry->path = copy;
        }
    }
    pthread_mutex_unlock(&srv->lock);
}

/* The path of a call as a string, into PATH of 1025 bytes: MNTPATHLEN is 1024. */
static uint32_t mount_path(XDR *in, char path[1025])
{
    nfspath3 arg = {0};

    if (!xdr_nfspath3(in, &arg))
        return PROC_GARBAGE;
    if (arg.len > 1024)
        return MNT3ERR_NAMETOOLONG;
    if (arg.len && memchr(arg.data, '\0', arg.len))
        return MNT3ERR_INVAL;
    if (arg.len)
        memcpy(path, arg.data, arg.len);
    path[arg.len] = '\0';
    while (arg.len > 1 && path[arg.len - 1] == '/')
        path[--arg.len] = '\0';
    return MNT3_OK;
}

/* What of PATH is below the export, or NULL when it is not in it. */
static const char *path_in_export(const struct server *srv, const char *path)
{
    const char *root = export_path(srv->exp);
    size_t len = strlen(root);

    if (path[0] == '\0' || strcmp(path, "/") == 0)
        return "";
    if (strcmp(root, "/") == 0)
        return path;
    if (strncmp(path, root, len) != 0 || (path[len] != '\0' && path[len] != '/'))
        return NULL;
    return path + len;
}

uint32_t proc_mnt(struct call *call, XDR *in, XDR *out)
{
    struct server *srv = call->srv;
    char path[1025];
    uint32_t status = mount_path(in, path);
    struct stat st;
    nfs_fh3 fh;

    if (status != MNT3_OK)
        return status;
    snprintf(call->note, sizeof(call->note), "%.60s", path);
    const char *rest = path_in_export(srv, path);
    if (!rest)
        return MNT3ERR_NOENT;
    AUTO_FD fd = export_open_path(srv->exp, rest);
    if (fd < 0)
        return fd == -ENOENT ? MNT3ERR_NOENT : fd == -ENOTDIR ? MNT3ERR_NOTDIR : MNT3ERR_ACCES;
    if (fstat(fd, &st) != 0)
        return MNT3ERR_IO;
    if (!S_ISDIR(st.st_mode))
        return MNT3ERR_NOTDIR;
    if (*rest ? export_fh(srv->exp, NULL, NULL, fd, &fh) != 0 : (fh = *export_root(srv->exp), 0))
        return MNT3ERR_SERVERFAULT;
    mounts_update(call, path, true);
    u_int flavors = 1, sys = AUTH_SYS;
    xdr_nfs_fh3(out, &fh);
    xdr_u_int(out, &flavors);
    xdr_u_int(out, &sys);
    return MNT3_OK;
}

static bool put_string(XDR *out, const char *text)
{
    nfspath3 path = {.len = (uint32_t)strlen(text), .data = (const uint8_t *)text};

    return xdr_nfspath3(out, &path);
}

uint32_t proc_dump(struct call *call, XDR *in, XDR *out)
{
    struct server *srv = call->srv;
    bool_t more = TRUE, end = FALSE;

    pthread_mutex_lock(&srv->lock);
    for (unsigned i = 0; i < srv->nmounts; i++) {
        u_int at = xdr_getpos(out);
        if (!xdr_bool(out, &more) || !put_string(out, srv->mounts[i].host) ||
            !put_string(out, srv->mounts[i].path) || xdr_getpos(out) > 65000) {
            xdr_setpos(out, at);
            break;
        }
    }
    pthread_mutex_unlock(&srv->lock);
    xdr_bool(out, &end);
    return MNT3_OK;
}

uint32_t proc_umnt(struct call *call, XDR *in, XDR *out)
{
    char path[1025];
    uint32_t status = mount_path(in, path);

    if (status == MNT3_OK)
        mounts_update(call, path, false);
    return status == PROC_GARBAGE ? PROC_GARBAGE : MNT3_OK;
}

uint32_t proc_umntall(struct call *call, XDR *in, XDR *out)
{
    mounts_update(call, NULL, false);
    return MNT3_OK;
}

uint32_t proc_export(struct call *call, XDR *in, XDR *out)
{
    bool_t yes = TRUE, no = FALSE;

    /* One export, no groups: everybody who reaches the port. */
    return xdr_bool(out, &yes) && put_string(out, export_path(call->srv->exp)) &&
                   xdr_bool(out, &no) && xdr_bool(out, &no)
               ? MNT3_OK
               : MNT3ERR_SERVERFAULT;
}
