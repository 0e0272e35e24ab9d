"""Decoders on hand-made masks, and against scikit-image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage import measure

from bench.api import Instances
from methods._decoders import (
    at_most,
    connected_components,
    fill_holes,
    from_label_maps,
    mean_probability,
    summits,
    watershed_of_distance,
    without_small,
)

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=st.booleans())


def picture(*rows):
    return np.array([[character == "#" for character in row] for row in rows])


def disks(shape, *circles):
    rows, columns = np.indices(shape)
    return np.any([(rows - r) ** 2 + (columns - c) ** 2 <= radius**2 for r, c, radius in circles], axis=0)


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_components_agree_with_scikit_image(mask):
    np.testing.assert_array_equal(connected_components(mask), measure.label(mask, connectivity=1))


def test_touching_cells_merge_and_diagonal_ones_do_not():
    mask = picture(
        "##.....",
        "####...",
        ".....##",
        "....#..",
    )
    assert connected_components(mask).tolist() == [
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 2, 2],
        [0, 0, 0, 0, 3, 0, 0],
    ]


def test_components_below_the_least_area_are_dropped_and_the_rest_numbered_without_gaps():
    mask = picture("#.##.###")
    assert connected_components(mask, min_area=2).tolist() == [[0, 0, 1, 1, 0, 2, 2, 2]]
    assert connected_components(mask, min_area=3).tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]
    assert connected_components(mask, min_area=4).max() == 0


def test_holes_are_filled_but_bays_and_diagonal_leaks_are_not():
    mask = picture(
        "####...###",
        "#..#...#..",
        "####...###",
        "..........",
        ".##.......",
        "#..#......",
        ".###......",
    )
    filled = fill_holes(mask)
    assert filled[1, 1:3].all()
    assert not filled[1, 8:].any()
    # (5, 1) and (5, 2) reach the outside through the corner between (4, 1) and (5, 0).
    assert not filled[5, 1:3].any()
    assert filled.sum() == mask.sum() + 2


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_filling_holes_adds_exactly_the_background_that_no_path_joins_to_the_edge(mask):
    background = measure.label(~mask, connectivity=2)
    edge = np.concatenate([background[0], background[-1], background[:, 0], background[:, -1]])
    outside = np.isin(background, edge[edge != 0])
    np.testing.assert_array_equal(fill_holes(mask), ~outside)


def test_the_watershed_cuts_two_touching_disks_and_leaves_one_alone():
    mask = disks((60, 120), (25, 20, 12), (25, 40, 12), (30, 90, 15))
    assert connected_components(mask).max() == 2
    labels = watershed_of_distance(mask)
    assert labels.max() == 3
    np.testing.assert_array_equal(labels != 0, mask)
    left, right, alone = labels[25, 20], labels[25, 40], labels[30, 90]
    assert len({left, right, alone}) == 3
    np.testing.assert_array_equal(labels == alone, disks((60, 120), (30, 90, 15)))
    # By symmetry the cut is the line half way between the two centres, column 30.
    assert abs(int((labels == left).sum()) - int((labels == right).sum())) <= 25
    assert (labels[:, :29][mask[:, :29]] == left).all()


def test_a_ragged_outline_does_not_shatter_a_cell():
    mask = disks((50, 50), (25, 25, 15))
    mask[8:11, 20] = mask[8:11, 30] = True
    mask[25, 9:13] = False
    assert watershed_of_distance(mask).max() == 1


def test_every_object_has_a_summit_however_thin():
    mask = picture(
        "#......",
        "..####.",
        "#......",
        "##..##.",
        "....##.",
    )
    assert watershed_of_distance(mask, depth=3).max() == connected_components(mask).max()


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_the_watershed_covers_the_mask_and_never_joins_two_components(mask):
    labels = watershed_of_distance(mask)
    np.testing.assert_array_equal(labels != 0, mask)
    components = measure.label(mask, connectivity=1)
    for index in range(1, labels.max() + 1):
        assert len(np.unique(components[labels == index])) == 1
    assert labels.max() >= components.max()


def test_two_objects_whose_summits_touch_at_a_corner_stay_two():
    mask = picture(".#", "##", "##", "##", "#.", ".#")
    assert watershed_of_distance(mask).max() == 2


def test_two_peaks_are_two_summits_only_if_the_pass_between_them_is_deep_enough():
    height = np.array([[1, 5, 4, 6, 1]], np.float32)
    assert summits(height, 0.5).max() == 2
    assert summits(height, 2.0).max() == 1
    level = np.array([[1, 5, 4.5, 5, 1]], np.float32)
    assert summits(level, 1.0).max() == 1


@pytest.mark.parametrize("decode", [connected_components, watershed_of_distance])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (40, 33)])
def test_nothing_and_everything(decode, shape):
    assert decode(np.zeros(shape, bool)).max() == 0
    np.testing.assert_array_equal(decode(np.ones(shape, bool)), np.ones(shape))


def test_without_small_keeps_the_order():
    labels = np.array([[3, 3, 1, 0, 2, 2, 2]], np.int32)
    assert without_small(labels, 2).tolist() == [[2, 2, 0, 0, 1, 1, 1]]


def test_mean_probability_by_hand():
    labels = np.array([[1, 1, 0], [2, 0, 2]], np.int32)
    probability = np.array([[0.5, 1.0, 0.9], [0.75, 0.9, 0.25]], np.float32)
    np.testing.assert_allclose(mean_probability(labels, probability), [0.75, 0.5])
    assert mean_probability(np.zeros((2, 2), np.int32), np.ones((2, 2), np.float32)).shape == (0,)


def test_label_maps_of_two_classes_may_overlap():
    cells = np.array([[1, 1, 1, 2]], np.int32)
    nuclei = np.array([[0, 1, 0, 0]], np.int32)
    found = from_label_maps([cells, nuclei], [np.full((1, 4), 0.75, np.float32), np.full((1, 4), 0.5, np.float32)])
    assert found.class_ids.tolist() == [0, 0, 1]
    assert found.scores.tolist() == [0.75, 0.75, 0.5]
    assert found.areas.tolist() == [3, 1, 1]
    assert found.boxes.tolist() == [[0, 0, 3, 1], [3, 0, 4, 1], [1, 0, 2, 1]]
    assert from_label_maps([cells]).scores is None
    assert len(from_label_maps([np.zeros((3, 2), np.int32)])) == 0


def test_without_scores_the_largest_are_kept_and_with_scores_the_surest():
    labels = np.array([[1, 0, 2, 2, 2, 0, 3, 3]])
    assert at_most(Instances.from_label_map(labels), 2).areas.tolist() == [3, 2]
    scored = Instances.from_label_map(labels, scores={1: 0.9, 2: 0.1, 3: 0.5})
    assert at_most(scored, 2).areas.tolist() == [1, 2]
    assert len(at_most(scored, 7)) == 3
