# SPDX-License-Identifier: MIT
"""Pickles, zips, legacy streams and tars byte by byte, for files that no torch of today writes (or should ever write).

A pickle is put together from expressions, each a bytes object that leaves one object on the stack:

    pickle(dictionary((text("a"), tensor(storage("Float", "0", 4), (2, 2)))))

zip_file() lays records out as torch's own writer does; each Record can lie in one chosen way. Standard library only.
"""
import io
import struct
import tarfile
import zlib

LEGACY_MAGIC = 0x1950a86a20f9469cfc6c

# ---- pickle expressions ----


def text(s):
    raw = s if isinstance(s, bytes) else s.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def py2(s):
    """A str of Python 2."""
    raw = s if isinstance(s, bytes) else s.encode("latin1")
    return b"U" + bytes([len(raw)]) + raw


def integer(n):
    if 0 <= n < 256:
        return b"K" + bytes([n])
    if 0 <= n < 65536:
        return b"M" + struct.pack("<H", n)
    if -2**31 <= n < 2**31:
        return b"J" + struct.pack("<i", n)
    return long1(n)


def long1(n):
    raw = n.to_bytes((n.bit_length() + 8) // 8, "little", signed=True) if n else b""
    return b"\x8a" + bytes([len(raw)]) + raw


def real(x):
    return b"G" + struct.pack(">d", x)


def glob(module, name):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


NONE, TRUE, FALSE = b"N", b"\x88", b"\x89"


def sequence(*items):
    """A tuple."""
    if len(items) <= 3:
        return b"".join(items) + {0: b")", 1: b"\x85", 2: b"\x86", 3: b"\x87"}[len(items)]
    return b"(" + b"".join(items) + b"t"


def ints(values):
    return sequence(*[integer(v) for v in values])


def array(*items):
    """A list."""
    return b"](" + b"".join(items) + b"e"


def dictionary(*pairs):
    return b"}(" + b"".join(k + v for k, v in pairs) + b"u"


def call(func, *args):
    return func + sequence(*args) + b"R"


def ordered(*pairs):
    return call(glob("collections", "OrderedDict")) + (b"(" + b"".join(k + v for k, v in pairs) + b"u" if pairs else b"")


def put(expression, index):
    return expression + (b"q" + bytes([index]) if index < 256 else b"r" + struct.pack("<I", index))


def get(index):
    return b"h" + bytes([index]) if index < 256 else b"j" + struct.pack("<I", index)


def pickle(expression, protocol=2):
    return (b"\x80" + bytes([protocol]) if protocol >= 2 else b"") + expression + b"."


def storage(cls, key, numel, location="cpu", string=text, extra=()):
    module, name = ("torch.storage", "UntypedStorage") if cls == "Untyped" else ("torch", cls + "Storage")
    return sequence(string("storage"), glob(module, name), string(key), string(location), integer(numel), *extra) + b"Q"


def contiguous(size):
    stride, n = [], 1
    for s in reversed(size):
        stride.insert(0, n)
        n *= max(s, 1)
    return stride


def tensor(store, size, stride=None, offset=0, requires_grad=False, form="v2"):
    stride = contiguous(size) if stride is None else stride
    args = [store, integer(offset), ints(size), ints(stride)]
    if form == "v1":
        return call(glob("torch._utils", "_rebuild_tensor"), *args)
    return call(glob("torch._utils", "_rebuild_tensor_v2"), *args, TRUE if requires_grad else FALSE, ordered())


# ---- zip ----

class Record:
    """One record. data=None writes no local part: at= then says where its header is."""

    def __init__(self, name, data, deflate=False, crc=None, pad=True, flags=None, method=None, local_name=None, at=None, size=None,
                 stored=None, descriptor=True, before=b"", extra=b"", align=64):
        self.name, self.data, self.deflate, self.crc, self.pad, self.flags, self.method = name, data, deflate, crc, pad, flags, method
        self.local_name, self.at, self.size, self.stored, self.descriptor = local_name, at, size, stored, descriptor
        self.before, self.extra, self.align = before, extra, align


def zip_file(records, zip64=True, comment=b"", before_directory=b"", after=b"", entries=None, directory_offset=None):
    out, directory, headers = bytearray(), bytearray(), {}
    for r in records:
        out += r.before
        name = r.name.encode("utf-8") if isinstance(r.name, str) else r.name
        local = name if r.local_name is None else r.local_name.encode()
        data = r.data or b""
        raw = data
        if r.deflate:
            z = zlib.compressobj(9, zlib.DEFLATED, -15)
            raw = z.compress(data) + z.flush()
        crc = zlib.crc32(data) if r.crc is None else r.crc
        flags = r.flags if r.flags is not None else 0x0808 if data and r.descriptor else 0x0800
        method = r.method if r.method is not None else 8 if r.deflate else 0
        at = len(out) if r.at is None else r.at if isinstance(r.at, int) else headers[r.at]
        headers[r.name] = at
        if r.data is not None:
            pad = -(len(out) + 30 + len(local) + 4) % r.align if r.pad else 0
            extra = b"FB" + struct.pack("<H", pad) + b"Z" * pad if r.pad else r.extra
            in_header = not flags & 8
            out += struct.pack("<IHHHHHIIIHH", 0x04034b50, 0, flags, method, 0, 0, crc if in_header else 0,
                               len(raw) if in_header else 0, len(data) if in_header else 0, len(local), len(extra))
            out += local + extra + raw
            if flags & 8:
                out += struct.pack("<IIII", 0x08074b50, crc, len(raw), len(data))
        size = len(data) if r.size is None else r.size
        stored = len(raw) if r.stored is None else r.stored
        directory += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014b50, 0, 0, flags, method, 0, 0, crc, stored, size, len(name), 0, 0, 0, 0, 0,
                                 at) + name
    out += before_directory
    start = len(out) if directory_offset is None else directory_offset
    n = len(records) if entries is None else entries
    out += directory
    end64 = len(out)
    if zip64:
        out += struct.pack("<IQHHIIQQQQ", 0x06064b50, 44, 0x031e, 45, 0, 0, n, n, len(directory), start)
        out += struct.pack("<IIQI", 0x07064b50, 0, end64, 1)
    out += struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, min(n, 0xffff), min(n, 0xffff), len(directory), min(start, 0xffffffff), len(comment)) + comment
    return bytes(out) + after


