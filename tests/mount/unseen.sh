# shellcheck shell=bash disable=SC2154
# SPDX-License-Identifier: Apache-2.0
#
# What the kernel and the daemon believe of a file or its names after something went on without its
# caller: a killed one's operation, a silly name's removal, a removal on another machine. Sourced by
# tests/mount/tests.sh.

# unseen [OPTIONS] <PROGRAM: Python, after what all of them need. M is the mount's directory, E the server's.
unseen() {
    only_embedded && have_python || return 77
    server_start && mount_start a "${1-actimeo=60}" || return
    CONTROL=$CONTROL timeout -k 5 100 python3 - "$T/a" "$EXPORT" "$NFSCACHED" <<END
import errno, json, os, signal, subprocess, sys, threading, time
M, E, nfscached = sys.argv[1:]
def calls(name):
    out = subprocess.run([nfscached, "status", "--json", M], stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout)["rpc"].get(name, {"calls": 0})["calls"]
def server(line):
    subprocess.run([nfscached, "fault", "--control", os.environ["CONTROL"], line], stdout=subprocess.DEVNULL, check=True)
def wait_for(what, is_so):
    until = time.monotonic() + 15
    while not is_so():
        if time.monotonic() > until:
            print("not so:", what)
            sys.exit(1)
        time.sleep(0.02)
def there(path):
    return os.path.lexists(path)
def put(path, content):
    with open(path, "wb") as f:
        f.write(content)
# The call is sent, its caller killed, and only then carried out.
def killed(call, fn, *args):
    before = calls(call)
    server(call + ":delay=3000:count=1")
    pid = os.fork()
    if pid == 0:
        fn(*args)
        os._exit(0)
    wait_for(call + " is sent", lambda: calls(call) > before)
    os.kill(pid, signal.SIGKILL)
    if os.waitpid(pid, 0)[1] != signal.SIGKILL:
        print("not killed")
        sys.exit(1)
$(cat)
END
}

# Killed in a rename: the new name is seen, though it was known not to be, and the old one is not,
# though it was looked at once more before it went.
test_killed_caller_renamed_it() {
    unseen <<'END'
put(M + "/old", b"content")
if there(M + "/new"):
    sys.exit(1)
killed("RENAME", os.rename, M + "/old", M + "/new")
if not there(M + "/old"):
    sys.exit(1)
wait_for("the server renames it", lambda: there(E + "/new"))
wait_for("the new name is seen", lambda: there(M + "/new"))
wait_for("the old name is gone", lambda: not there(M + "/old"))
END
}

test_killed_caller_removed_it() {
    unseen <<'END'
put(M + "/f", b"content")
os.mkdir(M + "/d")
for call, fn, path in ("REMOVE", os.unlink, "/f"), ("RMDIR", os.rmdir, "/d"):
    killed(call, fn, M + path)
    if not there(M + path):
        sys.exit(1)
    wait_for("the server removes it", lambda: not there(E + path))
    wait_for("the name is gone", lambda: not there(M + path))
END
}

# Killed in a truncation: the kernel's pages are not those of the file any more.
test_killed_caller_truncated_it() {
    unseen <<'END'
put(M + "/f", b"A" * 8192)
fd = os.open(M + "/f", os.O_RDWR)
if os.read(fd, 10000) != b"A" * 8192:
    sys.exit(1)
killed("SETATTR", os.truncate, M + "/f", 0)
wait_for("the server truncates it", lambda: os.stat(E + "/f").st_size == 0)
os.pwrite(fd, b"B", 4096)
os.fsync(fd)
wait_for("it is empty but for one byte", lambda: os.pread(fd, 10000, 0) == b"\0" * 4096 + b"B")
END
}

# A LOOKUP that is answered after a silly name went says nothing of the directory any more. The file
# that it found is known all the same when something is renamed over it.
test_looked_up_while_a_removed_file_goes() {
    unseen <<'END'
put(E + "/x", b"content")
put(M + "/z", b"other")
def silly():
    return [n for n in os.listdir(E) if n.startswith(".nfs")]
def meanwhile(fn, *args):
    fd = os.open(M + "/t", os.O_CREAT | os.O_RDONLY)
    os.unlink(M + "/t")
    server("LOOKUP:delay=3000:count=1")
    before = calls("LOOKUP")
    thread = threading.Thread(target=fn, args=args)
    thread.start()
    wait_for("LOOKUP is sent", lambda: calls("LOOKUP") > before)
    os.close(fd)
    wait_for("the silly name goes", lambda: not silly())
    thread.join()
meanwhile(os.stat, M + "/x")
fd = os.open(M + "/x", os.O_RDONLY)
meanwhile(os.rename, M + "/z", M + "/x")
if open(E + "/x", "rb").read() != b"other" or len(silly()) != 1 or os.read(fd, 100) != b"content":
    sys.exit(1)
END
}

