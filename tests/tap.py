# SPDX-License-Identifier: MIT
"""What every test script prints: TAP, a line a check."""
import os
import subprocess
import sys

count = failures = 0


def ok(good, what, detail=""):
    global count, failures
    count += 1
    failures += not good
    print(f"{'' if good else 'not '}ok {count} - " + what.replace("\n", "\\n"), flush=True)
    if not good and detail != "":
        print("\n".join(f"#   {line[:500]}" for line in str(detail).splitlines()[:20]), flush=True)
    return good


def same(got, wanted, what):
    return ok(got == wanted, what, f"got    {got!r}\nwanted {wanted!r}")


def skip(what, why):
    global count
    count += 1
    print(f"ok {count} - {what} # SKIP {why}", flush=True)


def skip_all(why):
    """Before any check."""
    print(f"1..0 # SKIP {why}")
    sys.exit(0)


def need_fuse():
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        skip_all("/dev/fuse is missing, or not for this user")


# Mounts of the tests beside this one are not held in a name space of its own: wfctl umount would name this process to them. $0: those
# below it stay.
LET_GO = """
mount --make-rprivate /
awk -v keep="$0/" '$3 == "fuse.weightfs" && index($2, keep) != 1 { print $2 }' /proc/self/mounts |
	while read -r where; do umount -l "$where" 2>/dev/null; done
"""
HIDE_FUSE = LET_GO + '[ ! -e /dev/fuse ] || mount --bind /dev/null /dev/fuse\nexec "$@"'


def let_go(keep="/nowhere"):
    """What runs a command without the mounts of others, in a mount name space of its own."""
    return ["sh", "-c", LET_GO + 'exec "$@"', keep]


def name_space(keep="/nowhere"):
    """What runs a command in a mount name space of its own, as root. keep: a directory whose mounts stay in it."""
    return ["unshare", "-m", *let_go(keep)]


def without_fuse():
    """As root the script begins anew in a mount name space in which /dev/fuse is none."""
    if os.geteuid() != 0 or "WEIGHTFS_NO_FUSE" in os.environ or subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        return
    os.environ["WEIGHTFS_NO_FUSE"] = "1"
    os.execvp("unshare", ["unshare", "-m", "sh", "-c", HIDE_FUSE, "/nowhere", sys.executable, *sys.argv])


def done():
    print(f"1..{count}")
    sys.exit(1 if failures else 0)
