#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `-o kernel_writeback` promises, and what it does not: one check a function.

writeback.py NFSCACHED MOUNT EXPORT [CHECK...]; run by tests/mount/writeback.sh as root, over a mount with
allow_other and that option. Prints "writeback: CHECK=failures ... ok"; status 0 held, 1 not.
"""
import errno
import fcntl
import mmap
import os
import random
import subprocess
import sys
import time

nfscached, mount, export = sys.argv[1:4]
OLD = 10**18  # an mtime that nobody takes from a clock
USER = 4242
failures = 0


def here(name):
    return os.path.join(mount, name)


def there(name):
    return os.path.join(export, name)


def expect(what, is_, should):
    global failures
    if is_ != should:
        failures += 1
        short = [v if len(repr(v)) < 200 else repr(v)[:200] + "..." for v in (is_, should)]
        print("writeback: %s is %s, should be %s" % (what, *short))


def content(path):
    with open(path, "rb") as f:
        return f.read()


def make(name, data, mode=0o644):
    with open(there(name), "wb") as f:
        f.write(data)
    os.chmod(there(name), mode)


def command(*words):
    return subprocess.run([nfscached, *words], stdout=subprocess.DEVNULL).returncode


def as_user(fn):
    """In a child, as a user who owns nothing; the child's status."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(USER)
            os.setuid(USER)
            fn()
            os._exit(0)
        except BaseException as e:
            print("writeback: as another user: %r" % e, flush=True)
            os._exit(1)
    return os.waitpid(child, 0)[1]


def small_writes():
    fd = os.open(here("k"), os.O_CREAT | os.O_RDWR)
    for i in range(1000):
        os.write(fd, b"x" * 100)
    expect("size here", os.fstat(fd).st_size, 100000)
    os.close(fd)
    expect("content there after close", content(there("k")), b"x" * 100000)


def reads_through_a_write_only_descriptor():
    """The rest of a page comes through what is open for writing; and where the user may not read, the
    page is not filled at all."""
    data = random.randbytes(20000)
    make("w", data)
    fd = os.open(here("w"), os.O_WRONLY)
    os.pwrite(fd, b"one", 5000)
    os.close(fd)
    expect("content", content(there("w")), data[:5000] + b"one" + data[5003:])
    make("drop", data, 0o622)

    def drop():
        fd = os.open(here("drop"), os.O_WRONLY)
        os.pwrite(fd, b"two", 9000)
        os.close(fd)

    expect("a write-only open of another user", as_user(drop), 0)
    expect("content", content(there("drop")), data[:9000] + b"two" + data[9003:])
    make("log", b"first", 0o622)

    def log():
        fd = os.open(here("log"), os.O_WRONLY | os.O_APPEND)
        os.write(fd, b", second")
        os.write(fd, b", third")
        os.close(fd)

    expect("appending without reading", as_user(log), 0)
    expect("content", content(there("log")), b"first, second, third")


def appends():
    fds = [os.open(here("app"), os.O_CREAT | os.O_WRONLY | os.O_APPEND) for i in range(3)]
    want = b""
    for i in range(300):
        piece = b"%d," % i
        want += piece
        os.write(fds[i % 3], piece)
    for fd in fds:
        os.close(fd)
    expect("content", content(there("app")), want)


def synchronous():
    for flag in os.O_SYNC, os.O_DSYNC:
        fd = os.open(here("s"), os.O_CREAT | os.O_RDWR | os.O_TRUNC | flag)
        os.write(fd, b"there at once")
        expect("content before close", content(there("s")), b"there at once")
        os.close(fd)


