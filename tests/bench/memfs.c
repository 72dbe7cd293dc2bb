// SPDX-License-Identifier: Apache-2.0
/*
 * The in-memory file system of `nfscached bench limits` by itself, for tests that want a FUSE mount
 * which is right and simple: memfs MOUNTPOINT, in the foreground, until it is unmounted or killed.
 */
#include <stdio.h>

#include "daemon/bench/limit_cells.h"

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: memfs MOUNTPOINT\n");
        return 2;
    }
    return memfs_serve(argv[1]);
}
