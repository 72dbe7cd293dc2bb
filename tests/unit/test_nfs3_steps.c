// SPDX-License-Identifier: Apache-2.0
/*
 * Operations that take more than one RPC: JUKEBOX, replies without handle or attributes, exclusive
 * CREATE, and what was executed twice because its first reply was lost.
 *
 * The server follows a script: for each request which procedure it must be, and the answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/wire.h"

enum answer {
    LOSE,         /* do the work, and close the connection without an answer */
    STATUS,       /* `status`, without attributes */
    OBJECT,       /* handle and attributes */
    ONLY_HANDLE,  /* no attributes */
    NOTHING,      /* success, neither handle nor attributes */
    ATTRIBUTES,   /* of GETATTR */
    WCC,          /* success of SETATTR, with attributes */
    TEXT,         /* READLINK: "target" */
    OTHER_OBJECT, /* LOOKUP: a handle and a file id that are not expected */
    FOUND,        /* LOOKUP: a handle, and the attributes of `found` */
};

struct line {
    uint32_t proc;
    enum answer answer;
    uint32_t status;
    uint32_t type; /* of the object */
};

static const struct line *script;
static _Atomic int script_at, script_bad;
static uint32_t xids[32];
static uint8_t args[32][1024];
static size_t args_len[32];

static struct {
    struct fattr attr;
    uint64_t size;
    bool verifier; /* atime and mtime are that of the CREATE */
} found;

static void put_found(struct reply *r, const struct line *l)
{
    struct fattr a = found.attr;
    if (found.verifier) /* the last 8 bytes of the arguments */
        for (int i = 0; i < 2; i++)
            memcpy(&a.time[i], args[0] + args_len[0] - 8 + 4 * i, 4);
    put_bytes(r, handle.data, handle.len);
    put32(r, 1);
    put_fattr_of(r, l->type, FILE_ID, found.size, &a);
    put32(r, 0);
}

static void put_object(struct reply *r, const struct line *l, bool wcc)
{
    struct fh other = handle;
    other.data[0] ^= 1;
    const struct fh *fh = l->answer == OTHER_OBJECT ? &other : &handle;
    if (l->proc == PROC_LOOKUP || l->answer != NOTHING) {
        if (l->proc != PROC_LOOKUP)
            put32(r, 1);
        put_bytes(r, fh->data, fh->len);
    } else {
        put32(r, 0);
    }
    if (l->answer == OBJECT || l->answer == OTHER_OBJECT)
        put_post(r, l->type, l->answer == OBJECT ? FILE_ID : 99, 0);
    else
        put32(r, 0);
    put32(r, 0);
    if (wcc)
        put32(r, 0);
}

static void follow_script(struct fake *f, const struct fake_request *req)
{
    const struct line *l = &script[script_at];
    struct reply r = {0};
    int n = req->nth;
    if (n < 32) {
        xids[n] = req->xid;
        args_len[n] = req->args_len < 1024 ? req->args_len : 1024;
        memcpy(args[n], req->args, args_len[n]);
    }
    if (!l->proc || l->proc != req->proc) {
        script_bad++;
        fake_hangup(f, req);
        return;
    }
    script_at++;
    put_ok(&r, req->xid, l->answer == STATUS ? l->status : 0);
    switch (l->answer) {
    case LOSE:
        free(r.p);
        fake_hangup(f, req);
        return;
    case STATUS:
        for (int i = 0; i < 4; i++)
            put32(&r, 0);
        break;
    case ATTRIBUTES:
        put_fattr(&r, l->type, FILE_ID, 0);
        break;
    case WCC:
        put32(&r, 0);
        put_post(&r, l->type, FILE_ID, 0);
        break;
    case TEXT:
        put32(&r, 0);
        put_bytes(&r, "target", 6);
        break;
    case FOUND:
        put_found(&r, l);
        break;
    case OBJECT:
    case ONLY_HANDLE:
    case NOTHING:
    case OTHER_OBJECT:
        if (l->proc == PROC_REMOVE || l->proc == PROC_RMDIR || l->proc == PROC_RENAME ||
            l->proc == PROC_LINK) {
            for (int i = 0; i < 4; i++)
                put32(&r, 0);
        } else {
            put_object(&r, l, l->proc != PROC_LOOKUP);
        }
        break;
    }
    reply_send(f, req, &r);
}

