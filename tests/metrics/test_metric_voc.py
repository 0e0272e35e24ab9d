"""``voc`` against cases worked by hand and an evaluator written plainly from the rule."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.api import Instances, UsageError
from bench.metrics import protocol, score


def bars(rows, shape=(40, 30)):
    """One mask a row of (row, first column, width)."""
    masks = np.zeros((len(rows), *shape), bool)
    for mask, (row, left, width) in zip(masks, rows, strict=True):
        mask[row, left : left + width] = True
    return masks


def voc(truths, predictions, classes=None, **params):
    return score(truths, predictions, {"voc": params}, classes=classes, intervals=False).protocols["voc"]


def plain(truths, predictions, threshold, strict=True):
    """AP by both rules and mean IoU, in exact arithmetic, straight from the rule. One class."""
    ranked = []
    for image, prediction in enumerate(predictions):
        for index in range(len(prediction)):
            ranked.append((-prediction.scores[index], image, index))
    taken, verdicts, ious = set(), [], []
    for _, image, index in sorted(ranked):
        mask = predictions[image].mask(index)
        best, best_iou = None, Fraction(0)
        for t in range(len(truths[image])):
            other = truths[image].mask(t)
            iou = Fraction(int((mask & other).sum()), int((mask | other).sum()) or 1)
            if iou > best_iou:
                best, best_iou = t, iou
        limit = Fraction(str(threshold))
        good = best is not None and (best_iou > limit if strict else best_iou >= limit)
        hit = good and (image, best) not in taken
        if hit:
            taken.add((image, best))
            ious.append(best_iou)
        verdicts.append(hit)
    total = sum(map(len, truths))
    if total == 0:
        return None, None, None
    points, found = [], 0
    for seen, hit in enumerate(verdicts, start=1):
        found += hit
        points.append((Fraction(found, total), Fraction(found, seen)))
    eleven = sum(max((p for r, p in points if r >= Fraction(j, 10)), default=Fraction(0)) for j in range(11)) / 11
    area, before = Fraction(0), Fraction(0)
    for i, (recall, _) in enumerate(points):
        area += (recall - before) * max(p for _, p in points[i:])
        before = recall
    return eleven, area, sum(ious) / len(ious) if ious else None


def test_by_hand():
    # Three truths. Scores .9 hit, .8 miss (a second one on the first truth), .7 hit, .6 in the background.
    truth = Instances.from_masks(bars([(0, 0, 10), (2, 0, 10), (4, 0, 10)]))
    found = Instances.from_masks(bars([(0, 0, 9), (0, 0, 10), (2, 0, 8), (9, 0, 5)]), scores=[0.9, 0.8, 0.7, 0.6])
    scores = voc([truth], [found])
    # recall 1/3 at precision 1, 2/3 at precision 2/3: 4 of 11 levels at 1, 3 at 2/3, 4 at 0
    assert scores["AP@0.5"] == pytest.approx((4 + 3 * 2 / 3) / 11)
    assert scores["AP_area@0.5"] == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert scores["IoU@0.5"] == pytest.approx((0.9 + 0.8) / 2)
    image = {m.metric: m for m in scores.images}["AP@0.5"]
    assert (image.tp, image.fp, image.fn) == (2, 2, 1)


def test_no_second_choice():
    # The second prediction likes the taken truth best, though it would also do for the other.
    masks = np.zeros((2, 10, 20), bool)
    masks[0, :, :12] = True
    masks[1, :, 4:16] = True
    truth = Instances.from_masks(masks)
    predicted = np.zeros((2, 10, 20), bool)
    predicted[0, :, :12] = True
    predicted[1, :, 1:13] = True
    found = Instances.from_masks(predicted, scores=[0.9, 0.8])
    scores = voc([truth], [found])
    image = {m.metric: m for m in scores.images}["AP@0.5"]
    assert (image.tp, image.fp, image.fn) == (1, 1, 1)


def test_recall_on_a_level_counts():
    """3 of 10 truths: float evaluators compare 0.3 with 0.1 * 3 = 0.30000000000000004 and lose the level."""
    truth = Instances.from_masks(bars([(2 * i, 0, 10) for i in range(10)]))
    found = Instances.from_masks(bars([(2 * i, 0, 10) for i in range(3)]), scores=[0.9, 0.8, 0.7])
    assert voc([truth], [found])["AP@0.5"] == pytest.approx(4 / 11)


def test_exactly_half_is_no_match_unless_asked():
    truth = Instances.from_masks(bars([(0, 0, 10)]))
    half = Instances.from_masks(bars([(0, 0, 5)]), scores=[1.0])
    assert voc([truth], [half])["AP@0.5"] == 0.0
    assert voc([truth], [half], strict=False)["AP@0.5"] == 1.0
    seven = Instances.from_masks(bars([(0, 0, 7)]), scores=[1.0])
    assert voc([truth], [seven])["AP@0.7"] == 0.0
    assert voc([truth], [seven], strict=False)["AP@0.7"] == 1.0


def test_ranking_is_over_all_images():
    truth = Instances.from_masks(bars([(0, 0, 10)]))
    good = Instances.from_masks(bars([(0, 0, 10)]), scores=[0.4])
    bad = Instances.from_masks(bars([(9, 0, 10)]), scores=[0.6])
    assert voc([truth, truth], [good, bad])["AP_area@0.5"] == pytest.approx(0.25)


def test_classes_are_averaged_over_those_that_have_truths():
    truth = Instances.from_masks(bars([(0, 0, 10), (2, 0, 10)]), class_ids=[0, 1])
    found = Instances.from_masks(bars([(0, 0, 10), (2, 0, 10), (8, 0, 3)]), class_ids=[0, 0, 2], scores=[0.9, 0.8, 0.7])
    scores = voc([truth], [found], classes=["a", "b", "c"])
    assert (scores["AP@0.5/a"], scores["AP@0.5/b"], scores["AP@0.5/c"]) == (1.0, 0.0, None)
    assert scores["AP@0.5"] == 0.5


def test_an_object_annotated_twice_can_be_found_twice():
    truth = Instances.from_masks(bars([(0, 0, 10), (0, 0, 10), (4, 0, 10)]))
    found = Instances(*truth.shape, truth.rles, scores=np.array([0.5, 0.5, 0.9]))
    assert voc([truth], [found])["AP@0.5"] == 1.0


def test_crowd_regions_count_neither_way():
    masks = bars([(0, 0, 10), (5, 0, 20)])
    truth = Instances.from_masks(masks, crowd=[False, True])
    found = Instances.from_masks(bars([(0, 0, 10), (5, 0, 5), (5, 10, 5)]), scores=[0.5, 0.9, 0.8])
    assert voc([truth], [found])["AP@0.5"] == 1.0


def test_without_scores_ap_is_not_applicable_but_iou_is_given():
    truth = Instances.from_masks(bars([(0, 0, 10)]))
    found = Instances.from_masks(bars([(0, 0, 7), (0, 0, 9)]))
    scores = voc([truth], [found])
    assert scores["AP@0.5"] is None
    assert "no confidence" in scores.result("AP@0.5").reason
    assert scores["IoU@0.5"] == 0.9  # the better one takes the truth


def test_nothing_predicted_and_nothing_there():
    truth = Instances.from_masks(bars([(0, 0, 10)]))
    none = Instances.empty(*truth.shape, scored=True)
    scores = voc([truth], [none])
    assert (scores["AP@0.5"], scores["AP_area@0.7"], scores["IoU@0.5"]) == (0.0, 0.0, None)
    assert "no true positive" in scores.result("IoU@0.5").reason
    scores = voc([none], [none])
    assert scores["AP@0.5"] is None
    assert "no truth" in scores.result("AP@0.5").reason


@st.composite
def scenes(draw):
    """Up to three images of bars, with ties in score and IoU exactly on a threshold."""
    truths, predictions = [], []
    for _ in range(draw(st.integers(1, 3))):
        rows = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 10)), max_size=5))
        truths.append(Instances.from_masks(bars(rows, (4, 20))))
        rows = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 10)), max_size=6))
        scores = draw(st.lists(st.sampled_from([0.2, 0.4, 0.6, 0.8]), min_size=len(rows), max_size=len(rows)))
        predictions.append(Instances.from_masks(bars(rows, (4, 20)), scores=scores))
    return truths, predictions


def equally_good(truth, prediction):
    """Whether a prediction overlaps two truths to the same degree: a rule of ours settles that."""
    for index in range(len(prediction)):
        mask = prediction.mask(index)
        others = [truth.mask(t) for t in range(len(truth))]
        ious = [Fraction(int((mask & other).sum()), int((mask | other).sum())) for other in others]
        if ious and max(ious) > 0 and ious.count(max(ious)) > 1:
            return True
    return False


@settings(max_examples=150, deadline=None)
@given(scenes(), st.booleans())
def test_agrees_with_the_rule_written_plainly(scene, strict):
    truths, predictions = scene
    assume(not any(equally_good(truth, found) for truth, found in zip(truths, predictions, strict=True)))
    scores = voc(truths, predictions, strict=strict)
    for name, threshold in (("0.5", 0.5), ("0.7", 0.7)):
        eleven, area, iou = plain(truths, predictions, threshold, strict)
        found = scores[f"AP@{name}"], scores[f"AP_area@{name}"], scores[f"IoU@{name}"]
        if eleven is None:
            assert found[:2] == (None, None)
            continue
        assert found[0] == pytest.approx(float(eleven), abs=1e-12)
        assert found[1] == pytest.approx(float(area), abs=1e-12)
        assert found[2] == (None if iou is None else pytest.approx(float(iou), abs=1e-12))


def test_the_other_rule_can_lead():
    truth = Instances.from_masks(bars([(0, 0, 10), (2, 0, 10), (4, 0, 10)]))
    found = Instances.from_masks(bars([(0, 0, 9)]), scores=[0.9])
    one, other = voc([truth], [found]), voc([truth], [found], interpolation="area")
    assert other["AP@0.5"] == one["AP_area@0.5"]
    assert other["AP_voc07@0.5"] == one["AP@0.5"]


@pytest.mark.parametrize("params", [{"interpolation": "coco"}, {"thresholds": ()}, {"thresholds": "0.5,1.0"}])
def test_parameters_that_do_not_fit(params):
    with pytest.raises(UsageError, match="voc"):
        protocol("voc").make(params)


def test_parameters_from_the_command_line():
    params = protocol("voc").make({"thresholds": "0.6,0.75", "strict": "no"}).params
    assert (params.thresholds, params.strict) == ((0.6, 0.75), False)
