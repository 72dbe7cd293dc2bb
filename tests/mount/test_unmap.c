// SPDX-License-Identifier: Apache-2.0
/*
 * Emptying the kernel's cache, on a real mount of a file system of its own: NFILES files in memory,
 * served from threads of libfuse; only unmap.c and unmap_root.c are the program's.
 *
 * Needs root and /dev/fuse; exits with 77 without.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fuse/front.h"

#define NFILES    24
#define NSHARDS   6
#define FILE_SIZE (16 * PAGE_SIZE)
#define HIGH      (7ull << 32) /* of the node ids: both words of the handle count */

struct memfile {
    pthread_mutex_t lock;
    uint8_t data[FILE_SIZE];
};

static struct {
    struct front front;
    struct memfile file[NFILES];
    char dir[64];
    unsigned connection; /* its number: the minor of the device */
    pthread_t shard[NSHARDS];
    atomic_uint own_opens, own_fsyncs, fsyncs;
    /* parks the FSYNC of an application on file 0 */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool park;
    fuse_req_t parked;
} fs;

/* ---- the file system ---- */

static struct memfile *memfile_of(fuse_ino_t nodeid)
{
    return &fs.file[(nodeid & UINT32_MAX) - 2];
}

static void fill_stat(fuse_ino_t nodeid, struct stat *st)
{
    *st = (struct stat){.st_ino = nodeid, .st_nlink = 1, .st_mode = S_IFDIR | 0755};
    if (nodeid != FUSE_ROOT_ID) {
        st->st_mode = S_IFREG | 0644;
        st->st_size = FILE_SIZE;
    }
}

static void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    int n = atoi(name);
    if (name[0] < '0' || name[0] > '9' || n >= NFILES) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    struct fuse_entry_param e = {.ino = HIGH + 2 + n, .attr_timeout = 60, .entry_timeout = 60};
    fill_stat(e.ino, &e.attr);
    fuse_reply_entry(req, &e);
}

static void fs_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct stat st;
    fill_stat(nodeid, &st);
    fuse_reply_attr(req, &st, 60);
}

static void fs_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    fi->fh = unmap_is_helper(&fs.front, fuse_req_ctx(req)->pid);
    fs.own_opens += fi->fh;
    fi->keep_cache = 1;
    fi->noflush = 1;
    fuse_reply_open(req, fi);
}

static void fs_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t off,
                    struct fuse_file_info *fi)
{
    struct memfile *m = memfile_of(nodeid);
    uint8_t copy[FILE_SIZE];
    size = off >= FILE_SIZE ? 0 : size < FILE_SIZE - (size_t)off ? size : FILE_SIZE - (size_t)off;
    pthread_mutex_lock(&m->lock);
    memcpy(copy, m->data + off, size);
    pthread_mutex_unlock(&m->lock);
    fuse_reply_buf(req, (char *)copy, size);
}

static void fs_write(fuse_req_t req, fuse_ino_t nodeid, const char *buf, size_t size, off_t off,
                     struct fuse_file_info *fi)
{
    struct memfile *m = memfile_of(nodeid);
    /* A write(2) waits for the writeback of its page after its bytes were copied into it; and while
     * its WRITE is on its way, a READ may still be answered without them. Widen both. */
    usleep(100);
    pthread_mutex_lock(&m->lock);
    memcpy(m->data + off, buf, size);
    pthread_mutex_unlock(&m->lock);
    fuse_reply_write(req, size);
}

static void fs_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
    if (fi->fh) {
        fs.own_fsyncs++;
        unmap_fsync_arrived(&fs.front, req, NULL);
        return;
    }
    fs.fsyncs++;
    pthread_mutex_lock(&fs.lock);
    bool park = fs.park && memfile_of(nodeid) == &fs.file[0];
    if (park) {
        fs.parked = req;
        pthread_cond_broadcast(&fs.changed);
    }
    pthread_mutex_unlock(&fs.lock);
    if (!park)
        fuse_reply_err(req, 0);
}

static void fs_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    fuse_reply_open(req, fi);
}

static const struct fuse_lowlevel_ops ops = {.lookup = fs_lookup,
                                             .getattr = fs_getattr,
                                             .open = fs_open,
                                             .opendir = fs_opendir,
                                             .read = fs_read,
                                             .write = fs_write,
                                             .fsync = fs_fsync};

static void *shard(void *arg)
{
    struct fuse_buf buf = {0};
    while (!fuse_session_exited(fs.front.session)) {
        int n = fuse_session_receive_buf(fs.front.session, &buf);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            break;
        fuse_session_process_buf(fs.front.session, &buf);
    }
    free(buf.mem);
    return NULL;
}

static void abort_connection(void)
{
    char path[128];
    snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", fs.connection);
    int fd = open(path, O_WRONLY);
    if (fd < 0 && mount("none", "/sys/fs/fuse/connections", "fusectl", 0, NULL) == 0)
        fd = open(path, O_WRONLY);
    if (fd < 0)
        return;
    if (write(fd, "1", 1) != 1)
        perror(path);
    close(fd);
}

