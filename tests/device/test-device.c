/* SPDX-License-Identifier: MIT */
/* The same cases on every device: host memory, the double of the CUDA driver, a real GPU. Host memory is the oracle.
 *
 * Usage: test-device cpu|cuda. Prints TAP; the whole is skipped when cuda is asked for and there is none. */
#include "devices/device.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int count, failed;

static void ok(bool good, const char *what)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++count, what);
	failed += !good;
}

static unsigned char *random_bytes(size_t n, unsigned int seed)
{
	unsigned char *p = malloc(n ? n : 1);
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)rand_r(&seed);
	return p;
}

static void test_copies(struct device *d)
{
	static const size_t sizes[] = {0, 1, 511, 4096, (4u << 20) - 1, 4u << 20, (4u << 20) + 1, (13u << 20) + 7};
	bool same = true, inner = true;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct dev_memory m = {0};
		if (d->ops->alloc(d, sizes[i], &m) < 0) {
			same = false;
			continue;
		}
		unsigned char *in = random_bytes(sizes[i], (unsigned int)i), *out = malloc(sizes[i] + 1);
		same &= d->ops->copy_in(d, &m, 0, in, sizes[i]) == 0 &&
			d->ops->copy_out(d, &m, 0, out, sizes[i]) == 0 && !memcmp(in, out, sizes[i]);
		if (sizes[i] > 600) {
			inner &= d->ops->copy_in(d, &m, 17, in + 100, 500) == 0 &&
				 d->ops->copy_out(d, &m, 17, out, 500) == 0 && !memcmp(in + 100, out, 500);
			inner &= d->ops->copy_out(d, &m, 517, out, 83) == 0 && !memcmp(in + 517, out, 83);
		}
		d->ops->free(d, &m);
		same &= m.address == 0;
		free(in);
		free(out);
	}
	ok(same, "bytes come back as they went in, at every size around the window");
	ok(inner, "a range inside is written and nothing beside it");
}

static void test_copy(struct device *d)
{
	enum { BYTES = 9 << 20 };
	struct dev_memory a = {0}, b = {0};
	unsigned char *in = random_bytes(BYTES, 11), *out = malloc(BYTES);
	bool good = d->ops->alloc(d, BYTES, &a) == 0 && d->ops->alloc(d, BYTES, &b) == 0 &&
		    d->ops->copy_in(d, &a, 0, in, BYTES) == 0 && d->ops->copy_in(d, &b, 0, in, BYTES) == 0 &&
		    d->ops->copy(d, &b, 512, &a, 1024, BYTES - 2048) == 0 &&
		    d->ops->copy_out(d, &b, 0, out, BYTES) == 0;
	ok(good && !memcmp(out, in, 512) && !memcmp(out + 512, in + 1024, BYTES - 2048) &&
		   !memcmp(out + BYTES - 1536, in + BYTES - 1536, 1536),
	   "bytes go from one memory to another, and nowhere else");
	ok(d->ops->copy(d, &b, 1, &a, 0, BYTES) == -ERANGE && d->ops->copy(d, &b, 0, &a, 1, BYTES) == -ERANGE,
	   "a copy past either end is refused");
	d->ops->free(d, &a);
	d->ops->free(d, &b);
	free(in);
	free(out);
}

