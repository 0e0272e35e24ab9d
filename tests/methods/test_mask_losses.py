"""The mask losses of Lin and Norouzi 2022 in Mask R-CNN, from the masks to the loss, each against its formula."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.api import FitContext, Instances, ObjectStatistics, Sample, Schedule, Task, UsageError
from bench.ops import import_mmdet
from bench.registry import find_method
from methods._mmdet import to_mmdet

import_mmdet()

from methods._mask_losses import PixelLossMaskHead, weight_map, weights_of_rois  # noqa: E402

SMALL = {
    "image_scale": (64, 64),
    "depth": 18,
    "pyramid_channels": 32,
    "head_channels": 32,
    "samples": 16,
}


def by_formula(masks: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
    """w = w_c + alpha exp(-D^2 / (2 sigma^2)), pixel by pixel and border pixel by border pixel."""
    labels = np.zeros(masks.shape[1:], int)
    for number in sorted(range(len(masks)), key=lambda n: -int(masks[n].sum())):
        labels[masks[number] > 0] = number + 1
    height, width = labels.shape
    border = []
    for row in range(height):
        for column in range(width):
            for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                inside = 0 <= r < height and 0 <= c < width
                if labels[row, column] and inside and labels[r, c] != labels[row, column]:
                    border.append((row, column))
    foreground = int((labels > 0).sum())
    weights = np.empty(labels.shape)
    for row in range(height):
        for column in range(width):
            nearest = min((math.hypot(row - r, column - c) for r, c in border), default=math.inf)
            class_weight = (labels.size - foreground) / foreground if labels[row, column] else 1.0
            weights[row, column] = class_weight + alpha * math.exp(-(nearest**2) / (2 * sigma**2))
    return weights


def two_touching() -> np.ndarray:
    masks = np.zeros((2, 24, 30), np.uint8)
    masks[0, 4:14, 3:12] = 1
    masks[1, 6:20, 12:25] = 1
    return masks


def test_the_weights_of_pixels_follow_the_formula():
    masks = two_touching()
    found = weight_map(masks, np.zeros(2, bool), alpha=10, sigma=5)
    np.testing.assert_allclose(found, by_formula(masks, 10, 5), rtol=1e-5)


def test_both_sides_of_a_shared_border_weigh_most():
    found = weight_map(two_touching(), np.zeros(2, bool), alpha=10, sigma=5)
    inside = (24 * 30 - 90 - 182) / (90 + 182)
    assert found[10, 11] == pytest.approx(inside + 10, rel=1e-6)
    assert found[10, 12] == pytest.approx(inside + 10, rel=1e-6)


def test_of_overlapping_masks_the_smaller_counts():
    masks = np.zeros((2, 20, 20), np.uint8)
    masks[0, 2:18, 2:18] = 1
    masks[1, 6:10, 6:10] = 1
    np.testing.assert_allclose(weight_map(masks, np.zeros(2, bool), alpha=10, sigma=3), by_formula(masks, 10, 3), 1e-5)


def test_crowd_regions_weigh_nothing():
    masks = two_touching()
    found = weight_map(masks, np.array([False, True]), alpha=10, sigma=5)
    alone = by_formula(masks[:1], 10, 5)
    np.testing.assert_allclose(found[masks[1] == 0], alone[masks[1] == 0], rtol=1e-5)
    assert (found[masks[1] > 0] == 0).all()


def test_without_objects_every_pixel_weighs_one():
    assert (weight_map(np.zeros((0, 5, 6), np.uint8), np.zeros(0, bool), alpha=10, sigma=5) == 1).all()


@pytest.mark.parametrize("flipped", [False, True])
def test_the_map_is_made_after_the_augmentation(flipped):
    """Resized to half and flipped: distances are in the pixels that the network sees, counts without padding."""
    from mmengine.dataset import Compose

    labels = np.zeros((48, 60), np.uint8)
    labels[8:30, 6:24] = 1
    labels[12:40, 24:50] = 2
    sample = Sample("a", np.zeros((48, 60), np.uint8), Instances.from_label_map(labels))
    pipeline = Compose(
        [
            {"type": "Resize", "scale": (30, 24), "keep_ratio": True},
            {"type": "RandomFlip", "prob": float(flipped)},
            {"type": "PackShapeWeights", "alpha": 10.0, "sigma": 5.0},
        ]
    )
    packed = pipeline(to_mmdet(sample))
    masks = packed["data_samples"].gt_instances.masks.masks
    weights = packed["data_samples"].gt_shape_weights.data
    assert weights.dtype == torch.float32
    assert weights.shape == (1, 24, 30)
    np.testing.assert_allclose(weights[0].numpy(), by_formula(masks, 10, 5), rtol=1e-5)
    left, right = masks[0][:, :15].sum(), masks[0][:, 15:].sum()
    assert (left < right) == flipped


def test_the_map_reaches_the_model_unpadded_and_on_its_device():
    method = small("shape")
    network = method._build("random")
    sample = Sample("a", np.zeros((40, 64), np.uint8), Instances.from_masks(np.ones((1, 40, 64), bool)))
    pipeline = method._compose([method._resize(), method.packing()])
    packed = pipeline(to_mmdet(sample))
    data = network.data_preprocessor({"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}, True)
    assert data["inputs"].shape[-2:] == (64, 64)
    assert data["data_samples"][0].gt_shape_weights.data.shape == (1, 40, 64)


# -- for a RoI --------------------------------------------------------------------------------------


def test_a_constant_map_stays_constant_and_nothing_is_made_binary():
    weights = torch.full((1, 20, 30), 7.25)
    found = weights_of_rois(weights, torch.tensor([[2.0, 3.0, 18.0, 17.0]]), (28, 28))
    torch.testing.assert_close(found, torch.full((1, 28, 28), 7.25))


def test_a_linear_map_is_sampled_where_the_bins_are():
    """Value = column; a bin of 2 pixels from x0 = 4 has its centre at 4 + 2 (k + 1/2), which is column 0.5 less."""
    weights = torch.arange(40.0).expand(1, 40, 40)
    found = weights_of_rois(weights, torch.tensor([[4.0, 4.0, 20.0, 20.0]]), (8, 8))
    expected = torch.tensor([4 + 2 * (k + 0.5) - 0.5 for k in range(8)])
    torch.testing.assert_close(found[0], expected.expand(8, 8))


def test_a_box_beyond_the_image_is_clipped_as_the_targets_are():
    weights = torch.rand(1, 20, 20, generator=torch.Generator().manual_seed(0))
    over = weights_of_rois(weights, torch.tensor([[-5.0, -3.0, 30.0, 12.0]]), (7, 7))
    torch.testing.assert_close(over, weights_of_rois(weights, torch.tensor([[0.0, 0.0, 20.0, 12.0]]), (7, 7)))


def test_boxes_are_not_written_to():
    boxes = torch.tensor([[-5.0, -3.0, 30.0, 12.0]])
    weights_of_rois(torch.ones(1, 20, 20), boxes, (7, 7))
    assert boxes.tolist() == [[-5.0, -3.0, 30.0, 12.0]]


# -- the loss ---------------------------------------------------------------------------------------

TRUTH = np.zeros((1, 16, 16), np.uint8)
TRUTH[0, 4:12, 4:12] = 1


def loss_of(kind: str, logits: torch.Tensor, weights: torch.Tensor | None = None, normalise: bool = False) -> float:
    from mmdet.structures.mask import BitmapMasks
    from mmengine.config import ConfigDict

    head = PixelLossMaskHead(kind, 2.0, 0.25, normalise, num_classes=1, in_channels=4, conv_out_channels=4, num_convs=1)
    head.weight_maps = [weights]
    result = SimpleNamespace(
        pos_priors=torch.tensor([[0.0, 0.0, 16.0, 16.0]]),
        pos_assigned_gt_inds=torch.tensor([0]),
        pos_gt_labels=torch.tensor([0]),
    )
    truth = SimpleNamespace(masks=BitmapMasks(TRUTH, 16, 16))
    found = head.loss_and_target(logits, [result], [truth], ConfigDict(mask_size=16))
    np.testing.assert_array_equal(found["mask_targets"][0].numpy(), TRUTH[0])
    return float(found["loss_mask"]["loss_mask"])


def test_the_losses_by_hand():
    """Every logit 1: p = 1/(1 + e^-1); 64 of 256 pixels are foreground."""
    logits = torch.ones(1, 1, 16, 16)
    p = 1 / (1 + math.exp(-1))
    right, wrong = -math.log(p), -math.log(1 - p)
    assert loss_of("bce", logits) == pytest.approx((64 * right + 192 * wrong) / 256, rel=1e-5)
    focal = (64 * 0.25 * (1 - p) ** 2 * right + 192 * 0.75 * p**2 * wrong) / 256
    assert loss_of("focal", logits) == pytest.approx(focal, rel=1e-5)
    weights = torch.where(torch.from_numpy(TRUTH) > 0, 3.0, 0.5)
    assert loss_of("shape", logits, weights) == pytest.approx((64 * 3 * right + 192 * 0.5 * wrong) / 256, rel=1e-5)
    mean = (64 * 3 + 192 * 0.5) / 256
    halved = (64 * 3 * right + 192 * 0.5 * wrong) / 256 / mean
    assert loss_of("shape", logits, weights, normalise=True) == pytest.approx(halved, rel=1e-5)


def test_cross_entropy_is_that_of_mmdet():
    from mmdet.models.losses import CrossEntropyLoss

    logits = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    stock = CrossEntropyLoss(use_mask=True)(logits, torch.from_numpy(TRUTH).float(), torch.tensor([0]))
    assert loss_of("bce", logits) == pytest.approx(float(stock), rel=1e-6)


def test_the_shape_aware_loss_without_a_map_is_a_bug():
    with pytest.raises(ValueError, match="PackShapeWeights"):
        loss_of("shape", torch.ones(1, 1, 16, 16))


# -- the method -------------------------------------------------------------------------------------


def small(loss: str, **settings):
    torch.set_num_threads(1)
    entry = find_method(f"mask_rcnn-{loss}")
    task = Task(objects=ObjectStatistics(8, 10, 14, 1.2, 5, 8), image_shape=(64, 64), max_detections=60)
    return entry.method(task, entry.method.make_params(entry.variant, {**SMALL, **settings}))


class Samples(list):
    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sample.id for sample in self)


@pytest.fixture(scope="module")
def samples() -> Samples:
    rng = np.random.default_rng(0)
    found = Samples()
    for number in range(3):
        labels = np.zeros((64, 64), np.uint8)
        for label, (row, column) in enumerate(rng.integers(4, 48, (5, 2)), start=1):
            labels[row : row + 10, column : column + 12] = label
        image = np.where(labels > 0, 180, 40).astype(np.uint8) + rng.integers(0, 20, labels.shape, dtype=np.uint8)
        found.append(Sample(f"image{number}", image, Instances.from_label_map(labels)))
    return found


def test_the_losses_are_three_methods_of_one_family():
    assert {find_method(f"mask_rcnn-{loss}").method.name for loss in ("bce", "focal", "shape")} == {"mask_rcnn"}
    assert find_method("mask_rcnn").method is not find_method("mask_rcnn-bce").method
    assert find_method("mask_rcnn-shape").title == "Mask R-CNN, shape-aware loss"


@pytest.mark.parametrize("loss", ["bce", "focal", "shape"])
def test_a_variant_trains_and_predicts(samples, tmp_path, loss):
    method = small(loss, patience=0)
    method.load(method.fit(samples, None, FitContext(tmp_path, Schedule(iterations=2, batch_size=2), "smoke")))
    found = method.predict(samples[0].image)
    assert found.shape == (64, 64)
    found.checked()


def test_the_shape_aware_loss_weighs_more_than_cross_entropy(samples, tmp_path):
    """The same network, seed and step: only the weights differ, and none is below 1."""
    import json

    first = {}
    for loss in ("bce", "shape"):
        context = FitContext(tmp_path / loss, Schedule(iterations=1, batch_size=2), "smoke", seed=4)
        small(loss, patience=0).fit(samples, None, context)
        first[loss] = json.loads((tmp_path / loss / "training.jsonl").read_text().splitlines()[0])
    assert first["bce"]["loss_cls"] == pytest.approx(first["shape"]["loss_cls"], rel=1e-6)
    assert first["shape"]["loss_mask"] > 3 * first["bce"]["loss_mask"]


def test_new_predictors_are_kaiming_normal():
    """Standard deviation sqrt(2 / inputs), as torch's own kaiming_normal_ has it."""
    roi = small("bce", head_channels=256, pyramid_channels=128)._initialised("random").roi_head
    for layer, inputs in ((roi.bbox_head.fc_cls, 256), (roi.bbox_head.fc_reg, 256), (roi.mask_head.conv_logits, 128)):
        assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / inputs), rel=0.15)
        assert float(layer.bias.detach().abs().max()) == 0


