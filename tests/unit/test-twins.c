/* SPDX-License-Identifier: MIT */
/* Files that show the same bytes and are not the same: a backup, and what stands in its place since other content was refused. Every way in
 * which such a pair comes to be, with every kind of entry, and every way to write one of them; no other file may change by it, neither in the
 * mount, nor after a kill, nor after a commit. Names of one file change together as ever. */
#include "step-kit.h"

#define STEPS 6
#define FILES_MAX 64
#define FAULTS_SHOWN 12

static const struct kind {
	const char *name, *at, *bad;
	bool tensor, all;
} kinds[] = {
	{"a tensor", "b", "abc", true, true},  {"a 0-d tensor", "t0", "abc", true},    {"an array", "arr", "abc", true},
	{"a Parameter", "par", "abc", true},   {"a tied tensor", "tied", "abc", true}, {"a view", "a", "abc", true},
	{"a new tensor", "made", "abc", true}, {"an int", "n", "word", false},         {"a text", "s", "\xff", false},
	{"a list", "some", "word", false},
};

/* How the pair comes to be: @ is the entry. */
static const struct origin {
	const char *name;
	const char *steps[STEPS];
} origins[] = {
	{"a backup", {"rename|@|@~", "put|@|!"}},
	{"a swap file", {"rename|@|.@.swp", "put|@|!"}},
	{"a backup elsewhere", {"rename|@|d/@~", "put|@|!"}},
	{"empty in its place", {"rename|@|@~", "put|@"}},
	{"a numbered backup of the stand-in", {"rename|@|@~", "put|@|!", "rename|@|@.~1~"}},
	{"two backups", {"rename|@|@~", "put|@|!", "rename|@|@.~1~", "put|@|!"}},
	{"the stand-in under another name", {"rename|@|@~", "put|@|!", "rename|@|other"}},
	{"the backup as a key", {"rename|@|@~", "put|@|!", "rename|@~|other"}},
	{"the backup in place of another key", {"rename|@|@~", "put|@|!", "rename|@~|lr"}},
	{"the backup in another mapping", {"rename|@|@~", "put|@|!", "rename|@~|d/other"}},
	{"exchanged", {"rename|@|@~", "put|@|!", "exchange|@|@~"}},
	{"the backup has two names", {"rename|@|@~", "put|@|!", "link|@~|more~"}},
	{"the stand-in has two names", {"rename|@|@~", "put|@|!", "link|@|more"}},
	{"the backup is gone", {"rename|@|@~", "put|@|!", "rename|@|other", "put|@|!", "unlink|@~"}},
	{"a name for it", {"link|@|@~"}},
	{"moved away", {"rename|@|@~"}},
	{"moved back", {"rename|@|@~", "put|@|!", "rename|@~|@"}},
};

static const char *const writes[] = {
	"write|@|0|W",
	"put|@|0.75\n",
	"put|@|7\n",
	"put|@|ABCDEFGHIJKLMNOP",
	"put|@|ABCD",
	"put|@|ABCDEFGH",
	"put|@|[4, 5]\n",
	"size|@|8",
	"zero|@",
	"set|@|shape|[2, -1]",
	"set|@|dtype|int16",
	"set|@|dtype|float64",
	"set|@|location|cuda:0",
	"set|@|requires_grad|true",
	"set|@|class|torch.nn.parameter.Parameter",
	"set|@|class|str",
	"unlink|@",
	"put|.t.swp|WXYZ",
};

enum phase { LIVE, COMMITTED, COMMITTED_AND_KILLED, KILLED, PHASES };
static const char *const phases[] = {"live", "after a commit", "after a commit and a kill", "after a kill"};

/* ---- what everything shows ---- */

struct shown {
	uint32_t count;
	struct {
		char path[128];
		wf_ino ino;
		char *text;
	} files[FILES_MAX];
};

static void look_at(struct shown *s, const char *path, wf_ino at)
{
	char name[WF_NAME_MAX + 1], full[512];
	const struct wf_dir *d = wf_tree_dir(ck->tree, at);
	wf_ino scratch = wf_edits_scratch_dir(ck, at);
	for (uint32_t i = 0; i < d->count; i++) {
		wf_ino ino = d->entries[i].ino;
		if (ino == WF_NO_INO || !wf_tree_name(ck->tree, d, i, name))
			continue;
		const struct wf_node *n = wf_tree_node(ck->tree, ino);
		snprintf(full, sizeof full, "%s%s", path, name);
		if (n->type == WF_NODE_TENSOR || n->type == WF_NODE_VALUE) {
			struct wf_buffer text = WF_BUFFER_INIT;
			put_attributes(ck, ino, &text);
			put_content(ck, ino, &text);
			assert_true(s->count < FILES_MAX && wf_buffer_status(&text) == 0);
			snprintf(s->files[s->count].path, sizeof s->files[0].path, "%.127s", full);
			s->files[s->count].ino = ino;
			s->files[s->count++].text = wf_buffer_steal(&text);
		}
		strcat(full, "/");
		if (wf_tree_dir(ck->tree, ino))
			look_at(s, full, ino);
	}
	if (scratch != WF_NO_INO)
		look_at(s, path, scratch);
}

