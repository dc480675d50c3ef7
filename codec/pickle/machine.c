/* SPDX-License-Identifier: MIT */
/* The stack machine that reads a pickle: its stack, its marks, and the errors of the opcode at work. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "codec/bytes/array.h"
#include "codec/pickle/inner.h"
#include "codec/bytes/util.h"

/* Of objects on the stack, and of marks. */
#define MAX_STACK ((uint32_t)(WF_GRAPH_MAX_BYTES / sizeof(wf_ref)))

/* ---- errors ---- */

static int fail_v(struct pickle_machine *m, int code, const char *fmt, va_list ap)
{
	char text[256];

	vsnprintf(text, sizeof text, fmt, ap);
	return wf_fail_at(m->err, code, NULL, m->op_at, "%s", text);
}

int wf_pickle_broken(struct pickle_machine *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int rc = fail_v(m, -EUCLEAN, fmt, ap);
	va_end(ap);
	return rc;
}

int wf_pickle_refused(struct pickle_machine *m, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int rc = fail_v(m, code, fmt, ap);
	va_end(ap);
	return rc;
}

int wf_pickle_cut(struct pickle_machine *m)
{
	if (m->in.error != -EUCLEAN)
		return wf_pickle_refused(m, m->in.error, "reading the pickle failed: %s",
					 strerrordesc_np(-m->in.error));
	if (m->op_name)
		wf_pickle_broken(m, "the pickle ends inside %s", m->op_name);
	else
		wf_pickle_broken(m, "the pickle ends without STOP");
	m->err->cut = true;
	return -EUCLEAN;
}

int wf_pickle_short(struct pickle_machine *m, uint64_t n)
{
	wf_pickle_broken(m, "%s of %" PRIu64 " bytes where %" PRIu64 " are left", m->op_name, n,
			 wf_cursor_left(&m->in));
	m->err->cut = true;
	return -EUCLEAN;
}

int wf_pickle_no_room(struct pickle_machine *m)
{
	if (wf_graph_failed(m->g) == -E2BIG)
		return wf_pickle_refused(m, -E2BIG, "the objects of this pickle need more than %llu MiB of memory",
					 WF_GRAPH_MAX_BYTES >> 20);
	return wf_pickle_refused(m, -ENOMEM, "out of memory");
}

/* ---- stack and marks ---- */

uint32_t wf_pickle_floor(const struct pickle_machine *m)
{
	return m->nmarks ? m->marks[m->nmarks - 1] : 0;
}

int wf_pickle_need(struct pickle_machine *m, uint32_t n)
{
	if (m->depth - wf_pickle_floor(m) >= n)
		return 0;
	if (m->depth >= n)
		return wf_pickle_broken(m, "%s finds a MARK where an operand should be", m->op_name);
	return wf_pickle_broken(m, "%s needs %u operands, and the stack holds %u", m->op_name, n, m->depth);
}

int wf_pickle_push(struct pickle_machine *m, wf_ref r)
{
	if (r == WF_NIL)
		return wf_pickle_no_room(m);
	if (m->depth == m->stack_cap) {
		int rc =
			wf_array_reserve(&m->stack, &m->stack_cap, (uint64_t)m->depth + 1, sizeof *m->stack, MAX_STACK);
		if (rc < 0)
			return rc == -E2BIG ? wf_pickle_refused(m, rc, "more than %u objects on the stack", m->depth)
					    : wf_pickle_no_room(m);
	}
	m->stack[m->depth++] = r;
	return 0;
}

int wf_pickle_put_mark(struct pickle_machine *m)
{
	if (m->nmarks == m->marks_cap) {
		int rc = wf_array_reserve(&m->marks, &m->marks_cap, (uint64_t)m->nmarks + 1, sizeof *m->marks,
					  MAX_STACK);
		if (rc < 0)
			return rc == -E2BIG ? wf_pickle_refused(m, rc, "more than %u MARKs at once", m->nmarks)
					    : wf_pickle_no_room(m);
	}
	m->marks[m->nmarks++] = m->depth;
	return 0;
}

int wf_pickle_take_mark(struct pickle_machine *m, uint32_t *ret_start)
{
	if (!m->nmarks)
		return wf_pickle_broken(m, "%s without a MARK", m->op_name);
	*ret_start = m->marks[--m->nmarks];
	return 0;
}

void wf_pickle_machine_free(struct pickle_machine *m)
{
	wf_cursor_free(&m->in);
	wf_pickle_memo_free(&m->memo);
	free(m->stack);
	free(m->marks);
}
