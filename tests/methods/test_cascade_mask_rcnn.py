"""Cascade Mask R-CNN: the stock one, and Guo 2022 with its schedule, its phases and its size."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread

import bench.ops
from bench.api import FitContext, Instances, ObjectStatistics, Sample, Schedule, Task, UsageError
from bench.metrics import score
from bench.registry import find_method
from methods.cascade_mask_rcnn import CascadeMaskRCNN, GuoCascade, OneClass

SMALL = {
    "image_scale": (64, 64),
    "depth": 50,
    "groups": 4,
    "base_width": 8,
    "base_channels": 32,
    "pyramid_channels": 32,
    "head_channels": 32,
    "samples": 32,
}
OBJECTS = ObjectStatistics(8, 10, 14, 1.2, 5, 300)


class Samples(list):
    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sample.id for sample in self)


def squares(seed: int, classes: int, labelled: bool = True) -> Sample:
    rng = np.random.default_rng(seed)
    labels = np.zeros((64, 64), np.uint8)
    for label, (row, column) in enumerate(rng.integers(4, 48, (5, 2)), start=1):
        labels[row : row + 10, column : column + 12] = label
    image = np.where(labels > 0, 180, 40).astype(np.uint8)
    truth = Instances.from_label_map(labels, class_of={label: label % classes for label in range(1, 6)})
    return Sample(f"image{seed}", image, truth if labelled else None)


def guo(task: Task | None = None, **settings) -> GuoCascade:
    task = task or Task(classes=("shsy5y", "astro", "cort"), objects=OBJECTS, image_shape=(64, 64), max_detections=400)
    return GuoCascade(task, GuoCascade.make_params("x152", settings))


@pytest.fixture
def one_thread():
    torch = pytest.importorskip("torch", reason="needs the train extra")
    bench.ops.import_mmdet()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


# -- what it declares -------------------------------------------------------------------------------


def test_listing_it_imports_nothing_heavy():
    code = (
        "import sys, methods.cascade_mask_rcnn; print([m for m in ('torch', 'mmengine', 'mmdet') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_both_have_names_and_papers_of_their_own():
    plain, x152 = find_method("cascade_mask_rcnn"), find_method("cascade_mask_rcnn-x152")
    assert (plain.method, x152.method) == (CascadeMaskRCNN, GuoCascade)
    assert plain.method.paper.year == 2019
    assert (x152.method.paper.authors, x152.method.paper.year) == ("Guo", 2022)
    assert x152.title == "Cascade Mask R-CNN X152-FPN (Guo 2022)"


def test_all_phases_on_sartorius_and_one_elsewhere():
    params = GuoCascade.make_params("x152")
    assert GuoCascade.phases_on(params, "sartorius") == ("pretrain", "finetune", "retrain")
    assert GuoCascade.trains_on(params, "sartorius") == (("livecell", "train"), ("sartorius", "unlabelled"))
    assert GuoCascade.phases_on(params, "usiigaci") == ("finetune",)
    assert GuoCascade.trains_on(params, "usiigaci") == ()
    some = GuoCascade.make_params("x152", {"phases": "pretrain,finetune", "pretrain_dataset": "dsb2018"})
    assert GuoCascade.trains_on(some, "usiigaci") == (("dsb2018", "train"),)
    assert GuoCascade.trains_on(some, "sartorius") == (("dsb2018", "train"),)


@pytest.mark.parametrize("phases", ["finetune,pretrain", "train", "pretrain"])
def test_phases_that_cannot_be_are_refused(phases):
    with pytest.raises(UsageError, match="phases="):
        GuoCascade.make_params("x152", {"phases": phases})


# -- the schedule -----------------------------------------------------------------------------------


def test_the_learning_rate_goes_down_and_up_again_as_formula_4_says(one_thread):
    torch = one_thread
    from mmengine.registry import OPTIMIZERS, PARAM_SCHEDULERS

    schedule = GuoCascade.schedules["paper"]
    assert schedule.steps(485) == 5000
    training = guo().training(5000, schedule.batch_size)
    assert training.accumulate == 1  # T_max counts iterations
    optimizer = OPTIMIZERS.build(
        {**training.optimizer, "params": [torch.nn.Parameter(torch.zeros(1))]},
    )
    assert isinstance(optimizer, torch.optim.SGD)
    (config,) = training.schedulers
    scheduler = PARAM_SCHEDULERS.build({**config, "optimizer": optimizer})
    rates = []
    for _ in range(5000):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    expected = [1e-5 + 0.5 * (0.005 - 1e-5) * (1 + math.cos(step / 200 * math.pi)) for step in range(5000)]
    assert [rates[step] for step in (0, 200, 400, 600)] == pytest.approx([0.005, 1e-5, 0.005, 1e-5], rel=1e-3)
    assert rates == pytest.approx(expected, rel=1e-3, abs=1e-9)
    assert rates[-1] == pytest.approx(1e-5, rel=0.05)


# -- the network ------------------------------------------------------------------------------------


def resnext_parameters(blocks: tuple[int, ...], groups: int, width: int) -> int:
    """Of the convolutions and batch norms, by the table of Xie et al. 2017, without the classifier."""
    total = 3 * 64 * 49 + 2 * 64
    before = 64
    for stage, count in enumerate(blocks):
        inner, after = groups * width * 2**stage, 256 * 2**stage
        for block in range(count):
            total += before * inner + inner * inner // groups * 9 + inner * after + 2 * (2 * inner + after)
            if block == 0:
                total += before * after + 2 * after
            before = after
    return total


def resnext_multiplications(blocks: tuple[int, ...], groups: int, width: int, side: int) -> int:
    """Of the convolutions on an image of ``side`` pixels, a multiple of 32."""
    total = 3 * 64 * 49 * (side // 2) ** 2
    before, place = 64, side // 4
    for stage, count in enumerate(blocks):
        inner, after = groups * width * 2**stage, 256 * 2**stage
        for block in range(count):
            enters = place
            if block == 0 and stage > 0:
                place //= 2
            total += before * inner * enters**2 + (inner * inner // groups * 9 + inner * after) * place**2
            if block == 0:
                total += before * after * place**2
            before = after
    return total


def test_the_reference_counts_are_the_published_ones_of_resnext_101():
    """torchvision's table of models: ResNeXt-101 32x8d has 88,791,336 weights and 16.41 GFLOPs at 224 pixels."""
    assert resnext_parameters((3, 4, 23, 3), 32, 8) + 2048 * 1000 + 1000 == 88_791_336
    assert resnext_multiplications((3, 4, 23, 3), 32, 8, 224) / 1e9 == pytest.approx(16.41, rel=0.01)


