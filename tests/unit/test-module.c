/* SPDX-License-Identifier: MIT */
/* The state_dict of modules saved whole: order, what is left out, and an end where there is none. */
#include "tensor-kit.h"

#include "codec/tree/module.h"

struct seen {
	char text[512];
};

static int note(void *ctx, const char *key, size_t len, wf_ref value)
{
	struct seen *s = ctx;
	size_t used = strlen(s->text);
	snprintf(s->text + used, sizeof s->text - used, "%s%.*s", used ? " " : "", (int)len, key);
	return 0;
}

static void expect_keys(struct kit *k, wf_ref module, int status, const char *keys)
{
	struct wf_state_dicts dicts;
	struct seen s = {""};
	wf_state_dicts_init(&dicts, k->g, k->c);
	assert_true(wf_is_module(k->g, k->c, module));
	assert_int_equal(wf_module_state_dict(&dicts, module, note, &s), status);
	if (status == 0)
		assert_string_equal(s.text, keys);
	wf_state_dicts_free(&dicts);
}

static wf_ref weight(struct kit *k)
{
	return kit_v2(k, kit_persid(k, "FloatStorage", "0", 4), 0, INTS(k, 4), INTS(k, 1));
}

static void put(struct kit *k, wf_ref dict, const char *key, wf_ref value)
{
	assert_int_equal(wf_dict_append(k->g, dict, wf_str(k->g, key), value), 0);
}

/* nn.Module with those parts. */
static wf_ref module_of(struct kit *k, wf_ref parameters, wf_ref buffers, wf_ref modules, wf_ref hidden)
{
	wf_ref state = wf_dict(k->g), class = wf_global_named(k->g, "net", "Net");
	wf_ref m = wf_call(k->g, WF_CALL_NEWOBJ, class, wf_tuple(k->g, NULL, 0), WF_NIL);
	put(k, state, "training", wf_bool(k->g, true));
	put(k, state, "_parameters", parameters);
	put(k, state, "_buffers", buffers);
	if (hidden != WF_NIL)
		put(k, state, "_non_persistent_buffers_set", hidden);
	put(k, state, "_modules", modules);
	assert_int_equal(wf_call_set_state(k->g, m, state), 0);
	return m;
}

static wf_ref linear(struct kit *k)
{
	wf_ref parameters = wf_dict(k->g);
	put(k, parameters, "weight", weight(k));
	put(k, parameters, "bias", wf_none(k->g)); /* Linear(bias=False) */
	return module_of(k, parameters, wf_dict(k->g), wf_dict(k->g), WF_NIL);
}

static void test_module(void **state)
{
	struct kit k;
	kit_init(&k);
	kit_record(&k, "0", "0123456789abcdef", 16, false);
	wf_ref parameters = wf_dict(k.g), buffers = wf_dict(k.g), modules = wf_dict(k.g), hidden = wf_set(k.g);
	put(&k, parameters, "scale", weight(&k));
	put(&k, buffers, "mean", weight(&k));
	put(&k, buffers, "mask", weight(&k));
	wf_list_append(k.g, hidden, wf_str(k.g, "mask"));
	wf_ref shared = linear(&k);
	put(&k, modules, "first", shared);
	put(&k, modules, "none", wf_none(k.g));
	put(&k, modules, "again", shared);
	wf_ref net = module_of(&k, parameters, buffers, modules, hidden);
	kit_open(&k);
	expect_keys(&k, net, 0, "scale mean first.weight again.weight");
	assert_false(wf_is_module(k.g, k.c, parameters));
	assert_false(wf_is_module(k.g, k.c, weight(&k)));
	kit_close(&k);
}

static void test_cycle(void **state)
{
	struct kit k;
	kit_init(&k);
	wf_ref modules = wf_dict(k.g), net = module_of(&k, wf_dict(k.g), wf_dict(k.g), modules, WF_NIL);
	put(&k, modules, "self", net);
	kit_open(&k);
	expect_keys(&k, net, -E2BIG, NULL);
	kit_close(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_module), cmocka_unit_test(test_cycle)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
