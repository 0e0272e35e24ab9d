"""Targets and weight maps of MU-Lux-CZ, CALT-US and Instance-U-Net: their formulas pixel by pixel, and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from methods._encoders import (
    between_cells_weights,
    closed,
    crowding_weights,
    four_classes,
    inner_markers,
    inverse_frequency,
    near_cells,
    widened,
)

LABELS = arrays(np.int32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=st.integers(0, 3))


def picture(*rows):
    return np.array([[0 if c == "." else int(c) for c in row] for row in rows], np.int32)


def distances(labels, label):
    """Distance of each pixel to the nearest one of a cell, over all pairs."""
    places = np.argwhere(labels == label)
    return np.array([[min(math.dist(p, q) for q in places) for p in row] for row in _places(labels)])


def _places(labels):
    return [[(r, c) for c in range(labels.shape[1])] for r in range(labels.shape[0])]


# -- Instance-U-Net -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(LABELS)
def test_border_weights_are_the_formula_at_every_pixel(labels):
    cells = [distances(labels, label) for label in np.unique(labels) if label]
    inside, outside = (labels > 0).sum(), (labels == 0).sum()
    expected = np.zeros(labels.shape)
    for place in np.ndindex(labels.shape):
        balance = 1.0
        if inside and outside:
            balance = min(inside, outside) / (inside if labels[place] else outside)
        near = sorted(d[place] for d in cells)[:2]
        border = 10 * math.exp(-(sum(near) ** 2) / (2 * 5**2)) if len(near) == 2 else 0
        expected[place] = balance + border
    np.testing.assert_allclose(between_cells_weights(labels, strength=10, sigma=5), expected, rtol=1e-5)


def test_the_gap_between_two_cells_weighs_most_and_a_lone_cell_adds_nothing():
    labels = np.zeros((40, 60), np.int32)
    labels[10:30, 5:25], labels[10:30, 28:48] = 1, 2
    weights = between_cells_weights(labels, strength=10, sigma=5)
    balance = inverse_frequency(labels > 0)
    assert weights[20, 26] == pytest.approx(balance[20, 26] + 10 * math.exp(-((2 + 2) ** 2) / 50), rel=1e-5)
    assert weights[20, 24] == pytest.approx(balance[20, 24] + 10 * math.exp(-(4**2) / 50), rel=1e-5)
    alone = np.where(labels == 1, 1, 0).astype(np.int32)
    np.testing.assert_array_equal(between_cells_weights(alone, strength=10, sigma=5), inverse_frequency(alone > 0))


def test_beyond_six_sigma_a_cell_counts_as_absent():
    labels = np.zeros((3, 90), np.int32)
    labels[:, :2], labels[:, -2:] = 1, 2
    weights = between_cells_weights(labels, strength=10, sigma=5)
    np.testing.assert_allclose(weights, inverse_frequency(labels > 0), atol=1e-6)


def test_the_rarer_class_weighs_one():
    foreground = np.zeros((4, 5), bool)
    foreground[0] = True
    weights = inverse_frequency(foreground)
    assert weights[0, 0] == 1
    assert weights[1, 0] == pytest.approx(5 / 15)
    assert (inverse_frequency(~foreground)[1:] == np.float32(5 / 15)).all()
    for uniform in (np.zeros((2, 3), bool), np.ones((2, 3), bool)):
        assert (inverse_frequency(uniform) == 1).all()


def test_windows_around_cells_lie_in_the_image_and_labels_may_have_gaps():
    labels = picture("1...4", ".....", "....4")
    windows = list(near_cells(labels, 1.5))
    assert len(windows) == 2
    (rows, columns), distance = windows[0]
    assert (rows.start, columns.start) == (0, 0)
    np.testing.assert_allclose(distance, distances(labels, 1)[rows, columns])


# -- MU-Lux-CZ ----------------------------------------------------------------------------------------


def test_the_marker_of_a_square_is_its_inner_part():
    labels = np.zeros((30, 30), np.int32)
    labels[5:24, 5:24] = 1  # 19 pixels wide: depths 1 to 10, and floor(10 x 30 / 99) = 3
    markers = inner_markers(labels, share=70, median=1)
    expected = np.zeros_like(markers)
    expected[8:21, 8:21] = True  # depth above 3
    np.testing.assert_array_equal(markers, expected)
    smooth = inner_markers(labels, share=70, median=5)
    assert not smooth[8, 8]  # the median rounds the corners
    assert smooth[8, 14]


@settings(max_examples=60, deadline=None)
@given(LABELS)
def test_every_cell_has_a_marker(labels):
    markers = inner_markers(labels, share=70, median=5)
    for label in np.unique(labels[labels > 0]):
        assert markers[labels == label].any()


def test_of_a_cell_in_two_pieces_the_larger_has_the_marker():
    labels = np.zeros((20, 40), np.int32)
    labels[5:15, 5:15] = 1
    labels[5:15, 20:38] = 1
    markers = inner_markers(labels, share=70, median=1)
    assert markers[:, 18:].any()
    assert not markers[:, :18].any()


def test_the_edge_of_the_image_is_no_outline_of_a_cell():
    labels = np.zeros((20, 40), np.int32)
    labels[:, :13] = 1  # depth grows away from its right side only
    markers = inner_markers(labels, share=70, median=1)
    assert markers[:, :10].all()  # 13 x 30 / 99 = 3.9
    assert not markers[:, 10:].any()
    assert inner_markers(np.ones((9, 9), np.int32), share=70, median=1)[4, 4]


@settings(max_examples=40, deadline=None)
@given(LABELS)
def test_crowding_weights_are_the_formula_at_every_pixel(labels):
    markers = inner_markers(labels, share=70, median=1)
    expected = np.ones(labels.shape)
    for label in np.unique(labels[labels > 0]):
        expected += np.where(markers, 0, 0.5 * np.maximum(4 - distances(labels, label), 0))
    found = crowding_weights(labels, markers, reach=4, strength=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# -- CALT-US ------------------------------------------------------------------------------------------


def test_classes_of_a_hand_made_image():
    labels = picture(
        "..........",
        ".111222...",
        ".111222...",
        ".111222...",
        "..........",
        "..........",
    )
    found = four_classes(labels, touching_radius=0, gap_radius=1, min_gap=1)
    assert found.tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 2, 2, 1, 1, 0, 0, 0],
        [0, 1, 1, 2, 2, 1, 1, 0, 0, 0],
        [0, 1, 1, 2, 2, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    wide = four_classes(labels, touching_radius=1, gap_radius=1, min_gap=1)
    assert wide[2].tolist() == [0, 1, 2, 2, 2, 2, 1, 0, 0, 0]
    assert wide[0].tolist() == [0, 0, 0, 2, 2, 0, 0, 0, 0, 0]


def test_diagonal_neighbours_touch_and_the_image_edge_is_no_neighbour():
    found = four_classes(picture("11..", "11..", "..22", "..22"), touching_radius=0, gap_radius=0, min_gap=1)
    assert (found == 2).tolist() == [[False] * 4, [False, True, False, False], [False, False, True, False], [False] * 4]
    assert (four_classes(np.ones((5, 5), np.int32), touching_radius=1, gap_radius=3, min_gap=1) == 1).all()


def test_narrow_background_between_cells_is_gap_and_a_small_piece_of_it_is_not():
    labels = np.zeros((30, 40), np.int32)
    labels[5:25, 5:18], labels[5:25, 21:35] = 1, 2
    found = four_classes(labels, touching_radius=1, gap_radius=7, min_gap=8)
    assert (found[12:18, 18:21] == 3).all()
    assert set(np.unique(found)) == {0, 1, 3}
    assert found[2, 2] == 0
    count = int((found == 3).sum())
    assert (four_classes(labels, touching_radius=1, gap_radius=7, min_gap=count + 1) != 3).all()


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)), st.sampled_from([1, 1.5, 3]))
def test_closing_and_widening_agree_with_scikit_image(mask, radius):
    from skimage.morphology import dilation

    reach = math.ceil(radius)
    offset = np.arange(-reach, reach + 1)
    disk = offset[:, None] ** 2 + offset[None] ** 2 <= radius**2
    np.testing.assert_array_equal(widened(mask, radius), dilation(mask, disk))
    wide = dilation(np.pad(mask, reach + 1), disk)
    eroded = ~dilation(~wide, disk)
    inner = slice(reach + 1, -reach - 1)
    np.testing.assert_array_equal(closed(mask, radius), eroded[inner, inner])
