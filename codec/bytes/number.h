/* SPDX-License-Identifier: MIT */
/* Floating-point numbers as text, the same in every locale: with a point. */
#pragma once

/* The shortest text that reads back to the same double, laid out as Python's repr; NaN, Infinity, -Infinity as JSON has them. buf holds
 * 32. */
void wf_double_text(double v, char *buf);
/* The same where it is a double's, else with as many digits as read back. buf holds 64. */
void wf_long_double_text(long double v, char *buf);
/* strtod. */
double wf_strtod(const char *text, char **ret_end);
