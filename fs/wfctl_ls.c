/* wfctl ls and verify: looking at a checkpoint without a mount. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codec/buffer.h"
#include "wfctl.h"

enum form { FORM_TUTORIAL, FORM_LONG, FORM_JSON };

/* One pass to find the widths of the long form, one to print. */
struct listing {
	enum form form;
	bool measuring;
	int widths[4];
	unsigned long rows;
	int failed;
};

static void put_json_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void put_json(const struct listing *l, const struct wf_tensor_row *row)
{
	const char *const names[] = {"key", "dtype", "storage", "location", "class"};
	const char *const values[] = {row->path, row->dtype, row->storage, row->location, row->klass};
	fputs(l->rows ? ",\n {" : "[\n {", stdout);
	for (int i = 0; i < 5; i++) {
		printf("%s\"%s\": ", i ? ", " : "", names[i]);
		put_json_string(values[i]);
	}
	printf(", \"shape\": %s, \"bytes\": %llu", row->shape, (unsigned long long)row->size_bytes);
	if (row->error) {
		fputs(", \"error\": ", stdout);
		put_json_string(row->error_text);
	}
	putchar('}');
}

static int widest(int a, size_t b)
{
	return a > (int)b ? a : (int)b;
}

/* The one thread that writes: no lock for each piece, and no format to be parsed for each line. */
static void put(const char *s)
{
	fputs_unlocked(s, stdout);
}

static int tell(void *ctx, const struct wf_tensor_row *row)
{
	struct listing *l = ctx;
	char bytes[32];
	if (l->form == FORM_LONG)
		snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)row->size_bytes);
	if (l->measuring) {
		l->widths[0] = widest(l->widths[0], strlen(row->path));
		l->widths[1] = widest(l->widths[1], strlen(row->shape));
		l->widths[2] = widest(l->widths[2], strlen(row->dtype));
		l->widths[3] = widest(l->widths[3], strlen(bytes));
		return 0;
	}
	if (l->form == FORM_JSON)
		put_json(l, row);
	else if (row->error)
		printf("%s \t unreadable: %s\n", row->path, row->error_text);
	else if (l->form == FORM_LONG)
		printf("%-*s  %-*s  %-*s  %*s  %-7s  %s\n", l->widths[0], row->path, l->widths[1], row->shape,
		       l->widths[2], row->dtype, l->widths[3], bytes, row->storage, row->location);
	else
		put(row->path), put(" \t torch.Size("), put(row->shape), put(")\n");
	l->failed |= row->error;
	l->rows++;
	return ferror(stdout) ? -EIO : 0;
}

int wfctl_ls(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
	struct listing l = {.form = FORM_TUTORIAL, .widths = {3, 5, 5, 5}};
	for (int c; (c = getopt_long(argc, argv, "l", options, NULL)) != -1;) {
		if (c != 'l' && c != 'j')
			return WFCTL_USAGE;
		l.form = c == 'l' ? FORM_LONG : FORM_JSON;
	}
	if (argc - optind < 1 || argc - optind > 2)
		return WFCTL_USAGE;
	const char *path = argv[optind], *prefix = argv[optind + 1];
	struct wf_checkpoint *ck = wfctl_open(path, false);
	if (!ck)
		return WFCTL_FAILED;
	int r = 0;
	if (l.form == FORM_LONG) {
		l.measuring = true;
		r = wf_each_tensor(ck, prefix, tell, &l);
		l.measuring = false;
		if (r == 0)
			printf("%-*s  %-*s  %-*s  %*s  storage  location\n", l.widths[0], "key", l.widths[1], "shape",
			       l.widths[2], "dtype", l.widths[3], "bytes");
	}
	if (r == 0)
		r = wf_each_tensor(ck, prefix, tell, &l);
	if (l.form == FORM_JSON && r == 0)
		fputs(l.rows ? "\n]\n" : "[]\n", stdout);
	wf_close(ck);
	if (r == -ENOENT)
		return wfctl_fail(path, "no key begins with %s", prefix);
	if (r < 0)
		return wfctl_fail_error(path, r, NULL);
	return l.failed ? wfctl_fail(path, "not every tensor can be read") : WFCTL_OK;
}

/* ---- verify ---- */

struct verifying {
	const char *path;
	unsigned long faults, warnings;
	time_t shown;
};

static void problem(void *ctx, bool fault, const char *line)
{
	struct verifying *v = ctx;
	wfctl_progress(NULL);
	fprintf(stderr, "wfctl: %s: %s%s\n", v->path, fault ? "" : "warning: ", line);
	v->faults += fault;
	v->warnings += !fault;
}

static void progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	struct verifying *v = ctx;
	char line[128];
	if (time(NULL) == v->shown)
		return;
	v->shown = time(NULL);
	snprintf(line, sizeof line, "verifying: %llu of %llu MiB", (unsigned long long)(done_bytes >> 20),
		 (unsigned long long)(total_bytes >> 20));
	wfctl_progress(line);
}

int wfctl_verify(int argc, char **argv)
{
	if (argc != 2)
		return WFCTL_USAGE;
	struct verifying v = {.path = argv[1], .shown = time(NULL)};
	struct wf_checkpoint *ck = wfctl_open(v.path, true);
	if (!ck)
		return WFCTL_FAILED;
	int r = wf_verify(ck, problem, progress, &v);
	wf_close(ck);
	wfctl_progress(NULL);
	if (r < 0 && v.faults == 0)
		return wfctl_fail_error(v.path, r, NULL);
	if (v.faults)
		return wfctl_fail(v.path, "%lu fault%s, %lu warning%s", v.faults, v.faults == 1 ? "" : "s", v.warnings,
				  v.warnings == 1 ? "" : "s");
	printf("%s: sound, %lu warning%s\n", v.path, v.warnings, v.warnings == 1 ? "" : "s");
	return WFCTL_OK;
}
