"""Images too large for a detector's input: overlapping tiles at the image's own resolution, merged. No torch.

A dense method blends the maps of its tiles (:mod:`methods._tiles`) before it looks for instances; a detector's
instances are there already, and the copies and halves that neighbouring tiles see of the same one must become one.
The rule of :func:`merged` is ours. What it takes from the literature is the principle of block-wise prediction in
StarDist (Weigert et al., 2020, ``predict_instances_big``): of an object in an overlap, the block that sees it whole is
responsible. Its condition, that no object is larger than the overlap, is not needed here: halves are joined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from bench.api import Instances, ObjectStatistics, UsageError
from bench.rle import boxes, objects
from methods._tiles import starts
from methods._windows import Window, window_of_mask

AUTOMATIC = -1
"""Of the settings ``tile`` and ``tile_overlap``: the task decides."""

SMALLEST_SEEN = 8.0
"""Pixels of the network's input: no method here has anchors for smaller objects."""
LARGEST_WHOLE = 2048
"""An image whose longer side is at most this, a camera's common field, is not cut for its small objects, pixels."""
MOST_SHRUNK = 0.5
"""Nor is one that keeps so much of its resolution."""
LARGEST_INPUT = 2560
"""An image is cut whose network input would have more than the area of this square, pixels of the input."""
TILE_OF_LARGEST = 1024
"""Side of the tiles of an image whose network input would be larger, pixels of the image."""

SAME_IOU = 0.5
"""Masks of two tiles are the same instance from this IoU in the strip that both tiles see."""
COVERED = 0.5
"""A fragment that lies under another tile's instance by more than this share is part of it."""
EDGE, EDGE_SHARE = 2, 0.05
"""A mask that ends so near the edge of its tile may go on beyond it: pixels, or a share of its box's longer side."""


@dataclass(frozen=True)
class Tiling:
    """How images are cut.

    Attributes:
        side: of a tile, pixels of the image.
        overlap: of neighbouring tiles, pixels of the image.
    """

    side: int
    overlap: int

    def __post_init__(self) -> None:
        if self.side < 2:
            raise UsageError(f"setting tile must be at least 2, not {self.side}", "or 0: images are never cut")
        if not 0 <= self.overlap < self.side:
            raise UsageError(
                f"tiles of {self.side} pixels cannot overlap by {self.overlap}", "tile must exceed tile_overlap"
            )

    def cuts(self, height: int, width: int) -> bool:
        """Whether an image of this size has more than one tile."""
        return max(height, width) > self.side

    def windows(self, height: int, width: int) -> list[Window]:
        """The tiles of an image, row by row; each as large as all others."""
        rows, columns = (starts(length, self.side, self.overlap, 1) for length in (height, width))
        return [
            Window(top, left, min(top + self.side, height), min(left + self.side, width))
            for top in rows
            for left in columns
        ]

    def random_window(self, height: int, width: int, rng: np.random.Generator) -> Window:
        """A window of a tile's size within the image, every place equally likely."""
        tall, wide = min(self.side, height), min(self.side, width)
        top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        return Window(top, left, top + tall, left + wide)


def vanishes_when_whole(objects: ObjectStatistics, height: int, width: int, factor: float) -> bool:
    """Whether shrinking a large image to the network's input makes its small objects vanish.

    Args:
        objects: of the task.
        height: of the image, pixels.
        width: of the image, pixels.
        factor: by how much it is enlarged.
    """
    return max(height, width) > LARGEST_WHOLE and factor < MOST_SHRUNK and objects.size_p05 * factor < SMALLEST_SEEN


