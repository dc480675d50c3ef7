# SPDX-License-Identifier: MIT
"""Lines of tensors and arrays as NumPy arrays. Needs NumPy; what NumPy has no type for needs ml_dtypes, too."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weightfs.entries import Error, Line, Memory, numpy_dtype

if TYPE_CHECKING:
    import numpy

QUANTISED = {"qint8", "quint8", "qint32", "quint4x2", "quint2x4"}


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as e:
        raise ImportError("weightfs gives tensors as NumPy's arrays where torch is not installed, and NumPy is missing, too: pip install numpy") from e
    return numpy


def _dtype(line: Line) -> numpy.dtype[Any]:
    np = _numpy()
    if "descr" in line:
        return numpy_dtype(line["descr"])
    name: str = line["dtype"]
    if name in QUANTISED:
        raise TypeError(f"{line['path']}: NumPy has no {name}; torch reads it")
    try:
        dtype: numpy.dtype[Any] = np.dtype(name)
        return dtype
    except TypeError:
        pass
    try:
        import ml_dtypes  # bfloat16, float8_e4m3fn, ...
        dtype = np.dtype(getattr(ml_dtypes, name))
        return dtype
    except (ImportError, AttributeError):
        raise TypeError(f"{line['path']}: NumPy has no {name}: install torch, or ml_dtypes") from None


class Files(Memory):
    """Arrays of one source."""

    def array(self, line: Line) -> numpy.ndarray[Any, Any]:
        """Of the shape that the line has. Raises Error where there are no bytes, TypeError where NumPy has no such dtype."""
        np = _numpy()
        if "error" in line:
            raise Error(f"{line['path']}: {line['error']}")
        if line.get("location") == "meta":
            raise Error(f"{line['path']}: a meta tensor has no bytes")
        dtype = _dtype(line)
        if line["bytes"] == 0:
            flat: numpy.ndarray[Any, Any] = np.empty(line["shape"], dtype)
            return flat
        memory, start = self.of(line)
        flat = np.frombuffer(memory, dtype, line["bytes"] // dtype.itemsize, start)
        shaped: numpy.ndarray[Any, Any] = flat.reshape(line["shape"])
        return shaped
