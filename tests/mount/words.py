#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What weightfs and wfctl say where something is in the way: a table of situation, exit status and words of the one line; and wfctl ls on
a mount, which says what it says of the file.

Usage: words.py BUILD_DIR. Prints TAP. Situations are made in name spaces of their own, as root.
"""
import os
import shutil
import sys

from kit import World, done, name_space, need_fuse, ok, run, same, skip, write

need_fuse()
BUILD = sys.argv[1]
ROOT = os.geteuid() == 0
NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"
# /dev with a FUSE device of these permissions, and nothing else that is new
DEVICE = "mknod $D/fuse c 10 229 && chmod {mode} $D/fuse && mount --bind $D/fuse /dev/fuse"


def one_line(r, status, *words):
    text = r.stderr
    return r.returncode == status and not r.stdout and text.count("\n") == 1 and text.endswith("\n") and all(w in text for w in words)


def arguments(w):
    os.mkfifo(f"{w.dir}/fifo")
    for what, status, words, args in (
            ("swapped", 2, ["mnt: a directory, and m.pt is a file: the checkpoint comes first (weightfs m.pt mnt)"], ["mnt", "m.pt"]),
            ("swapped, with an option", 2, ["the checkpoint comes first"], ["-o", "ro", "mnt", "m.pt"]),
            ("a pipe", 1, ["fifo: this is a pipe, which cannot be read at random"], ["fifo", "mnt"]),
            ("-", 1, ["-: a checkpoint cannot come through a pipe"], ["-", "mnt"]),
            ("a mount point that is not there", 1, ["nowhere: there is no such directory to mount on (mkdir makes one)"], ["m.pt", "nowhere"]),
            ("below one that is not there", 1, ["there is no such directory"], ["m.pt", "nowhere/at/all"]),
            ("below a file", 1, ["m.pt/x: Not a directory"], ["m.pt", "m.pt/x"]), ("a file as the mount point", 1, ["Not a directory"], ["m.pt", "m.pt"]),
            ("no checkpoint of that name", 1, ["none.pt: No such file"], ["none.pt", "mnt"]),
            ("three arguments", 2, ["c: one argument too many"], ["a", "b", "c"])):
        r = run(w.weightfs, *args, cwd=w.dir)
        ok(one_line(r, status, *words) and not w.mounts(), f"weightfs {' '.join(args)}: {what}", r)
    write(f"{w.mnt}/something", b"x")
    r = w.mount()
    ok(r.returncode == 0 and not os.path.exists(f"{w.mnt}/something"), "a mount point that is not empty is covered, as everywhere", r)
    w.umount()
    os.unlink(f"{w.mnt}/something")


def held(w):
    """By whom: the process and its mount point."""
    w.mount()
    pid, other = str(w.daemon().pid), f"{w.dir}/second"
    os.mkdir(other)
    for command in ([w.weightfs, w.file, other], [w.weightfs, "-o", "rw", w.file, other], [w.wfctl, "commit", w.file],
                    [w.wfctl, "discard", w.file], [w.wfctl, "repack", w.file]):
        r = run(*command)
        ok(one_line(r, 1, f"process {pid}", f"mounted on {w.mnt} "), f"{os.path.basename(command[0])} {command[1]}: who has the checkpoint, and where", r)
    r = run(w.wfctl, "umount", w.file)
    ok(one_line(r, 1, f"this checkpoint is mounted on {w.mnt}; name that"), "wfctl umount of the checkpoint", r)
    for verb in ("status", "commit", "discard", "umount"):
        r = run(w.wfctl, verb, f"{w.mnt}/opt")
        ok(one_line(r, 1, f"not a weightfs mount: it is inside the one on {w.mnt}"), f"wfctl {verb} of a directory in a mount", r)
    link = f"{w.dir}/link"
    os.symlink(w.mnt, link)
    ok(run(w.wfctl, "status", link).returncode == 0, "a link to a mount point is one")
    daemon = w.daemon()
    daemon.kill(9)
    daemon.wait()
    r = run(w.wfctl, "status", w.mnt)
    ok(one_line(r, 1, "the daemon of this mount has died"), "wfctl status of a dead mount", r)
    r = run(w.wfctl, "umount", w.mnt)
    ok(one_line(r, 1, "unmounted, but its daemon had died"), "which wfctl umount frees", r)


def listing(w):
    def ls(path, *rest):
        return run(w.wfctl, "ls", *[a for a in rest if a.startswith("-")], path, *[a for a in rest if not a.startswith("-")])

    forms = ([], ["-a"], ["-l"], ["-al"], ["fc*"], ["-a", "opt"], ["-a", "epoch"], ["epoch"], ["opt"])
    wanted = [ls(w.file, *form).stdout for form in forms]
    w.mount()
    same([ls(w.mnt, *form).stdout for form in forms], wanted, "wfctl ls of a mount and of its checkpoint are the same")
    write(f"{w.mnt}/epoch", b"4\n")
    os.rename(f"{w.mnt}/fc.weight", f"{w.mnt}/head\x1b[31m")
    got = ls(w.mnt, "-a").stdout
    ok("head%1B[31m \t torch.Size([2, 3])\n" in got and "epoch \t 4\n" in got, "edits that wait are shown", got)
    with open(f"{w.mnt}/.weightfs/summary") as f:
        same(f.read(), got, "as .weightfs/summary has them")
    with open(f"{w.mnt}/.weightfs/tensors.json") as f:
        same(f.read(), ls(w.mnt, "--json").stdout, "and --json as .weightfs/tensors.json")
    r = ls(w.mnt, "nothing")
    ok(one_line(r, 1, f"{w.mnt}: no key is, fits or begins with nothing"), "a key that is not there", r)
    w.umount()
    same(ls(w.file, "-a").stdout, got, "after the commit the checkpoint has them")


def other_users(w):
    if not shutil.which("setpriv"):
        return skip("mounts of other users", "setpriv is missing")
    os.chmod(w.dir, 0o755)
    shutil.copytree(os.path.dirname(w.weightfs), f"{w.dir}/bin", ignore=shutil.ignore_patterns("*.p"))
    for options, words in (([], ["mounted by root (user 0), and for that user alone"]), (["-o", "allow_other"], [])):
        w.mount(*options)
        r = run(*NOBODY.split(), f"{w.dir}/bin/wfctl", "umount", w.mnt)
        ok(one_line(r, 1, "not unmounted: it was mounted by root (user 0); only that user and root can unmount it") and w.mounts(),
           f"wfctl umount of root's mount, as nobody {' '.join(options)}", r)
        r = run(*NOBODY.split(), f"{w.dir}/bin/wfctl", "status", w.mnt)
        ok(one_line(r, 1, *words) if words else r.returncode == 0, f"wfctl status of it {' '.join(options)}", r)
        w.umount()


def in_the_way(w):
    """Situations in which nothing can be mounted."""
    if run("unshare", "-m", "true").returncode != 0 or not shutil.which("setpriv"):
        return skip("where nothing can be mounted", "unshare -m or setpriv is missing")
    shutil.copytree(os.path.dirname(w.weightfs), f"{w.dir}/bin", ignore=shutil.ignore_patterns("*.p"))
    for path in (w.dir, w.file, w.mnt):
        os.chown(path, 65534, 65534)
    os.chmod(w.dir, 0o755)
    helper = run("sh", "-c", "command -v fusermount3").stdout.strip()
    profile = "mount fstype=@{fuse_types} options=(nosuid,nodev) -> @{HOME}/**/,\n  mount fstype=fuse -> /mnt/{,**/},\n  umount /x/**/,\n"
    write(f"{w.dir}/profile", profile.encode())
    write(f"{w.dir}/denied", b"#!/bin/sh\necho 'fusermount3: mount failed: Permission denied' >&2\nexit 1\n")
    everybody = DEVICE.format(mode=666)
    fake = f"chmod 4755 $D/denied && mount --bind $D/denied {helper}"
    no_helper = ("mkdir -p $D/o && mount -t tmpfs t $D/o && mkdir $D/o/u $D/o/w && mknod $D/o/u/fusermount3 c 0 0 && mount -t overlay o "
                 f"-o lowerdir={os.path.dirname(helper)},upperdir=$D/o/u,workdir=$D/o/w {os.path.dirname(helper)}")
    for what, words, setup, user in (
            ("without /dev/fuse", ["/dev/fuse is missing", "--device /dev/fuse --cap-add SYS_ADMIN", "wfctl works without"],
             "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3", ""),
            ("with a device that is none", ["mnt: "], "mount --bind /dev/null /dev/fuse", ""),
            ("root without CAP_SYS_ADMIN", ["the kernel does not let this process mount", "--cap-add SYS_ADMIN"], ":",
             "setpriv --bounding-set -sys_admin --inh-caps -sys_admin"),
            ("a device for root alone", ["this user may not open /dev/fuse"], DEVICE.format(mode=600), NOBODY),
            ("fusermount3 without setuid", ["fusermount3 is not setuid root", "chmod u+s"],
             f"{everybody} && cp {helper} $D/plain && chmod 755 $D/plain && mount --bind $D/plain {helper}", NOBODY),
            ("fusermount3 missing", ["fusermount3 is missing", "package fuse3"],
             f"{everybody} && {no_helper}", NOBODY),
            ("no new privileges", ["gain no privileges"], everybody, NOBODY + " --no-new-privs"),
            ("allow_other that fuse.conf does not allow", ["user_allow_other"], f"{everybody} && mount --bind /dev/null /etc/fuse.conf",
             NOBODY + " env OPTIONS=-oallow_other"),
            ("a mount point that is not this user's", ["mnt: ", "write access"], f"{everybody} && chown 0:0 $D/mnt", NOBODY),
            ("AppArmor", ["AppArmor does not let fusermount3 mount here", "folders below @{HOME}, /mnt (/etc/apparmor.d/fusermount3"],
             f"{everybody} && {fake} && mkdir -p $D/s/apparmor/parameters && echo Y > $D/s/apparmor/parameters/enabled && "
             "mount --bind $D/s /sys/module && mkdir -p /etc/apparmor.d && mkdir $D/a && cp $D/profile $D/a/fusermount3 && "
             "mount --bind $D/a /etc/apparmor.d", NOBODY),
            ("denied without AppArmor", ["does not let this process mount (mount failed: Permission denied)"],
             f"{everybody} && {fake} && mkdir -p $D/s2 && mount --bind $D/s2 /sys/module", NOBODY)):
        if "overlay" in setup and run(*name_space(), "sh", "-c", f"D={w.dir}; {setup}").returncode != 0:
            run("rm", "-rf", f"{w.dir}/fuse")
            skip(what, "an overlay cannot be mounted here")
            continue
        run("rm", "-rf", f"{w.dir}/fuse", f"{w.dir}/o")
        os.chown(w.mnt, 65534, 65534)
        r = run(*name_space(), "sh", "-c", f"D={w.dir}; ({setup}) || exit 9; cd $D; exec {user} sh -c 'exec bin/weightfs $OPTIONS m.pt mnt'")
        ok(one_line(r, 1, *words) and not w.mounts(), f"one line: {what}", r)
    run("rm", "-rf", f"{w.dir}/fuse", f"{w.dir}/o")
    r = run(*name_space(), "sh", "-c", f"D={w.dir}; cd $D; ({everybody}) && {NOBODY} bin/weightfs m.pt mnt && ({no_helper}) || {{ umount mnt; exit 9; }};"
            f" {NOBODY} bin/wfctl umount mnt; status=$?; umount mnt; exit $status")
    if r.returncode == 9:
        skip("unmounting without fusermount3", "an overlay cannot be mounted here")
    else:
        ok(one_line(r, 1, "not unmounted: fusermount3 is missing"), "unmounting without fusermount3", r)
    r = run(*name_space(), "sh", "-c", f"mount -t tmpfs tmpfs /dev && cd {w.dir} && exec bin/wfctl ls m.pt")
    ok(r.returncode == 0 and r.stdout.startswith("fc.weight"), "wfctl works where /dev/fuse is missing", r)


for case in (arguments, held, listing) + ((other_users, in_the_way) if ROOT else ()):
    with World(BUILD) as world:
        print(f"# {case.__name__}")
        case(world)
if not ROOT:
    skip("what other users and containers read", "not root")
done()
