"""MNC's suppression and mask voting: hand-computed cases, and a dense image that keeps every instance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.api import Instances
from methods._voting import Candidates, VotingRule, overlaps, suppress, vote


def candidates(boxes, levels, scores):
    """Candidates whose masks are constant, so that every vote can be computed by hand."""
    masks = np.stack([np.full((3, 3), level, np.float32) for level in levels])
    return Candidates(np.array(boxes, np.float64), masks, np.array(scores, np.float64).reshape(len(boxes), -1))


def masks_of(voted, height, width):
    return Instances(height, width, tuple(voted.rles)).to_masks()


def test_overlap_of_boxes():
    boxes = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [4, 0, 8, 4], [1, 1, 3, 3], [2, 2, 2, 2]], float)
    assert overlaps(boxes[0], boxes).tolist() == pytest.approx([1, 8 / 24, 0, 4 / 16, 0])
    assert overlaps(boxes[4], boxes).tolist() == [0] * 5


def test_suppression_is_strict_above_the_threshold_and_goes_by_score():
    boxes = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [10, 0, 14, 4], [0, 0, 4, 4]], float)
    scores = np.array([0.5, 0.9, 0.2, 0.5])
    assert suppress(boxes, scores, 8 / 24, 0.0) == [1, 0, 2]  # exactly at the threshold survives
    assert suppress(boxes, scores, 0.3, 0.0) == [1, 2]
    assert suppress(boxes, scores, 0.3, 0.3) == [1]
    assert suppress(boxes, scores, 1.0, 0.0) == [1, 0, 3, 2]


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_suppression_against_its_definition(seed):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 12, (12, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 9, (12, 2))], axis=1).astype(float)
    scores = rng.random(12)
    kept = []
    for i in sorted(range(12), key=lambda i: -scores[i]):
        if all(overlaps(boxes[j], boxes[i : i + 1])[0] <= 0.3 for j in kept):
            kept.append(i)
    assert suppress(boxes, scores, 0.3, 0.0) == kept


def test_a_mask_is_the_score_weighted_mean_of_the_voters_masks():
    # A and B overlap by 64 / (64 + 80 - 64) = 0.8: both vote. C overlaps neither by half. Class scores 0.6, 0.2, 0.1.
    boxes = [[0, 0, 8, 8], [0, 0, 10, 8], [6, 0, 14, 8]]
    voted = vote(candidates(boxes, [0.3, 0.9, 1.0], [0.6, 0.2, 0.1]), 8, 16, VotingRule(nms_iou=0.3))
    # Where only B covers (columns 8 and 9): 0.25 * 0.9 = 0.225. Where both do: 0.75 * 0.3 + 0.25 * 0.9 = 0.45.
    assert len(voted.rles) == 2
    expected = np.zeros((2, 8, 16), bool)
    expected[0, :, 0:8] = True
    expected[1, :, 6:14] = True  # C alone
    assert np.array_equal(masks_of(voted, 8, 16), expected)
    assert voted.boxes.tolist() == [[0, 0, 8, 8], [6, 0, 14, 8]]
    assert voted.scores.tolist() == pytest.approx([0.6, 0.1])
    assert voted.labels.tolist() == [0, 0]


def test_the_box_is_tight_around_the_voted_mask():
    mask = np.zeros((4, 4), np.float32)
    mask[1:3, 1:4] = 1
    voted = vote(Candidates(np.array([[4.0, 2.0, 8.0, 6.0]]), mask[None], np.array([[0.9]])), 10, 10, VotingRule())
    assert voted.boxes.tolist() == [[5, 3, 8, 5]]
    assert masks_of(voted, 10, 10)[0].sum() == 6


def test_what_reaches_the_threshold_is_foreground_and_nothing_less():
    for level, found in ((0.4, 1), (0.39, 0)):
        same = candidates([[0, 0, 4, 4]] * 7, [level] * 7, [0.3, 0.1, 0.2, 0.7, 0.1, 0.6, 0.9])
        assert len(vote(same, 4, 4, VotingRule()).rles) == found


def bars(*bars_of: tuple[int, int, int, int]) -> np.ndarray:
    """Masks over a box of 20 x 20 pixels, 1 in a rectangle (top, left, bottom, right)."""
    masks = np.zeros((len(bars_of), 20, 20), np.float32)
    for mask, (top, left, bottom, right) in zip(masks, bars_of, strict=True):
        mask[top:bottom, left:right] = 1
    return masks


def test_crossing_cells_share_a_box_and_copies_share_a_mask():
    """Of one box: a standing bar, a lying one that crosses it, and the standing one again, a little shorter."""
    boxes = np.array([[0, 0, 20, 20], [0, 0, 20, 20], [40, 0, 60, 20], [40, 0, 60, 20]], float)
    masks = bars((0, 8, 20, 12), (8, 0, 12, 20), (0, 8, 20, 12), (0, 8, 16, 12))
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    rule = VotingRule(nms_iou=1.0, vote_iou=1.1, mask_nms_iou=0.3)  # each votes for itself alone
    voted = vote(Candidates(boxes, masks, scores), 20, 60, rule)
    # The two that cross share 16 of 144 pixels, the copies 64 of 80.
    assert voted.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    every = vote(Candidates(boxes, masks, scores), 20, 60, VotingRule(nms_iou=1.0, vote_iou=1.1))
    assert voted.rles == every.rles[:3]
    assert len(every.rles) == 4


def test_a_mask_suppresses_within_its_class_above_the_threshold_and_before_the_cap():
    boxes = np.array([[0, 0, 20, 20]] * 4, float)
    masks = bars((0, 0, 20, 10), (0, 0, 20, 5), (0, 0, 20, 10), (0, 12, 20, 18))
    scores = np.array([[0.9, 0], [0.8, 0], [0, 0.7], [0.6, 0]])
    given = Candidates(boxes, masks, scores)

    def kept(iou: float, most: int = 10) -> list[float]:
        rule = VotingRule(nms_iou=1.0, vote_iou=1.1, mask_nms_iou=iou, max_detections=most, score_threshold=0.1)
        return vote(given, 20, 20, rule).scores.tolist()

    assert kept(0.5) == pytest.approx([0.9, 0.8, 0.7, 0.6])  # exactly at the threshold survives
    assert kept(0.49) == pytest.approx([0.9, 0.7, 0.6])
    assert kept(0.49, most=3) == pytest.approx([0.9, 0.7, 0.6])


def test_classes_are_suppressed_apart_and_vote_with_their_own_scores():
    boxes = [[0, 0, 8, 8], [0, 0, 10, 8]]
    voted = vote(candidates(boxes, [0.0, 1.0], [[0.9, 0.1], [0.3, 0.8]]), 8, 10, VotingRule())
    # Class 0: 0.25 of B, below the threshold: no pixel, no instance. Class 1: 8/9 of B.
    assert voted.labels.tolist() == [1]
    assert voted.scores.tolist() == pytest.approx([0.8])
    assert masks_of(voted, 8, 10)[0].all()


def test_candidates_below_the_score_threshold_still_vote():
    boxes = [[0, 0, 8, 8], [0, 0, 8, 10]]
    rule = VotingRule(score_threshold=0.5)
    voted = vote(candidates(boxes, [0.2, 1.0], [0.6, 0.4]), 10, 8, rule)
    # 0.6 * 0.2 + 0.4 * 1 = 0.52 where both are, 0.4 where the second is alone.
    assert masks_of(voted, 10, 8)[0].sum() == 80


def test_three_hundred_separate_boxes_come_out_as_three_hundred_and_the_cap_keeps_the_surest():
    boxes = [[20 * j + 2.3, 16 * i + 1.7, 20 * j + 17.1, 16 * i + 13.2] for i in range(15) for j in range(20)]
    scores = np.linspace(0.2, 0.9, 300)
    many = candidates([*boxes, *boxes], [0.8] * 600, [*scores, *(scores - 0.1)])
    voted = vote(many, 240, 400, VotingRule(max_detections=2000))
    assert len(voted.rles) == 300
    masks = masks_of(voted, 240, 400)
    assert masks.sum(axis=0).max() == 1
    assert masks.any(axis=(1, 2)).all()
    assert voted.scores.tolist() == pytest.approx(scores[::-1])
    assert vote(many, 240, 400, VotingRule(max_detections=7)).scores.tolist() == pytest.approx(scores[:-8:-1])


def test_no_candidate_and_boxes_without_area_or_outside_the_image():
    none = Candidates(np.zeros((0, 4)), np.zeros((0, 3, 3), np.float32), np.zeros((0, 2)))
    voted = vote(none, 5, 5, VotingRule())
    assert (voted.rles, voted.boxes.shape, voted.scores.shape, voted.labels.shape) == ([], (0, 4), (0,), (0,))
    odd = candidates([[2, 2, 2, 2], [9, 9, 12, 12], [1, 1, 1, 4]], [1, 1, 1], [0.9, 0.8, 0.7])
    assert vote(odd, 5, 5, VotingRule()).rles == []
