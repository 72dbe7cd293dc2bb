# shellcheck shell=bash disable=SC2154,SC2034
# SPDX-License-Identifier: Apache-2.0
#
# The mount tests: a function test_NAME each, run in this order by tests/mount/run. A test starts its
# server and its mounts; what it leaves is unmounted (which must succeed) and stopped by the runner.
# Status 0 passed, 77 skipped after a line "SKIP: why", anything else failed.

only_embedded() {
    [ "$SERVER" = embedded ] && return 0
    echo "SKIP: needs the faults of the embedded server"
    return 1
}

# holds NAME EXPRESSION: in_status, to be waited for
holds() { in_status "$@" >/dev/null; }

revalidate() { echo "'$NFSCACHED' revalidate '$1' >/dev/null"; }

# ---- the tests themselves ------------------------------------------------------------------------

# broken OPTIONS STATUS COMMAND...: over a file system that is wrong, the command must end with STATUS
broken() {
    local options=$1 want=$2 rc
    shift 2
    mkdir -p "$T/broken"
    # shellcheck disable=SC2086
    "$bin/brokenfs" $options -f "$EXPORT" "$T/broken" >"$T/brokenfs.log" 2>&1 &
    mount_pid[broken]=$!
    wait_for 10 mounted "$T/broken" || return 1
    timeout -k 5 60 "$@" >"$T/finding" 2>&1
    rc=$?
    mount_abort broken
    find "$EXPORT" -mindepth 1 -delete
    [ $rc = "$want" ] && return
    cat "$T/finding"
    echo "brokenfs $options: $(basename "$1") ended with $rc, should be $want"
    return 1
}

# Each oracle finds nothing where nothing is wrong, and finds what is.
test_oracles_can_fail() {
    local b=$T/broken few=(--rounds 150 --seconds 8 --foreign "dir:$EXPORT" --classes mpf)
    [ "$SERVER" = embedded ] || {
        echo "SKIP: does not depend on the server"
        return 77
    }
    timeout 60 "$bin/mmap_oracle" --rounds 500 --foreign "dir:$EXPORT" "$EXPORT" || return 1
    timeout 60 "$bin/mmap_oracle" --rounds 200 --foreign "mount:$EXPORT" --server-path "$EXPORT" "$EXPORT" || return 1
    timeout 60 "$bin/fsx" --ops 20000 --verify-path "$EXPORT" "$EXPORT" || return 1
    broken "--lose 50" 1 "$bin/mmap_oracle" "${few[@]}" "$b" &&
        broken "--revert 50" 1 "$bin/mmap_oracle" "${few[@]}" "$b" &&
        broken "--tear 50" 1 "$bin/mmap_oracle" "${few[@]}" "$b" &&
        broken "--late 10" 1 "$bin/mmap_oracle" "${few[@]}" "$b" &&
        broken "--stale" 1 "$bin/mmap_oracle" "${few[@]}" "$b" &&
        broken "" 1 "$bin/mmap_oracle" "${few[@]}" --classes mpfhcx "$b" &&
        broken "--hang 20" 3 "$bin/mmap_oracle" "${few[@]}" --stall 2 "$b" &&
        broken "--lose 200" 1 "$bin/fsx" --ops 20000 --shrink-s 1 --save "$T/x" --verify-path "$EXPORT" "$b" &&
        broken "--size 7" 1 "$bin/fsx" --ops 20000 --shrink-s 1 --save "$T/x" --verify-path "$EXPORT" "$b" &&
        broken "--tear 200" 1 "$bin/fsx" --ops 20000 --shrink-s 1 --save "$T/x" --verify-path "$EXPORT" "$b" &&
        broken "--stale" 1 "$bin/fsx" --ops 20000 --shrink-s 1 --save "$T/x" --verify-path "$EXPORT" "$b" &&
        broken "--lose 100" 1 "$bin/workload" --seconds 2 --server-path "$EXPORT" "$b" &&
        broken "--stale" 1 "$bin/cto" --other "$EXPORT" same_size_rewrite "$b" &&
        broken "--lose 50" 1 "$bin/cto" --other "$EXPORT" appended_in_turn "$b" &&
        broken "" 1 "$bin/cto" --other "$EXPORT" mapped_bytes_of_one_page "$b" &&
        broken "--size 3" 1 "$bin/posix_basic" truncation "$b" &&
        broken "--eio" 1 "$bin/errors" --set true --clear true --errno ENOSPC --patience 1 --server-path "$EXPORT" "$b"
}

