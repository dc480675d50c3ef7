/* SPDX-License-Identifier: MIT */
/* Floating-point numbers as NumPy writes them: the fewest digits that tell a number of its width from its neighbours, or so many. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum wfctl_width { WFCTL_HALF, WFCTL_SINGLE, WFCTL_DOUBLE };

#define WFCTL_FLOAT_TEXT 400

/* "123.45" with at most `most` digits behind the point and no zeros at its end, the point always; "-0." of what is zero then. */
void wfctl_float_positional(double v, enum wfctl_width width, int most, char text[WFCTL_FLOAT_TEXT]);
/* "1.2345e-05" with `least` to `most` digits behind the point, no more zeros than that, the point always. */
void wfctl_float_scientific(double v, enum wfctl_width width, int least, int most, char text[WFCTL_FLOAT_TEXT]);
/* str() of a NumPy scalar. part: of a complex number, where zeros behind the point go with it. */
void wfctl_float_scalar(double v, enum wfctl_width width, bool part, char text[WFCTL_FLOAT_TEXT]);
double wfctl_half(uint16_t bits);
