# SPDX-License-Identifier: MIT
"""What every test script prints: TAP, a line a check."""
import os
import sys

count = failures = 0


def ok(good, what, detail=""):
    global count, failures
    count += 1
    failures += not good
    print(f"{'' if good else 'not '}ok {count} - {what}", flush=True)
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


def done():
    print(f"1..{count}")
    sys.exit(1 if failures else 0)
