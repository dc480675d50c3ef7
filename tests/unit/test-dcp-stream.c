/* SPDX-License-Identifier: MIT */
/* The stream reader of .metadata, held against the graph: over what torch wrote, and over pickles that it does not write.
 * Argument: tests/files/dcp. */
#include <errno.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_stream.h"
#include "tests/unit/dcp-kit.h"

static const char *fixtures;

/* ---- what torch wrote ---- */

static int read_files(const glob_t *files, bool stream, struct wf_dcp_metadata *m)
{
	struct wf_error err = {0};
	int r = 0;
	for (size_t i = 0; i < files->gl_pathc && r == 0; i++) {
		struct wf_source *s = NULL;
		assert_int_equal(wf_source_open_file(files->gl_pathv[i], &s, &err), 0);
		r = (stream ? wf_dcp_metadata_stream : wf_dcp_metadata_read)(m, s, "", &err);
		wf_source_unref(s);
	}
	return r == 0 ? wf_dcp_metadata_finish(m) : r;
}

static void compare_files(const char *pattern)
{
	struct wf_dcp_metadata graph = {0}, stream = {0};
	char path[4096];
	glob_t files;
	snprintf(path, sizeof path, "%s/%s", fixtures, pattern);
	if (glob(path, 0, NULL, &files) != 0)
		return;
	assert_int_equal(read_files(&files, false, &graph), 0);
	assert_int_equal(read_files(&files, true, &stream), 0);
	const char *what = kit_difference(&graph, &stream);
	if (what)
		fail_msg("%s: the readers differ in %s", pattern, what);
	assert_true(graph.chunk_count > 0);
	wf_dcp_metadata_free(&graph);
	wf_dcp_metadata_free(&stream);
	globfree(&files);
}

static void test_fixtures(void **state)
{
	char path[4096];
	glob_t directories;
	size_t met = 0;
	snprintf(path, sizeof path, "%s/*/", fixtures);
	assert_int_equal(glob(path, 0, NULL, &directories), 0);
	for (size_t i = 0; i < directories.gl_pathc; i++) {
		const char *name = directories.gl_pathv[i] + strlen(fixtures) + 1;
		snprintf(path, sizeof path, "%s.metadata", name);
		compare_files(path);
		snprintf(path, sizeof path, "%s__[0-9].metadata", name);
		compare_files(path);
		met++;
	}
	assert_true(met >= 17);
	globfree(&directories);
}

/* ---- pickles by hand ---- */

/* Texts of protocol 4, by name: T_ and what they say. */
#define T_STATE    \
	"\x8c\x13" \
	"state_dict_metadata"
#define T_STORAGE  \
	"\x8c\x0c" \
	"storage_data"
#define T_PLANNER  \
	"\x8c\x0c" \
	"planner_data"
#define T_PROPERTIES \
	"\x8c\x0a"   \
	"properties"
#define T_SIZE     \
	"\x8c\x04" \
	"size"
#define T_CHUNKS   \
	"\x8c\x06" \
	"chunks"
#define T_OFFSETS  \
	"\x8c\x07" \
	"offsets"
#define T_SIZES    \
	"\x8c\x05" \
	"sizes"
#define T_FQN      \
	"\x8c\x03" \
	"fqn"
#define T_OFFSET   \
	"\x8c\x06" \
	"offset"
#define T_INDEX    \
	"\x8c\x05" \
	"index"
#define T_PATH     \
	"\x8c\x0d" \
	"relative_path"
#define T_LENGTH   \
	"\x8c\x06" \
	"length"
#define T_TRANSFORMS \
	"\x8c\x15"   \
	"transform_descriptors"
#define T_A        \
	"\x8c\x01" \
	"a"
#define T_B        \
	"\x8c\x01" \
	"b"
#define T_A_0      \
	"\x8c\x03" \
	"a.0"
#define T_FILE     \
	"\x8c\x01" \
	"f"

#define M "ctorch.distributed.checkpoint.metadata\n"
#define OBJECT(class, state) M class "\n)\x81}(" state "ub"
#define SIZE(numbers) "ctorch\nSize\n(" numbers "t\x85R"
#define LAYOUT                                        \
	"ctorch.serialization\n_get_layout\n\x8c\x0d" \
	"torch.strided\x85R"
