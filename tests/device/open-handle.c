/* The other process of the sharing test: opens an IPC handle, copies the bytes out and compares their sum.
 * Usage: open-handle HEX OFFSET SIZE SUM. Exit status 0 when they agree. */
#include "devices/cuda_driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	const struct dev_cuda_driver *cu;
	const char *why;
	struct cu_ipc_mem_handle handle;
	cu_device device;
	cu_context context;
	cu_stream stream;
	cu_deviceptr p;
	if (argc != 5 || dev_cuda_driver_load(&cu, &why) < 0)
		return 99;
	/* opening is the consumer's side: weightfs itself never calls these, so its table does not hold them */
	void *library = dlopen("libcuda.so.1", RTLD_NOW);
	cu_result (*open)(cu_deviceptr *, struct cu_ipc_mem_handle, unsigned int) = dlsym(library, "cuIpcOpenMemHandle_v2");
	cu_result (*close)(cu_deviceptr) = dlsym(library, "cuIpcCloseMemHandle");
	for (int i = 0; i < 64; i++)
		sscanf(argv[1] + 2 * i, "%2hhx", (unsigned char *)&handle.reserved[i]);
	size_t size = strtoull(argv[3], NULL, 10);
	unsigned char *data = malloc(size);
	if (cu->device_get(&device, 0) || cu->context_retain(&context, device) || cu->context_set(context) ||
	    cu->stream_create(&stream, 0) || open(&p, handle, 1) ||
	    cu->copy_out(data, p + strtoull(argv[2], NULL, 10), size, stream) || cu->stream_synchronize(stream))
		return 1;
	unsigned long long sum = 0;
	for (size_t i = 0; i < size; i++)
		sum = sum * 31 + data[i];
	free(data);
	cu->stream_destroy(stream);
	close(p);
	cu->context_set(NULL);
	cu->context_release(device);
	return sum != strtoull(argv[4], NULL, 10);
}
