"""Grey levels: one rule for every method."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench.api import to_gray, to_rgb8

images = st.one_of(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)),
    hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)),
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))),
    hnp.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))),
)


@given(images)
def test_any_image_becomes_three_channels_of_eight_bits(image):
    found = to_rgb8(image)
    assert found.shape == (*image.shape[:2], 3)
    assert found.dtype == np.uint8


@given(images)
def test_any_image_becomes_gray_of_zero_mean(image):
    found = to_gray(image)
    assert found.shape == image.shape[:2]
    assert np.isfinite(found).all()
    assert abs(float(found.mean())) < 1e-2


def test_eight_bits_are_kept_and_alpha_is_dropped():
    image = np.dstack([np.full((2, 2), v, np.uint8) for v in (10, 20, 30, 255)])
    np.testing.assert_array_equal(to_rgb8(image), image[..., :3])
    np.testing.assert_array_equal(to_rgb8(image[..., 0])[..., 2], image[..., 0])


def test_sixteen_bits_fill_the_range_whatever_their_level():
    ramp = np.arange(1000, 3000, dtype=np.uint16).reshape(40, 50)
    found = to_rgb8(ramp)
    assert found.min() == 0
    assert found.max() == 255
    np.testing.assert_array_equal(found, to_rgb8(ramp + 20000))


def test_a_constant_image_is_black_not_nan():
    assert to_rgb8(np.full((3, 3), 700, np.uint16)).max() == 0
    assert to_gray(np.full((3, 3), 700, np.uint16)).max() == 0


def test_colour_becomes_gray_by_luma():
    red, green = np.zeros((2, 1, 2, 3), np.uint8)
    red[0, 0, 0] = green[0, 0, 1] = 255
    ratio = (to_gray(green)[0, 0] - to_gray(green)[0, 1]) / (to_gray(red)[0, 0] - to_gray(red)[0, 1])
    assert ratio == pytest.approx(1)  # standardised alike; the sign says that both are brighter than black