static void run(const struct line *lines, struct remote_call *call, int error)
{
    script = lines;
    script_at = script_bad = 0;
    begin(follow_script, (struct nfs3_options){0}, 0);
    int rc = ask(call);
    end();
    assert_int_equal(script_bad, 0);
    assert_int_equal(script[script_at].proc, 0); /* all of it was asked */
    assert_int_equal(rc, error);
}

static void made(const struct remote_call *call)
{
    assert_true(call->has_obj && fh_equal(&call->obj, &handle));
    assert_true(call->post.valid);
    assert_int_equal(call->post.attr.fileid, FILE_ID);
}

/* ---- later, please ---- */

static void jukebox_is_asked_again_with_a_new_xid(void **state)
{
    static const struct line lines[] = {{PROC_GETATTR, STATUS, 10008, 0},
                                        {PROC_GETATTR, STATUS, 10008, 0},
                                        {PROC_GETATTR, ATTRIBUTES, 0, T_REG},
                                        {0}};
    struct remote_call call = {.op = REMOTE_GETATTR};
    uint64_t start = now_ns();
    run(lines, &call, 0);
    assert_true(xids[0] != xids[1] && xids[1] != xids[2] && xids[0] != xids[2]);
    assert_true(now_ns() - start >= 300000000); /* 100 ms, then 200 ms */
}

/* ---- what the protocol leaves out ---- */

static void create_always_brings_handle_and_attributes(void **state)
{
    static const struct line full[] = {{PROC_CREATE, OBJECT, 0, T_REG}, {0}};
    static const struct line no_attributes[] = {
        {PROC_CREATE, ONLY_HANDLE, 0, 0}, {PROC_GETATTR, ATTRIBUTES, 0, T_REG}, {0}};
    static const struct line nothing[] = {
        {PROC_CREATE, NOTHING, 0, 0}, {PROC_LOOKUP, OBJECT, 0, T_REG}, {0}};
    static const struct line least[] = {{PROC_CREATE, NOTHING, 0, 0},
                                        {PROC_LOOKUP, ONLY_HANDLE, 0, 0},
                                        {PROC_GETATTR, ATTRIBUTES, 0, T_REG},
                                        {0}};
    const struct line *const all[] = {full, no_attributes, nothing, least};
    for (int i = 0; i < 4; i++) {
        struct remote_call call = {.op = REMOTE_CREATE, .name = "f"};
        run(all[i], &call, 0);
        made(&call);
    }
}

static void lookup_always_brings_attributes(void **state)
{
    static const struct line lines[] = {
        {PROC_LOOKUP, ONLY_HANDLE, 0, 0}, {PROC_GETATTR, ATTRIBUTES, 0, T_DIR}, {0}};
    struct remote_call call = {.op = REMOTE_LOOKUP, .name = "d"};
    run(lines, &call, 0);
    made(&call);
    assert_true(S_ISDIR(call.post.attr.mode));
}

/* ---- exclusive CREATE ---- */

static struct remote_call exclusive(void)
{
    struct remote_call call = {.op = REMOTE_CREATE, .name = "f"};
    call.u.make.exclusive = true;
    call.u.make.set = (struct remote_setattr){.set = REMOTE_SET_MODE, .mode = 0640};
    return call;
}

/* Handle, mode, no uid, gid, size; both times to the server's; and the guard. */
static void assert_finishing_setattr(int nth, bool guard)
{
    const uint32_t want[] = {1, 0640, 0, 0, 0, 1, 1, guard, 9, 5};
    assert_int_equal(args_len[nth], 4 + HANDLE_LEN + 4 * (guard ? 10 : 8));
    for (int i = 0; i < (guard ? 10 : 8); i++) {
        uint32_t v;
        memcpy(&v, args[nth] + 4 + HANDLE_LEN + 4 * i, 4);
        assert_int_equal(be32toh(v), want[i]);
    }
}

