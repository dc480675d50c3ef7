/* SPDX-License-Identifier: MIT */
/* Loads libcuda.so.1 and finds its entry points. */
#include "cuda_driver.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* cuGetProcAddress exists in two forms: the exported name without a suffix is the one of CUDA 11.3 with four arguments
 */
typedef cu_result (*get_proc_v1)(const char *symbol, void **ret, int cuda_version, uint64_t flags);
typedef cu_result (*get_proc_v2)(const char *symbol, void **ret, int cuda_version, uint64_t flags, int *ret_status);

/* The CUDA version whose signatures the table has; a newer driver answers with these even where it has later ones. */
#define CUDA_VERSION_ASKED 11040

static struct {
	pthread_once_t once;
	struct dev_cuda_driver table;
	int status;
	char why[256];
} driver = {.once = PTHREAD_ONCE_INIT};

/* "cuMemAlloc_v2" -> "cuMemAlloc": cuGetProcAddress takes names without their version */
static void base_name(const char *name, char *buf, size_t size)
{
	snprintf(buf, size, "%s", name);
	size_t n = strlen(buf);
	if (n > 3 && buf[n - 3] == '_' && buf[n - 2] == 'v')
		buf[n - 3] = '\0';
}

static void *find(void *library, get_proc_v1 v1, get_proc_v2 v2, const char *name)
{
	char base[64];
	void *p = NULL;
	int status;
	base_name(name, base, sizeof base);
	if (v2 && v2(base, &p, CUDA_VERSION_ASKED, 0, &status) == CU_SUCCESS && p)
		return p;
	if (!v2 && v1 && v1(base, &p, CUDA_VERSION_ASKED, 0) == CU_SUCCESS && p)
		return p;
	return dlsym(library, name);
}

static int load(void)
{
	/* NODELETE: the driver starts threads of its own, which must not lose their code */
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (!library) {
		snprintf(driver.why, sizeof driver.why, "no CUDA driver (%s)", dlerror());
		return -ENODEV;
	}
	get_proc_v2 v2 = (get_proc_v2)dlsym(library, "cuGetProcAddress_v2");
	get_proc_v1 v1 = (get_proc_v1)dlsym(library, "cuGetProcAddress");
#define F(member, name, parameters)                                                           \
	if (!(driver.table.member = (cu_result(*) parameters)find(library, v1, v2, #name))) { \
		snprintf(driver.why, sizeof driver.why, "the CUDA driver has no %s", #name);  \
		return -ELIBACC;                                                              \
	}
	DEV_CUDA_FUNCTIONS(F)
#undef F
#define F(member, name, parameters) driver.table.member = (cu_result(*) parameters)find(library, v1, v2, #name);
	DEV_CUDA_OPTIONAL_FUNCTIONS(F)
#undef F
	cu_result r = driver.table.init(0);
	if (r == CU_SUCCESS)
		r = driver.table.get_device_count(&driver.table.device_count);
	if (r == CU_SUCCESS && driver.table.device_count == 0)
		r = CU_ERROR_NO_DEVICE;
	if (r == CU_ERROR_STUB_LIBRARY)
		snprintf(driver.why, sizeof driver.why, "no CUDA driver, only the toolkit's stub library (%s)",
			 dev_cuda_error_name(&driver.table, r));
	else if (r != CU_SUCCESS)
		snprintf(driver.why, sizeof driver.why, "no usable CUDA device (%s)",
			 dev_cuda_error_name(&driver.table, r));
	return r == CU_SUCCESS ? 0 : -ENODEV;
}

static void load_once(void)
{
	driver.status = load();
}

int dev_cuda_driver_load(const struct dev_cuda_driver **ret, const char **ret_why)
{
	pthread_once(&driver.once, load_once);
	if (driver.status < 0) {
		if (ret_why)
			*ret_why = driver.why;
		return driver.status;
	}
	*ret = &driver.table;
	return 0;
}

const char *dev_cuda_error_name(const struct dev_cuda_driver *d, cu_result r)
{
	const char *name = NULL;
	if (d->error_name && d->error_name(r, &name) == CU_SUCCESS && name)
		return name;
	return r == CU_ERROR_STUB_LIBRARY ? "CUDA_ERROR_STUB_LIBRARY" : "unknown CUDA error";
}
