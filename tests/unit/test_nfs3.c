// SPDX-License-Identifier: Apache-2.0
/*
 * Every operation of daemon/remote.h against a real server: the embedded one, or (see mounted.h)
 * any other, with the results held against the server's own directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/mounted.h"

static const char *local(const char *name)
{
    static char path[4][512];
    static unsigned turn;
    char *p = path[turn++ % 4];
    snprintf(p, 512, "%s/%s", m.o.export, name);
    return p;
}

static struct stat local_stat(const char *name)
{
    struct stat st;
    assert_int_equal(lstat(local(name), &st), 0);
    return st;
}

static int lookup(const struct fh *dir, const char *name, struct remote_call *call)
{
    *call = (struct remote_call){.op = REMOTE_LOOKUP, .fh = *dir, .name = name};
    return op(call);
}

static void same_attributes(const struct attr *a, const struct stat *st)
{
    assert_int_equal(a->mode, st->st_mode);
    assert_int_equal(a->nlink, st->st_nlink);
    assert_int_equal(a->uid, st->st_uid);
    assert_int_equal(a->gid, st->st_gid);
    assert_int_equal(a->size, st->st_size);
    assert_int_equal(a->fileid, st->st_ino);
    assert_true(ts_equal(a->mtime, st->st_mtim));
    assert_true(ts_equal(a->ctime, st->st_ctim));
}

static void attributes_and_lookup(void **state)
{
    struct remote_call call = {.op = REMOTE_GETATTR, .fh = m.remote->root};
    struct stat st = local_stat(".");
    assert_int_equal(op(&call), 0);
    same_attributes(&call.post.attr, &st);
    assert_true(call.sent_ns > 0 && call.replied_ns >= call.sent_ns);
    assert_int_equal(make_file("a", NULL), 0);
    assert_int_equal(lookup(&m.remote->root, "a", &call), 0);
    st = local_stat("a");
    same_attributes(&call.post.attr, &st);
    assert_int_equal(lookup(&m.remote->root, "missing", &call), -ENOENT);
    assert_false(call.has_obj);
    struct fh bad = m.remote->root;
    memset(bad.data, 0xAA, bad.len);
    call = (struct remote_call){.op = REMOTE_GETATTR, .fh = bad};
    assert_int_equal(op(&call), -ESTALE);
    assert_int_equal(remove_name("a"), 0);
}

static void names_may_hold_any_byte(void **state)
{
    char longest[256], odd[] = "\x01\xff \n*?\\\"'-";
    struct remote_call call;
    memset(longest, 'L', 255);
    longest[255] = 0;
    const char *const names[] = {longest, odd, "...", "\xc3\xa9t\xc3\xa9"};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(make_file(names[i], NULL), 0);
        assert_int_equal(lookup(&m.remote->root, names[i], &call), 0);
        assert_true(S_ISREG(local_stat(names[i]).st_mode));
        assert_int_equal(remove_name(names[i]), 0);
    }
}

static void setattr_sets_each_field(void **state)
{
    struct fh fh;
    struct remote_call call;
    assert_int_equal(make_file("s", &fh), 0);
    call = (struct remote_call){.op = REMOTE_SETATTR, .fh = fh};
    call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE | REMOTE_SET_SIZE |
                                                     REMOTE_SET_ATIME | REMOTE_SET_MTIME,
                                              .mode = 04711,
                                              .size = 5000000000,
                                              .atime = {1000000000, 1000},
                                              .mtime = {1100000000, 123456000}};
    assert_int_equal(op(&call), 0);
    struct stat st = local_stat("s");
    assert_int_equal(st.st_mode, S_IFREG | 04711);
    assert_int_equal(st.st_size, 5000000000);
    assert_int_equal(st.st_mtim.tv_sec, 1100000000);
    assert_int_equal(st.st_mtim.tv_nsec, 123456000);
    assert_int_equal(st.st_atim.tv_sec, 1000000000);
    if (geteuid() == 0) {
        call = (struct remote_call){.op = REMOTE_SETATTR, .fh = fh};
        call.u.make.set =
            (struct remote_setattr){.set = REMOTE_SET_UID | REMOTE_SET_GID, .uid = 12, .gid = 34};
        assert_int_equal(op(&call), 0);
        st = local_stat("s");
        assert_int_equal(st.st_uid, 12);
        assert_int_equal(st.st_gid, 34);
    }
    call = (struct remote_call){.op = REMOTE_SETATTR, .fh = fh};
    call.u.make.set.set = REMOTE_SET_MTIME_NOW;
    assert_int_equal(op(&call), 0);
    assert_true(local_stat("s").st_mtim.tv_sec > 1100000000);
    /* The guard: an old ctime is refused. */
    call = (struct remote_call){.op = REMOTE_SETATTR, .fh = fh};
    call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = 0600};
    call.u.make.guard = true;
    call.u.make.guard_ctime = (struct timespec){1, 0};
    assert_int_equal(op(&call), -EAGAIN);
    st = local_stat("s");
    call = (struct remote_call){.op = REMOTE_SETATTR, .fh = fh};
    call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = 0600};
    call.u.make.guard = true;
    call.u.make.guard_ctime = st.st_ctim;
    assert_int_equal(op(&call), 0);
    assert_int_equal(local_stat("s").st_mode, S_IFREG | 0600);
    assert_int_equal(remove_name("s"), 0);
}

