#!/bin/sh
# SPDX-License-Identifier: MIT
# What a new user tries with the programs and the python3 of PATH: as_user.sh SOURCE_DIR LABEL [no-mount]. Prints a line a check.
# Everything happens in a directory of its own below the home directory; torch need not be installed.
set -u
source=$1 label=$2 mounts=${3:-}
work=$(mktemp -d "$HOME/try.XXXXXX")
trap 'cd /; rm -rf "$work"' EXIT
cd "$work" || exit 1
check() { # WHAT COMMAND...
	what=$1
	shift
	if said=$("$@" 2>&1); then
		echo "ok $label: $what"
	else
		echo "not ok $label: $what"
		echo "$said" | sed 's/^/#   /' | tail -n 20
	fi
}

cp "$source/tests/files/torch/good-tutorial.pt" m.pt
cp "$source/tests/files/torch/good-general.pt" general.pt
chmod u+w m.pt general.pt
check "wfctl verify" wfctl verify m.pt
check "wfctl ls" sh -c 'wfctl ls m.pt | grep -q "^conv1.weight.*\[6, 3, 5, 5\]"'
check "wfctl set and cat" sh -c 'wfctl set general.pt epoch 41 && [ "$(wfctl cat general.pt epoch)" = 41 ]'
check "wfctl export" sh -c 'wfctl export m.pt m.safetensors && [ -s m.safetensors ]'
check "weightfs --help" sh -c 'weightfs --help | grep -q map_location'
try=$source/tests/packages/try_module.py
check "the module: values and tensors of a file" python3 "$try" file general.pt
check "the module: what is no checkpoint is refused with a line" python3 "$try" refused /etc/passwd
check "the module's own tests" env PYTHONDONTWRITEBYTECODE=1 python3 -m unittest discover -s "$source/contrib/python/tests"
if [ -n "$mounts" ]; then
	mkdir mnt
	check "without a way to mount, weightfs says why and what else there is" sh -c '! weightfs m.pt mnt 2>said && [ "$(wc -l <said)" = 1 ] && grep -q wfctl said || { cat said; exit 1; }'
	exit 0
fi
mkdir mnt replay
check "the module: the same of a mount" sh -c 'weightfs general.pt mnt && python3 "$1" mount mnt && wfctl umount mnt' sh "$try"
cd replay || exit 1
python3 "$source/tests/packages/readme_sessions.py" "$source" "$label"