static void test_bounds(struct device *d)
{
	struct dev_memory m = {0};
	char buf[64] = {0};
	ok(d->ops->alloc(d, 32, &m) == 0, "memory of 32 bytes");
	ok(d->ops->copy_in(d, &m, 1, buf, 32) == -ERANGE && d->ops->copy_in(d, &m, UINT64_MAX, buf, 2) == -ERANGE,
	   "a copy past the end is refused");
	ok(d->ops->copy_out(d, &m, 33, buf, 0) == -ERANGE, "a read that starts past the end is refused");
	struct dev_view v = {.element_bytes = 4, .ndim = 1, .shape = {8}, .stride_elems = {1}, .offset_bytes = 4};
	ok(d->ops->gather(d, &m, &v, 0, 1, buf) == -ERANGE, "a view past the end is refused");
	v = (struct dev_view){.element_bytes = 4, .ndim = 2, .shape = {1ull << 40, 1ull << 40}, .stride_elems = {0, 0}};
	ok(d->ops->gather(d, &m, &v, 0, 1, buf) == -ERANGE, "a view whose element count overflows is refused");
	struct dev_segment s = {.size_bytes = 33};
	ok(d->ops->load(d, &m, &s, 1, NULL, NULL) == -ERANGE, "a load past the end is refused");
	d->ops->free(d, &m);
}

static void test_gather(struct device *d, struct device *host)
{
	enum { BYTES = 1 << 20 };
	struct dev_memory m = {0}, reference = {0};
	unsigned char *data = random_bytes(BYTES, 7);
	unsigned int seed = 42;
	int supported = d->ops->alloc(d, BYTES, &m) | d->ops->copy_in(d, &m, 0, data, BYTES);
	host->ops->alloc(host, BYTES, &reference);
	host->ops->copy_in(host, &reference, 0, data, BYTES);
	int wrong = 0, tried = 0, r = 0;
	for (int i = 0; i < 200 && supported == 0; i++) {
		static const uint32_t sizes[] = {1, 2, 4, 8, 16};
		struct dev_view v = {.element_bytes = sizes[rand_r(&seed) % 5], .ndim = (uint32_t)rand_r(&seed) % 5};
		uint64_t numel = 1;
		for (uint32_t k = 0; k < v.ndim; k++) {
			v.shape[k] = 1 + (uint64_t)rand_r(&seed) % 9;
			v.stride_elems[k] = (uint64_t)rand_r(&seed) % 400; /* overlaps and stride 0 included */
			numel *= v.shape[k];
		}
		v.offset_bytes = (uint64_t)(rand_r(&seed) % 100) * v.element_bytes;
		uint64_t first = (uint64_t)rand_r(&seed) % numel, n = 1 + (uint64_t)rand_r(&seed) % (numel - first);
		unsigned char *a = malloc(n * v.element_bytes), *b = malloc(n * v.element_bytes);
		r = d->ops->gather(d, &m, &v, first, n, a);
		if (r == 0) {
			tried++;
			host->ops->gather(host, &reference, &v, first, n, b);
			wrong += memcmp(a, b, n * v.element_bytes) != 0;
		}
		free(a);
		free(b);
		if (r < 0)
			break;
	}
	const char *why = r == -EOPNOTSUPP ? d->ops->why(d) : NULL;
	if (r == -EOPNOTSUPP)
		printf("ok %d - gather # SKIP no device kernels: %s\n", ++count, why ? why : "built without");
	else
		ok(r == 0 && tried == 200 && wrong == 0, "200 random views are gathered as on the host");
	d->ops->free(d, &m);
	host->ops->free(host, &reference);
	free(data);
}

struct seen {
	pthread_mutex_t lock;
	uint64_t bytes[64];
	const unsigned char *file;
	const struct dev_segment *segments;
	int wrong, stop_after;
};

static int seen(void *ctx, size_t segment, uint64_t offset, const void *data, size_t len)
{
	struct seen *s = ctx;
	pthread_mutex_lock(&s->lock);
	s->bytes[segment] += len;
	s->wrong += memcmp(s->file + s->segments[segment].file_offset + offset, data, len) != 0;
	int r = s->stop_after > 0 && --s->stop_after == 0 ? -ECANCELED : 0;
	pthread_mutex_unlock(&s->lock);
	return r;
}

