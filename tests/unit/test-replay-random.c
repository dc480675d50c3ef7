/* SPDX-License-Identifier: MIT */
/* Random edits, and after each of them the comparison of test-replay-known.c: what a mount knows, a replay of its log knows.
 *
 * Usage: test-replay-random MODEL [FIRST SEED [ROUNDS]]. A round that fails says its seed, which repeats it. */
#include "step-kit.h"

#define STEPS 40
#define ROUNDS 60

static const char *const names[] = {"a", "b", "c", "n", "s", "lr", "g",  "v",  "new",    "x", "y",
				    "0", "1", "2", "3", "4", "n~", "b~", "w~", ".n.swp", "e", NULL};
static const char *const contents[] = {"5\n",   "-0.5\n", "true\n",        "null\n",   "[1, 2]\n",         "word\n",
				       "abc",   "",       "abcd",          "abcdefgh", "0123456789abcdef", "0.02476!x",
				       "1e3\n", " 7 \n",  "123456789012\n"};
static const char *const attributes[] = {"class|int",
					 "class|float",
					 "class|bool",
					 "class|str",
					 "class|NoneType",
					 "class|list",
					 "class|torch.Tensor",
					 "class|torch.nn.parameter.Parameter",
					 "class|numpy.ndarray",
					 "dtype|float32",
					 "dtype|int16",
					 "dtype|uint8",
					 "shape|[]",
					 "shape|[4]",
					 "shape|[2, 2]",
					 "shape|[-1]",
					 "shape|[1, 4]",
					 "requires_grad|true",
					 "requires_grad|false",
					 "location|cuda:0",
					 "location|cpu",
					 "key|\"k\""};

static uint64_t state_of_random;

static unsigned int below(unsigned int n)
{
	state_of_random = state_of_random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned int)(state_of_random >> 33) % n;
}

#define ANY(table) table[below(WF_ARRAY_SIZE(table))]

static const char *some_path(void)
{
	static char paths[4][64];
	static unsigned int next;
	static const char *const dirs[] = {"", "", "", "d/", "l/"};
	char *path = paths[next++ % 4];
	const char *in = ANY(dirs);
	snprintf(path, sizeof paths[0], "%s%s", in,
		 names[*in == 'l' ? 11 + below(5) : below(WF_ARRAY_SIZE(names) - 1)]);
	return path;
}

static void some_step(char *step, size_t size)
{
	static const char *const pairs[] = {"rename", "rename", "rename", "link", "exchange"};
	unsigned int dice = below(100);
	if (dice < 35)
		snprintf(step, size, below(3) ? "put|%s|%s" : "put|%s|%s|%s", some_path(), ANY(contents),
			 ANY(contents));
	else if (dice < 47)
		snprintf(step, size, below(3) ? "write|%s|%u|%s" : "write|%s|%u|%s|%s", some_path(), below(9),
			 ANY(contents), ANY(contents));
	else if (dice < 65)
		snprintf(step, size, "set|%s|%s", some_path(), ANY(attributes));
	else if (dice < 87)
		snprintf(step, size, "%s|%s|%s", ANY(pairs), some_path(), some_path());
	else if (dice < 93)
		snprintf(step, size, "unlink|%s", some_path());
	else if (dice < 95)
		snprintf(step, size, "backup|%s", some_path());
	else
		snprintf(step, size, dice < 98 ? "mkdir|%s" : "commit", some_path());
}

/* What no checkpoint holds as it is: a list without a tensor is one file. */
static bool can_commit(void)
{
	struct wf_stat l;
	bool tensor = false;
	if (find(ck, "l", &l) < 0 || l.type != WF_DIRECTORY)
		return false;
	const struct wf_dir *d = wf_tree_dir(ck->tree, l.ino);
	for (uint32_t i = 0; i < d->count; i++)
		tensor |= d->entries[i].ino != WF_NO_INO &&
			  wf_tree_node(ck->tree, d->entries[i].ino)->type == WF_NODE_TENSOR;
	return tensor;
}

/* The entry goes to a backup's name, and content that hardly ever fits takes its place. */
static int back_up(const char *path)
{
	char step[160];
	snprintf(step, sizeof step, "rename|@|%s", below(2) ? "@~" : "w~");
	int r = make_step(ck, step, path);
	snprintf(step, sizeof step, "put|@|%s", ANY(contents));
	return r < 0 ? r : make_step(ck, step, path);
}

static unsigned long first = 1, rounds = ROUNDS;

static void try_round(unsigned long seed)
{
	struct wf_buffer trace = WF_BUFFER_INIT;
	char step[160], *wrong = NULL;
	state_of_random = seed * 7919 + 13;
	begin();
	for (int i = 0; !wrong && i < STEPS; i++) {
		some_step(step, sizeof step);
		bool commit = !strcmp(step, "commit");
		if (commit && !can_commit())
			continue;
		int r = strncmp(step, "backup|", 7) ? make_step(ck, step, "") : back_up(step + 7);
		committed |= commit && r == 0;
		wf_buffer_printf(&trace, "  %s: %d\n", step, r);
		if (committed && !can_commit())
			break;
		wrong = difference(names, NULL);
	}
	end();
	if (wrong)
		fail_msg("seed %lu\n%s%s", seed, trace.data, wrong);
	wf_buffer_free(&trace);
}

static void test_random(void **state)
{
	for (unsigned long i = 0; i < rounds; i++)
		try_round(first + i);
}

static int set_up(void **state)
{
	make_fixture("test-replay-random", NULL, 0);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
	base_file = argc > 1 ? argv[1] : "model.pt";
	first = argc > 2 ? strtoul(argv[2], NULL, 0) : first;
	rounds = argc > 3 ? strtoul(argv[3], NULL, 0) : rounds;
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
