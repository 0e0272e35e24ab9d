"""The U-Net of Lin and Norouzi: what it declares, what it learns, what it reads off its maps."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bench.api import FitContext, Instances, Sample, Schedule, Task, UsageError
from bench.metrics import score
from methods.unet import UNetMethod

SMALL = {"widths": (4, 8), "crop": 32}


def method(variant="bce", task=None, **settings):
    return UNetMethod(task or Task(), UNetMethod.make_params(variant, settings))


def maps(*planes):
    return {"foreground": np.array(planes, np.float32)}


def decode(plane, variant="bce", **settings):
    plane = np.asarray(plane, np.float32)
    return method(variant, **settings).decode(maps(plane), np.zeros(plane.shape, np.uint8))


# -- what it declares ---------------------------------------------------------------------------------


def test_listing_it_imports_nothing_heavy():
    code = "import sys, methods.unet; print([m for m in ('torch', 'mmengine', 'scipy', 'skimage') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("variant", UNetMethod.variants)
def test_as_published_it_has_no_scores_and_with_a_named_rule_it_has(variant):
    published = method(variant)
    assert not UNetMethod.scored
    assert not published.scored
    assert method(variant, score="mean_probability").scored
    assert UNetMethod.variant_title(variant).startswith("U-Net, ")


@pytest.mark.parametrize(
    "wrong",
    [{"loss": "dice"}, {"decoder": "x"}, {"score": "area"}, {"sigma": "0"}, {"widths": "0,3"}, {"norm": "layer"}],
)
def test_settings_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        UNetMethod.make_params("bce", wrong)


# -- what it learns -----------------------------------------------------------------------------------


def two_cells():
    labels = np.zeros((6, 9), np.int32)
    labels[1:5, 1:4], labels[1:5, 4:8] = 1, 2
    return labels


def test_targets_are_the_foreground_and_the_weights_follow_the_loss():
    from methods._encoders import shape_aware_weights

    labels = two_cells()
    sample = Sample("a", np.zeros(labels.shape, np.uint8), Instances.from_label_map(labels))
    for variant in ("bce", "focal", "shape"):
        targets = method(variant).encode(sample)
        np.testing.assert_array_equal(targets["foreground"], labels[None] != 0)
        expected = shape_aware_weights(labels, alpha=10, sigma=5) if variant == "shape" else np.ones(labels.shape)
        np.testing.assert_allclose(targets["weight"], expected[None], rtol=1e-6)


@pytest.mark.parametrize("variant", ["bce", "shape"])
def test_crowd_regions_weigh_nothing_and_an_empty_image_is_background(variant):
    crowd = np.zeros((1, 6, 9), bool)
    crowd[0, 2:4, 2:4] = True
    truth = Instances.from_masks(crowd, crowd=[True])
    targets = method(variant).encode(Sample("a", np.zeros((6, 9), np.uint8), truth))
    assert not targets["foreground"].any()
    np.testing.assert_array_equal(targets["weight"][0], ~crowd[0])


def test_each_class_has_a_map_of_its_own():
    masks = np.zeros((2, 6, 6), bool)
    masks[0, 1:5, 1:5] = True
    masks[1, 2:4, 2:4] = True
    truth = Instances.from_masks(masks, class_ids=[0, 1])
    task = Task(classes=("cell", "nucleus"))
    targets = method("shape", task).encode(Sample("a", np.zeros((6, 6), np.uint8), truth))
    np.testing.assert_array_equal(targets["foreground"], masks)
    found = method(task=task, min_area=1).decode(maps(*masks * 0.9), np.zeros((6, 6), np.uint8))
    assert found.class_ids.tolist() == [0, 1]
    np.testing.assert_array_equal(found.to_masks(), masks)


# -- what it reads off its maps -----------------------------------------------------------------------


def test_touching_cells_merge_holes_are_filled_and_specks_dropped():
    probability = np.full((12, 20), 0.1)
    probability[1:6, 1:6] = probability[1:6, 6:11] = 0.8
    probability[3, 3] = 0.2
    probability[8:11, 15:18] = 0.9
    found = decode(probability)
    assert found.scores is None
    assert found.areas.tolist() == [50]  # the 3 x 3 speck is below 10 pixels
    assert decode(probability, min_area=9).areas.tolist() == [50, 9]


def test_the_threshold_is_exceeded_not_met():
    probability = np.full((4, 5), 0.5)
    assert len(decode(probability)) == 0
    assert decode(probability, threshold=0.49).areas.tolist() == [20]


def test_the_score_is_the_mean_probability_of_the_instance():
    probability = np.zeros((4, 10))
    probability[:, :4], probability[:, 4], probability[:, 6:] = 0.9, 0.6, 0.75
    scores = decode(probability, score="mean_probability").scores
    np.testing.assert_allclose(scores, [(4 * 0.9 + 0.6) / 5, 0.75], rtol=1e-6)


def test_the_watershed_variant_cuts_what_the_components_merge():
    rows, columns = np.indices((50, 80))
    probability = ((rows - 25) ** 2 + (columns - 25) ** 2 <= 144) | ((rows - 25) ** 2 + (columns - 46) ** 2 <= 144)
    assert len(decode(probability, "shape")) == 1
    assert len(decode(probability, "shape-watershed")) == 2


@pytest.mark.parametrize("variant", ["bce", "shape-watershed"])
@pytest.mark.parametrize("score", ["none", "mean_probability"])
def test_nothing_is_found_in_an_empty_map(variant, score):
    found = decode(np.zeros((7, 5)), variant, score=score)
    assert len(found) == 0
    assert found.shape == (7, 5)
    assert (found.scores is None) == (score == "none")


# -- trained ------------------------------------------------------------------------------------------


class Source(list):
    @property
    def ids(self):
        return tuple(sample.id for sample in self)


def fit(variant, source, folder, steps, batch=2, **settings):
    settings = {"patience": 0, **settings}
    pytest.importorskip("torch")
    pytest.importorskip("mmengine")
    trained = method(variant, **settings)
    weights = trained.fit(source, None, FitContext(folder, Schedule(iterations=steps, batch_size=batch), "short"))
    trained.load(weights)
    return trained, weights


@pytest.mark.parametrize("variant", UNetMethod.variants)
def test_every_variant_trains_and_predicts_any_image(variant, tmp_path):
    labels = np.zeros((37, 41), np.int32)
    labels[5:20, 5:18] = 1
    image = np.where(labels > 0, 50000, 900).astype(np.uint16)
    empty = Sample("empty", np.full((37, 41), 900, np.uint16), Instances.empty(37, 41))
    source = Source([Sample("one cell", image, Instances.from_label_map(labels)), empty])
    trained, _ = fit(variant, source, tmp_path, steps=2, **SMALL)
    for given in (image, image[:1, :1], np.repeat(image[..., None], 3, axis=2), (image >> 8).astype(np.uint8)):
        assert trained.predict(given).shape == given.shape[:2]


def test_tiles_agree_with_the_whole_image(tmp_path):
    """A network that sees 9 pixels far, tiles that ignore their outer 16 of 64 overlapping ones."""
    rng = np.random.default_rng(0)
    labels = np.zeros((150, 210), np.int32)
    labels[::7, ::5] = 1
    sample = Sample("a", rng.integers(0, 255, labels.shape, dtype=np.uint8), Instances.from_label_map(labels))
    trained, weights = fit("bce", Source([sample]), tmp_path, steps=2, **SMALL)
    tiled = method(**SMALL, tile=96, tile_overlap=64)
    tiled.load(weights)
    prepared = trained.prepare(sample.image)
    np.testing.assert_allclose(tiled.infer(prepared)["foreground"], trained.infer(prepared)["foreground"], atol=1e-5)


def crop_of_bbbc039(folder, name, side=256):
    """The upper left corner of a real 16-bit image of nuclei with its truth."""
    from skimage import io as pictures
    from skimage.measure import label

    (image,) = sorted((folder / "images").glob(f"*{name}*"))
    (mask,) = sorted((folder / "masks").glob(f"*{name}*"))
    labels = label(pictures.imread(mask)[..., 0], background=0)[:side, :side]
    return Sample(name, np.ascontiguousarray(pictures.imread(image)[:side, :side]), Instances.from_label_map(labels))


def mask_ap50(truths, predictions):
    """COCO's mask AP at IoU 0.5 as pycocotools computes it, with a cap of 2000 detections."""
    images, annotations, results = [], [], []
    for number, (truth, found) in enumerate(zip(truths, predictions, strict=True), 1):
        size = [truth.height, truth.width]
        images.append({"id": number, "height": truth.height, "width": truth.width})
        for counts, area, (x0, y0, x1, y1) in zip(truth.rles, truth.areas, truth.boxes, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": float(area),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": {"size": size, "counts": counts},
                }
            )
        results += [
            {"image_id": number, "category_id": 1, "score": s, "segmentation": {"size": size, "counts": c}}
            for c, s in zip(found.rles, found.scores, strict=True)
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth_set = COCO()
        truth_set.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
        truth_set.createIndex()
        evaluation = COCOeval(truth_set, truth_set.loadRes(results), "segm")
        evaluation.params.maxDets = [1, 10, 2000]
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
        evaluation.accumulate()
    return float(evaluation.eval["precision"][0, :, 0, 0, 2].mean())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("variant", ["bce", "focal", "shape", "shape-watershed"])
def test_a_small_unet_learns_two_real_images(variant, shared_data: Path, tmp_path, record_property):
    """From random weights to mask AP@0.5 and SEG of at least 0.8 on two images with 53 nuclei.

    As published the U-Net has no scores, so its instances are ranked by their mean foreground probability here; the
    masks are those of the published method. Two pairs of nuclei touch, so components reach 0.96 at most.
    """
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        source = Source(crop_of_bbbc039(shared_data / "bbbc039", name) for name in ("F22_s6", "N12_s9"))
        trained, weights = fit(variant, source, tmp_path, steps=120, widths=(16, 32, 64, 128), score="mean_probability")
        predictions = [trained.predict(sample.image) for sample in source]
    finally:
        torch.set_num_threads(threads)
    truths = [sample.instances for sample in source]
    ap = mask_ap50(truths, predictions)
    record_property("AP@0.5", round(ap, 3))
    assert ap >= 0.8, f"mask AP@0.5 is {ap:.3f}"
    found = score(truths, predictions, ["ctc"], intervals=False).protocols["ctc"]["SEG"]
    assert found >= 0.8, f"SEG is {found:.3f}"
    published = method(variant, widths=(16, 32, 64, 128))
    published.load(weights)
    for sample, scored in zip(source, predictions, strict=True):
        found = published.predict(sample.image)
        assert found.scores is None
        assert found.rles == scored.rles
