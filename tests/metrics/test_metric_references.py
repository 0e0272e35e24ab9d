"""What other people's code says: stardist, cellpose, pycocotools and py-ctcmetrics, stored (oracle) or installed.

Where a reference is at fault, the test shows the fault and our rule.
"""

import numpy as np
import pytest

from bench.api import Instances
from bench.metrics import score
from bench.metrics.assignment import true_positives
from bench.metrics.matching import Match

THRESHOLDS = [k / 20 for k in range(10, 20)]
EMPTY = ("both_empty", "pred_empty", "gt_empty")


def scores_of(truth, prediction, **protocols):
    return score([truth], [prediction], protocols, intervals=False).protocols


def test_counts_at_ten_thresholds_are_stardists(oracle):
    assert len(oracle) == 29
    for name, (truth, prediction, said) in oracle.items():
        flat = Match(truth, prediction).flat()
        tp = true_positives(flat.pairs, THRESHOLDS, strict=False)
        found = [[t, flat.n_prediction - t, flat.n_truth - t] for t in tp.tolist()]
        assert found == said["stardist_tp_fp_fn"], name
        assert [flat.n_truth, flat.n_prediction] == [said["gt_n"], len(np.unique(prediction[prediction > 0]))], name


def test_kaggle_is_stardists_mean_accuracy_at_iou_of_at_least_t(oracle):
    for name, (truth, prediction, said) in oracle.items():
        found = scores_of(truth, prediction, kaggle={"strict": False})["kaggle"]["mAP@.5:.95"]
        if name == "both_empty":
            assert (said["stardist_accuracy_mean"], found) == (
                0.0,
                1.0,
            )  # stardist's fault: nothing missed, nothing false
        else:
            assert found == pytest.approx(said["stardist_accuracy_mean"], abs=1e-12), name


def test_kaggle_by_default_differs_from_stardist_only_where_an_iou_is_a_threshold(oracle):
    ties = {
        name
        for name, (truth, prediction, _) in oracle.items()
        if scores_of(truth, prediction, kaggle={})["kaggle"]["mAP@.5:.95"]
        != scores_of(truth, prediction, kaggle={"strict": False})["kaggle"]["mAP@.5:.95"]
    }
    for name in ties:
        truth, prediction, _ = oracle[name]
        iou = Match(truth, prediction).flat().pairs.iou
        assert np.isin(iou, THRESHOLDS).any(), name
    assert {"exact_half_cover_iou_0.5", "iou_exactly_0.6", "iou_exactly_0.7", "iou_exactly_0.8"} <= ties


def test_panoptic_is_stardists(oracle):
    for name, (truth, prediction, said) in oracle.items():
        if name in EMPTY:
            continue
        found = scores_of(truth, prediction, panoptic={"strict": False, "thresholds": (0.5,)})["panoptic"]
        said = said["stardist_0.5"]
        assert found["F1@0.5"] == pytest.approx(said["f1"], abs=1e-12), name
        iou = Match(truth, prediction).flat().pairs.iou
        if 0.5 in iou:
            continue  # PQ asks for more than 0.5
        assert found["precision"] == pytest.approx(said["precision"], abs=1e-12), name
        assert found["recall"] == pytest.approx(said["recall"], abs=1e-12), name
        assert found["PQ"] == pytest.approx(said["panoptic_quality"], abs=1e-7), name  # stardist counts in float32
        if found["SQ"] is None:
            assert said["mean_matched_score"] == 0.0  # a silent 0 where nothing matched
        else:
            assert found["SQ"] == pytest.approx(said["mean_matched_score"], abs=1e-7), name


def test_counts_are_cellposes(oracle):
    for name, (truth, prediction, said) in oracle.items():
        flat = Match(truth, prediction).flat()
        tp = true_positives(flat.pairs, THRESHOLDS, strict=False)
        total = flat.n_truth + flat.n_prediction - tp
        if name == "both_empty":
            assert said["cellpose_ap"] == [None] * 10  # NaN: its fault
        elif name == "gt_has_no_background":
            assert np.isinf(said["cellpose_ap"]).all()  # its fault: it takes the first label for background
        else:
            assert (tp / total).tolist() == pytest.approx(said["cellpose_ap"], abs=1e-6), name


def test_coco_is_pycocotools_on_one_image(oracle):
    """The stored numbers were made with each cell's area for its score."""
    for name, (truth, prediction, said) in oracle.items():
        if isinstance(said["coco_single_image"], str):
            continue  # an empty result list breaks it: see test_empty_sides
        found = Instances.from_label_map(prediction)
        found = Instances(found.height, found.width, found.rles, scores=found.areas.astype(float))
        ours = scores_of(Instances.from_label_map(truth), found, coco={"boxes": False})["coco"]
        for number, expected in said["coco_single_image"].items():
            if expected == -1:
                assert ours[number] is None, name
            else:
                assert ours[number] == pytest.approx(expected, abs=1e-9), name


def test_seg_and_det_are_py_ctcmetrics(oracle):
    for name, (truth, prediction, said) in oracle.items():
        ours = scores_of(truth, prediction, ctc={})["ctc"]
        if isinstance(said["ctc"], str) or said["ctc"]["SEG"] is None:
            continue  # it crashes on empty sides and drops a label where there is no background
        assert ours["SEG"] == pytest.approx(said["ctc"]["SEG"], abs=1e-12), name
        assert ours["DET"] == pytest.approx(said["ctc"]["DET"], abs=1e-12), name


