# SPDX-License-Identifier: MIT
"""Makes a checkpoint of torch.distributed.checkpoint with as many chunks as are wanted. Run by a Python that has torch.

Usage: chunks.py DIRECTORY TENSORS RANKS     each tensor in shards of dimension 0, one a rank; the slices are holes
       chunks.py check                       whether .metadata are the bytes that torch pickles

The objects of 100,000 tensors on 64 ranks do not fit a memory of usual size; the opcodes for them are written here one after the other, as
the pickler of CPython 3.11 writes what the first rank of a job has: of each rank objects of its own, for they were sent to it.
"""
import io
import os
import pickle
import sys

FRAME = 1 << 16
BATCH = 1000
SLICE = 5673
METADATA, FILESYSTEM = "torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem"
DTYPE, ROWS, COLUMNS = "bfloat16", 4, 512


def name_of(t):
    return f"model.layers.{t}.self_attn.q_proj.weight"


class Pickle:
    """Opcodes in frames. A piece begins where the pickler may begin a frame: at each object."""

    def __init__(self, file):
        self.file, self.frame, self.memo, self.known = file, bytearray(), 0, {}
        file.write(b"\x80\x04")

    def put(self, *pieces):
        whole = b"".join(pieces)
        if len(self.frame) + len(whole) < FRAME:
            self.frame += whole
            return
        for piece in pieces:
            if len(self.frame) >= FRAME:
                self.end_frame()
            self.frame += piece

    def go_on(self, opcodes):
        self.frame += opcodes

    def end_frame(self):
        self.file.write(b"\x95" + len(self.frame).to_bytes(8, "little") if len(self.frame) >= 4 else b"")
        self.file.write(self.frame)
        self.frame = bytearray()

    def text(self, s):
        b = s.encode()
        self.memo += 1
        return b"\x8c" + bytes([len(b)]) + b + b"\x94"

    def get(self, i):
        return b"h" + bytes([i]) if i < 256 else b"j" + i.to_bytes(4, "little")

    def once(self, key, make):
        """What is one object wherever it stands. make: gives its pieces, and counts what it puts into the memo."""
        if key in self.known:
            return [self.get(self.known[key])]
        pieces = make()
        self.known[key] = self.memo - 1
        return pieces

    def name(self, s):
        return self.once(s, lambda: [self.text(s)])

    def global_of(self, module, name):
        def make():
            pieces = [*(self.name(module) if module != "torch" else [self.text(module)]), self.text(name)]
            pieces[-1] += b"\x93\x94"
            self.memo += 1
            return pieces
        return self.once((module, name), make)

    def constant(self, module, function, argument):
        """A call that gives the same object each time."""
        def make():
            pieces = [*self.global_of(module, function), *argument()]
            pieces[-1] += b"\x85\x94R\x94"
            self.memo += 2
            return pieces
        return self.once((function, "made"), make)

    def size(self, *numbers):
        pieces = [*self.global_of("torch", "Size"), *map(number, numbers)]
        pieces[-1] += b"\x86\x94\x85\x94R\x94"
        self.memo += 3
        return pieces

    def instance(self, module, name):
        """An object, and the mapping that its state begins with."""
        self.bare(module, name)
        self.put(b"}\x94(")
        self.memo += 1

    def bare(self, module, name):
        self.put(*self.global_of(module, name), b")\x81\x94")
        self.memo += 1


def number(n):
    if n < 256:
        return b"K" + bytes([n])
    if n < 65536:
        return b"M" + n.to_bytes(2, "little")
    if n < 1 << 31:
        return b"J" + n.to_bytes(4, "little")
    size = n.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + n.to_bytes(size, "little")