static void look(struct shown *s)
{
	s->count = 0;
	look_at(s, "", WF_INO_ROOT);
}

static void forget(struct shown *s)
{
	for (uint32_t i = 0; i < s->count; i++)
		free(s->files[i].text);
	s->count = 0;
}

static int find_shown(const struct shown *s, const char *path)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (!strcmp(s->files[i].path, path))
			return (int)i;
	return -1;
}

struct attempt {
	const struct kind *kind;
	const struct origin *origin;
	const char *write, *at;
	enum phase phase;
};

static struct wf_buffer faults;
static int fault_count;

static void note_fault(const struct attempt *a, const char *format, ...)
{
	char what[2048];
	va_list args;
	va_start(args, format);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	vsnprintf(what, sizeof what, format, args);
#pragma GCC diagnostic pop
	va_end(args);
	if (fault_count++ < FAULTS_SHOWN)
		wf_buffer_printf(&faults, "%s, %s, %s: %s of %s: %s\n", a->kind->name, a->origin->name,
				 phases[a->phase], a->write, a->at, what);
}

/* ---- steps ---- */

static int step(const char *line, const struct kind *kind, const char *at)
{
	char with[256];
	struct wf_opening *o;
	struct wf_stat st;
	const char *bad = strchr(line, '!');
	snprintf(with, sizeof with, "%.*s%s", bad ? (int)(bad - line) : 255, line, bad ? kind->bad : "");
	if (strncmp(with, "zero|", 5) != 0)
		return make_step(ck, with, at);
	int r = find(ck, at, &st) < 0 ? -ENOENT : wf_open_file(ck, st.ino, WF_WRITES, &o);
	if (r < 0)
		return r;
	r = wf_allocate(ck, st.ino, o, 0x02 | 0x01, 0, 2); /* a hole */
	int closed = wf_flush(ck, st.ino, o);
	wf_release(ck, st.ino, o);
	return r < 0 ? r : closed;
}

static void kill_and_open(void)
{
	assert_int_equal(wf_sync(ck), 0);
	copy_checkpoint(file, copy); /* closing takes scratch files away */
	end();
	char was[sizeof file];
	memcpy(was, file, sizeof was);
	memcpy(file, copy, sizeof file);
	memcpy(copy, was, sizeof copy);
	cut = false;
	ck = open_checkpoint(file, true);
	assert_false(cut);
	committed = true;
}

static void commit(const struct attempt *a)
{
	struct wf_error err = {0};
	int r = wf_commit(ck, &err);
	if (r < 0)
		note_fault(a, "commit: %d: %s", r, err.text);
}

static void enter(const struct attempt *a)
{
	enum phase phase = a->phase;
	if (phase == COMMITTED || phase == COMMITTED_AND_KILLED)
		commit(a);
	if (phase == KILLED || phase == COMMITTED_AND_KILLED)
		kill_and_open();
}

/* ---- one pair, one way to write ---- */

static bool is_scratch(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	return wf_name_is_scratch(name);
}

static bool is_key(const struct shown *s, const char *path)
{
	int at = find_shown(s, path);
	for (uint32_t i = 0; at >= 0 && i < s->count; i++)
		if (s->files[i].ino == s->files[at].ino && !is_scratch(s->files[i].path))
			return true;
	return false;
}

/* A view is written through all others; but not through a backup in whose place something stands. */
static bool are_views(const struct attempt *a, const struct shown *s, const char *path)
{
	return !strcmp(a->at, "l/1") ||
	       (!strcmp(path, "l/1") && (is_key(s, a->at) || !strcmp(a->origin->name, "moved away")));
}

/* Everything but the file that was written, under all its names. */
static void compare(const struct attempt *a, const char *when, const struct shown *before, const struct shown *now,
		    wf_ino written)
{
	for (uint32_t i = 0; i < before->count; i++) {
		const char *path = before->files[i].path;
		int k = find_shown(now, path);
		if (before->files[i].ino == written || are_views(a, before, path))
			continue;
		if (k < 0 || strcmp(before->files[i].text, now->files[k].text) != 0)
			note_fault(a, "%s, %s changed\n  before:%s\n  now:   %s", when, path, before->files[i].text,
				   k < 0 ? " (gone)" : now->files[k].text);
	}
}

/* What there was before, and what is left of it. */
static void without_scratch(struct shown *s)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < s->count; i++) {
		if (is_scratch(s->files[i].path))
			free(s->files[i].text);
		else
			s->files[kept++] = s->files[i];
	}
	s->count = kept;
}

static void begin_attempt(const struct attempt *a)
{
	if (ck)
		end(); /* of an attempt that failed */
	begin();
	committed = true; /* names that a tie has are not compared */
	if (!strcmp(a->kind->at, "made")) {
		assert_int_equal(make_step(ck, "put|made|abcdefgh", ""), 0);
		assert_int_equal(make_step(ck, "set|made|dtype|float32", ""), 0);
	}
	for (int i = 0; i < STEPS && a->origin->steps[i]; i++)
		step(a->origin->steps[i], a->kind, a->kind->at);
	enter(a);
}

