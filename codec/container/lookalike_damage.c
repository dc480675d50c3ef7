/* SPDX-License-Identifier: MIT */
/* What happened to a file: a transfer took it for text, bytes were put in front or overwritten, several archives stand in
 * one file, a pickle was cut. "Corrupt" would not tell how to get it right. */
#include "codec/container/lookalike.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/cursor.h"
#include "codec/bytes/util.h"
#include "codec/bytes/utf8.h"

#define SAMPLE_BYTES (64u << 10)
#define MIN_LINE_FEEDS 3u /* by chance each has a CR before it once in 256 */
#define MIN_REPLACED 3u   /* U+FFFD, in a file that is no text */
#define END_BYTES 22u
#define LOCATOR_BYTES 20u
#define END64_BYTES 56u

struct sample {
	unsigned char bytes[SAMPLE_BYTES];
	size_t len;
};

static struct sample *take_sample(struct wf_source *file, uint64_t at)
{
	struct sample *s = malloc(sizeof *s);
	uint64_t size = wf_source_size(file);
	if (!s)
		return NULL;
	s->len = (size_t)WF_MIN(size - at, (uint64_t)SAMPLE_BYTES);
	if (wf_source_read(file, at, s->bytes, s->len) == 0)
		return s;
	free(s);
	return NULL;
}

/* ---- taken for text ---- */

/* Every line feed has a carriage return before it. */
static bool has_crlf(const struct sample *s)
{
	unsigned int feeds = 0;
	for (size_t i = 0; i < s->len; i++) {
		if (s->bytes[i] != '\n')
			continue;
		if (i == 0 || s->bytes[i - 1] != '\r')
			return false;
		feeds++;
	}
	return feeds >= MIN_LINE_FEEDS;
}

/* Binary data of which all is valid UTF-8: the bytes that were not have become U+FFFD, or two bytes each. */
static bool was_encoded(const struct sample *s)
{
	unsigned int replaced = 0, doubled = 0;
	bool binary = false;
	size_t len = s->len - wf_utf8_cut(s->bytes, s->len, true);
	for (size_t i = 0, n; i < len; i += n) {
		uint32_t c;
		if ((n = wf_utf8_get(s->bytes + i, len - i, true, &c)) == 0)
			return false;
		binary |= c < 8;
		replaced += c == 0xfffd;
		doubled += n == 2 && c < 0x100;
	}
	return binary && (replaced >= MIN_REPLACED || doubled >= 4 * MIN_REPLACED);
}

static bool is_like(const struct sample *s, const char *start, size_t len)
{
	return s->len >= len && memcmp(s->bytes, start, len) == 0;
}

#define LIKE(s, start) is_like(s, start, sizeof(start) - 1)

static int crlf(struct wf_error *err, const char *what)
{
	return wf_fail(
		err, -EUCLEAN,
		"damaged: %s in which every line feed became CR LF, by a transfer in text mode (FTP, git's autocrlf, "
		"an editor): fetch it again in binary mode",
		what);
}

static int encoded(struct wf_error *err, const char *what)
{
	return wf_fail(
		err, -EUCLEAN,
		"damaged: %s that was taken for text and written as UTF-8, which replaced its bytes for good: fetch "
		"it again, as binary data",
		what);
}

int wf_lookalike_mangled(struct wf_source *file, struct wf_error *err)
{
	cleanup_free struct sample *s = take_sample(file, 0);
	if (!s)
		return 0;
	if (LIKE(s, "\x80\2\x8a\r\n\x6c\xfc\x9c\x46"))
		return crlf(err, "a legacy checkpoint");
	if (LIKE(s, "\xef\xbf\xbd\2\xef\xbf\xbd\nl\xef\xbf\xbd") || LIKE(s, "\xc2\x80\2\xc2\x8a\nl\xc3\xbc"))
		return encoded(err, "a legacy checkpoint");
	bool pickle = s->len > 4 && (LIKE(s, "\xef\xbf\xbd") || LIKE(s, "\xc2\x80"));
	unsigned char protocol = pickle ? s->bytes[s->bytes[0] == 0xc2 ? 2 : 3] : 0;
	return pickle && protocol >= 2 && protocol <= 5 ? encoded(err, "a Python pickle") : 0;
}

/* ---- pickles ---- */

