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
        broken "--stale" 1 "$bin/fsx" --ops 20000 --shrink-s 1 --save "$T/x" --verify-path "$EXPORT" "$b"
}

# The foreign client through libnfs, with nothing but the server in between.
test_foreign_client_alone() {
    server_start && timeout 60 "$bin/mmap_oracle" --rounds 300 --foreign "nfs:$URL" --server-path "$EXPORT" "$EXPORT"
}

# ---- consistency of mapped files -----------------------------------------------------------------

# oracle FOREIGN [ARGUMENTS]: the mmap oracle on mount `a`
oracle() {
    local foreign=$1
    shift
    timeout -k 5 900 "$bin/mmap_oracle" --foreign "$foreign" --server-path "$EXPORT" \
        --rounds "$(by_length 100 1500 30000)" --seconds "$(by_length 5 20 600)" \
        --revalidate-cmd "$(revalidate "$T/a/oracle")" "$@" "$T/a"
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

# ---- randomised operations ------------------------------------------------------------------------

fsx() {
    timeout -k 5 900 "$bin/fsx" --save "$T/fsx.ops" --verify-path "$EXPORT" \
        --revalidate-cmd "'$NFSCACHED' revalidate \"\$FSX_FILE\" >/dev/null" "$@" "$T/a"
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
