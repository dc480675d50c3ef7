/* What people hand to a checkpoint reader that is no checkpoint, by its first bytes. The error of a checkpoint reader
 * is where they learn that a download failed; "corrupt" would send them the wrong way. */
#include "container_impl.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "cursor.h"
#include "util.h"

#define HEAD_BYTES 4096u
#define MAX_NAMES 10000u /* of a zip's directory: what tells stands early */

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
	NOT_OURS(0, "GGUF", "this is a GGUF model, not a PyTorch checkpoint"),
	NOT_OURS(0, "lmgg", "this is a GGML model, not a PyTorch checkpoint"),
	NOT_OURS(0, "tjgg", "this is a GGML model, not a PyTorch checkpoint"),
	NOT_OURS(0, "fmgg", "this is a GGML model, not a PyTorch checkpoint"),
	NOT_OURS(0, "7z\xbc\xaf\x27\x1c", "this is a 7z archive, not a checkpoint (unpack it first)"),
	NOT_OURS(0, "\x1f\x8b", "this is gzip-compressed, not a checkpoint itself (unpack it first)"),
	NOT_OURS(0, "BZh", "this is bzip2-compressed, not a checkpoint itself (unpack it first)"),
	NOT_OURS(0,
		 "\xfd"
		 "7zXZ\0",
		 "this is xz-compressed, not a checkpoint itself (unpack it first)"),
	NOT_OURS(0, "\x28\xb5\x2f\xfd", "this is zstd-compressed, not a checkpoint itself (unpack it first)"),
	NOT_OURS(0, "\x04\x22\x4d\x18", "this is lz4-compressed, not a checkpoint itself (unpack it first)"),
	NOT_OURS(0, "Rar!\x1a\x07", "this is a RAR archive, not a checkpoint (unpack it first)"),
	NOT_OURS(257, "ustar", "this is a tar archive, not a checkpoint (unpack it first)"),
	NOT_OURS(0, "PK\5\6", "this is an empty zip archive"),
	NOT_OURS(0, "PK\7\x8", "this is a part of a zip archive in several parts"),
	NOT_OURS(0, "\x89HDF\r\n\x1a\n", "this is an HDF5 file (Keras writes such), not a PyTorch checkpoint"),
	NOT_OURS(0, "\x93NUMPY", "this is a NumPy array (.npy), not a PyTorch checkpoint"),
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
	NOT_OURS(4, "ET12", "this is an ExecuTorch program, not a PyTorch checkpoint"),
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

