"""Gray TIFF files whose bytes depend on the pixels alone; see :mod:`bench.data.png`."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.png import deflate

_SHORT, _LONG = 3, 4
_NOT_COMPRESSED, _ADOBE_DEFLATE, _BLACK_IS_ZERO = 1, 8, 1


def encode(array: NDArray[Any], compress: bool = True) -> bytes:
    """A gray TIFF file of one page and one strip.

    Args:
        array: (H, W), uint8 or uint16.
        compress: without loss; it is what takes the time.
    """
    height, width = array.shape
    raw = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).view(np.uint8).reshape(-1)
    strip = b"\x78\x01" + deflate(raw) + struct.pack(">I", zlib.adler32(raw.data)) if compress else raw.tobytes()
    tags = [
        (256, _LONG, width),
        (257, _LONG, height),
        (258, _SHORT, 8 * array.dtype.itemsize),
        (259, _SHORT, _ADOBE_DEFLATE if compress else _NOT_COMPRESSED),
        (262, _SHORT, _BLACK_IS_ZERO),
        (273, _LONG, 8),  # the strip begins after the header
        (277, _SHORT, 1),
        (278, _LONG, height),
        (279, _LONG, len(strip)),
    ]
    padding = b"\0" * (len(strip) % 2)
    header = b"II*\0" + struct.pack("<I", 8 + len(strip) + len(padding))
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", t, kind, 1, v) for t, kind, v in tags)
    return header + strip + padding + directory + struct.pack("<I", 0)
