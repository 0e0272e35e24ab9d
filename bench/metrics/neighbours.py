"""Which instances of a label image lie within a few pixels of one another, from its runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.metrics.segments import NOBODY, Segments, expand


def touching(segments: Segments, owner: NDArray[np.int64], count: int, radius: int) -> NDArray[np.bool_]:
    """Instances that, dilated by a square of ``radius`` pixels (8-connected), meet another.

    Args:
        segments: of the image.
        owner: of each segment, :data:`~bench.metrics.segments.NOBODY` for background.
        count: number of instances.
        radius: at least 1.

    Returns:
        bool (count,).
    """
    touches = np.zeros(count, np.bool_)
    inside = np.flatnonzero(owner != NOBODY)
    if count < 2:
        return touches
    label, start, stop = owner[inside], segments.bounds[inside], segments.bounds[inside + 1]
    column = start // segments.height
    # Columns padded by the radius on both ends, so that a neighbourhood never reaches into another column.
    tall = segments.height + 2 * radius
    line = start + column * (2 * radius) + radius
    end = line + (stop - start)
    joins = (line[1:] == end[:-1]) & (label[1:] == label[:-1])
    heads = np.flatnonzero(np.concatenate(([True], ~joins)))
    feet = np.concatenate((heads[1:], [inside.size])) - 1
    line, end, label = line[heads], end[feet], label[heads]
    # Down its own column a run needs to look at the next one only.
    near = np.flatnonzero((line[1:] - end[:-1] < radius) & (label[1:] != label[:-1]))
    touches[label[near]] = True
    touches[label[near + 1]] = True
    for step in range(1, radius + 1):
        first = np.searchsorted(end, line + (step * tall - radius), side="right")
        last = np.searchsorted(line, end + (step * tall + radius), side="left")
        seen = np.maximum(last - first, 0)
        mine, other = np.repeat(label, seen), label[expand(first, seen)]
        apart = mine != other
        touches[mine[apart]] = True
        touches[other[apart]] = True
    return touches