static void exclusive_create_sets_attributes_afterwards(void **state)
{
    static const struct line lines[] = {{PROC_CREATE, LOSE, 0, 0},
                                        {PROC_CREATE, OBJECT, 0, T_REG},
                                        {PROC_SETATTR, WCC, 0, T_REG},
                                        {0}};
    struct remote_call call = exclusive();
    run(lines, &call, 0);
    made(&call);
    /* The replay has the same verifier, or the server could not know it. */
    assert_int_equal(args_len[0], args_len[1]);
    assert_memory_equal(args[0], args[1], args_len[0]);
    assert_finishing_setattr(2, false);
}

static void exclusive_create_that_finds_the_name_fails(void **state)
{
    static const struct line once[] = {{PROC_CREATE, STATUS, ST_EXIST, 0}, {0}};
    static const struct line again[] = {{PROC_CREATE, LOSE, 0, 0},
                                        {PROC_CREATE, STATUS, ST_EXIST, 0},
                                        {PROC_LOOKUP, FOUND, 0, T_REG},
                                        {0}};
    static const struct line gone[] = {{PROC_CREATE, LOSE, 0, 0},
                                       {PROC_CREATE, STATUS, ST_EXIST, 0},
                                       {PROC_LOOKUP, STATUS, ST_NOENT, 0},
                                       {0}};
    /* What another maker's file looks like, of which the answer may have arrived there. */
    static const struct {
        struct fattr attr;
        uint64_t size;
    } others[] = {
        {{0640, 1000, {9, 9, 9}}, 0}, /* finished: it has the mode that this call would give it */
        {{0600, 1000, {9, 9, 9}}, 1}, /* written to */
        {{0600, 1000, {7, 8, 9}}, 0}, /* another verifier */
        {{0600, 1000, {9, 8, 9}}, 0}, {{0600, 1001, {9, 9, 9}}, 0}, /* another user's */
        {{0600, 1000, {8, 9, 9}}, 0},
    };
    struct remote_call call = exclusive();
    run(once, &call, -EEXIST);
    call = exclusive();
    run(gone, &call, -EEXIST);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        found.attr = others[i].attr;
        found.size = others[i].size;
        found.verifier = false;
        call = exclusive();
        run(again, &call, -EEXIST);
        assert_false(call.has_obj);
    }
}

/* The first execution stored the verifier while the second was refused. */
static void exclusive_create_knows_its_verifier(void **state)
{
    static const struct line lines[] = {{PROC_CREATE, LOSE, 0, 0},
                                        {PROC_CREATE, STATUS, ST_EXIST, 0},
                                        {PROC_LOOKUP, FOUND, 0, T_REG},
                                        {PROC_SETATTR, WCC, 0, T_REG},
                                        {0}};
    struct remote_call call = exclusive();
    found.attr = (struct fattr){.mode = 0600, .uid = 1000, .time = {0, 0, 9}};
    found.size = 0;
    found.verifier = true;
    run(lines, &call, 0);
    made(&call);
    assert_finishing_setattr(3, false);
}

/* The server died when it had made the file and not yet stored the verifier. */
static void exclusive_create_claims_a_file_that_was_half_made(void **state)
{
    static const struct line claimed[] = {{PROC_CREATE, LOSE, 0, 0},
                                          {PROC_CREATE, STATUS, ST_EXIST, 0},
                                          {PROC_LOOKUP, FOUND, 0, T_REG},
                                          {PROC_SETATTR, WCC, 0, T_REG},
                                          {0}};
    static const struct line too_late[] = {{PROC_CREATE, LOSE, 0, 0},
                                           {PROC_CREATE, STATUS, ST_EXIST, 0},
                                           {PROC_LOOKUP, FOUND, 0, T_REG},
                                           {PROC_SETATTR, STATUS, ST_NOT_SYNC, 0},
                                           {0}};
    struct remote_call call = exclusive();
    found.attr = (struct fattr){.mode = 0600, .uid = 1000, .time = {9, 9, 9}};
    found.size = 0;
    found.verifier = false;
    run(claimed, &call, 0);
    made(&call);
    assert_finishing_setattr(3, true);
    call = exclusive();
    run(too_late, &call, -EEXIST); /* somebody else claimed it */
    assert_false(call.has_obj);
}