def times_are_kept():
    # Another tick than that of its making, so that the kernel has a new time to tell.
    fd = os.open(here("t"), os.O_CREAT | os.O_RDWR)
    time.sleep(0.05)
    os.write(fd, b"data")
    os.fsync(fd)
    expect("mtime there after fsync", os.stat(there("t")).st_mtime_ns, os.fstat(fd).st_mtime_ns)
    time.sleep(0.05)
    os.write(fd, b"data")
    os.close(fd)
    expect("mtime there after close", os.stat(there("t")).st_mtime_ns, os.stat(here("t")).st_mtime_ns)
    for i, path in enumerate((there("t"), here("t"), there("t"))):
        if i == 0:
            fd = os.open(here("t"), os.O_RDWR)
            os.pwrite(fd, b"DATA", 2)
            os.utime(fd, ns=(OLD + 1, OLD + 2))
            os.close(fd)
        elif i == 2:
            fd = os.open(here("t"), os.O_RDWR)
            os.fsync(fd)
            os.close(fd)
        expect("mtime that was set", os.stat(path).st_mtime_ns, OLD + 2)
    expect("content", content(there("t")), b"daDATAta")
    # A store after the close of its descriptor.
    fd = os.open(here("t"), os.O_RDWR)
    m = mmap.mmap(fd, 8)
    os.close(fd)
    m[0:1] = b"D"
    m.close()
    expect("mtime after a store", os.stat(here("t")).st_mtime_ns > OLD + 2, True)
    until = time.monotonic() + 20
    while os.stat(there("t")).st_mtime_ns != os.stat(here("t")).st_mtime_ns and time.monotonic() < until:
        time.sleep(0.01)
    expect("mtime there", os.stat(there("t")).st_mtime_ns, os.stat(here("t")).st_mtime_ns)
    # A new name moves ctime, and nothing else.
    os.utime(here("t"), ns=(OLD, OLD))
    os.rename(here("t"), here("t2"))
    os.sync()
    expect("mtime after a rename", os.stat(there("t2")).st_mtime_ns, OLD)


def times_of_another_owner():
    """Who may write may not set times: close, truncate and touch succeed all the same."""
    make("o", b"other's", 0o666)

    def use():
        fd = os.open(here("o"), os.O_RDWR)
        time.sleep(0.05)
        os.write(fd, b"OTHER")
        os.fsync(fd)
        os.ftruncate(fd, 6)
        os.close(fd)
        os.utime(here("o"))
        try:
            os.utime(here("o"), ns=(OLD, OLD))
        except PermissionError:
            return
        raise Exception("set the times of a file that is not his")

    expect("another user's close, truncate and touch", as_user(use), 0)
    expect("content", content(there("o")), b"OTHER'")


def truncation():
    data = random.randbytes(50000)
    fd = os.open(here("c"), os.O_CREAT | os.O_RDWR)
    for size in 45000, 8192, 5001, 3, 20000:
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, size)
        expect("size there", os.stat(there("c")).st_size, size)
        os.fsync(fd)
        expect("content of %d" % size, content(there("c")), data[:size])
    os.pwrite(fd, b"end", 30000)
    os.ftruncate(fd, 40000)
    os.close(fd)
    expect("content", content(there("c")), data[:20000] + bytes(10000) + b"end" + bytes(9997))
    fd = os.open(here("c"), os.O_RDWR | os.O_TRUNC)
    os.close(fd)
    expect("size after O_TRUNC", os.stat(there("c")).st_size, 0)


def no_hole_where_the_kernel_has_data():
    fd = os.open(here("hole"), os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"data", 1 << 20)
    expect("SEEK_DATA", os.lseek(fd, 0, os.SEEK_DATA), 0)
    expect("SEEK_HOLE", os.lseek(fd, 0, os.SEEK_HOLE), (1 << 20) + 4)
    expect("a hole that was not sent", os.pread(fd, 10, 500000), bytes(10))
    os.close(fd)
    expect("size there", os.stat(there("hole")).st_size, (1 << 20) + 4)


def commands_fetch_what_the_kernel_has():
    data = random.randbytes(1 << 20)
    fd = os.open(here("f"), os.O_CREAT | os.O_RDWR)
    os.write(fd, data)
    expect("flush of a file", command("flush", here("f")), 0)
    expect("content there", content(there("f")), data)
    os.pwrite(fd, b"more", 100)
    expect("flush of all", command("flush", mount), 0)
    expect("content there", content(there("f")), data[:100] + b"more" + data[104:])
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.pwrite(fd, b"LOCK", 200)
    fcntl.flock(fd, fcntl.LOCK_UN)
    expect("content there after unlocking", content(there("f"))[200:204], b"LOCK")
    fcntl.lockf(fd, fcntl.LOCK_EX)
    os.pwrite(fd, b"lock", 300)
    fcntl.lockf(fd, fcntl.LOCK_UN)
    expect("content there after unlocking", content(there("f"))[300:304], b"lock")
    os.close(fd)


