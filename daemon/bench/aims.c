// SPDX-License-Identifier: Apache-2.0
/* What ours is to reach; see aims.h. The runs that the labels name are in tests/peers/bench-place.
 */
#include "daemon/bench/aims.h"

#include <stddef.h>

#define RATE true
#define COST false

#define KERNEL "kernel client, NFSv3"
#define FLOORS "raw pipelined libnfs"
#define NAIVE  "synchronous client"

/* A line of the guest against the kernel's client; one against the client that waits. */
#define GUEST(key, work, cell, least, direction, note)                                             \
    {                                                                                              \
        "guest", key, work, KERNEL, "ours|" cell, "kernel v3|" cell, least, AIM_LEAST, direction,  \
            note                                                                                   \
    }
#define SYNCHRONOUS(place, key, work, cell, direction)                                             \
    {                                                                                              \
        place, key, work, NAIVE, "ours|" cell, "synchronous|" cell, 4, AIM_LEAST, direction, NULL  \
    }

/* The same with a server that answers a millisecond later: there one sees what waiting costs. */
#define FAR(key, work, cell, direction)                                                            \
    {                                                                                              \
        "host", key ", 1 ms", work, NAIVE, "ours|" cell, "synchronous|" cell, 4, AIM_LEAST,        \
            direction, "embedded server, each answer 1 ms late"                                    \
    }

