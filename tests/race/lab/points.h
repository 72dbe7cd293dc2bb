// SPDX-License-Identifier: Apache-2.0
/* The points by name: where they are shown, and in what words. A name that is not here can be held,
 * and is not shown. */
#ifndef NFSCACHED_RACE_POINTS_H
#define NFSCACHED_RACE_POINTS_H

/* X(name, column, text) */
#define LAB_POINTS(X)                                                                              \
    X("reval.asked", REVALIDATOR, "0 GETATTR: the file has changed at the server")                 \
    X("reval.unmapped", REVALIDATOR, "1 unmapped: the kernel holds no copy of it now")             \
    X("reval.waited", REVALIDATOR, "2 write-and-wait is over: nothing is dirty here")              \
    X("reval.page", REVALIDATOR, "3 invalidate: has looked at a page")                             \
    X("reval.invalidated", REVALIDATOR, "3 invalidated: the walk is over")                         \
    X("reval.unmapped-again", REVALIDATOR, "4 unmapped again")                                     \
    X("reval.done", REVALIDATOR, "5 remembers the token of step 0")                                \
    X("kernel.read", KERNEL, "page fault: sends READ")                                             \
    X("kernel.filled", KERNEL, "READ is answered: the page is mapped")                             \
    X("kernel.writepage", KERNEL, "writes the page back: sends WRITE")                             \
    X("kernel.copied", KERNEL, "write(2): copied into the page, not yet sent")                     \
    X("kernel.write", KERNEL, "write(2): sends WRITE")                                             \
    X("kernel.fsync", KERNEL, "fsync(2): sends FSYNC, and holds the inode lock meanwhile")         \
    X("kernel.setattr", KERNEL, "sends SETATTR, and holds the inode lock meanwhile")               \
    X("server.READ", SERVER, "READ arrives")                                                       \
    X("server.READ.done", SERVER, "READ is served")                                                \
    X("server.WRITE", SERVER, "WRITE arrives")                                                     \
    X("server.WRITE.done", SERVER, "WRITE is done")                                                \
    X("server.COMMIT.done", SERVER, "COMMIT is done")                                              \
    X("server.GETATTR.done", SERVER, "GETATTR is answered")                                        \
    X("unmap.held", CACHE, "holds the FSYNC of an unmap unanswered: no write(2) is under way")     \
    X("fetch.answered", CACHE, "the reply to READ is here")                                        \
    X("fetch.merged", CACHE, "and merged into the cache")                                          \
    X("wb.answered", WRITEBACK, "WRITE is acknowledged")                                           \
    X("commit.answered", WRITEBACK, "COMMIT is acknowledged")                                      \
    X("migrate.found", CACHE, "resize: the page lies in memory that goes")                         \
    X("migrate.copied", CACHE, "resize: its bytes are copied to another frame")                    \
    X("migrate.switched", CACHE, "resize: the page has the other frame now")                       \
    X("truncate.begun", CACHE, "truncation: no WRITE may start")                                   \
    X("truncate.ended", CACHE, "truncation is over")

#endif
