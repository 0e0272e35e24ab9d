"""COCO run-length encoding of masks: checked decoding, and one-pass encoding of label maps.

A mask is stored as the *compressed counts* of the COCO API: runs of alternating 0 and 1 pixels in
column-major order, starting with zeros, each written as a variable-length code of 5-bit groups
(``maskApi.c``, ``rleToString``). pycocotools does the work; what it leaves unchecked is checked here,
because it reads past the end of a mask that an RLE does not describe.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from bench.errors import DataError


def string_to_counts(counts: bytes) -> NDArray[np.int64]:
    """Run lengths of one compressed RLE.

    Args:
        counts: the ``counts`` bytes of a COCO RLE.

    Returns:
        int64 (R,), run lengths in pixels, zeros first.

    Raises:
        DataError: a character outside the code, or a code that stops half way.
    """
    codes = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if codes.size == 0:
        raise DataError("empty RLE", "every mask needs at least one run")
    if codes.min() < 0 or codes.max() > 63:
        at = int(np.flatnonzero((codes < 0) | (codes > 63))[0])
        raise DataError(f"illegal character {chr(counts[at])!r} at position {at} of an RLE")
    more = (codes & 0x20) != 0
    if more[-1]:
        raise DataError("an RLE stops in the middle of a run")
    ends = np.flatnonzero(~more)
    starts = np.concatenate(([0], ends[:-1] + 1))
    place = np.arange(codes.size) - np.repeat(starts, ends - starts + 1)
    if place.max() > 6:
        raise DataError("a run of an RLE is longer than any image")
    values = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    negative = (codes[ends] & 0x10) != 0
    values = np.where(negative, values - (np.int64(1) << (5 * (ends - starts + 1))), values)
    # From the fourth run on, the code holds the difference to the run two before.
    runs = values.copy()
    runs[1::2] = np.cumsum(values[1::2])
    if runs.size > 2:
        runs[2::2] = np.cumsum(values[2::2])
    return runs


def check(counts: bytes, height: int, width: int) -> None:
    """Raise unless ``counts`` describes exactly ``height * width`` pixels.

    Raises:
        DataError: illegal characters, negative runs, or another number of pixels.
    """
    runs = string_to_counts(counts)
    if runs.min() < 0:
        raise DataError("an RLE has a negative run")
    total = int(runs.sum())
    if total != height * width:
        raise DataError(f"an RLE covers {total} pixels where its image has {height} x {width} = {height * width}")


def encode_masks(masks: NDArray[np.bool_]) -> list[bytes]:
    """Encode a stack of masks.

    Args:
        masks: (N, H, W), bool or {0, 1}.

    Returns:
        N compressed counts.
    """
    return [coco_mask.encode(np.asfortranarray(m, dtype=np.uint8))["counts"] for m in masks]


def decode(counts: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """Decode one mask to bool (H, W). The counts must have been checked."""
    out: NDArray[np.bool_] = coco_mask.decode({"size": [height, width], "counts": counts}).view(np.bool_)
    return out


def objects(rles: Sequence[bytes], height: int, width: int) -> list[dict[str, object]]:
    """The RLEs as the dictionaries that pycocotools takes."""
    size = [height, width]
    return [{"size": size, "counts": r} for r in rles]


def areas(rles: Sequence[bytes], height: int, width: int) -> NDArray[np.int64]:
    """Pixels of each mask, int64 (N,)."""
    if not rles:
        return np.zeros(0, np.int64)
    found = objects(rles, height, width)
    # pycocotools 2.0.11 counts the masks of one call to `area` in 8 bits.
    parts = [coco_mask.area(found[start : start + 255]) for start in range(0, len(found), 255)]
    return np.concatenate(parts).astype(np.int64)


def boxes(rles: Sequence[bytes], height: int, width: int) -> NDArray[np.float64]:
    """Tight boxes x0, y0, x1, y1 in pixels (x1, y1 exclusive), float64 (N, 4); an empty mask gives zeros."""
    if not rles:
        return np.zeros((0, 4))
    xywh = np.asarray(coco_mask.toBbox(objects(rles, height, width)), dtype=np.float64).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def encode_label_map(labels: NDArray[np.integer], ids: NDArray[np.integer] | None = None) -> list[bytes]:
    """Encode every label of a label map in one pass over its pixels.

    Args:
        labels: (H, W), 0 is background.
        ids: the labels to encode, in the order wanted; default: all that occur, ascending.

    Returns:
        compressed counts, one for each of ``ids``; a label that does not occur gives an empty mask.
    """
    height, width = labels.shape
    flat = np.asarray(labels).ravel(order="F")
    if ids is None:
        ids = np.unique(flat)
        ids = ids[ids != 0]
    if flat.size == 0 or len(ids) == 0:
        return [_empty_counts(height, width) for _ in ids]
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate(([0], edges))
    ends = np.concatenate((edges, [flat.size]))
    run_labels = flat[starts]
    order = np.argsort(run_labels, kind="stable")
    run_labels, starts, ends = run_labels[order], starts[order], ends[order]
    first = np.searchsorted(run_labels, ids, side="left")
    last = np.searchsorted(run_labels, ids, side="right")
    size = [height, width]
    uncompressed = []
    for a, b in zip(first.tolist(), last.tolist(), strict=True):
        bounds = np.empty(2 * (b - a) + 1, np.int64)
        bounds[0:-1:2], bounds[1:-1:2], bounds[-1] = starts[a:b], ends[a:b], flat.size
        runs = np.diff(bounds, prepend=0)
        if runs[-1] == 0:
            runs = runs[:-1]  # as the COCO API writes it: no run after the last pixel
        uncompressed.append({"size": size, "counts": runs.tolist()})
    return [r["counts"] for r in coco_mask.frPyObjects(uncompressed, height, width)]


def _empty_counts(height: int, width: int) -> bytes:
    counts: bytes = coco_mask.encode(np.zeros((height, width), np.uint8, order="F"))["counts"]
    return counts