def test_x152_has_the_size_of_its_reference(one_thread):
    network = guo(Task(classes=("shsy5y", "astro", "cort")))._initialised("random")
    backbone = resnext_parameters((3, 8, 36, 3), 32, 8)
    pyramid = sum(256 * 2**i * 256 + 256 for i in range(4)) + 4 * (256 * 256 * 9 + 256)
    proposals = 256 * 256 * 9 + 256 + 256 * 3 + 3 + 256 * 12 + 12
    boxes = 3 * (256 * 49 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 4 + 4 + 1024 * 4 + 4)
    masks = 3 * (4 * (256 * 256 * 9 + 256) + 256 * 256 * 4 + 256 + 256 * 3 + 3)
    assert sum(p.numel() for p in network.backbone.parameters()) == backbone
    total = sum(p.numel() for p in network.parameters())
    # What group normalisation adds to pyramid and mask heads is less than a thousandth.
    assert total == pytest.approx(backbone + pyramid + proposals + boxes + masks, rel=1e-3)
    assert len(network.roi_head.mask_head) == 3


def test_x152_does_the_work_of_its_reference(one_thread):
    from mmengine.analysis import get_model_complexity_info

    backbone = guo()._build("random").backbone
    backbone.eval()
    counted = get_model_complexity_info(backbone, input_shape=(3, 64, 64), show_table=False, show_arch=False)["flops"]
    convolutions = resnext_multiplications((3, 8, 36, 3), 32, 8, 64)
    # mmengine counts normalisation too.
    assert counted == pytest.approx(convolutions, rel=0.02)


