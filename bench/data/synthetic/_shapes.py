"""Cells as bodies of thickness: rods with round ends and changing width, bent by a field of displacements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.data.synthetic._exact import UNIT, Field, cosine, sine

GRID = 8
"""Coordinates and radii are whole numbers, this many to a pixel."""
_TILE = 4
"""Rods are drawn tile by tile; side of a tile in pixels."""
_BLOCK = 1 << 10
"""Tiles that are worked on at once: few enough to stay in a processor's cache."""
_NOWHERE = 1 << 15
"""A coordinate beyond the reach of every rod, in 1/8 pixel."""


class Rod(NamedTuple):
    """A rod from one point to another.

    Its thickness falls from ``thickness`` on the axis to 0 at the radius, like a lens; ``flatness`` cuts the lens off:
    1 is a lens, 4 a disc with a steep rim. Coordinates and radii in 1/8 pixel; a rod is at most 200 pixels long.
    """

    y0: int
    x0: int
    radius0: int
    y1: int
    x1: int
    radius1: int
    thickness: int
    flatness: int = 1


@dataclass(frozen=True)
class Warp:
    """Displacements of every pixel, (H, W) each, in 1/8 pixel, by which outlines become irregular."""

    rows: Field
    columns: Field

    @cached_property
    def reach(self) -> int:
        """The longest displacement, in whole pixels, rounded up."""
        most = max(max(int(f.max()), -int(f.min())) for f in (self.rows, self.columns))
        return -(-most // GRID)


@dataclass
class Canvas:
    """A window of an image into which rods are drawn: the thickness where any rod covers a pixel, 0 elsewhere."""

    top: int
    left: int
    thickness: Field

    @property
    def slices(self) -> tuple[slice, slice]:
        """Where the window lies in the image."""
        height, width = self.thickness.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def draw(rods: Sequence[Rod], shape: tuple[int, int], warp: Warp | None) -> Canvas | None:
    """The union of rods, as the greatest thickness at each pixel.

    Args:
        rods: in image coordinates.
        shape: (H, W) of the image; what lies outside is cut off.
        warp: of the whole image; None: outlines stay as they are.

    Returns:
        the smallest window that holds them, or None if they lie outside the image.
    """
    _, places, heights = cover(rods, shape, warp)
    if not places.size:
        return None
    rows, columns = places // shape[1], places % shape[1]
    top, left = int(rows.min()), int(columns.min())
    canvas = Canvas(top, left, np.zeros((int(rows.max()) - top + 1, int(columns.max()) - left + 1), np.int32))
    np.maximum.at(canvas.thickness.reshape(-1), (rows - top) * canvas.thickness.shape[1] + columns - left, heights)
    return canvas


def cover(
    rods: Sequence[Rod], shape: tuple[int, int], warp: Warp | None
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The pixels that rods cover, one rod after the other.

    Args:
        rods: in image coordinates.
        shape: (H, W) of the image; what lies outside is cut off.
        warp: of the whole image; None: outlines stay as they are.

    Returns:
        for each pixel of each rod: the index of the rod, the index of the pixel in the image in reading order, and
        the thickness there, which is positive.
    """
    table = np.array(rods, np.int32).reshape(-1, len(Rod._fields))
    rod, tile_row, tile_column = _tiles_near(table, shape, warp.reach if warp else 0)
    # A column for each pixel of a tile, so that what belongs to a rod is laid along its row once.
    down, right = np.divmod(np.arange(_TILE**2, dtype=np.int32), _TILE)
    corner = (tile_row * shape[1] + tile_column) * _TILE
    found: list[tuple[NDArray[np.int32], ...]] = []
    for start in range(0, len(rod), _BLOCK):
        block = slice(start, start + _BLOCK)
        its = table.take(rod[block], axis=0)
        places = corner[block, None] + (down * shape[1] + right)
        dy = (tile_row[block] * (_TILE * GRID) - its[:, 0])[:, None] + down * GRID
        dx = (tile_column[block] * (_TILE * GRID) - its[:, 1])[:, None] + right * GRID
        if warp:
            dy += warp.rows.reshape(-1).take(places, mode="clip")
            dx += warp.columns.reshape(-1).take(places, mode="clip")
        if shape[0] % _TILE or shape[1] % _TILE:
            rows, columns = tile_row[block, None] * _TILE + down, tile_column[block, None] * _TILE + right
            dy[(rows >= shape[0]) | (columns >= shape[1])] = _NOWHERE
        hit, heights = _lenses(its, dy, dx)
        found.append((rod[block].take(hit // _TILE**2), places.reshape(-1).take(hit), heights))
    if not found:
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int32)
    owners, at, thickness = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return owners, at, thickness


def curve(
    start: tuple[int, int], angle: int, bend: int, length: int, radii: tuple[int, int], thickness: tuple[int, int],
    pieces: int = 6, taper: int = 2, flatness: int = 1,
) -> list[Rod]:  # fmt: skip
    """A bent process that becomes thinner.

    Args:
        start: y, x of its root, in 1/8 pixel.
        angle: of its root, in 1/1024 turn.
        bend: how much the angle changes over its length.
        length: in 1/8 pixel.
        radii: at its root and at its tip, in 1/8 pixel.
        thickness: at its root and at its tip.
        pieces: rods it is made of.
        taper: 1: the radius falls evenly; 2: fast at the root.
        flatness: of its rods.
    """
    y, x = start
    rods = []
    radius = radii[0]
    for i in range(1, pieces + 1):
        direction = angle + bend * (2 * i - 1) // (2 * pieces)
        next_y = y + sine(direction) * length // (pieces * UNIT)
        next_x = x + cosine(direction) * length // (pieces * UNIT)
        left, whole = (pieces - i) ** taper, pieces**taper
        next_radius = radii[1] + (radii[0] - radii[1]) * left // whole
        thick = thickness[1] + (thickness[0] - thickness[1]) * left // whole
        rods.append(Rod(y, x, radius, next_y, next_x, next_radius, thick, flatness))
        y, x, radius = next_y, next_x, next_radius
    return rods


def tip(rods: list[Rod]) -> tuple[int, int]:
    """Where a curve ends: y, x in 1/8 pixel."""
    return rods[-1].y1, rods[-1].x1


def largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest 4-connected component of a mask; of equals the first in reading order."""
    from scipy import ndimage

    components, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return np.asarray(components == int(sizes.argmax()))


def _tiles_near(
    table: NDArray[np.int32], shape: tuple[int, int], margin: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Rod, row and column of every pair of a rod and a tile of which it may cover a pixel.

    Pixels may be ``margin`` pixels from where they lie, along each axis.
    """
    y0, x0, radius0, y1, x1, radius1 = table.T[:6]
    down, across = -(-shape[0] // _TILE), -(-shape[1] // _TILE)
    side = _TILE * GRID
    reach = np.maximum(radius0, radius1) + (margin + 1) * GRID
    tops = np.clip((np.minimum(y0, y1) - reach) // side, 0, down)
    lefts = np.clip((np.minimum(x0, x1) - reach) // side, 0, across)
    bottoms = np.clip((np.maximum(y0, y1) + reach) // side + 1, 0, down)
    rights = np.clip((np.maximum(x0, x1) + reach) // side + 1, 0, across)
    widths = np.maximum(rights - lefts, 0)
    counts = np.maximum(bottoms - tops, 0) * widths
    rod = np.repeat(np.arange(len(table), dtype=np.int32), counts)
    place = np.arange(len(rod), dtype=np.int32) - np.repeat(np.cumsum(counts, dtype=np.int32) - counts, counts)
    row, column = tops[rod] + place // widths[rod], lefts[rod] + place % widths[rod]
    # How far the middle of the tile is from the axis. This decides no pixel, so it may be rounded.
    along_y, along_x = (y1 - y0).astype(np.float32), (x1 - x0).astype(np.float32)
    length = np.maximum(np.sqrt(along_y * along_y + along_x * along_x), np.float32(1))
    along_y /= length
    along_x /= length
    middle = (side - GRID) / 2
    dy = row * np.float32(side) + (np.float32(middle) - y0)[rod]
    dx = column * np.float32(side) + (np.float32(middle) - x0)[rod]
    along_y, along_x = along_y[rod], along_x[rod]
    foot = np.minimum(np.maximum(dy * along_y + dx * along_x, 0), length[rod])
    dy -= foot * along_y
    dx -= foot * along_x
    # A pixel is at most so far from the middle; the rod may be as much wider as its radius changes on that way.
    away = np.float32(1.42 * (middle + (margin + 1) * GRID))
    widening = (radius1 - radius0) / length
    near = radius0[rod] + foot * widening[rod] + (away * (1 + np.abs(widening)))[rod]
    near = np.minimum(near, (np.maximum(radius0, radius1) + away)[rod])
    found = np.flatnonzero(dy * dy + dx * dx <= near * near)
    return rod[found], row[found], column[found]


def _lenses(table: NDArray[np.int32], dy: Field, dx: Field) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Where rods cover pixels, and how thick they are there.

    Args:
        table: (N, 8), a rod a row.
        dy: (N, P), how far below its first end P pixels near each rod lie, in 1/8 pixel; used up.
        dx: the same, to its right.

    Returns:
        (M,) indices into the N x P pixels, of those covered; (M,) the thickness there.
    """
    y0, x0, radius0, y1, x1, radius1 = (column[:, None] for column in table.T[:6])
    thickness, flatness = table.T[6:]
    along_y, along_x = y1 - y0, x1 - x0
    squared = np.maximum(along_y * along_y + along_x * along_x, 1)
    # The foot of each pixel on the axis, in 1/256 of the rod. One product and one quotient of floats are exact in
    # every bit, and several times faster than those of integers.
    foot = (dy * along_y + dx * along_x).astype(np.float32)
    foot *= np.float32(256) / squared.astype(np.float32)
    foot = foot.clip(0, 256).astype(np.int32)
    dy -= along_y * foot >> 8
    dx -= along_x * foot >> 8
    radius = radius0 + (foot * (radius1 - radius0) >> 8)
    limit = radius * radius
    inside = limit - dy * dy - dx * dx
    hit = np.flatnonzero(inside > 0)
    its = hit // dy.shape[1]
    share = inside.reshape(-1).take(hit) * (256.0 * flatness).take(its) / limit.reshape(-1).take(hit)
    height = np.minimum(share, 256).astype(np.int32) * thickness.take(its) >> 8
    seen = height > 0
    return hit[seen], height[seen]
