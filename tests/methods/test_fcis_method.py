"""FCIS as a method: what it declares, how it fits itself to a task, how it begins, and that it learns."""

import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from skimage.io import imread

from bench.api import (
    FitContext,
    Instances,
    MethodError,
    MissingDependencyError,
    ObjectStatistics,
    Sample,
    Schedule,
    Task,
    UsageError,
)
from bench.metrics import score
from methods.fcis import FCIS

NARROW = {
    "depth": 18,
    "base_channels": 8,
    "rpn_channels": 16,
    "reduced_channels": 16,
    "image_scale": (128, 128),
    "enlarge": 1.0,
    "images_per_update": 1,
}


def objects(p05=20.0, median=40.0, p95=80.0, aspect=1.5, typical=10.0, densest=20):
    return ObjectStatistics(p05, median, p95, aspect, typical, densest)


def method(task=None, variant="", **settings):
    return FCIS(task or Task(), FCIS.make_params(variant, settings))


class Source(list):
    """Samples as a split gives them."""

    @property
    def ids(self):
        return tuple(sample.id for sample in self)


# -- what it declares -----------------------------------------------------------------------------------


def test_listing_it_imports_nothing_heavy():
    code = "import sys, methods.fcis; print([m for m in ('torch', 'mmengine', 'mmdet', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_both_recipes_have_names():
    assert [FCIS.full_name(v) for v in FCIS.variants] == ["fcis", "fcis-voc"]
    assert FCIS.variant_title("") == "FCIS ResNet-101"
    coco, voc = (method(variant=v).config("random")["roi_head"] for v in ("", "voc"))
    assert (coco["hard_examples"], voc["hard_examples"]) == (True, False)
    assert voc["sampling"] == {"foreground_share": 0.25, "foreground_iou": 0.5, "near_share": 1.0, "near_iou": 0.1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"norm": "layer"},
        {"optimizer": "Adam"},
        {"depth": "77"},
        {"anchor_sides": "16,large"},
        {"mask_size": "20"},
        {"group": "0"},
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        method(**wrong)


def test_the_paper_schedule_is_30000_updates_of_8_images_with_warm_up_and_a_drop_after_two_thirds():
    schedule = FCIS.schedules["paper"]
    steps = schedule.steps(1000)
    training = method().training(steps, schedule.batch_size)
    assert training.accumulate * schedule.batch_size == 8
    assert steps / training.accumulate == 30_000
    # The code adds up the gradients of 8 images at 0.0005; averaged, that is 0.004.
    assert training.optimizer == {"type": "SGD", "lr": pytest.approx(0.004), "weight_decay": 5e-4, "momentum": 0.9}
    warmup, drop = training.schedulers
    assert (warmup["type"], warmup["factor"], warmup["end"] / training.accumulate) == ("ConstantLR", 0.1, 250)
    assert (drop["type"], drop["gamma"], drop["milestones"]) == ("MultiStepLR", 0.1, [160_000])
    voc = method(variant="voc").training(steps, 1)
    assert (voc.accumulate, voc.optimizer["lr"]) == (4, pytest.approx(0.002))
    (drop,) = voc.schedulers
    assert (drop["type"], drop["milestones"]) == ("MultiStepLR", [152_727])
    assert method(optimizer="AdamW").training(100, 1).optimizer["lr"] == 0.0005


def test_a_short_training_warms_up_for_a_tenth_at_most():
    warmup, _ = method(images_per_update=1).training(100, 1).schedulers
    assert warmup["end"] == 10


def test_the_reduction_learns_three_times_as_fast_and_only_kernels_decay():
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from mmengine.optim import build_optim_wrapper

    narrow = method(**NARROW)
    with torch.device("meta"):
        built = _network(narrow, "random")
    training = narrow.training(100, 1)
    config = {"type": "OptimWrapper", "optimizer": training.optimizer, "paramwise_cfg": training.paramwise}
    wrapper = build_optim_wrapper(built, config)
    names = {id(p): name for name, p in built.named_parameters()}
    # mmengine adds a group of its own to remember the base settings.
    groups = {names[id(p)]: g for g in wrapper.param_groups for p in g["params"] if id(p) in names}
    flat = {name for name, p in built.named_parameters() if p.ndim == 1}  # biases, and scales of the normalisation
    assert len(groups) == len(names)
    for name, group in groups.items():
        assert group["lr"] == pytest.approx(0.0015 if name.startswith("roi_head.reduce.") else 0.0005), name
        assert group["weight_decay"] == (0 if name in flat else 0.0005), name


