#!/bin/sh
# SPDX-License-Identifier: MIT
# In a bare tree, by root: the wheel of /out installed by pip, by root and by an ordinary user, without a compiler, libfuse or libzip.
set -u
. /in/tests/packages/common.sh
apt-get -qq update >/dev/null
install python3-venv || exit 1
check "no compiler, no libfuse, no libzip, no fusermount3" sh -c '! command -v cc && ! command -v fusermount3 && [ -z "$(find / -xdev -name "libfuse*" -o -xdev -name "libzip*")" ]'
useradd -m user
try="python3 -m venv venv && venv/bin/pip -q install --disable-pip-version-check numpy /out/weightfs-*.whl"
check "pip install, as root" sh -c "cd /root && $try"
check "pip install, as an ordinary user" as user "cd && $try"
check "another Python finds it, too: pip install --target" sh -c "cd /tmp && python3 -m venv other && other/bin/pip -q install --no-deps --target /tmp/target /out/weightfs-*.whl &&
	PYTHONPATH=/tmp/target python3 -c 'import weightfs; weightfs.open(\"/in/tests/files/torch/good-general.pt\")[\"epoch\"]' && /tmp/target/bin/wfctl verify /in/tests/files/torch/good-general.pt"
no_mount=no-mount
! can_mount || no_mount=
as_user="PATH=\$HOME/venv/bin:\$PATH sh /in/tests/packages/as_user.sh /in"
if [ -z "$no_mount" ]; then # getfattr is in a session of the README
	as user "$as_user 'wheel, user without fusermount3' no-mount"
	install attr || exit 1
fi
sh -c "$as_user 'wheel, root' $no_mount" </dev/null
if [ -z "$no_mount" ]; then
	install fuse3 || exit 1
fi
as user "$as_user 'wheel, user' $no_mount"
check "pip uninstall" sh -c '/root/venv/bin/pip -q uninstall -y weightfs && ! ls /root/venv/bin | grep -E "weightfs|wfctl"'
