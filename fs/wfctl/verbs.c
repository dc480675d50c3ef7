/* The verbs, and what --help says of them. */
#include "fs/wfctl/verbs.h"

#include "fs/wfctl/run.h"

const struct wfctl_verb wfctl_verbs[] = {
	{
		.name = "ls",
		.arguments = "[-al] [--json | --entries] PATH [KEY...]",
		.summary = "list keys, shapes and values",
		.text = "Lists the tensors of a checkpoint, or of a mount point, in their order, with pending edits as made.\n"
			"A KEY is a path below the mount point. It stands for that entry and all below it; else it is a shell\n"
			"pattern, of which * and ? match no /; else what keys begin with.",
		.options = {{'a', "all", NULL, "values, too"},
			    {'l', "long", NULL, "also dtype, bytes, storage and location"},
			    {0, "json", NULL, "as JSON"},
			    {0, "entries", NULL, "everything, containers and links too, as the JSON of .weightfs/entries.json; no KEY"}},
		.least = 1,
		.most = -1,
		.example = "  wfctl ls -l model.pt 'layer1.*'\n",
		.run = wfctl_ls,
	},
	{
		.name = "verify",
		.arguments = "CHECKPOINT",
		.summary = "check structure, CRCs and bounds",
		.text = "Checks a checkpoint without its pending edits. Warnings, such as a CRC of zero that torch wrote on purpose,\n"
			"are no faults.",
		.example = "  wfctl verify model.pt && cp model.pt /archive/\n",
		.least = 1,
		.most = 1,
		.run = wfctl_verify,
	},
	{
		.name = "status",
		.arguments = "PATH",
		.summary = "show the pending edits of a mount or a checkpoint",
		.text = "Prints as JSON what waits for a commit, how far one is, and why the last one failed. PATH is a mount point,\n"
			"or a checkpoint that is not mounted.",
		.example = "  wfctl status mnt\n",
		.least = 1,
		.most = 1,
		.run = wfctl_status,
	},
	{
		.name = "commit",
		.arguments = "[--onto=FILE] PATH",
		.summary = "write the pending edits into the checkpoint",
		.text = "PATH is a mount point, or a checkpoint that is not mounted. Returns when the checkpoint is written; on a\n"
			"terminal a long commit shows how far it is. When it fails, the edits stay as they are.",
		.options = {{0, "onto", "FILE",
			     "the edits that wait beside PATH, which someone else changed, go into FILE (PATH as\n"
			     "it is now, or another checkpoint): all of them where every name that they touch\n"
			     "is there with the same dtype and shape, else none"}},
		.example = "  wfctl commit mnt\n  wfctl commit --onto=model.pt model.pt\n",
		.least = 1,
		.most = 1,
		.run = wfctl_commit,
	},
	{
		.name = "discard",
		.arguments = "PATH",
		.summary = "drop the pending edits",
		.text = "PATH is a mount point on which no file is open, or a checkpoint that is not mounted. The checkpoint is then\n"
			"what its file says.",
		.example = "  wfctl discard mnt\n",
		.least = 1,
		.most = 1,
		.run = wfctl_discard,
	},
	{
		.name = "umount",
		.arguments = "MOUNTPOINT",
		.summary = "commit, unmount, and return when all is written",
		.text = "When the commit fails, a line says why and the mount stays as it is. Who mounted it, and root, can unmount it.",
		.example = "  wfctl umount mnt\n",
		.least = 1,
		.most = 1,
		.run = wfctl_umount,
	},
	{
		.name = "export",
		.arguments = "[OPTION...] PATH OUT",
		.summary = "write the tensors into a new file of another format",
		.text = "Writes the tensors of a checkpoint, or of a mount point, with pending edits as made, into OUT: a safetensors file,\n"
			"a plain state_dict that torch.load reads with weights_only, or an .npz. Names are the keys on the way, joined\n"
			"with '.'. A module or a TorchScript archive becomes its state_dict. Values have no place there and are left out.\n"
			"OUT has a temporary name until it is whole.",
		.options = {{0, "format", "FORMAT", "safetensors, pt or npz; else the suffix of OUT tells"},
			    {0, "prefix", "KEY", "only what is below this mapping, as model or state_dict"},
			    {0, "max-shard-size", "SIZE",
			     "several safetensors files of at most SIZE each (5GB, 500MiB) with an index\n"
			     "beside them, as Hugging Face has it"},
			    {0, "skip", NULL, "leave out tensors that the format cannot hold"}},
		.example = "  wfctl export yolo.pt yolo.safetensors\n  wfctl export --prefix=state_dict last.ckpt weights.pt\n",
		.least = 2,
		.most = 2,
		.run = wfctl_export,
	},
	{
		.name = "repack",
		.arguments = "[--trim] CHECKPOINT",
		.summary = "rewrite without dead bytes",
		.text = "Rewrites a checkpoint that is not mounted without the bytes that nothing uses any more.",
		.options = {{0, "trim", NULL, "cut each storage to what its views use"}},
		.example = "  wfctl repack --trim model.pt\n",
		.least = 1,
		.most = 1,
		.run = wfctl_repack,
	},
};

const size_t wfctl_verb_count = sizeof wfctl_verbs / sizeof *wfctl_verbs;
