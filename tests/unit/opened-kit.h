/* SPDX-License-Identifier: MIT */
/* What the tests of readers begin with: bytes in memory, opened as a container and read as a graph. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/bytes/err.h"
#include "codec/bytes/source.h"
#include "codec/container/container.h"

static struct wf_error err; /* of the last opening */

struct opened {
	struct wf_container *c;
	struct wf_graph *g;
	wf_ref root;
};

/* close_opened in every case. Returns what the opening or the reading returned. */
static int open_bytes(const char *data, size_t len, struct opened *o)
{
	struct wf_source *s = NULL;
	char *copy = malloc(len + 1);
	memcpy(copy, data, len);
	*o = (struct opened){0};
	err = (struct wf_error){0};
	assert_int_equal(wf_source_from_memory(copy, len, true, &s), 0);
	int r = wf_container_open(s, &o->c, &err);
	wf_source_unref(s);
	if (r == 0) {
		assert_int_equal(wf_graph_new(&o->g), 0);
		r = wf_container_load_graph(o->c, o->g, &o->root, &err);
	}
	if (r < 0)
		assert_true(err.text[0] != '\0');
	return r;
}

static void close_opened(struct opened *o)
{
	wf_graph_free(o->g);
	wf_container_free(o->c);
}

static void assert_says(const char *what)
{
	char line[1024];
	wf_error_format(&err, line, sizeof line);
	if (!strstr(line, what))
		fail_msg("\"%s\" is not in \"%s\"", what, line);
}
