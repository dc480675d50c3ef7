#include "overlay.h"

/* The overlay is not linked in yet: there is none. */
int wf_overlay_open(const struct wf_overlay_options *options, struct wf_overlay **ret, struct wf_error *err)
{
	*ret = NULL;
	return 0;
}

void wf_overlay_close(struct wf_overlay *ov)
{
}

const struct wf_overlay_base *wf_overlay_base(const struct wf_overlay *ov)
{
	return NULL;
}

bool wf_overlay_is_dirty(const struct wf_overlay *ov)
{
	return false;
}

void wf_overlay_usage(const struct wf_overlay *ov, struct wf_overlay_usage *ret)
{
	*ret = (struct wf_overlay_usage){ 0 };
}
