# shellcheck shell=bash disable=SC2154
# SPDX-License-Identifier: Apache-2.0
#
# Storms of metadata: LOOKUPs that are answered without asking, attributes that are fetched before
# they are asked for (fuse/ahead.c). Sourced by tests/mount/tests.sh.
#
# The kernel must not know a name for its LOOKUP to come: each test works on names that it looks at
# for the first time. The files lie for a while before they are looked at: a directory that changed
# within the tick of the server's clock is not believed.

# ahead PROGRAM: Python, after what all of them need. M is the mount's directory d, E the server's.
ahead() {
    have_python || return 77
    CONTROL=$CONTROL timeout -k 5 60 python3 - "$T/a" "$EXPORT" "$NFSCACHED" <<END
import errno, json, os, subprocess, sys, time
M, E, nfscached = sys.argv[1] + "/d", sys.argv[2] + "/d", sys.argv[3]
def status():
    out = subprocess.run([nfscached, "status", "--json", sys.argv[1]], stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout)
def calls(*names):
    rpc = status()["rpc"]
    return sum(rpc.get(n, {"calls": 0})["calls"] for n in names)
def name(i):
    return "/f%d" % i
def make(n):
    os.mkdir(E)
    for i in range(n):
        with open(E + name(i), "w") as f:
            f.write("old %d" % i)
    time.sleep(0.5)
    os.stat(M)
    time.sleep(0.5)
def check(what, is_so):
    if not is_so:
        print("not so:", what, json.dumps(status()["ahead"]))
        sys.exit(1)
def gone(path):
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    return False
def content(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError as e:
        return errno.errorcode[e.errno]
# So many names, until all that the directory has are known: the rest is answered without a call.
def run(first, n):
    for i in range(first, first + n):
        os.lstat(M + name(i))
$(cat)
END
}

# A storm asks for few of the names, shows what the server has, and what was not used goes again.
test_ahead_answers() {
    server_start && mount_start a && ahead <<'END'
make(600)
before = status()["ahead"]
for i in range(600):
    a, b = os.lstat(M + name(i)), os.lstat(E + name(i))
    check("the same file", (a.st_ino, a.st_size, a.st_mtime_ns) == (b.st_ino, b.st_size, b.st_mtime_ns))
s = status()
print("lookups=%d listings=%d answered=%d" % (s["rpc"]["LOOKUP"]["calls"], s["ahead"]["listings"], s["ahead"]["lookups"]))
check("few are asked", s["rpc"]["LOOKUP"]["calls"] < 300)
check("few listings", 1 <= s["ahead"]["listings"] < 20)
# Expired attributes: the same by GETATTR.
time.sleep(3.5)
before = calls("GETATTR", "LOOKUP")
run(0, 600)
check("few are asked again", calls("GETATTR", "LOOKUP") - before < 300)
END
}

# What is fetched is in proportion to what is asked for; who walks no tree gets nothing ahead.
test_ahead_is_bounded() {
    server_start && mount_start a && ahead <<'END'
make(3000)
for i in range(50):
    os.lstat(M + "/f7")
    gone(M + "/none%d" % i)
for i in range(2):
    os.lstat(M + name(i))
check("no listing for one file, missing ones, and two more", status()["ahead"]["listings"] == 0)
for asked in 20, 40, 80:
    run(10, asked)
    # The call may be under way still.
    time.sleep(0.5)
    got = status()["ahead"]
    print("asked=%d entries=%d held=%d" % (asked, got["entries"], got["held"]))
    # A reply is measured in bytes: its names may be shorter than assumed.
    check("some, and not too many", 32 <= got["entries"] <= (asked + 10) * 8 * 1.5)
    check("no more are held than came", got["held"] <= got["entries"])
end = time.time() + 20
while status()["ahead"]["held"] and time.time() < end:
    time.sleep(0.1)
check("all let go", status()["ahead"]["held"] == 0)
END
}

# Names that are answered without asking, and that somebody else changed meanwhile: open(2) has the
# truth at once. The name is believed, the OPEN says ESTALE, and the kernel walks the path again.
test_ahead_and_others() {
    server_start && mount_start a && ahead <<'END'
make(400)
with open(E + "/../new", "w") as f:
    f.write("new")
run(0, 300)
time.sleep(0.3)
before = status()["ahead"]["lookups"]
os.rename(E + "/../new", E + name(330))
os.unlink(E + name(331))
check("replaced", content(M + name(330)) == "new")
check("it was believed", status()["ahead"]["lookups"] > before)
check("removed", content(M + name(331)) == "ENOENT")
check("left alone", content(M + name(332)) == "old 332")
END
}

# stat(2) after a second: the directory is asked for, although its attributes are fresh.
test_ahead_asks_each_second() {
    server_start && mount_start a && ahead <<'END'
make(400)
run(0, 300)
time.sleep(0.3)
os.unlink(E + name(395))
# The run goes on by names that nobody looked at so far.
for i in range(300, 310):
    time.sleep(0.12)
    os.lstat(M + name(i))
check("gone after a second", gone(M + name(395)))
END
}

# Own changes are seen at once, also those that a listing under way does not know of.
test_ahead_and_own_changes() {
    only_embedded || return 77
    server_start && mount_start a && ahead <<'END'
make(40)
subprocess.run([nfscached, "fault", "--control", os.environ["CONTROL"], "READDIRPLUS:delay=500"], check=True)
run(0, 6)
def listings():
    return status()["ahead"]["listings"]
check("one is under way", listings() == 0)
os.unlink(M + name(20))
os.rename(M + name(21), M + name(22))
os.rename(M + name(23), M + "/other")
with open(M + name(24), "w") as f:
    f.write("mine")
os.unlink(M + name(25))
with open(M + name(25), "x") as f:
    f.write("made again")
end = time.time() + 20
while listings() == 0 and time.time() < end:
    time.sleep(0.05)
check("it came", listings() > 0)
for i in range(6, 12):
    os.lstat(M + name(i))
check("removed", gone(M + name(20)) and gone(M + name(21)) and gone(M + name(23)))
check("renamed", content(M + name(22)) == "old 21" and content(M + "/other") == "old 23")
check("written", content(M + name(24)) == "mine" and os.lstat(M + name(24)).st_size == 4)
check("made again", content(M + name(25)) == "made again")
check("as the server has it", sorted(os.listdir(M)) == sorted(os.listdir(E)))
END
}

# Who may not search a directory learns nothing from what another user's storm fetched; who may not
# list it asks for each name, as before.
test_ahead_and_permissions() {
    server_start && mount_start a && ahead <<'END'
def as_other(program):
    return subprocess.run(["setpriv", "--reuid", "4242", "--regid", "4242", "--clear-groups", sys.executable, "-c",
                           "import os\nM = %r\n" % M + program]).returncode
make(100)
os.chmod(E, 0o700)
time.sleep(0.6)
run(0, 20)
time.sleep(0.3)
before = calls("LOOKUP")
os.lstat(M + name(50))
check("known", calls("LOOKUP") == before)
check("not for others", as_other("""
try:
    os.lstat(M + "/f60")
except PermissionError:
    raise SystemExit(0)
raise SystemExit(1)""") == 0)
END
}