#define TYPE(dtype, layout) M "TensorProperties\n)\x81(ctorch\n" dtype "\n" layout "tb"
#define FLOAT TYPE("float32", LAYOUT)
#define CHUNK(offsets, sizes) OBJECT("ChunkStorageMetadata", T_OFFSETS offsets T_SIZES sizes)
#define TENSOR(type, size, chunks) \
	OBJECT("TensorStorageMetadata", T_PROPERTIES type T_SIZE size T_CHUNKS "](" chunks "e")
#define BYTES M "BytesStorageMetadata\n)\x81}b"
#define INDEX(name, rest) OBJECT("MetadataIndex", T_FQN name rest)
#define INFO(rest) "ctorch.distributed.checkpoint.filesystem\n_StorageInfo\n)\x81}(" T_PATH T_FILE rest "ub"
#define AT(offset, length) T_OFFSET offset T_LENGTH length
#define METADATA(rest) "\x80\x04" OBJECT("Metadata", rest) "."
#define SETS(entries, slices) METADATA(T_STATE "}(" entries "u" T_STORAGE "}(" slices "u")
#define SETS3(entries, slices, rest) METADATA(T_STATE "}(" entries "u" T_STORAGE "}(" slices "u" rest)

#define ZERO SIZE("K\x00K\x00")
#define FOUR SIZE("K\x04K\x00")
#define BOX SIZE("K\x04K\x08")
#define WHOLE SIZE("K\x08K\x08")
#define TWO CHUNK(ZERO, BOX) CHUNK(FOUR, BOX)
#define A T_A TENSOR(FLOAT, WHOLE, TWO)
#define GOOD INFO(AT("K\x07", "K\xff"))
#define HINT(n) T_INDEX "K" n T_OFFSET
#define SLICES INDEX(T_A, HINT("\x00") ZERO) GOOD INDEX(T_A, HINT("\x01") FOUR) INFO(AT("M\x00\x02", "K\xff"))
#define BYTES_SLICE(name) INDEX(name, T_INDEX "N" T_OFFSET "N") GOOD

#define NO 1 /* not known to the stream */

