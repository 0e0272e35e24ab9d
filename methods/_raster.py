"""Between a small mask that lives in a box and the pixels of an image. NumPy only.

Boxes are continuous: x0, y0, x1, y1 with pixel ``i`` covering ``[i, i + 1)``. A pixel belongs to a box if its centre
lies in it. A mask of m x m samples is spread evenly over its box and read bilinearly, as an image that is resized.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask


def pixels_of(low: float, high: float, limit: int) -> tuple[int, int]:
    """First pixel and the one after the last whose centre lies in ``[low, high)``, within ``[0, limit)``."""
    first = min(max(math.ceil(low - 0.5), 0), limit)
    return first, min(max(math.ceil(high - 0.5), first), limit)


def paste(
    mask: NDArray[np.float32], box: NDArray[np.floating], height: int, width: int
) -> tuple[NDArray[np.float32], int, int]:
    """A soft mask at the pixels of the image that its box covers.

    Args:
        mask: (m, n) foreground probability.
        box: (4,) x0, y0, x1, y1, pixels.
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        float32 (h, w), the probability at each pixel, with the row and the column of its first pixel in the image;
        (0, 0) pixels for a box that contains no pixel's centre.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    top, bottom = pixels_of(y0, y1, height)
    left, right = pixels_of(x0, x1, width)
    if top == bottom or left == right:
        return np.zeros((0, 0), np.float32), top, left
    rows, row_share = _neighbours(np.arange(top, bottom), y0, y1, mask.shape[0])
    columns, column_share = _neighbours(np.arange(left, right), x0, x1, mask.shape[1])
    tall = mask[rows[0]] * (1 - row_share)[:, None] + mask[rows[1]] * row_share[:, None]
    patch = tall[:, columns[0]] * (1 - column_share) + tall[:, columns[1]] * column_share
    return patch.astype(np.float32, copy=False), top, left


def _neighbours(
    pixels: NDArray[np.int64], low: float, high: float, size: int
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]:
    """The two samples of ``size`` in ``[low, high)`` around each pixel's centre, and the share of the second."""
    place = np.clip((pixels + 0.5 - low) * (size / (high - low)) - 0.5, 0, size - 1)
    first = np.minimum(place.astype(np.int64), max(size - 2, 0))
    return (first, np.minimum(first + 1, size - 1)), (place - first).astype(np.float32)


def mask_targets(
    masks: NDArray[np.uint8],
    boxes: NDArray[np.floating],
    chosen: NDArray[np.int64],
    size: int,
    threshold: float,
) -> NDArray[np.bool_]:
    """What the mask regression of each box shall answer: its object, cut off at the box and resized.

    Args:
        masks: (G, H, W) {0, 1}, the objects.
        boxes: (K, 4) x0, y0, x1, y1, pixels.
        chosen: (K,) the object of each box.
        size: m.
        threshold: a resized value from here on is foreground.

    Returns:
        bool (K, m, m).
    """
    _, height, width = masks.shape
    rows, row_share = _samples(boxes[:, 1], boxes[:, 3], size, height)
    columns, column_share = _samples(boxes[:, 0], boxes[:, 2], size, width)
    which = chosen[:, None, None]

    def read(row: int, column: int) -> NDArray[np.float32]:
        return masks[which, rows[row][:, :, None], columns[column][:, None, :]].astype(np.float32)

    right = column_share[:, None, :]
    upper = read(0, 0) * (1 - right) + read(0, 1) * right
    lower = read(1, 0) * (1 - right) + read(1, 1) * right
    below = row_share[:, :, None]
    # Exactly representable thresholds aside, equality is decided as a resize in single precision decides it.
    return np.asarray(upper * (1 - below) + lower * below >= np.float32(threshold))


def _samples(
    low: NDArray[np.floating], high: NDArray[np.floating], size: int, limit: int
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]:
    """``size`` even samples of ``[low, high)``: the two pixels around each, kept inside the box and the image."""
    low, high = low.astype(np.float64)[:, None], high.astype(np.float64)[:, None]
    place = low + (np.arange(size) + 0.5) * ((high - low) / size) - 0.5
    first_pixel = np.clip(np.floor(low), 0, limit - 1)
    last_pixel = np.clip(np.ceil(high) - 1, first_pixel, limit - 1)
    place = np.clip(place, first_pixel, last_pixel)
    first = np.floor(place).astype(np.int64)
    second = np.minimum(first + 1, last_pixel.astype(np.int64))
    return (first, second), (place - first).astype(np.float32)


def mask_overlap(
    mask: NDArray[np.float32], box: NDArray[np.floating], truth: NDArray[np.uint8], threshold: float
) -> float:
    """IoU between a soft mask in its box, binarised, and a whole object.

    Args:
        mask: (m, m) foreground probability.
        box: (4,) x0, y0, x1, y1, pixels.
        truth: (H, W) {0, 1}.
        threshold: a pixel from here on is foreground.
    """
    patch, top, left = paste(mask, box, *truth.shape)
    binary = patch >= threshold
    window = truth[top : top + binary.shape[0], left : left + binary.shape[1]] != 0
    shared = int((binary & window).sum())
    together = int(binary.sum()) + int(np.count_nonzero(truth)) - shared
    return shared / together if together else 0.0


def encode_window(window: NDArray[np.bool_], top: int, left: int, height: int, width: int) -> bytes:
    """The COCO RLE of an image whose foreground lies within a window, in time and memory of the window.

    Args:
        window: bool (h, w).
        top: row of its first pixel in the image.
        left: column of its first pixel in the image.
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        compressed counts.
    """
    padded = np.zeros((window.shape[1], window.shape[0] + 2), np.int8)
    padded[:, 1:-1] = window.T
    steps = np.diff(padded, axis=1)
    starts, ends = (
        (columns + left) * height + rows + top for columns, rows in (np.nonzero(steps == 1), np.nonzero(steps == -1))
    )
    # A run that reaches the bottom row goes on where the next column begins at the top row.
    apart = np.concatenate(([True], starts[1:] != ends[:-1])) if len(starts) else np.zeros(0, np.bool_)
    starts, ends = starts[apart], ends[np.roll(apart, -1)]
    bounds = np.empty(2 * len(starts) + 1, np.int64)
    bounds[0:-1:2], bounds[1:-1:2], bounds[-1] = starts, ends, height * width
    runs = np.diff(bounds, prepend=0)
    if len(runs) > 1 and runs[-1] == 0:
        runs = runs[:-1]
    counts: bytes = coco_mask.frPyObjects([{"size": [height, width], "counts": runs.tolist()}], height, width)[0][
        "counts"
    ]
    return counts
