/* SPDX-License-Identifier: MIT */
/* The texts of a reader's records that cannot be had, sorted by record, since records are only ever added behind. */
#include "codec/directory/problems.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"

struct wf_problem {
	uint32_t record;
	char *text;
};

int wf_problems_add(struct wf_problems *p, uint32_t record, const char *text)
{
	int r = wf_array_reserve(&p->list, &p->capacity, (uint64_t)p->count + 1, sizeof *p->list, UINT32_MAX);
	char *copy = r < 0 ? NULL : strdup(text);
	if (!copy)
		return -ENOMEM;
	p->list[p->count++] = (struct wf_problem){record, copy};
	return 0;
}

const char *wf_problems_get(const struct wf_problems *p, uint32_t record)
{
	uint32_t at = wf_first_not(i, p->count, p->list[i].record < record);
	return at < p->count && p->list[at].record == record ? p->list[at].text : NULL;
}

void wf_problems_free(struct wf_problems *p)
{
	for (uint32_t i = 0; i < p->count; i++)
		free(p->list[i].text);
	free(p->list);
	*p = (struct wf_problems){0};
}
