/* SPDX-License-Identifier: MIT */
/* Whatever a mount knows of an entry it knows after a kill: every way in which an entry comes to be what it is, and behind each of them every
 * verb. After each step, what the checkpoint knows is compared with what a replay of its log knows, and in the end both are given the same
 * contents, and make the same of them. */
#include "step-kit.h"

#define STEPS 7

/* The entry is n, or where `at` says. */
static const struct state {
	const char *name;
	const char *steps[STEPS];
	const char *at;
} states[] = {
	{"an int of the file", {NULL}, "n"},
	{"a str of the file", {NULL}, "s"},
	{"a None of the file", {NULL}, "none"},
	{"a tensor of the file", {NULL}, "b"},
	{"a 0-d tensor of the file", {NULL}, "t0"},
	{"an array of the file", {NULL}, "arr"},
	{"an element of a list", {NULL}, "l/1"},
	{"one of two names of a tensor", {"link|a|tie"}, "tie"},
	/* new ones */
	{"made and never written", {"put|new"}, "new"},
	{"a number", {"put|new|5\n"}, "new"},
	{"a number as it was typed", {"put|new|1e3\n"}, "new"},
	{"a text", {"put|new|two words\n"}, "new"},
	{"a list", {"put|new|[1,  2.5]\n"}, "new"},
	{"bytes", {"put|new|abcd"}, "new"},
	{"bytes, and more of them", {"put|new|abcd", "write|new|4|efgh|ij"}, "new"},
	{"a text that was taken, and one that was not", {"put|new|5\n", "set|new|class|int", "put|new|7\n|x"}, "new"},
	{"a class", {"put|new|5", "set|new|class|float"}, "new"},
	{"a class that the content outgrew", {"put|new|5\n", "set|new|class|int", "put|new|-0.001\n"}, "new"},
	{"such a one in a list",
	 {"put|l/3|5\n", "set|l/3|class|int", "put|l/3|0.25\n", "mkdir|l/4", "rename|l/3|l/4/new"},
	 "l/4/new"},
	{"a shape and a dtype", {"put|new|abcdefgh", "set|new|shape|[2]", "set|new|dtype|float32"}, "new"},
	{"a shape that waits", {"put|new|abcd", "set|new|shape|[5]"}, "new"},
	{"a shape before the content", {"put|new", "set|new|shape|[2, 2]", "set|new|dtype|uint8"}, "new"},
	{"a shape that waited for other content", {"put|new|abcd", "set|new|shape|[3]", "put|new|12345"}, "new"},
	{"a class that does not fit", {"put|new|word\n", "set|new|class|int"}, "new"},
	{"a Parameter",
	 {"put|new|abcdefgh", "set|new|dtype|float32", "set|new|class|torch.nn.parameter.Parameter"},
	 "new"},
	{"an array", {"put|new|abcdefgh", "set|new|dtype|int32", "set|new|class|numpy.ndarray"}, "new"},
	{"rows behind a type that came true", {"put|new|abcd", "set|new|shape|[2, 2]", "put|new|abcdef"}, "new"},
	{"refused at once", {"put|new", "set|new|class|int", "put|new|word"}, "new"},
	{"moved to another mapping", {"put|new|5\n", "set|new|class|int", "rename|new|d/new"}, "d/new"},
	{"with two names", {"put|new|1e2\n", "link|new|d/new"}, "d/new"},
	/* what an entry of the file became */
	{"None, and then a number", {"put|none| 7 \n"}, "none"},
	{"None, a number and None again", {"put|none|7\n", "put|none|null\n"}, "none"},
	{"None, a number, and more that did not fit", {"put|none|7\n| x"}, "none"},
	{"an int that became a float", {"put|n|0.5\n"}, "n"},
	{"another class", {"set|n|class|str"}, "n"},
	{"rows more", {"put|b|12345678"}, "b"},
	{"another shape", {"set|b|shape|[2, 2]"}, "b"},
	{"a number in a 0-d tensor", {"put|t0|2.5\n"}, "t0"},
	{"bytes inside", {"write|b|4|abcd"}, "b"},
	{"bytes inside, and more that did not fit", {"write|b|4|abcd|123456789012345"}, "b"},
	{"a type that was declared in the middle", {"put|c|12345678|x", "set|c|dtype|float32"}, "c"},
	{"a size that was set", {"size|b|8", "put|b|abcdefgh"}, "b"},
	{"empty, and a shape that waits", {"put|b|", "size|b|0", "set|b|shape|[0]", "set|b|shape|[2, 1]"}, "b"},
	/* names that remember */
	{"removed and made anew", {"unlink|n", "put|n|6\n"}, "n"},
	{"removed and made anew with other content", {"unlink|n", "put|n|abcd"}, "n"},
	{"in place of a backup", {"rename|n|n~", "put|n|6\n"}, "n"},
	{"in place of a backup, and it does not fit", {"rename|b|b~", "put|b|abc"}, "b"},
	{"in place of a backup, after more that did not fit", {"rename|t0|t0~", "put|t0|2.5\n|x"}, "t0"},
	{"in place of a backup over a commit", {"rename|b|b~", "put|b|abc", "commit"}, "b"},
	{"a backup", {"rename|b|b~"}, "b~"},
	{"a backup in whose place something stands", {"rename|b|b~", "put|b|abc"}, "b~"},
	{"such a backup over a commit", {"rename|b|b~", "put|b|abc", "commit"}, "b~"},
	{"such a backup of a tie over a commit", {"link|a|tie", "rename|a|bb~", "put|a|abc", "commit"}, "bb~"},
	{"such a backup of an array over a commit", {"rename|arr|bb~", "put|arr|abc", "commit"}, "bb~"},
	{"a backup that was changed", {"rename|b|b~", "put|b~|abcdefghijkl", "set|b~|shape|[3, 1]"}, "b~"},
	{"a backup of what was new", {"put|new|5\n", "set|new|class|int", "rename|new|new~"}, "new~"},
	{"renamed over an int", {"put|new|6\n", "rename|new|n"}, "n"},
	{"renamed over an int, and refused", {"put|new|word\n", "rename|new|n"}, "new"},
	{"with a type, renamed over a tensor", {"put|new|abcd", "set|new|dtype|int32", "rename|new|b"}, "b"},
	{"renamed to a name that remembers", {"unlink|b", "put|new|abcdefgh", "rename|new|b"}, "b"},
	{"exchanged", {"put|new|5\n", "exchange|new|n"}, "n"},
	{"back under its name", {"rename|n|n~", "rename|n~|n"}, "n"},
	/* scratch names, and over a commit */
	{"a scratch file", {"put|.new.swp|1e1\n", "set|.new.swp|class|float"}, ".new.swp"},
	{"a scratch file over a commit", {"put|.new.swp|1e1\n", "commit"}, ".new.swp"},
	{"a typed scratch file over a commit",
	 {"put|.new.swp|5\n", "set|.new.swp|class|int", "put|.new.swp|0.5\n", "commit"},
	 ".new.swp"},
	{"a scratch file whose shape waits, over a commit",
	 {"put|.new.swp|abcd", "set|.new.swp|shape|[5]", "commit"},
	 ".new.swp"},
	{"a scratch file that ends in zeroes, over a commit",
	 {"put|.new.swp|5\n", "set|.new.swp|class|str", "size|.new.swp|4", "put|.new.swp|a", "commit"},
	 ".new.swp"},
	{"a backup over a commit", {"rename|b|bb~", "commit"}, "bb~"},
	{"a new file with a scratch name, too, over a commit", {"put|new|abcd", "link|new|new~", "commit"}, "new"},
	{"committed", {"put|new|5\n", "set|new|class|int", "commit"}, "new"},
};