#define PICKLE(s) (s), sizeof(s) - 1
static const struct {
	const char *what, *pickle;
	size_t len;
	int code;
} cases[] = {
	{"two chunks", PICKLE(SETS(A, SLICES)), 0},
	{"no entries", PICKLE(METADATA(T_STATE "}" T_STORAGE "}")), 0},
	{"no slices", PICKLE(METADATA(T_STATE "}(" A "u" T_STORAGE "N")), 0},
	{"a value", PICKLE(SETS(T_A BYTES, BYTES_SLICE(T_A))), 0},
	{"values and tensors", PICKLE(SETS(T_B BYTES A T_A_0 BYTES, BYTES_SLICE(T_A_0) SLICES BYTES_SLICE(T_B))), 0},
	{"hints that are wrong", PICKLE(SETS(A, INDEX(T_A, HINT("\x01") ZERO) GOOD INDEX(T_A, HINT("\x09") FOUR) GOOD)),
	 0},
	{"no hints", PICKLE(SETS(A, INDEX(T_A, T_INDEX "N" T_OFFSET ZERO) GOOD INDEX(T_A, T_OFFSET FOUR) GOOD)), 0},
	{"chunks backwards", PICKLE(SETS(T_A TENSOR(FLOAT, WHOLE, CHUNK(FOUR, BOX) CHUNK(ZERO, BOX)), SLICES)), 0},
	{"a chunk without a slice", PICKLE(SETS(A, INDEX(T_A, HINT("\x01") FOUR) GOOD)), 0},
	{"two chunks at one place",
	 PICKLE(SETS(T_A TENSOR(FLOAT, BOX, CHUNK(ZERO, BOX) CHUNK(ZERO, BOX)), INDEX(T_A, HINT("\x00") ZERO) GOOD)),
	 0},
	{"slices of nothing",
	 PICKLE(SETS(A, INDEX(T_B, HINT("\x00") ZERO) GOOD SLICES INDEX(T_A, HINT("\x00") BOX) GOOD)), 0},
	{"an index of one dimension", PICKLE(SETS(A, INDEX(T_A, HINT("\x00") SIZE("K\x00")) GOOD SLICES)), 0},
	{"an index without offsets", PICKLE(SETS(A, INDEX(T_A, T_INDEX "K\x00") GOOD SLICES)), 0},
	{"no dimension",
	 PICKLE(SETS(T_A TENSOR(FLOAT, SIZE(""), CHUNK(SIZE(""), SIZE(""))), INDEX(T_A, HINT("\x00") SIZE("")) GOOD)),
	 0},
	{"plain tuples for sizes",
	 PICKLE(SETS(T_A TENSOR(FLOAT, "K\x04\x85", CHUNK("K\x00\x85", "K\x04\x85")),
		     INDEX(T_A, HINT("\x00") "K\x00\x85") GOOD)),
	 0},
	{"an offset past 4 GiB",
	 PICKLE(SETS(A, INDEX(T_A, HINT("\x00") ZERO) INFO(AT("\x8a\x05\x00\x00\x00\x00\x02", "K\xff")))), 0},
	{"no length", PICKLE(SETS(A, INDEX(T_A, HINT("\x00") ZERO) INFO(AT("K\x07", "K\x00")))), 0},
	{"no transforms", PICKLE(SETS(A, INDEX(T_A, HINT("\x00") ZERO) INFO(AT("K\x07", "K\xff") T_TRANSFORMS "]"))),
	 0},
	{"a transform",
	 PICKLE(SETS(A, INDEX(T_A, HINT("\x00") ZERO) INFO(AT("K\x07", "K\xff") T_TRANSFORMS "](" T_A "e"))), 0},
	{"a transform without a list",
	 PICKLE(SETS(A, INDEX(T_A, HINT("\x00") ZERO) INFO(AT("K\x07", "K\xff") T_TRANSFORMS T_A))), 0},
	{"an unknown dtype", PICKLE(SETS(T_A TENSOR(TYPE("float3", LAYOUT), WHOLE, TWO), SLICES)), 0},
	{"a sparse tensor", PICKLE(SETS(T_A TENSOR(TYPE("float32", "ctorch\nsparse_coo\n"), WHOLE, TWO), SLICES)), 0},
	{"a global for a layout", PICKLE(SETS(T_A TENSOR(TYPE("float32", "ctorch\nstrided\n"), WHOLE, TWO), SLICES)),
	 0},
	{"a size too large",
	 PICKLE(SETS(T_A TENSOR(FLOAT, SIZE("J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f"), ""), "")), NO},
	{"ways",
	 PICKLE(SETS3(A T_A_0 BYTES T_B BYTES, SLICES BYTES_SLICE(T_A_0),
		      T_PLANNER "}(" T_A T_A "\x85" T_A_0 T_A "K\x00\x86" T_B T_A "\x85"
				"u")),
	 0},
	{"odd ways",
	 PICKLE(SETS3(A T_A_0 BYTES, SLICES,
		      T_PLANNER "}(" T_A ")" T_A_0 "K\x00K\x01\x86" T_B T_B "\x85"
				"u")),
	 0},
	{"objects of others",
	 PICKLE(SETS3(A, SLICES,
		      T_B "cm\nC\n)\x81}(" T_A "](K\x01"
			  "e" T_B "}ub"
			  "\x8c\x01"
			  "c"
			  "cm\nf\n)R")),
	 0},
	{"bytes and floats",
	 PICKLE(SETS3(A, SLICES,
		      T_B "(G\x00\x00\x00\x00\x00\x00\x00\x00"
			  "C\x02xy"
			  "\x88\x89J\xff\xff\xff\xfft")),
	 0},

	{"one object for two tensors",
	 PICKLE(SETS(T_A TENSOR(FLOAT, WHOLE, TWO) "\x94" T_B "h\x00" T_A_0 "h\x00",
		     SLICES INDEX(T_A_0, HINT("\x00") ZERO) INFO(AT("K\x07", "K\xff")))),
	 0},
	{"one object for two values and two slices",
	 PICKLE(SETS(T_A BYTES "\x94" T_B "h\x00",
		     INDEX(T_A, T_OFFSET "N") GOOD "\x94" INDEX(T_B, T_OFFSET "N") "h\x01")),
	 0},
	{"a way that is no tuple", PICKLE(SETS3(A, SLICES, T_PLANNER "}(" T_A T_A "u")), NO},
	{"a way of other things", PICKLE(SETS3(A, SLICES, T_PLANNER "}(" T_A "N\x85u")), NO},
	{"a name twice", PICKLE(SETS(A A, SLICES)), NO},
	{"a slice twice", PICKLE(SETS(A, SLICES SLICES)), NO},
	{"slices before entries", PICKLE(METADATA(T_STORAGE "}(" SLICES "u" T_STATE "}(" A "u")), NO},
	{"entries that are not those of the metadata", PICKLE(METADATA(T_A "}(" A "u" T_STATE "}" T_STORAGE "}")), NO},
	{"entries twice", PICKLE(METADATA(T_A "}(" A "u" T_STATE "}(" T_B BYTES "u" T_STORAGE "}")), NO},
	{"a chunk that is no tensor's", PICKLE(SETS3(A, SLICES, T_B CHUNK(ZERO, BOX))), NO},
	{"a chunk without sizes",
	 PICKLE(SETS(T_A TENSOR(FLOAT, WHOLE, OBJECT("ChunkStorageMetadata", T_OFFSETS ZERO)), "")), NO},
	{"a chunk of another number of dimensions", PICKLE(SETS(T_A TENSOR(FLOAT, SIZE("K\x04"), TWO), "")), NO},
	{"a negative offset", PICKLE(SETS(T_A TENSOR(FLOAT, WHOLE, CHUNK(SIZE("J\xff\xff\xff\xffK\x00"), BOX)), "")),
	 NO},
	{"a list for a size",
	 PICKLE(SETS(T_A TENSOR(FLOAT,
				"](K\x04K\x08"
				"e",
				TWO),
		     "")),
	 NO},
	{"neither a tensor nor bytes", PICKLE(SETS(A T_B "N", SLICES)), NO},
	{"a state twice", PICKLE(SETS(T_A TENSOR(FLOAT, WHOLE, TWO) "}b", SLICES)), NO},
	{"a mapping from the memo", PICKLE(SETS3(A, SLICES, T_B "}\x94" T_A "h\x00")), NO},
	{"a memo index that is not set", PICKLE(SETS3(A, SLICES, T_B "h\x00")), NO},
	{"a class that is called", PICKLE(SETS(A T_B M "BytesStorageMetadata\n)R", SLICES)), NO},
	{"arguments of a class", PICKLE(SETS(A T_B M "BytesStorageMetadata\nK\x00\x85\x81", SLICES)), NO},
	{"an attribute twice", PICKLE(SETS(A, INDEX(T_A, T_FQN T_A T_OFFSET ZERO) GOOD)), NO},
	{"a set", PICKLE(SETS3(A, SLICES, T_B "\x8f")), NO},
	{"POP", PICKLE(SETS3(A, SLICES, T_B "NN0")), NO},
	{"a text that is not UTF-8", PICKLE(SETS(T_A TENSOR(FLOAT, WHOLE, TWO) "\x8c\x01\xff" BYTES, SLICES)), NO},
	{"a name of a class with a newline", PICKLE(SETS3(A, SLICES, T_B T_A "\x8c\x01\n\x93")), NO},
	{"a way told twice",
	 PICKLE(SETS3(A, SLICES,
		      T_PLANNER "}(" T_A T_A "\x85" T_A "K\x00\x85"
				"u")),
	 NO},
	{"two of the metadata", PICKLE(SETS3(A, SLICES, T_B M "Metadata\n)\x81")), NO},
	{"another object", PICKLE("\x80\x04" BYTES "."), NO},
	{"no object", PICKLE("\x80\x04."), NO},
	{"protocol 6", PICKLE("\x80\x06" BYTES "."), NO},
	{"a frame past the end", PICKLE("\x80\x04\x95\xff\x00\x00\x00\x00\x00\x00\x00" BYTES "."), NO},
	{"nothing", PICKLE(""), NO},
};