def test_anchors_samples_and_detections_follow_the_objects():
    config = guo(image_scale=(64, 64)).config("random")
    assert [4 * s for s in config["rpn_head"]["anchor_generator"]["scales"]] == [8]
    assert [stage["sampler"]["num"] for stage in config["train_cfg"]["rcnn"]] == [1200] * 3  # 4 x 300 objects
    assert config["train_cfg"]["rpn"]["sampler"]["num"] == 600
    assert config["test_cfg"]["rcnn"]["max_per_img"] == 400
    assert config["test_cfg"]["rpn"]["max_per_img"] == 1000
    assert [stage["assigner"]["pos_iou_thr"] for stage in config["train_cfg"]["rcnn"]] == [0.5, 0.6, 0.7]
    assert config["roi_head"]["stage_loss_weights"] == [1, 0.5, 0.25]
    assert {head["num_classes"] for head in config["roi_head"]["bbox_head"]} == {3}


def test_only_random_weights_get_group_normalisation():
    random, stored = guo().config("random"), guo().config("checkpoint")
    assert random["backbone"]["norm_cfg"]["type"] == "GN"
    assert random["backbone"]["frozen_stages"] == -1
    assert not random["backbone"]["norm_eval"]
    assert stored["backbone"]["norm_cfg"]["type"] == "BN"
    plain = CascadeMaskRCNN(Task())
    assert plain.config("imagenet")["backbone"]["init_cfg"]["checkpoint"] == "torchvision://resnet50"
    assert plain.config("coco")["backbone"]["init_cfg"] is None


def test_the_stock_one_trains_loads_and_predicts_with_one_class_or_three(one_thread, tmp_path):
    for classes in (1, 3):
        task = Task(classes=tuple("abc"[:classes]), objects=OBJECTS, image_shape=(64, 64), max_detections=400)
        settings = {"image_scale": (64, 64), "depth": 18, "pyramid_channels": 32, "head_channels": 32, "samples": 32}
        method = CascadeMaskRCNN(task, CascadeMaskRCNN.make_params(overrides={**settings, "score_threshold": 0.0}))
        context = FitContext(tmp_path / str(classes), Schedule(iterations=1), "smoke")
        method.load(method.fit(Samples([squares(0, classes)]), None, context))
        found = method.predict(np.zeros((50, 70), np.uint8)).checked()
        assert found.shape == (50, 70)
        assert 100 < len(found) <= 400  # mmdet's 100 is not inherited
        assert set(found.class_ids.tolist()) <= set(range(classes))


# -- from one class to three ------------------------------------------------------------------------


def test_all_weights_but_those_of_the_classes_go_from_one_class_to_three(one_thread, tmp_path):
    torch = one_thread
    source = Samples([squares(0, 1)])
    one = guo(Task(classes=("cell",), objects=OBJECTS, image_shape=(64, 64)), **SMALL)
    context = FitContext(tmp_path, Schedule(iterations=1), "smoke", seed=5)
    weights = super(GuoCascade, one).fit(source, None, context)
    before = torch.load(weights, weights_only=True)["state_dict"]
    after = guo(**SMALL)._initialised(str(weights)).state_dict()
    assert set(after) == set(before)  # group normalisation in both: also a network that began from random weights
    changed = {name for name, value in after.items() if value.shape != before[name].shape}
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in changed} == {"fc_cls", "conv_logits"}
    assert all(torch.equal(value, before[name]) for name, value in after.items() if name not in changed)


def test_every_class_becomes_one(one_thread):
    source = OneClass(Samples([squares(0, 3), squares(1, 3, labelled=False)]))
    assert source.ids == ("image0", "image1")
    assert source[0].instances.class_ids.tolist() == [0] * 5
    assert source[1].instances is None
    np.testing.assert_array_equal(source[0].instances.to_masks(), squares(0, 3).instances.to_masks())
    assert len(list(source)) == 2


# -- three phases -----------------------------------------------------------------------------------


