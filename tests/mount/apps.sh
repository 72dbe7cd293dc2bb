# shellcheck shell=bash disable=SC2154,SC2034
# SPDX-License-Identifier: Apache-2.0
#
# Programs that people use, on a mount: what they do must come out as on a local disk. Sourced by
# tests/mount/tests.sh.

# have PROGRAM PACKAGE
have() {
    command -v "$1" >/dev/null && return 0
    echo "SKIP: needs the package $2"
    return 1
}

# A tree of N small sources in DIR: source_tree DIR N
source_tree() {
    awk -v dir="$1" -v n="$2" 'BEGIN {
        srand(7)
        for (i = 0; i < n; i++) {
            d = dir "/part" int(i / 100) "/sub" i % 7
            if (!(d in made)) { system("mkdir -p " d); made[d] = 1 }
            f = d "/unit" i ".c"
            lines = 5 + int(rand() * 200)
            printf "// unit %d\nint unit%d(int x)\n{\n", i, i > f
            for (j = 0; j < lines; j++) printf "    x = x * %d + %d; /* line %d of %d */\n", int(rand() * 1000), j, j, i > f
            print "    return x;\n}" > f
            close(f)
        }
    }'
}

test_app_copy_tree() {
    local n
    n=$(by_length 500 5000 5000)
    source_tree "$T/tree" "$n"
    server_start && mount_start a && timeout 200 cp -r "$T/tree" "$T/a/copy" && timeout 200 diff -r "$T/tree" "$T/a/copy" &&
        timeout 200 diff -r "$T/tree" "$EXPORT/copy" && mount_stop a && mount_start a &&
        timeout 200 diff -r "$T/tree" "$T/a/copy" && timeout 200 cp -r "$T/a/copy" "$T/back" &&
        diff -r "$T/tree" "$T/back" && timeout 200 rm -r "$T/a/copy" && [ ! -e "$EXPORT/copy" ] &&
        echo "copy: files=$n ok"
    local rc=$?
    rm -rf "$T/tree" "$T/back"
    return $rc
}