static void data_of_all_sizes_goes_there_and_back(void **state)
{
    static const uint32_t sizes[] = {1, 3, 4095, 4096, 65536, 131071, 131072, 262147, 1 << 20};
    uint8_t *out = malloc(1 << 20), *in = malloc(1 << 20);
    struct fh fh;
    for (size_t i = 0; i < 1 << 20; i++)
        out[i] = (uint8_t)(i * 2654435761u >> 11);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint32_t n = sizes[i];
        assert_int_equal(make_file("d", &fh), 0);
        assert_int_equal(write_at(&fh, 7, out, n, REMOTE_UNSTABLE), 0);
        memset(in, 0xEE, 1 << 20);
        assert_int_equal(read_at(&fh, 7, in, n), n);
        assert_memory_equal(in, out, n);
        assert_int_equal(read_at(&fh, 7 + n, in, 100), 0);
        assert_int_equal(remove_name("d"), 0);
    }
    free(out);
    free(in);
}

/* 1 MiB from 256 pages that are not neighbours, and back. */
static void data_is_gathered_and_scattered(void **state)
{
    enum { PAGES = 256, PAGE = 4096 };
    uint8_t *mem = malloc(2 * PAGES * PAGE);
    struct iovec iov[PAGES];
    struct remote_call call = {.op = REMOTE_WRITE};
    struct fh fh;
    assert_int_equal(make_file("v", &fh), 0);
    for (int i = 0; i < PAGES; i++) {
        iov[i] = (struct iovec){mem + (size_t)(2 * ((i * 37) % PAGES)) * PAGE, PAGE};
        memset(iov[i].iov_base, i, PAGE);
    }
    for (int pass = 0; pass < 2; pass++) {
        call = (struct remote_call){.op = pass ? REMOTE_READ : REMOTE_WRITE, .fh = fh};
        call.u.io.count = PAGES * PAGE;
        call.u.io.iov = iov;
        call.u.io.iovcnt = PAGES;
        assert_int_equal(op(&call), 0);
        assert_int_equal(call.u.io.done, PAGES * PAGE);
        for (int i = 0; i < PAGES; i++) {
            const uint8_t *p = iov[i].iov_base;
            assert_true(p[0] == (uint8_t)i && memcmp(p, p + 1, PAGE - 1) == 0);
            memset(iov[i].iov_base, pass ? i : 0xEE, PAGE);
        }
    }
    assert_int_equal(remove_name("v"), 0);
    free(mem);
}