static const struct {
	const char *name;
	const char *steps[3];
	const char *at; /* where the entry is then; NULL: where it was */
} verbs[] = {
	{"nothing", {NULL}, NULL},
	{"a number", {"put|@|12\n"}, NULL},
	{"another kind of number", {"put|@|0.125\n"}, NULL},
	{"words", {"put|@|some words"}, NULL},
	{"what is no number, after one", {"put|@|3\n|!x"}, NULL},
	{"eight bytes", {"put|@|abcdefgh"}, NULL},
	{"emptied", {"put|@"}, NULL},
	{"emptied, and then bytes", {"put|@", "put|@|wxyz"}, NULL},
	{"a byte inside", {"write|@|0|1"}, NULL},
	{"more behind", {"write|@|1|2345|67"}, NULL},
	{"a class", {"set|@|class|float"}, NULL},
	{"a shape", {"set|@|shape|[-1]"}, NULL},
	{"a dtype, and content", {"set|@|dtype|int16", "put|@|abcd"}, NULL},
	{"a size", {"size|@|4", "put|@|abcd"}, NULL},
	{"a name more", {"link|@|d/more"}, NULL},
	{"renamed", {"rename|@|other"}, "other"},
	{"moved", {"rename|@|d/moved"}, "d/moved"},
	{"moved into a list", {"rename|@|l/3"}, "l/3"},
	{"away and back", {"rename|@|away~", "rename|away~|@"}, NULL},
	{"away, and made anew", {"rename|@|away~", "put|@|4\n"}, NULL},
	{"away, made anew with what does not fit, and changed", {"rename|@|away~", "put|@|x", "put|away~|8\n"}, NULL},
	{"removed and made anew", {"unlink|@", "put|@|4\n"}, NULL},
	{"renamed over", {"rename|@|lr"}, "lr"},
	{"replaced", {"put|.t.swp|9\n", "rename|.t.swp|@"}, NULL},
	{"exchanged", {"exchange|@|g"}, "g"},
};

