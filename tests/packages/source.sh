#!/bin/sh
# SPDX-License-Identifier: MIT
# In a bare tree: from source. An ordinary user is told what is missing, root gets it by contrib/quickstart; then both build, and what
# `meson install` has put there is used by both.
set -u
. /in/tests/packages/common.sh
useradd -m user
cp -r /in /home/user/weightfs
cp -r /in /root/weightfs
chown -R user /home/user/weightfs
said=$(as user "cd ~/weightfs && contrib/quickstart" 2>&1)
case $said in *missing:*gcc*meson*"as root: apt-get install"*) verdict 0 "quickstart as an ordinary user names what is missing" ;; *) verdict 1 "quickstart as an ordinary user" "$said" ;; esac
cd /root/weightfs || exit 1
shows "quickstart as root" root contrib/quickstart
shows "quickstart with a checkpoint of one's own" root "contrib/quickstart /in/tests/files/torch/good-tutorial.pt"
shows "quickstart as an ordinary user, who finds all that is needed" user "cd ~/weightfs && contrib/quickstart"
check "meson setup, ninja, meson install" sh -c 'meson setup build && ninja -C build && meson install -C build'
install python3-numpy || exit 1
no_mount=no-mount
! can_mount || no_mount=
for who in root user; do # the module is in the tree
	as $who "PATH=/usr/local/bin:\$PATH PYTHONPATH=/in/contrib/python sh /in/tests/packages/as_user.sh /in 'source, $who' $no_mount"
done
check "the man pages are where man looks" sh -c 'test -s /usr/local/share/man/man1/wfctl.1 && test -s /usr/local/share/man/man8/mount.fuse.weightfs.8'
