"""Arrays in the formats of numpy, read without pickles and with a look at their size before any memory is taken."""

from __future__ import annotations

import io
import math
import zipfile
import zlib

import numpy as np

from lam.io.limits import check_limit


def read_npy(data: bytes | memoryview) -> np.ndarray:
    """Return the array of a .npy file.

    Raises:
        ValueError: It is damaged, holds objects, or its header promises more than follows.
    """
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"its format is version {version[0]}.{version[1]} of .npy, expected 1.0 or 2.0")
    try:
        shape, fortran, kind = readers[version](file)
    except Exception as error:  # of Python's tokenizer and parser, which read the header
        raise ValueError(f"its header cannot be read ({type(error).__name__}: {error})") from error
    if kind.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    size, given = math.prod(shape) * kind.itemsize, len(data) - file.tell()
    if min(shape, default=0) < 0 or size != given:
        raise ValueError(f"its header says {size} bytes, {given} follow")
    check_limit("an array in bytes", size, "MAX_ARRAY_BYTES")
    array = np.frombuffer(data, kind, math.prod(shape), file.tell()) if size else np.empty(math.prod(shape), kind)
    return array.reshape(shape, order="F" if fortran else "C").copy()


def read_npz(data: bytes | memoryview) -> dict[str, np.ndarray]:
    """Return the arrays of a .npz file by name.

    Raises:
        ValueError: It is damaged, holds objects, or is far larger unpacked than arrays beside video are.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            check_limit("arrays in bytes, unpacked,", sum(each.file_size for each in members), "MAX_ARRAY_BYTES")
            # a stream of zeros may be longer than its entry says, and is cut there
            return {each.filename.removesuffix(".npy"): read_npy(archive.open(each).read(each.file_size)) for each in members}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, zlib.error) as error:
        raise ValueError(f"its archive is damaged ({error or type(error).__name__})") from error
