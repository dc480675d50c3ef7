/* SPDX-License-Identifier: MIT */
/* Floating-point numbers as NumPy writes them: the fewest digits that tell a number of its width from its neighbours, or so many. */
#pragma once

#include <float.h>
#include <stdbool.h>
#include <stdint.h>

enum wfctl_width { WFCTL_HALF, WFCTL_SINGLE, WFCTL_DOUBLE, WFCTL_EXTENDED };

/* What the x87 has, and NumPy's longdouble there, is written where the compiler has it. */
#define WFCTL_HAS_EXTENDED (LDBL_MANT_DIG == 64)

#define WFCTL_FLOAT_TEXT 400

/* "123.45" with at most `most` digits behind the point and no zeros at its end, the point always; "-0." of what is zero then. */
void wfctl_float_positional(long double v, enum wfctl_width width, int most, char text[WFCTL_FLOAT_TEXT]);
/* "1.2345e-05" with `least` to `most` digits behind the point, no more zeros than that, the point always. */
void wfctl_float_scientific(long double v, enum wfctl_width width, int least, int most, char text[WFCTL_FLOAT_TEXT]);
/* str() of a NumPy scalar. part: of a complex number, where zeros behind the point go with it. */
void wfctl_float_scalar(long double v, enum wfctl_width width, bool part, char text[WFCTL_FLOAT_TEXT]);
double wfctl_half(uint16_t bits);
/* The number of those ten bytes, which need not be one that a processor makes. */
long double wfctl_extended(const void *element);