static int set_up(void **state)
{
    char *argv[] = {"test_unmap", "-o", "allow_other,fsname=test_unmap", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    memset(&fs, 0, sizeof(fs));
    snprintf(fs.dir, sizeof(fs.dir), "/tmp/test_unmap.XXXXXX");
    if (!mkdtemp(fs.dir))
        return -1;
    pthread_mutex_init(&fs.lock, NULL);
    pthread_cond_init(&fs.changed, NULL);
    for (int i = 0; i < NFILES; i++)
        pthread_mutex_init(&fs.file[i].lock, NULL);
    fs.front.config.mountpoint = fs.dir;
    fs.front.session = fuse_session_new(&args, &ops, sizeof(ops), &fs.front);
    fuse_opt_free_args(&args);
    if (!fs.front.session || fuse_session_mount(fs.front.session, fs.dir))
        return -1;
    if (unmap_start(&fs.front))
        return -1;
    for (int i = 0; i < NSHARDS; i++)
        if (pthread_create(&fs.shard[i], NULL, shard, NULL))
            return -1;
    struct statx sx;
    if (unmap_ready(&fs.front) || statx(AT_FDCWD, fs.dir, AT_STATX_DONT_SYNC, 0, &sx))
        return -1;
    fs.connection = (unsigned)makedev(sx.stx_dev_major, sx.stx_dev_minor);
    return 0;
}

static void join_shards(void)
{
    for (int i = 0; i < NSHARDS; i++)
        pthread_join(fs.shard[i], NULL);
}

static int tear_down(void **state)
{
    umount2(fs.dir, MNT_DETACH);
    abort_connection(); /* a test that failed may have left files open */
    join_shards();
    unmap_stop(&fs.front);
    fuse_session_unmount(fs.front.session);
    fuse_session_destroy(fs.front.session);
    return rmdir(fs.dir);
}

static int open_file(int n, int flags)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%d", fs.dir, n);
    int fd = open(path, flags);
    assert_true(fd >= 0);
    return fd;
}

static int unmap_file(int n, bool writers)
{
    struct inode ino = {.nodeid = HIGH + 2 + n};
    return unmap_inode(&fs.front, &ino, 0, 0, writers);
}

static uint8_t server_byte(int n, size_t off)
{
    pthread_mutex_lock(&fs.file[n].lock);
    uint8_t value = fs.file[n].data[off];
    pthread_mutex_unlock(&fs.file[n].lock);
    return value;
}

static void change_elsewhere(int n, size_t off, uint8_t value)
{
    pthread_mutex_lock(&fs.file[n].lock);
    fs.file[n].data[off] = value;
    pthread_mutex_unlock(&fs.file[n].lock);
}

/* ---- the tests ---- */

static void a_mapped_store_is_pushed_and_a_foreign_one_seen(void **state)
{
    int fd = open_file(1, O_RDWR);
    volatile uint8_t *map = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    map[5] = 55;
    assert_int_equal(map[PAGE_SIZE], 0);
    change_elsewhere(1, PAGE_SIZE, 9);
    assert_int_equal(map[PAGE_SIZE], 0); /* the kernel has a copy */
    assert_int_equal(unmap_file(1, true), 0);
    assert_int_equal(fs.own_fsyncs, 1);
    assert_int_equal(server_byte(1, 5), 55);
    assert_int_equal(map[PAGE_SIZE], 9);
    assert_int_equal(map[5], 55);
    munmap((void *)map, FILE_SIZE);
    close(fd);
}

static void without_writers_no_descriptor_is_opened(void **state)
{
    int fd = open_file(1, O_RDONLY);
    uint8_t byte = 1;
    assert_int_equal(pread(fd, &byte, 1, 0), 1);
    assert_int_equal(byte, 0);
    change_elsewhere(1, 0, 4);
    assert_int_equal(unmap_file(1, false), 0);
    assert_int_equal(pread(fd, &byte, 1, 0), 1);
    assert_int_equal(byte, 4);
    assert_int_equal(fs.own_opens, 0);
    close(fd);
}

static void a_forgotten_inode_is_no_error(void **state)
{
    assert_int_equal(unmap_file(3, true), 0);
    assert_int_equal(unmap_file(3, false), 0);
    assert_int_equal(fs.own_opens, 0);
    assert_int_equal(fs.front.stats.alarms, 0);
}

static atomic_bool writing;

static void *unmap_all_the_time(void *arg)
{
    intptr_t n = (intptr_t)arg;
    uint64_t rounds = 0;
    while (writing) {
        assert_int_equal(unmap_file((int)n, true), 0);
        rounds++;
    }
    return (void *)(uintptr_t)rounds;
}

/* A mapped storer keeps the pages dirty, so that a write(2) may wait in the gap for their
 * writeback. It stores to the second half of each page. */
static void *store_all_the_time(void *arg)
{
    intptr_t n = (intptr_t)arg;
    int fd = open_file((int)n, O_RDWR);
    volatile uint8_t *map = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (uint32_t i = 0; writing; i++)
        map[(i % 16) * PAGE_SIZE + PAGE_SIZE - 1 - i % 512] = (uint8_t)i;
    munmap((void *)map, FILE_SIZE);
    close(fd);
    return NULL;
}

