/* SPDX-License-Identifier: MIT */
/* Writes and reads floating-point numbers as text, the same in every locale. */
#include "codec/bytes/number.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The process's locale may take a comma for the decimal point. In glibc the "C" locale is a constant: nothing is made or freed. */
static locale_t enter_c_locale(void)
{
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	return c ? uselocale(c) : (locale_t)0;
}

static void leave_c_locale(locale_t before)
{
	if (before)
		freelocale(uselocale(before));
}

static void layout(double v, char *buf)
{
	char digits[32];
	int precision = 0;
	if (isnan(v) || isinf(v)) {
		strcpy(buf, isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
		return;
	}
	do /* the fewest digits that read back to the same double: never more than 17 */
		snprintf(digits, sizeof digits, "%.*e", precision, v);
	while (strtod(digits, NULL) != v && ++precision < 17);
	/* laid out as Python's repr: plain from 1e-4 up to 1e16, with at least one digit behind the point */
	int exponent = atoi(strchr(digits, 'e') + 1);
	if (exponent < -4 || exponent >= 16) {
		char *e = strchr(digits, 'e');
		snprintf(buf, 32, "%.*se%c%02d", (int)(e - digits), digits, exponent < 0 ? '-' : '+', abs(exponent));
		return;
	}
	int decimals = precision - exponent;
	snprintf(buf, 32, "%.*f", decimals > 0 ? decimals : 1, v);
}

void wf_double_text(double v, char *buf)
{
	locale_t before = enter_c_locale();
	layout(v, buf);
	leave_c_locale(before);
}

void wf_long_double_text(long double v, char *buf)
{
	int precision = 17;
	char digits[64];
	locale_t before = enter_c_locale();
	if (isnan(v) || isinf(v) || (long double)(double)v == v)
		layout((double)v, buf);
	else {
		/* an array of its own: under the sanitizers gcc takes buf for NULL otherwise */
		do
			snprintf(digits, sizeof digits, "%.*Lg", precision, v);
		while (strtold(digits, NULL) != v && ++precision < 22);
		memcpy(buf, digits, sizeof digits);
	}
	leave_c_locale(before);
}

double wf_strtod(const char *text, char **ret_end)
{
	locale_t before = enter_c_locale();
	double v = strtod(text, ret_end);
	leave_c_locale(before);
	return v;
}
