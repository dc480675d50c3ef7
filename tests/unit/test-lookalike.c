/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "codec/container/container.h"
#include "codec/container/lookalike.h"
#include "codec/bytes/util.h"

static const char *files;

static void check(const void *data, size_t len, int code, const char *says)
{
	struct wf_source *s = NULL;
	struct wf_container *c = NULL;
	struct wf_error err = {0};
	char *copy = malloc(len + 1);
	memcpy(copy, data, len);
	assert_int_equal(wf_source_from_memory(copy, len, true, &s), 0);
	int r = wf_container_open(s, &c, &err);
	wf_source_unref(s);
	if (r != code || !strstr(err.text, says))
		fail_msg("%d \"%s\" where %d \"%s\" was expected", r, err.text, code, says);
	assert_null(c);
	assert_null(strchr(err.text, '\n'));
}

#define BYTES(b) b, sizeof(b) - 1

static void test_named(void **state)
{
	static const struct {
		const char *data;
		size_t len;
		const char *says;
	} cases[] = {
		{BYTES(""), "the file is empty"},
		{BYTES("<!DOCTYPE html>\n<html lang=en>"),
		 "HTML page, not a checkpoint (the download probably failed)"},
		{BYTES("\xef\xbb\xbf \n <HTML><body>"), "HTML page"},
		{BYTES("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>"), "XML document"},
		{BYTES("<Error><Code>AccessDenied</Code></Error>"), "XML document"},
		{BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1\n"), "git-lfs pointer"},
		{BYTES("GGUF\3\0\0\0"), "GGUF"},
		{BYTES("7z\xbc\xaf\x27\x1c\0\4"), "7z archive"},
		{BYTES("\x1f\x8b\x8\0"), "gzip"},
		{BYTES("BZh91AY&SY"), "bzip2"},
		{BYTES("\xfd"
		       "7zXZ\0\0"),
		 "xz"},
		{BYTES("\x28\xb5\x2f\xfd\0"), "zstd"},
		{BYTES("Rar!\x1a\x07\1\0"), "RAR"},
		{BYTES("\x89HDF\r\n\x1a\n\0\0"), "HDF5"},
		{BYTES("\x93NUMPY\1\0v\0{'descr'"), "NumPy array"},
		{BYTES("PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), "empty zip"},
		{BYTES("\x8\x7\x12\x7pytorch\x1a\5"
		       "1.13"),
		 "ONNX"},
		{BYTES("\0\5\x16\7\0\2\0\0Mac OS X        "), "AppleDouble"},
		{BYTES("\0GITCRYPT\0abc"), "git-crypt"},
		{BYTES("\x7f"
		       "ELF\2\1\1"),
		 "ELF"},
		{BYTES("\0\0\0\0\0\0\0\0\0\0\0\0"), "12 zero bytes"},
		{BYTES("/annex/objects/SHA256E-s3--abc.pt\n"), "git-annex pointer"},
		{BYTES("../../blobs/0123456789abcdef"), "Hugging Face cache"},
		{BYTES("outs:\n- md5: abc\n  path: model.pt\n"), "DVC pointer"},
		{BYTES("{\"error\":\"Repository not found\"}"), "server that refused the download"},
		{BYTES("name: \"net\"\nlayer {\n  name: \"conv\"\n}\n"), "Caffe network description"},
		{BYTES("[net]\nbatch=64\n"), "Darknet network description"},
		{BYTES("4\n1\n3\nV 1\n17\ntorch.FloatTensor\n"), "Torch 7"},
		{BYTES("\4\0\0\0\1\0\0\0\3\0\0\0V 1\x11\0\0\0torch.FloatTensor"), "Torch 7"},
		{BYTES("\3\0\0\0\1\0\0\0\2\0\0\0\2\0\0\0\1\0\0\0w\4\0\0\0\2\0\0\0\3\0\0\0V 1\x11\0\0\0torch.FloatTensor"),
		 "Torch 7"},
		{BYTES("\x81\xa6params\x82\xa4"
		       "bias\x93"),
		 "MessagePack"},
		{BYTES("\xde\0\x14\xa6params\x82"), "MessagePack"},
		{BYTES("\x78\x9c\x4b\x4c\0\xf3"), "zlib-compressed (joblib"},
		{BYTES("\x78\x5e\x3d\x50\x4d\x4b\xc3\x40"), "zlib-compressed (joblib"},
		{BYTES("\x78\x01\x4b\x4c\0"), "zlib-compressed (joblib"},
		{BYTES("\x5d\0\0\x80\0\xff\xff"), "LZMA-compressed"},
		{BYTES("\x04\x22\x4d\x18\x64"), "lz4"},
		{BYTES("ftrt\0\0\0\0"), "TensorRT"},
		{BYTES("\x1c\0\0\0FT01FH01"), "ExecuTorch's tensors (.ptd)"},
		{BYTES("\x1c\0\0\0ET12eh00"), "ExecuTorch program"},
		{BYTES("lmgg\1\0\0\0"), "GGML"},
		{BYTES("\0\0\0\0\2\0\0\0\5\0\0\0\0\x7d\0\0\0\0\0\0"
		       "0123456789012345678901234567890123456789012345678901234567890123456789"),
		 "Darknet"},
		{BYTES("\x0a\4net1\xa2\6\x1c\x0a\4"
		       "conv\x12\x0b"
		       "Convolution"),
		 "Caffe model"},
		{BYTES("\x0a\4net1\x12\x1c\x0a\4"
		       "data\x12\x0b"
		       "Convolution"),
		 "Caffe model"},
		{BYTES("\x8\1\x12\x20\x0a\x12\x22\5serve2\4tensorflow\0\0\0"), "SavedModel"},
		{BYTES("\x0a\x1c\x0a\1x\x12\x0bPlaceholder*\x0b"), "TensorFlow graph"},
		{BYTES("\x8\x6\x12\x8"
		       "skl2onnx\x1a\6"
		       "1.14.0"),
		 "ONNX"},
		{BYTES("\x8\x8\x3a\x40\x0a\4\x0a\1x\x22\4"
		       "Conv"
		       "0123"),
		 "ONNX"},
		{BYTES("\x12\1\0\0\0\0\0\0\0\0\0\0"), "MXNet"},
		{BYTES("{\"metadata\": {}, \"weight_map\": {\"a\": \"b\"}}"), "index of a checkpoint in several files"},
		{BYTES(" {\"hidden_size\": 3}"), "JSON"},
		{BYTES("404: Not Found"), "text file that starts with \"404: Not Found\""},
		{BYTES("Sch\xc3\xb6n\nzweite Zeile"), "text file that starts with \"Sch\xc3\xb6n\""},
		{BYTES(" \n\t"), "blank"},
		{BYTES("\x9c\x01\x02\x03\xff\xee\xdd\xcc\xbb"), "starts with the bytes 9c 01 02 03 ff ee dd cc)"},
		{BYTES("\x01"), "starts with the bytes 01)"},
		{BYTES("PK"), "\"PK\""},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++)
		check(cases[i].data, cases[i].len, -EMEDIUMTYPE, cases[i].says);
	check(BYTES("PYTORCH1\0\0\0\0"), -EOPNOTSUPP, "preview before 1.0");
	check(BYTES("\x10\0\0\0PTMF\0\0"), -EOPNOTSUPP, "mobile");
	check(BYTES("\20\0\0\0\0\0\0\0\xef\xbb\xbf{\"w\": {}}    "), -EMEDIUMTYPE,
	      "whose header begins with a byte-order mark (BOM");
	check(BYTES("\xef\xbb\xbf\20\0\0\0\0\0\0\0{\"w\": {}}       "), -EMEDIUMTYPE,
	      "before this safetensors file: cut off its first three");
	check(BYTES("PK\3\4 and then nothing of a zip"), -EUCLEAN, "truncated or incomplete");
}

static void test_tar(void **state)
{
	char tar[2048] = "model.pth";
	memcpy(tar + 124, "00000000004", 11);
	tar[156] = '0';
	memcpy(tar + 257, "ustar", 6);
	memset(tar + 148, ' ', 8);
	unsigned int sum = 0;
	for (int i = 0; i < 512; i++)
		sum += (unsigned char)tar[i];
	for (int i = 0; i < 6; i++)
		tar[148 + i] = (char)('0' + (sum >> (15 - 3 * i) & 7));
	tar[154] = '\0';
	check(tar, sizeof tar, -EMEDIUMTYPE, "tar archive, not a checkpoint");
	tar[0] = 'n'; /* the sum is wrong now, so it is no tar to us; the magic still tells */
	check(tar, sizeof tar, -EMEDIUMTYPE, "tar archive, not a checkpoint");
}

/* What a transfer in text mode makes of binary data. */
static char *with_crlf(const char *data, size_t len, size_t *ret_len)
{
	char *out = malloc(2 * len);
	size_t n = 0;
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '\n')
			out[n++] = '\r';
		out[n++] = data[i];
	}
	*ret_len = n;
	return out;
}

/* ... and a program that takes it for text: what is no ASCII becomes U+FFFD, or the UTF-8 of Latin-1. */
static char *as_utf8(const char *data, size_t len, bool replaced, size_t *ret_len)
{
	char *out = malloc(3 * len);
	size_t n = 0;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)data[i];
		if (c < 0x80)
			out[n++] = (char)c;
		else if (replaced)
			memcpy(out + n, "\xef\xbf\xbd", 3), n += 3;
		else
			out[n++] = (char)(0xc0 | c >> 6), out[n++] = (char)(0x80 | (c & 0x3f));
	}
	*ret_len = n;
	return out;
}

