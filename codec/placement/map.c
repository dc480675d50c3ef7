/* SPDX-License-Identifier: MIT */
/* What map_location means: torch/serialization.py, _get_restore_location. A string is the location of every storage; a
 * dictionary changes the tags it has and leaves the others (location = map_location.get(location, location)). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/placement/inner.h"
#include "codec/bytes/util.h"

/* "cpu", "cuda" or "cuda:N" as torch tags it; false when it is none of these. */
static bool canonical(const char *name, size_t len, char *buf, size_t size)
{
	unsigned int n = 0;
	if (len == 3 && !memcmp(name, "cpu", 3)) {
		snprintf(buf, size, "cpu");
		return true;
	}
	if (len < 4 || memcmp(name, "cuda", 4) != 0)
		return false;
	if (len > 4 && (len < 6 || len > 8 || name[4] != ':'))
		return false;
	for (size_t i = 5; i < len; i++) {
		if (name[i] < '0' || name[i] > '9')
			return false;
		n = n * 10 + (unsigned int)(name[i] - '0');
	}
	snprintf(buf, size, "cuda:%u", n);
	return true;
}

struct place_device *placement_named(struct wf_placement *p, const char *name, size_t len)
{
	char text[sizeof p->devices[0].name];
	if (!canonical(name, len, text, sizeof text))
		return NULL;
	for (uint32_t i = 0; i < p->device_count; i++)
		if (!strcmp(p->devices[i].name, text))
			return &p->devices[i];
	if (p->device_count == MAX_DEVICES)
		return NULL;
	struct place_device *d = &p->devices[p->device_count++];
	snprintf(d->name, sizeof d->name, "%s", text);
	return d;
}

int placement_open(struct wf_placement *p, struct place_device *d, const char **ret_why)
{
	*ret_why = "this program has no devices";
	if (d->device)
		return 0;
	return p->options.open_device ? p->options.open_device(p->options.device_ctx, d->name, &d->device, ret_why)
				      : -ENODEV;
}

static int add_rule(struct wf_placement *p, const char *from, size_t from_len, const char *to, size_t to_len,
		    struct wf_error *err)
{
	struct place_device *d = placement_named(p, to, to_len);
	if (!d)
		return wf_fail(err, -EINVAL, "map_location: '%.*s' is none of cpu, cuda and cuda:N",
			       (int)WF_MIN(to_len, 64u), to);
	struct place_rule *rules = reallocarray(p->rules, p->rule_count + 1, sizeof *rules);
	if (!rules)
		return wf_fail(err, -ENOMEM, "out of memory");
	p->rules = rules;
	rules[p->rule_count] = (struct place_rule){.from = from ? strndup(from, from_len) : NULL, .to = d};
	if (from && !rules[p->rule_count].from)
		return wf_fail(err, -ENOMEM, "out of memory");
	p->rule_count++;
	d->target = true;
	return 0;
}

int placement_parse(struct wf_placement *p, const char *map_location, struct wf_error *err)
{
	if (!strchr(map_location, '='))
		return add_rule(p, NULL, 0, map_location, strlen(map_location), err);
	for (const char *at = map_location; *at;) {
		size_t len = strcspn(at, ";");
		const char *equals = memchr(at, '=', len);
		if (len > 0) {
			if (!equals || equals == at)
				return wf_fail(err, -EINVAL, "map_location: '%.*s' is no FROM=TO",
					       (int)WF_MIN(len, 64u), at);
			int r = add_rule(p, at, (size_t)(equals - at), equals + 1, len - (size_t)(equals + 1 - at),
					 err);
			if (r < 0)
				return r;
		}
		at += len + (at[len] == ';');
	}
	return 0;
}

/* Later rules win, as later keys of a dictionary do. */
static const char *new_tag(void *ctx, const char *tag)
{
	const struct wf_placement *p = ctx;
	for (uint32_t i = p->rule_count; i-- > 0;)
		if (!p->rules[i].from || !strcmp(p->rules[i].from, tag))
			return p->rules[i].to->name;
	return NULL;
}

int wf_placement_map(struct wf_placement *p, struct wf_storages *ss)
{
	return p->rule_count ? wf_storages_relocate(ss, new_tag, p, &p->relocated) : 0;
}

struct place_device *placement_target(const struct wf_placement *p, uint32_t storage)
{
	const struct wf_storage *s = wf_storage_get(p->ss, storage);
	if (!s || s->bad || s->persid == WF_NIL)
		return NULL;
	const char *tag = wf_storage_location(p->ss, storage);
	for (uint32_t i = 0; i < p->device_count; i++)
		if (p->devices[i].target && !strcmp(p->devices[i].name, tag))
			return (struct place_device *)&p->devices[i];
	return NULL;
}

const char *placement_why(const struct place_device *d, int r)
{
	const char *text = r == -EIO || r == -ENOMEM ? d->device->ops->why(d->device) : NULL;
	return text ? text : strerror(-r);
}
