"""Overlaps against pixel counting, and the overlap policies on segments against those on pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from bench import rle
from bench.api import DataError, Instances, UnknownNameError
from bench.metrics import segments
from bench.metrics.assignment import true_positives
from bench.metrics.matching import Match, Pairs, SideError

HEIGHT, WIDTH = 9, 11


@st.composite
def masks(draw, max_count=6, scored=True):
    """Unions of rectangles, some with pixels knocked out: ragged, torn, nested, overlapping, equal."""
    count = draw(st.integers(0, max_count))
    stack = np.zeros((count, HEIGHT, WIDTH), bool)
    for mask in stack:
        for _ in range(draw(st.integers(1, 2))):
            y, x = draw(st.integers(0, HEIGHT - 1)), draw(st.integers(0, WIDTH - 1))
            mask[y : y + draw(st.integers(1, HEIGHT)), x : x + draw(st.integers(1, WIDTH))] = True
        if draw(st.booleans()):
            mask &= ~draw(hnp.arrays(np.bool_, (HEIGHT, WIDTH), fill=st.just(False)))
    scores = draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=count, max_size=count)) if scored else None
    return Instances.from_masks(stack, scores=scores)


@settings(max_examples=150, deadline=None)
@given(masks(), masks())
def test_overlaps_are_those_of_the_pixels(truth, prediction):
    pairs = Match(truth, prediction).pairs
    expected = np.einsum("tij,pij->tp", truth.to_masks().astype(int), prediction.to_masks().astype(int))
    found = np.zeros_like(expected)
    found[pairs.truth, pairs.prediction] = pairs.shared
    assert np.array_equal(found, expected)


@settings(max_examples=100, deadline=None)
@given(masks(), masks())
def test_iou_is_the_coco_apis_to_the_bit(truth, prediction):
    if not len(truth) or not len(prediction):
        return
    crowd = np.arange(len(truth)) % 2 == 1
    truth = Instances(HEIGHT, WIDTH, truth.rles, crowd=crowd)
    pairs = Match(truth, prediction).pairs
    found = np.zeros((len(prediction), len(truth)))
    found[pairs.prediction, pairs.truth] = pairs.iou
    expected = coco_mask.iou(
        rle.objects(prediction.rles, HEIGHT, WIDTH), rle.objects(truth.rles, HEIGHT, WIDTH), crowd.astype(int).tolist()
    )
    assert np.array_equal(found, np.nan_to_num(expected))


def test_a_large_table_is_counted_the_same(monkeypatch, real_truths, real_predictions):
    truth, prediction = real_truths[1], real_predictions[1]
    dense = Match(truth, prediction).pairs
    monkeypatch.setattr(segments, "DENSE_TABLE", 0)
    sparse = Match(truth, prediction).pairs
    for name in ("truth", "prediction", "shared", "iou"):
        assert np.array_equal(getattr(dense, name), getattr(sparse, name))


def same_partition(labels: np.ndarray, numbered: np.ndarray) -> bool:
    """Whether ``numbered`` is ``labels`` with the gaps between the labels closed."""
    present = np.unique(np.append(labels, 0))
    return np.array_equal(np.searchsorted(present, labels), numbered)


@settings(max_examples=400, deadline=None)
@given(masks(max_count=8))
def test_score_policy_on_segments_is_the_one_on_pixels(prediction):
    flat = Match(Instances.empty(HEIGHT, WIDTH), prediction).flat("score")
    labels = prediction.to_label_map("score")
    assert same_partition(labels, flat.prediction_labels.T)
    assert np.array_equal(flat.prediction_areas, np.bincount(labels[labels > 0])[np.unique(labels[labels > 0])])


@settings(max_examples=50, deadline=None)
@given(masks(scored=False), st.sampled_from(["index", "smallest", "score"]))
def test_any_policy_serves_truth_and_prediction(instances, policy):
    flat = Match(instances, instances).flat(policy)
    labels = instances.to_label_map(policy)
    assert same_partition(labels, flat.truth_labels.T)
    assert np.array_equal(flat.truth_labels, flat.prediction_labels)


def test_score_policy_on_real_overlaps(real_predictions):
    for prediction in real_predictions:
        flat = Match(Instances.empty(*prediction.shape), prediction).flat("score")
        assert same_partition(prediction.to_label_map("score"), flat.prediction_labels.T)


def test_policies_that_refuse():
    overlapping = Instances.from_masks(np.ones((2, 4, 4), bool))
    match = Match(overlapping, Instances.empty(4, 4))
    with pytest.raises(DataError, match="overlap"):
        match.flat("forbid")
    with pytest.raises(UnknownNameError):
        match.flat("nearest")


def test_crowd_regions_and_what_lies_in_them_are_no_part_of_the_label_images():
    stack = np.zeros((2, 6, 10), bool)
    stack[0, :, :3] = True
    stack[1, :, 5:] = True
    truth = Instances.from_masks(stack, crowd=[False, True])
    predicted = np.zeros((3, 6, 10), bool)
    predicted[0, :, :3] = True
    predicted[1, :2, 4:7] = True  # 4 of its 6 pixels in the crowd
    predicted[2, 4:, 3:7] = True  # half of it
    match = Match(truth, Instances.from_masks(predicted, scores=[0.9, 0.8, 0.7]))
    assert match.in_crowd.tolist() == [False, True, False]
    assert match.flat().n_truth == 1
    assert match.flat().prediction_areas.tolist() == [18, 8]
    assert match.pairs.iou[(match.pairs.truth == 1) & (match.pairs.prediction == 1)] == pytest.approx(4 / 6)


def test_truth_that_overlaps_can_be_kept():
    stack = np.zeros((2, 4, 8), bool)
    stack[0, :, :5] = stack[1, :, 3:] = True
    truth = Instances.from_masks(stack)
    for policy in ("score", "index"):
        areas, predicted, pairs = Match(truth, truth).flat_prediction(policy)
        assert areas.tolist() == [20, 20]
        assert predicted.tolist() == [20, 12]
        assert pairs.shared.tolist() == [20, 8, 12]  # (0, 0), (1, 0), (1, 1)


def test_sides_that_do_not_fit():
    with pytest.raises(DataError, match="4 x 5 pixels, the truth 5 x 4"):
        Match(np.zeros((5, 4), int), np.zeros((4, 5), int))
    with pytest.raises(SideError, match="mask 0") as error:
        Match(np.zeros((5, 4), int), Instances(5, 4, (b"5",), boxes=np.zeros((1, 4))))
    assert (error.value.side, error.value.index) == ("prediction", 0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=14, unique=True))
def test_as_many_pairs_as_can_be_had_are_counted(edges):
    def most(left):
        """Every choice, by hand: the first pair is taken, or it is not."""
        if not left:
            return 0
        (truth, prediction), *others = left
        return max(most(others), 1 + most([e for e in others if e[0] != truth and e[1] != prediction]))

    truth, prediction = (np.array([e[side] for e in edges], np.int64) for side in (0, 1))
    pairs = Pairs(truth, prediction, np.ones(len(edges), np.int64), np.full(len(edges), 0.6))
    assert true_positives(pairs, (0.5, 0.7), strict=True).tolist() == [most(edges), 0]
