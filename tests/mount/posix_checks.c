// SPDX-License-Identifier: Apache-2.0
/* The checks of posix_basic about single files; directories and locks are in posix_dirs.c. */
#include "tests/mount/posix_basic.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static int make(const char *name, const char *data)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0666);
    if (fd >= 0 && write(fd, data, strlen(data)) != (ssize_t)strlen(data)) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool holds(const char *name, const char *data)
{
    char buf[200];
    int fd = open(name, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf);
    if (fd >= 0)
        close(fd);
    return n == (ssize_t)strlen(data) && !memcmp(buf, data, (size_t)n);
}

static void rename_over(void)
{
    struct stat a, b;
    int held = make("old", "old");
    char buf[10];
    close(make("new", "new"));
    EXPECT(!stat("new", &a));
    EXPECT(!rename("new", "old"));
    EXPECT(!stat("old", &b) && a.st_ino == b.st_ino);
    EXPECT_ERR(stat("new", &b), ENOENT);
    EXPECT(holds("old", "new"));
    EXPECT(pread(held, buf, sizeof buf, 0) == 3 && !memcmp(buf, "old", 3));
    EXPECT(!close(held));
    EXPECT(!mkdir("d", 0777) && !mkdir("e", 0777) && !rename("d", "e"));
    EXPECT(!mkdir("d", 0777));
    close(make("e/x", "x"));
    EXPECT(rename("d", "e") == -1 && (errno == ENOTEMPTY || errno == EEXIST));
    EXPECT_ERR(rename("old", "e"), EISDIR);
    EXPECT_ERR(rename("e", "old"), ENOTDIR);
    EXPECT_ERR(rename("e", "e/x/y"), ENOTDIR);
    EXPECT(rename("e", "e/y") == -1);
    EXPECT_ERR(rename("absent", "x"), ENOENT);
    EXPECT(!rename("old", "old") && holds("old", "new"));
}

static void rename_flags(void)
{
    int rc;
    close(make("a", "a"));
    close(make("b", "b"));
    rc = renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE);
    EXPECT(rc == -1 && (errno == EEXIST || errno == EINVAL));
    EXPECT(holds("a", "a") && holds("b", "b"));
    rc = renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE);
    EXPECT(rc == 0 ? holds("c", "a") && access("a", F_OK) : errno == EINVAL && holds("a", "a"));
    rc = renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE);
    EXPECT(rc == -1 && holds("b", "b"));
}

static void unlink_while_open(void)
{
    char buf[10];
    struct stat st;
    int fd = make("f", "hello"), fd2;
    char *m;
    EXPECT(fd >= 0 && !unlink("f"));
    EXPECT_ERR(stat("f", &st), ENOENT);
    EXPECT(pread(fd, buf, 5, 0) == 5 && !memcmp(buf, "hello", 5));
    EXPECT(pwrite(fd, "world", 5, 3) == 5 && !fsync(fd));
    EXPECT(!fstat(fd, &st) && st.st_size == 8);
    m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    EXPECT(m != MAP_FAILED && !memcmp(m, "helworld", 8));
    m[0] = 'H';
    EXPECT(!msync(m, 4096, MS_SYNC) && !munmap(m, 4096));
    EXPECT(pread(fd, buf, 8, 0) == 8 && !memcmp(buf, "Helworld", 8));
    /* The name is free again. */
    fd2 = open("f", O_RDWR | O_CREAT | O_EXCL, 0666);
    EXPECT(fd2 >= 0 && write(fd2, "second", 6) == 6 && !close(fd2));
    EXPECT(!fchmod(fd, 0600) && !ftruncate(fd, 3));
    EXPECT(pread(fd, buf, 8, 0) == 3);
    EXPECT(!close(fd));
    EXPECT(holds("f", "second"));
    /* Nothing may stay of it: the directory can go. */
    EXPECT(!mkdir("d", 0777));
    fd = make("d/x", "x");
    EXPECT(!unlink("d/x") && !close(fd));
    EXPECT(!rmdir("d"));
}

static void renamed_over_while_open(void)
{
    char buf[10];
    int fd = make("a", "aaa");
    close(make("b", "bbb"));
    EXPECT(pwrite(fd, "A", 1, 0) == 1);
    EXPECT(!rename("b", "a"));
    EXPECT(pread(fd, buf, 3, 0) == 3 && !memcmp(buf, "Aaa", 3));
    EXPECT(pwrite(fd, "X", 1, 1) == 1 && !fsync(fd) && !close(fd));
    EXPECT(holds("a", "bbb"));
}

