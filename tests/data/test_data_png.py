"""The PNG encoder whose bytes do not depend on a compression library."""

from __future__ import annotations

import hashlib
import io
import zlib

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from bench.data import png


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=40),
        elements=st.one_of(st.integers(0, 3), st.integers(0, 255)),
        fill=st.nothing() | st.integers(0, 2),
    )
)
def test_other_decoders_read_what_was_written(array: np.ndarray):
    encoded = png.encode(array)
    assert np.array_equal(imagecodecs.png_decode(encoded).reshape(array.shape), array)
    with Image.open(io.BytesIO(encoded)) as image:
        assert np.array_equal(np.asarray(image), array)


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 700)), min_size=1, max_size=20))
def test_runs_of_every_length(runs: list[tuple[int, int]]):
    raw = np.concatenate([np.full(length, value, np.uint8) for value, length in runs])
    assert zlib.decompress(png.deflate(raw), wbits=-15) == raw.tobytes()


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 257, 258, 259, 260, 261, 262, 516, 517, 518, 519, 520])
def test_a_single_run(length: int):
    raw = np.full(length, 9, np.uint8)
    assert zlib.decompress(png.deflate(raw), wbits=-15) == raw.tobytes()


def test_very_uneven_counts_need_no_code_beyond_15_bits():
    # Fibonacci counts give the longest Huffman codes.
    counts = [1, 1]
    while len(counts) < 24:
        counts.append(counts[-1] + counts[-2])
    random = np.random.default_rng(0)
    raw = random.permutation(np.repeat(np.arange(24, dtype=np.uint8), counts))
    assert zlib.decompress(png.deflate(raw), wbits=-15) == raw.tobytes()


def test_the_bytes_are_these_and_no_others():
    ramp = ((np.arange(64)[:, None] * 3 + np.arange(80)[None] * 5) % 251).astype(np.uint8)
    digests = [hashlib.sha256(png.encode(a)).hexdigest()[:16] for a in (ramp, ramp.astype(np.uint16) * 200 // 64 * 64)]
    assert digests == ["45aead95663c1472", "d3d6967e18378593"]


def test_label_images_become_small():
    labels = np.zeros((512, 640), np.uint16)
    for i in range(40):
        labels[12 * i : 12 * i + 9, 15 * i : 15 * i + 12] = i + 1
    assert len(png.encode(labels)) < labels.nbytes / 100
