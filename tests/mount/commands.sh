# shellcheck shell=bash disable=SC2154
# SPDX-License-Identifier: Apache-2.0
#
# The commands as a user types them: mount (by itself and by mount(8)), status, flush, resize, revalidate,
# umount, signals. Sourced by tests/mount/tests.sh.

# in_status NAME EXPRESSION: a Python expression over the status of a mount, named s; true, or printed
in_status() {
    timeout 10 "$NFSCACHED" status --json "$T/$1" >"$T/status" || return
    python3 -c 'import json, sys
s = json.load(open(sys.argv[1]))
v = eval(sys.argv[2])
if v is not True:
    print(sys.argv[2], "is", v, "in", json.dumps(s, indent=1))
    sys.exit(1)' "$T/status" "$2"
}

# A writer that closes nothing (each close writes back): holder_start NAME opens it in mount `a`;
# holder_write MIB writes so many random MiB there and to $T/data; holder_stop closes it.
holder_start() {
    : >"$T/data"
    coproc HOLDER {
        exec python3 -c 'import os, select, sys
f = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
copy = open(sys.argv[2], "wb", 0)
print("open", flush=True)
# A test that failed forgets it: it goes by itself.
while select.select([0], [], [], 20)[0]:
    line = os.read(0, 100)
    if not line:
        break
    for i in range(int(line)):
        block = os.urandom(1 << 20)
        copy.write(block)
        while block:
            block = block[os.write(f, block):]
    print("ready", flush=True)' "$T/a/$1" "$T/data"
    }
    # shellcheck disable=SC2153
    holder_pid=$HOLDER_PID
    local said
    read -r -t 20 said <&"${HOLDER[0]}" && [ "$said" = open ]
}
holder_write() {
    local said
    echo "$1" >&"${HOLDER[1]}" && read -r -t 60 said <&"${HOLDER[0]}" && [ "$said" = ready ]
}
holder_stop() {
    # shellcheck disable=SC1083
    eval "exec ${HOLDER[1]}>&-"
    wait "$holder_pid"
}

# command_pid MOUNTPOINT: of its daemon
command_pid() { timeout 10 "$NFSCACHED" status --json "$1" | sed -n 's/^  "pid": \([0-9]*\),$/\1/p'; }

test_command_background() {
    local pid
    server_start && mkdir -p "$T/a" || return
    # Its output ends with the command: nothing in the background holds it open.
    timeout 20 "$NFSCACHED" mount "nfs://127.0.0.1:$PORT$EXPORT" -o "mountport=$MOUNT_PORT" "$T/a" 2>&1 | cat
    [ "${PIPESTATUS[0]}" = 0 ] && mounted "$T/a" || return
    pid=$(command_pid "$T/a") && [ -n "$pid" ] || return
    holder_start file && holder_write 8 && holder_stop || return
    timeout 30 "$NFSCACHED" umount "$T/a" || return
    ! mounted "$T/a" && cmp "$T/data" "$EXPORT/file" || return
    # The daemon has ended when umount returns; only its parent may not have asked how.
    gone "$pid" || grep -q '^State:.Z' "/proc/$pid/status"
}

test_command_mount8() {
    server_start && mkdir -p "$T/a" || return
    (
        # mount(8) gives its helpers a PATH of its own; nobody outside sees this one.
        mount -t tmpfs none /usr/local/bin && ln -s "$NFSCACHED" /usr/local/bin/nfscached || exit
        timeout 20 mount -t fuse.nfscached "$REMOTE" "$T/a" -o "port=$PORT,mountport=$MOUNT_PORT,soft,x-mine,noexec" || exit
        grep -q "^$REMOTE $T/a fuse.nfscached rw,.*noexec" /proc/self/mounts || exit
        echo content >"$T/a/f" && timeout 30 umount "$T/a" || exit
        wait_for 10 test -s "$EXPORT/f" || exit
        echo "$REMOTE $T/a fuse.nfscached port=$PORT,mountport=$MOUNT_PORT,_netdev,ro 0 0" >"$T/fstab"
        timeout 20 mount -T "$T/fstab" "$T/a" || exit
        [ "$(cat "$T/a/f")" = content ] && ! touch "$T/a/g" 2>/dev/null || exit
        # What cannot be mounted is said, and is a failure of mount(8) too.
        ! timeout 20 mount -t fuse.nfscached "127.0.0.1:/none" "$T/a" -o "port=$PORT,mountport=$MOUNT_PORT,retry=0" 2>"$T/said" &&
            grep -q /none "$T/said" || exit
        timeout 30 "$NFSCACHED" umount "$T/a"
    )
    local rc=$?
    mountpoint -q /usr/local/bin && umount -l /usr/local/bin
    return $rc
}