static void commit_has_the_verifier_of_its_writes(void **state)
{
    struct fh fh;
    uint8_t byte = 'x';
    struct iovec iov = {&byte, 1};
    assert_int_equal(make_file("c", &fh), 0);
    struct remote_call w = {.op = REMOTE_WRITE, .fh = fh};
    w.u.io.offset = 6000000000;
    w.u.io.count = 1;
    w.u.io.iov = &iov;
    w.u.io.iovcnt = 1;
    assert_int_equal(op(&w), 0);
    struct remote_call c = {.op = REMOTE_COMMIT, .fh = fh};
    assert_int_equal(op(&c), 0);
    assert_memory_equal(w.u.io.verf, c.u.io.verf, 8);
    assert_int_equal(local_stat("c").st_size, 6000000001);
    w.u.io.stable = REMOTE_FILE_SYNC;
    assert_int_equal(op(&w), 0);
    assert_int_equal(w.u.io.stable, REMOTE_FILE_SYNC);
    assert_int_equal(remove_name("c"), 0);
}

static void exclusive_create_makes_it_once(void **state)
{
    struct remote_call call = {.op = REMOTE_CREATE, .fh = m.remote->root, .name = "x"};
    call.u.make.exclusive = true;
    call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = 0640};
    time_t before = time(NULL);
    assert_int_equal(op(&call), 0);
    struct stat st = local_stat("x");
    assert_int_equal(st.st_mode, S_IFREG | 0640);
    same_attributes(&call.post.attr, &st);
    assert_in_range(st.st_mtim.tv_sec, before - 5, before + 60); /* not the verifier */
    assert_in_range(st.st_atim.tv_sec, before - 5, before + 60);
    call = (struct remote_call){.op = REMOTE_CREATE, .fh = m.remote->root, .name = "x"};
    call.u.make.exclusive = true;
    assert_int_equal(op(&call), -EEXIST);
    assert_int_equal(make_file("x", NULL), 0); /* without it: fine */
    assert_int_equal(remove_name("x"), 0);
}

static void links_and_special_files(void **state)
{
    struct remote_call call = {.op = REMOTE_SYMLINK, .fh = m.remote->root, .name = "sym"};
    char text[1001];
    memset(text, 't', 1000);
    text[1000] = 0;
    call.u.make.linkname = text;
    assert_int_equal(op(&call), 0);
    assert_true(S_ISLNK(call.post.attr.mode));
    struct remote_call rl = {.op = REMOTE_READLINK, .fh = call.obj};
    assert_int_equal(op(&rl), 0);
    assert_string_equal(rl.u.readlink.text, text);
    remote_call_clear(m.remote, &rl);
    assert_int_equal(remove_name("sym"), 0);

    struct fh fh;
    assert_int_equal(make_file("one", &fh), 0);
    call = (struct remote_call){.op = REMOTE_LINK, .fh = fh, .fh2 = m.remote->root, .name = "two"};
    assert_int_equal(op(&call), 0);
    assert_int_equal(local_stat("one").st_nlink, 2);
    assert_true(!call.post.valid || call.post.attr.nlink == 2);
    assert_int_equal(op(&call), -EEXIST);
    assert_int_equal(remove_name("one"), 0);
    assert_int_equal(remove_name("two"), 0);

    call = (struct remote_call){.op = REMOTE_MKNOD, .fh = m.remote->root, .name = "fifo"};
    call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = S_IFIFO | 0600};
    assert_int_equal(op(&call), 0);
    assert_int_equal(local_stat("fifo").st_mode, S_IFIFO | 0600);
    assert_int_equal(remove_name("fifo"), 0);
    if (geteuid() != 0)
        return;
    call = (struct remote_call){.op = REMOTE_MKNOD, .fh = m.remote->root, .name = "dev"};
    call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = S_IFCHR | 0600};
    call.u.make.rdev = makedev(10, 200);
    int rc = op(&call);
    if (rc == -EPERM || rc == -EACCES)
        return; /* a container that may not */
    assert_int_equal(rc, 0);
    assert_int_equal(call.post.attr.rdev, makedev(10, 200));
    assert_int_equal(local_stat("dev").st_rdev, makedev(10, 200));
    assert_int_equal(remove_name("dev"), 0);
}

