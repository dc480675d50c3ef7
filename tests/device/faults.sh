#!/bin/sh
# SPDX-License-Identifier: MIT
# Every entry point of the driver fails once, at its first or a later call, on the double: operations then report errors with the
# driver's name for them, and nothing leaks, crashes, hangs or touches what it must not (the double ends the process with status 99
# where it would).
# Usage: faults.sh TEST_DEVICE OPEN_HANDLE. Prints TAP.
set -u
test_device=$1 open_handle=$2
n=0 failed=0
# what a sanitizer finds must not look like a test that failed as it should
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}exitcode=98" UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}exitcode=98"
for name in cuDeviceGet cuDevicePrimaryCtxRetain cuCtxSetCurrent cuMemAlloc_v2 cuMemHostRegister_v2 cuStreamCreate cuEventCreate \
	cuMemcpyHtoDAsync_v2 cuMemcpyDtoHAsync_v2 cuEventRecord cuEventQuery cuStreamSynchronize cuModuleLoadData \
	cuModuleGetFunction cuLaunchKernel cuIpcGetMemHandle cuMemGetInfo_v2 cuDeviceGetUuid_v2 cuMemCreate \
	cuMemExportToShareableHandle cuMemAddressReserve cuMemMap cuMemSetAccess; do
	bad=
	# memory is made by steps where it can be
	case $name in cuMemAlloc_v2 | cuIpcGetMemHandle) export WEIGHTFS_SHARE=ipc ;; *) unset WEIGHTFS_SHARE ;; esac
	for at in 1 4; do
		# without a current context nothing can be freed: the one case in which something is left at exit
		[ $name = cuCtxSetCurrent ] && export FAKE_CUDA_NO_LEAK_CHECK=1 || unset FAKE_CUDA_NO_LEAK_CHECK
		out=$(FAKE_CUDA="delay=0,fail=$name:$at:719" timeout 60 "$test_device" cuda "$open_handle" 2>/dev/null)
		status=$?
		[ $status -le 1 ] || bad="$bad call $at ended with status $status;"
		# a module that cannot be loaded is no failure: there is a way without kernels
		case $at$name$out in
		1cuModuleLoadData* | 4* | *CUDA_ERROR_LAUNCH_FAILED*) ;;
		*) bad="$bad nobody says what the driver said;" ;;
		esac
	done
	n=$((n + 1))
	if [ -z "$bad" ]; then echo "ok $n - $name fails"; else echo "not ok $n - $name fails:$bad"; failed=1; fi
done
unset WEIGHTFS_SHARE FAKE_CUDA_NO_LEAK_CHECK
# a driver that cannot: the other way, and its reason is told
for name in cuMemGetAllocationGranularity cuMemCreate cuMemExportToShareableHandle cuMemAddressReserve cuMemMap cuMemSetAccess; do
	out=$(FAKE_CUDA="delay=0,fail=$name:1:801" timeout 60 "$test_device" cuda "$open_handle" 2>&1)
	status=$?
	n=$((n + 1))
	case $status$out in
	0*"by CUDA IPC handles, which are writable ($name: CUDA_ERROR_NOT_SUPPORTED)"*) echo "ok $n - without $name handles are the way" ;;
	*) echo "not ok $n - without $name handles are the way: status $status"; failed=1 ;;
	esac
done
out=$(FAKE_CUDA="delay=0,arch=50" timeout 60 "$test_device" cuda "$open_handle" 2>&1)
status=$?
n=$((n + 1))
case $status$out in
0*"# SKIP no device kernels: CUDA_ERROR_NO_BINARY_FOR_GPU"*) echo "ok $n - a GPU that has no kernels" ;;
*) echo "not ok $n - a GPU that has no kernels: status $status"; failed=1 ;;
esac
FAKE_CUDA="memory=8" timeout 60 "$test_device" cuda "$open_handle" >/dev/null 2>&1
status=$?
n=$((n + 1))
if [ $status -eq 1 ]; then echo "ok $n - out of memory"; else echo "not ok $n - out of memory: status $status"; failed=1; fi
FAKE_CUDA="devices=0" "$test_device" cuda "$open_handle" | grep -q 'SKIP no usable CUDA device (CUDA_ERROR_NO_DEVICE)'
status=$?
n=$((n + 1))
if [ $status -eq 0 ]; then echo "ok $n - no device"; else echo "not ok $n - no device"; failed=1; fi
echo "1..$n"
exit $failed