test_command_mount_refused() {
    local o
    server_start && mkdir -p "$T/a" || return
    for o in vers=4 sec=krb5 proto=udp nonsense acregmin=x cache_size=1K; do
        timeout 10 "$NFSCACHED" mount -o "$o" "$REMOTE" "$T/a" 2>"$T/said" && return 1
        [ "$(wc -l <"$T/said")" = 1 ] && grep -q "${o%%=*}" "$T/said" || {
            echo "$o: $(cat "$T/said")"
            return 1
        }
    done
    # A server that is not there: at once with retry=0, in the background with bg.
    timeout 10 "$NFSCACHED" mount -o retry=0,port=1,mountport=1 "$REMOTE" "$T/a" 2>"$T/said"
    [ $? = 32 ] && grep -q refused "$T/said" || return
    ! mounted "$T/a"
}

test_command_mount_bg() {
    server_start && mkdir -p "$T/a" || return
    server_kill9
    timeout 10 "$NFSCACHED" mount -o "bg,port=$PORT,mountport=$MOUNT_PORT" "$REMOTE" "$T/a" 2>"$T/said" || return
    grep -q background "$T/said" && ! mounted "$T/a" || return
    server_start && wait_for 60 mounted "$T/a" && timeout 30 "$NFSCACHED" umount "$T/a"
}

# What only a person can mend is told at once, not promised to the background.
test_command_mount_bg_says_what_cannot_be() {
    local rc
    mkdir -p "$T/a" && timeout 10 "$NFSCACHED" mount -o bg,proto=tcp6 127.0.0.1:/x "$T/a" 2>"$T/said"
    rc=$?
    [ $rc = 32 ] && ! grep -q background "$T/said" || {
        echo "mount -o bg of an address of another family: $rc: $(cat "$T/said")"
        return 1
    }
}

test_command_status() {
    server_start && mount_start a || return
    head -c 4194304 /dev/urandom >"$EXPORT/r"
    cat "$T/a/r" >/dev/null && in_status a 's["rpc"]["READ"]["bytes_in"] >= 4194304 and s["cache"]["clean"] >= 1024' &&
        in_status a 's["responding"] and s["server"] == "127.0.0.1" and s["files"] == []' || return
    holder_start w && holder_write 2 || return
    in_status a '[(f["path"], f["bytes"], f["error"]) for f in s["files"]] == [("w", 2097152, None)]' || return
    in_status a 's["cache"]["dirty"] == 512 and s["cache"]["dirty_bytes"] == 2097152' || return
    holder_stop
    in_status a 's["writeback"]["bytes"] >= 2097152 and s["cache"]["dirty_bytes"] == 0 and s["files"] == []' || return
    in_status a 's["rpc"]["WRITE"]["p50_us"] > 0 and s["rpc"]["WRITE"]["p50_us"] <= s["rpc"]["WRITE"]["max_us"]' || return
    timeout 10 "$NFSCACHED" status | grep -q "^$T/a .*responding" || return
    # It is told while the server is away, and that it is.
    only_embedded >/dev/null || return 0
    server_say pause >/dev/null
    cat "$T/a/none" 2>/dev/null &
    timeout 10 "$NFSCACHED" status "$T/a" | grep -q '^server' || return
    server_say resume >/dev/null
    wait $!
    return 0
}