static void test_load(struct device *d)
{
	enum { BYTES = 40 << 20, N = 60 };
	char path[] = "/tmp/test-device-XXXXXX";
	int fd = mkstemp(path);
	unlink(path);
	unsigned char *file = random_bytes(BYTES, 3);
	bool written = write(fd, file, BYTES) == BYTES;
	struct dev_segment s[N];
	unsigned int seed = 5;
	uint64_t at = 0, from = 64;
	for (int i = 0; i < N; i++) { /* small and large, neighbours and gaps, some as in the file and some not */
		uint64_t size = i % 7 == 0 ? (5u << 20) + (uint64_t)i : (uint64_t)rand_r(&seed) % 2000;
		s[i] = (struct dev_segment){.fd = fd, .file_offset = from, .memory_offset = at, .size_bytes = size};
		from = (from + size + 63 + (uint64_t)(i % 3) * 64) / 64 * 64;
		at = (at + size + 63) / 64 * 64 + (i % 11 == 0 ? 200000 : 0);
		if (from + (6u << 20) > BYTES)
			from = 128;
	}
	struct dev_segment swap = s[3];
	s[3] = s[50];
	s[50] = swap;
	struct dev_memory m = {0};
	struct seen x = {.lock = PTHREAD_MUTEX_INITIALIZER, .file = file, .segments = s};
	bool good = written && d->ops->alloc(d, at, &m) == 0 && d->ops->load(d, &m, s, N, seen, &x) == 0;
	unsigned char *back = malloc(6u << 20);
	for (int i = 0; good && i < N; i++)
		good = d->ops->copy_out(d, &m, s[i].memory_offset, back, s[i].size_bytes) == 0 &&
		       !memcmp(back, file + s[i].file_offset, s[i].size_bytes) && x.bytes[i] == s[i].size_bytes;
	ok(good, "60 segments are loaded, each byte once and in its place");
	ok(x.wrong == 0, "the bytes seen on the way are those of the file");
	x.stop_after = 3;
	ok(d->ops->load(d, &m, s, N, seen, &x) == -ECANCELED, "a load ends when it is told to");
	s[10].file_offset = BYTES - 1;
	s[10].size_bytes = 2;
	s[10].memory_offset = s[9].memory_offset + s[9].size_bytes;
	ok(d->ops->load(d, &m, s, 11, NULL, NULL) == -EUCLEAN, "a file that ends early is told");
	s[1].memory_offset = s[0].memory_offset + 1;
	ok(d->ops->load(d, &m, s, 2, NULL, NULL) == -ERANGE, "overlapping destinations are refused");
	d->ops->free(d, &m);
	free(back);
	free(file);
	close(fd);
}

/* Loads that run at the same time: one is held up with its bytes in hand, as by a slow file, and the other ends meanwhile. */
struct held_load {
	struct device *d;
	struct dev_segment segment;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool begun, let_go, timed_out;
	int r;
};

static int hold_up(void *ctx, size_t segment, uint64_t offset, const void *data, size_t len)
{
	struct held_load *l = ctx;
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	pthread_mutex_lock(&l->lock);
	l->begun = true;
	pthread_cond_broadcast(&l->changed);
	while (!l->let_go && !l->timed_out)
		l->timed_out = pthread_cond_timedwait(&l->changed, &l->lock, &until) != 0;
	pthread_mutex_unlock(&l->lock);
	return 0;
}

