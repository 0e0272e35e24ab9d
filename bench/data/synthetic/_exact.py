"""Chance and image arithmetic that give the same bits on every machine.

Everything here is integer arithmetic on the raw output of PCG64, whose bit stream is fixed by its definition. No
function of a mathematical library decides a pixel, and no sum of floats, whose order a processor may choose.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.int32]
"""(H, W) int32: a brightness, a thickness or noise, in units that its maker names."""

TURN = 1024
"""Angles are whole numbers, this many to a full turn."""
UNIT = 1 << 14
"""Sines and cosines are whole numbers, this for 1."""
_SINES = tuple(round(math.sin(2 * math.pi * i / TURN) * UNIT) for i in range(TURN))


def sine(angle: int) -> int:
    """Sine of an angle in 1/1024 turn, in 1/16384."""
    return _SINES[angle % TURN]


def cosine(angle: int) -> int:
    """Cosine of an angle in 1/1024 turn, in 1/16384."""
    return _SINES[(angle + TURN // 4) % TURN]


class Draws:
    """Random whole numbers that follow from a text.

    Args:
        text: names what is drawn, such as ``"2018 train003 cell 4"``.
    """

    def __init__(self, text: str) -> None:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
        self._bits = np.random.PCG64(seed)

    def integers(self, low: int, high: int, shape: int | tuple[int, ...]) -> Field:
        """``low`` to ``high``, both included, evenly; (high - low) below 2 ** 16."""
        raw = self._words(int(np.prod(shape)), "<u4").astype(np.uint64)
        return ((raw * np.uint64(high - low + 1)) >> np.uint64(32)).astype(np.int32).reshape(shape) + np.int32(low)

    def integer(self, low: int, high: int) -> int:
        """One number from ``low`` to ``high``, both included."""
        return low + ((int(self._bits.random_raw()) >> 32) * (high - low + 1) >> 32)

    def chance(self, percent: int) -> bool:
        """True in ``percent`` of 100 draws."""
        return self.integer(0, 99) < percent

    def pick(self, weights: Sequence[int]) -> int:
        """An index, as often as its weight says."""
        at = self.integer(0, sum(weights) - 1)
        for index, weight in enumerate(weights):
            at -= weight
            if at < 0:
                return index
        raise AssertionError("the weights were summed above")

    def noise(self, shape: tuple[int, int]) -> Field:
        """Nearly Gaussian noise, mean 0, variance 8: how many of 32 bits are set, less 16."""
        height, width = shape
        set_bits = _bits_set(self._words(height * width, "<u4")).astype(np.int32).reshape(shape)
        set_bits -= 16
        return set_bits

    def _words(self, count: int, kind: str) -> NDArray[np.unsignedinteger]:
        per_raw = 8 // np.dtype(kind).itemsize
        raw = self._bits.random_raw(-(-count // per_raw))
        return raw.astype("<u8", copy=False).view(kind)[:count]


def _bits_set(words: NDArray[np.uint32]) -> NDArray[np.uint8]:
    if hasattr(np, "bitwise_count"):  # since NumPy 2
        return np.bitwise_count(words)
    return np.unpackbits(words.view(np.uint8).reshape(-1, 4), axis=1).sum(axis=1, dtype=np.uint8)


# -- fields ------------------------------------------------------------------------------------------


def blur(field: Field, radius: int, passes: int = 2) -> Field:
    """Mean over squares of side ``2 * radius + 1``, halves rounded up, repeated; at the border the edge goes on.

    Values times the square of the side must stay within int32.
    """
    side = 2 * radius + 1
    for _ in range(passes):
        sums = _moving_sum(_moving_sum(field, radius, 0), radius, 1)
        field = (sums + side * side // 2) // (side * side)
    return field


def tent(field: NDArray[np.int16], doublings: int) -> NDArray[np.int16]:
    """Weighted means along both axes, the weights a triangle ``2 ** doublings`` wide at half its height.

    As :func:`blur` with two passes, and several times faster. At the border the edge goes on. Values must stay within
    -2000 and 2000, and times ``2 ** doublings`` within int16.
    """
    side = 1 << doublings
    at_once = doublings <= 2  # sums of both passes stay within int16
    for axis in (0, 1):
        margin = [(0, 0), (0, 0)]
        margin[axis] = (side - 1, side - 1)
        field = np.pad(field, margin, mode="edge")
        for _ in range(2):
            for i in range(doublings):
                field = _along(field, axis, 0, -(1 << i)) + _along(field, axis, 1 << i, None)
            if not at_once:
                field += np.int16(side // 2)
                field >>= doublings
        if at_once:
            field += np.int16(side * side // 2)
            field >>= 2 * doublings
    return field


def _moving_sum(field: Field, radius: int, axis: int) -> Field:
    """Sums over ``2 * radius + 1`` neighbours along an axis."""
    before = [(0, 0), (0, 0)]
    before[axis] = (radius + 1, radius)
    padded = np.pad(field, before, mode="edge")
    if radius < 3:
        return sum(_along(padded, axis, i, i + field.shape[axis]) for i in range(1, 2 * radius + 2))  # type: ignore[return-value]
    sums = np.cumsum(padded, axis=axis, dtype=np.int32)  # wraps around, and the difference of two wraps back
    return _along(sums, axis, 2 * radius + 1, None) - _along(sums, axis, 0, field.shape[axis])


def _along(field: NDArray[Any], axis: int, start: int, stop: int | None) -> NDArray[Any]:
    return field[start:stop] if axis == 0 else field[:, start:stop]


def smooth_noise(
    draws: Draws, shape: tuple[int, int], scale: int, amplitude: int, coarser: int = 0, coarse_amplitude: int = 0
) -> Field:
    """Smooth noise with features of about ``scale`` pixels, within plus and minus ``amplitude``.

    With ``coarser``, noise ``coarser`` times as large, within ``coarse_amplitude``, is added.
    """
    height, width = shape
    knots_shape = -(-height // scale) + 2, -(-width // scale) + 2
    knots = draws.integers(-amplitude, amplitude, knots_shape)
    if coarser:
        knots = knots + smooth_noise(draws, knots_shape, coarser, coarse_amplitude)
    return _stretch(np.ascontiguousarray(_stretch(knots.T, scale, width).T), scale, height)


def _stretch(knots: Field, scale: int, length: int) -> Field:
    """Linear interpolation between rows ``scale`` apart."""
    slopes = knots[1:] - knots[:-1]
    greatest = max(int(np.abs(slopes).max()) * scale, int(np.abs(knots).max()))
    kind: type[np.signedinteger[Any]] = (
        np.int16 if greatest < 1 << 15 else np.int32
    )  # the same numbers, in half the time
    steps = slopes.astype(kind)[:, None] * np.arange(scale, dtype=kind)[:, None]
    steps //= kind(scale)
    steps += knots[:-1, None].astype(kind)
    return steps.reshape(-1, knots.shape[1])[:length].astype(np.int32)