test_command_flush() {
    server_start && mount_start a || return
    # So little that it is not yet written behind the writer.
    holder_start file && holder_write 2 && ! cmp -s "$T/data" "$EXPORT/file" || return
    timeout 30 "$NFSCACHED" flush "$T/a/file" && cmp "$T/data" "$EXPORT/file" || return
    holder_write 1 && timeout 30 "$NFSCACHED" flush "$T/a" && cmp "$T/data" "$EXPORT/file" && holder_stop || return
    timeout 30 "$NFSCACHED" flush --drop "$T/a" >"$T/said" && grep -q '^[1-9][0-9]* pages dropped' "$T/said" || return
    cmp "$T/data" "$T/a/file" || return
    ! timeout 10 "$NFSCACHED" flush "$EXPORT/file" 2>/dev/null
}

# shmem_kib PID: memory of the cache's file that is mapped into a process
shmem_kib() { awk '/^RssShmem/ { print $2 }' "/proc/$1/status"; }

# memory_of NAME: what the cache of a mount takes, in MiB, and its daemon's shared memory
memory_of() {
    timeout 10 "$NFSCACHED" status --json "$T/$1" | python3 -c 'import json, sys
print(json.load(sys.stdin)["cache"]["memory"] >> 20, int(sys.argv[1]) >> 10)' "$(shmem_kib "${mount_pid[$1]}")"
}

test_command_resize() {
    local before after
    server_start && mount_start a cache_size=128M,dirty_limit=60M || return
    head -c 120M /dev/urandom >"$EXPORT/r" && cat "$T/a/r" >/dev/null || return
    before=$(memory_of a)
    timeout 20 "$NFSCACHED" resize "$T/a" 32M >"$T/said" || return
    after=$(memory_of a)
    echo "resize: from=128M to=32M, file and shared memory of the daemon, MiB: $before, then $after ok"
    [ "${before% *}" -ge 115 ] && [ "${after% *}" -le 36 ] && [ "${after#* }" -le 36 ] || return
    grep -q 'cache of 128.0 MiB now 32.0 MiB; [0-9]* pages moved' "$T/said" && grep -q 'dirty_limit is 28.8 MiB' "$T/said" || return
    in_status a 's["cache"]["size"] == 32 << 20 and s["cache"]["dirty_limit"] == (32 << 20) // 100 * 90 and s["cache"]["frames"] <= 8004' || return
    cmp "$T/a/r" "$EXPORT/r" || return
    timeout 20 "$NFSCACHED" resize --json "$T/a" 192M >"$T/said" || return
    python3 -c 'import json, sys
z = json.load(open(sys.argv[1]))
assert z["complete"] and z["was"] == 32 << 20 and z["size"] == 192 << 20 and z["dirty_limit"] == 60 << 20 and not z["limits_clamped"], z' "$T/said" || return
    # More fits now than when it was mounted.
    head -c 170M /dev/urandom >"$EXPORT/r" && touch -d '1 minute' "$EXPORT/r" && cat "$T/a/r" | cmp - "$EXPORT/r" || return
    in_status a 's["cache"]["pages"] >= 170 * 256 and s["cache"]["size"] == 192 << 20' || return
    for o in 1K 200% nonsense -5; do
        timeout 10 "$NFSCACHED" resize "$T/a" -- "$o" 2>"$T/said"
        [ $? = 1 ] && grep -q "'$o'" "$T/said" || return
    done
    timeout 10 "$NFSCACHED" resize "$EXPORT" 64M 2>"$T/said"
    [ $? = 1 ] && in_status a 's["cache"]["size"] == 192 << 20'
}

# While the server is away what is dirty cannot go: it is waited for, or it stays, and is told.
test_command_resize_dirty() {
    local pid
    only_embedded || return 77
    server_start && mount_start a cache_size=128M,dirty_background=50M || return
    holder_start file && server_say pause >/dev/null && holder_write 24 || return
    timeout 20 "$NFSCACHED" resize --timeout 1 "$T/a" 16M 2>"$T/said"
    [ $? = 32 ] && grep -q 'nothing moved for 1 s' "$T/said" || return
    in_status a '24 << 20 <= s["cache"]["size"] <= 32 << 20 and s["cache"]["dirty"] + s["cache"]["writeback"] == 24 * 256' || return
    "$NFSCACHED" resize --json "$T/a" 16M >"$T/said" 2>"$T/stopped" &
    pid=$!
    wait_for 10 in_status a 's["cache"]["dirty_limit"] < 8 << 20' || return
    timeout 5 "$NFSCACHED" resize "$T/a" 20M 2>"$T/refused"
    [ $? = 32 ] && grep -q 'another resize' "$T/refused" || return
    kill -TERM $pid
    wait $pid
    [ $? = 32 ] && grep -q '"complete": false' "$T/said" && grep -q 'stopped; left at 2' "$T/stopped" || return
    timeout 40 "$NFSCACHED" resize "$T/a" 16M >"$T/said" 2>&1 &
    pid=$!
    server_say resume >/dev/null
    wait $pid || return
    in_status a 's["cache"]["size"] == 16 << 20' && holder_stop && cmp "$T/data" "$EXPORT/file"
}

