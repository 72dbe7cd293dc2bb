// SPDX-License-Identifier: Apache-2.0
/* Per-thread credentials; see the header. */
#include "daemon/serve/cred.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Thread_local bool can_switch;
static _Thread_local uint32_t current_fsuid;
static _Thread_local struct cred last; /* gid and groups that the thread has now */
static _Thread_local bool last_valid;

void serve_cred_thread_init(void)
{
    /* The umask belongs to fs_struct, which threads share until one leaves it. */
    if (unshare(CLONE_FS) == 0)
        umask(0);
    /* Root of a container may lack the privilege: then everything is done as it is. */
    gid_t groups[256];
    int count = getgroups(256, groups);
    can_switch = geteuid() == 0 && count >= 0 && syscall(SYS_setgroups, (size_t)count, groups) == 0;
    current_fsuid = geteuid();
    last_valid = false;
}

static int set_fsuid(uint32_t uid)
{
    syscall(SYS_setfsuid, uid);
    /* setfsuid(2) reports no error: an invalid id returns the current one. */
    if ((uint32_t)syscall(SYS_setfsuid, -1) != uid)
        return -EPERM;
    current_fsuid = uid;
    return 0;
}

int serve_cred_become(const struct cred *cred)
{
    if (!can_switch)
        return 0;
    if (!last_valid || last.gid != cred->gid || last.ngroups != cred->ngroups ||
        memcmp(last.groups, cred->groups, cred->ngroups * sizeof(cred->groups[0]))) {
        last_valid = false;
        if (syscall(SYS_setgroups, (size_t)cred->ngroups, cred->groups) != 0)
            return -EPERM;
        syscall(SYS_setfsgid, cred->gid);
        if ((uint32_t)syscall(SYS_setfsgid, -1) != cred->gid)
            return -EPERM;
        last = *cred;
        last_valid = true;
    }
    if (current_fsuid != cred->uid)
        return set_fsuid(cred->uid);
    return 0;
}

void serve_cred_become_server(void)
{
    if (can_switch && current_fsuid != 0)
        set_fsuid(0);
}