static void attempt(const struct attempt *a)
{
	struct shown before, now, later;
	begin_attempt(a);
	look(&before);
	int i = find_shown(&before, a->at);
	assert_true(i >= 0);
	wf_ino written = before.files[i].ino;
	int r = step(a->write, a->kind, a->at);
	look(&now);
	compare(a, "live", &before, &now, written);
	bool tensor = strstr(before.files[i].text, "dtype=") != NULL;
	if (tensor && !strncmp(a->write, "write|", 6) && (r < 0 || !strcmp(before.files[i].text, now.files[i].text)))
		note_fault(a, "%d, and nothing was written", r);
	if (r < 0 && !strcmp(before.files[i].text, now.files[i].text))
		goto done; /* refused */
	/* a size that was set waits for a write */
	wf_ino waits = strncmp(a->write, "size|", 5) ? WF_NO_INO : written;
	kill_and_open();
	look(&later);
	compare(a, "after a kill behind it", &now, &later, waits);
	forget(&later);
	commit(a);
	end();
	ck = open_checkpoint(file, true);
	look(&later);
	without_scratch(&now);
	if (is_scratch(a->at) && strncmp(a->write, "unlink", 6) != 0)
		compare(a, "in the checkpoint", &now, &later, waits);
	forget(&later);
done:
	forget(&before);
	forget(&now);
	end();
}

/* Those that may show the entry's bytes: it, its backups and other names. */
static bool concerns(const struct shown *s, uint32_t i, const struct kind *kind, bool takes_lr)
{
	static const char *const names[] = {"other", "more", "more~", "d/other", "tie"};
	char backup[64];
	const char *path = s->files[i].path, *formats[] = {"%s", "%s~", "d/%s~", ".%s.swp", "%s.~1~"};
	if (!strcmp(path, "l/1"))
		return !strcmp(kind->at, "a");
	if (!strcmp(path, "lr"))
		return takes_lr;
	for (size_t k = 0; k < WF_ARRAY_SIZE(names); k++)
		if (!strcmp(path, names[k]))
			return true;
	for (size_t k = 0; k < WF_ARRAY_SIZE(formats); k++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(backup, sizeof backup, formats[k], kind->at);
#pragma GCC diagnostic pop
		if (!strcmp(path, backup))
			return true;
	}
	return false;
}

static void try_origin(const struct kind *kind, const struct origin *origin)
{
	/* two names of a plain value are none of a checkpoint's */
	bool names = !strcmp(origin->name, "the stand-in has two names") && !kind->tensor;
	for (enum phase phase = LIVE; phase < PHASES; phase++) {
		if (names && phase == COMMITTED)
			continue;
		struct attempt a = {.kind = kind, .origin = origin, .phase = phase};
		struct shown s;
		begin_attempt(&a);
		look(&s);
		end();
		for (uint32_t i = 0; i < s.count; i++) {
			if (!concerns(&s, i, kind, strstr(origin->name, "another key")))
				continue;
			a.at = s.files[i].path;
			/* of most kinds each write with some of the pairs */
			for (size_t w = 0; w < WF_ARRAY_SIZE(writes); w++) {
				a.write = writes[w];
				if (kind->all || (w + i + (size_t)phase + (size_t)(origin - origins)) % 7 == 0)
					attempt(&a);
			}
		}
		forget(&s);
	}
}

static void test_kind(void **state)
{
	fault_count = 0;
	for (size_t i = 0; i < WF_ARRAY_SIZE(origins); i++)
		try_origin(*state, &origins[i]);
	cleanup_free char *text = wf_buffer_steal(&faults);
	if (fault_count > 0)
		fail_msg("%d faults:\n%s", fault_count, text);
}

/* ---- the whole ---- */

/* What the file of tests/overlay has not. */
static int set_up(void **state)
{
	static const char *const steps[] = {"put|t0|abcd",
					    "set|t0|dtype|float32",
					    "set|t0|shape|[]",
					    "put|arr|abcdefgh",
					    "set|arr|dtype|int32",
					    "set|arr|class|numpy.ndarray",
					    "put|par|abcdefgh",
					    "set|par|dtype|float32",
					    "set|par|class|torch.nn.parameter.Parameter",
					    "put|tied|abcdefgh",
					    "set|tied|dtype|int32",
					    "link|tied|tie",
					    "put|some|[1, 2]\n",
					    "commit"};
	make_fixture("test-twins", steps, WF_ARRAY_SIZE(steps));
	return 0;
}

int main(int argc, char **argv)
{
	struct CMUnitTest tests[WF_ARRAY_SIZE(kinds)];
	base_file = argc > 1 ? argv[1] : "model.pt";
	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	for (size_t i = 0; i < WF_ARRAY_SIZE(kinds); i++)
		tests[i] = (struct CMUnitTest){
			.name = kinds[i].name, .test_func = test_kind, .initial_state = (void *)&kinds[i]};
	return _cmocka_run_group_tests("twins", tests, WF_ARRAY_SIZE(tests), set_up, tear_down);
}