static void symlinks(void)
{
    char buf[PATH_MAX], longer[4096];
    struct stat st;
    memset(longer, 'x', 1000);
    longer[1000] = 0;
    EXPECT(!symlink("target", "l"));
    EXPECT(!lstat("l", &st) && S_ISLNK(st.st_mode) && st.st_size == 6);
    EXPECT(readlink("l", buf, sizeof buf) == 6 && !memcmp(buf, "target", 6));
    EXPECT(readlink("l", buf, 3) == 3);
    EXPECT_ERR(stat("l", &st), ENOENT);
    close(make("target", "t"));
    EXPECT(holds("l", "t"));
    EXPECT(!symlink(longer, "long") && readlink("long", buf, sizeof buf) == 1000);
    EXPECT_ERR(symlink("x", "l"), EEXIST);
    EXPECT_ERR(readlink("target", buf, sizeof buf), EINVAL);
    EXPECT(!symlink("loop", "loop"));
    EXPECT_ERR(stat("loop", &st), ELOOP);
    EXPECT(!unlink("l") && !access("target", F_OK));
}

static void special_files(void)
{
    struct stat st;
    EXPECT(!mkfifo("fifo", 0640));
    EXPECT(!stat("fifo", &st) && S_ISFIFO(st.st_mode) && (st.st_mode & 0777) == 0640);
    EXPECT(!mknod("sock", S_IFSOCK | 0600, 0));
    EXPECT(!stat("sock", &st) && S_ISSOCK(st.st_mode));
    EXPECT(!mknod("plain", S_IFREG | 0604, 0));
    EXPECT(!stat("plain", &st) && S_ISREG(st.st_mode) && (st.st_mode & 0777) == 0604 &&
           !st.st_size);
    if (!geteuid()) {
        EXPECT(!mknod("null", S_IFCHR | 0600, 0x103));
        EXPECT(!stat("null", &st) && S_ISCHR(st.st_mode) && st.st_rdev == 0x103);
    }
    EXPECT_ERR(mkfifo("fifo", 0600), EEXIST);
}

static void link_counts(void)
{
    struct stat a, b, d;
    close(make("a", "a"));
    EXPECT(!link("a", "b") && !stat("a", &a) && !stat("b", &b));
    EXPECT(a.st_nlink == 2 && b.st_nlink == 2 && a.st_ino == b.st_ino);
    EXPECT_ERR(link("a", "b"), EEXIST);
    EXPECT(!unlink("a") && !stat("b", &b) && b.st_nlink == 1);
    EXPECT(holds("b", "a"));
    EXPECT(!stat(".", &d));
    EXPECT(!mkdir("sub", 0777) && !stat(".", &a) && a.st_nlink == d.st_nlink + 1);
    EXPECT_ERR(link("sub", "sub2"), EPERM);
    EXPECT(!rmdir("sub") && !stat(".", &a) && a.st_nlink == d.st_nlink);
    EXPECT_ERR(rmdir("b"), ENOTDIR);
    EXPECT(!mkdir("sub", 0777));
    EXPECT_ERR(unlink("sub"), EISDIR);
    close(make("sub/x", ""));
    EXPECT(rmdir("sub") == -1 && (errno == ENOTEMPTY || errno == EEXIST));
    EXPECT_ERR(mkdir("sub", 0777), EEXIST);
}

static void modes_and_owners(void)
{
    struct stat st;
    close(make("f", "f"));
    for (mode_t m = 0; m <= 07777; m += 0111)
        EXPECT(!chmod("f", m) && !stat("f", &st) && (st.st_mode & 07777) == m);
    umask(027);
    close(open("masked", O_CREAT | O_WRONLY, 0666));
    EXPECT(!stat("masked", &st) && (st.st_mode & 07777) == 0640);
    EXPECT(!mkdir("dir", 0777) && !stat("dir", &st) && (st.st_mode & 0777) == 0750);
    umask(0);
    if (geteuid())
        return;
    EXPECT(!chown("f", 1234, 5678) && !stat("f", &st) && st.st_uid == 1234 && st.st_gid == 5678);
    EXPECT(!chown("f", (uid_t)-1, 99) && !stat("f", &st) && st.st_uid == 1234 && st.st_gid == 99);
    EXPECT(!symlink("f", "l") && !lchown("l", 7, 8) && !lstat("l", &st) && st.st_uid == 7);
    EXPECT(!stat("f", &st) && st.st_uid == 1234);
}

