"""Yi 2018 as a method: what it declares, how it fits itself to a task, its two steps, and that it learns."""

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
from methods.yi2018 import Yi2018
from methods.yi2018.config import input_shape, needs


@pytest.fixture(scope="session")
def narrow(narrow_yi2018):
    """That on images of 128 pixels, every mask of which is trained on by itself."""
    return {**narrow_yi2018, "input_side": 128, "mask_batch_size": 1, "mask_share": 1.0}


def objects(p05=30.0, median=50.0, p95=120.0, typical=8.0, densest=15):
    return ObjectStatistics(p05, median, p95, 2.0, typical, densest)


def method(task=None, variant="", **settings):
    return Yi2018(task or Task(), Yi2018.make_params(variant, settings))


class Source(list):
    """Samples as a split gives them."""

    @property
    def ids(self):
        return tuple(sample.id for sample in self)


# -- what it declares -----------------------------------------------------------------------------------


def test_listing_it_imports_nothing_heavy():
    code = "import sys, methods.yi2018; print([m for m in ('torch', 'mmengine', 'mmdet', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_variants_are_the_papers():
    assert [Yi2018.full_name(v) for v in Yi2018.variants] == ["yi2018", "yi2018-end-to-end", "yi2018-vgg16"]
    assert method().params.training == "two-step"
    assert method(variant="end-to-end").params.training == "end-to-end"
    assert method(variant="vgg16").config("random")["backbone"]["type"] == "Yi2018VGG16"
    assert method().config("random")["backbone"]["depth"] == 101


