/* SPDX-License-Identifier: MIT */
/* The device layer without a mount: loads the storages of a checkpoint and measures, or holds them for another process.
 *
 * Usage: device DEVICE LIST COMMAND [N]      DEVICE: cpu, cuda or cuda:N
 *
 * LIST is a file: the checkpoint's path on the first line, then "OFFSET BYTES" of each storage
 * (contrib/bench/storages.py writes it). They go into one allocation in this order, each at a multiple of ALIGN_BYTES,
 * as in a mount. What is printed, with the number of bytes where it says BYTES:
 *
 *   device NAME, loading SETTINGS, context SECONDS   before all others
 *   load [N]      loads all, N times (default 1) to the same place: "alloc SECONDS" at first, and "load SECONDS BYTES" each time,
 *                 the first of which includes it
 *   reload [N]    the same, but gives the memory back before each next time: "reload SECONDS BYTES"
 *   read [N]      reads all back in pieces of READ_BYTES with N threads (default 1): "read SECONDS BYTES"
 *   ceiling       copies as many bytes from pinned memory to the device: "ceiling SECONDS BYTES"
 *   ceiling-out   and back: "ceiling-out SECONDS BYTES"
 *   ceiling-freed as ceiling, right after as much memory was given back, which the driver then clears: "ceiling-freed SECONDS BYTES"
 *   memcpy [N]    copies as many bytes into buffers of the ring's size with N threads, and no device: "memcpy SECONDS BYTES"
 *   hold          loads all, prints "hold UUID HANDLE SOCKET OFFSET BYTES", and lives until standard input ends
 *   memory BASE PEAK                                 at the end: resident KiB before the load, with the device's context made,
 *                                                    and at most
 */
#include "devices/device.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "devices/cuda_driver.h"

#define ALIGN_BYTES 512u
#define READ_BYTES (1u << 20)
#define WINDOW_BYTES (4u << 20)
#define WINDOWS_A_THREAD 3u
#define PINNED_BYTES (64u << 20)
#define MAX_THREADS 64u

struct job {
	struct device *device;
	int ordinal, fd;
	struct dev_memory memory;
	struct dev_segment *segments;
	size_t n;
	uint64_t bytes, memory_bytes;
};

static _Noreturn void fail(const char *what, int r)
{
	fprintf(stderr, "device: %s: %s\n", what, strerror(-r));
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* "VmRSS" or "VmHWM" of this process in KiB. */
static long memory_kib(const char *name)
{
	char line[256];
	long kib = 0;
	FILE *f = fopen("/proc/self/status", "r");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, name, strlen(name)))
			kib = strtol(line + strlen(name) + 1, NULL, 10);
	if (f)
		fclose(f);
	return kib;
}

static void open_device(struct job *j, const char *name)
{
	const char *why = "out of memory";
	int r = -ENODEV;
	j->ordinal = !strncmp(name, "cuda:", 5) ? atoi(name + 5) : 0;
	if (!strcmp(name, "cpu"))
		r = dev_host_open(&j->device);
	else if (!strncmp(name, "cuda", 4))
		r = dev_cuda_open(j->ordinal, &j->device, &why);
	if (r < 0) {
		fprintf(stderr, "device: %s: %s\n", name, why);
		exit(3); /* there is none */
	}
}

static void read_list(struct job *j, const char *path)
{
	char line[4096];
	unsigned long long offset, size;
	size_t room = 0;
	FILE *f = fopen(path, "r");
	if (!f || !fgets(line, sizeof line, f))
		fail(path, -errno);
	line[strcspn(line, "\n")] = '\0';
	j->fd = open(line, O_RDONLY | O_CLOEXEC);
	if (j->fd < 0)
		fail(line, -errno);
	while (fscanf(f, "%llu %llu", &offset, &size) == 2) {
		if (j->n == room) {
			room = room ? room * 2 : 1024;
			j->segments = reallocarray(j->segments, room, sizeof *j->segments);
			if (!j->segments)
				fail(path, -ENOMEM);
		}
		j->segments[j->n++] = (struct dev_segment){
			.fd = j->fd, .file_offset = offset, .memory_offset = j->memory_bytes, .size_bytes = size};
		j->bytes += size;
		j->memory_bytes += (size + ALIGN_BYTES - 1) & ~(uint64_t)(ALIGN_BYTES - 1);
	}
	fclose(f);
}