static void exclusive_create_falls_back_to_guarded(void **state)
{
    static const struct line lines[] = {{PROC_CREATE, STATUS, ST_NOTSUPP, 0},
                                        {PROC_CREATE, LOSE, 0, 0},
                                        {PROC_CREATE, STATUS, ST_EXIST, 0},
                                        {PROC_LOOKUP, OBJECT, 0, T_REG},
                                        {0}};
    struct remote_call call = exclusive();
    run(lines, &call, 0);
    made(&call);
}

/* ---- exactly once ---- */

static const struct {
    enum remote_op op;
    uint32_t proc, type;
} makers[] = {{REMOTE_MKDIR, PROC_MKDIR, T_DIR},
              {REMOTE_MKNOD, PROC_MKNOD, T_FIFO},
              {REMOTE_SYMLINK, PROC_SYMLINK, T_LNK},
              {REMOTE_LINK, PROC_LINK, T_REG}};

static struct remote_call maker(int i)
{
    struct remote_call call = {.op = makers[i].op, .name = "n", .fh2 = handle};
    call.u.make.linkname = "target";
    call.u.make.set.mode = S_IFIFO | 0600;
    return call;
}

static void exist_for_our_own_first_try_is_success(void **state)
{
    for (int i = 0; i < 4; i++) {
        const struct line lines[] = {{makers[i].proc, LOSE, 0, 0},
                                     {makers[i].proc, STATUS, ST_EXIST, 0},
                                     {PROC_LOOKUP, OBJECT, 0, makers[i].type},
                                     {i == 2 ? PROC_READLINK : 0, TEXT, 0, 0},
                                     {0}};
        struct remote_call call = maker(i);
        run(lines, &call, 0);
        assert_true(call.retransmitted);
        assert_int_equal(xids[0], xids[1]);
        if (makers[i].op != REMOTE_LINK)
            made(&call);
        else
            assert_false(call.has_obj);
    }
}

static void exist_for_the_first_try_is_an_error(void **state)
{
    for (int i = 0; i < 4; i++) {
        const struct line lines[] = {{makers[i].proc, STATUS, ST_EXIST, 0}, {0}};
        struct remote_call call = maker(i);
        run(lines, &call, -EEXIST);
    }
}

static void exist_for_what_is_not_ours_is_an_error(void **state)
{
    for (int i = 0; i < 4; i++) {
        const struct line lines[] = {{makers[i].proc, LOSE, 0, 0},
                                     {makers[i].proc, STATUS, ST_EXIST, 0},
                                     {PROC_LOOKUP, OTHER_OBJECT, 0,
                                      i == 3                    ? T_REG
                                      : makers[i].type == T_DIR ? T_REG
                                                                : T_DIR},
                                     {0}};
        struct remote_call call = maker(i);
        run(lines, &call, -EEXIST);
    }
}

static void another_link_text_is_an_error(void **state)
{
    static const struct line lines[] = {{PROC_SYMLINK, LOSE, 0, 0},
                                        {PROC_SYMLINK, STATUS, ST_EXIST, 0},
                                        {PROC_LOOKUP, OBJECT, 0, T_LNK},
                                        {PROC_READLINK, TEXT, 0, 0},
                                        {0}};
    struct remote_call call = maker(2);
    call.u.make.linkname = "elsewhere";
    run(lines, &call, -EEXIST);
}

static void noent_for_our_own_first_try_is_success(void **state)
{
    static const enum remote_op ops[] = {REMOTE_REMOVE, REMOTE_RMDIR};
    static const uint32_t procs[] = {PROC_REMOVE, PROC_RMDIR};
    for (int i = 0; i < 2; i++) {
        const struct line gone[] = {{procs[i], LOSE, 0, 0},
                                    {procs[i], STATUS, ST_NOENT, 0},
                                    {PROC_LOOKUP, STATUS, ST_NOENT, 0},
                                    {0}};
        const struct line there[] = {{procs[i], LOSE, 0, 0},
                                     {procs[i], STATUS, ST_NOENT, 0},
                                     {PROC_LOOKUP, OBJECT, 0, T_REG},
                                     {0}};
        const struct line once[] = {{procs[i], STATUS, ST_NOENT, 0}, {0}};
        struct remote_call call = {.op = ops[i], .name = "n"};
        run(gone, &call, 0);
        call = (struct remote_call){.op = ops[i], .name = "n"};
        run(there, &call, -ENOENT);
        call = (struct remote_call){.op = ops[i], .name = "n"};
        run(once, &call, -ENOENT);
    }
}

