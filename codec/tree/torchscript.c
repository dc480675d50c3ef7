/* SPDX-License-Identifier: MIT */
/* Reads the generated code of TorchScript's classes for the names of parameters and buffers. */
#include "codec/tree/torchscript.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/tree/module_inner.h"
#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"

#define CODE_MAX (16u << 20) /* bytes of one source record; larger ones tell nothing */

/* One class of the code: its lists, as the text between the brackets. */
struct script_class {
	char *qualified; /* "__torch__.net.Net" */
	char *parameters, *buffers;
	size_t order; /* in the code */
};

struct wf_torchscript {
	struct wf_graph *g;
	struct script_class *classes;
	size_t count;
};

bool wf_torchscript_is_class(const struct wf_graph *g, wf_ref r)
{
	return wf_is(g, r, WF_CALL) && !strncmp(wf_global_module(g, wf_call_func(g, r)), "__torch__", 9);
}

bool wf_torchscript_is_object(const struct wf_graph *g, wf_ref r)
{
	return wf_torchscript_is_class(g, r) && wf_is(g, wf_call_state(g, r), WF_DICT);
}

/* The text of `name = [...]` in a class body, the brackets left out; NULL when the class has none. */
static char *list_text(const char *body, const char *end, const char *name)
{
	size_t len = strlen(name);
	for (const char *at = body; (at = memmem(at, (size_t)(end - at), name, len)); at += len) {
		const char *open = at + len;
		if (open + 4 > end || memcmp(open, " = [", 4) != 0)
			continue;
		const char *close = memchr(open + 4, ']', (size_t)(end - open - 4));
		return close ? strndup(open + 4, (size_t)(close - open - 4)) : NULL;
	}
	return NULL;
}

/* "code/__torch__/a/b.py" -> "__torch__.a.b" */
static void module_of(const char *record, char *buf, size_t size)
{
	snprintf(buf, size, "%.*s", (int)(strlen(record) - 8), record + 5);
	for (char *p = buf; *p; p++)
		if (*p == '/')
			*p = '.';
}

static int add_class(struct wf_torchscript *s, const char *module, const char *name, size_t name_len, const char *body,
		     const char *end)
{
	struct script_class *all = reallocarray(s->classes, s->count + 1, sizeof *all);
	if (!all)
		return -ENOMEM;
	s->classes = all;
	struct script_class *c = &all[s->count];
	*c = (struct script_class){.parameters = list_text(body, end, "__parameters__"),
				   .buffers = list_text(body, end, "__buffers__")};
	if (asprintf(&c->qualified, "%s.%.*s", module, (int)name_len, name) < 0)
		return -ENOMEM;
	s->count++;
	return 0;
}

static int read_code(struct wf_torchscript *s, const char *record, const char *text, size_t len)
{
	char module[512];
	const char *end = text + len;
	module_of(record, module, sizeof module);
	for (const char *at = text; at < end;) {
		const char *line_end = memchr(at, '\n', (size_t)(end - at));
		if ((size_t)(end - at) > 6 && !memcmp(at, "class ", 6)) {
			const char *name = at + 6;
			size_t name_len = strcspn(name, "(:\n");
			const char *next = memmem(name, (size_t)(end - name), "\nclass ", 7);
			int r = add_class(s, module, name, name_len, name, next ? next : end);
			if (r < 0)
				return r;
		}
		if (!line_end)
			break;
		at = line_end + 1;
	}
	return 0;
}

static int compare_classes(const void *a, const void *b)
{
	const struct script_class *x = a, *y = b;
	int order = strcmp(x->qualified, y->qualified);
	return order ? order : x->order < y->order ? -1 : x->order > y->order;
}

int wf_torchscript_new(struct wf_graph *g, const struct wf_container *c, struct wf_torchscript **ret,
		       struct wf_error *err)
{
	struct wf_torchscript *s = calloc(1, sizeof *s);
	int r = s ? 0 : -ENOMEM;
	if (s)
		s->g = g;
	for (uint32_t i = 0; r == 0 && i < wf_container_count(c); i++) {
		const struct wf_record *record = wf_container_record(c, i);
		size_t len = strlen(record->name);
		struct wf_source *source;
		if (strncmp(record->name, "code/", 5) != 0 || len < 9 || strcmp(record->name + len - 3, ".py") != 0 ||
		    record->bad || record->size_bytes > CODE_MAX)
			continue;
		r = wf_container_open_record(c, i, &source, err);
		if (r < 0)
			break;
		cleanup_free char *text = malloc(record->size_bytes + 1);
		r = text ? wf_source_read(source, 0, text, record->size_bytes) : -ENOMEM;
		wf_source_unref(source);
		if (r == 0) {
			text[record->size_bytes] = '\0';
			r = read_code(s, record->name, text, record->size_bytes);
		} else {
			wf_fail_at(err, r, record->name, WF_ERROR_NO_OFFSET,
				   "the code of a TorchScript class cannot be read");
		}
	}
	if (r < 0) {
		wf_torchscript_free(s);
		return r;
	}
	/* of two with one name the first counts */
	for (size_t i = 0; i < s->count; i++)
		s->classes[i].order = i;
	if (s->count)
		qsort(s->classes, s->count, sizeof *s->classes, compare_classes);
	*ret = s;
	return 0;
}

void wf_torchscript_free(struct wf_torchscript *s)
{
	for (size_t i = 0; s && i < s->count; i++) {
		free(s->classes[i].qualified);
		free(s->classes[i].parameters);
		free(s->classes[i].buffers);
	}
	if (s)
		free(s->classes);
	free(s);
}

static const struct script_class *class_of(const struct wf_torchscript *s, wf_ref object)
{
	wf_ref func = wf_call_func(s->g, object);
	cleanup_free char *qualified = NULL;
	if (asprintf(&qualified, "%s.%s", wf_global_module(s->g, func), wf_global_name(s->g, func)) < 0) {
		qualified = NULL;
		return NULL;
	}
	size_t at = wf_first_not(i, s->count, strcmp(s->classes[i].qualified, qualified) < 0);
	return at < s->count && !strcmp(s->classes[at].qualified, qualified) ? &s->classes[at] : NULL;
}

/* Gives what the names of one list stand for, as they stand there: "weight", "bias", */
static int emit_list(struct wf_state_walk *w, const char *list, wf_ref state)
{
	uint32_t n;
	char name[256];
	const char *parts[5];
	wf_ref objects[5];
	int r;
	wf_items(w->g, state, &n);
	r = wf_state_spend(w->shared, 1 + (list ? strlen(list) / 64 : 0));
	for (const char *open = list ? strchr(list, '"') : NULL; open && r == 0; open = strchr(open, '"')) {
		const char *close = strchr(open + 1, '"');
		if (!close || (size_t)(close - open) > sizeof name)
			break;
		snprintf(name, sizeof name, "%.*s", (int)(close - open - 1), open + 1);
		r = wf_state_spend(w->shared, 1ull + n);
		wf_ref value = r == 0 ? wf_dict_get(w->g, state, name) : WF_NIL;
		if (value != WF_NIL && (wf_is_tensor(w->g, value) || wf_tensor_components(w->g, value, parts, objects)))
			r = wf_state_emit(w, name, strlen(name), value);
		open = close + 1;
	}
	return r;
}

int wf_torchscript_tensors(struct wf_state_walk *w, wf_ref object)
{
	const struct script_class *c = class_of(w->shared->script, object);
	wf_ref state = wf_call_state(w->g, object);
	int r = c ? emit_list(w, c->parameters, state) : 0;
	return r == 0 && c ? emit_list(w, c->buffers, state) : r;
}