static bool near_now(const struct timespec *t)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return t->tv_sec >= now.tv_sec - 60 && t->tv_sec <= now.tv_sec + 60;
}

static void times(void)
{
    struct timespec tv[2] = {{1000000000, 123456789}, {1500000000, 987654321}};
    struct stat st, st2;
    int fd = make("f", "f");
    EXPECT(!futimens(fd, tv) && !fstat(fd, &st));
    EXPECT(st.st_atim.tv_sec == 1000000000 && st.st_mtim.tv_sec == 1500000000);
    EXPECT(st.st_mtim.tv_nsec == 987654321 && near_now(&st.st_ctim));
    tv[0].tv_nsec = UTIME_OMIT;
    tv[1].tv_nsec = UTIME_NOW;
    EXPECT(!utimensat(AT_FDCWD, "f", tv, 0) && !stat("f", &st));
    EXPECT(st.st_atim.tv_sec == 1000000000 && near_now(&st.st_mtim));
    tv[0].tv_nsec = UTIME_NOW;
    tv[1].tv_nsec = UTIME_OMIT;
    EXPECT(!utimensat(AT_FDCWD, "f", tv, 0) && !stat("f", &st2));
    EXPECT(near_now(&st2.st_atim) && st2.st_mtim.tv_sec == st.st_mtim.tv_sec &&
           st2.st_mtim.tv_nsec == st.st_mtim.tv_nsec);
    EXPECT(!utimensat(AT_FDCWD, "f", NULL, 0));
    /* Set after a write that has not gone out: the write must not move it later. */
    tv[0] = tv[1] = (struct timespec){1200000000, 0};
    EXPECT(pwrite(fd, "later", 5, 0) == 5 && !futimens(fd, tv) && !close(fd));
    t_sleep_us(300000);
    EXPECT(!stat("f", &st) && st.st_mtim.tv_sec == 1200000000);
    /* A write moves mtime and ctime. */
    fd = open("f", O_WRONLY);
    EXPECT(write(fd, "x", 1) == 1 && !close(fd) && !stat("f", &st) && near_now(&st.st_mtim));
    tv[0] = tv[1] = (struct timespec){4000000000, 0};
    EXPECT(!utimensat(AT_FDCWD, "f", tv, 0) && !stat("f", &st) && st.st_mtim.tv_sec == 4000000000);
}

static void truncation(void)
{
    char buf[9000];
    struct stat st;
    int fd = make("f", "0123456789");
    EXPECT(!ftruncate(fd, 4) && !fstat(fd, &st) && st.st_size == 4);
    EXPECT(!ftruncate(fd, 9000) && !fstat(fd, &st) && st.st_size == 9000);
    EXPECT(pread(fd, buf, sizeof buf, 0) == 9000 && !memcmp(buf, "0123\0\0\0\0\0\0", 10));
    for (int i = 4; i < 9000; i++)
        if (buf[i]) {
            EXPECT(!"zeros behind the old end");
            break;
        }
    EXPECT(!truncate("f", 0) && !fstat(fd, &st) && st.st_size == 0 && read(fd, buf, 1) == 0);
    EXPECT(pwrite(fd, "x", 1, 5000) == 1 && !fstat(fd, &st) && st.st_size == 5001);
    EXPECT(!close(fd));
    fd = open("f", O_RDWR | O_TRUNC);
    EXPECT(!fstat(fd, &st) && st.st_size == 0 && !close(fd));
    EXPECT_ERR(truncate("absent", 0), ENOENT);
    EXPECT(!mkdir("d", 0777));
    EXPECT_ERR(truncate("d", 0), EISDIR);
    fd = open("f", O_RDONLY);
    EXPECT_ERR(ftruncate(fd, 1), EINVAL);
    EXPECT_ERR(write(fd, "x", 1), EBADF);
    close(fd);
}