# The foreign client through libnfs, with nothing but the server in between.
test_foreign_client_alone() {
    server_start && timeout 60 "$bin/mmap_oracle" --rounds 300 --foreign "nfs:$URL" --server-path "$EXPORT" "$EXPORT"
}

# ---- consistency of mapped files -----------------------------------------------------------------

# oracle FOREIGN [ARGUMENTS]: the mmap oracle on mount `a`. Each time with another file: nfs-ganesha
# goes on answering a LOOKUP of a name with the file that had it, when that was removed in its directory.
oracles=0
oracle() {
    local foreign=$1 name=oracle.$((++oracles))
    shift
    timeout -k 5 900 "$bin/mmap_oracle" --foreign "$foreign" --server-path "$EXPORT" \
        --rounds "$(by_length 100 1500 30000)" --seconds "$(by_length 5 20 600)" \
        --name $name --revalidate-cmd "$(revalidate "$T/a/$name")" "$@" "$T/a"
}

test_mmap_against_server_directory() {
    server_start && mount_start a actimeo=1 && oracle "dir:$EXPORT" --timeout-s 2.5
}

test_mmap_against_libnfs() {
    server_start && mount_start a actimeo=1 && oracle "nfs:$URL" --timeout-s 2.5
}

test_mmap_against_another_mount() {
    server_start && mount_start a actimeo=1 && mount_start b actimeo=1 && oracle "mount:$T/b" --timeout-s 2.5
}

# Few pages and no pauses: every word is contested.
test_mmap_contended() {
    server_start && mount_start a actimeo=1 && oracle "dir:$EXPORT" --pages 4 --locals 4 --idle-us 20
}

# A budget far below the file's size: reclaim takes pages all the time.
test_mmap_under_reclaim() {
    server_start && mount_start a actimeo=1,cache_size=16M && oracle "dir:$EXPORT" --pages 8192 --freeze-every 100
}

# resize_often N: as many resizes of mount `a`, to sizes at random
resize_often() {
    exec timeout -k 5 900 python3 -c 'import json, random, subprocess, sys, time
program, mount, n, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
random.seed(seed)
start = time.time()
total = {"moved": 0, "evicted": 0, "returned": 0}
shrunk = 0
for i in range(n):
    size = random.randrange(16, 65)
    out = subprocess.run([program, "resize", "--json", mount, "%dM" % size], stdout=subprocess.PIPE, check=True, timeout=60)
    r = json.loads(out.stdout)
    assert r["complete"] and r["size"] == size << 20, r
    shrunk += r["size"] < r["was"]
    for k in total:
        total[k] += r[k]
print("resizes: seed=%d n=%d shrunk=%d moved=%d evicted=%d returned_mib=%d ms_each=%.1f ok" % (
    seed, n, shrunk, total["moved"], total["evicted"], total["returned"] >> 20, (time.time() - start) * 1000 / n))' \
        "$NFSCACHED" "$T/a" "$1" $RANDOM
}

# The cache gets another size again and again, so that pages move under their users; a reader of
# another file keeps it full.
test_mmap_under_resize() {
    local resizer reader rc=0 rounds=0 stores=0 n
    server_start && mount_start a actimeo=1,cache_size=64M && head -c 48M /dev/urandom >"$EXPORT/noise" || return
    resize_often "$(by_length 100 1000 10000)" &
    resizer=$!
    touch "$T/reading"
    while [ -e "$T/reading" ] && dd if="$T/a/noise" of=/dev/null bs=1M iflag=nocache 2>/dev/null; do :; done &
    reader=$!
    while kill -0 $resizer 2>/dev/null; do
        oracle "dir:$EXPORT" --pages 2048 --rounds 1000000 --seconds 5 >"$T/oracle" || {
            cat "$T/oracle"
            kill $resizer
            rc=1
        }
        for n in rounds stores; do
            declare -i "$n+=$(sed -n "s/^mmap_oracle: .*\b$n=\([0-9]*\) .*/\1/p" "$T/oracle")"
        done
    done
    wait $resizer || rc=1
    [ $rc = 1 ] || echo "oracle: rounds=$rounds stores=$stores lost=0 stale=0 ok"
    rm "$T/reading" # killed, it would leave a dd behind, which the mount is busy with
    wait $reader || rc=1
    cmp "$T/a/noise" "$EXPORT/noise" || rc=1
    return $rc
}

