"""Tiles: what a large image gets is what it would get whole."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bench.api import UsageError
from methods._tiles import in_tiles, starts


def local_mean(piece):
    """A map whose every pixel depends on no more than 4 pixels around it, mirrored at the edges."""
    return {
        "mean": ndimage.uniform_filter(piece, (0, 9, 9)).astype(np.float32),
        "both": np.concatenate([piece, -piece]),
    }


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 120), st.integers(1, 120), st.sampled_from([(32, 16, 1), (40, 16, 8), (33, 17, 4)]))
def test_tiles_give_the_map_of_the_whole_image(height, width, sizes):
    tile, overlap, stride = sizes
    image = np.random.default_rng(height * 1000 + width).normal(size=(1, height, width)).astype(np.float32)
    seen = []

    def infer(piece):
        seen.append(piece.shape)
        return local_mean(piece)

    maps = in_tiles(image, infer, tile=tile, overlap=overlap, stride=stride)
    whole = local_mean(image)
    np.testing.assert_allclose(maps["mean"], whole["mean"], atol=1e-5)
    np.testing.assert_allclose(maps["both"], whole["both"], atol=1e-5)
    assert maps["both"].shape == (2, height, width)
    assert all(h * w <= tile * tile for _, h, w in seen)


def test_a_small_image_is_not_cut():
    calls = []

    def infer(piece):
        calls.append(piece.shape)
        return {"same": piece}

    in_tiles(np.zeros((1, 16, 64), np.float32), infer, tile=32, overlap=8, stride=4)
    assert calls == [(1, 16, 64)]


def test_without_overlap_tiles_abut():
    image = np.random.default_rng(0).normal(size=(1, 70, 50)).astype(np.float32)
    maps = in_tiles(image, lambda piece: {"same": piece}, tile=16, overlap=0, stride=4)
    np.testing.assert_allclose(maps["same"], image, atol=1e-6)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 400), st.integers(0, 200), st.sampled_from([1, 2, 16, 32]))
def test_tiles_cover_everything_with_the_overlap_asked_for(length, tile, overlap, stride):
    if length > tile and (tile - overlap) // stride < 1:
        with pytest.raises(UsageError, match="do not move on"):
            starts(length, tile, overlap, stride)
        return
    begins = starts(length, tile, overlap, stride)
    assert begins[0] == 0
    assert begins[-1] + tile >= length
    assert begins[-1] < length
    assert all(begin % stride == 0 for begin in begins)
    assert all(0 < b - a <= tile - overlap for a, b in itertools.pairwise(begins))


def test_where_two_tiles_disagree_the_map_fades_from_one_to_the_other():
    image = np.zeros((1, 32, 48), np.float32)
    values = iter([0.0, 1.0])
    maps = in_tiles(image, lambda piece: {"flat": np.full_like(piece, next(values))}, tile=32, overlap=16, stride=16)
    line = maps["flat"][0, 0]
    assert (line[:20] == 0).all()
    assert (line[28:] == 1).all()
    np.testing.assert_allclose(np.diff(line[20:28]), 1 / 8, atol=1e-6)