def test_without_fitting_every_number_is_the_published_one():
    dense = Task(objects=objects(5, 8, 12, 4.0, 200, 400), image_shape=(1000, 2000), max_detections=2000)
    plain = method(dense, fit_to_task=False)
    config = plain.config("imagenet")
    backbone, rpn, roi, test = (config[part] for part in ("backbone", "rpn_head", "roi_head", "test_cfg"))
    assert plain.image_scale() == (1000, 600)
    assert (backbone["depth"], backbone["style"], backbone["frozen_stages"]) == (101, "caffe", 1)
    assert (backbone["strides"], backbone["dilations"]) == ((1, 2, 2, 1), (1, 1, 1, 2))
    assert backbone["norm_cfg"] == {"type": "BN", "requires_grad": False}
    assert backbone["norm_eval"] is True
    assert [16 * scale for scale in rpn["anchor_generator"]["scales"]] == [64, 128, 256, 512]
    assert rpn["anchor_generator"]["ratios"] == [0.5, 1, 2]
    assert (rpn["in_channels"], rpn["feat_channels"]) == (1024, 512)
    assert rpn["train_cfg"]["sampler"]["num"] == 256
    assert rpn["loss_bbox"]["beta"] == pytest.approx(1 / 9)
    published = {"nms_pre": 6000, "nms_iou": 0.7, "max_per_img": 300, "min_bbox_size": 2}
    assert config["train_cfg"]["proposals"] == test["proposals"] == published
    assert (roi["in_channels"], roi["channels"], roi["group"], roi["mask_size"]) == (2048, 1024, 7, 21)
    assert (roi["rois"], roi["mask_weight"], roi["mask_threshold"]) == (128, 10, 0.4)
    assert (test["voting"]["nms_iou"], test["voting"]["vote_iou"], test["voting"]["threshold"]) == (0.3, 0.5, 0.4)
    assert test["voting"]["score_threshold"] == 0.001
    assert test["voting"]["max_detections"] == 2000  # never 100: the data set decides


# -- how it fits itself to a task -----------------------------------------------------------------------


def test_dense_small_slender_objects_get_more_and_finer_of_everything():
    dense = Task(objects=objects(16, 24, 60, 4.0, 90, 400), image_shape=(600, 1000), max_detections=900)
    config = method(dense).config("random")
    anchors = config["rpn_head"]["anchor_generator"]
    assert [16 * scale for scale in anchors["scales"]] == pytest.approx([16, 30.98, 60], abs=0.01)
    assert anchors["ratios"] == [0.25, 0.5, 1, 2, 4]
    more = {"nms_iou": 0.7, "max_per_img": 800, "min_bbox_size": 2.0, "nms_pre": 16000}
    assert config["train_cfg"]["proposals"] == config["test_cfg"]["proposals"] == more
    assert config["roi_head"]["rois"] == 180
    assert method(dense, variant="voc").config("random")["roi_head"]["rois"] == 360
    assert method(dense, variant="voc", most_rois=200).config("random")["roi_head"]["rois"] == 200
    assert config["test_cfg"]["voting"]["max_detections"] == 900


def test_few_objects_leave_the_published_numbers():
    config = method(Task(objects=objects(), image_shape=(512, 640))).config("random")
    assert config["test_cfg"]["proposals"]["max_per_img"] == 300
    assert config["roi_head"]["rois"] == 128
    assert config["rpn_head"]["train_cfg"]["sampler"]["num"] == 256


def test_of_an_unknown_data_set_many_sizes_and_as_many_proposals_as_detections():
    config = method(Task(max_detections=700)).config("random")
    assert [16 * s for s in config["rpn_head"]["anchor_generator"]["scales"]] == [16, 32, 64, 128, 256]
    assert config["test_cfg"]["proposals"]["max_per_img"] == 700


def test_anchors_and_enlargement_asked_for_are_taken():
    task = Task(objects=objects(p05=4), image_shape=(600, 1000))
    config = method(task, anchor_sides="24,48").config("random")
    assert [16 * s for s in config["rpn_head"]["anchor_generator"]["scales"]] == [24, 48]
    assert method(task).image_scale() == (2000, 1200)  # small objects, twice enlarged at most
    assert method(task, enlarge="1.5").image_scale() == (1500, 900)
    assert method(task, fit_to_task=False).image_scale() == (1000, 600)


# -- how it begins ----------------------------------------------------------------------------------------


@pytest.fixture
def one_thread():
    """The networks are too small for more. Yields torch."""
    torch = pytest.importorskip("torch", reason="needs the train extra")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def _network(one, init):
    import bench.ops

    bench.ops.import_mmdet()
    return one._build(init)


def discs(seed, count=6, side=96):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.uint8)
    for label in range(1, count + 1):
        y, x = rng.integers(10, side - 10, 2)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < 64] = label
    image = np.where(labels > 0, 160, 40) + rng.integers(0, 30, labels.shape)
    return Sample(f"discs-{seed}", image.astype(np.uint8), Instances.from_label_map(labels))


def fit(one, folder, init="random", steps=1):
    return one.fit(Source([discs(0)]), None, FitContext(folder, Schedule(iterations=steps), "smoke", init=init))


