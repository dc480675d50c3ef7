/* SPDX-License-Identifier: MIT */
/* The other process of the sharing test: opens what a device shares, copies the bytes out and compares their sum.
 * Usage: open-handle HEX SOCKET OFFSET SIZE SUM     SOCKET: "-" for a CUDA IPC handle. Exit status 0 when the sums agree, and
 * memory that came by a descriptor cannot be written. */
#include "devices/cuda_driver.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* opening is the consumer's side: weightfs itself never calls these, so its table does not hold them */
static struct {
	cu_result (*ipc_open)(cu_deviceptr *, struct cu_ipc_mem_handle, unsigned int);
	cu_result (*ipc_close)(cu_deviceptr);
	cu_result (*import)(cu_vmm_handle *, void *, enum cu_handle_type);
} consumer;

static int receive(const char *path, const void *handle, size_t len, uint64_t *ret_size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec data = {ret_size, sizeof *ret_size};
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), fd = -1;
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	if (s < 0 || connect(s, (const struct sockaddr *)&address, sizeof address) < 0 ||
	    send(s, handle, len, 0) != (ssize_t)len || recvmsg(s, &message, 0) != sizeof *ret_size)
		return -1;
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(header), sizeof fd);
	close(s);
	return fd;
}

static unsigned long long sum_of(const struct dev_cuda_driver *cu, cu_deviceptr p, size_t size, cu_stream stream)
{
	unsigned char *data = malloc(size);
	unsigned long long sum = 0;
	if (cu->copy_out(data, p, size, stream) || cu->stream_synchronize(stream))
		sum = ~0ull;
	for (size_t i = 0; i < size; i++)
		sum = sum * 31 + data[i];
	free(data);
	return sum;
}

int main(int argc, char **argv)
{
	const struct dev_cuda_driver *cu;
	const char *why;
	struct cu_ipc_mem_handle handle;
	cu_device device;
	cu_context context;
	cu_stream stream;
	cu_deviceptr p;
	if (argc != 6 || dev_cuda_driver_load(&cu, &why) < 0)
		return 99;
	void *library = dlopen("libcuda.so.1", RTLD_NOW);
	consumer.ipc_open = dlsym(library, "cuIpcOpenMemHandle_v2");
	consumer.ipc_close = dlsym(library, "cuIpcCloseMemHandle");
	consumer.import = dlsym(library, "cuMemImportFromShareableHandle");
	for (int i = 0; i < 64; i++)
		sscanf(argv[1] + 2 * i, "%2hhx", (unsigned char *)&handle.reserved[i]);
	uint64_t offset = strtoull(argv[3], NULL, 10), mapped = 0;
	size_t size = strtoull(argv[4], NULL, 10);
	unsigned long long wanted = strtoull(argv[5], NULL, 10);
	bool by_socket = strcmp(argv[2], "-") != 0;
	if (cu->device_get(&device, 0) || cu->context_retain(&context, device) || cu->context_set(context) ||
	    cu->stream_create(&stream, 0))
		return 1;
	int status = 0;
	if (by_socket) {
		struct cu_access_desc read_only = {.location = {.type = 1, .id = device}, .flags = 1};
		cu_vmm_handle memory;
		int fd = receive(argv[2], &handle, sizeof handle, &mapped);
		if (fd < 0 || consumer.import(&memory, (void *)(intptr_t)fd, CU_HANDLE_TYPE_POSIX_FD) ||
		    cu->vmm_reserve(&p, mapped, 0, 0, 0) || cu->vmm_map(p, mapped, 0, memory, 0) ||
		    cu->vmm_access(p, mapped, &read_only, 1) || cu->vmm_release(memory))
			return 2;
		close(fd);
		if (sum_of(cu, p + offset, size, stream) != wanted || cu->copy_in(p, "x", 1, stream) == CU_SUCCESS)
			status = 1;
		cu->vmm_unmap(p, mapped);
		cu->vmm_unreserve(p, mapped);
	} else {
		if (consumer.ipc_open(&p, handle, 1))
			return 2;
		status = sum_of(cu, p + offset, size, stream) != wanted;
		consumer.ipc_close(p);
	}
	cu->stream_destroy(stream);
	cu->context_set(NULL);
	cu->context_release(device);
	return status;
}