# ---- randomised operations ------------------------------------------------------------------------

# The daemon's cache is emptied by making the file look changed at the server.
fsx() {
    timeout -k 5 900 "$bin/fsx" --save "$T/fsx.ops" --verify-path "$EXPORT" \
        --revalidate-cmd "'$NFSCACHED' revalidate \"\$FSX_FILE\" >/dev/null" \
        --drop-cmd "touch -c \"$EXPORT/\${FSX_FILE##*/}\" && '$NFSCACHED' revalidate \"\$FSX_FILE\" >/dev/null" \
        "$@" "$T/a"
}

test_fsx() {
    server_start && mount_start a && fsx --ops "$(by_length 5000 100000 1000000)"
}

test_fsx_through_another_mount() {
    server_start && mount_start a && mount_start b &&
        fsx --ops "$(by_length 2000 20000 200000)" --verify-path "$T/b"
}

# ---- close-to-open -------------------------------------------------------------------------------

test_cto_against_server_directory() {
    server_start && mount_start a actimeo=1 && timeout -k 5 300 "$bin/cto" --actimeo 1 --other "$EXPORT" "$T/a"
}

test_cto_against_another_mount() {
    server_start && mount_start a actimeo=1 && mount_start b actimeo=1 &&
        timeout -k 5 300 "$bin/cto" --actimeo 1 --other "$T/b" "$T/a"
}

# ---- what any file system must do -----------------------------------------------------------------

test_posix() {
    server_start && mount_start a && timeout -k 5 300 "$bin/posix_basic" \
        --entries "$(by_length 2000 20000 100000)" "$T/a"
}

# timeo: ganesha leaves a WRITE to a file that is being removed unanswered now and then.
test_open_races() {
    server_start && mount_start a timeo=30 && timeout -k 5 200 "$bin/open_races" \
        --rounds "$(by_length 300 2000 10000)" "$T/a" && mount_stop a
}

# The end came before the size: the file grew while it was read, or is one whose size is a guess. The
# server must say that it is the end; nothing, and no end, would be an error.
test_shorter_than_its_size() {
    local EXPORT=/sys/kernel
    only_embedded || return 77
    server_start && mount_start a && [ "$(stat -c %s "$T/a/uevent_seqnum")" = 4096 ] || return
    tr -d '\0' <"$T/a/uevent_seqnum" | grep -qx '[0-9]*' && mount_stop a
}

# OPEN asks whether the name is still that file's and who may open it, and waits for neither before
# it asks for the other; what it is told counts.
test_open_asks_in_one() {
    local pid access
    only_embedded || return 77
    server_start && mount_start a && echo content >"$EXPORT/f" && stat "$T/a/f" >/dev/null || return
    access=0 # mounting asks as well
    holds a 's["rpc"].get("ACCESS", {"calls": 0})["calls"] == 1' && access=1
    server_say pause || return
    cat "$T/a/f" >"$T/read" &
    pid=$!
    wait_for 10 holds a 's["rpc"]["LOOKUP"]["calls"] == 2 and s["rpc"]["ACCESS"]["calls"] == 1 + '$access || {
        echo "LOOKUP is sent, and ACCESS is not"
        server_say resume
        return 1
    }
    server_say resume && wait $pid && [ "$(cat "$T/read")" = content ] || return
    chmod 000 "$EXPORT/f" && stat "$T/a/f" >/dev/null && mv "$EXPORT/f" "$EXPORT/g" && echo other >"$EXPORT/f" &&
        chmod 644 "$EXPORT/f" && [ "$(cat "$T/a/f")" = other ]
}