# Changed elsewhere, and removed there before that could be looked at: stat(2) says that it is gone.
test_changed_and_removed_elsewhere() {
    unseen <<'END'
put(E + "/f", b"A" * (16 << 20))
fd = os.open(M + "/f", os.O_RDONLY)
os.pread(fd, 10, 0)
with open(E + "/f", "ab") as f:
    f.write(b"more")
before = calls("GETATTR")
server("GETATTR:delay=3000:count=1")
os.pread(fd, 10, 12 << 20)
wait_for("GETATTR is sent", lambda: calls("GETATTR") > before)
os.unlink(E + "/f")
def stale():
    try:
        os.fstat(fd)
    except OSError as e:
        return e.errno == errno.ESTALE
    return False
wait_for("stat says that it is gone", stale)
END
}

# The kernel forgets a file that was written here, and is told of it again by a listing that was
# fetched before: its size is not the old one.
test_forgotten_and_listed_again() {
    unseen <<'END'
import ctypes
os.mkdir(E + "/d")
for i in range(3000):
    put(E + "/d/file%04d" % i, b"")
time.sleep(0.3) # the directory's times are believed
listing = os.scandir(M + "/d")
known = set(next(listing).name for i in range(10))
written = ["/d/file%04d" % i for i in range(0, 3000, 10)]
for name in written:
    with open(M + name, "ab") as f:
        f.write(b"x")
MS_REMOUNT = 32 # lets go of all names that are not in use
if ctypes.CDLL(None, use_errno=True).mount(b"none", M.encode(), None, MS_REMOUNT, None) != 0:
    sys.exit("no remount: errno %d" % ctypes.get_errno())
list(listing)
wrong = [name for name in written if os.stat(M + name).st_size != 1]
if wrong:
    print("old sizes:", len(wrong), wrong[:3])
    sys.exit(1)
END
}

# Two ask for the attributes at a time, and the file grows elsewhere between the two answers: the
# kernel takes the first one, and passes the second on. What is appended then goes to the end.
test_appended_at_the_size_that_the_kernel_has() {
    unseen acregmin=0,acregmax=0,acdirmin=60,acdirmax=60 <<'END'
put(M + "/f", b"0123456789")
fd = os.open(M + "/f", os.O_RDONLY)
os.fstat(fd)
before = calls("GETATTR")
server("GETATTR:delay=1000:count=1")
server("GETATTR:delay=3000:skip=1:count=1")
sizes = {}
def stat(which):
    sizes[which] = os.fstat(fd).st_size
threads = [threading.Thread(target=stat, args=(i,)) for i in range(2)]
for i in range(2):
    threads[i].start()
    wait_for("GETATTR is sent", lambda: calls("GETATTR") == before + 1 + i)
threads[0].join()
with open(E + "/f", "ab") as f:
    f.write(b"elsewhere")
threads[1].join()
if sizes != {0: 10, 1: 19}:
    print("not as wanted:", sizes)
    sys.exit(2)
to = os.open(M + "/f", os.O_WRONLY | os.O_APPEND)
os.write(to, b"here")
os.close(to)
if open(E + "/f", "rb").read() != b"0123456789elsewherehere":
    print(open(E + "/f", "rb").read())
    sys.exit(1)
END
}

# A lock is granted: what is appended under it goes to the end that the file has now.
test_appended_under_a_lock() {
    unseen <<'END'
import fcntl
put(M + "/f", b"0123456789")
for lock in lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX), lambda fd: fcntl.flock(fd, fcntl.LOCK_EX):
    to = os.open(M + "/f", os.O_RDWR | os.O_APPEND)
    before = os.pread(to, 100, 0)
    with open(E + "/f", "ab") as f:
        f.write(b"elsewhere")
    lock(to)
    os.write(to, b"here")
    os.close(to)
    if open(E + "/f", "rb").read() != before + b"elsewherehere":
        print(open(E + "/f", "rb").read())
        sys.exit(1)
END
}

# Killed in a chmod: the mode is seen, though it was looked at once more before it was set.
test_killed_caller_changed_it() {
    unseen <<'END'
put(M + "/f", b"content")
mode = lambda path: os.stat(path).st_mode & 0o777
killed("SETATTR", os.chmod, M + "/f", 0o612)
if mode(M + "/f") == 0o612:
    sys.exit(1)
wait_for("the server sets it", lambda: mode(E + "/f") == 0o612)
wait_for("it is seen", lambda: mode(M + "/f") == 0o612)
END
}

# A rename over an open file fails, and the file is removed while the silly name that it was saved by
# goes again.
test_removed_after_a_failed_rename() {
    unseen <<'END'
put(E + "/f", b"content")
put(M + "/z", b"other")
fd = os.open(M + "/f", os.O_RDONLY)
server("RENAME:error=ACCES:count=1")
server("REMOVE:delay=3000:count=1")
before = calls("REMOVE")
try:
    os.rename(M + "/z", M + "/f")
    sys.exit(2)
except PermissionError:
    pass
silly = lambda: [n for n in os.listdir(E) if n.startswith(".nfs")]
first = silly()
if calls("REMOVE") != before + 1 or len(first) != 1:
    sys.exit(2)
os.unlink(M + "/f")
if there(E + "/f"):
    sys.exit(2)
wait_for("the first silly name goes", lambda: first[0] not in silly())
if len(silly()) != 1 or os.read(fd, 100) != b"content":
    print("silly names:", silly())
    sys.exit(1)
os.close(fd)
wait_for("the second one goes", lambda: not silly())
END
}