static void directories_and_rename(void **state)
{
    struct remote_call call = {.op = REMOTE_MKDIR, .fh = m.remote->root, .name = "dir"};
    call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = 0750};
    assert_int_equal(op(&call), 0);
    struct fh dir = call.obj;
    assert_int_equal(local_stat("dir").st_mode, S_IFDIR | 0750);
    assert_int_equal(op(&call), -EEXIST);
    assert_int_equal(make_file("f", NULL), 0);
    call = (struct remote_call){
        .op = REMOTE_RENAME, .fh = m.remote->root, .name = "f", .fh2 = dir, .name2 = "g"};
    assert_int_equal(op(&call), 0);
    assert_true(call.dir_post.valid && call.dir2_post.valid);
    assert_true(S_ISREG(local_stat("dir/g").st_mode));
    assert_int_equal(op(&call), -ENOENT);
    call = (struct remote_call){.op = REMOTE_RMDIR, .fh = m.remote->root, .name = "dir"};
    assert_int_equal(op(&call), -ENOTEMPTY);
    struct remote_call rm = {.op = REMOTE_REMOVE, .fh = dir, .name = "g"};
    assert_int_equal(op(&rm), 0);
    assert_true(rm.dir_post.valid);
    assert_int_equal(op(&call), 0);
    call = (struct remote_call){.op = REMOTE_GETATTR, .fh = dir};
    assert_int_equal(op(&call), -ESTALE);
}

static void list(const struct fh *dir, bool plus, uint32_t count, unsigned files)
{
    unsigned char *seen = calloc(1, files);
    unsigned total = 0, replies = 0;
    struct remote_call call = {.op = REMOTE_READDIR, .fh = *dir};
    call.u.readdir.plus = plus;
    for (;;) {
        call.u.readdir.count = count;
        assert_int_equal(op(&call), 0);
        replies++;
        for (struct remote_dirent *d = call.u.readdir.entries; d; d = d->next) {
            unsigned n;
            call.u.readdir.cookie = d->cookie;
            if (sscanf(d->name, "file-%u", &n) != 1)
                continue;
            assert_true(n < files && !seen[n]);
            seen[n] = 1;
            total++;
            if (plus && d->post.valid)
                assert_int_equal(d->post.attr.fileid, d->fileid);
            if (plus)
                assert_true(d->has_fh);
        }
        bool eof = call.u.readdir.eof;
        remote_call_clear(m.remote, &call);
        if (eof)
            break;
    }
    assert_int_equal(total, files);
    assert_true(count > 100000 || replies > 3);
    free(seen);
}

static void directories_are_listed_whole(void **state)
{
    enum { FILES = 2000 };
    struct remote_call call = {.op = REMOTE_MKDIR, .fh = m.remote->root, .name = "many"};
    char name[64];
    call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = 0755};
    assert_int_equal(op(&call), 0);
    struct fh dir = call.obj;
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "many/file-%d", i);
        int fd = open(local(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        assert_true(fd >= 0);
        close(fd);
    }
    list(&dir, true, 131072, FILES);
    list(&dir, true, 8192, FILES);
    list(&dir, false, 8192, FILES);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "many/file-%d", i);
        unlink(local(name));
    }
    rmdir(local("many"));
}