class Writer(Pickle):
    def __init__(self, file, tensors, ranks):
        super().__init__(file)
        self.tensors, self.ranks = tensors, ranks

    def batches(self, n, one, end):
        """What a mapping or a list of n > 1 is filled with."""
        for start in range(0, n, BATCH):
            self.go_on(b"(")
            for i in range(start, min(start + BATCH, n)):
                one(i)
            self.go_on(end)

    def chunk(self, rank):
        self.instance(METADATA, "ChunkStorageMetadata")
        self.put(*self.name("offsets"), *self.size(rank * ROWS, 0), *self.name("sizes"), *self.size(ROWS, COLUMNS))
        self.go_on(b"ub")

    def tensor(self, t):
        self.put(self.text(name_of(t)))
        self.instance(METADATA, "TensorStorageMetadata")
        self.put(*self.name("properties"))
        self.bare(METADATA, "TensorProperties")
        self.put(b"(")
        self.put(*self.global_of("torch", DTYPE))
        self.put(*self.constant("torch.serialization", "_get_layout", lambda: self.name("torch.strided")), b"\x89")
        self.put(*self.constant(METADATA, "_MEM_FORMAT_ENCODING", lambda: [b"K\x00"]), b"\x89", b"Nt\x94b")
        self.memo += 1
        self.put(*self.name("size"), *self.size(ROWS * self.ranks, COLUMNS), *self.name("chunks"), b"]\x94")
        self.memo += 1
        self.batches(self.ranks, self.chunk, b"e")
        self.go_on(b"ub")

    def place(self, t):
        self.put(self.text(name_of(t)), *self.name("model "), self.text(name_of(t)[6:]))
        self.go_on(b"\x86\x94")
        self.memo += 1

    def slice(self, i):
        rank, t = i // self.tensors, i % self.tensors
        self.instance(METADATA, "MetadataIndex")
        self.put(*self.name("fqn"), self.text(name_of(t)), *self.name("index"), number(rank), *self.name("offset"), *self.size(rank * ROWS, 0))
        self.go_on(b"ub")
        self.instance(FILESYSTEM, "_StorageInfo")
        self.put(*self.name("relative_path"), *self.name(f"__{rank}_0.distcp"), *self.name("offset"), number(t * SLICE), *self.name("length"),
                 number(SLICE))
        self.go_on(b"ub")

    def write(self):
        self.instance(METADATA, "Metadata")
        for name, n, one in (("state_dict_metadata", self.tensors, self.tensor), ("planner_data", self.tensors, self.place),
                             ("storage_data", self.tensors * self.ranks, self.slice)):
            self.put(*self.name(name), b"}\x94")
            self.memo += 1
            self.batches(n, one, b"u")
        self.put(*self.name("storage_meta"), b"N", *self.name("version"), self.text("1.0.0"))
        self.go_on(b"ub.")
        self.end_frame()


def by_torch(tensors, ranks):
    import torch
    from torch.distributed.checkpoint.filesystem import _StorageInfo
    from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties, TensorStorageMetadata
    sizes, state, storage = torch.Size, {}, {}
    for t in range(tensors):
        chunks = [ChunkStorageMetadata(sizes((r * ROWS, 0)), sizes((ROWS, COLUMNS))) for r in range(ranks)]
        state[name_of(t)] = TensorStorageMetadata(TensorProperties(dtype=getattr(torch, DTYPE)), sizes((ROWS * ranks, COLUMNS)), chunks)
    first = "model "
    places = {name_of(t): (first, name_of(t)[6:]) for t in range(tensors)}
    for r in range(ranks):
        path = f"__{r}_0.distcp"
        for t in range(tensors):
            storage[MetadataIndex(name_of(t), sizes((r * ROWS, 0)), r)] = _StorageInfo(path, t * SLICE, SLICE)
    return Metadata(state, places, storage, version="1.0.0")


def check():
    for tensors, ranks in ((3, 2), (40, 5), (1300, 7), (2, 1200)):
        ours = io.BytesIO()
        Writer(ours, tensors, ranks).write()
        theirs = pickle.dumps(by_torch(tensors, ranks))
        assert ours.getvalue() == theirs, (tensors, ranks)


def main():
    if sys.argv[1] == "check":
        return check()
    out, tensors, ranks = sys.argv[1], *map(int, sys.argv[2:4])
    os.makedirs(out)
    for r in range(ranks):
        with open(f"{out}/__{r}_0.distcp", "wb") as f:
            f.truncate(tensors * SLICE)
    with open(f"{out}/.metadata", "wb") as f:
        Writer(f, tensors, ranks).write()


if __name__ == "__main__":
    main()
