// SPDX-License-Identifier: Apache-2.0
/*
 * Programs that people wait for, on a tree of small source files. The tree is made once, outside of
 * the targets, with an archive of it; a program that is not installed skips its cell.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/bench/meta.h"

enum { PER_DIRECTORY = 20, COMPILED = 12 };

/* ---- running programs ------------------------------------------------------------------------ */

bool meta_is_installed(const char *program)
{
    const char *path = getenv("PATH");
    char full[PATH_MAX];

    for (const char *at = path; at && *at;) {
        size_t n = strcspn(at, ":");
        snprintf(full, sizeof full, "%.*s/%s", (int)n, at, program);
        if (access(full, X_OK) == 0)
            return true;
        at += n + (at[n] == ':');
    }
    return false;
}

/* Runs it in `dir` without input; its output goes nowhere. 0, or negative errno: -ECHILD when it
 * failed.
 */
int meta_run_program(const char *dir, const char *const *argv)
{
    int status = 0;

    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        /* Nothing of the user's own settings, and no look at directories above. */
        setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
        setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
        setenv("GIT_CEILING_DIRECTORIES", dir, 1);
        if (chdir(dir) == 0)
            execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
}

#define RUN(dir, ...) meta_run_program(dir, (const char *const[]){__VA_ARGS__, NULL})

/* The same, timed: the sample "seconds". */
static int timed(struct cell *c, const char *dir, const char *const *argv)
{
    uint64_t start = bench_now();
    int rc = meta_run_program(dir, argv);
    double us = bench_us_since(start);

    if (rc == -ECHILD)
        return cell_fail(c, "%s failed in %s", argv[0], dir);
    if (rc == 0)
        cell_sample(c, "seconds", "s", BETTER_LESS, us / 1e6);
    return rc;
}

#define TIMED(c, dir, ...) timed(c, dir, (const char *const[]){__VA_ARGS__, NULL})

/* ---- the material ------------------------------------------------------------------------------
 */

/* A function, and comment: 200 bytes to 8 KiB. */
static int write_source(const char *path, unsigned i)
{
    FILE *f = fopen(path, "we");

    if (!f)
        return -errno;
    fprintf(f, "int function_%u(int x);\n\nint function_%u(int x)\n{\n    return x * %u + 1;\n}\n",
            i, i, i);
    for (unsigned k = 0; k < i * 2654435761u % 120; k++)
        fprintf(f, "/* line %u of file %u, so that files differ in size */\n", k, i);
    return fclose(f) ? -errno : 0;
}

static int write_makefile(const char *dir)
{
    char path[PATH_MAX];
    target_path(dir, "Makefile", path);
    FILE *f = fopen(path, "we");

    if (!f)
        return -errno;
    fputs("all: program\n", f);
    fputs("program: main.o", f);
    for (unsigned i = 0; i < COMPILED; i++)
        fprintf(f, " d0/s%u.o", i);
    fputs("\n\tcc -o $@ $^\n%.o: %.c\n\tcc -O1 -c -o $@ $<\n", f);
    if (fclose(f))
        return -errno;
    target_path(dir, "main.c", path);
    f = fopen(path, "we");
    if (!f)
        return -errno;
    fputs("#include <stdio.h>\nint function_0(int x);\nint main(void)\n{\n    printf(\"%d\\n\", "
          "function_0(1));\n    return 0;\n}\n",
          f);
    return fclose(f) ? -errno : 0;
}

static int make_tree(const char *dir, unsigned files)
{
    char sub[PATH_MAX], path[PATH_MAX], name[32];
    int rc = mkdir(dir, 0777) < 0 ? -errno : write_makefile(dir);

    for (unsigned i = 0; rc == 0 && i < files; i++) {
        snprintf(name, sizeof name, "d%u", i / PER_DIRECTORY);
        target_path(dir, name, sub);
        if (i % PER_DIRECTORY == 0 && mkdir(sub, 0777) < 0)
            return -errno;
        snprintf(name, sizeof name, "s%u.c", i);
        target_path(sub, name, path);
        rc = write_source(path, i);
    }
    return rc;
}

