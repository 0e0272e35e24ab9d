"""Image files to arrays and back, without guessing: what a file holds is what comes out.

TIFF goes through tifffile (with imagecodecs for LZW and its like), everything else through Pillow, except 16-bit
colour PNG, of which Pillow would keep only 8 bits.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import DataError

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
"""What is taken for an image where a folder is searched; lower case."""

_TIFF_SUFFIXES = (".tif", ".tiff")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# What the decoders raise on files that are cut off or hold something else than they claim.
_BROKEN_FILE = (
    OSError,
    ValueError,
    RuntimeError,
    SyntaxError,
    IndexError,
    KeyError,
    TypeError,
    EOFError,
    OverflowError,
    MemoryError,
    AttributeError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)


def read_image(path: Path) -> NDArray[Any]:
    """One microscope image.

    Args:
        path: PNG, TIFF (one page), JPEG or BMP.

    Returns:
        (H, W) gray or (H, W, C) colour, uint8 or uint16, rows first; palettes are resolved to colours, an alpha
        channel is kept as the last one, 1-bit images become 0 and 255.

    Raises:
        DataError: no such file, not an image, cut off, several pages, or not 8 or 16 bit.
    """
    array = _decode(path, palette_as_colour=True)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype in (np.int16, np.int32, np.uint32) and array.size and array.min() >= 0 and array.max() <= 0xFFFF:
        array = array.astype(np.uint16)  # written as signed or wide integers, but within 16 bit
    if array.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path}: an image of {array.dtype}", "convert it to 8 or 16 bit unsigned integers")
    return array


def read_labels(path: Path) -> NDArray[Any]:
    """One label image, its numbers as they stand in the file.

    Args:
        path: PNG or TIFF of one page; a palette's indices are the labels, not its colours.

    Returns:
        (H, W) integers, or (H, W, C) where the file has channels.

    Raises:
        DataError: as :func:`read_image`, or labels that are not integers or negative.
    """
    array = _decode(path, palette_as_colour=False)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{path}: a label image of {array.dtype}", "labels are integers: write them as 8 or 16 bit")
    if array.size and np.issubdtype(array.dtype, np.signedinteger) and array.min() < 0:
        raise DataError(f"{path}: it holds the negative label {array.min()}", "labels are 0 (background) or more")
    return array


# -- decoding -----------------------------------------------------------------------------------------


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(32)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _decode(path: Path, palette_as_colour: bool) -> NDArray[Any]:
    head = _head(path)
    if not head:
        raise DataError(f"{path}: the file is empty", "copy or download it again")
    if head.startswith(_TIFF_SIGNATURES):
        array = _decode_tiff(path)
    elif head.startswith(_PNG_SIGNATURE) and len(head) >= 26 and head[24] == 16 and head[25] in (2, 4, 6):
        array = _decode_wide_png(path)
    else:
        array = _decode_other(path, palette_as_colour)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise DataError(f"{path}: an array of shape {array.shape} is not an image")
    return array


def _decode_tiff(path: Path) -> NDArray[Any]:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            pages = [page for page in file.pages if not page.is_reduced]
            series = file.series[0] if file.series else None
            frames = max(len(pages), _frames(series))
            if frames != 1:
                raise DataError(
                    f"{path}: it holds {frames} pages, and an image is one",
                    "split the stack into one file for each image",
                )
            page = pages[0]
            array = np.asarray(page.asarray())
            axes = page.axes
    except DataError:
        raise
    except _BROKEN_FILE as error:
        raise _broken(path, error) from error
    if axes == "SYX":  # colour planes stored one after the other
        array = np.moveaxis(array, 0, -1)
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def _frames(series: Any) -> int:
    """Images in a TIFF series: ImageJ writes stacks of many under the header of one page."""
    if series is None:
        return 1
    frames = 1
    for axis, length in zip(series.axes, series.shape, strict=True):
        if axis not in "YXS":
            frames *= length
    return frames


def _decode_wide_png(path: Path) -> NDArray[Any]:
    import imagecodecs

    try:
        return np.asarray(imagecodecs.png_decode(path.read_bytes()))
    except _BROKEN_FILE as error:
        raise _broken(path, error) from error


def _decode_other(path: Path, palette_as_colour: bool) -> NDArray[Any]:
    from PIL import Image

    try:
        with Image.open(path) as file:
            if (frames := getattr(file, "n_frames", 1)) != 1:
                raise DataError(
                    f"{path}: it holds {frames} frames, and an image is one",
                    "split it into one file for each image",
                )
            if file.mode == "P" and palette_as_colour:
                return np.asarray(file.convert("RGBA" if "transparency" in file.info else "RGB"))
            if file.mode == "CMYK":
                return np.asarray(file.convert("RGB"))
            return np.asarray(file)
    except DataError:
        raise
    except (*_BROKEN_FILE, Image.DecompressionBombError) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: BaseException) -> DataError:
    """What a decoder raised, in words; those of the decoder where it is of a rarer kind."""
    reason = " ".join(str(error).split()) or type(error).__name__
    reason = reason.replace(f"'{path}'", "the file").replace(str(path), "the file")
    if type(error).__name__ == "UnidentifiedImageError":
        reason = "its content is of no known image format"
    elif "truncated" in reason.lower():
        reason = "it is cut off"
    return DataError(f"{path}: not a readable image: {reason[:160]}", "copy or download the file again")
