/* SPDX-License-Identifier: MIT */
/* One line on standard error, in which nothing of a checkpoint or a path can move the cursor or add a line. Of both
 * programs. */
#pragma once

/* "PROGRAM: WHAT: why"; without WHAT when it is NULL. */
void fs_say(const char *program, const char *what, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
