"""Windows of run-length encoded masks, of instances and of samples, without a mask ever being drawn. No torch."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from bench.api import Instances, Sample
from bench.rle import boxes, string_to_counts


class Window(NamedTuple):
    """A rectangle of an image, pixels; ``bottom`` and ``right`` are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    def shared(self, other: Window) -> Window | None:
        """The rectangle that both cover, None where there is none."""
        both = Window(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )
        return both if both.height > 0 and both.width > 0 else None

    def moved(self, rows: int, columns: int) -> Window:
        """The same rectangle elsewhere."""
        return Window(self.top + rows, self.left + columns, self.bottom + rows, self.right + columns)


def window_of_mask(counts: bytes, height: int, width: int, window: Window) -> bytes:
    """What of a mask lies in a window, as a mask over the window.

    The window may reach beyond the image, where the mask is empty: so a mask of a tile becomes one of the image by the
    window that the image is, seen from the tile.

    Args:
        counts: compressed counts of a COCO RLE over ``height`` x ``width`` pixels.
        height: of the image, pixels.
        width: of the image, pixels.
        window: see above.

    Returns:
        compressed counts over ``window.height`` x ``window.width`` pixels.
    """
    ends = np.cumsum(string_to_counts(counts))
    starts, ends = ends[0::2][: len(ends) // 2], ends[1::2]
    low, high = max(window.left, 0) * height, min(window.right, width) * height
    starts, ends = np.maximum(starts, low), np.minimum(ends, high)
    inside = starts < ends
    starts, ends = starts[inside], ends[inside]
    # A run goes down one column and on in the next: a piece for each column.
    first = starts // height
    pieces = (ends - 1) // height - first + 1
    run = np.repeat(np.arange(len(starts)), pieces)
    column = first[run] + np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    row_from = np.maximum(starts[run] - column * height, max(window.top, 0)) - window.top
    row_to = np.minimum(np.minimum(ends[run] - column * height, height), window.bottom) - window.top
    inside = row_from < row_to
    at = (column[inside] - window.left) * window.height
    return _encoded(at + row_from[inside], at + row_to[inside], window.height, window.width)


def _encoded(starts: NDArray[np.int64], ends: NDArray[np.int64], height: int, width: int) -> bytes:
    """Counts of a mask given by its runs, in order, which may adjoin."""
    breaks = starts[1:] != ends[:-1]
    bounds = np.empty(2 * (np.count_nonzero(breaks) + 1) if len(starts) else 0, np.int64)
    if len(starts):
        bounds[0::2] = starts[np.concatenate(([True], breaks))]
        bounds[1::2] = ends[np.concatenate((breaks, [True]))]
    runs = np.diff(bounds, prepend=0, append=height * width)
    if len(runs) > 1 and runs[-1] == 0:
        runs = runs[:-1]  # as the COCO API writes it: no run after the last pixel
    (encoded,) = coco_mask.frPyObjects([{"size": [height, width], "counts": runs.tolist()}], height, width)
    counts: bytes = encoded["counts"]
    return counts


def window_of_instances(instances: Instances, window: Window) -> Instances:
    """The instances that have a pixel in a window, each cut to it, as instances of the window alone."""
    tight = boxes(instances.rles, *instances.shape)
    near = np.flatnonzero(
        (tight[:, 0] < window.right)
        & (tight[:, 2] > window.left)
        & (tight[:, 1] < window.bottom)
        & (tight[:, 3] > window.top)
    )
    cut = Instances(
        window.height,
        window.width,
        tuple(window_of_mask(instances.rles[i], *instances.shape, window) for i in near),
        instances.class_ids[near],
        None if instances.scores is None else instances.scores[near],
        crowd=instances.crowd[near],
    )
    return cut.take(cut.areas > 0)


def window_of_sample(sample: Sample, window: Window) -> Sample:
    """An image and its truth, cut to a window that lies within it."""
    return replace(
        sample,
        image=np.ascontiguousarray(sample.image[window.top : window.bottom, window.left : window.right]),
        instances=None if sample.instances is None else window_of_instances(sample.instances, window),
    )