test_command_revalidate() {
    server_start && mount_start a actimeo=600,nocto || return
    echo one >"$EXPORT/f"
    [ "$(cat "$T/a/f")" = one ] || return
    sleep 1.1
    echo two >"$EXPORT/f"
    [ "$(cat "$T/a/f")" = one ] || {
        echo "nocto and actimeo=600 are without effect"
        return 1
    }
    timeout 10 "$NFSCACHED" revalidate "$T/a/f" && [ "$(cat "$T/a/f")" = two ] || return
    sleep 1.1
    echo six >"$EXPORT/f"
    timeout 10 "$NFSCACHED" revalidate "$T/a" && [ "$(cat "$T/a/f")" = six ]
}

# The server is away: umount says what is dirty, keeps it and the mount; later it succeeds.
test_command_umount_keeps_what_is_dirty() {
    local rc
    server_start && mount_start a timeo=10 || return
    holder_start file && server_kill9 && holder_write 3 || return
    timeout 60 "$NFSCACHED" umount --timeout 2 "$T/a" 2>"$T/said"
    rc=$?
    [ $rc = 32 ] && grep -q "^  dirty: $T/a/file: 3.0 MiB" "$T/said" && grep -q 'They are kept' "$T/said" &&
        mounted "$T/a" || {
        echo "umount without a server: $rc: $(cat "$T/said")"
        return 1
    }
    holder_write 1 && server_start && holder_stop && mount_stop a && cmp "$T/data" "$EXPORT/file"
}

test_command_umount_force_names_what_it_discards() {
    local rc pid n flushes=()
    server_start && mount_start a timeo=10 || return
    pid=${mount_pid[a]}
    holder_start lost && server_kill9 && holder_write 3 || return
    # Each leaves a job behind that waits for the server, as many as the daemon takes.
    for n in {1..16}; do timeout 30 "$NFSCACHED" flush --timeout 1 "$T/a" 2>/dev/null & flushes+=($!); done
    wait "${flushes[@]}"
    timeout 60 "$NFSCACHED" umount --timeout 1 "$T/a" 2>/dev/null && return 1
    # Its close waits for the server, until that is given up.
    kill -KILL "$holder_pid"
    timeout 60 "$NFSCACHED" umount --force --timeout 1 "$T/a" 2>"$T/said"
    rc=$?
    [ $rc = 0 ] && grep -q "^  discarding: $T/a/lost: 3.0 MiB" "$T/said" && ! mounted "$T/a" && wait_for 15 gone "$pid" || {
        echo "umount --force: $rc: $(cat "$T/said")"
        return 1
    }
    wait "$holder_pid"
    unset 'mount_pid[a]'
}

test_command_umount_busy() {
    server_start && mount_start a || return
    holder_start file && holder_write 1 || return
    timeout 30 "$NFSCACHED" umount "$T/a" 2>"$T/said"
    [ $? = 32 ] && mounted "$T/a" && grep -q "process $holder_pid .* uses $T/a/file" "$T/said" || {
        cat "$T/said"
        return 1
    }
    cmp "$T/data" "$EXPORT/file" || return
    # --lazy: out of sight at once, served until the last user is done.
    timeout 30 "$NFSCACHED" umount --lazy "$T/a" && ! mounted "$T/a" && ! gone "${mount_pid[a]}" || return
    holder_write 1 && holder_stop || return
    wait_for 20 gone "${mount_pid[a]}" && cmp "$T/data" "$EXPORT/file" && unset 'mount_pid[a]'
}

