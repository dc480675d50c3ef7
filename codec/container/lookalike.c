/* SPDX-License-Identifier: MIT */
/* What people hand to a checkpoint reader that is no checkpoint, by its first bytes. The error of a checkpoint reader
 * is where they learn that a download failed; "corrupt" would send them the wrong way. */
#include "codec/container/lookalike.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "codec/bytes/util.h"
#include "codec/bytes/utf8.h"

#define HEAD_BYTES 4096u

struct signature {
	const char *magic;
	uint16_t len, offset;
	int code;
	const char *text;
};

#define NOT_OURS(offset, magic, text)                                \
	{                                                            \
		magic, sizeof(magic) - 1, offset, -EMEDIUMTYPE, text \
	}
#define NOT_READ(offset, magic, text)                               \
	{                                                           \
		magic, sizeof(magic) - 1, offset, -EOPNOTSUPP, text \
	}

static const struct signature signatures[] = {
	NOT_OURS(0, "version https://git-lfs.github.com/spec/",
		 "this is a git-lfs pointer, not the checkpoint itself (fetch it with `git lfs pull`)"),
	NOT_OURS(0, "\0GITCRYPT\0", "this file is encrypted by git-crypt (unlock the repository first)"),
	NOT_OURS(0, "/annex/objects/",
		 "this is a git-annex pointer, not the checkpoint itself (fetch it with `git annex get`)"),
	NOT_OURS(
		0, "../../blobs/",
		"this is a link of the Hugging Face cache that was saved as text: copy the file that it names (cp -L)"),
	NOT_OURS(
		8, "\xef\xbb\xbf{",
		"this is a safetensors file whose header begins with a byte-order mark (BOM, the bytes ef bb bf), which JSON does not allow: write the header again without it"),
	NOT_OURS(0, "GGUF", "this is a GGUF model, not a PyTorch checkpoint"),
	NOT_OURS(0, "lmgg", "this is a GGML model, not a PyTorch checkpoint"),
	NOT_OURS(0, "tjgg", "this is a GGML model, not a PyTorch checkpoint"),
	NOT_OURS(0, "fmgg", "this is a GGML model, not a PyTorch checkpoint"),
	NOT_OURS(0, "algg", "this is a GGML model (LoRA), not a PyTorch checkpoint"),
	NOT_OURS(
		0, "ftrt",
		"this is a TensorRT engine, not a PyTorch checkpoint (it is built from one, and there is no way back)"),
	NOT_OURS(
		0, "ptrt",
		"this is a TensorRT engine, not a PyTorch checkpoint (it is built from one, and there is no way back)"),
	NOT_OURS(0, "RKNN", "this is a Rockchip model (RKNN), not a PyTorch checkpoint"),
	NOT_OURS(0, "7767517\n", "this is an ncnn model, not a PyTorch checkpoint"),
	NOT_OURS(0, "\x12\1\0\0\0\0\0\0", "these are MXNet parameters, not a PyTorch checkpoint"),
	NOT_OURS(0, "PAR1", "this is a Parquet table, not a checkpoint"),
	NOT_OURS(0, "ARROW1", "this is an Arrow table, not a checkpoint"),
	NOT_OURS(0, "SQLite format 3", "this is an SQLite data base, not a checkpoint"),
	NOT_OURS(0, "MZ\x90\0", "this is a program for Windows, not a checkpoint"),
	NOT_OURS(0, "GIF8", "this is a GIF image, not a checkpoint"),
	NOT_OURS(
		0, "\x5d\0\0\x80\0",
		"this is LZMA-compressed (joblib writes such), not a checkpoint itself (joblib.load it, or unpack it)"),
	NOT_OURS(
		0, "\x5d\0\0\0\4",
		"this is LZMA-compressed (joblib writes such), not a checkpoint itself (joblib.load it, or unpack it)"),
	NOT_OURS(0, "7z\xbc\xaf\x27\x1c", "this is a 7z archive, not a checkpoint (unpack it first)"),
	NOT_OURS(
		0, "\x1f\x8b",
		"this is gzip-compressed, not a checkpoint itself (unpack it first, or joblib.load it if joblib wrote it)"),
	NOT_OURS(
		0, "BZh",
		"this is bzip2-compressed, not a checkpoint itself (unpack it first, or joblib.load it if joblib wrote it)"),
	NOT_OURS(
		0,
		"\xfd"
		"7zXZ\0",
		"this is xz-compressed, not a checkpoint itself (unpack it first, or joblib.load it if joblib wrote it)"),
	NOT_OURS(0, "\x28\xb5\x2f\xfd", "this is zstd-compressed, not a checkpoint itself (unpack it first)"),
	NOT_OURS(
		0, "\x04\x22\x4d\x18",
		"this is lz4-compressed, not a checkpoint itself (unpack it first, or joblib.load it if joblib wrote it)"),
	NOT_OURS(0, "Rar!\x1a\x07", "this is a RAR archive, not a checkpoint (unpack it first)"),
	NOT_OURS(257, "ustar", "this is a tar archive, not a checkpoint (unpack it first)"),
	NOT_OURS(0, "PK\5\6", "this is an empty zip archive"),
	NOT_OURS(0, "PK\7\x8", "this is a part of a zip archive in several parts"),
	NOT_OURS(0, "\x89HDF\r\n\x1a\n",
		 "this is an HDF5 file (Keras writes such), not a PyTorch checkpoint (h5py opens it)"),
	NOT_OURS(0, "\x93NUMPY", "this is a NumPy array (.npy), not a PyTorch checkpoint (np.load reads it)"),
	NOT_OURS(0,
		 "\x7f"
		 "ELF",
		 "this is a program or library (ELF), not a checkpoint"),
	NOT_OURS(0, "%PDF", "this is a PDF document, not a checkpoint"),
	NOT_OURS(0, "\x89PNG\r\n\x1a\n", "this is a PNG image, not a checkpoint"),
	NOT_OURS(0, "\xff\xd8\xff", "this is a JPEG image, not a checkpoint"),
	NOT_OURS(0, "\0\5\x16\7", "this is a macOS resource fork (AppleDouble), not the checkpoint beside it"),
	NOT_OURS(0, "bplist00", "this is a macOS property list, not a checkpoint"),
	NOT_OURS(4, "TFL3", "this is a TensorFlow Lite model, not a PyTorch checkpoint"),
	NOT_OURS(4, "ET12", "this is an ExecuTorch program (.pte), not a PyTorch checkpoint"),
	NOT_OURS(4, "FT01", "these are ExecuTorch's tensors (.ptd), not a PyTorch checkpoint"),
	NOT_READ(4, "PTMF", "this is a PyTorch mobile model (flatbuffer), which is not supported"),
	NOT_READ(0, "PYTORCH1",
		 "this is a container of a PyTorch preview before 1.0, which PyTorch itself no longer reads"),
};

