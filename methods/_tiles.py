"""Images larger than memory allows: overlapping tiles, and one map blended of theirs. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.api import UsageError

Maps = Mapping[str, NDArray[np.float32]]


def in_tiles(
    image: NDArray[np.float32],
    infer: Callable[[NDArray[np.float32]], Maps],
    *,
    tile: int,
    overlap: int,
    stride: int,
    reductions: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, NDArray[np.float32]]:
    """The maps of an image, of one piece where it is no larger than a tile, else blended of its tiles' maps.

    Tiles begin at multiples of ``stride``, so that pooling falls on the same pixels as in the whole image. In the
    overlap of two, the outer quarter of each counts nothing and between these the one fades linearly into the
    other: a network that sees no further than ``overlap / 4`` gives exactly the maps of the whole image.

    Args:
        image: (C, H, W).
        infer: maps of a piece (C, h, w) by name, each (K, h, w).
        tile: side of a tile, pixels; images of at most ``tile * tile`` pixels are not cut.
        overlap: of neighbouring tiles, pixels.
        stride: of the network, pixels.
        reductions: maps of lower resolution, (K, h / r, w / r) rounded up: name -> r, a divisor of the stride.

    Raises:
        UsageError: tiles that do not move on: an overlap that leaves less than the stride.
    """
    height, width = image.shape[-2:]
    if height * width <= tile * tile:
        return dict(infer(image))
    rows, columns = (starts(length, tile, overlap, stride) for length in (height, width))
    sums: dict[str, NDArray[np.float32]] = {}
    totals = {r: np.zeros((-(-height // r), -(-width // r)), np.float32) for r in {1, *reductions.values()}}
    for top, bottom, row_weight in _spans(rows, tile, height, overlap):
        for left, right, column_weight in _spans(columns, tile, width, overlap):
            weights = {r: np.outer(_every(row_weight, r), _every(column_weight, r)) for r in totals}
            for r, weight in weights.items():
                totals[r][_at(top, r, weight.shape[0]), _at(left, r, weight.shape[1])] += weight
            for name, values in infer(np.ascontiguousarray(image[:, top:bottom, left:right])).items():
                r = reductions.get(name, 1)
                if name not in sums:
                    sums[name] = np.zeros((len(values), *totals[r].shape), np.float32)
                sums[name][:, _at(top, r, values.shape[1]), _at(left, r, values.shape[2])] += weights[r] * values
    for name, values in sums.items():
        values /= totals[reductions.get(name, 1)]
    return sums


def _every(weight: NDArray[np.float32], reduction: int) -> NDArray[np.float32]:
    """The weight in the middle of every ``reduction`` pixels; of a last, shorter stretch that of its last pixel."""
    middles = np.arange(-(-len(weight) // reduction)) * reduction + reduction // 2
    return weight[np.minimum(middles, len(weight) - 1)]


def _at(begin: int, reduction: int, length: int) -> slice:
    return slice(begin // reduction, begin // reduction + length)


def starts(length: int, tile: int, overlap: int, stride: int) -> list[int]:
    """First pixels, multiples of ``stride``, of the tiles that cover ``length`` pixels.

    Neighbours overlap by at least ``overlap``; the last tile may be shorter by less than ``stride``.

    Raises:
        UsageError: see :func:`in_tiles`.
    """
    if length <= tile:
        return [0]
    step = (tile - overlap) // stride * stride
    if step < 1:
        raise UsageError(
            f"tiles of {tile} pixels that overlap by {overlap} do not move on",
            f"tile must exceed tile_overlap by at least {stride} pixels, the network's stride",
        )
    last = -(-(length - tile) // stride) * stride
    return [*range(0, last, step), last]


def _spans(begins: list[int], tile: int, length: int, overlap: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """First pixel, end and blending weights of each tile along one axis."""
    ends = [min(begin + tile, length) for begin in begins]
    for index, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        weight = np.ones(end - begin, np.float32)
        if index > 0:
            shared = ends[index - 1] - begin
            weight[:shared] *= _fade_in(shared)
        if index + 1 < len(begins):
            shared = end - begins[index + 1]
            weight[len(weight) - shared :] *= _fade_in(shared)[::-1]
        yield begin, end, weight


def _fade_in(length: int) -> NDArray[np.float32]:
    """From 0 to 1 over ``length`` pixels: 0 in the first quarter, 1 in the last, linear between."""
    position = (np.arange(length) + 0.5) / length
    return np.clip(2 * position - 0.5, 0, 1).astype(np.float32)