# A file that was removed while it was open goes at its last close. Who opens it while it goes (by a
# descriptor that keeps the kernel's way to it) finds it gone, or has it for good.
test_open_while_a_removed_file_goes() {
    only_embedded && have_python || return 77
    server_start && mount_start a && server_say REMOVE:delay=3000:count=1 || return
    timeout -k 5 100 python3 - "$T/a/f" "$NFSCACHED" <<'END'
import errno, json, os, subprocess, sys, time
path, nfscached = sys.argv[1:]
def removes():
    status = subprocess.run([nfscached, "status", "--json", os.path.dirname(path)], stdout=subprocess.PIPE, check=True)
    return json.loads(status.stdout)["rpc"].get("REMOVE", {"calls": 0})["calls"]
open(path, "w").write("content")
way = os.open(path, os.O_PATH)
fd = os.open(path, os.O_RDONLY)
os.unlink(path)
os.close(fd)
while removes() == 0:
    time.sleep(0.01)
try:
    fd = os.open("/proc/self/fd/%d" % way, os.O_RDONLY)
except OSError as e:
    sys.exit(e.errno not in (errno.ESTALE, errno.ENOENT))
time.sleep(4)
os.fstat(fd)
sys.exit(os.read(fd, 100) != b"content")
END
}

# Attributes that a listing gave are over: the next one renews them with itself, not one by one. (Not
# if the listing is all that is wanted, as the kernel notices.)
test_listed_again() {
    have_python || return 77
    server_start && mkdir "$EXPORT/d" || return
    (cd "$EXPORT/d" && seq 1000 | xargs touch) && mount_start a acregmin=1,acregmax=1 || return
    timeout -k 5 100 python3 - "$T/a" "$NFSCACHED" <<'END'
import json, os, subprocess, sys, time
mount, nfscached = sys.argv[1:]
def calls():
    status = subprocess.run([nfscached, "status", "--json", mount], stdout=subprocess.PIPE, check=True)
    rpc = json.loads(status.stdout)["rpc"]
    return sum(rpc.get(name, {"calls": 0})["calls"] for name in ("LOOKUP", "GETATTR"))
def look():
    before = calls()
    for entry in os.scandir(mount + "/d"):
        os.lstat(entry.path)
    return calls() - before
counts = []
for i in range(4):
    counts.append(look())
    time.sleep(1.3)
print("one_by_one=%s" % ",".join(map(str, counts)))
sys.exit(max(counts) > 300)
END
}

# READDIRPLUS calls so far
listings() {
    "$NFSCACHED" status --json "$T/a" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["rpc"]["READDIRPLUS"]["calls"])'
}

# A directory changed elsewhere while its attributes are still believed: it is listed once, and the
# listing is good for the next reader.
test_listed_once() {
    have_python || return 77
    server_start && mkdir "$EXPORT/d" && mount_start a actimeo=60 && mkdir "$T/a/own" && stat "$T/a/d" >/dev/null || return
    sleep 0.3
    (cd "$EXPORT/d" && seq 300 | xargs touch) || return
    sleep 0.3 # no reader doubts the directory's times any more
    local before after
    [ "$(ls -l "$T/a/d" | grep -c ^-)" = 300 ] && before=$(listings) &&
        [ "$(ls -l "$T/a/d" | grep -c ^-)" = 300 ] && after=$(listings) || return
    echo "first=$before second=$((after - before))"
    [ "$before" -gt 0 ] && [ "$after" = "$before" ]
}