def test_the_learning_rate_falls_to_a_tenth_every_three_epochs(samples, tmp_path):
    import json

    context = FitContext(tmp_path, Schedule(epochs=8, batch_size=2), "paper")  # 12 steps, 2 an epoch of 3 images
    small("bce", patience=0).fit(samples, None, context)
    rates = [json.loads(line)["lr"] for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([5e-4 * 0.1 ** (step // 6) for step in range(12)], rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"mask_loss": "dice"}, "mask_loss cannot be 'dice'"), ({"sigma": 0}, "sigma"), ({"patience": -1}, "patience")],
)
def test_wrong_settings_are_one_line(settings, message):
    with pytest.raises(UsageError, match=message):
        small("bce", **settings)


def test_training_ends_by_the_validation_loss_and_keeps_the_best_weights(samples, tmp_path):
    import json

    context = FitContext(tmp_path, Schedule(iterations=5, batch_size=2), "paper")
    weights = small("shape").fit(samples, samples, context)
    measured = {}
    for line in (tmp_path / "training.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "validation_loss" in record:
            measured[record["step"]] = record["validation_loss"]
    assert sorted(measured) == [2, 4, 5]  # two steps are a pass over three images; and the end
    meta = torch.load(weights, weights_only=True)["meta"]
    assert meta["best_step"] == min(measured, key=measured.__getitem__)
    small("shape").load(weights)


def test_the_network_has_the_parameters_of_mask_rcnn():
    """44.4 million with 80 classes and batch normalisation: a loss has none of its own."""
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    method = find_method("mask_rcnn-shape").method(Task(classes=tuple(f"class {n}" for n in range(80))))
    method._import_modules()
    with torch.device("meta"):
        network = MODELS.build(ConfigDict(method.config("checkpoint")))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(44.4e6, rel=0.02)