static void *load_held(void *arg)
{
	struct held_load *l = arg;
	struct dev_memory m = {0};
	l->r = l->d->ops->alloc(l->d, l->segment.size_bytes, &m);
	if (l->r == 0)
		l->r = l->d->ops->load(l->d, &m, &l->segment, 1, hold_up, l);
	l->d->ops->free(l->d, &m);
	pthread_mutex_lock(&l->lock);
	l->begun = true; /* also where it could not */
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

static void test_loads_side_by_side(struct device *d)
{
	enum { BYTES = 40 << 20 };
	char path[] = "/tmp/test-device-XXXXXX";
	int fd = mkstemp(path);
	unlink(path);
	unsigned char *file = random_bytes(BYTES, 4), *back = malloc(BYTES);
	struct held_load held = {.d = d,
				 .segment = {.fd = fd, .size_bytes = BYTES},
				 .lock = PTHREAD_MUTEX_INITIALIZER,
				 .changed = PTHREAD_COND_INITIALIZER};
	struct dev_memory m = {0};
	pthread_t thread;
	bool good = write(fd, file, BYTES) == BYTES && d->ops->alloc(d, BYTES, &m) == 0,
	     started = good && pthread_create(&thread, NULL, load_held, &held) == 0;
	pthread_mutex_lock(&held.lock);
	while (started && !held.begun)
		pthread_cond_wait(&held.changed, &held.lock);
	pthread_mutex_unlock(&held.lock);
	good = started && d->ops->load(d, &m, &held.segment, 1, NULL, NULL) == 0 &&
	       d->ops->copy_out(d, &m, 0, back, BYTES) == 0 && !memcmp(file, back, BYTES);
	pthread_mutex_lock(&held.lock);
	ok(good && !held.timed_out, "a load does not wait for one that is held up");
	held.let_go = true;
	pthread_cond_broadcast(&held.changed);
	pthread_mutex_unlock(&held.lock);
	if (started)
		pthread_join(thread, NULL);
	ok(started && held.r == 0, "which then ends as well");
	d->ops->free(d, &m);
	free(back);
	free(file);
	close(fd);
}

struct worker {
	struct device *d;
	unsigned int seed;
	bool good;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct dev_memory m = {0};
	unsigned char *in = random_bytes(300000, w->seed), *out = malloc(300000);
	w->good = w->d->ops->alloc(w->d, 300000, &m) == 0;
	for (int i = 0; w->good && i < 20; i++)
		w->good = w->d->ops->copy_in(w->d, &m, 0, in, 300000) == 0 &&
			  w->d->ops->copy_out(w->d, &m, 0, out, 300000) == 0 && !memcmp(in, out, 300000);
	w->d->ops->free(w->d, &m);
	free(in);
	free(out);
	return NULL;
}

static void test_threads(struct device *d)
{
	enum { N = 20 }; /* more than the ring has pairs of windows */
	pthread_t threads[N];
	struct worker workers[N];
	bool good = true;
	for (unsigned int i = 0; i < N; i++) {
		workers[i] = (struct worker){.d = d, .seed = i};
		pthread_create(&threads[i], NULL, work, &workers[i]);
	}
	for (int i = 0; i < N; i++) {
		pthread_join(threads[i], NULL);
		good &= workers[i].good;
	}
	ok(good, "20 threads copy side by side");
}

/* The second of two small allocations: a handle must show it and not its neighbour. */
static void test_share(struct device *d, const char *opener)
{
	struct dev_memory first = {0}, m = {0};
	struct dev_share share, again;
	char hex[129], command[1024];
	if (d->ops->alloc(d, 4096, &first) < 0 || d->ops->alloc(d, 4096, &m) < 0)
		return ok(false, "memory to share");
	int r = d->ops->share(d, &m, &share);
	if (r == -EOPNOTSUPP) {
		printf("ok %d - share # SKIP this device has nothing to share\n", ++count);
	} else {
		printf("# shared %s\n", share.how);
		unsigned char *data = random_bytes(4096, 9);
		bool good = r == 0 && d->ops->copy_in(d, &m, 0, data, 4096) == 0 &&
			    d->ops->copy_in(d, &first, 0, data + 1, 4095) == 0;
		uint64_t sum = 0;
		for (int i = 0; i < 4096; i++)
			sum = sum * 31 + data[i];
		for (int i = 0; i < 64; i++)
			sprintf(hex + 2 * i, "%02x", share.handle[i]);
		snprintf(command, sizeof command, "%s %s %s %llu 4096 %llu", opener, hex,
			 share.socket[0] ? share.socket : "-", (unsigned long long)share.offset_bytes,
			 (unsigned long long)sum);
		fflush(stdout);
		ok(good && system(command) == 0, "another process opens the handle and finds the same bytes");
		ok(d->ops->share(d, &m, &again) == 0 && !memcmp(&share, &again, sizeof share),
		   "the handle is made once");
		free(data);
	}
	d->ops->free(d, &first);
	d->ops->free(d, &m);
}

/* On a GPU only: a kernel reads where no memory is. Nothing on the device can be reached then; closed and opened again it works,
 * also for a thread that has used it before. */
static int test_lost(void)
{
	struct device *d;
	const char *why = "";
	struct dev_memory m = {0}, nowhere = {.address = 4096, .size_bytes = 1 << 20};
	struct dev_view v = {.element_bytes = 4, .ndim = 1, .shape = {64}, .stride_elems = {1}};
	unsigned char in[256], out[256];
	memset(in, 7, sizeof in);
	if (dev_cuda_open(0, &d, &why) < 0) {
		printf("1..0 # SKIP %s\n", why);
		return 0;
	}
	ok(d->ops->alloc(d, 4096, &m) == 0 && d->ops->copy_in(d, &m, 0, in, sizeof in) == 0 && !d->ops->lost(d),
	   "a device that works");
	int r = d->ops->gather(d, &nowhere, &v, 0, 64, out);
	why = d->ops->why(d);
	ok(r == -EIO && d->ops->lost(d), "a kernel that reads where no memory is ends it");
	printf("# the driver said %s\n", why ? why : "nothing");
	ok(d->ops->copy_out(d, &m, 0, out, sizeof out) == -EIO && d->ops->alloc(d, 4096, &nowhere) < 0,
	   "nothing on it can be reached then");
	d->ops->free(d, &m);
	d->ops->close(d);
	bool good = dev_cuda_open(0, &d, &why) == 0;
	r = good ? d->ops->alloc(d, 4096, &m) : -ENODEV;
	good = r == 0 && d->ops->copy_in(d, &m, 0, in, sizeof in) == 0 &&
	       d->ops->copy_out(d, &m, 0, out, sizeof out) == 0 && !memcmp(in, out, sizeof in);
	why = r == -ENODEV ? why : d->ops->why(d);
	printf("# opened again it %s%s%s\n", good ? "works" : "does not: alloc gives ", good ? "" : strerror(-r),
	       why ? why : "");
	ok(good || (r < 0 && why), "opened again it works, or the driver's words are told");
	if (r != -ENODEV) {
		d->ops->free(d, &m);
		d->ops->close(d);
	}
	printf("1..%d\n", count);
	return failed != 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "lost"))
		return test_lost();
	struct device *host, *d;
	const char *why = "";
	if (argc != 3 || dev_host_open(&host) < 0)
		return 99;
	bool cuda = !strcmp(argv[1], "cuda");
	if (cuda && dev_cuda_open(0, &d, &why) < 0) {
		printf("1..0 # SKIP %s\n", why);
		host->ops->close(host);
		return 0;
	}
	if (!cuda && dev_host_open(&d) < 0)
		return 99;
	struct dev_info info;
	bool described = d->ops->describe(d, &info) == 0;
	ok(described && info.total_bytes > 0 && !strcmp(info.name, cuda ? "cuda:0" : "cpu"),
	   "the device describes itself");
	printf("# %s: %s\n", info.name, info.description);
	test_copies(d);
	test_copy(d);
	test_bounds(d);
	test_gather(d, host);
	test_load(d);
	test_loads_side_by_side(d);
	test_threads(d);
	test_share(d, argv[2]);
	why = d->ops->why(d);
	if (why)
		printf("# the driver said %s\n", why);
	ok(d->ops->why(d) == NULL, "a failure is told once");
	d->ops->close(d);
	host->ops->close(host);
	printf("1..%d\n", count);
	return failed != 0;
}
