# shellcheck shell=bash disable=SC2154
# SPDX-License-Identifier: Apache-2.0
#
# The black-box prober, nfscached-race probe (tests/race/probe): it finds what is wrong with file systems that are, and nothing
# on any other. Sourced by tests/mount/tests.sh.

PROBE=$build/tests/race/nfscached-race

# probe STATUS PATTERN ARGUMENT...: ends so, and a line that it prints says so
probe() {
    local want=$1 pattern=$2 rc left=
    shift 2
    timeout -k 5 100 "$PROBE" probe "$@" >"$T/probe.out" 2>&1
    rc=$?
    if [ $rc != "$want" ] || ! grep -qE -e "$pattern" "$T/probe.out"; then
        cat "$T/probe.out"
        echo "probe $*: status $rc, should be $want with '$pattern'"
        return 1
    fi
    sed -n 's/.*; seed /seed /p; /^FOUND/p' "$T/probe.out"
    [ "$pattern" = "$hung" ] || left=$(find "$T" -xdev -name 'nfscached-probe-*' -print -quit)
    [ -z "$left" ] || {
        echo "probe $*: leaves $left"
        return 1
    }
}
nothing='^nothing found'
hung='^FOUND:.* hung 1$'

# found_by CHECK...: each of these found something in the last run, by its line of the table
found_by() {
    local c
    for c; do
        awk -v c="$c" '$1 == c && $5 + $6 + $7 + $8 + $9 > 0 { ok = 1 } END { exit !ok }' "$T/probe.out" || {
            cat "$T/probe.out"
            echo "probe: $c found nothing"
            return 1
        }
    done
}

# probe_broken OPTIONS PATTERN [ARGUMENT...]: over a file system that is wrong in one way
probe_broken() {
    local options=$1 pattern=$2 rc
    shift 2
    mkdir -p "$T/broken"
    # shellcheck disable=SC2086
    "$bin/brokenfs" $options -f "$EXPORT" "$T/broken" >"$T/brokenfs.log" 2>&1 &
    mount_pid[broken]=$!
    wait_for 10 mounted "$T/broken" || return 1
    echo "brokenfs $options"
    probe 1 "$pattern" --mount "$T/broken" --server-dir "$EXPORT" --rounds 60 --fresh 0.3 "$@"
    rc=$?
    mount_abort broken
    find "$EXPORT" -mindepth 1 -delete
    return $rc
}

not_for_each_server() {
    [ "$SERVER" = embedded ] || {
        echo "SKIP: does not depend on the server"
        return 77
    }
}

# One kind of finding for each kind of being wrong.
test_probe_sees_broken_clients() {
    not_for_each_server || return
    local all="turns own-pages foreign-pages truncate"
    # shellcheck disable=SC2086
    probe_broken "--lose 10" '^FOUND:.* lost [0-9]+' && found_by $all &&
        probe_broken "--revert 10" '^FOUND:.* lost [0-9]+' && found_by turns &&
        probe_broken "--late 10" '^FOUND:.* lost [0-9]+' && found_by $all &&
        probe_broken "--eio" '^FOUND:.* lost [0-9]+' && found_by $all &&
        probe_broken "--tear 10" '^FOUND:.* torn [0-9]+' && found_by $all &&
        probe_broken "--misplace 10" '^FOUND:.* wrong [0-9]+' && found_by $all &&
        probe_broken "--blank 10" '^FOUND:.* stale [0-9]+' && found_by $all &&
        probe_broken "--size 4" '^FOUND:.* wrong [0-9]+' && found_by turns truncate &&
        probe_broken "--stale" '^FOUND: stale [0-9]+' --check turns,foreign-pages && found_by turns foreign-pages &&
        probe_broken "--stale" '^FOUND: stale [0-9]+' --expect coherent --check held && found_by held &&
        # A passthrough merges pages as wholes: right for close-to-open, wrong where more is expected.
        probe_broken "" '^FOUND:.* lost [0-9]+' --expect coherent --check shared-page && found_by shared-page &&
        probe_broken "--full 2" '^FOUND: lost error [0-9]+$' --fill --check fill && found_by fill &&
        probe_broken "--eio" '^FOUND: lost [0-9]+ lost error [0-9]+$' --check break --break true --mend true &&
        probe_broken "--hang 100" "$hung" --stall 2 --check own-pages &&
        echo "probe: broken=14 ok"
}