test_app_git() {
    have git git || return 77
    local g=(timeout 120 git -c user.name=t -c user.email=t@example.org -c safe.directory='*')
    export HOME=$T
    source_tree "$T/tree" "$(by_length 200 1500 5000)"
    (
        "${g[@]}" init -q "$T/tree" && cd "$T/tree" && "${g[@]}" add . && "${g[@]}" commit -q -m one &&
            sed -i 's/line 3/row 3/' part*/sub*/*.c && "${g[@]}" commit -q -a -m two
    ) || return
    server_start && mount_start a || return
    "${g[@]}" clone -q --no-local "file://$T/tree" "$T/a/clone" || return
    (
        cd "$T/a/clone" || exit
        [ -z "$("${g[@]}" status --porcelain)" ] || exit 1
        "${g[@]}" fsck --strict || exit 1
        "${g[@]}" checkout -q HEAD~1 && [ -z "$("${g[@]}" status --porcelain)" ] && "${g[@]}" checkout -q - || exit 1
        for i in 1 2 3 4 5; do
            # A change within one tick of the clock, of the same size: status must see it.
            echo "// change $i" >part0/sub0/unit0.c
            [ -n "$("${g[@]}" status --porcelain)" ] || exit 1
            "${g[@]}" commit -q -a -m "change $i" || exit 1
        done
        "${g[@]}" gc -q && "${g[@]}" fsck --strict && [ "$("${g[@]}" rev-list --count HEAD)" = 7 ]
    ) || return
    "${g[@]}" -C "$EXPORT/clone" fsck --strict && echo "git: commits=7 ok"
    local rc=$?
    rm -rf "$T/tree"
    return $rc
}

test_app_sqlite() {
    have sqlite3 sqlite3 || return 77
    local mode i readers=() pid rc=0 n checks
    server_start && mount_start a || return
    n=$(by_length 30 100 1000)
    for mode in delete wal; do
        local db=$T/a/$mode.db
        sqlite3 "$db" "pragma journal_mode=$mode; create table t(id integer primary key, a int, b int, pad text);" >/dev/null || return
        rm -f "$T/stop" "$T"/reader.*
        readers=()
        for i in 1 2 3; do
            (
                k=0
                while [ ! -e "$T/stop" ]; do
                    # Each transaction adds a pair whose sum is zero.
                    out=$(timeout 60 sqlite3 -cmd '.timeout 20000' "$db" 'pragma integrity_check; select coalesce(sum(a + b), 0), count(*) % 2 from t;')
                    [ "$out" = $'ok\n0|0' ] || {
                        echo "reader: $out"
                        exit 1
                    }
                    k=$((k + 1))
                done
                echo $k >"$T/reader.$i"
            ) &
            readers+=($!)
        done
        for ((i = 0; i < n; i++)); do
            echo ".timeout 20000"
            echo "begin immediate; insert into t(a, b, pad) values ($i, -$i * 2, hex(randomblob(300))); insert into t(a, b, pad) values ($i, 0, hex(randomblob(500))); "
            [ $((i % 10)) = 9 ] && echo "delete from t where id in (select id from t where a = $((i - 9)));"
            echo "commit;"
        done | timeout 200 sqlite3 "$db" || rc=1
        touch "$T/stop"
        for pid in "${readers[@]}"; do wait "$pid" || rc=1; done
        [ $rc = 0 ] || return 1
        checks=$(cat "$T"/reader.* | awk '{ s += $1 } END { print s }')
        [ "$(sqlite3 "$db" 'pragma integrity_check')" = ok ] || return 1
        echo "sqlite: journal_$mode=1 transactions=$n checks_meanwhile=$checks ok"
    done
    mount_stop a || return
    [ "$(sqlite3 "$EXPORT/delete.db" 'pragma integrity_check')" = ok ] && [ "$(sqlite3 "$EXPORT/wal.db" 'pragma integrity_check')" = ok ]
}

test_app_parallel_compile() {
    have make make && have gcc gcc || return 77
    local n rc
    n=$(by_length 20 80 300)
    mkdir "$T/src" && source_tree "$T/src" "$n" || return
    (
        cd "$T/src" || exit
        {
            echo '#include <stdio.h>'
            for ((i = 0; i < n; i++)); do echo "int unit$i(int);"; done
            echo 'int main(void) { unsigned s = 0;'
            for ((i = 0; i < n; i++)); do echo "s = s * 31 + (unsigned)unit$i($i);"; done
            echo 'printf("%u\n", s); return 0; }'
        } >main.c
        # shellcheck disable=SC2016
        printf '%s\n' 'S := $(wildcard *.c part*/sub*/*.c)' 'O := $(S:.c=.o)' \
            'prog: libunits.a main.o' '	$(CC) -o $@ main.o libunits.a' \
            'libunits.a: $(filter-out main.o,$O)' '	ar rcs $@ $^' '%.o: %.c' '	$(CC) -fwrapv -MMD -c -o $@ $<' '-include $(O:.o=.d)' >Makefile
    )
    cp -r "$T/src" "$T/local" && make -s -j2 -C "$T/local" prog || return
    server_start && mount_start a && cp -r "$T/src" "$T/a/src" && timeout 300 make -s -j4 -C "$T/a/src" prog &&
        [ "$("$T/a/src/prog")" = "$("$T/local/prog")" ] && cmp "$T/a/src/prog" "$EXPORT/src/prog" &&
        timeout 60 make -s -q -C "$T/a/src" prog && touch "$T/a/src/part0/sub0/unit0.c" &&
        ! timeout 60 make -s -q -C "$T/a/src" prog && timeout 60 make -s -j4 -C "$T/a/src" prog && echo "compile: files=$n ok"
    rc=$?
    rm -rf "$T/src" "$T/local"
    return $rc
}

test_app_fio_verify() {
    have fio fio || return 77
    local engine rw size
    size=$(by_length 8M 48M 1G)
    server_start && mount_start a cache_size=32M || return
    for engine in mmap psync; do
        for rw in write randwrite randrw; do
            # It leaves files where it is started.
            (cd "$T" && timeout "$(by_length 300 300 1500)" fio --name=v --directory="$T/a" --ioengine=$engine --rw=$rw --bs=4k-64k --size="$size" --verify=crc32c \
                --do_verify=1 --verify_fatal=1 --numjobs=2 --fsync=64 --randseed=9 --output-format=terse) >"$T/fio.out" 2>&1 || {
                cat "$T/fio.out"
                return 1
            }
            rm -f "$T"/a/v.*
        done
    done
    echo "fio: engines=2 patterns=3 ok"
}
