/* SPDX-License-Identifier: MIT */
/* Whether the containers of a checkpoint are so many times at other places that a file for each directory, which enters them there, would
 * take more time than anybody has: 5,000 objects with one state of 50,000 attributes are 250 million names in a few hundred kilobytes.
 *
 * The answer follows from the tree alone, so that a file does not depend on what was looked at before. O(nodes) once after an edit, and
 * nothing where no container is at two places. Threads: the checkpoint's lock is held.
 */
#pragma once

#include "codec/edit/state.h"

#define WF_NAMES_AGAIN 20000u /* entries that one file enters a second time, at most */

bool wf_names_crossed(struct wf_checkpoint *ck);