# passthrough_is_calm MODE ARGUMENT...: over brokenfs in a mode in which nothing that is looked at goes wrong
passthrough_is_calm() {
    local mode=$1 rc
    shift
    # shellcheck disable=SC2086
    "$bin/brokenfs" $mode -f "$EXPORT" "$T/broken" >"$T/brokenfs.log" 2>&1 &
    mount_pid[broken]=$!
    wait_for 10 mounted "$T/broken" && probe 0 "$nothing" --mount "$T/broken" --rounds 100 "$@"
    rc=$?
    mount_abort broken
    return $rc
}

test_probe_is_calm() {
    local rc
    not_for_each_server || return
    mkdir -p "$T/local" "$T/tmpfs" "$T/memfs" "$T/broken" && mount -t tmpfs none "$T/tmpfs" || return
    local_is_calm && memfs_is_calm &&
        # A passthrough that never drops the kernel's copy is right for all who come through it. One that drops it at
        # each open is not: a drop between a write(2)'s copy into the kernel's page and its WRITE brings the bytes of
        # before back (docs/protocol.md, section 5). It is rare, and rightly a finding: so there only the checks that
        # have no write(2) under way meanwhile, or promise nothing.
        passthrough_is_calm --stale --expect local &&
        passthrough_is_calm "" --server-dir "$EXPORT" --check shared-page,held --fresh 0.3
    rc=$?
    umount "$T/tmpfs"
    [ $rc = 0 ] && echo "probe: calm=10 ok"
}

local_is_calm() {
    local level dir
    for level in close-to-open coherent local; do
        for dir in local tmpfs; do
            probe 0 "$nothing" --mount "$T/$dir" --server-dir "$T/$dir" --expect $level --rounds 60 || return
        done
    done
    probe 0 "$nothing" --mount "$T/local" --mount2 "$T/local" --rounds 100
}

memfs_is_calm() {
    local rc
    "$build/tests/bench/memfs" "$T/memfs" >"$T/memfs.log" 2>&1 &
    mount_pid[memfs]=$!
    wait_for 10 mounted "$T/memfs" && probe 0 "$nothing" --mount "$T/memfs" --rounds 200
    rc=$?
    mount_abort memfs
    return $rc
}

# Both clients write one file at a time. Where replies to WRITE tell nothing of before, only wcc=strict
# promises to see each write of the other that falls between two of our own (nfscached-mount(8)).
strict() { [ "$SERVER" = embedded ] && echo wcc=bracket || echo wcc=strict; }

test_probe_close_to_open() {
    local n
    n=$(by_length 30 40 2000)
    server_start && mount_start a "$(strict)" && mount_start b "$(strict)" &&
        probe 0 "$nothing" --mount "$T/a" --server-dir "$EXPORT" --rounds "$n" --fresh 0.5 &&
        probe 0 "$nothing" --mount "$T/a" --mount2 "$T/b" --rounds "$n" --fresh 0.5 &&
        echo "probe: rounds=$n ok"
}

# What only our mount promises: bytes of one page, freshness while this client writes, and without an open.
test_probe_coherent() {
    local n
    n=$(by_length 30 40 2000)
    local few=turns,own-pages,foreign-pages,shared-page,held
    server_start && mount_start a actimeo=1,"$(strict)" && mount_start b actimeo=1,"$(strict)" || return
    # The attributes that the embedded server tells from before a WRITE are exact among its clients, not
    # against a write into its directory behind its back.
    [ "$SERVER" = embedded ] ||
        probe 0 "$nothing" --mount "$T/a" --server-dir "$EXPORT" --expect coherent --fresh 3 --rounds "$n" \
            --check $few || return
    probe 0 "$nothing" --mount "$T/a" --mount2 "$T/b" --server-dir "$EXPORT" --expect coherent --fresh 3 \
        --rounds "$n" --check $few &&
        echo "probe: rounds=$n ok"
}

