"""Kaggle's run-length encoding of one mask: ``start length start length ...``, pixels counted from 1.

The order of the pixels is a choice of each competition: by rows (Sartorius) or by columns (Data Science Bowl 2018).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from bench import rle
from bench.errors import DataError

Order = Literal["row", "column"]


def decode(text: str, height: int, width: int, order: Order) -> bytes:
    """A mask as the compressed counts of a COCO RLE.

    Args:
        text: pairs of a start, counted from 1, and a length, with blanks between; runs in any order.
        height: of the image, pixels.
        width: of the image, pixels.
        order: whether pixels are counted along rows or along columns.

    Raises:
        DataError: not pairs of whole numbers, runs that leave the image, or runs that overlap.
    """
    try:
        numbers = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        raise DataError(f"an RLE holds something else than whole numbers: {text[:40]!r}") from None
    if numbers.size % 2:
        raise DataError(f"an RLE holds {numbers.size} numbers, which are not pairs of start and length")
    starts, lengths = numbers[0::2] - 1, numbers[1::2]
    if numbers.size and (starts.min() < 0 or lengths.min() < 1):
        raise DataError("an RLE has a start below 1 or a length below 1")
    by_start = np.argsort(starts, kind="stable")
    starts, lengths = starts[by_start], lengths[by_start]
    ends = starts + lengths
    if numbers.size and ends.max() > height * width:
        raise DataError(
            f"an RLE reaches pixel {ends.max()} of an image of {height} x {width} = {height * width}",
            "the image may have another size, or the runs be counted along the other axis",
        )
    if (ends[:-1] > starts[1:]).any():
        raise DataError("two runs of an RLE overlap")
    if order == "row":
        rows, columns = np.divmod(_pixels(starts, lengths), width)
        starts, ends = _runs(np.sort(columns * height + rows))
    return _counts(starts, ends, height, width)


def encode(counts: bytes, height: int, width: int, order: Order) -> str:
    """The inverse of :func:`decode`; an empty mask gives an empty text.

    Args:
        counts: compressed counts of a COCO RLE over the whole image.
        height: of the image, pixels.
        width: of the image, pixels.
        order: as in :func:`decode`.
    """
    bounds = np.cumsum(rle.string_to_counts(counts))
    if len(bounds) % 2:
        bounds = bounds[:-1]
    starts, ends = bounds[0::2], bounds[1::2]
    kept = ends > starts
    starts, ends = starts[kept], ends[kept]
    if order == "row":
        columns, rows = np.divmod(_pixels(starts, ends - starts), height)
        starts, ends = _runs(np.sort(rows * width + columns))
    return " ".join(f"{start + 1} {end - start}" for start, end in zip(starts.tolist(), ends.tolist(), strict=True))


def _pixels(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every pixel of every run."""
    return np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())


def _runs(pixels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Runs of consecutive numbers in sorted ones: starts and ends (exclusive)."""
    if not pixels.size:
        return pixels, pixels
    breaks = np.flatnonzero(np.diff(pixels) > 1)
    return pixels[np.concatenate(([0], breaks + 1))], pixels[np.concatenate((breaks, [pixels.size - 1]))] + 1


def _counts(starts: NDArray[np.int64], ends: NDArray[np.int64], height: int, width: int) -> bytes:
    if len(starts) > 1:  # runs that touch are one run
        apart = np.flatnonzero(starts[1:] > ends[:-1])
        starts = starts[np.concatenate(([0], apart + 1))]
        ends = ends[np.concatenate((apart, [len(ends) - 1]))]
    bounds = np.empty(2 * len(starts) + 1, np.int64)
    bounds[0:-1:2], bounds[1::2], bounds[-1] = starts, ends, height * width
    lengths = np.diff(bounds, prepend=0)
    if lengths[-1] == 0:
        lengths = lengths[:-1]  # as the COCO API writes it: no run after the last pixel
    uncompressed: dict[str, Any] = {"size": [height, width], "counts": lengths.tolist()}
    counts: bytes = coco_mask.frPyObjects(uncompressed, height, width)["counts"]
    return counts
