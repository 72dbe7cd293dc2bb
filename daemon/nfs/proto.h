// SPDX-License-Identifier: Apache-2.0
/*
 * The numbers of RFC 1813 and RFC 5531 that the client needs outside of the argument encoder.
 *
 * libnfs has most of them, but its headers cannot meet libtirpc's in one file, and they bring
 * macros named TRUE, CALL and READ3args into everything; encode.c alone includes them, and checks
 * there that both agree.
 */
#ifndef NFSCACHED_DAEMON_NFS_PROTO_H
#define NFSCACHED_DAEMON_NFS_PROTO_H

enum { NFS3_PROG = 100003, NFS3_VERS = 3, NFS3_PORT = 2049 };
enum { NFS3_FH_MAX = 64, NFS3_NAME_MAX = 255, NFS3_PATH_MAX = 4096 };

/* RFC 1813 section 3.3: procedure numbers. */
enum nfs3_proc {
    PROC_NULL,
    PROC_GETATTR,
    PROC_SETATTR,
    PROC_LOOKUP,
    PROC_ACCESS,
    PROC_READLINK,
    PROC_READ,
    PROC_WRITE,
    PROC_CREATE,
    PROC_MKDIR,
    PROC_SYMLINK,
    PROC_MKNOD,
    PROC_REMOVE,
    PROC_RMDIR,
    PROC_RENAME,
    PROC_LINK,
    PROC_READDIR,
    PROC_READDIRPLUS,
    PROC_FSSTAT,
    PROC_FSINFO,
    PROC_PATHCONF,
    PROC_COMMIT,
    PROC_COUNT
};

/* RFC 1813 section 2.6: the status codes that are treated by name. */
enum {
    ST_OK = 0,
    ST_NOENT = 2,
    ST_EXIST = 17,
    ST_NOT_SYNC = 10002,
    ST_NOTSUPP = 10004,
    ST_JUKEBOX = 10008,
};

/* RFC 1813 sections 2.5 and 3.3.4: type numbers and ACCESS bits. */
enum { T_REG = 1, T_DIR, T_BLK, T_CHR, T_LNK, T_SOCK, T_FIFO };
enum {
    ACC_READ = 0x01,
    ACC_LOOKUP = 0x02,
    ACC_MODIFY = 0x04,
    ACC_EXTEND = 0x08,
    ACC_DELETE = 0x10,
    ACC_EXECUTE = 0x20,
};

/* RFC 5531 section 9. */
enum { RPC_CALL = 0, RPC_REPLY = 1 };
enum { RPC_ACCEPTED = 0, RPC_DENIED = 1 };
enum {
    ACCEPT_SUCCESS,
    ACCEPT_PROG_UNAVAIL,
    ACCEPT_PROG_MISMATCH,
    ACCEPT_PROC_UNAVAIL,
    ACCEPT_GARBAGE_ARGS,
    ACCEPT_SYSTEM_ERR
};
enum { RPC_AUTH_MAX = 400 };

#endif
