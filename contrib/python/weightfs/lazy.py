# SPDX-License-Identifier: MIT
"""weightfs.open: a checkpoint as the mapping that it is, of which nothing is read before it is asked for. torch and NumPy are optional.

    with weightfs.open("model.pt") as checkpoint:
        list(checkpoint)                                  # the keys
        checkpoint["optimizer_state_dict"]["param_groups"][0]["lr"]
        checkpoint.tensor("model_state_dict/fc.weight")   # by its path in a mount; paths() has all of them
        checkpoint.info("model_state_dict/fc.weight")     # its line of .weightfs/tensors.json: dtype, shape, file_offset, ...

Tensors are torch's where torch is installed, else NumPy's; open(path, framework="numpy") says it. Their bytes are private mappings of the
file: read when they are used; what is changed in this process stays in it. An object of a class is a Mapping of its attributes, a module
one of its state_dict: nothing is imported.
"""
import collections.abc
import importlib.util

from weightfs import arrays
from weightfs.entries import children_of, is_tensor, key_of, source_of, target_of, value_of

FRAMEWORKS = {"torch": "torch", "pt": "torch", "numpy": "numpy", "np": "numpy"}


class _Reader:
    """What all views of one checkpoint share."""

    def __init__(self, path, framework):
        if framework is None:
            framework = "torch" if importlib.util.find_spec("torch") else "numpy"
        if framework not in FRAMEWORKS:
            raise ValueError(f"framework is torch or numpy, not {framework!r}")
        self.framework = FRAMEWORKS[framework]
        self.source, self.prefix = source_of(path)
        self.lines = {line["path"]: line for line in self.source.lines}
        self.children = children_of(self.source.lines)
        self.arrays, self.tensors = arrays.Files(self.source), None

    def tensor(self, line):
        if self.framework == "numpy" or line["class"] == "numpy.ndarray":
            return self.arrays.array(line)
        if self.tensors is None:
            from weightfs import tensors
            self.tensors = tensors.Files(self.source)
        return self.tensors.tensor(line)

    def value(self, line):
        """What stands at a line: a view of a container, a tensor, a value."""
        if "link" in line:
            line = self.lines[target_of(line)]
        if "container" in line:
            return (Sequence if line["container"] == "sequence" else Mapping)(self, line)
        return self.tensor(line) if is_tensor(line) else value_of(line, self.source)


class _View:
    """A container of the checkpoint."""

    def __init__(self, reader, line):
        self._reader, self._line = reader, line

    @property
    def type(self):
        """The name of its class: "dict", "collections.OrderedDict", "torch.nn.modules.conv.Conv2d", ..."""
        return self._line.get("class", "")

    @property
    def path(self):
        """Where it stands in a mount; "" is the root."""
        return self._line["path"]

    def _lines(self):
        return self._reader.children[self._line["path"]]

    def __len__(self):
        return len(self._lines())

    def __repr__(self):
        return f"<{self.path or 'checkpoint'}: {self.type}, {len(self)} entries>"


class Mapping(_View, collections.abc.Mapping):
    """A dict or another mapping, the state_dict of a module, the attributes of an object: keys in their order."""

    def _index(self):
        if not hasattr(self, "_by_key"):
            self._by_key = {key_of(line): line for line in self._lines()}
        return self._by_key

    def __getitem__(self, key):
        return self._reader.value(self._index()[key])

    def __iter__(self):
        return iter(self._index())

    def __contains__(self, key):
        return key in self._index()


class Sequence(_View, collections.abc.Sequence):
    """A list or tuple that holds more than plain values; one of plain values alone is a list or tuple."""

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self._reader.value(line) for line in self._lines()[index]]
        return self._reader.value(self._lines()[index])


class Checkpoint(Mapping):
    """The root. Of a checkpoint that is no container, a mapping with the one key "value"."""

    def tensor(self, path):
        """The tensor or array at a path as a mount has it ("model/fc.weight"). KeyError: there is none."""
        return self._reader.tensor(self.info(path))

    def info(self, path):
        """What is known of that tensor without reading it: a dict with dtype, shape, stride, bytes, location, file, file_offset, ..."""
        line = self._reader.lines[path]
        if not is_tensor(line):
            raise KeyError(path)
        return dict(line)

    def paths(self):
        """The paths of all tensors, in their order."""
        return [path for path, line in self._reader.lines.items() if is_tensor(line)]

    def close(self):
        """Lets go of a mount. Tensors that were given out live on."""
        if self._reader.source.manifest:
            self._reader.source.close()

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()


def open(path, framework=None):
    """A Checkpoint of the file (or mount point) at path. framework: "torch" or "numpy"; None: torch where it is installed.

    Raises weightfs.Error with wfctl's line for what is no checkpoint.
    """
    reader = _Reader(path, framework)
    return Checkpoint(reader, reader.lines[reader.prefix])
