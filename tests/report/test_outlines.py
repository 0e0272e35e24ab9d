"""Outlines drawn again must give back the pixels."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.report.outlines import outline_paths

PIECE = re.compile(r"([Mhvz])(-?\d+)?(?: (-?\d+))?")


def filled(path: str, shape: tuple[int, int]) -> np.ndarray:
    """Which pixels an SVG path encloses, by the even-odd rule: crossings of vertical sides to the left of each."""
    sides = np.zeros((shape[0], shape[1] + 1), int)
    for loop in re.findall(r"M[^M]*", path):
        x = y = x0 = y0 = 0
        for kind, first, second in PIECE.findall(loop):
            if kind == "M":
                x = x0 = int(first)
                y = y0 = int(second)
            elif kind == "h":
                x += int(first)
            elif kind == "v":
                step = int(first)
                sides[min(y, y + step) : max(y, y + step), x] += 1
                y += step
            else:
                assert x == x0 or y == y0, "the closing side is straight"
                sides[min(y, y0) : max(y, y0), x] += 1
    return np.cumsum(sides, axis=1)[:, :-1] % 2 == 1


def test_by_hand() -> None:
    labels = np.array([[0, 1, 1], [2, 0, 1], [0, 2, 0]])
    assert outline_paths(labels, 3)[2] == ""
    assert outline_paths(np.ones((2, 3), int), 1) == ["M0 0h3v2h-3z"]
    ring = np.ones((3, 3), int)
    ring[1, 1] = 0
    assert outline_paths(ring, 1) == ["M0 0h3v3h-3zM1 2h1v-1h-1z"], "a hole runs the other way round"
    assert outline_paths(np.zeros((4, 4), int), 2) == ["", ""]
    assert outline_paths(np.zeros((4, 4), int), 0) == []


@settings(max_examples=150)
@given(arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)))
def test_every_label_map_comes_back(labels) -> None:
    for label, path in enumerate(outline_paths(labels, 3), start=1):
        assert np.array_equal(filled(path, labels.shape), labels == label)


@given(arrays(np.uint8, (6, 6), elements=st.integers(0, 1)))
def test_no_stretch_follows_another_in_the_same_direction(labels) -> None:
    (path,) = outline_paths(labels, 1)
    assert not re.search(r"h-?\d+h|v-?\d+v", path)