# Who goes on reading a directory finds the next part of it fetched; what was removed or made here meanwhile
# shows all the same, and what is old is not used.
test_listed_ahead() {
    have_python || return 77
    server_start && mkdir "$EXPORT/d" && (cd "$EXPORT/d" && seq -f 'file%06g' 20000 | xargs touch) &&
        sleep 0.3 && mount_start a actimeo=60 || return
    export -f listings
    export NFSCACHED T
    python3 - "$T/a/d" <<'END'
import os, subprocess, sys, time
d = sys.argv[1]
calls = lambda: int(subprocess.check_output(["bash", "-c", "listings"]))
def fetched_ahead(n):
    until = time.monotonic() + 20
    while calls() < n:
        assert time.monotonic() < until, "nothing is fetched ahead: %d calls" % calls()
        time.sleep(0.05)

# The first part, not all of it.
it = os.scandir(d)
begin = [next(it).name for _ in range(300)]
fetched_ahead(2)
assert calls() <= 3, calls()
gone = ["file%06d" % i for i in range(1, 20001, 10)]
gone = [n for n in gone if n not in set(begin)]
for n in gone:
    os.unlink(d + "/" + n)
rest = [e.name for e in it]
names = begin + rest
assert len(names) == len(set(names)), "a name twice"
assert set(names) >= {"file%06d" % i for i in range(1, 20001)} - set(gone), "names are missing"
back = [n for n in gone if os.path.exists(d + "/" + n)]
assert not back, "removed, and there again: %d, %s" % (len(back), back[:3])

# Older than a second, it is not used, and asked for once more. (The kernel's own listing is no longer good.)
def listing(pause):
    os.close(os.open(d + "/new", os.O_CREAT | os.O_WRONLY))
    os.unlink(d + "/new")
    before = calls()
    it = os.scandir(d)
    begin = [next(it).name for _ in range(300)]
    if pause:
        fetched_ahead(before + 2)
        time.sleep(1.2)
    assert len(set(begin + [e.name for e in it])) == 20000 - len(gone)
    return calls() - before
at_once = min(listing(False) for _ in range(3))
later = listing(True)
assert later > at_once, "%d calls, %d after a pause" % (at_once, later)

# Left before the end, and begun again.
for _ in range(20):
    it = os.scandir(d)
    for _ in range(300):
        next(it)
    it.close()
fd = os.open(d, os.O_RDONLY)
assert len(os.listdir(fd)) == len(os.listdir(fd)) == 20000 - len(gone)
os.close(fd)
print("listed: removed=%d calls=%d later=%d ok" % (len(gone), at_once, later))
END
}

# ---- a server that misbehaves ----------------------------------------------------------------------

# faulty SPEC [ARGUMENTS]: the workload while each 300 ms the fault is added; cleared at the end
faulty() {
    local spec=$1 say="'$NFSCACHED' fault --control '$CONTROL'"
    shift
    only_embedded || return 77
    server_start && mount_start a && timeout -k 5 300 "$bin/workload" --server-path "$EXPORT" \
        --seconds "$(by_length 2 6 120)" --fault-cmd "$say $spec >/dev/null" --heal-cmd "$say clear >/dev/null" \
        "$@" "$T/a"
}

test_fault_none() {
    server_start && mount_start a &&
        timeout -k 5 300 "$bin/workload" --server-path "$EXPORT" --seconds "$(by_length 2 8 120)" "$T/a"
}
test_fault_delay() { faulty all:delay=40:count=20; }
test_fault_dropped_between_records() { faulty all:drop:count=1; }
test_fault_dropped_inside_record() { faulty all:drop-mid:count=1; }
test_fault_lost_reply() { faulty all:lost-reply:count=1; }
test_fault_jukebox() { faulty all:jukebox:count=5; }
test_fault_short_read_and_write() {
    SERVE_OPTIONS="--fault READ:short-read=1000:prob=0.3 --fault WRITE:short-write=700:prob=0.3"
    faulty READ:short-read=1:count=3
}
test_fault_reboot() { faulty 'reboot 200' --every-ms 700; }
test_fault_no_space() { faulty WRITE,COMMIT:nospace:count=10 --allow ENOSPC; }
test_fault_stale() { faulty WRITE,COMMIT:stale:count=5 --allow ESTALE --allow EIO; }

# The server process is killed and started again on the same port, by its own handles.
test_server_killed() {
    local restarts=0 pid rc
    server_start && mount_start a || return
    timeout -k 5 300 "$bin/workload" --server-path "$EXPORT" --seconds "$(by_length 4 12 300)" "$T/a" &
    pid=$!
    while sleep 1.5 && kill -0 $pid 2>/dev/null; do
        server_restart 1.1 || break
        restarts=$((restarts + 1))
    done
    wait $pid
    rc=$?
    echo "server: restarts=$restarts ok"
    [ $rc = 0 ] && [ $restarts -gt 0 ]
}

# The mmap oracle while the server reboots.
test_mmap_with_reboots() {
    only_embedded || return 77
    server_start && mount_start a actimeo=1 || return
    (while sleep 0.7; do server_say reboot 100 >/dev/null || exit; done) &
    oracle "dir:$EXPORT" --tolerate-errors --stall 60
}

