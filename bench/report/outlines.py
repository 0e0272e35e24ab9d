"""Outlines of instances along the edges of their pixels, as SVG paths: exact at any zoom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def outline_paths(labels: NDArray[np.integer], count: int) -> list[str]:
    """The outline of each label of a label image, holes and separate parts included.

    Args:
        labels: (H, W), 0 is background.
        count: the highest label that is wanted.

    Returns:
        for each label from 1 to ``count`` the ``d`` of an SVG path in pixels, x to the right, y down; empty where
        the label does not occur. Parts that meet in a corner only are outlined apart.
    """
    label, x0, y0, x1, y1 = _segments(np.asarray(labels))
    paths: list[list[str]] = [[] for _ in range(count)]
    if not label.size:
        return [""] * count
    width = labels.shape[1] + 1
    size = width * (labels.shape[0] + 1)
    starts = (label * size + y0 * width + x0).tolist()
    ends = (label * size + y1 * width + x1).tolist()
    step_x, step_y = (x1 - x0).tolist(), (y1 - y0).tolist()
    leaving: dict[int, list[int]] = {}
    for index, start in enumerate(starts):
        leaving.setdefault(start, []).append(index)
    used = bytearray(len(starts))
    names, first_x, first_y = label.tolist(), x0.tolist(), y0.tolist()
    for head in range(len(starts)):
        if used[head] or names[head] > count:
            continue
        drawn = [f"M{first_x[head]} {first_y[head]}"]
        at = head
        while not used[at]:
            used[at] = 1
            drawn.append(f"h{step_x[at]}" if step_y[at] == 0 else f"v{step_y[at]}")
            following = leaving[ends[at]]
            at = following[0] if len(following) == 1 else _right_turn(at, following, step_x, step_y)
        drawn[-1] = "z"  # closing draws the last side
        paths[names[head] - 1].append("".join(drawn))
    return ["".join(parts) for parts in paths]


def _right_turn(at: int, following: list[int], step_x: list[int], step_y: list[int]) -> int:
    """Of two sides that leave a corner, the one on the right, which goes on around the same pixel."""
    for index in following:
        if step_x[at] * step_y[index] - step_y[at] * step_x[index] > 0:
            return index
    return following[0]


def _segments(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], ...]:
    """Every straight stretch of every outline, inside on its right: label, x0, y0, x1, y1."""
    padded = np.pad(labels, 1)
    inside = padded[1:-1, 1:-1]
    top = _stretches(inside, padded[:-2, 1:-1])
    foot = _stretches(inside, padded[2:, 1:-1])
    left = _stretches(inside.T, padded[1:-1, :-2].T)
    right = _stretches(inside.T, padded[1:-1, 2:].T)
    parts = (
        (top[0], top[2], top[1], top[3], top[1]),
        (right[0], right[1] + 1, right[2], right[1] + 1, right[3]),
        (foot[0], foot[3], foot[1] + 1, foot[2], foot[1] + 1),
        (left[0], left[1], left[3], left[1], left[2]),
    )
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def _stretches(inside: NDArray[np.integer], beyond: NDArray[np.integer]) -> tuple[NDArray[np.int64], ...]:
    """Stretches along rows where a label meets another one: label, row, first column, one past the last."""
    rows, columns = np.nonzero((inside != 0) & (inside != beyond))
    label = inside[rows, columns].astype(np.int64)
    goes_on = (label[1:] == label[:-1]) & (rows[1:] == rows[:-1]) & (columns[1:] == columns[:-1] + 1)
    heads = np.flatnonzero(np.concatenate(([True], ~goes_on))) if label.size else np.zeros(0, np.int64)
    feet = np.append(heads[1:], label.size) - 1 if label.size else heads
    return label[heads], rows[heads], columns[heads], columns[feet] + 1
