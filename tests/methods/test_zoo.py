"""The networks of MMDetection's zoo: stock but for classes and caps, and their masks encoded within a bound."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.api import FitContext, Instances, MissingDependencyError, ObjectStatistics, Sample, Schedule, Task
from bench.ops import import_mmdet
from bench.registry import find_method
from methods._mmdet import stock, stock_weights
from methods._zoo import stock_training

SMALL = {
    "rtmdet_ins": {"widen": 0.25, "deepen": 0.17},
    "solov2": {"depth": 18, "pyramid_channels": 32, "head_channels": 32, "finest_grid": 12},
    "mask2former": {"depth": 18, "channels": 32, "encoder_layers": 1, "decoder_layers": 1, "queries": 12, "points": 64},
    "mask_rcnn-swin": {"embed_dims": 48, "depths": (1, 1, 1, 1), "samples": 16},
}
DENSE = Task(objects=ObjectStatistics(8, 10, 14, 1.2, 150, 700), image_shape=(512, 512), max_detections=900)
NETWORKS = sorted(SMALL)


class Samples(list):
    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sample.id for sample in self)


@pytest.fixture(scope="module")
def samples() -> Samples:
    import_mmdet()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    found = Samples()
    for number, (height, width) in enumerate(((70, 90), (64, 60))):
        labels = np.zeros((height, width), np.uint8)
        for label, (row, column) in enumerate(rng.integers(4, 44, (5, 2)), start=1):
            labels[row : row + 10, column : column + 12] = label
        image = np.where(labels > 0, 180, 40).astype(np.uint8) + rng.integers(0, 20, labels.shape, dtype=np.uint8)
        found.append(Sample(f"image{number}", image, Instances.from_label_map(labels)))
    return found


def small(name: str, **settings):
    entry = find_method(name)
    task = Task(objects=ObjectStatistics(8, 10, 14, 1.2, 5, 8), image_shape=(70, 90), max_detections=30)
    values = {"image_scale": (96, 96), **SMALL[name], **settings}
    return entry.method(task, entry.method.make_params(entry.variant, values))


def count(config) -> int:
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    with torch.device("cpu" if "Swin" in config["backbone"]["type"] else "meta"):  # Swin's own code needs numbers
        network = MODELS.build(ConfigDict(config))
    return sum(parameter.numel() for parameter in network.parameters())


PUBLISHED = {"rtmdet_ins": 27.6e6, "solov2": None, "mask2former": 44.0e6, "mask_rcnn-swin": 48.0e6}
"""Parameters with the 80 classes of COCO: RTMDet's table 3, Mask2Former's table 1, Swin's detection table."""


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_the_stock_one(name):
    """With 80 classes and few, large objects, it has the parameters of MMDetection's own build."""
    import_mmdet()
    method = find_method(name).method
    photographs = Task(
        classes=tuple(f"class {n}" for n in range(80)),
        max_detections=100,
        objects=ObjectStatistics(64, 100, 300, 2.0, 7, 60),
    )
    config = method(photographs).config("checkpoint")
    own = stock(method.coco_config).model.to_dict()
    for part in (own["backbone"], config["backbone"]):
        part["init_cfg"] = None
    built = count(config)
    assert built == count(json.loads(json.dumps(own).replace("SyncBN", "BN")))
    if PUBLISHED[name]:
        assert built == pytest.approx(PUBLISHED[name], rel=0.02)


def fields(config, name: str) -> list:
    if isinstance(config, dict):
        return [v for k, v in config.items() if k == name] + [f for v in config.values() for f in fields(v, name)]
    return [f for part in config for f in fields(part, name)] if isinstance(config, (list, tuple)) else []


@pytest.mark.parametrize("init", ["random", "coco"])
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_inherits_the_hundred_of_coco(name, init):
    entry = find_method(name)
    config = entry.method(DENSE).config(init)
    test = config["test_cfg"]
    caps = fields(test, "max_per_img") + fields(test, "max_per_image") + fields(test, "nms_pre")
    assert caps
    assert min(caps) >= 900
    assert all(classes == 1 for classes in fields(config, "num_classes"))
    if name == "mask2former":
        assert config["panoptic_head"]["num_queries"] == 840  # a fifth more than the 700 of the densest image
        assert config["panoptic_head"]["loss_cls"]["class_weight"] == [1.0, 0.1]
    if name == "mask_rcnn-swin":
        assert config["test_cfg"]["rpn"]["max_per_img"] >= 900
        assert config["train_cfg"]["rcnn"]["sampler"]["num"] == 2048  # not 2800, four times the 700: a ceiling


@pytest.mark.parametrize("name", NETWORKS)
def test_published_weights_are_those_of_the_model_index(name):
    url = stock_weights(find_method(name).method.coco_config)
    assert url.startswith("https://download.openmmlab.com/mmdetection/")
    assert url.endswith(".pth")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_trains_and_predicts_in_the_images_own_pixels(samples, tmp_path, name):
    method = small(name)
    context = FitContext(tmp_path, Schedule(iterations=2, batch_size=2), "smoke", seed=1)
    method.load(method.fit(samples, None, context))
    for sample in samples:
        found = method.predict(sample.image)
        assert found.shape == sample.shape
        assert len(found) <= 30
        found.checked()
    crowd = Samples([Sample("none", samples[0].image, Instances.empty(70, 90))])
    assert small(name).fit(crowd, None, FitContext(tmp_path / "empty", Schedule(iterations=1), "smoke")).is_file()


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_of_it_reaches_the_terminal(samples, capfd, name):
    method = small(name)
    method.load_fresh(1)
    method.predict(samples[0].image)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""


