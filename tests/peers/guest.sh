# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the guests of uml/ and vm/ have in common: sourced by their process 1. Sets the environment
# that a script is promised (see uml/run), and starts Linux's NFS server and client.
#
# Expects: `fail MESSAGE`, `load MODULE...`.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C

guest_file_systems() {
    local d
    mkdir -p /dev/shm
    for d in /run /var/lib/nfs /dev/shm; do
        mount -t tmpfs -o mode=755 tmpfs $d || fail "cannot mount $d"
    done
    guest=/run/guest
    export EXPORT=$guest/export KERNEL=$guest/kernel TMPDIR=$guest/tmp
    export NFS=127.0.0.1:$EXPORT NFS_OPTIONS=port=2049,mountport=20048
    mkdir -p $EXPORT $KERNEL $TMPDIR /run/lock /run/rpcbind \
        /var/lib/nfs/{rpc_pipefs,v4recovery,sm,sm.bak,nfsdcltrack}
    touch /var/lib/nfs/{etab,rmtab,state}
}

guest_nfs() {
    local backing=$1
    load loop ext4 fuse sunrpc lockd nfsd nfs nfsv3 nfsv4
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -e /dev/loop0 ] && [ -e /dev/fuse ] && break
        sleep 0.1
    done
    mount -t fusectl fusectl /sys/fs/fuse/connections 2>/dev/null
    ip link set lo up || fail "no loopback"

    # ext4 has the times and the sync behaviour of a real server; it lives in the guest's memory.
    if [ "$backing" = ext4 ]; then
        truncate -s 1G $guest/image
        mkfs.ext4 -q -F -E nodiscard $guest/image && mount -o loop,noatime $guest/image $EXPORT ||
            fail "cannot make the exported file system"
    else
        mount -t tmpfs -o size=1G tmpfs $EXPORT
    fi
    chmod 1777 $EXPORT

    mount -t nfsd nfsd /proc/fs/nfsd || fail "this kernel has no NFS server"
    mount -t rpc_pipefs rpc /var/lib/nfs/rpc_pipefs
    echo 1 >/proc/fs/nfsd/nfsv4gracetime 2>/dev/null
    rpcbind -w
    exportfs -i -o rw,no_root_squash,insecure,fsid=0,no_subtree_check,async "*:$EXPORT"
    rpc.mountd -p 20048
    rpc.nfsd -V 3 -p 2049 8 || fail "knfsd does not start"
    mount -t nfs -o "vers=3,tcp,nolock,$NFS_OPTIONS" "$NFS" $KERNEL ||
        fail "the kernel's NFS client cannot mount"
}