/* What is printed has the name `as`; NULL: nothing is. */
static void load(struct job *j, const char *as)
{
	const struct dev_ops *ops = j->device->ops;
	double start = now();
	int r = 0;
	if (!j->memory.address) {
		r = ops->alloc(j->device, j->memory_bytes, &j->memory);
		if (as)
			printf("alloc %.6f\n", now() - start);
	}
	if (r == 0)
		r = ops->load(j->device, &j->memory, j->segments, j->n, NULL, NULL);
	if (r < 0)
		fail("load", r);
	if (as)
		printf("%s %.6f %llu\n", as, now() - start, (unsigned long long)j->bytes);
}

/* ---- several threads over one range ---- */

struct crew {
	struct job *job;
	const unsigned char *source; /* of memcpy */
	_Atomic uint64_t next;
	uint64_t piece, end;
	atomic_int status;
};

static void *read_pieces(void *arg)
{
	struct crew *c = arg;
	struct device *d = c->job->device;
	unsigned char *buf = malloc(c->piece);
	uint64_t at;
	while (buf && (at = atomic_fetch_add(&c->next, c->piece)) < c->end) {
		int r = d->ops->copy_out(d, &c->job->memory, at, buf, c->end - at < c->piece ? c->end - at : c->piece);
		if (r < 0)
			atomic_store(&c->status, r);
	}
	free(buf);
	return NULL;
}

static void *copy_pieces(void *arg)
{
	struct crew *c = arg;
	unsigned char *ring = aligned_alloc(4096, WINDOWS_A_THREAD * WINDOW_BYTES);
	uint64_t at;
	memset(ring, 1, WINDOWS_A_THREAD * WINDOW_BYTES); /* the driver's ring is there as well before it is used */
	for (unsigned int i = 0; (at = atomic_fetch_add(&c->next, c->piece)) < c->end; i++)
		memcpy(ring + i % WINDOWS_A_THREAD * WINDOW_BYTES, c->source + at,
		       c->end - at < c->piece ? c->end - at : c->piece);
	free(ring);
	return NULL;
}

static double together(struct crew *c, unsigned int n, void *(*work)(void *))
{
	pthread_t threads[MAX_THREADS];
	double start = now();
	for (unsigned int i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, work, c) != 0)
			fail("thread", -EAGAIN);
	for (unsigned int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	if (atomic_load(&c->status) < 0)
		fail("copy", atomic_load(&c->status));
	return now() - start;
}

static void read_back(struct job *j, unsigned int threads)
{
	struct crew c = {.job = j, .piece = READ_BYTES, .end = j->memory_bytes};
	load(j, NULL);
	printf("read %.6f %llu\n", together(&c, threads, read_pieces), (unsigned long long)c.end);
}

