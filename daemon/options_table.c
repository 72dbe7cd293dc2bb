// SPDX-License-Identifier: Apache-2.0
/*
 * Every option by name: honoured, refused with its reason, or accepted without effect. An option
 * that is refused is refused aloud, because one that is silently ignored is a promise broken later.
 */
#include "daemon/options_table.h"

#include <stdbool.h>
#include <sys/socket.h>

#include "daemon/options.h"

#define AT(field) offsetof(struct mount_options, field)

#define NO_NLM     "locks are local to this mount: the NLM protocol is not spoken (use nolock)"
#define NO_V4      "it belongs to NFSv4, and only vers=3 is spoken"
#define FUSE_CACHE "what the kernel caches is decided by revalidation, not by this option"
#define FUSE_TIMES "use acregmin, acregmax, acdirmin, acdirmax or actimeo"

static const struct option_word lookupcache_words[] = {{"all", OPTION_LOOKUPCACHE_ALL},
                                                       {"pos", OPTION_LOOKUPCACHE_POSITIVE},
                                                       {"positive", OPTION_LOOKUPCACHE_POSITIVE},
                                                       {"none", OPTION_LOOKUPCACHE_NONE},
                                                       {0}};
static const struct option_word wcc_words[] = {{"strict", OPTION_WCC_STRICT},
                                               {"bracket", OPTION_WCC_BRACKET},
                                               {"trust", OPTION_WCC_TRUST},
                                               {0}};
static const struct option_word proto_words[] = {{"tcp", AF_UNSPEC}, {"tcp6", AF_INET6}, {0}};
static const struct option_word three[] = {{"3", 3}, {0}};
static const struct option_word sys[] = {{"sys", 0}, {0}};
static const struct option_word tcp[] = {{"tcp", 0}, {"tcp6", 0}, {0}};
static const struct option_word all[] = {{"all", 0}, {0}};
static const struct option_word lazy[] = {{"lazy", 0}, {0}};
static const struct option_word none[] = {{"none", 0}, {0}};
static const struct option_word resvport_yes[] = {{"", OPTION_RESVPORT_YES}, {0}};
static const struct option_word resvport_no[] = {{"", OPTION_RESVPORT_NO}, {0}};

