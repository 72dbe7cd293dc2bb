// SPDX-License-Identifier: Apache-2.0
/* `nfscached exports`: what a server exports, and to whom. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/loop.h"
#include "daemon/nfs/nfs3.h"
#include "daemon/verbs.h"

static bool parse_port(int port, const char *name)
{
    if (port >= 0 && port <= 65535)
        return true;
    verb_fail(0, "--%s=%d: expected a port, 0 to 65535", name, port);
    return false;
}

static int list(const char *server, int port)
{
    struct nfs3_options o = {
        .server = server, .mountport = port, .family = AF_UNSPEC, .resvport = NFS3_RESVPORT_TRY};
    struct nfs3_export *exports;
    char err[NFS3_ERROR_MAX] = "";

    int rc = nfs3_exports(&o, &exports, err, sizeof err);
    if (rc < 0)
        return verb_fail(EXIT_FAILED, "%s", *err ? err : strerror(-rc));
    for (struct nfs3_export *e = exports; e; e = e->next) {
        printf("%s\t", e->dir);
        if (!e->groups || !e->groups[0])
            fputs("(everybody)", stdout);
        for (char **g = e->groups; g && *g; g++)
            printf("%s%s", g == e->groups ? "" : ",", *g);
        putchar('\n');
    }
    nfs3_exports_free(exports);
    return EXIT_OK;
}

int verb_exports(int argc, const char **argv)
{
    int port = 0;
    const struct poptOption table[] = {{"mountport", 'p', POPT_ARG_INT, &port, 0,
                                        "the port of the MOUNT service (default: ask rpcbind)",
                                        "PORT"},
                                       POPT_AUTOHELP POPT_TABLEEND};

    poptContext context = verb_options(argc, argv, table, "[OPTION]... SERVER");
    if (!context)
        return EXIT_USAGE;
    const char *server = poptGetArg(context);
    int status = EXIT_USAGE;
    if (!server)
        verb_fail(0, "which SERVER?");
    else if (poptPeekArg(context))
        verb_fail(0, "one SERVER at a time: '%s' is one too many", poptPeekArg(context));
    else if (parse_port(port, "mountport"))
        status = list(server, port);
    poptFreeContext(context);
    return status;
}
