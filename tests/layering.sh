#!/bin/sh
# The edges between the three rings: fs/ -> codec/ -> devices/device.h, nothing back, no FUSE or CUDA in the codec.
# Usage: layering.sh SOURCE_DIR CODEC_ARCHIVE DEVICES_ARCHIVE. Prints TAP.
set -u
top=$1 codec=$2 devices=$3
n=0 failed=0
ok() {
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=1; fi
}
for header in "$top"/codec/*.h "$top"/devices/*.h "$top"/fs/*.h; do
	[ -e "$header" ] || continue
	flags=
	case $header in */fs/*) flags=$(pkg-config --cflags fuse3) ;; esac
	# shellcheck disable=SC2086
	printf '#include "%s"\n' "$header" | cc -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=314 -Wall -Werror -I"$top" $flags \
		-fsyntax-only -x c - 2>/tmp/layering.$$
	ok $? "$(basename "$header") compiles alone"
	sed 's/^/# /' /tmp/layering.$$
done
rm -f /tmp/layering.$$
undefined() { nm -u "$1" | awk '{print $2}' | sort -u; }
undefined "$codec" | grep -E '^(fuse_|cuda|cu[A-Z]|fs_)' | sed 's/^/# /' | { ! grep .; }
ok $? "the codec calls neither FUSE nor CUDA nor fs/"
undefined "$devices" | grep -E '^(fuse_|fs_|wf_)' | sed 's/^/# /' | { ! grep .; }
ok $? "devices/ calls neither FUSE nor the codec"
grep -nE '#include "(\.\./)?(fs|contrib)/' "$top"/codec/*.[ch] "$top"/devices/*.[ch] | sed 's/^/# /' | { ! grep .; }
ok $? "no include points outwards"
grep -nE '#include "codec/' "$top"/fs/*.[ch] 2>/dev/null | grep -vE '"codec/(checkpoint|err|buffer|util)\.h"' | sed 's/^/# /' | { ! grep .; }
ok $? "fs/ includes the codec's front door only"
echo "1..$n"
exit $failed