static char *file(const char *name, size_t *ret_len)
{
	char path[4096];
	struct stat st;
	snprintf(path, sizeof path, "%s/%s", files, name);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	char *p = malloc((size_t)st.st_size + 1);
	assert_int_equal(pread(fd, p, (size_t)st.st_size, 0), st.st_size);
	*ret_len = (size_t)st.st_size;
	return p;
}

/* Opens, and reads the object: a pickle is only read then. */
static void check_loads(const char *data, size_t len, int code, const char *says)
{
	struct wf_source *s = NULL;
	struct wf_container *c = NULL;
	struct wf_graph *g = NULL;
	struct wf_error err = {0};
	wf_ref root;
	char *copy = malloc(len + 1);
	memcpy(copy, data, len);
	assert_int_equal(wf_source_from_memory(copy, len, true, &s), 0);
	assert_int_equal(wf_graph_new(&g), 0);
	int r = wf_container_open(s, &c, &err);
	if (r == 0)
		r = wf_container_load_graph(c, g, &root, &err);
	if (r != code || !strstr(err.text, says))
		fail_msg("%d \"%s\" where %d \"%s\" was expected", r, err.text, code, says);
	wf_graph_free(g);
	wf_container_free(c);
	wf_source_unref(s);
}

static void test_damaged(void **state)
{
	static const char *const names[] = {"torch-2.15.pt", "legacy-2.15.pt"};
	size_t len, n;
	for (size_t i = 0; i < WF_ARRAY_SIZE(names); i++) {
		char *data = file(names[i], &len);
		char *crlf = with_crlf(data, len, &n);
		check_loads(crlf, n, -EUCLEAN, "line feed became CR LF");
		free(crlf);
		for (int replaced = 0; replaced < 2; replaced++) {
			char *text = as_utf8(data, len, replaced, &n);
			check_loads(text, n, -EUCLEAN, "taken for text");
			free(text);
		}
		for (size_t cut = len - 1; cut > len / 2; cut -= len / 16)
			check_loads(data, cut, -EUCLEAN, "truncated or incomplete");
		free(data);
	}
	char *legacy = file("legacy-2.15.pt", &len);
	for (size_t cut = 22; cut < 200; cut += 20)
		check_loads(legacy, cut, -EUCLEAN, "truncated or incomplete: a legacy checkpoint");
	free(legacy);
	check_loads(BYTES("\x80\x02}q\0(X\1\0\0\0aK\1X\1"), -EUCLEAN, "truncated or incomplete: a Python pickle");
	check_loads(BYTES("\xef\xbf\xbd\x02}q\0X\1\0\0\0aK\1s."), -EUCLEAN, "a Python pickle that was taken for text");
	check_loads(BYTES("\x80\4\x8c\x13joblib.numpy_pickle\x8c\x11NumpyArrayWrapper\x93)\x81\0\0\0."), -EMEDIUMTYPE,
		    "joblib dump");
	check_loads(BYTES("\x80\x02(U\7storagectorch\nFloatStorage\nU\1"
			  "0U\3"
			  "cpuK\4tQ."),
		    -EMEDIUMTYPE, "data.pkl");
	check_loads(BYTES("\x80\x02K\1Q."), -EOPNOTSUPP, "persistent ids");
}

