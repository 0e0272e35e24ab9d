"""The masks of an image as foreground runs, decoded all at once.

Every measurement of this package starts from here: a mask is a list of intervals ``[start, stop)`` on the image's
pixels in column-major order, which is the order of the COCO API. A cell of 30 columns is some 30 intervals, where
its pixels are hundreds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from bench import rle
from bench.errors import DataError

MAX_LABELS = 65_535
"""Labels that a label image may hold: what fits 16 bit, the widest that the formats of the field use."""


class MaskError(DataError):
    """A mask that does not describe its image; ``index`` says which."""

    def __init__(self, message: str, hint: str | None, index: int) -> None:
        super().__init__(message, hint)
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.hint, self.index)


@dataclass(frozen=True, eq=False)
class Runs:
    """N masks over one image, which may overlap.

    Attributes:
        height: rows of the image, pixels.
        width: columns of the image, pixels.
        starts: int64 (R,), first pixel of each run, ``column * height + row``; ascending within a mask.
        stops: int64 (R,), one past its last pixel. A run may go on from the foot of a column to the head of the next.
        firsts: int64 (N + 1,), the runs of mask i are ``firsts[i]:firsts[i + 1]``.
    """

    height: int
    width: int
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    firsts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.firsts) - 1

    @cached_property
    def masks(self) -> NDArray[np.int64]:
        """int64 (R,), the mask that each run belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.firsts))

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """int64 (N,), pixels of each mask."""
        total = np.concatenate(([0], np.cumsum(self.stops - self.starts)))
        return np.diff(total[self.firsts])

    @cached_property
    def boxes(self) -> NDArray[np.float64]:
        """float64 (N, 4), tight boxes x0, y0, x1, y1 (x1, y1 exclusive); zeros for an empty mask."""
        boxes = np.zeros((len(self), 4))
        filled = np.flatnonzero(np.diff(self.firsts))
        if filled.size == 0:
            return boxes
        first_column, top = np.divmod(self.starts, self.height)
        last_column, foot = np.divmod(self.stops - 1, self.height)
        wraps = first_column != last_column
        top[wraps], foot[wraps] = 0, self.height - 1
        at = self.firsts[filled]
        boxes[filled, 0] = first_column[at]
        boxes[filled, 1] = np.minimum.reduceat(top, at)
        boxes[filled, 2] = last_column[self.firsts[filled + 1] - 1] + 1
        boxes[filled, 3] = np.maximum.reduceat(foot, at) + 1
        return boxes

    def take(self, kept: NDArray[np.int64]) -> Runs:
        """The masks at ``kept``, in that order."""
        lengths = np.diff(self.firsts)[kept]
        order = np.concatenate([np.arange(self.firsts[i], self.firsts[i + 1]) for i in kept] or [np.zeros(0, np.int64)])
        firsts = np.concatenate(([0], np.cumsum(lengths)))
        return Runs(self.height, self.width, self.starts[order], self.stops[order], firsts)


def from_rles(rles: Sequence[bytes], height: int, width: int) -> Runs:
    """Decode compressed COCO RLEs of one image, all at once, checking each.

    Args:
        rles: N compressed counts.
        height: rows of the image.
        width: columns of the image.

    Raises:
        MaskError: an RLE with illegal characters, negative runs, or another number of pixels.
    """
    if not rles:
        none = np.zeros(0, np.int64)
        return Runs(height, width, none, none, np.zeros(1, np.int64))
    n_codes = np.fromiter(map(len, rles), np.int64, len(rles))
    codes = np.frombuffer(b"".join(rles), np.uint8) - np.uint8(48)
    is_last = (codes & np.uint8(0x20)) == 0
    code_ends = np.cumsum(n_codes) - 1
    if codes.size == 0 or codes.max() > 63 or n_codes.min() == 0 or not is_last[code_ends].all():
        raise _first_error(rles, height, width)
    ends = np.flatnonzero(is_last)
    values = _signed_values(codes, ends)
    if values is None:
        raise _first_error(rles, height, width)

    # Pairs (zeros, ones) in rows, each RLE padded to whole rows: then both chains of differences are column sums.
    value_ends = np.searchsorted(ends, code_ends) + 1
    n_values = value_ends.copy()
    n_values[1:] -= value_ends[:-1]
    n_rows = (n_values + 1) >> 1
    row_ends = np.cumsum(n_rows)
    row_starts = row_ends - n_rows
    padded = np.zeros(2 * int(row_ends[-1]), np.int64)
    shift = 2 * row_starts - (value_ends - n_values)
    padded[np.arange(values.size) + np.repeat(shift, n_values)] = values
    pairs = padded.reshape(-1, 2)
    heads = pairs[row_starts, 0].copy()
    pairs[row_starts, 0] = 0  # the first run is no part of the chain of differences
    np.cumsum(pairs[:, 0], out=pairs[:, 0])
    np.cumsum(pairs[:, 1], out=pairs[:, 1])
    before = np.zeros((len(rles), 2), np.int64)
    before[1:] = pairs[row_starts[1:] - 1]
    pairs -= np.repeat(before, n_rows, axis=0)
    pairs[row_starts, 0] = heads
    pairs[row_ends[n_values & 1 == 1] - 1, 1] = 0
    if pairs.min() < 0:
        raise _first_error(rles, height, width)

    size = height * width
    positions = np.cumsum(pairs.ravel()).reshape(-1, 2)
    if not np.array_equal(positions[row_ends - 1, 1], size * np.arange(1, len(rles) + 1)):
        raise _first_error(rles, height, width)
    positions -= np.repeat(size * np.arange(len(rles)), n_rows)[:, None]
    filled = positions[:, 1] > positions[:, 0]
    starts, stops = positions[filled, 0], positions[filled, 1]
    kept_before = np.concatenate(([0], np.cumsum(filled)))
    firsts = kept_before[np.concatenate(([0], row_ends))]
    return Runs(height, width, starts, stops, firsts)


