"""The protocols over label images (kaggle, ctc, semantic, touching, panoptic): by hand, and by plain counting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from bench.api import Instances, UsageError
from bench.metrics import protocol, score
from bench.metrics.boundary import dilate

labels = hnp.arrays(np.int32, (7, 8), elements=st.integers(0, 3), fill=st.just(0))
small = hnp.arrays(np.int32, (4, 4), elements=st.integers(0, 4))
blocks = small.map(lambda a: np.kron(a, np.ones((3, 2), np.int32)))
maps = labels | blocks.map(lambda a: a[:7, :8])


def of(name, truth, prediction, **params):
    truths = [truth] if not isinstance(truth, list) else truth
    predictions = [prediction] if not isinstance(prediction, list) else prediction
    return score(truths, predictions, {name: params}, intervals=False).protocols[name]


def counted(truth, prediction):
    """Areas, intersections and IoU of two label images, by masks."""
    t = [truth == i for i in np.unique(truth) if i]
    p = [prediction == i for i in np.unique(prediction) if i]
    shared = np.array([[int((a & b).sum()) for b in p] for a in t]).reshape(len(t), len(p))
    union = np.array([[int((a | b).sum()) for b in p] for a in t]).reshape(len(t), len(p))
    return t, p, shared, shared / np.maximum(union, 1)


def matched(iou, good):
    if not iou.size:
        return 0
    rows, columns = linear_sum_assignment(-good.astype(float))
    return int(good[rows, columns].sum())


# -- kaggle ---------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(maps, maps, st.booleans())
def test_kaggle_is_the_mean_of_precision_over_thresholds(truth, prediction, strict):
    t, p, _, iou = counted(truth, prediction)
    scores = []
    for k in range(10, 20):
        limit = k / 20
        tp = matched(iou, iou > limit if strict else iou >= limit)
        scores.append(tp / (len(t) + len(p) - tp) if t or p else 1.0)
    assert of("kaggle", truth, prediction, strict=strict)["mAP@.5:.95"] == pytest.approx(np.mean(scores), abs=1e-12)


def test_kaggle_averages_over_images_and_scores_empty_ones():
    nothing = np.zeros((5, 5), int)
    cell = nothing.copy()
    cell[1:4, 1:4] = 7
    scores = of("kaggle", [nothing, nothing, cell, cell], [nothing, cell, nothing, cell])
    assert [m.value for m in scores.images] == [1.0, 0.0, 0.0, 1.0]
    assert scores["mAP@.5:.95"] == 0.5
    assert [(m.tp, m.fp, m.fn) for m in scores.images] == [(0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0)]


def test_kaggle_does_not_mind_classes_and_flattens_overlaps():
    masks = np.zeros((3, 6, 12), bool)
    masks[0, :, :6] = masks[1, :, 6:] = True
    masks[2, :, 1:6] = True  # a weaker double of the first, dropped by the policy
    truth = Instances.from_masks(masks[:2], class_ids=[0, 1])
    found = Instances.from_masks(masks, scores=[0.9, 0.8, 0.3], class_ids=[1, 1, 0])
    assert of("kaggle", truth, found)["mAP@.5:.95"] == 1.0


def test_kaggle_may_keep_truths_that_overlap():
    masks = np.zeros((2, 6, 12), bool)
    masks[0, :, :8] = masks[1, :, 4:] = True
    truth = Instances.from_masks(masks)
    found = Instances.from_masks(masks, scores=[0.9, 0.8])
    assert of("kaggle", truth, found)["mAP@.5:.95"] == 1.0  # both sides are cut in the same way
    # Kept: the second prediction has lost 4 of 8 columns to the first and agrees with its truth by one half.
    kept = of("kaggle", truth, found, truth_overlap="keep", strict=False)["mAP@.5:.95"]
    assert kept == pytest.approx((1 + 9 * (1 / 3)) / 10)


def test_kaggle_needs_a_matching_where_kept_truths_compete():
    masks = np.zeros((3, 10, 10), bool)
    masks[0] = True
    masks[1, :, :9] = True  # two truths that hardly differ, and predictions that agree with both
    truth = Instances.from_masks(masks[:2])
    found = Instances.from_masks(masks[1:2], scores=[1.0])
    image = of("kaggle", truth, found, truth_overlap="keep").images[0]
    assert (image.tp, image.fp, image.fn) == (1, 0, 1)


# -- ctc ------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(maps, maps)
def test_ctc_counts(truth, prediction):
    t, _, shared, iou = counted(truth, prediction)
    scores = of("ctc", truth, prediction)
    if not t:
        assert (scores["SEG"], scores["DET"]) == (None, None)
        assert "no reference" in scores.result("SEG").reason
        return
    most = shared > np.array([m.sum() for m in t])[:, None] / 2
    assert scores["SEG"] == pytest.approx((iou * most).sum() / len(t), abs=1e-12)
    times = most.sum(axis=0)
    cost = 5 * np.maximum(times - 1, 0).sum() + 10 * (len(t) - most.sum()) + (times == 0).sum()
    assert scores["DET"] == pytest.approx(max(0.0, 1 - cost / (10 * len(t))), abs=1e-12)


def test_ctc_seg_pools_reference_objects_not_frames():
    one = np.zeros((4, 12), int)
    one[:, :3] = 1
    three = one.copy()
    three[:, 4:7], three[:, 8:11] = 2, 3
    assert of("ctc", [one, three], [one * 0, three])["SEG"] == 0.75


def test_ctc_exactly_half_is_no_match():
    truth = np.ones((4, 4), int)
    half = truth.copy()
    half[:2] = 0
    assert of("ctc", truth, half)["SEG"] == 0.0
    half[1, 0] = 1
    assert of("ctc", truth, half)["SEG"] == 9 / 16


def test_ctc_det_has_a_floor():
    truth = np.zeros((9, 9), int)
    truth[0, 0] = 1
    noise = np.zeros((9, 9), int)
    noise[2::2, 2::2] = np.arange(1, 17).reshape(4, 4)
    scores = of("ctc", truth, noise)
    assert scores["DET"] == 0.0
    assert scores.images[1].fp == 16


# -- semantic -------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(maps, maps)
def test_semantic_counts_pixels(truth, prediction):
    a, b = truth > 0, prediction > 0
    scores = of("semantic", truth, prediction)
    assert scores["pixel_error"] == pytest.approx((a != b).mean())
    assert scores["rmse"] == pytest.approx(np.sqrt(((a.astype(float) - b) ** 2).mean()))
    if not (a | b).any() or (a & b).all():
        assert scores["mean_iou"] is None
    else:
        assert scores["mean_iou"] == pytest.approx(
            ((a & b).sum() / (a | b).sum() + (~a & ~b).sum() / (~a | ~b).sum()) / 2
        )


def test_semantic_pools_over_the_set():
    small, large = np.zeros((2, 2), int), np.zeros((10, 10), int)
    small[0, 0] = large[0, 0] = 1
    scores = of("semantic", [small, large], [small * 0, large])
    assert scores["pixel_error"] == 1 / 104
    assert scores["rmse"] == pytest.approx((1 / 104) ** 0.5)
    assert scores["mean_iou"] == pytest.approx((1 / 2 + 102 / 103) / 2)


# -- touching -------------------------------------------------------------------------------------


def plain_touching(truth, radius):
    square = np.ones((3, 3))
    found = {}
    for i in np.unique(truth[truth > 0]):
        grown = ndimage.binary_dilation(truth == i, square, iterations=radius)
        found[i] = bool(((truth > 0) & (truth != i) & grown).any())
    return found


@settings(max_examples=120, deadline=None)
@given(maps, maps, st.integers(1, 3))
def test_touching_counts(truth, prediction, radius):
    touches = plain_touching(truth, radius)
    wrong = 0
    for i, does in touches.items():
        if does:
            right = False
            for q in np.unique(prediction[prediction > 0]):
                inside = prediction == q
                right |= all(
                    (inside & (truth == h)).sum() * 2 > (truth == h).sum()
                    if h == i
                    else (inside & (truth == h)).sum() * 2 <= (truth == h).sum()
                    for h in touches
                )
            wrong += not right
    scores = of("touching", truth, prediction, radius=radius)
    total = sum(touches.values())
    if not total:
        assert scores["instance_error"] is None
        assert "no truth touches" in scores.result("instance_error").reason
        return
    assert scores["instance_error"] == pytest.approx(wrong / total)
    assert scores["merged"] + scores["split"] + scores["missed"] == pytest.approx(wrong / total)


@pytest.mark.parametrize(("gap", "touches"), [(0, True), (1, True), (2, False)])
@pytest.mark.parametrize("diagonal", [False, True])
def test_touching_reaches_two_pixels_also_across_corners(gap, touches, diagonal):
    truth = np.zeros((12, 12), int)
    truth[1:4, 1:4] = 1
    start = 4 + gap
    truth[start : start + 3, start : start + 3] = 2 if diagonal else 0
    if not diagonal:
        truth[1:4, start : start + 3] = 2
    for image in (truth, truth.T):
        error = of("touching", image, image)["instance_error"]
        assert error == (0.0 if touches else None)


def test_touching_does_not_reach_around_the_edge():
    truth = np.zeros((6, 9), int)
    truth[5, 2], truth[0, 3] = 1, 2  # next to one another on the column-major line only
    assert of("touching", truth, truth)["instance_error"] is None


def test_touching_by_hand_merged_split_missed():
    truth = np.zeros((6, 20), int)
    for i in range(5):
        truth[:, 4 * i : 4 * i + 4] = i + 1
    found = np.zeros_like(truth)
    found[:, :8] = 1  # the first two in one
    found[:3, 8:12], found[3:, 8:12] = 2, 3  # the third in two halves
    found[0, 12:16] = 4  # of the fourth a sixth
    found[:, 16:] = 5
    scores = of("touching", truth, found)
    assert (scores["merged"], scores["split"], scores["missed"]) == (0.4, 0.2, 0.2)
    assert scores["instance_error"] == pytest.approx(0.8)


# -- panoptic -------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(maps, maps)
def test_panoptic_counts(truth, prediction):
    t, p, shared, iou = counted(truth, prediction)
    scores = of("panoptic", truth, prediction)
    tp = int((iou > 0.5).sum())
    total = iou[iou > 0.5].sum()
    half = (len(t) + len(p)) / 2
    if not half:
        assert scores["PQ"] is None
        assert (scores["AJI"], scores["dice"], scores["boundary_f1"]) == (1.0, 1.0, 1.0)
        return
    assert scores["PQ"] == pytest.approx(total / half)
    assert scores["RQ"] == scores["F1@0.5"] == pytest.approx(tp / half)
    assert scores["SQ"] == (pytest.approx(total / tp) if tp else None)
    assert scores["precision"] == (pytest.approx(tp / len(p)) if p else None)
    assert scores["recall"] == (pytest.approx(tp / len(t)) if t else None)
    assert scores["count_error"] == abs(len(t) - len(p))
    a, b = truth > 0, prediction > 0
    assert scores["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert scores["AJI"] == pytest.approx(plain_aji(t, p, shared, iou))
    assert scores["boundary_f1"] == pytest.approx(plain_boundary_f1(truth, prediction, 2))


def plain_aji(t, p, shared, iou):
    """Kumar's algorithm: every truth takes its best prediction, which others may take as well.

    Of equals the one whose first pixel, column by column, comes first.
    """
    above = below = 0
    used = set()
    first = [np.flatnonzero(mask.ravel(order="F"))[0] for mask in p]
    for i, mask in enumerate(t):
        best = max(range(len(p)), key=lambda j: (iou[i, j], shared[i, j], -first[j]), default=None)
        if best is None or not shared[i, best]:
            below += mask.sum()
            continue
        above += shared[i, best]
        below += (mask | p[best]).sum()
        used.add(best)
    below += sum(mask.sum() for j, mask in enumerate(p) if j not in used)
    return above / below


def edges(image):
    padded = np.pad(image, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    shifts = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    return (image > 0) & np.any([middle != s for s in shifts], axis=0)


def plain_boundary_f1(truth, prediction, tolerance):
    if not truth.any() or not prediction.any():
        return float(truth.any() == prediction.any())
    a, b = edges(truth), edges(prediction)
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    to_a, to_b = ndimage.distance_transform_edt(~a), ndimage.distance_transform_edt(~b)
    precision, recall = (to_a[b] <= tolerance).mean(), (to_b[a] <= tolerance).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("radius", [1, 2, 3, 5])
def test_dilation_is_euclidean(radius):
    mask = np.random.default_rng(0).random((40, 31)) < 0.01
    assert np.array_equal(dilate(mask, radius), ndimage.distance_transform_edt(~mask) <= radius)


def test_aji_lets_a_prediction_serve_twice():
    truth = np.zeros((4, 8), int)
    truth[:, :4], truth[:, 4:] = 1, 2
    merged = np.ones((4, 8), int)
    assert of("panoptic", truth, merged)["AJI"] == pytest.approx((16 + 16) / (32 + 32))


def test_panoptic_averages_as_asked():
    nothing = np.zeros((4, 8), int)
    half = nothing.copy()
    half[:, :4] = 1
    whole = np.ones((4, 8), int)
    truths, predictions = [half, whole, nothing], [whole, whole, nothing]
    assert of("panoptic", truths, predictions)["AJI"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert of("panoptic", truths, predictions, average="pooled")["AJI"] == pytest.approx(48 / 64)
    assert of("panoptic", truths, predictions, average="pooled")["dice"] == pytest.approx(2 * 48 / (48 + 64))


def test_boundary_can_be_left_out():
    image = np.eye(5, dtype=int)
    assert "boundary_f1" not in {r.metric for r in of("panoptic", image, image, boundary=0).results}


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("kaggle", {"thresholds": "0.3"}),
        ("kaggle", {"truth_overlap": "drop"}),
        ("kaggle", {"overlap": "nearest"}),
        ("panoptic", {"average": "all"}),
        ("panoptic", {"boundary": -1}),
        ("touching", {"radius": 0}),
        ("ctc", {"seg": 1}),
        ("semantic", {"overlap": "x"}),
    ],
)
def test_parameters_that_do_not_fit(name, params):
    with pytest.raises(UsageError):
        protocol(name).make(params)