test_probe_errors() {
    local say="'$NFSCACHED' fault --control '$CONTROL'" EXPORT=$T/small rc
    only_embedded || return 77
    mkdir -p "$EXPORT" && mount -t tmpfs -o size=24m none "$EXPORT" || return
    server_start && mount_start a &&
        probe 0 "$nothing" --mount "$EXPORT" --check fill --fill &&
        probe 0 "$nothing" --mount "$T/a" --server-dir "$EXPORT" --check fill --fill &&
        probe 0 "$nothing" --mount "$T/a" --server-dir "$EXPORT" --check break --rounds 120 \
            --break "$say WRITE,COMMIT:nospace >/dev/null" --mend "$say clear >/dev/null" &&
        probe 0 "$nothing" --mount "$T/a" --server-dir "$EXPORT" --check break --rounds 120 \
            --break "$say WRITE:error=IO >/dev/null" --mend "$say clear >/dev/null"
    rc=$?
    [ $rc = 0 ] && mount_stop a || rc=1
    server_stop
    umount "$EXPORT" || rc=1
    [ $rc = 0 ] && echo "probe: errors=4 ok"
}

test_probe_arguments() {
    local pid d=$T/there
    not_for_each_server || return
    mkdir "$d" "$T/other"
    probe 2 '--mount DIR' &&
        probe 2 "^nfscached-race probe: --mount /nowhere: No such file" --mount /nowhere &&
        probe 2 "^nfscached-race probe: --mount .*: Not a directory" --mount /etc/passwd &&
        probe 2 "^nfscached-race probe: --server-dir .* does not show the files of --mount" --mount "$d" --server-dir "$T/other" &&
        probe 2 "^nfscached-race probe: --expect 'much': not close-to-open" --mount "$d" --expect much &&
        probe 2 "^nfscached-race probe: --check 'turn': no such check" --mount "$d" --check turns,turn &&
        probe 2 "^nfscached-race probe: --frobnicate: unknown option" --mount "$d" --frobnicate &&
        probe 2 "^nfscached-race probe: '$d': directories follow their option" "$d" &&
        probe 2 "^nfscached-race probe: --break and --mend need each other" --mount "$d" --break true || return
    mount -t tmpfs -o ro none "$T/other" || return
    probe 2 "^nfscached-race probe: --mount: cannot open .*: Read-only file system" --mount "$T/other"
    local rc=$?
    umount "$T/other"
    mount -t tmpfs -o size=64k none "$T/other" || return
    probe 2 "^nfscached-race probe: --mount: cannot .*: No space left" --mount "$T/other" || rc=1
    probe 2 "^nfscached-race probe: --fill: [0-9]+ MiB are free on .*; it fills at most" --mount "$d" --fill --fill-max 0 || rc=1
    umount "$T/other"
    [ $rc = 0 ] || return
    timeout 60 "$PROBE" probe --mount "$d" --server-dir "$d" --rounds 5 --json --seed 7 |
        python3 -c 'import json, sys
r = json.load(sys.stdin)
c = {x["check"]: x for x in r["checks"]}
assert r["found"] == 0 and r["seed"] == 7 and r["expect"] == "close-to-open", r
assert c["turns"]["ran"] and c["turns"]["rounds"] >= 5 and not any(c["turns"]["found"].values()), c
assert not c["fill"]["ran"] and c["fill"]["left_out"] == "not asked for", c' || return
    # Interrupted, it ends by the signal and leaves nothing.
    for signal in INT TERM HUP; do
        bash -c 'exec "$@"' - "$PROBE" probe --mount "$d" --seconds 6 >"$T/probe.out" 2>&1 &
        pid=$!
        wait_for 10 at_second_check "$d" || return
        kill -$signal $pid
        wait $pid
        rc=$?
        [ $rc = $((128 + $(kill -l $signal))) ] && [ -z "$(ls "$d")" ] || {
            cat "$T/probe.out"
            ls "$d"
            echo "SIG$signal: status $rc, or files left"
            return 1
        }
    done
    echo "probe: arguments=16 ok"
}
at_second_check() { [ -n "$(find "$1" -name '*.own-pages')" ]; }