# SIGTERM: written back and unmounted, or out of sight while in use.
test_command_signal() {
    server_start && mount_start a || return
    holder_start file && holder_write 4 || return
    kill -TERM "${mount_pid[a]}"
    wait_for 10 eval '! mounted "$T/a"' && cmp "$T/data" "$EXPORT/file" && ! gone "${mount_pid[a]}" || return
    holder_write 1 && holder_stop && wait_for 20 gone "${mount_pid[a]}" && cmp "$T/data" "$EXPORT/file" &&
        unset 'mount_pid[a]'
}

# A copy of the mount in another namespace does not keep umount waiting.
# A daemon that was killed leaves its socket, and its device number goes to the next that mounts.
test_command_umount_of_another_file_system() {
    local rc socket
    mkdir -p "$T/broken" /run/nfscached
    "$bin/brokenfs" -f "$EXPORT" "$T/broken" >"$T/brokenfs.log" 2>&1 &
    mount_pid[broken]=$!
    wait_for 10 mounted "$T/broken" || return
    socket=/run/nfscached/$(awk -v m="$T/broken" '$5 == m { print $3 }' /proc/self/mountinfo).sock
    python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$socket" || return
    timeout 20 "$NFSCACHED" umount "$T/broken" >"$T/said" 2>&1
    rc=$?
    "$NFSCACHED" status >>"$T/said" 2>&1
    [ $rc = 1 ] && grep -q 'not of nfscached' "$T/said" && grep -q 'nothing is mounted' "$T/said" && mounted "$T/broken" || {
        echo "umount of a mount that is not ours: $rc: $(cat "$T/said")"
        return 1
    }
    rm "$socket"
    mount_abort broken
}
# A mount that was taken out of sight has no claim on what is mounted in its place since.
test_command_signal_when_another_has_the_place() {
    local old new
    server_start && mount_start a || return
    old=${mount_pid[a]}
    holder_start file && holder_write 2 || return
    timeout 30 "$NFSCACHED" umount --lazy "$T/a" && ! mounted "$T/a" || return
    timeout 15 "$NFSCACHED" mount -o "port=$PORT,mountport=$MOUNT_PORT" "$REMOTE" "$T/a" || return
    new=$(command_pid "$T/a")
    kill -TERM "$old"
    wait_for 10 grep -q 'not mounted there any more' "$T/mount-a.log" && [ "$(command_pid "$T/a")" = "$new" ] || {
        echo "the mount of $new did not survive the end of $old: $(tail -3 "$T/mount-a.log")"
        return 1
    }
    holder_write 1 && holder_stop && wait_for 20 gone "$old" && cmp "$T/data" "$EXPORT/file" || return
    mount_pid[a]=$new && mount_stop a
}
test_command_umount_with_a_copy_elsewhere() {
    local other
    server_start && mount_start a || return
    unshare --mount --propagation private sleep 60 &
    other=$!
    wait_for 10 grep -q "^sleep" "/proc/$other/comm" && holder_start file && holder_write 1 && holder_stop || return
    timeout 30 "$NFSCACHED" umount "$T/a" 2>"$T/said" && ! mounted "$T/a" && grep -q 'another mount namespace' "$T/said" &&
        ! gone "${mount_pid[a]}" && cmp "$T/data" "$EXPORT/file" || return
    kill $other
    wait $other
    wait_for 15 gone "${mount_pid[a]}" && unset 'mount_pid[a]'
}

# What a failed write left dirty goes out after a plain umount(8): the daemon ends no sooner.
test_command_plain_umount_writes_what_had_failed() {
    only_embedded || return 77
    server_start && mount_start a || return
    server_say WRITE,COMMIT:nospace >/dev/null
    holder_start file && holder_write 2 && holder_stop # its close fails, and Python does not care
    in_status a 's["cache"]["dirty_bytes"] == 2097152 and "No space" in s["files"][0]["error"]' || return
    timeout 30 umount "$T/a" || return
    ! gone "${mount_pid[a]}" && ! cmp -s "$T/data" "$EXPORT/file" || return
    server_say clear >/dev/null
    wait_for 30 gone "${mount_pid[a]}" && cmp "$T/data" "$EXPORT/file" && unset 'mount_pid[a]'
}
