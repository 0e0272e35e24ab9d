"""What holds of every protocol, whatever its rule; and the scorer around them."""

import dataclasses
import math
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.api import DataError, Instances, UnknownNameError, UsageError
from bench.metrics import Scorer, list_protocols, make_protocols, protocol, protocol_names, score

ERRORS = {"pixel_error", "rmse", "instance_error", "merged", "split", "missed", "count_error", "AFNR", "box_AFNR"}


def numbers(scores):
    return {(p.name, r.metric): r.value for p in scores.protocols.values() for r in p.results}


def scored(truth: Instances) -> Instances:
    return Instances(truth.height, truth.width, truth.rles, truth.class_ids, np.ones(len(truth)))


@st.composite
def images(draw, n_classes=2):
    """Overlapping rectangles with classes; scores all different."""
    shape = (12, 14)
    count = draw(st.integers(0, 6))
    stack = np.zeros((count, *shape), bool)
    for mask in stack:
        y, x = draw(st.integers(0, 10)), draw(st.integers(0, 12))
        mask[y : y + draw(st.integers(1, 7)), x : x + draw(st.integers(1, 7))] = True
    ranks = draw(st.permutations(range(count)))
    classes = draw(st.lists(st.integers(0, n_classes - 1), min_size=count, max_size=count))
    return Instances.from_masks(stack, class_ids=classes, scores=[(r + 1) / 10 for r in ranks])


def bare(instances):
    return Instances(instances.height, instances.width, instances.rles, instances.class_ids)


@settings(max_examples=60, deadline=None)
@given(st.lists(images(), min_size=1, max_size=3))
def test_truth_against_itself_is_perfect_and_nothing_scores_nothing(sides):
    truths = [bare(s) for s in sides]
    perfect = score(truths, [scored(t) for t in truths], classes=("a", "b"), intervals=False)
    empty = score(truths, [Instances.empty(*t.shape, scored=True) for t in truths], classes=("a", "b"), intervals=False)
    for (_, metric), value in numbers(perfect).items():
        assert value in (None, 0.0 if metric in ERRORS else 1.0), metric
    if any(map(len, truths)):
        for name, metric in (("voc", "AP@0.5"), ("coco", "AP"), ("coco", "box_AP"), ("ctc", "SEG"), ("panoptic", "PQ")):
            assert perfect.protocols[name][metric] == 1.0
        assert perfect.protocols["kaggle"]["mAP@.5:.95"] == 1.0
    for (name, metric), value in numbers(empty).items():
        if metric in ERRORS or name == "semantic" or value is None:
            continue
        # Images without truth are right when nothing is predicted on them.
        share = sum(not len(t) for t in truths) / len(truths)
        averaged = metric in ("mAP@.5:.95", "AJI", "dice", "boundary_f1")
        assert value == pytest.approx(share if averaged else 0.0), metric


