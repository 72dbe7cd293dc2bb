# shellcheck shell=bash disable=SC2154
# SPDX-License-Identifier: Apache-2.0
#
# -o kernel_writeback: what is refused together with it, what it keeps and what it does not, and the
# tests of data integrity once more with it. Sourced by tests/mount/tests.sh.

# Each is refused by a line that names both, and mounts nothing.
test_writeback_refusals() {
    local o said rc=0
    server_start && mkdir -p "$T/a" || return
    for o in ro noac sync wcc=strict wcc=bracket actimeo=0 acregmax=0; do
        if said=$(timeout 20 "$NFSCACHED" mount -o "port=$PORT,mountport=$MOUNT_PORT,kernel_writeback,$o" "$REMOTE" "$T/a" 2>&1); then
            echo "mounted with kernel_writeback,$o"
            "$NFSCACHED" umount "$T/a"
            rc=1
        fi
        case $said in
        *"kernel_writeback cannot be combined with $o: "?*) ;;
        *)
            echo "with $o it says: $said"
            rc=1
            ;;
        esac
    done
    ! mounted "$T/a" && [ $rc = 0 ]
}

test_writeback() {
    have_python || return 77
    server_start && mount_start a kernel_writeback,actimeo=1 && timeout -k 5 120 /usr/bin/python3 \
        "$here/writeback.py" "$NFSCACHED" "$T/a" "$EXPORT"
}

# No foreign client: what one would change of size and time is not promised.
test_writeback_fsx() {
    server_start && mount_start a kernel_writeback && timeout -k 5 900 "$bin/fsx" --save "$T/fsx.ops" \
        --ops "$(by_length 3000 4000 300000)" \
        --revalidate-cmd "'$NFSCACHED' revalidate \"\$FSX_FILE\" >/dev/null" \
        --drop-cmd "touch -c \"$EXPORT/\${FSX_FILE##*/}\" && '$NFSCACHED' revalidate \"\$FSX_FILE\" >/dev/null" "$T/a"
}

# Stores and write(2) of several processes, revalidations in between, a cache far too small.
test_writeback_mmap() {
    local reboots=
    server_start && mount_start a actimeo=1,cache_size=16M,kernel_writeback || return
    if [ "$SERVER" = embedded ]; then
        (while sleep 0.7; do server_say reboot 100 >/dev/null || exit; done) &
        reboots="--tolerate-errors --stall 60"
    fi
    # On Linux 6.18 fsync() has been seen to return while the kernel still had dirty pages that had been
    # mapped: they come later (docs/decisions.md).
    # shellcheck disable=SC2086
    oracle "dir:$EXPORT" --classes mp --late --pages 8192 --freeze-every 100 --seconds "$(by_length 3 3 300)" $reboots
}

test_writeback_errors() {
    only_embedded || return 77
    server_start && mount_start a kernel_writeback && errors_of ENOSPC WRITE,COMMIT:nospace
}

# Replies are lost, the server reboots (another verifier), its process is killed.
test_writeback_faults() {
    local say="'$NFSCACHED' fault --control '$CONTROL'" pid rc
    server_start && mount_start a kernel_writeback || return
    if [ "$SERVER" = embedded ]; then
        timeout -k 5 100 "$bin/workload" --server-path "$EXPORT" --seconds "$(by_length 2 2 60)" --every-ms 400 \
            --fault-cmd "$say reboot 100 >/dev/null" --heal-cmd "$say clear >/dev/null" "$T/a" || return
    fi
    timeout -k 5 100 "$bin/workload" --server-path "$EXPORT" --seconds "$(by_length 3 3 60)" "$T/a" &
    pid=$!
    sleep 1
    server_restart 1.1
    wait $pid
    rc=$?
    return $rc
}

# What was written and never closed: SIGTERM; and umount -f, after which what the kernel held dirty may
# be gone, and nothing that was synced is. Its close says so.
test_writeback_leaving() {
    local writer
    have_python || return 77
    server_start && mount_start a kernel_writeback || return
    holder_start file && holder_write 16 && kill -TERM "${mount_pid[a]}" || return
    wait_for 20 eval "! mounted '$T/a'" && holder_write 1 && holder_stop && wait_for 20 gone "${mount_pid[a]}" &&
        cmp "$T/data" "$EXPORT/file" || return
    mount_start a kernel_writeback || return
    (
        exec 8>"$T/a/f"
        head -c 3000000 "$T/data" >&8
        sync "$T/a/f"
        echo "not synced" >&8
        touch "$T/written"
        wait_for 20 test -e "$T/aborted"
        ! exec 8>&-
    ) 2>/dev/null &
    writer=$!
    wait_for 20 test -e "$T/written" && { umount -f "$T/a" 2>/dev/null || umount -l "$T/a"; }
    touch "$T/aborted"
    wait $writer
    wait_for 20 gone "${mount_pid[a]}" && mount_abort a && cmp -n 3000000 "$EXPORT/f" "$T/data"
}

# A cache, and limits, far below what is written: the kernel's WRITEs wait for memory.
test_writeback_larger_than_the_cache() {
    local peak
    only_embedded || return 77
    server_start && mount_start a kernel_writeback,cache_size=32M || return
    head -c 120M /dev/urandom >"$T/big" &&
        timeout 60 dd if="$T/big" of="$T/a/big" bs=120M iflag=fullblock count=1 status=none &&
        cmp "$T/big" "$EXPORT/big" && cmp "$T/big" "$T/a/big" &&
        timeout 60 dd if=/dev/zero of="$T/a/big" bs=3000 seek=5 count=10000 conv=notrunc status=none || return
    peak=$(awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/${mount_pid[a]}/status")
    echo "memory: budget_mib=32 peak_mib=$peak ok"
    [ "$peak" -le $((32 + 64)) ]
}
