/* SPDX-License-Identifier: MIT */
/* Dates and times as ISO 8601 text, as datetime.isoformat and str(numpy.datetime64) write them.
 *
 * Python pickles what is in the C struct: datetime.date(b'\x07\xe8\x05\x06'),
 * datetime.time(b'\x07\x08\x00\x00\x00\x00'[, tz]), datetime.datetime(ten bytes: the two joined[, tz]),
 * datetime.timedelta(days, seconds, microseconds). The top bit of the month, or of the hour of a time, is the fold.
 * Source: CPython, Modules/_datetimemodule.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/value/inner.h"

#define NOT_A_TIME INT64_MIN

static bool is_datetime(const struct wf_graph *g, wf_ref r, const char *name)
{
	return wf_call_is(g, r, "datetime", name) || wf_call_is(g, r, "_datetime", name);
}

/* ---- durations ---- */

/* P1DT2H3M4.5S; the fraction is of 10^digits to the second. */
static void put_duration(__int128 amount, unsigned digits, struct wf_buffer *out)
{
	uint64_t scale = 1, part;
	for (unsigned i = 0; i < digits; i++)
		scale *= 10;
	if (amount < 0) {
		wf_buffer_putc(out, '-');
		amount = -amount;
	}
	unsigned __int128 rest = (unsigned __int128)amount;
	uint64_t fraction = (uint64_t)(rest % scale);
	rest /= scale;
	uint64_t days = (uint64_t)(rest / 86400), seconds = (uint64_t)(rest % 86400);
	wf_buffer_putc(out, 'P');
	if (days)
		wf_buffer_printf(out, "%lluD", (unsigned long long)days);
	if (days && !seconds && !fraction)
		return;
	wf_buffer_putc(out, 'T');
	if ((part = seconds / 3600))
		wf_buffer_printf(out, "%lluH", (unsigned long long)part);
	if ((part = seconds / 60 % 60))
		wf_buffer_printf(out, "%lluM", (unsigned long long)part);
	if (!fraction && (seconds % 60 || !seconds))
		wf_buffer_printf(out, "%lluS", (unsigned long long)(seconds % 60));
	if (!fraction)
		return;
	char text[24];
	snprintf(text, sizeof text, "%0*llu", (int)digits, (unsigned long long)fraction);
	for (size_t len = strlen(text); text[len - 1] == '0';)
		text[--len] = '\0';
	wf_buffer_printf(out, "%llu.%sS", (unsigned long long)(seconds % 60), text);
}

static bool read_timedelta(const struct wf_graph *g, wf_ref r, __int128 *ret_us)
{
	int64_t part[3] = {0, 0, 0};
	wf_ref args = wf_call_args(g, r);
	uint32_t n;
	const wf_ref *e = wf_elements(g, args, &n);
	if (!is_datetime(g, r, "timedelta") || n > 3)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (!wf_int_value(g, e[i], &part[i]))
			return false;
	if (part[0] < -999999999 || part[0] > 999999999)
		return false;
	*ret_us = ((__int128)part[0] * 86400 + part[1]) * 1000000 + part[2];
	return true;
}

/* ---- dates ---- */

/* Days since 1970-01-01 to the proleptic Gregorian calendar, in steps of 400 years. */
static void civil(int64_t days, int64_t *ret_year, int *ret_month, int *ret_day)
{
	days += 719468; /* from 0000-03-01: the leap day is the last one of a year */
	int64_t era = (days >= 0 ? days : days - 146096) / 146097, day = days - era * 146097;
	int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
	int64_t in_year = day - (365 * year + year / 4 - year / 100), month = (5 * in_year + 2) / 153;
	*ret_day = (int)(in_year - (153 * month + 2) / 5 + 1);
	*ret_month = (int)(month < 10 ? month + 3 : month - 9);
	*ret_year = year + era * 400 + (*ret_month <= 2);
}

/* datetime.timezone(timedelta[, name]) is an offset; of other zones only the name is known, where there is one. */
static void put_zone(const struct wf_graph *g, wf_ref zone, struct wf_buffer *out)
{
	__int128 us;
	wf_ref first = wf_element(g, wf_call_args(g, zone), 0);
	if (zone == WF_NIL || wf_is(g, zone, WF_NONE))
		return;
	if (!is_datetime(g, zone, "timezone") || !read_timedelta(g, first, &us)) {
		const char *name =
			wf_is(g, first, WF_STR) || wf_is(g, first, WF_PYSTR) ? wf_bytes(g, first, NULL) : NULL;
		wf_buffer_printf(out, "[%.64s]",
				 name ? name : wf_global_name(g, wf_class_of(g, wf_call_func(g, zone))));
		return;
	}
	wf_buffer_putc(out, us < 0 ? '-' : '+');
	int64_t seconds = (int64_t)((us < 0 ? -us : us) / 1000000), fraction = (int64_t)((us < 0 ? -us : us) % 1000000);
	wf_buffer_printf(out, "%02d:%02d", (int)(seconds / 3600), (int)(seconds / 60 % 60));
	if (seconds % 60 || fraction)
		wf_buffer_printf(out, ":%02d", (int)(seconds % 60));
	if (fraction)
		wf_buffer_printf(out, ".%06d", (int)fraction);
}

