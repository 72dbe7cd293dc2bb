// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached serve`: command line, then wait for a signal. SIGTERM and SIGINT end it in order: what
 * is uncommitted is committed. Exit status as in daemon/verbs.h; EXIT_FAILED also when data could
 * not be committed at the end.
 */
#include <errno.h>
#include <popt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "daemon/serve/serve.h"
#include "daemon/verbs.h"

struct command_line {
    struct server_options opt;
    int port, threads;
    int uncommitted_mib;
    int read_only, verbose, write_through, no_drc, no_fsync, path_handles, stats;
    char *bind, *control, *key_file, *port_file;
    char **faults;
};

static bool parse(struct command_line *cl, poptContext *context, int argc, const char **argv)
{
    const struct poptOption options[] = {
        {"port", 'p', POPT_ARG_INT, &cl->port, 0, "listen on TCP port N; 0, the default: any", "N"},
        {"bind", 0, POPT_ARG_STRING, &cl->bind, 0, "listen on this address (default 127.0.0.1)",
         "ADDR"},
        {"port-file", 0, POPT_ARG_STRING, &cl->port_file, 0,
         "write the port number to FILE when ready", "FILE"},
        {"fault", 0, POPT_ARG_ARGV, &cl->faults, 0,
         "commit this fault, see nfscached-fault(1); may be repeated", "SPEC"},
        {"control", 0, POPT_ARG_STRING, &cl->control, 0,
         "listen for `nfscached fault` on this socket", "PATH"},
        {"read-only", 'r', POPT_ARG_NONE, &cl->read_only, 0, "refuse every change", NULL},
        {"write-through", 0, POPT_ARG_NONE, &cl->write_through, 0,
         "put UNSTABLE data into the directory at once", NULL},
        {"uncommitted", 0, POPT_ARG_INT, &cl->uncommitted_mib, 0,
         "keep at most N MiB apart from the directory (default 1024)", "N"},
        {"no-drc", 0, POPT_ARG_NONE, &cl->no_drc, 0, "keep no duplicate request cache", NULL},
        {"no-fsync", 0, POPT_ARG_NONE, &cl->no_fsync, 0,
         "do not wait for the disk in COMMIT and stable WRITE", NULL},
        {"path-handles", 0, POPT_ARG_NONE, &cl->path_handles, 0,
         "make file handles as an unprivileged server does", NULL},
        {"key-file", 0, POPT_ARG_STRING, &cl->key_file, 0, "keep the key of file handles in FILE",
         "FILE"},
        {"threads", 0, POPT_ARG_INT, &cl->threads, 0, "use N threads", "N"},
        {"verbose", 'v', POPT_ARG_NONE, &cl->verbose, 0, "print each call to stderr", NULL},
        {"stats", 0, POPT_ARG_NONE, &cl->stats, 0, "print counts of calls at the end", NULL},
        POPT_AUTOHELP POPT_TABLEEND};

    *context = verb_options(argc, argv, options, "[OPTION...] DIRECTORY");
    if (!*context)
        return false;
    cl->opt.directory = poptGetArg(*context);
    if (!cl->opt.directory || poptPeekArg(*context))
        return verb_fail(0, "want one DIRECTORY; see nfscached serve --help");
    if (cl->port < 0 || cl->port > 65535)
        return verb_fail(0, "port '%d': want 0 to 65535", cl->port);
    if (cl->threads < 0 || cl->threads > 256)
        return verb_fail(0, "threads '%d': want 1 to 256", cl->threads);
    if (cl->uncommitted_mib < 0)
        return verb_fail(0, "uncommitted '%d': want MiB, at least 1", cl->uncommitted_mib);
    cl->opt.bind = cl->bind;
    cl->opt.control = cl->control;
    cl->opt.key_file = cl->key_file;
    cl->opt.port = (uint16_t)cl->port;
    cl->opt.threads = (unsigned)cl->threads;
    cl->opt.uncommitted_max = (size_t)cl->uncommitted_mib << 20;
    cl->opt.read_only = cl->read_only;
    cl->opt.verbose = cl->verbose;
    cl->opt.write_through = cl->write_through;
    cl->opt.no_drc = cl->no_drc;
    cl->opt.no_fsync = cl->no_fsync;
    cl->opt.path_handles = cl->path_handles;
    return true;
}

static bool add_faults(struct server *srv, char **faults)
{
    for (; faults && *faults; faults++) {
        char *text = NULL, line[4200];
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);

        snprintf(line, sizeof(line), "add %s", *faults);
        bool ok = out && server_command(srv, line, out);
        if (out)
            fclose(out);
        if (!ok)
            fprintf(stderr, "nfscached serve: --fault %s: %s", *faults,
                    text ? text : "no memory\n");
        free(text);
        if (!ok)
            return false;
    }
    return true;
}

/* Written beside and renamed: who sees the file sees the whole number. */
static bool write_port_file(const char *path, uint16_t port)
{
    char temp[4096];
    FILE *file;

    snprintf(temp, sizeof(temp), "%s.new", path);
    file = fopen(temp, "w");
    if (!file || fprintf(file, "%u\n", port) < 0 || fclose(file) != 0 || rename(temp, path) != 0) {
        verb_fail(0, "port file '%s': %s", path, strerror(errno));
        return false;
    }
    return true;
}

static int serve(struct command_line *cl, const sigset_t *signals)
{
    const char *shown = cl->opt.bind ? cl->opt.bind : "127.0.0.1";
    struct server *srv;
    char err[512] = "";
    int sig, status = EXIT_OK;

    if (server_start(&cl->opt, &srv, err, sizeof(err)) != 0)
        return verb_fail(EXIT_FAILED, "%s", err);
    if (!add_faults(srv, cl->faults)) {
        server_stop(srv);
        return EXIT_USAGE;
    }
    bool v6 = strchr(shown, ':') != NULL;
    printf("listening on %s%s%s:%u, export %s\n", v6 ? "[" : "", shown, v6 ? "]" : "",
           server_port(srv), server_directory(srv));
    fflush(stdout);
    if (cl->port_file && !write_port_file(cl->port_file, server_port(srv)))
        status = EXIT_FAILED;
    else
        sigwait(signals, &sig);
    if (cl->stats)
        server_print_stats(srv, stderr);
    int rc = server_stop(srv);
    if (rc != 0)
        status = verb_fail(EXIT_FAILED, "not all data could be committed: %s", strerror(-rc));
    return status;
}

int verb_serve(int argc, const char **argv)
{
    struct command_line cl = {0};
    poptContext context = NULL;
    struct rlimit files;
    sigset_t signals;
    int status = EXIT_USAGE;

    /* Before any thread exists, so that all inherit it. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (parse(&cl, &context, argc, argv))
        status = serve(&cl, &signals);
    poptFreeContext(context);
    free(cl.bind);
    free(cl.control);
    free(cl.key_file);
    free(cl.port_file);
    return status;
}
