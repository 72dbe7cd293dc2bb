// SPDX-License-Identifier: Apache-2.0
/*
 * `nfscached fault`: say one or more commands to a running server's control socket, print what it
 * answers. Exit status as in daemon/verbs.h; EXIT_FAILED when one was refused or the server cannot
 * be reached.
 */
#include <errno.h>
#include <popt.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/serve/serve.h"
#include "daemon/verbs.h"

static FILE *control_connect(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    FILE *stream;
    int fd;

    if (strlen(path) >= sizeof(addr.sun_path)) {
        verb_fail(0, "'%s': path longer than %zu bytes", path, sizeof(addr.sun_path) - 1);
        return NULL;
    }
    strcpy(addr.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
        !(stream = fdopen(fd, "r+"))) {
        verb_fail(0, "control socket '%s': %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    return stream;
}

/* Send LINE, print the answer up to its last line. Whether that was "ok". */
static bool command(FILE *stream, const char *line)
{
    char *answer = NULL;
    size_t size = 0;
    bool ok = false, ended = false;

    fprintf(stream, "%s\n", line);
    fflush(stream);
    while (!ended && getline(&answer, &size, stream) > 0) {
        ok = strcmp(answer, "ok\n") == 0;
        bool error = strncmp(answer, "error: ", 7) == 0;
        ended = ok || error;
        if (error)
            verb_fail(0, "%.*s", (int)strcspn(answer + 7, "\n"), answer + 7);
        else if (!ok)
            fputs(answer, stdout);
    }
    if (!ended)
        verb_fail(0, "the server closed the connection");
    free(answer);
    return ok;
}

/* Whether the word takes the next one, a number, as its argument. */
static bool takes_number(const char *word, const char *next)
{
    return next && (strcasecmp(word, "clear") == 0 || strcasecmp(word, "reboot") == 0) && *next &&
           next[strspn(next, "0123456789")] == '\0';
}

int verb_fault(int argc, const char **argv)
{
    char *control = NULL;
    const struct poptOption options[] = {
        {"control", 0, POPT_ARG_STRING, &control, 0, "the server's control socket", "PATH"},
        POPT_AUTOHELP POPT_TABLEEND};
    const char *word;
    FILE *stream = NULL;
    int status = EXIT_USAGE;
    poptContext context = verb_options(argc, argv, options,
                                       "--control PATH SPEC|clear [ID]|list|reboot [MS]|pause|"
                                       "resume|disconnect|commit|stats ...");

    if (!context) {
        free(control);
        return EXIT_USAGE;
    }
    if (!control || !poptPeekArg(context)) {
        verb_fail(0, "want --control PATH and a command; see nfscached fault --help");
    } else if (!(stream = control_connect(control))) {
        status = EXIT_FAILED;
    } else {
        status = EXIT_OK;
        while ((word = poptGetArg(context))) {
            char line[4096];
            const char *next = poptPeekArg(context);
            bool pair = takes_number(word, next);
            snprintf(line, sizeof(line), "%s%s%s", word, pair ? " " : "", pair ? next : "");
            if (pair)
                poptGetArg(context);
            if (!command(stream, line))
                status = EXIT_FAILED;
        }
        fclose(stream);
    }
    poptFreeContext(context);
    free(control);
    return status;
}