static void the_file_system_describes_itself(void **state)
{
    struct remote_call call = {.op = REMOTE_FSSTAT, .fh = m.remote->root};
    assert_int_equal(op(&call), 0);
    assert_true(call.u.fsstat.tbytes > 0 && call.u.fsstat.fbytes <= call.u.fsstat.tbytes);
    call = (struct remote_call){.op = REMOTE_FSINFO, .fh = m.remote->root};
    assert_int_equal(op(&call), 0);
    assert_true(call.u.fsinfo.rtmax >= 4096);
    call = (struct remote_call){.op = REMOTE_PATHCONF, .fh = m.remote->root};
    assert_int_equal(op(&call), 0);
    assert_true(call.u.pathconf.name_max >= 255);
    assert_int_equal(m.remote->name_max, 255);
    assert_true(m.remote->rsize >= 4096 && m.remote->rsize <= NFS3_IO_MAX);
    assert_true(m.remote->wsize >= 4096 && m.remote->wsize <= NFS3_IO_MAX);
    assert_true(m.remote->dtsize >= 65536);
}

/* The page cache deals in whole pages. */
static void io_of_less_than_a_page_is_of_a_page(void **state)
{
    struct nfs3_options o = m.o;
    struct loop *loop = loop_new("other");
    struct remote *r;
    char err[NFS3_ERROR_MAX] = "";
    o.rsize = 1024;
    o.wsize = 2048;
    assert_int_equal(nfs3_mount(&o, &loop, 1, &r, err, sizeof(err)), 0);
    assert_int_equal(r->rsize, 4096);
    assert_int_equal(r->wsize, 4096);
    remote_destroy(r);
    loop_free(loop);
}

static void each_call_has_its_own_credential(void **state)
{
    if (geteuid() != 0)
        skip();
    struct cred owner = {.uid = 1001, .gid = 1002}, other = {.uid = 2001, .gid = 2002};
    struct cred member = {.uid = 2001, .gid = 2002, .ngroups = 16};
    for (uint32_t i = 0; i < 16; i++)
        member.groups[i] = 3000 + i;
    member.groups[15] = 1002;
    chmod(m.o.export, 0777);
    struct remote_call call = {
        .op = REMOTE_CREATE, .fh = m.remote->root, .name = "mine", .cred = &owner};
    call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = 0640};
    assert_int_equal(op(&call), 0);
    struct fh fh = call.obj;
    struct stat st = local_stat("mine");
    assert_int_equal(st.st_uid, 1001);
    assert_int_equal(st.st_gid, 1002);
    const struct {
        const struct cred *cred;
        uint32_t allowed;
    } cases[] = {{&owner, R_OK | W_OK}, {&member, R_OK}, {&other, 0}};
    for (int i = 0; i < 3; i++) {
        call = (struct remote_call){.op = REMOTE_ACCESS, .fh = fh, .cred = cases[i].cred};
        call.u.access.want = R_OK | W_OK | X_OK;
        assert_int_equal(op(&call), 0);
        assert_int_equal(call.u.access.allowed, cases[i].allowed);
    }
    assert_int_equal(remove_name("mine"), 0);
}

/* ---- from the loop, many at once ---- */

enum { SLOTS = 64, ROUNDS = 2000, SLOT_MAX = 300000 };

static struct slot {
    struct remote_call call;
    struct iovec iov;
    uint8_t *data;
    uint32_t n;
    uint64_t offset;
    unsigned rounds;
    bool reading;
} slots[SLOTS];
static struct fh shared;
static _Atomic int slots_left, slot_errors;

static void slot_step(struct slot *s);

static void slot_done(struct remote_call *call)
{
    struct slot *s = call->arg;
    if (call->error || call->u.io.done != s->n)
        slot_errors++;
    if (s->reading) {
        for (uint32_t i = 0; i < s->n; i++) {
            if (s->data[i] != (uint8_t)((s->offset + i) * 31 + s->rounds)) {
                slot_errors++;
                break;
            }
        }
        s->rounds++;
    }
    s->reading = !s->reading;
    slot_step(s);
}

