/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target as a plain program, where there is no libFuzzer: over the files and directories given, and with
 * -t SECONDS then over random changes of them. The changes are repeatable: -s SEED; the input at hand is written to
 * the file given by -o before it is run, so that one that crashes can be looked at. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_INPUTS 4096u
#define MAX_INPUT_BYTES (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	uint8_t *data;
	size_t size;
};

static struct input inputs[MAX_INPUTS];
static size_t count;

static void add_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	if (!f || count == MAX_INPUTS) {
		perror(path);
		exit(2);
	}
	struct input *in = &inputs[count++];
	in->data = malloc(MAX_INPUT_BYTES);
	if (!in->data)
		exit(2);
	in->size = fread(in->data, 1, MAX_INPUT_BYTES, f);
	fclose(f);
}

static void add(const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
		add_file(path);
		return;
	}
	struct dirent **names;
	int n = scandir(path, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		char child[4096];
		snprintf(child, sizeof child, "%s/%s", path, names[i]->d_name);
		if (stat(child, &st) == 0 && S_ISREG(st.st_mode))
			add_file(child);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

/* A few small changes: bytes, numbers that are special somewhere, a cut, a piece of another input. */
static size_t change(uint8_t *out, const struct input *in, unsigned int *seed)
{
	static const uint32_t numbers[] = {0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff};
	size_t size = in->size;
	memcpy(out, in->data, size);
	for (int k = rand_r(seed) % 6; k >= 0 && size > 0; k--) {
		size_t at = (size_t)rand_r(seed) % size, n;
		const struct input *other = &inputs[(size_t)rand_r(seed) % count];
		switch (rand_r(seed) % 6) {
		case 0:
		case 1:
			out[at] = (uint8_t)rand_r(seed);
			break;
		case 2:
			out[at] ^= (uint8_t)(1 << rand_r(seed) % 8);
			break;
		case 3:
			n = size - at < 4 ? size - at : 4;
			memcpy(out + at, &numbers[(size_t)rand_r(seed) % (sizeof numbers / sizeof *numbers)], n);
			break;
		case 4:
			size = rand_r(seed) % 8 == 0 ? at : size;
			break;
		case 5:
			if (other->size == 0)
				break;
			n = (size_t)rand_r(seed) % (other->size < 200 ? other->size : 200);
			n = n < size - at ? n : size - at;
			memcpy(out + at, other->data + (size_t)rand_r(seed) % (other->size - n + 1), n);
			break;
		}
	}
	return size;
}

static void keep(const char *path, const uint8_t *data, size_t size)
{
	FILE *f = fopen(path, "wb");
	if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) {
		perror(path);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	unsigned int seed = 1;
	long seconds = 0;
	const char *save = NULL;
	int c;
	while ((c = getopt(argc, argv, "t:s:o:")) != -1) {
		if (c == 't')
			seconds = atol(optarg);
		else if (c == 's')
			seed = (unsigned int)atol(optarg);
		else if (c == 'o')
			save = optarg;
		else
			return 2;
	}
	for (int i = optind; i < argc; i++)
		add(argv[i]);
	if (count == 0) {
		fprintf(stderr, "usage: %s [-t SECONDS] [-s SEED] [-o FILE] INPUT...\n", argv[0]);
		return 2;
	}
	for (size_t i = 0; i < count; i++)
		LLVMFuzzerTestOneInput(inputs[i].data, inputs[i].size);
	uint64_t runs = count;
	time_t end = time(NULL) + seconds;
	/* Of exactly the size of the input, so that a sanitizer sees one byte too many. */
	while (seconds > 0 && time(NULL) < end)
		for (int i = 0; i < 64; i++, runs++) {
			const struct input *in = &inputs[(size_t)rand_r(&seed) % count];
			uint8_t *whole = malloc(in->size + 1);
			size_t size = whole ? change(whole, in, &seed) : 0;
			uint8_t *exact = malloc(size ? size : 1);
			if (!whole || !exact)
				return 2;
			memcpy(exact, whole, size);
			if (save)
				keep(save, exact, size);
			LLVMFuzzerTestOneInput(exact, size);
			free(exact);
			free(whole);
		}
	printf("%llu inputs run\n", (unsigned long long)runs);
	for (size_t i = 0; i < count; i++)
		free(inputs[i].data);
	return 0;
}
