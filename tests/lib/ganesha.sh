# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# nfs-ganesha for a script, in namespaces of the script's own. Source it, then:
#
#   ganesha_namespace SCRIPT ARGUMENT...   runs the script again inside; returns when it is inside
#   ganesha_begin SCRATCH EXPORT           rpcbind, configuration; sets $port $mountport
#   ganesha_start                          returns when it listens; sets $ganesha
#   ganesha_kill                           as a power failure would: SIGKILL, connections reset
#
# Why namespaces: ganesha insists on an rpcbind, which there can be only one of on a host, and which
# a test must not leave behind. When the script ends, all processes, mounts and sockets in there end
# with it.

# Everything of the script before this call runs twice: first outside, then inside.
ganesha_namespace() {
    local script=$1
    shift
    [ "${NFSCACHED_INSIDE-}" != "$script" ] || return 0
    [ "$(id -u)" = 0 ] || {
        echo "${script##*/}: needs root" >&2
        exit 1
    }
    command -v ganesha.nfsd rpcbind >/dev/null || {
        echo "SKIP ${script##*/}: nfs-ganesha is not installed (tools/install-deps check)" >&2
        exit 77
    }
    NFSCACHED_SCRATCH=$(mktemp -d) || exit 1
    trap 'rm -rf "$NFSCACHED_SCRATCH"' EXIT
    export NFSCACHED_SCRATCH NFSCACHED_INSIDE=$script
    unshare --net --mount --pid --fork --kill-child --mount-proc bash "$script" "$@"
    exit $?
}

ganesha_begin() {
    ganesha_scratch=$1
    port=32049
    mountport=32048
    ip link set lo up || return 1
    # getaddrinfo (AI_ADDRCONFIG) gives no address to a host that has only 127.0.0.1.
    ip addr add 192.0.2.1/32 dev lo
    mount -t tmpfs tmpfs /run && mkdir -p /run/rpcbind && rpcbind -w || return 1
    cat >"$ganesha_scratch/ganesha.conf" <<END
NFS_CORE_PARAM { NFS_Port = $port; MNT_Port = $mountport; Protocols = 3; Enable_NLM = false;
    Enable_RQUOTA = false; Enable_UDP = false; }
NFSv4 { Graceless = true; }
EXPORT_DEFAULTS { Attr_Expiration_Time = 0; }
EXPORT { Export_Id = 1; Path = $2; Pseudo = /e; Access_Type = RW; Squash = No_Root_Squash;
    Protocols = 3; Transports = TCP; SecType = sys; FSAL { Name = VFS; } }
LOG { Default_Log_Level = WARN; }
END
}

ganesha_start() {
    ganesha.nfsd -F -L "$ganesha_scratch/ganesha.log" -f "$ganesha_scratch/ganesha.conf" \
        -p "$ganesha_scratch/ganesha.pid" &
    ganesha=$!
    for _ in $(seq 100); do
        ss -Hltn "sport = :$port" | grep -q . && return 0
        kill -0 $ganesha 2>/dev/null || break
        sleep 0.1
    done
    echo "nfs-ganesha did not start: $(tail -1 "$ganesha_scratch/ganesha.log")" >&2
    return 1
}

ganesha_kill() {
    kill -KILL "$ganesha" 2>/dev/null
    # Not `wait`: whoever kills it may not be the shell that started it.
    while grep -qs '^State:.[^ZX]' "/proc/$ganesha/status"; do sleep 0.05; done
    rm -f "$ganesha_scratch/ganesha.pid"
}