static bool starts_with_word(const char *s, size_t len, const char *word)
{
	size_t n = strlen(word);
	return len >= n && strncasecmp(s, word, n) == 0;
}

static bool find_text(const unsigned char *head, size_t len, const char *what)
{
	return memmem(head, len, what, strlen(what)) != NULL;
}

/* All of it printable UTF-8 and white space; the last character may be cut. */
static bool is_text(const unsigned char *head, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((head[i] < 0x20 && !isspace(head[i])) || head[i] == 0x7f)
			return false;
	return wf_utf8_valid(head, len - wf_utf8_cut(head, len, true), true);
}

/* The text formats of other programs. */
static int text_of_program(const unsigned char *head, size_t len, const char *s, size_t n, struct wf_error *err)
{
	if (find_text(head, len, "layer {") || find_text(head, len, "layers {") || find_text(head, len, "layer{"))
		return wf_fail(
			err, -EMEDIUMTYPE,
			"this is a Caffe network description (prototxt), which holds no weights: they are in the "
			".caffemodel");
	if (starts_with_word(s, n, "[net]") || starts_with_word(s, n, "[network]"))
		return wf_fail(
			err, -EMEDIUMTYPE,
			"this is a Darknet network description (.cfg), which holds no weights: they are in the .weights");
	if (find_text(head, len, "outs:") && find_text(head, len, "md5:"))
		return wf_fail(err, -EMEDIUMTYPE,
			       "this is a DVC pointer, not the checkpoint itself (fetch it with `dvc pull`)");
	if (n > 4 && isdigit((unsigned char)s[0]) && s[1] == '\n' && find_text(head, len, "V 1\n") &&
	    find_text(head, len, "torch."))
		return wf_fail(err, -EMEDIUMTYPE,
			       "this is a file of Torch 7 (Lua, .t7), not a PyTorch checkpoint "
			       "(torchfile, from PyPI, reads it)");
	return 0;
}

