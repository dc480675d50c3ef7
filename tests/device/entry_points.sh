#!/bin/sh
# SPDX-License-Identifier: MIT
# Every entry point of the driver that is asked for exists in the toolkit's stub library, and the driver's double has it as well.
# Usage: entry_points.sh ENTRY_POINTS TOP DOUBLE     DOUBLE: the double's library, or "none". Prints TAP.
set -u
program=$1 top=$2 double=$3
stub=
for candidate in "${CUDA_HOME:-/usr/local/cuda}"/lib64/stubs/libcuda.so "${CUDA_HOME:-/usr/local/cuda}"/targets/*/lib/stubs/libcuda.so \
	/usr/lib/*/stubs/libcuda.so; do
	[ -z "$stub" ] && [ -e "$candidate" ] && stub=$candidate
done
[ -n "$stub" ] || { echo "1..0 # SKIP the CUDA toolkit's stub library was not found"; exit 0; }
command -v nm >/dev/null || { echo "1..0 # SKIP nm is not installed"; exit 0; }
exported() { nm -D --defined-only "$1" | sed -n 's/.* [TWVi] \(cu[A-Z][A-Za-z0-9_]*\).*/\1/p' | sort -u; }

# devices/ through its table; the consumer's side by name
names=$({
	"$program"
	grep -oh 'cu[A-Z][A-Za-z0-9]*\(_v[0-9]\)\?' "$top/contrib/python/weightfs/cuda.py"
	sed -n 's/.*dlsym([a-z]*, "\(cu[A-Za-z0-9_]*\)").*/\1/p' "$top/tests/device/open-handle.c"
} | sort -u)
in_stub=$(exported "$stub")
in_double=
[ "$double" = none ] || in_double=$(exported "$double")
n=0 failed=0
check() { # NAME LIST WHERE
	n=$((n + 1))
	if printf '%s\n' "$2" | grep -qx "$1"; then echo "ok $n - $1 is in $3"; else echo "not ok $n - $1 is in $3"; failed=1; fi
}
for name in $names; do
	check "$name" "$in_stub" "the toolkit's stub library"
	[ -z "$in_double" ] || [ "$name" = cuGetProcAddress ] || check "$name" "$in_double" "the double"
done
for name in $in_double; do
	printf '%s\n' "$names" | grep -qx "$name" || check "$name" "$in_stub" "the toolkit's stub library, as the double has it"
done
echo "1..$n"
exit $failed