static void slot_step(struct slot *s)
{
    if (s->rounds * SLOTS >= ROUNDS) {
        slots_left--;
        return;
    }
    if (!s->reading) {
        s->n = (uint32_t)((s->rounds * 7919u + s->offset) % SLOT_MAX) + 1;
        for (uint32_t i = 0; i < s->n; i++)
            s->data[i] = (uint8_t)((s->offset + i) * 31 + s->rounds);
    } else {
        memset(s->data, 0, s->n);
    }
    s->iov = (struct iovec){s->data, s->n};
    s->call = (struct remote_call){.op = s->reading ? REMOTE_READ : REMOTE_WRITE,
                                   .fh = shared,
                                   .cred = &m.cred,
                                   .done = slot_done,
                                   .arg = s};
    s->call.u.io.offset = s->offset;
    s->call.u.io.count = s->n;
    s->call.u.io.iov = &s->iov;
    s->call.u.io.iovcnt = 1;
    remote_submit(m.remote, &s->call);
}

static void slots_start(void *arg)
{
    for (int i = 0; i < SLOTS; i++)
        slot_step(&slots[i]);
}

static void many_calls_at_once_do_not_mix(void **state)
{
    assert_int_equal(make_file("shared", &shared), 0);
    slots_left = SLOTS;
    slot_errors = 0;
    for (int i = 0; i < SLOTS; i++)
        slots[i] = (struct slot){.data = malloc(SLOT_MAX), .offset = (uint64_t)i * SLOT_MAX};
    loop_call(m.loop, slots_start, NULL);
    while (slots_left)
        usleep(1000);
    assert_int_equal(slot_errors, 0);
    for (int i = 0; i < SLOTS; i++)
        free(slots[i].data);
    assert_int_equal(remove_name("shared"), 0);
}

static void statistics_count_what_happened(void **state)
{
    struct nfs3_stats *s = calloc(1, sizeof(*s));
    struct remote_call call;
    nfs3_stats(m.remote, s);
    uint64_t before = s->proc[PROC_LOOKUP].calls, errors = s->proc[PROC_LOOKUP].errors;
    for (int i = 0; i < 10; i++)
        assert_int_equal(lookup(&m.remote->root, "missing", &call), -ENOENT);
    nfs3_stats(m.remote, s);
    assert_int_equal(s->proc[PROC_LOOKUP].calls, before + 10);
    assert_int_equal(s->proc[PROC_LOOKUP].errors, errors + 10);
    assert_true(s->proc[PROC_LOOKUP].p50_ns > 0);
    assert_true(s->proc[PROC_LOOKUP].p99_ns >= s->proc[PROC_LOOKUP].p50_ns);
    assert_true(s->proc[PROC_LOOKUP].max_ns >= s->proc[PROC_LOOKUP].p99_ns);
    assert_int_equal(s->nconn, 2);
    assert_true(!s->conn[0].bulk && s->conn[1].bulk);
    assert_string_equal(s->conn[0].state, "up");
    assert_int_equal(s->conn[1].outstanding_bytes, 0);
    assert_true(s->responding);
    free(s);
}

/* ---- mounting ---- */

static void exports_are_listed(void **state)
{
    struct nfs3_export *list = NULL;
    char err[NFS3_ERROR_MAX];
    assert_int_equal(nfs3_exports(&m.o, &list, err, sizeof(err)), 0);
    bool found = false;
    for (struct nfs3_export *e = list; e; e = e->next)
        found |= !strcmp(e->dir, m.o.export);
    nfs3_exports_free(list);
    assert_true(found);
}

static void a_failed_mount_says_what_to_do(void **state)
{
    struct remote *r;
    char err[NFS3_ERROR_MAX];
    struct nfs3_options o = m.o;
    o.export = "/no/such/export";
    int rc = nfs3_mount(&o, &m.loop, 1, &r, err, sizeof(err));
    assert_true(rc == -ENOENT || rc == -EACCES);
    assert_non_null(strstr(err, "/no/such/export"));
    o = m.o;
    o.port = o.mountport = 1; /* nobody listens */
    assert_int_equal(nfs3_mount(&o, &m.loop, 1, &r, err, sizeof(err)), -ECONNREFUSED);
    assert_non_null(strstr(err, "port 1"));
    o = m.o;
    o.server = "no-such-host.invalid";
    assert_true(nfs3_mount(&o, &m.loop, 1, &r, err, sizeof(err)) < 0);
    assert_non_null(strstr(err, "no-such-host.invalid"));
}