static int read_bytes(const char *pickle, size_t len, bool stream, struct wf_dcp_metadata *m, struct wf_error *err)
{
	struct wf_source *s = NULL;
	void *copy = malloc(len + 1); /* of its size: a byte behind it is none to be read */
	assert_non_null(copy);
	memcpy(copy, pickle, len);
	assert_int_equal(wf_source_from_memory(copy, len, true, &s), 0);
	int r = (stream ? wf_dcp_metadata_stream : wf_dcp_metadata_read)(m, s, "", err);
	wf_source_unref(s);
	return r == 0 ? wf_dcp_metadata_finish(m) : r;
}

static void test_kinds(void **state)
{
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct wf_dcp_metadata graph = {0}, stream = {0};
		struct wf_error err = {0};
		int r = read_bytes(cases[i].pickle, cases[i].len, true, &stream, &err);
		if (r != cases[i].code)
			fail_msg("%s: %d, not %d", cases[i].what, r, cases[i].code);
		if (r == 0) {
			if (read_bytes(cases[i].pickle, cases[i].len, false, &graph, &err) != 0)
				fail_msg("%s: the graph says %s", cases[i].what, err.text);
			const char *what = kit_difference(&graph, &stream);
			if (what)
				fail_msg("%s: the readers differ in %s", cases[i].what, what);
		}
		wf_dcp_metadata_free(&graph);
		wf_dcp_metadata_free(&stream);
	}
}

