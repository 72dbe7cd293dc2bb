// SPDX-License-Identifier: Apache-2.0
/* The embedded server for a test; see the header. */
#include "tests/unit/serve_fixture.h"

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #cond, strerror(errno));        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void start_server(struct fixture *f)
{
    char err[512] = "";

    f->opt.directory = f->export;
    f->opt.key_file = f->key;
    if (server_start(&f->opt, &f->srv, err, sizeof(err)) != 0) {
        fprintf(stderr, "server_start: %s\n", err);
        abort();
    }
    raw_open(&f->raw, server_port(f->srv), 0);
    MUST(raw_mount(&f->raw, f->export, &f->root) == 0);
}

void fixture_start(struct fixture *f, const struct server_options *opt)
{
    const char *base = getenv("SERVE_TEST_DIR");
    char outside[128];

    memset(f, 0, sizeof(*f));
    if (opt)
        f->opt = *opt;
    f->opt.no_fsync = true;
    snprintf(f->dir, sizeof(f->dir), "%s/serve-test.XXXXXX", base ? base : "/tmp");
    MUST(mkdtemp(f->dir));
    snprintf(f->export, sizeof(f->export), "%s/export", f->dir);
    snprintf(outside, sizeof(outside), "%s/outside", f->dir);
    snprintf(f->key, sizeof(f->key), "%s/key", f->dir);
    MUST(chmod(f->dir, 0755) == 0);
    MUST(mkdir(f->export, 0755) == 0 && mkdir(outside, 0755) == 0);
    start_server(f);
}

void fixture_restart(struct fixture *f)
{
    raw_close(&f->raw);
    MUST(server_stop(f->srv) == 0);
    start_server(f);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

void fixture_stop(struct fixture *f)
{
    raw_close(&f->raw);
    MUST(server_stop(f->srv) == 0);
    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fixture_command(struct fixture *f, const char *line)
{
    static char answer[8192];
    FILE *out = fmemopen(answer, sizeof(answer), "w");

    MUST(out);
    bool ok = server_command(f->srv, line, out);
    fclose(out);
    if (!ok) {
        fprintf(stderr, "command '%s': %s\n", line, answer);
        abort();
    }
    return answer;
}

unsigned fixture_fired(struct fixture *f, unsigned id)
{
    const char *list = fixture_command(f, "list");
    unsigned got, fired;

    for (const char *line = list; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (sscanf(line, "%u fired=%u", &got, &fired) == 2 && got == id)
            return fired;
    }
    abort();
}

const char *fixture_path(const struct fixture *f, const char *name)
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/%s", f->export, name);
    return path;
}

void fixture_put(const struct fixture *f, const char *name, const char *content)
{
    FILE *file = fopen(fixture_path(f, name), "w");

    MUST(file && fputs(content, file) >= 0 && fclose(file) == 0);
}

const char *fixture_get(const struct fixture *f, const char *name)
{
    static char content[65536];
    FILE *file = fopen(fixture_path(f, name), "r");

    if (!file)
        return NULL;
    size_t n = fread(content, 1, sizeof(content) - 1, file);
    content[n] = '\0';
    fclose(file);
    return content;
}

struct fh file_with(struct fixture *f, const char *name)
{
    struct fh fh;

    MUST(raw_create(&f->raw, &f->root, name, &fh) == E_OK);
    return fh;
}

void expect_content(struct fixture *f, const struct fh *fh, uint64_t off, const void *want,
                    uint32_t len)
{
    uint8_t *got = malloc(len + 1);
    uint32_t n;

    MUST(got && raw_read(&f->raw, fh, off, got, len, &n, NULL) == E_OK);
    MUST(n == len);
    MUST(memcmp(got, want, len) == 0);
    free(got);
}

void wait_for_tick(void)
{
    struct timespec before, now;

    clock_gettime(CLOCK_REALTIME_COARSE, &before);
    do
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
    while (now.tv_sec == before.tv_sec && now.tv_nsec == before.tv_nsec);
}
