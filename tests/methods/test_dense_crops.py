"""Crops and augmentation: image and targets move together, and a draw is reproducible."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods._crops import Augmentation, random_crop, reflected_window

EVERY_SYMMETRY = Augmentation(flip_horizontal=True, flip_vertical=True, right_angles=True)


def numbered(height, width):
    """Two arrays in which every pixel knows where it is."""
    ids = np.arange(height * width, dtype=np.int32).reshape(height, width)
    return {"image": ids[None].astype(np.float32), "labels": ids}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(0, 2**32 - 1))
def test_image_and_targets_stay_aligned_at_any_size(height, width, size, seed):
    arrays = numbered(height, width)
    crop = random_crop(arrays, size, EVERY_SYMMETRY, np.random.default_rng(seed))
    again = random_crop(arrays, size, EVERY_SYMMETRY, np.random.default_rng(seed))
    assert crop["image"].shape == (1, size, size)
    assert crop["labels"].dtype == np.int32
    assert crop["image"].flags.c_contiguous
    np.testing.assert_array_equal(crop["image"][0], crop["labels"])
    np.testing.assert_array_equal(crop["labels"], again["labels"])


def test_all_places_and_all_eight_symmetries_occur_and_each_is_a_window_of_the_image():
    arrays, size = numbered(5, 6), 4
    windows = {}
    for row in range(2):
        for column in range(3):
            window = arrays["labels"][row : row + size, column : column + size]
            for quarters in range(4):
                turned = np.rot90(window, quarters)
                windows[turned.tobytes()] = windows[turned[:, ::-1].copy().tobytes()] = (row, column)
    seen = {
        random_crop(arrays, size, EVERY_SYMMETRY, np.random.default_rng(n))["labels"].tobytes() for n in range(1500)
    }
    assert seen == set(windows)


def test_without_augmentation_a_crop_of_the_whole_is_the_image():
    arrays = numbered(8, 8)
    crop = random_crop(arrays, 8, Augmentation(), np.random.default_rng(0))
    np.testing.assert_array_equal(crop["labels"], arrays["labels"])


def test_a_horizontal_flip_exchanges_left_and_right_only():
    arrays = numbered(4, 4)
    crops = {
        random_crop(arrays, 4, Augmentation(flip_horizontal=True), np.random.default_rng(n))["labels"].tobytes()
        for n in range(20)
    }
    assert crops == {arrays["labels"].tobytes(), arrays["labels"][:, ::-1].copy().tobytes()}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(-20, 20),
    st.integers(-20, 20),
    st.integers(1, 30),
    st.integers(1, 30),
)
def test_windows_beyond_the_edge_are_mirrored_as_numpy_pads(height, width, row, column, rows, columns):
    image = np.arange(height * width).reshape(height, width)
    padded = np.pad(image, 60, mode="symmetric")
    expected = padded[60 + row : 60 + row + rows, 60 + column : 60 + column + columns]
    np.testing.assert_array_equal(reflected_window(image, row, column, rows, columns), expected)


@pytest.mark.parametrize(("rotation", "zoom"), [(180.0, 0.0), (0.0, 0.3), (180.0, 0.3)])
def test_free_rotation_and_zoom_move_pixels_rigidly_and_labels_with_them(rotation, zoom):
    rows, columns = np.indices((200, 220)).astype(np.float32)
    arrays = {"place": np.stack([rows, columns]), "labels": (columns > 110).astype(np.uint8)}
    augmentation = Augmentation(rotation=rotation, zoom=zoom)
    for seed in range(5):
        crop = random_crop(arrays, 48, augmentation, np.random.default_rng(seed))
        assert crop["labels"].dtype == np.uint8
        steps = np.stack([np.gradient(plane)[axis] for plane in crop["place"] for axis in (0, 1)])
        inside = steps[:, 2:-2, 2:-2]
        jacobian = np.median(inside, axis=(1, 2)).reshape(2, 2)
        scale = np.sqrt(abs(np.linalg.det(jacobian)))
        np.testing.assert_allclose(jacobian.T @ jacobian, scale**2 * np.eye(2), atol=0.02)
        assert 1 / (1 + zoom) - 0.01 <= scale <= 1 / (1 - zoom) + 0.01
        sure = abs(crop["place"][1] - 110.5) > 1.5
        np.testing.assert_array_equal(crop["labels"][sure], (crop["place"][1] > 110.5)[sure])