/* clang-format off */
const struct option_entry option_entries[] = {
    /* the server and the transport */
    {"port", PORT, AT(port), AT(p.has_port), .form = "a port, 0 to 65535"},
    {"mountport", PORT, AT(mountport), AT(p.has_mountport), .form = "a port, 0 to 65535"},
    {"proto", CHOICE, AT(family), .words = proto_words, .form = "tcp or tcp6; UDP and RDMA are not implemented"},
    {"vers", MUST_BE, .words = three, .form = "3; NFS versions 2 and 4 are not implemented"},
    {"nfsvers", MUST_BE, .words = three, .form = "3; NFS versions 2 and 4 are not implemented"},
    {"mountvers", MUST_BE, .words = three, .form = "3, the version that belongs to NFSv3"},
    {"mountproto", MUST_BE, .words = tcp, .form = "tcp; UDP is not implemented"},
    {"rsize", IO_SIZE, AT(rsize), .form = "a number of bytes, 1024 to 1048576"},
    {"wsize", IO_SIZE, AT(wsize), .form = "a number of bytes, 1024 to 1048576"},
    {"hard", BOOLEAN, AT(soft), .number = false},
    {"soft", BOOLEAN, AT(soft), .number = true},
    {"softerr", BOOLEAN, AT(soft), .number = true},
    {"timeo", NUMBER, AT(timeo_ds), .min = 1, .max = 6000, .form = "deciseconds (tenths of a second), 1 to 6000"},
    {"retrans", NUMBER, AT(retrans), .min = 0, .max = 1000, .form = "a number of retries, 0 to 1000"},
    {"nconnect", NUMBER, AT(nconnect), .min = 1, .max = 16, .form = "a number of connections, 1 to 16"},
    {"resvport", CHOICE, AT(resvport), .words = resvport_yes},
    {"noresvport", CHOICE, AT(resvport), .words = resvport_no},
    {"sec", MUST_BE, .words = sys, .form = "sys; RPCSEC_GSS (krb5, krb5i, krb5p) is not implemented"},
    {"xprtsec", MUST_BE, .words = none, .form = "none; RPC over TLS is not implemented"},
    {"rdirplus", BOOLEAN, AT(rdirplus), .number = true},
    {"nordirplus", BOOLEAN, AT(rdirplus), .number = false},

    /* how the mount is attempted */
    {"bg", BOOLEAN, AT(bg), .number = true},
    {"fg", BOOLEAN, AT(bg), .number = false},
    {"retry", NUMBER, AT(retry_min), AT(p.has_retry), .min = 0, .max = 1000000, .form = "minutes, 0 (try once) to 1000000"},

    /* consistency */
    {"acregmin", NUMBER, AT(acregmin), AT(p.has_acregmin), .max = OPTION_SECONDS_MAX, .form = "seconds"},
    {"acregmax", NUMBER, AT(acregmax), AT(p.has_acregmax), .max = OPTION_SECONDS_MAX, .form = "seconds"},
    {"acdirmin", NUMBER, AT(acdirmin), AT(p.has_acdirmin), .max = OPTION_SECONDS_MAX, .form = "seconds"},
    {"acdirmax", NUMBER, AT(acdirmax), AT(p.has_acdirmax), .max = OPTION_SECONDS_MAX, .form = "seconds"},
    {"actimeo", ACTIMEO, .form = "seconds"},
    {"ac", BOOLEAN, AT(noac), .number = false},
    {"noac", BOOLEAN, AT(noac), .number = true},
    {"cto", BOOLEAN, AT(cto), .number = true},
    {"nocto", BOOLEAN, AT(cto), .number = false},
    {"lookupcache", CHOICE, AT(lookupcache), .words = lookupcache_words, .form = "all, pos, positive or none"},
    {"sync", BOOLEAN, AT(sync), .number = true},
    {"async", BOOLEAN, AT(sync), .number = false},
    {"wcc", CHOICE, AT(wcc), AT(p.has_wcc), .words = wcc_words, .form = "strict, bracket or trust"},
    {"kernel_writeback", BOOLEAN, AT(kernel_writeback), .number = true},
    {"write", MUST_BE, .words = lazy, .form = "lazy; use sync for writes that wait for the server"},
    {"local_lock", MUST_BE, .words = all, .form = "all; the NLM protocol is not spoken"},

    /* the cache */
    {"cache_size", AMOUNT, AT(p.cache_size), AT(p.has_cache_size), .number = true, .form = "bytes with K, M or G, or a percentage of the memory as in 25%"},
    {"dirty_limit", AMOUNT, AT(p.dirty_limit), AT(p.has_dirty_limit), .number = true, .form = "bytes with K, M or G, or a percentage of the cache as in 40%"},
    {"dirty_background", AMOUNT, AT(p.dirty_background), AT(p.has_dirty_background), .number = true, .form = "bytes with K, M or G, or a percentage of the cache as in 10%"},
    {"readahead", AMOUNT, AT(p.readahead), .number = false, .form = "bytes with K, M or G; 0 turns it off"},
    {"shards", NUMBER, AT(shards), .min = 1, .max = 64, .form = "a number of threads, 1 to 64"},

    /* FUSE */
    {"allow_other", BOOLEAN, AT(allow_other), .number = true},
    {"default_permissions", BOOLEAN, AT(default_permissions), .number = true},
    {"uid", OWNER, AT(uid), AT(set_uid), .form = "a numeric user ID"},
    {"gid", OWNER, AT(gid), AT(set_gid), .form = "a numeric group ID"},
    {"umask", MODE, AT(umask), AT(set_umask), .form = "octal permission bits, 000 to 777"},
    {"fsname", TEXT, AT(fsname), .form = "a name for the first column of /proc/mounts"},
    {"subtype", TEXT, AT(subtype), .form = "a name for the type, as in fuse.NAME"},
    {"context", .kind = CONTEXT},
    {"fscontext", .kind = CONTEXT},
    {"defcontext", .kind = CONTEXT},
    {"rootcontext", .kind = CONTEXT},

    /* mount(8) */
    {"ro", BOOLEAN, AT(ro), .number = true},
    {"rw", BOOLEAN, AT(ro), .number = false},
    {"suid", BOOLEAN, AT(nosuid), .number = false},
    {"nosuid", BOOLEAN, AT(nosuid), .number = true},
    {"dev", BOOLEAN, AT(nodev), .number = false},
    {"nodev", BOOLEAN, AT(nodev), .number = true},
    {"exec", BOOLEAN, AT(noexec), .number = false},
    {"noexec", BOOLEAN, AT(noexec), .number = true},
    {"atime", BOOLEAN, AT(noatime), .number = false},
    {"noatime", BOOLEAN, AT(noatime), .number = true},
    {"diratime", BOOLEAN, AT(nodiratime), .number = false},
    {"nodiratime", BOOLEAN, AT(nodiratime), .number = true},
    {0},
};
/* clang-format on */

