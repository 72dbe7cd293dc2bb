#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nfs3_ganesha.sh BUILD TEST: the client's tests against nfs-ganesha, in private namespaces.
set -u -o pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
build=$1
SERVER=ganesha
# shellcheck source=tests/lib/env.sh
. "$here/../lib/env.sh"
env_enter "$(readlink -f "${BASH_SOURCE[0]}")" "$@"
env_begin
server_start || exit
NFS3_TEST_SERVER=127.0.0.1 NFS3_TEST_EXPORT=$EXPORT NFS3_TEST_PORT=$PORT NFS3_TEST_MOUNTPORT=$MOUNT_PORT \
    NFS3_TEST_RPCBIND=1 timeout 100 "$2"