def discs(rng, count, shape=(70, 80)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    at, radii = rng.uniform(0, 70, (count, 2)), rng.uniform(3, 12, count)
    masks = np.array([(rows - y) ** 2 + (columns - x) ** 2 <= r * r for (y, x), r in zip(at, radii, strict=True)])
    return masks.reshape(count, *shape), at


@pytest.mark.parametrize("seed", range(15))
def test_order_changes_no_bit(seed):
    """Of images, of truths, of predictions; the scores are all different, for ties are settled by the order."""
    rng = np.random.default_rng(seed)
    truths, predictions = [], []
    for _ in range(4):
        truth, _ = discs(rng, int(rng.integers(0, 15)))
        near = np.array([np.roll(m, rng.integers(-2, 3, 2), (0, 1)) for m in truth]).reshape(-1, *truth.shape[1:])
        found = np.concatenate([near.astype(bool), discs(rng, 4)[0]])
        truths.append(Instances.from_masks(truth, class_ids=rng.integers(0, 2, len(truth))))
        classes, scores = rng.integers(0, 2, len(found)), rng.random(len(found))
        predictions.append(Instances.from_masks(found, class_ids=classes, scores=scores))
    keys = [f"image {i}" for i in range(4)]
    straight = score(truths, predictions, image_keys=keys, classes=("a", "b"), resamples=20)
    order = rng.permutation(4)
    mixed = score(
        [truths[i].take(rng.permutation(len(truths[i]))) for i in order],
        [predictions[i].take(rng.permutation(len(predictions[i]))) for i in order],
        image_keys=[keys[i] for i in order],
        classes=("a", "b"),
        resamples=20,
    )
    assert mixed.protocols == straight.protocols


@settings(max_examples=60, deadline=None)
@given(images(n_classes=1), images(n_classes=1), st.floats(0.01, 1.5))
def test_a_false_positive_never_helps(truth, prediction, confidence):
    """A new prediction on its own ground, where there is no truth."""
    wide = np.zeros((12, 20), bool)
    wide[3:6, 15:19] = True

    def on_wide_ground(instances, extra=()):
        stack = np.zeros((len(instances) + len(extra), 12, 20), bool)
        stack[: len(instances), :, :14] = instances.to_masks()
        stack[len(instances) :] = np.array(extra).reshape(-1, 12, 20)
        scores = np.append(instances.scores, [confidence] * len(extra))
        return Instances.from_masks(stack, scores=scores)

    truth = bare(on_wide_ground(truth))
    before = numbers(score([truth], [on_wide_ground(prediction)], intervals=False))
    after = numbers(score([truth], [on_wide_ground(prediction, [wide])], intervals=False))
    for key in (
        ("voc", "AP@0.5"),
        ("voc", "AP_area@0.7"),
        ("coco", "AP"),
        ("coco", "box_AP50"),
        ("kaggle", "mAP@.5:.95"),
        ("panoptic", "PQ"),
        ("ctc", "DET"),
    ):
        if before[key] is not None:
            assert after[key] <= before[key] + 1e-12, key
    assert after["ctc", "SEG"] == before["ctc", "SEG"]


def test_workers_change_no_bit(real_truths, real_predictions):
    keys = [f"img{i}" for i in range(len(real_truths))]
    one = score(real_truths, real_predictions, image_keys=keys, classes=("a", "b"), resamples=50)
    two = score(real_truths, real_predictions, image_keys=keys, classes=("a", "b"), resamples=50, workers=2)
    assert one.protocols == two.protocols
    assert (one.n_images, one.n_truth, one.n_predictions) == (two.n_images, two.n_truth, two.n_predictions)


def test_real_truth_is_perfect(real_truths):
    perfect = score(real_truths, [scored(t) for t in real_truths], classes=("a", "b"), intervals=False)
    for (_, metric), value in numbers(perfect).items():
        assert value in (None, 0.0 if metric in ERRORS else 1.0), metric


def test_labels_and_instances_score_alike(real_truths):
    labels = [t.to_label_map("index") for t in real_truths[:3]]
    rolled = [np.roll(image, 2, 0) for image in labels]
    as_instances = [Instances.from_label_map(image) for image in labels], [Instances.from_label_map(i) for i in rolled]
    assert numbers(score(labels, rolled, intervals=False)) == numbers(score(*as_instances, intervals=False))


def test_no_scores_mean_no_ap_even_where_one_image_has_them():
    cell = np.zeros((1, 8, 8), bool)
    cell[0, 2:6, 2:6] = True
    with_scores, without = Instances.from_masks(cell, scores=[0.5]), Instances.from_masks(cell)
    truths = [without, without]
    assert score(truths, [with_scores, without], ["voc"], intervals=False).protocols["voc"]["AP@0.5"] is None
    # An image on which nothing is predicted has nothing that could lack a score.
    nothing = Instances.empty(8, 8)
    assert score(truths, [with_scores, nothing], ["voc"], intervals=False).protocols["voc"]["AP@0.5"] == pytest.approx(
        6 / 11
    )


def test_every_protocol_says_what_it_is():
    assert protocol_names() == ("voc", "coco", "kaggle", "ctc", "semantic", "touching", "panoptic")
    for each in list_protocols(("a", "b")):
        assert each.version
        assert each.source
        assert each.empties
        assert dataclasses.is_dataclass(each.Params)
        names = [m.name for m in each.metrics]
        assert len(set(names)) == len(names)
        assert all(m.meaning and m.undefined and m.unit in ("fraction", "instances") for m in each.metrics)
        assert {m.name for m in each.metrics if not m.higher_is_better} <= ERRORS


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(images(), images()), min_size=1, max_size=4))
def test_every_metric_has_a_finite_value_or_a_reason(pairs):
    scores = score([bare(t) for t, _ in pairs], [p for _, p in pairs], classes=("a", "b"), resamples=30)
    for each in scores.protocols.values():
        assert [r.metric for r in each.results] == [m.name for m in make_protocols([each.name], ("a", "b"))[0].metrics]
        for result in each.results:
            assert (result.value is None) == bool(result.reason)
            if result.value is None:
                assert result.low is result.high is None
            else:
                assert math.isfinite(result.value)
                if result.low is not None:
                    assert result.low <= result.high
        for image in each.images:
            assert image.value is None or math.isfinite(image.value)