def revalidation_drops_nothing_dirty():
    """The file changes at the server again and again, while write(2) and stores go on in the kernel."""
    pages = 64
    make("r", bytes(4096 * pages))
    fd = os.open(here("r"), os.O_RDWR)
    m = mmap.mmap(fd, 4096 * pages)
    mine = {}
    for i in range(60):
        for k in range(40):
            at = random.randrange(pages) * 4096 + random.randrange(4096)
            mine[at] = random.randrange(1, 256)
            if k % 2:
                m[at] = mine[at]
            else:
                os.pwrite(fd, bytes([mine[at]]), at)
        os.utime(there("r"))
        expect("revalidate", command("revalidate", here("r")), 0)
        at = random.choice(list(mine))
        expect("byte %d" % at, m[at], mine[at])
    expect("bytes lost here", [at for at in mine if m[at] != mine[at]], [])
    os.fsync(fd)
    now = content(there("r"))
    expect("bytes lost there", [at for at in mine if now[at] != mine[at]], [])
    m.close()
    os.close(fd)


def weaker_than_without():
    """What the man page says is not promised: where it is, after all, the page is wrong, or the option
    is not in force."""
    make("x", b"0123456789")
    keep = os.open(here("x"), os.O_RDONLY)  # the kernel must not forget the file meanwhile
    expect("content", content(here("x")), b"0123456789")
    # What others write within the size is seen by the next open ...
    with open(there("x"), "r+b") as f:
        f.write(b"ABC")
    os.utime(there("x"), ns=(OLD, OLD + 3))
    expect("revalidate", command("revalidate", here("x")), 0)
    expect("changed content", content(here("x")), b"ABC3456789")
    # ... but not size and mtime.
    expect("mtime", os.stat(here("x")).st_mtime_ns != OLD + 3, True)
    with open(there("x"), "ab") as f:
        f.write(b"appended there")
    expect("revalidate", command("revalidate", here("x")), 0)
    expect("size", os.stat(here("x")).st_size, 10)
    expect("content", content(here("x")), b"ABC3456789")
    # An append goes where the kernel takes the end to be.
    fd = os.open(here("x"), os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"HERE")
    os.close(fd)
    expect("content there", content(there("x")), b"ABC3456789HERE" + b"nded there")
    # Made shorter there: zeros up to the old size, nothing that is dirty is lost.
    fd = os.open(here("x"), os.O_RDWR)
    os.truncate(there("x"), 4)
    os.pwrite(fd, b"!", 12)
    expect("revalidate", command("revalidate", here("x")), 0)
    expect("size", os.fstat(fd).st_size, 14)
    os.close(fd)
    expect("byte there", content(there("x"))[12:13], b"!")
    os.close(keep)


CHECKS = [
    small_writes,
    reads_through_a_write_only_descriptor,
    appends,
    synchronous,
    times_are_kept,
    times_of_another_owner,
    truncation,
    no_hole_where_the_kernel_has_data,
    commands_fetch_what_the_kernel_has,
    revalidation_drops_nothing_dirty,
    weaker_than_without,
]

seed = int(os.environ.get("SEED", 0)) or random.randrange(1 << 30)
random.seed(seed)
print("writeback: seed %d" % seed)
os.chmod(export, 0o777)
results = []
for check in CHECKS:
    if sys.argv[4:] and check.__name__ not in sys.argv[4:]:
        continue
    before = failures
    try:
        check()
    except OSError as e:
        failures += 1
        print("writeback: %s: %s (%s)" % (check.__name__, e, errno.errorcode[e.errno]))
    results.append("%s=%d" % (check.__name__, failures - before))
print("writeback: %s %s" % (" ".join(results), "FAILED" if failures else "ok"))
sys.exit(failures != 0)
