// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/wire.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(bool ok)
{
    if (!ok)
        abort();
}

struct loop *loop;
struct nfs3 *client;
struct fake fake;
struct cred cred = {.uid = 1000, .gid = 100};
struct fh handle = {.len = HANDLE_LEN, .data = "0123456789abcde"};
_Atomic int silent_lines, ok_lines;

static void count_lines(int priority, const char *text)
{
    silent_lines += strstr(text, "not responding") != NULL;
    ok_lines += strstr(text, "OK") != NULL;
    if (getenv("NFS3_TEST_VERBOSE"))
        fprintf(stderr, "# %s\n", text);
}

void begin(void (*handle_fn)(struct fake *f, const struct fake_request *req), struct nfs3_options o,
           int bulk)
{
    bool (*early)(struct fake * f, const struct fake_request *req) = fake.early;
    memset(&fake, 0, sizeof(fake));
    fake.handle = handle_fn;
    fake.early = early;
    fake.receive_buffer = early ? 4096 : 0; /* so that a large WRITE does not fit */
    fake_start(&fake);
    silent_lines = ok_lines = 0;
    o.server = "fake";
    o.export = "/";
    o.log = count_lines;
    o.resvport = NFS3_RESVPORT_NO;
    client = nfs3_new(&o);
    client->setup = false;
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons(fake.port)};
    memcpy(&client->addr, &a, sizeof(a));
    client->addrlen = sizeof(a);
    client->base.rsize = client->base.wsize = NFS3_IO_MAX;
    loop = loop_new("shard0");
    must(nfs3_add_conn(client, loop, false) == 0);
    for (int i = 0; i < bulk; i++)
        must(nfs3_add_conn(client, NULL, true) == 0);
    must(loop_start(loop) == 0);
}

void end(void)
{
    remote_destroy(&client->base);
    loop_stop(loop);
    loop_join(loop);
    loop_free(loop);
    fake_stop(&fake);
}

int ask(struct remote_call *call)
{
    call->cred = &cred;
    if (!call->fh.len)
        call->fh = handle;
    return remote_call_wait(&client->base, call);
}

uint64_t stat_of(size_t offset)
{
    uint64_t n = 0;
    for (int i = 0; i < client->nconn; i++)
        n += counter_get((counter *)(void *)((char *)&client->conns[i]->stats + offset));
    return n;
}

void good_getattr(struct fake *f, const struct fake_request *req)
{
    struct reply r = {0};
    put_ok(&r, req->xid, 0);
    put_fattr(&r, 1, FILE_ID, 100);
    reply_send(f, req, &r);
}
