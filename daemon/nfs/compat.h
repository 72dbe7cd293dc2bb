// SPDX-License-Identifier: Apache-2.0
/*
 * libnfs's XDR for NFSv3, whichever version of libnfs is installed.
 *
 * Only the types, constants and encoders of the protocol are used, whose names have stayed the same
 * from 4.0 to 6.x; its contexts and transport, which have not, are not. libnfs's headers are not
 * self-contained before 5.0, and its rpcgen output needs sys/types.h's u_int.
 */
#ifndef NFSCACHED_DAEMON_NFS_COMPAT_H
#define NFSCACHED_DAEMON_NFS_COMPAT_H

#include <stdint.h>
#include <sys/time.h>
#include <sys/types.h>

#include <nfsc/libnfs-zdr.h>

#include <nfsc/libnfs-raw-nfs.h>

#endif