static bool names_module(const struct wf_graph *g, const char *module)
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
	int mangled = wf_lookalike_mangled(file, err);
	if (mangled < 0)
		return mangled;
	if (names_module(g, "joblib.numpy_pickle"))
		return wf_fail(
			err, -EMEDIUMTYPE,
			"this is a joblib dump, whose arrays stand between the opcodes (joblib.load it, and write "
			"it with pickle.dump or torch.save)");
	cleanup_free struct sample *s = take_sample(file, 0);
	if (s && has_crlf(s))
		return crlf(err, "a Python pickle");
	if (err->cut)
		return wf_fail_at(err, code, NULL, err->offset, "truncated or incomplete: a Python pickle, and %s",
				  err->text);
	return wf_fail_at(err, code, NULL, err->offset, "a damaged Python pickle: %s", err->text);
}

/* ---- zip archives ---- */

/* Where the archive that the last end record of the file describes begins: what stands before it belongs to something
 * else. 0 when it begins the file, or there is none. */
static uint64_t start_of_last(struct wf_source *file)
{
	uint64_t size = wf_source_size(file);
	uint64_t from = size - WF_MIN(size, (uint64_t)SAMPLE_BYTES);
	cleanup_free struct sample *s = take_sample(file, from);
	unsigned char local[4];
	size_t at = 0;
	for (size_t i = s && s->len >= END_BYTES ? s->len - END_BYTES + 1 : 0; i-- > 0 && at == 0;)
		if (memcmp(s->bytes + i, "PK\5\6", 4) == 0)
			at = i;
	if (at == 0)
		return 0;
	uint64_t end = from + at, bytes = wf_le32(s->bytes + at + 12), offset = wf_le32(s->bytes + at + 16);
	if (at >= LOCATOR_BYTES && memcmp(s->bytes + at - LOCATOR_BYTES, "PK\6\7", 4) == 0)
		end -= LOCATOR_BYTES + END64_BYTES;
	if (bytes == UINT32_MAX || offset == UINT32_MAX || end > size || bytes + offset >= end)
		return 0;
	uint64_t start = end - bytes - offset;
	return wf_source_read(file, start, local, sizeof local) == 0 && memcmp(local, "PK\3\4", 4) == 0 ? start : 0;
}

int wf_lookalike_damaged_zip(struct wf_source *file, int code, struct wf_error *err)
{
	if (code != -EUCLEAN && code != -EOPNOTSUPP)
		return code;
	cleanup_free struct sample *s = take_sample(file, 0);
	if (s && has_crlf(s))
		return crlf(err, "a zip archive");
	if (s && was_encoded(s))
		return encoded(err, "a zip archive");
	uint64_t start = start_of_last(file);
	if (start > 0)
		return wf_fail(
			err, -EUCLEAN,
			"several zip archives stand one behind the other in this file (a .distcp of "
			"torch.distributed.checkpoint, or torch.save twice into one file); the last one begins at "
			"byte %" PRIu64 ": tail -c +%" PRIu64 " FILE > last.pt takes it out",
			start, start + 1);
	return code;
}

int wf_lookalike_prefixed(struct wf_source *file, const unsigned char *head, size_t len, struct wf_error *err)
{
	struct wf_zip_directory d;
	bool local = len >= 30 && head[2] == 3 && head[3] == 4 && head[4] < 64 && head[5] == 0;
	if (local && wf_zip_find_directory(file, &d, NULL) == 0) {
		char first[16];
		bool text = head[0] > 0x20 && head[0] < 0x7f && head[1] > 0x20 && head[1] < 0x7f;
		snprintf(first, sizeof first, text ? "\"%c%c\"" : "%02x %02x", head[0], head[1]);
		return wf_fail(
			err, -EMEDIUMTYPE,
			"this is a zip archive whose first two bytes are %s where PK should be (some programs, as "
			"GPT-SoVITS, mark their versions so): printf PK | dd of=COPY conv=notrunc makes a copy a "
			"checkpoint again",
			first);
	}
	uint64_t start = start_of_last(file);
	return start == 0 ? 0
			  : wf_fail(err, -EMEDIUMTYPE,
				    "%" PRIu64 " other bytes stand in front of a zip archive: tail -c +%" PRIu64
				    " FILE > model.pt takes it out",
				    start, start + 1);
}