static void copy_memory(struct job *j, unsigned int threads)
{
	unsigned char *p =
		mmap(NULL, j->bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (p == MAP_FAILED)
		fail("mmap", -errno);
	memset(p, 1, j->bytes);
	struct crew c = {.source = p, .piece = WINDOW_BYTES, .end = j->bytes};
	printf("memcpy %.6f %llu\n", together(&c, threads, copy_pieces), (unsigned long long)c.end);
	munmap(p, j->bytes + 1);
}

/* ---- the driver alone ---- */

static void ceiling(struct job *j, const char *as)
{
	const struct dev_cuda_driver *cu;
	const char *why;
	bool out = !strcmp(as, "ceiling-out");
	cu_stream stream;
	/* the allocation makes the context, and describe() makes it current for this thread */
	struct dev_info info;
	int r = j->device->ops->alloc(j->device, j->memory_bytes, &j->memory);
	if (r == 0)
		r = j->device->ops->describe(j->device, &info);
	if (r < 0 || dev_cuda_driver_load(&cu, &why) < 0)
		fail("ceiling", r);
	unsigned char *pinned = aligned_alloc(4096, PINNED_BYTES);
	memset(pinned, 1, PINNED_BYTES);
	cu_result e = cu->host_register(pinned, PINNED_BYTES, 0);
	if (e == CU_SUCCESS)
		e = cu->stream_create(&stream, CU_STREAM_NON_BLOCKING);
	if (!strcmp(as, "ceiling-freed")) {
		j->device->ops->free(j->device, &j->memory);
		if (j->device->ops->alloc(j->device, j->memory_bytes, &j->memory) < 0)
			fail(as, -ENOMEM);
	}
	double start = now();
	for (uint64_t at = 0; at < j->memory_bytes && e == CU_SUCCESS; at += PINNED_BYTES) {
		size_t n = j->memory_bytes - at < PINNED_BYTES ? j->memory_bytes - at : PINNED_BYTES;
		e = out ? cu->copy_out(pinned, j->memory.address + at, n, stream)
			: cu->copy_in(j->memory.address + at, pinned, n, stream);
	}
	if (e == CU_SUCCESS)
		e = cu->stream_synchronize(stream);
	double seconds = now() - start;
	if (e != CU_SUCCESS) {
		fprintf(stderr, "device: ceiling: %s\n", dev_cuda_error_name(cu, e));
		exit(1);
	}
	printf("%s %.6f %llu\n", as, seconds, (unsigned long long)j->memory_bytes);
	cu->stream_destroy(stream);
	cu->host_unregister(pinned);
	free(pinned);
}

static void hold(struct job *j)
{
	struct dev_share share;
	struct dev_info info;
	load(j, NULL);
	int r = j->device->ops->share(j->device, &j->memory, &share);
	if (r == 0)
		r = j->device->ops->describe(j->device, &info);
	if (r < 0)
		fail("share", r);
	printf("hold %s ", info.uuid);
	for (size_t i = 0; i < sizeof share.handle; i++)
		printf("%02x", share.handle[i]);
	printf(" %s %llu %llu\n", share.socket[0] ? share.socket : "-", (unsigned long long)share.offset_bytes,
	       (unsigned long long)j->memory_bytes);
	fflush(stdout);
	while (getchar() != EOF)
		;
}

int main(int argc, char **argv)
{
	struct job j = {0};
	if (argc < 4 || argc > 5) {
		fprintf(stderr,
			"usage: device DEVICE LIST load|reload|read|ceiling|ceiling-out|ceiling-freed|memcpy|hold [N]\n");
		return 2;
	}
	unsigned int n = argc == 5 ? (unsigned int)atoi(argv[4]) : 1;
	read_list(&j, argv[2]);
	if (n < 1 || n > MAX_THREADS)
		fail("N", -EINVAL);
	if (!strcmp(argv[3], "memcpy")) {
		copy_memory(&j, n);
		return 0;
	}
	double start = now();
	open_device(&j, argv[1]);
	if (j.device->ops->alloc(j.device, 1, &j.memory) == 0) /* makes the context */
		j.device->ops->free(j.device, &j.memory);
	double context = now() - start;
	struct dev_info info;
	if (j.device->ops->describe(j.device, &info) == 0)
		printf("device %s\n", info.description);
	printf("loading %s\ncontext %.6f\n", info.loading, context);
	long base = memory_kib("VmRSS:");
	if (!strcmp(argv[3], "load") || !strcmp(argv[3], "reload"))
		for (bool again = !strcmp(argv[3], "reload"); n > 0; n--) {
			load(&j, argv[3]);
			if (again && n > 1)
				j.device->ops->free(j.device, &j.memory);
		}
	else if (!strcmp(argv[3], "read"))
		read_back(&j, n);
	else if (!strncmp(argv[3], "ceiling", 7) && strcmp(argv[1], "cpu"))
		ceiling(&j, argv[3]);
	else if (!strcmp(argv[3], "hold"))
		hold(&j);
	else
		fail(argv[3], -EINVAL);
	j.device->ops->free(j.device, &j.memory);
	j.device->ops->close(j.device);
	printf("memory %ld %ld\n", base, memory_kib("VmHWM:"));
	free(j.segments);
	close(j.fd);
	return 0;
}