static void large_offsets(void)
{
    static const off_t at[] = {(1LL << 31) - 2, (1LL << 32) - 2, (1LL << 32) + 5000, 1LL << 40};
    char buf[8];
    struct stat st;
    int fd = open("f", O_RDWR | O_CREAT, 0666);
    for (unsigned i = 0; i < sizeof at / sizeof *at; i++) {
        EXPECT(pwrite(fd, "abcd", 4, at[i]) == 4);
        EXPECT(!fstat(fd, &st) && st.st_size == at[i] + 4);
    }
    EXPECT(!fsync(fd) && !close(fd));
    fd = open("f", O_RDWR);
    for (unsigned i = 0; i < sizeof at / sizeof *at; i++)
        EXPECT(pread(fd, buf, 4, at[i]) == 4 && !memcmp(buf, "abcd", 4));
    EXPECT(pread(fd, buf, 8, (1LL << 32) + 100) == 8 && !memcmp(buf, "\0\0\0\0\0\0\0\0", 8));
    EXPECT(!fstat(fd, &st) && st.st_blocks * 512 < 1 << 24);
    EXPECT(!ftruncate(fd, 0) && !close(fd));
}

static void unsupported(void)
{
    char buf[100];
    int fd = make("f", "hello"), rc;
    EXPECT_ERR(setxattr("f", "user.x", "y", 1, 0), ENOTSUP);
    EXPECT_ERR(getxattr("f", "user.x", buf, sizeof buf), ENOTSUP);
    rc = (int)listxattr("f", buf, sizeof buf);
    EXPECT(rc == 0 || (rc == -1 && errno == ENOTSUP));
    EXPECT_ERR(fallocate(fd, 0, 0, 100000), EOPNOTSUPP);
    EXPECT_ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 3), EOPNOTSUPP);
    EXPECT(holds("f", "hello"));
    close(fd);
}

static void file_system_statistics(void)
{
    struct statvfs v;
    EXPECT(!statvfs(".", &v));
    EXPECT(v.f_bsize > 0 && v.f_blocks > 0 && v.f_bavail <= v.f_blocks && v.f_namemax >= 255);
}

static void access_and_excl(void)
{
    struct stat st;
    int fd;
    EXPECT_ERR(access("f", F_OK), ENOENT);
    close(make("f", "f"));
    EXPECT(!access("f", R_OK | W_OK));
    EXPECT(!chmod("f", 0644));
    EXPECT_ERR(access("f", X_OK), EACCES);
    EXPECT_ERR(open("f", O_CREAT | O_EXCL | O_WRONLY, 0666), EEXIST);
    fd = open("g", O_CREAT | O_EXCL | O_RDWR, 0);
    EXPECT(fd >= 0 && write(fd, "x", 1) == 1 && !close(fd));
    EXPECT(!stat("g", &st) && (st.st_mode & 07777) == 0 && st.st_size == 1 &&
           near_now(&st.st_mtim));
    EXPECT_ERR(open("f/x", O_RDONLY), ENOTDIR);
    EXPECT_ERR(open("absent/x", O_CREAT | O_RDWR, 0666), ENOENT);
    EXPECT_ERR(open(".", O_RDWR), EISDIR);
    EXPECT_ERR(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
    if (geteuid())
        return;
    /* Another user's rights are the server's to judge. */
    close(make("private", "p"));
    EXPECT(!chmod("private", 0600) && !chmod(".", 0755) && !mkdir("open", 0777));
    EXPECT(!seteuid(4242));
    EXPECT_ERR(open("private", O_RDONLY), EACCES);
    EXPECT_ERR(open("made", O_CREAT | O_RDWR, 0666), EACCES);
    EXPECT_ERR(unlink("f"), EACCES);
    fd = open("open/mine", O_CREAT | O_RDWR, 0666);
    EXPECT(fd >= 0 && write(fd, "m", 1) == 1 && !close(fd));
    EXPECT(!stat("open/mine", &st) && st.st_uid == 4242);
    EXPECT(!seteuid(0));
}

static void sync_flags(void)
{
    static const int flags[] = {O_SYNC, O_DSYNC, O_SYNC | O_APPEND};
    char buf[300];
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        int fd = open("f", O_RDWR | O_CREAT | O_TRUNC | flags[i], 0666);
        EXPECT(fd >= 0 && write(fd, "one", 3) == 3 && write(fd, "two", 3) == 3);
        EXPECT(pread(fd, buf, sizeof buf, 0) == 6 && !memcmp(buf, "onetwo", 6));
        EXPECT(!fdatasync(fd) && !syncfs(fd) && !close(fd));
    }
}