@pytest.mark.parametrize(
    "wrong",
    [
        {"backbone": "vgg19"},
        {"norm": "layer"},
        {"training": "three-step"},
        {"optimizer": "Adam"},
        {"box_scales": "0.1,0.2"},
        {"box_scales": "0.04,0.10,0.26,0.26,0.58,0.74"},
        {"extra_channels": "512"},
        {"input_side": 0},
        {"mask_batch_size": "0"},
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        method(**wrong)


def test_the_paper_schedule_is_500_epochs_of_the_detector_and_100_of_the_mask_head():
    schedule = Yi2018.schedules["paper"]
    steps = schedule.steps(386)
    assert (steps, schedule.batch_size) == (500 * 386 // 2, 2)
    plain = method()
    detector = plain.training(steps, 2)
    assert detector.optimizer == {"type": "SGD", "lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0}
    (drop,) = detector.schedulers
    assert drop["milestones"] == [450 * 386 // 2]
    assert drop["gamma"] == 0.1
    masks = plain.mask_schedule(schedule, 386)
    assert (masks.steps(386), masks.batch_size) == (100 * 386 // 8, 8)
    training = plain._training_only("mask", "imagenet").training(masks.steps(386), 8)
    assert training.optimizer == {"type": "Adam", "lr": 1e-3}
    (decay,) = training.schedulers
    assert decay["gamma"] ** (386 / 8) == pytest.approx(0.98, rel=1e-4)  # an epoch


def test_gradients_are_clipped_from_random_weights_only():
    for init, limit in (("random", {"max_norm": 10.0}), ("imagenet", None), ("weights.pth", None)):
        assert method()._training_only("detector", init).training(100, 2).clip_grad == limit
    assert method(gradient_norm=0.0)._training_only("detector", "random").training(100, 2).clip_grad is None


@pytest.mark.parametrize("variant", ["", "vgg16"])
def test_normalisation_is_published_but_from_random_weights(variant):
    def norms(init, **settings):
        config = method(variant=variant, **settings).config(init)
        return [(config[part]["norm_cfg"] or {"type": None})["type"] for part in ("backbone", "neck")]

    published = [None if variant else "BN", "BN"]
    assert norms("random") == ["GN", "GN"]
    assert norms("imagenet") == norms("checkpoint") == norms("random", norm="batch") == published
    assert norms("imagenet", norm="group") == ["GN", "GN"]


# -- how it fits itself to a task -----------------------------------------------------------------------


def test_few_cells_of_the_published_sizes_leave_the_published_numbers():
    config = method(Task(objects=objects(), image_shape=(512, 640), max_detections=500)).config("random")
    boxes, test = config["bbox_head"]["anchor_generator"], config["bbox_head"]["test_cfg"]
    assert boxes["min_sizes"] == pytest.approx([20.48, 51.2, 133.12, 215.04, 296.96])
    assert boxes["max_sizes"] == pytest.approx([51.2, 133.12, 215.04, 296.96, 378.88])
    assert boxes["finer"] == 0
    assert (test["candidates"], test["score_thr"], test["nms"]["iou_threshold"]) == (200, 0.3, 0.3)
    assert test["max_per_img"] == 500  # never 100: the data set decides
    assert method(Task(objects=objects(), image_shape=(512, 640))).image_scale() == (512, 512)


@pytest.mark.parametrize(
    ("shape", "p05", "side", "finer"),
    [
        # The smallest box of 20.48 px finds what is 14.48 px or more.
        ((512, 512), 14.5, 512, 0),
        ((512, 512), 14.4, 640, 0),  # a little more: the next multiple of 128
        ((512, 512), 8.0, 1024, 0),  # 1.81 times, rounded up to twice
        ((512, 512), 7.0, 1024, 1),  # no image is enlarged more than twice; 14 px need one halving
        ((512, 512), 3.0, 1024, 2),  # 6 px: two halvings are the most
        ((256, 256), 8.0, 512, 0),  # enlarged twice by the published input
        ((1024, 2048), 20.0, 1152, 0),  # 512 would leave 7 px of 20
        ((3000, 3000), 20.0, 1536, 1),  # 10 px at the largest side
        ((128, 128), 3.0, 512, 1),  # four times by the published input: never less than published
    ],
)
def test_small_objects_enlarge_the_input_and_then_refine_the_boxes(shape, p05, side, finer):
    task = Task(objects=objects(p05=p05), image_shape=shape)
    need = needs(task, method().params)
    assert (need.side, need.finer) == (side, finer)
    assert method(task).image_scale() == (side, side)
    off = needs(task, method(fit_to_task=False).params)
    assert (off.side, off.finer, off.candidates) == (512, 0, 200)


@given(st.floats(1, 400), st.integers(16, 4000), st.integers(16, 4000))
def test_whatever_the_objects_the_smallest_box_finds_them_or_all_that_is_allowed_was_done(p05, height, width):
    params = method().params
    need = needs(Task(objects=objects(p05=p05), image_shape=(height, width)), params)
    native = math.sqrt(height * width)
    size, least = p05 * need.side / native, 0.04 * 512 / math.sqrt(2) / 2**need.finer
    assert 512 <= need.side <= 1536
    assert size >= least * (1 - 1e-9) or need.finer == 2
    assert need.side == 512 or need.side % 128 == 0
    assert need.side <= max(512, 2 * native + 128)


def test_dense_images_get_more_candidates():
    dense = Task(objects=objects(densest=300), image_shape=(512, 640), max_detections=700)
    assert method(dense).config("random")["bbox_head"]["test_cfg"]["candidates"] == 3000
    assert needs(Task(max_detections=700), method().params).candidates == 7000  # of an unknown data set


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (512, 640, (512, 512)),  # the paper's
        (1024, 1022, (512, 512)),
        (400, 600, (512, 512)),  # 1.5 is not too much
        (400, 601, (418, 628)),
        (1272, 603, (744, 353)),
        (1, 1, (512, 512)),
        (1, 100_000, (2, 161_909)),
    ],
)
def test_images_become_a_square_unless_that_squeezes_them(height, width, expected):
    params = method().params
    assert input_shape(height, width, 512, params) == expected
    assert input_shape(width, height, 512, params) == expected[::-1]


def test_no_image_is_enlarged_more_than_allowed_but_by_the_published_input():
    params = method().params
    assert input_shape(1024, 1024, 1536, params) == (1536, 1536)
    assert input_shape(360, 360, 1536, params) == (720, 720)
    assert input_shape(100, 100, 1536, params) == (512, 512)
    assert input_shape(360, 1000, 1536, params) == (720, 2000)


# -- what the network sees ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_thread():
    """The networks are too small for more. Yields torch."""
    torch = pytest.importorskip("torch", reason="needs the train extra")
    import bench.ops

    bench.ops.import_mmdet()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def cells(seed, shape=(96, 120), count=5):
    """Bright ellipses about 24 pixels large."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.uint8)
    for label in range(1, count + 1):
        y, x = rng.integers(16, min(shape) - 16, 2)
        labels[((rows - y) / 11) ** 2 + ((columns - x) / 14) ** 2 < 1] = label
    image = np.where(labels > 0, 160, 40) + rng.integers(0, 30, labels.shape)
    return Sample(f"cells-{seed}", image.astype(np.uint8), Instances.from_label_map(labels))


def example(made, sample, seed=0):
    from methods import _runner
    from methods._mmdet import to_mmdet

    made._import_modules()
    _runner.seed_everything(seed)
    return made._compose([*made.augmentations(), {"type": "PackDetInputs"}])(to_mmdet(sample))


@pytest.mark.parametrize("shape", [(96, 120), (60, 200)])
def test_augmented_images_masks_and_boxes_stay_together(one_thread, shape, narrow):
    made = method(**narrow, brightness=0.0, contrast=(1.0, 1.0))
    sample = cells(3, shape)
    seen = set()
    for seed in range(12):
        packed = example(made, sample, seed)
        image, objects_ = packed["inputs"], packed["data_samples"].gt_instances
        assert tuple(image.shape[1:]) == input_shape(*shape, 128, made.params)
        masks = objects_.masks.masks.astype(bool)
        assert len(masks) > 0
        bright = image[0].numpy() > 100
        expanded = image.float().std() > 0
        assert expanded
        # The ellipses are where the masks are, but for interpolated edges and ImageNet's mean around the canvas.
        inside = masks.any(axis=0)
        assert bright[inside].mean() > 0.9
        for mask, box in zip(masks, objects_.bboxes.numpy(), strict=True):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            tight = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert np.abs(box - tight).max() <= 2.5
        seen.add(image.numpy().tobytes())
    assert len(seen) == 12


def test_light_changes_grey_levels_within_its_bounds(one_thread):
    import random

    from methods.yi2018.transforms import Yi2018Light

    light = Yi2018Light(32.0, (0.5, 1.5))
    image = np.full((4, 4, 3), 100, np.uint8)
    image[..., 1] = 200
    random.seed(0)
    results = [light.transform({"img": image})["img"] for _ in range(400)]
    levels = np.array([r[0, 0] for r in results])
    assert all(r.dtype == np.uint8 and (r == r[0, 0]).all() for r in results)
    assert (levels[:, 1] >= levels[:, 0]).all()  # channels keep their order
    assert levels[:, 0].min() >= 34
    assert levels[:, 0].max() <= 198
    unchanged = (levels == (100, 200, 100)).all(axis=1).mean()
    assert 0.17 < unchanged < 0.33  # neither of two halves
    assert (image[..., 0] == 100).all()


# -- the two steps --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def fit(narrow, every_box):
    """Trains a narrow network for a few steps: ``fit(source, folder)`` gives its weights."""

    def fitted(source, folder, steps=2, progress=lambda done, total, text: None, variant="", **settings):
        made = method(variant=variant, **{**narrow, **every_box, **settings})
        context = FitContext(folder, Schedule(iterations=steps, batch_size=1), "smoke", seed=3, progress=progress)
        return made.fit(source, None, context)

    return fitted


def weights_of(torch, path):
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_the_second_step_leaves_every_bit_of_the_detector_as_it_was(one_thread, tmp_path, norm, fit):
    source = Source([cells(0), cells(1)])
    told = []
    last = fit(source, tmp_path, norm=norm, progress=lambda *what: told.append(what))
    assert [text.split(":")[0] for _done, _total, text in told] == ["1/2 detector"] * 2 + ["2/2 mask"] * 2
    first = weights_of(one_thread, tmp_path / "detector" / "weights.pth")
    second = weights_of(one_thread, last)
    assert last.parent.name == "mask"
    assert first.keys() == second.keys()
    changed = {name for name in first if not one_thread.equal(first[name], second[name])}
    assert changed
    assert all(name.startswith("mask_head.") for name in changed)
    assert {"mask_head.last.2.weight", "mask_head.patch.0.weight"} <= changed


def test_the_first_step_leaves_the_mask_head_as_it_began_and_moves_the_detector(one_thread, tmp_path, fit):
    source = Source([cells(0), cells(1)])
    fit(source, tmp_path / "one", steps=1, learning_rate=0.1)
    fit(source, tmp_path / "two", steps=4, learning_rate=0.1)
    one, two = (weights_of(one_thread, tmp_path / name / "detector" / "weights.pth") for name in ("one", "two"))
    still = {name for name in one if one_thread.equal(one[name], two[name])}
    assert {name for name in one if name.startswith("mask_head.")} <= still
    assert not any(
        name.startswith(("backbone.", "neck.fuse", "neck.reduce", "bbox_head.cls_convs.0")) for name in still
    )


def test_end_to_end_there_is_one_training_that_moves_everything(one_thread, tmp_path, fit):
    source = Source([cells(0), cells(1)])
    short = fit(source, tmp_path / "one", steps=1, variant="end-to-end")
    long = fit(source, tmp_path / "two", steps=3, variant="end-to-end")
    assert long == tmp_path / "two" / "weights.pth"
    one, two = weights_of(one_thread, short), weights_of(one_thread, long)
    moved = {name for name in one if not one_thread.equal(one[name], two[name])}
    assert {"mask_head.last.2.weight", "backbone.conv1.weight", "bbox_head.cls_convs.0.0.weight"} <= moved


def test_either_step_can_stop_early(one_thread, tmp_path, narrow, every_box):
    source = Source([cells(0), cells(1)])
    # No learning rate, no lower loss: the second pass brings no better one, and the third is the last.
    made = method(**{**narrow, **every_box, "patience": 2, "learning_rate": 0.0, "mask_learning_rate": 0.0})
    steps = []
    context = FitContext(
        tmp_path, Schedule(iterations=40, batch_size=1), "smoke", progress=lambda *what: steps.append(what)
    )
    made.load(made.fit(source, Source([cells(9)]), context))
    each = {text[:3]: done for done, _total, text in steps}
    assert each == {"1/2": 6, "2/2": 6}


class KilledError(BaseException):
    """Ends a training as abruptly as an exception can."""


@pytest.mark.parametrize("where", ["1/2 detector", "2/2 mask"])
def test_a_training_that_was_cut_in_either_step_ends_in_the_same_weights(one_thread, tmp_path, monkeypatch, where, fit):
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")
    source = Source([cells(0), cells(1), cells(2)])
    whole = weights_of(one_thread, fit(source, tmp_path / "whole", steps=4))

    def cut(done, total, text):
        if done == 3 and text.startswith(where):
            raise KilledError

    with pytest.raises(KilledError):
        fit(source, tmp_path / "cut", steps=4, progress=cut)
    told = []
    resumed = fit(source, tmp_path / "cut", steps=4, progress=lambda done, total, text: told.append((text[:3], done)))
    # It goes on in the step where it was, within one optimiser step of where that was.
    assert told[0][0] == where[:3]
    assert told[0][1] in (2, 3)
    assert told[-1] == ("2/2", 4)
    state = weights_of(one_thread, resumed)
    for name, value in whole.items():
        assert one_thread.equal(value, state[name]), name


# -- prediction -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(one_thread, tmp_path_factory, narrow, every_box, fit):
    source = Source([cells(0), Sample("empty", np.zeros((96, 96), np.uint8), Instances.empty(96, 96))])
    weights = fit(source, tmp_path_factory.mktemp("trained"), steps=2, nms_iou=0.3)
    made = method(Task(max_detections=40), **{**narrow, **every_box, "nms_iou": 0.3, "mask_threshold": 0.0})
    made.load(weights)
    return made


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((50, 70), np.uint8),
        np.zeros((41, 163, 3), np.uint8),
        np.zeros((130, 20, 4), np.uint8),
        np.arange(40 * 30, dtype=np.uint16).reshape(40, 30),
    ],
)
def test_predictions_have_the_size_of_the_image(trained, image):
    before = image.copy()
    found = trained.predict(image).checked()
    assert found.shape == image.shape[:2]
    assert 0 < len(found) <= 40
    assert found.scores is not None
    assert (found.areas > 0).all()
    np.testing.assert_array_equal(image, before)
    assert found == trained.predict(image)


def test_training_survives_images_of_one_cell_and_of_none(one_thread, tmp_path, narrow, every_box, fit):
    alone = np.zeros((40, 40), np.uint8)
    alone[0, 0] = 1  # one pixel: too small to be trained on
    large = np.ones((40, 40), np.uint8)
    source = Source(
        [
            Sample("dot", alone * 200, Instances.from_label_map(alone)),
            Sample("all", large * 200, Instances.from_label_map(large)),
            Sample("none", alone, Instances.empty(40, 40)),
            Sample("pixel", np.zeros((1, 1), np.uint8), Instances.empty(1, 1)),
        ]
    )
    made = method(Task(max_detections=30), **{**narrow, **every_box})
    made.load(fit(source, tmp_path, steps=4, mask_objects=8))
    for sample in source:
        assert made.predict(sample.image).shape == sample.shape
    assert made.n_parameters() == sum(p.numel() for p in made._network.parameters())


def test_images_predicted_together_are_predicted_as_alone(trained):
    images = [cells(5).image, cells(6).image]
    for together, image in zip(trained.predict_batch(images), images, strict=True):
        alone = trained.predict(image)
        assert together.scores == pytest.approx(alone.scores, rel=1e-4)
        assert together.areas == pytest.approx(alone.areas, rel=0.01)


def test_images_of_different_shapes_are_predicted_together(trained):
    images = [cells(5).image, cells(6, (60, 200)).image]  # a square, and one that keeps its aspect ratio
    for found, image in zip(trained.predict_batch(images), images, strict=True):
        assert found.checked().shape == image.shape
        assert len(found) > 0


@pytest.mark.parametrize("shape", [(1, 1), (300, 1), (2, 900), (1, 1, 3)])
def test_images_of_a_pixels_width_are_predicted(trained, shape):
    found = trained.predict(np.full(shape, 7, np.uint8)).checked()
    assert found.shape == shape[:2]
    assert (found.areas > 0).all()  # a mask that contains no pixel's centre is none


def test_a_detector_that_finds_nothing_predicts_nothing(trained, monkeypatch):
    monkeypatch.setitem(trained._network.bbox_head.test_cfg, "score_thr", 1.0)
    found = trained.predict(np.zeros((50, 70), np.uint8))
    assert len(found) == 0
    assert found.scores is not None


# -- that it learns -------------------------------------------------------------------------------------


def crop(folder: Path, name: str) -> Sample:
    """The upper left 256 x 256 pixels of an image of DSB 2018, without nuclei of which only a few pixels are in it."""
    (image_folder,) = folder.glob(f"{name}*")
    (image,) = (image_folder / "images").iterdir()
    masks = np.stack([imread(path)[:256, :256] > 0 for path in sorted((image_folder / "masks").iterdir())])
    pixels = np.ascontiguousarray(imread(image)[:256, :256, :3])
    return Sample(name, pixels, Instances.from_masks(masks[masks.sum(axis=(1, 2)) >= 12]))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("variant", ["", "end-to-end"])
def test_a_small_yi2018_learns_two_real_images(one_thread, shared_data, tmp_path, variant, record_property):
    """A narrow ResNet-18 with group normalisation, from random weights, on two crops with 82 nuclei."""
    source = Source(crop(shared_data / "dsb2018", name) for name in ("420f43d2", "aa58ba45"))
    statistics = ObjectStatistics.measure(sample.instances for sample in source)
    small = method(
        Task(classes=("nucleus",), objects=statistics, image_shape=(256, 256)),
        variant,
        resnet_depth=18,
        resnet_width=32,
        reduced_channels=64,
        fused_channels=128,
        extra_channels=(128, 64, 64),
        patch_channels=16,
        brightness=0.0,
        contrast=(1.0, 1.0),
        most_expanded=1.0,
        least_crop=1.0,
        optimizer="AdamW",
        learning_rate=1e-3,
        mask_batch_size=2,
        mask_share=0.3,
    )
    small.load(small.fit(source, None, FitContext(tmp_path, Schedule(iterations=220, batch_size=2), "short")))
    found = [small.predict(sample.image) for sample in source]
    scores = score([sample.instances for sample in source], found, ["voc"], intervals=False)
    ap = scores.protocols["voc"]["AP@0.5"]
    record_property("AP@0.5", round(ap, 3))
    assert ap >= 0.8, f"mask AP@0.5 is {ap:.3f}"
