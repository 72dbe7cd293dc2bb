# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: Apache-2.0
#
# Servers and mounts for the black-box tests. To be sourced by a script that has set `build` (the
# build folder). Everything lives in private namespaces (mounts, network, processes), entered by
# env_enter: nothing outside is seen or touched, ports cannot clash, nfs-ganesha gets an rpcbind of its
# own, and whatever a test leaves behind ends with the script.
#
#   env_enter "$0" "$@"         re-executes the script inside; returns when already there
#   env_begin                   makes $T, the scratch directory, and sets the traps
#   server_start                starts $SERVER (embedded or ganesha) on $EXPORT; sets $PORT, $REMOTE
#   server_stop, server_kill9, server_restart [SECONDS DOWN]
#   server_say LINE             a line of the control socket's language (embedded)
#   mount_start NAME [OPTIONS]  mounts at $T/NAME in the foreground of a job of ours
#   mount_stop NAME             by the umount command: everything dirty must reach the server
#   mount_abort NAME            by force
#
# Functions return non-zero after a line on stderr.

NFSCACHED=${NFSCACHED:-$build/daemon/nfscached}
SERVER=${SERVER:-embedded}
GANESHA_LIB=$(echo /usr/lib/*/ganesha)

say() { printf '%s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }

env_enter() {
    [ "${NFSCACHED_TEST_INSIDE-}" != 1 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        complain "SKIP: the mount tests need root"
        exit 77
    fi
    if ! unshare --mount --net --pid --fork --kill-child --mount-proc true 2>/dev/null; then
        complain "SKIP: the mount tests need private namespaces (unshare --mount --net --pid)"
        exit 77
    fi
    [ -c /dev/fuse ] || modprobe fuse 2>/dev/null
    if [ ! -c /dev/fuse ]; then
        complain "SKIP: no /dev/fuse"
        exit 77
    fi
    NFSCACHED_TEST_INSIDE=1 exec unshare --mount --net --pid --fork --kill-child --mount-proc \
        --propagation private -- bash "$@"
}

env_begin() {
    T=$(mktemp -d "${TMPDIR:-/tmp}/nfscached-test.XXXXXX") || exit 2
    chmod 755 "$T"
    declare -gA mount_pid=()
    server_pid=''
    rpcbind_pid=''
    # The second address: getaddrinfo, as ganesha calls it, finds nothing on a host with only a loopback one.
    ip link set lo up && ip addr add 192.0.2.1/32 dev lo || complain "no loopback in the namespace"
    mount -t tmpfs none /run
    mkdir -p /run/rpcbind /run/ganesha /run/lock
    mountpoint -q /sys/fs/fuse/connections || mount -t fusectl none /sys/fs/fuse/connections
    EXPORT=$T/export
    mkdir -m 777 "$EXPORT"
    CONTROL=$T/control
    env_owner=$BASHPID
    trap env_end EXIT
    trap 'exit 130' INT TERM
}

env_end() {
    local rc=$? name
    trap - EXIT INT TERM
    # A signal that meets a new subshell before it has dropped the traps must not clean up for all.
    [ "$BASHPID" = "$env_owner" ] || exit $rc
    for name in "${!mount_pid[@]}"; do mount_abort "$name"; done
    [ -z "$server_pid" ] || kill -KILL "$server_pid" 2>/dev/null
    [ -z "$rpcbind_pid" ] || kill -KILL "$rpcbind_pid" 2>/dev/null
    wait 2>/dev/null
    if [ -n "${KEEP-}" ]; then
        say "kept: $T"
    else
        rm -rf --one-file-system "$T"
    fi
    exit $rc
}

# wait_for SECONDS COMMAND...: until it succeeds
wait_for() {
    local until=$((${EPOCHREALTIME/./} + $1 * 1000000))
    shift
    until "$@" 2>/dev/null; do
        [ ${EPOCHREALTIME/./} -lt $until ] || return 1
        sleep 0.05
    done
}

said_or_gone() { [ -s "$1" ] || gone "$2"; }

gone() { ! kill -0 "$1" 2>/dev/null; }

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# ---- the server --------------------------------------------------------------------------------

# SERVE_OPTIONS: more arguments for the embedded one.
server_start() {
    "server_$SERVER" || return
    # shellcheck disable=SC2034
    REMOTE=127.0.0.1:$EXPORT
    URL="nfs://127.0.0.1$EXPORT?nfsport=$PORT&mountport=$MOUNT_PORT"
}

server_embedded() {
    rm -f "$T/port"
    "$NFSCACHED" serve --port "${PORT:-0}" --port-file "$T/port" --control "$CONTROL" --key-file "$T/key" \
        ${SERVE_OPTIONS-} "$EXPORT" >>"$T/server.log" 2>&1 &
    server_pid=$!
    wait_for 15 said_or_gone "$T/port" "$server_pid" && [ -s "$T/port" ] || {
        complain "the embedded server did not start: $(tail -3 "$T/server.log")"
        return 1
    }
    PORT=$(cat "$T/port") MOUNT_PORT=$PORT
}

server_ganesha() {
    if [ ! -x /usr/bin/ganesha.nfsd ] || [ ! -e "$GANESHA_LIB/libfsalvfs.so" ] || [ ! -x /usr/sbin/rpcbind ]; then
        complain "SKIP: needs the packages nfs-ganesha-vfs and rpcbind"
        return 77
    fi
    # NFSv3 without a registration at rpcbind is not to be had from ganesha.
    if [ -z "$rpcbind_pid" ]; then
        rpcbind -w -f >>"$T/server.log" 2>&1 &
        rpcbind_pid=$!
        wait_for 10 listening 111 || {
            complain "rpcbind did not start"
            return 1
        }
    fi
    PORT=2049 MOUNT_PORT=20048
    # Newer ones want CAP_SYS_RESOURCE, or to be told that they need not have it; older ones do not know
    # the word. And they keep a name for a file that was replaced behind their back.
    local core="" cache=""
    if grep -qs Allow_Set_Io_Flusher_Fail /usr/lib/ganesha/libganesha_nfsd.so; then
        core="Allow_Set_Io_Flusher_Fail = true;" cache="MDCACHE { Dir_Chunk = 0; }"
    fi
    cat >"$T/ganesha.conf" <<END
NFS_Core_Param {
    NFS_Protocols = 3; NFS_Port = $PORT; MNT_Port = $MOUNT_PORT; Bind_addr = 127.0.0.1;
    Enable_NLM = false; Enable_RQUOTA = false; mount_path_pseudo = false; Plugins_Dir = $GANESHA_LIB; $core
}
NFS_KRB5 { Active_krb5 = false; }
NFSv4 { RecoveryBackend = fs; RecoveryRoot = $T/recovery; Graceless = true; }
EXPORT {
    Export_Id = 77; Path = $EXPORT; Pseudo = /export; Protocols = 3; Transports = TCP;
    Access_Type = RW; Squash = ${GANESHA_SQUASH:-None}; SecType = sys; MaxRead = 1048576; MaxWrite = 1048576;
    # Files are also changed behind its back, in the directory.
    Attr_Expiration_Time = 0;
    FSAL { Name = VFS; }
}
$cache
LOG { Default_Log_Level = EVENT; }
END
    mkdir -p "$T/recovery"
    ganesha.nfsd -F -f "$T/ganesha.conf" -L "$T/ganesha.log" -p "$T/ganesha.pid" >>"$T/server.log" 2>&1 &
    server_pid=$!
    wait_for 20 listening $PORT && wait_for 20 listening $MOUNT_PORT || {
        complain "nfs-ganesha did not start: $(tail -3 "$T/ganesha.log")"
        return 1
    }
}

server_stop() {
    [ -n "$server_pid" ] || return 0
    kill "$server_pid" 2>/dev/null
    wait_for 15 gone "$server_pid" || kill -KILL "$server_pid" 2>/dev/null
    wait "$server_pid" 2>/dev/null
    server_pid=''
}

server_kill9() {
    kill -KILL "$server_pid"
    wait "$server_pid" 2>/dev/null
    server_pid=''
}

# The write verifier of ganesha is its start time in seconds: a pause of 1 s gives a new one.
server_restart() {
    server_kill9
    sleep "${1:-1}"
    server_start
}

server_say() { "$NFSCACHED" fault --control "$CONTROL" "$@"; }

# ---- mounts ------------------------------------------------------------------------------------

mounted() { grep -qF " $1 " /proc/self/mounts; }
mounted_or_gone() { mounted "$1" || gone "$2"; }

mount_start() {
    local name=$1 options=${2-} dir=$T/$1
    mkdir -p "$dir"
    "$NFSCACHED" mount -f -o "port=$PORT,mountport=$MOUNT_PORT,allow_other${options:+,$options}${EVERY_MOUNT:+,$EVERY_MOUNT}" "$REMOTE" \
        "$dir" >>"$T/mount-$name.log" 2>&1 &
    mount_pid[$name]=$!
    wait_for 15 mounted_or_gone "$dir" "${mount_pid[$name]}" && mounted "$dir" && timeout 15 stat "$dir" >/dev/null || {
        complain "mount $name: $(tail -5 "$T/mount-$name.log")"
        mount_abort "$name"
        return 1
    }
}

mount_stop() {
    local name=$1 dir=$T/$1 rc=0 pid=${mount_pid[$1]}
    timeout 60 "$NFSCACHED" umount "$dir" || rc=1
    if [ $rc = 0 ] && mounted "$dir"; then
        complain "umount $name: said 0, still mounted"
        rc=1
    fi
    if [ $rc = 0 ]; then
        wait_for 10 gone "$pid" || {
            complain "umount $name: the daemon stays"
            rc=1
        }
    fi
    mount_abort "$name"
    return $rc
}

# The device number of a mount, without asking the file system, which may be hung.
mount_device() {
    awk -v m="$1" '$5 == m { split($3, d, ":"); print d[2] }' /proc/self/mountinfo
}

mount_abort() {
    local name=$1 dir=$T/$1 pid=${mount_pid[$1]-} n
    for n in $(mount_device "$dir"); do
        echo 1 >"/sys/fs/fuse/connections/$n/abort" 2>/dev/null
        umount -l "$dir"
    done
    if [ -n "$pid" ]; then
        wait_for 2 gone "$pid" || kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    fi
    unset "mount_pid[$name]"
}