/* What both are given in the end. */
static const char *const probes[] = {"put|@|0.02|476!x", "set|@|shape|[2, 2]", "put|@|7\n",
				     "put|@|abcd",       "put|@|words\n",      "rename|@|v"};

/* All names that a step gives to something. */
static const char *const names[] = {"n",    "s",     "none", "b",     "c",   "t0",       "arr",    "a",
				    "tie",  "new",   "0",    "1",     "2",   "3",        "4",      "moved",
				    "more", "other", "lr",   "g",     "v",   "y",        "x",      "n~",
				    "b~",   "t0~",   "new~", "away~", "bb~", ".new.swp", ".t.swp", NULL};

/* ---- one state and one verb ---- */

struct trace {
	char text[1024];
	size_t len;
};

static void note_step(struct trace *t, const char *step, const char *path, int r)
{
	int n = snprintf(t->text + t->len, sizeof t->text - t->len, "  %s (%s): %d\n", step, path, r);
	t->len = WF_MIN(t->len + (size_t)WF_MAX(n, 0), sizeof t->text - 1);
}

/* A size that was set waits for a write, which a replay does not; and once a commit was made, a second name that no checkpoint can hold is one
 * of this mount alone. */
static bool is_comparable(void)
{
	struct wf_tensor t;
	for (wf_ino ino = 1; ino <= wf_tree_node_count(ck->tree); ino++) {
		const struct wf_node *n = wf_tree_node(ck->tree, ino);
		const struct wf_file *f = wf_edit_known(ck, ino);
		bool tensor =
			n && n->type == WF_NODE_TENSOR && wf_edit_tensor(ck, ino, &t) == 0 && t.kind != WF_TENSOR_NUMPY;
		bool alone = n && n->nlink > 1 && !tensor && (n->type == WF_NODE_TENSOR || n->type == WF_NODE_VALUE);
		if ((f && f->sized) || (committed && alone))
			return false;
	}
	return true;
}

/* Makes the steps; what a replay knows otherwise after one of them is the caller's. */
static char *make_steps(const char *const *steps, int count, const char *path, struct trace *t)
{
	char *wrong = NULL;
	for (int i = 0; !wrong && i < count && steps[i]; i++) {
		note_step(t, steps[i], path, make_step(ck, steps[i], path));
		committed |= !strcmp(steps[i], "commit");
		wrong = is_comparable() ? difference(names, NULL) : NULL;
	}
	return wrong;
}

static char *probe(const char *path)
{
	struct wf_buffer out = WF_BUFFER_INIT;
	struct wf_checkpoint *other = NULL;
	char *wrong = difference(names, &other);
	for (size_t i = 0; !wrong && i < WF_ARRAY_SIZE(probes); i++) {
		int a = make_step(ck, probes[i], path), b = make_step(other, probes[i], path);
		if (a != b)
			wf_buffer_printf(&out, "%s: %d, and %d after a replay\n", probes[i], a, b);
	}
	char *live = known_of(ck, names), *replayed = known_of(other, names);
	put_missing("live, in the end:  ", live, replayed, &out);
	put_missing("after a replay:    ", replayed, live, &out);
	free(live);
	free(replayed);
	wf_close(other);
	return wrong ? wrong : out.len ? wf_buffer_steal(&out) : NULL;
}

static void try_verb(const struct state *s, size_t verb)
{
	struct trace t = {{0}, 0};
	begin();
	char *wrong = make_steps(s->steps, STEPS, s->at, &t);
	if (!wrong)
		wrong = make_steps(verbs[verb].steps, 3, s->at, &t);
	if (!wrong && is_comparable())
		wrong = probe(verbs[verb].at ? verbs[verb].at : s->at);
	end();
	if (wrong)
		fail_msg("%s, and then: %s\n%s%s", s->name, verbs[verb].name, t.text, wrong);
}

static void test_state(void **state)
{
	for (size_t i = 0; i < WF_ARRAY_SIZE(verbs); i++)
		try_verb(*state, i);
}

/* ---- the whole ---- */

/* What the file of tests/overlay has not. */
static int set_up(void **state)
{
	static const char *const steps[] = {
		"put|none|null\n",  "put|t0|abcd",         "set|t0|dtype|float32",        "set|t0|shape|[]",
		"put|arr|abcdefgh", "set|arr|dtype|int32", "set|arr|class|numpy.ndarray", "commit"};
	make_fixture("test-replay-known", steps, WF_ARRAY_SIZE(steps));
	return 0;
}

int main(int argc, char **argv)
{
	struct CMUnitTest tests[WF_ARRAY_SIZE(states)];
	base_file = argc > 1 ? argv[1] : "model.pt";
	for (size_t i = 0; i < WF_ARRAY_SIZE(states); i++)
		tests[i] = (struct CMUnitTest){
			.name = states[i].name, .test_func = test_state, .initial_state = (void *)&states[i]};
	return _cmocka_run_group_tests("replay-known", tests, WF_ARRAY_SIZE(tests), set_up, tear_down);
}