def read_zip(path):
    """[(name, bytes)] in file order, for repacking what torch wrote."""
    import zipfile
    with zipfile.ZipFile(path) as z:
        return [(i.filename, z.read(i), i.compress_type == zipfile.ZIP_DEFLATED) for i in sorted(z.infolist(), key=lambda i: i.header_offset)]


def checkpoint(expression, storages=(), prefix="archive", version=b"3\n", byteorder=None, extra=(), protocol=2, deflate=()):
    """The records of a torch.save file: data.pkl, data/<key>, version."""
    records = [Record(f"{prefix}/data.pkl", pickle(expression, protocol), deflate="data.pkl" in deflate)]
    if byteorder is not None:
        records.append(Record(f"{prefix}/byteorder", byteorder))
    records += [Record(f"{prefix}/data/{key}", data, deflate="data" in deflate) for key, data in storages]
    records += [Record(f"{prefix}/{name}", data) for name, data in extra]
    if version is not None:
        records.append(Record(f"{prefix}/version", version))
    return records


# ---- the legacy stream ----

def legacy(expression, storages, protocol=2, keys=None, little_endian=True, string=text, magic=None, version=1001):
    """storages: [(key, element count, bytes)]."""
    out = pickle(long1(LEGACY_MAGIC), protocol) if magic is None else magic
    out += pickle(integer(version), protocol)
    out += pickle(dictionary((string("protocol_version"), integer(1001)), (string("little_endian"), TRUE if little_endian else FALSE),
                             (string("type_sizes"), dictionary((string("short"), integer(2)), (string("int"), integer(4)),
                                                               (string("long"), integer(4))))), protocol)
    out += pickle(expression, protocol)
    out += pickle(array(*[string(k) for k in (keys if keys is not None else [k for k, _, _ in storages])]), protocol)
    for _, count, data in storages:
        out += struct.pack("<q", count) + data
    return out


# ---- the tar of 2016 ----

def tar_2016(expression, storages, views, tensors, tar_format=tarfile.USTAR_FORMAT):
    """storages: [(key, location, class, count, bytes)]; views: [(view key, root key, offset, numel)];
    tensors: [(key, storage key, class, size, stride, offset)]. In the expression persid(key) names one."""
    members = [("sys_info", pickle(dictionary((text("protocol_version"), integer(1000)), (text("little_endian"), TRUE))))]
    members.append(("pickle", pickle(expression)))
    body = pickle(integer(len(tensors)))
    for key, storage_key, cls, size, stride, offset in tensors:
        n = len(size)
        body += pickle(sequence(integer(key), integer(storage_key), glob("torch", cls + "Tensor")))
        body += struct.pack(f"<i4x{n}q{n}qq", n, *size, *stride, offset)
    members.append(("tensors", body))
    body = pickle(integer(len(storages)))
    for key, location, cls, count, data in storages:
        body += pickle(sequence(integer(key), text(location), glob("torch", cls + "Storage"))) + struct.pack("<q", count) + data
    body += pickle(array(*[sequence(*[integer(v) for v in view]) for view in views]))
    members.append(("storages", body))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tar_format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1480000000
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def persid(key):
    return text(str(key)) + b"Q"
