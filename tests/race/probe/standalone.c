// SPDX-License-Identifier: Apache-2.0
/* The prober as a program of its own. */
#include "tests/race/probe/probe.h"

int main(int argc, char **argv)
{
    return probe_main(argc, (const char **)argv);
}