@pytest.mark.parametrize("name", ["rtmdet_ins", "solov2", "mask2former"])
def test_masks_encoded_in_parts_are_those_of_mmdet(samples, monkeypatch, name):
    """mmdet's own end enlarges all masks at once; the part by part one says the same of every detection."""
    from methods import _full_masks

    method = small(name, **({} if name == "mask2former" else {"score_threshold": 0.0}))
    method.load_fresh(3)
    parts = method._network
    if name == "solov2":  # fresh, it is sure of nothing: let it find something
        with torch.no_grad():
            parts.mask_head.conv_kernel.weight.mul_(100)
            parts.mask_head.conv_cls.bias.fill_(0.0)
    whole = copy.deepcopy(parts)
    for module in whole.modules():
        for patched in ("_bbox_mask_post_process", "_predict_by_feat_single"):
            module.__dict__.pop(patched, None)
    if name == "mask2former":
        whole.panoptic_head.__dict__.pop("predict", None)
        whole.panoptic_fusion_head.__dict__.pop("predict", None)
        whole.panoptic_fusion_head.test_cfg["max_per_image"] = 12  # mmdet wants no more than there are
    monkeypatch.setattr(_full_masks, "BYTES", 3 * 4 * 96 * 96)  # three masks at a time
    for sample in samples:
        data = parts.data_preprocessor(method._batch(sample.image), False)
        with torch.inference_mode():
            ours = parts.predict(data["inputs"], copy.deepcopy(data["data_samples"]), rescale=True)[0].pred_instances
            theirs = whole.predict(data["inputs"], copy.deepcopy(data["data_samples"]), rescale=True)[0].pred_instances
        assert len(ours) == len(theirs) > 3
        order, other = ours.scores.argsort(stable=True), theirs.scores.argsort(stable=True)
        torch.testing.assert_close(ours.scores[order], theirs.scores[other], atol=1e-6, rtol=1e-5)
        height, width = sample.shape
        masks = Instances(height, width, tuple(ours.rles[i] for i in order)).to_masks()
        expected = theirs.masks[other].numpy().astype(bool)
        assert masks.any()
        assert (masks != expected).mean() < 1e-4


def test_few_masks_are_enlarged_at_a_time():
    from methods._full_masks import BYTES, at_once

    steps = [((1024, 1024), (1000, 1000)), ((2000, 2000), (2000, 2000))]
    assert at_once(steps) * 4 * 2000 * 2000 <= BYTES
    assert at_once([((20000, 20000), (1, 1))]) == 1


@pytest.mark.parametrize("name", ["mask_rcnn-swin", "rtmdet_ins", "mask2former"])
def test_images_predicted_together_are_predicted_as_alone(samples, name):
    """Of one size, so that none is padded: padding is part of what a network sees."""
    method = small(name)
    method.load_fresh(1)
    images = [samples[0].image, samples[0].image[::-1].copy()]
    together = method.predict_batch(images)
    for image, found in zip(images, together, strict=True):
        alone = method.predict(image)
        assert len(alone) == len(found)
        np.testing.assert_allclose(alone.scores, found.scores, atol=1e-5)


def test_queries_where_the_objects_are_unknown_are_not_a_hundred():
    assert find_method("mask2former").method(Task()).config("random")["panoptic_head"]["num_queries"] == 300


def test_no_batch_is_too_mixed(samples):
    method = small("mask2former")
    method.load_fresh(1)
    assert [f.shape for f in method.predict_batch([s.image for s in samples])] == [(70, 90), (64, 60)]


def test_a_stock_schedule_is_stretched():
    """Mask R-CNN's 1x: drops after 8 and 11 of 12 epochs; learning rate 0.02 for 16 images."""
    plan = stock_training("mask_rcnn/mask-rcnn_r50_fpn_1x_coco", steps=1200, batch_size=4)
    assert plan.optimizer["lr"] == pytest.approx(0.02 * 4 / 16)
    warm_up, drops = plan.schedulers
    assert warm_up["end"] == 120  # a tenth of the length, not 500
    assert drops["milestones"] == [800, 1100]
    assert drops["end"] == 1200
    assert not drops["by_epoch"]


def test_the_batch_in_a_configs_name_counts():
    """RTMDet inherits a default of 16 images, but its 0.004 is for 8 x 32."""
    plan = stock_training("rtmdet/rtmdet-ins_m_8xb32-300e_coco", steps=3000, batch_size=16)
    assert plan.optimizer["lr"] == pytest.approx(0.004 * 16 / 256)
    cosine = plan.schedulers[1]
    assert (cosine["begin"], cosine["end"], cosine["T_max"]) == (1500, 3000, 1500)
    assert cosine["eta_min"] == pytest.approx(plan.optimizer["lr"] * 0.05)


def test_a_schedule_in_steps_is_stretched():
    plan = stock_training("mask2former/mask2former_r50_8xb2-lsj-50e_coco", steps=36875, batch_size=16, clip_grad=1.0)
    assert plan.schedulers[0]["milestones"] == [32778, 35509]
    assert plan.clip_grad == {"max_norm": 1.0, "norm_type": 2}
    assert plan.optimizer["lr"] == pytest.approx(1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_internet_is_one_line(samples, tmp_path: Path, monkeypatch, name):
    from urllib.error import URLError

    import torch.hub

    def offline(url, *arguments, **options):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(MissingDependencyError, match=r"coco weights of \w+ cannot be fetched: no route to host"):
        small(name).fit(samples, None, FitContext(tmp_path, Schedule(iterations=1), "smoke", init="coco"))