class Data:
    """``FitContext.data``: what was opened, and from where."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str]] = []

    def __call__(self, dataset: str, split: str) -> Samples:
        self.opened.append((dataset, split))
        if dataset == "livecell":
            return Samples([squares(10, 2), squares(11, 2)])
        return Samples([squares(20, 3, labelled=False), squares(21, 3, labelled=False)])


def fit_phases(folder: Path, data: Data, dataset: str = "sartorius", progress=lambda *_: None, **settings) -> Path:
    method = guo(**{**SMALL, "label_score": 0.0, "score_threshold": 0.0, "label_area": 1, **settings})
    context = FitContext(
        folder, Schedule(iterations=2, batch_size=1), "smoke", 1, dataset=dataset, data=data, progress=progress
    )
    return method.fit(Samples([squares(0, 3), squares(1, 3)]), None, context)


class KilledError(BaseException):
    """Ends a training as abruptly as an exception can."""


def test_three_phases_killed_while_labelling_end_in_the_same_weights(one_thread, tmp_path, monkeypatch, capsys):
    torch = one_thread
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")
    data = Data()
    weights = fit_phases(tmp_path / "whole", data)
    assert weights == tmp_path / "whole" / "retrain" / "weights.pth"
    assert sorted(p.name for p in (tmp_path / "whole").iterdir()) == ["finetune", "pretrain", "retrain"]
    assert data.opened == [("livecell", "train"), ("sartorius", "unlabelled")]
    lines = (tmp_path / "whole" / "retrain" / "pseudo_labels.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["image20", "image21"]
    assert "pseudo labels: " in capsys.readouterr().err
    shapes = {
        phase: torch.load(tmp_path / "whole" / phase / "weights.pth")["state_dict"][
            "roi_head.bbox_head.0.fc_cls.weight"
        ].shape[0]
        for phase in ("pretrain", "finetune", "retrain")
    }
    assert shapes == {"pretrain": 2, "finetune": 4, "retrain": 4}  # classes and background

    def cut(done: int, total: int, text: str) -> None:
        if "pseudo labels" in text:
            raise KilledError

    with pytest.raises(KilledError):
        fit_phases(tmp_path / "cut", Data(), progress=cut)
    assert (tmp_path / "cut" / "finetune" / "weights.pth").is_file()
    assert not (tmp_path / "cut" / "retrain" / "weights.pth").exists()
    resumed = fit_phases(tmp_path / "cut", Data())
    one, other = (torch.load(path)["state_dict"] for path in (weights, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)

    method = guo(**SMALL)
    method.load(resumed)
    method.predict(squares(3, 3).image).checked()


def test_on_another_data_set_only_its_own_images_are_trained_on_and_it_says_so(one_thread, tmp_path, capsys):
    data = Data()
    weights = fit_phases(tmp_path, data, dataset="usiigaci")
    assert "only the phases finetune run on usiigaci; left out: pretrain, retrain" in capsys.readouterr().err
    assert weights == tmp_path / "finetune" / "weights.pth"
    assert data.opened == []


def test_labelling_needs_trained_weights(one_thread, tmp_path):
    with pytest.raises(UsageError, match="needs trained weights"):
        fit_phases(tmp_path, Data(), phases=("retrain",))


# -- that it learns ---------------------------------------------------------------------------------


def crop(folder: Path, name: str) -> Sample:
    """The upper left 256 x 256 pixels of an image of DSB 2018, without nuclei of which only a few pixels are in it."""
    (image_folder,) = folder.glob(f"{name}*")
    (image,) = (image_folder / "images").iterdir()
    masks = np.stack([imread(path)[:256, :256] > 0 for path in sorted((image_folder / "masks").iterdir())])
    pixels = np.ascontiguousarray(imread(image)[:256, :256, :3])
    return Sample(name, pixels, Instances.from_masks(masks[masks.sum(axis=(1, 2)) >= 12]))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_small_one_learns_two_real_images(one_thread, shared_data, tmp_path, record_property):
    """A narrow ResNeXt-50 from random weights on two crops with 82 nuclei: mask AP@0.5 >= 0.8."""
    source = Samples(crop(shared_data / "dsb2018", name) for name in ("420f43d2", "aa58ba45"))
    task = Task(
        classes=("nucleus",),
        objects=ObjectStatistics.measure(s.instances for s in source),
        image_shape=(256, 256),
        max_detections=300,
    )
    method = guo(
        task,
        depth=50,
        groups=8,
        base_width=8,
        base_channels=32,
        pyramid_channels=64,
        head_channels=256,
        samples=96,
        image_scale=(256, 256),
        optimizer="AdamW",
        learning_rate=7e-4,
        half_period=160,
        score_threshold=0.05,
    )
    context = FitContext(tmp_path, Schedule(iterations=160, batch_size=2), "short", dataset="dsb2018")
    method.load(method.fit(source, None, context))
    found = [method.predict(s.image) for s in source]
    ap = score([s.instances for s in source], found, ["voc"], intervals=False).protocols["voc"]["AP@0.5"]
    record_property("AP@0.5", round(ap, 3))
    assert ap >= 0.8, f"mask AP@0.5 is {ap:.3f}"
