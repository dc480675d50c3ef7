/* SPDX-License-Identifier: MIT */
/* The rule, from the contract:
 *   str key     its UTF-8 bytes; '/' is %2F, NUL %00, '%' %25; ".", ".." and ".weightfs" have their first byte escaped;
 *               the empty key is "%"; one that reads like a number, true, false, null or a tuple beside that very key
 *               has its first byte escaped
 *   int, float, bool, None    its text, of NumPy's scalars as well;   tuple   its JSON;   bytes   b'...'
 *   a member of an Enum   Colour(1);   device, dtype, path, date   its text;   another object   its class's last name
 *   longer than 255 bytes     cut at a character boundary, then "%~" and 8 hex digits of the SHA-256 of the whole name
 *   two of one directory that would be the same   the later one ends in ~2, ~3, ... (tree/names.c)
 */
#include "codec/value/names.h"

#include <ctype.h>
#include <errno.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/bytes/utf8.h"
#include "codec/value/text.h"

static bool reserved(const char *s, size_t len)
{
	return (len == 1 && s[0] == '.') || (len == 2 && !memcmp(s, "..", 2)) ||
	       (len == 9 && !memcmp(s, ".weightfs", 9));
}

static void escape(struct wf_buffer *out, const char *s, size_t len, bool first)
{
	if (len == 0)
		wf_buffer_putc(out, '%');
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '/' || s[i] == '\0' || s[i] == '%' || (i == 0 && first))
			wf_buffer_printf(out, "%%%02X", (unsigned char)s[i]);
		else
			wf_buffer_putc(out, s[i]);
	}
}

/* Cuts an escaped name that is too long. An escape and a UTF-8 character stay whole. */
static size_t cut(const struct wf_buffer *full, char *buf)
{
	unsigned char digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx sha;
	size_t keep = WF_NAME_MAX - 10;
	sha256_init(&sha);
	sha256_update(&sha, full->len, (const uint8_t *)full->data);
	sha256_digest(&sha, sizeof digest, digest);
	while (keep > 0 && ((unsigned char)full->data[keep] & 0xc0) == 0x80)
		keep--;
	for (size_t back = 1; back <= 2 && back <= keep; back++)
		if (full->data[keep - back] == '%') {
			keep -= back;
			break;
		}
	memcpy(buf, full->data, keep);
	return keep +
	       (size_t)snprintf(buf + keep, 11, "%%~%02x%02x%02x%02x", digest[0], digest[1], digest[2], digest[3]);
}

static size_t escape_and_cut(const char *s, size_t len, bool first, char *buf)
{
	struct wf_buffer name = WF_BUFFER_INIT;
	escape(&name, s, len, first);
	if (name.len > WF_NAME_MAX) {
		len = cut(&name, buf);
	} else {
		len = name.len;
		memcpy(buf, name.data ? name.data : "", len);
	}
	buf[len] = '\0';
	wf_buffer_free(&name);
	return len;
}

size_t wf_name_from_text(const char *s, size_t len, bool has_twin, char *buf)
{
	bool plain = len > 0 && len <= WF_NAME_MAX && !has_twin && !memchr(s, '/', len) && !memchr(s, '%', len) &&
		     !memchr(s, 0, len) && !reserved(s, len);
	if (!plain)
		return escape_and_cut(s, len, has_twin || reserved(s, len), buf);
	memcpy(buf, s, len); /* nearly every one: no buffer needed */
	buf[len] = '\0';
	return len;
}

size_t wf_name_from_key(const struct wf_graph *g, wf_ref key, bool has_twin, char *buf)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	size_t len = 0;
	const char *s = wf_is(g, key, WF_STR) || wf_is(g, key, WF_PYSTR) ? wf_bytes(g, key, &len) : NULL;
	if (s)
		return wf_name_from_text(s, len, has_twin, buf);
	bool is_text = wf_key_text(g, key, &text) == WF_KEY_TEXT;
	/* any other text stands as it is, but for bytes that no file name can have */
	s = text.data ? text.data : "";
	len = is_text ? wf_name_from_text(s, text.len, has_twin, buf)
		      : escape_and_cut(s, text.len, reserved(s, text.len), buf);
	wf_buffer_free(&text);
	return len;
}

size_t wf_name_number(char *name, size_t len, uint32_t number)
{
	char suffix[16];
	size_t more = (size_t)snprintf(suffix, sizeof suffix, "~%u", number);
	if (len + more > WF_NAME_MAX) {
		len = WF_NAME_MAX - more;
		while (len > 0 && ((unsigned char)name[len] & 0xc0) == 0x80)
			len--;
	}
	memcpy(name + len, suffix, more + 1);
	return len + more;
}

