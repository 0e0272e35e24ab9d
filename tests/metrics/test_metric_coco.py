"""COCO numbers against pycocotools and faster-coco-eval at equal caps."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bench.api import Instances, UsageError
from bench.metrics import protocol, score

NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR")


def coco_files(truths, predictions, n_classes, *, boxes):
    """The two sides as COCO dictionaries. Of boxes the results carry no mask, so their area is the box's."""
    annotations, results = [], []
    for image, (truth, prediction) in enumerate(zip(truths, predictions, strict=True), start=1):
        for i in range(len(truth)):
            x0, y0, x1, y1 = truth.boxes[i].tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(truth.class_ids[i]) + 1,
                    "iscrowd": int(truth.crowd[i]),
                    "area": int(truth.areas[i]),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": {"size": list(truth.shape), "counts": truth.rles[i].decode()},
                }
            )
        for i in range(len(prediction)):
            x0, y0, x1, y1 = prediction.boxes[i].tolist()
            shape = {"bbox": [x0, y0, x1 - x0, y1 - y0]}
            if not boxes:
                shape = {"segmentation": {"size": list(truth.shape), "counts": prediction.rles[i].decode()}}
            results.append(
                {
                    "image_id": image,
                    "category_id": int(prediction.class_ids[i]) + 1,
                    "score": float(prediction.scores[i]),
                    **shape,
                }
            )
    images = [{"id": i, "height": t.height, "width": t.width} for i, t in enumerate(truths, start=1)]
    categories = [{"id": c + 1, "name": str(c)} for c in range(n_classes)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def summary(precision, recall):
    """From the arrays of an evaluator, at its last cap: what its own summary gives at the wrong cap."""

    def mean(values):
        defined = values[values > -1]
        return defined.mean() if defined.size else None

    of = precision[..., -1]  # thresholds, recalls, classes, areas
    return {
        "AP": mean(of[..., 0]),
        "AP50": mean(of[0, ..., 0]),
        "AP75": mean(of[5, ..., 0]),
        "APs": mean(of[..., 1]),
        "APm": mean(of[..., 2]),
        "APl": mean(of[..., 3]),
        "AR": mean(recall[:, :, 0, -1]),
    }


def pycocotools_says(truths, predictions, n_classes, *, boxes=False, cap=2000, areas=(32**2, 96**2), use_classes=True):
    truth_file, results = coco_files(truths, predictions, n_classes, boxes=boxes)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = truth_file
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox" if boxes else "segm")
        evaluation.params.maxDets = [cap]
        evaluation.params.useCats = int(use_classes)
        small, large = areas
        evaluation.params.areaRng = [[0, 1e10], [0, small], [small, large], [large, 1e10]]
        evaluation.evaluate()
        evaluation.accumulate()
    return summary(evaluation.eval["precision"], evaluation.eval["recall"])


def faster_coco_eval_says(truths, predictions, n_classes, *, boxes=False, cap=2000):
    faster = pytest.importorskip("faster_coco_eval")
    truth_file, results = coco_files(truths, predictions, n_classes, boxes=boxes)
    truth = faster.COCO(truth_file)
    evaluation = faster.COCOeval_faster(
        truth, truth.loadRes(results), "bbox" if boxes else "segm", print_function=lambda *_: None
    )
    evaluation.params.maxDets = [cap]
    evaluation.evaluate()
    evaluation.accumulate()
    shape = (10, 101, n_classes, 4, 1)
    precision = np.asarray(evaluation.eval["precision"]).reshape(shape)
    return summary(precision, np.asarray(evaluation.eval["recall"]).reshape(10, n_classes, 4, 1))


def ours(truths, predictions, n_classes, **params):
    classes = [f"class {c}" for c in range(n_classes)]
    return score(truths, predictions, {"coco": params}, classes=classes, intervals=False).protocols["coco"]


def assert_agrees(scores, reference, prefix=""):
    for name in NUMBERS:
        expected, found = reference[name], scores[prefix + name]
        if expected is None:
            assert found is None, name
            assert scores.result(prefix + name).reason
        else:
            assert found == pytest.approx(expected, abs=1e-9), name


def ellipses(rng, count, shape, smallest, largest):
    """Overlapping ellipses, as masks."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    masks = np.zeros((count, *shape), bool)
    for mask in masks:
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        a, b = rng.uniform(smallest, largest, 2)
        mask |= ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 <= 1
    return masks[masks.any(axis=(1, 2))]


def generated(seed, *, n_images=6, n_classes=3, shape=(150, 170), crowds=True, ties=True):
    """Images of overlapping truths, several classes, all sizes, crowd regions, empty sides; predictions near them."""
    rng = np.random.default_rng(seed)
    truths, predictions = [], []
    for image in range(n_images):
        masks = ellipses(rng, 0 if image == 1 else int(rng.integers(1, 40)), shape, 4, 30)
        count = len(masks)
        crowd = rng.random(count) < (0.15 if crowds else 0)
        truths.append(Instances.from_masks(masks, class_ids=rng.integers(0, n_classes, count), crowd=crowd))
        near = [np.roll(m, rng.integers(-2, 3, 2), (0, 1)) for m in masks for _ in range(int(rng.integers(0, 3)))]
        far = ellipses(rng, 0 if image == 2 else 5, shape, 4, 30)
        stack = np.concatenate([np.array([] if image == 2 else near).reshape(-1, *shape).astype(bool), far])
        scores = rng.random(len(stack))
        predictions.append(
            Instances.from_masks(
                stack,
                class_ids=rng.integers(0, n_classes, len(stack)),
                scores=np.round(scores, 1) if ties else scores,
            )
        )
    return truths, predictions


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("boxes", [False, True], ids=["masks", "boxes"])
def test_agrees_on_generated_data(seed, boxes):
    truths, predictions = generated(seed)
    scores = ours(truths, predictions, 3)
    prefix = "box_" if boxes else ""
    assert_agrees(scores, pycocotools_says(truths, predictions, 3, boxes=boxes), prefix)
    assert_agrees(scores, faster_coco_eval_says(truths, predictions, 3, boxes=boxes), prefix)
    assert scores[prefix + "AP"] > 0.02


@pytest.mark.parametrize("boxes", [False, True], ids=["masks", "boxes"])
def test_agrees_on_real_data(real_truths, real_predictions, boxes):
    scores = ours(real_truths, real_predictions, 2)
    prefix = "box_" if boxes else ""
    assert_agrees(scores, pycocotools_says(real_truths, real_predictions, 2, boxes=boxes), prefix)
    assert_agrees(scores, faster_coco_eval_says(real_truths, real_predictions, 2, boxes=boxes), prefix)


@pytest.mark.parametrize("cap", [1, 7, 20])
def test_agrees_at_a_cap_that_bites(cap):
    truths, predictions = generated(7)
    scores = ours(truths, predictions, 3, max_detections=cap)
    assert_agrees(scores, pycocotools_says(truths, predictions, 3, cap=cap))


def test_agrees_with_livecells_settings():
    truths, predictions = generated(11, ties=False)  # without classes the COCO API ranks equal scores by category
    scores = ours(truths, predictions, 3, areas=(324, 961), use_classes=False, afnr=True)
    reference = pycocotools_says(truths, predictions, 3, areas=(324, 961), use_classes=False)
    assert_agrees(scores, reference)
    assert scores["AFNR"] == pytest.approx(1 - reference["AR"], abs=1e-12)
    assert not scores.result("AFNR").higher_is_better


def test_agrees_where_recall_falls_on_a_level():
    # 20 truths of which the 7 surest predictions find 7: a recall of 7/20, which floats put below 0.35.
    truth = np.zeros((20, 10, 400), bool)
    for i in range(20):
        truth[i, 2:8, 20 * i : 20 * i + 15] = True
    found = Instances.from_masks(truth[:7], scores=np.linspace(1, 0.9, 7))
    truths = [Instances.from_masks(truth)]
    assert_agrees(ours(truths, [found], 1), pycocotools_says(truths, [found], 1))


def test_per_class_and_mean_over_the_classes_that_are_there():
    truths, predictions = generated(3, n_classes=2)
    scores = ours(truths, predictions, 3)  # the third class has no truth
    assert scores["AP/class 2"] is None
    assert "class 2" in scores.result("AP/class 2").reason
    assert scores["AP"] == pytest.approx((scores["AP/class 0"] + scores["AP/class 1"]) / 2)
    for label in range(2):
        only = [i.take(i.class_ids == label) for i in truths], [i.take(i.class_ids == label) for i in predictions]
        assert scores[f"AP/class {label}"] == pytest.approx(ours(*only, 3)["AP"], abs=1e-12)


def test_the_headline_is_not_capped_at_100():
    """pycocotools computes AP at 100 detections and AP50 at the last cap; here one cap serves every number."""
    masks = np.zeros((250, 50, 50), bool)
    for i in range(250):
        masks[i, 2 * (i // 25) * 2 : 2 * (i // 25) * 2 + 2, 2 * (i % 25) : 2 * (i % 25) + 1] = True
    truth = Instances.from_masks(masks)
    perfect = Instances.from_masks(masks, scores=np.linspace(0.9, 0.1, 250))
    assert ours([truth], [perfect], 1)["AP"] == 1.0
    assert ours([truth], [perfect], 1, max_detections=100)["AP50"] < 0.41
    truth_file, results = coco_files([truth], [perfect], 1, boxes=False)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth_file
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(results), "segm")
        evaluation.params.maxDets = [1, 100, 2000]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] < 0.41  # the fault
    assert evaluation.stats[1] == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_agrees_on_small_crowded_images(seed):
    truths, predictions = generated(seed, n_images=2, n_classes=2, shape=(24, 30))
    if not any(map(len, predictions)):
        return
    scores = ours(truths, predictions, 2, areas=(60, 200))
    assert_agrees(scores, pycocotools_says(truths, predictions, 2, areas=(60, 200)))
    small = pycocotools_says(truths, predictions, 2, boxes=True, areas=(60, 200))
    assert_agrees(scores, small, "box_")


def test_without_scores_nothing_is_invented():
    truths, predictions = generated(1, ties=False)
    bare = [Instances(p.height, p.width, p.rles, p.class_ids) for p in predictions]
    scores = ours(truths, bare, 3)
    assert all(r.value is None and "not applicable" in r.reason for r in scores.results)


def test_image_values():
    truths, predictions = generated(5, n_classes=1)
    scores = ours(truths, predictions, 1)
    for image, (truth, prediction) in enumerate(zip(truths, predictions, strict=True)):
        alone = ours([truth], [prediction], 1) if len(truth) else {"AP": None, "AP50": None}
        values = {m.metric: m for m in scores.images if m.image_key == str(image)}
        assert values["AP"].value == pytest.approx(alone["AP"]) if alone["AP"] is not None else not values["AP"].value
        assert values["AP50"].tp + values["AP50"].fn == np.count_nonzero(~truth.crowd)


@pytest.mark.parametrize(
    "params", [{"max_detections": 0}, {"areas": (9, 4)}, {"areas": (1,)}, {"boxes": "perhaps"}, {"caps": 3}]
)
def test_parameters_that_do_not_fit(params):
    with pytest.raises(UsageError, match="coco"):
        protocol("coco").make(params)