/* All of it printable ASCII or bytes as UTF-8 has them, and white space. */
static bool is_text(const unsigned char *head, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((head[i] < 0x20 && !isspace(head[i])) || head[i] == 0x7f || head[i] == 0xc0 || head[i] >= 0xf8)
			return false;
	return true;
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
	if (*s == '{' || *s == '[') {
		if (find_text(head, len, "\"weight_map\""))
			return wf_fail(err, -EMEDIUMTYPE,
				       "this is the index of a checkpoint in several files, not one of the files");
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

static int binary(const unsigned char *head, size_t len, uint64_t size, struct wf_error *err)
{
	if (len >= 10 && wf_le64(head) <= 100000000 && wf_le64(head) <= size - 8 && wf_le64(head) >= 2 &&
	    head[8] == '{' && (head[9] == '"' || head[9] == '}' || isspace(head[9])))
		return wf_fail(err, -EMEDIUMTYPE, "this is a safetensors file, not a PyTorch checkpoint");
	/* ONNX is a protobuf: ir_version, then producer_name */
	if (len >= 12 && head[0] == 8 && head[2] == 0x12 && head[3] >= 5 &&
	    (memcmp(head + 4, "pytorch", 7) == 0 || find_text(head, len, "ONNX") || find_text(head, len, "onnx")))
		return wf_fail(err, -EMEDIUMTYPE, "this is an ONNX model, not a PyTorch checkpoint");
	if (len >= 2 && head[0] == 0x80 && head[1] <= 5)
		return wf_fail(err, -EMEDIUMTYPE, "this is a Python pickle, but not one that torch.save wrote");
	bool zeroes = true;
	for (size_t i = 0; i < len && zeroes; i++)
		zeroes = head[i] == 0;
	if (zeroes)
		return wf_fail(err, -EMEDIUMTYPE,
			       "this file starts with %zu zero bytes: not a checkpoint (a download that was never "
			       "finished?)",
			       len);
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
	for (size_t i = 0; i < WF_ARRAY_SIZE(signatures); i++) {
		const struct signature *s = &signatures[i];
		if ((size_t)s->offset + s->len <= len && memcmp(head + s->offset, s->magic, s->len) == 0)
			return wf_fail(err, s->code, "%s", s->text);
	}
	r = markup_or_text(head, len, err);
	return r < 0 ? r : binary(head, len, size, err);
}

/* ---- pickles ---- */

static bool names_global(const struct wf_graph *g, const char *module)
{
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL; o = wf_graph_next(g, o))
		if (wf_is(g, o, WF_GLOBAL) && strcmp(wf_global_module(g, o), module) == 0)
			return true;
	return false;
}

int wf_lookalike_pickle(struct wf_source *file, const struct wf_graph *g, int code, struct wf_error *err)
{
	if (!err || code != -EUCLEAN)
		return code;
	if (names_global(g, "joblib.numpy_pickle"))
		return wf_fail(err, -EMEDIUMTYPE,
			       "this is a joblib dump, whose arrays stand between the opcodes (joblib.load it, and write "
			       "it with pickle.dump or torch.save)");
	if (err->cut)
		return wf_fail_at(err, code, NULL, err->offset, "truncated or incomplete: a Python pickle, and %s",
				  err->text);
	return wf_fail_at(err, code, NULL, err->offset, "a damaged Python pickle: %s", err->text);
}

/* ---- zip archives ---- */

enum name_match { WHOLE, BASENAME, SUFFIX };

struct zip_marker {
	enum name_match match;
	const char *name;
	int code;
	const char *before, *after; /* of the record's name in the sentence */
};

#define CONTAINS(suffix)                                                              \
	{                                                                             \
		SUFFIX, suffix, -EMEDIUMTYPE, "this is a zip archive that contains ", \
			", not a checkpoint itself (unpack it first)"                 \
	}

/* In the order of what they tell: the first that any record fits is taken. */
static const struct zip_marker zip_markers[] = {
	{WHOLE, "MAR-INF/MANIFEST.json", -EMEDIUMTYPE, "this is a TorchServe model archive (",
	 " is there), not a checkpoint (unpack it; the checkpoint is inside)"},
	{BASENAME, "serialized_exported_program.json", -EOPNOTSUPP, "this is a torch.export program (",
	 " is there), which is not supported"},
	{BASENAME, "archive_format", -EOPNOTSUPP, "this is a torch.export archive (",
	 " is there), which is not supported"},
	{SUFFIX, ".data/extern_modules", -EOPNOTSUPP, "this is a torch.package archive (",
	 " is there), which is not supported"},
	{BASENAME, "model.json", -EOPNOTSUPP, "this is a TorchScript archive of PyTorch 1.0 (",
	 " is there), which is not supported"},
	{BASENAME, "model.weights.h5", -EMEDIUMTYPE, "this is a Keras model (", " is there), not a PyTorch checkpoint"},
	{SUFFIX, ".npy", -EMEDIUMTYPE, "this is a NumPy archive (.npz with ", "), not a PyTorch checkpoint"},
	CONTAINS(".pth"),
	CONTAINS(".pt"),
	CONTAINS(".ckpt"),
	CONTAINS(".pth.tar"),
	CONTAINS(".bin"),
	CONTAINS(".safetensors"),
	{WHOLE, "META-INF/MANIFEST.MF", -EMEDIUMTYPE, "this is a Java archive (", " is there), not a checkpoint"},
	{WHOLE, "[Content_Types].xml", -EMEDIUMTYPE, "this is an office document (", " is there), not a checkpoint"},
};

static bool marks(const struct zip_marker *m, const char *name, size_t len)
{
	size_t n = strlen(m->name);
	if (len < n || memcmp(name + len - n, m->name, n) != 0)
		return false;
	return len == n || m->match == SUFFIX || (m->match == BASENAME && name[len - n - 1] == '/');
}

int wf_lookalike_zip(struct wf_source *file, const struct wf_zip_directory *directory, struct wf_error *err)
{
	struct wf_cursor c;
	size_t best = WF_ARRAY_SIZE(zip_markers);
	char found[128] = "";
	if (wf_cursor_init_source(&c, file, directory->offset, directory->size_bytes) < 0)
		return 0;
	for (uint64_t i = 0; i < directory->entries && i < MAX_NAMES && best > 0; i++) {
		const unsigned char *fixed = wf_cursor_view(&c, 46);
		if (!fixed || wf_le32(fixed) != 0x02014b50)
			break;
		size_t len = wf_le16(fixed + 28);
		uint64_t rest = (uint64_t)wf_le16(fixed + 30) + wf_le16(fixed + 32);
		const char *name = wf_cursor_view(&c, len);
		for (size_t m = 0; name && m < best; m++)
			if (marks(&zip_markers[m], name, len)) {
				best = m;
				snprintf(found, sizeof found, "%.*s", (int)WF_MIN(len, sizeof found - 1), name);
			}
		wf_cursor_skip(&c, rest);
	}
	wf_cursor_free(&c);
	if (best == WF_ARRAY_SIZE(zip_markers))
		return 0;
	const struct zip_marker *m = &zip_markers[best];
	return wf_fail(err, m->code, "%s%s%s", m->before, found, m->after);
}
