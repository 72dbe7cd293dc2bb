// SPDX-License-Identifier: Apache-2.0
/* The checks of posix_basic about names, large and changing directories, and locks among processes.
 */
#include "tests/mount/posix_basic.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* How often `name` is in the directory. */
static int listed(const char *dir, const char *name)
{
    struct dirent *e;
    DIR *d = opendir(dir);
    int n = 0;
    while (d && (e = readdir(d)))
        n += !strcmp(e->d_name, name);
    if (d)
        closedir(d);
    return n;
}

static void one_name(const char *name)
{
    struct stat st, st2;
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0666);
    if (!EXPECT(fd >= 0))
        return;
    EXPECT(write(fd, name, 1) == 1 && !fstat(fd, &st) && !close(fd));
    EXPECT(!stat(name, &st2) && st.st_ino == st2.st_ino && st2.st_size == 1);
    EXPECT(listed(".", name) == 1);
    EXPECT(!rename(name, "other name") && !rename("other name", name));
    EXPECT(!unlink(name) && listed(".", name) == 0);
}

void pb_names(void)
{
    char name[300];
    struct stat st;
    memset(name, 'n', 255);
    name[255] = 0;
    one_name(name);
    name[254] = 'm';
    one_name(name);
    strcat(name, "x");
    EXPECT_ERR(open(name, O_RDWR | O_CREAT, 0666), ENAMETOOLONG);
    EXPECT_ERR(stat(name, &st), ENAMETOOLONG);
    /* Every byte but '/' and NUL, each alone and among others. */
    for (int c = 1; c < 256; c++)
        if (c != '/') {
            snprintf(name, sizeof name, "a%cb", c);
            one_name(name);
            if (c != '.') {
                snprintf(name, sizeof name, "%c", c);
                one_name(name);
            }
            pb_beat();
        }
    one_name("\xff\xfe\x80 not UTF-8 \n\t\\'\"");
    one_name(".hidden");
    one_name("...");
    one_name(" ");
}

/* Every entry of the large directory once, `.` and `..` once, each with the right inode number. */
static void list_all(int n, int deleted)
{
    unsigned char *seen = calloc((size_t)n, 1);
    int bad = 0, dots = 0, strange = 0, k;
    struct dirent *e;
    DIR *d = opendir("big");
    if (!EXPECT(d != NULL))
        return;
    while (errno = 0, (e = readdir(d))) {
        if (sscanf(e->d_name, "entry-%d", &k) == 1 && k >= 0 && k < n)
            seen[k]++;
        else if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            dots++;
        else
            strange++;
    }
    EXPECT(errno == 0);
    closedir(d);
    for (k = 0; k < n; k++)
        bad += seen[k] != (k >= deleted);
    EXPECT(bad == 0);
    EXPECT(dots == 2 && strange == 0);
    free(seen);
}

void pb_large_directory(void)
{
    int n = pb_entries;
    char name[64];
    long at[50];
    char first[50][256];
    struct dirent *e;
    DIR *d;

    EXPECT(!mkdir("big", 0777));
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "big/entry-%d", i);
        if (mknod(name, S_IFREG | 0666, 0)) {
            EXPECT(!"mknod");
            return;
        }
        if (i % 100 == 0)
            pb_beat();
    }
    list_all(n, 0);
    /* telldir and seekdir come back to the same place. */
    d = opendir("big");
    for (int i = 0; d && i < 50; i++) {
        at[i] = telldir(d);
        for (int j = 0; (e = readdir(d)) && j < n / 60; j++)
            if (j == 0)
                snprintf(first[i], sizeof first[i], "%s", e->d_name);
    }
    for (int i = 49; d && i >= 0; i -= 7) {
        seekdir(d, at[i]);
        e = readdir(d);
        EXPECT(e && !strcmp(e->d_name, first[i]));
    }
    rewinddir(d);
    EXPECT(readdir(d) != NULL);
    closedir(d);
    /* A new stream that begins in the middle, and the kernel has not kept the listing. */
    d = opendir("big");
    posix_fadvise(dirfd(d), 0, 0, POSIX_FADV_DONTNEED);
    seekdir(d, at[40]);
    e = readdir(d);
    EXPECT(e && !strcmp(e->d_name, first[40]));
    closedir(d);
    for (int i = 0; i < n / 10; i++) {
        snprintf(name, sizeof name, "big/entry-%d", i);
        if (unlink(name)) {
            EXPECT(!"unlink");
            return;
        }
    }
    list_all(n, n / 10);
}