def test_only_the_backbones_that_there_are_weights_of_begin_from_imagenet():
    for wrong in ({"depth": 18}, {"base_channels": 32}, {"depth": 152}):
        with pytest.raises(UsageError, match="no ImageNet weights"):
            method(**wrong).config("imagenet")
    weights = {depth: method(depth=depth).config("imagenet")["backbone"]["init_cfg"] for depth in (50, 101)}
    assert {d: w["checkpoint"] for d, w in weights.items()} == {
        50: "open-mmlab://detectron2/resnet50_caffe",
        101: "open-mmlab://detectron2/resnet101_caffe",
    }
    assert method().config("random")["backbone"]["init_cfg"] is None
    assert method().config("checkpoint")["backbone"]["init_cfg"] is None


def test_where_imagenets_weights_cannot_be_fetched_it_says_what_to_do(one_thread, tmp_path, monkeypatch):
    import bench.ops

    bench.ops.import_mmdet()
    from mmengine.runner import CheckpointLoader

    def unreachable(*_arguments, **_more):
        raise URLError("no route to host")

    monkeypatch.setattr(CheckpointLoader, "load_checkpoint", unreachable)
    with pytest.raises(MissingDependencyError, match="imagenet weights of fcis cannot be fetched") as error:
        fit(method(depth=50, image_scale=(64, 64), enlarge=1.0), tmp_path, "imagenet")
    assert "--init" in error.value.hint


def test_there_are_no_coco_weights(one_thread, tmp_path):
    with pytest.raises(UsageError, match="coco"):
        fit(method(**NARROW), tmp_path, "coco")


def test_a_checkpoint_gives_what_fits_leaves_the_rest_and_says_so(one_thread, tmp_path, capsys):
    torch = one_thread
    weights = fit(method(**NARROW), tmp_path / "first")
    given = torch.load(weights, weights_only=True)
    assert given["meta"]["init"] == "random"
    two = Task(classes=("a", "b"))
    begun = method(two, **NARROW)
    _network(begun, "checkpoint")  # registers the network's parts
    capsys.readouterr()
    state = begun._initialised(str(weights)).state_dict()
    assert f"fcis: 2 of {len(state)} weights do not fit {weights} and begin anew" in capsys.readouterr().err
    for name, value in given["state_dict"].items():
        if "class_maps" in name:  # of another number of classes
            assert state[name].shape != value.shape
        else:
            assert torch.equal(state[name], value), name
    with pytest.raises(MethodError, match="another network"):
        method(two, **NARROW).load(weights)
    with pytest.raises(MethodError, match="no weights"):
        fit(method(**NARROW), tmp_path / "third", str(tmp_path / "nowhere.pth"))


def test_what_descends_from_imagenet_is_built_alike_however_often_it_is_gone_on_from():
    """Other normalisation, or grey levels, than its weights were trained with would lose them in silence."""
    published, gone_on = method().config("imagenet"), method().config("checkpoint")
    published["backbone"]["init_cfg"] = None
    assert gone_on == published != method().config("random")


# -- that it works ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["", "voc"])
def test_it_trains_loads_and_predicts_through_the_harness(one_thread, tmp_path, variant):
    rows = np.mgrid[:96, :96].sum(axis=0)
    one_cell = Sample("one", (rows % 200).astype(np.uint8), Instances.from_label_map((rows == 90).astype(np.uint8)))
    empty = Sample("empty", np.zeros((96, 96), np.uint8), Instances.empty(96, 96))
    slim = Sample("slim", np.full((20, 90, 3), 9, np.uint16), Instances.empty(20, 90))
    source = Source([discs(0), one_cell, empty, slim])
    task = Task(objects=ObjectStatistics.measure(s.instances for s in source), image_shape=(96, 96), max_detections=50)
    told = []
    context = FitContext(tmp_path, Schedule(iterations=4), "smoke", progress=lambda *what: told.append(what))
    weights = method(task, variant, **NARROW).fit(source, None, context)
    assert [done for done, _total, _text in told] == [1, 2, 3, 4]
    first, second = (method(task, variant, **NARROW) for _ in range(2))
    first.load(weights)
    second.load(weights)
    assert first.n_parameters() > 0
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


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_small_fcis_learns_two_real_images(one_thread, shared_data, tmp_path, record_property):
    """A narrow ResNet-18 with group normalisation, from random weights, on two crops with 82 nuclei: AP@0.5 >= 0.8."""
    source = Source(crop(shared_data / "dsb2018", name) for name in ("420f43d2", "aa58ba45"))
    statistics = ObjectStatistics.measure(sample.instances for sample in source)
    small = method(
        Task(classes=("nucleus",), objects=statistics, image_shape=(256, 256)),
        depth=18,
        base_channels=32,
        rpn_channels=128,
        reduced_channels=128,
        image_scale=(512, 512),
        enlarge=1.0,
        candidates=2000,
        images_per_update=1,
        optimizer="AdamW",
        learning_rate=1e-3,
        warmup_updates=20,
    )
    small.load(small.fit(source, None, FitContext(tmp_path, Schedule(iterations=450), "short")))
    found = [small.predict(sample.image) for sample in source]
    scores = score([sample.instances for sample in source], found, ["voc"])
    ap = scores.protocols["voc"]["AP@0.5"]
    record_property("AP@0.5", round(ap, 3))
    assert ap >= 0.8, f"mask AP@0.5 is {ap:.3f}"
