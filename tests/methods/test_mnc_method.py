"""MNC as a method: what it declares, how it fits itself to a task, and that it learns."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.io import imread

from bench.api import FitContext, Instances, ObjectStatistics, Sample, Schedule, Task, UsageError
from bench.metrics import score
from methods._proposals import SMALLEST_SIDE, enlargement, octaves
from methods.mnc import MNC

NARROW = {"vgg_channels": (4, 8, 8, 16, 16), "rpn_channels": 16, "mask_hidden": 16, "fc_channels": 32}


def objects(p05=20.0, median=40.0, p95=80.0, aspect=1.5, typical=10.0, densest=20):
    return ObjectStatistics(p05, median, p95, aspect, typical, densest)


def method(task=None, variant="", **settings):
    return MNC(task or Task(), MNC.make_params(variant, settings))


class Source(list):
    """Samples as a split gives them."""

    @property
    def ids(self):
        return tuple(sample.id for sample in self)


# -- what it declares -----------------------------------------------------------------------------------


def test_listing_it_imports_nothing_heavy():
    code = "import sys, methods.mnc; print([m for m in ('torch', 'mmengine', 'mmdet', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_both_backbones_have_names():
    assert [MNC.full_name(v) for v in MNC.variants] == ["mnc", "mnc-resnet101"]
    assert [MNC.variant_title(v) for v in MNC.variants] == ["MNC VGG-16", "MNC ResNet-101"]
    assert method(variant="resnet101").config("random")["backbone"]["depth"] == 101


@pytest.mark.parametrize(
    "wrong", [{"backbone": "vgg19"}, {"norm": "layer"}, {"optimizer": "Adam"}, {"anchor_sides": "16,large"}]
)
def test_settings_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        method(**wrong)


def test_the_paper_schedule_is_25000_updates_of_8_images_with_a_drop_after_20000():
    schedule = MNC.schedules["paper"]
    training = method().training(schedule.steps(1000), schedule.batch_size)
    assert (training.optimizer["type"], training.optimizer["lr"], training.optimizer["momentum"]) == ("SGD", 1e-3, 0.9)
    assert training.optimizer["weight_decay"] == 5e-4
    assert training.accumulate * schedule.batch_size == 8
    assert schedule.steps(1000) / training.accumulate == 25_000
    (drop,) = training.schedulers
    assert drop["milestones"][0] / training.accumulate == 20_000
    assert drop["gamma"] == 0.1


def test_without_fitting_every_number_is_the_published_one():
    dense = Task(objects=objects(5, 8, 12, 4.0, 200, 400), image_shape=(1000, 2000), max_detections=2000)
    plain = method(dense, fit_to_task=False)
    config = plain.config("imagenet")
    rpn, roi, test = config["rpn_head"], config["roi_head"], config["test_cfg"]
    assert plain.image_scale() == (1000, 600)
    assert [16 * scale for scale in rpn["anchor_generator"]["scales"]] == [128, 256, 512]
    assert rpn["anchor_generator"]["ratios"] == [0.5, 1, 2]
    assert rpn["train_cfg"]["sampler"]["num"] == 256
    assert rpn["loss_bbox"]["beta"] == pytest.approx(1 / 9)
    assert (config["train_cfg"]["proposals"]["nms_pre"], config["train_cfg"]["proposals"]["max_per_img"]) == (
        12000,
        300,
    )
    assert (test["proposals"]["nms_pre"], test["proposals"]["max_per_img"]) == (6000, 300)
    assert roi["sampling"]["count"] == 64
    assert (roi["mask_size"], roi["mask_hidden"], roi["mask_weight"], roi["trunk"]["channels"]) == (21, 256, 2, 4096)
    assert (test["voting"]["nms_iou"], test["voting"]["vote_iou"], test["voting"]["threshold"]) == (0.3, 0.5, 0.4)
    assert test["voting"]["max_detections"] == 2000  # never 100: the data set decides


# -- how it fits itself to a task -----------------------------------------------------------------------


def test_dense_small_slender_objects_get_more_and_finer_of_everything():
    dense = Task(objects=objects(16, 24, 60, 4.0, 90, 400), image_shape=(600, 1000), max_detections=900)
    config = method(dense).config("random")
    anchors = config["rpn_head"]["anchor_generator"]
    assert [16 * scale for scale in anchors["scales"]] == pytest.approx([16, 30.98, 60], abs=0.01)
    assert anchors["ratios"] == [0.25, 0.5, 1, 2, 4]
    assert config["train_cfg"]["proposals"]["max_per_img"] == 800
    assert config["test_cfg"]["proposals"] == {
        "nms_iou": 0.7,
        "max_per_img": 800,
        "min_bbox_size": 2.0,
        "nms_pre": 16000,
    }
    assert config["roi_head"]["sampling"]["count"] == 256
    assert config["test_cfg"]["voting"]["max_detections"] == 900


def test_few_objects_leave_the_published_numbers():
    config = method(Task(objects=objects(), image_shape=(512, 640))).config("random")
    assert config["test_cfg"]["proposals"]["max_per_img"] == 300
    assert config["roi_head"]["sampling"]["count"] == 64
    assert config["rpn_head"]["train_cfg"]["sampler"]["num"] == 256


def test_of_an_unknown_data_set_many_sizes_and_as_many_proposals_as_detections():
    config = method(Task(max_detections=700)).config("random")
    assert [16 * s for s in config["rpn_head"]["anchor_generator"]["scales"]] == [16, 32, 64, 128, 256]
    assert config["test_cfg"]["proposals"]["max_per_img"] == 700


def test_anchors_asked_for_are_taken():
    config = method(Task(objects=objects()), anchor_sides="24,48").config("random")
    assert [16 * s for s in config["rpn_head"]["anchor_generator"]["scales"]] == [24, 48]


@given(st.floats(0.5, 2000), st.floats(0.5, 2000))
def test_octaves_cover_the_sizes_without_a_gap(one, other):
    low, high = sorted((one, other))
    sides = octaves(low, high)
    assert sides[0] == pytest.approx(max(low, SMALLEST_SIDE), rel=0.05)
    assert sides[-1] == pytest.approx(max(high, SMALLEST_SIDE), rel=0.05)
    assert all(1.04 < b / a <= 2.01 for a, b in itertools.pairwise(sides))
    assert len(sides) <= 2 + math.log2(max(high / low, 1))


@pytest.mark.parametrize(
    ("shape", "p05", "factor"),
    [
        ((600, 1000), 16, 1.0),  # as large as a feature cell already
        ((600, 1000), 10, 1.6),
        ((600, 1000), 4, 2.0),  # no image is enlarged more than twice
        ((300, 500), 4, 1.0),  # enlarged twice by the published scale
        ((150, 250), 4, 1.0),  # four times by the published scale: never less than published
        ((2000, 2000), 20, 0.8 / 0.3),  # shrunk to 600 by the published scale, which cells would not survive
    ],
)
def test_small_objects_are_enlarged_to_a_feature_cell(shape, p05, factor):
    task = Task(objects=objects(p05=p05), image_shape=shape)
    assert enlargement(task, (1000, 600), 16, 2.0) == pytest.approx(factor)
    assert method(task).image_scale() == (round(1000 * factor), round(600 * factor))
    assert method(task, enlarge="1.5").image_scale() == (1500, 900)


def test_nothing_is_enlarged_for_objects_of_unknown_size():
    assert enlargement(Task(image_shape=(100, 100)), (1000, 600), 16, 2.0) == 1
    assert enlargement(Task(objects=objects(p05=1)), (1000, 600), 16, 2.0) == 1


# -- that it works --------------------------------------------------------------------------------------


@pytest.fixture
def one_thread():
    """The networks are too small for more. Yields torch."""
    torch = pytest.importorskip("torch", reason="needs the train extra")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def discs(seed, count=6, side=96):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.uint8)
    for label in range(1, count + 1):
        y, x = rng.integers(10, side - 10, 2)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < 64] = label
    image = np.where(labels > 0, 160, 40) + rng.integers(0, 30, labels.shape)
    return Sample(f"discs-{seed}", image.astype(np.uint8), Instances.from_label_map(labels))


def test_it_trains_loads_and_predicts_through_the_harness(one_thread, tmp_path):
    source = Source([discs(0), discs(1), Sample("empty", np.zeros((96, 96), np.uint8), Instances.empty(96, 96))])
    task = Task(objects=ObjectStatistics.measure(s.instances for s in source), image_shape=(96, 96), max_detections=50)
    settings = {**NARROW, "image_scale": (128, 128), "enlarge": 1.0, "images_per_update": 3}
    told = []
    context = FitContext(tmp_path, Schedule(iterations=3), "smoke", progress=lambda *what: told.append(what))
    weights = method(task, **settings).fit(source, None, context)
    assert [done for done, _total, _text in told] == [1, 2, 3]
    first, second = method(task, **settings), method(task, **settings)
    first.load(weights)
    second.load(weights)
    for sample in source:
        found = first.predict(sample.image).checked()
        assert found.shape == sample.shape
        assert found.scores is not None
        assert len(found) <= 50
        assert found == second.predict(sample.image)


def crop(folder: Path, name: str) -> Sample:
    """The upper left 256 x 256 pixels of an image of DSB 2018, without nuclei of which only a few pixels are in it."""
    (image_folder,) = folder.glob(f"{name}*")
    (image,) = (image_folder / "images").iterdir()
    masks = np.stack([imread(path)[:256, :256] > 0 for path in sorted((image_folder / "masks").iterdir())])
    pixels = np.ascontiguousarray(imread(image)[:256, :256, :3])
    return Sample(name, pixels, Instances.from_masks(masks[masks.sum(axis=(1, 2)) >= 12]))


@pytest.mark.parametrize("variant", ["", "resnet101"])
def test_what_descends_from_imagenet_is_built_alike_however_often_it_is_gone_on_from(variant):
    """Other normalisation than its weights were trained with would lose them in silence."""
    published, gone_on = (method(variant=variant).config(init) for init in ("imagenet", "checkpoint"))
    published["vgg16_weights"] = None
    for part in (published["backbone"], published["roi_head"]["trunk"]):
        if variant:
            assert part.pop("init_cfg") is not None
    for part in (gone_on["backbone"], gone_on["roi_head"]["trunk"]):
        part.pop("init_cfg", None)
    assert gone_on == published != method(variant=variant).config("random")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_small_mnc_learns_two_real_images(one_thread, shared_data, tmp_path, record_property):
    """A narrow VGG with group normalisation, from random weights, on two crops with 82 nuclei: mask AP@0.5 >= 0.8."""
    source = Source(crop(shared_data / "dsb2018", name) for name in ("420f43d2", "aa58ba45"))
    statistics = ObjectStatistics.measure(sample.instances for sample in source)
    small = method(
        Task(classes=("nucleus",), objects=statistics, image_shape=(256, 256)),
        vgg_channels=(16, 32, 64, 128, 128),
        rpn_channels=128,
        mask_hidden=128,
        fc_channels=256,
        image_scale=(512, 512),
        enlarge=1.0,
        rois=96,
        most_rois=96,
        train_candidates=2000,
        images_per_update=1,
        optimizer="AdamW",
        learning_rate=7e-4,
    )
    small.load(small.fit(source, None, FitContext(tmp_path, Schedule(iterations=260), "short")))
    found = [small.predict(sample.image) for sample in source]
    scores = score([sample.instances for sample in source], found, ["voc"])
    ap = scores.protocols["voc"]["AP@0.5"]
    record_property("AP@0.5", round(ap, 3))
    assert ap >= 0.8, f"mask AP@0.5 is {ap:.3f}"