static int markup_or_text(const unsigned char *head, size_t len, struct wf_error *err)
{
	static const char *const html[] = {"<!doctype html", "<html", "<head", "<body", "<script"};
	size_t skip = len >= 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
	while (skip < len && isspace(head[skip]))
		skip++;
	const char *s = (const char *)head + skip;
	size_t n = len - skip;
	for (size_t i = 0; i < WF_ARRAY_SIZE(html); i++)
		if (starts_with_word(s, n, html[i]))
			return wf_fail(err, -EMEDIUMTYPE,
				       "this is an HTML page, not a checkpoint (the download probably failed)");
	if (n == 0)
		return wf_fail(err, -EMEDIUMTYPE, "this file is blank");
	if (!is_text(head, len))
		return 0;
	if (starts_with_word(s, n, "<?xml") || (*s == '<' && find_text(head, len, "</")))
		return wf_fail(err, -EMEDIUMTYPE,
			       "this is an XML document, not a checkpoint (the answer of a server that refused the "
			       "download?)");
	int named = text_of_program(head, len, s, n, err);
	if (named < 0)
		return named;
	if (*s == '{' || *s == '[') {
		if (find_text(head, len, "\"error\""))
			return wf_fail(
				err, -EMEDIUMTYPE,
				"this is JSON text with an error in it, not a checkpoint (the answer of a server that "
				"refused the download?)");
		if (find_text(head, len, "\"weight_map\""))
			return wf_fail(err, -EMEDIUMTYPE,
				       "this is the index of a checkpoint in several files, not one of the files: open "
				       "those that it names, one by one");
		return wf_fail(err, -EMEDIUMTYPE, "this is JSON text, not a checkpoint");
	}
	char line[44];
	size_t k = 0;
	for (; k < n && k < sizeof line - 1 && s[k] != '\n' && s[k] != '\r'; k++)
		line[k] = s[k];
	while (k > 0 && k < n && ((unsigned char)s[k] & 0xc0) == 0x80)
		k--; /* not in the middle of a character */
	line[k] = '\0';
	return wf_fail(err, -EMEDIUMTYPE, "this is a text file that starts with \"%s\", not a checkpoint", line);
}

static uint32_t u32_at(const unsigned char *head, size_t len, size_t at)
{
	return at + 4 <= len ? wf_le32(head + at) : UINT32_MAX;
}

/* A protobuf of another framework: which one its first fields or names in it tell. */
static int protobuf(const unsigned char *head, size_t len, struct wf_error *err)
{
	bool named = len >= 4 && head[0] == 0x0a && head[1] < 128 && (size_t)head[1] + 4 < len;
	for (size_t i = 2; named && i < 2u + head[1]; i++)
		named = head[i] >= 0x20 && head[i] < 0x7f;
	const unsigned char *next = named ? head + 2 + head[1] : head;
	/* a name, then layers: field 2 in the old format, 100 in the new one */
	if (named && ((next[0] == 0x12 && find_text(head, len, "data")) || (next[0] == 0xa2 && next[1] == 0x06)))
		return wf_fail(err, -EMEDIUMTYPE, "this is a Caffe model (.caffemodel), not a PyTorch checkpoint");
	if (len < 12 || (head[0] != 8 && head[0] != 0x0a))
		return 0;
	if (find_text(head, len, "saved_model") || find_text(head, len, "serve\"") ||
	    (head[0] == 8 && head[1] == 1 && head[2] == 0x12 && find_text(head, len, "tensorflow")) ||
	    find_text(head, len, "\x05serve"))
		return wf_fail(err, -EMEDIUMTYPE,
			       "this is a TensorFlow SavedModel (saved_model.pb), not a PyTorch checkpoint");
	if (head[0] == 0x0a && find_text(head, len, "Placeholder"))
		return wf_fail(err, -EMEDIUMTYPE, "this is a TensorFlow graph (.pb), not a PyTorch checkpoint");
	if (head[0] == 8 && (find_text(head, len, "coremltools") || find_text(head, len, "com.github.apple")))
		return wf_fail(err, -EMEDIUMTYPE, "this is a Core ML model (.mlmodel), not a PyTorch checkpoint");
	/* ir_version, then the producer's name, its version, or at once the graph */
	bool version = head[0] == 8 && head[1] >= 1 && head[1] <= 32;
	bool producer = version && head[2] == 0x12 && (size_t)head[3] + 5 <= len && head[3] >= 2 && isalpha(head[4]);
	if (producer || (version && head[2] == 0x3a &&
			 (find_text(head, len, "onnx") || find_text(head, len, "input") ||
			  find_text(head, len, "Conv") || find_text(head, len, "Gemm"))))
		return wf_fail(err, -EMEDIUMTYPE, "this is an ONNX model, not a PyTorch checkpoint");
	return 0;
}

