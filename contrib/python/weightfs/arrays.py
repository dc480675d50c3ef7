# SPDX-License-Identifier: MIT
"""Lines of tensors and arrays as NumPy arrays. Needs NumPy; what NumPy has no type for needs ml_dtypes, too."""
from weightfs.entries import CheckpointPages, Error, numpy_dtype

QUANTISED = {"qint8", "quint8", "qint32", "quint4x2", "quint2x4"}


def _dtype(line):
    import numpy
    if "descr" in line:
        return numpy_dtype(line["descr"])
    name = line["dtype"]
    if name in QUANTISED:
        raise TypeError(f"{line['path']}: NumPy has no {name}; torch reads it")
    try:
        return numpy.dtype(name)
    except TypeError:
        pass
    try:
        import ml_dtypes  # bfloat16, float8_e4m3fn, ...
        return numpy.dtype(getattr(ml_dtypes, name))
    except (ImportError, AttributeError):
        raise TypeError(f"{line['path']}: NumPy has no {name}: install torch, or ml_dtypes") from None


class Files:
    """The memory of the arrays of one source: shared among all that are made by the same object."""

    def __init__(self, source, writable=False):
        self.source, self.writable, self.pages = source, writable, CheckpointPages()

    def array(self, line):
        import numpy
        if "error" in line:
            raise Error(f"{line['path']}: {line['error']}")
        if line.get("location") == "meta":
            raise Error(f"{line['path']}: a meta tensor has no bytes")
        dtype = _dtype(line)
        if line["bytes"] == 0:
            return numpy.empty(line["shape"], dtype)
        pages = None if self.writable else self.pages.of(line)
        if pages is None:
            return numpy.frombuffer(self.source.pages(line, self.writable), dtype).reshape(line["shape"])
        count = line["bytes"] // dtype.itemsize
        return numpy.frombuffer(pages, dtype, count, line["file_offset"]).reshape(line["shape"])