/* o->material/tree and o->material/tree.tar */
static int material(struct meta_options *o)
{
    const char *tmp = getenv("TMPDIR");
    char tree[PATH_MAX];

    if (*o->material)
        return 0;
    snprintf(o->material, sizeof o->material, "%.200s/nfscached-bench.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(o->material)) {
        *o->material = 0;
        return -errno;
    }
    target_path(o->material, "tree", tree);
    int rc = make_tree(tree, o->tree);
    return rc ? rc : RUN(o->material, "tar", "cf", "tree.tar", "tree");
}

void meta_material_remove(struct meta_options *o)
{
    if (*o->material)
        remove_tree(o->material);
}

/* Skips unless all are there; then makes the material. 1 to go on, else what run() returns. */
static int ready(struct cell *c, struct meta_cell *mc, const char *const *programs)
{
    for (; *programs; programs++)
        if (!meta_is_installed(*programs)) {
            cell_skip(c, "the program %s is not installed", *programs);
            return 0;
        }
    int rc = material(mc->o);
    if (rc < 0)
        return cell_fail(c, "cannot make the tree of source files: %s", strerror(-rc));
    return 1;
}

#define READY(c, mc, ...)                                                                          \
    do {                                                                                           \
        int ready_rc = ready(c, mc, (const char *const[]){__VA_ARGS__, NULL});                     \
        if (ready_rc <= 0)                                                                         \
            return ready_rc;                                                                       \
    } while (0)

static const char *archive(const struct meta_cell *mc, char *path)
{
    target_path(mc->o->material, "tree.tar", path);
    return path;
}

static const char *tree_at(const char *dir, char *path)
{
    target_path(dir, "tree", path);
    return path;
}

/* ---- the works ------------------------------------------------------------------------------- */

static int run_untar(struct cell *c, struct meta_cell *mc)
{
    char tar[PATH_MAX];

    READY(c, mc, "tar");
    return TIMED(c, mc->dir, "tar", "xf", archive(mc, tar));
}

/* The tree there, by the other way if there is one: so that it is cold. */
static int unpack(const struct meta_cell *mc)
{
    char tar[PATH_MAX];
    return RUN(*mc->foreign ? mc->foreign : mc->dir, "tar", "xf", archive(mc, tar));
}

static int run_cp(struct cell *c, struct meta_cell *mc)
{
    READY(c, mc, "tar", "cp");
    int rc = unpack(mc);
    return rc ? rc : TIMED(c, mc->dir, "cp", "-r", "tree", "copy");
}

static int run_rm(struct cell *c, struct meta_cell *mc)
{
    READY(c, mc, "tar", "rm");
    int rc = unpack(mc);
    return rc ? rc : TIMED(c, mc->dir, "rm", "-r", "tree");
}

static int run_git_status(struct cell *c, struct meta_cell *mc)
{
    char tree[PATH_MAX];

    READY(c, mc, "tar", "git");
    tree_at(mc->dir, tree);
    int rc = unpack(mc);
    if (rc == 0)
        rc = RUN(tree, "git", "init", "-q");
    if (rc == 0)
        rc = RUN(tree, "git", "add", ".");
    if (rc == 0)
        rc = RUN(tree, "git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit",
                 "-qm", "tree");
    if (rc == 0)
        rc = RUN(tree, "git", "status");
    return rc ? rc : TIMED(c, tree, "git", "status");
}

static int run_compile(struct cell *c, struct meta_cell *mc)
{
    char tree[PATH_MAX];

    READY(c, mc, "tar", "make", "cc");
    int rc = unpack(mc);
    return rc ? rc : TIMED(c, tree_at(mc->dir, tree), "make", "-s");
}

const struct meta_work meta_programs[] = {
    {"untar", run_untar, NULL, NULL, NULL},
    {"cp-r", run_cp, NULL, NULL, NULL},
    {"git-status", run_git_status, NULL, NULL, NULL},
    {"compile", run_compile, NULL, NULL, NULL},
    {"rm-r", run_rm, NULL, NULL, NULL},
    {0},
};