# errors NAME SPEC
errors_of() {
    local say="'$NFSCACHED' fault --control '$CONTROL'"
    timeout -k 5 200 "$bin/errors" --errno "$1" --set "$say '$2' >/dev/null" --clear "$say clear >/dev/null" \
        --server-path "$EXPORT" "$T/a"
}
test_write_errors() {
    only_embedded || return 77
    server_start && mount_start a && errors_of ENOSPC WRITE,COMMIT:nospace && errors_of EIO WRITE,COMMIT:error=IO &&
        errors_of EDQUOT WRITE,COMMIT:error=DQUOT && errors_of EACCES WRITE,COMMIT:error=ACCES
}

# shellcheck source=tests/mount/apps.sh
. "$here/apps.sh"
# shellcheck source=tests/mount/ahead.sh
. "$here/ahead.sh"
# shellcheck source=tests/mount/commands.sh
. "$here/commands.sh"
# shellcheck source=tests/mount/probe.sh
. "$here/probe.sh"
# shellcheck source=tests/mount/unseen.sh
. "$here/unseen.sh"
# shellcheck source=tests/mount/writeback.sh
. "$here/writeback.sh"

# ---- leaving ---------------------------------------------------------------------------------------

# What was written and never synced is at the server after umount.
test_umount_writes() {
    server_start && mount_start a || return
    timeout 60 dd if=/dev/urandom of="$T/data" bs=1M count=64 status=none || return
    # A descriptor is held open, so that no close flushes; it is closed when the copy is there.
    exec 8>"$T/a/file"
    cat "$T/data" >&8
    exec 8>&-
    mount_stop a && cmp "$T/data" "$EXPORT/file"
}

# With the server away umount keeps what is dirty and says so; with the server back it goes out.
test_umount_keeps_dirty_data() {
    local writer rc=0
    server_start && mount_start a timeo=10,retrans=1 || return
    # Its close waits for the server.
    (
        exec 8>"$T/a/f"
        touch "$T/opened"
        wait_for 60 test -e "$T/server-is-away"
        echo "kept for the server" >&8
    ) &
    writer=$!
    wait_for 30 test -e "$T/opened" || return
    server_kill9
    touch "$T/server-is-away"
    wait_for 30 holds a '[f["bytes"] for f in s["files"]] == [20]' || return
    if timeout -k 1 60 "$NFSCACHED" umount --timeout 2 "$T/a"; then
        echo "umount succeeded with the server away and bytes that it has not seen"
        rc=1
    fi
    mounted "$T/a" || {
        echo "after a umount that failed nothing is mounted"
        rc=1
    }
    server_start && wait "$writer" && [ $rc = 0 ] && mount_stop a && [ "$(cat "$EXPORT/f")" = "kept for the server" ]
}

# soft: calls fail in the end, and the mount recovers with the server.
test_soft_gives_up() {
    local begun=$SECONDS
    server_start && mount_start a soft,timeo=10,retrans=2 || return
    head -c 100000 /dev/urandom >"$EXPORT/f"
    server_kill9
    if timeout 60 cat "$T/a/f" >/dev/null; then
        echo "read a file that was never fetched, with the server away"
        return 1
    fi
    [ $((SECONDS - begun)) -lt 45 ] || {
        echo "took $((SECONDS - begun)) s to give up"
        return 1
    }
    # A new connection is tried for at intervals; until then calls go on failing.
    server_start && wait_for 40 cmp "$T/a/f" "$EXPORT/f"
}

# Each caller has its own rights at the server, root none; up to 16 groups count.
test_callers_credentials() {
    local groups as
    groups=$(seq -s , 5001 5016)
    as=(setpriv --reuid 4242 --regid 4242 --groups "$groups")
    local stranger=(setpriv --reuid 4343 --regid 4343 --clear-groups)
    [ "$SERVER" = ganesha ] || {
        echo "SKIP: needs a server that squashes root"
        return 77
    }
    have_python || return 77
    GANESHA_SQUASH=Root_Squash
    server_start && mount_start a
    local rc=$?
    unset GANESHA_SQUASH
    [ $rc = 0 ] || return $rc
    mkdir -m 750 "$EXPORT/group" && echo shared >"$EXPORT/group/f" && chgrp -R 5016 "$EXPORT/group" || return
    "${as[@]}" mkdir -m 700 "$T/a/own" && "${as[@]}" sh -c "umask 077; echo private >'$T/a/own/f'" || return
    [ "$(stat -c %u:%a "$EXPORT/own/f")" = 4242:600 ] && [ "$(cat "$EXPORT/own/f")" = private ] || return
    # A mapped store comes to the daemon without its caller: it is written as the one who opened.
    "${as[@]}" /usr/bin/python3 -c "
import mmap, os
f = os.open('$T/a/own/f', os.O_RDWR)
m = mmap.mmap(f, 7)
m[0:4] = b'PRIV'
m.flush()
os.close(f)" || return
    [ "$(cat "$EXPORT/own/f")" = PRIVate ] || return
    [ "$("${as[@]}" cat "$T/a/group/f")" = shared ] || return
    ! "${stranger[@]}" cat "$T/a/own/f" || return
    ! "${stranger[@]}" ls "$T/a/group" || return
    ! "${stranger[@]}" sh -c "echo x >>'$T/a/own/f'" || return
    [ "$("${as[@]}" cat "$T/a/own/f")" = PRIVate ]
}

