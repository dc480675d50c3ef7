/* SPDX-License-Identifier: MIT */
/* Writes floating-point numbers with the fewest digits. */
#include "fs/wfctl/float_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int digits_max(enum wfctl_width width)
{
	return width == WFCTL_EXTENDED ? 21 : 17;
}

double wfctl_half(uint16_t bits)
{
	int exponent = bits >> 10 & 31, mantissa = bits & 1023;
	double v = exponent == 31 ? (mantissa ? NAN : INFINITY)
		   : exponent     ? ldexp(1024 + mantissa, exponent - 25)
				  : ldexp(mantissa, -24);
	return bits & 0x8000 ? -v : v;
}

/*  0  8  mantissa, its first digit with it
 *  8  2  sign and exponent */
long double wfctl_extended(const void *element)
{
	uint64_t mantissa;
	uint16_t top;
	memcpy(&mantissa, element, sizeof mantissa);
	memcpy(&top, (const char *)element + sizeof mantissa, sizeof top);
	int exponent = top & 0x7fff;
	bool normal = mantissa >> 63;
	long double v;
	if (exponent == 0x7fff || (exponent > 0 && !normal))
		v = normal && mantissa << 1 == 0 ? INFINITY : NAN;
	else
		v = ldexpl((long double)mantissa, (exponent > 0 ? exponent : 1) - 16446);
	return top & 0x8000 ? -v : v;
}

/* The nearest number of that width; v is positive. */
static double narrow(double v, enum wfctl_width width)
{
	int exponent;
	if (width == WFCTL_DOUBLE)
		return v;
	if (width == WFCTL_SINGLE)
		return (double)(float)v;
	frexp(v, &exponent);
	double unit = ldexp(1, (exponent < -13 ? -13 : exponent) - 11), n = nearbyint(v / unit) * unit;
	return n >= 65520 ? INFINITY : n;
}

static bool reads_back(const char *text, long double v, enum wfctl_width width)
{
	if (width == WFCTL_EXTENDED)
		return strtold(text, NULL) == v;
	return (width == WFCTL_SINGLE ? (double)strtof(text, NULL) : narrow(strtod(text, NULL), width)) == v;
}

/* The next decimal above the first n digits of v; where a power of two has a nearer neighbour below than above, that may be the only one
 * of so few digits that reads back. */
static void round_up(long double v, int n, char *text)
{
	char digits[64];
	snprintf(digits, sizeof digits, "%.*Le", 40, v);
	int exponent = atoi(strchr(digits, 'e') + 1);
	memmove(digits + 1, digits + 2, (size_t)n - 1); /* without the point */
	int i = n - 1;
	while (i >= 0 && digits[i] == '9')
		digits[i--] = '0';
	if (i < 0) {
		digits[0] = '1';
		exponent++;
	} else {
		digits[i]++;
	}
	int at = sprintf(text, "%c", digits[0]);
	if (n > 1)
		at += sprintf(text + at, ".%.*s", n - 1, digits + 1);
	sprintf(text + at, "e%+03d", exponent);
}

/* The fewest digits, as %e writes them. Returns how many; v is positive. */
static int shortest(long double v, enum wfctl_width width, char text[64])
{
	int exponent;
	bool power = frexpl(v, &exponent) == 0.5L;
	for (int n = 1; n < digits_max(width); n++) {
		snprintf(text, 64, "%.*Le", n - 1, v);
		if (reads_back(text, v, width))
			return n;
		if (!power)
			continue;
		round_up(v, n, text);
		if (reads_back(text, v, width))
			return n;
	}
	snprintf(text, 64, "%.*Le", digits_max(width) - 1, v);
	return digits_max(width);
}

static void strip_zeros(char *text)
{
	size_t len = strlen(text);
	while (len > 0 && text[len - 1] == '0')
		text[--len] = '\0';
}

/* Digits and a power of ten as 123.45. */
static void place_point(const char *scientific, char *text)
{
	int exponent = atoi(strchr(scientific, 'e') + 1);
	char digits[64];
	size_t n = 0;
	for (const char *c = scientific; *c != 'e'; c++)
		if (*c != '.')
			digits[n++] = *c;
	char *out = text;
	if (exponent < 0) {
		out += sprintf(out, "0.");
		for (int i = -1; i > exponent; i--)
			*out++ = '0';
		memcpy(out, digits, n);
		out[n] = '\0';
		return;
	}
	for (int i = 0; i <= exponent; i++)
		*out++ = (size_t)i < n ? digits[i] : '0';
	*out++ = '.';
	for (size_t i = (size_t)exponent + 1; i < n; i++)
		*out++ = digits[i];
	*out = '\0';
}

static int digits_behind(const char *scientific, int n)
{
	return n - 1 - atoi(strchr(scientific, 'e') + 1);
}

void wfctl_float_positional(long double v, enum wfctl_width width, int most, char text[WFCTL_FLOAT_TEXT])
{
	char few[64];
	if (signbit(v))
		*text++ = '-';
	v = fabsl(v);
	int n = v == 0 ? 0 : shortest(v, width, few);
	if (v == 0)
		strcpy(text, "0.");
	else if (digits_behind(few, n) <= most)
		place_point(few, text);
	else
		snprintf(text, WFCTL_FLOAT_TEXT - 1, "%.*Lf", most, v);
	strip_zeros(text);
}

void wfctl_float_scientific(long double v, enum wfctl_width width, int least, int most, char text[WFCTL_FLOAT_TEXT])
{
	char few[64], digits[64];
	if (signbit(v))
		*text++ = '-';
	v = fabsl(v);
	int n = v == 0 ? 1 : shortest(v, width, few), want = n < least + 1 ? least + 1 : n > most + 1 ? most + 1 : n;
	if (v == 0 || n != want)
		snprintf(few, sizeof few, "%.*Le", want - 1, v);
	char *e = strchr(few, 'e');
	snprintf(digits, sizeof digits, "%.*s%s", (int)(e - few), few, memchr(few, '.', (size_t)(e - few)) ? "" : ".");
	while (strlen(digits) > (size_t)least + 2 && digits[strlen(digits) - 1] == '0')
		digits[strlen(digits) - 1] = '\0';
	snprintf(text, WFCTL_FLOAT_TEXT - 1, "%s%s", digits, e);
}

void wfctl_float_scalar(long double v, enum wfctl_width width, bool part, char text[WFCTL_FLOAT_TEXT])
{
	/* NumPy counts the digits that a type has for sure */
	long double size = fabsl(v), large = width == WFCTL_HALF ? 1e3 : width == WFCTL_SINGLE ? 1e6 : 1e16;
	if (!isfinite(v)) {
		strcpy(text, isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
	} else if (v == 0 || (size >= 1e-4 && size < large)) {
		wfctl_float_positional(v, width, 1000, text);
		size_t len = strlen(text);
		if (text[len - 1] == '.')
			strcpy(text + len - part, part ? "" : "0");
	} else {
		wfctl_float_scientific(v, width, 0, digits_max(width), text);
		char *e = strchr(text, 'e');
		if (e[-1] == '.')
			memmove(e - 1, e, strlen(e) + 1);
	}
}