/* Entries that stay are seen exactly once, however many come and go while it is read. */
void pb_changing_directory(void)
{
    char name[64];
    int bad = 0;
    EXPECT(!mkdir("busy", 0777));
    for (int i = 0; i < 600; i++) {
        snprintf(name, sizeof name, "busy/stays-%d", i);
        EXPECT(!mknod(name, S_IFREG | 0666, 0));
    }
    for (int round = 0; round < 6; round++) {
        unsigned char seen[600] = {0};
        struct dirent *e;
        DIR *d = opendir("busy");
        int n = 0, k;
        while (d && (e = readdir(d))) {
            if (sscanf(e->d_name, "stays-%d", &k) == 1)
                seen[k]++;
            if (n++ % 20 == 0) {
                snprintf(name, sizeof name, "busy/goes-%d-%d", round, n);
                close(open(name, O_CREAT | O_WRONLY, 0666));
                if (n % 40 == 0)
                    unlink(name);
            }
            if (n > 5000)
                break;
        }
        if (d)
            closedir(d);
        for (k = 0; k < 600; k++)
            bad += seen[k] != 1;
        pb_beat();
    }
    EXPECT(bad == 0);
    /* Emptying a directory while reading it, as rm -r does. */
    for (int left = 1, pass = 0; left && pass < 50; pass++) {
        struct dirent *e;
        DIR *d = opendir("busy");
        left = 0;
        while (d && (e = readdir(d)))
            if (e->d_name[0] != '.') {
                left++;
                snprintf(name, sizeof name, "busy/%.50s", e->d_name);
                EXPECT(!unlink(name));
            }
        if (d)
            closedir(d);
    }
    EXPECT(!rmdir("busy"));
}

/* In another process: whether the lock can be had now. */
static bool other_can(int (*try)(int fd, int how), int how)
{
    int st;
    pid_t pid = fork();
    if (!pid) {
        int fd = open("f", O_RDWR);
        _exit(try(fd, how) == 0 ? 0 : errno == EAGAIN || errno == EACCES ? 1 : 2);
    }
    waitpid(pid, &st, 0);
    EXPECT(WIFEXITED(st) && WEXITSTATUS(st) < 2);
    return WEXITSTATUS(st) == 0;
}

static int try_posix(int fd, int how)
{
    struct flock l = {.l_type = (short)how, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
    return fcntl(fd, F_SETLK, &l);
}

static int try_flock(int fd, int how)
{
    return flock(fd, how | LOCK_NB);
}

void pb_locks(void)
{
    int fd = open("f", O_RDWR | O_CREAT, 0666), p[2], st;
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 15, .l_len = 100};
    char c = 'x';
    pid_t pid;

    EXPECT(fd >= 0 && other_can(try_posix, F_WRLCK));
    EXPECT(!fcntl(fd, F_SETLK, &l));
    EXPECT(!other_can(try_posix, F_WRLCK) && !other_can(try_posix, F_RDLCK));
    l.l_type = F_RDLCK;
    EXPECT(!fcntl(fd, F_SETLK, &l));
    EXPECT(!other_can(try_posix, F_WRLCK) && other_can(try_posix, F_RDLCK));
    l.l_start = 30;
    l.l_type = F_UNLCK;
    l.l_start = 0;
    l.l_len = 20;
    EXPECT(!fcntl(fd, F_SETLK, &l) && other_can(try_posix, F_WRLCK));
    l = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
    EXPECT(!fcntl(fd, F_SETLK, &l) && !pipe(p));
    pid = fork();
    if (!pid) {
        struct flock w = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
        int mine = open("f", O_RDWR);
        struct flock q = w;
        bool known = !fcntl(mine, F_GETLK, &q) && q.l_type == F_WRLCK && q.l_pid == getppid();
        _exit(!known ? 3 : write(p[1], &c, 1) == 1 && !fcntl(mine, F_SETLKW, &w) ? 0 : 1);
    }
    close(p[1]);
    EXPECT(read(p[0], &c, 1) == 1);
    t_sleep_us(50000);
    EXPECT(waitpid(pid, &st, WNOHANG) == 0);
    l.l_type = F_UNLCK;
    EXPECT(!fcntl(fd, F_SETLK, &l));
    EXPECT(waitpid(pid, &st, 0) == pid && WIFEXITED(st) && WEXITSTATUS(st) == 0);
    /* Closing gives the locks back. */
    l.l_type = F_WRLCK;
    EXPECT(!fcntl(fd, F_SETLK, &l) && !close(fd) && other_can(try_posix, F_WRLCK));
}

void pb_read_locks(void)
{
    EXPECT(close(open("f", O_RDWR | O_CREAT, 0666)) == 0);
    for (int round = 0; round < 2; round++) {
        struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
        int fd = open("f", O_RDONLY);

        EXPECT(fd >= 0 && !fcntl(fd, F_SETLK, &l));
        EXPECT(!other_can(try_posix, F_WRLCK) && other_can(try_posix, F_RDLCK));
        EXPECT(!close(fd));
        /* A file that was opened before the first lock of all gives its own back a little later. */
        for (int i = 0; round == 0 && i < 1000 && !other_can(try_posix, F_WRLCK); i++)
            t_sleep_us(10000);
        EXPECT(other_can(try_posix, F_WRLCK));
    }
}

void pb_flocks(void)
{
    int fd = open("f", O_RDWR | O_CREAT, 0666), fd2 = open("f", O_RDWR);
    EXPECT(fd >= 0 && fd2 >= 0 && !flock(fd, LOCK_SH) && !flock(fd2, LOCK_SH | LOCK_NB));
    EXPECT(other_can(try_flock, LOCK_SH) && !other_can(try_flock, LOCK_EX));
    EXPECT(!flock(fd2, LOCK_UN) && !flock(fd, LOCK_EX | LOCK_NB));
    EXPECT(flock(fd2, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK);
    EXPECT(!other_can(try_flock, LOCK_SH));
    EXPECT(!close(fd) && other_can(try_flock, LOCK_EX));
    close(fd2);
}