def default_overlap(objects: ObjectStatistics | None, side: int) -> int:
    """So much that nearly every object lies whole in one tile: the longer side of a large, slender one.

    The 95th percentile of the sizes, which are geometric means of a box's sides, times the square root of the 95th
    percentile of their ratios; a quarter of the tile where unknown, half of it at most.
    """
    wanted = side // 4 if objects is None else math.ceil(objects.size_p95 * math.sqrt(objects.aspect_p95))
    return min(wanted, side // 2)


def in_tiles(image: NDArray[np.uint8], predict: Callable[[NDArray[np.uint8]], Instances], tiling: Tiling) -> Instances:
    """The instances of an image, predicted tile by tile and merged.

    Args:
        image: (H, W, C), its grey levels made comparable over the whole image already.
        predict: the instances of a tile, over the tile's pixels.
        tiling: how it is cut.
    """
    height, width = image.shape[:2]
    pieces = [
        (window, predict(np.ascontiguousarray(image[window.top : window.bottom, window.left : window.right])))
        for window in tiling.windows(height, width)
    ]
    return merged(pieces, height, width)


@dataclass(frozen=True)
class _Found:
    """One instance as one tile sees it.

    Attributes:
        tile: number of the tile.
        window: of the tile in the image.
        counts: mask over the tile.
        box: of the mask in the image, x0, y0, x1, y1.
        kind: class id.
        score: None where there is none.
        margin: from the mask to the nearest edge of the tile that is not the image's edge, pixels.
    """

    tile: int
    window: Window
    counts: bytes
    box: tuple[float, float, float, float]
    kind: int
    score: float | None
    margin: float

    @property
    def whole(self) -> bool:
        x0, y0, x1, y1 = self.box
        return self.margin > max(EDGE, EDGE_SHARE * max(x1 - x0, y1 - y0))

    def within(self, other: Window) -> bytes:
        """The mask over another window of the image."""
        return window_of_mask(
            self.counts, self.window.height, self.window.width, other.moved(-self.window.top, -self.window.left)
        )


def merged(pieces: Sequence[tuple[Window, Instances]], height: int, width: int) -> Instances:
    """The instances of an image from those of its tiles: each once, and whole.

    1. Two instances of two tiles and of one class are the same if their masks, cut to the strip that both tiles see,
       have an IoU of :data:`SAME_IOU` or more; the best agreement first, and never two of one tile.
    2. Of the copies of an instance one is kept: of those that end before the edge of their tile, the one furthest from
       it. Where all are cut by their tiles' edges, they are joined, with the highest of their scores.
    3. What an edge cuts, and no other tile confirms, is dropped if more than :data:`COVERED` of it lies under an
       instance of another tile; else it stays as it is.

    Args:
        pieces: each tile, in pixels of the image, and the instances over its own pixels.
        height: of the image, pixels.
        width: of the image, pixels.
    """
    found = [one for tile, (window, seen) in enumerate(pieces) for one in _placed(tile, window, seen, height, width)]
    image = Window(0, 0, height, width)
    groups = _groups(found, _matches(found, [window for window, _ in pieces]))
    results: list[tuple[list[_Found], bytes, float | None]] = []
    for group in groups:
        members = [found[i] for i in group]
        if complete := [one for one in members if one.whole]:
            kept = max(complete, key=lambda one: (one.margin, one.score or 0.0))
            results.append((members, kept.within(image), kept.score))
        else:
            scores = [one.score for one in members if one.score is not None]
            results.append((members, _union([one.within(image) for one in members], image), max(scores, default=None)))
    results = [result for result in results if not _is_part(result, results, height, width)]
    scored = all(seen.scores is not None for _, seen in pieces)
    return Instances(
        height,
        width,
        tuple(counts for _, counts, _ in results),
        np.array([members[0].kind for members, _, _ in results], np.int64),
        np.array([score for _, _, score in results], np.float64) if scored else None,
    )


def _placed(tile: int, window: Window, seen: Instances, height: int, width: int) -> Iterable[_Found]:
    tight = boxes(seen.rles, seen.height, seen.width) + np.tile([window.left, window.top], 2)
    for index in np.flatnonzero(seen.areas > 0):
        x0, y0, x1, y1 = (float(v) for v in tight[index])
        margins = [
            y0 - window.top if window.top > 0 else math.inf,
            x0 - window.left if window.left > 0 else math.inf,
            window.bottom - y1 if window.bottom < height else math.inf,
            window.right - x1 if window.right < width else math.inf,
        ]
        score = None if seen.scores is None else float(seen.scores[index])
        kind = int(seen.class_ids[index])
        yield _Found(tile, window, seen.rles[index], (x0, y0, x1, y1), kind, score, min(margins))


def _matches(found: Sequence[_Found], windows: Sequence[Window]) -> list[tuple[float, int, int]]:
    """(IoU in the shared strip, index, index) of what may be the same instance, the best agreement first."""
    of_tile: list[list[int]] = [[] for _ in windows]
    for index, one in enumerate(found):
        of_tile[one.tile].append(index)
    pairs = []
    for a, first in enumerate(windows):
        for b in range(a + 1, len(windows)):
            strip = first.shared(windows[b])
            if strip is None:
                continue
            here, there = (_cut_to(strip, found, of_tile[tile]) for tile in (a, b))
            if not here or not there:
                continue
            iou = coco_mask.iou(
                objects([counts for _, counts in here], strip.height, strip.width),
                objects([counts for _, counts in there], strip.height, strip.width),
                [0] * len(there),
            )
            for row, column in np.argwhere(iou >= SAME_IOU):
                i, j = here[row][0], there[column][0]
                if found[i].kind == found[j].kind:
                    pairs.append((float(iou[row, column]), i, j))
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))


def _cut_to(strip: Window, found: Sequence[_Found], indices: Iterable[int]) -> list[tuple[int, bytes]]:
    """Those of the instances whose box reaches into a strip, with their mask over it."""
    reaching = []
    for index in indices:
        x0, y0, x1, y1 = found[index].box
        if x0 < strip.right and x1 > strip.left and y0 < strip.bottom and y1 > strip.top:
            reaching.append((index, found[index].within(strip)))
    return reaching


def _groups(found: Sequence[_Found], matches: Iterable[tuple[float, int, int]]) -> list[list[int]]:
    """The instances as groups of the same one; what a tile tells apart stays apart."""
    group_of = [[index] for index in range(len(found))]
    for _, i, j in matches:
        first, second = group_of[i], group_of[j]
        if first is second or {found[k].tile for k in first} & {found[k].tile for k in second}:
            continue
        first.extend(second)
        for k in second:
            group_of[k] = first
    return [group for index, group in enumerate(group_of) if group[0] == index]


def _union(masks: Sequence[bytes], image: Window) -> bytes:
    if len(masks) == 1:
        return masks[0]
    counts: bytes = coco_mask.merge(objects(masks, image.height, image.width))["counts"]
    return counts


def _is_part(
    result: tuple[list[_Found], bytes, float | None],
    results: Sequence[tuple[list[_Found], bytes, float | None]],
    height: int,
    width: int,
) -> bool:
    """Whether this is a fragment of an instance that another tile sees."""
    (one, *others), counts, _ = result
    if others or one.whole:
        return False
    rivals = [
        rival
        for members, rival, _ in results
        if rival is not counts
        and members[0].kind == one.kind
        and all(member.tile != one.tile for member in members)
        and any(_reach_each_other(member.box, one.box) for member in members)
        and (len(members) > 1 or members[0].whole)
    ]
    if not rivals:
        return False
    covered = coco_mask.iou(
        objects([counts], height, width), objects(rivals, height, width), [1] * len(rivals)
    )  # of a crowd: the shared pixels over those of the first
    return bool(covered.max() > COVERED)


def _reach_each_other(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