static void no_completed_write_is_lost(void **state)
{
    const char *wanted = getenv("UNMAP_WRITES");
    uint32_t writes = wanted ? (uint32_t)atoi(wanted) : 3000, lost = 0;
    int fd = open_file(2, O_RDWR);
    pthread_t storer, unmapper[2];
    void *rounds;
    writing = true;
    assert_int_equal(pthread_create(&storer, NULL, store_all_the_time, (void *)2), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&unmapper[i], NULL, unmap_all_the_time, (void *)2), 0);
    uint32_t last[16] = {0};
    for (uint32_t i = 1; i <= writes; i++) {
        uint32_t page = (i * 7) % 16, seen;
        assert_int_equal(pread(fd, &seen, 4, page * PAGE_SIZE), 4);
        lost += seen != last[page];
        assert_int_equal(pwrite(fd, &i, 4, page * PAGE_SIZE), 4);
        last[page] = i;
    }
    writing = false;
    pthread_join(storer, NULL);
    for (int i = 0; i < 2; i++) {
        pthread_join(unmapper[i], &rounds);
        print_message("%lu unmaps\n", (unsigned long)(uintptr_t)rounds);
    }
    close(fd);
    assert_int_equal(lost, 0);
}

static void *unmap_once(void *arg)
{
    return (void *)(intptr_t)unmap_file((int)(intptr_t)arg, true);
}

/* An application's fsync() that the server does not answer holds the inode lock. */
static void *fsync_once(void *arg)
{
    return (void *)(intptr_t)fsync((int)(intptr_t)arg);
}

static void park_fsync(pthread_t *app, int fd)
{
    pthread_mutex_lock(&fs.lock);
    fs.park = true;
    pthread_create(app, NULL, fsync_once, (void *)(intptr_t)fd);
    while (!fs.parked)
        pthread_cond_wait(&fs.changed, &fs.lock);
    pthread_mutex_unlock(&fs.lock);
}

static void a_parked_file_does_not_block_others(void **state)
{
    pthread_t app, stuck[12], many[NFILES];
    void *result;
    int fd[NFILES];
    for (int i = 0; i < NFILES; i++)
        fd[i] = open_file(i, O_RDWR);
    park_fsync(&app, fd[0]);
    for (int i = 0; i < 12; i++)
        pthread_create(&stuck[i], NULL, unmap_once, (void *)0);
    while (fs.own_opens < 12)
        usleep(1000);
    for (int i = 1; i < NFILES; i++)
        pthread_create(&many[i], NULL, unmap_once, (void *)(intptr_t)i);
    for (int i = 1; i < NFILES; i++) {
        pthread_join(many[i], &result);
        assert_int_equal((intptr_t)result, 0);
    }
    assert_int_equal(fs.own_fsyncs, NFILES - 1);
    fuse_reply_err(fs.parked, 0);
    pthread_join(app, NULL);
    for (int i = 0; i < 12; i++) {
        pthread_join(stuck[i], &result);
        assert_int_equal((intptr_t)result, 0);
    }
    for (int i = 0; i < NFILES; i++)
        close(fd[i]);
}

/* With the pool's descriptors in place the mount is not busy, and its end is noticed. */
static void the_mount_can_be_unmounted(void **state)
{
    int fd = open_file(1, O_RDWR);
    assert_int_equal(unmap_file(1, true), 0);
    assert_int_equal(umount2(fs.dir, 0), -1);
    assert_int_equal(errno, EBUSY); /* the application's file */
    close(fd);
    assert_int_equal(umount2(fs.dir, 0), 0);
    join_shards();
    for (int i = 0; i < NSHARDS; i++) /* for tear_down */
        assert_int_equal(pthread_create(&fs.shard[i], NULL, shard, NULL), 0);
    assert_int_equal(unmap_file(1, true), 0); /* nothing is left to be emptied */
    assert_int_equal(fs.front.stats.alarms, 0);
}

static void an_abort_ends_an_unmap_in_flight(void **state)
{
    pthread_t app, stuck;
    void *result;
    int fd = open_file(0, O_RDWR);
    park_fsync(&app, fd);
    pthread_create(&stuck, NULL, unmap_once, (void *)0);
    while (fs.own_opens < 1)
        usleep(1000);
    abort_connection();
    pthread_join(stuck, &result);
    assert_int_equal((intptr_t)result, -ENOTCONN);
    pthread_join(app, &result);
    assert_int_equal((intptr_t)result, -1);
    fuse_reply_err(fs.parked, 0);
    assert_int_equal(unmap_file(0, true), -ENOTCONN);
    close(fd);
}

int main(void)
{
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0) {
        fprintf(stderr, "SKIP: needs root and /dev/fuse\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(a_mapped_store_is_pushed_and_a_foreign_one_seen),
        T(without_writers_no_descriptor_is_opened),
        T(a_forgotten_inode_is_no_error),
        T(no_completed_write_is_lost),
        T(a_parked_file_does_not_block_others),
        T(the_mount_can_be_unmounted),
        T(an_abort_ends_an_unmap_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
