/* SPDX-License-Identifier: MIT */
/* wfctl set: a typed value, or the bytes of a tensor. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/wfctl/array_file.h"
#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/json.h"
#include "fs/wfctl/keys.h"
#include "fs/wfctl/run.h"
#include "fs/wfctl/session.h"

/* What is written, and the class that is set with it. */
struct value {
	struct wf_buffer text;
	const char *klass; /* NULL: as the text is judged */
};

/* ---- types ---- */

/* The names of --type, and what they are called in an attribute. A line: the text of such a value ends in a newline. */
static const struct type {
	const char *name, *klass;
	bool line;
} types[] = {
	{"int", "int", true},         {"float", "float", true},
	{"bool", "bool", true},       {"null", "NoneType", true},
	{"None", "NoneType", true},   {"str", "str", false},
	{"bytes", "bytes", false},    {"bytearray", "bytearray", false},
	{"list", "list", true},       {"tuple", "tuple", true},
	{"set", "set", true},         {"frozenset", "frozenset", true},
	{"complex", "complex", true},
};

static const struct type *find_type(const char *name)
{
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (!strcmp(types[i].name, name) || !strcmp(types[i].klass, name))
			return &types[i];
	return NULL;
}

/* RFC 8259, and the three words that Python's json knows beside it. */
static bool is_json_number(const char *s)
{
	static const char digits[] = "0123456789";
	if (!strcmp(s, "NaN") || !strcmp(s, "Infinity") || !strcmp(s, "-Infinity"))
		return true;
	s += *s == '-';
	size_t whole = strspn(s, digits);
	if (whole == 0 || (whole > 1 && *s == '0'))
		return false;
	s += whole;
	if (*s == '.') {
		size_t part = strspn(s + 1, digits);
		if (part == 0)
			return false;
		s += 1 + part;
	}
	if (*s == 'e' || *s == 'E') {
		s++;
		s += *s == '+' || *s == '-';
		size_t power = strspn(s, digits);
		if (power == 0)
			return false;
		s += power;
	}
	return !*s;
}

/* What Python writes for null, true and false is no JSON. */
static bool is_foreign_word(const struct wf_json *j, enum wf_json_kind kind)
{
	static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
	bool known = kind != WF_JSON_WORD;
	for (size_t i = 0; !known && i < sizeof words / sizeof *words; i++)
		known = strlen(words[i]) == j->text_len && !memcmp(j->text, words[i], j->text_len);
	return !known;
}

/* A list of values, and lists. */
static bool is_json_list(const char *text)
{
	struct wf_json j;
	enum wf_json_kind kind;
	if (*text != '[' || strchr(text, '\n'))
		return false;
	wf_json_init_memory(&j, text, strlen(text), WF_JSON_SURROGATES | WF_JSON_WORDS);
	while ((kind = wf_json_next(&j)) > WF_JSON_END && kind != WF_JSON_OBJECT && !is_foreign_word(&j, kind))
		;
	wf_json_free(&j);
	return kind == WF_JSON_END;
}

/* What a new key becomes: as JSON reads it, with space around it and as the line that a mount reads, else a str. */
static void read_new(const char *whole, struct value *v)
{
	static const char space[] = " \t\r\n";
	char *text = strdup(whole + strspn(whole, space));
	size_t len = text ? strlen(text) : 0;
	if (!text) {
		v->text.failed = true;
		return;
	}
	while (len > 0 && strchr(space, text[len - 1]))
		text[--len] = '\0';
	const char *klass = !strcmp(text, "true") || !strcmp(text, "false") ? "bool"
			    : !strcmp(text, "null")                         ? "NoneType"
			    : is_json_list(text)                            ? "list"
			    : !is_json_number(text)                         ? NULL
			    : strpbrk(text, ".eENI")                        ? "float"
									    : "int";
	if (*text == '"' && wfctl_json_string(text, len, &v->text) == 0)
		v->klass = "str";
	else if (klass)
		v->klass = klass, wf_buffer_printf(&v->text, "%s\n", text);
	else
		v->klass = "str", v->text.len = 0, wf_buffer_puts(&v->text, whole);
	free(text);
}