/* Files of two ranks: the second one tells of entries of the first, too. */
static void test_ranks(void **state)
{
	static const char first[] = SETS(A T_B BYTES, SLICES BYTES_SLICE(T_B));
	static const char second[] = SETS3(T_A_0 BYTES T_B BYTES T_A TENSOR(FLOAT, WHOLE, CHUNK(FOUR, BOX)),
					   BYTES_SLICE(T_B) BYTES_SLICE(T_A_0) INDEX(T_A, HINT("\x00") FOUR)
						   GOOD INDEX(T_A, HINT("\x00") ZERO) GOOD,
					   T_PLANNER "}(" T_A T_A "\x85"
						     "\x8c\x01"
						     "c" T_B "\x85"
						     "u");
	static const char third[] = SETS3(T_A_0 BYTES, BYTES_SLICE(T_A_0),
					  T_PLANNER "}(" T_A_0 T_A "K\x00\x86" T_B T_B "\x85"
						    "u");
	static const struct {
		const char *pickle;
		size_t len;
	} files[] = {{PICKLE(first)}, {PICKLE(second)}, {PICKLE(third)}};
	struct wf_dcp_metadata graph = {0}, stream = {0};
	struct wf_error err = {0};
	for (size_t i = 0; i < 2 * WF_ARRAY_SIZE(files); i++) {
		struct wf_source *s = NULL;
		const char *pickle = files[i / 2].pickle;
		assert_int_equal(wf_source_from_memory((void *)(uintptr_t)pickle, files[i / 2].len, false, &s), 0);
		assert_int_equal(
			(i % 2 ? wf_dcp_metadata_stream : wf_dcp_metadata_read)(i % 2 ? &stream : &graph, s, "", &err),
			0);
		wf_source_unref(s);
	}
	assert_int_equal(wf_dcp_metadata_finish(&graph), 0);
	assert_int_equal(wf_dcp_metadata_finish(&stream), 0);
	assert_null(kit_difference(&graph, &stream));
	assert_int_equal(stream.entry_count, 3);
	assert_int_equal(stream.entries[0].chunk_count, 2);
	assert_int_equal(stream.entries[0].step_count, 1);
	assert_int_equal(stream.entries[1].step_count, 1); /* the third one tells it, which has no such entry */
	wf_dcp_metadata_free(&graph);
	wf_dcp_metadata_free(&stream);
}

/* No part of a file that is known is known itself. */
static void test_cut(void **state)
{
	static const char good[] = SETS3(A T_B BYTES, SLICES BYTES_SLICE(T_B),
					 T_PLANNER "}(" T_A T_A "\x85" T_B T_B "\x85"
						   "u");
	for (size_t len = 0; len < sizeof good - 1; len++) {
		struct wf_dcp_metadata m = {0};
		assert_int_equal(read_bytes(good, len, true, &m, NULL), NO);
		wf_dcp_metadata_free(&m);
	}
}

/* What a file makes of memory is bounded by its size. */
static void test_limit(void **state)
{
	size_t len = 32u << 20, piece = 1024;
	char *flood = malloc(len);
	struct wf_dcp_metadata m = {0};
	struct wf_error err = {0};
	assert_non_null(flood);
	memset(flood, 'N', len);
	for (size_t i = 0; i < len; i += piece) {
		flood[i] = '(';
		flood[i + piece - 1] = 't';
	}
	assert_int_equal(read_bytes(flood, len, true, &m, &err), -E2BIG);
	assert_non_null(strstr(err.text, "bytes of memory"));
	wf_dcp_metadata_free(&m);
	free(flood);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixtures), cmocka_unit_test(test_kinds), cmocka_unit_test(test_ranks),
		cmocka_unit_test(test_cut),      cmocka_unit_test(test_limit),
	};
	fixtures = argc > 1 ? argv[1] : "tests/files/dcp";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
