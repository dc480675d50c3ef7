#!/bin/sh
# SPDX-License-Identifier: MIT
# In a bare tree, by root: the packages of /out installed, used by root and by an ordinary user, installed anew while a checkpoint is
# mounted, purged.
set -u
. /in/tests/packages/common.sh
apt-get -qq update >/dev/null
find / -xdev -type d \( -name in -o -name out -o -name proc -o -name tmp -o -name cache -o -name home \) -prune -o -print | sort >/tmp/before
check "apt-get install" apt-get -qq install -y /out/weightfs_*.deb /out/python3-weightfs_*.deb # with what they recommend: attr, numpy
useradd -m user
cp /in/tests/files/torch/good-tutorial.pt /home/user/m.pt
chown user /home/user/m.pt
no_mount=no-mount
! can_mount || no_mount=
sh /in/tests/packages/as_user.sh /in "package, root" $no_mount
as user "sh /in/tests/packages/as_user.sh /in 'package, user' $no_mount"

# the lines of the README that need torch: with Debian's
if install python3-torch; then
	check "the module's own tests, with Debian's torch" env PYTHONDONTWRITEBYTECODE=1 python3 -m unittest discover -s /in/contrib/python/tests
	if [ -z "$no_mount" ]; then
		(mkdir /root/replay && cd /root/replay && PYTHONPATH=/in/tests/torch python3 /in/tests/packages/readme_sessions.py /in "package, with torch")
	fi
fi

for page in weightfs.1 wfctl.1 mount.fuse.weightfs.8; do
	check "the man page $page" sh -c "dpkg -L weightfs | grep -q /man/.*/$page.gz"
done
check "bash and zsh complete" sh -c 'test -s /usr/share/bash-completion/completions/wfctl && test -s /usr/share/zsh/vendor-completions/_wfctl'
check "examples and AppArmor lines" sh -c 'ls /usr/share/doc/weightfs/examples/*.mount /usr/share/doc/weightfs/examples/*.automount &&
	ls /usr/share/doc/weightfs/examples | grep -q fusermount3'
unit=$(find /lib/systemd /usr/lib/systemd -name "weightfs@.service" | head -n 1)
check "the systemd template runs what is installed and waits for a commit" sh -c 'grep -q "^ExecStart=/usr/bin/weightfs " "$1" &&
	grep -q "^ExecStop=/usr/bin/wfctl umount %f" "$1" && grep -q "^TimeoutStopSec=infinity" "$1" && grep -q "^SendSIGKILL=no" "$1" && test -x /usr/bin/wfctl' sh "$unit"
check "no service is enabled or started" sh -c '! find /etc/systemd -name "weightfs*" | grep .'

if [ -n "$no_mount" ]; then
	echo "ok fstab, mount(8), autopkgtest's mounts, a package installed anew while mounted # SKIP /dev/fuse is missing"
else
	mkdir -p /mnt/m
	echo "/home/user/m.pt /mnt/m fuse.weightfs nofail,allow_other 0 0" >>/etc/fstab
	check "mount -a" sh -c 'mount -a -t fuse.weightfs && test -e /mnt/m/conv1.weight'
	check "another user reads what allow_other shows" as user "cat /mnt/m/conv1.weight >/dev/null"
	check "umount" sh -c 'umount /mnt/m && ! mountpoint -q /mnt/m'
	check "mount MOUNTPOINT" sh -c 'mount /mnt/m && mv /mnt/m/fc3.bias /mnt/m/head.bias'
	check "installed over itself while mounted" sh -c 'apt-get -qq install -y --reinstall /out/weightfs_*.deb && test -e /mnt/m/head.bias &&
		mv /mnt/m/fc3.weight /mnt/m/head.weight && cmp /mnt/m/head.bias /mnt/m/head.bias'
	check "a new wfctl speaks to the old daemon" wfctl status /mnt/m
	check "umount, whose commit the daemon makes afterwards" sh -c 'daemon=$(sed -n "s/.*\"pid\": *\([0-9]*\).*/\1/p" /mnt/m/.weightfs/status)
		umount /mnt/m && tail --pid="$daemon" -f /dev/null && wfctl ls /home/user/m.pt | grep -q ^head.bias && wfctl ls /home/user/m.pt | grep -q ^head.weight'
	check "mount -t weightfs" sh -c 'mount -t weightfs -o ro /home/user/m.pt /mnt/m && test -e /mnt/m/head.bias && umount /mnt/m'
fi
for script in list-and-mount python; do # what autopkgtest runs, from the source's top
	if [ -n "$no_mount" ] && [ $script != python ]; then continue; fi
	check "autopkgtest: $script" sh -c "cd /in && sh contrib/debian/tests/$script"
done

if [ -z "$no_mount" ]; then
	mount /mnt/m
	check "purged while mounted: the mount works on" sh -c 'apt-get -qq purge -y weightfs python3-weightfs && test -s /mnt/m/conv1.weight && umount /mnt/m'
	sed -i '$d' /etc/fstab
else
	check "purged" apt-get -qq purge -y weightfs python3-weightfs
fi
check "and everything that came with it" apt-get -qq autoremove --purge -y
find / -xdev -type d \( -name in -o -name out -o -name proc -o -name tmp -o -name cache -o -name home \) -prune -o -print | sort >/tmp/after
left=$(comm -13 /tmp/before /tmp/after | grep -i weightfs)
[ -z "$left" ]
verdict $? "nothing of it is left" "$left"