bool wf_name_may_have_twin(const struct wf_graph *g, wf_ref key)
{
	size_t len;
	const char *s = wf_is(g, key, WF_STR) || wf_is(g, key, WF_PYSTR) ? wf_bytes(g, key, &len) : NULL;
	if (!s || len == 0)
		return false;
	if (!strcmp(s, "true") || !strcmp(s, "false") || !strcmp(s, "null") || !strcmp(s, "NaN"))
		return true;
	return strchr("-0123456789I[\"", s[0]) != NULL;
}

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
				      : -1;
}

int wf_key_from_name(struct wf_graph *g, const char *name, bool int_keys, wf_ref *ret)
{
	char key[WF_NAME_MAX + 1];
	size_t len = strlen(name), n = 0;
	if (len > WF_NAME_MAX)
		return -ENAMETOOLONG;
	if (!strcmp(name, ".weightfs"))
		return -EPERM;
	if (int_keys && len > 0 && len < 19 && strspn(name, "0123456789") == len && (name[0] != '0' || len == 1)) {
		int64_t v = 0;
		for (size_t i = 0; i < len; i++)
			v = v * 10 + (name[i] - '0');
		wf_ref r = wf_int(g, v);
		if (r == WF_NIL)
			return -ENOMEM;
		*ret = r;
		return 0;
	}
	if (!strcmp(name, "%"))
		len = 0;
	for (size_t i = 0; i < len; i++) {
		key[n] = name[i];
		if (name[i] == '%') {
			int high = hex(name[i + 1]); /* the terminating NUL is no digit, so this stays inside */
			int low = high >= 0 ? hex(name[i + 2]) : -1;
			if (low < 0)
				return -EINVAL;
			key[n] = (char)(high << 4 | low);
			i += 2;
		}
		n++;
	}
	if (!wf_utf8_valid(key, n, true)) /* lone surrogates as three bytes, as Python has them */
		return -EINVAL;
	wf_ref r = wf_string(g, WF_STR, key, n);
	if (r == WF_NIL)
		return -ENOMEM;
	*ret = r;
	return 0;
}

/* The names that file managers and editors leave behind, by how they begin and end; in an end, '?' is any one byte. */
static const struct {
	const char *start, *end; /* end NULL: the name is start and nothing else */
} leftovers[] = {
	{".Trash-", ""},        /* deleted files */
	{".DS_Store", NULL},    /* macOS: how a folder looks */
	{"._", ""},             /* macOS: extended attributes where a file system has none */
	{"", "~"},              /* backups of nearly every editor */
	{".", ".sw?"},          /* vim: swap files, .swp first, then .swo, .swn, ... */
	{".", ".kate-swp"},     /* kate: swap files */
	{".#", ""},             /* Emacs: locks, links to nowhere */
	{"#", "#"},             /* Emacs: auto-save files */
	{".nfs", ""},           /* NFS: removed while open */
	{".fuse_hidden", ""},   /* FUSE: the same */
	{".goutputstream-", ""} /* GLib: a file before it is renamed over another */
};

static bool ends_with(const char *name, size_t name_len, const char *end)
{
	size_t len = strlen(end);
	for (size_t i = 0; i < len; i++)
		if (end[i] != '?' && name[name_len - len + i] != end[i])
			return false;
	return true;
}

bool wf_name_is_scratch(const char *name)
{
	size_t len = strlen(name);
	for (size_t i = 0; i < WF_ARRAY_SIZE(leftovers); i++) {
		const char *start = leftovers[i].start, *end = leftovers[i].end;
		size_t start_len = strlen(start);
		if (!end && !strcmp(name, start))
			return true;
		if (end && len >= start_len + strlen(end) && !strncmp(name, start, start_len) &&
		    ends_with(name, len, end))
			return true;
	}
	return false;
}

static bool ends_in_random(const char *s, size_t start)
{
	size_t len = strlen(s);
	if (len != start + 6)
		return false;
	for (size_t i = start; i < len; i++)
		if (!isalnum((unsigned char)s[i]))
			return false;
	return true;
}

bool wf_name_is_passing(const char *name)
{
	size_t len = strlen(name);
	return wf_name_is_temporary(name) ||
	       (name[0] == '.' && len > 8 && name[len - 7] == '.' && ends_in_random(name, len - 6));
}

bool wf_name_is_temporary(const char *name)
{
	if (!strncmp(name, "sed", 3))
		return ends_in_random(name, 3);
	size_t digits = name[0] == '.' ? strspn(name + 1, "0123456789") : 0;
	return digits > 0 && name[1 + digits] == '.' && ends_in_random(name, digits + 2);
}