/* What no option says is found out: rpcbind's answers, where there is one. */
static void ports_are_found_by_rpcbind(void **state)
{
    struct nfs3_options o = m.o;
    struct nfs3_export *list = NULL;
    char err[NFS3_ERROR_MAX] = "";
    struct remote *r;
    struct loop *loop;
    if (!getenv("NFS3_TEST_RPCBIND"))
        skip();
    o.port = o.mountport = 0;
    assert_int_equal(nfs3_exports(&o, &list, err, sizeof(err)), 0);
    nfs3_exports_free(list);
    loop = loop_new("other");
    assert_int_equal(nfs3_mount(&o, &loop, 1, &r, err, sizeof(err)), 0);
    assert_true(fh_equal(&r->root, &m.remote->root));
    remote_destroy(r);
    /* A guess that is wrong is followed by a question. */
    o.mountport = 1;
    o.mountport_is_guess = true;
    assert_int_equal(nfs3_mount(&o, &loop, 1, &r, err, sizeof(err)), 0);
    remote_destroy(r);
    loop_free(loop);
}

static void the_server_may_have_an_ipv6_address_or_a_name(void **state)
{
    static const char *const names[] = {"::1", "localhost"};
    if (m.external)
        skip();
    for (int i = 0; i < 2; i++) {
        struct server_options so = {
            .directory = m.export, .key_file = m.key, .bind = i ? NULL : "::1"};
        struct server *srv;
        char err[NFS3_ERROR_MAX] = "";
        if (server_start(&so, &srv, err, sizeof(err)) < 0) {
            printf("# SKIP %s: %s\n", names[i], err);
            continue;
        }
        struct nfs3_options o = m.o;
        o.server = names[i];
        o.port = server_port(srv);
        struct loop *loop = loop_new("other");
        struct remote *r;
        int rc = nfs3_mount(&o, &loop, 1, &r, err, sizeof(err));
        if (rc)
            fail_msg("%s", err);
        assert_int_equal(loop_start(loop), 0);
        struct remote_call call = {.op = REMOTE_GETATTR, .fh = r->root, .cred = &m.cred};
        assert_int_equal(remote_call_wait(r, &call), 0);
        remote_destroy(r);
        loop_stop(loop);
        loop_join(loop);
        loop_free(loop);
        server_stop(srv);
    }
}

static int setup(void **state)
{
    mounted_start((struct nfs3_options){.nconnect = 2}, NULL);
    return 0;
}

static int teardown(void **state)
{
    mounted_stop();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attributes_and_lookup),
        cmocka_unit_test(names_may_hold_any_byte),
        cmocka_unit_test(setattr_sets_each_field),
        cmocka_unit_test(data_of_all_sizes_goes_there_and_back),
        cmocka_unit_test(data_is_gathered_and_scattered),
        cmocka_unit_test(commit_has_the_verifier_of_its_writes),
        cmocka_unit_test(exclusive_create_makes_it_once),
        cmocka_unit_test(links_and_special_files),
        cmocka_unit_test(directories_and_rename),
        cmocka_unit_test(directories_are_listed_whole),
        cmocka_unit_test(the_file_system_describes_itself),
        cmocka_unit_test(io_of_less_than_a_page_is_of_a_page),
        cmocka_unit_test(each_call_has_its_own_credential),
        cmocka_unit_test(many_calls_at_once_do_not_mix),
        cmocka_unit_test(statistics_count_what_happened),
        cmocka_unit_test(exports_are_listed),
        cmocka_unit_test(a_failed_mount_says_what_to_do),
        cmocka_unit_test(ports_are_found_by_rpcbind),
        cmocka_unit_test(the_server_may_have_an_ipv6_address_or_a_name),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
