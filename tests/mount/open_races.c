// SPDX-License-Identifier: Apache-2.0
/*
 * Opening, closing, removing and cutting the same few files from many threads at one time.
 *
 *     open_races [--rounds N] DIRECTORY
 *
 *   shared   opened, read, written and closed by four threads
 *   removed  made, written, closed and removed by one, while two open it: a descriptor that open(2)
 *            returned can be read, whatever became of the name
 *   cut      written and closed by one, truncated by another: every close(2) comes back
 *   mapped   unlinked while open, closed, then stored to: the bytes are nobody's, and hold up no
 *            unmount
 *
 * Exit: 0 held, 1 a finding (said on stdout), 2 could not run. Who hangs is ended by the caller.
 * open(2) may say ESTALE where a name is removed twice while it is asked for twice, as on any NFS.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS 9
#define LENGTH  8192

static atomic_bool over;
static _Atomic unsigned long opens, opened_removed, cuts, mappings, findings;
static unsigned rounds = 500;

static void expect(bool good, const char *what)
{
    if (good)
        return;
    printf("%s: %s\n", what, strerror(errno));
    atomic_fetch_add(&findings, 1);
}

static void *use_shared(void *arg)
{
    bool write = arg;
    char data[64] = {0};

    while (!over) {
        int fd = open("shared", write ? O_RDWR : O_RDONLY);

        expect(fd >= 0, "open of shared");
        if (fd < 0)
            continue;
        if (write)
            expect(pwrite(fd, data, sizeof data, 0) == sizeof data, "write of shared");
        else
            expect(pread(fd, data, sizeof data, 0) == sizeof data, "read of shared");
        expect(close(fd) == 0, "close of shared");
        opens++;
    }
    return NULL;
}

static void *make_and_remove(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < rounds; i++) {
        int fd = open("removed", O_CREAT | O_RDWR, 0644);

        if (fd < 0) {
            expect(errno == ESTALE, "create of removed");
            continue;
        }
        expect(write(fd, "hello", 5) == 5, "write of removed");
        expect(close(fd) == 0, "close of removed");
        expect(unlink("removed") == 0, "unlink of removed");
    }
    over = true;
    return NULL;
}

static void *open_removed(void *arg)
{
    (void)arg;
    while (!over) {
        struct stat st;
        char data[5];
        int fd = open("removed", O_RDONLY);

        if (fd < 0) {
            expect(errno == ENOENT || errno == ESTALE, "open of removed");
            continue;
        }
        expect(pread(fd, data, sizeof data, 0) >= 0, "read of removed, which is open");
        expect(fstat(fd, &st) == 0, "fstat of removed, which is open");
        close(fd);
        opened_removed++;
    }
    return NULL;
}

static void *write_cut(void *arg)
{
    char data[5000] = {1};

    (void)arg;
    while (!over) {
        int fd = open("cut", O_CREAT | O_RDWR, 0644);

        expect(fd >= 0 && pwrite(fd, data, sizeof data, 0) == sizeof data, "write of cut");
        expect(close(fd) == 0, "close of cut");
    }
    return NULL;
}

static void *cut(void *arg)
{
    (void)arg;
    while (!over) {
        expect(truncate("cut", 0) == 0, "truncate of cut");
        cuts++;
    }
    return NULL;
}

static void *map_removed(void *arg)
{
    (void)arg;
    while (!over) {
        int fd = open("mapped", O_CREAT | O_RDWR, 0644);

        expect(fd >= 0 && ftruncate(fd, LENGTH) == 0, "making of mapped");
        char *p = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        expect(p != MAP_FAILED, "mmap of mapped");
        close(fd);
        expect(unlink("mapped") == 0, "unlink of mapped");
        if (p == MAP_FAILED)
            continue;
        memset(p, 1, LENGTH);
        munmap(p, LENGTH);
        mappings++;
    }
    return NULL;
}

static bool make(const char *name)
{
    int fd = open(name, O_CREAT | O_RDWR, 0644);

    return fd >= 0 && ftruncate(fd, LENGTH) == 0 && close(fd) == 0;
}

int main(int argc, char **argv)
{
    static struct {
        void *(*run)(void *);
        void *arg;
    } const what[THREADS] = {
        {use_shared, NULL},      {use_shared, NULL},   {use_shared, "w"},
        {use_shared, "w"},       {open_removed, NULL}, {open_removed, NULL},
        {make_and_remove, NULL}, {write_cut, NULL},    {map_removed, NULL},
    };
    pthread_t thread[THREADS], cutter;

    if (argc == 4 && strcmp(argv[1], "--rounds") == 0)
        rounds = (unsigned)atoi(argv[2]);
    else if (argc != 2)
        return 2;
    if (chdir(argv[argc - 1]) != 0 || !make("shared") || !make("cut")) {
        perror(argv[argc - 1]);
        return 2;
    }
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&thread[i], NULL, what[i].run, what[i].arg) != 0)
            return 2;
    if (pthread_create(&cutter, NULL, cut, NULL) != 0)
        return 2;
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    pthread_join(cutter, NULL);
    printf("rounds=%u opens=%lu opened_removed=%lu cuts=%lu mappings=%lu findings=%lu\n", rounds,
           opens, opened_removed, cuts, mappings, findings);
    return findings ? 1 : 0;
}