static void a_rename_done_twice_is_success(void **state)
{
    static const struct line ours[] = {{PROC_RENAME, LOSE, 0, 0},
                                       {PROC_RENAME, STATUS, ST_NOENT, 0},
                                       {PROC_LOOKUP, OBJECT, 0, T_REG},
                                       {0}};
    static const struct line not_ours[] = {{PROC_RENAME, LOSE, 0, 0},
                                           {PROC_RENAME, STATUS, ST_NOENT, 0},
                                           {PROC_LOOKUP, OTHER_OBJECT, 0, T_REG},
                                           {0}};
    static const struct line nowhere[] = {{PROC_RENAME, LOSE, 0, 0},
                                          {PROC_RENAME, STATUS, ST_NOENT, 0},
                                          {PROC_LOOKUP, STATUS, ST_NOENT, 0},
                                          {0}};
    static const struct line once[] = {{PROC_RENAME, STATUS, ST_NOENT, 0}, {0}};
    static const struct {
        const struct line *lines;
        uint64_t fileid;
        int error;
    } cases[] = {{ours, FILE_ID, 0},
                 {ours, 0, 0},
                 {not_ours, FILE_ID, -ENOENT},
                 {nowhere, FILE_ID, -ENOENT},
                 {once, FILE_ID, -ENOENT}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct remote_call call = {
            .op = REMOTE_RENAME, .name = "from", .fh2 = handle, .name2 = "to"};
        call.u.rename.fileid = cases[i].fileid;
        run(cases[i].lines, &call, cases[i].error);
    }
}

/* ---- refused before they are sent ---- */

static void what_cannot_be_sent_is_refused(void **state)
{
    static const struct line none[] = {{0}};
    char name[300], text[5000];
    memset(name, 'n', sizeof(name));
    name[256] = 0;
    memset(text, 't', sizeof(text));
    text[4999] = 0;
    struct remote_call call = {.op = REMOTE_LOOKUP, .name = name};
    run(none, &call, -ENAMETOOLONG);
    call = (struct remote_call){.op = REMOTE_LOOKUP, .name = ""};
    run(none, &call, -EINVAL);
    call = (struct remote_call){.op = REMOTE_SYMLINK, .name = "s"};
    call.u.make.linkname = text;
    run(none, &call, -ENAMETOOLONG);
    call = (struct remote_call){.op = REMOTE_GETATTR, .fh = {.len = 65}};
    run(none, &call, -ESTALE);
    call = (struct remote_call){.op = REMOTE_READ};
    call.u.io.count = 1;
    run(none, &call, -EINVAL);
    call = (struct remote_call){.op = REMOTE_WRITE};
    call.u.io.count = NFS3_IO_MAX + 1;
    run(none, &call, -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jukebox_is_asked_again_with_a_new_xid),
        cmocka_unit_test(create_always_brings_handle_and_attributes),
        cmocka_unit_test(lookup_always_brings_attributes),
        cmocka_unit_test(exclusive_create_sets_attributes_afterwards),
        cmocka_unit_test(exclusive_create_that_finds_the_name_fails),
        cmocka_unit_test(exclusive_create_knows_its_verifier),
        cmocka_unit_test(exclusive_create_claims_a_file_that_was_half_made),
        cmocka_unit_test(exclusive_create_falls_back_to_guarded),
        cmocka_unit_test(exist_for_our_own_first_try_is_success),
        cmocka_unit_test(exist_for_the_first_try_is_an_error),
        cmocka_unit_test(exist_for_what_is_not_ours_is_an_error),
        cmocka_unit_test(another_link_text_is_an_error),
        cmocka_unit_test(noent_for_our_own_first_try_is_success),
        cmocka_unit_test(a_rename_done_twice_is_success),
        cmocka_unit_test(what_cannot_be_sent_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
