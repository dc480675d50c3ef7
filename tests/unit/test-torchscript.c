/* SPDX-License-Identifier: MIT */
/* TorchScript objects: their generated code, read as text, says which attributes are parameters and buffers. */
#include "tensor-kit.h"

#include "codec/tree/module.h"
#include "codec/tree/torchscript.h"

struct seen {
	char text[256];
};

static int note(void *ctx, const char *key, size_t len, wf_ref value)
{
	struct seen *s = ctx;
	size_t used = strlen(s->text);
	snprintf(s->text + used, sizeof s->text - used, "%s%.*s", used ? " " : "", (int)len, key);
	return 0;
}

static wf_ref object_of(struct kit *k, const char *class, wf_ref state)
{
	wf_ref r = wf_call(k->g, WF_CALL_NEWOBJ, wf_global_named(k->g, "__torch__.net", class), wf_tuple(k->g, NULL, 0),
			   WF_NIL);
	assert_int_equal(wf_call_set_state(k->g, r, state), 0);
	return r;
}

static void put(struct kit *k, wf_ref dict, const char *key, wf_ref value)
{
	assert_int_equal(wf_dict_append(k->g, dict, wf_str(k->g, key), value), 0);
}

static wf_ref weight(struct kit *k)
{
	return kit_v2(k, kit_persid(k, "FloatStorage", "0", 4), 0, INTS(k, 4), INTS(k, 1));
}

static void test_codes(void **state)
{
	static const struct {
		const char *code, *keys;
	} cases[] = {
		{"class Net(Module):\n  __parameters__ = [\"weight\", \"bias\", ]\n  __buffers__ = [\"mean\", ]\n  weight : Tensor\n",
		 "weight bias mean"},
		{"class Net(Module):\n  __parameters__ = []\n  __buffers__ = [\"mean\", ]\n", "mean"},
		{"class Other(Module):\n  __parameters__ = [\"scale\", ]\n  __buffers__ = []\nclass Net(Module):\n  __parameters__ = [\"bias\", ]\n  "
		 "__buffers__ = []\n",
		 "bias"},
		{"class Net(Module):\n  __parameters__ = [\"absent\", \"weight\", ]\n  __buffers__ = []\n", "weight"},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		struct kit k;
		struct wf_state_dicts dicts;
		struct seen s = {""};
		kit_init(&k);
		kit_record(&k, "0", "0123456789abcdef", 16, false);
		zb_add_text(&k.zb, "a/constants.pkl", "\x80\x02).");
		zb_add_text(&k.zb, "a/code/__torch__/net.py", cases[i].code);
		wf_ref own = wf_dict(k.g);
		put(&k, own, "mean", weight(&k));
		put(&k, own, "weight", weight(&k));
		put(&k, own, "bias", weight(&k));
		put(&k, own, "scale", weight(&k));
		put(&k, own, "training", wf_bool(k.g, false));
		wf_ref net = object_of(&k, "Net", own);
		kit_open(&k);
		assert_true(wf_torchscript_is_object(k.g, net) && wf_torchscript_is_class(k.g, net));
		assert_false(wf_torchscript_is_object(k.g, own));
		assert_true(wf_is_module(k.g, k.c, net));
		wf_state_dicts_init(&dicts, k.g, k.c);
		assert_int_equal(wf_module_state_dict(&dicts, net, note, &s), 0);
		if (strcmp(s.text, cases[i].keys) != 0)
			fail_msg("case %zu: %s", i, s.text);
		wf_state_dicts_free(&dicts);
		kit_close(&k);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_codes)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