have_python() {
    [ -x /usr/bin/python3 ] && return 0
    echo "SKIP: needs the package python3"
    return 1
}

# in_a_call PID: it waits in the kernel for an answer of the daemon
in_a_call() { grep -q fuse "/proc/$1/stack"; }

# A process that waits for a dead server can be killed, and the mount serves on afterwards.
test_killed_while_server_is_away() {
    local pid rc=0
    server_start && mount_start a || return
    head -c 100000 /dev/urandom >"$EXPORT/f"
    server_kill9
    cat "$T/a/f" >/dev/null 2>&1 &
    pid=$!
    wait_for 30 in_a_call $pid && sleep 0.2
    kill -KILL $pid
    wait_for 15 gone $pid || {
        echo "a killed reader stays"
        cat "/proc/$pid/stack"
        rc=1
    }
    wait $pid
    server_start && timeout 60 cmp "$T/a/f" "$EXPORT/f" && return $rc
}

# A process killed while it makes a directory is gone at once; the directory is made, and seen.
test_killed_caller_made_it() {
    local pid
    only_embedded || return 77
    server_start && mount_start a && server_say MKDIR:delay=6000:count=1 || return
    stat "$T/a/d" 2>/dev/null && return 1
    mkdir "$T/a/d" &
    pid=$!
    wait_for 5 holds a 's["rpc"]["MKDIR"]["calls"] == 1' || return
    kill -KILL $pid
    wait_for 4 gone $pid && [ ! -e "$EXPORT/d" ] || {
        echo "a killed mkdir stays until it is answered"
        return 1
    }
    wait $pid
    wait_for 15 test -d "$EXPORT/d" && wait_for 10 test -d "$T/a/d"
}

# After umount and mount again, inode numbers and content are the same.
test_remount() {
    local before after
    server_start && mount_start a || return
    mkdir "$T/a/d" && echo content >"$T/a/d/f" && ln "$T/a/d/f" "$T/a/g" || return
    before=$(cd "$T/a" && stat -c '%n %i %s %h' d d/f g)
    mount_stop a && mount_start a || return
    after=$(cd "$T/a" && stat -c '%n %i %s %h' d d/f g)
    [ "$before" = "$after" ] && [ "$(cat "$T/a/g")" = content ]
}

# The daemon's memory stays under its budget and 64 MiB, whatever is read and written through it.
# It holds the inode lock, for which an unmap that would free memory waits, until all of it is taken.
test_one_write_larger_than_the_cache() {
    server_start && mount_start a cache_size=32M || return
    head -c 200M /dev/urandom >"$T/big" &&
        timeout 60 dd if="$T/big" of="$T/a/big" bs=200M iflag=fullblock count=1 status=none &&
        cmp "$T/big" "$EXPORT/big" && cmp "$T/big" "$T/a/big" && echo "bytes=$((200 << 20)) ok"
}

test_memory_budget() {
    local peak
    server_start && mount_start a cache_size=128M || return
    timeout 120 dd if=/dev/zero of="$T/a/big" bs=1M count=700 status=none &&
        timeout 120 cat "$T/a/big" >/dev/null || return
    peak=$(awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/${mount_pid[a]}/status")
    echo "memory: budget_mib=128 peak_mib=$peak ok"
    [ "$peak" -le $((128 + 64)) ]
}