static void put_clock(const unsigned char *b, struct wf_buffer *out)
{
	int us = b[3] << 16 | b[4] << 8 | b[5];
	wf_buffer_printf(out, "%02d:%02d:%02d", b[0] & 0x7f, b[1], b[2]);
	if (us)
		wf_buffer_printf(out, ".%06d", us);
}

int wf_value_time_text(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	struct wf_buffer raw = WF_BUFFER_INIT;
	__int128 us;
	if (read_timedelta(g, r, &us)) {
		put_duration(us, 6, out);
		return wf_buffer_status(out);
	}
	bool date = is_datetime(g, r, "date"), time = is_datetime(g, r, "time");
	if (!date && !time && !is_datetime(g, r, "datetime"))
		return -EINVAL;
	int failed = wf_bytes_read(g, wf_element(g, wf_call_args(g, r), 0), 16, &raw);
	const unsigned char *b = (const unsigned char *)raw.data;
	if (failed == 0 && raw.len != (date ? 4u : time ? 6u : 10u))
		failed = -EINVAL;
	if (failed == 0 && !time)
		wf_buffer_printf(out, "%04d-%02d-%02d%s", b[0] << 8 | b[1], b[2] & 0x7f, b[3], date ? "" : "T");
	if (failed == 0 && !date) {
		put_clock(b + (time ? 0 : 4), out);
		put_zone(g, wf_element(g, wf_call_args(g, r), 1), out);
	}
	wf_buffer_free(&raw);
	return failed < 0 ? failed : wf_buffer_status(out);
}

bool wf_value_is_time(const struct wf_graph *g, wf_ref r)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	int failed = wf_value_time_text(g, r, &text);
	wf_buffer_free(&text);
	return failed == 0;
}

/* ---- datetime64 and timedelta64 ---- */

static const struct {
	const char *name;
	int64_t seconds; /* of one, or 0 */
	unsigned digits; /* behind the second */
} units[] = {
	{"W", 604800, 0}, {"D", 86400, 0}, {"h", 3600, 0}, {"m", 60, 0},  {"s", 1, 0},   {"ms", 0, 3},
	{"us", 0, 6},     {"ns", 0, 9},    {"ps", 0, 12},  {"fs", 0, 15}, {"as", 0, 18},
};

static int unit_of(const char *name)
{
	for (int i = 0; i < (int)(sizeof units / sizeof units[0]); i++)
		if (!strcmp(units[i].name, name))
			return i;
	return -1;
}

static void put_datetime64(__int128 amount, const char *unit, int at, struct wf_buffer *out)
{
	int64_t year, scale = 1;
	int month, day;
	for (unsigned i = 0; i < units[at].digits; i++)
		scale *= 10;
	__int128 fraction = amount % scale, seconds = amount / scale;
	if (fraction < 0) {
		fraction += scale;
		seconds--;
	}
	seconds *= units[at].seconds ? units[at].seconds : 1;
	int64_t in_day = (int64_t)(seconds % 86400);
	in_day += in_day < 0 ? 86400 : 0;
	civil((int64_t)((seconds - in_day) / 86400), &year, &month, &day);
	wf_buffer_printf(out, "%04lld-%02d-%02d", (long long)year, month, day);
	if (*unit == 'W' || *unit == 'D')
		return;
	wf_buffer_printf(out, "T%02d", (int)(in_day / 3600));
	if (*unit != 'h')
		wf_buffer_printf(out, ":%02d", (int)(in_day / 60 % 60));
	if (*unit != 'h' && strcmp(unit, "m") != 0)
		wf_buffer_printf(out, ":%02d", (int)(in_day % 60));
	if (units[at].digits)
		wf_buffer_printf(out, ".%0*llu", (int)units[at].digits, (unsigned long long)fraction);
}

int wf_value_time64_text(const struct wf_numpy_dtype *d, int64_t value, struct wf_buffer *out)
{
	__int128 amount = (__int128)value * d->step, limit = (__int128)1 << 68;
	int at = unit_of(d->unit);
	bool months = !strcmp(d->unit, "M"), years = !strcmp(d->unit, "Y");
	if (value == NOT_A_TIME) {
		wf_buffer_puts(out, "NaT");
		return wf_buffer_status(out);
	}
	/* beyond what is counted here stands the number, as for a unit that NumPy does not tell either */
	if ((at < 0 && !months && !years) || amount > limit || amount < -limit ||
	    (at >= 0 && units[at].seconds > 1 && (amount > INT64_MAX / 604800 || amount < INT64_MIN / 604800))) {
		wf_buffer_printf(out, "%lld", (long long)value);
	} else if (d->kind == 'm' && (months || years || *d->unit == 'W')) {
		wf_buffer_printf(out, "%sP%lld%c", amount < 0 ? "-" : "", (long long)(amount < 0 ? -amount : amount),
				 *d->unit);
	} else if (d->kind == 'm') {
		put_duration(units[at].seconds ? amount * units[at].seconds : amount, units[at].digits, out);
	} else if (years) {
		wf_buffer_printf(out, "%04lld", (long long)(1970 + amount));
	} else if (months) {
		int64_t year = (int64_t)(amount / 12), month = (int64_t)(amount % 12);
		year -= month < 0;
		wf_buffer_printf(out, "%04lld-%02lld", (long long)(1970 + year),
				 (long long)(month + (month < 0 ? 13 : 1)));
	} else {
		put_datetime64(amount, d->unit, at, out);
	}
	return wf_buffer_status(out);
}