const struct option_refusal option_refusals[] = {
    {"udp", "only TCP is spoken"},
    {"rdma", "only TCP is spoken"},
    {"v2", "only vers=3 is spoken"},
    {"v4", "only vers=3 is spoken"},
    {"v4.0", "only vers=3 is spoken"},
    {"v4.1", "only vers=3 is spoken"},
    {"v4.2", "only vers=3 is spoken"},
    {"minorversion", NO_V4},
    {"clientaddr", NO_V4},
    {"migration", NO_V4},
    {"max_connect", NO_V4 " (use nconnect)"},
    {"trunkdiscovery", NO_V4},
    {"mounthost", "MOUNT is asked of the host that serves NFS"},
    {"mountaddr", "MOUNT is asked of the host that serves NFS"},
    {"addr", "the server's name in SERVER:/EXPORT is resolved by this program"},
    {"bsize", "the block size is not configurable (rsize and wsize are)"},
    {"softreval", "cached data is never served in place of an answer that is due"},
    {"alignwrite", "a write never carries bytes that the application did not write"},
    {"lock", NO_NLM},
    {"sharecache", "each mount has a cache of its own (nosharecache)"},
    {"fsc", "there is no cache on local disk; cache_size= sets the one in memory"},
    {"acl", "the NFSACL protocol is not spoken"},
    {"posix", "path limits are always asked of the server (PATHCONF)"},
    {"namlen", "the longest name is always asked of the server (PATHCONF)"},
    {"allow_root", "use allow_other together with default_permissions"},
    {"auto_unmount",
     "it would take the mount away while data is still dirty (use nfscached umount)"},
    {"blkdev", "there is no block device behind this mount"},
    {"kernel_cache", FUSE_CACHE},
    {"auto_cache", FUSE_CACHE},
    {"noauto_cache", FUSE_CACHE},
    {"direct_io", "shared mappings need the kernel's cache (open with O_DIRECT instead)"},
    {"writeback_cache", "with it the kernel ignores the server's size and times (use "
                        "kernel_writeback, where no other client writes)"},
    {"attr_timeout", FUSE_TIMES},
    {"ac_attr_timeout", FUSE_TIMES},
    {"entry_timeout", FUSE_TIMES},
    {"negative_timeout", FUSE_TIMES ", and lookupcache"},
    {"max_read", "use rsize"},
    {"max_write", "use wsize"},
    {"max_readahead", "use readahead"},
    {"hard_remove", "a file that is open is renamed, not removed, as on every NFS client"},
    {"clone_fd", "one descriptor is shared by all threads (use shards=)"},
    {"remount", "options cannot be changed while mounted: unmount, then mount"},
    {"sloppy", "an option that is not understood is always an error"},
    {0},
};

/* dirsync: a server makes directory operations durable before it answers (RFC 1813 section 4). */
const char *const option_ignored[] = {
    "tcp",          "v3",          "nomigration",   "notrunkdiscovery",
    "nosoftreval",  "intr",        "nointr",        "dirsync",
    "noalignwrite", "nolock",      "nosharecache",  "nofsc",
    "noacl",        "noposix",     "nonempty",      "use_ino",
    "readdir_ino",  "big_writes",  "defaults",      "relatime",
    "norelatime",   "strictatime", "nostrictatime", "lazytime",
    "nolazytime",   "iversion",    "noiversion",    "mand",
    "nomand",       "silent",      "loud",          "auto",
    "noauto",       "user",        "nouser",        "users",
    "owner",        "group",       "nofail",        "_netdev",
    "comment",      "helper",      "uhelper",       NULL};