/* What is there keeps its type where the text can be that. */
static int read_for(struct wfctl_store *s, const char *key, const char *text, struct value *v)
{
	struct wf_buffer attribute = WF_BUFFER_INIT;
	int r = s->calls->get(s, key, "user.torch.shape", &attribute);
	if (r == 0 && strcmp(attribute.data, "[]") != 0)
		r = wfctl_fail(s->path, "%s: a tensor of shape %s: --file gives it bytes", key, attribute.data);
	else
		r = 0;
	attribute.len = 0;
	if (r == 0 && s->calls->get(s, key, "user.torch.class", &attribute) < 0)
		wf_buffer_puts(&attribute, "?");
	const struct type *type = attribute.data ? find_type(attribute.data) : NULL;
	if (type && !type->line && !*text)
		v->klass =
			type->klass; /* who only empties a file of a mount changes nothing; who says what it is does */
	if (r == 0 && type && !strcmp(type->klass, "NoneType"))
		read_new(text, v); /* it takes anything, and is that from then on */
	else if (r == 0)
		wf_buffer_printf(&v->text, type && !type->line ? "%s" : "%s\n", text);
	wf_buffer_free(&attribute);
	return r;
}

static int read_value(struct wfctl_store *s, const char *key, bool there, const char *text, const char *type_name,
		      struct value *v)
{
	const struct type *type = type_name ? find_type(type_name) : NULL;
	wf_buffer_puts(&v->text, "");
	if (type) {
		v->klass = type->klass;
		wf_buffer_printf(&v->text, type->line ? "%s\n" : "%s", text);
		return WFCTL_OK;
	}
	if (!strncmp(key, WF_METADATA_NAME "/", strlen(WF_METADATA_NAME "/"))) {
		wf_buffer_puts(&v->text, text); /* nothing but texts */
		return WFCTL_OK;
	}
	if (there)
		return read_for(s, key, text, v);
	read_new(text, v);
	return WFCTL_OK;
}

/* ---- writing ---- */

static int put(struct wfctl_store *s, const char *key, bool there, const struct value *v)
{
	struct wfctl_file *f;
	int r = s->calls->open(s, key, WFCTL_WRITE | (there ? WFCTL_EMPTY : WFCTL_NEW), &f);
	if (r < 0)
		return r;
	if (v->klass)
		r = s->calls->set(s, key, "user.torch.class", v->klass);
	if (r == 0 && v->text.len > 0)
		r = s->calls->write(f, 0, v->text.data, v->text.len);
	int closed = s->calls->close(f);
	return r < 0 ? r : closed;
}

static int set_one(struct wfctl_store *s, const char *key, bool there, const struct wfctl_call *call)
{
	const char *file = wfctl_given(call, "file"), *text = call->arguments[2];
	struct wfctl_entry e;
	struct value v = {.text = WF_BUFFER_INIT};
	if (there && s->calls->stat(s, key, true, &e) == 0 && e.type == WF_DIRECTORY)
		return wfctl_fail(s->path, "%s: a mapping has no value of its own", key);
	if (file)
		return wfctl_put_file(s, key, there, file);
	int r = read_value(s, key, there, text, wfctl_given(call, "type"), &v);
	if (r == WFCTL_OK) {
		int failed = wf_buffer_status(&v.text);
		if (failed == 0)
			failed = put(s, key, there, &v);
		r = failed == 0 ? WFCTL_OK : wfctl_store_fail(s, key, failed, "not set");
	}
	wf_buffer_free(&v.text);
	return r;
}

int wfctl_set(const struct wfctl_call *call)
{
	const char *file = wfctl_given(call, "file"), *type = wfctl_given(call, "type");
	struct wfctl_keys keys = {0};
	if ((call->count == 3) == (file != NULL) || (file && type))
		return WFCTL_USAGE;
	if (type && !find_type(type))
		return wfctl_fail(
			NULL,
			"--type=%s: it is int, float, bool, null, str, bytes, bytearray, list, tuple, set, frozenset or complex",
			type);
	struct wfctl_store *s = wfctl_session_edit(call->session, call->arguments[0]);
	if (!s)
		return WFCTL_FAILED;
	int found = wfctl_keys_find(s, call->arguments[1], &keys), r = WFCTL_OK;
	if (found == -EINVAL)
		r = WFCTL_FAILED;
	else if (found < 0)
		r = wfctl_store_fail(s, call->arguments[1], found, NULL);
	for (size_t i = 0; r == WFCTL_OK && i < keys.count; i++)
		r = set_one(s, keys.key[i], true, call);
	if (r == WFCTL_OK && found == 0) {
		char *key = wfctl_key_new(s, call->arguments[1]);
		r = key ? set_one(s, key, false, call) : WFCTL_FAILED;
		free(key);
	}
	wfctl_keys_free(&keys);
	return r;
}