static void test_displaced_zip(void **state)
{
	size_t len, first;
	char *zip = file("torch-2.15.pt", &len), *other = file("torch-1.13.pt", &first), text[64];
	char *two = malloc(len + first + 16);
	memcpy(two, other, first);
	memcpy(two + first, zip, len);
	free(other);
	snprintf(text, sizeof text, "begins at byte %zu", first);
	check(two, first + len, -EUCLEAN, text);
	check(two, first + len, -EUCLEAN, "one behind the other");
	memcpy(two, "0123456789", 10);
	memcpy(two + 10, zip, len);
	check(two, len + 10, -EMEDIUMTYPE, "10 other bytes stand in front of a zip archive: tail -c +11");
	memcpy(zip, "06", 2);
	check(zip, len, -EMEDIUMTYPE, "first two bytes are \"06\" where PK should be");
	memcpy(zip, "\1\2", 2);
	check(zip, len, -EMEDIUMTYPE, "first two bytes are 01 02");
	free(two);
	free(zip);
}

static void make(const char *dir, const char *name)
{
	char path[512];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	if (name[strlen(name) - 1] == '/') {
		assert_int_equal(mkdir(path, 0700), 0);
		return;
	}
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void test_directories(void **state)
{
	static const struct {
		const char *names[4];
		int code;
		const char *says;
	} cases[] = {
		{{NULL}, -EISDIR, "this is a directory, not a checkpoint"},
		{{"model.pt"}, -EISDIR, "(model.pt stands in it)"},
		{{"a.pt", "b.bin", "config.json"},
		 -EISDIR,
		 "with 2 files that are named as checkpoints: name one, as "},
		{{"step-9/", "step-9/.metadata", "step-10/", "step-10/.metadata"},
		 -EISDIR,
		 "2 checkpoints in it: name one, as step-10"},
		{{"global_step3/", "global_step3/mp_rank_00_model_states.pt"}, -EISDIR, "name one, as global_step3"},
		{{"checkpoint-500/", "checkpoint-500/model.safetensors.index.json", "runs/", "trainer.bin"},
		 -EISDIR,
		 "1 checkpoint in it: name one, as checkpoint-500"},
		{{"sharded/", "sharded/shard-00001-model-00001-of-00001.safetensors"},
		 -EISDIR,
		 "1 checkpoint in it: name one, as sharded"},
		{{"ranks/", "ranks/__0_0.metadata"}, -EISDIR, "name one, as ranks"},
		{{"unet/", "unet/diffusion_pytorch_model.safetensors.index.fp16.json"}, -EISDIR, "name one, as unet"},
		{{"tokenizer/", "tokenizer/tokenizer.json"}, -EISDIR, "this is a directory, not a checkpoint"},
		{{"data.pkl", "version", "data/", "data/0"},
		 -EMEDIUMTYPE,
		 "unpacked checkpoint: `cd /tmp && zip -0 -r model.pt wf-"},
		{{"archive/", "archive/data.pkl"}, -EMEDIUMTYPE, "zip -0 -r model.pt archive`"},
		{{"__0_0.distcp"}, -EUCLEAN, "without its .metadata"},
		{{"config.json", "__1_0.distcp"}, -EUCLEAN, "the save writes last"},
		{{"model.safetensors.index.json", "model-00001-of-00002.safetensors"}, -EOPNOTSUPP, "in several files"},
		{{"pytorch_model.bin.index.json", "config.json"}, -EOPNOTSUPP, "in several files"},
		{{"latest", "global_step5/"}, -EOPNOTSUPP, "DeepSpeed"},
		{{"mp_rank_00_model_states.pt"}, -EOPNOTSUPP, "DeepSpeed"},
		{{"saved_model.pb", "variables/"}, -EMEDIUMTYPE, "SavedModel"},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		char dir[] = "/tmp/wf-test-lookalike-XXXXXX";
		struct wf_error err = {0};
		assert_non_null(mkdtemp(dir));
		for (size_t k = 0; k < 4 && cases[i].names[k]; k++)
			make(dir, cases[i].names[k]);
		int r = wf_lookalike_directory(dir, &err);
		nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
		if (r != cases[i].code || !strstr(err.text, cases[i].says))
			fail_msg("case %zu: %d \"%s\"", i, r, err.text);
	}
}

/* A long line without an end, cut in the middle of a character. */
static void test_long_text(void **state)
{
	char text[9000];
	for (size_t i = 0; i < sizeof text; i += 3)
		memcpy(text + i, "\xe2\x82\xac", 3);
	check(text, sizeof text, -EMEDIUMTYPE, "\xe2\x82\xac\"");
}

/* No short input may crash it. */
static void test_prefixes(void **state)
{
	unsigned char noise[64];
	unsigned int seed = 1;
	for (int round = 0; round < 2000; round++) {
		size_t len = (size_t)rand_r(&seed) % sizeof noise;
		for (size_t i = 0; i < len; i++)
			noise[i] = (unsigned char)(rand_r(&seed) % (round % 2 ? 256 : 16));
		struct wf_source *s = NULL;
		struct wf_container *c = NULL;
		struct wf_error err = {0};
		assert_int_equal(wf_source_from_memory(noise, len, false, &s), 0);
		assert_true(wf_container_open(s, &c, &err) < 0);
		assert_true(err.text[0] != '\0');
		wf_source_unref(s);
	}
}

int main(int argc, char **argv)
{
	files = argc > 1 ? argv[1] : "tests/unit/torch-files";
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_damaged),     cmocka_unit_test(test_displaced_zip),
		cmocka_unit_test(test_directories), cmocka_unit_test(test_named),
		cmocka_unit_test(test_tar),         cmocka_unit_test(test_long_text),
		cmocka_unit_test(test_prefixes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