const struct aim aims[] = {
    {"host", "read cold", "sequential read, all caches cold, 1 GiB", FLOORS,
     "ours|io read sequential 1M cold 1 bulk mb_s", "libnfs|limits read bulk mb_s", 0.90, AIM_LEAST,
     RATE, NULL},
    GUEST("read cold", "sequential read, all caches cold", "io read sequential 1M cold 1 bulk mb_s",
          0.80, RATE, "128 MiB"),
    {"host", "write+fsync", "sequential write + fsync, 1 GiB", FLOORS ", UNSTABLE + COMMIT",
     "ours|io write sequential 1M 1 bulk mb_s", "libnfs|limits write bulk mb_s", 0.90, AIM_LEAST,
     RATE, NULL},
    GUEST("write+fsync", "sequential write + fsync", "io write sequential 1M 1 bulk mb_s", 0.90,
          RATE, "128 MiB"),
    {"host", "re-read, kernel", "re-read, kernel's cache", "a file of the local file system",
     "ours|io read sequential 128K kernel 1 reread mb_s",
     "local|io read sequential 128K kernel 1 reread mb_s", 0.97, AIM_LEAST, RATE, "256 MiB"},
    {"host", "re-read, daemon", "re-read, daemon's cache, kernel's dropped",
     "in-memory FUSE file system", "ours|io read sequential 128K daemon 1 reread mb_s",
     "fuse|limits read_dropped reread mb_s", 0.95, AIM_LEAST, RATE, "256 MiB"},
    {"host", "random 4K x1", "random 4 KiB read, cold, 1 in flight",
     "FUSE request + bare READ in one loop", "ours|io read random 4K cold 1 random mb_s",
     "fuse+libnfs|limits read4k-1 random mb_s", 0.85, AIM_LEAST, RATE, NULL},
    {"host", "random 4K x16", "random 4 KiB read, cold, 16 in flight",
     "FUSE request + bare READ in one loop", "ours|io read random 4K cold 16 random mb_s",
     "fuse+libnfs|limits read4k-16 random mb_s", 0.85, AIM_LEAST, RATE, NULL},
    {"host", "write 4K", "4 KiB buffered write", "in-memory FUSE file system",
     "ours|io write sequential 4K 1 write4k unsynced_mb_s", "fuse|limits write4k write4k mb_s",
     0.95, AIM_LEAST, RATE, NULL},
    {"guest", "write 4K, kernel_writeback", "4 KiB buffered write with -o kernel_writeback", KERNEL,
     "ours writeback|io write sequential 4K 1 writeback unsynced_mb_s",
     "kernel v3|io write sequential 4K 1 writeback unsynced_mb_s", 0.90, AIM_LEAST, RATE, NULL},
    {"host", "open+close", "open + close of an unchanged file",
     "one GETATTR + one empty FUSE open/release", "ours|meta open opens op_p50_us",
     "fuse+libnfs|limits open opens open_p50_us", 0.90, AIM_LEAST, COST, NULL},
    {"host", "open+close, 1 Mi pages", "the same, 1 Mi pages cached",
     "one GETATTR + one empty FUSE open/release", "ours|meta open-cached + cached op_p50_us",
     "fuse+libnfs|limits open cached open_p50_us", 0.90, AIM_LEAST, COST, NULL},
    {"host", "open+close, flat", "the same, 1 Mi pages cached", "the same, no page cached",
     "ours|meta open-cached + cached op_p50_us", "ours|meta open-cached 0 cached op_p50_us", 0.90,
     AIM_LEAST, COST, "flat from 0 to 1 Mi pages"},
    GUEST("open+close", "open + close of an unchanged file", "meta open storms op_p50_us", 0.75,
          COST, NULL),
    {"host", "drop clean pages", "drop of 16 Ki clean pages after a change elsewhere, per page",
     "the kernel's notification alone", "ours|revalidate matrix + clean byte drop per_page_ns",
     "fuse|limits drop drop page_ns", 0.80, AIM_LEAST, COST, NULL},
    {"host", "push dirty mapped pages",
     "1,024 dirty mapped pages pushed out by revalidation, per page",
     "one 4 KiB WRITE per page, as the notification alone does",
     "ours|revalidate matrix + dirty-pages byte push per_page_ns",
     "fuse+libnfs|limits drop-dirty push page_ns", 5, AIM_LEAST, COST, "pages stored wholly"},
    {"host", "push dirty mapped pages, 8 bytes of each", "the same, 8 bytes stored in each page",
     "one 4 KiB WRITE per page, as the notification alone does",
     "ours|revalidate matrix + dirty-mapped byte push per_page_ns",
     "fuse+libnfs|limits drop-dirty push page_ns", 5, AIM_LEAST, COST,
     "the other side's bytes between them are not ours to write"},
    {"host", "write() p99", "write() p99 while a revalidation waits 100 ms for the server",
     "the same without revalidation", "ours|revalidate writer slow-100-ms on writer write_p99_us",
     "ours|revalidate writer slow-100-ms off writer write_p99_us", 2, AIM_MOST, COST,
     "the embedded server, its replies delayed"},
    GUEST("ls -l 5,000 cold", "ls -l of 5,000 entries, cold", "meta ls-l-large + lists cold_ms",
          1.00, COST, NULL),
    GUEST("ls -l 5,000", "ls -l of 5,000 entries, warm", "meta ls-l-large + lists warm_ms", 1.00,
          COST, NULL),
    GUEST("ls -l 100,000 cold", "ls -l of 100,000 entries, cold", "meta ls-l-large + large cold_ms",
          1.00, COST, NULL),
    GUEST("ls -l 100,000", "ls -l of 100,000 entries, warm", "meta ls-l-large + large warm_ms",
          1.00, COST, NULL),
    GUEST("create", "create + write 4 KiB + close", "meta create create op_p50_us", 0.90, COST,
          "5,000 files"),
    GUEST("untar", "untar", "meta untar storms seconds", 0.90, COST, "400 files"),
    GUEST("git status cold", "git status, first after checkout elsewhere",
          "meta git-status-large + large cold_s", 0.90, COST, "50,000 files"),
    GUEST("git status", "git status, again", "meta git-status-large + large warm_s", 0.90, COST,
          "50,000 files"),
    GUEST("rm -r", "rm -r", "meta rm-r storms seconds", 0.90, COST, "400 files"),
    GUEST("stat cold", "stat storm, cold", "meta stat-cold storms op_p50_us", 0.90, COST,
          "1,000 files"),
    {"host", "CPU, read", "daemon CPU per GiB read cold", FLOORS ", its process",
     "ours|io read sequential 1M cold 1 bulk daemon_cpu_s_gib", "libnfs|limits read bulk cpu_s_gib",
     1.5, AIM_MOST, COST, NULL},
    {"host", "CPU, write", "daemon CPU per GiB written", FLOORS ", its process",
     "ours|io write sequential 1M 1 bulk daemon_cpu_s_gib", "libnfs|limits write bulk cpu_s_gib",
     1.5, AIM_MOST, COST, NULL},
    {"host", "bytes a page", "metadata memory per cached 4 KiB page, bytes", "",
     "ours|cache page + bytes", NULL, 64, AIM_VALUE_MOST, COST, NULL},
    {"host", "bytes an inode", "metadata memory per cached inode, bytes", "",
     "ours|cache inode + bytes", NULL, 512, AIM_VALUE_MOST, COST, NULL},
    {"guest", "lost writes", "writes lost, all cells of bench revalidate", "",
     "ours|sum lost_writes", NULL, 0, AIM_VALUE_MOST, COST, NULL},
    {"host", "lost writes", "writes lost, all cells of bench revalidate", "",
     "ours|sum lost_writes", NULL, 0, AIM_VALUE_MOST, COST, NULL},

    /* Against the client that waits for each call. */
    SYNCHRONOUS("host", "read cold", "sequential read, cold", "io read sequential 1M cold 1 mb_s",
                RATE),
    SYNCHRONOUS("host", "write+fsync", "sequential write + fsync", "io write sequential 1M 1 mb_s",
                RATE),
    SYNCHRONOUS("host", "re-read, kernel", "re-read, kernel's cache",
                "io read sequential 128K kernel 1 reread mb_s", RATE),
    SYNCHRONOUS("host", "random 4K x1", "random 4 KiB read, cold, 1 in flight",
                "io read random 4K cold 1 random mb_s", RATE),
    SYNCHRONOUS("host", "random 4K x16", "random 4 KiB read, cold, 16 in flight",
                "io read random 4K cold 16 random mb_s", RATE),
    SYNCHRONOUS("host", "write 4K", "4 KiB buffered write",
                "io write sequential 4K 1 write4k unsynced_mb_s", RATE),
    SYNCHRONOUS("host", "open+close", "open + close of an unchanged file",
                "meta open opens op_p50_us", COST),
    SYNCHRONOUS("host", "ls -l 5,000 cold", "ls -l of 5,000 entries, cold",
                "meta ls-l-large + lists cold_ms", COST),
    SYNCHRONOUS("host", "ls -l 5,000", "ls -l of 5,000 entries, warm",
                "meta ls-l-large + lists warm_ms", COST),
    SYNCHRONOUS("host", "create", "create + write 4 KiB + close", "meta create op_p50_us", COST),
    SYNCHRONOUS("host", "untar", "untar", "meta untar seconds", COST),
    SYNCHRONOUS("host", "git status", "git status", "meta git-status seconds", COST),
    SYNCHRONOUS("host", "rm -r", "rm -r", "meta rm-r seconds", COST),
    SYNCHRONOUS("host", "stat cold", "stat storm, cold", "meta stat-cold op_p50_us", COST),
    FAR("read cold", "sequential read, cold", "io read sequential 1M cold 1 far mb_s", RATE),
    FAR("write+fsync", "sequential write + fsync", "io write sequential 1M 1 far mb_s", RATE),
    FAR("random 4K x1", "random 4 KiB read, cold, 1 in flight", "io read random 4K cold 1 far mb_s",
        RATE),
    FAR("random 4K x16", "random 4 KiB read, cold, 16 in flight",
        "io read random 4K cold 16 far mb_s", RATE),
    FAR("write 4K", "4 KiB buffered write", "io write sequential 4K 1 far unsynced_mb_s", RATE),
    FAR("open+close", "open + close of an unchanged file", "meta open far op_p50_us", COST),
    FAR("ls -l cold", "ls -l of 100 entries, cold", "meta ls-l-cold far ms", COST),
    FAR("ls -l", "ls -l of 100 entries, warm", "meta ls-l far ms", COST),
    FAR("create", "create + write 4 KiB + close", "meta create far op_p50_us", COST),
    FAR("untar", "untar", "meta untar far seconds", COST),
    FAR("git status", "git status", "meta git-status far seconds", COST),
    FAR("rm -r", "rm -r", "meta rm-r far seconds", COST),
    FAR("stat cold", "stat storm, cold", "meta stat-cold far op_p50_us", COST),
    {0},
};
