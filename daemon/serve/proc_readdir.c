// SPDX-License-Identifier: Apache-2.0
/*
 * READDIR and READDIRPLUS (RFC 1813 sections 3.3.16, 3.3.17).
 *
 * A cookie is the kernel's d_off: a place in the directory that stays valid while entries come and
 * go (ext4 and xfs: hash order; tmpfs since Linux 6.6). The directory is opened anew for every call
 * and sought, so that nothing is kept between calls and a restarted server goes on where the old
 * one was. For the same reason the cookie verifier is a constant; another one is refused with
 * BAD_COOKIE.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/serve/attr.h"

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
static void free_buf(char **buf)
{
    free(*buf);
}
#define AUTO_FD  __attribute__((cleanup(close_fd))) int
#define AUTO_BUF __attribute__((cleanup(free_buf))) char *

#define TRAILER 8 /* end of list, eof */

static const char cookie_verf[8] = "dir.v01";

struct listing {
    struct call *call;
    nfs_fh3 dir;
    int fd;
    bool plus;
    XDR *out;
    u_int limit;     /* of bytes in OUT */
    u_int names_max; /* of bytes without attributes and handles */
    u_int names;
    unsigned entries;
};

/* Attributes and handle of an entry, or their absence: what cannot be had does not fail the call.
 */
static bool put_entry_plus(struct listing *list, const struct dirent64 *de, struct stat *st)
{
    struct server *srv = list->call->srv;
    bool_t has_fh = FALSE;
    bool has_st = false;
    nfs_fh3 fh;

    if (strcmp(de->d_name, ".") == 0) {
        fh = list->dir;
        has_fh = TRUE;
        has_st = serve_stat_shown(srv, &fh, list->fd, st) == 0;
    } else if (strcmp(de->d_name, "..") != 0) {
        AUTO_FD fd = export_open_at(list->fd, de->d_name, O_PATH, 0);
        if (fd >= 0 && export_fh(srv->exp, &list->dir, de->d_name, fd, &fh) == 0) {
            has_fh = TRUE;
            has_st = serve_stat_shown(srv, &fh, fd, st) == 0;
        }
    }
    return serve_put_post_op(list->out, srv, has_st ? st : NULL) && xdr_bool(list->out, &has_fh) &&
           (!has_fh || xdr_nfs_fh3(list->out, &fh));
}

/* Whether the entry fitted; otherwise OUT is as before. */
static bool put_entry(struct listing *list, const struct dirent64 *de)
{
    u_int at = xdr_getpos(list->out);
    filename3 name = {.len = (uint32_t)strlen(de->d_name), .data = (const uint8_t *)de->d_name};
    fileid3 fileid = de->d_ino;
    cookie3 cookie = (cookie3)de->d_off;
    bool_t follows = TRUE;
    struct stat st;

    u_int names = list->names + 24 + ((name.len + 3) & ~3U);
    bool fits = (list->entries == 0 || names <= list->names_max) && xdr_bool(list->out, &follows) &&
                xdr_u_quad_t(list->out, &fileid) && xdr_filename3(list->out, &name) &&
                xdr_u_quad_t(list->out, &cookie) &&
                (!list->plus || put_entry_plus(list, de, &st)) &&
                xdr_getpos(list->out) + TRAILER <= list->limit;
    if (!fits) {
        xdr_setpos(list->out, at);
        return false;
    }
    list->names = names;
    list->entries++;
    return true;
}

static int list_entries(struct listing *list, bool *eof)
{
    size_t size = list->limit / (list->plus ? 4 : 1);

    size = size < 4096 ? 4096 : size > 65536 ? 65536 : size;
    AUTO_BUF buf = malloc(size);
    if (!buf)
        return -ENOMEM;
    for (;;) {
        long n = syscall(SYS_getdents64, list->fd, buf, size);
        if (n < 0)
            return -errno;
        *eof = n == 0;
        if (n == 0)
            return 0;
        for (long at = 0; at < n;) {
            const struct dirent64 *de = (const void *)(buf + at);
            if (!put_entry(list, de))
                return 0;
            at += de->d_reclen;
        }
    }
}

static uint32_t readdir_common(struct call *call, XDR *out, const READDIRPLUS3args *args, bool plus)
{
    struct server *srv = call->srv;
    struct listing list = {.call = call, .dir = args->dir, .plus = plus, .out = out};
    struct stat st;
    bool eof = false;
    bool_t end = FALSE;

    snprintf(call->note, sizeof(call->note), "cookie=%llu", (unsigned long long)args->cookie);
    AUTO_FD path_fd = export_open_fh(srv->exp, &args->dir, O_PATH);
    int rc = path_fd < 0 ? path_fd : serve_stat_shown(srv, &args->dir, path_fd, &st);
    if (rc != 0)
        return serve_status_of(rc);
    serve_put_post_op(out, srv, &st);
    if (!S_ISDIR(st.st_mode))
        return NFS3ERR_NOTDIR;
    if (args->cookie != 0 && memcmp(args->cookieverf, cookie_verf, 8) != 0)
        return NFS3ERR_BAD_COOKIE;
    AUTO_FD fd = export_open_fh(srv->exp, &args->dir, O_RDONLY | O_DIRECTORY);
    rc = fd < 0 ? fd : serve_cred_become(&call->cred);
    if (rc == 0)
        rc = serve_check_access(call, path_fd, &st, R_OK, false);
    if (rc == 0 && args->cookie != 0 && lseek(fd, (off_t)args->cookie, SEEK_SET) < 0)
        return NFS3ERR_BAD_COOKIE;
    if (rc != 0)
        return serve_status_of(rc);
    xdr_opaque(out, (char *)(uintptr_t)cookie_verf, 8);
    list.fd = fd;
    list.limit = args->maxcount < SERVE_MAX_IO ? args->maxcount : SERVE_MAX_IO;
    list.names_max = args->dircount;
    u_int start = xdr_getpos(out);
    rc = list_entries(&list, &eof);
    if (rc == 0 && list.entries == 0 && !eof) {
        xdr_setpos(out, start - 8);
        return NFS3ERR_TOOSMALL;
    }
    if (rc != 0) {
        xdr_setpos(out, start - 8);
        return serve_status_of(rc);
    }
    xdr_bool(out, &end);
    end = eof;
    xdr_bool(out, &end);
    return NFS3_OK;
}

uint32_t proc_readdir(struct call *call, XDR *in, XDR *out)
{
    READDIRPLUS3args plus = {0};
    READDIR3args args;

    memset(&args, 0, sizeof(args));
    if (!xdr_READDIR3args(in, &args))
        return PROC_GARBAGE;
    plus.dir = args.dir;
    plus.cookie = args.cookie;
    memcpy(plus.cookieverf, args.cookieverf, 8);
    plus.dircount = UINT32_MAX;
    plus.maxcount = args.count;
    return readdir_common(call, out, &plus, false);
}

uint32_t proc_readdirplus(struct call *call, XDR *in, XDR *out)
{
    READDIRPLUS3args args;

    memset(&args, 0, sizeof(args));
    if (!xdr_READDIRPLUS3args(in, &args))
        return PROC_GARBAGE;
    return readdir_common(call, out, &args, true);
}
