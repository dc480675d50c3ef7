# SPDX-License-Identifier: MIT
"""The module weightfs on files, with NumPy alone; torch's part is skipped where torch is not installed.

    pytest contrib/python/tests                                  or, without pytest:
    python3 -m unittest discover -s contrib/python/tests

wfctl is the one of WEIGHTFS_WFCTL, of a build in build/, or of PATH. tests/torch/test_python_module.py compares every case with torch.load.
"""
import collections
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, "..", "..", "..")
try:
    import weightfs
except ImportError:
    sys.path.insert(0, os.path.join(HERE, ".."))
    import weightfs
built = os.path.join(TOP, "build", "fs", "wfctl")
if "WEIGHTFS_WFCTL" not in os.environ and os.path.exists(built):
    os.environ["WEIGHTFS_WFCTL"] = built
try:
    import numpy
except ImportError:
    numpy = None
try:
    import torch
except ImportError:
    torch = None
FILES = os.path.join(TOP, "tests", "files", "torch")

need_numpy = unittest.skipIf(numpy is None, "NumPy is missing")
need_torch = unittest.skipIf(torch is None, "torch is missing")


def file(name):
    return os.path.join(FILES, f"good-{name}.pt")


class Folder(unittest.TestCase):
    """A directory of its own for each test."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="weightfs-module-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.path = os.path.join(self.dir, "m.pt")

    def wfctl(self, *arguments):
        r = subprocess.run([weightfs.entries.wfctl(), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stdout

    def refused(self, kind, call, *words):
        """It raises that, in one line that has these words."""
        with self.assertRaises(kind) as caught:
            call()
        text = str(caught.exception)
        self.assertEqual(len(text.splitlines()), 1, text)
        for word in words:
            self.assertIn(word, text)


class Listings(Folder):
    def test_columns_say_what_lines_say(self):
        """Of every file of the tests, whatever is in it."""
        runs = 0
        for name in sorted(os.listdir(FILES)):
            if not name.startswith("good-"):
                continue
            path = os.path.join(FILES, name)
            items, leases = weightfs.entries._items(self.wfctl("ls", "--columns", path))
            self.assertFalse(leases)
            runs += sum(isinstance(item, weightfs.entries.Run) for item in items)
            self.assertEqual(weightfs.entries.lines_of(items), weightfs.entries._parsed(self.wfctl("ls", "--entries", path)), name)
        self.assertGreater(runs, 20)


class Views(Folder):
    def test_a_mapping(self):
        with weightfs.open(file("general"), "numpy") as checkpoint:
            self.assertEqual(list(checkpoint), ["epoch", "model_state_dict", "optimizer_state_dict", "loss"])
            self.assertEqual((len(checkpoint), checkpoint.type, checkpoint.path), (4, "dict", ""))
            self.assertIn("epoch", checkpoint)
            self.assertNotIn("nothing", checkpoint)
            self.assertEqual(checkpoint.get("nothing", 3), 3)
            self.assertRaises(KeyError, lambda: checkpoint["nothing"])
            self.assertRaises(KeyError, lambda: checkpoint.info("epoch"))
            self.assertRaises(KeyError, lambda: checkpoint.tensor("nothing"))
            self.assertEqual(checkpoint["model_state_dict"].type, "collections.OrderedDict")
            self.assertEqual(checkpoint["model_state_dict"].path, "model_state_dict")
            self.assertEqual(checkpoint.paths()[0], "model_state_dict/conv.weight")
            self.assertIn("4 entries", repr(checkpoint))

    def test_a_sequence(self):
        with weightfs.open(file("ties"), "numpy") as checkpoint:
            groups = checkpoint["list"]
            self.assertEqual((len(groups), groups.type), (3, "list"))
            self.assertRaises(IndexError, lambda: groups[3])
            if numpy:
                self.assertEqual([t.shape for t in groups[1:]], [(4,), (5,)])
                self.assertEqual(groups[-1].tolist(), groups[2].tolist())

    def test_cycles_end(self):
        with weightfs.open(file("cycles"), "numpy") as checkpoint:
            self.assertEqual(checkpoint["self"]["child"]["parent"]["name"], "root")
            self.assertEqual(checkpoint["list"][0].path, "")

    def test_keys_of_other_types(self):
        with weightfs.open(file("keys-of-other-types"), "numpy") as checkpoint:
            self.assertEqual(list(checkpoint["ints"])[:4], [0, 1, -3, 10 ** 30])
            self.assertEqual((checkpoint["mixed"][1], checkpoint["mixed"]["1"]), ("int", "str"))
            self.assertEqual((checkpoint["bools"][True], checkpoint["bools"]["true"]), (1, 2))

    def test_a_root_that_is_no_container(self):
        with weightfs.open(file("root-int")) as checkpoint:
            self.assertEqual(list(checkpoint), ["value"])
            self.assertIsInstance(checkpoint["value"], int)

    def test_values_keep_their_types(self):
        self.wfctl("new", self.path)
        wanted = {"i": 3, "big": 10 ** 40, "f": 0.1, "t": True, "n": None, "s": "text", "line": "two\nlines", "l": [1, [2.5, "x"], None], "e": ""}
        for key, value in wanted.items():
            kind = {int: "int", float: "float", bool: "bool", str: "str"}.get(type(value))
            text = {True: "true", None: "null"}.get(value, str(value)) if not isinstance(value, list) else '[1, [2.5, "x"], null]'
            self.wfctl("set", *(["--type", kind] if kind else []), self.path, key, text)
        with weightfs.open(self.path) as checkpoint:
            for key, value in wanted.items():
                self.assertEqual((type(checkpoint[key]), checkpoint[key]), (type(value), value))

    def test_edits_that_wait_are_seen(self):
        shutil.copyfile(file("general"), self.path)
        before = weightfs.open(self.path)
        self.wfctl("set", self.path, "epoch", "41")
        self.assertEqual(before["epoch"], 5)  # it was opened before
        self.assertEqual(weightfs.open(self.path)["epoch"], 41)

    def test_a_folder_called_torch_is_no_torch(self):
        os.mkdir(os.path.join(self.dir, "torch"))
        code = "import sys, weightfs; print(weightfs.open(sys.argv[1])['fc3.bias'].shape); import weightfs.entries as e; print(e.has_torch())"
        package = os.path.dirname(os.path.dirname(os.path.abspath(weightfs.__file__)))
        if numpy is None:
            self.skipTest("NumPy is missing")
        r = subprocess.run([sys.executable, "-c", code, os.path.abspath(file("tutorial"))], cwd=self.dir, env={**os.environ, "PYTHONPATH": package},
                           stdout=subprocess.PIPE, text=True)
        self.assertEqual(r.stdout.splitlines()[1:], [str(torch is not None)])

    def test_paths(self):
        odd = os.path.join(self.dir, "-l ü\n.pt")
        shutil.copyfile(file("general"), odd)
        for path in (odd, pathlib.Path(odd), os.path.relpath(odd)):
            self.assertEqual(weightfs.open(path)["epoch"], 5)


class Refused(Folder):
    def test_what_is_no_checkpoint(self):
        text = os.path.join(self.dir, "text.txt")
        with open(text, "w") as f:
            f.write("no checkpoint\n")
        for path, words in ((text, ["text.txt"]), (os.path.join(self.dir, "missing"), ["missing", "No such file"])):
            self.refused(weightfs.Error, lambda path=path: weightfs.open(path), *words)
        with open(file("tutorial"), "rb") as whole, open(self.path, "wb") as f:
            f.write(whole.read()[:5000])
        self.refused(weightfs.Error, lambda: weightfs.open(self.path), "m.pt")
        self.refused(ValueError, lambda: weightfs.open("a\0b"), "null")

    def test_no_framework_of_that_name(self):
        self.refused(ValueError, lambda: weightfs.open(file("general"), "jax"), "torch or numpy", "jax")

    def test_no_wfctl(self):
        before = os.environ.get("WEIGHTFS_WFCTL")
        self.addCleanup(lambda: os.environ.pop("WEIGHTFS_WFCTL") if before is None else os.environ.__setitem__("WEIGHTFS_WFCTL", before))
        os.environ["WEIGHTFS_WFCTL"] = "/nonexistent/wfctl"
        self.refused(weightfs.Error, lambda: weightfs.open(file("general")), "/nonexistent/wfctl", "No such file")

    @need_numpy
    def test_bytes_that_are_not_there(self):
        with weightfs.open(file("meta"), "numpy") as checkpoint:
            self.refused(weightfs.Error, lambda: checkpoint["meta"], "meta", "no bytes")
            self.assertEqual(checkpoint.info("meta")["shape"], [3, 4])

    def test_without_torch_and_numpy(self):
        code = ("import sys; sys.modules.update(torch=None, numpy=None); import weightfs; c = weightfs.open(sys.argv[1]); print(c['epoch'])\n"
                "for call in (lambda: c['model_state_dict']['fc.bias'], lambda: weightfs.load(sys.argv[1])):\n"
                "    try: call()\n"
                "    except ImportError as e: print(e)\n")
        r = subprocess.run([sys.executable, "-c", code, file("general")], stdout=subprocess.PIPE, text=True,
                           env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(weightfs.__file__)))})
        lines = r.stdout.splitlines()
        self.assertEqual((r.returncode, len(lines), lines[:1]), (0, 3, ["5"]), r.stdout)
        self.assertIn("pip install numpy", lines[1])
        self.assertIn("torch is not installed", lines[2])


@need_numpy
class Arrays(Folder):
    def test_every_dtype_of_numpy(self):
        self.wfctl("new", self.path)
        arrays = {}
        for dtype in ("?", "u1", "i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8", "<c8", "<c16"):
            for shape in ((), (0,), (7,), (2, 3, 4), (3, 0, 2)):
                key = f"{numpy.dtype(dtype).name}-{'x'.join(map(str, shape))}"
                count = int(numpy.prod(shape, dtype=int))
                arrays[key] = (numpy.arange(count) % 2 if dtype == "?" else numpy.arange(count) - (0 if dtype == "u1" else 3)).astype(dtype).reshape(shape)
                numpy.save(os.path.join(self.dir, key), arrays[key])
        with open(os.path.join(self.dir, "script"), "w") as script:
            script.writelines(f"set --file {self.dir}/{key}.npy {self.path} {key}\n" for key in arrays)
        self.wfctl("-f", script.name)
        with weightfs.open(self.path, framework="numpy") as checkpoint:
            self.assertEqual(list(checkpoint), list(arrays))
            for key, wanted in arrays.items():
                got = checkpoint[key]
                self.assertEqual((got.dtype, got.shape, got.tobytes()), (wanted.dtype, wanted.shape, wanted.tobytes()), key)
                self.assertEqual(checkpoint.info(key)["shape"], list(wanted.shape))

    def test_what_is_changed_stays_in_the_process(self):
        shutil.copyfile(file("tutorial"), self.path)
        with weightfs.open(self.path, "numpy") as checkpoint:
            array = checkpoint["conv1.weight"]
            array += 1
        self.assertFalse((weightfs.open(self.path, "numpy")["conv1.weight"] == array).any())
        with open(self.path, "rb") as ours, open(file("tutorial"), "rb") as theirs:
            self.assertEqual(ours.read(), theirs.read())

    def test_arrays_outlive_the_file(self):
        shutil.copyfile(file("tutorial"), self.path)
        checkpoint = weightfs.open(self.path, "numpy")
        array = checkpoint["fc3.bias"]
        wanted = array.tolist()
        del checkpoint
        self.wfctl("rm", self.path, "conv1.weight")  # a new file in its place
        self.assertEqual(array.tolist(), wanted)

    def test_a_file_that_was_replaced_is_not_read_as_the_old_one(self):
        shutil.copyfile(file("tutorial"), self.path)
        checkpoint = weightfs.open(self.path, "numpy")
        wanted = weightfs.open(file("tutorial"), "numpy")["fc3.bias"].tolist()
        self.wfctl("rm", self.path, "conv1.weight")
        self.assertEqual(checkpoint["fc3.bias"].tolist(), wanted)
        self.refused(weightfs.Error, lambda: checkpoint["conv1.weight"], "conv1.weight")

    def test_what_numpy_has_no_type_for(self):
        with weightfs.open(file("dtypes"), "numpy") as checkpoint:
            try:
                import ml_dtypes
            except ImportError:
                self.refused(TypeError, lambda: checkpoint["bfloat16"], "bfloat16", "ml_dtypes")
            else:
                self.assertEqual(checkpoint["bfloat16"].dtype, ml_dtypes.bfloat16)
        with weightfs.open(file("quantised"), "numpy") as checkpoint:
            self.refused(TypeError, lambda: checkpoint["quint8"], "quint8")

    def test_views_and_conjugates(self):
        for name in ("views", "views-legacy", "conjugates", "sparse"):
            with weightfs.open(file(name), "numpy") as checkpoint:
                for path in checkpoint.paths():
                    line = checkpoint.info(path)
                    raw = subprocess.run([weightfs.entries.wfctl(), "cat", "--raw", "--", file(name), path], stdout=subprocess.PIPE).stdout
                    array = checkpoint.tensor(path)
                    self.assertEqual((list(array.shape), array.tobytes()), (line["shape"], raw), f"{name}: {path}")

    def test_side_by_side(self):
        with weightfs.open(file("tutorial"), "numpy") as checkpoint, concurrent.futures.ThreadPoolExecutor(8) as pool:
            sums = list(pool.map(lambda _: [float(checkpoint[key].sum()) for key in checkpoint], range(32)))
        self.assertEqual(sums, [sums[0]] * 32)

    def test_neither_torch_nor_the_tensors_are_touched(self):
        code = ("import resource, sys; sys.modules['torch'] = None; import numpy, weightfs; c = weightfs.open(sys.argv[1])\n"
                "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; a = c['k']; print(a.nbytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)")
        with open(os.path.join(self.dir, "zeros"), "wb") as f:
            f.truncate(1 << 26)
        self.wfctl("new", self.path)
        self.wfctl("set", "--file", f.name, self.path, "k")
        r = subprocess.run([sys.executable, "-c", code, self.path], stdout=subprocess.PIPE, text=True,
                           env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(weightfs.__file__)))})
        size, more_kib = map(int, r.stdout.split())
        self.assertEqual(size, 1 << 26)
        self.assertLess(more_kib, 4096)


class Directories(Folder):
    """Checkpoints in several files: what stands in one is mapped there, and what is put together of several is read."""

    def check(self, path, some):
        with weightfs.open(path, "numpy") as checkpoint:
            lines = [line for line in checkpoint._reader.lines.values() if weightfs.entries.is_tensor(line) and line["path"].startswith(some)]
            self.assertTrue(lines)
            for line in lines:
                array = checkpoint.tensor(line["path"])
                self.assertEqual((list(array.shape), array.tobytes()), (line["shape"], self.wfctl("cat", "--raw", path, line["path"])), line["path"])
        return lines

    @need_numpy
    def test_of_torch_distributed_checkpoint(self):
        lines = self.check(os.path.join(FILES, "..", "dcp", "dtensor-2"), "")
        self.assertTrue(any(len(line.get("runs", [])) > 2 for line in lines))

    @need_numpy
    def test_of_deepspeed(self):
        lines = self.check(os.path.join(FILES, "..", "zero", "stage2-bf16"), "optimizer/")
        self.assertTrue(any(len(line.get("runs", [])) > 1 for line in lines))


class Mounts(Folder):
    def setUp(self):
        super().setUp()
        program = os.path.join(os.path.dirname(weightfs.entries.wfctl()), "weightfs")
        mnt = os.path.join(self.dir, "mnt")
        shutil.copyfile(file("general"), self.path)
        os.mkdir(mnt)
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            self.skipTest("/dev/fuse is missing, or not for this user")
        r = subprocess.run([program, self.path, mnt], stderr=subprocess.PIPE, text=True)
        if r.returncode and "fusermount3" in r.stderr:
            self.skipTest(r.stderr)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.mnt = mnt
        self.addCleanup(lambda: os.path.ismount(mnt) and self.wfctl("umount", mnt))

    def test_a_mount_and_a_place_in_it(self):
        with weightfs.open(self.mnt, "numpy") as checkpoint:
            self.assertEqual(checkpoint["epoch"], 5)
        with weightfs.open(os.path.join(self.mnt, "model_state_dict"), "numpy") as part:
            self.assertEqual(list(part)[0], "conv.weight")
            if numpy:
                self.assertEqual(part["conv.weight"].shape, (2, 1, 3, 3))

    def test_edits_are_seen_and_a_mount_is_let_go(self):
        with open(os.path.join(self.mnt, "epoch"), "w") as f:
            f.write("6\n")
        with weightfs.open(self.mnt, "numpy") as checkpoint:
            self.assertEqual(checkpoint["epoch"], 6)
            arrays = [checkpoint.tensor(path) for path in checkpoint.paths()] if numpy else []
        self.wfctl("umount", self.mnt)
        self.assertEqual(weightfs.open(self.path)["epoch"], 6)
        for array in arrays:
            array.sum()


@need_torch
class Torch(Folder):
    def test_load_is_torch_load(self):
        for name in ("tutorial", "general", "dtypes", "shapes", "general-legacy"):
            wanted, got = torch.load(file(name)), weightfs.load(file(name))
            self.compare(got, wanted, name)

    def compare(self, got, wanted, where):
        self.assertIs(type(got), type(wanted), where)
        if isinstance(wanted, dict):
            self.assertEqual(list(got), list(wanted), where)
        if isinstance(wanted, torch.Tensor):
            self.assertEqual((got.dtype, got.shape), (wanted.dtype, wanted.shape), where)
            self.assertTrue(torch.equal(got, wanted) or got.is_floating_point() and torch.equal(got.isnan(), wanted.isnan()), where)
        elif isinstance(wanted, (dict, list, tuple)):
            for key in wanted if isinstance(wanted, dict) else range(len(wanted)):
                self.compare(got[key], wanted[key], f"{where}/{key}")
        else:
            self.assertEqual(got, wanted, where)

    def test_open_gives_tensors(self):
        checkpoint = weightfs.open(file("tutorial"))
        wanted = torch.load(file("tutorial"))
        for key in checkpoint:
            self.assertTrue(torch.equal(checkpoint[key], wanted[key]), key)
        self.assertIsInstance(weightfs.open(file("tutorial"), "pt")["conv1.weight"], torch.Tensor)

    def test_ties_and_views_among_many(self):
        """Of tensors that a listing has in columns, some share a storage; others have one that a line by itself has, too."""
        from weightfs.tensors import untyped
        whole = torch.arange(64, dtype=torch.float32)
        tied = torch.randn(3, 4)
        state = {f"own.{i}": torch.full((2, i + 1), float(i)) for i in range(20)}
        state.update(a=tied, view=whole[16:32], b=tied, whole=whole, column=tied.t(), scalar=torch.tensor(3.0), none=torch.empty(0))
        state["parameter"] = torch.nn.Parameter(torch.randn(5), requires_grad=False)
        state["grad"] = torch.randn(2, requires_grad=True)
        torch.save({"x": state, "more": [whole, {"a": tied}]}, self.path)
        ours, theirs = weightfs.load(self.path), torch.load(self.path)
        self.assertEqual(list(ours["x"]), list(theirs["x"]))
        for key, tensor in theirs["x"].items():
            self.assertIs(type(ours["x"][key]), type(tensor), key)
            self.assertTrue(torch.equal(ours["x"][key], tensor), key)
            self.assertEqual((ours["x"][key].dtype, ours["x"][key].requires_grad), (tensor.dtype, tensor.requires_grad), key)
            if key.startswith("own"):
                self.assertEqual(untyped(ours["x"][key]).nbytes(), untyped(tensor).nbytes())
        self.assertIs(ours["x"]["a"], ours["x"]["b"])
        self.assertIs(ours["more"][1]["a"], ours["x"]["a"])
        ours["x"]["whole"][20] = 7
        self.assertEqual(float(ours["x"]["view"][4]), 7)

    def test_a_counter_of_tensors(self):
        torch.save(collections.Counter({"a": torch.ones(2), "b": torch.zeros(3)}), self.path)
        ours = weightfs.load(self.path)
        self.assertIs(type(ours), collections.Counter)
        self.assertTrue(torch.equal(ours["a"], torch.ones(2)) and torch.equal(ours["b"], torch.zeros(3)))

    def test_a_part(self):
        part = weightfs.load(file("general"), "model_state_dict")
        self.assertTrue(torch.equal(part["fc.bias"], torch.load(file("general"))["model_state_dict"]["fc.bias"]))
        self.assertRaises(KeyError, lambda: weightfs.load(file("general"), "nothing"))


if __name__ == "__main__":
    unittest.main()
