/* SPDX-License-Identifier: MIT */
/* The verbs, and what --help says of them. */
#include "fs/wfctl/verbs.h"

#include "fs/wfctl/run.h"

#define WITH_PENDING                                                                                      \
	{                                                                                                 \
		0, "with-pending", NULL,                                                                  \
			"edits that wait beside a checkpoint go along; else they are a reason to\nrefuse" \
	}
/* Of verbs that edit: the last ones of each list. */
#define EDIT_OPTIONS                                                                      \
	WITH_PENDING,                                                                     \
	{                                                                                 \
		0, "commit", "MODE", "auto, replace or append, as commit= of weightfs(1)" \
	}

const struct wfctl_verb wfctl_script_verb = {
	.name = "-f",
	.arguments = "SCRIPT",
	.summary = "run many verbs as one commit",
	.text = "Runs the verbs of a file, a line each as they would stand behind wfctl, with the quotes of a shell and comments\n"
		"behind #. What they edit is one commit, or, when one of them fails, nothing; on a mount, edits. - is standard input.",
	.options = {EDIT_OPTIONS},
	.example = "  wfctl -f edits.txt\n",
	.least = 1,
	.most = 1,
};

const struct wfctl_verb wfctl_verbs[] = {
	{
		.name = "ls",
		.arguments = "[-al] [--tree | --json | --entries | --columns] PATH [KEY...]",
		.summary = "list keys, shapes and values",
		.text = "Lists the tensors of a checkpoint, or of a mount point, in their order, with pending edits as made.\n"
			"A KEY is a path below the mount point. It stands for that entry and all below it; else it is a shell\n"
			"pattern, of which * and ? match no /; else what keys begin with.",
		.options = {{'a', "all", NULL, "values, too, and the metadata of a safetensors file"},
			    {'l', "long", NULL, "also dtype, bytes, storage and location"},
			    {0, "tree", NULL, "everything, indented, a mapping above what is in it"},
			    {0, "json", NULL, "as JSON"},
			    {0, "entries", NULL,
			     "everything, containers and links too, as the JSON of .weightfs/entries.json; no KEY"},
			    {0, "columns", NULL, "the same, shorter, as the JSON of .weightfs/columns.json; no KEY"}},
		.least = 1,
		.most = -1,
		.example = "  wfctl ls -l model.pt 'layer1.*'\n",
		.run = wfctl_ls,
	},
	{
		.name = "cat",
		.arguments = "[--raw | --npy] PATH KEY...",
		.summary = "print values and tensors",
		.text = "Prints a value as text, a tensor as print(array) of NumPy does. A KEY may end in a slice: KEY[0:10,3].",
		.options = {{0, "raw", NULL, "the bytes, as a mount has them"},
			    {0, "npy", NULL, "a .npy, as np.save writes it"}},
		.example = "  wfctl cat checkpoint.pt epoch\n  wfctl cat model.pt 'conv1.weight[0,0]'\n",
		.least = 2,
		.most = -1,
		.scripted = true,
		.run = wfctl_cat,
	},
	{
		.name = "set",
		.arguments = "[OPTION...] PATH KEY VALUE",
		.summary = "set a value, or the bytes of a tensor",
		.text = "What is there keeps its type; an int that is given a fraction becomes a float, and a 0-d tensor takes a number.\n"
			"A new key becomes what JSON reads (a number, true, false, null, a list, a \"string\"), else a str.\n"
			"Behind the KEY, -1 is a value. With --file there is no VALUE.",
		.options = {{0, "type", "TYPE",
			     "int, float, bool, null, str, bytes, bytearray, list, tuple, set, frozenset\nor complex"},
			    {0, "file", "FILE",
			     "a tensor's bytes out of a file, or a .npy with dtype and shape; - is standard\ninput"},
			    EDIT_OPTIONS},
		.example = "  wfctl set checkpoint.pt epoch 11\n  wfctl set model.pt fc.weight --file fc.npy\n",
		.least = 2,
		.most = 3,
		.plain_from = 2,
		.scripted = true,
		.run = wfctl_set,
	},
	{
		.name = "mv",
		.arguments = "[-nT] PATH KEY... TARGET",
		.summary = "rename or move keys",
		.text = "One KEY becomes TARGET, in its place where it stays in its mapping; where TARGET is a mapping, KEYs go into it.",
		.options = {{'n', "no-clobber", NULL, "leave alone what is there already"},
			    {'f', "force", NULL, "as without it: what is there is replaced"},
			    {'T', "no-target-directory", NULL, "TARGET is the new name, also where it is a mapping"},
			    EDIT_OPTIONS},
		.example = "  wfctl mv model.pt fc3.weight head.weight\n",
		.least = 3,
		.most = -1,
		.scripted = true,
		.run = wfctl_mv,
	},
	{
		.name = "rm",
		.arguments = "[-rdf] PATH KEY...",
		.summary = "remove keys",
		.text = "Removes tensors and values; mappings, lists and objects with -r.",
		.options = {{'r', "recursive", NULL, "mappings, with all that is in them"},
			    {'d', "dir", NULL, "empty mappings"},
			    {'f', "force", NULL, "a KEY that is not there is no fault"},
			    EDIT_OPTIONS},
		.example = "  wfctl rm -r checkpoint.pt optimizer_state_dict\n  wfctl rm model.pt 'fc2.*'\n",
		.least = 2,
		.most = -1,
		.scripted = true,
		.run = wfctl_rm,
	},
	{
		.name = "cp",
		.arguments = "[-rfnT] PATH KEY... TARGET | PATH:KEY... PATH:TARGET",
		.summary = "copy keys, also between checkpoints",
		.text = "Copies tensors, values and whole mappings, with their types and with the ties among what is copied. PATH:KEY is split\n"
			"at the first colon behind which a file or directory ends. A KEY that ends in /. is what is in that mapping. An object, whose\n"
			"copy would be a mapping, is copied so into one. What the other format does not say of a tensor (requires_grad, location, class)\n"
			"the copy goes without, and a line says so.",
		.options = {{0, "from", "PATH", "where KEYs are, so that no colon is looked for"},
			    {0, "to", "PATH", "where TARGET is"},
			    {'r', "recursive", NULL, "as without it: mappings are copied whole"},
			    {'f', "force", NULL, "as without it: what is there is replaced"},
			    {'n', "no-clobber", NULL, "leave alone what is there already"},
			    {'T', "no-target-directory", NULL, "TARGET is the new name, also where it is a mapping"},
			    EDIT_OPTIONS},
		.example =
			"  wfctl cp donor.pt:encoder model.pt:encoder\n  wfctl cp --from a.pt --to b.pt 'conv1.*' ''\n",
		.least = 2,
		.most = -1,
		.scripted = true,
		.run = wfctl_cp,
	},
	{
		.name = "ln",
		.arguments = "[-sfT] PATH KEY... TARGET",
		.summary = "tie tensors, or show a mapping at a second place",
		.text = "A second name of the same tensor data. With -s a mapping stands at a second place, as a symbolic link on a mount.\n"
			"Without a TARGET the name goes to the root.",
		.options = {{'s', "symbolic", NULL, "for mappings"},
			    {'f', "force", NULL, "replace what is there"},
			    {'T', "no-target-directory", NULL, "TARGET is the new name, also where it is a mapping"},
			    EDIT_OPTIONS},
		.example = "  wfctl ln model.pt embed.weight head.weight\n",
		.least = 2,
		.most = -1,
		.scripted = true,
		.run = wfctl_ln,
	},
	{
		.name = "mkdir",
		.arguments = "[-p] PATH KEY...",
		.summary = "make mappings",
		.text = "Makes empty mappings of the class of the mapping that they stand in.",
		.options = {{'p', "parents", NULL, "those above them, too; one that is there is no fault"},
			    EDIT_OPTIONS},
		.example = "  wfctl mkdir -p model.pt ema/decoder\n",
		.least = 2,
		.most = -1,
		.scripted = true,
		.run = wfctl_mkdir,
	},
	{
		.name = "rename",
		.arguments = "[OPTION...] PATH EXPRESSION... [KEY-PREFIX]",
		.summary = "rename keys by sed expressions",
		.text = "Applies s/REGEX/REPLACEMENT/FLAGS (extended regular expressions, any delimiter; & and \\1 to \\9; flags g, i and a\n"
			"number) to the str keys, unescaped, of every mapping that holds tensors; or to those of one mapping, or that begin with\n"
			"KEY-PREFIX (/ is the root), mappings among them, too. Two keys with one name are refused before anything changes; so\n"
			"is what would change keys of other mappings alone.",
		.options = {{0, "dry-run", NULL, "print old → new, and change nothing"},
			    {0, "json", NULL, "with --dry-run: as JSON, a line each"},
			    {0, "prefix", "KEY", "the KEY-PREFIX"},
			    EDIT_OPTIONS},
		.example =
			"  wfctl rename model.pt 's/^module\\.//'\n  wfctl rename --dry-run model.pt 's/^/model./'\n",
		.least = 2,
		.most = -1,
		.scripted = true,
		.run = wfctl_rename,
	},
	{
		.name = "attr",
		.arguments = "[--json] PATH KEY [NAME[=VALUE]...]",
		.summary = "show or set attributes: dtype, shape, class, ...",
		.text = "Prints all attributes of what KEY fits, or one, or sets them. NAME without a dot is user.torch.NAME (descr: that of\n"
			"user.numpy). weightfs(1) tells what they mean.",
		.options = {{0, "json", NULL, "as JSON, a line for each key"}, EDIT_OPTIONS},
		.example =
			"  wfctl attr model.pt conv1.weight shape\n  wfctl attr model.pt 'layer*' requires_grad=false\n",
		.least = 2,
		.most = -1,
		.scripted = true,
		.run = wfctl_attr,
	},
	{
		.name = "new",
		.arguments = "CHECKPOINT",
		.summary = "make an empty checkpoint",
		.text = "Writes what torch.save({}, CHECKPOINT) does (save_file({}, CHECKPOINT) for a name in .safetensors), to be filled by verbs or a mount.",
		.example = "  wfctl new head.pt && wfctl cp model.pt:fc head.pt:fc\n",
		.least = 1,
		.most = 1,
		.run = wfctl_new,
	},
	{
		.name = "mount",
		.arguments = "[-o OPTIONS] [-f] CHECKPOINT [DIRECTORY]",
		.summary = "mount a checkpoint with weightfs",
		.text = "Runs weightfs. A DIRECTORY that is missing is made, and wfctl umount removes it again; without one it is CHECKPOINT\n"
			"without its suffix.",
		.options = {{'o', "options", "OPTIONS", "those of weightfs(1)"},
			    {'f', "foreground", NULL, "stay until it is unmounted"}},
		.example = "  wfctl mount model.pt && ls model && wfctl umount model\n",
		.least = 1,
		.most = 2,
		.run = wfctl_mount,
	},
	{
		.name = "verify",
		.arguments = "[--json] CHECKPOINT",
		.summary = "check structure, CRCs and bounds",
		.text = "Checks a checkpoint without its pending edits. Warnings, such as a CRC of zero that torch wrote on purpose,\n"
			"are no faults.",
		.options = {{0, "json", NULL,
			     "as JSON: one object with path, sound, faults, warnings and the problems"}},
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
		.example =
			"  wfctl export yolo.pt yolo.safetensors\n  wfctl export --prefix=state_dict last.ckpt weights.pt\n",
		.least = 2,
		.most = 2,
		.run = wfctl_export,
	},
	{
		.name = "repack",
		.arguments = "[--trim] [--align=N] [--with-pending] CHECKPOINT",
		.summary = "rewrite without dead bytes",
		.text = "Rewrites a checkpoint that is not mounted without the bytes that nothing uses any more.",
		.options = {{0, "trim", NULL, "cut each storage to what its views use"},
			    {0, "align", "N",
			     "begin each storage at a multiple of N bytes, a power of two up to 32768, as torch's\n"
			     "storage_alignment does: 4096 for mapping and direct I/O"},
			    WITH_PENDING},
		.example = "  wfctl repack --trim model.pt\n",
		.least = 1,
		.most = 1,
		.run = wfctl_repack,
	},
};

const size_t wfctl_verb_count = sizeof wfctl_verbs / sizeof *wfctl_verbs;