@pytest.mark.parametrize("name", EMPTY)
def test_empty_sides(oracle, name):
    """Where most references answer NaN, inf, -1, a silent 0 or a traceback."""
    truth, prediction, _ = oracle[name]
    found = Instances.from_label_map(prediction)
    found = Instances(found.height, found.width, found.rles, scores=np.ones(len(found)))
    all_ = score([truth], [found], "all", intervals=False).protocols
    for protocol in all_.values():
        for result in protocol.results:
            assert (result.value is None) == (result.reason is not None)
            assert result.value is None or np.isfinite(result.value)
    assert all_["kaggle"]["mAP@.5:.95"] == (1.0 if name == "both_empty" else 0.0)
    assert all_["panoptic"]["AJI"] == (1.0 if name == "both_empty" else 0.0)
    if name == "pred_empty":
        assert all_["coco"]["AP"] == all_["ctc"]["SEG"] == all_["ctc"]["DET"] == all_["panoptic"]["PQ"] == 0.0
    else:
        assert all_["coco"]["AP"] is all_["ctc"]["SEG"] is all_["ctc"]["DET"] is all_["voc"]["AP@0.5"] is None


def test_full_images_count_all_their_labels(oracle):
    """Where there is no background, two references lose the first label."""
    truth, prediction, said = oracle["gt_has_no_background"]
    assert said["ctc"]["SEG"] is None
    assert scores_of(truth, prediction, ctc={})["ctc"]["SEG"] == 1.0


@pytest.mark.parametrize(("dtype", "labels"), [(np.uint8, (200, 100)), (np.uint16, (40_000, 30_000))])
def test_large_labels_do_not_overflow(dtype, labels):
    """py-ctcmetrics adds labels in their own type: 200 + 100 in 8 bit finds no match at all."""
    image = np.zeros((8, 12), dtype)
    image[1:4, 1:4], image[1:4, 6:9] = labels
    found = scores_of(image, image, ctc={}, kaggle={})
    assert found["ctc"]["SEG"] == found["ctc"]["DET"] == found["kaggle"]["mAP@.5:.95"] == 1.0


# -- installed references -------------------------------------------------------------------------


def perturbed(truth: Instances, seed: int) -> np.ndarray:
    """A label image made of a truth: shifted, merged, split, lost and invented cells."""
    rng = np.random.default_rng(seed)
    labels = truth.to_label_map("index")
    moved = np.roll(labels, rng.integers(-3, 4, 2), (0, 1))
    for label in np.unique(moved[moved > 0]):
        fate = rng.random()
        if fate < 0.1:
            moved[moved == label] = 0
        elif fate < 0.2:
            moved[moved == label] = rng.choice(np.unique(labels[labels > 0]))
        elif fate < 0.3:
            rows = np.flatnonzero((moved == label).any(axis=1))
            half = moved[: rows[len(rows) // 2]]
            half[half == label] = labels.max() + label
    return moved


def test_stardist_itself(real_truths):
    matching = pytest.importorskip("stardist.matching")
    for seed, truth in enumerate(real_truths):
        labels, found = truth.to_label_map("index"), perturbed(truth, seed)
        flat = Match(labels, found).flat()
        tp = true_positives(flat.pairs, THRESHOLDS, strict=False)
        said = matching.matching(labels, found, thresh=THRESHOLDS)
        assert tp.tolist() == [s.tp for s in said]
        assert [flat.n_prediction - t for t in tp.tolist()] == [s.fp for s in said]


def test_py_ctcmetrics_itself(real_truths, tmp_path):
    pytest.importorskip("ctc_metrics")
    for seed, truth in enumerate(real_truths):
        labels, found = truth.to_label_map("index"), perturbed(truth, seed)
        if not labels.any() or not found.any():
            continue  # it crashes
        ours = scores_of(labels, found, ctc={})["ctc"]
        assert (ours["SEG"], ours["DET"]) == pytest.approx(ctcmetrics_says(labels, found, tmp_path), abs=1e-12)


def ctcmetrics_says(truth, prediction, folder):
    """SEG and DET of a sequence of this frame, twice: it crashes on a sequence of one."""
    import tifffile
    from ctc_metrics.metrics import det, seg
    from ctc_metrics.utils.representations import count_acyclic_graph_correction_operations, match

    paths = [folder / "truth.tif", folder / "prediction.tif"]
    for path, labels in zip(paths, (truth, prediction), strict=True):
        tifffile.imwrite(path, labels.astype(np.int64))  # wide enough for the sums of labels that it forms
    frames = [match(*map(str, paths))] * 2
    labels_truth, labels_found, mapped_truth, mapped_found, iou = map(list, zip(*frames, strict=True))
    labels_found = [[int(x) for x in frame] for frame in labels_found]
    tracks = [
        np.array([(label, 0, 1, 0) for label in sorted(set(frames_[0]))]) for frames_ in (labels_truth, labels_found)
    ]
    operations = count_acyclic_graph_correction_operations(
        *tracks, labels_truth, labels_found, mapped_truth, mapped_found
    )
    return seg(labels_truth, iou), det(**operations)
