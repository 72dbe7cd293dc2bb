// SPDX-License-Identifier: Apache-2.0
/*
 * The black-box prober: stresses a file system that is mounted anywhere, by any client, and says
 * which of the promises of a network file system it does not keep. How it works: run.h.
 */
#ifndef TESTS_RACE_PROBE_H
#define TESTS_RACE_PROBE_H

/* The command line of `probe`, argv[0] being its name. Returns the exit status: 0 nothing found, 1
 * something found, 2 usage or environment. Ends itself by the signal that interrupted it. */
int probe_main(int argc, const char **argv);

#endif
