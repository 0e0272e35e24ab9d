"""DeepCIS: anchors, one mask head at the end of the cascade, size, assignment, and that it learns."""

from __future__ import annotations

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
from methods.deepcis import CELL_ANCHORS, NUCLEUS_ANCHORS, DeepCISCell

SMALL = {
    "image_scale": (64, 64),
    "depth": 50,
    "stem_channels": 16,
    "base_channels": 16,
    "pyramid_channels": 32,
    "head_channels": 32,
    "samples": 32,
    "steps_a_update": 1,
    "score_threshold": 0.0,
}
OBJECTS = ObjectStatistics(8, 10, 14, 1.2, 5, 200)


class Samples(list):
    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sample.id for sample in self)


def deepcis(variant: str = "cell", task: Task | None = None, **settings):
    entry = find_method(f"deepcis-{variant}")
    task = task or Task(classes=("a", "b"), objects=OBJECTS, image_shape=(64, 64), max_detections=300)
    return entry.method(task, entry.method.make_params(entry.variant, settings))


@pytest.fixture
def one_thread():
    torch = pytest.importorskip("torch", reason="needs the train extra")
    bench.ops.import_mmdet()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield torch
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def small():
    """A narrow network with random weights."""
    torch = pytest.importorskip("torch", reason="needs the train extra")
    bench.ops.import_mmdet()
    torch.manual_seed(0)
    return deepcis(**SMALL)._initialised("random")