def from_labels(labels: NDArray[np.integer]) -> tuple[Runs, NDArray[np.int64]]:
    """The masks of a label image, one for each label, ascending, whatever its connectivity.

    Args:
        labels: (H, W) integers, 0 is background.

    Returns:
        the masks, and the label of each, int64 (N,).

    Raises:
        DataError: not two-dimensional integers, negative labels, or more than :data:`MAX_LABELS` of them.
    """
    array = np.asarray(labels)
    if array.ndim != 2:
        raise DataError(f"a label image of shape {array.shape}", "it is (height, width), one label a pixel")
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    if not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"a label image holds {array.dtype} values", "labels are integers: 0 is background, 1, 2, ... instances"
        )
    height, width = array.shape
    flat = array.ravel(order="F")
    if flat.size == 0:
        return from_rles((), height, width), np.zeros(0, np.int64)
    if array.dtype.kind == "i" and flat.min() < 0:
        raise DataError(
            f"a label image holds the negative label {flat.min()}", "0 is background, instances are 1, 2, ..."
        )
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate(([0], edges))
    stops = np.concatenate((edges, [flat.size]))
    of_run = flat[starts]
    inside = of_run != 0
    starts, stops, of_run = starts[inside], stops[inside], of_run[inside]
    order = np.argsort(of_run, kind="stable")
    starts, stops, of_run = starts[order], stops[order], of_run[order]
    new = np.concatenate(([True], of_run[1:] != of_run[:-1])) if of_run.size else np.zeros(0, np.bool_)
    heads = np.flatnonzero(new)
    if heads.size > MAX_LABELS:
        raise DataError(
            f"a label image holds {heads.size} labels", f"at most {MAX_LABELS} can be scored; is it a label image?"
        )
    firsts = np.concatenate((heads, [of_run.size])).astype(np.int64)
    return Runs(height, width, starts, stops, firsts), of_run[heads].astype(np.int64)


def to_rles(runs: Runs) -> list[bytes]:
    """The masks as compressed COCO RLEs."""
    size = runs.height * runs.width
    counts = []
    for i in range(len(runs)):
        of_mask = slice(int(runs.firsts[i]), int(runs.firsts[i + 1]))
        bounds = np.stack((runs.starts[of_mask], runs.stops[of_mask]), axis=1).ravel()
        lengths = np.diff(bounds, prepend=0, append=size).tolist()
        if lengths[-1] == 0:
            lengths.pop()  # as the COCO API writes it
        counts.append({"size": [runs.height, runs.width], "counts": lengths})
    return [found["counts"] for found in coco_mask.frPyObjects(counts, runs.height, runs.width)] if counts else []


def from_intervals(
    masks: NDArray[np.int64],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    count: int,
    height: int,
    width: int,
    *,
    row_major: bool,
) -> Runs:
    """Masks given as intervals of pixels, in any order, that may overlap.

    Args:
        masks: int64 (K,), the mask each interval belongs to.
        starts: int64 (K,), its first pixel, counted from 0.
        lengths: int64 (K,), its pixels; all inside the image.
        count: number of masks.
        height: rows of the image.
        width: columns of the image.
        row_major: whether pixels are counted along rows, or down columns.
    """
    size = height * width
    pixels = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(int(lengths.sum()))
    if row_major:
        row, column = np.divmod(pixels, width)
        pixels = column * height + row
    # Between two masks lies a pixel that belongs to none, so that no run goes over.
    lines = np.unique(np.repeat(masks, lengths) * (size + 1) + pixels)
    if lines.size == 0:
        none = np.zeros(0, np.int64)
        return Runs(height, width, none, none, np.zeros(count + 1, np.int64))
    heads = np.flatnonzero(np.diff(lines, prepend=lines[0] - 2) != 1)
    feet = np.concatenate((heads[1:], [lines.size])) - 1
    of_run, first = np.divmod(lines[heads], size + 1)
    firsts = np.searchsorted(of_run, np.arange(count + 1))
    return Runs(height, width, first, first + (lines[feet] - lines[heads]) + 1, firsts)


def _signed_values(codes: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The number that each code word holds, or None where one is longer than any image.

    A word is groups of 5 bits, lowest first; the highest group's top bit is the sign.
    """
    last = codes[ends].astype(np.int64)
    values = (last & 0x1F) - ((last & 0x10) << 1)
    lengths = ends.copy()
    lengths[1:] -= ends[:-1]
    lengths[0] += 1
    longer = np.flatnonzero(lengths > 1)
    if longer.size and lengths[longer].max() > 7:
        return None
    back = 1
    while longer.size:
        values[longer] = (values[longer] << 5) | (codes[ends[longer] - back] & 0x1F)
        back += 1
        longer = longer[lengths[longer] > back]
    return values


def _first_error(rles: Sequence[bytes], height: int, width: int) -> MaskError:
    """What is wrong with the first RLE that is."""
    for index, counts in enumerate(rles):
        try:
            rle.check(counts, height, width)
        except DataError as error:
            return MaskError(f"mask {index}: {error.message}", error.hint, index)
    raise AssertionError("the one-pass decoder refuses RLEs that bench.rle accepts")
