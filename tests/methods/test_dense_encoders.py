"""Targets and weight maps, pixel by pixel against the formula."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bench.api import Instances
from methods._encoders import cell_boundaries, class_balance, known, label_maps, shape_aware_weights


def weights_by_the_formula(labels, alpha, sigma):
    """Lin and Norouzi 2022, equation 3, one pixel after the other, over all boundary pixels."""
    height, width = labels.shape
    inside = sum(labels[r, c] != 0 for r in range(height) for c in range(width))
    outside = height * width - inside
    boundary = [
        (r, c)
        for r in range(height)
        for c in range(width)
        if labels[r, c] != 0
        and any(
            0 <= r + dr < height and 0 <= c + dc < width and labels[r + dr, c + dc] != labels[r, c]
            for dr, dc in ((1, 0), (-1, 0), (0, 1), (0, -1))
        )
    ]
    expected = np.empty(labels.shape)
    for r in range(height):
        for c in range(width):
            w_c = outside / inside if labels[r, c] != 0 and outside else 1.0
            nearest = min(((r - br) ** 2 + (c - bc) ** 2 for br, bc in boundary), default=math.inf)
            expected[r, c] = w_c + alpha * math.exp(-nearest / (2 * sigma**2))
    return expected


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.int32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=st.integers(0, 3)),
    st.sampled_from([(10.0, 5.0), (3.0, 1.0)]),
)
def test_weights_are_the_formula_at_every_pixel(labels, settings_):
    alpha, sigma = settings_
    weights = shape_aware_weights(labels, alpha=alpha, sigma=sigma)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, weights_by_the_formula(labels, alpha, sigma), rtol=1e-5)


def test_weights_of_a_hand_made_image():
    labels = np.array([[0, 0, 0, 1, 1, 1]])
    # 3 background pixels for 3 of the cell: w_c = 1 everywhere; the boundary is the first pixel of the cell.
    distance = np.array([[3, 2, 1, 0, 1, 2]])
    expected = 1 + 10 * np.exp(-(distance**2) / 50)
    np.testing.assert_allclose(shape_aware_weights(labels, alpha=10, sigma=5), expected, rtol=1e-6)


def test_both_sides_of_a_shared_border_are_boundary_but_the_image_edge_is_not():
    labels = np.array([[1, 1, 1, 2, 2, 2]] * 3)
    assert cell_boundaries(labels).astype(int).tolist() == [[0, 0, 1, 1, 0, 0]] * 3


@pytest.mark.parametrize("label", [0, 1])
def test_an_image_without_boundary_weighs_one_everywhere(label):
    np.testing.assert_array_equal(shape_aware_weights(np.full((5, 4), label), alpha=10, sigma=5), np.ones((5, 4)))


def test_class_balance_is_background_over_foreground():
    foreground = np.zeros((4, 5), bool)
    foreground[0, :4] = True
    balance = class_balance(foreground)
    assert balance[0, 0] == 4
    assert balance[1, 0] == 1


def test_each_class_has_its_own_map_and_crowds_are_neither_learned_nor_known():
    masks = np.zeros((3, 4, 4), bool)
    masks[0, :3, :3] = True  # a cell
    masks[1, 1, 1] = True  # its nucleus, of the other class
    masks[2, 3, :] = True  # a crowd
    truth = Instances.from_masks(masks, class_ids=[0, 1, 0], crowd=[False, False, True])
    maps = label_maps(truth, 2)
    np.testing.assert_array_equal(maps != 0, masks[:2])
    np.testing.assert_array_equal(known(truth), ~masks[2])


def test_the_smaller_of_two_overlapping_cells_stays_whole():
    masks = np.zeros((2, 4, 6), bool)
    masks[0, 1:3, 1:3] = True
    masks[1, :, :5] = True
    (labels,) = label_maps(Instances.from_masks(masks), 1)
    np.testing.assert_array_equal(labels == 1, masks[0])
    np.testing.assert_array_equal(labels == 2, masks[1] & ~masks[0])
