/* SPDX-License-Identifier: MIT */
/* Plain pickles: what is taken for one by its bytes, in each protocol, and what is not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/container/container.h"

#define LIT(s) (s), sizeof(s) - 1

static int open_bytes(const void *data, size_t len, struct wf_container **ret, struct wf_error *err)
{
	struct wf_source *s = NULL;
	void *copy = malloc(len + 1);
	memcpy(copy, data, len);
	assert_int_equal(wf_source_from_memory(copy, len, true, &s), 0);
	*ret = NULL;
	*err = (struct wf_error){0};
	int r = wf_container_open(s, ret, err);
	wf_source_unref(s);
	return r;
}

static int load(struct wf_container *c, struct wf_error *err)
{
	struct wf_graph *g = NULL;
	wf_ref root = WF_NIL;
	assert_int_equal(wf_graph_new(&g), 0);
	int r = wf_container_load_graph(c, g, &root, err);
	wf_graph_free(g);
	return r;
}

static void test_taken(void **state)
{
	static const struct {
		const char *data;
		size_t len, object_len;
	} cases[] = {
		{LIT("\x80\2}q\0."), 6},
		{LIT("\x80\3}q\0."), 6},
		{LIT("\x80\4}\x94."), 5},
		{LIT("\x80\5}\x94."), 5},
		{LIT("(dp0\n."), 6}, /* protocol 0 */
		{LIT("}q\0."), 4},   /* protocol 1 */
		{LIT("(lp0\n."), 6},
		{LIT("\x80\2K\1."), 5}, /* with a mark, any object */
		{LIT("\x80\2}q\0.and what pickle.load leaves alone"), 6},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wf_container *c;
		struct wf_error err;
		if (open_bytes(cases[i].data, cases[i].len, &c, &err) < 0)
			fail_msg("case %zu: %s", i, err.text);
		assert_int_equal(wf_container_kind_of(c), WF_CONTAINER_PICKLE);
		assert_int_equal(wf_container_count(c), 0);
		assert_int_equal(load(c, &err), 0);
		const struct wf_record *object = wf_container_record(c, wf_container_find(c, "object"));
		assert_non_null(object);
		assert_int_equal(object->header_offset, 0);
		assert_int_equal(object->size_bytes, cases[i].object_len);
		assert_int_equal(load(c, &err), -EINVAL); /* once */
		wf_container_free(c);
	}
}

static void test_not_taken(void **state)
{
	static const struct {
		const char *data;
		size_t len;
	} cases[] = {
		{LIT("")},         {LIT(".")},           {LIT("K\1.")}, /* without a mark, up to a container alone */
		{LIT("(dp0\n")},                                        /* no end */
		{LIT("\x80\6}.")},                                      /* a protocol that nobody has */
		{LIT("\x80\1}.")}, {LIT("some text\n")}, {LIT("{\"a\": 1}\n")},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wf_container *c;
		struct wf_error err;
		int r = open_bytes(cases[i].data, cases[i].len, &c, &err);
		if (r >= 0)
			fail_msg("case %zu was taken for a checkpoint", i);
		assert_true(err.text[0] != '\0');
	}
}

/* With a mark it is one, and what is wrong with it is told when the object is read. */
static void test_refused(void **state)
{
	static const struct {
		const char *data;
		size_t len;
		int code;
		const char *says;
	} cases[] = {
		{LIT("\x80\2}q\0"), -EUCLEAN, "ends"},
		{LIT("\x80\2(X\7\0\0\0storageNNNNtQ."), -EMEDIUMTYPE, "data.pkl"},
		{LIT("\x80\2K\1Q."), -EOPNOTSUPP, "persistent ids"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wf_container *c;
		struct wf_error err;
		assert_int_equal(open_bytes(cases[i].data, cases[i].len, &c, &err), 0);
		int r = load(c, &err);
		if (r != cases[i].code || !strstr(err.text, cases[i].says))
			fail_msg("case %zu: %d, %s", i, r, err.text);
		wf_container_free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_taken), cmocka_unit_test(test_not_taken),
					   cmocka_unit_test(test_refused)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