static void direct(void)
{
    char *b, small[10];
    int fd = open("f", O_RDWR | O_CREAT | O_DIRECT, 0666), plain = open("f", O_RDWR);
    char *m;
    if (!EXPECT(fd >= 0 && plain >= 0) || posix_memalign((void **)&b, 4096, 8192))
        return;
    memset(b, 'd', 8192);
    EXPECT(pwrite(fd, b, 8192, 0) == 8192);
    EXPECT(pread(plain, small, 10, 4090) == 10 && !memcmp(small, "dddddddddd", 10));
    EXPECT(pwrite(plain, "p", 1, 100) == 1);
    EXPECT(pread(fd, b, 4096, 0) == 4096 && b[100] == 'p' && b[101] == 'd');
    m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, plain, 0);
    EXPECT(m != MAP_FAILED);
    m[4200] = 'm';
    EXPECT(pread(fd, b, 4096, 4096) == 4096 && b[104] == 'm');
    memset(b, 'e', 4096);
    EXPECT(pwrite(fd, b, 4096, 4096) == 4096 && m[4200] == 'e');
    EXPECT(pread(fd, b, 8192, 4096) == 4096);
    munmap(m, 8192);
    close(plain);
    EXPECT(!close(fd));
    free(b);
}

static void appending(void)
{
    char buf[100];
    struct stat st;
    int a = open("f", O_RDWR | O_CREAT | O_APPEND, 0666), b = open("f", O_WRONLY | O_APPEND);
    EXPECT(write(a, "aa", 2) == 2 && write(b, "bb", 2) == 2 && write(a, "cc", 2) == 2);
    EXPECT(lseek(a, 0, SEEK_SET) == 0 && write(a, "dd", 2) == 2);
    EXPECT(pread(a, buf, sizeof buf, 0) == 8 && !memcmp(buf, "aabbccdd", 8));
    EXPECT(!fstat(b, &st) && st.st_size == 8 && !close(a) && !close(b));
}

static void seeking(void)
{
    int fd = make("f", "0123456789");
    EXPECT(lseek(fd, 0, SEEK_END) == 10 && lseek(fd, -3, SEEK_CUR) == 7 &&
           lseek(fd, 100, SEEK_SET) == 100);
    EXPECT_ERR(lseek(fd, -1, SEEK_SET), EINVAL);
    EXPECT(lseek(fd, 0, SEEK_DATA) == 0);
    EXPECT(lseek(fd, 0, SEEK_HOLE) == 10);
    EXPECT_ERR(lseek(fd, 10, SEEK_DATA), ENXIO);
    EXPECT_ERR(lseek(fd, 11, SEEK_HOLE), ENXIO);
    close(fd);
}

static void inode_numbers(void)
{
    struct stat a, b;
    int fd = make("a", "a");
    EXPECT(!fstat(fd, &a) && !stat("a", &b) && a.st_ino == b.st_ino && a.st_ino);
    close(fd);
    EXPECT(!rename("a", "b") && !stat("b", &b) && a.st_ino == b.st_ino);
    close(make("a", "x"));
    EXPECT(!stat("a", &b) && a.st_ino != b.st_ino);
}

const struct pb_check pb_checks[] = {
    {"names", pb_names},
    {"rename_over", rename_over},
    {"rename_flags", rename_flags},
    {"unlink_while_open", unlink_while_open},
    {"renamed_over_while_open", renamed_over_while_open},
    {"symlinks", symlinks},
    {"special_files", special_files},
    {"link_counts", link_counts},
    {"modes_and_owners", modes_and_owners},
    {"times", times},
    {"truncation", truncation},
    {"large_offsets", large_offsets},
    {"unsupported", unsupported},
    {"file_system_statistics", file_system_statistics},
    {"access_and_excl", access_and_excl},
    {"sync_flags", sync_flags},
    {"direct", direct},
    {"appending", appending},
    {"seeking", seeking},
    {"inode_numbers", inode_numbers},
    {"large_directory", pb_large_directory},
    {"changing_directory", pb_changing_directory},
    {"posix_read_locks", pb_read_locks}, /* the first lock on this mount */
    {"posix_locks", pb_locks},
    {"flocks", pb_flocks},
    {NULL, NULL},
};