def squares(seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    labels = np.zeros((64, 64), np.uint8)
    for label, (row, column) in enumerate(rng.integers(4, 48, (5, 2)), start=1):
        labels[row : row + 10, column : column + 12] = label
    image = np.where(labels > 0, 180, 40).astype(np.uint8)
    truth = Instances.from_label_map(labels, class_of={label: label % 2 for label in range(1, 6)})
    return Sample(f"image{seed}", image, truth)


# -- what it declares -------------------------------------------------------------------------------


def test_listing_it_imports_nothing_heavy():
    code = "import sys, methods.deepcis; print([m for m in ('torch', 'mmengine', 'mmdet') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("variant", "updates"), [("cell", 1500), ("nucleus", 2000), ("both", 3500)])
def test_each_setting_trains_to_the_checkpoint_of_the_paper(variant, updates):
    method = deepcis(variant)
    schedule = method.schedules["paper"]
    training = method.training(schedule.steps(4000), schedule.batch_size)
    assert schedule.steps(4000) / training.accumulate == updates
    assert schedule.batch_size * training.accumulate == 16
    assert (training.optimizer["type"], training.optimizer["lr"], training.optimizer["momentum"]) == ("SGD", 0.02, 0.9)
    (warmup,) = training.schedulers
    assert warmup["end"] / training.accumulate == min(1000, updates // 2)


@pytest.mark.parametrize(
    "wrong", [{"deformable": "DCNv3"}, {"depth": 18}, {"anchor_sides": "0,8"}, {"anchor_ratios": ""}]
)
def test_settings_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        deepcis(**wrong)


# -- anchors and caps -------------------------------------------------------------------------------


@pytest.mark.parametrize(("variant", "count"), [("cell", 45), ("nucleus", 50), ("both", 45)])
def test_every_side_in_every_ratio_at_every_level(one_thread, variant, count):
    from mmdet.registry import TASK_UTILS
    from mmengine.config import ConfigDict

    config = deepcis(variant).config("random")
    generator = TASK_UTILS.build(ConfigDict(config["rpn_head"]["anchor_generator"]))
    assert generator.num_base_priors == [count] * 5
    sides = NUCLEUS_ANCHORS if variant == "nucleus" else CELL_ANCHORS
    for anchors in generator.base_anchors:
        width, height = (anchors[:, 2:] - anchors[:, :2]).numpy().T
        found = sorted(zip((width * height) ** 0.5, height / width, strict=True))
        expected = sorted((side, ratio) for side in sides for ratio in (0.25, 0.5, 1, 2, 4))
        np.testing.assert_allclose(sorted(f[0] for f in found), sorted(e[0] for e in expected), rtol=1e-4)
        np.testing.assert_allclose(sorted(f[1] for f in found), sorted(e[1] for e in expected), rtol=1e-4)
    assert [stride[0] for stride in generator.strides] == [4, 8, 16, 32, 64]


def test_samples_and_detections_follow_the_objects():
    config = deepcis().config("random")
    assert [stage["sampler"]["num"] for stage in config["train_cfg"]["rcnn"]] == [800] * 3
    assert config["train_cfg"]["rpn"]["sampler"]["num"] == 400
    assert config["test_cfg"]["rcnn"]["max_per_img"] == 300


def test_an_anchor_is_an_object_from_07_and_background_below_03(one_thread):
    torch = one_thread
    from mmdet.registry import TASK_UTILS
    from mmengine.config import ConfigDict
    from mmengine.structures import InstanceData

    config = ConfigDict(deepcis().config("random")["train_cfg"])
    truth = InstanceData(bboxes=torch.tensor([[0.0, 0, 100, 100]]), labels=torch.tensor([0]))
    # Boxes inside the truth: their IoU is their area.
    widths = [100, 71, 69, 56, 51, 31, 29]
    priors = InstanceData(priors=torch.tensor([[0.0, 0, w, 100] for w in widths]))

    def assigned(assigner) -> list[int]:
        return TASK_UTILS.build(assigner).assign(priors, truth).gt_inds.tolist()

    assert assigned(config.rpn.assigner) == [1, 1, -1, -1, -1, -1, 0]
    assert assigned(config.rcnn[0].assigner) == [1, 1, 1, 1, 1, 0, 0]
    assert assigned(config.rcnn[1].assigner) == [1, 1, 1, 0, 0, 0, 0]
    assert assigned(config.rcnn[2].assigner) == [1, 1, 0, 0, 0, 0, 0]


# -- size -------------------------------------------------------------------------------------------


def resnest_parameters(blocks: tuple[int, ...], deformable: bool) -> int:
    """Of ResNeSt with radix 2, one group and a stem of 128, by Zhang et al. 2020, without the classifier."""
    total = 9 * (3 * 64 + 64 * 64 + 64 * 128) + 2 * (64 + 64 + 128)
    before = 128
    for stage, count in enumerate(blocks):
        inner, after = 64 * 2**stage, 256 * 2**stage
        squeezed = max(inner * 2 // 4, 32)
        for block in range(count):
            total += before * inner + 2 * inner  # 1 x 1
            total += inner * 2 * inner // 2 * 9 + 4 * inner  # 3 x 3 into two halves, in two groups
            if deformable and stage > 0:
                total += 18 * inner * 9 + 18
            total += inner * squeezed + squeezed + 2 * squeezed + squeezed * 2 * inner + 2 * inner  # attention
            total += inner * after + 2 * after  # 1 x 1
            if block == 0:
                total += before * after + 2 * after
            before = after
    return total


def test_the_reference_count_is_the_published_one():
    """Zhang et al. 2020, table 3: ResNeSt-200 has 70.2 million weights."""
    assert (resnest_parameters((3, 24, 36, 3), False) + 2048 * 1000 + 1000) / 1e6 == pytest.approx(70.2, abs=0.05)


def test_the_network_has_the_size_of_its_reference(one_thread):
    network = deepcis(task=Task(classes=tuple(str(c) for c in range(30))))._initialised("random")
    assert sum(p.numel() for p in network.backbone.parameters()) == resnest_parameters((3, 24, 36, 3), True)
    pyramid = sum(256 * 2**i * 256 + 256 for i in range(4)) + 4 * (256 * 256 * 9 + 256)
    proposals = 256 * 256 * 9 + 256 + 257 * 45 + 257 * 45 * 4
    box = 4 * 256 * 256 * 9 + 256 * 49 * 1024 + 1024 + 1025 * 31 + 1025 * 4
    mask = 4 * (256 * 256 * 9) + 256 * 256 * 4 + 256 + 257 * 30
    reference = resnest_parameters((3, 24, 36, 3), True) + pyramid + proposals + 3 * box + mask
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(reference, rel=1e-3)
    offsets = [m for m in network.backbone.modules() if hasattr(m, "init_offset")]
    assert len(offsets) == 24 + 36 + 3
    assert all(float(m.conv_offset.weight.detach().abs().max()) == 0 for m in offsets)  # begin as plain convolutions


def test_it_does_the_work_of_its_reference(one_thread):
    """Zhang et al. 2020, table 3: ResNeSt-200 has 17.5 GFLOPs at 224 pixels; deformable convolution is not in that."""
    from mmengine.analysis import get_model_complexity_info

    backbone = deepcis(deformable="none")._build("random").backbone
    backbone.eval()
    counted = get_model_complexity_info(backbone, input_shape=(3, 64, 64), show_table=False, show_arch=False)["flops"]
    assert counted * (224 / 64) ** 2 / 1e9 == pytest.approx(17.5, rel=0.02)


def test_group_normalisation_leaves_something_of_a_squeezed_map(one_thread):
    torch = one_thread
    from methods.deepcis.network import GroupNorm16

    squeezed = torch.randn(4, 32, 1, 1)
    usual = torch.nn.GroupNorm(32, 32)(squeezed)
    assert float(usual.detach().abs().max()) < 1e-3  # 32 groups of one value: nothing is left
    assert float(GroupNorm16(32)(squeezed).detach().std()) > 0.9
    assert [GroupNorm16(channels).num_groups for channels in (8, 32, 40, 256, 2048)] == [1, 2, 2, 16, 128]


# -- one mask head, at the end ----------------------------------------------------------------------


def losses_of(network, torch, sample: Sample) -> dict:
    from methods._mmdet import to_mmdet

    method = deepcis(**SMALL)
    packed = method._compose([{"type": "PackDetInputs"}])(to_mmdet(sample))
    data = network.data_preprocessor(
        {"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}, training=True
    )
    torch.manual_seed(1)
    return network.loss(data["inputs"], data["data_samples"])


def test_only_the_last_stage_has_a_mask_loss(one_thread, small):
    names = set(losses_of(small, one_thread, squares(0)))
    assert {n for n in names if "mask" in n} == {"s2.loss_mask"}
    assert {n for n in names if n.endswith(".loss_bbox")} == {"s0.loss_bbox", "s1.loss_bbox", "s2.loss_bbox"}
    assert len(small.roi_head.mask_head) == len(small.roi_head.mask_roi_extractor) == 1
    assert len(small.roi_head.bbox_head) == 3


def test_the_mask_loss_is_that_of_the_last_samples_with_its_own_weight(one_thread, small):
    torch = one_thread
    head = small.roi_head
    seen = {}
    original = head.mask_head[0].loss_and_target

    def watched(mask_preds, sampling_results, batch_gt_instances, rcnn_train_cfg):
        found = original(mask_preds, sampling_results, batch_gt_instances, rcnn_train_cfg)
        seen.update(loss=float(found["loss_mask"]["loss_mask"].detach()), config=rcnn_train_cfg, n=len(mask_preds))
        seen["positive"] = sum(len(result.pos_priors) for result in sampling_results)
        # Mean binary cross-entropy of the object's own class, by hand.
        target = found["mask_targets"]
        classes = torch.cat([result.pos_gt_labels for result in sampling_results])
        own = mask_preds[torch.arange(len(classes)), classes]
        seen["by_hand"] = float(torch.nn.functional.binary_cross_entropy_with_logits(own, target).detach())
        return found

    head.mask_head[0].loss_and_target = watched
    try:
        losses = losses_of(small, torch, squares(0))
    finally:
        del head.mask_head[0].loss_and_target
    assert seen["config"].assigner.pos_iou_thr == 0.7
    assert seen["n"] == seen["positive"] > 0
    assert seen["loss"] == pytest.approx(seen["by_hand"], rel=1e-5)
    assert float(losses["s2.loss_mask"].detach()) == pytest.approx(seen["loss"], rel=1e-5)  # not a quarter of it


def test_boxes_and_classes_keep_the_weights_of_the_cascade(one_thread, small):
    torch = one_thread
    head = small.roi_head
    seen = []
    originals = [bbox_head.loss_and_target for bbox_head in head.bbox_head]

    def watch(original):
        def watched(*arguments, **named):
            found = original(*arguments, **named)
            seen.append(float(found["loss_bbox"]["loss_cls"].detach()))
            return found

        return watched

    for bbox_head, original in zip(head.bbox_head, originals, strict=True):
        bbox_head.loss_and_target = watch(original)
    try:
        losses = losses_of(small, torch, squares(0))
    finally:
        for bbox_head in head.bbox_head:
            del bbox_head.loss_and_target
    weighted = [float(losses[f"s{stage}.loss_cls"].detach()) for stage in range(3)]
    assert weighted == pytest.approx([seen[0], seen[1] / 2, seen[2] / 4], rel=1e-5)


def test_masks_come_from_the_one_head_run_once_on_final_boxes(one_thread, tmp_path):
    method = deepcis(**SMALL)
    context = FitContext(tmp_path, Schedule(iterations=1), "smoke", seed=2)
    method.load(method.fit(Samples([squares(0)]), None, context))
    head = method._network.roi_head
    calls = []
    head.mask_head[0].register_forward_hook(lambda module, inputs, output: calls.append((len(output), output)))
    found = method.predict(squares(1).image)
    ((count, logits),) = calls
    assert count >= len(found) > 0  # as many masks as final boxes; empty ones are dropped after
    assert logits.shape[1:] == (2, 28, 28)
    # A head that says "everywhere" fills the boxes.
    for parameter in head.mask_head[0].conv_logits.parameters():
        parameter.data.zero_()
    head.mask_head[0].conv_logits.bias.data.fill_(9)
    full = method.predict(squares(1).image)
    boxes = (full.boxes[:, 2:] - full.boxes[:, :2]).prod(axis=1)
    np.testing.assert_allclose(full.areas, boxes, rtol=0.05)  # a corner pixel may be lost to interpolation


def test_the_bare_forward_pass_has_one_mask_a_proposal(one_thread, small):
    from mmdet.structures import DetDataSample

    sample = DetDataSample(metainfo={"img_shape": (64, 64), "ori_shape": (64, 64), "scale_factor": (1.0, 1.0)})
    small.eval()
    with one_thread.no_grad():
        *_, (scores, deltas, masks) = small(one_thread.zeros(1, 3, 64, 64), [sample], mode="tensor")
    count = len(scores[0])
    assert count > 0
    assert scores[0].shape == (count, 3)  # two classes and background
    assert deltas[0].shape == (count, 4)
    assert masks[0].shape == (count, 2, 28, 28)


def test_without_any_proposal_there_is_no_detection(one_thread, small):
    """A loss without positives is still a loss."""
    losses = losses_of(small, one_thread, Sample("empty", np.zeros((64, 64), np.uint8), Instances.empty(64, 64)))
    values = [v for value in losses.values() for v in (value if isinstance(value, list) else [value])]
    assert all(bool(one_thread.isfinite(v)) for v in values)
    assert float(losses["s2.loss_mask"].detach()) == 0


@pytest.mark.parametrize("image", [np.zeros((50, 70), np.uint8), np.zeros((33, 20, 3), np.uint16)])
def test_predictions_have_the_size_of_the_image(one_thread, small, image):
    method = deepcis(**SMALL)
    method._ready(small)
    found = method.predict(image)
    assert found.shape == image.shape[:2]
    assert len(found) <= 300
    found.checked()


def test_weights_of_imagenet_keep_their_statistics():
    config = deepcis().config("imagenet")
    assert config["backbone"]["init_cfg"]["checkpoint"] == "open-mmlab://resnest200"
    assert config["backbone"]["norm_cfg"]["type"] == "BN"
    assert config["backbone"]["norm_eval"]
    assert deepcis().config("checkpoint")["backbone"]["init_cfg"] is None
    assert deepcis().config("random")["backbone"]["frozen_stages"] == -1


# -- that it learns ---------------------------------------------------------------------------------


def crop(folder: Path, name: str) -> Sample:
    """The upper left 160 x 160 pixels of an image of DSB 2018, without nuclei of which only a few pixels are in it."""
    (image_folder,) = folder.glob(f"{name}*")
    (image,) = (image_folder / "images").iterdir()
    masks = np.stack([imread(path)[:160, :160] > 0 for path in sorted((image_folder / "masks").iterdir())])
    pixels = np.ascontiguousarray(imread(image)[:160, :160, :3])
    return Sample(name, pixels, Instances.from_masks(masks[masks.sum(axis=(1, 2)) >= 12]))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_small_one_learns_two_real_images(one_thread, shared_data, tmp_path, record_property):
    """A narrow ResNeSt-50, deformable, from random weights on two crops with 20 nuclei: mask AP@0.5 >= 0.8."""
    source = Samples(crop(shared_data / "dsb2018", name) for name in ("420f43d2", "aa58ba45"))
    task = Task(
        classes=("nucleus",),
        objects=ObjectStatistics.measure(s.instances for s in source),
        image_shape=(160, 160),
        max_detections=300,
    )
    settings = {
        "depth": 50,
        "stem_channels": 32,
        "base_channels": 32,
        "pyramid_channels": 64,
        "head_channels": 256,
        "samples": 64,
        "image_scale": (160, 160),
        "optimizer": "AdamW",
        "learning_rate": 0.008,
        "steps_a_update": 1,
        "warmup": 20,
    }
    method = DeepCISCell(task, DeepCISCell.make_params("cell", settings))
    context = FitContext(tmp_path, Schedule(iterations=220, batch_size=1), "short")
    method.load(method.fit(source, None, context))
    found = [method.predict(s.image) for s in source]
    ap = score([s.instances for s in source], found, ["voc"], intervals=False).protocols["voc"]["AP@0.5"]
    record_property("AP@0.5", round(ap, 3))
    assert ap >= 0.8, f"mask AP@0.5 is {ap:.3f}"