def test_unknown_protocol_and_parameter():
    with pytest.raises(UnknownNameError, match="did you mean kaggle"):
        protocol("kagle")
    with pytest.raises(UsageError, match="no parameter 'cap'"):
        Scorer({"coco": {"cap": 3}})
    with pytest.raises(UsageError, match="no protocol"):
        Scorer([])


def test_bad_images_are_named():
    fine = np.eye(5, dtype=int)
    with pytest.raises(DataError, match=r"image b: prediction: .*float64"):
        score([fine, fine], [fine, fine * 1.0], image_keys=["a", "b"], intervals=False)
    with pytest.raises(DataError, match=r"image 0: truth: .*negative label -3"):
        score([-3 * fine], [fine], intervals=False)
    with pytest.raises(DataError, match="image 0: the prediction has 4 x 4 pixels, the truth 5 x 5"):
        score([fine], [fine[:4, :4]], intervals=False)
    small = Instances.from_masks(np.ones((1, 4, 4), bool))
    with pytest.raises(DataError, match=r"image 0: prediction: mask 0: .*16 pixels.*25"):
        score([fine], [Instances(5, 5, small.rles)], intervals=False)


def test_scorer_refuses_doubles_and_nothing():
    scorer = Scorer(["kaggle"])
    with pytest.raises(DataError, match="no image"):
        scorer.result()
    scorer.add("a", np.eye(3, dtype=int), np.eye(3, dtype=int))
    with pytest.raises(DataError, match="a comes twice"):
        scorer.add("a", np.eye(3, dtype=int), np.eye(3, dtype=int))
    with pytest.raises(UsageError, match="1 predictions for 2 truths"):
        score([np.eye(3, dtype=int)] * 2, [np.eye(3, dtype=int)])


def test_errors_survive_the_way_back_from_a_worker():
    fine = np.eye(5, dtype=int)
    with pytest.raises(DataError, match="image 3: prediction"):
        score([fine] * 4, [fine] * 3 + [fine * 1.0], workers=2, intervals=False)


def test_images_are_in_natural_order():
    image = np.eye(3, dtype=int)
    scores = score([image] * 3, [image] * 3, ["kaggle"], image_keys=["t10", "t9", "t1"], intervals=False)
    assert [i.image_key for i in scores.protocols["kaggle"].images] == ["t1", "t9", "t10"]


def test_what_is_kept_of_an_image_is_small(real_truths, real_predictions):
    scorer = Scorer("all", classes=("a", "b"))
    for i, (truth, prediction) in enumerate(zip(real_truths, real_predictions, strict=True)):
        scorer.add(str(i), truth, prediction)
    kept = len(pickle.dumps(scorer._images))
    assert kept < 150 * sum(map(len, real_predictions)) + 3000 * len(real_truths)


def test_progress_is_told():
    seen = []
    image = np.eye(3, dtype=int)
    score([image] * 3, [image] * 3, ["kaggle"], intervals=False, progress=lambda *a: seen.append(a))
    assert [(done, total) for done, total, _ in seen] == [(1, 3), (2, 3), (3, 3)]


class Killed(list):
    """Images whose reading ends the process, as the system does where memory runs out."""

    def __getitem__(self, index):
        os._exit(9)

    def explained(self, index, error):
        return error


def test_a_worker_that_is_killed_is_no_bug_of_ours():
    with pytest.raises(UsageError, match=r"one of 2 worker processes was killed, .* .use fewer workers."):
        Scorer(["kaggle"]).add_all(Killed([1, 2, 3]), workers=2)