/* Formats without a magic number, by the numbers that they begin with. */
static int headless(const unsigned char *head, size_t len, uint64_t size, struct wf_error *err)
{
	uint32_t a = u32_at(head, len, 0), b = u32_at(head, len, 4), c = u32_at(head, len, 8);
	/* a type (3 a table, 4 a torch object), its number, and for an object the length of "V 1" */
	if ((a == 4 && b == 1 && c == 3 && find_text(head, len, "V 1")) ||
	    (a == 3 && b == 1 && find_text(head, len, "torch.")))
		return wf_fail(err, -EMEDIUMTYPE,
			       "this is a file of Torch 7 (Lua, .t7), not a PyTorch checkpoint "
			       "(torchfile, from PyPI, reads it)");
	/* version 0.1 or 0.2, a revision, images seen, then floats */
	if (size > 64 && a == 0 && (b == 1 || b == 2) && c <= 5)
		return wf_fail(err, -EMEDIUMTYPE, "these are weights of Darknet (YOLO), not a PyTorch checkpoint");
	if (len >= 2 && (head[0] & 0x0f) == 8 && head[0] >> 4 <= 7 && (head[0] * 256u + head[1]) % 31 == 0 &&
	    !(head[1] & 0x20))
		return wf_fail(
			err, -EMEDIUMTYPE,
			"this is zlib-compressed (joblib writes such), not a checkpoint itself (joblib.load it, or "
			"unpack it)");
	/* a map whose first key is a short text */
	if (len >= 8 && ((head[0] > 0x80 && head[0] <= 0x8f && head[1] > 0xa0 && head[1] <= 0xbf) ||
			 (head[0] == 0xde && head[3] > 0xa0 && head[3] <= 0xbf)))
		return wf_fail(
			err, -EMEDIUMTYPE,
			"this is MessagePack (Flax writes such), not a PyTorch checkpoint (flax.serialization reads it)");
	return 0;
}

static int binary(const unsigned char *head, size_t len, uint64_t size, struct wf_error *err)
{
	bool zeroes = true;
	for (size_t i = 0; i < len && zeroes; i++)
		zeroes = head[i] == 0;
	if (zeroes)
		return wf_fail(err, -EMEDIUMTYPE,
			       "this file starts with %zu zero bytes: not a checkpoint (a download that was never "
			       "finished?)",
			       len);
	int r = headless(head, len, size, err);
	if (r == 0)
		r = protobuf(head, len, err);
	if (r < 0)
		return r;
	if (len >= 2 && head[0] == 0x80 && head[1] <= 5)
		return wf_fail(err, -EMEDIUMTYPE, "this is a Python pickle that cannot be read");
	char hex[8 * 3 + 1] = "";
	for (size_t i = 0; i < WF_MIN(len, 8u); i++)
		snprintf(hex + i * 3, sizeof hex - i * 3, "%02x%s", head[i], i + 1 < WF_MIN(len, 8u) ? " " : "");
	return wf_fail(err, -EMEDIUMTYPE, "this is not a PyTorch checkpoint (it starts with the bytes %s)", hex);
}

int wf_lookalike(struct wf_source *file, struct wf_error *err)
{
	uint64_t size = wf_source_size(file);
	size_t len = (size_t)WF_MIN(size, (uint64_t)HEAD_BYTES);
	if (len == 0)
		return wf_fail(err, -EMEDIUMTYPE, "the file is empty");
	unsigned char head[HEAD_BYTES];
	int r = wf_source_read(file, 0, head, len);
	if (r < 0)
		return wf_fail(err, r, "cannot read the file: %s", strerror(-r));
	r = wf_lookalike_mangled(file, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < WF_ARRAY_SIZE(signatures); i++) {
		const struct signature *s = &signatures[i];
		if ((size_t)s->offset + s->len <= len && memcmp(head + s->offset, s->magic, s->len) == 0)
			return wf_fail(err, s->code, "%s", s->text);
	}
	if (len > 11 && !memcmp(head, "\xef\xbb\xbf", 3) && head[11] == '{')
		return wf_fail(
			err, -EMEDIUMTYPE,
			"a byte-order mark (BOM, the bytes ef bb bf) stands before this safetensors file: cut off its first three bytes");
	r = wf_lookalike_prefixed(file, head, len, err);
	if (r == 0)
		r = markup_or_text(head, len, err);
	return r < 0 ? r : binary(head, len, size, err);
}
