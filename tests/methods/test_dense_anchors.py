"""Anchors, what they learn, and the boxes that come back, against hand-made cases and plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods._anchors import (
    AnchorSampling,
    AnchorShapes,
    boxes_of_labels,
    centres_of,
    label_anchors,
    overlaps,
    propose,
    to_boxes,
    to_deltas,
    typical_size,
)

BOXES = st.lists(
    st.tuples(*[st.floats(0, 50)] * 2, *[st.floats(1, 30)] * 2).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])),
    min_size=1,
    max_size=5,
).map(lambda boxes: np.array(boxes, np.float64))


def test_nine_anchors_at_each_place_with_the_area_of_their_scale():
    shapes = AnchorShapes()
    grid = shapes.grid(40, 2, 3)
    assert grid.shape == (9, 2, 3, 4)
    assert shapes.count == 9
    sides = grid[..., 2:] - grid[..., :2]
    centres = grid[..., :2] + sides / 2
    np.testing.assert_allclose(centres[:, 1, 2], [[40, 24]] * 9)  # x, y of row 1, column 2 at stride 16
    np.testing.assert_allclose(sides[:, 0, 0].prod(axis=1), [400] * 3 + [1600] * 3 + [6400] * 3)
    np.testing.assert_allclose(sides[:3, 0, 0, 1] / sides[:3, 0, 0, 0], [0.5, 1, 2])


def test_boxes_are_tight_around_pieces_and_small_pieces_are_none():
    labels = np.zeros((10, 12), np.int32)
    labels[1:4, 2:7], labels[6:8, 9:12], labels[9, 0] = 1, 1, 2
    assert boxes_of_labels(labels).tolist() == [[2, 1, 7, 4], [9, 6, 12, 8], [0, 9, 1, 10]]
    assert boxes_of_labels(labels, min_area=7).tolist() == [[2, 1, 7, 4]]
    assert boxes_of_labels(np.zeros((3, 3), np.int32)).shape == (0, 4)
    touching = np.array([[1, 1, 2, 2]], np.int32)
    assert boxes_of_labels(touching).tolist() == [[0, 0, 2, 1], [2, 0, 4, 1]]


def test_the_typical_size_is_the_median_of_the_longer_sides():
    boxes = np.array([[0, 0, 10, 4], [0, 0, 6, 20], [5, 5, 35, 10]], np.float64)
    assert typical_size(boxes, 7) == 20
    assert typical_size(boxes[:0], 7) == 7


@settings(max_examples=40, deadline=None)
@given(BOXES, BOXES)
def test_overlap_is_intersection_over_union(first, second):
    for (i, a), (j, b) in ((x, y) for x in enumerate(first) for y in enumerate(second)):
        shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
        assert overlaps(first, second)[i, j] == pytest.approx(shared / union, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(BOXES, st.integers(0, 10**6))
def test_deltas_lead_back_to_the_boxes(boxes, seed):
    anchors = np.random.default_rng(seed).uniform(0, 40, boxes.shape)
    anchors[:, 2:] = anchors[:, :2] + 5 + anchors[:, 2:]
    np.testing.assert_allclose(to_boxes(anchors, to_deltas(anchors, boxes), (1000, 1000)), boxes, atol=1e-3)


def test_deltas_by_hand_and_boxes_are_cut_to_the_image():
    anchors, boxes = np.array([[0, 0, 10, 20.0]]), np.array([[5, 0, 15, 40.0]])
    np.testing.assert_allclose(to_deltas(anchors, boxes), [[0.5, 0.5, 0, np.log(2)]], rtol=1e-6)
    assert to_boxes(anchors, to_deltas(anchors, boxes), (30, 12)).tolist() == [[5, 0, 12, 30]]
    assert np.isfinite(to_boxes(anchors, np.full((1, 4), 1e4), (30, 12))).all()


def test_labels_follow_the_rule_anchor_by_anchor():
    shapes = AnchorShapes(scales=(1.0,), ratios=(0.5, 1.0), stride=8)
    shape = (64, 72)
    truth = np.array([[10, 10, 26, 26], [40, 30, 50, 60], [60, 2, 62, 4]], np.float64)
    anchors = shapes.grid(16, 8, 9)
    rule = AnchorSampling(count=10**6, positive_share=1.0)
    label, deltas = label_anchors(anchors, truth, shape, rule, np.random.default_rng(0))
    flat = anchors.reshape(-1, 4)
    iou = overlaps(flat, truth)
    inside = [a[0] >= 0 and a[1] >= 0 and a[2] <= 72 and a[3] <= 64 for a in flat]
    iou[~np.array(inside)] = -1
    for index, (is_inside, row) in enumerate(zip(inside, iou, strict=True)):
        best_of_one = any(row[j] == iou[:, j].max() and row[j] > 0 for j in range(3))
        expected = -1
        if is_inside:
            expected = 1 if row.max() >= 0.7 or best_of_one else (0 if row.max() < 0.3 else -1)
        assert label.ravel()[index] == expected
        if expected == 1:
            a, r, c = np.unravel_index(index, label.shape)
            np.testing.assert_allclose(
                deltas[4 * a : 4 * a + 4, r, c], to_deltas(flat[[index]], truth[[row.argmax()]])[0]
            )
    assert (label == 1).sum() >= 3  # every object has an anchor


def test_at_most_half_of_the_sample_are_objects_and_the_sample_follows_the_seed():
    shapes = AnchorShapes(stride=8)
    anchors = shapes.grid(16, 16, 16)
    truth = np.array([[x, y, x + 16, y + 16] for x in range(4, 100, 20) for y in range(4, 100, 20)], np.float64)
    rule = AnchorSampling(count=20)
    first, _ = label_anchors(anchors, truth, (128, 128), rule, np.random.default_rng(1))
    again, _ = label_anchors(anchors, truth, (128, 128), rule, np.random.default_rng(1))
    assert ((first == 1).sum(), (first == 0).sum()) == (10, 10)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("shape", [(1, 1), (40, 40)])
def test_without_an_object_all_sampled_anchors_are_none(shape):
    anchors = AnchorShapes().grid(16, 3, 3)
    label, deltas = label_anchors(anchors, np.zeros((0, 4)), shape, AnchorSampling(), np.random.default_rng(0))
    assert (label == 1).sum() == 0
    assert ((label == 0).sum() > 0) == (shape == (40, 40))
    assert not deltas.any()


def test_what_a_perfect_network_says_gives_the_boxes_back():
    shapes = AnchorShapes(stride=16)
    truth = np.array([[10, 12, 40, 44], [60, 50, 95, 80], [70, 5, 90, 30]], np.float64)
    size = typical_size(truth, 0)
    anchors = shapes.grid(size, 7, 8)
    rule = AnchorSampling(count=10**6)
    label, deltas = label_anchors(anchors, truth, (112, 128), rule, np.random.default_rng(0))
    named = {"candidates": 6000, "nms_iou": 0.3, "count": 800}
    boxes, scores = propose((label == 1).astype(np.float32), deltas, anchors, (112, 128), min_score=0.99, **named)
    assert scores.tolist() == [1, 1, 1]
    np.testing.assert_allclose(boxes[np.lexsort(boxes.T)], truth[np.lexsort(truth.T)], atol=1e-3)
    few, _ = propose(
        (label == 1).astype(np.float32), deltas, anchors, (112, 128), min_score=0.99, **{**named, "count": 2}
    )
    assert len(few) == 2
    none, _ = propose(np.zeros(label.shape, np.float32), deltas, anchors, (112, 128), min_score=0.99, **named)
    assert none.shape == (0, 4)


def test_centres_are_pixels():
    assert centres_of(np.array([[0, 0, 3, 5], [10, 20, 11, 21]], np.float64)) == [(2, 1), (20, 10)]
