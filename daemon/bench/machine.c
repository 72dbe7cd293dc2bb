// SPDX-License-Identifier: Apache-2.0
/* What a result was measured on. No host name: figures are shared, names need not be. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fuse_lowlevel.h>
#include <gnu/libc-version.h>

#include "daemon/bench/result.h"

/* The value after "KEY...: " in a file of such lines; "" if there is none. */
static void line_of(const char *path, const char *key, char *out, size_t size)
{
    FILE *f = fopen(path, "re");
    char line[512];

    *out = 0;
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) != 0 || !colon)
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        colon[strcspn(colon, "\n")] = 0;
        snprintf(out, size, "%s", colon);
        break;
    }
    if (f)
        fclose(f);
}

static void first_line(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "re");

    if (!f || !fgets(out, (int)size, f))
        *out = 0;
    out[strcspn(out, "\n")] = 0;
    if (f)
        fclose(f);
}

static double load_average(void)
{
    double load[1] = {0};
    return getloadavg(load, 1) == 1 ? load[0] : 0;
}

json_t *machine_describe(void)
{
    struct utsname u = {0};
    char model[256], virtual[128], governor[64];
    json_t *o = json_object();

    uname(&u);
    line_of("/proc/cpuinfo", "model name", model, sizeof model);
    first_line("/sys/hypervisor/type", virtual, sizeof virtual);
    if (!*virtual) {
        char flags[8192];
        line_of("/proc/cpuinfo", "flags", flags, sizeof flags);
        snprintf(virtual, sizeof virtual, "%s", strstr(flags, " hypervisor") ? "yes" : "");
    }
    first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", governor, sizeof governor);
    json_object_set_new(o, "cpus", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    json_object_set_new(o, "cpu", json_string(*model ? model : u.machine));
    json_object_set_new(o, "virtual", json_string(*virtual ? virtual : "no"));
    json_object_set_new(o, "governor", json_string(governor));
    json_object_set_new(
        o, "memory_mib",
        json_integer((json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) >> 20));
    json_object_set_new(o, "page_size", json_integer(sysconf(_SC_PAGESIZE)));
    json_object_set_new(o, "kernel", json_pack("s++", u.sysname, " ", u.release));
    json_object_set_new(o, "architecture", json_string(u.machine));
    json_object_set_new(o, "load", json_real(load_average()));
    json_object_set_new(o, "nfscached", json_string(NFSCACHED_VERSION));
    json_object_set_new(o, "libfuse", json_string(fuse_pkgversion()));
    json_object_set_new(o, "libc", json_string(gnu_get_libc_version()));
    json_object_set_new(o, "compiler", json_string(__VERSION__));
    return o;
}
