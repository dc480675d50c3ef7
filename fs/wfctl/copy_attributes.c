/* SPDX-License-Identifier: MIT */
/* Carries over what is said of an entry besides its bytes. Formats do not say the same: what a copy has to go without is told at the end of the
 * copying, in one line. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/wfctl/copy.h"
#include "fs/wfctl/dtypes.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/keys.h"

/* A tensor is the same tensor without them, as wfctl export and the libraries' own writers have it. */
static const char *const parts[WFCTL_COPY_PARTS] = {"requires_grad", "location", "class"};
enum { CLASS = 2 };

/* ---- telling ---- */

/* What an attribute of the source says and the copy is not told: where its bytes are. */
static bool is_told(const char *name)
{
	static const char *const told[] = {"class",   "dtype", "shape",      "location", "requires_grad",
					   "qscheme", "scale", "zero_point", "key",      "assembly"};
	if (strncmp(name, "user.torch.", 11) != 0)
		return false;
	for (size_t i = 0; i < sizeof told / sizeof *told; i++)
		if (!strcmp(name + 11, told[i]))
			return true;
	return false;
}

static int collect(void *ctx, const char *name)
{
	return is_told(name) || !strcmp(name, "user.numpy.descr") ? wfctl_keys_add(ctx, name) : 0;
}

/* wfctl_copy_compare finds that the copy does not say it. */
static bool goes_without(const char *name)
{
	return !strcmp(name, "user.torch.requires_grad") || !strcmp(name, "user.torch.location");
}

void wfctl_copy_note(struct wfctl_store *s, int code, const char *fmt, ...)
{
	va_list list;
	va_start(list, fmt);
	vsnprintf(s->reason, sizeof s->reason, fmt, list);
	va_end(list);
	s->reason_code = code;
}

/* A refusal without a reason gets one that names the attribute. */
static void say_which(struct wfctl_store *s, int code, const char *name, const char *value)
{
	if (s->reason[0] && s->reason_code == code)
		return;
	struct wf_buffer shown = WF_BUFFER_INIT;
	wf_buffer_printable(&shown, value, strlen(value));
	wfctl_copy_note(s, code, "%s is %.250s, which a copy cannot have", name, shown.data ? shown.data : "");
	wf_buffer_free(&shown);
}

int wfctl_copy_attributes(struct wfctl_copying *c, const char *from, const char *to)
{
	struct wfctl_keys names = {0};
	struct wf_buffer value = WF_BUFFER_INIT;
	int r = c->from->calls->names(c->from, from, collect, &names);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		value.len = 0;
		wf_buffer_puts(&value, "");
		r = wfctl_store_get(c->from, from, names.key[i], &value);
		/* of texts, dates and records NumPy's description says what torch has no name for */
		if (r == 0 && !strcmp(names.key[i], "user.torch.dtype") && !wfctl_dtype_of_name(value.data))
			continue;
		if (r == 0 && !strcmp(names.key[i], "user.numpy.descr") && wfctl_dtype_of_descr(value.data))
			continue;
		if (r < 0)
			break;
		r = c->to->calls->set(c->to, to, names.key[i], value.data);
		if (r == -EINVAL && goes_without(names.key[i]))
			r = 0;
		if (r == -EINVAL)
			say_which(c->to, r, names.key[i], value.data);
	}
	wf_buffer_free(&value);
	wfctl_keys_free(&names);
	return r;
}

/* ---- comparing ---- */

static bool get(struct wfctl_store *s, const char *path, const char *part, struct wf_buffer *ret)
{
	char name[64];
	snprintf(name, sizeof name, "user.torch.%s", part);
	ret->len = 0;
	return s->calls->get(s, path, name, ret) == 0 && ret->data;
}

/* Tensor and array are what the formats call the same thing. */
static bool is_plain(const char *class)
{
	return !strcmp(class, "torch.Tensor") || !strcmp(class, "numpy.ndarray");
}

static void note_less(struct wfctl_copying *c, const char *to)
{
	c->less++;
	if (!c->first_less)
		c->first_less = strdup(to);
}

int wfctl_copy_compare(struct wfctl_copying *c, const char *from, const char *to)
{
	struct wf_buffer old = WF_BUFFER_INIT, new = WF_BUFFER_INIT;
	bool tensor = get(c->from, from, "shape", &old) && get(c->to, to, "shape", &new), less = false;
	int r = 0;
	for (size_t i = tensor ? 0 : CLASS; r == 0 && i < WFCTL_COPY_PARTS; i++) {
		if (!get(c->from, from, parts[i], &old) || !get(c->to, to, parts[i], &new) ||
		    !strcmp(old.data, new.data) || (tensor && i == CLASS && is_plain(old.data)))
			continue;
		c->without[i] |= tensor;
		less |= tensor;
		if (!tensor) {
			r = -EINVAL;
			wfctl_copy_note(c->to, r, "it is a %.150s, and its copy would be a %.150s", old.data, new.data);
		}
	}
	if (less)
		note_less(c, to);
	wf_buffer_free(&old);
	wf_buffer_free(&new);
	return r;
}

void wfctl_copy_tell_less(struct wfctl_copying *c)
{
	struct wf_buffer line = WF_BUFFER_INIT;
	const char *first = c->first_less ? c->first_less : "?", *comma = "";
	if (c->less > 0 && !c->said) {
		wf_buffer_puts(&line, "copied without ");
		for (size_t i = 0; i < WFCTL_COPY_PARTS; i++) {
			if (!c->without[i])
				continue;
			wf_buffer_printf(&line, "%s%s", comma, parts[i]);
			comma = ", ";
		}
		wf_buffer_puts(&line, ", which the copy cannot say: ");
		wf_buffer_printable(&line, first, strlen(first));
		if (c->less > 1)
			wf_buffer_printf(&line, " and %u other%s", c->less - 1, c->less > 2 ? "s" : "");
		if (wf_buffer_status(&line) == 0)
			wfctl_note(NULL, line.data);
	}
	wf_buffer_free(&line);
	free(c->first_less);
	c->first_less = NULL;
}
