"""MNC's masks between a box and the image: against scikit-image's resize, pycocotools and hand-made cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from skimage.transform import resize

from methods import _raster as raster


def as_if_resized(image, shape):
    return resize(image.astype(np.float64), shape, order=1, mode="edge", anti_aliasing=False)


def blobs(rng, count, height, width):
    rows, columns = np.mgrid[:height, :width]
    masks = [
        ((rows - rng.uniform(5, height - 5)) / rng.uniform(3, 12)) ** 2
        + ((columns - rng.uniform(5, width - 5)) / rng.uniform(3, 12)) ** 2
        < 1
        for _ in range(count)
    ]
    return np.stack(masks).astype(np.uint8)


# -- targets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 21, 28])
def test_targets_are_the_object_cut_at_the_box_and_resized(size):
    rng = np.random.default_rng(size)
    masks = blobs(rng, 3, 40, 50)
    boxes, chosen = [], []
    for index in range(3):
        for _ in range(8):
            x0, y0 = rng.integers(0, 35), rng.integers(0, 25)
            boxes.append((x0, y0, x0 + rng.integers(2, 15), y0 + rng.integers(2, 15)))
            chosen.append(index)
    targets = raster.mask_targets(masks, np.array(boxes, np.float32), np.array(chosen), size, 0.4)
    assert targets.shape == (24, size, size)
    for target, (x0, y0, x1, y1), index in zip(targets, boxes, chosen, strict=True):
        expected = as_if_resized(masks[index, y0:y1, x0:x1], (size, size))
        clear = np.abs(expected - 0.4) > 1e-5
        assert np.array_equal(target[clear], (expected >= 0.4)[clear])


def test_a_target_follows_a_box_that_lies_between_pixels():
    mask = np.zeros((1, 8, 8), np.uint8)
    mask[0, 2:6, 2:6] = 1
    whole = raster.mask_targets(mask, np.array([[1.5, 2.0, 6.5, 6.0]]), np.array([0]), 5, 0.4)[0]
    # Samples lie at columns 2, 3, 4, 5 and 6 (edges of pixels), half way between two pixels each.
    assert whole.tolist() == [[True, True, True, True, True]] * 5
    strict = raster.mask_targets(mask, np.array([[1.5, 2.0, 6.5, 6.0]]), np.array([0]), 5, 0.6)[0]
    assert strict.tolist() == [[False, True, True, True, False]] * 5


def test_a_neighbour_outside_the_box_does_not_leak_into_the_target():
    mask = np.zeros((1, 4, 8), np.uint8)
    mask[0, :, 4:] = 1
    inside = raster.mask_targets(mask, np.array([[0.0, 0.0, 4.0, 4.0]]), np.array([0]), 21, 0.4)
    assert not inside.any()


# -- pasting --------------------------------------------------------------------------------------------


def test_pasting_is_resizing_into_the_box():
    mask = np.random.default_rng(0).random((21, 21)).astype(np.float32)
    for x0, y0, x1, y1 in [(3, 4, 13, 30), (0, 0, 50, 40), (10, 10, 11, 12)]:
        patch, top, left = raster.paste(mask, np.array([x0, y0, x1, y1], np.float32), 40, 50)
        assert (top, left) == (y0, x0)
        assert patch == pytest.approx(as_if_resized(mask, (y1 - y0, x1 - x0)), abs=1e-5)


def test_a_pixel_is_pasted_if_its_centre_lies_in_the_box_and_the_image():
    ones = np.ones((3, 3), np.float32)
    patch, top, left = raster.paste(ones, np.array([1.4, 1.6, 3.6, 3.5]), 10, 10)
    assert (patch.shape, top, left) == ((1, 3), 2, 1)
    patch, top, left = raster.paste(ones, np.array([-5.0, 8.0, 2.0, 20.0]), 10, 10)
    assert (patch.shape, top, left) == ((2, 2), 8, 0)
    for nowhere in ([2.6, 1.0, 3.4, 5.0], [4.0, 4.0, 4.0, 4.0], [20.0, 1.0, 30.0, 5.0], [-9.0, 1.0, -2.0, 5.0]):
        assert raster.paste(ones, np.array(nowhere), 10, 10)[0].size == 0


def test_an_object_comes_back_from_its_own_target():
    rng = np.random.default_rng(7)
    masks = blobs(rng, 6, 60, 60)
    for index, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
        target = raster.mask_targets(masks, box[None], np.array([index]), 21, 0.4)[0]
        assert raster.mask_overlap(target.astype(np.float32), box, mask, 0.4) > 0.85


def test_overlap_counts_what_of_the_object_lies_outside_the_box():
    truth = np.zeros((10, 10), np.uint8)
    truth[2:6, 0:8] = 1  # 32 pixels
    ones = np.ones((21, 21), np.float32)
    assert raster.mask_overlap(ones, np.array([0.0, 2.0, 4.0, 6.0]), truth, 0.4) == 16 / 32
    assert raster.mask_overlap(ones, np.array([0.0, 0.0, 4.0, 6.0]), truth, 0.4) == 16 / (24 + 32 - 16)
    assert raster.mask_overlap(0.39 * ones, np.array([0.0, 2.0, 8.0, 6.0]), truth, 0.4) == 0
    assert raster.mask_overlap(0.41 * ones, np.array([0.0, 2.0, 8.0, 6.0]), truth, 0.4) == 1
    assert raster.mask_overlap(ones, np.array([3.0, 3.0, 3.0, 3.0]), 0 * truth, 0.4) == 0


# -- encoding -------------------------------------------------------------------------------------------


@given(st.data())
def test_a_window_is_encoded_as_pycocotools_encodes_the_image(data):
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    shape = (data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)))
    window = data.draw(arrays(np.bool_, shape))
    image = np.zeros((height, width), np.uint8, order="F")
    image[top : top + shape[0], left : left + shape[1]] = window
    assert raster.encode_window(window, top, left, height, width) == coco_mask.encode(image)["counts"]


def test_a_window_that_fills_the_image_is_one_run():
    assert (
        raster.encode_window(np.ones((4, 3), bool), 0, 0, 4, 3)
        == coco_mask.encode(np.ones((4, 3), np.uint8, order="F"))["counts"]
    )
