"""Instances: what goes in comes out, in the field's own encoding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from bench.api import DataError, Instances, Sample, UnknownNameError

label_maps = hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 6))


@given(label_maps)
def test_a_label_map_survives_the_round_trip(labels):
    instances = Instances.from_label_map(labels)
    back = instances.to_label_map("forbid")
    ids = np.unique(labels[labels > 0])
    np.testing.assert_array_equal(back, np.searchsorted(ids, labels) * (labels > 0) + (labels > 0))


@given(label_maps)
def test_masks_and_label_map_give_the_same_rles_as_pycocotools(labels):
    ids = np.unique(labels[labels > 0])
    expected = [coco_mask.encode(np.asfortranarray(labels == i, dtype=np.uint8))["counts"] for i in ids]
    assert list(Instances.from_label_map(labels).rles) == expected
    assert list(Instances.from_masks((labels == ids[:, None, None]).reshape(-1, *labels.shape)).rles) == expected


@given(label_maps)
def test_boxes_and_areas_are_those_of_the_pixels(labels):
    instances = Instances.from_label_map(labels)
    for index, label in enumerate(np.unique(labels[labels > 0])):
        rows, columns = np.nonzero(labels == label)
        assert instances.areas[index] == len(rows)
        np.testing.assert_array_equal(
            instances.boxes[index], [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        )


def test_more_masks_than_eight_bits_count_have_their_areas():
    # pycocotools 2.0.11 raises OverflowError where one call has more than 255.
    masks = np.zeros((700, 5, 7), np.bool_)
    masks[:, 1, 2:4] = True
    assert Instances.from_masks(masks).areas.tolist() == [2] * 700


def test_an_id_with_two_components_stays_one_instance():
    labels = np.zeros((6, 6), np.uint8)
    labels[0, 0] = labels[5, 5] = 3
    assert len(Instances.from_label_map(labels)) == 1


def test_label_map_keeps_class_and_score_with_its_label():
    labels = np.array([[0, 5], [9, 5]])
    instances = Instances.from_label_map(labels, class_of={5: 1, 9: 0}, scores={5: 0.25, 9: 0.75})
    assert instances.class_ids.tolist() == [1, 0]
    assert instances.scores is not None
    assert instances.scores.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Instances.from_label_map(np.zeros((2, 2, 2), int)), r"must be \(H, W\)"),
        (lambda: Instances.from_label_map(np.zeros((2, 2), float)), "integers, not float64"),
        (lambda: Instances.from_label_map(np.array([[-1, 0]])), "negative label -1"),
        (lambda: Instances.from_masks(np.zeros((2, 2))), r"must be \(N, H, W\)"),
        (lambda: Instances.from_masks(np.full((1, 2, 2), 7)), r"bool or \{0, 1\}"),
        (lambda: Instances.from_masks(np.ones((2, 3, 3)), scores=[1.0]), "1 scores for 2 masks"),
        (lambda: Instances.from_masks(np.ones((1, 3, 3)), scores=[np.nan]), "score 0 is not a finite number"),
        (lambda: Instances.from_masks(np.ones((1, 3, 3)), class_ids=[-2]), "0 or more"),
        (lambda: Instances(3, 4, (b"?",)).checked(), "mask 0"),
        (lambda: Instances(3, 4, (b"\x01",)).checked(), "illegal character"),
        (lambda: Instances(3, 4, (b"9",)).checked(), "covers 9 pixels where its image has 3 x 4 = 12"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(make, message):
    with pytest.raises(DataError, match=message):
        make()


@given(st.binary(min_size=1, max_size=12))
def test_a_checked_rle_is_always_safe_to_decode(counts):
    """Whatever bytes a file holds: refused, or exactly the pixels of the image."""
    instances = object.__new__(Instances)
    for name, value in {"height": 5, "width": 4, "rles": (counts,)}.items():
        object.__setattr__(instances, name, value)
    try:
        instances.checked()
    except DataError:
        return
    assert instances.mask(0).shape == (5, 4)
    assert coco_mask.area({"size": [5, 4], "counts": counts}) == instances.mask(0).sum()


def test_top_keeps_the_highest_scores_in_their_order():
    found = Instances.from_masks(np.ones((4, 2, 2)), scores=[0.1, 0.9, 0.5, 0.9]).top(3)
    assert found.scores is not None
    assert found.scores.tolist() == [0.9, 0.5, 0.9]


def test_equality_looks_at_everything():
    masks = np.eye(3, dtype=bool)[None]
    one = Instances.from_masks(masks, scores=[0.5])
    assert one == Instances.from_masks(masks, scores=[0.5])
    assert one != Instances.from_masks(masks, scores=[0.6])
    assert one != Instances.from_masks(masks)
    assert one != Instances.from_masks(masks, scores=[0.5], class_ids=[1])
    assert one != Instances.from_masks(~masks, scores=[0.5])


# -- overlap policies -------------------------------------------------------------------------------


def two_overlapping(scores):
    masks = np.zeros((2, 6, 12), np.bool_)
    masks[0, :, :8] = True
    masks[1, :, 5:] = True  # 7 columns, 3 of them shared
    return Instances.from_masks(masks, scores=scores)


def test_by_score_the_surer_keeps_the_shared_pixels():
    labels = two_overlapping([0.9, 0.5]).to_label_map("score")
    assert (labels == 1).sum() == 48
    assert (labels == 2).sum() == 24
    labels = two_overlapping([0.5, 0.9]).to_label_map("score")
    assert (labels == 1).sum() == 30
    assert (labels == 2).sum() == 42


def test_by_score_equal_scores_go_by_area():
    labels = two_overlapping([0.5, 0.5]).to_label_map("score")
    assert (labels == 1).sum() == 48


def test_by_score_drops_what_lost_more_than_half():
    masks = np.zeros((2, 4, 10), np.bool_)
    masks[0, :, :8] = True
    masks[1, :, 5:10] = True  # 2 of 5 columns left
    instances = Instances.from_masks(masks, scores=[0.9, 0.5])
    assert np.unique(instances.to_label_map("score")).tolist() == [0, 1]
    assert np.unique(instances.to_label_map("score", min_remaining=0.4)).tolist() == [1, 2]
    assert len(instances.without_overlap("score")) == 1


def test_by_score_what_is_cut_in_two_keeps_its_larger_part():
    masks = np.zeros((2, 3, 12), np.bool_)
    masks[0, :, 7:9] = True
    masks[1, 1, :] = True
    labels = Instances.from_masks(masks, scores=[0.9, 0.5]).to_label_map("score")
    assert (labels[1] == 2).nonzero()[0].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_by_score_an_id_of_two_components_is_kept_whole_when_nothing_is_lost():
    mask = np.zeros((1, 3, 9), np.bool_)
    mask[0, :, :2] = mask[0, :, 6:] = True
    labels = Instances.from_masks(mask, scores=[1.0]).to_label_map("score")
    np.testing.assert_array_equal(labels == 1, mask[0])


def test_index_smallest_and_forbid():
    masks = np.zeros((2, 4, 4), np.bool_)
    masks[0] = True
    masks[1, 1, 1] = True
    instances = Instances.from_masks(masks)
    assert np.unique(instances.to_label_map("index")).tolist() == [1]
    assert (instances.to_label_map("smallest") == 2).sum() == 1
    with pytest.raises(DataError, match="instances 0 and 1 overlap"):
        instances.to_label_map("forbid")


def test_an_unknown_policy_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean score"):
        Instances.empty(2, 2).to_label_map("scores")


@given(label_maps, st.sampled_from(["score", "index", "smallest", "forbid"]))
def test_every_policy_keeps_what_does_not_overlap(labels, policy):
    instances = Instances.from_label_map(labels)
    assert instances.without_overlap(policy) == instances


# -- samples ----------------------------------------------------------------------------------------


def test_a_sample_holds_its_truth_against_its_image():
    with pytest.raises(DataError, match="masks are 2 x 3 pixels, the image is 4 x 5"):
        Sample("a", np.zeros((4, 5), np.uint8), Instances.empty(2, 3))
    with pytest.raises(DataError, match="float64"):
        Sample("a", np.zeros((4, 5)))
